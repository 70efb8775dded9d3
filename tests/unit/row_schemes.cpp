// SPDX-License-Identifier: MIT
// Rows in different schemes: published levels and counts, errors, the crossover of powers of two and even steps by integration,
// shifts against multiplications, gradients against differences.
#include "archs.hpp"
#include "support.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <quant/core/random.hpp>
#include <quant/rmsmp.hpp>
#include <span>
#include <vector>

using quant::errc;
namespace rmsmp = quant::rmsmp;
using rmsmp::row_scheme;
using test::names;
using test::same_bytes;
using test::uniform;

namespace {

std::vector<double> levels_of(row_scheme s) {
    std::vector<double> levels{0};
    for (int j = 1; j <= s.largest_code(); ++j)
        levels.push_back(s.kind == rmsmp::row_kind::fixed ? static_cast<double>(j) / s.largest_code()
                                                          : std::ldexp(1.0, j - 1 - s.deepest()));
    return levels;
}
/// The definition: the nearest level of |w| / alpha, in the middle the smaller one; or the nearest exponent.
double projected(double w, row_scheme s, double alpha, bool log) {
    const double units = s.units(), t = std::min(std::abs(w) * (units / alpha), units);
    const auto levels = levels_of(s);
    double best = 0;
    if (log && s.kind == rmsmp::row_kind::power_of_two) {
        const double e = t == 0 ? -100 : std::nearbyint(std::log2(t / units));
        best = e < -s.deepest() ? 0 : std::exp2(e);
    } else {
        for (const double l : levels)
            if (std::abs(std::nearbyint(units * l) - t) < std::abs(std::nearbyint(units * best) - t)) best = l;
    }
    return std::copysign(best * alpha, w);
}
constexpr std::array schemes{rmsmp::pot4,
                             rmsmp::fixed4,
                             rmsmp::fixed8,
                             row_scheme{rmsmp::row_kind::power_of_two, 2},
                             row_scheme{rmsmp::row_kind::power_of_two, 3},
                             row_scheme{rmsmp::row_kind::fixed, 2}};

template <class T> quant::tensor_view<const T, 2> as_row(const std::vector<T>& v) { return {v.data(), {1, v.size()}}; }
template <class T> quant::tensor_view<T, 2> as_row(std::vector<T>& v) { return {v.data(), {1, v.size()}}; }

/// Normalized mean squared error of a Gaussian of deviation sigma under alpha = 1, by Simpson's rule between the borders of the levels.
double gaussian_error(row_scheme s, double sigma) {
    const auto levels = levels_of(s);
    const auto density = [&](double x) {
        return std::exp(-x * x / (2 * sigma * sigma)) / (sigma * std::sqrt(2 * std::numbers::pi));
    };
    double sum = 0;
    for (std::size_t j = 0; j < levels.size(); ++j) {
        const double from = j == 0 ? 0 : (levels[j - 1] + levels[j]) / 2;
        const double to = j + 1 == levels.size() ? std::max(1.0, 12 * sigma) : (levels[j] + levels[j + 1]) / 2;
        constexpr int parts = 400;
        const double h = (to - from) / parts;
        for (int i = 0; i <= parts; ++i) {
            const double x = from + h * i, e = x - levels[j], weight = i == 0 || i == parts ? 1 : i % 2 == 1 ? 4 : 2;
            sum += weight * h / 3 * e * e * density(x);
        }
    }
    return 2 * sum / (sigma * sigma);
}

} // namespace

