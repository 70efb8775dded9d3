// SPDX-License-Identifier: MIT
// Bits of an Eigen network found in training: the loop around CSQ, on the digits of this repository. The network (network.hpp)
// and its optimizer know nothing of quant; they see weights and return gradients. docs/bit_level.md shows the loop.

#include "digits.hpp"
#include "network.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <Eigen/Core>
#include <quant/csq.hpp>
#include <quant/interop/eigen.hpp>
#include <span>
#include <vector>

namespace {

using namespace integrations;
namespace csq = quant::csq;
using integers = Eigen::Matrix<std::int16_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What the optimizer moves, one array for each group: logits of positive and negative bits, masks, scale.
struct parameters {
    std::vector<Eigen::ArrayXf> values, gradients, velocity;
    std::vector<csq::layer<float>> layers, grads;
    std::vector<quant::layer_bits> bits;
    std::vector<double> full_scales;
    explicit parameters(const weights& w) : bits(w.size()), full_scales(w.size()) {
        const auto at = [](std::vector<Eigen::ArrayXf>& all) {
            const auto group = [&](std::size_t back) {
                Eigen::ArrayXf& a = all[all.size() - back];
                return std::span<float>(a.data(), static_cast<std::size_t>(a.size()));
            };
            return csq::layer<float>{group(4), group(3), group(2), group(1), planes};
        };
        for (const matrix& m : w) {
            const auto all_bits = m.size() * static_cast<Eigen::Index>(planes);
            for (const Eigen::Index n : {all_bits, all_bits, static_cast<Eigen::Index>(planes), Eigen::Index{1}})
                for (auto* group : {&values, &gradients, &velocity}) group->push_back(Eigen::ArrayXf::Zero(n));
            layers.push_back(at(values)); // Eigen's arrays keep their memory when the vector grows
            grads.push_back(at(gradients));
        }
    }
};

// Shown in docs/bit_level.md.
quant::status train(classifier& network, const dataset& digits, csq::training<float>& t, std::size_t steps,
                    std::vector<Eigen::ArrayXf>& velocity, weights& w, std::vector<integers>& codes, weights& grad_w) {
    for (std::size_t l = 0; l < w.size(); ++l)
        if (auto s = t.start(l, w[l]); !s) return s; // w[l] is a row-major matrix
    for (std::size_t step = 0; step < steps; ++step) {
        if (auto s = t.begin_step(step, steps); !s) return s;
        for (std::size_t l = 0; l < w.size(); ++l)
            if (auto s = t.forward(l, w[l]); !s) return s;
        network.gradients(w, digits, batch(step), static_cast<float>(t.rate), grad_w);
        for (std::size_t l = 0; l < w.size(); ++l)
            if (auto s = t.backward(l, grad_w[l]); !s) return s;
        t.update([&](const auto& group) { // stochastic gradient descent with momentum
            Eigen::ArrayXf& v = velocity[group.index];
            Eigen::Map<Eigen::ArrayXf> values(group.values.data(), v.size()), grads(group.gradients.data(), v.size());
            v = 0.9f * v + grads + static_cast<float>(group.decay) * values;
            values -= static_cast<float>(group.rate) * v;
        });
    }
    for (std::size_t l = 0; l < w.size(); ++l)
        if (auto done = csq::harden(t.layers[l], codes[l]); !done) return done.status();
    return t.begin_step(steps, steps); // counts the planes that are left
}

outcome run(double target, std::size_t steps) {
    const digits::dataset all = load();
    dataset d{matrix(static_cast<Eigen::Index>(all.size()), digits::pixels), all.labels, digits::classes};
    std::copy(all.images.data.begin(), all.images.data.end(), d.features.data());
    classifier network(widths);
    nn::random random(1);
    weights w = network.start(random), grad_w(w.size());
    parameters p(w);
    std::vector<integers> codes;
    for (const matrix& m : w) codes.push_back(integers(m.rows(), m.cols()));
    csq::training<float> t{
        p.layers, p.grads, p.bits, p.full_scales, {.budget = {.target_bits = target, .strength = 3}}};
    const dataset seen = d.rows(0, digits::training_images);
    require(train(network, seen, t, steps, p.velocity, w, codes, grad_w));
    outcome o;
    o.planes = *t.average_bits();
    for (std::size_t l = 0; l < w.size(); ++l) {
        const auto done = csq::harden(p.layers[l], codes[l]); // hardening twice gives the same
        require(done.status());
        require(csq::forward(p.layers[l], w[l], csq::gate_options{.mode = csq::gate_mode::hard}));
        o.exact = o.exact && w[l] == codes[l].cast<float>() * static_cast<float>(done->scale);
    }
    o.accuracy = network.accuracy(w, d.rows(seen.size(), d.size() - seen.size()));
    return o;
}

} // namespace

int main() { return report(run); }
