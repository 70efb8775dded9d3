// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/calibrate/bias_correction.hpp>
#include <random>
#include <span>
#include <string_view>
#include <vector>

namespace {

using quant::channel_correction;
using quant::correct;

struct quantized_channel {
    std::vector<std::int32_t> codes;
    std::vector<double> values;
    double scale = 0;
    std::int32_t zero_point = 0;
};

/// Affine min-max in double, independent of the library.
quantized_channel quantize_affine(const std::vector<double>& w, int bits) {
    double lo = 0, hi = 0;
    for (const double x : w) {
        lo = std::min(lo, x);
        hi = std::max(hi, x);
    }
    quantized_channel out;
    out.scale = (hi - lo) / (std::exp2(bits) - 1);
    out.zero_point = static_cast<std::int32_t>(std::nearbyint(-lo / out.scale));
    for (const double x : w) {
        const double top = std::exp2(bits) - 1;
        const double steps = std::min(std::max(x / out.scale + out.zero_point, 0.0), top);
        out.codes.push_back(static_cast<std::int32_t>(std::nearbyint(steps)));
        out.values.push_back((out.codes.back() - out.zero_point) * out.scale);
    }
    return out;
}

double mean_of(const std::vector<double>& x) {
    long double sum = 0;
    for (const double v : x) sum += static_cast<long double>(v);
    return static_cast<double>(sum / static_cast<long double>(x.size()));
}

/// Mean squared difference between w and gain q + shift.
double error_of(const std::vector<double>& w, const std::vector<double>& q, double gain, double shift) {
    long double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
        const long double d =
            static_cast<long double>(w[i]) -
            (static_cast<long double>(gain) * static_cast<long double>(q[i]) + static_cast<long double>(shift));
        sum += d * d;
    }
    return static_cast<double>(sum / static_cast<long double>(w.size()));
}

double error_of(const std::vector<double>& w, const std::vector<double>& q, channel_correction c) {
    return error_of(w, q, static_cast<double>(c.gain), static_cast<double>(c.shift));
}

const std::vector<double> example{.31, -.12, .07, -.55, .42, .18, -.26, .90};

} // namespace

TEST_CASE("bias correction: the worked example of eight weights", "[bias_correction][paper]") {
    struct row {
        int bits;
        std::vector<std::int32_t> codes;
        double scale;
        std::int32_t zero_point;
        double mu, xi, raw, mean_only, both, equation_13, folded_scale, shift;
    };
    const std::array rows{
        row{3,
            {4, 2, 3, 0, 5, 4, 2, 7},
            0.207142857143,
            3,
            0.041071428571,
            1.008659528964,
            .0046051020,
            .0029182398,
            .0029305793,
            .0029316368,
            0.208936616714,
            0.040398768732},
        row{4,
            {9, 5, 7, 0, 10, 8, 3, 15},
            0.096666666667,
            6,
            0.010000000000,
            1.006906099514,
            .0007055556,
            .0006055556,
            .0006014987,
            .0006021713,
            0.097334256286,
            0.009248961678},
    };
    for (const row& r : rows) {
        CAPTURE(r.bits);
        const quantized_channel q = quantize_affine(example, r.bits);
        CHECK(q.codes == r.codes);
        CHECK(q.scale == Catch::Approx(r.scale).epsilon(1e-11));
        CHECK(q.zero_point == r.zero_point);

        const auto m = quant::measure_pair(example, q.values);
        REQUIRE(m);
        const double xi = std::sqrt(m->squares_w / m->squares_q);
        const double mu = m->mean_w - m->mean_q;
        CHECK(mu == Catch::Approx(r.mu).epsilon(2e-11));
        CHECK(xi == Catch::Approx(r.xi).epsilon(1e-12));
        CHECK(xi * q.scale == Catch::Approx(r.folded_scale).epsilon(1e-11));
        CHECK(m->mean_w - xi * m->mean_q == Catch::Approx(r.shift).epsilon(2e-11));
        CHECK(std::abs(error_of(example, q.values, 1, 0) - r.raw) <= 0.5e-10);
        CHECK(std::abs(error_of(example, q.values, 1, mu) - r.mean_only) <= 0.5e-10);
        CHECK(std::abs(error_of(example, q.values, xi, m->mean_w - xi * m->mean_q) - r.both) <= 0.5e-10);
        CHECK(std::abs(error_of(example, q.values, xi, xi * mu) - r.equation_13) <= 0.5e-10);

        // The corrections themselves, in float.
        const channel_correction mean = quant::mean_correction(*m);
        CHECK(mean.gain == 1.0f);
        CHECK(mean.shift == static_cast<float>(mu));
        const channel_correction both = quant::mean_and_norm_correction(*m);
        CHECK(both.gain == static_cast<float>(xi));
        CHECK(static_cast<double>(both.shift) == Catch::Approx(r.shift).epsilon(1e-6));
        CHECK(error_of(example, q.values, both) == Catch::Approx(r.both).epsilon(2e-7));
        const channel_correction literal = quant::equation_13_correction(*m);
        CHECK(literal.gain == static_cast<float>(xi));
        CHECK(literal.shift == static_cast<float>(xi * mu));
        CHECK(error_of(example, q.values, literal) == Catch::Approx(r.equation_13).epsilon(2e-7));
    }
}

