// SPDX-License-Identifier: MIT
// `quant export-c`: a quantized file as constants of a program that has no files. The text needs <stdint.h> alone and says the same
// in C99 and in C++17; floats are written in hexadecimal, so no digit is lost.
#include "io/atomic_file.hpp"
#include "storage.hpp"

#include <bit>
#include <charconv>
#include <map>

namespace quant_tool {

namespace {

bool is_letter_or_digit(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// A name of C: what it does not allow becomes '_', one for several, because two in a row are the compiler's.
std::string identifier(std::string_view name) {
    std::string out;
    for (const char c : name) {
        if (is_letter_or_digit(c)) {
            out += c;
        } else if (!out.ends_with('_')) {
            out += '_';
        }
    }
    if (out.empty() || !((out[0] >= 'a' && out[0] <= 'z') || (out[0] >= 'A' && out[0] <= 'Z'))) {
        out.insert(0, out.starts_with('_') ? "t" : "t_");
    }
    return out;
}

/// A name from a file in a comment: nothing that ends it, continues it or garbles a terminal.
std::string comment_text(std::string_view name) {
    std::string out;
    for (const char c : name.substr(0, 100)) {
        out += is_letter_or_digit(c) || std::string_view("._-/:[] ").find(c) != std::string_view::npos ? c : '?';
    }
    return out;
}

template <class Real> std::string hexadecimal(Real value) {
    char buffer[64];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::hex).ptr;
    return (std::signbit(value) ? "-0x" : "0x") + std::string(buffer, end) + (sizeof(Real) == 4 ? "f" : "");
}

std::string element_text(float value) { return hexadecimal(value); }
std::string element_text(double value) { return hexadecimal(value); }
std::string element_text(std::uint64_t value) { return std::to_string(value) + "u"; }
std::string element_text(std::int64_t value) {
    // The literal of the lowest value is a negated one that does not fit.
    return value == std::numeric_limits<std::int64_t>::min() ? "-9223372036854775807 - 1" : std::to_string(value);
}
template <class Integer> std::string element_text(Integer value) { return std::to_string(value); }

/// The text of the header, and what it holds.
class c_writer {
public:
    explicit c_writer(const export_c_command& options) : options_(options) {}

    void begin() {
        text_ = "// Written by quant export-c; change what it was written from instead.\n"
                "// Codes stand bit by bit, the lowest first, and every slice begins on a byte: slice s has the bytes\n"
                "// offsets[s] to offsets[s + 1] of codes, its codes are bits[s] wide, and real = (code - "
                "zero_points[s]) *\n"
                "// scales[s]. Signed codes are cut two's complement.\n"
                "#pragma once\n\n#include <stdint.h>\n\n"
                "#ifndef QUANT_CONSTANT\n#ifdef __cplusplus\n#define QUANT_CONSTANT inline constexpr\n"
                "#else\n#define QUANT_CONSTANT static const\n#endif\n#endif\n";
    }

