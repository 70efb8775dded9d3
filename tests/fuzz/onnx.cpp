// SPDX-License-Identifier: MIT
// libFuzzer: any bytes are a model or an error of the input, and a model that was read can be worked on; the engine reads it or refuses it,
// and what it reads knows the sizes of all its values.
#include "../../examples/engine/graph.hpp"
#include "../../examples/onnx/fold.hpp"
#include "../../examples/onnx/qdq.hpp"
#include "files.hpp"

namespace {

void run(const quant_onnx::model& m, const char* path) {
    engine::graph net;
    if (!fuzz::reads(path, [&] { net = engine::load(m); })) return;
    fuzz::require(net.shapes.size() == net.values && net.readers.size() == net.values);
    fuzz::require(net.input < net.values && net.output < net.values);
    std::size_t most = 0;
    for (const auto& shape : net.shapes) most = std::max(most, engine::tensor::count(shape));
    for (const engine::layer& l : net.layers) most = std::max(most, l.weight.size());
    if (most > 256 || net.layers.size() > 16) return;       // right, and slow
    std::vector<std::size_t> shape = net.shapes[net.input]; // of one sample
    shape[0] = 2;
    const engine::tensor out = engine::run(net, engine::tensor(shape));
    fuzz::require(out.size() == 2 * engine::tensor::count(net.shapes[net.output]));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace quant_onnx;
    const char* const path = "/nowhere/fuzz.onnx";
    fuzz::reads(path, [&] {
        auto m = parse(std::as_bytes(std::span(data, size)), nullptr, path);
        run(m, path);
        constants_to_initializers(m);
        fold_batch_normalization(m);
        run(m, path);
        const auto weights = weights_of(m);
        for (const auto& w : weights) {
            replace_weight(
                m, w, {element_type::int8, quant::per_axis(w.output_axis)}, [&](const tensor& t, std::span<std::byte>) {
                    const auto n = static_cast<std::size_t>(t.shape[static_cast<std::size_t>(w.output_axis)]);
                    return weight_result{std::vector<quant::affine_params>(n), {}};
                });
        }
        for (const auto& t : m.initializers) {
            if (t.verbatim.empty()) {
                (void)t.bytes();
            }
        }
        require_opset(m, 21);
    });
    return 0;
}
