// SPDX-License-Identifier: MIT
#pragma once
// Reader and writer of NumPy's .npz, a ZIP archive of .npy members, through libzip. Members are stored or deflated on
// the way in and stored on the way out. Text metadata, which .npz does not know, travels as a member `__metadata__`:
// a one-dimensional U8 array that holds a JSON object of strings.

#include "npy.hpp"

namespace quant_tool {

inline constexpr std::string_view npz_metadata_member = "__metadata__";

/// Read every member. Sizes are checked against the archive and the array's own header before memory is taken.
[[nodiscard]] tensor_file read_npz(const std::string& path);
/// Write an archive of stored members with a fixed date: same content, same bytes.
std::uint64_t write_npz(const std::string& path, const tensor_file& content, overwrite policy = overwrite::no);

} // namespace quant_tool
