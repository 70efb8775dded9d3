// SPDX-License-Identifier: MIT
// Gates: their error in ulp against long double, the same bytes on every architecture, what happens at the ends; schedules, budgets.
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
#include <quant/simd/exponential.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/gate.hpp>
#include <quant/train/schedule.hpp>
#include <vector>

using quant::errc;
using test::same_bytes;

namespace {

constexpr std::uint32_t stride = test::slow ? 40009 : 1009;
constexpr int samples = test::slow ? 20000 : 300000;

/// |got - want| in units of the last place of a T as large as `want`.
template <class T> double ulps(T got, long double want) {
    const int exponent = std::ilogb(want) + 1;
    const long double ulp = std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits);
    return static_cast<double>(std::abs(static_cast<long double>(got) - want) / ulp);
}

struct worst {
    double value = 0, slope = 0;
};
template <class T> void look_sigmoid(T z, worst& w) {
    const auto g = quant::simd::gate_at<T, quant::simd::scalar>(z);
    const long double e = std::exp(-std::abs(static_cast<long double>(z)));
    w.value = std::max(w.value, ulps(g.value, z >= 0 ? 1 / (1 + e) : e / (1 + e)));
    w.slope = std::max(w.slope, ulps(g.slope, e / ((1 + e) * (1 + e))));
}
template <class T> void look_tanh(T x, worst& w) {
    const auto g = quant::simd::tanh_at<T, quant::simd::scalar>(x);
    const long double wide = static_cast<long double>(x), c = std::cosh(wide);
    w.value = std::max(w.value, ulps(g.value, std::tanh(wide)));
    w.slope = std::max(w.slope, ulps(g.slope, 1 / (c * c)));
}

/// Arguments of all sizes and both signs, the ends included.
template <class T> std::vector<T> arguments(std::size_t n, std::uint64_t seed) {
    const T limit = quant::simd::detail::exponential<T>::limit;
    std::vector<T> special{T(0),
                           -T(0),
                           limit,
                           -limit,
                           std::nextafter(limit, T(1000)),
                           T(1e30),
                           -T(1e30),
                           std::numeric_limits<T>::infinity(),
                           -std::numeric_limits<T>::infinity(),
                           std::numeric_limits<T>::denorm_min(),
                           std::numeric_limits<T>::max()};
    std::vector<T> out;
    for (std::size_t i = 0; i < n; ++i) {
        const auto bits = quant::random_bits(seed, 0, i);
        const T size = std::ldexp(static_cast<T>(quant::random_uniform(seed, 1, i)), static_cast<int>(bits % 24) - 14);
        out.push_back(i % 13 == 5 ? special[bits % special.size()] : ((bits >> 40) & 1u) != 0 ? size : -size);
    }
    return out;
}

} // namespace

TEST_CASE("the sigmoid is within 3 ulp and its slope within 5, float and double") {
    worst f, d;
    constexpr std::uint32_t first = 0x30000000, last = 0x42ae0000; // 2^-31 ... 87
    for (std::uint32_t bits = first; bits <= last; bits += stride) {
        look_sigmoid(std::bit_cast<float>(bits), f);
        look_sigmoid(-std::bit_cast<float>(bits), f);
    }
    for (int i = 0; i < samples; ++i) {
        const double u = static_cast<double>(quant::random_bits(1, 0, static_cast<std::uint64_t>(i)) >> 11) * 0x1p-53;
        const double z = i % 3 == 0 ? u * 708 : i % 3 == 1 ? u * 40 : std::ldexp(u, -(i % 40));
        look_sigmoid(z, d);
        look_sigmoid(-z, d);
    }
    CAPTURE(f.value, f.slope, d.value, d.slope);
    CHECK((f.value <= 3 && f.slope <= 5));
    CHECK((d.value <= 3 && d.slope <= 5));
}

TEST_CASE("tanh is within 3 ulp and its slope within 5, also where it is small") {
    worst f, d;
    constexpr std::uint32_t first = 0x00800000, last = 0x422e0000; // the smallest normal number ... 43.5
    for (std::uint32_t bits = first; bits <= last; bits += 3 * stride) look_tanh(std::bit_cast<float>(bits), f);
    for (int i = 0; i < samples; ++i) {
        const double u = static_cast<double>(quant::random_bits(2, 0, static_cast<std::uint64_t>(i)) >> 11) * 0x1p-53;
        look_tanh(i % 2 == 0 ? u * 350 : std::ldexp(u, -(i % 60)), d);
    }
    CAPTURE(f.value, f.slope, d.value, d.slope);
    CHECK((f.value <= 3 && f.slope <= 5));
    CHECK((d.value <= 3 && d.slope <= 5));
    CHECK(quant::simd::tanh_at<float, quant::simd::scalar>(-100.0f).value == -1.0f);
}

