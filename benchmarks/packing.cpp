// SPDX-License-Identifier: MIT
// Codes to the dense bit stream and back, and real values straight to it: rows of 4096 with parameters of their own.
#include "benchmark.hpp"
#include <quant/packing.hpp>
#include <quant/uniform.hpp>
#include <span>

namespace {

using namespace bench;

template <unsigned Bits> inline constexpr quant::code_format format{Bits, true};

template <unsigned Bits> void pack(row& r) {
    const std::span c(codes<std::int8_t>(r.n), r.n); // what lies above the width is cut off
    const std::span packed(results<std::uint8_t>(r.n * Bits / 8), r.n * Bits / 8);
    r.run_verb([&] { return quant::pack_codes(c, packed, format<Bits>); });
}
template <unsigned Bits> void unpack(row& r) {
    const std::span packed(bytes(r.n * Bits / 8), r.n * Bits / 8);
    const std::span c(results<std::int8_t>(r.n), r.n);
    r.run_verb([&] { return quant::unpack_codes(packed, c, format<Bits>); });
}

template <class Arch, unsigned Bits> void pack_kernel(row& r) {
    const auto* const c = codes<std::int8_t>(r.n);
    auto* const packed = results<std::uint8_t>(r.n * Bits / 8);
    r.run([&] { simd::pack_codes<Arch>(c, packed, r.n, Bits); });
}
template <class Arch, unsigned Bits> void unpack_kernel(row& r) {
    const std::uint8_t* const packed = bytes(r.n * Bits / 8);
    auto* const c = results<std::int8_t>(r.n);
    r.run([&] { simd::unpack_codes<Arch>(packed, c, r.n, Bits, true); });
}

// ---- without codes in between; the same rows to int8 for comparison -----------------------------------------------------

template <unsigned Bits> struct rows_of_4096 {
    std::size_t rows;
    std::vector<affine_params> params;
    explicit rows_of_4096(std::size_t n) : rows(n / 4096), params(params_of(format<Bits>, n / 4096)) {
        for (affine_params& p : params) p.zero_point = 0;
    }
    template <class T> auto view(T* p) const { return quant::view(p, rows, std::size_t{4096}); }
};
template <unsigned Bits> void quantize_packed(row& r) {
    const rows_of_4096<Bits> m(r.n);
    const std::span packed(results<std::uint8_t>(r.n * Bits / 8), r.n * Bits / 8);
    const auto x = m.view(reals(r.n));
    r.run_verb([&] { return quant::quantize_packed(x, packed, m.params, quant::per_axis(0)); });
}
template <unsigned Bits> void dequantize_packed(row& r) {
    const rows_of_4096<Bits> m(r.n);
    const std::span packed(bytes(r.n * Bits / 8), r.n * Bits / 8);
    const auto x = m.view(results<float>(r.n));
    r.run_verb([&] { return quant::dequantize_packed(packed, x, m.params, quant::per_axis(0)); });
}
void quantize_rows(row& r) {
    const rows_of_4096<8> m(r.n);
    const auto x = m.view(reals(r.n));
    const auto out = m.view(results<std::int8_t>(r.n));
    r.run_verb([&] { return quant::quantize(x, out, m.params, quant::per_axis(0)); });
}

// ---- what a user writes by hand: eight codes are `Bits` whole bytes ----------------------------------------------------

template <unsigned Bits> void pack_loop(row& r) {
    const auto* const c = codes<std::uint8_t>(r.n);
    auto* const packed = results<std::uint8_t>(r.n * Bits / 8);
    r.run([&] {
        for (std::size_t i = 0; i < r.n / 8; ++i) {
            std::uint64_t word = 0;
            for (unsigned j = 0; j < 8; ++j) word |= (std::uint64_t{c[8 * i + j]} & ((1u << Bits) - 1)) << (j * Bits);
            for (unsigned b = 0; b < Bits; ++b) packed[Bits * i + b] = static_cast<std::uint8_t>(word >> (8 * b));
        }
    });
}
template <unsigned Bits> void unpack_loop(row& r) {
    const std::uint8_t* const packed = bytes(r.n * Bits / 8);
    auto* const c = results<std::int8_t>(r.n);
    r.run([&] {
        for (std::size_t i = 0; i < r.n / 8; ++i) {
            std::uint64_t word = 0;
            for (unsigned b = 0; b < Bits; ++b) word |= std::uint64_t{packed[Bits * i + b]} << (8 * b);
            for (unsigned j = 0; j < 8; ++j) {
                const auto code = static_cast<std::int32_t>((word >> (j * Bits)) & ((1u << Bits) - 1));
                constexpr std::int32_t sign = 1 << (Bits - 1);
                c[8 * i + j] = static_cast<std::int8_t>((code ^ sign) - sign);
            }
        }
    });
}

template <unsigned Bits> void add_kernels() {
    const auto of = []<class Arch> {
        const std::string width = "int" + std::to_string(Bits);
        add_kernel<traffic<8, 8, Bits>, Arch>("pack/s8_" + width + "/none", pack_kernel<Arch, Bits>, cache_sizes);
        add_kernel<traffic<8, Bits, 8>, Arch>("unpack/" + width + "_s8/none", unpack_kernel<Arch, Bits>, cache_sizes);
    };
    for_each_arch(of);
    // A processor may have more for bytes than any of them (AVX-512 VBMI, with -march=native).
    if constexpr (!std::is_same_v<simd::native, widest>) of.template operator()<simd::native>();
}
template <unsigned Bits> void add_width() {
    const std::string width = "int" + std::to_string(Bits);
    add<traffic<8, 8, Bits>>("pack/s8_" + width + "/none", "native", all_sizes, pack<Bits>);
    add<traffic<8, Bits, 8>>("unpack/" + width + "_s8/none", "native", all_sizes, unpack<Bits>);
    add<traffic<8, 8, Bits>>("pack/s8_" + width + "/none", "loop", cache_sizes, pack_loop<Bits>);
    add<traffic<8, Bits, 8>>("unpack/" + width + "_s8/none", "loop", cache_sizes, unpack_loop<Bits>);
}

const bool registered = [] {
    const auto all = []<unsigned... I>(std::integer_sequence<unsigned, I...>) { (add_width<I + 1>(), ...); };
    all(std::make_integer_sequence<unsigned, 7>{});

    add_kernels<3>(); // shuffles
    add_kernels<4>(); // shifts

    add<f32_to_8>("quantize/f32_s8/per_row_of_4096", "native", all_sizes, quantize_rows);
    add<traffic<8, 32, 4>>("quantize_packed/f32_int4/per_row_of_4096", "native", all_sizes, quantize_packed<4>);
    add<traffic<8, 32, 2>>("quantize_packed/f32_int2/per_row_of_4096", "native", all_sizes, quantize_packed<2>);
    add<traffic<8, 4, 32>>("dequantize_packed/int4_f32/per_row_of_4096", "native", all_sizes, dequantize_packed<4>);
    add<traffic<8, 2, 32>>("dequantize_packed/int2_f32/per_row_of_4096", "native", all_sizes, dequantize_packed<2>);
    return true;
}();

} // namespace
