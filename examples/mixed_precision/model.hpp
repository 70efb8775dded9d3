// SPDX-License-Identifier: MIT
#pragma once

// A network as a list of rows: the unit that gets a width. And the digits network, with everything that tells what a width would cost it.

#include "../digits/dataset.hpp"
#include "../digits/model.hpp"
#include "../nn/weights.hpp"
#include "../quant/report.hpp"
#include "../quant/require.hpp"

#include <quant/mixed_precision.hpp>
#include <quant/mixquant.hpp>
#include <quant/multipoint.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace mixed {

/// One output channel of one layer.
struct row {
    std::size_t layer = 0, first = 0, depth = 0; ///< where its weights lie in those of the layer
};

/// Widths a row can get. 0: the row is not there at all, its outputs are its bias.
inline const std::vector<std::uint8_t> widths{0, 2, 3, 4, 5, 6, 7, 8};
/// Bits of the step that every row with codes carries.
inline constexpr std::uint64_t step_bits = 32;
inline std::uint64_t size_of(const row& r, std::uint8_t bits) { return bits == 0 ? 0 : r.depth * bits + step_bits; }

/// The weights of every layer, biases left out: they stay in float.
using weight_lists = std::vector<std::vector<float>>;

/// How good a network is with other weights.
struct quality {
    double correct = 0; ///< per cent of the images that the network never saw
    double loss = 0;    ///< cross-entropy, in nats
    double sqnr = 0;    ///< of the logits beside those of the float network, in decibels
};
inline quality quality_of(const nn::tensor& full, const nn::tensor& found, std::span<const std::uint8_t> labels) {
    return {100.0 * static_cast<double>(digits::count_correct(nn::classes_of(found), labels)) /
                static_cast<double>(labels.size()),
            nn::softmax_cross_entropy(found, labels).loss,
            quant_tool::require(quant::signal_to_noise(full.data, found.data), "logits")};
}

/// The rows of a network and their weights.
class network {
public:
    virtual ~network() = default;
    [[nodiscard]] const std::vector<row>& rows() const { return rows_; }
    [[nodiscard]] const weight_lists& weights() const { return weights_; }
    [[nodiscard]] std::size_t layers() const { return weights_.size(); }
    [[nodiscard]] std::span<const float> weights_of(const row& r) const {
        return std::span(weights_[r.layer]).subspan(r.first, r.depth);
    }
    [[nodiscard]] std::size_t parameters() const {
        std::size_t n = 0;
        for (const auto& w : weights_) n += w.size();
        return n;
    }
    [[nodiscard]] virtual quality evaluate(const weight_lists& weights) = 0;

protected:
    /// The next layer: weights [rows, ...].
    void add_layer(const nn::tensor& w) {
        const std::size_t layer = weights_.size(), rows = w.shape[0], depth = w.size() / rows;
        weights_.push_back(w.data);
        for (std::size_t r = 0; r < rows; ++r) rows_.push_back({layer, r * depth, depth});
    }

private:
    weight_lists weights_;
    std::vector<row> rows_;
};

class model : public network {
public:
    explicit model(const std::string& folder) : all_(digits::load(folder + "/digits.csv.gz")) {
        digits::build(net_, 1);
        net_.set_weights(nn::load_weights(folder + "/digits.safetensors"));
        for (nn::parameter* p : net_.parameters()) {
            if (p->value.shape.size() < 2) continue;
            layers_.push_back(p);
            add_layer(p->value);
        }
        logits_ = nn::run(net_, all_.unseen().images);
    }

    [[nodiscard]] const digits::dataset& data() const { return all_; }

