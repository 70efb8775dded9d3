// SPDX-License-Identifier: MIT
#pragma once
// One name per vector operation for batches and for single values, and float to double widening, which xsimd lacks. With it
// a reduction is written once and instantiated for every architecture, the scalar one included. Layer 2 (simd).

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/simd/arch.hpp>
#include <quant/simd/rounded.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

// ---- packs ----------------------------------------------------------------------------------------------------------------

/// `type` is what an architecture computes `T` in; `size` is how many elements that holds.
template <class T, class Arch> struct pack_of;
template <class T> struct pack_of<T, scalar> {
    using type = T;
    static constexpr std::size_t size = 1;
};
#if QUANT_HAS_XSIMD
template <class T, class Arch>
    requires(!std::same_as<Arch, scalar>)
struct pack_of<T, Arch> {
    using type = xsimd::batch<T, Arch>;
    static constexpr std::size_t size = type::size;
};
#endif
template <class T, class Arch> using pack = typename pack_of<T, Arch>::type;

/// Reductions run in 16 virtual lanes: element i of a block belongs to lane i mod 16, whatever the width of a register is.
inline constexpr std::size_t virtual_lanes = 16;

/// The architecture a reduction asked of `Arch` runs on: itself, or scalar where it has no double registers (32-bit NEON)
/// or registers above 16 floats. The bytes are the same.
#if QUANT_HAS_XSIMD
template <class Arch> struct reduction_arch {
    template <class A> static constexpr bool fits() noexcept {
        if constexpr (xsimd::has_simd_register<float, A>::value && xsimd::has_simd_register<double, A>::value)
            return virtual_lanes % xsimd::batch<float, A>::size == 0;
        else
            return false;
    }
    using type = std::conditional_t<fits<Arch>(), Arch, scalar>;
};
template <> struct reduction_arch<scalar> { using type = scalar; };
#else
template <class Arch> struct reduction_arch { using type = scalar; };
#endif
template <class Arch> using reduction_arch_t = typename reduction_arch<Arch>::type;

// ---- one value ------------------------------------------------------------------------------------------------------------

template <class Arch, std::floating_point T>
    requires(std::same_as<Arch, scalar>)
QUANT_INLINE T load(const T* from)
noexcept { return *from; }
template <std::floating_point T> QUANT_INLINE void put(T* to, T x) noexcept { *to = x; }
template <std::floating_point T> QUANT_INLINE T choose(bool condition, T yes, T no) noexcept {
    return condition ? yes : no;
}
template <std::floating_point T> QUANT_INLINE T magnitude(T x) noexcept { return x < 0 ? -x : (x == 0 ? T(0) : x); }
/// The smaller and the larger of two values that are not NaN.
template <std::floating_point T> QUANT_INLINE T smaller(T a, T b) noexcept { return b < a ? b : a; }
template <std::floating_point T> QUANT_INLINE T larger(T a, T b) noexcept { return a < b ? b : a; }
/// The same where a NaN among the two may give either of them: one instruction.
template <std::floating_point T> QUANT_INLINE T quick_smaller(T a, T b) noexcept { return b < a ? b : a; }
template <std::floating_point T> QUANT_INLINE T quick_larger(T a, T b) noexcept { return a < b ? b : a; }
/// Zero plus zeros as long as every x is finite, NaN from the first one on that is not. zero must be 0.
template <std::floating_point T> QUANT_INLINE T watch(T watched, T x, T zero) noexcept { return watched + x * zero; }
/// Keeps a loaded value in its register where a compiler would load it again for every use.
template <std::floating_point T> QUANT_INLINE T held(T x) noexcept { return x; }
/// The lanes of a pack in one, halves onto halves: f(f(...), f(...)).
template <class T, class F>
    requires(std::is_arithmetic_v<T>)