TEST_CASE("bias correction: the mean step lowers the squared error by exactly the square of the shift",
          "[bias_correction]") {
    std::mt19937 random(7);
    std::normal_distribution<double> normal(0.03, 0.2);
    for (int trial = 0; trial < 200; ++trial) {
        std::vector<double> w(static_cast<std::size_t>(1 + trial));
        for (double& x : w) x = normal(random);
        const quantized_channel q = quantize_affine(w, 2 + trial % 7);
        const auto m = quant::measure_pair(w, q.values);
        REQUIRE(m);
        const double mu = m->mean_w - m->mean_q;
        const double before = error_of(w, q.values, 1, 0);
        const double after = error_of(w, q.values, 1, mu);
        CHECK(std::abs((before - after) - mu * mu) <= 1e-15 * (1 + before));
    }
}

TEST_CASE(
    "bias correction: norm step restores the norm, equation 13 misses the mean, least squares beats its neighbours",
    "[bias_correction]") {
    std::mt19937 random(11);
    std::normal_distribution<double> normal(0.4, 1.0);
    for (int trial = 0; trial < 50; ++trial) {
        std::vector<double> w(static_cast<std::size_t>(16 + trial));
        for (double& x : w) x = normal(random);
        const quantized_channel q = quantize_affine(w, 3);
        const auto m = quant::measure_pair(w, q.values);
        REQUIRE(m);
        const channel_correction both = quant::mean_and_norm_correction(*m);
        std::vector<double> corrected;
        for (const double x : q.values)
            corrected.push_back(static_cast<double>(both.gain) * x + static_cast<double>(both.shift));
        const auto after = quant::measure_pair(w, corrected);
        REQUIRE(after);
        CHECK(after->mean_q == Catch::Approx(after->mean_w).epsilon(1e-6));
        CHECK(after->squares_q == Catch::Approx(after->squares_w).epsilon(1e-6));

        const channel_correction literal = quant::equation_13_correction(*m);
        const double literal_mean = static_cast<double>(literal.gain) * m->mean_q + static_cast<double>(literal.shift);
        CHECK(literal_mean == Catch::Approx(static_cast<double>(literal.gain) * m->mean_w).epsilon(1e-5));

        const channel_correction best = quant::least_squares_correction(*m);
        const double least = error_of(w, q.values, best);
        for (const double gain : {-1e-3, 0.0, 1e-3})
            for (const double shift : {-1e-3, 0.0, 1e-3}) {
                const double other = error_of(w, q.values, static_cast<double>(best.gain) + gain,
                                              static_cast<double>(best.shift) + shift);
                CHECK(least <= other);
            }
        CHECK(least <= error_of(w, q.values, quant::mean_correction(*m)) * (1 + 1e-9));
    }
}

TEST_CASE("bias correction: after error-optimal clipping the norm ratio is 1/sqrt(1 - D/E[x^2]) and least squares is 1",
          "[bias_correction][paper]") {
    // Laplace quantiles, so that the sample has the moments of the density; optimal 4-bit step of the grid -8 … 7.
    const std::size_t n = 200000;
    std::vector<double> w, q;
    for (std::size_t i = 0; i < n; ++i) {
        const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
        w.push_back(p < 0.5 ? std::log(2 * p) : -std::log(2 * (1 - p)));
        const double step = 0.66135268856;
        q.push_back(std::min(7.0, std::max(-8.0, std::nearbyint(w.back() / step))) * step);
    }
    const auto m = quant::measure_pair(w, q);
    REQUIRE(m);
    const channel_correction norm = quant::mean_and_norm_correction(*m);
    CHECK(std::abs(static_cast<double>(norm.gain) - 1.0129) <= 1e-4);
    CHECK(std::abs(static_cast<double>(quant::least_squares_correction(*m).gain) - 1.0) <= 1e-3);
    const double mean_only = error_of(w, q, quant::mean_correction(*m));
    const double both = error_of(w, q, norm);
    CHECK(both > mean_only);
    CHECK(both - mean_only == Catch::Approx(0.0505205514 * 0.0505205514 / 8).epsilon(0.05)); // D^2/(4 variance)
}

