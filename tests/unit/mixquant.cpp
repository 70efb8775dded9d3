// SPDX-License-Identifier: MIT
// Widths from round-off errors: tensors worked out elsewhere, the scalar definition on every instruction set, a scan of all widths.
#include "archs.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/core/scalar.hpp>
#include <quant/mixquant.hpp>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

using quant::errc;

namespace {

using bit_list = std::vector<std::uint8_t>;
const bit_list all_bits{2, 3, 4, 5, 6, 7, 8};

const std::vector<float> a{-.9f, -.5f, -.3f, -.1f, 0, .2f, .35f, .6f, .8f, 1.2f},
    b{0, 1 / 3.f, 2 / 3.f, 1, 1 / 3.f, 2 / 3.f, 0, 1}, c{-1, -.02f, -.01f, 0, .01f, .015f, .02f, .03f, .025f, -.015f};

std::vector<float> bell(std::size_t n, std::uint64_t seed) {
    std::vector<float> out;
    for (std::size_t i = 0; i < n; ++i) {
        float sum = 0;
        for (std::uint64_t k = 0; k < 6; ++k) sum += quant::random_uniform(seed, k, i) - 0.5f;
        out.push_back(sum);
    }
    return out;
}

std::vector<double> errors_of(const std::vector<float>& w) {
    std::vector<double> errors(all_bits.size());
    REQUIRE(quant::round_off_errors(w, all_bits, errors));
    return errors;
}

int width(const std::vector<float>& w, double m) {
    const std::vector<std::span<const float>> layers{w};
    bit_list found(1);
    std::vector<double> errors(all_bits.size());
    REQUIRE(quant::mixquant_search(layers, all_bits, found, errors, {.multiplier = m}));
    return found[0];
}

bool relatively_near(double x, double expected) { return std::abs(x - expected) <= 2e-4 * expected; }

} // namespace

TEST_CASE("three tensors by hand") {
    struct row {
        const std::vector<float>& w;
        std::vector<double> errors;
        std::vector<std::pair<double, int>> widths;
    };
    for (const row& expected : {row{a,
                                    {.04025, .00425, .00245, .000369667, 2.77778e-5, 1.94215e-5, 5.57093e-6},
                                    {{1, 8}, {4, 7}, {20, 6}, {100, 5}, {400, 5}, {2000, 3}, {10000, 2}}},
                                row{b, {0, .00113379, 0, 5.78102e-5, 0, 3.44445e-6, 0}, {{1, 2}, {4, 2}, {400, 2}}},
                                row{c,
                                    {.0003875, .0003875, .0003875, .000108832, 1.84751e-5, 5.10556e-6, 1.66778e-6},
                                    {{1, 8}, {4, 7}, {20, 6}, {100, 5}, {400, 2}}}}) {
        const std::vector<double> errors = errors_of(expected.w);
        for (std::size_t k = 0; k < errors.size(); ++k) {
            CAPTURE(k, errors[k]);
            if (expected.errors[k] == 0)
                CHECK(errors[k] < 1e-14); // thirds are not floats
            else
                CHECK(relatively_near(errors[k], expected.errors[k]));
        }
        for (const auto& [m, bits] : expected.widths) CHECK(width(expected.w, m) == bits);
    }
    // With an outlier four bits are as bad as two, and the rule takes two: every small weight becomes zero.
    CHECK(errors_of(c)[0] == errors_of(c)[2]);
}

TEMPLATE_LIST_TEST_CASE("round-off errors are those of the scalar definition, on every instruction set", "",
                        test::archs) {
    for (const std::size_t n : {1U, 5U, 37U, 1030U}) {
        const std::vector<float> w = bell(n, n);
        const auto view = quant::detail::view_const(w);
        for (const quant::mapping map : {quant::mapping::affine, quant::mapping::symmetric})
            for (const std::uint8_t bits : bit_list{2, 5, 8}) {
                const auto found = quant::detail::round_off_error<TestType>(view, bits, map, quant::per_tensor);
                const auto scalar =
                    quant::detail::round_off_error<quant::simd::scalar>(view, bits, map, quant::per_tensor);
                REQUIRE(found);
                REQUIRE(found->mse == scalar->mse);
                REQUIRE(found->magnitude == scalar->magnitude);
                REQUIRE(found->count == n);
                const bool symmetric = map == quant::mapping::symmetric;
                const auto p = quant::choose_params({static_cast<double>(*std::min_element(w.begin(), w.end())),
                                                     static_cast<double>(*std::max_element(w.begin(), w.end()))},
                                                    {bits, symmetric, symmetric}, map);
                double sum = 0;
                for (const float x : w) {
                    const double e = static_cast<double>(x) - static_cast<double>(quant::fake_quant_one(x, *p));
                    sum += e * e;
                }
                REQUIRE(std::abs(found->mse - sum / static_cast<double>(n)) <= 1e-6 * sum / static_cast<double>(n));
            }
    }
}

