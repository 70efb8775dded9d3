// SPDX-License-Identifier: MIT
// Parameters per axis, and views that are not dense: a convolution's weights (256 x 2304), a feature map channels first (256 x
// 3136) and channels last (3136 x 256), every second column, a transposed matrix.
#include "benchmark.hpp"
#include <quant/quantize/quantize.hpp>

namespace {

using namespace bench;

constexpr std::size_t weights = std::size_t{256} * 2304, map = std::size_t{256} * 3136;
constexpr std::size_t side = 1024, matrix = side * side;

/// A matrix of `Rows` rows with parameters per row (axis 0) or per column (axis 1).
template <std::size_t Rows, int Axis> struct channels {
    std::size_t columns;
    std::vector<affine_params> params;
    explicit channels(std::size_t n) : columns(n / Rows), params(params_of(quant::int8, Axis == 0 ? Rows : n / Rows)) {}
    template <class T> auto view(T* p) const { return quant::view(p, Rows, columns); }
};
template <std::size_t Rows, int Axis> void quantize_axis(row& r) {
    const channels<Rows, Axis> c(r.n);
    const auto x = c.view(reals(r.n));
    const auto out = c.view(results<std::int8_t>(r.n));
    r.run_verb([&] { return quant::quantize(x, out, c.params, quant::per_axis(Axis)); });
}
template <std::size_t Rows, int Axis> void quantize_axis_reciprocal(row& r) {
    const channels<Rows, Axis> c(r.n);
    const auto x = c.view(reals(r.n));
    const auto out = c.view(results<std::int8_t>(r.n));
    r.run_verb([&] {
        return quant::quantize(x, out, c.params, quant::per_axis(Axis), {.divide = quant::scale_by::reciprocal});
    });
}
template <std::size_t Rows, int Axis> void dequantize_axis(row& r) {
    const channels<Rows, Axis> c(r.n);
    const auto x = c.view(codes<std::int8_t>(r.n));
    const auto out = c.view(results<float>(r.n));
    r.run_verb([&] { return quant::dequantize(x, out, c.params, quant::per_axis(Axis)); });
}
template <std::size_t Rows, int Axis> void fake_quant_axis(row& r) {
    const channels<Rows, Axis> c(r.n);
    const auto x = c.view(reals(r.n));
    const auto out = c.view(results<float>(r.n));
    r.run_verb([&] { return quant::fake_quant(x, out, c.params, quant::per_axis(Axis)); });
}
/// What a user writes by hand: the parameters of row or column in the loop over elements.
template <std::size_t Rows, int Axis> void quantize_axis_loop(row& r) {
    const channels<Rows, Axis> c(r.n);
    const float* const x = reals(r.n);
    auto* const out = results<std::int8_t>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < Rows; ++i)
            for (std::size_t j = 0; j < c.columns; ++j) {
                const affine_params& p = c.params[Axis == 0 ? i : j];
                const float q = std::nearbyint(x[i * c.columns + j] / p.scale) + static_cast<float>(p.zero_point);
                out[i * c.columns + j] = static_cast<std::int8_t>(std::min(std::max(q, -128.0f), 127.0f));
            }
    });
}

/// Every second column of a matrix twice as wide, to dense codes.
void quantize_every_second(row& r) {
    const affine_params p = params_of(quant::int8);
    const auto x =
        quant::strided_view(reals(2 * r.n), std::array{side, side}, std::array<std::ptrdiff_t, 2>{2 * side, 2});
    const auto out = quant::view(results<std::int8_t>(r.n), side, side);
    r.run_verb([&] { return quant::quantize(*x, out, p); });
}
/// Column-major to row-major.
void quantize_transposed(row& r) {
    const affine_params p = params_of(quant::int8);
    const auto x = quant::strided_view(reals(r.n), std::array{side, side}, std::array<std::ptrdiff_t, 2>{1, side});
    const auto out = quant::view(results<std::int8_t>(r.n), side, side);
    r.run_verb([&] { return quant::quantize(*x, out, p); });
}
template <std::size_t RowStep, std::size_t ColumnStep> void quantize_strided_loop(row& r) {
    const affine_params p = params_of(quant::int8);
    const float* const x = reals(2 * r.n);
    auto* const out = results<std::int8_t>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < side; ++i)
            for (std::size_t j = 0; j < side; ++j) {
                const float q =
                    std::nearbyint(x[i * RowStep + j * ColumnStep] / p.scale) + static_cast<float>(p.zero_point);
                out[i * side + j] = static_cast<std::int8_t>(std::min(std::max(q, -128.0f), 127.0f));
            }
    });
}
/// Groups along a row with parameters already chosen.
void quantize_given_groups(row& r) {
    const std::vector<affine_params> p = params_of(quant::int8, r.n / 32);
    const auto x = quant::view(reals(r.n), r.n / 1024, std::size_t{1024});
    const auto out = quant::view(results<std::int8_t>(r.n), r.n / 1024, std::size_t{1024});
    r.run_verb([&] { return quant::quantize(x, out, p, quant::per_group(1, 32)); });
}

template <std::size_t Rows, int Axis> void add_axis(const std::string& granularity, sizes elements) {
    add<f32_to_8>("quantize/f32_s8/" + granularity, "native", elements, quantize_axis<Rows, Axis>);
    add<f32_to_8>("quantize_reciprocal/f32_s8/" + granularity, "native", elements,
                  quantize_axis_reciprocal<Rows, Axis>);
    add<f32_to_8>("quantize/f32_s8/" + granularity, "loop", elements, quantize_axis_loop<Rows, Axis>);
    add<byte_to_f32>("dequantize/s8_f32/" + granularity, "native", elements, dequantize_axis<Rows, Axis>);
    add<f32_to_f32>("fake_quant/f32_f32/" + granularity, "native", elements, fake_quant_axis<Rows, Axis>);
}

const bool registered = [] {
    add_axis<256, 0>("per_axis_256x2304", {weights});
    add_axis<256, 0>("per_axis_256x3136", {map});
    add_axis<3136, 1>("per_axis_3136x256_inner", {map});
    add<f32_to_8>("quantize/f32_s8/given_groups_of_32", "native", cache_sizes, quantize_given_groups);

    using every_second = traffic<1, 8, 1>; // the whole lines are read
    add<every_second>("quantize/f32_s8/every_second_column", "native", {matrix}, quantize_every_second);
    add<every_second>("quantize/f32_s8/every_second_column", "loop", {matrix}, quantize_strided_loop<2 * side, 2>);
    add<f32_to_8>("quantize/f32_s8/transposed", "native", {matrix}, quantize_transposed);
    add<f32_to_8>("quantize/f32_s8/transposed", "loop", {matrix}, quantize_strided_loop<1, side>);
    return true;
}();

} // namespace
