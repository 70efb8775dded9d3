// SPDX-License-Identifier: MIT
#pragma once
// From the int32 accumulators of an integer layer to the codes of its output: the rules by name, their multipliers, and the
// definition for one value. Layer 1 (core).
//
//   constexpr auto m = quant::quantize_multiplier(quant::accumulator_multiplier(0.02f, 0.001f, 0.05f));   // 0.0004
//   static_assert(quant::requantize_one(10000, *m, quant::requantization::double_rounding, {}) == 4);
//
//   code = clamp(steps(saturate(accumulator + bias)), lo - zero_point, hi - zero_point) + zero_point            (22)
//
// where `steps` multiplies by the real number input_scale * weight_scale / output_scale, and the rule says how it rounds
// (docs/numerics.md). All three rules are monotone in the accumulator, and all are bit-exact on every target.

#include <bit>
#include <cstdint>
#include <limits>
#include <quant/core/params.hpp>
#include <quant/core/scalar.hpp>

QUANT_BEGIN_NAMESPACE

/// How an accumulator is multiplied and rounded. Frameworks differ here, and so do codes, in a few percent of all cases.
enum class requantization : std::uint8_t {
    float_multiplier, ///< nearest, ties to even, of the float product float(a) * m (XNNPACK, FBGEMM, ONNX Runtime)
    double_rounding, ///< fixed point, rounded twice (TFLite's default, gemmlowp): high half of the product, then the shift
    single_rounding, ///< fixed point, rounded once (TFLite built with TFLITE_SINGLE_ROUNDING): ties up
};

/// A non-negative real multiplier in fixed point: mantissa * 2^(shift - 31).
/// mantissa is 0 or in [2^30, 2^31); shift in [-31, 30], positive to the left.
struct quantized_multiplier {
    std::int32_t mantissa = 0;
    std::int32_t shift = 0;
    friend constexpr bool operator==(const quantized_multiplier&, const quantized_multiplier&) = default;
};

/// The codes a layer may put out: those of `format`, cut to [lo, hi] by an activation that is fused into the clamp.
struct output_codes {
    code_format format{};
    std::int32_t zero_point = 0;
    std::int32_t lo = std::numeric_limits<std::int32_t>::min();
    std::int32_t hi = std::numeric_limits<std::int32_t>::max();

    /// The smallest and the largest code that can come out.
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t lowest() const noexcept {
        return lo > format.qmin() ? lo : format.qmin();
    }
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t highest() const noexcept {
        return hi < format.qmax() ? hi : format.qmax();
    }
    friend constexpr bool operator==(const output_codes&, const output_codes&) = default;
};

/// ok when the format is legal, the zero point one of its codes, and a code remains between lo and hi.
[[nodiscard]] QUANT_INLINE constexpr status validate(const output_codes& output) noexcept {
    if (const status s = validate(output.format); !s) return s;
    if (output.zero_point < output.format.qmin() || output.zero_point > output.format.qmax())
        return {errc::invalid_zero_point, "output.zero_point"};
    if (output.lowest() > output.highest()) return {errc::invalid_range, "output"};
    return {};
}

/// ok when mantissa and shift are in their domains.
[[nodiscard]] QUANT_INLINE constexpr status validate(const quantized_multiplier& multiplier) noexcept {
    const bool mantissa = multiplier.mantissa == 0 || multiplier.mantissa >= std::int32_t{1} << 30;
    if (!mantissa || multiplier.shift < -31 || multiplier.shift > 30) return {errc::invalid_scale, "multipliers"};
    return {};
}

/// The real multiplier of a layer: input_scale * weight_scale / output_scale. The product of two floats is exact in double, so
/// this is one rounding (TFLite's order of operations).
[[nodiscard]] QUANT_INLINE constexpr double accumulator_multiplier(float input_scale, float weight_scale,
                                                                   float output_scale) noexcept {
    const double product = static_cast<double>(input_scale) * static_cast<double>(weight_scale);
    return product / static_cast<double>(output_scale);
}

/// The nearest fixed-point multiplier, ties away from zero (TFLite's QuantizeMultiplier). Below 2^-32 it is 0.
/// Errors: invalid_scale (negative, NaN, or 2^30 and above).
[[nodiscard]] QUANT_INLINE constexpr result<quantized_multiplier> quantize_multiplier(double real) noexcept {
    if (!(real >= 0) || !core_detail::is_finite(real)) return status{errc::invalid_scale, "multiplier"};
    const auto bits = std::bit_cast<std::uint64_t>(real);
    const auto exponent = static_cast<std::int32_t>((bits >> 52) & 0x7FF);
    if (exponent == 0) return quantized_multiplier{}; // zero and subnormals
    // real = significand * 2^(shift - 53) with a significand in [2^52, 2^53), of which 31 bits are kept.
    const std::uint64_t significand = (bits & ((std::uint64_t{1} << 52) - 1)) | (std::uint64_t{1} << 52);
    std::int32_t shift = exponent - 1022;
    std::uint64_t mantissa = (significand + (std::uint64_t{1} << 21)) >> 22;
    if (mantissa == std::uint64_t{1} << 31) {
        mantissa >>= 1;
        ++shift;
    }
    if (shift < -31) return quantized_multiplier{};
    if (shift > 30) return status{errc::invalid_scale, "multiplier"};
    return quantized_multiplier{static_cast<std::int32_t>(mantissa), shift};
}

/// The real number a fixed-point multiplier stands for; exact.
[[nodiscard]] QUANT_INLINE constexpr double real_multiplier(const quantized_multiplier& multiplier) noexcept {
    double power = 1;
    for (std::int32_t i = multiplier.shift; i < 31; ++i) power *= 0.5;
    return static_cast<double>(multiplier.mantissa) * power;
}

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

