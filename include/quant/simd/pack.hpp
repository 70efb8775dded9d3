// SPDX-License-Identifier: MIT
#pragma once
// Codes to and from the dense bit stream of core/packing.hpp, many at a time. Layer 2 (simd).
//
// Packing is a tree: neighbouring codes are joined to pairs, pairs to fours, fours to eights (`bits` whole bytes), and what
// then stands between the eights is squeezed out. Unpacking cuts a 16-bit window out of the stream for every code and
// multiplies it into place. The generic twin does the same in 64-bit words; every architecture gives its bytes. Any alignment;
// no byte past the end is read or written.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/core/packing.hpp>
#include <quant/simd/arch.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {
namespace detail {

// ---- 64-bit words ---------------------------------------------------------------------------------------------------------

/// Eight codes in the eight bytes of a word, and the same in its lowest 8 * Bits bits.
template <unsigned Bits> struct word_of_codes {
    /// The lowest `Used` bits of every `Width`.
    template <unsigned Width, unsigned Used> static constexpr std::uint64_t lowest() noexcept {
        std::uint64_t word = 0;
        for (unsigned at = 0; at < 64; at += Width) word |= ((std::uint64_t{1} << Used) - 1) << at;
        return word;
    }
    /// Moves the upper half of every 2 * Half bits down to the lower one, of which `Used` bits are in use; and back.
    template <unsigned Half, unsigned Used> static QUANT_INLINE std::uint64_t join(std::uint64_t x) noexcept {
        constexpr std::uint64_t lower = lowest<2 * Half, Used>();
        return (x & lower) | ((x & (lower << Half)) >> (Half - Used));
    }
    template <unsigned Half, unsigned Used> static QUANT_INLINE std::uint64_t part(std::uint64_t x) noexcept {
        constexpr std::uint64_t lower = lowest<2 * Half, Used>();
        return (x & lower) | ((x << (Half - Used)) & (lower << Half));
    }
    static QUANT_INLINE std::uint64_t pack(std::uint64_t x) noexcept {
        return join<32, 4 * Bits>(join<16, 2 * Bits>(join<8, Bits>(x)));
    }
    static QUANT_INLINE std::uint64_t unpack(std::uint64_t x, bool is_signed) noexcept {
        constexpr std::uint64_t top = lowest<8, 1>() << 7;
        const std::uint64_t sign = is_signed ? lowest<8, 1>() << (Bits - 1) : 0;
        const std::uint64_t raw = part<8, Bits>(part<16, 2 * Bits>(part<32, 4 * Bits>(x)));
        return (((raw ^ sign) | top) - sign) ^ top; // per byte (raw ^ sign) - sign: the top bit keeps borrows inside
    }
};

/// What is left when the registers are done: words, and the definition for the last few codes.
template <unsigned Bits>
inline void pack_in_words(const std::uint8_t* codes, std::uint8_t* packed, std::size_t n) noexcept {
    if constexpr (std::endian::native == std::endian::little) {
        for (; n >= 64;
             codes += 8, packed += Bits, n -= 8) { // a word is written whole: the next ones overwrite its rest
            std::uint64_t word;
            std::memcpy(&word, codes, 8);
            word = word_of_codes<Bits>::pack(word);
            std::memcpy(packed, &word, 8);
        }
        for (; n >= 8; codes += 8, packed += Bits, n -= 8) {
            std::uint64_t word;
            std::memcpy(&word, codes, 8);
            word = word_of_codes<Bits>::pack(word);
            std::memcpy(packed, &word, Bits);
        }
    }
    core_detail::pack_words(codes, packed, n, Bits);
}
template <unsigned Bits>
inline void unpack_in_words(const std::uint8_t* packed, std::uint8_t* codes, std::size_t n, bool is_signed) noexcept {
    if constexpr (std::endian::native == std::endian::little) {
        for (; n >= 64; packed += Bits, codes += 8, n -= 8) {
            std::uint64_t word;
            std::memcpy(&word, packed, 8); // reads into the next words
            word = word_of_codes<Bits>::unpack(word, is_signed);
            std::memcpy(codes, &word, 8);
        }
        for (; n >= 8; packed += Bits, codes += 8, n -= 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, packed, Bits);
            word = word_of_codes<Bits>::unpack(word, is_signed);
            std::memcpy(codes, &word, 8);
        }
    }
    if (is_signed)
        core_detail::unpack_words(packed, reinterpret_cast<std::int8_t*>(codes), n, Bits, true);
    else
        core_detail::unpack_words(packed, codes, n, Bits, false);
}

// ---- registers ------------------------------------------------------------------------------------------------------------
// The operations below work in lanes of 16 bytes on every width of register, so that the algorithms are written once.

template <class Arch> struct byte_register { using type = void; };