QUANT_INLINE T folded_lanes(T x, F&&)
noexcept { return x; }
/// True in any lane.
QUANT_INLINE bool any_true(bool condition) noexcept { return condition; }
/// Writes the values whose condition holds one after the other and says how many; what follows them in `to`, up to the size
/// of a pack, may be overwritten.
QUANT_INLINE std::size_t put_where(float* to, float x, bool condition) noexcept {
    *to = x;
    return condition ? 1 : 0;
}
/// Every lane a zero of either sign.
template <std::floating_point T> QUANT_INLINE bool is_zero(T x) noexcept { return x == 0; }
/// Neither NaN nor infinity.
template <std::floating_point T> QUANT_INLINE bool finite(T x) noexcept {
    return magnitude(x) <= std::numeric_limits<T>::max();
}
/// Both conditions (the operator that batches and bool share would warn on bool).
QUANT_INLINE bool both(bool a, bool b) noexcept { return a && b; }
QUANT_INLINE bool either(bool a, bool b) noexcept { return a || b; }
/// Toward zero, of |x| < 2^31.
QUANT_INLINE float truncate(float x) noexcept { return static_cast<float>(static_cast<int>(x)); }

/// Toward zero as an integer; for NaN and for what does not fit one, any integer of 2^30 and more in magnitude.
QUANT_INLINE std::int32_t truncated(float x) noexcept {
    return magnitude(x) < 0x1p30f ? static_cast<std::int32_t>(x) : -(std::int32_t{1} << 30); // false for NaN
}
/// Two integers below 2^16 in one.
QUANT_INLINE std::int32_t two_halves(std::int32_t low, std::int32_t high) noexcept { return low | (high << 16); }
/// Whether any lane has a bit of `bits`.
QUANT_INLINE bool any_bit(std::int32_t x, std::int32_t bits) noexcept { return (x & bits) != 0; }
/// -1 for a set sign bit, else 0.
QUANT_INLINE std::int32_t sign_mask(float x) noexcept { return std::bit_cast<std::int32_t>(x) >> 31; }
QUANT_INLINE std::int32_t choose_int(bool condition, std::int32_t yes, std::int32_t no) noexcept {
    return condition ? yes : no;
}
template <class Arch>
    requires(std::same_as<Arch, scalar>)
QUANT_INLINE std::int32_t load_int(const std::int32_t* from)
noexcept { return *from; }
QUANT_INLINE void put(std::int32_t* to, std::int32_t x) noexcept { *to = x; }

/// Writes whole floats of |x| < 2^31 as integers.
QUANT_INLINE void put_int(std::int32_t* to, float x) noexcept { *to = static_cast<std::int32_t>(x); }
/// The leading 26 significant bits: the square of the result is exact in double.
inline constexpr std::uint64_t leading_bits_mask = ~((std::uint64_t{1} << 27) - 1);
QUANT_INLINE double leading_bits(double x) noexcept {
    return std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) & leading_bits_mask);
}

/// a / b, correctly rounded.
template <std::floating_point T> QUANT_INLINE T divided(T a, T b) noexcept { return a / b; }

/// A float pack as doubles, in order: two packs, or one value.
template <class Arch> struct widened {
    static constexpr std::size_t count = pack_of<float, Arch>::size / pack_of<double, Arch>::size;
    pack<double, Arch> part[count];
};
template <class Arch>
    requires(std::same_as<Arch, scalar>)
QUANT_INLINE widened<Arch> as_doubles(float x)
noexcept { return {{static_cast<double>(x)}}; }

/// The same from memory.
template <class Arch>
    requires(std::same_as<Arch, scalar>)
QUANT_INLINE widened<Arch> load_doubles(const float* from)
noexcept { return as_doubles<Arch>(*from); }
/// 1 more where the condition holds.
QUANT_INLINE std::int32_t count_up(std::int32_t to, bool condition) noexcept { return to + (condition ? 1 : 0); }
/// c + a * b for a product that is exact, so that it does not matter whether it is fused.
template <std::floating_point T> QUANT_INLINE T add_exact_product(T c, T a, T b) noexcept { return c + a * b; }

// ---- a batch --------------------------------------------------------------------------------------------------------------
#if QUANT_HAS_XSIMD

template <class Arch, std::floating_point T>
    requires(!std::same_as<Arch, scalar>)
