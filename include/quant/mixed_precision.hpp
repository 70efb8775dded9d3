// SPDX-License-Identifier: MIT
#pragma once
// Mixed precision: what every option would cost each layer, and which to choose within a budget. Facade: re-exports.
//
//   #include <quant/mixed_precision.hpp>
//   quant::option_table table{loss, cost, layers, options};              // from squared_error, logit_divergence, hessian_traces, …
//   auto best = quant::allocate_exact(table, budget, choice, workspace); // the least loss that the budget can buy
//
// Sources: docs/mixed_precision.md; Dong et al. 2020 (arXiv 1911.03852) for traces times errors.

#include <quant/calibrate/allocation.hpp>
#include <quant/calibrate/scale_fit.hpp>
#include <quant/calibrate/sensitivity.hpp>
#include <quant/core.hpp>
