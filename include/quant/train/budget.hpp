// SPDX-License-Identifier: MIT
#pragma once
// How many bits a model has on average, how far that is from what it may have, and how hard each layer is to be pushed there.
// Shared by CSQ, BSQ and FracBits. Layer 5 (train).
//
//   const quant::layer_bits layers[] = {{1024, 5}, {4096, 3}, {1664, 4}};
//   const quant::bit_budget budget{.target_bits = 3};
//   auto excess = quant::budget_excess(layers, budget);       // result<double>: average - target, here 0.36
//
// average = sum_l K_l b_l / sum_l K_l over the elements K_l of the layers, or the plain mean over layers as in CSQ's published
// code. Layers without elements do not count.

#include <cstddef>
#include <cstdint>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// Elements of one layer and bits per element: live planes, or a fractional width.
struct layer_bits {
    std::size_t elements = 0;
    double bits = 0;
};

/// Whose average a budget is about.
enum class budget_weighting : std::uint8_t {
    per_element, ///< every weight counts the same: the size of the model
    per_layer,   ///< every layer counts the same
};

/// The average width to reach, and how hard to push: `strength` stands before the term that joins the loss.
struct bit_budget {
    double target_bits = 4;
    double strength = 1;
    budget_weighting weighting = budget_weighting::per_element;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

/// ok for 1 <= target_bits <= most_bits and a strength that is finite and not negative. Errors: budget_infeasible
/// "budget.target_bits", invalid_argument "budget.strength".
[[nodiscard]] inline status validate(const bit_budget& budget, double most_bits) noexcept {
    if (!(budget.target_bits >= 1 && budget.target_bits <= most_bits))
        return {errc::budget_infeasible, "budget.target_bits"};
    if (!(budget.strength >= 0 && core_detail::is_finite(budget.strength)))
        return {errc::invalid_argument, "budget.strength"};
    return {};
}

/// Mean bits of the layers. Errors: no_data "layers" (no layer has an element).
[[nodiscard]] inline result<double> mean_bits(std::span<const layer_bits> layers,
                                              budget_weighting weighting = budget_weighting::per_element) noexcept {
    double bits = 0, elements = 0;
    for (const layer_bits& layer : layers) {
        if (layer.elements == 0) continue;
        const double weight = weighting == budget_weighting::per_element ? static_cast<double>(layer.elements) : 1.0;
        const double product = weight * layer.bits;
        bits += product;
        elements += weight;
    }
    if (!(elements > 0)) return status{errc::no_data, "layers"};
    return bits / elements;
}

/// mean_bits - target_bits: above zero the model is too large, below it has room. Errors: no_data "layers".
[[nodiscard]] inline result<double> budget_excess(std::span<const layer_bits> layers,
                                                  const bit_budget& budget) noexcept {
    const auto mean = mean_bits(layers, budget.weighting);
    if (!mean) return mean.status();
    return *mean - budget.target_bits;
}

/// kappa_l: L K_l / sum_l K_l over the L layers that have elements, whose mean is 1; or 1 with per_layer. 0 for a layer without
/// elements. Precondition: l < layers.size().
[[nodiscard]] inline double budget_share(std::span<const layer_bits> layers, std::size_t l,
                                         budget_weighting weighting) noexcept {
    QUANT_EXPECTS(l < layers.size(), "budget_share: a layer of the model");
    if (layers[l].elements == 0) return 0;
    if (weighting == budget_weighting::per_layer) return 1;
    double count = 0, elements = 0;
    for (const layer_bits& layer : layers) {
        count += layer.elements != 0 ? 1 : 0;
        elements += static_cast<double>(layer.elements);
    }
    return count * static_cast<double>(layers[l].elements) / elements;
}

/// rho_l = strength (average - target) / planes kappa_l: what the budget adds to the derivative of the loss by an open plane of
/// layer l. Positive closes planes, negative opens them, exactly zero on target.
/// Errors: no_data "layers", budget_infeasible "budget.target_bits" (below 1 or above planes), invalid_argument "budget.strength"
/// (negative or not finite). Precondition: l < layers.size().
[[nodiscard]] inline result<double> budget_pressure(std::span<const layer_bits> layers, std::size_t l,
                                                    const bit_budget& budget, std::size_t planes) noexcept {
    if (const status s = validate(budget, static_cast<double>(planes)); !s) return s;
    const auto excess = budget_excess(layers, budget);
    if (!excess) return excess.status();
    return budget.strength * (*excess / static_cast<double>(planes)) * budget_share(layers, l, budget.weighting);
}

QUANT_END_TARGET
