// SPDX-License-Identifier: MIT
// ggml's blocks of 32: Q8_0 and Q4_0 through its table of types. Its scales are float16 beside the codes of each block and Q4_0 maps
// the extreme of a block to -8, so that codes are not compared: the restored values must lie within a step of the originals.
#include "peer.hpp"
#include "products.hpp"
#include <ggml-cpu.h>
#include <ggml.h>

namespace {

using namespace bench;

template <ggml_type Type> bool restores(std::size_t n, const void* blocks, float steps) {
    n = std::min(n, most_checked);
    std::vector<float> restored(n);
    ggml_get_type_traits(Type)->to_float(blocks, restored.data(), static_cast<std::int64_t>(n));
    for (std::size_t i = 0; i < n; i += 32) {
        float most = 0;
        for (std::size_t j = 0; j < 32; ++j) most = std::max(most, std::abs(reals(n)[i + j]));
        for (std::size_t j = 0; j < 32; ++j)
            if (std::abs(restored[i + j] - reals(n)[i + j]) > most / steps * 1.01f) return false;
    }
    return true;
}
template <ggml_type Type, unsigned Levels> void quantize(row& r) {
    const float* const x = reals(r.n);
    void* const blocks = results<std::uint8_t>(r.n * 34 / 32);
    ggml_cpu_init();
    const auto from_float = ggml_get_type_traits_cpu(Type)->from_float;
    from_float(x, blocks, static_cast<std::int64_t>(r.n));
    if (!restores<Type>(r.n, blocks, Levels)) return r.state.SkipWithError("ggml restores something else");
    r.run([&] { from_float(x, blocks, static_cast<std::int64_t>(r.n)); });
}
template <ggml_type Type> void dequantize(row& r) {
    ggml_cpu_init();
    std::vector<std::uint8_t> blocks(r.n * 34 / 32);
    ggml_get_type_traits_cpu(Type)->from_float(reals(r.n), blocks.data(), static_cast<std::int64_t>(r.n));
    float* const out = results<float>(r.n);
    const auto to_float = ggml_get_type_traits(Type)->to_float;
    r.run([&] { to_float(blocks.data(), out, static_cast<std::int64_t>(r.n)); });
}

/// One row of blocks after the other times activations in Q8_0; the ceiling is that of the library's bytes. Both quantize their
/// own way, so that only the size of the results is compared.
template <ggml_type Type> void product(row& r, matrix_shape s) {
    ggml_cpu_init();
    const auto* const weights = ggml_get_type_traits_cpu(Type);
    const auto* const activations = ggml_get_type_traits_cpu(GGML_TYPE_Q8_0);
    const auto n = static_cast<std::int64_t>(s.cols);
    const std::size_t row_bytes = ggml_row_size(Type, n);
    std::vector<std::uint8_t> w(s.rows * row_bytes), x(ggml_row_size(GGML_TYPE_Q8_0, n));
    for (std::size_t i = 0; i < s.rows; ++i)
        weights->from_float(reals(s.size()) + i * s.cols, w.data() + i * row_bytes, n);
    activations->from_float(reals(s.cols), x.data(), n);
    std::vector<float> y(s.rows);
    const auto pass = [&] {
        for (std::size_t i = 0; i < s.rows; ++i)
            weights->vec_dot(static_cast<int>(n), &y[i], 0, w.data() + i * row_bytes, 0, x.data(), 0, 1);
    };
    pass();
    double sum = 0, size = 0;
    for (std::size_t c = 0; c < s.cols; ++c) {
        sum += static_cast<double>(reals(s.size())[c]) * static_cast<double>(reals(s.cols)[c]);
        size += std::abs(static_cast<double>(reals(s.size())[c]) * static_cast<double>(reals(s.cols)[c]));
    }
    if (std::abs(static_cast<double>(y[0]) - sum) > 0.05 * size)
        return r.state.SkipWithError("ggml multiplies something else");
    r.run(pass);
}

// The ceilings are those of the library's layout, whose scales are float32: 1/32 of the bytes more.
const bool registered = [] {
    add<f32_to_int8_groups>("quantize_groups/f32_s8/groups_of_32", "ggml", all_sizes, quantize<GGML_TYPE_Q8_0, 127>);
    add<f32_to_int4_groups>("quantize_groups/f32_int4/groups_of_32", "ggml", all_sizes, quantize<GGML_TYPE_Q4_0, 8>);
    add<int8_groups_to_f32>("dequantize_groups/s8_f32/groups_of_32", "ggml", all_sizes, dequantize<GGML_TYPE_Q8_0>);
    add<int4_groups_to_f32>("dequantize_groups/int4_f32/groups_of_32", "ggml", all_sizes, dequantize<GGML_TYPE_Q4_0>);
    for (const matrix_shape s : matrix_shapes) {
        if (s.size() > most_peer_size || s.cols % 32 != 0) continue;
        add_product("gemv", s, "s8_f32/groups_of_32", "ggml", s.size(), s.size() / 8,
                    [=](row& r) { product<GGML_TYPE_Q8_0>(r, s); });
        add_product("gemv", s, "int4_f32/groups_of_32", "ggml", s.size() / 2, s.size() / 8,
                    [=](row& r) { product<GGML_TYPE_Q4_0>(r, s); });
    }
    return true;
}();

} // namespace
