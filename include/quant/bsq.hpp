// SPDX-License-Identifier: MIT
#pragma once
// Bits trained through a straight rounding, planes emptied by a group lasso and dropped. Facade: re-exports.
//
//   #include <quant/bsq.hpp>
//   quant::bsq::layer<float> layer{positive, negative, scale, weights.size(), 8};      // your buffers
//   const auto begun = quant::bsq::init_from_float(weights, layer);
//   … forward, your loss, backward, add_lasso_gradient, your optimizer, clip_bits …
//   const auto adjusted = quant::bsq::requantize(layer);                               // adjusted->planes are left
//
// Source: Yang et al. 2021 (arXiv 2102.10462). docs/bit_level.md says which function is which equation.

#include <quant/train/bsq.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/fixed_planes.hpp>
#include <quant/train/schedule.hpp>
