// SPDX-License-Identifier: MIT
#pragma once
// From views to runs: walks two tensors of equal extents in the order their memory likes, in stretches along which a kernel
// can work. Layer 4 (quantize). No allocation; results never depend on the order.

#include <array>
#include <cstddef>
#include <cstdint>
#include <quant/core/granularity.hpp>
#include <quant/core/tensor_view.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

/// A stretch of elements along one dimension. Element i: src[i * src_stride] -> dst[i * dst_stride], parameters of slice
/// `slice + i * slice_step`, row-major index `index + i * index_step`. Where elements have their own parameters and whoever asks
/// takes blocks, `rows` such stretches with the same parameters follow each other, a row's strides apart.
template <class S, class D> struct element_run {
    S* src;
    D* dst;
    std::size_t n, src_stride, dst_stride, slice, slice_step;
    std::uint64_t index, index_step;
    std::size_t rows = 1, src_row = 0, dst_row = 0;
    std::uint64_t index_row = 0;
};

/// One loop: how many steps, and what a step advances.
struct loop_dimension {
    std::size_t extent, src, dst, slice, index;
};

/// Two tensors of equal extents and the slices of their elements, without their rank in the type: whatever walks them is
/// instantiated per pair of element types only. Dimensions stand in row-major order of the logical index.
template <class S, class D> struct loop_nest {
    static constexpr std::size_t max_rank = 15;
    S* src = nullptr;
    D* dst = nullptr;
    std::size_t rank = 0;
    std::size_t axis = 0;              ///< the dimension that is cut into groups
    std::size_t group_size = 1;        ///< 1: none is
    loop_dimension dims[max_rank + 1]; // one more: the grouped axis becomes two loops, groups and elements of a group
};

template <class S, class D, std::size_t Rank>
[[nodiscard]] QUANT_INLINE loop_nest<S, D> make_nest(const tensor_view<S, Rank>& src, const tensor_view<D, Rank>& dst,
                                                     const slice_map<Rank>& map) noexcept {
    static_assert(Rank <= loop_nest<S, D>::max_rank, "quant: at most 15 dimensions");
    loop_nest<S, D> nest;
    nest.src = src.data();
    nest.dst = dst.data();
    nest.rank = Rank;
    nest.axis = map.axis;
    nest.group_size = map.group_size;
    std::size_t index_stride = 1;
    for (std::size_t d = Rank; d-- > 0;) {
        nest.dims[d] = {src.extent(d), src.stride(d), dst.stride(d), map.stride[d], index_stride};
        index_stride *= src.extent(d);
    }
    return nest;
}

inline constexpr std::size_t run_tile = 512; ///< elements converted, gathered or given own parameters at a time

/// Sorts loops by decreasing destination stride, leaves out those of one step and merges neighbours that continue each other.
/// Returns how many are left, at least one; 0 where there is no element.
inline std::size_t sort_loops(loop_dimension* dims, std::size_t rank) noexcept {
    std::size_t count = 0;
    for (std::size_t k = 0; k < rank; ++k) {
        const loop_dimension d = dims[k]; // a copy: the sort moves what has been read
        if (d.extent == 0) return 0;
        if (d.extent == 1) continue;
        std::size_t at = count++; // insertion sort: the rank is a handful
        for (; at > 0 && (dims[at - 1].dst < d.dst || (dims[at - 1].dst == d.dst && dims[at - 1].src < d.src)); --at)
            dims[at] = dims[at - 1];
        dims[at] = d;
    }
    if (count == 0) dims[count++] = loop_dimension{1, 1, 1, 0, 1};
    std::size_t last = 0;
    for (std::size_t k = 1; k < count; ++k) {
        const loop_dimension outer = dims[last], inner = dims[k];
        if (outer.src == inner.src * inner.extent && outer.dst == inner.dst * inner.extent &&
            outer.slice == inner.slice * inner.extent && outer.index == inner.index * inner.extent)
            dims[last] = {outer.extent * inner.extent, inner.src, inner.dst, inner.slice, inner.index};
        else
            dims[++last] = inner;
    }
    return last + 1;
}

