// SPDX-License-Identifier: MIT
// Probabilistic grids: published values, probabilities and all derivatives against differences, the mode is the nearest point.
#include "archs.hpp"
#include "support.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/train/cpq.hpp>
#include <span>
#include <vector>

using quant::errc;
namespace cpq = quant::cpq;
using cpq::surrogate;
using test::names;
using test::same_bytes;
using test::uniform;

namespace {

std::vector<double> probabilities(double x, const cpq::grid& g, std::span<const double> gates = {}) {
    std::vector<double> pi(2 * static_cast<std::size_t>(g.largest()) + 1);
    REQUIRE(cpq::probabilities(x, pi, g, gates));
    return pi;
}
double point(const cpq::grid& g, std::size_t i) { return g.alpha * (static_cast<double>(i) - g.largest()) + g.beta; }
double mean(double x, const cpq::grid& g, std::span<const double> gates = {}) {
    const auto pi = probabilities(x, g, gates);
    double sum = 0;
    for (std::size_t i = 0; i < pi.size(); ++i) sum += pi[i] * point(g, i);
    return sum;
}
/// g_i d pi_i + d g_i at the most probable point, d by central differences of what change(h) makes of x, the grid and the gates.
template <class Change>
double mode_difference(double x, const cpq::grid& g, const std::vector<double>& gates, Change change) {
    const auto now = probabilities(x, g, gates);
    const auto i = static_cast<std::size_t>(std::max_element(now.begin(), now.end()) - now.begin());
    const double h = 1e-6;
    double value[2], place[2];
    for (int side = 0; side < 2; ++side) {
        double at = x;
        cpq::grid moved = g;
        std::vector<double> z = gates;
        change(side == 0 ? -h : h, at, moved, z);
        value[side] = probabilities(at, moved, z)[i];
        place[side] = point(moved, i);
    }
    return (place[1] - place[0]) / (2 * h) + point(g, i) * (value[1] - value[0]) / (2 * h);
}
template <class Change>
double mean_difference(double x, const cpq::grid& g, const std::vector<double>& gates, Change change) {
    const double h = 1e-6;
    double value[2];
    for (int side = 0; side < 2; ++side) {
        double at = x;
        cpq::grid moved = g;
        std::vector<double> z = gates;
        change(side == 0 ? -h : h, at, moved, z);
        value[side] = mean(at, moved, z);
    }
    return (value[1] - value[0]) / (2 * h);
}

} // namespace

TEST_CASE("published values of a grid of 3 bits, forward and backward") {
    const cpq::grid g{.alpha = .25, .sigma = .1, .bits = 3};
    const double table[][9] = {
        // x, k, pi, d pi / dx, d pi / d sigma, dL/dx, dL/d alpha, dL/d sigma, d pi / d alpha
        {.40, 2, .47086726, 1.652973, -2.3862394, .8264865, 1.1548695, -1.1931197, -1.690261},
        {-.13, -1, .433329369, -1.7705924, -1.8971144, .44264809, -.95953444, .4742786, -.16186226},
        {.90, 3, .862760602, .51840378, -3.3544238, .38880283, 2.6066369, -2.5158178, -.52448407},
        {.02, 0, .550951416, -.38103661, -4.2337114, 0, 0, 0, 1.7239675},
        {.30, 1, .532826193, -.90372283, -3.7560316, -.22593071, 1.64672, -.9390079, 2.58688}};
    for (const auto& row : table) {
        std::vector<double> x{row[0]}, one{1}, dx(1);
        std::vector<std::int8_t> k(1);
        REQUIRE(cpq::points(x, k, g));
        CHECK(k[0] == row[1]);
        CHECK(std::abs(probabilities(row[0], g)[static_cast<std::size_t>(k[0] + 3)] - row[2]) < 1e-8);
        const auto slope = [&](double by_x, double by_alpha, double by_sigma) {
            const double h = 1e-6;
            cpq::grid up = g, down = g;
            up.alpha += h * by_alpha, up.sigma += h * by_sigma;
            down.alpha -= h * by_alpha, down.sigma -= h * by_sigma;
            const auto at = static_cast<std::size_t>(k[0] + 3);
            return (probabilities(row[0] + h * by_x, up)[at] - probabilities(row[0] - h * by_x, down)[at]) / (2 * h);
        };
        CHECK(std::abs(slope(1, 0, 0) - row[3]) < 1e-6);
        CHECK(std::abs(slope(0, 1, 0) - row[8]) < 1e-6);
        CHECK(std::abs(slope(0, 0, 1) - row[4]) < 1e-6);
        const auto d = cpq::backward(x, one, dx, g, surrogate::mode);
        REQUIRE(d);
        CHECK(std::abs(dx[0] - row[5]) < 1e-7);
        CHECK(std::abs(d->alpha - row[6]) < 1e-6);
        CHECK(std::abs(d->sigma - row[7]) < 1e-6);
        if (row[1] == 0) continue;
        CHECK(std::abs(dx[0] / (.25 * row[1]) - row[3]) < 1e-6);
        CHECK(std::abs(d->sigma / (.25 * row[1]) - row[4]) < 1e-6);
    }
}

