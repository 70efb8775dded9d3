// SPDX-License-Identifier: MIT
#pragma once
// Bits that grow and vanish: mixed precision trained by sigmoid gates that harden into exact integers. Facade: re-exports.
//
//   #include <quant/csq.hpp>
//   quant::csq::layer<float> layer{positive, negative, mask, scale, 8};      // your buffers: planes x weights, …, planes, 1
//   const auto begun = quant::csq::init_from_float(weights, layer);
//   … quant::csq::forward(layer, w_hat, beta), your loss, quant::csq::backward(layer, grad_w_hat, grads, beta), your optimizer …
//   const auto done = quant::csq::harden(layer, codes);                      // codes * done->scale is the model
//
// Source: Xiao et al. 2023 (arXiv 2212.02770). docs/bit_level.md says which function is which equation.

#include <quant/train/budget.hpp>
#include <quant/train/csq.hpp>
#include <quant/train/csq_training.hpp>
#include <quant/train/fixed_planes.hpp>
#include <quant/train/gate.hpp>
#include <quant/train/schedule.hpp>
