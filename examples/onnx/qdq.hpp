// SPDX-License-Identifier: MIT
#pragma once
// QuantizeLinear and DequantizeLinear: a float model with some of its weights as integer codes, and with activations that pass
// through integers. What the format cannot say is reported to the caller, who tells the user.

#include "model.hpp"

#include <quant/core/granularity.hpp>
#include <quant/core/params.hpp>

namespace quant_onnx {

/// An initializer that Conv, ConvTranspose, Gemm or MatMul multiply their input with.
struct weight {
    std::string name;
    int output_axis = 0; ///< the output channels: one scale for each
    int input_axis = 1;  ///< what is summed over: groups of it share a scale in blocked quantization
};
/// The real, non-empty weights of a model, in the order of the initializers.
[[nodiscard]] std::vector<weight> weights_of(const model& model);

/// What quantizing one weight gave, beside its codes; one entry per slice, in the library's order (= ONNX's).
struct weight_result {
    std::vector<quant::affine_params> params; ///< a gain of the bias correction is part of the scale
    std::vector<float> shifts; ///< the rest of the bias correction: real = dequantized + shift; may be empty
};

/// Quantizes `weight` into `packed`: its codes as ONNX stores them, pairs of 4 bits or bytes.
using weight_quantizer = std::function<weight_result(const tensor& weight, std::span<std::byte> packed)>;

/// How a weight is to stand in the model.
struct weight_format {
    element_type codes = element_type::int8; ///< int8, uint8, int4, uint4
    quant::granularity slices{};             ///< its axis counts from the front
};

/// Mean of a value over many samples, one per index of its dimension 1 (channels, features).
using value_means = std::map<std::string, std::vector<double>, std::less<>>;

/// Replaces a weight by its codes and a DequantizeLinear node whose output has the weight's name. The quantizer runs when the
/// model is written (or the new tensors are read), once if that happens in their order.
/// means   if the quantizer gives shifts: y = (W' + shift) x = W' x + shift * sum(x), of which the second part joins the bias of Conv
///         and Gemm with sum(x) at its mean (approximate at padded borders); null: shifts are left out
/// Returns the nodes whose bias could not take the shift: no mean known, not Conv or Gemm, a bias that is no initializer.
std::vector<std::string> replace_weight(model& model, const weight& weight, const weight_format& format,
                                        weight_quantizer quantizer, const value_means* means = nullptr);

/// Quantizes values where they are used: name of the value -> its parameters, at most 16 bits. Every node of the main graph that reads
/// the value reads it through QuantizeLinear and DequantizeLinear; outputs of the graph and subgraphs keep the float value. Codes
/// of fewer than 8 bits stand in 8 behind a Clip to their range: ONNX's 4-bit types would do, but not in ONNX Runtime, whose
/// optimizer makes integer convolutions of them that it then does not have. Throws error when the model has no such value.
void quantize_activations(model& model, const std::map<std::string, quant::affine_params>& values);

/// The largest magnitude in each output channel of a weight, before it was quantized, by the weight's name.
using channel_magnitudes = std::map<std::string, std::vector<float>, std::less<>>;

/// Writes the biases of Conv and Gemm whose input and weight are quantized as int32 with the scale (input's * weight's), so that an
/// integer kernel adds them as they are. Call it after the weights and activations are quantized. Returns the nodes whose bias
/// stays float: it could be beyond int32, as beside weights that are nearly zero.
std::vector<std::string> quantize_biases(model& model, const channel_magnitudes& magnitudes);

/// Makes the model one of at least this version of ONNX's operators (13: scales per channel; 21: 4 bits and blocks). Throws error
/// naming the first node whose operator is not on the list of those whose meaning did not change between the two versions.
void require_opset(model& model, std::int64_t version);

/// One operator whose meaning is the same from `since` to opset 21.
struct stable_operator {
    std::string_view type;
    std::int64_t since;
};
[[nodiscard]] std::span<const stable_operator> stable_operators() noexcept;

} // namespace quant_onnx
