// SPDX-License-Identifier: MIT
// The integer network against sums written from the definition, in int64 and double.

#include "../../kernels/kernels.hpp"
#include "../integer.hpp"
#include "networks.hpp"

#include <quant/calibrate/bias_correction.hpp>
#include <quant/per_channel.hpp>
#include <quant/requantize.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using engine::integer_parameters;
using engine::layer;
using engine::operation;
using engine_test::convolution;
using engine_test::make_graph;
using engine_test::random_values;
using engine_test::reads;
using quant::affine_params;
using quant::requantization;

constexpr affine_params input_params{.scale = 0.031f, .zero_point = 77, .format = quant::uint8};

/// Codes of every value of a run.
std::vector<std::vector<std::int32_t>> codes_of(const engine::graph& g, const integer_parameters& p,
                                                const engine::tensor& x, requantization rule) {
    std::vector<std::vector<std::int32_t>> all(g.values);
    const engine::integer_network q(g, p, rule);
    const engine::tensor out = q.run(x, [&](std::size_t v, const engine::coded_value& c) {
        for (const std::uint8_t b : c.bytes)
            all[v].push_back(p.values[v].format.is_signed ? std::int32_t{static_cast<std::int8_t>(b)}
                                                          : std::int32_t{b});
    });
    const affine_params& last = p.values[g.output];
    for (std::size_t i = 0; i < out.size(); ++i) // what comes out are the values of the last codes
        REQUIRE(out.data[i] == last.scale * static_cast<float>(all[g.output][i] - last.zero_point));
    return all;
}
engine::tensor random_input(const engine::graph& g, const affine_params& p) {
    std::vector<std::size_t> shape = g.shapes[0];
    shape[0] = 3;
    engine::tensor x(shape);
    const auto range = quant::representable_range(p);
    x.data = random_values(x.data.size(), static_cast<double>(range.lo), static_cast<double>(range.hi));
    return x;
}

template <class Scheme> quant::quantized_tensor quantized(const layer& l, const Scheme& scheme) {
    auto q = quant::quantize(quant::view(l.weight.data, l.weight.shape[0], l.weight.sample_size()), scheme);
    REQUIRE(q);
    return *std::move(q);
}

/// The output codes of a convolution or (kernel 1 x 1 on 1 x 1) a fully connected layer by its definition.
void check_layer(const engine::graph& g, const integer_parameters& p, requantization rule) {
    const layer& l = g.layers[0];
    const engine::tensor x = random_input(g, p.values[0]);
    const auto codes = codes_of(g, p, x, rule);
    const std::size_t result = g.output;
    const affine_params &in = p.values[0], &out = p.values[result];
    const bool relu = result != l.output;
    const auto extent = [](const std::vector<std::size_t>& s, std::size_t d) { return d < s.size() ? s[d] : 1; };
    const auto &xs = g.shapes[0], &ys = g.shapes[l.output];
    const std::size_t C = xs[1], H = extent(xs, 2), W = extent(xs, 3), O = ys[1], R = extent(ys, 2), Q = extent(ys, 3);
    const std::size_t per_group = C / l.groups, depth = l.weight.sample_size();
    const auto weights = p.weights[0].codes<std::int8_t>();
    std::size_t at = 0;
    for (std::size_t n = 0; n < x.samples(); ++n)
        for (std::size_t o = 0; o < O; ++o)
            for (std::size_t r = 0; r < R; ++r)
                for (std::size_t q = 0; q < Q; ++q, ++at) {
                    const affine_params& w = p.weights[0].params()[o];
                    std::int64_t sum = 0, inputs = 0; // of (q_w - z_w)(q_x - z_x), and of q_x - z_x
                    for (std::size_t c = 0; c < per_group; ++c)
                        for (std::size_t i = 0; i < l.kernel[0]; ++i)
                            for (std::size_t j = 0; j < l.kernel[1]; ++j) {
                                const std::size_t row = r * l.strides[0] + i * l.dilations[0] - l.pads[0];
                                const std::size_t column = q * l.strides[1] + j * l.dilations[1] - l.pads[1];
                                if (row >= H || column >= W) continue; // padding, also below 0
                                const std::size_t channel = o / (O / l.groups) * per_group + c;
                                const std::int64_t value =
                                    codes[0][((n * C + channel) * H + row) * W + column] - in.zero_point;
                                const std::size_t tap = (c * l.kernel[0] + i) * l.kernel[1] + j;
                                sum += (weights[o * depth + tap] - w.zero_point) * value;
                                inputs += value;
                            }
                    float scale = w.scale;
                    if (!p.weights[0]
                             .corrections()
                             .empty()) { // sum of (gain s (q_w - z_w) + shift) x in units of gain s
                        const quant::channel_correction fix = p.weights[0].corrections()[o];
                        const double step = static_cast<double>(w.scale) * static_cast<double>(fix.gain);
                        scale = static_cast<float>(step);
                        const std::int64_t plain = sum + w.zero_point * inputs;
                        const double zero = w.zero_point - static_cast<double>(fix.shift) / step;
                        sum = plain - std::llrint(zero * static_cast<double>(inputs));
                    }
                    const double unit = static_cast<double>(in.scale) * static_cast<double>(scale);
                    sum += std::llrint(static_cast<double>(l.bias[o]) / unit);
                    const double multiplier = unit / static_cast<double>(out.scale);
                    std::int64_t code = 0;
                    if (rule == requantization::float_multiplier)
                        code = std::llrint(static_cast<float>(sum) * static_cast<float>(multiplier));
                    else
                        code = quant::scaled_steps(static_cast<std::int32_t>(sum),
                                                   *quant::quantize_multiplier(multiplier), rule);
                    code = std::clamp<std::int64_t>(code + out.zero_point, relu ? out.zero_point : out.format.qmin(),
                                                    out.format.qmax());
                    REQUIRE(codes[result][at] == code);
                }
}

