// SPDX-License-Identifier: MIT
// Dynamic quantization against the formulas in long double and against the separate calls it stands for.
#include "archs.hpp"
#include "reference/quantize.hpp"
#include "stops.hpp"
#include "support.hpp"
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/dynamic.hpp>
#include <span>
#include <vector>

using quant::affine_params;
using quant::code_format;
using quant::dynamic_options;
using quant::errc;
using quant::granularity;
using quant::mapping;
using quant::quantize_options;
using test::names;

namespace {

std::vector<float> values(std::size_t n, std::uint64_t seed, bool special) {
    std::vector<float> x;
    for (std::size_t i = 0; i < n; ++i) {
        const float u = quant::random_uniform(seed, 0, i) * 5 - 2;
        x.push_back(std::ldexp(u, static_cast<int>(i / 301 % 9)));
        if (special && i % 173 == 5) x.back() = std::numeric_limits<float>::quiet_NaN();
        if (special && i % 401 == 7)
            x.back() = i % 2 == 0 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
        if (special && i / 301 % 9 == 4) x.back() = -x.back();
    }
    return x;
}

/// Equations (4) and (5) of docs/numerics.md.
affine_params params_of(const std::vector<float>& slice, code_format format, mapping map) {
    double lo = 0, hi = 0;
    for (const float v : slice)
        if (std::isfinite(v)) {
            lo = std::min(lo, static_cast<double>(v));
            hi = std::max(hi, static_cast<double>(v));
        }
    const reference::code_bounds codes = reference::bounds(format);
    const double scale = map == mapping::affine
                             ? (hi - lo) / (codes.hi - codes.lo)
                             : std::max(codes.lo < 0 ? lo / codes.lo : 0, codes.hi > 0 ? hi / codes.hi : 0);
    if (scale < 0x1p-100) return {1, 0, format};
    const auto s = static_cast<float>(scale);
    if (map == mapping::symmetric) return {s, 0, format};
    const double zero = codes.lo - lo / static_cast<double>(s);
    return {s,
            static_cast<std::int32_t>(reference::round_even(
                static_cast<long double>(std::min<double>(std::max<double>(zero, codes.lo), codes.hi)))),
            format};
}

/// All of it for a two-dimensional tensor, in any layout of memory.
template <class T, class Code>
int mistakes(const quant::tensor_view<const T, 2>& src, const quant::tensor_view<Code, 2>& codes, granularity g,
             code_format format, mapping map, const quantize_options& how) {
    const auto slices = quant::slice_count(src, g);
    if (!slices) return 1000;
    std::vector<affine_params> params(*slices);
    std::vector<std::int32_t> sums(*slices, -1);
    const dynamic_options options{.format = format, .map = map, .quantize = how, .code_sums = sums};
    int wrong = !quant::quantize_dynamic(src, codes, params, g, options);
    const auto slice_of = quant::resolve(g, src.extents());
    std::vector<std::vector<float>> members(*slices);
    const auto each = [&](auto f) {
        for (std::size_t i = 0; i < src.extent(0); ++i)
            for (std::size_t j = 0; j < src.extent(1); ++j) f(i, j, slice_of->slice_of({i, j}));
    };
    each([&](std::size_t i, std::size_t j, std::size_t s) {
        members[s].push_back(static_cast<float>(reference::value(src(i, j))));
    });
    std::vector<std::int64_t> expected_sums(*slices, 0);
    for (std::size_t s = 0; s < *slices; ++s) wrong += params[s] != params_of(members[s], format, map);
    each([&](std::size_t i, std::size_t j, std::size_t s) {
        const std::int32_t code = reference::quantize(src(i, j), params[s], how, i * src.extent(1) + j);
        wrong += codes(i, j) != code;
        expected_sums[s] += code;
    });
    for (std::size_t s = 0; s < *slices; ++s) wrong += sums[s] != expected_sums[s];
    // Without sums: the same codes.
    std::vector<Code> again(src.size());
    wrong += !quant::quantize_dynamic(src, again, params, g, {.format = format, .map = map, .quantize = how});
    each([&](std::size_t i, std::size_t j, std::size_t) { wrong += again[i * src.extent(1) + j] != codes(i, j); });
    return wrong;
}

} // namespace

