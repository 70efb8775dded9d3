// SPDX-License-Identifier: MIT
#pragma once
// An ONNX model as plain data: its nodes as protobuf messages, its initializers as views of the mapped file, and everything
// else of the file as the bytes it was. docs/onnx.md is the page for users.

#include "../quant/io/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <onnx/onnx_pb.h>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quant_onnx {

using quant_tool::error;
using quant_tool::exit_code;

/// Element types under ONNX's own numbers. A file may hold others; its tensors of those are kept as they are.
enum class element_type : std::int32_t {
    undefined = 0,
    float32 = 1,
    uint8 = 2,
    int8 = 3,
    uint16 = 4,
    int16 = 5,
    int32 = 6,
    int64 = 7,
    string = 8,
    boolean = 9,
    float16 = 10,
    float64 = 11,
    uint32 = 12,
    uint64 = 13,
    bfloat16 = 16,
    uint4 = 21,
    int4 = 22
};

/// "float32"; "type 17" for one without a name here.
[[nodiscard]] std::string name_of(element_type type);
/// Bits per element; 0 where the elements have no fixed size (string) or the type is not known here.
[[nodiscard]] unsigned bits_of(element_type type) noexcept;
/// The types the library quantizes: float32, float16, bfloat16, float64.
[[nodiscard]] bool is_real(element_type type) noexcept;

/// An initializer.
struct tensor {
    std::string name;
    element_type type = element_type::undefined;
    std::vector<std::int64_t> shape; ///< no extent is negative

    /// The elements as raw_data has them: little-endian, row-major, 4-bit elements in pairs (the first one in the low half). In the
    /// mapped file wherever they stand there in this form; not aligned.
    std::span<const std::byte> data;
    std::shared_ptr<const void> owner; ///< keeps `data` alive

    /// Set instead of `data`: makes the bytes when they are needed, so that a writer has one tensor in memory at a time.
    std::function<void(std::span<std::byte>)> fill;

    /// A message that cannot be shown as above (strings, types without a name here): written back as it is, `data` is empty.
    std::string verbatim;
    /// Fields of the message beside those above (documentation, metadata), written back as they are.
    std::string rest;

    [[nodiscard]] std::uint64_t elements() const noexcept;
    [[nodiscard]] std::uint64_t byte_size() const noexcept;
    /// The bytes, made first if `fill` has to make them.
    [[nodiscard]] std::vector<std::byte> bytes() const;
    /// The values of a real tensor (exact, but for float64, which is rounded); throws error for any other type.
    [[nodiscard]] std::vector<float> floats() const;
    /// `count` values from element `first` on. Precondition: not `fill`.
    void floats(std::uint64_t first, std::span<float> out) const;
};

/// A tensor that owns its bytes: owned("w", element_type::float32, {64, 3}, std::vector<float>{...}).
template <class T>
[[nodiscard]] tensor owned(std::string name, element_type type, std::vector<std::int64_t> shape,
                           std::vector<T> values) {
    tensor out;
    out.name = std::move(name);
    out.type = type;
    out.shape = std::move(shape);
    auto kept = std::make_shared<const std::vector<T>>(std::move(values));
    out.data = std::as_bytes(std::span<const T>(*kept));
    out.owner = std::move(kept);
    return out;
}

/// An input or output of the graph.
struct value_info {
    std::string name;
    element_type type = element_type::undefined; ///< undefined: not a tensor
    std::vector<std::int64_t> shape;             ///< -1: symbolic or unknown
    std::string verbatim; ///< the message in the file, written back; empty: made of the three above
};

struct model {
    std::int64_t ir_version = 0;
    std::map<std::string, std::int64_t> opsets; ///< domain -> version; "" is ONNX's own
    std::vector<onnx::NodeProto> nodes;         ///< in topological order, as in the file
    std::vector<tensor> initializers;
    std::vector<value_info> inputs, outputs;           ///< old files list the initializers among the inputs
    std::filesystem::path path;                        ///< where it was read from; for messages
    std::vector<std::filesystem::path> external_files; ///< files of external data, each once

    bool has_functions = false; ///< defines operators of its own (they are among the fields below)

    /// Fields of the two messages beside those above, written back as they are.
    std::string model_rest, graph_rest;

    [[nodiscard]] const tensor* find(std::string_view name) const noexcept;
    [[nodiscard]] tensor* find(std::string_view name) noexcept;
    /// The version of ONNX's own operators.
    [[nodiscard]] std::int64_t opset() const noexcept;
};

/// Reads a model; external data must lie in the model's folder. Throws error (exit_code::input).
[[nodiscard]] model read(const std::filesystem::path& path);
/// The same from memory that stays valid as long as the model; `path` names it and says where external data would lie.
[[nodiscard]] model parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                          const std::filesystem::path& path);

/// Where the elements of the larger initializers are written.
enum class where_weights_stand : std::uint8_t {
    by_size, ///< in the model, or beside it if it would exceed the 2 GiB that protobuf allows
    beside   ///< in one file of external data beside the model, its name with ".data" behind it
};

/// Writes a model, tensor by tensor, whole or not at all; external data that it was read with become part of it or of the new file
/// of external data. Returns the size of all that was written. Throws error (exit_code::output).
/// limit   what the model's file may hold: for tests
std::uint64_t write(const model& model, const std::filesystem::path& path, bool force,
                    where_weights_stand where = where_weights_stand::by_size,
                    std::uint64_t limit = (std::uint64_t{1} << 31) - 1);

/// An attribute of a node, or the default.
[[nodiscard]] std::int64_t attribute(const onnx::NodeProto& node, std::string_view name, std::int64_t otherwise);
[[nodiscard]] float attribute(const onnx::NodeProto& node, std::string_view name, float otherwise);
[[nodiscard]] std::string attribute(const onnx::NodeProto& node, std::string_view name, const char* otherwise);
[[nodiscard]] std::vector<std::int64_t> attribute(const onnx::NodeProto& node, std::string_view name,
                                                  std::vector<std::int64_t> otherwise);
[[nodiscard]] bool has_attribute(const onnx::NodeProto& node, std::string_view name) noexcept;

/// "node 'conv1' (Conv)": how a message names a node; one without a name is named after its first output.
[[nodiscard]] std::string describe(const onnx::NodeProto& node);
/// Whether the node is one of ONNX's own operators of this type.
[[nodiscard]] bool is_operator(const onnx::NodeProto& node, std::string_view type) noexcept;

/// Names of values in use anywhere in the graph, subgraphs included; `unused(name)` makes new ones.
class value_names {
public:
    explicit value_names(const model& model);
    /// `wanted`, or `wanted` with a number behind it.
    [[nodiscard]] std::string unused(const std::string& wanted);

private:
    std::map<std::string, bool, std::less<>> used_;
};

/// Turns Constant nodes that layers with weights and batch normalisations read (some exporters write weights so) into initializers.
/// Returns how many.
std::size_t constants_to_initializers(model& model);

/// How often each value is read: by nodes of the graph, and by subgraphs or as an output of the graph.
struct value_uses {
    std::vector<std::size_t> nodes; ///< numbers of nodes of the main graph, one per reading input
    bool elsewhere = false;         ///< in a subgraph, or an output of the graph
};
[[nodiscard]] std::map<std::string, value_uses, std::less<>> uses_of(const model& model);

} // namespace quant_onnx
