// SPDX-License-Identifier: MIT
#pragma once
// Reads and writes tensor files of any of the three formats; the ending of the name decides.

#include "npz.hpp"
#include "safetensors.hpp"

namespace quant_tool {

enum class file_format : std::uint8_t { safetensors, npy, npz };

/// The format a name asks for; throws error with `code` for any other ending.
[[nodiscard]] file_format format_of(const std::string& path, exit_code code);

[[nodiscard]] tensor_file read_tensors(const std::string& path);
/// Returns the size of the written file.
std::uint64_t write_tensors(const std::string& path, const tensor_file& content, overwrite policy);

} // namespace quant_tool
