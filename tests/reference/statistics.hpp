// SPDX-License-Identifier: MIT
#pragma once
// Statistics from their definitions, in long double and without any code of the library.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace reference {

struct moments {
    std::uint64_t count = 0, non_finite = 0, positive = 0;
    long double min = 0, max = 0, mean = 0, mean_square = 0, variance = 0, mean_abs_deviation = 0;
};

/// Two passes: the mean first, then everything about it. mean_abs_deviation is about `centre`.
inline moments moments_of(const std::vector<float>& x, long double centre) {
    moments m;
    long double sum = 0;
    for (const float v : x) {
        if (!std::isfinite(v)) {
            ++m.non_finite;
            continue;
        }
        const auto w = static_cast<long double>(v);
        m.min = m.count == 0 ? w : std::min(m.min, w);
        m.max = m.count == 0 ? w : std::max(m.max, w);
        ++m.count;
        m.positive += v > 0 ? 1 : 0;
        sum += w;
    }
    if (m.count == 0) return m;
    const auto n = static_cast<long double>(m.count);
    m.mean = sum / n;
    for (const float v : x) {
        if (!std::isfinite(v)) continue;
        const auto w = static_cast<long double>(v);
        m.mean_square += w * w / n;
        m.variance += (w - m.mean) * (w - m.mean) / n;
        m.mean_abs_deviation += std::fabs(w - centre) / n;
    }
    return m;
}

/// Element i in lane i mod 16, then halves onto halves: the order of additions that reductions promise.
inline double sum_in_lanes(const std::vector<double>& x) {
    double lane[16] = {};
    for (std::size_t i = 0; i < x.size(); ++i) lane[i % 16] += x[i];
    for (std::size_t width = 8; width > 0; width /= 2)
        for (std::size_t i = 0; i < width; ++i) lane[i] = lane[i] + lane[i + width];
    return lane[0];
}

/// Mean squared error of a tensor on the grid {lo ... hi} * step. In double: brute force asks for it very often.
inline double quantization_mse(const std::vector<float>& x, double step, double lo, double hi) {
    double total = 0;
    for (const float v : x) {
        const double code = std::nearbyint(static_cast<double>(v) / step);
        const double e = static_cast<double>(v) - (code < lo ? lo : (code > hi ? hi : code)) * step;
        total += e * e;
    }
    return total / static_cast<double>(x.size());
}

/// The number of bins i that an entropy calibrator keeps of a magnitude histogram: every step written out, bin by bin.
/// p: the first i bins with everything beyond in the last; q: the same bins merged into `levels` groups and spread over those
/// that are occupied; both normalized; the largest i of the smallest sum p log(p / q).
inline std::size_t entropy_bins(const std::vector<std::uint64_t>& bins, std::size_t levels) {
    std::size_t end = bins.size();
    while (end > 0 && bins[end - 1] == 0) --end;
    if (end <= levels) return end;
    std::size_t best = end;
    long double least = std::numeric_limits<long double>::infinity();
    for (std::size_t i = levels; i <= end; ++i) {
        std::vector<long double> p(i), q(i, 0.0L);
        long double p_total = 0, q_total = 0;
        for (std::size_t b = 0; b < end; ++b) p[std::min(b, i - 1)] += static_cast<long double>(bins[b]);
        for (std::size_t j = 0; j < levels; ++j) {
            const std::size_t from = j * i / levels, to = (j + 1) * i / levels;
            long double sum = 0, occupied = 0;
            for (std::size_t b = from; b < to; ++b) {
                sum += static_cast<long double>(bins[b]);
                occupied += bins[b] != 0 ? 1 : 0;
            }
            for (std::size_t b = from; b < to; ++b)
                if (bins[b] != 0) q[b] = sum / occupied;
        }
        for (std::size_t b = 0; b < i; ++b) {
            p_total += p[b];
            q_total += q[b];
        }
        long double divergence = 0;
        for (std::size_t b = 0; b < i; ++b) {
            if (p[b] == 0) continue;
            divergence += q[b] == 0 ? std::numeric_limits<long double>::infinity()
                                    : p[b] / p_total * std::log(p[b] / p_total / (q[b] / q_total));
        }
        if (divergence <= least + 1e-15L) {
            least = std::min(least, divergence);
            best = i;
        }
    }
    return best;
}

// ---- samples: the generators of <random> differ between libraries, so the distributions are made by hand -------------

inline double uniform(std::mt19937_64& random) { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; }

inline std::vector<float> gauss(std::size_t n, std::uint64_t seed, double mean = 0, double sigma = 1) {
    std::mt19937_64 random(seed);
    std::vector<float> x(n);
    for (float& v : x) {
        const double radius = std::sqrt(-2.0 * std::log(uniform(random)));
        v = static_cast<float>(mean + sigma * radius * std::cos(6.283185307179586 * uniform(random)));
    }
    return x;
}

inline std::vector<float> laplace(std::size_t n, std::uint64_t seed, double b = 1) {
    std::mt19937_64 random(seed);
    std::vector<float> x(n);
    for (float& v : x) {
        const double magnitude = -b * std::log(uniform(random));
        v = static_cast<float>((random() & 1u) != 0 ? magnitude : -magnitude);
    }
    return x;
}

/// Floats of all exponents and both signs, with the values that break careless code mixed in.
inline std::vector<float> awkward(std::size_t n, std::uint64_t seed) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float special[] = {0.0f,
                                 -0.0f,
                                 inf,
                                 -inf,
                                 std::numeric_limits<float>::quiet_NaN(),
                                 std::numeric_limits<float>::max(),
                                 -std::numeric_limits<float>::max(),
                                 std::numeric_limits<float>::denorm_min(),
                                 -std::numeric_limits<float>::denorm_min(),
                                 std::numeric_limits<float>::min()};
    std::mt19937_64 random(seed);
    std::vector<float> x(n);
    for (float& v : x) {
        const std::uint64_t r = random();
        if (r % 7 == 0)
            v = special[(r >> 8) % std::size(special)];
        else
            v = static_cast<float>(std::ldexp(uniform(random) - 0.5, static_cast<int>((r >> 8) % 60) - 30));
    }
    return x;
}

} // namespace reference
