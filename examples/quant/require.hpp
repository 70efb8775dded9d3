// SPDX-License-Identifier: MIT
#pragma once
// A status of the library as an error of a program.

#include "io/error.hpp"

#include <quant/core/status.hpp>
#include <quant/message.hpp>
#include <string>
#include <utility>

namespace quant_tool {

/// What went wrong, and with which argument: "bit width outside what is allowed here (codes)".
[[nodiscard]] inline std::string text_of(quant::status s) {
    return std::string(quant::message(s.code)) + " (" + s.argument + ")";
}

/// Throws what is not ok; `tensor` names what was worked on.
inline void require(quant::status s, const std::string& tensor) {
    if (!s) {
        throw error(exit_code::data, {}, tensor, text_of(s));
    }
}
template <class T> T require(quant::result<T> r, const std::string& tensor) {
    require(r.status(), tensor);
    return *std::move(r);
}

} // namespace quant_tool
