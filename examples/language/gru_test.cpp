// SPDX-License-Identifier: MIT

// The recurrent network's backward pass against central differences of the loss, in double, part by part; and that a text cut in two
// gives the same state as the whole.

#include "../nn/random.hpp"
#include "gru.hpp"

#include <cstdio>

int main() {
    using language::gru;
    nn::random r(3);
    const gru<double> net({7, 5, 6});
    std::vector<double> theta(net.size()), gradient(net.size());
    for (double& p : theta) p = static_cast<double>(r.uniform(-0.8f, 0.8f));
    language::gru_batch batch{{}, {}, 3};
    for (std::size_t i = 0; i < 3 * 9; ++i) {
        batch.symbols.push_back(static_cast<std::uint8_t>(r.below(7)));
        batch.next.push_back(static_cast<std::uint8_t>(r.below(7)));
    }
    gru<double>::matrix begin = net.start(3);
    for (Eigen::Index i = 0; i < begin.size(); ++i) begin.data()[i] = static_cast<double>(r.uniform(-1, 1));
    const auto loss = [&] {
        gru<double>::matrix state = begin;
        return net.run(theta, batch, state, {});
    };
    gru<double>::matrix end = begin;
    net.run(theta, batch, end, gradient);

    int failures = 0;
    constexpr double h = 1e-5;
    for (const language::gru_part& part : net.parts()) {
        double error = 0, norm = 0;
        for (std::size_t i = part.first; i < part.first + part.size; ++i) {
            const double kept = theta[i];
            theta[i] = kept + h;
            const double above = loss();
            theta[i] = kept - h;
            const double numeric = (above - loss()) / (2 * h);
            theta[i] = kept;
            error += (numeric - gradient[i]) * (numeric - gradient[i]);
            norm += numeric * numeric;
        }
        const double relative = std::sqrt(error / norm);
        const bool ok = norm > 0 && relative < 1e-7;
        std::printf("%-9s relative error %.1e %s\n", part.name.c_str(), relative, ok ? "ok" : "WRONG");
        failures += !ok;
    }

    language::gru_batch halves[2] = {batch, batch};
    for (auto* list : {&halves[0].symbols, &halves[0].next}) list->resize(3 * 4);
    for (auto* list : {&halves[1].symbols, &halves[1].next}) list->erase(list->begin(), list->begin() + 3 * 4);
    gru<double>::matrix state = begin;
    for (const auto& half : halves) net.run(theta, half, state, {});
    const bool same = (state - end).norm() < 1e-12;
    std::printf("%-9s %s\n", "two parts", same ? "ok" : "WRONG");
    return failures == 0 && same ? 0 : 1;
}
