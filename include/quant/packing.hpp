// SPDX-License-Identifier: MIT
#pragma once
// Codes as a dense bit stream: pack, unpack, and real values straight to and from packed codes. Facade: re-exports.
//
//   #include <quant/packing.hpp>
//   std::vector<std::uint8_t> packed(quant::packed_bytes(w.size(), quant::int4));
//   if (auto s = quant::quantize_packed(w, packed, quant::symmetric(3.0f, quant::int4)); !s) return s;
//
// Bit order: core/packing.hpp, docs/packing.md.

#include <quant/core/packing.hpp>
#include <quant/quantize/packing.hpp>
