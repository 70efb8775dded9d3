// SPDX-License-Identifier: MIT
#pragma once
// CSQ: every weight is made of bits that are sigmoids whose temperature rises, every plane of bits has a sigmoid that keeps or
// drops it, and what hardens in the end is an integer model. No straight-through gradients. Layer 5 (train).
//
//   quant::csq::layer<float> layer{positive, negative, mask, scale, 8};           // your buffers
//   auto s = quant::csq::init_from_float(weights, layer);
//   s = quant::csq::forward(layer, w_hat, beta);                                  // then your loss, d loss / d w_hat, and
//   s = quant::csq::backward(layer, grad_w_hat, grads, beta);
//   s = quant::csq::add_budget_gradient(layer, grads, beta, {.target_bits = 3, .strength = 1});
//   auto done = quant::csq::harden(layer, codes);                                 // codes * done->scale, exactly
//
// With beta the temperature of the bits and beta_B that of the masks, K weights, planes b of value 2^b and the scale D,
//
//   g_p = sigma(beta m_p)    g_n = sigma(beta m_n)    M_b = sigma(beta_B m_B,b)                                   (C1)
//   w_i = D / A U_i,  U_i = sum_b 2^b M_b (g_p - g_n)_b,i                                                         (C2)
//   dL/dm_p = G_i D/A 2^b M_b beta sigma'(beta m_p),  dL/dm_n the same with the other sign                        (C3)
//   dL/dm_B = [D/A 2^b sum_i G_i (g_p - g_n)_b,i + rho] beta_B sigma'(beta_B m_B,b),   dL/dD = sum_i G_i U_i / A      (C4)
//
// A = 1, or the amplitude of freshly initialized gates (C5), so that weights start at their n-bit rounding at any temperature.
// Paper: Xiao et al. 2023, "CSQ: Growing Mixed-Precision Quantization Scheme with Bi-level Continuous Sparsification", arXiv
// 2212.02770.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/csq_kernels.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/fixed_planes.hpp>
#include <quant/train/gate.hpp>
#include <quant/train/schedule.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace csq {

inline constexpr std::size_t max_planes = 15; ///< codes then fit 16 bits

/// What is trained of one layer, or the gradients of it; all memory is the caller's. Planes are contiguous: element [b * weights +
/// i].
template <class T> struct layer {
    std::span<T> positive; ///< m_p [planes][weights]
    std::span<T> negative; ///< m_n [planes][weights]
    /// m_B [planes], or [planes][groups] for a mask of each of `groups` runs of weights of the same length: rows or blocks of rows
    /// that keep and drop planes by themselves. Empty: all planes are open, the mode of uniform precision.
    std::span<T> mask;
    std::span<T> scale;     ///< D: 1, or one for each row of weights / scale.size() weights
    std::size_t planes = 8; ///< 1 to max_planes

    [[nodiscard]] QUANT_INLINE constexpr std::size_t weights() const noexcept {
        return planes == 0 ? 0 : positive.size() / planes;
    }
};

/// How far the gates are on their way.
enum class gate_mode : std::uint8_t {
    soft,      ///< all are sigmoids
    hard_mask, ///< planes are open (m_B >= 0) or closed; bits are sigmoids
    hard,      ///< all are 0 or 1, m >= 0
};

/// The gates of one step.
struct gate_options {
    double temperature = 1;      ///< beta
    double mask_temperature = 0; ///< beta_B; 0: the same
    gate_mode mode = gate_mode::soft;
    double amplitude = 1; ///< A of (C2): 1, or amplitude(init, options)
};

/// Where logits start.
struct init_options {
    double logit = 1;        ///< m0: +m0 for a bit that is set, -m0 for one that is not
    double mask_logit = 0.5; ///< m_B0; the published code has 0
};

