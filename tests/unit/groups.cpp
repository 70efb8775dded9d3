// SPDX-License-Identifier: MIT
// Groups with a scale each, against the formulas in long double: the extremes of a group, the scale, the codes, the stream.
#include "archs.hpp"
#include "reference/quantize.hpp"
#include "stops.hpp"
#include "support.hpp"
#include <algorithm>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/groups.hpp>
#include <span>
#include <type_traits>
#include <vector>

using quant::affine_params;
using quant::code_format;
using quant::errc;
using quant::quantize_options;
using quant::scale_by;
using test::names;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// Equation (4) of docs/numerics.md for the finite elements of a group.
affine_params params_of(const std::vector<float>& group, code_format format) {
    long double lo = 0, hi = 0;
    for (const float x : group)
        if (std::isfinite(x)) {
            lo = std::min(lo, static_cast<long double>(x));
            hi = std::max(hi, static_cast<long double>(x));
        }
    const reference::code_bounds codes = reference::bounds(format);
    // In double as the definition says; the long double quotient rounds to the same double but for double rounding, which the
    // rounding to float that follows hides.
    const double from_lo = codes.lo < 0 ? static_cast<double>(lo) / codes.lo : 0.0;
    const double from_hi = codes.hi > 0 ? static_cast<double>(hi) / codes.hi : 0.0;
    const double scale = std::max(from_lo, from_hi);
    return {scale >= 0x1p-100 ? static_cast<float>(scale) : 1.0f, 0, format};
}

struct expected_groups {
    std::vector<float> scales;
    std::vector<std::int32_t> codes;
    std::vector<float> restored;
    std::vector<std::uint8_t> stream;
};

/// Groups of rows of `row` elements.
expected_groups expect(const std::vector<float>& x, std::size_t row, std::size_t group_size, code_format format,
                       const quantize_options& options) {
    expected_groups out;
    for (std::size_t first = 0; first < x.size(); first += row)
        for (std::size_t g = 0; g < row; g += group_size) {
            const std::size_t count = std::min(group_size, row - g);
            const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first + g);
            const affine_params p = params_of({begin, begin + static_cast<std::ptrdiff_t>(count)}, format);
            out.scales.push_back(p.scale);
            for (std::size_t i = first + g; i < first + g + count; ++i) {
                out.codes.push_back(reference::quantize(x[i], p, options, i));
                out.restored.push_back(static_cast<float>(reference::dequantize<float>(out.codes.back(), p)));
            }
        }
    out.stream.assign((x.size() * format.bits + 7) / 8, 0);
    std::size_t at = 0;
    for (const std::int32_t code : out.codes)
        for (int b = 0; b < format.bits; ++b, ++at)
            if (((static_cast<std::uint32_t>(code) >> b) & 1u) != 0)
                out.stream[at / 8] = static_cast<std::uint8_t>(out.stream[at / 8] | (1u << (at % 8)));
    return out;
}

/// Values whose groups differ in magnitude; `kind` plants what a vector loop could get wrong.
std::vector<float> values(std::size_t n, int kind) {
    std::vector<float> x;
    for (std::size_t i = 0; i < n; ++i) {
        const float u = quant::random_uniform(5, static_cast<std::uint64_t>(kind), i) * 2 - 1;
        const auto exponent = static_cast<int>(quant::random_bits(1, 2, i / 37) % 40) - 20;
        float v = std::ldexp(u, exponent);
        const std::uint64_t r = quant::random_bits(7, static_cast<std::uint64_t>(kind), i) % 1000;
        if (kind == 1 && r < 3) v = r == 0 ? nan : (r == 1 ? infinity : -infinity);
        if (kind == 2)
            v = i / 61 % 3 == 0 ? 0.0f : (i / 61 % 3 == 1 ? -0.0f : v * 0x1p-90f); // some below the smallest scale
        if (kind == 3) v = std::fabs(v);
        if (kind == 4) v = -std::fabs(v);
        if (kind == 5) v = static_cast<float>(static_cast<int>(u * 15)) * 0.5f; // ties
        if (kind == 6 && i / 100 % 4 == 0) v = r % 2 == 0 ? nan : -nan;         // whole groups of NaN
        x.push_back(v);
    }
    return x;
}

