// SPDX-License-Identifier: MIT
// ONNX Runtime's CPU kernels: models of one node, one thread, no graph optimization, input and output bound to our buffers. It
// divides and rounds ties to even, which is the library's default. A run costs about a microsecond before it starts.
#include "peer.hpp"
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

enum element : unsigned { f32 = 1, u8 = 2, s8 = 3, s4 = 22 };
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

        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);
        options.SetInterOpNumThreads(1);
        options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_DISABLE_ALL);
        session_ = Ort::Session(environment(), whole.bytes().data(), whole.bytes().size(), options);
        binding_ = Ort::IoBinding(session_);
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        binding_.BindInput("x", Ort::Value::CreateTensor(memory, const_cast<void*>(in), in_bytes, extents.data(),
                                                         extents.size(), static_cast<ONNXTensorElementDataType>(from)));
        for (const output& o : outputs)
            binding_.BindOutput(o.name.c_str(),
                                Ort::Value::CreateTensor(memory, o.data, o.bytes, o.extents.data(), o.extents.size(),
                                                         static_cast<ONNXTensorElementDataType>(o.type)));
    }
    void run() { session_.Run(Ort::RunOptions{nullptr}, binding_); }

private:
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

const bool registered = [] {
    add<f32_to_8>("quantize/f32_s8/per_tensor", "onnxruntime", all_sizes, quantize<std::int8_t, 1, -1>);
    add<f32_to_8>("quantize/f32_u8/per_tensor", "onnxruntime", all_sizes, quantize<std::uint8_t, 1, -1>);
    add<byte_to_f32>("dequantize/s8_f32/per_tensor", "onnxruntime", all_sizes, dequantize);
    const std::string axis = "quantize/f32_s8/per_axis_";
    add<f32_to_8>(axis + "256x2304", "onnxruntime", {256 * 2304}, quantize<std::int8_t, 256, 0>);
    add<f32_to_8>(axis + "256x3136", "onnxruntime", {256 * 3136}, quantize<std::int8_t, 256, 0>);
    add<f32_to_8>(axis + "3136x256_inner", "onnxruntime", {256 * 3136}, quantize<std::int8_t, 3136, 1>);
    return true;
}();

} // namespace
