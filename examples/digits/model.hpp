// SPDX-License-Identifier: MIT
#pragma once

// The network of this example and its training.

#include "dataset.hpp"

#include "../nn/network.hpp"
#include "../nn/training.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <vector>

namespace digits {

/// Three convolutions and a classifier, about 15 thousand parameters. The ReLUs are fused into the layers before them
/// when activations are quantized.
inline void build(nn::network& net, std::uint64_t seed) {
    nn::random r(seed);
    net.add<nn::conv2d>("conv1", 1u, 16u, nn::conv2d::options{}, r).add<nn::relu>();
    net.add<nn::conv2d>("conv2", 16u, 32u, nn::conv2d::options{}, r).add<nn::relu>();
    net.add<nn::max_pool>(2u);
    net.add<nn::conv2d>("conv3", 32u, 32u, nn::conv2d::options{}, r).add<nn::relu>();
    net.add<nn::max_pool>(2u);
    net.add<nn::linear>("linear", 32u * 2 * 2, classes, r);
}

inline std::size_t count_correct(std::span<const std::size_t> predicted, std::span<const std::uint8_t> labels) {
    std::size_t correct = 0;
    for (std::size_t i = 0; i < labels.size(); ++i) correct += predicted[i] == labels[i];
    return correct;
}

/// The image moved by (dx, dy), |dx|, |dy| < 8; pixels from outside are 0.
inline void shift(std::span<const float> from, std::span<float> to, int dx, int dy) {
    const int n = static_cast<int>(side);
    for (int y = 0; y < n; ++y)
        for (int x = 0; x < n; ++x) {
            const int sx = x - dx, sy = y - dy;
            const bool inside = sx >= 0 && sx < n && sy >= 0 && sy < n;
            to[static_cast<std::size_t>(y * n + x)] = inside ? from[static_cast<std::size_t>(sy * n + sx)] : 0.0f;
        }
}

struct training_options {
    std::size_t epochs = 40;
    std::uint64_t seed = 1;
    std::size_t batch = 32;
    float learning_rate = 3e-3f, weight_decay = 1e-2f;
};

/// Adam, learning rate falling as a half cosine to 0, images moved by up to one pixel. Same seed, same weights, on one
/// processor and compiler; sums of floats differ elsewhere in their last bits.
inline void train(nn::network& net, const dataset& data, const training_options& o,
                  const std::function<void(std::size_t epoch, double loss)>& progress = {}) {
    nn::random r(o.seed ^ 0x5EED);
    nn::adam optimizer(net.parameters(), {.weight_decay = o.weight_decay});
    for (std::size_t epoch = 0; epoch < o.epochs; ++epoch) {
        const std::vector<std::size_t> order = nn::permutation(data.size(), r);
        double loss = 0.0;
        for (std::size_t from = 0; from < order.size(); from += o.batch) {
            const std::size_t n = std::min(o.batch, order.size() - from);
            nn::tensor x({n, 1, side, side});
            std::vector<std::uint8_t> labels(n);
            for (std::size_t i = 0; i < n; ++i) {
                const int dx = static_cast<int>(r.below(3)) - 1, dy = static_cast<int>(r.below(3)) - 1;
                shift(data.images.sample(order[from + i]), x.sample(i), dx, dy);
                labels[i] = data.labels[order[from + i]];
            }
            const auto [batch_loss, grad] = nn::softmax_cross_entropy(net.forward(x), labels);
            net.backward(grad);
            const double done =
                static_cast<double>(epoch * order.size() + from) / static_cast<double>(o.epochs * order.size());
            optimizer.step(o.learning_rate * static_cast<float>(0.5 * (1.0 + std::cos(std::numbers::pi * done))));
            loss += batch_loss * static_cast<double>(n);
        }
        if (progress) progress(epoch, loss / static_cast<double>(order.size()));
    }
}

} // namespace digits
