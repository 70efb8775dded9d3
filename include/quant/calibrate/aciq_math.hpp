// SPDX-License-Identifier: MIT
#pragma once
// The formulas of analytical clipping as plain functions of doubles: optimal clips, expected errors, estimators. They are
// what quant::aciq is made of; docs/aciq.md derives the equations that are quoted here by number. Layer 3 (calibrate).
//
//   using namespace quant::aciq_math;
//   double a = optimal_alpha(quant::prior::laplace, signed_cells(4));     // 5.0286…: clip at 5.03 b for 4 bits
//   double e = paper_mse(quant::prior::laplace, a, signed_cells(4));      // 0.0460… b^2
//
// Everything is in units of the spread of the source (b for Laplace, sigma for Gauss) unless a parameter says otherwise.
// Exactness: approximate, relative error below 1e-11 over the stated domains. No allocation.
// Paper: Banner, Nahshan, Soudry 2019, arXiv 1810.05723.

#include <cmath>
#include <cstdint>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>

QUANT_BEGIN_NAMESPACE

/// The density a tensor is assumed to have.
enum class prior : std::uint8_t {
    gauss,     ///< spread is the standard deviation sigma
    laplace,   ///< spread is b = E|x - mean|
    automatic, ///< whichever of the two has the larger likelihood, see aciq_math::choose_prior
};

/// Which optimum is asked for.
enum class aciq_mode : std::uint8_t {
    paper,     ///< the authors' formula: 2^bits cells on [-clip, clip]
    corrected, ///< the same formula with the cells that the integer grid really has
    exact,     ///< the optimum of the finite integer grid, found by Newton steps
    empirical, ///< no density at all: the same equation solved on the data
};

/// Integer multiples of one step that codes can represent: -below … above.
struct integer_grid {
    int below = 0; ///< codes below zero
    int above = 0; ///< codes above zero
    friend constexpr bool operator==(const integer_grid&, const integer_grid&) = default;
};

/// The grid of a format with zero_point 0. Precondition: validate(format) is ok.
[[nodiscard]] QUANT_INLINE constexpr integer_grid grid_of(code_format format) noexcept {
    return {-format.qmin(), format.qmax()};
}

QUANT_END_NAMESPACE

QUANT_BEGIN_TARGET

