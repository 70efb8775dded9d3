// SPDX-License-Identifier: MIT
// Writing. The sizes of all messages are known before their bytes are, so the file is written from front to back, one tensor in
// memory at a time.

#include "../quant/io/atomic_file.hpp"
#include "model.hpp"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

namespace quant_onnx {

namespace {

using google::protobuf::io::CodedOutputStream;

/// The head of a field of bytes: its tag and its length.
std::string head(int number, std::uint64_t length) {
    std::uint8_t buffer[20];
    auto* end = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(number) << 3 | 2, buffer);
    end = CodedOutputStream::WriteVarint64ToArray(length, end);
    return {reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(end - buffer)};
}
std::string part(int number, const std::string& content) { return head(number, content.size()) + content; }
std::string varint(int number, std::int64_t value) {
    std::uint8_t buffer[20];
    auto* end = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(number) << 3, buffer);
    end = CodedOutputStream::WriteVarint64ToArray(static_cast<std::uint64_t>(value), end);
    return {reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(end - buffer)};
}

/// Where a tensor's elements stand in the file of external data.
struct external_place {
    std::string file;
    std::uint64_t offset = 0;
};

/// A tensor's message without its elements: those follow, at the end, or stand elsewhere.
std::string tensor_head(const tensor& t, const external_place* elsewhere) {
    if (!t.verbatim.empty()) {
        return t.verbatim;
    }
    std::string out;
    for (const auto extent : t.shape) {
        out += varint(1, extent);
    }
    out += varint(2, static_cast<std::int64_t>(t.type)) + part(8, t.name) + t.rest;
    if (elsewhere == nullptr) {
        return out + head(9, t.byte_size());
    }
    for (const auto& [key, value] :
         {std::pair("location", elsewhere->file), std::pair("offset", std::to_string(elsewhere->offset)),
          std::pair("length", std::to_string(t.byte_size()))}) {
        onnx::StringStringEntryProto entry;
        entry.set_key(key);
        entry.set_value(value);
        out += part(13, entry.SerializeAsString());
    }
    return out + varint(14, 1);
}

std::string value_message(const value_info& v) {
    if (!v.verbatim.empty()) {
        return v.verbatim;
    }
    onnx::ValueInfoProto out;
    out.set_name(v.name);
    auto* const type = out.mutable_type()->mutable_tensor_type();
    type->set_elem_type(static_cast<std::int32_t>(v.type));
    for (std::size_t d = 0; d < v.shape.size(); ++d) {
        auto* const dim = type->mutable_shape()->add_dim();
        if (v.shape[d] >= 0) {
            dim->set_dim_value(v.shape[d]);
        } else {
            dim->set_dim_param(v.name + "_" + std::to_string(d));
        }
    }
    return out.SerializeAsString();
}

/// The elements of a tensor, made in `made` if they have to be.
void write_elements(const tensor& t, quant_tool::atomic_file& file, std::vector<std::byte>& made) {
    if (!t.fill) {
        file.write(t.data);
        return;
    }
    made.resize(static_cast<std::size_t>(t.byte_size()));
    t.fill(made);
    file.write(made);
    if (made.capacity() > std::size_t{1} << 20) {
        made = {};
    }
}

/// Smaller tensors stay in the model: shapes, scales, biases. ONNX's own tools draw the line here, too.
constexpr std::uint64_t least_external = 1024;
/// Offsets are multiples of a page, so that engines may map each tensor.
constexpr std::uint64_t page = 4096;

} // namespace

std::uint64_t write(const model& model, const std::filesystem::path& path, bool force, where_weights_stand where,
                    std::uint64_t limit) {
    std::string front = varint(1, model.ir_version) + model.model_rest;
    for (const auto& [domain, version] : model.opsets) {
        onnx::OperatorSetIdProto set;
        set.set_domain(domain);
        set.set_version(version);
        front += part(8, set.SerializeAsString());
    }
    std::string graph = model.graph_rest;
    for (const auto& n : model.nodes) {
        graph += part(1, n.SerializeAsString());
    }
    for (const auto& v : model.inputs) {
        graph += part(11, value_message(v));
    }
    for (const auto& v : model.outputs) {
        graph += part(12, value_message(v));
    }
    const auto data_name = path.filename().string() + ".data";
    std::vector<std::string> heads;
    std::vector<std::optional<external_place>> places;
    std::uint64_t graph_size = 0, data_size = 0;
    const auto lay_out = [&](bool beside) {
        heads.clear();
        places.clear();
        graph_size = graph.size();
        data_size = 0;
        for (const auto& t : model.initializers) {
            const auto elements = t.verbatim.empty() ? t.byte_size() : 0;
            if (!t.fill && t.data.size() != elements) {
                throw error(exit_code::internal, path.string(), t.name, "its data do not match its shape");
            }
            auto& place = places.emplace_back();
            if (beside && elements >= least_external) {
                place = external_place{data_name, (data_size + page - 1) / page * page};
                data_size = place->offset + elements;
            }
            const auto message = tensor_head(t, place ? &*place : nullptr);
            const auto inside = place ? 0 : elements;
            heads.push_back(head(5, message.size() + inside) + message);
            graph_size += heads.back().size() + inside;
        }
        return front.size() + head(7, graph_size).size() + graph_size;
    };
    bool beside = where == where_weights_stand::beside;
    auto size = lay_out(beside);
    if (!beside && size > limit) {
        beside = true;
        size = lay_out(beside);
    }
    if (size > limit) {
        throw error(exit_code::output, path.string(),
                    "would be larger than 2 GiB even without its weights, more than a protobuf file may be");
    }
    front += head(7, graph_size);

    const auto policy = force ? quant_tool::overwrite::yes : quant_tool::overwrite::no;
    quant_tool::atomic_file file(path.string(), policy);
    std::optional<quant_tool::atomic_file> data;
    if (beside) {
        data.emplace(path.string() + ".data", policy);
    }
    file.write(front);
    file.write(graph);
    std::vector<std::byte> made;
    std::uint64_t written = 0; // of the external data
    const std::vector<std::byte> gap(page);
    for (std::size_t i = 0; i < heads.size(); ++i) {
        const auto& t = model.initializers[i];
        file.write(heads[i]);
        if (!t.verbatim.empty()) {
            continue;
        }
        if (places[i]) {
            data->write(std::span(gap).first(static_cast<std::size_t>(places[i]->offset - written)));
            written = places[i]->offset + t.byte_size();
        }
        write_elements(t, places[i] ? *data : file, made);
    }
    if (data) {
        quant_tool::atomic_file::commit(*data, file);
    } else {
        file.commit();
    }
    return size + data_size;
}

} // namespace quant_onnx
