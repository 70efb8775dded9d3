// expect: source and destination have the same element type
// SPDX-License-Identifier: MIT
#include <quant/uniform.hpp>

#include <span>

std::span<const float> x;
#ifdef QUANT_VALID
std::span<float> y;
#else
std::span<double> y;
#endif

auto f() { return quant::fake_quant(x, y, quant::symmetric(1.0f, quant::int8)); }
