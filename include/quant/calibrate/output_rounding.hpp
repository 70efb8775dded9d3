// SPDX-License-Identifier: MIT
#pragma once
// Rounding for the sake of a layer's outputs: each weight takes in what the rounding of those before it did wrong, by what the layer's
// inputs have in common. No training and no labels, only the second moments of the inputs. Layer 3 (calibrate).
//
//   std::vector<double> moments(depth * depth);                  // E[x x^T] of the layer's inputs, plus a little on the diagonal
//   if (auto s = quant::factor_moments(moments, depth); !s) return s;
//   for (each row of weights) auto error = quant::round_for_outputs(row, moments, params, codes, errors);
//
// With e = w - q the difference of one output is e^T x, its mean square e^T H e with H = E[x x^T]. Write H = M^T D M with M lower
// triangular, ones on its diagonal, and D diagonal and positive. Then
//
//   e^T H e = sum over i of D_i (e_i + sum over j < i of M_ij e_j)^2                                              (26)
//
// and, one weight after the other, q_i is the code nearest to w_i + sum over j < i of M_ij e_j, which makes term i as small as a code
// can with all before it given. D_i is what inputs after i do not tell about input i: weights whose inputs matter most come first.
// Paper: Frantar, Ashkboos, Hoefler, Alistarh 2022, "GPTQ", arXiv 2210.17323 (there by the inverse of H; the codes are the same); the
// view as the nearest plane of a lattice: Babai 1986, "On Lovasz' lattice reduction and the nearest lattice point problem".

#include <cstddef>
#include <cstdint>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/batch.hpp>
#include <span>

QUANT_BEGIN_TARGET

/// D on the diagonal and M below it, in place of H; what stands above the diagonal is neither read nor written.
/// moments  [depth, depth], row-major; symmetric and positive definite
/// Errors: shape_mismatch "moments"; invalid_argument "moments" (not positive definite, or NaN; the moments are partly changed then).
/// Exactness: bit-exact. Cost: depth^3 / 3 multiplications and additions.
[[nodiscard]] inline status factor_moments(std::span<double> moments, std::size_t depth) noexcept {
    if (moments.size() != depth * depth) return {errc::shape_mismatch, "moments"};
    for (std::size_t i = depth; i-- > 0;) {
        double* const pivot = moments.data() + i * depth;
        if (!(pivot[i] > 0) || !core_detail::is_finite(pivot[i])) return {errc::invalid_argument, "moments"};
        for (std::size_t r = 0; r < i; ++r) {
            const double factor = pivot[r] / pivot[i];
            double* const row = moments.data() + r * depth;
            for (std::size_t j = 0; j <= r; ++j) row[j] -= simd::rounded(factor * pivot[j]);
        }
        for (std::size_t j = 0; j < i; ++j) pivot[j] /= pivot[i];
    }
    return {};
}

/// The codes of one row of weights.
/// weights  [depth] finite            factors  [depth, depth] from factor_moments; their order is that of the weights
/// params   of the row, 8 bits or fewer; signed where Code is
/// codes    [depth]                   errors   [depth] scratch: e
/// Returns e^T H e. Errors: shape_mismatch "factors", "codes" or "errors", storage_too_narrow, those of validate(params), non_finite
/// "weights"; nothing is written then. Exactness: bit-exact. Cost: depth^2 / 2 multiplications and additions.
template <code_storage Code>
[[nodiscard]] inline result<double> round_for_outputs(std::span<const float> weights, std::span<const double> factors,
                                                      const affine_params& params, std::span<Code> codes,
                                                      std::span<double> errors) noexcept {
    const std::size_t depth = weights.size();
    if (factors.size() != depth * depth) return status{errc::shape_mismatch, "factors"};
    if (codes.size() != depth) return status{errc::shape_mismatch, "codes"};
    if (errors.size() != depth) return status{errc::shape_mismatch, "errors"};
    if (const status s = validate(params); !s) return s;
    if (!holds<Code>(params.format)) return status{errc::storage_too_narrow, "codes"};
    for (const float w : weights)
        if (!core_detail::is_finite(static_cast<double>(w))) return status{errc::non_finite, "weights"};
    double total = 0;
    for (std::size_t i = 0; i < depth; ++i) {
        const double* const row = factors.data() + i * depth;
        double parts[4] = {};
        for (std::size_t j = 0; j < i; ++j) parts[j % 4] += simd::rounded(row[j] * errors[j]);
        const double carried = (parts[0] + parts[1]) + (parts[2] + parts[3]);
        const double weight = static_cast<double>(weights[i]);
        const std::int32_t code = quantize_one(weight + carried, params);
        codes[i] = static_cast<Code>(code);
        errors[i] = weight - simd::rounded(dequantize_one<double>(code, params));
        const double term = errors[i] + carried;
        total += simd::rounded(simd::rounded(row[i] * term) * term);
    }
    return total;
}

QUANT_END_TARGET
