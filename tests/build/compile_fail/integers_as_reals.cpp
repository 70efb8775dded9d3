// expect: no matching function
// SPDX-License-Identifier: MIT
#include <quant/quantize/quantize.hpp>
#include <vector>

std::vector<std::int8_t> codes;
#ifdef QUANT_VALID
auto f(const std::vector<float>& x) { return quant::quantize(x, codes, quant::affine_params{}); }
#else
auto f(const std::vector<int>& x) { return quant::quantize(x, codes, quant::affine_params{}); }
#endif