    void set(const weight_lists& weights) {
        for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l]->value.data = weights[l];
    }
    [[nodiscard]] nn::tensor logits(const nn::tensor& images) { return nn::run(net_, images); }

    [[nodiscard]] quality evaluate(const weight_lists& weights) override {
        set(weights);
        const digits::dataset unseen = all_.unseen();
        const nn::tensor found = nn::run(net_, unseen.images);
        set(this->weights());
        return quality_of(logits_, found, unseen.labels);
    }

    /// The gradient of the loss on `part`, of all rows one after the other.
    void gradient(const digits::dataset& part, std::span<double> out) {
        for (nn::parameter* p : net_.parameters()) std::fill(p->grad.data.begin(), p->grad.data.end(), 0.0f);
        net_.backward(nn::softmax_cross_entropy(net_.forward(part.images), part.labels).grad);
        std::size_t at = 0;
        for (const nn::parameter* p : layers_)
            for (const float g : p->grad.data) out[at++] = static_cast<double>(g);
    }
    void set_flat(std::span<const double> values) {
        std::size_t at = 0;
        for (nn::parameter* p : layers_)
            for (float& w : p->value.data) w = static_cast<float>(values[at++]);
    }

    /// E[x x^T] of the inputs of every layer, over the positions of the calibration images.
    [[nodiscard]] std::vector<std::vector<double>> moments() {
        std::vector<nn::tensor> inputs{all_.calibration().images};
        static_cast<void>(nn::run(
            net_, all_.calibration().images, [&](const std::string&, nn::tensor& y) { outputs_.push_back(y); },
            all_.calibration().size()));
        nn::relu relu;
        nn::max_pool pool(2);
        inputs.push_back(relu.forward(outputs_[0]));
        inputs.push_back(pool.forward(relu.forward(outputs_[1])));
        inputs.push_back(pool.forward(relu.forward(outputs_[2])));
        std::vector<std::vector<double>> all;
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const std::size_t depth = weights()[l].size() / layers_[l]->value.shape[0];
            const std::vector<float> patches =
                layers_[l]->value.shape.size() == 4 ? patches_of(inputs[l]) : inputs[l].data;
            all.emplace_back(depth * depth);
            quant_tool::require(quant::input_moments(patches, depth, all.back()), "inputs");
        }
        outputs_.clear();
        return all;
    }

private:
    /// What a 3x3 convolution with a border of zeros sees at each position, in the order of its weights.
    static std::vector<float> patches_of(const nn::tensor& x) {
        const std::size_t height = x.shape[2], width = x.shape[3];
        std::vector<float> out;
        for (std::size_t n = 0; n < x.samples(); ++n)
            for (std::size_t y = 0; y < height; ++y)
                for (std::size_t z = 0; z < width; ++z)
                    for (std::size_t c = 0; c < x.channels(); ++c)
                        for (std::size_t k = 0; k < 9; ++k) {
                            const std::size_t at_y = y + k / 3 - 1, at_z = z + k % 3 - 1; // -1 wraps around
                            const bool inside = at_y < height && at_z < width;
                            out.push_back(inside ? x.channel(n, c)[at_y * width + at_z] : 0.0f);
                        }
        return out;
    }

    digits::dataset all_;
    nn::network net_;
    std::vector<nn::parameter*> layers_;
    nn::tensor logits_;
    std::vector<nn::tensor> outputs_;
};

/// Every row at every width, with the step of least squared error.
class quantized_rows {
public:
    explicit quantized_rows(const network& m) : model_(m) {
        for (const std::uint8_t bits : widths) {
            weight_lists all = m.weights();
            for (const row& r : m.rows()) {
                const auto to = std::span(all[r.layer]).subspan(r.first, r.depth);
                if (bits == 0) {
                    std::fill(to.begin(), to.end(), 0.0f);
                    continue;
                }
                std::vector<std::int8_t> k(r.depth);
                std::vector<quant::fit_event> scratch(r.depth);
                const auto fit = quant_tool::require(
                    quant::fit_point(m.weights_of(r), (1 << (bits - 1)) - 1, k, scratch), "weights");
                for (std::size_t j = 0; j < r.depth; ++j) to[j] = static_cast<float>(fit.step * k[j]);
            }
            at_width_.push_back(std::move(all));
        }
    }
    [[nodiscard]] std::span<const float> of(const row& r, std::size_t option) const {
        return std::span(at_width_[option][r.layer]).subspan(r.first, r.depth);
    }
    /// All rows of a layer.
    [[nodiscard]] const std::vector<float>& layer(std::size_t l, std::size_t option) const {
        return at_width_[option][l];
    }
    /// The network with row r at widths[choice[r]].
    [[nodiscard]] weight_lists at(std::span<const std::uint8_t> choice) const {
        weight_lists all = model_.weights();
        for (std::size_t i = 0; i < choice.size(); ++i) {
            const row& r = model_.rows()[i];
            const auto from = of(r, choice[i]);
            std::copy(from.begin(), from.end(), all[r.layer].begin() + static_cast<std::ptrdiff_t>(r.first));
        }
        return all;
    }

private:
    const network& model_;
    std::vector<weight_lists> at_width_;
};

} // namespace mixed
