// SPDX-License-Identifier: MIT
#include "archs.hpp"
#include "reference/quantize.hpp"
#include "stops.hpp"
#include "support.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/packing.hpp>
#include <quant/simd/pack.hpp>
#include <span>
#include <string>
#include <vector>

using quant::code_format;
using quant::errc;
using test::names;

namespace {

/// Packs bit by bit, as the text of the bit order says.
template <class Code> std::vector<std::uint8_t> pack_bits(const std::vector<Code>& codes, int bits) {
    std::vector<std::uint8_t> out((codes.size() * static_cast<std::size_t>(bits) + 7) / 8, 0);
    std::size_t stream_bit = 0;
    for (const Code code : codes)
        for (int b = 0; b < bits; ++b, ++stream_bit) {
            const unsigned bit = (static_cast<unsigned>(code) >> b) & 1u;
            out[stream_bit / 8] = static_cast<std::uint8_t>(out[stream_bit / 8] | (bit << (stream_bit % 8)));
        }
    return out;
}

/// Packs n codes of every kind, checks the bytes, the untouched rest, and the way back.
template <class Code, class Byte> int mistakes(code_format format, std::size_t n) {
    const reference::code_bounds bounds = reference::bounds(format);
    const auto levels = static_cast<std::uint64_t>(bounds.hi - bounds.lo + 1);
    std::vector<Code> codes; // grown, because g++ 12 takes writes into a vector of 0 to 17 elements for overflows
    for (std::size_t i = 0; i < n; ++i)
        codes.push_back(
            static_cast<Code>(bounds.lo + static_cast<std::int32_t>(quant::random_bits(n, format.bits, i) % levels)));
    const std::vector<std::uint8_t> expected = pack_bits(codes, format.bits);
    int wrong = quant::packed_bytes(n, format) != expected.size();
    for (const std::uint8_t canary : {std::uint8_t{0x00}, std::uint8_t{0xFF}}) {
        std::vector<Byte> packed(expected.size() + 9, static_cast<Byte>(canary));
        wrong += !quant::pack_codes(codes, packed, format);
        for (std::size_t i = 0; i < packed.size(); ++i)
            wrong += static_cast<std::uint8_t>(packed[i]) != (i < expected.size() ? expected[i] : canary);
        std::vector<Code> back(n + 1, static_cast<Code>(canary));
        wrong += !quant::unpack_codes(packed, std::span(back).first(n), format);
        for (std::size_t i = 0; i < n; ++i) wrong += back[i] != codes[i];
        wrong += back[n] != static_cast<Code>(canary);
    }
    return wrong;
}

/// Packs and unpacks `n` codes of `bits` on one architecture between arrays that start `offset` elements into their memory and
/// end with it, except for canaries. The codes carry bits above their width, which must not show.
template <class Arch, class Code> int kernel_mistakes(unsigned bits, std::size_t n, std::size_t offset) {
    constexpr std::uint8_t canary = 0xA5;
    constexpr bool is_signed = std::numeric_limits<Code>::is_signed;
    std::vector<Code> codes;
    for (std::size_t i = 0; i < offset + n; ++i)
        codes.push_back(static_cast<Code>(quant::random_bits(n, bits, i) >> 7));
    const std::vector<Code> source(codes.begin() + static_cast<std::ptrdiff_t>(offset), codes.end());
    const std::vector<std::uint8_t> expected = pack_bits(source, static_cast<int>(bits));
    std::vector<std::uint8_t> packed(offset + expected.size() + 3, canary);
    quant::simd::pack_codes<Arch>(codes.data() + offset, packed.data() + offset, n, bits);
    int wrong = 0;
    for (std::size_t i = 0; i < packed.size(); ++i) {
        const bool inside = i >= offset && i - offset < expected.size();
        wrong += packed[i] != (inside ? expected[i - offset] : canary);
    }
    packed.resize(offset + expected.size()); // so that a sanitizer sees a read past the end
    packed.shrink_to_fit();
    std::vector<Code> back(offset + n + 3, static_cast<Code>(canary));
    quant::simd::unpack_codes<Arch>(packed.data() + offset, back.data() + offset, n, bits, is_signed);
    const auto levels = std::int32_t{1} << bits;
    for (std::size_t i = 0; i < back.size(); ++i) {
        Code value = static_cast<Code>(canary);
        if (i >= offset && i - offset < n) {
            std::int32_t v = static_cast<std::int32_t>(source[i - offset]) & (levels - 1);
            if (is_signed && v >= levels / 2) v -= levels;
            value = static_cast<Code>(v);
        }
        wrong += back[i] != value;
    }
    return wrong;
}

} // namespace

