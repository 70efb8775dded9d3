// SPDX-License-Identifier: MIT
// The paper's setting on networks small enough to say what every rounded value must be.

#include "../fake_quantization.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <map>
#include <string>
#include <vector>

using engine::layer;
using engine::operation;
using engine::tensor;

namespace {

tensor of(std::vector<std::size_t> shape, std::vector<float> values) {
    tensor t(std::move(shape));
    t.data = std::move(values);
    return t;
}

/// input [1, 2, 1, 2] -> conv 1x1 -> relu -> + input -> conv 1x1 -> max_pool (nothing) -> flatten -> gemm
engine::graph small_network() {
    engine::graph g;
    g.values = 8;
    g.output = 7;
    g.shapes.assign(8, {1, 2, 1, 2});
    g.shapes[6] = {1, 4};
    g.shapes[7] = {1, 2};
    g.readers = {2, 1, 1, 1, 1, 1, 1, 0};
    const auto add = [&](const char* name, operation kind, std::vector<std::size_t> inputs) -> layer& {
        layer l;
        l.name = l.output_name = name;
        l.kind = kind;
        l.inputs = std::move(inputs);
        l.output = g.layers.size() + 1;
        g.layers.push_back(std::move(l));
        return g.layers.back();
    };
    layer& first = add("first", operation::conv, {0});
    first.weight = of({2, 2, 1, 1}, {1.5f, 0.4f, -1.0f, 0.25f});
    first.bias = {0.0f, 0.0f};
    add("relu", operation::relu, {1});
    add("sum", operation::add, {0, 2});
    layer& second = add("second", operation::conv, {3});
    second.weight = of({2, 2, 1, 1}, {0.7f, -0.3f, 0.9f, 0.2f});
    second.bias = {0.0f, 0.0f};
    add("pool", operation::max_pool, {4});
    add("flat", operation::flatten, {5});
    layer& last = add("last", operation::gemm, {6});
    last.weight = of({2, 4}, {1, 2, 3, 4.1f, -1, -2, -3, -4});
    last.bias = {0.0f, 0.0f};
    return g;
}

const tensor input = of({2, 2, 1, 2}, {1, 2, 3, 4, -1, 0.3f, 5, 1});

std::map<std::string, tensor> outputs_of(const engine::graph& g, const engine::fake_settings& s) {
    std::map<std::string, tensor> seen;
    const engine::fake_quantized q(g, s);
    engine::graph probe = q.rounded();
    (void)engine::run(probe, input, [&](const layer& l, const tensor& y) { seen[l.name] = y; });
    return seen;
}

evaluation::labelled_set samples() {
    evaluation::labelled_set set;
    set.size = 2;
    set.labels = {0, 1};
    set.sample_shape = {2, 1, 2};
    set.read = [](std::size_t i, std::span<float> to) { std::copy_n(input.sample(i).begin(), 4, to.begin()); };
    return set;
}

/// The affine grid of a range that holds 0, written out.
float rounded(float x, float lo, float hi, int bits) {
    const float codes = static_cast<float>((1 << bits) - 1), scale = (hi - lo) / codes,
                zero = std::nearbyint(-lo / scale);
    return (std::min(std::max(std::nearbyint(x / scale) + zero, 0.0f), codes) - zero) * scale;
}

} // namespace

TEST_CASE("weights are rounded per output channel, affine, over their whole range") {
    const auto g = small_network();
    engine::fake_settings s = engine::settings_of(engine::method::min_max, 2, 32);
    const auto q = engine::fake_quantized(g, s);
    const auto& w = q.rounded().layers[0].weight.data;
    CHECK(w[0] == Catch::Approx(rounded(1.5f, 0.0f, 1.5f, 2)));
    CHECK(w[1] == Catch::Approx(rounded(0.4f, 0.0f, 1.5f, 2)));
    CHECK(w[2] == Catch::Approx(rounded(-1.0f, -1.0f, 0.25f, 2)));
    CHECK(w[3] == Catch::Approx(rounded(0.25f, -1.0f, 0.25f, 2)));
    CHECK(q.weight_bits() == 2.0);
    s.exempt = true; // 4 of 16 weights keep 2 bits, first and last have 8
    CHECK(engine::fake_quantized(g, s).weight_bits() == 6.5);
    s.weight_bits = 32;
    CHECK(engine::fake_quantized(g, s).rounded().layers[6].weight.data == g.layers[6].weight.data);
    CHECK(outputs_of(g, s)["last"].data == engine::run(g, input).data);
}

