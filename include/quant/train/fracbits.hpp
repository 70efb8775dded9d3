// SPDX-License-Identifier: MIT
#pragma once
// FracBits: the width of a layer, or of each of its channels, is a real number; between two integers the quantizer mixes both, so
// that loss and cost have derivatives by the width. Layer 5 (train).
//
//   auto s = quant::fracbits::forward(latent, w_hat, widths);                      // widths: 1, or one per output channel
//   s = quant::fracbits::backward(latent, grad_w_hat, grad_latent, grad_widths, widths);
//   grad_widths[0] += quant::fracbits::budget_slope(layers, l, {.target_bits = 3});
//   …your optimizer…;  s = quant::fracbits::clamp_widths(widths);
//   auto offset = quant::fracbits::discretize(widths, elements, bits, {.target_bits = 3});   // at 80 % of the run; then fixed
//   auto done = quant::fracbits::harden(latent, codes, scales, bits);
//
// Width lambda, l = floor(lambda), r = lambda - l (l = 7, r = 1 at the upper end), L_k = 2^k - 1, Q_k(u) = round(L_k u) / L_k:
//
//   Q(u) = (1 - r) Q_l(u) + r Q_(l+1)(u)                                                                        (R1)
//   weights:     u = tanh(W) / (2 max|tanh W|) + 1/2,   w = c (2 Q(u) - 1)                                      (R2)
//     d lambda = sum 2 c G (Q_(l+1) - Q_l),   dW = G c (1 - tanh^2 W) / max|tanh W|                             (R3)
//   activations: z = clip(x, 0, a) / a,   x_hat = a Q(z)                                                        (R4)
//     d lambda = sum G a (Q_(l+1) - Q_l),   dx = G [0 < x < a],   da = sum G ((Q(z) - z) [0 < x < a] + [x >= a])      (R5)
//
// Between integers the output lies on no grid: a model is only to be exported after discretize and harden.
// Paper: Yang, Jin 2021, "FracBits: Mixed Precision Quantization via Fractional Bit-Widths", arXiv 2007.02017. Its code takes the
// ceiling of lambda for the upper neighbour, which makes the derivative zero at integers; l + 1 gives the right-hand one.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/fracbits_kernels.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/fixed_planes.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace fracbits {

inline constexpr double min_width = 1, max_width = 8;

/// What computing one layer costs. Widths are the mean over its channels.
struct layer_cost {
    std::size_t weights = 0;
    double macs = 0;            ///< multiplications per input
    double weight_bits = 8;     ///< lambda_w
    double activation_bits = 8; ///< lambda_a
};

/// What a step of the clip range learns from the rounding.
enum class clip_gradient : std::uint8_t {
    calibrated, ///< formula (R5): also from the values inside
    plain,      ///< PACT's: from the values above alone
};

/// Gradients that are single numbers.
template <class T> struct activation_gradients {
    T width = 0; ///< d lambda
    T clip = 0;  ///< da
};

