// SPDX-License-Identifier: MIT
// calibrate/error_measures.hpp against the definitions in long double.

#include <quant/calibrate/error_measures.hpp>

#include <reference/statistics.hpp>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

using quant::errc;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

bool close(double value, long double expected, long double relative) {
    return std::fabs(static_cast<long double>(value) - expected) <= relative * std::fabs(expected);
}

/// The definitions, element by element.
void check(const quant::error_measures& e, const std::vector<float>& original, const std::vector<float>& restored) {
    long double error = 0, signal = 0, other = 0, product = 0, largest = 0;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < original.size(); ++i) {
        if (!std::isfinite(original[i]) || !std::isfinite(restored[i])) continue;
        const auto x = static_cast<long double>(original[i]), y = static_cast<long double>(restored[i]);
        error += (x - y) * (x - y);
        signal += x * x;
        other += y * y;
        product += x * y;
        largest = std::max(largest, std::fabs(x - y));
        ++count;
    }
    CHECK(e.count == count);
    CHECK(e.non_finite == original.size() - count);
    CHECK(close(e.mse, error / static_cast<long double>(count), 1e-7L));
    CHECK(std::fabs(static_cast<long double>(e.sqnr_db) - 10 * std::log10(signal / error)) < 1e-6L);
    CHECK(close(e.max_abs_error, largest, 1e-15L));
    CHECK(close(e.cosine, product / std::sqrt(signal * other), 1e-14L));
}

std::vector<float> dequantized(const std::vector<std::int8_t>& codes, const quant::affine_params& p) {
    std::vector<float> out;
    for (const std::int8_t c : codes) out.push_back(static_cast<float>(c - p.zero_point) * p.scale);
    return out;
}

} // namespace

TEST_CASE("error measures follow their definitions") {
    for (const std::size_t n : {1u, 2u, 15u, 16u, 17u, 1023u, 1024u, 1025u, 50000u}) {
        const std::vector<float> original = reference::gauss(n, n);
        std::vector<float> restored = original;
        for (std::size_t i = 0; i < n; ++i) restored[i] = std::round(restored[i] * 8) / 8 + 1e-3f;
        const auto e = quant::measure_error(original, restored);
        REQUIRE(e);
        check(*e, original, restored);
        CHECK(std::isnan(e->clipped_fraction)); // no range was given
    }
}

TEST_CASE("pairs with a value that is not finite are skipped and counted") {
    const std::vector<float> original{1, nan_value, 2, inf, 3}, restored{1.5f, 1, nan_value, 2, 3.25f};
    const auto e = quant::measure_error(original, restored);
    REQUIRE(e);
    check(*e, original, restored);
    CHECK(e->count == 2);
    CHECK(e->non_finite == 3);
    CHECK(e->mse == (0.25 + 0.0625) / 2);
    CHECK(e->max_abs_error == 0.5);
    CHECK(quant::measure_error(std::vector<float>{nan_value}, std::vector<float>{1}).status().code == errc::no_data);
    CHECK(quant::measure_error(std::vector<float>{}, std::vector<float>{}).status().code == errc::no_data);
}

TEST_CASE("measures without error or without signal are defined") {
    const std::vector<float> x{1, -2, 3}, zero{0, 0, 0};
    const auto none = quant::measure_error(x, x);
    CHECK(none->mse == 0);
    CHECK(none->sqnr_db == std::numeric_limits<double>::infinity());
    CHECK(none->max_abs_error == 0);
    CHECK_THAT(none->cosine, Catch::Matchers::WithinULP(1.0, 2));
    const auto nothing = quant::measure_error(zero, zero);
    CHECK(nothing->sqnr_db == std::numeric_limits<double>::infinity());
    CHECK(nothing->cosine == 1);
    const auto lost = quant::measure_error(x, zero);
    CHECK(lost->sqnr_db == 0); // noise is the signal
    CHECK(lost->cosine == 0);
    const auto noise = quant::measure_error(zero, x);
    CHECK(noise->sqnr_db == -std::numeric_limits<double>::infinity());
    CHECK(noise->cosine == 0);
    const auto opposite = quant::measure_error(x, std::vector<float>{-1, 2, -3});
    CHECK_THAT(opposite->cosine, Catch::Matchers::WithinULP(-1.0, 2));
    CHECK_THAT(opposite->sqnr_db, Catch::Matchers::WithinAbs(-6.020599913279624, 1e-12)); // -20 log10 2
}