#if QUANT_HAS_XSIMD && defined(__SSSE3__)
struct byte_register_128 {
    using type = __m128i;
    static constexpr std::size_t size = 16;
    static QUANT_INLINE type load(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
    static QUANT_INLINE void keep(void* p, type x) noexcept { _mm_storeu_si128(static_cast<__m128i*>(p), x); }
    /// The same 16 bytes in every lane.
    static QUANT_INLINE type lanes(const std::uint8_t* p) noexcept { return load(p); }
    static QUANT_INLINE type all8(int x) noexcept { return _mm_set1_epi8(static_cast<char>(x)); }
    static QUANT_INLINE type all16(int x) noexcept { return _mm_set1_epi16(static_cast<short>(x)); }
    static QUANT_INLINE type all32(std::uint32_t x) noexcept { return _mm_set1_epi32(static_cast<int>(x)); }
    static QUANT_INLINE type all64(std::uint64_t x) noexcept { return _mm_set1_epi64x(static_cast<long long>(x)); }
    static QUANT_INLINE type both(type a, type b) noexcept { return _mm_and_si128(a, b); }
    static QUANT_INLINE type flip(type a, type b) noexcept { return _mm_xor_si128(a, b); }
    /// Bits of `a` where `mask` is set, of `b` elsewhere.
    static QUANT_INLINE type pick(type mask, type a, type b) noexcept {
        return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
    }
    /// Bits of either where `mask` is set.
    static QUANT_INLINE type either(type mask, type a, type b) noexcept {
        return _mm_and_si128(mask, _mm_or_si128(a, b));
    }
    static QUANT_INLINE type less8(type a, type b) noexcept { return _mm_sub_epi8(a, b); }
    static QUANT_INLINE type shuffle(type x, type from) noexcept { return _mm_shuffle_epi8(x, from); }
    static QUANT_INLINE type add_pairs8(type weights, type x) noexcept { return _mm_maddubs_epi16(weights, x); }
    static QUANT_INLINE type add_pairs16(type x, type weights) noexcept { return _mm_madd_epi16(x, weights); }
    static QUANT_INLINE type times16(type a, type b) noexcept { return _mm_mullo_epi16(a, b); }
    template <int N> static QUANT_INLINE type left16(type x) noexcept { return _mm_slli_epi16(x, N); }
    template <int N> static QUANT_INLINE type right16(type x) noexcept { return _mm_srli_epi16(x, N); }
    template <int N> static QUANT_INLINE type left32(type x) noexcept { return _mm_slli_epi32(x, N); }
    template <int N> static QUANT_INLINE type right64(type x) noexcept { return _mm_srli_epi64(x, N); }
    /// 16-bit elements below 256 of a and b to bytes; the lanes of the result are put in order by `order2`, or by `order4`
    /// after doing it twice.
    static QUANT_INLINE type narrow(type a, type b) noexcept { return _mm_packus_epi16(a, b); }
    static QUANT_INLINE type order2(type x) noexcept { return x; }
    static QUANT_INLINE type order4(type x) noexcept { return x; }
    /// size / 2 (size / 4) bytes to 16-bit (32-bit) elements.
    static QUANT_INLINE type load_as16(const std::uint8_t* p) noexcept {
        return _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128());
    }
    static QUANT_INLINE type load_as32(const std::uint8_t* p) noexcept {
        std::int32_t word;
        std::memcpy(&word, p, 4);
        const type bytes = _mm_unpacklo_epi8(_mm_cvtsi32_si128(word), _mm_setzero_si128());
        return _mm_unpacklo_epi16(bytes, _mm_setzero_si128());
    }
    /// The lowest `Count` (even) bytes of every lane, one lane after the other; touches `size` bytes.
    template <int Count> static QUANT_INLINE void keep_lanes(std::uint8_t* p, type x) noexcept { keep(p, x); }
    template <int Count> static QUANT_INLINE type load_lanes(const std::uint8_t* p) noexcept { return load(p); }
    /// size / 8 bytes: the lowest bit of every byte, and every bit as a byte of `one` or zero.
    static QUANT_INLINE void keep_bits(std::uint8_t* p, type x) noexcept {
        const int bits = _mm_movemask_epi8(_mm_slli_epi16(x, 7));
        std::memcpy(p, &bits, 2);
    }
    static QUANT_INLINE type load_bits(const std::uint8_t* p, type one) noexcept {
        std::uint16_t bits;
        std::memcpy(&bits, p, 2);
        const type order = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        const type bit = _mm_set1_epi64x(static_cast<long long>(0x8040201008040201));
        const type mine = _mm_and_si128(_mm_shuffle_epi8(_mm_set1_epi16(static_cast<short>(bits)), order), bit);
        return _mm_and_si128(_mm_cmpeq_epi8(mine, bit), one);
    }
};
template <class Arch>
    requires std::is_base_of_v<xsimd::ssse3, Arch>
struct byte_register<Arch> {
    using type = byte_register_128;
};
#endif

#if QUANT_HAS_XSIMD && defined(__AVX2__)
struct byte_register_256 {
    using type = __m256i;
    static constexpr std::size_t size = 32;
    static QUANT_INLINE type load(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static QUANT_INLINE void keep(void* p, type x) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
    static QUANT_INLINE type lanes(const std::uint8_t* p) noexcept {
        return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static QUANT_INLINE type all8(int x) noexcept { return _mm256_set1_epi8(static_cast<char>(x)); }
    static QUANT_INLINE type all16(int x) noexcept { return _mm256_set1_epi16(static_cast<short>(x)); }
    static QUANT_INLINE type all32(std::uint32_t x) noexcept { return _mm256_set1_epi32(static_cast<int>(x)); }
    static QUANT_INLINE type all64(std::uint64_t x) noexcept { return _mm256_set1_epi64x(static_cast<long long>(x)); }
    static QUANT_INLINE type both(type a, type b) noexcept { return _mm256_and_si256(a, b); }
    static QUANT_INLINE type flip(type a, type b) noexcept { return _mm256_xor_si256(a, b); }
    static QUANT_INLINE type pick(type mask, type a, type b) noexcept {
        return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
    }
    static QUANT_INLINE type either(type mask, type a, type b) noexcept {
        return _mm256_and_si256(mask, _mm256_or_si256(a, b));
    }
    static QUANT_INLINE type less8(type a, type b) noexcept { return _mm256_sub_epi8(a, b); }
    static QUANT_INLINE type shuffle(type x, type from) noexcept { return _mm256_shuffle_epi8(x, from); }
    static QUANT_INLINE type add_pairs8(type weights, type x) noexcept { return _mm256_maddubs_epi16(weights, x); }
    static QUANT_INLINE type add_pairs16(type x, type weights) noexcept { return _mm256_madd_epi16(x, weights); }
    static QUANT_INLINE type times16(type a, type b) noexcept { return _mm256_mullo_epi16(a, b); }
    template <int N> static QUANT_INLINE type left16(type x) noexcept { return _mm256_slli_epi16(x, N); }
    template <int N> static QUANT_INLINE type right16(type x) noexcept { return _mm256_srli_epi16(x, N); }
    template <int N> static QUANT_INLINE type left32(type x) noexcept { return _mm256_slli_epi32(x, N); }
    template <int N> static QUANT_INLINE type right64(type x) noexcept { return _mm256_srli_epi64(x, N); }
    static QUANT_INLINE type narrow(type a, type b) noexcept { return _mm256_packus_epi16(a, b); }
    static QUANT_INLINE type order2(type x) noexcept { return _mm256_permute4x64_epi64(x, 0xD8); }
    static QUANT_INLINE type order4(type x) noexcept {
        return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    static QUANT_INLINE type load_as16(const std::uint8_t* p) noexcept {
        return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static QUANT_INLINE type load_as32(const std::uint8_t* p) noexcept {
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    template <int Count> static QUANT_INLINE void keep_lanes(std::uint8_t* p, type x) noexcept {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(x));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p + Count), _mm256_extracti128_si256(x, 1));
    }
    template <int Count> static QUANT_INLINE type load_lanes(const std::uint8_t* p) noexcept {
        const __m256i low = _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return _mm256_inserti128_si256(low, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + Count)), 1);
    }
    static QUANT_INLINE void keep_bits(std::uint8_t* p, type x) noexcept {
        const int bits = _mm256_movemask_epi8(_mm256_slli_epi16(x, 7));
        std::memcpy(p, &bits, 4);
    }
    static QUANT_INLINE type load_bits(const std::uint8_t* p, type one) noexcept {
        std::int32_t bits;
        std::memcpy(&bits, p, 4);
        const type order = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
        const type bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
        const type mine = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), order), bit);
        return _mm256_and_si256(_mm256_cmpeq_epi8(mine, bit), one);
    }
};
template <class Arch>
    requires std::is_base_of_v<xsimd::avx2, Arch>
