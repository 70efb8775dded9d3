// SPDX-License-Identifier: MIT
// Codes to the dense bit stream and back.
#include "benchmark.hpp"
#include <quant/packing.hpp>
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
    return true;
}();

} // namespace
