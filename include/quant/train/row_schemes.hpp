// SPDX-License-Identifier: MIT
#pragma once
// Training with rows of different schemes: the weights are rounded on the way forward and learn straight through it. Layer 5 (train).
//
//   auto s = quant::rmsmp::project(latent, w_hat, scheme, scales);                                     // forward
//   s = quant::rmsmp::backward(latent, grad_w_hat, grad_latent, grad_scales, scheme, scales);
//   s = quant::rmsmp::add_row_curvature(grad_outputs, curvature);                                      // per batch; then assign_rows
//
// With l the signed level in [-1, 1] and G the gradient of w_hat = alpha l,
//
//   dL/dw = G [|w| <= alpha]        dL/d alpha = sum G (l - [|w| <= alpha] w / alpha)                                (L3)
//
// A scale that is the largest weight is a constant: leave its gradient unused. The paper assigns the rows anew every 10 epochs.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/row_schemes.hpp>
#include <quant/simd/row_kernels.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace rmsmp {

/// Which weights learn.
enum class straight_through : std::uint8_t {
    inside, ///< those of |w| <= alpha
    all,
};

inline namespace QUANT_TARGET_TAG {

/// The gradients of (L3).
/// latent  [rows, cols] dense       gradient  the same extents: d loss / d w_hat       grad_latent  written, may be `gradient`
/// grad_scales  as many as scales, written; rows that share a scale add up in order       scheme, scales, domain  those of project
/// Errors: those of project; shape_mismatch "gradient", "grad_latent", "grad_scales"; non_finite "gradient" (of a scale: also from
/// latent): the gradients are then written, but no step should be taken.
/// Exactness: the same bytes on every architecture; sums in double. Complexity: one pass, no allocation.
template <viewable Latent, viewable Gradient, destination GradLatent>
    requires(trainable<element_of_t<Latent>>&& std::same_as<element_of_t<Latent>, element_of_t<Gradient>>&&
                 std::same_as<element_of_t<Latent>, element_of_t<GradLatent>>)
[[nodiscard]] inline status backward(const Latent& latent, const Gradient& gradient, GradLatent&& grad_latent,
                                     std::span<element_of_t<Latent>> grad_scales, std::span<const row_scheme> scheme,
                                     std::span<const element_of_t<Latent>> scales,
                                     nearest_in domain = nearest_in::linear,
                                     straight_through learn = straight_through::inside) noexcept {
    using T = element_of_t<Latent>;
    const tensor_view<const T, 2> w = v0_1::view(latent);
    const tensor_view<const T, 2> g = v0_1::view(gradient);
    const tensor_view<T, 2> to = v0_1::view(grad_latent);
    if (const status s = detail::check_rows<T>(w, scheme, scales); !s) return s;
    if (g.extents() != w.extents()) return {errc::shape_mismatch, "gradient"};
    if (!g.is_contiguous()) return {errc::invalid_stride, "gradient"};
    if (to.extents() != w.extents()) return {errc::shape_mismatch, "grad_latent"};
    if (!to.is_contiguous()) return {errc::invalid_stride, "grad_latent"};
    if (grad_scales.size() != scales.size()) return {errc::shape_mismatch, "grad_scales"};
    const std::size_t cols = w.extent(1);
    double shared = 0;
    bool finite = true;
    for (std::size_t r = 0; r < w.extent(0); ++r) {
        const auto levels = detail::levels_of<T>(scheme[r], scales[scales.size() == 1 ? 0 : r], domain);
        const T* const from = w.data() + r * cols;
        const double of_scale =
            learn == straight_through::inside
                ? simd::round_rows_backward<T, true>(from, g.data() + r * cols, to.data() + r * cols, cols, levels)
                : simd::round_rows_backward<T, false>(from, g.data() + r * cols, to.data() + r * cols, cols, levels);
        finite = finite && core_detail::is_finite(of_scale);
        if (scales.size() == 1)
            shared += of_scale;
        else
            grad_scales[r] = static_cast<T>(of_scale);
    }
    if (scales.size() == 1) grad_scales[0] = static_cast<T>(shared);
    if (finite) return {};
    return {errc::non_finite, "gradient"};
}

/// Adds the sum over the batch of (dL/dy_r)^2 to curvature[r]: up to one factor for the whole layer the largest eigenvalue of the
/// Hessian's block of row r, where the curvature of a linear layer's outputs does not depend on its inputs (exact for squared error).
/// grad_outputs  [batch, rows] dense: the gradient of one sample's loss in each row        curvature  [rows]
/// Errors: invalid_stride, shape_mismatch "curvature".
template <viewable Gradient>
    requires(trainable<element_of_t<Gradient>>)
[[nodiscard]] inline status add_row_curvature(const Gradient& grad_outputs, std::span<double> curvature) noexcept {
    using T = element_of_t<Gradient>;
    const tensor_view<const T, 2> g = v0_1::view(grad_outputs);
    if (!g.is_contiguous()) return {errc::invalid_stride, "grad_outputs"};
    if (curvature.size() != g.extent(1)) return {errc::shape_mismatch, "curvature"};
    for (std::size_t n = 0; n < g.extent(0); ++n)
        for (std::size_t r = 0; r < curvature.size(); ++r) {
            const auto d = static_cast<double>(g.data()[n * curvature.size() + r]);
            curvature[r] += simd::rounded(d * d);
        }
    return {};
}

} // namespace QUANT_TARGET_TAG
} // namespace rmsmp
QUANT_END_NAMESPACE