struct byte_register<Arch> {
    using type = byte_register_256;
};
#endif

#if QUANT_HAS_XSIMD && defined(__AVX512BW__)
/// From which 16-bit element of the lanes an element of the stream comes (Squeeze), and the way back.
template <int Count, bool Squeeze>
inline constexpr auto word_order = [] {
    std::array<std::uint16_t, 32> order{};
    for (std::size_t lane = 0; lane < 4; ++lane)
        for (std::size_t w = 0; w < Count / 2; ++w) {
            const std::size_t in_stream = lane * (Count / 2) + w, in_lanes = 8 * lane + w;
            order[Squeeze ? in_stream : in_lanes] = static_cast<std::uint16_t>(Squeeze ? in_lanes : in_stream);
        }
    return order;
}();
/// Which byte of the stream a byte of the register comes from: eight codes, `Bits` bytes, to every 64 bits.
template <int Bits>
inline constexpr auto field_bytes = [] {
    std::array<std::uint8_t, 64> from{};
    for (std::size_t i = 0; i < 64; ++i) from[i] = static_cast<std::uint8_t>(i / 8 * Bits + i % 8 % Bits);
    return from;
}();
/// The first `Used` of every `Width` bytes, together at the front.
template <int Width, int Used>
inline constexpr auto squeezed_bytes = [] {
    std::array<std::uint8_t, 64> from{};
    for (std::size_t i = 0; i < 64 / Width * Used; ++i)
        from[i] = static_cast<std::uint8_t>(i / Used * Width + i % Used);
    return from;
}();
// Where an intrinsic has a form with a mask of ones, that one: the other reads an undefined register, of which g++ 12 warns.
struct byte_register_512 {
    using type = __m512i;
    static constexpr std::size_t size = 64;
    static QUANT_INLINE type load(const void* p) noexcept { return _mm512_loadu_si512(p); }
    static QUANT_INLINE void keep(void* p, type x) noexcept { _mm512_storeu_si512(p, x); }
    static QUANT_INLINE type lanes(const std::uint8_t* p) noexcept {
        return _mm512_maskz_broadcast_i32x4(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static QUANT_INLINE type all8(int x) noexcept { return _mm512_set1_epi8(static_cast<char>(x)); }
    static QUANT_INLINE type all16(int x) noexcept { return _mm512_set1_epi16(static_cast<short>(x)); }
    static QUANT_INLINE type all32(std::uint32_t x) noexcept { return _mm512_set1_epi32(static_cast<int>(x)); }
    static QUANT_INLINE type all64(std::uint64_t x) noexcept { return _mm512_set1_epi64(static_cast<long long>(x)); }
    static QUANT_INLINE type both(type a, type b) noexcept { return _mm512_and_si512(a, b); }
    static QUANT_INLINE type flip(type a, type b) noexcept { return _mm512_xor_si512(a, b); }
    static QUANT_INLINE type pick(type mask, type a, type b) noexcept {
        return _mm512_ternarylogic_epi64(mask, a, b, 0xCA);
    }
    static QUANT_INLINE type either(type mask, type a, type b) noexcept {
        return _mm512_ternarylogic_epi64(mask, a, b, 0xE0);
    }
    static QUANT_INLINE type less8(type a, type b) noexcept { return _mm512_sub_epi8(a, b); }
    static QUANT_INLINE type shuffle(type x, type from) noexcept { return _mm512_shuffle_epi8(x, from); }
    static QUANT_INLINE type add_pairs8(type weights, type x) noexcept { return _mm512_maddubs_epi16(weights, x); }
    static QUANT_INLINE type add_pairs16(type x, type weights) noexcept { return _mm512_madd_epi16(x, weights); }
    static QUANT_INLINE type times16(type a, type b) noexcept { return _mm512_mullo_epi16(a, b); }
    template <int N> static QUANT_INLINE type left16(type x) noexcept { return _mm512_slli_epi16(x, N); }
    template <int N> static QUANT_INLINE type right16(type x) noexcept { return _mm512_srli_epi16(x, N); }
    template <int N> static QUANT_INLINE type left32(type x) noexcept { return _mm512_maskz_slli_epi32(0xFFFF, x, N); }
    template <int N> static QUANT_INLINE type right64(type x) noexcept { return _mm512_maskz_srli_epi64(0xFF, x, N); }
    static QUANT_INLINE type narrow(type a, type b) noexcept { return _mm512_packus_epi16(a, b); }
    static QUANT_INLINE type order2(type x) noexcept {
        return _mm512_maskz_permutexvar_epi64(0xFF, _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), x);
    }
    static QUANT_INLINE type order4(type x) noexcept {
        const type order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        return _mm512_maskz_permutexvar_epi32(0xFFFF, order, x);
    }
    static QUANT_INLINE type load_as16(const std::uint8_t* p) noexcept {
        return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static QUANT_INLINE type load_as32(const std::uint8_t* p) noexcept {
        return _mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    template <int Count> static QUANT_INLINE void keep_lanes(std::uint8_t* p, type x) noexcept {
        keep(p, _mm512_maskz_permutexvar_epi16(0xFFFFFFFF, load(word_order<Count, true>.data()), x));
    }
    template <int Count> static QUANT_INLINE type load_lanes(const std::uint8_t* p) noexcept {
        return _mm512_maskz_permutexvar_epi16(0xFFFFFFFF, load(word_order<Count, false>.data()), load(p));
    }
    static QUANT_INLINE void keep_bits(std::uint8_t* p, type x) noexcept {
        const std::uint64_t bits = _mm512_test_epi8_mask(x, all8(1));
        std::memcpy(p, &bits, 8);
    }
    static QUANT_INLINE type load_bits(const std::uint8_t* p, type one) noexcept {
        std::uint64_t bits;
        std::memcpy(&bits, p, 8);
        return _mm512_maskz_mov_epi8(bits, one);
    }
};
#if defined(__AVX512VBMI__)
/// Where bytes cross lanes freely and every byte has a shift of its own, cutting codes out is three instructions.
struct byte_register_512_fields : byte_register_512 {
    /// 64 codes of `Bits` bits, each in the low bits of its byte, with others above it. Reads up to `size` bytes.
    template <int Bits> static QUANT_INLINE type load_fields(const std::uint8_t* p) noexcept {
        type bytes; // no more of them than 64 codes need, where that is a register's width
        if constexpr (Bits == 2)
            bytes = _mm512_zextsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        else if constexpr (Bits == 4)
            bytes = _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        else
            bytes = load(p);
        const type eights = _mm512_maskz_permutexvar_epi8(~__mmask64{0}, load(field_bytes<Bits>.data()), bytes);
        const type first_bits = all64(Bits * std::uint64_t{0x0706050403020100});
        return _mm512_maskz_multishift_epi64_epi8(~__mmask64{0}, first_bits, eights);
    }
    /// The way back of the bytes: the first `Used` of every `Width`, together at the front.
    template <int Width, int Used> static QUANT_INLINE type squeeze(type x) noexcept {
        return _mm512_maskz_permutexvar_epi8(~__mmask64{0}, load(squeezed_bytes<Width, Used>.data()), x);
    }
    /// Entry (x mod 64) of a table, for every byte x.
    static QUANT_INLINE type look_up(type table, type x) noexcept {
        return _mm512_maskz_permutexvar_epi8(~__mmask64{0}, x, table);
    }
};
#else
using byte_register_512_fields = byte_register_512;
#endif
template <class Arch>
    requires std::is_base_of_v<xsimd::avx512bw, Arch>
struct byte_register<Arch> {
    using type =
        std::conditional_t<std::is_base_of_v<xsimd::avx512vbmi, Arch>, byte_register_512_fields, byte_register_512>;
};
#endif

// ---- in registers ---------------------------------------------------------------------------------------------------------

/// Constants of the widths that no power of two divides: where bytes go within a lane of 16 codes.
template <int Bits> struct lane_pattern {
    std::uint8_t squeeze[16]; ///< the first Bits of every 8 bytes (3 of 4 for 6 bits), moved together
    std::uint8_t even[16];    ///< for code 2t the two bytes its bits begin in
    std::uint8_t odd[16];
    std::uint8_t even_factor[16]; ///< 2^k, little-endian: moves code 2t to the highest bits of 16
    std::uint8_t odd_factor[16];  ///< moves code 2t + 1 to bit 8
};
template <int Bits> constexpr lane_pattern<Bits> make_lane_pattern() noexcept {
    lane_pattern<Bits> p{};
    constexpr int width = Bits == 6 ? 4 : 8, used = width * Bits / 8;
    for (int i = 0; i < 16; ++i)
        p.squeeze[i] = static_cast<std::uint8_t>(i < 2 * Bits ? i / used * width + i % used : 0x80);
    for (int t = 0; t < 8; ++t) {
        const int even = 2 * t * Bits, odd = even + Bits;
        for (int b = 0; b < 2; ++b) {
            p.even[2 * t + b] = static_cast<std::uint8_t>(even / 8 + b);
            p.odd[2 * t + b] = static_cast<std::uint8_t>(odd / 8 + b);
            p.even_factor[2 * t + b] = static_cast<std::uint8_t>((1 << (16 - Bits - even % 8)) >> (8 * b));
            p.odd_factor[2 * t + b] = static_cast<std::uint8_t>((1 << (8 - odd % 8)) >> (8 * b));
        }
    }
    return p;
}
template <int Bits> inline constexpr lane_pattern<Bits> lane_pattern_of = make_lane_pattern<Bits>();

/// The value of every raw code with whatever stands above it: [1] extends the sign.
template <int Bits>
inline constexpr auto code_values = [] {
    std::array<std::array<std::uint8_t, 64>, 2> values{};
    for (int is_signed = 0; is_signed < 2; ++is_signed)
        for (int raw = 0, sign = is_signed << (Bits - 1); raw < 64; ++raw)
            values[static_cast<std::size_t>(is_signed)][static_cast<std::size_t>(raw)] =
                static_cast<std::uint8_t>(((raw & ((1 << Bits) - 1)) ^ sign) - sign);
    return values;
}();

/// Packs what registers can, from the front; returns how many codes that was, a multiple of 8.
template <class R, int Bits>
QUANT_INLINE std::size_t pack_in_registers(const std::uint8_t* codes, std::uint8_t* packed, std::size_t n) noexcept {
    using reg = typename R::type;
    constexpr std::size_t size = R::size;
    std::size_t i = 0;
    if constexpr (Bits == 1) {
        for (; i + size <= n; i += size, packed += size / 8) R::keep_bits(packed, R::load(codes + i));
    } else if constexpr (Bits == 2 || Bits == 4) {
        const reg mask = R::all8((1 << Bits) - 1), pair = R::all16((1 << (8 + Bits)) + 1);
        const auto pairs = [&](std::size_t at) { // in 16-bit elements, of 2 * Bits bits each
            return R::add_pairs8(pair, R::both(R::load(codes + at), mask));
        };
        if constexpr (Bits == 4) {
            for (; i + 2 * size <= n; i += 2 * size, packed += size)
                R::keep(packed, R::order2(R::narrow(pairs(i), pairs(i + size))));
        } else {
            const reg four = R::all16((1 << 12) + 1);
            for (; i + 4 * size <= n; i += 4 * size, packed += size) {
                const reg ab = R::add_pairs8(four, R::narrow(pairs(i), pairs(i + size)));
                const reg cd = R::add_pairs8(four, R::narrow(pairs(i + 2 * size), pairs(i + 3 * size)));
                R::keep(packed, R::order4(R::narrow(ab, cd)));
            }
        }
    } else {
        // Codes of 3 bits are joined to pairs, and the pairs of two registers taken for codes of 6.
        constexpr int field = Bits == 3 ? 6 : Bits;
        constexpr std::size_t step = size * field / Bits;
        const reg mask = R::all8((1 << Bits) - 1), pair = R::all16((1 << (8 + field)) + 1);
        const reg four = R::all32((std::uint32_t{1} << (16 + 2 * field)) + 1);
        [[maybe_unused]] const reg pair_of_3 = R::all16((1 << (8 + Bits)) + 1);
        [[maybe_unused]] const reg low_four = R::all64((std::uint64_t{1} << (4 * field)) - 1);
        [[maybe_unused]] const reg squeeze = R::lanes(lane_pattern_of<field>.squeeze);
        const auto fields = [&](std::size_t at) {
            if constexpr (Bits == 3) {
                const reg first = R::add_pairs8(pair_of_3, R::both(R::load(codes + at), mask));
                const reg second = R::add_pairs8(pair_of_3, R::both(R::load(codes + at + size), mask));
                return R::order2(R::narrow(first, second));
            } else {
                return R::both(R::load(codes + at), mask);
            }
        };
        const auto keep_step = [&](std::uint8_t* to, std::size_t at) { // writes a whole register
            reg whole = R::add_pairs16(R::add_pairs8(pair, fields(at)), four);
            if constexpr (field != 6) // four of 6 are whole bytes already, of the others eight
                whole = R::pick(low_four, whole, R::template right64<32 - 4 * field>(whole));
            constexpr int width = field == 6 ? 4 : 8, used = width * field / 8;
            if constexpr (requires { R::template squeeze<width, used>(whole); })
                R::keep(to, R::template squeeze<width, used>(whole));
            else
                R::template keep_lanes<2 * field>(to, R::shuffle(whole, squeeze));
        };
        // A store goes past its codes' bytes, which the codes after it must cover.
        constexpr std::size_t covered = (8 * size + Bits - 1) / Bits;
        for (; i + covered + 8 <= n; i += step, packed += step / 8 * Bits) keep_step(packed, i);
        for (; i + step <= n; i += step, packed += step / 8 * Bits) {
            std::uint8_t bytes[size];
            keep_step(bytes, i);
            std::memcpy(packed, bytes, step / 8 * Bits);
        }
    }
    return i;
}

/// The inverse.
template <class R, int Bits>
QUANT_INLINE std::size_t unpack_in_registers(const std::uint8_t* packed, std::uint8_t* codes, std::size_t n,
                                             bool is_signed) noexcept {
    using reg = typename R::type;
    constexpr std::size_t size = R::size;
    std::size_t i = 0;
    if constexpr (Bits == 1) {
        const reg one = R::all8(is_signed ? -1 : 1);
        for (; i + size <= n; i += size, packed += size / 8) R::keep(codes + i, R::load_bits(packed, one));
    } else if constexpr (requires(const std::uint8_t* p) { R::template load_fields<Bits>(p); }) {
        [[maybe_unused]] const reg table = R::load(code_values<Bits>[is_signed].data());
        [[maybe_unused]] const reg mask = R::all8((1 << Bits) - 1), signs = R::all8(is_signed ? 1 << (Bits - 1) : 0);
        const auto keep_codes = [&](std::size_t at, const std::uint8_t* from) {
            const reg fields = R::template load_fields<Bits>(from);
            if constexpr (Bits <= 6)
                R::keep(codes + at, R::look_up(table, fields));
            else
                R::keep(codes + at, R::less8(R::flip(R::both(fields, mask), signs), signs));
        };
        constexpr std::size_t covered = (8 * size + Bits - 1) / Bits; // a load reads whole registers
        for (; i + covered + 8 <= n; i += size, packed += size / 8 * Bits) keep_codes(i, packed);
        for (; i + size <= n; i += size, packed += size / 8 * Bits) {
            std::uint8_t bytes[size] = {};
            std::memcpy(bytes, packed, size / 8 * Bits);
            keep_codes(i, bytes);
        }
    } else if constexpr (Bits == 2 || Bits == 4) {
        const reg table = R::lanes(code_values<Bits>[is_signed].data());
        if constexpr (Bits == 4) {
            const reg mask = R::all8(0x0F);
            for (; n - i >= size; i += size, packed += size / 2) {
                const reg bytes = R::load_as16(packed);
                R::keep(codes + i, R::shuffle(table, R::either(mask, bytes, R::template left16<4>(bytes))));
            }
        } else {
            const reg mask = R::all8(3), low = R::all32(0x0000FFFF), low8 = R::all16(0x00FF);
            for (; i + size <= n; i += size, packed += size / 4) {
                const reg bytes = R::load_as32(packed);
                const reg fours = R::pick(low, bytes, R::template left32<12>(bytes));
                const reg spread = R::pick(low8, fours, R::template left16<6>(fours));
                R::keep(codes + i, R::shuffle(table, R::both(spread, mask)));
            }
        }
    } else {
        constexpr auto& pattern = lane_pattern_of<Bits>;
        const reg even = R::lanes(pattern.even), odd = R::lanes(pattern.odd);
        const reg even_factor = R::lanes(pattern.even_factor), odd_factor = R::lanes(pattern.odd_factor);
        const reg high = R::all16(((1 << Bits) - 1) << 8), sign = R::all8(is_signed ? 1 << (Bits - 1) : 0);
        const auto keep_codes = [&](std::size_t at, const std::uint8_t* from) {
            const reg lanes = R::template load_lanes<2 * Bits>(from);
            const reg low_code = R::template right16<16 - Bits>(R::times16(R::shuffle(lanes, even), even_factor));
            const reg high_code = R::times16(R::shuffle(lanes, odd), odd_factor);
            R::keep(codes + at, R::less8(R::flip(R::pick(high, high_code, low_code), sign), sign));
        };
        constexpr std::size_t covered = (8 * size + Bits - 1) / Bits; // a load reads whole registers
        for (; i + covered + 8 <= n; i += size, packed += size / 8 * Bits) keep_codes(i, packed);
        for (; i + size <= n; i += size, packed += size / 8 * Bits) {
            std::uint8_t bytes[size] = {};
            std::memcpy(bytes, packed, size / 8 * Bits);
            keep_codes(i, bytes);
        }
    }
    return i;
}

/// All codes of one width.
template <class Arch, int Bits>
#if defined(__GNUC__)
[[gnu::noinline]] // where it is inlined, g++ keeps pointers and constants on the stack and reads them at every step
#endif
inline void
pack_width(const std::uint8_t* codes, std::uint8_t* packed, std::size_t n) noexcept {
    std::size_t done = 0;
    using registers = typename byte_register<Arch>::type;
    if constexpr (!std::is_void_v<registers>) done = pack_in_registers<registers, Bits>(codes, packed, n);
    if (done != n) pack_in_words<Bits>(codes + done, packed + done / 8 * Bits, n - done);
}
template <class Arch, int Bits>
#if defined(__GNUC__)
[[gnu::noinline]]
#endif
inline void
unpack_width(const std::uint8_t* packed, std::uint8_t* codes, std::size_t n, bool is_signed) noexcept {
    std::size_t done = 0;
    using registers = typename byte_register<Arch>::type;
    if constexpr (!std::is_void_v<registers>) done = unpack_in_registers<registers, Bits>(packed, codes, n, is_signed);
    if (done != n) unpack_in_words<Bits>(packed + done / 8 * Bits, codes + done, n - done, is_signed);
}

/// Calls f(std::integral_constant<int, bits>) for a width of 1 to 7.
template <class F> QUANT_INLINE void with_width(unsigned bits, F f) noexcept {
    switch (bits) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 5: return f(std::integral_constant<int, 5>{});
    case 6: return f(std::integral_constant<int, 6>{});
    default: return f(std::integral_constant<int, 7>{});
    }
}

inline constexpr std::size_t packing_tile = 1024; ///< codes cut from 16 to 8 bits, or extended, at a time

} // namespace detail

/// Packs n codes of `bits` (1 to 8, 16) bits; bits of a code above that are cut off. Writes packed_bytes bytes. Bit-exact.
template <class Arch = native, code_storage Code>
inline void pack_codes(const Code* codes, std::uint8_t* packed, std::size_t n, unsigned bits) noexcept {
    using namespace detail;
    if constexpr (is_scalar<Arch>) {
        core_detail::pack_words(codes, packed, n, bits);
    } else if constexpr (sizeof(Code) == 2) {
        if (bits == 16 && std::endian::native == std::endian::little) {
            if (n != 0) std::memcpy(packed, codes, 2 * n);
        } else if (bits == 16) {
            core_detail::pack_words(codes, packed, n, bits);
        } else {
            std::uint8_t low[packing_tile];
            for (std::size_t i = 0; i < n; i += packing_tile, packed += packing_tile / 8 * bits) {
                const std::size_t count = n - i < packing_tile ? n - i : packing_tile;
                for (std::size_t j = 0; j < count; ++j) low[j] = static_cast<std::uint8_t>(codes[i + j]);
                simd::pack_codes<Arch>(low, packed, count, bits);
            }
        }
    } else if (bits == 8) {
        if (n != 0) std::memcpy(packed, codes, n);
    } else {
        const auto* from = reinterpret_cast<const std::uint8_t*>(codes); // the sign is bits like any other
        with_width(bits, [&](auto width) { pack_width<Arch, width()>(from, packed, n); });
    }
}

/// The inverse: reads packed_bytes bytes, extends the sign of signed codes. Bit-exact.
template <class Arch = native, code_storage Code>
inline void unpack_codes(const std::uint8_t* packed, Code* codes, std::size_t n, unsigned bits,
                         bool is_signed) noexcept {
    using namespace detail;
    if constexpr (is_scalar<Arch>) {
        core_detail::unpack_words(packed, codes, n, bits, is_signed);
    } else if constexpr (sizeof(Code) == 2) {
        if (bits == 16 && std::endian::native == std::endian::little) {
            if (n != 0) std::memcpy(codes, packed, 2 * n);
        } else if (bits == 16) {
            core_detail::unpack_words(packed, codes, n, bits, is_signed);
        } else {
            std::uint8_t narrow[packing_tile];
            for (std::size_t i = 0; i < n; i += packing_tile, packed += packing_tile / 8 * bits) {
                const std::size_t count = n - i < packing_tile ? n - i : packing_tile;
                simd::unpack_codes<Arch>(packed, narrow, count, bits, is_signed);
                if (is_signed)
                    for (std::size_t j = 0; j < count; ++j)
                        codes[i + j] = static_cast<Code>(static_cast<std::int8_t>(narrow[j]));
                else
                    for (std::size_t j = 0; j < count; ++j) codes[i + j] = narrow[j];
            }
        }
    } else if (bits == 8) {
        if (n != 0) std::memcpy(codes, packed, n);
    } else {
        auto* to = reinterpret_cast<std::uint8_t*>(codes);
        with_width(bits, [&](auto width) { unpack_width<Arch, width()>(packed, to, n, is_signed); });
    }
}

// ---- groups with scales of their own (simd/groups.hpp) ------------------------------------------------------------------------

#if QUANT_HAS_XSIMD
namespace detail {

/// Whether lane_maxima has an implementation better than its generic twin.
template <class Arch>
inline constexpr bool has_lane_maxima =
    std::is_base_of_v<xsimd::avx2, Arch> || std::is_base_of_v<xsimd::avx512bw, Arch>;

/// The signed maximum of the bits of group g in lane g of `high`, the unsigned one in lane g of `low`; as many groups as lanes, of
/// `registers` >= 1 registers each, one after the other. Plain C++.
template <class Arch>
inline void lane_maxima_generic(const float* x, std::size_t registers, xsimd::batch<std::int32_t, Arch>& high,
                                xsimd::batch<std::uint32_t, Arch>& low) noexcept {
    constexpr std::size_t lanes = xsimd::batch<std::int32_t, Arch>::size;
    std::int32_t highs[lanes];
    std::uint32_t lows[lanes];
    for (std::size_t g = 0; g < lanes; ++g, x += registers * lanes) {
        highs[g] = std::bit_cast<std::int32_t>(*x);
        lows[g] = std::bit_cast<std::uint32_t>(*x);
        for (std::size_t i = 1; i < registers * lanes; ++i) {
            const auto s = std::bit_cast<std::int32_t>(x[i]);
            const auto u = std::bit_cast<std::uint32_t>(x[i]);
            highs[g] = s > highs[g] ? s : highs[g];
            lows[g] = u > lows[g] ? u : lows[g];
        }
    }
    high = xsimd::batch<std::int32_t, Arch>::load_unaligned(highs);
    low = xsimd::batch<std::uint32_t, Arch>::load_unaligned(lows);
}

#if defined(__AVX2__)
struct maxima_256 {
    __m256i high, low;
    static QUANT_INLINE maxima_256 load(const float* p) noexcept {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return {x, x};
    }
    static QUANT_INLINE maxima_256 of(maxima_256 a, maxima_256 b) noexcept {
        return {_mm256_max_epi32(a.high, b.high), _mm256_max_epu32(a.low, b.low)};
    }
    /// Halves onto halves: a's result in the lower one, b's in the upper one.
    static QUANT_INLINE maxima_256 halves(maxima_256 a, maxima_256 b) noexcept {
        const auto kept = [](__m256i x, __m256i y) { return _mm256_blend_epi32(x, y, 0xF0); };
        const auto moved = [](__m256i x, __m256i y) { return _mm256_permute2x128_si256(x, y, 0x21); };
        return of({kept(a.high, b.high), kept(a.low, b.low)}, {moved(a.high, b.high), moved(a.low, b.low)});
    }
    template <int First, int Second> static QUANT_INLINE __m256i pairs(__m256i x, __m256i y) noexcept {
        constexpr int order = First | Second << 2 | First << 4 | Second << 6;
        return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(y), order));
    }
    /// In every 128 bits: elements 0 and 1 of the result are a's, 2 and 3 b's.
    template <int A, int B, int C, int D> static QUANT_INLINE maxima_256 fold(maxima_256 a, maxima_256 b) noexcept {
        return of({pairs<A, B>(a.high, b.high), pairs<A, B>(a.low, b.low)},
                  {pairs<C, D>(a.high, b.high), pairs<C, D>(a.low, b.low)});
    }
};
#endif
#if defined(__AVX512BW__)
// Where an intrinsic has a form with a mask of ones, that one: the other reads an undefined register, of which g++ 12 warns.
struct maxima_512 {
    __m512i high, low;
    static QUANT_INLINE maxima_512 load(const float* p) noexcept {
        const __m512i x = _mm512_loadu_si512(p);
        return {x, x};
    }
    static QUANT_INLINE maxima_512 of(maxima_512 a, maxima_512 b) noexcept {
        return {_mm512_maskz_max_epi32(0xFFFF, a.high, b.high), _mm512_maskz_max_epu32(0xFFFF, a.low, b.low)};
    }
    static QUANT_INLINE maxima_512 halves(maxima_512 a, maxima_512 b) noexcept {
        const auto kept = [](__m512i x, __m512i y) { return _mm512_mask_blend_epi32(0xFF00, x, y); };
        const auto moved = [](__m512i x, __m512i y) { return _mm512_maskz_shuffle_i64x2(0xFF, x, y, 0x4E); };
        return of({kept(a.high, b.high), kept(a.low, b.low)}, {moved(a.high, b.high), moved(a.low, b.low)});
    }
    /// After `halves`: the four results in 128 bits each.
    static QUANT_INLINE maxima_512 quarters(maxima_512 a, maxima_512 b) noexcept {
        const auto even = [](__m512i x, __m512i y) { return _mm512_maskz_shuffle_i64x2(0xFF, x, y, 0x88); };
        const auto odd = [](__m512i x, __m512i y) { return _mm512_maskz_shuffle_i64x2(0xFF, x, y, 0xDD); };
        return of({even(a.high, b.high), even(a.low, b.low)}, {odd(a.high, b.high), odd(a.low, b.low)});
    }
    template <int First, int Second> static QUANT_INLINE __m512i pairs(__m512i x, __m512i y) noexcept {
        constexpr int order = First | Second << 2 | First << 4 | Second << 6;
        return _mm512_castps_si512(
            _mm512_maskz_shuffle_ps(0xFFFF, _mm512_castsi512_ps(x), _mm512_castsi512_ps(y), order));
    }
    template <int A, int B, int C, int D> static QUANT_INLINE maxima_512 fold(maxima_512 a, maxima_512 b) noexcept {
        return of({pairs<A, B>(a.high, b.high), pairs<A, B>(a.low, b.low)},
                  {pairs<C, D>(a.high, b.high), pairs<C, D>(a.low, b.low)});
    }
};
#endif

