// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <quant/core/code_format.hpp>
#include <string>

using quant::code_format;
using quant::errc;

TEST_CASE("the codes of a format follow two's complement or plain binary", "[code_format]") {
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8, 16})
        for (const bool is_signed : {false, true})
            for (const bool narrow : {false, true}) {
                const code_format f{static_cast<std::uint8_t>(bits), is_signed, narrow};
                if (!quant::validate(f)) continue;
                const reference::code_bounds codes = reference::bounds(f);
                CHECK(f.qmin() == codes.lo);
                CHECK(f.qmax() == codes.hi);
                CHECK(f.levels() == codes.hi - codes.lo + 1);
            }
}

TEST_CASE("the named formats are what their names say", "[code_format]") {
    static_assert(quant::int8.qmin() == -128 && quant::int8.qmax() == 127);
    static_assert(quant::int8.narrow().qmin() == -127 && quant::int8.narrow().levels() == 255);
    static_assert(quant::int4.qmin() == -8 && quant::int4.qmax() == 7);
    static_assert(quant::int4.narrow().qmin() == -7 && quant::int4.narrow().qmax() == 7);
    static_assert(quant::int2.qmin() == -2 && quant::int2.qmax() == 1);
    static_assert(quant::int1.qmin() == -1 && quant::int1.qmax() == 0);
    static_assert(quant::uint1.qmin() == 0 && quant::uint1.qmax() == 1);
    static_assert(quant::uint8.qmax() == 255 && quant::uint16.qmax() == 65535 && quant::int16.qmin() == -32768);
    static_assert(quant::int4.with_bits(6) == quant::int6);
    static_assert(quant::int4.narrow().with_bits(8) == quant::int8.narrow());
    static_assert(quant::uint4.with_bits(2) == quant::uint2);
    static_assert(quant::full_range_format<std::int8_t> == quant::int8);
    static_assert(quant::full_range_format<std::uint8_t> == quant::uint8);
    static_assert(quant::full_range_format<std::int16_t> == quant::int16);
    static_assert(quant::full_range_format<std::uint16_t> == quant::uint16);
    CHECK(code_format{} == quant::int8);
}

TEST_CASE("only widths 1 to 8 and 16 are legal, and only signed formats above one bit can be narrow", "[code_format]") {
    for (int bits = 0; bits < 256; ++bits)
        for (const bool is_signed : {false, true}) {
            const code_format f{static_cast<std::uint8_t>(bits), is_signed};
            const bool legal = (bits >= 1 && bits <= 8) || bits == 16;
            CHECK(static_cast<bool>(quant::validate(f)) == legal);
            if (!legal) {
                CHECK(quant::validate(f).code == errc::bits_out_of_range);
                CHECK(std::string(quant::validate(f).argument) == "format.bits");
                continue;
            }
            CHECK(static_cast<bool>(quant::validate(f.narrow())) == (is_signed && bits > 1));
        }
    CHECK(quant::validate(quant::int1.narrow()).code == errc::bits_out_of_range);
    CHECK(std::string(quant::validate(quant::int1.narrow()).argument) == "format.narrow_range");
    CHECK(std::string(quant::validate(quant::uint8.narrow()).argument) == "format.narrow_range");
}

TEST_CASE("a storage type holds a format when it holds its lowest and highest code", "[code_format]") {
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
        const code_format s{static_cast<std::uint8_t>(bits), true}, u{static_cast<std::uint8_t>(bits), false};
        CHECK(quant::holds<std::int8_t>(s) == (bits <= 8));
        CHECK(quant::holds<std::int8_t>(u) == (bits <= 7));
        CHECK_FALSE(quant::holds<std::uint8_t>(s));
        CHECK(quant::holds<std::uint8_t>(u) == (bits <= 8));
        CHECK(quant::holds<std::int16_t>(s));
        CHECK(quant::holds<std::int16_t>(u) == (bits <= 8));
        CHECK_FALSE(quant::holds<std::uint16_t>(s));
        CHECK(quant::holds<std::uint16_t>(u));
    }
    static_assert(!quant::code_storage<int> && !quant::code_storage<char> && quant::code_storage<std::uint16_t>);
}
