// SPDX-License-Identifier: MIT
#pragma once

// RWKV-4 (Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", arXiv 2305.13048) over bytes, inference alone. All
// positions of all texts go through a block together; only the sum over the past is taken position by position.

#include <Eigen/Core>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace language {

class rwkv {
public:
    /// A column for each position, text after text.
    using activations = Eigen::MatrixXf;

    /// Weights in the first file layout of rwkv.cpp, float32. Throws quant_tool::error.
    explicit rwkv(const std::string& path);

    struct matrix {
        std::string name;
        std::size_t rows = 0, cols = 0;
        std::size_t block = 0;        ///< the first part of the network that needs it: see `from`
        std::vector<float> weights{}; ///< row-major
    };
    /// All weight matrices; vectors (norms, mixtures, decays) stay out of it.
    [[nodiscard]] std::vector<matrix>& matrices() { return matrices_; }
    [[nodiscard]] std::size_t blocks() const { return blocks_.size(); }
    [[nodiscard]] std::size_t vocabulary() const { return vocabulary_; }

    /// What goes into the first block.
    [[nodiscard]] activations embed(std::span<const std::uint8_t> text) const;
    /// Block b, in place. length: of one text; columns are whole texts.
    void run_block(std::size_t b, activations& x, std::size_t length) const;
    /// [vocabulary, positions]: in memory one row of logits after the other.
    [[nodiscard]] activations head(const activations& x) const;
    /// Everything. The text is cut every `length` bytes, and each part begins without a past.
    [[nodiscard]] activations logits(std::span<const std::uint8_t> text, std::size_t length) const;

private:
    using vector = Eigen::VectorXf;
    struct norm {
        vector weight, bias;
    };
    struct layer {
        norm before_time, before_channel;
        vector decay, first, time_k, time_v, time_r, channel_k, channel_r;
        std::size_t key, value, receptance, output, wide_key, wide_value, wide_receptance; ///< in matrices_
    };
    using row_major = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
    [[nodiscard]] row_major weights(std::size_t i) const;
    static void normalise(const norm& n, activations& x);

    std::size_t vocabulary_ = 0, width_ = 0;
    std::vector<matrix> matrices_;
    std::vector<layer> blocks_;
    norm first_norm_, last_norm_;
};

} // namespace language
