// SPDX-License-Identifier: MIT
// From the nodes of an ONNX file to the layers of the engine: what is supported, checked once and by name.

#include "graph.hpp"

#include "../kernels/kernels.hpp"
#include "../nn/matrix.hpp"
#include "../onnx/model.hpp"
#include "../quant/io/tensor_file.hpp"
#include "../quant/require.hpp"

#include <quant/message.hpp>
#include <quant/packing.hpp>
#include <quant/quant.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <set>
#include <utility>

namespace engine {

namespace {

using quant_onnx::element_type;
using quant_tool::exit_code;

constexpr std::array<std::pair<std::string_view, operation>, 18> operators{{
    {"Conv", operation::conv},
    {"Gemm", operation::gemm},
    {"MatMul", operation::gemm},
    {"Relu", operation::relu},
    {"Clip", operation::clip},
    {"MaxPool", operation::max_pool},
    {"AveragePool", operation::average_pool},
    {"GlobalAveragePool", operation::global_average_pool},
    {"Concat", operation::concat},
    {"Add", operation::add},
    {"Flatten", operation::flatten},
    {"Reshape", operation::flatten},
    {"Identity", operation::identity},
    {"Slice", operation::slice},
    {"Pad", operation::pad},
    {"Softmax", operation::softmax},
    {"QuantizeLinear", operation::quantize},
    {"DequantizeLinear", operation::dequantize},
}};

/// A value known when the network is loaded.
struct constant {
    const quant_onnx::tensor* stored = nullptr; ///< in the file, or
    tensor folded;                              ///< computed from what is in the file
};

std::vector<std::size_t> shape_of(const quant_onnx::tensor& t) { return {t.shape.begin(), t.shape.end()}; }

/// The code format of an integer element type; no bits for others.
quant::code_format format_of(element_type type) {
    switch (type) {
    case element_type::int8: return quant::int8;
    case element_type::uint8: return quant::uint8;
    case element_type::int4: return quant::int4;
    case element_type::uint4: return quant::uint4;
    default: return {.bits = 0};
    }
}

/// Elements of a plain integer type.
template <class T> std::vector<std::int64_t> widened(std::span<const std::byte> bytes) {
    std::vector<T> values(bytes.size() / sizeof(T)); // the file promises no alignment
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T)); // never from or to null
    return {values.begin(), values.end()};
}
template <class Code>
std::vector<std::int64_t> unpacked(const quant_onnx::tensor& t, std::span<const std::byte> bytes,
                                   quant::code_format format) {
    std::vector<Code> codes(static_cast<std::size_t>(t.elements()));
    if (const quant::status s = quant::unpack_codes(bytes, codes, format); !s)
        throw quant_tool::error(exit_code::input, {}, t.name, std::string(quant::message(s.code)));
    return {codes.begin(), codes.end()};
}
std::vector<std::int64_t> integers_of(const quant_onnx::tensor& t) {
    const std::vector<std::byte> bytes = t.bytes();
    switch (t.type) {
    case element_type::int64: return widened<std::int64_t>(bytes);
    case element_type::int32: return widened<std::int32_t>(bytes);
    case element_type::int8: return widened<std::int8_t>(bytes);
    case element_type::uint8: return widened<std::uint8_t>(bytes);
    case element_type::int4: return unpacked<std::int8_t>(t, bytes, quant::int4);
    case element_type::uint4: return unpacked<std::uint8_t>(t, bytes, quant::uint4);
    default: throw quant_tool::error(exit_code::input, {}, t.name, "is not of an integer type that is supported");
    }
}

/// Reads one node; every mistake names it.
class reader {
public:
    reader(const onnx::NodeProto& node, const std::map<std::string, constant>& constants, std::string_view file)
        : node_(node), constants_(constants), file_(file) {}

    [[noreturn]] void fail(const std::string& cause) const {
        throw quant_tool::error(exit_code::input, file_, quant_onnx::describe(node_) + ": " + cause);
    }

