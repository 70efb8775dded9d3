// SPDX-License-Identifier: MIT
#pragma once
// Products of 8-bit activations with weights of 8 bits and packed 4 bits: dot, matrix times vector, times a few vectors. Facade:
// re-exports.
//
//   #include <quant/products.hpp>
//   std::vector<float> y(rows);                                              // y = W x, one scale per row
//   if (auto s = quant::gemv(quant::view(w, rows, cols), x, y, quant::row_scales{scales, x_params.scale}); !s) return s;

#include <quant/quantize/products.hpp>
