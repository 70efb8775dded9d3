// SPDX-License-Identifier: MIT
#pragma once
// The specification: quantize, dequantize and fake-quantize of one value. Every SIMD path gives the same bytes. Layer 1 (core).
//
//   code  = int(clamp(round(x / scale), qmin - zero_point, qmax - zero_point)) + zero_point        (1)
//   value = float(code - zero_point) * scale                                                       (2)
//   fake  = (2) of (1), computed without leaving float                                             (3)
//
// NaN becomes zero_point, infinities saturate. double input is divided in double, everything else in float.

#include <concepts>
#include <cstdint>
#include <quant/core/half.hpp>
#include <quant/core/params.hpp>
#include <quant/core/random.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET

/// The type a real element is computed in: double for double, float for everything else.
template <real_element T> struct compute_type { using type = float; };
template <> struct compute_type<double> { using type = double; };
template <real_element T> using compute_t = typename compute_type<T>::type;

namespace detail {

/// Rounds a value already clamped to |x| <= 2^17. Clamping first gives the same result as rounding first, because the bounds
/// are integers and every rounding is monotone and keeps integers; it also makes the conversion to int safe.
/// Truncate-and-correct instead of adding a large constant: no step can be contracted into a fused multiply-add.
template <std::floating_point Real>
QUANT_INLINE constexpr std::int32_t round_clamped(Real x, const quantize_options& options,
                                                  std::uint64_t index) noexcept {
    const auto truncated = static_cast<std::int32_t>(x);
    const Real fraction = x - static_cast<Real>(truncated); // exact, same sign as x
    switch (options.round) {
    case rounding::half_away:
        return truncated + static_cast<int>(fraction >= Real(0.5)) - static_cast<int>(fraction <= Real(-0.5));
    case rounding::toward_negative: return truncated - static_cast<int>(fraction < 0);
    case rounding::stochastic: {
        const std::int32_t below = truncated - static_cast<int>(fraction < 0);
        const Real above = x - static_cast<Real>(below); // in [0, 1]
        return below + static_cast<int>(static_cast<Real>(random_uniform(options.seed, options.stream, index)) < above);
    }
    case rounding::nearest_even: break;
    }
    // Sums of conditions instead of && and ||: a branch on the fraction would be mispredicted at every other element.
    const int odd = truncated & 1;
    const int up = static_cast<int>(fraction > Real(0.5)) + (static_cast<int>(fraction == Real(0.5)) & odd);
    const int down = static_cast<int>(fraction < Real(-0.5)) + (static_cast<int>(fraction == Real(-0.5)) & odd);
    return truncated + up - down;
}

/// Steps from zero: code - zero_point, equation (1) without its last term.
template <std::floating_point Real>
QUANT_INLINE constexpr std::int32_t quantize_steps(Real x, const affine_params& params, const quantize_options& options,
                                                   std::uint64_t index) noexcept {
    const auto lo = static_cast<Real>(params.format.qmin() - params.zero_point);
    const auto hi = static_cast<Real>(params.format.qmax() - params.zero_point);
    const auto scale = static_cast<Real>(params.scale);
    if (std::is_constant_evaluated()) { // where NaN and overflow are errors of the program; what is left out saturates
        const Real limit = Real(0x1p18) * scale;
        if (!(x == x)) return 0;
        x = x < -limit ? -limit : (x > limit ? limit : x);
    }
    const Real steps = options.divide == scale_by::division ? x / scale : x * (Real(1) / scale);
    if (!(steps == steps)) return 0;
    const Real clamped = steps < lo ? lo : (steps > hi ? hi : steps);
    return round_clamped(clamped, options, index);
}

} // namespace detail

/// Code of one real value, equation (1). `index` is used by stochastic rounding alone.
/// Preconditions: validate(params) is ok. Bit-exact on every target. Units: x in real units, result in codes.
template <real_element T>
[[nodiscard]] QUANT_INLINE constexpr std::int32_t
quantize_one(T x, const affine_params& params, const quantize_options& options = {}, std::uint64_t index = 0) noexcept {
    if constexpr (std::same_as<T, double>)
        return detail::quantize_steps(x, params, options, options.first_index + index) + params.zero_point;
    else
        return detail::quantize_steps(to_float(x), params, options, options.first_index + index) + params.zero_point;
}

/// Real value of one code, equation (2): one exact conversion and one correctly rounded multiplication.
template <real_element T = float>
[[nodiscard]] QUANT_INLINE constexpr T dequantize_one(std::int32_t code, const affine_params& params) noexcept {
    if constexpr (std::same_as<T, double>)
        return static_cast<double>(code - params.zero_point) * static_cast<double>(params.scale);
    else
        return from_float<T>(static_cast<float>(code - params.zero_point) * params.scale);
}

/// The nearest representable value, equation (3): dequantize_one(quantize_one(x)). Never returns a negative zero.
template <real_element T>
[[nodiscard]] QUANT_INLINE constexpr T fake_quant_one(T x, const affine_params& params,
                                                      const quantize_options& options = {},
                                                      std::uint64_t index = 0) noexcept {
    return dequantize_one<T>(quantize_one(x, params, options, index), params);
}

QUANT_END_TARGET
