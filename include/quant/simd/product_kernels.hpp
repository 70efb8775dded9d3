// SPDX-License-Identifier: MIT
#pragma once
// Matrix times vector and times a few vectors: 8-bit and packed 4-bit weights, 8-bit activations. Layer 2 (simd).
//
// Four rows at a time share the activations' loads; the rows of a last, incomplete four are its last row again. Sums are exact in int32
// (modulo 2^32: the verbs check the range). With a scale per group of 32 the sum of a group is exact, and
//
//   y = ((L0 + L2) + (L1 + L3)) * activation_scale,   L[j] += fl(float(sum of group g) * scale[g])   for g = j, j + 4, j + 8 …
//
// every operation rounded to float: the same bytes on every architecture, and neither rows nor batch change them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/simd/dot.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/pack.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// One product: weights [rows, cols] of 8 bits, or 4-bit codes packed two to a byte, activations [batch, cols].
struct product_shape {
    std::size_t rows = 0, cols = 0, batch = 1;
    std::size_t row_stride = 0; ///< bytes from a row of weights to the next
    std::size_t x_stride = 0;   ///< from one row of activations to the next
    std::size_t y_stride = 0;   ///< from one row of results to the next
};

namespace detail {

/// How far before they are used weights are asked for into the second-level cache: the distance of two fours of rows, or 0 for a matrix
/// that lies there already. The four streams of a step are short, and a new one begins with every page.
inline std::size_t bytes_ahead(const product_shape& s) noexcept {
    return s.rows * s.row_stride > std::size_t{768} * 1024 ? 2 * dot_rows * s.row_stride : 0;
}

template <class Arch> using dot_unit_t = dot_unit<dot_units_of<Arch>()>;

/// Four rows of bytes times Batch rows of activations. n is a multiple of the unit's step, except that with `tails` the last step
/// lies wherever the row ends and takes its activations from there, with zeros for what the step before has counted.
template <class Unit, std::size_t Batch, bool Ahead>
QUANT_INLINE void byte_rows(const std::int8_t* const (&w)[dot_rows], const std::int8_t* x, std::size_t x_stride,
                            std::size_t n, [[maybe_unused]] std::size_t ahead, const std::int8_t* tails,
                            std::int32_t (&out)[dot_rows][Batch]) noexcept {
    typename Unit::ints total[dot_rows][Batch];
    for (auto& row : total)
        for (auto& t : row) t = Unit::zero();
    const auto step = [&](std::size_t at, const std::int8_t* from, std::size_t stride) QUANT_INLINE_LAMBDA {
        typename Unit::ints activations[Batch];
        n_times<Batch>([&](auto b) QUANT_INLINE_LAMBDA {
            if constexpr (Unit::step == 16 && Unit::group_parts == 2)
                activations[b] = Unit::weights(from + b * stride); // widened as well
            else
                activations[b] = in_register(Unit::load(from + b * stride));
        });
        four_times([&](auto r) QUANT_INLINE_LAMBDA {
            if constexpr (Ahead) prefetch_second_level(reinterpret_cast<const std::byte*>(w[r]) + at + ahead);
            const auto weights = Unit::weights(w[r] + at);
            n_times<Batch>(
                [&](auto b) QUANT_INLINE_LAMBDA { total[r][b] = Unit::bytes(total[r][b], weights, activations[b]); });
        });
    };
    const std::size_t whole = n / Unit::step * Unit::step;
    for (std::size_t i = 0; i < whole; i += Unit::step) step(i, x + i, x_stride);
    if (whole != n) step(n - Unit::step, tails, Unit::step);
    four_times([&](auto r) {
        for (std::size_t b = 0; b < Batch; ++b) out[r][b] = Unit::all(total[r][b]);
    });
}

/// Batch rows of activations times all rows of weights.
template <class Unit, std::size_t Batch>
inline void byte_columns(const std::int8_t* w, const std::int8_t* x, std::int32_t* y, const product_shape& s) noexcept {
    constexpr std::size_t step = Unit::step;
    const std::size_t rest = s.cols % step, ahead = bytes_ahead(s);
    alignas(64) std::int8_t tails[Batch * step] = {};
    std::int32_t offset[Batch] = {};
    for (std::size_t b = 0; b < Batch; ++b) {
        const std::int8_t* const own = x + b * s.x_stride;
        if (rest != 0) std::memcpy(tails + b * step + (s.cols < step ? 0 : step - rest), own + s.cols - rest, rest);
        if constexpr (Unit::byte_offset != 0)
            offset[b] = static_cast<std::int32_t>(Unit::byte_offset * sum_codes<typename Unit::arch>(own, s.cols));
    }
    for (std::size_t r = 0; r < s.rows; r += dot_rows) {
        const std::int8_t* rows[dot_rows];
        alignas(64) std::int8_t padded[dot_rows][step];
        for (std::size_t i = 0; i < dot_rows; ++i) {
            rows[i] = w + std::min(r + i, s.rows - 1) * s.row_stride;
            if (s.cols < step) {
                std::memset(padded[i], 0, step);
                if (s.cols != 0) std::memcpy(padded[i], rows[i], s.cols); // rows may be null then
                rows[i] = padded[i];
            }
        }
        std::int32_t sums[dot_rows][Batch];
        if (s.cols < step)
            byte_rows<Unit, Batch, false>(rows, tails, step, step, 0, nullptr, sums);
        else if (ahead != 0)
            byte_rows<Unit, Batch, true>(rows, x, s.x_stride, s.cols, ahead, tails, sums);
        else
            byte_rows<Unit, Batch, false>(rows, x, s.x_stride, s.cols, 0, tails, sums);
        for (std::size_t i = 0; i < dot_rows && r + i < s.rows; ++i)
            for (std::size_t b = 0; b < Batch; ++b)
                y[b * s.y_stride + r + i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i][b]) -
                                                                      static_cast<std::uint32_t>(offset[b]));
    }
}

