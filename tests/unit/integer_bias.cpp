// SPDX-License-Identifier: MIT
// The integer bias and the terms of the zero points, against the sums they stand for.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/bias_correction.hpp>
#include <quant/core/random.hpp>
#include <quant/requantize.hpp>
#include <span>
#include <vector>

using quant::errc;

namespace {

constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min(),
                       highest = std::numeric_limits<std::int32_t>::max();

template <class Code> std::vector<Code> codes(std::size_t n, std::uint64_t seed) {
    std::vector<Code> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<Code>(quant::random_bits(seed, 0, i)));
    return out;
}

} // namespace

TEST_CASE("integer bias: the nearest multiple of both scales", "[integer_bias]") {
    // Units of 1/8: ties go to the even code.
    const std::vector<float> bias{0.0f, 1.0f, 0.0625f, 0.1875f, -0.0625f, -0.1875f, -3.3f, 1e-30f};
    std::vector<std::int32_t> out(bias.size(), 77);
    const std::vector<float> quarter{0.25f};
    const auto report = quant::quantize_bias(bias, 0.5f, quarter, out);
    REQUIRE(report);
    CHECK(out == std::vector<std::int32_t>{0, 8, 0, 2, 0, -2, -26, 0});
    CHECK(*report == quant::bias_report{0, 26});
    // A scale per channel, doubles, and a stride.
    const std::vector<double> wide{1, 99, 1, 99, 1, 99};
    const std::vector<float> scales{1.0f, 0.5f, 0.25f};
    std::vector<std::int32_t> three(3);
    REQUIRE(quant::quantize_bias(*quant::strided_view(wide.data(), std::array<std::size_t, 1>{3}, {2}), 1.0f, scales,
                                 three));
    CHECK(three == std::vector<std::int32_t>{1, 2, 4});
    const std::vector<quant::bfloat16> half{quant::from_float<quant::bfloat16>(2.5f)};
    std::vector<std::int32_t> one(1);
    REQUIRE(quant::quantize_bias(half, 1.0f, std::span(scales).first(1), one));
    CHECK(one[0] == 2);
    int wrong = 0;
    for (std::size_t i = 0; i < 5000; ++i) {
        const float x = std::ldexp(quant::random_uniform(1, 0, i) - 0.5f, static_cast<int>(i % 30));
        const std::array<float, 1> s{0.01f + quant::random_uniform(1, 1, i)};
        const float in = 0.001f + quant::random_uniform(1, 2, i);
        const std::array<float, 1> b{x};
        std::array<std::int32_t, 1> code{};
        const auto found = quant::quantize_bias(b, in, s, code);
        // The product of two floats is exact in double, and so is what the nearest integer leaves over in long double.
        const long double exact =
            static_cast<long double>(x) / (static_cast<long double>(in) * static_cast<long double>(s[0]));
        if (std::abs(exact) < 2147483647.0L) {
            wrong += std::abs(exact - static_cast<long double>(code[0])) > 0.5L + 1e-6L || found->saturated != 0;
        } else if (std::abs(exact) > 2147483649.0L) {
            wrong += code[0] != (exact < 0 ? lowest : highest) || found->saturated != 1;
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("integer bias: what does not fit int32 saturates and is counted", "[integer_bias]") {
    const std::vector<double> bias{2147483647.0,  2147483647.25, 2147483647.5,   3e9,   1e300,
                                   -2147483648.0, -2147483648.5, -2147483648.75, -1e10, 5};
    std::vector<std::int32_t> out(bias.size());
    const std::vector<float> unit{1.0f};
    const auto report = quant::quantize_bias(bias, 1.0f, unit, out);
    REQUIRE(report);
    CHECK(out ==
          std::vector<std::int32_t>{highest, highest, highest, highest, highest, lowest, lowest, lowest, lowest, 5});
    CHECK(report->saturated == 5);
    CHECK(report->largest == 0x80000000u);
    const std::vector<float> none;
    CHECK(*quant::quantize_bias(none, 1.0f, unit, std::span<std::int32_t>()) == quant::bias_report{});
    CHECK(quant::quantize_bias(bias, 0.0f, unit, out).status().code == errc::invalid_scale);
    CHECK(quant::quantize_bias(bias, 1.0f, none, out).status().code == errc::shape_mismatch);
    CHECK(quant::quantize_bias(bias, 1.0f, unit, std::span(out).first(2)).status().code == errc::shape_mismatch);
    const std::vector<float> bad{std::numeric_limits<float>::quiet_NaN()}, zero{0.0f};
    std::vector<std::int32_t> one{3};
    CHECK(quant::quantize_bias(bad, 1.0f, unit, one).status().code == errc::non_finite);
    CHECK(quant::quantize_bias(zero, 1.0f, zero, one).status().code == errc::invalid_scale);
    CHECK(one[0] == 3);
}

TEST_CASE("integer bias: zero points leave the sum of products exactly", "[integer_bias]") {
    constexpr std::size_t channels = 5, depth = 37, positions = 6;
    const std::vector<std::int8_t> w = codes<std::int8_t>(channels * depth, 1);
    const std::vector<std::uint8_t> x = codes<std::uint8_t>(positions * depth, 2);
    const std::vector<std::int32_t> zero_w{3, -128, 0, 127, -7}, no_zero, bias{10, -20, 30, -40, 50};
    std::vector<std::int32_t> sums_w(channels), sums_x(positions), terms(channels);
    REQUIRE(quant::code_sums(quant::view(w, channels, depth), sums_w, quant::per_axis(0)));
    REQUIRE(quant::code_sums(quant::view(x, positions, depth), sums_x, quant::per_axis(0)));
    for (const std::int32_t zero_x : {0, 128, 255})
        for (const bool symmetric : {false, true})
            for (const bool centred : {false, true}) {
                const std::vector<std::int32_t>& zeros = symmetric ? no_zero : zero_w;
                std::vector<std::int32_t> inputs = sums_x;
                for (std::int32_t& s : inputs) s -= centred ? static_cast<std::int32_t>(depth) * zero_x : 0;
                REQUIRE(
                    quant::accumulator_zero_point_correction(sums_w, zeros, zero_x, centred ? 0 : depth, terms, bias));
                // What an inner loop leaves, positions x channels and the other way about.
                std::vector<std::int32_t> acc(positions * channels), turned(acc.size()), exact(acc.size());
                for (std::size_t p = 0; p < positions; ++p)
                    for (std::size_t c = 0; c < channels; ++c) {
                        std::int32_t raw = 0, whole = bias[c];
                        for (std::size_t k = 0; k < depth; ++k) {
                            raw += w[c * depth + k] * x[p * depth + k];
                            whole += (w[c * depth + k] - (symmetric ? 0 : zero_w[c])) * (x[p * depth + k] - zero_x);
                        }
                        acc[p * channels + c] = turned[c * positions + p] = raw + terms[c];
                        exact[p * channels + c] = whole;
                    }
                if (!symmetric) {
                    REQUIRE(quant::subtract_zero_point_products(quant::view(acc, 2, 3, channels), inputs, zeros,
                                                                quant::per_axis(2)));
                    REQUIRE(quant::subtract_zero_point_products(quant::view(turned, channels, positions), inputs, zeros,
                                                                quant::per_axis(0)));
                }
                int wrong = 0;
                for (std::size_t p = 0; p < positions; ++p)
                    for (std::size_t c = 0; c < channels; ++c) {
                        wrong += acc[p * channels + c] != exact[p * channels + c];
                        wrong += turned[c * positions + p] != exact[p * channels + c];
                    }
                CHECK(wrong == 0);
            }
}

TEST_CASE("integer bias: intermediate overflow cancels", "[integer_bias]") {
    std::vector<std::int32_t> acc{lowest, highest, 5};
    const std::vector<std::int32_t> inputs{1 << 30, -(1 << 30), 0}, zero{3};
    REQUIRE(quant::subtract_zero_point_products(quant::view(acc, 3, 1), inputs, zero, quant::per_axis(1)));
    // -2^31 - 3 2^30 and 2^31 - 1 + 3 2^30, modulo 2^32.
    CHECK(acc == std::vector<std::int32_t>{-(1 << 30) - (1 << 30) + (1 << 30), (1 << 30) - 1, 5});
}

TEST_CASE("integer bias: a bias correction of the weights is a fractional zero point", "[integer_bias]") {
    constexpr std::size_t channels = 4, depth = 64, positions = 9;
    constexpr std::int32_t zero_x = 117;
    const std::vector<std::int8_t> w = codes<std::int8_t>(channels * depth, 3);
    const std::vector<std::uint8_t> x = codes<std::uint8_t>(positions * depth, 4);
    const std::vector<quant::affine_params> params(channels, {0.02f, 0, quant::int8});
    const std::vector<quant::channel_correction> fix{{1.01f, 0.003f}, {0.98f, -0.009f}, {1.0f, 0.0f}, {1.0f, 0.01f}};
    std::vector<double> zero(channels);
    for (std::size_t c = 0; c < channels; ++c) zero[c] = quant::fractional_zero_point(params[c], fix[c]);
    std::vector<std::int32_t> sums_w(channels), terms(channels), inputs(positions), acc(positions * channels);
    REQUIRE(quant::code_sums(quant::view(w, channels, depth), sums_w, quant::per_axis(0)));
    REQUIRE(quant::accumulator_zero_point_correction(sums_w, {}, zero_x, 0, terms));
    std::vector<double> exact(acc.size());
    for (std::size_t p = 0; p < positions; ++p) {
        for (std::size_t k = 0; k < depth; ++k) inputs[p] += x[p * depth + k] - zero_x;
        for (std::size_t c = 0; c < channels; ++c) {
            acc[p * channels + c] = terms[c];
            for (std::size_t k = 0; k < depth; ++k) {
                acc[p * channels + c] += w[c * depth + k] * x[p * depth + k];
                // In units of gain * scale.
                const double step = static_cast<double>(fix[c].gain) * static_cast<double>(params[c].scale);
                exact[p * channels + c] +=
                    (w[c * depth + k] + static_cast<double>(fix[c].shift) / step) * (x[p * depth + k] - zero_x);
            }
        }
    }
    REQUIRE(
        quant::subtract_zero_point_products(quant::view(acc, positions, channels), inputs, zero, quant::per_axis(1)));
    double furthest = 0;
    for (std::size_t i = 0; i < acc.size(); ++i) furthest = std::max(furthest, std::abs(acc[i] - exact[i]));
    CHECK(furthest <= 0.5 + 1e-6);
    CHECK(furthest > 0.1);
    // Ties to even: 0.5 * 1, 3, 5 and their negatives.
    std::vector<std::int32_t> ties(6, 0);
    const std::vector<std::int32_t> odd{1, 3, 5, -1, -3, -5};
    const std::vector<double> half{-0.5};
    REQUIRE(quant::subtract_zero_point_products(quant::view(ties, 6, 1), odd, half, quant::per_axis(1)));
    CHECK(ties == std::vector<std::int32_t>{0, 2, 2, 0, -2, -2});
}

TEST_CASE("integer bias: what the terms refuse", "[integer_bias]") {
    const std::vector<std::int32_t> sums{100, highest}, zeros{1, 2};
    std::vector<std::int32_t> terms(2), acc(6);
    const auto terms_of = [&](std::span<const std::int32_t> z, std::int32_t zero_x, std::size_t depth) {
        return quant::accumulator_zero_point_correction(sums, z, zero_x, depth, terms);
    };
    CHECK(terms_of(zeros, 1, 10));
    CHECK(terms == std::vector<std::int32_t>{10 - 100, 20 - highest});
    CHECK(terms_of(zeros, -2, 10).code == errc::invalid_argument); // 2 * highest
    CHECK(terms_of(zeros, 65536, 1).code == errc::invalid_zero_point);
    CHECK(terms_of(sums, 1, 1).code == errc::invalid_zero_point);
    CHECK(terms_of(zeros, 1, std::size_t{1} << 31).code == errc::invalid_argument);
    const std::vector<std::int32_t> three(3), extreme{65535};
    CHECK(terms_of(three, 1, 1).code == errc::shape_mismatch);
    CHECK(terms_of(extreme, 65535, highest).code == errc::invalid_argument); // no overflow on the way
    CHECK(quant::accumulator_zero_point_correction(sums, {}, 0, 0, std::span(terms).first(1)).code ==
          errc::shape_mismatch);
    CHECK(quant::accumulator_zero_point_correction(sums, {}, 0, 0, terms, three).code == errc::shape_mismatch);
    CHECK(quant::accumulator_zero_point_correction({}, {}, 0, 0, {}));
    const auto v = quant::view(acc, 3, 2);
    const std::vector<std::int32_t> inputs(3);
    CHECK(quant::subtract_zero_point_products(v, inputs, zeros, quant::per_axis(1)));
    CHECK(quant::subtract_zero_point_products(v, inputs, zeros, quant::per_axis(0)).code == errc::shape_mismatch);
    CHECK(quant::subtract_zero_point_products(v, zeros, zeros, quant::per_axis(1)).code == errc::shape_mismatch);
    CHECK(quant::subtract_zero_point_products(v, inputs, zeros, quant::per_tensor).code == errc::invalid_argument);
    CHECK(quant::subtract_zero_point_products(v, inputs, zeros, quant::per_axis(4)).code == errc::axis_out_of_range);
    const std::vector<double> nan{std::numeric_limits<double>::quiet_NaN()};
    CHECK(quant::subtract_zero_point_products(v, inputs, nan, quant::per_axis(1)).code == errc::invalid_zero_point);
    CHECK(quant::subtract_zero_point_products(quant::view(acc.data(), 0, 2), {}, zeros, quant::per_axis(1)));
    const std::vector<std::uint8_t> w(4, 255);
    std::vector<std::int32_t> out(2);
    CHECK(quant::code_sums(quant::view(w, 2, 2), out, quant::per_axis(1)));
    CHECK(out == std::vector<std::int32_t>{510, 510});
    CHECK(quant::code_sums(quant::view(w, 2, 2), out, quant::per_tensor).code == errc::shape_mismatch);
    CHECK(quant::code_sums(quant::view(w.data(), 1, std::size_t{1} << 28), std::span(out).first(1), quant::per_axis(0))
              .code == errc::invalid_argument);
}
