// SPDX-License-Identifier: MIT
// Multipoint fits: six weights worked out elsewhere, the bounds of every step, metrics, budgets, and the product that runs them.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/packing.hpp>
#include <quant/core/random.hpp>
#include <quant/multipoint.hpp>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

using quant::errc;

namespace {

struct fitted {
    std::vector<double> steps;
    std::vector<std::int8_t> codes;
    quant::multipoint_result result;
};

fitted fit(const std::vector<float>& w, std::size_t points, quant::multipoint_options options,
           const std::vector<double>& moments = {}) {
    fitted out{std::vector<double>(points), std::vector<std::int8_t>(points * w.size()), {}};
    std::vector<std::byte> workspace(quant::multipoint_workspace_size(w.size(), points));
    const auto found = quant::multipoint_fit(w, moments, options, out.steps, out.codes, workspace);
    REQUIRE(found);
    out.result = *found;
    return out;
}

std::vector<double> residual(const std::vector<float>& w, const fitted& f, std::size_t points) {
    std::vector<double> r(w.begin(), w.end());
    for (std::size_t i = 0; i < points; ++i)
        for (std::size_t j = 0; j < w.size(); ++j) r[j] -= f.steps[i] * f.codes[i * w.size() + j];
    return r;
}

double error_in(const std::vector<double>& r, const std::vector<double>& moments) {
    double sum = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
        if (moments.empty()) sum += r[i] * r[i];
        for (std::size_t j = 0; j < r.size() && !moments.empty(); ++j) sum += r[i] * moments[i * r.size() + j] * r[j];
    }
    return sum;
}

std::vector<float> random_row(std::size_t d, std::uint64_t seed) {
    std::vector<float> w;
    for (std::size_t j = 0; j < d; ++j) {
        const float u = quant::random_uniform(seed, 3, j) * 2 - 1;
        w.push_back(u * u * u + 0.3f * u);
    }
    return w;
}

std::vector<double> random_moments(std::size_t d, std::uint64_t seed) {
    std::vector<float> inputs;
    for (std::size_t n = 0; n < 2 * d; ++n)
        for (std::size_t j = 0; j < d; ++j)
            inputs.push_back(quant::random_uniform(seed, n, j) + quant::random_uniform(seed, n, d) - 0.5f);
    std::vector<double> moments(d * d);
    REQUIRE(quant::input_moments(inputs, d, moments));
    return moments;
}

const std::vector<float> six{.90f, -.55f, .30f, .12f, -.07f, .41f};

} // namespace

TEST_CASE("six weights by hand") {
    struct row {
        int largest;
        std::size_t points;
        std::vector<double> steps;
        std::vector<int> codes; ///< of the last point
        double error, refitted;
    };
    for (const row& e : {row{1, 1, {.54}, {1, -1, 1, 0, 0, 1}, .2235, .2235},
                         row{1, 2, {.54, .2125}, {1, 0, -1, 1, 0, -1}, .042875, .0308333333},
                         row{1, 3, {.54, .2125, .098125}, {1, 0, 0, -1, -1, 1}, .0043609375, .0015},
                         row{3, 1, {.300666667}, {3, -2, 1, 0, 0, 1}, .0338933333, .0338933333},
                         row{3, 2, {.300666667, .058}, {0, 1, 0, 2, -1, 2}, .000253333333, .000253333333},
                         row{7, 1, {.1315}, {7, -4, 2, 1, -1, 3}, .00652, .00652},
                         row{7, 2, {.1315, .012147727}, {-2, -2, 3, -1, 5, 1}, 2.70397727e-5, 1.03958986e-5}}) {
        const fitted plain = fit(six, e.points, {.largest = e.largest, .refit = false}),
                     refit = fit(six, e.points, {.largest = e.largest, .refit = true});
        CAPTURE(e.largest, e.points);
        for (std::size_t i = 0; i < e.points; ++i) CHECK(std::abs(plain.steps[i] - e.steps[i]) < 1e-6);
        for (std::size_t j = 0; j < 6; ++j) CHECK(plain.codes[(e.points - 1) * 6 + j] == e.codes[j]);
        CHECK(std::abs(plain.result.error - e.error) < 2e-6 * std::max(1e-2, e.error)); // the weights as floats
        CHECK(std::abs(refit.result.error - e.refitted) < 2e-6 * std::max(1e-2, e.refitted));
    }
}

