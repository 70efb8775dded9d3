// SPDX-License-Identifier: MIT
#pragma once
// int32 lanes to 8- and 16-bit codes: the conversion xsimd lacks. Layer 2 (simd).
// One function, one branch per architecture, and a generic twin that the tests compare all of them with.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/simd/arch.hpp>

#if QUANT_HAS_XSIMD
QUANT_BEGIN_TARGET
namespace simd {

/// Stores four batches as consecutive codes, saturating: lane j of v[k] becomes element k * lanes + j. Plain C++.
template <class Arch, code_storage Code>
inline void store_narrow_generic(Code* to, const xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    constexpr std::size_t lanes = xsimd::batch<std::int32_t, Arch>::size;
    std::int32_t wide[4 * lanes];
    for (std::size_t k = 0; k < 4; ++k) v[k].store_unaligned(wide + k * lanes);
    constexpr std::int32_t lo = std::numeric_limits<Code>::min(), hi = std::numeric_limits<Code>::max();
    for (std::size_t i = 0; i < 4 * lanes; ++i)
        to[i] = static_cast<Code>(wide[i] < lo ? lo : (wide[i] > hi ? hi : wide[i]));
}

/// The same through the architecture's saturating packs.
template <class Arch, code_storage Code>
QUANT_INLINE void store_narrow(Code* to, const xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    [[maybe_unused]] constexpr bool wide_code = sizeof(Code) == 2;
    [[maybe_unused]] constexpr bool is_signed = std::numeric_limits<Code>::is_signed;
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        // The forms with a mask of ones: the others read an undefined register, of which g++ 12 warns in its own header.
        const __m512i a = v[0], b = v[1], c = v[2], d = v[3];
        if constexpr (wide_code) {
            const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            const __m512i ab = is_signed ? _mm512_packs_epi32(a, b) : _mm512_packus_epi32(a, b);
            const __m512i cd = is_signed ? _mm512_packs_epi32(c, d) : _mm512_packus_epi32(c, d);
            _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi64(0xFF, order, ab));
            _mm512_storeu_si512(to + 32, _mm512_maskz_permutexvar_epi64(0xFF, order, cd));
        } else {
            const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            const __m512i ab = _mm512_packs_epi32(a, b), cd = _mm512_packs_epi32(c, d);
            const __m512i all = is_signed ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd);
            _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi32(0xFFFF, order, all));
        }
        return;
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        const __m256i a = v[0], b = v[1], c = v[2], d = v[3];
        if constexpr (wide_code) {
            const __m256i ab = is_signed ? _mm256_packs_epi32(a, b) : _mm256_packus_epi32(a, b);
            const __m256i cd = is_signed ? _mm256_packs_epi32(c, d) : _mm256_packus_epi32(c, d);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(ab, 0xD8));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16), _mm256_permute4x64_epi64(cd, 0xD8));
        } else {
            const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            const __m256i ab = _mm256_packs_epi32(a, b), cd = _mm256_packs_epi32(c, d);
            const __m256i all = is_signed ? _mm256_packs_epi16(ab, cd) : _mm256_packus_epi16(ab, cd);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(all, order));
        }
        return;
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        const __m128i a = v[0], b = v[1], c = v[2], d = v[3];
        if constexpr (wide_code && !is_signed) {
            // SSE2 has no unsigned 32 -> 16 pack: saturate around the middle of the range instead, negative values cut to
            // zero first, as the difference would wrap for the lowest ones.
            const __m128i middle = _mm_set1_epi32(32768), flip = _mm_set1_epi16(static_cast<short>(0x8000));
            const auto centred = [&](__m128i x) {
                return _mm_sub_epi32(_mm_andnot_si128(_mm_srai_epi32(x, 31), x), middle);
            };
            const __m128i ab = _mm_packs_epi32(centred(a), centred(b));
            const __m128i cd = _mm_packs_epi32(centred(c), centred(d));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(ab, flip));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), _mm_xor_si128(cd, flip));
        } else {
            const __m128i ab = _mm_packs_epi32(a, b), cd = _mm_packs_epi32(c, d);
            if constexpr (wide_code) {
                _mm_storeu_si128(reinterpret_cast<__m128i*>(to), ab);
                _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), cd);
            } else {
                const __m128i all = is_signed ? _mm_packs_epi16(ab, cd) : _mm_packus_epi16(ab, cd);
                _mm_storeu_si128(reinterpret_cast<__m128i*>(to), all);
            }
        }
        return;
    } else
#endif
#if defined(__ARM_NEON)
        if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        const int32x4_t a = v[0], b = v[1], c = v[2], d = v[3];
        if constexpr (wide_code && is_signed) {
            vst1q_s16(to, vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)));
            vst1q_s16(to + 8, vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)));
        } else if constexpr (wide_code) {
            vst1q_u16(to, vcombine_u16(vqmovun_s32(a), vqmovun_s32(b)));
            vst1q_u16(to + 8, vcombine_u16(vqmovun_s32(c), vqmovun_s32(d)));
        } else {
            const int16x8_t ab = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
            const int16x8_t cd = vcombine_s16(vqmovn_s32(c), vqmovn_s32(d));
            if constexpr (is_signed)
                vst1q_s8(to, vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)));
            else
                vst1q_u8(to, vcombine_u8(vqmovun_s16(ab), vqmovun_s16(cd)));
        }
        return;
    } else
#endif
        store_narrow_generic<Arch>(to, v);
}

} // namespace simd
QUANT_END_TARGET
#endif
