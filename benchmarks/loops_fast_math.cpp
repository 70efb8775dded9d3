// SPDX-License-Identifier: MIT
#include "loops_fast_math.hpp"
#include <algorithm>
#include <cmath>

namespace fast_math {

extremes minmax(const float* x, std::size_t n) {
    extremes e{x[0], x[0]};
    for (std::size_t i = 0; i < n; ++i) {
        e.lo = std::min(e.lo, x[i]);
        e.hi = std::max(e.hi, x[i]);
    }
    return e;
}
sums moments(const float* x, std::size_t n, double centre) {
    sums s{0, 0, 0};
    for (std::size_t i = 0; i < n; ++i) {
        const double v = static_cast<double>(x[i]);
        s.sum += v;
        s.squares += v * v;
        s.abs_deviation += std::abs(v - centre);
    }
    return s;
}

} // namespace fast_math
