// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/core/params.hpp>
#include <quant/core/random.hpp>
#include <quant/core/scalar.hpp>
#include <string>

using quant::affine_params;
using quant::choose_params;
using quant::clip_range;
using quant::code_format;
using quant::errc;
using quant::mapping;

namespace {

constexpr code_format formats[] = {quant::int1,  quant::int2,          quant::int3,          quant::int4,
                                   quant::int8,  quant::int8.narrow(), quant::int16,         quant::uint1,
                                   quant::uint2, quant::uint4,         quant::int4.narrow(), quant::uint5,
                                   quant::uint8, quant::uint16,        quant::int16.narrow()};

/// Scale of the range widened to contain zero, unrounded.
long double exact_scale(double from, double to, code_format f, mapping map) {
    const auto lo = static_cast<long double>(from < 0 ? from : 0.0), hi = static_cast<long double>(to > 0 ? to : 0.0);
    const reference::code_bounds codes = reference::bounds(f);
    if (map == mapping::affine) return (hi - lo) / (codes.hi - codes.lo);
    const long double below = codes.lo < 0 ? lo / codes.lo : 0, above = codes.hi > 0 ? hi / codes.hi : 0;
    return below > above ? below : above;
}

/// Many ranges: one-sided, two-sided, lopsided, tiny, huge.
template <class F> void for_each_range(F f) {
    const double some[] = {0, 1e-40, 1e-20, 0.1, 0.5, 1, 3, 100.25, 255, 1e10, 1e29};
    for (const double lo : some)
        for (const double hi : some) {
            f(-lo, hi);
            if (lo <= hi) f(lo, hi);
            if (lo >= hi) f(-lo, -hi);
        }
    for (std::uint64_t i = 0; i < 2000; ++i) {
        const auto u = [&](std::uint64_t stream) { return static_cast<double>(quant::random_uniform(3, stream, i)); };
        const double size = std::exp2(60 * u(0) - 30);
        f(-size * u(1), size * u(2) * u(2));
    }
}

} // namespace

TEST_CASE("the scale of a range is the formula's, rounded to float", "[params]") {
    int wrong = 0, checked = 0;
    for_each_range([&](double lo, double hi) {
        for (const code_format f : formats)
            for (const mapping map : {mapping::symmetric, mapping::affine}) {
                const auto p = choose_params({lo, hi}, f, map);
                if (!p) {
                    ++wrong;
                    continue;
                }
                wrong += !quant::validate(*p) || !(p->format == f);
                const long double exact = exact_scale(lo, hi, f, map);
                if (exact < std::ldexp(1.0L, -100)) {
                    wrong += p->scale != 1 || p->zero_point != 0;
                    continue;
                }
                ++checked;
                // Half a float step, and the two roundings to double before it.
                wrong += std::fabs(static_cast<long double>(p->scale) - exact) >
                         exact * (std::ldexp(1.0L, -24) + std::ldexp(1.0L, -51));
                wrong += map == mapping::symmetric && p->zero_point != 0;
            }
    });
    CHECK(wrong == 0);
    CHECK(checked > 30000);
}

TEST_CASE("the affine zero point is the nearest code to where zero falls", "[params]") {
    int wrong = 0;
    for_each_range([&](double lo, double hi) {
        for (const code_format f : formats) {
            const auto p = choose_params({lo, hi}, f, mapping::affine);
            if (!p || exact_scale(lo, hi, f, mapping::affine) < std::ldexp(1.0L, -100)) continue;
            const reference::code_bounds codes = reference::bounds(f);
            long double zero =
                codes.lo - static_cast<long double>(lo < 0 ? lo : 0.0) / static_cast<long double>(p->scale);
            zero = zero < codes.lo ? codes.lo : (zero > codes.hi ? codes.hi : zero);
            wrong += std::fabs(p->zero_point - zero) > 0.5L + 1e-9L;
        }
    });
    CHECK(wrong == 0);
    // Ties go to the even code: lo / scale is a whole number and a half.
    CHECK(choose_params({-0.5, 254.5}, quant::uint8, mapping::affine)->zero_point == 0);
    CHECK(choose_params({-1.5, 253.5}, quant::uint8, mapping::affine)->zero_point == 2);
    CHECK(choose_params({-2.5, 252.5}, quant::uint8, mapping::affine)->zero_point == 2);
    CHECK(choose_params({-2.5, 252.5}, quant::int8, mapping::affine)->zero_point == -126);
    CHECK(choose_params({-1, 3}, quant::uint8, mapping::affine)->zero_point == 64); // 63.75
}

