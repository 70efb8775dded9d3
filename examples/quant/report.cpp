// SPDX-License-Identifier: MIT
#include "report.hpp"

namespace quant_tool {

json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

std::string shape_text(const shape_type& shape) {
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

std::string counted(std::uint64_t n, const std::string& what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

std::string number_text(const char* format, double value) {
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}

std::string bytes_text(std::uint64_t bytes) {
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

std::string decibel_text(double sqnr) { return std::isinf(sqnr) && sqnr > 0 ? "exact" : number_text("%.2f", sqnr); }

void table::print(std::ostream& out) const {
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

void finish_output() {
    std::cout.flush();
    if (!std::cout) {
        throw error(exit_code::output, "stdout", "cannot write the results");
    }
}

void print(const json& document) {
    // Names come from .npz archives, which do not promise UTF-8.
    std::cout << document.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
    finish_output();
}

void progress::clear() noexcept {
    if (shown_) {
        std::fputs("\r\033[K", stderr);
        shown_ = false;
    }
}

void progress::done(std::uint64_t bytes, std::size_t units) {
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
    const auto speed = bytes_ != 0 ? bytes_text(static_cast<std::uint64_t>(rate)) : number_text("%.1f ", rate) + unit_;
    const auto line = what_ + " " + std::to_string(units_done_) + "/" + std::to_string(units_) + " " + unit_ + ", " +
                      speed + "/s, " + number_text("%.0f s left", left);
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    std::fflush(stderr);
}

} // namespace quant_tool
