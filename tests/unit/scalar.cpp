// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <array>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/core/scalar.hpp>
#include <vector>

using quant::affine_params;
using quant::bfloat16;
using quant::float16;
using quant::quantize_options;
using quant::rounding;
using quant::scale_by;

namespace {

constexpr rounding roundings[] = {rounding::nearest_even, rounding::half_away, rounding::toward_negative,
                                  rounding::stochastic};
constexpr scale_by divisions[] = {scale_by::division, scale_by::reciprocal};
constexpr float inf = std::numeric_limits<float>::infinity(), no_number = std::numeric_limits<float>::quiet_NaN();

/// Scales at which quotients are exact, at which they are not, and the two ends.
constexpr float scales[] = {
    1.0f, 0x1p-7f, 0.1f, 3.3f / 127, 1.00000012f, 0x1.fffffep10f, quant::min_scale, quant::max_scale};

constexpr affine_params with_scale(affine_params p, float scale) { return {scale, p.zero_point, p.format}; }

/// Formats and zero points: both ends, the middle, full and narrow.
constexpr affine_params kinds[] = {{1, 0, quant::int8},    {1, 0, quant::int8.narrow()}, {1, 128, quant::uint8},
                                   {1, 255, quant::uint8}, {1, -8, quant::int4},         {1, 0, quant::int1},
                                   {1, 0, quant::int16},   {1, 32768, quant::uint16}};

/// Compares one element in every rounding and division; counts the differences.
template <class T> int differences(T x, const affine_params& p, std::uint64_t index) {
    int wrong = 0;
    for (const rounding round : roundings)
        for (const scale_by divide : divisions) {
            const quantize_options options{.round = round, .divide = divide, .seed = 11};
            wrong += quant::quantize_one(x, p, options, index) != reference::quantize(x, p, options, index);
        }
    return wrong;
}

float float_of(std::uint64_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits)); }

} // namespace

TEST_CASE("every bfloat16 value quantizes as the formula says", "[scalar]") {
    for (const float scale : scales) {
        int wrong = 0;
        for (std::uint32_t pattern = 0; pattern < 65536; ++pattern)
            wrong += differences(bfloat16{static_cast<std::uint16_t>(pattern)}, with_scale(kinds[pattern % 8], scale),
                                 pattern);
        INFO("scale " << scale);
        CHECK(wrong == 0);
    }
}

TEST_CASE("every float16 value quantizes as the formula says", "[scalar]") {
    int wrong = 0;
    for (std::uint32_t pattern = 0; pattern < 65536; ++pattern)
        for (const float scale : {0.1f, 0x1p-3f})
            wrong += differences(float16{static_cast<std::uint16_t>(pattern)}, with_scale(kinds[pattern % 8], scale),
                                 pattern);
    CHECK(wrong == 0);
}

TEST_CASE("floats of every exponent quantize as the formula says", "[scalar]") {
    for (const float scale : scales) {
        int wrong = 0;
        std::uint64_t count = 0;
        for (std::uint64_t u = 0; u < (std::uint64_t{1} << 32); u += 65521, ++count) // a prime
            wrong += differences(float_of(u), with_scale(kinds[count % 8], scale), count);
        INFO("scale " << scale);
        CHECK(wrong == 0);
    }
}

TEST_CASE("floats around every tie and every whole step quantize as the formula says", "[scalar]") {
    int wrong = 0;
    for (const float scale : scales)
        for (const affine_params& kind : kinds) {
            const affine_params p = with_scale(kind, scale);
            for (int half_steps = -600; half_steps <= 600; ++half_steps) {
                float x = static_cast<float>(half_steps) * 0.5f * scale;
                for (int i = 0; i < 3; ++i) x = std::nextafter(x, -inf);
                for (int i = 0; i < 7; ++i, x = std::nextafter(x, inf))
                    wrong += differences(x, p, static_cast<std::uint64_t>(half_steps + 600));
            }
        }
    CHECK(wrong == 0);
}

