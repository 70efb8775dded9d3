// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/aciq_table.hpp>
#include <random>
#include <reference/aciq_quadrature.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace quant::aciq_math;
using quant::aciq_mode;
using quant::errc;
using quant::integer_grid;
using quant::prior;
using quant::statistics;
using quant::tensor_statistics;

constexpr std::array both{prior::laplace, prior::gauss};
constexpr integer_grid narrow(int bits) { return {(1 << (bits - 1)) - 1, (1 << (bits - 1)) - 1}; }
constexpr integer_grid full(int bits) { return {1 << (bits - 1), (1 << (bits - 1)) - 1}; }
constexpr integer_grid positive(int bits) { return {0, (1 << bits) - 1}; }

bool near(double value, double expected, double relative) {
    return std::abs(value - expected) <= relative * std::abs(expected);
}

/// Whether `value` rounds to the printed number: half a unit of its last digit. "<0.01%" is an upper bound; "%" is hundredths.
bool prints_as(std::string_view printed, double value) {
    const bool percent = printed.back() == '%';
    if (percent) {
        printed.remove_suffix(1);
        value *= 100;
    }
    if (printed.front() == '<') return std::abs(value) < std::strtod(std::string(printed.substr(1)).c_str(), nullptr);
    const std::size_t e = printed.find('e');
    const std::string_view mantissa = printed.substr(0, e);
    const std::size_t point = mantissa.find('.');
    const auto decimals = point == std::string_view::npos ? 0 : static_cast<int>(mantissa.size() - point - 1);
    const int exponent = e == std::string_view::npos ? 0 : std::atoi(std::string(printed.substr(e + 1)).c_str());
    const double half_unit = 0.5 * std::pow(10.0, exponent - decimals);
    const double expected = std::strtod(std::string(printed).c_str(), nullptr);
    return std::abs(value - expected) <=
           half_unit + 1e-13 * std::abs(expected); // some printed digits hide a tie: 0.077816156715|4989
}

tensor_statistics about_zero(double b, double sigma, double largest, statistics taken = statistics::unspecified) {
    tensor_statistics s;
    s.count = 1000000;
    s.positive = 500000;
    s.min = -largest;
    s.max = largest;
    s.mean_abs_deviation = b;
    s.variance = sigma * sigma;
    s.mean_square = s.variance;
    s.taken = taken;
    return s;
}

/// Quantiles of the Laplace density with b = 1: a sample without sampling noise.
std::vector<double> laplace_sample(std::size_t n) {
    std::vector<double> x;
    for (std::size_t i = 0; i < n; ++i) {
        const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
        x.push_back(p < 0.5 ? std::log(2 * p) : -std::log(2 * (1 - p)));
    }
    return x;
}

struct tail {
    double sum = 0;
    std::uint64_t count = 0;
};

} // namespace

TEST_CASE("aciq: coefficients of the paper's formula", "[aciq][paper]") {
    struct row {
        int bits;
        const char *laplace_alpha, *laplace_error, *gauss_alpha, *gauss_error;
    };
    constexpr std::array rows{
        row{0, "1.049908894964", "1.0673754926", "0.7657750662337", "0.44381015259"},
        row{1, "1.862816864432", "0.59964336661", "1.239905270984", "0.21501043406"},
        row{2, "2.830682989370", "0.28487775344", "1.710635168114", "0.087148482632"},
        row{3, "3.897229464945", "0.11970237725", "2.151592744740", "0.031429444062"},
        row{4, "5.028640136236", "0.046021486839", "2.559136461975", "0.010493254196"},
        row{5, "6.204766334013", "0.016571828753", "2.936200612108", "0.0033225937159"},
        row{6, "7.413126213844", "0.0056787673088", "3.286914215214", "0.0010129168498"},
        row{7, "8.645619984034", "0.0018725175960", "3.615114215263", "3.0021523461e-4"},
        row{8, "9.896759770018", "5.9885342146e-4", "3.924035489881", "8.7077898970e-5"},
        row{9, "11.16268501774", "1.8683230952e-4", "4.216329825704", "2.4831050936e-5"},
        row{10, "12.44059128291", "5.7109036139e-5", "4.494160529301", "6.9844926316e-6"},
        row{12, "15.02446476526", "5.0819609764e-6", "5.013210465701", "5.3529290413e-7"},
        row{16, "20.27017163854", "3.5034818694e-8", "5.938248084612", "2.8808388682e-9"},
    };
    for (const row& r : rows) {
        CAPTURE(r.bits);
        const double cells = signed_cells(r.bits);
        const double b = optimal_alpha(prior::laplace, cells), s = optimal_alpha(prior::gauss, cells);
        CHECK(prints_as(r.laplace_alpha, b));
        CHECK(prints_as(r.laplace_error, paper_mse(prior::laplace, b, cells)));
        CHECK(prints_as(r.gauss_alpha, s));
        CHECK(prints_as(r.gauss_error, paper_mse(prior::gauss, s, cells)));
        CHECK(fused_cells(r.bits - 1) == cells); // a fused ReLU is one more bit
    }
}

TEST_CASE("aciq: the optimum satisfies its equation for any real number of bits, and its neighbours are worse",
          "[aciq]") {
    for (const prior p : both)
        for (double bits = -6.0; bits <= 17; bits += 0.25) {
            CAPTURE(static_cast<int>(p), bits);
            const double cells = signed_cells(bits);
            const double alpha = optimal_alpha(p, cells);
            CHECK(near(2 * excess(p, alpha), alpha / (3 * cells * cells), 1e-11));
            CHECK(paper_mse(p, alpha, cells) <= paper_mse(p, alpha * 1.001, cells));
            CHECK(paper_mse(p, alpha, cells) <= paper_mse(p, alpha * 0.999, cells));
        }
    for (const prior p : both)
        for (const double bins : {1e-100, 1e-12, 1e-6, 0.01, 0.3, 3.0, 5.5, 100.0, 1e12})
            CHECK(near(2 * excess(p, optimal_alpha(p, bins)), optimal_alpha(p, bins) / (3 * bins * bins), 1e-11));
}

