// SPDX-License-Identifier: MIT
#pragma once

// What brings an integer network near the float one without training and without labels: a few dozen samples, run through both.
//
//   const auto seen = engine::observe(net, calibration, 64);
//   const engine::fitted_network best = engine::fitted(net, seen, calibration, 64, {.weight_bits = 4});
//   const engine::integer_network q(best.net, best.parameters);
//
// Three steps, each of use alone:
//   equalized   channels of small range between two layers are scaled up, and down again in the weights of the layers behind, so that
//               one scale per value serves them all (Nagel et al. 2019, arXiv 1906.04721, by ranges of activations instead of
//               weights, across residual connections too). Behind a Clip from 0 up channels only ever grow up to the range of the
//               whole value, which the Clip leaves alone.
//   fit         layer by layer, in order: weights and biases of least squared error between the float layer's outputs on the float
//               network's inputs and the integer layer's on the codes it will see; then the codes, each making up for the ones
//               before (quant/output_rounding.hpp). The biases take what the means are off (Nagel et al., section 4.2).

#include "integer.hpp"

#include <cstddef>
#include <functional>
#include <span>

namespace engine {

struct fit_settings {
    double equalization = 0.5; ///< the power of the ratio of ranges that a channel is scaled by; 0: not at all
    /// What the variances of a layer's inputs weigh against their covariances where there are as many inputs as samples: high values
    /// keep weights near the float ones.
    double ridge = 4.0;
    bool refit = true; ///< false: the float weights are rounded, and only rounding errors are made up for
};

/// The network with its channels scaled: the same function within the ranges that were seen.
graph equalized(graph net, const observations& seen, double power = 0.5);

/// A row of weights that is to be rounded, in the order of falling variances of its inputs.
struct row_of_weights {
    const layer& of;
    std::size_t row = 0;
    std::span<float> weights;           ///< receives what they are rounded to
    std::span<const std::size_t> order; ///< where each of them stands in the row
    std::span<const double> variances;  ///< of their inputs
    std::span<const double> factors;    ///< of quant::round_for_outputs
};
using row_rounding = std::function<void(const row_of_weights&)>;
/// The weights and biases alone, layer by layer as below, each row on whatever grid `round_row` has for it; values stay float.
graph fit_weights(graph net, const labelled_set& set, std::size_t samples, const fit_settings& how,
                  const row_rounding& round_row);

struct fitted_network {
    graph net; ///< weights as their codes stand for, and the biases that belong to them
    integer_parameters parameters;
};
/// The codes of weights anew: symmetric with a scale of their own per output channel, without corrections.
fitted_network fit(graph net, integer_parameters parameters, const labelled_set& set, std::size_t samples,
                   const fit_settings& how = {});
/// Everything: equalized, choose_parameters and fit. Memory: all values that live at a time, of all samples, twice.
/// seen  of the network on these samples
fitted_network fitted(const graph& net, const observations& seen, const labelled_set& set, std::size_t samples,
                      const integer_settings& settings, const fit_settings& how = {});

} // namespace engine
