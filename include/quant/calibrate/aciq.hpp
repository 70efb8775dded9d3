// SPDX-License-Identifier: MIT
#pragma once
// Analytical clipping (ACIQ): from a few statistics of a tensor to the range that minimizes the expected squared error on the
// grid of a code format. Layer 3 (calibrate).
//
//   auto range = quant::aciq(quant::prior::laplace).clip(statistics, quant::int4.narrow());       // result<clip_range>
//   auto params = quant::choose_params(*range, quant::int4.narrow(), quant::mapping::symmetric);  // scale is the step
//
// The formulas stand in aciq_math.hpp, their derivation and the choice between the modes in docs/aciq.md.
// Paper: Banner, Nahshan, Soudry 2019, arXiv 1810.05723.

#include <cmath>
#include <concepts>
#include <cstdint>
#include <quant/calibrate/aciq_math.hpp>
#include <quant/calibrate/statistics_summary.hpp>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>

QUANT_BEGIN_TARGET

/// A density and its spread: sigma for gauss, b for laplace, in real units.
struct spread_estimate {
    prior density = prior::laplace;
    double value = 0;
};

/// The spread of a tensor under a prior; `automatic` is resolved by the likelihoods (aciq_math::choose_prior).
/// Statistics of the tensor itself or before a ReLU: sigma = sqrt(variance) (of the population), b = mean_abs_deviation, brought
/// from `centre` to the mean by equation (12) where they differ (exact for Laplace data; take them about the mean for `automatic`).
/// Statistics after the ReLU: the positive part alone, b = E[x | x > 0], sigma = sqrt(E[x^2 | x > 0]), equation (13).
/// A tensor without spread, or with nothing above zero after the ReLU, gives 0.
[[nodiscard]] inline spread_estimate estimate_spread(const tensor_statistics& data, prior density) noexcept {
    const bool positive_part = data.taken == statistics::after_relu;
    const double positive = static_cast<double>(data.positive);
    const double share = positive > 0 ? static_cast<double>(data.count) / positive : 0.0;
    double b = 0, sigma = 0;
    if (density != prior::gauss)
        b = positive_part ? data.mean * share : aciq_math::laplace_b(data.mean_abs_deviation, data.centre, data.mean);
    if (density != prior::laplace) {
        const double square = positive_part ? data.mean_square * share : data.variance;
        sigma = square > 0 ? std::sqrt(square) : 0.0; // rounding may leave a variance just below zero
    }
    if (density == prior::automatic) density = aciq_math::choose_prior(b, sigma);
    return {density, density == prior::gauss ? sigma : b};
}

/// [qmin step, qmax step], such that choose_params(…, mapping::symmetric) gives the scale float(step) to the bit.
/// The codes are 2^k or 2^k - 1; for such factors the product divided again is the step to one ulp and never on the other side of a
/// border between two floats.
/// step >= 0 in real units; a legal format.
[[nodiscard]] inline clip_range grid_range(double step, code_format format) noexcept {
    const double qmin = format.qmin();
    const double qmax = format.qmax();
    return {qmin < 0 ? qmin * step : 0.0, qmax * step};
}

