// SPDX-License-Identifier: MIT
// Schemes: parts commute, the composed call equals its steps byte for byte, errors name their argument.

#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include <quant/quant.hpp>

using namespace quant;

namespace {

std::vector<float> weights(std::size_t channels, std::size_t per_channel, unsigned seed) {
    std::mt19937 engine(seed);
    std::exponential_distribution<float> magnitude(8.0f);
    std::vector<float> w(channels * per_channel);
    for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t i = 0; i < per_channel; ++i) {
            const float x = magnitude(engine) * std::exp2(static_cast<float>(c % 5) - 2.0f);
            w[c * per_channel + i] = (engine() & 1u) != 0 ? x : -x;
        }
    return w;
}

void same(const quantized_tensor& a, const quantized_tensor& b) {
    REQUIRE(a.size() == b.size());
    REQUIRE(std::ranges::equal(a.params(), b.params()));
    REQUIRE(std::ranges::equal(a.corrections(), b.corrections()));
    a.visit_codes(
        [&]<class Code>(std::span<const Code> codes) { REQUIRE(std::ranges::equal(codes, b.codes<Code>())); });
}

} // namespace

TEST_CASE("Parts of a scheme commute") {
    const auto w = weights(16, 45, 1);
    const auto v = view(w, 16, 5, 9);
    const auto q = quantize(v, int4 | per_axis(0) | aciq() | average_bits(3.5f, {2, 6}) | bias_corrected);
    const auto r = quantize(v, bias_corrected | average_bits(3.5f, {2, 6}) | (aciq() | per_axis(0)) | int4);
    REQUIRE(q);
    REQUIRE(r);
    same(*q, *r);
    const auto half = per_axis(0) | int4;
    same(*quantize(v, half | (bias_corrected | aciq() | average_bits(3.5f, {2, 6}))), *q);
}

TEST_CASE("The composed scheme equals the free functions one by one, byte for byte") {
    const auto w = weights(24, 63, 2);
    const auto v = view(w, 24, 7, 9);
    const auto q = quantize(v, int4.narrow() | per_axis(0) | aciq(prior::laplace) | average_bits(4.0f, {2, 8}) |
                                   bias_corrected(correct::mean_and_norm));
    REQUIRE(q);

    // 1. statistics per channel, 2. widths, 3. clip ranges and parameters, 4. codes, 5. corrections
    std::array<tensor_statistics, 24> stats;
    std::array<double, 24> spreads{};
    std::array<std::uint64_t, 24> counts{};
    REQUIRE(for_each_slice(v, per_axis(0), [&](const auto& channel, std::size_t c) {
        stats[c] = measure_statistics(channel);
        spreads[c] = estimate_spread(stats[c], prior::laplace).value;
        counts[c] = channel.size();
    }));
    std::array<std::uint8_t, 24> bits{};
    bit_allocation_options how;
    how.average_bits = 4.0f;
    how.min_bits = 2;
    how.max_bits = 8;
    REQUIRE(allocate_bits(spreads, bits, how, counts));
    std::array<affine_params, 24> params;
    for (std::size_t c = 0; c < 24; ++c) {
        const code_format format = int4.narrow().with_bits(bits[c]);
        const auto range = aciq(prior::laplace).clip(stats[c], format);
        REQUIRE(range);
        params[c] = *choose_params(*range, format, mapping::symmetric);
    }
    std::vector<std::int8_t> codes(w.size());
    REQUIRE(quantize(v, codes, params, per_axis(0)));
    std::array<channel_correction, 24> corrections;
    REQUIRE(bias_correction(v, view(codes, 24, 7, 9), params, corrections, per_axis(0), correct::mean_and_norm));

    REQUIRE(std::ranges::equal(q->params(), params));
    REQUIRE(std::ranges::equal(q->codes<std::int8_t>(), codes));
    REQUIRE(std::ranges::equal(q->corrections(), corrections));

    SECTION("and the call with the caller's buffers") {
        const auto scheme = int4.narrow() | per_axis(0) | aciq(prior::laplace) | average_bits(4.0f, {2, 8}) |
                            bias_corrected(correct::mean_and_norm);
        std::vector<std::int8_t> mine(w.size());
        std::array<affine_params, 24> my_params;
        std::array<channel_correction, 24> my_corrections;
        std::vector<std::byte> workspace(*quantize_workspace_size(v, scheme));
        REQUIRE(quantize(v, mine, my_params, scheme, {my_corrections, workspace}));
        CHECK(mine == codes);
        CHECK(my_params == params);
        CHECK(my_corrections == corrections);
        workspace.resize(workspace.size() / 2);
        const status s = quantize(v, mine, my_params, scheme, {my_corrections, workspace});
        CHECK(s.code == errc::buffer_too_small);
    }
}

