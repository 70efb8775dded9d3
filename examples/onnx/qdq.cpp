// SPDX-License-Identifier: MIT
#include "qdq.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <quant/core/half.hpp>
#include <quant/quantize/integer_bias.hpp>
#include <set>

namespace quant_onnx {

namespace {

onnx::NodeProto make_node(const char* type, const std::string& name, const std::vector<std::string>& inputs,
                          const std::string& output) {
    onnx::NodeProto out;
    out.set_op_type(type);
    out.set_name(name);
    for (const auto& i : inputs) {
        out.add_input(i);
    }
    out.add_output(output);
    return out;
}
void set_attribute(onnx::NodeProto& node, const char* name, std::int64_t value) {
    auto& a = *node.add_attribute();
    a.set_name(name);
    a.set_type(onnx::AttributeProto::INT);
    a.set_i(value);
}

/// An attribute that changed its meaning, or one that the newer version does not have, refuses the node.
bool keeps_its_meaning(const onnx::NodeProto& n, std::int64_t from, std::int64_t to) {
    for (const auto& [type, since] : stable_operators()) {
        if (!is_operator(n, type)) {
            continue;
        }
        if (from < since) {
            return false;
        }
        if (type == "AveragePool" && from < 19 && to >= 19) {
            return attribute(n, "ceil_mode", std::int64_t{0}) == 0;
        }
        if (type == "Split" && from < 18 && to >= 18) {
            return n.input_size() == 2 && !n.input(1).empty();
        }
        if (type == "BatchNormalization") {
            return n.output_size() == 1 && attribute(n, "training_mode", std::int64_t{0}) == 0;
        }
        if (type == "Dropout") {
            return n.input_size() <= 2;
        }
        return true;
    }
    return false;
}

/// Whether input 1 of the node is a weight.
bool multiplies(const onnx::NodeProto& n) {
    return n.input_size() >= 2 && (is_operator(n, "Conv") || is_operator(n, "ConvTranspose") ||
                                   is_operator(n, "Gemm") || is_operator(n, "MatMul"));
}

/// The number of the first node that reads the value, or could do so in a subgraph.
std::size_t first_user(const model& model, const std::string& value) {
    std::size_t i = 0;
    for (; i < model.nodes.size(); ++i) {
        const auto& n = model.nodes[i];
        const auto subgraph = [](const onnx::AttributeProto& a) { return a.has_g() || a.graphs_size() != 0; };
        if (std::find(n.input().begin(), n.input().end(), value) != n.input().end() ||
            std::any_of(n.attribute().begin(), n.attribute().end(), subgraph)) {
            break;
        }
    }
    return i;
}
void insert_nodes(model& model, std::size_t before, std::vector<onnx::NodeProto> nodes) {
    model.nodes.insert(model.nodes.begin() + static_cast<std::ptrdiff_t>(before),
                       std::make_move_iterator(nodes.begin()), std::make_move_iterator(nodes.end()));
}

/// One weight's result, shared by the tensors that are made of it.
struct made_weight {
    tensor source;
    std::uint64_t packed_size = 0;
    weight_quantizer quantizer;
    bool done = false;
    weight_result result;

