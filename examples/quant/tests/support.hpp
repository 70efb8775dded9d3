// SPDX-License-Identifier: MIT
#pragma once
// What both test programs share: a scratch directory, files made byte by byte, and the list of bad files.

#include "../io/files.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <unistd.h>

namespace quant_test {

namespace fs = std::filesystem;

/// A directory that is empty at the start and gone at the end.
class scratch_directory {
public:
    scratch_directory() {
        auto pattern = (fs::temp_directory_path() / "quant-test-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("cannot make " + pattern);
        }
        path_ = pattern;
    }
    ~scratch_directory() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    scratch_directory(const scratch_directory&) = delete;
    scratch_directory& operator=(const scratch_directory&) = delete;

    [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }
    [[nodiscard]] std::string path() const { return path_.string(); }
    /// Number of entries, hidden ones included.
    [[nodiscard]] std::size_t entries() const {
        return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
    }

private:
    fs::path path_;
};

inline void write_file(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}
[[nodiscard]] inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

template <class Integer> [[nodiscard]] std::string little_endian(Integer value) {
    std::string out(sizeof value, '\0');
    std::memcpy(out.data(), &value, sizeof value);
    return out;
}

/// A safetensors file with this header text and data.
[[nodiscard]] inline std::string safetensors(const std::string& header, const std::string& data) {
    return little_endian<std::uint64_t>(header.size()) + header + data;
}
/// A version 1.0 .npy file with this header text and data.
[[nodiscard]] inline std::string npy(const std::string& header, const std::string& data, char version = 1) {
    std::string out("\x93NUMPY", 6);
    out += version;
    out += '\0';
    out += version == 1 ? little_endian(static_cast<std::uint16_t>(header.size()))
                        : little_endian(static_cast<std::uint32_t>(header.size()));
    return out + header + data;
}

struct zip_member {
    std::string name, content;
    std::uint32_t claimed_size; ///< what the directory says
    std::uint32_t checksum;     ///< CRC-32
    std::uint16_t flags = 0;    ///< 1: encrypted
    std::uint16_t method = 0;   ///< 0: stored
};
[[nodiscard]] inline std::uint32_t crc32(const std::string& text) {
    std::uint32_t crc = ~0u;
    for (const char c : text) {
        crc ^= static_cast<unsigned char>(c);
        for (int k = 0; k < 8; ++k) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
        }
    }
    return ~crc;
}
[[nodiscard]] inline zip_member member(const std::string& name, const std::string& content) {
    return {name, content, static_cast<std::uint32_t>(content.size()), crc32(content)};
}
/// A ZIP archive after PKWARE's APPNOTE, written independently of libzip so that it can lie.
[[nodiscard]] inline std::string zip(const std::vector<zip_member>& members, int claimed_members = -1) {
    std::string out, directory;
    for (const auto& m : members) {
        std::string fields = little_endian<std::uint16_t>(20);
        fields += little_endian(m.flags) + little_endian(m.method);
        fields += little_endian<std::uint32_t>(0x00210000);
        fields += little_endian(m.checksum) + little_endian(static_cast<std::uint32_t>(m.content.size())) +
                  little_endian(m.claimed_size);
        fields += little_endian(static_cast<std::uint16_t>(m.name.size())) + little_endian<std::uint16_t>(0);
        directory += std::string("PK\1\2", 4) + little_endian<std::uint16_t>(20) + fields +
                     little_endian<std::uint16_t>(0) + little_endian<std::uint16_t>(0) +
                     little_endian<std::uint16_t>(0) + little_endian<std::uint32_t>(0) +
                     little_endian(static_cast<std::uint32_t>(out.size())) + m.name;
        out += std::string("PK\3\4", 4) + fields + m.name + m.content;
    }
    const auto n = static_cast<std::uint16_t>(claimed_members < 0 ? static_cast<int>(members.size()) : claimed_members);
    const auto start = static_cast<std::uint32_t>(out.size());
    return out + directory + std::string("PK\5\6\0\0\0\0", 8) + little_endian(n) + little_endian(n) +
           little_endian(static_cast<std::uint32_t>(directory.size())) + little_endian(start) +
           little_endian<std::uint16_t>(0);
}

/// A file that must be refused, and words the one-line message must hold (the tensor, the cause).
struct bad_file {
    std::string title;
    std::string name; ///< its ending decides how it is read
    std::string content;
    std::vector<std::string> message;
};

