// SPDX-License-Identifier: MIT
// Division without dividing: the corrected product gives the codes of the true quotient (docs/numerics.md).
#include "archs.hpp"
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <quant/core/random.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <vector>

using quant::affine_params;
namespace simd = quant::simd;

namespace {

/// A scale with the given integer significand in [2^23, 2^24), about one.
float scale_of(std::uint32_t significand) { return static_cast<float>(significand) * 0x1p-23f; }

/// The definition, by the machine's own division and rounding.
std::int32_t defined_code(float x, const affine_params& p) {
    const float steps = std::nearbyint(x / p.scale);
    const auto lo = static_cast<float>(p.format.qmin() - p.zero_point);
    const auto hi = static_cast<float>(p.format.qmax() - p.zero_point);
    return static_cast<std::int32_t>(steps < lo ? lo : (steps > hi ? hi : steps)) + p.zero_point;
}

/// Significands next to and inside the zones that are left to true division, and ordinary ones.
std::vector<std::uint32_t> significands() {
    std::vector<std::uint32_t> out;
    for (const std::uint32_t multiple : {0x80u, 0x81u, 0xA5u, 0xC0u, 0xFEu, 0xFFu})
        for (const std::int32_t near : {-33, -18, -17, -16, -8, -3, -2, -1, 0, 1, 2, 3, 8, 16, 17, 18, 33}) {
            const auto s = static_cast<std::uint32_t>(static_cast<std::int32_t>(multiple << 16) + near);
            if (s >= 0x800000u && s < 0x1000000u) out.push_back(s);
        }
    for (std::uint64_t i = 0; i < 100; ++i)
        out.push_back(0x800000u | (static_cast<std::uint32_t>(quant::random_bits(4, 0, i)) & 0x7FFFFFu));
    return out;
}

/// Around every place where the code changes: the floats next to (k + 1/2) * scale, both signs.
void add_borders(std::vector<float>& x, float scale, std::int32_t largest, std::int32_t stride) {
    for (std::int32_t k = 0; k < largest; k += stride)
        for (const double side : {-0x1p-25, 0.0, 0x1p-25}) { // also the middle between the tie and its neighbours
            const double tie = static_cast<double>(k) + 0.5;
            const auto near = static_cast<float>(tie * (1 + 2 * side) * static_cast<double>(scale));
            auto bits = std::bit_cast<std::uint32_t>(near) - 3;
            for (int i = 0; i < 7; ++i, ++bits) {
                x.push_back(std::bit_cast<float>(bits));
                x.push_back(-std::bit_cast<float>(bits));
            }
        }
}

template <class Arch, class Code> std::size_t mistakes_at_borders(const affine_params& p, const std::vector<float>& x) {
    std::vector<Code> codes(x.size());
    simd::quantize<Arch>(x.data(), codes.data(), x.size(), simd::uniform_params{p});
    std::vector<float> fake(x.size());
    simd::fake_quant<Arch>(x.data(), fake.data(), x.size(), simd::uniform_params{p});
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::int32_t expected = defined_code(x[i], p);
        wrong += codes[i] != expected;
        wrong += fake[i] != static_cast<float>(expected - p.zero_point) * p.scale;
    }
    return wrong;
}

} // namespace

TEST_CASE("the zones left to true division are those of the proof", "[division]") {
    const auto corrects = [](float scale, std::uint8_t bits) {
        return simd::product_corrects({scale, 0, {bits, true}});
    };
    for (const std::uint32_t multiple : {0x80u, 0xA5u, 0xFFu})
        for (std::int32_t near = -64; near <= 64; ++near) {
            const auto s = static_cast<std::uint32_t>(static_cast<std::int32_t>(multiple << 16) + near);
            if (s < 0x800000u || s >= 0x1000000u) continue;
            const bool hard = near != 0 && std::abs(near) <= 16;
            for (const float binade : {1.0f, 0x1p-70f, 0x1p50f}) CHECK(corrects(scale_of(s) * binade, 8) == !hard);
            CHECK(corrects(scale_of(s), 16) == !hard);
            CHECK_FALSE(corrects(scale_of(s) * 0x1p-71f, 8));
        }
    CHECK(corrects(scale_of(0x810101u), 8)); // near a multiple of 2^8, not of 2^16
    CHECK_FALSE(corrects(scale_of(0x810101u), 16));
}