TEST_CASE("a gate is one half at zero, 0 or 1 far away, NaN for NaN") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const auto at = [](float z) { return quant::simd::gate_at<float, quant::simd::scalar>(z); };
    CHECK((at(0.0f).value == 0.5f && at(0.0f).slope == 0.25f && at(-0.0f).value == 0.5f));
    for (const float far : {87.5f, 200.0f, 1e38f, infinity}) {
        CHECK((at(far).value == 1 && at(far).slope == 0));
        CHECK((at(-far).value == 0 && at(-far).slope == 0));
    }
    CHECK(at(-87.0f).value > 0);
    CHECK((std::isnan(at(std::nanf("")).value) && std::isnan(at(std::nanf("")).slope)));
    for (float z = -90; z <= 90; z += 0.37f) CHECK(std::abs(at(z).value + at(-z).value - 1) <= 2e-7f);
}

TEMPLATE_LIST_TEST_CASE("gates and products are the same bytes on every architecture", "", test::archs) {
    const auto compare = [](auto one) {
        using T = decltype(one);
        using scalar = quant::simd::scalar;
        for (std::size_t n = 0; n <= 67; n += n < 35 ? 1 : 16) {
            const std::vector<T> m = arguments<T>(n + 3, n);
            std::vector<T> a(n + 1, T(7)), b(n + 1, T(7)), c(n + 1, T(7)), d(n + 1, T(7));
            for (const T beta : {T(1), T(3.7), T(200)}) {
                quant::simd::gates<T, scalar>(m.data() + n % 3, a.data(), b.data(), n, beta);
                quant::simd::gates<T, TestType>(m.data() + n % 3, c.data(), d.data(), n, beta);
                CHECK((same_bytes(a, c) && same_bytes(b, d)));
                CHECK((c[n] == T(7) && d[n] == T(7)));
                quant::simd::gates<T, TestType>(m.data() + n % 3, d.data(), nullptr, n, beta);
                CHECK(same_bytes(a, d));
            }
            std::vector<T> x, y;
            for (std::size_t i = 0; i < n; ++i) {
                x.push_back(static_cast<T>(quant::random_uniform(3, n, i)) / T(3));
                y.push_back(static_cast<T>(quant::random_uniform(4, n, i)) - T(0.3));
            }
            const double expected = quant::simd::dot<T, scalar>(x.data(), y.data(), n);
            CHECK(std::bit_cast<std::uint64_t>(quant::simd::dot<T, TestType>(x.data(), y.data(), n)) ==
                  std::bit_cast<std::uint64_t>(expected));
        }
    };
    compare(1.0f);
    compare(1.0);
    // tanh through the loop the verbs use.
    using A = quant::simd::reduction_arch_t<TestType>;
    const std::vector<float> x = arguments<float>(211, 5);
    std::vector<float> y(x.size());
    quant::simd::detail::for_each_pack<float, A, 1, 1>(
        {x.data()}, {y.data()}, x.size(),
        [](std::size_t, const auto& in, auto& out) { out[0] = quant::simd::tanh_at<float, A>(in[0]).value; });
    for (std::size_t i = 0; i < x.size(); ++i)
        CHECK(std::bit_cast<std::uint32_t>(y[i]) ==
              std::bit_cast<std::uint32_t>(quant::simd::tanh_at<float, quant::simd::scalar>(x[i]).value));
}

