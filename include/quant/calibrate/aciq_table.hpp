// SPDX-License-Identifier: MIT
#pragma once
// ACIQ from a table: the optimal step of a zero-mean density at 1 to 8 bits, in float alone. For processors on which double and
// logarithms are software. Layer 3 (calibrate).
//
//   float b = 0;                                        // the caller's: E|x|, as it likes to measure it
//   for (float x : samples) b += std::abs(x) / 256.0f;
//   auto p = quant::tabulated_aciq(b, quant::int4.narrow());                       // result<affine_params>
//   constexpr auto q = quant::tabulated_aciq(0.21f, quant::uint4, quant::prior::gauss);      // at compile time too
//
// What quant::aciq computes from statistics in double is byte-equal everywhere and knows means, guards and every mode; this is its
// answer in mode exact for a mean of zero, to the rounding of two floats. Table: docs/aciq.md, equation (9).

#include <limits>
#include <quant/calibrate/aciq_math.hpp>
#include <quant/core/params.hpp>

QUANT_BEGIN_TARGET
namespace aciq_detail {

// Optimal steps in units of the spread. Symmetric grids -k ... k for k = 2^(bits - 1) - 1, from 2 to 9 bits; codes that are never
// negative have those of one bit more (equation 8). Full signed grids, from 2 to 8 bits.
inline constexpr float laplace_symmetric_steps[]{2.0f,           1.1621336148f,  0.68855931824f,  0.40653582509f,
                                                 0.23737382292f, 0.13679102961f, 0.077816156715f, 0.043747228990f};
inline constexpr float laplace_full_steps[]{1.7170341198f,  1.0782706255f,  0.66135268856f, 0.39778473212f,
                                            0.23463960266f, 0.13596200262f, 0.077571235524f};
inline constexpr float gauss_symmetric_steps[]{1.2240063619f,  0.65076970400f,  0.35341131557f,  0.19324852440f,
                                               0.10548758606f, 0.057261280721f, 0.030870086040f, 0.016528152831f};
inline constexpr float gauss_full_steps[]{1.0483852625f,  0.60182422669f,  0.33860793572f, 0.18879222290f,
                                          0.10417944701f, 0.056887344573f, 0.030765578543f};

} // namespace aciq_detail

/// Parameters that minimize the expected squared error of a zero-mean tensor on the grid of the format, zero point 0.
/// spread   b = E|x| (laplace) or sigma (gauss) in real units, >= 0. Unsigned formats, which fuse a ReLU: of the values before it,
///          or of the positive values after it (laplace, equation 13)
/// format   unsigned 1 to 8 bits, signed and narrow 2 to 8 bits
/// density  laplace or gauss
/// largest  the largest magnitude, if it is known: no clip is wider than the data; min-max where it would be
/// A spread (or a step) too small for a legal scale gives scale 1, like a zero range.
/// Errors: bits_out_of_range; invalid_argument ("spread", "density", "largest"); scale_out_of_range.
/// Exactness: within 2 ulp of the optimal step in float. Two products and a comparison, no double, no allocation.
/// Paper: Banner, Nahshan, Soudry 2019, arXiv 1810.05723; the grid's own optimum is docs/aciq.md, equation (9).
[[nodiscard]] inline constexpr result<affine_params>
tabulated_aciq(float spread, code_format format, prior density = prior::laplace,
               float largest = std::numeric_limits<float>::infinity()) noexcept {
    if (const status s = validate(format); !s) return s;
    const bool symmetric_grid = format.narrow_range || !format.is_signed;
    const int row = format.bits - (format.is_signed ? 2 : 1);
    if (format.bits > 8 || row < 0) return status{errc::bits_out_of_range, "format.bits"};
    if (density == prior::automatic) return status{errc::invalid_argument, "density"};
    if (!(spread >= 0 && spread <= std::numeric_limits<float>::max())) return status{errc::invalid_argument, "spread"};
    if (!(largest >= 0)) return status{errc::invalid_argument, "largest"};
    using namespace aciq_detail;
    const float* const steps = density == prior::gauss
                                   ? (symmetric_grid ? gauss_symmetric_steps : gauss_full_steps)
                                   : (symmetric_grid ? laplace_symmetric_steps : laplace_full_steps);
    const float step = steps[row] * spread;
    const auto above = static_cast<float>(format.qmax());
    // The clip lies half a step further out on a full signed grid, as in aciq_clipping::clip.
    const float reach = (above + (symmetric_grid ? 0.0f : 0.5f)) * step;
    const result<float> scale = core_detail::legal_scale(reach < largest ? step : largest / above);
    if (!scale) return scale.status();
    return affine_params{*scale == 0 ? 1.0f : *scale, 0, format};
}

QUANT_END_TARGET
