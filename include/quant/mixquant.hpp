// SPDX-License-Identifier: MIT
#pragma once
// A width per layer from round-off error alone, and its siblings under a bound or a budget. Facade: re-exports.
//
//   #include <quant/mixquant.hpp>
//   if (auto s = quant::mixquant_search(weights, bits, widths, errors, {.multiplier = 20}); !s) return s;
//
// Idea: MixQuant, arXiv 2309.17341 (abstract); the rule is reconstructed (docs/mixed_precision.md).

#include <quant/calibrate/mixquant.hpp>
#include <quant/core.hpp>
