// SPDX-License-Identifier: MIT
#include "calibrate_onnx.hpp"

#include "calibration_state.hpp"
#include "io/atomic_file.hpp"
#include "network_inputs.hpp"
#include "report.hpp"
#include "threads.hpp"

#include <chrono>
#include <cmath>
#include <optional>
#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/clipping.hpp>
#include <quant/message.hpp>
#include <set>

namespace quant_tool {

namespace {

bool only_moves(engine::operation kind) {
    return engine::moves_values(kind) || kind == engine::operation::quantize || kind == engine::operation::dequantize;
}

/// What ACIQ asks about the values, as far as their histogram tells: within a bin they count as its centre.
quant::tensor_statistics statistics_of(const quant::histogram_observer<2048>& seen) {
    quant::tensor_statistics out;
    out.count = seen.count();
    out.non_finite = seen.non_finite();
    out.min = static_cast<double>(seen.state().min);
    out.max = static_cast<double>(seen.state().max);
    out.taken = out.min >= 0 ? quant::statistics::after_relu : quant::statistics::unspecified;
    const auto n = static_cast<double>(out.count);
    const auto for_each = [&](const auto& f) {
        for (std::size_t b = 0; b < 2048; ++b) {
            // Zeros are exact, and after a ReLU there are many.
            const auto zeros = b == 1024 ? seen.zeros() : 0;
            f((seen.edge(b) + seen.edge(b + 1)) / 2, static_cast<double>(seen[b] - zeros));
            if (zeros != 0) {
                f(0.0, static_cast<double>(zeros));
            }
        }
    };
    for_each([&](double x, double count) {
        out.mean += x * count / n;
        out.mean_square += x * x * count / n;
    });
    out.variance = std::max(0.0, out.mean_square - out.mean * out.mean);
    out.centre = out.mean;
    for (std::size_t b = 1024; b < 2048; ++b) {
        out.positive += seen[b];
    }
    out.positive -= seen.zeros();
    for_each([&](double x, double count) { out.mean_abs_deviation += std::fabs(x - out.mean) * count / n; });
    return out;
}

quant::result<quant::clip_range> range_of(const quant::histogram_observer<2048>& seen, quant::code_format format,
                                          clip_method method, double percent) {
    constexpr auto affine = quant::mapping::affine;
    switch (method) {
    case clip_method::minmax: break;
    case clip_method::percentile: return quant::percentile(percent).clip(seen, format, affine);
    case clip_method::mse: return quant::mse_optimal.clip(seen, format, affine);
    case clip_method::entropy: return quant::entropy.clip(seen, format, affine);
    case clip_method::aciq:
        return seen.count() == 0 ? quant::minmax.clip(seen, format, affine)
                                 : quant::aciq().clip_affine(statistics_of(seen), format);
    }
    return quant::minmax.clip(seen, format, affine);
}

/// A batch per thread at a time, merged in their order: the same result for any number of threads, in one go or in several.
std::vector<observed_value> observe(const engine::graph& net, const evaluation::labelled_set& set, std::size_t samples,
                                    const quantize_command& o, const calibration_file* kept) {
    constexpr std::size_t batch = 8;
    using clock = std::chrono::steady_clock;
    constexpr std::chrono::seconds between_saves(10);
    calibration_state state{0, std::vector<observed_value>(net.values)};
    if (kept != nullptr && kept->load(state, batch) && !o.quiet) {
        std::cerr << "quant: note: going on after " << state.samples << " of " << counted(samples, "sample") << '\n';
    }
    const std::size_t batches = (samples + batch - 1) / batch, start = (state.samples + batch - 1) / batch;
    progress shown("calibrating", batches - start, 0, o.quiet || o.json, "batches");
    std::optional<deferred_interrupt> interrupt;
    if (kept != nullptr) {
        interrupt.emplace();
    }
    std::optional<clock::time_point> saved;
    for (std::size_t first = start; first < batches; first += o.threads) {
        const auto count = std::min<std::size_t>(o.threads, batches - first);
        std::vector<std::vector<observed_value>> seen(count, std::vector<observed_value>(net.values));
        in_parallel(count, o.threads, [&](std::size_t b) {
            const auto from = (first + b) * batch;
            const auto input = set.batch(from, std::min(batch, samples - from));
            seen[b][net.input].take(input.shape, input.data);
            (void)engine::run(net, input, [&](const engine::layer& l, engine::tensor& t) {
                seen[b][l.output].take(t.shape, t.data);
            });
            shown.done(0);
        });
        for (const auto& part : seen) {
            for (std::size_t v = 0; v < net.values; ++v) {
                state.values[v].merge(part[v]);
            }
        }
        state.samples = std::min((first + count) * batch, samples);
        if (kept == nullptr) {
            continue;
        }
        // The first time at once: a file that cannot be written is better known now than later.
        const bool stop = interrupt->pending();
        if (stop || !saved || clock::now() - *saved >= between_saves || state.samples == samples) {
            kept->save(state);
            saved = clock::now();
        }
        if (stop) {
            shown.clear();
            if (!o.quiet) {
                std::cerr << "quant: note: interrupted after " << state.samples << " of " << counted(samples, "sample")
                          << ", kept in " << printable(o.resume) << '\n';
            }
            interrupt->die();
        }
    }
    return std::move(state.values);
}

} // namespace

calibration calibrate(const quant_onnx::model& model, const quantize_command& o) {
    const auto net = engine::load(model);
    const auto set = open_inputs(net, o.calibrate, {}, o.calibrate_preprocess, o.threads);
    for (const auto& r : set.rejected) {
        std::cerr << "quant: note: left out, does not decode: " << printable(r.name) << '\n';
    }
    calibration out;
    out.samples = o.calibrate_samples == 0 ? set.size : std::min(o.calibrate_samples, set.size);

    std::optional<calibration_file> kept;
    if (!o.resume.empty()) {
        kept.emplace(o, model, out.samples);
    }
    const auto all = observe(net, set, out.samples, o, kept ? &*kept : nullptr);

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
        const auto range =
            range_of(seen.histogram, format, bits == o.activations ? o.activation_clip : clip_method::minmax,
                     o.activation_percentile);
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
