// SPDX-License-Identifier: MIT
#pragma once
// Cross-layer equalization: moves scale between two layers, channel by channel, until both have the same range in every channel,
// which is what weights quantized per tensor need; the network in floats stays the same. Layer 3 (calibrate).
//
//   const auto out = quant::output_channels(w1), in = quant::input_channels(w2);       // [C, …] and [O, C, …]
//   const quant::equalization_pair pairs[] = {{*out, *in, bias1}};
//   const auto report = quant::equalize(pairs);                                         // weights and bias change in place
//
// Between the layers stands a function f with f(s x) = s f(x) for s > 0: ReLU, leaky ReLU, none. (ReLU6 is not one; Nagel et al.
// replace it by ReLU first.) With r1, r2 the largest magnitudes of channel i of the first layer's outputs and the second's inputs,
//
//   s = sqrt(r1 r2) / r2      W1 <- W1 / s,  b1 <- b1 / s,  W2 <- W2 s                                          (24)
//
// and both ranges become sqrt(r1 r2). A chain of layers is done pair by pair, again and again, until nothing moves.
// Paper: Nagel, van Baalen, Blankevoort, Welling 2019, "Data-Free Quantization through Weight Equalization and Bias Correction",
// arXiv 1906.04721, section 4.1: weight range equalization, and the absorption of high biases.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/batch.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// The weights of one layer as the channels on one side of it. Channel g * channels + c owns the elements
/// data[((g * outer + o) * channels + c) * inner + i] for all o and i. Make it with output_channels or input_channels.
struct weight_channels {
    float* data = nullptr;
    std::size_t groups = 0, outer = 0, channels = 0, inner = 0;
    /// Channels of all groups.
    [[nodiscard]] QUANT_INLINE constexpr std::size_t size() const noexcept { return groups * channels; }
};

/// Two consecutive layers. A layer in the middle of a chain is the second of one pair and the first of the next.
struct equalization_pair {
    weight_channels first;         ///< its output channels
    weight_channels second;        ///< its input channels, the same number
    std::span<float> bias{};       ///< [channels] of the first layer, or empty: it has none
    std::span<float> statistics{}; ///< [channels] or empty: divided by s like the bias (means of the outputs, say)
};

/// What an equalization is free to choose.
struct equalization_options {
    std::size_t max_passes = 100; ///< passes over all pairs; one suffices for one pair
    double tolerance = 1e-4;      ///< done when no s of a pass is further than this from 1
    /// s becomes the nearest power of two, by its logarithm: the network then gives the same bits, barring overflow and subnormals,
    /// and the ranges meet up to a factor of 2.
    bool powers_of_two = false;
};