namespace {
template <class Arch> void sweep() {
    // 256 codes are the longest step: 2 bits in the widest registers.
    for (unsigned bits = 1; bits <= 16; bits = bits == 8 ? 16 : bits + 1) {
        int wrong = 0;
        for (std::size_t n = 0; n <= 2 * 256 + 3; ++n) {
            const std::size_t offset = n % 5;
            if (bits <= 8)
                wrong += kernel_mistakes<Arch, std::int8_t>(bits, n, offset) +
                         kernel_mistakes<Arch, std::uint8_t>(bits, n, offset);
            if (n % 7 == 0 || n < 40)
                wrong += kernel_mistakes<Arch, std::int16_t>(bits, n, offset) +
                         kernel_mistakes<Arch, std::uint16_t>(bits, n, offset);
        }
        for (std::size_t offset = 0; offset < 64; ++offset)
            if (bits <= 8) wrong += kernel_mistakes<Arch, std::int8_t>(bits, 1500 + 3 * offset, offset);
        wrong += kernel_mistakes<Arch, std::int16_t>(bits, 2500, 1); // more than a tile
        INFO("bits " << bits);
        CHECK(wrong == 0);
    }
}
} // namespace

TEMPLATE_LIST_TEST_CASE("every architecture packs the documented bits, at every width, length and offset", "[packing]",
                        test::archs) {
    sweep<TestType>();
}
TEST_CASE("so does the widest one, which may have instructions of its own", "[packing]") {
    sweep<quant::simd::native>();
}

TEST_CASE("packing follows the bit order and unpacking is its inverse, at every width and remainder", "[packing]") {
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
        const code_format s{static_cast<std::uint8_t>(bits), true}, u{static_cast<std::uint8_t>(bits), false};
        int wrong = 0;
        for (std::size_t n = 0; n <= 17; ++n) {
            if (bits <= 8) {
                wrong += mistakes<std::int8_t, std::uint8_t>(s, n) + mistakes<std::uint8_t, std::uint8_t>(u, n);
                if constexpr (!test::fewer_types)
                    wrong += mistakes<std::int8_t, std::byte>(s, n) + mistakes<std::uint8_t, std::byte>(u, n);
            }
            if (bits <= 7) wrong += mistakes<std::int8_t, std::uint8_t>(u, n);
            wrong += mistakes<std::int16_t, std::uint8_t>(s, n) + mistakes<std::uint16_t, std::byte>(u, n);
        }
        wrong += mistakes<std::int16_t, std::uint8_t>(s, 1000) + mistakes<std::uint16_t, std::uint8_t>(u, 1001);
        INFO("bits " << bits);
        CHECK(wrong == 0);
    }
}

TEST_CASE("every code of every width keeps its value at every position of a byte", "[packing]") {
    int wrong = 0;
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8, 16})
        for (const bool is_signed : {false, true}) {
            const code_format f{static_cast<std::uint8_t>(bits), is_signed};
            const std::int32_t stride = bits == 16 ? 7 : 1; // odd: every value of both bytes
            for (std::int32_t code = f.qmin(); code <= f.qmax(); code += stride)
                for (std::size_t position = 0; position < 8; ++position) {
                    std::array<std::int16_t, 8> s{}, s_back{};
                    std::array<std::uint16_t, 8> u{}, u_back{};
                    std::array<std::uint8_t, 16> packed{};
                    if (is_signed) {
                        s[position] = static_cast<std::int16_t>(code);
                        wrong +=
                            !quant::pack_codes(s, packed, f) || !quant::unpack_codes(packed, s_back, f) || s != s_back;
                    } else {
                        u[position] = static_cast<std::uint16_t>(code);
                        wrong +=
                            !quant::pack_codes(u, packed, f) || !quant::unpack_codes(packed, u_back, f) || u != u_back;
                    }
                }
        }
    CHECK(wrong == 0);
}

