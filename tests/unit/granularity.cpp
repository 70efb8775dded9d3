// SPDX-License-Identifier: MIT
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <quant/core/granularity.hpp>
#include <string>
#include <vector>

using quant::errc;
using quant::per_axis;
using quant::per_group;
using quant::per_tensor;

TEST_CASE("per tensor there is one slice, whatever the rank", "[granularity]") {
    constexpr std::array<std::size_t, 3> extents{2, 3, 4};
    constexpr auto map = quant::resolve(per_tensor, extents);
    static_assert(map && map->count == 1 && map->slice_of({1, 2, 3}) == 0);
    CHECK(quant::resolve(per_tensor, std::array<std::size_t, 1>{0})->count == 1);
}

TEST_CASE("per axis a slice is a position of the axis, negative axes count from the end", "[granularity]") {
    constexpr std::array<std::size_t, 4> extents{2, 3, 4, 5};
    for (int axis = 0; axis < 4; ++axis)
        for (const int given : {axis, axis - 4}) {
            const auto map = quant::resolve(per_axis(given), extents);
            REQUIRE(map);
            const auto a = static_cast<std::size_t>(axis);
            CHECK(map->count == extents[a]);
            CHECK(map->slice_of({1, 2, 3, 4}) == std::array<std::size_t, 4>{1, 2, 3, 4}[a]);
            CHECK(map->slice_of({0, 0, 0, 0}) == 0);
        }
}

TEST_CASE("groups are numbered in row-major order over the extents with the axis divided", "[granularity]") {
    // Expected: the numbering done by counting, group by group, in row-major order.
    const std::array<std::size_t, 3> extents{3, 7, 4};
    for (const int axis : {0, 1, 2, -1, -2, -3})
        for (const std::size_t size :
             {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}, std::size_t{100}}) {
            const auto map = quant::resolve(per_group(axis, size), extents);
            REQUIRE(map);
            const auto a = static_cast<std::size_t>(axis < 0 ? axis + 3 : axis);
            std::size_t next = 0, wrong = 0;
            std::vector<std::size_t> number(3 * 7 * 4, 0);
            for (std::size_t i = 0; i < extents[0]; ++i)
                for (std::size_t j = 0; j < extents[1]; ++j)
                    for (std::size_t k = 0; k < extents[2]; ++k) {
                        const std::array<std::size_t, 3> at{i, j, k};
                        const auto flat = [&](std::array<std::size_t, 3> p) { return (p[0] * 7 + p[1]) * 4 + p[2]; };
                        auto first = at; // first element of this element's group
                        first[a] = at[a] / size * size;
                        if (first == at) number[flat(at)] = next++;
                        wrong += map->slice_of(at) != number[flat(first)];
                    }
            CHECK(wrong == 0);
            CHECK(map->count == next);
        }
}

TEST_CASE("axes and group sizes that do not exist are refused by name", "[granularity]") {
    const std::array<std::size_t, 2> extents{2, 3};
    for (const int axis : {2, 3, 100, -3, -100})
        for (const auto g : {per_axis(axis), per_group(axis, 4)}) {
            const auto map = quant::resolve(g, extents);
            REQUIRE_FALSE(map);
            CHECK(map.status().code == errc::axis_out_of_range);
            CHECK(std::string(map.status().argument) == "axis");
        }
    const auto map = quant::resolve(per_group(0, 0), extents);
    REQUIRE_FALSE(map);
    CHECK(map.status().code == errc::invalid_group_size);
    CHECK(std::string(map.status().argument) == "group_size");
}

TEST_CASE("empty axes have no slices", "[granularity]") {
    CHECK(quant::resolve(per_axis(0), std::array<std::size_t, 2>{0, 3})->count == 0);
    CHECK(quant::resolve(per_axis(1), std::array<std::size_t, 2>{0, 3})->count == 3);
    CHECK(quant::resolve(per_group(1, 2), std::array<std::size_t, 2>{0, 3})->count == 0);
    CHECK(quant::resolve(per_group(0, static_cast<std::size_t>(-1)), std::array<std::size_t, 2>{5, 3})->count == 3);
}

TEST_CASE("granularities compare by value", "[granularity]") {
    static_assert(per_axis(1) == per_axis(1) && per_axis(1) != per_axis(-1) && per_group(1, 32) != per_group(1, 64));
    static_assert(quant::granularity{} == per_tensor);
    CHECK(per_group(0, 1) != per_axis(0));
}
