// SPDX-License-Identifier: MIT
#pragma once
// Dynamic quantization: parameters from the very tensor that is quantized, slice by slice. For activations. Layer 4 (quantize).
//
//   std::vector<quant::affine_params> params(rows);
//   std::vector<std::int32_t> sums(rows);
//   auto s = quant::quantize_dynamic(quant::view(x, rows, columns), codes, params, quant::per_axis(0), {.code_sums = sums});
//
// One call for what minmax_observer, choose_params and quantize do one after the other, byte for byte. Where a slice is a run of
// floats (a row), its second reading finds it in the cache. The sums of the codes are what an integer matrix product needs to
// take the zero point of the other factor out: sum((q - z) w) = sum(q w) - z sum(w). Source and codes must not overlap: a broken
// precondition.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/minmax.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/options.hpp>
#include <quant/core/params.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/quantize.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/dynamic.hpp>
#include <quant/simd/pack.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/tiles.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// What quantize_dynamic is free to choose.
struct dynamic_options {
    code_format format{};                ///< of the codes; int8 unless said otherwise
    mapping map = mapping::symmetric;    ///< affine: the zero point goes where the range puts it
    quantize_options quantize{};         ///< rounding, division or reciprocal, stores
    std::span<std::int32_t> code_sums{}; ///< [one per slice] receives the sums of the codes; empty: not wanted
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// Parameters, codes and sum of one run of floats; `index` is the position of its first element in the tensor.
template <code_storage Code>
[[nodiscard]] inline status quantize_dynamic_run(const float* x, Code* codes, std::size_t n, std::uint64_t index,
                                                 const dynamic_options& options, affine_params& params,
                                                 std::int32_t* sum) noexcept {
    const simd::run_range range = simd::range_with_zero(x, n);
    const result<affine_params> found = choose_params(range.range, options.format, options.map);
    if (!found) return {found.status().code, "src"};
    params = *found;
    const std::int64_t total = simd::quantize_and_sum(x, codes, n, params, options.quantize, {index, 1}, range.finite);
    if (sum != nullptr) *sum = static_cast<std::int32_t>(total);
    return {};
}

/// Whether the slices follow each other in row-major order, each of consecutive elements.
template <std::size_t Rank>
[[nodiscard]] inline bool slices_in_order(granularity g, const slice_map<Rank>& map,
                                          const std::array<std::size_t, Rank>& extents) noexcept {
    if (g.unit == granularity::kind::tensor) return true;
    if (g.unit == granularity::kind::group) return map.axis == Rank - 1;
    for (std::size_t d = 0; d < map.axis; ++d)
        if (extents[d] != 1) return false;
    return true;
}

template <code_storage Code, std::size_t Rank>
[[nodiscard]] inline std::int64_t sum_of(const tensor_view<const Code, Rank>& codes) noexcept {
    if (codes.is_contiguous()) return simd::sum_codes(codes.data(), codes.size());
    std::int32_t buffer[simd::tile_size];
    simd::tile_reader<Code, Rank, std::int32_t> reader(codes);
    std::int64_t sum = 0;
    std::size_t n = 0;
    while (const std::int32_t* p = reader.next(buffer, n))
        for (std::size_t i = 0; i < n; ++i) sum += p[i];
    return sum;
}

/// Elements of the largest slice.
template <std::size_t Rank>
[[nodiscard]] inline std::size_t largest_slice(granularity g, const slice_map<Rank>& map,
                                               const std::array<std::size_t, Rank>& extents) noexcept {
    if (g.unit == granularity::kind::group) return extents[map.axis] < g.group_size ? extents[map.axis] : g.group_size;
    std::size_t n = 1;
    for (std::size_t d = 0; d < Rank; ++d)
        if (g.unit == granularity::kind::tensor || d != map.axis) n *= extents[d];
    return n;
}

template <real_element T, code_storage Code, std::size_t Rank, std::size_t CodeRank>
[[nodiscard]] inline status quantize_dynamic_views(tensor_view<const T, Rank> src, tensor_view<Code, CodeRank> codes,
                                                   std::span<affine_params> params, granularity g,
                                                   const dynamic_options& options) noexcept {
    const code_format format = options.format;
    const std::span<std::int32_t> sums = options.code_sums;
    if (const status s = validate(format); !s) return s;
    if (!holds<Code>(format)) return {errc::storage_too_narrow, "codes"};
    const auto resolved = resolve(g, src.extents());
    if (!resolved) return resolved.status();
    const slice_map<Rank>& map = *resolved;
    if (params.size() != map.count) return {errc::shape_mismatch, "params"};
    if (!sums.empty() && sums.size() != map.count) return {errc::shape_mismatch, "code_sums"};
    const auto largest_code = static_cast<std::size_t>(format.qmax() > -format.qmin() ? format.qmax() : -format.qmin());
    if (!sums.empty() && largest_slice(g, map, src.extents()) > std::numeric_limits<std::int32_t>::max() / largest_code)
        return {errc::invalid_argument, "code_sums"};
    const auto shaped = with_extents(codes, src.extents(), "codes");
    if (!shaped) return shaped.status();
    if (may_overlap(*shaped)) return {errc::overlapping, "codes"};
    QUANT_EXPECTS(same_or_apart(src, *shaped), overlap_text);
    const bool in_order = slices_in_order(g, map, src.extents());
    bool fused = std::same_as<T, float> && in_order;
    std::uint64_t index = 0;
    if constexpr (std::same_as<T, float>) {
        for (std::size_t s = 0; fused && s < map.count; ++s) {
            const auto part = slice_at(src, g, map, s);
            const auto to = slice_at(*shaped, g, map, s);
            if (!part.is_contiguous() || !to.is_contiguous()) {
                fused = false; // true of the first slice already, or of none
                break;
            }
            std::int32_t* const sum = sums.empty() ? nullptr : &sums[s];
            if (const status outcome =
                    quantize_dynamic_run(part.data(), to.data(), part.size(), index, options, params[s], sum);
                !outcome)
                return outcome;
            index += part.size();
        }
        if (fused) return {};
    }
    // Any other layout or type: one step after the other.
    for (std::size_t s = 0; s < map.count; ++s) {
        minmax_observer observer;
        observer.observe(slice_at(src, g, map, s));
        const result<clip_range> range = observer.clip();
        const result<affine_params> found = choose_params(range ? *range : clip_range{}, format, options.map);
        if (!found) return {found.status().code, "src"};
        params[s] = *found;
    }
    if (const status s = quantize_views(src, *shaped, params, g, options.quantize); !s) return s;
    for (std::size_t s = 0; s < sums.size(); ++s)
        sums[s] = static_cast<std::int32_t>(sum_of(tensor_view<const Code, Rank>(slice_at(*shaped, g, map, s))));
    return {};
}

} // namespace detail

/// Finds the range of every slice, chooses its parameters, quantizes with them, and sums the codes.
/// src     real values, any strides         codes   same extents (or dense and one-dimensional)
/// params  one per slice, written           options format, mapping, rounding …, where the sums go
/// NaN and infinities do not widen the range. A slice without a finite element gets scale 1 and zero point 0.
/// Returns ok | bits_out_of_range | storage_too_narrow | axis_out_of_range | invalid_group_size | shape_mismatch ("params",
/// "codes", "code_sums") | overlapping | invalid_argument "code_sums" (a slice has so many elements that a sum could leave int32:
/// more than 2^31 / 128 at 8 signed bits) | scale_out_of_range (some slices may have been written by then).
/// Exactness: bit-exact. Cost: two readings of every slice, the second from the cache where a slice fits it and is a run of floats
/// (a row, a group of the last dimension, the whole tensor); no allocation.
template <viewable Src, destination Codes>
    requires(real_element<element_of_t<Src>>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status quantize_dynamic(const Src& src, Codes&& codes, std::span<affine_params> params,
                                             granularity g, const dynamic_options& options = {}) noexcept {
    return detail::quantize_dynamic_views(detail::view_const(src), v0_1::view(codes), params, g, options);
}

QUANT_END_TARGET
