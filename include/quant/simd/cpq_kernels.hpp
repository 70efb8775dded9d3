// SPDX-License-Identifier: MIT
#pragma once
// The loops of probabilistic grids: over elements in registers, and for each register over the points of the grid. Layer 2 (simd).
// The same bytes on every architecture.
//
// The probability of cell k is proportional to S(v_(k+1)) S(-v_k) Z_|k|, v_k = (alpha (k - 1/2) + beta - x) / sigma the borders of the
// cells and S the sigmoid: nothing is subtracted. With e = exp(-|v|) and s = 1 / (1 + e) both S(v) and S(-v) are s or e s. Outside the grid
// all of them would underflow together; there |v| is measured from the grid's end in the factor e, which cancels in the ratios.

#include <cstddef>
#include <cstdint>
#include <quant/simd/csq_kernels.hpp>
#include <quant/simd/exponential.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// Points alpha k + beta, -live <= k <= live. gate: Z of each |k|, 0 to live, not negative, gate[0] = 1; null where all are 1.
template <class T> struct probable_grid {
    T alpha = 1, beta = 0;
    T inverse = 1; ///< 1 / sigma
    int live = 1;
    const T* gate = nullptr;
    int reach = 0; ///< points on either side of the nearest that have a probability; 0: all. No gates then
};

/// Derivatives by the parameters of the grid: sums over the elements, each times its gradient.
struct grid_sums {
    double alpha = 0, beta = 0, sigma = 0;
};

