// SPDX-License-Identifier: MIT
// run_network model.onnx inputs.npy outputs.npy: what a script needs to compare the engine with another one.

#include "../graph.hpp"

#include "../../evaluation/dataset.hpp"
#include "../../onnx/model.hpp"
#include "../../quant/io/npy.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    try {
        const evaluation::labelled_set inputs = evaluation::npy(argv[2], {});
        engine::tensor y = engine::run(engine::load(quant_onnx::read(argv[1])), inputs.batch(0, inputs.size));
        quant_tool::tensor_file out;
        out.tensors.push_back(quant_tool::make_tensor("outputs", quant_tool::dtype::f32,
                                                      {y.shape.begin(), y.shape.end()}, std::move(y.data)));
        quant_tool::write_npy(argv[3], out, quant_tool::overwrite::yes);
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "run_network: %s\n", e.what());
        return 1;
    }
}
