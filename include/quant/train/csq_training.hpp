// SPDX-License-Identifier: MIT
#pragma once
// What surrounds a step of CSQ in every training loop: temperature, learning rates of the parameter groups, budget, freezing. No
// optimizer and no loss: those are yours. Layer 5 (train).
//
//   quant::csq::training<float> t{layers, grads, bits, full_scales, {.budget = {.target_bits = 3}}};  // arrays, one entry per
// layer
//   for (std::size_t l = 0; l < layers.size(); ++l) if (auto s = t.start(l, weights[l]); !s) return s;
//   for (std::size_t step = 0; step < steps; ++step) {
//       if (auto s = t.begin_step(step, steps); !s) return s;
//       for (std::size_t l = 0; l < layers.size(); ++l) if (auto s = t.forward(l, w_hat[l]); !s) return s;
//       …your loss: d loss / d w_hat…
//       for (std::size_t l = 0; l < layers.size(); ++l) if (auto s = t.backward(l, grad_w_hat[l]); !s) return s;
//       t.update([&](const auto& group) { sgd(group.values, group.gradients, group.rate, group.decay, velocity[group.index]); });
//   }
//   for (std::size_t l = 0; l < layers.size(); ++l) done[l] = quant::csq::harden(layers[l], codes[l]);
//
// Learning rates: a step of rate r moves a weight by about r G s^2 / 96 at temperature 1, s = max |w| at the start, so the rate of
// the bits of a layer is bit_rate * rate / s^2. Weight decay goes to the bits alone: it keeps undecided ones where they can still
// turn.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/core/status.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/csq.hpp>
#include <quant/train/schedule.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace csq {

/// What a group of parameters is.
enum class parameter_kind : std::uint8_t { positive_bits, negative_bits, masks, scales };
inline constexpr std::size_t groups_per_layer = 4;

/// Parameters of one kind of one layer, for an optimizer.
template <class T> struct parameter_group {
    parameter_kind kind = parameter_kind::positive_bits;
    std::size_t layer = 0;
    std::size_t index =
        0; ///< layer * groups_per_layer + kind, the same in every step: where an optimizer keeps its state
    std::span<T> values, gradients;
    double rate = 0;  ///< learning rate of this step
    double decay = 0; ///< weight decay
};