    const onnx::AttributeProto* attribute(const char* name) {
        for (const auto& a : node_.attribute())
            if (a.name() == name) {
                seen_.insert(name);
                return &a;
            }
        return nullptr;
    }
    std::int64_t integer(const char* name, std::int64_t otherwise) {
        const auto* a = attribute(name);
        return a != nullptr ? a->i() : otherwise;
    }
    float real(const char* name, float otherwise) {
        const auto* a = attribute(name);
        return a != nullptr ? a->f() : otherwise;
    }
    /// An attribute that has to have this value, if it is there at all.
    void require(const char* name, std::int64_t value) {
        if (integer(name, value) != value)
            fail("its attribute " + std::string(name) + " is supported as " + std::to_string(value) + " only");
    }
    void require(const char* name, std::string_view value) {
        const auto* a = attribute(name);
        if (a != nullptr && a->s() != value)
            fail("its attribute " + std::string(name) + " is supported as " + std::string(value) + " only");
    }
    template <std::size_t N> std::array<std::size_t, N> sizes(const char* name, std::size_t otherwise) {
        std::array<std::size_t, N> out;
        out.fill(otherwise);
        const auto* a = attribute(name);
        if (a == nullptr) return out;
        if (static_cast<std::size_t>(a->ints_size()) != N)
            fail("its attribute " + std::string(name) + " is not for 2-D data");
        for (std::size_t i = 0; i < N; ++i) {
            const std::int64_t value = a->ints(static_cast<int>(i));
            if (value < 0 || value > (1 << 24)) fail("its attribute " + std::string(name) + " is out of range");
            out[i] = static_cast<std::size_t>(value);
        }
        return out;
    }
    /// After all that is understood has been read.
    void refuse_other_attributes() const {
        for (const auto& a : node_.attribute())
            if (!seen_.contains(a.name()))
                fail("its attribute " + quant_tool::printable(a.name()) + " is not supported");
    }

    bool has_input(int i) const { return i < node_.input_size() && !node_.input(i).empty(); }
    const constant& constant_input(int i) const {
        if (!has_input(i)) fail("lacks its input " + std::to_string(i));
        const auto found = constants_.find(node_.input(i));
        if (found == constants_.end())
            fail("its input '" + quant_tool::printable(node_.input(i)) + "' must be a constant");
        return found->second;
    }
    tensor floats(int i) const {
        const constant& c = constant_input(i);
        if (c.stored == nullptr) return c.folded;
        tensor out;
        out.shape = shape_of(*c.stored);
        out.data = c.stored->floats();
        return out;
    }
    float number(int i) const {
        const tensor t = floats(i);
        if (t.data.size() != 1) fail("its input " + std::to_string(i) + " is not one number");
        return t.data[0];
    }
    const quant_onnx::tensor& stored(int i) const {
        const constant& c = constant_input(i);
        if (c.stored == nullptr)
            fail("its input '" + quant_tool::printable(node_.input(i)) + "' must stand in the file");
        return *c.stored;
    }
    std::vector<std::int64_t> integers(int i) const { return integers_of(stored(i)); }

    const onnx::NodeProto& node() const { return node_; }

private:
    const onnx::NodeProto& node_;
    const std::map<std::string, constant>& constants_;
    std::string_view file_;
    std::set<std::string, std::less<>> seen_;
};

/// Scales and zero points of a QuantizeLinear or DequantizeLinear as the library's parameters.
/// format  of the codes; without bits: taken from the zero point
std::vector<quant::affine_params> read_params(reader& r, quant::code_format format) {
    const tensor scales = r.floats(1);
    if (scales.data.empty()) r.fail("has no scale");
    std::vector<std::int64_t> zero_points(scales.size(), 0);
    if (r.has_input(2)) {
        if (format.bits == 0) format = format_of(r.stored(2).type);
        zero_points = r.integers(2);
        if (zero_points.size() != scales.size()) r.fail("has another number of zero points than of scales");
    } else if (format.bits == 0) {
        const auto type = static_cast<element_type>(r.integer("output_dtype", 0));
        format = type == element_type::undefined ? quant::uint8 : format_of(type);
    }
    if (format.bits == 0) r.fail("is supported for int8, uint8, int4 and uint4 only");
    std::vector<quant::affine_params> out;
    for (std::size_t i = 0; i < scales.size(); ++i) {
        out.push_back({scales.data[i], static_cast<std::int32_t>(zero_points[i]), format});
        if (const quant::status s = quant::validate(out.back()); !s) r.fail(std::string(quant::message(s.code)));
    }
    return out;
}

std::size_t axis_in(const reader& r, std::int64_t axis, std::size_t rank) {
    const auto n = static_cast<std::int64_t>(rank);
    if (axis < -n || axis >= n) r.fail("its axis " + std::to_string(axis) + " is out of range");
    return static_cast<std::size_t>(axis < 0 ? axis + n : axis);
}