/// The activations of a tile as 4-bit or 8-bit weights want them, with zeros up to four whole groups.
inline constexpr std::size_t dot_block = 4 * dot_group;
template <class Arch, bool Nibbles>
inline void prepare_tile(const std::int8_t* x, std::size_t n, dot_tile& tile) noexcept {
    tile.natural = x;
    if constexpr (has_dot_unit<Arch>) {
        using unit = dot_unit_t<Arch>;
        constexpr std::int32_t added = Nibbles ? unit::nibble_offset : unit::byte_offset;
        const auto groups_at = [&](const std::int8_t* own, std::size_t g) {
            std::int32_t sum = 0;
            for (std::size_t i = 0; i < dot_group; ++i) sum += own[i];
            for (std::size_t r = 0; r < dot_rows; ++r) tile.offset[g * dot_rows + r] = added * sum;
            if constexpr (Nibbles)
                for (std::size_t i = 0; i < dot_group / 2; ++i) {
                    tile.even[g * (dot_group / 2) + i] = own[2 * i];
                    tile.odd[g * (dot_group / 2) + i] = own[2 * i + 1];
                }
        };
        for (std::size_t g = 0; g < n / dot_block * 4; ++g) groups_at(x + g * dot_group, g);
        if (const std::size_t rest = n % dot_block; rest != 0) {
            std::memset(tile.tail, 0, sizeof(tile.tail));
            std::memcpy(tile.tail, x + n - rest, rest);
            for (std::size_t g = 0; g < 4; ++g) groups_at(tile.tail + g * dot_group, n / dot_block * 4 + g);
        }
    }
}

/// Bytes of so many codes.
template <bool Nibbles> QUANT_INLINE constexpr std::size_t code_bytes(std::size_t n) noexcept {
    return Nibbles ? n / 2 : n;
}
template <bool Nibbles>
QUANT_INLINE std::int32_t group_sum(const std::uint8_t* w, const std::int8_t* x, std::size_t n) noexcept {
    if constexpr (Nibbles)
        return dot_nibbles_generic(w, x, n);
    else
        return dot_generic(reinterpret_cast<const std::int8_t*>(w), x, n);
}

