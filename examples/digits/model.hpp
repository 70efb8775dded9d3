// SPDX-License-Identifier: MIT
#pragma once

// The network of this example and its training.

#include "dataset.hpp"

#include "../nn/network.hpp"
#include "../nn/training.hpp"

#include <quant/train/schedule.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
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

/// Images and labels of one step.
struct batch {
    nn::tensor images;
    std::vector<std::uint8_t> labels;
};

/// The images `chosen`[first, first + n), each moved by up to one pixel. The moves of all that are chosen are drawn, so that several
/// programs that share a batch draw alike.
inline batch moved(const dataset& data, std::span<const std::size_t> chosen, nn::random& r, std::size_t first,
                   std::size_t n) {
    batch out{nn::tensor({n, 1, side, side}), std::vector<std::uint8_t>(n)};
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        const int dx = static_cast<int>(r.below(3)) - 1, dy = static_cast<int>(r.below(3)) - 1;
        if (i < first || i - first >= n) continue;
        shift(data.images.sample(chosen[i]), out.images.sample(i - first), dx, dy);
        out.labels[i - first] = data.labels[chosen[i]];
    }
    return out;
}

/// The order of the images and their moves.
inline nn::random draws_of_training(std::uint64_t seed) { return nn::random(seed ^ 0x5EED); }

/// The learning rate when `done` of `total` is over: a half cosine from `highest` to 0.
inline float rate_at(float highest, std::size_t done, std::size_t total) {
    return highest *
           static_cast<float>(quant::cosine_rate{.start = 1}(static_cast<double>(done), static_cast<double>(total)));
}

/// f(batch, learning rate) for every batch of every epoch, and then after_epoch(epoch), which may be empty.
inline void for_each_batch(const dataset& data, const training_options& o,
                           const std::function<void(const batch&, float)>& f,
                           const std::function<void(std::size_t)>& after_epoch = {}) {
    nn::random r = draws_of_training(o.seed);
    for (std::size_t epoch = 0; epoch < o.epochs; ++epoch) {
        const std::vector<std::size_t> order = nn::permutation(data.size(), r);
        for (std::size_t from = 0; from < order.size(); from += o.batch) {
            const std::size_t n = std::min(o.batch, order.size() - from);
            f(moved(data, std::span(order).subspan(from, n), r, 0, n),
              rate_at(o.learning_rate, epoch * order.size() + from, o.epochs * order.size()));
        }
        if (after_epoch) after_epoch(epoch);
    }
}

/// With Adam. Same seed, same weights, on one processor and compiler; sums of floats differ elsewhere in their last bits.
inline void train(nn::network& net, const dataset& data, const training_options& o,
                  const std::function<void(std::size_t epoch, double loss)>& progress = {}) {
    nn::adam optimizer(net.parameters(), {.weight_decay = o.weight_decay});
    double sum = 0.0;
    for_each_batch(
        data, o,
        [&](const batch& b, float rate) {
            const auto [loss, grad] = nn::softmax_cross_entropy(net.forward(b.images), b.labels);
            net.backward(grad);
            optimizer.step(rate);
            sum += loss * static_cast<double>(b.labels.size());
        },
        [&](std::size_t epoch) {
            if (progress) progress(epoch, sum / static_cast<double>(data.size()));
            sum = 0.0;
        });
}

} // namespace digits
