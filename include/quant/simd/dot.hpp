// SPDX-License-Identifier: MIT
#pragma once
// Sums of products of small integers, four rows at a time: what product_kernels.hpp is made of. Layer 2 (simd).
//
// Products of 8-bit codes go where the machine multiplies bytes: VNNI takes unsigned times signed bytes, four to a sum, so weights are
// made unsigned by adding 128 (8 to a nibble) and the caller takes `offset` times the sum of the activations off again; AVX2 multiplies
// nibbles the same way (15 * 128 * 4 < 2^15: nothing saturates), bytes as pairs of 16 bits, and so does SSE2. Everything is exact in
// int32. The generic twin is the loop at the top.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/simd/arch.hpp>
#include <quant/simd/batch.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// The sum of n products. Exact modulo 2^32. The generic twin of every unit below.
inline std::int32_t dot_generic(const std::int8_t* a, const std::int8_t* b, std::size_t n) noexcept {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<std::int32_t>(a[i]) * static_cast<std::int32_t>(b[i]);
    return sum;
}
/// The same of packed 4-bit codes, the first of them in the low half of a byte; n is even.
inline std::int32_t dot_nibbles_generic(const std::uint8_t* packed, const std::int8_t* x, std::size_t n) noexcept {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < n; i += 2) {
        const int low = packed[i / 2] & 15, high = packed[i / 2] >> 4;
        sum +=
            ((low ^ 8) - 8) * static_cast<std::int32_t>(x[i]) + ((high ^ 8) - 8) * static_cast<std::int32_t>(x[i + 1]);
    }
    return sum;
}

inline constexpr std::size_t dot_rows = 4;         ///< rows that are taken together
inline constexpr std::size_t dot_group = 32;       ///< codes that share a scale
inline constexpr std::size_t dot_tile_cols = 4096; ///< activations that are prepared together

/// Activations as the units below want them.
struct dot_tile {
    alignas(64) std::int8_t even[dot_tile_cols / 2]; ///< for 4-bit codes: columns 0, 2, 4 …
    alignas(64) std::int8_t odd[dot_tile_cols / 2];
    alignas(
        64) std::int32_t offset[dot_tile_cols / dot_group * dot_rows]; ///< of each group, once for each of four rows
    alignas(
        64) std::int8_t tail[4 * dot_group]; ///< for 8-bit codes: what follows the last four whole groups, then zeros
    const std::int8_t* natural = nullptr;    ///< for 8-bit codes: the activations
};

