// SPDX-License-Identifier: MIT
// Cross-layer equalization: values by hand, equal ranges, and the network that stays what it was.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/equalization.hpp>
#include <span>
#include <vector>

using quant::equalization_pair;
using quant::errc;

namespace {

/// Weights whose rows (output channels) differ in size by powers of four.
std::vector<float> weights(std::size_t rows, std::size_t columns, std::uint64_t seed) {
    std::vector<float> out;
    for (std::size_t i = 0; i < rows * columns; ++i)
        out.push_back(std::ldexp(quant::random_uniform(seed, 0, i) - 0.5f,
                                 2 * static_cast<int>(quant::random_bits(seed, 1, i / columns) % 5)));
    return out;
}

/// y = W x + b of [rows, columns], with a ReLU behind it if wanted.
std::vector<double> apply(const std::vector<float>& w, const std::vector<float>& b, const std::vector<double>& x,
                          bool relu) {
    std::vector<double> y(w.size() / x.size());
    for (std::size_t r = 0; r < y.size(); ++r) {
        y[r] = b.empty() ? 0 : static_cast<double>(b[r]);
        for (std::size_t k = 0; k < x.size(); ++k) y[r] += static_cast<double>(w[r * x.size() + k]) * x[k];
        if (relu) y[r] = std::max(y[r], 0.0);
    }
    return y;
}

float largest_of(const std::vector<float>& w, std::size_t rows, std::size_t columns, std::size_t at, bool row) {
    float most = 0;
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c)
            if ((row ? r : c) == at) most = std::max(most, std::abs(w[r * columns + c]));
    return most;
}

struct layers {
    std::vector<float> w1 = weights(6, 5, 1), b1 = weights(6, 1, 2), w2 = weights(7, 6, 3), b2 = weights(7, 1, 4),
                       w3 = weights(3, 7, 5);
    [[nodiscard]] std::vector<double> operator()(const std::vector<double>& x) const {
        return apply(w3, {}, apply(w2, b2, apply(w1, b1, x, true), true), false);
    }
};
std::vector<double> input(std::size_t i) {
    std::vector<double> x;
    for (std::size_t k = 0; k < 5; ++k) x.push_back(static_cast<double>(quant::random_uniform(9, i, k)) * 8 - 4);
    return x;
}

} // namespace

TEST_CASE("equalization: two channels by hand", "[equalization]") {
    // Ranges 8 and 2: s = sqrt(16) / 2 = 2. Ranges 1 and 9: s = 3 / 9 = 1/3.
    std::vector<float> w1{8, -4, 0.5f, 1}, b1{6, -2}, w2{1, 9, -2, 3}, means{10, 1};
    const equalization_pair pair[] = {
        {*quant::output_channels(quant::view(w1, 2, 2)), *quant::input_channels(quant::view(w2, 2, 2)), b1, means}};
    const auto report = quant::equalize(pair);
    REQUIRE(report);
    CHECK(w1 == std::vector<float>{4, -2, 1.5f, 3});
    CHECK(b1 == std::vector<float>{3, -6});
    CHECK(means == std::vector<float>{5, 3});
    CHECK(w2 == std::vector<float>{2, 3, -4, 1});
    CHECK(report->converged);
    CHECK(report->passes == 2);
    CHECK(report->largest_change < 1e-6);
}

TEST_CASE("equalization: a depthwise layer and groups", "[equalization]") {
    // Depthwise [2, 1, 1, 2]: channel c owns row c.
    std::vector<float> w1{4, 1}, w2{0.5f, 1, -4, 2};
    const equalization_pair depthwise[] = {{*quant::output_channels(quant::view(w1, 2, 1)),
                                            *quant::input_channels(quant::view(w2, 2, 1, 1, 2), 2),
                                            {},
                                            {}}};
    REQUIRE(quant::equalize(depthwise));
    CHECK(w1 == std::vector<float>{2, 2}); // s = 2 and 1/2
    CHECK(w2 == std::vector<float>{1, 2, -2, 1});
    // Two groups of two inputs and one output: inputs 0, 1 are row 0, inputs 2, 3 row 1.
    std::vector<float> v1{16, 1, 1, 1}, v2{1, 1, 1, 0.25f};
    const equalization_pair grouped[] = {
        {*quant::output_channels(quant::view(v1, 4, 1)), *quant::input_channels(quant::view(v2, 2, 2), 2), {}, {}}};
    REQUIRE(quant::equalize(grouped));
    CHECK(v1 == std::vector<float>{4, 1, 1, 0.5f});
    CHECK(v2 == std::vector<float>{4, 1, 1, 0.5f});
}

