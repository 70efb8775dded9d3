// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <quant/core/random.hpp>

TEST_CASE("the mixer and the random bits give the published values", "[random]") {
    static_assert(quant::mix(0) == 0xe220a8397b1dcdaf); // first output of splitmix64 seeded with 0
    static_assert(quant::random_bits(42, 7, 0) == 0x55be888977820bef);
    CHECK(quant::random_bits(42, 7, 1) == 0x383d308626efa9f0);
    CHECK(quant::random_bits(42, 7, 2) == 0x3da80056e267a8e6);
    const double expected[] = {0.33493852615356445, 0.21968364715576172, 0.2408447265625, 0.9584695100784302,
                               0.06137639284133911};
    for (std::uint64_t i = 0; i < 5; ++i) CHECK(static_cast<double>(quant::random_uniform(42, 7, i)) == expected[i]);
}

TEST_CASE("random bits depend on seed, stream and index, each in all its 64 bits", "[random]") {
    const std::uint64_t base = quant::random_bits(1, 2, 3);
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t flip = std::uint64_t{1} << bit;
        CHECK(quant::random_bits(1 ^ flip, 2, 3) != base);
        CHECK(quant::random_bits(1, 2 ^ flip, 3) != base);
        CHECK(quant::random_bits(1, 2, 3 ^ flip) != base);
    }
}

TEST_CASE("random uniforms are multiples of 2^-24 in [0, 1) with the right mean, variance and spread", "[random]") {
    const std::uint64_t n = 1 << 20;
    double sum = 0, squares = 0;
    int bad = 0;
    std::uint64_t bins[16] = {};
    for (std::uint64_t i = 0; i < n; ++i) {
        const float u = quant::random_uniform(5, 0, i);
        const float scaled = u * 0x1p24f;
        bad += !(u >= 0 && u < 1) || scaled != std::floor(scaled);
        bad += static_cast<long double>(u) != reference::uniform(5, 0, i);
        sum += static_cast<double>(u);
        squares += static_cast<double>(u) * static_cast<double>(u);
        ++bins[static_cast<std::size_t>(u * 16)];
    }
    CHECK(bad == 0);
    const auto count = static_cast<double>(n);
    // Five standard errors: the mean of uniforms has variance 1/12n, the mean of squares 4/45n, a bin n/16 * 15/16.
    CHECK(std::fabs(sum / count - 0.5) < 5 * std::sqrt(1 / (12 * count)));
    CHECK(std::fabs(squares / count - 1.0 / 3) < 5 * std::sqrt(4 / (45 * count)));
    for (const std::uint64_t b : bins)
        CHECK(std::fabs(static_cast<double>(b) - count / 16) < 5 * std::sqrt(count / 16 * 15 / 16));
}