TEST_CASE("MixQuant's widths") {
    const std::vector<double> multipliers{1, 2, 4, 20, 100, 400, 2000, 10000};
    SECTION("are those of a scan, never widen with the multiplier, and do not depend on the unit") {
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
            std::vector<float> w = bell(200, seed);
            if (seed % 3 == 0) w[7] = 9;
            const std::vector<double> errors = errors_of(w);
            float most = 0;
            for (const float x : w) most = std::max(most, std::abs(x));
            const double rounding = 4 * std::ldexp(static_cast<double>(most), -24);
            int before = 9;
            for (const double m : multipliers) {
                int expected = 8;
                for (std::size_t k = all_bits.size(); k-- > 0;)
                    if (errors[k] <= m * errors.back() + rounding * rounding) expected = all_bits[k];
                const int found = width(w, m);
                REQUIRE(found == expected);
                REQUIRE(found <= before);
                before = found;
                std::vector<float> scaled = w;
                for (float& x : scaled) x *= 0.125f;
                REQUIRE(width(scaled, m) == found);
            }
            if (std::is_sorted(errors.rbegin(), errors.rend())) REQUIRE(width(w, 1) == 8);
        }
    }
    SECTION("are the same for all layers that are well spread: importance is not in them") {
        const std::vector<float> one = bell(20000, 1), two = bell(20000, 2);
        std::vector<float> small = two;
        for (float& x : small) x *= 1e-3f;
        for (const double m : {1.0, 7.0, 30.0, 150.0}) {
            CHECK(width(one, m) == width(two, m));
            CHECK(width(one, m) == width(small, m));
        }
        std::vector<float> even;
        for (int i = -3000; i <= 3000; ++i) even.push_back(static_cast<float>(i) / 3000);
        const std::vector<double> of_even = errors_of(even);
        const double ratios[] = {7225, 1327, 289, 67.7, 16.4, 4.03}; // 2 to 7 bits
        for (std::size_t k = 0; k < 6; ++k) CHECK(std::abs(of_even[k] / of_even[6] / ratios[k] - 1) < 0.03);
        const std::vector<double> errors = errors_of(one); // ((2^8 - 1) / (2^b - 1))^2, from E = s^2 / 12
        for (std::size_t k = 2; k < 6; ++k) {
            const double steps = 255.0 / ((1 << all_bits[k]) - 1);
            CHECK(std::abs(errors[k] / errors[6] / (steps * steps) - 1) < 0.1);
        }
    }
}

TEST_CASE("a scale per channel, errors over elements") {
    // Two channels, one a hundred times the other: one scale drowns the small one.
    std::vector<float> w = bell(64, 3);
    for (std::size_t i = 32; i < 64; ++i) w[i] *= 0.01f;
    const auto matrix = quant::view(std::as_const(w), 2, 32);
    const auto whole = quant::round_off_error(matrix, 4),
               rows = quant::round_off_error(matrix, 4, quant::mapping::affine, quant::per_axis(0));
    REQUIRE(whole);
    REQUIRE(rows);
    CHECK(rows->count == 64);
    const std::span<const float> all = w;
    const auto first = quant::round_off_error(all.first(32), 4), second = quant::round_off_error(all.last(32), 4);
    CHECK(std::abs(rows->mse - (first->mse + second->mse) / 2) <= 1e-12 * rows->mse);
    CHECK(rows->mse < whole->mse);
    // Columns are channels as well, and strides do not matter.
    std::vector<float> turned(64);
    for (std::size_t r = 0; r < 2; ++r)
        for (std::size_t k = 0; k < 32; ++k) turned[k * 2 + r] = w[r * 32 + k];
    CHECK(quant::round_off_error(quant::view(turned, 32, 2), 4, quant::mapping::affine, quant::per_axis(1))->mse ==
          rows->mse);
    CHECK(quant::round_off_error(matrix, 4, quant::mapping::affine, quant::per_axis(2)).status().code ==
          errc::axis_out_of_range);
    CHECK(quant::round_off_error(matrix, 4, quant::mapping::affine, quant::per_group(1, 8)).status().code ==
          errc::invalid_argument);
}

