// SPDX-License-Identifier: MIT
#pragma once
// Uniform quantization with parameters you have: quantize, dequantize, fake_quant on views, per tensor, axis or group.
// Facade: re-exports.
//
//   #include <quant/uniform.hpp>
//   auto params = quant::quantize(weights, codes);                            // min-max, symmetric, per tensor
//   if (auto s = quant::dequantize(codes, restored, *params); !s) return s;
//
// Source of the formulas: docs/numerics.md; Jacob et al. 2018 (arXiv 1712.05877) for the affine scheme.

#include <quant/core.hpp>
#include <quant/quantize/packing.hpp>
#include <quant/quantize/quantize.hpp>