TEST_CASE("probabilities are those of the noise in the cells, sum to one and survive far outside") {
    for (const int bits : {2, 3, 5})
        for (std::size_t i = 0; i < 200; ++i) {
            const cpq::grid g{.alpha = 0.3, .beta = 0.07, .sigma = 0.05 + 0.2 * std::abs(uniform(2, i)), .bits = bits};
            const double x = 2 * 0.3 * g.largest() * uniform(1, i);
            const auto pi = probabilities(x, g);
            const auto S = [](double t) { return 1 / (1 + std::exp(-t)); };
            const double sigma = g.sigma, from = (point(g, 0) - 0.15 - x) / sigma,
                         to = (point(g, pi.size() - 1) + 0.15 - x) / sigma;
            double sum = 0, worst = 0;
            for (std::size_t k = 0; k < pi.size(); ++k) {
                const double low = (point(g, k) - 0.15 - x) / sigma, high = low + 0.3 / sigma;
                if (std::abs(from) < 20 && std::abs(to) < 20) // where the difference of sigmoids still has digits
                    worst = std::max(worst, std::abs(pi[k] - (S(high) - S(low)) / (S(to) - S(from))));
                sum += pi[k];
            }
            REQUIRE(worst < 1e-8);
            REQUIRE(std::abs(sum - 1) < 1e-14);
        }
    const cpq::grid g{.alpha = .25, .sigma = .01, .bits = 3};
    CHECK(std::abs(probabilities(1e6, g)[6] - 1) < 1e-10);
    for (const double far : {1e3, -1e3, 5.0, -5.0, 1e30}) {
        std::vector<float> x{static_cast<float>(far)}, one{1}, dx(1);
        for (const auto which : {surrogate::mode, surrogate::expectation}) {
            const auto d = cpq::backward(x, one, dx, g, which);
            REQUIRE(d);
            CHECK(std::abs(dx[0]) < 1e-3f);
            CHECK(std::abs(d->alpha - (far > 0 ? 3 : -3)) < 1e-3);
            CHECK(std::abs(d->beta - 1) < 1e-3);
        }
    }
}

TEST_CASE("the most probable point is the nearest one, whatever the noise is") {
    for (const int bits : {2, 4, 8})
        for (const double sigma : {1e-6, 0.03, 0.5, 20.0}) {
            const cpq::grid g{.alpha = 0.1875, .beta = -0.03125, .sigma = sigma, .bits = bits};
            std::vector<double> x, to;
            for (std::size_t i = 0; i < 500; ++i) x.push_back(1.4 * 0.1875 * g.largest() * uniform(3, i));
            to.resize(x.size());
            std::vector<std::int8_t> k(x.size());
            REQUIRE(cpq::forward(x, to, g));
            REQUIRE(cpq::points(x, k, g));
            std::size_t wrong = 0, unlikely = 0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double nearest =
                    std::clamp(std::nearbyint((x[i] + 0.03125) / 0.1875), -1.0 * g.largest(), 1.0 * g.largest());
                wrong += k[i] == nearest && to[i] == 0.1875 * k[i] - 0.03125 ? 0 : 1;
                const auto pi = probabilities(x[i], g);
                const double own = pi[static_cast<std::size_t>(k[i] + g.largest())];
                unlikely += own >= *std::max_element(pi.begin(), pi.end()) * (1 - 1e-9) ? 0 : 1;
            }
            CAPTURE(bits, sigma);
            CHECK(wrong == 0);
            CHECK(unlikely == 0);
        }
}

