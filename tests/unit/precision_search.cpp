// SPDX-License-Identifier: MIT
// Mixed widths: the published example, gradients against differences.
#include "support.hpp"
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/precision_search.hpp>
#include <vector>

using quant::errc;
namespace search = quant::precision_search;
using test::names;
using test::uniform;

TEST_CASE("three widths: published weights, penalty, mean bits and gradient") {
    const std::array logits{.2, -.1, .4}, bits{2.0, 4.0, 8.0};
    std::array<double, 3> a{}, grad{};
    REQUIRE(search::mixture(logits, a));
    const double expected_a[] = {.33758454, .25008878, .41232669},
                 expected_grad[] = {-.24630728, -.03597031, .28227759};
    CHECK(std::abs(*search::penalty(a, bits) - 2.14383017) < 1e-8);
    CHECK(std::abs(*search::mean_bits(a, bits) - 4.97413767) < 1e-8);
    REQUIRE(search::add_penalty_gradient(a, bits, 1, grad));
    for (std::size_t m = 0; m < 3; ++m) {
        CHECK(std::abs(a[m] - expected_a[m]) < 1e-8);
        CHECK(std::abs(grad[m] - expected_grad[m]) < 1e-8);
    }
    CHECK(*search::choice(logits) == 2);
    CHECK(*search::choice(std::array{1.0, 3.0, 3.0}) == 1);
}

TEST_CASE("mixed outputs: derivatives by outputs and logits are differences") {
    constexpr std::size_t n = 7;
    std::vector<double> h(3 * n), g(n), mixed(n), of_outputs(3 * n);
    for (std::size_t i = 0; i < 3 * n; ++i) h[i] = uniform(1, i);
    for (std::size_t i = 0; i < n; ++i) g[i] = uniform(2, i);
    std::array<double, 3> logits{.3, -.8, .1}, a{}, of_logits{};
    const auto outputs = quant::view(h, 3, n);
    const auto loss = [&] {
        REQUIRE(search::mixture(logits, a));
        REQUIRE(search::mix(outputs, a, mixed));
        double sum = 0;
        for (std::size_t i = 0; i < n; ++i) sum += g[i] * mixed[i];
        return sum;
    };
    loss();
    REQUIRE(search::mix_backward(outputs, g, a, quant::view(of_outputs, 3, n), of_logits));
    const auto difference = [&](double& x) {
        const double kept = x, d = 1e-6;
        x = kept + d;
        const double up = loss();
        x = kept - d;
        const double down = loss();
        x = kept;
        return (up - down) / (2 * d);
    };
    for (std::size_t m = 0; m < 3; ++m) CHECK(std::abs(difference(logits[m]) - of_logits[m]) < 1e-9);
    for (std::size_t i = 0; i < 3 * n; ++i) CHECK(std::abs(difference(h[i]) - of_outputs[i]) < 1e-9);
}

TEST_CASE("what a precision search refuses") {
    std::array<double, 2> a{.5, .5};
    CHECK(names(search::mixture({}, a), errc::no_data, "logits"));
    CHECK(names(search::mixture(std::array{1.0, std::nan("")}, a), errc::non_finite, "logits"));
    CHECK(names(search::penalty(a, std::array{1.0}).status(), errc::shape_mismatch, "bits"));
    CHECK(names(search::mean_bits(a, std::array{1.0, -1.0}).status(), errc::bits_out_of_range, "bits"));
    std::vector<float> h(6), mixed(2);
    CHECK(names(search::mix(quant::view(h, 2, 3), a, mixed), errc::shape_mismatch, "mixed"));
    CHECK(names(search::mix(quant::view(h, 3, 2), a, mixed), errc::shape_mismatch, "a"));
}
