// SPDX-License-Identifier: MIT
// Every SIMD path against the scalar definition, byte for byte.
#include "archs.hpp"
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/core/scalar.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <utility>
#include <vector>

using quant::affine_params;
using quant::code_storage;
using quant::quantize_options;
using quant::rounding;
using quant::scale_by;
namespace simd = quant::simd;

namespace {

constexpr rounding roundings[] = {rounding::nearest_even, rounding::half_away, rounding::toward_negative,
                                  rounding::stochastic};
constexpr scale_by divisions[] = {scale_by::division, scale_by::reciprocal};

template <class Arch> constexpr std::size_t lanes() {
#if QUANT_HAS_XSIMD
    if constexpr (!simd::is_scalar<Arch>) return xsimd::batch<float, Arch>::size;
#endif
    return 1;
}

/// Parameters that use the whole storage type, with a zero point off centre.
template <code_storage Code> affine_params params_for(float scale) {
    const quant::code_format f = quant::full_range_format<Code>;
    return {scale, f.qmin() + (f.levels() / 8) * 3, f};
}

/// Ties, specials, and ordinary values in step units, times the scale.
std::vector<float> inputs(std::size_t n, float scale) {
    constexpr float inf = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
    const float specials[] = {0.0f,    -0.0f,    inf,     -inf,     std::numeric_limits<float>::quiet_NaN(),
                              largest, -largest, 3e9f,    -3e9f,    0x1p-149f,
                              -1e-40f, 0.5f,     -0.5f,   1.5f,     -1.5f,
                              2.5f,    -2.5f,    0x1p31f, -0x1p31f, 2147483520.0f};
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i) {
        const auto draw = static_cast<std::uint32_t>(quant::random_bits(5, 0, i));
        const auto ordinary = static_cast<float>(static_cast<std::int32_t>(draw >> 8) % 1200 - 600);
        switch (draw % 4) {
        case 0: x[i] = specials[i % std::size(specials)]; break;
        case 1: x[i] = specials[i % std::size(specials)] * scale; break;
        case 2: x[i] = ordinary * 0.5f * scale; break; // whole and half steps
        default: x[i] = ordinary * 0.37f * scale; break;
        }
    }
    return x;
}

/// Runs `kernel(offset, n)` at every offset and length.
template <class Arch, class F> void for_each_stretch(F kernel) {
    const std::size_t step = 4 * lanes<Arch>();
    for (std::size_t offset = 0; offset < lanes<Arch>(); ++offset)
        for (std::size_t n = 0; n <= 2 * step + 3; ++n) kernel(offset, n);
}
template <class Arch> constexpr std::size_t capacity() { return 9 * lanes<Arch>() + 16; }

template <class Code> constexpr Code canary = static_cast<Code>(0x5A);

/// Codes of every stretch, against the scalar definition; also that nothing around the stretch is touched.
template <class Arch, code_storage Code> std::size_t quantize_mistakes() {
    std::size_t wrong = 0;
    constexpr std::size_t size = capacity<Arch>();
    for (const float scale : {0.1f, 0x1p-3f, quant::min_scale, quant::max_scale}) {
        const std::vector<float> x = inputs(size, scale);
        const affine_params p = params_for<Code>(scale);
        for (const rounding round : roundings)
            for (const scale_by divide : divisions) {
                const quantize_options options{
                    .round = round, .divide = divide, .seed = 3, .stream = 1, .first_index = 1000};
                std::vector<Code> expected(size);
                for (std::size_t i = 0; i < size; ++i)
                    expected[i] = static_cast<Code>(quant::quantize_one(x[i], p, options, 5 + 3 * i));
                for_each_stretch<Arch>([&](std::size_t offset, std::size_t n) {
                    std::vector<Code> codes(size, canary<Code>);
                    simd::quantize<Arch>(x.data() + offset, codes.data() + offset, n, simd::uniform_params{p}, options,
                                         {5 + 3 * offset, 3});
                    for (std::size_t i = 0; i < size; ++i)
                        wrong += codes[i] != (i >= offset && i < offset + n ? expected[i] : canary<Code>);
                });
            }
    }
    return wrong;
}

