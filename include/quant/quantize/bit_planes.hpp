// SPDX-License-Identifier: MIT
#pragma once
// Codes to bit planes and back, the cheaper of two encodings, dropping what is empty and what matters least. Layer 4 (quantize).
//
//   quant::bit_plane_view<std::uint16_t> w{words, rows, cols, 4};
//   if (auto s = quant::pack_bit_planes(codes, w, quant::int4); !s) return s;
//   quant::drop_empty_planes(w);                                          // the words of the rest move to the front
//
//   const auto kept = quant::prune_planes(codes, params, quant::per_axis(0), {.max_planes = 3});   // changes the codes
//
// All of it is exact in integers. Codes are std::int8_t or std::uint8_t; a matrix is a view of rank 2, a view of rank 1 is one row.

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/bit_planes.hpp>
#include <quant/core/code_format.hpp>
#include <quant/core/convert.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/params.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/batch.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET

/// What bit planes are made of.
template <class T>
concept plane_code = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t>;

namespace detail {

/// Which bits occur: in codes as they are, in those that differ from the sign, in positive ones, in magnitudes of negative ones.
struct used_bits {
    unsigned raw = 0, below_sign = 0, positive = 0, negative = 0;
};
template <plane_code Code> inline used_bits bits_of(const tensor_view<const Code, 2>& codes) noexcept {
    used_bits used;
    for (std::size_t r = 0; r < codes.extent(0); ++r) {
        const Code* row = codes.data() + r * codes.stride(0);
        for (std::size_t c = 0; c < codes.extent(1); ++c) {
            const int code{row[c * codes.stride(1)]};
            used.raw |= static_cast<std::uint8_t>(code);
            used.below_sign |= static_cast<unsigned>(code < 0 ? ~code : code);
            used.positive |= static_cast<unsigned>(code > 0 ? code : 0);
            used.negative |= static_cast<unsigned>(code < 0 ? -code : 0);
        }
    }
    return used;
}

/// Eight bytes, the first lowest; one bit of each, side by side.
QUANT_INLINE unsigned gather_bits(std::uint64_t bytes, unsigned bit) noexcept {
    constexpr std::uint64_t ones = 0x0101010101010101u;
    return static_cast<unsigned>((((bytes >> bit) & ones) * 0x0102040810204080u) >> 56);
}

/// The bytes whose bits go into the positive (or only) and into the negative planes.
template <plane_code Code>
QUANT_INLINE std::uint8_t plane_source(Code code, plane_encoding encoding, bool negative) noexcept {
    if (encoding == plane_encoding::twos_complement) return static_cast<std::uint8_t>(code);
    const int value = negative ? -int{code} : int{code};
    return static_cast<std::uint8_t>(value > 0 ? value : 0);
}

template <plane_code Code>
inline void pack_planes(const tensor_view<const Code, 2>& codes, bit_plane_view<std::uint16_t>& to) noexcept {
    const plane_set& set = to.planes();
    for_each_tile(to, [&](std::size_t word, std::size_t row) {
        const std::size_t rows = to.tile_rows(row), words = to.tile_words(word), plane = rows * words;
        std::uint16_t* const tile = to.tile(word, row, 0);
        for (std::size_t k = 0; k < words; ++k) {
            const std::size_t first = (word + k) * plane_word_columns, left = codes.extent(1) - first;
            const std::size_t n = left < plane_word_columns ? left : plane_word_columns;
            for (std::size_t r = 0; r < rows; ++r) {
                const Code* from = codes.data() + (row + r) * codes.stride(0) + first * codes.stride(1);
                std::uint64_t bytes[2][2] = {}; // [negative][half of the word]
                for (std::size_t c = 0; c < n; ++c) {
                    const Code code = from[c * codes.stride(1)];
                    for (std::size_t s = 0; s < (set.encoding == plane_encoding::dual ? 2u : 1u); ++s)
                        bytes[s][c / 8] |= std::uint64_t{plane_source(code, set.encoding, s != 0)} << (c % 8 * 8);
                }
                if (set.encoding == plane_encoding::twos_complement)
                    bytes[1][0] = bytes[0][0], bytes[1][1] = bytes[0][1];
                for (std::size_t p = 0; p < set.size(); ++p) {
                    const std::uint64_t* own = bytes[set[p].is_negative ? 1 : 0];
                    const unsigned bits = gather_bits(own[0], set[p].exponent) | gather_bits(own[1], set[p].exponent)
                                                                                     << 8;
                    tile[p * plane + k * rows + r] = static_cast<std::uint16_t>(bits);
                }
            }
        }
    });
}

template <plane_code Code>
inline void unpack_planes(const bit_plane_view<const std::uint16_t>& from, const tensor_view<Code, 2>& codes) noexcept {
    const plane_set& set = from.planes();
    for_each_tile(from, [&](std::size_t word, std::size_t row) {
        const std::size_t rows = from.tile_rows(row), words = from.tile_words(word), plane = rows * words;
        const std::uint16_t* const tile = from.tile(word, row, 0);
        for (std::size_t k = 0; k < words; ++k) {
            const std::size_t first = (word + k) * plane_word_columns, left = codes.extent(1) - first;
            const std::size_t n = left < plane_word_columns ? left : plane_word_columns;
            for (std::size_t r = 0; r < rows; ++r) {
                Code* to = codes.data() + (row + r) * codes.stride(0) + first * codes.stride(1);
                for (std::size_t c = 0; c < n; ++c) {
                    std::int32_t code = 0;
                    for (std::size_t p = 0; p < set.size(); ++p)
                        code += (tile[p * plane + k * rows + r] >> c & 1) * set[p].weight();
                    to[c * codes.stride(1)] = static_cast<Code>(code);
                }
            }
        }
    });
}

/// Moves the planes whose bit in `keep` is set to the front.
inline void keep_planes(bit_plane_view<std::uint16_t>& w, unsigned keep) noexcept {
    const plane_set old = w.planes();
    plane_set set{old.encoding, 0, {}};
    for (std::size_t p = 0; p < old.size(); ++p)
        if (keep >> p & 1) set.add(old[p]);
    std::uint16_t* to = w.words().data(); // never after what is still to be read
    for_each_tile(w, [&](std::size_t word, std::size_t row) {
        const std::size_t n = w.tile_rows(row) * w.tile_words(word);
        for (std::size_t p = 0; p < old.size(); ++p) {
            if ((keep >> p & 1) == 0) continue;
            const std::uint16_t* const from = w.tile(word, row, p);
            for (std::size_t i = 0; i < n; ++i) to[i] = from[i];
            to += n;
        }
    });
    w.set_planes(set);
}

} // namespace detail