TEST_CASE("bias correction: per channel of a tensor, from values and from codes, dense and strided",
          "[bias_correction]") {
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0.01f, 0.3f);
    constexpr std::size_t channels = 5, rows = 3, columns = 4;
    std::vector<float> w(channels * rows * columns);
    for (float& x : w) x = normal(random);
    std::vector<std::int8_t> codes(w.size());
    std::vector<float> dequantized(w.size());
    std::array<quant::affine_params, channels> params{};
    for (std::size_t c = 0; c < channels; ++c) {
        params[c] = {0.05f + 0.01f * static_cast<float>(c), static_cast<std::int32_t>(c) - 2, quant::int4};
        for (std::size_t i = c * rows * columns; i < (c + 1) * rows * columns; ++i) {
            codes[i] = static_cast<std::int8_t>(quant::quantize_one(w[i], params[c]));
            dequantized[i] = quant::dequantize_one(codes[i], params[c]);
        }
    }
    const auto shape = [](auto& x) { return quant::view(x, channels, rows, columns); };
    for (const correct how : {correct::mean, correct::mean_and_norm}) {
        std::array<channel_correction, channels> from_values{}, from_codes{}, from_permuted{};
        REQUIRE(quant::bias_correction(shape(w), shape(dequantized), from_values, quant::per_axis(0), how));
        REQUIRE(quant::bias_correction(shape(w), shape(codes), params, from_codes, quant::per_axis(0), how));
        CHECK(from_values == from_codes);
        for (std::size_t c = 0; c < channels; ++c) {
            std::vector<double> original, quantized;
            for (std::size_t i = c * rows * columns; i < (c + 1) * rows * columns; ++i) {
                original.push_back(static_cast<double>(w[i]));
                quantized.push_back(static_cast<double>(dequantized[i]));
            }
            const double gain = static_cast<double>(from_values[c].gain);
            if (how == correct::mean) CHECK(gain == 1.0);
            CHECK(static_cast<double>(from_values[c].shift) ==
                  Catch::Approx(mean_of(original) - gain * mean_of(quantized)).margin(1e-8));
        }
        // The channel as the last dimension: other strides, another order of the same elements.
        const auto last = [&](auto& x) { return shape(x).permute({1, 2, 0}); };
        REQUIRE(quant::bias_correction(last(w), last(codes), params, from_permuted, quant::per_axis(-1), how));
        CHECK(from_permuted == from_codes);
    }
    // Parameters per group of two along the last dimension, one correction per channel.
    std::vector<quant::affine_params> grouped(channels * rows * 2);
    for (std::size_t g = 0; g < grouped.size(); ++g)
        grouped[g] = {0.04f + 0.001f * static_cast<float>(g), 0, quant::int4};
    for (std::size_t i = 0; i < w.size(); ++i) {
        const quant::affine_params& p = grouped[i / columns * 2 + i % columns / 2];
        codes[i] = static_cast<std::int8_t>(quant::quantize_one(w[i], p));
        dequantized[i] = quant::dequantize_one(codes[i], p);
    }
    std::array<channel_correction, channels> from_values{}, from_codes{};
    REQUIRE(quant::bias_correction(shape(w), shape(dequantized), from_values, quant::per_axis(0)));
    REQUIRE(quant::bias_correction(shape(w), shape(codes), grouped, quant::per_group(2, 2), from_codes,
                                   quant::per_axis(0)));
    CHECK(from_values == from_codes);
    // One correction per group, the last group of each row shorter.
    std::vector<channel_correction> ragged(channels * rows * 2);
    REQUIRE(quant::bias_correction(shape(w), shape(dequantized), ragged, quant::per_group(2, 3)));
    CHECK(static_cast<double>(ragged[1].shift) == Catch::Approx(static_cast<double>(w[3] - dequantized[3])));
    // And one for the whole tensor.
    std::array<channel_correction, 1> whole{};
    REQUIRE(quant::bias_correction(w, dequantized, whole, quant::per_tensor));
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += static_cast<double>(w[i]) - static_cast<double>(dequantized[i]);
    CHECK(static_cast<double>(whole[0].shift) == Catch::Approx(sum / static_cast<double>(w.size())).margin(1e-9));
}