    const weight_result& get() {
        if (!done) {
            std::vector<std::byte> packed(static_cast<std::size_t>(packed_size));
            make(packed);
        }
        return result;
    }
    void make(std::span<std::byte> packed) {
        result = quantizer(source, packed);
        done = true;
    }
};

tensor made(std::string name, element_type type, std::vector<std::int64_t> shape,
            std::function<void(std::span<std::byte>)> fill) {
    tensor out;
    out.name = std::move(name);
    out.type = type;
    out.shape = std::move(shape);
    out.fill = std::move(fill);
    return out;
}

/// Zero points as ONNX stores them.
void store_codes(std::span<const quant::affine_params> params, element_type type, std::span<std::byte> out) {
    const bool half = bits_of(type) == 4;
    std::fill(out.begin(), out.end(), std::byte{0});
    for (std::size_t i = 0; i < params.size(); ++i) {
        const auto code = static_cast<std::byte>(params[i].zero_point & (half ? 15 : 255));
        out[half ? i / 2 : i] |= half && i % 2 == 1 ? code << 4 : code;
    }
}

std::vector<std::int64_t> parameter_shape(const std::vector<std::int64_t>& shape, quant::granularity g) {
    if (g.unit == quant::granularity::kind::tensor) {
        return {};
    }
    const auto axis = static_cast<std::size_t>(g.axis);
    if (g.unit == quant::granularity::kind::axis) {
        return {shape[axis]};
    }
    auto out = shape;
    const auto size = static_cast<std::int64_t>(g.group_size);
    out[axis] = shape[axis] / size + (shape[axis] % size != 0 ? 1 : 0);
    return out;
}

/// Removes an initializer that nothing reads any more.
void drop_unused(model& model, const std::string& name) {
    if (!uses_of(model).contains(name)) {
        std::erase_if(model.initializers, [&](const tensor& t) { return t.name == name; });
        std::erase_if(model.inputs, [&](const value_info& v) { return v.name == name; });
    }
}

/// What a shift of every weight adds to each output: shift * (sum of the means of the inputs that the weight meets).
/// mean   of the input's channels; channels of several convolution groups one after the other
std::vector<double> bias_of_shifts(const made_weight& made, quant::granularity g, const weight& w,
                                   const std::vector<double>& mean, std::int64_t groups) {
    const auto& shape = made.source.shape;
    const auto outputs = static_cast<std::size_t>(shape[static_cast<std::size_t>(w.output_axis)]);
    const auto inputs = static_cast<std::size_t>(shape[static_cast<std::size_t>(w.input_axis)]);
    const auto scales = parameter_shape(shape, g);
    const auto per_group = outputs / static_cast<std::size_t>(groups);
    std::vector<double> out(outputs);
    std::vector<std::int64_t> index(shape.size());
    for (std::uint64_t e = 0; e < made.source.elements(); ++e) {
        std::size_t slice = 0;
        if (g.unit == quant::granularity::kind::axis) {
            slice = static_cast<std::size_t>(index[static_cast<std::size_t>(g.axis)]);
        } else if (g.unit == quant::granularity::kind::group) {
            for (std::size_t d = 0; d < shape.size(); ++d) {
                const bool grouped = d == static_cast<std::size_t>(g.axis);
                slice = slice * static_cast<std::size_t>(scales[d]) +
                        static_cast<std::size_t>(index[d]) / (grouped ? g.group_size : 1);
            }
        }
        const auto output = static_cast<std::size_t>(index[static_cast<std::size_t>(w.output_axis)]);
        const auto input = static_cast<std::size_t>(index[static_cast<std::size_t>(w.input_axis)]);
        out[output] += static_cast<double>(made.result.shifts[slice]) * mean[output / per_group * inputs + input];
        for (std::size_t d = shape.size(); d-- > 0;) {
            if (++index[d] < shape[d]) {
                break;
            }
            index[d] = 0;
        }
    }
    return out;
}

/// Gives the shift of a weight to the bias of a node; false where that cannot be.
bool shift_bias(model& model, onnx::NodeProto& n, const weight& w, const weight_format& format,
                const std::shared_ptr<made_weight>& state, const value_means* means, value_names& names) {
    const bool conv = is_operator(n, "Conv"), gemm = is_operator(n, "Gemm");
    if (means == nullptr || (!conv && !gemm) || state->source.type != element_type::float32) {
        return false;
    }
    const auto mean = means->find(n.input(0));
    const auto groups = conv ? attribute(n, "group", std::int64_t{1}) : 1;
    const auto outputs = state->source.shape[static_cast<std::size_t>(w.output_axis)];
    const auto inputs = state->source.shape[static_cast<std::size_t>(w.input_axis)];
    if (mean == means->end() || groups < 1 || outputs % groups != 0 ||
        static_cast<std::int64_t>(mean->second.size()) != inputs * groups) {
        return false;
    }
    double factor = 1;
    if (gemm) {
        const double beta = static_cast<double>(attribute(n, "beta", 1.0f));
        if (beta == 0 || attribute(n, "transA", std::int64_t{0}) != 0) {
            return false;
        }
        factor = static_cast<double>(attribute(n, "alpha", 1.0f)) / beta;
    }
    std::optional<tensor> before;
    if (n.input_size() > 2 && !n.input(2).empty()) {
        const auto* const bias = model.find(n.input(2));
        if (bias == nullptr || bias->type != element_type::float32 || bias->shape != std::vector{outputs}) {
            return false;
        }
        before = *bias;
    }
    const auto name = names.unused((n.name().empty() ? w.name : n.name()) + "_bias");
    model.initializers.push_back(
        made(name, element_type::float32, {outputs},
             [state, before, w, groups, factor, slices = format.slices, mean = mean->second](std::span<std::byte> out) {
                 auto values = before ? before->floats() : std::vector<float>(out.size() / sizeof(float));
                 if (!state->get().shifts.empty()) {
                     const auto added = bias_of_shifts(*state, slices, w, mean, groups);
                     for (std::size_t o = 0; o < values.size(); ++o) {
                         values[o] = static_cast<float>(static_cast<double>(values[o]) + factor * added[o]);
                     }
                 }
                 std::memcpy(out.data(), values.data(), out.size());
             }));
    while (n.input_size() < 3) {
        n.add_input();
    }
    n.set_input(2, name);
    if (before) {
        drop_unused(model, before->name);
    }
    return true;
}

/// The type that holds these codes, and whether it has others.
struct activation_codes {
    element_type type;
    bool clipped; ///< QuantizeLinear would saturate beyond the codes that are meant
};
activation_codes codes_of(const quant::affine_params& p, const std::string& name, const model& model) {
    const auto f = p.format;
    if (!quant::validate(p) || f.bits > 16) {
        throw error(exit_code::data, model.path.string(), name, "cannot be quantized with these parameters");
    }
    if (f.bits > 8) {
        return {f.is_signed ? element_type::int16 : element_type::uint16, f.bits < 16 || f.narrow_range};
    }
    return {f.is_signed ? element_type::int8 : element_type::uint8, f.bits < 8 || f.narrow_range};
}

} // namespace

std::span<const stable_operator> stable_operators() noexcept {
    // tests/opset_21.py runs each of them in ONNX Runtime at both versions. One whose meaning did change, or that took an
    // attribute for an input, starts where the last such change was; attributes that make a difference are looked at above.
    static constexpr stable_operator list[] = {
        {"Abs", 6},
        {"Add", 7},
        {"ArgMax", 12},
        {"AveragePool", 7},
        {"BatchNormalization", 9},
        {"Cast", 9},
        {"Ceil", 6},
        {"Clip", 11},
        {"Concat", 4},
        {"Constant", 1},
        {"ConstantOfShape", 9},
        {"Conv", 1},
        {"ConvTranspose", 1},
        {"DepthToSpace", 11},
        {"DequantizeLinear", 13},
        {"Div", 7},
        {"Dropout", 12},
        {"Elu", 6},
        {"Equal", 11},
        {"Erf", 9},
        {"Exp", 6},
        {"Expand", 8},
        {"Flatten", 1},
        {"Floor", 6},
        {"Gather", 1},
        {"Gemm", 7},
        {"GlobalAveragePool", 1},
        {"GlobalMaxPool", 1},
        {"HardSigmoid", 6},
        {"HardSwish", 14},
        {"Identity", 1},
        {"InstanceNormalization", 6},
        {"LRN", 1},
        {"LayerNormalization", 17},
        {"LeakyRelu", 6},
        {"Log", 6},
        {"LogSoftmax", 13},
        {"MatMul", 1},
        {"Max", 8},
        {"MaxPool", 8},
        {"Min", 8},
        {"Mul", 7},
        {"Neg", 6},
        {"PRelu", 9},
        {"Pad", 11},
        {"Pow", 7},
        {"QuantizeLinear", 13},
        {"ReduceSum", 13},
        {"Relu", 6},
        {"Reshape", 5},
        {"Shape", 1},
        {"Sigmoid", 6},
        {"Slice", 10},
        {"Softmax", 13},
        {"Softplus", 1},
        {"SpaceToDepth", 1},
        {"Split", 13},
        {"Sqrt", 6},
        {"Squeeze", 13},
        {"Sub", 7},
        {"Sum", 8},
        {"Tanh", 6},
        {"Tile", 6},
        {"Transpose", 1},
        {"Unsqueeze", 13},
        {"Where", 9},
    };
    return list;
}

void require_opset(model& model, std::int64_t version) {
    const auto from = model.opset();
    if (from < version) {
        const auto refuse = [&](const std::string& cause) {
            return error(exit_code::input, model.path.string(),
                         "needs version " + std::to_string(version) + " of ONNX's operators and has " +
                             std::to_string(from) + ": " + cause);
        };
        for (const auto& n : model.nodes) {
            const bool own = n.domain().empty() || n.domain() == "ai.onnx";
            if (own && !keeps_its_meaning(n, from, version)) {
                throw refuse(describe(n) + " is not known to mean the same in both");
            }
        }
        if (model.has_functions) {
            throw refuse("the model defines functions of its own");
        }
        model.opsets.erase("ai.onnx");
        model.opsets[""] = version;
    }
    // The least version of the file format that goes with the operators (onnx/docs/Versioning.md).
    model.ir_version = std::max<std::int64_t>(model.ir_version, version >= 21 ? 10 : 7);
}

std::vector<weight> weights_of(const model& model) {
    std::map<std::string, weight> found;
    for (const auto& n : model.nodes) {
        const bool gemm = is_operator(n, "Gemm"), matmul = is_operator(n, "MatMul");
        if (!multiplies(n)) {
            continue;
        }
        const auto* const t = model.find(n.input(1));
        if (t == nullptr || !is_real(t->type) || t->elements() == 0 || t->shape.size() < 2) {
            continue;
        }
        weight w;
        w.name = t->name;
        const int rank = static_cast<int>(t->shape.size());
        if (matmul) {
            w.output_axis = rank - 1;
            w.input_axis = rank - 2;
        } else if (is_operator(n, "ConvTranspose") || (gemm && attribute(n, "transB", std::int64_t{0}) == 0)) {
            std::swap(w.output_axis, w.input_axis);
        }
        found.emplace(w.name, w); // one that is used in two ways: the first counts
    }
    std::vector<weight> out;
    for (const auto& t : model.initializers) {
        if (const auto w = found.find(t.name); w != found.end()) {
            out.push_back(std::move(w->second));
        }
    }
    return out;
}

std::vector<std::string> replace_weight(model& model, const weight& w, const weight_format& format,
                                        weight_quantizer quantizer, const value_means* means) {
    auto* const source = model.find(w.name);
    if (source == nullptr) {
        throw error(exit_code::internal, model.path.string(), w.name, "is not an initializer");
    }
    value_names names(model);
    const auto state = std::make_shared<made_weight>();
    state->source = *source;
    state->quantizer = std::move(quantizer);
    const auto shape = source->shape;
    const auto scale_shape = parameter_shape(shape, format.slices);
    const auto type = source->type;
    const bool blocked = format.slices.unit == quant::granularity::kind::group;
    const auto codes = names.unused(w.name + "_codes");
    const auto scales = names.unused(w.name + "_scale");
    const auto zero_points = names.unused(w.name + "_zero_point");

    auto packed = made(codes, format.codes, shape, [state](std::span<std::byte> out) { state->make(out); });
    state->packed_size = packed.byte_size();
    *source = std::move(packed);
    // Behind the codes, in the order in which they are made.
    model.initializers.push_back(made(scales, element_type::float32, scale_shape, [state](std::span<std::byte> out) {
        auto* to = out.data();
        for (const auto& p : state->get().params) {
            std::memcpy(to, &p.scale, sizeof p.scale);
            to += sizeof p.scale;
        }
    }));
    model.initializers.push_back(
        made(zero_points, format.codes, scale_shape,
             [state, kind = format.codes](std::span<std::byte> out) { store_codes(state->get().params, kind, out); }));

    // An old model lists its initializers among its inputs; the weight is none any more.
    std::erase_if(model.inputs, [&](const value_info& v) { return v.name == w.name; });

    const bool cast = type != element_type::float32;
    const auto restored = cast ? names.unused(w.name + "_float") : w.name;
    auto node =
        make_node("DequantizeLinear", names.unused(w.name + "_dequantize"), {codes, scales, zero_points}, restored);
    if (format.slices.unit != quant::granularity::kind::tensor) {
        set_attribute(node, "axis", format.slices.axis);
    }
    if (blocked) {
        set_attribute(node, "block_size", static_cast<std::int64_t>(format.slices.group_size));
    }
    std::vector<onnx::NodeProto> made_nodes{std::move(node)};
    if (cast) {
        auto back = make_node("Cast", names.unused(w.name + "_cast"), {restored}, w.name);
        set_attribute(back, "to", static_cast<std::int64_t>(type));
        made_nodes.push_back(std::move(back));
    }

    std::vector<std::string> left_out;
    for (auto& n : model.nodes) {
        if (!multiplies(n) || n.input(1) != w.name) {
            continue;
        }
        if (!shift_bias(model, n, w, format, state, means, names)) {
            left_out.push_back(describe(n));
        }
    }
    insert_nodes(model, first_user(model, w.name), std::move(made_nodes));
    return left_out;
}

void quantize_activations(model& model, const std::map<std::string, quant::affine_params>& values) {
    value_names names(model);
    auto uses = uses_of(model);
    std::map<std::size_t, std::vector<std::string>> made_by; // node + 1; 0: an input of the graph
    for (const auto& [name, params] : values) {
        std::optional<std::size_t> place;
        for (const auto& v : model.inputs) {
            place = v.name == name ? 0 : place;
        }
        for (std::size_t i = 0; i < model.nodes.size() && !place; ++i) {
            const auto& outputs = model.nodes[i].output();
            if (std::find(outputs.begin(), outputs.end(), name) != outputs.end()) {
                place = i + 1;
            }
        }
        if (!place) {
            throw error(exit_code::internal, model.path.string(), name, "is no value of the graph to be quantized");
        }
        made_by[*place].push_back(name);
    }
    std::int64_t version = 13;
    // Inserted after all readers are rewired: until then nodes keep their numbers.
    std::map<std::size_t, std::vector<onnx::NodeProto>> to_insert;
    for (const auto& [place, made_here] : made_by) {
        auto& added = to_insert[place];
        for (const auto& name : made_here) {
            const auto& p = values.at(name);
            const auto [type, clipped] = codes_of(p, name, model);
            if (bits_of(type) == 16) {
                version = 21;
            }
            const auto scalar = [&](const std::string& wanted, element_type t, auto value) {
                auto made = owned(names.unused(wanted), t, {}, std::vector{value});
                model.initializers.push_back(made);
                return made.name;
            };
            const auto scale = scalar(name + "_scale", element_type::float32, p.scale);
            const auto zero_point = bits_of(type) == 8
                                        ? scalar(name + "_zero_point", type, static_cast<std::uint8_t>(p.zero_point))
                                        : scalar(name + "_zero_point", type, static_cast<std::uint16_t>(p.zero_point));
            auto from = name;
            if (clipped) {
                const auto edge = [&](std::int32_t code) {
                    return static_cast<float>(static_cast<double>(code - p.zero_point) * static_cast<double>(p.scale));
                };
                const auto lo = scalar(name + "_lo", element_type::float32, edge(p.format.qmin()));
                const auto hi = scalar(name + "_hi", element_type::float32, edge(p.format.qmax()));
                from = names.unused(name + "_clipped");
                added.push_back(make_node("Clip", names.unused(name + "_clip"), {name, lo, hi}, from));
            }
            const auto codes = names.unused(name + "_codes"), restored = names.unused(name + "_dequantized");
            added.push_back(
                make_node("QuantizeLinear", names.unused(name + "_quantize"), {from, scale, zero_point}, codes));
            added.push_back(make_node("DequantizeLinear", names.unused(name + "_dequantize"),
                                      {codes, scale, zero_point}, restored));
            for (const auto user : uses[name].nodes) {
                for (auto& input : *model.nodes[user].mutable_input()) {
                    if (input == name) {
                        input = restored;
                    }
                }
            }
        }
    }
    for (auto at = to_insert.rbegin(); at != to_insert.rend(); ++at) {
        insert_nodes(model, at->first, std::move(at->second));
    }
    require_opset(model, version);
}

std::vector<std::string> quantize_biases(model& model, const channel_magnitudes& magnitudes) {
    std::map<std::string, const onnx::NodeProto*, std::less<>> restored;
    for (const auto& n : model.nodes) {
        if (n.input_size() == 0 || n.output_size() == 0) {
            continue;
        }
        if (is_operator(n, "DequantizeLinear") && n.input_size() > 1) {
            restored[n.output(0)] = &n;
            continue;
        }
        for (const char* type : {"MaxPool", "Flatten", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose"}) {
            if (is_operator(n, type) && restored.contains(n.input(0))) { // values that are only moved
                restored[n.output(0)] = restored[n.input(0)];
            }
        }
    }
    value_names names(model);
    std::vector<std::string> kept;
    std::set<std::string> replaced;
    std::vector<std::pair<std::size_t, onnx::NodeProto>> added;
    for (std::size_t i = 0; i < model.nodes.size(); ++i) {
        auto& n = model.nodes[i];
        const bool gemm = is_operator(n, "Gemm");
        if ((!gemm && !is_operator(n, "Conv")) || n.input_size() < 3 ||
            (gemm && (attribute(n, "alpha", 1.0f) != 1 || attribute(n, "beta", 1.0f) != 1))) {
            continue;
        }
        const auto x = restored.find(n.input(0)), w = restored.find(n.input(1));
        const auto magnitude = magnitudes.find(n.input(1));
        if (x == restored.end() || w == restored.end() || magnitude == magnitudes.end()) {
            continue;
        }
        const auto* const input_scale = model.find(x->second->input(1));
        const auto* const weight_scale = model.find(w->second->input(1));
        const auto* const bias = model.find(n.input(2));
        const std::int64_t channels = gemm && attribute(n, "transB", std::int64_t{0}) == 0 ? 1 : 0;
        if (input_scale == nullptr || input_scale->elements() != 1 || weight_scale == nullptr || bias == nullptr ||
            bias->fill || bias->type != element_type::float32 || bias->shape.size() != 1 ||
            magnitude->second.size() != bias->elements() || has_attribute(*w->second, "block_size") ||
            (!weight_scale->shape.empty() && (weight_scale->elements() != bias->elements() ||
                                              attribute(*w->second, "axis", std::int64_t{1}) != channels))) {
            continue;
        }
        // A weight's scale is known when the model is written; it is no less than this share of the largest magnitude.
        constexpr double least = 1.0 / (128 * 1024), limit = 1 << 30;
        const double scale = static_cast<double>(input_scale->floats()[0]);
        const auto values = bias->floats();
        double tensor_magnitude = 0;
        for (const float m : magnitude->second) {
            tensor_magnitude = std::max(tensor_magnitude, static_cast<double>(m));
        }
        bool fits = true;
        for (std::size_t c = 0; c < values.size(); ++c) {
            const double m = weight_scale->shape.empty() ? tensor_magnitude : static_cast<double>(magnitude->second[c]);
            fits = fits && std::fabs(static_cast<double>(values[c])) <= limit * scale * (m > 0 ? m * least : 1.0);
        }
        if (!fits) {
            kept.push_back(describe(n));
            continue;
        }
        const auto name = names.unused(bias->name + "_int32");
        const auto file = model.path.string();
        auto codes = made(name, element_type::int32, bias->shape,
                          [name, file, source = *bias, in = static_cast<float>(scale),
                           weight = *weight_scale](std::span<std::byte> out) {
                              const auto real = source.floats(), scales = weight.floats();
                              std::vector<std::int32_t> integers(real.size());
                              const auto report = quant::quantize_bias(real, in, scales, integers);
                              if (!report || report->saturated != 0) {
                                  throw error(exit_code::data, file, source.name,
                                              "does not fit int32 (--float-biases leaves the biases as they are)");
                              }
                              std::memcpy(out.data(), integers.data(), out.size());
                          });
        auto scales = made(names.unused(name + "_scale"), element_type::float32, weight_scale->shape,
                           [in = static_cast<float>(scale), weight = *weight_scale](std::span<std::byte> out) {
                               auto products = weight.floats();
                               for (auto& v : products) {
                                   v *= in;
                               }
                               std::memcpy(out.data(), products.data(), out.size());
                           });
        const auto output = names.unused(bias->name + "_dequantized");
        auto node =
            make_node("DequantizeLinear", names.unused(bias->name + "_dequantize"), {name, scales.name}, output);
        if (!scales.shape.empty()) {
            set_attribute(node, "axis", 0);
        }
        replaced.insert(bias->name);
        n.set_input(2, output);
        model.initializers.push_back(std::move(codes));
        model.initializers.push_back(std::move(scales));
        added.emplace_back(i, std::move(node));
    }
    for (auto at = added.rbegin(); at != added.rend(); ++at) {
        insert_nodes(model, at->first, {std::move(at->second)});
    }
    for (const auto& name : replaced) {
        drop_unused(model, name);
    }
    return kept;
}

} // namespace quant_onnx