inline namespace QUANT_TARGET_TAG {
namespace detail {

inline constexpr std::size_t tile = 1024;

/// Weights of one row, which share a scale.
template <class T> [[nodiscard]] inline std::size_t row_length(const layer<T>& l) noexcept {
    return l.weights() / l.scale.size();
}

/// Groups of weights with masks of their own, and the weights of one.
template <class T> [[nodiscard]] inline std::size_t mask_groups(const layer<T>& l) noexcept {
    return l.mask.empty() ? 1 : l.mask.size() / l.planes;
}
template <class T> [[nodiscard]] inline std::size_t group_length(const layer<T>& l) noexcept {
    return l.weights() / mask_groups(l);
}

/// Counts that fit each other. `argument` names what does not.
template <class T> [[nodiscard]] inline status check(const layer<T>& l) noexcept {
    if (l.planes < 1 || l.planes > max_planes) return {errc::bits_out_of_range, "layer.planes"};
    if (l.positive.size() % l.planes != 0) return {errc::shape_mismatch, "layer.positive"};
    if (l.negative.size() != l.positive.size()) return {errc::shape_mismatch, "layer.negative"};
    if (l.mask.size() % l.planes != 0 || l.weights() % mask_groups(l) != 0) return {errc::shape_mismatch, "layer.mask"};
    if (l.scale.empty() || l.weights() % l.scale.size() != 0) return {errc::shape_mismatch, "layer.scale"};
    return {};
}
[[nodiscard]] inline status check(const gate_options& options) noexcept {
    if (const status s = validate_temperature(options.temperature); !s) return s;
    if (options.mask_temperature != 0 && !validate_temperature(options.mask_temperature))
        return {errc::invalid_argument, "mask_temperature"};
    if (!(options.amplitude > 0 && core_detail::is_finite(options.amplitude)))
        return {errc::invalid_argument, "amplitude"};
    return {};
}
/// Gradients that are wanted have the counts of what they are the gradients of.
template <class T> [[nodiscard]] inline status check_gradients(const layer<T>& l, const layer<T>& grads) noexcept {
    const auto fits = [](std::span<T> grad, std::span<T> of) { return grad.empty() || grad.size() == of.size(); };
    if (!fits(grads.positive, l.positive)) return {errc::shape_mismatch, "grads.positive"};
    if (grads.negative.size() != grads.positive.size()) return {errc::shape_mismatch, "grads.negative"};
    if (!fits(grads.mask, l.mask)) return {errc::shape_mismatch, "grads.mask"};
    if (!fits(grads.scale, l.scale)) return {errc::shape_mismatch, "grads.scale"};
    return {};
}

/// sigma and sigma' of one value.
[[nodiscard]] inline simd::gate<double, simd::scalar> one_gate(double z) noexcept {
    return simd::gate_at<double, simd::scalar>(z);
}
[[nodiscard]] inline double mask_temperature(const gate_options& options) noexcept {
    return options.mask_temperature != 0 ? options.mask_temperature : options.temperature;
}
/// M_b of the mask that stands at k = b * groups + group.
template <class T>
[[nodiscard]] inline double plane_gate(const layer<T>& l, std::size_t k, const gate_options& options) noexcept {
    if (l.mask.empty()) return 1;
    const auto m = static_cast<double>(l.mask[k]);
    if (options.mode != gate_mode::soft) return m >= 0 ? 1 : 0;
    return one_gate(mask_temperature(options) * m).value;
}
/// d M_b / d m_B,b; 0 where masks are hard.
template <class T>
[[nodiscard]] inline double plane_gate_slope(const layer<T>& l, std::size_t k, const gate_options& options) noexcept {
    if (l.mask.empty() || options.mode != gate_mode::soft) return 0;
    const double beta = mask_temperature(options);
    return beta * one_gate(beta * static_cast<double>(l.mask[k])).slope;
}
[[nodiscard]] inline double plane_value(std::size_t b) noexcept { return static_cast<double>(std::uint32_t{1} << b); }

/// U of a stretch of weights of one group.
template <class T>
inline void soft_integers(const layer<T>& l, std::size_t at, std::size_t count, std::size_t group,
                          const gate_options& options, T* sum) noexcept {
    for (std::size_t i = 0; i < count; ++i) sum[i] = T(0);
    for (std::size_t b = 0; b < l.planes; ++b) {
        const double open = plane_gate(l, b * mask_groups(l) + group, options);
        if (open == 0) continue;
        const T* const p = l.positive.data() + b * l.weights() + at;
        const T* const n = l.negative.data() + b * l.weights() + at;
        const T weight = static_cast<T>(plane_value(b) * open), beta = static_cast<T>(options.temperature);
        if (options.mode == gate_mode::hard)
            simd::add_plane<T, true>(p, n, sum, count, beta, weight);
        else
            simd::add_plane<T, false>(p, n, sum, count, beta, weight);
    }
}

} // namespace detail

/// A(beta) = sigma(beta_B m_B0) tanh(beta m0 / 2): by how much freshly initialized gates shrink the weights.           (C5)
/// 1 for hard gates. With it in gate_options::amplitude a run starts from the rounded weights instead; not for init.logit below
/// 0.3, where 1 / A outgrows the logits. Precondition: positive temperatures.
[[nodiscard]] inline double amplitude(const init_options& init, const gate_options& options,
                                      bool has_mask = true) noexcept {
    if (options.mode == gate_mode::hard) return 1;
    const double bits = simd::tanh_at<double, simd::scalar>(options.temperature * init.logit / 2).value;
    if (!has_mask || options.mode == gate_mode::hard_mask) return bits;
    return bits * detail::one_gate(detail::mask_temperature(options) * init.mask_logit).value;
}

/// Logits and scales of given weights: D = max |w| / (2^planes - 1) per scale, q = round(|w| / D), logit +m0 for every bit of q
/// that is set (in `positive` for w > 0, in `negative` for w < 0), else -m0; masks m_B0. Weights that are all zero have the scale
/// 1.
/// weights  [K] finite, dense, any rank       layer  planes K = positive.size(), written whole
/// Errors: bits_out_of_range "layer.planes", shape_mismatch, invalid_stride, non_finite "weights", invalid_argument "init" (m0 must
/// be positive and finite, m_B0 finite), scale_out_of_range "weights"; nothing is written then.
template <class T, viewable Weights>
    requires(trainable<T>&& std::same_as<element_of_t<Weights>, T>)
[[nodiscard]] inline status init_from_float(const Weights& weights, const layer<T>& l,
                                            const init_options& init = {}) noexcept {
    if (const status s = detail::check(l); !s) return s;
    const auto w = v0_1::view(weights);
    const std::size_t n = l.weights();
    if (const status s = train_detail::check_dense(w, n, "weights"); !s) return s;
    if (!(init.logit > 0 && core_detail::is_finite(init.logit) && core_detail::is_finite(init.mask_logit)))
        return {errc::invalid_argument, "init"};
    if (!train_detail::all_finite(w.data(), n)) return {errc::non_finite, "weights"};
    const std::size_t length = detail::row_length(l);
    if (const status s = train_detail::largest_scales(w.data(), length, l.scale, l.planes); !s) return s;
    const T on = static_cast<T>(init.logit);
    for (std::size_t i = 0; i < n; ++i) {
        const std::int32_t q = train_detail::code_of(w.data()[i], l.scale[i / length], l.planes);
        const auto size = static_cast<std::uint32_t>(q < 0 ? -q : q);
        for (std::size_t b = 0; b < l.planes; ++b) {
            const bool set = ((size >> b) & 1u) != 0;
            l.positive[b * n + i] = set && q > 0 ? on : -on;
            l.negative[b * n + i] = set && q < 0 ? on : -on;
        }
    }
    for (T& m : l.mask) m = static_cast<T>(init.mask_logit);
    return {};
}

/// The weights of (C2).
/// layer    unchanged        weights  [K], dense, written
/// Errors: bits_out_of_range, shape_mismatch, invalid_stride, invalid_argument "temperature", "mask_temperature" or "amplitude".
/// Logits that are NaN give weights that are NaN (with hard gates 0). Exactness: the same bytes on every architecture; with hard
/// gates exactly integer * scale, rounded once. Complexity: one pass over every open plane, no allocation.
template <class T, destination Weights>
    requires(trainable<T>&& std::same_as<element_of_t<Weights>, T>)
[[nodiscard]] inline status forward(const layer<T>& l, Weights&& weights, const gate_options& options) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = detail::check(options); !s) return s;
    const auto w = v0_1::view(weights);
    if (const status s = train_detail::check_dense(w, l.weights(), "weights"); !s) return s;
    T sum[detail::tile];
    for (std::size_t at = 0; at < l.weights(); at += detail::tile) {
        const std::size_t count = l.weights() - at < detail::tile ? l.weights() - at : detail::tile;
        train_detail::for_each_row(at, count, detail::group_length(l),
                                   [&](std::size_t first, std::size_t n, std::size_t group) {
                                       detail::soft_integers(l, at + first, n, group, options, sum + first);
                                   });
        train_detail::for_each_row(
            at, count, detail::row_length(l), [&](std::size_t first, std::size_t n, std::size_t row) {
                const T step = static_cast<T>(static_cast<double>(l.scale[row]) / options.amplitude);
                for (std::size_t i = first; i < first + n; ++i) w.data()[at + i] = sum[i] * step;
            });
    }
    return {};
}
/// The same with soft gates of one temperature.
template <class T, destination Weights>
    requires(trainable<T>&& std::same_as<element_of_t<Weights>, T>)
