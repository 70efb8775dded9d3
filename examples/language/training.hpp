// SPDX-License-Identifier: MIT
#pragma once

// The text, cut into parts, and the training of the recurrent network on it that all methods share.

#include "../nn/random.hpp"
#include "../nn/training.hpp"
#include "clusters.hpp"
#include "gru.hpp"

#include <functional>
#include <map>

namespace language {

using network = gru<float>;

/// A text as symbols: every byte that occurs has a number.
class corpus {
public:
    corpus(const std::string& path, std::size_t symbols) {
        std::vector<std::uint8_t> bytes = read_file(path);
        if (symbols != 0 && symbols < bytes.size()) bytes.resize(symbols);
        if (bytes.size() < 4000)
            throw quant_tool::error(quant_tool::exit_code::input, path, "a text of less than 4000 bytes");
        std::map<std::uint8_t, std::uint8_t> number;
        for (const std::uint8_t b : bytes) number[b] = 0;
        for (auto& [byte, n] : number) n = static_cast<std::uint8_t>(vocabulary_++);
        for (const std::uint8_t b : bytes) symbols_.push_back(number[b]);
    }
    [[nodiscard]] std::size_t vocabulary() const { return vocabulary_; }
    [[nodiscard]] std::size_t size() const { return symbols_.size(); }
    /// 80 per cent to train on, 10 to measure sensitivities and to choose by, 10 to judge by.
    [[nodiscard]] std::span<const std::uint8_t> training() const {
        return std::span(symbols_).first(size() * 80 / 100);
    }
    [[nodiscard]] std::span<const std::uint8_t> calibration() const {
        return std::span(symbols_).first(size() * 90 / 100).subspan(size() * 80 / 100);
    }
    [[nodiscard]] std::span<const std::uint8_t> judged() const {
        return std::span(symbols_).subspan(size() * 90 / 100);
    }

private:
    std::vector<std::uint8_t> symbols_{};
    std::size_t vocabulary_ = 0;
};

/// A text read as several side by side, `steps` symbols at a time.
class batches {
public:
    batches(std::span<const std::uint8_t> text, std::size_t texts, std::size_t steps)
        : text_(text), texts_(texts), steps_(steps), length_((text.size() - 1) / texts) {}
    [[nodiscard]] std::size_t count() const { return (length_ + steps_ - 1) / steps_; }
    [[nodiscard]] std::size_t texts() const { return texts_; }
    [[nodiscard]] gru_batch operator()(std::size_t i) const {
        gru_batch out{{}, {}, texts_};
        for (std::size_t t = i * steps_; t < std::min(length_, (i + 1) * steps_); ++t)
            for (std::size_t b = 0; b < texts_; ++b) {
                out.symbols.push_back(text_[b * length_ + t]);
                out.next.push_back(text_[b * length_ + t + 1]);
            }
        return out;
    }

private:
    std::span<const std::uint8_t> text_;
    std::size_t texts_, steps_, length_;
};

inline batches training_batches(const corpus& c) { return {c.training(), 16, 64}; }

/// Bits per symbol of a text; logits: where not null receives all of them, [symbols, vocabulary].
inline double judge(const network& net, std::span<const float> theta, std::span<const std::uint8_t> text,
                    std::vector<float>* logits = nullptr) {
    const batches all(text, 8, 64);
    network::matrix state = net.start(all.texts()), found;
    double nats = 0, count = 0;
    for (std::size_t i = 0; i < all.count(); ++i) {
        const gru_batch batch = all(i);
        const auto n = static_cast<double>(batch.symbols.size());
        nats += n * static_cast<double>(net.run(theta, batch, state, {}, logits != nullptr ? &found : nullptr));
        count += n;
        if (logits != nullptr) logits->insert(logits->end(), found.data(), found.data() + found.size());
    }
    return nats / count / std::numbers::ln2;
}

/// What a method does to a step of training. All may be empty.
struct training_method {
    /// From the trained parameters to those that run.
    std::function<void(std::span<const float> theta, std::span<float> runs)> forward{};
    /// Adds to the gradient, of the parameters that ran.
    std::function<void(std::span<const float> theta, std::span<float> gradient)> backward{};
    std::function<void(std::span<const float> theta, std::size_t step)> after_step{};
};

/// Adam with the rate falling as a half cosine; gradients of a norm above 1 are scaled to it. theta is what is trained.
inline void train(const network& net, const corpus& text, std::span<float> theta, std::size_t epochs, float rate,
                  const training_method& method, const std::function<void()>& shown) {
    nn::parameter all("all", {net.size()});
    std::copy(theta.begin(), theta.end(), all.value.data.begin());
    nn::adam optimizer({&all}, {});
    const batches from = training_batches(text);
    std::vector<float> runs(net.size());
    for (std::size_t epoch = 0, step = 0; epoch < epochs; ++epoch) {
        network::matrix state = net.start(from.texts());
        for (std::size_t i = 0; i < from.count(); ++i) {
            runs = all.value.data;
            if (method.forward) method.forward(all.value.data, runs);
            net.run(runs, from(i), state, all.grad.data);
            double norm = 0;
            for (const float g : all.grad.data) norm += static_cast<double>(g * g);
            if (norm > 1)
                for (float& g : all.grad.data) g *= static_cast<float>(1 / std::sqrt(norm));
            if (method.backward) method.backward(all.value.data, all.grad.data);
            const double done = static_cast<double>(step) / static_cast<double>(epochs * from.count());
            optimizer.step(rate * static_cast<float>(0.5 * (1 + std::cos(std::numbers::pi * done))));
            ++step;
            if (method.after_step) method.after_step(all.value.data, step);
            shown();
        }
    }
    std::copy(all.value.data.begin(), all.value.data.end(), theta.begin());
}

} // namespace language
