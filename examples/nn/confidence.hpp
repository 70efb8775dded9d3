// SPDX-License-Identifier: MIT
#pragma once

// How sure a share of right answers is, and a mean of a few runs.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <span>
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

/// Mean of a few values, their standard deviation, and how far Student's 95 % interval of the mean reaches to either side; fewer than two
/// values have neither.
struct mean_and_spread {
    double mean = 0, deviation = 0, half = 0;
};
inline mean_and_spread mean_of(std::span<const double> values) {
    // Quantiles 0.975 of Student's distribution for 1, 2, ... degrees of freedom; more than 30: the normal one's.
    constexpr double student[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                  2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                                  2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    mean_and_spread r;
    const auto n = static_cast<double>(values.size());
    for (const double v : values) r.mean += v / n;
    if (values.size() < 2) return r;
    double square = 0;
    for (const double v : values) square += (v - r.mean) * (v - r.mean);
    r.deviation = std::sqrt(square / (n - 1));
    const std::size_t freedom = values.size() - 1;
    r.half = (freedom <= std::size(student) ? student[freedom - 1] : 1.960) * r.deviation / std::sqrt(n);
    return r;
}

} // namespace nn
