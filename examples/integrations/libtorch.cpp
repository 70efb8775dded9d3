// SPDX-License-Identifier: MIT
// Bits of a LibTorch network found in training: quant's forward and backward are one node of autograd, torch's own optimizer moves the
// logits. docs/bit_level.md shows the node and the loop.

#include "digits.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <quant/csq.hpp>
#include <span>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/optim/sgd.h>
#include <torch/types.h>
#include <vector>

namespace {

using namespace integrations;
namespace csq = quant::csq;

std::span<float> values_of(const torch::Tensor& t) {
    return {t.data_ptr<float>(), static_cast<std::size_t>(t.numel())};
}

/// The rows of one step.
torch::Tensor chosen(std::size_t step) {
    const std::vector<std::size_t> rows = batch(step);
    return torch::tensor(std::vector<std::int64_t>(rows.begin(), rows.end()));
}

/// One layer: what is trained (logits of positive and negative bits, masks, scale), and where quant writes the gradients.
struct csq_layer : torch::CustomClassHolder {
    csq_layer(std::size_t number, std::int64_t outputs, std::int64_t inputs) : index(number), shape{outputs, inputs} {
        const auto all = static_cast<std::int64_t>(planes);
        const std::vector<std::int64_t> shapes[] = {{all, outputs, inputs}, {all, outputs, inputs}, {all}, {1}};
        for (std::size_t k = 0; k < csq::groups_per_layer; ++k) {
            values[k] = torch::zeros(shapes[k], torch::requires_grad());
            gradients[k] = torch::zeros(shapes[k]);
        }
    }
    using group = std::array<torch::Tensor, csq::groups_per_layer>;
    static csq::layer<float> view(const group& g) {
        return {values_of(g[0]), values_of(g[1]), values_of(g[2]), values_of(g[3]), planes};
    }
    std::size_t index;
    std::vector<std::int64_t> shape;
    group values, gradients;
    csq::training<float>* run = nullptr;
};

// Shown in docs/bit_level.md.
struct csq_weights : torch::autograd::Function<csq_weights> {
    static torch::Tensor forward(torch::autograd::AutogradContext* node, torch::Tensor, torch::Tensor, torch::Tensor,
                                 torch::Tensor, c10::intrusive_ptr<csq_layer> layer) {
        auto weights = torch::empty(layer->shape);
        require(layer->run->forward(layer->index, values_of(weights)));
        node->saved_data["layer"] = torch::IValue::make_capsule(layer);
        return weights;
    }
    static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* node,
                                                 torch::autograd::tensor_list grad) {
        const auto layer = c10::static_intrusive_pointer_cast<csq_layer>(node->saved_data["layer"].toCapsule());
        require(layer->run->backward(layer->index, values_of(grad[0].contiguous())));
        const auto& g = layer->gradients;
        return {g[0], g[1], g[2], g[3], torch::Tensor()};
    }
};

struct dense_network {
    std::vector<c10::intrusive_ptr<csq_layer>> layers;
    std::vector<torch::Tensor> w, bias; ///< w: made anew in every step
    torch::Tensor operator()(torch::Tensor x) const {
        for (std::size_t l = 0; l < w.size(); ++l) {
            x = torch::linear(x, w[l], bias[l]);
            if (l + 1 < w.size()) x = torch::relu(x);
        }
        return x;
    }
};

// Shown in docs/bit_level.md.
void train(dense_network& network, const torch::Tensor& x, const torch::Tensor& labels, csq::training<float>& t,
           std::size_t steps, std::vector<torch::optim::SGD>& optimizers) {
    for (auto& layer : network.layers) {
        layer->run = &t;
        require(t.start(layer->index, values_of(network.w[layer->index])));
    }
    for (std::size_t step = 0; step < steps; ++step) {
        require(t.begin_step(step, steps));
        for (auto& layer : network.layers) {
            const auto& p = layer->values;
            network.w[layer->index] = csq_weights::apply(p[0], p[1], p[2], p[3], layer);
        }
        const torch::Tensor rows = chosen(step);
        const auto loss = torch::cross_entropy_loss(network(x.index({rows})), labels.index({rows}));
        for (auto& optimizer : optimizers) optimizer.zero_grad();
        loss.backward();
        t.update([&](const auto& group) { // one optimizer for each group, as their rates differ
            auto& options = optimizers[group.index].param_groups()[0].options();
            static_cast<torch::optim::SGDOptions&>(options).lr(group.rate).weight_decay(group.decay);
            optimizers[group.index].step();
        });
        optimizers.back().step(); // the biases
    }
    require(t.begin_step(steps, steps)); // counts the planes that are left
}

outcome run(double target, std::size_t steps) {
    torch::manual_seed(1);
    digits::dataset all = load();
    const auto count = static_cast<std::int64_t>(all.size()), pixels = static_cast<std::int64_t>(digits::pixels);
    const auto seen = static_cast<std::int64_t>(digits::training_images);
    const torch::Tensor x = torch::from_blob(all.images.data.data(), {count, pixels});
    const torch::Tensor labels = torch::from_blob(all.labels.data(), {count}, torch::kUInt8).to(torch::kLong);

    dense_network network;
    std::vector<csq::layer<float>> layers, grads;
    std::vector<torch::optim::SGD> optimizers;
    for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
        const auto inputs = static_cast<std::int64_t>(widths[l]), outputs = static_cast<std::int64_t>(widths[l + 1]);
        const auto layer = c10::make_intrusive<csq_layer>(l, outputs, inputs);
        layers.push_back(csq_layer::view(layer->values));
        grads.push_back(csq_layer::view(layer->gradients));
        for (const torch::Tensor& group : layer->values)
            optimizers.emplace_back(std::vector{group}, torch::optim::SGDOptions(0).momentum(0.9));
        network.layers.push_back(layer);
        network.w.push_back((torch::rand({outputs, inputs}) * 2 - 1) * std::sqrt(6.0 / static_cast<double>(inputs)));
        network.bias.push_back(torch::zeros({outputs}, torch::requires_grad()));
    }
    optimizers.emplace_back(network.bias, torch::optim::SGDOptions(0.02).momentum(0.9));
    std::vector<quant::layer_bits> bits(layers.size());
    std::vector<double> full_scales(layers.size());
    csq::training<float> t{layers, grads, bits, full_scales, {.budget = {.target_bits = target, .strength = 3}}};
    train(network, x, labels, t, steps, optimizers);

    outcome o;
    o.planes = *t.average_bits();
    const torch::NoGradGuard no_gradients;
    for (std::size_t l = 0; l < layers.size(); ++l) {
        torch::Tensor& w = network.w[l];
        std::vector<std::int16_t> codes(static_cast<std::size_t>(w.numel()));
        const auto done = csq::harden(layers[l], codes);
        require(done.status());
        w = torch::empty(network.layers[l]->shape);
        require(csq::forward(layers[l], values_of(w), csq::gate_options{.mode = csq::gate_mode::hard}));
        const auto integers = torch::from_blob(codes.data(), w.sizes(), torch::kInt16).to(torch::kFloat);
        o.exact = o.exact && torch::equal(w, integers * static_cast<float>(done->scale));
    }
    const torch::Tensor answers = network(x.slice(0, seen)).argmax(1);
    o.accuracy = 100 * (answers == labels.slice(0, seen)).to(torch::kFloat).mean().item<double>();
    return o;
}

} // namespace

int main() { return report(run); }