[[nodiscard]] inline status forward(const layer<T>& l, Weights&& weights, double temperature) noexcept {
    return csq::forward(l, weights, gate_options{.temperature = temperature});
}

/// The gradients of (C3) and (C4), rho left out.
/// layer     unchanged, as in forward        gradient  [K], dense: d loss / d weights
/// grads     written; an empty span is a gradient that is not wanted (positive and negative go together)
/// A plane that is closed for good (M_b = 0) has logits of gradient exactly zero; hard masks have no gradient; hard gates leave
/// that of the scale alone.
/// Errors: those of forward, shape_mismatch "gradient" or "grads…"; non_finite "gradient" (NaN or infinity in it) or "layer" (in
/// what it made): the gradients are then written, but a step should not be taken with them.
/// Exactness: the same bytes on every architecture; sums in double. Complexity: one pass over every plane, no allocation.
template <class T, viewable Gradient>
    requires(trainable<T>&& std::same_as<element_of_t<Gradient>, T>)
[[nodiscard]] inline status backward(const layer<T>& l, const Gradient& gradient, const layer<T>& grads,
                                     const gate_options& options) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = detail::check(options); !s) return s;
    if (const status s = detail::check_gradients(l, grads); !s) return s;
    const auto g = v0_1::view(gradient);
    const std::size_t weights = l.weights();
    if (const status s = train_detail::check_dense(g, weights, "gradient"); !s) return s;

    T sum[detail::tile], scaled[detail::tile];
    double of_plane[max_planes] = {}; // sum_i G_i D/A (g_p - g_n)_b,i of the group
    double of_row = 0;
    bool finite = true;
    const auto finish_row = [&](std::size_t row) {
        of_row /= options.amplitude;
        finite = finite && core_detail::is_finite(of_row);
        if (!grads.scale.empty()) grads.scale[row] = static_cast<T>(of_row);
        of_row = 0;
    };
    const std::size_t length = detail::row_length(l), per_group = detail::group_length(l),
                      groups = detail::mask_groups(l);
    const auto finish_group = [&](std::size_t group) {
        for (std::size_t b = 0; b < l.planes; ++b) {
            const std::size_t k = b * groups + group;
            const double slope = detail::plane_gate_slope(l, k, options);
            const double d = detail::plane_value(b) * of_plane[b] * slope;
            of_plane[b] = 0;
            if (grads.mask.empty()) continue;
            finite = finite && core_detail::is_finite(d);
            grads.mask[k] = slope == 0 ? T(0) : static_cast<T>(d);
        }
    };
    for (std::size_t at = 0; at < weights; at += detail::tile) {
        const std::size_t count = weights - at < detail::tile ? weights - at : detail::tile;
        train_detail::for_each_row(at, count, length, [&](std::size_t first, std::size_t n, std::size_t row) {
            const T step = static_cast<T>(static_cast<double>(l.scale[row]) / options.amplitude);
            for (std::size_t i = first; i < first + n; ++i) scaled[i] = g.data()[at + i] * step;
        });
        train_detail::for_each_row(at, count, per_group, [&](std::size_t first, std::size_t n, std::size_t group) {
            if (options.mode == gate_mode::hard)
                detail::soft_integers(l, at + first, n, group, options, sum + first);
            else
                for (std::size_t i = first; i < first + n; ++i) sum[i] = T(0);
            for (std::size_t b = 0; b < l.planes; ++b) {
                const std::size_t from = b * weights + at + first;
                T* const dp = grads.positive.empty() ? nullptr : grads.positive.data() + from;
                T* const dn = grads.negative.empty() ? nullptr : grads.negative.data() + from;
                const double open = detail::plane_gate(l, b * groups + group, options);
                if (open == 0 || options.mode == gate_mode::hard) {
                    for (std::size_t i = 0; dp != nullptr && i < n; ++i) dp[i] = dn[i] = T(0);
                    continue;
                }
                const double value = detail::plane_value(b) * open;
                of_plane[b] +=
                    simd::plane_backward<T>(l.positive.data() + from, l.negative.data() + from, scaled + first, dp, dn,
                                            sum + first, n, static_cast<T>(options.temperature), static_cast<T>(value),
                                            static_cast<T>(value * options.temperature));
            }
            if (at + first + n == (group + 1) * per_group) finish_group(group);
        });
        train_detail::for_each_row(at, count, length, [&](std::size_t first, std::size_t n, std::size_t row) {
            of_row += simd::dot<T>(g.data() + at + first, sum + first, n);
            if (at + first + n == (row + 1) * length) finish_row(row);
        });
    }
    if (weights == 0)
        for (const std::span<T> all : {grads.scale, grads.mask})
            for (T& d : all) d = T(0);
    if (finite) return {};
    return {errc::non_finite, train_detail::all_finite(g.data(), weights) ? "layer" : "gradient"};
}
/// The same with soft gates of one temperature.
template <class T, viewable Gradient>
    requires(trainable<T>&& std::same_as<element_of_t<Gradient>, T>)
