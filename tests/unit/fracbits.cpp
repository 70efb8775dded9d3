// SPDX-License-Identifier: MIT
// FracBits: integer widths are the plain quantizer, widths between them mix, gradients against differences, costs, and integers at the end.
#include "archs.hpp"
#include "support.hpp"
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/fracbits.hpp>
#include <set>
#include <span>
#include <vector>

using quant::errc;
namespace fracbits = quant::fracbits;
using test::names;
using test::same_bytes;
using test::uniform;

namespace {

template <class T> std::vector<T> numbers(std::size_t n, std::uint64_t seed, double reach) {
    std::vector<T> v(n);
    for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<T>(reach * uniform(seed, 0, i));
    return v;
}

/// Formula (R1), ties to even.
double at_width(double u, double width) {
    const auto q = [u](int k) {
        const double levels = std::ldexp(1.0, k) - 1;
        return std::nearbyint(levels * u) / levels;
    };
    const int l = width >= 8 ? 7 : static_cast<int>(width);
    const double r = width - l;
    return (1 - r) * q(l) + r * q(l + 1);
}
/// Formula (R2) with factor 1.
double weight_at(double w, double largest, double width) {
    return 2 * at_width(std::tanh(w) / (2 * largest) + 0.5, width) - 1;
}

} // namespace

TEST_CASE("fractional weights follow the formula; integer widths are integers times a step") {
    const auto w = numbers<double>(300, 1, 1.5);
    double largest = 0;
    for (const double x : w) largest = std::max(largest, std::abs(std::tanh(x)));
    std::vector<double> to(w.size());
    for (const double width : {1.0, 1.5, 2.0, 2.5, 3.75, 6.1, 7.0, 7.9, 8.0}) {
        const std::vector<double> widths{width};
        REQUIRE(fracbits::forward(w, to, widths));
        std::size_t wrong = 0; // a value within rounding of a tie may go either way
        for (std::size_t i = 0; i < w.size(); ++i)
            wrong += std::abs(to[i] - weight_at(w[i], largest, width)) < 1e-12 ? 0 : 1;
        CHECK(wrong == 0);
        if (width != std::floor(width)) continue;
        std::vector<std::int16_t> codes(w.size());
        std::vector<double> scale(1);
        const std::vector<std::uint8_t> bits{static_cast<std::uint8_t>(width)};
        REQUIRE(fracbits::harden(w, codes, scale, bits));
        bool exact = true, odd = true;
        for (std::size_t i = 0; i < w.size(); ++i) {
            exact = exact && static_cast<double>(codes[i]) * scale[0] == to[i];
            odd = odd && codes[i] % 2 != 0 && std::abs(codes[i]) < (1 << bits[0]);
        }
        CHECK((exact && odd));
    }
}

TEST_CASE("the output is continuous in the width, and on no grid between integers") {
    const auto w = numbers<double>(200, 2, 1);
    std::vector<double> a(w.size()), b(w.size());
    for (const double width : {1.0, 1.999, 3.0, 4.9995, 7.5, 7.999})
        for (const double more : {1e-3, 1e-6}) {
            const std::vector<double> one{width}, two{width + more};
            REQUIRE(fracbits::forward(w, a, one));
            REQUIRE(fracbits::forward(w, b, two));
            double worst = 0;
            for (std::size_t i = 0; i < w.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
            CHECK(worst <= 2 * more * (1 + 1e-9));
        }
    const auto levels = [](double width) {
        std::vector<double> x(20001), y(20001);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) / 20000;
        REQUIRE(fracbits::forward_activations(x, y, 1, width));
        std::set<std::int64_t> distinct;
        for (const double v : y) distinct.insert(std::llround(v * 1e9));
        return distinct.size();
    };
    CHECK((levels(2.5) == 10 && levels(3.5) == 22 && levels(2) == 4 && levels(8) == 256));
}

