// SPDX-License-Identifier: MIT
#pragma once
// What an integer layer adds to its accumulators: the quantized bias, and the exact terms of the zero points. Layer 4 (quantize).
//
//   auto report = quant::quantize_bias(bias, input.scale, weight_scales, integer_bias);              // int32, scale s_x s_w
//   if (auto s = quant::code_sums(weight_codes, weight_sums, quant::per_axis(0)); !s) return s;
//   auto s = quant::accumulator_zero_point_correction(weight_sums, weight_zero_points, input.zero_point, depth, terms);
//
// A layer wants sum((q_w - z_w)(q_x - z_x)) over the `depth` products of one output; its inner loop computes sum(q_w q_x). With
// S_w = sum(q_w), known before any input is, and S_x = sum(q_x), one number per output position that all channels share,
//
//   sum((q_w - z_w)(q_x - z_x)) = sum(q_w q_x) - z_x S_w + depth z_w z_x - z_w S_x                              (23)
//
// The two terms in the middle are one integer per channel and go into the bias (accumulator_zero_point_correction); the last one
// vanishes for symmetric weights, else subtract_zero_point_products takes it off. A bias correction of the weights
// (calibrate/bias_correction.hpp) is a real zero point z_w - shift / (gain scale) and takes the same way: docs/numerics.md.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/granularity.hpp>
#include <quant/core/half.hpp>
#include <quant/core/params.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/dynamic.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/batch.hpp>
#include <quant/simd/tiles.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// What became of a bias.
struct bias_report {
    std::size_t saturated = 0; ///< channels whose bias does not fit int32; they have the nearest code that does
    std::uint32_t largest = 0; ///< largest magnitude of a code: what the accumulators must leave room for
    friend constexpr bool operator==(const bias_report&, const bias_report&) = default;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// Nearest integer, ties to even, of any finite double, saturated to int32; sets `saturated` where it had to be.
[[nodiscard]] QUANT_INLINE std::int32_t saturated_even(double value, bool& saturated) noexcept {
    constexpr auto lo = static_cast<double>(std::numeric_limits<std::int32_t>::min()),
                   hi = static_cast<double>(std::numeric_limits<std::int32_t>::max());
    // The halves themselves are ties: lo is even and takes its own, hi is odd and would give it away.
    saturated = value < lo - 0.5 || value >= hi + 0.5;
    if (value <= lo) return std::numeric_limits<std::int32_t>::min();
    if (value >= hi) return std::numeric_limits<std::int32_t>::max();
    return core_detail::round_to_int(value);
}

/// f(position, channel, accumulator) for a view of accumulators with the channels on dimension `axis`.
template <std::size_t Rank, class F>
inline void for_each_accumulator(const tensor_view<std::int32_t, Rank>& accumulators, std::size_t axis, F f) noexcept {
    std::array<std::size_t, Rank> at{};
    if (accumulators.empty()) return;
    for (;;) {
        std::size_t offset = 0, position = 0;
        for (std::size_t d = 0; d < Rank; ++d) {
            offset += at[d] * accumulators.stride(d);
            if (d != axis) position = position * accumulators.extent(d) + at[d];
        }
        const std::size_t inner = Rank - 1; // a whole row of the last dimension
        std::int32_t* const row = accumulators.data() + offset;
        for (std::size_t i = 0; i < accumulators.extent(inner); ++i)
            f(inner == axis ? position : position + i, inner == axis ? i : at[axis],
              row[i * accumulators.stride(inner)]);
        std::size_t d = inner;
        while (d > 0 && ++at[d - 1] == accumulators.extent(d - 1)) at[--d] = 0;
        if (d == 0) return;
    }
}

template <std::size_t Rank, class Zero>
[[nodiscard]] inline status subtract_products(const tensor_view<std::int32_t, Rank>& accumulators,
                                              std::span<const std::int32_t> input_sums,
                                              std::span<const Zero> zero_points, granularity channels) noexcept {
    if (channels.unit != granularity::kind::axis) return {errc::invalid_argument, "channels"};
    const auto map = resolve(channels, accumulators.extents());
    if (!map) return map.status();
    if (zero_points.size() != 1 && zero_points.size() != map->count) return {errc::shape_mismatch, "zero_points"};
    std::size_t positions = 1;
    for (std::size_t d = 0; d < Rank; ++d)
        if (d != map->axis) positions *= accumulators.extent(d);
    if (input_sums.size() != positions) return {errc::shape_mismatch, "input_sums"};
    if (may_overlap(accumulators)) return {errc::overlapping, "accumulators"};
    if constexpr (!std::same_as<Zero, std::int32_t>)
        for (const double z : zero_points)
            if (!(z >= -0x1p20 && z <= 0x1p20)) return {errc::invalid_zero_point, "zero_points"};
    const bool shared = zero_points.size() == 1;
    for_each_accumulator(
        accumulators, map->axis, [&](std::size_t position, std::size_t channel, std::int32_t& a) noexcept {
            const Zero zero = zero_points[shared ? 0 : channel];
            std::uint32_t product = 0; // modulo 2^32: what leaves int32 on the way comes back
            if constexpr (std::same_as<Zero, std::int32_t>) {
                product = static_cast<std::uint32_t>(zero) * static_cast<std::uint32_t>(input_sums[position]);
            } else {
                const double exact = simd::rounded(zero * input_sums[position]); // below 2^52
                product = static_cast<std::uint32_t>(core_detail::round_to_int<std::int64_t>(exact));
            }
            a = static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - product);
        });
    return {};
}

} // namespace detail

