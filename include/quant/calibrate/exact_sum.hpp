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

namespace core_detail {

/// Adds (or takes away) magnitude * 2^shift to a two's complement integer of `limbs` limbs; bits below 2^0 must be zero.
QUANT_INLINE constexpr void add_shifted(std::uint64_t* limb, std::size_t limbs, std::uint64_t magnitude, int shift,
                                        bool negative) noexcept {
    if (magnitude == 0) return;
    if (shift < 0) {
        magnitude = shift > -64 ? magnitude >> -shift : 0;
        shift = 0;
    }
    auto at = static_cast<std::size_t>(shift) / 64;
    const auto offset = static_cast<unsigned>(shift) % 64;
    if (at >= limbs) return; // out of the documented domain
    // What is taken away is added with its bits flipped, ones above it, and a carry of one from below.
    const std::uint64_t flip = negative ? ~std::uint64_t{0} : 0;
    const std::uint64_t unchanged = negative ? 1 : 0; // the carry that with `flip` changes nothing any more
    std::uint64_t word = (magnitude << offset) ^ flip;
    std::uint64_t next = (offset == 0 ? 0 : magnitude >> (64 - offset)) ^ flip;
    std::uint64_t carry = unchanged;
    do {
        const std::uint64_t sum = limb[at] + word;
        limb[at] = sum + carry;
        carry = (sum < word || limb[at] < carry) ? 1 : 0;
        word = next;
        next = flip;
    } while (++at < limbs && (word != flip || carry != unchanged));
}

/// A finite double: (negative ? -1 : 1) * significand * 2^exponent.
struct double_parts {
    std::uint64_t significand;
    int exponent;
    bool negative;
    QUANT_INLINE constexpr explicit double_parts(double x) noexcept {
        const auto bits = std::bit_cast<std::uint64_t>(x);
        const auto biased = static_cast<int>((bits >> 52) & 0x7FFu);
        const std::uint64_t fraction = bits & 0xFFFFFFFFFFFFFu;
        significand = biased == 0 ? fraction : fraction | (std::uint64_t{1} << 52);
        exponent = (biased == 0 ? 1 : biased) - 1075;
        negative = (bits >> 63) != 0;
    }
};

/// The double nearest to an integer of `limbs` limbs that counts units of 2^lowest, ties to even.
QUANT_INLINE constexpr double nearest_double(const std::uint64_t* limb, std::size_t limbs, int lowest) noexcept {
    std::size_t first = 0; // the lowest limb that is not zero; the same of the number and of its magnitude
    while (first < limbs && limb[first] == 0) ++first;
    if (first == limbs) return 0;
    const bool negative = (limb[limbs - 1] >> 63) != 0;
    const auto magnitude = [=](std::size_t i) noexcept -> std::uint64_t {
        return !negative || i < first ? limb[i] : (i == first ? 0 - limb[i] : ~limb[i]);
    };
    std::size_t top = limbs - 1;
    while (magnitude(top) == 0) --top;
    // 64 leading bits, and whether anything lies below them.
    std::uint64_t lead = magnitude(top);
    const auto shift = static_cast<unsigned>(std::countl_zero(lead));
    lead <<= shift;
    bool sticky = first + 1 < top;
    if (top > 0) {
        const std::uint64_t below = magnitude(top - 1);
        if (shift != 0) lead |= below >> (64 - shift);
        sticky = sticky || (below << shift) != 0;
    }
    const std::uint64_t rest = lead & 0x7FFu; // 64 - 53 bits
    std::uint64_t significand = lead >> 11;
    if (rest > 0x400u || (rest == 0x400u && (sticky || (significand & 1u) != 0))) ++significand;
    const int exponent = static_cast<int>(64 * top + 63) - static_cast<int>(shift) + lowest;
    // A significand of 2^53 carries into the exponent, as it should.
    const std::uint64_t bits = (static_cast<std::uint64_t>(exponent + 1022) << 52) + significand;
    return std::bit_cast<double>(bits | (negative ? std::uint64_t{1} << 63 : 0));
}

} // namespace core_detail

