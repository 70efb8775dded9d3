// SPDX-License-Identifier: MIT
#pragma once
// Rounding that keeps sums: where nearest codes of a slice add up to too much or too little, those that were the closest calls go to
// the other neighbour until the sum is right to half a step. A layer's output then keeps its mean, without data and without a
// correction that the format has no place for. After SQuant (Guo et al., ICLR 2022, "On-the-Fly Data-Free Quantization via
// Diagonal Hessian Approximation"), its kernel-wise and channel-wise steps.

#include "storage.hpp"

#include <algorithm>
#include <cmath>

namespace quant_tool {

namespace detail {

/// One stretch of slice elements. errors: real code - code; those of flipped codes change with them.
template <class Code>
void keep_sum(std::span<double> errors, std::span<Code> codes, int lowest, int highest,
              std::vector<std::size_t>& scratch) {
    double sum = 0;
    for (const double e : errors) {
        sum += e;
    }
    const double wanted = std::rint(std::fabs(sum));
    if (!(wanted >= 1)) {
        return;
    }
    const int step = sum > 0 ? 1 : -1;
    scratch.clear();
    for (std::size_t i = 0; i < errors.size(); ++i) {
        const int to = codes[i] + step;
        if (errors[i] * step > 0 && to >= lowest && to <= highest) {
            scratch.push_back(i);
        }
    }
    const auto n = wanted < static_cast<double>(scratch.size()) ? static_cast<std::size_t>(wanted) : scratch.size();
    const auto middle = scratch.begin() + static_cast<std::ptrdiff_t>(n);
    const auto closer = [&](std::size_t a, std::size_t b) {
        const double ea = errors[a] * step, eb = errors[b] * step;
        return ea != eb ? ea > eb : a < b;
    };
    if (middle != scratch.end()) {
        std::nth_element(scratch.begin(), middle, scratch.end(), closer);
    }
    for (auto it = scratch.begin(); it != middle; ++it) {
        codes[*it] = static_cast<Code>(codes[*it] + step);
        errors[*it] -= step;
    }
}

} // namespace detail

/// values   of the tensor, codes their nearest codes
/// sums     its slices are what keeps its sum
/// kernel   elements of a slice that keep their own sum first (the positions of a convolution's kernel); 1: none do
/// params   one for each of these slices, or one for all
template <class Code>
void keep_sums(std::span<const float> values, std::span<Code> codes, std::span<const quant::affine_params> params,
               const sliced_shape& sums, std::size_t kernel, unsigned threads) {
    const auto slices = cut(sums.slices(), threads, 1, sums.slices() == 0 ? 1 : values.size() / sums.slices() + 1);
    in_parallel(slices.size(), threads, [&](std::size_t b) {
        std::vector<double> errors;
        std::vector<Code> own;
        std::vector<std::size_t> scratch;
        for (std::size_t s = slices[b].first; s < slices[b].first + slices[b].count; ++s) {
            const auto& p = params[params.size() == 1 ? 0 : s];
            errors.clear();
            own.clear();
            sums.for_each(s, [&](std::uint64_t at) {
                const auto code = codes[static_cast<std::size_t>(at)];
                const double real =
                    static_cast<double>(values[static_cast<std::size_t>(at)]) / static_cast<double>(p.scale) +
                    p.zero_point;
                errors.push_back(std::isfinite(real) ? real - code : 0.0);
                own.push_back(code);
            });
            const int lowest = p.format.qmin(), highest = p.format.qmax();
            const auto all = std::span(errors);
            for (std::size_t i = 0; kernel > 1 && i + kernel <= own.size(); i += kernel) {
                detail::keep_sum(all.subspan(i, kernel), std::span(own).subspan(i, kernel), lowest, highest, scratch);
            }
            detail::keep_sum(all, std::span(own), lowest, highest, scratch);
            std::size_t i = 0;
            sums.for_each(s, [&](std::uint64_t at) { codes[static_cast<std::size_t>(at)] = own[i++]; });
        }
    });
}

} // namespace quant_tool
