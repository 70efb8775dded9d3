// SPDX-License-Identifier: MIT
// Sensitivities against their definitions: sums over samples, matrices small enough to know everything about, divergences by hand.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/mixed_precision.hpp>
#include <span>
#include <string_view>
#include <vector>

using quant::errc;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_floats(std::size_t n, std::uint64_t seed) {
    std::vector<float> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back(quant::random_uniform(seed, 0, i) * 2 - 1);
    return out;
}

bool near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance; }

/// z -> A z for a dense matrix; counts its calls.
struct matrix {
    std::vector<double> a;
    std::size_t calls = 0;
    void operator()(std::span<const double> z, std::span<double> out) {
        ++calls;
        for (std::size_t i = 0; i < out.size(); ++i) {
            out[i] = 0;
            for (std::size_t j = 0; j < z.size(); ++j) out[i] += a[i * z.size() + j] * z[j];
        }
    }
};

const std::vector<double> three{4, 1, 0, 1, 3, -2, 0, -2, 5};

} // namespace

TEST_CASE("squared error and signal to noise") {
    const std::vector<float> x{1, -2, 0.5f, 4}, y{1.5f, -2, 0, 3};
    const auto sse = quant::squared_error(x, y);
    REQUIRE(sse);
    CHECK(*sse == 1.5);
    const auto ratio = quant::signal_to_noise(x, y);
    REQUIRE(ratio);
    CHECK(near(*ratio, 10 * std::log10(21.25 / 1.5), 1e-9));
    CHECK(*quant::signal_to_noise(x, x) == std::numeric_limits<double>::infinity());
    const std::vector<float> zeros(4, 0.0f), bad{1, not_a_number, 0, 0};
    CHECK(quant::signal_to_noise(zeros, y).status().code == errc::no_data);
    CHECK(*quant::squared_error(zeros, zeros) == 0);
    CHECK(quant::squared_error(bad, y).status().code == errc::non_finite);
    CHECK(quant::squared_error(x, bad).status().code == errc::non_finite);
    CHECK(quant::squared_error(x, std::vector<float>(3)).status().code == errc::shape_mismatch);
}

TEST_CASE("the output error is the mean over inputs of the squared error of the outputs") {
    for (const std::size_t depth : {1U, 3U, 4U, 9U, 17U}) {
        const std::size_t rows = 5, samples = 40;
        const std::vector<float> w = random_floats(rows * depth, 1), q = random_floats(rows * depth, 2),
                                 inputs = random_floats(samples * depth, 3);
        std::vector<double> moments(depth * depth), scratch(depth);
        REQUIRE(quant::input_moments(inputs, depth, moments));
        const auto found = quant::output_squared_error(w, q, moments, scratch);
        REQUIRE(found);
        double expected = 0;
        for (std::size_t n = 0; n < samples; ++n)
            for (std::size_t r = 0; r < rows; ++r) {
                double sum = 0;
                for (std::size_t j = 0; j < depth; ++j)
                    sum += (static_cast<double>(w[r * depth + j]) - static_cast<double>(q[r * depth + j])) *
                           static_cast<double>(inputs[n * depth + j]);
                expected += sum * sum / static_cast<double>(samples);
            }
        REQUIRE(near(*found, expected, 1e-12 * expected));
        REQUIRE(*quant::output_squared_error(w, w, moments, scratch) == 0);
        REQUIRE(quant::output_squared_error(w, q, std::span(moments).first(depth * depth - 1), scratch).status().code ==
                errc::shape_mismatch);
    }
    std::vector<double> moments(4);
    CHECK(quant::input_moments(std::vector<float>{1, 2, 3}, 2, moments).code == errc::shape_mismatch);
    CHECK(quant::input_moments(std::vector<float>{}, 2, moments).code == errc::no_data);
    CHECK(quant::input_moments(std::vector<float>{1, not_a_number}, 2, moments).code == errc::non_finite);
}

