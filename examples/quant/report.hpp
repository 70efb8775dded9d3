// SPDX-License-Identifier: MIT
#pragma once
// What the user sees: aligned tables and JSON on stdout, progress on stderr when that is a terminal.

#include "io/error.hpp"
#include "io/tensor_file.hpp"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace quant_tool {

using json = nlohmann::ordered_json;

/// A number that JSON can hold: infinities and NaN become null.
[[nodiscard]] inline json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

[[nodiscard]] inline std::string shape_text(const shape_type& shape) {
    if (shape.empty()) {
        return "scalar";
    }
    std::string out;
    for (const auto extent : shape) {
        if (!out.empty()) {
            out += 'x';
        }
        out += std::to_string(extent);
    }
    return out;
}

/// "1 image", "7 images".
[[nodiscard]] inline std::string counted(std::uint64_t n, const std::string& what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

/// Formats one double; `format` is a printf conversion.
[[nodiscard]] inline std::string number_text(const char* format, double value) {
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}

[[nodiscard]] inline std::string bytes_text(std::uint64_t bytes) {
    if (bytes < 1024) {
        return std::to_string(bytes) + " B";
    }
    double value = static_cast<double>(bytes);
    const char* unit = "";
    for (const char* u : {"KiB", "MiB", "GiB", "TiB"}) {
        value /= 1024;
        unit = u;
        if (value < 1024) {
            break;
        }
    }
    return number_text(value < 10 ? "%.2f " : "%.1f ", value) + unit;
}

/// SQNR in decibels; an exact copy has no noise to speak of.
[[nodiscard]] inline std::string decibel_text(double sqnr) {
    return std::isinf(sqnr) && sqnr > 0 ? "exact" : number_text("%.2f", sqnr);
}

/// Columns as wide as their widest cell; the first is left-aligned, the others right-aligned.
class table {
public:
    explicit table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

    void print(std::ostream& out) const {
        std::vector<std::size_t> width;
        for (const auto& r : rows_) {
            width.resize(std::max(width.size(), r.size()));
            for (std::size_t c = 0; c < r.size(); ++c) {
                width[c] = std::max(width[c], r[c].size());
            }
        }
        for (const auto& r : rows_) {
            std::string line;
            for (std::size_t c = 0; c < r.size(); ++c) {
                const std::string pad(width[c] - r[c].size(), ' ');
                line += (c == 0 ? "" : "  ") + (c == 0 ? r[c] + pad : pad + r[c]);
            }
            line.erase(line.find_last_not_of(' ') + 1);
            out << line << '\n';
        }
    }

private:
    std::vector<std::vector<std::string>> rows_;
};

/// Results must arrive: a full disk or a closed pipe behind stdout is an error like any other.
inline void finish_output() {
    std::cout.flush();
    if (!std::cout) {
        throw error(exit_code::output, "stdout", "cannot write the results");
    }
}
inline void print(const json& document) {
    // Names come from .npz archives, which do not promise UTF-8.
    std::cout << document.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
    finish_output();
}

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
    void clear() noexcept {
        if (shown_) {
            std::fputs("\r\033[K", stderr);
            shown_ = false;
        }
    }
    void done(std::uint64_t bytes, std::size_t units = 1) {
        const std::lock_guard lock(guard_);
        units_done_ += units;
        bytes_done_ += bytes;
        const auto now = clock::now();
        if (!active_ || now - drawn_ < std::chrono::milliseconds(100)) {
            return;
        }
        drawn_ = now;
        shown_ = true;
        const double seconds = std::chrono::duration<double>(now - start_).count();
        const auto amount = static_cast<double>(bytes_ != 0 ? bytes_done_ : units_done_);
        const auto all = static_cast<double>(bytes_ != 0 ? bytes_ : units_);
        const double rate = amount / seconds, left = rate > 0 ? (all - amount) / rate : 0;
        const auto speed =
            bytes_ != 0 ? bytes_text(static_cast<std::uint64_t>(rate)) : number_text("%.1f ", rate) + unit_;
        const auto line = what_ + " " + std::to_string(units_done_) + "/" + std::to_string(units_) + " " + unit_ +
                          ", " + speed + "/s, " + number_text("%.0f s left", left);
        std::fprintf(stderr, "\r\033[K%s", line.c_str());
        std::fflush(stderr);
    }

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
