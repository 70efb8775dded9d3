// SPDX-License-Identifier: MIT
#pragma once
// The output stage of an integer layer on views: int32 accumulators to codes. Layer 4 (quantize).
//
//   quant::requantize(acc, codes, multiplier, quant::all_codes(output));                          // one multiplier
//   auto s = quant::requantize(quant::view(acc, rows, channels), codes, multipliers, quant::per_axis(1), quant::relu_codes(output),
//                              {.rule = quant::requantization::double_rounding, .bias = bias});   // one per channel
//
// Multipliers are floats (rule float_multiplier) or quantized_multipliers (double_rounding, single_rounding). Definition and rules:
// core/requantize.hpp, docs/numerics.md. One pass, no allocation; any rank, strides and axis.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/granularity.hpp>
#include <quant/core/requantize.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/arch.hpp>
#include <quant/simd/reorder.hpp>
#include <quant/simd/requantize_kernels.hpp>
#include <quant/simd/tiles.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

/// What a requantization is free to choose.
struct requantize_options {
    requantization rule = requantization::float_multiplier;
    std::span<const std::int32_t> bias{}; ///< [one per multiplier] added first, saturating; empty: none
};

/// What multiplies an accumulator.
template <class T>
concept accumulator_multiplier_type = std::same_as<T, float> || std::same_as<T, quantized_multiplier>;

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// The multipliers of runs; where elements of a run have their own, as arrays that are kept while the same channels come again.
template <class Multiplier> class channel_tile {
public:
    channel_tile(std::span<const Multiplier> multipliers, std::span<const std::int32_t> bias) noexcept
        : multipliers_(multipliers.data()), biases_(bias.empty() ? nullptr : bias.data()) {}

    /// n channels from `slice` on, for `total` elements: the channels again and again. n > 0; n = total where there is no SIMD.
    simd::channel_run<Multiplier> load(std::size_t slice, std::size_t step, [[maybe_unused]] std::size_t n,
                                       [[maybe_unused]] std::size_t total) noexcept {
        simd::channel_run<Multiplier> run{multipliers_ + slice, biases_ == nullptr ? nullptr : biases_ + slice, step};
        if constexpr (vectors) {
            if constexpr (std::is_same_v<Multiplier, float>) {
                if (step == 1 && n == total && n % simd::widest_step == 0) { // as they stand
                    run.lanes = {run.multipliers, run.biases};
                    return run;
                }
            }
            if (step != 0) {
                if (slice != slice_ || step != step_ || n != n_ || total > total_) {
                    arrays_.load(run.multipliers, run.biases, step, n, total);
                    slice_ = slice;
                    step_ = step;
                    n_ = n;
                    total_ = total;
                }
                run.lanes = arrays_.lanes();
            }
        }
        return run;
    }

    static constexpr bool vectors = !simd::is_scalar<simd::native>;

private:
    struct nothing {};
    const Multiplier* multipliers_;
    const std::int32_t* biases_;
    std::size_t slice_ = 0, step_ = 0, n_ = 0, total_ = 0;
    [[no_unique_address]] std::conditional_t<vectors, simd::channel_arrays<Multiplier, run_tile>, nothing> arrays_;
};

/// Runs of any strides through a tile on the stack.
template <code_storage Code, class Multiplier>
[[gnu::noinline]] inline void requantize_run(const element_run<const std::int32_t, Code>& run,
                                             channel_tile<Multiplier>& channels, requantization rule,
                                             const output_codes& output) noexcept {
    if (run.src_stride == 1 && run.dst_stride == 1) {
        simd::requantize(run.src, run.dst, run.n, channels.load(run.slice, run.slice_step, run.n, run.n), rule, output);
        return;
    }
    std::int32_t dense[run_tile];
    Code codes[run_tile];
    for (std::size_t first = 0; first < run.n; first += run_tile) { // once, where elements have their own multipliers
        const std::size_t n = run.n - first < run_tile ? run.n - first : run_tile;
        simd::copy_strided(run.src + first * run.src_stride, run.src_stride, dense, 1, n);
        const auto own = channels.load(run.slice + first * run.slice_step, run.slice_step, n, n);
        simd::requantize(static_cast<const std::int32_t*>(dense), codes, n, own, rule, output);
        simd::copy_strided(static_cast<const Code*>(codes), 1, run.dst + first * run.dst_stride, run.dst_stride, n);
    }
}

