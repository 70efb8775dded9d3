// SPDX-License-Identifier: MIT
#pragma once
// What the gradient kernels need of the instruction set: the random numbers of core/random.hpp a register at a time, and values looked up in a
// small table. One branch per architecture, each beside a generic twin. Layer 2 (simd).

#include <cstddef>
#include <cstdint>
#include <quant/core/random.hpp>
#include <quant/simd/batch.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// mix(mix(seed) ^ stream): what the numbers of one stream have in common. Number i is mix(key ^ i) >> 40, times 2^-24.
[[nodiscard]] QUANT_INLINE constexpr std::uint64_t random_key(std::uint64_t seed, std::uint64_t stream) noexcept {
    return mix(mix(seed) ^ stream);
}

/// The numbers of consecutive indices in [0, 1). The last step of `mix` changes the lower 33 bits alone, of which none is used.
template <class Arch>
    requires(is_scalar<Arch>)
QUANT_INLINE float uniform_numbers(std::uint64_t key, std::uint64_t index) noexcept {
    return static_cast<float>(mix(key ^ index) >> 40) * 0x1p-24f;
}

#if QUANT_HAS_XSIMD
template <class Arch>
inline xsimd::batch<float, Arch> uniform_numbers_generic(std::uint64_t key, std::uint64_t index) noexcept {
    float lane[xsimd::batch<float, Arch>::size];
    for (std::size_t i = 0; i < xsimd::batch<float, Arch>::size; ++i) lane[i] = uniform_numbers<scalar>(key, index + i);
    return xsimd::batch<float, Arch>::load_unaligned(lane);
}

namespace detail {
inline constexpr std::uint64_t mix_step = 0x9E3779B97F4A7C15u, mix_first = 0xBF58476D1CE4E5B9u,
                               mix_second = 0x94D049BB133111EBu;

#if defined(__SSE2__)
/// a * b and, in the upper halves alone, a * b again: of 64 bits, from products of 32.
QUANT_INLINE __m128i product64(__m128i a, std::uint64_t b) noexcept {
    const __m128i low = _mm_set1_epi64x(static_cast<long long>(b)), high = _mm_srli_epi64(low, 32);
    const __m128i cross = _mm_add_epi64(_mm_mul_epu32(_mm_srli_epi64(a, 32), low), _mm_mul_epu32(a, high));
    return _mm_add_epi64(_mm_mul_epu32(a, low), _mm_slli_epi64(cross, 32));
}
/// mix(x) of two, without its last step.
QUANT_INLINE __m128i mixed_bits(__m128i x) noexcept {
    x = _mm_add_epi64(x, _mm_set1_epi64x(static_cast<long long>(mix_step)));
    x = product64(_mm_xor_si128(x, _mm_srli_epi64(x, 30)), mix_first);
    return product64(_mm_xor_si128(x, _mm_srli_epi64(x, 27)), mix_second);
}
#endif
#if defined(__AVX2__)
QUANT_INLINE __m256i product64(__m256i a, std::uint64_t b) noexcept {
    const __m256i low = _mm256_set1_epi64x(static_cast<long long>(b)), high = _mm256_srli_epi64(low, 32);
    const __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), low), _mm256_mul_epu32(a, high));
    return _mm256_add_epi64(_mm256_mul_epu32(a, low), _mm256_slli_epi64(cross, 32));
}
QUANT_INLINE __m256i mixed_bits(__m256i x) noexcept {
    x = _mm256_add_epi64(x, _mm256_set1_epi64x(static_cast<long long>(mix_step)));
    x = product64(_mm256_xor_si256(x, _mm256_srli_epi64(x, 30)), mix_first);
    return product64(_mm256_xor_si256(x, _mm256_srli_epi64(x, 27)), mix_second);
}
#endif
#if defined(__AVX512DQ__)
QUANT_INLINE __m512i mixed_bits(__m512i x) noexcept { // the forms with a mask of ones, as for as_doubles
    x = _mm512_add_epi64(x, _mm512_set1_epi64(static_cast<long long>(mix_step)));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_maskz_srli_epi64(0xFF, x, 30)),
                           _mm512_set1_epi64(static_cast<long long>(mix_first)));
    return _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_maskz_srli_epi64(0xFF, x, 27)),
                              _mm512_set1_epi64(static_cast<long long>(mix_second)));
}
#endif
} // namespace detail

template <class Arch>
    requires(!is_scalar<Arch>)