/// Maxima of one group, lane by lane.
template <class M, std::size_t Lanes> QUANT_INLINE M group_maxima(const float* x, std::size_t registers) noexcept {
    M m = M::load(x);
    if (registers == 2) return M::of(m, M::load(x + Lanes));
    if (registers > 2) // then a multiple of 4
        for (std::size_t i = 0; i < registers; i += 2)
            m = M::of(m, M::of(M::load(x + i * Lanes), M::load(x + (i + 1) * Lanes)));
    return m;
}

/// The same as a tree over all groups of the block: every step halves what is left of two of them and puts it side by side.
/// `registers` is 1, 2 or a multiple of 4.
template <class Arch>
QUANT_INLINE void lane_maxima(const float* x, std::size_t registers, xsimd::batch<std::int32_t, Arch>& high,
                              xsimd::batch<std::uint32_t, Arch>& low) noexcept {
    [[maybe_unused]] constexpr std::size_t lanes = xsimd::batch<std::int32_t, Arch>::size;
    [[maybe_unused]] const std::size_t group = registers * lanes;
    // Within 128 bits: elements (0, 1) against (2, 3), then 0 against 1. So element j of 128-bit lane l is group 4 * l + j.
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        using m = maxima_512;
        const auto of = [&](std::size_t g) __attribute__((always_inline)) {
            return group_maxima<m, lanes>(x + g * group, registers);
        };
        const auto column = [&](std::size_t j) __attribute__((always_inline)) {
            const m lower = m::halves(of(j), of(j + 4));
            return m::quarters(lower, m::halves(of(j + 8), of(j + 12)));
        };
        const m first = m::fold<0, 1, 2, 3>(column(0), column(1));
        const m all = m::fold<0, 2, 1, 3>(first, m::fold<0, 1, 2, 3>(column(2), column(3)));
        high = all.high;
        low = all.low;
        return;
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        using m = maxima_256;
        const auto column = [&](std::size_t j) __attribute__((always_inline)) {
            return m::halves(group_maxima<m, lanes>(x + j * group, registers),
                             group_maxima<m, lanes>(x + (j + 4) * group, registers));
        };
        const m first = m::fold<0, 1, 2, 3>(column(0), column(1));
        const m all = m::fold<0, 2, 1, 3>(first, m::fold<0, 1, 2, 3>(column(2), column(3)));
        high = all.high;
        low = all.low;
        return;
    } else
