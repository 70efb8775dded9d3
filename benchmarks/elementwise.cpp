// SPDX-License-Identifier: MIT
// One set of parameters for the whole tensor: quantize, dequantize, fake-quantize; kernels, verbs and plain loops.
#include "benchmark.hpp"
#include <quant/core/half.hpp>
#include <quant/quantize/quantize.hpp>

namespace {

using namespace bench;
using quant::scale_by;

template <class Code> inline constexpr quant::code_format format = std::is_signed_v<Code> ? quant::int8 : quant::uint8;
template <class Code> affine_params params() { return params_of(format<Code>, std::is_signed_v<Code> ? 3 : 131); }

// ---- kernels, with ordinary stores at every size ---------------------------------------------------------------------

template <class Arch, class Code, scale_by Divide> void quantize_kernel(row& r) {
    const quant::quantize_options options{.divide = Divide, .stores = quant::store_policy::cached};
    const simd::uniform_params p{params<Code>()};
    const float* const x = reals(r.n);
    Code* const out = results<Code>(r.n);
    r.run([&] { simd::quantize<Arch>(x, out, r.n, p, options); });
}
template <class Arch, class Code> void dequantize_kernel(row& r) {
    const simd::uniform_params p{params<Code>()};
    const Code* const c = codes<Code>(r.n);
    float* const out = results<float>(r.n);
    r.run([&] { simd::dequantize<Arch>(c, out, r.n, p, quant::store_policy::cached); });
}
template <class Arch, scale_by Divide> void fake_quant_kernel(row& r) {
    const quant::quantize_options options{.divide = Divide, .stores = quant::store_policy::cached};
    const simd::uniform_params p{params<std::int8_t>()};
    const float* const x = reals(r.n);
    float* const out = results<float>(r.n);
    r.run([&] { simd::fake_quant<Arch>(x, out, r.n, p, options); });
}
template <class Arch> void stochastic_kernel(row& r) {
    const simd::uniform_params p{params<std::int8_t>()};
    const float* const x = reals(r.n);
    auto* const out = results<std::int8_t>(r.n);
    r.run([&] { simd::quantize<Arch>(x, out, r.n, p, {.round = quant::rounding::stochastic, .seed = 1}); });
}

// ---- verbs, checks and traversal included; large results are streamed ------------------------------------------------

template <class Code, scale_by Divide> void quantize_verb(row& r) {
    const affine_params p = params<Code>();
    const std::span x(reals(r.n), r.n);
    const std::span out(results<Code>(r.n), r.n);
    r.run_verb([&] { return quant::quantize(x, out, p, {.divide = Divide}); });
}
template <class Code> void dequantize_verb(row& r) {
    const affine_params p = params<Code>();
    const std::span c(codes<Code>(r.n), r.n);
    const std::span out(results<float>(r.n), r.n);
    r.run_verb([&] { return quant::dequantize(c, out, p); });
}
template <scale_by Divide> void fake_quant_verb(row& r) {
    const affine_params p = params<std::int8_t>();
    const std::span x(reals(r.n), r.n);
    const std::span out(results<float>(r.n), r.n);
    r.run_verb([&] { return quant::fake_quant(x, out, p, {.divide = Divide}); });
}
template <class Half> void quantize_half(row& r) {
    const affine_params p = params<std::int8_t>();
    std::vector<Half> x(r.n);
    for (std::size_t i = 0; i < r.n; ++i) x[i] = quant::from_float<Half>(reals(r.n)[i]);
    const std::span out(results<std::int8_t>(r.n), r.n);
    r.run_verb([&] { return quant::quantize(x, out, p); });
}

// ---- what a user writes by hand ---------------------------------------------------------------------------------------

template <class Code> void quantize_loop(row& r) {
    const affine_params p = params<Code>();
    const float lo = static_cast<float>(p.format.qmin()), hi = static_cast<float>(p.format.qmax());
    const float zero = static_cast<float>(p.zero_point);
    const float* const x = reals(r.n);
    Code* const out = results<Code>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i)
            out[i] = static_cast<Code>(std::min(std::max(std::nearbyint(x[i] / p.scale) + zero, lo), hi));
    });
}
template <class Code> void quantize_reciprocal_loop(row& r) {
    const affine_params p = params<Code>();
    const float lo = static_cast<float>(p.format.qmin()), hi = static_cast<float>(p.format.qmax());
    const float zero = static_cast<float>(p.zero_point), inverse = 1 / p.scale;
    const float* const x = reals(r.n);
    Code* const out = results<Code>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i)
            out[i] = static_cast<Code>(std::min(std::max(std::nearbyint(x[i] * inverse) + zero, lo), hi));
    });
}
template <class Code> void dequantize_loop(row& r) {
    const affine_params p = params<Code>();
    const Code* const c = codes<Code>(r.n);
    float* const out = results<float>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) out[i] = static_cast<float>(c[i] - p.zero_point) * p.scale;
    });
}
void fake_quant_loop(row& r) {
    const affine_params p = params<std::int8_t>();
    const float lo = static_cast<float>(p.format.qmin() - p.zero_point);
    const float hi = static_cast<float>(p.format.qmax() - p.zero_point);
    const float* const x = reals(r.n);
    float* const out = results<float>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i)
            out[i] = std::min(std::max(std::nearbyint(x[i] / p.scale), lo), hi) * p.scale;
    });
}

