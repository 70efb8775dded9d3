// expect: no matching function
// SPDX-License-Identifier: MIT
#include <quant/packing.hpp>
#include <vector>

const std::vector<std::int8_t> codes;
#ifdef QUANT_VALID
auto f(std::vector<std::uint8_t>& packed) { return quant::pack_codes(codes, packed, quant::int4); }
#else
auto f(std::vector<std::uint32_t>& packed) { return quant::pack_codes(codes, packed, quant::int4); }
#endif
