// SPDX-License-Identifier: MIT
#pragma once
// Codes as bit planes: empty planes cost nothing, few planes make fast products (quant/products.hpp). Facade: re-exports.
//
//   #include <quant/bit_planes.hpp>
//   const auto set = quant::choose_planes(quant::view(codes, rows, cols));           // the cheaper of two encodings
//   std::vector<std::uint16_t> words(quant::bit_plane_words(rows, cols, set.size()));
//   quant::bit_plane_view<std::uint16_t> w{words, rows, cols, set.size()};
//   if (auto s = quant::pack_bit_planes(quant::view(codes, rows, cols), w, set); !s) return s;

#include <quant/core/bit_planes.hpp>
#include <quant/quantize/bit_planes.hpp>