template <class Code>
int check_codes(const std::vector<float>& x, std::size_t rows, std::size_t group_size, code_format format,
                const quantize_options& options, const expected_groups& expected) {
    const std::size_t row = x.size() / rows;
    std::vector<float> scales(expected.scales.size(), -1.0f);
    std::vector<Code> codes(x.size() + 1, Code{77});
    const auto view = quant::view(codes.data(), rows, row);
    int wrong = !quant::quantize_groups(quant::view(x, rows, row), view, scales, format, group_size, options);
    wrong += scales != expected.scales;
    for (std::size_t i = 0; i < x.size(); ++i) wrong += codes[i] != expected.codes[i];
    wrong += codes[x.size()] != Code{77};
    std::vector<float> back(x.size() + 1, 5.0f);
    wrong += !quant::dequantize_groups(view, scales, quant::view(back.data(), rows, row), format, group_size,
                                       quant::store_policy::streaming);
    for (std::size_t i = 0; i < x.size(); ++i) wrong += back[i] != expected.restored[i];
    return wrong + (back[x.size()] != 5.0f);
}

int check_stream(const std::vector<float>& x, std::size_t rows, std::size_t group_size, code_format format,
                 const quantize_options& options, const expected_groups& expected) {
    const std::size_t row = x.size() / rows;
    std::vector<float> scales(expected.scales.size(), -1.0f);
    std::vector<std::byte> packed(expected.stream.size() + 2, std::byte{0x5A});
    int wrong = !quant::quantize_groups(quant::view(x, rows, row), packed, scales, format, group_size, options);
    wrong += scales != expected.scales;
    for (std::size_t i = 0; i < packed.size(); ++i)
        wrong += packed[i] != (i < expected.stream.size() ? std::byte{expected.stream[i]} : std::byte{0x5A});
    packed.resize(expected.stream.size());
    std::vector<float> back(x.size() + 1, 5.0f);
    wrong += !quant::dequantize_groups(packed, scales, quant::view(back.data(), rows, row), format, group_size);
    for (std::size_t i = 0; i < x.size(); ++i) wrong += back[i] != expected.restored[i];
    return wrong + (back[x.size()] != 5.0f);
}

} // namespace

TEST_CASE("groups: scales, codes and stream are those of the formulas", "[groups]") {
    struct shape {
        std::size_t rows, row;
    };
    // Whole blocks, what is left of one, rows that end within a group and within a byte.
    const shape shapes[] = {{1, 4096}, {3, 16 * 32 + 5 * 32}, {1, 2000}, {5, 33}, {2, 1}, {7, 160}};
    for (const std::size_t group_size : std::initializer_list<std::size_t>{1, 7, 8, 16, 32, 48, 64, 128, 256, 1000})
        for (const shape& s : shapes)
            for (int kind = 0; kind < 7; ++kind) {
                const std::vector<float> x = values(s.rows * s.row, kind);
                for (const code_format format :
                     {quant::int4, quant::int8, quant::uint4, quant::int3.narrow(), quant::int1, quant::uint8}) {
                    const quantize_options options{.divide = kind % 2 == 0 ? scale_by::division : scale_by::reciprocal};
                    const expected_groups expected = expect(x, s.row, group_size, format, options);
                    int wrong = check_stream(x, s.rows, group_size, format, options, expected);
                    wrong += format.is_signed
                                 ? check_codes<std::int8_t>(x, s.rows, group_size, format, options, expected)
                                 : check_codes<std::uint8_t>(x, s.rows, group_size, format, options, expected);
                    INFO("group " << group_size << " rows " << s.rows << " x " << s.row << " kind " << kind << " bits "
                                  << int{format.bits});
                    REQUIRE(wrong == 0);
                }
            }
}

TEST_CASE("groups: every width, wide codes and other roundings", "[groups]") {
    const std::vector<float> x = values(2 * 1100, 1);
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8, 16})
        for (const bool is_signed : {false, true}) {
            const code_format format{static_cast<std::uint8_t>(bits), is_signed};
            for (const auto round :
                 {quant::rounding::nearest_even, quant::rounding::half_away, quant::rounding::stochastic}) {
                const quantize_options options{.round = round, .seed = 4, .first_index = 11};
                const expected_groups expected = expect(x, 1100, 32, format, options);
                int wrong = check_stream(x, 2, 32, format, options, expected);
                wrong += is_signed ? check_codes<std::int16_t>(x, 2, 32, format, options, expected)
                                   : check_codes<std::uint16_t>(x, 2, 32, format, options, expected);
                INFO("bits " << bits << " signed " << is_signed);
                CHECK(wrong == 0);
            }
        }
}