namespace aciq_detail {

/// Statistics that can be calibrated from, and a format that fits them.
inline status check_statistics(const tensor_statistics& data, code_format format) noexcept {
    if (const status s = validate(format); !s) return s;
    if (data.count == 0) return {errc::no_data, "statistics"};
    const double sum =
        data.min + data.max + data.mean + data.mean_square + data.variance + data.mean_abs_deviation + data.centre;
    if (!(sum - sum == 0)) return {errc::non_finite, "statistics"};
    if (data.min > data.max || data.mean_square < 0 || data.mean_abs_deviation < 0 || data.positive > data.count)
        return {errc::invalid_argument, "statistics"};
    if (data.taken == statistics::after_relu) {
        if (data.min < 0) return {errc::statistics_mismatch, "statistics"}; // a ReLU does not leave negative values
        if (data.max > 0 && data.positive == 0) return {errc::invalid_argument, "statistics.positive"};
    }
    return {};
}

/// Whether the values to be quantized are never negative.
inline bool is_one_sided(const tensor_statistics& data, code_format format) noexcept {
    return !format.is_signed || data.taken == statistics::after_relu;
}

/// The step of min-max on the grid of the format: the guard of every mode, and its answer for data without spread.
inline double min_max_step(const tensor_statistics& data, code_format format) noexcept {
    const double qmin = format.qmin();
    const double qmax = format.qmax();
    const double from_lo = qmin < 0 && data.min < 0 ? data.min / qmin : 0.0;
    const double from_hi = qmax > 0 && data.max > 0 ? data.max / qmax : 0.0;
    return from_lo > from_hi ? from_lo : from_hi;
}

/// A clip never wider than the data: min-max where the clip `alpha` reaches the largest magnitude or the step that of min-max.
inline clip_range guarded_range(double alpha, double step, const tensor_statistics& data, code_format format) noexcept {
    const double widest = min_max_step(data, format);
    const double negative = is_one_sided(data, format) || data.min > 0 ? 0.0 : -data.min;
    const double largest = data.max > negative ? data.max : negative;
    const bool keep = alpha > 0 && alpha < largest && step < widest;
    return grid_range(keep ? step : widest, format);
}

inline result<clip_range> aciq_clip(prior density, aciq_mode mode, const tensor_statistics& data,
                                    code_format format) noexcept {
    using namespace aciq_math;
    if (mode == aciq_mode::empirical) return status{errc::invalid_argument, "mode"};
    if (const status s = check_statistics(data, format); !s) return s;
    const bool one_sided = is_one_sided(data, format);
    if (one_sided && data.taken == statistics::unspecified) return status{errc::statistics_mismatch, "statistics"};
    const spread_estimate spread = estimate_spread(data, density);
    const integer_grid grid = grid_of(format);
    const double cells = corrected_cells(grid, one_sided); // none above zero where the format is signed and has 1 bit
    if (!(data.max > data.min) || !(spread.value > 0) || !(cells > 0))
        return grid_range(min_max_step(data, format), format);

    // After the ReLU nothing is known of the part below zero; the positive part behaves as that of a zero-mean source.
    const double mean = data.taken == statistics::after_relu ? 0.0 : data.mean / spread.value;
    double alpha = 0; // in units of the spread
    if (mode == aciq_mode::exact && std::fabs(mean) <= 64 && !(one_sided && !(upper_tail(spread.density, -mean) > 0))) {
        alpha = 0.5 * cells * exact_step({spread.density, mean, one_sided}, grid);
    } else if (mode == aciq_mode::paper) {
        const double paper_cells = format.is_signed ? signed_cells(format.bits) : fused_cells(format.bits);
        const double shift = one_sided ? (mean > 0 ? mean : 0.0) : std::fabs(mean);
        alpha = shift + optimal_alpha(spread.density, paper_cells);
    } else if (one_sided) {
        alpha = relu_alpha(spread.density, mean, cells);
    } else {
        alpha = std::fabs(mean) + optimal_alpha(spread.density, cells);
    }
    const double clip = alpha * spread.value;
    return guarded_range(clip, 2.0 * clip / cells, data, format);
}

inline result<clip_range> aciq_clip_affine(prior density, aciq_mode mode, const tensor_statistics& data,
                                           int bits) noexcept {
    using namespace aciq_math;
    if (mode != aciq_mode::paper && mode != aciq_mode::corrected) return status{errc::invalid_argument, "mode"};
    const code_format codes{static_cast<std::uint8_t>(bits), false};
    if (const status s = check_statistics(data, codes); !s) return s;
    const spread_estimate spread = estimate_spread(data, density);
    const bool one_sided = data.taken != statistics::unspecified;
    const double top = one_sided && data.max < 0 ? 0.0 : data.max;
    if (!(data.max > data.min) || !(spread.value > 0)) return clip_range{one_sided ? 0.0 : data.min, top};
    const double cells = mode == aciq_mode::paper ? signed_cells(bits) : codes.qmax();
    if (one_sided) {
        const double mean = data.taken == statistics::before_relu && data.mean > 0 ? data.mean : 0.0;
        const double hi = mean + optimal_alpha(spread.density, 2.0 * cells) * spread.value;
        return clip_range{0.0, hi < top ? hi : top};
    }
    const double alpha = optimal_alpha(spread.density, cells) * spread.value;
    if (alpha >= 0.5 * (data.max - data.min)) return clip_range{data.min, data.max};
    const double below = data.mean - alpha;
    const double lo = data.min > below ? data.min : below;
    const double hi = lo + 2.0 * alpha;
    return clip_range{lo, hi < data.max ? hi : data.max};
}

/// What the empirical recursion needs to know of the data; without a weight there is nothing to search.
struct empirical_case {
    bool one_sided = false;
    double weight = 0;
};

inline result<empirical_case> empirical_case_of(const tensor_statistics& data, code_format format) noexcept {
    if (const status s = check_statistics(data, format); !s) return s;
    empirical_case out;
    out.one_sided = is_one_sided(data, format);
    if (out.one_sided && data.taken == statistics::unspecified) return status{errc::statistics_mismatch, "statistics"};
    const std::uint64_t counted = out.one_sided ? data.positive : data.count;
    if (data.max > data.min && counted != 0)
        out.weight = aciq_math::empirical_weight(grid_of(format), out.one_sided, counted);
    return out;
}

/// The range of the recursion's answer.
inline clip_range empirical_range(double alpha, empirical_case found, const tensor_statistics& data,
                                  code_format format) noexcept {
    if (!(found.weight > 0)) return grid_range(min_max_step(data, format), format);
    const double cells = aciq_math::corrected_cells(grid_of(format), found.one_sided);
    return guarded_range(alpha, 2.0 * alpha / cells, data, format);
}

template <class Tail>
inline result<clip_range> aciq_clip_empirical(const tensor_statistics& data, code_format format, Tail&& tail) noexcept {
    const auto found = empirical_case_of(data, format);
    if (!found) return found.status();
    const double alpha = found->weight > 0 ? aciq_math::empirical_alpha(tail, found->weight) : 0.0;
    return empirical_range(alpha, *found, data, format);
}

} // namespace aciq_detail

