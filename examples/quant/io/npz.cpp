// SPDX-License-Identifier: MIT
#include "npz.hpp"

#include "mapped_file.hpp"

#include <nlohmann/json.hpp>
#include <set>
#include <zip.h>

namespace quant_tool {

namespace {

struct zip_closer {
    void operator()(zip_t* archive) const noexcept { zip_discard(archive); }
};
struct zip_file_closer {
    void operator()(zip_file_t* member) const noexcept { zip_fclose(member); }
};
using zip_handle = std::unique_ptr<zip_t, zip_closer>;
using zip_file_handle = std::unique_ptr<zip_file_t, zip_file_closer>;

void parse_metadata_json(std::string_view text, text_metadata& out, const std::string& file) {
    const auto fail = [&] {
        return error(exit_code::input, file, npz_metadata_member, "is not a JSON object of strings");
    };
    // No nesting is legal here, so the parser is stopped before it can follow a deep one.
    const auto document = nlohmann::ordered_json::parse(
        text.begin(), text.end(), [](int depth, auto, auto&) { return depth <= 1; }, false);
    if (!document.is_object()) {
        throw fail();
    }
    for (const auto& [key, value] : document.items()) {
        if (!value.is_string()) {
            throw fail();
        }
        out.emplace_back(key, value.template get<std::string>());
    }
}

/// What the directory of an archive says of its members, one after the other; throws where it lies.
class directory_check {
public:
    struct entry {
        std::string name; ///< without .npy
        std::uint64_t size;
    };

    [[nodiscard]] entry next(zip_t* archive, zip_uint64_t i, std::uint64_t archive_size, const std::string& path) {
        zip_stat_t st;
        zip_stat_init(&st);
        constexpr zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
        if (zip_stat_index(archive, i, ZIP_FL_ENC_RAW, &st) != 0 || (st.valid & needed) != needed) {
            throw error(exit_code::input, path, "member " + std::to_string(i) + " has no complete directory entry");
        }
        std::string name = st.name;
        if (name.size() < 5 || name.substr(name.size() - 4) != ".npy") {
            throw error(exit_code::input, path, name, "a member of a .npz archive must be named *.npy");
        }
        name.resize(name.size() - 4);
        const auto fail = [&](const std::string& cause) { return error(exit_code::input, path, name, cause); };
        if (!names_.insert(name).second) {
            throw fail("its name appears twice in the archive");
        }
        if ((st.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && st.encryption_method != ZIP_EM_NONE) {
            throw fail("is encrypted");
        }
        if (st.comp_method != ZIP_CM_STORE && st.comp_method != ZIP_CM_DEFLATE) {
            throw fail("unknown compression method " + std::to_string(st.comp_method));
        }
        // Deflate cannot do better than 1 : 1032, and members cannot share bytes of the archive: a directory that
        // says otherwise lies, and believing it would cost memory.
        compressed_total_ += st.comp_size;
        const bool stored = st.comp_method == ZIP_CM_STORE;
        if (st.comp_size > archive_size || compressed_total_ > archive_size ||
            (stored ? st.size != st.comp_size : st.size / 1032 > st.comp_size)) {
            throw fail("the directory claims " + std::to_string(st.size) + " bytes from " +
                       std::to_string(st.comp_size) + " in an archive of " + std::to_string(archive_size));
        }
        return {name, st.size};
    }

private:
    std::set<std::string> names_;
    std::uint64_t compressed_total_ = 0;
};

} // namespace

tensor_file read_npz(const std::string& path) {
    const auto content = map_file(path);
    const auto refuse = [&](const std::string& cause) { return error(exit_code::input, path, cause); };
    if (content.size() == 0) {
        throw refuse("truncated: 0 bytes, not a ZIP archive");
    }

    zip_error_t code;
    zip_error_init(&code);
    const auto open_archive = [&](int flags) {
        zip_source_t* const source = zip_source_buffer_create(content.data(), content.size(), 0, &code);
        if (source == nullptr) {
            throw error(exit_code::internal, path, zip_error_strerror(&code));
        }
        zip_handle opened(zip_open_from_source(source, flags, &code));
        if (!opened) {
            zip_source_free(source);
        }
        return opened;
    };
    const auto archive = open_archive(ZIP_RDONLY | ZIP_CHECKCONS);
    if (!archive) {
        const std::string cause =
            zip_error_code_zip(&code) == ZIP_ER_EXISTS ? "a member's name appears twice" : zip_error_strerror(&code);
        zip_error_fini(&code);
        zip_error_init(&code);
        // How much libzip finds by itself differs between its versions. Our own checks name the member, so they go first.
        if (const auto lenient = open_archive(ZIP_RDONLY)) {
            directory_check directory;
            const auto count = zip_get_num_entries(lenient.get(), 0);
            for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(count); ++i) {
                (void)directory.next(lenient.get(), i, content.size(), path);
            }
        }
        zip_error_fini(&code);
        throw refuse("not a sound ZIP archive: " + cause);
    }
    zip_error_fini(&code);

