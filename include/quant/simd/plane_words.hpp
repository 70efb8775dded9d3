// SPDX-License-Identifier: MIT
#pragma once
// Words of bit planes against activations: look-up of sums of 16 columns, and counts of common bits. What plane_kernels.hpp is made
// of; the format is that of core/bit_planes.hpp. Layer 2 (simd).
//
// Look-up: for every word of 16 columns the sums of every subset of a few columns stand in tables, made once from the activations; a
// plane's bits are the index. AVX-512 looks up 6, 5 and 5 columns as 16 bits, 32 rows at a time; AVX2 four columns as two bytes. Sums of 15
// words fit 16 bits (15 * 16 * 128 = 30720); then they go to int32, times the weight of the plane. The generic twin uses AVX-512's tables.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/core/bit_planes.hpp>
#include <quant/simd/arch.hpp>
#include <quant/simd/memory.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// Words whose looked-up sums fit 16 bits.
inline constexpr std::size_t look_up_words = 15;

/// The running sum of row i: int32 in memory of any type.
QUANT_INLINE void add_to_sum(std::byte* sums, std::size_t i, std::int32_t more) noexcept {
    std::uint32_t sum;
    std::memcpy(&sum, sums + 4 * i, 4);
    sum += static_cast<std::uint32_t>(more);
    std::memcpy(sums + 4 * i, &sum, 4);
}

/// Tables of 16 columns, and one row at a time. Plain C++.
struct word_tables_generic {
    static constexpr std::size_t rows = 0; ///< no registers
    alignas(64) std::int16_t sums[128];    ///< of 6 columns (64 subsets), 5 (32) and 5 (32)

    void make(const std::int8_t* x) noexcept {
        const auto subsets = [](std::int16_t* to, const std::int8_t* from, std::size_t columns) {
            to[0] = 0;
            for (std::size_t c = 0; c < columns; ++c)
                for (std::size_t i = 0; i < std::size_t{1} << c; ++i)
                    to[(std::size_t{1} << c) + i] = static_cast<std::int16_t>(to[i] + from[c]);
        };
        subsets(sums, x, 6);
        subsets(sums + 64, x + 6, 5);
        subsets(sums + 96, x + 11, 5);
    }
    /// The sum of the columns whose bit is set.
    [[nodiscard]] QUANT_INLINE std::int32_t sum(std::uint16_t word) const noexcept {
        return sums[word & 63] + sums[64 + (word >> 6 & 31)] + sums[96 + (word >> 11)];
    }
};

/// Bits that two words have in common, one row at a time. Plain C++.
struct word_counts_generic {
    static constexpr std::size_t rows = 0;
};

namespace detail {

#if QUANT_HAS_XSIMD && defined(__AVX2__)

/// sums[16 rows] += value * weight.
QUANT_INLINE void add_wide(std::byte* sums, __m256i value, __m256i weight) noexcept {
    auto* const at = reinterpret_cast<__m256i*>(sums);
    const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(value));
    const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(value, 1));
    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_mullo_epi32(low, weight)));
    _mm256_storeu_si256(at + 1, _mm256_add_epi32(_mm256_loadu_si256(at + 1), _mm256_mullo_epi32(high, weight)));
}

struct word_tables_avx2 {
    static constexpr std::size_t rows = 32;
    alignas(64) std::uint8_t bytes[4][2][16]; ///< four columns; the low and the high byte of each sum

