// SPDX-License-Identifier: MIT
#pragma once
// CPQ: every value has a probability for each point of a grid, the forward pass takes the most probable one, the backward pass goes
// through the probabilities, and so reaches the step and the width of the noise as well. Layer 5 (train).
//
//   const quant::cpq::grid grid{.alpha = 0.25, .sigma = 0.1, .bits = 3};                   // points -3 … 3 times 0.25
//   auto s = quant::cpq::forward(x, rounded, grid);
//   auto d = quant::cpq::backward(x, grad_rounded, grad_x, grid, quant::cpq::surrogate::mode);   // d->alpha, d->beta, d->sigma
//   s = quant::cpq::points(x, codes, grid);                                                // integers for the model: k
//
// Noise of logistic distribution and width sigma is added to x; pi_k is the probability of landing in the cell of width alpha around
// g_k = alpha k + beta, among the cells of the grid. With S the sigmoid and u+, u- = (g_k +- alpha / 2 - x) / sigma
//
//   pi_k ~ S(u+) S(-u-) Z_|k|                                                                                       (P1)
//   d log/dx = (S(u-) - S(-u+)) / sigma,   d log/d alpha = (S(-u+) (k + 1/2) - S(u-) (k - 1/2)) / sigma,
//   d log/d sigma = (S(u-) u- - S(-u+) u+) / sigma,   d log/d beta = -d log/dx                                      (P2)
//   d pi_i = pi_i (d log_i - sum_j pi_j d log_j)                                                                    (P3)
//   mode:         d x^ = d g_i + g_i d pi_i at the most probable point i                                            (P4)
//   expectation:  d sum_k g_k pi_k                                                                                  (P5)
//
// With a window only the points near a value have a probability: `reach` places on either side of the nearest one, whose cells are all
// those that a part of the noise within `window` sigmas can land in
//
//   reach = 1 + floor(window sigma / alpha);   all points where it is not below 2^(bits - 1) - 1                    (P6)
//
// (P1) is the difference of two sigmoids in the paper; as a product it has no cancellation. Z are the gates of DropBits
// (train/dropbits.hpp). Without gates the most probable point is the nearest one, for any sigma: inference is plain rounding.
//
// Papers: Louizos et al. 2019, "Relaxed Quantization", arXiv 1810.01875 (probabilities); Lee et al. 2021, "Cluster-Promoting Quantization
// with Bit-Drop", arXiv 2109.02100 (mode). (P4) is reconstructed; (P5) is exact and the safer choice.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/cpq_kernels.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace cpq {

/// Points alpha k + beta, |k| < 2^(bits - 1), and noise of width sigma.
struct grid {
    double alpha = 1;
    double beta = 0;
    double sigma = 0.3; ///< > 0: train its logarithm, whose gradient is sigma times that of sigma
    int bits = 4;       ///< 2 to 8
    double window =
        0; ///< in sigmas, for gradients: (P6); 0: all points. 3 is what Relaxed Quantization is reported to take

    [[nodiscard]] QUANT_INLINE constexpr int largest() const noexcept { return (1 << (bits - 1)) - 1; }
    /// (P6), 0 for all points.
    [[nodiscard]] constexpr int reach() const noexcept {
        const double places = window * sigma / alpha;
        return window > 0 && places < largest() - 1 ? 1 + static_cast<int>(places) : 0;
    }
};

/// What the backward pass takes for the derivative of the rounding.
enum class surrogate : std::uint8_t {
    mode,        ///< (P4): zero at the point 0, and not monotone: it pulls to a point or pushes away from it
    expectation, ///< (P5)
};

/// Derivatives of the loss by the parameters of the grid.
struct grid_gradient {
    double alpha = 0, beta = 0, sigma = 0;
};

