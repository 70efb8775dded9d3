// SPDX-License-Identifier: MIT

// Every layer's backward pass against central differences of the loss, on a network with strides, padding, both kinds of
// pooling, and residual blocks with either kind of shortcut.

#include "network.hpp"
#include "training.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

int main() {
    nn::random r(7);
    nn::network net;
    net.add<nn::conv2d>("a", 2u, 4u, nn::conv2d::options{.kernel = 3, .stride = 1, .padding = 1}, r).add<nn::relu>();
    net.add<nn::max_pool>(2u);
    const auto same = std::make_shared<nn::shortcut>(), narrower = std::make_shared<nn::shortcut>();
    net.add<nn::fork>(same);
    net.add<nn::conv2d>("same", 4u, 4u, nn::conv2d::options{.kernel = 3, .stride = 1, .padding = 1}, r);
    net.add<nn::join>(same).add<nn::relu>().add<nn::fork>(narrower);
    net.add<nn::conv2d>("b", 4u, 6u, nn::conv2d::options{.kernel = 3, .stride = 2, .padding = 1}, r);
    net.add<nn::join>(narrower).add<nn::relu>();
    net.add<nn::global_average_pool>();
    net.add<nn::linear>("c", 6u, 3u, r);

    nn::tensor x({3, 2, 12, 8});
    for (float& v : x.data) v = r.uniform(-1.0f, 1.0f);
    const std::vector<std::uint8_t> labels{0, 2, 1};
    const auto loss = [&] { return nn::softmax_cross_entropy(net.forward(x), labels).loss; };

    net.backward(nn::softmax_cross_entropy(net.forward(x), labels).grad);
    // Of the difference quotient, rounding costs about 1e-7 / 2h = 2e-4. A ReLU or a maximum that switches within ±h makes
    // single entries worse, so a tensor fails on the norm of its error; a wrong formula is off by the order of 1.
    constexpr float h = 3e-4f;
    int failures = 0;
    for (nn::parameter* p : net.parameters()) {
        double error = 0.0, norm = 0.0;
        for (std::size_t i = 0; i < p->value.size(); ++i) {
            const float kept = p->value.data[i];
            p->value.data[i] = kept + h;
            const double above = loss();
            p->value.data[i] = kept - h;
            const double below = loss();
            p->value.data[i] = kept;
            const double numeric = (above - below) / (2.0 * static_cast<double>(h));
            error += std::pow(numeric - static_cast<double>(p->grad.data[i]), 2);
            norm += numeric * numeric;
        }
        const double relative = std::sqrt(error / norm);
        const bool ok = norm > 0.0 && relative < 2e-2;
        std::printf("%-9s relative error %.1e %s\n", p->name.c_str(), relative, ok ? "ok" : "WRONG");
        failures += !ok;
    }
    return failures == 0 ? 0 : 1;
}