TEST_CASE("what a width learns from shrinks by half per bit") {
    std::vector<double> x(100001), low(x.size()), high(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) / 100000;
    const auto mean = [&](int l) {
        REQUIRE(fracbits::forward_activations(x, low, 1, l));
        REQUIRE(fracbits::forward_activations(x, high, 1, l + 1));
        double sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) sum += std::abs(high[i] - low[i]);
        return sum / static_cast<double>(x.size());
    };
    CHECK(std::abs(mean(1) - 0.22) < 0.005);
    CHECK(std::abs(mean(7) - 0.0021) < 0.0001);
}

TEST_CASE("gradients by widths are those of differences, by weights those of the map without rounding") {
    for (const double base : {1.0, 1.5, 2.3, 4.7, 7.2, 8.0})
        for (const std::size_t channels : {std::size_t{1}, std::size_t{3}}) {
            const auto w = numbers<double>(60, 3, 1.2), g = numbers<double>(60, 4, 1);
            constexpr double factor = 0.8;
            std::vector<double> widths(channels), grad(60), of_width(channels), up(60), down(60);
            for (std::size_t c = 0; c < channels; ++c) widths[c] = base == 8 ? 8 : base + 0.1 * static_cast<double>(c);
            REQUIRE(fracbits::backward(w, g, grad, of_width, widths, factor));
            double worst = 0, largest_grad = 0;
            for (std::size_t c = 0; c < channels; ++c) {
                const double h = 1e-5, kept = widths[c], at = std::min(kept + h, 8.0); // at an end: one-sided
                const double from = kept == 1.0 || kept == 8.0 ? at - h : kept - h;
                widths[c] = at;
                REQUIRE(fracbits::forward(w, up, widths, factor));
                widths[c] = from;
                REQUIRE(fracbits::forward(w, down, widths, factor));
                widths[c] = kept;
                double difference = 0;
                for (std::size_t i = 0; i < 60; ++i) difference += g[i] * (up[i] - down[i]) / (at - from);
                worst = std::max(worst, std::abs(difference - of_width[c]));
                largest_grad = std::max(largest_grad, std::abs(of_width[c]));
            }
            CAPTURE(base, channels);
            CHECK(worst < 1e-6 * largest_grad);
            double largest = 0;
            for (const double x : w) largest = std::max(largest, std::abs(std::tanh(x)));
            for (std::size_t i = 0; i < 60; ++i) {
                const double h = 1e-5,
                             difference = factor * (std::tanh(w[i] + h) - std::tanh(w[i] - h)) / (2 * h * largest);
                CHECK(std::abs(g[i] * difference - grad[i]) < 1e-6);
            }
        }
}

TEST_CASE("activations: the formula, its gradients, and both rules of the clip range") {
    const auto x = numbers<double>(200, 5, 3), g = numbers<double>(200, 6, 1);
    std::vector<double> y(200), dx(200), up(200), down(200);
    for (const double width : {1.5, 4.0, 7.3, 8.0}) {
        constexpr double clip = 1.7;
        REQUIRE(fracbits::forward_activations(x, y, clip, width));
        const auto calibrated = fracbits::backward_activations(x, g, dx, clip, width);
        const auto plain = fracbits::backward_activations(x, g, dx, clip, width, fracbits::clip_gradient::plain);
        REQUIRE((calibrated && plain));
        double inside_sum = 0, above = 0, of_width = 0;
        const double lower = width == 8 ? 7 : std::floor(width);
        for (std::size_t i = 0; i < 200; ++i) {
            const double z = std::clamp(x[i], 0.0, clip) / clip;
            const bool inside = x[i] > 0 && x[i] < clip;
            CHECK(std::abs(y[i] - clip * at_width(z, width)) < 1e-12);
            CHECK(dx[i] == (inside ? g[i] : 0));
            inside_sum += inside ? g[i] * (at_width(z, width) - z) : 0;
            above += x[i] >= clip ? g[i] : 0;
            of_width += g[i] * clip * (at_width(z, lower + 1) - at_width(z, lower));
        }
        CHECK(std::abs(calibrated->width - of_width) < 1e-10);
        CHECK(std::abs(calibrated->clip - (inside_sum + above)) < 1e-10);
        CHECK(std::abs(plain->clip - above) < 1e-10);
    }
}