TEST_CASE("doubles are divided and rounded in double", "[scalar]") {
    int wrong = 0;
    for (const float scale : scales)
        for (const affine_params& kind : kinds) {
            const affine_params p = with_scale(kind, scale);
            for (int half_steps = -300; half_steps <= 300; ++half_steps) {
                const double tie = half_steps * 0.5 * static_cast<double>(scale);
                for (const double x : {tie, std::nextafter(tie, -1e300), std::nextafter(tie, 1e300)})
                    wrong += differences(x, p, static_cast<std::uint64_t>(half_steps + 300));
            }
        }
    for (std::uint64_t i = 0; i < 50000; ++i) {
        const auto x = std::bit_cast<double>(quant::random_bits(7, 7, i));
        wrong += differences(x, with_scale(kinds[i % 8], scales[i / 8 % 8]), i);
    }
    CHECK(wrong == 0);
    // In float this would be a tie: 0.5 + 2^-30 needs more than 24 bits.
    CHECK(quant::quantize_one(0.5 + 0x1p-30, affine_params{1, 0, quant::int8}) == 1);
    CHECK(quant::quantize_one(0.5f, affine_params{1, 0, quant::int8}) == 0);
}

TEST_CASE("each rounding treats ties and rests as its name says", "[scalar]") {
    constexpr affine_params p{1, 0, quant::int8};
    struct row {
        float x;
        int even, away, floor;
    };
    constexpr row rows[] = {{0.5f, 0, 1, 0},          {-0.5f, 0, -1, -1},      {1.5f, 2, 2, 1},
                            {-1.5f, -2, -2, -2},      {2.5f, 2, 3, 2},         {-2.5f, -2, -3, -3},
                            {0.25f, 0, 0, 0},         {-0.25f, 0, 0, -1},      {0.75f, 1, 1, 0},
                            {-0.75f, -1, -1, -1},     {-0.0f, 0, 0, 0},        {3.0f, 3, 3, 3},
                            {-3.0f, -3, -3, -3},      {126.5f, 126, 127, 126}, {-127.5f, -128, -128, -128},
                            {127.49f, 127, 127, 127}, {127.5f, 127, 127, 127}, {-128.5f, -128, -128, -128},
                            {0x1p-149f, 0, 0, 0},     {-0x1p-149f, 0, 0, -1}};
    for (const row& r : rows) {
        INFO("x " << r.x);
        CHECK(quant::quantize_one(r.x, p) == r.even);
        CHECK(quant::quantize_one(r.x, p, {.round = rounding::half_away}) == r.away);
        CHECK(quant::quantize_one(r.x, p, {.round = rounding::toward_negative}) == r.floor);
    }
}

TEST_CASE("NaN becomes the zero point and infinities the outermost codes, in every mode", "[scalar]") {
    for (const affine_params& kind : kinds)
        for (const float scale : scales)
            for (const rounding round : roundings)
                for (const scale_by divide : divisions) {
                    const affine_params p = with_scale(kind, scale);
                    const quantize_options options{.round = round, .divide = divide};
                    const auto q = [&](auto x) { return quant::quantize_one(x, p, options, 5); };
                    CHECK((q(no_number) == p.zero_point && q(-no_number) == p.zero_point && q(0.0f) == p.zero_point &&
                           q(-0.0f) == p.zero_point && q(std::numeric_limits<double>::quiet_NaN()) == p.zero_point));
                    CHECK((q(inf) == p.format.qmax() && q(-inf) == p.format.qmin()));
                    CHECK((q(static_cast<double>(inf)) == p.format.qmax() &&
                           q(static_cast<double>(-inf)) == p.format.qmin()));
                    CHECK((q(bfloat16{0x7F80}) == p.format.qmax() && q(float16{0xFC00}) == p.format.qmin()));
                    CHECK((q(float16{0x7E00}) == p.zero_point && q(bfloat16{0x7FC1}) == p.zero_point));
                }
}