TEST_CASE("aciq: the numbered test vectors 1 to 35", "[aciq][paper]") {
    constexpr double tolerance = 1e-9;
    struct formula_row {
        int number;
        bool fused;
        prior p;
        double bits, spread, alpha, error;
    };
    constexpr std::array formula{
        formula_row{1, false, prior::laplace, 2, 1, 2.83068298937, 0.28487775344},
        formula_row{2, false, prior::laplace, 3, 1, 3.89722946495, 0.11970237725},
        formula_row{3, false, prior::laplace, 4, 1, 5.02864013624, 0.046021486839},
        formula_row{4, false, prior::laplace, 8, 1, 9.89675977002, 5.9885342146e-4},
        formula_row{5, false, prior::laplace, 4, 0.37, 1.86059685041, 0.0063003415482},
        formula_row{6, false, prior::gauss, 2, 1, 1.71063516811, 0.087148482632},
        formula_row{7, false, prior::gauss, 4, 1, 2.55913646198, 0.010493254196},
        formula_row{8, false, prior::gauss, 6, 1, 3.28691421521, 0.0010129168498},
        formula_row{9, false, prior::gauss, 8, 1, 3.92403548988, 8.7077898970e-5},
        formula_row{10, false, prior::gauss, 3, 1.75, 3.76528730330, 0.096252672439},
        formula_row{11, true, prior::laplace, 4, 1, 6.20476633401, 0.0082859143763},
        formula_row{12, true, prior::gauss, 4, 1, 2.93620061211, 0.0016612968579},
        formula_row{13, true, prior::laplace, 8, 0.37, 4.13019345657, 1.2788671587e-5},
        formula_row{14, false, prior::laplace, 2.5, 1, 3.35414985082, 0.18706896795},
        formula_row{15, false, prior::gauss, 5.3, 1, 3.04399624516, 0.0023345805425},
    };
    for (const formula_row& r : formula) {
        CAPTURE(r.number);
        const double cells = r.fused ? fused_cells(r.bits) : signed_cells(r.bits);
        const double alpha = optimal_alpha(r.p, cells);
        const double error = paper_mse(r.p, alpha, cells) * (r.fused ? 0.5 : 1.0);
        CHECK(near(alpha * r.spread, r.alpha, tolerance));
        CHECK(near(error * r.spread * r.spread, r.error, tolerance));
    }
    CHECK(near(paper_mse(prior::laplace, 3, signed_cells(4)), 0.11129288674, tolerance));           // 16
    CHECK(near(paper_mse(prior::gauss, 4, signed_cells(4)), 0.020839513750, tolerance));            // 17
    CHECK(near(exact_mse({prior::laplace, 0, false}, 0.5, narrow(4)), 0.080452630277, tolerance));  // 18
    CHECK(near(exact_mse({prior::gauss, 0, false}, 0.5, full(3)), 0.047629236883, tolerance));      // 19
    CHECK(near(exact_mse({prior::gauss, 0, true}, 0.25, positive(4)), 0.0026132700368, tolerance)); // 20
    CHECK(near(midrise_mse(prior::laplace, 1, 4), 0.51424111766, tolerance));                       // 21

    struct optimum_row {
        int number;
        source x;
        integer_grid grid;
        double step, error;
    };
    constexpr std::array optima{
        optimum_row{22, {prior::laplace, 0, false}, narrow(2), 2, 0.52848223531},
        optimum_row{23, {prior::laplace, 0, false}, narrow(4), 0.68855931824, 0.054790444381},
        optimum_row{24, {prior::laplace, 0, false}, full(4), 0.66135268856, 0.050520551385},
        optimum_row{25, {prior::gauss, 0, false}, full(4), 0.33860793572, 0.011864037710},
        optimum_row{26, {prior::gauss, 0, false}, narrow(8), 0.030870086040, 8.8308030718e-5},
        optimum_row{27, {prior::laplace, 0, true}, positive(4), 0.40653582509, 0.0090851293290},
        optimum_row{28, {prior::gauss, 0, true}, positive(4), 0.19324852440, 0.0018466098862},
        optimum_row{29, {prior::laplace, -1, true}, positive(4), 0.4065358251, 0.0033422323005},
        optimum_row{30, {prior::laplace, 1, true}, positive(4), 0.4380573707, 0.016856580784},
        optimum_row{31, {prior::gauss, -1, true}, positive(4), 0.1522641769, 3.7287382329e-4},
        optimum_row{32, {prior::gauss, 1, true}, positive(4), 0.2446882689, 0.0048519994182},
    };
    for (const optimum_row& r : optima) {
        CAPTURE(r.number);
        const double step = exact_step(r.x, r.grid);
        CHECK(near(step, r.step, tolerance));
        CHECK(near(exact_mse(r.x, step, r.grid), r.error, tolerance));
    }
    CHECK(near(exact_mse({prior::laplace, 0, false}, 2, narrow(2)), 2 - 4 / std::exp(1.0), 1e-14)); // 22 exactly
    CHECK(near(relu_alpha(prior::laplace, 1, fused_cells(4)), 6.6461641065, tolerance));            // 33

    const double laplace = optimal_alpha(prior::laplace, corrected_cells(narrow(4), false)); // 34
    CHECK(near(laplace, 4.80671338522, tolerance));
    CHECK(near(exact_mse({prior::laplace, 0, false}, laplace / 7, narrow(4)), 0.054792122095, tolerance));
    const double gauss = optimal_alpha(prior::gauss, corrected_cells(full(4), false)); // 35
    CHECK(near(gauss, 2.52253895869, tolerance));
    CHECK(near(exact_mse({prior::gauss, 0, false}, gauss / 7.5, full(4)), 0.011867830093, tolerance));
}

TEST_CASE("aciq: exact optima and the losses of the formulas, signed grids", "[aciq][paper]") {
    struct row {
        int bits;
        const char *n_step, *n_error, *n_paper, *n_corrected, *f_step, *f_error, *f_paper, *f_corrected, *r_step,
            *r_error, *r_paper;
    };
    constexpr std::array<std::array<row, 7>, 2> tables{{
        {{
            {2, "2.0000000000", "0.5284822353", "18.30%", "0.69%", "1.7170341198", "0.4139893136", "1.36%", "0.61%",
             "1.5378054889", "0.3926045265", "1.39%"},
            {3, "1.1621336148", "0.1661730375", "3.44%", "0.04%", "1.0782706255", "0.1439891219", "0.29%", "0.16%",
             "1.0336956198", "0.1434955926", "1.11%"},
            {4, "0.68855931824", "0.05479044438", "0.72%", "<0.01%", "0.66135268856", "0.05052055139", "0.08%", "0.03%",
             "0.65194589640", "0.05070194923", "0.58%"},
            {5, "0.40653582509", "0.01817025866", "0.16%", "<0.01%", "0.39778473212", "0.01738134912", "0.02%",
             "<0.01%", "0.39596360105", "0.01742644136", "0.24%"},
            {6, "0.23737382292", "0.005959029867", "0.04%", "<0.01%", "0.23463960266", "0.005819651262", "<0.01%",
             "<0.01%", "0.23430792819", "0.005826861417", "0.09%"},
            {7, "0.13679102961", "0.001919885836", "<0.01%", "<0.01%", "0.13596200262", "0.001896240118", "<0.01%",
             "<0.01%", "0.13590439701", "0.001897194012", "0.03%"},
            {8, "0.077816156715", "6.066034115e-4", "<0.01%", "<0.01%", "0.077571235524", "6.027283866e-4", "<0.01%",
             "<0.01%", "0.077561607042", "6.028406541e-4", "<0.01%"},
        }},
        {{
            {2, "1.2240063619", "0.1901740392", "33.92%", "0.04%", "1.0483852625", "0.1494310651", "1.70%", "0.29%",
             "0.99568668594", "0.1188460504", "7.52%"},
            {3, "0.65076970400", "0.04685997439", "4.44%", "0.05%", "0.60182422669", "0.04063824659", "0.21%", "0.15%",
             "0.58601944144", "0.03743965939", "3.99%"},
            {4, "0.35341131557", "0.01288938591", "0.78%", "<0.01%", "0.33860793572", "0.01186403771", "0.04%", "0.03%",
             "0.33520061220", "0.01154288443", "1.67%"},
            {5, "0.19324852440", "0.003693219772", "0.15%", "<0.01%", "0.18879222290", "0.003525958579", "0.01%",
             "<0.01%", "0.18813879028", "0.003495211362", "0.61%"},
            {6, "0.10548758606", "0.001069289121", "0.03%", "<0.01%", "0.10417944701", "0.001042853327", "<0.01%",
             "<0.01%", "0.10406300944", "0.001040045409", "0.20%"},
            {7, "0.057261280721", "3.086217856e-4", "<0.01%", "<0.01%", "0.056887344573", "3.045785420e-4", "<0.01%",
             "<0.01%", "0.056867672382", "3.043327708e-4", "0.06%"},
            {8, "0.030870086040", "8.830803072e-5", "<0.01%", "<0.01%", "0.030765578543", "8.770692197e-5", "<0.01%",
             "<0.01%", "0.030762387582", "8.768618578e-5", "0.02%"},
        }},
    }};
    for (std::size_t which = 0; which < 2; ++which)
        for (const row& r : tables[which]) {
            const prior p = both[which];
            CAPTURE(static_cast<int>(p), r.bits);
            const source x{p, 0, false};
            const double paper = optimal_alpha(p, signed_cells(r.bits));
            const auto check = [&](integer_grid grid, const char* step, const char* error, const char* loss,
                                   const char* corrected) {
                const double best = exact_step(x, grid);
                const double least = exact_mse(x, best, grid);
                const double cells = corrected_cells(grid, false);
                CHECK(prints_as(step, best));
                CHECK(prints_as(error, least));
                CHECK(prints_as(loss, exact_mse(x, 2 * paper / cells, grid) / least - 1));
                CHECK(prints_as(corrected, exact_mse(x, 2 * optimal_alpha(p, cells) / cells, grid) / least - 1));
            };
            check(narrow(r.bits), r.n_step, r.n_error, r.n_paper, r.n_corrected);
            check(full(r.bits), r.f_step, r.f_error, r.f_paper, r.f_corrected);
            const int levels = 1 << r.bits;
            const double best = midrise_step(p, levels);
            const double least = midrise_mse(p, best, levels);
            CHECK(prints_as(r.r_step, best));
            CHECK(prints_as(r.r_error, least));
            CHECK(prints_as(r.r_paper, midrise_mse(p, 2 * paper / levels, levels) / least - 1));
        }
}

