// SPDX-License-Identifier: MIT
#pragma once
// From a tensor of a file to what the library takes, and from its status to the tool's errors.

#include "io/tensor_file.hpp"
#include "threads.hpp"

#include <quant/core/half.hpp>
#include <quant/core/status.hpp>
#include <quant/message.hpp>

namespace quant_tool {

/// The elements as float, in place if they are that already, else in `buffer`: exact for F16 and BF16, rounded to nearest
/// for F64 (the library reads doubles as float for its statistics too). One element type keeps the program small; the
/// library itself takes all four. Precondition: is_real(t.type).
[[nodiscard]] inline std::span<const float> as_floats(tensor& t, std::vector<float>& buffer, unsigned threads) {
    const auto convert = [&](auto values) {
        buffer.resize(values.size());
        for_each_block(values.size(), threads, [&](std::size_t first, std::size_t count) {
            for (std::size_t i = first; i < first + count; ++i) {
                buffer[i] = quant::to_float(values[i]);
            }
        });
        return std::span<const float>(buffer);
    };
    switch (t.type) {
    case dtype::f64: return convert(t.as<double>());
    case dtype::f16: return convert(t.as<quant::float16>());
    case dtype::bf16: return convert(t.as<quant::bfloat16>());
    default: return t.as<float>();
    }
}

/// A failed call of the library as one line: "codes: bit width outside what is allowed here".
[[nodiscard]] inline error refused(quant::status s, const std::string& file, const std::string& name) {
    const auto code = s.code == quant::errc::out_of_memory ? exit_code::internal : exit_code::data;
    return {code, file, name, std::string(s.argument) + (*s.argument != '\0' ? ": " : "") + quant::message(s)};
}

} // namespace quant_tool
