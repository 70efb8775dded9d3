// SPDX-License-Identifier: MIT
// Stands in for networks.cpp where the engine's libraries were not found when the tool was built.
#include "commands.hpp"
#include "io/error.hpp"

namespace quant_tool {

namespace {
[[noreturn]] void refuse(const std::string& model) {
    throw error(exit_code::input, model, "this build cannot run models (it was made without ONNX, Eigen or TurboJPEG)");
}
} // namespace

void evaluate(const evaluate_command& options) { refuse(options.model); }
void compare_networks(const compare_command& options) { refuse(options.first); }

} // namespace quant_tool
