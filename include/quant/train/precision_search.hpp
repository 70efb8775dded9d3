// SPDX-License-Identifier: MIT
#pragma once
// Widths found by mixing: every cluster of weights runs in several widths at once, softmax weights mix the outputs, and a penalty on bits
// joins the loss; in the end each cluster takes its largest weight. Layer 5 (train).
//
//   auto s = quant::precision_search::mixture(logits, a);                                       // per cluster: a = softmax(logits)
//   s = quant::precision_search::mix(outputs, a, mixed);                                        // outputs [options, n]
//   … your loss …
//   s = quant::precision_search::mix_backward(outputs, grad_mixed, a, grad_outputs, grad_logits);    // written
//   s = quant::precision_search::add_penalty_gradient(a, bits, 0.5, grad_logits);
//   … at the end: quant::precision_search::choice(logits), and fine-tuning …
//
//   h = sum_n a_n h_n,     penalty = sum_n a_n sqrt(n) per cluster,     d/d logit_m = beta a_m (sqrt(m) - sum_n a_n sqrt(n))    (S1)
//
// Paper: Xu et al. 2021, "Mixed Precision Low-bit Quantization of Neural Network Language Models for Speech Recognition",
// arXiv 2112.11438; the formulas stand in the group's arXiv 2111.14479. sqrt(n) pushes mildly: look at mean_bits and sweep beta.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/exponential.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_TARGET
namespace precision_search {
namespace detail {

[[nodiscard]] inline status check_bits(std::span<const double> a, std::span<const double> bits) noexcept {
    if (a.empty()) return {errc::no_data, "a"};
    if (bits.size() != a.size()) return {errc::shape_mismatch, "bits"};
    for (const double b : bits)
        if (!(b >= 0 && core_detail::is_finite(b))) return {errc::bits_out_of_range, "bits"};
    return {};
}

} // namespace detail

/// a = softmax(logits): what each width of one cluster is worth. Errors: no_data "logits", shape_mismatch "a", non_finite "logits".
[[nodiscard]] inline status mixture(std::span<const double> logits, std::span<double> a) noexcept {
    if (logits.empty()) return {errc::no_data, "logits"};
    if (a.size() != logits.size()) return {errc::shape_mismatch, "a"};
    double most = logits[0], sum = 0;
    for (const double l : logits) {
        if (!core_detail::is_finite(l)) return {errc::non_finite, "logits"};
        most = l > most ? l : most;
    }
    for (std::size_t m = 0; m < a.size(); ++m) sum += a[m] = std::exp(logits[m] - most);
    for (double& x : a) x /= sum;
    return {};
}

/// sum a_n n: the bits of a cluster as it stands. Errors: no_data "a", shape_mismatch "bits", bits_out_of_range "bits".
[[nodiscard]] inline result<double> mean_bits(std::span<const double> a, std::span<const double> bits) noexcept {
    if (const status s = detail::check_bits(a, bits); !s) return s;
    double sum = 0;
    for (std::size_t m = 0; m < a.size(); ++m) sum += simd::rounded(a[m] * bits[m]);
    return sum;
}
/// sum a_n sqrt(n), of (S1). Errors: those of mean_bits.
[[nodiscard]] inline result<double> penalty(std::span<const double> a, std::span<const double> bits) noexcept {
    if (const status s = detail::check_bits(a, bits); !s) return s;
    double sum = 0;
    for (std::size_t m = 0; m < a.size(); ++m) sum += simd::rounded(a[m] * std::sqrt(bits[m]));
    return sum;
}
/// Adds strength times its derivative by the logits. Errors: those of mean_bits; shape_mismatch "grad_logits"; invalid_argument "strength".
[[nodiscard]] inline status add_penalty_gradient(std::span<const double> a, std::span<const double> bits,
                                                 double strength, std::span<double> grad_logits) noexcept {
    const auto mean = precision_search::penalty(a, bits);
    if (!mean) return mean.status();
    if (grad_logits.size() != a.size()) return {errc::shape_mismatch, "grad_logits"};
    if (!core_detail::is_finite(strength)) return {errc::invalid_argument, "strength"};
    for (std::size_t m = 0; m < a.size(); ++m)
        grad_logits[m] += simd::rounded(strength * a[m] * (std::sqrt(bits[m]) - *mean));
    return {};
}

/// mixed = sum a_n h_n. outputs  [options, n] dense, one row for each width        mixed  [n] dense, written
/// Errors: shape_mismatch "a", "mixed"; invalid_stride. Complexity: one pass.
template <viewable Outputs, destination Mixed>
    requires(trainable<element_of_t<Outputs>>&& std::same_as<element_of_t<Outputs>, element_of_t<Mixed>>)
[[nodiscard]] inline status mix(const Outputs& outputs, std::span<const double> a, Mixed&& mixed) noexcept {
    using T = element_of_t<Outputs>;
    const tensor_view<const T, 2> h = v0_1::view(outputs);
    const auto to = v0_1::view(mixed);
    if (!h.is_contiguous()) return {errc::invalid_stride, "outputs"};
    if (a.size() != h.extent(0)) return {errc::shape_mismatch, "a"};
    if (const status s = train_detail::check_dense(to, h.extent(1), "mixed"); !s) return s;
    for (std::size_t i = 0; i < h.extent(1); ++i) {
        double sum = 0;
        for (std::size_t m = 0; m < a.size(); ++m)
            sum += simd::rounded(a[m] * static_cast<double>(h.data()[m * h.extent(1) + i]));
        to.data()[i] = static_cast<T>(sum);
    }
    return {};
}

/// d h_n = a_n G and d logit_m = a_m (sum_i G h_m - sum_n a_n sum_i G h_n).
/// gradient  [n] dense: G = d loss / d mixed       grad_outputs  [options, n] dense, written, may be `outputs`
/// grad_logits  [options], written
/// Errors: those of mix; shape_mismatch "gradient", "grad_outputs", "grad_logits"; non_finite "gradient" (written all the same).
template <viewable Outputs, viewable Gradient, destination GradOutputs>
    requires(trainable<element_of_t<Outputs>>&& std::same_as<element_of_t<Outputs>, element_of_t<Gradient>>&&
                 std::same_as<element_of_t<Outputs>, element_of_t<GradOutputs>>)
[[nodiscard]] inline status mix_backward(const Outputs& outputs, const Gradient& gradient, std::span<const double> a,
                                         GradOutputs&& grad_outputs, std::span<double> grad_logits) noexcept {
    using T = element_of_t<Outputs>;
    const tensor_view<const T, 2> h = v0_1::view(outputs);
    const auto g = v0_1::view(gradient);
    const tensor_view<T, 2> to = v0_1::view(grad_outputs);
    if (!h.is_contiguous()) return {errc::invalid_stride, "outputs"};
    if (a.size() != h.extent(0)) return {errc::shape_mismatch, "a"};
    if (const status s = train_detail::check_dense(g, h.extent(1), "gradient"); !s) return s;
    if (to.extents() != h.extents()) return {errc::shape_mismatch, "grad_outputs"};
    if (!to.is_contiguous()) return {errc::invalid_stride, "grad_outputs"};
    if (grad_logits.size() != a.size()) return {errc::shape_mismatch, "grad_logits"};
    double mean = 0;
    for (std::size_t m = 0; m < a.size(); ++m) {
        grad_logits[m] = simd::dot<T>(g.data(), h.data() + m * h.extent(1), h.extent(1));
        mean += simd::rounded(a[m] * grad_logits[m]);
    }
    for (std::size_t m = 0; m < a.size(); ++m) {
        grad_logits[m] = a[m] * (grad_logits[m] - mean);
        for (std::size_t i = 0; i < h.extent(1); ++i)
            to.data()[m * h.extent(1) + i] = static_cast<T>(a[m] * static_cast<double>(g.data()[i]));
    }
    if (core_detail::is_finite(mean)) return {};
    return {errc::non_finite, "gradient"};
}

/// The option of the largest logit, of equal ones the first. Errors: no_data "logits", non_finite "logits" (NaN).
[[nodiscard]] inline result<std::size_t> choice(std::span<const double> logits) noexcept {
    if (logits.empty()) return status{errc::no_data, "logits"};
    std::size_t best = 0;
    for (std::size_t m = 0; m < logits.size(); ++m) {
        if (!(logits[m] == logits[m])) return status{errc::non_finite, "logits"};
        if (logits[m] > logits[best]) best = m;
    }
    return best;
}

} // namespace precision_search
QUANT_END_TARGET