TEST_CASE("Every clipping composes with every granularity and restores within its range") {
    const auto w = weights(8, 40, 3);
    const auto v = view(w, 8, 40);
    const auto check = [&](const auto& scheme) {
        const auto q = quantize(v, scheme);
        REQUIRE(q);
        std::vector<float> restored(w.size());
        REQUIRE(dequantize(*q, restored));
        double error = 0, power = 0;
        for (std::size_t i = 0; i < w.size(); ++i) {
            const double d = static_cast<double>(w[i]) - static_cast<double>(restored[i]);
            error += d * d;
            power += static_cast<double>(w[i]) * static_cast<double>(w[i]);
        }
        CHECK(error < 0.1 * power); // 6 bits; the divergence rule clips slices of eight elements hard, hence not less
    };
    const auto over = [&](const auto& clipping) {
        check(int6 | per_tensor | clipping);
        check(int6 | per_axis(0) | clipping);
        check(int6 | per_axis(-1) | clipping);
        check(int6.narrow() | per_group(1, 16) | clipping);
        check(int6 | per_group(0, 3) | clipping | bias_corrected);
        check(int6 | mapping::affine | per_axis(0) | clipping);
    };
    over(minmax);
    over(percentile(99.9));
    over(mse_optimal);
    over(entropy);
    over(aciq());
    over(aciq(prior::gauss, aciq_mode::exact));
    over(aciq(prior::automatic, aciq_mode::paper));
    over(aciq(prior::laplace, aciq_mode::empirical));
}

TEST_CASE("The empirical clipping of a scheme is the recursion on the data, whatever the size") {
    const auto clipping = aciq(prior::laplace, aciq_mode::empirical);
    for (const std::size_t n : {std::size_t{1000}, std::size_t{4096}, std::size_t{20000}}) {
        const auto w = weights(1, n, 9);
        const tensor_statistics of_w = measure_statistics(w);
        for (const code_format format : {int2, int4, int8.narrow()}) {
            const auto chosen = choose_params(view(w, n), format, mapping::symmetric, clipping);
            const auto range = clipping.clip_empirical(of_w, format, empirical_tail(w, format));
            REQUIRE(chosen);
            REQUIRE(range);
            const double scale = (range->hi - range->lo) / static_cast<double>(format.qmax() - format.qmin());
            CHECK(std::fabs(static_cast<double>(chosen->scale) / scale - 1.0) < 1e-6);
            CHECK(chosen->zero_point == 0);
        }
    }
    const auto some = weights(1, 5000, 10);
    const auto s = choose_params(view(some, 5000), uint4, mapping::symmetric, clipping).status();
    CHECK(s.code == errc::statistics_mismatch); // before or after the ReLU?
    const std::vector<float> nothing(5000);
    CHECK(choose_params(view(nothing, 5000), int4, mapping::symmetric, clipping)->scale == 1.0f);
}

TEST_CASE("Rounding and scaling parts reach the kernels") {
    const auto w = weights(4, 64, 4);
    const auto v = view(w, 4, 64);
    const auto p = choose_params(v, int8, mapping::symmetric, minmax);
    REQUIRE(p);
    const auto expect = [&](const auto& scheme, const quantize_options& options) {
        const auto q = quantize(v, scheme);
        REQUIRE(q);
        for (std::size_t i = 0; i < w.size(); ++i)
            CHECK(q->template codes<std::int8_t>()[i] == quantize_one(w[i], *p, options, i));
    };
    expect(int8 | rounding::half_away, {.round = rounding::half_away});
    expect(int8 | rounding::toward_negative | scale_by::reciprocal,
           {.round = rounding::toward_negative, .divide = scale_by::reciprocal});
    expect(int8 | stochastic(42, 7), {.round = rounding::stochastic, .seed = 42, .stream = 7});
    expect(int8 | stochastic(42, 7, 1000),
           {.round = rounding::stochastic, .seed = 42, .stream = 7, .first_index = 1000});
}

