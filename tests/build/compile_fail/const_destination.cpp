// expect: no matching function
// SPDX-License-Identifier: MIT
#include <quant/quantize/quantize.hpp>
#include <vector>

#ifdef QUANT_VALID
auto f(const std::vector<float>& x, std::vector<std::int8_t>& codes) {
#else
auto f(const std::vector<float>& x, const std::vector<std::int8_t>& codes) {
#endif
    return quant::quantize(x, codes, quant::affine_params{1, 0, quant::int8});
}
