// SPDX-License-Identifier: MIT
// libFuzzer: any description and any parts are a quantized file (docs/file-format.md) or an error that names it; what was read restores
// to finite sizes, and is written and read again the same.
//
// The input: the text of `quant.tensors` in one line; then lines `name TYPE extent extent ...`, a part each; after an empty line the
// bytes of the parts, one after the other. So every change of the text leaves a file that is sound up to its meaning.
#include "../../examples/quant/plane_storage.hpp"
#include "files.hpp"
#include <algorithm>
#include <charconv>

namespace {

using namespace quant_tool;

std::string_view line_of(std::string_view& rest) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
}
std::string_view word_of(std::string_view& rest) {
    const auto end = std::min(rest.find(' '), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return word;
}

/// The file that the input describes; parts that would be larger than a little are left out.
tensor_file file_of(std::string_view rest) {
    tensor_file out;
    std::string_view text = line_of(rest);
    const char* version = format_version;
    if (text.starts_with('2')) {
        version = planes_version;
        text.remove_prefix(1);
    }
    out.metadata = {{format_key, version}, {tensors_key, std::string(text)}, {"other", "kept"}};
    while (!rest.empty()) {
        std::string_view line = line_of(rest);
        if (line.empty()) break;
        tensor t;
        t.name = word_of(line);
        t.type = dtype_from_name(word_of(line)).value_or(dtype::u8);
        while (!line.empty() && t.shape.size() < max_rank) {
            const auto word = word_of(line);
            std::uint64_t extent = 0;
            std::from_chars(word.data(), word.data() + word.size(), extent);
            t.shape.push_back(extent);
        }
        const auto size = byte_count(t.type, t.shape);
        if (size && *size <= 1u << 14) out.tensors.push_back(std::move(t));
    }
    for (auto& t : out.tensors) {
        std::vector<std::byte> bytes(*byte_count(t.type, t.shape));
        const auto n = std::min(bytes.size(), rest.size());
        if (n != 0) std::memcpy(bytes.data(), rest.data(), n);
        rest.remove_prefix(n);
        t.bytes = byte_block::adopt(std::move(bytes));
    }
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    most_codes_without_bytes = 1u << 12;
    const tensor_file file = file_of(fuzz::text(data, size));
    quantized_file read;
    if (!fuzz::reads("any", [&] { read = split_quantized(file, "any", 1); })) return 0;
    std::size_t used = read.plain.size();
    tensor_file written;
    written.metadata = {{format_key, planes_version}};
    written.tensors = read.plain;
    json texts = json::object();
    for (const stored_tensor& t : read.quantized) {
        const tensor values = restore(t, t.type, 1);
        fuzz::require(values.shape == t.shape && byte_count(t.type, t.shape) == values.bytes.size());
        const auto parts = parts_of(t);
        used += parts.size();
        written.tensors.insert(written.tensors.end(), parts.begin(), parts.end());
        texts[t.name] = description_of(t);
    }
    fuzz::require(read.quantized.empty() || used != 0);
    written.metadata.emplace_back(tensors_key, texts.dump(-1, ' ', false, json::error_handler_t::replace));
    const quantized_file again = split_quantized(written, "again", 1);
    fuzz::require(again.quantized.size() == read.quantized.size() && again.plain.size() == read.plain.size());
    for (std::size_t i = 0; i < read.quantized.size(); ++i) {
        const stored_tensor &a = read.quantized[i], &b = again.quantized[i];
        fuzz::require(a.name == b.name && a.shape == b.shape && a.type == b.type && a.live == b.live);
        fuzz::require(std::ranges::equal(a.codes.params(), b.codes.params()));
        fuzz::require(std::ranges::equal(restore(a, a.type, 1).bytes.span(), restore(b, b.type, 1).bytes.span()));
    }
    return 0;
}
