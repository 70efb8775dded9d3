// SPDX-License-Identifier: MIT
#include "archs.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/bit_planes.hpp>
#include <quant/core/random.hpp>
#include <quant/products.hpp>
#include <span>
#include <vector>

using quant::bit_plane_view;
using quant::errc;
using view = bit_plane_view<std::uint16_t>;

namespace {

std::vector<std::int8_t> codes(std::size_t n, unsigned bits, std::uint64_t seed) {
    std::vector<std::int8_t> out;
    for (std::size_t i = 0; i < n; ++i) {
        const auto any = quant::random_bits(seed, 5, i);
        const int lo = -(1 << (bits - 1)), hi = (1 << (bits - 1)) - 1;
        out.push_back(
            static_cast<std::int8_t>(any % 5 == 0 ? lo : lo + static_cast<int>((any >> 8) % unsigned(hi - lo + 1))));
    }
    return out;
}
std::int32_t sum(const std::int8_t* w, const std::int8_t* x, std::size_t n) {
    std::int32_t total = 0;
    for (std::size_t i = 0; i < n; ++i) total += std::int32_t{w[i]} * x[i];
    return total;
}
struct packed {
    std::vector<std::uint16_t> words;
    view planes;
    packed(const std::vector<std::int8_t>& from, std::size_t rows, std::size_t cols, const quant::plane_set& set)
        : words(quant::bit_plane_words(rows, cols, set.size())), planes(words, rows, cols, set.size()) {
        REQUIRE(quant::pack_bit_planes(quant::view(from, rows, cols), planes, set));
    }
};

/// Both products of random codes on one architecture, with a canary behind the sums.
template <class Arch>
int mistakes(std::size_t rows, std::size_t cols, unsigned w_bits, unsigned x_bits, bool dual = false) {
    const std::vector<std::int8_t> w = codes(rows * cols, w_bits, rows + w_bits),
                                   x = codes(cols, x_bits, cols + x_bits);
    quant::plane_set set = quant::planes_of({static_cast<std::uint8_t>(w_bits), true});
    if (dual) {
        set = {quant::plane_encoding::dual, 0, {}};
        for (unsigned e = 0; e < w_bits; ++e)
            for (const bool negative : {true, false}) set.add({static_cast<std::uint8_t>(e), negative});
    }
    const packed weights(w, rows, cols, set);
    const packed activations(x, 1, cols, quant::planes_of({static_cast<std::uint8_t>(x_bits), true}));
    int wrong = 0;
    const auto compare = [&](const std::vector<std::int32_t>& y) {
        for (std::size_t r = 0; r < rows; ++r) wrong += y[r] != sum(&w[r * cols], x.data(), cols);
        wrong += y[rows] != 77;
    };
    std::vector<std::int32_t> y(rows + 1, 77);
    quant::simd::look_up_product<Arch>(weights.planes, x.data(), reinterpret_cast<std::byte*>(y.data()));
    compare(y);
    std::fill(y.begin(), y.end(), 77);
    quant::simd::count_product<Arch>(weights.planes, activations.planes, reinterpret_cast<std::byte*>(y.data()));
    compare(y);
    return wrong;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("Products with bit planes are exact for every pair of widths on every architecture", "",
                        test::archs) {
    int wrong = 0;
    for (unsigned w = 1; w <= 8; ++w)
        for (unsigned x = 1; x <= 8; ++x) wrong += mistakes<TestType>(33, 37, w, x);
    for (std::size_t cols = 1; cols < 70; cols += 3) wrong += mistakes<TestType>(cols % 2 == 0 ? 1 : 34, cols, 3, 8);
    for (const unsigned rows : {2u, 31u, 32u, 63u, 65u, 255u, 256u, 300u}) wrong += mistakes<TestType>(rows, 40, 2, 8);
    // Several tiles both ways, the largest sums of 15 words, and gaps.
    wrong += mistakes<TestType>(290, 1024 + 50, 8, 8) + mistakes<TestType>(1, 2100, 8, 8);
    wrong += mistakes<TestType>(66, 100, 8, 8, true);
    const std::vector<std::int8_t> least(65536, -128), x(1024, -128);
    const packed w(least, 64, 1024, quant::planes_of(quant::int8));
    std::vector<std::int32_t> y(64);
    quant::simd::look_up_product<TestType>(w.planes, x.data(), reinterpret_cast<std::byte*>(y.data()));
    wrong += y != std::vector<std::int32_t>(64, 1024 * 128 * 128);
    CHECK(wrong == 0);
}

TEST_CASE("Planes that are dropped never change a product, and every way to a product agrees") {
    const std::size_t rows = 40, cols = 77;
    std::vector<std::int8_t> w = codes(rows * cols, 5, 1);
    for (auto& code : w) code = static_cast<std::int8_t>(code / 4 * 4); // the two lowest planes are empty
    const std::vector<std::int8_t> x = codes(3 * cols, 8, 2);
    const std::span<const std::int8_t> first = std::span<const std::int8_t>(x).first(cols);
    std::vector<std::int32_t> dense(rows), y(rows), batch(3 * rows);
    REQUIRE(quant::gemv(quant::view(w, rows, cols), first, dense));
    packed p(w, rows, cols, quant::planes_of(quant::int5));
    REQUIRE(quant::gemv(p.planes, first, y));
    CHECK(y == dense);
    const std::size_t before = p.planes.size_bytes();
    CHECK(quant::drop_empty_planes(p.planes) == 2);
    CHECK(p.planes.size_bytes() * 5 == before * 3);
    REQUIRE(quant::gemv(p.planes, first, y));
    CHECK(y == dense);
    REQUIRE(quant::gemm(p.planes, quant::view(x, 3, cols), quant::view(batch, 3, rows)));
    CHECK(std::equal(y.begin(), y.end(), batch.begin()));
    const packed x_planes(std::vector<std::int8_t>(first.begin(), first.end()), 1, cols, quant::planes_of(quant::int8));
    REQUIRE(quant::gemv(p.planes, x_planes.planes, y));
    CHECK(y == dense);
    std::vector<float> scales(rows), expected(rows), scaled(rows);
    for (std::size_t r = 0; r < rows; ++r) scales[r] = 0.1f * static_cast<float>(r + 1);
    REQUIRE(quant::gemv(quant::view(w, rows, cols), first, expected, quant::row_scales{scales, 0.7f}));
    REQUIRE(quant::gemv(p.planes, first, scaled, quant::row_scales{scales, 0.7f}));
    CHECK(scaled == expected);
    REQUIRE(quant::gemv(p.planes, x_planes.planes, scaled, quant::row_scales{scales, 0.7f}));
    CHECK(scaled == expected);
    // One row.
    const std::vector<std::int8_t> row(w.begin(), w.begin() + std::ptrdiff_t(cols));
    packed one(row, 1, cols, quant::planes_of(quant::int5));
    CHECK(*quant::dot(one.planes, x_planes.planes) == dense[0]);
    CHECK(*quant::dot(one.planes, first) == dense[0]);
    // No planes, no rows, no columns.
    const bit_plane_view<const std::uint16_t> nothing(std::span<const std::uint16_t>{}, rows, cols, quant::plane_set{});
    REQUIRE(quant::gemv(nothing, first, y));
    CHECK(y == std::vector<std::int32_t>(rows, 0));
    CHECK(
        quant::gemv(bit_plane_view<const std::uint16_t>{}, std::span<const std::int8_t>{}, std::span<std::int32_t>{}));
}

TEST_CASE("Products with bit planes refuse what does not fit") {
    const std::vector<std::int8_t> w(64, 1), x(16, 1);
    const packed p(w, 4, 16, quant::planes_of(quant::int4)), q(w, 4, 16, quant::planes_of(quant::int2));
    std::vector<std::int32_t> y(4);
    std::vector<float> f(4);
    CHECK(quant::gemv(p.planes, w, y).code == errc::shape_mismatch);
    CHECK(quant::gemv(p.planes, x, std::span<std::int32_t>(y).first(3)).code == errc::shape_mismatch);
    CHECK(quant::gemv(p.planes, q.planes, y).code == errc::shape_mismatch); // activations of four rows
    CHECK(quant::gemv(p.planes, x, f, quant::row_scales{std::span<const float>(f).first(3), 1}).code ==
          errc::shape_mismatch);
    const bit_plane_view<const std::uint16_t> missing(std::span<const std::uint16_t>(p.words).first(3), 4, 16,
                                                      p.planes.planes());
    CHECK(quant::gemv(missing, x, y).code == errc::buffer_too_small);
    const std::vector<std::uint16_t> wide(quant::bit_plane_words(1, 140000, 8));
    const std::vector<std::int8_t> long_x(140000);
    const bit_plane_view<const std::uint16_t> too_wide(wide, 1, 140000, quant::planes_of(quant::int8));
    CHECK(quant::dot(too_wide, long_x).status().code == errc::invalid_argument);
}

TEST_CASE("The rule for the product prefers planes for few planes, large matrices and small batches") {
    using enum quant::product_kernel;
    constexpr std::size_t in_cache = std::size_t{512} * 512, in_last_level = std::size_t{4096} * 4096,
                          in_memory = std::size_t{16384} * 16384;
    static_assert(quant::choose_product(2, in_cache, 1) == look_up && quant::choose_product(3, in_cache, 1) == dense);
    static_assert(quant::choose_product(5, in_last_level, 1) == look_up &&
                  quant::choose_product(6, in_last_level, 1) == dense);
    static_assert(quant::choose_product(6, in_memory, 1) == look_up && quant::choose_product(7, in_memory, 1) == dense);
    static_assert(quant::choose_product(3, in_last_level, 2) == look_up &&
                  quant::choose_product(4, in_last_level, 2) == dense);
    static_assert(quant::choose_product(8, in_last_level, 1, 1) == count &&
                  quant::choose_product(2, in_cache, 1, 2) == count);
    int wrong = 0; // more planes, a larger batch or a smaller matrix never turn dense into planes
    const auto is_dense = [](std::size_t planes, std::size_t bytes, std::size_t batch) {
        return quant::choose_product(planes, bytes, batch) == dense;
    };
    for (std::size_t planes = 1; planes < 16; ++planes)
        for (std::size_t batch = 1; batch < 20; ++batch)
            for (const std::size_t bytes : {in_cache, in_last_level, in_memory}) {
                wrong += is_dense(planes, bytes, batch) && !is_dense(planes + 1, bytes, batch);
                wrong += is_dense(planes, bytes, batch) && !is_dense(planes, bytes, batch + 1);
                wrong += is_dense(planes, bytes, batch) && !is_dense(planes, in_cache, batch);
            }
    CHECK(wrong == 0);
}
