// SPDX-License-Identifier: MIT
// Levels of gradient buckets against brute force, the optima of their definitions and the orderings that always hold.
#include <algorithm>
#include <array>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <quant/core/random.hpp>
#include <quant/gradients/levels.hpp>
#include <span>
#include <string_view>
#include <vector>

using quant::errc;
namespace gradients = quant::gradients;
using gradients::threshold_rule;
using floats = std::vector<float>;

namespace {

double wide(float x) { return static_cast<double>(x); }

const floats vector_of_the_specification{-.9f, -.35f, -.2f, -.12f, -.05f, -.02f, 0,    .01f,
                                         .03f, .06f,  .1f,  .15f,  .25f,  .4f,   .55f, 1.3f};

std::vector<std::byte> room(std::size_t n, std::size_t levels) {
    return std::vector<std::byte>(gradients::levels_workspace_size(n, levels));
}
floats orq(const floats& v, std::size_t n) {
    floats levels(n);
    auto w = room(v.size(), n);
    REQUIRE(gradients::orq_levels(v, levels, w));
    return levels;
}
floats asq(const floats& v, std::size_t n) {
    floats levels(n);
    auto w = room(v.size(), n);
    REQUIRE(gradients::asq_levels(v, levels, w));
    return levels;
}
floats uniform(const floats& v, std::size_t n) {
    floats levels(n);
    REQUIRE(gradients::uniform_levels(v, levels));
    return levels;
}
floats refined(const floats& v, floats levels) {
    auto w = room(v.size(), levels.size());
    REQUIRE(gradients::refine_levels(v, levels, w));
    return levels;
}
gradients::two_levels means(const floats& v, threshold_rule rule) {
    auto w = room(v.size(), 2);
    const auto found = gradients::two_level_means(v, rule, w);
    REQUIRE(found);
    return *found;
}
floats qsgd(const floats& v, std::size_t s) {
    double squares = 0;
    for (const float x : v) squares += wide(x) * wide(x);
    floats levels;
    for (std::size_t i = 0; i <= 2 * s; ++i)
        levels.push_back(static_cast<float>(std::sqrt(squares) * (static_cast<double>(i) - static_cast<double>(s)) /
                                            static_cast<double>(s)));
    return levels;
}
float largest(const floats& v) {
    float m = 0;
    for (const float x : v) m = std::max(m, std::abs(x));
    return m;
}
floats ternary(const floats& v) { return {-largest(v), 0, largest(v)}; }
double error(const floats& v, const floats& levels) { return gradients::expected_error(v, levels); }

/// (G1) as it is written.
double error_by_definition(const floats& v, const floats& levels) {
    double sum = 0;
    for (const float x : v) {
        if (x <= levels.front() || x >= levels.back()) {
            const double beyond = x <= levels.front() ? wide(levels.front()) - wide(x) : wide(x) - wide(levels.back());
            sum += beyond * beyond;
            continue;
        }
        for (std::size_t k = 0; k + 1 < levels.size(); ++k)
            if (levels[k] <= x && x < levels[k + 1])
                sum += (wide(levels[k + 1]) - wide(x)) * (wide(x) - wide(levels[k]));
    }
    return sum;
}
/// The least error of any table of n elements that spans v, without prefix sums or monotonicity.
double least_error(floats v, std::size_t n) {
    std::sort(v.begin(), v.end());
    const std::size_t d = v.size();
    const auto cost = [&](std::size_t k, std::size_t j) {
        double sum = 0;
        for (std::size_t t = k; t <= j; ++t) sum += (wide(v[j]) - wide(v[t])) * (wide(v[t]) - wide(v[k]));
        return sum;
    };
    std::vector<double> before(d), best(d);
    for (std::size_t j = 0; j < d; ++j) before[j] = cost(0, j);
    for (std::size_t k = 2; k < n; ++k) {
        for (std::size_t j = 0; j < d; ++j) {
            best[j] = std::numeric_limits<double>::infinity();
            for (std::size_t i = 0; i <= j; ++i) best[j] = std::min(best[j], before[i] + cost(i, j));
        }
        before = best;
    }
    return before[d - 1];
}
/// Normal, long-tailed, of few distinct values, with an offset, one outlier: by the number.
floats bucket(std::size_t n, std::uint64_t number) {
    floats v(n);
    for (std::size_t i = 0; i < n; ++i) {
        const double a = 1.0 - static_cast<double>(quant::random_uniform(7, number, 2 * i));
        const double b = static_cast<double>(quant::random_uniform(7, number, 2 * i + 1));
        const double normal = std::sqrt(-2 * std::log(a)) * std::cos(6.283185307179586 * b);
        switch (number % 5) {
        case 0: v[i] = static_cast<float>(normal); break;
        case 1: v[i] = static_cast<float>(normal * std::exp(2 * normal)); break;
        case 2: v[i] = static_cast<float>(std::round(normal * 2) / 4); break;
        case 3: v[i] = static_cast<float>(1000 + normal); break;
        default: v[i] = static_cast<float>(i == 0 ? 1e6 : normal * 1e-3);
        }
    }
    return v;
}

} // namespace

