// SPDX-License-Identifier: MIT
// The verbs on views, element by element against the reference and the slice numbering of core/granularity.hpp.
#include "reference/quantize.hpp"
#include "archs.hpp"
#include "support.hpp"
#include <array>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/quantize/quantize.hpp>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using quant::affine_params;
using quant::bfloat16;
using quant::errc;
using quant::float16;
using quant::granularity;
using quant::per_axis;
using quant::per_group;
using quant::per_tensor;
using quant::quantize_options;
using quant::rounding;
using quant::scale_by;
using quant::status;
using quant::tensor_view;
using test::names;

namespace {

// ---- tensors of every layout ----------------------------------------------------------------------------------------

enum class layout { row_major, column_major, part_of_larger, permuted };
constexpr layout layouts[] = {layout::row_major, layout::column_major, layout::part_of_larger, layout::permuted};

/// Memory and a view of it; everything outside the view holds `around`.
template <class T, std::size_t Rank> struct tensor {
    std::vector<T> memory;
    tensor_view<T, Rank> view;
    T around;

    tensor(const std::array<std::size_t, Rank>& extents, layout how, T fill) : around(fill) {
        std::array<std::size_t, Rank> outer = extents, order{};
        for (std::size_t d = 0; d < Rank; ++d) order[d] = d;
        if (how == layout::part_of_larger)
            for (std::size_t& e : outer) e += 3;
        if (how == layout::column_major)
            for (std::size_t d = 0; d < Rank; ++d) order[d] = Rank - 1 - d;
        if (how == layout::permuted)
            for (std::size_t d = 0; d < Rank; ++d) order[d] = (d + 1) % Rank;
        // Dimension order[d] of the tensor is dimension d of the memory.
        std::array<std::size_t, Rank> in_memory{}, back{};
        std::size_t total = 1;
        for (std::size_t d = 0; d < Rank; ++d) {
            in_memory[d] = outer[order[d]];
            back[order[d]] = d;
            total *= in_memory[d];
        }
        memory.assign(total + 1, fill); // one more: a canary even where the view is all of it
        view = tensor_view<T, Rank>(memory.data(), in_memory).permute(back);
        if (how == layout::part_of_larger)
            for (std::size_t d = 0; d < Rank; ++d) view = view.subview(d, 1, extents[d]);
    }

    T& operator[](const std::array<std::size_t, Rank>& index) {
        std::size_t offset = 0;
        for (std::size_t d = 0; d < Rank; ++d) offset += index[d] * view.stride(d);
        return view.data()[offset];
    }
    /// How many elements of the memory still hold the fill.
    std::size_t untouched() const {
        std::size_t n = 0;
        for (const T& x : memory) n += x == around;
        return n;
    }
};

/// Calls f(index, row-major number) for every element.
template <std::size_t Rank, class F> void for_each_index(const std::array<std::size_t, Rank>& extents, F f) {
    std::size_t size = 1;
    for (const std::size_t e : extents) size *= e;
    for (std::size_t i = 0; i < size; ++i) {
        std::array<std::size_t, Rank> index{};
        std::size_t rest = i;
        for (std::size_t d = Rank; d-- > 0; rest /= extents[d]) index[d] = rest % extents[d];
        f(index, i);
    }
}

template <class T> T element(double x) {
    if constexpr (std::is_same_v<T, double>)
        return x;
    else
        return quant::from_float<T>(static_cast<float>(x));
}

template <class T, std::size_t Rank> tensor<T, Rank> values(const std::array<std::size_t, Rank>& extents, layout how) {
    tensor<T, Rank> t(extents, how, element<T>(-77));
    for_each_index(extents, [&](const auto& index, std::size_t i) {
        const double u = static_cast<double>(quant::random_uniform(21, 0, i));
        t[index] = element<T>(i % 11 == 0 ? std::floor(u * 20 - 10) * 0.25 : (u - 0.5) * 40); // ties among them
        if (i % 29 == 7) t[index] = element<T>(std::numeric_limits<double>::quiet_NaN());
        if (i % 31 == 8) t[index] = element<T>(-std::numeric_limits<double>::infinity());
    });
    return t;
}

/// Parameters that differ from slice to slice, the width included.
template <class Code> std::vector<affine_params> params_for(std::size_t count) {
    std::vector<affine_params> out;
    for (std::size_t s = 0; s < count; ++s) {
        const quant::code_format full = quant::full_range_format<Code>;
        const quant::code_format f = s % 3 == 1 ? full.with_bits(static_cast<std::uint8_t>(3 + s % 5)) : full;
        out.push_back(
            {0.05f * static_cast<float>(1 + s % 7), f.qmin() + static_cast<std::int32_t>(s * 5) % f.levels(), f});
    }
    return out;
}

template <class T> bool equal(T a, double b) {
    const double x = reference::value(a);
    return x == b && std::signbit(x) == std::signbit(b);
}

/// All three verbs on one choice of extents, granularity and layouts.
template <class T, class Code, std::size_t Rank>
std::size_t mistakes(const std::array<std::size_t, Rank>& extents, granularity g, layout from, layout to,
                     const quantize_options& options) {
    const auto map = quant::resolve(g, extents);
    if (!map) return 1;
    const std::vector<affine_params> params = params_for<Code>(map->count);
    tensor<T, Rank> src = values<T>(extents, from);
    constexpr Code around = 99;
    tensor<Code, Rank> codes(extents, to, around);
    tensor<T, Rank> restored(extents, from, element<T>(-77)), fake(extents, to, element<T>(-77));
    const T fill = element<T>(-77);

    std::size_t wrong = 0;
    wrong += !quant::quantize(src.view, codes.view, params, g, options);
    wrong += !quant::dequantize(codes.view, restored.view, params, g);
    wrong += !quant::fake_quant(src.view, fake.view, params, g, options);
    std::size_t size = 0, code_hits = 0, restored_hits = 0, fake_hits = 0;
    for_each_index(extents, [&](const auto& index, std::size_t i) {
        const affine_params& p = params[map->slice_of(index)];
        const std::int32_t code = reference::quantize(src[index], p, options, i);
        const double real = reference::dequantize<T>(code, p);
        wrong += codes[index] != code;
        wrong += !equal(restored[index], real);
        wrong += !equal(fake[index], real);
        ++size;
        code_hits += codes[index] == around;
        restored_hits += restored[index] == fill;
        fake_hits += fake[index] == fill;
    });
    wrong += codes.untouched() != codes.memory.size() - size + code_hits;
    wrong += restored.untouched() != restored.memory.size() - size + restored_hits;
    wrong += fake.untouched() != fake.memory.size() - size + fake_hits;

    // In place, in the source's own layout.
    wrong += !quant::fake_quant(src.view, src.view, params, g, options);
    for_each_index(extents, [&](const auto& index, std::size_t) {
        wrong += std::bit_cast<std::array<unsigned char, sizeof(T)>>(src[index]) !=
                 std::bit_cast<std::array<unsigned char, sizeof(T)>>(fake[index]);
    });
    return wrong;
}

template <class T, class Code, std::size_t Rank>
std::size_t mistakes_everywhere(const std::array<std::size_t, Rank>& extents,
                                std::initializer_list<std::size_t> groups) {
    std::vector<granularity> all{per_tensor};
    const int rank = static_cast<int>(Rank);
    for (int axis = -rank; axis < rank; ++axis) {
        all.push_back(per_axis(axis));
        for (const std::size_t group : groups) all.push_back(per_group(axis, group));
    }
    std::size_t wrong = 0;
    for (const granularity g : all)
        for (const layout from : layouts)
            for (const layout to : layouts)
                for (const quantize_options& options :
                     {quantize_options{},
                      quantize_options{.round = rounding::stochastic, .seed = 5, .stream = 2, .first_index = 7}})
                    wrong += mistakes<T, Code>(extents, g, from, to, options);
    return wrong;
}

using real_types =
    std::conditional_t<test::fewer_types, std::tuple<float, float16>, std::tuple<float, double, float16, bfloat16>>;
using code_types = std::conditional_t<test::fewer_types, std::tuple<std::uint16_t>,
                                      std::tuple<std::uint8_t, std::int16_t, std::uint16_t>>;

} // namespace

