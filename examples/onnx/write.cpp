// SPDX-License-Identifier: MIT
// Writing. The sizes of all messages are known before their bytes are, so the file is written from front to back, one tensor in
// memory at a time.

#include "../quant/io/atomic_file.hpp"
#include "model.hpp"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <limits>

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

/// A tensor's message without its elements: those follow, at the end.
std::string tensor_head(const tensor& t) {
    if (!t.verbatim.empty()) {
        return t.verbatim;
    }
    std::string out;
    for (const auto extent : t.shape) {
        out += varint(1, extent);
    }
    out += varint(2, static_cast<std::int64_t>(t.type)) + part(8, t.name) + t.rest + head(9, t.byte_size());
    return out;
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

} // namespace

std::uint64_t write(const model& model, const std::filesystem::path& path, bool force) {
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
    std::vector<std::string> heads;
    std::uint64_t graph_size = graph.size();
    for (const auto& t : model.initializers) {
        const auto message = tensor_head(t);
        const auto elements = t.verbatim.empty() ? t.byte_size() : 0;
        if (!t.fill && t.data.size() != elements) {
            throw error(exit_code::internal, path.string(), t.name, "its data do not match its shape");
        }
        heads.push_back(head(5, message.size() + elements) + message);
        graph_size += heads.back().size() + elements;
    }
    front += head(7, graph_size);
    const auto size = front.size() + graph_size;
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max())) {
        throw error(
            exit_code::output, path.string(),
            "would be larger than 2 GiB, more than a protobuf file may be (fewer bits, or quantize more of it)");
    }

    quant_tool::atomic_file file(path.string(), force ? quant_tool::overwrite::yes : quant_tool::overwrite::no);
    file.write(front);
    file.write(graph);
    std::vector<std::byte> made;
    for (std::size_t i = 0; i < heads.size(); ++i) {
        const auto& t = model.initializers[i];
        file.write(heads[i]);
        if (!t.fill) {
            file.write(t.data);
            continue;
        }
        made.resize(static_cast<std::size_t>(t.byte_size()));
        t.fill(made);
        file.write(made);
        if (made.capacity() > std::size_t{1} << 20) {
            made = {};
        }
    }
    file.commit();
    return size;
}

} // namespace quant_onnx
