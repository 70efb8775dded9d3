// SPDX-License-Identifier: MIT
#pragma once

// Loss and optimizer.

#include "layers.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nn {

struct loss_and_gradient {
    double loss; ///< mean over the samples, in nats
    tensor grad; ///< with respect to the logits
};

/// Mean cross-entropy of softmax(logits) [N, classes] against the labels.
loss_and_gradient softmax_cross_entropy(const tensor& logits, std::span<const std::uint8_t> labels);

/// Adam (Kingma, Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov, Hutter 2019) on tensors of rank 2 and up.
class adam {
public:
    struct options {
        float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f, weight_decay = 0.0f;
    };

    adam(std::vector<parameter*> parameters, options o);

    /// One step with the gradients collected since the last one, which are then cleared.
    void step(float learning_rate);

private:
    options o_;
    std::vector<parameter*> parameters_;
    std::vector<tensor> first_, second_;
    float power1_ = 1.0f, power2_ = 1.0f;
};

} // namespace nn
