// SPDX-License-Identifier: MIT
#pragma once

// The kernels that most of the examples need, compiled once (kernels.cpp) instead of in every file that quantizes: they are most of what
// such a file takes to compile. It works for any program of several files: an `extern template` for each kernel and types, in a
// header included before the first call, and the same lines without `extern` in one source file. Calls stay as they are.

#include <quant/simd/quantize_kernels.hpp>

#include <cstddef>
#include <cstdint>

/// Floats to codes and back; `which` is `extern` or nothing.
#define EXAMPLES_CODE_KERNELS(which, code, parameters)                                                                 \
    which template void quant::simd::quantize<quant::simd::native_division, float, code, quant::simd::parameters>(     \
        const float*, code*, std::size_t, const quant::simd::parameters&, const quant::quantize_options&,              \
        quant::simd::index_run, const quant::simd::run_rows&) noexcept;                                                \
    which template void quant::simd::dequantize<quant::simd::native, code, float, quant::simd::parameters>(            \
        const code*, float*, std::size_t, const quant::simd::parameters&, quant::store_policy,                         \
        const quant::simd::run_rows&) noexcept;
/// One set of parameters for a run, and one for each element.
#define EXAMPLES_KERNELS_FOR(which, parameters)                                                                        \
    EXAMPLES_CODE_KERNELS(which, std::int8_t, parameters)                                                              \
    EXAMPLES_CODE_KERNELS(which, std::uint8_t, parameters)                                                             \
    EXAMPLES_CODE_KERNELS(which, std::int16_t, parameters)                                                             \
    EXAMPLES_CODE_KERNELS(which, std::uint16_t, parameters)                                                            \
    which template void quant::simd::fake_quant<quant::simd::native_division, float, quant::simd::parameters>(         \
        const float*, float*, std::size_t, const quant::simd::parameters&, const quant::quantize_options&,             \
        quant::simd::index_run, const quant::simd::run_rows&) noexcept;
#define EXAMPLES_KERNELS(which)                                                                                        \
    EXAMPLES_KERNELS_FOR(which, uniform_params)                                                                        \
    EXAMPLES_KERNELS_FOR(which, per_element_params)

#ifndef EXAMPLES_COMPILE_KERNELS
EXAMPLES_KERNELS(extern)
#endif
