// SPDX-License-Identifier: MIT
#pragma once
// Plain loops compiled with -ffast-math, so that the compiler may turn their sums into vectors; the library never is.

#include <cstddef>

namespace fast_math {

struct extremes {
    float lo, hi;
};
struct sums {
    double sum, squares, abs_deviation;
};
extremes minmax(const float* x, std::size_t n);
sums moments(const float* x, std::size_t n, double centre);

} // namespace fast_math
