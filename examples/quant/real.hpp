// SPDX-License-Identifier: MIT
#pragma once
// From a tensor of a file to the library's views: the element type is known at run time, a template wants it earlier.

#include "io/tensor_file.hpp"

#include <quant/core/half.hpp>
#include <quant/core/status.hpp>
#include <quant/message.hpp>

namespace quant_tool {

/// Calls f with a span of the elements in their own type. Precondition: is_real(t.type).
template <class F> decltype(auto) with_real(tensor& t, F f) {
    switch (t.type) {
    case dtype::f64: return f(t.as<double>());
    case dtype::f16: return f(t.as<quant::float16>());
    case dtype::bf16: return f(t.as<quant::bfloat16>());
    default: return f(t.as<float>());
    }
}

/// A failed call of the library as one line: "codes: bit width outside what is allowed here".
[[nodiscard]] inline error refused(quant::status s, const std::string& file, const std::string& name) {
    const auto code = s.code == quant::errc::out_of_memory ? exit_code::internal : exit_code::data;
    return {code, file, name, std::string(s.argument) + (*s.argument != '\0' ? ": " : "") + quant::message(s)};
}

} // namespace quant_tool
