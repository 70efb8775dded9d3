// SPDX-License-Identifier: MIT
#pragma once
// A row of weights as a sum of a few low-bit rows, w ~ D_1 k_1 + D_2 k_2 + ..., with more of them only for the channels that need them.
// Everything runs at one width. Layer 3 (calibrate); the product that runs it is quant/quantize/multipoint.hpp.
//
//   std::vector<std::byte> workspace(quant::multipoint_workspace_size(depth, 4));
//   auto points = quant::multipoint_layer(weights, depth, moments, {.largest = 7, .tolerance = 1e-3}, counts, steps, codes, workspace);
//
// The points are found greedily, each by the exact fit of quant/calibrate/scale_fit.hpp to what the ones before leave over; after each
//
//   ||r_{i+1}||^2 <= min((1 - 1/d) ||r_i||^2, d max|r_i|^2 / (4 K^2))                                            (31)
//
// The error of an output, delta^T G delta with delta = w - w~ and G = E[x x^T], need not fall with the squared error of the weights:
// then all steps are fitted anew in that norm, A^T G A D = A^T G w with A = [k_1 ... k_n], and it cannot rise.
// Paper: Liu, Ye, Zhou, Liu 2021, "Post-training Quantization with Multiple Points", arXiv 2002.09049 (there by a grid search of the
// steps, which the exact fit replaces); the loop over the number of points is reconstructed.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/calibrate/allocation.hpp>
#include <quant/calibrate/scale_fit.hpp>
#include <quant/calibrate/sensitivity.hpp>
#include <quant/calibrate/workspace.hpp>
#include <quant/core/status.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// How points are fitted.
struct multipoint_options {
    int largest = 7;             ///< K, 1 to 127: 2^(bits - 1) - 1
    std::size_t most_points = 4; ///< of a channel, 1 to 64
    bool refit = true;           ///< the steps of all points together, by least squares in the metric
    int passes = 0; ///< of fitting each point anew to what the others leave over; metric of the weights only
    /// multipoint_layer: a channel gets points until its error is no larger than this ...
    double tolerance = 0;
    bool relative = true; ///< ... times w^T G w, so that one tolerance serves many layers; false: as it is
};

/// What the fit of one channel came to.
struct multipoint_result {
    std::size_t points = 0; ///< that are not zero: fewer than asked for when nothing is left to fit
    double error = 0;       ///< ||w - w~||^2, or delta^T G delta where moments were given
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

inline constexpr std::size_t most_multipoints = 64;

/// The points of one channel, one after the other, in the caller's memory.
class point_sequence {
public:
    point_sequence(std::size_t depth, std::span<const double> moments, const multipoint_options& options,
                   detail::arena& memory) noexcept
        : depth_(depth), moments_(moments), options_(options) {
        const std::size_t n = options.most_points;
        residual_ = memory.take<double>(depth);
        image_ = memory.take<double>(depth);
        steps_ = memory.take<double>(n);
        fitted_ = memory.take<double>(n);
        system_ = memory.take<double>(n * n);
        right_ = memory.take<double>(n);
        events_ = memory.take<fit_event>(depth);
    }

    /// Begins with a row of weights; k: [most_points, depth].
    status begin(std::span<const float> w, std::int8_t* k) noexcept {
        w_ = w;
        k_ = k;
        count_ = 0;
        norm_ = 0;
        for (std::size_t j = 0; j < depth_; ++j) {
            residual_[j] = static_cast<double>(w[j]);
            if (!(residual_[j] - residual_[j] == 0)) return {errc::non_finite, "weights"};
            norm_ += simd::rounded(residual_[j] * residual_[j]);
        }
        left_ = norm_;
        return {};
    }

