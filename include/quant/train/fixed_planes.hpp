// SPDX-License-Identifier: MIT
#pragma once
// Finishing a model whose planes are decided: float weights and a learned scale, rounded to the integers that the planes reach.
// CSQ's and BSQ's last phase. Layer 5 (train).
//
//   const quant::digit_planes planes{done->planes};                                          // from csq::harden
//   auto s = quant::round_to_planes(latent, w_hat, scale, planes);                           // w_hat = q * scale
//   s = quant::round_to_planes_backward(latent, grad_w_hat, grad_latent, grad_scale, scale, planes);
//   s = quant::codes_of_planes(latent, codes, scale, planes);                                // q, at the end
//
// q is the reachable integer nearest to v = w / D. With the planes' sum R and the gradient G of w_hat = q D,
//
//   dL/dw = G [|v| <= R]      dL/dD = sum G (q - v) over |v| <= R, sum G q over the others                         (F1)
//
// Paper: Esser et al. 2020, "Learned Step Size Quantization", arXiv 1902.08153, on a set of integers that may have gaps.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <quant/core/code_format.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/csq_kernels.hpp>
#include <quant/train/budget.hpp>
#include <quant/train/gate.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// What became of a layer when it was hardened. A plane is one digit of {-1, 0, 1}; bit b stands for the plane of value 2^b of the
/// codes.
struct hardened {
    std::uint32_t planes = 0;    ///< planes in which some code has a digit
    std::uint32_t magnitude = 0; ///< bits that some |code| has; the same unless the planes have gaps
    int stripped = 0;            ///< empty lowest planes that became a factor 2 of the scale each
    double scale = 1;            ///< of a layer with one scale: real value of one code step
    std::uint64_t cancelled = 0; ///< digits with both bits set, which mean 0
    std::size_t weights = 0;

    /// For mean_bits and budgets: the nominal planes, without the sign.
    [[nodiscard]] QUANT_INLINE constexpr layer_bits bits() const noexcept {
        return {weights, static_cast<double>(std::popcount(planes))};
    }
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace train_detail {

template <class T>
[[nodiscard]] inline status check_planes(std::size_t n, std::span<const T> scales, digit_planes planes) noexcept {
    if (planes.mask >= (1u << 15)) return {errc::bits_out_of_range, "planes"};
    if (scales.empty() || n % scales.size() != 0) return {errc::shape_mismatch, "scales"};
    for (const T scale : scales)
        if (!(scale >= static_cast<T>(min_scale) && scale <= static_cast<T>(max_scale)))
            return {errc::invalid_scale, "scales"};
    return {};
}

/// Scales of weights whose largest gets the code 2^planes - 1: max |w| / (2^planes - 1) per row, 1 for a row of zeros. `weights`
/// finite.
/// Errors: scale_out_of_range "weights"; nothing is written then.
template <class T>
[[nodiscard]] inline status largest_scales(const T* weights, std::size_t length, std::span<T> scales,
                                           std::size_t planes) noexcept {
    const auto scale_of = [&](std::size_t row) noexcept {
        double most = 0;
        for (std::size_t i = row * length; i < (row + 1) * length; ++i) {
            const double w = static_cast<double>(weights[i]), size = w < 0 ? -w : w;
            most = size > most ? size : most;
        }
        return most / static_cast<double>((std::uint32_t{1} << planes) - 1);
    };
    for (std::size_t row = 0; row < scales.size(); ++row)
        if (!core_detail::legal_scale(scale_of(row))) return {errc::scale_out_of_range, "weights"};
    for (std::size_t row = 0; row < scales.size(); ++row) {
        const double scale = scale_of(row);
        scales[row] = scale < static_cast<double>(min_scale) ? T(1) : static_cast<T>(scale);
    }
    return {};
}

/// round(w / scale), within +-(2^planes - 1).
template <class T> [[nodiscard]] inline std::int32_t code_of(T w, T scale, std::size_t planes) noexcept {
    const std::int32_t most = (std::int32_t{1} << planes) - 1;
    const double real = static_cast<double>(w) / static_cast<double>(scale);
    if (real >= most) return most;
    return real <= -most ? -most : core_detail::round_to_int(real);
}

template <class T> [[nodiscard]] inline bool all_finite(const T* p, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i)
        if (!core_detail::is_finite(static_cast<double>(p[i]))) return false;
    return true;
}

/// f(first, count, row) for the stretches of [at, at + count) that belong to one row.
template <class F>
inline void for_each_row(std::size_t at, std::size_t count, std::size_t row_length, const F& f) noexcept {
    for (std::size_t done = 0; done < count;) {
        const std::size_t row = (at + done) / row_length, left = (row + 1) * row_length - (at + done);
        const std::size_t n = left < count - done ? left : count - done;
        f(done, n, row);
        done += n;
    }
}

} // namespace train_detail

/// w_hat = q D, q the reachable integer nearest to latent / D.
/// latent  [K] dense       rounded  [K] dense, may be `latent`       scales  1, or one for each row of K / scales.size() weights
/// Ties: to even multiples of the lowest plane when the planes have no gap. NaN stays NaN. No planes: all 0.
/// Errors: bits_out_of_range "planes" (15 at most), shape_mismatch, invalid_stride, invalid_scale "scales"; nothing is written
/// then.
/// Exactness: the same bytes on every architecture.
template <viewable Latent, destination Rounded>
    requires(trainable<element_of_t<Latent>>&& std::same_as<element_of_t<Latent>, element_of_t<Rounded>>)
