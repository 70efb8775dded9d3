// SPDX-License-Identifier: MIT
#pragma once
// int32 lanes to 8- and 16-bit codes, the conversion xsimd lacks, and the test for NaN that goes before it. Layer 2 (simd).
// One function, one branch per architecture, and a generic twin that the tests compare all of them with.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/simd/arch.hpp>
#include <quant/simd/batch.hpp>
#include <quant/simd/memory.hpp>

#if QUANT_HAS_XSIMD
QUANT_BEGIN_TARGET
namespace simd {

// ---- 8 bits ---------------------------------------------------------------------------------------------------------------

/// Four batches of int32, saturated to 16 bits, in the order that the architecture's packs leave them in.
template <class Arch> struct short_lanes { xsimd::batch<std::int16_t, Arch> ab, cd; };

template <class Arch>
inline short_lanes<Arch> saturate_to_shorts_generic(const xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    constexpr std::size_t lanes = xsimd::batch<std::int32_t, Arch>::size;
    std::int32_t wide[4 * lanes];
    std::int16_t shorts[4 * lanes];
    for (std::size_t k = 0; k < 4; ++k) v[k].store_unaligned(wide + k * lanes);
    for (std::size_t i = 0; i < 4 * lanes; ++i)
        shorts[i] = static_cast<std::int16_t>(wide[i] < -32768 ? -32768 : (wide[i] > 32767 ? 32767 : wide[i]));
    using batch = xsimd::batch<std::int16_t, Arch>;
    return {batch::load_unaligned(shorts), batch::load_unaligned(shorts + 2 * lanes)};
}
template <class Arch>
QUANT_INLINE short_lanes<Arch> saturate_to_shorts(const xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    using batch = xsimd::batch<std::int16_t, Arch>;
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        return {batch(_mm512_packs_epi32(v[0], v[1])), batch(_mm512_packs_epi32(v[2], v[3]))};
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        return {batch(_mm256_packs_epi32(v[0], v[1])), batch(_mm256_packs_epi32(v[2], v[3]))};
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        return {batch(_mm_packs_epi32(v[0], v[1])), batch(_mm_packs_epi32(v[2], v[3]))};
    } else
#endif
#if defined(__ARM_NEON)
        if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        return {batch(vcombine_s16(vqmovn_s32(v[0]), vqmovn_s32(v[1]))),
                batch(vcombine_s16(vqmovn_s32(v[2]), vqmovn_s32(v[3])))};
    } else
#endif
    {
        return saturate_to_shorts_generic(v);
    }
}

/// Whether any lane is the lowest short: where float to int32 turns NaN and overflow into the lowest integer
/// (converts_invalid_to_lowest), the sign of either, and of numbers that far below zero.
template <class Arch> QUANT_INLINE bool any_lowest(const short_lanes<Arch>& s) noexcept {
    const xsimd::batch<std::int16_t, Arch> lowest(std::numeric_limits<std::int16_t>::min());
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        const __mmask32 found = _mm512_cmpeq_epi16_mask(_mm512_min_epi16(s.ab, s.cd), lowest);
        return found != 0;
    } else
#endif
    {
        return xsimd::any(xsimd::min(s.ab, s.cd) == lowest);
    }
}

/// The shorts plus an offset (with saturation), saturated to 8-bit codes in the order of the four batches.
template <code_storage Code, class Arch>
QUANT_INLINE xsimd::batch<Code, Arch> narrow_codes(const short_lanes<Arch>& s, std::int16_t offset) noexcept {
    static_assert(sizeof(Code) == 1);
    [[maybe_unused]] constexpr bool is_signed = std::numeric_limits<Code>::is_signed;
    const xsimd::batch<std::int16_t, Arch> add(offset);
    const auto ab = plus_saturated(s.ab, add), cd = plus_saturated(s.cd, add);
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        // The form with a mask of ones: the other reads an undefined register, of which g++ 12 warns in its own header.
        const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const __m512i all = is_signed ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd);
        return xsimd::batch<Code, Arch>(_mm512_maskz_permutexvar_epi32(0xFFFF, order, all));
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i all = is_signed ? _mm256_packs_epi16(ab, cd) : _mm256_packus_epi16(ab, cd);
        return xsimd::batch<Code, Arch>(_mm256_permutevar8x32_epi32(all, order));
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        return xsimd::batch<Code, Arch>(is_signed ? _mm_packs_epi16(ab, cd) : _mm_packus_epi16(ab, cd));
    } else
#endif
#if defined(__ARM_NEON)
        if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        if constexpr (is_signed)
            return xsimd::batch<Code, Arch>(vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)));
        else
            return xsimd::batch<Code, Arch>(vcombine_u8(vqmovun_s16(ab), vqmovun_s16(cd)));
    } else