TEST_CASE("every point brings the error down by its share") {
    for (std::uint64_t seed = 0; seed < 60; ++seed)
        for (const int largest : {1, 3, 7}) {
            const std::size_t d = 1 + seed % 17, most = 5;
            const std::vector<float> w = random_row(d, seed);
            const fitted f = fit(w, most, {.largest = largest, .refit = false});
            std::vector<double> before = residual(w, f, 0);
            for (std::size_t i = 1; i <= f.result.points; ++i) {
                const std::vector<double> after = residual(w, f, i);
                const double old = error_in(before, {}), now = error_in(after, {});
                double top = 0;
                for (const double r : before) top = std::max(top, std::abs(r));
                const double bound = std::min((1 - 1 / static_cast<double>(d)) * old,
                                              static_cast<double>(d) * top * top / (4.0 * largest * largest));
                REQUIRE(now < old);
                REQUIRE(now <= bound + 1e-13 * old + 1e-15 * error_in(residual(w, f, 0), {}));
                before = after;
            }
            // Unused points are zero.
            for (std::size_t i = f.result.points; i < most; ++i) REQUIRE(f.steps[i] == 0);
            // Fitting all steps together, and fitting each point anew, cannot make it worse.
            const fitted refit = fit(w, most, {.largest = largest}),
                         passes = fit(w, most, {.largest = largest, .refit = false, .passes = 3});
            REQUIRE(refit.result.error <= f.result.error);
            REQUIRE(std::abs(refit.result.error - error_in(residual(w, refit, most), {})) <=
                    1e-14 * error_in(residual(w, f, 0), {}));
            if (f.result.points <= 2) REQUIRE(passes.result.error <= f.result.error * (1 + 1e-12) + 1e-14);
            const fitted two = fit(w, 2, {.largest = largest, .refit = false}),
                         better = fit(w, 2, {.largest = largest, .refit = false, .passes = 3});
            REQUIRE(better.result.error <= two.result.error * (1 + 1e-12) + 1e-16);
        }
}

TEST_CASE("the output error need not fall with the error of the weights, and does when refitted in its norm") {
    const std::vector<float> w{-.7f, -.2f, 1.7f};
    const std::array<double, 3> v{.7, -1.6, 0};
    std::vector<double> moments(9);
    for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t j = 0; j < 3; ++j) moments[i * 3 + j] = v[i] * v[j] + (i == j ? 1e-3 : 0);
    const quant::multipoint_options plain{.largest = 1, .refit = false}, in_norm{.largest = 1, .refit = true};
    const fitted one = fit(w, 1, plain), two = fit(w, 2, plain);
    CHECK(std::vector<std::int8_t>(two.codes.begin(), two.codes.end()) == std::vector<std::int8_t>{0, 0, 1, -1, 0, 0});
    CHECK(std::abs(one.result.error - 0.53) < 1e-6);
    CHECK(std::abs(two.result.error - 0.04) < 1e-6);
    const double output_one = fit(w, 1, plain, moments).result.error,
                 output_two = fit(w, 2, plain, moments).result.error;
    CHECK(std::abs(output_one - 0.02943) < 1e-5);
    CHECK(std::abs(output_two - 0.10244) < 1e-5); // more than three times as much
    CHECK(fit(w, 2, in_norm, moments).result.error <= fit(w, 1, in_norm, moments).result.error);
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        const std::size_t d = 2 + seed % 12;
        const std::vector<float> row = random_row(d, seed);
        const std::vector<double> g = random_moments(d, seed);
        double before = std::numeric_limits<double>::infinity();
        for (std::size_t n = 1; n <= 5; ++n) {
            const fitted f = fit(row, n, {.largest = 1 + static_cast<int>(seed % 3)}, g);
            REQUIRE(f.result.error <= before * (1 + 1e-9) + 1e-15);
            REQUIRE(f.result.error <=
                    fit(row, n, {.largest = 1 + static_cast<int>(seed % 3), .refit = false}, g).result.error);
            REQUIRE(std::abs(f.result.error - error_in(residual(row, f, n), g)) <=
                    1e-12 * error_in(residual(row, f, 0), g));
            before = f.result.error;
        }
    }
}

TEST_CASE("the steps fitted together are the least squares solution") {
    // No other steps do better: the derivative of the error by each step is zero.
    for (const bool outputs : {false, true}) {
        const std::vector<float> w = random_row(12, 5);
        const std::vector<double> g = outputs ? random_moments(12, 9) : std::vector<double>{};
        const fitted f = fit(w, 4, {.largest = 3}, g);
        for (std::size_t i = 0; i < 4; ++i)
            for (const double change : {-1e-5, 1e-5}) {
                fitted moved = f;
                moved.steps[i] += change;
                CHECK(error_in(residual(w, moved, 4), g) > f.result.error);
            }
        for (const double d : f.steps) CHECK(d >= 0);
    }
}

