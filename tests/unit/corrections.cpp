// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/quantize/corrections.hpp>
#include <string>
#include <tuple>
#include <vector>

using quant::bfloat16;
using quant::channel_correction;
using quant::errc;
using quant::float16;

namespace {

using real_types = std::tuple<float, double, float16, bfloat16>;

template <class T> T element(double x) {
    if constexpr (std::is_same_v<T, double>)
        return x;
    else
        return quant::from_float<T>(static_cast<float>(x));
}

/// gain * x + shift: the product of two floats is exact in long double; then one rounding to double, one to float, one to
/// the element type.
template <class T> double corrected(T x, channel_correction c) {
    const long double product = static_cast<long double>(c.gain) * static_cast<long double>(reference::value(x));
    const auto sum = static_cast<double>(product + static_cast<long double>(c.shift));
    if constexpr (std::is_same_v<T, double>) return sum;
    const auto as_float = static_cast<long double>(static_cast<float>(sum));
    if constexpr (std::is_same_v<T, float16>)
        return static_cast<double>(reference::round_to_format(as_float, 11, -14, 15));
    if constexpr (std::is_same_v<T, bfloat16>)
        return static_cast<double>(reference::round_to_format(as_float, 8, -126, 127));
    return static_cast<double>(as_float);
}

std::vector<channel_correction> corrections_for(std::size_t count) {
    std::vector<channel_correction> c(count);
    for (std::size_t s = 0; s < count; ++s)
        c[s] = {0.9f + 0.01f * static_cast<float>(s % 23), 0.003f * static_cast<float>(s % 7) - 0.01f};
    return c;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("a correction is gain times value plus shift, rounded at the end", "[corrections]",
                        real_types) {
    int wrong = 0;
    for (std::uint64_t i = 0; i < 20000; ++i) {
        const auto u = [&](std::uint64_t stream) { return quant::random_uniform(4, stream, i) - 0.5f; };
        const auto x = element<TestType>(static_cast<double>(u(0)) * 20);
        const channel_correction c{1 + 0.2f * u(1), i % 3 == 0 ? 0.0f : u(2)};
        const double got = reference::value(quant::apply_correction(x, c)), exact = corrected(x, c);
        if constexpr (std::is_same_v<TestType, double>) {
            // Three roundings at most, each half a unit of the largest term: the sum may cancel.
            const double size = std::fabs(static_cast<double>(c.gain) * x) + std::fabs(static_cast<double>(c.shift));
            wrong += std::fabs(got - exact) > size * 0x1p-52;
        } else {
            wrong += got != exact;
        }
    }
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("corrections reach every element of their slice and nothing else", "[corrections]",
                        real_types) {
    constexpr std::array<std::size_t, 3> extents{3, 4, 5};
    for (const bool transposed : {false, true})
        for (const auto g : {quant::per_tensor, quant::per_axis(0), quant::per_axis(1), quant::per_axis(-1),
                             quant::per_group(2, 2), quant::per_group(1, 100)}) {
            const auto map = quant::resolve(g, extents);
            const auto c = corrections_for(map->count);
            std::vector<TestType> memory(2 * 3 * 4 * 5 + 1);
            for (std::size_t i = 0; i < memory.size(); ++i)
                memory[i] = element<TestType>(std::sin(static_cast<double>(i)));
            const std::vector<TestType> before = memory;
            // Every second element of the memory; with the outer dimensions swapped, or not.
            const auto view = *quant::strided_view<TestType, 3>(memory.data(), extents,
                                                                transposed ? std::array<std::ptrdiff_t, 3>{10, 30, 2}
                                                                           : std::array<std::ptrdiff_t, 3>{40, 10, 2});
            REQUIRE(quant::apply_corrections(view, c, g));
            int wrong = 0;
            std::vector<bool> touched(memory.size(), false);
            for (std::size_t i = 0; i < 3; ++i)
                for (std::size_t j = 0; j < 4; ++j)
                    for (std::size_t k = 0; k < 5; ++k) {
                        const auto at = static_cast<std::size_t>(&view(i, j, k) - memory.data());
                        touched[at] = true;
                        wrong += !(memory[at] == quant::apply_correction(before[at], c[map->slice_of({i, j, k})]));
                    }
            for (std::size_t at = 0; at < memory.size(); ++at) wrong += !touched[at] && !(memory[at] == before[at]);
            CHECK(wrong == 0);
        }
}

TEST_CASE("the neutral correction changes nothing", "[corrections]") {
    std::vector<float> x{0.1f, -3e30f, 0x1p-149f, 5.0f};
    const std::vector<float> before = x;
    REQUIRE(quant::apply_corrections(x, std::vector<channel_correction>(1), quant::per_tensor));
    CHECK(x == before);
}

TEST_CASE("corrections that do not fit the tensor are refused by name, and nothing is written", "[corrections]") {
    std::vector<float> x(6, 1.0f);
    const auto v = quant::view(x, 2, 3);
    const auto refused = [&](std::size_t count, quant::granularity g, errc code, const char* argument) {
        const quant::status s = quant::apply_corrections(v, std::vector<channel_correction>(count, {2, 1}), g);
        return s.code == code && std::string(s.argument) == argument && x == std::vector<float>(6, 1.0f);
    };
    CHECK(refused(3, quant::per_axis(0), errc::shape_mismatch, "corrections"));
    CHECK(refused(0, quant::per_tensor, errc::shape_mismatch, "corrections"));
    CHECK(refused(2, quant::per_axis(2), errc::axis_out_of_range, "axis"));
    CHECK(refused(2, quant::per_group(1, 0), errc::invalid_group_size, "group_size"));
    std::vector<float> none;
    CHECK(quant::apply_corrections(none, std::vector<channel_correction>(1), quant::per_tensor));
}
