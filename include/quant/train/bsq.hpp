// SPDX-License-Identifier: MIT
#pragma once
// BSQ: the bits of every weight are trained as real numbers through a rounding that gradients pass straight, a group lasso empties
// whole planes, and every so often the layer is requantized and its empty planes dropped. Layer 5 (train).
//
//   quant::bsq::layer<float> layer{positive, negative, scale, weights.size(), 8};     // buffers of 8 planes or more
//   auto s = quant::bsq::init_from_float(weights, layer);
//   s = quant::bsq::forward(layer, w_hat);                                           // then your loss, d loss / d w_hat, and
//   s = quant::bsq::backward(layer, grad_w_hat, grads);
//   s = quant::bsq::add_lasso_gradient(layer, grads, strength * share);
//   …your optimizer…;  s = quant::bsq::clip_bits(layer);
//   auto adjusted = quant::bsq::requantize(layer);                                   // every some epochs, and at the end
//
// With real bits p, n in [0, 2], planes b of value 2^b, N planes, R = 2^N - 1 and the scale D,
//
//   v = sum_b 2^b (p_b - n_b)     q = round(clip(v, -R, R))     w = D q                                          (B1)
//   dL/dp_b = G D 2^b             dL/dn_b = -G D 2^b             dL/dD = sum G q                                 (B2)
//   lasso = sum_b sqrt(e + |p_b|^2 + |n_b|^2), e = 1e-8, weighed by K_l N_l / sum K: large layers are pushed harder    (B3)
//
// Paper: Yang et al. 2021, "BSQ: Exploring Bit-Level Sparsity for Mixed-Precision Neural Network Quantization", arXiv 2102.10462.
// After the last requantize, quant::round_to_planes with planes 2^N - 1 is the paper's finetuning.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/core/options.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/bsq_kernels.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/fixed_planes.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace bsq {

inline constexpr std::size_t max_planes = 15; ///< codes then fit 16 bits

/// What is trained of one layer, or the gradients of it; all memory is the caller's. Planes are contiguous: element [b * weights +
/// i].
template <class T> struct layer {
    std::span<T> positive; ///< p [planes][weights] and room for more planes behind
    std::span<T> negative; ///< n, the same
    std::span<T> scale;    ///< D: 1, or one for each row of weights / scale.size() weights
    std::size_t weights = 0;
    std::size_t planes =
        8; ///< 0 to max_planes; changes when the layer is requantized. 0: the layer is gone, all weights 0
};

/// How a layer is requantized.
struct requantize_options {
    std::size_t most_planes = 8; ///< a layer of that many does not grow
    /// Clip before rounding also where the layer could grow: no weight then changes. Without it, what forward clipped comes back.
    bool clip_before_requantize = false;
    /// The highest plane is dropped while at most this share of the weights needs it; they saturate. 0: when it is empty.
    double empty_share = 0;
};

/// What a requantization did.
struct requantize_report {
    std::size_t planes = 0;       ///< left
    std::size_t grown = 0;        ///< 0 or 1
    std::size_t dropped_high = 0; ///< highest planes
    std::size_t dropped_low = 0;  ///< lowest planes: the scale became 2^dropped_low times as large
};

