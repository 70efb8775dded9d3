// SPDX-License-Identifier: MIT
// The fit of one step and integers against all integers there are, where these are few, and against a dense search of steps.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/scale_fit.hpp>
#include <quant/core/random.hpp>
#include <span>
#include <string_view>
#include <vector>

using quant::errc;

namespace {

struct fitted {
    double step = 0, error = 0;
    std::vector<int> k;
};

template <class T> fitted fit(const std::vector<T>& r, int largest) {
    std::vector<std::int8_t> k(r.size() + 1, 99);
    std::vector<quant::fit_event> scratch(r.size());
    const auto out = quant::fit_point(r, largest, std::span(k).first(r.size()), scratch);
    REQUIRE(out);
    REQUIRE(k.back() == 99);
    return {out->step, out->error, {k.begin(), k.end() - 1}};
}

double norm(const std::vector<double>& r) {
    double sum = 0;
    for (const double v : r) sum += v * v;
    return sum;
}

double error_of(const std::vector<double>& r, const std::vector<int>& k, double step) {
    double sum = 0;
    for (std::size_t j = 0; j < r.size(); ++j) sum += (r[j] - step * k[j]) * (r[j] - step * k[j]);
    return sum;
}

/// ||r||^2 minus the largest <r, k>^2 / <k, k> over all vectors of integers.
double exhaustive(const std::vector<double>& r, int largest) {
    std::vector<int> k(r.size(), -largest);
    double best = 0;
    for (;;) {
        double product = 0, squares = 0;
        for (std::size_t j = 0; j < r.size(); ++j) {
            product += r[j] * k[j];
            squares += k[j] * k[j];
        }
        if (squares > 0 && product * product / squares > best) best = product * product / squares;
        std::size_t at = 0;
        while (at < k.size() && k[at] == largest) k[at++] = -largest;
        if (at == k.size()) return norm(r) - best;
        ++k[at];
    }
}

/// What rounding to the nearest integer leaves at one step.
double nearest_error(const std::vector<double>& r, int largest, double step) {
    double sum = 0;
    for (const double v : r) {
        double m = std::nearbyint(v / step);
        m = m > largest ? largest : (m < -largest ? -largest : m);
        sum += (v - step * m) * (v - step * m);
    }
    return sum;
}

std::vector<double> random_vector(std::size_t d, std::uint64_t seed, bool coarse) {
    std::vector<double> r;
    for (std::size_t j = 0; j < d; ++j) {
        const double u = static_cast<double>(quant::random_uniform(seed, 5, j)) * 2 - 1;
        r.push_back(coarse ? std::nearbyint(u * 4) / 4 : u * u * u + 0.2 * u);
    }
    return r;
}

} // namespace

TEST_CASE("the fit is the best of all integers") {
    for (std::uint64_t seed = 0; seed < 120; ++seed)
        for (const int largest : {1, 2, 3}) {
            const std::size_t d = 1 + seed % (largest == 1 ? 6 : 4);
            const std::vector<double> r = random_vector(d, seed, seed % 3 == 0); // every third with many ties and zeros
            const fitted f = fit(r, largest);
            const double best = exhaustive(r, largest);
            REQUIRE(std::abs(f.error - best) <= 1e-12);
            REQUIRE(std::abs(error_of(r, f.k, f.step) - f.error) <= 1e-12);
            for (const int m : f.k) REQUIRE(std::abs(m) <= largest);
        }
}

TEST_CASE("no step of a dense search does better") {
    for (const int largest : {7, 31, 127}) {
        const std::vector<double> r = random_vector(40, static_cast<std::uint64_t>(largest), false);
        const fitted f = fit(r, largest);
        double most = 0;
        for (const double v : r) most = std::fmax(most, std::abs(v));
        for (int i = 1; i <= 20000; ++i) {
            const double step = 2 * most * i / 20000 / largest * (largest < 20 ? 1.5 : 1.0);
            REQUIRE(f.error <= nearest_error(r, largest, step) * (1 + 1e-12));
        }
        REQUIRE(f.error <= nearest_error(r, largest, most / largest)); // rounding at the largest magnitude
        // And the integers are the nearest ones at the step found.
        REQUIRE(std::abs(f.error - nearest_error(r, largest, f.step)) <= 1e-12 * f.error);
    }
}

