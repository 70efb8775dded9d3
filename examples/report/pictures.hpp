// SPDX-License-Identifier: MIT
#pragma once
// From the library's histograms and parameters to what a page draws.

#include "page.hpp"

#include <algorithm>
#include <cmath>
#include <quant/calibrate/histogram.hpp>
#include <quant/core/params.hpp>
#include <span>
#include <tuple>
#include <utility>

namespace quant_report {

namespace detail {

/// First and last bin that holds anything, as multiples of `width`; empty if none does.
template <std::size_t Bins>
std::optional<std::pair<std::int64_t, std::int64_t>> occupied(const quant::histogram_observer<Bins>& h, double width) {
    std::optional<std::pair<std::int64_t, std::int64_t>> out;
    for (std::size_t b = 0; b < Bins; ++b) {
        if (h[b] != 0) {
            const auto place = static_cast<std::int64_t>(std::floor(h.edge(b) / width));
            out = {out ? out->first : place, place};
        }
    }
    return out;
}

template <std::size_t Bins>
histogram merged_bins(const quant::histogram_observer<Bins>& h, double width, std::int64_t first, std::int64_t last) {
    const auto merge = (last - first) / static_cast<std::int64_t>(max_bins) + 1;
    histogram out;
    out.first = static_cast<double>(first) * width;
    out.width = static_cast<double>(merge) * width;
    out.counts.resize(static_cast<std::size_t>((last - first) / merge + 1));
    for (std::size_t b = 0; b < Bins; ++b) {
        if (h[b] != 0) {
            const auto place = static_cast<std::int64_t>(std::floor(h.edge(b) / width));
            out.counts[static_cast<std::size_t>((place - first) / merge)] += h[b];
        }
    }
    return out;
}

} // namespace detail

/// What was observed in at most max_bins bins; empty if nothing finite was.
template <std::size_t Bins> [[nodiscard]] std::optional<picture> draw(const quant::histogram_observer<Bins>& values) {
    const auto seen = detail::occupied(values, values.width());
    if (!seen) {
        return std::nullopt;
    }
    return picture{detail::merged_bins(values, values.width(), seen->first, seen->second)};
}

/// Two tensors in the same bins.
template <std::size_t Bins>
[[nodiscard]] std::optional<picture> draw(const quant::histogram_observer<Bins>& values,
                                          const quant::histogram_observer<Bins>& others) {
    const double width = std::max(values.width(), others.width());
    const auto a = detail::occupied(values, width), b = detail::occupied(others, width);
    if (!a || !b) {
        return a ? draw(values) : b ? draw(others) : std::nullopt;
    }
    const auto first = std::min(a->first, b->first), last = std::max(a->second, b->second);
    return picture{detail::merged_bins(values, width, first, last), detail::merged_bins(others, width, first, last)};
}

/// corrections   one per slice, or none
[[nodiscard]] inline std::optional<code_range> draw(std::span<const quant::affine_params> params,
                                                    std::span<const quant::channel_correction> corrections) {
    if (params.empty()) {
        return std::nullopt;
    }
    const auto value = [&](std::size_t s, std::int64_t code) {
        const double x = static_cast<double>(params[s].scale) * static_cast<double>(code - params[s].zero_point);
        return corrections.empty()
                   ? x
                   : static_cast<double>(corrections[s].gain) * x + static_cast<double>(corrections[s].shift);
    };
    const auto range = [&](std::size_t s) {
        return std::pair(value(s, params[s].format.qmin()), value(s, params[s].format.qmax()));
    };
    std::vector<std::pair<double, std::size_t>> by_width;
    code_range out;
    out.slices = params.size();
    out.lowest = std::numeric_limits<double>::infinity();
    out.highest = -out.lowest;
    for (std::size_t s = 0; s < params.size(); ++s) {
        const auto [low, high] = range(s);
        by_width.emplace_back(high - low, s);
        out.lowest = std::min(out.lowest, low);
        out.highest = std::max(out.highest, high);
    }
    const auto middle = by_width.begin() + static_cast<std::ptrdiff_t>(by_width.size() / 2);
    std::nth_element(by_width.begin(), middle, by_width.end());
    const auto typical = middle->second;
    std::tie(out.low, out.high) = range(typical);
    const std::int64_t min = params[typical].format.qmin(), max = params[typical].format.qmax();
    if (max - min < static_cast<std::int64_t>(max_levels)) {
        for (auto code = min; code <= max; ++code) {
            out.levels.push_back(value(typical, code));
        }
    }
    return out;
}

} // namespace quant_report
