// SPDX-License-Identifier: MIT
#pragma once

// The two halves of the example; each prints its table and throws quant_tool::error.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace language {

struct rwkv_options {
    std::string data;                        ///< folder that holds lm/
    std::vector<double> averages{4, 3, 2.5}; ///< bits per weight
    std::size_t calibration = 8;             ///< of the model's own samples, those that sensitivities are measured on
    std::size_t samples = 64;                ///< of which so many are used, calibration and judging
    bool quiet = false;
};
void compare_rwkv(const rwkv_options& o);

struct gru_options {
    std::string text;
    std::vector<double> averages{4, 3};
    std::size_t hidden = 64, embedding = 24;
    std::size_t symbols = 0; ///< of the text, from its beginning; 0: all
    std::size_t epochs = 8;  ///< in float
    std::size_t tuning = 3;  ///< epochs of every method after that
    std::size_t probes = 10;
    std::vector<double> rho{0.003, 0.01}; ///< of ADMM, when it begins
    bool raw_trace = false;
    std::uint64_t seed = 1;
    bool quiet = false;
};
void compare_gru(const gru_options& o);

} // namespace language
