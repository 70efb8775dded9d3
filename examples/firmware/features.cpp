// SPDX-License-Identifier: MIT
// One use of the library per program, so that a linker map says what it costs: FEATURE chooses. The program without a feature is
// what the others are compared with. Values pass through a volatile, or the compiler would compute the program.

#include "board.hpp"

#include <array>
#include <cstdint>
#include <span>

#define FEATURE_NONE 0
#define FEATURE_QUANTIZE_ONE 1 // core only: loops over quantize_one and dequantize_one, constants for parameters
#define FEATURE_QUANTIZE 2     // the verbs on arrays
#define FEATURE_PACKING 3      // pack_codes and unpack_codes, any width
#define FEATURE_PARAMETERS 4   // choose_params
#define FEATURE_MINMAX 5       // a streaming minimum and maximum, and parameters from them
#define FEATURE_MOMENTS 6      // a streaming observer of moments
#define FEATURE_ACIQ 7         // moments, ACIQ, parameters
#define FEATURE_REQUANTIZE 8   // int32 accumulators to codes in fixed point, multipliers known
#define FEATURE_REQUANTIZE_ONE 9
#define FEATURE_QUANTIZE_SPAN 10 // the verbs on views of a size known at run time
#define FEATURE_TABLE 11         // ACIQ from a table, the spread in float

#if FEATURE == FEATURE_QUANTIZE_ONE || FEATURE == FEATURE_PARAMETERS
#include <quant/core.hpp>
#elif FEATURE == FEATURE_QUANTIZE || FEATURE == FEATURE_QUANTIZE_SPAN
#include <quant/uniform.hpp>
#elif FEATURE == FEATURE_PACKING
#include <quant/packing.hpp>
#elif FEATURE == FEATURE_MINMAX
#include <quant/calibrate/minmax.hpp>
#elif FEATURE == FEATURE_MOMENTS
#include <quant/calibrate/moments.hpp>
#elif FEATURE == FEATURE_ACIQ
#include <quant/aciq.hpp>
#include <quant/calibrate/moments.hpp>
#elif FEATURE == FEATURE_TABLE
#include <quant/calibrate/aciq_table.hpp>
#elif FEATURE == FEATURE_REQUANTIZE
#include <quant/requantize.hpp>
#elif FEATURE == FEATURE_REQUANTIZE_ONE
#include <quant/core/requantize.hpp>
#endif

namespace {

constexpr std::size_t n = 32;
std::array<float, n> reals{};
std::array<std::int8_t, n> codes{};
std::array<std::uint8_t, n> packed{};
std::array<std::int32_t, n> sums{};
volatile int bits_seen = 4;
volatile float limit_seen = 3.3f;
volatile int result_seen = 0;

/// Somebody else may read and write everything here.
void exchange() noexcept {
    __asm__ volatile("" : : "r"(reals.data()), "r"(codes.data()), "r"(packed.data()), "r"(sums.data()) : "memory");
}

[[gnu::noinline]] int feature() noexcept {
    exchange();
    [[maybe_unused]] const auto bits = static_cast<std::uint8_t>(bits_seen);
    [[maybe_unused]] const float limit = limit_seen;
    int good = 1;
#if FEATURE == FEATURE_QUANTIZE_ONE
    constexpr auto adc = quant::symmetric(3.3f, quant::int8);
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::int8_t>(quant::quantize_one(reals[i], adc));
    exchange();
    for (std::size_t i = 0; i < n; ++i) reals[i] = quant::dequantize_one(codes[i], adc);
#elif FEATURE == FEATURE_QUANTIZE
    constexpr auto adc = quant::symmetric(3.3f, quant::int8);
    quant::quantize(reals, codes, adc);
    exchange();
    quant::dequantize(codes, reals, adc);
#elif FEATURE == FEATURE_QUANTIZE_SPAN
    constexpr auto adc = quant::symmetric(3.3f, quant::int8);
    const auto some = static_cast<std::size_t>(8 * bits);
    good = quant::quantize(std::span(reals).first(some), std::span(codes).first(some), adc) ? 1 : 0;
    exchange();
    good &= quant::dequantize(std::span(codes).first(some), std::span(reals).first(some), adc) ? 1 : 0;
#elif FEATURE == FEATURE_PACKING
    good = quant::pack_codes(std::span(codes), std::span(packed), quant::int8.with_bits(bits)) ? 1 : 0;
    exchange();
    good &= quant::unpack_codes(std::span(packed), std::span(codes), quant::int8.with_bits(bits)) ? 1 : 0;
#elif FEATURE == FEATURE_PARAMETERS
    const auto p = quant::choose_params({0, static_cast<double>(limit)}, quant::int8, quant::mapping::affine);
    good = p ? p->zero_point : 0;
#elif FEATURE == FEATURE_MINMAX
    quant::minmax_observer seen;
    seen.observe(reals);
    const auto range = seen.clip();
    const auto p = range ? quant::choose_params(*range, quant::int8, quant::mapping::affine) : range.status();
    good = p ? p->zero_point : 0;
#elif FEATURE == FEATURE_MOMENTS
    quant::moments_observer seen;
    seen.observe(reals);
    good = seen.summary().mean_abs_deviation < 0 ? 0 : 1;
#elif FEATURE == FEATURE_ACIQ
    quant::moments_observer seen;
    seen.observe(reals);
    const auto range = quant::aciq(quant::prior::laplace).clip(seen, quant::int8.with_bits(bits));
    const auto p = range ? quant::choose_params(*range, quant::int8, quant::mapping::symmetric) : range.status();
    good = p ? 1 : 0;
#elif FEATURE == FEATURE_TABLE
    const auto density = bits > 8 ? quant::prior::gauss : quant::prior::laplace;
    const auto p = quant::tabulated_aciq(limit, {bits, bits != 3, bits == 5}, density, limit * 4);
    reals[0] = p ? p->scale : 0.0f;
#elif FEATURE == FEATURE_REQUANTIZE
    constexpr auto m = quant::quantize_multiplier(quant::accumulator_multiplier(0.02f, 0.001f, 0.05f));
    good = quant::requantize(sums, codes, *m, {quant::int8}, {.rule = quant::requantization::double_rounding}) ? 1 : 0;
#elif FEATURE == FEATURE_REQUANTIZE_ONE
    constexpr auto m = quant::quantize_multiplier(quant::accumulator_multiplier(0.02f, 0.001f, 0.05f));
    for (std::size_t i = 0; i < n; ++i)
        codes[i] = static_cast<std::int8_t>(
            quant::requantize_one(sums[i], *m, quant::requantization::double_rounding, {quant::int8}));
#endif
    exchange();
    return good;
}

} // namespace

int main() {
    result_seen = feature();
    const board::memory m = board::used();
    board::print(std::uint64_t{m.stack});
    board::print("\n");
    return 0;
}