inline namespace QUANT_TARGET_TAG {
namespace detail {

inline constexpr std::size_t tile = 1024;

template <class T> [[nodiscard]] inline status check(const layer<T>& l) noexcept {
    if (l.planes > max_planes) return {errc::bits_out_of_range, "layer.planes"};
    if (l.positive.size() < l.planes * l.weights) return {errc::shape_mismatch, "layer.positive"};
    if (l.negative.size() < l.planes * l.weights) return {errc::shape_mismatch, "layer.negative"};
    if (l.scale.empty() || l.weights % l.scale.size() != 0) return {errc::shape_mismatch, "layer.scale"};
    return {};
}
template <class T> [[nodiscard]] inline status check_gradients(const layer<T>& l, const layer<T>& grads) noexcept {
    if (grads.positive.size() < l.planes * l.weights) return {errc::shape_mismatch, "grads.positive"};
    if (grads.negative.size() < l.planes * l.weights) return {errc::shape_mismatch, "grads.negative"};
    if (!grads.scale.empty() && grads.scale.size() != l.scale.size()) return {errc::shape_mismatch, "grads.scale"};
    return {};
}
[[nodiscard]] QUANT_INLINE std::int32_t largest(std::size_t planes) noexcept { return (std::int32_t{1} << planes) - 1; }

/// q of a tile, as real numbers.
template <class T>
inline void integers(const layer<T>& l, std::size_t at, std::size_t count, T* q, rounding rule) noexcept {
    for (std::size_t i = 0; i < count; ++i) q[i] = T(0);
    for (std::size_t b = 0; b < l.planes; ++b)
        simd::add_difference(l.positive.data() + b * l.weights + at, l.negative.data() + b * l.weights + at, q, count,
                             static_cast<T>(std::int32_t{1} << b));
    simd::round_clipped(q, count, static_cast<T>(largest(l.planes)), rule == rounding::half_away);
}
[[nodiscard]] inline status check(rounding rule) noexcept {
    if (rule == rounding::half_away || rule == rounding::nearest_even) return {};
    return {errc::invalid_argument, "rule"};
}

/// round_half_away(v) of one weight, clipped at +-most; 0 for NaN.
template <class T>
[[nodiscard]] inline std::int32_t code_of(const layer<T>& l, std::size_t i, std::int32_t most) noexcept {
    double v = 0;
    for (std::size_t b = 0; b < l.planes; ++b) {
        const double difference = static_cast<double>(l.positive[b * l.weights + i] - l.negative[b * l.weights + i]);
        v += difference * static_cast<double>(std::int32_t{1} << b); // exact product
    }
    const double size = v < 0 ? -v : v;
    if (!(size > 0)) return 0;
    if (size >= static_cast<double>(most)) return v < 0 ? -most : most;
    auto q = static_cast<std::int32_t>(size);
    if (size - static_cast<double>(q) >= 0.5) ++q;
    return v < 0 ? -q : q;
}

} // namespace detail

/// Bits and scales of given weights: D = max |w| / (2^planes - 1) per scale, the bits of round(|w| / D) exactly 0 or 1.
/// weights  [K] finite, dense
/// Errors: bits_out_of_range "layer.planes" (0 planes hold nothing), shape_mismatch, invalid_stride, non_finite "weights",
/// scale_out_of_range "weights"; nothing is written then.
template <class T, viewable Weights>
    requires(trainable<T>&& std::same_as<element_of_t<Weights>, T>)
[[nodiscard]] inline status init_from_float(const Weights& weights, const layer<T>& l) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (l.planes == 0) return {errc::bits_out_of_range, "layer.planes"};
    const auto w = v0_1::view(weights);
    if (const status s = train_detail::check_dense(w, l.weights, "weights"); !s) return s;
    if (!train_detail::all_finite(w.data(), l.weights)) return {errc::non_finite, "weights"};
    const std::size_t length = l.weights / l.scale.size();
    if (const status s = train_detail::largest_scales(w.data(), length, l.scale, l.planes); !s) return s;
    for (std::size_t i = 0; i < l.weights; ++i) {
        const std::int32_t q = train_detail::code_of(w.data()[i], l.scale[i / length], l.planes);
        for (std::size_t b = 0; b < l.planes; ++b) {
            l.positive[b * l.weights + i] = static_cast<T>(q > 0 ? (q >> b) & 1 : 0);
            l.negative[b * l.weights + i] = static_cast<T>(q < 0 ? (-q >> b) & 1 : 0);
        }
    }
    return {};
}

/// The weights of (B1).
/// weights  [K] dense, written         rule  half_away as in the formula, or nearest_even as in the published code
/// Errors: bits_out_of_range, shape_mismatch, invalid_stride, invalid_argument "rule". Bits that are NaN give NaN.
/// Exactness: the same bytes on every architecture; integer * scale, rounded once. Complexity: one pass over every plane.
template <class T, destination Weights>
    requires(trainable<T>&& std::same_as<element_of_t<Weights>, T>)
