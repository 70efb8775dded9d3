// SPDX-License-Identifier: MIT
// The output stage of an integer layer: int32 accumulators to int8, by each of the rules.
#include "benchmark.hpp"
#include <quant/requantize.hpp>
#include <span>

namespace {

using namespace bench;
using quant::quantized_multiplier;
using quant::requantization;

constexpr std::size_t channels = 256;
const quant::output_codes relu{quant::int8, -5, -5};

/// Accumulators whose codes fill the range.
const std::int32_t* accumulators(std::size_t n) {
    static input<std::int32_t> in(0, [](std::size_t i) { return static_cast<std::int32_t>(normal(i) * 20000); });
    return in.first(n);
}
template <class Multiplier> std::vector<Multiplier> multipliers(std::size_t n) {
    std::vector<float> weights(n), real(n);
    std::vector<Multiplier> m(n);
    for (std::size_t i = 0; i < n; ++i) weights[i] = 0.01f + 1e-5f * static_cast<float>(i);
    if (!quant::requantize_multipliers(0.02f, weights, 0.1f, std::span<Multiplier>(m))) std::abort();
    return m;
}

template <class Arch, class Multiplier, requantization Rule> void kernel(row& r) {
    const std::int32_t* const a = accumulators(r.n);
    auto* const out = results<std::int8_t>(r.n);
    const std::vector<Multiplier> m = multipliers<Multiplier>(1);
    const quant::simd::channel_run<Multiplier> run{m.data(), nullptr, 0, {}};
    r.run([&] { quant::simd::requantize<Arch>(a, out, r.n, run, Rule, relu); });
}
/// Rows x channels with a bias, as a matrix product leaves them.
template <class Multiplier, requantization Rule> void channels_last(row& r) {
    const auto a = quant::view(accumulators(r.n), r.n / channels, channels);
    const auto out = quant::view(results<std::int8_t>(r.n), r.n / channels, channels);
    const std::vector<Multiplier> m = multipliers<Multiplier>(channels);
    const std::vector<std::int32_t> bias(channels, 1000);
    r.run_verb([&] { return quant::requantize(a, out, m, quant::per_axis(1), relu, {.rule = Rule, .bias = bias}); });
}

// ---- what a user writes by hand ---------------------------------------------------------------------------------------

void float_loop(row& r) {
    const std::int32_t* const a = accumulators(r.n);
    auto* const out = results<std::int8_t>(r.n);
    const float m = multipliers<float>(1)[0];
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) {
            const float q = std::nearbyint(static_cast<float>(a[i]) * m) - 5;
            out[i] = static_cast<std::int8_t>(std::min(std::max(q, -5.0f), 127.0f));
        }
    });
}
void fixed_loop(row& r) {
    const std::int32_t* const a = accumulators(r.n);
    auto* const out = results<std::int8_t>(r.n);
    const quantized_multiplier m = multipliers<quantized_multiplier>(1)[0];
    const std::int64_t half = std::int64_t{1} << (30 - m.shift);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) {
            const std::int64_t q = ((std::int64_t{a[i]} * m.mantissa + half) >> (31 - m.shift)) - 5;
            out[i] = static_cast<std::int8_t>(std::min<std::int64_t>(std::max<std::int64_t>(q, -5), 127));
        }
    });
}

const bool registered = [] {
    const std::string name = "requantize/s32_s8_";
    const std::string rule[] = {"float", "double_rounding", "single_rounding"};
    for_each_arch([&]<class Arch>() {
        constexpr auto twice = requantization::double_rounding, once = requantization::single_rounding;
        add_kernel<f32_to_8, Arch>(name + rule[0] + "/per_tensor",
                                   kernel<Arch, float, requantization::float_multiplier>);
        add_kernel<f32_to_8, Arch>(name + rule[1] + "/per_tensor", kernel<Arch, quantized_multiplier, twice>,
                                   cache_sizes);
        add_kernel<f32_to_8, Arch>(name + rule[2] + "/per_tensor", kernel<Arch, quantized_multiplier, once>,
                                   cache_sizes);
    });
    add<f32_to_8>(name + rule[0] + "/channels_last", "native", all_sizes,
                  channels_last<float, requantization::float_multiplier>);
    add<f32_to_8>(name + rule[1] + "/channels_last", "native", cache_sizes,
                  channels_last<quantized_multiplier, requantization::double_rounding>);
    add<f32_to_8>(name + rule[2] + "/channels_last", "native", cache_sizes,
                  channels_last<quantized_multiplier, requantization::single_rounding>);
    add<f32_to_8>(name + rule[0] + "/per_tensor", "loop", cache_sizes, float_loop);
    add<f32_to_8>(name + rule[2] + "/per_tensor", "loop", cache_sizes, fixed_loop);
    return true;
}();

} // namespace
