// SPDX-License-Identifier: MIT
#pragma once
// Rows of weights as sums of a few low-bit rows, more for the channels that need them. Facade: re-exports.
//
//   #include <quant/multipoint.hpp>
//   auto points = quant::multipoint_layer(weights, depth, moments, {.largest = 7, .tolerance = 1e-3}, counts, steps, codes, workspace);
//   auto s = quant::multipoint_gemv(quant::view(codes, *points, depth), x, counts, steps, x_scale, sums, y);
//
// Source: Liu et al. 2021 (arXiv 2002.09049); the exact fit of a point is ours (docs/mixed_precision.md).

#include <quant/calibrate/multipoint.hpp>
#include <quant/core.hpp>
#include <quant/quantize/multipoint.hpp>