    void quantized(const stored_tensor& t) {
        const auto name = unique(t.name);
        const auto format = t.codes.format();
        const auto params = t.codes.params();
        const auto parts = parts_of(t);
        text_ += "\n// " + comment_text(t.name) + ": " + shape_text(t.shape) + ", " +
                 (format.is_signed ? "signed" : "unsigned") + " codes, " + counted(t.layout.slices(), "slice");
        if (t.layout.granularity == granularity_choice::per_axis) {
            text_ += ", one per index of axis " + std::to_string(t.axis);
        } else if (t.layout.granularity == granularity_choice::per_group) {
            text_ += ", one per " + counted(t.layout.group_size, "element") + " along axis " + std::to_string(t.axis);
        }
        text_ += "\n";
        std::vector<float> scales;
        std::vector<std::int32_t> zero_points;
        std::vector<std::uint8_t> widths;
        std::vector<std::uint64_t> offsets{0};
        for (std::uint64_t s = 0; s < params.size(); ++s) {
            scales.push_back(params[s].scale);
            zero_points.push_back(params[s].zero_point);
            widths.push_back(params[s].format.bits);
            offsets.push_back(offsets.back() + quant::packed_bytes(t.layout.slice_size(s), params[s].format));
        }
        if (offsets.back() > std::numeric_limits<std::uint32_t>::max()) {
            throw error(exit_code::data, options_.input, t.name, "has more than 4 GiB of codes");
        }
        shape(name, t.shape);
        array(name + "_codes", "uint8_t", bytes_of(parts.front()));
        array(name + "_offsets", "uint32_t", std::span<const std::uint64_t>(offsets));
        array(name + "_scales", "float", std::span<const float>(scales));
        array(name + "_zero_points", "int32_t", std::span<const std::int32_t>(zero_points));
        array(name + "_bits", "uint8_t", std::span<const std::uint8_t>(widths));
        if (!t.codes.corrections().empty()) {
            std::vector<float> gains, shifts;
            for (const auto& c : t.codes.corrections()) {
                gains.push_back(c.gain);
                shifts.push_back(c.shift);
            }
            text_ += "// value of the weights = gain * real + shift\n";
            array(name + "_gains", "float", std::span<const float>(gains));
            array(name + "_shifts", "float", std::span<const float>(shifts));
        }
        rows_.push_back({t.name, name, "codes", t.shape, offsets.back()});
    }

    void plain(tensor& t) {
        const auto name = unique(t.name);
        text_ += "\n// " + comment_text(t.name) + ": " + shape_text(t.shape) + ", " + std::string(name_of(t.type));
        if (t.size() == 0) {
            text_ += "; no elements\n";
            return;
        }
        const char* type = "uint8_t";
        switch (t.type) {
        case dtype::f32: type = "float"; break;
        case dtype::f64: type = "double"; break;
        case dtype::i64: type = "int64_t"; break;
        case dtype::u64: type = "uint64_t"; break;
        case dtype::i32: type = "int32_t"; break;
        case dtype::u32: type = "uint32_t"; break;
        case dtype::i16: type = "int16_t"; break;
        case dtype::f16:
        case dtype::bf16: text_ += ", its bits"; [[fallthrough]];
        case dtype::u16: type = "uint16_t"; break;
        case dtype::i8: type = "int8_t"; break;
        case dtype::u8:
        case dtype::boolean: break;
        default: text_ += ", its bytes"; break;
        }
        text_ += "\n";
        shape(name, t.shape);
        switch (t.type) {
        case dtype::f32: array(name, type, finite<float>(t)); break;
        case dtype::f64: array(name, type, finite<double>(t)); break;
        case dtype::i64: array(name, type, t.as<std::int64_t>()); break;
        case dtype::u64: array(name, type, t.as<std::uint64_t>()); break;
        case dtype::i32: array(name, type, t.as<std::int32_t>()); break;
        case dtype::u32: array(name, type, t.as<std::uint32_t>()); break;
        case dtype::i16: array(name, type, t.as<std::int16_t>()); break;
        case dtype::f16:
        case dtype::bf16:
        case dtype::u16: array(name, type, t.as<std::uint16_t>()); break;
        case dtype::i8: array(name, type, t.as<std::int8_t>()); break;
        default: array(name, type, bytes_of(t)); break;
        }
        rows_.push_back({t.name, name, std::string(name_of(t.type)), t.shape, t.bytes.size()});
    }

