// expect: no matching function|no matching member function|invalid reference
// SPDX-License-Identifier: MIT
#include <quant/core/tensor_view.hpp>

float f(float* p) {
#ifdef QUANT_VALID
    return quant::view(p, 2, 3).slice(0, 1)(2);
}
#else
    return quant::view(p, 6).slice(0, 1)(2);
}
#endif