TEST_CASE("levels and errors of the specification's vector") {
    const floats& v = vector_of_the_specification;
    const auto near = [](double x) { return Catch::Approx(x).epsilon(2e-7); };
    CHECK(orq(v, 3) == floats{-.9f, .03f, 1.3f});
    CHECK(orq(v, 5) == floats{-.9f, -.2f, .03f, .4f, 1.3f});
    CHECK(orq(v, 9) == floats{-.9f, -.35f, -.2f, -.05f, .03f, .15f, .4f, .55f, 1.3f});
    struct row {
        std::size_t n;
        double orq, asq, refined, uniform, qsgd;
    };
    for (const row& r :
         {row{3, 1.8574, 1.8574, 1.8574, 2.5311, 4.842469375}, row{5, .3324, .3192, .3192, .7766, 1.520020698},
          row{9, .0310, .0279, .0468, .18535, .399073437}}) {
        CHECK(error(v, orq(v, r.n)) == near(r.orq));
        CHECK(error(v, asq(v, r.n)) == near(r.asq));
        CHECK(error(v, refined(v, uniform(v, r.n))) == near(r.refined));
        CHECK(error(v, uniform(v, r.n)) == near(r.uniform));
        CHECK(error(v, qsgd(v, r.n / 2)) == near(r.qsgd));
    }
    CHECK(error(v, ternary(v)) == near(2.5951));
    const float b = *gradients::pb_level(v);
    CHECK(b == .234375f);
    CHECK(error(v, {-b, b}) == near(2.17419375));
    const auto mean = means(v, threshold_rule::mean);
    CHECK(mean.threshold == near(.075625));
    CHECK(mean.low == near(-.154));
    CHECK(mean.high == near(.4583333333));
    CHECK(gradients::squared_error(v, mean) == near(1.744323333));
    for (const auto rule : {threshold_rule::lloyd, threshold_rule::two_means}) {
        CHECK(means(v, rule).low == near(-.08));
        CHECK(means(v, rule).high == near(.75));
        CHECK(gradients::squared_error(v, means(v, rule)) == near(1.4712));
    }
    CHECK(gradients::squared_error(v, means(v, threshold_rule::zero)) == Catch::Approx(1.981383).epsilon(1e-6));
    double sign = 0;
    for (const float x : v) sign += std::pow(std::abs(wide(x)) - .280625, 2);
    CHECK(sign == Catch::Approx(1.981894).epsilon(1e-6));
}

TEST_CASE("five levels by halving can be worse than equidistant ones") {
    const floats v{0, 0, 0, .25f, .5f, .75f, .75f, .75f, .75f, .75f, 1};
    CHECK(error(v, uniform(v, 5)) == 0);
    CHECK(orq(v, 5) == floats{0, .25f, .75f, .75f, 1});
    CHECK(error(v, orq(v, 5)) == .0625);
    CHECK(error(v, asq(v, 5)) == 0);
    CHECK(error(v, refined(v, uniform(v, 5))) == 0); // why equidistant levels are what refinement starts from
}

