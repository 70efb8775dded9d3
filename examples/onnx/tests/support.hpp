// SPDX-License-Identifier: MIT
#pragma once
// Models made from protobuf messages, as another program would make them.

#include "../../quant/tests/support.hpp"
#include "../model.hpp"

#include <google/protobuf/util/message_differencer.h>

namespace quant_onnx_test {

using quant_test::scratch_directory;

/// A message as bytes, for parse(); the string must outlive the model.
inline quant_onnx::model parse(const std::string& bytes, const std::string& path = "test.onnx") {
    return quant_onnx::parse(std::as_bytes(std::span(bytes)), nullptr, path);
}
inline onnx::ModelProto message_of(const std::string& path) {
    onnx::ModelProto out;
    if (!out.ParseFromString(quant_test::read_file(path))) {
        throw std::runtime_error("not a model: " + path);
    }
    return out;
}

inline void add_value(onnx::ValueInfoProto& v, const std::string& name, const std::vector<std::int64_t>& shape) {
    v.set_name(name);
    auto& type = *v.mutable_type()->mutable_tensor_type();
    type.set_elem_type(1);
    for (const auto extent : shape) {
        auto& d = *type.mutable_shape()->add_dim();
        if (extent < 0) {
            d.set_dim_param("N");
        } else {
            d.set_dim_value(extent);
        }
    }
}
inline onnx::TensorProto& add_tensor(onnx::GraphProto& graph, const std::string& name,
                                     const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    auto& t = *graph.add_initializer();
    t.set_name(name);
    t.set_data_type(1);
    for (const auto extent : shape) {
        t.add_dims(extent);
    }
    t.set_raw_data(values.data(), values.size() * sizeof(float));
    return t;
}
inline onnx::NodeProto& add_node(onnx::GraphProto& graph, const std::string& type, const std::string& name,
                                 const std::vector<std::string>& inputs, const std::string& output) {
    auto& n = *graph.add_node();
    n.set_op_type(type);
    n.set_name(name);
    for (const auto& i : inputs) {
        n.add_input(i);
    }
    n.add_output(output);
    return n;
}
inline onnx::ModelProto empty_model(std::int64_t opset = 13) {
    onnx::ModelProto out;
    out.set_ir_version(7);
    out.set_producer_name("a test");
    auto& set = *out.add_opset_import();
    set.set_domain("");
    set.set_version(opset);
    out.mutable_graph()->set_name("g");
    return out;
}
/// y = x W + b, x of `rows` values, y of `columns`.
inline onnx::ModelProto gemm_model(std::int64_t rows = 8, std::int64_t columns = 4) {
    auto out = empty_model();
    auto& g = *out.mutable_graph();
    std::vector<float> weights, bias;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
        weights.push_back(static_cast<float>(i % 7 - 3) * 0.25f + static_cast<float>(i) * 0.01f);
    }
    for (std::int64_t i = 0; i < columns; ++i) {
        bias.push_back(static_cast<float>(i));
    }
    add_tensor(g, "w", {rows, columns}, weights);
    add_tensor(g, "b", {columns}, bias);
    add_node(g, "Gemm", "fc", {"x", "w", "b"}, "y");
    add_value(*g.add_input(), "x", {-1, rows});
    add_value(*g.add_output(), "y", {-1, columns});
    return out;
}

} // namespace quant_onnx_test
