// SPDX-License-Identifier: MIT
#pragma once
// Gradients for the wire: QSGD, TernGrad, BinGrad, ORQ, ASQ, signs, with error feedback. Facade: re-exports.
//
//   #include <quant/gradients.hpp>
//   const quant::gradients::encoding how{.method = quant::gradients::scheme::terngrad, .seed = 42, .stream = rank};
//   auto size = quant::gradients::encode(gradient, message, how);               // message: quant::gradients::message_size(n, how) bytes
//   auto s = quant::gradients::decode(message, restored);
//
// Sources: arXiv 2002.11082 (ORQ, BinGrad), QUIVER (ASQ), and those of the baselines; docs/gradients.md.

#include <quant/gradients/levels.hpp>
#include <quant/gradients/message.hpp>