[[nodiscard]] inline status backward(const layer<T>& l, const Gradient& gradient, const layer<T>& grads,
                                     double temperature) noexcept {
    return csq::backward(l, gradient, grads, gate_options{.temperature = temperature});
}

/// Planes that are open, m_B >= 0, in the mean over the groups: what budgets count. Precondition: counts of the layer that fit.
template <class T> [[nodiscard]] inline layer_bits bits(const layer<T>& l) noexcept {
    std::size_t open = l.mask.empty() ? l.planes : 0;
    for (const T m : l.mask) open += m >= 0 ? 1 : 0;
    return {l.weights(), static_cast<double>(open) / static_cast<double>(detail::mask_groups(l))};
}

/// Adds rho beta_B sigma'(beta_B m_B) to the gradients of the masks: (C4). rho = budget_pressure(...) of this layer: positive
/// closes planes, negative opens them; of a group it is its share of the layer. Nothing is added where masks are hard or absent.
/// Errors: bits_out_of_range, shape_mismatch, invalid_argument "temperature", "mask_temperature", non_finite "pressure".
template <class T>
[[nodiscard]] inline status add_budget_gradient(const layer<T>& l, const layer<T>& grads, const gate_options& options,
                                                double pressure) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = detail::check(options); !s) return s;
    if (!core_detail::is_finite(pressure)) return {errc::non_finite, "pressure"};
    if (grads.mask.size() != l.mask.size()) return {errc::shape_mismatch, "grads.mask"};
    const double share = pressure / static_cast<double>(detail::mask_groups(l));
    for (std::size_t k = 0; k < l.mask.size(); ++k) {
        const double more = share * detail::plane_gate_slope(l, k, options);
        grads.mask[k] = static_cast<T>(static_cast<double>(grads.mask[k]) + more);
    }
    return {};
}
/// The same for a model of this one layer: the pressure is strength (open planes - target_bits) / planes.
/// Further errors: budget_infeasible "budget.target_bits" (below 1 or above the planes), invalid_argument "budget.strength". A
/// layer without weights has no budget and nothing is added.
template <class T>
[[nodiscard]] inline status add_budget_gradient(const layer<T>& l, const layer<T>& grads, double temperature,
                                                const bit_budget& budget) noexcept {
    if (const status s = detail::check(l); !s) return s;
    if (const status s = validate(budget, static_cast<double>(l.planes)); !s) return s;
    if (l.weights() == 0) return {};
    const layer_bits own[] = {csq::bits(l)};
    const auto pressure = budget_pressure(own, 0, budget, l.planes);
    if (!pressure) return pressure.status();
    return csq::add_budget_gradient(l, grads, gate_options{.temperature = temperature}, *pressure);
}