TEST_CASE("weights go to the nearest level of their row, in the middle to the smaller one") {
    for (const row_scheme s : schemes)
        for (const bool log : {false, true}) {
            std::vector<double> w;
            const double alpha = s.units(); // so that levels and the middles between them are exact
            for (std::size_t i = 0; i < 400; ++i) w.push_back(1.2 * alpha * uniform(1, i));
            for (int j = -2 * s.units() - 4; j <= 2 * s.units() + 4; ++j) w.push_back(0.5 * j);
            std::vector<double> to(w.size()), again(w.size());
            std::vector<std::int8_t> codes(w.size());
            const auto domain = log ? rmsmp::nearest_in::logarithm : rmsmp::nearest_in::linear;
            REQUIRE(rmsmp::project(as_row(w), as_row(to), {&s, 1}, std::array{alpha}, domain));
            REQUIRE(rmsmp::encode(as_row(w), as_row(codes), {&s, 1}, std::array{alpha}, domain));
            REQUIRE(rmsmp::project(as_row(to), as_row(again), {&s, 1}, std::array{alpha}, domain));
            CHECK(again == to);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < w.size(); ++i) {
                wrong += std::abs(to[i] - projected(w[i], s, alpha, log)) < 1e-15 * alpha ? 0 : 1;
                wrong += to[i] == s.integer_of(codes[i]) * (alpha / s.units()) ? 0 : 1;
                wrong += std::abs(static_cast<int>(codes[i])) <= s.largest_code() ? 0 : 1;
            }
            CAPTURE(static_cast<int>(s.bits), log);
            CHECK(wrong == 0);
        }
}

TEST_CASE("errors of a row of ten weights, and where the two roundings to powers of two differ") {
    const std::vector<double> w{.8, -.58, .35, .2, -.12, .06, -.03, .01, .005, 0};
    const auto error = [&](row_scheme s, rmsmp::nearest_in d = rmsmp::nearest_in::linear) {
        return *rmsmp::row_error(w, s, 0.8, d);
    };
    CHECK(std::abs(error(rmsmp::fixed4) - .00494540816) < 1e-11);
    CHECK(std::abs(error(rmsmp::fixed8) - 3.00282101e-5) < 1e-13);
    CHECK(std::abs(error(rmsmp::pot4) - .03545625) < 1e-12);
    CHECK(std::abs(error(rmsmp::pot4, rmsmp::nearest_in::logarithm) - .05145625) < 1e-12);
    std::vector<float> x, linear, log;
    for (int i = 0; i < 4000; ++i) x.push_back(static_cast<float>(i) / 4000);
    linear = log = x;
    REQUIRE(rmsmp::project(as_row(x), as_row(linear), {&rmsmp::pot4, 1}, std::array{1.0f}));
    REQUIRE(rmsmp::project(as_row(x), as_row(log), {&rmsmp::pot4, 1}, std::array{1.0f}, rmsmp::nearest_in::logarithm));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        int e = 0;
        const double part = 2 * std::frexp(static_cast<double>(x[i]), &e) / 2; // x = part 2^e
        const bool between = part > std::numbers::sqrt2 / 2 && part <= 0.75 && e > -6;
        const bool lowest =
            e == -6 && part > 0.5 && part <= std::numbers::sqrt2 / 2; // between 2^-7 and 2^-6.5: zero in logarithms
        wrong += (linear[i] != log[i]) == (between || lowest) ? 0 : 1;
    }
    CHECK(wrong == 0);
}

TEST_CASE("rows are counted by largest remainder") {
    using counts = rmsmp::scheme_counts;
    const rmsmp::scheme_ratio ratio{65, 30, 5};
    CHECK(*rmsmp::count_rows(16, ratio, false) == counts{10, 5, 1});
    CHECK(*rmsmp::count_rows(20, ratio, false) == counts{13, 6, 1});
    CHECK(*rmsmp::count_rows(64, ratio, false) == counts{42, 19, 3});
    CHECK(*rmsmp::count_rows(10, ratio, false) == counts{7, 3, 0});
    CHECK(*rmsmp::count_rows(7, ratio, false) == counts{5, 2, 0});
    for (std::size_t rows = 0; rows < 300; ++rows)
        for (const rmsmp::scheme_ratio& r : {ratio, {60, 35, 5}, {1, 0, 0}, {0, 3, 7}}) {
            const auto plain = *rmsmp::count_rows(rows, r, false), one = *rmsmp::count_rows(rows, r);
            REQUIRE(plain.power_of_two + plain.fixed4 + plain.fixed8 == rows);
            REQUIRE(one.power_of_two + one.fixed4 + one.fixed8 == rows);
            REQUIRE((rows < 2 || one.fixed8 > 0));
            const double sum = r.power_of_two + r.fixed4 + r.fixed8, n = static_cast<double>(rows);
            REQUIRE(std::abs(static_cast<double>(plain.power_of_two) - n * r.power_of_two / sum) < 1);
            REQUIRE(std::abs(static_cast<double>(plain.fixed4) - n * r.fixed4 / sum) < 1);
            REQUIRE(std::abs(static_cast<double>(plain.fixed8) - n * r.fixed8 / sum) < 1);
        }
    CHECK(*rmsmp::count_rows(0xFFFFFFFFu, {0xFFFFFFFFu, 0, 0}, false) == counts{0xFFFFFFFFu, 0, 0});
    CHECK(names(rmsmp::count_rows(3, {0, 0, 0}).status(), errc::invalid_argument, "ratio"));
}