TEST_CASE("both surrogates are the differences of what they are the gradients of, with gates and without") {
    const std::vector<std::vector<double>> gate_sets{{}, {1, 1, .7, .6}, {1, 1, .4, .1}, {1, 1, .3, 0}};
    const auto by_x = [](double h, double& x, cpq::grid&, std::vector<double>&) { x += h; };
    const auto by_alpha = [](double h, double&, cpq::grid& g, std::vector<double>&) { g.alpha += h; };
    const auto by_beta = [](double h, double&, cpq::grid& g, std::vector<double>&) { g.beta += h; };
    const auto by_sigma = [](double h, double&, cpq::grid& g, std::vector<double>&) { g.sigma += h; };
    for (const auto& gates : gate_sets)
        for (std::size_t i = 0; i < 60; ++i) {
            const cpq::grid g{.alpha = .25, .beta = .04, .sigma = .06 + .1 * std::abs(uniform(4, i)), .bits = 3};
            const double x = 1.2 * uniform(5, i);
            auto pi = probabilities(x, g, gates);
            std::sort(pi.begin(), pi.end());
            if (pi[6] - pi[5] < 1e-3) continue; // where the mode changes there is no derivative
            std::vector<double> at{x}, upstream{-0.7}, dx(1);
            const auto check = [&](double found, double difference) {
                REQUIRE(std::abs(found + 0.7 * difference) < 1e-6 * (1 + std::abs(difference)));
            };
            const auto mode = cpq::backward(at, upstream, dx, g, surrogate::mode, gates);
            REQUIRE(mode);
            check(dx[0], mode_difference(x, g, gates, by_x));
            check(mode->alpha, mode_difference(x, g, gates, by_alpha));
            check(mode->beta, mode_difference(x, g, gates, by_beta));
            check(mode->sigma, mode_difference(x, g, gates, by_sigma));
            const auto expected = cpq::backward(at, upstream, dx, g, surrogate::expectation, gates);
            REQUIRE(expected);
            check(dx[0], mean_difference(x, g, gates, by_x));
            check(expected->alpha, mean_difference(x, g, gates, by_alpha));
            check(expected->beta, mean_difference(x, g, gates, by_beta));
            check(expected->sigma, mean_difference(x, g, gates, by_sigma));
            if (gates.empty()) continue;
            for (const auto which : {surrogate::mode, surrogate::expectation}) {
                std::vector<double> of_gates(4);
                REQUIRE(cpq::add_gate_gradient(at, upstream, of_gates, g, which, gates));
                for (std::size_t m = 2; m < 4; ++m) {
                    if (gates[m] == 0) {
                        CHECK(of_gates[m] == 0);
                        continue;
                    }
                    const auto by_gate = [m](double h, double&, cpq::grid&, std::vector<double>& z) { z[m] += h; };
                    check(of_gates[m], which == surrogate::mode ? mode_difference(x, g, gates, by_gate)
                                                                : mean_difference(x, g, gates, by_gate));
                }
            }
        }
}

