// SPDX-License-Identifier: MIT
#pragma once
// ACIQ: 4-bit post-training quantization by analytical clipping, with bit allocation and bias correction. Facade: re-exports.
//
//   #include <quant/aciq.hpp>
//   constexpr auto scheme = quant::int4 | quant::per_axis(0) | quant::aciq(quant::prior::laplace)
//                         | quant::average_bits(4.0f, {2, 8}) | quant::bias_corrected;
//   auto q = quant::quantize(quant::view(weights, 64, 3, 3, 3), scheme);       // result<quantized_tensor>
//
// Source: Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks for rapid-deployment",
// NeurIPS 2019, arXiv 1810.05723. Equations and modes: docs/aciq.md.

#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/aciq_table.hpp>
#include <quant/calibrate/bias_correction.hpp>
#include <quant/calibrate/bit_allocation.hpp>
#include <quant/calibrate/moments.hpp>
#include <quant/quantize/quantize_scheme.hpp>
#include <quant/uniform.hpp>
