// SPDX-License-Identifier: MIT
// Requantization against the rules in 64-bit integers and long double, and the vector kernels against the definition.
#include "archs.hpp"
#include "reference/quantize.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <quant/core/random.hpp>
#include <quant/requantize.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

using quant::errc;
using quant::granularity;
using quant::output_codes;
using quant::quantized_multiplier;
using quant::requantization;

namespace {

using wide = std::int64_t; // enough: products of 32-bit integers are at most 2^62, and half of that is added to them

constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min(),
                       highest = std::numeric_limits<std::int32_t>::max();
constexpr requantization fixed_rules[] = {requantization::double_rounding, requantization::single_rounding};

wide clamp_wide(wide v, wide lo, wide hi) { return v < lo ? lo : (v > hi ? hi : v); }
wide floor_divide(wide a, wide b) { return a / b - (a % b < 0 ? 1 : 0); }

/// The rules as TFLite's sources state them: truncating divisions for the doubling product, magnitudes for ties away from zero.
wide fixed_steps(std::int32_t a, const quantized_multiplier& m, requantization rule) {
    if (rule == requantization::single_rounding) {
        const wide unit = wide{1} << (31 - m.shift);
        return floor_divide(wide{a} * m.mantissa + unit / 2, unit); // shift <= 30: half of the unit is whole
    }
    const int left = std::max(m.shift, 0), right = std::max(-m.shift, 0);
    const wide shifted = clamp_wide(wide{a} * (wide{1} << left), lowest, highest);
    const wide product = shifted * m.mantissa;
    const wide high = (product + (product >= 0 ? wide{1} << 30 : 1 - (wide{1} << 30))) / (wide{1} << 31);
    const wide size = ((high < 0 ? -high : high) * 2 + (wide{1} << right)) / (wide{2} << right);
    return high < 0 ? -size : size;
}
wide float_steps(std::int32_t a, float m) {
    const auto rounded = static_cast<float>(static_cast<long double>(a));
    const auto product = static_cast<float>(static_cast<long double>(rounded) * static_cast<long double>(m));
    if (!(std::abs(product) < 0x1p60f)) return product < 0 ? -(wide{1} << 60) : wide{1} << 60;
    return static_cast<wide>(reference::round_even(static_cast<long double>(product)));
}
std::int32_t code_of(wide steps, const output_codes& out) {
    const wide lo = std::max(out.lo, out.format.qmin()), hi = std::min(out.hi, out.format.qmax());
    return static_cast<std::int32_t>(clamp_wide(steps + out.zero_point, lo, hi));
}
std::int32_t expected(std::int32_t a, std::int32_t bias, float m, requantization, const output_codes& out) {
    return code_of(float_steps(static_cast<std::int32_t>(clamp_wide(wide{a} + bias, lowest, highest)), m), out);
}
std::int32_t expected(std::int32_t a, std::int32_t bias, const quantized_multiplier& m, requantization rule,
                      const output_codes& out) {
    return code_of(fixed_steps(static_cast<std::int32_t>(clamp_wide(wide{a} + bias, lowest, highest)), m, rule), out);
}

/// Accumulators of every magnitude, with the extremes among them.
std::vector<std::int32_t> accumulators(std::size_t n, std::uint64_t seed) {
    std::vector<std::int32_t> out;
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t bits = quant::random_bits(seed, 0, i);
        out.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(bits)) >> (bits >> 32) % 32);
        if (i % 37 == 5) out.back() = i % 2 == 0 ? lowest : highest;
    }
    return out;
}
/// Multipliers that spread those accumulators over the codes; `sizes` of 2^-20 … 2^30.
quantized_multiplier fixed_multiplier(std::size_t i, int lo, int hi) {
    const std::uint64_t bits = quant::random_bits(9, 1, i);
    quantized_multiplier m{static_cast<std::int32_t>((1u << 30) | (static_cast<std::uint32_t>(bits) & 0x3FFFFFFF)),
                           lo + static_cast<std::int32_t>((bits >> 32) % static_cast<unsigned>(hi - lo + 1))};
    if (i % 11 == 3) m.mantissa = 1 << 30;
    if (i % 13 == 7) m.mantissa = highest;
    if (i % 17 == 9) m.mantissa = 0;
    return m;
}
template <class Multiplier> Multiplier multiplier(std::size_t i, bool halved) {
    if constexpr (std::is_same_v<Multiplier, float>)
        return static_cast<float>(quant::real_multiplier(fixed_multiplier(i, -31, halved ? -1 : 30)));
    else
        return fixed_multiplier(i, -31, halved ? -1 : 30);
}

