// SPDX-License-Identifier: MIT
// ADMM: quadratic losses with exact inner solutions: where it finds the optimum, where it cycles and where it stays above.
#include "support.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/admm.hpp>
#include <span>
#include <utility>
#include <vector>

using quant::errc;
namespace admm = quant::admm;
using test::names;
using test::uniform;

namespace {

constexpr std::size_t n = 4;
using vector = std::array<double, n>;
using matrix = std::array<vector, n>;

double quadratic(const matrix& a, const vector& t, std::span<const double> q) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) sum += 0.5 * (q[i] - t[i]) * a[i][j] * (q[j] - t[j]);
    return sum;
}
/// x of m x = b by elimination; m symmetric and positive.
vector solve(matrix m, vector b) {
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t i = k + 1; i < n; ++i) {
            const double f = m[i][k] / m[k][k];
            for (std::size_t j = k; j < n; ++j) m[i][j] -= f * m[k][j];
            b[i] -= f * b[k];
        }
    for (std::size_t i = n; i-- > 0;) {
        for (std::size_t j = i + 1; j < n; ++j) b[i] -= m[i][j] * b[j];
        b[i] /= m[i][i];
    }
    return b;
}
/// The least loss over all ternary tables, each with the best step for the loss.
double exhaustive(const matrix& a, const vector& t) {
    double best = quadratic(a, t, vector{});
    for (int code = 0; code < 81; ++code) {
        vector k{};
        for (std::size_t i = 0, rest = static_cast<std::size_t>(code); i < n; ++i, rest /= 3)
            k[i] = static_cast<double>(rest % 3) - 1;
        double above = 0, below = 0;
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) above += k[i] * a[i][j] * t[j], below += k[i] * a[i][j] * k[j];
        if (!(below > 0) || !(above > 0)) continue;
        vector q = k;
        for (double& x : q) x *= above / below;
        best = std::min(best, quadratic(a, t, q));
    }
    return best;
}

struct run {
    std::vector<double> steps, losses; ///< of start, then of every update
    admm::best_iterate best;
    double gap = 0;
};
run solve_by_admm(const matrix& a, const vector& t, double rho, int updates) {
    vector theta = t, q{}, u{};
    std::array<std::int8_t, n> codes{}, best_codes{};
    std::array<quant::fit_event, n> scratch{};
    const admm::cluster<double> c{theta, q, u, codes, 2};
    run r;
    const auto note = [&](const admm::iterate& now) {
        r.steps.push_back(now.step);
        r.losses.push_back(quadratic(a, t, q));
        r.gap = now.gap;
        admm::keep_better(r.losses.back(), now, codes, r.best, best_codes);
    };
    note(*admm::start(c, scratch));
    for (int k = 0; k < updates; ++k) {
        matrix m = a;
        vector b{};
        for (std::size_t i = 0; i < n; ++i) {
            m[i][i] += rho;
            b[i] = rho * (q[i] - u[i]);
            for (std::size_t j = 0; j < n; ++j) b[i] += a[i][j] * t[j];
        }
        theta = solve(m, b);
        // There the gradient of loss and penalty is zero.
        vector g{};
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) g[i] += a[i][j] * (theta[j] - t[j]);
        REQUIRE(admm::add_penalty_gradient<double>(c, rho, g));
        for (const double x : g) REQUIRE(std::abs(x) < 1e-12);
        note(*admm::update(c, scratch));
        for (std::size_t i = 0; i < n; ++i) REQUIRE(q[i] == codes[i] * r.steps.back());
    }
    return r;
}
constexpr matrix diagonal(const vector& d) { return {{{d[0]}, {0, d[1]}, {0, 0, d[2]}, {0, 0, 0, d[3]}}}; }

} // namespace

TEST_CASE("a diagonal loss: one rho walks to the optimum, another passes it and ends elsewhere") {
    const matrix a = diagonal({4, 1, .25, 2});
    const vector t{.9, -.4, .2, -1.1};
    const run good = solve_by_admm(a, t, 1, 200);
    const double steps[] = {1, .993333, .986667, .981333}, losses[] = {.115, .1138, .112867, .112312};
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(std::abs(good.steps[i] - steps[i]) < 1e-6);
        CHECK(std::abs(good.losses[i] - losses[i]) < 1e-6);
    }
    CHECK(std::abs(good.steps.back() - .966667) < 1e-6);
    CHECK(std::abs(good.losses.back() - .111667) < 1e-6);
    CHECK(std::abs(exhaustive(a, t) - .111667) < 1e-6);
    CHECK(good.gap < 1e-6);

    const run bad = solve_by_admm(a, t, .5, 200);
    CHECK(std::abs(bad.losses[2] - .113459) < 1e-6);
    CHECK(bad.losses.back() > .15); // it never comes to rest
    CHECK(
        std::any_of(bad.losses.begin() + 150, bad.losses.end(), [](double x) { return std::abs(x - .184522) < 2e-3; }));
    CHECK(bad.best.loss <= bad.losses[2]);
    CHECK(bad.gap > 1e-3);
}