    /// Nothing is left but rounding: a further point would fit noise.
    [[nodiscard]] bool exhausted() const noexcept { return !(left_ > 1e-14 * norm_); }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    /// w^T G w, or ||w||^2.
    [[nodiscard]] double whole() noexcept {
        if (moments_.empty()) return norm_;
        for (std::size_t j = 0; j < depth_; ++j) image_[j] = static_cast<double>(w_[j]);
        return output_error({image_, depth_}, moments_);
    }

    /// One more point, then the passes over all.
    void add() noexcept {
        ++count_;
        solve(count_ - 1);
        for (int pass = 0; pass < options_.passes && count_ > 1; ++pass)
            for (std::size_t i = 0; i < count_; ++i) {
                move(i, 1);
                solve(i);
            }
        left_ = 0;
        for (std::size_t j = 0; j < depth_; ++j) left_ += simd::rounded(residual_[j] * residual_[j]);
    }

    /// The steps for the points so far, and what they leave in the metric.
    double settle() noexcept {
        for (std::size_t i = 0; i < count_; ++i) fitted_[i] = steps_[i];
        double error = error_of(steps_);
        if (options_.refit && (count_ > 1 || !moments_.empty())) {
            fit_all();
            const double refitted = error_of(fitted_);
            if (refitted <= error)
                error = refitted;
            else // rounding alone
                for (std::size_t i = 0; i < count_; ++i) fitted_[i] = steps_[i];
        }
        return error;
    }
    [[nodiscard]] double step(std::size_t i) const noexcept { return fitted_[i]; }

    /// Steps that came out negative are turned over, with their integers.
    void turn_over() noexcept {
        for (std::size_t i = 0; i < count_; ++i) {
            if (!(fitted_[i] < 0)) continue;
            fitted_[i] = -fitted_[i];
            for (std::size_t j = 0; j < depth_; ++j) row(i)[j] = static_cast<std::int8_t>(-row(i)[j]);
        }
    }

private:
    [[nodiscard]] std::int8_t* row(std::size_t i) const noexcept { return k_ + i * depth_; }
    void move(std::size_t i, double sign) noexcept {
        const std::int8_t* const k = row(i);
        for (std::size_t j = 0; j < depth_; ++j) residual_[j] += simd::rounded(sign * steps_[i] * k[j]);
    }
    void solve(std::size_t i) noexcept {
        const auto found = fit_point(std::span<const double>(residual_, depth_), options_.largest,
                                     std::span(row(i), depth_), std::span(events_, depth_));
        steps_[i] = found ? found->step : 0;
        move(i, -1);
    }
    double error_of(const double* steps) noexcept {
        for (std::size_t j = 0; j < depth_; ++j) image_[j] = static_cast<double>(w_[j]);
        for (std::size_t i = 0; i < count_; ++i)
            for (std::size_t j = 0; j < depth_; ++j) image_[j] -= simd::rounded(steps[i] * row(i)[j]);
        if (!moments_.empty()) return output_error({image_, depth_}, moments_);
        double sum = 0;
        for (std::size_t j = 0; j < depth_; ++j) sum += simd::rounded(image_[j] * image_[j]);
        return sum;
    }
    /// Least squares for all steps. A point that the ones before already contain gets step 0.
    void fit_all() noexcept {
        const std::size_t n = count_;
        for (std::size_t i = 0; i < n; ++i) {
            const std::int8_t* const k = row(i);
            for (std::size_t a = 0; a < depth_; ++a) {
                if (moments_.empty()) {
                    image_[a] = k[a];
                    continue;
                }
                const double* const g = moments_.data() + a * depth_;
                double parts[4] = {};
                for (std::size_t b = 0; b < depth_; ++b) parts[b % 4] += simd::rounded(g[b] * k[b]);
                image_[a] = (parts[0] + parts[1]) + (parts[2] + parts[3]);
            }
            for (std::size_t m = 0; m <= i; ++m) {
                double sum = 0;
                for (std::size_t a = 0; a < depth_; ++a) sum += simd::rounded(image_[a] * row(m)[a]);
                system_[i * n + m] = sum;
            }
            double sum = 0;
            for (std::size_t a = 0; a < depth_; ++a) sum += simd::rounded(image_[a] * static_cast<double>(w_[a]));
            right_[i] = sum;
        }
        // Lower triangle L with D on the diagonal, in place.
        for (std::size_t i = 0; i < n; ++i) {
            const double diagonal = system_[i * n + i];
            for (std::size_t m = 0; m < i; ++m) {
                double sum = system_[i * n + m];
                for (std::size_t p = 0; p < m; ++p)
                    sum -= simd::rounded(system_[i * n + p] * simd::rounded(system_[m * n + p] * system_[p * n + p]));
                system_[i * n + m] = system_[m * n + m] > 0 ? sum / system_[m * n + m] : 0;
            }
            double rest = diagonal;
            for (std::size_t p = 0; p < i; ++p)
                rest -= simd::rounded(system_[i * n + p] * simd::rounded(system_[i * n + p] * system_[p * n + p]));
            system_[i * n + i] = rest > 1e-12 * diagonal ? rest : 0;
        }
        for (std::size_t i = 0; i < n; ++i) {
            double sum = right_[i];
            for (std::size_t m = 0; m < i; ++m) sum -= simd::rounded(system_[i * n + m] * fitted_[m]);
            fitted_[i] = sum; // L z = right
        }
        for (std::size_t i = n; i-- > 0;) {
            double value = system_[i * n + i] > 0 ? fitted_[i] / system_[i * n + i] : 0;
            for (std::size_t m = i + 1; m < n; ++m)
                if (system_[i * n + i] > 0) value -= simd::rounded(system_[m * n + i] * fitted_[m]);
            fitted_[i] = value;
        }
    }