template <class Code>
void restore(const reader& r, std::span<const std::int64_t> values, std::span<const quant::affine_params> params,
             quant::granularity g, tensor& out) {
    const std::vector<Code> codes(values.begin(), values.end());
    std::array<std::size_t, 4> extents{1, 1, 1, 1};
    if (out.shape.size() > extents.size()) r.fail("has more than 4 dimensions");
    std::copy(out.shape.begin(), out.shape.end(), extents.begin());
    const auto [a, b, c, d] = extents;
    const quant::status s =
        quant::dequantize(quant::view(codes, a, b, c, d), quant::view(out.data, a, b, c, d), params, g);
    if (!s) r.fail(quant_tool::text_of(s));
}

/// The floats behind a DequantizeLinear of a constant.
tensor restored_constant(reader& r) {
    const quant_onnx::tensor& codes = r.stored(0);
    tensor out(shape_of(codes));
    const std::int64_t axis = r.integer("axis", 1), block = r.integer("block_size", 0);
    r.require("output_dtype", static_cast<std::int64_t>(element_type::float32));
    r.refuse_other_attributes();
    const std::vector<std::int64_t> values = integers_of(codes);
    if (values.size() != out.size()) r.fail("its constant has another number of elements than its shape says");
    if (codes.type == element_type::int32) { // a bias: no code format is that wide, and its zero point is 0
        const tensor scales = r.floats(1);
        if (r.has_input(2))
            for (const std::int64_t z : r.integers(2))
                if (z != 0) r.fail("has a zero point beside int32");
        if (scales.size() != 1 && scales.size() != out.size()) r.fail("has another number of scales than of elements");
        for (std::size_t i = 0; i < out.size(); ++i)
            out.data[i] = static_cast<float>(values[i]) * scales.data[scales.size() == 1 ? 0 : i];
        return out;
    }
    const quant::code_format format = format_of(codes.type);
    const auto params = read_params(r, format);
    quant::granularity g = quant::per_tensor;
    if (block < 0) r.fail("has a negative block_size");
    if (params.size() > 1 || block > 0) {
        const int along = static_cast<int>(axis_in(r, axis, out.shape.size()));
        g = block > 0 ? quant::per_group(along, static_cast<std::size_t>(block)) : quant::per_axis(along);
    }
    if (format.is_signed)
        restore<std::int8_t>(r, values, params, g, out);
    else
        restore<std::uint8_t>(r, values, params, g, out);
    return out;
}

std::vector<float> bias_of(const reader& r, int input, std::size_t outputs) {
    if (!r.has_input(input)) return std::vector<float>(outputs, 0.0f);
    const tensor b = r.floats(input);
    if (b.size() == 1 && outputs != 1) return std::vector<float>(outputs, b.data[0]);
    if (b.size() != outputs)
        r.fail("its bias has " + std::to_string(b.size()) + " elements for " + std::to_string(outputs) + " outputs");
    return b.data;
}

void read_window(reader& r, layer& l) {
    r.require("auto_pad", std::string_view("NOTSET"));
    l.strides = r.sizes<2>("strides", 1);
    l.pads = r.sizes<4>("pads", 0);
    l.dilations = r.sizes<2>("dilations", 1);
    for (const std::size_t step : {l.strides[0], l.strides[1], l.dilations[0], l.dilations[1]})
        if (step == 0) r.fail("has a stride or dilation of 0");
}

/// Gemm, or MatMul, which has no attributes and no bias.
void read_gemm(reader& r, layer& l) {
    const bool plain = r.node().op_type() == "MatMul";
    if (!plain) r.require("transA", 0);
    const bool transposed = !plain && r.integer("transB", 0) != 0;
    const float alpha = plain ? 1.0f : r.real("alpha", 1.0f), beta = plain ? 1.0f : r.real("beta", 1.0f);
    l.weight = r.floats(1);
    if (l.weight.shape.size() != 2) r.fail("its weight is not a matrix");
    if (!transposed) {
        tensor t({l.weight.shape[1], l.weight.shape[0]});
        nn::as_matrix(std::span(t.data), t.shape[0], t.shape[1]) =
            nn::as_matrix(std::span<const float>(l.weight.data), t.shape[1], t.shape[0]).transpose();
        l.weight = std::move(t);
    }
    l.bias = bias_of(r, 2, l.weight.shape[0]);
    if (alpha != 1.0f)
        for (float& w : l.weight.data) w *= alpha;
    if (beta != 1.0f)
        for (float& b : l.bias) b *= beta;
}