TEMPLATE_LIST_TEST_CASE("registers divide as values do, to the last bit", "[division]", test::archs) {
    using P = simd::pack<float, TestType>;
    constexpr std::size_t lanes = simd::pack_of<float, TestType>::size;
    float a[lanes], b[lanes], c[lanes];
    std::size_t wrong = 0;
    for (std::uint64_t i = 0; i < 20000; ++i) {
        for (std::size_t k = 0; k < lanes; ++k) {
            const auto index = i * lanes + k;
            a[k] = quant::random_uniform(1, 1, index) + 0x1p-20f;
            b[k] = scale_of(0x800000u | (static_cast<std::uint32_t>(quant::random_bits(1, 2, index)) & 0x7FFFFFu));
        }
        const P x = simd::load<TestType>(a), y = simd::load<TestType>(b);
        simd::put(c, simd::divided(x, y));
        for (std::size_t k = 0; k < lanes; ++k) wrong += c[k] != a[k] / b[k];
#if QUANT_HAS_XSIMD
        if constexpr (!simd::is_scalar<TestType>) {
            if constexpr (simd::has_fma<TestType>) {
                float fused[lanes];
                simd::put(fused, simd::fused_remainder(x, simd::divided(x, y), y));
                for (std::size_t k = 0; k < lanes; ++k) wrong += fused[k] != std::fma(-c[k], b[k], a[k]);
            }
        }
#endif
    }
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("codes change where the true quotient says, for every code and hard scales", "[division]",
                        test::archs) {
    std::size_t wrong = 0;
    for (const std::uint32_t significand : significands())
        for (const float binade : {0x1p-7f, 0x1p-70f, 0x1p-99f, 0x1p99f}) {
            const float scale = scale_of(significand) * binade;
            std::vector<float> x;
            add_borders(x, scale, 256, 1);
            wrong += mistakes_at_borders<TestType, std::int8_t>({scale, 3, quant::int8}, x);
            wrong += mistakes_at_borders<TestType, std::uint8_t>({scale, 255, quant::uint8}, x);
            wrong += mistakes_at_borders<TestType, std::uint8_t>({scale, 0, quant::uint8}, x);
            wrong += mistakes_at_borders<TestType, std::int8_t>({scale, -2, quant::int4}, x);
        }
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("the same at 16 bits", "[division]", test::archs) {
    std::size_t wrong = 0;
    for (const std::uint32_t low : {0x00u, 0x01u, 0x10u, 0x11u, 0x12u, 0x80u, 0xEEu, 0xEFu, 0xF0u, 0xFFu})
        for (const std::uint32_t high : {0x8000u, 0xA55Au, 0xFFFFu}) {
            const float scale = scale_of(high << 8 | low) * 0x1p-12f;
            std::vector<float> x;
            add_borders(x, scale, 65536, 41);
            wrong += mistakes_at_borders<TestType, std::int16_t>({scale, 0, quant::int16}, x);
            wrong += mistakes_at_borders<TestType, std::uint16_t>({scale, 65535, quant::uint16}, x);
        }
    CHECK(wrong == 0);
}

#if QUANT_HAS_XSIMD
// Everything between a quarter of a step and beyond the last code, every float: where a code can change at all.
// QUANT_EXHAUSTIVE=1 takes all 2^32 floats instead. Where that is slow, one block of them in 31.
TEMPLATE_LIST_TEST_CASE("every float has the code of the true quotient", "[division]", test::archs) {
    if constexpr (!simd::is_scalar<TestType> && simd::has_fma<TestType>) {
        const char* const wish = std::getenv("QUANT_EXHAUSTIVE");
        const bool all = wish != nullptr && wish[0] == '1';
        constexpr std::uint32_t block = 1u << 16;
        const std::uint32_t stride = test::slow && !all ? 31 * block : block;
        std::vector<float> x(block);
        std::vector<std::int8_t> fast(block), divided(block);
        std::uint64_t wrong = 0, seen = 0;
        // Significands as near to the zones of true division as the correction is trusted, ordinary ones, and round ones.
        for (const std::uint32_t significand : {0x810011u, 0xA4FFEFu, 0xFEFFEFu, 0xFF0011u, 0xFFFFEFu, 0x800011u,
                                                0xB504F3u, 0xCCCCCDu, 0x800000u, 0xFF0000u, 0xAAAAABu, 0x8F5C29u}) {
            const affine_params p{scale_of(significand), 7, quant::int8};
            REQUIRE(simd::product_corrects(p));
            const std::uint32_t first = all ? 0 : std::bit_cast<std::uint32_t>(0.25f) & ~(block - 1);
            const std::uint32_t last = all ? 0x80000000u : std::bit_cast<std::uint32_t>(1024.0f);
            for (std::uint32_t bits = first; bits < last; bits += stride)
                for (const std::uint32_t sign : {0u, 0x80000000u}) {
                    for (std::uint32_t i = 0; i < block; ++i) x[i] = std::bit_cast<float>((bits + i) | sign);
                    const simd::uniform_params params{p};
                    simd::quantize<TestType>(x.data(), fast.data(), block, params);
                    simd::detail::quantize_nearest<TestType, simd::detail::quotient::divided, false>(
                        x.data(), divided.data(), block, params);
                    for (std::uint32_t i = 0; i < block; ++i) wrong += fast[i] != divided[i];
                    seen += block;
                }
        }
        CHECK(wrong == 0);
        CHECK(seen >=
              12u * 2u * 12u * (std::uint64_t{1} << 23) / (stride / block)); // twelve scales, two signs, twelve binades
    } else {
        SUCCEED("this architecture divides");
    }
}
#endif