TEST_CASE("rows of large curvature get eight bits, rows that vary little powers of two") {
    const std::vector<double> eig{.2, 3, .1, .4, .9, .05, .3, .6, .15, .25};
    const std::vector<double> var{.010, .050, .004, .030, .020, .002, .060, .008, .015, .012};
    std::vector<row_scheme> scheme(10), other(10);
    std::vector<std::uint32_t> order(10);
    const auto counts = rmsmp::assign_rows(eig, var, {65, 30, 5}, scheme, order);
    REQUIRE(counts);
    CHECK(*counts == rmsmp::scheme_counts{6, 3, 1});
    using namespace rmsmp;
    CHECK(scheme == std::vector<row_scheme>{pot4, fixed8, pot4, fixed4, fixed4, pot4, fixed4, pot4, pot4, pot4});
    CHECK(order == std::vector<std::uint32_t>{0, 2, 5, 7, 8, 9, 3, 4, 6, 1});
    // A permutation of the rows permutes the schemes.
    std::vector<double> e(10), v(10);
    for (std::size_t i = 0; i < 10; ++i) e[i] = eig[(3 * i + 2) % 10], v[i] = var[(3 * i + 2) % 10];
    REQUIRE(rmsmp::assign_rows(e, v, {65, 30, 5}, other, order));
    for (std::size_t i = 0; i < 10; ++i) CHECK(other[i] == scheme[(3 * i + 2) % 10]);
    v[3] = std::numeric_limits<double>::quiet_NaN();
    CHECK(names(rmsmp::assign_rows(e, v, {}, other, order).status(), errc::non_finite, "score"));
    CHECK(names(rmsmp::assign_rows(e, var, {}, other, std::span(order).first(9)).status(), errc::shape_mismatch,
                "order"));
}

TEST_CASE("under a shared scale powers of two win where a row varies by less than 0.2116 of it") {
    const double at[][3] = {{.05, .607, .040}, {.1, .170, .038}, {.2, .0425, .0382}, {.3, .0190, .0385}};
    for (const auto& row : at) {
        CHECK(std::abs(gaussian_error(rmsmp::fixed4, row[0]) - row[1]) < 6e-4);
        CHECK(std::abs(gaussian_error(rmsmp::pot4, row[0]) - row[2]) < 6e-4);
    }
    double low = 0.2, high = 0.3;
    while (high - low > 1e-6) {
        const double middle = (low + high) / 2;
        (gaussian_error(rmsmp::fixed4, middle) > gaussian_error(rmsmp::pot4, middle) ? low : high) = middle;
    }
    CHECK(std::abs(low - 0.2116) < 5e-5);
}