/// Opens the plane of the largest mask logit if all of the layer are closed (a group may lose all of its planes): a layer without
/// planes has no gradient that could open one again. Returns whether it had to.
template <class T> inline bool keep_one_plane(const layer<T>& l) noexcept {
    if (l.mask.empty()) return false;
    std::size_t best = 0;
    for (std::size_t b = 0; b < l.mask.size(); ++b) {
        if (l.mask[b] >= 0) return false;
        if (l.mask[b] > l.mask[best]) best = b;
    }
    l.mask[best] = T(0);
    return true;
}

/// Between the rounds of a run that rewinds to an early snapshot: m_B <- min(beta m_B, m_B0). A closed plane stays far from open,
/// an open one starts anew. Errors: invalid_argument "temperature".
template <class T>
[[nodiscard]] inline status rescale_masks(const layer<T>& l, double temperature, double mask_logit) noexcept {
    if (const status s = validate_temperature(temperature); !s) return s;
    for (T& m : l.mask) {
        const double scaled = temperature * static_cast<double>(m);
        m = static_cast<T>(scaled < mask_logit ? scaled : mask_logit);
    }
    return {};
}

/// The share of the bit gates of open planes that are undecided, |beta m| < 3. While it is not near 0, hardening changes the
/// weights visibly.
template <class T>
[[nodiscard]] inline double undecided_share(const layer<T>& l, const gate_options& options) noexcept {
    std::size_t gates = 0, undecided = 0;
    const std::size_t length = detail::group_length(l);
    for (std::size_t k = 0; k < l.planes * detail::mask_groups(l); ++k) { // plane after plane, group after group
        if (!l.mask.empty() && !(l.mask[k] >= 0)) continue;
        for (std::size_t i = k * length; i < (k + 1) * length; ++i)
            for (const T m : {l.positive[i], l.negative[i]}) {
                const double z = options.temperature * static_cast<double>(m);
                ++gates;
                undecided += z > -3 && z < 3 ? 1 : 0;
            }
    }
    return gates == 0 ? 0 : static_cast<double>(undecided) / static_cast<double>(gates);
}

