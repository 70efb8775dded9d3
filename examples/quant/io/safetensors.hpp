// SPDX-License-Identifier: MIT
#pragma once
// Reader and writer of .safetensors: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
//
//   tensor_file model = read_safetensors("model.safetensors");        // mapped, nothing copied; throws error
//   std::span<const float> w = model.find("conv1.weight")->as<float>();
//   write_safetensors("out.safetensors", {.tensors = {make_tensor("w", dtype::f32, {2}, std::vector{1.f, 2.f})}});
//
// The reader trusts nothing. As the reference implementation: the header is at most 100 MB and lies inside the file,
// starts with '{', every tensor's range follows the one before it without holes or overlaps and has the size its
// shape and type ask for, and the last one ends with the file. Beyond it: duplicate names and unknown keys are refused.

#include "atomic_file.hpp"
#include "tensor_file.hpp"

namespace quant_tool {

inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;

/// Read safetensors from bytes already in memory; `file` is the name used in messages.
[[nodiscard]] tensor_file parse_safetensors(const byte_block& content, const std::string& file);
/// Read a file; tensors come in the order of their bytes. Throws error (exit_code::input).
[[nodiscard]] tensor_file read_safetensors(const std::string& path);

/// The tensors in the order of their bytes, as the reference writer has it: widest type first, then by name, so every tensor is aligned to its
/// type.
[[nodiscard]] std::vector<const tensor*> safetensors_order(const std::vector<tensor>& tensors);

/// The length field and the header, padded with spaces so that the data start at a multiple of 8.
[[nodiscard]] std::string safetensors_header(const tensor_file& content, const std::string& file);
/// Write a file, whole or not at all; returns its size. Same content, same bytes. Throws error (exit_code::output).
std::uint64_t write_safetensors(const std::string& path, const tensor_file& content, overwrite policy = overwrite::no);

} // namespace quant_tool