inline namespace QUANT_TARGET_TAG {

/// The settings of a run; the defaults are those of small networks without batch normalization.
struct training_options {
    exponential_temperature temperature{};
    cosine_rate rate{.start = 0.05};
    bit_budget budget{};
    init_options init{};
    bool compensate_amplitude = true; ///< start at the rounded weights: gate_options::amplitude
    double bit_rate = 20;             ///< times rate / s^2
    double mask_rate = 4;             ///< times rate, and times the groups of a layer that have masks of their own
    double scale_rate =
        0.05; ///< times rate / sqrt(weights per scale), of the full scale D (2^planes - 1); 0: scales are frozen
    double bit_decay = 1e-4;
    double hard_masks_from =
        1; ///< share of the run from which planes are open or closed for good; 1: never before the end
    bool keep_one_plane = true; ///< a layer never loses its last plane
};

/// A run over the layers of a model. Owns nothing.
template <class T> struct training {
    std::span<const layer<T>> layers;
    std::span<const layer<T>> grads; ///< written; empty spans in them are frozen parameters
    std::span<layer_bits> bits;      ///< open planes at the beginning of the step
    std::span<double> full_scales;   ///< max |w| at the start, for the rates; keep them with a checkpoint
    training_options options{};
    gate_options gates{}; ///< of the current step
    double rate = 0;      ///< of the current step

    /// Initializes layer l from given weights. Precondition of this and what follows: l < layers.size().
    /// Errors: those of init_from_float, shape_mismatch "grads", "bits" or "full_scales".
    template <viewable Weights> [[nodiscard]] status start(std::size_t l, const Weights& weights) noexcept {
        if (const status s = check(); !s) return s;
        if (const status s = init_from_float(weights, layers[l], options.init); !s) return s;
        double most = 0;
        for (const T scale : layers[l].scale)
            most = static_cast<double>(scale) > most ? static_cast<double>(scale) : most;
        full_scales[l] = most * static_cast<double>((std::uint32_t{1} << layers[l].planes) - 1);
        return {};
    }

    /// Sets temperature and rates, and counts the open planes. A resumed run begins here.
    /// Errors: shape_mismatch, invalid_argument "schedule…" or "budget.strength", budget_infeasible "budget.target_bits".
    [[nodiscard]] status begin_step(std::size_t step, std::size_t steps) noexcept {
        if (const status s = check(); !s) return s;
        if (const status s = validate(options.temperature); !s) return s;
        const auto done = static_cast<double>(step), all = static_cast<double>(steps);
        gates = {.temperature = options.temperature(done, all)};
        if (options.hard_masks_from < 1 && share_done(done, all) >= options.hard_masks_from)
            gates.mode = gate_mode::hard_mask;
        rate = options.rate(done, all);
        for (std::size_t l = 0; l < layers.size(); ++l) {
            if (const status s = validate(options.budget, static_cast<double>(layers[l].planes)); !s) return s;
            bits[l] = csq::bits(layers[l]);
        }
        return {};
    }

    /// The gates of layer l in this step.
    [[nodiscard]] gate_options gates_of(std::size_t l) const noexcept {
        gate_options g = gates;
        if (options.compensate_amplitude) g.amplitude = amplitude(options.init, g, !layers[l].mask.empty());
        return g;
    }

    /// The weights of layer l. Errors: those of csq::forward.
    template <destination Weights> [[nodiscard]] status forward(std::size_t l, Weights&& weights) const noexcept {
        return csq::forward(layers[l], weights, gates_of(l));
    }

    /// All gradients of layer l, the budget's among them. Errors: those of csq::backward: with non_finite leave out the update.
    template <viewable Gradient> [[nodiscard]] status backward(std::size_t l, const Gradient& gradient) const noexcept {
        if (const status s = csq::backward(layers[l], gradient, grads[l], gates_of(l)); !s) return s;
        if (grads[l].mask.empty() || layers[l].weights() == 0) return {};
        const auto pressure = budget_pressure(bits, l, options.budget, layers[l].planes);
        if (!pressure) return pressure.status();
        return csq::add_budget_gradient(layers[l], grads[l], gates_of(l), *pressure);
    }

    /// Calls optimizer(const parameter_group<T>&) for every group that is not frozen, then keeps one plane where that is asked.
    template <class Optimizer>
    void update(Optimizer&& optimizer) const noexcept(noexcept(optimizer(parameter_group<T>{}))) {
        for (std::size_t l = 0; l < layers.size(); ++l) {
            const double s = full_scales[l], of_bits = s > 0 ? options.bit_rate * rate / (s * s) : 0;
            const std::size_t scales = layers[l].scale.size();
            const std::size_t per_scale = scales == 0 ? 0 : layers[l].weights() / scales;
            const auto codes = static_cast<double>((std::uint32_t{1} << layers[l].planes) - 1);
            const double of_scale = per_scale == 0 ? 0
                                                   : options.scale_rate * rate /
                                                         (std::sqrt(static_cast<double>(per_scale)) * codes * codes);
            const auto offer = [&](parameter_kind kind, std::span<T> values, std::span<T> gradients, double r,
                                   double decay) {
                if (gradients.empty() || r == 0) return;
                optimizer(parameter_group<T>{kind, l, l * groups_per_layer + static_cast<std::size_t>(kind), values,
                                             gradients, r, decay});
            };
            offer(parameter_kind::positive_bits, layers[l].positive, grads[l].positive, of_bits, options.bit_decay);
            offer(parameter_kind::negative_bits, layers[l].negative, grads[l].negative, of_bits, options.bit_decay);
            // A mask of a group sees its share of both gradients, and moves as fast as one of the whole layer.
            const double groups =
                layers[l].mask.empty() ? 1 : static_cast<double>(layers[l].mask.size() / layers[l].planes);
            if (gates.mode == gate_mode::soft)
                offer(parameter_kind::masks, layers[l].mask, grads[l].mask, options.mask_rate * rate * groups, 0);
            offer(parameter_kind::scales, layers[l].scale, grads[l].scale, of_scale, 0);
            if (options.keep_one_plane) csq::keep_one_plane(layers[l]);
        }
    }

    /// Mean of the open planes at the beginning of the step. Errors: no_data "layers".
    [[nodiscard]] result<double> average_bits() const noexcept { return mean_bits(bits, options.budget.weighting); }

private:
    [[nodiscard]] status check() const noexcept {
        if (grads.size() != layers.size()) return {errc::shape_mismatch, "grads"};
        if (bits.size() != layers.size()) return {errc::shape_mismatch, "bits"};
        if (full_scales.size() != layers.size()) return {errc::shape_mismatch, "full_scales"};
        return {};
    }
};

} // namespace QUANT_TARGET_TAG
} // namespace csq
QUANT_END_NAMESPACE
