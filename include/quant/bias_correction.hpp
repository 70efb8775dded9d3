// SPDX-License-Identifier: MIT
#pragma once
// Restoring the mean (and norm) that quantization shifts, as a gain and a shift per channel. Facade: re-exports.
//
//   #include <quant/bias_correction.hpp>
//   if (auto s = quant::bias_correction(w, codes, params, corrections, quant::per_axis(0)); !s) return s;
//
// Source: Banner et al. 2019 (arXiv 1810.05723), equations 12 and 13.

#include <quant/calibrate/bias_correction.hpp>
#include <quant/quantize/corrections.hpp>
#include <quant/uniform.hpp>
