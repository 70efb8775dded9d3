// SPDX-License-Identifier: MIT
#pragma once

// The ways of training few bits that are compared. An arm owns its parameters, writes the weights of a network from them, takes the
// network's gradients, and ends with integers times scales.

#include "../nn/network.hpp"
#include "storage.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <quant/bsq.hpp>
#include <quant/csq.hpp>
#include <quant/fracbits.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace csq_example {

/// The weights of a network that are quantized: value is written by an arm, grad is read.
using layers = std::vector<nn::parameter*>;
/// Float weights, by layer.
using weights = std::vector<std::vector<float>>;

inline layers weights_of(nn::network& net) {
    layers all;
    for (nn::parameter* p : net.parameters())
        if (p->value.shape.size() > 1) all.push_back(p);
    return all;
}
inline weights values_of(const layers& to) {
    weights w;
    for (const nn::parameter* p : to) w.push_back(p->value.data);
    return w;
}
inline std::vector<std::size_t> sizes_of(const layers& to) {
    std::vector<std::size_t> n;
    for (const nn::parameter* p : to) n.push_back(p->value.size());
    return n;
}

/// What can be chosen about an arm. Zero widths: not this arm's.
struct knobs {
    float rate = 0.05f;         ///< of float weights and biases, falling as a cosine
    float step_rate = 0.05f;    ///< learned scales, times rate
    double bit_rate = 20;       ///< CSQ's bits
    double bit_decay = 1e-4;    ///< of CSQ's bits
    double mask_rate = 4;       ///< CSQ's masks, times rate
    double share = 0.6;         ///< of the run in which planes or widths are found
    double strength = 0.1;      ///< FracBits: of the budget
    double budget_strength = 1; ///< CSQ: of the budget
    bool by_row = false;        ///< CSQ: a mask for each row
    bool from_float = false;    ///< fixed planes start from the float weights, not from what was hardened
    std::vector<int> widths{};  ///< stored bits by layer
};

/// Where a run is.
struct moment {
    std::size_t step = 0, steps = 1;
    float rate = 0; ///< of float parameters
    [[nodiscard]] double share() const { return static_cast<double>(step) / static_cast<double>(steps); }
};

/// Momentum of one group of parameters.
inline void descend(std::span<float> values, std::span<const float> gradients, std::vector<float>& velocity, float rate,
                    float decay = 0) {
    velocity.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        velocity[i] = 0.9f * velocity[i] + gradients[i] + decay * values[i];
        values[i] -= rate * velocity[i];
    }
}

class arm {
public:
    explicit arm(layers to) : to_(std::move(to)) {}
    arm(const arm&) = delete;
    arm& operator=(const arm&) = delete;
    virtual ~arm() = default;
    /// Writes the weights for this step.
    virtual void forward(const moment& at) = 0;
    /// Takes their gradients and steps.
    virtual void update(const moment& at) = 0;
    /// The integer model, written into the network too; empty: the weights stay float.
    virtual integer_model finish() = 0;
    /// Planes (or widths) of the layers now.
    [[nodiscard]] virtual std::vector<double> planes() const { return std::vector<double>(to_.size(), 32.0); }

protected:
    [[nodiscard]] integer_layer empty_layer(std::size_t l) const {
        integer_layer done;
        done.rows = to_[l]->value.shape[0];
        done.columns = to_[l]->value.size() / done.rows;
        done.codes.resize(to_[l]->value.size());
        return done;
    }
    /// Integers that are not the weights, bit for bit, are a defect.
    void check(std::size_t l, const integer_layer& done) const {
        for (std::size_t i = 0; i < done.codes.size(); ++i)
            if (static_cast<float>(done.codes[i]) * done.scale != to_[l]->value.data[i])
                throw std::logic_error("codes are not the weights");
    }
    layers to_;
};

/// No quantization.
class float_arm : public arm {
public:
    explicit float_arm(layers to) : arm(std::move(to)), velocity_(to_.size()) {}
    void forward(const moment&) override {}
    void update(const moment& at) override {
        for (std::size_t l = 0; l < to_.size(); ++l)
            descend(to_[l]->value.data, to_[l]->grad.data, velocity_[l], at.rate);
    }
    integer_model finish() override { return {}; }

private:
    weights velocity_;
};

