// SPDX-License-Identifier: MIT
#pragma once
// Sums of floats and of their squares without rounding: wide integers in fixed point. Any order, any grouping, the same bytes.
// Layer 3 (calibrate).

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <quant/config.hpp>

QUANT_BEGIN_NAMESPACE

/// A signed integer of `Limbs` 64-bit limbs that counts units of 2^LowestExponent. Plain data, integer arithmetic only.
/// Every value added must be a multiple of the unit; the sum must stay below 2^(64 * Limbs - 1) units in magnitude.
template <std::size_t Limbs, int LowestExponent> struct fixed_sum {
    std::array<std::uint64_t, Limbs> limb{}; ///< two's complement, least significant first

    static constexpr std::size_t limbs = Limbs;
    static constexpr int lowest_exponent = LowestExponent;

    /// Adds a finite double. Precondition: a multiple of 2^LowestExponent.
    QUANT_INLINE constexpr void add(double x) noexcept {
        const auto bits = std::bit_cast<std::uint64_t>(x);
        const auto biased = static_cast<int>((bits >> 52) & 0x7FFu);
        const std::uint64_t fraction = bits & 0xFFFFFFFFFFFFFu;
        const std::uint64_t significand = biased == 0 ? fraction : fraction | (std::uint64_t{1} << 52);
        add_units(significand, (biased == 0 ? 1 : biased) - 1075, (bits >> 63) != 0);
    }

    /// Adds (or takes away) magnitude * 2^exponent; bits below the unit must be zero.
    QUANT_INLINE constexpr void add_units(std::uint64_t magnitude, int exponent, bool negative) noexcept {
        int shift = exponent - LowestExponent;
        if (magnitude == 0) return;
        if (shift < 0) {
            magnitude = shift > -64 ? magnitude >> -shift : 0;
            shift = 0;
        }
        auto at = static_cast<std::size_t>(shift) / 64;
        const auto offset = static_cast<unsigned>(shift) % 64;
        if (at >= Limbs) return; // out of the documented domain
        const std::uint64_t low = magnitude << offset;
        const std::uint64_t high = offset == 0 ? 0 : magnitude >> (64 - offset);
        if (negative) {
            std::uint64_t borrow = take(limb[at], low);
            if (++at < Limbs) {
                const std::uint64_t first = take(limb[at], high);
                borrow = first + take(limb[at], borrow);
                while (borrow != 0 && ++at < Limbs) borrow = take(limb[at], borrow);
            }
        } else {
            std::uint64_t carry = give(limb[at], low);
            if (++at < Limbs) {
                const std::uint64_t first = give(limb[at], high);
                carry = first + give(limb[at], carry);
                while (carry != 0 && ++at < Limbs) carry = give(limb[at], carry);
            }
        }
    }

    /// Adds another sum.
    QUANT_INLINE constexpr void merge(const fixed_sum& other) noexcept {
        std::uint64_t carry = 0;
        for (std::size_t i = 0; i < Limbs; ++i) {
            const std::uint64_t first = give(limb[i], other.limb[i]);
            carry = first + give(limb[i], carry);
        }
    }

    [[nodiscard]] QUANT_INLINE constexpr bool is_negative() const noexcept { return (limb[Limbs - 1] >> 63) != 0; }

    /// The sum with its sign changed.
    [[nodiscard]] QUANT_INLINE constexpr fixed_sum negated() const noexcept {
        fixed_sum out;
        std::uint64_t carry = 1;
        for (std::size_t i = 0; i < Limbs; ++i) {
            out.limb[i] = ~limb[i];
            carry = give(out.limb[i], carry);
        }
        return out;
    }

    /// The nearest double, ties to even. Sums below 2^-1022 do not occur (the unit is at least 2^-298).
    [[nodiscard]] QUANT_INLINE constexpr double to_double() const noexcept {
        static_assert(LowestExponent >= -1022);
        const bool negative = is_negative();
        const fixed_sum magnitude = negative ? negated() : *this;
        std::size_t top = Limbs;
        while (top > 0 && magnitude.limb[top - 1] == 0) --top;
        if (top == 0) return 0;
        --top;
        // 64 leading bits, and whether anything lies below them.
        const auto shift = static_cast<unsigned>(std::countl_zero(magnitude.limb[top]));
        std::uint64_t lead = magnitude.limb[top] << shift;
        bool sticky = false;
        if (top > 0) {
            if (shift != 0) lead |= magnitude.limb[top - 1] >> (64 - shift);
            sticky = (magnitude.limb[top - 1] << shift) != 0;
            for (std::size_t i = 0; i + 1 < top; ++i) sticky = sticky || magnitude.limb[i] != 0;
        }
        const std::uint64_t rest = lead & 0x7FFu; // 64 - 53 bits
        std::uint64_t significand = lead >> 11;
        if (rest > 0x400u || (rest == 0x400u && (sticky || (significand & 1u) != 0))) ++significand;
        const int exponent = static_cast<int>(64 * top + 63) - static_cast<int>(shift) + LowestExponent;
        // A significand of 2^53 carries into the exponent, as it should.
        const std::uint64_t bits = (static_cast<std::uint64_t>(exponent + 1022) << 52) + significand;
        return std::bit_cast<double>(bits | (negative ? std::uint64_t{1} << 63 : 0));
    }

    friend constexpr bool operator==(const fixed_sum&, const fixed_sum&) = default;

private:
    static QUANT_INLINE constexpr std::uint64_t give(std::uint64_t& to, std::uint64_t x) noexcept {
        to += x;
        return to < x ? 1 : 0;
    }
    static QUANT_INLINE constexpr std::uint64_t take(std::uint64_t& from, std::uint64_t x) noexcept {
        const std::uint64_t borrow = from < x ? 1 : 0;
        from -= x;
        return borrow;
    }
};