TEST_CASE("under a scale of their own even steps win for common shapes; eight bits are never worse than four") {
    for (int shape = 0; shape < 3; ++shape) {
        std::vector<double> w(4001);
        for (std::size_t i = 0; i < w.size(); ++i) {
            const double u = 2 * (static_cast<double>(i) + 0.5) / static_cast<double>(w.size()) - 1;
            w[i] = shape == 0 ? u : shape == 1 ? std::copysign(-std::log(1 - std::abs(u)), u) : 0;
        }
        if (shape == 2) // sums of twelve uniform values: nearly Gaussian
            for (std::size_t i = 0; i < w.size(); ++i)
                for (std::size_t k = 0; k < 12; ++k) w[i] += uniform(9, 12 * i + k) / 2;
        double squares = 0, largest = 0;
        for (const double x : w) squares += x * x, largest = std::max(largest, std::abs(x));
        const auto least = [&](row_scheme s) {
            double best = std::numeric_limits<double>::infinity();
            for (int k = 0; k <= 160; ++k)
                best = std::min(best, *rmsmp::row_error(w, s, largest * std::exp2(-k / 32.0)));
            return best / squares;
        };
        const double pot = least(rmsmp::pot4), four = least(rmsmp::fixed4), eight = least(rmsmp::fixed8);
        CAPTURE(shape, pot, four);
        const double expected[3][2] = {{.0252, .0044}, {.0381, .0275}, {.0379, .0130}};
        CHECK(std::abs(pot - expected[shape][0]) < 2e-3); // samples, not the density itself
        CHECK(std::abs(four - expected[shape][1]) < 2e-3);
        CHECK((four < pot && eight < four));
        const double fitted = *rmsmp::row_error(w, rmsmp::pot4, *rmsmp::fit_power_of_two_scale(w)) / squares;
        CHECK(fitted <= pot * (1 + 1e-3));
        CHECK(fitted * squares <= *rmsmp::row_error(w, rmsmp::pot4, largest));
    }
    const std::vector<float> zeros(5);
    CHECK(*rmsmp::fit_power_of_two_scale(zeros) == 1);
}

TEST_CASE("sums of shifts: the published example, and exact at every length") {
    const std::vector<std::int8_t> codes{7, -7, 6, 5, -4, 3, -2, 1, 0, 0}, x{3, 15, 7, 0, 9, 1, 2, 4, 5, 6};
    const auto sum = rmsmp::shift_add_dot(codes, x);
    REQUIRE(sum);
    CHECK((*sum == -612 && *sum / 64.0 == -9.5625));
    CHECK(names(rmsmp::shift_add_dot(codes, std::span(x).first(9)).status(), errc::shape_mismatch, "x"));
    std::vector<std::int8_t> integers(codes.size());
    REQUIRE(rmsmp::integers_of_codes(codes, integers, rmsmp::pot4));
    CHECK(integers == std::vector<std::int8_t>{64, -64, 32, 16, -8, 4, -2, 1, 0, 0});
}

TEMPLATE_LIST_TEST_CASE("sums of shifts equal sums of products", "", test::archs) {
    constexpr std::size_t most = 2 * 64 + 3;
    std::vector<std::int8_t> codes(most + 5), x(most + 5);
    for (const bool extreme : {false, true})
        for (std::size_t offset = 0; offset < 3; ++offset)
            for (std::size_t n = 0; n <= most; ++n) {
                std::int64_t expected = 0;
                for (std::size_t i = 0; i < codes.size(); ++i) {
                    codes[i] =
                        static_cast<std::int8_t>(extreme ? -7 : static_cast<int>(quant::random_bits(5, n, i) % 15) - 7);
                    x[i] = extreme ? std::int8_t{-128} : static_cast<std::int8_t>(quant::random_bits(6, n, i));
                }
                for (std::size_t i = offset; i < offset + n; ++i)
                    expected += std::int64_t{rmsmp::pot4.integer_of(codes[i])} * x[i];
                REQUIRE(quant::simd::shift_add<TestType>(codes.data() + offset, x.data() + offset, n) == expected);
            }
    std::vector<std::int8_t> every;
    std::vector<std::int8_t> with;
    std::int64_t expected = 0;
    for (int c = -7; c <= 7; ++c)
        for (int v = -128; v < 128; ++v) {
            every.push_back(static_cast<std::int8_t>(c));
            with.push_back(static_cast<std::int8_t>(v));
            expected += std::int64_t{rmsmp::pot4.integer_of(c)} * v * (every.size() % 3 == 0 ? 1 : 0);
            if (every.size() % 3 != 0) every.back() = 0;
        }
    CHECK(quant::simd::shift_add<TestType>(every.data(), with.data(), every.size()) == expected);
#if QUANT_HAS_XSIMD
    if constexpr (!quant::simd::is_scalar<TestType>) { // doubling is what machines without a shift for each lane do
        using batch = xsimd::batch<std::int16_t, TestType>;
        std::int16_t value[batch::size], count[batch::size], shifted[2][batch::size];
        for (std::size_t i = 0; i < batch::size; ++i) {
            value[i] = static_cast<std::int16_t>(37 * static_cast<int>(i) - 100);
            count[i] = static_cast<std::int16_t>(static_cast<int>(i % 8) - 1);
        }
        const auto a = batch::load_unaligned(value), c = batch::load_unaligned(count);
        quant::simd::shift_up_each(a, c).store_unaligned(shifted[0]);
        quant::simd::shift_up_each_generic(a, c).store_unaligned(shifted[1]);
        CHECK(std::memcmp(shifted[0], shifted[1], sizeof(shifted[0])) == 0);
    }
#endif
}