TEST_CASE("the fit of six weights by hand") {
    const std::vector<double> w{.90, -.55, .30, .12, -.07, .41};
    const fitted one = fit(w, 1), three = fit(w, 3), seven = fit(w, 7);
    CHECK(one.k == std::vector<int>{1, -1, 1, 0, 0, 1});
    CHECK(std::abs(one.step - 0.54) < 1e-12);
    CHECK(std::abs(one.error - 0.2235) < 1e-12);
    CHECK(three.k == std::vector<int>{3, -2, 1, 0, 0, 1});
    CHECK(std::abs(three.step - 0.300666667) < 1e-9);
    CHECK(std::abs(three.error - 0.0338933333) < 1e-10);
    CHECK(seven.k == std::vector<int>{7, -4, 2, 1, -1, 3});
    CHECK(std::abs(seven.step - 0.1315) < 1e-12);
    CHECK(std::abs(seven.error - 0.00652) < 1e-12);
    CHECK(std::abs(nearest_error(w, 1, 0.9) - 0.3999) < 1e-12); // what rounding at the largest magnitude leaves
    CHECK(std::abs(nearest_error(w, 3, 0.9 / 3) - 0.0339) < 1e-12);
    CHECK(std::abs(nearest_error(w, 7, 0.9 / 7) - 0.00720612) < 1e-8);
}

TEST_CASE("a vector that is a step times integers is met exactly") {
    for (const int largest : {1, 7, 127}) {
        std::vector<float> r;
        for (int m = -largest; m <= largest; ++m) r.push_back(static_cast<float>(m) * 0.375f);
        const fitted f = fit(r, largest);
        CHECK(f.step == 0.375);
        CHECK(f.error == 0);
        for (int m = -largest; m <= largest; ++m) CHECK(f.k[static_cast<std::size_t>(m + largest)] == m);
    }
}

TEST_CASE("signs, order and powers of two pass through the fit") {
    std::vector<double> r = random_vector(24, 77, false);
    const fitted f = fit(r, 7);
    std::vector<double> turned, reversed(r.rbegin(), r.rend()), scaled, huge, tiny;
    for (std::size_t j = 0; j < r.size(); ++j) {
        turned.push_back(j % 3 == 0 ? -r[j] : r[j]);
        scaled.push_back(r[j] * 1024);
        huge.push_back(std::ldexp(r[j], 1000));
        tiny.push_back(std::ldexp(r[j], -900));
    }
    const fitted t = fit(turned, 7), b = fit(reversed, 7), s = fit(scaled, 7);
    CHECK(t.step == f.step);
    CHECK(s.step == f.step * 1024);
    CHECK(s.k == f.k);
    for (std::size_t j = 0; j < r.size(); ++j) {
        CHECK(t.k[j] == (j % 3 == 0 ? -f.k[j] : f.k[j]));
        CHECK(b.k[r.size() - 1 - j] == f.k[j]);
    }
    CHECK(fit(huge, 7).k == f.k);
    CHECK(fit(tiny, 7).k == f.k);
    CHECK(fit(tiny, 7).step == std::ldexp(f.step, -900));
    // float and double of the same values are the same fit
    std::vector<float> narrow;
    std::vector<double> wide;
    for (const double v : r) {
        narrow.push_back(static_cast<float>(v));
        wide.push_back(static_cast<double>(narrow.back()));
    }
    CHECK(fit(narrow, 3).k == fit(wide, 3).k);
    CHECK(fit(narrow, 3).step == fit(wide, 3).step);
}

TEST_CASE("zeros have step zero, and what does not fit is refused by name") {
    const fitted zero = fit(std::vector<float>{0, 0, -0.0f}, 7), none = fit(std::vector<float>{}, 7);
    CHECK(zero.step == 0);
    CHECK(zero.error == 0);
    CHECK(zero.k == std::vector<int>{0, 0, 0});
    CHECK(none.step == 0);
    std::vector<float> r{1, 2};
    std::vector<std::int8_t> k(2);
    std::vector<quant::fit_event> scratch(2);
    const auto refused = [&](int largest, std::size_t ks, std::size_t events) {
        return quant::fit_point(r, largest, std::span(k).first(ks), std::span(scratch).first(events)).status();
    };
    CHECK(refused(0, 2, 2).code == errc::invalid_argument);
    CHECK(refused(128, 2, 2).code == errc::invalid_argument);
    CHECK(refused(7, 1, 2).code == errc::shape_mismatch);
    CHECK(refused(7, 2, 1).code == errc::buffer_too_small);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        r[1] = bad;
        CHECK(refused(7, 2, 2).code == errc::non_finite);
        CHECK(refused(7, 2, 2).argument == std::string_view("r"));
    }
}
