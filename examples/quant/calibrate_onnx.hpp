// SPDX-License-Identifier: MIT
#pragma once
// Calibration of a network: what its values look like on given samples.

#include "../onnx/qdq.hpp"
#include "commands.hpp"

namespace quant_tool {

struct calibration {
    std::map<std::string, quant::affine_params> activations; ///< the values to be quantized: name -> parameters
    quant_onnx::value_means means;                           ///< of all values with channels
    std::size_t samples = 0;
};

/// Runs the model on options.calibrate. Ranges are chosen by options.activation_clip; the input of the network always has 8 bits
/// and, beside values of fewer, keeps its whole range. Quantized are the input and what every layer makes, but for the model's output, for what only a Relu
/// or Clip reads (the layer and it are one) and for layers that only move values.
[[nodiscard]] calibration calibrate(const quant_onnx::model& model, const quantize_command& options);

} // namespace quant_tool