/// Parameters per element, as the vector loop and as the scalar tail read them.
template <std::size_t N> struct element_params {
    std::array<affine_params, 2 * N> params{}; // every second one is used: step 2
    simd::per_element_arrays<N> arrays;

    template <code_storage Code> void fill() {
        const quant::code_format full = quant::full_range_format<Code>;
        for (std::size_t i = 0; i < N; ++i) {
            const quant::code_format f = i % 3 == 0 ? full : full.with_bits(static_cast<std::uint8_t>(2 + i % 6));
            const affine_params p{0.01f * static_cast<float>(1 + i % 37),
                                  f.qmin() + static_cast<std::int32_t>(i) % f.levels(), f};
            params[2 * i] = p;
            params[2 * i + 1] = {1e9f, 0, quant::uint1}; // must not be read
        }
        arrays.load(params.data(), 2, N);
    }
    simd::per_element_params from(std::size_t i) const {
        const simd::per_element_params p = arrays.view(params.data(), 2);
        return {p.params + 2 * i, 2,          p.scale + i, p.inv_scale + i, p.lo + i, p.hi + i,
                p.zero_point + i, p.corrects, p.same};
    }
};

template <class Arch, code_storage Code> std::size_t per_element_mistakes() {
    std::size_t wrong = 0;
    constexpr std::size_t size = capacity<Arch>();
    element_params<size> p;
    p.template fill<Code>();
    const std::vector<float> x = inputs(size, 0.1f);
    for (const rounding round : roundings)
        for (const scale_by divide : divisions) {
            const quantize_options options{.round = round, .divide = divide, .seed = 8};
            std::vector<Code> expected(size);
            std::vector<float> expected_fake(size);
            for (std::size_t i = 0; i < size; ++i) {
                expected[i] = static_cast<Code>(quant::quantize_one(x[i], p.params[2 * i], options, i));
                expected_fake[i] = quant::fake_quant_one(x[i], p.params[2 * i], options, i);
            }
            for_each_stretch<Arch>([&](std::size_t offset, std::size_t n) {
                std::vector<Code> codes(size, canary<Code>);
                simd::quantize<Arch>(x.data() + offset, codes.data() + offset, n, p.from(offset), options, {offset, 1});
                std::vector<float> fake(size, 77.0f), restored(size, 77.0f);
                simd::fake_quant<Arch>(x.data() + offset, fake.data() + offset, n, p.from(offset), options,
                                       {offset, 1});
                simd::dequantize<Arch>(codes.data() + offset, restored.data() + offset, n, p.from(offset));
                for (std::size_t i = 0; i < size; ++i) {
                    const bool inside = i >= offset && i < offset + n;
                    wrong += codes[i] != (inside ? expected[i] : canary<Code>);
                    const auto should = std::bit_cast<std::uint32_t>(inside ? expected_fake[i] : 77.0f);
                    wrong += std::bit_cast<std::uint32_t>(fake[i]) != should;
                    wrong += std::bit_cast<std::uint32_t>(restored[i]) != should;
                }
            });
        }
    return wrong;
}

template <class Arch, code_storage Code> std::size_t dequantize_mistakes() {
    std::size_t wrong = 0;
    constexpr std::size_t size = capacity<Arch>();
    std::vector<Code> codes(size);
    for (std::size_t i = 0; i < size; ++i) codes[i] = static_cast<Code>(quant::random_bits(6, 0, i));
    codes[0] = std::numeric_limits<Code>::min();
    codes[1] = std::numeric_limits<Code>::max();
    for (const float scale : {0.1f, quant::min_scale, quant::max_scale}) {
        const affine_params p = params_for<Code>(scale);
        for_each_stretch<Arch>([&](std::size_t offset, std::size_t n) {
            std::vector<float> out(size, 77.0f);
            simd::dequantize<Arch>(codes.data() + offset, out.data() + offset, n, simd::uniform_params{p});
            for (std::size_t i = 0; i < size; ++i) {
                const bool inside = i >= offset && i < offset + n;
                const float should = inside ? quant::dequantize_one(codes[i], p) : 77.0f;
                wrong += std::bit_cast<std::uint32_t>(out[i]) != std::bit_cast<std::uint32_t>(should);
            }
        });
        std::vector<double> wide(size);
        simd::dequantize<Arch>(codes.data(), wide.data(), size, simd::uniform_params{p});
        for (std::size_t i = 0; i < size; ++i) wrong += wide[i] != quant::dequantize_one<double>(codes[i], p);
    }
    return wrong;
}