/// The integers that a layer is rounded to: those that digit planes reach, or the 2^odd_bits odd ones around zero.
struct grid {
    quant::digit_planes planes{};
    int odd_bits = 0;
    std::vector<quant::digit_planes> rows{}; ///< of each row where they differ; `planes` are then all that occur
    [[nodiscard]] float largest() const {
        return odd_bits > 0 ? static_cast<float>((1 << odd_bits) - 1) : static_cast<float>(planes.largest());
    }
    [[nodiscard]] double nominal() const {
        if (rows.empty()) return odd_bits > 0 ? odd_bits - 1 : static_cast<double>(std::popcount(planes.mask));
        double sum = 0;
        for (const quant::digit_planes row : rows) sum += static_cast<double>(std::popcount(row.mask));
        return sum / static_cast<double>(rows.size());
    }
    /// f(first, count, planes) for the stretches of n weights that have the same planes.
    template <class F> void for_each_stretch(std::size_t n, const F& f) const {
        if (rows.empty()) return f(std::size_t{0}, n, planes);
        for (std::size_t r = 0; r < rows.size(); ++r) f(r * (n / rows.size()), n / rows.size(), rows[r]);
    }
};
/// The grid that uses `bits` stored bits best: the odd integers where leaving one code out would cost most.
inline grid grid_of_bits(int bits) {
    if (bits <= 2) return {{}, bits};
    return {quant::digit_planes{(1u << (bits - 1)) - 1}, 0};
}
inline grid grid_of_planes(int planes) { return {quant::digit_planes{(1u << planes) - 1}, 0}; }