TEST_CASE("rows on the grid take one point; signs and order pass through") {
    const std::vector<float> grid{0.75f, -1.5f, 5.25f, 0, 2.25f};
    const fitted exact = fit(grid, 3, {.largest = 7});
    CHECK(exact.result.points == 1);
    CHECK(exact.result.error == 0);
    CHECK(exact.steps == std::vector<double>{0.75, 0, 0});
    const std::vector<float> w = random_row(20, 4);
    std::vector<float> turned = w, reversed(w.rbegin(), w.rend());
    for (float& x : turned) x = -x;
    const fitted f = fit(w, 3, {.largest = 3}), t = fit(turned, 3, {.largest = 3}),
                 r = fit(reversed, 3, {.largest = 3});
    CHECK(t.steps == f.steps);
    for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t j = 0; j < 20; ++j) {
            CHECK(t.codes[i * 20 + j] == -f.codes[i * 20 + j]);
            CHECK(r.codes[i * 20 + 19 - j] == f.codes[i * 20 + j]);
        }
    CHECK(fit(std::vector<float>(4, 0.0f), 2, {}).result.points == 0);
}

TEST_CASE("a layer takes more points where it needs them, or where a budget buys most") {
    const std::size_t channels = 9, d = 16, most = 4;
    std::vector<float> w;
    for (std::size_t c = 0; c < channels; ++c) {
        std::vector<float> row = random_row(d, c);
        if (c == 0) row.assign(d, 0.0f);
        if (c == 1)
            for (std::size_t j = 0; j < d; ++j) row[j] = static_cast<float>(static_cast<int>(j % 7) - 3) * 0.5f;
        w.insert(w.end(), row.begin(), row.end());
    }
    for (const bool outputs : {false, true}) {
        const std::vector<double> g = outputs ? random_moments(d, 1) : std::vector<double>{};
        std::vector<std::uint8_t> counts(channels);
        std::vector<float> steps(channels * most);
        std::vector<std::int8_t> codes(channels * most * d);
        std::vector<std::byte> workspace(quant::multipoint_workspace_size(d, most));
        quant::multipoint_options options{.largest = 3, .most_points = most};
        std::vector<double> errors(channels * most);
        std::vector<std::uint64_t> cost(channels * most);
        REQUIRE(quant::multipoint_table(w, d, g, options, 3, errors, cost, workspace));
        std::size_t before = channels * most + 1;
        for (const double tolerance : {0.0, 1e-3, 1e-2, 1e-1, 1.0}) {
            options.tolerance = tolerance;
            const auto total = quant::multipoint_layer(w, d, g, options, counts, steps, codes, workspace);
            REQUIRE(total);
            REQUIRE(*total <= before);
            before = *total;
            std::size_t at = 0;
            for (std::size_t c = 0; c < channels; ++c) {
                const std::vector<float> row(w.begin() + static_cast<std::ptrdiff_t>(c * d),
                                             w.begin() + static_cast<std::ptrdiff_t>((c + 1) * d));
                std::vector<double> left(row.begin(), row.end());
                const double whole = error_in(left, g);
                for (std::size_t i = at; i < at + counts[c]; ++i)
                    for (std::size_t j = 0; j < d; ++j) left[j] -= static_cast<double>(steps[i]) * codes[i * d + j];
                at += counts[c];
                const double error = error_in(left, g), promised = errors[c * most + counts[c] - 1];
                REQUIRE(std::abs(error - promised) <= 1e-6 * whole); // steps as floats
                if (counts[c] < most && whole > 0) REQUIRE(promised <= tolerance * whole + 1e-13 * whole);
                if (counts[c] > 1) REQUIRE(errors[c * most + counts[c] - 2] > tolerance * whole);
            }
            REQUIRE(at == *total);
        }
        CHECK(counts == std::vector<std::uint8_t>(channels, 1)); // tolerance 1: the whole row may be missing
        // A budget of one and a half points each, spent where it removes most error, beats the same number spread evenly.
        std::vector<std::uint8_t> choice(channels);
        std::vector<std::byte> allocation(quant::allocate_exact_workspace_size(channels, most, 100));
        const std::uint64_t unit = d * 3 + 32, budget = unit * 13;
        const auto best = quant::allocate_exact({errors, cost, channels, most}, budget, choice, allocation);
        REQUIRE(best);
        REQUIRE(best->exact);
        REQUIRE(best->cost <= budget);
        double even = 0;
        for (std::size_t c = 0; c < channels; ++c) even += errors[c * most + (c < 4 ? 1 : 0)];
        CHECK(best->loss < even);
        for (std::size_t c = 0; c < channels; ++c) counts[c] = static_cast<std::uint8_t>(choice[c] + 1);
        const auto total = quant::multipoint_layer_of(w, d, g, options, counts, steps, codes, workspace);
        REQUIRE(total);
        CHECK(*total <= 13);
    }
}

