// SPDX-License-Identifier: MIT
// Operators on networks small enough to compute by hand or by their plain definition, files that are wrong.

#include "../graph.hpp"
#include "builder.hpp"

#include "../../nn/random.hpp"
#include "../../onnx/model.hpp"
#include "../../quant/tests/support.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using engine::tensor;
using engine_test::builder;
using engine_test::integers;
using engine_test::random_tensor;
using quant_onnx::element_type;

namespace {

void set(onnx::NodeProto& n, const char* name, integers values) {
    auto* a = n.add_attribute();
    a->set_name(name);
    for (const auto v : values) a->add_ints(v);
}
void set(onnx::NodeProto& n, const char* name, std::int64_t value) {
    auto* a = n.add_attribute();
    a->set_name(name);
    a->set_i(value);
}

integers signed_shape(const tensor& t) { return {t.shape.begin(), t.shape.end()}; }

tensor of(std::vector<std::size_t> shape, std::vector<float> values) {
    tensor t(std::move(shape));
    t.data = std::move(values);
    return t;
}

struct window {
    std::size_t groups = 1;
    std::array<std::int64_t, 2> kernel{1, 1}, strides{1, 1}, dilations{1, 1};
    std::array<std::int64_t, 4> pads{};
};

/// The definition of a convolution, in double, one output at a time.
std::vector<double> plain_convolution(const tensor& x, const tensor& w, const std::vector<float>& b, const window& o,
                                      std::int64_t rows, std::int64_t columns) {
    std::vector<double> y;
    const std::size_t per_group = w.shape[0] / o.groups;
    for (std::size_t n = 0; n < x.shape[0]; ++n)
        for (std::size_t c = 0; c < w.shape[0]; ++c)
            for (std::int64_t r = 0; r < rows; ++r)
                for (std::int64_t q = 0; q < columns; ++q) {
                    double sum = static_cast<double>(b[c]);
                    for (std::size_t i = 0; i < w.shape[1]; ++i)
                        for (std::int64_t u = 0; u < o.kernel[0]; ++u)
                            for (std::int64_t v = 0; v < o.kernel[1]; ++v) {
                                const std::int64_t row = r * o.strides[0] + u * o.dilations[0] - o.pads[0];
                                const std::int64_t column = q * o.strides[1] + v * o.dilations[1] - o.pads[1];
                                if (row < 0 || column < 0 || row >= static_cast<std::int64_t>(x.shape[2]) ||
                                    column >= static_cast<std::int64_t>(x.shape[3]))
                                    continue;
                                const std::size_t channel = c / per_group * w.shape[1] + i;
                                const std::size_t at =
                                    static_cast<std::size_t>(row) * x.shape[3] + static_cast<std::size_t>(column);
                                const std::size_t tap = static_cast<std::size_t>(u * o.kernel[1] + v);
                                sum +=
                                    static_cast<double>(x.channel(n, channel)[at]) *
                                    static_cast<double>(w.data[(c * w.shape[1] + i) *
                                                                   static_cast<std::size_t>(o.kernel[0] * o.kernel[1]) +
                                                               tap]);
                            }
                    y.push_back(sum);
                }
    return y;
}

} // namespace

TEST_CASE("a convolution is its definition, for groups, strides, dilations and uneven padding") {
    const std::vector<std::pair<window, std::pair<std::size_t, std::size_t>>> cases{
        {{}, {5, 7}},                                         // 1 x 1: the matrix product alone
        {{1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}, {4, 6}},  //
        {{1, {10, 4}, {2, 2}, {1, 1}, {4, 1, 5, 1}}, {1, 8}}, // one input channel
        {{2, {3, 2}, {2, 1}, {1, 2}, {0, 0, 1, 1}}, {4, 6}},  //
        {{6, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}, {6, 6}},  // depthwise
        {{4, {3, 3}, {2, 2}, {1, 1}, {0, 0, 1, 1}}, {4, 8}},  // depthwise, two outputs per channel
        {{3, {3, 3}, {1, 2}, {3, 2}, {3, 5, 2, 4}}, {3, 3}},  // padding wider than the dilated window's step
        {{1, {1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}}, {4, 6}},  // 1 x 1 with a stride
        {{1, {9, 9}, {1, 1}, {1, 1}, {4, 4, 4, 4}}, {2, 2}},  // windows wider than what is left of the image
    };
    for (const auto& [o, channels] : cases) {
        const auto [in, out] = channels;
        const auto kernel = std::pair(static_cast<std::size_t>(o.kernel[0]), static_cast<std::size_t>(o.kernel[1]));
        const tensor x = random_tensor({2, in, 11, 9}, 1),
                     w = random_tensor({out, in / o.groups, kernel.first, kernel.second}, 2);
        const std::vector<float> b = random_tensor({out, 1}, 3).data;
        builder net({-1, static_cast<std::int64_t>(in), 11, 9});
        net.floats("w", signed_shape(w), w.data);
        net.floats("b", {static_cast<std::int64_t>(out)}, b);
        auto& n = net.node("Conv", {"in", "w", "b"}, "out");
        set(n, "group", static_cast<std::int64_t>(o.groups));
        set(n, "strides", {o.strides[0], o.strides[1]});
        set(n, "dilations", {o.dilations[0], o.dilations[1]});
        set(n, "pads", {o.pads[0], o.pads[1], o.pads[2], o.pads[3]});
        const tensor y = engine::run(net.load(), x);
        const auto expected =
            plain_convolution(x, w, b, o, static_cast<std::int64_t>(y.shape[2]), static_cast<std::int64_t>(y.shape[3]));
        REQUIRE(y.shape[1] == out);
        REQUIRE(y.size() == expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i)
            REQUIRE(static_cast<double>(y.data[i]) == Catch::Approx(expected[i]).margin(1e-5));
    }
}

