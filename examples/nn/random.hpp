// SPDX-License-Identifier: MIT
#pragma once

// Random numbers that are the same with every compiler and standard library. The engines of <random> are specified,
// its distributions are not, so a seed would give other weights elsewhere.

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace nn {

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, any seed is a good seed.
class random {
public:
    explicit random(std::uint64_t seed) noexcept : state_(seed) {}

    std::uint64_t next() noexcept {
        state_ += 0x9E3779B97F4A7C15u;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }

    /// Uniform in [lo, hi): 24 random bits, so the float is exact.
    float uniform(float lo, float hi) noexcept {
        const float unit = static_cast<float>(next() >> 40) * 0x1p-24f;
        return lo + (hi - lo) * unit;
    }

    /// Uniform in 0 … n-1. The modulo bias is below n / 2^64.
    std::size_t below(std::size_t n) noexcept { return static_cast<std::size_t>(next() % n); }

private:
    std::uint64_t state_;
};

/// 0 … n-1 in random order (Fisher-Yates).
inline std::vector<std::size_t> permutation(std::size_t n, random& r) {
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[r.below(i)]);
    return order;
}

} // namespace nn
