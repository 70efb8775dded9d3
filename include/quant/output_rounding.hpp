// SPDX-License-Identifier: MIT
#pragma once
// Weights rounded so that a layer's outputs, not its weights, stay near. Facade: re-exports.
//
//   if (auto s = quant::factor_moments(moments, depth); !s) return s;                      // E[x x^T] of the layer's inputs
//   auto error = quant::round_for_outputs(row, moments, params, codes, errors);
//
// Source: Frantar et al. 2022 (arXiv 2210.17323).

#include <quant/calibrate/output_rounding.hpp>