/// Moves the beginning of a run by so many steps of a loop.
template <class S, class D>
QUANT_INLINE void advance(element_run<S, D>& run, const loop_dimension& dim, std::size_t steps) noexcept {
    run.src += dim.src * steps;
    run.dst += dim.dst * steps;
    run.slice += dim.slice * steps;
    run.index += dim.index * steps;
}

/// Calls f(run) with `run` moved to every position of the loops.
template <class S, class D, class F>
inline void for_each_position(const loop_dimension* dims, std::size_t count, element_run<S, D> run, F& f) noexcept {
    std::size_t at[loop_nest<S, D>::max_rank + 1] = {};
    for (;;) {
        f(static_cast<const element_run<S, D>&>(run));
        std::size_t d = count;
        for (; d > 0; --d) { // one odometer step
            const loop_dimension& dim = dims[d - 1];
            if (++at[d - 1] < dim.extent) {
                advance(run, dim, 1);
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

/// What stands in for a visitor of blocks where there is none.
struct no_blocks {};

/// Visits loops: the destination's fastest dimension innermost, the rest by decreasing destination stride; or in blocks.
template <class S, class D, class F, class Blocks>
inline void visit_loops(loop_dimension* dims, std::size_t rank, element_run<S, D> run, F& f, Blocks& blocks) noexcept {
    constexpr bool takes_blocks = !std::is_same_v<Blocks, const no_blocks>;
    std::size_t last = sort_loops(dims, rank);
    if (last == 0) return;
    --last;
    const loop_dimension innermost = dims[last];
    if constexpr (takes_blocks) {
        std::size_t other = last; // the loop that the source would have innermost
        for (std::size_t k = 0; k < last; ++k)
            if (dims[k].src < dims[other].src) other = k;
        if (other != last && Blocks::worth_it(dims[other].extent, innermost.extent)) {
            const loop_dimension across = dims[other];
            for (std::size_t k = other; k + 1 < last; ++k) dims[k] = dims[k + 1];
            const auto visit = [&](const element_run<S, D>& at) noexcept { blocks(at, across, innermost); };
            for_each_position(dims, last - 1, run, visit);
            return;
        }
        if (innermost.slice != 0 && last > 0 && dims[last - 1].slice == 0) {
            --last; // the loop around the innermost one is handed out together with it
            run.rows = dims[last].extent;
            run.src_row = dims[last].src;
            run.dst_row = dims[last].dst;
            run.index_row = dims[last].index;
        }
    }
    run.src_stride = innermost.src;
    run.dst_stride = innermost.dst;
    run.slice_step = innermost.slice;
    run.index_step = innermost.index;
    // Where every element has its own parameters, a block of columns is taken through all rows before the next one, so that
    // its parameters are prepared once.
    const std::size_t block = innermost.slice != 0 ? run_tile : innermost.extent;
    for (std::size_t first = 0; first < innermost.extent; first += block) {
        run.n = innermost.extent - first < block ? innermost.extent - first : block;
        element_run<S, D> start = run;
        advance(start, innermost, first);
        for_each_position(dims, last, start, f);
    }
}

/// Calls f(run) for runs that together cover every element once. With a visitor of blocks, runs may have rows; and where source
/// and destination disagree about the innermost loop, blocks(origin, a, b) is called for all positions of two loops at once: the
/// source is fastest along a, the destination along b.
template <class S, class D, class F, class Blocks = const no_blocks>
inline void for_each_run(const loop_nest<S, D>& nest, F&& f, Blocks&& blocks = {}) noexcept {
    loop_dimension dims[loop_nest<S, D>::max_rank + 1];
    const auto copy = [&] {
        for (std::size_t d = 0; d < nest.rank; ++d) dims[d] = nest.dims[d];
    };
    for (std::size_t d = 0; d < nest.rank; ++d)
        if (nest.dims[d].extent == 0) return;
    element_run<S, D> origin{nest.src, nest.dst, 0, 0, 0, 0, 0, 0, 0};
    const std::size_t group = nest.group_size;
    copy();
    if (group <= 1) {
        visit_loops(dims, nest.rank, origin, f, blocks);
        return;
    }
    const loop_dimension axis = nest.dims[nest.axis];
    const std::size_t full = axis.extent / group, rest = axis.extent % group;
    if (full > 0) {
        dims[nest.axis] = {full, axis.src * group, axis.dst * group, axis.slice, axis.index * group};
        dims[nest.rank] = {group, axis.src, axis.dst, 0, axis.index};
        visit_loops(dims, nest.rank + 1, origin, f, blocks);
    }
    if (rest > 0) {
        copy();
        dims[nest.axis] = {rest, axis.src, axis.dst, 0, axis.index};
        origin.src += full * group * axis.src;
        origin.dst += full * group * axis.dst;
        origin.slice += full * axis.slice;
        origin.index += full * group * axis.index;
        visit_loops(dims, nest.rank, origin, f, blocks);
    }
}

/// Whether two elements of a view may share an address (sufficient test over sorted strides).
template <class T, std::size_t Rank> [[nodiscard]] inline bool may_overlap(const tensor_view<T, Rank>& v) noexcept {
    if (v.empty()) return false;
    if constexpr (Rank == 1) return v.extent(0) > 1 && v.stride(0) == 0;
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

/// The memory that the elements of a tensor lie in: [first, last), without gaps if dense.
struct memory_stretch {
    std::uintptr_t first, last;
    bool dense;
};
template <class T, std::size_t Rank>
[[nodiscard]] QUANT_INLINE memory_stretch stretch_of(const tensor_view<T, Rank>& v) noexcept {
    const auto first = reinterpret_cast<std::uintptr_t>(v.data());
    std::size_t size = 1, reach = 1; // elements, and the elements they span
    for (std::size_t d = 0; d < Rank; ++d) {
        const std::size_t extent = v.extent(d);
        if (extent == 0) return {first, first, true};
        size *= extent;
        reach += (extent - 1) * v.stride(d);
    }
    return {first, first + reach * sizeof(T), reach == size};
}

/// Whether two tensors lie apart. A precondition of the verbs as far as two stretches of memory can tell: tensors with gaps may lie
/// in each other's.
[[nodiscard]] QUANT_INLINE bool apart(const memory_stretch& a, const memory_stretch& b) noexcept {
    if (a.last <= b.first || b.last <= a.first) return true;
    return a.first == a.last || b.first == b.last || !a.dense || !b.dense;
}
template <class A, std::size_t RankA, class B, std::size_t RankB>
[[nodiscard]] QUANT_INLINE bool apart(const tensor_view<A, RankA>& a, const tensor_view<B, RankB>& b) noexcept {
    return apart(stretch_of(a), stretch_of(b));
}

/// The same, or that two tensors of equal extents are one.
template <class S, class D, std::size_t Rank>
[[nodiscard]] QUANT_INLINE bool same_or_apart(const tensor_view<S, Rank>& src,
                                              const tensor_view<D, Rank>& dst) noexcept {
    if (apart(src, dst)) return true;
    if constexpr (!std::is_same_v<std::remove_const_t<S>, D>) return false;
    for (std::size_t d = 0; d < Rank; ++d)
        if (src.extent(d) != 1 && src.stride(d) != dst.stride(d)) return false;
    return static_cast<const void*>(src.data()) == static_cast<const void*>(dst.data());
}

/// The second tensor with the first one's extents: equal extents, or a dense rank-1 side with as many elements, which is
/// then read in row-major order of the other's extents.
template <class T, std::size_t Rank, std::size_t OtherRank>
[[nodiscard]] constexpr result<tensor_view<T, Rank>> with_extents(const tensor_view<T, OtherRank>& v,
                                                                  const std::array<std::size_t, Rank>& extents,
                                                                  const char* argument) noexcept {
    if constexpr (Rank == OtherRank) {
        if (v.extents() != extents) return status{errc::shape_mismatch, argument};
        return v;
    } else {
        static_assert(OtherRank == 1,
                      "quant: two tensors of different rank; one of them must be one-dimensional and dense");
        const tensor_view<T, Rank> out(v.data(), extents);
        if (!v.is_contiguous() || out.size() != v.size()) return status{errc::shape_mismatch, argument};
        return out;
    }
}

/// The elements of slice `s`, as a view of the same rank.
template <class T, std::size_t Rank>
[[nodiscard]] inline tensor_view<T, Rank> slice_at(const tensor_view<T, Rank>& v, granularity g,
                                                   const slice_map<Rank>& map, std::size_t s) noexcept {
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
