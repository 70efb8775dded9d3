// SPDX-License-Identifier: MIT
#pragma once

// Networks for tests, written node by node, and inputs for them.

#include "../graph.hpp"

#include "../../nn/random.hpp"
#include "../../onnx/model.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace engine_test {

using engine::tensor;
using quant_onnx::element_type;
using integers = std::vector<std::int64_t>;

struct builder {
    quant_onnx::model m;

    explicit builder(integers input) {
        m.path = "test.onnx";
        m.opsets[""] = 21;
        m.inputs.push_back({"in", element_type::float32, std::move(input), {}});
        m.outputs.push_back({"out", element_type::float32, {}, {}});
    }
    onnx::NodeProto& node(const char* type, std::vector<std::string> inputs, const std::string& output) {
        onnx::NodeProto n;
        n.set_op_type(type);
        n.set_name(output + "_node");
        for (auto& i : inputs) n.add_input(std::move(i));
        n.add_output(output);
        return m.nodes.emplace_back(std::move(n));
    }
    template <class T> void constant(const char* name, element_type type, integers shape, std::vector<T> values) {
        m.initializers.push_back(quant_onnx::owned(name, type, std::move(shape), std::move(values)));
    }
    void floats(const char* name, integers shape, std::vector<float> values) {
        constant(name, element_type::float32, std::move(shape), std::move(values));
    }
    engine::graph load() const { return engine::load(m); }
};

inline tensor random_tensor(std::vector<std::size_t> shape, std::uint64_t seed) {
    tensor t(std::move(shape));
    nn::random r(seed);
    for (float& v : t.data) v = r.uniform(-1.0f, 1.0f);
    return t;
}

} // namespace engine_test
