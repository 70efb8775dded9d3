// SPDX-License-Identifier: MIT
#pragma once
// ADMM: real weights are trained beside their nearest table of few levels; a penalty pulls them together, and a dual variable remembers
// where they did not meet. Layer 5 (train).
//
//   quant::admm::cluster<float> c{theta, q, u, codes, 3};                                        // your buffers; 3 bits
//   auto begun = quant::admm::start(c, scratch);                                                 // u = 0, q the nearest table of theta
//   … per training step:  quant::admm::add_penalty_gradient(c, rho, grad_theta), your optimizer …
//   … every so often:     auto now = quant::admm::update(c, scratch);                            // projection, then dual step; now->gap
//                         quant::admm::keep_better(loss_of_q, *now, codes, best, best_codes);
//
//   1. theta <- argmin loss(theta) + rho / 2 ||theta - q + u||^2        gradient  d loss + rho (theta - q + u)               (A1)
//   2. q <- the nearest point D k of the table to theta + u             k in [-K, K], K = 2^(bits-1) - 1; 1 bit: +-D          (A2)
//   3. u <- u + theta - q                                                                                                   (A3)
//
// Nothing guarantees that this converges, and it may pass a better q on the way than where it ends: rho matters, keep the best iterate.
// Papers: Leng et al. 2018, "Extremely Low Bit Neural Network: Squeeze the Last Bit Out with ADMM"; Xu et al. 2021, arXiv 2111.14836 and
// 2112.11438 (language models). The schedule of rho is reconstructed. (A2) is solved exactly (calibrate/scale_fit.hpp).

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/scale_fit.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace admm {

/// Weights that share one table; all memory is the caller's, all of the same length.
template <class T> struct cluster {
    std::span<T> theta;           ///< real weights, trained
    std::span<T> q;               ///< step * codes, on the table
    std::span<T> u;               ///< scaled dual variable
    std::span<std::int8_t> codes; ///< k
    int bits = 2;                 ///< 1 to 8
};

/// Where a cluster stands after a projection.
struct iterate {
    double step = 0; ///< D as it stands in q
    double gap = 0;  ///< ||theta - q||
};

/// The best iterate so far.
struct best_iterate {
    double loss = std::numeric_limits<double>::infinity();
    double step = 0;
};

inline namespace QUANT_TARGET_TAG {
namespace detail {

template <class T> [[nodiscard]] inline status check(const cluster<T>& c) noexcept {
    if (c.q.size() != c.theta.size()) return {errc::shape_mismatch, "c.q"};
    if (c.u.size() != c.theta.size()) return {errc::shape_mismatch, "c.u"};
    if (c.codes.size() != c.theta.size()) return {errc::shape_mismatch, "c.codes"};
    if (c.bits < 1 || c.bits > 8) return {errc::bits_out_of_range, "c.bits"};
    return {};
}

} // namespace detail

/// (A2): the step D and the integers of least ||v - D k||^2 over the whole table.
/// v  [n] finite, real       bits  1: k = +-1, D = mean |v| (a table without zero); 2 to 8: as fit_point
/// codes  [n] written        scratch  [n], unused for 1 bit
/// Errors: bits_out_of_range "bits"; those of fit_point (shape_mismatch "k", buffer_too_small "scratch", non_finite "r").
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline result<point_fit> project(std::span<const T> v, int bits, std::span<std::int8_t> codes,
                                               std::span<fit_event> scratch) noexcept {
    if (bits < 1 || bits > 8) return status{errc::bits_out_of_range, "bits"};
    if (bits > 1) return fit_point(v, (1 << (bits - 1)) - 1, codes, scratch);
    if (codes.size() != v.size()) return status{errc::shape_mismatch, "k"};
    double sum = 0, error = 0;
    for (const T x : v) {
        if (!core_detail::is_finite(static_cast<double>(x))) return status{errc::non_finite, "r"};
        sum += static_cast<double>(x < 0 ? -x : x);
    }
    const double step = v.empty() ? 0 : sum / static_cast<double>(v.size());
    for (std::size_t i = 0; i < v.size(); ++i) {
        codes[i] = v[i] < 0 ? std::int8_t{-1} : std::int8_t{1};
        const double e = static_cast<double>(v[i] < 0 ? -v[i] : v[i]) - step;
        error += simd::rounded(e * e);
    }
    return point_fit{step, error};
}

/// The same by turns, k = clip(round(v / D)) and D = <v, k> / <k, k>, from max |v| / K on: no scratch, a local optimum.
/// bits  2 to 8        rounds  at most. Errors: bits_out_of_range "bits", shape_mismatch "codes", non_finite "v".
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline result<point_fit> project_by_turns(std::span<const T> v, int bits, std::span<std::int8_t> codes,
                                                        int rounds = 20) noexcept {
    if (bits < 2 || bits > 8) return status{errc::bits_out_of_range, "bits"};
    if (codes.size() != v.size()) return status{errc::shape_mismatch, "codes"};
    const double largest = (1 << (bits - 1)) - 1;
    double step = 0;
    for (const T x : v) {
        const double size = static_cast<double>(x < 0 ? -x : x);
        if (!core_detail::is_finite(size)) return status{errc::non_finite, "v"};
        step = size / largest > step ? size / largest : step;
    }
    for (int round = 0; round < rounds && step > 0; ++round) {
        double product = 0, squares = 0;
        for (std::size_t i = 0; i < v.size(); ++i) {
            const double t = static_cast<double>(v[i]) / step;
            const double k = std::nearbyint(t > largest ? largest : t < -largest ? -largest : t);
            codes[i] = static_cast<std::int8_t>(k);
            product += simd::rounded(static_cast<double>(v[i]) * k);
            squares += k * k;
        }
        const double next = squares > 0 ? product / squares : 0;
        if (next == step) break;
        step = next;
    }
    point_fit fit{step, 0};
    for (std::size_t i = 0; i < v.size(); ++i) {
        if (!(step > 0)) codes[i] = 0;
        const double e = static_cast<double>(v[i]) - simd::rounded(step * codes[i]);
        fit.error += simd::rounded(e * e);
    }
    return fit;
}

namespace detail {

/// q = T(D) k of theta + u, through the buffer of q.
template <class T> inline result<iterate> place(const cluster<T>& c, std::span<fit_event> scratch) noexcept {
    for (std::size_t i = 0; i < c.theta.size(); ++i) c.q[i] = c.theta[i] + c.u[i];
    const auto fit = admm::project<T>(std::span<const T>(c.q), c.bits, c.codes, scratch);
    if (!fit)
        return status{fit.status().code, fit.status().code == errc::non_finite ? "c.theta" : fit.status().argument};
    const T step = static_cast<T>(fit->step);
    iterate now{static_cast<double>(step), 0};
    for (std::size_t i = 0; i < c.theta.size(); ++i) {
        c.q[i] = static_cast<T>(c.codes[i]) * step;
        const double e = static_cast<double>(c.theta[i]) - static_cast<double>(c.q[i]);
        now.gap += simd::rounded(e * e);
    }
    now.gap = std::sqrt(now.gap);
    return now;
}

} // namespace detail

/// u = 0 and q the nearest point of the table to theta.
/// scratch  [n], as for project. Errors: shape_mismatch "c.q", "c.u", "c.codes"; bits_out_of_range "c.bits"; buffer_too_small "scratch";
/// non_finite "c.theta" (q is then not on the table).
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline result<iterate> start(const cluster<T>& c, std::span<fit_event> scratch) noexcept {
    if (const status s = detail::check(c); !s) return s;
    for (T& d : c.u) d = T(0);
    return detail::place(c, scratch);
}

/// (A2) and (A3). A fixed point if and only if gap is 0. Errors: those of start.
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline result<iterate> update(const cluster<T>& c, std::span<fit_event> scratch) noexcept {
    if (const status s = detail::check(c); !s) return s;
    const auto now = detail::place(c, scratch);
    if (!now) return now;
    for (std::size_t i = 0; i < c.theta.size(); ++i) c.u[i] += c.theta[i] - c.q[i];
    return now;
}

/// Adds rho (theta - q + u), of (A1), to the gradient of the loss by theta.
/// Errors: shape_mismatch "c.q", "c.u", "gradient"; invalid_argument "rho" (negative or not finite).
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline status add_penalty_gradient(const cluster<T>& c, double rho, std::span<T> gradient) noexcept {
    if (const status s = detail::check(c); !s) return s;
    if (gradient.size() != c.theta.size()) return {errc::shape_mismatch, "gradient"};
    if (!(rho >= 0 && core_detail::is_finite(rho))) return {errc::invalid_argument, "rho"};
    for (std::size_t i = 0; i < gradient.size(); ++i) {
        const double away = static_cast<double>(c.theta[i]) - static_cast<double>(c.q[i]) + static_cast<double>(c.u[i]);
        gradient[i] = static_cast<T>(static_cast<double>(gradient[i]) + simd::rounded(rho * away));
    }
    return {};
}

/// rho / 2 ||theta - q + u||^2. Precondition: counts that fit.
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline double penalty(const cluster<T>& c, double rho) noexcept {
    QUANT_EXPECTS(static_cast<bool>(detail::check(c)), "admm::penalty: counts that fit");
    double sum = 0;
    for (std::size_t i = 0; i < c.theta.size(); ++i) {
        const double away = static_cast<double>(c.theta[i]) - static_cast<double>(c.q[i]) + static_cast<double>(c.u[i]);
        sum += simd::rounded(away * away);
    }
    return rho / 2 * sum;
}

/// Copies the codes where the loss of q is below the best so far, and says whether it was.
/// Precondition: best_codes.size() == codes.size(). With several clusters keep their codes in one buffer, and their steps beside.
QUANT_INLINE bool keep_better(double loss, const iterate& now, std::span<const std::int8_t> codes, best_iterate& best,
                              std::span<std::int8_t> best_codes) noexcept {
    QUANT_EXPECTS(best_codes.size() == codes.size(), "admm::keep_better: as many codes");
    if (!(loss < best.loss)) return false;
    best = {loss, now.step};
    for (std::size_t i = 0; i < codes.size(); ++i) best_codes[i] = codes[i];
    return true;
}

} // namespace QUANT_TARGET_TAG
} // namespace admm
QUANT_END_NAMESPACE
