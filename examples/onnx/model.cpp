// SPDX-License-Identifier: MIT
// Reading. The messages of the outer levels are walked field by field in the mapped file (protobuf's coded stream), so that no
// initializer is copied; nodes, inputs and outputs are small and parsed as messages.

#include "model.hpp"

#include "../quant/io/mapped_file.hpp"

#include <google/protobuf/io/coded_stream.h>
#include <limits>
#include <quant/core/half.hpp>
#include <set>

namespace quant_onnx {

namespace {

using google::protobuf::io::CodedInputStream;
using bytes = std::span<const std::byte>;

/// One field of a message: a number (varint, fixed32, fixed64) or a stretch of bytes.
struct field {
    int number = 0;
    int wire_type = 0; ///< 0 varint, 1 fixed64, 2 bytes, 5 fixed32
    std::uint64_t value = 0;
    bytes content; ///< wire type 2
    bytes whole;   ///< with its tag
};

/// What the reader was looking at when something was wrong.
struct place {
    std::string file;
    [[nodiscard]] error refuse(const std::string& cause) const { return {exit_code::input, file, cause}; }
    [[nodiscard]] error refuse(const std::string& tensor, const std::string& cause) const {
        return {exit_code::input, file, tensor, cause};
    }
};

template <class F> void for_each_field(bytes message, const place& at, const char* what, F f) {
    const auto broken = [&] { return at.refuse(std::string("is damaged or not an ONNX file (in ") + what + ")"); };
    if (message.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
        throw broken();
    }
    const auto* const start = reinterpret_cast<const std::uint8_t*>(message.data());
    CodedInputStream in(start, static_cast<int>(message.size()));
    while (true) {
        const auto begin = static_cast<std::size_t>(in.CurrentPosition());
        const auto tag = in.ReadTag();
        if (tag == 0) {
            if (in.ConsumedEntireMessage() && static_cast<std::size_t>(in.CurrentPosition()) == message.size()) {
                return;
            }
            throw broken();
        }
        field out;
        out.number = static_cast<int>(tag >> 3);
        out.wire_type = static_cast<int>(tag & 7);
        bool good = out.number != 0;
        std::uint32_t word = 0;
        switch (out.wire_type) {
        case 0: good = good && in.ReadVarint64(&out.value); break;
        case 1: good = good && in.ReadLittleEndian64(&out.value); break;
        case 2: {
            good = good && in.ReadVarint32(&word);
            const auto position = static_cast<std::size_t>(in.CurrentPosition());
            good = good && word <= message.size() - position && in.Skip(static_cast<int>(word));
            if (good) {
                out.content = message.subspan(position, word);
            }
            break;
        }
        case 5:
            good = good && in.ReadLittleEndian32(&word);
            out.value = word;
            break;
        default: good = false; // groups are not part of ONNX
        }
        if (!good) {
            throw broken();
        }
        out.whole = message.subspan(begin, static_cast<std::size_t>(in.CurrentPosition()) - begin);
        f(out);
    }
}

std::string text(bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

template <class Message> Message parsed(bytes b, const place& at, const char* what) {
    Message out;
    if (!out.ParseFromArray(b.data(), static_cast<int>(b.size()))) {
        throw at.refuse(std::string("is damaged or not an ONNX file (in ") + what + ")");
    }
    return out;
}

/// Number of elements and of bytes; empty when they do not fit 63 bits.
std::optional<std::uint64_t> count(const std::vector<std::int64_t>& shape) {
    std::vector<std::uint64_t> extents(shape.begin(), shape.end());
    const auto n = quant_tool::element_count(extents);
    return n && *n <= std::numeric_limits<std::uint64_t>::max() / 128 ? n : std::nullopt;
}

/// The files of external data, each mapped once.
class external_files {
public:
    explicit external_files(const std::filesystem::path& model) : folder_(model.parent_path()) {
        if (folder_.empty()) {
            folder_ = ".";
        }
    }
    const quant_tool::byte_block& open(const std::string& location, const std::string& tensor, const place& at) {
        if (const auto known = files_.find(location); known != files_.end()) {
            return known->second;
        }
        namespace fs = std::filesystem;
        const fs::path relative(location);
        const auto outside = [&] {
            return at.refuse(tensor, "its external data '" + quant_tool::printable(location) +
                                         "' lie outside the folder of the model, which is refused");
        };
        if (location.empty() || location.find('\0') != std::string::npos) {
            throw at.refuse(tensor, "its external data have no file name");
        }
        if (relative.is_absolute()) {
            throw outside();
        }
        for (const auto& part : relative) {
            if (part == "..") {
                throw outside();
            }
        }
        // A symbolic link must not lead outside either.
        std::error_code failed;
        const auto folder = fs::canonical(folder_, failed);
        const auto real = failed ? fs::path() : fs::canonical(folder / relative, failed);
        if (failed) {
            throw at.refuse(tensor, "its external data '" + quant_tool::printable(location) +
                                        "' cannot be opened: " + failed.message());
        }
        const auto inside = real.lexically_relative(folder);
        if (inside.empty() || *inside.begin() == "..") {
            throw outside();
        }
        opened_.push_back(real);
        try {
            return files_.emplace(location, quant_tool::map_file(real.string())).first->second;
        } catch (const error& e) {
            throw at.refuse(tensor, std::string("its external data: ") + e.what());
        }
    }
    [[nodiscard]] const std::vector<std::filesystem::path>& opened() const noexcept { return opened_; }

private:
    std::filesystem::path folder_;
    std::map<std::string, quant_tool::byte_block> files_;
    std::vector<std::filesystem::path> opened_;
};

std::uint64_t decimal(const std::string& value, const std::string& tensor, const place& at) {
    std::uint64_t out = 0;
    bool good = !value.empty() && value.size() <= 18;
    for (const char c : value) {
        good = good && c >= '0' && c <= '9';
        out = out * 10 + static_cast<std::uint64_t>(c - '0');
    }
    if (!good) {
        throw at.refuse(tensor, "its external data have the offset or length '" + quant_tool::printable(value, 40) +
                                    "', which is not a number");
    }
    return out;
}

/// The elements of a message that keeps them in its typed fields (float_data, int32_data, ...), as raw_data would have them.
std::vector<std::byte> packed(const onnx::TensorProto& message, element_type type) {
    std::vector<std::byte> out;
    const auto append = [&]<class T>(const auto& values, T) {
        out.resize(static_cast<std::size_t>(values.size()) * sizeof(T));
        auto* to = out.data();
        for (const auto v : values) {
            const auto narrow = static_cast<T>(v);
            std::memcpy(to, &narrow, sizeof narrow);
            to += sizeof narrow;
        }
    };
    switch (type) {
    case element_type::float32: append(message.float_data(), float{}); break;
    case element_type::float64: append(message.double_data(), double{}); break;
    case element_type::int64: append(message.int64_data(), std::int64_t{}); break;
    case element_type::uint64: append(message.uint64_data(), std::uint64_t{}); break;
    case element_type::uint32: append(message.uint64_data(), std::uint32_t{}); break;
    case element_type::int32: append(message.int32_data(), std::int32_t{}); break;
    case element_type::int16:
    case element_type::uint16:
    case element_type::float16:
    case element_type::bfloat16: append(message.int32_data(), std::uint16_t{}); break;
    default: append(message.int32_data(), std::uint8_t{}); break;
    }
    return out;
}

tensor read_tensor(bytes message, const std::shared_ptr<const void>& owner, external_files& files, const place& at) {
    tensor out;
    std::optional<bytes> raw;
    std::map<std::string, std::string> external;
    bool elsewhere = false, typed = false;
    std::vector<bytes> runs; // packed float_data
    for_each_field(message, at, "an initializer", [&](const field& f) {
        switch (f.number) {
        case 1: // dims, packed or not
            if (f.wire_type == 0) {
                out.shape.push_back(static_cast<std::int64_t>(f.value));
            } else {
                CodedInputStream in(reinterpret_cast<const std::uint8_t*>(f.content.data()),
                                    static_cast<int>(f.content.size()));
                std::uint64_t extent = 0;
                while (in.CurrentPosition() < static_cast<int>(f.content.size())) {
                    if (!in.ReadVarint64(&extent)) {
                        throw at.refuse("is damaged or not an ONNX file (in the shape of an initializer)");
                    }
                    out.shape.push_back(static_cast<std::int64_t>(extent));
                }
            }
            break;
        case 2: out.type = static_cast<element_type>(static_cast<std::int32_t>(f.value)); break;
        case 3: throw at.refuse("has an initializer in segments, which is not supported");
        case 8: out.name = text(f.content); break;
        case 9: raw = f.content; break;
        case 13: {
            const auto entry = parsed<onnx::StringStringEntryProto>(f.content, at, "external data");
            external[entry.key()] = entry.value();
            break;
        }
        case 14: elsewhere = f.value == 1; break;
        case 4:
            typed = true;
            if (f.wire_type == 2) {
                runs.push_back(f.content);
            } else {
                runs.clear();
            }
            break;
        case 5:
        case 6:
        case 7:
        case 10:
        case 11: typed = true; break;
        default: out.rest += text(f.whole);
        }
    });
    const auto name = out.name;
    if (name.empty()) {
        throw at.refuse("has an initializer without a name");
    }
    if (out.shape.size() > quant_tool::max_rank) {
        throw at.refuse(name, "has " + std::to_string(out.shape.size()) + " dimensions");
    }
    for (const auto extent : out.shape) {
        if (extent < 0) {
            throw at.refuse(name, "has the negative extent " + std::to_string(extent));
        }
    }
    const auto n = count(out.shape);
    if (!n) {
        throw at.refuse(name, "has more elements than can be counted");
    }
    if (bits_of(out.type) == 0) {
        if (out.type == element_type::undefined) {
            throw at.refuse(name, "has no element type");
        }
        if (elsewhere) { // it could not stay behind when the file moves
            throw at.refuse(name, "has external data of " + name_of(out.type) + ", which is not supported");
        }
        out.rest.clear();
        out.verbatim = text(message);
        return out;
    }
    const auto size = out.byte_size();
    if (elsewhere) {
        if (raw || typed) {
            throw at.refuse(name, "has its elements twice, in the file and in another one");
        }
        const auto& file = files.open(external["location"], name, at);
        const auto offset = external.contains("offset") ? decimal(external["offset"], name, at) : 0;
        const auto length = external.contains("length") ? decimal(external["length"], name, at) : size;
        if (length != size) {
            throw at.refuse(name, "has " + std::to_string(length) + " bytes of external data, its shape needs " +
                                      std::to_string(size));
        }
        if (offset > file.size() || length > file.size() - offset) {
            throw at.refuse(name, "its external data end beyond the end of '" +
                                      quant_tool::printable(external["location"]) + "'");
        }
        const auto part = file.part(offset, length);
        out.data = part.span();
        // The map lives as long as this copy of its handle.
        out.owner = std::make_shared<const quant_tool::byte_block>(part);
    } else if (raw) {
        if (typed) {
            throw at.refuse(name, "has its elements twice, as raw data and as numbers");
        }
        out.data = *raw;
        out.owner = owner;
    } else if (out.type == element_type::float32 && runs.size() == 1) { // already as raw data would be
        out.data = runs.front();
        out.owner = owner;
    } else {
        auto values = packed(parsed<onnx::TensorProto>(message, at, "an initializer"), out.type);
        auto kept = std::make_shared<const std::vector<std::byte>>(std::move(values));
        out.data = *kept;
        out.owner = std::move(kept);
    }
    if (out.data.size() != size) {
        throw at.refuse(name, "has " + std::to_string(out.data.size()) + " bytes of data, its shape needs " +
                                  std::to_string(size));
    }
    return out;
}

value_info read_value(bytes message, const place& at) {
    value_info out;
    out.verbatim = text(message);
    const auto info = parsed<onnx::ValueInfoProto>(message, at, "an input or output");
    out.name = info.name();
    if (info.type().has_tensor_type()) {
        const auto& type = info.type().tensor_type();
        out.type = static_cast<element_type>(type.elem_type());
        for (const auto& d : type.shape().dim()) {
            out.shape.push_back(d.has_dim_value() ? d.dim_value() : -1);
        }
    }
    return out;
}

void visit_names(const onnx::GraphProto& graph, const std::function<void(const std::string&)>& f);
void visit_names(const onnx::NodeProto& node, bool subgraphs_only, const std::function<void(const std::string&)>& f) {
    if (!subgraphs_only) {
        for (const auto& name : node.input()) {
            f(name);
        }
        for (const auto& name : node.output()) {
            f(name);
        }
    }
    for (const auto& a : node.attribute()) {
        if (a.has_g()) {
            visit_names(a.g(), f);
        }
        for (const auto& g : a.graphs()) {
            visit_names(g, f);
        }
    }
}
void visit_names(const onnx::GraphProto& graph, const std::function<void(const std::string&)>& f) {
    for (const auto& n : graph.node()) {
        visit_names(n, false, f);
    }
    for (const auto& t : graph.initializer()) {
        f(t.name());
    }
    for (const auto& v : graph.input()) {
        f(v.name());
    }
    for (const auto& v : graph.output()) {
        f(v.name());
    }
}

const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node, std::string_view name) noexcept {
    for (const auto& a : node.attribute()) {
        if (a.name() == name) {
            return &a;
        }
    }
    return nullptr;
}

} // namespace

std::string name_of(element_type type) {
    switch (type) {
    case element_type::undefined: return "undefined";
    case element_type::float32: return "float32";
    case element_type::uint8: return "uint8";
    case element_type::int8: return "int8";
    case element_type::uint16: return "uint16";
    case element_type::int16: return "int16";
    case element_type::int32: return "int32";
    case element_type::int64: return "int64";
    case element_type::string: return "string";
    case element_type::boolean: return "bool";
    case element_type::float16: return "float16";
    case element_type::float64: return "float64";
    case element_type::uint32: return "uint32";
    case element_type::uint64: return "uint64";
    case element_type::bfloat16: return "bfloat16";
    case element_type::uint4: return "uint4";
    case element_type::int4: return "int4";
    }
    return "type " + std::to_string(static_cast<std::int32_t>(type));
}

unsigned bits_of(element_type type) noexcept {
    switch (type) {
    case element_type::uint4:
    case element_type::int4: return 4;
    case element_type::uint8:
    case element_type::int8:
    case element_type::boolean: return 8;
    case element_type::uint16:
    case element_type::int16:
    case element_type::float16:
    case element_type::bfloat16: return 16;
    case element_type::float32:
    case element_type::int32:
    case element_type::uint32: return 32;
    case element_type::int64:
    case element_type::uint64:
    case element_type::float64: return 64;
    case element_type::undefined:
    case element_type::string: break;
    }
    return 0;
}

bool is_real(element_type type) noexcept {
    return type == element_type::float32 || type == element_type::float16 || type == element_type::bfloat16 ||
           type == element_type::float64;
}

std::uint64_t tensor::elements() const noexcept { return count(shape).value_or(0); }

std::uint64_t tensor::byte_size() const noexcept {
    const auto bits = bits_of(type);
    return bits == 4 ? (elements() + 1) / 2 : elements() * (bits / 8);
}

std::vector<std::byte> tensor::bytes() const {
    if (!fill) {
        return {data.begin(), data.end()};
    }
    std::vector<std::byte> out(static_cast<std::size_t>(byte_size()));
    fill(out);
    return out;
}

void tensor::floats(std::uint64_t first, std::span<float> out) const {
    const auto convert = [&]<class T>(T) {
        const auto* from = data.data() + first * sizeof(T);
        for (auto& v : out) {
            T one;
            std::memcpy(&one, from, sizeof one);
            v = quant::to_float(one);
            from += sizeof one;
        }
    };
    if (!is_real(type) || first > elements() || out.size() > elements() - first) {
        throw error(exit_code::internal, {}, name, "has no such elements as floats");
    }
    switch (type) {
    case element_type::float16: convert(quant::float16{}); break;
    case element_type::bfloat16: convert(quant::bfloat16{}); break;
    case element_type::float64: convert(double{}); break;
    default:
        if (!out.empty()) {
            std::memcpy(out.data(), data.data() + first * sizeof(float), out.size_bytes());
        }
    }
}

std::vector<float> tensor::floats() const {
    if (!is_real(type)) {
        throw error(exit_code::input, {}, name, "has elements of " + name_of(type) + ", real numbers are needed");
    }
    if (fill) {
        auto made = owned(name, type, shape, bytes());
        return made.floats();
    }
    std::vector<float> out(static_cast<std::size_t>(elements()));
    floats(0, out);
    return out;
}

const tensor* model::find(std::string_view name) const noexcept {
    for (const auto& t : initializers) {
        if (t.name == name) {
            return &t;
        }
    }
    return nullptr;
}
tensor* model::find(std::string_view name) noexcept {
    return const_cast<tensor*>(static_cast<const model&>(*this).find(name));
}
std::int64_t model::opset() const noexcept {
    for (const auto& [domain, version] : opsets) {
        if (domain.empty() || domain == "ai.onnx") {
            return version;
        }
    }
    return 0;
}

model parse(std::span<const std::byte> file, std::shared_ptr<const void> owner, const std::filesystem::path& path) {
    const place at{path.string()};
    if (file.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
        throw at.refuse("is larger than 2 GiB, more than a protobuf file may be: save the model with external data");
    }
    model out;
    out.path = path;
    external_files files(path);
    std::optional<bytes> graph;
    for_each_field(file, at, "the model", [&](const field& f) {
        if (f.number == 1 && f.wire_type == 0) {
            out.ir_version = static_cast<std::int64_t>(f.value);
        } else if (f.number == 7 && f.wire_type == 2) {
            if (graph) {
                throw at.refuse("has two graphs");
            }
            graph = f.content;
        } else if (f.number == 8 && f.wire_type == 2) {
            const auto set = parsed<onnx::OperatorSetIdProto>(f.content, at, "the operator sets");
            out.opsets[set.domain()] = set.version();
        } else {
            out.has_functions = out.has_functions || f.number == 25;
            out.model_rest += text(f.whole);
        }
    });
    if (!graph || out.ir_version <= 0) {
        throw at.refuse("is not an ONNX model");
    }
    if (out.opset() <= 0) {
        throw at.refuse("does not say which version of ONNX's operators it uses");
    }
    std::set<std::string, std::less<>> names;
    for_each_field(*graph, at, "the graph", [&](const field& f) {
        const bool part = f.wire_type == 2;
        if (f.number == 1 && part) {
            out.nodes.push_back(parsed<onnx::NodeProto>(f.content, at, "a node"));
        } else if (f.number == 5 && part) {
            out.initializers.push_back(read_tensor(f.content, owner, files, at));
            if (!names.insert(out.initializers.back().name).second) {
                throw at.refuse(out.initializers.back().name, "is there twice");
            }
        } else if (f.number == 11 && part) {
            out.inputs.push_back(read_value(f.content, at));
        } else if (f.number == 12 && part) {
            out.outputs.push_back(read_value(f.content, at));
        } else {
            out.graph_rest += text(f.whole);
        }
    });
    out.external_files = files.opened();
    std::set<std::string, std::less<>> written;
    for (const auto& n : out.nodes) {
        for (const auto& name : n.output()) {
            if (!name.empty() && (!written.insert(name).second || names.contains(name))) {
                throw at.refuse(describe(n) + " makes '" + quant_tool::printable(name) + "', which is there already");
            }
        }
    }
    return out;
}

model read(const std::filesystem::path& path) {
    const auto file = quant_tool::map_file(path.string());
    // The handle keeps the map alive, whichever of its tensors outlives the others.
    return parse(file.span(), std::make_shared<const quant_tool::byte_block>(file), path);
}

std::int64_t attribute(const onnx::NodeProto& node, std::string_view name, std::int64_t otherwise) {
    const auto* const a = find_attribute(node, name);
    return a != nullptr ? a->i() : otherwise;
}
float attribute(const onnx::NodeProto& node, std::string_view name, float otherwise) {
    const auto* const a = find_attribute(node, name);
    return a != nullptr ? a->f() : otherwise;
}
std::string attribute(const onnx::NodeProto& node, std::string_view name, const char* otherwise) {
    const auto* const a = find_attribute(node, name);
    return a != nullptr ? a->s() : otherwise;
}
std::vector<std::int64_t> attribute(const onnx::NodeProto& node, std::string_view name,
                                    std::vector<std::int64_t> otherwise) {
    const auto* const a = find_attribute(node, name);
    return a != nullptr ? std::vector<std::int64_t>(a->ints().begin(), a->ints().end()) : std::move(otherwise);
}
bool has_attribute(const onnx::NodeProto& node, std::string_view name) noexcept {
    return find_attribute(node, name) != nullptr;
}

std::string describe(const onnx::NodeProto& node) {
    const auto& name = !node.name().empty() || node.output_size() == 0 ? node.name() : node.output(0);
    return "node '" + quant_tool::printable(name) + "' (" + quant_tool::printable(node.op_type(), 60) + ")";
}
bool is_operator(const onnx::NodeProto& node, std::string_view type) noexcept {
    return node.op_type() == type && (node.domain().empty() || node.domain() == "ai.onnx");
}

value_names::value_names(const model& model) {
    const auto note = [&](const std::string& name) { used_[name] = true; };
    for (const auto& n : model.nodes) {
        visit_names(n, false, note);
    }
    for (const auto& t : model.initializers) {
        note(t.name);
    }
    for (const auto* values : {&model.inputs, &model.outputs}) {
        for (const auto& v : *values) {
            note(v.name);
        }
    }
}

std::string value_names::unused(const std::string& wanted) {
    auto name = wanted;
    for (int i = 2; used_.contains(name); ++i) {
        name = wanted + "_" + std::to_string(i);
    }
    used_[name] = true;
    return name;
}

std::size_t constants_to_initializers(model& model) {
    std::set<std::string> wanted;
    for (const auto& n : model.nodes) {
        for (const auto* type : {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"}) {
            if (is_operator(n, type) && n.input_size() > 1) {
                wanted.insert(n.input().begin() + 1, n.input().end());
            }
        }
    }
    const place at{model.path.string()};
    external_files files(model.path);
    return std::erase_if(model.nodes, [&](const onnx::NodeProto& n) {
        if (!is_operator(n, "Constant") || n.output_size() != 1 || !wanted.contains(n.output(0)) ||
            !has_attribute(n, "value")) {
            return false;
        }
        auto message = find_attribute(n, "value")->t();
        message.set_name(n.output(0));
        const auto kept = std::make_shared<const std::string>(message.SerializeAsString());
        model.initializers.push_back(read_tensor(std::as_bytes(std::span(*kept)), kept, files, at));
        return true;
    });
}

std::map<std::string, value_uses, std::less<>> uses_of(const model& model) {
    std::map<std::string, value_uses, std::less<>> out;
    for (std::size_t i = 0; i < model.nodes.size(); ++i) {
        for (const auto& name : model.nodes[i].input()) {
            if (!name.empty()) {
                out[name].nodes.push_back(i);
            }
        }
        visit_names(model.nodes[i], true, [&](const std::string& name) { out[name].elsewhere = true; });
    }
    for (const auto& v : model.outputs) {
        out[v.name].elsewhere = true;
    }
    return out;
}

} // namespace quant_onnx
