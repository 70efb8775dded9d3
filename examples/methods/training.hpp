// SPDX-License-Identifier: MIT
#pragma once

// The training that all methods share: the digits network from its float weights, a method between the trained weights and those the
// network runs with.

#include "../digits/model.hpp"
#include "../nn/network.hpp"
#include "../nn/training.hpp"
#include "../quant/require.hpp"

#include <quant/rmsmp.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace methods {

using quant_tool::require;

struct task {
    digits::dataset training, unseen;
    nn::tensor_map start;                                              ///< trained in float
    digits::training_options how{.epochs = 8, .learning_rate = 1e-3f}; ///< but for the optimizer, which is the method's
};

/// What a method came to: weights as they run, and how many bits they take.
struct outcome {
    double bits = 32;    ///< per weight, on average
    double accuracy = 0; ///< percent of the unseen images
    std::string remark;
};

/// The weights of one layer as rows, one for each output channel.
struct layer_shape {
    std::string name;
    std::size_t rows = 0, cols = 0;
    std::size_t size() const { return rows * cols; }
};

class model {
public:
    explicit model(const nn::tensor_map& start) {
        digits::build(net, 1);
        net.set_weights(start);
        for (nn::parameter* p : net.parameters()) {
            all.push_back(p);
            if (p->value.shape.size() < 2) continue;
            weights.push_back(p);
            shapes.push_back(
                {p->name.substr(0, p->name.find('.')), p->value.shape[0], p->value.size() / p->value.shape[0]});
        }
    }
    nn::network net;
    std::vector<nn::parameter*> all, weights; ///< weights: of rank 2 and more
    std::vector<layer_shape> shapes;

    double accuracy(const digits::dataset& d) {
        const auto correct = digits::count_correct(nn::classes_of(nn::run(net, d.images)), d.labels);
        return 100.0 * static_cast<double>(correct) / static_cast<double>(d.size());
    }
    double loss(const digits::dataset& d) { return nn::softmax_cross_entropy(nn::run(net, d.images), d.labels).loss; }
    /// A mean over the weights of one number per layer.
    double mean(const std::function<double(std::size_t)>& of_layer) const {
        double sum = 0, count = 0;
        for (std::size_t l = 0; l < shapes.size(); ++l) {
            sum += of_layer(l) * static_cast<double>(shapes[l].size());
            count += static_cast<double>(shapes[l].size());
        }
        return sum / count;
    }
};

template <class T> quant::tensor_view<T, 2> rows_of(const layer_shape& s, std::span<T> v) {
    return {v.data(), {s.rows, s.cols}};
}

/// Between the trained weights and those the network runs with. The defaults pass gradients straight.
class method {
public:
    method() = default;
    method(const method&) = delete;
    method& operator=(const method&) = delete;
    virtual ~method() = default;
    virtual void begin_step() {}
    virtual void quantize(std::size_t layer, std::span<const float> latent, std::span<float> runs) = 0;
    /// grad: by the weights that ran on entry, by the trained ones on return.
    virtual void backward(std::size_t, std::span<const float>, std::span<float>) {}
    /// Parameters of the method's own, and how many times the rate of the weights they learn at.
    virtual std::vector<std::pair<nn::parameter*, float>> parameters() { return {}; }
    virtual void after_step() {}
    virtual void after_epoch(model&, std::size_t) {}
    /// The weights that stay.
    virtual void settle(std::size_t layer, std::span<const float> latent, std::span<float> runs) {
        quantize(layer, latent, runs);
    }
    virtual double bits(std::size_t layer) const = 0;
    virtual std::string remark(const model&) const { return {}; }
};

inline outcome train(const task& t, method& m) {
    model net(t.start);
    nn::adam weights(net.all, {.weight_decay = 1e-3f});
    std::vector<std::pair<nn::adam, float>> own;
    for (const auto& [parameter, factor] : m.parameters()) own.emplace_back(nn::adam({parameter}, {}), factor);
    std::vector<std::vector<float>> latent(net.weights.size());
    const auto enter = [&](bool last) {
        for (std::size_t l = 0; l < latent.size(); ++l) {
            latent[l] = net.weights[l]->value.data;
            last ? m.settle(l, latent[l], net.weights[l]->value.data)
                 : m.quantize(l, latent[l], net.weights[l]->value.data);
        }
    };
    const auto leave = [&] {
        for (std::size_t l = 0; l < latent.size(); ++l) net.weights[l]->value.data.swap(latent[l]);
    };
    digits::for_each_batch(
        t.training, t.how,
        [&](const digits::batch& b, float rate) {
            m.begin_step();
            enter(false);
            net.net.backward(nn::softmax_cross_entropy(net.net.forward(b.images), b.labels).grad);
            leave();
            for (std::size_t l = 0; l < latent.size(); ++l)
                m.backward(l, net.weights[l]->value.data, net.weights[l]->grad.data);
            weights.step(rate);
            for (auto& [optimizer, factor] : own) optimizer.step(rate * factor);
            m.after_step();
        },
        [&](std::size_t epoch) { m.after_epoch(net, epoch); });
    enter(true);
    return {net.mean([&](std::size_t l) { return m.bits(l); }), net.accuracy(t.unseen), m.remark(net)};
}

/// Even steps per output channel, the scale from the largest weight: the plain quantization that every method is compared with.
class uniform : public method {
public:
    explicit uniform(const model& net, std::vector<int> widths) : shapes_(net.shapes), bits_(std::move(widths)) {
        bits_.resize(shapes_.size(), bits_.empty() ? 32 : bits_.back());
    }
    void quantize(std::size_t l, std::span<const float> latent, std::span<float> runs) override {
        round(shapes_[l], bits_[l], latent, runs);
    }
    double bits(std::size_t l) const override { return bits_[l]; }

    static void round(const layer_shape& s, int bits, std::span<const float> latent, std::span<float> runs) {
        if (bits > 8) {
            std::copy(latent.begin(), latent.end(), runs.begin());
            return;
        }
        std::vector<float> scales(s.rows);
        const std::vector<quant::rmsmp::row_scheme> scheme(
            s.rows, {quant::rmsmp::row_kind::fixed, static_cast<std::uint8_t>(bits)});
        require(quant::rmsmp::largest_of_rows(rows_of(s, latent), std::span(scales)), s.name);
        require(quant::rmsmp::project(rows_of(s, latent), rows_of(s, runs), scheme, scales), s.name);
    }

private:
    std::vector<layer_shape> shapes_;
    std::vector<int> bits_;
};

/// The float weights rounded, without training.
inline outcome round_only(const task& t, int bits) {
    model net(t.start);
    for (std::size_t l = 0; l < net.shapes.size(); ++l) {
        const std::vector<float> w = net.weights[l]->value.data;
        uniform::round(net.shapes[l], bits, w, net.weights[l]->value.data);
    }
    return {static_cast<double>(bits), net.accuracy(t.unseen), {}};
}

} // namespace methods