TEST_CASE("the packed bytes of small examples are the documented ones", "[packing]") {
    const auto pack = [](auto codes, code_format f) {
        std::vector<std::uint8_t> out(quant::packed_bytes(codes.size(), f));
        REQUIRE(quant::pack_codes(codes, out, f));
        return out;
    };
    using bytes = std::vector<std::uint8_t>;
    using s8 = std::vector<std::int8_t>;
    using u8 = std::vector<std::uint8_t>;
    // ONNX UINT4 and INT4: the first element in the low nibble, an odd last element in a low nibble of its own.
    CHECK(pack(u8{1, 2, 3}, quant::uint4) == bytes{0x21, 0x03});
    CHECK(pack(s8{-8, 7, -1, 0}, quant::int4) == bytes{0x78, 0x0F});
    // ONNX UINT2 and INT2: the first element in the lowest two bits.
    CHECK(pack(u8{0, 1, 2, 3, 3}, quant::uint2) == bytes{0b11100100, 0b00000011});
    CHECK(pack(s8{-2, -1, 0, 1}, quant::int2) == bytes{0b01001110});
    CHECK(pack(u8{1, 0, 0, 0, 0, 0, 0, 1, 1}, quant::uint1) == bytes{0x81, 0x01});
    CHECK(pack(s8{-1, 0}, quant::int1) == bytes{0x01});
    // 3 bits: code 2 straddles the bytes. 001 010 111 -> 11|010|001, then 1.
    CHECK(pack(u8{1, 2, 7}, quant::uint3) == bytes{0b11010001, 0b00000001});
    CHECK(pack(s8{-1, -128}, quant::int8) == bytes{0xFF, 0x80});
    CHECK(pack(std::vector<std::int16_t>{0x1234, -2}, quant::int16) == bytes{0x34, 0x12, 0xFE, 0xFF});
    CHECK(pack(u8{0xF5}, quant::uint4) == bytes{0x05}); // bits above the width are cut off
}

TEST_CASE("packed_bytes counts without overflow", "[packing]") {
    constexpr std::size_t most = static_cast<std::size_t>(-1);
    static_assert(quant::packed_bytes(0, quant::int4) == 0 && quant::packed_bytes(1, quant::int4) == 1);
    static_assert(quant::packed_bytes(most, quant::int1) == most / 8 + 1);
    static_assert(quant::packed_bytes(most, quant::int8) == most);
    static_assert(quant::packed_bytes(3, quant::int16) == 6);
    CHECK(quant::packed_bytes(8, quant::uint7) == 7);
}

TEST_CASE("packing refuses what does not fit and writes nothing then", "[packing]") {
    const std::vector<std::int8_t> codes(9, 1);
    std::vector<std::uint8_t> packed(5, 0xAA);
    const auto refused = [&](quant::status s, errc code, const char* argument) {
        for (const std::uint8_t b : packed)
            if (b != 0xAA) return false;
        return s.code == code && std::string(s.argument) == argument;
    };
    CHECK(refused(quant::pack_codes(codes, std::span(packed).first(4), quant::int4), errc::buffer_too_small, "packed"));
    CHECK(refused(quant::pack_codes(codes, packed, quant::uint8), errc::storage_too_narrow, "codes"));
    CHECK(refused(quant::pack_codes(codes, packed, quant::int16), errc::storage_too_narrow, "codes"));
    CHECK(refused(quant::pack_codes(codes, packed, code_format{9, true}), errc::bits_out_of_range, "format.bits"));
    CHECK(refused(quant::pack_codes(codes, packed, code_format{0, true}), errc::bits_out_of_range, "format.bits"));
    CHECK(refused(quant::pack_codes(codes, packed, quant::int1.narrow()), errc::bits_out_of_range,
                  "format.narrow_range"));
    const auto spread = quant::strided_view<const std::int8_t, 1>(codes.data(), {4}, {2});
    REQUIRE(spread);
    CHECK(refused(quant::pack_codes(*spread, packed, quant::int4), errc::invalid_stride, "codes"));
    const auto holes = quant::strided_view<std::uint8_t, 1>(packed.data(), {2}, {2});
    REQUIRE(holes);
    CHECK(refused(quant::pack_codes(std::span(codes).first(2), *holes, quant::int4), errc::invalid_stride, "packed"));

    std::vector<std::int8_t> out(9, 77);
    const quant::status s = quant::unpack_codes(std::span<const std::uint8_t>(packed).first(4), out, quant::int4);
    CHECK(s.code == errc::buffer_too_small);
    CHECK(std::string(s.argument) == "packed");
    CHECK(out == std::vector<std::int8_t>(9, 77));
    CHECK(quant::unpack_codes(packed, out, quant::uint8).code == errc::storage_too_narrow);
}