    std::size_t depth_, count_ = 0;
    std::span<const double> moments_;
    multipoint_options options_;
    std::span<const float> w_;
    std::int8_t* k_ = nullptr;
    double *residual_, *image_, *steps_, *fitted_, *system_, *right_;
    fit_event* events_;
    double norm_ = 0, left_ = 0;
};

inline status check_multipoint(std::size_t depth, std::span<const double> moments,
                               const multipoint_options& options) noexcept {
    if (options.largest < 1 || options.largest > 127) return {errc::invalid_argument, "options.largest"};
    if (options.most_points < 1 || options.most_points > most_multipoints)
        return {errc::invalid_argument, "options.most_points"};
    if (options.passes < 0 || (options.passes > 0 && !moments.empty()))
        return {errc::invalid_argument, "options.passes"};
    if (!(options.tolerance >= 0)) return {errc::invalid_argument, "options.tolerance"};
    if (!moments.empty() && moments.size() != depth * depth) return {errc::shape_mismatch, "moments"};
    return {};
}

/// Fits the channels one after the other into compact lists. enough(channel, sequence, error): whether this many points will do.
template <class Enough>
inline result<std::size_t>
fit_channels(std::span<const float> weights, std::size_t depth, std::span<const double> moments,
             const multipoint_options& options, std::span<std::uint8_t> counts, std::span<float> steps,
             std::span<std::int8_t> codes, std::span<std::byte> workspace, Enough&& enough) noexcept {
    if (depth == 0 || weights.size() != counts.size() * depth) return status{errc::shape_mismatch, "counts"};
    if (const status s = check_multipoint(depth, moments, options); !s) return s;
    detail::arena memory(workspace);
    point_sequence sequence(depth, moments, options, memory);
    std::int8_t* const own = memory.take<std::int8_t>(depth * options.most_points);
    if (!memory.ok()) return status{errc::buffer_too_small, "workspace"};
    std::size_t total = 0;
    for (std::size_t c = 0; c < counts.size(); ++c) {
        if (const status s = sequence.begin(weights.subspan(c * depth, depth), own); !s) return s;
        double error = 0;
        do {
            sequence.add();
            error = sequence.settle();
        } while (!enough(c, sequence, error) && sequence.count() < options.most_points && !sequence.exhausted());
        sequence.turn_over();
        const std::size_t n = sequence.count();
        if (n > steps.size() - total) return status{errc::buffer_too_small, "steps"};
        if (n * depth > codes.size() - total * depth) return status{errc::buffer_too_small, "codes"};
        for (std::size_t i = 0; i < n; ++i) steps[total + i] = static_cast<float>(sequence.step(i));
        for (std::size_t i = 0; i < n * depth; ++i) codes[total * depth + i] = own[i];
        counts[c] = static_cast<std::uint8_t>(n);
        total += n;
    }
    return total;
}

} // namespace detail

