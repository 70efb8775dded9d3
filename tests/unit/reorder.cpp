// SPDX-License-Identifier: MIT
// Elements moved into another order: every size around the squares, both sides, canaries, against the two loops that define it.
#include "archs.hpp"
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <quant/simd/reorder.hpp>
#include <vector>

namespace {

template <class T> T element(std::size_t i) {
    if constexpr (std::is_same_v<T, quant::float16>)
        return {static_cast<std::uint16_t>(i * 37 + 1)};
    else
        return static_cast<T>(static_cast<std::uint16_t>(i * 37 + 1));
}
template <class T> bool same(const T& a, const T& b) {
    if constexpr (std::is_same_v<T, quant::float16>)
        return a.bits == b.bits;
    else
        return a == b;
}

template <class Arch, class T, quant::simd::lines_of_side Lines> std::size_t transpose_mistakes() {
    std::size_t wrong = 0;
    const std::size_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 33, 64, 70};
    for (const std::size_t rows : sizes)
        for (const std::size_t columns : sizes)
            for (const std::size_t gap : {0U, 1U, 5U}) {
                const std::size_t from_stride = columns + gap, to_stride = rows + 2 * gap, offset = gap % 3;
                // The source ends with its last element, so that a sanitizer sees a read past it.
                std::vector<T> from(rows == 0 ? 0 : offset + (rows - 1) * from_stride + columns);
                std::vector<T> to(offset + columns * to_stride + 8, element<T>(1000)), expected = to;
                for (std::size_t i = 0; i < from.size(); ++i) from[i] = element<T>(i);
                for (std::size_t c = 0; c < columns; ++c)
                    for (std::size_t r = 0; r < rows; ++r)
                        expected[offset + c * to_stride + r] = from[offset + r * from_stride + c];
                const T* const source = from.empty() ? from.data() : from.data() + offset;
                quant::simd::transpose<Lines, Arch>(source, from_stride, to.data() + offset, to_stride, rows, columns);
                for (std::size_t i = 0; i < to.size(); ++i) wrong += !same(to[i], expected[i]);
            }
    return wrong;
}
template <class Arch, class T> std::size_t transpose_mistakes() {
    return transpose_mistakes<Arch, T, quant::simd::lines_of_side::from>() +
           transpose_mistakes<Arch, T, quant::simd::lines_of_side::to>();
}

} // namespace

TEMPLATE_LIST_TEST_CASE("blocks of a matrix are turned over", "[reorder]", test::archs) {
    CHECK(transpose_mistakes<TestType, std::int8_t>() == 0);
    CHECK(transpose_mistakes<TestType, std::uint16_t>() == 0);
    CHECK(transpose_mistakes<TestType, quant::float16>() == 0);
    CHECK(transpose_mistakes<TestType, float>() == 0);
    CHECK(transpose_mistakes<TestType, double>() == 0);
}

TEST_CASE("strided elements are copied, and nothing between them is touched", "[reorder]") {
    std::size_t wrong = 0;
    for (std::size_t n = 0; n < 40; ++n)
        for (std::size_t from_stride = 1; from_stride < 12; ++from_stride)
            for (std::size_t to_stride = 1; to_stride < 5; ++to_stride) {
                std::vector<float> from(n == 0 ? 0 : (n - 1) * from_stride + 1);
                std::vector<int> to(n * to_stride + 1, -1), expected = to;
                for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
                for (std::size_t i = 0; i < n; ++i) expected[i * to_stride] = static_cast<int>(2 * i * from_stride);
                quant::simd::copy_strided(static_cast<const float*>(from.data()), from_stride, to.data(), to_stride, n,
                                          [](float x) { return 2 * static_cast<int>(x); });
                for (std::size_t i = 0; i < to.size(); ++i) wrong += to[i] != expected[i];
            }
    CHECK(wrong == 0);
}