TEST_CASE("the divergence of logits, in the direction from full to quantized") {
    const std::vector<float> p{2, .5f, -1, 0, .1f, .2f, .3f, 3}, q{1.8f, .7f, -1.2f, .1f, 0, .4f, .2f, 2.5f};
    const auto of = [](std::span<const float> a, std::span<const float> b, std::size_t v = 4) {
        const auto found = quant::logit_divergence(a, b, v);
        REQUIRE(found);
        return *found;
    };
    const std::span<const float> ps = p, qs = q;
    CHECK(near(of(ps.first(4), qs.first(4)), .013546185, 2e-8)); // logits as floats
    CHECK(near(of(ps.last(4), qs.last(4)), .020655454, 2e-8));
    CHECK(near(of(p, q), .017100820, 2e-8));
    CHECK(near(of(q, p), .018974302, 2e-8));
    CHECK(of(p, p) == 0);
    // Adding a constant to a row changes nothing, and large logits do not overflow.
    std::vector<float> moved = q;
    for (float& v : moved) v += 1024;
    CHECK(near(of(p, moved), of(p, q), 1e-4));
    for (std::uint64_t seed = 0; seed < 50; ++seed)
        CHECK(of(random_floats(12, seed), random_floats(12, seed + 100), 3) >= 0);
    const std::vector<float> never{1, 2, -infinity, 0}, some{1, 2, 3, 0};
    CHECK(of(never, never) == 0);
    CHECK(of(never, some) > 0);
    CHECK(of(some, never) == std::numeric_limits<double>::infinity());
    CHECK(quant::logit_divergence(some, std::vector<float>{1, 2, not_a_number, 0}, 4).status().argument ==
          std::string_view("quantized"));
    CHECK(quant::logit_divergence(std::vector<float>(4, -infinity), some, 4).status().code == errc::non_finite);
    CHECK(quant::logit_divergence(some, never, 3).status().code == errc::shape_mismatch);
    CHECK(quant::logit_divergence(std::vector<float>{}, std::vector<float>{}, 3).status().code == errc::no_data);
}

TEST_CASE("traces by random signs") {
    std::vector<double> z(3), hz(3), traces(2);
    const std::vector<std::size_t> sizes{2, 1};
    SECTION("all eight sign vectors: mean and variance of the estimate") {
        double sum = 0, squares = 0, first = 0, second = 0;
        for (int k = 0; k < 8; ++k) {
            const std::array<double, 3> s{k & 1 ? 1.0 : -1.0, k & 2 ? 1.0 : -1.0, k & 4 ? 1.0 : -1.0};
            matrix{three}(s, hz);
            const double a = s[0] * hz[0] + s[1] * hz[1], b = s[2] * hz[2];
            sum += a + b;
            squares += (a + b) * (a + b);
            first += a;
            second += b;
        }
        CHECK(sum / 8 == 12);
        CHECK(squares / 8 - 144 == 20); // 2 (1 + 4 + 1 + 4)
        CHECK(first / 8 == 7);
        CHECK(second / 8 == 5);
    }
    SECTION("the estimate is unbiased, layer by layer") {
        matrix h{three};
        const auto found =
            quant::hessian_traces(h, sizes, z, hz, traces,
                                  {.max_probes = 20000, .tolerance = 0, .scale = quant::trace_scale::raw, .seed = 5});
        REQUIRE(found);
        CHECK(found->iterations == 20000);
        CHECK_FALSE(found->converged);
        CHECK(h.calls == 20000);
        CHECK(near(found->value, 12, 5 * std::sqrt(20.0 / 20000)));
        CHECK(near(traces[0], 7, 5 * std::sqrt((4.0 + 4.0) / 20000))); // 2 * 1^2 * 2 within, (-2)^2 across
        CHECK(near(traces[1], 5, 5 * std::sqrt(4.0 / 20000)));
    }
    SECTION("a diagonal is met by the first probe; the mean is per parameter by default") {
        matrix h{{4, 0, 0, 0, -3, 0, 0, 0, 5}};
        const auto found = quant::hessian_traces(h, sizes, z, hz, traces);
        REQUIRE(found);
        CHECK(found->converged);
        CHECK(found->iterations == 2);
        CHECK(traces == std::vector<double>{0.5, 5});
        CHECK(found->value == 2);
    }
    SECTION("refusals") {
        matrix h{three};
        const std::vector<std::size_t> few{2}, many{2, 2};
        CHECK(quant::hessian_traces(h, many, z, hz, traces).status().argument == std::string_view("sizes"));
        CHECK(quant::hessian_traces(h, few, z, hz, std::span(traces).first(1)).status().argument ==
              std::string_view("sizes"));
        CHECK(quant::hessian_traces(h, few, z, hz, traces).status().argument == std::string_view("traces"));
        CHECK(quant::hessian_traces(h, sizes, z, hz, traces, {.max_probes = 0}).status().code ==
              errc::invalid_argument);
        h.a[4] = std::numeric_limits<double>::quiet_NaN();
        CHECK(quant::hessian_traces(h, sizes, z, hz, traces).status().code == errc::non_finite);
    }
}