void check_in_all_ways(layer l, const std::vector<std::size_t>& input, const affine_params& in, bool relu) {
    const std::size_t outputs = l.weight.shape[0];
    std::vector<layer> layers{l};
    if (relu) layers.push_back(reads(operation::relu, {1}));
    const engine::graph g = make_graph(layers, input);
    integer_parameters p;
    p.values.assign(g.values, in);
    p.values[g.output] = {.scale = 0.11f, .zero_point = 3, .format = quant::uint4};
    const auto plain = quant::per_axis(0) | quant::mapping::symmetric;
    const auto affine = quant::per_axis(0) | quant::mapping::affine;
    p.weights.resize(layers.size());
    for (const requantization rule :
         {requantization::float_multiplier, requantization::double_rounding, requantization::single_rounding}) {
        for (const quant::code_format format : {quant::int8, quant::int4}) {
            p.weights[0] = quantized(l, format | plain);
            check_layer(g, p, rule);
            p.weights[0] = quantized(l, format | affine);
            check_layer(g, p, rule);
            p.weights[0] = quantized(l, format | affine | quant::bias_corrected(quant::correct::mean_and_norm));
            check_layer(g, p, rule);
            REQUIRE(engine::integer_network(g, p).weight_bytes() ==
                    outputs * quant::packed_bytes(l.weight.sample_size(), format));
        }
    }
}

} // namespace

TEST_CASE("integer convolutions are exact") {
    const std::vector<std::size_t> image{1, 6, 7, 5};
    SECTION("1 x 1, more rows than a tile") {
        check_in_all_ways(convolution(37, 6, {1, 1}), image, input_params, true);
    }
    SECTION("3 x 3 with padding: the zero point's code") {
        layer l = convolution(5, 6, {3, 3});
        l.pads = {1, 1, 1, 1};
        check_in_all_ways(l, image, input_params, false);
    }
    SECTION("groups, strides, dilations, uneven padding, signed input codes") {
        layer l = convolution(4, 3, {3, 2}, 2);
        l.pads = {2, 0, 1, 1};
        l.strides = {2, 1};
        l.dilations = {1, 2};
        check_in_all_ways(l, image, {.scale = 0.02f, .zero_point = -9, .format = quant::int8}, true);
    }
    SECTION("depthwise") {
        layer l = convolution(6, 1, {3, 3}, 6);
        l.pads = {1, 1, 1, 1};
        l.strides = {1, 2};
        check_in_all_ways(l, image, input_params, true);
    }
    SECTION("depthwise with two outputs per channel") {
        layer l = convolution(12, 1, {2, 3}, 6);
        l.dilations = {2, 1};
        check_in_all_ways(l, image, input_params, false);
    }
}