TEST_CASE("aciq: exact optima under a fused ReLU", "[aciq][paper]") {
    struct row {
        int bits;
        std::array<const char*, 4> laplace, gauss; // step, error, loss of paper, loss of corrected
    };
    constexpr std::array rows{
        row{1,
            {"2.0000000000", "0.2642411177", "18.30%", "0.69%"},
            {"1.2240063619", "0.09508701962", "33.92%", "0.04%"}},
        row{2,
            {"1.1621336148", "0.08308651876", "3.44%", "0.04%"},
            {"0.65076970400", "0.02342998719", "4.44%", "0.05%"}},
        row{3,
            {"0.68855931824", "0.02739522219", "0.72%", "<0.01%"},
            {"0.35341131557", "0.006444692955", "0.78%", "<0.01%"}},
        row{4,
            {"0.40653582509", "0.009085129329", "0.16%", "<0.01%"},
            {"0.19324852440", "0.001846609886", "0.15%", "<0.01%"}},
        row{5,
            {"0.23737382292", "0.002979514934", "0.04%", "<0.01%"},
            {"0.10548758606", "5.346445607e-4", "0.03%", "<0.01%"}},
        row{6,
            {"0.13679102961", "9.599429178e-4", "<0.01%", "<0.01%"},
            {"0.057261280721", "1.543108928e-4", "<0.01%", "<0.01%"}},
        row{7,
            {"0.077816156715", "3.033017058e-4", "<0.01%", "<0.01%"},
            {"0.030870086040", "4.415401536e-5", "<0.01%", "<0.01%"}},
        row{8,
            {"0.043747228990", "9.403273064e-5", "<0.01%", "<0.01%"},
            {"0.016528152831", "1.250402849e-5", "<0.01%", "<0.01%"}},
    };
    for (const row& r : rows)
        for (const prior p : both) {
            CAPTURE(static_cast<int>(p), r.bits);
            const auto& expected = p == prior::laplace ? r.laplace : r.gauss;
            const source x{p, 0, true};
            const integer_grid grid = positive(r.bits);
            const double best = exact_step(x, grid);
            const double least = exact_mse(x, best, grid);
            CHECK(prints_as(expected[0], best));
            CHECK(prints_as(expected[1], least));
            const double codes = grid.above;
            CHECK(
                prints_as(expected[2], exact_mse(x, optimal_alpha(p, fused_cells(r.bits)) / codes, grid) / least - 1));
            CHECK(prints_as(expected[3],
                            exact_mse(x, optimal_alpha(p, corrected_cells(grid, true)) / codes, grid) / least - 1));
            // Half of the narrow signed grid with one more bit, exactly.
            CHECK(near(2 * least, exact_mse({p, 0, false}, best, narrow(r.bits + 1)), 1e-9));
        }
}

TEST_CASE("aciq: the exact error agrees with quadrature of its definition", "[aciq]") {
    std::mt19937 random(13);
    const auto uniform = [&](double lo, double hi) {
        return lo + (hi - lo) * static_cast<double>(random()) / 4294967295.0;
    };
    for (int trial = 0; trial < 150; ++trial) {
        const prior p = both[trial % 2 == 0 ? 0 : 1];
        const bool relu = trial % 3 == 0;
        const double mean = trial % 5 == 0 ? 0.0 : uniform(-3, 3);
        const integer_grid grid{relu ? 0 : static_cast<int>(random() % 9), 1 + static_cast<int>(random() % 9)};
        const double step = uniform(0.05, 2.5);
        CAPTURE(static_cast<int>(p), relu, mean, grid.below, grid.above, step);
        const auto exact = reference::integrate(p == prior::gauss, static_cast<long double>(mean), relu,
                                                static_cast<long double>(step), grid.below, grid.above);
        CHECK(near(exact_mse({p, mean, relu}, step, grid), static_cast<double>(exact.error), 1e-10));
        CHECK(near(mean_square({p, mean, relu}), static_cast<double>(exact.mean_square), 1e-10));
        if (mean == 0 && p == prior::laplace)
            CHECK(near(laplace_grid_mse(step, grid, relu), static_cast<double>(exact.error), 1e-12));
    }
    // The closed form for Laplace and the sum are independent derivations; the sum wants a mean that is not zero.
    for (const int bits : {2, 4, 8})
        for (const double step : {0.01, 0.1, 1.0, 4.0})
            CHECK(near(laplace_grid_mse(step, full(bits), false),
                       exact_mse({prior::laplace, 1e-200, false}, step, full(bits)), 1e-9));
    // A step beyond everything makes every code zero; codes below zero are of no use to what is never negative.
    CHECK(laplace_grid_mse(2000, full(4), false) == 2);
    for (const double mean : {-1.0, 0.0, 0.7})
        CHECK(exact_mse({prior::gauss, mean, true}, 0.25, full(4)) ==
              exact_mse({prior::gauss, mean, true}, 0.25, {0, 7}));
}

TEST_CASE("aciq: at the exact optimum E[Q^2] = E[X^2] - D, and neighbours are worse", "[aciq]") {
    for (const prior p : both)
        for (const double mean : {0.0, -1.5, 0.7, 2.5})
            for (const bool relu : {false, true})
                for (const int bits : {1, 2, 3, 4, 5}) {
                    CAPTURE(static_cast<int>(p), mean, relu, bits);
                    const source x{p, mean, relu};
                    const integer_grid grid = relu ? positive(bits) : full(bits);
                    const double step = exact_step(x, grid);
                    const double error = exact_mse(x, step, grid);
                    CHECK(error <= exact_mse(x, step * 1.002, grid));
                    CHECK(error <= exact_mse(x, step * 0.998, grid));
                    const auto q = reference::integrate(p == prior::gauss, static_cast<long double>(mean), relu,
                                                        static_cast<long double>(step), grid.below, grid.above);
                    CHECK(near(static_cast<double>(q.level_square), mean_square(x) - error, 1e-9));
                    CHECK(std::abs(static_cast<double>(q.error_of_level)) <= 1e-9 * mean_square(x));
                }
}

