// SPDX-License-Identifier: MIT
#pragma once
// Weight bias correction: the gain and shift per channel that give quantized weights the mean (and norm) of the original ones,
// kept beside the integer tensor, and the ways to fold them into an integer pipeline. Layer 3 (calibrate).
//
//   std::array<quant::channel_correction, 64> fix;
//   if (auto s = quant::bias_correction(weights, codes, params, fix, quant::per_axis(0)); !s) return s;
//   // w_hat = fix[c].gain * dequantized + fix[c].shift
//
// Equations are those of docs/aciq.md. Paper: Banner, Nahshan, Soudry 2019, arXiv 1810.05723, section 5 (eq. 12 and 13).

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/core/granularity.hpp>
#include <quant/core/half.hpp>
#include <quant/core/params.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/batch.hpp>
#include <quant/simd/tiles.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// What a bias correction restores.
enum class correct : std::uint8_t {
    mean, ///< the mean: gain 1, shift E[w] - E[w_q]; lowers the squared error by exactly the square of the shift
    mean_and_norm, ///< the norm about the mean, then the mean, in the order of the authors' code
};

/// Joint moments of the weights w of one channel and their quantized values q.
struct paired_moments {
    std::uint64_t count = 0;
    double mean_w = 0;
    double mean_q = 0;
    double squares_w = 0; ///< sum of (w - mean_w)^2
    double squares_q = 0; ///< sum of (q - mean_q)^2
    double products = 0;  ///< sum of (w - mean_w)(q - mean_q)
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

// ---- from moments to a correction -----------------------------------------------------------------------------------

namespace bias_detail {

/// The norm ratio of equation (17); 1 where the quantized channel is constant.
inline double norm_ratio(const paired_moments& m) noexcept {
    return m.squares_q > 0 ? std::sqrt(m.squares_w / m.squares_q) : 1.0;
}

/// The shift belongs to the gain as it is stored, so that rounding the gain does not move the mean.
inline channel_correction with_mean(double gain, const paired_moments& m) noexcept {
    const auto stored = static_cast<float>(gain);
    const double moved_mean = simd::rounded(static_cast<double>(stored) * m.mean_q);
    return {stored, static_cast<float>(m.mean_w - moved_mean)};
}

} // namespace bias_detail

/// gain 1, shift E[w] - E[q], equation (16).
[[nodiscard]] inline channel_correction mean_correction(const paired_moments& m) noexcept {
    return bias_detail::with_mean(1.0, m);
}

/// gain xi = |w - E[w]| / |q - E[q]|, shift E[w] - xi E[q]: mean and norm are both restored, equation (17).
/// After error-optimal clipping xi is above 1 and the norm step raises the squared error a little (D^2/(4 variance)).
/// A constant quantized channel keeps gain 1.
[[nodiscard]] inline channel_correction mean_and_norm_correction(const paired_moments& m) noexcept {
    return bias_detail::with_mean(bias_detail::norm_ratio(m), m);
}

/// The paper's equation 13 to the letter, w = xi (q + E[w] - E[q]): gain xi, shift xi (E[w] - E[q]). The mean becomes xi E[w],
/// which is why the authors' code, and mean_and_norm_correction, do it in the other order.
[[nodiscard]] inline channel_correction equation_13_correction(const paired_moments& m) noexcept {
    const double gain = bias_detail::norm_ratio(m);
    return {static_cast<float>(gain), static_cast<float>(gain * (m.mean_w - m.mean_q))};
}

/// The gain and shift of least squared error: gain cov(w, q)/var(q), shift E[w] - gain E[q], equation (18).
/// A constant quantized channel keeps gain 1.
[[nodiscard]] inline channel_correction least_squares_correction(const paired_moments& m) noexcept {
    return bias_detail::with_mean(m.squares_q > 0 ? m.products / m.squares_q : 1.0, m);
}

/// The correction that `how` names.
[[nodiscard]] inline channel_correction correction_of(const paired_moments& m, correct how) noexcept {
    return how == correct::mean ? mean_correction(m) : mean_and_norm_correction(m);
}

// ---- moments of the slices of tensors --------------------------------------------------------------------------------

namespace bias_detail {

template <class T> QUANT_INLINE double as_double(T value) noexcept {
    if constexpr (std::same_as<T, double>)
        return value;
    else
        return static_cast<double>(to_float(value));
}

template <class T, std::size_t Rank>
QUANT_INLINE T& element(const tensor_view<T, Rank>& view, const std::array<std::size_t, Rank>& index) noexcept {
    std::size_t offset = 0;
    for (std::size_t d = 0; d < Rank; ++d) offset += index[d] * view.stride(d);
    return view.data()[offset];
}

/// Calls f(index) for every element of one slice, in row-major order.
template <std::size_t Rank, class F>
inline void for_each_of_slice(const slice_map<Rank>& map, const std::array<std::size_t, Rank>& extents,
                              std::size_t slice, F&& f) noexcept {
    std::array<std::size_t, Rank> first{}, last{};
    for (std::size_t d = 0; d < Rank; ++d) {
        last[d] = extents[d];
        if (map.stride[d] != 0) { // this dimension tells slices apart
            const std::size_t group = d == map.axis ? map.group_size : 1;
            const std::size_t groups = extents[d] / group + (extents[d] % group != 0 ? 1 : 0);
            first[d] = (slice / map.stride[d]) % groups * group;
            last[d] = extents[d] - first[d] < group ? extents[d] : first[d] + group;
        }
        if (first[d] == last[d]) return;
    }
    std::array<std::size_t, Rank> index = first;
    for (;;) {
        f(index);
        std::size_t d = Rank;
        while (d > 0 && ++index[d - 1] == last[d - 1]) {
            index[d - 1] = first[d - 1];
            --d;
        }
        if (d == 0) return;
    }
}

/// Two passes over one slice; value_of(index) is the quantized value of an element.
template <class T, std::size_t Rank, class ValueOf>
inline paired_moments moments_of_slice(const tensor_view<const T, Rank>& weights, const slice_map<Rank>& map,
                                       std::size_t slice, ValueOf&& value_of) noexcept {
    paired_moments m;
    double sum_w = 0, sum_q = 0;
    const auto finite = [](double w, double q) { return w - w == 0 && q - q == 0; };
    for_each_of_slice(map, weights.extents(), slice, [&](const std::array<std::size_t, Rank>& index) {
        const double w = as_double(element(weights, index));
        const double q = value_of(index);
        if (!finite(w, q)) return;
        ++m.count;
        sum_w += w;
        sum_q += q;
    });
    if (m.count == 0) return m;
    m.mean_w = sum_w / static_cast<double>(m.count);
    m.mean_q = sum_q / static_cast<double>(m.count);
    for_each_of_slice(map, weights.extents(), slice, [&](const std::array<std::size_t, Rank>& index) {
        const double w = as_double(element(weights, index));
        const double q = value_of(index);
        if (!finite(w, q)) return;
        const double from_mean_w = w - m.mean_w;
        const double from_mean_q = q - m.mean_q;
        m.squares_w += simd::rounded(from_mean_w * from_mean_w);
        m.squares_q += simd::rounded(from_mean_q * from_mean_q);
        m.products += simd::rounded(from_mean_w * from_mean_q);
    });
    return m;
}

template <class X>
concept real_tensor = viewable<X> && real_element<element_of_t<X>>;
template <class X>
concept code_tensor = viewable<X> && code_storage<element_of_t<X>>;

/// f(slice, moments) for every slice; quantized_value(index) as above.
template <class T, std::size_t Rank, class ValueOf>
inline status correct_slices(const tensor_view<const T, Rank>& weights, granularity channels,
                             std::span<channel_correction> corrections, correct how, ValueOf&& value_of) noexcept {
    const result<slice_map<Rank>> map = resolve(channels, weights.extents());
    if (!map) return map.status();
    if (corrections.size() != map->count) return {errc::shape_mismatch, "corrections"};
    for (std::size_t slice = 0; slice < map->count; ++slice)
        corrections[slice] = correction_of(moments_of_slice(weights, *map, slice, value_of), how);
    return {};
}

} // namespace bias_detail

/// Moments of all elements of one channel, for the corrections that have no enumerator.
/// w, q    same extents, any strides; real values. Pairs with a NaN or an infinity are left out.
/// Errors: shape_mismatch "q".  Exactness: deterministic, row-major order in double.  Cost: two passes, no allocation.
template <viewable W, viewable Q>
    requires bias_detail::real_tensor<const W> && bias_detail::real_tensor<const Q>
[[nodiscard]] inline result<paired_moments> measure_pair(const W& w, const Q& q) noexcept {
    const auto original = detail::view_const(w);
    const auto quantized = detail::view_const(q);
    static_assert(decltype(original)::rank == decltype(quantized)::rank,
                  "measure_pair: w and q must have the same rank");
    if (original.extents() != quantized.extents()) return status{errc::shape_mismatch, "q"};
    const slice_map<decltype(original)::rank> whole{};
    return bias_detail::moments_of_slice(original, whole, 0, [&](const auto& at) {
        return bias_detail::as_double(bias_detail::element(quantized, at));
    });
}

/// Gain and shift per slice from weights and their dequantized values, such that gain * dequantized + shift has the mean (and norm)
/// of the weights: equations (16) and (17).
/// weights      real values, any strides           dequantized  same extents, any strides
/// corrections  one per slice of `channels`, in slice order; per_axis(0) for the output channels of an OIHW tensor
/// Pairs with a NaN or an infinity are left out; an empty slice, or a constant quantized one, keeps gain 1.
/// Errors: shape_mismatch "dequantized" or "corrections", axis_out_of_range, invalid_group_size.
/// Exactness: deterministic, sums in double in row-major order.  Cost: two passes, no allocation.
template <viewable W, viewable Q>
    requires bias_detail::real_tensor<const W> && bias_detail::real_tensor<const Q>
[[nodiscard]] inline status bias_correction(const W& weights, const Q& dequantized,
                                            std::span<channel_correction> corrections, granularity channels,
                                            correct how = correct::mean) noexcept {
    const auto original = detail::view_const(weights);
    const auto quantized = detail::view_const(dequantized);
    static_assert(decltype(original)::rank == decltype(quantized)::rank,
                  "bias_correction: weights and dequantized must have the same rank");
    if (original.extents() != quantized.extents()) return {errc::shape_mismatch, "dequantized"};
    return bias_detail::correct_slices(original, channels, corrections, how, [&](const auto& at) {
        return bias_detail::as_double(bias_detail::element(quantized, at));
    });
}

/// The same from codes and their parameters; the dequantized value is dequantize_one(code, params), in float.
/// codes        same extents as weights             params  one per slice of `params_of`
/// corrections  one per slice of `channels`, which may differ from `params_of`: groups along a row and one correction per row
/// Errors: shape_mismatch "codes", "params" or "corrections", those of validate(params), axis_out_of_range, invalid_group_size.
template <viewable W, viewable C>
    requires bias_detail::real_tensor<const W> && bias_detail::code_tensor<const C>
[[nodiscard]] inline status bias_correction(const W& weights, const C& codes, std::span<const affine_params> params,
                                            granularity params_of, std::span<channel_correction> corrections,
                                            granularity channels, correct how = correct::mean) noexcept {
    const auto original = detail::view_const(weights);
    const auto coded = detail::view_const(codes);
    static_assert(decltype(original)::rank == decltype(coded)::rank,
                  "bias_correction: weights and codes must have the same rank");
    if (original.extents() != coded.extents()) return {errc::shape_mismatch, "codes"};
    const auto owner = resolve(params_of, original.extents());
    if (!owner) return owner.status();
    if (params.size() != owner->count) return {errc::shape_mismatch, "params"};
    for (const affine_params& p : params)
        if (const status s = validate(p); !s) return s;
    return bias_detail::correct_slices(original, channels, corrections, how, [&](const auto& at) {
        const std::int32_t code = bias_detail::element(coded, at);
        return static_cast<double>(dequantize_one(code, params[owner->slice_of(at)]));
    });
}

/// The same where parameters and corrections share one granularity.
template <viewable W, viewable C>
    requires bias_detail::real_tensor<const W> && bias_detail::code_tensor<const C>
[[nodiscard]] inline status bias_correction(const W& weights, const C& codes, std::span<const affine_params> params,
                                            std::span<channel_correction> corrections, granularity channels,
                                            correct how = correct::mean) noexcept {
    return bias_correction(weights, codes, params, channels, corrections, channels, how);
}

// ---- folding into an integer pipeline ---------------------------------------------------------------------------------
//
// With w_hat = a (q - z) + shift, a = gain * scale:     y_c = a_c * sum((q - z) x) + shift_c * sum(x) + bias_c          (19)
//
//   the gain    fold_gain               one rounding of the scale (2^-24), nothing at run time
//   the shift   add_shift               exact up to float rounding; needs sum(x) per output position, shared by all channels
//               fold_shift_into_bias    exact only where sum(x) equals its calibration mean, nothing at run time
//               fractional_zero_point   exact on engines whose zero point is a real number
// It cannot be folded into an integer zero point: |shift| is usually below half a step, so rounding would undo it.

/// The parameters whose scale includes the gain; afterwards w_hat = dequantized + shift.
/// Errors: invalid_scale when gain * scale is not within [2^-100, 2^100] (a gain of 0 or below, for example).
[[nodiscard]] inline result<affine_params> fold_gain(affine_params params, channel_correction correction) noexcept {
    params.scale = static_cast<float>(static_cast<double>(params.scale) * static_cast<double>(correction.gain));
    if (const status s = validate(params); !s) return s;
    return params;
}

/// The real zero point z' with scale' (q - z') = gain scale (q - z) + shift, scale' = gain scale: z - shift/(gain scale).
/// gain > 0. For engines that keep zero points in floating point.
[[nodiscard]] inline double fractional_zero_point(const affine_params& params, channel_correction correction) noexcept {
    const double step = static_cast<double>(params.scale) * static_cast<double>(correction.gain);
    return params.zero_point - static_cast<double>(correction.shift) / step;
}

/// Adds shift_c * input_scale * sum(x) to outputs that were computed without the shift, equation (19).
/// outputs      [C, P] real, any strides: C channels at P positions; P = 1 for a fully connected layer's single row
/// patch_sums   [P] or [C, P] (depthwise and grouped layers): the sum of the inputs a position sees, real or integer
///              (of x - zero_point where the inputs are codes, with input_scale their scale)
/// corrections  [C]
/// Errors: shape_mismatch "patch_sums" or "corrections".
/// Exactness: each term in double, one rounding to the output type. Cost: C P multiply-adds, the sums are the caller's.
template <destination Y, viewable S>
    requires bias_detail::real_tensor<std::remove_reference_t<Y>>
[[nodiscard]] inline status add_shift(Y&& outputs, const S& patch_sums, std::span<const channel_correction> corrections,
                                      float input_scale = 1) noexcept {
    const auto y = v0_1::view(outputs);
    const auto sums = detail::view_const(patch_sums);
    using sum_view = decltype(sums);
    using value = typename decltype(y)::value_type;
    static_assert(decltype(y)::rank == 2, "add_shift: outputs are channels by positions");
    static_assert(sum_view::rank == 1 || sum_view::rank == 2,
                  "add_shift: patch_sums are per position, or channels by positions");
    if (corrections.size() != y.extent(0)) return {errc::shape_mismatch, "corrections"};
    if (sums.extent(sum_view::rank - 1) != y.extent(1)) return {errc::shape_mismatch, "patch_sums"};
    if constexpr (sum_view::rank == 2)
        if (sums.extent(0) != y.extent(0)) return {errc::shape_mismatch, "patch_sums"};
    for (std::size_t c = 0; c < y.extent(0); ++c) {
        const double factor = static_cast<double>(corrections[c].shift) * static_cast<double>(input_scale);
        for (std::size_t p = 0; p < y.extent(1); ++p) {
            double sum = 0;
            if constexpr (sum_view::rank == 2)
                sum = static_cast<double>(sums(c, p));
            else
                sum = static_cast<double>(sums(p));
            const double corrected = bias_detail::as_double(y(c, p)) + factor * sum;
            if constexpr (std::same_as<value, double>)
                y(c, p) = corrected;
            else
                y(c, p) = from_float<value>(static_cast<float>(corrected));
        }
    }
    return {};
}

/// Adds shift_c * E[sum(x)] to the bias of each channel: approximate, exact where the sum of inputs equals its mean (a shift of
/// shift_c * (sum(x) - E[sum(x)]) remains in each output). Costs nothing at run time.
/// bias              [C] real                        corrections  [C]
/// mean_patch_sums   [1] or [C]: the calibration mean of the sum of the inputs that an output sees, real units
/// Errors: shape_mismatch "corrections" or "mean_patch_sums".
template <destination B, viewable S>
    requires bias_detail::real_tensor<std::remove_reference_t<B>>
[[nodiscard]] inline status fold_shift_into_bias(B&& bias, const S& mean_patch_sums,
                                                 std::span<const channel_correction> corrections) noexcept {
    const auto b = v0_1::view(bias);
    const auto sums = detail::view_const(mean_patch_sums);
    using value = typename decltype(b)::value_type;
    static_assert(decltype(b)::rank == 1 && decltype(sums)::rank == 1,
                  "fold_shift_into_bias: bias and sums have rank 1");
    if (corrections.size() != b.size()) return {errc::shape_mismatch, "corrections"};
    if (sums.size() != 1 && sums.size() != b.size()) return {errc::shape_mismatch, "mean_patch_sums"};
    for (std::size_t c = 0; c < b.size(); ++c) {
        const double sum = static_cast<double>(sums(sums.size() == 1 ? 0 : c));
        const double folded = bias_detail::as_double(b(c)) + static_cast<double>(corrections[c].shift) * sum;
        if constexpr (std::same_as<value, double>)
            b(c) = folded;
        else
            b(c) = from_float<value>(static_cast<float>(folded));
    }
    return {};
}

QUANT_END_TARGET
