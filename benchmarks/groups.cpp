// SPDX-License-Identifier: MIT
// Groups of 32 with a scale each, found on the way: to int8 codes and to packed int4, and back.
#include "benchmark.hpp"
#include <quant/groups.hpp>
#include <span>

namespace {

using namespace bench;

constexpr std::size_t group = 32;
constexpr std::size_t packed_int4(std::size_t n) { return n / 2; }

void quantize_int8(row& r) {
    const std::span<float> s(scales(r.n / group), r.n / group);
    const std::span x(reals(r.n), r.n);
    const std::span out(results<std::int8_t>(r.n), r.n);
    r.run_verb([&] { return quant::quantize_groups(x, out, s, quant::int8, group); });
}
void quantize_int4(row& r) {
    const std::span<float> s(scales(r.n / group), r.n / group);
    const std::span x(reals(r.n), r.n);
    const std::span out(results<std::byte>(packed_int4(r.n)), packed_int4(r.n));
    r.run_verb([&] { return quant::quantize_groups(x, out, s, quant::int4, group); });
}
void dequantize_int8(row& r) {
    const std::span<const float> s(scales(r.n / group), r.n / group);
    const std::span c(codes<std::int8_t>(r.n), r.n);
    const std::span out(results<float>(r.n), r.n);
    r.run_verb([&] { return quant::dequantize_groups(c, s, out, quant::int8, group); });
}
void dequantize_int4(row& r) {
    const std::span<const float> s(scales(r.n / group), r.n / group);
    const std::span c(codes<std::byte>(packed_int4(r.n)), packed_int4(r.n));
    const std::span out(results<float>(r.n), r.n);
    r.run_verb([&] { return quant::dequantize_groups(c, s, out, quant::int4, group); });
}

// ---- what a user writes by hand ---------------------------------------------------------------------------------------

/// Calls put(code of element i, i) with the scale of its group already in place.
template <class Put> void loop_over_groups(row& r, float lowest, float highest, Put put) {
    const float* const x = reals(r.n);
    float* const s = scales(r.n / group);
    r.run([&] {
        for (std::size_t g = 0; g < r.n / group; ++g) {
            float most = 0;
            for (std::size_t j = 0; j < group; ++j) most = std::max(most, std::abs(x[g * group + j]));
            s[g] = most / highest;
            const float inverse = most > 0 ? highest / most : 0;
            for (std::size_t j = 0; j < group; ++j) {
                const float q = std::nearbyint(x[g * group + j] * inverse);
                put(static_cast<std::int32_t>(std::min(std::max(q, lowest), highest)), g * group + j);
            }
        }
    });
}
void quantize_int8_loop(row& r) {
    auto* const out = results<std::int8_t>(r.n);
    loop_over_groups(r, -128, 127, [&](std::int32_t q, std::size_t i) { out[i] = static_cast<std::int8_t>(q); });
}
void quantize_int4_loop(row& r) {
    auto* const out = results<std::uint8_t>(packed_int4(r.n));
    loop_over_groups(r, -8, 7, [&](std::int32_t q, std::size_t i) {
        const auto nibble = static_cast<unsigned>(q) & 15u;
        out[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? nibble : out[i / 2] | nibble << 4);
    });
}
void dequantize_int8_loop(row& r) {
    const auto* const c = codes<std::int8_t>(r.n);
    const float* const s = scales(r.n / group);
    float* const out = results<float>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) out[i] = static_cast<float>(c[i]) * s[i / group];
    });
}
void dequantize_int4_loop(row& r) {
    const std::uint8_t* const c = bytes(packed_int4(r.n));
    const float* const s = scales(r.n / group);
    float* const out = results<float>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) {
            const int nibble = (c[i / 2] >> (i % 2 * 4)) & 15;
            out[i] = static_cast<float>((nibble ^ 8) - 8) * s[i / group];
        }
    });
}

const bool registered = [] {
    const std::string to = "quantize_groups/f32_", from = "dequantize_groups/", name = "/groups_of_32";
    add<f32_to_int8_groups>(to + "s8" + name, "native", all_sizes, quantize_int8);
    add<f32_to_int4_groups>(to + "int4" + name, "native", all_sizes, quantize_int4);
    add<int8_groups_to_f32>(from + "s8_f32" + name, "native", all_sizes, dequantize_int8);
    add<int4_groups_to_f32>(from + "int4_f32" + name, "native", all_sizes, dequantize_int4);
    add<f32_to_int8_groups>(to + "s8" + name, "loop", cache_sizes, quantize_int8_loop);
    add<f32_to_int4_groups>(to + "int4" + name, "loop", cache_sizes, quantize_int4_loop);
    add<int8_groups_to_f32>(from + "s8_f32" + name, "loop", cache_sizes, dequantize_int8_loop);
    add<int4_groups_to_f32>(from + "int4_f32" + name, "loop", cache_sizes, dequantize_int4_loop);
    return true;
}();

} // namespace