TEST_CASE("within a window the surrogates are the differences of the probabilities that are left") {
    const cpq::grid wide{.alpha = .25, .beta = .04, .sigma = .1, .bits = 5}; // points -15 to 15
    const auto by_x = [](double h, double& x, cpq::grid&, std::vector<double>&) { x += h; };
    const auto by_alpha = [](double h, double&, cpq::grid& g, std::vector<double>&) { g.alpha += h; };
    const auto by_sigma = [](double h, double&, cpq::grid& g, std::vector<double>&) { g.sigma += h; };
    for (const double window : {1.0, 3.0, 8.0})
        for (std::size_t i = 0; i < 60; ++i) {
            cpq::grid g = wide;
            g.window = window;
            const double x = 4.6 * uniform(10, i), u = (x - g.beta) / g.alpha; // some beyond the last point
            const double nearest = std::clamp(std::nearbyint(u), -15.0, 15.0);
            if (std::abs(std::abs(u - std::nearbyint(u)) - 0.5) < 1e-3) continue; // where the nearest point changes
            const auto pi = probabilities(x, g);
            const auto whole = probabilities(x, wide);
            double inside = 0, worst = 0;
            for (int k = -15; k <= 15; ++k)
                if (std::abs(k - nearest) <= g.reach()) inside += whole[static_cast<std::size_t>(k + 15)];
            for (int k = -15; k <= 15; ++k) {
                const auto at = static_cast<std::size_t>(k + 15);
                const double expected = std::abs(k - nearest) <= g.reach() ? whole[at] / inside : 0;
                worst = std::max(worst, std::abs(pi[at] - expected));
            }
            REQUIRE(worst < 1e-12);
            if (std::abs(u) < 15.5) REQUIRE(inside > 1 - 2 / (1 + std::exp(window))); // what no cell outside can hold
            std::vector<double> at{x}, upstream{-0.7}, dx(1);
            const auto check = [&](double found, double difference) {
                REQUIRE(std::abs(found + 0.7 * difference) < 1e-6 * (1 + std::abs(difference)));
            };
            const auto mode = cpq::backward(at, upstream, dx, g, surrogate::mode);
            REQUIRE(mode);
            check(dx[0], mode_difference(x, g, {}, by_x));
            check(mode->alpha, mode_difference(x, g, {}, by_alpha));
            check(mode->sigma, mode_difference(x, g, {}, by_sigma));
            const auto expected = cpq::backward(at, upstream, dx, g, surrogate::expectation);
            REQUIRE(expected);
            check(dx[0], mean_difference(x, g, {}, by_x));
            check(expected->alpha, mean_difference(x, g, {}, by_alpha));
            check(expected->sigma, mean_difference(x, g, {}, by_sigma));
        }
    CHECK((cpq::grid{.alpha = .25, .sigma = .1, .bits = 5, .window = 3}.reach() == 2));
    CHECK((cpq::grid{.alpha = .25, .sigma = .1, .bits = 2, .window = 3}.reach() == 0)); // all three points
    std::vector<float> x{.3f, 1.2f}, one{1, 1}, dx(2);
    cpq::grid g = wide;
    g.window = 3;
    CHECK(names(cpq::forward(x, dx, g, std::vector<float>(16, 1.0f)), errc::invalid_argument, "grid.window"));
    g.window = std::numeric_limits<double>::quiet_NaN();
    CHECK(names(cpq::backward(x, one, dx, g, surrogate::mode).status(), errc::invalid_argument, "grid.window"));
}

TEST_CASE("dropped levels leave the grid of fewer bits; a gate that is nearly closed lets the level below win") {
    const cpq::grid g{.alpha = .25, .sigma = .1, .bits = 3};
    const std::vector<double> x{.70};
    std::vector<double> to(1);
    for (const auto& [z, value] : {std::pair{1.0, .75}, {.5, .75}, {.02, .25}, {0.0, .25}}) {
        REQUIRE(cpq::forward(x, to, g, std::vector<double>{1, 1, z, z}));
        CHECK(to[0] == value);
    }
    std::vector<float> many, rounded, fewer, dx, gradient;
    for (std::size_t i = 0; i < 300; ++i) {
        many.push_back(static_cast<float>(1.5 * uniform(6, i)));
        gradient.push_back(static_cast<float>(uniform(7, i)));
    }
    rounded = fewer = dx = many;
    std::vector<float> dx_fewer = dx;
    std::vector<float> gates(8, 1.0f);
    for (std::size_t m = 4; m < 8; ++m) gates[m] = 0;
    const cpq::grid four{.alpha = .2, .sigma = .1, .bits = 4}, three{.alpha = .2, .sigma = .1, .bits = 3};
    REQUIRE(cpq::forward(many, rounded, four, gates));
    REQUIRE(cpq::forward(many, fewer, three));
    CHECK(rounded == fewer);
    const auto a = cpq::backward(many, gradient, dx, four, surrogate::mode, gates);
    const auto b = cpq::backward(many, gradient, dx_fewer, three, surrogate::mode);
    REQUIRE((a && b));
    CHECK((dx == dx_fewer && a->alpha == b->alpha && a->sigma == b->sigma));
}

