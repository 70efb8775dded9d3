// SPDX-License-Identifier: MIT
#pragma once

// Small networks for tests.

#include "../graph.hpp"

#include <array>
#include <cstddef>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace engine_test {

using engine::layer;
using engine::operation;

inline std::mt19937 generator(7);
inline double uniform(double lo, double hi) { return std::uniform_real_distribution<double>(lo, hi)(generator); }
inline std::vector<float> random_values(std::size_t n, double lo, double hi) {
    std::vector<float> v(n);
    for (float& x : v) x = static_cast<float>(uniform(lo, hi));
    return v;
}

/// A network of layers that each read the values given, inputs first: value 0 is the input [1, ...].
inline engine::graph make_graph(std::vector<layer> layers, std::vector<std::size_t> input) {
    engine::graph g;
    g.shapes.push_back(std::move(input));
    for (layer& l : layers) {
        std::vector<std::vector<std::size_t>> shapes;
        for (const std::size_t v : l.inputs) shapes.push_back(g.shapes[v]);
        l.output = g.shapes.size();
        l.name = "layer " + std::to_string(l.output);
        g.shapes.push_back(engine::output_shape(l, shapes));
    }
    g.values = g.shapes.size();
    g.output = g.values - 1;
    g.readers.assign(g.values, 0);
    for (const layer& l : layers)
        for (const std::size_t v : l.inputs) ++g.readers[v];
    g.layers = std::move(layers);
    return g;
}
inline layer reads(operation kind, std::vector<std::size_t> inputs) {
    layer l;
    l.kind = kind;
    l.inputs = std::move(inputs);
    return l;
}
inline layer convolution(std::size_t outputs, std::size_t inputs_per_group, std::array<std::size_t, 2> kernel,
                         std::size_t groups = 1) {
    layer l = reads(operation::conv, {0});
    l.weight = engine::tensor({outputs, inputs_per_group, kernel[0], kernel[1]});
    l.weight.data = random_values(l.weight.data.size(), -1.0, 0.7);
    l.bias = random_values(outputs, -2.0, 2.0);
    l.kernel = kernel;
    l.groups = groups;
    return l;
}

} // namespace engine_test
