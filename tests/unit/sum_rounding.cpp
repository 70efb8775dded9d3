// SPDX-License-Identifier: MIT
// Rounding that keeps sums against all choices of neighbours, where these are few.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/sum_rounding.hpp>
#include <span>
#include <utility>
#include <vector>

using quant::errc;

namespace {

template <class Code> struct row {
    std::vector<float> weights;
    std::vector<Code> codes{};
    std::vector<double> errors{};
    std::vector<std::size_t> order{};

    row(std::vector<float> w, const quant::affine_params& p) : weights(std::move(w)) {
        for (const float x : weights) codes.push_back(static_cast<Code>(quant::quantize_one(x, p)));
        errors.resize(weights.size());
        order.resize(weights.size());
    }
    auto round(const quant::affine_params& p, std::size_t kernel) {
        return quant::round_for_sums<Code>(weights, p, kernel, codes, errors, order);
    }
};

std::vector<float> weights_of(std::size_t n, std::uint64_t seed, float spread, float shift) {
    std::vector<float> w;
    for (std::size_t k = 0; k < n; ++k) w.push_back((quant::random_uniform(seed, 1, k) * 2 - 1) * spread + shift);
    return w;
}

double real_code(float w, const quant::affine_params& p) {
    return static_cast<double>(w) / static_cast<double>(p.scale) + p.zero_point;
}

/// Of all choices between each code and the neighbour on the other side of the real one: the smallest distance of the sum from
/// 0, but not below a half, and with that the least squared error.
template <class Code>
std::array<double, 2> best_choice(std::span<const float> w, const quant::affine_params& p,
                                  std::span<const Code> nearest) {
    std::array<double, 2> best{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    for (std::uint32_t moved = 0; moved < (1U << w.size()); ++moved) {
        double sum = 0, squares = 0;
        bool possible = true;
        for (std::size_t i = 0; i < w.size(); ++i) {
            const double real = real_code(w[i], p);
            const int neighbour = real > nearest[i] ? 1 : -1,
                      code = nearest[i] + ((moved >> i & 1U) != 0 ? neighbour : 0);
            possible = possible && code >= p.format.qmin() && code <= p.format.qmax();
            sum += real - code;
            squares += (real - code) * (real - code);
        }
        const double distance = std::max(std::abs(sum), 0.5);
        if (!possible || distance > best[0] + 1e-12) continue;
        if (distance < best[0] - 1e-12) best = {distance, squares};
        best[1] = std::min(best[1], squares);
    }
    return best;
}

template <class Code> void check_against_all(const quant::affine_params& p, float shift) {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        const std::size_t n = 1 + seed % 9;
        row<Code> r(weights_of(n, seed, 5.5f * p.scale, shift), p);
        const std::vector<Code> nearest = r.codes;
        const auto [distance, least] = best_choice<Code>(r.weights, p, nearest);
        const auto off = r.round(p, 1);
        REQUIRE(off);
        double sum = 0, squares = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const double e = real_code(r.weights[i], p) - r.codes[i];
            REQUIRE(std::abs(r.errors[i] - e) < 1e-12);
            REQUIRE(r.codes[i] >= p.format.qmin());
            REQUIRE(r.codes[i] <= p.format.qmax());
            sum += e;
            squares += e * e;
        }
        REQUIRE(std::abs(*off - sum) < 1e-9);
        REQUIRE(std::max(std::abs(sum), 0.5) <= distance + 1e-9);
        REQUIRE(squares <= least + 1e-9);
    }
}

constexpr quant::affine_params four_bits{.scale = 0.25f, .zero_point = 0, .format = quant::int4};

} // namespace

TEST_CASE("sums are kept at the least squared error") {
    check_against_all<std::int8_t>(four_bits, 0.0f);
    check_against_all<std::int8_t>(four_bits, 0.8f); // many codes at the end of the range
    check_against_all<std::uint8_t>({.scale = 0.5f, .zero_point = 9, .format = quant::uint4}, -0.5f);
    check_against_all<std::int8_t>({.scale = 1.0f, .zero_point = 0, .format = quant::int8.with_bits(2)}, 0.0f);
}