/// Flatten, or a Reshape that comes to the same for any batch.
void read_flatten(reader& r, const std::vector<std::size_t>& input) {
    if (r.node().op_type() == "Flatten") return r.require("axis", 1);
    r.require("allowzero", 0);
    const auto to = r.integers(1);
    const auto features = static_cast<std::int64_t>(tensor::count(std::span(input).subspan(1)));
    const bool known = to.size() == 2 && to[1] == features;
    if (to.size() != 2 || (to[1] != -1 && !(known && to[0] <= 0))) r.fail("is supported as a Reshape to [N, -1] only");
}

void read_cuts(reader& r, layer& l, std::size_t rank) {
    const auto starts = r.integers(1), ends = r.integers(2);
    std::vector<std::int64_t> axes, steps(starts.size(), 1);
    if (r.has_input(3))
        axes = r.integers(3);
    else
        for (std::size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
    if (r.has_input(4)) steps = r.integers(4);
    if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
        r.fail("has lists of different lengths");
    for (std::size_t i = 0; i < starts.size(); ++i) {
        if (steps[i] < 1) r.fail("is supported for positive steps only");
        l.cuts.push_back({axis_in(r, axes[i], rank), starts[i], ends[i], steps[i]});
        if (l.cuts.back().axis == 0) r.fail("cuts the batch");
    }
}

void read_pads(reader& r, layer& l, std::size_t rank) {
    r.require("mode", std::string_view("constant"));
    if (r.has_input(3)) r.fail("is supported for all axes only");
    const auto pads = r.integers(1);
    if (pads.size() != 2 * rank)
        r.fail("has " + std::to_string(pads.size()) + " paddings for " + std::to_string(rank) + " dimensions");
    for (const std::int64_t p : pads) {
        if (p < 0 || p > (1 << 24)) r.fail("has a padding out of range");
        l.pad_with.push_back(static_cast<std::size_t>(p));
    }
    if (pads[0] != 0 || pads[rank] != 0) r.fail("pads the batch");
    if (r.has_input(2)) l.pad_value = r.number(2);
}

/// Everything of a layer but its values.
layer read_layer(reader& r, operation kind, const std::vector<std::size_t>& input) {
    const std::size_t rank = input.size();
    layer l;
    l.kind = kind;
    l.name = r.node().name().empty() ? r.node().output(0) : r.node().name();
    switch (kind) {
    case operation::conv:
        read_window(r, l);
        l.weight = r.floats(1);
        if (l.weight.shape.size() != 4) r.fail("is supported for 2-D data only");
        l.kernel = {l.weight.shape[2], l.weight.shape[3]};
        if (r.attribute("kernel_shape") != nullptr && r.sizes<2>("kernel_shape", 0) != l.kernel)
            r.fail("its kernel_shape is not that of its weight");
        l.groups = static_cast<std::size_t>(r.integer("group", 1));
        if (l.groups == 0 || l.weight.shape[0] % l.groups != 0) r.fail("has outputs that its groups do not divide");
        l.bias = bias_of(r, 2, l.weight.shape[0]);
        break;
    case operation::gemm: read_gemm(r, l); break;
    case operation::clip:
        l.low = r.has_input(1) ? r.number(1) : r.real("min", l.low);
        l.high = r.has_input(2) ? r.number(2) : r.real("max", l.high);
        break;
    case operation::max_pool:
    case operation::average_pool:
        read_window(r, l);
        if (r.attribute("kernel_shape") == nullptr) r.fail("lacks its kernel_shape");
        l.kernel = r.sizes<2>("kernel_shape", 0);
        l.ceil_mode = r.integer("ceil_mode", 0) != 0;
        l.count_padding = r.integer("count_include_pad", 0) != 0;
        r.require("storage_order", 0);
        if (kind == operation::average_pool && l.dilations != std::array<std::size_t, 2>{1, 1})
            r.fail("is supported without dilations only");
        break;
    case operation::concat:
        l.axis = axis_in(r, r.integer("axis", 0), rank);
        if (l.axis == 0) r.fail("joins batches");
        break;
    case operation::flatten: read_flatten(r, input); break;
    case operation::softmax:
        if (rank != 2 || axis_in(r, r.integer("axis", -1), rank) != 1)
            r.fail("is supported over the classes of [N, C] only");
        break;
    case operation::slice: read_cuts(r, l, rank); break;
    case operation::pad: read_pads(r, l, rank); break;
    case operation::quantize:
    case operation::dequantize: {
        const std::int64_t axis = r.integer("axis", 1);
        r.require("block_size", 0);
        r.require("saturate", 1);
        l.params = read_params(r, {.bits = 0});
        if (l.params.size() > 1) l.axis = axis_in(r, axis, rank);
        if (l.params.size() > 1 && l.axis == 0) r.fail("has a scale per sample");
        break;
    }
    case operation::relu:
    case operation::global_average_pool:
    case operation::add:
    case operation::identity: break;
    }
    r.refuse_other_attributes();
    return l;
}

/// What a Constant node holds: numbers of types that networks use outside of weights too.
quant_onnx::tensor held_by(reader& r) {
    const auto* a = r.attribute("value");
    r.refuse_other_attributes();
    if (a == nullptr) r.fail("lacks its attribute value");
    const onnx::TensorProto& t = a->t();
    const auto made = [&]<class T>(const auto& list) {
        std::vector<T> values(list.begin(), list.end());
        if (values.empty()) values.resize(t.raw_data().size() / sizeof(T));
        if (list.empty() && !values.empty()) std::memcpy(values.data(), t.raw_data().data(), values.size() * sizeof(T));
        for (const std::int64_t n : t.dims())
            if (n < 0) r.fail("has a negative extent");
        const std::vector<std::uint64_t> extents(t.dims().begin(), t.dims().end());
        if (values.size() != quant_tool::element_count(extents))
            r.fail("has another number of elements than its shape says");
        return quant_onnx::owned(r.node().output(0), static_cast<element_type>(t.data_type()),
                                 {t.dims().begin(), t.dims().end()}, std::move(values));
    };
    switch (static_cast<element_type>(t.data_type())) {
    case element_type::float32: return made.operator()<float>(t.float_data());
    case element_type::int64: return made.operator()<std::int64_t>(t.int64_data());
    default: r.fail("is supported for float32 and int64 only");
    }
}

/// Whether an Add is the bias of the fully connected layer before it, as a MatMul has none: then it is taken in.
bool takes_bias(layer& l, const reader& r, const std::map<std::string, constant>& constants,
                const quant_onnx::model& m) {
    const onnx::NodeProto& node = r.node();
    const int own = node.input_size() == 2 && node.input(1) == l.output_name ? 1 : 0;
    if (node.input_size() != 2 || node.input(own) != l.output_name || l.kind != operation::gemm ||
        !constants.contains(node.input(1 - own)))
        return false;
    std::ptrdiff_t readers = l.output_name == m.outputs[0].name ? 1 : 0;
    for (const onnx::NodeProto& n : m.nodes) readers += std::count(n.input().begin(), n.input().end(), l.output_name);
    const tensor bias = r.floats(1 - own);
    if (readers != 1 || bias.size() != l.bias.size() || bias.shape.empty() || bias.shape.size() > 2 ||
        bias.shape.back() != bias.size())
        return false;
    std::transform(l.bias.begin(), l.bias.end(), bias.data.begin(), l.bias.begin(), std::plus<>());
    l.output_name = node.output(0);
    l.bias_name = node.input(1 - own);
    return true;
}

/// How many of a node's inputs are computed; the others are constants.
std::size_t computed_inputs(operation kind, const onnx::NodeProto& node) {
    if (kind == operation::concat) return static_cast<std::size_t>(node.input_size());
    return kind == operation::add ? 2 : 1;
}

/// The name of the stored tensor a constant input came from, through one DequantizeLinear.
using origins = std::map<std::string, std::string>;
std::string origin_of(const origins& from, const onnx::NodeProto& node, int input) {
    if (input >= node.input_size()) return {};
    const auto found = from.find(node.input(input));
    return found != from.end() ? found->second : node.input(input);
}

} // namespace

