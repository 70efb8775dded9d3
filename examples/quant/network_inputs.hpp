// SPDX-License-Identifier: MIT
#pragma once
// The samples a network is run on.

#include "../engine/dataset.hpp"
#include "../engine/graph.hpp"
#include "report.hpp"

#include <algorithm>

namespace quant_tool {

/// Opens a set whose samples the network takes.
[[nodiscard]] inline engine::labelled_set open_inputs(const engine::graph& net, const std::string& inputs,
                                                      const std::string& labels, const std::string& preprocess,
                                                      unsigned threads) {
    const auto& shape = net.shapes[net.input];
    auto set = engine::open_set(inputs, labels, shape.back(), engine::preprocessing_named(preprocess), threads);
    if (set.sample_shape.size() != shape.size() - 1 ||
        !std::equal(shape.begin() + 1, shape.end(), set.sample_shape.begin())) {
        throw error(exit_code::input, inputs,
                    "its samples are " + shape_text({set.sample_shape.begin(), set.sample_shape.end()}) +
                        ", the model is for " + shape_text({shape.begin() + 1, shape.end()}));
    }
    return set;
}

} // namespace quant_tool