inline namespace QUANT_TARGET_TAG {
namespace detail {

[[nodiscard]] QUANT_INLINE bool legal(double width) noexcept { return width >= min_width && width <= max_width; }

/// The two widths next to lambda; a step is `real` / levels.
template <class T> [[nodiscard]] inline simd::mixed_widths<T> widths_next_to(double width, double real) noexcept {
    int low = static_cast<int>(width);
    if (low >= static_cast<int>(max_width)) low = static_cast<int>(max_width) - 1;
    const double r = width - static_cast<double>(low);
    const double low_levels = static_cast<double>((1 << low) - 1), high_levels = static_cast<double>((2 << low) - 1);
    simd::mixed_widths<T> m;
    m.low_levels = static_cast<T>(low_levels);
    m.high_levels = static_cast<T>(high_levels);
    m.low_step = static_cast<T>(real / low_levels);
    m.high_step = static_cast<T>(real / high_levels);
    m.low_part = static_cast<T>(1 - r);
    m.high_part = static_cast<T>(r);
    return m;
}

template <class T>
[[nodiscard]] inline status check_widths(std::size_t n, std::span<const T> widths, double factor) noexcept {
    if (widths.empty() || n % widths.size() != 0) return {errc::shape_mismatch, "widths"};
    for (const T width : widths)
        if (!legal(static_cast<double>(width))) return {errc::bits_out_of_range, "widths"};
    if (!(factor > 0 && core_detail::is_finite(factor))) return {errc::invalid_argument, "factor"};
    return {};
}

/// max |tanh W|, the tanh of max |W|; 0 for zeros. -1: some W is NaN or infinite.
template <class T> [[nodiscard]] inline double largest_tanh(const T* w, std::size_t n) noexcept {
    T most = T(0);
    for (std::size_t i = 0; i < n; ++i) {
        const T size = w[i] < 0 ? -w[i] : w[i];
        if (!(size <= std::numeric_limits<T>::max())) return -1;
        most = size > most ? size : most;
    }
    return static_cast<double>(simd::tanh_at<T, simd::scalar>(most).value);
}

} // namespace detail

/// The weights of (R2).
/// latent  [K] finite, dense, W        weights  [K] dense, written, may be `latent`
/// widths  lambda: 1, or one for each output channel of K / widths.size() weights, in [1, 8]       factor  c: 1, or sat_factor
/// At an integer width exactly odd integer * (c / (2^width - 1)), rounded once. Weights that are all zero are one code of +-1, as
/// there is no code of 0.
/// Errors: shape_mismatch, bits_out_of_range "widths", invalid_argument "factor", invalid_stride, non_finite "latent"; nothing is
/// written then. Exactness: the same bytes on every architecture. Complexity: two passes.
template <viewable Latent, destination Weights>
    requires(trainable<element_of_t<Latent>>&& std::same_as<element_of_t<Latent>, element_of_t<Weights>>)
[[nodiscard]] inline status forward(const Latent& latent, Weights&& weights,
                                    std::span<const element_of_t<Latent>> widths, double factor = 1) noexcept {
    using T = element_of_t<Latent>;
    const auto w = v0_1::view(latent);
    const auto to = v0_1::view(weights);
    if (const status s = detail::check_widths<T>(w.size(), widths, factor); !s) return s;
    if (const status s = train_detail::check_dense(w, w.size(), "latent"); !s) return s;
    if (const status s = train_detail::check_dense(to, w.size(), "weights"); !s) return s;
    const double largest = detail::largest_tanh(w.data(), w.size());
    if (largest < 0) return {errc::non_finite, "latent"};
    const T inverse = largest > 0 ? static_cast<T>(1 / (2 * largest)) : T(0);
    const std::size_t length = w.size() / widths.size();
    for (std::size_t c = 0; c < widths.size(); ++c)
        simd::mix_weights<T, false>(w.data() + c * length, to.data() + c * length, length, inverse,
                                    detail::widths_next_to<T>(static_cast<double>(widths[c]), factor));
    return {};
}

/// The gradients of (R3); the rounding is passed straight, the largest |tanh W| and the factor count as constants.
/// gradient  [K] dense       grad_latent  [K] dense, written       grad_widths  one per width, written
/// Errors: those of forward; non_finite "gradient": the gradients are then written, but no step should be taken.
template <viewable Latent, viewable Gradient, destination GradLatent>
    requires(trainable<element_of_t<Latent>>&& std::same_as<element_of_t<Latent>, element_of_t<Gradient>>&&
                 std::same_as<element_of_t<Latent>, element_of_t<GradLatent>>)
[[nodiscard]] inline status backward(const Latent& latent, const Gradient& gradient, GradLatent&& grad_latent,
                                     std::span<element_of_t<Latent>> grad_widths,
                                     std::span<const element_of_t<Latent>> widths, double factor = 1) noexcept {
    using T = element_of_t<Latent>;
    const auto w = v0_1::view(latent);
    const auto g = v0_1::view(gradient);
    const auto to = v0_1::view(grad_latent);
    if (const status s = detail::check_widths<T>(w.size(), widths, factor); !s) return s;
    if (const status s = train_detail::check_dense(w, w.size(), "latent"); !s) return s;
    if (const status s = train_detail::check_dense(g, w.size(), "gradient"); !s) return s;
    if (const status s = train_detail::check_dense(to, w.size(), "grad_latent"); !s) return s;
    if (grad_widths.size() != widths.size()) return {errc::shape_mismatch, "grad_widths"};
    const double largest = detail::largest_tanh(w.data(), w.size());
    if (largest < 0) return {errc::non_finite, "latent"};
    const T inverse = largest > 0 ? static_cast<T>(1 / (2 * largest)) : T(0);
    const T slope = largest > 0 ? static_cast<T>(factor / largest) : T(0);
    const std::size_t length = w.size() / widths.size();
    bool finite = true;
    for (std::size_t c = 0; c < widths.size(); ++c) {
        const std::size_t at = c * length;
        const double d =
            simd::mix_weights_backward<T>(w.data() + at, g.data() + at, to.data() + at, length, inverse, slope,
                                          detail::widths_next_to<T>(static_cast<double>(widths[c]), factor));
        finite = finite && core_detail::is_finite(d);
        grad_widths[c] = static_cast<T>(d);
    }
    if (finite) return {};
    return {errc::non_finite, "gradient"};
}

/// 1 / (sqrt(n_out k_h k_w) std(w)): scale-adjusted training (Jin et al. 2019, arXiv 1912.10207) multiplies quantized weights by
/// it.
/// weights  [K] finite: what forward gave with factor 1         outputs  n_out k_h k_w
/// 1 when the weights do not vary. Errors: no_data (no weights), invalid_argument "outputs" (0), non_finite "weights",
/// invalid_stride.
template <viewable Weights>
    requires(trainable<element_of_t<Weights>>)
[[nodiscard]] inline result<double> sat_factor(const Weights& weights, std::size_t outputs) noexcept {
    const auto w = v0_1::view(weights);
    if (w.empty()) return status{errc::no_data, "weights"};
    if (outputs == 0) return status{errc::invalid_argument, "outputs"};
    if (const status s = train_detail::check_dense(w, w.size(), "weights"); !s) return s;
    if (!train_detail::all_finite(w.data(), w.size())) return status{errc::non_finite, "weights"};
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < w.size(); ++i) mean += static_cast<double>(w.data()[i]);
    mean /= static_cast<double>(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
        const double away = static_cast<double>(w.data()[i]) - mean;
        square += simd::rounded(away * away);
    }
    const double variance = square / static_cast<double>(w.size());
    return variance > 0 ? 1 / std::sqrt(static_cast<double>(outputs) * variance) : 1.0;
}

