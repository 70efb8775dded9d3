// SPDX-License-Identifier: MIT
#pragma once
// The parameters of a quantizer, and how a range of real values becomes parameters. Layer 1 (core).
//
//   constexpr auto adc = quant::symmetric(3.3f, quant::int8);       // scale 3.3/127, zero_point 0
//   auto p = quant::choose_params({-1.0, 3.0}, quant::uint8, quant::mapping::affine);   // result<affine_params>
//
// Meaning of the parameters (docs/numerics.md): real = (code - zero_point) * scale.

#include <cstdint>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/core/options.hpp>
#include <quant/core/status.hpp>

QUANT_BEGIN_NAMESPACE

/// Real values kept before rounding; everything outside saturates.
struct clip_range {
    double lo = 0;
    double hi = 0;
    friend constexpr bool operator==(const clip_range&, const clip_range&) = default;
};

/// One set of parameters: real = (code - zero_point) * scale, qmin <= code <= qmax of the format.
struct affine_params {
    float scale = 1;
    std::int32_t zero_point = 0;
    code_format format{};
    friend constexpr bool operator==(const affine_params&, const affine_params&) = default;
};

/// Gain and shift beside the integer tensor of one channel: real = gain * dequantized + shift (bias correction).
struct channel_correction {
    float gain = 1;
    float shift = 0;
    friend constexpr bool operator==(const channel_correction&, const channel_correction&) = default;
};

inline constexpr float min_scale = 0x1p-100f; ///< a range that needs less counts as a zero range
inline constexpr float max_scale = 0x1p+100f; ///< a range that needs more is an error

namespace core_detail {

QUANT_INLINE constexpr bool is_finite(double x) noexcept {
    return x - x == 0; // inf - inf and NaN - NaN are NaN
}

/// Nearest integer, ties to even, of what fits Integer; without libm, so that it is constexpr everywhere.
template <class Integer = std::int32_t> QUANT_INLINE constexpr Integer round_to_int(double x) noexcept {
    auto i = static_cast<Integer>(x);
    const double fraction = x - static_cast<double>(i);
    if (fraction > 0.5 || (fraction == 0.5 && (i & 1) != 0)) ++i;
    if (fraction < -0.5 || (fraction == -0.5 && (i & 1) != 0)) --i;
    return i;
}

QUANT_INLINE constexpr bool is_legal_scale(float scale) noexcept { return scale >= min_scale && scale <= max_scale; }

/// A scale, double or float, as a legal float scale; 0 stands for "counts as a zero range".
template <class Real> QUANT_INLINE constexpr result<float> legal_scale(Real scale) noexcept {
    if (!(scale >= static_cast<Real>(min_scale))) return 0.0f;
    if (scale > static_cast<Real>(max_scale)) return status{errc::scale_out_of_range, "range"};
    return static_cast<float>(scale);
}

} // namespace core_detail

/// ok when the format is legal, the scale lies in [2^-100, 2^100] and the zero point within the codes.
[[nodiscard]] QUANT_INLINE constexpr status validate(const affine_params& params) noexcept {
    if (const status s = validate(params.format); !s) return s;
    if (!core_detail::is_legal_scale(params.scale)) return {errc::invalid_scale, "params.scale"};
    if (params.zero_point < params.format.qmin() || params.zero_point > params.format.qmax())
        return {errc::invalid_zero_point, "params.zero_point"};
    return {};
}

/// Parameters of a clip range.
/// range   [lo, hi] in real units, finite, lo <= hi; widened to contain 0
/// symmetric: scale = max(lo/qmin, hi/qmax), zero_point = 0 (an unsigned format represents [0, hi] only)
/// affine:    scale = (hi - lo)/(qmax - qmin), zero_point = round_even(qmin - lo/scale) clamped to the codes
/// A zero range (or one that would need a scale below 2^-100) gives scale 1 and zero_point 0.
/// Computed in double, one operation a step; bit-exact. Errors: invalid_range, scale_out_of_range, bits_out_of_range.
[[nodiscard]] QUANT_INLINE constexpr result<affine_params> choose_params(clip_range range, code_format format,
                                                                         mapping map) noexcept {
    if (const status s = validate(format); !s) return s;
    if (!core_detail::is_finite(range.lo) || !core_detail::is_finite(range.hi) || range.lo > range.hi)
        return status{errc::invalid_range, "range"};
    const double lo = range.lo < 0 ? range.lo : 0.0;
    const double hi = range.hi > 0 ? range.hi : 0.0;
    const double qmin = format.qmin();
    const double qmax = format.qmax();
    double scale = 0;
    if (map == mapping::symmetric) {
        const double from_lo = qmin < 0 ? lo / qmin : 0.0;
        const double from_hi = qmax > 0 ? hi / qmax : 0.0;
        scale = from_lo > from_hi ? from_lo : from_hi;
    } else {
        const double width = hi - lo;
        scale = core_detail::is_finite(width) ? width / (qmax - qmin) : width;
    }
    const result<float> legal = core_detail::legal_scale(scale);
    if (!legal) return legal.status();
    if (*legal == 0) return affine_params{1, 0, format};
    if (map == mapping::symmetric) return affine_params{*legal, 0, format};
    const double steps_below_zero = lo / static_cast<double>(*legal);
    double zero_point = qmin - steps_below_zero;
    zero_point = zero_point < qmin ? qmin : (zero_point > qmax ? qmax : zero_point);
    return affine_params{*legal, core_detail::round_to_int(zero_point), format};
}

/// Symmetric parameters of a known constant: scale = magnitude / qmax (in both widths of range), zero_point 0.
/// magnitude > 0 in real units. Preconditions, not errors: use choose_params for values that come from data.
[[nodiscard]] QUANT_INLINE constexpr affine_params symmetric(float magnitude, code_format format) noexcept {
    QUANT_EXPECTS(static_cast<bool>(validate(format)) && format.qmax() > 0,
                  "symmetric: format must have positive codes");
    const result<float> legal = core_detail::legal_scale(static_cast<double>(magnitude) / format.qmax());
    QUANT_EXPECTS(legal && *legal > 0, "symmetric: magnitude must be positive and finite");
    return {*legal, 0, format};
}

/// Affine parameters of known constants: [lo, hi] widened to contain 0. Preconditions as above.
[[nodiscard]] QUANT_INLINE constexpr affine_params affine(float lo, float hi, code_format format) noexcept {
    const result<affine_params> params =
        choose_params({static_cast<double>(lo), static_cast<double>(hi)}, format, mapping::affine);
    QUANT_EXPECTS(static_cast<bool>(params), "affine: lo <= hi, both finite, and a legal format");
    return *params;
}

/// The real values the codes reach: {(qmin - zero_point) * scale, (qmax - zero_point) * scale}.
[[nodiscard]] QUANT_INLINE constexpr clip_range representable_range(const affine_params& params) noexcept {
    const double scale = static_cast<double>(params.scale);
    return {(params.format.qmin() - params.zero_point) * scale, (params.format.qmax() - params.zero_point) * scale};
}

QUANT_END_NAMESPACE
