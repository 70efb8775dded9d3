// SPDX-License-Identifier: MIT
#pragma once
// Training the full-precision model under the condition that its quantized copy stays close, layer by layer and in its outputs. Every
// condition has a multiplier, and in the end the multipliers say which layers suffer most. Layer 5 (train).
//
//   // One step: run the model and its quantized copy; z_(l-1) is the copy's input to layer l, for both.
//   auto slack = quant::constraints::layer_slack(full, quantized, 0.5);                  // mean (F_l - Fq_l)^2 - eps_l
//   auto s = quant::constraints::add_layer_gradient(full, quantized, lambda[l], grad_full);
//   s = quant::constraints::add_output_gradient(logits, logits_quantized, classes, lambda_out, grad_logits);
//   // After an epoch, with the mean slacks over the data:
//   s = quant::constraints::dual_step(lambda, slacks, 0.01);                             // lambda = max(0, lambda + eta slack)
//   // In the end: the layers to keep in high precision come first.
//   s = quant::constraints::rank_layers(lambda, order);
//
//   minimize E loss   subject to   E mean (F_l - Fq_l)^2 <= eps_l   and   E CE(p, q) <= eps_out                              (Q1)
//   by F_l:      lambda_l 2 (F_l - Fq_l) / n_l     (absolute distance: lambda_l sign / n_l)                                (Q2)
//   by logits:   lambda_out p_i (-log q_i - CE),  with divergence p_i (log p_i - log q_i - KL)                             (Q3)
//
// The quantized copy is a constant: no gradient goes through a rounding, so there is no straight-through estimator. At an optimum
// lambda_l is by how much the loss would fall per unit of eps_l.
// Paper: Hounie et al. 2022, "Neural Networks with Quantization Constraints", arXiv 2210.15623.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/calibrate/heap.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/batch.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace constraints {

/// How far a layer's outputs may be.
enum class distance : std::uint8_t { squared, absolute };

/// How far the outputs' distributions may be.
enum class output_form : std::uint8_t {
    cross_entropy, ///< -sum p log q, the paper's: never below the entropy of p, so a smaller eps can never be met
    divergence,    ///< sum p (log p - log q): 0 for equal logits
};

