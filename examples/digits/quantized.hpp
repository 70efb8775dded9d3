// SPDX-License-Identifier: MIT
#pragma once

// The network with integer weights and fixed ranges for its activations: how it is made from float weights and
// calibration images, how it runs, what it weighs, and how it is stored.

#include "dataset.hpp"

#include "../kernels/kernels.hpp"
#include "../nn/network.hpp"
#include "../quant/require.hpp"
#include "../quant/storage.hpp"

#include <quant/quant.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace digits {

/// The steps of the ablation; each one includes those before it.
enum class method : std::uint8_t { min_max, aciq, allocation, bias_correction };
inline constexpr std::array methods{method::min_max, method::aciq, method::allocation, method::bias_correction};
inline constexpr std::string_view name_of(method m) {
    constexpr std::array<std::string_view, methods.size()> names{"min-max", "ACIQ", "+ bit allocation",
                                                                 "+ bias correction"};
    return names[static_cast<std::size_t>(m)];
}

struct quantize_settings {
    unsigned bits = 4;
    method steps = method::bias_correction;
    bool weights = true, activations = true;
    /// The authors' setting: weights affine and never clipped, Laplace for every activation, their own formula.
    bool as_in_paper = false;
};

using quant_tool::require;

/// Statistics of every channel of every layer's output before its ReLU, except for the last layer's: the logits are
/// compared with each other and go into no further layer, so they stay as they are.
using output_statistics = std::map<std::string, std::vector<quant::tensor_statistics>>;

inline output_statistics observe_outputs(nn::network& net, const nn::tensor& images) {
    output_statistics all;
    std::string last;
    net.forward(images, [&](const std::string& layer, nn::tensor& y) {
        last = layer;
        const auto outputs = quant::view(y.data, y.samples(), y.channels(), y.positions());
        for (std::size_t c = 0; c < y.channels(); ++c)
            all[layer].push_back(quant::measure_statistics(outputs.slice(1, c), quant::statistics::before_relu));
    });
    all.erase(last);
    return all;
}

struct quantized_network {
    std::vector<quant_tool::stored_tensor> weights; ///< of every layer, or none
    nn::tensor_map plain;                           ///< biases; the weights too where they are not quantized
    std::map<std::string, std::vector<quant::affine_params>> outputs; ///< per channel, by the layer's weight; or none
};