TEMPLATE_LIST_TEST_CASE("rounded rows and their gradients are the same bytes on every architecture", "", test::archs) {
    constexpr std::size_t most = 35;
    std::vector<float> w(most), g(most);
    for (std::size_t i = 0; i < most; ++i) {
        w[i] = static_cast<float>(i % 4 == 0 ? 0.75 * std::exp2(-static_cast<double>(i % 9)) : uniform(2, i));
        g[i] = static_cast<float>(uniform(3, i));
    }
    w[5] = std::numeric_limits<float>::quiet_NaN();
    for (const row_scheme s : schemes)
        for (const auto domain : {rmsmp::nearest_in::linear, rmsmp::nearest_in::logarithm})
            for (const std::size_t n : {std::size_t{0}, std::size_t{3}, std::size_t{16}, std::size_t{33}, most}) {
                namespace simd = quant::simd;
                const auto levels = rmsmp::detail::levels_of<float>(s, 0.8f, domain);
                std::array<std::vector<float>, 2> to{std::vector<float>(most + 1, 9), std::vector<float>(most + 1, 9)};
                std::array<std::vector<float>, 2> back = to;
                std::array<double, 2> sum{};
                simd::round_rows<float, simd::row_output::values, simd::scalar>(w.data(), to[0].data(), n, levels);
                simd::round_rows<float, simd::row_output::values, TestType>(w.data(), to[1].data(), n, levels);
                sum[0] =
                    simd::round_rows_backward<float, true, simd::scalar>(w.data(), g.data(), back[0].data(), n, levels);
                sum[1] =
                    simd::round_rows_backward<float, true, TestType>(w.data(), g.data(), back[1].data(), n, levels);
                REQUIRE(same_bytes(to[0], to[1]));
                REQUIRE(same_bytes(back[0], back[1]));
                REQUIRE((n > 5 ? sum[0] != sum[0] && sum[1] != sum[1] : sum[0] == sum[1]));
                REQUIRE((n <= 5 || std::isnan(to[1][5])));
                REQUIRE(to[1][n] == 9);
            }
}

