// SPDX-License-Identifier: MIT
#include "safetensors.hpp"

#include "mapped_file.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace quant_tool {

namespace {

struct header_entry {
    tensor value;
    std::uint64_t begin = 0, end = 0;
};

/// Streaming parser of the header: no document tree, so neither depth nor a huge list costs more than the text did.
class header_parser : public nlohmann::json_sax<nlohmann::json> {
public:
    header_parser(const std::string& file, text_metadata& metadata, std::vector<header_entry>& entries)
        : file_(file), metadata_(metadata), entries_(entries) {}

    bool null() override { return unexpected("null"); }
    bool boolean(bool) override { return unexpected("a boolean"); }
    bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
    bool number_float(number_float_t, const string_t& text) override {
        return unexpected("the number " + printable(text, 40));
    }
    bool binary(binary_t&) override { return unexpected("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (state_ == state::shape) {
            if (entries_.back().value.shape.size() == max_rank) {
                fail("more than " + std::to_string(max_rank) + " dimensions");
            }
            entries_.back().value.shape.push_back(value);
        } else if (state_ == state::offsets && offsets_ < 2) {
            (offsets_++ == 0 ? entries_.back().begin : entries_.back().end) = value;
        } else {
            return unexpected("a number");
        }
        return true;
    }

    bool string(string_t& value) override {
        if (state_ == state::metadata_value) {
            metadata_.emplace_back(key_, value);
            state_ = state::metadata_key;
            return true;
        }
        if (state_ != state::dtype) {
            return unexpected("a string");
        }
        const auto type = dtype_from_name(value);
        if (!type) {
            fail("unknown dtype '" + printable(value, 40) + "'");
        }
        entries_.back().value.type = *type;
        state_ = state::tensor_key;
        return true;
    }

    bool start_object(std::size_t) override {
        switch (state_) {
        case state::start: state_ = state::name; return true;
        case state::metadata: state_ = state::metadata_key; return true;
        case state::tensor: state_ = state::tensor_key; return true;
        default: return unexpected("an object");
        }
    }

    bool key(string_t& value) override {
        switch (state_) {
        case state::name:
            if (!names_.insert(value).second) {
                throw error(exit_code::input, file_, value == "__metadata__" ? "" : value,
                            "appears twice in the header");
            }
            name_ = value;
            if (value == "__metadata__") {
                state_ = state::metadata;
            } else {
                entries_.emplace_back();
                entries_.back().value.name = value;
                seen_ = 0;
                offsets_ = 0;
                state_ = state::tensor;
            }
            return true;
        case state::metadata_key:
            if (!metadata_keys_.insert(value).second) {
                fail("the key '" + printable(value) + "' appears twice");
            }
            key_ = value;
            state_ = state::metadata_value;
            return true;
        default: break;
        }
        const unsigned field = value == "dtype" ? 1u : value == "shape" ? 2u : value == "data_offsets" ? 4u : 0u;
        if (field == 0) {
            fail("unknown key '" + printable(value) + "' in the header");
        }
        if ((seen_ & field) != 0) {
            fail("the key '" + value + "' appears twice");
        }
        seen_ |= field;
        state_ = field == 1 ? state::dtype : field == 2 ? state::shape_start : state::offsets_start;
        return true;
    }

    bool end_object() override {
        if (state_ == state::name) {
            state_ = state::done;
        } else if (state_ == state::metadata_key) {
            state_ = state::name;
        } else {
            if (seen_ != 7) {
                fail("the header lacks dtype, shape or data_offsets");
            }
            state_ = state::name;
        }
        return true;
    }

    bool start_array(std::size_t) override {
        if (state_ == state::shape_start) {
            state_ = state::shape;
        } else if (state_ == state::offsets_start) {
            state_ = state::offsets;
        } else {
            return unexpected("an array");
        }
        return true;
    }

    bool end_array() override {
        if (state_ == state::offsets && offsets_ != 2) {
            fail("data_offsets needs two numbers");
        }
        state_ = state::tensor_key;
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
        throw error(exit_code::input, file_,
                    "the header is not valid JSON (near its byte " + std::to_string(position) + ")");
    }

private:
    enum class state {
        start,
        name,
        metadata,
        metadata_key,
        metadata_value,
        tensor,
        tensor_key,
        dtype,
        shape_start,
        shape,
        offsets_start,
        offsets,
        done
    };

    [[noreturn]] void fail(const std::string& cause) const { throw error(exit_code::input, file_, name_, cause); }
    [[noreturn]] bool unexpected(const std::string& what) const {
        const char* where = "";
        switch (state_) {
        case state::start: where = "the header is not a JSON object but "; break;
        case state::metadata: where = "must be an object, not "; break;
        case state::metadata_value: where = "metadata values must be strings, not "; break;
        case state::dtype: where = "dtype must be a string, not "; break;
        case state::shape_start: where = "shape must be an array, not "; break;
        case state::shape: where = "shape must hold non-negative integers below 2^64, not "; break;
        case state::offsets_start:
        case state::offsets: where = "data_offsets must hold two non-negative integers below 2^64, not "; break;
        default: where = "the header entry must be an object, not "; break;
        }
        fail(where + what);
    }

    const std::string& file_;
    text_metadata& metadata_;
    std::vector<header_entry>& entries_;
    std::set<std::string> names_, metadata_keys_;
    std::string name_, key_;
    state state_ = state::start;
    unsigned seen_ = 0, offsets_ = 0;
};

} // namespace

