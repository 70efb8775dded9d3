// SPDX-License-Identifier: MIT
#pragma once
// float16 (IEEE 754 binary16) and bfloat16 as storage: converted to float on the way in, rounded to nearest even on the way out.
// Layer 1 (core).

#include <bit>
#include <concepts>
#include <cstdint>
#include <quant/config.hpp>

QUANT_BEGIN_NAMESPACE

/// Storage of one IEEE binary16 value. No arithmetic: convert, compute in float, convert back.
struct float16 {
    std::uint16_t bits = 0;
    friend constexpr bool operator==(float16, float16) = default;
};
/// Storage of one bfloat16 value: the upper half of a float.
struct bfloat16 {
    std::uint16_t bits = 0;
    friend constexpr bool operator==(bfloat16, bfloat16) = default;
};

/// Exact.
[[nodiscard]] QUANT_INLINE constexpr float to_float(bfloat16 value) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
/// Exact, subnormals included; integer arithmetic only, so that no rounding or flushing mode matters.
[[nodiscard]] QUANT_INLINE constexpr float to_float(float16 value) noexcept {
    const std::uint32_t sign = (value.bits & 0x8000u) << 16;
    const std::uint32_t exponent = (value.bits >> 10) & 0x1Fu;
    std::uint32_t mantissa = value.bits & 0x3FFu;
    if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
    if (mantissa == 0) return std::bit_cast<float>(sign);
    const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 21; // brings the leading one to bit 10
    mantissa = (mantissa << shift) & 0x3FFu;
    return std::bit_cast<float>(sign | ((113 - shift) << 23) | (mantissa << 13));
}
QUANT_INLINE constexpr float to_float(float value) noexcept { return value; }
/// Nearest, ties to even; above float's range becomes infinity.
QUANT_INLINE constexpr float to_float(double value) noexcept { return static_cast<float>(value); }

/// Nearest, ties to even; NaN stays a quiet NaN.
[[nodiscard]] QUANT_INLINE constexpr bfloat16 to_bfloat16(float value) noexcept {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
}
/// Nearest, ties to even; overflow becomes infinity, NaN stays a quiet NaN.
[[nodiscard]] QUANT_INLINE constexpr float16 to_float16(float value) noexcept {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (u >> 16) & 0x8000u;
    const std::uint32_t magnitude = u & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu))};
    if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)}; // 65520 and above
    std::uint32_t kept = 0, rest = 0, half = 0;
    if (magnitude >= 0x38800000u) { // normal in binary16
        kept = (magnitude - 0x38000000u) >> 13;
        rest = magnitude & 0x1FFFu;
        half = 0x1000u;
    } else {
        const std::uint32_t shift = 126 - (magnitude >> 23); // 14 … 24 matter; beyond that the result is zero
        if (shift > 24) return {static_cast<std::uint16_t>(sign)};
        const std::uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
        kept = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1u);
        half = 1u << (shift - 1);
    }
    if (rest > half || (rest == half && (kept & 1u) != 0)) ++kept; // a carry into the exponent is the right result
    return {static_cast<std::uint16_t>(sign | kept)};
}

/// Element types a tensor of real values may have.
template <class T>
concept real_element =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, float16> || std::same_as<T, bfloat16>;

/// Rounds a float to the element type `T`.
template <real_element T> [[nodiscard]] QUANT_INLINE constexpr T from_float(float value) noexcept {
    if constexpr (std::same_as<T, float16>)
        return to_float16(value);
    else if constexpr (std::same_as<T, bfloat16>)
        return to_bfloat16(value);
    else
        return static_cast<T>(value);
}

QUANT_END_NAMESPACE
