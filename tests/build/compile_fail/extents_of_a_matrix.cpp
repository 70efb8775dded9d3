// expect: extents can be given to one-dimensional containers only
// SPDX-License-Identifier: MIT
#include <quant/core/tensor_view.hpp>

auto f(float* p) {
    const auto v = quant::view(p, 4, 6);
#ifdef QUANT_VALID
    return quant::view(quant::view(v.data(), 24), 2, 12);
}
#else
    return quant::view(v, 2, 12);
}
#endif
