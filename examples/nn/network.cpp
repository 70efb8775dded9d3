// SPDX-License-Identifier: MIT
#include "network.hpp"

#include <algorithm>
#include <stdexcept>

namespace nn {

tensor network::forward(tensor x, const output_hook& hook) {
    for (const auto& l : layers_) {
        x = l->forward(x);
        if (hook && !l->parameters().empty()) hook(l->parameters().front().name, x);
    }
    return x;
}

void network::backward(tensor grad) {
    for (auto l = layers_.rbegin(); l != layers_.rend(); ++l) grad = (*l)->backward(grad);
}

std::vector<parameter*> network::parameters() {
    std::vector<parameter*> all;
    for (const auto& l : layers_)
        for (parameter& p : l->parameters()) all.push_back(&p);
    return all;
}

tensor_map network::weights() {
    tensor_map all;
    for (const parameter* p : parameters()) all.emplace(p->name, p->value);
    return all;
}

void network::set_weights(const tensor_map& values) {
    for (parameter* p : parameters()) {
        const auto found = values.find(p->name);
        if (found == values.end()) throw std::runtime_error("the weights have no tensor '" + p->name + "'");
        if (found->second.shape != p->value.shape)
            throw std::runtime_error("the weights' tensor '" + p->name + "' has another shape than the network's");
        p->value = found->second;
    }
}

tensor run(network& net, const tensor& x, const output_hook& hook, std::size_t batch) {
    tensor all;
    for (std::size_t from = 0; from < x.samples(); from += batch) {
        const tensor y = net.forward(samples(x, from, std::min(batch, x.samples() - from)), hook);
        all.data.insert(all.data.end(), y.data.begin(), y.data.end());
        all.shape = y.shape;
    }
    if (!all.shape.empty()) all.shape[0] = x.samples();
    return all;
}

std::vector<std::size_t> classes_of(const tensor& outputs) {
    std::vector<std::size_t> classes;
    for (std::size_t n = 0; n < outputs.samples(); ++n) {
        const auto row = outputs.sample(n);
        classes.push_back(static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    }
    return classes;
}

} // namespace nn