/// What follows the last whole block of four groups, with zeros behind it.
template <bool Nibbles> struct row_tails {
    alignas(64) std::uint8_t codes[dot_rows][code_bytes<Nibbles>(dot_block)] = {};
    const std::uint8_t* rows[dot_rows];
    row_tails(const std::uint8_t* const (&w)[dot_rows], std::size_t done, std::size_t n) noexcept {
        for (std::size_t r = 0; r < dot_rows; ++r) {
            std::memcpy(codes[r], w[r] + code_bytes<Nibbles>(done), code_bytes<Nibbles>(n - done));
            rows[r] = codes[r];
        }
    }
};

/// Four rows, columns of one tile: adds to lanes[4 * (group mod 4) + row]. scales [row] point at the tile's first group.
template <class Arch, bool Nibbles>
inline void group_rows(const std::uint8_t* const (&w)[dot_rows], const float* const (&scales)[dot_rows],
                       const dot_tile& tile, std::size_t n, [[maybe_unused]] std::size_t ahead, float* lanes) noexcept {
    if constexpr (has_dot_unit<Arch>) {
        using unit = dot_unit_t<Arch>;
        constexpr std::size_t parts = unit::group_parts, together = 4 / parts;
        using floats = decltype(unit::load_floats(lanes));
        floats total[parts];
        n_times<parts>([&](auto p) QUANT_INLINE_LAMBDA { total[p] = unit::load_floats(lanes + p * 4 * together); });
        // Four groups, from group `at` of `rows` and group g of the tile on.
        const auto block = [&](const std::uint8_t* const(&rows)[dot_rows], const floats(&scale)[parts],
                               const std::int8_t* x, std::size_t from, std::size_t g) QUANT_INLINE_LAMBDA {
            n_times<parts>([&](auto p) QUANT_INLINE_LAMBDA {
                const std::size_t at = from + p * together, in_tile = g + p * together;
                [[maybe_unused]] typename unit::ints even, odd;
                if constexpr (Nibbles) {
                    even = in_register(unit::load(tile.even + in_tile * (dot_group / 2)));
                    odd = in_register(unit::load(tile.odd + in_tile * (dot_group / 2)));
                }
                const auto row = [&](std::size_t r) QUANT_INLINE_LAMBDA {
                    if constexpr (Nibbles)
                        return unit::nibble_part(rows[r] + at * (dot_group / 2), even, odd);
                    else
                        return unit::byte_part(reinterpret_cast<const std::int8_t*>(rows[r]) + at * dot_group,
                                               x + p * together * dot_group);
                };
                auto sums = Nibbles ? unit::four_nibbles(row(0), row(1), row(2), row(3))
                                    : unit::four(row(0), row(1), row(2), row(3));
                if constexpr ((Nibbles ? unit::nibble_offset : unit::byte_offset) != 0)
                    sums = unit::less(sums, unit::load(tile.offset + in_tile * dot_rows));
                total[p] = unit::add(total[p], rounded(unit::multiply(unit::floats(sums), scale[p])));
            });
        };
        floats scale[parts];
        const std::size_t whole = n / dot_block * dot_block;
        for (std::size_t i = 0; i < whole; i += dot_block) {
            if (ahead != 0)
                n_times<dot_rows>([&](auto r) QUANT_INLINE_LAMBDA {
                    for (std::size_t line = 0; line < code_bytes<Nibbles>(dot_block); line += 64)
                        prefetch_second_level(w[r] + code_bytes<Nibbles>(i) + line + ahead);
                });
            unit::scales(scales, i / dot_group, scale);
            block(w, scale, tile.natural + i, i / dot_group, i / dot_group);
        }
        if (whole < n) {
            const row_tails<Nibbles> tails(w, whole, n);
            float padded[dot_rows][4] = {};
            const float* rows[dot_rows];
            for (std::size_t r = 0; r < dot_rows; ++r) {
                std::memcpy(padded[r], scales[r] + whole / dot_group,
                            (n - whole + dot_group - 1) / dot_group * sizeof(float));
                rows[r] = padded[r];
            }
            unit::scales(rows, 0, scale);
            block(tails.rows, scale, tile.tail, 0, whole / dot_group); // a group that is not there adds 0
        }
        n_times<parts>([&](auto p) QUANT_INLINE_LAMBDA { unit::put_floats(lanes + p * 4 * together, total[p]); });
    } else {
        for (std::size_t first = 0; first < n; first += dot_group) {
            const std::size_t g = first / dot_group, count = n - first < dot_group ? n - first : dot_group;
            for (std::size_t r = 0; r < dot_rows; ++r)
                lanes[4 * (g % 4) + r] +=
                    rounded_product(static_cast<float>(group_sum<Nibbles>(w[r] + code_bytes<Nibbles>(first),
                                                                          tile.natural + first, count)),
                                    scales[r][g]);
        }
    }
}