TEST_CASE("zero is exactly representable under every parameters chosen", "[params]") {
    int wrong = 0;
    for_each_range([&](double lo, double hi) {
        for (const code_format f : formats)
            for (const mapping map : {mapping::symmetric, mapping::affine}) {
                const affine_params p = *choose_params({lo, hi}, f, map);
                const float zero = quant::fake_quant_one(0.0f, p);
                wrong += zero != 0 || std::signbit(zero) || quant::quantize_one(0.0f, p) != p.zero_point;
            }
    });
    CHECK(wrong == 0);
}

TEST_CASE("symmetric parameters bring every value of the range to within half a step", "[params]") {
    int wrong = 0;
    const double ranges[] = {1e-12, 0.1, 1, 3.3, 127, 1e5, 7e20};
    for (const double a : ranges)
        for (const code_format f :
             {quant::int2.narrow(), quant::int4.narrow(), quant::int8.narrow(), quant::int16.narrow()}) {
            const affine_params p = *choose_params({-a, a}, f, mapping::symmetric);
            for (int i = -1000; i <= 1000; ++i) {
                const auto x = static_cast<float>(a * i / 1000);
                if (static_cast<double>(std::fabs(x)) > a) continue;
                const double error =
                    std::fabs(static_cast<double>(quant::fake_quant_one(x, p)) - static_cast<double>(x));
                wrong += error > static_cast<double>(p.scale) / 2 + std::ldexp(std::fabs(static_cast<double>(x)), -22);
            }
        }
    CHECK(wrong == 0);
}

TEST_CASE("a zero range, or one too small for a legal scale, gives scale 1 and the plain zero", "[params]") {
    const double denormal = std::numeric_limits<double>::denorm_min();
    const clip_range nothing[] = {{0, 0},     {-0.0, 0},   {-denormal, denormal},
                                  {0, 1e-40}, {-1e-40, 0}, {-0x1p-101, 0x1p-101}};
    for (const clip_range range : nothing)
        for (const code_format f : formats)
            for (const mapping map : {mapping::symmetric, mapping::affine}) {
                if (f.bits == 1 && range.hi == 0x1p-101) continue; // one step of the whole width is large enough there
                CHECK(*choose_params(range, f, map) == affine_params{1, 0, f});
            }
    // A symmetric unsigned format has no code below zero, signed 1 bit none above it: such ranges leave nothing to represent.
    CHECK(*choose_params({-5, 0}, quant::uint8, mapping::symmetric) == affine_params{1, 0, quant::uint8});
    CHECK(*choose_params({0, 5}, quant::int1, mapping::symmetric) == affine_params{1, 0, quant::int1});
}

TEST_CASE("scales from 2^-100 to 2^100 are legal, smaller ranges count as zero, larger ones are an error", "[params]") {
    static_assert(quant::min_scale == 0x1p-100f && quant::max_scale == 0x1p100f);
    CHECK(choose_params({0, 0x1p-100 * 255}, quant::uint8, mapping::affine)->scale == quant::min_scale);
    CHECK(choose_params({0, std::nextafter(0x1p-100 * 255, 0.0)}, quant::uint8, mapping::affine)->scale == 1);
    CHECK(choose_params({0, 0x1p100 * 255}, quant::uint8, mapping::affine)->scale == quant::max_scale);
    CHECK(choose_params({-0x1p100 * 128, 0}, quant::int8, mapping::symmetric)->scale == quant::max_scale);
    const double large = std::numeric_limits<double>::max();
    for (const clip_range range : {clip_range{0, 0x1p100 * 256}, clip_range{-large, large}, clip_range{-large, 0}})
        for (const mapping map : {mapping::symmetric, mapping::affine}) {
            const auto p = choose_params(range, quant::uint8, map);
            if (map == mapping::symmetric && range.hi == 0) continue; // nothing of it is represented
            REQUIRE_FALSE(p);
            CHECK(p.status().code == errc::scale_out_of_range);
            CHECK(std::string(p.status().argument) == "range");
        }
}