[[nodiscard]] inline status forward(const layer<T>& l, Weights&& weights,
                                    rounding rule = rounding::half_away) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = detail::check(rule); !s) return s;
    const auto w = v0_1::view(weights);
    if (const status s = train_detail::check_dense(w, l.weights, "weights"); !s) return s;
    T q[detail::tile];
    for (std::size_t at = 0; at < l.weights; at += detail::tile) {
        const std::size_t count = l.weights - at < detail::tile ? l.weights - at : detail::tile;
        detail::integers(l, at, count, q, rule);
        train_detail::for_each_row(at, count, l.weights / l.scale.size(),
                                   [&](std::size_t first, std::size_t n, std::size_t row) {
                                       for (std::size_t i = first; i < first + n; ++i)
                                           w.data()[at + i] = q[i] * l.scale[row];
                                   });
    }
    return {};
}

/// The gradients of (B2); they pass the rounding and the clip.
/// gradient  [K] dense           grads  written; its scale may be empty
/// Errors: those of forward, shape_mismatch "grads…"; non_finite "gradient" or "layer": the gradients are then written, but no step
/// should be taken. Exactness: as forward; sums in double.
template <class T, viewable Gradient>
    requires(trainable<T>&& std::same_as<element_of_t<Gradient>, T>)
[[nodiscard]] inline status backward(const layer<T>& l, const Gradient& gradient, const layer<T>& grads,
                                     rounding rule = rounding::half_away) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = detail::check(rule); !s) return s;
    if (const status s = detail::check_gradients(l, grads); !s) return s;
    const auto g = v0_1::view(gradient);
    if (const status s = train_detail::check_dense(g, l.weights, "gradient"); !s) return s;
    T q[detail::tile];
    double of_row = 0;
    bool finite = true;
    const std::size_t length = l.weights / l.scale.size();
    for (std::size_t at = 0; at < l.weights; at += detail::tile) {
        const std::size_t count = l.weights - at < detail::tile ? l.weights - at : detail::tile;
        detail::integers(l, at, count, q, rule);
        train_detail::for_each_row(at, count, length, [&](std::size_t first, std::size_t n, std::size_t row) {
            const T* const from = g.data() + at + first;
            of_row += simd::dot<T>(from, q + first, n);
            for (std::size_t b = 0; b < l.planes; ++b) {
                T* const dp = grads.positive.data() + b * l.weights + at + first;
                T* const dn = grads.negative.data() + b * l.weights + at + first;
                const T value = l.scale[row] * static_cast<T>(std::int32_t{1} << b); // exact
                for (std::size_t i = 0; i < n; ++i) {
                    dp[i] = from[i] * value;
                    dn[i] = -dp[i];
                }
            }
            if (at + first + n != (row + 1) * length) return;
            finite = finite && core_detail::is_finite(of_row);
            if (!grads.scale.empty()) grads.scale[row] = static_cast<T>(of_row);
            of_row = 0;
        });
    }
    if (l.weights == 0)
        for (T& d : grads.scale) d = T(0);
    if (finite) return {};
    return {errc::non_finite, train_detail::all_finite(g.data(), l.weights) ? "layer" : "gradient"};
}

/// The lasso of (B3) over the planes of one layer. 0 for a layer without planes.
/// Errors: bits_out_of_range, shape_mismatch.
template <class T> [[nodiscard]] inline result<double> group_lasso(const layer<T>& l) noexcept {
    if (const status s = detail::check(l); !s) return s;
    double total = 0;
    for (std::size_t b = 0; b < l.planes; ++b)
        total += simd::plane_norm(l.positive.data() + b * l.weights, l.negative.data() + b * l.weights, l.weights);
    return total;
}

/// Adds weight * d lasso / d bit to the gradients: weight p / sqrt(e + |p_b|^2 + |n_b|^2). weight = strength * lasso_share(...).
/// A plane of zeros has gradient zero. Errors: bits_out_of_range, shape_mismatch, non_finite "weight".
template <class T>
[[nodiscard]] inline status add_lasso_gradient(const layer<T>& l, const layer<T>& grads, double weight) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = detail::check_gradients(l, grads); !s) return s;
    if (!core_detail::is_finite(weight)) return {errc::non_finite, "weight"};
    for (std::size_t b = 0; b < l.planes; ++b) {
        const std::size_t from = b * l.weights;
        const double norm = simd::plane_norm(l.positive.data() + from, l.negative.data() + from, l.weights);
        const T factor = static_cast<T>(weight / norm);
        simd::add_multiple(l.positive.data() + from, grads.positive.data() + from, l.weights, factor);
        simd::add_multiple(l.negative.data() + from, grads.negative.data() + from, l.weights, factor);
    }
    return {};
}

