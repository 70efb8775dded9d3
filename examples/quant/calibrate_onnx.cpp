// SPDX-License-Identifier: MIT
#include "calibrate_onnx.hpp"

#include "../engine/dataset.hpp"
#include "../engine/graph.hpp"
#include "report.hpp"
#include "threads.hpp"

#include <quant/calibrate/clipping.hpp>
#include <quant/calibrate/histogram.hpp>
#include <quant/message.hpp>
#include <set>

namespace quant_tool {

namespace {

/// One value of the network: its histogram, and the sums of its channels. Of one size, however many samples pass.
struct observed {
    quant::histogram_observer<2048> histogram;
    std::vector<double> sums;
    double per_channel = 0; ///< elements

    void take(const engine::tensor& t) {
        histogram.observe(std::span<const float>(t.data));
        const auto channels = t.shape.size() < 2 ? 1 : t.shape[1];
        const auto samples = t.shape.empty() ? 1 : t.shape[0];
        if (channels == 0 || samples == 0 || t.data.empty()) {
            return;
        }
        sums.resize(channels);
        const auto inner = t.data.size() / samples / channels;
        for (std::size_t i = 0; i < t.data.size();) {
            double sum = 0;
            const auto channel = i / inner % channels;
            for (const auto end = i + inner; i < end; ++i) {
                sum += static_cast<double>(t.data[i]);
            }
            sums[channel] += sum;
        }
        per_channel += static_cast<double>(samples * inner);
    }
    void merge(const observed& other) {
        histogram.merge(other.histogram);
        sums.resize(std::max(sums.size(), other.sums.size()));
        for (std::size_t c = 0; c < other.sums.size(); ++c) {
            sums[c] += other.sums[c];
        }
        per_channel += other.per_channel;
    }
};

bool only_moves(engine::operation kind) {
    using engine::operation;
    return kind == operation::max_pool || kind == operation::flatten || kind == operation::identity ||
           kind == operation::slice || kind == operation::pad || kind == operation::quantize ||
           kind == operation::dequantize;
}

} // namespace

calibration calibrate(const quant_onnx::model& model, const quantize_command& o) {
    const auto net = engine::load(model);
    const auto& shape = net.shapes[net.input];
    const auto set =
        engine::open_set(o.calibrate, {}, shape.back(), engine::preprocessing_named(o.calibrate_preprocess), o.threads);
    if (set.sample_shape.size() != shape.size() - 1 ||
        !std::equal(shape.begin() + 1, shape.end(), set.sample_shape.begin())) {
        throw error(exit_code::input, o.calibrate,
                    "its samples are " + shape_text({set.sample_shape.begin(), set.sample_shape.end()}) +
                        ", the model is for " + shape_text({shape.begin() + 1, shape.end()}));
    }
    for (const auto& r : set.rejected) {
        std::cerr << "quant: note: left out, does not decode: " << printable(r.name) << '\n';
    }
    calibration out;
    out.samples = o.calibrate_samples == 0 ? set.size : std::min(o.calibrate_samples, set.size);

    // A batch per thread at a time, merged in their order: the same result for any number of threads.
    constexpr std::size_t batch = 8;
    const std::size_t batches = (out.samples + batch - 1) / batch;
    std::vector<observed> all(net.values);
    progress shown("calibrating", batches, 0, o.quiet || o.json, "batches");
    for (std::size_t first = 0; first < batches; first += o.threads) {
        const auto count = std::min<std::size_t>(o.threads, batches - first);
        std::vector<std::vector<observed>> seen(count, std::vector<observed>(net.values));
        in_parallel(count, o.threads, [&](std::size_t b) {
            const auto from = (first + b) * batch;
            const auto input = set.batch(from, std::min(batch, out.samples - from));
            seen[b][net.input].take(input);
            (void)engine::run(net, input,
                              [&](const engine::layer& l, engine::tensor& t) { seen[b][l.output].take(t); });
            shown.done(0);
        });
        for (const auto& part : seen) {
            for (std::size_t v = 0; v < net.values; ++v) {
                all[v].merge(part[v]);
            }
        }
    }

    const auto note = [&](std::size_t value, const std::string& name, int bits, bool quantized) {
        const auto& seen = all[value];
        auto& mean = out.means[name];
        for (const double sum : seen.sums) {
            mean.push_back(sum / seen.per_channel);
        }
        if (!quantized || o.activations == 0) {
            return;
        }
        const quant::code_format format{static_cast<std::uint8_t>(bits), false};
        const auto range = bits == 8 ? quant::minmax.clip(seen.histogram, format, quant::mapping::affine)
                                     : quant::mse_optimal.clip(seen.histogram, format, quant::mapping::affine);
        const auto params = range ? quant::choose_params(*range, format, quant::mapping::affine)
                                  : quant::result<quant::affine_params>(range.status());
        if (!params) {
            throw error(exit_code::data, o.calibrate, name,
                        std::string("cannot be quantized: ") + quant::message(params.status()));
        }
        out.activations[name] = *params;
    };
    std::set<std::string> weights;
    for (const auto& t : model.initializers) {
        weights.insert(t.name);
    }
    for (const auto& v : model.inputs) {
        if (!weights.contains(v.name)) {
            note(net.input, v.name, 8, true);
        }
    }
    for (const auto& l : net.layers) {
        const auto* const next = net.only_reader(l.output);
        const bool joined = next != nullptr &&
                            (next->kind == engine::operation::relu || next->kind == engine::operation::clip) &&
                            l.kind != engine::operation::relu && l.kind != engine::operation::clip;
        note(l.output, l.output_name, o.activations, !joined && !only_moves(l.kind) && l.output != net.output);
    }
    return out;
}

} // namespace quant_tool