TEST_CASE("orderings of the errors that always hold") {
    for (std::uint64_t number = 0; number < 60; ++number) {
        const floats v = bucket(24 + number, number);
        CAPTURE(number);
        // Errors of the offset buckets are differences of numbers a million times as large.
        const double slack = 1 + 1e-9, floor = 1e-9;
        const auto at_most = [&](double a, double b) { return a <= b * slack + floor; };
        CHECK(at_most(error(v, orq(v, 3)), error(v, ternary(v))));
        CHECK(at_most(error(v, ternary(v)), error(v, qsgd(v, 1))));
        CHECK(error(v, orq(v, 3)) == Catch::Approx(least_error(v, 3)).epsilon(1e-9).margin(floor));
        for (const std::size_t n : {4u, 5u, 9u}) {
            const floats best = asq(v, n);
            CHECK(error(v, best) == Catch::Approx(least_error(v, n)).epsilon(1e-6).margin(1e-6));
            CHECK(at_most(error(v, best), error(v, qsgd(v, n / 2)) + 1e-6));
            CHECK(at_most(error(v, refined(v, uniform(v, n))), error(v, uniform(v, n))));
            CHECK(std::is_sorted(best.begin(), best.end()));
            if (n != 4) {
                const floats halved = orq(v, n);
                CHECK(at_most(error(v, best), error(v, halved) + 1e-6));
                CHECK(at_most(error(v, refined(v, halved)), error(v, halved)));
                CHECK(at_most(error(v, halved), error(v, qsgd(v, n / 2)))); // not proven: these seeds
                CHECK(std::is_sorted(halved.begin(), halved.end()));
                for (const float level : halved) CHECK(std::find(v.begin(), v.end(), level) != v.end());
            }
            CHECK(error(v, best) == Catch::Approx(error_by_definition(v, best)).epsilon(1e-9).margin(1e-9));
        }
        const double exact = gradients::squared_error(v, means(v, threshold_rule::two_means));
        const double lloyd = gradients::squared_error(v, means(v, threshold_rule::lloyd));
        const double one_bit = gradients::squared_error(v, means(v, threshold_rule::zero));
        CHECK(at_most(exact, lloyd));
        CHECK(at_most(lloyd, gradients::squared_error(v, means(v, threshold_rule::mean))));
        CHECK(at_most(exact, one_bit));
        double magnitude = 0, sign = 0;
        for (const float x : v) magnitude += std::abs(wide(x)) / static_cast<double>(v.size());
        for (const float x : v) sign += std::pow(std::abs(wide(x)) - magnitude, 2);
        CHECK(at_most(one_bit, sign * (1 + 1e-6))); // the mean of the one is rounded to float
    }
}

TEST_CASE("levels by selection are as good as those of the sorted bucket") {
    for (std::uint64_t number = 0; number < 40; ++number) {
        const floats v = bucket(number < 35 ? 300 + 7 * number : 2048, number);
        CAPTURE(number);
        for (const std::size_t n : {3u, 5u, 9u, 17u}) {
            floats selected(n), parted(n), halved(n);
            auto w = room(v.size(), n);
            REQUIRE(gradients::detail::orq_by_parting(v, parted, w));
            if (n < 17)
                REQUIRE(gradients::detail::orq_by_selection(v, selected));
            else
                selected = parted;
            quant::detail::arena memory(w);
            gradients::detail::ordered_bucket sorted;
            REQUIRE(gradients::detail::order_bucket(v, memory, sorted));
            halved.front() = sorted.value.front();
            halved.back() = sorted.value.back();
            for (std::size_t step = (n - 1) / 2; step > 0; step /= 2)
                for (std::size_t k = step; k < n; k += 2 * step)
                    halved[k] = sorted.best_between(halved[k - step], halved[k + step], halved[k - step]);
            if (n < 9) CHECK(orq(v, n) == selected);
            for (const floats& found : {selected, parted})
                if (found != halved) CHECK(error(v, found) == Catch::Approx(error(v, halved)).epsilon(1e-9)); // a tie
        }
    }
    floats few{3, -1, -0.0f, 3, 2, 0, -7};
    gradients::detail::sort_sixteen(few.data(), few.size());
    CHECK(few == floats{-7, -1, 0, 0, 2, 3, 3});
    const floats one_large = [] {
        floats v(1000, 1.5f);
        v[17] = -1e30f;
        v[500] = 1e30f;
        return v;
    }();
    CHECK(orq(one_large, 9) ==
          floats{-1e30f, -1e30f, -1e30f, -1e30f, 1.5f, 1.5f, 1.5f, 1.5f, 1e30f}); // nothing lies between
    CHECK(orq(floats(1000, 2), 9) == floats(9, 2));
}