    void make(const std::int8_t* x) noexcept {
        for (std::size_t t = 0; t < 4; ++t) {
            std::int16_t sums[16];
            sums[0] = 0;
            for (std::size_t c = 0; c < 4; ++c)
                for (std::size_t i = 0; i < std::size_t{1} << c; ++i)
                    sums[(std::size_t{1} << c) + i] = static_cast<std::int16_t>(sums[i] + x[4 * t + c]);
            for (std::size_t i = 0; i < 16; ++i) {
                bytes[t][0][i] = static_cast<std::uint8_t>(sums[i] & 255);
                bytes[t][1][i] = static_cast<std::uint8_t>(sums[i] >> 8 & 255);
            }
        }
    }
    [[nodiscard]] QUANT_INLINE std::int32_t sum(std::uint16_t word) const noexcept {
        std::int32_t all = 0;
        for (std::size_t t = 0; t < 4; ++t, word = static_cast<std::uint16_t>(word >> 4))
            all += static_cast<std::int16_t>(bytes[t][0][word & 15] | bytes[t][1][word & 15] << 8);
        return all;
    }
    struct total {
        __m256i low, high; ///< 16 rows each
        QUANT_INLINE void clear() noexcept { low = high = _mm256_setzero_si256(); }
        QUANT_INLINE void put(std::byte* sums, std::int32_t weight) const noexcept {
            add_wide(sums, low, _mm256_set1_epi32(weight));
            add_wide(sums + 64, high, _mm256_set1_epi32(weight));
        }
    };
    QUANT_INLINE void add(total& to, const std::uint16_t* words) const noexcept {
        const __m256i byte = _mm256_set1_epi16(255), four = _mm256_set1_epi8(15);
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
        const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + 16));
        // Columns 0 … 7 of all rows, then 8 … 15; unpacking the sums puts the rows where they were.
        const __m256i even = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
        const __m256i odd = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
        const auto look = [&](std::size_t t, __m256i index) {
            const auto table = [&](std::size_t k) {
                return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes[t][k])));
            };
            index = _mm256_and_si256(index, four);
            const __m256i low = _mm256_shuffle_epi8(table(0), index), high = _mm256_shuffle_epi8(table(1), index);
            to.low = _mm256_add_epi16(to.low, _mm256_unpacklo_epi8(low, high));
            to.high = _mm256_add_epi16(to.high, _mm256_unpackhi_epi8(low, high));
        };
        look(0, even);
        look(1, _mm256_srli_epi16(even, 4));
        look(2, odd);
        look(3, _mm256_srli_epi16(odd, 4));
    }
};

struct word_counts_avx2 {
    static constexpr std::size_t rows = 16;
    struct total {
        __m256i counts;
        QUANT_INLINE void clear() noexcept { counts = _mm256_setzero_si256(); }
        QUANT_INLINE void put(std::byte* sums, std::int32_t weight) const noexcept {
            add_wide(sums, counts, _mm256_set1_epi32(weight));
        }
        QUANT_INLINE void add(const std::uint16_t* words, std::uint16_t x) noexcept {
            const __m256i four = _mm256_set1_epi8(15);
            const __m256i bits = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2,
                                                  3, 1, 2, 2, 3, 2, 3, 3, 4);
            const __m256i common = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)),
                                                    _mm256_set1_epi16(static_cast<std::int16_t>(x)));
            const __m256i low = _mm256_shuffle_epi8(bits, _mm256_and_si256(common, four));
            const __m256i high = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16(common, 4), four));
            counts = _mm256_add_epi16(counts, _mm256_maddubs_epi16(_mm256_add_epi8(low, high), _mm256_set1_epi8(1)));
        }
    };
};
#endif

#if QUANT_HAS_XSIMD && defined(__AVX512BW__)

// Where an intrinsic has a form with a mask of ones, that one: the other reads an undefined register, of which g++ 12 warns.
/// sums[32 rows] += value * weight.
QUANT_INLINE void add_wide(std::byte* sums, __m512i value, __m512i weight) noexcept {
    const __m512i low = _mm512_maskz_cvtepi16_epi32(0xFFFF, _mm512_castsi512_si256(value));
    const __m512i high = _mm512_maskz_cvtepi16_epi32(0xFFFF, _mm512_maskz_extracti64x4_epi64(0xF, value, 1));
    _mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums), _mm512_mullo_epi32(low, weight)));
    _mm512_storeu_si512(sums + 64, _mm512_add_epi32(_mm512_loadu_si512(sums + 64), _mm512_mullo_epi32(high, weight)));
}

struct word_tables_avx512 : word_tables_generic {
    static constexpr std::size_t rows = 32;