TEST_CASE("aciq: with a large mean the error has several minima, and the lowest is found", "[aciq]") {
    for (const prior p : both)
        for (const double mean : {-12.0, -6.0, -4.2, 4.2, 6.0, 12.0, 40.0})
            for (const bool relu : {false, true})
                for (const int bits : {2, 3, 4}) {
                    if (relu && mean < 0) continue;
                    CAPTURE(static_cast<int>(p), mean, relu, bits);
                    const source x{p, mean, relu};
                    const integer_grid grid = relu ? positive(bits) : full(bits);
                    const double error = exact_mse(x, exact_step(x, grid), grid);
                    for (double step = 0.01; step < 2 * std::abs(mean); step *= 1.003)
                        REQUIRE(error <= exact_mse(x, step, grid) * (1 + 1e-9));
                }
}

TEST_CASE("aciq: the clip under a ReLU with a mean satisfies its equation", "[aciq]") {
    for (const prior p : both)
        for (const double mean : {-5.0, -1.0, 0.0, 0.5, 2.0, 20.0})
            for (const int bits : {1, 2, 4, 8, 16}) {
                const double cells = corrected_cells(positive(bits), true);
                const double clip = relu_alpha(p, mean, cells);
                CAPTURE(static_cast<int>(p), mean, bits, clip);
                CHECK(near(excess(p, clip - mean), upper_tail(p, -mean) * clip / (3 * cells * cells), 1e-9));
                if (mean == 0) CHECK(near(clip, optimal_alpha(p, cells), 1e-11));
                if (p == prior::laplace && mean < 0) CHECK(near(clip, optimal_alpha(p, cells), 1e-9)); // memoryless
            }
    // What the authors' rule max(mean, 0) + alpha costs at 4 bits.
    const auto cost = [](prior p, double mean) {
        const source x{p, mean, true};
        const double step = (std::max(mean, 0.0) + optimal_alpha(p, fused_cells(4))) / 15;
        return exact_mse(x, step, positive(4)) / exact_mse(x, exact_step(x, positive(4)), positive(4)) - 1;
    };
    CHECK(prints_as("2.4%", cost(prior::laplace, 0.5)));
    CHECK(prints_as("4.4%", cost(prior::laplace, 1)));
    CHECK(prints_as("9.2%", cost(prior::laplace, 2)));
    CHECK(prints_as("37%", cost(prior::gauss, -1)));
}

TEST_CASE("aciq: sigma from a range, table of its accuracy", "[aciq][paper]") {
    constexpr std::array<std::uint64_t, 9> counts{9, 64, 576, 4608, 10000, 50000, 100000, 1000000, 10000000};
    constexpr std::array range{"0.765", "0.878", "0.933", "0.962", "0.970", "0.983", "0.987", "1.000", "1.009"};
    constexpr std::array absmax{"0.946", "0.973", "0.995", "1.008", "1.012", "1.018", "1.021", "1.027", "1.033"};
    constexpr std::array laplace{"1.03", "1.26", "1.49", "1.68", "1.74", "1.87", "1.92", "2.09", "2.25"};
    constexpr std::array threshold{"2.02", "1.47", "1.19", "1.03", "0.988", "0.911", "0.884", "0.807", "0.747"};
    for (std::size_t i = 0; i < counts.size(); ++i) {
        CAPTURE(counts[i]);
        const auto n = static_cast<long double>(counts[i]);
        // E[max] and E[max |x|] of n normals: integrals of 1 - F^n (less F^n below zero), by the midpoint rule.
        long double largest = 0, magnitude = 0, harmonic = 0;
        const long double h = 1e-3L;
        for (long double x = h / 2; x < 12; x += h) {
            const long double q = std::erfc(x / std::sqrt(2.0L)) / 2;
            largest += h * (-std::expm1(n * std::log1p(-q)) - std::exp(n * std::log(q)));
            magnitude += h * -std::expm1(n * std::log1p(-2 * q));
        }
        for (std::uint64_t k = counts[i]; k > 0; --k) harmonic += 1 / static_cast<long double>(k);
        const auto e = static_cast<double>(largest), m = static_cast<double>(magnitude),
                   l = static_cast<double>(harmonic);
        CHECK(prints_as(range[i], range_sigma(-e, e, counts[i])));
        CHECK(prints_as(absmax[i], range_sigma(-m, m, counts[i])));
        CHECK(prints_as(laplace[i], range_sigma(-l, l, counts[i]) / std::sqrt(2.0)));
        CHECK(prints_as(threshold[i], ncnn_threshold(1, counts[i], optimal_alpha(prior::gauss, 256))));
        CHECK(near(absmax_laplace_b(l, counts[i]), 1, 1e-12)); // b = 1: exact in expectation
    }
    CHECK(near(range_constant, 0.175 * (1 + std::sqrt(std::acos(-1.0) * std::log(4.0))), 1e-14));
    const double sigma = range_sigma(-4.2, 3.9, 50176);
    CHECK(near(sigma, 0.94048448206, 1e-9));
    CHECK(near(sigma * optimal_alpha(prior::gauss, 256), 3.6904944853, 1e-9));
    CHECK(near(ncnn_threshold(4.2, 50176, optimal_alpha(prior::gauss, 256)), 3.8271794662, 1e-9));
    CHECK(near(ncnn_threshold(4.2, 50176, ncnn_alpha_8bit), 3.8271810756, 1e-9));
    CHECK(range_sigma(2, 2, 1) == 0); // ln 1 = 0
    CHECK(range_sigma(0, 0, 0) == 0);
    CHECK(absmax_laplace_b(3, 1) == 3);
    CHECK(absmax_laplace_b(3, 0) == 0);
}

TEST_CASE("aciq: the choice of the prior and what a wrong one costs", "[aciq][paper]") {
    CHECK(near(prior_threshold, std::sqrt(std::acos(-1.0) / 2) * std::exp(-0.5), 1e-15));
    CHECK(choose_prior(1 / std::sqrt(2.0), 1) == prior::laplace);
    CHECK(choose_prior(std::sqrt(2 / std::acos(-1.0)), 1) == prior::gauss);
    CHECK(choose_prior(0.7601, 1) == prior::laplace);
    CHECK(choose_prior(0.7602, 1) == prior::gauss);
    struct row {
        int bits;
        const char *laplace_data, *gauss_data;
    };
    for (const row& r : {row{2, "1.02", "1.11"}, row{3, "1.14", "1.51"}, row{4, "1.46", "1.94"}, row{6, "3.6", "2.8"},
                         row{8, "13", "3.6"}}) {
        CAPTURE(r.bits);
        const integer_grid grid = narrow(r.bits);
        const double cells = corrected_cells(grid, false);
        const source laplace{prior::laplace, 0, false}, gauss{prior::gauss, 0, false};
        const double gauss_clip = optimal_alpha(prior::gauss, cells) * std::sqrt(2.0); // sigma of b = 1
        const double laplace_clip =
            optimal_alpha(prior::laplace, cells) * std::sqrt(2.0 / std::acos(-1.0)); // b of sigma = 1
        CHECK(prints_as(r.laplace_data, exact_mse(laplace, 2 * gauss_clip / cells, grid) /
                                            exact_mse(laplace, exact_step(laplace, grid), grid)));
        CHECK(prints_as(r.gauss_data, exact_mse(gauss, 2 * laplace_clip / cells, grid) /
                                          exact_mse(gauss, exact_step(gauss, grid), grid)));
    }
    // Comparing predicted errors instead would take Laplace only above these sigma/b.
    struct threshold {
        int bits;
        const char* ratio;
    };
    for (const threshold& t : {threshold{2, "1.81"}, threshold{4, "2.09"}, threshold{8, "2.62"}}) {
        const double cells = signed_cells(t.bits);
        const double l = paper_mse(prior::laplace, optimal_alpha(prior::laplace, cells), cells);
        const double g = paper_mse(prior::gauss, optimal_alpha(prior::gauss, cells), cells);
        CHECK(prints_as(t.ratio, std::sqrt(l / g)));
    }
}