/// All runs of a nest; without the rank in the types, so that it is compiled once.
template <code_storage Code, class Multiplier>
inline void requantize_nest(const loop_nest<const std::int32_t, Code>& nest, channel_tile<Multiplier>& channels,
                            requantization rule, const output_codes& output) noexcept {
    for_each_run(nest, [&](const element_run<const std::int32_t, Code>& run) noexcept {
        requantize_run(run, channels, rule, output);
    });
}

/// Whether the channels are the fastest dimension of two dense tensors, and few: rows are then taken several at a time.
template <std::size_t Rank>
[[nodiscard]] inline bool few_inner_channels(granularity g, const slice_map<Rank>& map,
                                             const std::array<std::size_t, Rank>& extents) noexcept {
    if (g.unit != granularity::kind::axis || map.count > run_tile) return false;
    for (std::size_t d = map.axis + 1; d < Rank; ++d)
        if (extents[d] != 1) return false;
    return true;
}

template <code_storage Code, std::size_t Rank, std::size_t DstRank, class Multiplier>
[[nodiscard]] inline status requantize_views(tensor_view<const std::int32_t, Rank> accumulators,
                                             tensor_view<Code, DstRank> dst, std::span<const Multiplier> multipliers,
                                             granularity g, const output_codes& output,
                                             const requantize_options& options) noexcept {
    constexpr bool in_float = std::is_same_v<Multiplier, float>;
    if (in_float != (options.rule == requantization::float_multiplier)) return {errc::invalid_argument, "options.rule"};
    if (const status s = validate(output); !s) return s;
    if (!holds<Code>(output.format)) return {errc::storage_too_narrow, "codes"};
    const auto map = resolve(g, accumulators.extents());
    if (!map) return map.status();
    if (multipliers.size() != map->count) return {errc::shape_mismatch, "multipliers"};
    if (!options.bias.empty() && options.bias.size() != map->count) return {errc::shape_mismatch, "options.bias"};
    for (const Multiplier& m : multipliers) {
        if constexpr (in_float) {
            if (!(m >= 0 && m <= std::numeric_limits<float>::max())) return {errc::invalid_scale, "multipliers"};
        } else {
            if (const status s = validate(m); !s) return s;
        }
    }
    const auto codes = with_extents(dst, accumulators.extents(), "codes");
    if (!codes) return codes.status();
    if (may_overlap(*codes)) return {errc::overlapping, "codes"};
    QUANT_EXPECTS(same_or_apart(accumulators, *codes), "quant::requantize: accumulators and codes do not overlap");
    if (accumulators.empty()) return {};

    channel_tile<Multiplier> channels(multipliers, options.bias);
    if constexpr (channel_tile<Multiplier>::vectors) {
        if (accumulators.is_contiguous() && codes->is_contiguous() &&
            few_inner_channels(g, *map, accumulators.extents())) {
            // The lanes of the fewest rows that are whole steps serve all rows in one run; else as many rows as they hold.
            const std::size_t n = accumulators.size(), count = map->count;
            std::size_t period = count;
            while (period % simd::widest_step != 0 && period + count <= run_tile) period += count;
            auto run = channels.load(0, 1, count, n < period ? n : period);
            const bool whole = period % simd::widest_step == 0;
            const std::size_t block = whole ? n : period;
            run.period = whole ? period : 0;
            for (std::size_t i = 0; i < n; i += block)
                simd::requantize(accumulators.data() + i, codes->data() + i, n - i < block ? n - i : block, run,
                                 options.rule, output);
            return {};
        }
    }
    requantize_nest(make_nest(accumulators, *codes, *map), channels, options.rule, output);
    return {};
}

/// One multiplier per weight scale, written by `put`.
template <class Put>
[[nodiscard]] inline status each_multiplier(float input_scale, std::span<const float> weight_scales, float output_scale,
                                            std::size_t room, Put put) noexcept {
    if (room != weight_scales.size()) return {errc::shape_mismatch, "multipliers"};
    if (!core_detail::is_legal_scale(input_scale)) return {errc::invalid_scale, "input_scale"};
    if (!core_detail::is_legal_scale(output_scale)) return {errc::invalid_scale, "output_scale"};
    for (const float scale : weight_scales)
        if (!core_detail::is_legal_scale(scale)) return {errc::invalid_scale, "weight_scales"};
    for (std::size_t c = 0; c < room; ++c)
        if (const status s = put(c, accumulator_multiplier(input_scale, weight_scales[c], output_scale)); !s) return s;
    return {};
}

} // namespace detail

