// SPDX-License-Identifier: MIT
#pragma once
// From views to runs: walks two tensors of equal extents in the order their memory likes, in stretches along which a kernel
// can work. Layer 4 (quantize). No allocation; results never depend on the order.

#include <array>
#include <cstddef>
#include <cstdint>
#include <quant/core/granularity.hpp>
#include <quant/core/tensor_view.hpp>

QUANT_BEGIN_TARGET
namespace detail {

/// A stretch of elements along one dimension. Element i: src[i * src_stride] -> dst[i * dst_stride], parameters of slice
/// `slice + i * slice_step`, row-major index `index + i * index_step`.
template <class S, class D> struct element_run {
    S* src;
    D* dst;
    std::size_t n, src_stride, dst_stride, slice, slice_step;
    std::uint64_t index, index_step;
};

struct loop_dimension {
    std::size_t extent = 1, src = 0, dst = 0, slice = 0, index = 0;
};

/// Visits all runs of the loops `dims`: longest useful stretch innermost, the rest by decreasing destination stride.
template <class S, class D, std::size_t N, class F>
inline void visit_loops(std::array<loop_dimension, N> dims, const element_run<S, D>& origin, F& f) noexcept {
    std::size_t count = 0;
    for (const loop_dimension d : dims) { // a copy: the sort moves what has been read
        if (d.extent == 0) return;
        if (d.extent == 1) continue;
        std::size_t at = count++; // insertion sort: N is the rank, a handful
        for (; at > 0 && (dims[at - 1].dst < d.dst || (dims[at - 1].dst == d.dst && dims[at - 1].src < d.src)); --at)
            dims[at] = dims[at - 1];
        dims[at] = d;
    }
    if (count == 0) dims[count++] = loop_dimension{1, 1, 1, 0, 1};
    std::size_t last = 0; // merges neighbours that continue each other
    for (std::size_t k = 1; k < count; ++k) {
        const loop_dimension outer = dims[last], inner = dims[k];
        if (outer.src == inner.src * inner.extent && outer.dst == inner.dst * inner.extent &&
            outer.slice == inner.slice * inner.extent && outer.index == inner.index * inner.extent)
            dims[last] = {outer.extent * inner.extent, inner.src, inner.dst, inner.slice, inner.index};
        else
            dims[++last] = inner;
    }
    const loop_dimension& innermost = dims[last];
    element_run<S, D> run{origin.src,   origin.dst,       innermost.extent, innermost.src,
                          innermost.dst, origin.slice,    innermost.slice,  origin.index, innermost.index};
    std::array<std::size_t, N> at{};
    for (;;) {
        f(run);
        std::size_t d = last;
        for (; d > 0; --d) { // one odometer step over the outer loops
            const loop_dimension& dim = dims[d - 1];
            if (++at[d - 1] < dim.extent) {
                run.src += dim.src;
                run.dst += dim.dst;
                run.slice += dim.slice;
                run.index += dim.index;
                break;
            }
            at[d - 1] = 0;
            run.src -= dim.src * (dim.extent - 1);
            run.dst -= dim.dst * (dim.extent - 1);
            run.slice -= dim.slice * (dim.extent - 1);
            run.index -= dim.index * (dim.extent - 1);
        }
        if (d == 0) return;
    }
}

/// Calls f(run) for runs that together cover every element once. Precondition: equal extents.
template <class S, class D, std::size_t Rank, class F>
inline void for_each_run(const tensor_view<S, Rank>& src, const tensor_view<D, Rank>& dst, const slice_map<Rank>& map,
                         F&& f) noexcept {
    if (src.empty()) return;
    std::array<loop_dimension, Rank + 1> dims{}; // the grouped axis becomes two loops: groups, and elements of a group
    std::size_t index_stride = 1;
    for (std::size_t d = Rank; d-- > 0;) {
        dims[d] = {src.extent(d), src.stride(d), dst.stride(d), map.stride[d], index_stride};
        index_stride *= src.extent(d);
    }
    element_run<S, D> origin{src.data(), dst.data(), 0, 0, 0, 0, 0, 0, 0};
    const std::size_t group = map.group_size;
    if (group <= 1) {
        visit_loops(dims, origin, f);
        return;
    }
    const loop_dimension axis = dims[map.axis];
    const std::size_t full = axis.extent / group, rest = axis.extent % group;
    if (full > 0) {
        auto whole_groups = dims;
        whole_groups[map.axis] = {full, axis.src * group, axis.dst * group, axis.slice, axis.index * group};
        whole_groups[Rank] = {group, axis.src, axis.dst, 0, axis.index};
        visit_loops(whole_groups, origin, f);
    }
    if (rest > 0) {
        dims[map.axis] = {rest, axis.src, axis.dst, 0, axis.index};
        origin.src += full * group * axis.src;
        origin.dst += full * group * axis.dst;
        origin.slice += full * axis.slice;
        origin.index += full * group * axis.index;
        visit_loops(dims, origin, f);
    }
}

/// Whether two elements of a view may share an address (sufficient test over sorted strides).
template <class T, std::size_t Rank> [[nodiscard]] inline bool may_overlap(const tensor_view<T, Rank>& v) noexcept {
    if (v.empty()) return false;
    std::array<std::size_t, Rank> order{};
    std::size_t count = 0;
    for (std::size_t d = 0; d < Rank; ++d) {
        if (v.extent(d) == 1) continue;
        std::size_t at = count++;
        for (; at > 0 && v.stride(order[at - 1]) > v.stride(d); --at) order[at] = order[at - 1];
        order[at] = d;
    }
    std::size_t reach = 1; // elements the inner dimensions span
    for (std::size_t k = 0; k < count; ++k) {
        const std::size_t d = order[k];
        if (v.stride(d) < reach) return true;
        reach += (v.extent(d) - 1) * v.stride(d);
    }
    return false;
}

/// The second tensor with the first one's extents: equal extents, or a dense rank-1 side with as many elements, which is
/// then read in row-major order of the other's extents.
template <class T, std::size_t Rank, std::size_t OtherRank>
[[nodiscard]] inline result<tensor_view<T, Rank>> with_extents(const tensor_view<T, OtherRank>& v,
                                                               const std::array<std::size_t, Rank>& extents,
                                                               const char* argument) noexcept {
    if constexpr (Rank == OtherRank) {
        if (v.extents() != extents) return status{errc::shape_mismatch, argument};
        return v;
    } else {
        static_assert(OtherRank == 1, "quant: two tensors of different rank; one of them must be one-dimensional and dense");
        const tensor_view<T, Rank> out(v.data(), extents);
        if (!v.is_contiguous() || out.size() != v.size()) return status{errc::shape_mismatch, argument};
        return out;
    }
}

/// The elements of slice `s`, as a view of the same rank.
template <class T, std::size_t Rank>
[[nodiscard]] inline tensor_view<T, Rank> slice_at(const tensor_view<T, Rank>& v, granularity g, const slice_map<Rank>& map,
                                                   std::size_t s) noexcept {
    if (g.unit == granularity::kind::tensor) return v;
    if (g.unit == granularity::kind::axis) return v.subview(map.axis, s, 1);
    tensor_view<T, Rank> part = v;
    for (std::size_t d = 0; d < Rank; ++d) {
        const std::size_t at = s / map.stride[d];
        s %= map.stride[d];
        if (d != map.axis) {
            part = part.subview(d, at, 1);
            continue;
        }
        const std::size_t first = at * map.group_size, left = v.extent(d) - first;
        part = part.subview(d, first, left < map.group_size ? left : map.group_size);
    }
    return part;
}

} // namespace detail

/// Calls f(slice, s) for every slice of a granularity: the elements that share one set of parameters, as a view of the same
/// rank, in slice order. The way to run an observer per channel.
/// Errors: axis_out_of_range, invalid_group_size.
template <viewable X, class F> inline status for_each_slice(X&& x, granularity g, F&& f) noexcept {
    const auto v = v0_1::view(x);
    const auto map = resolve(g, v.extents());
    if (!map) return map.status();
    for (std::size_t s = 0; s < map->count; ++s) f(detail::slice_at(v, g, *map, s), s);
    return {};
}

/// Number of slices of a granularity. Errors: axis_out_of_range, invalid_group_size.
template <viewable X> [[nodiscard]] inline result<std::size_t> slice_count(const X& x, granularity g) noexcept {
    const auto map = resolve(g, v0_1::view(x).extents());
    if (!map) return map.status();
    return map->count;
}

QUANT_END_TARGET