TEST_CASE("integer fully connected layers are exact") {
    layer l = reads(operation::gemm, {0});
    l.weight = engine::tensor({9, 21});
    l.weight.data = random_values(l.weight.data.size(), -1.0, 0.5);
    l.bias = random_values(9, -2.0, 2.0);
    check_in_all_ways(l, {1, 21}, input_params, false);
    check_in_all_ways(l, {1, 21}, {.scale = 0.3f, .zero_point = 5, .format = quant::uint4}, true);
}

TEST_CASE("sums and means of codes are the nearest codes of the real ones") {
    const auto values = [](const std::vector<std::int32_t>& codes, const affine_params& p) {
        std::vector<double> v;
        for (const std::int32_t c : codes) v.push_back(static_cast<double>(p.scale) * (c - p.zero_point));
        return v;
    };
    // Nearest but for what the multiplier's 24 bits leave open at a tie; or at a limit.
    const auto nearest = [](double real, std::int32_t code, const affine_params& p, std::int32_t lowest) {
        const double position = real / static_cast<double>(p.scale) + p.zero_point;
        const double clamped = std::clamp(position, static_cast<double>(lowest), static_cast<double>(p.format.qmax()));
        return std::abs(clamped - code) <= 0.5 + 1e-4;
    };
    const affine_params out{.scale = 0.057f, .zero_point = 31, .format = quant::uint8};
    for (const requantization rule :
         {requantization::float_multiplier, requantization::double_rounding, requantization::single_rounding}) {
        SECTION("Add and ReLU " + std::to_string(static_cast<int>(rule))) {
            const engine::graph g = make_graph(
                {reads(operation::identity, {0}), reads(operation::add, {0, 1}), reads(operation::relu, {2})},
                {1, 3, 4, 5});
            integer_parameters p;
            p.weights.resize(3);
            p.values = {input_params, {.scale = 0.5f, .zero_point = 4, .format = quant::uint4}, out, out};
            const auto codes = codes_of(g, p, random_input(g, input_params), rule);
            const auto a = values(codes[0], p.values[0]), b = values(codes[1], p.values[1]);
            for (std::size_t i = 0; i < a.size(); ++i) {
                REQUIRE(nearest(a[i], codes[1][i], p.values[1], 0));
                REQUIRE(nearest(a[i] + b[i], codes[3][i], out, out.zero_point));
            }
        }
        SECTION("pools " + std::to_string(static_cast<int>(rule))) {
            layer average = reads(operation::average_pool, {0});
            average.kernel = {3, 2};
            average.strides = {2, 1};
            average.pads = {1, 1, 1, 0};
            average.count_padding = rule == requantization::double_rounding;
            const engine::graph g = make_graph({average, reads(operation::global_average_pool, {0})}, {1, 2, 6, 5});
            integer_parameters p;
            p.weights.resize(2);
            p.values = {input_params, out, out};
            const auto codes = codes_of(g, p, random_input(g, input_params), rule);
            engine::tensor x({3, 2, 6, 5});
            const auto real = values(codes[0], input_params);
            for (std::size_t i = 0; i < real.size(); ++i) x.data[i] = static_cast<float>(real[i]);
            for (std::size_t v = 1; v < 3; ++v) {
                const engine::tensor* input = &x;
                const engine::tensor mean = engine::run_layer(g.layers[v - 1], std::span(&input, 1));
                for (std::size_t i = 0; i < mean.size(); ++i)
                    REQUIRE(nearest(static_cast<double>(mean.data[i]), codes[v][i], out, 0));
            }
        }
    }
}

