// SPDX-License-Identifier: MIT
#pragma once
// The samples a network is run on.

#include "../engine/graph.hpp"
#include "../evaluation/dataset.hpp"
#include "report.hpp"

#include <algorithm>

namespace quant_tool {

/// Refuses samples of another shape than the network takes.
inline void check_inputs(const engine::graph& net, const evaluation::labelled_set& set, const std::string& inputs,
                         const std::string& model = "the model") {
    const auto& shape = net.shapes[net.input];
    if (set.sample_shape.size() != shape.size() - 1 ||
        !std::equal(shape.begin() + 1, shape.end(), set.sample_shape.begin())) {
        throw error(exit_code::input, inputs,
                    "its samples are " + shape_text({set.sample_shape.begin(), set.sample_shape.end()}) + ", " +
                        printable(model) + " is for " + shape_text({shape.begin() + 1, shape.end()}));
    }
}

/// Opens a set whose samples the network takes.
[[nodiscard]] inline evaluation::labelled_set open_inputs(const engine::graph& net, const std::string& inputs,
                                                          const std::string& labels, const std::string& preprocess,
                                                          unsigned threads) {
    auto set = evaluation::open_set(inputs, labels, net.shapes[net.input].back(),
                                    evaluation::preprocessing_named(preprocess), threads);
    check_inputs(net, set, inputs);
    return set;
}

} // namespace quant_tool
