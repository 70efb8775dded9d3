// SPDX-License-Identifier: MIT
#include "training.hpp"

#include "matrix.hpp"

#include <cassert>
#include <cmath>
#include <utility>

namespace nn {

loss_and_gradient softmax_cross_entropy(const tensor& logits, std::span<const std::uint8_t> labels) {
    assert(labels.size() == logits.samples());
    loss_and_gradient r{0.0, logits};
    const float scale = 1.0f / static_cast<float>(logits.samples());
    for (std::size_t n = 0; n < logits.samples(); ++n) {
        auto row = as_matrix(r.grad.sample(n), 1, logits.channels());
        row.array() -= row.maxCoeff(); // the result does not change and exp cannot overflow
        const float at_label = row(0, labels[n]);
        row = row.array().exp();
        const float sum = row.sum();
        r.loss += static_cast<double>((std::log(sum) - at_label) * scale);
        row *= scale / sum;
        row(0, labels[n]) -= scale;
    }
    return r;
}

adam::adam(std::vector<parameter*> parameters, options o) : o_(o), parameters_(std::move(parameters)) {
    for (const parameter* p : parameters_) {
        first_.emplace_back(p->value.shape);
        second_.emplace_back(p->value.shape);
    }
}

void adam::step(float learning_rate) {
    power1_ *= o_.beta1;
    power2_ *= o_.beta2;
    for (std::size_t k = 0; k < parameters_.size(); ++k) {
        parameter& p = *parameters_[k];
        const float decay = p.value.shape.size() > 1 ? learning_rate * o_.weight_decay : 0.0f;
        for (std::size_t i = 0; i < p.value.size(); ++i) {
            const float g = std::exchange(p.grad.data[i], 0.0f);
            float& m = first_[k].data[i];
            float& v = second_[k].data[i];
            m = o_.beta1 * m + (1.0f - o_.beta1) * g;
            v = o_.beta2 * v + (1.0f - o_.beta2) * g * g;
            const float m_hat = m / (1.0f - power1_), v_hat = v / (1.0f - power2_);
            p.value.data[i] -= learning_rate * m_hat / (std::sqrt(v_hat) + o_.epsilon) + decay * p.value.data[i];
        }
    }
}

} // namespace nn