TEST_CASE("the logarithm behind the decibels is right to a few units in the last place") {
    std::mt19937_64 random(1);
    for (int i = 0; i < 20000; ++i) {
        const double x = std::ldexp(1 + reference::uniform(random), static_cast<int>(random() % 1200) - 600);
        const long double expected = std::log2(static_cast<long double>(x));
        const long double error = std::fabs(static_cast<long double>(quant::detail::log2_of(x)) - expected);
        if (error > 4e-16L * std::max(1.0L, std::fabs(expected))) FAIL("log2 of " << x);
    }
    CHECK(quant::detail::log2_of(1.0) == 0);
    CHECK(quant::detail::log2_of(0x1p-300) == -300);
    CHECK(quant::detail::log2_of(8.0) == 3);
}

TEST_CASE("errors beyond the range of float stay finite") {
    constexpr float max = std::numeric_limits<float>::max();
    const auto e = quant::measure_error(std::vector<float>{max, 1}, std::vector<float>{-max, 1});
    CHECK(e->max_abs_error == 2 * static_cast<double>(max));
    CHECK(close(e->mse, 2 * static_cast<long double>(max) * static_cast<long double>(max), 1e-7L));
    const auto tiny = quant::measure_error(std::vector<float>{0x1p-149f}, std::vector<float>{0.0f});
    CHECK(tiny->mse == 0x1p-298);
    CHECK(tiny->sqnr_db == 0);
}

TEST_CASE("layout and element type do not change a measure") {
    constexpr std::size_t rows = 33, columns = 70;
    const std::vector<float> a = reference::gauss(rows * columns, 1), b = reference::gauss(rows * columns, 2);
    std::vector<float> a_transposed(rows * columns);
    std::vector<double> b_wide(2 * rows * columns);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
            a_transposed[c * rows + r] = a[r * columns + c];
            b_wide[2 * (r * columns + c)] = static_cast<double>(b[r * columns + c]);
        }
    quant::error_observer dense, strided;
    REQUIRE(dense.observe(a, b));
    REQUIRE(strided.observe(quant::tensor_view<const float, 2>(a_transposed.data(), {rows, columns}, {1, rows}),
                            quant::tensor_view<const double, 2>(b_wide.data(), {rows, columns}, {2 * columns, 2})));
    CHECK(dense.state() == strided.state());
}

TEST_CASE("error observers merge, and go on from a saved state") {
    const std::vector<float> a = reference::awkward(5 * 1024 + 5, 3), b = reference::awkward(5 * 1024 + 5, 4);
    const auto at = [](const std::vector<float>& x, std::size_t from, std::size_t n) {
        return std::span<const float>(x).subspan(from, n);
    };
    quant::error_observer whole, first, second, third;
    REQUIRE(whole.observe(a, b));
    REQUIRE(first.observe(at(a, 0, 1024), at(b, 0, 1024)));
    REQUIRE(second.observe(at(a, 1024, 3072), at(b, 1024, 3072)));
    REQUIRE(third.observe(at(a, 4096, 1029), at(b, 4096, 1029)));
    quant::error_observer backwards = third;
    backwards.merge(second);
    backwards.merge(first);
    CHECK(backwards.state() == whole.state());
    first.merge(third);
    quant::error_observer resumed(first.state());
    resumed.merge(second);
    CHECK(resumed.state() == whole.state());
}

TEST_CASE("codes are measured without a restored tensor") {
    const std::vector<float> x = reference::gauss(5000, 7);
    const quant::affine_params p{0.015625f, 10, quant::int8};
    std::vector<std::int8_t> codes;
    std::uint64_t clipped = 0;
    for (const float v : x) {
        const float code = std::nearbyint(v / p.scale) + 10;
        codes.push_back(static_cast<std::int8_t>(std::min(std::max(code, -128.0f), 127.0f)));
        const double lo = (-128 - 10) * 0.015625 - 0.0078125, hi = (127 - 10) * 0.015625 + 0.0078125;
        clipped += static_cast<double>(v) < lo || static_cast<double>(v) > hi ? 1 : 0;
    }
    REQUIRE(clipped > 100);
    const auto from_codes = quant::measure_error(x, codes, p);
    REQUIRE(from_codes);
    const std::vector<float> restored = dequantized(codes, p);
    check(*from_codes, x, restored);
    CHECK(from_codes->mse == quant::measure_error(x, restored)->mse);
    CHECK(from_codes->clipped_fraction == static_cast<double>(clipped) / 5000.0);
}

