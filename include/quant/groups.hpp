// SPDX-License-Identifier: MIT
#pragma once
// Groups of 16, 32, 64 … consecutive elements with a scale each, found and applied in one pass, as integers or as a packed
// stream. Facade: re-exports.
//
//   #include <quant/groups.hpp>
//   std::vector<float> scales(w.size() / 32);
//   std::vector<std::byte> packed(quant::packed_bytes(w.size(), quant::int4));
//   if (auto s = quant::quantize_groups(w, packed, scales, quant::int4, 32); !s) return s;

#include <quant/core/packing.hpp>
#include <quant/quantize/groups.hpp>
