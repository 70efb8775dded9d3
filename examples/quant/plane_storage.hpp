// SPDX-License-Identifier: MIT
#pragma once
// Tensors whose codes stand in a file as bit planes (docs/bit_planes.md, "In files"): which planes are live, for all rows or for each of them.

#include "storage.hpp"

#include <bit>

namespace quant_tool {

/// The planes of a row, bit e for a plane of +2^e, bit 8 + e for one of -2^e.
using live_mask = std::uint16_t;

/// Rows that share planes when a tensor is a matrix of planes: the slices of per_axis, else the indices of the first dimension.
[[nodiscard]] std::size_t plane_rows(const stored_tensor& t) noexcept;
/// 16-bit words of the planes that are live, with so many columns. Precondition: t.live has one entry, or one for each row.
[[nodiscard]] std::uint64_t plane_words(const stored_tensor& t, std::uint64_t cols) noexcept;

/// Decides how the codes of a tensor will be stored, and with which planes: sets t.live.
void choose_storage(stored_tensor& t, storage_choice choice);

[[nodiscard]] std::vector<std::uint16_t> pack_planes(const stored_tensor& t);
/// Fills in the codes, whose room and format are there. Returns what is wrong with the words, or nothing.
[[nodiscard]] std::string unpack_planes(stored_tensor& t, std::span<const std::uint16_t> words);

/// Bits a weight takes in the file, parameters not counted: planes, the one of the sign among them, or the width of its code.
[[nodiscard]] double stored_bits(const stored_tensor& t) noexcept;
/// "dense", "3 planes", or with a mean over the rows "2.41 planes".
[[nodiscard]] std::string storage_text(const stored_tensor& t);

} // namespace quant_tool
