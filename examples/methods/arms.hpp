// SPDX-License-Identifier: MIT
#pragma once

// The methods: what each keeps for a layer and how it stands in the training loop.

#include "../nn/matrix.hpp"
#include "training.hpp"

#include <quant/admm.hpp>
#include <quant/constraints.hpp>
#include <quant/cpq.hpp>
#include <quant/mixed_precision.hpp>
#include <quant/precision_search.hpp>
#include <quant/rmsmp.hpp>

#include <array>
#include <cstdio>
#include <memory>

namespace methods {

inline std::string widths_text(const model& net, const std::function<double(std::size_t)>& of_layer) {
    std::string text;
    for (std::size_t l = 0; l < net.shapes.size(); ++l) {
        char number[32];
        std::snprintf(number, sizeof number, "%s%g", l == 0 ? "" : " ", of_layer(l));
        text += number;
    }
    return text;
}

/// Rows of powers of two, of 4 and of 8 bits at 65:30:5, one learned scale for each layer; rows are assigned anew every fourth epoch.
class rmsmp_method : public method {
public:
    explicit rmsmp_method(const model& net) : shapes_(net.shapes), scales_("scales", {net.shapes.size()}) {
        for (std::size_t l = 0; l < shapes_.size(); ++l) {
            float largest = 0;
            for (const float w : net.weights[l]->value.data) largest = std::max(largest, std::abs(w));
            scales_.value.data[l] = 0.8f * largest;
            curvature_.emplace_back(shapes_[l].rows, 0.0);
            schemes_.emplace_back(shapes_[l].rows, quant::rmsmp::fixed8);
            assign(l, net.weights[l]->value.data);
        }
    }
    void quantize(std::size_t l, std::span<const float> latent, std::span<float> runs) override {
        require(quant::rmsmp::project(rows_of(shapes_[l], latent), rows_of(shapes_[l], runs), schemes_[l], scale(l)),
                shapes_[l].name);
    }
    void backward(std::size_t l, std::span<const float> latent, std::span<float> grad) override {
        const auto& s = shapes_[l];
        for (std::size_t r = 0; r < s.rows; ++r) // squared gradients of a row rank it as its curvature does
            for (std::size_t c = 0; c < s.cols; ++c) {
                const auto g = static_cast<double>(grad[r * s.cols + c]);
                curvature_[l][r] += g * g;
            }
        require(quant::rmsmp::backward(rows_of(s, latent), rows_of<const float>(s, grad), rows_of(s, grad),
                                       std::span(scales_.grad.data).subspan(l, 1), schemes_[l], scale(l)),
                s.name);
    }
    std::vector<std::pair<nn::parameter*, float>> parameters() override { return {{&scales_, 1.0f}}; }
    void after_step() override {
        for (float& s : scales_.value.data) s = std::max(s, 1e-3f);
    }
    void after_epoch(model& net, std::size_t epoch) override {
        if (epoch % 4 != 0) return;
        for (std::size_t l = 0; l < shapes_.size(); ++l) assign(l, net.weights[l]->value.data);
    }
    double bits(std::size_t l) const override {
        double sum = 0;
        for (const auto& s : schemes_[l]) sum += s.bits;
        return sum / static_cast<double>(schemes_[l].size());
    }
    std::string remark(const model& net) const override {
        double shifts = 0, rows = 0;
        for (std::size_t l = 0; l < net.shapes.size(); ++l)
            for (const auto& s : schemes_[l]) {
                shifts += s == quant::rmsmp::pot4 ? 1 : 0;
                rows += 1;
            }
        char text[64];
        std::snprintf(text, sizeof text, "%.0f of %.0f rows are powers of two", shifts, rows);
        return text;
    }

private:
    std::span<const float> scale(std::size_t l) const { return std::span(scales_.value.data).subspan(l, 1); }
    void assign(std::size_t l, std::span<const float> latent) {
        std::vector<double> variance(shapes_[l].rows);
        std::vector<std::uint32_t> order(shapes_[l].rows);
        require(quant::rmsmp::row_variances(rows_of(shapes_[l], latent), variance), shapes_[l].name);
        require(quant::rmsmp::assign_rows(curvature_[l], variance, {65, 30, 5}, schemes_[l], order).status(),
                shapes_[l].name);
    }
    std::vector<layer_shape> shapes_;
    nn::parameter scales_;
    std::vector<std::vector<double>> curvature_;
    std::vector<std::vector<quant::rmsmp::row_scheme>> schemes_;
};

/// CPQ on a grid of 4 bits per layer, step and noise learned; DropBits' gates with a penalty where `strength` is not 0.
class dropbits_method : public method {
public:
    static constexpr int most = 4;
    dropbits_method(const model& net, double strength, std::uint64_t seed)
        : shapes_(net.shapes), strength_(strength), seed_(seed), own_("grid", {2 * net.shapes.size()}),
          gates_(net.shapes.size()), phi_(net.shapes.size()), z_(net.shapes.size()), slopes_(net.shapes.size()) {
        const std::size_t count = quant::dropbits::gate_count(most);
        logits_ = std::make_unique<nn::parameter>("phi", std::vector<std::size_t>{count * net.shapes.size()});
        std::fill(logits_->value.data.begin(), logits_->value.data.end(), 2.0f);
        for (std::size_t l = 0; l < shapes_.size(); ++l) {
            float largest = 0;
            for (const float w : net.weights[l]->value.data) largest = std::max(largest, std::abs(w));
            const float step = 0.8f * largest / 7;
            own_.value.data[2 * l] = std::log(step);
            own_.value.data[2 * l + 1] = std::log(step / 3);
            gates_[l].assign(std::size_t{1} << (most - 1), 1.0f);
            phi_[l].assign(count, 2.0);
            z_[l].assign(count, 1.0);
            slopes_[l].assign(count, 0.0);
        }
    }
    void begin_step() override {
        for (std::size_t l = 0; strength_ > 0 && l < shapes_.size(); ++l) {
            read_logits(l);
            require(quant::dropbits::draw(phi_[l], z_[l], slopes_[l], seed_, l, step_), shapes_[l].name);
            require(quant::dropbits::magnitude_gates<float>(z_[l], gates_[l], most), shapes_[l].name);
        }
        ++step_;
    }
    void quantize(std::size_t l, std::span<const float> latent, std::span<float> runs) override {
        require(quant::cpq::forward(latent, runs, grid(l), gates_[l]), shapes_[l].name);
    }
    void backward(std::size_t l, std::span<const float> latent, std::span<float> grad) override {
        const auto g = grid(l);
        constexpr auto which = quant::cpq::surrogate::expectation;
        if (strength_ > 0) {
            std::vector<double> of_gates(gates_[l].size()), of_phi(phi_[l].size());
            require(quant::cpq::add_gate_gradient(latent, grad, of_gates, g, which, gates_[l]), shapes_[l].name);
            require(quant::dropbits::gate_gradients(z_[l], slopes_[l], of_gates, of_phi, most), shapes_[l].name);
            require(quant::dropbits::add_penalty_gradient(phi_[l], of_phi, strength_), shapes_[l].name);
            for (std::size_t i = 0; i < of_phi.size(); ++i)
                logits_->grad.data[l * of_phi.size() + i] = static_cast<float>(of_phi[i]);
        }
        const auto d = require(quant::cpq::backward(latent, grad, grad, g, which, gates_[l]), shapes_[l].name);
        own_.grad.data[2 * l] = static_cast<float>(d.alpha * g.alpha);
        own_.grad.data[2 * l + 1] = static_cast<float>(d.sigma * g.sigma);
    }
    std::vector<std::pair<nn::parameter*, float>> parameters() override {
        return {{&own_, 5.0f}, {logits_.get(), 50.0f}};
    }
    void after_step() override {
        for (std::size_t l = 0; l < shapes_.size(); ++l) { // noise between an eighth of a step and half of one
            float& noise = own_.value.data[2 * l + 1];
            noise = std::clamp(noise, own_.value.data[2 * l] - 2.08f, own_.value.data[2 * l] - 0.69f);
        }
    }
    void settle(std::size_t l, std::span<const float> latent, std::span<float> runs) override {
        read_logits(l);
        if (strength_ > 0) { // inference: all points of the levels that stay, by plain rounding
            const int width = width_of(l);
            for (std::size_t m = 0; m < gates_[l].size(); ++m)
                gates_[l][m] = m < std::size_t{1} << (width - 1) ? 1.0f : 0.0f;
        }
        quantize(l, latent, runs);
    }
    double bits(std::size_t l) const override { return strength_ > 0 ? width_of(l) : most; }
    std::string remark(const model& net) const override {
        return strength_ > 0 ? "widths " + widths_text(net, [&](std::size_t l) { return bits(l); })
                             : "step and noise learned";
    }

private:
    int width_of(std::size_t l) const { return require(quant::dropbits::width_of(phi_[l], most), shapes_[l].name); }
    void read_logits(std::size_t l) {
        for (std::size_t i = 0; i < phi_[l].size(); ++i)
            phi_[l][i] = static_cast<double>(logits_->value.data[l * phi_[l].size() + i]);
    }
    quant::cpq::grid grid(std::size_t l) const {
        return {.alpha = std::exp(static_cast<double>(own_.value.data[2 * l])),
                .sigma = std::exp(static_cast<double>(own_.value.data[2 * l + 1])),
                .bits = most};
    }
    std::vector<layer_shape> shapes_;
    double strength_;
    std::uint64_t seed_, step_ = 0;
    nn::parameter own_;
    std::unique_ptr<nn::parameter> logits_;
    std::vector<std::vector<float>> gates_;
    std::vector<std::vector<double>> phi_, z_, slopes_;
};

/// Every layer runs as a mixture of 2, 4 and 8 bits. A layer is linear in its weights, so mixing weights mixes its outputs.
class search_method : public method {
public:
    static constexpr std::array bits_of{2.0, 4.0, 8.0};
    static constexpr std::size_t options = bits_of.size();
    search_method(const model& net, double strength)
        : shapes_(net.shapes), strength_(strength), logits_("logits", {options * net.shapes.size()}),
          rounded_(net.shapes.size()) {}
    void quantize(std::size_t l, std::span<const float> latent, std::span<float> runs) override {
        const std::size_t n = latent.size();
        rounded_[l].resize(options * n);
        for (std::size_t o = 0; o < options; ++o)
            uniform::round(shapes_[l], static_cast<int>(bits_of[o]), latent, std::span(rounded_[l]).subspan(o * n, n));
        require(quant::precision_search::mix(quant::view(rounded_[l], options, n), mixture(l), runs), shapes_[l].name);
    }
    void backward(std::size_t l, std::span<const float> latent, std::span<float> grad) override {
        const std::size_t n = latent.size();
        const auto a = mixture(l);
        std::array<double, options> of_logits{};
        std::vector<float> of_weights(options * n);
        require(quant::precision_search::mix_backward(quant::view(rounded_[l], options, n), grad, a,
                                                      quant::view(of_weights, options, n), of_logits),
                shapes_[l].name);
        require(quant::precision_search::add_penalty_gradient(a, bits_of, strength_, of_logits), shapes_[l].name);
        for (std::size_t o = 0; o < options; ++o) logits_.grad.data[options * l + o] = static_cast<float>(of_logits[o]);
        // Straight through every rounding: the parts of the gradient add up to the whole again.
    }
    std::vector<std::pair<nn::parameter*, float>> parameters() override { return {{&logits_, 10.0f}}; }
    int width(std::size_t l) const {
        const auto values = logits_of(l);
        return static_cast<int>(bits_of[require(quant::precision_search::choice(values), shapes_[l].name)]);
    }
    double bits(std::size_t l) const override { return width(l); }

private:
    std::array<double, options> logits_of(std::size_t l) const {
        std::array<double, options> values{};
        for (std::size_t o = 0; o < options; ++o) values[o] = static_cast<double>(logits_.value.data[options * l + o]);
        return values;
    }
    std::array<double, options> mixture(std::size_t l) const {
        std::array<double, options> a{};
        require(quant::precision_search::mixture(logits_of(l), a), shapes_[l].name);
        return a;
    }
    std::vector<layer_shape> shapes_;
    double strength_;
    nn::parameter logits_;
    std::vector<std::vector<float>> rounded_;
};

/// Real weights train with a penalty to their nearest tables, one for each output channel; projection and dual step after every
/// epoch, the best iterate stays.
class admm_method : public method {
public:
    admm_method(const model& net, int bits, double rho, const digits::dataset& judged)
        : shapes_(net.shapes), bits_(bits), rho_(rho), judged_(judged), theta_(shapes_.size()), q_(shapes_.size()),
          u_(shapes_.size()), codes_(shapes_.size()) {
        for (std::size_t l = 0; l < shapes_.size(); ++l) {
            const std::size_t n = shapes_[l].size();
            theta_[l] = net.weights[l]->value.data;
            q_[l].resize(n);
            u_[l].resize(n);
            codes_[l].resize(n);
            scratch_.resize(std::max(scratch_.size(), n));
            for (std::size_t r = 0; r < shapes_[l].rows; ++r)
                require(quant::admm::start(cluster(l, r), scratch_).status(), shapes_[l].name);
        }
        best_q_ = q_;
    }
    void quantize(std::size_t, std::span<const float> latent, std::span<float> runs) override {
        std::copy(latent.begin(), latent.end(), runs.begin());
    }
    void backward(std::size_t l, std::span<const float> latent, std::span<float> grad) override {
        std::copy(latent.begin(), latent.end(), theta_[l].begin());
        const std::size_t cols = shapes_[l].cols;
        for (std::size_t r = 0; r < shapes_[l].rows; ++r)
            require(quant::admm::add_penalty_gradient<float>(cluster(l, r), rho_, grad.subspan(r * cols, cols)),
                    shapes_[l].name);
    }
    void after_epoch(model& net, std::size_t) override {
        std::vector<std::vector<float>> kept(shapes_.size());
        for (std::size_t l = 0; l < shapes_.size(); ++l) {
            theta_[l] = net.weights[l]->value.data;
            for (std::size_t r = 0; r < shapes_[l].rows; ++r)
                require(quant::admm::update(cluster(l, r), scratch_).status(), shapes_[l].name);
            kept[l] = q_[l];
            net.weights[l]->value.data.swap(kept[l]);
        }
        const double loss = net.loss(judged_);
        for (std::size_t l = 0; l < shapes_.size(); ++l) net.weights[l]->value.data.swap(kept[l]);
        if (loss < best_loss_) {
            best_loss_ = loss;
            best_q_ = q_;
        }
        rho_ *= growth;
    }
    void settle(std::size_t l, std::span<const float>, std::span<float> runs) override {
        std::copy(best_q_[l].begin(), best_q_[l].end(), runs.begin());
    }
    double bits(std::size_t) const override { return bits_; }

private:
    static constexpr double growth = 2;
    quant::admm::cluster<float> cluster(std::size_t l, std::size_t row) {
        const std::size_t n = shapes_[l].cols, at = row * n;
        return {std::span(theta_[l]).subspan(at, n), std::span(q_[l]).subspan(at, n), std::span(u_[l]).subspan(at, n),
                std::span(codes_[l]).subspan(at, n), bits_};
    }
    std::vector<layer_shape> shapes_;
    int bits_;
    double rho_, best_loss_ = 1e300;
    const digits::dataset& judged_;
    std::vector<std::vector<float>> theta_, q_, u_;
    std::vector<std::vector<std::int8_t>> codes_;
    std::vector<std::vector<float>> best_q_;
    std::vector<quant::fit_event> scratch_;
};

/// Each output channel at its nearest table: step and integers together, unlike steps from the largest weight, do not shrink it.
inline void round_fitted(const layer_shape& s, int bits, std::span<const float> from, std::span<float> to) {
    std::vector<std::int8_t> codes(s.cols);
    std::vector<quant::fit_event> scratch(s.cols);
    for (std::size_t r = 0; r < s.rows; ++r) {
        const auto fit =
            require(quant::admm::project<float>(from.subspan(r * s.cols, s.cols), bits, codes, scratch), s.name);
        for (std::size_t c = 0; c < s.cols; ++c) to[r * s.cols + c] = static_cast<float>(fit.step * codes[c]);
    }
}
inline outcome round_fitted_only(const task& t, int bits) {
    model net(t.start);
    for (std::size_t l = 0; l < net.shapes.size(); ++l) {
        const std::vector<float> w = net.weights[l]->value.data;
        round_fitted(net.shapes[l], bits, w, net.weights[l]->value.data);
    }
    return {static_cast<double>(bits), net.accuracy(t.unseen), {}};
}

/// Training of the float network near its quantized copy. Returns the copy's accuracy; the multipliers go to `lambda`, layers first.
inline outcome train_under_constraints(const task& t, const std::vector<int>& widths, std::vector<double>& lambda) {
    model net(t.start), copy(t.start);
    nn::adam optimizer(net.all, {.weight_decay = 1e-3f});
    const std::size_t layers = net.shapes.size();
    lambda.assign(layers + 1, 0.0);
    lambda.back() = 1;
    constexpr double layer_limit = 0.02,
                     output_limit = 0.02; // of a layer: relative to the power of its outputs in float
    std::vector<float> norms;
    net.net.forward(nn::samples(t.training.images, 0, std::min(t.training.size(), digits::calibration_images)),
                    [&](const std::string&, nn::tensor& y) {
                        norms.push_back(1 / nn::as_matrix(std::span<const float>(y.data), 1, y.size()).norm() *
                                        std::sqrt(static_cast<float>(y.size())));
                    });
    std::vector<double> slacks(layers + 1, 0.0);
    double batches = 0;
    const auto follow = [&] { // the copy: quantized weights, biases as they are
        for (std::size_t p = 0; p < net.all.size(); ++p) copy.all[p]->value.data = net.all[p]->value.data;
        for (std::size_t l = 0; l < layers; ++l)
            round_fitted(net.shapes[l], widths[l], net.weights[l]->value.data, copy.weights[l]->value.data);
    };
    digits::for_each_batch(
        t.training, t.how,
        [&](const digits::batch& b, float rate) {
            follow();
            nn::tensor z = b.images;
            std::size_t l = 0;
            for (std::size_t i = 0; i < copy.net.size(); ++i) {
                const nn::tensor y = copy.net.at(i).forward(z);
                if (!copy.net.at(i).parameters().empty()) {
                    nn::tensor full = net.net.at(i).forward(z), near = y; // the float layer on the copy's input
                    for (float& v : full.data) v *= norms[l];
                    for (float& v : near.data) v *= norms[l];
                    slacks[l] +=
                        require(quant::constraints::layer_slack(full.data, near.data, layer_limit), net.shapes[l].name);
                    nn::tensor grad(y.shape);
                    require(quant::constraints::add_layer_gradient(full.data, near.data, lambda[l], grad.data),
                            net.shapes[l].name);
                    for (float& v : grad.data) v *= norms[l];
                    if (lambda[l] > 0) net.net.at(i).backward(grad);
                    ++l;
                }
                z = y;
            }
            const nn::tensor logits = net.net.forward(b.images);
            nn::tensor grad = nn::softmax_cross_entropy(logits, b.labels).grad;
            slacks.back() +=
                require(quant::constraints::output_slack(logits.data, z.data, digits::classes, output_limit), "logits");
            require(
                quant::constraints::add_output_gradient(logits.data, z.data, digits::classes, lambda.back(), grad.data),
                "logits");
            net.net.backward(grad);
            optimizer.step(rate);
            batches += 1;
        },
        [&](std::size_t) { // dual step with the mean slacks of the epoch
            for (double& s : slacks) s /= batches;
            require(quant::constraints::dual_step(lambda, slacks, 0.1), "multipliers");
            std::fill(slacks.begin(), slacks.end(), 0.0);
            batches = 0;
        });
    follow();
    outcome o{copy.mean([&](std::size_t l) { return widths[l]; }), copy.accuracy(t.unseen), {}};
    char text[96];
    std::snprintf(text, sizeof text, "float model %.2f %%", net.accuracy(t.unseen));
    o.remark = text;
    return o;
}

} // namespace methods
