// SPDX-License-Identifier: MIT
#include "archs.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <quant/core/random.hpp>
#include <quant/products.hpp>
#include <span>
#include <vector>

using quant::errc;
using quant::simd::product_shape;

namespace {

std::vector<std::int8_t> codes(std::size_t n, int lo, int hi, std::uint64_t seed) {
    std::vector<std::int8_t> out;
    for (std::size_t i = 0; i < n; ++i) {
        const auto bits = quant::random_bits(seed, 3, i);
        const std::uint64_t levels = static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo) + 1;
        const bool extreme = (bits >> 50) % 4 == 0; // where sums and pairs are largest
        out.push_back(static_cast<std::int8_t>(extreme ? ((bits >> 49) % 8 == 0 ? hi : lo)
                                                       : lo + static_cast<int>((bits & 0xFFFF) % levels)));
    }
    return out;
}
std::vector<float> scales(std::size_t n) {
    std::vector<float> out;
    for (std::size_t i = 0; i < n; ++i)
        out.push_back(static_cast<float>(quant::random_bits(5, 1, i) % 100000 + 1) * 1.7e-6f);
    return out;
}
/// Two 4-bit codes a byte, the first low.
std::vector<std::uint8_t> nibbles(const std::vector<std::int8_t>& w) {
    std::vector<std::uint8_t> out(w.size() / 2);
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = static_cast<std::uint8_t>((w[2 * i] & 15) | (w[2 * i + 1] & 15) << 4);
    return out;
}
std::int64_t sum(const std::int8_t* w, const std::int8_t* x, std::size_t n) {
    std::int64_t total = 0;
    for (std::size_t i = 0; i < n; ++i) total += std::int64_t{w[i]} * x[i];
    return total;
}
/// The formula of group_scales, one operation a statement through memory, so that nothing is fused.
float grouped(const std::int8_t* w, const float* scale, const std::int8_t* x, std::size_t n, float x_scale) {
    volatile float lanes[4] = {};
    for (std::size_t g = 0; g * 32 < n; ++g) {
        volatile float product = static_cast<float>(sum(w + g * 32, x + g * 32, std::min<std::size_t>(32, n - g * 32)));
        product = product * scale[g];
        lanes[g % 4] = lanes[g % 4] + product;
    }
    volatile float even = lanes[0] + lanes[2], odd = lanes[1] + lanes[3], all = even + odd;
    return all * x_scale;
}

template <class Arch> int mistakes(std::size_t rows, std::size_t cols, std::size_t batch) {
    const std::vector<std::int8_t> x = codes(batch * cols, -128, 127, cols),
                                   bytes = codes(rows * cols, -128, 127, rows),
                                   four = codes(rows * cols, -8, 7, rows + 1);
    const std::size_t groups = (cols + 31) / 32;
    const std::vector<float> s = scales(rows * groups);
    const product_shape shape{rows, cols, batch, cols, cols, rows + 1};
    int wrong = 0;
    const auto compare = [&](const auto& y, auto expected) {
        for (std::size_t b = 0; b < batch; ++b) {
            for (std::size_t r = 0; r < rows; ++r) wrong += y[b * (rows + 1) + r] != expected(r, b);
            wrong += y[b * (rows + 1) + rows] != 77;
        }
    };
    std::vector<std::int32_t> y(batch * (rows + 1), 77);
    quant::simd::byte_product<Arch>(bytes.data(), x.data(), y.data(), shape);
    compare(y, [&](auto r, auto b) { return sum(&bytes[r * cols], &x[b * cols], cols); });
    std::vector<float> f(batch * (rows + 1), 77);
    quant::simd::group_product<Arch>(reinterpret_cast<const std::uint8_t*>(bytes.data()), s.data(), x.data(), 0.3f,
                                     f.data(), shape, std::false_type{});
    compare(f, [&](auto r, auto b) { return grouped(&bytes[r * cols], &s[r * groups], &x[b * cols], cols, 0.3f); });
    if (cols % 2 == 0) {
        const std::vector<std::uint8_t> packed = nibbles(four);
        product_shape half = shape;
        half.row_stride = cols / 2;
        std::fill(y.begin(), y.end(), 77);
        quant::simd::nibble_product<Arch>(packed.data(), x.data(), y.data(), half);
        compare(y, [&](auto r, auto b) { return sum(&four[r * cols], &x[b * cols], cols); });
        std::fill(f.begin(), f.end(), 77.0f);
        quant::simd::group_product<Arch>(packed.data(), s.data(), x.data(), 0.3f, f.data(), half, std::true_type{});
        compare(f, [&](auto r, auto b) { return grouped(&four[r * cols], &s[r * groups], &x[b * cols], cols, 0.3f); });
    }
    return wrong;
}

} // namespace

TEMPLATE_LIST_TEST_CASE(
    "Products of 8-bit and 4-bit codes are exact, with scales to the last bit, on every architecture", "",
    test::archs) {
    int wrong = 0;
    for (std::size_t cols = 1; cols <= 135; cols += cols < 70 ? 1 : 13)
        wrong += mistakes<TestType>(5, cols, 1 + cols % 5);
    for (const std::size_t cols : {std::size_t{128}, std::size_t{256}, std::size_t{512}, std::size_t{4096 + 170}})
        wrong += mistakes<TestType>(cols == 512 ? 300 : 6, cols, 2); // several tiles of columns, several blocks of rows
    CHECK(wrong == 0);
}

