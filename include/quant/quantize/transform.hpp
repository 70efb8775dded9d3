// SPDX-License-Identifier: MIT
#pragma once
// Runs to kernels: hands every run of a loop nest to a kernel that works on dense values, with the parameters that belong to it.
// Layer 4 (quantize). No allocation; what is not dense or not of the kernel's type passes through a tile on the stack.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/half.hpp>
#include <quant/core/params.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/reorder.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

/// The vector copy of the parameters of up to run_tile slices, kept while the same slices come again (row after row of a
/// tensor whose innermost dimension owns the parameters).
class parameter_tile {
public:
    explicit parameter_tile(std::span<const affine_params> params) noexcept : params_(params) {}

    simd::per_element_params load(std::size_t slice, std::size_t step, [[maybe_unused]] std::size_t n) noexcept {
        const affine_params* const first = params_.data() + slice;
#if QUANT_HAS_XSIMD
        if (slice != slice_ || step != step_ || n > n_) {
            arrays_.load(first, step, n);
            slice_ = slice;
            step_ = step;
            n_ = n;
        }
        return arrays_.view(first, step);
#else
        return {first, step}; // the scalar architecture reads params directly
#endif
    }

private:
    std::span<const affine_params> params_;
#if QUANT_HAS_XSIMD
    std::size_t slice_ = 0, step_ = 0, n_ = 0;
    simd::per_element_arrays<run_tile> arrays_;
#endif
};

