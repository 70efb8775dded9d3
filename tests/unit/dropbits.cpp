// SPDX-License-Identifier: MIT
// DropBits: gates against published values, products over levels, derivatives against differences, widths.
#include "support.hpp"
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/cpq.hpp>
#include <span>
#include <vector>

using quant::errc;
namespace cpq = quant::cpq;
namespace dropbits = quant::dropbits;
using dropbits::sharing;
using test::names;
using test::uniform;

namespace {

std::size_t place(int k) { return static_cast<std::size_t>(k + 7); }

} // namespace

TEST_CASE("gates and the probability that they are open, published values and differences") {
    const double u[] = {.05, .25, .5, .75, .95};
    const double table[][7] = {{-2, 0, 0, 0, .14663632, .86577684, .40097526},
                               {0, 0, .09366857, .5, .90633143, 1, .83182218},
                               {2, .13422316, .85336368, 1, 1, 1, .97336666}};
    for (const auto& row : table) {
        for (std::size_t i = 0; i < 5; ++i) {
            const auto gate = dropbits::gate_at(row[0], u[i]);
            CHECK(std::abs(gate.value - row[i + 1]) < 1e-8);
            const double h = 1e-6;
            const double slope =
                (dropbits::gate_at(row[0] + h, u[i]).value - dropbits::gate_at(row[0] - h, u[i]).value) / (2 * h);
            CHECK(std::abs(gate.slope - slope) < 1e-8);
        }
        CHECK(std::abs(dropbits::open_probability(row[0]) - row[6]) < 1e-8);
    }
    // The share of draws that are open is that probability.
    std::vector<double> phi(8, -1.0), z(8), slopes(8);
    std::size_t open = 0;
    for (std::uint64_t step = 0; step < 2500; ++step) {
        REQUIRE(dropbits::draw(phi, z, slopes, 1, 2, step));
        for (const double value : z) open += value > 0 ? 1 : 0;
    }
    CHECK(std::abs(static_cast<double>(open) / 20000 - dropbits::open_probability(-1)) < 0.01);
    std::vector<double> again(8);
    REQUIRE(dropbits::draw(phi, again, slopes, 1, 2, 2499));
    CHECK(again == z);
}

TEST_CASE("a level that is dropped takes all above it along") {
    std::vector<double> gates(16);
    REQUIRE(dropbits::magnitude_gates<double>(std::vector<double>{.5, .4, .1}, gates, 5));
    CHECK(gates == std::vector<double>{1, 1, .5, .5, .2, .2, .2, .2, .5 * .4 * .1, .5 * .4 * .1, .5 * .4 * .1,
                                       .5 * .4 * .1, .5 * .4 * .1, .5 * .4 * .1, .5 * .4 * .1, .5 * .4 * .1});
    std::vector<double> ends(4);
    REQUIRE(dropbits::magnitude_gates<double>(std::vector<double>{.5, .25}, ends, 3, sharing::endpoints));
    CHECK(ends == std::vector<double>{1, 1, .5, .125});
    REQUIRE(dropbits::magnitude_gates<double>(std::vector<double>{0, 1, 1}, gates, 5));
    for (std::size_t m = 2; m < 16; ++m) CHECK(gates[m] == 0);
    std::array<double, 2> two{};
    REQUIRE(dropbits::magnitude_gates<double>({}, two, 2));
    CHECK((two[0] == 1 && two[1] == 1));
    CHECK(names(dropbits::magnitude_gates<double>(std::vector<double>{1}, gates, 5), errc::shape_mismatch, "z"));
}

