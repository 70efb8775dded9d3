// SPDX-License-Identifier: MIT
#pragma once

// A network in true integer arithmetic: codes of 8 bits or fewer between the layers, int8 or packed 4-bit weights, int32
// accumulators, and the library's requantization behind every sum. Nothing is computed in float between the input and the logits.
//
//   const auto seen = engine::observe(net, calibration, 64);
//   const engine::integer_network q(net, engine::choose_parameters(net, seen, {.weight_bits = 4}));
//   const evaluation::accuracy a = evaluation::evaluate(q, images);
//
// Where it is harder than fake_quantization.hpp: activations have one range per tensor, sums behind residual connections and pooled
// means are codes again, biases are integers.

#include "graph.hpp"

#include "../evaluation/dataset.hpp"

#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/statistics_summary.hpp>
#include <quant/core/params.hpp>
#include <quant/core/requantize.hpp>
#include <quant/quantize/quantized_tensor.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace engine {

using evaluation::labelled_set;

/// The ReLU or Clip that a layer's output goes to and nothing else does: the clamp behind the layer's sums replaces it. Or null.
const layer* activation_behind(const graph& net, const layer& l);
/// By layer: whether it is such an activation.
std::vector<bool> replaced_layers(const graph& net);

/// What was seen of every value of a network.
struct observations {
    std::vector<quant::tensor_statistics>
        values; ///< by value; before_relu where a ReLU or Clip alone reads a layer's output
    std::vector<quant::histogram_observer<>> histograms;  ///< by value
    std::vector<std::vector<quant::clip_range>> channels; ///< by value and index of dimension 1: the extremes
};
/// Of the first so many samples.
observations observe(const graph& net, const labelled_set& set, std::size_t samples, std::size_t batch = 16);

/// How the range that codes stand for is chosen.
enum class clipping : std::uint8_t {
    none,       ///< all of the range
    aciq_paper, ///< ACIQ for a Laplace distribution, by the paper's formula
    aciq,       ///< ACIQ by the corrected formula; the distribution of weights is chosen by their statistics
    mse         ///< the smallest squared error, searched on a histogram
};

struct integer_settings {
    unsigned weight_bits = 8; ///< signed codes, one scale per output channel
    /// Unsigned codes, one scale per value; the input and what follows the last weights: 8.
    unsigned activation_bits = 8;
    unsigned linear_bits = 0; ///< of outputs of weights without a ReLU or Clip behind them; 0: activation_bits
    unsigned sum_bits =
        0; ///< of what additions put out; 0: activation_bits. The paper does not round these sums at all
    bool affine_weights = false; ///< zero points of their own, as in the paper, instead of symmetric
    clipping clip_weights = clipping::none;
    clipping clip_activations = clipping::none; ///< ACIQ: outputs of fewer than 8 bits only
    bool correct_bias = false; ///< every output channel of a weight keeps its mean: exact, by sums of the inputs
    bool exempt = false;       ///< first and last layer: weights of 8 bits whatever else is said
    /// By layer of the graph, instead of weight_bits; what stands at layers without weights does not matter. Empty: weight_bits.
    std::vector<unsigned> bits_by_layer{};
};

/// What an integer network is made from, beside the graph.
struct integer_parameters {
    std::vector<quant::quantized_tensor> weights; ///< by layer: int8 codes per_axis(0), corrections or none
    std::vector<quant::affine_params>
        values; ///< by value, signed or unsigned; those that are never codes do not matter
};
/// Throws quant_tool::error where the settings do not fit the graph.
integer_parameters choose_parameters(const graph& net, const observations& seen, const integer_settings& settings);

/// A value between two layers: one byte per code, two's complement where the format is signed.
struct coded_value {
    std::vector<std::size_t> shape; ///< [N, ...]
    std::vector<std::uint8_t> bytes;
};

class integer_network {
public:
    /// Throws quant_tool::error where the parameters do not fit the graph.
    integer_network(const graph& net, const integer_parameters& parameters,
                    quant::requantization rule = quant::requantization::float_multiplier);

    /// Sees every value that is made of codes.
    using hook = std::function<void(std::size_t value, const coded_value& codes)>;
    tensor run(const tensor& batch, const hook& after = {}) const;
    tensor operator()(const tensor& batch) const { return run(batch); }

    /// What the weights' codes take in memory.
    std::size_t weight_bytes() const;

private:
    struct plan;
    std::shared_ptr<const plan> plan_; ///< never changes, so that copies may share it
};

} // namespace engine
