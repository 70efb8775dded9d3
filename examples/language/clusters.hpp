// SPDX-License-Identifier: MIT
#pragma once

// Clusters of weights that get a width together, what every width costs them, and how texts are scored: what both language models of
// this folder share.

#include "../quant/io/mapped_file.hpp"
#include "../quant/require.hpp"

#include <quant/mixed_precision.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <vector>

namespace language {

using quant_tool::require;

/// Weights of one width: a matrix, cut into equal parts that have a step each.
struct cluster {
    std::string name;
    std::span<float> weights;
    std::size_t steps = 1;
};

/// The weights at `bits`, every step the one of least squared error: D k, |k| < 2^(bits - 1).
inline std::vector<float> rounded(const cluster& c, std::span<const float> weights, int bits) {
    std::vector<float> out(weights.size());
    const std::size_t part = weights.size() / c.steps;
    std::vector<std::int8_t> k(part);
    std::vector<quant::fit_event> scratch(part);
    for (std::size_t from = 0; from < out.size(); from += part) {
        const auto fit =
            require(quant::fit_point(weights.subspan(from, part), (1 << (bits - 1)) - 1, k, scratch), c.name);
        for (std::size_t i = 0; i < part; ++i) out[from + i] = static_cast<float>(fit.step * k[i]);
    }
    return out;
}

/// Every cluster at every width.
class quantized_clusters {
public:
    quantized_clusters(std::span<const cluster> clusters, std::vector<std::uint8_t> widths)
        : widths_(std::move(widths)), clusters_(clusters.begin(), clusters.end()) {
        for (const cluster& c : clusters_) {
            kept_.emplace_back(c.weights.begin(), c.weights.end());
            for (const std::uint8_t bits : widths_) {
                at_.push_back(rounded(c, kept_.back(), bits));
                errors_.push_back(require(quant::squared_error(kept_.back(), at_.back()), c.name));
            }
            elements_.push_back(c.weights.size());
        }
        cost_.resize(at_.size());
        require(quant::size_costs(elements_, widths_, cost_), "sizes");
    }

    [[nodiscard]] const std::vector<std::uint8_t>& widths() const { return widths_; }
    [[nodiscard]] std::size_t size() const { return clusters_.size(); }
    [[nodiscard]] const std::vector<double>& errors() const { return errors_; } ///< sum (w - w^)^2, [clusters, widths]
    [[nodiscard]] std::uint64_t elements() const {
        std::uint64_t n = 0;
        for (const std::uint64_t e : elements_) n += e;
        return n;
    }
    [[nodiscard]] std::span<const float> original(std::size_t c) const { return kept_[c]; }
    [[nodiscard]] std::span<const float> at(std::size_t c, std::size_t width) const {
        return at_[c * widths_.size() + width];
    }

    void set(std::size_t c, std::size_t width) { put(c, at(c, width)); }
    void set(std::span<const std::uint8_t> choice) {
        for (std::size_t c = 0; c < choice.size(); ++c) set(c, choice[c]);
    }
    void restore() {
        for (std::size_t c = 0; c < size(); ++c) restore(c);
    }
    void restore(std::size_t c) { put(c, kept_[c]); }

    [[nodiscard]] double average(std::span<const std::uint8_t> choice) const {
        std::uint64_t bits = 0;
        for (std::size_t c = 0; c < size(); ++c) bits += cost_[c * widths_.size() + choice[c]];
        return static_cast<double>(bits) / static_cast<double>(elements());
    }
    /// All clusters at one width of the list.
    [[nodiscard]] std::vector<std::uint8_t> uniform(int bits) const {
        const auto found = std::find(widths_.begin(), widths_.end(), bits);
        return std::vector<std::uint8_t>(size(), static_cast<std::uint8_t>(found - widths_.begin()));
    }
    /// The widths of least loss within an average; what: names the losses for an error.
    [[nodiscard]] std::vector<std::uint8_t> allocate(const std::vector<double>& loss, double average_bits,
                                                     const std::string& what) const {
        const auto budget = static_cast<std::uint64_t>(std::floor(static_cast<double>(elements()) * average_bits));
        std::vector<std::uint8_t> choice(size());
        std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(size(), widths_.size(), 1 << 16));
        const quant::option_table table{loss, cost_, size(), widths_.size()};
        require(quant::allocate_exact(table, budget, choice, workspace), what);
        return choice;
    }
    /// "4 3 8": the widths in the order of the clusters.
    [[nodiscard]] std::string text(std::span<const std::uint8_t> choice) const {
        std::string out;
        for (const std::uint8_t c : choice) out += (out.empty() ? "" : " ") + std::to_string(widths_[c]);
        return out;
    }

private:
    void put(std::size_t c, std::span<const float> from) {
        std::copy(from.begin(), from.end(), clusters_[c].weights.begin());
    }
    std::vector<std::uint8_t> widths_;
    std::vector<cluster> clusters_;
    std::vector<std::vector<float>> kept_, at_;
    std::vector<double> errors_;
    std::vector<std::uint64_t> elements_, cost_;
};

/// How many bits it takes to say which symbol came next, on average: cross entropy to base 2.
/// logits  [positions, vocabulary]        next  [positions]
inline double bits_per_symbol(std::span<const float> logits, std::span<const std::uint8_t> next,
                              std::size_t vocabulary) {
    double total = 0;
    for (std::size_t t = 0; t < next.size(); ++t) {
        const auto row = logits.subspan(t * vocabulary, vocabulary);
        const double most = static_cast<double>(*std::max_element(row.begin(), row.end()));
        double sum = 0;
        for (const float z : row) sum += std::exp(static_cast<double>(z) - most);
        total += most + std::log(sum) - static_cast<double>(row[next[t]]);
    }
    return total / static_cast<double>(next.size()) / std::numbers::ln2;
}

inline std::vector<std::uint8_t> read_file(const std::string& path) {
    const quant_tool::byte_block file = quant_tool::map_file(path);
    std::vector<std::uint8_t> out(file.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::to_integer<std::uint8_t>(file.data()[i]);
    return out;
}

} // namespace language
