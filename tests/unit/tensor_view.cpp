// SPDX-License-Identifier: MIT
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <limits>
#include <numeric>
#include <quant/core/tensor_view.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using quant::errc;
using quant::tensor_view;

namespace {

std::vector<int> counting(std::size_t n) {
    std::vector<int> v(n);
    std::iota(v.begin(), v.end(), 0);
    return v;
}

} // namespace

TEST_CASE("a view of a pointer with extents is dense and row-major", "[tensor_view]") {
    const std::vector<int> data = counting(24);
    const auto v = quant::view(data.data(), 2, 3, 4);
    static_assert(std::is_same_v<decltype(v), const tensor_view<const int, 3>>);
    CHECK(v.size() == 24);
    CHECK_FALSE(v.empty());
    CHECK(v.is_contiguous());
    CHECK(v.strides() == std::array<std::size_t, 3>{12, 4, 1});
    CHECK(v.extent(1) == 3);
    CHECK(v.stride(0) == 12);
    int expected = 0;
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 3; ++j)
            for (int k = 0; k < 4; ++k) CHECK(v(i, j, k) == expected++);
}

TEST_CASE("containers of one dimension become views of rank 1 on the same memory", "[tensor_view]") {
    std::vector<int> vector = counting(5);
    std::array<int, 3> array{7, 8, 9};
    int built_in[4] = {1, 2, 3, 4};
    const std::span<int> span(vector);
    const std::span<const int, 2> fixed(array.data(), 2);
    CHECK(quant::view(vector).data() == vector.data());
    CHECK(quant::view(vector).extents() == std::array<std::size_t, 1>{5});
    CHECK(quant::view(array).size() == 3);
    CHECK(quant::view(built_in).data() == built_in);
    CHECK(quant::view(built_in).size() == 4);
    CHECK(quant::view(span).data() == vector.data());
    CHECK(quant::view(std::span(vector).subspan(1)).data() == vector.data() + 1); // a temporary span owns nothing
    CHECK(quant::view(fixed).size() == 2);
    static_assert(std::is_same_v<decltype(quant::view(vector)), tensor_view<int, 1>>);
    static_assert(std::is_same_v<decltype(quant::view(std::as_const(vector))), tensor_view<const int, 1>>);
    static_assert(std::is_same_v<decltype(quant::view(fixed)), tensor_view<const int, 1>>);
    static_assert(std::is_same_v<decltype(quant::view(std::as_const(built_in))), tensor_view<const int, 1>>);
    quant::view(vector)(2) = 42;
    CHECK(vector[2] == 42);
}

TEST_CASE("a container takes extents whose product is its size", "[tensor_view]") {
    std::vector<int> data = counting(12);
    const auto v = quant::view(data, 3, 4);
    CHECK(v(2, 1) == 9);
    CHECK(v.data() == data.data());
    std::array<int, 4> a{1, 2, 3, 4};
    CHECK(quant::view(a, 2, 2)(1, 0) == 3);
    CHECK(quant::view(std::span(data).first(6), 2, 3)(1, 1) == 4);
    CHECK(quant::view(quant::view(data), 2, 6)(1, 0) == 6);
}

TEST_CASE("a slice drops one dimension and shares the memory", "[tensor_view]") {
    std::vector<int> data = counting(24);
    const auto v = quant::view(data, 2, 3, 4);
    CHECK(v.slice(0, 1).extents() == std::array<std::size_t, 2>{3, 4});
    CHECK(v.slice(0, 1)(2, 3) == 23);
    CHECK(v.slice(1, 2)(1, 3) == v(1, 2, 3));
    CHECK(v.slice(2, 0)(1, 2) == v(1, 2, 0));
    CHECK(v.slice(0, 1).is_contiguous());
    CHECK_FALSE(v.slice(1, 0).is_contiguous());
    CHECK_FALSE(v.slice(2, 0).is_contiguous());
    v.slice(1, 1).slice(1, 3)(0) = -1;
    CHECK(data[7] == -1);
}

TEST_CASE("a subview keeps the rank and may be empty", "[tensor_view]") {
    std::vector<int> data = counting(24);
    const auto v = quant::view(data, 4, 6);
    const auto rows = v.subview(0, 1, 2), columns = v.subview(1, 2, 3);
    CHECK(rows.is_contiguous());
    CHECK(rows(0, 0) == 6);
    CHECK_FALSE(columns.is_contiguous());
    CHECK(columns.extents() == std::array<std::size_t, 2>{4, 3});
    CHECK(columns(3, 2) == 22);
    CHECK(v.subview(0, 4, 0).empty());
    CHECK(v.subview(1, 6, 0).size() == 0);
    CHECK(v.subview(0, 2, 1).subview(1, 1, 1)(0, 0) == 13);
}

