// SPDX-License-Identifier: MIT
// Networks that were equalized and fitted: the same function, and nearer to it with the same codes' widths.

#include "../fitting.hpp"
#include "networks.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace {

using engine::graph;
using engine::layer;
using engine::operation;
using engine_test::convolution;
using engine_test::make_graph;
using engine_test::random_values;
using engine_test::reads;

double relative_error(const engine::tensor& a, const engine::tensor& b) {
    double error = 0.0, signal = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += std::pow(static_cast<double>(a.data[i]) - static_cast<double>(b.data[i]), 2);
        signal += std::pow(static_cast<double>(a.data[i]), 2);
    }
    return std::sqrt(error / signal);
}

/// conv, Clip, depthwise, ReLU, 1 x 1 with a residual connection around it, ReLU, pool and a classifier; channels of the first
/// layers are of very different size.
graph uneven_network() {
    layer first = convolution(8, 3, {3, 3}), limit = reads(operation::clip, {1}), second = convolution(8, 1, {3, 3}, 8);
    first.pads = second.pads = {1, 1, 1, 1};
    limit.low = 0.0f;
    limit.high = 6.0f;
    second.inputs = {2};
    for (std::size_t c = 0; c < 8; ++c) {
        const float size = std::ldexp(1.0f, -static_cast<int>(c));
        for (float& w : first.weight.sample(c)) w *= size;
        first.bias[c] *= size;
    }
    layer third = convolution(8, 8, {1, 1}), pool = reads(operation::global_average_pool, {7});
    third.inputs = {4};
    layer last = reads(operation::gemm, {9});
    last.weight = engine::tensor({5, 8});
    last.weight.data = random_values(40, -1.0, 1.0);
    last.bias = random_values(5, -1.0, 1.0);
    return make_graph({first, limit, second, reads(operation::relu, {3}), third, reads(operation::add, {4, 5}),
                       reads(operation::relu, {6}), pool, reads(operation::flatten, {8}), last},
                      {1, 3, 8, 8});
}

evaluation::labelled_set noise(std::size_t n) {
    evaluation::labelled_set set;
    set.size = n;
    set.sample_shape = {3, 8, 8};
    set.labels.assign(n, 0);
    set.read = [](std::size_t sample, std::span<float> to) {
        std::mt19937 generator(static_cast<unsigned>(sample));
        std::normal_distribution<float> normal;
        float last = 0.0f; // neighbours have something in common
        for (float& x : to) x = last = 0.7f * last + normal(generator);
    };
    return set;
}

} // namespace

TEST_CASE("an equalized network is the same function with equal channels") {
    const graph net = uneven_network();
    const evaluation::labelled_set set = noise(40);
    const auto before = engine::observe(net, set, 40);
    const graph equal = engine::equalized(net, before, 1.0);
    const engine::tensor x = set.batch(0, 40);
    CHECK(relative_error(engine::run(net, x), engine::run(equal, x)) < 1e-5);
    const auto after = engine::observe(equal, set, 40);
    CHECK(std::abs(after.values[2].max - before.values[2].max) < 1e-5);
    for (std::size_t c = 0; c < 8; ++c) {
        CHECK(after.channels[2][c].hi > 0.999 * after.values[2].max); // behind the Clip
        CHECK(after.channels[2][c].hi < 6.0001);
    }
    CHECK(before.channels[2][7].hi < 0.1 * before.values[2].max);
    // Half of the way; the inputs and outputs of the network keep their scales.
    const auto half = engine::observe(engine::equalized(net, before, 0.5), set, 40);
    CHECK(half.channels[2][7].hi > 0.999 * before.values[2].max); // depthwise behind: all the way
    CHECK(std::abs(half.values[net.output].max - before.values[net.output].max) < 1e-4);
}

TEST_CASE("fitted networks are nearer to the float one") {
    const graph net = uneven_network();
    const evaluation::labelled_set set = noise(300);
    const engine::tensor x = set.batch(200, 100), real = engine::run(net, x); // not those of the calibration
    const engine::observations seen = engine::observe(net, set, 200);
    for (const unsigned bits : {4U, 8U}) {
        const engine::integer_settings settings{.weight_bits = bits, .activation_bits = bits};
        const engine::integer_network plain(net, engine::choose_parameters(net, seen, settings));
        const engine::fitted_network best = engine::fitted(net, seen, set, 200, settings);
        const engine::integer_network better(best.net, best.parameters);
        CHECK(relative_error(real, better(x)) < 0.8 * relative_error(real, plain(x)));
        CHECK(better.weight_bytes() == plain.weight_bytes());
        // The network that comes with the codes is the one they stand for.
        CHECK(relative_error(engine::run(best.net, x), better(x)) < (bits == 4 ? 0.5 : 0.05));
    }
}