/// Bytes of workspace for channels of `depth` weights and up to `points` points.
[[nodiscard]] constexpr std::size_t multipoint_workspace_size(std::size_t depth, std::size_t points) noexcept {
    return depth * (2 * sizeof(double) + sizeof(fit_event) + points) + points * (points + 3) * sizeof(double) +
           2 * alignof(std::max_align_t);
}

/// One channel as steps.size() points: greedily, with the passes and the common fit of the steps that the options ask for.
/// w        [depth] finite            moments  [depth, depth] G, symmetric: fit in the metric of the outputs; empty: of the weights
/// steps    [points] D, 0 or above    codes    [points, depth] k, within +-options.largest
/// workspace  multipoint_workspace_size(depth, points) bytes. options.most_points is not looked at.
/// Points beyond what there is to fit are zero. A sign before w turns all integers over and nothing else.
/// Errors: shape_mismatch "codes" or "moments"; invalid_argument "steps" (none, or above 64), "options.largest", "options.passes";
/// non_finite "weights"; buffer_too_small "workspace". Exactness: deterministic. Cost: fit_point per point and pass, points depth^2 with
/// moments.
[[nodiscard]] inline result<multipoint_result> multipoint_fit(std::span<const float> w, std::span<const double> moments,
                                                              const multipoint_options& options,
                                                              std::span<double> steps, std::span<std::int8_t> codes,
                                                              std::span<std::byte> workspace) noexcept {
    const std::size_t depth = w.size(), points = steps.size();
    if (points < 1 || points > detail::most_multipoints) return status{errc::invalid_argument, "steps"};
    if (codes.size() != points * depth) return status{errc::shape_mismatch, "codes"};
    multipoint_options own = options;
    own.most_points = points;
    if (const status s = detail::check_multipoint(depth, moments, own); !s) return s;
    detail::arena memory(workspace);
    detail::point_sequence sequence(depth, moments, own, memory);
    if (!memory.ok()) return status{errc::buffer_too_small, "workspace"};
    if (const status s = sequence.begin(w, codes.data()); !s) return s;
    while (sequence.count() < points && !sequence.exhausted()) sequence.add();
    multipoint_result out;
    out.points = sequence.count();
    out.error = sequence.settle();
    sequence.turn_over();
    for (std::size_t i = 0; i < points; ++i) steps[i] = i < out.points ? sequence.step(i) : 0;
    for (std::size_t i = out.points * depth; i < codes.size(); ++i) codes[i] = 0;
    return out;
}

