// SPDX-License-Identifier: MIT
#pragma once
// Quantizing by a scheme: statistics, clipping, widths, parameters, codes and corrections in one call. Layer 4 (quantize).
//
//   constexpr auto scheme = quant::int4 | quant::per_axis(0) | quant::aciq() | quant::bias_corrected;
//   auto q = quant::quantize(quant::view(w, 64, 3, 3, 3), scheme);           // result<quantized_tensor>, the allocating call
//   auto s = quant::quantize(view, codes, params, scheme, {corrections, workspace});     // the same bytes, your buffers
//
// Every step is one of the library's free functions, so doing them one by one gives the same bytes:
//   choose_params per slice (for_each_slice), allocate_bits, quantize, prune_planes, bias_correction.

#include <cstddef>
#include <cstdint>
#include <quant/calibrate/bit_allocation.hpp>
#include <quant/calibrate/empirical.hpp>
#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/moments.hpp>
#include <quant/calibrate/workspace.hpp>
#include <quant/quantize/bit_planes.hpp>
#include <quant/quantize/quantize.hpp>
#include <quant/quantize/quantized_tensor.hpp>
#include <quant/quantize/scheme.hpp>
#include <span>

QUANT_BEGIN_TARGET
namespace detail {

/// A scheme with its defaults filled in, but for the clipping.
struct plan_base {
    code_format format = int8;
    v0_1::granularity granularity = per_tensor;
    v0_1::mapping mapping = v0_1::mapping::symmetric;
    quantize_options options{};
    statistics taken = statistics::unspecified;
    bool allocates = false;
    average_bits_part average{};
    bool has_widths = false;
    std::span<const std::uint8_t> widths{};
    bool corrects = false;
    correct correction = correct::mean;
    bool sparsifies = false;
    prune_options sparsity{};
};
template <class Clipping> struct plan : plan_base { Clipping clipping{}; };

template <class... Parts> struct clipping_of { using type = minmax_clipping; };
template <class First, class... Rest> struct clipping_of<First, Rest...> {
    using type = typename std::conditional_t<kind_of<First> == part_kind::clipping, std::type_identity<First>,
                                             clipping_of<Rest...>>::type;
};

template <class... Parts> [[nodiscard]] inline auto make_plan(const scheme<Parts...>& s) noexcept {
    plan<typename clipping_of<Parts...>::type> p;
    s.template with<part_kind::format>([&](code_format f) { p.format = f; });
    p.mapping = p.format.is_signed ? mapping::symmetric : mapping::affine;
    s.template with<part_kind::mapping>([&](mapping m) { p.mapping = m; });
    s.template with<part_kind::granularity>([&](granularity g) { p.granularity = g; });
    s.template with<part_kind::rounding>([&]<class R>(R r) {
        if constexpr (std::same_as<R, rounding>) {
            p.options.round = r;
        } else {
            p.options.round = rounding::stochastic;
            p.options.seed = r.seed;
            p.options.stream = r.stream;
            p.options.first_index = r.first_index;
        }
    });
    s.template with<part_kind::scale_by>([&](scale_by d) { p.options.divide = d; });
    s.template with<part_kind::statistics>([&](statistics t) { p.taken = t; });
    s.template with<part_kind::clipping>([&](const auto& c) { p.clipping = c; });
    s.template with<part_kind::width>([&]<class W>(const W& w) {
        if constexpr (std::same_as<W, bits_part>) {
            p.has_widths = true;
            p.widths = w.widths;
        } else {
            p.allocates = true;
            p.average = w;
        }
    });
    s.template with<part_kind::correction>([&](bias_corrected_part c) {
        p.corrects = true;
        p.correction = c.what;
    });
    s.template with<part_kind::sparsity>([&](bit_sparsified_part b) {
        p.sparsifies = true;
        p.sparsity.max_planes = b.max_planes;
    });
    return p;
}

} // namespace detail

/// Parameters for a tensor in hand: gathers what the clipping needs, clips, and turns the range into parameters.
/// src       real values; NaN and infinities are left out of the statistics
/// clipping  minmax, percentile(...), mse_optimal, entropy or aciq(...)
/// taken     for ACIQ on unsigned formats: whether src holds values from before or after the ReLU
/// An empty or all-zero tensor gives scale 1. Errors: those of the clipping and of choose_params(clip_range, ...).
/// Cost: min-max one pass, ACIQ two, empirical too (below 4096 elements, where tables cost more than passes, about twelve), the
/// histogram-based ones one pass and a search. Histograms have 16 KiB on the stack, the empirical one 40 KiB more.
template <viewable Src, class Clipping>
    requires(real_element<element_of_t<Src>>&& detail::kind_of<Clipping> == detail::part_kind::clipping)
