// SPDX-License-Identifier: MIT
// libFuzzer: any bytes are a .safetensors, .npy or .npz file, or an error that names it; what was read is written and read again the
// same.
#include "../../examples/quant/io/files.hpp"
#include "files.hpp"
#include <algorithm>

namespace {

using namespace quant_tool;

void require_same(const tensor_file& a, const tensor_file& b, bool metadata) {
    fuzz::require(a.tensors.size() == b.tensors.size());
    for (const tensor& t : a.tensors) {
        const auto same = [&](const tensor& other) { return other.name == t.name; };
        const auto found = std::find_if(b.tensors.begin(), b.tensors.end(), same);
        fuzz::require(found != b.tensors.end() && found->type == t.type && found->shape == t.shape);
        fuzz::require(std::ranges::equal(found->bytes.span(), t.bytes.span()));
    }
    if (!metadata) return;
    auto one = a.metadata, other = b.metadata;
    std::sort(one.begin(), one.end());
    std::sort(other.begin(), other.end());
    fuzz::require(one == other);
}

byte_block block_of(std::string_view content) {
    return byte_block::copy(std::as_bytes(std::span(content.data(), content.size())));
}

/// The sizes that a reader vouches for.
void look_at(tensor_file& file, std::size_t size) {
    fuzz::require(file.bytes_on_disk == size);
    for (tensor& t : file.tensors) {
        fuzz::require(byte_count(t.type, t.shape) == t.bytes.size());
        if (t.type == dtype::f32) {
            float sum = 0;
            for (const float x : t.as<float>()) sum += x;
            fuzz::require(sum == sum || sum != sum);
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::folder scratch;
    const std::string_view content = fuzz::text(data, size);
    const byte_block block = block_of(content);

    if (tensor_file file; fuzz::reads("any.safetensors", [&] { file = parse_safetensors(block, "any.safetensors"); })) {
        look_at(file, size);
        std::string written = safetensors_header(file, "again");
        for (const auto* const t : safetensors_order(file.tensors))
            written.append(reinterpret_cast<const char*>(t->bytes.data()), t->bytes.size());
        require_same(file, parse_safetensors(block_of(written), "again"), true);
    }
    if (tensor one; fuzz::reads("any.npy", [&] { one = parse_npy(block, "any.npy", "any"); })) {
        std::string written = npy_preamble(one, "again");
        written.append(reinterpret_cast<const char*>(one.bytes.data()), one.bytes.size());
        const tensor again = parse_npy(block_of(written), "again", "any");
        fuzz::require(again.type == one.type && again.shape == one.shape);
        fuzz::require(std::ranges::equal(again.bytes.span(), one.bytes.span()));
    }
    if (content.starts_with("PK")) {
        const std::string path = scratch.write("any.npz", content);
        tensor_file file;
        if (fuzz::reads(path, [&] { file = read_npz(path); })) {
            look_at(file, size);
            const std::string other = scratch / "again.npz";
            try {
                write_npz(other, file, overwrite::yes);
            } catch (const error& e) {
                // A name that an archive cannot hold again, or the one the metadata take.
                fuzz::require(e.code() == exit_code::output);
                return 0;
            }
            require_same(file, read_npz(other), true);
        }
    }
    return 0;
}
