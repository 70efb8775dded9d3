// SPDX-License-Identifier: MIT
// Rounding for outputs against the definition in matrices, and against all codes there are where these are few.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/output_rounding.hpp>
#include <span>
#include <vector>

using quant::errc;

namespace {

/// Second moments of random inputs that have much in common, with something on the diagonal.
std::vector<double> moments_of(std::size_t depth, std::uint64_t seed) {
    std::vector<double> h(depth * depth, 0.0);
    for (std::size_t n = 0; n < 3 * depth; ++n) {
        std::vector<double> x;
        const double shared = static_cast<double>(quant::random_uniform(seed, n, depth)) * 2 - 0.5;
        for (std::size_t k = 0; k < depth; ++k)
            x.push_back(shared + static_cast<double>(quant::random_uniform(seed, n, k)) - 0.5);
        for (std::size_t i = 0; i < depth; ++i)
            for (std::size_t j = 0; j < depth; ++j) h[i * depth + j] += x[i] * x[j];
    }
    for (std::size_t i = 0; i < depth; ++i) h[i * depth + i] += 0.01 * static_cast<double>(depth);
    return h;
}

std::vector<float> weights_of(std::size_t depth, std::uint64_t seed) {
    std::vector<float> w;
    for (std::size_t k = 0; k < depth; ++k) w.push_back(quant::random_uniform(seed, 1000, k) * 2 - 1);
    return w;
}

template <class Code>
double error_of(const std::vector<float>& w, const std::vector<double>& h, const quant::affine_params& p,
                const std::vector<Code>& codes) {
    const std::size_t n = w.size();
    std::vector<double> e;
    for (std::size_t i = 0; i < n; ++i)
        e.push_back(static_cast<double>(w[i]) - static_cast<double>(p.scale) * (codes[i] - p.zero_point));
    double total = 0;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) total += e[i] * h[i * n + j] * e[j];
    return total;
}

constexpr quant::affine_params four_bits{.scale = 0.14f, .zero_point = 0, .format = quant::int4};

} // namespace

TEST_CASE("moments are the product of their factors") {
    for (const std::size_t depth : {1U, 2U, 7U, 20U}) {
        const std::vector<double> h = moments_of(depth, depth);
        std::vector<double> f = h;
        REQUIRE(quant::factor_moments(f, depth));
        for (std::size_t i = 0; i < depth; ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                double sum = 0;
                for (std::size_t k = i; k < depth; ++k) {
                    const double left = k == i ? 1.0 : f[k * depth + i], right = k == j ? 1.0 : f[k * depth + j];
                    sum += left * f[k * depth + k] * right;
                }
                REQUIRE(std::abs(sum - h[i * depth + j]) <= 1e-12 * h[0] * static_cast<double>(depth));
            }
        for (std::size_t i = 0; i < depth; ++i)
            for (std::size_t j = i + 1; j < depth; ++j) REQUIRE(f[i * depth + j] == h[i * depth + j]);
    }
}