TEST_CASE("a dense loss: ADMM is better than projection and not optimal") {
    const matrix a{{{2, 1.2, 0, 0}, {1.2, 2, .5, 0}, {0, .5, 1, .3}, {0, 0, .3, 3}}};
    const vector t{.9, -.5, .3, -.2};
    const run r = solve_by_admm(a, t, 4, 300);
    CAPTURE(r.losses.front(), r.losses.back(), r.best.loss);
    CHECK(std::abs(r.losses.front() - .245) < 1e-3);
    CHECK(std::abs(r.best.loss - .237969) < 1e-6);
    CHECK(std::abs(exhaustive(a, t) - .172) < 1e-3);
}

TEST_CASE("the projection is one: no point of the table is nearer; by turns it is never better") {
    for (std::uint64_t seed = 0; seed < 40; ++seed)
        for (const int bits : {1, 2, 3}) {
            std::vector<double> v(5);
            for (std::size_t i = 0; i < 5; ++i) v[i] = uniform(seed, i);
            std::vector<std::int8_t> codes(5), turns(5);
            std::vector<quant::fit_event> scratch(5);
            const auto fit = admm::project<double>(v, bits, codes, scratch);
            REQUIRE(fit);
            if (bits > 1) {
                const auto other = admm::project_by_turns<double>(v, bits, turns);
                REQUIRE(other);
                CHECK(fit->error <= other->error + 1e-12);
            }
            const int largest = bits == 1 ? 1 : (1 << (bits - 1)) - 1, values = 2 * largest + 1;
            double squares = 0, best = 0, own = 0;
            for (std::size_t i = 0; i < 5; ++i) {
                squares += v[i] * v[i];
                const double e = v[i] - fit->step * codes[i];
                own += e * e;
            }
            int count = 1;
            for (int i = 0; i < 5; ++i) count *= values;
            for (int code = 0; code < count; ++code) {
                double product = 0, norm = 0;
                bool allowed = true;
                for (int i = 0, rest = code; i < 5; ++i, rest /= values) {
                    const double k = rest % values - largest;
                    allowed = allowed && (bits > 1 || k != 0);
                    product += k * v[static_cast<std::size_t>(i)];
                    norm += k * k;
                }
                if (allowed && norm > 0 && product > 0) best = std::max(best, product * product / norm);
            }
            CHECK(std::abs(own - (squares - best)) < 1e-12);
            CHECK(std::abs(own - fit->error) < 1e-12);
        }
}

TEST_CASE("weights on the table are a fixed point; what ADMM refuses") {
    std::vector<float> theta{.5f, -.25f, .75f, 0}, q(4), u(4);
    std::vector<std::int8_t> codes(4);
    std::vector<quant::fit_event> scratch(4);
    admm::cluster<float> c{theta, q, u, codes, 3};
    REQUIRE(admm::start(c, scratch));
    const auto now = admm::update(c, scratch);
    REQUIRE(now);
    CHECK((now->gap == 0 && q == theta && u == std::vector<float>(4) && admm::penalty(c, 2) == 0));
    CHECK(names(admm::start(c, std::span(scratch).first(3)).status(), errc::buffer_too_small, "scratch"));
    c.bits = 9;
    CHECK(names(admm::update(c, scratch).status(), errc::bits_out_of_range, "c.bits"));
    c.bits = 1;
    REQUIRE(admm::start(c, scratch));
    CHECK((codes == std::vector<std::int8_t>{1, -1, 1, 1} && q[0] == .375f));
    theta[1] = std::numeric_limits<float>::quiet_NaN();
    CHECK(names(admm::update(c, scratch).status(), errc::non_finite, "c.theta"));
    std::vector<float> g(4);
    CHECK(names(admm::add_penalty_gradient<float>(c, -1, g), errc::invalid_argument, "rho"));
    std::vector<float> zeros(3);
    const auto none = admm::project_by_turns<float>(zeros, 4, std::span(codes).first(3));
    CHECK((none && none->step == 0 && codes[0] == 0));
}
