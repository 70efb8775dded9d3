// SPDX-License-Identifier: MIT
#pragma once
// Which instruction set a kernel runs on. Layer 2 (simd).
//
// A kernel is `template <class Arch = simd::native>`. `simd::scalar` is an architecture like any other: the scalar definition
// of core/, one element at a time; it also finishes the tail of every vector loop, so that the two cannot disagree.
// xsimd is included if and only if the target has a SIMD instruction set it supports (the list stands in config.hpp) and
// QUANT_SIMD is not 0; on everything else (Cortex-M, armhf without NEON, s390x) the scalar architecture is chosen by itself.

#include <cstddef>
#include <quant/config.hpp>
#include <type_traits>
#include <utility>

#if QUANT_HAS_XSIMD
#if !__has_include(<xsimd/xsimd.hpp>)
#error                                                                                                                 \
    "quant: this target has SIMD but xsimd was not found: install xsimd 13.2 or newer, or compile with -DQUANT_SIMD=0"
#endif
#include <xsimd/xsimd.hpp>
#if XSIMD_VERSION_MAJOR < 13 || (XSIMD_VERSION_MAJOR == 13 && XSIMD_VERSION_MINOR < 2)
#error "quant: xsimd 13.2 or newer is needed"
#endif
#endif

QUANT_BEGIN_NAMESPACE
/// Architecture types cross files of different flags, so they are untagged; which one is native is each file's own matter.
namespace arch {

/// One element at a time, by the scalar definition.
struct scalar {
    static constexpr const char* name() noexcept { return "scalar"; }
};

/// A list of architectures.
template <class... Arch> struct list {};

} // namespace arch
QUANT_END_NAMESPACE

QUANT_BEGIN_TARGET
namespace simd {

using arch::scalar;
template <class Arch> inline constexpr bool is_scalar = std::is_same_v<Arch, scalar>;

#if QUANT_HAS_XSIMD
#if defined(QUANT_DEFAULT_ARCH)
using native = QUANT_DEFAULT_ARCH;
#else
using native = xsimd::default_arch;
#endif
/// Whether float to code runs in the registers of Arch. 32-bit NEON neither divides nor rounds to nearest, and flushes subnormals: the
/// definition, element by element, is what runs for it.
template <class Arch>
inline constexpr bool has_division =
    !is_scalar<Arch> && (!std::is_base_of_v<xsimd::neon, Arch> || std::is_base_of_v<xsimd::neon64, Arch>);
using native_division = std::conditional_t<has_division<native>, native, scalar>;

/// Every architecture that can be instantiated in this file, narrowest first.
#if defined(__AVX512BW__)
using compiled_archs = arch::list<scalar, xsimd::sse2, xsimd::fma3<xsimd::avx2>, xsimd::avx512bw>;
#elif defined(__AVX2__) && defined(__FMA__)
using compiled_archs = arch::list<scalar, xsimd::sse2, xsimd::fma3<xsimd::avx2>>;
#elif defined(__AVX2__)
using compiled_archs = arch::list<scalar, xsimd::sse2, xsimd::avx2>;
#elif defined(__SSE4_2__)
using compiled_archs = arch::list<scalar, xsimd::sse2, xsimd::sse4_2>;
#elif defined(__SSE2__)
using compiled_archs = arch::list<scalar, xsimd::sse2>;
#else
using compiled_archs = arch::list<scalar, native>;
#endif
#else
using native = scalar;
using native_division = scalar;
using compiled_archs = arch::list<scalar>;
#endif

#if QUANT_HAS_XSIMD
/// Whether an architecture multiplies and adds floats with one rounding.
template <class Arch>
inline constexpr bool has_fma =
    std::is_base_of_v<xsimd::avx512f, Arch> || std::is_base_of_v<xsimd::neon64, Arch> ||
    std::is_same_v<Arch, xsimd::fma3<xsimd::avx>> || std::is_same_v<Arch, xsimd::fma3<xsimd::avx2>>;
/// Whether a float beyond int32, or a NaN, converts to the smallest int32 (x86): one look at the integers then finds what a
/// conversion could not express.
template <class Arch>
inline constexpr bool converts_invalid_to_lowest =
    std::is_base_of_v<xsimd::sse2, Arch> || std::is_base_of_v<xsimd::avx, Arch> ||
    std::is_base_of_v<xsimd::avx512f, Arch>;
#endif

namespace detail {

/// f(0) … f(3) with constants: g++ at -O2 keeps a loop over an array of registers in memory.
template <class F> QUANT_INLINE void four_times(F&& f) noexcept {
    f(std::integral_constant<std::size_t, 0>{});
    f(std::integral_constant<std::size_t, 1>{});
    f(std::integral_constant<std::size_t, 2>{});
    f(std::integral_constant<std::size_t, 3>{});
}

/// f(0) … f(N - 1) with constants, for the same reason.
template <std::size_t N, class F> QUANT_INLINE void n_times(F&& f) noexcept {
    [&]<std::size_t... I>(std::index_sequence<I...>) QUANT_INLINE_LAMBDA {
        (f(std::integral_constant<std::size_t, I>{}), ...);
    }
    (std::make_index_sequence<N>{});
}

} // namespace detail

} // namespace simd
QUANT_END_TARGET