TEST_CASE("the cost between two elements satisfies the quadrangle inequality") {
    for (std::uint64_t number = 0; number < 5; ++number) {
        floats v = bucket(14, number);
        std::sort(v.begin(), v.end());
        const auto c = [&](std::size_t k, std::size_t j) {
            return error_by_definition(
                {v.begin() + static_cast<std::ptrdiff_t>(k), v.begin() + static_cast<std::ptrdiff_t>(j) + 1},
                {v[k], v[j]});
        };
        for (std::size_t a = 0; a < v.size(); ++a)
            for (std::size_t b = a; b < v.size(); ++b)
                for (std::size_t e = b; e < v.size(); ++e)
                    for (std::size_t f = e; f < v.size(); ++f)
                        if (c(a, e) + c(b, f) > (c(a, f) + c(b, e)) * (1 + 1e-12)) FAIL("at " << a << b << e << f);
    }
}

TEST_CASE("the partially biased level is the closed form, and no other has a lower error") {
    for (std::uint64_t number = 0; number < 80; ++number) {
        const floats v = bucket(number < 40 ? 1 + number : 300 * (number - 39), number);
        CAPTURE(number);
        std::vector<double> a;
        for (const float x : v) a.push_back(std::abs(wide(x)));
        std::sort(a.rbegin(), a.rend());
        double sum = 0, mean = 0, next = a[0]; // A_m for m = 0, and a_(m + 1)
        const auto d = static_cast<double>(v.size());
        for (std::size_t m = 1; m <= a.size(); ++m) {
            sum += a[m - 1];
            if (sum / d < a[m - 1]) {
                mean = sum / d;
                next = m < a.size() ? a[m] : 0;
            }
        }
        const auto b = gradients::pb_level(v);
        REQUIRE(b);
        CHECK(wide(*b) == Catch::Approx(std::max(mean, next)).epsilon(1e-7));
        const double least = error(v, {-*b, *b});
        for (const float other : {*b * 0.9f, *b * 0.999f, *b * 1.001f, *b * 1.1f})
            CHECK(error(v, {-other, other}) >= least * (1 - 1e-6));
    }
}

TEST_CASE("normal gradients reach the constants of the theory") {
    const std::size_t n = 1u << 18;
    const floats v = bucket(n, 0);
    const double b = wide(*gradients::pb_level(v));
    CHECK(b == Catch::Approx(.64714).epsilon(5e-3));
    CHECK(error(v, {-static_cast<float>(b), static_cast<float>(b)}) / n == Catch::Approx(.45387).epsilon(1e-2));
    CHECK(gradients::squared_error(v, means(v, threshold_rule::mean)) / n ==
          Catch::Approx(1 - 2 / 3.14159265).epsilon(1e-2));
    // Means over buckets of 256, as an independent program computes them: 1000 buckets gave .726.
    double to_equal = 0, to_best = 0;
    for (std::size_t i = 0; i < 256; ++i) {
        const floats part(v.begin() + static_cast<std::ptrdiff_t>(256 * i),
                          v.begin() + static_cast<std::ptrdiff_t>(256 * (i + 1)));
        const double halved = error(part, orq(part, 9));
        to_equal += halved / error(part, uniform(part, 9)) / 256;
        to_best += halved / error(part, asq(part, 9)) / 256;
    }
    CHECK(to_equal == Catch::Approx(.73).epsilon(.03));
    CHECK(to_best == Catch::Approx(1.022).epsilon(.01));
}

