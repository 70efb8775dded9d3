// SPDX-License-Identifier: MIT
#pragma once
// The loops of BSQ over a stretch of one plane. Layer 2 (simd). The same bytes on every architecture.

#include <cmath>
#include <cstddef>
#include <quant/simd/csq_kernels.hpp>
#include <quant/simd/exponential.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// sum += value (p - n); value is a power of two.
template <class T, class Arch = native>
inline void add_difference(const T* p, const T* n, T* sum, std::size_t count, T value) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P v(value);
    detail::for_each_pack<T, A, 3, 1>({p, n, sum}, {sum}, count, [&](std::size_t, const auto& x, auto& y) {
        y[0] = x[2] + v * (x[0] - x[1]); // an exact product
    });
}

/// x = round(clip(x, -most, most)), ties away from zero or to even. most < 2^22. NaN stays NaN.
template <class T, class Arch = native>
inline void round_clipped(T* values, std::size_t count, T most, bool half_away) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P high(most), low(-most), zero(T(0)), half(T(0.5));
    detail::for_each_pack<T, A, 1, 1>({values}, {values}, count, [&](std::size_t, const auto& x, auto& y) {
        const P v = choose(x[0] > high, high, choose(x[0] < low, low, x[0]));
        const P even = nearest_even<T, A>(v);
        if (!half_away) {
            y[0] = even;
            return;
        }
        const P rest = v - even; // exact: +-1/2 where v is a tie
        const P up = choose(both(rest == half, v > zero), P(T(1)), zero);
        const P down = choose(both(rest == P(T(-0.5)), v < zero), P(T(1)), zero);
        y[0] = even + up - down;
    });
}

/// sqrt(1e-8 + |p|^2 + |n|^2), in double.
template <class T, class Arch = native>
[[nodiscard]] inline double plane_norm(const T* p, const T* n, std::size_t count) noexcept {
    return std::sqrt(1e-8 + (dot<T, Arch>(p, p, count) + dot<T, Arch>(n, n, count)));
}

/// to += factor x.
template <class T, class Arch = native>
inline void add_multiple(const T* x, T* to, std::size_t count, T factor) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P c(factor);
    detail::for_each_pack<T, A, 2, 1>(
        {x, to}, {to}, count, [&](std::size_t, const auto& in, auto& y) { y[0] = in[1] + rounded_product(in[0], c); });
}

/// Into [low, high]; NaN stays NaN.
template <class T, class Arch = native> inline void clip(T* values, std::size_t count, T low, T high) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P lowest(low), highest(high);
    detail::for_each_pack<T, A, 1, 1>({values}, {values}, count, [&](std::size_t, const auto& x, auto& y) {
        y[0] = choose(x[0] < lowest, lowest, choose(x[0] > highest, highest, x[0]));
    });
}

} // namespace simd
QUANT_END_TARGET