    tensor_file out;
    out.bytes_on_disk = content.size();
    directory_check directory;
    const auto count = zip_get_num_entries(archive.get(), 0);
    for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(count); ++i) {
        const auto entry = directory.next(archive.get(), i, content.size(), path);
        const std::string& name = entry.name;
        const auto fail = [&](const std::string& cause) { return error(exit_code::input, path, name, cause); };
        zip_file_handle member(zip_fopen_index(archive.get(), i, 0));
        if (!member) {
            throw fail(zip_strerror(archive.get()));
        }
        const auto read = [&](std::byte* to, std::uint64_t n) {
            std::uint64_t done = 0;
            while (done < n) {
                const auto got = zip_fread(member.get(), to + done, n - done);
                if (got < 0) {
                    throw fail(std::string("cannot be unpacked: ") +
                               zip_error_strerror(zip_file_get_error(member.get())));
                }
                if (got == 0) {
                    throw fail("truncated inside the archive");
                }
                done += static_cast<std::uint64_t>(got);
            }
        };
        // The array's own header must agree with the directory before the elements get any memory.
        std::vector<std::byte> bytes(static_cast<std::size_t>(std::min<std::uint64_t>(entry.size, 12)));
        read(bytes.data(), bytes.size());
        const auto header_end = npy_header_size(bytes, path, name);
        if (header_end > entry.size) {
            throw fail("truncated: the header claims to end at byte " + std::to_string(header_end) +
                       ", the member has " + std::to_string(entry.size));
        }
        const auto fixed = bytes.size();
        bytes.resize(static_cast<std::size_t>(std::max<std::uint64_t>(header_end, fixed)));
        read(bytes.data() + fixed, bytes.size() - fixed);
        const auto header = parse_npy_header(bytes, entry.size, path, name);
        const auto start = bytes.size();
        bytes.resize(static_cast<std::size_t>(header.data_offset + header.data_size));
        read(bytes.data() + start, bytes.size() - start);
        // The checksum is compared when the end is reached, so ask for one byte more than there is.
        std::byte beyond{};
        if (const auto got = zip_fread(member.get(), &beyond, 1); got != 0) {
            throw fail(got < 0 ? "its checksum is wrong" : "longer than the archive's directory says");
        }
        if (name == npz_metadata_member && header.type == dtype::u8 && header.shape.size() == 1) {
            parse_metadata_json({reinterpret_cast<const char*>(bytes.data()) + header.data_offset,
                                 static_cast<std::size_t>(header.data_size)},
                                out.metadata, path);
            continue;
        }
        out.tensors.push_back(parse_npy(byte_block::adopt(std::move(bytes)), path, name));
    }
    return out;
}

