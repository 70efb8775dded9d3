// SPDX-License-Identifier: MIT
#pragma once
// The loops of CSQ over a stretch of one plane, and rounding to the integers that a set of planes reaches. Layer 2 (simd).
//
// Sources and destinations hold one element per weight; `sum` accumulates over the planes of a stretch. The same bytes on every
// architecture.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <quant/simd/exponential.hpp>

QUANT_BEGIN_NAMESPACE

/// A set of planes, bit b of `mask` for the plane of value 2^b. With a positive and a negative bit in every plane it reaches the integers
/// sum_b 2^b d_b, d_b in {-1, 0, 1}.
struct digit_planes {
    std::uint32_t mask = 0;
    [[nodiscard]] QUANT_INLINE constexpr int lowest() const noexcept { return std::countr_zero(mask); }
    [[nodiscard]] QUANT_INLINE constexpr int count() const noexcept { return std::popcount(mask); }
    /// No gap between the lowest and the highest plane: then all multiples of 2^lowest up to `largest` are reached.
    [[nodiscard]] QUANT_INLINE constexpr bool contiguous() const noexcept {
        return mask == 0 || std::has_single_bit((mask >> lowest()) + 1);
    }
    [[nodiscard]] QUANT_INLINE constexpr std::uint32_t largest() const noexcept { return mask; }
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace simd {

/// sum += weight (gate(beta p) - gate(beta n)); Hard: gates at infinite temperature.
template <class T, bool Hard, class Arch = native>
inline void add_plane(const T* p, const T* n, T* sum, std::size_t count, T temperature, T weight) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P beta(temperature), w(weight);
    detail::for_each_pack<T, A, 3, 1>({p, n, sum}, {sum}, count, [&](std::size_t, const auto& x, auto& y) {
        if constexpr (Hard)
            y[0] = x[2] + rounded_product(w, P(hard_gate_at<T, A>(x[0]) - hard_gate_at<T, A>(x[1])));
        else
            y[0] = x[2] + rounded_product(w, P(gate_at<T, A>(x[0] * beta).value - gate_at<T, A>(x[1] * beta).value));
    });
}

/// The same, and the way back: dp = g slope_weight sigma'(beta p), dn = -g slope_weight sigma'(beta n). Returns
/// the sum of g (gate(beta p) - gate(beta n)). dp and dn may be null, both at once.
template <class T, class Arch = native>
inline double plane_backward(const T* p, const T* n, const T* g, T* dp, T* dn, T* sum, std::size_t count, T temperature,
                             T weight, T slope_weight) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P beta(temperature), w(weight), c(slope_weight);
    detail::sum_lanes<A> total;
    const auto step = [&](std::size_t k, const auto& x, P& next, P* slope_p, P* slope_n) {
        const gate<T, A> up = gate_at<T, A>(x[0] * beta), down = gate_at<T, A>(x[1] * beta);
        const P difference = up.value - down.value;
        detail::add_products<T, A>(total, k, x[2], difference);
        next = x[3] + rounded_product(w, difference);
        if (slope_p == nullptr) return;
        const P back = x[2] * c;
        *slope_p = back * up.slope;
        *slope_n = P(T(0)) - back * down.slope;
    };
    if (dp == nullptr)
        detail::for_each_pack<T, A, 4, 1>({p, n, g, sum}, {sum}, count, [&](std::size_t k, const auto& x, auto& y) {
            step(k, x, y[0], nullptr, nullptr);
        });
    else
        detail::for_each_pack<T, A, 4, 3>(
            {p, n, g, sum}, {sum, dp, dn}, count,
            [&](std::size_t k, const auto& x, auto& y) { step(k, x, y[0], &y[1], &y[2]); });
    return total.total();
}

/// |x| <= 2^22 (float), 2^51 (double), to the nearest integer, ties to even.
template <class T, class A> QUANT_INLINE pack<T, A> nearest_even(const pack<T, A>& x) noexcept {
    using P = pack<T, A>;
    const P shift(sizeof(T) == 4 ? T(0x1.8p23) : T(0x1.8p52));
    return P(x + shift) - shift;
}

/// The integer that `set` reaches which is nearest to v; ties to even multiples of the lowest plane without gaps, else toward zero in the
/// highest plane that can decide. NaN stays NaN. set.mask < 2^15.
///
/// With gaps: from the highest plane b down, take 2^b off |v| where |v| > 2^(b - 1). This finds the nearest one: whatever lies below
/// 2^(b - 1) and needs plane b is also reached without it or is farther away than 2^(b - 1) or the reach of the planes below.
template <class T, class A> QUANT_INLINE pack<T, A> nearest_reached(const pack<T, A>& v, digit_planes set) noexcept {
    using P = pack<T, A>;
    const P zero(T(0)), most(static_cast<T>(set.largest()));
    const P clipped = choose(v > most, most, choose(v < zero - most, P(zero - most), v));
    if (set.mask == 0) return clipped; // zero, or NaN
    if (set.contiguous()) {
        const T unit = static_cast<T>(std::uint32_t{1} << set.lowest());
        return nearest_even<T, A>(clipped * P(T(1) / unit)) * P(unit);
    }
    P rest = clipped, reached = clipped - clipped; // zero, or NaN
    for (int b = 14; b >= 0; --b) {
        if (((set.mask >> b) & 1u) == 0) continue;
        const P value(static_cast<T>(std::uint32_t{1} << b)), half = value * P(T(0.5));
        const P digit = choose(rest > half, value, choose(rest < zero - half, P(zero - value), zero));
        rest = rest - digit;
        reached = reached + digit;
    }
    return reached;
}

/// to = nearest_reached(from / scale) * scale, or without the product with Codes.
template <class T, bool Codes, class Arch = native>
inline void round_to_planes(const T* from, T* to, std::size_t n, T scale, digit_planes set) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P step(scale);
    detail::for_each_pack<T, A, 1, 1>({from}, {to}, n, [&](std::size_t, const auto& x, auto& y) {
        const P q = nearest_reached<T, A>(divided(x[0], step), set);
        y[0] = Codes ? q : P(q * step);
    });
}

/// The way back with a learned step: dx = g where |x / scale| <= largest, else 0 (null: not wanted). Returns the sum of g (q - x / scale)
/// over those, plus that of g q over the others.
template <class T, class Arch = native>
inline double round_to_planes_backward(const T* from, const T* g, T* dx, std::size_t n, T scale,
                                       digit_planes set) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P step(scale), most(static_cast<T>(set.largest())), zero(T(0));
    detail::sum_lanes<A> total;
    const auto way = [&](std::size_t k, const auto& x, P* out) {
        const P v = divided(x[0], step);
        const auto beyond = magnitude(v) > most;
        const P q = nearest_reached<T, A>(v, set);
        detail::add_products<T, A>(total, k, x[1], choose(beyond, q, P(q - v)));
        if (out != nullptr) *out = choose(beyond, zero, x[1]);
    };
    if (dx == nullptr)
        detail::for_each_pack<T, A, 2, 0>({from, g}, {}, n,
                                          [&](std::size_t k, const auto& x, auto&) { way(k, x, nullptr); });
    else
        detail::for_each_pack<T, A, 2, 1>({from, g}, {dx}, n,
                                          [&](std::size_t k, const auto& x, auto& y) { way(k, x, &y[0]); });
    return total.total();
}

} // namespace simd
QUANT_END_TARGET
