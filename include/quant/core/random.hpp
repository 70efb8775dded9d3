// SPDX-License-Identifier: MIT
#pragma once
// Counter-based random bits: a value depends on (seed, stream, index) alone, never on threads or vector width. Layer 1 (core).
// The mixer is splitmix64's (Steele, Lea, Flood 2014).

#include <cstdint>
#include <quant/config.hpp>

QUANT_BEGIN_NAMESPACE

/// One splitmix64 step of `z`.
[[nodiscard]] QUANT_INLINE constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/// 64 random bits of element `index`.
[[nodiscard]] QUANT_INLINE constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream,
                                                               std::uint64_t index) noexcept {
    return mix(mix(mix(seed) ^ stream) ^ index);
}

/// A multiple of 2^-24 in [0, 1), exact in float.
[[nodiscard]] QUANT_INLINE constexpr float random_uniform(std::uint64_t seed, std::uint64_t stream,
                                                          std::uint64_t index) noexcept {
    return static_cast<float>(static_cast<std::int32_t>(random_bits(seed, stream, index) >> 40)) * 0x1p-24f;
}

QUANT_END_NAMESPACE