TEST_CASE("a tensor of any rank is packed in row-major order", "[packing]") {
    const std::vector<std::uint8_t> codes{1, 2, 3, 4, 5, 6};
    std::vector<std::uint8_t> packed(3);
    REQUIRE(quant::pack_codes(quant::view(codes, 2, 3), packed, quant::uint4));
    CHECK(packed == std::vector<std::uint8_t>{0x21, 0x43, 0x65});
    std::vector<std::uint8_t> back(6);
    REQUIRE(quant::unpack_codes(packed, quant::view(back, 3, 2), quant::uint4));
    CHECK(back == codes);
}

TEST_CASE("packing works in constant expressions", "[packing]") {
    constexpr auto packed = [] {
        const std::array<std::int8_t, 3> codes{-8, 7, 1};
        std::array<std::uint8_t, 2> out{};
        return quant::pack_codes(codes, out, quant::int4) ? out : std::array<std::uint8_t, 2>{};
    }();
    static_assert(packed == std::array<std::uint8_t, 2>{0x78, 0x01});
    constexpr auto back = [](std::array<std::uint8_t, 2> bytes) {
        std::array<std::int8_t, 3> out{};
        return quant::unpack_codes(bytes, out, quant::int4) ? out : std::array<std::int8_t, 3>{};
    }(packed);
    static_assert(back == std::array<std::int8_t, 3>{-8, 7, 1});
    SUCCEED();
}

TEST_CASE("a whole array becomes parameters, codes and packed bytes at compile time", "[packing]") {
    constexpr std::array<float, 4> weights{-1.5f, 0.25f, 0.75f, 2.0f};
    constexpr auto params = quant::choose_params({-1.5, 2.0}, quant::int4, quant::mapping::symmetric);
    static_assert(params && params->scale == 2.0f / 7);
    constexpr auto codes = [&] {
        std::array<std::int8_t, weights.size()> out{};
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i] = static_cast<std::int8_t>(quant::quantize_one(weights[i], *params));
        return out;
    }();
    static_assert(codes == std::array<std::int8_t, 4>{-5, 1, 3, 7}); // -5.25, 0.875, 2.625 and 7 steps
    constexpr auto packed = [&] {
        std::array<std::uint8_t, 2> out{};
        return quant::pack_codes(codes, out, quant::int4) ? out : std::array<std::uint8_t, 2>{};
    }();
    static_assert(packed == std::array<std::uint8_t, 2>{0x1B, 0x73});
    static_assert(quant::dequantize_one(codes[3], *params) == 2.0f);
    SUCCEED();
}

