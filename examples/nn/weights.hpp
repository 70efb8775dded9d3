// SPDX-License-Identifier: MIT
#pragma once

// The weights of a network as a safetensors file of float32 tensors.

#include "tensor.hpp"

#include <string>

namespace nn {

tensor_map load_weights(const std::string& path);
void save_weights(const std::string& path, const tensor_map& weights);

} // namespace nn