TEMPLATE_LIST_TEST_CASE("rounding to a grid and its gradients are the same bytes on every architecture", "",
                        test::archs) {
    namespace simd = quant::simd;
    constexpr std::size_t most = 35;
    std::vector<float> x(most), g(most);
    for (std::size_t i = 0; i < most; ++i) {
        x[i] = static_cast<float>((i % 5 == 0 ? 8 : 1.3) * uniform(8, i));
        g[i] = static_cast<float>(uniform(9, i));
    }
    const std::vector<float> gates{1, 1, .5f, .5f, .02f, .02f, .02f, .02f};
    for (const int way : {0, 1, 2}) { // plain, with gates, within a window
        const bool gated = way == 1;
        const int reach = way == 2 ? 2 : 0;
        for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{16}, std::size_t{33}, most}) {
            simd::probable_grid<float> grid{0.21f, 0.03f, 8.5f, 7, gated ? gates.data() : nullptr, reach};
            std::array<std::vector<float>, 2> to{std::vector<float>(most + 1, 9), std::vector<float>(most + 1, 9)};
            auto dx = to;
            std::array<simd::grid_sums, 2> sums;
            std::array<std::array<double, 8>, 2> of_gates{};
            const auto run = [&]<class A>(std::type_identity<A>, std::size_t k) {
                simd::round_to_grid<float, simd::grid_output::values, A>(x.data(), to[k].data(), n, grid);
                sums[k] = simd::round_to_grid_backward<float, true, A>(x.data(), g.data(), dx[k].data(), n, grid);
                const auto more =
                    simd::round_to_grid_backward<float, false, A>(x.data(), g.data(), dx[k].data(), n, grid);
                sums[k].alpha += 3 * more.alpha;
                sums[k].sigma += 3 * more.sigma;
                sums[k].beta += 3 * more.beta;
                if (gated) simd::grid_gate_backward<float, false, A>(x.data(), g.data(), of_gates[k].data(), n, grid);
                if (gated) simd::grid_gate_backward<float, true, A>(x.data(), g.data(), of_gates[k].data(), n, grid);
            };
            run(std::type_identity<simd::scalar>{}, 0);
            run(std::type_identity<TestType>{}, 1);
            REQUIRE(same_bytes(to[0], to[1]));
            REQUIRE(same_bytes(dx[0], dx[1]));
            REQUIRE((sums[0].alpha == sums[1].alpha && sums[0].beta == sums[1].beta && sums[0].sigma == sums[1].sigma));
            REQUIRE(of_gates[0] == of_gates[1]);
            REQUIRE((to[1][n] == 9 && dx[1][n] == 9));
        }
    }
}

TEST_CASE("what a probabilistic grid refuses") {
    std::vector<float> x(3), to(3), gates(4, 1.0f);
    std::vector<std::int8_t> codes(3);
    CHECK(names(cpq::forward(x, to, {.bits = 9}), errc::bits_out_of_range, "grid.bits"));
    CHECK(names(cpq::forward(x, to, {.alpha = 0}), errc::invalid_scale, "grid.alpha"));
    CHECK(names(cpq::forward(x, to, {.sigma = 0}), errc::invalid_argument, "grid.sigma"));
    CHECK(names(cpq::forward(x, to, {.bits = 4}, gates), errc::shape_mismatch, "gates"));
    gates[3] = 2;
    CHECK(names(cpq::forward(x, to, {.bits = 3}, gates), errc::invalid_argument, "gates"));
    CHECK(names(cpq::points(x, std::span(codes).first(2), {}), errc::shape_mismatch, "codes"));
    std::vector<double> of_gates(4);
    CHECK(
        names(cpq::add_gate_gradient(x, x, of_gates, {.bits = 3}, surrogate::mode, {}), errc::shape_mismatch, "gates"));
    x[1] = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(cpq::forward(x, to, {}));
    CHECK(std::isnan(to[1]));
    REQUIRE(cpq::points(x, codes, {}));
    CHECK(codes[1] == 0);
    std::vector<float> dx(3);
    CHECK(names(cpq::backward(x, to, dx, {}, surrogate::mode).status(), errc::non_finite, "gradient"));
}