namespace detail {

/// What an architecture multiplies small integers with.
enum class dot_units { generic, sse2, avx2, vnni };
template <class Arch> constexpr dot_units dot_units_of() noexcept {
#if QUANT_HAS_XSIMD && defined(__SSE2__)
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    if (std::is_base_of_v<xsimd::avx512bw, Arch>) return dot_units::vnni;
#endif
#if defined(__AVX2__)
    if (std::is_base_of_v<xsimd::avx2, Arch> || std::is_base_of_v<xsimd::avx512bw, Arch>) return dot_units::avx2;
#endif
    if (std::is_base_of_v<xsimd::sse2, Arch> || std::is_base_of_v<xsimd::avx, Arch> ||
        std::is_base_of_v<xsimd::avx512f, Arch>)
        return dot_units::sse2;
#endif
    return dot_units::generic;
}

/// Keeps a loaded value in its register: a compiler would make the load an operand of every use, and the load ports the limit.
template <class Register> QUANT_INLINE Register in_register(Register value) noexcept {
#if QUANT_HAS_XSIMD && defined(__GNUC__) && defined(__AVX512F__)
    __asm__("" : "+v"(value));
#elif QUANT_HAS_XSIMD && defined(__GNUC__) && defined(__SSE2__)
    __asm__("" : "+x"(value));
#endif
    return value;
}

/// A unit:
///   arch            the architecture of its registers
///   step            codes of 8 bits in a step of `bytes`
///   batch           rows of activations that dot_unit::bytes takes together at most
///   byte_offset     what was added to codes of 8 bits, nibble_offset to those of 4
///   group_parts     registers that hold four groups of four rows: [group][row]
///   nibble_bytes    bytes of a register
template <dot_units Units> struct dot_unit;

#if QUANT_HAS_XSIMD && defined(__SSE2__)

template <> struct dot_unit<dot_units::sse2> {
    using arch = xsimd::sse2;
    using ints = __m128i;
    static constexpr std::size_t step = 16, batch = 2, group_parts = 4, nibble_bytes = 16;
    static constexpr std::int32_t byte_offset = 0, nibble_offset = 0;

    static QUANT_INLINE __m128i zero() noexcept { return _mm_setzero_si128(); }
    static QUANT_INLINE __m128i load(const void* from) noexcept {
        return _mm_loadu_si128(static_cast<const __m128i*>(from));
    }
    static QUANT_INLINE __m128i sum(__m128i a, __m128i b) noexcept { return _mm_add_epi32(a, b); }
    static QUANT_INLINE __m128i low(__m128i a) noexcept { return _mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8); }
    static QUANT_INLINE __m128i high(__m128i a) noexcept { return _mm_srai_epi16(_mm_unpackhi_epi8(a, a), 8); }
    static QUANT_INLINE __m128i products(__m128i a, __m128i b) noexcept {
        return sum(_mm_madd_epi16(low(a), low(b)), _mm_madd_epi16(high(a), high(b)));
    }
    static QUANT_INLINE __m128i bytes(__m128i total, __m128i w, __m128i x) noexcept {
        return sum(total, products(w, x));
    }
    static QUANT_INLINE __m128i weights(const std::int8_t* from) noexcept { return load(from); }
    static QUANT_INLINE std::int32_t all(__m128i a) noexcept {
        a = sum(a, _mm_unpackhi_epi64(a, a));
        return _mm_cvtsi128_si32(sum(a, _mm_shuffle_epi32(a, 1)));
    }
    /// A register of nibbles times the activations at `at` of the tile.
    static QUANT_INLINE __m128i nibble_part(const std::uint8_t* from, __m128i x_even, __m128i x_odd) noexcept {
        const __m128i eight = _mm_set1_epi8(8), mask = _mm_set1_epi8(15), packed = in_register(load(from));
        const auto code = [&](__m128i raw) {
            return _mm_sub_epi8(_mm_xor_si128(_mm_and_si128(raw, mask), eight), eight);
        };
        return sum(products(code(packed), x_even), products(code(_mm_srli_epi16(packed, 4)), x_odd));
    }
    static QUANT_INLINE __m128i byte_part(const std::int8_t* from, const std::int8_t* x) noexcept {
        return sum(products(load(from), load(x)), products(load(from + 16), load(x + 16)));
    }
    /// Four sums of four lanes each, side by side.
    static QUANT_INLINE __m128i four(__m128i a, __m128i b, __m128i c, __m128i d) noexcept {
        const __m128i ab = sum(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
        const __m128i cd = sum(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
        return sum(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
    }
    static QUANT_INLINE __m128i four_nibbles(__m128i a, __m128i b, __m128i c, __m128i d) noexcept {
        return four(a, b, c, d);
    }
    /// scale[row] + 0 … 3 turned over: part g holds the scales of group g.
    static QUANT_INLINE void scales(const float* const* scale, std::size_t g, __m128 (&part)[4]) noexcept {
        __m128 a = _mm_loadu_ps(scale[0] + g), b = _mm_loadu_ps(scale[1] + g), c = _mm_loadu_ps(scale[2] + g),
               d = _mm_loadu_ps(scale[3] + g);
        _MM_TRANSPOSE4_PS(a, b, c, d);
        part[0] = a, part[1] = b, part[2] = c, part[3] = d;
    }
    static QUANT_INLINE __m128 floats(__m128i a) noexcept { return _mm_cvtepi32_ps(a); }
    static QUANT_INLINE __m128 load_floats(const float* from) noexcept { return _mm_loadu_ps(from); }
    static QUANT_INLINE void put_floats(float* to, __m128 a) noexcept { _mm_storeu_ps(to, a); }
    static QUANT_INLINE __m128 multiply(__m128 a, __m128 b) noexcept { return _mm_mul_ps(a, b); }
    static QUANT_INLINE __m128 add(__m128 a, __m128 b) noexcept { return _mm_add_ps(a, b); }
};
#endif

#if QUANT_HAS_XSIMD && defined(__AVX2__)

template <> struct dot_unit<dot_units::avx2> {
    using arch = xsimd::avx2;
    using ints = __m256i;
    static constexpr std::size_t step = 16, batch = 2, group_parts = 2, nibble_bytes = 32;
    static constexpr std::int32_t byte_offset = 0, nibble_offset = 8;

    static QUANT_INLINE __m256i zero() noexcept { return _mm256_setzero_si256(); }
    static QUANT_INLINE __m256i load(const void* from) noexcept {
        return _mm256_loadu_si256(static_cast<const __m256i*>(from));
    }
    static QUANT_INLINE __m256i weights(const std::int8_t* from) noexcept { // 16 codes as 16 bits
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    static QUANT_INLINE __m256i sum(__m256i a, __m256i b) noexcept { return _mm256_add_epi32(a, b); }
    static QUANT_INLINE __m256i less(__m256i a, __m256i b) noexcept { return _mm256_sub_epi32(a, b); }
    static QUANT_INLINE __m256i bytes(__m256i total, __m256i w, __m256i x) noexcept {
        return sum(total, _mm256_madd_epi16(w, x));
    }
    static QUANT_INLINE std::int32_t all(__m256i a) noexcept {
        return dot_unit<dot_units::sse2>::all(_mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
    }
    static QUANT_INLINE __m256i nibble_part(const std::uint8_t* from, __m256i x_even, __m256i x_odd) noexcept {
        const __m256i mask = _mm256_set1_epi8(15);
        const __m256i packed = _mm256_xor_si256(load(from), _mm256_set1_epi8(static_cast<char>(0x88)));
        const __m256i even = _mm256_maddubs_epi16(_mm256_and_si256(packed, mask), x_even);
        const __m256i odd = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(packed, 4), mask), x_odd);
        return _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1));
    }
    /// Two groups: the lanes of each in a half of the register.
    static QUANT_INLINE __m256i byte_part(const std::int8_t* from, const std::int8_t* x) noexcept {
        const auto group = [&](std::size_t at) {
            return sum(_mm256_madd_epi16(weights(from + at), weights(x + at)),
                       _mm256_madd_epi16(weights(from + at + 16), weights(x + at + 16)));
        };
        const __m256i a = group(0), b = group(32);
        return sum(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
    }
    static QUANT_INLINE __m256i four(__m256i a, __m256i b, __m256i c, __m256i d) noexcept {
        const __m256i ab = sum(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        const __m256i cd = sum(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        return sum(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    }
    /// The same for sums of nibbles, which fit 16 bits in pairs (15 * 128 * 16 < 2^15): packed and added two by two.
    static QUANT_INLINE __m256i four_nibbles(__m256i a, __m256i b, __m256i c, __m256i d) noexcept {
        const auto pairs = [](__m256i x, __m256i y) {
            return _mm256_madd_epi16(_mm256_packs_epi32(x, y), _mm256_set1_epi16(1));
        };
        return pairs(pairs(a, b), pairs(c, d));
    }
    static QUANT_INLINE void scales(const float* const* scale, std::size_t g, __m256 (&part)[2]) noexcept {
        __m128 q[4];
        dot_unit<dot_units::sse2>::scales(scale, g, q);
        part[0] = _mm256_insertf128_ps(_mm256_castps128_ps256(q[0]), q[1], 1);
        part[1] = _mm256_insertf128_ps(_mm256_castps128_ps256(q[2]), q[3], 1);
    }
    static QUANT_INLINE __m256 floats(__m256i a) noexcept { return _mm256_cvtepi32_ps(a); }
    static QUANT_INLINE __m256 load_floats(const float* from) noexcept { return _mm256_loadu_ps(from); }
    static QUANT_INLINE void put_floats(float* to, __m256 a) noexcept { _mm256_storeu_ps(to, a); }
    static QUANT_INLINE __m256 multiply(__m256 a, __m256 b) noexcept { return _mm256_mul_ps(a, b); }
    static QUANT_INLINE __m256 add(__m256 a, __m256 b) noexcept { return _mm256_add_ps(a, b); }
};
#endif

#if QUANT_HAS_XSIMD && defined(__AVX512VNNI__) && defined(__AVX512BW__)

// Where an intrinsic has a form with a mask of ones, that one: the other reads an undefined register, of which g++ 12 warns.
template <> struct dot_unit<dot_units::vnni> {
    using arch = xsimd::avx512bw;
    using ints = __m512i;
    static constexpr std::size_t step = 64, batch = 4, group_parts = 1, nibble_bytes = 64;
    static constexpr std::int32_t byte_offset = 128, nibble_offset = 8;

    static QUANT_INLINE __m512i zero() noexcept { return _mm512_setzero_si512(); }
    static QUANT_INLINE __m512i load(const void* from) noexcept { return _mm512_loadu_si512(from); }
    static QUANT_INLINE __m512i weights(const std::int8_t* from) noexcept { // plus 128
        return _mm512_xor_si512(load(from), _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    static QUANT_INLINE __m512i sum(__m512i a, __m512i b) noexcept { return _mm512_add_epi32(a, b); }
    static QUANT_INLINE __m512i less(__m512i a, __m512i b) noexcept { return _mm512_sub_epi32(a, b); }
    static QUANT_INLINE __m512i bytes(__m512i total, __m512i w, __m512i x) noexcept {
        return _mm512_dpbusd_epi32(total, w, x);
    }
    static QUANT_INLINE std::int32_t all(__m512i a) noexcept {
        const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_maskz_extracti64x4_epi64(0xF, a, 1));
        return dot_unit<dot_units::avx2>::all(half);
    }
    static QUANT_INLINE __m512i nibble_part(const std::uint8_t* from, __m512i x_even, __m512i x_odd) noexcept {
        const __m512i mask = _mm512_set1_epi8(15), top = _mm512_set1_epi8(8), packed = in_register(load(from));
        // (raw & 15) ^ 8 in one instruction
        const __m512i low = _mm512_ternarylogic_epi32(packed, mask, top, 0x6A);
        const __m512i high =
            _mm512_ternarylogic_epi32(_mm512_maskz_srli_epi16(~__mmask32{0}, packed, 4), mask, top, 0x6A);
        return bytes(bytes(zero(), low, x_even), high, x_odd);
    }
    static QUANT_INLINE __m512i byte_part(const std::int8_t* from, const std::int8_t* x) noexcept {
        const __m512i a = bytes(zero(), weights(from), load(x)), b = bytes(zero(), weights(from + 64), load(x + 64));
        return sum(_mm512_maskz_shuffle_i64x2(0xFF, a, b, 0x88), _mm512_maskz_shuffle_i64x2(0xFF, a, b, 0xDD));
    }
    static QUANT_INLINE __m512i four(__m512i a, __m512i b, __m512i c, __m512i d) noexcept {
        const __m512i ab = sum(_mm512_maskz_unpacklo_epi32(0xFFFF, a, b), _mm512_maskz_unpackhi_epi32(0xFFFF, a, b));
        const __m512i cd = sum(_mm512_maskz_unpacklo_epi32(0xFFFF, c, d), _mm512_maskz_unpackhi_epi32(0xFFFF, c, d));
        return sum(_mm512_maskz_unpacklo_epi64(0xFF, ab, cd), _mm512_maskz_unpackhi_epi64(0xFF, ab, cd));
    }
    static QUANT_INLINE __m512i four_nibbles(__m512i a, __m512i b, __m512i c, __m512i d) noexcept {
        const auto pairs = [](__m512i x, __m512i y) {
            return _mm512_madd_epi16(_mm512_packs_epi32(x, y), _mm512_set1_epi16(1));
        };
        return pairs(pairs(a, b), pairs(c, d));
    }
    static QUANT_INLINE void scales(const float* const* scale, std::size_t g, __m512 (&part)[1]) noexcept {
        __m512 rows = _mm512_castps128_ps512(_mm_loadu_ps(scale[0] + g)); // four scales of each row
        rows = _mm512_mask_broadcast_f32x4(rows, 0x00F0, _mm_loadu_ps(scale[1] + g));
        rows = _mm512_mask_broadcast_f32x4(rows, 0x0F00, _mm_loadu_ps(scale[2] + g));
        rows = _mm512_mask_broadcast_f32x4(rows, 0xF000, _mm_loadu_ps(scale[3] + g));
        const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        part[0] = _mm512_maskz_permutexvar_ps(0xFFFF, order, rows);
    }
    static QUANT_INLINE __m512 floats(__m512i a) noexcept { return _mm512_maskz_cvtepi32_ps(0xFFFF, a); }
    static QUANT_INLINE __m512 load_floats(const float* from) noexcept { return _mm512_loadu_ps(from); }
    static QUANT_INLINE void put_floats(float* to, __m512 a) noexcept { _mm512_storeu_ps(to, a); }
    static QUANT_INLINE __m512 multiply(__m512 a, __m512 b) noexcept { return _mm512_mul_ps(a, b); }
    static QUANT_INLINE __m512 add(__m512 a, __m512 b) noexcept { return _mm512_add_ps(a, b); }
};
#endif

} // namespace detail

/// Whether an architecture has a unit; the others run the loop.
template <class Arch> inline constexpr bool has_dot_unit = detail::dot_units_of<Arch>() != detail::dot_units::generic;

} // namespace simd
QUANT_END_TARGET