// ---- every element, every layout ------------------------------------------------------------------------------------

TEMPLATE_LIST_TEST_CASE("the verbs reach every element of every layout with the parameters of its slice", "[quantize]",
                        real_types) {
    const auto groups = {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{100}};
    CHECK(mistakes_everywhere<TestType, std::int8_t, 1>({37}, groups) == 0);
    CHECK(mistakes_everywhere<TestType, std::int8_t, 2>({5, 19}, groups) == 0);
    CHECK(mistakes_everywhere<TestType, std::int8_t, 3>({3, 1, 7}, groups) == 0);
    CHECK(mistakes_everywhere<TestType, std::int8_t, 4>({2, 3, 4, 5}, groups) == 0);
}

TEMPLATE_LIST_TEST_CASE("the verbs work with every code type", "[quantize]", code_types) {
    CHECK(mistakes_everywhere<float, TestType, 2>({5, 40}, {1, 32}) == 0);
}

TEST_CASE("long runs are cut into tiles without a seam", "[quantize]") {
    // Longer than a tile in every direction that is converted, gathered, or has parameters per element.
    std::size_t wrong = 0;
    for (const layout from : layouts)
        for (const granularity g :
             {per_tensor, per_axis(0), per_axis(1), per_group(1, 600), per_group(1, 7), per_group(0, 2)}) {
            wrong += mistakes<float, std::int8_t, 2>({3, 1300}, g, from, layout::row_major, {});
            wrong += mistakes<float16, std::int8_t, 2>({3, 1300}, g, from, layout::column_major,
                                                       {.round = rounding::stochastic});
            wrong += mistakes<double, std::int16_t, 2>({1300, 3}, g, from, layout::part_of_larger,
                                                       {.round = rounding::half_away});
        }
    CHECK(wrong == 0);
}