TEST_CASE("groups: other real types", "[groups]") {
    const std::vector<float> x = values(3 * 700, 0);
    std::vector<quant::bfloat16> halves;
    std::vector<float> as_floats;
    std::vector<double> doubles(x.begin(), x.end());
    for (const float v : x) {
        halves.push_back(quant::from_float<quant::bfloat16>(v));
        as_floats.push_back(quant::to_float(halves.back()));
    }
    for (const std::size_t group_size : std::initializer_list<std::size_t>{32, 300}) {
        const expected_groups expected = expect(as_floats, 700, group_size, quant::int4, {});
        std::vector<float> scales(expected.scales.size());
        std::vector<std::byte> packed(expected.stream.size());
        REQUIRE(quant::quantize_groups(quant::view(halves, 3, 700), packed, scales, quant::int4, group_size));
        CHECK(scales == expected.scales);
        CHECK(std::equal(packed.begin(), packed.end(), expected.stream.begin(),
                         [](std::byte a, std::uint8_t b) { return a == std::byte{b}; }));
        std::vector<quant::bfloat16> back(halves.size());
        REQUIRE(quant::dequantize_groups(packed, scales, quant::view(back, 3, 700), quant::int4, group_size));
        int wrong = 0;
        for (std::size_t i = 0; i < back.size(); ++i)
            wrong +=
                quant::to_float(back[i]) != quant::to_float(quant::from_float<quant::bfloat16>(expected.restored[i]));
        CHECK(wrong == 0);

        // double is divided in double: group by group what the reference says.
        std::vector<std::int8_t> codes(doubles.size());
        const expected_groups of_floats = expect(x, 700, group_size, quant::int8, {});
        REQUIRE(quant::quantize_groups(quant::view(doubles, 3, 700), quant::view(codes, 3, 700), scales, quant::int8,
                                       group_size));
        CHECK(scales == of_floats.scales); // the range is read as float
        const std::size_t per_row = (700 + group_size - 1) / group_size;
        for (std::size_t i = 0; i < doubles.size(); ++i)
            wrong += codes[i] !=
                     reference::quantize(
                         doubles[i], affine_params{scales[i / 700 * per_row + i % 700 / group_size], 0, quant::int8});
        CHECK(wrong == 0);
    }
}

TEST_CASE("groups: what is refused", "[groups]") {
    const std::vector<float> x(64, 1.0f);
    std::vector<std::int8_t> codes(64);
    std::vector<std::byte> packed(32);
    std::vector<float> scales(2);
    CHECK(quant::quantize_groups(x, codes, scales, quant::int8, 32));
    CHECK(names(quant::quantize_groups(x, codes, scales, quant::int8, 0), errc::invalid_group_size, "group_size"));
    CHECK(names(quant::quantize_groups(x, codes, scales, quant::int8, 16), errc::shape_mismatch, "scales"));
    CHECK(names(quant::quantize_groups(x, codes, scales, code_format{9, true}, 32), errc::bits_out_of_range,
                "format.bits"));
    CHECK(names(quant::quantize_groups(x, codes, scales, quant::uint8, 32), errc::storage_too_narrow, "codes"));
    CHECK(names(quant::quantize_groups(x, std::span(codes).first(63), scales, quant::int8, 32), errc::shape_mismatch,
                "codes"));
    CHECK(names(quant::quantize_groups(x, std::span(packed).first(31), scales, quant::int4, 32), errc::buffer_too_small,
                "codes"));
    const quant::tensor_view<const float, 1> spread(x.data(), {32}, {2});
    CHECK(names(quant::quantize_groups(spread, std::span(codes).first(32), std::span(scales).first(1), quant::int8, 32),
                errc::invalid_stride, "src"));
    std::vector<float> large(64, 1.0f);
    large[40] = 0x1p120f;
    CHECK(names(quant::quantize_groups(large, codes, scales, quant::int8, 32), errc::scale_out_of_range, "src"));
    std::vector<float> back(64);
    CHECK(names(quant::dequantize_groups(codes, std::span(scales).first(1), back, quant::int8, 32),
                errc::shape_mismatch, "scales"));
    CHECK(quant::quantize_groups(std::vector<float>{}, std::span(codes).first(0), std::span(scales).first(0),
                                 quant::int8, 32));
}

