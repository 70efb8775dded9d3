// SPDX-License-Identifier: MIT
#pragma once

// How sure a share of right answers is.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

namespace nn {

/// Wilson's interval (1927) of a share in percent; z = 1.96 is 95 % confidence. It holds near 100 %, where the normal approximation
/// does not.
inline std::pair<double, double> confidence_interval(std::size_t right, std::size_t samples,
                                                     double z = 1.959963984540054) {
    if (samples == 0) return {0.0, 100.0};
    const double n = static_cast<double>(samples), p = static_cast<double>(right) / n, zz = z * z / n;
    const double centre = (p + zz / 2.0) / (1.0 + zz);
    const double half = z / (1.0 + zz) * std::sqrt(p * (1.0 - p) / n + zz / (4.0 * n));
    return {100.0 * std::max(0.0, centre - half), 100.0 * std::min(1.0, centre + half)};
}

} // namespace nn