TEST_CASE("the options reach the verbs", "[quantize]") {
    std::size_t wrong = 0;
    for (const rounding round :
         {rounding::nearest_even, rounding::half_away, rounding::toward_negative, rounding::stochastic})
        for (const scale_by divide : {scale_by::division, scale_by::reciprocal})
            for (const granularity g : {per_tensor, per_axis(0), per_axis(1)})
                wrong += mistakes<float, std::int8_t, 2>({9, 70}, g, layout::row_major, layout::row_major,
                                                         {.round = round, .divide = divide, .seed = 3});
    CHECK(wrong == 0);
}

TEST_CASE("a dense one-dimensional side stands for a tensor of any rank, in row-major order", "[quantize]") {
    constexpr std::array<std::size_t, 4> extents{2, 3, 4, 5};
    for (const layout how : layouts)
        for (const granularity g : {per_tensor, per_axis(1), per_axis(-1), per_group(2, 3)}) {
            tensor<float, 4> src = values<float>(extents, how);
            const auto map = quant::resolve(g, extents);
            const std::vector<affine_params> params = params_for<std::int8_t>(map->count);
            std::vector<std::int8_t> flat(120);
            REQUIRE(quant::quantize(src.view, flat, params, g));
            std::vector<float> flat_fake(120), flat_restored(120);
            tensor<float, 4> restored(extents, how, -77.0f);
            REQUIRE(quant::fake_quant(src.view, flat_fake, params, g));
            REQUIRE(quant::dequantize(flat, restored.view, params, g)); // the destination says what an axis is
            REQUIRE(quant::dequantize(quant::view(flat, 2, 3, 4, 5), flat_restored, params, g));
            std::size_t wrong = 0;
            for_each_index(extents, [&](const auto& index, std::size_t i) {
                const affine_params& p = params[map->slice_of(index)];
                const double real = reference::dequantize<float>(flat[i], p);
                wrong += flat[i] != reference::quantize(src[index], p);
                wrong += !equal(restored[index], real) || !equal(flat_restored[i], real) || !equal(flat_fake[i], real);
            });
            CHECK(wrong == 0);
        }
}

