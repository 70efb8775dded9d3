// SPDX-License-Identifier: MIT
#pragma once

// Every width with every step of the method, on images the network never saw.

#include "dataset.hpp"
#include "model.hpp"
#include "quantized.hpp"
#include "report.hpp"

#include "../nn/network.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace digits {

struct answers {
    nn::tensor logits;
    std::vector<std::size_t> classes; ///< one per image
    std::size_t correct = 0;
};

inline answers ask(nn::network& net, const dataset& data, const nn::output_hook& hook = {}) {
    answers a;
    a.logits = nn::run(net, data.images, hook);
    a.classes = nn::classes_of(a.logits);
    a.correct = count_correct(a.classes, data.labels);
    return a;
}

/// The quantized network's answers; the float weights are back in `net` afterwards.
inline answers evaluate(nn::network& net, const quantized_network& q, const dataset& data) {
    const nn::tensor_map kept = net.weights();
    net.set_weights(restored_weights(q));
    answers a = ask(net, data, output_rounding(q));
    net.set_weights(kept);
    return a;
}

/// One row per width and step. `base` says everything but these two.
inline report run_ablation(nn::network& net, const dataset& calibration, const dataset& unseen,
                           const std::vector<unsigned>& widths, quantize_settings base) {
    const nn::tensor_map weights = net.weights();
    const output_statistics statistics = observe_outputs(net, calibration.images);

    report r;
    const answers reference = ask(net, unseen);
    r.reference = {.method = "float32", .correct = reference.correct, .images = unseen.size()};
    for (const auto& [name, w] : weights) r.reference.bytes += w.size() * sizeof(float);

    for (const unsigned bits : widths)
        for (const method m : methods) {
            if (m == method::bias_correction && !base.weights) continue; // it corrects weights alone
            base.bits = bits;
            base.steps = m;
            const auto start = std::chrono::steady_clock::now();
            const quantized_network q = quantize(weights, statistics, base);
            const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
            const answers a = evaluate(net, q, unseen);
            row one{.method = std::string(name_of(m)),
                    .bits = bits,
                    .weight_bits = mean_weight_bits(q),
                    .activation_bits = mean_output_bits(q),
                    .correct = a.correct,
                    .images = unseen.size(),
                    .logit_sqnr = require(quant::measure_error(reference.logits.data, a.logits.data), "logits").sqnr_db,
                    .bytes = stored_bytes(q),
                    .seconds = elapsed.count()};
            for (std::size_t i = 0; i < unseen.size(); ++i) {
                const bool before = reference.classes[i] == unseen.labels[i], after = a.classes[i] == unseen.labels[i];
                one.lost += before && !after;
                one.gained += !before && after;
            }
            r.rows.push_back(one);
        }
    return r;
}

} // namespace digits