QUANT_INLINE xsimd::batch<T, Arch> load(const T* from)
noexcept { return xsimd::batch<T, Arch>::load_unaligned(from); }
template <class T, class Arch> QUANT_INLINE void put(T* to, const xsimd::batch<T, Arch>& x) noexcept {
    x.store_unaligned(to);
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> choose(const xsimd::batch_bool<T, Arch>& condition, const xsimd::batch<T, Arch>& yes,
                                          const xsimd::batch<T, Arch>& no) noexcept {
    return xsimd::select(condition, yes, no);
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> count_up(const xsimd::batch<std::int32_t, Arch>& to,
                                                       const xsimd::batch_bool<float, Arch>& condition) noexcept {
    using integers = xsimd::batch<std::int32_t, Arch>;
    const auto kept = xsimd::batch_bool_cast<std::int32_t>(condition);
#if defined(__SSE2__)
    if constexpr (sizeof(kept.data) == sizeof(integers::data))
        return to - integers(kept.data); // -1 in the lanes of all bits
    else
#endif
        return xsimd::select(kept, to + integers(1), to); // on AVX-512 one instruction under a mask
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> add_exact_product(const xsimd::batch<T, Arch>& c, const xsimd::batch<T, Arch>& a,
                                                     const xsimd::batch<T, Arch>& b) noexcept {
    return xsimd::fma(a, b, c);
}
template <class T, class Arch> QUANT_INLINE xsimd::batch<T, Arch> magnitude(const xsimd::batch<T, Arch>& x) noexcept {
    return xsimd::abs(x);
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> smaller(const xsimd::batch<T, Arch>& a, const xsimd::batch<T, Arch>& b) noexcept {
    return xsimd::select(b < a, b, a); // xsimd::min treats NaN differently per architecture and version
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> larger(const xsimd::batch<T, Arch>& a, const xsimd::batch<T, Arch>& b) noexcept {
    return xsimd::select(a < b, b, a);
}
template <class Arch>
QUANT_INLINE xsimd::batch<float, Arch> quick_smaller(const xsimd::batch<float, Arch>& a,
                                                     const xsimd::batch<float, Arch>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_min_ps(0xFFFF, a, b); // as for as_doubles: without a false warning of g++ 12
    else
#endif
        return xsimd::min(a, b);
}
template <class Arch>
QUANT_INLINE xsimd::batch<float, Arch> quick_larger(const xsimd::batch<float, Arch>& a,
                                                    const xsimd::batch<float, Arch>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_max_ps(0xFFFF, a, b);
    else
#endif
        return xsimd::max(a, b);
}
template <class Arch>
QUANT_INLINE xsimd::batch<double, Arch> quick_larger(const xsimd::batch<double, Arch>& a,
                                                     const xsimd::batch<double, Arch>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_max_pd(0xFF, a, b);
    else
#endif
        return xsimd::max(a, b);
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> watch(const xsimd::batch<T, Arch>& watched, const xsimd::batch<T, Arch>& x,
                                         const xsimd::batch<T, Arch>& zero) noexcept {
    return xsimd::fma(x, zero, watched);
}
template <class T, class Arch> QUANT_INLINE xsimd::batch<T, Arch> held(xsimd::batch<T, Arch> x) noexcept {
    // g++ would make the load an operand of every instruction that uses it, and the load ports the limit.
#if defined(__GNUC__) && !defined(__clang__) && (defined(__AVX512F__))
    __asm__("" : "+v"(x.data));
#elif defined(__GNUC__) && !defined(__clang__) && (defined(__SSE2__))
    __asm__("" : "+x"(x.data));
#endif
    return x;
}
/// Widths as constants: of a loop over them g++ makes branches that cost more than the sums of a small block.
template <std::size_t Width, class T, class F> QUANT_INLINE void fold_halves(T* lane, F& f) noexcept {
    for (std::size_t i = 0; i < Width; ++i) lane[i] = f(lane[i], lane[i + Width]);
    if constexpr (Width > 1) fold_halves<Width / 2>(lane, f);
}
template <class T, class Arch, class F> QUANT_INLINE T folded_lanes(const xsimd::batch<T, Arch>& x, F&& f) noexcept {
    constexpr std::size_t lanes = xsimd::batch<T, Arch>::size;
    T lane[lanes];
    x.store_unaligned(lane);
    fold_halves<lanes / 2>(lane, f);
    return lane[0];
}
template <class T, class Arch> QUANT_INLINE bool any_true(const xsimd::batch_bool<T, Arch>& condition) noexcept {
    return xsimd::any(condition);
}
#if defined(__AVX2__)
/// Which bits of a byte are set, from the lowest on, a byte each.
inline constexpr auto places_of_bits = [] {
    std::array<std::uint64_t, 256> places{};
    for (unsigned bits = 0; bits < 256; ++bits)
        for (unsigned i = 0, count = 0; i < 8; ++i)
            if ((bits >> i & 1u) != 0) places[bits] |= std::uint64_t{i} << (8 * count++);
    return places;
}();
#endif
template <class Arch>
inline std::size_t put_where_generic(float* to, const xsimd::batch<float, Arch>& x,
                                     const xsimd::batch_bool<float, Arch>& condition) noexcept {
    constexpr std::size_t lanes = xsimd::batch<float, Arch>::size;
    const auto bits = condition.mask();
    if (bits == 0) return 0;
    float lane[lanes];
    x.store_unaligned(lane);
    std::size_t count = 0;
    for (std::size_t i = 0; i < lanes; ++i) {
        to[count] = lane[i];
        count += (bits >> i) & 1u;
    }
    return count;
}
template <class Arch>
QUANT_INLINE std::size_t put_where(float* to, const xsimd::batch<float, Arch>& x,
                                   const xsimd::batch_bool<float, Arch>& condition) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
        _mm512_storeu_ps(to, _mm512_maskz_compress_ps(condition.data, x)); // storing compressed is slow on some
        return static_cast<std::size_t>(std::popcount(static_cast<unsigned>(condition.data)));
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        const auto bits = static_cast<unsigned>(_mm256_movemask_ps(condition.data));
        const __m128i bytes = _mm_cvtsi64_si128(static_cast<long long>(places_of_bits[bits]));
        _mm256_storeu_ps(to, _mm256_permutevar8x32_ps(x, _mm256_cvtepu8_epi32(bytes)));
        return static_cast<std::size_t>(std::popcount(bits));
    } else
#endif
    {
        return put_where_generic(to, x, condition);
    }
}
template <class T, class Arch> QUANT_INLINE bool is_zero(const xsimd::batch<T, Arch>& x) noexcept {
    return xsimd::all(x == xsimd::batch<T, Arch>(T(0)));
}
template <class T, class Arch> QUANT_INLINE xsimd::batch_bool<T, Arch> finite(const xsimd::batch<T, Arch>& x) noexcept {
    return xsimd::abs(x) <= xsimd::batch<T, Arch>(std::numeric_limits<T>::max()); // false for NaN
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch_bool<T, Arch> both(const xsimd::batch_bool<T, Arch>& a,
                                             const xsimd::batch_bool<T, Arch>& b) noexcept {
    return a & b;
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch_bool<T, Arch> either(const xsimd::batch_bool<T, Arch>& a,
                                               const xsimd::batch_bool<T, Arch>& b) noexcept {
    return a | b;
}
template <class Arch> QUANT_INLINE xsimd::batch<float, Arch> truncate(const xsimd::batch<float, Arch>& x) noexcept {
    return xsimd::to_float(xsimd::to_int(x));
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> choose_int(const xsimd::batch_bool<float, Arch>& condition,
                                                         const xsimd::batch<std::int32_t, Arch>& yes,
                                                         const xsimd::batch<std::int32_t, Arch>& no) noexcept {
    return xsimd::select(xsimd::batch_bool_cast<std::int32_t>(condition), yes, no);
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> truncated(const xsimd::batch<float, Arch>& x) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_cvttps_epi32(0xFFFF, x); // the same instruction, and as above without a false warning
    else
#endif
    {
        const auto whole = xsimd::to_int(x);
        if constexpr (converts_invalid_to_lowest<Arch>)
            return whole;
        else // a NaN may convert to 0
            return choose_int(x == x, whole, xsimd::batch<std::int32_t, Arch>(-(std::int32_t{1} << 30)));
    }
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> two_halves(const xsimd::batch<std::int32_t, Arch>& low,
                                                         const xsimd::batch<std::int32_t, Arch>& high) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return low | xsimd::batch<std::int32_t, Arch>(_mm512_maskz_slli_epi32(0xFFFF, high, 16));
    else
#endif
        return low | (high << 16);
}
template <class Arch> QUANT_INLINE bool any_bit(const xsimd::batch<std::int32_t, Arch>& x, std::int32_t bits) noexcept {
    using integers = xsimd::batch<std::int32_t, Arch>;
    return xsimd::any((x & integers(bits)) != integers(0));
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> sign_mask(const xsimd::batch<float, Arch>& x) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_srai_epi32(0xFFFF, _mm512_castps_si512(x), 31);
    else
#endif
        return xsimd::bitwise_cast<std::int32_t>(x) >> 31;
}
template <class Arch>
    requires(!std::same_as<Arch, scalar>)
QUANT_INLINE xsimd::batch<std::int32_t, Arch> load_int(const std::int32_t* from)
noexcept { return xsimd::batch<std::int32_t, Arch>::load_unaligned(from); }
template <class Arch> QUANT_INLINE void put_int(std::int32_t* to, const xsimd::batch<float, Arch>& x) noexcept {
    xsimd::to_int(x).store_unaligned(to);
}
template <class Arch>
QUANT_INLINE xsimd::batch<double, Arch> leading_bits(const xsimd::batch<double, Arch>& x) noexcept {
    using bits = xsimd::batch<std::uint64_t, Arch>;
    return xsimd::bitwise_cast<double>(xsimd::bitwise_cast<std::uint64_t>(x) & bits(leading_bits_mask));
}

/// a + b and a - b of integers. On ARM xsimd 13.2 reaches them through a table of functions, which g++ 12 calls one vector at a time.
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> plus(const xsimd::batch<T, Arch>& a, const xsimd::batch<T, Arch>& b) noexcept {
#if defined(__ARM_NEON) && defined(__GNUC__)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>) return xsimd::batch<T, Arch>(a.data + b.data);
#endif
    return a + b;
}
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> minus(const xsimd::batch<T, Arch>& a, const xsimd::batch<T, Arch>& b) noexcept {
#if defined(__ARM_NEON) && defined(__GNUC__)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>) return xsimd::batch<T, Arch>(a.data - b.data);
#endif
    return a - b;
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int16_t, Arch> plus_saturated(const xsimd::batch<std::int16_t, Arch>& a,
                                                             const xsimd::batch<std::int16_t, Arch>& b) noexcept {
#if defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>) return xsimd::batch<std::int16_t, Arch>(vqaddq_s16(a, b));
#endif
    return xsimd::sadd(a, b);
}

/// floor(a * b / 2^31), or with Round the nearest integer, ties up. 0 <= b. Through memory.
template <bool Round, class Arch>
inline xsimd::batch<std::int32_t, Arch> doubled_high_generic(const xsimd::batch<std::int32_t, Arch>& a,
                                                             const xsimd::batch<std::int32_t, Arch>& b) noexcept {
    constexpr std::size_t lanes = xsimd::batch<std::int32_t, Arch>::size;
    std::int32_t x[lanes], y[lanes];
    a.store_unaligned(x);
    b.store_unaligned(y);
    for (std::size_t i = 0; i < lanes; ++i)
        x[i] = static_cast<std::int32_t>((std::int64_t{x[i]} * y[i] + (Round ? std::int64_t{1} << 30 : 0)) >> 31);
    return xsimd::batch<std::int32_t, Arch>::load_unaligned(x);
}

/// The same through the architecture's products of 64 bits: one of the even lanes and one of the odd ones, whose bits 31 to 62 are
/// moved to where the lanes were.
template <bool Round, class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> doubled_high(const xsimd::batch<std::int32_t, Arch>& a,
                                                           const xsimd::batch<std::int32_t, Arch>& b) noexcept {
    [[maybe_unused]] constexpr long long half = Round ? 1LL << 30 : 0;
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
        // The forms with a mask of ones, as for as_doubles.
        const __m512i nudge = _mm512_set1_epi64(half);
        const __m512i odd_a = _mm512_maskz_srli_epi64(0xFF, a, 32), odd_b = _mm512_maskz_srli_epi64(0xFF, b, 32);
        const __m512i even = _mm512_add_epi64(_mm512_maskz_mul_epi32(0xFF, a, b), nudge);
        const __m512i odd = _mm512_add_epi64(_mm512_maskz_mul_epi32(0xFF, odd_a, odd_b), nudge);
        return _mm512_mask_blend_epi32(0xAAAA, _mm512_maskz_srli_epi64(0xFF, even, 31),
                                       _mm512_maskz_slli_epi64(0xFF, odd, 1));
    } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
        const __m256i nudge = _mm256_set1_epi64x(half);
        const __m256i odd_a = _mm256_srli_epi64(a, 32), odd_b = _mm256_srli_epi64(b, 32);
        const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, b), nudge);
        const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(odd_a, odd_b), nudge);
        return _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xAA);
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        // Products of unsigned lanes: a negative a counts as a + 2^32, which is 2 b too much in the result.
        const __m128i nudge = _mm_set1_epi64x(half);
        const __m128i odd_a = _mm_srli_epi64(a, 32), odd_b = _mm_srli_epi64(b, 32);
        const __m128i even = _mm_add_epi64(_mm_mul_epu32(a, b), nudge);
        const __m128i odd = _mm_add_epi64(_mm_mul_epu32(odd_a, odd_b), nudge);
        const __m128i in_odd = _mm_set_epi32(-1, 0, -1, 0);
        const __m128i high = _mm_or_si128(_mm_andnot_si128(in_odd, _mm_srli_epi64(even, 31)),
                                          _mm_and_si128(in_odd, _mm_slli_epi64(odd, 1)));
        return _mm_sub_epi32(high, _mm_and_si128(_mm_srai_epi32(a, 31), _mm_add_epi32(b, b)));
    } else
#endif
#if defined(__ARM_NEON)
        if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        return xsimd::batch<std::int32_t, Arch>(Round ? vqrdmulhq_s32(a, b) : vqdmulhq_s32(a, b));
    } else
#endif
    {
        return doubled_high_generic<Round>(a, b);
    }
}

/// The smaller and the larger of integers, integers as floats, and the nearest integer with ties to even: xsimd's, on AVX-512 without
/// a false warning of g++ 12 as for as_doubles.
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> quick_smaller(const xsimd::batch<std::int32_t, Arch>& a,
                                                            const xsimd::batch<std::int32_t, Arch>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_min_epi32(0xFFFF, a, b);
    else
#endif
        return xsimd::min(a, b);
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> quick_larger(const xsimd::batch<std::int32_t, Arch>& a,
                                                           const xsimd::batch<std::int32_t, Arch>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_max_epi32(0xFFFF, a, b);
    else
#endif
        return xsimd::max(a, b);
}
template <class Arch>
QUANT_INLINE xsimd::batch<float, Arch> as_floats(const xsimd::batch<std::int32_t, Arch>& a) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_cvtepi32_ps(0xFFFF, a);
    else
#endif
        return xsimd::to_float(a);
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> nearest_int(const xsimd::batch<float, Arch>& a) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_cvtps_epi32(0xFFFF, a);
    else
#endif
        return xsimd::nearbyint_as_int(a);
}

/// a / 2^count, rounded down, and a * 2^count: one count for all lanes, or one for each. On ARM xsimd 13.2 chooses among
/// instructions with a constant count; on AVX-512 see as_doubles.
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> shift_down(const xsimd::batch<std::int32_t, Arch>& a,
                                                         std::int32_t count) noexcept {
#if defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>)
        return xsimd::batch<std::int32_t, Arch>(vshlq_s32(a, vdupq_n_s32(-count)));
#endif
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_sra_epi32(0xFFFF, a, _mm_cvtsi32_si128(count));
#endif
    return a >> count;
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> shift_down(const xsimd::batch<std::int32_t, Arch>& a,
                                                         const xsimd::batch<std::int32_t, Arch>& count) noexcept {
#if defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>)
        return xsimd::batch<std::int32_t, Arch>(vshlq_s32(a, vnegq_s32(count)));
#endif
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) return _mm512_maskz_srav_epi32(0xFFFF, a, count);
#endif
    return a >> count;
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> shift_up(const xsimd::batch<std::int32_t, Arch>& a,
                                                       std::int32_t count) noexcept {
#if defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>)
        return xsimd::batch<std::int32_t, Arch>(vshlq_s32(a, vdupq_n_s32(count)));
#endif
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_sll_epi32(0xFFFF, a, _mm_cvtsi32_si128(count));
#endif
    return a << count;
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> shift_up(const xsimd::batch<std::int32_t, Arch>& a,
                                                       const xsimd::batch<std::int32_t, Arch>& count) noexcept {
#if defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>) return xsimd::batch<std::int32_t, Arch>(vshlq_s32(a, count));
#endif
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) return _mm512_maskz_sllv_epi32(0xFFFF, a, count);
#endif
    return a << count;
}

/// a * 2^count of 16 bits, a count for each lane, 0 to 7; 0 where the count is -1. By doubling where the machine has no such shift.
template <class Arch>
QUANT_INLINE xsimd::batch<std::int16_t, Arch>
shift_up_each_generic(const xsimd::batch<std::int16_t, Arch>& a,
                      const xsimd::batch<std::int16_t, Arch>& count) noexcept {
    using batch = xsimd::batch<std::int16_t, Arch>;
    const batch one = batch(count << 15) >> 15, two = batch(count << 14) >> 15, four = batch(count << 13) >> 15;
    const batch once = a + (a & one);
    const batch twice = once ^ ((once ^ (once << 2)) & two);
    const batch whole = twice ^ ((twice ^ (twice << 4)) & four);
    return xsimd::bitwise_andnot(whole, count >> 15);
}
template <class Arch>
QUANT_INLINE xsimd::batch<std::int16_t, Arch> shift_up_each(const xsimd::batch<std::int16_t, Arch>& a,
                                                            const xsimd::batch<std::int16_t, Arch>& count) noexcept {
#if defined(__AVX512BW__)
    if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>)
        return _mm512_maskz_sllv_epi16(0xFFFFFFFF, a, count); // counts above 15, and so -1, give 0
    else
#endif
        return shift_up_each_generic(a, count);
}

/// a * 2^count of 64 bits.
template <class Arch>
QUANT_INLINE xsimd::batch<std::int64_t, Arch> shift_up(const xsimd::batch<std::int64_t, Arch>& a,
                                                       std::int32_t count) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>)
        return _mm512_maskz_sll_epi64(0xFF, a, _mm_cvtsi32_si128(count));
