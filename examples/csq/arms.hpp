// SPDX-License-Identifier: MIT
#pragma once

// The ways of training few bits that are compared. An arm owns its parameters, makes weights of them, takes gradients, and ends with
// integers times scales.

#include "network.hpp"

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
#include <vector>

namespace csq_example {

inline void require(quant::status s) {
    if (!s) throw std::runtime_error(std::string("quant: ") + s.argument);
}
template <class T> const T& require(const quant::result<T>& r) {
    require(r.status());
    return *r;
}

/// Where a run is.
struct moment {
    std::size_t step = 0, steps = 1;
    float rate = 0; ///< of float parameters
    [[nodiscard]] double share() const { return static_cast<double>(step) / static_cast<double>(steps); }
};

/// Sizes of the model that an arm ended with: means over the weights.
struct model_size {
    double planes = 0; ///< nominal, without the sign
    double stored = 0; ///< bits per weight as the planes are stored
};

class arm {
public:
    virtual ~arm() = default;
    /// Weights for this step.
    virtual void forward(const moment& at, weights& w_hat) = 0;
    /// Takes their gradients and steps.
    virtual void update(const moment& at, const weights& grads) = 0;
    /// The integer model; checks that it is one.
    virtual model_size finish(weights& w_hat) = 0;

protected:
    /// Momentum of one group of parameters.
    static void descend(std::span<float> values, std::span<const float> gradients, std::vector<float>& velocity,
                        float rate, float decay = 0) {
        velocity.resize(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            velocity[i] = 0.9f * velocity[i] + gradients[i] + decay * values[i];
            values[i] -= rate * velocity[i];
        }
    }
    static std::span<float> span(matrix& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }
    static std::span<const float> span(const matrix& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }
};

/// No quantization.
class float_arm : public arm {
public:
    explicit float_arm(const weights& w) : w_(w), velocity_(w.size()) {}
    void forward(const moment&, weights& w_hat) override { w_hat = w_; }
    void update(const moment& at, const weights& grads) override {
        for (std::size_t l = 0; l < w_.size(); ++l) descend(span(w_[l]), span(grads[l]), velocity_[l], at.rate);
    }
    model_size finish(weights& w_hat) override {
        w_hat = w_;
        return {32, 32};
    }

private:
    weights w_;
    std::vector<std::vector<float>> velocity_;
};

/// Rounding to given planes: with the scale of the largest weight, or with a learned one (LSQ, and the finish of CSQ and BSQ).
class planes_arm : public arm {
public:
    planes_arm(const weights& w, const std::vector<std::uint32_t>& planes, const std::vector<float>& scales,
               bool learned)
        : w_(w), planes_(planes), scale_(scales), learned_(learned), velocity_(w.size()), scale_velocity_(w.size(), 0) {
    }
    /// The same planes everywhere.
    planes_arm(const weights& w, int planes, bool learned)
        : planes_arm(w, std::vector<std::uint32_t>(w.size(), (1u << planes) - 1), std::vector<float>(w.size(), 1),
                     learned) {
        for (std::size_t l = 0; l < w.size(); ++l) {
            const float largest = w[l].cwiseAbs().maxCoeff(), mean = w[l].cwiseAbs().mean(),
                        top = static_cast<float>(planes_[l]);
            scale_[l] = learned ? std::min(largest / top, 2 * mean / std::sqrt(top)) : largest / top;
        }
    }
    void forward(const moment&, weights& w_hat) override {
        w_hat = w_;
        for (std::size_t l = 0; l < w_.size(); ++l) {
            if (!learned_) scale_[l] = w_[l].cwiseAbs().maxCoeff() / static_cast<float>(planes_[l]);
            auto to = span(w_hat[l]);
            require(quant::round_to_planes(span(w_[l]), to, {&scale_[l], 1}, {planes_[l]}));
        }
    }
    void update(const moment& at, const weights& grads) override {
        for (std::size_t l = 0; l < w_.size(); ++l) {
            matrix d = grads[l];
            float of_scale = 0;
            auto to = span(d);
            require(quant::round_to_planes_backward(span(w_[l]), span(grads[l]), to, {&of_scale, 1}, {&scale_[l], 1},
                                                    {planes_[l]}));
            descend(span(w_[l]), span(d), velocity_[l], at.rate);
            if (!learned_ || planes_[l] == 0) continue;
            const auto size = static_cast<std::size_t>(w_[l].size());
            const float slow = static_cast<float>(quant::learned_scale_rate(size, {planes_[l]}));
            scale_velocity_[l] = 0.9f * scale_velocity_[l] + of_scale * slow;
            scale_[l] = std::max(scale_[l] - 0.05f * at.rate * scale_velocity_[l], 0.5f * scale_[l]);
        }
    }
    model_size finish(weights& w_hat) override {
        forward({}, w_hat);
        model_size size;
        double all = 0;
        for (std::size_t l = 0; l < w_.size(); ++l) {
            const auto n = static_cast<std::size_t>(w_[l].size());
            std::vector<std::int16_t> codes(n);
            require(quant::codes_of_planes(span(w_[l]), codes, {&scale_[l], 1}, {planes_[l]}));
            for (std::size_t i = 0; i < n; ++i)
                if (static_cast<float>(codes[i]) * scale_[l] != w_hat[l].data()[i])
                    throw std::logic_error("codes are not the weights");
            const auto live = static_cast<double>(std::popcount(planes_[l]));
            const int top = static_cast<int>(std::bit_width(planes_[l]));
            const auto digits = static_cast<double>(planes_[l] == 0 ? 0 : top - std::countr_zero(planes_[l]));
            size.planes += live * static_cast<double>(n);
            size.stored += (live == 0 ? 0 : std::min(2 * live, digits + 1)) * static_cast<double>(n);
            all += static_cast<double>(n);
        }
        return {size.planes / all, size.stored / all};
    }

private:
    weights w_;
    std::vector<std::uint32_t> planes_;
    std::vector<float> scale_;
    bool learned_;
    std::vector<std::vector<float>> velocity_;
    std::vector<float> scale_velocity_;
};

/// An arm of two phases: planes are found, then rounded to with a learned scale from the float weights.
class finishing_arm : public arm {
public:
    finishing_arm(const weights& w, double share) : w_(w), share_(share) {}
    void forward(const moment& at, weights& w_hat) override {
        if (!second_ && at.share() >= share_) second_ = finish_arm(w_);
        second_ ? second_->forward(at, w_hat) : find(first(at), w_hat);
    }
    void update(const moment& at, const weights& grads) override {
        second_ ? second_->update(at, grads) : learn(first(at), grads);
    }
    model_size finish(weights& w_hat) override {
        if (!second_) second_ = finish_arm(w_);
        return second_->finish(w_hat);
    }

protected:
    virtual void find(const moment& at, weights& w_hat) = 0;
    virtual void learn(const moment& at, const weights& grads) = 0;
    virtual std::unique_ptr<planes_arm> finish_arm(const weights& w) = 0;

private:
    /// The first phase as a run of its own.
    [[nodiscard]] moment first(moment at) const {
        at.steps = std::max<std::size_t>(1, static_cast<std::size_t>(share_ * static_cast<double>(at.steps)));
        return at;
    }
    weights w_;
    double share_;
    std::unique_ptr<planes_arm> second_;
};

class csq_arm : public finishing_arm {
public:
    static constexpr std::size_t planes = 8;
    csq_arm(const weights& w, double target, double share)
        : finishing_arm(w, share), layers_(w.size()), grads_(w.size()), bits_(w.size()), full_scales_(w.size()),
          values_(4 * w.size()), gradients_(4 * w.size()),
          velocity_(4 * w.size()), training_{
                                       layers_, grads_, bits_, full_scales_, {.budget = {.target_bits = target}}} {
        for (std::size_t l = 0; l < w.size(); ++l) {
            const auto n = static_cast<std::size_t>(w[l].size());
            const std::size_t counts[] = {planes * n, planes * n, planes, 1};
            for (std::size_t k = 0; k < 4; ++k) {
                values_[4 * l + k].resize(counts[k]);
                gradients_[4 * l + k].resize(counts[k]);
            }
            const auto layer = [&](auto& all) {
                return quant::csq::layer<float>{all[4 * l], all[4 * l + 1], all[4 * l + 2], all[4 * l + 3], planes};
            };
            layers_[l] = layer(values_);
            grads_[l] = layer(gradients_);
        }
        for (std::size_t l = 0; l < w.size(); ++l) require(training_.start(l, span(w[l])));
    }

protected:
    void find(const moment& at, weights& w_hat) override {
        require(training_.begin_step(at.step, at.steps));
        for (std::size_t l = 0; l < layers_.size(); ++l) require(training_.forward(l, span(w_hat[l])));
    }
    void learn(const moment&, const weights& grads) override {
        for (std::size_t l = 0; l < layers_.size(); ++l) require(training_.backward(l, span(grads[l])));
        training_.update([&](const quant::csq::parameter_group<float>& g) {
            descend(g.values, g.gradients, velocity_[g.index], static_cast<float>(g.rate), static_cast<float>(g.decay));
        });
    }
    std::unique_ptr<planes_arm> finish_arm(const weights& w) override {
        weights hard = w;
        std::vector<std::uint32_t> kept;
        std::vector<float> scales;
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            std::vector<std::int16_t> codes(layers_[l].weights());
            const auto done = require(quant::csq::harden(layers_[l], codes));
            kept.push_back(done.planes);
            scales.push_back(static_cast<float>(done.scale));
            require(quant::csq::forward(layers_[l], span(hard[l]), {.mode = quant::csq::gate_mode::hard}));
        }
        return std::make_unique<planes_arm>(hard, kept, scales, true);
    }

private:
    std::vector<quant::csq::layer<float>> layers_, grads_;
    std::vector<quant::layer_bits> bits_;
    std::vector<double> full_scales_;
    std::vector<std::vector<float>> values_, gradients_, velocity_;
    quant::csq::training<float> training_;
};

