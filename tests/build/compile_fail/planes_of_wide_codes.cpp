// expect: bit planes hold codes of up to 8 bits
// SPDX-License-Identifier: MIT
#include <quant/per_channel.hpp>
#include <vector>

#if defined(QUANT_VALID)
using code_type = std::int8_t;
#else
using code_type = std::int16_t;
#endif
auto f(const std::vector<float>& x, std::vector<code_type>& codes, std::span<quant::affine_params> params) {
    return quant::quantize(x, codes, params, quant::int8 | quant::bit_sparsified(2));
}
