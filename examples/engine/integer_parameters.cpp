// SPDX-License-Identifier: MIT
// The parameters of an integer network from statistics of the float one.

#include "integer.hpp"

#include "../kernels/kernels.hpp"
#include "../quant/require.hpp"

#include <quant/aciq.hpp>
#include <quant/calibration.hpp>
#include <quant/per_channel.hpp>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace engine {

const layer* activation_behind(const graph& net, const layer& l) {
    const bool sums = l.has_weight() || l.kind == operation::add;
    const layer* next = sums && l.output != net.output ? net.only_reader(l.output) : nullptr;
    return next != nullptr && (next->kind == operation::relu || next->kind == operation::clip) ? next : nullptr;
}

std::vector<bool> replaced_layers(const graph& net) {
    std::vector<bool> all(net.layers.size(), false);
    for (const layer& l : net.layers)
        if (const layer* a = activation_behind(net, l)) all[static_cast<std::size_t>(a - net.layers.data())] = true;
    return all;
}

observations observe(const graph& net, const labelled_set& set, std::size_t samples, std::size_t batch) {
    std::vector<quant::moments_observer> observers(net.values);
    for (const layer& l : net.layers)
        if (activation_behind(net, l) != nullptr)
            observers[l.output] = quant::moments_observer(quant::statistics::before_relu);
    observations seen;
    seen.histograms.resize(net.values);
    for (const auto& shape : net.shapes)
        seen.channels.emplace_back(shape.at(1), quant::clip_range{std::numeric_limits<double>::infinity(),
                                                                  -std::numeric_limits<double>::infinity()});
    const auto look = [&](std::size_t value, const tensor& y) {
        observers[value].observe(y.data);
        seen.histograms[value].observe(y.data);
        auto& channels = seen.channels[value];
        const std::size_t plane = y.sample_size() / channels.size();
        for (std::size_t i = 0; i < y.size(); i += plane) {
            const auto [lo, hi] = std::minmax_element(&y.data[i], &y.data[i] + plane);
            quant::clip_range& own = channels[i / plane % channels.size()];
            own = {std::min(own.lo, static_cast<double>(*lo)), std::max(own.hi, static_cast<double>(*hi))};
        }
    };
    samples = std::min(samples, set.size);
    for (std::size_t from = 0; from < samples; from += batch) {
        const tensor x = set.batch(from, std::min(batch, samples - from));
        look(net.input, x);
        engine::run(net, x, [&](const layer& l, tensor& y) { look(l.output, y); });
    }
    for (const quant::moments_observer& o : observers) seen.values.push_back(o.summary());
    return seen;
}

namespace {

using quant_tool::require;

quant::quantized_tensor quantized_weight(const layer& l, unsigned bits, const integer_settings& s) {
    const auto quantized = [&](const auto& scheme) {
        auto q = quant::quantize(quant::view(l.weight.data, l.weight.shape[0], l.weight.sample_size()), scheme);
        require(q.status(), l.name);
        return *std::move(q);
    };
    const auto corrected = [&](const auto& scheme) {
        return s.correct_bias ? quantized(scheme | quant::bias_corrected) : quantized(scheme);
    };
    const auto plain = quant::int8.with_bits(static_cast<std::uint8_t>(bits)) | quant::per_axis(0) |
                       (s.affine_weights ? quant::mapping::affine : quant::mapping::symmetric);
    switch (s.clip_weights) {
    case clipping::aciq_paper: return corrected(plain | quant::aciq(quant::prior::laplace, quant::aciq_mode::paper));
    case clipping::aciq: return corrected(plain | quant::aciq(quant::prior::automatic));
    case clipping::mse: return corrected(plain | quant::mse_optimal);
    default: return corrected(plain);
    }
}

} // namespace

integer_parameters choose_parameters(const graph& net, const observations& seen, const integer_settings& s) {
    if (!s.bits_by_layer.empty() && s.bits_by_layer.size() != net.layers.size())
        throw quant_tool::error(quant_tool::exit_code::data, {}, "bits_by_layer is not one width per layer");
    const auto weighted = [](const layer& l) { return l.has_weight(); };
    const auto first = std::find_if(net.layers.begin(), net.layers.end(), weighted);
    const auto last = std::find_if(net.layers.rbegin(), net.layers.rend(), weighted);
    integer_parameters p;
    p.values.resize(net.values, {.format = quant::uint8});
    const auto choose = [&](std::size_t value, quant::clip_range range, unsigned bits) {
        const auto format = quant::uint8.with_bits(static_cast<std::uint8_t>(bits));
        const auto chosen = quant::choose_params(range, format, quant::mapping::affine);
        require(chosen.status(), "activations");
        p.values[value] = *chosen;
    };
    choose(net.input, {seen.values[net.input].min, seen.values[net.input].max}, 8);
    const std::vector<bool> replaced = replaced_layers(net);
    bool classified = false; // behind the last weights
    for (std::size_t i = 0; i < net.layers.size(); ++i) {
        const layer& l = net.layers[i];
        const bool ends = l.has_weight() && (&l == &*first || &l == &*last);
        const unsigned width = s.bits_by_layer.empty() ? s.weight_bits : s.bits_by_layer[i];
        p.weights.push_back(l.has_weight() ? quantized_weight(l, s.exempt && ends ? 8 : width, s)
                                           : quant::quantized_tensor{});
        classified = classified || (l.has_weight() && &l == &*last);
        if (replaced[i]) continue;
        if (moves_values(l.kind)) {
            p.values[l.output] = p.values[l.inputs[0]];
            continue;
        }
        const layer* activation = activation_behind(net, l);
        const std::size_t value = activation != nullptr ? activation->output : l.output;
        quant::clip_range range{seen.values[value].min, seen.values[value].max};
        unsigned bits = s.activation_bits;
        if (l.kind == operation::add && s.sum_bits != 0) bits = s.sum_bits;
        if (l.has_weight() && activation == nullptr && s.linear_bits != 0) bits = s.linear_bits;
        if (classified) bits = 8;
        const auto format = quant::uint8.with_bits(static_cast<std::uint8_t>(bits));
        const bool sums = l.has_weight() || l.kind == operation::add;
        const bool paper = s.clip_activations == clipping::aciq_paper;
        if (s.clip_activations == clipping::mse) {
            const auto clip = quant::mse_optimal.clip(seen.histograms[value], format, quant::mapping::affine);
            require(clip.status(), l.name);
            range = *clip;
        } else if (s.clip_activations != clipping::none && bits < 8 && sums) {
            const auto clip =
                quant::aciq(quant::prior::laplace, paper ? quant::aciq_mode::paper : quant::aciq_mode::corrected)
                    .clip_affine(seen.values[l.output], format);
            require(clip.status(), l.name);
            range = {std::max(range.lo, clip->lo), std::min(range.hi, clip->hi)};
        }
        choose(value, range, bits);
    }
    // What one Concat alone reads takes its scale, so that nothing is rounded there.
    for (const layer& l : net.layers)
        if (l.kind == operation::concat)
            for (const std::size_t v : l.inputs)
                if (net.readers[v] == 1 && v != net.input) p.values[v] = p.values[l.output];
    return p;
}

} // namespace engine