/// The same without scales: adds the sum of all columns of the tile to total[row].
template <class Arch>
inline void nibble_rows(const std::uint8_t* const (&w)[dot_rows], const dot_tile& tile, std::size_t n,
                        [[maybe_unused]] std::size_t ahead, std::int32_t (&total)[dot_rows]) noexcept {
    if constexpr (has_dot_unit<Arch>) {
        using unit = dot_unit_t<Arch>;
        constexpr std::size_t step = unit::nibble_bytes;
        typename unit::ints sums[dot_rows];
        for (auto& s : sums) s = unit::zero();
        const auto block = [&](const std::uint8_t* const(&rows)[dot_rows], std::size_t from,
                               std::size_t at) QUANT_INLINE_LAMBDA {
            n_times<dot_block / 2 / step>([&](auto k) QUANT_INLINE_LAMBDA {
                const auto even = in_register(unit::load(tile.even + at + k * step));
                const auto odd = in_register(unit::load(tile.odd + at + k * step));
                four_times([&](auto r) QUANT_INLINE_LAMBDA {
                    sums[r] = unit::sum(sums[r], unit::nibble_part(rows[r] + from + k * step, even, odd));
                });
            });
        };
        const std::size_t whole = n / dot_block * dot_block;
        for (std::size_t i = 0; i < whole; i += dot_block) {
            if (ahead != 0)
                four_times([&](auto r) QUANT_INLINE_LAMBDA { prefetch_second_level(w[r] + i / 2 + ahead); });
            block(w, i / 2, i / 2);
        }
        if (whole < n) {
            const row_tails<true> tails(w, whole, n);
            block(tails.rows, 0, whole / 2);
        }
        std::int32_t offset = 0;
        if constexpr (unit::nibble_offset != 0)
            for (std::size_t g = 0; g * dot_group < n; ++g) offset += tile.offset[g * dot_rows];
        four_times([&](auto r) { total[r] += unit::all(sums[r]) - offset; });
    } else {
        for (std::size_t r = 0; r < dot_rows; ++r) total[r] += dot_nibbles_generic(w[r], tile.natural, n);
    }
}

/// Runs f(rows of a block, first row, tile, first column, columns) over blocks of rows, batch and tiles of columns; begin(block) and
/// end(block, batch) around the tiles of one block and one row of activations.
inline constexpr std::size_t block_rows = 256;
template <class Arch, bool Nibbles, class Begin, class Tile, class End>
inline void in_tiles(const std::int8_t* x, const product_shape& s, Begin begin, Tile with_tile, End end) noexcept {
    dot_tile tile;
    const std::int8_t* held = nullptr; // whose tile it is
    for (std::size_t r = 0; r < s.rows; r += block_rows) {
        const std::size_t count = s.rows - r < block_rows ? s.rows - r : block_rows;
        for (std::size_t b = 0; b < s.batch; ++b) {
            begin(count);
            for (std::size_t c = 0; c < s.cols; c += dot_tile_cols) {
                const std::size_t n = s.cols - c < dot_tile_cols ? s.cols - c : dot_tile_cols;
                const std::int8_t* const own = x + b * s.x_stride + c;
                if (held != own) prepare_tile<Arch, Nibbles>(own, n, tile);
                held = own;
                with_tile(r, count, tile, c, n);
            }
            end(r, count, b);
        }
    }
}

} // namespace detail