/// The bias of a layer in units of its accumulators: round(bias / (input_scale * weight_scale)), zero point 0, saturated to int32.
/// The product of the scales is exact in double, the quotient is rounded to double, then to the nearest integer, ties to even.
/// bias           [C] real, any stride       weight_scales  [C], or one for all
/// integer_bias   [C] int32
/// Returns how many channels saturated, and the largest magnitude. Errors: invalid_scale, shape_mismatch "weight_scales" or
/// "integer_bias", non_finite "bias", overlapping; nothing is written then. Exactness: bit-exact.
/// Source: Jacob et al. 2018 (arXiv 1712.05877), section 2.4.
template <viewable Bias, destination IntegerBias>
    requires(real_element<element_of_t<Bias>>&& std::same_as<element_of_t<IntegerBias>, std::int32_t>)
[[nodiscard]] inline result<bias_report> quantize_bias(const Bias& bias, float input_scale,
                                                       std::span<const float> weight_scales,
                                                       IntegerBias&& integer_bias) noexcept {
    const auto from = detail::view_const(bias);
    const auto to = v0_1::view(integer_bias);
    static_assert(decltype(from)::rank == 1 && decltype(to)::rank == 1, "quant::quantize_bias: one bias per channel");
    if (!core_detail::is_legal_scale(input_scale)) return status{errc::invalid_scale, "input_scale"};
    for (const float scale : weight_scales)
        if (!core_detail::is_legal_scale(scale)) return status{errc::invalid_scale, "weight_scales"};
    if (weight_scales.size() != 1 && weight_scales.size() != from.size())
        return status{errc::shape_mismatch, "weight_scales"};
    if (to.size() != from.size()) return status{errc::shape_mismatch, "integer_bias"};
    if (detail::may_overlap(to)) return status{errc::overlapping, "integer_bias"};
    const auto real = [&](std::size_t c) {
        if constexpr (std::same_as<typename decltype(from)::value_type, double>)
            return from(c);
        else
            return static_cast<double>(to_float(from(c)));
    };
    for (std::size_t c = 0; c < from.size(); ++c)
        if (!core_detail::is_finite(real(c))) return status{errc::non_finite, "bias"};
    bias_report report;
    for (std::size_t c = 0; c < from.size(); ++c) {
        const float weight_scale = weight_scales[weight_scales.size() == 1 ? 0 : c];
        const double scale = static_cast<double>(input_scale) * static_cast<double>(weight_scale);
        const double quotient = real(c) / scale;
        bool saturated = false;
        const std::int32_t code = detail::saturated_even(quotient, saturated);
        to(c) = code;
        report.saturated += saturated ? 1 : 0;
        const std::uint32_t magnitude =
            code < 0 ? 0u - static_cast<std::uint32_t>(code) : static_cast<std::uint32_t>(code);
        report.largest = magnitude > report.largest ? magnitude : report.largest;
    }
    return report;
}