[[nodiscard]] inline result<affine_params> choose_params(const Src& src, code_format format, mapping map,
                                                         const Clipping& clipping,
                                                         statistics taken = statistics::unspecified) noexcept {
    const auto range = [&]() -> result<clip_range> {
        if constexpr (std::same_as<Clipping, minmax_clipping>) {
            minmax_observer observer;
            observer.observe(src);
            return clipping.clip(observer, format, map);
        } else if constexpr (std::same_as<Clipping, aciq_clipping>) {
            constexpr std::size_t enough_for_tables = 4096;
            if (clipping.mode == aciq_mode::empirical && src.size() >= enough_for_tables)
                return clip_empirical(src, format, taken);
            const tensor_statistics statistics_of_src = measure_statistics(src, taken);
            if (clipping.mode == aciq_mode::empirical)
                return clipping.clip_empirical(statistics_of_src, format, empirical_tail(src, format, taken));
            return clipping.clip(statistics_of_src, format);
        } else {
            histogram_observer<> observer;
            observer.observe(src);
            return clipping.clip(observer, format, map);
        }
    }();
    if (!range) {
        if (range.status().code == errc::no_data) return choose_params(clip_range{}, format, map);
        return range.status();
    }
    return choose_params(*range, format, map);
}

/// Buffers of a call that allocates nothing.
struct scheme_buffers {
    std::span<channel_correction> corrections{}; ///< one per slice, when the scheme has bias_corrected
    std::span<std::byte> workspace{};            ///< quantize_workspace_size bytes, when the scheme has average_bits
};

namespace detail {

[[nodiscard]] inline std::size_t workspace_for(std::size_t slices, bool allocates) noexcept {
    if (!allocates) return 0;
    return slices * (sizeof(double) + sizeof(std::uint64_t) + sizeof(std::uint8_t)) + 2 * alignof(std::max_align_t) +
           allocate_bits_workspace_size(slices);
}

/// The spread a slice's width is allocated by: what its clipping makes the quantization error proportional to.
template <class Clipping, class View>
[[nodiscard]] inline double allocation_spread(const View& slice, const plan<Clipping>& p) noexcept {
    if constexpr (std::same_as<Clipping, minmax_clipping>) {
        minmax_observer observer;
        observer.observe(slice);
        const auto range = observer.clip();
        if (!range) return 0;
        return p.mapping == mapping::affine ? 0.5 * ((range->hi > 0 ? range->hi : 0) - (range->lo < 0 ? range->lo : 0))
                                            : (range->hi > -range->lo ? range->hi : -range->lo);
    } else {
        prior density = prior::gauss;
        if constexpr (std::same_as<Clipping, aciq_clipping>)
            if (p.clipping.density == prior::laplace) density = prior::laplace; // automatic: one measure for all slices
        return estimate_spread(measure_statistics(slice, p.taken), density).value;
    }
}

/// Everything but the codes: widths, clip ranges, parameters.
template <class Clipping, real_element T, std::size_t Rank>
[[nodiscard]] inline status choose_planned(tensor_view<const T, Rank> src, std::span<affine_params> params,
                                           const plan<Clipping>& p, scheme_buffers buffers) noexcept {
    if (const status s = validate(p.format); !s) return s;
    const auto map = resolve(p.granularity, src.extents());
    if (!map) return map.status();
    if (params.size() != map->count) return {errc::shape_mismatch, "params"};
    if (p.corrects && buffers.corrections.size() != map->count) return {errc::shape_mismatch, "corrections"};
    if (p.has_widths && p.widths.size() != map->count) return {errc::shape_mismatch, "bits"};

    std::span<const std::uint8_t> widths = p.widths;
    status outcome{};
    if (p.allocates && map->count > 0) {
        if (p.format.bits > 8) return {errc::bits_out_of_range, "average_bits"};
        arena memory(buffers.workspace);
        const std::span spreads(memory.take<double>(map->count), map->count);
        const std::span counts(memory.take<std::uint64_t>(map->count), map->count);
        const std::span chosen(memory.take<std::uint8_t>(map->count), map->count);
        if (!memory.ok()) return {errc::buffer_too_small, "workspace"};
        for (std::size_t s = 0; s < map->count; ++s) {
            const auto slice = slice_at(src, p.granularity, *map, s);
            spreads[s] = allocation_spread(slice, p);
            counts[s] = slice.size();
        }
        bit_allocation_options how;
        how.average_bits = p.average.mean;
        how.min_bits = p.average.min_bits;
        how.max_bits = p.average.max_bits;
        outcome = allocate_bits(spreads, chosen, how, counts, memory.rest());
        if (!outcome) return outcome;
        widths = chosen;
    }
    for (std::size_t s = 0; s < map->count; ++s) {
        const code_format format = widths.empty() ? p.format : p.format.with_bits(widths[s]);
        const auto chosen =
            choose_params(slice_at(src, p.granularity, *map, s), format, p.mapping, p.clipping, p.taken);
        if (!chosen) return chosen.status();
        params[s] = *chosen;
    }
    return {};
}

/// The codes, and the corrections that need them.
template <real_element T, code_storage Code, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] inline status quantize_planned(tensor_view<const T, Rank> src, tensor_view<Code, DstRank> codes,
                                             std::span<const affine_params> params, const plan_base& p,
                                             std::span<channel_correction> corrections) noexcept {
    if (const status s = quantize_views(src, codes, params, p.granularity, p.options); !s) return s;
    if (!p.corrects && !p.sparsifies) return {};
    const auto written = with_extents(codes, src.extents(), "codes");
    if (!written) return written.status();
    if (p.sparsifies) {
        if constexpr (sizeof(Code) == 1) {
            const auto pruned = prune_planes(*written, params, p.granularity, p.sparsity);
            if (!pruned) return pruned.status();
        } else {
            return {errc::bits_out_of_range, "bit_sparsified"};
        }
    }
    if (!p.corrects) return {};
    return bias_correction(src, *written, params, corrections, p.granularity, p.correction);
}

