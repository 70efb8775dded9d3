// SPDX-License-Identifier: MIT
#pragma once

// The rows of the tables, and the file that keeps them: written whole after every row, read again by the next run.

#include "../evaluation/evaluation.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace networks {

enum class setting : std::uint8_t {
    reference, ///< the network in float
    authors,   ///< engine/fake_quantization.hpp
    integers,  ///< engine/integer.hpp with the paper's methods
    beyond,    ///< engine/integer.hpp with the library's own
    peer       ///< ONNX Runtime's quantize_static
};

/// What a result depends on. Equal keys are not computed twice.
struct key {
    std::string network;
    std::size_t samples = 0;
    networks::setting setting = setting::reference;
    std::string method;
    unsigned weight_bits = 32, activation_bits = 32; ///< asked for
    bool exempt = false;                             ///< first and last layer: weights of 8 bits
    std::string options{};                           ///< all else: batches, calibration
    friend bool operator==(const key&, const key&) = default;
};

struct row : key {
    double mean_weight_bits = 32.0;    ///< used
    std::size_t top1 = 0, top5 = 0;    ///< of `samples`
    double seconds = 0.0;              ///< to quantize and to evaluate
    std::string note{};                ///< why there is no result; then the rest does not matter
    std::vector<std::uint8_t> right{}; ///< by sample

    double percent() const { return 100.0 * static_cast<double>(top1) / static_cast<double>(samples); }
};

row make_row(const key& k, const evaluation::accuracy& a, double mean_weight_bits, double seconds);
row refused(const key& k, std::string_view why);

/// The row without its first n samples: those that calibrated.
row without_first(row r, std::size_t n);

/// On the samples that both rows have seen.
struct difference {
    std::size_t lost = 0, gained = 0; ///< right in the first alone, in the second alone
    double points = 0.0;              ///< the first's percentage less the second's
    double p = 1.0;                   ///< of the sign test
};
difference compare(const row& first, const row& second);

/// One layer of a network, in the network's order; why a network falls short.
struct layer_row {
    std::string network, options, layer;
    std::size_t weights = 0;
    double weight_sqnr = 0.0; ///< of its weights at 4 bits, in dB
    double own_sqnr = 0.0;    ///< of the network's outputs when only this layer's weights have 4 bits
    double value_sqnr = 0.0;  ///< of what it hands on, in the integer network of 4W4A with widths by layer, not fitted
    unsigned width = 4;       ///< of its weights when widths may differ
};

/// The two files of an output folder.
class store {
public:
    /// Reads what is there. Throws quant_tool::error where it is not what this program writes.
    explicit store(const std::filesystem::path& folder);

    const row* find(const key& k) const;
    void add(row r); ///< and writes the file
    const std::vector<row>& rows() const { return rows_; }

    std::vector<layer_row> layers(const std::string& network, const std::string& options) const;
    void set_layers(const std::vector<layer_row>& of_one_network); ///< and writes the file

private:
    std::string rows_path_, layers_path_;
    std::vector<row> rows_;
    std::vector<layer_row> layers_;
};

void write_text(const std::string& path, std::string_view text);

} // namespace networks
