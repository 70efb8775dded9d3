// SPDX-License-Identifier: MIT
#pragma once
// Every configuration macro with its default, and the two namespaces all of the library stands in. Layer 0.
//
//   macro                  default                meaning
//   QUANT_SIMD             1                      0: never include xsimd, everything runs on the scalar architecture
//   QUANT_DEFAULT_ARCH     the widest compiled in a type from quant::simd that becomes quant::simd::native
//   QUANT_ASSERT_LEVEL     1                      0: no precondition checks; 1: at public entry points; 2: also inside
//   QUANT_ASSERT_HANDLER   trap                   called with the text of a broken precondition; must not return
//   QUANT_NO_HEAP          not defined            defined: the owning result and the calls that allocate are absent
//   QUANT_BIT_EXACT        read only              1 where the library promises equal bytes, 0 under -ffast-math
//
// Each macro must have the same value in all files of a program that exchange *computing* code; files that differ are still
// safe to link, because QUANT_TARGET_TAG keeps their functions apart.

#include <quant/version.hpp>

#ifndef QUANT_SIMD
#define QUANT_SIMD 1
#endif

#ifndef QUANT_ASSERT_LEVEL
#define QUANT_ASSERT_LEVEL 1
#endif

#ifndef QUANT_ASSERT_HANDLER
#define QUANT_ASSERT_HANDLER(text) ::quant::core_detail::trap(text)
#endif

#if defined(__FAST_MATH__)
#define QUANT_BIT_EXACT 0
#else
#define QUANT_BIT_EXACT 1
#endif

// Leaf helpers are always inlined: at -O0 an out-of-line copy would become a symbol shared between files of different flags.
#if defined(_MSC_VER) && !defined(__clang__)
#define QUANT_INLINE __forceinline
#define QUANT_INLINE_LAMBDA
#else
#define QUANT_INLINE inline __attribute__((always_inline))
#define QUANT_INLINE_LAMBDA __attribute__((always_inline)) // after the parameters of a lambda
#endif

// What is large and seldom called, or called from many places, stays one function; only in the namespace of the target.
#if defined(_MSC_VER) && !defined(__clang__)
#define QUANT_OUTLINE __declspec(noinline) inline
#else
#define QUANT_OUTLINE inline __attribute__((noinline))
#endif

// ---- the target this file is compiled for ---------------------------------------------------------------------------------
// QUANT_HAS_XSIMD says whether xsimd is included; the token names everything that changes generated code.
#if QUANT_SIMD == 0
#define QUANT_HAS_XSIMD 0
#elif defined(__SSE2__) || defined(_M_X64) || defined(__ARM_NEON) || defined(__aarch64__) ||                           \
    (defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0) ||                                                 \
    (defined(__riscv_vector) && defined(__riscv_v_fixed_vlen)) ||                                                      \
    (defined(__wasm_simd128__) && defined(__EMSCRIPTEN__))
#define QUANT_HAS_XSIMD 1
#else
#define QUANT_HAS_XSIMD 0
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define QUANT_DETAIL_ISA avx512vnni
#elif defined(__AVX512BW__)
#define QUANT_DETAIL_ISA avx512bw
#elif defined(__AVX512F__)
#define QUANT_DETAIL_ISA avx512f
#elif defined(__AVX2__)
#define QUANT_DETAIL_ISA avx2
#elif defined(__AVX__)
#define QUANT_DETAIL_ISA avx
#elif defined(__SSE4_2__)
#define QUANT_DETAIL_ISA sse4_2
#elif defined(__SSE4_1__)
#define QUANT_DETAIL_ISA sse4_1
#elif defined(__SSSE3__)
#define QUANT_DETAIL_ISA ssse3
#elif defined(__SSE3__)
#define QUANT_DETAIL_ISA sse3
#elif defined(__SSE2__) || defined(_M_X64)
#define QUANT_DETAIL_ISA sse2
#elif defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define QUANT_DETAIL_ISA sve
#elif defined(__aarch64__)
#define QUANT_DETAIL_ISA neon64
#elif defined(__ARM_NEON)
#define QUANT_DETAIL_ISA neon
#elif defined(__riscv_vector)
#define QUANT_DETAIL_ISA rvv
#elif defined(__wasm_simd128__)
#define QUANT_DETAIL_ISA wasm
#else
#define QUANT_DETAIL_ISA scalar
#endif
#if defined(__FMA__)
#define QUANT_DETAIL_FMA fma
#else
#define QUANT_DETAIL_FMA nofma
#endif
#define QUANT_DETAIL_CONCAT5_(a, b, c, d, e) a##_##b##_s##c##_a##d##_e##e
#define QUANT_DETAIL_CONCAT5(a, b, c, d, e) QUANT_DETAIL_CONCAT5_(a, b, c, d, e)
#ifndef QUANT_TARGET_TAG
#define QUANT_TARGET_TAG                                                                                               \
    QUANT_DETAIL_CONCAT5(QUANT_DETAIL_ISA, QUANT_DETAIL_FMA, QUANT_HAS_XSIMD, QUANT_ASSERT_LEVEL, QUANT_BIT_EXACT)
#endif

// Types that may cross files built with different flags: plain data, always-inline members.
#define QUANT_BEGIN_NAMESPACE                                                                                          \
    namespace quant {                                                                                                  \
    inline namespace v0_1 {
#define QUANT_END_NAMESPACE                                                                                            \
    }                                                                                                                  \
    }
// Everything that computes: the target is part of every name.
#define QUANT_BEGIN_TARGET                                                                                             \
    QUANT_BEGIN_NAMESPACE                                                                                              \
    inline namespace QUANT_TARGET_TAG {
#define QUANT_END_TARGET                                                                                               \
    }                                                                                                                  \
    QUANT_END_NAMESPACE

namespace quant {
inline namespace v0_1 {
namespace core_detail {
[[noreturn]] QUANT_INLINE void trap(const char* /*text*/) noexcept {
#if defined(_MSC_VER) && !defined(__clang__)
    __debugbreak();
    for (;;) {
    }
#else
    __builtin_trap();
#endif
}
} // namespace core_detail
} // namespace v0_1
} // namespace quant

// A broken precondition is a defect of the calling program, never of its input: it stops the program.
#if QUANT_ASSERT_LEVEL >= 1
#define QUANT_EXPECTS(condition, text) ((condition) ? static_cast<void>(0) : QUANT_ASSERT_HANDLER(text))
#else
#define QUANT_EXPECTS(condition, text) static_cast<void>(0)
#endif
#if QUANT_ASSERT_LEVEL >= 2
#define QUANT_EXPECTS_INSIDE(condition, text) QUANT_EXPECTS(condition, text)
#else
#define QUANT_EXPECTS_INSIDE(condition, text) static_cast<void>(0)
#endif
