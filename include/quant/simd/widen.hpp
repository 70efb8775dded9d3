// SPDX-License-Identifier: MIT
#pragma once
// 8- and 16-bit codes to int32 lanes: the conversion xsimd lacks. Layer 2 (simd).

#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/simd/arch.hpp>

#if QUANT_HAS_XSIMD
QUANT_BEGIN_TARGET
namespace simd {

/// Loads 4 * lanes consecutive codes as four batches. Plain C++.
template <class Arch, code_storage Code>
inline void load_widen_generic(const Code* from, xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    constexpr std::size_t lanes = xsimd::batch<std::int32_t, Arch>::size;
    std::int32_t wide[4 * lanes];
    for (std::size_t i = 0; i < 4 * lanes; ++i) wide[i] = from[i];
    for (std::size_t k = 0; k < 4; ++k) v[k] = xsimd::batch<std::int32_t, Arch>::load_unaligned(wide + k * lanes);
}

/// The same through the architecture's extensions.
template <class Arch, code_storage Code>
QUANT_INLINE void load_widen(const Code* from, xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    [[maybe_unused]] constexpr bool wide_code = sizeof(Code) == 2;
    [[maybe_unused]] constexpr bool is_signed = std::numeric_limits<Code>::is_signed;
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        detail::four_times([&](auto k) {
            if constexpr (wide_code) {
                const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 16 * k));
                v[k] = is_signed ? _mm512_cvtepi16_epi32(c) : _mm512_cvtepu16_epi32(c);
            } else {
                const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16 * k));
                v[k] = is_signed ? _mm512_cvtepi8_epi32(c) : _mm512_cvtepu8_epi32(c);
            }
        });
        return;
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        detail::four_times([&](auto k) {
            if constexpr (wide_code) {
                const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8 * k));
                v[k] = is_signed ? _mm256_cvtepi16_epi32(c) : _mm256_cvtepu16_epi32(c);
            } else {
                const __m128i c = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * k));
                v[k] = is_signed ? _mm256_cvtepi8_epi32(c) : _mm256_cvtepu8_epi32(c);
            }
        });
        return;
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        // Interleaving with zeros extends unsigned values; interleaving with itself and shifting back extends signed ones.
        const __m128i zero = _mm_setzero_si128();
        __m128i half[2];
        if constexpr (wide_code) {
            half[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
            half[1] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8));
        } else {
            const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
            half[0] = is_signed ? _mm_srai_epi16(_mm_unpacklo_epi8(c, c), 8) : _mm_unpacklo_epi8(c, zero);
            half[1] = is_signed ? _mm_srai_epi16(_mm_unpackhi_epi8(c, c), 8) : _mm_unpackhi_epi8(c, zero);
        }
        for (std::size_t k = 0; k < 2; ++k) {
            const __m128i h = half[k];
            v[2 * k] = is_signed ? _mm_srai_epi32(_mm_unpacklo_epi16(h, h), 16) : _mm_unpacklo_epi16(h, zero);
            v[2 * k + 1] = is_signed ? _mm_srai_epi32(_mm_unpackhi_epi16(h, h), 16) : _mm_unpackhi_epi16(h, zero);
        }
        return;
    } else
#endif
#if defined(__ARM_NEON)
        if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        for (std::size_t k = 0; k < 2; ++k) {
            int16x8_t half{};
            if constexpr (wide_code && is_signed)
                half = vld1q_s16(from + 8 * k);
            else if constexpr (wide_code) {
                const uint16x8_t u = vld1q_u16(from + 8 * k);
                v[2 * k] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(u)));
                v[2 * k + 1] = vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(u)));
                continue;
            } else if constexpr (is_signed)
                half = vmovl_s8(vld1_s8(from + 8 * k));
            else
                half = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from + 8 * k)));
            v[2 * k] = vmovl_s16(vget_low_s16(half));
            v[2 * k + 1] = vmovl_s16(vget_high_s16(half));
        }
        return;
    } else
#endif
        load_widen_generic<Arch>(from, v);
}

} // namespace simd
QUANT_END_TARGET
#endif
