// SPDX-License-Identifier: MIT
#pragma once
// Reader and writer of NumPy's .npy, format versions 1 to 3. Arrays come out little-endian and in C order, whatever
// order the file has. Types without a counterpart in tensor_file (objects, strings, records) are refused by name.

#include "atomic_file.hpp"
#include "tensor_file.hpp"

namespace quant_tool {

/// What the header of a .npy file says.
struct npy_header {
    dtype type = dtype::f32;
    bool big_endian = false;
    bool fortran_order = false;
    shape_type shape;
    std::uint64_t data_offset = 0; ///< bytes before the first element
    std::uint64_t data_size = 0;   ///< bytes of the elements
};

/// Bytes of the fixed part plus the header, once the first 12 bytes of a file are known.
[[nodiscard]] std::uint64_t npy_header_size(std::span<const std::byte> start, const std::string& file,
                                            const std::string& name);
/// Parse the header from the first bytes of a file that has `total` bytes in all.
[[nodiscard]] npy_header parse_npy_header(std::span<const std::byte> start, std::uint64_t total,
                                          const std::string& file, const std::string& name);
/// The array of a whole .npy file in memory; copied only if its order or endianness asks for it.
[[nodiscard]] tensor parse_npy(const byte_block& content, const std::string& file, const std::string& name);
/// The name of the array in a .npy file: the file's name without directory and ending.
[[nodiscard]] std::string npy_tensor_name(std::string_view path);
[[nodiscard]] tensor_file read_npy(const std::string& path);

/// Everything before the elements: magic, version, header, padded to a multiple of 64 as NumPy does.
[[nodiscard]] std::string npy_preamble(const tensor& t, const std::string& file);
/// Write the only tensor of `content`; a .npy file holds one array and no metadata.
std::uint64_t write_npy(const std::string& path, const tensor_file& content, overwrite policy = overwrite::no);

} // namespace quant_tool