#endif
        lane_maxima_generic<Arch>(x, registers, high, low);
}

/// Whether nibble_values exists.
template <class Arch>
inline constexpr bool has_nibble_values =
    std::is_base_of_v<xsimd::avx2, Arch> || std::is_base_of_v<xsimd::avx512bw, Arch>;

/// 4-bit codes of the stream as floats, times a scale: `times(scale).of(packed)` is a register of them.
template <class Arch> class nibble_values;

#if defined(__AVX2__)
template <class Arch>
    requires std::is_base_of_v<xsimd::avx2, Arch>
class nibble_values<Arch> {
public:
    explicit nibble_values(bool is_signed) noexcept : sign_(_mm256_set1_epi32(is_signed ? 8 : 0)) {}
    struct scaled {
        __m256i sign;
        __m256 scale;
        [[nodiscard]] QUANT_INLINE xsimd::batch<float, Arch> of(const std::uint8_t* packed) const noexcept {
            std::int32_t word;
            std::memcpy(&word, packed, 4);
            const __m256i places = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
            const __m256i raw =
                _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), places), _mm256_set1_epi32(15));
            const __m256i code = _mm256_sub_epi32(_mm256_xor_si256(raw, sign), sign);
            return xsimd::batch<float, Arch>(_mm256_mul_ps(_mm256_cvtepi32_ps(code), scale));
        }
    };
    [[nodiscard]] QUANT_INLINE scaled times(xsimd::batch<float, Arch> scale) const noexcept { return {sign_, scale}; }

