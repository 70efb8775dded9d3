// SPDX-License-Identifier: MIT
// Passes that only read: extremes, moments, histogram. Their ceiling is a loop that loads the same bytes.
#include "benchmark.hpp"
#include "loops_fast_math.hpp"
#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/minmax.hpp>
#include <quant/calibrate/moments.hpp>
#include <span>

namespace {

using namespace bench;

template <class Arch> void minmax_kernel(row& r) {
    const float* const x = reals(r.n);
    // In blocks, as the observer does: the counts of a block are 32 bits wide.
    r.run([&] {
        for (std::size_t i = 0; i < r.n; i += simd::tile_size) {
            simd::block_extremes e = simd::extremes<Arch>(x + i, simd::tile_size);
            benchmark::DoNotOptimize(e);
        }
    });
}
template <class Arch> void moments_kernel(row& r) {
    const float* const x = reals(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; i += simd::tile_size) {
            simd::block_moments m = simd::moments<Arch>(x + i, simd::tile_size, 0.25f);
            benchmark::DoNotOptimize(m);
        }
    });
}
template <class Observer> void observe(row& r, const Observer& start) {
    const std::span x(reals(r.n), r.n);
    Observer all = start; // the histogram is 16 KB: it keeps counting, as over the batches of a calibration
    r.run([&] { all.observe(x); });
    auto state = all.state();
    benchmark::DoNotOptimize(state);
}
void minmax_verb(row& r) { observe(r, quant::minmax_observer{}); }
void moments_verb(row& r) { observe(r, quant::moments_observer(quant::statistics::unspecified, 0.25)); }
void histogram_verb(row& r) { observe(r, quant::histogram_observer<2048>{}); }

// ---- what a user writes by hand ---------------------------------------------------------------------------------------

void minmax_loop(row& r) {
    const float* const x = reals(r.n);
    r.run([&] {
        float lo = x[0], hi = x[0];
        for (std::size_t i = 0; i < r.n; ++i) {
            lo = std::min(lo, x[i]);
            hi = std::max(hi, x[i]);
        }
        benchmark::DoNotOptimize(lo);
        benchmark::DoNotOptimize(hi);
    });
}
void minmax_fast_math(row& r) {
    const float* const x = reals(r.n);
    r.run([&] {
        auto both = fast_math::minmax(x, r.n);
        benchmark::DoNotOptimize(both);
    });
}
void moments_loop(row& r) {
    const float* const x = reals(r.n);
    r.run([&] {
        double sum = 0, squares = 0, deviation = 0;
        for (std::size_t i = 0; i < r.n; ++i) {
            const auto v = static_cast<double>(x[i]);
            sum += v;
            squares += v * v;
            deviation += std::abs(v - 0.25);
        }
        benchmark::DoNotOptimize(sum);
        benchmark::DoNotOptimize(squares);
        benchmark::DoNotOptimize(deviation);
    });
}
void moments_fast_math(row& r) {
    const float* const x = reals(r.n);
    r.run([&] {
        auto sums = fast_math::moments(x, r.n, 0.25);
        benchmark::DoNotOptimize(sums);
    });
}
/// 2048 bins of a width the user knows beforehand, elements outside in the outermost bins.
void histogram_loop(row& r) {
    const float* const x = reals(r.n);
    std::vector<std::uint32_t> bins(2048);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) {
            const float at = std::min(std::max(x[i] * 128.0f + 1024.0f, 0.0f), 2047.0f);
            ++bins[static_cast<std::size_t>(static_cast<std::int32_t>(at))];
        }
        benchmark::DoNotOptimize(bins.data());
    });
}
/// The best plain loop known: bin numbers of a block first, which a compiler turns into vectors, then the increments in turn
/// on two tables.
void histogram_blocked_loop(row& r) {
    const float* const x = reals(r.n);
    std::vector<std::uint32_t> first(2048), second(2048);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; i += 1024) {
            std::uint16_t at[1024];
            for (std::size_t j = 0; j < 1024; ++j) {
                const float bin = std::min(std::max(x[i + j] * 128.0f + 1024.0f, 0.0f), 2047.0f);
                at[j] = static_cast<std::uint16_t>(static_cast<std::int32_t>(bin));
            }
            for (std::size_t j = 0; j < 1024; j += 2) {
                ++first[at[j]];
                ++second[at[j + 1]];
            }
        }
        benchmark::DoNotOptimize(first.data());
        benchmark::DoNotOptimize(second.data());
    });
}

const bool registered = [] {
    const std::string minmax = "minmax/f32/per_tensor", moments = "moments/f32/per_tensor";
    const std::string histogram = "histogram_2048/f32/per_tensor";
    for_each_arch([&]<class Arch> {
        add_kernel<read_f32, Arch>(minmax, minmax_kernel<Arch>);
        add_kernel<read_f32, Arch>(moments, moments_kernel<Arch>);
    });
    add<read_f32>(minmax, "native", all_sizes, minmax_verb);
    add<read_f32>(minmax, "loop", all_sizes, minmax_loop);
    add<read_f32>(minmax, "loop_fast_math", all_sizes, minmax_fast_math);
    add<read_f32>(moments, "native", all_sizes, moments_verb);
    add<read_f32>(moments, "loop", all_sizes, moments_loop);
    add<read_f32>(moments, "loop_fast_math", all_sizes, moments_fast_math);
    add<read_f32>(histogram, "native", all_sizes, histogram_verb);
    add<read_f32>(histogram, "loop", all_sizes, histogram_loop);
    add<read_f32>(histogram, "loop_blocked", all_sizes, histogram_blocked_loop);
    return true;
}();

} // namespace