namespace detail {

inline constexpr int most_magnitude = 127;

/// One border of cells: v, S(v), S(-v), and S(v) and S(-v) times exp(shift).
template <class T, class A> struct cell_border { pack<T, A> h, v, up, down, up_scaled, down_scaled; };

/// What all borders of one register share.
template <class T, class A> struct cell_frame {
    pack<T, A> x, shift, shrink; ///< shrink = exp(-shift)
};

/// exp(-t), t >= 0.
template <class T, class A> QUANT_INLINE pack<T, A> exp_minus(const pack<T, A>& t) noexcept {
    using P = pack<T, A>;
    const auto parts = exp_of_minus<T, A>(t);
    return choose(t > P(exponential<T>::limit), P(T(0)), P(parts.power * (P(T(1)) + parts.rest)));
}

template <class T, class A>
QUANT_INLINE pack<T, A> border_at(const pack<T, A>& x, const pack<T, A>& h, const probable_grid<T>& g) noexcept {
    using P = pack<T, A>;
    const P place = rounded_product(P(g.alpha), h); // rounded first, here as in the scalar definition
    return rounded_product(P(P(place + P(g.beta)) - x), P(g.inverse));
}
/// Beyond the grid by more than 40 sigma no ratio of probabilities changes any more, but the digits of the borders would be lost.
inline constexpr int far_outside = 40;

template <class T, class A>
QUANT_INLINE cell_frame<T, A> frame_of(const pack<T, A>& x, const probable_grid<T>& g) noexcept {
    using P = pack<T, A>;
    const P zero(T(0));
    const T h = static_cast<T>(g.live) + T(0.5), end = rounded(T(g.alpha * h)), away = T(far_outside) / g.inverse;
    const P highest(T(T(end + g.beta) + away)), lowest(T(T(g.beta - end) - away));
    const P kept = choose(x > highest, highest, choose(x < lowest, lowest, x)); // NaN stays NaN
    const P above = zero - border_at<T, A>(kept, P(h), g), below = border_at<T, A>(kept, P(-h), g);
    const P beyond = choose(above > below, above, below);
    const P shift = choose(beyond > zero, beyond, zero);
    return {kept, shift, exp_minus<T, A>(shift)};
}
template <class T, class A>
QUANT_INLINE cell_border<T, A> border_of(const cell_frame<T, A>& f, const pack<T, A>& h,
                                         const probable_grid<T>& g) noexcept {
    using P = pack<T, A>;
    const P v = border_at<T, A>(f.x, h, g), zero(T(0)), one(T(1));
    const P t = magnitude(v) - f.shift; // may fall below 0 by rounding
    const P scaled = exp_minus<T, A>(choose(t < zero, zero, t)), e = rounded_product(scaled, f.shrink);
    const P s = divided(one, P(one + e)), small = e * s, small_scaled = scaled * s;
    const auto positive = v >= zero;
    // The large one is only used unscaled where nothing is beyond the grid, or next to a small one that is scaled.
    return {h,
            v,
            choose(positive, s, small),
            choose(positive, small, s),
            choose(positive, s, small_scaled),
            choose(positive, small_scaled, s)};
}
/// exp(shift) times the probability of a cell, not yet normalized. Beyond the grid one of its two factors is small, and scaled.
template <class T, class A>
QUANT_INLINE pack<T, A> cell_weight(const cell_border<T, A>& low, const cell_border<T, A>& high, int k,
                                    const probable_grid<T>& g) noexcept {
    using P = pack<T, A>;
    const P w = rounded_product(high.up_scaled, low.down_scaled);
    return g.gate == nullptr ? w : rounded_product(w, P(g.gate[k < 0 ? -k : k]));
}

/// Of the cell: d logit by x, alpha and sigma, all times sigma.
template <class T, class A> struct cell_slopes { pack<T, A> x, alpha, sigma; };
template <class T, class A>
QUANT_INLINE cell_slopes<T, A> slopes_of(const cell_border<T, A>& low, const cell_border<T, A>& high) noexcept {
    using P = pack<T, A>;
    return {P(low.up - high.down), P(rounded_product(high.down, high.h) - rounded_product(low.up, low.h)),
            P(rounded_product(low.up, low.v) - rounded_product(high.down, high.v))};
}

/// f(k, low, high) for the cells number first to last, k = 0 the one around `middle`.
template <class T, class A, class F>
QUANT_INLINE void for_each_cell(const cell_frame<T, A>& frame, const pack<T, A>& middle, int first, int last,
                                const probable_grid<T>& g, F&& f) noexcept {
    using P = pack<T, A>;
    auto low = border_of<T, A>(frame, P(middle + P(static_cast<T>(first) - T(0.5))), g);
    for (int k = first; k <= last; ++k) {
        const auto high = border_of<T, A>(frame, P(middle + P(static_cast<T>(k) + T(0.5))), g);
        f(k, low, high);
        low = high;
    }
}
/// The same for all cells of the grid.
template <class T, class A, class F>
QUANT_INLINE void for_each_cell(const cell_frame<T, A>& frame, const probable_grid<T>& g, F&& f) noexcept {
    for_each_cell<T, A>(frame, pack<T, A>(T(0)), -g.live, g.live, g, f);
}

/// The nearest point, in the middle the smaller magnitude; NaN stays NaN.
template <class T, class A>
QUANT_INLINE pack<T, A> nearest_point(const pack<T, A>& x, const probable_grid<T>& g) noexcept {
    using P = pack<T, A>;
    const P u = divided(P(x - P(g.beta)), P(g.alpha)), zero(T(0)), one(T(1)), most(static_cast<T>(g.live));
    const P size = magnitude(u), kept = choose(size > most, most, size), near = nearest_even<T, A>(kept);
    const P k = near - choose(P(near - kept) == P(T(0.5)), one, zero);
    return choose(u < zero, P(zero - k), k);
}
/// The most probable point; of equally probable ones that of smaller magnitude. Without gates the nearest.
template <class T, class A>
QUANT_INLINE pack<T, A> likeliest_point(const pack<T, A>& x, const probable_grid<T>& g) noexcept {
    using P = pack<T, A>;
    if (g.gate == nullptr) return nearest_point<T, A>(x, g);
    P best(T(-1)), at = x - x; // NaN stays NaN
    const auto frame = frame_of<T, A>(x, g);
    for_each_cell<T, A>(frame, g, [&](int k, const auto& low, const auto& high) {
        const P w = cell_weight<T, A>(low, high, k, g), point(static_cast<T>(k));
        const auto better = either(w > best, both(w == best, magnitude(point) < magnitude(at)));
        best = choose(better, w, best);
        at = choose(better, P(point + (x - x)), at);
    });
    return at;
}

} // namespace detail