TEST_CASE("gradients of the loss by the logits of the gates are differences, through the grid and the products") {
    const std::vector<double> x{.7, -.3, .45, .1, -.9, .62, .31}, g{1, -.4, .3, .8, -1, .5, .2};
    for (const auto how : {sharing::bits, sharing::endpoints})
        for (const auto which : {cpq::surrogate::expectation, cpq::surrogate::mode}) {
            const cpq::grid grid{.alpha = .12, .sigma = .1, .bits = 4};
            const std::size_t n = dropbits::gate_count(4, how);
            std::vector<double> phi(n), z(n), slopes(n), gates(8), of_gates(8), grad(n), u(n);
            for (std::size_t i = 0; i < n; ++i) phi[i] = .5 + .3 * uniform(3, i), u[i] = .4 + .1 * uniform(4, i);
            const auto draw = [&] {
                for (std::size_t i = 0; i < n; ++i) {
                    const auto d = dropbits::gate_at(phi[i], u[i]);
                    z[i] = d.value;
                    slopes[i] = d.slope;
                }
                REQUIRE(dropbits::magnitude_gates<double>(z, gates, 4, how));
            };
            draw();
            REQUIRE(cpq::add_gate_gradient(x, g, of_gates, grid, which, gates));
            REQUIRE(dropbits::gate_gradients(z, slopes, of_gates, grad, 4, how));
            std::vector<std::int8_t> k(x.size());
            REQUIRE(cpq::points(x, k, grid, gates));
            const auto loss = [&] { // of the mean, or of the chosen point with its probability free
                double sum = 0;
                std::vector<double> pi(15);
                for (std::size_t i = 0; i < x.size(); ++i) {
                    REQUIRE(cpq::probabilities(x[i], pi, grid, gates));
                    if (which == cpq::surrogate::mode)
                        sum += g[i] * .12 * k[i] * pi[place(k[i])];
                    else
                        for (int j = -7; j <= 7; ++j) sum += g[i] * .12 * j * pi[static_cast<std::size_t>(j + 7)];
                }
                return sum;
            };
            for (std::size_t i = 0; i < n; ++i) {
                const double kept = phi[i], h = 1e-6;
                phi[i] = kept + h;
                draw();
                const double up = loss();
                phi[i] = kept - h;
                draw();
                const double down = loss();
                phi[i] = kept;
                CHECK(std::abs((up - down) / (2 * h) - grad[i]) < 1e-7);
            }
        }
}

TEST_CASE("the penalty counts expected levels, falls with the logits, and has the derivative it says") {
    std::vector<double> phi{1, -.5, .3, 2}, grad(4);
    double expected = 0, product = 1;
    for (const double p : phi) expected += product *= dropbits::open_probability(p);
    CHECK(std::abs(dropbits::penalty(phi) - expected) < 1e-12);
    REQUIRE(dropbits::add_penalty_gradient(phi, grad, 2));
    for (std::size_t i = 0; i < 4; ++i) {
        const double kept = phi[i], h = 1e-6;
        phi[i] = kept + h;
        const double up = dropbits::penalty(phi);
        phi[i] = kept - h;
        const double down = dropbits::penalty(phi);
        phi[i] = kept;
        CHECK(std::abs((up - down) / h - grad[i]) < 1e-8);
        CHECK((grad[i] > 0 && up > down));
    }
}

TEST_CASE("the width of a trained layer is that of its last open level") {
    const std::vector<double> open{3, 3, 3}, middle{3, -4, 3}, none{-4, 3, 3};
    CHECK((*dropbits::width_of(open, 5) == 5 && *dropbits::width_of(middle, 5) == 3 &&
           *dropbits::width_of(none, 5) == 2));
    CHECK(*dropbits::width_of({}, 2) == 2);
    std::vector<double> ends(6, 3.0);
    CHECK(*dropbits::width_of(ends, 4, sharing::endpoints) == 4);
    ends[2] = -4; // |k| = 4 is gone
    CHECK(*dropbits::width_of(ends, 4, sharing::endpoints) == 3);
    CHECK(names(dropbits::width_of(open, 4).status(), errc::shape_mismatch, "z"));
    std::vector<double> z(3);
    REQUIRE(dropbits::settle(middle, z));
    CHECK((z[0] == 1 && z[1] == 0 && z[2] == 1));
    CHECK(names(dropbits::settle(open, z, {.gamma = .1}), errc::invalid_argument, "constants"));
}