/// Output codes without an activation.
[[nodiscard]] QUANT_INLINE constexpr output_codes all_codes(const affine_params& output) noexcept {
    return {output.format, output.zero_point};
}
/// Output codes behind a fused ReLU.
[[nodiscard]] QUANT_INLINE constexpr output_codes relu_codes(const affine_params& output) noexcept {
    output_codes codes = all_codes(output);
    codes.lo = output.zero_point;
    return codes;
}
/// Output codes of an activation that cuts to [lo, hi] in real units, as ReLU6 does to {0, 6}: the limits' own codes.
/// Precondition: lo <= hi, validate(output) is ok.
[[nodiscard]] QUANT_INLINE constexpr output_codes clipped_codes(const affine_params& output, clip_range real) noexcept {
    QUANT_EXPECTS(real.lo <= real.hi, "clipped_codes: lo <= hi");
    return {output.format, output.zero_point, quantize_one(real.lo, output), quantize_one(real.hi, output)};
}

namespace detail {
/// Cut to int32.
[[nodiscard]] QUANT_INLINE constexpr std::int32_t saturated(std::int64_t v) noexcept {
    constexpr std::int64_t lo = std::numeric_limits<std::int32_t>::min(), hi = std::numeric_limits<std::int32_t>::max();
    return static_cast<std::int32_t>(v < lo ? lo : (v > hi ? hi : v));
}
} // namespace detail

/// a + b, cut to int32.
[[nodiscard]] QUANT_INLINE constexpr std::int32_t saturating_sum(std::int32_t a, std::int32_t b) noexcept {
    return detail::saturated(std::int64_t{a} + b);
}

/// gemmlowp's SaturatingRoundingDoublingHighMul: a * b / 2^31 to the nearest integer, ties up; the one product that does not fit,
/// INT32_MIN * INT32_MIN, saturates.
[[nodiscard]] QUANT_INLINE constexpr std::int32_t saturating_rounding_doubling_high_mul(std::int32_t a,
                                                                                        std::int32_t b) noexcept {
    constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
    if (a == lowest && b == lowest) return std::numeric_limits<std::int32_t>::max();
    const std::int64_t nudged = std::int64_t{a} * b + (std::int64_t{1} << 30);
    return static_cast<std::int32_t>(nudged >> 31);
}

/// gemmlowp's RoundingDivideByPOT: a / 2^exponent to the nearest integer, ties away from zero. exponent in [0, 31].
[[nodiscard]] QUANT_INLINE constexpr std::int32_t rounding_divide_by_pot(std::int32_t a,
                                                                         std::int32_t exponent) noexcept {
    const std::int64_t mask = (std::int64_t{1} << exponent) - 1;
    const std::int64_t rest = std::int64_t{a} & mask;
    const std::int64_t threshold = (mask >> 1) + (a < 0 ? 1 : 0);
    return static_cast<std::int32_t>((std::int64_t{a} >> exponent) + (rest > threshold ? 1 : 0));
}

/// Steps of equation (22) in fixed point, cut to int32. TFLite's MultiplyByQuantizedMultiplier where that is defined: what its shift
/// to the left carries past int32 saturates here. rule: double_rounding or single_rounding.
[[nodiscard]] QUANT_INLINE constexpr std::int32_t scaled_steps(std::int32_t a, const quantized_multiplier& multiplier,
                                                               requantization rule) noexcept {
    const std::int32_t shift = multiplier.shift;
    if (rule == requantization::single_rounding) {
        const std::int64_t product = std::int64_t{a} * multiplier.mantissa; // at most 2^62
        const std::int64_t half = std::int64_t{1} << (30 - shift);
        return detail::saturated((product + half) >> (31 - shift));
    }
    const std::int32_t left = shift > 0 ? shift : 0;
    const std::int32_t shifted = detail::saturated(std::int64_t{a} * (std::int64_t{1} << left));
    const std::int32_t high = saturating_rounding_doubling_high_mul(shifted, multiplier.mantissa);
    return rounding_divide_by_pot(high, left - shift);
}

/// Output code of one accumulator in fixed point, equation (22). Preconditions: multiplier and output are valid.
[[nodiscard]] QUANT_INLINE constexpr std::int32_t requantize_one(std::int32_t accumulator,
                                                                 const quantized_multiplier& multiplier,
                                                                 requantization rule, const output_codes& output,
                                                                 std::int32_t bias = 0) noexcept {
    const std::int32_t steps = scaled_steps(saturating_sum(accumulator, bias), multiplier, rule);
    const std::int32_t lo = output.lowest() - output.zero_point, hi = output.highest() - output.zero_point;
    return (steps < lo ? lo : (steps > hi ? hi : steps)) + output.zero_point;
}

/// Output code of one accumulator with a float multiplier: the accumulator rounded to float, times the multiplier, rounded to float,
/// clamped, rounded to the nearest integer with ties to even. Preconditions: multiplier finite and not negative, output valid.
[[nodiscard]] QUANT_INLINE constexpr std::int32_t
requantize_one(std::int32_t accumulator, float multiplier, const output_codes& output, std::int32_t bias = 0) noexcept {
    const auto lo = static_cast<float>(output.lowest() - output.zero_point);
    const auto hi = static_cast<float>(output.highest() - output.zero_point);
    const float steps = static_cast<float>(saturating_sum(accumulator, bias)) * multiplier;
    const float clamped = steps < lo ? lo : (steps > hi ? hi : steps);
    return detail::round_clamped(clamped, quantize_options{}, 0) + output.zero_point;
}

QUANT_END_TARGET