private:
    __m256i sign_;
};
#endif
#if defined(__AVX512BW__)
/// A register holds all sixteen products: the codes look theirs up.
template <class Arch>
    requires std::is_base_of_v<xsimd::avx512bw, Arch>
class nibble_values<Arch> {
public:
    explicit nibble_values(bool is_signed) noexcept
        : values_(is_signed ? _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1)
                            : _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)) {}
    struct scaled {
        __m512 table;
        [[nodiscard]] QUANT_INLINE xsimd::batch<float, Arch> of(const std::uint8_t* packed) const noexcept {
            std::int32_t first, second;
            std::memcpy(&first, packed, 4);
            std::memcpy(&second, packed + 4, 4);
            const __m512i both = _mm512_mask_set1_epi32(_mm512_set1_epi32(first), 0xFF00, second);
            const __m512i places = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            const __m512i raw =
                _mm512_maskz_srlv_epi32(0xFFFF, both, places); // a look-up reads the lowest four bits only
            return xsimd::batch<float, Arch>(_mm512_maskz_permutexvar_ps(0xFFFF, raw, table));
        }
    };
    [[nodiscard]] QUANT_INLINE scaled times(xsimd::batch<float, Arch> scale) const noexcept {
        return {_mm512_mul_ps(values_, scale)};
    }

