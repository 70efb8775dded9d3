// expect: two clippings
// SPDX-License-Identifier: MIT
#include <quant/per_channel.hpp>

#if defined(QUANT_VALID)
inline constexpr auto scheme = quant::int4 | quant::aciq() | (quant::per_tensor | quant::bias_corrected);
#else
inline constexpr auto scheme = quant::int4 | quant::aciq() | (quant::per_tensor | quant::minmax);
#endif
