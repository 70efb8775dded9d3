// SPDX-License-Identifier: MIT
#pragma once
// What the analytical calibrators know about a tensor: a handful of numbers, wherever they came from. Layer 3 (calibrate).

#include <cstdint>
#include <quant/core/options.hpp>

QUANT_BEGIN_NAMESPACE

/// Statistics of the finite elements of a tensor (or of one slice of it), in real units.
struct tensor_statistics {
    std::uint64_t count = 0;      ///< finite elements
    std::uint64_t non_finite = 0; ///< NaN and infinities, not counted above
    std::uint64_t positive = 0;   ///< elements above zero
    double min = 0;
    double max = 0;
    double mean = 0;
    double mean_square = 0;                     ///< E[x^2]
    double variance = 0;                        ///< population variance, E[x^2] - mean^2
    double mean_abs_deviation = 0;              ///< E|x - centre|: the Laplace scale b when centre is the mean
    double centre = 0;                          ///< the centre of mean_abs_deviation
    statistics taken = statistics::unspecified; ///< before or after the ReLU, where one follows
};

QUANT_END_NAMESPACE