#endif
    {
        constexpr std::size_t shorts = xsimd::batch<std::int16_t, Arch>::size;
        std::int16_t wide[2 * shorts];
        Code codes[2 * shorts];
        ab.store_unaligned(wide);
        cd.store_unaligned(wide + shorts);
        constexpr std::int16_t lo = std::numeric_limits<Code>::min(), hi = std::numeric_limits<Code>::max();
        for (std::size_t i = 0; i < 2 * shorts; ++i)
            codes[i] = static_cast<Code>(wide[i] < lo ? lo : (wide[i] > hi ? hi : wide[i]));
        return xsimd::batch<Code, Arch>::load_unaligned(codes);
    }
}

// ---- 8 and 16 bits to memory ----------------------------------------------------------------------------------------------

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

/// The same through the architecture's saturating packs. Stream: past the caches, `to` aligned to a register.
template <class Arch, bool Stream = false, code_storage Code>
QUANT_INLINE void store_narrow(Code* to, const xsimd::batch<std::int32_t, Arch> (&v)[4]) noexcept {
    using codes = xsimd::batch<Code, Arch>;
    [[maybe_unused]] constexpr bool is_signed = std::numeric_limits<Code>::is_signed;
    [[maybe_unused]] constexpr std::size_t half = codes::size; // of a 16-bit result
    if constexpr (sizeof(Code) == 1) {
        put_batch<Stream>(to, narrow_codes<Code>(saturate_to_shorts(v), 0));
        return;
    }
#if defined(__AVX512BW__)
    else if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        const auto pair = [&](__m512i a, __m512i b) {
            const __m512i both = is_signed ? _mm512_packs_epi32(a, b) : _mm512_packus_epi32(a, b);
            return codes(_mm512_maskz_permutexvar_epi64(0xFF, order, both));
        };
        put_batch<Stream>(to, pair(v[0], v[1]));
        put_batch<Stream>(to + half, pair(v[2], v[3]));
        return;
    }
#endif
#if defined(__AVX2__)
    else if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        const auto pair = [](__m256i a, __m256i b) {
            const __m256i both = is_signed ? _mm256_packs_epi32(a, b) : _mm256_packus_epi32(a, b);
            return codes(_mm256_permute4x64_epi64(both, 0xD8));
        };
        put_batch<Stream>(to, pair(v[0], v[1]));
        put_batch<Stream>(to + half, pair(v[2], v[3]));
        return;
    }
#endif
#if defined(__SSE2__)
    else if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        const auto pair = [](__m128i a, __m128i b) {
            if constexpr (is_signed) {
                return codes(_mm_packs_epi32(a, b));
            } else {
                // SSE2 has no unsigned 32 -> 16 pack: saturate around the middle of the range instead, negative values cut to
                // zero first, as the difference would wrap for the lowest ones.
                const __m128i middle = _mm_set1_epi32(32768), flip = _mm_set1_epi16(static_cast<short>(0x8000));
                const auto centred = [&](__m128i x) {
                    return _mm_sub_epi32(_mm_andnot_si128(_mm_srai_epi32(x, 31), x), middle);
                };
                return codes(_mm_xor_si128(_mm_packs_epi32(centred(a), centred(b)), flip));
            }
        };
        put_batch<Stream>(to, pair(v[0], v[1]));
        put_batch<Stream>(to + half, pair(v[2], v[3]));
        return;
    }
#endif
#if defined(__ARM_NEON)
    else if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        const auto pair = [](int32x4_t a, int32x4_t b) {
            if constexpr (is_signed)
                return codes(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)));
            else
                return codes(vcombine_u16(vqmovun_s32(a), vqmovun_s32(b)));
        };
        put_batch<Stream>(to, pair(v[0], v[1]));
        put_batch<Stream>(to + half, pair(v[2], v[3]));
        return;
    }
#endif
    else
        store_narrow_generic<Arch>(to, v);
}

// ---- NaN ------------------------------------------------------------------------------------------------------------------

/// Whether any of four batches holds a NaN: one comparison for two registers where there is an unordered one.
template <class Arch> QUANT_INLINE bool any_nan(const xsimd::batch<float, Arch> (&v)[4]) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
        return _mm512_kortestz(_mm512_cmp_ps_mask(v[0], v[1], _CMP_UNORD_Q),
                               _mm512_cmp_ps_mask(v[2], v[3], _CMP_UNORD_Q)) == 0;
    } else
#endif
#if defined(__AVX__)
        if constexpr (std::is_base_of_v<xsimd::avx, Arch>) {
        return _mm256_movemask_ps(
                   _mm256_or_ps(_mm256_cmp_ps(v[0], v[1], _CMP_UNORD_Q), _mm256_cmp_ps(v[2], v[3], _CMP_UNORD_Q))) != 0;
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        return _mm_movemask_ps(_mm_or_ps(_mm_cmpunord_ps(v[0], v[1]), _mm_cmpunord_ps(v[2], v[3]))) != 0;
    } else
#endif
    {
        return !xsimd::all((v[0] == v[0]) & (v[1] == v[1]) & (v[2] == v[2]) & (v[3] == v[3]));
    }
}

} // namespace simd
QUANT_END_TARGET
#endif
