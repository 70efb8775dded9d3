// SPDX-License-Identifier: MIT
#pragma once
// Parameters per axis or per group, and schemes composed with |. Facade: re-exports.
//
//   #include <quant/per_channel.hpp>
//   auto q = quant::quantize(quant::view(w, 256, 1024), quant::int4 | quant::per_group(1, 32) | quant::mse_optimal);
//
// Sources: Krishnamoorthi 2018 (arXiv 1806.08342) for parameters per channel; ONNX blocked quantization for groups.

#include <quant/quantize/quantize_scheme.hpp>
#include <quant/uniform.hpp>