TEST_CASE("division and reciprocal differ where the two definitions do", "[scalar]") {
    // Counted on a grid, so that a swap of the two, or one standing for both, is noticed.
    int different = 0, wrong = 0;
    for (int scale_step = 1; scale_step < 40; ++scale_step)
        for (int i = -255; i <= 255; i += 2) {
            const affine_params p{static_cast<float>(scale_step) * 0.037f, 0, quant::int8};
            const float x = static_cast<float>(i) * 0.5f * p.scale; // near a tie
            const int by_division = quant::quantize_one(x, p);
            const int by_reciprocal = quant::quantize_one(x, p, {.divide = scale_by::reciprocal});
            different += by_division != by_reciprocal;
            wrong += by_division != reference::quantize(x, p);
            wrong += by_reciprocal != reference::quantize(x, p, {.divide = scale_by::reciprocal});
        }
    CHECK(wrong == 0);
    CHECK(different > 10);
}

TEST_CASE("dequantization is one exact difference and one rounded product", "[scalar]") {
    int wrong = 0;
    for (const affine_params& kind : kinds)
        for (const float scale : {0.1f, 3.3f / 127, quant::min_scale, quant::max_scale, 1.0f}) {
            const affine_params p = with_scale(kind, scale);
            const int step = p.format.bits == 16 ? 17 : 1;
            for (std::int32_t code = p.format.qmin(); code <= p.format.qmax(); code += step) {
                wrong += static_cast<double>(quant::dequantize_one(code, p)) != reference::dequantize<float>(code, p);
                wrong += quant::dequantize_one<double>(code, p) != reference::dequantize<double>(code, p);
                wrong += reference::value(quant::dequantize_one<float16>(code, p)) !=
                         reference::dequantize<float16>(code, p);
                wrong += reference::value(quant::dequantize_one<bfloat16>(code, p)) !=
                         reference::dequantize<bfloat16>(code, p);
            }
        }
    CHECK(wrong == 0);
}

TEST_CASE("fake quantization is dequantize of quantize, idempotent, and never a negative zero", "[scalar]") {
    int wrong = 0, moved = 0, negative_zeros = 0;
    for (const affine_params& kind : kinds)
        for (const float scale : scales)
            for (const rounding round : roundings) {
                const affine_params p = with_scale(kind, scale);
                const quantize_options options{.round = round};
                for (std::uint64_t i = 0; i < 600; ++i) {
                    // Half of them around zero and the range, half anywhere.
                    const float near = (quant::random_uniform(1, 1, i) - 0.5f) * 300.0f * scale;
                    const float x = i % 2 == 0 ? near : float_of(quant::random_bits(1, 2, i));
                    const float once = quant::fake_quant_one(x, p, options, i);
                    wrong += once != quant::dequantize_one(quant::quantize_one(x, p, options, i), p);
                    negative_zeros += once == 0 && std::signbit(once);
                    // A representable value is a whole number of steps away from zero, up to the rounding of the product;
                    // floor and stochastic see that rounding, so the claim is for the two nearest modes.
                    if (round == rounding::nearest_even || round == rounding::half_away)
                        moved += quant::fake_quant_one(once, p, options, i + 1) != once;
                }
                for (const float x : {0.0f, -0.0f, -0x1p-149f, no_number, -scale / 4}) {
                    const float y = quant::fake_quant_one(x, p, {.round = rounding::nearest_even});
                    negative_zeros += y != 0 || std::signbit(y);
                }
            }
    CHECK(wrong == 0);
    CHECK(moved == 0);
    CHECK(negative_zeros == 0);
    static_assert(quant::fake_quant_one(1.3f, affine_params{0.5f, 0, quant::int8}) == 1.5f);
    static_assert(quant::quantize_one(1.3, affine_params{0.5f, 3, quant::uint4}) == 6);
}