TEST_CASE("clipped means more than half a step outside") {
    const quant::affine_params p{1.0f, 0, quant::int8};
    const std::vector<float> x{127.5f, std::nextafter(127.5f, 200.0f), -128.5f, std::nextafter(-128.5f, -200.0f),
                               nan_value};
    const std::vector<std::int8_t> codes{127, 127, -128, -128, 0};
    const auto e = quant::measure_error(x, codes, p);
    REQUIRE(e);
    CHECK(e->count == 4);
    CHECK(e->clipped_fraction == 0.5);
}

TEST_CASE("every granularity measures with the parameters of the slice") {
    constexpr std::size_t a = 6, b = 50, c = 21;
    const std::vector<float> x = reference::gauss(a * b * c, 8);
    std::vector<std::int8_t> codes(x.size());
    std::mt19937_64 random(8);
    for (std::int8_t& v : codes) v = static_cast<std::int8_t>(static_cast<int>(random() % 256) - 128);
    struct trial {
        quant::granularity g;
        std::size_t slices;
        std::size_t (*slice)(std::size_t, std::size_t, std::size_t);
    };
    const trial trials[] = {
        {quant::per_tensor, 1, [](std::size_t, std::size_t, std::size_t) { return std::size_t{0}; }},
        {quant::per_axis(0), a, [](std::size_t i, std::size_t, std::size_t) { return i; }},
        {quant::per_axis(1), b, [](std::size_t, std::size_t j, std::size_t) { return j; }},
        {quant::per_axis(-1), c, [](std::size_t, std::size_t, std::size_t k) { return k; }},
        {quant::per_group(-1, 8), a * b * 3,
         [](std::size_t i, std::size_t j, std::size_t k) { return (i * b + j) * 3 + k / 8; }},
        {quant::per_group(1, 16), a * 4 * c,
         [](std::size_t i, std::size_t j, std::size_t k) { return (i * 4 + j / 16) * c + k; }},
    };
    for (const trial& t : trials) {
        std::vector<quant::affine_params> params(t.slices);
        for (std::size_t s = 0; s < t.slices; ++s)
            params[s] = {0.01f + 0.001f * static_cast<float>(s % 37), static_cast<std::int32_t>(s % 11) - 5,
                         quant::int8};
        std::vector<float> restored(x.size());
        std::uint64_t clipped = 0;
        for (std::size_t i = 0, at = 0; i < a; ++i)
            for (std::size_t j = 0; j < b; ++j)
                for (std::size_t k = 0; k < c; ++k, ++at) {
                    const quant::affine_params& p = params[t.slice(i, j, k)];
                    restored[at] = static_cast<float>(codes[at] - p.zero_point) * p.scale;
                    const auto scale = static_cast<double>(p.scale), v = static_cast<double>(x[at]);
                    clipped +=
                        v < (-128 - p.zero_point - 0.5) * scale || v > (127 - p.zero_point + 0.5) * scale ? 1 : 0;
                }
        const auto e = quant::measure_error(quant::view(x, a, b, c), quant::view(codes, a, b, c), params, t.g);
        REQUIRE(e);
        check(*e, x, restored);
        CHECK(e->mse == quant::measure_error(x, restored)->mse);
        CHECK(e->clipped_fraction == static_cast<double>(clipped) / static_cast<double>(x.size()));
        params.pop_back();
        CHECK(quant::measure_error(quant::view(x, a, b, c), quant::view(codes, a, b, c), params, t.g).status().code ==
              errc::shape_mismatch);
    }
}

TEST_CASE("measures of what does not fit together name the argument") {
    const std::vector<float> x(6), y(5);
    const std::vector<std::uint8_t> codes(5);
    const auto shapes = quant::measure_error(x, y).status();
    CHECK(shapes.code == errc::shape_mismatch);
    CHECK(std::string(shapes.argument) == "restored");
    const auto wrong_codes = quant::measure_error(x, codes, quant::affine_params{}).status();
    CHECK(wrong_codes.code == errc::shape_mismatch);
    CHECK(std::string(wrong_codes.argument) == "codes");
    CHECK(quant::measure_error(y, codes, quant::affine_params{-1.0f, 0, quant::uint8}).status().code ==
          errc::invalid_scale);
    const std::array<quant::affine_params, 1> one{};
    CHECK(quant::measure_error(y, codes, one, quant::per_axis(3)).status().code == errc::axis_out_of_range);
    CHECK(quant::measure_error(y, codes, one, quant::per_group(0, 0)).status().code == errc::invalid_group_size);
}