inline namespace QUANT_TARGET_TAG {
namespace detail {

template <class T> [[nodiscard]] inline status check(const grid& g, std::span<const T> gates) noexcept {
    if (g.bits < 2 || g.bits > 8) return {errc::bits_out_of_range, "grid.bits"};
    if (!(g.alpha >= static_cast<double>(min_scale) && g.alpha <= static_cast<double>(max_scale)))
        return {errc::invalid_scale, "grid.alpha"};
    if (!core_detail::is_finite(g.beta)) return {errc::invalid_argument, "grid.beta"};
    if (!(g.sigma >= static_cast<double>(min_scale) && g.sigma <= static_cast<double>(max_scale)))
        return {errc::invalid_argument, "grid.sigma"};
    if (!(g.window >= 0) || (g.window > 0 && !gates.empty())) return {errc::invalid_argument, "grid.window"};
    if (gates.empty()) return {};
    if (gates.size() != static_cast<std::size_t>(g.largest()) + 1) return {errc::shape_mismatch, "gates"};
    if (gates[0] != T(1)) return {errc::invalid_argument, "gates"};
    for (std::size_t m = 1; m < gates.size(); ++m)
        if (!(gates[m] >= T(0) && gates[m] <= gates[m - 1])) return {errc::invalid_argument, "gates"};
    return {};
}
/// Points whose gate is closed are no points; gates that are all open are none.
template <class T>
[[nodiscard]] inline simd::probable_grid<T> kernel_grid(const grid& g, std::span<const T> gates) noexcept {
    simd::probable_grid<T> k;
    k.alpha = static_cast<T>(g.alpha);
    k.beta = static_cast<T>(g.beta);
    k.inverse = static_cast<T>(1 / g.sigma);
    k.live = g.largest();
    k.reach = g.reach();
    if (gates.empty()) return k;
    while (k.live > 0 && gates[static_cast<std::size_t>(k.live)] == T(0)) --k.live;
    if (gates[static_cast<std::size_t>(k.live)] != T(1)) k.gate = gates.data();
    return k;
}

} // namespace detail

/// pi of all points for one value, in the logarithmic form that never underflows: the scalar definition.
/// pi  2^bits - 1, written: of k = -largest first; their sum is 1        gates  as for forward
/// Errors: those of forward; shape_mismatch "pi"; non_finite "x".
[[nodiscard]] inline status probabilities(double x, std::span<double> pi, const grid& g,
                                          std::span<const double> gates = {}) noexcept {
    if (const status s = detail::check<double>(g, gates); !s) return s;
    const int largest = g.largest();
    if (pi.size() != 2 * static_cast<std::size_t>(largest) + 1) return {errc::shape_mismatch, "pi"};
    if (!core_detail::is_finite(x)) return {errc::non_finite, "x"};
    const auto softplus = [](double t) noexcept { return (t > 0 ? t : 0.0) + std::log1p(std::exp(t > 0 ? -t : t)); };
    const double u = (x - g.beta) / g.alpha, size = std::abs(u) < largest ? std::ceil(std::abs(u) - 0.5) : largest;
    const double nearest = u < 0 ? -size : size;
    const auto gate = [&](int k) noexcept {
        if (g.reach() != 0 && std::abs(k - nearest) > g.reach()) return 0.0;
        return gates.empty() ? 1.0 : gates[static_cast<std::size_t>(k < 0 ? -k : k)];
    };
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    double* const middle = pi.data() + largest;
    for (int k = -largest; k <= largest; ++k) {
        const double high = (g.alpha * (k + 0.5) + g.beta - x) / g.sigma;
        const double low = (g.alpha * (k - 0.5) + g.beta - x) / g.sigma;
        double& logit = middle[k];
        logit = -softplus(-high) - softplus(low);
        if (gate(k) > 0 && logit > most) most = logit;
    }
    for (int k = -largest; k <= largest; ++k) {
        double& p = middle[k];
        p = gate(k) > 0 ? std::exp(p - most) * gate(k) : 0.0;
        sum += p;
    }
    for (double& p : pi) p /= sum;
    return {};
}

/// The most probable points, alpha k + beta.
/// x  any rank, dense        rounded  as many elements, dense, may be `x`
/// gates  empty, or Z of each |k|, 0 to 2^(bits - 1) - 1: from 1 down to 0, never growing, the first 1 (dropbits::magnitude_gates).
///        They need grid.window = 0: the likeliest point may then be far from the nearest
/// Without gates: the nearest point, in the middle the one of smaller |k|. NaN gives NaN.
/// Errors: bits_out_of_range, invalid_scale, invalid_argument (the grid's member), shape_mismatch, invalid_stride, invalid_argument "gates";
/// nothing is written then. Exactness: the same bytes on every architecture. Complexity: one pass; with gates 2^bits sigmoids an element.
template <viewable X, destination Rounded>
    requires(trainable<element_of_t<X>>&& std::same_as<element_of_t<X>, element_of_t<Rounded>>)
[[nodiscard]] inline status forward(const X& x, Rounded&& rounded, const grid& g,
                                    std::span<const element_of_t<X>> gates = {}) noexcept {
    using T = element_of_t<X>;
    const auto from = v0_1::view(x);
    const auto to = v0_1::view(rounded);
    if (const status s = detail::check<T>(g, gates); !s) return s;
    if (const status s = train_detail::check_dense(from, from.size(), "x"); !s) return s;
    if (const status s = train_detail::check_dense(to, from.size(), "rounded"); !s) return s;
    simd::round_to_grid<T, simd::grid_output::values>(from.data(), to.data(), from.size(),
                                                      detail::kernel_grid<T>(g, gates));
    return {};
}

/// The k of the same points; k * float(alpha) + float(beta), each rounded, is what forward gives. NaN gives 0.
/// codes  as many elements, int8, dense. Errors and cost: those of forward.
template <viewable X, destination Codes>
    requires(trainable<element_of_t<X>>&& std::same_as<element_of_t<Codes>, std::int8_t>)
[[nodiscard]] inline status points(const X& x, Codes&& codes, const grid& g,
                                   std::span<const element_of_t<X>> gates = {}) noexcept {
    using T = element_of_t<X>;
    const auto from = v0_1::view(x);
    const auto to = v0_1::view(codes);
    if (const status s = detail::check<T>(g, gates); !s) return s;
    if (const status s = train_detail::check_dense(from, from.size(), "x"); !s) return s;
    if (const status s = train_detail::check_dense(to, from.size(), "codes"); !s) return s;
    constexpr std::size_t tile = 512;
    T whole[tile];
    const auto kernel = detail::kernel_grid<T>(g, gates);
    for (std::size_t at = 0; at < from.size(); at += tile) {
        const std::size_t count = from.size() - at < tile ? from.size() - at : tile;
        simd::round_to_grid<T, simd::grid_output::points>(from.data() + at, whole, count, kernel);
        for (std::size_t i = 0; i < count; ++i)
            to.data()[at + i] = whole[i] == whole[i] ? static_cast<std::int8_t>(whole[i]) : std::int8_t{0};
    }
    return {};
}

/// The gradients of (P4) or (P5).
/// x  dense, finite       gradient  as many: d loss / d rounded       grad_x  written, may be `gradient`
/// Returns the derivatives by the grid's parameters, sums over the elements.
/// Errors: those of forward; non_finite "gradient" (NaN or infinity in it or in x): grad_x is then written, but no step should be taken.
/// Exactness: the same bytes on every architecture; sums in double. Complexity: one pass, 2^bits sigmoids an element, with a window
/// 2 reach + 2 (P6), however many bits there are.
template <viewable X, viewable Gradient, destination GradX>
    requires(trainable<element_of_t<X>>&& std::same_as<element_of_t<X>, element_of_t<Gradient>>&&
                 std::same_as<element_of_t<X>, element_of_t<GradX>>)
[[nodiscard]] inline result<grid_gradient> backward(const X& x, const Gradient& gradient, GradX&& grad_x, const grid& g,
                                                    surrogate which,
                                                    std::span<const element_of_t<X>> gates = {}) noexcept {
    using T = element_of_t<X>;
    const auto from = v0_1::view(x);
    const auto of = v0_1::view(gradient);
    const auto to = v0_1::view(grad_x);
    if (const status s = detail::check<T>(g, gates); !s) return s;
    if (const status s = train_detail::check_dense(from, from.size(), "x"); !s) return s;
    if (const status s = train_detail::check_dense(of, from.size(), "gradient"); !s) return s;
    if (const status s = train_detail::check_dense(to, from.size(), "grad_x"); !s) return s;
    const auto kernel = detail::kernel_grid<T>(g, gates);
    const auto sums =
        which == surrogate::mode
            ? simd::round_to_grid_backward<T, true>(from.data(), of.data(), to.data(), from.size(), kernel)
            : simd::round_to_grid_backward<T, false>(from.data(), of.data(), to.data(), from.size(), kernel);
    if (!core_detail::is_finite(sums.alpha + sums.beta + sums.sigma)) return status{errc::non_finite, "gradient"};
    return grid_gradient{sums.alpha, sums.beta, sums.sigma};
}

/// Adds to grad_gates[m] the derivative of the loss by Z_m; a closed gate has none.
/// grad_gates  as many as gates. The rest, the errors and the cost are backward's; gates must not be empty (shape_mismatch "gates").
template <viewable X, viewable Gradient>
    requires(trainable<element_of_t<X>>&& std::same_as<element_of_t<X>, element_of_t<Gradient>>)
[[nodiscard]] inline status add_gate_gradient(const X& x, const Gradient& gradient, std::span<double> grad_gates,
                                              const grid& g, surrogate which,
                                              std::span<const element_of_t<X>> gates) noexcept {
    using T = element_of_t<X>;
    const auto from = v0_1::view(x);
    const auto of = v0_1::view(gradient);
    if (const status s = detail::check<T>(g, gates); !s) return s;
    if (gates.empty()) return {errc::shape_mismatch, "gates"};
    if (grad_gates.size() != gates.size()) return {errc::shape_mismatch, "grad_gates"};
    if (const status s = train_detail::check_dense(from, from.size(), "x"); !s) return s;
    if (const status s = train_detail::check_dense(of, from.size(), "gradient"); !s) return s;
    auto kernel = detail::kernel_grid<T>(g, gates);
    kernel.gate = gates.data();
    if (which == surrogate::mode)
        simd::grid_gate_backward<T, true>(from.data(), of.data(), grad_gates.data(), from.size(), kernel);
    else
        simd::grid_gate_backward<T, false>(from.data(), of.data(), grad_gates.data(), from.size(), kernel);
    for (const double d : grad_gates)
        if (!core_detail::is_finite(d)) return {errc::non_finite, "gradient"};
    return {};
}

} // namespace QUANT_TARGET_TAG
} // namespace cpq
QUANT_END_NAMESPACE