/// The activations of (R4).
/// x  dense       rounded  same size, dense, written, may be `x`       clip  a > 0, finite       width  lambda in [1, 8]
/// Errors: shape_mismatch, invalid_stride, invalid_argument "clip", bits_out_of_range "width". NaN gives NaN.
template <viewable X, destination Rounded>
    requires(trainable<element_of_t<X>>&& std::same_as<element_of_t<X>, element_of_t<Rounded>>)
[[nodiscard]] inline status forward_activations(const X& x, Rounded&& rounded, double clip, double width) noexcept {
    using T = element_of_t<X>;
    const auto from = v0_1::view(x);
    const auto to = v0_1::view(rounded);
    if (!(clip > 0 && core_detail::is_finite(clip))) return {errc::invalid_argument, "clip"};
    if (!detail::legal(width)) return {errc::bits_out_of_range, "width"};
    if (const status s = train_detail::check_dense(from, from.size(), "x"); !s) return s;
    if (const status s = train_detail::check_dense(to, from.size(), "rounded"); !s) return s;
    simd::mix_activations<T>(from.data(), to.data(), from.size(), static_cast<T>(1 / clip),
                             detail::widths_next_to<T>(width, clip));
    return {};
}

/// The gradients of (R5).
/// gradient  same size as x, dense        grad_x  the same, written
/// Errors: those of forward_activations; non_finite "gradient": grad_x is then written, but no step should be taken.
template <viewable X, viewable Gradient, destination GradX>
    requires(trainable<element_of_t<X>>&& std::same_as<element_of_t<X>, element_of_t<Gradient>>&&
                 std::same_as<element_of_t<X>, element_of_t<GradX>>)
[[nodiscard]] inline result<activation_gradients<element_of_t<X>>>
backward_activations(const X& x, const Gradient& gradient, GradX&& grad_x, double clip, double width,
                     clip_gradient rule = clip_gradient::calibrated) noexcept {
    using T = element_of_t<X>;
    const auto from = v0_1::view(x);
    const auto g = v0_1::view(gradient);
    const auto to = v0_1::view(grad_x);
    if (!(clip > 0 && core_detail::is_finite(clip))) return status{errc::invalid_argument, "clip"};
    if (!detail::legal(width)) return status{errc::bits_out_of_range, "width"};
    if (const status s = train_detail::check_dense(from, from.size(), "x"); !s) return s;
    if (const status s = train_detail::check_dense(g, from.size(), "gradient"); !s) return s;
    if (const status s = train_detail::check_dense(to, from.size(), "grad_x"); !s) return s;
    const simd::activation_sums sums =
        simd::mix_activations_backward<T>(from.data(), g.data(), to.data(), from.size(), static_cast<T>(clip),
                                          static_cast<T>(1 / clip), detail::widths_next_to<T>(width, clip));
    const double of_clip = sums.above + (rule == clip_gradient::calibrated ? sums.rounded : 0);
    if (!core_detail::is_finite(sums.width) || !core_detail::is_finite(of_clip))
        return status{errc::non_finite, "gradient"};
    return activation_gradients<T>{static_cast<T>(sums.width), static_cast<T>(of_clip)};
}