    struct row {
        std::string tensor, name, type;
        shape_type shape;
        std::uint64_t bytes;
    };
    [[nodiscard]] const std::vector<row>& rows() const noexcept { return rows_; }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

private:
    std::string unique(const std::string& tensor_name) {
        auto name = identifier(options_.prefix + tensor_name);
        // Names with an ending are those of a tensor's parts: they must not meet those of another tensor either.
        for (const auto* const part :
             {"", "_shape", "_codes", "_offsets", "_scales", "_zero_points", "_bits", "_gains", "_shifts"}) {
            const auto [other, is_new] = used_.emplace(name + part, tensor_name);
            if (!is_new) {
                throw error(exit_code::data, options_.input, tensor_name,
                            "and tensor '" + printable(other->second) + "' would both be called " + other->first);
            }
        }
        return name;
    }

    static std::span<const std::uint8_t> bytes_of(const tensor& t) {
        return {reinterpret_cast<const std::uint8_t*>(t.bytes.data()), t.bytes.size()};
    }

    template <class Real> std::span<const Real> finite(tensor& t) {
        const auto values = t.as<Real>();
        for (const Real v : values) {
            if (!std::isfinite(v)) {
                throw error(exit_code::data, options_.input, t.name, "holds values that are not finite");
            }
        }
        return values;
    }

    void shape(const std::string& name, const shape_type& extents) {
        if (!extents.empty()) {
            array(name + "_shape", "uint32_t", std::span<const std::uint64_t>(extents));
        }
    }

    template <class T> void array(const std::string& name, std::string_view type, std::span<const T> values) {
        text_ += "QUANT_CONSTANT " + std::string(type) + " " + name + "[" + std::to_string(values.size()) + "] = {";
        std::size_t column = 120; // the first value begins a line
        for (std::size_t i = 0; i < values.size(); ++i) {
            const auto element = element_text(values[i]) + (i + 1 == values.size() ? "" : ",");
            if (column + 1 + element.size() > 120) {
                text_ += "\n    ";
                column = 4;
            } else {
                text_ += ' ';
                ++column;
            }
            text_ += element;
            column += element.size();
        }
        text_ += "};\n";
    }

    const export_c_command& options_;
    std::string text_;
    std::map<std::string, std::string> used_; ///< name of C -> tensor
    std::vector<row> rows_;
};

} // namespace

void export_c(const export_c_command& options) {
    const auto policy = options.force ? overwrite::yes : overwrite::no;
    if (!options.output.ends_with(".h") && !options.output.ends_with(".hpp")) {
        throw error(exit_code::output, options.output, "the name must end in .h or .hpp");
    }
    check_target(options.output, policy);
    auto split = split_quantized(read_tensors(options.input), options.input, options.threads);
    const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
    std::sort(split.quantized.begin(), split.quantized.end(), by_name);
    std::sort(split.plain.begin(), split.plain.end(), by_name);

    c_writer writer(options);
    writer.begin();
    for (const auto& t : split.quantized) {
        writer.quantized(t);
    }
    for (auto& t : split.plain) {
        writer.plain(t);
    }
    atomic_file file(options.output, policy);
    file.write(writer.text());
    file.commit();

    std::uint64_t bytes = 0;
    for (const auto& r : writer.rows()) {
        bytes += r.bytes;
    }
    if (options.json) {
        json document{{"command", "export-c"}, {"input", options.input}, {"output", options.output}};
        document["tensors"] = json::array();
        for (const auto& r : writer.rows()) {
            document["tensors"].push_back(
                {{"name", r.tensor}, {"identifier", r.name}, {"type", r.type}, {"shape", r.shape}, {"bytes", r.bytes}});
        }
        document["totals"] = {{"tensors", writer.rows().size()}, {"bytes", bytes}};
        print(document);
    } else if (!options.quiet) {
        table rows({"tensor", "called", "type", "shape", "bytes"});
        for (const auto& r : writer.rows()) {
            rows.row({printable(r.tensor), r.name, r.type, shape_text(r.shape), bytes_text(r.bytes)});
        }
        rows.print(std::cout);
        std::cout << counted(writer.rows().size(), "tensor") << ", " << bytes_text(bytes)
                  << " of codes and values, scales not counted\n";
        finish_output();
    }
}

} // namespace quant_tool
