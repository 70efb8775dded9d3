// SPDX-License-Identifier: MIT
#pragma once
// Empirical clipping, ACIQ's equation solved on the data, in one pass for any number of formats. Layer 3 (calibrate).
//
//   std::array<quant::clip_range, 3> ranges;
//   const std::array formats{quant::int2, quant::int4, quant::int8};
//   if (auto s = quant::clip_empirical(weights, formats, ranges); !s) return s;
//
// A histogram of the tensor says where the answer lies, to a small part of a bin; one pass over the data then adds up what is
// beyond that interval, collects what is in it, and the equation is solved on these. The answer is that of
// quant::aciq(...).clip_empirical on the data, which takes 7 to 14 passes for each format.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/clipping.hpp>
#include <quant/calibrate/exact_sum.hpp>
#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/statistics_summary.hpp>
#include <span>

QUANT_BEGIN_TARGET
namespace detail {

/// The statistics that the empirical recursion looks at.
template <std::size_t Bins>
inline tensor_statistics statistics_of(const histogram_observer<Bins>& h, statistics taken) noexcept {
    tensor_statistics out;
    out.count = h.count();
    out.non_finite = h.non_finite();
    for (std::size_t b = Bins / 2; b < Bins; ++b) out.positive += h[b];
    out.positive -= h.zeros();
    if (out.count != 0) {
        out.min = static_cast<double>(h.state().min);
        out.max = static_cast<double>(h.state().max);
    }
    out.taken = taken;
    return out;
}

/// One format's search: where the answer must lie, and what the data have there.
struct empirical_search {
    aciq_detail::empirical_case found;
    simd::tail_side side = simd::tail_side::magnitude;
    double lo = 0; ///< in real units
    double hi = 0;
    exact_sum sum; ///< beyond hi
    std::uint64_t count = 0;
    simd::element_window window; ///< of (lo, hi]

    /// The interval around the answer of the histogram: wider than what the places of the elements inside their bins can
    /// move it by (8 standard deviations of as many evenly spread ones as lie beyond, and the slope of the density).
    template <std::size_t Bins>
    void locate(const excess_table<Bins>& below, const excess_table<Bins>& above, double width) noexcept {
        const bool both = side == simd::tail_side::magnitude;
        const auto excess = [&](double b) noexcept { return above(b) + (both ? below(b) : 0.0); };
        constexpr std::size_t half = Bins / 2;
        double left = 0, right = static_cast<double>(half);
        for (int i = 0; i < 48; ++i) { // excess(b) falls, weight * b rises
            const double middle = 0.5 * (left + right);
            (excess(middle) > found.weight * middle ? left : right) = middle;
        }
        const double around[3] = {excess(left - 1.0), excess(left), excess(left + 1.0)};
        const double beyond = 0.5 * (around[0] - around[2]);
        const double inside = around[0] - around[1] - (around[1] - around[2]);
        const double reach = (8.0 * std::sqrt(beyond / 12.0 + 1.0) + inside / 6.0) / (found.weight + beyond);
        lo = left > reach ? (left - reach) * width : 0.0;
        hi = (left + reach) * width;
    }

    void take_in(const float* p, std::size_t n) noexcept {
        const simd::block_tail tile = simd::tail_and_window(p, n, lo, hi, side, window);
        if (tile.count == 0) return;
        sum.add(tile.sum);
        count += tile.count;
    }

    /// The clip; `tail` passes over the data where the interval missed it or holds more elements than were kept.
    template <class Tail> [[nodiscard]] double solve(const Tail& tail) const noexcept {
        const double beyond = sum.to_double();
        const auto number = static_cast<double>(count);
        const auto known = [&](double alpha) noexcept {
            tail_total total{beyond, number};
            for (std::uint32_t i = 0; i < window.count; ++i) {
                const auto v = static_cast<double>(window.value[i]);
                total.sum += v > alpha ? v : 0.0;
                total.count += v > alpha ? 1.0 : 0.0;
            }
            return total;
        };
        const double from_hi = beyond / (found.weight + number); // a step of the recursion: not beyond the answer
        if (window.count <= simd::element_window::room && from_hi <= hi) {
            const tail_total at_lo = known(lo);
            if (at_lo.sum / (found.weight + at_lo.count) >= lo)
                return aciq_math::empirical_alpha(known, found.weight, 64, lo);
        }
        return aciq_math::empirical_alpha(tail, found.weight, 64, from_hi);
    }
};

} // namespace detail