inline void round_to(std::span<const float> w, std::span<float> to, float scale, const grid& g) {
    if (g.odd_bits == 0)
        return g.for_each_stretch(w.size(), [&](std::size_t at, std::size_t n, quant::digit_planes planes) {
            require(quant::round_to_planes(w.subspan(at, n), to.subspan(at, n), {&scale, 1}, planes));
        });
    const float top = g.largest();
    for (std::size_t i = 0; i < w.size(); ++i)
        to[i] = std::clamp(2 * std::floor(w[i] / scale * 0.5f) + 1, -top, top) * scale;
}
/// The latent weights' gradients into `to`; returns the scale's. The formulas are those of quant::round_to_planes_backward.
inline float round_to_backward(std::span<const float> w, std::span<const float> grad, std::span<float> to, float scale,
                               const grid& g) {
    float of_scale = 0;
    if (g.odd_bits == 0) {
        g.for_each_stretch(w.size(), [&](std::size_t at, std::size_t n, quant::digit_planes planes) {
            float own = 0;
            require(quant::round_to_planes_backward(w.subspan(at, n), grad.subspan(at, n), to.subspan(at, n), {&own, 1},
                                                    {&scale, 1}, planes));
            of_scale += own;
        });
        return of_scale;
    }
    const float top = g.largest() + 1; // half a step further is still rounded to the last code
    for (std::size_t i = 0; i < w.size(); ++i) {
        const float v = w[i] / scale, q = std::clamp(2 * std::floor(v * 0.5f) + 1, -top + 1, top - 1);
        const bool inside = std::abs(v) <= top;
        to[i] = inside ? grad[i] : 0;
        of_scale += grad[i] * (inside ? q - v : q);
    }
    return of_scale;
}
/// The scale of the least squared error among 60.
inline float best_scale(std::span<const float> w, const grid& g) {
    float largest = 0;
    for (const float v : w) largest = std::max(largest, std::abs(v));
    if (largest == 0 || g.largest() == 0) return 1;
    std::vector<float> rounded(w.size());
    float best = largest / g.largest();
    double least = -1;
    for (int k = 60; k > 0; --k) {
        const float scale = largest / g.largest() * static_cast<float>(k) / 60;
        round_to(w, rounded, scale, g);
        double error = 0;
        for (std::size_t i = 0; i < w.size(); ++i)
            error += static_cast<double>((rounded[i] - w[i]) * (rounded[i] - w[i]));
        if (least < 0 || error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

/// Rounding to given grids: with the scale of the largest weight, or with a learned one (LSQ, and the finish of the others).
class rounding_arm : public arm {
public:
    rounding_arm(layers to, weights latent, std::vector<grid> grids, std::vector<float> scales, bool learned,
                 float step_rate)
        : arm(std::move(to)), w_(std::move(latent)), grids_(std::move(grids)), scale_(std::move(scales)),
          learned_(learned), step_rate_(step_rate), velocity_(w_.size()), scale_velocity_(w_.size(), 0) {}
    rounding_arm(const layers& to, const weights& latent, const std::vector<grid>& grids, bool learned, float step_rate)
        : rounding_arm(to, latent, grids, scales_of(latent, grids), learned, step_rate) {}

    static std::vector<float> scales_of(const weights& w, const std::vector<grid>& grids) {
        std::vector<float> scales;
        for (std::size_t l = 0; l < w.size(); ++l) scales.push_back(best_scale(w[l], grids[l]));
        return scales;
    }
    void forward(const moment&) override {
        for (std::size_t l = 0; l < w_.size(); ++l) {
            if (!learned_) {
                float largest = 0;
                for (const float v : w_[l]) largest = std::max(largest, std::abs(v));
                scale_[l] = largest / grids_[l].largest();
            }
            round_to(w_[l], to_[l]->value.data, scale_[l], grids_[l]);
        }
    }
    void update(const moment& at) override {
        std::vector<float> d;
        for (std::size_t l = 0; l < w_.size(); ++l) {
            d.resize(w_[l].size());
            const float of_scale = round_to_backward(w_[l], to_[l]->grad.data, d, scale_[l], grids_[l]);
            descend(w_[l], d, velocity_[l], at.rate);
            if (!learned_ || grids_[l].largest() == 0) continue;
            const float slow = 1 / std::sqrt(static_cast<float>(w_[l].size()) * grids_[l].largest());
            scale_velocity_[l] = 0.9f * scale_velocity_[l] + of_scale * slow;
            scale_[l] = std::max(scale_[l] - step_rate_ * at.rate * scale_velocity_[l], 0.5f * scale_[l]);
        }
    }
    integer_model finish() override {
        forward({});
        integer_model m;
        for (std::size_t l = 0; l < w_.size(); ++l) {
            integer_layer done = empty_layer(l);
            if (grids_[l].odd_bits == 0)
                grids_[l].for_each_stretch(
                    w_[l].size(), [&](std::size_t at, std::size_t n, quant::digit_planes planes) {
                        require(quant::codes_of_planes(std::span<const float>(w_[l]).subspan(at, n),
                                                       std::span(done.codes).subspan(at, n),
                                                       std::span<const float>(&scale_[l], 1), planes));
                    });
            else
                for (std::size_t i = 0; i < done.codes.size(); ++i)
                    done.codes[i] = static_cast<std::int16_t>(std::lround(to_[l]->value.data[i] / scale_[l]));
            done.scale = scale_[l];
            done.planes = grids_[l].nominal();
            done.odd_bits = grids_[l].odd_bits;
            done.by_row = !grids_[l].rows.empty();
            check(l, done);
            m.push_back(std::move(done));
        }
        return m;
    }
    [[nodiscard]] std::vector<double> planes() const override {
        std::vector<double> all;
        for (const grid& g : grids_) all.push_back(g.nominal());
        return all;
    }

private:
    weights w_;
    std::vector<grid> grids_;
    std::vector<float> scale_;
    bool learned_;
    float step_rate_;
    weights velocity_;
    std::vector<float> scale_velocity_;
};

/// An arm of two phases: planes or widths are found, then rounded to with a learned scale.
class finishing_arm : public arm {
public:
    finishing_arm(layers to, weights start, knobs k) : arm(std::move(to)), k_(std::move(k)), start_(std::move(start)) {}
    void forward(const moment& at) override {
        if (!second_ && k_.share < 1 && at.share() >= k_.share) second_ = finish_arm();
        second_ ? second_->forward(at) : find(first(at));
    }
    void update(const moment& at) override { second_ ? second_->update(rest(at)) : learn(first(at)); }
    integer_model finish() override { return second_ ? second_->finish() : harden(); }
    [[nodiscard]] std::vector<double> planes() const override { return second_ ? second_->planes() : found(); }

protected:
    virtual void find(const moment& at) = 0;
    virtual void learn(const moment& at) = 0;
    [[nodiscard]] virtual std::vector<double> found() const = 0;
    /// Ends the first phase: the integers of its weights, written into the network.
    virtual integer_model harden() = 0;
    /// The grids that belong to them.
    virtual grid grid_of(std::size_t l, const integer_layer& done) const = 0;

    knobs k_;
    weights start_;

private:
    /// Each phase is a run of its own, with its own falling rate.
    [[nodiscard]] std::size_t first_steps(const moment& at) const {
        return std::max<std::size_t>(1, static_cast<std::size_t>(k_.share * static_cast<double>(at.steps)));
    }
    [[nodiscard]] moment part(std::size_t step, std::size_t steps) const {
        const quant::cosine_rate rate{.start = static_cast<double>(k_.rate)};
        return {step, steps, static_cast<float>(rate(static_cast<double>(step), static_cast<double>(steps)))};
    }
    [[nodiscard]] moment first(const moment& at) const { return part(at.step, first_steps(at)); }
    [[nodiscard]] moment rest(const moment& at) const {
        const std::size_t before = std::min(at.step, first_steps(at));
        return part(at.step - before, std::max<std::size_t>(1, at.steps - before));
    }
    std::unique_ptr<rounding_arm> finish_arm() {
        const integer_model done = harden();
        std::vector<grid> grids;
        std::vector<float> scales;
        for (std::size_t l = 0; l < done.size(); ++l) {
            grids.push_back(grid_of(l, done[l]));
            scales.push_back(done[l].scale);
        }
        if (k_.from_float) return std::make_unique<rounding_arm>(to_, start_, grids, true, k_.step_rate);
        return std::make_unique<rounding_arm>(to_, values_of(to_), grids, scales, true, k_.step_rate);
    }
    std::unique_ptr<rounding_arm> second_;
};

class csq_arm : public finishing_arm {
public:
    static constexpr std::size_t most = 8;
    csq_arm(const layers& to, const weights& start, double target, const knobs& k)
        : finishing_arm(to, start, k), layers_(to.size()), grads_(to.size()), bits_(to.size()), full_scales_(to.size()),
          values_(4 * to.size()), gradients_(4 * to.size()),
          velocity_(4 * to.size()), training_{layers_,
                                              grads_,
                                              bits_,
                                              full_scales_,
                                              {.rate = {.start = static_cast<double>(k.rate)},
                                               .budget = {.target_bits = target, .strength = k.budget_strength},
                                               .bit_rate = k.bit_rate,
                                               .mask_rate = k.mask_rate,
                                               .bit_decay = k.bit_decay}} {
        for (std::size_t l = 0; l < to.size(); ++l) {
            const std::size_t n = start[l].size(), groups = k.by_row ? to[l]->value.shape[0] : 1;
            const std::size_t counts[] = {most * n, most * n, most * groups, 1};
            for (std::size_t i = 0; i < 4; ++i) {
                values_[4 * l + i].resize(counts[i]);
                gradients_[4 * l + i].resize(counts[i]);
            }
            const auto layer = [&](auto& all) {
                return quant::csq::layer<float>{all[4 * l], all[4 * l + 1], all[4 * l + 2], all[4 * l + 3], most};
            };
            layers_[l] = layer(values_);
            grads_[l] = layer(gradients_);
        }
        for (std::size_t l = 0; l < to.size(); ++l) require(training_.start(l, start[l]));
    }

protected:
    void find(const moment& at) override {
        require(training_.begin_step(at.step, at.steps));
        for (std::size_t l = 0; l < layers_.size(); ++l) require(training_.forward(l, to_[l]->value.data));
    }
    void learn(const moment&) override {
        for (std::size_t l = 0; l < layers_.size(); ++l) require(training_.backward(l, to_[l]->grad.data));
        training_.update([&](const quant::csq::parameter_group<float>& g) {
            descend(g.values, g.gradients, velocity_[g.index], static_cast<float>(g.rate), static_cast<float>(g.decay));
        });
    }
    [[nodiscard]] std::vector<double> found() const override {
        std::vector<double> all;
        for (const auto& l : layers_) all.push_back(quant::csq::bits(l).bits);
        return all;
    }
    integer_model harden() override {
        integer_model m;
        kept_.clear();
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            integer_layer layer = empty_layer(l);
            const auto done = require(quant::csq::harden(layers_[l], layer.codes));
            require(quant::csq::forward(layers_[l], to_[l]->value.data, {.mode = quant::csq::gate_mode::hard}));
            layer.scale = static_cast<float>(done.scale);
            layer.planes = k_.by_row ? quant::csq::bits(layers_[l]).bits : done.bits().bits;
            layer.by_row = k_.by_row;
            kept_.push_back({quant::digit_planes{done.planes}, 0});
            for (std::size_t r = 0; k_.by_row && r < layer.rows; ++r) {
                std::uint32_t open = 0;
                for (std::size_t b = 0; b < most; ++b)
                    if (layers_[l].mask[b * layer.rows + r] >= 0) open |= 1u << b;
                kept_.back().rows.push_back({(open >> done.stripped) & done.planes});
            }
            check(l, layer);
            m.push_back(std::move(layer));
        }
        return m;
    }
    [[nodiscard]] grid grid_of(std::size_t l, const integer_layer&) const override { return kept_[l]; }

private:
    std::vector<quant::csq::layer<float>> layers_, grads_;
    std::vector<quant::layer_bits> bits_;
    std::vector<double> full_scales_;
    weights values_, gradients_, velocity_;
    quant::csq::training<float> training_;
    std::vector<grid> kept_;
};

class bsq_arm : public finishing_arm {
public:
    static constexpr std::size_t most = 8;
    bsq_arm(const layers& to, const weights& start, double strength, const knobs& k)
        : finishing_arm(to, start, k), strength_(strength), values_(3 * to.size()), gradients_(3 * to.size()),
          velocity_(3 * to.size()) {
        for (std::size_t l = 0; l < to.size(); ++l) {
            const std::size_t n = start[l].size();
            for (std::size_t i = 0; i < 3; ++i) {
                values_[3 * l + i].resize(i < 2 ? (most + 1) * n : 1);
                gradients_[3 * l + i].resize(values_[3 * l + i].size());
            }
            layers_.push_back({values_[3 * l], values_[3 * l + 1], values_[3 * l + 2], n, most});
            require(quant::bsq::init_from_float(start[l], layers_[l]));
            full_scales_.push_back(layers_[l].scale[0] * static_cast<float>((1u << most) - 1));
        }
    }

protected:
    void find(const moment& at) override {
        const std::size_t often = std::max<std::size_t>(1, at.steps / 10);
        if (at.step != 0 && at.step % often == 0) adjust();
        for (std::size_t l = 0; l < layers_.size(); ++l) require(quant::bsq::forward(layers_[l], to_[l]->value.data));
    }
    void learn(const moment& at) override {
        std::vector<quant::layer_bits> sizes;
        for (const auto& l : layers_) sizes.push_back(quant::bsq::bits(l));
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const quant::bsq::layer<float> d{gradients_[3 * l], gradients_[3 * l + 1], gradients_[3 * l + 2],
                                             layers_[l].weights, layers_[l].planes};
            require(quant::bsq::backward(layers_[l], to_[l]->grad.data, d));
            require(quant::bsq::add_lasso_gradient(layers_[l], d, strength_ * quant::bsq::lasso_share(sizes, l)));
            const std::size_t live = layers_[l].planes * layers_[l].weights;
            const float rate = at.rate / (full_scales_[l] * full_scales_[l]);
            for (std::size_t i = 0; i < 2; ++i)
                descend(std::span(values_[3 * l + i]).first(live), std::span(gradients_[3 * l + i]).first(live),
                        velocity_[3 * l + i], rate);
            require(quant::bsq::clip_bits(layers_[l]));
        }
    }
    [[nodiscard]] std::vector<double> found() const override {
        std::vector<double> all;
        for (const auto& l : layers_) all.push_back(static_cast<double>(l.planes));
        return all;
    }
    integer_model harden() override {
        adjust();
        integer_model m;
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            integer_layer layer = empty_layer(l);
            float scale[1];
            const auto done = require(quant::bsq::harden(layers_[l], layer.codes, std::span<float>(scale)));
            require(quant::bsq::forward(layers_[l], to_[l]->value.data));
            layer.scale = scale[0];
            layer.planes = done.bits().bits;
            check(l, layer);
            m.push_back(std::move(layer));
        }
        return m;
    }
    [[nodiscard]] grid grid_of(std::size_t l, const integer_layer&) const override {
        return grid_of_planes(static_cast<int>(layers_[l].planes));
    }

private:
    void adjust() {
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            require(quant::bsq::requantize(layers_[l]).status());
            for (std::size_t i = 0; i < 3; ++i) velocity_[3 * l + i].clear();
        }
    }
    double strength_;
    weights values_, gradients_, velocity_;
    std::vector<quant::bsq::layer<float>> layers_;
    std::vector<float> full_scales_;
};