/// What an equalization came to.
struct equalization_report {
    std::size_t passes = 0;
    double largest_change = 0; ///< largest |s - 1| of the last pass
    bool converged = true;     ///< largest_change <= tolerance
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace equalization_detail {

/// Calls f(element) for every element of a channel.
template <class F>
QUANT_INLINE void for_each_weight(const weight_channels& w, std::size_t channel, const F& f) noexcept {
    const std::size_t group = channel / w.channels, own = channel % w.channels;
    for (std::size_t o = 0; o < w.outer; ++o) {
        float* const p = w.data + ((group * w.outer + o) * w.channels + own) * w.inner;
        for (std::size_t i = 0; i < w.inner; ++i) f(p[i]);
    }
}

/// The largest magnitude of a channel; infinity where a weight is infinite or NaN.
[[nodiscard]] inline double magnitude_of(const weight_channels& w, std::size_t channel) noexcept {
    double most = 0;
    for_each_weight(w, channel, [&](const float& weight) noexcept {
        const double size = std::abs(static_cast<double>(weight));
        if (!(size <= most)) most = size - size == 0 ? size : std::numeric_limits<double>::infinity();
    });
    return most;
}

/// s of equation (24); 1 for a channel that is zero on one side, which no scale can equalize.
[[nodiscard]] inline double equalizing_scale(double r1, double r2, bool power_of_two) noexcept {
    if (!(r1 > 0 && r2 > 0)) return 1;
    const double square = r1 / r2; // sqrt(r1 r2) / r2 = sqrt(r1 / r2); a quotient of floats stays in double's range
    if (!power_of_two) return std::sqrt(square);
    int exponent = 0; // square in [2^(e - 1), 2^e): the nearest 2^k has 2k - 1 <= e - 1 < 2k + 1
    static_cast<void>(std::frexp(square, &exponent));
    return std::ldexp(1.0, exponent >= 0 ? exponent / 2 : -((1 - exponent) / 2));
}

QUANT_INLINE void divide(float& value, double s) noexcept {
    value = static_cast<float>(static_cast<double>(value) / s);
}

[[nodiscard]] inline status check(const equalization_pair& pair) noexcept {
    if (pair.first.size() != pair.second.size()) return {errc::shape_mismatch, "pairs.second"};
    if (!pair.bias.empty() && pair.bias.size() != pair.first.size()) return {errc::shape_mismatch, "pairs.bias"};
    if (!pair.statistics.empty() && pair.statistics.size() != pair.first.size())
        return {errc::shape_mismatch, "pairs.statistics"};
    for (const weight_channels& w : {pair.first, pair.second})
        for (std::size_t c = 0; c < w.size(); ++c)
            if (!core_detail::is_finite(magnitude_of(w, c))) return {errc::non_finite, "pairs"};
    return {};
}

/// One pass over one pair; returns the largest |s - 1|.
[[nodiscard]] inline double equalize_once(const equalization_pair& pair, bool powers_of_two) noexcept {
    double change = 0;
    for (std::size_t c = 0; c < pair.first.size(); ++c) {
        const double s = equalizing_scale(magnitude_of(pair.first, c), magnitude_of(pair.second, c), powers_of_two);
        const double distance = std::abs(s - 1);
        change = distance > change ? distance : change;
        if (s == 1) continue;
        for_each_weight(pair.first, c, [&](float& weight) noexcept { divide(weight, s); });
        for_each_weight(pair.second, c,
                        [&](float& weight) noexcept { weight = static_cast<float>(static_cast<double>(weight) * s); });
        if (!pair.bias.empty()) divide(pair.bias[c], s);
        if (!pair.statistics.empty()) divide(pair.statistics[c], s);
    }
    return change;
}

} // namespace equalization_detail

/// The output channels of a layer: dimension 0 of its weights, dense and row-major; also of a depthwise layer ([C, 1, h, w]).
/// Errors: invalid_stride.
template <destination Weights>
    requires(std::same_as<element_of_t<Weights>, float>)
[[nodiscard]] inline result<weight_channels> output_channels(Weights&& weights) noexcept {
    const auto v = v0_1::view(weights);
    if (!v.is_contiguous()) return status{errc::invalid_stride, "weights"};
    const std::size_t channels = v.extent(0);
    return weight_channels{v.data(), 1, 1, channels, channels == 0 ? 0 : v.size() / channels};
}

/// The input channels of a layer: dimension 1 of its weights [O, C / groups, …], dense and row-major. A depthwise layer has as many
/// groups as channels. Errors: invalid_stride, shape_mismatch "groups" (they do not divide dimension 0).
template <destination Weights>
    requires(std::same_as<element_of_t<Weights>, float>)
[[nodiscard]] inline result<weight_channels> input_channels(Weights&& weights, std::size_t groups = 1) noexcept {
    const auto v = v0_1::view(weights);
    static_assert(decltype(v)::rank >= 2, "quant::input_channels: weights are [outputs, inputs, …]");
    if (!v.is_contiguous()) return status{errc::invalid_stride, "weights"};
    if (groups == 0 || v.extent(0) % groups != 0) return status{errc::shape_mismatch, "groups"};
    const std::size_t rows = v.extent(0) * v.extent(1);
    return weight_channels{v.data(), groups, v.extent(0) / groups, v.extent(1), rows == 0 ? 0 : v.size() / rows};
}

/// Equalizes the pairs in place, in their order, until a pass changes nothing any more.
/// Returns what it came to; that max_passes did not suffice is not an error: every pass leaves the network what it was.
/// Errors: shape_mismatch "pairs.second", "pairs.bias" or "pairs.statistics", non_finite "pairs" (a weight is NaN or infinite);
/// nothing is written then. Channels that are zero on one side keep their weights.
/// Exactness: s in double, every weight rounded once a pass; deterministic.
[[nodiscard]] inline result<equalization_report> equalize(std::span<const equalization_pair> pairs,
                                                          const equalization_options& options = {}) noexcept {
    for (const equalization_pair& pair : pairs)
        if (const status s = equalization_detail::check(pair); !s) return s;
    equalization_report report;
    const double tolerance = options.tolerance >= 0 ? options.tolerance : 0;
    while (report.passes < options.max_passes) {
        ++report.passes;
        report.largest_change = 0;
        for (const equalization_pair& pair : pairs) {
            const double change = equalization_detail::equalize_once(pair, options.powers_of_two);
            report.largest_change = change > report.largest_change ? change : report.largest_change;
        }
        report.converged = report.largest_change <= tolerance;
        if (report.converged) break;
    }
    return report;
}

/// Moves what a first layer's outputs always have above zero into the second layer's bias: with outputs of mean m and standard
/// deviation d before the ReLU, c = max(0, m - deviations * d) is passed by nearly all of them, and
///
///   b1 <- b1 - c,   m <- m - c,   b2 <- b2 + W2 c,       where W2 c sums over inputs and the kernel's positions.       (25)
///
/// The network is unchanged for outputs of at least c; at borders padded with zeros it is not, as there no c arrives.
/// pair            bias must be there: b1; statistics [channels], or empty: m, changed       second_bias  b2: [outputs of second]
/// means           [channels] m; may be pair.statistics        spreads  [channels] d >= 0, in the units of the outputs
/// Errors: shape_mismatch, non_finite "means" or "spreads" or "pairs"; nothing is written then.
[[nodiscard]] inline status absorb_high_bias(const equalization_pair& pair, std::span<float> second_bias,
                                             std::span<const float> means, std::span<const float> spreads,
                                             double deviations = 3) noexcept {
    const weight_channels& second = pair.second;
    const std::size_t channels = pair.first.size();
    if (const status s = equalization_detail::check(pair); !s) return s;
    if (pair.bias.size() != channels) return {errc::shape_mismatch, "pair.bias"};
    if (second_bias.size() != second.groups * second.outer) return {errc::shape_mismatch, "second_bias"};
    if (means.size() != channels) return {errc::shape_mismatch, "means"};
    if (spreads.size() != channels) return {errc::shape_mismatch, "spreads"};
    for (std::size_t c = 0; c < channels; ++c) {
        if (!core_detail::is_finite(static_cast<double>(means[c]))) return {errc::non_finite, "means"};
        if (!core_detail::is_finite(static_cast<double>(spreads[c]))) return {errc::non_finite, "spreads"};
    }
    const auto absorbed = [&](std::size_t c) noexcept {
        const double margin = simd::rounded(deviations * static_cast<double>(spreads[c]));
        const double high = static_cast<double>(means[c]) - margin;
        return high > 0 ? high : 0.0;
    };
    for (std::size_t g = 0; g < second.groups; ++g)
        for (std::size_t o = 0; o < second.outer; ++o) {
            const float* const row = second.data + (g * second.outer + o) * second.channels * second.inner;
            double sum = 0;
            for (std::size_t c = 0; c < second.channels; ++c) {
                double kernel = 0;
                for (std::size_t i = 0; i < second.inner; ++i) kernel += static_cast<double>(row[c * second.inner + i]);
                sum += simd::rounded(kernel * absorbed(g * second.channels + c));
            }
            float& bias = second_bias[g * second.outer + o];
            bias = static_cast<float>(static_cast<double>(bias) + sum);
        }
    for (std::size_t c = 0; c < channels; ++c) {
        const double high = absorbed(c); // before the means change, which may be the statistics
        pair.bias[c] = static_cast<float>(static_cast<double>(pair.bias[c]) - high);
        if (!pair.statistics.empty())
            pair.statistics[c] = static_cast<float>(static_cast<double>(pair.statistics[c]) - high);
    }
    return {};
}

QUANT_END_TARGET