QUANT_END_TARGET

QUANT_BEGIN_NAMESPACE

/// Anything that sums a tensor up: the observers of quant/calibrate.
template <class T>
concept summarized = requires(const T& observer) {
    { observer.summary() } -> std::convertible_to<tensor_statistics>;
};

/// Analytical clipping with its choices fixed. Plain data; make it with quant::aciq.
struct aciq_clipping {
    prior density = prior::laplace;
    aciq_mode mode = aciq_mode::corrected;

    /// The range that minimizes the expected squared error on the format's own grid (zero_point 0).
    /// data    statistics of the values to be quantized, or of the values before a ReLU that the format (unsigned) fuses
    /// format  narrow, signed or unsigned; its step is chosen, not only the clip. Signed 1 bit is the grid {-step, 0}.
    /// returns {qmin step, qmax step} in real units: choose_params(…, mapping::symmetric) then gives scale = float(step)
    ///
    /// Signed formats: alpha = |mean| + optimal alpha (paper, corrected), or the two-sided optimum about that mean (exact); a
    ///   tensor taken after_relu uses the codes from 0 up and is treated as one.
    /// Unsigned formats: statistics must say before_relu (equation 5 with the mean; paper mode: max(mean, 0) + alpha) or
    ///   after_relu (positive part, equation 13).
    /// Guards: where alpha reaches the largest magnitude, or the step that of min-max, the range is min-max; data without spread is
    ///   min-max too, so a constant is represented exactly; data that the codes cannot reach (all zero, or all negative
    ///   under a ReLU) gives {0, 0}, which choose_params turns into scale 1.
    /// Errors: no_data, non_finite or invalid_argument for unusable statistics; statistics_mismatch for an unsigned format with
    ///   unspecified statistics and for negative values after_relu; invalid_argument "mode" for empirical, which needs the data:
    ///   call clip_empirical; bits_out_of_range.
    /// Exactness: approximate (1e-11). Cost: paper, corrected: a few microseconds at most; exact: Newton steps over at most 255
    ///   codes, with a mean other than zero some hundred microseconds at 8 bits; formats above 8 bits take corrected.
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const tensor_statistics& data,
                                                       code_format format) const noexcept {
        return aciq_detail::aciq_clip(density, mode, data, format);
    }
    /// The same from an observer.
    template <summarized Observer>
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const Observer& observer, code_format format) const noexcept {
        return clip(static_cast<tensor_statistics>(observer.summary()), format);
    }

    /// The authors' affine range with the guards they left out, for choose_params(…, mapping::affine); sign and narrow range of the
    /// format do not matter to it. aciq_math::paper_signed_grid and paper_fused_grid are the unguarded originals.
    /// Statistics of the tensor itself (unspecified): lo = max(min, mean - alpha), hi = min(max, lo + 2 alpha), all of
    ///   [min, max] where alpha reaches half of it. Before a ReLU: [0, min(max, max(mean, 0) + alpha(bits + 1))]; after: mean 0.
    /// Modes paper and corrected (2^bits - 1 cells); others: invalid_argument "mode". Other errors as for clip.
    [[nodiscard]] QUANT_INLINE result<clip_range> clip_affine(const tensor_statistics& data,
                                                              code_format format) const noexcept {
        return aciq_detail::aciq_clip_affine(density, mode, data, format.bits);
    }

    /// The same optimum without any prior, solved on the data: equation (11). Density and mode are not used.
    /// data    count, positive, min, max and taken of the same elements that `tail` sums
    /// tail    callable: tail(alpha) returns {sum, count} of the |x| above alpha for a signed format (taken not after_relu), of the
    ///         x above alpha otherwise; called 7 to 14 times, at most 64, with rising alpha >= 0. It may pass over the data or
    ///         over a histogram. One pass over the data for all formats: quant::clip_empirical of quant/calibrate/empirical.hpp.
    /// Returns, guards and errors as for clip.
    template <class Tail>
    [[nodiscard]] QUANT_INLINE result<clip_range> clip_empirical(const tensor_statistics& data, code_format format,
                                                                 Tail&& tail) const noexcept {
        return aciq_detail::aciq_clip_empirical(data, format, static_cast<Tail&&>(tail));
    }

    friend constexpr bool operator==(const aciq_clipping&, const aciq_clipping&) = default;
};

/// Analytical clipping: quant::aciq() is Laplace with the corrected formula.
[[nodiscard]] QUANT_INLINE constexpr aciq_clipping aciq(prior density = prior::laplace,
                                                        aciq_mode mode = aciq_mode::corrected) noexcept {
    return {density, mode};
}

QUANT_END_NAMESPACE
