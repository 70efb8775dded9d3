// expect: two code formats
// SPDX-License-Identifier: MIT
#include <quant/per_channel.hpp>

#if defined(QUANT_VALID)
inline constexpr auto scheme = quant::int4 | quant::per_axis(0);
#else
inline constexpr auto scheme = quant::int4 | quant::per_axis(0) | quant::int8;
#endif