#endif
    return a << count;
}

/// a + b of 32 bits, saturated.
template <class Arch>
QUANT_INLINE xsimd::batch<std::int32_t, Arch> plus_saturated(const xsimd::batch<std::int32_t, Arch>& a,
                                                             const xsimd::batch<std::int32_t, Arch>& b) noexcept {
    using batch = xsimd::batch<std::int32_t, Arch>;
#if defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>) return batch(vqaddq_s32(a, b));
#endif
    const batch sum = plus(a, b);
    const auto overflows = ((a ^ sum) & (b ^ sum)) < batch(0); // both signs differ from the sum's
    return xsimd::select(overflows, shift_down(sum, 31) ^ batch(std::numeric_limits<std::int32_t>::min()), sum);
}

/// a / b, correctly rounded. xsimd's floats are divided by an estimate and Newton's steps on all of NEON, and those of 64 bits have an
/// instruction that divides; on 32 bits every lane is divided by itself.
template <class T, class Arch>
QUANT_INLINE xsimd::batch<T, Arch> divided(const xsimd::batch<T, Arch>& a, const xsimd::batch<T, Arch>& b) noexcept {
#if defined(__aarch64__) && defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon64, Arch> && std::same_as<T, float>)
        return xsimd::batch<T, Arch>(vdivq_f32(a, b));
#elif defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon, Arch>) {
        T x[xsimd::batch<T, Arch>::size], y[xsimd::batch<T, Arch>::size];
        a.store_unaligned(x);
        b.store_unaligned(y);
        for (std::size_t i = 0; i < xsimd::batch<T, Arch>::size; ++i) x[i] = x[i] / y[i];
        return xsimd::batch<T, Arch>::load_unaligned(x);
    }
