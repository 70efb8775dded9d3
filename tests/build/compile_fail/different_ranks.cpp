// expect: two tensors of different rank
// SPDX-License-Identifier: MIT
#include <quant/quantize/quantize.hpp>

auto f(const float* x, std::int8_t* codes) {
    const quant::affine_params p{1, 0, quant::int8};
#ifdef QUANT_VALID
    return quant::quantize(quant::view(x, 2, 3, 4), quant::view(codes, 2, 3, 4), p);
}
#else
    return quant::quantize(quant::view(x, 2, 3, 4), quant::view(codes, 6, 4), p);
}
#endif
