// SPDX-License-Identifier: MIT
// Compiled several times with different flags, see CMakeLists.txt.
#include "kernel.hpp"
#include <quant/uniform.hpp>

template <class Arch>
quant::result<quant::affine_params> encode(std::span<const float> x, std::span<std::int8_t> codes) noexcept {
    return quant::quantize(x, codes);
}

template quant::result<quant::affine_params> encode<quant::simd::native>(std::span<const float>,
                                                                         std::span<std::int8_t>) noexcept;