TEST_CASE("containers go in and out as they are", "[quantize]") {
    const std::vector<float> x{-1.0f, -0.24f, 0.0f, 0.26f, 0.75f, 9.0f};
    std::vector<std::int8_t> codes(6);
    std::vector<float> back(6);
    const affine_params p{0.5f, 1, quant::int4};
    REQUIRE(quant::quantize(x, codes, p));
    CHECK(codes == std::vector<std::int8_t>{-1, 1, 1, 2, 3, 7}); // 0.75 / 0.5 is a tie: to 2, plus the zero point
    REQUIRE(quant::dequantize(codes, back, p));
    CHECK(back == std::vector<float>{-1.0f, 0.0f, 0.0f, 0.5f, 1.0f, 3.0f});
    float built_in[2] = {0.9f, -0.9f};
    std::int8_t out[3] = {};
    REQUIRE(quant::quantize(std::span<const float>(built_in), std::span<std::int8_t>(out).first(2), p));
    CHECK((out[0] == 3 && out[1] == -1));
}

TEST_CASE("codes outside their format dequantize by the same equation", "[quantize]") {
    const std::vector<std::int8_t> codes{-128, 127};
    std::vector<float> back(2);
    REQUIRE(quant::dequantize(codes, back, affine_params{0.5f, 1, quant::int4}));
    CHECK(back == std::vector<float>{-64.5f, 63.0f});
}

TEST_CASE("the lowest code is produced in full range and never in narrow range", "[quantize]") {
    const std::vector<float> x(100, -1e9f);
    std::vector<std::int8_t> codes(100);
    REQUIRE(quant::quantize(x, codes, affine_params{1, 0, quant::int8}));
    CHECK(codes == std::vector<std::int8_t>(100, -128));
    REQUIRE(quant::quantize(x, codes, affine_params{1, 0, quant::int8.narrow()}));
    CHECK(codes == std::vector<std::int8_t>(100, -127));
}

// ---- nothing, and errors --------------------------------------------------------------------------------------------

TEST_CASE("empty tensors are fine", "[quantize]") {
    std::vector<float> none;
    std::vector<std::int8_t> codes;
    const affine_params p{1, 0, quant::int8};
    CHECK(quant::quantize(none, codes, p));
    CHECK(quant::dequantize(codes, none, p));
    CHECK(quant::fake_quant(none, none, p));
    const auto params = quant::quantize(none, codes);
    REQUIRE(params);
    CHECK(*params == p);
    const auto wide = quant::view(none, 0, 4);
    CHECK(quant::quantize(wide, codes, std::vector<affine_params>(4, p), per_axis(1)));
    CHECK(quant::quantize(wide, codes, std::span<const affine_params>(), per_axis(0)));
    CHECK(quant::quantize(wide, codes, std::span<const affine_params>(), per_group(1, 2)));
}