private:
    __m512 values_;
};
#endif

} // namespace detail
#endif

// ---- sums of codes ------------------------------------------------------------------------------------------------------------

#if QUANT_HAS_XSIMD
/// Sums of the eight bytes of every 64 bits. Plain C++.
template <class Arch>
inline xsimd::batch<std::uint64_t, Arch> octet_sums_generic(const xsimd::batch<std::uint8_t, Arch>& x) noexcept {
    constexpr std::size_t lanes = xsimd::batch<std::uint64_t, Arch>::size;
    std::uint8_t bytes[8 * lanes];
    std::uint64_t sums[lanes] = {};
    x.store_unaligned(bytes);
    for (std::size_t i = 0; i < 8 * lanes; ++i) sums[i / 8] += bytes[i];
    return xsimd::batch<std::uint64_t, Arch>::load_unaligned(sums);
}

/// The same as the architecture's sum of absolute differences from zero.
template <class Arch>
QUANT_INLINE xsimd::batch<std::uint64_t, Arch> octet_sums(const xsimd::batch<std::uint8_t, Arch>& x) noexcept {
    using sums [[maybe_unused]] = xsimd::batch<std::uint64_t, Arch>;
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
        return sums(_mm512_sad_epu8(x, _mm512_setzero_si512()));
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        return sums(_mm256_sad_epu8(x, _mm256_setzero_si256()));
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        return sums(_mm_sad_epu8(x, _mm_setzero_si128()));
    } else