TEMPLATE_LIST_TEST_CASE("groups: every architecture finds the scales and codes of the scalar one", "[groups]",
                        test::archs) {
    struct sink {
        std::vector<std::int8_t> codes;
        std::size_t filled = 0;
        std::int8_t* room(std::size_t n) {
            codes.resize(filled + n);
            return codes.data() + filled;
        }
        void done(std::size_t n) { filled += n; }
    };
    for (const std::size_t group_size : std::initializer_list<std::size_t>{4, 8, 16, 32, 64, 96, 128, 256})
        for (std::size_t groups : std::initializer_list<std::size_t>{1, 4, 15, 16, 17, 40}) {
            const std::vector<float> x = values(groups * group_size, 0);
            for (const scale_by divide : {scale_by::division, scale_by::reciprocal})
                for (const code_format format : {quant::int4, quant::int8, quant::int2}) {
                    const expected_groups expected = expect(x, x.size(), group_size, format, {.divide = divide});
                    std::vector<float> scales(groups);
                    sink to;
                    const std::size_t done = quant::simd::quantize_group_blocks<TestType>(
                        x.data(), groups, group_size, format, divide, scales.data(), to);
                    REQUIRE(done <= groups);
                    REQUIRE(to.filled == done * group_size);
                    int wrong = 0;
                    for (std::size_t g = 0; g < done; ++g) wrong += scales[g] != expected.scales[g];
                    for (std::size_t i = 0; i < to.filled; ++i) wrong += to.codes[i] != expected.codes[i];
                    std::vector<std::int8_t> codes;
                    for (const std::int32_t code : expected.codes) codes.push_back(static_cast<std::int8_t>(code));
                    std::vector<float> back(x.size() + 1, 5.0f);
                    quant::simd::dequantize_groups<TestType>(codes.data(), expected.scales.data(), back.data(),
                                                             x.size(), group_size, false);
                    for (std::size_t i = 0; i < x.size(); ++i) wrong += back[i] != expected.restored[i];
                    wrong += back[x.size()] != 5.0f;
                    if (format == quant::int4) {
                        std::fill(back.begin(), back.end(), 5.0f);
                        const std::size_t nibbles = quant::simd::dequantize_nibble_groups<TestType>(
                            expected.stream.data(), expected.scales.data(), back.data(), groups, group_size, true,
                            false);
                        for (std::size_t i = 0; i < back.size(); ++i)
                            wrong += back[i] != (i < nibbles * group_size ? expected.restored[i] : 5.0f);
                    }
                    INFO("group " << group_size << " groups " << groups << " bits " << int{format.bits});
                    REQUIRE(wrong == 0);
                }
        }
}

#if QUANT_HAS_XSIMD
TEMPLATE_LIST_TEST_CASE("lane maxima: the tree gives what the loop gives, on any bits", "[groups]", test::archs) {
    if constexpr (!quant::simd::is_scalar<TestType>) {
        namespace detail = quant::simd::detail;
        constexpr std::size_t lanes = xsimd::batch<float, TestType>::size;
        for (const std::size_t registers : std::initializer_list<std::size_t>{1, 2, 4, 8}) {
            std::vector<float> x;
            for (std::size_t i = 0; i < lanes * lanes * registers; ++i)
                x.push_back(
                    std::bit_cast<float>(static_cast<std::uint32_t>(quant::random_bits(3, registers, i) >> 20)));
            xsimd::batch<std::int32_t, TestType> high, generic_high;
            xsimd::batch<std::uint32_t, TestType> low, generic_low;
            detail::lane_maxima<TestType>(x.data(), registers, high, low);
            detail::lane_maxima_generic<TestType>(x.data(), registers, generic_high, generic_low);
            CHECK(xsimd::all(high == generic_high));
            CHECK(xsimd::all(low == generic_low));
        }
    }
}
#endif