TEST_CASE("inside the range the error is at most half a step and two units in the last place", "[scalar]") {
    int wrong = 0;
    for (const affine_params& kind : kinds)
        for (const float scale : scales)
            for (const scale_by divide : divisions) {
                const affine_params p = with_scale(kind, scale);
                const quant::clip_range range = quant::representable_range(p);
                for (std::uint64_t i = 0; i < 2000; ++i) {
                    const auto u = static_cast<double>(quant::random_uniform(9, 4, i));
                    const auto x = static_cast<float>(range.lo + u * (range.hi - range.lo));
                    if (static_cast<double>(x) < range.lo || static_cast<double>(x) > range.hi) continue;
                    const float y = quant::fake_quant_one(x, p, {.divide = divide});
                    const double error = std::fabs(static_cast<double>(y) - static_cast<double>(x));
                    const double ulp =
                        static_cast<double>(std::nextafter(std::fabs(x), inf)) - static_cast<double>(std::fabs(x));
                    wrong += error > static_cast<double>(scale) / 2 + 2 * ulp;
                }
            }
    CHECK(wrong == 0);
}

TEST_CASE("quantization is monotone in the deterministic roundings", "[scalar]") {
    int wrong = 0;
    for (const rounding round : {rounding::nearest_even, rounding::half_away, rounding::toward_negative})
        for (const scale_by divide : divisions)
            for (const affine_params& kind : kinds)
                for (const float scale : {0.1f, 0.037f, 1.0f, quant::min_scale}) {
                    const affine_params p = with_scale(kind, scale);
                    std::int32_t last = p.format.qmin();
                    float x = -5.0f * scale;
                    for (int i = 0; i < 3000; ++i) {
                        const std::int32_t code = quant::quantize_one(x, p, {.round = round, .divide = divide});
                        wrong += code < last;
                        last = code;
                        x += i % 3 == 0 ? scale * 0.01f : (std::nextafter(x, inf) - x);
                    }
                }
    CHECK(wrong == 0);
}

TEST_CASE("stochastic rounding picks the upper neighbour as often as the rest says", "[scalar]") {
    constexpr affine_params p{0.5f, 0, quant::int8};
    const int draws = 20000;
    for (const float x : {0.05f, 0.25f, 0.4f, -0.1f, -0.45f, 10.125f}) {
        int upper = 0, outside = 0;
        const double steps = static_cast<double>(x) / 0.5, below = std::floor(steps), rest = steps - below;
        for (int i = 0; i < draws; ++i) {
            const int code =
                quant::quantize_one(x, p, {.round = rounding::stochastic, .seed = 77}, static_cast<std::uint64_t>(i));
            upper += code == static_cast<int>(below) + 1;
            outside += code != static_cast<int>(below) && code != static_cast<int>(below) + 1;
        }
        INFO("x " << x);
        CHECK(outside == 0);
        CHECK(std::fabs(upper - draws * rest) < 5 * std::sqrt(draws * rest * (1 - rest))); // five standard deviations
    }
    for (int i = 0; i < 1000; ++i) // whole steps never move
        CHECK(quant::quantize_one(-3.0f, p, {.round = rounding::stochastic}, static_cast<std::uint64_t>(i)) == -6);
}

TEST_CASE("the seed, the stream, the first index and the index all reach stochastic rounding", "[scalar]") {
    constexpr affine_params p{1, 0, quant::int8};
    const auto codes = [&](quantize_options options, std::uint64_t from) {
        options.round = rounding::stochastic;
        std::array<std::int32_t, 64> out{};
        for (std::size_t i = 0; i < 64; ++i) out[i] = quant::quantize_one(0.5f, p, options, from + i);
        return out;
    };
    const auto base = codes({.seed = 1}, 0);
    CHECK(codes({.seed = 2}, 0) != base);
    CHECK(codes({.seed = 1, .stream = 1}, 0) != base);
    CHECK(codes({.seed = 1}, 100) != base);
    CHECK(codes({.seed = 1, .first_index = 100}, 0) == codes({.seed = 1}, 100));
}
