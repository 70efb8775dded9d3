// SPDX-License-Identifier: MIT
#pragma once
// Which elements share one set of parameters. Layer 1 (core).
//
//   quant::per_tensor            one set
//   quant::per_axis(0)           one set per index of dimension 0 (an output channel of an OIHW weight)
//   quant::per_group(-1, 32)     one set per 32 consecutive elements along the last dimension; the last group may be shorter

#include <array>
#include <cstddef>
#include <cstdint>
#include <quant/core/status.hpp>

QUANT_BEGIN_NAMESPACE

/// A granularity. Make it with per_tensor, per_axis or per_group.
struct granularity {
    enum class kind : std::uint8_t { tensor, axis, group };
    kind unit = kind::tensor;
    int axis = 0;               ///< dimension that owns parameters; negative counts from the end
    std::size_t group_size = 0; ///< elements per set of parameters along `axis` (kind::group only)
    friend constexpr bool operator==(const granularity&, const granularity&) = default;
};

inline constexpr granularity per_tensor{};
[[nodiscard]] QUANT_INLINE constexpr granularity per_axis(int axis) noexcept {
    return {granularity::kind::axis, axis, 0};
}
[[nodiscard]] QUANT_INLINE constexpr granularity per_group(int axis, std::size_t group_size) noexcept {
    return {granularity::kind::group, axis, group_size};
}

/// A granularity applied to given extents: how many slices there are, and which one an element belongs to.
/// The slices are numbered in row-major order over the extents, with `axis` divided by the group size (as ONNX orders the
/// scales of blocked quantization).
template <std::size_t Rank> struct slice_map {
    std::array<std::size_t, Rank> stride{}; ///< slices to advance per step of each dimension (per group along `axis`)
    std::size_t axis = 0;
    std::size_t group_size = 1; ///< along `axis`; 1 unless grouped
    std::size_t count = 1;      ///< number of slices

    /// The slice an element belongs to.
    [[nodiscard]] QUANT_INLINE constexpr std::size_t
    slice_of(const std::array<std::size_t, Rank>& index) const noexcept {
        std::size_t slice = 0;
        for (std::size_t d = 0; d < Rank; ++d) slice += stride[d] * (d == axis ? index[d] / group_size : index[d]);
        return slice;
    }
};

/// Resolves a granularity against extents. Errors: axis_out_of_range, invalid_group_size.
template <std::size_t Rank>
[[nodiscard]] QUANT_INLINE constexpr result<slice_map<Rank>>
resolve(granularity g, const std::array<std::size_t, Rank>& extents) noexcept {
    slice_map<Rank> map{};
    if (g.unit == granularity::kind::tensor) return map;
    const int rank = static_cast<int>(Rank);
    const int axis = g.axis < 0 ? g.axis + rank : g.axis;
    if (axis < 0 || axis >= rank) return status{errc::axis_out_of_range, "axis"};
    map.axis = static_cast<std::size_t>(axis);
    if (g.unit == granularity::kind::axis) {
        map.stride[map.axis] = 1;
        map.count = extents[map.axis];
        return map;
    }
    if (g.group_size == 0) return status{errc::invalid_group_size, "group_size"};
    map.group_size = g.group_size;
    for (std::size_t d = Rank; d-- > 0;) {
        const std::size_t groups =
            d == map.axis ? extents[d] / g.group_size + (extents[d] % g.group_size != 0 ? 1 : 0) : extents[d];
        map.stride[d] = map.count;
        map.count *= groups;
    }
    return map;
}

QUANT_END_NAMESPACE
