// SPDX-License-Identifier: MIT
// Quantize, dequantize, fake-quantize and packing. Every row is to be read as a ratio to `memcpy`, to `loop` (what a user
// would write by hand), or to the scalar architecture, of the same size in the same run.
//
//   operation/types/granularity/architecture/elements

#include <algorithm>
#include <benchmark/benchmark.h>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <quant/core/packing.hpp>
#include <quant/core/random.hpp>
#include <quant/quantize/quantize.hpp>
#include <span>
#include <string>
#include <vector>

namespace {

using quant::affine_params;
using quant::scale_by;
namespace simd = quant::simd;

constexpr std::int64_t sizes[] = {4096, 262144, 16 << 20}; // first and second level cache, memory
constexpr std::size_t columns = 1024;
constexpr affine_params params{0.02f, 3, quant::int8};

std::vector<float> reals(std::size_t n) {
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = (quant::random_uniform(1, 0, i) - 0.5f) * 6;
    return x;
}
std::vector<std::int8_t> codes(std::size_t n) {
    std::vector<std::int8_t> c(n);
    for (std::size_t i = 0; i < n; ++i) c[i] = static_cast<std::int8_t>(quant::random_bits(2, 0, i));
    return c;
}
std::vector<affine_params> many_params(std::size_t n) {
    std::vector<affine_params> p(n, params);
    for (std::size_t i = 0; i < n; ++i) p[i].scale = 0.01f + 1e-5f * static_cast<float>(i);
    return p;
}

/// Runs `pass` over buffers of one size; `bytes` are read and written per element.
template <class F> void run(benchmark::State& state, double bytes, F pass) {
    for (auto _ : state) {
        pass();
        benchmark::ClobberMemory();
    }
    const auto elements = static_cast<double>(state.iterations()) * static_cast<double>(state.range(0));
    state.SetItemsProcessed(static_cast<std::int64_t>(elements));
    state.SetBytesProcessed(static_cast<std::int64_t>(elements * bytes));
}
std::size_t size_of(const benchmark::State& state) { return static_cast<std::size_t>(state.range(0)); }

// ---- what to compare with ---------------------------------------------------------------------------------------------

/// As many bytes as one pass of float to int8 (or back) moves: 4 read, 1 written.
void copy_same_bytes(benchmark::State& state) {
    const std::size_t bytes = size_of(state) * 5 / 2;
    std::vector<char> from(bytes, 1), to(bytes);
    run(state, 5, [&] { std::memcpy(to.data(), from.data(), bytes); });
}
/// 4 read, 4 written: fake quantization.
void copy_floats(benchmark::State& state) {
    const std::vector<float> from = reals(size_of(state));
    std::vector<float> to(from.size());
    run(state, 8, [&] { std::memcpy(to.data(), from.data(), from.size() * sizeof(float)); });
}

void quantize_loop(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<std::int8_t> out(x.size());
    run(state, 5, [&] {
        for (std::size_t i = 0; i < x.size(); ++i) {
            const float q = std::nearbyint(x[i] / params.scale) + static_cast<float>(params.zero_point);
            out[i] = static_cast<std::int8_t>(std::min(std::max(q, -128.0f), 127.0f));
        }
    });
}
void dequantize_loop(benchmark::State& state) {
    const std::vector<std::int8_t> c = codes(size_of(state));
    std::vector<float> out(c.size());
    run(state, 5, [&] {
        for (std::size_t i = 0; i < c.size(); ++i) out[i] = static_cast<float>(c[i] - params.zero_point) * params.scale;
    });
}

// ---- kernels, per architecture ----------------------------------------------------------------------------------------

template <class Arch, scale_by Divide> void quantize_kernel(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<std::int8_t> out(x.size());
    run(state, 5, [&] {
        simd::quantize<Arch>(x.data(), out.data(), x.size(), simd::uniform_params{params}, {.divide = Divide});
    });
}
template <class Arch> void dequantize_kernel(benchmark::State& state) {
    const std::vector<std::int8_t> c = codes(size_of(state));
    std::vector<float> out(c.size());
    run(state, 5, [&] { simd::dequantize<Arch>(c.data(), out.data(), c.size(), simd::uniform_params{params}); });
}
template <class Arch> void fake_quant_kernel(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<float> out(x.size());
    run(state, 8, [&] { simd::fake_quant<Arch>(x.data(), out.data(), x.size(), simd::uniform_params{params}); });
}
template <class Arch> void stochastic_kernel(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<std::int8_t> out(x.size());
    run(state, 5, [&] {
        simd::quantize<Arch>(x.data(), out.data(), x.size(), simd::uniform_params{params},
                             {.round = quant::rounding::stochastic, .seed = 1});
    });
}

// ---- the verbs, checks and traversal included -------------------------------------------------------------------------

void quantize_verb(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<std::int8_t> out(x.size());
    run(state, 5, [&] {
        if (!quant::quantize(x, out, params)) state.SkipWithError("quantize");
    });
}
/// A matrix of 1024 columns with parameters per row (axis 0) or per column (axis 1).
template <int Axis> void quantize_axis(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<std::int8_t> out(x.size());
    const std::size_t rows = x.size() / columns;
    const std::vector<affine_params> p = many_params(Axis == 0 ? rows : columns);
    run(state, 5, [&] {
        if (!quant::quantize(quant::view(x, rows, columns), out, p, quant::per_axis(Axis)))
            state.SkipWithError("quantize");
    });
}
template <int Axis> void dequantize_axis(benchmark::State& state) {
    const std::vector<std::int8_t> c = codes(size_of(state));
    std::vector<float> out(c.size());
    const std::size_t rows = c.size() / columns;
    const std::vector<affine_params> p = many_params(Axis == 0 ? rows : columns);
    run(state, 5, [&] {
        if (!quant::dequantize(quant::view(c, rows, columns), out, p, quant::per_axis(Axis)))
            state.SkipWithError("dequantize");
    });
}
void quantize_groups(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<std::int8_t> out(x.size());
    const std::size_t rows = x.size() / columns;
    const std::vector<affine_params> p = many_params(x.size() / 32);
    run(state, 5, [&] {
        if (!quant::quantize(quant::view(x, rows, columns), out, p, quant::per_group(1, 32)))
            state.SkipWithError("quantize");
    });
}
template <class Half> void quantize_half(benchmark::State& state) {
    const std::vector<float> x = reals(size_of(state));
    std::vector<Half> h(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) h[i] = quant::from_float<Half>(x[i]);
    std::vector<std::int8_t> out(x.size());
    run(state, 3, [&] {
        if (!quant::quantize(h, out, params)) state.SkipWithError("quantize");
    });
}

// ---- packing ----------------------------------------------------------------------------------------------------------

void pack(benchmark::State& state) {
    const std::vector<std::int8_t> c = codes(size_of(state));
    std::vector<std::uint8_t> packed(c.size() / 2);
    run(state, 1.5, [&] {
        if (!quant::pack_codes(c, packed, quant::int4)) state.SkipWithError("pack");
    });
}
void unpack(benchmark::State& state) {
    std::vector<std::int8_t> c = codes(size_of(state));
    std::vector<std::uint8_t> packed(c.size() / 2);
    if (!quant::pack_codes(c, packed, quant::int4)) state.SkipWithError("pack");
    run(state, 1.5, [&] {
        if (!quant::unpack_codes(packed, c, quant::int4)) state.SkipWithError("unpack");
    });
}

void add(const std::string& name, void (*function)(benchmark::State&)) {
    for (const std::int64_t n : sizes) benchmark::RegisterBenchmark(name.c_str(), function)->Arg(n);
}

const bool registered = [] {
    using simd::native, simd::scalar;
    add("copy/5_bytes/none/memcpy", copy_same_bytes);
    add("copy/8_bytes/none/memcpy", copy_floats);
    add("quantize/f32_s8/per_tensor/loop", quantize_loop);
    add("quantize/f32_s8/per_tensor/scalar", quantize_kernel<scalar, scale_by::division>);
    add("quantize/f32_s8/per_tensor/native", quantize_kernel<native, scale_by::division>);
    add("quantize_reciprocal/f32_s8/per_tensor/scalar", quantize_kernel<scalar, scale_by::reciprocal>);
    add("quantize_reciprocal/f32_s8/per_tensor/native", quantize_kernel<native, scale_by::reciprocal>);
    add("quantize_stochastic/f32_s8/per_tensor/scalar", stochastic_kernel<scalar>);
    add("quantize_stochastic/f32_s8/per_tensor/native", stochastic_kernel<native>);
    add("quantize_view/f32_s8/per_tensor/native", quantize_verb);
    add("quantize_view/f32_s8/per_axis_outer/native", quantize_axis<0>);
    add("quantize_view/f32_s8/per_axis_inner/native", quantize_axis<1>);
    add("quantize_view/f32_s8/per_group_32/native", quantize_groups);
    add("quantize_view/f16_s8/per_tensor/native", quantize_half<quant::float16>);
    add("quantize_view/bf16_s8/per_tensor/native", quantize_half<quant::bfloat16>);
    add("dequantize/s8_f32/per_tensor/loop", dequantize_loop);
    add("dequantize/s8_f32/per_tensor/scalar", dequantize_kernel<scalar>);
    add("dequantize/s8_f32/per_tensor/native", dequantize_kernel<native>);
    add("dequantize_view/s8_f32/per_axis_outer/native", dequantize_axis<0>);
    add("dequantize_view/s8_f32/per_axis_inner/native", dequantize_axis<1>);
    add("fake_quant/f32_f32/per_tensor/scalar", fake_quant_kernel<scalar>);
    add("fake_quant/f32_f32/per_tensor/native", fake_quant_kernel<native>);
    add("pack/s8_int4/none/scalar", pack);
    add("unpack/int4_s8/none/scalar", unpack);
    return true;
}();

} // namespace