TEST_CASE("one width per channel, all the same, is one width per layer; float follows double") {
    const auto w = numbers<float>(96, 7, 0.4), g = numbers<float>(96, 8, 1);
    const std::vector<float> one{3.3f}, many(8, 3.3f);
    std::vector<float> a(96), b(96), da(96), db(96), wa(1), wb(8);
    REQUIRE(fracbits::forward(w, a, one));
    REQUIRE(fracbits::forward(w, b, many));
    CHECK(same_bytes(a, b));
    REQUIRE(fracbits::backward(w, g, da, wa, one));
    REQUIRE(fracbits::backward(w, g, db, wb, many));
    CHECK(same_bytes(da, db));
    float sum = 0;
    for (const float d : wb) sum += d;
    CHECK(std::abs(sum - wa[0]) < 1e-5f * (1 + std::abs(sum)));
    const std::vector<double> wide(w.begin(), w.end()), wide_width{static_cast<double>(3.3f)};
    std::vector<double> c(96);
    REQUIRE(fracbits::forward(wide, c, wide_width));
    std::size_t far = 0;
    for (std::size_t i = 0; i < 96; ++i) far += std::abs(static_cast<double>(a[i]) - c[i]) < 1e-5 ? 0 : 1;
    CHECK(far == 0);
}

TEST_CASE("costs are the interpolation between integer widths; penalties point to the target") {
    for (const double a : {1.0, 2.3, 5.5})
        for (const double b : {1.7, 4.0, 7.9}) {
            const double la = std::floor(a), ra = a - la, lb = std::floor(b), rb = b - lb;
            const double four = (1 - ra) * (1 - rb) * la * lb + (1 - ra) * rb * la * (lb + 1) +
                                ra * (1 - rb) * (la + 1) * lb + ra * rb * (la + 1) * (lb + 1);
            const std::array<fracbits::layer_cost, 1> layer{{{10, 7, a, b}}};
            CHECK(std::abs(fracbits::bit_operations(layer) - 7 * four) < 1e-12 * 7 * four);
            CHECK(std::abs(fracbits::model_bits(layer) - 10 * a) < 1e-12);
        }
    CHECK((*fracbits::penalty_slope(3, 2, 1) == 0.5 && *fracbits::penalty_slope(1, 2, 1) == -0.5 &&
           *fracbits::penalty_slope(2, 2, 1) == 0));
    const std::array<quant::layer_bits, 2> layers{{{100, 4}, {300, 2}}};
    CHECK(std::abs(*fracbits::budget_slope(layers, 0, {.target_bits = 2}) - 0.25) < 1e-15);
    CHECK(std::abs(*fracbits::budget_slope(layers, 1, {.target_bits = 3}) + 0.75) < 1e-15);
    CHECK(*fracbits::budget_slope(layers, 1, {.target_bits = 2.5}) == 0);
    // The slope is that of the mean by the width.
    const std::array<quant::layer_bits, 2> more{{{100, 4 + 1e-6}, {300, 2}}};
    CHECK(std::abs((*quant::mean_bits(more) - *quant::mean_bits(layers)) / 1e-6 - 0.25) < 1e-6);
}

TEST_CASE("discretized widths meet the budget as closely as one offset can") {
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        std::vector<float> widths;
        std::vector<std::size_t> elements;
        double mean = 0, all = 0;
        for (std::size_t l = 0; l < 6; ++l) {
            widths.push_back(static_cast<float>(4.5 + 3.4 * uniform(seed, 1, l)));
            elements.push_back(10 + quant::random_bits(seed, 2, l) % 1000);
            mean += static_cast<double>(widths[l]) * static_cast<double>(elements[l]);
            all += static_cast<double>(elements[l]);
        }
        const double target = std::max(1.0, mean / all);
        std::vector<std::uint8_t> bits(6);
        const auto offset = fracbits::discretize<float>(widths, elements, bits, {.target_bits = target});
        REQUIRE(offset);
        double total = 0;
        for (std::size_t l = 0; l < 6; ++l) total += static_cast<double>(elements[l]) * bits[l];
        CHECK(total <= 1.01 * target * all);
        CHECK((*offset >= -1 && *offset <= 1));
        CHECK(total >= (target - 1) * all); // not needlessly small
    }
}