namespace detail {

/// A width per channel with the asked mean. The authors' code leaves widths above 4 bits alone.
inline std::vector<std::uint8_t> choose_widths(const std::string& layer,
                                               std::span<const quant::tensor_statistics> channels,
                                               const quantize_settings& s) {
    std::vector<std::uint8_t> bits(channels.size(), static_cast<std::uint8_t>(s.bits));
    if (s.steps < method::allocation || (s.as_in_paper && s.bits > 4)) return bits;
    quant::bit_allocation_options o{.average_bits = static_cast<float>(s.bits), .min_bits = 1, .max_bits = 8};
    if (s.as_in_paper) {
        o.rule = quant::allocation_rule::paper;
        o.density = quant::prior::gauss;
    }
    require(quant::allocate_bits(channels, bits, o), layer);
    return bits;
}

/// Ranges of the activations: unsigned codes from 0, the ReLU included.
inline std::vector<quant::affine_params> choose_outputs(const std::string& layer,
                                                        std::span<const quant::tensor_statistics> channels,
                                                        const quantize_settings& s) {
    const auto clipping = s.as_in_paper ? quant::aciq(quant::prior::laplace, quant::aciq_mode::paper)
                                        : quant::aciq(quant::prior::laplace);
    const std::vector<std::uint8_t> bits = choose_widths(layer, channels, s);
    std::vector<quant::affine_params> params;
    for (std::size_t c = 0; c < channels.size(); ++c) {
        const quant::code_format format = quant::uint8.with_bits(bits[c]);
        const quant::clip_range everything{0.0, std::max(channels[c].max, 0.0)};
        const auto range = s.steps >= method::aciq ? require(clipping.clip(channels[c], format), layer) : everything;
        params.push_back(require(quant::choose_params(range, format, quant::mapping::symmetric), layer));
    }
    return params;
}

/// Weights per output channel, in one call of the library.
inline quant::quantized_tensor quantize_weight(const nn::tensor& w, const quant_tool::sliced_shape& layout,
                                               const std::string& layer, const quantize_settings& s) {
    const auto [outer, out, in] = layout.extents();
    const auto view = quant::view(w.data, outer, out, in);
    const auto plain = quant::int8.with_bits(static_cast<std::uint8_t>(s.bits)) | layout.library();
    if (s.as_in_paper) {
        std::vector<quant::tensor_statistics> channels;
        for (std::size_t c = 0; c < out; ++c) channels.push_back(quant::measure_statistics(view.slice(1, c)));
        const std::vector<std::uint8_t> widths = choose_widths(layer, channels, s);
        const auto affine = plain | quant::mapping::affine | quant::bits(widths);
        if (s.steps < method::bias_correction) return require(quant::quantize(view, affine), layer);
        return require(quant::quantize(view, affine | quant::bias_corrected), layer);
    }
    const auto clipped = plain | quant::aciq(quant::prior::automatic);
    const auto allocated = clipped | quant::average_bits(static_cast<float>(s.bits), {2, 8});
    switch (s.steps) {
    case method::min_max: return require(quant::quantize(view, plain), layer);
    case method::aciq: return require(quant::quantize(view, clipped), layer);
    case method::allocation: return require(quant::quantize(view, allocated), layer);
    case method::bias_correction: break;
    }
    return require(quant::quantize(view, allocated | quant::bias_corrected), layer);
}

} // namespace detail

/// `weights` and `statistics` are the float network's.
inline quantized_network quantize(const nn::tensor_map& weights, const output_statistics& statistics,
                                  const quantize_settings& s) {
    quantized_network q;
    for (const auto& [name, w] : weights) {
        if (!s.weights || w.shape.size() == 1) {
            q.plain.emplace(name, w);
            continue;
        }
        quant_tool::stored_tensor t;
        t.name = name;
        t.shape.assign(w.shape.begin(), w.shape.end());
        t.layout = *quant_tool::slice_shape(t.shape, quant_tool::granularity_choice::per_axis, 0, 0);
        t.codes = detail::quantize_weight(w, t.layout, name, s);
        q.weights.push_back(std::move(t));
    }
    if (s.activations)
        for (const auto& [layer, channels] : statistics)
            q.outputs.emplace(layer, detail::choose_outputs(layer, channels, s));
    return q;
}

/// Float weights with the values of the codes, as an engine with integer weights would see them.
inline nn::tensor_map restored_weights(const quantized_network& q) {
    nn::tensor_map all = q.plain;
    for (const quant_tool::stored_tensor& t : q.weights) {
        nn::tensor w({t.shape.begin(), t.shape.end()});
        require(quant::dequantize(t.codes, w.data), t.name);
        all.emplace(t.name, std::move(w));
    }
    return all;
}

/// Rounds every output to its codes, in place; the unsigned codes are the ReLU.
inline nn::output_hook output_rounding(const quantized_network& q) {
    if (q.outputs.empty()) return {};
    return [&q](const std::string& layer, nn::tensor& y) {
        const auto params = q.outputs.find(layer);
        if (params == q.outputs.end()) return;
        const auto outputs = quant::view(y.data, y.samples(), y.channels(), y.positions());
        require(quant::fake_quant(outputs, outputs, params->second, quant::per_axis(1)), layer);
    };
}