TEST_CASE("permute reorders dimensions without moving an element", "[tensor_view]") {
    std::vector<int> data = counting(24);
    const auto v = quant::view(data, 2, 3, 4);
    const auto p = v.permute({2, 0, 1});
    CHECK(p.extents() == std::array<std::size_t, 3>{4, 2, 3});
    CHECK_FALSE(p.is_contiguous());
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 3; ++j)
            for (int k = 0; k < 4; ++k) CHECK(&p(k, i, j) == &v(i, j, k));
    CHECK(p.permute({1, 2, 0}).is_contiguous());
}

TEST_CASE("contiguity looks at extents above one alone", "[tensor_view]") {
    std::vector<int> data = counting(24);
    CHECK(tensor_view<int, 3>(data.data(), {1, 4, 1}, {99, 1, 7}).is_contiguous());
    CHECK(tensor_view<int, 2>(data.data(), {1, 1}, {5, 9}).is_contiguous());
    CHECK_FALSE(tensor_view<int, 2>(data.data(), {2, 3}, {4, 1}).is_contiguous());
    CHECK_FALSE(tensor_view<int, 2>(data.data(), {2, 3}, {1, 2}).is_contiguous());
    CHECK(tensor_view<int, 2>(data.data(), {2, 3}, {3, 1}).is_contiguous());
}

TEST_CASE("strided views take positive strides and refuse the rest by name", "[tensor_view]") {
    std::vector<int> data = counting(24);
    const auto columns = quant::strided_view<int, 2>(data.data(), {4, 6}, {1, 4});
    REQUIRE(columns);
    CHECK((*columns)(3, 2) == 11);
    CHECK_FALSE(columns->is_contiguous());
    const auto refused = [&](std::array<std::size_t, 2> extents, std::array<std::ptrdiff_t, 2> strides) {
        const auto v = quant::strided_view<int, 2>(data.data(), extents, strides);
        return v ? quant::status{} : v.status();
    };
    for (const std::ptrdiff_t stride :
         {std::ptrdiff_t{0}, std::ptrdiff_t{-1}, std::numeric_limits<std::ptrdiff_t>::min()}) {
        CHECK(refused({4, 6}, {6, stride}).code == errc::invalid_stride);
        CHECK(refused({4, 6}, {stride, 1}).code == errc::invalid_stride);
        CHECK(std::string(refused({4, 6}, {stride, 1}).argument) == "strides");
        CHECK(refused({1, 6}, {stride, 1})); // one position: the stride does not matter
        CHECK(refused({0, 6}, {stride, 1}));
        CHECK(refused({0, 6}, {1, stride})); // no elements: as libraries report an empty matrix
    }
    const std::size_t many = std::numeric_limits<std::size_t>::max() / 2;
    CHECK(refused({many, 3}, {1, 1}).code == errc::shape_mismatch);
    CHECK(std::string(refused({many, 3}, {1, 1}).argument) == "extents");
}

TEST_CASE("views are plain values, convert to views of const, and work in constant expressions", "[tensor_view]") {
    static_assert(std::is_trivially_copyable_v<tensor_view<float, 4>>);
    static_assert(std::is_convertible_v<tensor_view<float, 2>, tensor_view<const float, 2>>);
    static_assert(!std::is_convertible_v<tensor_view<const float, 2>, tensor_view<float, 2>>);
    static_assert(!std::is_convertible_v<tensor_view<float, 2>, tensor_view<float, 1>>);
    static_assert(tensor_view<float, 2>{}.empty() && tensor_view<float, 2>{}.data() == nullptr);
    constexpr static std::array<int, 6> data{1, 2, 3, 4, 5, 6};
    constexpr auto v = quant::view(data, 2, 3);
    static_assert(v(1, 2) == 6 && v.slice(0, 1)(0) == 4 && v.permute({1, 0})(2, 1) == 6 &&
                  v.subview(1, 1, 2)(0, 0) == 2);
    static_assert(quant::strided_view<const int, 2>(data.data(), {3, 2}, {1, 3})->size() == 6);
    SUCCEED();
}

TEST_CASE("destinations are lvalues or views, never temporaries that own their elements, never const",
          "[tensor_view]") {
    static_assert(quant::destination<std::vector<float>&> && !quant::destination<std::vector<float>>);
    static_assert(quant::destination<std::span<float>> && quant::destination<tensor_view<float, 2>>);
    static_assert(quant::destination<float(&)[3]> && !quant::destination<int>);
    static_assert(!quant::destination<const std::vector<float>&> && !quant::destination<std::span<const float>>);
    static_assert(!quant::destination<tensor_view<const float, 2>> && !quant::destination<const float(&)[3]>);
    static_assert(!quant::viewable<int> && !quant::viewable<float*>);
    SUCCEED();
}
