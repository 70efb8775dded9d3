// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/core/half.hpp>
#include <quant/core/random.hpp>

using quant::bfloat16;
using quant::float16;

namespace {

bool same(float a, double b) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
    return static_cast<double>(a) == b && std::signbit(a) == std::signbit(b);
}

/// What a float becomes in the format, as a real number.
double nearest_half(float x) {
    return static_cast<double>(reference::round_to_format(static_cast<long double>(x), 11, -14, 15));
}
double nearest_bfloat(float x) {
    return static_cast<double>(reference::round_to_format(static_cast<long double>(x), 8, -126, 127));
}

bool rounds_right(float x) {
    const double half = reference::value(quant::to_float16(x)), bfloat = reference::value(quant::to_bfloat16(x));
    if (std::isnan(x)) return std::isnan(half) && std::isnan(bfloat);
    const bool signs = std::signbit(half) == std::signbit(x) && std::signbit(bfloat) == std::signbit(x);
    return half == nearest_half(x) && bfloat == nearest_bfloat(x) && signs;
}

} // namespace

TEST_CASE("every 16-bit pattern converts to the float it stands for", "[half]") {
    int wrong = 0;
    for (std::uint32_t p = 0; p < 65536; ++p) {
        const auto bits = static_cast<std::uint16_t>(p);
        wrong += !same(quant::to_float(float16{bits}), reference::decode(bits, 10, 15));
        wrong += !same(quant::to_float(bfloat16{bits}), reference::decode(bits, 7, 127));
    }
    CHECK(wrong == 0);
}

TEST_CASE("a 16-bit value survives the way through float", "[half]") {
    int wrong = 0;
    for (std::uint32_t p = 0; p < 65536; ++p) {
        const auto bits = static_cast<std::uint16_t>(p);
        const bool half_nan = std::isnan(reference::decode(bits, 10, 15));
        const bool bfloat_nan = std::isnan(reference::decode(bits, 7, 127));
        // A signalling NaN becomes the quiet one with the same payload; everything else keeps its bits.
        wrong += quant::to_float16(quant::to_float(float16{bits})).bits != (half_nan ? bits | 0x0200u : bits);
        wrong += quant::to_bfloat16(quant::to_float(bfloat16{bits})).bits != (bfloat_nan ? bits | 0x0040u : bits);
    }
    CHECK(wrong == 0);
}

TEST_CASE("a float halfway between two 16-bit values becomes the even one, its neighbours the nearer one", "[half]") {
    int wrong = 0;
    const auto check = [&](auto convert, auto make, int fraction, int bias, std::uint16_t last_finite) {
        for (std::uint16_t p = 0; p < last_finite; ++p) {
            const auto next = static_cast<std::uint16_t>(p + 1);
            const double lower = reference::decode(p, fraction, bias), upper = reference::decode(next, fraction, bias);
            const auto middle = static_cast<float>((lower + upper) / 2); // exact: one more significant bit
            const std::uint16_t even = p % 2 == 0 ? p : next;
            for (const bool negative : {false, true}) {
                const float sign = negative ? -1.0f : 1.0f;
                const auto with_sign = [&](std::uint16_t bits) {
                    return make(static_cast<std::uint16_t>(bits | (negative ? 0x8000u : 0u)));
                };
                wrong += convert(sign * middle) != with_sign(even);
                wrong += convert(sign * std::nextafter(middle, 0.0f)) != with_sign(p);
                wrong += convert(sign * std::nextafter(middle, std::numeric_limits<float>::max())) != with_sign(next);
            }
        }
    };
    check([](float x) { return quant::to_float16(x); }, [](std::uint16_t b) { return float16{b}; }, 10, 15, 0x7BFF);
    check([](float x) { return quant::to_bfloat16(x); }, [](std::uint16_t b) { return bfloat16{b}; }, 7, 127, 0x7F7F);
    CHECK(wrong == 0);
}