TEST_CASE("aciq: what the paper's formula predicts is not what its grids give", "[aciq][paper]") {
    const double two = optimal_alpha(prior::laplace, 4), four = optimal_alpha(prior::laplace, 16);
    CHECK(prints_as("0.2849", paper_mse(prior::laplace, two, 4)));
    CHECK(prints_as("0.3980", midrise_mse(prior::laplace, two / 2, 4)));
    CHECK(prints_as("0.2663", exact_mse({prior::laplace, 0, false}, two / 2, {2, 2})));
    CHECK(prints_as("0.04602", paper_mse(prior::laplace, four, 16)));
    CHECK(prints_as("0.05100", midrise_mse(prior::laplace, four / 8, 16)));
    CHECK(prints_as("0.04543", exact_mse({prior::laplace, 0, false}, four / 8, {8, 8})));
}

TEST_CASE("aciq: the authors' affine range", "[aciq][paper]") {
    const affine_grid s = paper_signed_grid(prior::laplace, 4, -3.1, 0.2, 0.5);
    CHECK(near(s.lo, -2.3143200681, 1e-9));
    CHECK(near(s.hi - s.lo, 5.0286401362, 1e-9));
    CHECK(near(s.scale, 0.33524267575, 1e-9));
    CHECK(prints_as("6.9034", s.exact_zero_point));
    CHECK(s.zero_point == 7);
    CHECK(paper_signed_grid(prior::laplace, 4, -1.0, 0.2, 0.5).lo == -1.0);
    const affine_grid f = paper_fused_grid(prior::laplace, 4, 0.2, 0.5);
    CHECK(near(f.hi, 3.3023831670, 1e-9));
    CHECK(near(f.hi - 0.2, 3.1023831670, 1e-9));
    CHECK(near(f.scale, 0.22015887780, 1e-9));
    CHECK(f.zero_point == 0);
    CHECK(near(paper_fused_grid(prior::laplace, 4, -0.2, 0.5).hi, 3.1023831670, 1e-9));
    CHECK(paper_signed_grid(prior::gauss, 8, 1.0, 1.0, 0.0).scale == 1e-8); // their floor
    for (const auto& [lo, zero_point] : {std::pair{-0.5, 0}, {-1.5, 2}, {-2.5, 2}, {0.5, 0}, {1.5, -2}, {-1.25, 1}}) {
        CHECK(paper_grid(lo, lo + 1, 1).zero_point == zero_point); // ties to even
        CHECK(paper_grid(lo, lo + 1, 1).exact_zero_point == -lo);
    }
    CHECK(paper_grid(-1e6, -1e6, 8).zero_point == 1000000000); // 1e14 at the floor of the scale
    CHECK(paper_grid(1e6, 1e6, 8).zero_point == -1000000000);
}

TEST_CASE("aciq: clip gives the step of the format's own grid", "[aciq]") {
    struct row {
        quant::code_format format;
        integer_grid grid;
    };
    for (const row& r :
         {row{quant::int4, full(4)}, row{quant::int4.narrow(), narrow(4)}, row{quant::int2.narrow(), narrow(2)},
          row{quant::int8, full(8)}, row{quant::uint4, positive(4)}, row{quant::uint8, positive(8)},
          row{quant::uint1, positive(1)}, row{quant::int1, full(1)}, row{quant::int16, full(16)}})
        for (const prior p : both) {
            CAPTURE(static_cast<int>(r.format.bits), r.format.is_signed, r.format.narrow_range, static_cast<int>(p));
            const bool relu = !r.format.is_signed;
            const tensor_statistics data =
                about_zero(0.5, 0.5, 1000, relu ? statistics::before_relu : statistics::unspecified);
            const double cells = corrected_cells(r.grid, relu);
            const double paper_cells = relu ? fused_cells(r.format.bits) : signed_cells(r.format.bits);
            for (const aciq_mode mode : {aciq_mode::paper, aciq_mode::corrected, aciq_mode::exact}) {
                double step = 2 * 0.5 * optimal_alpha(p, mode == aciq_mode::paper ? paper_cells : cells) / cells;
                if (mode == aciq_mode::exact && r.format.bits <= 8) step = 0.5 * exact_step({p, 0, relu}, r.grid);
                const auto range = quant::aciq(p, mode).clip(data, r.format);
                REQUIRE(range);
                CHECK(near(range->lo, r.format.qmin() * step, 1e-11));
                CHECK(near(range->hi, r.format.qmax() * step, 1e-11));
                const auto params = quant::choose_params(*range, r.format, quant::mapping::symmetric);
                REQUIRE(params);
                CHECK(near(static_cast<double>(params->scale), step, 1e-7));
                CHECK(params->zero_point == 0);
            }
        }
}

TEST_CASE("aciq: the range gives back its step to the bit of the float scale", "[aciq]") {
    std::mt19937_64 random(41);
    for (int trial = 0; trial < 200000; ++trial) {
        const quant::code_format format =
            trial % 3 == 0   ? quant::code_format{static_cast<std::uint8_t>(2 + trial % 7), true, true}
            : trial % 3 == 1 ? quant::code_format{static_cast<std::uint8_t>(1 + trial % 8), true}
                             : quant::code_format{static_cast<std::uint8_t>(1 + trial % 8), false};
        double step =
            std::ldexp(1.0 + static_cast<double>(random() >> 12) * 0x1p-52, static_cast<int>(random() % 60) - 30);
        if (trial % 2 == 0) { // next to the border between two floats, where one ulp of a double decides
            const auto f = static_cast<float>(step);
            const double border = 0.5 * (static_cast<double>(f) + static_cast<double>(std::nextafter(f, 1e30f)));
            step = trial % 4 == 0 ? border : std::nextafter(border, trial % 8 == 2 ? 0.0 : 1e30);
        }
        const auto params = quant::choose_params(quant::grid_range(step, format), format, quant::mapping::symmetric);
        REQUIRE(params);
        REQUIRE(params->scale == static_cast<float>(step));
    }
    CHECK(quant::grid_range(0, quant::int4) == quant::clip_range{0, 0});
}

TEST_CASE("aciq: a clip is never wider than the data", "[aciq]") {
    std::mt19937 random(19);
    const auto uniform = [&](double lo, double hi) {
        return lo + (hi - lo) * static_cast<double>(random()) / 4294967295.0;
    };
    for (int trial = 0; trial < 4000; ++trial) {
        tensor_statistics s;
        s.count = 1 + random() % 100;
        s.min = uniform(-4, 2);
        s.max = s.min + uniform(0, 5);
        s.mean = uniform(s.min, s.max);
        s.centre = s.mean;
        const double spread = 0.5 * (s.max - s.min);
        s.mean_abs_deviation = uniform(0, spread);
        s.variance = uniform(0, spread * spread);
        s.mean_square = s.variance + s.mean * s.mean;
        s.positive = s.max > 0 ? 1 + s.count / 2 : 0;
        const bool is_signed = trial % 2 == 0;
        s.taken = is_signed ? statistics::unspecified : statistics::before_relu;
        if (trial % 4 == 1) {
            s.taken = statistics::after_relu;
            s.min = std::max(s.min, 0.0);
            s.max = std::max(s.max, 0.0);
            s.mean = std::max(s.mean, 0.0);
        }
        const quant::code_format format{static_cast<std::uint8_t>(2 + trial % 7), is_signed,
                                        is_signed && trial % 3 == 0};
        const prior p = trial % 3 == 0 ? prior::gauss : trial % 3 == 1 ? prior::laplace : prior::automatic;
        for (const aciq_mode mode : {aciq_mode::paper, aciq_mode::corrected, aciq_mode::exact}) {
            CAPTURE(trial, static_cast<int>(mode));
            const auto range = quant::aciq(p, mode).clip(s, format);
            REQUIRE(range);
            const auto widest = quant::choose_params({s.min, s.max}, format, quant::mapping::symmetric);
            REQUIRE(widest);
            const auto params = quant::choose_params(*range, format, quant::mapping::symmetric);
            REQUIRE(params);
            const bool nothing = s.max <= 0 && !is_signed;
            if (!nothing) CHECK(params->scale <= widest->scale);
            if (nothing) CHECK(*range == quant::clip_range{0, 0});
            if (!is_signed) CHECK(range->hi <= std::max(s.max, 0.0) * (1 + 1e-7));
            if (format.narrow_range) CHECK(range->hi <= std::max(std::abs(s.min), std::abs(s.max)) * (1 + 1e-7));
        }
    }
    // alpha at or beyond the largest magnitude: min-max, also where the full grid would give a smaller step.
    const auto range = quant::aciq().clip(about_zero(1, 1, 4.75), quant::int4);
    REQUIRE(range);
    CHECK(optimal_alpha(prior::laplace, 15) > 4.75);
    CHECK(optimal_alpha(prior::laplace, 15) / 7.5 < 4.75 / 7);
    CHECK(range->hi == Catch::Approx(4.75));
    CHECK(range->lo == Catch::Approx(-8 * 4.75 / 7));
    const auto clipped = quant::aciq().clip(about_zero(1, 1, 5.2), quant::int4);
    REQUIRE(clipped);
    CHECK(near(clipped->lo, -8 * optimal_alpha(prior::laplace, 15) / 7.5, 1e-11));
}

