// expect: no matching function
// SPDX-License-Identifier: MIT
#include <quant/quantize/quantize.hpp>
#include <vector>

const std::vector<float> x;
#ifdef QUANT_VALID
auto f(std::vector<std::int16_t>& codes) { return quant::quantize(x, codes, quant::affine_params{}); }
#else
auto f(std::vector<std::int32_t>& codes) { return quant::quantize(x, codes, quant::affine_params{}); }
#endif