TEST_CASE("dynamic: range, parameters, codes and sums of every slice", "[dynamic]") {
    for (const std::size_t columns : {std::size_t{1}, std::size_t{33}, std::size_t{301}, std::size_t{5000}})
        for (const bool special : {false, true}) {
            const std::vector<float> x = values(6 * columns, columns, special);
            std::vector<std::int8_t> s8(6 * columns);
            std::vector<std::uint8_t> u8(6 * columns);
            std::vector<std::int16_t> s16(6 * columns);
            for (const granularity g : {quant::per_tensor, quant::per_axis(0), quant::per_axis(1),
                                        quant::per_group(1, 32), quant::per_group(0, 2)})
                for (const mapping map : {mapping::symmetric, mapping::affine}) {
                    const quant::tensor_view<const float, 2> v = quant::view(x, 6, columns);
                    int wrong = mistakes(v, quant::view(s8, 6, columns), g, quant::int8, map, {});
                    wrong += mistakes(v, quant::view(u8, 6, columns), g, quant::uint8, map,
                                      {.divide = quant::scale_by::reciprocal});
                    wrong += mistakes(v, quant::view(s16, 6, columns), g, quant::int4.narrow(), map,
                                      {.round = quant::rounding::stochastic, .seed = 3, .first_index = 17});
                    // Transposed: slices are no longer runs.
                    const quant::tensor_view<const float, 2> t(x.data(), {columns, 6}, {1, columns});
                    wrong += mistakes(t, quant::view(s8, columns, 6), g, quant::int8, map, {});
                    INFO("columns " << columns << " special " << special << " unit " << static_cast<int>(g.unit)
                                    << " axis " << g.axis);
                    REQUIRE(wrong == 0);
                }
        }
}

TEST_CASE("dynamic: other real types, and rows with something between them", "[dynamic]") {
    const std::vector<float> x = values(5 * 77, 3, true);
    std::vector<quant::bfloat16> halves;
    for (const float v : x) halves.push_back(quant::from_float<quant::bfloat16>(v));
    const std::vector<double> doubles(x.begin(), x.end());
    std::vector<std::int8_t> codes(5 * 77);
    const auto to = quant::view(codes, 5, 77);
    CHECK(mistakes<quant::bfloat16, std::int8_t>(quant::view(halves, 5, 77), to, quant::per_axis(0), quant::int8,
                                                 mapping::affine, {}) == 0);
    CHECK(mistakes<double, std::int8_t>(quant::view(doubles, 5, 77), to, quant::per_axis(0), quant::int8,
                                        mapping::affine, {}) == 0);
    const quant::tensor_view<const float, 2> part = quant::view(x, 5, 77).subview(1, 4, 60);
    std::vector<std::int8_t> fewer(5 * 60);
    CHECK(mistakes<float, std::int8_t>(part, quant::view(fewer, 5, 60), quant::per_axis(0), quant::int8,
                                       mapping::symmetric, {}) == 0);
}

TEST_CASE("dynamic: what is refused, and slices without elements", "[dynamic]") {
    const std::vector<float> x(12, 1.0f);
    std::vector<std::int8_t> codes(12);
    std::vector<affine_params> params(3);
    std::vector<std::int32_t> sums(3);
    const auto v = quant::view(x, 3, 4);
    CHECK(quant::quantize_dynamic(v, codes, params, quant::per_axis(0), {.code_sums = sums}));
    CHECK(sums == std::vector<std::int32_t>(3, 4 * 127));
    CHECK(names(quant::quantize_dynamic(v, codes, params, quant::per_axis(1)), errc::shape_mismatch, "params"));
    CHECK(names(quant::quantize_dynamic(v, codes, params, quant::per_axis(2)), errc::axis_out_of_range, "axis"));
    CHECK(names(quant::quantize_dynamic(v, codes, params, quant::per_axis(0), {.code_sums = std::span(sums).first(2)}),
                errc::shape_mismatch, "code_sums"));
    CHECK(names(quant::quantize_dynamic(v, codes, params, quant::per_axis(0), {.format = quant::uint8}),
                errc::storage_too_narrow, "codes"));
    CHECK(names(quant::quantize_dynamic(v, std::span(codes).first(11), params, quant::per_axis(0)),
                errc::shape_mismatch, "codes"));
    std::vector<float> large(12, 1.0f);
    large[5] = 0x1p120f;
    CHECK(names(quant::quantize_dynamic(quant::view(large, 3, 4), codes, params, quant::per_axis(0)),
                errc::scale_out_of_range, "src"));
    const std::vector<float> none;
    CHECK(quant::quantize_dynamic(quant::view(none, 3, 0), std::span(codes).first(0), params, quant::per_axis(0),
                                  {.code_sums = sums}));
    CHECK(params[2] == affine_params{1, 0, quant::int8});
    CHECK(sums == std::vector<std::int32_t>(3, 0));
    // 2^24 elements of 8 signed bits could reach 2^31: refused before anything is read.
    const quant::tensor_view<const float, 1> huge(x.data(), {std::size_t{1} << 24}, {1});
    const quant::tensor_view<std::int8_t, 1> huge_codes(codes.data(), {std::size_t{1} << 24}, {1});
    CHECK(names(quant::quantize_dynamic(huge, huge_codes, std::span(params).first(1), quant::per_tensor,
                                        {.code_sums = std::span(sums).first(1)}),
                errc::invalid_argument, "code_sums"));
}

