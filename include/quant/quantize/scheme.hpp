// SPDX-License-Identifier: MIT
#pragma once
// A quantizer as a value: parts joined with |, in any order. Layer 4 (quantize).
//
//   constexpr auto scheme = quant::int4 | quant::per_axis(0) | quant::aciq(quant::prior::laplace) | quant::bias_corrected;
//
//   part                              says                                     when it is left out
//   int2 … int8, uint4, int4.narrow() the code format                          int8
//   per_tensor, per_axis, per_group   which elements share parameters          per_tensor
//   minmax, percentile(99.9), mse_optimal, entropy, aciq(prior, mode)
//                                     how the range is clipped                 minmax
//   mapping::symmetric | affine       where zero sits                          symmetric if signed, affine if unsigned
//   average_bits(4, {2, 8}), bits(w)  a width per slice                        the format's width everywhere
//   bias_corrected, bias_corrected(correct::mean_and_norm)
//                                     gain and shift per slice                 none
//   bit_sparsified(3)                the most magnitude planes codes may use  all
//   rounding::half_away, stochastic(seed), scale_by::reciprocal                nearest even, division
//   statistics::before_relu | after_relu                                       unspecified
//
// The same part twice, or two parts that contradict each other, do not compile; the message says which two and why.

#include <concepts>
#include <cstdint>
#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/bias_correction.hpp>
#include <quant/calibrate/clipping.hpp>
#include <quant/core/code_format.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/options.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET

/// A width per slice, chosen so that the mean over all elements does not exceed `mean` (optimal integer allocation).
struct average_bits_part {
    float mean = 4;
    std::uint8_t min_bits = 2;
    std::uint8_t max_bits = 8;
};
/// Allowed widths of average_bits: 1 <= min <= max <= 8.
struct bits_between {
    std::uint8_t min = 2;
    std::uint8_t max = 8;
};
/// Scheme part: widths per slice for a mean of `mean` bits per element.
[[nodiscard]] constexpr average_bits_part average_bits(float mean, bits_between allowed = {}) noexcept {
    return {mean, allowed.min, allowed.max};
}

/// Widths given by the caller, one per slice. The span must outlive the scheme.
struct bits_part {
    std::span<const std::uint8_t> widths;
};
/// Scheme part: the width of each slice, in slice order.
[[nodiscard]] constexpr bits_part bits(std::span<const std::uint8_t> widths) noexcept { return {widths}; }

/// Stochastic rounding with its seed.
struct stochastic_part {
    std::uint64_t seed = 0;
    std::uint64_t stream = 0;
    std::uint64_t first_index = 0;
};
/// Scheme part: stochastic rounding; equal seeds give equal codes whatever the vector width or number of threads.
/// first_index   row-major number of the first element, where the tensor in hand is a part of a larger one
[[nodiscard]] constexpr stochastic_part stochastic(std::uint64_t seed, std::uint64_t stream = 0,
                                                   std::uint64_t first_index = 0) noexcept {
    return {seed, stream, first_index};
}

/// Bias correction; `bias_corrected` itself restores the mean, bias_corrected(correct::mean_and_norm) the norm as well.
struct bias_corrected_part {
    correct what = correct::mean;
    [[nodiscard]] constexpr bias_corrected_part operator()(correct kind) const noexcept { return {kind}; }
};
inline constexpr bias_corrected_part bias_corrected{};

/// The most magnitude bits that codes use.
struct bit_sparsified_part {
    std::uint8_t max_planes = 8;
};
/// Scheme part: after quantizing, the codes keep the `max_planes` magnitude planes that cost the least error (prune_planes), the
/// same ones in the whole tensor; pack_bit_planes then stores no others. Codes of up to 8 bits with zero points 0. A bias
/// correction sees the pruned codes.
[[nodiscard]] constexpr bit_sparsified_part bit_sparsified(std::uint8_t max_planes) noexcept { return {max_planes}; }

namespace detail {

/// What a part decides; two parts of one kind contradict each other.
enum class part_kind : std::uint8_t {
    none,
    format,
    granularity,
    mapping,
    rounding,
    scale_by,
    clipping,
    width,
    correction,
    statistics,
    sparsity
};

template <class T> inline constexpr part_kind kind_of = part_kind::none;
template <> inline constexpr part_kind kind_of<code_format> = part_kind::format;
template <> inline constexpr part_kind kind_of<granularity> = part_kind::granularity;
template <> inline constexpr part_kind kind_of<mapping> = part_kind::mapping;
template <> inline constexpr part_kind kind_of<rounding> = part_kind::rounding;
template <> inline constexpr part_kind kind_of<stochastic_part> = part_kind::rounding;
template <> inline constexpr part_kind kind_of<scale_by> = part_kind::scale_by;
template <> inline constexpr part_kind kind_of<minmax_clipping> = part_kind::clipping;
template <> inline constexpr part_kind kind_of<percentile_clipping> = part_kind::clipping;
template <> inline constexpr part_kind kind_of<mse_clipping> = part_kind::clipping;
template <> inline constexpr part_kind kind_of<entropy_clipping> = part_kind::clipping;
template <> inline constexpr part_kind kind_of<aciq_clipping> = part_kind::clipping;
template <> inline constexpr part_kind kind_of<average_bits_part> = part_kind::width;
template <> inline constexpr part_kind kind_of<bits_part> = part_kind::width;
template <> inline constexpr part_kind kind_of<bias_corrected_part> = part_kind::correction;
template <> inline constexpr part_kind kind_of<statistics> = part_kind::statistics;
template <> inline constexpr part_kind kind_of<bit_sparsified_part> = part_kind::sparsity;

template <class T> struct part_holder { T value; };

} // namespace detail