TEST_CASE("a convolution's extents are those of ONNX") {
    builder net({-1, 1, 11, 9});
    net.floats("w", {1, 1, 3, 2}, std::vector<float>(6, 1.0f));
    auto& n = net.node("Conv", {"in", "w"}, "out");
    set(n, "strides", {2, 3});
    set(n, "dilations", {2, 1});
    set(n, "pads", {1, 0, 2, 1});
    const auto g = net.load();
    // rows: (11 + 3 - 5) / 2 + 1; columns: (9 + 1 - 2) / 3 + 1
    CHECK(g.shapes[g.output] == std::vector<std::size_t>{1, 1, 5, 3});
}

TEST_CASE("a fully connected layer is a matrix product, transposed or not") {
    for (const bool transposed : {false, true}) {
        builder net({-1, 3});
        net.floats("w", transposed ? integers{2, 3} : integers{3, 2},
                   transposed ? std::vector<float>{1, 2, 3, 4, 5, 6} : std::vector<float>{1, 4, 2, 5, 3, 6});
        net.floats("b", {2}, {10, 20});
        set(net.node("Gemm", {"in", "w", "b"}, "out"), "transB", transposed ? 1 : 0);
        const tensor y = engine::run(net.load(), of({2, 3}, {1, 1, 1, 1, 0, -1}));
        CHECK(y.shape == std::vector<std::size_t>{2, 2});
        CHECK(y.data == std::vector<float>{16, 35, 8, 18});
    }
}

TEST_CASE("what PyTorch writes: Constant, Reshape, MatMul with an Add, Softmax") {
    builder net({-1, 3, 1, 2});
    const auto constant = [&](const char* name, onnx::TensorProto t) {
        auto* a = net.node("Constant", {}, name).add_attribute();
        a->set_name("value");
        *a->mutable_t() = std::move(t);
    };
    onnx::TensorProto shape, bias;
    shape.set_data_type(static_cast<int>(element_type::int64));
    shape.add_dims(2);
    shape.add_int64_data(-1);
    shape.add_int64_data(6);
    bias.set_data_type(static_cast<int>(element_type::float32));
    bias.add_dims(2);
    const std::array raw{0.5f, -1.0f};
    bias.set_raw_data(raw.data(), sizeof raw);
    constant("shape", shape);
    constant("b", bias);
    net.floats("w", {6, 2}, {1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1});
    net.node("Reshape", {"in", "shape"}, "flat");
    net.node("MatMul", {"flat", "w"}, "product");
    net.node("Add", {"b", "product"}, "logits");
    net.node("Softmax", {"logits"}, "out");
    const engine::graph g = net.load();
    CHECK(g.layers.size() == 3);
    CHECK(g.layers[1].bias == std::vector<float>{0.5f, -1.0f});
    CHECK(g.layers[1].bias_name == "b");
    const tensor y = engine::run(g, of({1, 3, 1, 2}, {1, 2, 0, 0, 0, 3})); // logits 4.5 and 4
    CHECK(y.shape == std::vector<std::size_t>{1, 2});
    CHECK(std::abs(y.data[0] - 1.0f / (1.0f + std::exp(-0.5f))) < 1e-6f);
    CHECK(std::abs(y.data[0] + y.data[1] - 1.0f) < 1e-6f);

    shape.set_int64_data(1, 3);
    net.m.nodes[0].mutable_attribute(0)->mutable_t()->CopyFrom(shape);
    CHECK_THROWS_MATCHES(net.load(), quant_tool::error, MessageMatches(ContainsSubstring("Reshape to [N, -1] only")));
    shape.add_dims(7);
    net.m.nodes[0].mutable_attribute(0)->mutable_t()->CopyFrom(shape);
    CHECK_THROWS_MATCHES(net.load(), quant_tool::error, MessageMatches(ContainsSubstring("than its shape says")));
}