TEST_CASE("Unsigned formats are affine unless said otherwise, and ACIQ on them needs to know its statistics") {
    auto x = weights(1, 2000, 5);
    for (float& value : x) value = std::max(value, 0.0f);
    CHECK(quantize(x, uint4 | aciq()).status().code == errc::statistics_mismatch);
    const auto q = quantize(x, uint4 | aciq() | statistics::after_relu);
    REQUIRE(q);
    CHECK(q->params()[0].zero_point == 0);
    for (float& value : x) value -= 0.25f;
    const auto shifted = quantize(x, uint8);
    REQUIRE(shifted);
    CHECK(shifted->params()[0].zero_point > 0);
}

TEST_CASE("Empty tensors, NaN, zero ranges and 16 bits have defined results") {
    const std::vector<float> empty;
    const auto none =
        quantize(view(empty.data(), 0, 4), int4 | per_axis(0) | aciq() | average_bits(4) | bias_corrected);
    REQUIRE(none);
    CHECK(none->size() == 0);
    CHECK(average_bits(*none) == 0);
    std::vector<float> nothing;
    CHECK(dequantize(*none, view(nothing.data(), 0, 4)));

    const auto hollow =
        quantize(view(empty.data(), 4, 0), int4 | per_axis(0) | mse_optimal | average_bits(4) | bias_corrected);
    REQUIRE(hollow);
    CHECK(hollow->params().size() == 4);
    CHECK(hollow->corrections()[3] == channel_correction{});

    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> dirty{1.0f, nan, -2.0f, std::numeric_limits<float>::infinity()};
    const auto q = quantize(dirty, int8 | bias_corrected);
    REQUIRE(q);
    CHECK(q->params()[0].scale == 2.0f / 128.0f);
    CHECK(q->codes<std::int8_t>()[1] == 0);
    CHECK(q->codes<std::int8_t>()[3] == 127);

    const std::vector<float> zeros(10, 0.0f);
    for (const auto& r : {quantize(zeros, int4 | aciq()), quantize(zeros, int4 | entropy), quantize(zeros, int4)}) {
        REQUIRE(r);
        CHECK(r->params()[0] == affine_params{1.0f, 0, int4});
    }
    const auto wide = quantize(weights(2, 10, 6), int16 | per_tensor);
    REQUIRE(wide);
    CHECK(wide->stores<std::int16_t>());
}

TEST_CASE("What a scheme cannot do is an error that names the argument") {
    const auto w = weights(4, 10, 7);
    const auto v = view(w, 4, 10);
    const auto failure = [&](const auto& scheme) { return quantize(v, scheme).status(); };
    CHECK(failure(per_axis(2) | int4).code == errc::axis_out_of_range);
    CHECK(failure(per_group(1, 0) | int4).code == errc::invalid_group_size);
    CHECK(failure(code_format{9, true} | per_axis(0)).code == errc::bits_out_of_range);
    CHECK(failure(int1.narrow() | per_axis(0)).code == errc::bits_out_of_range);
    CHECK(failure(int4 | per_axis(0) | average_bits(1.0f, {2, 8})).code == errc::budget_infeasible);
    CHECK(failure(int16 | per_axis(0) | average_bits(4.0f)).code == errc::bits_out_of_range);
    CHECK(failure(int4 | percentile(0)).code == errc::invalid_argument);
    const std::array<std::uint8_t, 3> widths{4, 4, 4};
    const status s = failure(int4 | per_axis(0) | bits(widths));
    CHECK(s.code == errc::shape_mismatch);
    CHECK(std::string_view(s.argument) == "bits");
    const std::array<std::uint8_t, 4> silly{4, 12, 4, 4};
    CHECK(failure(int4 | per_axis(0) | bits(silly)).code == errc::bits_out_of_range);
}