// The two calls below, once for each clipping and types: a program that builds its scheme from options has hundreds of scheme types.
template <class Clipping, real_element T, code_storage Code, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] inline status quantize_by(tensor_view<const T, Rank> src, tensor_view<Code, DstRank> codes,
                                        std::span<affine_params> params, const plan<Clipping>& p,
                                        scheme_buffers buffers) noexcept {
    if (const status chosen = choose_planned(src, params, p, buffers); !chosen) return chosen;
    return quantize_planned(src, codes, params, p, buffers.corrections);
}

#if !defined(QUANT_NO_HEAP)
template <class Clipping, real_element T, std::size_t Rank>
[[nodiscard]] inline result<quantized_tensor> quantize_new(tensor_view<const T, Rank> src,
                                                           const plan<Clipping>& p) noexcept {
    if (const status valid = validate(p.format); !valid) return valid;
    const auto slices = slice_count(src, p.granularity);
    if (!slices) return slices.status();
    quantized_tensor q;
    core_detail::owned_array<std::byte> workspace;
    if (!q.allocate(src.extents(), p.format, p.granularity, *slices, p.corrects) ||
        !workspace.allocate(workspace_for(*slices, p.allocates)))
        return status{errc::out_of_memory, "src"};
    status outcome = choose_planned(src, q.mutable_params(), p, {q.mutable_corrections(), workspace.span()});
    if (!outcome) return outcome;
    const auto into = [&](auto codes) {
        return quantize_planned(src, v0_1::view(codes), q.params(), p, q.mutable_corrections());
    };
    if (p.format.bits <= 8)
        outcome = p.format.is_signed ? into(q.mutable_codes<std::int8_t>()) : into(q.mutable_codes<std::uint8_t>());
    else
        outcome = p.format.is_signed ? into(q.mutable_codes<std::int16_t>()) : into(q.mutable_codes<std::uint16_t>());
    if (!outcome) return outcome;
    return q;
}
#endif

} // namespace detail

/// Bytes of workspace the buffered call below needs for this tensor and scheme; 0 unless the scheme has average_bits.
template <viewable Src, class... Parts>
[[nodiscard]] inline result<std::size_t> quantize_workspace_size(const Src& src, const scheme<Parts...>& s) noexcept {
    const auto p = detail::make_plan(s);
    const auto slices = slice_count(src, p.granularity);
    if (!slices) return slices;
    return detail::workspace_for(*slices, p.allocates);
}

/// Quantizes by a scheme into the caller's buffers; allocates nothing.
/// src     real values, any strides                codes   same extents (or dense and one-dimensional)
/// params  one per slice, written                  buffers corrections and workspace where the scheme needs them
/// Errors: those of the steps, naming their argument; shape_mismatch, buffer_too_small. On error the destinations are unspecified.
template <viewable Src, destination Codes, class... Parts>
    requires(real_element<element_of_t<Src>>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status quantize(const Src& src, Codes&& codes, std::span<affine_params> params,
                                     const scheme<Parts...>& s, scheme_buffers buffers = {}) noexcept {
    static_assert(sizeof(element_of_t<Codes>) == 1 || !scheme<Parts...>::template has<detail::part_kind::sparsity>,
                  "quant scheme: bit_sparsified and codes of 16 bits; bit planes hold codes of up to 8 bits");
    return detail::quantize_by(detail::view_const(src), v0_1::view(codes), params, detail::make_plan(s), buffers);
}

#if !defined(QUANT_NO_HEAP)
/// Quantizes by a scheme (or a single part of one) into a new tensor. The one call of the library that allocates.
/// src   real values, any strides, rank at most 8
/// Errors: as above, and out_of_memory; never an exception.
template <viewable Src, detail::scheme_operand Scheme>
    requires real_element<element_of_t<Src>>
[[nodiscard]] inline result<quantized_tensor> quantize(const Src& src, const Scheme& s) noexcept {
    const auto v = detail::view_const(src);
    static_assert(decltype(v)::rank <= quantized_tensor::max_rank, "quant::quantize: at most 8 dimensions");
    return detail::quantize_new(v, detail::make_plan(detail::as_scheme(s)));
}
#endif

QUANT_END_TARGET