TEST_CASE("values beyond a 16-bit format become infinities, tiny ones zeros that keep their sign", "[half]") {
    constexpr float inf = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
    CHECK(quant::to_float16(65504.0f).bits == 0x7BFF);
    CHECK(quant::to_float16(65519.996f).bits == 0x7BFF);
    CHECK(quant::to_float16(65520.0f).bits == 0x7C00);
    CHECK(quant::to_float16(-65520.0f).bits == 0xFC00);
    CHECK(quant::to_float16(largest).bits == 0x7C00);
    CHECK(quant::to_float16(inf).bits == 0x7C00);
    CHECK(quant::to_float16(0x1p-24f).bits == 0x0001);
    CHECK(quant::to_float16(0x1p-25f).bits == 0x0000); // a tie: to the even zero
    CHECK(quant::to_float16(std::nextafter(0x1p-25f, 1.0f)).bits == 0x0001);
    CHECK(quant::to_float16(-0x1p-126f).bits == 0x8000);
    CHECK(quant::to_float16(-0.0f).bits == 0x8000);
    CHECK(quant::to_float16(0x1p-14f).bits == 0x0400);
    CHECK(quant::to_float16(1.0f).bits == 0x3C00);
    CHECK(quant::to_bfloat16(largest).bits == 0x7F80);
    CHECK(quant::to_bfloat16(-inf).bits == 0xFF80);
    CHECK(quant::to_bfloat16(-0.0f).bits == 0x8000);
    CHECK(quant::to_bfloat16(1.0f).bits == 0x3F80);
    CHECK(quant::to_bfloat16(std::numeric_limits<float>::denorm_min()).bits == 0);
}

TEST_CASE("a NaN stays a quiet NaN, whatever its payload", "[half]") {
    int wrong = 0;
    for (std::uint32_t mantissa = 1; mantissa < 0x800000; mantissa += mantissa < 0x4000 ? 1 : 4093)
        for (const std::uint32_t sign : {0u, 0x80000000u}) {
            const auto x = std::bit_cast<float>(sign | 0x7F800000u | mantissa);
            const std::uint16_t half = quant::to_float16(x).bits, bfloat = quant::to_bfloat16(x).bits;
            wrong += (half & 0x7E00) != 0x7E00 || (half >> 15) != (sign >> 31);
            wrong += (bfloat & 0x7FC0) != 0x7FC0 || (bfloat >> 15) != (sign >> 31);
        }
    CHECK(wrong == 0);
}

TEST_CASE("floats round to the nearest 16-bit value, ties to even", "[half]") {
    int wrong = 0;
    for (std::uint64_t u = 0; u < (std::uint64_t{1} << 32); u += 8191) // a prime: every exponent, mixed mantissas
        wrong += !rounds_right(std::bit_cast<float>(static_cast<std::uint32_t>(u)));
    for (std::uint64_t i = 0; i < 200000;
         ++i) // random mantissas at the exponents where binary16 is normal or subnormal
        wrong += !rounds_right(std::bit_cast<float>(
            static_cast<std::uint32_t>((quant::random_bits(1, 2, i) & 0x807FFFFFu) | ((100 + i % 45) << 23))));
    CHECK(wrong == 0);
}

TEST_CASE("16-bit conversions are constant expressions and from_float picks the type", "[half]") {
    static_assert(quant::to_float(float16{0x3C00}) == 1.0f);
    static_assert(quant::to_float(bfloat16{0xC000}) == -2.0f);
    static_assert(quant::to_float16(0.333251953125f).bits == 0x3555); // 1365 / 4096
    static_assert(quant::to_bfloat16(3.140625f).bits == 0x4049);
    static_assert(quant::from_float<float16>(1.0f) == float16{0x3C00});
    static_assert(quant::from_float<bfloat16>(1.0f) == bfloat16{0x3F80});
    static_assert(quant::from_float<double>(0.5f) == 0.5);
    static_assert(quant::real_element<float16> && quant::real_element<double> && !quant::real_element<int>);
    CHECK(quant::to_float(1e300) == std::numeric_limits<float>::infinity());
    CHECK(quant::to_float(1.0 + 0x1p-24) == 1.0f); // a tie in float: to even
}