TEST_CASE("A scheme keeps the planes that prune_planes keeps, and corrects what that leaves") {
    const std::vector<float> w = weights(6, 40, 9);
    const auto v = view(w, 6, 40);
    const auto base = int5 | per_axis(0) | aciq(prior::laplace);
    const auto plain = quantize(v, base), sparse = quantize(v, bit_sparsified(2) | base | bias_corrected);
    REQUIRE((plain && sparse));
    std::vector<std::int8_t> codes(plain->codes<std::int8_t>().begin(), plain->codes<std::int8_t>().end());
    const auto kept = prune_planes(view(codes, 6, 40), plain->params(), per_axis(0), {.max_planes = 2});
    REQUIRE(kept);
    CHECK(kept->squared_error > 0);
    CHECK(std::ranges::equal(sparse->codes<std::int8_t>(), codes));
    std::vector<channel_correction> corrections(6);
    REQUIRE(bias_correction(v, view(codes, 6, 40), plain->params(), corrections, per_axis(0)));
    CHECK(std::ranges::equal(sparse->corrections(), corrections));
    CHECK(choose_planes(codes).size() <= 4);
    CHECK(quantize(v, int16 | bit_sparsified(2)).status().code == errc::bits_out_of_range);
    CHECK(quantize(v, int8 | mapping::affine | bit_sparsified(2)).status().code == errc::invalid_zero_point);
    CHECK(quantize(v, int8 | bit_sparsified(9)).status().code == errc::invalid_argument);
}

TEST_CASE("Strides change nothing: a transposed view gives the codes of its copy") {
    const auto w = weights(12, 20, 8);
    const auto v = view(w, 12, 20);
    const auto t = v.permute({1, 0});
    std::vector<float> copy(w.size());
    for (std::size_t i = 0; i < 20; ++i)
        for (std::size_t j = 0; j < 12; ++j) copy[i * 12 + j] = w[j * 20 + i];
    const auto scheme = int4 | per_axis(1) | aciq() | average_bits(4) | bias_corrected;
    const auto a = quantize(t, scheme), b = quantize(view(copy, 20, 12), scheme);
    REQUIRE(a);
    REQUIRE(b);
    same(*a, *b);
}

TEST_CASE("An owned tensor of any storage and granularity restores by its own parameters") {
    const std::vector<float> w = weights(5, 14, 9);
    std::vector<float> restored(w.size());
    const auto restores = [&](const auto& q, code_format format, std::size_t group_size) {
        REQUIRE(q);
        CHECK(q->format() == format);
        CHECK(std::ranges::equal(q->extents(), std::array<std::size_t, 2>{5, 14}));
        REQUIRE(dequantize(*q, view(restored.data(), 5, 14)));
        const std::size_t groups = (14 + group_size - 1) / group_size;
        REQUIRE(q->params().size() == 5 * groups);
        double bits = 0;
        int wrong = 0;
        q->visit_codes([&]<class Code>(std::span<const Code> codes) {
            CHECK(sizeof(Code) == (format.bits > 8 ? 2 : 1));
            CHECK(std::is_signed_v<Code> == format.is_signed);
            for (std::size_t i = 0; i < codes.size(); ++i) {
                const affine_params& p = q->params()[i / 14 * groups + i % 14 / group_size];
                bits += p.format.bits;
                wrong += restored[i] != static_cast<float>(+codes[i] - p.zero_point) * p.scale ? 1 : 0;
            }
        });
        CHECK(wrong == 0);
        CHECK(average_bits(*q) == bits / 70);
    };
    restores(quantize(view(w.data(), 5, 14), int4 | per_group(1, 4)), int4, 4);
    restores(quantize(view(w.data(), 5, 14), uint8 | per_group(1, 7)), uint8, 7);
    restores(quantize(view(w.data(), 5, 14), int16 | per_axis(0)), int16, 14);
    restores(quantize(view(w.data(), 5, 14), uint16 | per_axis(-2)), uint16, 14);
}
