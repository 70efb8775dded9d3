// SPDX-License-Identifier: MIT
#pragma once
// Sigmoid, its slope and tanh, the same bytes on every architecture; and the loop that runs them over whole and broken groups of
// elements. Layer 2 (simd).
//
// All three are made of exp(-t), t >= 0: t = -(n ln 2 + r), |r| <= ln 2 / 2, and exp(r) = 1 + r + r^2 q(r) with q fitted at Chebyshev
// nodes (relative error 0.18 2^-24 in float, 0.15 2^-53 in double). Every product that meets an addition is rounded by itself, so
// that machines with and without fused multiply-add agree. Where exp(-t) would be subnormal it is 0.
// Error against the exact value, over all floats (tests/unit/gate.cpp): see gate_at and tanh_at.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <quant/simd/batch.hpp>
#include <quant/simd/reduce.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

namespace detail {

template <class T> struct exponential;
template <> struct exponential<float> {
    static constexpr float log2_e = 0x1.715476p+0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    static constexpr float shift = 0x1.8p23f + 127; ///< + n: the exponent field of 2^n in the lowest bits
    static constexpr float limit = 87;              ///< exp(-limit) is the last that counts: beyond it is 0
    static constexpr float q[] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120ba2p-7f, 0x1.6d113cp-10f};
};
template <> struct exponential<double> {
    static constexpr double log2_e = 0x1.71547652b82fep+0, ln2_high = 0x1.62e42ffp-1, ln2_low = -0x1.718432a1b0e26p-35;
    static constexpr double shift = 0x1.8p52 + 1023;
    static constexpr double limit = 708;
    static constexpr double q[] = {0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d4fp-5,
                                   0x1.11111111109adp-7,  0x1.6c16c17893833p-10, 0x1.a01a01a7c8d47p-13,
                                   0x1.a019b8ef67c6cp-16, 0x1.71de0d9c145d0p-19, 0x1.2891a8c1d838dp-22,
                                   0x1.af38d53857513p-26};
};

/// 2^n from shift + n.
QUANT_INLINE float power_of_two(float shifted) noexcept {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(shifted) << 23);
}
QUANT_INLINE double power_of_two(double shifted) noexcept {
    return std::bit_cast<double>(std::bit_cast<std::uint64_t>(shifted) << 52);
}
#if QUANT_HAS_XSIMD
template <class Arch>
QUANT_INLINE xsimd::batch<float, Arch> power_of_two(const xsimd::batch<float, Arch>& shifted) noexcept {
    return xsimd::bitwise_cast<float>(shift_up(xsimd::bitwise_cast<std::int32_t>(shifted), 23));
}
template <class Arch>
QUANT_INLINE xsimd::batch<double, Arch> power_of_two(const xsimd::batch<double, Arch>& shifted) noexcept {
    return xsimd::bitwise_cast<double>(shift_up(xsimd::bitwise_cast<std::int64_t>(shifted), 52));
}
#endif

/// exp(-t) = power * (1 + rest) for 0 <= t <= limit; whatever for other t.
template <class T, class A> struct split_exponential { pack<T, A> power, rest; };
template <class T, class A> QUANT_INLINE split_exponential<T, A> exp_of_minus(const pack<T, A>& t) noexcept {
    using P = pack<T, A>;
    using c = exponential<T>;
    const P shifted = rounded_product(t, P(-c::log2_e)) + P(c::shift);
    const P n = shifted - P(c::shift);
    const P high = n * P(-c::ln2_high) - t; // the product is exact
    const P r = high - rounded_product(n, P(c::ln2_low));
    constexpr std::size_t degree = std::extent_v<decltype(c::q)> - 1;
    P q(c::q[degree]);
    unrolled<degree>([&](auto k) { q = rounded_product(q, r) + P(c::q[degree - 1 - k]); });
    return {power_of_two(shifted), r + rounded_product(rounded_product(r, r), q)};
}

} // namespace detail

/// The sigmoid of z and its derivative.
template <class T, class A> struct gate { pack<T, A> value, slope; };

/// sigma(z) and sigma'(z) = sigma(z) sigma(-z): at most 3 ulp and 5 ulp from the exact values for |z| <= 87 (float), 708 (double);
/// beyond, exactly 0 or 1, and slope 0, which is less than 2^-125 (2^-1021) off. NaN gives NaN. Neither cancels nor overflows.
template <class T, class A> QUANT_INLINE gate<T, A> gate_at(const pack<T, A>& z) noexcept {
    using P = pack<T, A>;
    const P t = magnitude(z);
    const auto parts = detail::exp_of_minus<T, A>(t);
    const P e = choose(t > P(detail::exponential<T>::limit), P(T(0)), P(parts.power * (P(T(1)) + parts.rest)));
    const P s = divided(P(T(1)), P(P(T(1)) + e));
    // The gate of -|z|. Rounded here: what a caller adds to it must not be fused with the product.
    const P other = rounded_product(e, s);
    return {choose(z >= P(T(0)), s, other), rounded_product(other, s)};
}

/// The gate at infinite temperature: 1 for m >= 0, else 0, also for NaN.
template <class T, class A> QUANT_INLINE pack<T, A> hard_gate_at(const pack<T, A>& m) noexcept {
    using P = pack<T, A>;
    return choose(m >= P(T(0)), P(T(1)), P(T(0)));
}