TEST_CASE("every mismatch is refused by the name of the argument, and nothing is written", "[quantize]") {
    const std::vector<float> x(24, 3.0f);
    std::vector<std::int8_t> codes(24, 55);
    std::vector<float> reals(24, 55.0f);
    const auto src = quant::view(x, 2, 3, 4);
    const auto dst = quant::view(codes, 2, 3, 4);
    const auto out = quant::view(reals, 2, 3, 4);
    const affine_params p{1, 0, quant::int8};
    const auto n = [&](std::size_t count) { return std::vector<affine_params>(count, p); };

    // Runs all three verbs on the same shape of mistake.
    const auto all_refuse = [&](const std::vector<affine_params>& params, granularity g, errc code,
                                const char* argument) {
        return names(quant::quantize(src, dst, params, g), code, argument) &&
               names(quant::dequantize(dst, out, params, g), code, argument) &&
               names(quant::fake_quant(src, out, params, g), code, argument);
    };
    CHECK(all_refuse(n(2), per_axis(1), errc::shape_mismatch, "params"));
    CHECK(all_refuse(n(4), per_axis(1), errc::shape_mismatch, "params"));
    CHECK(all_refuse(n(2), per_tensor, errc::shape_mismatch, "params"));
    CHECK(all_refuse({}, per_tensor, errc::shape_mismatch, "params"));
    CHECK(all_refuse(n(11), per_group(2, 2), errc::shape_mismatch, "params"));
    CHECK(all_refuse(n(3), per_axis(3), errc::axis_out_of_range, "axis"));
    CHECK(all_refuse(n(3), per_axis(-4), errc::axis_out_of_range, "axis"));
    CHECK(all_refuse(n(3), per_group(3, 2), errc::axis_out_of_range, "axis"));
    CHECK(all_refuse(n(3), per_group(1, 0), errc::invalid_group_size, "group_size"));

    const float inf = std::numeric_limits<float>::infinity();
    for (const float scale : {0.0f, -1.0f, inf, std::numeric_limits<float>::quiet_NaN(), 0x1p-101f, 0x1p101f}) {
        auto params = n(3);
        params[2].scale = scale; // the last one: all are looked at before anything is written
        CHECK(all_refuse(params, per_axis(1), errc::invalid_scale, "params.scale"));
        CHECK(names(quant::quantize(x, codes, affine_params{scale, 0, quant::int8}), errc::invalid_scale,
                    "params.scale"));
        CHECK(names(quant::dequantize(codes, reals, affine_params{scale, 0, quant::int8}), errc::invalid_scale,
                    "params.scale"));
        CHECK(names(quant::fake_quant(x, reals, affine_params{scale, 0, quant::int8}), errc::invalid_scale,
                    "params.scale"));
    }
    auto params = n(3);
    params[2].zero_point = 128;
    CHECK(all_refuse(params, per_axis(1), errc::invalid_zero_point, "params.zero_point"));
    params[2] = {1, 0, {9, true}};
    CHECK(all_refuse(params, per_axis(1), errc::bits_out_of_range, "format.bits"));
    params[2] = {1, 0, quant::uint8};
    CHECK(names(quant::quantize(src, dst, params, per_axis(1)), errc::storage_too_narrow, "codes"));
    params[2] = {1, 0, quant::int16};
    CHECK(names(quant::quantize(src, dst, params, per_axis(1)), errc::storage_too_narrow, "codes"));
    CHECK(names(quant::quantize(x, codes, affine_params{1, 0, quant::uint8}), errc::storage_too_narrow, "codes"));

    std::vector<std::int8_t> short_codes(23, 55);
    std::vector<float> short_reals(23, 55.0f);
    CHECK(names(quant::quantize(x, short_codes, p), errc::shape_mismatch, "codes"));
    CHECK(names(quant::quantize(src, short_codes, p), errc::shape_mismatch, "codes"));
    CHECK(names(quant::quantize(src, quant::view(codes, 2, 4, 3), p), errc::shape_mismatch, "codes"));
    CHECK(names(quant::dequantize(codes, short_reals, p), errc::shape_mismatch, "dst"));
    CHECK(names(quant::dequantize(dst, short_reals, p), errc::shape_mismatch, "dst"));
    CHECK(names(quant::dequantize(short_codes, out, p), errc::shape_mismatch, "codes"));
    CHECK(names(quant::fake_quant(x, short_reals, p), errc::shape_mismatch, "dst"));
    CHECK(names(quant::fake_quant(src, quant::view(reals, 3, 2, 4), p), errc::shape_mismatch, "dst"));
    CHECK(quant::quantize(x, short_codes).status().code == errc::shape_mismatch);

    // Two elements of the destination at one address; a source may be like that.
    const auto twice = quant::strided_view<std::int8_t, 3>(codes.data(), {2, 3, 4}, {2, 4, 1});
    const auto twice_real = quant::strided_view<float, 3>(reals.data(), {2, 3, 4}, {1, 4, 1});
    REQUIRE(twice);
    REQUIRE(twice_real);
    CHECK(names(quant::quantize(src, *twice, p), errc::overlapping, "codes"));
    CHECK(names(quant::dequantize(dst, *twice_real, p), errc::overlapping, "dst"));
    CHECK(names(quant::fake_quant(src, *twice_real, p), errc::overlapping, "dst"));

    CHECK(codes == std::vector<std::int8_t>(24, 55));
    CHECK(reals == std::vector<float>(24, 55.0f));
    CHECK(short_codes == std::vector<std::int8_t>(23, 55));
    CHECK(short_reals == std::vector<float>(23, 55.0f));
    CHECK(quant::dequantize(*twice, reals, p));
}