/// For budgets and the reweighing: weights and planes.
template <class T> [[nodiscard]] inline layer_bits bits(const layer<T>& l) noexcept {
    return {l.weights, static_cast<double>(l.planes)};
}

/// K_l N_l / sum_j K_j, by which the paper weighs the lasso of a layer: its own part of the average width. 0 without elements.
/// Precondition: l < layers.size().
[[nodiscard]] inline double lasso_share(std::span<const layer_bits> layers, std::size_t l) noexcept {
    QUANT_EXPECTS(l < layers.size(), "lasso_share: a layer of the model");
    double elements = 0;
    for (const layer_bits& layer : layers) elements += static_cast<double>(layer.elements);
    return elements > 0 ? static_cast<double>(layers[l].elements) * layers[l].bits / elements : 0;
}

/// Bits back into [0, 2], after every step of the optimizer. NaN stays NaN. Errors: bits_out_of_range, shape_mismatch.
template <class T> [[nodiscard]] inline status clip_bits(const layer<T>& l) noexcept {
    if (const status s = detail::check(l); !s) return s;
    simd::clip(l.positive.data(), l.planes * l.weights, T(0), T(2));
    simd::clip(l.negative.data(), l.planes * l.weights, T(0), T(2));
    return {};
}

/// Makes the bits those of q = round(v) again and drops planes: grows by one plane if some |q| > 2^planes - 1 and planes <
/// most_planes (else clips), drops highest planes that are empty and lowest ones, which double the scale each. Without growth no
/// weight changes; a weight that forward clipped comes back larger unless clip_before_requantize. The optimizer's state of this
/// layer is to be made anew.
/// Errors: bits_out_of_range "layer.planes" or "most_planes" (above max_planes), shape_mismatch, buffer_too_small "layer.positive"
/// or "layer.negative" (no room to grow), invalid_argument "empty_share" (not in [0, 1)), non_finite "layer"; nothing is written
/// then. Requantizing twice is requantizing once.
template <class T>
[[nodiscard]] inline result<requantize_report> requantize(layer<T>& l,
                                                          const requantize_options& options = {}) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (options.most_planes > max_planes) return status{errc::bits_out_of_range, "most_planes"};
    if (!(options.empty_share >= 0 && options.empty_share < 1)) return status{errc::invalid_argument, "empty_share"};
    if (!train_detail::all_finite(l.positive.data(), l.planes * l.weights) ||
        !train_detail::all_finite(l.negative.data(), l.planes * l.weights))
        return status{errc::non_finite, "layer"};
    requantize_report report;
    const bool may_grow = l.planes != 0 && l.planes < options.most_planes && !options.clip_before_requantize;
    const std::int32_t most = detail::largest(l.planes + (may_grow ? 1 : 0));
    // Weights by the highest plane they need, and the planes that are not empty.
    std::size_t needing[max_planes + 1] = {}; // [h]: |q| in [2^(h - 1), 2^h)
    for (std::size_t i = 0; i < l.weights; ++i) {
        const std::int32_t q = detail::code_of(l, i, most);
        ++needing[std::bit_width(static_cast<std::uint32_t>(q < 0 ? -q : q))];
    }
    std::size_t planes = l.planes;
    if (may_grow && needing[planes + 1] != 0) {
        ++planes;
        report.grown = 1;
        if (l.positive.size() < planes * l.weights) return status{errc::buffer_too_small, "layer.positive"};
        if (l.negative.size() < planes * l.weights) return status{errc::buffer_too_small, "layer.negative"};
    }
    const auto spare = static_cast<std::size_t>(options.empty_share * static_cast<double>(l.weights));
    for (std::size_t above = 0; planes > 0; --planes, ++report.dropped_high) {
        above += needing[planes];
        if (above > spare) break;
    }
    const std::int32_t kept = detail::largest(planes);
    const auto saturated = [&](std::size_t i) {
        const std::int32_t q = detail::code_of(l, i, most);
        return q > kept ? kept : q < -kept ? -kept : q;
    };
    std::uint32_t used = 0;
    for (std::size_t i = 0; i < l.weights; ++i) {
        const std::int32_t q = saturated(i);
        used |= static_cast<std::uint32_t>(q < 0 ? -q : q);
    }
    report.dropped_low = used == 0 ? 0 : static_cast<std::size_t>(std::countr_zero(used));
    report.planes = planes - report.dropped_low;
    if (used == 0) report.planes = 0;
    const T factor = static_cast<T>(std::int32_t{1} << report.dropped_low);
    for (std::size_t i = 0; i < l.weights; ++i) {
        const std::int32_t q = saturated(i), size = (q < 0 ? -q : q) >> report.dropped_low;
        for (std::size_t b = 0; b < report.planes; ++b) {
            l.positive[b * l.weights + i] = static_cast<T>(q > 0 ? (size >> b) & 1 : 0);
            l.negative[b * l.weights + i] = static_cast<T>(q < 0 ? (size >> b) & 1 : 0);
        }
    }
    for (T& scale : l.scale) scale *= factor;
    l.planes = report.planes;
    return report;
}

