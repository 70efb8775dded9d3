// SPDX-License-Identifier: MIT
// Fitting rows of weights to a step and integers, and choosing among options of layers.
#include "benchmark.hpp"
#include <quant/mixed_precision.hpp>
#include <quant/mixquant.hpp>
#include <quant/multipoint.hpp>
#include <span>

namespace {

using namespace bench;

constexpr std::size_t depth = 576, rows = 64; // a 3x3 convolution of 64 channels

/// The exact fit of every row.
template <int Largest> void fit_rows(row& r) {
    const std::span x(reals(r.n), r.n);
    std::vector<std::int8_t> k(depth);
    std::vector<quant::fit_event> scratch(depth);
    r.run_verb([&] {
        bool ok = true;
        for (std::size_t at = 0; at < r.n; at += depth) {
            auto fit = quant::fit_point(x.subspan(at, depth), Largest, k, scratch);
            benchmark::DoNotOptimize(fit);
            ok = ok && static_cast<bool>(fit);
        }
        return ok;
    });
}
/// What a user writes by hand: a hundred steps, each with all integers rounded.
template <int Largest> void fit_rows_by_search(row& r) {
    const float* const x = reals(r.n);
    r.run([&] {
        for (std::size_t at = 0; at < r.n; at += depth) {
            float most = 0, best = 1e30f;
            for (std::size_t j = 0; j < depth; ++j) most = std::max(most, std::fabs(x[at + j]));
            for (int i = 1; i <= 100; ++i) {
                const float step = most * static_cast<float>(i) / 100 / Largest;
                float error = 0;
                for (std::size_t j = 0; j < depth; ++j) {
                    const float limit = Largest, code = std::nearbyint(x[at + j] / step);
                    const float e = x[at + j] - step * std::min(std::max(code, -limit), limit);
                    error += e * e;
                }
                best = std::min(best, error);
            }
            benchmark::DoNotOptimize(best);
        }
    });
}
void fit_four_points(row& r) {
    const std::span x(reals(r.n), r.n);
    std::vector<std::uint8_t> counts(rows);
    std::vector<float> steps(4 * rows);
    std::vector<std::int8_t> codes(4 * rows * depth);
    std::vector<std::byte> workspace(quant::multipoint_workspace_size(depth, 4));
    r.run_verb([&] { return quant::multipoint_layer(x, depth, {}, {.largest = 7}, counts, steps, codes, workspace); });
}
void round_off(row& r) {
    const std::span x(reals(r.n), r.n);
    r.run_verb([&] {
        auto found = quant::round_off_error(x, 4);
        benchmark::DoNotOptimize(found);
        return found;
    });
}

/// 200 layers of up to a million elements at 1 to 8 bits.
constexpr std::size_t layers = 200, options = 8;
struct model {
    std::vector<double> loss;
    std::vector<std::uint64_t> cost;
    std::uint64_t budget = 0;
    std::vector<std::byte> workspace =
        std::vector<std::byte>(quant::allocate_exact_workspace_size(layers, options, std::size_t{1} << 20));
    std::vector<std::uint8_t> choice = std::vector<std::uint8_t>(layers);
    [[nodiscard]] quant::option_table table() const { return {loss, cost, layers, options}; }
    explicit model(std::uint64_t multiple) {
        for (std::size_t l = 0; l < layers; ++l) {
            const std::uint64_t n = multiple * (1 + quant::random_bits(3, 0, l) % (1000000 / multiple));
            budget += 4 * n + n / 3;
            const double weight = (0.1 + static_cast<double>(quant::random_uniform(5, 0, l))) * static_cast<double>(n);
            for (std::uint64_t b = 0; b < options; ++b) {
                const double spread = 0.5 + 0.2 * static_cast<double>(quant::random_uniform(4, l, b));
                loss.push_back(weight * spread * std::pow(4.0, -static_cast<double>(b + 1)));
                cost.push_back(n * (b + 1));
            }
        }
    }
};
template <class F> void allocate_with(row& r, std::uint64_t multiple, F f) {
    model m(multiple);
    r.run_verb([&] {
        auto found = f(m);
        benchmark::DoNotOptimize(found);
        return found;
    });
}
const auto exactly = [](model& m) { return quant::allocate_exact(m.table(), m.budget, m.choice, m.workspace); };
void exact_any(row& r) { allocate_with(r, 1, exactly); }
void exact_multiples(row& r) { allocate_with(r, 64, exactly); }
void greedy_any(row& r) {
    allocate_with(r, 1, [](model& m) { return quant::allocate_greedy(m.table(), m.budget, m.choice, m.workspace); });
}

const bool registered = [] {
    const sizes layer{depth * rows}, table{layers * options};
    add<read_f32>("fit_point/f32_2bit/rows_of_576", "native", layer, fit_rows<1>);
    add<read_f32>("fit_point/f32_4bit/rows_of_576", "native", layer, fit_rows<7>);
    add<read_f32>("fit_point/f32_8bit/rows_of_576", "native", layer, fit_rows<127>);
    add<read_f32>("fit_by_search/f32_4bit/rows_of_576", "loop", layer, fit_rows_by_search<7>);
    add<read_f32>("multipoint/f32_4bit/four_points", "native", layer, fit_four_points);
    add<read_f32>("round_off_error/f32_4bit/per_tensor", "native", layer, round_off);
    add<read_f32>("allocate_exact/200_layers/any_size", "native", table, exact_any);
    add<read_f32>("allocate_exact/200_layers/multiples_of_64", "native", table, exact_multiples);
    add<read_f32>("allocate_greedy/200_layers/any_size", "native", table, greedy_any);
    return true;
}();

} // namespace