TEST_CASE("gates on views: in place, and what they refuse") {
    std::vector<float> m{-1, 0, 1, 2}, g(4), d(4), short_one(3);
    REQUIRE(quant::gates(m, g, d, 2.0));
    for (std::size_t i = 0; i < 4; ++i) {
        const double expected = 1 / (1 + std::exp(-2.0 * static_cast<double>(m[i])));
        CHECK(std::abs(static_cast<double>(g[i]) - expected) < 1e-6);
        CHECK(std::abs(static_cast<double>(d[i]) - expected * (1 - expected)) < 1e-6);
    }
    std::vector<float> in_place = m;
    REQUIRE(quant::gates(in_place, in_place, 2.0));
    CHECK(in_place == g);
    for (const double bad : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
        const auto s = quant::gates(m, g, bad);
        CHECK((s.code == errc::invalid_argument && std::strcmp(s.argument, "temperature") == 0));
    }
    CHECK(quant::gates(m, short_one, 1.0).code == errc::shape_mismatch);
    CHECK(std::strcmp(quant::gates(m, g, short_one, 1.0).argument, "slopes") == 0);
    std::vector<float> none;
    CHECK(quant::gates(none, none, 1.0));
}

TEST_CASE("temperatures rise exponentially and are held; rates fall as a cosine") {
    const quant::exponential_temperature rising{.start = 1, .end = 200, .rising = 0.9};
    CHECK(rising(0, 100) == 1);
    CHECK((rising(90, 100) == 200 && rising(95, 100) == 200 && rising(100, 100) == 200 && rising(500, 100) == 200));
    CHECK(std::abs(rising(45, 100) - std::sqrt(200.0)) < 1e-12);
    CHECK(std::abs(rising(30, 100) / rising(20, 100) - rising(20, 100) / rising(10, 100)) < 1e-12);
    CHECK((rising(-3, 100) == 1 && rising(0, 0) == 200)); // a run of no steps is over
    using temperature = quant::exponential_temperature;
    for (const temperature& bad :
         {temperature{0, 200, 1}, temperature{1, std::nan(""), 1},
          temperature{1, std::numeric_limits<double>::infinity(), 1}, temperature{1, 200, 0}}) {
        CHECK(!quant::validate(bad));
        CHECK(std::isnan(bad(1, 2)));
    }
    const quant::cosine_rate falling{.start = 0.05, .end = 0.01};
    CHECK((falling(0, 10) == 0.05 && falling(10, 10) == 0.01 && std::abs(falling(5, 10) - 0.03) < 1e-15));
}

TEST_CASE("budgets weigh elements or layers, and push toward the target") {
    const std::array<quant::layer_bits, 4> layers{{{100, 8}, {300, 4}, {0, 7}, {600, 2}}};
    using enum quant::budget_weighting;
    CHECK(std::abs(*quant::mean_bits(layers) - 3.2) < 1e-15);
    CHECK(std::abs(*quant::mean_bits(layers, per_layer) - 14.0 / 3) < 1e-15);
    CHECK(std::abs(*quant::budget_excess(layers, {.target_bits = 3}) - 0.2) < 1e-14);
    double shares = 0;
    for (std::size_t l = 0; l < layers.size(); ++l) shares += quant::budget_share(layers, l, per_element);
    CHECK(std::abs(shares - 3) < 1e-14); // a mean of 1 over the layers that have elements
    CHECK((quant::budget_share(layers, 2, per_element) == 0 && quant::budget_share(layers, 0, per_layer) == 1));
    // The sign of the pressure is the sign of the excess; exactly zero on target.
    CHECK(*quant::budget_pressure(layers, 0, {.target_bits = 2}, 8) > 0);
    CHECK(*quant::budget_pressure(layers, 0, {.target_bits = 4}, 8) < 0);
    const std::array<quant::layer_bits, 2> even{{{10, 4}, {10, 2}}};
    CHECK(*quant::budget_pressure(even, 0, {.target_bits = 3}, 8) == 0);
    CHECK(std::abs(*quant::budget_pressure(layers, 1, {.target_bits = 3, .strength = 2}, 8) - 2 * 0.2 / 8 * 0.9) <
          1e-14);
    for (const double bad : {0.9, 8.1, -1.0, std::nan("")}) {
        const auto s = quant::budget_pressure(layers, 0, {.target_bits = bad}, 8).status();
        CHECK((s.code == errc::budget_infeasible && std::strcmp(s.argument, "budget.target_bits") == 0));
    }
    CHECK(quant::budget_pressure(layers, 0, {.strength = -1}, 8).status().code == errc::invalid_argument);
    CHECK(quant::mean_bits({}).status().code == errc::no_data);
    CHECK(quant::mean_bits(std::array<quant::layer_bits, 1>{}).status().code == errc::no_data);
}
