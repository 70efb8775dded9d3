// SPDX-License-Identifier: MIT
#include "npy.hpp"

#include "mapped_file.hpp"

#include <algorithm>
#include <charconv>
#include <set>

namespace quant_tool {

namespace {

/// Parser of the one Python literal a .npy header may hold: {'descr': '<f4', 'fortran_order': False, 'shape': (3,)}.
class npy_literal {
public:
    npy_literal(std::string_view text, const std::string& file, const std::string& name)
        : text_(text), file_(file), name_(name) {}

    npy_header parse() {
        npy_header out;
        std::set<std::string> seen;
        expect('{');
        while (!accept('}')) {
            const auto key = quoted();
            if (!seen.insert(key).second) {
                fail("the key '" + printable(key) + "' appears twice in the header");
            }
            expect(':');
            if (key == "descr") {
                descr(out);
            } else if (key == "fortran_order") {
                out.fortran_order = truth();
            } else if (key == "shape") {
                shape(out.shape);
            } else {
                fail("unknown key '" + printable(key) + "' in the header");
            }
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        skip();
        if (!text_.empty()) {
            fail("text after the end of the header's dictionary");
        }
        if (seen.size() != 3) {
            fail("the header lacks descr, fortran_order or shape");
        }
        return out;
    }

private:
    [[noreturn]] void fail(const std::string& cause) const { throw error(exit_code::input, file_, name_, cause); }

    void skip() {
        const auto n = text_.find_first_not_of(" \t\r\n");
        text_.remove_prefix(n == std::string_view::npos ? text_.size() : n);
    }
    bool accept(char c) {
        skip();
        if (text_.empty() || text_.front() != c) {
            return false;
        }
        text_.remove_prefix(1);
        return true;
    }
    void expect(char c) {
        if (!accept(c)) {
            fail(std::string("malformed header: expected '") + c + "'" +
                 (text_.empty() ? " at its end" : " before '" + printable(text_, 20) + "'"));
        }
    }
    std::string quoted() {
        skip();
        if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) {
            fail("malformed header: expected a quoted text");
        }
        const auto end = text_.find(text_.front(), 1);
        if (end == std::string_view::npos) {
            fail("malformed header: a quoted text does not end");
        }
        std::string out(text_.substr(1, end - 1));
        text_.remove_prefix(end + 1);
        return out;
    }
    bool truth() {
        skip();
        for (const bool value : {true, false}) {
            const std::string_view word = value ? "True" : "False";
            if (text_.substr(0, word.size()) == word) {
                text_.remove_prefix(word.size());
                return value;
            }
        }
        fail("malformed header: fortran_order must be True or False");
    }
    void descr(npy_header& out) {
        skip();
        if (!text_.empty() && text_.front() == '[') {
            fail("record arrays are not supported");
        }
        const auto text = quoted();
        if (text.size() >= 3) {
            const char order = text[0];
            for (const auto& d : dtypes) {
                // '|' means that byte order does not matter; '=' that of the writer, which nobody can know.
                const bool one_byte = d.bits == 8;
                if (!d.npy.empty() && std::string_view(text).substr(1) == d.npy &&
                    (order == '<' || order == '>' || (order == '|' && one_byte))) {
                    out.type = d.type;
                    out.big_endian = order == '>' && !one_byte;
                    return;
                }
            }
        }
        fail("unknown dtype '" + printable(text, 40) + "'");
    }
    void shape(shape_type& out) {
        expect('(');
        while (!accept(')')) {
            skip();
            std::uint64_t value = 0;
            const auto [end, code] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
            if (code != std::errc()) {
                fail("shape must hold non-negative integers below 2^64");
            }
            if (out.size() == max_rank) {
                fail("more than " + std::to_string(max_rank) + " dimensions");
            }
            out.push_back(value);
            text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
            if (!text_.empty() && text_.front() == 'L') {
                text_.remove_prefix(1);
            } // Python 2 wrote 3L
            if (!accept(',')) {
                expect(')');
                break;
            }
        }
    }