/// Codes of accumulators, equation (22), with one multiplier per slice of the granularity: per_axis(1) for rows x channels as a
/// matrix product leaves them, per_axis(0) for channels x positions.
/// accumulators  int32, any strides            codes   same extents (or dense and one-dimensional)
/// multipliers   [slices], finite and >= 0     output  format, zero point, clamp          options  rule, bias per slice
/// Returns ok | invalid_argument "options.rule" (the rule is not one of this type of multiplier) | bits_out_of_range |
/// invalid_zero_point | invalid_range (no code is left) | storage_too_narrow | axis_out_of_range | invalid_group_size |
/// shape_mismatch | invalid_scale "multipliers" | overlapping; nothing is written unless ok.
/// Exactness: bit-exact. Cost: one pass. Source: Jacob et al. 2018 (arXiv 1712.05877), section 2.2.
template <viewable Accumulators, destination Codes>
    requires(std::same_as<element_of_t<Accumulators>, std::int32_t>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status requantize(const Accumulators& accumulators, Codes&& codes,
                                       std::span<const float> multipliers, granularity channels,
                                       const output_codes& output, const requantize_options& options = {}) noexcept {
    return detail::requantize_views(detail::view_const(accumulators), v0_1::view(codes), multipliers, channels, output,
                                    options);
}
template <viewable Accumulators, destination Codes>
    requires(std::same_as<element_of_t<Accumulators>, std::int32_t>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status requantize(const Accumulators& accumulators, Codes&& codes,
                                       std::span<const quantized_multiplier> multipliers, granularity channels,
                                       const output_codes& output, const requantize_options& options = {}) noexcept {
    return detail::requantize_views(detail::view_const(accumulators), v0_1::view(codes), multipliers, channels, output,
                                    options);
}
/// The same with one multiplier for the whole tensor; options.bias has one element or none.
template <viewable Accumulators, destination Codes, accumulator_multiplier_type Multiplier>
    requires(std::same_as<element_of_t<Accumulators>, std::int32_t>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status requantize(const Accumulators& accumulators, Codes&& codes, const Multiplier& multiplier,
                                       const output_codes& output, const requantize_options& options = {}) noexcept {
    return detail::requantize_views(detail::view_const(accumulators), v0_1::view(codes),
                                    std::span<const Multiplier>(&multiplier, 1), per_tensor, output, options);
}

/// Multipliers of a layer: input_scale * weight_scale / output_scale in double, rounded once to float or to fixed point.
/// weight_scales  [C], or one for the tensor        multipliers  same size
/// Returns ok | shape_mismatch | invalid_scale of a scale, or "multipliers" (2^30 and above in fixed point, beyond float's range);
/// multipliers may have been written then.
[[nodiscard]] inline status requantize_multipliers(float input_scale, std::span<const float> weight_scales,
                                                   float output_scale, std::span<float> multipliers) noexcept {
    return detail::each_multiplier(input_scale, weight_scales, output_scale, multipliers.size(),
                                   [&](std::size_t c, double real) -> status {
                                       if (real > static_cast<double>(std::numeric_limits<float>::max()))
                                           return {errc::invalid_scale, "multipliers"};
                                       multipliers[c] = static_cast<float>(real);
                                       return {};
                                   });
}
[[nodiscard]] inline status requantize_multipliers(float input_scale, std::span<const float> weight_scales,
                                                   float output_scale,
                                                   std::span<quantized_multiplier> multipliers) noexcept {
    return detail::each_multiplier(input_scale, weight_scales, output_scale, multipliers.size(),
                                   [&](std::size_t c, double real) -> status {
                                       const result<quantized_multiplier> fixed = quantize_multiplier(real);
                                       if (!fixed) return {fixed.status().code, "multipliers"};
                                       multipliers[c] = *fixed;
                                       return {};
                                   });
}

QUANT_END_TARGET
