// SPDX-License-Identifier: MIT
#pragma once
// What the user sees: aligned tables and JSON on stdout, progress on stderr when that is a terminal.

#include "io/error.hpp"
#include "io/tensor_file.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace quant_tool {

using json = nlohmann::ordered_json;

/// A number that JSON can hold: infinities and NaN become null.
[[nodiscard]] json number(double value);

[[nodiscard]] std::string shape_text(const shape_type& shape);

/// "1 image", "7 images".
[[nodiscard]] std::string counted(std::uint64_t n, const std::string& what);

/// Formats one double; `format` is a printf conversion.
[[nodiscard]] std::string number_text(const char* format, double value);

[[nodiscard]] std::string bytes_text(std::uint64_t bytes);

/// SQNR in decibels; an exact copy has no noise to speak of.
[[nodiscard]] std::string decibel_text(double sqnr);

/// Columns as wide as their widest cell; the first is left-aligned, the others right-aligned.
class table {
public:
    explicit table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

    void print(std::ostream& out) const;

private:
    std::vector<std::vector<std::string>> rows_;
};

/// Results must arrive: a full disk or a closed pipe behind stdout is an error like any other.
void finish_output();
void print(const json& document);

/// "12/340 tensors, 35.1 MiB/s, 3 s left" on one line of stderr, redrawn at most ten times a second. Threads may share it.
/// Where no bytes are announced, the rate and the time left are those of the units.
class progress {
public:
    progress(std::string what, std::size_t units, std::uint64_t bytes, bool quiet, std::string unit = "tensors")
        : what_(std::move(what)), unit_(std::move(unit)), units_(units), bytes_(bytes),
          active_(!quiet && ::isatty(STDERR_FILENO) == 1) {}
    ~progress() { clear(); }
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;

    /// Takes the line away.
    void clear() noexcept;
    void done(std::uint64_t bytes, std::size_t units = 1);

private:
    using clock = std::chrono::steady_clock;
    std::string what_, unit_;
    std::size_t units_, units_done_ = 0;
    std::uint64_t bytes_, bytes_done_ = 0;
    clock::time_point start_ = clock::now(), drawn_ = start_;
    bool active_, shown_ = false;
    std::mutex guard_;
};

} // namespace quant_tool
