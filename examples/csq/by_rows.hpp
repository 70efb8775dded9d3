// SPDX-License-Identifier: MIT
#pragma once

// Arms on parts of a network's weights with factors of their own: a layer whose rows (output channels) are brought to one range, or
// every row as a layer, with a scale of its own.

#include "arms.hpp"

#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace csq_example {

/// One factor per row of every layer: weight = factor * what an arm trains.
using row_factors = std::vector<std::vector<float>>;

class stand_ins {
public:
    /// whole_layers: one stand-in per layer, otherwise one per row.
    stand_ins(layers to, const row_factors& factors, bool whole_layers) : to_(std::move(to)) {
        for (std::size_t l = 0; l < to_.size(); ++l) {
            const std::size_t rows = to_[l]->value.shape[0], columns = to_[l]->value.size() / rows;
            const std::size_t at_once = whole_layers ? rows : 1;
            for (std::size_t r = 0; r < rows; r += at_once) {
                parts_.emplace_back("part", std::vector<std::size_t>{at_once, columns});
                where_.push_back({l, r});
            }
        }
        factors_ = factors;
        for (std::size_t p = 0; p < parts_.size(); ++p)
            each(p, [&](std::size_t i, std::size_t own, float factor) {
                parts_[p].value.data[i] = to_[where_[p].layer]->value.data[own] / factor;
            });
    }
    [[nodiscard]] layers parts() {
        layers all;
        for (nn::parameter& p : parts_) all.push_back(&p);
        return all;
    }
    [[nodiscard]] std::size_t layer_of(std::size_t part) const { return where_[part].layer; }
    void write() {
        for (std::size_t p = 0; p < parts_.size(); ++p)
            each(p, [&](std::size_t i, std::size_t own, float factor) {
                to_[where_[p].layer]->value.data[own] = parts_[p].value.data[i] * factor;
            });
    }
    /// By the chain rule. `unit`: each layer's gradients are divided by their root mean square over the last steps or so, so that one
    /// rate serves all layers.
    void read_gradients(bool unit) {
        std::vector<double> sums(to_.size(), 0);
        for (std::size_t p = 0; p < parts_.size(); ++p)
            each(p, [&](std::size_t i, std::size_t own, float factor) {
                const float g = to_[where_[p].layer]->grad.data[own] * factor;
                parts_[p].grad.data[i] = g;
                sums[where_[p].layer] += static_cast<double>(g) * static_cast<double>(g);
            });
        if (!unit) return;
        squares_.resize(to_.size(), 0);
        weight_ = 0.95 * weight_ + 0.05;
        for (std::size_t l = 0; l < to_.size(); ++l)
            squares_[l] = 0.95 * squares_[l] + 0.05 * sums[l] / static_cast<double>(to_[l]->value.size());
        for (std::size_t p = 0; p < parts_.size(); ++p) {
            const double mean = squares_[where_[p].layer] / weight_;
            const float by = mean > 0 ? static_cast<float>(1 / std::sqrt(mean)) : 0.0f;
            for (float& g : parts_[p].grad.data) g *= by;
        }
    }

private:
    struct place {
        std::size_t layer, row;
    };
    template <class F> void each(std::size_t p, const F& f) {
        const std::size_t rows = parts_[p].value.shape[0], columns = parts_[p].value.shape[1];
        const auto [layer, row] = where_[p];
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = 0; c < columns; ++c)
                f(r * columns + c, (row + r) * columns + c, factors_[layer][row + r]);
    }
    layers to_;
    std::vector<nn::parameter> parts_;
    std::vector<place> where_;
    row_factors factors_;
    std::vector<double> squares_;
    double weight_ = 0;
};

/// An arm that trains stand-ins. rate: of its parameters, as a multiple of the network's own (of biases).
class stand_in_arm : public arm {
public:
    template <class Make>
    stand_in_arm(const layers& to, const row_factors& factors, bool whole_layers, bool unit, const Make& make,
                 float rate = 1)
        : arm(to), parts_(to, factors, whole_layers), unit_(unit), rate_(rate), inner_(make(parts_)) {}
    void forward(const moment& at) override {
        inner_->forward(at);
        parts_.write();
    }
    void update(const moment& at) override {
        parts_.read_gradients(unit_);
        moment own = at;
        own.rate *= rate_;
        inner_->update(own);
    }
    /// One integer layer per stand-in.
    integer_model finish() override {
        integer_model m = inner_->finish();
        parts_.write();
        return m;
    }
    [[nodiscard]] std::vector<double> planes() const override { return inner_->planes(); }
    [[nodiscard]] std::size_t layer_of(std::size_t part) const { return parts_.layer_of(part); }

private:
    stand_ins parts_;
    bool unit_;
    float rate_;
    std::unique_ptr<arm> inner_;
};

} // namespace csq_example
