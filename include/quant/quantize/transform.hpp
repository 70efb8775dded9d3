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
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/reorder.hpp>
#include <span>

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
            turn_source(origin, a, b);
        else
            turn_destination(origin, a, b);
    }

private:
    /// A tile has as many rows as elements fill a cache line, so that the side that is turned over is read or written whole lines
    /// at a time, and rows of turned_run elements, along which the kernel runs. Longer ones would mean fewer changes of page, by
    /// which memory in pages of 4 KiB is bound, but the tile has to leave room in the first-level cache.
    template <class T> static constexpr std::size_t turned_rows = (QUANT_HAS_XSIMD ? 64 : 16) / sizeof(T);
    static constexpr std::size_t turned_run = QUANT_HAS_XSIMD ? 512 : 64;
    static constexpr std::size_t short_run = 64;

    static constexpr std::size_t at_most(std::size_t n, std::size_t limit) noexcept { return n < limit ? n : limit; }

    void turn_source(const element_run<S, D>& origin, const loop_dimension& a, const loop_dimension& b) noexcept {
        constexpr std::size_t most = turned_rows<S>, length = turned_run;
        alignas(64) source_type tile[most * length];
        for (std::size_t first = 0; first < a.extent; first += most) {
            const std::size_t rows = at_most(a.extent - first, most);
            for (std::size_t along = 0; along < b.extent; along += length) {
                element_run<S, D> run = origin;
                advance(run, a, first);
                advance(run, b, along);
                run.n = at_most(b.extent - along, length);
                const source_type* const from = run.src;
                if (a.src == 1)
                    simd::transpose<simd::lines_of_side::from>(from, b.src, tile, length, run.n, rows);
                else
                    for (std::size_t r = 0; r < rows; ++r)
                        simd::copy_strided(from + r * a.src, b.src, tile + r * length, 1, run.n);
                run.src = tile;
                run.src_stride = 1;
                run.dst_stride = b.dst;
                run.slice_step = b.slice;
                run.index_step = b.index;
                transform_rows(run, {rows, length, a.dst, a.slice, a.index}, true);
            }
        }
    }

    void turn_destination(const element_run<S, D>& origin, const loop_dimension& a, const loop_dimension& b) noexcept {
        constexpr std::size_t most = turned_rows<D>, length = turned_run;
        alignas(64) D tile[most * length];
        for (std::size_t first = 0; first < b.extent; first += most) {
            const std::size_t rows = at_most(b.extent - first, most);
            for (std::size_t along = 0; along < a.extent; along += length) {
                element_run<S, D> run = origin;
                advance(run, a, along);
                advance(run, b, first);
                run.n = at_most(a.extent - along, length);
                D* const to = run.dst;
                run.dst = tile;
                run.src_stride = a.src;
                run.dst_stride = 1;
                run.slice_step = a.slice;
                run.index_step = a.index;
                transform_rows(run, {rows, b.src, length, b.slice, b.index}, false);
                const D* const turned = tile;
                if (b.dst == 1)
                    simd::transpose<simd::lines_of_side::to>(turned, length, to, a.dst, rows, run.n);
                else
                    for (std::size_t r = 0; r < rows; ++r)
                        simd::copy_strided(turned + r * length, 1, to + r * b.dst, a.dst, run.n);
            }
        }
    }

    /// The rows of a tile: together where they share the parameters of their elements.
    void transform_rows(element_run<S, D> run, const loop_dimension& rows, bool in_place) noexcept {
        if (run.slice_step != 0 && rows.slice == 0) {
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
    void transform_stretch(const source_type* from, D* to, const element_run<S, D>& run, std::size_t first,
                           std::size_t n, std::size_t r, bool in_place) noexcept {
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

    void apply(const In* in, Out* out, const element_run<S, D>& run, std::size_t first, std::size_t n, std::size_t r,
               const simd::run_rows& rows, bool in_place) noexcept {
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