/// The integer model: code_i = sum over open planes of 2^b ([m_p >= 0] - [m_n >= 0]), planes with m_B >= 0; empty lowest planes
/// become factors 2 of the scales. code * scale is bit for bit what forward gives with hard gates.
/// layer   unchanged: hardening twice gives the same         codes  [K] int8 or int16, dense, written
/// scales  one per scale of the layer, written
/// Errors: bits_out_of_range, shape_mismatch, invalid_stride, storage_too_narrow "codes" (they do not fit), non_finite "layer" (a
/// logit is NaN), invalid_scale "layer.scale" (a scale is not in [2^-100, 2^100]), scale_out_of_range "scales"; nothing is written
/// then. All planes closed, or all digits cancelled, or no weights: codes 0, no planes, which is not an error.
template <class T, destination Codes>
    requires(trainable<T>&& code_storage<element_of_t<Codes>>&& std::signed_integral<element_of_t<Codes>>)
[[nodiscard]] inline result<hardened> harden(const layer<T>& l, Codes&& codes, std::span<T> scales) noexcept {
    if (const status s = detail::check(l); !s) return s;
    const auto to = v0_1::view(codes);
    const std::size_t n = l.weights();
    if (const status s = train_detail::check_dense(to, n, "codes"); !s) return s;
    if (scales.size() != l.scale.size()) return status{errc::shape_mismatch, "scales"};
    for (const T scale : l.scale)
        if (!(scale >= static_cast<T>(min_scale) && scale <= static_cast<T>(max_scale)))
            return status{errc::invalid_scale, "layer.scale"};
    for (const T m : l.mask)
        if (m != m) return status{errc::non_finite, "layer"};
    hardened done;
    done.weights = n;
    const std::size_t groups = detail::mask_groups(l), per_group = detail::group_length(l);
    const auto code_of = [&](std::size_t i, auto&& see) {
        std::int32_t q = 0;
        const std::size_t group = groups == 1 ? 0 : i / per_group;
        for (std::size_t b = 0; b < l.planes; ++b) {
            if (!l.mask.empty() && !(l.mask[b * groups + group] >= 0)) continue;
            const T p = l.positive[b * n + i], m = l.negative[b * n + i];
            see(b, p, m);
            q += ((p >= 0 ? 1 : 0) - (m >= 0 ? 1 : 0)) * (std::int32_t{1} << b);
        }
        return q;
    };
    bool nan = false;
    std::int32_t most = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const std::int32_t q = code_of(i, [&](std::size_t b, T p, T m) {
            nan = nan || p != p || m != m;
            const bool up = p >= 0, down = m >= 0;
            if (up != down) done.planes |= std::uint32_t{1} << b;
            if (up && down) ++done.cancelled;
        });
        const std::int32_t size = q < 0 ? -q : q;
        done.magnitude |= static_cast<std::uint32_t>(size);
        most = size > most ? size : most;
    }
    if (nan) return status{errc::non_finite, "layer"};
    done.stripped = done.planes == 0 ? 0 : std::countr_zero(done.planes);
    done.planes >>= done.stripped;
    done.magnitude >>= done.stripped;
    using code = element_of_t<Codes>;
    if ((most >> done.stripped) > std::numeric_limits<code>::max()) return status{errc::storage_too_narrow, "codes"};
    const T factor = static_cast<T>(detail::plane_value(static_cast<std::size_t>(done.stripped)));
    for (const T scale : l.scale)
        if (scale * factor > static_cast<T>(max_scale)) return status{errc::scale_out_of_range, "scales"};
    for (std::size_t i = 0; i < n; ++i) {
        const std::int32_t q = code_of(i, [](std::size_t, T, T) {});
        to.data()[i] = static_cast<code>(q / (std::int32_t{1} << done.stripped));
    }
    for (std::size_t row = 0; row < scales.size(); ++row) scales[row] = l.scale[row] * factor;
    done.scale = static_cast<double>(scales[0]);
    return done;
}
/// The same for a layer with one scale, which the result holds.
template <class T, destination Codes>
    requires(trainable<T>&& code_storage<element_of_t<Codes>>&& std::signed_integral<element_of_t<Codes>>)
[[nodiscard]] inline result<hardened> harden(const layer<T>& l, Codes&& codes) noexcept {
    T scale[1];
    if (l.scale.size() != 1) return status{errc::shape_mismatch, "scales"};
    return csq::harden(l, codes, std::span<T>(scale));
}

} // namespace QUANT_TARGET_TAG
} // namespace csq
QUANT_END_NAMESPACE