/// y[b, r] = sum over the columns of w[r, c] * x[b, c]. Exact modulo 2^32.
template <class Arch = native>
inline void byte_product(const std::int8_t* w, const std::int8_t* x, std::int32_t* y, const product_shape& s) noexcept {
    if constexpr (has_dot_unit<Arch>) {
        if (s.rows == 0) return;
        using unit = detail::dot_unit_t<Arch>;
        std::size_t b = 0;
        for (; b + unit::batch <= s.batch; b += unit::batch)
            detail::byte_columns<unit, unit::batch>(w, x + b * s.x_stride, y + b * s.y_stride, s);
        if constexpr (unit::batch > 2)
            for (; b + 2 <= s.batch; b += 2)
                detail::byte_columns<unit, 2>(w, x + b * s.x_stride, y + b * s.y_stride, s);
        for (; b < s.batch; ++b) detail::byte_columns<unit, 1>(w, x + b * s.x_stride, y + b * s.y_stride, s);
    } else {
        for (std::size_t r = 0; r < s.rows; ++r)
            for (std::size_t b = 0; b < s.batch; ++b)
                y[b * s.y_stride + r] = dot_generic(w + r * s.row_stride, x + b * s.x_stride, s.cols);
    }
}

/// The same of packed signed 4-bit codes; cols is even.
template <class Arch = native>
inline void nibble_product(const std::uint8_t* w, const std::int8_t* x, std::int32_t* y,
                           const product_shape& s) noexcept {
    std::int32_t total[detail::block_rows / dot_rows][dot_rows];
    const std::size_t ahead = detail::bytes_ahead(s);
    detail::in_tiles<Arch, true>(
        x, s, [&](std::size_t) { std::memset(total, 0, sizeof(total)); },
        [&](std::size_t r, std::size_t count, const dot_tile& tile, std::size_t c, std::size_t n) {
            for (std::size_t i = 0; i < count; i += dot_rows) {
                const std::uint8_t* rows[dot_rows];
                for (std::size_t k = 0; k < dot_rows; ++k)
                    rows[k] = w + std::min(r + i + k, s.rows - 1) * s.row_stride + c / 2;
                detail::nibble_rows<Arch>(rows, tile, n, ahead, total[i / dot_rows]);
            }
        },
        [&](std::size_t r, std::size_t count, std::size_t b) {
            for (std::size_t i = 0; i < count; ++i) y[b * s.y_stride + r + i] = total[i / dot_rows][i % dot_rows];
        });
}

/// y[b, r] with a scale per group of 32 columns, scales [rows, ceil(cols / 32)]; the formula is at the top. Nibbles: packed signed 4-bit
/// codes, cols even; otherwise codes of 8 bits.
template <class Arch = native, bool Nibbles>
inline void group_product(const std::uint8_t* w, const float* scales, const std::int8_t* x, float x_scale, float* y,
                          const product_shape& s, std::bool_constant<Nibbles>) noexcept {
    const std::size_t groups = s.cols / dot_group + (s.cols % dot_group != 0 ? 1 : 0);
    float lanes[detail::block_rows / dot_rows][4 * dot_rows];
    const std::size_t ahead = detail::bytes_ahead(s);
    detail::in_tiles<Arch, Nibbles>(
        x, s, [&](std::size_t) { std::fill_n(&lanes[0][0], detail::block_rows * 4, 0.0f); },
        [&](std::size_t r, std::size_t count, const dot_tile& tile, std::size_t c, std::size_t n) {
            for (std::size_t i = 0; i < count; i += dot_rows) {
                const std::uint8_t* rows[dot_rows];
                const float* own[dot_rows];
                for (std::size_t k = 0; k < dot_rows; ++k) {
                    const std::size_t row = std::min(r + i + k, s.rows - 1);
                    rows[k] = w + row * s.row_stride + detail::code_bytes<Nibbles>(c);
                    own[k] = scales + row * groups + c / dot_group;
                }
                detail::group_rows<Arch, Nibbles>(rows, own, tile, n, ahead, lanes[i / dot_rows]);
            }
        },
        [&](std::size_t r, std::size_t count, std::size_t b) {
            for (std::size_t i = 0; i < count; ++i) {
                const float* const l = lanes[i / dot_rows] + i % dot_rows;
                y[b * s.y_stride + r + i] = ((l[0] + l[8]) + (l[4] + l[12])) * x_scale;
            }
        });
}

} // namespace simd
QUANT_END_TARGET