namespace aciq_math {

/// A source of unit spread: Y has the given density (gauss or laplace) about `mean`; X = Y, or X = max(Y, 0) with `relu`.
struct source {
    prior density = prior::laplace;
    double mean = 0;
    bool relu = false;
};

namespace detail {

inline constexpr double inv_sqrt2 = 0.70710678118654752440;
inline constexpr double inv_sqrt_2pi = 0.39894228040143267794;
inline constexpr double sqrt_2_over_pi = 0.79788456080286535588;

/// Beyond this many spreads a tail adds less than rounding does.
QUANT_INLINE double cutoff(prior p) noexcept { return p == prior::gauss ? 12.0 : 50.0; }
QUANT_INLINE double normal_density(double t) noexcept { return inv_sqrt_2pi * std::exp(-0.5 * t * t); }
QUANT_INLINE double normal_tail(double t) noexcept { return 0.5 * std::erfc(t * inv_sqrt2); }

/// E[max(Y - t, 0)], t >= 0.
QUANT_INLINE double normal_excess(double t) noexcept {
    const double weighted_tail = t * normal_tail(t);
    const double s = normal_density(t) - weighted_tail;
    return s < 0 ? 0.0 : s; // rounding, far in the tail
}

/// Nearest integer, ties to even, of |x| < 2^31, whatever the rounding mode of the environment.
QUANT_INLINE std::int32_t round_half_even(double x) noexcept {
    const double below = std::floor(x);
    const double fraction = x - below;
    auto i = static_cast<std::int32_t>(below);
    if (fraction > 0.5 || (fraction == 0.5 && i % 2 != 0)) ++i;
    return i;
}

/// 1 - (u/2)/sinh(u/2) without cancellation.
QUANT_INLINE double one_minus_h(double u) noexcept {
    const double v = 0.5 * u;
    if (v < 0.25) { // (sinh v - v)/sinh v, both as series
        const double w = v * v;
        const double numerator = w / 6 * (1 + w / 20 * (1 + w / 42 * (1 + w / 72 * (1 + w / 110))));
        return numerator / (1 + numerator);
    }
    return v > 350 ? 1.0 : 1.0 - v / std::sinh(v);
}

} // namespace detail

// ---- densities ------------------------------------------------------------------------------------------------------

// Functions of a prior choose at the caller's place: where it is a constant, the other density's special functions are not linked.

/// f(t) of the zero-mean density with unit spread. p is gauss or laplace, here and below.
[[nodiscard]] QUANT_INLINE double density(prior p, double t) noexcept {
    if (p == prior::gauss) return detail::normal_density(t);
    return 0.5 * std::exp(-std::fabs(t));
}

/// P(t) = Pr[Y > t].
[[nodiscard]] QUANT_INLINE double upper_tail(prior p, double t) noexcept {
    if (p == prior::gauss) return detail::normal_tail(t);
    return t >= 0 ? 0.5 * std::exp(-t) : 1.0 - 0.5 * std::exp(t);
}

/// S(t) = E[max(Y - t, 0)]; S' = -P.
[[nodiscard]] QUANT_INLINE double excess(prior p, double t) noexcept {
    const double magnitude = std::fabs(t);
    const double s = p == prior::gauss ? detail::normal_excess(magnitude) : 0.5 * std::exp(-magnitude);
    return t >= 0 ? s : magnitude + s; // S(-t) = t + S(t)
}

/// E[X^2] of a source.
[[nodiscard]] inline double mean_square(const source& x) noexcept {
    const double m = x.mean;
    const double variance = x.density == prior::gauss ? 1.0 : 2.0;
    if (!x.relu) return m * m + variance;
    if (x.density == prior::gauss) {
        const double weight = m * m + 1;
        return weight * detail::normal_tail(-m) + m * detail::normal_density(m);
    }
    return m < 0 ? std::exp(m) : m * m + 2 - std::exp(-m);
}

// ---- the paper's formula: optimal clip and expected error --------------------------------------------------------

/// Cells of the paper's grid on [-alpha, alpha]: 2^bits. Any real number of bits.
[[nodiscard]] inline double signed_cells(double bits) noexcept { return std::exp2(bits); }
/// Cells on [-alpha, alpha] when a fused ReLU spends all 2^bits of them on [0, alpha]: one more bit.
[[nodiscard]] inline double fused_cells(double bits) noexcept { return std::exp2(bits + 1); }
/// Cells of an integer grid, one less than its levels: 2^M - 2 narrow, 2^M - 1 signed; an X that is never negative uses the
/// codes from 0 on, which stand for 2 above cells on both sides of zero.
[[nodiscard]] inline double corrected_cells(integer_grid grid, bool relu) noexcept {
    return relu ? 2.0 * grid.above : static_cast<double>(grid.below) + static_cast<double>(grid.above);
}

namespace detail {

/// The root t of t e^t = x, x > 0, to rounding error: Newton steps on t + ln t = log_x, which is ln x.
inline double laplace_root(double x, double log_x) noexcept {
    double t = log_x > 1 ? log_x - std::log(log_x) : x / (1.0 + x);
    for (int step = 0; step < 12; ++step) {
        const double next = t * (1.0 + log_x - std::log(t)) / (1.0 + t);
        const bool done = std::fabs(next - t) <= 1e-15 * t;
        t = next;
        if (done) break;
    }
    return t;
}

/// The root z of S(z) = z / (3 cells^2) of the normal density: Newton on the logarithm.
inline double gauss_root(double cells, double log_cells) noexcept {
    const double bits = log_cells * 1.4426950408889634074;
    const double log_c = -std::log(6.0) - 2.0 * log_cells;
    // Below one cell the root is near zero, where S is its tangent 1 / sqrt(2 pi) - z / 2.
    const double square = 6.0 * cells * cells;
    double z =
        bits >= 0 ? std::sqrt(0.6 + 1.2 * bits + 0.06 * bits * bits) : square * inv_sqrt_2pi / (1.0 + 0.5 * square);
    for (int step = 0; step < 40; ++step) {
        const double s = normal_excess(z);
        const double difference = std::log(s) - std::log(z) - log_c;
        const double slope = -normal_tail(z) / s - 1.0 / z;
        const double next = z - difference / slope;
        const bool done = std::fabs(next - z) <= 1e-15 * z;
        z = next;
        if (done) break;
    }
    return z;
}

} // namespace detail

/// The clip that minimizes the expected error with `cells` cells on [-alpha, alpha], docs equation (3):
///   E[max(|Y| - alpha, 0)] = alpha / (3 cells^2)
/// cells   > 0, any real number: signed_cells, fused_cells, corrected_cells, or a number of bins
/// Laplace: t e^t = 3 cells^2 (paper eq. 6). Gauss: Newton on the logarithm. Both to rounding error, under 10 steps.
[[nodiscard]] QUANT_INLINE double optimal_alpha(prior p, double cells) noexcept {
    QUANT_EXPECTS(p != prior::automatic && cells > 0, "optimal_alpha: gauss or laplace, and more than 0 cells");
    const double log_cells = std::log(cells);
    if (p == prior::gauss) return detail::gauss_root(cells, log_cells);
    return detail::laplace_root(3.0 * cells * cells, std::log(3.0) + 2.0 * log_cells);
}

/// Expected squared error of clipping at alpha with `cells` cells on [-alpha, alpha], docs equation (2): linear density inside a
/// cell, clipped values reconstructed at the clip. Under a fused ReLU the error is half of this with fused_cells.
[[nodiscard]] inline double paper_mse(prior p, double alpha, double cells) noexcept {
    QUANT_EXPECTS(p != prior::automatic, "paper_mse: gauss or laplace");
    const double granular = alpha * alpha / (3.0 * cells * cells);
    if (p == prior::laplace) return 2.0 * std::exp(-alpha) + granular;
    const double overload = (alpha * alpha + 1.0) * 2.0 * detail::normal_tail(alpha);
    return overload - 2.0 * alpha * detail::normal_density(alpha) + granular;
}

/// The clip of X = max(Y, 0) when Y has a mean other than zero, docs equation (5):
///   S(T - mean) = p T / (3 cells^2),  p = Pr[Y > 0],  cells = fused_cells or corrected_cells(…, true)
/// Newton on a convex falling function, from the left, so it cannot miss. Returns 0 when p underflows.
[[nodiscard]] inline double relu_alpha(prior p, double mean, double cells) noexcept {
    QUANT_EXPECTS(p != prior::automatic && cells > 0, "relu_alpha: gauss or laplace, and more than 0 cells");
    const double positive = upper_tail(p, -mean);
    if (!(positive > 0)) return 0;
    const double weight = positive / (3.0 * cells * cells);
    double t = 0;
    for (int step = 0; step < 200; ++step) {
        const double s = excess(p, t - mean);
        const double tail = upper_tail(p, t - mean);
        const double next = t + (s - weight * t) / (tail + weight);
        const bool done = !(next > t * (1.0 + 1e-15));
        if (done) break;
        t = next;
    }
    return t;
}

// ---- the error on a real integer grid ------------------------------------------------------------------------------

/// Expected squared error of rounding a Laplace source of zero mean to the nearest multiple of `step` within the grid, in closed
/// form without cancellation, docs equation (8). relu as in `source`.
[[nodiscard]] inline double laplace_grid_mse(double step, integer_grid grid, bool relu) noexcept {
    const double granular = detail::one_minus_h(step);
    const double h = 1.0 - granular;
    const double above = granular + h * std::exp(-step * grid.above);
    if (relu) return above;
    const double below = granular + h * std::exp(-step * grid.below);
    return above + below;
}

/// Expected squared error of rounding X to the nearest multiple of `step` within the grid, any mean, docs equation (6).
/// step   > 0, in units of the spread.  Cost: two special functions per code within 12 sigma (50 b).
/// The sum loses about log10(E[X^2]/error) digits: use it up to 8 bits. Laplace without mean takes the closed form instead.
[[nodiscard]] inline double exact_mse(const source& x, double step, integer_grid grid) noexcept {
    QUANT_EXPECTS(x.density != prior::automatic && step > 0, "exact_mse: gauss or laplace, and a step above 0");
    if (x.density == prior::laplace && x.mean == 0) return laplace_grid_mse(step, grid, x.relu);
    const double far = detail::cutoff(x.density);
    double sum = 0;
    for (int j = 1; j <= grid.above; ++j) {
        const double t = (j - 0.5) * step - x.mean;
        if (t > far) break;
        sum += excess(x.density, t);
    }
    for (int j = 1; j <= grid.below && !x.relu; ++j) {
        const double t = (j - 0.5) * step + x.mean;
        if (t > far) break;
        sum += excess(x.density, t);
    }
    return mean_square(x) - 2.0 * step * sum;
}

/// Expected squared error on the mid-rise grid +-(k + 1/2) step with `levels` (even) levels and no zero: the grid of the paper's
/// derivation, for comparison only. Zero mean, signed.
[[nodiscard]] inline double midrise_mse(prior p, double step, int levels) noexcept {
    const double mean_abs = p == prior::gauss ? detail::sqrt_2_over_pi : 1.0;
    const double variance = p == prior::gauss ? 1.0 : 2.0;
    double sum = 0;
    for (int k = 1; k < levels / 2; ++k) sum += excess(p, k * step);
    return variance - step * mean_abs + 0.25 * step * step - 4.0 * step * sum;
}

/// The step that minimizes midrise_mse, by Newton steps from the paper's clip. levels: an even number from 2 to 256.
[[nodiscard]] inline double midrise_step(prior p, int levels) noexcept {
    const double mean_abs = p == prior::gauss ? detail::sqrt_2_over_pi : 1.0;
    double step = 2.0 * optimal_alpha(p, levels) / levels;
    for (int i = 0; i < 50; ++i) {
        double first = 0.5 * step - mean_abs;
        double second = 0.5;
        for (int k = 1; k < levels / 2; ++k) {
            const double tail = upper_tail(p, k * step);
            first += 4.0 * (k * step * tail - excess(p, k * step));
            second += 4.0 * k * (2.0 * tail - k * step * density(p, k * step));
        }
        const double next = step - first / second;
        const bool done = !(std::fabs(next - step) > 1e-14 * step);
        step = next;
        if (done) break;
    }
    return step;
}

namespace detail {

struct slopes {
    double first = 0;  ///< dD/dstep
    double second = 0; ///< d2D/dstep2
};

/// Both derivatives of exact_mse, docs equation (7).
inline slopes exact_slopes(const source& x, double step, integer_grid grid) noexcept {
    const double far = cutoff(x.density);
    slopes sum;
    for (int side = 0; side < (x.relu ? 1 : 2); ++side) {
        const int count = side == 0 ? grid.above : grid.below;
        const double shift = side == 0 ? -x.mean : x.mean;
        for (int j = 1; j <= count; ++j) {
            const double t = (j - 0.5) * step;
            if (t + shift > far) break;
            const double tail = upper_tail(x.density, t + shift);
            sum.first -= 2.0 * (excess(x.density, t + shift) - t * tail);
            sum.second += 2.0 * (j - 0.5) * (2.0 * tail - t * density(x.density, t + shift));
        }
    }
    return sum;
}

/// The root of the first derivative nearest to `start`: Newton inside a bracket that only shrinks.
inline double descend(const source& x, double start, integer_grid grid) noexcept {
    double lo = 0, hi = 0; // slope < 0 at lo, > 0 at hi; 0: not known yet
    double step = start;
    for (int i = 0; i < 200; ++i) {
        const slopes d = exact_slopes(x, step, grid);
        if (d.first == 0) return step;
        (d.first < 0 ? lo : hi) = step;
        double next = d.second > 0 ? step - d.first / d.second : 0;
        const bool inside = next > (lo > 0 ? lo : 0.5 * step) && next < (hi > 0 ? hi : 2.0 * step);
        if (!inside)
            next = d.first < 0 ? (hi > 0 ? 0.5 * (lo + hi) : 1.5 * step) : (lo > 0 ? 0.5 * (lo + hi) : step / 1.5);
        if (std::fabs(next - step) <= 1e-14 * step) return next;
        step = next;
    }
    return step;
}

/// The bottom of the valley around `start`, to about 1e-7: short Newton steps that never raise the error, because the valleys
/// are narrow and have kinks (Laplace).
inline double settle(const source& x, double start, double longest, integer_grid grid) noexcept {
    double step = start;
    double error = exact_mse(x, step, grid);
    for (int i = 0; i < 60; ++i) {
        const slopes d = exact_slopes(x, step, grid);
        double move = d.second > 0 ? -d.first / d.second : (d.first > 0 ? -longest : longest);
        move = move > longest ? longest : (move < -longest ? -longest : move);
        if (step + move < 0.5 * start || step + move > 2.0 * start) break; // no valley of its own
        double moved = exact_mse(x, step + move, grid);
        while (!(moved < error) && std::fabs(move) > 1e-8 * step) {
            move *= 0.5;
            moved = exact_mse(x, step + move, grid);
        }
        if (!(moved < error)) break;
        step += move;
        error = moved;
    }
    return step;
}

} // namespace detail

/// The step that minimizes exact_mse, docs equation (9): Newton from the corrected clip, 2 to 4 steps for zero mean.
/// |mean| <= 64 spreads. The error has a single minimum for |mean| <= 3.5 (and for any negative mean under a ReLU); beyond, every
/// level that can fall on the mean makes another one, and each is tried (step to about 1e-7 then).
/// A grid of more than 511 codes returns the corrected step: its excess error is below 1e-8 there, while the sum cancels.
[[nodiscard]] inline double exact_step(const source& x, integer_grid grid) noexcept {
    QUANT_EXPECTS(x.density != prior::automatic, "exact_step: gauss or laplace");
    QUANT_EXPECTS(grid.above > 0 || (grid.below > 0 && !x.relu), "exact_step: a grid with more than the zero level");
    const double cells = corrected_cells(grid, x.relu);
    const double distance = std::fabs(x.mean);
    const double alpha = x.relu ? relu_alpha(x.density, x.mean, cells) : distance + optimal_alpha(x.density, cells);
    const double start = 2.0 * alpha / cells;
    if (grid.below + grid.above > 510) return start;
    double best = detail::descend(x, start, grid);
    if (distance <= 3.5 || (x.relu && x.mean < 0)) return best;
    double least = exact_mse(x, best, grid);
    const int codes = x.mean > 0 ? grid.above : grid.below;
    for (int k = 1; k <= codes && k <= distance; ++k) {
        const double step = detail::settle(x, distance / k, 0.1 * distance / (static_cast<double>(k) * k), grid);
        const double error = exact_mse(x, step, grid);
        if (error < least) {
            least = error;
            best = step;
        }
    }
    return best;
}

// ---- estimators ------------------------------------------------------------------------------------------------------

/// b/sigma at which the maximized likelihoods of Laplace and Gauss are equal: sqrt(pi/2) e^(-1/2).
inline constexpr double prior_threshold = 0.76017345053314065;

/// Laplace if b/sigma lies below prior_threshold (0.7071 for Laplace data, 0.7979 for Gauss data).
/// b, sigma >= 0, in the same unit.
[[nodiscard]] QUANT_INLINE constexpr prior choose_prior(double b, double sigma) noexcept {
    return b < prior_threshold * sigma ? prior::laplace : prior::gauss;
}

/// 0.175 (1 + sqrt(pi ln 4)): the constant of the authors' range estimator.
inline constexpr double range_constant = 0.54020836248790308;

/// Sigma from a range, as the authors' first code does: (max - min) 0.5402 / sqrt(2 ln count).
/// A ReLU-free sample of `count` elements, real units; returns 0 for fewer than two (ln 1 = 0: nothing to estimate from).
/// Good for large Gauss tensors: 0.96 to 1.01 of the true sigma from 4608 to 10^7 elements, 0.77 at 9.
[[nodiscard]] inline double range_sigma(double min, double max, std::uint64_t count) noexcept {
    if (count < 2) return 0;
    return (max - min) * range_constant / std::sqrt(2.0 * std::log(static_cast<double>(count)));
}

/// The Laplace counterpart: b = absmax / H_count, from E[max |x|] = b H_count (H the harmonic number). 0 for an empty sample.
[[nodiscard]] inline double absmax_laplace_b(double absmax, std::uint64_t count) noexcept {
    if (count == 0) return 0;
    double harmonic = 0;
    if (count < 64) {
        for (std::uint64_t k = 1; k <= count; ++k) harmonic += 1.0 / static_cast<double>(k);
    } else {
        const double n = static_cast<double>(count);
        const double square = n * n;
        harmonic =
            std::log(n) + 0.57721566490153286061 + 0.5 / n - 1.0 / (12.0 * square) + 1.0 / (120.0 * square * square);
    }
    return absmax / harmonic;
}

/// The 8-bit Gauss coefficient with the rounding noise that ncnn's calibration tool carries; the true one is 3.92403548988….
inline constexpr double ncnn_alpha_8bit = 3.92403714;

/// The threshold of ncnn's calibration method "aciq": alpha_over_sigma times the sigma that a range of twice absmax suggests.
/// For comparison. It has no guard: below 8000 elements the 8-bit threshold exceeds absmax. 0 for fewer than two elements.
[[nodiscard]] inline double ncnn_threshold(double absmax, std::uint64_t count, double alpha_over_sigma) noexcept {
    return alpha_over_sigma * range_sigma(-absmax, absmax, count);
}

/// b about the mean from E|x - centre| about another centre, for a Laplace density (docs equation 12):
///   E|x - centre| = d + b e^(-d/b),  d = |mean - centre|  =>  b = d / t,  t e^t = d/(deviation - d)
/// Returns deviation itself when the centre is the mean, 0 when the deviation equals d (constant data).
[[nodiscard]] inline double laplace_b(double deviation, double centre, double mean) noexcept {
    const double d = std::fabs(mean - centre);
    if (d <= 1e-9 * deviation) return deviation;
    const double above = deviation - d;
    if (!(above > 1e-14 * deviation)) return 0;
    const double ratio = d / above;
    return d / detail::laplace_root(ratio, std::log(ratio));
}

// ---- the authors' affine range ---------------------------------------------------------------------------------------

/// Range, scale and zero point as the authors' deployed quantizer builds them.
struct affine_grid {
    double lo = 0;
    double hi = 0;
    double scale = 0;            ///< (hi - lo)/(2^bits - 1), at least 1e-8
    double exact_zero_point = 0; ///< -lo/scale
    std::int32_t zero_point = 0; ///< rounded half to even; not clamped to the codes
};

/// Scale and zero point of [lo, hi] by the authors' rule.
[[nodiscard]] inline affine_grid paper_grid(double lo, double hi, int bits) noexcept {
    QUANT_EXPECTS(bits >= 1 && bits <= 16, "paper_grid: 1 to 16 bits");
    affine_grid grid{lo, hi, 0, 0, 0};
    const double scale = (hi - lo) / (std::exp2(bits) - 1.0);
    grid.scale = scale > 1e-8 ? scale : 1e-8;
    grid.exact_zero_point = -lo / grid.scale;
    double z = grid.exact_zero_point; // kept inside int; only absurd offsets reach it
    z = z < -1e9 ? -1e9 : (z > 1e9 ? 1e9 : z);
    grid.zero_point = detail::round_half_even(z);
    return grid;
}

/// A signed tensor: lo = max(min, mean - alpha), width 2 alpha. The top edge is not limited to the data (aciq_clipping::clip_affine
/// does limit it). spread is b or sigma in real units.
[[nodiscard]] inline affine_grid paper_signed_grid(prior p, int bits, double min, double mean, double spread) noexcept {
    const double alpha = optimal_alpha(p, signed_cells(bits)) * spread;
    const double below = mean - alpha;
    const double lo = min > below ? min : below;
    return paper_grid(lo, lo + 2.0 * alpha, bits);
}

/// An activation whose ReLU is fused: [0, max(mean, 0) + alpha(bits + 1)], with mean and spread taken before the ReLU.
[[nodiscard]] inline affine_grid paper_fused_grid(prior p, int bits, double mean, double spread) noexcept {
    const double alpha = optimal_alpha(p, fused_cells(bits)) * spread;
    return paper_grid(0.0, (mean > 0 ? mean : 0.0) + alpha, bits);
}

// ---- no density: the data itself ----------------------------------------------------------------------------------

/// Weight of the granular noise against the clipped mass, docs equation (10): the expected number of elements times
/// 1/(3 cells^2). count is the number of elements, or of positive ones under a ReLU (exact zeros cost nothing).
[[nodiscard]] inline double empirical_weight(integer_grid grid, bool relu, std::uint64_t count) noexcept {
    const double cells = corrected_cells(grid, relu);
    return static_cast<double>(count) / (3.0 * cells * cells);
}

/// The clip of the data itself, docs equation (11): alpha <- (sum of |x| above alpha) / (weight + number of |x| above alpha),
/// Newton on a convex, piecewise linear function; rises monotonically from `start`, from 0 typically 7 to 14 passes, at most
/// max_passes.
/// tail(alpha)   returns an aggregate of two numbers {sum, count}: over the |x| > alpha, or under a ReLU over the x > alpha
/// weight        empirical_weight of the same elements, > 0
/// start         where the recursion begins, at most the clip itself; a close one saves passes
/// Real units. A histogram can serve as the tail as well as the data.
template <class Tail>
[[nodiscard]] inline double empirical_alpha(Tail&& tail, double weight, int max_passes = 64,
                                            double start = 0) noexcept {
    QUANT_EXPECTS(weight > 0, "empirical_alpha: a weight above 0");
    double alpha = start;
    for (int pass = 0; pass < max_passes; ++pass) {
        const auto [sum, count] = tail(alpha);
        const double next = static_cast<double>(sum) / (weight + static_cast<double>(count));
        const bool done = !(next > alpha * (1.0 + 1e-13));
        if (done) break;
        alpha = next;
    }
    return alpha;
}

} // namespace aciq_math

QUANT_END_TARGET