/// The planes that the codes of a format may need: all its bits, the top one of signed codes negative.
[[nodiscard]] constexpr plane_set planes_of(code_format format) noexcept {
    plane_set set;
    for (unsigned e = 0; e < format.bits && e < 8; ++e)
        set.add({static_cast<std::uint8_t>(e), format.is_signed && e + 1 == format.bits});
    return set;
}

/// The planes these codes need, in the cheaper encoding; two's complement when both cost the same.
///   two's complement: the bits of the smallest width that holds every code, without the planes in which no bit is set;
///   dual: the bits that occur in positive codes, and those that occur in the magnitudes of negative ones.
/// Codes that use magnitude bits lo … hi without a gap need at most hi - lo + 2 planes; all zeros need none.
template <class Codes> [[nodiscard]] inline plane_set choose_planes(Codes&& codes) noexcept {
    const auto v = v0_1::view(codes);
    using code = typename decltype(v)::value_type;
    static_assert(plane_code<code>, "quant::choose_planes: codes are std::int8_t or std::uint8_t");
    const tensor_view<const code, decltype(v)::rank> source(v.data(), v.extents(), v.strides());
    const detail::used_bits used = detail::bits_of<code>(core_detail::as_matrix(source));
    plane_set dual{plane_encoding::dual, 0, {}};
    for (unsigned e = 0; e < 8; ++e) {
        if (used.positive >> e & 1) dual.add({static_cast<std::uint8_t>(e), false});
        if (used.negative >> e & 1) dual.add({static_cast<std::uint8_t>(e), true});
    }
    plane_set twos;
    if (used.negative == 0) {
        for (unsigned e = 0; e < 8; ++e)
            if (used.positive >> e & 1) twos.add({static_cast<std::uint8_t>(e), false});
    } else {
        const auto sign = core_detail::convert<unsigned>(
            std::bit_width(used.below_sign)); // from here up all bits of a code are equal
        for (unsigned e = 0; e < sign; ++e)
            if (used.raw >> e & 1) twos.add({static_cast<std::uint8_t>(e), false});
        twos.add({static_cast<std::uint8_t>(sign), true});
    }
    return dual.size() < twos.size() ? dual : twos;
}