/// The ranges of several formats without any prior, on the data: those of quant::aciq(...).clip_empirical(statistics, format,
/// empirical_tail(x, format, taken)), the clip to a relative 1e-12.
/// x          any layout and real element type
/// histogram  has observed the elements of x and no others
/// ranges     one per format
/// taken      where x stands relative to the ReLU that follows; unsigned formats must know
/// Cost: one pass over x picks the elements beyond the smallest limit, and every format looks at those; where values repeat so
/// often that an interval holds more than 256 elements, a few passes more for that format. 22 KB of stack beside two tables
/// of 4 * Bins bytes. Deterministic. Errors: shape_mismatch "ranges", and those of clip_empirical for any of the formats.
template <class X, std::size_t Bins>
    requires detail::real_viewable<X>
inline status clip_empirical(const X& x, const histogram_observer<Bins>& histogram,
                             std::span<const code_format> formats, std::span<clip_range> ranges,
                             statistics taken = statistics::unspecified) noexcept {
    static_assert(Bins <= 8192, "clip_empirical: tables on the stack; use a histogram of at most 8192 bins");
    if (formats.size() != ranges.size()) return {errc::shape_mismatch, "ranges"};
    const tensor_statistics data = detail::statistics_of(histogram, taken);
    const detail::excess_table<Bins> below(histogram, false), above(histogram, true);
    const auto v = detail::view_const(x);
    constexpr std::size_t at_once = 8;
    for (std::size_t first = 0; first < formats.size(); first += at_once) {
        const std::size_t count = formats.size() - first < at_once ? formats.size() - first : at_once;
        detail::empirical_search search[at_once];
        double least = std::numeric_limits<double>::infinity(); // lower limit of them all
        for (std::size_t k = 0; k < count; ++k) {
            const auto found = aciq_detail::empirical_case_of(data, formats[first + k]);
            if (!found) return found.status();
            search[k].found = *found;
            if (!(found->weight > 0)) continue;
            search[k].side = tail_side_for(formats[first + k], taken);
            search[k].locate(below, above, histogram.width());
            if (search[k].lo < least) least = search[k].lo;
        }
        const bool any = least < std::numeric_limits<double>::infinity();
        constexpr std::size_t enough = 2 * simd::tile_size;
        float beyond[enough + simd::tile_size + simd::virtual_lanes];
        std::size_t size = 0;
        const auto take_in = [&]() noexcept {
            for (std::size_t k = 0; k < count; ++k)
                if (search[k].found.weight > 0) search[k].take_in(beyond, size);
            size = 0;
        };
        if (any)
            simd::for_each_tile(v, [&](const float* p, std::size_t n) {
                size += simd::select_beyond(p, n, least, beyond + size);
                if (size > enough) take_in();
            });
        take_in();
        for (std::size_t k = 0; k < count; ++k) {
            const code_format format = formats[first + k];
            double alpha = 0;
            if (search[k].found.weight > 0) alpha = search[k].solve(empirical_tail(v, format, taken));
            ranges[first + k] = aciq_detail::empirical_range(alpha, search[k].found, data, format);
        }
    }
    return {};
}
/// The same with a histogram of its own: one pass more.
template <class X>
    requires detail::real_viewable<X>
inline status clip_empirical(const X& x, std::span<const code_format> formats, std::span<clip_range> ranges,
                             statistics taken = statistics::unspecified) noexcept {
    histogram_observer<> histogram;
    histogram.observe(x);
    return clip_empirical(x, histogram, formats, ranges, taken);
}
/// The range of one format.
template <class X>
    requires detail::real_viewable<X>
[[nodiscard]] inline result<clip_range> clip_empirical(const X& x, code_format format,
                                                       statistics taken = statistics::unspecified) noexcept {
    clip_range range;
    if (const status s =
            clip_empirical(x, std::span<const code_format>(&format, 1), std::span<clip_range>(&range, 1), taken);
        !s)
        return s;
    return range;
}

QUANT_END_TARGET