TEST_CASE("a strided side of another rank is not taken for a dense one", "[quantize]") {
    const std::vector<float> x(24, 3.0f);
    std::vector<std::int8_t> codes(48, 55);
    const auto spread = quant::strided_view<std::int8_t, 1>(codes.data(), {24}, {2});
    REQUIRE(spread);
    CHECK(names(quant::quantize(quant::view(x, 4, 6), *spread, affine_params{1, 0, quant::int8}), errc::shape_mismatch,
                "codes"));
    CHECK(codes == std::vector<std::int8_t>(48, 55));
    CHECK(quant::quantize(x, *spread, affine_params{1, 0, quant::int8})); // the same rank may be strided
    CHECK((codes[46] == 3 && codes[47] == 55));
}

TEST_CASE("sizes that are part of the types leave nothing to return", "[quantize]") {
    using floats = std::array<float, 4>;
    using bytes = std::array<std::int8_t, 4>;
    const affine_params p{0.5f, 0, quant::int8};
    floats x{1, 2, 3, -4}, back{};
    bytes codes{};
    static_assert(std::is_void_v<decltype(quant::quantize(x, codes, p))>);
    static_assert(std::is_void_v<decltype(quant::dequantize(codes, back, p))>);
    static_assert(std::is_void_v<decltype(quant::fake_quant(x, x, p))>);
    static_assert(std::is_void_v<decltype(quant::quantize(std::declval<std::span<float, 4>>(), codes, p))>);
    static_assert(std::is_void_v<decltype(quant::quantize(std::declval<const float(&)[4]>(), codes, p))>);
    static_assert(std::is_same_v<decltype(quant::quantize(std::declval<std::span<float>>(), codes, p)), status>);
    static_assert(std::is_same_v<decltype(quant::quantize(x, std::declval<std::vector<std::int8_t>&>(), p)), status>);
    static_assert(noexcept(quant::quantize(x, codes, p))&& noexcept(quant::quantize(x, codes)));
    quant::quantize(x, codes, p);
    CHECK(codes == bytes{2, 4, 6, -8});
    quant::dequantize(codes, back, p);
    CHECK(back == x);
    x = {0.2f, 0.3f, -0.3f, 100};
    quant::fake_quant(x, x, p);
    CHECK(x == floats{0, 0.5f, -0.5f, 63.5f});
}

TEST_CASE("what is not a tensor of reals, or of codes, is not accepted", "[quantize]") {
    const auto takes = [](auto&& src, auto&& dst) {
        return requires { quant::quantize(src, std::forward<decltype(dst)>(dst), affine_params{}); };
    };
    std::vector<float> f;
    std::vector<int> i;
    std::vector<std::int8_t> c;
    const std::vector<std::int8_t> fixed;
    CHECK(takes(f, c));
    CHECK_FALSE(takes(i, c));
    CHECK_FALSE(takes(f, i));
    CHECK_FALSE(takes(f, f));
    CHECK_FALSE(takes(f, fixed));
    CHECK_FALSE(takes(f, std::vector<std::int8_t>{}));
}

// ---- min-max --------------------------------------------------------------------------------------------------------

TEST_CASE("quantize without parameters chooses symmetric ones from the extremes", "[quantize]") {
    const std::vector<float> x{-2.0f, 0.5f, 1.0f};
    std::vector<std::int8_t> codes(3);
    auto p = quant::quantize(x, codes);
    REQUIRE(p);
    CHECK(*p == affine_params{2.0f / 128, 0, quant::int8});
    CHECK(codes == std::vector<std::int8_t>{-128, 32, 64});

    std::vector<std::uint8_t> unsigned_codes(3);
    p = quant::quantize(x, unsigned_codes);
    REQUIRE(p);
    CHECK(*p == affine_params{1.0f / 255, 0, quant::uint8});
    // float(1/255) lies above 1/255, so 0.5 is less than 127.5 steps.
    CHECK(unsigned_codes == std::vector<std::uint8_t>{0, 127, 255});

    std::vector<std::int16_t> wide(3);
    p = quant::quantize(x, wide);
    REQUIRE(p);
    CHECK(*p == affine_params{2.0f / 32768, 0, quant::int16});
}

