// SPDX-License-Identifier: MIT
#pragma once
// Elements brought into another order on their way through the caches: strided ones made dense and back, blocks of a matrix turned
// over. Layer 2 (simd). Nothing is read or written that is not named: what lies between strided elements may be another
// thread's.

#include <cstddef>
#include <cstdint>
#include <quant/core/half.hpp>
#include <quant/simd/arch.hpp>
#include <type_traits>
#include <utility>

QUANT_BEGIN_TARGET
namespace simd {

/// to[i * to_stride] = convert(from[i * from_stride]). Eight loads, then eight stores: two to three times as fast as one of each
/// in turn.
template <class From, class To, class Convert>
#if defined(__GNUC__)
[[gnu::noinline]] // where it is inlined, the strides find no registers
#endif
inline void
copy_strided(const From* from, std::size_t from_stride, To* to, std::size_t to_stride, std::size_t n,
             const Convert& convert) noexcept {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const From* const f = from + i * from_stride;
        const From* const g = f + 4 * from_stride;
        To* const t = to + i * to_stride;
        To* const u = t + 4 * to_stride;
        const To x0 = convert(f[0]), x1 = convert(f[from_stride]), x2 = convert(f[2 * from_stride]),
                 x3 = convert(f[3 * from_stride]), x4 = convert(g[0]), x5 = convert(g[from_stride]),
                 x6 = convert(g[2 * from_stride]), x7 = convert(g[3 * from_stride]);
        t[0] = x0;
        t[to_stride] = x1;
        t[2 * to_stride] = x2;
        t[3 * to_stride] = x3;
        u[0] = x4;
        u[to_stride] = x5;
        u[2 * to_stride] = x6;
        u[3 * to_stride] = x7;
    }
    for (; i < n; ++i) to[i * to_stride] = convert(from[i * from_stride]);
}
/// Every Stride-th element, as a loop with a constant that compilers turn into loads and shuffles.
template <std::size_t Stride, class T> QUANT_INLINE void take_every(const T* from, T* to, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) to[i] = from[i * Stride];
}
template <class T>
inline void copy_strided(const T* from, std::size_t from_stride, T* to, std::size_t to_stride, std::size_t n) noexcept {
    if (to_stride == 1 && from_stride == 2)
        take_every<2>(from, to, n);
    else if (to_stride == 1 && from_stride == 3)
        take_every<3>(from, to, n);
    else if (to_stride == 1 && from_stride == 4)
        take_every<4>(from, to, n);
    else
        copy_strided(from, from_stride, to, to_stride, n, [](T element) { return element; });
}

/// to[c * to_stride + r] = from[r * from_stride + c] for r < rows and c < columns. Plain C++.
template <class T>
inline void transpose_generic(const T* from, std::size_t from_stride, T* to, std::size_t to_stride, std::size_t rows,
                              std::size_t columns) noexcept {
    if (rows < columns)
        for (std::size_t r = 0; r < rows; ++r) copy_strided(from + r * from_stride, 1, to + r, to_stride, columns);
    else
        for (std::size_t c = 0; c < columns; ++c) copy_strided(from + c, from_stride, to + c * to_stride, 1, rows);
}

#if QUANT_HAS_XSIMD
namespace detail {

/// What a register holds in place of a T: the bits are moved, not looked at, so that types of one size share their code.
template <class T> struct register_element { using type = T; };
template <> struct register_element<std::int8_t> { using type = std::uint8_t; };
template <> struct register_element<std::int16_t> { using type = std::uint16_t; };
template <> struct register_element<float16> { using type = std::uint16_t; };
template <> struct register_element<bfloat16> { using type = std::uint16_t; };
template <class T> using register_element_t = typename register_element<T>::type;

/// One of log2(n) rounds: the first half of the registers and the second one, interleaved.
template <class Batch, std::size_t... I>
QUANT_INLINE void interleave(Batch (&r)[sizeof...(I)], std::index_sequence<I...>) noexcept {
    constexpr std::size_t half = sizeof...(I) / 2;
    const Batch out[] = {
        (I % 2 == 0 ? xsimd::zip_lo(r[I / 2], r[I / 2 + half]) : xsimd::zip_hi(r[I / 2], r[I / 2 + half]))...};
    ((r[I] = out[I]), ...);
}

/// A square as wide as a register of 128 bits.
template <class Arch, class T> struct square {
    static constexpr std::size_t size = xsimd::batch<T, Arch>::size;
    static QUANT_INLINE void transpose(const T* from, std::size_t from_stride, T* to, std::size_t to_stride) noexcept {
        transpose(from, from_stride, to, to_stride, std::make_index_sequence<size>{});
    }

private:
    template <std::size_t... I>
    static QUANT_INLINE void transpose(const T* from, std::size_t from_stride, T* to, std::size_t to_stride,
                                       std::index_sequence<I...> all) noexcept {
        using batch = xsimd::batch<T, Arch>;
        batch r[size] = {batch::load_unaligned(from + I * from_stride)...};
        interleave(r, all);
        if constexpr (size >= 4) interleave(r, all);
        if constexpr (size >= 8) interleave(r, all);
        if constexpr (size >= 16) interleave(r, all);
        (r[I].store_unaligned(to + I * to_stride), ...);
    }
};

#if defined(__AVX__)
/// 8 x 8 floats: halves of rows four apart share a register, so that no shuffle crosses the halves.
template <class Arch>
    requires(std::is_base_of_v<xsimd::avx, Arch>)
struct square<Arch, float> {
    static constexpr std::size_t size = 8;
    static QUANT_INLINE void transpose(const float* from, std::size_t from_stride, float* to,
                                       std::size_t to_stride) noexcept {
        half(from, from_stride, to, to_stride);
        half(from + 4, from_stride, to + 4 * to_stride, to_stride);
    }

private:
    static QUANT_INLINE __m256 rows(const float* from, std::size_t from_stride, std::size_t r) noexcept {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + r * from_stride)),
                                    _mm_loadu_ps(from + (r + 4) * from_stride), 1);
    }
    static QUANT_INLINE void half(const float* from, std::size_t from_stride, float* to,
                                  std::size_t to_stride) noexcept {
        const __m256 a = rows(from, from_stride, 0), b = rows(from, from_stride, 1), c = rows(from, from_stride, 2),
                     d = rows(from, from_stride, 3);
        const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
        const __m256 ab_hi = _mm256_unpackhi_ps(a, b), cd_hi = _mm256_unpackhi_ps(c, d);
        _mm256_storeu_ps(to, _mm256_shuffle_ps(ab, cd, 0x44));
        _mm256_storeu_ps(to + to_stride, _mm256_shuffle_ps(ab, cd, 0xEE));
        _mm256_storeu_ps(to + 2 * to_stride, _mm256_shuffle_ps(ab_hi, cd_hi, 0x44));
        _mm256_storeu_ps(to + 3 * to_stride, _mm256_shuffle_ps(ab_hi, cd_hi, 0xEE));
    }
};
#endif