    QUANT_INLINE void make(const std::int8_t* x) noexcept {
        const auto with = [](__m512i t, __mmask32 half, std::int8_t column) {
            return _mm512_mask_add_epi16(t, half, t, _mm512_set1_epi16(column));
        };
        const auto subsets = [&](const std::int8_t* c) {
            __m512i t = _mm512_setzero_si512();
            t = with(t, 0xAAAAAAAA, c[0]);
            t = with(t, 0xCCCCCCCC, c[1]);
            t = with(t, 0xF0F0F0F0, c[2]);
            t = with(t, 0xFF00FF00, c[3]);
            return with(t, 0xFFFF0000, c[4]);
        };
        const __m512i first = subsets(x);
        _mm512_store_si512(sums, first);
        _mm512_store_si512(sums + 32, _mm512_add_epi16(first, _mm512_set1_epi16(x[5])));
        _mm512_store_si512(sums + 64, subsets(x + 6));
        _mm512_store_si512(sums + 96, subsets(x + 11));
    }
    struct total {
        __m512i sums;
        QUANT_INLINE void clear() noexcept { sums = _mm512_setzero_si512(); }
        QUANT_INLINE void put(std::byte* to, std::int32_t weight) const noexcept {
            add_wide(to, sums, _mm512_set1_epi32(weight));
        }
    };
    QUANT_INLINE void add(total& to, const std::uint16_t* words) const noexcept {
        constexpr auto every = ~__mmask32{0};
        const __m512i w = _mm512_loadu_si512(words); // an index is the lowest 6 or 5 bits: nothing to mask
        const __m512i a = _mm512_permutex2var_epi16(_mm512_load_si512(sums), w, _mm512_load_si512(sums + 32));
        const __m512i b =
            _mm512_maskz_permutexvar_epi16(every, _mm512_maskz_srli_epi16(every, w, 6), _mm512_load_si512(sums + 64));
        const __m512i c =
            _mm512_maskz_permutexvar_epi16(every, _mm512_maskz_srli_epi16(every, w, 11), _mm512_load_si512(sums + 96));
        to.sums = _mm512_add_epi16(to.sums, _mm512_add_epi16(a, _mm512_add_epi16(b, c)));
    }
};

#if defined(__AVX512BITALG__)
struct word_counts_avx512 {
    static constexpr std::size_t rows = 32;
    struct total {
        __m512i counts;
        QUANT_INLINE void clear() noexcept { counts = _mm512_setzero_si512(); }
        QUANT_INLINE void put(std::byte* sums, std::int32_t weight) const noexcept {
            add_wide(sums, counts, _mm512_set1_epi32(weight));
        }
        QUANT_INLINE void add(const std::uint16_t* words, std::uint16_t x) noexcept {
            const __m512i own = _mm512_set1_epi16(static_cast<std::int16_t>(x));
            counts = _mm512_add_epi16(counts, _mm512_popcnt_epi16(_mm512_and_si512(own, _mm512_loadu_si512(words))));
        }
    };
};
#endif
#endif

/// What an architecture looks up with, and what it counts with.
template <class Arch> struct words_of {
    using tables = word_tables_generic;
    using counts = word_counts_generic;
};
#if QUANT_HAS_XSIMD && defined(__AVX2__)
template <class Arch>
    requires std::is_base_of_v<xsimd::avx2, Arch>
struct words_of<Arch> {
    using tables = word_tables_avx2;
    using counts = word_counts_avx2;
};
#endif
#if QUANT_HAS_XSIMD && defined(__AVX512BW__)
template <class Arch>
    requires std::is_base_of_v<xsimd::avx512bw, Arch>
struct words_of<Arch> {
    using tables = word_tables_avx512;
#if defined(__AVX512BITALG__)
    using counts = word_counts_avx512;
#else
    using counts = word_counts_avx2;
#endif
};
#endif

} // namespace detail

template <class Arch> using word_tables = typename detail::words_of<Arch>::tables;
template <class Arch> using word_counts = typename detail::words_of<Arch>::counts;

} // namespace simd
QUANT_END_TARGET
