// expect: source and destination have different sizes
// SPDX-License-Identifier: MIT
#include <quant/uniform.hpp>

#include <array>
#include <cstdint>

std::array<float, 4> x{};

#ifdef QUANT_VALID
std::array<std::int8_t, 4> codes{};
#else
std::array<std::int8_t, 5> codes{};
#endif

void f() { quant::quantize(x, codes, quant::symmetric(1.0f, quant::int8)); }
