// SPDX-License-Identifier: MIT
#pragma once

// Calibration in shards: every rank observes the activations of its own images, a reduction merges what they have seen.

#include "communicator.hpp"

#include "../digits/model.hpp"

#include <quant/aciq.hpp>
#include <quant/calibration.hpp>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace distributed {

using histogram = quant::histogram_observer<2048>;

/// What is known of one layer's outputs.
struct seen {
    quant::minmax_observer range;
    histogram counts;
    quant::exact_moments_observer moments{quant::statistics::before_relu};
};
using seen_by_layer = std::map<std::string, seen>;

/// Images one by one: the sums of a product of matrices, and with them the outputs' last bits, could depend on how many go together.
inline seen_by_layer observe(nn::network& net, const digits::dataset& images, std::size_t first, std::size_t count) {
    seen_by_layer all;
    for (const nn::parameter* p : net.parameters())
        if (p->value.shape.size() > 1) all[p->name]; // the same layers on a rank without images
    nn::run(
        net, nn::samples(images.images, first, count),
        [&](const std::string& weight, nn::tensor& output) {
            seen& s = all.at(weight);
            s.range.observe(output.data);
            s.counts.observe(output.data);
            s.moments.observe(output.data);
        },
        1);
    return all;
}

template <class Observer, class State> void merge_states(State& into, const State& from) {
    Observer merged(into);
    if constexpr (requires { merged.merge(Observer(from)).code; })
        (void)merged.merge(Observer(from)); // of one kind, so that it cannot fail
    else
        merged.merge(Observer(from));
    into = merged.state();
}
template <class Observer> Observer reduced(const communicator& all, const Observer& mine) {
    auto state = mine.state();
    using state_type = decltype(state);
    all.reduce<state_type, merge_states<Observer, state_type>>(state);
    return Observer(state);
}
inline seen reduced(const communicator& all, const seen& mine) {
    return {reduced(all, mine.range), reduced(all, mine.counts), reduced(all, mine.moments)};
}

} // namespace distributed