TEST_CASE("aciq: the mean of a signed tensor widens the clip, or moves the exact optimum", "[aciq]") {
    tensor_statistics s = about_zero(0.5, 0.6, 100);
    s.mean = -0.3;
    s.centre = -0.3;
    const auto format = quant::int4.narrow();
    const auto corrected = quant::aciq(prior::laplace).clip(s, format);
    REQUIRE(corrected);
    CHECK(near(corrected->hi, 0.3 + 0.5 * optimal_alpha(prior::laplace, 14), 1e-11));
    const auto exact = quant::aciq(prior::gauss, aciq_mode::exact).clip(s, format);
    REQUIRE(exact);
    CHECK(near(exact->hi, 7 * 0.6 * exact_step({prior::gauss, -0.5, false}, narrow(4)), 1e-11));
    // A mean beyond the 64 spreads of the exact solver falls back to the corrected clip.
    s.mean = s.centre = 50;
    s.variance = 0.01;
    const auto far = quant::aciq(prior::gauss, aciq_mode::exact).clip(s, format);
    REQUIRE(far);
    CHECK(near(far->hi, 50 + 0.1 * optimal_alpha(prior::gauss, 14), 1e-11));
}

TEST_CASE("aciq: deviations about another centre than the mean are brought back to it", "[aciq]") {
    for (const double b : {0.3, 1.0, 2.0})
        for (const double d : {1e-9, 1e-3, 0.1, 1.0, 5.0}) {
            CAPTURE(b, d);
            const double deviation =
                d + b * std::exp(-d / b); // E|x - c| of a Laplace density whose mean is d away from c
            CHECK(near(laplace_b(deviation, 0, d), b, 1e-7));
            CHECK(near(laplace_b(deviation, d + 4, 4), b, 1e-7));
        }
    CHECK(laplace_b(1.5, 2, 2) == 1.5);
    CHECK(laplace_b(3, 0, 3) == 0); // all data at 3
    CHECK(laplace_b(0, 0, 0) == 0);
    // The formula is what the integral of |x - c| gives.
    long double integral = 0;
    const long double h = 1e-4L;
    for (long double x = -40 + h / 2; x < 40; x += h) integral += h * std::fabs(x - 0.7L) * std::exp(-std::fabs(x)) / 2;
    CHECK(near(0.7 + std::exp(-0.7), static_cast<double>(integral), 1e-7));
}

TEST_CASE("aciq: before the ReLU", "[aciq]") {
    tensor_statistics s = about_zero(0.5, 0.7, 100, statistics::before_relu);
    for (const double mean : {-0.6, 0.0, 0.4}) {
        CAPTURE(mean);
        s.mean = s.centre = mean;
        const auto paper = quant::aciq(prior::laplace, aciq_mode::paper).clip(s, quant::uint4);
        REQUIRE(paper);
        CHECK(near(paper->hi, std::max(mean, 0.0) + 0.5 * optimal_alpha(prior::laplace, 32), 1e-11));
        const auto corrected = quant::aciq(prior::gauss).clip(s, quant::uint4);
        REQUIRE(corrected);
        CHECK(near(corrected->hi, 0.7 * relu_alpha(prior::gauss, mean / 0.7, 30), 1e-11));
        const auto exact = quant::aciq(prior::laplace, aciq_mode::exact).clip(s, quant::uint4);
        REQUIRE(exact);
        CHECK(near(exact->hi, 15 * 0.5 * exact_step({prior::laplace, mean / 0.5, true}, positive(4)), 1e-11));
        // The corrected clip loses little against the optimum.
        const source x{prior::gauss, mean / 0.7, true};
        CHECK(exact_mse(x, corrected->hi / 0.7 / 15, positive(4)) <=
              1.01 * exact_mse(x, exact_step(x, positive(4)), positive(4)));
    }
    s.mean = s.centre = -60;
    s.min = -100;
    for (const aciq_mode mode :
         {aciq_mode::corrected, aciq_mode::exact}) { // nothing is expected above zero: keep what there is
        const auto range = quant::aciq(prior::gauss, mode).clip(s, quant::uint4);
        REQUIRE(range);
        CHECK(range->hi == Catch::Approx(100.0));
    }
    s.max = -1; // nothing at all
    const auto none = quant::aciq().clip(s, quant::uint4);
    REQUIRE(none);
    CHECK(*none == quant::clip_range{0, 0});
}

TEST_CASE("aciq: after the ReLU the positive part alone is used", "[aciq]") {
    // Laplace source of b = 1 and mean -0.5: positive part exponential with b = 1.
    const double share = 0.5 * std::exp(-0.5);
    tensor_statistics s;
    s.count = 1u << 20;
    s.positive = static_cast<std::uint64_t>(share * (1u << 20));
    const double p = static_cast<double>(s.positive) / static_cast<double>(s.count);
    s.max = 12;
    s.mean = p;            // p * E[x | x > 0] = p b
    s.mean_square = 2 * p; // p * 2 b^2
    s.variance = s.mean_square - s.mean * s.mean;
    s.mean_abs_deviation = 2 * s.mean * (1 - p);
    s.centre = s.mean;
    s.taken = statistics::after_relu;
    const auto range = quant::aciq(prior::laplace).clip(s, quant::uint4);
    REQUIRE(range);
    CHECK(near(range->hi, optimal_alpha(prior::laplace, 30), 1e-11));
    const auto chosen = quant::aciq(prior::automatic).clip(s, quant::uint4);
    REQUIRE(chosen);
    CHECK(*chosen == *range);
    const auto gauss = quant::aciq(prior::gauss).clip(s, quant::uint4); // sigma = sqrt(E[x^2 | x > 0])
    REQUIRE(gauss);
    CHECK(near(gauss->hi, std::sqrt(2.0) * optimal_alpha(prior::gauss, 30), 1e-9));
    // In a signed format only the codes from 0 up are of use, and the step is chosen for those.
    const auto in_signed = quant::aciq(prior::laplace).clip(s, quant::int4);
    REQUIRE(in_signed);
    CHECK(near(in_signed->hi, optimal_alpha(prior::laplace, 14), 1e-11));
    const auto paper = quant::aciq(prior::laplace, aciq_mode::paper).clip(s, quant::int4);
    REQUIRE(paper);
    CHECK(near(paper->hi, optimal_alpha(prior::laplace, 16), 1e-11));
    // Half-normal data makes the automatic choice Gauss.
    s.positive = s.count / 2;
    s.mean = 0.5 * std::sqrt(2 / std::acos(-1.0));
    s.mean_square = 0.5;
    const auto half_normal = quant::aciq(prior::automatic).clip(s, quant::uint4);
    REQUIRE(half_normal);
    CHECK(near(half_normal->hi, optimal_alpha(prior::gauss, 30), 1e-11));
    // What feeding the spread of the clipped data to the fused table would cost at 4 bits.
    const source x{prior::laplace, 0, true};
    const double least = exact_mse(x, exact_step(x, positive(4)), positive(4));
    const double wrong_b = std::exp(-0.5); // mean |x - mean| of max(y, 0)
    CHECK(
        prints_as("1.9", exact_mse(x, (0.5 + wrong_b * optimal_alpha(prior::laplace, 32)) / 15, positive(4)) / least));
    CHECK(prints_as("2.8", exact_mse(x, wrong_b * optimal_alpha(prior::laplace, 32) / 15, positive(4)) / least));
}

