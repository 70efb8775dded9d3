// expect: no matching function
// SPDX-License-Identifier: MIT
#include <quant/quantize/quantize.hpp>
#include <vector>

auto f(const std::vector<float>& x) {
#ifdef QUANT_VALID
    std::vector<std::int8_t> codes(x.size());
    return quant::quantize(x, codes, quant::affine_params{1, 0, quant::int8});
}
#else
    return quant::quantize(x, std::vector<std::int8_t>(x.size()), quant::affine_params{1, 0, quant::int8});
}
#endif