TEST_CASE("equalization: a chain has equal ranges and the same outputs", "[equalization]") {
    const layers before;
    for (const bool powers : {false, true}) {
        layers net;
        const equalization_pair pairs[] = {{*quant::output_channels(quant::view(net.w1, 6, 5)),
                                            *quant::input_channels(quant::view(net.w2, 7, 6)),
                                            net.b1,
                                            {}},
                                           {*quant::output_channels(quant::view(net.w2, 7, 6)),
                                            *quant::input_channels(quant::view(net.w3, 3, 7)),
                                            net.b2,
                                            {}}};
        const auto report = quant::equalize(pairs, {.max_passes = 1000, .tolerance = 1e-6, .powers_of_two = powers});
        REQUIRE(report);
        CHECK(report->converged);
        CHECK(net.w1 != before.w1);
        for (std::size_t c = 0; c < 6; ++c) {
            const float ratio = largest_of(net.w1, 6, 5, c, true) / largest_of(net.w2, 7, 6, c, false);
            CHECK((powers ? ratio >= 0.5f && ratio < 2.0f : std::abs(ratio - 1) < 1e-5f));
        }
        for (std::size_t c = 0; c < 7; ++c) {
            const float ratio = largest_of(net.w2, 7, 6, c, true) / largest_of(net.w3, 3, 7, c, false);
            CHECK((powers ? ratio >= 0.5f && ratio < 2.0f : std::abs(ratio - 1) < 1e-5f));
        }
        for (std::size_t i = 0; i < 50; ++i) {
            const std::vector<double> x = input(i), y = before(x), z = net(x);
            double size = 0, difference = 0;
            for (std::size_t r = 0; r < y.size(); ++r) {
                size = std::max(size, std::abs(y[r]));
                difference = std::max(difference, std::abs(y[r] - z[r]));
            }
            // Powers of two scale without rounding. The others round every weight to float a few times.
            CHECK(difference <= (powers ? 0.0 : 1e-4 * (1 + size)));
        }
    }
}

TEST_CASE("equalization: channels that are zero, passes that do not suffice, and what is refused", "[equalization]") {
    std::vector<float> w1{0, 3}, w2{5, 0};
    equalization_pair pair{
        *quant::output_channels(quant::view(w1, 2, 1)), *quant::input_channels(quant::view(w2, 1, 2)), {}, {}};
    REQUIRE(quant::equalize({&pair, 1}));
    CHECK(w1 == std::vector<float>{0, 3});
    CHECK(w2 == std::vector<float>{5, 0});
    w1 = {1, 3};
    const auto none = quant::equalize({&pair, 1}, {.max_passes = 1});
    REQUIRE(none);
    CHECK(!none->converged);
    CHECK(none->passes == 1);
    CHECK(quant::equalize({})->converged);
    std::vector<float> short_bias(1);
    pair.bias = short_bias;
    CHECK(quant::equalize({&pair, 1}).status().code == errc::shape_mismatch);
    pair.bias = {};
    pair.statistics = short_bias;
    CHECK(quant::equalize({&pair, 1}).status().code == errc::shape_mismatch);
    pair.statistics = {};
    const std::vector<float> kept = w1;
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        w2 = {bad, 1};
        CHECK(quant::equalize({&pair, 1}).status().code == errc::non_finite);
        CHECK(w1 == kept);
    }
    std::vector<float> three(3);
    pair.second = *quant::input_channels(quant::view(three, 1, 3));
    CHECK(quant::equalize({&pair, 1}).status().code == errc::shape_mismatch);
    CHECK(quant::input_channels(quant::view(three, 3, 1), 2).status().code == errc::shape_mismatch);
    CHECK(quant::input_channels(quant::view(three, 3, 1), 0).status().code == errc::shape_mismatch);
    std::vector<float> nine(9);
    const auto columns = quant::view(nine, 3, 3).permute({1, 0});
    CHECK(quant::output_channels(columns).status().code == errc::invalid_stride);
    CHECK(quant::input_channels(columns).status().code == errc::invalid_stride);
    // Extremes: the scale stays finite.
    std::vector<float> large{std::numeric_limits<float>::max()}, small{0x1p-149f};
    const equalization_pair far[] = {
        {*quant::output_channels(quant::view(large, 1, 1)), *quant::input_channels(quant::view(small, 1, 1)), {}, {}}};
    REQUIRE(quant::equalize(far));
    CHECK(std::abs(large[0] / small[0] - 1) < 1e-6f);
}

