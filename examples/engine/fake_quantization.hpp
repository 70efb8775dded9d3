// SPDX-License-Identifier: MIT
#pragma once

// The setting of the ACIQ paper's experiments, replicated (Banner, Nahshan, Soudry 2019, arXiv 1810.05723): weights and the
// outputs of convolutions and fully connected layers are rounded to the values that codes can represent, everything is computed
// in float, and sums behind residual connections are not rounded again. It measures the quantizer, not an integer engine:
// integer.hpp is the harder setting.

#include "dataset.hpp"
#include "evaluation.hpp"
#include "graph.hpp"

#include <quant/calibrate/statistics_summary.hpp>
#include <quant/core/params.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace engine {

/// The rows of the paper's table; each alone, and all of them together.
enum class method : std::uint8_t {
    min_max,
    aciq,
    bit_allocation,
    bias_correction,
    aciq_and_allocation,
    correction_and_allocation,
    all
};
std::string_view name_of(method m);

struct fake_settings {
    unsigned weight_bits = 4;     ///< 32: as they are
    unsigned activation_bits = 4; ///< 32: as they are
    bool clip = false;            ///< activations by ACIQ (Laplace, the paper's formula), else all of the range
    bool allocate_activations =
        false; ///< a width per channel, activation_bits on average; 4 bits and fewer only, as the authors
    bool allocate_weights = false;
    bool correct_bias = false; ///< every output channel of a weight keeps its mean
    bool exempt = false;       ///< first convolution and classifier: weights of 8 bits whatever weight_bits says
    bool fuse_relu = true;     ///< where a ReLU alone reads an output, its range starts at 0
    /// Ranges of these samples, one at a time, statistics averaged; null: of the very batch that is evaluated, as the authors'
    /// headline commands do. Then the batch size is part of the setting (theirs was 512, in random order).
    const labelled_set* calibration = nullptr;
    std::size_t calibration_samples = 32;
};
fake_settings settings_of(method m, unsigned weight_bits, unsigned activation_bits, bool exempt);

/// The network with its weights rounded.
graph quantize_weights(const graph& net, const fake_settings& s);

/// A network in fake quantization: run it, or evaluate it.
class fake_quantized {
public:
    fake_quantized(const graph& net, const fake_settings& s);
    tensor operator()(const tensor& batch) const;

    const graph& rounded() const { return net_; }
    /// Mean width of the weights over their elements, and of the activations over their elements in one sample.
    double weight_bits() const { return weight_bits_; }

private:
    /// What happens to a layer's output.
    struct rounding_point {
        unsigned bits = 0; ///< 0: left as it is
        bool fused = false, classifier = false;
        double high = 0.0;                           ///< a fused Clip's upper end
        std::vector<quant::tensor_statistics> fixed; ///< of calibration; empty: of the batch
    };
    void calibrate(const graph& original);
    void round(const rounding_point& how, tensor& output) const;

    graph net_;
    fake_settings settings_;
    std::vector<rounding_point> points_; ///< by layer
    double weight_bits_ = 32.0;
};

accuracy evaluate(const graph& net, const fake_settings& s, const labelled_set& set,
                  const evaluation_options& options = {});

} // namespace engine
