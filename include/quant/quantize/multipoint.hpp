// SPDX-License-Identifier: MIT
#pragma once
// The product of a multipoint layer: one ordinary low-bit product of all points, then a sum over the points of each channel. Layer 4
// (quantize).
//
//   std::vector<std::int32_t> sums(points);
//   if (auto s = quant::gemv(quant::view(codes, points, depth), x, sums); !s) return s;
//   if (auto s = quant::sum_points(sums, counts, steps, x_scale, y); !s) return s;
//
// or multipoint_gemv for both. y[c] = x_scale * (D_1 s_1 + D_2 s_2 + ...), every operation rounded to float, from the left.

#include <cstddef>
#include <cstdint>
#include <quant/core/status.hpp>
#include <quant/quantize/products.hpp>
#include <quant/simd/batch.hpp>
#include <span>

QUANT_BEGIN_TARGET

/// The segmented sum. sums [points], counts [channels] whose sum is `points`, steps [points], y [channels].
/// Errors: shape_mismatch "steps", "counts" or "y"; nothing is written then. Exactness: bit-exact. Cost: one pass.
[[nodiscard]] inline status sum_points(std::span<const std::int32_t> sums, std::span<const std::uint8_t> counts,
                                       std::span<const float> steps, float x_scale, std::span<float> y) noexcept {
    if (steps.size() != sums.size()) return {errc::shape_mismatch, "steps"};
    if (y.size() != counts.size()) return {errc::shape_mismatch, "y"};
    std::size_t points = 0;
    for (const std::uint8_t n : counts) points += n;
    if (points != sums.size()) return {errc::shape_mismatch, "counts"};
    std::size_t at = 0;
    for (std::size_t c = 0; c < counts.size(); ++c) {
        float total = 0;
        for (const std::size_t end = at + counts[c]; at < end; ++at)
            total += simd::rounded(static_cast<float>(sums[at]) * steps[at]);
        y[c] = total * x_scale;
    }
    return {};
}

/// y = x_scale * (points of each channel, times x), for weights that gemv takes: codes of 8 bits, packed 4 bits or bit planes.
/// w  [points, depth]       x  [depth] codes       sums  [points] scratch       counts, y  [channels]       steps  [points]
/// Errors: those of gemv, and of sum_points. Exactness: bit-exact.
template <class W, class X>
[[nodiscard]] inline status multipoint_gemv(const W& w, const X& x, std::span<const std::uint8_t> counts,
                                            std::span<const float> steps, float x_scale, std::span<std::int32_t> sums,
                                            std::span<float> y) noexcept {
    if (const status s = gemv(w, x, sums); !s) return s;
    return sum_points(sums, counts, steps, x_scale, y);
}

QUANT_END_TARGET
