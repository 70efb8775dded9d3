// SPDX-License-Identifier: MIT
#pragma once
// Expected squared error of rounding to an integer grid, straight from its definition: the integral of (x - Q(x))^2 f(x) with
// Gauss-Legendre quadrature in long double, cell by cell. Shares no formula with the library.

#include <array>
#include <cmath>
#include <cstddef>

namespace reference {

struct rounding_moments {
    long double error = 0;          ///< E[(X - Q)^2]
    long double mean_square = 0;    ///< E[X^2]
    long double level_square = 0;   ///< E[Q^2]
    long double error_of_level = 0; ///< E[(X - Q) Q]
};

/// Y has density f(y - mean) with unit spread; X = Y, or max(Y, 0) with relu (its mass at zero costs nothing on these grids).
inline rounding_moments integrate(bool gauss, long double mean, bool relu, long double step, int below, int above) {
    static constexpr std::array<long double, 4> node{0.1834346424956498049394761L, 0.5255324099163289858177390L,
                                                     0.7966664774136267395915539L, 0.9602898564975362316835609L};
    static constexpr std::array<long double, 4> weight{0.3626837833783619829651504L, 0.3137066458778872873379622L,
                                                       0.2223810344533744705443560L, 0.1012285362903762591525314L};
    const auto f = [&](long double y) {
        const long double t = std::fabs(y - mean);
        return gauss ? std::exp(-t * t / 2) / std::sqrt(2 * std::acos(-1.0L)) : std::exp(-t) / 2;
    };
    rounding_moments out;
    const auto add = [&](long double a, long double b, long double level) {
        const long double middle = (a + b) / 2, half = (b - a) / 2;
        for (std::size_t k = 0; k < node.size(); ++k)
            for (const long double side : {-1.0L, 1.0L}) {
                const long double x = middle + side * half * node[k];
                const long double w = half * weight[k] * f(x);
                out.error += w * (x - level) * (x - level);
                out.mean_square += w * x * x;
                out.level_square += w * level * level;
                out.error_of_level += w * (x - level) * level;
            }
    };
    // Pieces end at cell borders, at the kink of the Laplace density and at most half a spread apart.
    const auto add_between = [&](long double a, long double b, long double level) {
        while (a < b) {
            long double next = std::fmin(b, a + 0.5L);
            if (a < mean && mean < next) next = mean;
            add(a, next, level);
            a = next;
        }
    };
    const long double far = gauss ? 14 : 50;
    const long double lowest = relu ? 0.0L : mean - far;
    const long double highest = std::fmax(mean, 0.0L) + far;
    for (int k = relu ? 0 : -below; k <= above; ++k) {
        const long double from = k == -below ? lowest : std::fmax(lowest, (static_cast<long double>(k) - 0.5L) * step);
        const long double to = k == above ? highest : std::fmin(highest, (static_cast<long double>(k) + 0.5L) * step);
        add_between(from, to, static_cast<long double>(k) * step);
    }
    return out;
}

} // namespace reference
