// SPDX-License-Identifier: MIT
#include "files.hpp"

namespace quant_tool {

file_format format_of(const std::string& path, exit_code code) {
    constexpr std::pair<std::string_view, file_format> endings[] = {
        {".safetensors", file_format::safetensors}, {".npy", file_format::npy}, {".npz", file_format::npz}};
    for (const auto& [ending, format] : endings) {
        if (path.size() > ending.size() && path.compare(path.size() - ending.size(), ending.size(), ending) == 0) {
            return format;
        }
    }
    throw error(code, path, "unknown kind of file: the name must end in .safetensors, .npy or .npz");
}

tensor_file read_tensors(const std::string& path) {
    switch (format_of(path, exit_code::input)) {
    case file_format::npy: return read_npy(path);
    case file_format::npz: return read_npz(path);
    case file_format::safetensors: break;
    }
    return read_safetensors(path);
}

std::uint64_t write_tensors(const std::string& path, const tensor_file& content, overwrite policy) {
    switch (format_of(path, exit_code::output)) {
    case file_format::npy: return write_npy(path, content, policy);
    case file_format::npz: return write_npz(path, content, policy);
    case file_format::safetensors: break;
    }
    return write_safetensors(path, content, policy);
}

} // namespace quant_tool