TEST_CASE("aciq: constant, single and zero data", "[aciq]") {
    for (const prior p : {prior::laplace, prior::gauss, prior::automatic})
        for (const aciq_mode mode : {aciq_mode::paper, aciq_mode::corrected, aciq_mode::exact})
            for (const double value : {0.7, -0.7, 0.0}) {
                CAPTURE(value, static_cast<int>(mode));
                tensor_statistics s;
                s.count = value > 0 ? 1 : 64;
                s.positive = value > 0 ? s.count : 0;
                s.min = s.max = s.mean = value;
                s.mean_square = value * value;
                s.mean_abs_deviation = std::abs(value); // about centre 0, as a single pass measures it
                const auto range = quant::aciq(p, mode).clip(s, quant::int4);
                REQUIRE(range);
                const auto params = quant::choose_params(*range, quant::int4, quant::mapping::symmetric);
                REQUIRE(params);
                const double steps = value / static_cast<double>(params->scale);
                CHECK(near(steps, std::nearbyint(steps), 1e-6)); // the constant is a level
                if (value == 0) CHECK(*range == quant::clip_range{0, 0});
                s.taken = statistics::before_relu;
                const auto unsigned_range = quant::aciq(p, mode).clip(s, quant::uint4);
                REQUIRE(unsigned_range);
                CHECK(unsigned_range->hi == Catch::Approx(std::max(value, 0.0)));
            }
}

TEST_CASE("aciq: wrong or missing statistics are named", "[aciq]") {
    const auto fails = [](const quant::result<quant::clip_range>& r, errc code, std::string_view argument) {
        CHECK(r.status().code == code);
        CHECK(r.status().argument == argument);
    };
    const tensor_statistics good = about_zero(1, 1, 10);
    fails(quant::aciq().clip(tensor_statistics{}, quant::int4), errc::no_data, "statistics");
    fails(quant::aciq().clip(good, quant::uint4), errc::statistics_mismatch, "statistics");
    fails(quant::aciq(prior::laplace, aciq_mode::empirical).clip(good, quant::int4), errc::invalid_argument, "mode");
    fails(quant::aciq().clip(good, quant::code_format{9, true}), errc::bits_out_of_range, "format.bits");
    fails(quant::aciq().clip(good, quant::int1.narrow()), errc::bits_out_of_range, "format.narrow_range");
    tensor_statistics s = good;
    s.taken = statistics::after_relu;
    fails(quant::aciq().clip(s, quant::uint4), errc::statistics_mismatch, "statistics"); // negative values
    s.min = 0;
    s.positive = 0;
    fails(quant::aciq().clip(s, quant::uint4), errc::invalid_argument, "statistics.positive");
    s = good;
    s.mean = std::numeric_limits<double>::quiet_NaN();
    fails(quant::aciq().clip(s, quant::int4), errc::non_finite, "statistics");
    s = good;
    s.min = 11;
    fails(quant::aciq().clip(s, quant::int4), errc::invalid_argument, "statistics");
    fails(quant::aciq(prior::laplace, aciq_mode::exact).clip_affine(good, quant::uint4), errc::invalid_argument,
          "mode");
}

TEST_CASE("aciq: a clipping is a constant, and an observer is as good as its statistics", "[aciq]") {
    static_assert(quant::aciq() == quant::aciq_clipping{prior::laplace, aciq_mode::corrected});
    constexpr auto c = quant::aciq(prior::gauss, aciq_mode::exact);
    struct observer {
        [[nodiscard]] tensor_statistics summary() const noexcept { return about_zero(1, 1, 10); }
    };
    const auto from_observer = c.clip(observer{}, quant::int4);
    const auto from_statistics = c.clip(about_zero(1, 1, 10), quant::int4);
    REQUIRE(from_observer);
    REQUIRE(from_statistics);
    CHECK(*from_observer == *from_statistics);
    const auto automatic = quant::aciq(prior::automatic, aciq_mode::exact).clip(about_zero(0.8, 1, 10), quant::int4);
    REQUIRE(automatic);
    CHECK(*automatic == *from_statistics);
}

TEST_CASE("aciq: the affine range with its guards", "[aciq]") {
    tensor_statistics s;
    s.count = 1000;
    s.positive = 600;
    s.min = -3.1;
    s.max = 4.0;
    s.mean = s.centre = 0.2;
    s.mean_abs_deviation = 0.5;
    s.variance = 0.5;
    s.mean_square = 0.54;
    const auto paper = quant::aciq(prior::laplace, aciq_mode::paper);
    const auto free = paper.clip_affine(s, quant::uint4);
    REQUIRE(free);
    CHECK(near(free->lo, -2.3143200681, 1e-9));
    CHECK(near(free->hi, 5.0286401362 - 2.3143200681, 1e-9));
    const auto corrected = quant::aciq(prior::laplace).clip_affine(s, quant::uint4);
    REQUIRE(corrected);
    CHECK(near(corrected->hi - corrected->lo, optimal_alpha(prior::laplace, 15), 1e-11)); // 2 alpha b
    s.max = 2.5;                                                                          // the top edge is the data's
    const auto top = paper.clip_affine(s, quant::uint4);
    REQUIRE(top);
    CHECK(top->hi == 2.5);
    s.min = -1.0; // alpha beyond half the range: all of it
    const auto whole = paper.clip_affine(s, quant::uint4);
    REQUIRE(whole);
    CHECK(*whole == quant::clip_range{-1.0, 2.5});
    s.min = -3.1;
    s.max = 4.0;
    s.taken = statistics::before_relu;
    const auto fused = paper.clip_affine(s, quant::uint4);
    REQUIRE(fused);
    CHECK(fused->lo == 0);
    CHECK(near(fused->hi, 3.3023831670, 1e-9));
    s.max = 1.5;
    const auto capped = paper.clip_affine(s, quant::uint4);
    REQUIRE(capped);
    CHECK(*capped == quant::clip_range{0, 1.5});
}

