// SPDX-License-Identifier: MIT
// Choosing the clip of a tensor of 2^20 elements for every width from 2 to 8 bits.
#include "benchmark.hpp"
#include <quant/aciq.hpp>
#include <quant/calibrate/empirical.hpp>
#include <quant/calibration.hpp>
#include <quant/uniform.hpp>
#include <span>

namespace {

using namespace bench;

constexpr std::size_t tensor = std::size_t{1} << 20;

constexpr std::array<quant::code_format, 7> formats = [] {
    std::array<quant::code_format, 7> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = {static_cast<std::uint8_t>(i + 2), true};
    return all;
}();

void clip_mse(row& r) {
    const std::span x(reals(r.n), r.n);
    std::array<quant::clip_range, formats.size()> ranges{};
    r.run_verb([&] {
        quant::histogram_observer<2048> histogram;
        histogram.observe(x);
        return quant::mse_optimal.clip(histogram, formats, quant::mapping::symmetric, ranges);
    });
}
void clip_empirical(row& r) {
    const std::span x(reals(r.n), r.n);
    std::array<quant::clip_range, formats.size()> ranges{};
    r.run_verb([&] { return quant::clip_empirical(x, formats, ranges); });
}
/// What it replaces: format by format, 7 to 14 passes each.
void clip_empirical_by_passes(row& r) {
    const std::span x(reals(r.n), r.n);
    r.run_verb([&] {
        quant::moments_observer moments;
        moments.observe(x);
        const quant::tensor_statistics data = moments.summary();
        bool ok = true;
        for (const quant::code_format format : formats) {
            auto range = quant::aciq().clip_empirical(data, format, quant::empirical_tail(x, format));
            benchmark::DoNotOptimize(range);
            ok = ok && static_cast<bool>(range);
        }
        return ok;
    });
}
/// One of the hundred passes per width of a search on the tensor itself.
void quantize_and_measure(row& r) {
    const affine_params p = params_of(quant::int4, 0);
    const std::span x(reals(r.n), r.n);
    const std::span out(results<float>(r.n), r.n);
    r.run_verb([&] {
        const quant::status s = quant::fake_quant(x, out, p);
        quant::error_observer errors;
        const quant::status t = errors.observe(x, out);
        double error = errors.measures()->mse;
        benchmark::DoNotOptimize(error);
        return s && t;
    });
}
void histogram_pass(row& r) {
    const std::span x(reals(r.n), r.n);
    quant::histogram_observer<2048> histogram;
    r.run([&] { histogram.observe(x); });
    benchmark::DoNotOptimize(histogram);
}

const bool registered = [] {
    const sizes one{tensor};
    add<read_f32>("clip_mse/f32/all_widths", "native", one, clip_mse);
    add<read_f32>("clip_empirical_aciq/f32/all_widths", "native", one, clip_empirical);
    add<read_f32>("clip_empirical_aciq_by_passes/f32/all_widths", "native", one, clip_empirical_by_passes);
    add<read_f32>("quantize_and_measure/f32/one_pass", "native", one, quantize_and_measure);
    add<read_f32>("histogram_2048/f32/per_tensor", "native", one, histogram_pass);
    return true;
}();

} // namespace
