// SPDX-License-Identifier: MIT
#pragma once
// The loops of FracBits: rounding to two neighbouring widths and mixing the results. Layer 2 (simd). The same bytes on every
// architecture.

#include <cstddef>
#include <quant/simd/csq_kernels.hpp>
#include <quant/simd/exponential.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// Two neighbouring widths l and l + 1 and how much of the second: levels 2^l - 1 and 2^(l + 1) - 1, and the real value of one level.
template <class T> struct mixed_widths {
    T low_levels = 1, high_levels = 3;
    T low_step = 1, high_step = 1;
    T low_part = 1, high_part = 0; ///< 1 - r and r
};

namespace detail {

/// A pair of registers.
template <class T, class A> struct two_roundings { pack<T, A> low, high; };

/// The values of u in [0, 1] at both widths; Centred: 2 j - levels steps of a weight, else j steps of an activation.
template <class T, class A, bool Centred>
QUANT_INLINE two_roundings<T, A> at_both_widths(const pack<T, A>& u, const mixed_widths<T>& m) noexcept {
    using P = pack<T, A>;
    const auto value = [&](T levels, T step) {
        const P j = nearest_even<T, A>(rounded_product(u, P(levels)));
        const P q = Centred ? P(j + j - P(levels)) : j;
        return rounded_product(q, P(step));
    };
    return {value(m.low_levels, m.low_step), value(m.high_levels, m.high_step)};
}
template <class T, class A>
QUANT_INLINE pack<T, A> mixed(const two_roundings<T, A>& v, const mixed_widths<T>& m) noexcept {
    using P = pack<T, A>;
    return rounded_product(v.low, P(m.low_part)) + rounded_product(v.high, P(m.high_part));
}
/// tanh(w) / (2 largest) + 1/2 within [0, 1]; inverse = 1 / (2 largest).
template <class T, class A> QUANT_INLINE pack<T, A> unit_weight(const pack<T, A>& tanh, T inverse) noexcept {
    using P = pack<T, A>;
    const P u = rounded_product(tanh, P(inverse)) + P(T(0.5)), zero(T(0)), one(T(1));
    return choose(u < zero, zero, choose(u > one, one, u));
}

} // namespace detail

/// w_hat of latent weights. Codes: 2 j - levels of the lower width instead.
template <class T, bool Codes, class Arch = native>
inline void mix_weights(const T* latent, T* to, std::size_t n, T inverse, const mixed_widths<T>& m) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    detail::for_each_pack<T, A, 1, 1>({latent}, {to}, n, [&](std::size_t, const auto& x, auto& y) {
        const P u = detail::unit_weight<T, A>(tanh_at<T, A>(x[0]).value, inverse);
        if constexpr (Codes) {
            const P j = nearest_even<T, A>(rounded_product(u, P(m.low_levels)));
            y[0] = j + j - P(m.low_levels);
        } else {
            y[0] = detail::mixed<T, A>(detail::at_both_widths<T, A, true>(u, m), m);
        }
    });
}

/// d latent = g slope (1 - tanh^2); returns the sum of g (value at the higher width - value at the lower).
template <class T, class Arch = native>
inline double mix_weights_backward(const T* latent, const T* g, T* grad, std::size_t n, T inverse, T slope,
                                   const mixed_widths<T>& m) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P factor(slope);
    detail::sum_lanes<A> total;
    detail::for_each_pack<T, A, 2, 1>({latent, g}, {grad}, n, [&](std::size_t k, const auto& x, auto& y) {
        const gate<T, A> t = tanh_at<T, A>(x[0]);
        const auto v = detail::at_both_widths<T, A, true>(detail::unit_weight<T, A>(t.value, inverse), m);
        detail::add_products<T, A>(total, k, x[1], P(v.high - v.low));
        y[0] = x[1] * factor * t.slope;
    });
    return total.total();
}

/// x_hat of activations clipped to [0, alpha]; inverse = 1 / alpha.
template <class T, class Arch = native>
inline void mix_activations(const T* from, T* to, std::size_t n, T inverse, const mixed_widths<T>& m) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P zero(T(0)), one(T(1)), scale(inverse);
    detail::for_each_pack<T, A, 1, 1>({from}, {to}, n, [&](std::size_t, const auto& x, auto& y) {
        const P z = x[0] * scale;
        const P u = choose(z < zero, zero, choose(z > one, one, z));
        y[0] = detail::mixed<T, A>(detail::at_both_widths<T, A, false>(u, m), m);
    });
}

/// Sums that belong to one activation quantizer.
struct activation_sums {
    double width = 0;   ///< of g (value at the higher width - value at the lower)
    double rounded = 0; ///< of g (x_hat / alpha - z) over 0 < x < alpha
    double above = 0;   ///< of g over x >= alpha
};

/// dx = g over 0 < x < alpha, else 0; and the sums.
template <class T, class Arch = native>
inline activation_sums mix_activations_backward(const T* from, const T* g, T* grad, std::size_t n, T alpha, T inverse,
                                                const mixed_widths<T>& m) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P zero(T(0)), one(T(1)), scale(inverse), high(alpha);
    detail::sum_lanes<A> width, rounded, above;
    detail::for_each_pack<T, A, 2, 1>({from, g}, {grad}, n, [&](std::size_t k, const auto& x, auto& y) {
        const P z = x[0] * scale;
        const P u = choose(z < zero, zero, choose(z > one, one, z));
        const auto v = detail::at_both_widths<T, A, false>(u, m);
        const P hat = detail::mixed<T, A>(v, m);
        const auto inside = both(x[0] > zero, x[0] < high);
        detail::add_products<T, A>(width, k, x[1], P(v.high - v.low));
        detail::add_products<T, A>(rounded, k, x[1], choose(inside, P(rounded_product(hat, scale) - u), zero));
        detail::add_products<T, A>(above, k, x[1], choose(x[0] >= high, one, zero));
        y[0] = choose(inside, x[1], zero);
    });
    return {width.total(), rounded.total(), above.total()};
}

} // namespace simd
QUANT_END_TARGET