TEST_CASE("scale-adjusted weights have the spread asked for") {
    const auto w = numbers<float>(640, 9, 0.7);
    std::vector<float> to(640);
    const std::vector<float> widths{2.5f};
    REQUIRE(fracbits::forward(w, to, widths));
    const auto factor = fracbits::sat_factor(to, 64);
    REQUIRE(factor);
    REQUIRE(fracbits::forward(w, to, widths, *factor));
    double mean = 0, square = 0;
    for (const float x : to) mean += static_cast<double>(x) / 640;
    for (const float x : to) square += (static_cast<double>(x) - mean) * (static_cast<double>(x) - mean) / 640;
    CHECK(std::abs(square * 64 - 1) < 1e-5);
}

TEMPLATE_LIST_TEST_CASE("FracBits' loops are the same bytes on every architecture", "", test::archs) {
    using scalar = quant::simd::scalar;
    const auto bits = [](double x) { return std::bit_cast<std::uint64_t>(x); };
    for (std::size_t n = 0; n <= 65; n += n < 35 ? 1 : 15)
        for (const double width : {1.0, 3.4, 8.0}) {
            const auto x = numbers<float>(n, n, 2), g = numbers<float>(n, n + 100, 1);
            std::vector<float> a(n + 1, 7.0f), b(n + 1, 7.0f);
            const auto m = fracbits::detail::widths_next_to<float>(width, 1.3);
            quant::simd::mix_weights<float, false, scalar>(x.data(), a.data(), n, 0.6f, m);
            quant::simd::mix_weights<float, false, TestType>(x.data(), b.data(), n, 0.6f, m);
            CHECK((same_bytes(a, b) && b[n] == 7));
            const double s =
                quant::simd::mix_weights_backward<float, scalar>(x.data(), g.data(), a.data(), n, 0.6f, 1.1f, m);
            const double t =
                quant::simd::mix_weights_backward<float, TestType>(x.data(), g.data(), b.data(), n, 0.6f, 1.1f, m);
            CHECK((same_bytes(a, b) && bits(s) == bits(t)));
            quant::simd::mix_activations<float, scalar>(x.data(), a.data(), n, 1 / 1.3f, m);
            quant::simd::mix_activations<float, TestType>(x.data(), b.data(), n, 1 / 1.3f, m);
            CHECK(same_bytes(a, b));
            const auto u = quant::simd::mix_activations_backward<float, scalar>(x.data(), g.data(), a.data(), n, 1.3f,
                                                                                1 / 1.3f, m);
            const auto v = quant::simd::mix_activations_backward<float, TestType>(x.data(), g.data(), b.data(), n, 1.3f,
                                                                                  1 / 1.3f, m);
            CHECK((same_bytes(a, b) && bits(u.width) == bits(v.width) && bits(u.rounded) == bits(v.rounded) &&
                   u.above == v.above));
        }
}

