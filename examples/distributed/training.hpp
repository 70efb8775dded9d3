// SPDX-License-Identifier: MIT
#pragma once

// Data-parallel training: every rank has the whole network and a part of every batch, and they exchange gradients.

#include "communicator.hpp"

#include "../digits/model.hpp"

#include <quant/gradients.hpp>
#include <quant/message.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace distributed {

namespace gradients = quant::gradients;

/// How gradients travel. Biased schemes keep what they leave out and add it to the next gradient.
struct plan {
    std::string name;
    gradients::encoding how;
    bool feedback = false;
};

/// What rank 1 does wrong, in the third step, so that the tests see that it is found.
enum class fault { none, truncated, foreign, damaged, diverged };

struct settings {
    std::size_t epochs = 20, batch = 64; ///< images of all ranks together
    std::size_t images = digits::training_images;
    std::uint64_t seed = 1;
    float learning_rate = 3e-3f, weight_decay = 1e-2f;
    fault planted = fault::none;
};

/// One gradient, quantized, exchanged and averaged.
class exchange {
public:
    exchange(const communicator& all, plan p, std::uint64_t tensor) : all_(all), plan_(std::move(p)), tensor_(tensor) {}

    /// `gradient` becomes the average over all ranks, the same bytes on each of them.
    void operator()(std::vector<float>& gradient, std::uint64_t step, fault planted) {
        const std::size_t n = gradient.size();
        gradients::encoding how = plan_.how;
        how.stream = gradients::stream_of(step, tensor_, all_.rank());
        if (planted == fault::foreign) ++how.bucket;
        error_.resize(plan_.feedback ? n : 0);
        workspace_.resize(gradients::encode_workspace_size(how));
        message_.resize(std::max(gradients::message_size(n, how), gradients::raw_message_size(n)));
        std::string complaint;
        const auto expect = [&](quant::status s) {
            if (!s && complaint.empty()) complaint = std::string(s.argument) + ": " + quant::message(s);
        };
        std::span<const float> sent = gradient;
        if (plan_.feedback) {
            expect(gradients::compensate(gradient, error_));
            sent = error_;
        }
        const auto size = gradients::encode(sent, message_, how, workspace_);
        expect(size.status());
        std::span<const std::byte> mine(message_.data(), size ? *size : 0);
        if (plan_.feedback && complaint.empty()) expect(gradients::keep_error(mine, error_));
        bytes_ += mine.size();

        if (planted == fault::truncated) mine = mine.first(mine.size() - 1);
        if (planted == fault::damaged) message_[27] = std::byte{0x7E}; // the lowest level of the first bucket: 1e38

        const auto received = all_.gather(mine, storage_);
        if (const auto s = gradients::average(received, how, gradient); !s && complaint.empty())
            complaint = "the message of rank " + std::to_string(s.rank) + " is not usable: " + s.outcome.argument +
                        ": " + quant::message(s.outcome);
        all_.agree(complaint);
    }
    std::uint64_t bytes() const { return bytes_; }

private:
    const communicator& all_;
    plan plan_;
    std::uint64_t tensor_ = 0, bytes_ = 0;
    std::vector<float> error_;
    std::vector<std::byte> message_, workspace_, storage_;
};

struct outcome {
    double accuracy = 0;          ///< on images the network never saw; known to rank 0
    double bytes_per_step = 0;    ///< sent by one rank
    double loss = 0;              ///< of the last epoch, this rank's part
    std::uint64_t parameters = 0; ///< their hash
};

inline std::uint64_t hash_of(const std::vector<nn::parameter*>& parameters) {
    std::uint64_t h = 0;
    for (const nn::parameter* p : parameters)
        for (const float x : p->value.data) h = quant::mix(h ^ std::bit_cast<std::uint32_t>(x));
    return h;
}

/// Trains from the same start with the same order of the images on every rank. Each takes its part of a batch; biases, which are few, travel
/// as they are.
inline outcome train(const communicator& all, const plan& p, const digits::dataset& images,
                     const digits::dataset& unseen, const settings& o,
                     const std::function<void(std::size_t done, std::size_t total)>& progress) {
    nn::network net;
    digits::build(net, o.seed);
    const std::vector<nn::parameter*> parameters = net.parameters();
    const auto is_weight = [](const nn::parameter* q) { return q->value.shape.size() > 1; };
    exchange weights(all, p, 0), biases(all, {"biases", {.method = gradients::scheme::raw}, false}, 1);
    nn::adam optimizer(parameters, {.weight_decay = o.weight_decay});
    nn::random r = digits::draws_of_training(o.seed);

    const std::size_t share = o.batch / all.size(), batches = images.size() / (share * all.size());
    const std::size_t total = o.epochs * batches;
    outcome result;
    std::vector<float> some;
    for (std::size_t step = 0; step < total;) {
        const std::vector<std::size_t> order = nn::permutation(images.size(), r);
        result.loss = 0;
        for (std::size_t b = 0; b < batches; ++b, ++step) {
            const auto whole = std::span(order).subspan(b * share * all.size(), share * all.size());
            const digits::batch mine = digits::moved(images, whole, r, all.rank() * share, share);
            const auto [loss, grad] = nn::softmax_cross_entropy(net.forward(mine.images), mine.labels);
            net.backward(grad);
            result.loss += loss / static_cast<double>(batches);

            const fault planted = step == 2 && all.rank() == 1 ? o.planted : fault::none;
            const auto pass_on = [&](exchange& by, bool of_weights, fault f) {
                some.clear();
                for (const nn::parameter* q : parameters)
                    if (is_weight(q) == of_weights) some.insert(some.end(), q->grad.data.begin(), q->grad.data.end());
                by(some, step, f);
                auto from = some.begin();
                for (nn::parameter* q : parameters)
                    if (is_weight(q) == of_weights) {
                        const auto n = static_cast<std::ptrdiff_t>(q->grad.size());
                        std::copy(from, from + n, q->grad.data.begin());
                        from += n;
                    }
            };
            pass_on(weights, true, planted);
            pass_on(biases, false, fault::none);
            optimizer.step(digits::rate_at(o.learning_rate, step, total));
            if (planted == fault::diverged) parameters.front()->value.data[0] += 1e-6f;
            if (progress) progress(step + 1, total);
        }
        result.parameters = hash_of(parameters);
        const std::vector<std::uint64_t> hashes = all.gather(result.parameters);
        const auto differs =
            std::find_if(hashes.begin(), hashes.end(), [&](std::uint64_t h) { return h != hashes[0]; });
        all.agree(differs == hashes.end() ? std::string{}
                                          : "the parameters of rank " + std::to_string(differs - hashes.begin()) +
                                                " are not those of rank 0");
    }
    result.bytes_per_step = static_cast<double>(weights.bytes() + biases.bytes()) / static_cast<double>(total);
    if (all.rank() != 0) return result; // whose parameters are rank 0's
    const std::size_t correct = digits::count_correct(nn::classes_of(nn::run(net, unseen.images)), unseen.labels);
    result.accuracy = static_cast<double>(correct) / static_cast<double>(unseen.size());
    return result;
}

} // namespace distributed
