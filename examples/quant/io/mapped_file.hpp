// SPDX-License-Identifier: MIT
#pragma once
// A whole input file as bytes, mapped read-only: a large model costs address space, not memory.

#include "tensor_file.hpp"

namespace quant_tool {

[[nodiscard]] byte_block map_file(const std::string& path);

} // namespace quant_tool