bool moves_values(operation kind) {
    switch (kind) {
    case operation::max_pool:
    case operation::flatten:
    case operation::identity:
    case operation::slice:
    case operation::pad: return true;
    default: return false;
    }
}

std::string_view name_of(operation kind) {
    for (const auto& [name, k] : operators)
        if (k == kind) return name;
    return "?";
}

const layer* graph::only_reader(std::size_t value) const {
    if (value == output || readers[value] != 1) return nullptr;
    for (const layer& l : layers)
        if (std::find(l.inputs.begin(), l.inputs.end(), value) != l.inputs.end()) return &l;
    return nullptr;
}

namespace {

/// Errors of what a node needs, a tensor or its output's shape, come without the file.
graph read_graph(const quant_onnx::model& m, const std::string& file) {
    const auto refuse = [&](const std::string& cause) { throw quant_tool::error(exit_code::input, file, cause); };
    std::map<std::string, constant> constants;
    for (const auto& t : m.initializers) constants[t.name] = {&t, {}};
    graph g;
    std::map<std::string, std::size_t> values;
    const auto new_value = [&](const std::string& name, std::vector<std::size_t> shape) {
        values[name] = g.values;
        g.shapes.push_back(std::move(shape));
        return g.values++;
    };
    for (const auto& in : m.inputs) {
        if (constants.contains(in.name)) continue; // files of IR version 3 list initializers as inputs
        if (g.values != 0) refuse("has more than one input");
        if (in.type != element_type::float32 || in.shape.size() < 2) refuse("its input is not float32 [N, ...]");
        std::vector<std::size_t> shape{1};
        for (std::size_t d = 1; d < in.shape.size(); ++d) {
            if (in.shape[d] < 1) refuse("its input's extents are not known (all but the first must be)");
            shape.push_back(static_cast<std::size_t>(in.shape[d]));
        }
        g.input = new_value(in.name, std::move(shape));
    }
    if (g.values == 0) refuse("has no input");
    if (m.outputs.size() != 1) refuse("has " + std::to_string(m.outputs.size()) + " outputs instead of 1");

    origins from;
    std::list<quant_onnx::tensor> held; // by Constant nodes
    for (const onnx::NodeProto& node : m.nodes) {
        reader r(node, constants, file);
        if (node.output_size() != 1) r.fail("is supported with one output only");
        if (node.op_type() == "Constant") {
            constants[node.output(0)] = {&held.emplace_back(held_by(r)), {}};
            continue;
        }
        const auto* known =
            std::find_if(operators.begin(), operators.end(), [&](const auto& o) { return o.first == node.op_type(); });
        if (known == operators.end() || !(node.domain().empty() || node.domain() == "ai.onnx"))
            r.fail("this operator is not supported");
        const operation kind = known->second;
        const std::size_t computed = computed_inputs(kind, node);
        if (node.input_size() == 0) r.fail("has no input");
        if (static_cast<std::size_t>(node.input_size()) < computed) r.fail("lacks an input");
        if (kind == operation::dequantize && constants.contains(node.input(0))) {
            from[node.output(0)] = node.input(0);
            constants[node.output(0)] = {nullptr, restored_constant(r)};
            continue;
        }
        if (kind == operation::add && !g.layers.empty() && takes_bias(g.layers.back(), r, constants, m)) {
            values[node.output(0)] = g.layers.back().output;
            continue;
        }
        std::vector<std::size_t> inputs;
        std::vector<std::vector<std::size_t>> shapes;
        for (std::size_t i = 0; i < computed; ++i) {
            const auto& name = node.input(static_cast<int>(i));
            const auto found = values.find(name);
            if (found == values.end())
                r.fail("its input '" + quant_tool::printable(name) + "' is " +
                       (constants.contains(name) ? "a constant" : "unknown"));
            inputs.push_back(found->second);
            shapes.push_back(g.shapes[found->second]);
        }
        layer l = read_layer(r, kind, shapes[0]);
        l.inputs = std::move(inputs);
        l.output_name = node.output(0);
        if (l.has_weight()) {
            l.weight_name = origin_of(from, node, 1);
            l.bias_name = origin_of(from, node, 2);
        }
        l.output = new_value(l.output_name, output_shape(l, shapes));
        g.layers.push_back(std::move(l));
    }
    const auto out = values.find(m.outputs[0].name);
    if (out == values.end()) refuse("its output '" + quant_tool::printable(m.outputs[0].name) + "' is not computed");
    g.output = out->second;
    g.readers.assign(g.values, 0);
    for (const layer& l : g.layers)
        for (const std::size_t v : l.inputs) ++g.readers[v];
    return g;
}

} // namespace

graph load(const quant_onnx::model& m) {
    const std::string file = m.path.string();
    try {
        return read_graph(m, file);
    } catch (const quant_tool::error& e) {
        if (std::string_view(e.what()).starts_with(quant_tool::printable(file, 4096))) throw;
        throw quant_tool::error(e.code(), file, e.what());
    }
}

} // namespace engine
