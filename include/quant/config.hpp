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
//   QUANT_MULTIARCH        not defined            set by the CMake function quant_add_multiarch, read by quant/dispatch.hpp
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
// QUANT_HAS_XSIMD says whether xsimd is included; the token QUANT_TARGET_TAG names everything that changes generated code,
// and the patch level, since two of them may stand in one program.
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
#define QUANT_DETAIL_ISA QUANT_DETAIL_CONCAT4(sve, __ARM_FEATURE_SVE_BITS, , )
#elif defined(__aarch64__)
#define QUANT_DETAIL_ISA neon64
#elif defined(__ARM_NEON)
#define QUANT_DETAIL_ISA neon
#elif defined(__riscv_v_fixed_vlen)
#define QUANT_DETAIL_ISA QUANT_DETAIL_CONCAT4(rvv, __riscv_v_fixed_vlen, , )
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
// QUANT_DETAIL_IS(flag): 1 where the compiler defines the flag as 1, else 0, as a token; four of them make a digit of a name.
#define QUANT_DETAIL_PLACE_1 0,
#define QUANT_DETAIL_SECOND(first, second, ...) second
#define QUANT_DETAIL_IS_3(place) QUANT_DETAIL_SECOND(place 1, 0, 0)
#define QUANT_DETAIL_IS_2(flag) QUANT_DETAIL_IS_3(QUANT_DETAIL_PLACE_##flag)
#define QUANT_DETAIL_IS(flag) QUANT_DETAIL_IS_2(flag)
#define QUANT_DETAIL_HEX_0000 0
#define QUANT_DETAIL_HEX_0001 1
#define QUANT_DETAIL_HEX_0010 2
#define QUANT_DETAIL_HEX_0011 3
#define QUANT_DETAIL_HEX_0100 4
#define QUANT_DETAIL_HEX_0101 5
#define QUANT_DETAIL_HEX_0110 6
#define QUANT_DETAIL_HEX_0111 7
#define QUANT_DETAIL_HEX_1000 8
#define QUANT_DETAIL_HEX_1001 9
#define QUANT_DETAIL_HEX_1010 a
#define QUANT_DETAIL_HEX_1011 b
#define QUANT_DETAIL_HEX_1100 c
#define QUANT_DETAIL_HEX_1101 d
#define QUANT_DETAIL_HEX_1110 e
#define QUANT_DETAIL_HEX_1111 f
#define QUANT_DETAIL_DIGIT_(a, b, c, d) QUANT_DETAIL_HEX_##a##b##c##d
#define QUANT_DETAIL_DIGIT(a, b, c, d) QUANT_DETAIL_DIGIT_(a, b, c, d)
#define QUANT_DETAIL_FLAGS(a, b, c, d)                                                                                 \
    QUANT_DETAIL_DIGIT(QUANT_DETAIL_IS(a), QUANT_DETAIL_IS(b), QUANT_DETAIL_IS(c), QUANT_DETAIL_IS(d))
#define QUANT_DETAIL_CONCAT4_(a, b, c, d) a##b##c##d
#define QUANT_DETAIL_CONCAT4(a, b, c, d) QUANT_DETAIL_CONCAT4_(a, b, c, d)
// Instructions that compilers use by themselves and that QUANT_DETAIL_ISA does not spell.
#if defined(__aarch64__) || defined(__ARM_NEON)
#define QUANT_DETAIL_MORE                                                                                              \
    QUANT_DETAIL_FLAGS(__ARM_FEATURE_DOTPROD, __ARM_FEATURE_MATMUL_INT8, __ARM_FEATURE_FP16_VECTOR_ARITHMETIC,         \
                       __ARM_FEATURE_ATOMICS)
#else
#define QUANT_DETAIL_MORE                                                                                              \
    QUANT_DETAIL_CONCAT4(QUANT_DETAIL_FLAGS(__POPCNT__, __LZCNT__, __BMI__, __BMI2__),                                 \
                         QUANT_DETAIL_FLAGS(__MOVBE__, __F16C__, __AVXVNNI__, __AVX512DQ__),                           \
                         QUANT_DETAIL_FLAGS(__AVX512VL__, __AVX512VBMI__, __AVX512VBMI2__, __AVX512BITALG__),          \
                         QUANT_DETAIL_FLAGS(__AVX512VPOPCNTDQ__, __AVX512FP16__, __GFNI__, __APX_F__))
#endif
#define QUANT_DETAIL_TAG_(isa, fma, more, simd, level, exact, patch)                                                   \
    isa##_##fma##_x##more##_s##simd##_a##level##_e##exact##_p##patch
#define QUANT_DETAIL_TAG(isa, fma, more, simd, level, exact, patch)                                                    \
    QUANT_DETAIL_TAG_(isa, fma, more, simd, level, exact, patch)
#ifndef QUANT_TARGET_TAG
#define QUANT_TARGET_TAG                                                                                               \
    QUANT_DETAIL_TAG(QUANT_DETAIL_ISA, QUANT_DETAIL_FMA, QUANT_DETAIL_MORE, QUANT_HAS_XSIMD, QUANT_ASSERT_LEVEL,       \
                     QUANT_BIT_EXACT, QUANT_VERSION_PATCH)
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
