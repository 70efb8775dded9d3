// SPDX-License-Identifier: MIT
#pragma once
// quant/sum_rounding.hpp for all slices of a tensor.

#include "require.hpp"
#include "storage.hpp"

#include <quant/sum_rounding.hpp>

namespace quant_tool {

/// values   of the tensor, codes their nearest codes
/// sums     its slices are what keeps its sum
/// kernel   elements of a slice that keep their own sum first (the positions of a convolution's kernel); 1: none do
/// params   one for each of these slices, or one for all
template <class Code>
void keep_sums(std::span<const float> values, std::span<Code> codes, std::span<const quant::affine_params> params,
               const sliced_shape& sums, std::size_t kernel, unsigned threads) {
    const auto slices = cut(sums.slices(), threads, 1, sums.slices() == 0 ? 1 : values.size() / sums.slices() + 1);
    in_parallel(slices.size(), threads, [&](std::size_t b) {
        std::vector<float> weights;
        std::vector<Code> own;
        std::vector<double> errors;
        std::vector<std::size_t> order;
        for (std::size_t s = slices[b].first; s < slices[b].first + slices[b].count; ++s) {
            weights.clear();
            own.clear();
            sums.for_each(s, [&](std::uint64_t at) {
                weights.push_back(values[static_cast<std::size_t>(at)]);
                own.push_back(codes[static_cast<std::size_t>(at)]);
            });
            errors.resize(own.size());
            order.resize(own.size());
            const auto& p = params[params.size() == 1 ? 0 : s];
            require(quant::round_for_sums<Code>(weights, p, kernel, own, errors, order), "--keep-sums");
            std::size_t i = 0;
            sums.for_each(s, [&](std::uint64_t at) { codes[static_cast<std::size_t>(at)] = own[i++]; });
        }
    });
}

} // namespace quant_tool