TEST_CASE("NaN and infinities do not widen the range of quantize without parameters", "[quantize]") {
    const float inf = std::numeric_limits<float>::infinity(), no_number = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> x{no_number, inf, -inf, 1.27f, -1.0f};
    std::vector<std::int8_t> codes(5);
    const auto p = quant::quantize(x, codes);
    REQUIRE(p);
    CHECK(p->scale == static_cast<float>(static_cast<double>(1.27f) / 127));
    CHECK(codes == std::vector<std::int8_t>{0, 127, -128, 127, -100});
    const std::vector<float> nothing{no_number, inf};
    std::vector<std::int8_t> two(2);
    REQUIRE(quant::quantize(nothing, two));
    CHECK(two == std::vector<std::int8_t>{0, 127});
}

TEST_CASE("constant, single-element and tiny tensors quantize without parameters", "[quantize]") {
    std::vector<std::int8_t> codes(1);
    auto p = quant::quantize(std::vector<float>{0.0f}, codes);
    REQUIRE(p);
    CHECK((p->scale == 1.0f && codes[0] == 0));
    p = quant::quantize(std::vector<float>{1e-40f}, codes);
    REQUIRE(p);
    CHECK((p->scale == 1.0f && codes[0] == 0));
    p = quant::quantize(std::vector<float>{-3.0f}, codes);
    REQUIRE(p);
    CHECK((p->scale == 3.0f / 128 && codes[0] == -128));
    codes[0] = 55;
    p = quant::quantize(std::vector<float>{3e38f}, codes);
    REQUIRE_FALSE(p);
    CHECK(p.status().code == errc::scale_out_of_range);
    CHECK(codes[0] == 55);
}

// ---- stochastic rounding --------------------------------------------------------------------------------------------

TEST_CASE("stochastic codes depend on the seed and the row-major index alone", "[quantize]") {
    constexpr std::array<std::size_t, 2> extents{24, 31};
    const quantize_options options{.round = rounding::stochastic, .seed = 99, .stream = 4};
    const affine_params p{0.7f, 0, quant::int8};
    std::vector<float> x(24 * 31);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (quant::random_uniform(1, 0, i) - 0.5f) * 30;
    std::vector<std::int8_t> whole(x.size()), parts(x.size());
    REQUIRE(quant::quantize(x, whole, p, options));

    for (const std::size_t cut : {std::size_t{1}, std::size_t{64}, std::size_t{333}}) { // two calls
        REQUIRE(quant::quantize(std::span(x).first(cut), std::span(parts).first(cut), p, options));
        quantize_options rest = options;
        rest.first_index = cut;
        REQUIRE(quant::quantize(std::span(x).subspan(cut), std::span(parts).subspan(cut), p, rest));
        CHECK(parts == whole);
    }
    for (const layout from : layouts) { // any layout
        tensor<float, 2> src(extents, from, 0.0f);
        for_each_index(extents, [&](const auto& index, std::size_t i) { src[index] = x[i]; });
        for (const layout to : layouts) {
            tensor<std::int8_t, 2> codes(extents, to, 99);
            REQUIRE(quant::quantize(src.view, codes.view, p, options));
            std::size_t wrong = 0;
            for_each_index(extents, [&](const auto& index, std::size_t i) { wrong += codes[index] != whole[i]; });
            CHECK(wrong == 0);
        }
    }
    quantize_options other = options; // and the seed does matter
    other.seed = 100;
    REQUIRE(quant::quantize(x, parts, p, other));
    CHECK(parts != whole);
}

TEST_CASE("stochastic rounding has no mean error", "[quantize]") {
    const affine_params p{0.25f, 0, quant::int8};
    std::vector<float> x(1000), back(1000);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (quant::random_uniform(2, 0, i) - 0.5f) * 40;
    double sum = 0, variance = 0;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        REQUIRE(quant::fake_quant(x, back, p, {.round = rounding::stochastic, .seed = seed}));
        for (std::size_t i = 0; i < x.size(); ++i) {
            sum += static_cast<double>(back[i]) - static_cast<double>(x[i]);
            const double steps = static_cast<double>(x[i]) / 0.25, rest = steps - std::floor(steps);
            variance += 0.25 * 0.25 * rest * (1 - rest); // of one rounding to a step of 0.25
        }
    }
    CHECK(std::fabs(sum) < 5 * std::sqrt(variance));
    CHECK(sum != 0);
}