/// Codes [rows, cols] to the planes of `set`. words: at least bit_plane_words(rows, cols, set.size()); others are not touched.
/// Bits that have no plane in `set` are lost. Errors: shape_mismatch, bits_out_of_range, buffer_too_small.
/// Exactness: exact. Complexity: one pass, no allocation.
template <class Codes>
[[nodiscard]] inline status pack_bit_planes(Codes&& codes, bit_plane_view<std::uint16_t>& to,
                                            const plane_set& set) noexcept {
    const auto v = v0_1::view(codes);
    using code = typename decltype(v)::value_type;
    static_assert(plane_code<code>, "quant::pack_bit_planes: codes are std::int8_t or std::uint8_t");
    const tensor_view<const code, decltype(v)::rank> source(v.data(), v.extents(), v.strides());
    const auto matrix = core_detail::as_matrix(source);
    if (matrix.extent(0) != to.rows() || matrix.extent(1) != to.cols()) return {errc::shape_mismatch, "codes"};
    if (set.size() > to.room()) return {errc::bits_out_of_range, "planes"};
    bit_plane_view<std::uint16_t> own = to;
    own.set_planes(set);
    if (const status s = validate(own); !s) return s;
    to = own;
    detail::pack_planes(matrix, to);
    return {};
}
/// The same with all planes of a format, for codes of that format.
template <class Codes>
[[nodiscard]] inline status pack_bit_planes(Codes&& codes, bit_plane_view<std::uint16_t>& to,
                                            code_format format) noexcept {
    if (const status s = validate(format); !s) return s;
    if (format.bits > 8) return {errc::bits_out_of_range, "format.bits"};
    return pack_bit_planes(codes, to, planes_of(format));
}

/// Planes back to codes [rows, cols]. Errors: shape_mismatch, storage_too_narrow when the planes can make a code that the
/// element type cannot hold, and those of validate. Exactness: exact.
template <class Word, class Codes>
[[nodiscard]] inline status unpack_bit_planes(const bit_plane_view<Word>& from, Codes&& codes) noexcept {
    const auto v = v0_1::view(codes);
    using code = typename decltype(v)::element_type;
    static_assert(plane_code<code>, "quant::unpack_bit_planes: codes are std::int8_t or std::uint8_t");
    const auto matrix = core_detail::as_matrix(v);
    if (const status s = validate(from); !s) return s;
    if (matrix.extent(0) != from.rows() || matrix.extent(1) != from.cols()) return {errc::shape_mismatch, "codes"};
    if (from.planes().encoding == plane_encoding::twos_complement &&
        (from.planes().lowest() < std::numeric_limits<code>::min() ||
         from.planes().highest() > std::numeric_limits<code>::max()))
        return {errc::storage_too_narrow, "codes"};
    if (std::is_unsigned_v<code> && from.planes().lowest() < 0) return {errc::storage_too_narrow, "codes"};
    detail::unpack_planes<code>(from, matrix);
    return {};
}

/// Drops the planes in which no bit is set; returns how many. The words of the others move to the front, products are the same.
/// Precondition: the view is valid.
inline std::size_t drop_empty_planes(bit_plane_view<std::uint16_t>& w) noexcept {
    QUANT_EXPECTS(static_cast<bool>(validate(w)), "drop_empty_planes: a valid view");
    unsigned keep = 0;
    for (std::size_t p = 0; p < w.planes().size(); ++p) {
        std::uint16_t any = 0;
        for_each_tile(w, [&](std::size_t word, std::size_t row) {
            const std::uint16_t* const from = w.tile(word, row, p);
            const std::size_t n = w.tile_rows(row) * w.tile_words(word);
            for (std::size_t i = 0; i < n; ++i) any = static_cast<std::uint16_t>(any | from[i]);
        });
        keep |= static_cast<unsigned>(any != 0) << p;
    }
    const std::size_t before = w.planes().size();
    detail::keep_planes(w, keep);
    return before - w.planes().size();
}

// ---- pruning --------------------------------------------------------------------------------------------------------------