TEST_CASE("layers that move codes change none, and change scales where they meet") {
    layer largest = reads(operation::max_pool, {0});
    largest.kernel = largest.strides = {2, 2};
    largest.pads = {1, 1, 0, 0};
    layer border = reads(operation::pad, {0});
    border.pad_with = {0, 1, 0, 0, 0, 1, 0, 0};
    layer part = reads(operation::slice, {2});
    part.cuts = {{1, 1, 3, 1}, {2, 0, 6, 2}};
    layer joined = reads(operation::concat, {0, 0});
    layer limit = reads(operation::clip, {4});
    limit.low = -1.0f;
    limit.high = 2.0f;
    const engine::graph g = make_graph({largest, border, part, joined, limit}, {1, 3, 6, 6});
    integer_parameters p;
    p.weights.resize(5);
    p.values.assign(g.values, input_params);
    p.values[4] = p.values[5] = {.scale = 2 * input_params.scale, .zero_point = 40, .format = quant::uint8};
    const auto codes = codes_of(g, p, random_input(g, input_params), requantization::float_multiplier);
    const auto at = [&](std::size_t v, std::size_t n, std::size_t c, std::size_t r, std::size_t q) {
        const auto& s = g.shapes[v];
        return codes[v][((n * s[1] + c) * s[2] + r) * s[3] + q];
    };
    for (std::size_t n = 0; n < 3; ++n)
        for (std::size_t c = 0; c < 3; ++c)
            for (std::size_t r = 0; r < 3; ++r) {
                for (std::size_t q = 0; q < 3; ++q) {
                    std::int32_t best = 0;
                    for (std::size_t i = r == 0 ? 1 : 0; i < 2; ++i)
                        for (std::size_t j = q == 0 ? 1 : 0; j < 2; ++j)
                            best = std::max(best, at(0, n, c, 2 * r + i - 1, 2 * q + j - 1));
                    REQUIRE(at(1, n, c, r, q) == best);
                }
                for (std::size_t q = 0; q < 6; ++q) {
                    const std::int32_t code = at(0, n, c, r, q);
                    REQUIRE(at(2, n, c + 1, r, q) == code);
                    REQUIRE((at(2, n, 0, r, q) == 77 && at(2, n, 4, r, q) == 77));
                    if (c < 2) REQUIRE(at(3, n, c, r, q) == at(0, n, c, 2 * r, q));
                    const double half = (code - 77) / 2.0; // twice the scale: ties to even
                    REQUIRE(at(4, n, c, r, q) == static_cast<std::int32_t>(std::nearbyint(half)) + 40);
                    REQUIRE(at(4, n, c + 3, r, q) == at(4, n, c, r, q));
                    const auto lo = static_cast<std::int32_t>(std::nearbyint(-1.0 / 0.062)) + 40,
                               hi = static_cast<std::int32_t>(std::nearbyint(2.0 / 0.062)) + 40;
                    REQUIRE(at(5, n, c, r, q) == std::clamp(at(4, n, c, r, q), lo, hi));
                }
            }
}