/// Sum of multiples of 2^-149 (floats, and doubles that came from sums of floats), below 2^234 in magnitude.
using exact_sum = fixed_sum<6, -149>;
/// Sum of multiples of 2^-298 (squares and products of floats, and sums of those), below 2^341 in magnitude.
using exact_square_sum = fixed_sum<10, -298>;

namespace core_detail {

/// 32-bit digits of a non-negative sum.
template <std::size_t Limbs, int E>
QUANT_INLINE constexpr std::array<std::uint32_t, 2 * Limbs> digits_of(const fixed_sum<Limbs, E>& x) noexcept {
    std::array<std::uint32_t, 2 * Limbs> out{};
    for (std::size_t i = 0; i < Limbs; ++i) {
        out[2 * i] = static_cast<std::uint32_t>(x.limb[i]);
        out[2 * i + 1] = static_cast<std::uint32_t>(x.limb[i] >> 32);
    }
    return out;
}

/// The product of two non-negative integers, modulo the width of the result.
template <std::size_t Limbs, int E, std::size_t A, std::size_t B>
QUANT_INLINE constexpr fixed_sum<Limbs, E> multiply(const std::array<std::uint32_t, A>& a,
                                                    const std::array<std::uint32_t, B>& b) noexcept {
    std::array<std::uint32_t, 2 * Limbs> digit{};
    for (std::size_t i = 0; i < A && i < 2 * Limbs; ++i) {
        std::uint64_t carry = 0;
        for (std::size_t j = 0; i + j < 2 * Limbs; ++j) {
            const std::uint64_t term = j < B ? std::uint64_t{a[i]} * b[j] : 0;
            const std::uint64_t next = term + digit[i + j] + carry; // below 2^64
            digit[i + j] = static_cast<std::uint32_t>(next);
            carry = next >> 32;
        }
    }
    fixed_sum<Limbs, E> out;
    for (std::size_t i = 0; i < Limbs; ++i) out.limb[i] = digit[2 * i] | (std::uint64_t{digit[2 * i + 1]} << 32);
    return out;
}

/// count * squares - sum^2 without rounding, as a double: count^2 times the population variance, at least 0.
QUANT_INLINE constexpr double scaled_variance(std::uint64_t count, const exact_sum& sum,
                                              const exact_square_sum& squares) noexcept {
    using wide = fixed_sum<12, 2 * exact_sum::lowest_exponent>;
    const exact_sum magnitude = sum.is_negative() ? sum.negated() : sum;
    const std::array<std::uint32_t, 2> n{static_cast<std::uint32_t>(count), static_cast<std::uint32_t>(count >> 32)};
    wide difference = multiply<12, wide::lowest_exponent>(digits_of(squares), n);
    const auto digits = digits_of(magnitude);
    difference.merge(multiply<12, wide::lowest_exponent>(digits, digits).negated());
    return difference.is_negative() ? 0.0 : difference.to_double();
}

} // namespace core_detail

QUANT_END_NAMESPACE