/// How many magnitude planes may stay, and which must.
struct prune_options {
    std::size_t max_planes = 8; ///< 0 to 8
    /// The planes that stay stand within max_planes exponents side by side: then they cost one plane more to store (the sign),
    /// where planes with gaps cost up to twice their number.
    bool adjacent = false;
};
/// What pruning did.
struct pruned_planes {
    std::uint8_t plane_mask = 0; ///< bit e: the magnitude plane 2^e is kept
    double squared_error = 0;    ///< sum over all elements of (change of the code * its scale)^2
};

namespace detail {

/// The value up to `most` that is nearest to `magnitude` and whose bits are among `mask`; the smaller one of two as near.
[[nodiscard]] constexpr unsigned nearest_within(unsigned magnitude, unsigned mask, unsigned most) noexcept {
    unsigned best = 0;
    for (unsigned v = mask; v != 0; v = (v - 1) & mask) { // every subset but the empty one, from the largest down
        if (v > most) continue;
        const unsigned off = v < magnitude ? magnitude - v : v - magnitude;
        const unsigned least = best < magnitude ? magnitude - best : best - magnitude;
        if (off < least || (off == least && v < best)) best = v;
    }
    return best;
}

/// Where a magnitude stands in the tables of pruning, which have a part for every largest magnitude m that a slice may hold: 2^k -
/// 1 above zero, 2^k or (narrow formats) 2^k - 1 below. Nothing moves up to a code that its format does not have.
inline constexpr unsigned pruning_entries = 3 * 512;
[[nodiscard]] constexpr unsigned pruning_part(unsigned kind, unsigned k) noexcept { return kind * 512 + (1u << k); }
template <class F> inline void for_each_pruning_entry(F f) noexcept {
    for (unsigned kind = 0; kind < 3; ++kind)
        for (unsigned k = 0; k <= 8 - (kind != 0 ? 1u : 0u); ++k) {
            const unsigned most = kind == 1 ? 1u << k : (1u << k) - 1;
            // A negative code is not 0: the last of a part of full range stands where the next one has its 0.
            for (unsigned m = kind == 0 ? 0 : 1; m <= most; ++m) f(pruning_part(kind, k) + m, m, most);
        }
}
template <class Code> struct pruning_slice {
    static constexpr unsigned widest = std::is_signed_v<Code> ? 7 : 8;
    unsigned most_up, most_down, up, down;
    explicit pruning_slice(code_format format) noexcept {
        const auto high = static_cast<unsigned>(format.qmax()), low = static_cast<unsigned>(-format.qmin());
        const auto k = core_detail::convert<unsigned>(std::bit_width(high));
        up = pruning_part(0, k < widest ? k : widest);
        most_up = high;
        const bool narrow = low < 128 && !std::has_single_bit(low);
        most_down = low < 128 ? low : 128;
        down = narrow ? pruning_part(2, core_detail::convert<unsigned>(std::bit_width(low)))
                      : pruning_part(1, core_detail::convert<unsigned>(std::bit_width(most_down)) - 1);
    }
    /// Codes beyond their format, which nothing else here forbids, are taken for those of the element type.
    [[nodiscard]] unsigned entry(int q) const noexcept {
        const auto m = static_cast<unsigned>(q < 0 ? -q : q);
        if (q < 0) return (m <= most_down ? down : pruning_part(1, 7)) + m;
        return (m <= most_up ? up : pruning_part(0, widest)) + m;
    }
};

/// Calls f(codes, n, stride, slice) for stretches of codes that share a set of parameters.
template <class Code, std::size_t Rank, class F>
inline void for_each_slice(const tensor_view<Code, Rank>& v, const slice_map<Rank>& map, F f) noexcept {
    if (v.empty()) return;
    constexpr std::size_t last = Rank - 1;
    const std::size_t n = v.extent(last);
    const std::size_t step = map.stride[last] == 0 ? n : map.axis == last ? map.group_size : 1;
    std::array<std::size_t, Rank> at{};
    for (;;) {
        std::size_t offset = 0;
        for (std::size_t d = 0; d < last; ++d) offset += at[d] * v.stride(d);
        for (at[last] = 0; at[last] < n; at[last] += step) {
            const std::size_t count = n - at[last] < step ? n - at[last] : step;
            f(v.data() + offset + at[last] * v.stride(last), count, v.stride(last), map.slice_of(at));
        }
        at[last] = 0;
        std::size_t d = last;
        for (; d > 0; --d) {
            if (++at[d - 1] < v.extent(d - 1)) break;
            at[d - 1] = 0;
        }
        if (d == 0) return;
    }
}

} // namespace detail