TEST_CASE("aciq: the empirical clip solves its equation on the data", "[aciq]") {
    const std::vector<double> x = laplace_sample(100000);
    tensor_statistics s = about_zero(1, std::sqrt(2.0), x.back());
    s.count = x.size();
    s.positive = x.size() / 2;
    int passes = 0;
    double last = -1;
    const auto magnitudes = [&](double alpha) {
        ++passes;
        CHECK(alpha > last); // rises monotonically
        last = alpha;
        tail t;
        for (const double v : x)
            if (std::abs(v) > alpha) {
                t.sum += std::abs(v);
                ++t.count;
            }
        return t;
    };
    for (const int bits : {2, 3, 4, 6, 8}) {
        CAPTURE(bits);
        const quant::code_format format{static_cast<std::uint8_t>(bits), true, true};
        passes = 0;
        last = -1;
        const auto range = quant::aciq(prior::laplace, aciq_mode::empirical).clip_empirical(s, format, magnitudes);
        REQUIRE(range);
        CHECK(passes <= 20);
        const double alpha = range->hi, cells = corrected_cells(narrow(bits), false);
        double clipped = 0;
        for (const double v : x) clipped += std::max(std::abs(v) - alpha, 0.0);
        CHECK(near(clipped / static_cast<double>(x.size()), alpha / (3 * cells * cells), 1e-9));
        CHECK(near(alpha, optimal_alpha(prior::laplace, cells), bits <= 4 ? 1e-3 : 2e-2)); // the sample ends at 11 b
    }
    // The full signed format: alpha = 7.5 steps.
    last = -1;
    const auto full_range = quant::aciq().clip_empirical(s, quant::int4, magnitudes);
    REQUIRE(full_range);
    CHECK(near(full_range->hi / 7 * 7.5, optimal_alpha(prior::laplace, 15), 1e-3));
    // Under a ReLU, from the values before and after it: the same clip, zeros cost nothing.
    last = -1;
    const auto positives = [&](double alpha) {
        tail t;
        for (const double v : x)
            if (v > alpha) {
                t.sum += v;
                ++t.count;
            }
        return t;
    };
    s.taken = statistics::before_relu;
    const auto before = quant::aciq().clip_empirical(s, quant::uint4, positives);
    REQUIRE(before);
    CHECK(near(before->hi, optimal_alpha(prior::laplace, 30), 1e-2));
    s.taken = statistics::after_relu;
    s.min = 0;
    s.mean = 0.5;
    s.mean_square = 1;
    const auto after = quant::aciq().clip_empirical(s, quant::uint4, positives);
    REQUIRE(after);
    CHECK(*after == *before);
    // Its measured error beats its neighbours' in the sense of the formula it solves.
    const auto predicted = [&](double alpha) {
        double sum = 0;
        for (const double v : x) sum += std::max(std::abs(v) - alpha, 0.0) * std::max(std::abs(v) - alpha, 0.0);
        return sum / static_cast<double>(x.size()) + alpha * alpha / (3 * 14.0 * 14.0);
    };
    last = -1;
    const double alpha = empirical_alpha(magnitudes, empirical_weight(narrow(4), false, x.size()));
    CHECK(predicted(alpha) <= predicted(alpha * 1.001));
    CHECK(predicted(alpha) <= predicted(alpha * 0.999));
}

TEST_CASE("aciq: the empirical clip, edges", "[aciq]") {
    const auto none = [](double) { return tail{}; };
    tensor_statistics s = about_zero(1, 1, 3);
    CHECK(quant::aciq().clip_empirical(s, quant::uint4, none).status().code == errc::statistics_mismatch);
    s.taken = statistics::before_relu;
    s.positive = 0;
    s.max = -1;
    const auto nothing = quant::aciq().clip_empirical(s, quant::uint4, none);
    REQUIRE(nothing);
    CHECK(*nothing == quant::clip_range{0, 0});
    CHECK(quant::aciq().clip_empirical(tensor_statistics{}, quant::int4, none).status().code == errc::no_data);
    // Two equal magnitudes: every clip below them loses, so min-max is right up to the noise of the step.
    s = about_zero(1, 1, 1);
    s.count = 2;
    s.positive = 1;
    const auto pair = quant::aciq().clip_empirical(s, quant::int8.narrow(), [](double a) {
        return a < 1 ? tail{2, 2} : tail{};
    });
    REQUIRE(pair);
    CHECK(near(pair->hi, 2 / (2 + 2 / (3.0 * 254 * 254)), 1e-12));
}

// ---- the table ------------------------------------------------------------------------------------------------------------

TEST_CASE("a tabulated step is the optimum of the grid, in float") {
    for (const prior p : both)
        for (int bits = 1; bits <= 8; ++bits) {
            const auto width = static_cast<std::uint8_t>(bits);
            for (const quant::code_format format : {quant::code_format{width, false}, quant::code_format{width, true},
                                                    quant::code_format{width, true}.narrow()}) {
                if (format.is_signed && bits == 1) continue;
                const double step = exact_step({p, 0.0, !format.is_signed}, quant::grid_of(format));
                for (const float spread : {1.0f, 0.3f, 7e-20f, 3e20f}) {
                    const auto found = quant::tabulated_aciq(spread, format, p);
                    REQUIRE(found);
                    CHECK(near(static_cast<double>(found->scale), step * static_cast<double>(spread), 0x1p-22));
                    CHECK(found->zero_point == 0);
                    CHECK(found->format == format);
                }
                // The guards of the function that takes statistics, where the clip begins to be wider than the data and around it.
                for (const double largest : {0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 9.0, 20.0}) {
                    const auto taken = format.is_signed ? statistics::unspecified : statistics::before_relu;
                    const auto range = quant::aciq(p, aciq_mode::exact).clip(about_zero(1, 1, largest, taken), format);
                    REQUIRE(range);
                    const double expected = range->hi / format.qmax();
                    const auto found = quant::tabulated_aciq(1.0f, format, p, static_cast<float>(largest));
                    REQUIRE(found);
                    CAPTURE(bits, format.is_signed, format.narrow_range, largest);
                    CHECK(near(static_cast<double>(found->scale), expected, 0x1p-22));
                }
            }
        }
}

TEST_CASE("what the table does not have is an error, and no spread is a zero range") {
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    constexpr auto params = quant::tabulated_aciq(0.5f, quant::int4.narrow());
    static_assert(params && params->scale == 0.5f * 0.68855931824f);
    CHECK(quant::tabulated_aciq(1, quant::int1).status().code == errc::bits_out_of_range);
    CHECK(quant::tabulated_aciq(1, quant::int16).status().code == errc::bits_out_of_range);
    CHECK(quant::tabulated_aciq(1, {9, true}).status().code == errc::bits_out_of_range);
    CHECK(quant::tabulated_aciq(1, {4, false, true}).status().code == errc::bits_out_of_range);
    CHECK(std::string_view(quant::tabulated_aciq(1, quant::int4, prior::automatic).status().argument) == "density");
    for (const float bad : {-1.0f, inf, nan})
        CHECK(std::string_view(quant::tabulated_aciq(bad, quant::int4).status().argument) == "spread");
    for (const float bad : {-1.0f, nan})
        CHECK(std::string_view(quant::tabulated_aciq(1, quant::int4, prior::laplace, bad).status().argument) ==
              "largest");
    CHECK(quant::tabulated_aciq(3e38f, quant::int2).status().code == errc::scale_out_of_range);
    CHECK(quant::tabulated_aciq(0, quant::int8)->scale == 1);
    CHECK(quant::tabulated_aciq(1e-38f, quant::uint8)->scale == 1);
    CHECK(quant::tabulated_aciq(1, quant::int8, prior::gauss, 0)->scale == 1);
}

TEST_CASE("aciq: values after a ReLU that one signed bit cannot reach get the empty range") {
    tensor_statistics s = about_zero(1.0, 1.4, 5.0, statistics::after_relu);
    s.min = 0;
    s.mean = 0.5;
    for (const auto density : {quant::prior::laplace, quant::prior::gauss})
        for (const auto mode : {quant::aciq_mode::corrected, quant::aciq_mode::exact}) {
            const auto range = quant::aciq(density, mode).clip(s, {1, true});
            REQUIRE(range);
            CHECK(range->lo == 0);
            CHECK(range->hi == 0);
        }
}
