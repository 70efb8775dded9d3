// SPDX-License-Identifier: MIT
#pragma once
// Dynamic quantization of activations: range, parameters, codes and sums of codes per row in one call. Facade: re-exports.
//
//   #include <quant/dynamic.hpp>
//   std::vector<quant::affine_params> params(rows);
//   auto s = quant::quantize_dynamic(quant::view(x, rows, columns), codes, params, quant::per_axis(0),
//                                    {.format = quant::uint8, .map = quant::mapping::affine});

#include <quant/quantize/dynamic.hpp>
