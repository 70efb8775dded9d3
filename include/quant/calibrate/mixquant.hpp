// SPDX-License-Identifier: MIT
#pragma once
// A width per layer from round-off error alone: the narrowest whose error is within a multiple of the error at a reference width; with
// siblings for absolute errors and for a budget. Layer 3 (calibrate).
//
//   const std::array<std::uint8_t, 7> bits{2, 3, 4, 5, 6, 7, 8};
//   std::vector<double> errors(layers * bits.size());
//   std::vector<std::uint8_t> widths(layers);
//   if (auto s = quant::mixquant_search(weights, bits, widths, errors, {.multiplier = 20}); !s) return s;
//
// E_l(b) is the mean squared error of layer l quantized with b bits; MixQuant takes
//
//   min { b : E_l(b) <= m E_l(reference) + tol },   tol = (4 2^-24 max |w|)^2                                      (30)
//
// E need not fall with b, so all widths are looked at. Errors relative to the layer's own say nothing about what the layer means to the
// loss, and an outlier that sets the scale makes all narrow widths equally bad, hence equally good: docs/mixed_precision.md.
// Idea: MixQuant, arXiv 2309.17341; only its abstract could be read, and rule (30) is reconstructed from it.

#include <cstddef>
#include <cstdint>
#include <quant/calibrate/allocation.hpp>
#include <quant/calibrate/exact_sum.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// The quantizer whose error is looked at, and the rule.
struct mixquant_options {
    double multiplier = 1;           ///< m, 1 or more
    std::uint8_t reference_bits = 0; ///< one of the widths; 0: the widest
    mapping map = mapping::affine;   ///< unsigned codes with a zero point; symmetric: signed, without the lowest code
    granularity unit = per_tensor; ///< or per_axis: a scale per channel; errors are averaged over elements all the same
};

/// What quantizing a tensor at one width does to it.
struct round_off {
    double mse = 0;       ///< mean of (w - w^)^2
    double magnitude = 0; ///< max |w|
    std::uint64_t count = 0;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// The least and the largest element, and squared error at one width, of a slice with one scale.
template <class Arch, class View>
inline status round_off_of(const View& slice, code_format format, mapping map, exact_square_sum& sum,
                           round_off& out) noexcept {
    simd::block_extremes all;
    simd::for_each_run(slice, [&](const float* p, std::size_t n) {
        const simd::block_extremes run = simd::extremes<Arch>(p, n);
        if (run.count > 0) {
            all.min = all.count == 0 || run.min < all.min ? run.min : all.min;
            all.max = all.count == 0 || run.max > all.max ? run.max : all.max;
        }
        all.count += run.count;
        all.non_finite += run.non_finite;
    });
    if (all.non_finite != 0) return {errc::non_finite, "w"};
    if (all.count == 0) return {};
    const double lo = static_cast<double>(all.min), hi = static_cast<double>(all.max);
    const auto params = choose_params({lo, hi}, format, map);
    if (!params) return {params.status().code, "w"};
    const double magnitude = -lo > hi ? -lo : hi;
    out.magnitude = magnitude > out.magnitude ? magnitude : out.magnitude;
    out.count += all.count;
    float restored[simd::tile_size];
    simd::for_each_tile(slice, [&](const float* p, std::size_t n) {
        simd::fake_quant<Arch>(p, restored, n, simd::uniform_params{*params});
        sum.add(simd::error_sums<Arch>(p, restored, n).squared_error);
    });
    return {};
}

template <class Arch, class View>
inline result<round_off> round_off_error(const View& w, std::uint8_t bits, mapping map, granularity g) noexcept {
    const bool symmetric = map == mapping::symmetric;
    const code_format format{bits, symmetric, symmetric};
    if (const status s = validate(format); !s) return status{s.code, "bits"};
    if (g.unit == granularity::kind::group) return status{errc::invalid_argument, "unit"};
    round_off out;
    exact_square_sum sum;
    if (g.unit == granularity::kind::tensor) {
        if (const status s = round_off_of<Arch>(w, format, map, sum, out); !s) return s;
    } else {
        const auto slices = resolve(g, w.extents());
        if (!slices) return slices.status();
        for (std::size_t c = 0; c < slices->count; ++c)
            if (const status s = round_off_of<Arch>(w.subview(slices->axis, c, 1), format, map, sum, out); !s) return s;
    }
    if (out.count == 0) return status{errc::no_data, "w"};
    out.mse = sum.to_double() / static_cast<double>(out.count);
    return out;
}

} // namespace detail