#endif
        return octet_sums_generic(x);
}

/// Adds up registers of 8-bit codes. Exact for fewer than 2^47 of them.
template <class Arch, code_storage Code> class code_sum {
public:
    static_assert(sizeof(Code) == 1);
    QUANT_INLINE void add(const xsimd::batch<Code, Arch>& codes) noexcept {
        auto bytes = xsimd::bitwise_cast<std::uint8_t>(codes);
        if constexpr (std::is_signed_v<Code>)
            bytes = bytes ^ xsimd::batch<std::uint8_t, Arch>(std::uint8_t{128}); // plus 128
        sums_ = sums_ + octet_sums(bytes);
        ++registers_;
    }
    [[nodiscard]] QUANT_INLINE std::int64_t total() const noexcept {
        constexpr std::size_t lanes = xsimd::batch<std::uint64_t, Arch>::size;
        std::uint64_t lane[lanes];
        sums_.store_unaligned(lane);
        auto sum = std::is_signed_v<Code> ? -static_cast<std::int64_t>(std::size_t{1024} * lanes * registers_)
                                          : std::int64_t{0};
        for (const std::uint64_t part : lane) sum += static_cast<std::int64_t>(part);
        return sum;
    }

private:
    xsimd::batch<std::uint64_t, Arch> sums_{std::uint64_t{0}};
    std::size_t registers_ = 0;
};
#endif

/// The sum of n codes. Exact.
template <class Arch = native, code_storage Code>
[[nodiscard]] inline std::int64_t sum_codes(const Code* codes, std::size_t n) noexcept {
    std::size_t done = 0;
    std::int64_t total = 0;
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch> && sizeof(Code) == 1) {
        constexpr std::size_t size = xsimd::batch<Code, Arch>::size;
        code_sum<Arch, Code> sum;
        for (; n - done >= size; done += size) sum.add(xsimd::batch<Code, Arch>::load_unaligned(codes + done));
        total = sum.total();
    }
#endif
    for (; done < n; ++done) total += codes[done];
    return total;
}

} // namespace simd
QUANT_END_TARGET
