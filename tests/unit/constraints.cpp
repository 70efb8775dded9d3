// SPDX-License-Identifier: MIT
// Training under constraints: the scalar problem with a known multiplier, published logits, gradients against differences, rankings.
#include "support.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/constraints.hpp>
#include <span>
#include <vector>

using quant::errc;
namespace constraints = quant::constraints;
using test::names;
using test::uniform;

namespace {

std::vector<double> numbers(std::size_t n, std::uint64_t seed, double reach = 1) {
    std::vector<double> v(n);
    for (std::size_t i = 0; i < n; ++i) v[i] = reach * uniform(seed, i);
    return v;
}

} // namespace

TEST_CASE("the multiplier of a scalar problem goes to what the optimum's derivative is") {
    // min (w - c)^2 subject to (w - t)^2 <= eps; the inner minimum is (c + lambda t) / (1 + lambda).
    const double c = 3, t = 1;
    const auto inner = [&](double lambda) { return (c + lambda * t) / (1 + lambda); };
    std::array<double, 1> lambda{};
    const double published[] = {1.5, 1.32, 1.19158145, 1.10798533};
    for (const double expected : published) {
        const std::vector<double> w{inner(lambda[0])}, target{t};
        REQUIRE(constraints::dual_step(lambda, std::array{*constraints::layer_slack(w, target, 1)}, 0.5));
        CHECK(std::abs(lambda[0] - expected) < 1e-8);
    }
    for (const double eps : {1.0, 0.25, 2.0}) {
        lambda[0] = 0;
        for (int step = 0; step < 4000; ++step) {
            const std::vector<double> w{inner(lambda[0])}, target{t};
            REQUIRE(constraints::dual_step(lambda, std::array{*constraints::layer_slack(w, target, eps)}, 0.2));
        }
        CHECK(std::abs(lambda[0] - (2 / std::sqrt(eps) - 1)) < 1e-6);
        CHECK(std::abs(inner(lambda[0]) - (t + std::sqrt(eps))) < 1e-6);
        const auto optimum = [](double e) { return std::pow(2 - std::sqrt(e), 2); };
        CHECK(std::abs(lambda[0] + (optimum(eps + 1e-5) - optimum(eps - 1e-5)) / 2e-5) < 1e-5);
    }
    // A condition that costs nothing: its multiplier decays to 0 and stays there.
    lambda[0] = 3;
    for (int step = 0; step < 100; ++step) REQUIRE(constraints::dual_step(lambda, std::array{-0.5}, 0.1));
    CHECK(lambda[0] == 0);
}

TEST_CASE("outputs: published cross entropy and gradient; both forms against differences") {
    std::vector<double> a{2, .5, -1, 0}, q{1.8, .7, -1.2, .1}, grad(4);
    CHECK(std::abs(*constraints::output_slack(a, q, 4, 0) - .8918273604) < 1e-10);
    CHECK(std::abs(*constraints::output_slack(a, a, 4, 0) - .8782811753) < 1e-10);
    CHECK(std::abs(*constraints::output_slack(a, q, 4, 0, constraints::output_form::divergence) - .013546185) < 1e-9);
    CHECK(*constraints::output_slack(a, a, 4, .25, constraints::output_form::divergence) == -.25);
    REQUIRE(constraints::add_output_gradient(a, q, 4, 1, grad));
    const double published[] = {-.31508784, .10398358, .09037408, .12073017};
    for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(grad[i] - published[i]) < 1e-8);
    CHECK(std::abs(grad[0] + grad[1] + grad[2] + grad[3]) < 1e-15);
    auto full = numbers(15, 1, 3), quantized = numbers(15, 2, 3);
    for (const auto form : {constraints::output_form::cross_entropy, constraints::output_form::divergence}) {
        std::vector<double> g(15, 0.5);
        REQUIRE(constraints::add_output_gradient(full, quantized, 5, 0.7, g, form));
        for (std::size_t i = 0; i < 15; ++i) {
            const double kept = full[i], h = 1e-6;
            full[i] = kept + h;
            const double up = *constraints::output_slack(full, quantized, 5, 0, form);
            full[i] = kept - h;
            const double down = *constraints::output_slack(full, quantized, 5, 0, form);
            full[i] = kept;
            CHECK(std::abs(0.5 + 0.7 * (up - down) / (2 * h) - g[i]) < 1e-8);
        }
    }
}