TEST_CASE("equalization: high biases move on", "[equalization]") {
    // c = max(0, 10 - 3 * 2) = 4 and max(0, 1 - 3) = 0; W2 c = {4 * (1 + 2), 4 * (-1 + 0.5)}.
    std::vector<float> w1{2, 1, -1, 3}, b1{10, 1}, w2{1, 2, 5, 6, -1, 0.5f, 7, 8}, b2{100, 200}, means{10, 1};
    const std::vector<float> spreads{2, 1};
    equalization_pair pair{*quant::output_channels(quant::view(w1, 2, 2)),
                           *quant::input_channels(quant::view(w2, 2, 2, 2)), b1, means};
    REQUIRE(quant::absorb_high_bias(pair, b2, means, spreads));
    CHECK(b1 == std::vector<float>{6, 1});
    CHECK(means == std::vector<float>{6, 1});
    CHECK(b2 == std::vector<float>{112, 198});
    // Unchanged for outputs of at least c. Depthwise: every output has its own input.
    layers net;
    net.b1.assign(6, 30);
    const layers before = net;
    const std::vector<float> m(6, 30), spread(6, 5);
    const equalization_pair first{*quant::output_channels(quant::view(net.w1, 6, 5)),
                                  *quant::input_channels(quant::view(net.w2, 7, 6)),
                                  net.b1,
                                  {}};
    REQUIRE(quant::absorb_high_bias(first, net.b2, m, spread));
    CHECK(net.b1 == std::vector<float>(6, 15));
    int same = 0;
    for (std::size_t i = 0; i < 200; ++i) {
        const std::vector<double> x = input(i), hidden = apply(before.w1, before.b1, x, true);
        if (*std::min_element(hidden.begin(), hidden.end()) < 15) continue;
        ++same;
        const std::vector<double> y = before(x), z = net(x);
        for (std::size_t r = 0; r < y.size(); ++r) CHECK(std::abs(y[r] - z[r]) <= 1e-4 * (1 + std::abs(y[r])));
    }
    CHECK(same > 0);
    std::vector<float> depthwise{1, 2, 3, 4}, own{0, 0};
    pair.second = *quant::input_channels(quant::view(depthwise, 2, 1, 1, 2), 2);
    b1 = {10, 1};
    const std::vector<float> high{10, 9};
    REQUIRE(quant::absorb_high_bias(pair, own, high, spreads));
    CHECK(own == std::vector<float>{12, 42}); // 4 * 3 and 6 * 7
    std::vector<float> one(1), bad{std::numeric_limits<float>::infinity(), 0};
    CHECK(quant::absorb_high_bias(pair, one, high, spreads).code == errc::shape_mismatch);
    CHECK(quant::absorb_high_bias(pair, own, one, spreads).code == errc::shape_mismatch);
    CHECK(quant::absorb_high_bias(pair, own, high, one).code == errc::shape_mismatch);
    CHECK(quant::absorb_high_bias(pair, own, bad, spreads).code == errc::non_finite);
    CHECK(quant::absorb_high_bias(pair, own, high, bad).code == errc::non_finite);
    pair.bias = {};
    CHECK(quant::absorb_high_bias(pair, own, high, spreads).code == errc::shape_mismatch);
}