/// Sums of codes, one per slice: S_w of equation (23) with per_axis(0) over the weights of a layer.
/// codes  any strides           sums  one per slice of the granularity
/// Errors: shape_mismatch "sums", axis_out_of_range, invalid_group_size, invalid_argument "sums" (a slice has so many elements that
/// a sum could leave int32). Exactness: exact.
template <viewable Codes>
    requires(code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status code_sums(const Codes& codes, std::span<std::int32_t> sums, granularity slices) noexcept {
    const auto from = detail::view_const(codes);
    const auto map = resolve(slices, from.extents());
    if (!map) return map.status();
    if (sums.size() != map->count) return {errc::shape_mismatch, "sums"};
    constexpr code_format format = full_range_format<element_of_t<Codes>>;
    constexpr auto largest_code = static_cast<std::size_t>(format.is_signed ? -format.qmin() : format.qmax());
    if (detail::largest_slice(slices, *map, from.extents()) > std::numeric_limits<std::int32_t>::max() / largest_code)
        return {errc::invalid_argument, "sums"};
    for (std::size_t s = 0; s < sums.size(); ++s)
        sums[s] = static_cast<std::int32_t>(detail::sum_of(detail::slice_at(from, slices, *map, s)));
    return {};
}

/// The terms of equation (23) that are known before the input is, one per channel: depth * z_w * z_x - z_x * S_w.
/// weight_sums         [C] S_w              weight_zero_points  [C], one for all, or none (symmetric weights)
/// input_zero_point    z_x; products that padding adds must have the input code z_x and count in depth
/// depth               products per output: 0 where the S_x of the other term are sums of (q_x - z_x)
/// terms               [C], written; `add_to` [C] or empty (the integer bias) is added; may be `terms` itself
/// Errors: shape_mismatch, invalid_argument "depth" (above 2^31 - 1), invalid_zero_point (beyond +-65535),
/// invalid_argument "terms" (one does not fit int32; others may have been written). Exactness: exact.
[[nodiscard]] inline status accumulator_zero_point_correction(std::span<const std::int32_t> weight_sums,
                                                              std::span<const std::int32_t> weight_zero_points,
                                                              std::int32_t input_zero_point, std::size_t depth,
                                                              std::span<std::int32_t> terms,
                                                              std::span<const std::int32_t> add_to = {}) noexcept {
    const auto legal = [](std::int32_t zero) { return zero >= -65535 && zero <= 65535; };
    const std::size_t n = weight_sums.size();
    if (terms.size() != n) return {errc::shape_mismatch, "terms"};
    if (weight_zero_points.size() > 1 && weight_zero_points.size() != n)
        return {errc::shape_mismatch, "weight_zero_points"};
    if (!add_to.empty() && add_to.size() != n) return {errc::shape_mismatch, "add_to"};
    if (depth > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
        return {errc::invalid_argument, "depth"};
    if (!legal(input_zero_point)) return {errc::invalid_zero_point, "input_zero_point"};
    for (const std::int32_t zero : weight_zero_points)
        if (!legal(zero)) return {errc::invalid_zero_point, "weight_zero_points"};
    for (std::size_t c = 0; c < n; ++c) {
        std::int64_t zero = 0;
        if (!weight_zero_points.empty()) zero = weight_zero_points[weight_zero_points.size() == 1 ? 0 : c];
        // At most (2^31 - 1) 65535^2 + 2^31 65535 + 2^31, below 2^63.
        const std::int64_t products = static_cast<std::int64_t>(depth) * (zero * input_zero_point);
        const std::int64_t sums = std::int64_t{input_zero_point} * weight_sums[c];
        const std::int64_t term = products - sums + (add_to.empty() ? 0 : add_to[c]);
        if (term < std::numeric_limits<std::int32_t>::min() || term > std::numeric_limits<std::int32_t>::max())
            return {errc::invalid_argument, "terms"};
        terms[c] = static_cast<std::int32_t>(term);
    }
    return {};
}

/// The last term of equation (23): accumulators -= zero_point of the channel * sum of the inputs of the position.
/// accumulators   int32, any strides, changed      zero_points  one per channel, or one for all
/// channels       per_axis: the dimension of the channels
/// input_sums     one per position: the elements of the accumulators without the channels' dimension, in row-major order
/// Modulo 2^32, so that the result is exact whenever it fits int32, whatever the terms on the way.
/// Errors: shape_mismatch "zero_points" or "input_sums", axis_out_of_range, overlapping, invalid_argument "channels" (not an axis).
template <destination Accumulators>
    requires(std::same_as<element_of_t<Accumulators>, std::int32_t>)
[[nodiscard]] inline status subtract_zero_point_products(Accumulators&& accumulators,
                                                         std::span<const std::int32_t> input_sums,
                                                         std::span<const std::int32_t> zero_points,
                                                         granularity channels) noexcept {
    return detail::subtract_products(v0_1::view(accumulators), input_sums, zero_points, channels);
}
/// The same with real zero points, as fractional_zero_point gives them for corrected weights: the product is rounded to the nearest
/// integer, ties to even, half a unit of the accumulators from the exact one at most. The sums are those of (q_x - z_x).
/// Further error: invalid_zero_point "zero_points" (not within +-2^20).
template <destination Accumulators>
    requires(std::same_as<element_of_t<Accumulators>, std::int32_t>)
[[nodiscard]] inline status subtract_zero_point_products(Accumulators&& accumulators,
                                                         std::span<const std::int32_t> input_sums,
                                                         std::span<const double> zero_points,
                                                         granularity channels) noexcept {
    return detail::subtract_products(v0_1::view(accumulators), input_sums, zero_points, channels);
}

QUANT_END_TARGET
