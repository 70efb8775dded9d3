// SPDX-License-Identifier: MIT
// The tool where ONNX's protobuf messages were not found.

#include "quantize_values.hpp"

namespace quant_tool {

void quantize_onnx(const quantize_command& options) {
    throw error(exit_code::usage, options.input, "this program was built without ONNX (libonnx-dev was not there)");
}

} // namespace quant_tool