TEST_CASE("kernels keep their sums, then the slice") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        row<std::int8_t> r(weights_of(270, seed, 1.2f, 0.03f), four_bits), kernels = r;
        const std::vector<std::int8_t> nearest = r.codes;
        for (std::size_t k = 0; k < 30; ++k) { // by themselves
            const auto part = [&](auto& v) { return std::span(v).subspan(9 * k, 9); };
            REQUIRE(quant::round_for_sums<std::int8_t>(part(kernels.weights), four_bits, 9, part(kernels.codes),
                                                       part(kernels.errors), part(kernels.order)));
        }
        const auto off = r.round(four_bits, 9);
        REQUIRE(off);
        REQUIRE(std::abs(*off) <= 0.5);
        // The slice's step changes no more codes than its sum asks for, all of them by one.
        double sum = 0;
        std::size_t changed = 0;
        for (std::size_t i = 0; i < r.codes.size(); ++i) {
            sum += kernels.errors[i];
            changed += r.codes[i] != kernels.codes[i];
            REQUIRE(std::abs(r.codes[i] - kernels.codes[i]) <= 1);
            REQUIRE(std::abs(r.codes[i] - nearest[i]) <= 1); // what moves again moves back
        }
        REQUIRE(std::abs(static_cast<double>(changed) - std::abs(sum)) <= 0.5 + 1e-9);
    }
}

TEST_CASE("sums by hand") {
    SECTION("the closest calls move") {
        row<std::int8_t> r({0.40f, 0.30f, 0.20f, 0.35f, -0.05f}, {.scale = 1.0f, .format = quant::int4});
        const auto off = r.round({.scale = 1.0f, .format = quant::int4}, 1);
        REQUIRE(off);
        CHECK(r.codes == std::vector<std::int8_t>{1, 0, 0, 0, 0}); // the sum is 1.2
        CHECK(std::abs(*off - 0.2) < 1e-6);
    }
    SECTION("equal calls: the first moves") {
        const quant::affine_params p{.scale = 1.0f, .format = quant::int4};
        row<std::int8_t> r({-0.25f, -0.25f, -0.25f, -0.25f}, p);
        REQUIRE(r.round(p, 2));
        CHECK(r.codes == std::vector<std::int8_t>{-1, 0, 0, 0});
    }
    SECTION("what is not finite stays, and codes at the end of the range do") {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        row<std::int8_t> r({nan, 9.0f, 7.4f, 0.45f, 0.3f}, {.scale = 1.0f, .format = quant::int4});
        r.codes[0] = -3;
        const auto off = r.round({.scale = 1.0f, .format = quant::int4}, 1);
        REQUIRE(off);
        CHECK(r.codes == std::vector<std::int8_t>{-3, 7, 7, 1, 1});
        CHECK(std::abs(*off - (2.0 + 0.4 - 0.55 - 0.7)) < 1e-6);
    }
}

TEST_CASE("rounding for sums refuses what does not fit") {
    row<std::int8_t> r({0.4f, 0.4f, 0.4f, 0.4f}, four_bits);
    const auto code = [&](std::size_t codes, std::size_t errors, std::size_t order, std::size_t kernel,
                          const quant::affine_params& p) {
        return quant::round_for_sums<std::int8_t>(r.weights, p, kernel, std::span(r.codes).first(codes),
                                                  std::span(r.errors).first(errors), std::span(r.order).first(order))
            .status()
            .code;
    };
    const std::vector<std::int8_t> before = r.codes;
    CHECK(code(3, 4, 4, 1, four_bits) == errc::shape_mismatch);
    CHECK(code(4, 3, 4, 1, four_bits) == errc::shape_mismatch);
    CHECK(code(4, 4, 3, 1, four_bits) == errc::shape_mismatch);
    CHECK(code(4, 4, 4, 0, four_bits) == errc::invalid_argument);
    CHECK(code(4, 4, 4, 3, four_bits) == errc::invalid_argument);
    CHECK(code(4, 4, 4, 1, {.scale = 0.0f, .format = quant::int4}) == errc::invalid_scale);
    CHECK(code(4, 4, 4, 1, {.scale = 1.0f, .format = quant::uint8}) == errc::storage_too_narrow);
    CHECK(r.codes == before);
    CHECK(code(4, 4, 4, 4, four_bits) == errc::ok);
    CHECK(quant::round_for_sums<std::int8_t>({}, four_bits, 1, {}, {}, {}));
}
