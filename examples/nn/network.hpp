// SPDX-License-Identifier: MIT
#pragma once

// A chain of layers with the two hooks that quantization needs: the weights by name, and every output of a layer with
// weights, before the activation function that follows it.

#include "layers.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace nn {

/// Sees the output of each layer with weights, before the ReLU, and may change it in place. `weight` is the parameter's
/// name, such as "conv1.weight".
using output_hook = std::function<void(const std::string& weight, tensor& output)>;

class network {
public:
    template <class Layer, class... Arguments> network& add(Arguments&&... arguments) {
        layers_.push_back(std::make_unique<Layer>(std::forward<Arguments>(arguments)...));
        return *this;
    }

    tensor forward(tensor x, const output_hook& hook = {});

    void backward(tensor grad);

    /// Layer by layer, for losses that stand on the way.
    std::size_t size() const { return layers_.size(); }
    layer& at(std::size_t i) { return *layers_.at(i); }

    /// All parameters, first layer first.
    std::vector<parameter*> parameters();

    tensor_map weights();

    /// Every parameter must be there with its own shape; other entries are ignored.
    void set_weights(const tensor_map& values);

private:
    std::vector<std::unique_ptr<layer>> layers_;
};

/// The outputs for all samples. Batches bound the memory and change nothing else.
tensor run(network& net, const tensor& x, const output_hook& hook = {}, std::size_t batch = 64);

/// The class with the largest output, for each sample.
std::vector<std::size_t> classes_of(const tensor& outputs);

} // namespace nn