QUANT_INLINE xsimd::batch<float, Arch> uniform_numbers(std::uint64_t key, std::uint64_t index)
noexcept {
    using floats [[maybe_unused]] = xsimd::batch<float, Arch>;
    [[maybe_unused]] const auto at = static_cast<long long>(index);
    [[maybe_unused]] const auto salt = static_cast<long long>(key);
#if defined(__AVX512DQ__)
    if constexpr (std::is_base_of_v<xsimd::avx512dq, Arch>) {
        const __m512i first = _mm512_add_epi64(_mm512_set1_epi64(at), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
        const __m512i second = _mm512_add_epi64(first, _mm512_set1_epi64(8)), keys = _mm512_set1_epi64(salt);
        const __m512i upper_halves = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        const __m512i bits = _mm512_permutex2var_epi32(detail::mixed_bits(_mm512_xor_si512(first, keys)), upper_halves,
                                                       detail::mixed_bits(_mm512_xor_si512(second, keys)));
        return floats(_mm512_mul_ps(_mm512_maskz_cvtepi32_ps(0xFFFF, _mm512_maskz_srli_epi32(0xFFFF, bits, 8)),
                                    _mm512_set1_ps(0x1p-24f)));
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        // In the order 0 1 4 5 | 2 3 6 7, which taking the upper halves of two registers turns into 0 … 7.
        const __m256i first = _mm256_add_epi64(_mm256_set1_epi64x(at), _mm256_setr_epi64x(0, 1, 4, 5));
        const __m256i second = _mm256_add_epi64(first, _mm256_set1_epi64x(2)), keys = _mm256_set1_epi64x(salt);
        const __m256 low = _mm256_castsi256_ps(detail::mixed_bits(_mm256_xor_si256(first, keys)));
        const __m256 high = _mm256_castsi256_ps(detail::mixed_bits(_mm256_xor_si256(second, keys)));
        const __m256i bits = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xDD));
        return floats(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(bits, 8)), _mm256_set1_ps(0x1p-24f)));
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        const __m128i first = _mm_add_epi64(_mm_set1_epi64x(at), _mm_set_epi64x(1, 0));
        const __m128i second = _mm_add_epi64(first, _mm_set1_epi64x(2)), keys = _mm_set1_epi64x(salt);
        const __m128 low = _mm_castsi128_ps(detail::mixed_bits(_mm_xor_si128(first, keys)));
        const __m128 high = _mm_castsi128_ps(detail::mixed_bits(_mm_xor_si128(second, keys)));
        const __m128i bits = _mm_castps_si128(_mm_shuffle_ps(low, high, 0xDD));
        return floats(_mm_mul_ps(_mm_cvtepi32_ps(_mm_srli_epi32(bits, 8)), _mm_set1_ps(0x1p-24f)));
    } else
#endif
    {
        return uniform_numbers_generic<Arch>(key, index);
    }
}
#endif

// ---- look-up --------------------------------------------------------------------------------------------------------------

/// How many values of a table an architecture looks up in registers; 0: it reads them from memory.
template <class Arch> [[nodiscard]] constexpr std::size_t values_in_registers() noexcept {
#if QUANT_HAS_XSIMD && defined(__AVX512BW__)
    if (std::is_base_of_v<xsimd::avx512bw, Arch>) return 16;
#endif
#if QUANT_HAS_XSIMD && defined(__AVX2__)
    if (std::is_base_of_v<xsimd::avx2, Arch>) return 16;
#endif
    return 0;
}

/// How many of them one register of codes looks up at once.
template <class Arch> [[nodiscard]] constexpr std::size_t values_at_once() noexcept {
#if QUANT_HAS_XSIMD && defined(__AVX512BW__)
    if (std::is_base_of_v<xsimd::avx512bw, Arch>) return 16;
#endif
    return values_in_registers<Arch>() / 2;
}

#if QUANT_HAS_XSIMD && defined(__AVX2__)
/// Up to 16 values; the codes are bytes below 16.
template <class Arch> class value_table;

template <class Arch>
    requires std::is_base_of_v<xsimd::avx2, Arch>
class value_table<Arch> {
public:
    /// values  [16]
    explicit value_table(const float* values) noexcept
        : low_(_mm256_loadu_ps(values)), high_(_mm256_loadu_ps(values + 8)) {}
    /// As many values as a register holds. Wide: the table has more than 8.
    template <bool Wide>
    [[nodiscard]] QUANT_INLINE xsimd::batch<float, Arch> of(const std::uint8_t* codes) const noexcept {
        const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
        const __m256 low = _mm256_permutevar8x32_ps(low_, code);
        if constexpr (!Wide) return xsimd::batch<float, Arch>(low);
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)); // its sign: the code is 8 or more
        return xsimd::batch<float, Arch>(_mm256_blendv_ps(low, _mm256_permutevar8x32_ps(high_, code), upper));
    }

    /// The same for codes below 8 in a register.
    [[nodiscard]] QUANT_INLINE xsimd::batch<float, Arch>
    at(const xsimd::batch<std::int32_t, Arch>& codes) const noexcept {
        return xsimd::batch<float, Arch>(_mm256_permutevar8x32_ps(low_, codes));
    }

private:
    __m256 low_, high_;
};
#if defined(__AVX512BW__)
template <class Arch>
    requires std::is_base_of_v<xsimd::avx512bw, Arch>
class value_table<Arch> {
public:
    explicit value_table(const float* values) noexcept : values_(_mm512_loadu_ps(values)) {}
    template <bool Wide>
    [[nodiscard]] QUANT_INLINE xsimd::batch<float, Arch> of(const std::uint8_t* codes) const noexcept {
        const __m512i code =
            _mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
        return xsimd::batch<float, Arch>(_mm512_maskz_permutexvar_ps(0xFFFF, code, values_));
    }

    [[nodiscard]] QUANT_INLINE xsimd::batch<float, Arch>
    at(const xsimd::batch<std::int32_t, Arch>& codes) const noexcept {
        return xsimd::batch<float, Arch>(_mm512_maskz_permutexvar_ps(0xFFFF, codes, values_));
    }

private:
    __m512 values_;
};
#endif
#endif

} // namespace simd
QUANT_END_TARGET