TEST_CASE("pooling: padding never wins and does not count, a last window may stick out") {
    const tensor x = of({1, 1, 3, 3}, {-1, -2, -3, -4, -5, -6, -7, -8, -9});
    const auto pooled = [&](const char* type, const std::vector<std::pair<const char*, std::int64_t>>& flags,
                            integers pads) {
        builder net({-1, 1, 3, 3});
        auto& n = net.node(type, {"in"}, "out");
        set(n, "kernel_shape", {2, 2});
        set(n, "strides", {2, 2});
        set(n, "pads", std::move(pads));
        for (const auto& [name, value] : flags) set(n, name, value);
        return engine::run(net.load(), x).data;
    };
    CHECK(pooled("MaxPool", {}, {0, 0, 0, 0}) == std::vector<float>{-1});
    CHECK(pooled("MaxPool", {}, {1, 1, 0, 0}) == std::vector<float>{-1, -2, -4, -5});
    CHECK(pooled("MaxPool", {{"ceil_mode", 1}}, {0, 0, 0, 0}) == std::vector<float>{-1, -3, -7, -9});
    CHECK(pooled("AveragePool", {}, {1, 1, 0, 0}) == std::vector<float>{-1, -2.5f, -5.5f, -7});
    CHECK(pooled("AveragePool", {{"count_include_pad", 1}}, {1, 1, 0, 0}) ==
          std::vector<float>{-0.25f, -1.25f, -2.75f, -7});
    builder all({-1, 1, 3, 3});
    all.node("GlobalAveragePool", {"in"}, "out");
    CHECK(engine::run(all.load(), x).data == std::vector<float>{-5});
}

TEST_CASE("sums, joints, limits, slices and padding") {
    const tensor x = of({1, 2, 2, 2}, {-1, 2, -3, 4, 5, -6, 7, -8});
    builder net({-1, 2, 2, 2});
    net.floats("low", {}, {0});
    net.floats("high", {}, {6});
    net.constant<std::int64_t>("start", element_type::int64, {2}, {1, 0});
    net.constant<std::int64_t>("end", element_type::int64, {2}, {99, -1});
    net.constant<std::int64_t>("axes", element_type::int64, {2}, {2, 3});
    net.constant<std::int64_t>("pads", element_type::int64, {8}, {0, 1, 0, 0, 0, 0, 0, 1});
    net.node("Relu", {"in"}, "relu");
    net.node("Clip", {"in", "low", "high"}, "clip");
    net.node("Add", {"relu", "clip"}, "sum");
    net.node("Add", {"sum", "sum"}, "twice");
    set(net.node("Concat", {"in", "twice"}, "joined"), "axis", 1);
    net.node("Slice", {"joined", "start", "end", "axes"}, "cut");
    net.node("Pad", {"cut", "pads"}, "padded");
    net.node("Flatten", {"padded"}, "flat");
    net.node("Identity", {"flat"}, "out");
    std::map<std::string, std::vector<float>> seen;
    const tensor y =
        engine::run(net.load(), x, [&](const engine::layer& l, const tensor& t) { seen[l.output_name] = t.data; });
    CHECK(seen["relu"] == std::vector<float>{0, 2, 0, 4, 5, 0, 7, 0});
    CHECK(seen["clip"] == std::vector<float>{0, 2, 0, 4, 5, 0, 6, 0});
    CHECK(seen["twice"] == std::vector<float>{0, 8, 0, 16, 20, 0, 26, 0});
    CHECK(seen["cut"] == std::vector<float>{-3, 7, 0, 26}); // the last row's first column of four channels
    CHECK(y.shape == std::vector<std::size_t>{1, 10});
    CHECK(y.data == std::vector<float>{0, 0, -3, 0, 7, 0, 0, 0, 26, 0});
}

TEST_CASE("a hook changes what later layers see") {
    builder net({-1, 2});
    net.node("Relu", {"in"}, "a");
    net.node("Identity", {"a"}, "out");
    const tensor y = engine::run(net.load(), of({1, 2}, {-1, 3}), [](const engine::layer& l, tensor& t) {
        if (l.output_name == "a") t.data[0] = 9;
    });
    CHECK(y.data == std::vector<float>{9, 3});
}