    std::string_view text_;
    const std::string& file_;
    const std::string& name_;
};

} // namespace

std::uint64_t npy_header_size(std::span<const std::byte> start, const std::string& file, const std::string& name) {
    const auto at = [&](std::size_t i) { return static_cast<std::uint64_t>(start[i]); };
    constexpr unsigned char magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    if (start.size() < 10 || std::memcmp(start.data(), magic, 6) != 0) {
        throw error(exit_code::input, file, name, "is no .npy file (its first bytes are not \\x93NUMPY)");
    }
    if (at(6) < 1 || at(6) > 3 || at(7) != 0) {
        throw error(exit_code::input, file, name,
                    "unknown .npy version " + std::to_string(at(6)) + "." + std::to_string(at(7)));
    }
    if (at(6) == 1) {
        return 10 + at(8) + 256 * at(9);
    }
    if (start.size() < 12) {
        throw error(exit_code::input, file, name, "truncated inside the .npy header");
    }
    return 12 + at(8) + 256 * at(9) + 65536 * at(10) + 16777216 * at(11);
}

npy_header parse_npy_header(std::span<const std::byte> start, std::uint64_t total, const std::string& file,
                            const std::string& name) {
    const auto header_end = npy_header_size(start, file, name);
    if (header_end > start.size()) {
        throw error(exit_code::input, file, name,
                    "truncated: the header claims to end at byte " + std::to_string(header_end) + ", the file has " +
                        std::to_string(total));
    }
    const std::size_t fixed = start[6] == std::byte{1} ? 10 : 12;
    const std::string_view text(reinterpret_cast<const char*>(start.data()) + fixed,
                                static_cast<std::size_t>(header_end) - fixed);
    auto out = npy_literal(text, file, name).parse();
    const auto size = byte_count(out.type, out.shape);
    if (!size) {
        throw error(exit_code::input, file, name, "the size of its shape overflows");
    }
    if (*size != total - header_end) {
        throw error(exit_code::input, file, name,
                    "shape and dtype need " + std::to_string(*size) + " bytes, the file has " +
                        std::to_string(total - header_end) + (*size > total - header_end ? " (truncated)" : ""));
    }
    out.data_offset = header_end;
    out.data_size = *size;
    return out;
}

tensor parse_npy(const byte_block& content, const std::string& file, const std::string& name) {
    const auto header = parse_npy_header(content.span(), content.size(), file, name);
    tensor out{name, header.type, header.shape, content.part(header.data_offset, header.data_size)};
    const std::size_t element = info(header.type).bits / 8;
    const auto source = out.bytes.span();
    const std::size_t count = source.size() / element;
    const std::size_t rank = out.shape.size();
    const bool transpose = header.fortran_order && rank > 1 && count > 1;
    if (!transpose && !header.big_endian) {
        return out;
    }

    std::vector<std::byte> bytes(source.size());
    if (transpose) {
        // Walk the result in C order; `from` is the element's place when the first index runs fastest.
        std::vector<std::uint64_t> index(rank, 0), stride(rank, 1);
        for (std::size_t d = 1; d < rank; ++d) {
            stride[d] = stride[d - 1] * out.shape[d - 1];
        }
        std::uint64_t from = 0;
        for (std::size_t to = 0; to < count; ++to) {
            std::memcpy(&bytes[to * element], &source[static_cast<std::size_t>(from) * element], element);
            for (std::size_t d = rank; d-- > 0;) {
                from += stride[d];
                if (++index[d] < out.shape[d]) {
                    break;
                }
                from -= stride[d] * out.shape[d];
                index[d] = 0;
            }
        }
    } else {
        std::copy(source.begin(), source.end(), bytes.begin());
    }
    if (header.big_endian) {
        // A complex number is two halves, each with its own byte order.
        const std::size_t unit = header.type == dtype::c64 ? 4 : element;
        for (std::size_t i = 0; i < bytes.size(); i += unit) {
            std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                         bytes.begin() + static_cast<std::ptrdiff_t>(i + unit));
        }
    }
    out.bytes = byte_block::adopt(std::move(bytes));
    return out;
}

std::string npy_tensor_name(std::string_view path) {
    if (const auto slash = path.rfind('/'); slash != std::string_view::npos) {
        path.remove_prefix(slash + 1);
    }
    if (path.size() > 4 && path.substr(path.size() - 4) == ".npy") {
        path.remove_suffix(4);
    }
    return std::string(path);
}

tensor_file read_npy(const std::string& path) {
    const auto content = map_file(path);
    tensor_file out;
    out.bytes_on_disk = content.size();
    out.tensors.push_back(parse_npy(content, path, npy_tensor_name(path)));
    return out;
}

std::string npy_preamble(const tensor& t, const std::string& file) {
    const auto kind = info(t.type).npy;
    if (kind.empty()) {
        throw error(exit_code::output, file, t.name,
                    "NumPy files have no " + std::string(name_of(t.type)) +
                        "; write .safetensors, or convert with --dtype F32");
    }
    std::string text = "{'descr': '";
    text += info(t.type).bits == 8 ? '|' : '<';
    text += kind;
    text += "', 'fortran_order': False, 'shape': (";
    for (std::size_t d = 0; d < t.shape.size(); ++d) {
        text += (d == 0 ? "" : ", ") + std::to_string(t.shape[d]) + (t.shape.size() == 1 ? "," : "");
    }
    text += "), }";
    // max_rank numbers of at most 20 digits: the length always fits version 1.0.
    text.append(63 - (10 + text.size()) % 64, ' ');
    text += '\n';
    std::string out("\x93NUMPY\x01\x00", 8);
    out += static_cast<char>(text.size() & 255);
    out += static_cast<char>(text.size() >> 8);
    return out + text;
}

std::uint64_t write_npy(const std::string& path, const tensor_file& content, overwrite policy) {
    if (content.tensors.size() != 1) {
        throw error(exit_code::output, path,
                    "a .npy file holds one array, there are " + std::to_string(content.tensors.size()) +
                        " tensors to write (use .npz or .safetensors)");
    }
    const auto& t = content.tensors.front();
    const auto preamble = npy_preamble(t, path);
    atomic_file out(path, policy);
    out.write(preamble);
    out.write(t.bytes.span());
    out.commit();
    return preamble.size() + t.bytes.size();
}

} // namespace quant_tool
