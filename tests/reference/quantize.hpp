// SPDX-License-Identifier: MIT
#pragma once
// What quantize, dequantize and fake_quant have to give, straight from the formula
//
//   code = clamp(round(x / scale), qmin - zero_point, qmax - zero_point) + zero_point
//
// in long double, the rounding done on the exact floor and its exact rest. Nothing of the library's arithmetic is used: only
// its plain data types, and of those not their functions.
//
// The quotient is one operation in the element's own compute type. For float that is: the exact quotient rounded once. A
// long double of at least 53 bits has more than 2 * 24 + 2 bits, so that rounding the long double quotient to float gives the
// correctly rounded float quotient (Figueroa 1995). For double it is the machine's IEEE division.

#include <cmath>
#include <cstdint>
#include <limits>
#include <quant/core/half.hpp>
#include <quant/core/options.hpp>
#include <quant/core/params.hpp>
#include <type_traits>

namespace reference {

/// The real number a 16-bit pattern stands for: `fraction` mantissa bits, exponent bias `bias`.
inline double decode(std::uint16_t pattern, int fraction, int bias) {
    const int exponent_bits = 15 - fraction;
    const int exponent = (pattern >> fraction) & ((1 << exponent_bits) - 1);
    const int mantissa = pattern & ((1 << fraction) - 1);
    const double sign = (pattern & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1)
        return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                             : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - fraction);
    return sign * std::ldexp((1 << fraction) + mantissa, exponent - bias - fraction);
}
inline double value(quant::float16 x) { return decode(x.bits, 10, 15); }
inline double value(quant::bfloat16 x) { return decode(x.bits, 7, 127); }
inline double value(float x) { return static_cast<double>(x); }
inline double value(double x) { return x; }

/// Nearest integer, ties to even.
inline long double round_even(long double x) {
    const long double below = std::floor(x), rest = x - below; // exact: both have the spacing of x or a finer one
    if (rest > 0.5L || (rest == 0.5L && std::fmod(below, 2.0L) != 0)) return below + 1;
    return below;
}

/// Nearest value of a binary format with `digits` significant bits, smallest normal exponent `emin`, largest `emax`.
inline long double round_to_format(long double x, int digits, int emin, int emax) {
    if (x == 0 || !std::isfinite(x)) return x;
    const int exponent = std::ilogb(x) < emin ? emin : std::ilogb(x);
    const long double rounded =
        std::ldexp(round_even(std::ldexp(std::fabs(x), digits - 1 - exponent)), exponent - digits + 1);
    const long double magnitude =
        rounded >= std::ldexp(1.0L, emax + 1) ? std::numeric_limits<long double>::infinity() : rounded;
    return std::copysign(magnitude, x);
}

/// splitmix64 and the counter-based bits, as their definition writes them.
inline std::uint64_t mix(std::uint64_t z) {
    z = z + 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}
inline long double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    return std::ldexp(static_cast<long double>(mix(mix(mix(seed) ^ stream) ^ index) >> 40), -24);
}

struct code_bounds {
    std::int32_t lo, hi;
};
/// Two's complement or plain binary; a narrow range has one code less at the bottom.
inline code_bounds bounds(quant::code_format f) {
    const auto codes = static_cast<std::int32_t>(std::lround(std::exp2(f.bits)));
    if (!f.is_signed) return {0, codes - 1};
    return {-codes / 2 + (f.narrow_range ? 1 : 0), codes / 2 - 1};
}

/// x in code units: one rounding (division) or two (reciprocal) to `Real`.
template <class Real> long double quotient(Real x, float scale, quant::scale_by divide) {
    if constexpr (std::is_same_v<Real, double>) {
        if (divide == quant::scale_by::division) return static_cast<long double>(x / static_cast<double>(scale));
        const double inverse = 1.0 / static_cast<double>(scale);
        return static_cast<long double>(x * inverse);
    } else {
        const auto wide = static_cast<long double>(x), step = static_cast<long double>(scale);
        if (divide == quant::scale_by::division) return static_cast<long double>(static_cast<float>(wide / step));
        const auto inverse = static_cast<long double>(static_cast<float>(1.0L / step));
        return static_cast<long double>(static_cast<float>(wide * inverse));
    }
}

/// The code of x; `index` is the position that stochastic rounding draws its number from.
template <class T>
std::int32_t quantize(T element, const quant::affine_params& params, const quant::quantize_options& options = {},
                      std::uint64_t index = 0) {
    using real = std::conditional_t<std::is_same_v<T, double>, double, float>;
    const auto x = static_cast<real>(value(element));
    const long double steps = quotient(x, params.scale, options.divide);
    if (std::isnan(steps)) return params.zero_point;
    const code_bounds codes = bounds(params.format);
    if (std::isinf(steps)) return steps > 0 ? codes.hi : codes.lo;
    const long double below = std::floor(steps);
    const long double rest = steps - below;
    long double rounded = below;
    switch (options.round) {
    case quant::rounding::nearest_even: rounded = round_even(steps); break;
    case quant::rounding::half_away:
        if (rest > 0.5L || (rest == 0.5L && steps > 0)) rounded = below + 1;
        break;
    case quant::rounding::toward_negative: break;
    case quant::rounding::stochastic:
        // The chance of the upper neighbour is the rest, known to the precision of the compute type.
        if (uniform(options.seed, options.stream, options.first_index + index) <
            static_cast<long double>(static_cast<real>(rest)))
            rounded = below + 1;
        break;
    }
    const auto lo = static_cast<long double>(codes.lo - params.zero_point);
    const auto hi = static_cast<long double>(codes.hi - params.zero_point);
    if (rounded < lo) rounded = lo;
    if (rounded > hi) rounded = hi;
    return static_cast<std::int32_t>(rounded) + params.zero_point;
}

/// The real value of a code, rounded to float (double for double), then to the element type.
template <class T> double dequantize(std::int32_t code, const quant::affine_params& params) {
    const long double exact =
        static_cast<long double>(code - params.zero_point) * static_cast<long double>(params.scale);
    if constexpr (std::is_same_v<T, double>) return static_cast<double>(exact);
    const auto as_float = static_cast<long double>(static_cast<float>(exact));
    if constexpr (std::is_same_v<T, quant::float16>) return static_cast<double>(round_to_format(as_float, 11, -14, 15));
    if constexpr (std::is_same_v<T, quant::bfloat16>)
        return static_cast<double>(round_to_format(as_float, 8, -126, 127));
    return static_cast<double>(as_float);
}

} // namespace reference