TEST_CASE("a bias correction restores every channel's mean, also that of a channel without codes") {
    auto g = small_network();
    auto s = engine::settings_of(engine::method::bias_correction, 2, 32);
    for (const bool allocate : {false, true}) {
        s.allocate_weights = allocate;
        if (allocate)
            g.layers[6].weight.data = {100, -50, 20, 4, 0.01f, 0.02f, 0.015f, 0.01f}; // the second gets 0 bits
        const auto q = engine::fake_quantized(g, s);
        for (const std::size_t i : {std::size_t{0}, std::size_t{3}, std::size_t{6}}) {
            const tensor &before = g.layers[i].weight, &after = q.rounded().layers[i].weight;
            const std::size_t n = before.size() / 2;
            for (std::size_t c = 0; c < 2; ++c) {
                double sum = 0.0;
                for (std::size_t k = 0; k < n; ++k)
                    sum += static_cast<double>(before.data[c * n + k]) - static_cast<double>(after.data[c * n + k]);
                CHECK(sum == Catch::Approx(0.0).margin(2e-5));
            }
        }
    }
    const engine::fake_quantized q(g, s);
    const auto& last = q.rounded().layers[6].weight.data;
    CHECK(last[4] == Catch::Approx(0.01375));
    CHECK(last[4] == last[5]);
}

TEST_CASE("outputs are rounded per channel of the batch before the ReLU, sums are not") {
    const auto g = small_network();
    const auto s = engine::settings_of(engine::method::min_max, 32, 4);
    const engine::fake_quantized q(g, s);
    // By hand, layer by layer.
    tensor x1 = engine::run_layer(g.layers[0], std::vector<const tensor*>{&input});
    for (std::size_t c = 0; c < 2; ++c) {
        float top = 0.0f;
        for (std::size_t n = 0; n < 2; ++n)
            for (const float v : x1.channel(n, c)) top = std::max(top, v);
        for (std::size_t n = 0; n < 2; ++n)
            for (float& v : x1.channel(n, c)) v = top > 0.0f ? rounded(v, 0.0f, top, 4) : 0.0f;
    }
    const tensor sum = engine::run_layer(g.layers[2], std::vector<const tensor*>{&input, &x1});
    const auto affine = [](tensor& t, std::size_t channels, int bits) {
        for (std::size_t c = 0; c < channels; ++c) {
            float lo = 0.0f, hi = 0.0f;
            const auto each = [&](auto f) {
                for (std::size_t n = 0; n < 2; ++n)
                    if (channels == 1)
                        for (float& v : t.sample(n)) f(v);
                    else
                        for (float& v : t.channel(n, c)) f(v);
            };
            each([&](float& v) { lo = std::min(lo, v), hi = std::max(hi, v); });
            each([&](float& v) { v = rounded(v, lo, hi, bits); });
        }
    };
    tensor x4 = engine::run_layer(g.layers[3], std::vector<const tensor*>{&sum});
    affine(x4, 2, 4);
    affine(x4, 2, 8); // pooling over single pixels, 8 bits
    const tensor flat = engine::run_layer(g.layers[5], std::vector<const tensor*>{&x4});
    tensor out = engine::run_layer(g.layers[6], std::vector<const tensor*>{&flat});
    affine(out, 1, 8); // the classifier, the whole tensor
    const tensor y = q(input);
    REQUIRE(y.shape == out.shape);
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y.data[i] == Catch::Approx(out.data[i]).epsilon(1e-5));
}

TEST_CASE(
    "all widths and methods run, calibrated or not; calibration on the batch's only sample is the batch's range") {
    const auto g = small_network();
    const auto set = samples();
    for (const engine::method m : engine::methods)
        for (const unsigned bits : {2U, 3U, 4U, 8U}) {
            auto s = engine::settings_of(m, bits, bits);
            CHECK(engine::fake_quantized(g, s)(set.batch(0, 2)).samples() == 2);
            s.calibration = &set;
            s.calibration_samples = 1;
            const tensor one = set.batch(0, 1);
            const tensor calibrated = engine::fake_quantized(g, s)(one);
            for (const float v : calibrated.data) CHECK(std::isfinite(v));
        }
    auto s = engine::settings_of(engine::method::aciq, 32, 8);
    const tensor one = set.batch(0, 1), dynamic = engine::fake_quantized(g, s)(one);
    s.calibration = &set;
    s.calibration_samples = 1;
    const tensor fixed = engine::fake_quantized(g, s)(one);
    for (std::size_t i = 0; i < fixed.size(); ++i)
        CHECK(fixed.data[i] == Catch::Approx(dynamic.data[i]).epsilon(0.02).margin(0.1));
}