template <class Code> std::vector<output_codes> outputs() {
    constexpr bool is_signed = std::is_signed_v<Code>;
    constexpr quant::code_format full = quant::full_range_format<Code>;
    const std::int32_t middle = is_signed ? -3 : full.qmax() / 2;
    const quant::code_format four = is_signed ? quant::int4 : quant::uint4;
    return {{full, 0}, {full, full.qmin()}, {full, middle, middle, middle + 60}, {four, 2}, {four, four.qmax(), 1, 6}};
}

} // namespace

TEST_CASE("requantize: the fixed-point multiplier of a real one", "[requantize]") {
    STATIC_REQUIRE(*quant::quantize_multiplier(.0003921568627) == quantized_multiplier{1724724122, -11});
    STATIC_REQUIRE(*quant::quantize_multiplier(.25) == quantized_multiplier{1 << 30, -1});
    STATIC_REQUIRE(*quant::quantize_multiplier(0) == quantized_multiplier{});
    STATIC_REQUIRE(*quant::quantize_multiplier(1) == quantized_multiplier{1 << 30, 1});
    // Rounds up to the next power of two.
    STATIC_REQUIRE(*quant::quantize_multiplier(1 - 0x1p-53) == quantized_multiplier{1 << 30, 1});
    STATIC_REQUIRE(*quant::quantize_multiplier(1 - 0x1p-31) == quantized_multiplier{highest, 0});
    STATIC_REQUIRE(*quant::quantize_multiplier(0x1p29) == quantized_multiplier{1 << 30, 30});
    STATIC_REQUIRE(*quant::quantize_multiplier(0x1p-32) == quantized_multiplier{1 << 30, -31});
    STATIC_REQUIRE(*quant::quantize_multiplier(0x1.8p-33) == quantized_multiplier{});
    STATIC_REQUIRE(*quant::quantize_multiplier(0x1p-1074) == quantized_multiplier{});
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (const double bad : {-0x1p-40, 0x1p30, 0x1p30 - 1e-7, infinity, std::numeric_limits<double>::quiet_NaN()})
        CHECK(quant::quantize_multiplier(bad).status().code == errc::invalid_scale);
    int wrong = 0;
    for (std::size_t i = 0; i < 20000; ++i) {
        const std::uint64_t bits = quant::random_bits(1, 0, i);
        // Also ties: significands of 32 bits.
        const auto significand = static_cast<double>(i % 2 == 0 ? (bits >> 12) : ((bits >> 33) * 2 + 1));
        const double real = std::ldexp(significand, static_cast<int>(bits % 60) - 84);
        int shift = 0;
        const double q = std::frexp(real, &shift);
        auto mantissa = std::round(std::ldexp(q, 31)); // half away from zero
        if (mantissa == 0x1p31) {
            mantissa /= 2;
            ++shift;
        }
        const auto found = quant::quantize_multiplier(real);
        if (shift > 30) {
            wrong += static_cast<bool>(found);
        } else if (shift < -31) {
            wrong += *found != quantized_multiplier{};
        } else {
            wrong += *found != quantized_multiplier{static_cast<std::int32_t>(mantissa), shift};
            wrong += quant::real_multiplier(*found) != std::ldexp(mantissa, shift - 31);
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("requantize: published examples of TFLite's two rules", "[requantize]") {
    constexpr quantized_multiplier quarter{1 << 30, -1}, eighth{1 << 30, -2};
    constexpr auto twice = requantization::double_rounding, once = requantization::single_rounding;
    const std::int32_t x[] = {2, -2, 6, -6}, by_two[] = {1, -1, 2, -2}, by_one[] = {1, 0, 2, -1};
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(quant::scaled_steps(x[i], quarter, twice) == by_two[i]);
        CHECK(quant::scaled_steps(x[i], quarter, once) == by_one[i]);
    }
    STATIC_REQUIRE(quant::scaled_steps(11, eighth, twice) == 2); // of 1.375
    STATIC_REQUIRE(quant::scaled_steps(11, eighth, once) == 1);
    STATIC_REQUIRE(quant::scaled_steps(-11, eighth, twice) == -1);
    STATIC_REQUIRE(quant::scaled_steps(-11, eighth, once) == -1);
    STATIC_REQUIRE(quant::saturating_rounding_doubling_high_mul(lowest, lowest) == highest);
    STATIC_REQUIRE(quant::saturating_rounding_doubling_high_mul(lowest, highest) == -highest);
    STATIC_REQUIRE(quant::rounding_divide_by_pot(-3, 1) == -2);
    STATIC_REQUIRE(quant::rounding_divide_by_pot(lowest, 31) == -1);
    STATIC_REQUIRE(quant::rounding_divide_by_pot(highest, 31) == 1);
    STATIC_REQUIRE(quant::rounding_divide_by_pot(lowest, 0) == lowest);
    // The rules differ in a few percent of ordinary cases.
    int differ = 0;
    for (std::size_t i = 0; i < 20000; ++i) {
        const double real = 1e-4 + static_cast<double>(quant::random_uniform(3, 0, i)) * (0.1 - 1e-4);
        const auto a = static_cast<std::int32_t>(quant::random_uniform(3, 1, i) * 40000) - 20000;
        const quantized_multiplier m = *quant::quantize_multiplier(real);
        differ += quant::scaled_steps(a, m, twice) != quant::scaled_steps(a, m, once);
    }
    CHECK((differ > 600 && differ < 900)); // 3.7 %
}

TEST_CASE("requantize: every shift and the extremes, in 64-bit integers", "[requantize]") {
    int wrong = 0;
    std::vector<std::int32_t> values = {0, 1, -1, 2, -2, 3, -3, lowest, lowest + 1, highest, highest - 1};
    for (int k = 2; k < 31; ++k)
        for (const int d : {-1, 0, 1}) {
            values.push_back((1 << k) + d);
            values.push_back(-(1 << k) + d);
        }
    const std::vector<std::int32_t> more = accumulators(100, 5);
    values.insert(values.end(), more.begin(), more.end());
    for (std::int32_t shift = -31; shift <= 30; ++shift)
        for (const std::int32_t mantissa : {0, 1 << 30, (1 << 30) + 1, 3 << 29, 1518500250, highest - 1, highest})
            for (const requantization rule : fixed_rules)
                for (const std::int32_t a : values) {
                    const quantized_multiplier m{mantissa, shift};
                    const auto want = static_cast<std::int32_t>(clamp_wide(fixed_steps(a, m, rule), lowest, highest));
                    wrong += quant::scaled_steps(a, m, rule) != want;
                }
    CHECK(wrong == 0);
    for (const std::int32_t a : values)
        for (const std::int32_t b : values)
            wrong += quant::saturating_sum(a, b) != static_cast<std::int32_t>(clamp_wide(wide{a} + b, lowest, highest));
    CHECK(wrong == 0);
}

TEST_CASE("requantize: one value in every rule and format", "[requantize]") {
    int wrong = 0;
    const std::vector<std::int32_t> values = accumulators(3000, 6), bias = accumulators(3000, 7);
    const auto check = [&](const std::vector<output_codes>& all) {
        for (const output_codes& out : all)
            for (std::size_t i = 0; i < values.size(); ++i) {
                const quantized_multiplier m = fixed_multiplier(i, -31, 30);
                for (const requantization rule : fixed_rules)
                    wrong += quant::requantize_one(values[i], m, rule, out, bias[i]) !=
                             expected(values[i], bias[i], m, rule, out);
                const auto real = static_cast<float>(quant::real_multiplier(m));
                wrong += quant::requantize_one(values[i], real, out) !=
                         expected(values[i], 0, real, requantization::float_multiplier, out);
            }
    };
    check(outputs<std::int8_t>());
    check(outputs<std::uint16_t>());
    CHECK(wrong == 0);
    // One real multiplier in all three rules: never more than a step apart.
    for (const output_codes& out : {output_codes{quant::int8, 3}, output_codes{quant::uint16, 500}})
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double real =
                std::ldexp(1.0 + static_cast<double>(quant::random_uniform(8, 0, i)), static_cast<int>(i % 40) - 31);
            const quantized_multiplier m = *quant::quantize_multiplier(real);
            const std::int32_t codes[] = {quant::requantize_one(values[i], static_cast<float>(real), out),
                                          quant::requantize_one(values[i], m, fixed_rules[0], out),
                                          quant::requantize_one(values[i], m, fixed_rules[1], out)};
            wrong += *std::max_element(codes, codes + 3) - *std::min_element(codes, codes + 3) > 1;
        }
    CHECK(wrong == 0);
    // A product beyond float, a multiplier of zero, ties to even.
    constexpr float most = std::numeric_limits<float>::max();
    CHECK(quant::requantize_one(lowest, most, output_codes{}) == -128);
    CHECK(quant::requantize_one(highest, most, output_codes{}) == 127);
    CHECK(quant::requantize_one(0, most, output_codes{}) == 0);
    CHECK(quant::requantize_one(lowest, 0.0f, output_codes{quant::uint8, 7}) == 7);
    const std::int32_t odd[] = {-5, -3, -1, 1, 3, 5}, even[] = {-2, -2, 0, 0, 2, 2};
    for (std::size_t i = 0; i < 6; ++i) CHECK(quant::requantize_one(odd[i], 0.5f, output_codes{}) == even[i]);
    // 2^24 + 1 is rounded to float first.
    CHECK(quant::requantize_one((1 << 24) + 1, 0x1p-10f, output_codes{quant::int16, 0}) == 1 << 14);
}

TEST_CASE("requantize: activations become limits of the codes", "[requantize]") {
    constexpr quant::affine_params p{0.05f, -20, quant::int8};
    STATIC_REQUIRE(quant::all_codes(p).lowest() == -128);
    STATIC_REQUIRE(quant::relu_codes(p).lowest() == -20);
    STATIC_REQUIRE(quant::relu_codes(p).highest() == 127);
    constexpr output_codes relu6 = quant::clipped_codes(p, {0, 6});
    STATIC_REQUIRE(relu6.lowest() == -20);
    STATIC_REQUIRE(relu6.highest() == 100);
    STATIC_REQUIRE(quant::requantize_one(1000, 1.0f, relu6) == 100);
    STATIC_REQUIRE(quant::requantize_one(-1000, 1.0f, relu6) == -20);
    STATIC_REQUIRE(quant::clipped_codes({0.01f, 0, quant::uint8}, {0, 6}).highest() == 255); // 600 is no code
}

#if QUANT_HAS_XSIMD
TEMPLATE_LIST_TEST_CASE("requantize: lanes of 32 bits", "[requantize]", test::archs) {
    if constexpr (!quant::simd::is_scalar<TestType>) {
        using batch = xsimd::batch<std::int32_t, TestType>;
        constexpr std::size_t lanes = batch::size;
        const std::vector<std::int32_t> a = accumulators(64 * lanes, 21), b = accumulators(64 * lanes, 22);
        int wrong = 0;
        for (std::size_t i = 0; i < a.size(); i += lanes) {
            std::vector<std::int32_t> positive(lanes), counts(lanes), up(lanes);
            for (std::size_t k = 0; k < lanes; ++k) {
                positive[k] = b[i + k] == lowest ? highest : std::abs(b[i + k]);
                counts[k] = static_cast<std::int32_t>((i + 5 * k) % 32);
                up[k] = (i + k) % 2 == 0 ? 1 : 0;
            }
            const auto x = batch::load_unaligned(&a[i]), y = batch::load_unaligned(&b[i]),
                       p = batch::load_unaligned(positive.data()), c = batch::load_unaligned(counts.data());
            const auto same = [&](const batch& found, auto want) {
                for (std::size_t k = 0; k < lanes; ++k) wrong += found.get(k) != static_cast<std::int32_t>(want(k));
            };
            same(quant::simd::plus_saturated(x, y),
                 [&](std::size_t k) { return clamp_wide(wide{a[i + k]} + b[i + k], lowest, highest); });
            const auto product = [&](std::size_t k) { return wide{a[i + k]} * positive[k]; };
            const auto nearest = [&](std::size_t k) { return floor_divide(product(k) + (1 << 30), wide{1} << 31); };
            const auto below = [&](std::size_t k) { return floor_divide(product(k), wide{1} << 31); };
            same(quant::simd::doubled_high<true>(x, p), nearest);
            same(quant::simd::doubled_high<false>(x, p), below);
            same(quant::simd::doubled_high_generic<true>(x, p), nearest);
            same(quant::simd::doubled_high_generic<false>(x, p), below);
            same(quant::simd::shift_down(x, c),
                 [&](std::size_t k) { return floor_divide(a[i + k], wide{1} << counts[k]); });
            same(quant::simd::shift_down(x, counts[0]),
                 [&](std::size_t k) { return floor_divide(a[i + k], wide{1} << counts[0]); });
            const auto doubled = [&](std::int32_t v, int by) {
                return static_cast<std::int32_t>(static_cast<std::uint32_t>(v) << by);
            };
            same(quant::simd::shift_up(x, c), [&](std::size_t k) { return doubled(a[i + k], counts[k]); });
            same(quant::simd::shift_up(x, counts[0]), [&](std::size_t k) { return doubled(a[i + k], counts[0]); });
        }
        CHECK(wrong == 0);
    }
}
#endif

namespace {

/// Runs of every length at odd addresses, with one multiplier and with one per element, with and without bias.
template <class Arch, class Multiplier, class Code> int kernel_mistakes(requantization rule, bool halved) {
    constexpr std::size_t stride = test::slow ? 7 : 1;
    constexpr std::size_t most = 2 * quant::simd::widest_step + 3, channels = 29;
    const std::vector<std::int32_t> source = accumulators(most + 3, 11), bias = accumulators(channels * 2, 12);
    std::vector<Multiplier> m(channels * 2);
    for (std::size_t i = 0; i < m.size(); ++i) m[i] = multiplier<Multiplier>(i, halved);
    const auto tile = std::make_unique<quant::simd::channel_arrays<Multiplier, most>>();
    const std::vector<output_codes> all = outputs<Code>();
    constexpr Code canary = 0x5A;
    int wrong = 0;
    std::size_t turn = 0;
    for (std::size_t n = 0; n <= most; n += (n < 8 ? 1 : stride))
        for (const bool with_bias : {false, true})
            for (const bool own : {false, true}) {
                const output_codes& out = all[turn % all.size()];
                const std::size_t offset = turn % 3;
                ++turn;
                const auto channel = [&](std::size_t i) { return own ? i % channels * 2 : turn % m.size(); };
                quant::simd::channel_run<Multiplier> run{&m[channel(0)], with_bias ? &bias[channel(0)] : nullptr, 0};
                std::vector<std::int32_t> exact(source.begin() + static_cast<std::ptrdiff_t>(offset),
                                                source.begin() + static_cast<std::ptrdiff_t>(offset + n));
                std::vector<Code> codes(n + 2 * offset + 1, canary);
                std::vector<Multiplier> repeated;
                std::vector<std::int32_t> repeated_bias;
                if (own) {
                    tile->load(m.data(), with_bias ? bias.data() : nullptr, 2, channels, n);
                    for (std::size_t i = 0; i < n; ++i) {
                        repeated.push_back(m[channel(i)]);
                        repeated_bias.push_back(bias[channel(i)]);
                    }
                    run = {repeated.data(), with_bias ? repeated_bias.data() : nullptr, 1, tile->lanes()};
                }
                quant::simd::requantize<Arch>(exact.data(), codes.data() + offset, n, run, rule, out);
                for (std::size_t i = 0; i < n; ++i)
                    wrong += codes[offset + i] !=
                             expected(exact[i], with_bias ? bias[channel(i)] : 0, m[channel(i)], rule, out);
                for (std::size_t i = 0; i < codes.size(); ++i)
                    wrong += (i < offset || i >= offset + n) && codes[i] != canary;
            }
    return wrong;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("requantize: kernels give the definition's codes", "[requantize]", test::archs) {
    for (const bool halved : {true, false}) {
        CAPTURE(halved);
        // How steps become codes of a type does not depend on the rule.
        constexpr requantization twice = requantization::double_rounding, once = requantization::single_rounding;
        CHECK(kernel_mistakes<TestType, float, std::int8_t>(requantization::float_multiplier, halved) == 0);
        CHECK(kernel_mistakes<TestType, quantized_multiplier, std::uint8_t>(twice, halved) == 0);
        CHECK(kernel_mistakes<TestType, quantized_multiplier, std::uint16_t>(once, halved) == 0);
        if constexpr (!test::slow)
            CHECK(kernel_mistakes<TestType, float, std::int16_t>(requantization::float_multiplier, halved) == 0);
    }
}

namespace {

/// All of a view, element by element.
template <class Multiplier, class Code, std::size_t Rank>
int view_mistakes(const quant::tensor_view<const std::int32_t, Rank>& acc, const quant::tensor_view<Code, Rank>& codes,
                  granularity g, requantization rule) {
    const auto map = quant::resolve(g, acc.extents());
    if (!map) return 1000;
    std::vector<Multiplier> m(map->count);
    for (std::size_t i = 0; i < m.size(); ++i) m[i] = multiplier<Multiplier>(i + acc.size(), i % 2 == 0);
    const std::vector<std::int32_t> bias = accumulators(map->count, acc.size());
    const output_codes out = outputs<Code>()[acc.size() % 5];
    int wrong = 0;
    for (const bool with_bias : {false, true}) {
        const quant::requantize_options options{
            .rule = rule, .bias = with_bias ? std::span<const std::int32_t>(bias) : std::span<const std::int32_t>()};
        wrong += !quant::requantize(acc, codes, m, g, out, options);
        std::array<std::size_t, Rank> at{};
        for (std::size_t i = 0; i < acc.size(); ++i) {
            std::size_t rest = i, from = 0, to = 0;
            for (std::size_t d = Rank; d-- > 0; rest /= acc.extent(d)) {
                at[d] = rest % acc.extent(d);
                from += at[d] * acc.stride(d);
                to += at[d] * codes.stride(d);
            }
            const std::size_t s = map->slice_of(at);
            wrong += codes.data()[to] != expected(acc.data()[from], with_bias ? bias[s] : 0, m[s], rule, out);
        }
    }
    return wrong;
}
template <class Code, std::size_t Rank>
int view_mistakes(const quant::tensor_view<const std::int32_t, Rank>& acc, const quant::tensor_view<Code, Rank>& codes,
                  granularity g) {
    return view_mistakes<float>(acc, codes, g, requantization::float_multiplier) +
           view_mistakes<quantized_multiplier>(acc, codes, g, requantization::double_rounding) +
           view_mistakes<quantized_multiplier>(acc, codes, g, requantization::single_rounding);
}

} // namespace

TEST_CASE("requantize: views of any layout, the channel on any axis", "[requantize]") {
    for (const std::size_t columns : {1u, 3u, 16u, 100u, 256u, 257u, 600u, 1100u}) {
        const std::size_t rows = columns > 256 ? 3 : 37;
        const std::vector<std::int32_t> acc = accumulators(rows * columns, columns);
        std::vector<std::int8_t> codes(rows * columns);
        std::vector<std::uint8_t> wide_rows(rows * columns * 2);
        const quant::tensor_view<const std::int32_t, 2> from = quant::view(acc, rows, columns);
        for (const granularity g :
             {quant::per_tensor, quant::per_axis(0), quant::per_axis(1), quant::per_group(1, 32)}) {
            CAPTURE(columns, g.axis);
            CHECK(view_mistakes(from, quant::view(codes, rows, columns), g) == 0);
            // Transposed: the destination, both, and a destination with gaps.
            const auto turned = quant::view(codes, columns, rows).permute({1, 0});
            CHECK(view_mistakes(from, turned, g) == 0);
            const quant::tensor_view<const std::int32_t, 2> turned_from =
                quant::view(acc, columns, rows).permute({1, 0});
            CHECK(view_mistakes(turned_from, turned, g) == 0);
            CHECK(view_mistakes(
                      from,
                      *quant::strided_view(wide_rows.data(), std::array{rows, columns},
                                           std::array{static_cast<std::ptrdiff_t>(2 * columns), std::ptrdiff_t{2}}),
                      g) == 0);
        }
    }
    // A convolution's output, channels first and last.
    const std::vector<std::int32_t> acc = accumulators(std::size_t{2} * 5 * 7 * 7, 3);
    std::vector<std::int16_t> codes(acc.size());
    const quant::tensor_view<const std::int32_t, 4> nchw = quant::view(acc, 2, 5, 7, 7),
                                                    nhwc = quant::view(acc, 2, 7, 7, 5);
    CHECK(view_mistakes(nchw, quant::view(codes, 2, 5, 7, 7), quant::per_axis(1)) == 0);
    CHECK(view_mistakes(nhwc, quant::view(codes, 2, 7, 7, 5), quant::per_axis(-1)) == 0);
    CHECK(view_mistakes(nhwc, quant::view(codes, 2, 5, 7, 7).permute({0, 2, 3, 1}), quant::per_axis(3)) == 0);
}

TEST_CASE("requantize: multipliers of a layer", "[requantize]") {
    const std::vector<float> weights{0.01f, 0.02f, 0x1p-90f};
    std::vector<float> m(3);
    std::vector<quantized_multiplier> fixed(3);
    REQUIRE(quant::requantize_multipliers(0.5f, weights, 0.25f, m));
    REQUIRE(quant::requantize_multipliers(0.5f, weights, 0.25f, fixed));
    CHECK(m == std::vector<float>{0.02f, 0.04f, 0x1p-89f});
    CHECK(fixed[0] == *quant::quantize_multiplier(2 * static_cast<double>(0.01f)));
    CHECK(fixed[2] == quantized_multiplier{});
    CHECK(quant::requantize_multipliers(0.5f, weights, 0.25f, std::span(m).first(2)).code == errc::shape_mismatch);
    CHECK(quant::requantize_multipliers(0.0f, weights, 0.25f, m).code == errc::invalid_scale);
    CHECK(quant::requantize_multipliers(0.5f, weights, -1.0f, m).code == errc::invalid_scale);
    CHECK(quant::requantize_multipliers(0x1p40f, weights, 1.0f, fixed).code == errc::invalid_scale);
    CHECK(quant::requantize_multipliers(0x1p90f, weights, 0x1p-90f, m).code == errc::invalid_scale);
}

TEST_CASE("requantize: what is refused", "[requantize]") {
    std::vector<std::int32_t> acc(6, 100);
    std::vector<std::int8_t> codes(6, 1);
    std::vector<float> m(3, 0.1f);
    std::vector<quantized_multiplier> fixed(3, {1 << 30, -2});
    const auto from = quant::view(acc, 2, 3);
    const auto code = [&](const auto& multipliers, granularity g, const output_codes& out,
                          const quant::requantize_options& options = {}) {
        return quant::requantize(from, codes, multipliers, g, out, options).code;
    };
    constexpr output_codes out{};
    constexpr quant::requantize_options twice{.rule = requantization::double_rounding};
    CHECK(code(m, quant::per_axis(1), out) == errc::ok);
    CHECK(code(fixed, quant::per_axis(1), out, twice) == errc::ok);
    CHECK(codes == std::vector<std::int8_t>(6, 13)); // 12.5, away from zero
    codes.assign(6, 1);
    CHECK(code(m, quant::per_axis(1), out, twice) == errc::invalid_argument);
    CHECK(code(fixed, quant::per_axis(1), out) == errc::invalid_argument);
    CHECK(code(m, quant::per_axis(0), out) == errc::shape_mismatch);
    CHECK(code(m, quant::per_axis(2), out) == errc::axis_out_of_range);
    CHECK(code(m, quant::per_axis(1), {quant::uint8, 0}) == errc::storage_too_narrow);
    CHECK(code(m, quant::per_axis(1), {quant::int4, 8}) == errc::invalid_zero_point);
    CHECK(code(m, quant::per_axis(1), {{9, true}, 0}) == errc::bits_out_of_range);
    CHECK(code(m, quant::per_axis(1), {quant::int8, 0, 5, 4}) == errc::invalid_range);
    CHECK(code(m, quant::per_axis(1), {quant::int8, 0, 128}) == errc::invalid_range);
    const std::vector<std::int32_t> bias(2);
    CHECK(code(m, quant::per_axis(1), out, {.bias = bias}) == errc::shape_mismatch);
    for (const float bad : {-1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        m[1] = bad;
        CHECK(code(m, quant::per_axis(1), out) == errc::invalid_scale);
    }
    for (const quantized_multiplier bad :
         {quantized_multiplier{1, 0}, {-(1 << 30), 0}, {1 << 30, 31}, {1 << 30, -32}}) {
        fixed[2] = bad;
        CHECK(code(fixed, quant::per_axis(1), out, twice) == errc::invalid_scale);
    }
    CHECK(quant::requantize(from, std::span(codes).first(5), 0.1f, out).code == errc::shape_mismatch);
    CHECK(codes == std::vector<std::int8_t>(6, 1)); // nothing was written
    // One multiplier, and nothing to do.
    CHECK(quant::requantize(from, codes, quantized_multiplier{1 << 30, -2}, out, twice));
    CHECK(codes[5] == 13);
    CHECK(quant::requantize(quant::view(acc.data(), 0, 3), quant::view(codes.data(), 0, 3), m, quant::per_axis(0), out)
              .code == errc::shape_mismatch);
    m.assign(3, 0.1f);
    CHECK(
        quant::requantize(quant::view(acc.data(), 0, 3), quant::view(codes.data(), 0, 3), m, quant::per_axis(1), out));
    CHECK(quant::requantize(quant::view(acc.data(), 0, 3), quant::view(codes.data(), 0, 3), std::span<const float>(),
                            quant::per_axis(0), out));
}
