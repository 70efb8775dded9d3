// SPDX-License-Identifier: MIT
#pragma once

// Which networks, which rows, and how a row is computed.

#include "results.hpp"

#include "../engine/graph.hpp"
#include "../engine/integer.hpp"
#include "../evaluation/dataset.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace networks {

/// A network of the data folder. Paths are relative to it; what stands last is what the folder's README states for float.
struct subject {
    const char* name;
    const char* title;
    const char* model;
    const char *samples, *labels;
    const char *calibration, *calibration_labels; ///< null: the first of the samples
    evaluation::preprocessing how;
    std::size_t calibrated; ///< samples
    std::size_t size, top1, top5;
    double gap_4w4a; ///< points that 4W4A may lose; infinite: no goal
};
std::span<const subject> subjects();

struct run_options {
    std::size_t samples = 1000; ///< at most; the float row always has all
    unsigned threads = 1;
    bool quick = false; ///< a handful of rows
    bool quiet = false;
};

/// What the figures by layer depend on beside the network.
std::string layer_options(const subject& s);

/// The rows of one network, in the order in which they are computed: those that matter most first.
std::vector<key> plan(const subject& s, const run_options& o);

/// One network with its samples in memory. Everything is made when it is first needed.
class bench {
public:
    bench(const subject& s, const std::string& data, const run_options& o);

    row run(const key& k, const std::function<void(std::size_t)>& progress);
    /// Throws quant_tool::error unless the float row is what the README states.
    void check_reference(const row& r) const;

    /// Per layer: see layer_row. Takes as long as a few rows.
    std::vector<layer_row> measure_layers();
    void use_layers(std::vector<layer_row> known) { layers_ = std::move(known); }

    const evaluation::labelled_set& test() const { return test_; }
    const evaluation::labelled_set& calibration() const { return calibration_; }

private:
    const engine::observations& observed();
    row run_own(const key& k, const evaluation::evaluation_options& how);
    row run_paper(const key& k, const evaluation::evaluation_options& how);
    row run_integers(const key& k, const engine::graph& net, const engine::integer_parameters& parameters,
                     const evaluation::evaluation_options& how) const;

    const subject& subject_;
    run_options options_;
    engine::graph net_;
    evaluation::labelled_set test_, calibration_;
    std::optional<engine::observations> observed_;
    std::vector<layer_row> layers_;
};

/// The samples with everything read, so that images are decoded once.
evaluation::labelled_set in_memory(const evaluation::labelled_set& set, std::size_t most, unsigned threads);

/// Methods of the library's own, each with the steps of those before it.
inline constexpr const char* clipped = "least squared error + bias correction";
inline constexpr const char* fitted = "+ equalized and fitted";
inline constexpr const char* allocated = "+ widths by layer";
inline constexpr const char* finer_sums = "+ sums and linear outputs at 8 bits";

} // namespace networks
