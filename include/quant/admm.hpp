// SPDX-License-Identifier: MIT
#pragma once
// Training real weights beside their nearest table of few levels. Facade: re-exports.
//
//   #include <quant/admm.hpp>
//   auto begun = quant::admm::start(cluster, scratch);
//   … add_penalty_gradient, your optimizer; now and then update and keep_better …
//
// Source: Leng et al. 2018; Xu et al. 2021 (arXiv 2111.14836). docs/training_methods.md says when to use it and what is reconstructed.

#include <quant/calibrate/scale_fit.hpp>
#include <quant/train/admm.hpp>
