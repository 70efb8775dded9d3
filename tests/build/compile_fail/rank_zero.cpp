// expect: a rank of at least 1
// SPDX-License-Identifier: MIT
#include <quant/core.hpp>

#ifdef QUANT_VALID
quant::tensor_view<float, 1> v;
#else
quant::tensor_view<float, 0> v;
#endif