/// A signed integer of `Limbs` 64-bit limbs that counts units of 2^LowestExponent. Plain data, integer arithmetic only.
/// Every value added must be a multiple of the unit; the sum must stay below 2^(64 * Limbs - 1) units in magnitude.
template <std::size_t Limbs, int LowestExponent> struct fixed_sum {
    std::array<std::uint64_t, Limbs> limb{}; ///< two's complement, least significant first

    static constexpr std::size_t limbs = Limbs;
    static constexpr int lowest_exponent = LowestExponent;

    /// Adds a finite double. Precondition: a multiple of 2^LowestExponent.
    QUANT_INLINE constexpr void add(double x) noexcept {
        const core_detail::double_parts part(x);
        add_units(part.significand, part.exponent, part.negative);
    }

    /// Adds (or takes away) magnitude * 2^exponent; bits below the unit must be zero.
    QUANT_INLINE constexpr void add_units(std::uint64_t magnitude, int exponent, bool negative) noexcept {
        core_detail::add_shifted(limb.data(), Limbs, magnitude, exponent - LowestExponent, negative);
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
        return core_detail::nearest_double(limb.data(), Limbs, LowestExponent);
    }

    friend constexpr bool operator==(const fixed_sum&, const fixed_sum&) = default;

private:
    static QUANT_INLINE constexpr std::uint64_t give(std::uint64_t& to, std::uint64_t x) noexcept {
        to += x;
        return to < x ? 1 : 0;
    }
};

/// Sum of multiples of 2^-149 (floats, and doubles that came from sums of floats), below 2^234 in magnitude.
using exact_sum = fixed_sum<6, -149>;
/// Sum of multiples of 2^-298 (squares and products of floats, and sums of those), below 2^341 in magnitude.
using exact_square_sum = fixed_sum<10, -298>;

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

// One function each for sums of any width, and a call where it is used: inlined, they would be most of an observer.

/// magnitude * 2^shift more, or less.
QUANT_OUTLINE void add_shifted(std::uint64_t* limb, std::size_t limbs, std::uint64_t magnitude, int shift,
                               bool negative) noexcept {
    core_detail::add_shifted(limb, limbs, magnitude, shift, negative);
}

/// sum.add(x).
template <std::size_t Limbs, int E> QUANT_INLINE void add_to(fixed_sum<Limbs, E>& sum, double x) noexcept {
    const core_detail::double_parts part(x);
    add_shifted(sum.limb.data(), Limbs, part.significand, part.exponent - E, part.negative);
}

/// sum.to_double().
[[nodiscard]] QUANT_OUTLINE double rounded_sum(const std::uint64_t* limb, std::size_t limbs, int lowest) noexcept {
    return core_detail::nearest_double(limb, limbs, lowest);
}
template <std::size_t Limbs, int E>
[[nodiscard]] QUANT_INLINE double rounded_sum(const fixed_sum<Limbs, E>& sum) noexcept {
    return rounded_sum(sum.limb.data(), Limbs, E);
}

/// product += a b, or -= : non-negative integers, digit by digit of 32 bits, of which most are zero.
QUANT_OUTLINE void add_product(std::uint64_t* product, std::size_t limbs, const std::uint64_t* a, std::size_t a_limbs,
                               const std::uint64_t* b, std::size_t b_limbs, bool negative) noexcept {
    const auto digit = [](const std::uint64_t* of, std::size_t i) noexcept {
        return static_cast<std::uint32_t>(of[i / 2] >> (i % 2 * 32));
    };
    for (std::size_t i = 0; i < 2 * a_limbs; ++i) {
        const std::uint64_t left = digit(a, i);
        for (std::size_t k = 0; left != 0 && k < 2 * b_limbs; ++k)
            if (const std::uint64_t term = left * digit(b, k); term != 0)
                add_shifted(product, limbs, term, static_cast<int>(32 * (i + k)), negative);
    }
}

/// count * squares - sum^2 without rounding, as a double: count^2 times the population variance, at least 0.
[[nodiscard]] inline double scaled_variance(std::uint64_t count, const exact_sum& sum,
                                            const exact_square_sum& squares) noexcept {
    fixed_sum<12, 2 * exact_sum::lowest_exponent> difference;
    const exact_sum magnitude = sum.is_negative() ? sum.negated() : sum;
    add_product(difference.limb.data(), difference.limbs, squares.limb.data(), squares.limbs, &count, 1, false);
    add_product(difference.limb.data(), difference.limbs, magnitude.limb.data(), magnitude.limbs, magnitude.limb.data(),
                magnitude.limbs, true);
    return difference.is_negative() ? 0.0 : rounded_sum(difference);
}

} // namespace detail
QUANT_END_TARGET
