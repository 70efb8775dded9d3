// SPDX-License-Identifier: MIT
// libFuzzer: any bytes are a model or an error of the input, and a model that was read can be worked on.

#include "../fold.hpp"
#include "../qdq.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace quant_onnx;
    try {
        auto m = parse(std::as_bytes(std::span(data, size)), nullptr, "/nowhere/fuzz.onnx");
        constants_to_initializers(m);
        fold_batch_normalization(m);
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
    } catch (const quant_tool::error& e) {
        if (e.code() != quant_tool::exit_code::input) {
            throw;
        }
    }
    return 0;
}