/// Applies `kernel(in, out, n, params, index, rows, in_place)` to every run. In and Out are what the kernel computes with; elements of
/// other types, and strided ones, pass through a tile on the stack. in_place: `out` is the destination itself, not a tile.
template <class In, class Out, class S, class D, class Kernel> class transformer {
    using source_type = std::remove_const_t<S>;

public:
    transformer(std::span<const affine_params> params, const Kernel& kernel) noexcept
        : params_(params), per_element_(params), kernel_(kernel) {}

    /// Whether so many positions of two loops pay for a tile.
    static constexpr bool worth_it(std::size_t a, std::size_t b) noexcept { return a * b >= 64; }

    /// A run.
    void operator()(const element_run<S, D>& run) noexcept { transform_run(run, true); }

    /// All positions of two loops, of which the source is fastest along `a` and the destination along `b`: both are read and
    /// written in stretches of memory, and one of them is turned over in a tile that stays in the first-level cache. That is
    /// the side with the smaller elements, unless the kernel's runs would get short.
    void operator()(const element_run<S, D>& origin, const loop_dimension& a, const loop_dimension& b) noexcept {
        if (a.extent < short_run || (sizeof(S) <= sizeof(D) && b.extent >= short_run))
            turn<true>(origin, b, a);
        else
            turn<false>(origin, a, b);
    }

private:
    /// A tile has as many rows as elements fill a cache line, so that the side that is turned over is read or written whole lines
    /// at a time, and rows of turned_run elements, along which the kernel runs. Longer ones would mean fewer changes of page, by
    /// which memory in pages of 4 KiB is bound, but the tile has to leave room in the first-level cache.
    template <class T> static constexpr std::size_t turned_rows = (QUANT_HAS_XSIMD ? 64 : 16) / sizeof(T);
    static constexpr std::size_t turned_run = QUANT_HAS_XSIMD ? 512 : 64;
    static constexpr std::size_t short_run = 64;

    static constexpr std::size_t at_most(std::size_t n, std::size_t limit) noexcept { return n < limit ? n : limit; }

    /// Rows of memory that are asked for while something else is computed.
    struct rows_ahead {
        const void* first;
        std::size_t row_stride, rows, row_bytes; // the stride in bytes

        /// Part `k` of `parts`. Inlined at all costs: to g++ a function that only prefetches does nothing, and its calls vanish.
        QUANT_INLINE void prefetch(std::size_t k, std::size_t parts) const noexcept {
            const char* const from = static_cast<const char*>(first);
            for (std::size_t r = rows * k / parts; r < rows * (k + 1) / parts; ++r)
                for (std::size_t i = 0; i < row_bytes; i += 64) simd::prefetch_second_level(from + r * row_stride + i);
        }
    };
    /// What the next tile touches, for tensors that no second-level cache holds.
    struct tile_ahead {
        rows_ahead turned{}, dense{};
        QUANT_INLINE void prefetch(std::size_t k, std::size_t parts) const noexcept {
            turned.prefetch(k, parts);
            dense.prefetch(k, parts);
        }
    };
    static constexpr std::size_t prefetched_size = std::size_t{8} << 20; ///< bytes of both sides

    /// Tiles of turned_run positions along the loop that the kernel takes and a cache line of the side that is turned over across
    /// it. The next tile lies across: its lines are the next ones in the same pages.
    template <bool TurnsSource>
    void turn(const element_run<S, D>& origin, const loop_dimension& along, const loop_dimension& across) noexcept {
        using element = std::conditional_t<TurnsSource, source_type, D>;
        using other_element = std::conditional_t<TurnsSource, D, source_type>;
        constexpr std::size_t most = turned_rows<element>, length = turned_run;
        alignas(64) element tile[most * length];
        const std::size_t stride = TurnsSource ? along.src : along.dst, step = TurnsSource ? across.src : across.dst;
        const bool far = along.extent * across.extent * (sizeof(S) + sizeof(D)) > prefetched_size;
        const auto side = [](const element_run<S, D>& run) noexcept {
            if constexpr (TurnsSource)
                return run.src;
            else
                return run.dst;
        };
        // The first tile is narrower where that lets the others begin with a cache line.
        constexpr std::size_t line = most * sizeof(element);
        const std::size_t head =
            step == 1 ? most - reinterpret_cast<std::uintptr_t>(side(origin)) % line / sizeof(element) : most;
        for (std::size_t first = 0; first < along.extent; first += length) {
            element_run<S, D> run = origin;
            advance(run, along, first);
            run.n = at_most(along.extent - first, length);
            run.slice_step = along.slice;
            run.index_step = along.index;
            for (std::size_t other = 0, rows = head; other < across.extent; other += rows, rows = most) {
                rows = at_most(across.extent - other, rows);
                const std::size_t next_rows = at_most(across.extent - other - rows, most);
                element_run<S, D> at = run;
                advance(at, across, other);
                const auto turned = side(at);
                loop_dimension tile_rows{rows, across.src, across.dst, across.slice, across.index};
                tile_ahead next;
                if constexpr (TurnsSource) {
                    if (step == 1)
                        simd::transpose<simd::lines_of_side::from>(static_cast<const element*>(turned), stride, tile,
                                                                   length, run.n, rows);
                    else
                        for (std::size_t r = 0; r < rows; ++r)
                            simd::copy_strided(static_cast<const element*>(turned) + r * step, stride,
                                               tile + r * length, 1, run.n);
                    if (far && next_rows != 0) next.turned = {turned + rows * step, stride * sizeof(element), run.n, 1};
                    at.src = tile;
                    at.src_stride = 1;
                    at.dst_stride = along.dst;
                    tile_rows.src = length;
                } else {
                    if (far) {
                        next.turned = {turned, stride * sizeof(element), run.n, 1}; // this tile's, written afterwards
                        next.dense = {at.src + rows * across.src, across.src * sizeof(other_element), next_rows,
                                      run.n * sizeof(other_element)};
                    }
                    at.dst = tile;
                    at.src_stride = along.src;
                    at.dst_stride = 1;
                    tile_rows.dst = length;
                }
                transform_rows(at, tile_rows, TurnsSource, next);
                if constexpr (!TurnsSource) {
                    const element* const from = tile;
                    if (step == 1)
                        simd::transpose<simd::lines_of_side::to>(from, length, turned, stride, rows, run.n);
                    else
                        for (std::size_t r = 0; r < rows; ++r)
                            simd::copy_strided(from + r * length, 1, turned + r * step, stride, run.n);
                }
            }
        }
    }

    /// The rows of a tile: together where they share the parameters of their elements.
    [[gnu::noinline]] void transform_rows(element_run<S, D> run, const loop_dimension& rows, bool in_place,
                                          const tile_ahead& next) noexcept {
        if (run.slice_step != 0 && rows.slice == 0) {
            next.prefetch(0, 1);
            run.rows = rows.extent;
            run.src_row = rows.src;
            run.dst_row = rows.dst;
            run.index_row = rows.index;
            transform_run(run, in_place);
            return;
        }
        for (std::size_t r = 0; r < rows.extent; ++r) {
            element_run<S, D> row = run;
            advance(row, rows, r);
            next.prefetch(r, rows.extent);
            transform_run(row, in_place);
        }
    }

    /// in_place: run.dst is the destination.
    void transform_run(const element_run<S, D>& run, bool in_place) noexcept {
        constexpr bool same_source = std::same_as<source_type, In>, same_destination = std::same_as<D, Out>;
        const bool dense = run.src_stride == 1 && run.dst_stride == 1;
        if constexpr (same_source && same_destination) {
            if (dense && run.slice_step == 0) { // only elements with their own parameters come in rows
                apply(run.src, run.dst, run, 0, run.n, 0, {}, in_place);
                return;
            }
        }
        for (std::size_t first = 0; first < run.n; first += run_tile) {
            const std::size_t n = at_most(run.n - first, run_tile);
            const source_type* const from = run.src + first * run.src_stride;
            D* const to = run.dst + first * run.dst_stride;
            if constexpr (same_source && same_destination) {
                if (dense) {
                    apply(from, to, run, first, n, 0, {run.rows, run.src_row, run.dst_row, run.index_row}, in_place);
                    continue;
                }
            }
            for (std::size_t r = 0; r < run.rows; ++r)
                transform_stretch(from + r * run.src_row, to + r * run.dst_row, run, first, n, r, in_place);
        }
    }

    /// At most run_tile elements of row r that are strided or of other types than the kernel's.
    [[gnu::noinline]] void transform_stretch(const source_type* from, D* to, const element_run<S, D>& run,
                                             std::size_t first, std::size_t n, std::size_t r, bool in_place) noexcept {
        In in_tile[run_tile];
        const In* in = in_tile;
        if constexpr (std::same_as<source_type, In>) {
            if (run.src_stride == 1)
                in = from;
            else
                simd::copy_strided(from, run.src_stride, in_tile, 1, n);
        } else {
            simd::copy_strided(from, run.src_stride, in_tile, 1, n,
                               [](source_type element) { return to_float(element); });
        }
        if constexpr (std::same_as<D, Out>) {
            if (run.dst_stride == 1) {
                apply(in, to, run, first, n, r, {}, in_place);
                return;
            }
        }
        Out out[run_tile];
        apply(in, out, run, first, n, r, {}, false);
        if constexpr (std::same_as<D, Out>)
            simd::copy_strided(static_cast<const Out*>(out), 1, to, run.dst_stride, n);
        else
            simd::copy_strided(static_cast<const Out*>(out), 1, to, run.dst_stride, n,
                               [](Out element) { return from_float<D>(element); });
    }

    [[gnu::noinline]] void apply(const In* in, Out* out, const element_run<S, D>& run, std::size_t first, std::size_t n,
                                 std::size_t r, const simd::run_rows& rows, bool in_place) noexcept {
        const simd::index_run index{run.index + r * run.index_row + first * run.index_step, run.index_step};
        if (run.slice_step == 0)
            kernel_(in, out, n, simd::uniform_params{params_[run.slice]}, index, rows, in_place);
        else
            kernel_(in, out, n, per_element_.load(run.slice + first * run.slice_step, run.slice_step, n), index, rows,
                    in_place);
    }

    std::span<const affine_params> params_;
    parameter_tile per_element_;
    const Kernel& kernel_;
};

/// Applies a kernel to all elements of a nest.
template <class In, class Out, class S, class D, class Kernel>
inline void transform(const loop_nest<S, D>& nest, std::span<const affine_params> params,
                      const Kernel& kernel) noexcept {
    transformer<In, Out, S, D, Kernel> visitor(params, kernel);
    for_each_run(nest, visitor, visitor);
}

} // namespace detail
QUANT_END_TARGET