/// The architectures whose squares are tried one after the other, the widest first; scalar is the plain loop. Bytes are turned over
/// in 128 bits: wider registers interleave within halves, and putting the halves right costs what they save.
template <class Arch, class T> struct transposing_archs {
#if defined(__SSE2__)
    using type = arch::list<xsimd::sse2>;
#elif defined(__aarch64__)
    using type = arch::list<xsimd::neon64>;
#else
    using type = arch::list<>;
#endif
};
template <class T> struct transposing_archs<scalar, T> { using type = arch::list<>; };
#if defined(__AVX__)
template <class Arch>
    requires(std::is_base_of_v<xsimd::avx, Arch> || std::is_base_of_v<xsimd::avx512f, Arch>)
struct transposing_archs<Arch, float> {
    using type = arch::list<xsimd::avx, xsimd::sse2>;
};
#endif

} // namespace detail
#endif

/// Which side of a transposition is the one in memory, taken a cache line after the other; the other one is in the first cache.
enum class lines_of_side : std::uint8_t { from, to };

namespace detail {
template <lines_of_side Lines, class T>
inline void transpose_in_squares(arch::list<>, const T* from, std::size_t from_stride, T* to, std::size_t to_stride,
                                 std::size_t rows, std::size_t columns) noexcept {
    transpose_generic(from, from_stride, to, to_stride, rows, columns);
}
#if QUANT_HAS_XSIMD
template <lines_of_side Lines, class Arch, class... Narrower, class T>
[[gnu::noinline]] inline void transpose_in_squares(arch::list<Arch, Narrower...>, const T* from,
                                                   std::size_t from_stride, T* to, std::size_t to_stride,
                                                   std::size_t rows, std::size_t columns) noexcept {
    using shape = square<Arch, T>;
    constexpr std::size_t n = shape::size;
    const std::size_t whole_rows = rows - rows % n, whole_columns = columns - columns % n;
    if constexpr (Lines == lines_of_side::from) {
        for (std::size_t r = 0; r < whole_rows; r += n)
            for (std::size_t c = 0; c < whole_columns; c += n)
                shape::transpose(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
    } else {
        for (std::size_t c = 0; c < whole_columns; c += n)
            for (std::size_t r = 0; r < whole_rows; r += n)
                shape::transpose(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
    }
    if (whole_rows != rows)
        transpose_in_squares<Lines>(arch::list<Narrower...>{}, from + whole_rows * from_stride, from_stride,
                                    to + whole_rows, to_stride, rows - whole_rows, whole_columns);
    if (whole_columns != columns)
        transpose_in_squares<Lines>(arch::list<Narrower...>{}, from + whole_columns, from_stride,
                                    to + whole_columns * to_stride, to_stride, rows, columns - whole_columns);
}
#endif
} // namespace detail

/// to[c * to_stride + r] = from[r * from_stride + c] for r < rows and c < columns.
template <lines_of_side Lines, class Arch = native, class T>
inline void transpose(const T* from, std::size_t from_stride, T* to, std::size_t to_stride, std::size_t rows,
                      std::size_t columns) noexcept {
    if (rows == 0 || columns == 0) return; // the pointers may be null
#if QUANT_HAS_XSIMD
    using element = detail::register_element_t<T>;
    detail::transpose_in_squares<Lines>(typename detail::transposing_archs<Arch, element>::type{},
                                        reinterpret_cast<const element*>(from), from_stride,
                                        reinterpret_cast<element*>(to), to_stride, rows, columns);
#else
    detail::transpose_in_squares<Lines>(arch::list<>{}, from, from_stride, to, to_stride, rows, columns);
#endif
}

} // namespace simd
QUANT_END_TARGET
