// SPDX-License-Identifier: MIT
// ONNX Runtime's CPU kernels: models of one node, one thread, no graph optimization, input and output bound to our buffers. It
// divides and rounds ties to even, which is the library's default. A run costs about a microsecond before it starts.
#include "peer.hpp"
#include "products.hpp"
#include <onnxruntime_cxx_api.h>

namespace {

using namespace bench;

// ---- a model of one node, written by hand: the few fields of onnx.proto that it needs ------------------------------------

class message {
public:
    message& number(unsigned field, std::uint64_t value) {
        varint(field << 3);
        varint(value);
        return *this;
    }
    message& text(unsigned field, const std::string& value) {
        varint(field << 3 | 2);
        varint(value.size());
        bytes_ += value;
        return *this;
    }
    message& part(unsigned field, const message& value) { return text(field, value.bytes_); }
    [[nodiscard]] const std::string& bytes() const { return bytes_; }

private:
    void varint(std::uint64_t value) {
        for (; value >= 128; value >>= 7) bytes_ += static_cast<char>(value | 128);
        bytes_ += static_cast<char>(value);
    }
    std::string bytes_;
};

enum element : unsigned { f32 = 1, u8 = 2, s8 = 3, s32 = 6, s4 = 22 };
using shape = std::vector<std::int64_t>;

message initializer(const std::string& name, element type, std::size_t n, const std::string& raw) {
    message m;
    if (n > 1) m.number(1, n);
    return m.number(2, type).text(8, name).text(9, raw);
}
message value(const std::string& name, element type, const shape& extents) {
    message dimensions;
    for (const std::int64_t e : extents) dimensions.part(1, message().number(1, static_cast<std::uint64_t>(e)));
    return message().text(1, name).part(2, message().part(1, message().number(1, type).part(2, dimensions)));
}
template <class T> std::string raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct output {
    std::string name;
    element type;
    shape extents;
    void* data;
    std::size_t bytes;
};

/// One node over bound buffers.
class model {
public:
    /// params: none for a node without scale and zero point; their codes are of the type `codes`.
    model(const std::string& operation, element from, const void* in, std::size_t in_bytes, const shape& extents,
          const std::vector<output>& outputs, std::span<const affine_params> params, element codes, int axis) {
        message node;
        node.text(1, "x");
        message graph;
        if (!params.empty()) {
            std::vector<float> scales;
            std::vector<std::int8_t> zeros;
            for (const affine_params& p : params) {
                scales.push_back(p.scale);
                zeros.push_back(static_cast<std::int8_t>(p.zero_point));
            }
            node.text(1, "scale").text(1, "zero");
            graph.part(5, initializer("scale", f32, params.size(), raw(scales)));
            graph.part(5, initializer("zero", codes, params.size(), raw(zeros)));
        }
        for (const output& o : outputs) node.text(2, o.name);
        node.text(4, operation);
        if (axis >= 0)
            node.part(5, message().text(1, "axis").number(3, static_cast<std::uint64_t>(axis)).number(20, 2));
        graph.part(1, node).text(2, "g").part(11, value("x", from, extents));
        for (const output& o : outputs) graph.part(12, value(o.name, o.type, o.extents));
        const message whole = message().number(1, 10).part(7, graph).part(8, message().number(2, 21));

        open(whole);
        bind("x", from, in, in_bytes, extents, false);
        for (const output& o : outputs) bind(o.name, o.type, o.data, o.bytes, o.extents, true);
    }
    /// A whole model, whose inputs and outputs are still to be bound.
    explicit model(const message& whole) { open(whole); }
    void bind(const std::string& name, element type, const void* data, std::size_t size, const shape& extents,
              bool out) {
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        const auto tensor = Ort::Value::CreateTensor(memory, const_cast<void*>(data), size, extents.data(),
                                                     extents.size(), static_cast<ONNXTensorElementDataType>(type));
        if (out)
            binding_.BindOutput(name.c_str(), tensor);
        else
            binding_.BindInput(name.c_str(), tensor);
    }
    void run() { session_.Run(Ort::RunOptions{nullptr}, binding_); }

private:
    void open(const message& whole) {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);
        options.SetInterOpNumThreads(1);
        options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_DISABLE_ALL);
        session_ = Ort::Session(environment(), whole.bytes().data(), whole.bytes().size(), options);
        binding_ = Ort::IoBinding(session_);
    }
    static Ort::Env& environment() {
        static Ort::Env e(ORT_LOGGING_LEVEL_FATAL, "quant");
        return e;
    }
    Ort::Session session_{nullptr};
    Ort::IoBinding binding_{nullptr};
};

/// A row's body; whatever the runtime refuses is a skipped row with its words.
template <class F> void guarded(row& r, F body) {
    try {
        body();
    } catch (const Ort::Exception& e) {
        r.state.SkipWithError(e.what());
    }
}
shape matrix(std::size_t rows, std::size_t n) {
    return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(n / rows)};
}