class bsq_arm : public finishing_arm {
public:
    static constexpr std::size_t planes = 8;
    bsq_arm(const weights& w, double strength, double share)
        : finishing_arm(w, share), strength_(strength), values_(3 * w.size()), gradients_(3 * w.size()),
          velocity_(3 * w.size()) {
        for (std::size_t l = 0; l < w.size(); ++l) {
            const auto n = static_cast<std::size_t>(w[l].size());
            for (std::size_t k = 0; k < 3; ++k) {
                values_[3 * l + k].resize(k < 2 ? (planes + 1) * n : 1);
                gradients_[3 * l + k].resize(values_[3 * l + k].size());
            }
            layers_.push_back({values_[3 * l], values_[3 * l + 1], values_[3 * l + 2], n, planes});
            require(quant::bsq::init_from_float(span(w[l]), layers_[l]));
            full_scales_.push_back(w[l].cwiseAbs().maxCoeff());
        }
    }

protected:
    void find(const moment& at, weights& w_hat) override {
        const std::size_t often = std::max<std::size_t>(1, at.steps / 10);
        if (at.step != 0 && at.step % often == 0) adjust();
        for (std::size_t l = 0; l < layers_.size(); ++l) require(quant::bsq::forward(layers_[l], span(w_hat[l])));
    }
    void learn(const moment& at, const weights& grads) override {
        std::vector<quant::layer_bits> sizes;
        sizes.reserve(layers_.size());
        for (const auto& l : layers_) sizes.push_back(quant::bsq::bits(l));
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const quant::bsq::layer<float> d{gradients_[3 * l], gradients_[3 * l + 1], gradients_[3 * l + 2],
                                             layers_[l].weights, layers_[l].planes};
            require(quant::bsq::backward(layers_[l], span(grads[l]), d));
            require(quant::bsq::add_lasso_gradient(layers_[l], d, strength_ * quant::bsq::lasso_share(sizes, l)));
            const std::size_t live = layers_[l].planes * layers_[l].weights;
            const float rate = at.rate / (full_scales_[l] * full_scales_[l]);
            for (std::size_t k = 0; k < 2; ++k)
                descend(std::span(values_[3 * l + k]).first(live), std::span(gradients_[3 * l + k]).first(live),
                        velocity_[3 * l + k], rate);
            require(quant::bsq::clip_bits(layers_[l]));
        }
    }
    std::unique_ptr<planes_arm> finish_arm(const weights& w) override {
        adjust();
        weights hard = w;
        std::vector<std::uint32_t> kept;
        std::vector<float> scales;
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            require(quant::bsq::forward(layers_[l], span(hard[l])));
            kept.push_back((1u << layers_[l].planes) - 1);
            scales.push_back(layers_[l].scale[0]);
        }
        return std::make_unique<planes_arm>(hard, kept, scales, true);
    }

private:
    void adjust() {
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            require(quant::bsq::requantize(layers_[l]).status());
            for (std::size_t k = 0; k < 3; ++k) velocity_[3 * l + k].clear();
        }
    }
    double strength_;
    std::vector<std::vector<float>> values_, gradients_, velocity_;
    std::vector<quant::bsq::layer<float>> layers_;
    std::vector<float> full_scales_;
};

} // namespace csq_example
