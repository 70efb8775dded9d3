// SPDX-License-Identifier: MIT
#pragma once

// A chain of layers with the two hooks that quantization needs: the weights by name, and every output of a layer with
// weights, before the activation function that follows it.

#include "layers.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
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

    tensor forward(tensor x, const output_hook& hook = {}) {
        for (const auto& l : layers_) {
            x = l->forward(x);
            if (hook && !l->parameters().empty()) hook(l->parameters().front().name, x);
        }
        return x;
    }

    void backward(tensor grad) {
        for (auto l = layers_.rbegin(); l != layers_.rend(); ++l) grad = (*l)->backward(grad);
    }

    /// Layer by layer, for losses that stand on the way.
    std::size_t size() const { return layers_.size(); }
    layer& at(std::size_t i) { return *layers_.at(i); }

    /// All parameters, first layer first.
    std::vector<parameter*> parameters() {
        std::vector<parameter*> all;
        for (const auto& l : layers_)
            for (parameter& p : l->parameters()) all.push_back(&p);
        return all;
    }

    tensor_map weights() {
        tensor_map all;
        for (const parameter* p : parameters()) all.emplace(p->name, p->value);
        return all;
    }

    /// Every parameter must be there with its own shape; other entries are ignored.
    void set_weights(const tensor_map& values) {
        for (parameter* p : parameters()) {
            const auto found = values.find(p->name);
            if (found == values.end()) throw std::runtime_error("the weights have no tensor '" + p->name + "'");
            if (found->second.shape != p->value.shape)
                throw std::runtime_error("the weights' tensor '" + p->name + "' has another shape than the network's");
            p->value = found->second;
        }
    }

private:
    std::vector<std::unique_ptr<layer>> layers_;
};

/// The outputs for all samples. Batches bound the memory and change nothing else.
inline tensor run(network& net, const tensor& x, const output_hook& hook = {}, std::size_t batch = 64) {
    tensor all;
    for (std::size_t from = 0; from < x.samples(); from += batch) {
        const tensor y = net.forward(samples(x, from, std::min(batch, x.samples() - from)), hook);
        all.data.insert(all.data.end(), y.data.begin(), y.data.end());
        all.shape = y.shape;
    }
    if (!all.shape.empty()) all.shape[0] = x.samples();
    return all;
}

/// The class with the largest output, for each sample.
inline std::vector<std::size_t> classes_of(const tensor& outputs) {
    std::vector<std::size_t> classes;
    for (std::size_t n = 0; n < outputs.samples(); ++n) {
        const auto row = outputs.sample(n);
        classes.push_back(static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    }
    return classes;
}

} // namespace nn