[[nodiscard]] inline status round_to_planes(const Latent& latent, Rounded&& rounded,
                                            std::span<const element_of_t<Latent>> scales,
                                            digit_planes planes) noexcept {
    using T = element_of_t<Latent>;
    const auto w = v0_1::view(latent);
    const auto to = v0_1::view(rounded);
    if (const status s = train_detail::check_planes<T>(w.size(), scales, planes); !s) return s;
    if (const status s = train_detail::check_dense(w, w.size(), "latent"); !s) return s;
    if (const status s = train_detail::check_dense(to, w.size(), "rounded"); !s) return s;
    const std::size_t length = w.size() / scales.size();
    for (std::size_t row = 0; row < scales.size(); ++row)
        simd::round_to_planes<T, false>(w.data() + row * length, to.data() + row * length, length, scales[row], planes);
    return {};
}

/// The gradients of (F1).
/// gradient  [K] dense: d loss / d rounded        grad_latent  [K] dense, written      grad_scales  one per scale, written
/// LSQ multiplies the gradient of the scale by 1 / sqrt(K R): that is the learning rate's matter, `learned_scale_rate`.
/// Errors: those of round_to_planes; non_finite "gradient" or "latent": the gradients are then written, but no step should be
/// taken.
template <viewable Latent, viewable Gradient, destination GradLatent>
    requires(trainable<element_of_t<Latent>>&& std::same_as<element_of_t<Latent>, element_of_t<Gradient>>&&
                 std::same_as<element_of_t<Latent>, element_of_t<GradLatent>>)
[[nodiscard]] inline status round_to_planes_backward(const Latent& latent, const Gradient& gradient,
                                                     GradLatent&& grad_latent,
                                                     std::span<element_of_t<Latent>> grad_scales,
                                                     std::span<const element_of_t<Latent>> scales,
                                                     digit_planes planes) noexcept {
    using T = element_of_t<Latent>;
    const auto w = v0_1::view(latent);
    const auto g = v0_1::view(gradient);
    const auto to = v0_1::view(grad_latent);
    if (const status s = train_detail::check_planes<T>(w.size(), scales, planes); !s) return s;
    if (const status s = train_detail::check_dense(w, w.size(), "latent"); !s) return s;
    if (const status s = train_detail::check_dense(g, w.size(), "gradient"); !s) return s;
    if (const status s = train_detail::check_dense(to, w.size(), "grad_latent"); !s) return s;
    if (grad_scales.size() != scales.size()) return {errc::shape_mismatch, "grad_scales"};
    const std::size_t length = w.size() / scales.size();
    bool finite = true;
    for (std::size_t row = 0; row < scales.size(); ++row) {
        const std::size_t at = row * length;
        const double d = simd::round_to_planes_backward<T>(w.data() + at, g.data() + at, to.data() + at, length,
                                                           scales[row], planes);
        finite = finite && core_detail::is_finite(d);
        grad_scales[row] = static_cast<T>(d);
    }
    if (finite) return {};
    return {errc::non_finite, train_detail::all_finite(g.data(), w.size()) ? "latent" : "gradient"};
}

/// 1 / sqrt(K R), by which LSQ scales the gradient of D; 1 for no weights or no planes.
[[nodiscard]] inline double learned_scale_rate(std::size_t weights_per_scale, digit_planes planes) noexcept {
    if (weights_per_scale == 0 || planes.mask == 0) return 1;
    return 1 / std::sqrt(static_cast<double>(weights_per_scale) * static_cast<double>(planes.largest()));
}

/// The integers q themselves: codes * scale is bit for bit what round_to_planes gives.
/// codes  [K] int8 or int16, dense
/// Errors: those of round_to_planes, storage_too_narrow "codes", non_finite "latent"; nothing is written then.
template <viewable Latent, destination Codes>
    requires(
        trainable<element_of_t<Latent>>&& code_storage<element_of_t<Codes>>&& std::signed_integral<element_of_t<Codes>>)
[[nodiscard]] inline status codes_of_planes(const Latent& latent, Codes&& codes,
                                            std::span<const element_of_t<Latent>> scales,
                                            digit_planes planes) noexcept {
    using T = element_of_t<Latent>;
    using code = element_of_t<Codes>;
    const auto w = v0_1::view(latent);
    const auto to = v0_1::view(codes);
    if (const status s = train_detail::check_planes<T>(w.size(), scales, planes); !s) return s;
    if (const status s = train_detail::check_dense(w, w.size(), "latent"); !s) return s;
    if (const status s = train_detail::check_dense(to, w.size(), "codes"); !s) return s;
    if (planes.largest() > static_cast<std::uint32_t>(std::numeric_limits<code>::max()))
        return {errc::storage_too_narrow, "codes"};
    if (!train_detail::all_finite(w.data(), w.size())) return {errc::non_finite, "latent"};
    const std::size_t length = w.size() / scales.size();
    T q[256];
    for (std::size_t row = 0; row < scales.size(); ++row)
        for (std::size_t at = 0; at < length; at += std::size(q)) {
            const std::size_t n = length - at < std::size(q) ? length - at : std::size(q);
            const std::size_t from = row * length + at;
            simd::round_to_planes<T, true>(w.data() + from, q, n, scales[row], planes);
            for (std::size_t i = 0; i < n; ++i) to.data()[from + i] = static_cast<code>(q[i]);
        }
    return {};
}

QUANT_END_TARGET
