// SPDX-License-Identifier: MIT
// The library starts no threads; this program does, and gets the bytes of the undivided calls. docs/threads.md shows the
// functions from here.
//
//   quant_threads            checks that; exit code 1 if a byte differs
//   quant_threads --time     elements per second on one thread and on two

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <quant/calibration.hpp>
#include <quant/quant.hpp>
#include <span>
#include <thread>
#include <vector>

namespace {

/// Calls work(part, first, count) for parts that together are [0, n), cut at multiples of `unit`, each on a thread.
template <class F> void split(std::size_t n, std::size_t threads, std::size_t unit, const F& work) {
    const std::size_t step = (n / threads / unit + 1) * unit;
    std::vector<std::jthread> pool; // joined when it goes
    for (std::size_t part = 0; part * step < n; ++part)
        pool.emplace_back([=, &work] { work(part, part * step, std::min(step, n - part * step)); });
}

/// Elements are independent: cut anywhere.
bool quantize(std::span<const float> x, std::span<std::int8_t> codes, const quant::affine_params& params,
              const quant::quantize_options& options, std::size_t threads) {
    std::atomic<bool> good = true;
    split(x.size(), threads, 1, [&](std::size_t, std::size_t first, std::size_t count) {
        quant::quantize_options own = options;
        own.first_index += first; // stochastic rounding goes by the number of the element
        if (!quant::quantize(x.subspan(first, count), codes.subspan(first, count), params, own)) good = false;
    });
    return good;
}

/// Rows with parameters of their own: cut between rows, and the parameters with them.
bool quantize(quant::tensor_view<const float, 2> x, quant::tensor_view<std::int8_t, 2> codes,
              std::span<const quant::affine_params> params, const quant::quantize_options& options,
              std::size_t threads) {
    std::atomic<bool> good = true;
    split(x.extent(0), threads, 1, [&](std::size_t, std::size_t first, std::size_t count) {
        quant::quantize_options own = options;
        own.first_index += first * x.extent(1);
        if (!quant::quantize(x.subview(0, first, count), codes.subview(0, first, count), params.subspan(first, count),
                             quant::per_axis(0), own))
            good = false;
    });
    return good;
}

/// Observers: one per part, cut at multiples of 1024 elements, merged in any order.
template <class Observer> Observer observe(std::span<const float> x, std::size_t threads) {
    std::vector<Observer> seen(threads);
    split(x.size(), threads, 1024,
          [&](std::size_t part, std::size_t first, std::size_t count) { seen[part].observe(x.subspan(first, count)); });
    for (std::size_t part = 1; part < threads; ++part) (void)seen[0].merge(seen[part]); // observers of one kind
    return seen[0];
}

std::vector<float> values(std::size_t n) {
    std::vector<float> out(n);
    for (std::size_t i = 0; i < n; ++i)
        out[i] = static_cast<float>((i * 2654435761U % 1000003) % 20001) * 0.001f - 10.0f;
    return out;
}

int mistakes = 0;
void check(bool good, const char* what, std::size_t threads) {
    if (good) return;
    std::printf("%s differs with %zu threads\n", what, threads);
    ++mistakes;
}

void check_all() {
    constexpr std::size_t rows = 37, columns = 1999;
    const std::vector<float> x = values(rows * columns);
    const quant::affine_params one{0.08f, 3, quant::int8};
    std::vector<quant::affine_params> each;
    for (std::size_t r = 0; r < rows; ++r) each.push_back({0.01f * static_cast<float>(r + 1), 0, quant::int8});
    const auto matrix = quant::view(x, rows, columns);

    for (const auto round : {quant::rounding::nearest_even, quant::rounding::stochastic}) {
        const quant::quantize_options options{.round = round, .seed = 42};
        std::vector<std::int8_t> whole(x.size()), whole_rows(x.size());
        check(static_cast<bool>(quant::quantize(x, whole, one, options)), "a legal call", 1);
        check(static_cast<bool>(quant::quantize(matrix, whole_rows, each, quant::per_axis(0), options)), "a legal call",
              1);
        for (const std::size_t threads : {1U, 2U, 3U, 7U, 64U}) {
            std::vector<std::int8_t> codes(x.size());
            check(quantize(x, codes, one, options, threads) && codes == whole, "quantize", threads);
            codes.assign(x.size(), 0);
            check(quantize(matrix, quant::view(codes, rows, columns), each, options, threads) && codes == whole_rows,
                  "quantize by rows", threads);
        }
    }
    const auto range = observe<quant::minmax_observer>(x, 1);
    const auto moments = observe<quant::moments_observer>(x, 1);
    const auto histogram = observe<quant::histogram_observer<>>(x, 1);
    for (const std::size_t threads : {2U, 3U, 7U, 64U}) {
        check(observe<quant::minmax_observer>(x, threads).state() == range.state(), "min and max", threads);
        check(observe<quant::moments_observer>(x, threads).state() == moments.state(), "moments", threads);
        check(observe<quant::histogram_observer<>>(x, threads).state() == histogram.state(), "histogram", threads);
    }
}

/// Seconds that each of `threads` threads needs for its part of the codes, `repeats` times over.
double seconds(std::span<const float> x, std::span<std::int8_t> codes, std::size_t threads, int repeats) {
    const quant::affine_params params{0.08f, 3, quant::int8};
    std::barrier start(static_cast<std::ptrdiff_t>(threads));
    std::vector<double> taken(threads);
    split(x.size(), threads, 64, [&](std::size_t part, std::size_t first, std::size_t count) {
        if (threads > 1) start.arrive_and_wait();
        const auto from = std::chrono::steady_clock::now();
        for (int i = 0; i < repeats; ++i)
            if (!quant::quantize(x.subspan(first, count), codes.subspan(first, count), params)) ++mistakes;
        taken[part] = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
    });
    return *std::max_element(taken.begin(), taken.end());
}

void time_all() {
    for (const std::size_t n : {std::size_t{1} << 18, std::size_t{1} << 20}) {
        const std::vector<float> x = values(n);
        std::vector<std::int8_t> codes(n);
        const int repeats = static_cast<int>((std::size_t{1} << 27) / n);
        std::array<double, 2> best{1e9, 1e9};
        for (int round = 0; round < 15; ++round)
            for (std::size_t threads = 1; threads <= 2; ++threads)
                best[threads - 1] = std::min(best[threads - 1], seconds(x, codes, threads, repeats));
        const double elements = static_cast<double>(n) * repeats;
        std::printf("%4zu Ki floats to int8: %.2f G elements/s on 1 thread, %.2f on 2: %.2f times as many\n", n / 1024,
                    elements / best[0] * 1e-9, elements / best[1] * 1e-9, best[0] / best[1]);
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--time") == 0)
        time_all();
    else
        check_all();
    return mistakes == 0 ? 0 : 1;
}