/// Widths back into [low, 8] after every step of the optimizer. Errors: bits_out_of_range "low", non_finite "widths" (a NaN;
/// nothing is written then).
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline status clamp_widths(std::span<T> widths, double low = min_width) noexcept {
    if (!detail::legal(low)) return {errc::bits_out_of_range, "low"};
    for (const T width : widths)
        if (width != width) return {errc::non_finite, "widths"};
    for (T& width : widths)
        width = width < static_cast<T>(low) ? static_cast<T>(low)
                                            : (width > static_cast<T>(max_width) ? static_cast<T>(max_width) : width);
    return {};
}

/// Size in bits of the weights, sum K lambda_w, and the bit operations of one input, sum macs lambda_w lambda_a: what interpolating
/// the cost between the integer widths gives.
[[nodiscard]] inline double model_bits(std::span<const layer_cost> layers) noexcept {
    double total = 0;
    for (const layer_cost& l : layers) total += simd::rounded(static_cast<double>(l.weights) * l.weight_bits);
    return total;
}
[[nodiscard]] inline double bit_operations(std::span<const layer_cost> layers) noexcept {
    double total = 0;
    for (const layer_cost& l : layers) total += simd::rounded(l.macs * l.weight_bits * l.activation_bits);
    return total;
}

/// d penalty / d resource for penalty = strength |resource - target| / target: +-strength / target, 0 on target. The published code
/// does not divide by the target, which ties the strength to the unit. Errors: invalid_argument "target" or "strength" (not
/// positive and finite; 0 is a legal strength), non_finite "resource".
[[nodiscard]] inline result<double> penalty_slope(double resource, double target, double strength) noexcept {
    if (!(target > 0 && core_detail::is_finite(target))) return status{errc::invalid_argument, "target"};
    if (!(strength >= 0 && core_detail::is_finite(strength))) return status{errc::invalid_argument, "strength"};
    if (!core_detail::is_finite(resource)) return status{errc::non_finite, "resource"};
    return resource > target ? strength / target : resource < target ? -strength / target : 0.0;
}

/// The same for a budget of average width: d (strength |mean - target|) / d lambda of layer l = +-strength K_l / sum K (1 / layers
/// with per_layer). A layer with a width per channel divides it by its channels. Errors: no_data, budget_infeasible
/// "budget.target_bits", invalid_argument "budget.strength". Precondition: l < layers.size().
[[nodiscard]] inline result<double> budget_slope(std::span<const layer_bits> layers, std::size_t l,
                                                 const bit_budget& budget) noexcept {
    if (const status s = validate(budget, max_width); !s) return s;
    const auto excess = budget_excess(layers, budget);
    if (!excess) return excess.status();
    double counted = 0;
    for (const layer_bits& layer : layers) counted += layer.elements != 0 ? 1 : 0;
    const double share = budget_share(layers, l, budget.weighting) / counted;
    return *excess > 0 ? budget.strength * share : *excess < 0 ? -budget.strength * share : 0.0;
}

/// Integer widths for a budget: bits = round(width + offset) within [1, 8], with the largest offset in [-1, 1] whose average is at
/// most 1.01 target_bits (31 halvings; ties of the rounding upward).
/// widths    lambda, of layers or of channels          elements  how many weights each stands for
/// bits      written                                   Returns the offset.
/// Errors: shape_mismatch "elements" or "bits", bits_out_of_range "widths", no_data "elements", budget_infeasible
/// "budget.target_bits" (also when even the offset -1 leaves too many bits: the widths have to shrink first); nothing is written
/// then.
template <class T>
    requires(trainable<T>)
