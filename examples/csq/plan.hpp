// SPDX-License-Identifier: MIT
#pragma once

// Which arms run with which settings, and what may be chosen about each: candidates that are tried on the rows kept for choosing.

#include "arms.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace csq_example {

enum class family : std::uint8_t { reference, uniform, mixed };

/// The setting is the target in planes, in stored bits, or the strength of BSQ's lasso.
struct entry {
    std::string name, asks;
    csq_example::family family;
    std::vector<double> settings;
};

inline const std::string float_name = "float", longer_name = "float, trained on",
                         largest_name = "uniform, largest weight", learned_name = "uniform, learned step",
                         odd_name = "uniform, learned step, no zero", bsq_name = "BSQ, then fixed planes",
                         csq_name = "CSQ", csq_fixed_name = "CSQ, then fixed planes",
                         csq_float_name = "planes of CSQ, from float", csq_rows_name = "CSQ by rows, then fixed planes",
                         fracbits_name = "FracBits", fracbits_fixed_name = "FracBits, then fixed widths",
                         layers_name = "widths by layer, learned step";

inline const std::vector<entry>& plan() {
    static const std::vector<entry> all{
        {float_name, "", family::reference, {0}},
        {longer_name, "", family::reference, {0}},
        {largest_name, "planes", family::uniform, {1, 2, 3, 4}},
        {learned_name, "planes", family::uniform, {1, 2, 3, 4}},
        {odd_name, "stored bits", family::uniform, {2, 3, 4, 5}},
        {bsq_name, "strength", family::mixed, {0.002, 0.005, 0.01, 0.02, 0.04, 0.1}},
        {csq_name, "planes", family::mixed, {1, 1.5, 2, 3, 4}},
        {csq_fixed_name, "planes", family::mixed, {1, 1.5, 2, 3, 4}},
        {csq_float_name, "planes", family::mixed, {1, 1.5, 2, 3, 4}},
        {csq_rows_name, "planes", family::mixed, {1, 1.5, 2, 3, 4}},
        {fracbits_name, "stored bits", family::mixed, {1.5, 2, 3, 4, 5}},
        {fracbits_fixed_name, "stored bits", family::mixed, {1.5, 2, 3, 4, 5}},
        {layers_name, "stored bits", family::mixed, {1.5, 2, 3, 4, 5}},
    };
    return all;
}

/// Widths of at least 1 of the layers that fit a mean of stored bits, where no layer could have one more; the larger a layer, the fewer bits.
inline std::vector<std::vector<int>> widths_within(double target, const std::vector<std::size_t>& sizes) {
    constexpr int most = 8;
    double room = 0;
    for (const std::size_t n : sizes) room += target * static_cast<double>(n);
    std::vector<std::vector<int>> all;
    std::vector<int> widths(sizes.size(), 1);
    const auto used = [&] {
        double bits = 0;
        for (std::size_t l = 0; l < sizes.size(); ++l) bits += static_cast<double>(sizes[l]) * widths[l];
        return bits;
    };
    for (;;) {
        const double bits = used();
        bool keep = bits <= room;
        for (std::size_t l = 0; l < sizes.size(); ++l) {
            keep = keep && (widths[l] == most || bits + static_cast<double>(sizes[l]) > room);
            for (std::size_t k = 0; k < sizes.size(); ++k)
                keep = keep && !(sizes[k] < sizes[l] && widths[k] < widths[l]);
        }
        if (keep) all.push_back(widths);
        std::size_t l = 0;
        while (l < sizes.size() && widths[l] == most) widths[l++] = 1;
        if (l == sizes.size()) return all;
        ++widths[l];
    }
}

/// What may be chosen about an arm; the first is taken where nothing is chosen.
inline std::vector<knobs> candidates(const std::string& name, double setting, const std::vector<std::size_t>& sizes) {
    std::vector<knobs> all;
    const auto add = [&](auto change) {
        knobs k;
        change(k);
        all.push_back(k);
    };
    // Answers of the float network in the loss (Hinton et al. 2015) were tried for the uniform arms and gained nothing.
    if (name == csq_name) {
        // Fast bits shake a network that knows its training rows by heart; twice as fast again, some runs collapse.
        for (const float rate : {0.05f, 0.1f})
            add([&](knobs& k) {
                k.share = 1, k.rate = rate, k.bit_rate = 400 * static_cast<double>(rate);
                k.mask_rate = 0.2 / static_cast<double>(rate); // of masks, it stays the same
            });
    } else if (name == csq_fixed_name || name == csq_float_name) {
        for (const double share : {0.6, 0.4})
            add([&](knobs& k) { k.share = share, k.from_float = name == csq_float_name; });
    } else if (name == csq_rows_name) {
        // At the pace of a layer's masks rows end with gaps, and 5 to 10 points lower.
        for (const bool from_float : {false, true})
            add([&](knobs& k) {
                k.share = 0.4, k.by_row = true, k.from_float = from_float;
                k.mask_rate = 0.3, k.budget_strength = 10;
            });
    } else if (name == layers_name) {
        for (const auto& widths : widths_within(setting, sizes))
            add([&](knobs& k) { k.rate = 0.1f, k.widths = widths; });
    } else {
        for (const float rate : {0.1f, 0.05f})
            add([&](knobs& k) {
                k.rate = rate;
                if (name == fracbits_name) k.share = 1;
                if (name == fracbits_fixed_name) k.share = 0.4, k.from_float = true;
            });
    }
    if (all.empty()) throw std::logic_error(name);
    return all;
}

inline std::unique_ptr<arm> make(const std::string& name, double setting, const knobs& k, const layers& to,
                                 std::size_t steps) {
    const weights start = values_of(to);
    const auto same = [&](const grid& g) { return std::vector<grid>(to.size(), g); };
    if (name == float_name || name == longer_name) return std::make_unique<float_arm>(to);
    if (name == largest_name || name == learned_name)
        return std::make_unique<rounding_arm>(to, start, same(grid_of_planes(static_cast<int>(setting))),
                                              name == learned_name, k.step_rate);
    if (name == odd_name)
        return std::make_unique<rounding_arm>(to, start, same({{}, static_cast<int>(setting)}), true, k.step_rate);
    if (name == bsq_name) return std::make_unique<bsq_arm>(to, start, setting, k);
    if (name == csq_name || name == csq_fixed_name || name == csq_float_name || name == csq_rows_name) {
        // A mask that has hardened no longer moves, so short runs need faster ones.
        const auto finding = static_cast<std::size_t>(k.share * static_cast<double>(steps));
        knobs own = k;
        own.mask_rate *= std::clamp(12500 / static_cast<double>(finding), 1.0, 10.0);
        return std::make_unique<csq_arm>(to, start, setting, own);
    }
    if (name == fracbits_name || name == fracbits_fixed_name)
        return std::make_unique<fracbits_arm>(to, start, setting, k);
    if (name == layers_name) {
        std::vector<grid> grids;
        for (const int bits : k.widths) grids.push_back(grid_of_bits(bits));
        return std::make_unique<rounding_arm>(to, start, grids, true, k.step_rate);
    }
    throw std::logic_error(name);
}

} // namespace csq_example