/// Mean squared error of a tensor quantized between its extremes at one width, each value rounded to the nearest, ties to even.
/// bits  1 to 8 or 16 (2 or more with mapping::symmetric)     g  per_tensor or per_axis; for groups give a view whose rows they are
/// Errors: non_finite "w", no_data "w", scale_out_of_range "w", bits_out_of_range "bits", axis_out_of_range, invalid_argument "unit".
/// Exactness: bit-exact, an exact sum of block sums. Cost: two passes, no allocation.
template <class X>
    requires detail::real_viewable<X>
[[nodiscard]] inline result<round_off> round_off_error(const X& w, std::uint8_t bits, mapping map = mapping::affine,
                                                       granularity g = per_tensor) noexcept {
    return detail::round_off_error<simd::native_division>(detail::view_const(w), bits, map, g);
}

/// E of one layer at each of `bits`. errors  [bits] receives them. Returns tol of equation (30).
/// Errors: shape_mismatch "errors", those of round_off_error. Cost: two passes per width.
template <class X>
    requires detail::real_viewable<X>
[[nodiscard]] inline result<double> round_off_errors(const X& w, std::span<const std::uint8_t> bits,
                                                     std::span<double> errors, mapping map = mapping::affine,
                                                     granularity g = per_tensor) noexcept {
    if (errors.size() != bits.size()) return status{errc::shape_mismatch, "errors"};
    double tolerance = 0;
    for (std::size_t b = 0; b < bits.size(); ++b) {
        const auto e = round_off_error(w, bits[b], map, g);
        if (!e) return e.status();
        errors[b] = e->mse;
        const double rounding = 4 * 0x1p-24 * e->magnitude;
        tolerance = rounding * rounding;
    }
    return tolerance;
}

/// The narrowest of `bits` with an error of at most `most`: an absolute bound on one layer's error. Widths in any order.
/// Errors: shape_mismatch "errors"; budget_infeasible "most" (no width is good enough); non_finite "errors" (NaN).
[[nodiscard]] inline result<std::uint8_t> mixquant_within(std::span<const double> errors,
                                                          std::span<const std::uint8_t> bits, double most) noexcept {
    if (errors.size() != bits.size()) return status{errc::shape_mismatch, "errors"};
    bool found = false;
    std::uint8_t best = 0;
    for (std::size_t b = 0; b < bits.size(); ++b) {
        if (errors[b] != errors[b]) return status{errc::non_finite, "errors"};
        if (errors[b] <= most && (!found || bits[b] < best)) {
            best = bits[b];
            found = true;
        }
    }
    if (!found) return status{errc::budget_infeasible, "most"};
    return best;
}

/// MixQuant's rule (30) on one layer's errors, which may come from any quantizer.
/// errors  [bits]      multiplier  m >= 1      tolerance  tol, 0 or more      reference_bits  one of `bits`; 0: the widest
/// Errors: shape_mismatch "errors"; invalid_argument "multiplier", "tolerance" or "reference_bits"; no_data "bits"; non_finite "errors".
[[nodiscard]] inline result<std::uint8_t> mixquant_bits(std::span<const double> errors,
                                                        std::span<const std::uint8_t> bits, double multiplier,
                                                        double tolerance, std::uint8_t reference_bits = 0) noexcept {
    if (errors.size() != bits.size()) return status{errc::shape_mismatch, "errors"};
    if (bits.empty()) return status{errc::no_data, "bits"};
    if (!(multiplier >= 1)) return status{errc::invalid_argument, "multiplier"};
    if (!(tolerance >= 0)) return status{errc::invalid_argument, "tolerance"};
    bool found = false;
    std::size_t reference = 0;
    for (std::size_t b = 0; b < bits.size(); ++b)
        if (reference_bits == 0 ? !found || bits[b] > bits[reference] : bits[b] == reference_bits) {
            reference = b;
            found = true;
        }
    if (!found) return status{errc::invalid_argument, "reference_bits"};
    const double error = errors[reference]; // an infinite multiplier lets everything through, also where this is 0
    return mixquant_within(errors, bits, error > 0 ? simd::rounded(multiplier * error) + tolerance : tolerance);
}