TEST_CASE("bias correction: constant, empty and non-finite channels", "[bias_correction]") {
    const std::array<float, 4> constant{0.3f, 0.3f, 0.3f, 0.3f}, zeros{};
    std::array<channel_correction, 1> fix{};
    for (const correct how : {correct::mean, correct::mean_and_norm}) {
        REQUIRE(quant::bias_correction(constant, zeros, fix, quant::per_tensor, how));
        CHECK(fix[0].gain == 1.0f);
        CHECK(fix[0].shift == 0.3f);
    }
    const auto m = quant::measure_pair(constant, zeros);
    REQUIRE(m);
    CHECK(quant::least_squares_correction(*m).gain == 1.0f);
    CHECK(quant::equation_13_correction(*m).gain == 1.0f);

    const std::array<float, 4> holes{1.0f, std::numeric_limits<float>::quiet_NaN(),
                                     std::numeric_limits<float>::infinity(), 3.0f};
    const std::array<float, 4> restored{0.5f, 0.0f, 7.0f, 2.5f};
    REQUIRE(quant::bias_correction(holes, restored, fix, quant::per_tensor));
    CHECK(fix[0].shift == 0.5f);

    const std::vector<float> nothing;
    REQUIRE(quant::bias_correction(nothing, nothing, fix, quant::per_tensor));
    CHECK(fix[0] == channel_correction{});
}

TEST_CASE("bias correction: wrong arguments are named", "[bias_correction]") {
    const std::vector<float> w(12, 1.0f), other(11, 1.0f);
    const std::vector<std::int8_t> codes(12);
    std::array<channel_correction, 3> fix{};
    std::array<quant::affine_params, 3> params{};
    const auto shaped = quant::view(w, 3, 4);
    CHECK(quant::bias_correction(w, other, fix, quant::per_tensor).code == quant::errc::shape_mismatch);
    auto s = quant::bias_correction(shaped, shaped, std::span(fix).first(2), quant::per_axis(0));
    CHECK(s.code == quant::errc::shape_mismatch);
    CHECK(std::string_view(s.argument) == "corrections");
    CHECK(quant::bias_correction(shaped, shaped, fix, quant::per_axis(2)).code == quant::errc::axis_out_of_range);
    CHECK(quant::bias_correction(shaped, shaped, fix, quant::per_group(1, 0)).code == quant::errc::invalid_group_size);
    s = quant::bias_correction(shaped, quant::view(codes, 3, 4), std::span(params).first(2), fix, quant::per_axis(0));
    CHECK(s.code == quant::errc::shape_mismatch);
    CHECK(std::string_view(s.argument) == "params");
    params[1].scale = 0;
    CHECK(quant::bias_correction(shaped, quant::view(codes, 3, 4), params, fix, quant::per_axis(0)).code ==
          quant::errc::invalid_scale);
}

