// SPDX-License-Identifier: MIT
#pragma once
// Rounding every step: what keeps a compiler from fusing a product with a following addition. Layer 2 (simd), without xsimd.

#include <quant/config.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// `x` as it is, a value or a batch: put around an inexact product, it keeps the compiler from fusing the product with a following
/// addition, which would round once instead of twice and give other bytes on machines with FMA. Where the machine could fuse,
/// g++ 12 forgets its own barrier when it vectorizes a loop of values, and takes registers of AVX-512 apart for it; so there the product
/// passes through a register that g++ does not look into. clang fuses within a statement, but with -ffp-contract=fast everywhere.
#if defined(__GNUC__) && defined(__AVX512F__)
#define QUANT_DETAIL_REGISTER "+v"
#elif defined(__GNUC__) && defined(__FMA__)
#define QUANT_DETAIL_REGISTER "+x"
#elif (defined(__clang__) && defined(__arm__)) || (defined(__GNUC__) && defined(__aarch64__))
#define QUANT_DETAIL_REGISTER "+w"
#elif defined(__clang__) && (defined(__s390x__) || defined(__riscv))
#define QUANT_DETAIL_REGISTER "+f"
#endif
template <class P> QUANT_INLINE P rounded(P x) noexcept {
#if defined(QUANT_DETAIL_REGISTER)
#if defined(__ARM_FEATURE_SVE_BITS) || defined(__riscv)
    if constexpr (std::is_floating_point_v<P>) __asm__("" : QUANT_DETAIL_REGISTER(x));
#else
    if constexpr (requires { x.data; })
        __asm__("" : QUANT_DETAIL_REGISTER(x.data));
    else
        __asm__("" : QUANT_DETAIL_REGISTER(x));
#endif
#elif defined(__GNUC__) && !defined(__clang__)
    if constexpr (std::is_floating_point_v<P>) return __builtin_assoc_barrier(x);
#endif
    return x;
}
#undef QUANT_DETAIL_REGISTER

/// a * b, rounded before anything is added to it.
template <class P> QUANT_INLINE P rounded_product(const P& a, const P& b) noexcept { return rounded(P(a * b)); }

} // namespace simd
QUANT_END_TARGET
