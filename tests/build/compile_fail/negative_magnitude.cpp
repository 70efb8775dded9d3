// expect: symmetric: magnitude must be positive|call to non-.constexpr. function|constant expression
// SPDX-License-Identifier: MIT
#include <quant/core/params.hpp>

#ifdef QUANT_VALID
inline constexpr quant::affine_params p = quant::symmetric(3.3f, quant::int8);
#else
inline constexpr quant::affine_params p = quant::symmetric(-3.3f, quant::int8);
#endif
