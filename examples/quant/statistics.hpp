// SPDX-License-Identifier: MIT
#pragma once
// The library's measures of a whole tensor, its elements split over threads: observers of blocks, merged. The same bytes as
// the library's one call, whatever the number of threads.

#include "real.hpp"
#include "threads.hpp"

#include <quant/calibrate/error_measures.hpp>
#include <quant/calibrate/minmax.hpp>
#include <quant/calibrate/moments.hpp>

namespace quant_tool {

/// quant::measure_statistics: the mean first, then the deviations about it.
[[nodiscard]] inline quant::tensor_statistics measure_statistics(std::span<const float> values, unsigned threads) {
    const auto observe = [&](double centre) {
        return observe_blocks(quant::moments_observer(quant::statistics::unspecified, centre), values.size(), threads,
                              [&](auto& part, std::size_t first, std::size_t count) {
                                  part.observe(values.subspan(first, count));
                              })
            .summary();
    };
    return observe(observe(0).mean);
}

/// quant::measure_error. Precondition: equal sizes.
[[nodiscard]] inline quant::result<quant::error_measures>
measure_error(std::span<const float> original, std::span<const float> restored, unsigned threads) {
    const auto seen = observe_blocks(
        quant::error_observer(), original.size(), threads, [&](auto& part, std::size_t first, std::size_t count) {
            (void)part.observe(original.subspan(first, count), restored.subspan(first, count)); // sizes are equal
        });
    return seen.measures();
}

} // namespace quant_tool
