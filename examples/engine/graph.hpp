// SPDX-License-Identifier: MIT
#pragma once

// A small inference engine for the user of the library who has an ONNX network: read once into a list of layers, run in float,
// with a hook after every layer where observers look and fake quantization writes.
//
//   const engine::graph net = engine::load(quant_onnx::read("model.onnx"));
//   const engine::tensor logits = engine::run(net, images.batch(0, 32));

#include "../nn/tensor.hpp"

#include <quant/core/params.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quant_onnx {
struct model;
}

namespace engine {

using nn::tensor; // shape and float data, [N, C, H, W] or [N, C], row-major

enum class operation : std::uint8_t {
    conv, ///< weight [O, I / groups, kernel], bias [O]
    gemm, ///< weight [O, I] whatever the file's transB, bias [O]; also a fully connected layer as MatMul
    relu,
    clip,
    max_pool,
    average_pool,
    global_average_pool,
    concat,
    add,
    flatten, ///< also a Reshape to [N, -1]
    identity,
    slice,
    pad,
    softmax,   ///< over the classes of [N, C]
    quantize,  ///< float to codes; the engine keeps codes as whole numbers in float tensors
    dequantize ///< codes to float
};
std::string_view name_of(operation kind);
/// Whether an output is made of elements of the input (and zeros), so that it has the input's scale.
bool moves_values(operation kind);

/// One dimension of a Slice or of a Pad.
struct cut {
    std::size_t axis = 0;
    std::int64_t start = 0, end = 0, step = 1; ///< as in the file: negative counts from the end
};

struct layer {
    std::string name; ///< the node's, or its output's where the node has none
    operation kind = operation::identity;
    std::vector<std::size_t> inputs; ///< values
    std::size_t output = 0;          ///< value
    std::string output_name;

    tensor weight; ///< conv and gemm
    std::vector<float> bias;
    std::string weight_name, bias_name; ///< the initializers they came from; empty where there is none

    std::size_t groups = 1;                     ///< conv
    std::array<std::size_t, 2> kernel{1, 1};    ///< conv and pools: rows, columns
    std::array<std::size_t, 2> strides{1, 1};   ///< conv and pools
    std::array<std::size_t, 2> dilations{1, 1}; ///< conv and max_pool
    std::array<std::size_t, 4> pads{};          ///< conv and pools: top, left, bottom, right
    bool ceil_mode = false, count_padding = false;
    float low = -std::numeric_limits<float>::infinity(); ///< clip
    float high = std::numeric_limits<float>::infinity();
    std::size_t axis = 1;              ///< concat, flatten, quantize, dequantize
    std::vector<cut> cuts;             ///< slice
    std::vector<std::size_t> pad_with; ///< pad: zeros before each dimension, then after each; value below
    float pad_value = 0.0f;
    std::vector<quant::affine_params> params; ///< quantize, dequantize: one, or one per index of `axis`

    bool has_weight() const { return kind == operation::conv || kind == operation::gemm; }
};

struct graph {
    std::vector<layer> layers; ///< each one after those it reads from
    std::size_t input = 0, output = 0, values = 0;
    std::vector<std::vector<std::size_t>> shapes; ///< of every value, for one sample
    std::vector<std::size_t> readers;             ///< of every value: how many layers read it

    /// The only layer that reads a value, or null.
    const layer* only_reader(std::size_t value) const;
};

/// Unsupported operators, attributes and types are errors that name the node; so are shapes that disagree. Weights behind a
/// DequantizeLinear come out as the floats they stand for.
graph load(const quant_onnx::model& m);

/// Sees every layer's output and may change it in place.
using hook = std::function<void(const layer&, tensor& output)>;

/// The network's output for a batch [N, ...]. Values are freed after their last use. Every sample's result is the same in any batch,
/// except behind a fully connected layer, where the last bits may depend on the batch's size.
tensor run(const graph& g, const tensor& batch, const hook& after = {});

/// One layer alone.
tensor run_layer(const layer& l, std::span<const tensor* const> inputs);

/// The inputs of every window of an image's channels [channels, rows, columns], zeros beyond its borders: for each channel and place of
/// the kernel, one value per position of the output [out_rows, out_columns], `stride` apart from the next place's.
void unfold(const layer& l, std::span<const float> x, std::array<std::size_t, 3> in, std::array<std::size_t, 2> out,
            float* columns, std::size_t stride);

/// The extents of a layer's output. Throws where the inputs do not fit the layer.
std::vector<std::size_t> output_shape(const layer& l, std::span<const std::vector<std::size_t>> inputs);

} // namespace engine
