// SPDX-License-Identifier: MIT
#pragma once

// ONNX Runtime's quantize_static on the same samples, by peer.py.

#include "harness.hpp"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace networks {

struct peer_results {
    std::string unavailable; ///< why there are no rows
    std::vector<row> rows;
};

/// Runs Python with the samples in `folder`, which is made and removed.
peer_results run_peer(std::span<const key> rows, const bench& b, const std::string& model, const std::string& python,
                      const std::filesystem::path& folder, unsigned threads);

} // namespace networks
