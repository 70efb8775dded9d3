// SPDX-License-Identifier: MIT
// simdcomp's bit packing with the widest registers of this build. Its codes are 32-bit words and its blocks interleave lanes: per code
// it moves four times the bytes on that side, and its rows have the ceiling of that traffic.
#include "benchmark.hpp"
#include <immintrin.h> // before simdcomp.h, which includes it within extern "C"
#include <simdcomp.h>

namespace {

using namespace bench;

#if defined(__AVX512F__)
using word = __m512i;
void pack_block(const std::uint32_t* in, word* out, std::uint32_t bits) { avx512pack(in, out, bits); }
void unpack_block(const word* in, std::uint32_t* out, std::uint32_t bits) { avx512unpack(in, out, bits); }
#elif defined(__AVX2__)
using word = __m256i;
void pack_block(const std::uint32_t* in, word* out, std::uint32_t bits) { avxpack(in, out, bits); }
void unpack_block(const word* in, std::uint32_t* out, std::uint32_t bits) { avxunpack(in, out, bits); }
#else
using word = __m128i;
void pack_block(const std::uint32_t* in, word* out, std::uint32_t bits) { simdpack(in, out, bits); }
void unpack_block(const word* in, std::uint32_t* out, std::uint32_t bits) { simdunpack(in, out, bits); }
#endif
constexpr std::size_t block = 8 * sizeof(word); // codes; `bits` words when packed

template <unsigned Bits> void pack_all(const std::uint32_t* in, word* out, std::size_t n) {
    for (std::size_t b = 0; b < n / block; ++b) pack_block(in + b * block, out + b * Bits, Bits);
}
template <unsigned Bits> void unpack_all(const word* in, std::uint32_t* out, std::size_t n) {
    for (std::size_t b = 0; b < n / block; ++b) unpack_block(in + b * Bits, out + b * block, Bits);
}

template <unsigned Bits> void pack(row& r) {
    const auto* const c = reinterpret_cast<const std::uint32_t*>(reals(r.n)); // what lies above the width is cut off
    auto* const packed = reinterpret_cast<word*>(results<std::uint8_t>(r.n * Bits / 8));
    pack_all<Bits>(c, packed, r.n);
    std::vector<std::uint32_t> again(std::min(r.n, std::size_t{1} << 20));
    unpack_all<Bits>(packed, again.data(), again.size());
    for (std::size_t i = 0; i < again.size(); ++i)
        if (again[i] != (c[i] & ((1u << Bits) - 1))) return r.state.SkipWithError("simdcomp packs something else");
    r.run([&] { pack_all<Bits>(c, packed, r.n); });
}
template <unsigned Bits> void unpack(row& r) {
    const auto* const packed = reinterpret_cast<const word*>(bytes(r.n * Bits / 8));
    auto* const c = results<std::uint32_t>(r.n);
    r.run([&] { unpack_all<Bits>(packed, c, r.n); });
}

template <unsigned Bits> void add_width() {
    const std::string width = "int" + std::to_string(Bits);
    add<traffic<8, 32, Bits>>("pack/s8_" + width + "/none", "simdcomp", all_sizes, pack<Bits>);
    add<traffic<8, Bits, 32>>("unpack/" + width + "_s8/none", "simdcomp", all_sizes, unpack<Bits>);
}
const bool registered = [] {
    add_width<2>();
    add_width<4>();
    return true;
}();

} // namespace
