// SPDX-License-Identifier: MIT
#pragma once

// How good a network is on labelled samples, how sure that is, and whether one network is better than another.

#include "../engine/graph.hpp"
#include "../nn/confidence.hpp"
#include "dataset.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace evaluation {

struct evaluation_options {
    std::size_t batch = 32; ///< samples at a time; part of the result where ranges come from the batch
    unsigned threads = 1;   ///< batches at a time; the results never depend on it
    std::size_t most = 0;   ///< only the first so many samples; 0: all
    bool shuffled = false;  ///< batches of samples in random order (always the same), not in the set's own
    std::function<void(std::size_t samples)> progress{}; ///< called after each batch, one thread at a time
};

/// Anything that turns a batch into outputs [N, classes]; called by several threads at once.
using network = std::function<tensor(const tensor& batch)>;

struct accuracy {
    std::size_t samples = 0, top1 = 0, top5 = 0;
    std::vector<int> classes;        ///< the answer for every sample
    std::vector<std::uint8_t> right; ///< 1 where that is the label
    double seconds = 0.0;            ///< by the clock, reading the samples included

    double top1_percent() const { return percent(top1); }
    double top5_percent() const { return percent(top5); }
    double samples_per_second() const { return seconds > 0.0 ? static_cast<double>(samples) / seconds : 0.0; }

private:
    double percent(std::size_t n) const {
        return samples == 0 ? 0.0 : 100.0 * static_cast<double>(n) / static_cast<double>(samples);
    }
};

/// Ties go to the lower class; an output that is not a number is never right.
accuracy evaluate(const network& net, const labelled_set& set, const evaluation_options& options = {});
accuracy evaluate(const engine::graph& net, const labelled_set& set, const evaluation_options& options = {});

using nn::confidence_interval;

/// Two networks on the same samples.
struct paired_difference {
    std::size_t only_first = 0, only_second = 0; ///< samples that one of them alone has right
    std::size_t changed = 0;                     ///< samples with different answers; 0 where the answers are not known
    double p = 1.0; ///< of the two-sided exact sign test (McNemar's): below 0.05 counts as a difference
};
paired_difference compare(const accuracy& first, const accuracy& second);
/// By what is known of each sample, 1: right; on the samples that both have.
paired_difference compare(std::span<const std::uint8_t> first_right, std::span<const std::uint8_t> second_right);
double sign_test(std::size_t wins, std::size_t losses);

/// Signal to quantization noise along two networks of the same layers, one sample's values against the other's.
struct layer_error {
    std::string layer; ///< the name of its output
    engine::operation kind = engine::operation::identity;
    double signal = 0.0, noise = 0.0; ///< sums of squares
    double sqnr_db() const;
};
/// Values that both networks name alike, in the first one's order.
std::vector<layer_error> compare_layers(const engine::graph& first, const engine::graph& second,
                                        const labelled_set& set, const evaluation_options& options = {});

} // namespace evaluation
