// SPDX-License-Identifier: MIT
#pragma once

// The setting of the ACIQ paper's experiments, replicated (Banner, Nahshan, Soudry 2019, arXiv 1810.05723): weights and the
// outputs of convolutions and fully connected layers are rounded to the values that codes can represent, everything is computed
// in float, and sums behind residual connections are not rounded again. It measures the quantizer, not an integer engine, which
// is the harder setting.
//
//   engine::fake_settings s = engine::settings_of(engine::method::all, 4, 4);
//   const engine::fake_quantized q(net, s);
//   const evaluation::accuracy a = evaluation::evaluate(q, images, {.batch = 100, .shuffled = true});
//
// What is rounded, and to how many bits:
//   weights       per output channel, affine, the whole range kept; biases stay float
//   activations   every output of a convolution or fully connected layer before its ReLU, per channel (the whole tensor where there
//                 is one value per channel), from 0 up where a ReLU follows alone, affine elsewhere
//   8 bits        the classifier's output and that of pooling, but not of pooling over the whole image; range kept
//   not at all    the input, sums, what comes out of a ReLU
// One thing differs from the authors' code: a range without 0 is widened to hold it.

#include "graph.hpp"

#include "../evaluation/dataset.hpp"

#include <quant/calibrate/statistics_summary.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace engine {

/// The rows of the paper's table: nothing beside the ranges, single steps, pairs, and all of them.
enum class method : std::uint8_t {
    min_max,
    aciq,
    bit_allocation,
    bias_correction,
    aciq_and_allocation,
    correction_and_allocation,
    all
};
inline constexpr std::array methods{method::min_max,
                                    method::aciq,
                                    method::bit_allocation,
                                    method::bias_correction,
                                    method::aciq_and_allocation,
                                    method::correction_and_allocation,
                                    method::all};
std::string_view name_of(method m);

struct fake_settings {
    unsigned weight_bits = 4, activation_bits = 4; ///< 1 to 8; 32: float
    bool clip_activations = false;                 ///< ACIQ: Laplace, the paper's formula; else the whole range
    bool allocate_activations = false,
         allocate_weights = false; ///< a width per channel by the authors' rule, up to 4 bits only
    bool correct_bias = false;     ///< every output channel of a weight keeps its mean
    bool exempt = false;           ///< the first convolution's and the classifier's weights have 8 bits
    bool fuse_relu = true;         ///< false: every range is signed, whether a ReLU follows or not
    /// Ranges from these samples, one at a time, their statistics averaged. Null: from the very batch that is evaluated, as in the
    /// authors' headline figures; then the batch's size and order are part of the setting (theirs: 512, random).
    const evaluation::labelled_set* calibration = nullptr;
    std::size_t calibration_samples = 32;
};
fake_settings settings_of(method m, unsigned weight_bits, unsigned activation_bits);

/// A network in this setting.
class fake_quantized {
public:
    fake_quantized(const graph& net, const fake_settings& settings);

    /// Thread-safe.
    tensor operator()(const tensor& batch) const;

    /// The network with its weights rounded.
    const graph& rounded() const { return net_; }
    /// Mean width over all weights; 32 where they are float.
    double weight_bits() const { return weight_bits_; }

private:
    struct rounding_point {
        unsigned bits = 0; ///< 0: the layer's output stays as it is
        bool fused = false, studied = false;
        double high = std::numeric_limits<double>::infinity(); ///< of a Clip behind it
        std::vector<quant::tensor_statistics> fixed;           ///< from calibration
    };
    void find_points();
    void round_weights();
    void calibrate(const graph& original);
    std::vector<quant::tensor_statistics> measure(const rounding_point& how, const tensor& output) const;
    void round(const rounding_point& how, const layer& l, tensor& output) const;

    graph net_;
    fake_settings settings_;
    std::vector<rounding_point> points_; ///< by output value
    double weight_bits_ = 32.0;
};

} // namespace engine