/// Keeps the magnitude planes, max_planes of them at most, that cost the least error, and moves every code to the nearest value
/// they can make that its format has; sign and zero stay. The error is sum (scale * change)^2 over all elements, each with the
/// scale of its slice; every choice of planes is tried (of adjacent ones: every window), of equally good ones the largest mask
/// wins. Codes that fit already do not change.
/// codes  any extents and strides, changed in place     params  one per slice, zero points 0
/// Errors: shape_mismatch, axis_out_of_range, invalid_group_size, invalid_zero_point, invalid_argument (max_planes above 8).
/// Exactness: the codes are exact for the chosen planes; the errors that are compared are sums in double, in a fixed order.
template <class Codes>
[[nodiscard]] inline result<pruned_planes> prune_planes(Codes&& codes, std::span<const affine_params> params,
                                                        granularity g, const prune_options& options) noexcept {
    const auto v = v0_1::view(codes);
    using code = typename decltype(v)::element_type;
    static_assert(plane_code<code>, "quant::prune_planes: codes are std::int8_t or std::uint8_t");
    const auto map = resolve(g, v.extents());
    if (!map) return map.status();
    if (params.size() != map->count) return status{errc::shape_mismatch, "params"};
    for (const affine_params& p : params)
        if (p.zero_point != 0) return status{errc::invalid_zero_point, "params"};
    if (options.max_planes > 8) return status{errc::invalid_argument, "max_planes"};
    // What a change of each code weighs, and which bits occur in magnitudes.
    std::array<double, detail::pruning_entries> weight{};
    unsigned used = 0;
    detail::for_each_slice(v, *map, [&](code* c, std::size_t n, std::size_t stride, std::size_t slice) {
        const double scale = static_cast<double>(params[slice].scale), square = simd::rounded(scale * scale);
        const detail::pruning_slice<code> own(params[slice].format);
        for (std::size_t i = 0; i < n; ++i) {
            const int q{c[i * stride]};
            used |= static_cast<unsigned>(q < 0 ? -q : q);
            weight[own.entry(q)] += square;
        }
    });
    const auto live = static_cast<std::size_t>(std::popcount(used));
    pruned_planes best{static_cast<std::uint8_t>(used), 0};
    const unsigned all = (1u << options.max_planes) - 1;
    const auto fits = [&](unsigned mask) { // in the window that begins at its lowest plane
        return mask == 0 || (mask & ~(all << std::countr_zero(mask))) == 0;
    };
    if (options.adjacent ? fits(used) : live <= options.max_planes) return best;
    bool found = false;
    const auto consider = [&](unsigned mask) {
        double error = 0;
        detail::for_each_pruning_entry([&](unsigned i, unsigned m, unsigned most) {
            if (weight[i] == 0) return;
            const auto off = static_cast<double>(m) - static_cast<double>(detail::nearest_within(m, mask, most));
            error += simd::rounded(weight[i] * (off * off));
        });
        if (!found || error < best.squared_error) best = {static_cast<std::uint8_t>(mask), error};
        found = true;
    };
    if (options.adjacent) {
        for (unsigned lowest = 8; lowest-- > 0;) consider(used & (all << lowest));
    } else {
        for (unsigned mask = used;; mask = (mask - 1) & used) {
            if (static_cast<std::size_t>(std::popcount(mask)) == options.max_planes) consider(mask);
            if (mask == 0) break;
        }
    }
    std::array<std::uint8_t, detail::pruning_entries> nearest{};
    detail::for_each_pruning_entry([&](unsigned i, unsigned m, unsigned most) {
        nearest[i] = static_cast<std::uint8_t>(detail::nearest_within(m, best.plane_mask, most));
    });
    detail::for_each_slice(v, *map, [&](code* c, std::size_t n, std::size_t stride, std::size_t slice) {
        const detail::pruning_slice<code> own(params[slice].format);
        for (std::size_t i = 0; i < n; ++i) {
            const int q{c[i * stride]}, to{nearest[own.entry(q)]};
            c[i * stride] = static_cast<code>(q < 0 ? -to : to);
        }
    });
    return best;
}

QUANT_END_TARGET