TEST_CASE("the top eigenvalue of a block") {
    std::vector<double> v(3), hv(3);
    const quant::eigenvalue_options exact{.max_iterations = 500, .tolerance = 1e-14};
    const auto all = quant::top_eigenvalue(matrix{three}, 0, 3, v, hv, exact);
    REQUIRE(all);
    CHECK(all->converged);
    CHECK(near(all->value, 6.361468766, 1e-8));
    matrix{three}(v, hv);
    for (std::size_t i = 0; i < 3; ++i) CHECK(near(hv[i], all->value * v[i], 1e-6));
    const auto first = quant::top_eigenvalue(matrix{three}, 0, 2, v, hv, exact);
    CHECK(near(first->value, (7 + std::sqrt(5.0)) / 2, 1e-9)); // of {{4, 1}, {1, 3}}
    CHECK(v[2] == 0);
    CHECK(near(quant::top_eigenvalue(matrix{{-9, 0, 0, 0, 2, 0, 0, 0, 4}}, 0, 3, v, hv, exact)->value, -9, 1e-9));
    CHECK(quant::top_eigenvalue(matrix{std::vector<double>(9, 0.0)}, 0, 3, v, hv)->value == 0);
    CHECK(quant::top_eigenvalue(matrix{three}, 1, 0, v, hv)->value == 0);
    CHECK(quant::top_eigenvalue(matrix{three}, 1, 3, v, hv).status().argument == std::string_view("count"));
}

TEST_CASE("a gradient is enough for a Hessian-vector product") {
    // loss = x^T A x / 2 + sum x^4: gradient A x + 4 x^3, Hessian A + 12 diag(x^2)
    const std::vector<double> point{0.3, -0.7, 1.1}, z{1, -1, 1};
    std::vector<double> moved(3), other(3), found(3), expected(3);
    const auto gradient = [](std::span<const double> x, std::span<double> g) {
        matrix{three}(x, g);
        for (std::size_t i = 0; i < 3; ++i) g[i] += 4 * x[i] * x[i] * x[i];
    };
    quant::gradient_differences hvp(gradient, point, moved, other);
    hvp(z, found);
    matrix{three}(z, expected);
    for (std::size_t i = 0; i < 3; ++i)
        CHECK(near(found[i], expected[i] + 12 * point[i] * point[i] * z[i], 2e-5)); // 4 e^2, the next term
    hvp(std::vector<double>(3, 0.0), found);
    CHECK(found == std::vector<double>(3, 0.0));
    // And it serves the estimates as it is.
    std::vector<double> probe(3), product(3), traces(1);
    const std::vector<std::size_t> sizes{3};
    const auto trace = quant::hessian_traces(hvp, sizes, probe, product, traces,
                                             {.max_probes = 4000, .tolerance = 0, .scale = quant::trace_scale::raw});
    CAPTURE(trace->value, trace->iterations);
    CHECK(near(trace->value, 12 + 12 * (0.09 + 0.49 + 1.21), 5 * std::sqrt(20.0 / 4000)));
}

TEST_CASE("the diagonal of the Fisher matrix") {
    std::vector<double> fisher(3, 0.0);
    REQUIRE(quant::add_squared_gradient(std::vector<float>{1, -2, 0}, fisher));
    REQUIRE(quant::add_squared_gradient(std::vector<float>{3, 0, 1}, fisher));
    CHECK(fisher == std::vector<double>{10, 4, 1});
    const std::vector<float> w{1, 1, 1}, q{0.5f, 2, 1};
    const auto found = quant::fisher_error(fisher, 2, w, q);
    REQUIRE(found);
    CHECK(*found == (10 * 0.25 + 4) / 2);
    CHECK(quant::add_squared_gradient(std::vector<float>{1, not_a_number, 0}, fisher).code == errc::non_finite);
    CHECK(fisher == std::vector<double>{10, 4, 1});
    CHECK(quant::fisher_error(fisher, 0, w, q).status().argument == std::string_view("samples"));
    CHECK(quant::fisher_error(fisher, 1, w, std::vector<float>{1, not_a_number, 1}).status().code == errc::non_finite);
}

TEST_CASE("tables of weighed errors and of sizes feed the allocation") {
    const std::vector<double> curvature{2, -1, 0}, errors{4, 1, 5, 3, 1, std::numeric_limits<double>::infinity()};
    std::vector<double> loss(6);
    REQUIRE(quant::weigh_errors(curvature, errors, loss));
    CHECK(loss == std::vector<double>{8, 2, 0, 0, 0, std::numeric_limits<double>::infinity()});
    std::vector<std::uint64_t> cost(6);
    const std::vector<std::uint64_t> elements{100, 10, 1};
    const std::vector<std::uint8_t> bits{2, 4};
    REQUIRE(quant::size_costs(elements, bits, cost));
    CHECK(cost == std::vector<std::uint64_t>{200, 400, 20, 40, 2, 4});
    std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(3, 2, 500));
    std::vector<std::uint8_t> choice(3);
    const auto found = quant::allocate_exact({loss, cost, 3, 2}, 430, choice, workspace);
    REQUIRE(found);
    CHECK(choice == std::vector<std::uint8_t>{1, 0, 0});
    CHECK(quant::weigh_errors(curvature, std::span(errors).first(5), std::span(loss).first(5)).code ==
          errc::shape_mismatch);
    CHECK(quant::size_costs(elements, bits, std::span(cost).first(5)).code == errc::shape_mismatch);
}
