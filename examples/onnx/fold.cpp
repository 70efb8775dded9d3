// SPDX-License-Identifier: MIT
#include "fold.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace quant_onnx {

namespace {

/// The node before a BatchNormalization, if the two can be one.
std::optional<std::size_t> layer_before(const model& model, const onnx::NodeProto& norm,
                                        const std::map<std::string, value_uses, std::less<>>& uses) {
    if (norm.input_size() != 5 || norm.output_size() != 1 || attribute(norm, "training_mode", std::int64_t{0}) != 0) {
        return std::nullopt;
    }
    const auto& value = norm.input(0);
    if (const auto u = uses.find(value); u == uses.end() || u->second.elsewhere || u->second.nodes.size() != 1) {
        return std::nullopt;
    }
    const auto layer = std::find_if(model.nodes.begin(), model.nodes.end(), [&](const onnx::NodeProto& n) {
        return n.output_size() == 1 && n.output(0) == value;
    });
    if (layer == model.nodes.end() || layer->input_size() < 2 ||
        (!is_operator(*layer, "Conv") && !is_operator(*layer, "ConvTranspose") && !is_operator(*layer, "Gemm"))) {
        return std::nullopt;
    }
    return static_cast<std::size_t>(layer - model.nodes.begin());
}

/// An initializer of `size` floats.
const tensor* vector_of(const model& model, const std::string& name, std::int64_t size) {
    const auto* const t = model.find(name);
    return t != nullptr && t->type == element_type::float32 && t->shape == std::vector{size} ? t : nullptr;
}

} // namespace

std::size_t fold_batch_normalization(model& model, std::vector<std::string>* kept) {
    std::size_t folded = 0;
    std::vector<std::string> replaced; // initializers that may have no reader any more
    value_names names(model);
    auto uses = uses_of(model);
    std::vector<bool> gone(model.nodes.size());
    for (std::size_t i = 0; i < model.nodes.size(); ++i) {
        auto& norm = model.nodes[i];
        if (!is_operator(norm, "BatchNormalization")) {
            continue;
        }
        const auto found = layer_before(model, norm, uses);
        const auto fold = [&] {
            if (!found) {
                return false;
            }
            auto& layer = model.nodes[*found];
            const auto* const weight = model.find(layer.input(1));
            const bool gemm = is_operator(layer, "Gemm"), transposed = is_operator(layer, "ConvTranspose");
            const auto groups = gemm ? 1 : attribute(layer, "group", std::int64_t{1});
            if (weight == nullptr || weight->type != element_type::float32 || weight->shape.size() < 2 || groups < 1 ||
                (gemm && attribute(layer, "beta", 1.0f) != 1.0f) || (transposed && weight->shape[0] % groups != 0) ||
                weight->elements() == 0) {
                return false;
            }
            // The output channel of a weight: its place along `axis`, and for a grouped ConvTranspose the group of its input.
            const std::size_t axis = transposed || (gemm && attribute(layer, "transB", std::int64_t{0}) == 0) ? 1 : 0;
            const auto along = weight->shape[axis];
            const auto channels = transposed ? along * groups : along;
            const tensor* parameter[4];
            for (int k = 0; k < 4; ++k) {
                parameter[k] = vector_of(model, norm.input(k + 1), channels);
                if (parameter[k] == nullptr) {
                    return false;
                }
            }
            const bool has_bias = layer.input_size() > 2 && !layer.input(2).empty();
            const auto* const bias = has_bias ? vector_of(model, layer.input(2), channels) : nullptr;
            if (has_bias && bias == nullptr) {
                return false;
            }
            const auto scale = parameter[0]->floats(), shift = parameter[1]->floats(), mean = parameter[2]->floats(),
                       variance = parameter[3]->floats();
            const auto b = has_bias ? bias->floats() : std::vector<float>(scale.size());
            const double epsilon = static_cast<double>(attribute(norm, "epsilon", 1e-5f));
            std::vector<double> factor(scale.size());
            std::vector<float> new_bias(scale.size());
            for (std::size_t c = 0; c < scale.size(); ++c) {
                factor[c] = static_cast<double>(scale[c]) / std::sqrt(static_cast<double>(variance[c]) + epsilon);
                new_bias[c] =
                    static_cast<float>((static_cast<double>(b[c]) - static_cast<double>(mean[c])) * factor[c] +
                                       static_cast<double>(shift[c]));
                if (!std::isfinite(factor[c])) {
                    return false; // a negative variance: BatchNormalization itself gives NaN
                }
            }
            std::uint64_t inner = 1;
            for (std::size_t d = axis + 1; d < weight->shape.size(); ++d) {
                inner *= static_cast<std::uint64_t>(weight->shape[d]);
            }
            // One that nothing else reads keeps its name.
            const auto own = [&](const std::string& name) {
                const auto& u = uses[name];
                return u.nodes.size() == 1 && !u.elsewhere;
            };
            tensor made;
            made.name = own(weight->name) ? weight->name : names.unused(weight->name + "_folded");
            made.type = element_type::float32;
            made.shape = weight->shape;
            const auto inputs_per_group = transposed ? weight->shape[0] / groups : 1;
            made.fill = [source = *weight, factor, inner, along, inputs_per_group,
                         transposed](std::span<std::byte> out) {
                auto values = source.floats();
                const auto extent = static_cast<std::uint64_t>(along);
                for (std::uint64_t e = 0; e < values.size(); ++e) {
                    auto c = e / inner % extent;
                    if (transposed) {
                        c += e / inner / extent / static_cast<std::uint64_t>(inputs_per_group) * extent;
                    }
                    values[e] = static_cast<float>(static_cast<double>(values[e]) * factor[c]);
                }
                std::memcpy(out.data(), values.data(), out.size());
            };
            auto made_bias = owned(has_bias && own(bias->name)
                                       ? bias->name
                                       : names.unused((layer.name().empty() ? made.name : layer.name()) + "_bias"),
                                   element_type::float32, {channels}, std::move(new_bias));
            while (layer.input_size() < 3) {
                layer.add_input();
            }
            layer.set_input(1, made.name);
            layer.set_input(2, made_bias.name);
            layer.set_output(0, norm.output(0));
            replaced.insert(replaced.end(), norm.input().begin() + 1, norm.input().end());
            for (auto* const t : {&made, &made_bias}) {
                uses[t->name] = {{*found}, false};
                if (auto* const same = model.find(t->name)) {
                    *same = std::move(*t);
                } else {
                    model.initializers.push_back(std::move(*t));
                }
            }
            return true;
        };
        if (fold()) {
            ++folded;
            gone[i] = true;
        } else if (kept != nullptr) {
            kept->push_back(describe(norm));
        }
    }
    std::size_t next = 0;
    std::erase_if(model.nodes, [&](const onnx::NodeProto&) { return gone[next++]; });
    uses = uses_of(model);
    const auto unread = [&](const std::string& name) {
        return !uses.contains(name) && std::find(replaced.begin(), replaced.end(), name) != replaced.end();
    };
    std::erase_if(model.initializers, [&](const tensor& t) { return unread(t.name); });
    std::erase_if(model.inputs, [&](const value_info& v) { return unread(v.name); });
    return folded;
}

} // namespace quant_onnx