/// What round_to_grid writes.
enum class grid_output : std::uint8_t { values, points };

/// alpha k + beta of the most probable points, or k as T.
template <class T, grid_output Output, class Arch = native>
inline void round_to_grid(const T* from, T* to, std::size_t n, const probable_grid<T>& g) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P alpha(g.alpha), beta(g.beta);
    detail::for_each_pack<T, A, 1, 1>({from}, {to}, n, [&](std::size_t, const auto& x, auto& y) {
        const P k = detail::likeliest_point<T, A>(x[0], g);
        y[0] = Output == grid_output::points ? k : P(rounded_product(k, alpha) + beta);
    });
}

/// The way back. Mode: only the probability of the chosen point is taken to depend on anything; else the gradient of the mean of
/// the grid's points. dx is written, the sums by the grid's parameters returned.
template <class T, bool Mode, class Arch = native>
inline grid_sums round_to_grid_backward(const T* from, const T* gradient, T* dx, std::size_t n,
                                        const probable_grid<T>& g) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P zero(T(0)), one(T(1)), alpha(g.alpha), beta(g.beta), inverse(g.inverse);
    detail::sum_lanes<A> of_alpha, of_beta, of_sigma;
    detail::for_each_pack<T, A, 2, 1>({from, gradient}, {dx}, n, [&](std::size_t lane, const auto& x, auto& y) {
        const auto frame = detail::frame_of<T, A>(x[0], g);
        const P chosen = Mode ? detail::likeliest_point<T, A>(x[0], g) : zero;
        P all = zero, mean_x = zero, mean_a = zero, mean_s = zero;
        P k_all = zero, k_x = zero, k_a = zero, k_s = zero; // with the point as a factor
        P of_chosen = zero, chosen_x = zero, chosen_a = zero, chosen_s = zero;
        const auto add_cell = [&](const P& w, const P& point, const auto& low, const auto& high) {
            const auto d = detail::slopes_of<T, A>(low, high);
            const P wx = rounded_product(w, d.x), wa = rounded_product(w, d.alpha), ws = rounded_product(w, d.sigma);
            all = all + w;
            mean_x = mean_x + wx;
            mean_a = mean_a + wa;
            mean_s = mean_s + ws;
            if constexpr (Mode) {
                const auto here = chosen == point;
                of_chosen = choose(here, w, of_chosen);
                chosen_x = choose(here, d.x, chosen_x);
                chosen_a = choose(here, d.alpha, chosen_a);
                chosen_s = choose(here, d.sigma, chosen_s);
            } else {
                k_all = k_all + rounded_product(w, point);
                k_x = k_x + rounded_product(wx, point);
                k_a = k_a + rounded_product(wa, point);
                k_s = k_s + rounded_product(ws, point);
            }
        };
        if (g.reach == 0) {
            detail::for_each_cell<T, A>(frame, g, [&](int k, const auto& low, const auto& high) {
                add_cell(detail::cell_weight<T, A>(low, high, k, g), P(static_cast<T>(k)), low, high);
            });
        } else {
            const P middle = Mode ? chosen : detail::nearest_point<T, A>(x[0], g), most(static_cast<T>(g.live));
            detail::for_each_cell<T, A>(frame, middle, -g.reach, g.reach, g,
                                        [&](int k, const auto& low, const auto& high) {
                                            const P point = middle + P(static_cast<T>(k));
                                            const P w = rounded_product(high.up_scaled, low.down_scaled);
                                            add_cell(choose(magnitude(point) > most, zero, w), point, low, high);
                                        });
        }
        const P part = divided(one, all);
        mean_x = rounded_product(mean_x, part);
        mean_a = rounded_product(mean_a, part);
        mean_s = rounded_product(mean_s, part);
        P by_x, by_alpha, by_beta, by_sigma;
        if constexpr (Mode) {
            const P value = rounded_product(chosen, alpha) + beta, factor = value * (of_chosen * part) * inverse;
            by_x = rounded_product(factor, P(chosen_x - mean_x));
            by_alpha = chosen + rounded_product(factor, P(chosen_a - mean_a));
            by_sigma = factor * (chosen_s - mean_s);
        } else {
            const P k_mean = rounded_product(k_all, part), factor = alpha * inverse;
            by_x = rounded_product(factor, P(rounded_product(k_x, part) - rounded_product(k_mean, mean_x)));
            by_alpha =
                k_mean + rounded_product(factor, P(rounded_product(k_a, part) - rounded_product(k_mean, mean_a)));
            by_sigma = factor * (rounded_product(k_s, part) - rounded_product(k_mean, mean_s));
        }
        by_beta = one - by_x;
        y[0] = x[1] * by_x;
        detail::add_products<T, A>(of_alpha, lane, x[1], by_alpha);
        detail::add_products<T, A>(of_beta, lane, x[1], by_beta);
        detail::add_products<T, A>(of_sigma, lane, x[1], by_sigma);
    });
    return {of_alpha.total(), of_beta.total(), of_sigma.total()};
}