namespace {

/// The stream must be that of the separate verbs, whatever the layout of the tensor.
template <class T, std::size_t Rank>
void check_packed_verbs(const quant::tensor_view<const T, Rank>& src, quant::code_format format, quant::granularity g) {
    const auto slices = quant::slice_count(src, g);
    REQUIRE(slices);
    std::vector<quant::affine_params> params;
    for (std::size_t s = 0; s < *slices; ++s) {
        const std::int32_t zero_point = format.qmin() + static_cast<std::int32_t>(s * 3) % format.levels();
        params.push_back({0.03f * static_cast<float>(1 + s % 9), zero_point, format});
    }
    const std::size_t n = src.size();
    std::vector<std::int16_t> s_codes(format.is_signed ? n : 0);
    std::vector<std::uint16_t> u_codes(format.is_signed ? 0 : n);
    const auto with_codes = [&](auto f) { return format.is_signed ? f(s_codes) : f(u_codes); };
    std::vector<std::uint8_t> expected(quant::packed_bytes(n, format));
    std::vector<std::byte> packed(expected.size() + 2, std::byte{0x5A});
    for (const auto round : {quant::rounding::nearest_even, quant::rounding::stochastic}) {
        const quant::quantize_options options{.round = round, .seed = 9};
        with_codes([&](auto& codes) {
            const auto flat = quant::view(codes);
            REQUIRE(quant::quantize(src, flat, params, g, options));
            REQUIRE(quant::pack_codes(codes, expected, format));
        });
        REQUIRE(quant::quantize_packed(src, packed, params, g, options));
        int wrong = 0;
        for (std::size_t i = 0; i < packed.size(); ++i)
            wrong += packed[i] != (i < expected.size() ? static_cast<std::byte>(expected[i]) : std::byte{0x5A});
        CHECK(wrong == 0);
    }
    std::vector<T> real(n), back(n + 1, T{}), spread(3 * n, T{});
    const quant::tensor_view<T, Rank> dense(real.data(), src.extents());
    with_codes([&](auto& codes) { REQUIRE(quant::dequantize(codes, dense, params, g)); });
    for (const auto stores : {quant::store_policy::cached, quant::store_policy::streaming}) {
        REQUIRE(quant::dequantize_packed(packed, quant::tensor_view<T, Rank>(back.data(), src.extents()), params, g,
                                         stores));
        int wrong = 0;
        for (std::size_t i = 0; i < n; ++i) wrong += quant::to_float(back[i]) != quant::to_float(real[i]);
        CHECK(wrong == 0);
        std::fill(back.begin(), back.end(), T{});
    }
    auto strides = dense.strides();
    for (std::size_t& stride : strides) stride *= 3;
    REQUIRE(quant::dequantize_packed(expected, quant::tensor_view<T, Rank>(spread.data(), src.extents(), strides),
                                     params, g)); // the bytes of the last rounding
    REQUIRE(quant::dequantize_packed(packed, dense, params, g));
    int wrong = 0;
    for (std::size_t i = 0; i < n; ++i) wrong += quant::to_float(spread[3 * i]) != quant::to_float(real[i]);
    CHECK(wrong == 0);
}

template <class T> std::vector<T> some_values(std::size_t n) {
    std::vector<T> x;
    for (std::size_t i = 0; i < n; ++i) {
        const float u = quant::random_uniform(3, 0, i) * 12 - 6;
        x.push_back(static_cast<T>(quant::from_float<T>(i % 97 == 5 ? std::numeric_limits<float>::quiet_NaN() : u)));
    }
    return x;
}

} // namespace

TEST_CASE("real values straight to the stream: the bytes of quantize and pack_codes", "[packing]") {
    const auto floats = some_values<float>(3 * 11 * 130);
    const auto doubles = some_values<double>(7 * 40);
    const auto halves = some_values<quant::bfloat16>(9 * 33);
    const auto f = quant::view(floats, 3, 11, 130);
    const auto t = f.permute({2, 0, 1}).subview(0, 3, 100).subview(2, 1, 9);
    for (const code_format format : {quant::int4, quant::uint2, quant::int3.narrow(), quant::int8, quant::uint7,
                                     quant::int16, quant::uint16, quant::uint1}) {
        INFO("bits " << int{format.bits});
        for (const auto g : {quant::per_tensor, quant::per_axis(0), quant::per_axis(1), quant::per_axis(-1),
                             quant::per_group(-1, 32), quant::per_group(1, 4), quant::per_group(0, 2)}) {
            check_packed_verbs<float, 3>(f, format, g);
            check_packed_verbs<float, 3>(t, format, g);
        }
        check_packed_verbs<double, 2>(quant::view(doubles, 7, 40), format, quant::per_axis(0));
        check_packed_verbs<quant::bfloat16, 2>(quant::view(halves, 9, 33), format, quant::per_axis(1));
        check_packed_verbs<float, 1>(quant::view(floats), format, quant::per_tensor);
        check_packed_verbs<float, 1>(quant::view(floats), format, quant::per_axis(0)); // more than one block
    }
}

TEST_CASE("the packed verbs refuse what they cannot do", "[packing]") {
    const std::vector<float> x(10, 1.0f);
    std::vector<std::uint8_t> packed(5);
    std::vector<float> back(10);
    const std::vector<quant::affine_params> mixed{{1, 0, quant::int4}, {1, 0, quant::int3}};
    const quant::affine_params p{1, 0, quant::int4};
    CHECK(quant::quantize_packed(x, packed, p));
    CHECK(names(quant::quantize_packed(x, std::span(packed).first(4), p), errc::buffer_too_small, "packed"));
    CHECK(names(quant::quantize_packed(quant::view(x, 2, 5), packed, mixed, quant::per_axis(0)), errc::invalid_argument,
                "params"));
    CHECK(names(quant::quantize_packed(x, packed, mixed, quant::per_tensor), errc::shape_mismatch, "params"));
    CHECK(names(quant::quantize_packed(x, packed, quant::affine_params{0, 0, quant::int4}), errc::invalid_scale,
                "params.scale"));
    CHECK(names(quant::dequantize_packed(std::span(packed).first(4), back, p), errc::buffer_too_small, "packed"));
    const quant::tensor_view<float, 1> twice(back.data(), {10}, {0});
    CHECK(names(quant::dequantize_packed(packed, twice, p), errc::overlapping, "dst"));
    CHECK(quant::quantize_packed(std::vector<float>{}, packed, p));
}