constexpr scale_by division = scale_by::division, reciprocal = scale_by::reciprocal;

template <class Code> void add_codes(const std::string& code) {
    const std::string to = "/f32_" + code + "/per_tensor", from = "/" + code + "_f32/per_tensor";
    for_each_arch([&]<class Arch> {
        add_kernel<f32_to_8, Arch>("quantize" + to, quantize_kernel<Arch, Code, division>);
        add_kernel<f32_to_8, Arch>("quantize_reciprocal" + to, quantize_kernel<Arch, Code, reciprocal>);
        add_kernel<byte_to_f32, Arch>("dequantize" + from, dequantize_kernel<Arch, Code>);
    });
    add<f32_to_8>("quantize" + to, "native", all_sizes, quantize_verb<Code, division>);
    add<f32_to_8>("quantize_reciprocal" + to, "native", all_sizes, quantize_verb<Code, reciprocal>);
    add<byte_to_f32>("dequantize" + from, "native", all_sizes, dequantize_verb<Code>);
    add<f32_to_8>("quantize" + to, "loop", all_sizes, quantize_loop<Code>);
    add<f32_to_8>("quantize_reciprocal" + to, "loop", all_sizes, quantize_reciprocal_loop<Code>);
    add<byte_to_f32>("dequantize" + from, "loop", all_sizes, dequantize_loop<Code>);
}

const bool registered = [] {
    add_codes<std::int8_t>("s8");
    add_codes<std::uint8_t>("u8");
    for_each_arch([]<class Arch> {
        add_kernel<f32_to_f32, Arch>("fake_quant/f32_f32/per_tensor", fake_quant_kernel<Arch, division>);
        add_kernel<f32_to_f32, Arch>("fake_quant_reciprocal/f32_f32/per_tensor", fake_quant_kernel<Arch, reciprocal>);
        add_kernel<f32_to_8, Arch>("quantize_stochastic/f32_s8/per_tensor", stochastic_kernel<Arch>, cache_sizes);
    });
    add<f32_to_f32>("fake_quant/f32_f32/per_tensor", "native", all_sizes, fake_quant_verb<division>);
    add<f32_to_f32>("fake_quant_reciprocal/f32_f32/per_tensor", "native", all_sizes, fake_quant_verb<reciprocal>);
    add<f32_to_f32>("fake_quant/f32_f32/per_tensor", "loop", all_sizes, fake_quant_loop);

    add<f16_to_8>("quantize/f16_s8/per_tensor", "native", cache_sizes, quantize_half<quant::float16>);
    add<f16_to_8>("quantize/bf16_s8/per_tensor", "native", cache_sizes, quantize_half<quant::bfloat16>);

    // The price of one call.
    const sizes one_call{16};
    add<f32_to_8>("quantize/f32_s8/per_tensor", "native", one_call, quantize_verb<std::int8_t, division>);
    add<f32_to_8>("quantize/f32_s8/per_tensor", name_of<widest>(), one_call,
                  quantize_kernel<widest, std::int8_t, division>);
    add<f32_to_8>("quantize/f32_s8/per_tensor", "loop", one_call, quantize_loop<std::int8_t>);
    return true;
}();

} // namespace