TEST_CASE("groups: codes past the caches are the same, at any address, with nothing beside them", "[groups]") {
    constexpr std::size_t most = 9000, room = most + 256;
    std::vector<float> x;
    for (std::size_t i = 0; i < most; ++i) x.push_back(quant::random_uniform(8, 0, i) - 0.5f);
    alignas(64) static std::byte there[room], expected[room];
    const auto compare = [&](std::size_t n, std::size_t group_size, std::size_t offset, code_format format, auto code) {
        using element = decltype(code); // std::byte: the stream
        const std::span source(x.data(), n);
        std::vector<float> scales(n / group_size + 1);
        const std::span own(scales.data(), (n + group_size - 1) / group_size);
        const auto run = [&](std::byte(&to)[room], quant::store_policy stores) {
            std::fill(std::begin(to), std::end(to), std::byte{0x5A});
            const std::span codes(reinterpret_cast<element*>(to + offset), n);
            return static_cast<bool>(
                quant::quantize_groups(source, codes, own, format, group_size, {.stores = stores}));
        };
        bool ok = run(expected, quant::store_policy::cached);
        ok = run(there, quant::store_policy::streaming) && ok;
        return ok && std::equal(std::begin(there), std::end(there), std::begin(expected));
    };
    int wrong = 0;
    for (const std::size_t group_size : {32u, 7u, 256u, 5000u})
        for (const std::size_t n : {1u, 63u, 64u, 65u, 1100u, 4096u, 9000u})
            for (const std::size_t offset : {0u, 1u, 32u, 63u, 64u, 100u}) {
                wrong += !compare(n, group_size, offset, quant::int8, std::int8_t{});
                wrong += !compare(n, group_size, offset, quant::int4, std::byte{});
                wrong += !compare(n, group_size, offset, quant::uint3, std::byte{});
                wrong += !compare(n / 2, group_size, offset / 2 * 2, quant::int16, std::int16_t{});
                wrong += !compare(n / 2, group_size, offset, quant::int8, std::byte{});
            }
    CHECK(wrong == 0);
}

#if defined(QUANT_TEST_HAS_FORK) && QUANT_ASSERT_LEVEL >= 1
TEST_CASE("groups: reals, codes and scales in one place are a broken precondition", "[groups]") {
    using test::stops;
    std::vector<float> x(400, 1.0f), other(400, 1.0f);
    const std::span<float> all(x), apart(other);
    const auto of_bytes = [](std::span<float> s) { return std::as_writable_bytes(s); };
    const auto of_codes = [](std::span<float> s) {
        return std::span(reinterpret_cast<std::int8_t*>(s.data()), 4 * s.size());
    };
    const auto both = [](auto reals, auto codes, auto scales, code_format format) {
        const auto there = [=] { return static_cast<bool>(quant::quantize_groups(reals, codes, scales, format, 32)); };
        const auto back = [=] { return static_cast<bool>(quant::dequantize_groups(codes, scales, reals, format, 32)); };
        const bool stopped = stops(there);
        CHECK(stops(back) == stopped);
        return stopped;
    };
    const auto scales = apart.first(4);
    CHECK(both(all.first(128), of_codes(all).first(128), scales, quant::int8));
    CHECK(both(all.first(128), of_codes(all).subspan(511, 128), scales, quant::int8));
    CHECK_FALSE(both(all.first(128), of_codes(all).subspan(512, 128), scales, quant::int8));
    CHECK(both(all.first(128), of_bytes(all).subspan(511, 64), scales, quant::int4));
    CHECK_FALSE(both(all.first(128), of_bytes(all).subspan(512, 64), scales, quant::int4));
    CHECK(both(all.last(128), of_bytes(all).subspan(1025, 64), scales, quant::int4));
    CHECK_FALSE(both(all.last(128), of_bytes(all).subspan(1024, 64), scales, quant::int4));
    CHECK(both(all.first(128), of_bytes(apart).first(64), scales, quant::int4));
    CHECK_FALSE(both(all.first(128), of_bytes(apart).subspan(16, 64), scales, quant::int4));
    CHECK(both(all.first(128), of_bytes(apart), all.subspan(127, 4), quant::int4));
    CHECK_FALSE(both(all.first(128), of_bytes(apart), all.subspan(128, 4), quant::int4));
}
#endif
