// SPDX-License-Identifier: MIT
// calibrate/empirical.hpp: one pass over the data finds what the recursion over all of them finds.

#include <quant/calibrate/empirical.hpp>
#include <quant/calibrate/moments.hpp>

#include <reference/statistics.hpp>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <limits>
#include <vector>

using quant::clip_range;
using quant::code_format;
using quant::errc;
using quant::statistics;

namespace {

constexpr std::array signed_formats{quant::int2,          quant::int3,          quant::int4,          quant::int5,
                                    quant::int6,          quant::int7,          quant::int8,          quant::uint4,
                                    quant::int4.narrow(), quant::int8.narrow(), quant::int2.narrow(), quant::uint8};

std::vector<float> relu(std::vector<float> x) {
    for (float& v : x) v = std::max(v, 0.0f);
    return x;
}

/// Both ways to every clip.
void compare(const std::vector<float>& x, statistics taken) {
    std::vector<code_format> formats;
    for (const code_format f : signed_formats)
        if (f.is_signed || taken != statistics::unspecified) formats.push_back(f);
    std::vector<clip_range> ranges(formats.size());
    REQUIRE(quant::clip_empirical(x, formats, ranges, taken));
    quant::moments_observer moments(taken);
    moments.observe(x);
    for (std::size_t i = 0; i < formats.size(); ++i) {
        const auto slow =
            quant::aciq().clip_empirical(moments.summary(), formats[i], quant::empirical_tail(x, formats[i], taken));
        REQUIRE(slow);
        CAPTURE(i, x.size());
        CHECK_THAT(ranges[i].lo, Catch::Matchers::WithinRel(slow->lo, 1e-12));
        CHECK_THAT(ranges[i].hi, Catch::Matchers::WithinRel(slow->hi, 1e-12));
        const auto single = quant::clip_empirical(x, formats[i], taken);
        REQUIRE(single);
        CHECK(*single == ranges[i]);
    }
}

} // namespace

TEST_CASE("the empirical clips of all formats at once are those of the recursion on the data") {
    for (const std::size_t n :
         {std::size_t{2}, std::size_t{5}, std::size_t{100}, std::size_t{1023}, std::size_t{70000}}) {
        for (const statistics taken : {statistics::unspecified, statistics::before_relu}) {
            compare(reference::gauss(n, n, 0.1), taken);
            compare(reference::laplace(n, n + 1), taken);
        }
        compare(relu(reference::laplace(n, n + 2)), statistics::after_relu);
        compare(relu(reference::gauss(n, n + 3, 0.5)), statistics::after_relu);
    }
}

TEST_CASE("the empirical clip of data that a histogram describes badly is the same too") {
    // Few values many times over: more in an interval than is kept, and bins that are far from evenly filled.
    std::vector<float> lumps = reference::laplace(50000, 1);
    for (float& v : lumps) v = std::nearbyint(v * 4.0f) / 4.0f;
    compare(lumps, statistics::unspecified);
    compare(lumps, statistics::before_relu);
    compare(relu(lumps), statistics::after_relu);
    // One element far out: nearly all the others in the two middle bins.
    std::vector<float> outlier = reference::gauss(30000, 2);
    outlier[777] = 1e6f;
    compare(outlier, statistics::unspecified);
    outlier[778] = std::numeric_limits<float>::max();
    outlier[779] = std::numeric_limits<float>::infinity();
    outlier[780] = std::numeric_limits<float>::quiet_NaN();
    compare(outlier, statistics::unspecified);
    // A bimodal tensor, one far from zero, tiny and huge values.
    std::vector<float> modes = reference::gauss(20000, 3, 3.0, 0.1);
    for (std::size_t i = 0; i < modes.size(); i += 2) modes[i] = -modes[i];
    compare(modes, statistics::unspecified);
    compare(reference::gauss(20000, 4, 100.0, 0.5), statistics::before_relu);
    for (const int exponent : {-140, -60, 60, 120}) {
        std::vector<float> scaled = reference::gauss(5000, 5);
        for (float& v : scaled) v = std::ldexp(v, exponent);
        compare(scaled, statistics::unspecified);
    }
    compare({1.0f, -1.0f}, statistics::unspecified);
    compare({2.0f, 2.0f, 2.0f}, statistics::unspecified);
    compare(std::vector<float>(40), statistics::unspecified);
}

TEST_CASE("the empirical clip solves its equation") {
    // What the |x| exceed the clip by = clip * count / (3 N^2), N = 14 cells of the narrow 4-bit grid.
    const std::vector<float> x = reference::laplace(100000, 9);
    const auto range = quant::clip_empirical(x, quant::int4.narrow());
    REQUIRE(range);
    long double excess = 0;
    for (const float v : x)
        excess += std::max(std::fabs(static_cast<long double>(v)) - static_cast<long double>(range->hi), 0.0L);
    CHECK_THAT(static_cast<double>(excess), Catch::Matchers::WithinRel(range->hi * 100000 / (3.0 * 14 * 14), 1e-10));
}

TEST_CASE("the empirical clip does not depend on the layout") {
    const std::vector<float> x = reference::gauss(std::size_t{60} * 700, 11);
    std::vector<float> transposed(x.size());
    std::vector<double> wide(x.begin(), x.end());
    for (std::size_t r = 0; r < 60; ++r)
        for (std::size_t c = 0; c < 700; ++c) transposed[c * 60 + r] = x[r * 700 + c];
    const auto dense = quant::clip_empirical(x, quant::int3);
    REQUIRE(dense);
    CHECK(*quant::clip_empirical(quant::tensor_view<const float, 2>(transposed.data(), {60, 700}, {1, 60}),
                                 quant::int3) == *dense);
    CHECK(*quant::clip_empirical(wide, quant::int3) == *dense);
}

TEST_CASE("the empirical clip says what is wrong") {
    const std::vector<float> x = reference::gauss(100, 12);
    std::array<clip_range, 2> two;
    const std::array formats{quant::int4, quant::uint4};
    const std::array illegal{quant::int4, code_format{40, true, false}};
    const auto status_of = [&](auto&& call) { return call.code; };
    CHECK(status_of(quant::clip_empirical(x, std::span<const code_format>(formats).first(1), two)) ==
          errc::shape_mismatch);
    CHECK(status_of(quant::clip_empirical(x, formats, two)) == errc::statistics_mismatch); // unsigned: before or after?
    CHECK(status_of(quant::clip_empirical(x, illegal, two)) == errc::bits_out_of_range);
    CHECK(quant::clip_empirical(std::vector<float>(), quant::int4).status().code == errc::no_data);
    CHECK(quant::clip_empirical(x, quant::int4, statistics::after_relu).status().code == errc::statistics_mismatch);
    CHECK(quant::clip_empirical(x, std::span<const code_format>(), std::span<clip_range>()));
}
