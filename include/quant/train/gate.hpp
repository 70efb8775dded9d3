// SPDX-License-Identifier: MIT
#pragma once
// Soft switches: sigmoid(temperature * logit) and its slope over whole tensors. Layer 5 (train).
//
//   if (auto s = quant::gates(logits, values, beta); !s) return s;                // values = sigma(beta * logits)
//   if (auto s = quant::gates(logits, values, slopes, beta); !s) return s;        // and sigma'(beta * logits)
//
// The derivative by the logit is temperature * slope. At infinite temperature a gate is 1 for logits >= 0 and 0 below.

#include <concepts>
#include <cstddef>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/exponential.hpp>
#include <quant/train/schedule.hpp>

QUANT_BEGIN_TARGET

/// Element types that can be trained: double is for checking gradients.
template <class T>
concept trainable = std::same_as<T, float> || std::same_as<T, double>;

namespace train_detail {

/// The elements of a tensor that must be dense and have n elements.
template <class View> [[nodiscard]] inline status check_dense(const View& v, std::size_t n, const char* name) noexcept {
    if (v.size() != n) return {errc::shape_mismatch, name};
    if (!v.is_contiguous()) return {errc::invalid_stride, name};
    return {};
}

} // namespace train_detail

/// Gates of logits, and their slopes: sigma(beta m) and sigma'(beta m), sigma' = sigma (1 - sigma).
/// logits  any rank, dense          values, slopes  same number of elements, dense; may be the logits
/// Errors: invalid_argument "temperature" (not positive and finite), shape_mismatch, invalid_stride; nothing is written then.
/// Exactness: the same bytes on every architecture; 3 ulp (values) and 5 ulp (slopes) of sigma(beta m), beta m rounded once. Where
/// |beta m| > 87 (float), 708 (double): exactly 0 or 1 and slope 0. NaN gives NaN. Complexity: one pass.
template <viewable Logits, destination Values, destination Slopes>
    requires(trainable<element_of_t<Logits>>&& std::same_as<element_of_t<Logits>, element_of_t<Values>>&&
                 std::same_as<element_of_t<Logits>, element_of_t<Slopes>>)
[[nodiscard]] inline status gates(const Logits& logits, Values&& values, Slopes&& slopes, double temperature) noexcept {
    using T = element_of_t<Logits>;
    const auto m = v0_1::view(logits);
    const auto g = v0_1::view(values);
    const auto d = v0_1::view(slopes);
    if (const status s = validate_temperature(temperature); !s) return s;
    if (const status s = train_detail::check_dense(m, m.size(), "logits"); !s) return s;
    if (const status s = train_detail::check_dense(g, m.size(), "values"); !s) return s;
    if (const status s = train_detail::check_dense(d, m.size(), "slopes"); !s) return s;
    simd::gates<T>(m.data(), g.data(), d.data(), m.size(), static_cast<T>(temperature));
    return {};
}
/// The gates alone.
template <viewable Logits, destination Values>
    requires(trainable<element_of_t<Logits>>&& std::same_as<element_of_t<Logits>, element_of_t<Values>>)
[[nodiscard]] inline status gates(const Logits& logits, Values&& values, double temperature) noexcept {
    using T = element_of_t<Logits>;
    const auto m = v0_1::view(logits);
    const auto g = v0_1::view(values);
    if (const status s = validate_temperature(temperature); !s) return s;
    if (const status s = train_detail::check_dense(m, m.size(), "logits"); !s) return s;
    if (const status s = train_detail::check_dense(g, m.size(), "values"); !s) return s;
    simd::gates<T>(m.data(), g.data(), nullptr, m.size(), static_cast<T>(temperature));
    return {};
}

QUANT_END_TARGET
