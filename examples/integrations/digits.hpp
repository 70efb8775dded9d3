// SPDX-License-Identifier: MIT
#pragma once

// What the integrations have in common: the digits, the sizes, and what is said about a run.

#include "../digits/dataset.hpp"
#include "../nn/random.hpp"
#include "../quant/require.hpp"
#include "../quant/run_program.hpp"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <quant/core/status.hpp>
#include <vector>

namespace integrations {

/// Units of the layers, input first; planes a layer starts with; images per step.
inline const std::vector<std::size_t> widths{digits::pixels, 32, 32, digits::classes};
inline constexpr std::size_t planes = 8, batch_size = 64;

inline digits::dataset load() { return digits::load(INTEGRATIONS_DIGITS_FILE); }

/// The training images of one step.
inline std::vector<std::size_t> batch(std::size_t step) {
    nn::random random(step);
    std::vector<std::size_t> rows(batch_size);
    for (std::size_t& row : rows) row = random.below(digits::training_images);
    return rows;
}

/// Every call works on the network as a whole.
inline void require(quant::status s) { quant_tool::require(s, "network"); }

struct outcome {
    double planes = 0;   ///< mean over the weights
    double accuracy = 0; ///< of the integer model on unseen images, in percent
    bool exact = true;   ///< its weights are codes times scales, bit for bit
};

/// Runs for two budgets and prints what came out. Returns an exit code: 1 where a budget was missed by more than a quarter of a plane, weights
/// are not the integers or the model has learned nothing.
template <class Run> int report(Run run) {
    constexpr std::size_t steps = 2000;
    return quant_tool::run_program("integrations", [&] {
        bool right = true;
        for (const double target : {2.0, 4.0}) {
            const outcome o = run(target, steps);
            std::printf(
                "planes asked %.2f, reached %.2f; %.1f %% of unseen digits right; weights are codes x scale: %s\n",
                target, o.planes, o.accuracy, o.exact ? "yes" : "no");
            right = right && std::abs(o.planes - target) <= 0.25 && o.exact && o.accuracy > 85;
        }
        return right ? 0 : 1;
    });
}

} // namespace integrations