TEMPLATE_LIST_TEST_CASE("dynamic: ranges and sums on every architecture, at every length and offset", "[dynamic]",
                        test::archs) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    int wrong = 0;
    for (std::size_t n = 0; n <= 2 * 64 + 3; ++n)
        for (std::size_t offset = 0; offset < 3; ++offset)
            for (int kind = 0; kind < 5; ++kind) {
                std::vector<float> x;
                std::vector<std::int8_t> s;
                std::vector<std::uint8_t> u;
                double lo = 0, hi = 0;
                bool finite = true;
                std::int64_t s_sum = 0, u_sum = 0;
                for (std::size_t i = 0; i < offset + n; ++i) {
                    const std::uint64_t bits = quant::random_bits(n, static_cast<std::uint64_t>(kind), i);
                    float v = std::ldexp(static_cast<float>(static_cast<int>(bits % 2001) - 1000),
                                         static_cast<int>(bits >> 20 & 31) - 16);
                    if (kind == 1) v = std::fabs(v);
                    if (kind == 2) v = -std::fabs(v);
                    if (kind == 3 && bits % 7 == 0)
                        v = bits % 3 == 0 ? infinity
                                          : (bits % 3 == 1 ? -infinity : std::numeric_limits<float>::quiet_NaN());
                    if (kind == 4) v = bits % 2 == 0 ? -0.0f : 0.0f;
                    x.push_back(v);
                    s.push_back(static_cast<std::int8_t>(bits >> 8));
                    u.push_back(static_cast<std::uint8_t>(bits >> 8));
                    if (i < offset) continue;
                    if (std::isfinite(v)) {
                        lo = std::min(lo, static_cast<double>(v));
                        hi = std::max(hi, static_cast<double>(v));
                    } else {
                        finite = false;
                    }
                    s_sum += s.back();
                    u_sum += u.back();
                }
                const quant::simd::run_range found = quant::simd::range_with_zero<TestType>(x.data() + offset, n);
                wrong += found.range.lo != lo || found.range.hi != hi || found.finite != finite;
                wrong += quant::simd::sum_codes<TestType>(s.data() + offset, n) != s_sum;
                wrong += quant::simd::sum_codes<TestType>(u.data() + offset, n) != u_sum;
            }
    CHECK(wrong == 0);
}

#if defined(QUANT_TEST_HAS_FORK) && QUANT_ASSERT_LEVEL >= 1
TEST_CASE("dynamic: codes in the memory of the source are a broken precondition", "[dynamic]") {
    using test::stops;
    std::vector<float> x(400, 1.0f);
    const std::span<float> all(x);
    const auto codes = std::span(reinterpret_cast<std::int8_t*>(x.data()), 4 * x.size());
    std::vector<affine_params> params(1);
    const auto run = [&](auto from, auto to) {
        return [&params, from, to] {
            return static_cast<bool>(quant::quantize_dynamic(from, to, params, quant::per_tensor));
        };
    };
    CHECK(stops(run(all, codes.first(400))));
    CHECK(stops(run(all.first(200), codes.subspan(799, 200))));
    CHECK(stops(run(all.last(200), codes.subspan(601, 200))));
    CHECK_FALSE(stops(run(all.first(200), codes.subspan(800, 200))));
    CHECK_FALSE(stops(run(all.last(200), codes.subspan(600, 200))));
    CHECK_FALSE(stops(run(quant::view(x.data(), 4, 100).subview(1, 0, 10), // in the gaps of a matrix
                          quant::view(codes.data(), 4, 400).subview(1, 40, 10))));
}
#endif
