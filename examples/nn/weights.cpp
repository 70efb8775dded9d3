// SPDX-License-Identifier: MIT
#include "weights.hpp"

#include "../quant/io/safetensors.hpp"

#include <utility>

namespace nn {

tensor_map load_weights(const std::string& path) {
    tensor_map all;
    quant_tool::tensor_file file = quant_tool::read_safetensors(path);
    for (quant_tool::tensor& stored : file.tensors) {
        if (stored.type != quant_tool::dtype::f32)
            throw quant_tool::error(quant_tool::exit_code::input, path, stored.name, "is not float32");
        tensor t({stored.shape.begin(), stored.shape.end()});
        const auto values = stored.as<float>();
        t.data.assign(values.begin(), values.end());
        all.emplace(stored.name, std::move(t));
    }
    return all;
}

void save_weights(const std::string& path, const tensor_map& weights) {
    quant_tool::tensor_file file;
    for (const auto& [name, t] : weights)
        file.tensors.push_back(
            quant_tool::make_tensor(name, quant_tool::dtype::f32, {t.shape.begin(), t.shape.end()}, t.data));
    quant_tool::write_safetensors(path, file, quant_tool::overwrite::yes);
}

} // namespace nn
