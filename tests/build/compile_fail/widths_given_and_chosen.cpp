// expect: widths are either chosen or given
// SPDX-License-Identifier: MIT
#include <quant/per_channel.hpp>

#if defined(QUANT_VALID)
inline auto scheme(std::span<const std::uint8_t> widths) { return quant::int4 | quant::bits(widths); }
#else
inline auto scheme(std::span<const std::uint8_t> widths) {
    return quant::int4 | quant::average_bits(4.0f) | quant::bits(widths);
}
#endif