inline namespace QUANT_TARGET_TAG {
namespace detail {

template <class A, class B> [[nodiscard]] inline status check_pair(const A& full, const B& quantized) noexcept {
    if (full.empty()) return {errc::no_data, "full"};
    if (const status s = train_detail::check_dense(full, full.size(), "full"); !s) return s;
    return train_detail::check_dense(quantized, full.size(), "quantized");
}
[[nodiscard]] inline status check_multiplier(double lambda) noexcept {
    if (!(lambda >= 0 && core_detail::is_finite(lambda))) return {errc::invalid_argument, "lambda"};
    return {};
}

/// log sum exp of a row; NaN or infinite where an element is.
template <class T> [[nodiscard]] inline double log_sum(const T* row, std::size_t n) noexcept {
    double most = static_cast<double>(row[0]), sum = 0;
    for (std::size_t i = 1; i < n; ++i) most = static_cast<double>(row[i]) > most ? static_cast<double>(row[i]) : most;
    for (std::size_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(row[i]) - most);
    return most + std::log(sum);
}

/// The loss of one row, sum_i p_i term_i; f(i, its derivative by logit i of `full`) for every class.
template <class T, class F>
inline double row_loss(const T* full, const T* quantized, std::size_t classes, output_form form, F&& f) noexcept {
    const double norm = log_sum(full, classes), other = log_sum(quantized, classes);
    const auto terms = [&](std::size_t i, double& p) noexcept {
        const double log_p = static_cast<double>(full[i]) - norm, log_q = static_cast<double>(quantized[i]) - other;
        p = std::exp(log_p);
        return form == output_form::cross_entropy ? -log_q : log_p - log_q;
    };
    double sum = 0, p = 0;
    for (std::size_t i = 0; i < classes; ++i) {
        const double term = terms(i, p);
        sum += simd::rounded(p * term);
    }
    for (std::size_t i = 0; i < classes; ++i) {
        const double term = terms(i, p);
        f(i, p * (term - sum));
    }
    return sum;
}
struct nothing {
    QUANT_INLINE void operator()(std::size_t, double) const noexcept {}
};

} // namespace detail

/// mean (F - Fq)^2 - allowed, or mean |F - Fq| - allowed: above zero the condition is broken.
/// full, quantized  outputs of both on the same input, dense        allowed  eps
/// Errors: no_data "full", invalid_stride, shape_mismatch "quantized", non_finite "full" (in either). Complexity: one pass, in double.
template <viewable Full, viewable Quantized>
    requires(trainable<element_of_t<Full>>&& std::same_as<element_of_t<Full>, element_of_t<Quantized>>)
[[nodiscard]] inline result<double> layer_slack(const Full& full, const Quantized& quantized, double allowed,
                                                distance d = distance::squared) noexcept {
    const auto f = v0_1::view(full);
    const auto q = v0_1::view(quantized);
    if (const status s = detail::check_pair(f, q); !s) return s;
    double sum = 0;
    for (std::size_t i = 0; i < f.size(); ++i) {
        const double e = static_cast<double>(f.data()[i]) - static_cast<double>(q.data()[i]);
        sum += d == distance::squared ? simd::rounded(e * e) : (e < 0 ? -e : e);
    }
    if (!core_detail::is_finite(sum)) return status{errc::non_finite, "full"};
    return sum / static_cast<double>(f.size()) - allowed;
}

/// Adds (Q2) to the gradient of the loss by the full-precision outputs.
/// gradient  as many elements, dense. Errors: those of layer_slack; shape_mismatch "gradient"; invalid_argument "lambda" (negative).
template <viewable Full, viewable Quantized, destination Gradient>
    requires(trainable<element_of_t<Full>>&& std::same_as<element_of_t<Full>, element_of_t<Quantized>>&&
                 std::same_as<element_of_t<Full>, element_of_t<Gradient>>)
[[nodiscard]] inline status add_layer_gradient(const Full& full, const Quantized& quantized, double lambda,
                                               Gradient&& gradient, distance d = distance::squared) noexcept {
    using T = element_of_t<Full>;
    const auto f = v0_1::view(full);
    const auto q = v0_1::view(quantized);
    const auto g = v0_1::view(gradient);
    if (const status s = detail::check_pair(f, q); !s) return s;
    if (const status s = train_detail::check_dense(g, f.size(), "gradient"); !s) return s;
    if (const status s = detail::check_multiplier(lambda); !s) return s;
    const double part = lambda / static_cast<double>(f.size());
    for (std::size_t i = 0; i < f.size(); ++i) {
        const double e = static_cast<double>(f.data()[i]) - static_cast<double>(q.data()[i]);
        const double by = d == distance::squared ? 2 * e : e > 0 ? 1.0 : e < 0 ? -1.0 : 0.0;
        g.data()[i] = static_cast<T>(static_cast<double>(g.data()[i]) + simd::rounded(part * by));
    }
    return {};
}

/// The mean over rows of the cross entropy or divergence of both softmaxes, less `allowed`.
/// full, quantized  logits [rows, classes], dense
/// Errors: no_data "full", shape_mismatch "quantized" or "full" (not a multiple of classes), invalid_stride, non_finite "full" (in either).
template <viewable Full, viewable Quantized>
    requires(trainable<element_of_t<Full>>&& std::same_as<element_of_t<Full>, element_of_t<Quantized>>)
[[nodiscard]] inline result<double> output_slack(const Full& full, const Quantized& quantized, std::size_t classes,
                                                 double allowed,
                                                 output_form form = output_form::cross_entropy) noexcept {
    const auto f = v0_1::view(full);
    const auto q = v0_1::view(quantized);
    if (const status s = detail::check_pair(f, q); !s) return s;
    if (classes == 0 || f.size() % classes != 0) return status{errc::shape_mismatch, "full"};
    double sum = 0;
    for (std::size_t at = 0; at < f.size(); at += classes)
        sum += detail::row_loss(f.data() + at, q.data() + at, classes, form, detail::nothing{});
    if (!core_detail::is_finite(sum)) return status{errc::non_finite, "full"};
    return sum / static_cast<double>(f.size() / classes) - allowed;
}

/// Adds (Q3), divided by the number of rows, to the gradient of the loss by the full-precision logits.
/// Errors: those of output_slack; shape_mismatch "gradient"; invalid_argument "lambda".
template <viewable Full, viewable Quantized, destination Gradient>
    requires(trainable<element_of_t<Full>>&& std::same_as<element_of_t<Full>, element_of_t<Quantized>>&&
                 std::same_as<element_of_t<Full>, element_of_t<Gradient>>)
[[nodiscard]] inline status add_output_gradient(const Full& full, const Quantized& quantized, std::size_t classes,
                                                double lambda, Gradient&& gradient,
                                                output_form form = output_form::cross_entropy) noexcept {
    using T = element_of_t<Full>;
    const auto f = v0_1::view(full);
    const auto q = v0_1::view(quantized);
    const auto g = v0_1::view(gradient);
    if (const status s = detail::check_pair(f, q); !s) return s;
    if (classes == 0 || f.size() % classes != 0) return {errc::shape_mismatch, "full"};
    if (const status s = train_detail::check_dense(g, f.size(), "gradient"); !s) return s;
    if (const status s = detail::check_multiplier(lambda); !s) return s;
    const double part = lambda / static_cast<double>(f.size() / classes);
    for (std::size_t at = 0; at < f.size(); at += classes)
        detail::row_loss(f.data() + at, q.data() + at, classes, form, [&](std::size_t i, double by) noexcept {
            T& to = g.data()[at + i];
            to = static_cast<T>(static_cast<double>(to) + simd::rounded(part * by));
        });
    return {};
}

/// lambda = max(0, lambda + rate slack). The paper starts with 0 for layers and 1 for the outputs, and steps once an epoch at rate 0.01.
/// Errors: shape_mismatch "slacks"; non_finite "slacks"; invalid_argument "rate" (not positive and finite); nothing is changed then.
[[nodiscard]] inline status dual_step(std::span<double> lambda, std::span<const double> slacks, double rate) noexcept {
    if (slacks.size() != lambda.size()) return {errc::shape_mismatch, "slacks"};
    if (!(rate > 0 && core_detail::is_finite(rate))) return {errc::invalid_argument, "rate"};
    for (const double s : slacks)
        if (!core_detail::is_finite(s)) return {errc::non_finite, "slacks"};
    for (std::size_t l = 0; l < lambda.size(); ++l) {
        const double next = lambda[l] + simd::rounded(rate * slacks[l]);
        lambda[l] = next > 0 ? next : 0.0;
    }
    return {};
}

/// loss + sum lambda slack: keep the model for which this is least on validation data.
/// Precondition: as many slacks as multipliers.
[[nodiscard]] inline double lagrangian(double loss, std::span<const double> lambda,
                                       std::span<const double> slacks) noexcept {
    QUANT_EXPECTS(lambda.size() == slacks.size(), "lagrangian: one slack for each multiplier");
    for (std::size_t l = 0; l < lambda.size(); ++l) loss += simd::rounded(lambda[l] * slacks[l]);
    return loss;
}

/// Layers by falling multiplier, the lower layer first where they are equal: the first k of them are to stay in high precision.
/// order  as many as lambda, written. Errors: shape_mismatch "order", non_finite "lambda" (NaN). Complexity: O(n log n).
[[nodiscard]] inline status rank_layers(std::span<const double> lambda, std::span<std::uint32_t> order) noexcept {
    if (order.size() != lambda.size()) return {errc::shape_mismatch, "order"};
    for (const double l : lambda)
        if (!(l == l)) return {errc::non_finite, "lambda"};
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
    v0_1::detail::sort_by(order.data(), order.size(), [&](std::uint32_t a, std::uint32_t b) noexcept {
        return lambda[a] > lambda[b] || (lambda[a] == lambda[b] && a < b);
    });
    return {};
}

} // namespace QUANT_TARGET_TAG
} // namespace constraints
QUANT_END_NAMESPACE