#endif
    return a / b;
}
/// c - a * b, with one rounding where has_fma is true. xsimd's own rounds twice on NEON, if the compiler lets it.
template <class Arch>
QUANT_INLINE xsimd::batch<float, Arch> fused_remainder(const xsimd::batch<float, Arch>& c,
                                                       const xsimd::batch<float, Arch>& a,
                                                       const xsimd::batch<float, Arch>& b) noexcept {
#if defined(__aarch64__) && defined(__ARM_NEON)
    if constexpr (std::is_base_of_v<xsimd::neon64, Arch>) return xsimd::batch<float, Arch>(vfmsq_f32(c, a, b));
#endif
    return xsimd::fnma(a, b, c);
}

/// Through memory: what every architecture can do.
template <class Arch> inline widened<Arch> as_doubles_generic(const xsimd::batch<float, Arch>& x) noexcept {
    constexpr std::size_t lanes = xsimd::batch<float, Arch>::size, half = xsimd::batch<double, Arch>::size;
    float narrow[lanes];
    double wide[lanes];
    x.store_unaligned(narrow);
    for (std::size_t i = 0; i < lanes; ++i) wide[i] = static_cast<double>(narrow[i]);
    widened<Arch> out;
    for (std::size_t k = 0; k < widened<Arch>::count; ++k)
        out.part[k] = xsimd::batch<double, Arch>::load_unaligned(wide + k * half);
    return out;
}