TEST_CASE("ranges that are not ranges and formats that are not formats are refused by name", "[params]") {
    const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
    for (const clip_range range : {clip_range{nan, 1}, clip_range{-1, nan}, clip_range{-inf, 1}, clip_range{-1, inf},
                                   clip_range{1, -1}, clip_range{2, 1}, clip_range{inf, inf}})
        for (const mapping map : {mapping::symmetric, mapping::affine}) {
            const auto p = choose_params(range, quant::int8, map);
            REQUIRE_FALSE(p);
            CHECK(p.status().code == errc::invalid_range);
            CHECK(std::string(p.status().argument) == "range");
        }
    for (const code_format f : {code_format{0, true}, code_format{9, true}, code_format{17, false},
                                quant::int1.narrow(), quant::uint8.narrow()}) {
        const auto p = choose_params({-1, 1}, f, mapping::symmetric);
        REQUIRE_FALSE(p);
        CHECK(p.status().code == errc::bits_out_of_range);
    }
}

TEST_CASE("a range away from zero is widened to contain it", "[params]") {
    CHECK(*choose_params({5, 10}, quant::uint8, mapping::affine) ==
          *choose_params({0, 10}, quant::uint8, mapping::affine));
    CHECK(*choose_params({-10, -5}, quant::int8, mapping::affine) ==
          *choose_params({-10, 0}, quant::int8, mapping::affine));
    CHECK(choose_params({-10, -5}, quant::uint8, mapping::affine)->zero_point == 255);
}

TEST_CASE("one-bit formats have two codes", "[params]") {
    const affine_params s = *choose_params({-3, 1}, quant::int1, mapping::symmetric);
    CHECK(s == affine_params{3, 0, quant::int1});
    CHECK(quant::quantize_one(-2.0f, s) == -1);
    CHECK(quant::quantize_one(5.0f, s) == 0);
    const affine_params u = *choose_params({-1, 3}, quant::uint1, mapping::affine);
    CHECK(u == affine_params{4, 0, quant::uint1});
    CHECK(quant::fake_quant_one(3.0f, u) == 4.0f);
}

TEST_CASE("parameters of known constants are constant expressions", "[params]") {
    constexpr affine_params adc = quant::symmetric(3.3f, quant::int8);
    static_assert(adc.scale == static_cast<float>(static_cast<double>(3.3f) / 127) && adc.zero_point == 0);
    static_assert(quant::symmetric(7.0f, quant::int4) == affine_params{1, 0, quant::int4});
    static_assert(quant::symmetric(7.0f, quant::int4.narrow()) == affine_params{1, 0, quant::int4.narrow()});
    static_assert(quant::symmetric(255.0f, quant::uint8) == affine_params{1, 0, quant::uint8});
    static_assert(quant::affine(-1.0f, 3.0f, quant::uint8) == affine_params{4.0f / 255, 64, quant::uint8});
    static_assert(quant::affine(0.0f, 0.0f, quant::uint8) == affine_params{1, 0, quant::uint8});
    static_assert(choose_params({-128, 127}, quant::int8, mapping::symmetric)->scale == 1);
    static_assert(quant::representable_range({0.5f, -3, quant::int4}) == clip_range{-2.5, 5});
    static_assert(quant::representable_range({2, 0, quant::int8.narrow()}) == clip_range{-254, 254});
    CHECK(adc.format == quant::int8);
}

TEST_CASE("illegal parameters are named", "[params]") {
    const auto refused = [](affine_params p, errc code, const char* argument) {
        const quant::status s = quant::validate(p);
        return s.code == code && std::string(s.argument) == argument;
    };
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    for (const float scale : {0.0f, -0.0f, -1.0f, nan, inf, -inf, std::nextafter(quant::min_scale, 0.0f),
                              std::nextafter(quant::max_scale, inf), std::numeric_limits<float>::denorm_min()})
        CHECK(refused({scale, 0, quant::int8}, errc::invalid_scale, "params.scale"));
    CHECK(quant::validate({quant::min_scale, 0, quant::int8}));
    CHECK(quant::validate({quant::max_scale, 0, quant::int8}));
    CHECK(refused({1, 128, quant::int8}, errc::invalid_zero_point, "params.zero_point"));
    CHECK(refused({1, -128, quant::int8.narrow()}, errc::invalid_zero_point, "params.zero_point"));
    CHECK(refused({1, -1, quant::uint8}, errc::invalid_zero_point, "params.zero_point"));
    CHECK(quant::validate({1, -128, quant::int8}));
    CHECK(refused({1, 0, quant::int1.narrow()}, errc::bits_out_of_range, "format.narrow_range"));
    CHECK(refused({1, 0, code_format{12, true}}, errc::bits_out_of_range, "format.bits"));
}