tensor_file parse_safetensors(const byte_block& content, const std::string& file) {
    const auto refuse = [&](const std::string& cause) { return error(exit_code::input, file, cause); };
    const auto bytes = content.span();
    if (bytes.size() < 8) {
        throw refuse("truncated: " + std::to_string(bytes.size()) + " bytes, a safetensors file has at least 8");
    }
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, bytes.data(), 8);
    if (header_size > safetensors_header_limit) {
        throw refuse("the header claims " + std::to_string(header_size) + " bytes, the limit is " +
                     std::to_string(safetensors_header_limit) + " (is this a safetensors file?)");
    }
    if (header_size > bytes.size() - 8) {
        throw refuse("truncated: the header claims " + std::to_string(header_size) + " bytes, the file has " +
                     std::to_string(bytes.size() - 8) + " after the length");
    }
    const auto* text = reinterpret_cast<const char*>(bytes.data()) + 8;
    if (header_size == 0 || text[0] != '{') {
        throw refuse("the header does not start with '{'");
    }

    tensor_file out;
    out.bytes_on_disk = bytes.size();
    std::vector<header_entry> entries;
    header_parser parser(file, out.metadata, entries);
    nlohmann::json::sax_parse(text, text + header_size, &parser);

    const auto data = bytes.subspan(8 + static_cast<std::size_t>(header_size));
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::uint64_t expected = 0;
    for (const auto& e : entries) {
        std::string range(1, '['); // not "[" + ...: g++ 12 then warns inside its own string header
        range += std::to_string(e.begin) + ", " + std::to_string(e.end) + ")";
        const auto fail = [&](const std::string& cause) { return error(exit_code::input, file, e.value.name, cause); };
        if (e.end < e.begin) {
            throw fail("data_offsets " + range + " end before they begin");
        }
        if (e.end > data.size()) {
            throw fail("data_offsets " + range + " lie beyond the " + std::to_string(data.size()) +
                       " bytes of data in the file");
        }
        const auto size = byte_count(e.value.type, e.value.shape);
        if (!size) {
            throw fail("the size of its shape overflows or is no whole number of bytes");
        }
        if (*size != e.end - e.begin) {
            throw fail("shape and dtype need " + std::to_string(*size) + " bytes, data_offsets hold " +
                       std::to_string(e.end - e.begin));
        }
        if (e.begin != expected) {
            throw fail("data_offsets " + range + (e.begin < expected ? " overlap the tensor before" : " leave a hole") +
                       ", expected to begin at " + std::to_string(expected));
        }
        expected = e.end;
    }
    if (expected != data.size()) {
        throw refuse("the tensors end at byte " + std::to_string(expected) + " of the data, the file has " +
                     std::to_string(data.size()));
    }
    out.tensors.reserve(entries.size());
    for (auto& e : entries) {
        // Same owner, a part of the bytes: the mapping lives as long as one tensor does.
        e.value.bytes = content.part(8 + header_size + e.begin, e.end - e.begin);
        out.tensors.push_back(std::move(e.value));
    }
    return out;
}

tensor_file read_safetensors(const std::string& path) { return parse_safetensors(map_file(path), path); }

std::vector<const tensor*> safetensors_order(const std::vector<tensor>& tensors) {
    std::vector<const tensor*> order;
    order.reserve(tensors.size());
    for (const auto& t : tensors) {
        order.push_back(&t);
    }
    std::sort(order.begin(), order.end(), [](const tensor* a, const tensor* b) {
        return std::pair<dtype, std::string_view>(a->type, a->name) <
               std::pair<dtype, std::string_view>(b->type, b->name);
    });
    return order;
}

std::string safetensors_header(const tensor_file& content, const std::string& file) {
    std::set<std::string_view> names;
    auto header = nlohmann::ordered_json::object();
    if (!content.metadata.empty()) {
        auto& metadata = header["__metadata__"] = nlohmann::ordered_json::object();
        for (const auto& [key, value] : content.metadata) {
            metadata[key] = value;
        }
    }
    std::string text;
    try {
        text = header.dump();
        text.pop_back();
        std::uint64_t offset = 0;
        for (const auto* t : safetensors_order(content.tensors)) {
            if (t->name == "__metadata__" || !names.insert(t->name).second) {
                throw error(exit_code::output, file, t->name, "the name is reserved or used twice");
            }
            if (text.size() > 1) {
                text += ',';
            }
            text += nlohmann::json(t->name).dump();
            text += R"(:{"dtype":")";
            text += name_of(t->type);
            text += R"(","shape":)" + nlohmann::json(t->shape).dump() + R"(,"data_offsets":[)" +
                    std::to_string(offset) + ',';
            offset += t->bytes.size();
            text += std::to_string(offset) + "]}";
        }
    } catch (const nlohmann::json::exception&) {
        throw error(exit_code::output, file, "a name or a metadata text is not UTF-8, which safetensors requires");
    }
    text += '}';
    text.append((8 - text.size() % 8) % 8, ' ');
    if (text.size() > safetensors_header_limit) {
        throw error(exit_code::output, file, "the header would exceed the limit of 100 MB");
    }
    const std::uint64_t size = text.size();
    std::string out(8, '\0');
    std::memcpy(out.data(), &size, 8);
    return out + text;
}

std::uint64_t write_safetensors(const std::string& path, const tensor_file& content, overwrite policy) {
    const auto header = safetensors_header(content, path);
    atomic_file out(path, policy);
    out.write(header);
    std::uint64_t size = header.size();
    for (const auto* t : safetensors_order(content.tensors)) {
        out.write(t->bytes.span());
        size += t->bytes.size();
    }
    out.commit();
    return size;
}

} // namespace quant_tool