/// A single part of a scheme.
template <class T>
concept scheme_part = detail::kind_of<std::remove_cvref_t<T>>
!= detail::part_kind::none;

/// A set of parts, at most one of each kind. Plain data.
template <scheme_part... Parts> struct scheme : detail::part_holder<Parts>... {
    template <detail::part_kind Kind> static constexpr bool has = ((detail::kind_of<Parts> == Kind) || ...);

    /// Calls f with the part of the given kind, if there is one.
    template <detail::part_kind Kind, class F> constexpr void with(F f) const noexcept {
        (
            [&] {
                if constexpr (detail::kind_of<Parts> == Kind)
                    f(static_cast<const detail::part_holder<Parts>&>(*this).value);
            }(),
            ...);
    }
};

namespace detail {

template <class T> inline constexpr bool is_scheme = false;
template <class... Parts> inline constexpr bool is_scheme<scheme<Parts...>> = true;

template <class T>
concept scheme_operand = scheme_part<T> || is_scheme<std::remove_cvref_t<T>>;

template <class... Left, class Right>
[[nodiscard]] constexpr scheme<Left..., Right> append(const scheme<Left...>& left, const Right& right) noexcept {
    using S = scheme<Left...>;
    constexpr part_kind kind = kind_of<Right>;
    static_assert(
        kind != part_kind::format || !S::template has<part_kind::format>,
        "quant scheme: two code formats; a scheme produces one kind of code (use bits(...) for a width per slice)");
    static_assert(
        kind != part_kind::granularity || !S::template has<part_kind::granularity>,
        "quant scheme: two granularities (per_tensor, per_axis, per_group); elements share parameters in one way only");
    static_assert(
        kind != part_kind::mapping || !S::template has<part_kind::mapping>,
        "quant scheme: two mappings; zero is either in the middle (symmetric) or where the range puts it (affine)");
    static_assert(kind != part_kind::rounding || !S::template has<part_kind::rounding>,
                  "quant scheme: two roundings; a quotient is rounded once");
    static_assert(kind != part_kind::scale_by || !S::template has<part_kind::scale_by>,
                  "quant scheme: both scale_by::division and scale_by::reciprocal, or one of them twice");
    static_assert(
        kind != part_kind::clipping || !S::template has<part_kind::clipping>,
        "quant scheme: two clippings (minmax, percentile, mse_optimal, entropy, aciq); one range is chosen once");
    static_assert(
        kind != part_kind::width || !S::template has<part_kind::width>,
        "quant scheme: average_bits and bits together, or one of them twice; widths are either chosen or given");
    static_assert(kind != part_kind::correction || !S::template has<part_kind::correction>,
                  "quant scheme: two bias corrections; the second would correct the first");
    static_assert(kind != part_kind::statistics || !S::template has<part_kind::statistics>,
                  "quant scheme: statistics given twice; they were taken either before or after the ReLU");
    static_assert(kind != part_kind::sparsity || !S::template has<part_kind::sparsity>,
                  "quant scheme: bit_sparsified twice; one number of planes is the most");
    return {static_cast<const part_holder<Left>&>(left)..., part_holder<Right>{right}};
}

template <class T> [[nodiscard]] constexpr auto as_scheme(const T& operand) noexcept {
    if constexpr (is_scheme<T>)
        return operand;
    else
        return scheme<T>{part_holder<T>{operand}};
}

template <class Left> [[nodiscard]] constexpr auto append_all(const Left& left) noexcept { return left; }
template <class Left, class Part, class... Rest>
[[nodiscard]] constexpr auto append_all(const Left& left, const Part& part, const Rest&... rest) noexcept {
    return append_all(append(left, part), rest...);
}

template <class Left, class... Right>
[[nodiscard]] constexpr auto join(const Left& left, [[maybe_unused]] const scheme<Right...>& right) noexcept {
    return append_all(left, static_cast<const part_holder<Right>&>(right).value...);
}

} // namespace detail

/// Joins parts and schemes. Order does not matter for the result.
template <detail::scheme_operand Left, detail::scheme_operand Right>
[[nodiscard]] constexpr auto operator|(const Left& left, const Right& right) noexcept {
    return detail::join(detail::as_scheme(left), detail::as_scheme(right));
}

QUANT_END_TARGET