std::uint64_t write_npz(const std::string& path, const tensor_file& content, overwrite policy) {
    std::vector<std::pair<std::string, byte_block>> members;
    std::set<std::string> names;
    const auto add = [&](const tensor& t) {
        if (!names.insert(t.name).second) {
            throw error(exit_code::output, path, t.name, "the name is used twice");
        }
        const auto preamble = npy_preamble(t, path);
        std::vector<std::byte> bytes(preamble.size() + t.bytes.size());
        std::memcpy(bytes.data(), preamble.data(), preamble.size());
        if (t.bytes.size() != 0) {
            std::memcpy(bytes.data() + preamble.size(), t.bytes.data(), t.bytes.size());
        }
        members.emplace_back(t.name + ".npy", byte_block::adopt(std::move(bytes)));
    };
    if (!content.metadata.empty()) {
        auto document = nlohmann::ordered_json::object();
        for (const auto& [key, value] : content.metadata) {
            document[key] = value;
        }
        const auto text = document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
        std::vector<std::uint8_t> bytes(text.begin(), text.end());
        const std::uint64_t size = bytes.size();
        add(make_tensor(std::string(npz_metadata_member), dtype::u8, {size}, std::move(bytes)));
    }
    for (const auto& t : content.tensors) {
        add(t);
    }

    const auto fail = [&](const std::string& cause) { return error(exit_code::output, path, cause); };
    zip_error_t code;
    zip_error_init(&code);
    zip_source_t* const buffer = zip_source_buffer_create(nullptr, 0, 0, &code);
    if (buffer == nullptr) {
        throw fail(zip_error_strerror(&code));
    }
    // One reference for the archive, one to read the finished bytes from.
    zip_source_keep(buffer);
    const std::unique_ptr<zip_source_t, decltype(&zip_source_free)> keep(buffer, &zip_source_free);
    zip_handle archive(zip_open_from_source(buffer, ZIP_CREATE | ZIP_TRUNCATE, &code));
    if (!archive) {
        zip_source_free(buffer);
        throw fail(zip_error_strerror(&code));
    }
    for (const auto& [name, bytes] : members) {
        zip_source_t* const data = zip_source_buffer(archive.get(), bytes.data(), bytes.size(), 0);
        if (data == nullptr) {
            throw fail(zip_strerror(archive.get()));
        }
        const auto index = zip_file_add(archive.get(), name.c_str(), data, ZIP_FL_ENC_UTF_8);
        if (index < 0) {
            zip_source_free(data);
            throw fail(zip_strerror(archive.get()));
        }
        const auto place = static_cast<zip_uint64_t>(index);
        constexpr zip_uint16_t midnight = 0, first_of_january_1980 = (1 << 5) | 1;
        zip_set_file_compression(archive.get(), place, ZIP_CM_STORE, 0);
        zip_file_set_dostime(archive.get(), place, midnight, first_of_january_1980, 0);
    }
    if (members.empty()) {
        // libzip deletes an empty archive instead of writing one; this is what an empty ZIP file is.
        atomic_file out(path, policy);
        out.write(std::string_view("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22));
        out.commit();
        return 22;
    }
    if (zip_close(archive.get()) != 0) {
        throw fail(zip_strerror(archive.get()));
    }
    (void)archive.release(); // closed
    zip_stat_t st;
    zip_stat_init(&st);
    if (zip_source_open(buffer) != 0 || zip_source_stat(buffer, &st) != 0) {
        throw fail("cannot build the archive");
    }
    atomic_file out(path, policy);
    std::vector<std::byte> chunk(1u << 20);
    std::uint64_t size = 0;
    for (;;) {
        const auto got = zip_source_read(buffer, chunk.data(), chunk.size());
        if (got < 0) {
            throw fail("cannot build the archive");
        }
        if (got == 0) {
            break;
        }
        out.write(std::span(chunk).first(static_cast<std::size_t>(got)));
        size += static_cast<std::uint64_t>(got);
    }
    zip_source_close(buffer);
    out.commit();
    return size;
}

} // namespace quant_tool
