// SPDX-License-Identifier: MIT
#pragma once
// Widths found by mixing the outputs of several widths under a penalty on bits. Facade: re-exports.
//
//   #include <quant/precision_search.hpp>
//   auto s = quant::precision_search::mixture(logits, a);
//   … mix, your loss, mix_backward, add_penalty_gradient, your optimizer; in the end choice …
//
// Source: Xu et al. 2021 (arXiv 2112.11438). docs/training_methods.md says when to use it.

#include <quant/train/precision_search.hpp>
