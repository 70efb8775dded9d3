// SPDX-License-Identifier: MIT
#pragma once
// How the programs in examples/ report a failure: one exception type that names the file, the tensor and the
// cause, and the exit code that goes with it. The library itself never throws; a program may.

#include <stdexcept>
#include <string>
#include <string_view>

namespace quant_tool {

/// Exit codes of the command-line tool (docs/tool.md lists them for users).
enum class exit_code : int {
    ok = 0,
    internal = 1, ///< out of memory, or a defect of the program
    usage = 2,    ///< unknown, malformed or contradictory options
    input = 3,    ///< a file is missing, unreadable, truncated, lying or of an unsupported kind
    output = 4,   ///< the output exists (no --force) or cannot be written
    data = 5,     ///< the values do not admit what was asked for (NaN weights, an unreachable budget)
    threshold = 6 ///< `compare --min-sqnr`: a tensor is below the asked-for quality
};

/// Names come from files: control characters would garble a terminal or hide text, so they are shown escaped.
[[nodiscard]] inline std::string printable(std::string_view text, std::size_t limit = 200) {
    constexpr char hex[] = "0123456789abcdef";
    std::string out;
    for (const char c : text.substr(0, limit)) {
        const auto u = static_cast<unsigned char>(c);
        if (u < 0x20 || u == 0x7f) {
            out += "\\x";
            out += hex[u >> 4];
            out += hex[u & 15];
        } else {
            out += c;
        }
    }
    if (text.size() > limit) {
        out += "...";
    }
    return out;
}

/// One failure: `what()` is the one line shown to the user, "file: tensor 'name': cause".
class error : public std::runtime_error {
public:
    error(exit_code code, std::string_view file, std::string_view tensor, std::string_view cause)
        : std::runtime_error(line(file, tensor, cause)), code_(code) {}
    error(exit_code code, std::string_view file, std::string_view cause) : error(code, file, {}, cause) {}

    [[nodiscard]] exit_code code() const noexcept { return code_; }

private:
    static std::string line(std::string_view file, std::string_view tensor, std::string_view cause) {
        std::string out;
        if (!file.empty()) {
            out += printable(file, 4096) + ": ";
        }
        if (!tensor.empty()) {
            out += "tensor '" + printable(tensor) + "': ";
        }
        return out += cause;
    }
    exit_code code_;
};

} // namespace quant_tool