/// tanh(x) and its derivative 1 - tanh^2. At most 3 ulp and 5 ulp from the exact values while 2|x| is within the limits of gate_at.
template <class T, class A> QUANT_INLINE gate<T, A> tanh_at(const pack<T, A>& x) noexcept {
    using P = pack<T, A>;
    const P t = magnitude(x) + magnitude(x);
    const auto parts = detail::exp_of_minus<T, A>(t);
    const auto beyond = t > P(detail::exponential<T>::limit);
    const P less_one = choose(beyond, P(T(-1)), P(parts.power * parts.rest + (parts.power - P(T(1))))); // exact product
    const P e = choose(beyond, P(T(0)), P(parts.power * (P(T(1)) + parts.rest)));
    const P size = divided(P(P(T(0)) - less_one), P(P(T(2)) + less_one));
    const P s = divided(P(T(2)), P(P(T(1)) + e));
    return {choose(x < P(T(0)), P(P(T(0)) - size), size), rounded_product(P(e * s), s)};
}

namespace detail {

/// Elements per step of the loops below: a whole number of registers everywhere.
template <class T, class A> inline constexpr std::size_t packs_per_group = virtual_lanes / pack_of<T, A>::size;

/// f(k, x, y) for all elements, a register at a time: x holds one register of each source, y takes one for each destination, k is the
/// register's place in its group of 16 elements. The last group is filled up with zeros. Destinations may be sources.
template <class T, class A, std::size_t In, std::size_t Out, class F>
QUANT_INLINE void for_each_pack(const std::array<const T*, In>& sources, const std::array<T*, Out>& destinations,
                                std::size_t n, F&& f) noexcept {
    using P = pack<T, A>;
    const auto group = [&f](const std::array<const T*, In>& from, const std::array<T*, Out>& to, std::size_t at) {
        for (std::size_t k = 0; k < packs_per_group<T, A>; ++k) {
            const std::size_t i = at + k * pack_of<T, A>::size;
            std::array<P, In> x;
            std::array<P, Out == 0 ? 1 : Out> y;
            unrolled<In>([&](auto j) { x[j] = load<A>(from[j] + i); });
            f(k, x, y);
            unrolled<Out>([&](auto j) { put(to[j] + i, y[j]); });
        }
    };
    const std::size_t whole = n - n % virtual_lanes;
    for (std::size_t i = 0; i < whole; i += virtual_lanes) group(sources, destinations, i);
    if (whole == n) return;
    T in[In][virtual_lanes] = {};
    T out[Out == 0 ? 1 : Out][virtual_lanes];
    std::array<const T*, In> from;
    std::array<T*, Out> to;
    for (std::size_t j = 0; j < In; ++j) {
        for (std::size_t i = whole; i < n; ++i) in[j][i - whole] = sources[j][i];
        from[j] = in[j];
    }
    for (std::size_t j = 0; j < Out; ++j) to[j] = out[j];
    group(from, to, 0);
    for (std::size_t j = 0; j < Out; ++j)
        for (std::size_t i = whole; i < n; ++i) destinations[j][i] = out[j][i - whole];
}

/// lanes += a * b, element by element: exact products of floats, rounded ones of doubles.
template <class T, class A>
QUANT_INLINE void add_products(sum_lanes<A>& lanes, std::size_t k, const pack<T, A>& a, const pack<T, A>& b) noexcept {
    if constexpr (std::is_same_v<T, double>) {
        lanes.part[k] = lanes.part[k] + rounded_product(a, b);
    } else {
        constexpr std::size_t count = widened<A>::count;
        const widened<A> x = as_doubles<A>(a), y = as_doubles<A>(b);
        unrolled<count>([&](auto j) {
            lanes.part[k * count + j] = add_exact_product(lanes.part[k * count + j], x.part[j], y.part[j]);
        });
    }
}

} // namespace detail

/// Sum of a_i b_i: 16 lanes of double and one tree, the same bytes everywhere.
template <class T, class Arch = native>
[[nodiscard]] inline double dot(const T* a, const T* b, std::size_t n) noexcept {
    using A = reduction_arch_t<Arch>;
    detail::sum_lanes<A> sum;
    detail::for_each_pack<T, A, 2, 0>(
        {a, b}, {}, n, [&](std::size_t k, const auto& x, auto&) { detail::add_products<T, A>(sum, k, x[0], x[1]); });
    return sum.total();
}

/// Gates and slopes of temperature * logit; `slopes` may be null.
template <class T, class Arch = native>
inline void gates(const T* logits, T* values, T* slopes, std::size_t n, T temperature) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P beta(temperature);
    if (slopes == nullptr)
        detail::for_each_pack<T, A, 1, 1>({logits}, {values}, n, [&](std::size_t, const auto& x, auto& y) {
            y[0] = gate_at<T, A>(x[0] * beta).value;
        });
    else
        detail::for_each_pack<T, A, 1, 2>({logits}, {values, slopes}, n, [&](std::size_t, const auto& x, auto& y) {
            const gate<T, A> g = gate_at<T, A>(x[0] * beta);
            y[0] = g.value;
            y[1] = g.slope;
        });
}

} // namespace simd
QUANT_END_TARGET