TEST_CASE("the product of a layer of points is one plain product and a sum over segments") {
    const std::size_t channels = 7, d = 34;
    const std::vector<std::uint8_t> counts{1, 3, 2, 0, 1, 4, 1};
    const std::size_t points = 12;
    std::vector<std::int8_t> codes, inputs;
    std::vector<float> steps;
    for (std::size_t i = 0; i < points * d; ++i)
        codes.push_back(static_cast<std::int8_t>(static_cast<int>(quant::random_bits(1, 0, i) % 15) - 7));
    for (std::size_t i = 0; i < d; ++i)
        inputs.push_back(static_cast<std::int8_t>(quant::random_bits(2, 0, i) % 256 - 128));
    for (std::size_t i = 0; i < points; ++i) steps.push_back(0.01f + quant::random_uniform(3, 0, i));
    std::vector<std::int32_t> sums(points);
    std::vector<float> y(channels + 1, -77.0f), expected;
    const std::span<float> out = std::span(y).first(channels);
    const auto matrix = quant::view(std::as_const(codes), points, d);
    REQUIRE(quant::multipoint_gemv(matrix, inputs, counts, steps, 0.125f, sums, out));
    std::size_t at = 0;
    for (const std::uint8_t n : counts) {
        volatile float total = 0; // every operation rounded
        for (const std::size_t end = at + n; at < end; ++at) {
            std::int32_t sum = 0;
            for (std::size_t j = 0; j < d; ++j) sum += codes[at * d + j] * inputs[j];
            const volatile float product = static_cast<float>(sum) * steps[at];
            total = total + product;
        }
        expected.push_back(total * 0.125f);
    }
    CHECK(std::vector<float>(out.begin(), out.end()) == expected);
    CHECK(y.back() == -77.0f);
    // Packed to four bits: the same bytes.
    std::vector<std::byte> packed(points * d / 2);
    for (std::size_t i = 0; i < packed.size(); ++i)
        packed[i] = static_cast<std::byte>((codes[2 * i] & 15) | (codes[2 * i + 1] & 15) << 4);
    std::fill(out.begin(), out.end(), 0.0f);
    REQUIRE(quant::multipoint_gemv(quant::int4_matrix{packed, points, d}, inputs, counts, steps, 0.125f, sums, out));
    CHECK(std::vector<float>(out.begin(), out.end()) == expected);
    CHECK(quant::sum_points(sums, counts, std::span(steps).first(11), 1, out).argument == std::string_view("steps"));
    CHECK(quant::sum_points(sums, std::span(counts).first(6), steps, 1, std::span(out).first(6)).argument ==
          std::string_view("counts"));
    CHECK(quant::sum_points(sums, counts, steps, 1, std::span(out).first(6)).argument == std::string_view("y"));
}

TEST_CASE("multipoint fits refuse what does not fit, by name") {
    std::vector<double> steps(2), moments(36, 0.0);
    std::vector<std::int8_t> codes(12);
    std::vector<std::byte> workspace(quant::multipoint_workspace_size(6, 2));
    const auto refused = [&](const std::vector<float>& w, const quant::multipoint_options& o, std::span<const double> g,
                             std::size_t bytes) {
        return quant::multipoint_fit(w, g, o, steps, codes, std::span(workspace).first(bytes)).status();
    };
    const std::size_t enough = workspace.size();
    CHECK(refused(six, {}, {}, enough).code == errc::ok);
    CHECK(refused(six, {}, {}, 40).code == errc::buffer_too_small);
    CHECK(refused(six, {.largest = 0}, {}, enough).argument == std::string_view("options.largest"));
    CHECK(refused(six, {.passes = 1}, moments, enough).argument == std::string_view("options.passes"));
    CHECK(refused(six, {}, std::span(moments).first(35), enough).argument == std::string_view("moments"));
    CHECK(refused({1, 2, 3, 4, 5}, {}, {}, enough).argument == std::string_view("codes"));
    std::vector<float> bad = six;
    bad[3] = std::numeric_limits<float>::quiet_NaN();
    CHECK(refused(bad, {}, {}, enough).code == errc::non_finite);
    std::vector<std::uint8_t> counts{1};
    std::vector<float> few(1);
    CHECK(quant::multipoint_layer(six, 6, {}, {.most_points = 2}, counts, few, codes, workspace).status().argument ==
          std::string_view("steps"));
    counts[0] = 3;
    CHECK(quant::multipoint_layer_of(six, 6, {}, {.most_points = 2}, counts, few, codes, workspace).status().argument ==
          std::string_view("counts"));
}
