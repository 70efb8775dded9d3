// SPDX-License-Identifier: MIT
#pragma once
// Rows of one matrix in different schemes: powers of two beside even steps, at a ratio that hardware can be built for. Facade: re-exports.
//
//   #include <quant/rmsmp.hpp>
//   auto counts = quant::rmsmp::assign_rows(curvature, variance, {65, 30, 5}, scheme, order);
//   auto s = quant::rmsmp::project(latent, w_hat, scheme, scales);
//   … your loss, quant::rmsmp::backward, your optimizer; at the end quant::rmsmp::encode and shift_add_dot …
//
// Source: Chang et al. 2021 (arXiv 2111.00153). docs/training_methods.md says when to use it and what is reconstructed.

#include <quant/quantize/row_schemes.hpp>
#include <quant/train/row_schemes.hpp>
