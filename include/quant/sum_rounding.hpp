// SPDX-License-Identifier: MIT
#pragma once
// Weights rounded so that kernels and output channels keep their sums. Facade: re-exports.
//
//   auto off = quant::round_for_sums(row, params, kernel_elements, codes, errors, order);   // codes: the nearest ones
//
// Source: Guo et al. 2022 (SQuant, arXiv 2202.07471).

#include <quant/calibrate/sum_rounding.hpp>
