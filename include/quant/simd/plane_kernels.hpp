// SPDX-License-Identifier: MIT
#pragma once
// Matrices in bit planes times a vector: of 8-bit activations by look-up, of activations in planes by counting. Layer 2 (simd).
//
// Both walk the tiles of core/bit_planes.hpp in the order of storage, so that the matrix is one stream; sums of rows are int32 (modulo
// 2^32, the verbs check the range) and stay in the caller's result between tiles. Time and bytes grow with the planes there are.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/core/bit_planes.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/plane_words.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {
namespace detail {

inline constexpr std::size_t planes_ahead = 16384; ///< bytes asked for into the second-level cache

/// Rows of one plane of a tile, `N` registers of them: adds weight * sum to the sums. `stride` words lie between columns.
template <std::size_t N, class Tables>
inline void look_up_rows(const std::uint16_t* words, std::size_t stride, const Tables* tables, std::size_t n,
                         std::int32_t weight, std::byte* sums) noexcept {
    while (n != 0) {
        const std::size_t part = n < look_up_words ? n : look_up_words;
        typename Tables::total total[N];
        n_times<N>([&](auto i) QUANT_INLINE_LAMBDA { total[i].clear(); });
        for (std::size_t k = 0; k < part; ++k, words += stride, ++tables)
            n_times<N>([&](auto i) QUANT_INLINE_LAMBDA {
                prefetch_second_level(reinterpret_cast<const std::byte*>(words + i * Tables::rows) + planes_ahead);
                tables->add(total[i], words + i * Tables::rows);
            });
        n_times<N>([&](auto i) QUANT_INLINE_LAMBDA { total[i].put(sums + i * 4 * Tables::rows, weight); });
        n -= part;
    }
}

/// The same for counts; `n` words of at most one tile.
template <std::size_t N, class Counts>
inline void count_rows(const std::uint16_t* words, std::size_t stride, const std::uint16_t* x, std::size_t n,
                       std::int32_t weight, std::byte* sums) noexcept {
    typename Counts::total total[N];
    n_times<N>([&](auto i) QUANT_INLINE_LAMBDA { total[i].clear(); });
    for (std::size_t k = 0; k < n; ++k, words += stride)
        n_times<N>([&](auto i) QUANT_INLINE_LAMBDA { total[i].add(words + i * Counts::rows, x[k]); });
    n_times<N>([&](auto i) QUANT_INLINE_LAMBDA { total[i].put(sums + i * 4 * Counts::rows, weight); });
}

/// Calls f(first row, registers as a constant) for as many rows as whole registers hold, and returns how many that was.
template <std::size_t Rows, class F> QUANT_INLINE std::size_t in_registers(std::size_t rows, F f) noexcept {
    std::size_t done = 0;
    if constexpr (Rows != 0) {
        for (; rows - done >= 8 * Rows; done += 8 * Rows) f(done, std::integral_constant<std::size_t, 8>{});
        for (; rows - done >= Rows; done += Rows) f(done, std::integral_constant<std::size_t, 1>{});
    }
    return done;
}

/// Bits that n words have in common, four at a time.
inline std::int32_t count_common(const std::uint16_t* a, const std::uint16_t* b, std::size_t n) noexcept {
    std::int32_t count = 0;
    for (std::size_t i = 0; i < n; i += 4) {
        std::uint64_t left = 0, right = 0;
        const std::size_t bytes = 2 * (n - i < 4 ? n - i : 4);
        std::memcpy(&left, a + i, bytes);
        std::memcpy(&right, b + i, bytes);
        count += std::popcount(left & right);
    }
    return count;
}

} // namespace detail

/// sums[r] = Σ value(r, c) * x[c], int32 written to memory of any type. Exact modulo 2^32.
template <class Arch = native>
inline void look_up_product(const bit_plane_view<const std::uint16_t>& w, const std::int8_t* x,
                            std::byte* sums) noexcept {
    using tables = word_tables<Arch>;
    tables table[plane_tile_words];
    if (w.rows() != 0) std::memset(sums, 0, 4 * w.rows());
    for_each_tile(w, [&](std::size_t word, std::size_t row) {
        const std::size_t rows = w.tile_rows(row), words = w.tile_words(word);
        if (row == 0) {
            for (std::size_t k = 0; k < words; ++k) {
                const std::size_t first = (word + k) * plane_word_columns, left = w.cols() - first;
                if (left >= plane_word_columns) {
                    table[k].make(x + first);
                } else {
                    std::int8_t padded[plane_word_columns] = {};
                    std::memcpy(padded, x + first, left);
                    table[k].make(padded);
                }
            }
        }
        for (std::size_t p = 0; p < w.planes().size(); ++p) {
            const std::uint16_t* const from = w.tile(word, row, p);
            const std::int32_t weight = w.planes()[p].weight();
            const std::size_t done = detail::in_registers<tables::rows>(rows, [&](std::size_t r, auto n) {
                if constexpr (tables::rows != 0)
                    detail::look_up_rows<decltype(n)::value>(from + r, rows, table, words, weight,
                                                             sums + 4 * (row + r));
            });
            for (std::size_t r = done; r < rows; ++r) {
                std::int32_t sum = 0;
                for (std::size_t k = 0; k < words; ++k) sum += table[k].sum(from[k * rows + r]);
                add_to_sum(sums, row + r, sum * weight);
            }
        }
    });
}

/// The same for activations in planes: x is one row of as many columns.
template <class Arch = native>
inline void count_product(const bit_plane_view<const std::uint16_t>& w, const bit_plane_view<const std::uint16_t>& x,
                          std::byte* sums) noexcept {
    using counts = word_counts<Arch>;
    if (w.rows() != 0) std::memset(sums, 0, 4 * w.rows());
    for_each_tile(w, [&](std::size_t word, std::size_t row) {
        const std::size_t rows = w.tile_rows(row), words = w.tile_words(word);
        for (std::size_t p = 0; p < w.planes().size(); ++p) {
            const std::uint16_t* const from = w.tile(word, row, p);
            for (std::size_t a = 0; a < x.planes().size(); ++a) {
                const std::uint16_t* const own = x.tile(word, 0, a);
                const std::int32_t weight = w.planes()[p].weight() * x.planes()[a].weight();
                if (rows == 1) {
                    add_to_sum(sums, row, detail::count_common(from, own, words) * weight);
                    continue;
                }
                const std::size_t done = detail::in_registers<counts::rows>(rows, [&](std::size_t r, auto n) {
                    if constexpr (counts::rows != 0)
                        detail::count_rows<decltype(n)::value, counts>(from + r, rows, own, words, weight,
                                                                       sums + 4 * (row + r));
                });
                for (std::size_t r = done; r < rows; ++r) {
                    std::int32_t count = 0;
                    for (std::size_t k = 0; k < words; ++k)
                        count += std::popcount(static_cast<unsigned>(from[k * rows + r] & own[k]));
                    add_to_sum(sums, row + r, count * weight);
                }
            }
        }
    });
}

} // namespace simd
QUANT_END_TARGET
