// SPDX-License-Identifier: MIT
#pragma once
// Batch normalisation as it is at inference, a scale and a shift per channel, joins the convolution or fully connected layer before
// it: quantization then sees the weights that are in effect.

#include "model.hpp"

namespace quant_onnx {

/// Folds every BatchNormalization whose input is a Conv, ConvTranspose or Gemm that nothing else reads, and whose parameters are
/// initializers of float32:
///   W' = W * scale / sqrt(var + epsilon),   b' = (b - mean) * scale / sqrt(var + epsilon) + B,   per output channel
/// computed in double, rounded once. The node keeps its name and makes what BatchNormalization made. Returns how many were folded.
/// kept   if not null: what could not be folded, one description each
std::size_t fold_batch_normalization(model& model, std::vector<std::string>* kept = nullptr);

} // namespace quant_onnx