TEST_CASE("layers: gradients are differences; equal branches are as far inside as allowed") {
    auto full = numbers(12, 3);
    const auto quantized = numbers(12, 4);
    for (const auto d : {constraints::distance::squared, constraints::distance::absolute}) {
        CHECK(*constraints::layer_slack(full, full, 0.3, d) == -0.3);
        std::vector<double> g(12, -1.0);
        REQUIRE(constraints::add_layer_gradient(full, quantized, 2, g, d));
        for (std::size_t i = 0; i < 12; ++i) {
            const double kept = full[i], h = 1e-6;
            full[i] = kept + h;
            const double up = *constraints::layer_slack(full, quantized, 0, d);
            full[i] = kept - h;
            const double down = *constraints::layer_slack(full, quantized, 0, d);
            full[i] = kept;
            CHECK(std::abs(-1 + (up - down) / h - g[i]) < 1e-8);
        }
    }
    std::vector<float> a{1, 2}, b{1, 2}, g(2);
    REQUIRE(constraints::add_layer_gradient(a, b, 5, g));
    CHECK((g[0] == 0 && g[1] == 0));
}

TEST_CASE("layers are ranked by their multipliers: the published ones of a network at one bit") {
    // Wide ResNet-20, lowest to highest.
    const std::vector<double> low_to_high{.0199, .0227, .0255, .0277, .0282, .0299, .0301, .0327, .0333, .0349,
                                          .0422, .0440, .0450, .0458, .0467, .0505, .0510, .0597, .0604, .0693};
    std::vector<double> shuffled(20);
    std::vector<std::uint32_t> order(20);
    for (std::size_t i = 0; i < 20; ++i) shuffled[(7 * i + 3) % 20] = low_to_high[i];
    REQUIRE(constraints::rank_layers(shuffled, order));
    for (std::size_t i = 0; i < 20; ++i) CHECK(order[i] == (7 * (19 - i) + 3) % 20);
    REQUIRE(constraints::rank_layers(std::vector<double>{1, 2, 2, 0}, std::span(order).first(4)));
    CHECK((order[0] == 1 && order[1] == 2 && order[2] == 0 && order[3] == 3));
    CHECK(std::abs(constraints::lagrangian(1.5, std::array{2.0, 0.5}, std::array{0.25, -1.0}) - 1.5) < 1e-15);
}

TEST_CASE("what constraints refuse") {
    std::vector<float> a(4), b(3), g(4);
    CHECK(names(constraints::layer_slack(a, b, 1).status(), errc::shape_mismatch, "quantized"));
    CHECK(names(constraints::layer_slack(std::span(a).first(0), std::span(b).first(0), 1).status(), errc::no_data,
                "full"));
    CHECK(names(constraints::output_slack(a, g, 3, 1).status(), errc::shape_mismatch, "full"));
    CHECK(names(constraints::add_layer_gradient(a, g, -1, g), errc::invalid_argument, "lambda"));
    CHECK(names(constraints::add_output_gradient(a, g, 4, 1, b), errc::shape_mismatch, "gradient"));
    std::array<double, 1> lambda{1};
    CHECK(names(constraints::dual_step(lambda, std::array{std::nan("")}, 1), errc::non_finite, "slacks"));
    CHECK(names(constraints::dual_step(lambda, std::array{1.0}, 0), errc::invalid_argument, "rate"));
    a[2] = std::numeric_limits<float>::infinity();
    CHECK(names(constraints::layer_slack(a, g, 1).status(), errc::non_finite, "full"));
    CHECK(names(constraints::output_slack(a, g, 4, 1).status(), errc::non_finite, "full"));
}