template <class F> void for_each_code_type(F f) {
    f(std::int8_t{});
    f(std::uint16_t{});
#if !defined(QUANT_TEST_NATIVE_ARCH_ONLY) // one type of each size: what is read and written where is the same
    f(std::uint8_t{});
    f(std::int16_t{});
#endif
}

} // namespace

TEMPLATE_LIST_TEST_CASE("quantizing on every architecture equals the scalar definition", "[kernels]", test::archs) {
    for_each_code_type([](auto code) {
        INFO("storage of " << sizeof(code) << " bytes, "
                           << (std::numeric_limits<decltype(code)>::is_signed ? "signed" : "unsigned"));
        CHECK(quantize_mistakes<TestType, decltype(code)>() == 0);
    });
}

TEMPLATE_LIST_TEST_CASE("one value that has no integer changes no other code of a long run", "[kernels]", test::archs) {
    constexpr std::size_t n = 3 * 4096 + 77; // several of the blocks after which the kernel looks for such values
    const float scale = 0.1f;
    const affine_params p = params_for<std::int8_t>(scale);
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i % 301) * 0.09f - 14.0f;
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (const scale_by divide : divisions)
        for (const float special : {nan, -inf, inf, 3e9f, -3e9f, 0.0f})
            for (const std::size_t at :
                 {std::size_t{0}, std::size_t{4095}, std::size_t{4096}, std::size_t{9000}, n - 1}) {
                const quantize_options options{.divide = divide};
                const float before = std::exchange(x[at], special);
                std::vector<std::int8_t> codes(n), expected(n);
                simd::quantize<TestType>(x.data(), codes.data(), n, simd::uniform_params{p}, options);
                for (std::size_t i = 0; i < n; ++i)
                    expected[i] = static_cast<std::int8_t>(quant::quantize_one(x[i], p, options));
                CHECK(codes == expected);
                x[at] = before;
            }
}

TEMPLATE_LIST_TEST_CASE("parameters per element give the same bytes on every architecture", "[kernels]", test::archs) {
    for_each_code_type([](auto code) {
        INFO("storage of " << sizeof(code) << " bytes, "
                           << (std::numeric_limits<decltype(code)>::is_signed ? "signed" : "unsigned"));
        CHECK(per_element_mistakes<TestType, decltype(code)>() == 0);
    });
}

TEMPLATE_LIST_TEST_CASE("dequantizing on every architecture equals the scalar definition", "[kernels]", test::archs) {
    for_each_code_type([](auto code) {
        INFO("storage of " << sizeof(code) << " bytes, "
                           << (std::numeric_limits<decltype(code)>::is_signed ? "signed" : "unsigned"));
        CHECK(dequantize_mistakes<TestType, decltype(code)>() == 0);
    });
}