/// The same through the architecture's extensions. Exact.
template <class Arch>
    requires(!std::same_as<Arch, scalar>)
QUANT_INLINE widened<Arch> as_doubles(const xsimd::batch<float, Arch>& x)
noexcept {
    using wide [[maybe_unused]] = xsimd::batch<double, Arch>;
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
        // The forms with a mask of ones: the others read an undefined register, of which g++ 12 warns in its own header.
        const __m256d lower = _mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(x), 0);
        const __m256d upper = _mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(x), 1);
        return {{wide(_mm512_maskz_cvtps_pd(0xFF, _mm256_castpd_ps(lower))),
                 wide(_mm512_maskz_cvtps_pd(0xFF, _mm256_castpd_ps(upper)))}};
    } else
#endif
#if defined(__AVX__)
        if constexpr (std::is_base_of_v<xsimd::avx, Arch>) {
        return {{wide(_mm256_cvtps_pd(_mm256_castps256_ps128(x))), wide(_mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)))}};
    } else
#endif
#if defined(__SSE2__)
        if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
        return {{wide(_mm_cvtps_pd(x)), wide(_mm_cvtps_pd(_mm_movehl_ps(x, x)))}};
    } else
#endif
#if defined(__aarch64__)
        if constexpr (std::is_base_of_v<xsimd::neon64, Arch>) {
        return {{wide(vcvt_f64_f32(vget_low_f32(x))), wide(vcvt_high_f64_f32(x))}};
    } else
#endif
    {
        return as_doubles_generic(x);
    }
}
template <class Arch>
    requires(!std::same_as<Arch, scalar>)
QUANT_INLINE widened<Arch> load_doubles(const float* from)
noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
        using wide = xsimd::batch<double, Arch>;
        return {{wide(_mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(from))),
                 wide(_mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(from + 8)))}};
    } else
#endif
    {
        return as_doubles(load<Arch>(from));
    }
}
#endif

} // namespace simd
QUANT_END_TARGET