/// Adds to sums[m], m = 0 to live, the derivative by Z_m: the sum over the elements of the gradient times that of the value, as in
/// round_to_grid_backward. Gates are not null.
template <class T, bool Mode, class Arch = native>
inline void grid_gate_backward(const T* from, const T* gradient, double* sums, std::size_t n,
                               const probable_grid<T>& g) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const P zero(T(0)), one(T(1)), alpha(g.alpha), beta(g.beta);
    probable_grid<T> open = g;
    open.gate = nullptr;
    detail::sum_lanes<A> total[detail::most_magnitude + 1];
    detail::for_each_pack<T, A, 2, 0>({from, gradient}, {}, n, [&](std::size_t lane, const auto& x, auto&) {
        P mass[detail::most_magnitude + 1];  // of both points of a magnitude, ungated
        P value[detail::most_magnitude + 1]; // the same times the points
        for (int m = 0; m <= g.live; ++m) mass[m] = value[m] = zero;
        const P chosen = Mode ? detail::likeliest_point<T, A>(x[0], g) : zero, size = magnitude(chosen);
        P all = zero, all_values = zero, of_chosen = zero, gate_of_chosen = zero;
        detail::for_each_cell<T, A>(detail::frame_of<T, A>(x[0], g), g, [&](int k, const auto& low, const auto& high) {
            const int m = k < 0 ? -k : k;
            const P w = detail::cell_weight<T, A>(low, high, k, open), point(static_cast<T>(k)), gate(g.gate[m]);
            mass[m] = mass[m] + w;
            all = all + rounded_product(w, gate);
            if constexpr (Mode) {
                of_chosen = choose(chosen == point, w, of_chosen);
                gate_of_chosen = choose(chosen == point, gate, gate_of_chosen);
            } else {
                const P at = rounded_product(w, P(rounded_product(point, alpha) + beta));
                value[m] = value[m] + at;
                all_values = all_values + rounded_product(at, gate);
            }
        });
        const P part = divided(one, all);
        for (int m = 0; m <= g.live; ++m) {
            if constexpr (Mode) {
                const P factor = rounded_product(P(rounded_product(chosen, alpha) + beta), P(of_chosen * part));
                const P other = rounded_product(gate_of_chosen, P(mass[m] * part));
                const P by = factor * (choose(size == P(static_cast<T>(m)), one, zero) - other);
                detail::add_products<T, A>(total[m], lane, x[1], by);
            } else {
                const P mean = all_values * part;
                const P by = part * (value[m] - rounded_product(mean, mass[m]));
                detail::add_products<T, A>(total[m], lane, x[1], by);
            }
        }
    });
    for (int m = 0; m <= g.live; ++m) sums[m] += total[m].total();
}

} // namespace simd
QUANT_END_TARGET