TEMPLATE_LIST_TEST_CASE("fake quantizing on every architecture equals the scalar definition, also in place",
                        "[kernels]", test::archs) {
    std::size_t wrong = 0;
    constexpr std::size_t size = capacity<TestType>();
    for (const affine_params kind : {affine_params{1, 0, quant::int8}, affine_params{1, 100, quant::uint8},
                                     affine_params{1, 0, quant::int1}, affine_params{1, -30000, quant::int16}})
        for (const float scale : {0.1f, 0x1p-3f, quant::min_scale, quant::max_scale}) {
            const affine_params p{scale, kind.zero_point, kind.format};
            const std::vector<float> x = inputs(size, scale);
            for (const rounding round : roundings)
                for (const scale_by divide : divisions) {
                    const quantize_options options{.round = round, .divide = divide, .seed = 4};
                    std::vector<float> expected(size);
                    for (std::size_t i = 0; i < size; ++i) expected[i] = quant::fake_quant_one(x[i], p, options, i);
                    for_each_stretch<TestType>([&](std::size_t offset, std::size_t n) {
                        std::vector<float> out(size, 77.0f), in_place = x;
                        simd::fake_quant<TestType>(x.data() + offset, out.data() + offset, n, simd::uniform_params{p},
                                                   options, {offset, 1});
                        simd::fake_quant<TestType>(in_place.data() + offset, in_place.data() + offset, n,
                                                   simd::uniform_params{p}, options, {offset, 1});
                        for (std::size_t i = 0; i < size; ++i) {
                            const bool inside = i >= offset && i < offset + n;
                            const auto should = [&](float around) {
                                return std::bit_cast<std::uint32_t>(inside ? expected[i] : around);
                            };
                            wrong += std::bit_cast<std::uint32_t>(out[i]) != should(77.0f); // the sign of zero counts
                            wrong += std::bit_cast<std::uint32_t>(in_place[i]) != should(x[i]);
                        }
                    });
                }
        }
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("kernels read and write nothing past the end of exact allocations", "[kernels]", test::archs) {
    // The sanitizer build is what makes this one bite.
    const affine_params p{0.1f, 3, quant::int8};
    std::size_t wrong = 0;
    for (std::size_t n = 0; n <= 8 * lanes<TestType>() + 3; ++n) {
        const std::vector<float> x = inputs(n, 0.1f);
        std::vector<std::int8_t> codes(n);
        std::vector<std::uint16_t> wide(n, 40000);
        std::vector<float> fake(n), restored(n), from_wide(n);
        simd::quantize<TestType>(x.data(), codes.data(), n, simd::uniform_params{p});
        simd::fake_quant<TestType>(x.data(), fake.data(), n, simd::uniform_params{p});
        simd::dequantize<TestType>(codes.data(), restored.data(), n, simd::uniform_params{p});
        simd::dequantize<TestType>(wide.data(), from_wide.data(), n, simd::uniform_params{p});
        for (std::size_t i = 0; i < n; ++i)
            wrong += codes[i] != quant::quantize_one(x[i], p) || fake[i] != restored[i] ||
                     from_wide[i] != quant::dequantize_one(40000, p);
    }
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("floats of every exponent give the same codes on every architecture", "[kernels]",
                        test::archs) {
    std::vector<float> x;
    for (std::uint64_t u = 0; u < (std::uint64_t{1} << 32); u += 32749) // a prime
        x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(u)));
    std::size_t wrong = 0;
    for (const affine_params p : {affine_params{0.1f, 3, quant::int8}, affine_params{1e-5f, 0, quant::int8},
                                  affine_params{1e20f, -7, quant::int8}})
        for (const rounding round : roundings) {
            const quantize_options options{.round = round};
            std::vector<std::int8_t> codes(x.size());
            simd::quantize<TestType>(x.data(), codes.data(), x.size(), simd::uniform_params{p}, options);
            for (std::size_t i = 0; i < x.size(); ++i) wrong += codes[i] != quant::quantize_one(x[i], p, options, i);
        }
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("doubles are quantized by the scalar definition on every architecture", "[kernels]",
                        test::archs) {
    const affine_params p{0.1f, 5, quant::int8};
    std::vector<double> x(200);
    for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = (static_cast<double>(quant::random_uniform(1, 1, i)) - 0.5) * 40 + (i % 2 == 0 ? 1e-12 : 0);
    std::size_t wrong = 0;
    for (const rounding round : roundings)
        for (const scale_by divide : divisions) {
            const quantize_options options{.round = round, .divide = divide};
            std::vector<std::int8_t> codes(x.size());
            std::vector<double> fake(x.size());
            simd::quantize<TestType>(x.data(), codes.data(), x.size(), simd::uniform_params{p}, options);
            simd::fake_quant<TestType>(x.data(), fake.data(), x.size(), simd::uniform_params{p}, options);
            for (std::size_t i = 0; i < x.size(); ++i) {
                wrong += codes[i] != quant::quantize_one(x[i], p, options, i);
                wrong += fake[i] != quant::fake_quant_one(x[i], p, options, i);
            }
        }
    CHECK(wrong == 0);
}

#if QUANT_HAS_XSIMD
namespace {

template <class Arch, code_storage Code> std::size_t conversion_mistakes() {
    constexpr std::size_t n = 4 * xsimd::batch<std::int32_t, Arch>::size;
    std::size_t wrong = 0;
    const auto narrow = [&](const std::array<std::int32_t, n>& from) {
        xsimd::batch<std::int32_t, Arch> v[4];
        for (std::size_t k = 0; k < 4; ++k)
            v[k] = xsimd::batch<std::int32_t, Arch>::load_unaligned(from.data() + k * (n / 4));
        std::array<Code, n + 2> fast, plain;
        fast.fill(canary<Code>);
        plain.fill(canary<Code>);
        simd::store_narrow<Arch>(fast.data() + 1, v);
        simd::store_narrow_generic<Arch>(plain.data() + 1, v);
        wrong += fast != plain;
        for (std::size_t i = 0; i < n; ++i) { // the twin itself: saturation, in order
            const std::int32_t lo = std::numeric_limits<Code>::min(), hi = std::numeric_limits<Code>::max();
            wrong += plain[i + 1] != static_cast<Code>(std::clamp(from[i], lo, hi));
        }
        wrong += plain[0] != canary<Code> || plain[n + 1] != canary<Code>;
    };
    std::array<std::int32_t, n> values{};
    for (std::int32_t base = -70000; base < 70000;
         base += static_cast<std::int32_t>(n)) { // all 16-bit codes and beyond
        for (std::size_t i = 0; i < n; ++i) values[i] = base + static_cast<std::int32_t>(i);
        narrow(values);
    }
    constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min(),
                           highest = std::numeric_limits<std::int32_t>::max();
    const std::int32_t extremes[] = {
        lowest, lowest + 1, lowest + 32767, lowest + 32768, highest, highest - 1, highest - 32768, -65536, 65536,
        -1,     0};
    for (std::size_t shift = 0; shift < std::size(extremes); ++shift) {
        for (std::size_t i = 0; i < n; ++i) values[i] = extremes[(i + shift) % std::size(extremes)];
        narrow(values);
    }
    std::vector<Code> codes(65536 + n);
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<Code>(i);
    for (std::size_t from = 0; from < 65536; from += from < 600 ? 1 : n) {
        xsimd::batch<std::int32_t, Arch> fast[4], plain[4];
        simd::load_widen<Arch>(codes.data() + from, fast);
        simd::load_widen_generic<Arch>(codes.data() + from, plain);
        for (std::size_t k = 0; k < 4; ++k) {
            std::array<std::int32_t, n / 4> a{}, b{};
            fast[k].store_unaligned(a.data());
            plain[k].store_unaligned(b.data());
            wrong += a != b;
            for (std::size_t i = 0; i < n / 4; ++i) wrong += b[i] != codes[from + k * (n / 4) + i];
        }
    }
    return wrong;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("narrowing and widening agree with their generic twins", "[kernels]", test::archs) {
    if constexpr (!simd::is_scalar<TestType>)
        for_each_code_type([](auto code) {
            INFO("storage of " << sizeof(code) << " bytes, "
                               << (std::numeric_limits<decltype(code)>::is_signed ? "signed" : "unsigned"));
            CHECK(conversion_mistakes<TestType, decltype(code)>() == 0);
        });
    else
        SUCCEED("one lane needs no conversion");
}
#endif

TEMPLATE_LIST_TEST_CASE("all 2^32 floats quantize to int8 as the scalar definition says", "[kernels][exhaustive]",
                        test::archs) {
    if (std::getenv("QUANT_EXHAUSTIVE") == nullptr) SKIP("minutes per architecture; set QUANT_EXHAUSTIVE=1 to run it");
    if constexpr (!simd::is_scalar<TestType>) {
        const affine_params p{0.1f, 3, quant::int8};
        constexpr std::size_t block = 1 << 16;
        std::vector<float> x(block);
        std::vector<std::int8_t> codes(block), expected(block);
        std::size_t wrong = 0;
        for (std::uint64_t first = 0; first < (std::uint64_t{1} << 32); first += block) {
            for (std::size_t i = 0; i < block; ++i) x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(first + i));
            simd::quantize<TestType>(x.data(), codes.data(), block, simd::uniform_params{p});
            simd::quantize<simd::scalar>(x.data(), expected.data(), block, simd::uniform_params{p});
            wrong += codes != expected;
        }
        CHECK(wrong == 0);
    }
}