TEST_CASE("QuantizeLinear and DequantizeLinear round as ONNX says") {
    builder net({-1, 2, 1, 2});
    net.floats("scale", {2}, {0.5f, 2.0f});
    net.constant<std::uint8_t>("zero", element_type::uint8, {2}, {128, 0});
    set(net.node("QuantizeLinear", {"in", "scale", "zero"}, "q"), "axis", 1);
    set(net.node("DequantizeLinear", {"q", "scale", "zero"}, "out"), "axis", 1);
    std::vector<float> codes;
    const tensor y = engine::run(net.load(), of({1, 2, 1, 2}, {0.75f, -100.0f, 3.0f, 1000.0f}),
                                 [&](const engine::layer& l, const tensor& t) {
                                     if (l.kind == engine::operation::quantize) codes = t.data;
                                 });
    CHECK(codes == std::vector<float>{130, 0, 2, 255}); // 1.5 and 1.5 are ties: to even
    CHECK(y.data == std::vector<float>{1.0f, -64.0f, 4.0f, 510.0f});
}

TEST_CASE("weights behind DequantizeLinear come out as floats: per channel, in blocks of four bits, and biases in 32") {
    builder net({-1, 4});
    net.constant<std::uint8_t>("codes", element_type::int4, {2, 4}, {0x21, 0x43, 0x8f, 0x07}); // 1 2 3 4, -1 -8 7 0
    net.floats("scales", {2, 2}, {1.0f, 10.0f, 0.5f, 2.0f});
    auto& n = net.node("DequantizeLinear", {"codes", "scales"}, "w");
    set(n, "axis", 1);
    set(n, "block_size", 2);
    net.constant<std::int32_t>("bias_codes", element_type::int32, {2}, {100, -200});
    net.floats("bias_scale", {}, {0.25f});
    net.node("DequantizeLinear", {"bias_codes", "bias_scale"}, "b");
    set(net.node("Gemm", {"in", "w", "b"}, "out"), "transB", 1);
    const auto g = net.load();
    REQUIRE(g.layers.size() == 1);
    CHECK(g.layers[0].weight.data == std::vector<float>{1, 2, 30, 40, -0.5f, -4, 14, 0});
    CHECK(g.layers[0].bias == std::vector<float>{25, -50});
    CHECK(g.layers[0].weight_name == "codes");
    CHECK(engine::run(g, of({1, 4}, {1, 1, 1, 1})).data == std::vector<float>{98, -40.5f});
}

TEST_CASE("what is not supported is refused by name") {
    const auto refused = [](const builder& net, const std::string& cause) {
        CHECK_THROWS_MATCHES(net.load(), quant_tool::error, MessageMatches(ContainsSubstring(cause)));
        CHECK_THROWS_MATCHES(net.load(), quant_tool::error, MessageMatches(ContainsSubstring("test.onnx")));
    };
    const auto with = [](const char* type, std::vector<std::string> inputs) {
        builder net({-1, 4, 6, 6});
        net.floats("w", {2, 4, 3, 3}, std::vector<float>(72, 1.0f));
        net.node(type, std::move(inputs), "out");
        return net;
    };
    refused(with("LSTM", {"in"}), "node 'out_node' (LSTM): this operator is not supported");
    auto net = with("Conv", {"in", "w"});
    set(net.m.nodes[0], "auto_pads", 1);
    refused(net, "its attribute auto_pads is not supported");
    refused(with("Conv", {"in", "in"}), "must be a constant");
    refused(with("Conv", {"nothing", "w"}), "its input 'nothing' is unknown");
    refused(with("Add", {"in", "w"}), "its input 'w' is a constant");
    refused(with("Add", {"in"}), "node 'out_node' (Add): lacks an input");
    refused(with("Clip", {"in", "w"}), "its input 1 is not one number");
    net = with("Conv", {"in", "w"});
    set(net.m.nodes[0], "group", 2);
    refused(net, "its weight is for 8 channels, the input is 1x4x6x6");
    net = with("Reshape", {"in", "s"}); // a tensor's mistake, not the node's
    net.constant("s", quant_onnx::element_type::int16, {2}, std::vector<std::int16_t>{1, -1});
    refused(net, "tensor 's': is not of an integer type");
    net = with("Flatten", {"in"});
    set(net.m.nodes[0], "axis", 2);
    refused(net, "axis is supported as 1 only");
    net = with("Relu", {"in"});
    net.m.outputs[0].name = "elsewhere";
    refused(net, "its output 'elsewhere' is not computed");
    net = with("Relu", {"in"});
    net.m.inputs[0].shape = {-1, 4, -1, 6};
    refused(net, "its input's extents are not known");
    CHECK_THROWS_MATCHES(engine::run(with("Relu", {"in"}).load(), tensor({1, 4, 6, 5})), quant_tool::error,
                         MessageMatches(ContainsSubstring("the batch is 1x4x6x5")));
}
