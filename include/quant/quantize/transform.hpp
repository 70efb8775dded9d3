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

/// Applies `kernel(in, out, n, params, index, rows)` to every run. In and Out are what the kernel computes with; elements of other
/// types, and strided runs, pass through a tile on the stack.
template <class In, class Out, class S, class D, class Kernel>
inline void transform(const loop_nest<S, D>& nest, std::span<const affine_params> params,
                      const Kernel& kernel) noexcept {
    using source_type = std::remove_const_t<S>;
    constexpr bool same_types = std::same_as<source_type, In> && std::same_as<D, Out>;
    parameter_tile per_element(params);
    const auto visit = [&](const element_run<S, D>& run) noexcept {
        const auto apply = [&](const In* in, Out* out, std::size_t first, std::size_t n, std::uint64_t index,
                               const simd::run_rows& rows) {
            const simd::index_run indices{index + first * run.index_step, run.index_step};
            if (run.slice_step == 0)
                kernel(in, out, n, simd::uniform_params{params[run.slice]}, indices, rows);
            else
                kernel(in, out, n, per_element.load(run.slice + first * run.slice_step, run.slice_step, n), indices,
                       rows);
        };
        const bool dense = run.src_stride == 1 && run.dst_stride == 1;
        if constexpr (same_types) {
            if (dense && run.slice_step == 0) { // only elements with their own parameters come in rows
                apply(run.src, run.dst, 0, run.n, run.index, {});
                return;
            }
        }
        for (std::size_t first = 0; first < run.n; first += run_tile) {
            const std::size_t n = run.n - first < run_tile ? run.n - first : run_tile;
            S* from = run.src + first * run.src_stride;
            D* to = run.dst + first * run.dst_stride;
            if constexpr (same_types) {
                if (dense) {
                    apply(from, to, first, n, run.index, {run.rows, run.src_row, run.dst_row, run.index_row});
                    continue;
                }
            }
            for (std::size_t r = 0; r < run.rows; ++r) {
                S* const row_from = from + r * run.src_row;
                D* const row_to = to + r * run.dst_row;
                In in[run_tile];
                Out out[run_tile];
                for (std::size_t i = 0; i < n; ++i) {
                    if constexpr (std::same_as<source_type, In>)
                        in[i] = row_from[i * run.src_stride];
                    else
                        in[i] = to_float(row_from[i * run.src_stride]);
                }
                apply(in, out, first, n, run.index + r * run.index_row, {});
                for (std::size_t i = 0; i < n; ++i) {
                    if constexpr (std::same_as<D, Out>)
                        row_to[i * run.dst_stride] = out[i];
                    else
                        row_to[i * run.dst_stride] = from_float<D>(out[i]);
                }
            }
        }
    };
    for_each_run(nest, visit, true);
}

} // namespace detail
QUANT_END_TARGET
