// SPDX-License-Identifier: MIT
// run_integer model.onnx inputs.npy folder weight_bits: runs a network in integer arithmetic with ranges of the inputs themselves, and
// writes the same parameters as a QuantizeLinear/DequantizeLinear model: outputs.npy and qdq.onnx in the folder. Prints the scale
// and the zero point of the output's codes.

#include "../integer.hpp"

#include "../../onnx/model.hpp"
#include "../../onnx/qdq.hpp"
#include "../../quant/io/npy.hpp"

#include <quant/packing.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <span>
#include <string>

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    try {
        const std::string folder = argv[3];
        const auto bits = static_cast<unsigned>(std::atoi(argv[4]));
        quant_onnx::model model = quant_onnx::read(argv[1]);
        const engine::graph net = engine::load(model);
        const evaluation::labelled_set inputs = evaluation::npy(argv[2], {});
        const auto parameters =
            engine::choose_parameters(net, engine::observe(net, inputs, inputs.size), {.weight_bits = bits});
        engine::tensor y = engine::integer_network(net, parameters).run(inputs.batch(0, inputs.size));

        std::map<std::string, quant::affine_params> values{{model.inputs[0].name, parameters.values[net.input]}};
        const auto weights = quant_onnx::weights_of(model);
        for (std::size_t i = 0; i < net.layers.size(); ++i) {
            const engine::layer& l = net.layers[i];
            if (engine::activation_behind(net, l) == nullptr && l.output != net.output)
                values[l.output_name] = parameters.values[l.output];
            if (!l.has_weight()) continue;
            const quant::quantized_tensor& q = parameters.weights[i];
            const auto type = bits == 8 ? quant_onnx::element_type::int8 : quant_onnx::element_type::int4;
            for (const quant_onnx::weight& w : weights)
                if (w.name == l.weight_name)
                    quant_onnx::replace_weight(
                        model, w, {type, quant::per_axis(0)},
                        [&q](const quant_onnx::tensor&, std::span<std::byte> packed) {
                            if (!quant::pack_codes(q.codes<std::int8_t>(), packed, q.format())) std::abort();
                            return quant_onnx::weight_result{{q.params().begin(), q.params().end()}, {}};
                        });
        }
        quant_onnx::require_opset(model, bits == 8 ? 13 : 21);
        quant_onnx::quantize_activations(model, values);
        quant_onnx::write(model, folder + "/qdq.onnx", true);

        quant_tool::tensor_file out;
        out.tensors.push_back(quant_tool::make_tensor("outputs", quant_tool::dtype::f32,
                                                      {y.shape.begin(), y.shape.end()}, std::move(y.data)));
        quant_tool::write_npy(folder + "/outputs.npy", out, quant_tool::overwrite::yes);
        const quant::affine_params& last = parameters.values[net.output];
        std::printf("%.9g %d\n", static_cast<double>(last.scale), last.zero_point);
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "run_integer: %s\n", e.what());
        return 1;
    }
}
