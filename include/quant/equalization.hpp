// SPDX-License-Identifier: MIT
#pragma once
// Equal ranges of the channels between two layers, before weights are quantized per tensor. Facade: re-exports.
//
//   #include <quant/equalization.hpp>
//   const quant::equalization_pair pairs[] = {{*quant::output_channels(w1), *quant::input_channels(w2), bias1}};
//   auto report = quant::equalize(pairs);
//
// Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.1.

#include <quant/calibrate/equalization.hpp>