[[nodiscard]] inline result<double> discretize(std::span<const T> widths, std::span<const std::size_t> elements,
                                               std::span<std::uint8_t> bits, const bit_budget& budget) noexcept {
    if (elements.size() != widths.size()) return status{errc::shape_mismatch, "elements"};
    if (bits.size() != widths.size()) return status{errc::shape_mismatch, "bits"};
    for (const T width : widths)
        if (!detail::legal(static_cast<double>(width))) return status{errc::bits_out_of_range, "widths"};
    if (const status s = validate(budget, max_width); !s) return s;
    const auto rounded = [&](std::size_t l, double offset) {
        const double moved = std::floor(static_cast<double>(widths[l]) + offset + 0.5);
        return moved < min_width ? min_width : (moved > max_width ? max_width : moved);
    };
    double all = 0;
    for (const std::size_t count : elements)
        all += budget.weighting == budget_weighting::per_layer ? (count != 0 ? 1.0 : 0.0) : static_cast<double>(count);
    if (!(all > 0)) return status{errc::no_data, "elements"};
    const auto fits = [&](double offset) {
        double total = 0;
        for (std::size_t l = 0; l < widths.size(); ++l) {
            if (elements[l] == 0) continue;
            const double weight =
                budget.weighting == budget_weighting::per_layer ? 1.0 : static_cast<double>(elements[l]);
            total += simd::rounded(weight * rounded(l, offset));
        }
        return total <= 1.01 * budget.target_bits * all;
    };
    double low = -1, high = 1;
    if (!fits(low)) return status{errc::budget_infeasible, "budget.target_bits"};
    if (fits(high)) {
        low = high;
    } else {
        for (int k = 0; k < 31; ++k) {
            const double middle = (low + high) / 2;
            (fits(middle) ? low : high) = middle;
        }
    }
    for (std::size_t l = 0; l < widths.size(); ++l) bits[l] = static_cast<std::uint8_t>(rounded(l, low));
    return low;
}

/// The integer model at integer widths: codes 2 j - (2^bits - 1), odd, and scales factor / (2^bits - 1). code * scale is bit for
/// bit what forward gives at these widths and this factor, which must not change any more.
/// codes  [K] int16, or int8 for up to 7 bits          scales  one per width, written            bits  1, or one per output channel
/// Errors: shape_mismatch, bits_out_of_range "bits" (not 1 to 8), storage_too_narrow "codes", invalid_argument "factor",
/// invalid_stride, non_finite "latent"; nothing is written then.
template <viewable Latent, destination Codes>
    requires(
        trainable<element_of_t<Latent>>&& code_storage<element_of_t<Codes>>&& std::signed_integral<element_of_t<Codes>>)
[[nodiscard]] inline status harden(const Latent& latent, Codes&& codes, std::span<element_of_t<Latent>> scales,
                                   std::span<const std::uint8_t> bits, double factor = 1) noexcept {
    using T = element_of_t<Latent>;
    using code = element_of_t<Codes>;
    const auto w = v0_1::view(latent);
    const auto to = v0_1::view(codes);
    if (bits.empty() || w.size() % bits.size() != 0) return {errc::shape_mismatch, "bits"};
    if (scales.size() != bits.size()) return {errc::shape_mismatch, "scales"};
    for (const std::uint8_t width : bits) {
        if (!detail::legal(static_cast<double>(width))) return {errc::bits_out_of_range, "bits"};
        if ((1 << width) - 1 > std::numeric_limits<code>::max()) return {errc::storage_too_narrow, "codes"};
    }
    if (!(factor > 0 && core_detail::is_finite(factor))) return {errc::invalid_argument, "factor"};
    if (const status s = train_detail::check_dense(w, w.size(), "latent"); !s) return s;
    if (const status s = train_detail::check_dense(to, w.size(), "codes"); !s) return s;
    const double largest = detail::largest_tanh(w.data(), w.size());
    if (largest < 0) return {errc::non_finite, "latent"};
    const T inverse = largest > 0 ? static_cast<T>(1 / (2 * largest)) : T(0);
    const std::size_t length = w.size() / bits.size();
    T q[256];
    for (std::size_t c = 0; c < bits.size(); ++c) {
        simd::mixed_widths<T> m;
        m.low_levels = static_cast<T>((1 << bits[c]) - 1);
        scales[c] = static_cast<T>(factor / static_cast<double>((1 << bits[c]) - 1));
        for (std::size_t at = 0; at < length; at += std::size(q)) {
            const std::size_t n = length - at < std::size(q) ? length - at : std::size(q), from = c * length + at;
            simd::mix_weights<T, true>(w.data() + from, q, n, inverse, m);
            for (std::size_t i = 0; i < n; ++i) to.data()[from + i] = static_cast<code>(q[i]);
        }
    }
    return {};
}

} // namespace QUANT_TARGET_TAG
} // namespace fracbits
QUANT_END_NAMESPACE