TEST_CASE("parameters follow the graph") {
    // conv, ReLU, max pool and another conv, joined; then a fully connected layer
    layer pool = reads(operation::max_pool, {2});
    layer second = convolution(3, 4, {1, 1});
    second.inputs = {3};
    layer joined = reads(operation::concat, {4, 3});
    layer last = reads(operation::gemm, {6});
    last.weight = engine::tensor({5, 7 * 16});
    last.weight.data = random_values(last.weight.data.size(), -1.0, 1.0);
    last.bias.assign(5, 0.0f);
    const engine::graph g = make_graph({convolution(4, 3, {3, 3}), reads(operation::relu, {1}), pool, second, joined,
                                        reads(operation::flatten, {5}), last},
                                       {1, 3, 6, 6});
    evaluation::labelled_set set;
    set.size = 20;
    set.sample_shape = {3, 6, 6};
    set.labels.assign(20, 0);
    set.read = [](std::size_t n, std::span<float> to) {
        for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>((n * 131 + i * 29) % 97) / 50.0f - 1.0f;
    };
    const auto seen = engine::observe(g, set, 20, 7);
    CHECK(seen.values[1].taken == quant::statistics::before_relu);
    CHECK(seen.values[2].min == 0.0);
    CHECK(seen.values[2].count == 20 * 4 * 16);
    const auto p = engine::choose_parameters(
        g, seen, {.weight_bits = 4, .activation_bits = 4, .clip_activations = engine::clipping::aciq, .exempt = true});
    CHECK(p.values[0].format == quant::uint8);
    CHECK(p.values[2].format == quant::uint4);
    CHECK(p.values[2].zero_point == 0); // a ReLU's range starts at 0
    CHECK(p.values[2].scale * 15 <= static_cast<float>(seen.values[2].max) * 1.0001f);
    CHECK(p.values[3] == p.values[2]); // a pool has its input's
    CHECK(p.values[4] == p.values[5]); // Concat alone reads it
    CHECK(p.values[6] == p.values[5]);
    CHECK(p.values[7].format == quant::uint8); // behind the last weights
    CHECK(p.weights[0].format() == quant::int8);
    CHECK(p.weights[3].format() == quant::int4);
    CHECK(p.weights[6].format() == quant::int8);

    // Widths by layer; every way to clip keeps a part of the range.
    double high = 0.0;
    for (const quant::clip_range& own : seen.channels[2]) high = std::max(high, own.hi);
    CHECK(high == seen.values[2].max);
    for (const engine::clipping clip : {engine::clipping::aciq_paper, engine::clipping::aciq, engine::clipping::mse}) {
        const auto mixed = engine::choose_parameters(g, seen,
                                                     {.activation_bits = 4,
                                                      .clip_weights = clip,
                                                      .clip_activations = clip,
                                                      .bits_by_layer = {3, 0, 0, 5, 0, 0, 8}});
        CHECK(mixed.weights[0].format().bits == 3);
        CHECK(mixed.weights[3].format().bits == 5);
        CHECK(mixed.weights[6].format().bits == 8);
        CHECK(mixed.values[2].scale <= static_cast<float>(seen.values[2].max / 15 * 1.0001));
    }
    CHECK_THROWS(engine::choose_parameters(g, seen, {.bits_by_layer = {4, 4}}));

    // At 8 bits the integer network follows the float one, and neither batches nor copies matter.
    const auto fine = engine::choose_parameters(g, seen, {});
    const engine::integer_network q(g, fine), copy = q;
    const engine::tensor x = set.batch(0, 8), real = engine::run(g, x), all = q(x), one = copy(set.batch(5, 1));
    double error = 0.0, signal = 0.0;
    for (std::size_t i = 0; i < real.size(); ++i) {
        error += std::pow(static_cast<double>(real.data[i] - all.data[i]), 2);
        signal += std::pow(static_cast<double>(real.data[i]), 2);
    }
    CHECK(error < 1e-3 * signal);
    for (std::size_t i = 0; i < 5; ++i) CHECK(one.data[i] == all.data[5 * 5 + i]);
}

TEST_CASE("a Softmax at the end is that of the logits") {
    layer last = reads(operation::gemm, {0});
    last.weight = engine::tensor({4, 6});
    last.weight.data = random_values(24, -1.0, 1.0);
    last.bias = random_values(4, -1.0, 1.0);
    const engine::graph logits = make_graph({last}, {1, 6}),
                        scores = make_graph({last, reads(operation::softmax, {1})}, {1, 6});
    integer_parameters p;
    p.values.assign(3, input_params);
    p.weights.resize(2);
    p.weights[0] = quantized(last, quant::int8 | quant::per_axis(0) | quant::mapping::symmetric);
    const engine::tensor x = random_input(scores, input_params), y = engine::integer_network(scores, p)(x);
    p.values.pop_back();
    p.weights.pop_back();
    const engine::tensor real = engine::integer_network(logits, p)(x), *input = &real;
    CHECK(y.data == engine::run_layer(scores.layers[1], std::span(&input, 1)).data);
    p.values.assign(3, input_params);
    p.weights.resize(2);
    const engine::graph inside = make_graph({reads(operation::softmax, {0}), reads(operation::identity, {1})}, {1, 6});
    CHECK_THROWS_WITH(engine::integer_network(inside, p), ContainsSubstring("as the last layer only"));
}
