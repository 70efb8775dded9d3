// SPDX-License-Identifier: MIT
// Choosing the clip of a tensor of 2^20 elements for every width from 2 to 8 bits.
#include "benchmark.hpp"
#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/clipping.hpp>
#include <quant/calibrate/error_measures.hpp>
#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/moments.hpp>
#include <quant/quantize/quantize.hpp>
#include <span>

namespace {

using namespace bench;

constexpr std::size_t tensor = std::size_t{1} << 20;
constexpr unsigned narrowest = 2, widest_code = 8;

/// Sum of the upper ends, so that nothing is dropped.
template <class Clip> double of_all_widths(Clip clip) {
    double sum = 0;
    for (unsigned bits = narrowest; bits <= widest_code; ++bits)
        sum += clip(quant::code_format{static_cast<std::uint8_t>(bits), true})->hi;
    return sum;
}

void clip_mse(row& r) {
    const std::span x(reals(r.n), r.n);
    r.run([&] {
        quant::histogram_observer<2048> histogram;
        histogram.observe(x);
        double sum = of_all_widths([&](quant::code_format format) {
            return quant::mse_optimal.clip(histogram, format, quant::mapping::symmetric);
        });
        benchmark::DoNotOptimize(sum);
    });
}
void clip_empirical(row& r) {
    const std::span x(reals(r.n), r.n);
    r.run([&] {
        quant::moments_observer moments;
        moments.observe(x);
        const quant::tensor_statistics data = moments.summary();
        double sum = of_all_widths([&](quant::code_format format) {
            return quant::aciq().clip_empirical(data, format, quant::empirical_tail(x, format));
        });
        benchmark::DoNotOptimize(sum);
    });
}
void clip_empirical_of_histogram(row& r) {
    const std::span x(reals(r.n), r.n);
    r.run([&] {
        quant::histogram_observer<2048> histogram;
        histogram.observe(x);
        quant::moments_observer moments;
        moments.observe(x);
        const quant::tensor_statistics data = moments.summary();
        double sum = of_all_widths([&](quant::code_format format) {
            return quant::aciq().clip_empirical(data, format, quant::empirical_tail(histogram, format));
        });
        benchmark::DoNotOptimize(sum);
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
    add<read_f32>("clip_empirical_aciq_of_histogram/f32/all_widths", "native", one, clip_empirical_of_histogram);
    add<read_f32>("quantize_and_measure/f32/one_pass", "native", one, quantize_and_measure);
    add<read_f32>("histogram_2048/f32/per_tensor", "native", one, histogram_pass);
    return true;
}();

} // namespace