/// MixQuant on a list of layers.
/// weights   [layers] elements of each layer       bits    candidates, in any order
/// widths    [layers] receives a width each         errors  [layers, bits] receives E, for the siblings and for reports
/// Layers without elements get the narrowest width and errors of 0. options.unit: per_tensor (a list has no channels; for scales per
/// channel fill `errors` by round_off_errors and call mixquant_bits).
/// Errors: shape_mismatch "widths" or "errors"; those of round_off_error and mixquant_bits. Cost: two passes per layer and width;
/// layers are independent.
[[nodiscard]] inline status mixquant_search(std::span<const std::span<const float>> weights,
                                            std::span<const std::uint8_t> bits, std::span<std::uint8_t> widths,
                                            std::span<double> errors, const mixquant_options& options = {}) noexcept {
    if (widths.size() != weights.size()) return {errc::shape_mismatch, "widths"};
    if (errors.size() != weights.size() * bits.size()) return {errc::shape_mismatch, "errors"};
    if (options.unit.unit != granularity::kind::tensor) return {errc::invalid_argument, "options.unit"};
    for (std::size_t l = 0; l < weights.size(); ++l) {
        const std::span<double> row = errors.subspan(l * bits.size(), bits.size());
        double tolerance = 0;
        if (weights[l].empty()) {
            for (double& e : row) e = 0;
        } else {
            const auto found = round_off_errors(weights[l], bits, row, options.map);
            if (!found) return found.status();
            tolerance = *found;
        }
        const auto width = mixquant_bits(row, bits, options.multiplier, tolerance, options.reference_bits);
        if (!width) return width.status();
        widths[l] = *width;
    }
    return {};
}

/// What a budget of bits is spent to make small.
enum class mixquant_objective : std::uint8_t {
    summed_error, ///< N_l E_l: the squared error of all weights
    mean_error,   ///< E_l: every layer counts the same, whatever its size
};

/// The widths of least error within a budget: E into allocate_exact.
/// errors    [layers, bits] E                 elements  [layers] N_l       total_bits  of all layers together
/// widths    [layers] receives the widths     loss, cost  [layers, bits] scratch
/// workspace allocate_exact_workspace_size(layers, bits, cells) bytes
/// Errors: shape_mismatch "widths", "errors", "loss" or "cost"; invalid_argument "elements" (above 2^54); those of allocate_exact
/// (budget_infeasible "budget": the narrowest widths need more).
[[nodiscard]] inline result<allocation>
mixquant_budget(std::span<const double> errors, std::span<const std::uint64_t> elements,
                std::span<const std::uint8_t> bits, std::uint64_t total_bits, std::span<std::uint8_t> widths,
                std::span<double> loss, std::span<std::uint64_t> cost, std::span<std::byte> workspace,
                mixquant_objective objective = mixquant_objective::summed_error) noexcept {
    const std::size_t layers = elements.size(), options = bits.size();
    if (widths.size() != layers) return status{errc::shape_mismatch, "widths"};
    if (errors.size() != layers * options) return status{errc::shape_mismatch, "errors"};
    if (loss.size() != layers * options) return status{errc::shape_mismatch, "loss"};
    if (const status s = size_costs(elements, bits, cost); !s) return s;
    for (std::size_t l = 0; l < layers; ++l)
        for (std::size_t b = 0; b < options; ++b)
            loss[l * options + b] =
                errors[l * options + b] *
                (objective == mixquant_objective::summed_error ? static_cast<double>(elements[l]) : 1.0);
    const auto found = allocate_exact({loss, cost, layers, options}, total_bits, widths, workspace);
    if (!found) return found;
    for (std::uint8_t& w : widths) w = bits[w];
    return found;
}

QUANT_END_TARGET