TEST_CASE("constant buckets, single elements, zeros and equal values have exact levels") {
    for (const float c : {0.0f, -0.0f, -3.7f, 1e-40f, 8e37f})
        for (const std::size_t n : {1u, 2u, 47u, 100u, 300u}) {
            const floats v(n, c);
            for (const floats& levels : {orq(v, 5), asq(v, 5), uniform(v, 5), refined(v, uniform(v, 4))}) {
                CHECK(levels == floats(levels.size(), c));
                CHECK(std::none_of(levels.begin(), levels.end(), [](float x) { return x == 0 && std::signbit(x); }));
            }
            CHECK(*gradients::pb_level(v) == std::abs(c));
            for (const auto rule : {threshold_rule::mean, threshold_rule::lloyd, threshold_rule::two_means}) {
                CHECK(means(v, rule).low == c);
                CHECK(means(v, rule).high == c);
            }
            const auto one_bit = means(v, threshold_rule::zero);
            CHECK(one_bit.low == std::min(c, 0.0f));
            CHECK(one_bit.high == std::max(c, 0.0f));
            CHECK(error(v, orq(v, 3)) == 0);
        }
}

TEST_CASE("levels do not depend on the order of the elements, and an offset only moves them") {
    floats v = bucket(700, 2); // multiples of 1/4
    const floats before = orq(v, 9), best = asq(v, 9);
    std::reverse(v.begin(), v.end());
    std::rotate(v.begin(), v.begin() + 123, v.end());
    CHECK(orq(v, 9) == before);
    CHECK(asq(v, 9) == best);
    for (float& x : v) x += 4096;
    floats moved = before;
    for (float& x : moved) x += 4096;
    CHECK(orq(v, 9) == moved);
}

TEST_CASE("the radix sort orders every float") {
    for (const std::size_t n : {1u, 2u, 47u, 48u, 49u, 255u, 2048u}) {
        std::vector<std::uint32_t> keys, scratch(n);
        floats v;
        for (std::size_t i = 0; i < n; ++i) {
            const auto bits = static_cast<std::uint32_t>(quant::random_bits(3, n, i));
            const float x = std::bit_cast<float>(bits);
            v.push_back(x == x ? x : 0.0f);
            keys.push_back(gradients::detail::order_key(v.back()));
            CHECK(std::bit_cast<std::uint32_t>(gradients::detail::from_key(keys.back())) ==
                  std::bit_cast<std::uint32_t>(v.back()));
        }
        std::uint32_t* const sorted = gradients::detail::sort_keys(keys.data(), scratch.data(), n);
        std::sort(v.begin(), v.end());
        for (std::size_t i = 0; i < n; ++i) CHECK(gradients::detail::from_key(sorted[i]) == v[i]);
    }
}

TEST_CASE("what cannot be placed is named") {
    const auto names = [](quant::status s, errc code, std::string_view argument) {
        return s.code == code && s.argument == argument;
    };
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    floats levels(5), odd(4);
    auto w = room(100, 5);
    floats v = bucket(100, 0);
    CHECK(names(gradients::orq_levels(v, odd, w), errc::invalid_argument, "levels"));
    CHECK(names(gradients::orq_levels({}, levels, w), errc::no_data, "v"));
    CHECK(names(gradients::orq_levels(v, levels, std::span(w).first(100 * 16)), errc::buffer_too_small, "workspace"));
    CHECK(names(gradients::asq_levels(v, levels, std::span(w).first(100 * 40)), errc::buffer_too_small, "workspace"));
    CHECK(names(gradients::refine_levels(v, levels, w), errc::invalid_argument, "levels")); // zeros span nothing
    for (const float bad : {nan, -nan, inf, -inf}) {
        v[60] = bad;
        CHECK(names(gradients::orq_levels(v, levels, w), errc::non_finite, "v"));
        CHECK(names(gradients::asq_levels(v, levels, w), errc::non_finite, "v"));
        CHECK(names(gradients::uniform_levels(v, levels), errc::non_finite, "v"));
        CHECK(names(gradients::pb_level(v).status(), errc::non_finite, "v"));
        CHECK(names(gradients::two_level_means(v, threshold_rule::mean).status(), errc::non_finite, "v"));
    }
}