TEST_CASE("gradients pass inside the scale; the scale's is the difference quotient where no level changes") {
    std::vector<double> w(60), g(60), back(60), up(60), down(60);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = 1.3 * uniform(7, i), g[i] = uniform(8, i);
    for (const row_scheme s : schemes) {
        std::array<double, 1> of_scale{};
        REQUIRE(rmsmp::backward(as_row(w), as_row(g), as_row(back), of_scale, {&s, 1}, std::array{0.9}));
        double expected = 0;
        for (std::size_t i = 0; i < w.size(); ++i) {
            const bool inside = std::abs(w[i]) <= 0.9;
            REQUIRE(back[i] == (inside ? g[i] : 0));
            expected += g[i] * (projected(w[i], s, 0.9, false) / 0.9 - (inside ? w[i] / 0.9 : 0));
        }
        CHECK(std::abs(of_scale[0] - expected) < 1e-12);
        // What the straight-through rule says: alpha l(w / alpha) with the derivative of l taken as 1 inside.
        const double h = 1e-6;
        double difference = 0;
        REQUIRE(rmsmp::project(as_row(w), as_row(up), {&s, 1}, std::array{0.9 + h}));
        REQUIRE(rmsmp::project(as_row(w), as_row(down), {&s, 1}, std::array{0.9 - h}));
        for (std::size_t i = 0; i < w.size(); ++i) {
            const double inside = std::abs(w[i]) <= 0.9 ? w[i] / 0.9 : 0;
            difference += g[i] * ((up[i] - down[i]) / (2 * h) - inside);
        }
        CHECK(std::abs(of_scale[0] - difference) < 1e-6);
        REQUIRE(rmsmp::backward(as_row(w), as_row(g), as_row(back), of_scale, {&s, 1}, std::array{0.9},
                                rmsmp::nearest_in::linear, rmsmp::straight_through::all));
        CHECK(back == g);
    }
    // Three rows of their own scales, and one that all share.
    const quant::tensor_view<const double, 2> rows(w.data(), {3, 20}), grads(g.data(), {3, 20});
    const quant::tensor_view<double, 2> to(back.data(), {3, 20});
    const std::array<row_scheme, 3> mixed{rmsmp::pot4, rmsmp::fixed8, rmsmp::fixed4};
    std::array<double, 3> each{};
    std::array<double, 1> shared{};
    REQUIRE(rmsmp::backward(rows, grads, to, each, mixed, std::array{.5, .5, .5}));
    REQUIRE(rmsmp::backward(rows, grads, to, shared, mixed, std::array{.5}));
    CHECK(std::abs(each[0] + each[1] + each[2] - shared[0]) < 1e-12);
    g[4] = std::numeric_limits<double>::infinity();
    CHECK(names(rmsmp::backward(rows, grads, to, shared, mixed, std::array{.5}), errc::non_finite, "gradient"));
}

TEST_CASE("what does not fit is refused by name") {
    std::vector<float> w(6), to(6);
    std::vector<std::int8_t> codes(6);
    const quant::tensor_view<const float, 2> from(w.data(), {2, 3});
    const quant::tensor_view<float, 2> out(to.data(), {2, 3});
    std::array<row_scheme, 2> s{rmsmp::pot4, rmsmp::fixed4};
    CHECK(names(rmsmp::project(from, out, std::span(s).first(1), std::array{1.0f}), errc::shape_mismatch, "scheme"));
    CHECK(names(rmsmp::project(from, out, s, std::array{1.0f, 2.0f, 3.0f}), errc::shape_mismatch, "scales"));
    CHECK(names(rmsmp::project(from, out, s, std::array{0.0f}), errc::invalid_scale, "scales"));
    s[0].bits = 5;
    CHECK(names(rmsmp::encode(from, quant::view(codes, 2, 3), s, std::array{1.0f}), errc::bits_out_of_range, "scheme"));
    std::array<float, 2> scales{};
    w = {0, 0, 0, 1, -3, 2};
    REQUIRE(rmsmp::largest_of_rows(from, std::span(scales)));
    CHECK((scales[0] == 1 && scales[1] == 3));
    std::array<double, 2> variance{};
    REQUIRE(rmsmp::row_variances(from, variance));
    CHECK((variance[0] == 0 && std::abs(variance[1] - 14.0 / 3) < 1e-12));
    w[1] = std::numeric_limits<float>::infinity();
    CHECK(names(rmsmp::largest_of_rows(from, std::span(scales)), errc::non_finite, "w"));
    std::array<double, 3> curvature{};
    w = {1, 2, 3, -1, 0, 2};
    REQUIRE(rmsmp::add_row_curvature(from, curvature));
    CHECK((curvature[0] == 2 && curvature[1] == 4 && curvature[2] == 13));
}

