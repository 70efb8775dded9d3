// SPDX-License-Identifier: MIT
#pragma once

// The rows as Markdown and as pictures.

#include "harness.hpp"

#include <span>
#include <string>
#include <vector>

namespace networks {

/// What is known of one network: all rows on the same samples, none of which calibrated.
struct chapter {
    const subject* about = nullptr;
    std::vector<row> rows;
    std::vector<layer_row> layers;
    row documented; ///< float, on all samples
};
chapter make_chapter(const subject& s, std::vector<row> rows, std::vector<layer_row> layers);

/// The whole file: goals by network, then every network's tables.
std::string as_markdown(std::span<const chapter> chapters);
/// Accuracy by setting.
std::string as_svg(const chapter& c);
/// "57.2 (52.8...61.5)", with a star where float is better or worse and chance no explanation.
std::string accuracy_text(const row& r, const row* reference);

} // namespace networks