template <class Code, std::size_t Rows, int Axis> void quantize(row& r) {
    guarded(r, [&] {
        constexpr bool is_signed = std::is_signed_v<Code>;
        std::vector<affine_params> p(1, params_of(is_signed ? quant::int8 : quant::uint8, is_signed ? 3 : 131));
        if constexpr (Axis >= 0) p = params_of(quant::int8, Axis == 0 ? Rows : r.n / Rows);
        Code* const out = results<Code>(r.n);
        constexpr element type = is_signed ? s8 : u8;
        model m("QuantizeLinear", f32, reals(r.n), r.n * 4, matrix(Rows, r.n),
                {{"y", type, matrix(Rows, r.n), out, r.n}}, p, type, Axis);
        m.run();
        check_codes<Code>(r, out, p, Axis < 0 ? quant::per_tensor : quant::per_axis(Axis), Rows,
                          quant::scale_by::division);
        r.run([&] { m.run(); });
    });
}
void dequantize(row& r) {
    guarded(r, [&] {
        const affine_params p = params_of(quant::int8);
        float* const out = results<float>(r.n);
        model m("DequantizeLinear", s8, codes<std::int8_t>(r.n), r.n, matrix(1, r.n),
                {{"y", f32, matrix(1, r.n), out, r.n * 4}}, std::span(&p, 1), s8, -1);
        m.run();
        check_reals<std::int8_t>(r, out, p);
        r.run([&] { m.run(); });
    });
}

// ---- products: weights are constants, so that the runtime packs them when it loads the model ---------------------------------

/// A matrix as a constant.
message constant(const std::string& name, element type, const shape& extents, const void* data, std::size_t size) {
    message m;
    for (const std::int64_t e : extents) m.number(1, static_cast<std::uint64_t>(e));
    return m.number(2, type).text(8, name).text(9, std::string(static_cast<const char*>(data), size));
}
message attribute(const std::string& name, std::uint64_t value) {
    return message().text(1, name).number(3, value).number(20, 2);
}
/// Runs y = node(x, weights …) of one row of activations.
void product(row& r, const message& node, const std::vector<message>& constants, element from, const void* x,
             std::size_t x_bytes, element to, void* y, std::size_t y_bytes, matrix_shape s) {
    guarded(r, [&] {
        const shape in{1, static_cast<std::int64_t>(s.cols)}, out{1, static_cast<std::int64_t>(s.rows)};
        message graph;
        graph.part(1, node).text(2, "g");
        for (const message& c : constants) graph.part(5, c);
        graph.part(11, value("x", from, in)).part(12, value("y", to, out));
        const message whole = message()
                                  .number(1, 10)
                                  .part(7, graph)
                                  .part(8, message().number(2, 21))
                                  .part(8, message().text(1, "com.microsoft").number(2, 1));
        model m(whole);
        m.bind("x", from, x, x_bytes, in, false);
        m.bind("y", to, y, y_bytes, out, true);
        m.run();
        r.run([&] { m.run(); });
    });
}
/// u8 times s8, as its own quantizer makes them. The matrix it multiplies with is [cols, rows].
void product_of_bytes(row& r, matrix_shape s) {
    const message node = message().text(1, "x").text(1, "w").text(2, "y").text(4, "MatMulInteger");
    std::vector<std::int32_t> y(s.rows);
    const shape extents{static_cast<std::int64_t>(s.cols), static_cast<std::int64_t>(s.rows)};
    product(r, node, {constant("w", s8, extents, weight_bytes(s.size()), s.size())}, u8, activation_codes(s.cols),
            s.cols, s32, y.data(), y.size() * 4, s);
}
/// 4-bit weights in blocks of 32, activations of float that it quantizes to 8 bits on the way.
void product_of_nibbles(row& r, matrix_shape s) {
    const std::size_t groups = s.size() / 32;
    const auto rows = static_cast<std::int64_t>(s.rows), blocks = static_cast<std::int64_t>(s.cols / 32);
    const message node = message()
                             .text(1, "x")
                             .text(1, "w")
                             .text(1, "scales")
                             .text(2, "y")
                             .text(4, "MatMulNBits")
                             .part(5, attribute("K", s.cols))
                             .part(5, attribute("N", s.rows))
                             .part(5, attribute("bits", 4))
                             .part(5, attribute("block_size", 32))
                             .part(5, attribute("accuracy_level", 4))
                             .text(7, "com.microsoft");
    std::vector<float> y(s.rows);
    product(r, node,
            {constant("w", u8, {rows, blocks, 16}, weight_bytes(s.size() / 2), s.size() / 2),
             constant("scales", f32, {rows * blocks}, group_scales_of(groups), groups * 4)},
            f32, reals(s.cols), s.cols * 4, f32, y.data(), y.size() * 4, s);
}

const bool registered = [] {
    add<f32_to_8>("quantize/f32_s8/per_tensor", "onnxruntime", all_sizes, quantize<std::int8_t, 1, -1>);
    add<f32_to_8>("quantize/f32_u8/per_tensor", "onnxruntime", all_sizes, quantize<std::uint8_t, 1, -1>);
    add<byte_to_f32>("dequantize/s8_f32/per_tensor", "onnxruntime", all_sizes, dequantize);
    const std::string axis = "quantize/f32_s8/per_axis_";
    add<f32_to_8>(axis + "256x2304", "onnxruntime", {256 * 2304}, quantize<std::int8_t, 256, 0>);
    add<f32_to_8>(axis + "256x3136", "onnxruntime", {256 * 3136}, quantize<std::int8_t, 256, 0>);
    add<f32_to_8>(axis + "3136x256_inner", "onnxruntime", {256 * 3136}, quantize<std::int8_t, 3136, 1>);
    for (const matrix_shape s : matrix_shapes) {
        if (s.size() > most_peer_size) continue;
        add_product("gemv", s, "s8_s32/none", "onnxruntime", s.size(), 0, [=](row& r) { product_of_bytes(r, s); });
        if (s.cols % 32 == 0)
            add_product("gemv", s, "int4_f32/groups_of_32", "onnxruntime", s.size() / 2, s.size() / 8,
                        [=](row& r) { product_of_nibbles(r, s); });
    }
    return true;
}();

} // namespace
