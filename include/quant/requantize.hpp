// SPDX-License-Identifier: MIT
#pragma once
// The integer arithmetic around an int8 matrix product or convolution: bias and zero points before it, requantization behind it.
// Facade: re-exports.
//
//   #include <quant/requantize.hpp>
//   std::vector<float> multipliers(channels);
//   if (auto s = quant::requantize_multipliers(input.scale, weight_scales, output.scale, multipliers); !s) return s;
//   auto s = quant::requantize(quant::view(accumulators, rows, channels), codes, multipliers, quant::per_axis(1),
//                              quant::relu_codes(output), {.bias = bias});

#include <quant/core/requantize.hpp>
#include <quant/quantize/integer_bias.hpp>
#include <quant/quantize/requantize.hpp>