TEST_CASE("a stream past the caches is the same, at any address, with nothing beside it", "[packing]") {
    constexpr std::size_t most = 9000;
    const auto x = some_values<float>(most);
    alignas(64) static std::uint8_t there[2 * most + 256], expected[2 * most + 256];
    int wrong = 0;
    for (const unsigned bits : {1u, 3u, 4u, 8u, 16u})
        for (const std::size_t n : {0u, 1u, 63u, 64u, 130u, 2048u, 4100u, 9000u})
            for (const std::size_t offset : {0u, 1u, 32u, 63u, 64u, 100u}) {
                const quant::affine_params p{0.25f, 0, code_format{static_cast<std::uint8_t>(bits), false}};
                const auto run = [&](auto& to, quant::store_policy stores) {
                    std::fill(std::begin(to), std::end(to), std::uint8_t{0x5A});
                    const auto packed = std::span(to).subspan(offset);
                    return static_cast<bool>(
                        quant::quantize_packed(std::span(x).first(n), packed, p, {.stores = stores}));
                };
                wrong += !run(expected, quant::store_policy::cached);
                wrong += !run(there, quant::store_policy::streaming);
                wrong += !std::equal(std::begin(there), std::end(there), std::begin(expected));
            }
    CHECK(wrong == 0);
}

#if defined(QUANT_TEST_HAS_FORK) && QUANT_ASSERT_LEVEL >= 1
TEST_CASE("packing and the packed verbs: source and destination in one place are a broken precondition", "[packing]") {
    using test::stops;
    const quant::affine_params p{0.25f, 0, quant::int4};
    std::vector<float> x(400, 1.0f);
    const std::span<float> all(x);
    const auto bytes = std::span(reinterpret_cast<std::uint8_t*>(x.data()), 4 * x.size());
    const auto quantize = [&](auto from, auto to) {
        return [=] { return static_cast<bool>(quant::quantize_packed(from, to, p)); };
    };
    CHECK(stops(quantize(all, bytes)));
    CHECK(stops(quantize(all.first(200), bytes.subspan(799, 100))));
    CHECK(stops(quantize(all.last(200), bytes.subspan(701, 100))));
    CHECK_FALSE(stops(quantize(all.first(200), bytes.subspan(800, 100))));
    CHECK_FALSE(stops(quantize(all.last(200), bytes.subspan(700, 101)))); // only what is needed counts
    CHECK_FALSE(stops(quantize(all.first(0), bytes)));
    // Columns of a matrix have gaps, in which the stream may lie.
    CHECK_FALSE(stops(quantize(quant::view(x.data(), 4, 100).subview(1, 0, 10), bytes.subspan(40, 20))));

    const auto dequantize = [&](auto from, auto to) {
        return [=] { return static_cast<bool>(quant::dequantize_packed(from, to, p)); };
    };
    CHECK(stops(dequantize(bytes, all)));
    CHECK(stops(dequantize(bytes.subspan(799, 100), all.first(200))));
    CHECK_FALSE(stops(dequantize(bytes.subspan(800, 100), all.first(200))));

    const auto codes = bytes.first(300);
    const auto pack = [&](auto from, auto to) {
        return [=] { return static_cast<bool>(quant::pack_codes(from, to, quant::uint3)); };
    };
    const auto unpack = [&](auto from, auto to) {
        return [=] { return static_cast<bool>(quant::unpack_codes(from, to, quant::uint3)); };
    };
    CHECK(stops(pack(codes.first(80), codes.subspan(79))));
    CHECK(stops(pack(codes.first(80), codes)));
    CHECK(stops(pack(codes.subspan(29, 80), codes.first(30))));
    CHECK_FALSE(stops(pack(codes.first(80), codes.subspan(80))));
    CHECK_FALSE(stops(pack(codes.subspan(30, 80), codes)));
    CHECK(stops(unpack(codes.subspan(79), codes.first(80))));
    CHECK(stops(unpack(codes, codes.first(80))));
    CHECK_FALSE(stops(unpack(codes.subspan(80), codes.first(80))));
}
#endif
