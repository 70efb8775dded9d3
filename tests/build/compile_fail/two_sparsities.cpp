// expect: one number of planes is the most
// SPDX-License-Identifier: MIT
#include <quant/per_channel.hpp>

#if defined(QUANT_VALID)
inline constexpr auto scheme = quant::bit_sparsified(3) | (quant::int8 | quant::per_axis(0));
#else
inline constexpr auto scheme = quant::bit_sparsified(3) | (quant::int8 | quant::bit_sparsified(2));
#endif