/// Mean width over the elements of all weights, and over the channels of all activations of one image.
inline double mean_weight_bits(const quantized_network& q) {
    double bits = 0.0, elements = 0.0;
    for (const quant_tool::stored_tensor& t : q.weights) {
        bits += quant::average_bits(t.codes) * static_cast<double>(t.codes.size());
        elements += static_cast<double>(t.codes.size());
    }
    return q.weights.empty() ? 32.0 : bits / elements;
}
inline double mean_output_bits(const quantized_network& q) {
    double bits = 0.0, channels = 0.0;
    for (const auto& [layer, params] : q.outputs)
        for (const quant::affine_params& p : params) {
            bits += p.format.bits;
            channels += 1.0;
        }
    return q.outputs.empty() ? 32.0 : bits / channels;
}

/// The tensors of the stored network: the tool's format for the weights, one scale and width per channel of an output.
inline std::vector<quant_tool::tensor> stored_tensors(const quantized_network& q) {
    using quant_tool::dtype;
    std::vector<quant_tool::tensor> all;
    for (const quant_tool::stored_tensor& t : q.weights)
        for (quant_tool::tensor& part : quant_tool::parts_of(t)) all.push_back(std::move(part));
    for (const auto& [name, t] : q.plain)
        all.push_back(quant_tool::make_tensor(name, dtype::f32, {t.shape.begin(), t.shape.end()}, t.data));
    for (const auto& [layer, params] : q.outputs) {
        std::vector<float> scales;
        std::vector<std::uint8_t> bits;
        for (const quant::affine_params& p : params) {
            scales.push_back(p.scale);
            bits.push_back(p.format.bits);
        }
        all.push_back(
            quant_tool::make_tensor(layer + ".output.scales", dtype::f32, {params.size()}, std::move(scales)));
        all.push_back(quant_tool::make_tensor(layer + ".output.bits", dtype::u8, {params.size()}, std::move(bits)));
    }
    return all;
}

/// What the network takes without the names: packed codes, scales, widths, corrections, biases.
inline std::size_t stored_bytes(const quantized_network& q) {
    std::size_t bytes = 0;
    for (const quant_tool::tensor& t : stored_tensors(q)) bytes += t.bytes.size();
    return bytes;
}

inline void save(const std::string& path, const quantized_network& q) {
    quant_tool::tensor_file file;
    file.tensors = stored_tensors(q);
    quant_tool::json descriptions;
    for (const quant_tool::stored_tensor& t : q.weights) descriptions[t.name] = quant_tool::description_of(t);
    file.metadata = {{quant_tool::format_key, quant_tool::format_version},
                     {quant_tool::tensors_key, descriptions.dump()}};
    quant_tool::write_safetensors(path, file, quant_tool::overwrite::yes);
}

inline quantized_network load_quantized(const std::string& path) {
    quant_tool::quantized_file file = quant_tool::split_quantized(quant_tool::read_safetensors(path), path, 1);
    quantized_network q;
    q.weights = std::move(file.quantized);
    std::map<std::string, quant_tool::tensor*> by_name;
    for (quant_tool::tensor& t : file.plain) by_name.emplace(t.name, &t);
    for (auto& [name, t] : by_name) {
        const std::size_t suffix = name.rfind(".output.");
        if (suffix == std::string::npos) {
            nn::tensor values({t->shape.begin(), t->shape.end()});
            const auto stored = t->as<float>();
            values.data.assign(stored.begin(), stored.end());
            q.plain.emplace(name, std::move(values));
            continue;
        }
        const bool scales = name.substr(suffix) == ".output.scales";
        if (t->type != (scales ? quant_tool::dtype::f32 : quant_tool::dtype::u8))
            throw quant_tool::error(quant_tool::exit_code::input, path, name,
                                    "has another type than this program writes");
        auto& params = q.outputs[name.substr(0, suffix)];
        params.resize(t->size(), {.format = quant::uint8});
        for (std::size_t c = 0; c < params.size(); ++c) {
            if (scales)
                params[c].scale = t->as<float>()[c];
            else
                params[c].format.bits = t->as<std::uint8_t>()[c];
        }
    }
    return q;
}

} // namespace digits
