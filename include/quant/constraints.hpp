// SPDX-License-Identifier: MIT
#pragma once
// Training under the condition that the quantized copy stays close; the multipliers of the conditions rank the layers. Facade: re-exports.
//
//   #include <quant/constraints.hpp>
//   auto slack = quant::constraints::layer_slack(full, quantized, eps);
//   … add_layer_gradient, add_output_gradient, your optimizer; after an epoch dual_step; in the end rank_layers …
//
// Source: Hounie et al. 2022 (arXiv 2210.15623). docs/training_methods.md says when to use it.

#include <quant/train/constraints.hpp>
