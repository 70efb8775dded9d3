// SPDX-License-Identifier: MIT
#pragma once
// Widths that are real numbers while a model is trained. Facade: re-exports.
//
//   #include <quant/fracbits.hpp>
//   auto s = quant::fracbits::forward(latent, w_hat, widths);                       // widths between 1 and 8, one or one per channel
//   … your loss, quant::fracbits::backward, budget_slope, your optimizer, clamp_widths, and at the end discretize and harden …
//
// Source: Yang, Jin 2021 (arXiv 2007.02017). docs/bit_level.md says which function is which equation.

#include <quant/train/budget.hpp>
#include <quant/train/fracbits.hpp>
#include <quant/train/schedule.hpp>
