// SPDX-License-Identifier: MIT
// The main kernels once each, for tests/build/instruction_counts, which counts their instructions under callgrind. Prints the number
// of elements that every function works on.
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include <quant/calibration.hpp>
#include <quant/packing.hpp>
#include <quant/per_channel.hpp>
#include <quant/uniform.hpp>

namespace {

constexpr std::size_t n = 32768, columns = 256;
alignas(64) float reals[n], restored[n];
alignas(64) std::int8_t codes[n];
alignas(64) std::uint8_t packed[n / 2];
quant::affine_params params{4.0f / 127, 3, quant::int8};
quant::affine_params column_params[columns];
namespace simd = quant::simd;

} // namespace

// One symbol per row of the table; not inlined, so that callgrind sees them.
#define MEASURED extern "C" [[gnu::noinline]] void

MEASURED count_quantize_division() { simd::quantize(reals, codes, n, simd::uniform_params{params}); }
MEASURED count_quantize_reciprocal() {
    simd::quantize(reals, codes, n, simd::uniform_params{params}, {.divide = quant::scale_by::reciprocal});
}
MEASURED count_dequantize() { simd::dequantize(codes, restored, n, simd::uniform_params{params}); }
MEASURED count_fake_quant() {
    simd::fake_quant(reals, restored, n, simd::uniform_params{params}, {.divide = quant::scale_by::reciprocal});
}
MEASURED count_quantize_inner_axis() {
    const quant::status s = quant::quantize(quant::view(reals, n / columns, columns), codes, column_params,
                                            quant::per_axis(1), {.divide = quant::scale_by::reciprocal});
    if (!s) std::puts("failed: quantize_inner_axis");
}
MEASURED count_pack_int4() { simd::pack_codes(codes, packed, n, 4); }
MEASURED count_unpack_int4() { simd::unpack_codes(packed, codes, n, 4, true); }
MEASURED count_minmax() {
    quant::minmax_observer observer;
    observer.observe(reals);
    if (observer.count() != n) std::puts("failed: minmax");
}
MEASURED count_moments() {
    quant::moments_observer observer(quant::statistics::unspecified, 0.25);
    observer.observe(reals);
    if (observer.summary().count != n) std::puts("failed: moments");
}
MEASURED count_histogram() {
    static quant::histogram_observer<2048> observer;
    observer.observe(reals);
    if (observer.count() != n) std::puts("failed: histogram");
}

int main() {
    for (std::size_t i = 0; i < n; ++i) reals[i] = static_cast<float>(i * 2654435761u % 8192u) / 1024.0f - 4.0f;
    for (std::size_t i = 0; i < columns; ++i) column_params[i] = params;
    count_quantize_division();
    count_quantize_reciprocal();
    count_dequantize();
    count_fake_quant();
    count_quantize_inner_axis();
    count_pack_int4();
    count_unpack_int4();
    count_minmax();
    count_moments();
    count_histogram();
    std::printf("%zu\n", n);
}