TEST_CASE("the siblings: an absolute bound, and a budget") {
    const std::vector<std::vector<float>> layers{bell(100, 1), a, c};
    std::vector<double> errors(3 * all_bits.size());
    bit_list widths(3);
    const std::vector<std::span<const float>> views{layers[0], layers[1], layers[2]};
    REQUIRE(quant::mixquant_search(views, all_bits, widths, errors));
    const std::span<const double> of_a = std::span(errors).subspan(all_bits.size(), all_bits.size());
    CHECK(*quant::mixquant_within(of_a, all_bits, 0.003) == 4);
    CHECK(*quant::mixquant_within(of_a, all_bits, 1) == 2);
    CHECK(quant::mixquant_within(of_a, all_bits, 1e-9).status().code == errc::budget_infeasible);

    const std::vector<std::uint64_t> elements{100, 10, 10};
    std::vector<double> loss(errors.size());
    std::vector<std::uint64_t> cost(errors.size());
    std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(3, all_bits.size(), 1000));
    for (const auto objective : {quant::mixquant_objective::summed_error, quant::mixquant_objective::mean_error})
        for (const std::uint64_t budget : {240U, 400U, 555U, 960U}) {
            const auto found =
                quant::mixquant_budget(errors, elements, all_bits, budget, widths, loss, cost, workspace, objective);
            REQUIRE(found);
            REQUIRE(found->cost == 100U * widths[0] + 10U * widths[1] + 10U * widths[2]);
            REQUIRE(found->cost <= budget);
            double best = std::numeric_limits<double>::infinity();
            for (std::size_t i = 0; i < 343; ++i) {
                const std::array<std::size_t, 3> k{i % 7, i / 7 % 7, i / 49};
                std::uint64_t used = 0;
                double sum = 0;
                for (std::size_t l = 0; l < 3; ++l) {
                    used += elements[l] * all_bits[k[l]];
                    sum +=
                        errors[l * 7 + k[l]] *
                        (objective == quant::mixquant_objective::summed_error ? static_cast<double>(elements[l]) : 1);
                }
                if (used <= budget) best = std::min(best, sum);
            }
            REQUIRE(std::abs(found->loss - best) <= 1e-12 * best);
        }
    CHECK(quant::mixquant_budget(errors, elements, all_bits, 239, widths, loss, cost, workspace).status().code ==
          errc::budget_infeasible);
}

TEST_CASE("zeros, and refusals by name") {
    const std::vector<float> zeros(5, 0.0f), bad{1, std::numeric_limits<float>::quiet_NaN()}, none;
    CHECK(width(zeros, 1) == 2); // zeros are exact at every width
    CHECK(width(none, 1) == 2);
    CHECK(quant::round_off_error(bad, 4).status().code == errc::non_finite);
    CHECK(quant::round_off_error(none, 4).status().code == errc::no_data);
    CHECK(quant::round_off_error(a, 0).status().argument == std::string_view("bits"));
    const std::vector<double> errors(7, 1.0);
    CHECK(*quant::mixquant_bits(errors, all_bits, 1, 0, 4) == 2);
    CHECK(quant::mixquant_bits(errors, all_bits, 0.5, 0).status().argument == std::string_view("multiplier"));
    CHECK(quant::mixquant_bits(errors, all_bits, 1, -1).status().argument == std::string_view("tolerance"));
    CHECK(quant::mixquant_bits(errors, all_bits, 1, 0, 9).status().argument == std::string_view("reference_bits"));
    CHECK(quant::mixquant_bits({}, {}, 1, 0).status().code == errc::no_data);
    CHECK(quant::mixquant_bits(errors, std::span(all_bits).first(3), 1, 0).status().code == errc::shape_mismatch);
    // Widths in any order; an infinite multiplier lets everything through.
    const bit_list mixed{8, 2, 4};
    const std::vector<double> falling{1, 100, 10};
    CHECK(*quant::mixquant_bits(falling, mixed, 10, 0) == 4);
    CHECK(*quant::mixquant_bits(falling, mixed, std::numeric_limits<double>::infinity(), 0) == 2);
}