TEST_CASE("bad input to FracBits is named, or has a defined result") {
    const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
    std::vector<double> w(6, 0.5), to(6), g(6, 1.0), short_one(5), of_width(1);
    for (const double bad : {0.9, 8.1, nan, infinity}) {
        const std::vector<double> widths{bad};
        CHECK(names(fracbits::forward(w, to, widths), errc::bits_out_of_range, "widths"));
        CHECK(names(fracbits::forward_activations(w, to, 1, bad), errc::bits_out_of_range, "width"));
    }
    const std::vector<double> three{3}, four(4, 3.0);
    for (const double bad : {0.0, -1.0, nan, infinity}) {
        CHECK(names(fracbits::forward(w, to, three, bad), errc::invalid_argument, "factor"));
        CHECK(names(fracbits::forward_activations(w, to, bad, 3), errc::invalid_argument, "clip"));
        CHECK(names(fracbits::penalty_slope(1, bad, 1).status(), errc::invalid_argument, "target"));
    }
    CHECK(names(fracbits::forward(w, to, four), errc::shape_mismatch, "widths"));
    CHECK(names(fracbits::forward(w, short_one, three), errc::shape_mismatch, "weights"));
    CHECK(names(fracbits::backward(w, short_one, to, of_width, three), errc::shape_mismatch, "gradient"));
    g[2] = nan;
    CHECK(names(fracbits::backward(w, g, to, of_width, three), errc::non_finite, "gradient"));
    CHECK(names(fracbits::backward_activations(w, g, to, 1, 3).status(), errc::non_finite, "gradient"));
    CHECK(names(fracbits::forward(g, to, three), errc::non_finite, "latent"));
    std::vector<double> widths{0.3, 9, 4};
    REQUIRE(fracbits::clamp_widths<double>(widths));
    CHECK(widths == std::vector<double>{1, 8, 4});
    widths[1] = nan;
    CHECK(names(fracbits::clamp_widths<double>(widths), errc::non_finite, "widths"));
    std::vector<std::int8_t> narrow(6);
    std::vector<double> scale(1);
    const std::vector<std::uint8_t> eight{8}, nine{9};
    CHECK(names(fracbits::harden(w, narrow, scale, eight), errc::storage_too_narrow, "codes"));
    CHECK(names(fracbits::harden(w, narrow, scale, nine), errc::bits_out_of_range, "bits"));
    // Budgets.
    const std::array<quant::layer_bits, 1> layer{{{6, 4}}};
    for (const double bad : {0.5, 8.5, nan})
        CHECK(names(fracbits::budget_slope(layer, 0, {.target_bits = bad}).status(), errc::budget_infeasible,
                    "budget.target_bits"));
    const std::vector<double> large{8.0, 8.0};
    const std::vector<std::size_t> elements{5, 5}, none{0, 0};
    std::vector<std::uint8_t> bits(2, 77);
    CHECK(names(fracbits::discretize<double>(large, elements, bits, {.target_bits = 3}).status(),
                errc::budget_infeasible, "budget.target_bits"));
    CHECK(
        names(fracbits::discretize<double>(large, none, bits, {.target_bits = 3}).status(), errc::no_data, "elements"));
    CHECK((bits[0] == 77 && bits[1] == 77));
    // All-zero weights: one code of +-1 for all of them, no gradient; an empty layer.
    const std::vector<double> zeros(6, 0.0);
    REQUIRE(fracbits::forward(zeros, to, three));
    CHECK((std::abs(to[0]) == 1.0 / 7 && to == std::vector<double>(6, to[0])));
    g[2] = 1;
    std::vector<double> grad(6, 5.0);
    REQUIRE(fracbits::backward(zeros, g, grad, of_width, three));
    CHECK(grad == zeros);
    std::vector<double> nothing;
    REQUIRE(fracbits::forward(nothing, nothing, three));
    REQUIRE(fracbits::backward(nothing, nothing, nothing, of_width, three));
    CHECK(of_width[0] == 0);
    const std::vector<std::uint8_t> four_bits{4};
    CHECK(fracbits::harden(nothing, std::span<std::int8_t>(), scale, four_bits));
    // Hardening is a function of the weights: twice is once.
    std::vector<std::int8_t> codes(6), second(6);
    const std::vector<double> some{0.1, -0.7, 0.3, 0.0, 0.9, -0.2};
    REQUIRE(fracbits::harden(some, codes, scale, four_bits));
    const double before = scale[0];
    REQUIRE(fracbits::harden(some, second, scale, four_bits));
    CHECK((codes == second && scale[0] == before));
    CHECK(names(fracbits::sat_factor(nothing, 4).status(), errc::no_data, "weights"));
    CHECK(*fracbits::sat_factor(zeros, 4) == 1);
}
