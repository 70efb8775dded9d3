// SPDX-License-Identifier: MIT
#pragma once
// What the fuzz targets of file readers share: the promise that all readers make, and files for those that take names.
#include "../../examples/quant/io/error.hpp"
#include "input.hpp"
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <unistd.h>

namespace fuzz {

/// Calls read(), which may refuse its input by the error that names `file` and nothing else. Whether it did not.
template <class F> bool reads(std::string_view file, F&& read) {
    try {
        read();
        return true;
    } catch (const quant_tool::error& e) {
        const std::string_view what = e.what();
        const bool named = what.starts_with(file) && what.size() > file.size() + 2;
        if (e.code() != quant_tool::exit_code::input || !named) std::fprintf(stderr, "the error: %s\n", e.what());
        require(e.code() == quant_tool::exit_code::input && named);
        return false;
    }
}

/// A folder of this process for readers that take names; in memory where the system has that.
class folder {
public:
    folder() {
        const auto* const memory = "/dev/shm";
        std::string path = ::access(memory, W_OK) == 0 ? memory : std::filesystem::temp_directory_path().string();
        path += "/quant-fuzz-XXXXXX";
        require(::mkdtemp(path.data()) != nullptr);
        path_ = path;
    }
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    /// The path of a file in it.
    [[nodiscard]] std::string operator/(std::string_view name) const { return path_ + '/' + std::string(name); }
    /// Makes a file of these bytes; returns its path.
    std::string write(std::string_view name, std::string_view content) const {
        std::string path = *this / name;
        std::FILE* const file = std::fopen(path.c_str(), "wb");
        require(file != nullptr);
        require(std::fwrite(content.data(), 1, content.size(), file) == content.size());
        require(std::fclose(file) == 0);
        return path;
    }

private:
    std::string path_;
};

inline std::string_view text(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

} // namespace fuzz