TEST_CASE("every argument of the row schemes is refused by its own name") {
    std::vector<float> w(20, 1.0f), to(20);
    std::vector<std::int8_t> codes(20);
    const quant::tensor_view<const float, 2> from(w.data(), {2, 3});
    const quant::tensor_view<const float, 2> apart = quant::view(w, 4, 5).subview(1, 0, 3).subview(0, 0, 2);
    const quant::tensor_view<float, 2> out(to.data(), {2, 3}), other(to.data(), {3, 2});
    const quant::tensor_view<float, 2> out_apart = quant::view(to, 4, 5).subview(1, 0, 3).subview(0, 0, 2);
    const auto codes_apart = quant::view(codes, 4, 5).subview(1, 0, 3).subview(0, 0, 2);
    const std::array s{rmsmp::pot4, rmsmp::fixed4};
    const std::array one{1.0f};
    CHECK(names(rmsmp::project(apart, out, s, one), errc::invalid_stride, "w"));
    CHECK(names(rmsmp::project(from, other, s, one), errc::shape_mismatch, "projected"));
    CHECK(names(rmsmp::project(from, out_apart, s, one), errc::invalid_stride, "projected"));
    CHECK(names(rmsmp::encode(from, quant::view(std::span(codes).first(6), 3, 2), s, one), errc::shape_mismatch,
                "codes"));
    CHECK(names(rmsmp::encode(from, codes_apart, s, one), errc::invalid_stride, "codes"));
    CHECK(names(rmsmp::project(from, out, s, std::array{1.0f, 0x1p101f}), errc::invalid_scale, "scales"));
    // A scale of its own for each row, and what is not a number.
    w[1] = std::nanf("");
    REQUIRE(rmsmp::encode(from, quant::view(std::span(codes).first(6), 2, 3), s, std::array{1.0f, 7.0f}));
    CHECK(std::vector(codes.begin(), codes.begin() + 6) == std::vector<std::int8_t>{7, 0, 7, 1, 1, 1});
    w[1] = 1;

    CHECK(names(rmsmp::count_rows(9, {.power_of_two = 0, .fixed4 = 0, .fixed8 = 0}).status(), errc::invalid_argument,
                "ratio"));
    if constexpr (sizeof(std::size_t) > 4)
        CHECK(names(rmsmp::count_rows(static_cast<std::size_t>(std::uint64_t{1} << 32), {}).status(),
                    errc::invalid_argument, "rows"));
    // The row of eight bits is taken from the larger of the two others, whichever that is.
    const auto counts = rmsmp::count_rows(4, {.power_of_two = 1, .fixed4 = 3, .fixed8 = 0});
    CHECK((counts && counts->power_of_two == 1 && counts->fixed4 == 2 && counts->fixed8 == 1));

    std::array<row_scheme, 4> chosen{};
    std::array<std::uint32_t, 4> order{};
    std::array curvature{2.0, 1.0, 2.0, 1.0}, score{1.0, 1.0, 1.0, 1.0};
    const rmsmp::scheme_ratio thirds{.power_of_two = 1, .fixed4 = 2, .fixed8 = 1};
    REQUIRE(rmsmp::assign_rows(curvature, score, thirds, chosen, order)); // all equal: the lower row first
    CHECK((chosen[0] == rmsmp::fixed8 && chosen[1] == rmsmp::pot4));
    CHECK((chosen[2] == rmsmp::fixed4 && chosen[3] == rmsmp::fixed4));
    CHECK(order == std::array<std::uint32_t, 4>{1, 2, 3, 0});
    const auto assigned = [&](std::size_t c, std::size_t v, std::size_t o, const rmsmp::scheme_ratio& ratio) {
        return rmsmp::assign_rows(std::span(curvature).first(c), std::span(score).first(v), ratio, chosen,
                                  std::span(order).first(o))
            .status();
    };
    CHECK(names(assigned(3, 4, 4, thirds), errc::shape_mismatch, "curvature"));
    CHECK(names(assigned(4, 3, 4, thirds), errc::shape_mismatch, "score"));
    CHECK(names(assigned(4, 4, 3, thirds), errc::shape_mismatch, "order"));
    CHECK(names(assigned(4, 4, 4, {.power_of_two = 0, .fixed4 = 0, .fixed8 = 0}), errc::invalid_argument, "ratio"));
    score[2] = std::nan("");
    CHECK(names(assigned(4, 4, 4, thirds), errc::non_finite, "score"));
    curvature[3] = std::nan("");
    CHECK(names(assigned(4, 4, 4, thirds), errc::non_finite, "curvature"));

    const std::vector<std::int8_t> many(rmsmp::most_shift_add + 1);
    CHECK(names(rmsmp::shift_add_dot(many, many).status(), errc::invalid_argument, "codes"));
    CHECK(names(rmsmp::integers_of_codes(codes, std::span(codes).first(2), rmsmp::pot4), errc::shape_mismatch,
                "integers"));
    CHECK(names(rmsmp::integers_of_codes(codes, codes, {rmsmp::row_kind::power_of_two, 5}), errc::bits_out_of_range,
                "scheme"));
    std::array<std::int8_t, 4> beyond{-128, 127, -8, 8}; // as the outermost codes
    REQUIRE(rmsmp::integers_of_codes(beyond, beyond, rmsmp::pot4));
    CHECK(beyond == std::array<std::int8_t, 4>{-64, 64, -64, 64});

    std::array<float, 3> scales{};
    CHECK(names(rmsmp::largest_of_rows(apart, std::span(scales).first(2)), errc::invalid_stride, "w"));
    CHECK(names(rmsmp::largest_of_rows(from, std::span(scales)), errc::shape_mismatch, "scales"));
    CHECK(names(rmsmp::largest_of_rows(from, std::span(scales).first(0)), errc::shape_mismatch, "scales"));
    for (const float bad : {0x1p101f, 0x1p-101f}) {
        w.assign(20, bad);
        CHECK(names(rmsmp::largest_of_rows(from, std::span(scales).first(2)), errc::scale_out_of_range, "w"));
        CHECK(names(rmsmp::fit_power_of_two_scale(quant::view(w)).status(), errc::scale_out_of_range, "row"));
    }
    w.assign(20, 1.0f);
    const quant::tensor_view<const float, 1> every_second(w.data(), {5}, {2});
    CHECK(names(rmsmp::row_error(every_second, rmsmp::fixed4, 1.0f).status(), errc::invalid_stride, "row"));
    CHECK(names(rmsmp::row_error(quant::view(w), rmsmp::fixed4, 0.0f).status(), errc::invalid_scale, "scale"));
    CHECK(names(rmsmp::row_error(quant::view(w), {rmsmp::row_kind::power_of_two, 5}, 1.0f).status(),
                errc::bits_out_of_range, "scheme"));
    CHECK(names(rmsmp::fit_power_of_two_scale(every_second).status(), errc::invalid_stride, "row"));
    for (const int bits : {1, 5})
        CHECK(names(rmsmp::fit_power_of_two_scale(quant::view(w), bits).status(), errc::bits_out_of_range, "bits"));
    for (const float edge : {0x1p100f, 0x1p-100f}) { // the whole legal range; starts below it are left out
        w.assign(20, edge);
        const auto fitted = rmsmp::fit_power_of_two_scale(quant::view(w));
        CHECK((fitted && *rmsmp::row_error(quant::view(w), rmsmp::pot4, *fitted) == 0));
    }
    std::array<double, 3> variance{1, 1, 1};
    CHECK(names(rmsmp::row_variances(apart, std::span(variance).first(2)), errc::invalid_stride, "w"));
    CHECK(names(rmsmp::row_variances(from, variance), errc::shape_mismatch, "variance"));
    REQUIRE(rmsmp::row_variances(quant::tensor_view<const float, 2>(w.data(), {3, 0}), variance));
    CHECK(variance == std::array<double, 3>{});
}
