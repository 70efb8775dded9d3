// SPDX-License-Identifier: MIT
// The pieces of user code the documentation promises, compiled as they stand and checked for what they say.

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <quant/interop/eigen.hpp>
#include <quant/quant.hpp>

namespace {

std::vector<float> laplace_sample(std::size_t n, double b, unsigned seed) {
    std::mt19937 engine(seed);
    std::exponential_distribution<double> magnitude(1.0 / b);
    std::vector<float> x(n);
    for (float& v : x) v = static_cast<float>((engine() & 1u) != 0 ? magnitude(engine) : -magnitude(engine));
    return x;
}

// Simple: min-max, symmetric, per tensor; no heap.
quant::status simple(const std::vector<float>& weights, std::vector<std::int8_t>& codes, std::vector<float>& restored) {
    auto p = quant::quantize(weights, codes); // result<affine_params>
    if (!p) return p.status();
    if (auto s = quant::dequantize(codes, restored, *p); !s) return s;
    return {};
}

constexpr auto scheme = quant::int4 | quant::per_axis(0) | quant::aciq(quant::prior::laplace) | quant::bias_corrected;

// Calibration split over shards; state is plain data, so it also travels between processes.
quant::result<quant::clip_range> calibrate(std::span<const float> shard_a, std::span<const float> shard_b) {
    quant::moments_observer a{quant::statistics::before_relu}, b{quant::statistics::before_relu};
    a.observe(shard_a);
    b.observe(shard_b);
    if (auto s = a.merge(b); !s) return s;
    auto range = quant::aciq(quant::prior::laplace).clip(a, quant::uint4); // result<clip_range>
    return range;
}

// Firmware: constants at compile time.
constexpr auto adc = quant::symmetric(3.3f, quant::int8);
static_assert(adc.zero_point == 0);
std::array<std::int8_t, 128> frame{};
void on_adc(std::span<const float, 128> x) noexcept { quant::quantize(x, frame, adc); } // static extents: void

} // namespace

TEST_CASE("The simple call quantizes by the largest magnitude and restores within half a step") {
    const auto weights = laplace_sample(1000, 0.3, 1);
    std::vector<std::int8_t> codes(weights.size());
    std::vector<float> restored(weights.size());
    REQUIRE(simple(weights, codes, restored));
    float largest = 0;
    for (const float w : weights) largest = std::max(largest, std::fabs(w));
    const double half_step = static_cast<double>(largest) / 127.0 / 2.0;
    for (std::size_t i = 0; i < weights.size(); ++i)
        CHECK(std::fabs(static_cast<double>(weights[i]) - static_cast<double>(restored[i])) <= half_step * 1.000001);
    codes.resize(999);
    CHECK(simple(weights, codes, restored).code == quant::errc::shape_mismatch);
}

TEST_CASE("The allocating call returns codes, parameters and corrections of every channel") {
    auto w = laplace_sample(64 * 27, 0.1, 2);
    auto q = quant::quantize(quant::view(w, 64, 3, 3, 3), scheme);
    REQUIRE(q);
    CHECK(q->rank() == 4);
    CHECK(q->size() == w.size());
    CHECK(q->params().size() == 64);
    CHECK(q->corrections().size() == 64);
    CHECK(quant::average_bits(*q) == 4.0);
    std::vector<float> restored(w.size());
    REQUIRE(quant::dequantize(*q, restored));
    for (std::size_t c = 0; c < 64; ++c) { // bias correction: the mean of every channel is restored
        double before = 0, after = 0;
        for (std::size_t i = 0; i < 27; ++i) {
            before += static_cast<double>(w[c * 27 + i]);
            after += static_cast<double>(restored[c * 27 + i]);
        }
        CHECK(std::fabs(before - after) / 27 < 1e-7);
    }
}

TEST_CASE("Calibration over shards needs to know whether the statistics stand before the ReLU") {
    const auto x = laplace_sample(4096, 1.0, 3);
    const std::span<const float> all(x);
    const auto range = calibrate(all.first(2048), all.last(2048));
    REQUIRE(range);
    CHECK(range->lo == 0);
    CHECK(range->hi > 4.0); // the fused Laplace optimum at 4 bits is near 6 b
    CHECK(range->hi < 8.0);
    quant::moments_observer unsaid;
    unsaid.observe(x);
    CHECK(quant::aciq().clip(unsaid, quant::uint4).status().code == quant::errc::statistics_mismatch);
}

TEST_CASE("Widths as part of the scheme and widths allocated by hand give the same bytes") {
    auto w = laplace_sample(64 * 27, 0.1, 4);
    for (std::size_t c = 0; c < 64; ++c)
        for (std::size_t i = 0; i < 27; ++i) w[c * 27 + i] *= static_cast<float>(1 + c % 9);
    const auto v = quant::view(w, 64, 3, 3, 3);
    std::array<quant::tensor_statistics, 64> channel_stats;
    REQUIRE(quant::for_each_slice(v, quant::per_axis(0), [&](const auto& channel, std::size_t c) {
        channel_stats[c] = quant::measure_statistics(channel);
    }));

    auto q1 = quant::quantize(v, scheme | quant::average_bits(4.0f, {2, 8}));
    REQUIRE(q1);
    std::array<std::uint8_t, 64> bits;
    if (auto s = quant::allocate_bits(channel_stats, bits, {.average_bits = 4.0f, .min_bits = 2, .max_bits = 8}); !s)
        FAIL();
    auto q2 = quant::quantize(v, scheme | quant::bits(bits));
    REQUIRE(q2);

    CHECK(quant::average_bits(*q1) <= 4.0);
    CHECK(quant::average_bits(*q1) > 3.9);
    REQUIRE(std::ranges::equal(q1->codes<std::int8_t>(), q2->codes<std::int8_t>()));
    REQUIRE(std::ranges::equal(q1->params(), q2->params()));
    REQUIRE(std::ranges::equal(q1->corrections(), q2->corrections()));
}

TEST_CASE("Firmware code with static extents returns nothing to check") {
    std::array<float, 128> samples{};
    samples[0] = 3.3f;
    samples[1] = -1.65f;
    samples[2] = 1e9f;
    on_adc(samples);
    CHECK(frame[0] == 127);
    CHECK(frame[1] == -64); // -63.5 is a tie: to even
    CHECK(frame[2] == 127);
    CHECK(frame[3] == 0);
    static_assert(std::is_void_v<decltype(quant::quantize(std::span<const float, 128>(samples), frame, adc))>);
}

TEST_CASE("Eigen in, Eigen out") {
    const Eigen::MatrixXf W = Eigen::MatrixXf::Random(7, 33);
    auto q = quant::quantize(quant::view(W), quant::int8 | quant::per_axis(0));
    REQUIRE(q);
    Eigen::MatrixXf error = W - quant::to_eigen(*q);
    CHECK(error.cwiseAbs().maxCoeff() <= 0.5f / 127.0f * 1.0001f);
    CHECK(q->params().size() == 7);
}
