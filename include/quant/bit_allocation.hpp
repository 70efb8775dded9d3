// SPDX-License-Identifier: MIT
#pragma once
// A bit width per channel under a budget of bits. Facade: re-exports.
//
//   #include <quant/bit_allocation.hpp>
//   std::array<std::uint8_t, 64> bits;
//   if (auto s = quant::allocate_bits(spreads, bits, {.average_bits = 4.0f, .min_bits = 2, .max_bits = 8}); !s) return s;
//
// Source: Banner et al. 2019 (arXiv 1810.05723), equations 9 to 11; the optimal integer allocation is ours (docs/aciq.md).

#include <quant/calibrate/bit_allocation.hpp>
#include <quant/core.hpp>
