// SPDX-License-Identifier: MIT
#pragma once
// Rounding that keeps sums: where the nearest codes of an output channel add up to too much or too little, those that were the
// closest calls go to the other neighbour until the sum is right to half a step. No data at all. Layer 3 (calibrate).
//
//   if (auto s = quant::quantize(row, codes, params); !s) return s;
//   auto off = quant::round_for_sums(row, params, kernel_elements, codes, errors, order);
//
// What a layer puts out is off by e^T x, with e_i = w_i / scale + zero_point - q_i. Where inputs have much of their mean in common, as
// behind a ReLU, that is mostly the mean times the sum of all e, so that a sum of 0 keeps the output's mean; within the few positions
// of one input channel's kernel they have even more in common. So the sum of each kernel is made right first, then that of the whole
// slice. A step towards the weight's other neighbour changes a sum by 1 and the squared error by 1 - 2 |e_i|: the largest |e_i| of the
// sum's sign cost least, and no other choice of neighbours with a sum right to half a step has less squared error.
// Paper: Guo et al. 2022, "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", ICLR, arXiv 2202.07471
// (its kernel-wise and channel-wise steps).

#include <cstddef>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/status.hpp>
#include <span>

QUANT_BEGIN_TARGET

namespace sum_rounding_detail {

/// Moves codes of one stretch by a step each; returns what is left of the sum of the errors.
template <class Code>
inline double keep_sum(std::span<double> errors, std::span<Code> codes, std::int32_t lowest, std::int32_t highest,
                       std::span<std::size_t> order) noexcept {
    double sum = 0;
    for (const double e : errors) sum += e;
    const std::int32_t step = sum > 0 ? 1 : -1;
    const double size = sum > 0 ? sum : -sum;
    if (!(size > 0.5)) return sum;
    const auto towards = [&](std::size_t i) { return sum > 0 ? errors[i] : -errors[i]; };
    // The candidates, largest error first and the first of equal ones, in a heap.
    std::size_t n = 0;
    const auto before = [&](std::size_t a, std::size_t b) {
        return towards(a) != towards(b) ? towards(a) > towards(b) : a < b;
    };
    const auto sift_down = [&](std::size_t at) {
        for (std::size_t child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
            if (child + 1 < n && before(order[child + 1], order[child])) ++child;
            if (!before(order[child], order[at])) return;
            const std::size_t kept = order[at];
            order[at] = order[child];
            order[child] = kept;
        }
    };
    for (std::size_t i = 0; i < errors.size(); ++i) {
        const std::int32_t to = static_cast<std::int32_t>(codes[i]) + step;
        if (towards(i) > 0 && to >= lowest && to <= highest) order[n++] = i;
    }
    for (std::size_t i = n / 2; i-- > 0;) sift_down(i);
    for (double left = size; left > 0.5 && n > 0; left -= 1) {
        const std::size_t i = order[0];
        codes[i] = static_cast<Code>(static_cast<std::int32_t>(codes[i]) + step);
        errors[i] -= step;
        sum -= step;
        order[0] = order[--n];
        sift_down(0);
    }
    return sum;
}

} // namespace sum_rounding_detail

/// One slice's codes, moved by a step each where its sums ask for it.
/// weights  [n] of the slice; one that is not finite keeps its code and counts nothing
/// params   of the slice; signed where Code is
/// kernel   elements that keep their own sum first, side by side: a kernel's positions; 1: none do, n: the slice alone does
/// codes    [n] in: nearest codes, or others within a step; out: the result
/// errors   [n] scratch: e        order  [n] scratch
/// Returns the sum of e, in steps: within 1/2 unless too many codes stand at the ends of their range.
/// Errors: shape_mismatch "codes", "errors" or "order", invalid_argument "kernel" (0, or no divisor of n), storage_too_narrow, those of
/// validate(params); nothing is written then. Exactness: bit-exact. Cost: n additions, and log n for each code that moves.
template <code_storage Code>
[[nodiscard]] inline result<double> round_for_sums(std::span<const float> weights, const affine_params& params,
                                                   std::size_t kernel, std::span<Code> codes, std::span<double> errors,
                                                   std::span<std::size_t> order) noexcept {
    const std::size_t n = weights.size();
    if (codes.size() != n) return status{errc::shape_mismatch, "codes"};
    if (errors.size() != n) return status{errc::shape_mismatch, "errors"};
    if (order.size() != n) return status{errc::shape_mismatch, "order"};
    if (kernel == 0 || n % kernel != 0) return status{errc::invalid_argument, "kernel"};
    if (const status s = validate(params); !s) return s;
    if (!holds<Code>(params.format)) return status{errc::storage_too_narrow, "codes"};
    for (std::size_t i = 0; i < n; ++i) {
        const double real = static_cast<double>(weights[i]) / static_cast<double>(params.scale) + params.zero_point;
        errors[i] = core_detail::is_finite(real) ? real - static_cast<double>(codes[i]) : 0.0;
    }
    const std::int32_t lowest = params.format.qmin(), highest = params.format.qmax();
    if (kernel > 1 && kernel < n)
        for (std::size_t i = 0; i < n; i += kernel)
            sum_rounding_detail::keep_sum(errors.subspan(i, kernel), codes.subspan(i, kernel), lowest, highest, order);
    return sum_rounding_detail::keep_sum(errors, codes, lowest, highest, order);
}

QUANT_END_TARGET
