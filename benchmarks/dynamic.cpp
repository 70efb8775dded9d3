// SPDX-License-Identifier: MIT
// Activations: the range of every row of 4096, its parameters, its codes and their sum in one call.
#include "benchmark.hpp"
#include <quant/dynamic.hpp>
#include <span>

namespace {

using namespace bench;

constexpr std::size_t columns = 4096;

template <class Code, quant::scale_by Divide> void quantize_dynamic(row& r) {
    const std::size_t rows = r.n / columns;
    std::vector<affine_params> params(rows);
    std::vector<std::int32_t> sums(rows);
    const auto x = quant::view(reals(r.n), rows, columns);
    const auto out = quant::view(results<Code>(r.n), rows, columns);
    constexpr bool is_signed = std::is_signed_v<Code>;
    const quant::dynamic_options options{.format = is_signed ? quant::int8 : quant::uint8,
                                         .map = is_signed ? quant::mapping::symmetric : quant::mapping::affine,
                                         .quantize = {.divide = Divide},
                                         .code_sums = sums};
    r.run_verb([&] { return quant::quantize_dynamic(x, out, params, quant::per_axis(0), options); });
}

/// What a user writes by hand: a loop for the range, a loop for the codes.
void quantize_dynamic_loop(row& r) {
    const std::size_t rows = r.n / columns;
    std::vector<float> row_scales(rows);
    std::vector<std::int32_t> sums(rows);
    const float* const x = reals(r.n);
    auto* const out = results<std::int8_t>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < rows; ++i) {
            const float* const in = x + i * columns;
            float most = 0;
            for (std::size_t j = 0; j < columns; ++j) most = std::max(most, std::abs(in[j]));
            row_scales[i] = most / 127;
            const float inverse = most > 0 ? 127 / most : 0;
            std::int32_t sum = 0;
            for (std::size_t j = 0; j < columns; ++j) {
                const float q = std::min(std::max(std::nearbyint(in[j] * inverse), -128.0f), 127.0f);
                out[i * columns + j] = static_cast<std::int8_t>(q);
                sum += out[i * columns + j];
            }
            sums[i] = sum;
        }
    });
}

constexpr quant::scale_by division = quant::scale_by::division, reciprocal = quant::scale_by::reciprocal;

const bool registered = [] {
    const sizes rows{columns, 256 * columns, 16384 * columns};
    const std::string name = "/f32_s8/per_row_of_4096", unsigned_name = "/f32_u8/per_row_of_4096";
    add<f32_to_8>("quantize_dynamic" + name, "native", rows, quantize_dynamic<std::int8_t, division>);
    add<f32_to_8>("quantize_dynamic_reciprocal" + name, "native", rows, quantize_dynamic<std::int8_t, reciprocal>);
    add<f32_to_8>("quantize_dynamic_reciprocal" + unsigned_name, "native", rows,
                  quantize_dynamic<std::uint8_t, reciprocal>);
    add<f32_to_8>("quantize_dynamic_reciprocal" + name, "loop", {columns, 256 * columns}, quantize_dynamic_loop);
    return true;
}();

} // namespace
