// SPDX-License-Identifier: MIT
// One kernel, chosen by -DKERNEL=<name>, for tests/build/neon_code, which reads the machine code of its loops.
#include <cstddef>
#include <cstdint>
#include <quant/simd/pack.hpp>
#include <quant/simd/quantize_kernels.hpp>

namespace simd = quant::simd;
using codes = std::int8_t*;
using byte_codes = std::uint8_t*;
using reals = const float*;
using params = simd::uniform_params;

extern "C" {
#define IS_quantize_int8 1
#define IS_quantize_uint8 2
#define IS_dequantize 3
#define IS_pack_int4 4
#define IS_unpack_int4 5
#define KERNEL_NUMBER(name) KERNEL_NUMBER_OF(name)
#define KERNEL_NUMBER_OF(name) IS_##name

#if KERNEL_NUMBER(KERNEL) == IS_quantize_int8
void kernel(reals x, codes out, std::size_t n, const params& p, const quant::quantize_options& options) {
    simd::quantize(x, out, n, p, options);
}
#elif KERNEL_NUMBER(KERNEL) == IS_quantize_uint8
void kernel(reals x, byte_codes out, std::size_t n, const params& p, const quant::quantize_options& options) {
    simd::quantize(x, out, n, p, options);
}
#elif KERNEL_NUMBER(KERNEL) == IS_dequantize
void kernel(const std::int8_t* in, float* out, std::size_t n, const params& p) { simd::dequantize(in, out, n, p); }
#elif KERNEL_NUMBER(KERNEL) == IS_pack_int4
void kernel(const std::int8_t* in, std::uint8_t* out, std::size_t n) { simd::pack_codes(in, out, n, 4); }
#elif KERNEL_NUMBER(KERNEL) == IS_unpack_int4
void kernel(const std::uint8_t* in, codes out, std::size_t n) { simd::unpack_codes(in, out, n, 4, true); }
#endif
}