TEST_CASE("bias correction: folding into an integer pipeline", "[bias_correction]") {
    std::mt19937 random(23);
    std::normal_distribution<float> normal(0.02f, 0.3f);
    constexpr std::size_t channels = 4, fan_in = 9, positions = 6;
    std::vector<float> w(channels * fan_in);
    for (float& x : w) x = normal(random);
    std::vector<std::int32_t> x(fan_in * positions); // integer inputs of scale 1/16
    for (auto& v : x) v = static_cast<std::int32_t>(random() % 31) - 15;
    const float input_scale = 1.0f / 16;

    std::array<quant::affine_params, channels> params{};
    std::vector<std::int8_t> codes(w.size());
    for (std::size_t c = 0; c < channels; ++c) {
        params[c] = {0.07f + 0.01f * static_cast<float>(c), 1, quant::int4};
        for (std::size_t i = 0; i < fan_in; ++i)
            codes[c * fan_in + i] = static_cast<std::int8_t>(quant::quantize_one(w[c * fan_in + i], params[c]));
    }
    std::array<channel_correction, channels> fix{};
    REQUIRE(quant::bias_correction(quant::view(w, channels, fan_in), quant::view(codes, channels, fan_in), params, fix,
                                   quant::per_axis(0), correct::mean_and_norm));

    // What the corrected float weights give.
    std::vector<double> expected(channels * positions, 0.0);
    std::vector<double> outputs(channels * positions, 0.0);
    std::vector<std::int32_t> patch_sums(positions, 0);
    for (std::size_t p = 0; p < positions; ++p)
        for (std::size_t i = 0; i < fan_in; ++i) patch_sums[p] += x[i * positions + p];
    for (std::size_t c = 0; c < channels; ++c) {
        const auto folded = quant::fold_gain(params[c], fix[c]);
        REQUIRE(folded);
        CHECK(folded->zero_point == params[c].zero_point);
        const double z = quant::fractional_zero_point(params[c], fix[c]);
        for (std::size_t p = 0; p < positions; ++p) {
            std::int32_t accumulator = 0;
            double with_real_zero_point = 0;
            for (std::size_t i = 0; i < fan_in; ++i) {
                const std::int32_t q = codes[c * fan_in + i];
                const double value = static_cast<double>(quant::dequantize_one<double>(q, params[c]));
                const double corrected = static_cast<double>(fix[c].gain) * value + static_cast<double>(fix[c].shift);
                expected[c * positions + p] += corrected * x[i * positions + p] * static_cast<double>(input_scale);
                accumulator += (q - params[c].zero_point) * x[i * positions + p];
                with_real_zero_point += (q - z) * x[i * positions + p];
            }
            outputs[c * positions + p] =
                static_cast<double>(folded->scale) * static_cast<double>(input_scale) * accumulator;
            const double step = static_cast<double>(params[c].scale) * static_cast<double>(fix[c].gain);
            CHECK(step * static_cast<double>(input_scale) * with_real_zero_point ==
                  Catch::Approx(expected[c * positions + p]).margin(1e-12));
        }
    }
    const auto without_shift = outputs;
    SECTION("the patch sum is exact") {
        auto y = quant::view(outputs, channels, positions);
        REQUIRE(quant::add_shift(y, patch_sums, fix, input_scale));
        for (std::size_t k = 0; k < outputs.size(); ++k)
            CHECK(outputs[k] == Catch::Approx(expected[k]).epsilon(1e-6).margin(1e-6));
    }
    SECTION("patch sums per channel, as a depthwise layer has them") {
        std::vector<std::int32_t> per_channel;
        for (std::size_t c = 0; c < channels; ++c)
            per_channel.insert(per_channel.end(), patch_sums.begin(), patch_sums.end());
        REQUIRE(quant::add_shift(quant::view(outputs, channels, positions),
                                 quant::view(per_channel, channels, positions), fix, input_scale));
        for (std::size_t k = 0; k < outputs.size(); ++k)
            CHECK(outputs[k] == Catch::Approx(expected[k]).epsilon(1e-6).margin(1e-6));
    }
    SECTION("the bias takes the mean, what is left is the deviation of each position from it") {
        double mean_sum = 0;
        for (const auto s : patch_sums)
            mean_sum += static_cast<double>(s) * static_cast<double>(input_scale) / positions;
        std::vector<double> bias(channels, 0.0);
        REQUIRE(quant::fold_shift_into_bias(bias, std::array{mean_sum}, fix));
        for (std::size_t c = 0; c < channels; ++c)
            for (std::size_t p = 0; p < positions; ++p) {
                const double y = without_shift[c * positions + p] + bias[c];
                const double left = static_cast<double>(fix[c].shift) *
                                    (static_cast<double>(patch_sums[p]) * static_cast<double>(input_scale) - mean_sum);
                CHECK(y + left == Catch::Approx(expected[c * positions + p]).epsilon(1e-6).margin(1e-6));
            }
        std::vector<float> wrong(2);
        CHECK(quant::fold_shift_into_bias(bias, wrong, fix).code == quant::errc::shape_mismatch);
    }
    SECTION("errors") {
        CHECK(quant::fold_gain(params[0], {0.0f, 0.0f}).status().code == quant::errc::invalid_scale);
        CHECK(quant::add_shift(quant::view(outputs, channels, positions), w, fix).code == quant::errc::shape_mismatch);
        CHECK(quant::add_shift(quant::view(outputs, positions, channels), w, fix).code == quant::errc::shape_mismatch);
    }
}