/// A layer with as many points per channel as its error needs: from one on, until it is within options.tolerance, or the channel has
/// options.most_points, or nothing is left to fit.
/// weights  [channels, depth], dense, finite; of grouped convolutions, depth is the group's fan-in
/// moments  [depth, depth] G = E[x x^T] (input_moments), or empty for the metric of the weights
/// counts   [channels] receives the points of each channel, 1 or more
/// steps    [sum of counts] receives D, channel after channel: 0 or above, rounded to float. channels * most_points always suffice
/// codes    [sum of counts, depth] receives k: rows of an ordinary low-bit matrix
/// workspace  multipoint_workspace_size(depth, options.most_points) bytes
/// Returns the sum of counts. Errors: shape_mismatch "counts" or "moments"; buffer_too_small "steps", "codes" or "workspace";
/// invalid_argument "options.…"; non_finite "weights". Cost: multipoint_fit per channel.
[[nodiscard]] inline result<std::size_t>
multipoint_layer(std::span<const float> weights, std::size_t depth, std::span<const double> moments,
                 const multipoint_options& options, std::span<std::uint8_t> counts, std::span<float> steps,
                 std::span<std::int8_t> codes, std::span<std::byte> workspace) noexcept {
    return detail::fit_channels(weights, depth, moments, options, counts, steps, codes, workspace,
                                [&](std::size_t, detail::point_sequence& sequence, double error) noexcept {
                                    const double unit = options.relative ? sequence.whole() : 1;
                                    return error <= options.tolerance * unit;
                                });
}

/// A layer with given numbers of points, such as a budget allows. counts: [channels], 1 to most_points; where less is left to fit they
/// are lowered. Else as multipoint_layer; invalid_argument "counts".
[[nodiscard]] inline result<std::size_t>
multipoint_layer_of(std::span<const float> weights, std::size_t depth, std::span<const double> moments,
                    const multipoint_options& options, std::span<std::uint8_t> counts, std::span<float> steps,
                    std::span<std::int8_t> codes, std::span<std::byte> workspace) noexcept {
    for (const std::uint8_t n : counts)
        if (n < 1 || n > options.most_points) return status{errc::invalid_argument, "counts"};
    return detail::fit_channels(weights, depth, moments, options, counts, steps, codes, workspace,
                                [&](std::size_t c, detail::point_sequence& sequence, double) noexcept {
                                    return sequence.count() >= counts[c];
                                });
}

/// The table of a budget: the error of every channel with 1 to most_points points, and the bits these cost.
/// errors   [channels, most_points]    cost  [channels, most_points]: n (depth bits + 32), a float for each step
/// bits     of a code, as stored
/// Feed both to allocate_exact; a choice of b means b + 1 points, for multipoint_layer_of.
/// Errors: those of multipoint_layer; shape_mismatch "weights", "errors" or "cost"; bits_out_of_range "bits" (0, above 8).
[[nodiscard]] inline status multipoint_table(std::span<const float> weights, std::size_t depth,
                                             std::span<const double> moments, const multipoint_options& options,
                                             std::uint8_t bits, std::span<double> errors, std::span<std::uint64_t> cost,
                                             std::span<std::byte> workspace) noexcept {
    if (depth == 0 || weights.size() % depth != 0) return {errc::shape_mismatch, "weights"};
    if (bits < 1 || bits > 8) return {errc::bits_out_of_range, "bits"};
    if (const status s = detail::check_multipoint(depth, moments, options); !s) return s;
    const std::size_t channels = weights.size() / depth, most = options.most_points;
    if (errors.size() != channels * most) return {errc::shape_mismatch, "errors"};
    if (cost.size() != errors.size()) return {errc::shape_mismatch, "cost"};
    detail::arena memory(workspace);
    detail::point_sequence sequence(depth, moments, options, memory);
    std::int8_t* const own = memory.take<std::int8_t>(depth * most);
    if (!memory.ok()) return {errc::buffer_too_small, "workspace"};
    for (std::size_t c = 0; c < channels; ++c) {
        if (const status s = sequence.begin(weights.subspan(c * depth, depth), own); !s) return s;
        for (std::size_t n = 0; n < most; ++n) {
            if (n == 0 || !sequence.exhausted()) {
                sequence.add();
                errors[c * most + n] = sequence.settle();
            } else {
                errors[c * most + n] = errors[c * most + n - 1];
            }
            cost[c * most + n] = (n + 1) * (std::uint64_t{depth} * bits + 32);
        }
    }
    return {};
}

QUANT_END_TARGET