[[nodiscard]] inline std::vector<bad_file> bad_files() {
    const std::string w = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
    const std::string eight(8, '\0');
    const std::string f4 = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
    const std::string good_npy = npy(f4, eight);
    auto nested = std::string(R"({"w":{"dtype":"F32","shape":)");
    nested.append(1'000'000, '[');
    auto wide = std::string(R"({"w":{"dtype":"F32","shape":[1)");
    for (int i = 0; i < 100'000; ++i) {
        wide += ",1";
    }
    wide += R"(],"data_offsets":[0,4]}})";
    const auto tensor = [](const std::string& fields) { return R"({"w":{)" + fields + "}}"; };

    std::vector<bad_file> out{
        {"empty", "a.safetensors", "", {"truncated", "0 bytes"}},
        {"shorter than the length field", "a.safetensors", "1234567", {"truncated", "7 bytes"}},
        {"header longer than the file",
         "a.safetensors",
         little_endian<std::uint64_t>(1000) + "{}",
         {"truncated", "1000", "2"}},
        {"header length of all ones",
         "a.safetensors",
         std::string(8, '\xff') + "{}",
         {"18446744073709551615", "limit"}},
        {"header of 10^9 tensors",
         "a.safetensors",
         little_endian<std::uint64_t>(60'000'000'000) + "{" + w,
         {"60000000000", "limit"}},
        {"header length zero", "a.safetensors", safetensors("", ""), {"does not start with '{'"}},
        {"header is no object", "a.safetensors", safetensors("[1,2]", ""), {"does not start with '{'"}},
        {"header cut inside JSON", "a.safetensors", safetensors("{" + w, eight), {"not valid JSON"}},
        {"text after the JSON", "a.safetensors", safetensors("{" + w + "}x", eight), {"not valid JSON"}},
        {"name is not UTF-8", "a.safetensors", safetensors("{\"\xff\":{}}", ""), {"not valid JSON"}},
        {"a million nested arrays", "a.safetensors", safetensors(nested, ""), {"'w'", "an array"}},
        {"100 000 dimensions", "a.safetensors", safetensors(wide, "1234"), {"'w'", "more than 64 dimensions"}},
        {"data cut", "a.safetensors", safetensors("{" + w + "}", "1234"), {"'w'", "[0, 8)", "beyond the 4 bytes"}},
        {"data longer than the tensors",
         "a.safetensors",
         safetensors("{" + w + "}", eight + "x"),
         {"end at byte 8", "has 9"}},
        {"duplicate tensor", "a.safetensors", safetensors("{" + w + "," + w + "}", eight), {"'w'", "appears twice"}},
        {"duplicate field",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])"), eight),
         {"'w'", "'dtype' appears twice"}},
        {"unknown field",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","sh\u0007pe":[2])"), eight),
         {"'w'", "unknown key 'sh\\x07pe'"}},
        {"missing field",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[2])"), eight),
         {"'w'", "lacks"}},
        {"unknown dtype",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), eight),
         {"'w'", "unknown dtype 'F33'"}},
        {"dtype is a number",
         "a.safetensors",
         safetensors(tensor(R"("dtype":32)"), ""),
         {"'w'", "dtype must be a string"}},
        {"tensor is null", "a.safetensors", safetensors(R"({"w":null})", ""), {"'w'", "null"}},
        {"negative extent",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), eight),
         {"'w'", "non-negative"}},
        {"extent above 2^64",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8])"), eight),
         {"'w'", "below 2^64"}},
        {"fractional extent",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), eight),
         {"'w'", "2.0"}},
        {"shape product overflows to the right size",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8])"), eight),
         {"'w'", "overflows"}},
        {"byte count overflows",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8])"), eight),
         {"'w'", "overflows"}},
        {"three 4-bit elements",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), "12"),
         {"'w'", "whole number of bytes"}},
        {"size does not match the shape",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), eight),
         {"'w'", "need 12 bytes", "hold 8"}},
        {"offsets run backwards",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), eight),
         {"'w'", "end before they begin"}},
        {"three offsets",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), eight),
         {"'w'", "two"}},
        {"one offset",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), eight),
         {"'w'", "two"}},
        {"offset near 2^64",
         "a.safetensors",
         safetensors(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615])"),
                     eight),
         {"'w'", "beyond the 8 bytes"}},
        {"overlap",
         "a.safetensors",
         safetensors("{" + w + R"(,"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", eight + "1234"),
         {"'v'", "overlap"}},
        {"hole",
         "a.safetensors",
         safetensors("{" + w + R"(,"v":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", eight + eight),
         {"'v'", "hole"}},
        {"metadata value is a number",
         "a.safetensors",
         safetensors(R"({"__metadata__":{"k":1}})", ""),
         {"metadata values must be strings"}},
        {"metadata is a list", "a.safetensors", safetensors(R"({"__metadata__":[]})", ""), {"must be an object"}},
        {"metadata key twice",
         "a.safetensors",
         safetensors(R"({"__metadata__":{"k":"","k":""}})", ""),
         {"'k' appears twice"}},

        {"empty", "a.npy", "", {"'a'", "no .npy file"}},
        {"other magic", "a.npy", "\x93NUMPX\x01" + good_npy, {"'a'", "no .npy file"}},
        {"version 9", "a.npy", npy(f4, eight, 9), {"'a'", "unknown .npy version 9.0"}},
        {"header longer than the file", "a.npy", npy(f4, "").substr(0, 30), {"'a'", "truncated"}},
        {"header of 4 GB",
         "a.npy",
         std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12),
         {"'a'", "truncated", "4294967307"}},
        {"data cut", "a.npy", npy(f4, "1234"), {"'a'", "need 8 bytes", "has 4", "truncated"}},
        {"data too long", "a.npy", npy(f4, eight + "x"), {"'a'", "need 8 bytes", "has 9"}},
        {"unknown dtype",
         "a.npy",
         npy("{'descr': '<f3', 'fortran_order': False, 'shape': (2,), }", ""),
         {"'a'", "unknown dtype '<f3'"}},
        {"objects",
         "a.npy",
         npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", ""),
         {"'a'", "unknown dtype '|O'"}},
        {"records",
         "a.npy",
         npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,), }", ""),
         {"'a'", "record arrays"}},
        {"shape overflows",
         "a.npy",
         npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", ""),
         {"'a'", "overflows"}},
        {"negative extent",
         "a.npy",
         npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", ""),
         {"'a'", "non-negative"}},
        {"key twice", "a.npy", npy("{'shape': (2,), 'shape': (2,)}", ""), {"'a'", "'shape' appears twice"}},
        {"unknown key", "a.npy", npy("{'descr': '<f4', 'order': 1}", ""), {"'a'", "unknown key 'order'"}},
        {"missing key", "a.npy", npy("{'descr': '<f4', 'shape': (2,)}", eight), {"'a'", "lacks"}},
        {"no dictionary", "a.npy", npy("os.system('x')", ""), {"'a'", "malformed header"}},

        {"empty", "a.npz", "", {"not a ZIP archive"}},
        {"no archive", "a.npz", std::string(100, 'x'), {"not a sound ZIP archive"}},
        {"truncated", "a.npz", zip({member("w.npy", good_npy)}).substr(0, 100), {"not a sound ZIP archive"}},
        {"65535 members claimed", "a.npz", zip({member("w.npy", good_npy)}, 65535), {"not a sound ZIP archive"}},
        {"member is no array", "a.npz", zip({member("readme.txt", "hello")}), {"'readme.txt'", "must be named *.npy"}},
        {"member twice", "a.npz", zip({member("w.npy", good_npy), member("w.npy", good_npy)}), {"name appears twice"}},
        {"wrong checksum",
         "a.npz",
         zip({{"w.npy", good_npy, static_cast<std::uint32_t>(good_npy.size()), 1}}),
         {"'w'"}},
        {"size lies", "a.npz", zip({{"w.npy", good_npy, 4'000'000'000, crc32(good_npy)}}), {"'w'", "4000000000"}},
        {"encrypted",
         "a.npz",
         zip({{"w.npy", good_npy, static_cast<std::uint32_t>(good_npy.size()), crc32(good_npy), 1}}),
         {"'w'", "encrypted"}},
        {"unknown compression",
         "a.npz",
         zip({{"w.npy", good_npy, static_cast<std::uint32_t>(good_npy.size()), crc32(good_npy), 0, 14}}),
         {"'w'", "compression method 14"}},
        {"array cut inside a sound archive", "a.npz", zip({member("w.npy", npy(f4, "1234"))}), {"'w'", "need 8 bytes"}},
        {"metadata is no object of strings",
         "a.npz",
         zip({member("__metadata__.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", "[]"))}),
         {"__metadata__"}},
        {"unknown ending", "a.bin", "x", {"must end in .safetensors, .npy or .npz"}},
    };
    // A deflated bomb: a directory that promises more than deflate can give.
    out.push_back({"deflate promises 1 : 10 million",
                   "b.npz",
                   zip({{"w.npy", std::string(100, 'x'), 1'000'000'000, 0, 0, 8}}),
                   {"'w'", "claims 1000000000 bytes from 100"}});
    return out;
}

} // namespace quant_test