/// The integer model: the q of forward, empty lowest planes as factors 2 of the scales. code * scale is bit for bit what forward
/// gives.
/// codes  [K] int8 or int16, dense, written        scales  one per scale of the layer, written
/// Errors: bits_out_of_range, shape_mismatch, invalid_stride, storage_too_narrow "codes", non_finite "layer", invalid_scale
/// "layer.scale", scale_out_of_range "scales"; nothing is written then.
template <class T, destination Codes>
    requires(trainable<T>&& code_storage<element_of_t<Codes>>&& std::signed_integral<element_of_t<Codes>>)
[[nodiscard]] inline result<hardened> harden(const layer<T>& l, Codes&& codes, std::span<T> scales) noexcept {
    using code = element_of_t<Codes>;
    if (const status s = detail::check(l); !s) return s;
    const auto to = v0_1::view(codes);
    if (const status s = train_detail::check_dense(to, l.weights, "codes"); !s) return s;
    if (scales.size() != l.scale.size()) return status{errc::shape_mismatch, "scales"};
    for (const T scale : l.scale)
        if (!(scale >= static_cast<T>(min_scale) && scale <= static_cast<T>(max_scale)))
            return status{errc::invalid_scale, "layer.scale"};
    if (!train_detail::all_finite(l.positive.data(), l.planes * l.weights) ||
        !train_detail::all_finite(l.negative.data(), l.planes * l.weights))
        return status{errc::non_finite, "layer"};
    T q[detail::tile];
    hardened done;
    done.weights = l.weights;
    std::int32_t most = 0;
    const auto for_each_code = [&](auto&& f) {
        for (std::size_t at = 0; at < l.weights; at += detail::tile) {
            const std::size_t count = l.weights - at < detail::tile ? l.weights - at : detail::tile;
            detail::integers(l, at, count, q, rounding::half_away);
            for (std::size_t i = 0; i < count; ++i) f(at + i, static_cast<std::int32_t>(q[i]));
        }
    };
    for_each_code([&](std::size_t, std::int32_t value) {
        const std::int32_t size = value < 0 ? -value : value;
        done.planes |= static_cast<std::uint32_t>(size);
        most = size > most ? size : most;
    });
    done.stripped = done.planes == 0 ? 0 : std::countr_zero(done.planes);
    done.planes >>= done.stripped;
    done.magnitude = done.planes;
    if ((most >> done.stripped) > std::numeric_limits<code>::max()) return status{errc::storage_too_narrow, "codes"};
    const T factor = static_cast<T>(std::int32_t{1} << done.stripped);
    for (const T scale : l.scale)
        if (scale * factor > static_cast<T>(max_scale)) return status{errc::scale_out_of_range, "scales"};
    for_each_code([&](std::size_t i, std::int32_t value) {
        to.data()[i] = static_cast<code>(value / (std::int32_t{1} << done.stripped));
    });
    for (std::size_t row = 0; row < scales.size(); ++row) scales[row] = l.scale[row] * factor;
    done.scale = static_cast<double>(scales[0]);
    return done;
}

} // namespace QUANT_TARGET_TAG
} // namespace bsq
QUANT_END_NAMESPACE
