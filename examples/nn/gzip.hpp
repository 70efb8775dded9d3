// SPDX-License-Identifier: MIT
#pragma once

// A gzip file as one string.

#include "../quant/io/error.hpp"

#include <zlib.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

namespace nn {

/// The content of a gzip file (or of a plain one: zlib passes it through).
inline std::string read_gzip(const std::string& path) {
    using quant_tool::exit_code;
    errno = 0;
    const gzFile file = gzopen(path.c_str(), "rb");
    if (file == nullptr)
        throw quant_tool::error(exit_code::input, path,
                                std::string("cannot open: ") + std::strerror(errno != 0 ? errno : ENOMEM));
    std::string content;
    char block[1 << 14];
    int got = 0;
    while ((got = gzread(file, block, sizeof block)) > 0) content.append(block, static_cast<std::size_t>(got));
    const int closed = gzclose_r(file); // reports a stream that ends too early
    if (got < 0 || closed != Z_OK) throw quant_tool::error(exit_code::input, path, "is truncated or damaged");
    return content;
}

} // namespace nn