TEST_CASE("rounding for outputs") {
    SECTION("says what it costs, and costs less than rounding to the nearest") {
        double nearest = 0, ours = 0;
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
            const std::size_t depth = 5 + seed;
            const std::vector<double> h = moments_of(depth, seed);
            const std::vector<float> w = weights_of(depth, seed);
            std::vector<double> f = h, errors(depth);
            REQUIRE(quant::factor_moments(f, depth));
            std::vector<std::int8_t> codes(depth), plain;
            const auto error = quant::round_for_outputs<std::int8_t>(w, f, four_bits, codes, errors);
            REQUIRE(error);
            const double true_error = error_of(w, h, four_bits, codes);
            REQUIRE(std::abs(*error - true_error) <= 1e-9 * true_error);
            for (const float x : w) plain.push_back(static_cast<std::int8_t>(quant::quantize_one(x, four_bits)));
            nearest += error_of(w, h, four_bits, plain);
            ours += true_error;
            // Half a step per term is the most that unlimited codes leave: these weights are inside the range.
            double bound = 0;
            for (std::size_t i = 0; i < depth; ++i) bound += f[i * depth + i] * 0.0049;
            if (std::none_of(codes.begin(), codes.end(), [](int c) { return c == -8 || c == 7; }))
                REQUIRE(true_error <= bound * (1 + 1e-9));
        }
        CHECK(ours < 0.5 * nearest);
    }
    SECTION("two weights by hand: what the first lost, the second makes up for") {
        // x1 = x2 + something small: H = [[1.01, 1], [1, 1]], so D = {0.01, 1}, M_21 = 1
        std::vector<double> f{1.01, 1, 1, 1}, errors(2);
        REQUIRE(quant::factor_moments(f, 2));
        CHECK(std::abs(f[0] - 0.01) < 1e-12);
        CHECK(f[2] == 1.0);
        const quant::affine_params p{.scale = 1.0f, .zero_point = 3, .format = quant::uint4};
        std::vector<std::uint8_t> codes(2);
        const auto error = quant::round_for_outputs<std::uint8_t>(std::array{1.25f, 2.375f}, f, p, codes, errors);
        REQUIRE(error);
        CHECK(codes == std::vector<std::uint8_t>{1 + 3, 3 + 3}); // 2.375 + 0.25 = 2.625, and no longer nearest to 2
        CHECK(errors == std::vector<double>{0.25, -0.625});
        CHECK(std::abs(*error - (0.01 * 0.25 * 0.25 + 0.375 * 0.375)) < 1e-12);
    }
    SECTION("without anything in common it is rounding to the nearest") {
        std::vector<double> f(81, 0.0), errors(9);
        for (std::size_t i = 0; i < 9; ++i) f[i * 10] = 1.0 + static_cast<double>(i);
        REQUIRE(quant::factor_moments(f, 9));
        const std::vector<float> w = weights_of(9, 3);
        std::vector<std::int8_t> codes(9);
        REQUIRE(quant::round_for_outputs<std::int8_t>(w, f, four_bits, codes, errors));
        for (std::size_t i = 0; i < 9; ++i) REQUIRE(codes[i] == quant::quantize_one(w[i], four_bits));
    }
}

TEST_CASE("rounding for outputs refuses what does not fit") {
    std::vector<double> f{2, 0, 1, 2}, errors(2);
    std::vector<std::int8_t> codes(2);
    const std::vector<float> w{0.5f, 0.25f};
    CHECK(quant::factor_moments(f, 3).code == errc::shape_mismatch);
    std::vector<double> singular{1, 1, 1, 1}, undefined{1, 0, 0, std::numeric_limits<double>::quiet_NaN()};
    CHECK(quant::factor_moments(singular, 2).code == errc::invalid_argument);
    CHECK(quant::factor_moments(undefined, 2).code == errc::invalid_argument);
    const auto code = [&](std::span<const float> row, std::span<const double> factors, std::span<std::int8_t> to,
                          std::span<double> scratch, const quant::affine_params& p) {
        return quant::round_for_outputs(row, factors, p, to, scratch).status().code;
    };
    CHECK(code(w, f, codes, errors, four_bits) == errc::ok);
    CHECK(code(w, std::span(f).first(3), codes, errors, four_bits) == errc::shape_mismatch);
    CHECK(code(w, f, std::span(codes).first(1), errors, four_bits) == errc::shape_mismatch);
    CHECK(code(w, f, codes, std::span(errors).first(1), four_bits) == errc::shape_mismatch);
    CHECK(code(w, f, codes, errors, {.scale = 0.0f, .format = quant::int4}) == errc::invalid_scale);
    CHECK(code(w, f, codes, errors, {.scale = 1.0f, .format = quant::uint8}) == errc::storage_too_narrow);
    const std::vector<float> bad{0.5f, std::numeric_limits<float>::infinity()};
    CHECK(code(bad, f, codes, errors, four_bits) == errc::non_finite);
}
