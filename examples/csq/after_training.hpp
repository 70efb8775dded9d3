// SPDX-License-Identifier: MIT
#pragma once

// What rounding without training reaches: a scale per row, weights rounded for the sake of their layers' outputs, widths of the layers by
// what each does to the network's answers.

#include "../engine/fitting.hpp"
#include "arms.hpp"
#include "by_rows.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/mixed_precision.hpp>
#include <quant/output_rounding.hpp>
#include <span>
#include <string>
#include <vector>

namespace csq_example {

/// The 2^bits odd codes: one more than digits and sign of as many stored bits have, and 1 bit is as good as any other.
inline grid odd_grid(int bits) { return {{}, bits}; }
inline constexpr int most_odd_bits = 6;

/// The nearest odd codes times the scale of least squared error, which is returned.
inline float round_nearest(std::span<float> w, int bits) {
    const std::vector<float> from(w.begin(), w.end());
    const float scale = best_scale(from, odd_grid(bits));
    round_to(from, w, scale, odd_grid(bits));
    return scale;
}

/// Odd codes in whose rounding each weight makes up for the ones before; the scale of least error of the layer's outputs.
inline float round_fitted(const engine::row_of_weights& row, int bits) {
    const std::size_t depth = row.weights.size();
    const float first = best_scale(row.weights, odd_grid(bits));
    std::vector<float> shifted(depth);
    std::vector<std::int8_t> codes(depth), best(depth);
    std::vector<double> errors(depth);
    double least = std::numeric_limits<double>::infinity();
    float found = first;
    for (int k = 6; k <= 13; ++k) {
        // The odd code 2 q + 1 times s is (q + 1/2) times 2 s: the codes q of weights that are half a step lower.
        const float scale = first * static_cast<float>(k) / 10;
        const quant::affine_params p{
            .scale = 2 * scale, .zero_point = 0, .format = {static_cast<std::uint8_t>(bits), true, false}};
        for (std::size_t i = 0; i < depth; ++i) shifted[i] = row.weights[i] - scale;
        const double error = require(
            quant::round_for_outputs<std::int8_t>(std::span<const float>(shifted), row.factors, p, codes, errors));
        if (error >= least) continue;
        least = error;
        best = codes;
        found = scale;
    }
    for (std::size_t i = 0; i < depth; ++i) row.weights[i] = static_cast<float>(2 * best[i] + 1) * found;
    return found;
}

/// A network of rounded weights.
struct rounded_network {
    engine::graph net;
    row_factors scales;      ///< by layer and row
    std::vector<int> widths; ///< stored bits, by layer
};

/// What a layer with weights is the how-manieth of.
inline std::vector<std::size_t> weighted_layers(const engine::graph& net) {
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < net.layers.size(); ++i)
        if (net.layers[i].has_weight()) all.push_back(i);
    return all;
}

inline rounded_network nearest(engine::graph net, std::vector<int> widths) {
    row_factors scales(widths.size());
    const auto own = weighted_layers(net);
    for (std::size_t l = 0; l < own.size(); ++l) {
        nn::tensor& w = net.layers[own[l]].weight;
        for (std::size_t r = 0; r < w.samples(); ++r) scales[l].push_back(round_nearest(w.sample(r), widths[l]));
    }
    return {std::move(net), std::move(scales), std::move(widths)};
}

inline rounded_network fitted(const engine::graph& net, std::vector<int> widths, const evaluation::labelled_set& set,
                              std::size_t samples) {
    row_factors scales(widths.size());
    std::size_t l = 0, row = 0;
    engine::graph done = engine::fit_weights(net, set, samples, {}, [&](const engine::row_of_weights& w) {
        scales[l].push_back(round_fitted(w, widths[l]));
        if (++row == w.of.weight.shape[0]) ++l, row = 0;
    });
    return {std::move(done), std::move(scales), std::move(widths)};
}

/// What widths of 1 to most_odd_bits do to a network's answers, one layer at a time.
class sensitivities {
public:
    /// asked: what the answers are compared on. `each`: called after every network that was asked.
    template <class Network, class Each>
    void measure(const engine::graph& file, const evaluation::labelled_set& set, std::size_t samples, std::size_t asked,
                 const Each& each) {
        std::vector<weights> rounded(most_odd_bits);
        for (auto& w : rounded) w.resize(weighted_layers(file).size());
        std::size_t l = 0, row = 0;
        (void)engine::fit_weights(file, set, samples, {.refit = false}, [&](const engine::row_of_weights& w) {
            const std::vector<float> kept(w.weights.begin(), w.weights.end());
            for (int bits = 1; bits <= most_odd_bits; ++bits) {
                (void)round_fitted(w, bits);
                std::vector<float>& to = rounded[static_cast<std::size_t>(bits - 1)][l];
                const std::size_t at = to.size();
                to.resize(at + kept.size());
                for (std::size_t i = 0; i < kept.size(); ++i) to[at + w.order[i]] = w.weights[i];
                std::copy(kept.begin(), kept.end(), w.weights.begin());
            }
            if (++row == w.of.weight.shape[0]) ++l, row = 0;
        });
        const nn::tensor x = set.batch(0, asked);
        Network own(file);
        const layers to = weights_of(own.net);
        const nn::tensor full = nn::run(own.net, x);
        for (l = 0; l < to.size(); ++l) {
            const std::vector<float> kept = to[l]->value.data;
            for (int bits = 1; bits <= most_odd_bits; ++bits) {
                to[l]->value.data = rounded[static_cast<std::size_t>(bits - 1)][l];
                loss_.push_back(require(quant::logit_divergence(full.data, nn::run(own.net, x).data, full.channels())));
                cost_.push_back(kept.size() * static_cast<std::size_t>(bits));
                each();
            }
            to[l]->value.data = kept;
            weights_ += kept.size();
        }
    }
    /// Widths of the least sum within a mean of stored bits.
    [[nodiscard]] std::vector<int> allocated(double mean) const {
        const std::size_t count = loss_.size() / most_odd_bits;
        std::vector<std::uint8_t> choice(count);
        std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(count, most_odd_bits, 1 << 16));
        (void)require(quant::allocate_exact({loss_, cost_, count, most_odd_bits},
                                            static_cast<std::uint64_t>(mean * static_cast<double>(weights_) + 0.5),
                                            choice, workspace));
        std::vector<int> widths;
        for (const std::uint8_t c : choice) widths.push_back(c + 1);
        return widths;
    }

private:
    std::vector<double> loss_;
    std::vector<std::uint64_t> cost_;
    std::size_t weights_ = 0;
};

} // namespace csq_example