/// Fractional widths on 2^width levels, a learned range for each layer instead of the factor of scale-adjusted training. The widths are
/// rounded after `share` of the run; the rest goes on with the same latent weights, or with a learned step.
class fracbits_arm : public finishing_arm {
public:
    fracbits_arm(const layers& to, const weights& start, double target, const knobs& k)
        : finishing_arm(to, start, k), budget_{.target_bits = target, .strength = k.strength}, w_(start),
          velocity_(to.size()), width_velocity_(to.size(), 0), range_velocity_(to.size(), 0), sizes_(sizes_of(to)) {
        for (const auto& w : start) {
            float largest = 0;
            for (const float v : w) largest = std::max(largest, std::abs(v));
            range_.push_back(largest);
            widths_.push_back(static_cast<float>(std::min(target + 0.5, 8.0)));
        }
    }

protected:
    /// Of the whole run when there is no other finish.
    static constexpr double frozen_from = 0.8;

    void find(const moment& at) override {
        if (bits_.empty() && at.share() >= frozen_from) freeze();
        for (std::size_t l = 0; l < w_.size(); ++l)
            require(quant::fracbits::forward(w_[l], to_[l]->value.data, std::span<const float>(&widths_[l], 1),
                                             static_cast<double>(range_[l])));
    }
    void learn(const moment& at) override {
        std::vector<quant::layer_bits> now;
        for (std::size_t l = 0; l < w_.size(); ++l) now.push_back({sizes_[l], static_cast<double>(widths_[l])});
        std::vector<float> d;
        for (std::size_t l = 0; l < w_.size(); ++l) {
            d.resize(w_[l].size());
            float of_width = 0;
            require(quant::fracbits::backward(w_[l], to_[l]->grad.data, d, std::span<float>(&of_width, 1),
                                              std::span<const float>(&widths_[l], 1), static_cast<double>(range_[l])));
            // w is proportional to the range.
            float of_range = 0;
            for (std::size_t i = 0; i < d.size(); ++i) of_range += to_[l]->grad.data[i] * to_[l]->value.data[i];
            of_range /= range_[l] * std::sqrt(static_cast<float>(d.size()));
            descend(w_[l], d, velocity_[l], at.rate);
            range_velocity_[l] = 0.9f * range_velocity_[l] + of_range;
            range_[l] = std::max(range_[l] - k_.step_rate * at.rate * range_velocity_[l], 0.5f * range_[l]);
            if (!bits_.empty()) continue;
            of_width += static_cast<float>(require(quant::fracbits::budget_slope(now, l, budget_)));
            width_velocity_[l] = 0.9f * width_velocity_[l] + of_width;
            widths_[l] -= at.rate * width_velocity_[l];
        }
        require(quant::fracbits::clamp_widths(std::span(widths_)));
    }
    [[nodiscard]] std::vector<double> found() const override { return {widths_.begin(), widths_.end()}; }
    integer_model harden() override {
        if (bits_.empty()) freeze();
        find({});
        integer_model m;
        for (std::size_t l = 0; l < w_.size(); ++l) {
            integer_layer layer = empty_layer(l);
            require(quant::fracbits::harden(w_[l], layer.codes, std::span<float>(&layer.scale, 1),
                                            std::span<const std::uint8_t>(&bits_[l], 1),
                                            static_cast<double>(range_[l])));
            layer.odd_bits = bits_[l];
            layer.planes = bits_[l] - 1.0;
            check(l, layer);
            m.push_back(std::move(layer));
        }
        return m;
    }
    [[nodiscard]] grid grid_of(std::size_t l, const integer_layer&) const override { return grid_of_bits(bits_[l]); }

private:
    void freeze() {
        bits_.resize(widths_.size());
        auto offset = quant::fracbits::discretize(std::span<const float>(widths_), sizes_, std::span(bits_), budget_);
        for (int k = 0; k < 8 && !offset; ++k) { // a single step down is not enough for the budget: shrink first
            for (float& width : widths_) width = std::max(width - 1.0f, 1.0f);
            offset = quant::fracbits::discretize(std::span<const float>(widths_), sizes_, std::span(bits_), budget_);
        }
        require(offset.status());
        for (std::size_t l = 0; l < widths_.size(); ++l) widths_[l] = static_cast<float>(bits_[l]);
    }
    quant::bit_budget budget_;
    weights w_;
    weights velocity_;
    std::vector<float> width_velocity_, range_velocity_, range_, widths_;
    std::vector<std::size_t> sizes_;
    std::vector<std::uint8_t> bits_;
};

} // namespace csq_example
