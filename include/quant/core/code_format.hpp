// SPDX-License-Identifier: MIT
#pragma once
// What a code looks like: bit width, sign, and whether the lowest signed code is left out. Layer 1 (core).
//
//   constexpr auto f = quant::int4.narrow();      // codes -7 … 7
//   static_assert(f.qmin() == -7 && f.qmax() == 7);

#include <concepts>
#include <cstdint>
#include <limits>
#include <quant/core/status.hpp>

QUANT_BEGIN_NAMESPACE

/// Width, sign and narrow range of integer codes. Legal widths: 1 to 8, and 16.
struct code_format {
    std::uint8_t bits = 8;
    bool is_signed = true;
    bool narrow_range = false; ///< signed only: the lowest code is never produced, the grid is symmetric

    /// Smallest code: -2^(bits-1), one more with narrow_range, 0 when unsigned.
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t qmin() const noexcept {
        return is_signed ? -(std::int32_t{1} << (bits - 1)) + (narrow_range ? 1 : 0) : 0;
    }
    /// Largest code: 2^(bits-1) - 1, or 2^bits - 1 when unsigned.
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t qmax() const noexcept {
        return (std::int32_t{1} << (is_signed ? bits - 1 : bits)) - 1;
    }
    /// Number of codes.
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t levels() const noexcept { return qmax() - qmin() + 1; }
    /// The same format without its lowest code.
    [[nodiscard]] QUANT_INLINE constexpr code_format narrow() const noexcept { return {bits, is_signed, true}; }
    /// The same kind of format at another width.
    [[nodiscard]] QUANT_INLINE constexpr code_format with_bits(std::uint8_t width) const noexcept {
        return {width, is_signed, narrow_range};
    }
    friend constexpr bool operator==(const code_format&, const code_format&) = default;
};

inline constexpr code_format int1{1, true}, int2{2, true}, int3{3, true}, int4{4, true}, int5{5, true}, int6{6, true},
    int7{7, true}, int8{8, true}, int16{16, true};
inline constexpr code_format uint1{1, false}, uint2{2, false}, uint3{3, false}, uint4{4, false}, uint5{5, false},
    uint6{6, false}, uint7{7, false}, uint8{8, false}, uint16{16, false};

/// ok when the width is 1 to 8 or 16 and at least two codes remain (a narrow signed 1-bit format has only zero).
[[nodiscard]] QUANT_INLINE constexpr status validate(code_format format) noexcept {
    const bool width = (format.bits >= 1 && format.bits <= 8) || format.bits == 16;
    if (!width) return {errc::bits_out_of_range, "format.bits"};
    if (format.narrow_range && (!format.is_signed || format.bits == 1))
        return {errc::bits_out_of_range, "format.narrow_range"};
    return {};
}

/// Element types that store one code each.
template <class T>
concept code_storage = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t> || std::same_as<T, std::int16_t> ||
    std::same_as<T, std::uint16_t>;

/// Whether every code of `format` fits `Storage`.
template <code_storage Storage> [[nodiscard]] QUANT_INLINE constexpr bool holds(code_format format) noexcept {
    return format.qmin() >= std::numeric_limits<Storage>::min() && format.qmax() <= std::numeric_limits<Storage>::max();
}

/// The full-range format of a storage type: int8_t -> int8, and so on.
template <code_storage Storage>
inline constexpr code_format full_range_format{static_cast<std::uint8_t>(8 * sizeof(Storage)),
                                               std::numeric_limits<Storage>::is_signed};

QUANT_END_NAMESPACE