TEST_CASE("The verbs take views, packed streams and scales, and agree with each other") {
    const std::size_t rows = 261, cols = 96;
    const std::vector<float> s = scales(rows * 3);
    const std::vector<std::int8_t> wide = codes(rows * cols, -8, 7, 4);
    const std::vector<std::uint8_t> stream = nibbles(wide);
    const std::span<const std::byte> packed = std::as_bytes(std::span<const std::uint8_t>(stream));
    const std::vector<std::int8_t> x = codes(3 * cols, -128, 127, 8);
    const std::span<const std::int8_t> first = std::span<const std::int8_t>(x).first(cols);
    const quant::int4_matrix w{packed, rows, cols};
    std::vector<float> y(rows), from_bytes(rows), batch(3 * rows);
    REQUIRE(quant::gemv(w, first, y, quant::group_scales{s, 0.5f}));
    REQUIRE(quant::gemv(quant::view(wide, rows, cols), first, from_bytes, quant::group_scales{s, 0.5f}));
    CHECK(y == from_bytes);
    REQUIRE(quant::gemm(w, quant::view(x, 3, cols), quant::view(batch, 3, rows), quant::group_scales{s, 0.5f}));
    CHECK(std::equal(y.begin(), y.end(), batch.begin()));
    CHECK(y[260] == grouped(&wide[260 * cols], &s[780], x.data(), cols, 0.5f));
    // Integers and rows.
    std::vector<std::int32_t> sums(rows), other(rows), many(3 * rows);
    REQUIRE(quant::gemv(w, first, sums));
    REQUIRE(quant::gemm(quant::view(wide, rows, cols), quant::view(x, 3, cols), quant::view(many, 3, rows)));
    CHECK(std::equal(sums.begin(), sums.end(), many.begin()));
    CHECK(quant::gemv(quant::view(wide, rows, cols).subview(1, 0, 50), first.first(50), other));
    CHECK(other[7] == sum(&wide[7 * cols], x.data(), 50));
    const std::vector<float> row = scales(rows);
    REQUIRE(quant::gemm(quant::view(wide, rows, cols), quant::view(x, 3, cols), quant::view(batch, 3, rows),
                        quant::row_scales{row, 0.25f}));
    REQUIRE(quant::gemv(w, std::span<const std::int8_t>(x).last(cols), y, quant::row_scales{row, 0.25f}));
    CHECK(std::equal(y.begin(), y.end(), batch.begin() + 2 * rows));
    CHECK(y[5] == static_cast<float>(many[2 * rows + 5]) * row[5] * 0.25f);
    const auto d = quant::dot(first, std::span<const std::int8_t>(wide).first(cols));
    REQUIRE(d);
    CHECK(*d == sums[0]);
    CHECK(*quant::dot(std::vector<std::int8_t>{}, std::vector<std::int8_t>{}) == 0);
    // Nothing to do.
    CHECK(quant::gemv(quant::int4_matrix{}, std::span<const std::int8_t>{}, std::span<std::int32_t>{}));
    CHECK(quant::gemv(quant::int4_matrix{{}, rows, 0}, std::span<const std::int8_t>{}, sums));
    CHECK(std::count(sums.begin(), sums.end(), 0) == std::ptrdiff_t(rows));
}

TEST_CASE("The largest sums fit, and products refuse what might not or what does not fit together") {
    const std::vector<std::int8_t> least(131072, -128);
    const std::span<const std::int8_t> most = std::span<const std::int8_t>(least).first(131071);
    CHECK(*quant::dot(most, most) == 131071 * 16384);
    CHECK(quant::dot(least, least).status().code == errc::invalid_argument);
    const std::vector<std::int8_t> w = codes(64, 1, 1, 0), x = codes(16, 1, 1, 0);
    std::vector<std::int32_t> y(4);
    std::vector<float> f(4);
    const auto matrix = quant::view(w, 4, 16);
    CHECK(quant::gemv(matrix, w, y).code == errc::shape_mismatch);
    CHECK(quant::gemv(matrix, x, std::span<std::int32_t>(y).first(3)).code == errc::shape_mismatch);
    CHECK(
        quant::gemv(matrix.permute({1, 0}), std::span<const std::int8_t>(x).first(4), std::span<std::int32_t>{}).code !=
        errc::ok);
    CHECK(quant::gemv(quant::view(w, 4, 16).permute({1, 0}), std::span<const std::int8_t>(x).first(4), y).code !=
          errc::ok);
    CHECK(quant::gemv(matrix, x, f, quant::row_scales{std::span<const float>(f).first(2), 1}).code ==
          errc::shape_mismatch);
    CHECK(quant::gemv(matrix, x, f, quant::group_scales{std::span<const float>(f).first(3), 1}).code ==
          errc::shape_mismatch);
    const std::array<std::byte, 8> packed{};
    CHECK(quant::gemv(quant::int4_matrix{packed, 4, 16}, x, y).code == errc::buffer_too_small);
    CHECK(quant::gemv(quant::int4_matrix{packed, 1, 15}, x, y).code == errc::invalid_argument);
}
