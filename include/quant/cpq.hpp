// SPDX-License-Identifier: MIT
#pragma once
// Rounding with probabilities that pass gradients to step and noise, and grids whose outer points are dropped. Facade: re-exports.
//
//   #include <quant/cpq.hpp>
//   auto s = quant::cpq::forward(w, w_hat, {.alpha = step, .sigma = noise, .bits = 4});
//   … your loss, quant::cpq::backward, your optimizer; with quant::dropbits also the width of each layer …
//
// Source: Lee et al. 2021 (arXiv 2109.02100). docs/training_methods.md says when to use it and what is reconstructed.

#include <quant/train/cpq.hpp>
#include <quant/train/dropbits.hpp>
