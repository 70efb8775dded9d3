// SPDX-License-Identifier: MIT
#pragma once
// Bias corrections applied to restored values: real = gain * dequantized + shift, per slice. Layer 4 (quantize).

#include <cstddef>
#include <quant/core/granularity.hpp>
#include <quant/core/half.hpp>
#include <quant/core/params.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/batch.hpp>
#include <span>

QUANT_BEGIN_TARGET

/// The corrected value of one restored element, in double: the product of two floats is exact there, and that of a double is
/// rounded before the addition, so a fused multiply-add changes nothing. Bit-exact on every target.
template <real_element T> [[nodiscard]] inline T apply_correction(T value, const channel_correction& c) noexcept {
    double x = 0;
    if constexpr (std::same_as<T, double>)
        x = value;
    else
        x = static_cast<double>(to_float(value));
    const double corrected = simd::rounded(static_cast<double>(c.gain) * x) + static_cast<double>(c.shift);
    if constexpr (std::same_as<T, double>)
        return corrected;
    else
        return from_float<T>(static_cast<float>(corrected));
}

namespace detail {
template <real_element T>
inline void correct_nest(const loop_nest<T, T>& nest, std::span<const channel_correction> corrections) noexcept {
    for_each_run(nest, [&](const element_run<T, T>& run) noexcept {
        for (std::size_t i = 0; i < run.n; ++i) {
            T& x = run.dst[i * run.dst_stride];
            x = apply_correction(x, corrections[run.slice + i * run.slice_step]);
        }
    });
}
} // namespace detail

/// restored = gain * restored + shift in place, one correction per slice of the granularity.
/// Errors: shape_mismatch "corrections", axis_out_of_range, invalid_group_size. Cost: one pass.
template <destination Values>
    requires real_element<element_of_t<Values>>
[[nodiscard]] inline status apply_corrections(Values&& restored, std::span<const channel_correction> corrections,
                                              granularity g) noexcept {
    const auto values = v0_1::view(restored);
    const auto map = resolve(g, values.extents());
    if (!map) return map.status();
    if (corrections.size() != map->count) return {errc::shape_mismatch, "corrections"};
    detail::correct_nest(detail::make_nest(values, values, *map), corrections);
    return {};
}

QUANT_END_TARGET
