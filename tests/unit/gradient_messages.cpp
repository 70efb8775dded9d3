// SPDX-License-Identifier: MIT
// Gradient messages: their bytes, the same on every architecture; random rounding in closed form; damage is found and named.
#include "archs.hpp"
#include "support.hpp"
#include <algorithm>
#include <bit>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <quant/core/random.hpp>
#include <quant/gradients.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

using quant::errc;
namespace gradients = quant::gradients;
using gradients::encoding;
using gradients::scheme;
using gradients::threshold_rule;
using floats = std::vector<float>;
using bytes = std::vector<std::byte>;
using test::names;

namespace {

double wide(float x) { return static_cast<double>(x); }

const floats vector_of_the_specification{-.9f, -.35f, -.2f, -.12f, -.05f, -.02f, 0,    .01f,
                                         .03f, .06f,  .1f,  .15f,  .25f,  .4f,   .55f, 1.3f};

[[gnu::noinline]] bytes message_of(const floats& v, const encoding& how) {
    bytes message(std::max(gradients::message_size(v.size(), how), gradients::raw_message_size(v.size())) + 3,
                  std::byte{0xA5});
    bytes workspace(gradients::encode_workspace_size(how));
    const auto size = gradients::encode(v, std::span(message).first(message.size() - 3), how, workspace);
    REQUIRE(size);
    for (std::size_t i = *size; i < message.size(); ++i) REQUIRE(message[i] == std::byte{0xA5});
    message.resize(*size);
    return message;
}
[[gnu::noinline]] floats decoded(const bytes& message, std::size_t n) {
    floats v(n, -77);
    REQUIRE(gradients::decode(message, v));
    return v;
}
[[gnu::noinline]] std::string hex(const bytes& b, std::size_t from = 0) {
    std::string text;
    for (std::size_t i = from; i < b.size(); ++i)
        for (const unsigned digit : {std::to_integer<unsigned>(b[i]) >> 4, std::to_integer<unsigned>(b[i]) & 15u})
            text += "0123456789abcdef"[digit];
    return text;
}
/// What a scheme's encoding is called in these tests: one of each kind and width.
[[gnu::noinline]] std::vector<encoding> all_encodings() {
    std::vector<encoding> all{{.method = scheme::raw},
                              {.method = scheme::scaled_sign},
                              {.method = scheme::scaled_sign, .unit_magnitude = true},
                              {.method = scheme::bingrad_pb},
                              {.method = scheme::bingrad_b},
                              {.method = scheme::bingrad_b, .threshold = threshold_rule::zero},
                              {.method = scheme::bingrad_b, .threshold = threshold_rule::lloyd},
                              {.method = scheme::bingrad_b, .threshold = threshold_rule::two_means},
                              {.method = scheme::terngrad},
                              {.method = scheme::terngrad, .clip_deviations = 2.5, .digit_codes = true},
                              {.method = scheme::qsgd, .levels = 3},
                              {.method = scheme::qsgd, .levels = 255},
                              {.method = scheme::linear, .levels = 2},
                              {.method = scheme::linear, .levels = 6, .digit_codes = true},
                              {.method = scheme::linear, .levels = 256},
                              {.method = scheme::orq, .levels = 3, .digit_codes = true},
                              {.method = scheme::orq, .levels = 5},
                              {.method = scheme::orq, .levels = 9, .half_levels = true},
                              {.method = scheme::orq, .levels = 33},
                              {.method = scheme::asq, .levels = 5, .digit_codes = true},
                              {.method = scheme::asq, .levels = 7, .exact = false}};
    for (encoding& e : all) {
        e.bucket = 100;
        e.seed = 42;
        e.stream = 7;
    }
    return all;
}
[[gnu::noinline]] floats values(std::size_t n, std::uint64_t seed) {
    floats v(n);
    for (std::size_t i = 0; i < n; ++i) {
        const double a = 1.0 - static_cast<double>(quant::random_uniform(seed, 0, i));
        const double b = static_cast<double>(quant::random_uniform(seed, 1, i));
        v[i] = static_cast<float>(std::sqrt(-2 * std::log(a)) * std::cos(6.283185307179586 * b));
    }
    return v;
}
template <std::size_t N> void overwrite(bytes& b, std::size_t at, const unsigned (&with)[N]) {
    for (std::size_t i = 0; i < N; ++i) b[at + i] = static_cast<std::byte>(with[i]);
}

} // namespace

TEST_CASE("messages of the specification, byte for byte") {
    const floats& v = vector_of_the_specification;
    encoding how{.method = scheme::orq, .levels = 3, .bucket = 16, .seed = 42, .stream = 7};
    CHECK(hex(message_of(v, how)) == "475130310702030010000000000000001000000000000000"
                                     "666666bf8fc2f53c6666a63f14555595");
    how.digit_codes = true;
    CHECK(hex(message_of(v, how), 36) == "5d797902");
    CHECK(hex(message_of(v, how), 12).substr(0, 8) == "02000000");
    how.digit_codes = false;
    how.levels = 5;
    CHECK(hex(message_of(v, how), 24 + 20) == "48224992a48d");
    how.half_levels = true;
    CHECK(message_of(v, how).size() == 24 + 10 + 6);
}

TEMPLATE_LIST_TEST_CASE("random numbers of a register are those of the generator", "", test::archs) {
    using A = quant::simd::reduction_arch_t<TestType>;
    constexpr std::size_t lanes = quant::simd::pack_of<float, A>::size;
    const std::uint64_t key = quant::simd::random_key(42, 7);
    CHECK(quant::mix(0) == 0xe220a8397b1dcdafu);
    for (const std::uint64_t first :
         {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{0xFFFFFFFA}, ~std::uint64_t{0} - 40})
        for (std::uint64_t block = 0; block < 20 * lanes; block += lanes) {
            float u[lanes];
            quant::simd::put(u, quant::simd::uniform_numbers<A>(key, first + block));
            for (std::size_t i = 0; i < lanes; ++i) REQUIRE(u[i] == quant::random_uniform(42, 7, first + block + i));
        }
}

TEST_CASE("every scheme gives the bytes of the scalar definition, and the same values back") {
    using scalar = quant::simd::scalar;
    for (const encoding& how : all_encodings())
        for (const std::size_t n : {0u, 1u, 2u, 15u, 16u, 17u, 63u, 64u, 99u, 100u, 101u, 131u, 464u}) {
            if (test::slow && n > 101) continue;
            const floats v = values(n, n);
            const bytes message = message_of(v, how);
            CAPTURE(static_cast<int>(how.method), how.levels, n);
            bytes plain(std::max(message.size(), gradients::raw_message_size(n))),
                workspace(gradients::encode_workspace_size(how));
            REQUIRE(gradients::encode<scalar>(v, plain, how, workspace));
            plain.resize(message.size());
            REQUIRE(message == plain);
            REQUIRE(message.size() == gradients::message_size(n, how));
            floats a(n + 1, 5);
            REQUIRE(gradients::decode(message, std::span(a).first(n)));
            REQUIRE(a[n] == 5);
            const floats b = a;
            REQUIRE(gradients::add_decoded(message, std::span(a).first(n)));
            bool good = true;
            for (std::size_t i = 0; i < n; ++i) good = good && a[i] == b[i] + b[i];
            REQUIRE(good);
            REQUIRE(gradients::keep_error(message, std::span(a).first(n)));
            REQUIRE(a == b); // 2 x - x
        }
}

TEMPLATE_LIST_TEST_CASE("sums, signs and look-ups are those of the scalar definition", "", test::archs) {
    namespace simd = quant::simd;
    using simd::scalar;
    using term = simd::detail::term;
    using simd::detail::decoded;
    const floats v = values(300, 9);
    for (std::size_t n = 0; n < 133; n += n < 67 ? 1 : 11)
        for (const std::size_t from : {0u, 1u, 7u}) {
            const float* const p = v.data() + from;
            const auto between = simd::sum_between<TestType>(p, n, -0.5f, 0.75f);
            double inside = 0;
            std::size_t many = 0, larger = 0;
            floats chosen, beyond, sizes, copied(n + simd::virtual_lanes, 4), other = copied;
            for (std::size_t i = 0; i < n; ++i) {
                larger += p[i] > 0.75f;
                (p[i] <= 0.25f ? sizes : beyond).push_back(p[i]);
                if (!(p[i] > -0.5f && p[i] <= 0.75f)) continue;
                inside += wide(p[i]);
                ++many;
                chosen.push_back(p[i]);
            }
            simd::part_at<TestType>(p, n, 0.25f, copied.data(), other.data());
            REQUIRE((std::equal(sizes.begin(), sizes.end(), copied.begin()) &&
                     std::equal(beyond.begin(), beyond.end(), other.begin())));
            sizes.clear();
            for (std::size_t i = 0; i < n; ++i)
                if (std::abs(p[i]) > 0.25f && std::abs(p[i]) <= 1) sizes.push_back(std::abs(p[i]));
            other.resize(simd::copy_between<true, TestType>(p, n, 0.25f, 1, other.data()));
            REQUIRE(other == sizes);
            const std::size_t copies = simd::copy_between<false, TestType>(p, n, -0.5f, 0.75f, copied.data());
            copied.resize(copies);
            REQUIRE((between.count == many && std::abs(between.sum - inside) <= 1e-9 && copied == chosen &&
                     simd::count_above<TestType>(p, n, 0.75f) == larger));
            bool good = simd::sum_of<term::value, TestType>(p, n) == simd::sum_of<term::value, scalar>(p, n);
            good = good && simd::sum_of<term::magnitude, TestType>(p, n) == simd::sum_of<term::magnitude, scalar>(p, n);
            good = good && simd::sum_of<term::square, TestType>(p, n) == simd::sum_of<term::square, scalar>(p, n);
            double magnitudes = 0, low = 0, high = 0;
            std::size_t count = 0;
            std::vector<std::uint8_t> bits((n + 7) / 8 + 1, 0xEE), expected((n + 7) / 8 + 1, 0);
            expected.back() = 0xEE;
            for (std::size_t i = 0; i < n; ++i) {
                magnitudes += std::abs(wide(p[i]));
                (p[i] >= 0.25f ? high : low) += wide(p[i]);
                count += p[i] >= 0.25f;
                expected[i / 8] = static_cast<std::uint8_t>(expected[i / 8] | (p[i] >= 0.25f ? 1u << i % 8 : 0u));
            }
            const auto cut = simd::split<false, true, TestType>(p, n, 0.25f, bits.data());
            good = good && bits == expected && cut.high_count == count;
            good = good && std::abs(cut.low - low) <= 1e-9 && std::abs(cut.high - high) <= 1e-9;
            const auto plain = simd::split<false, true, scalar>(p, n, 0.25f, bits.data());
            good = good && cut.low == plain.low && cut.high == plain.high;
            good = good && std::abs(simd::split<true, true, TestType>(p, n, 0, bits.data()).low - magnitudes) <= 1e-9;
            for (const std::size_t levels : {2u, 8u, 9u, 16u, 17u}) {
                std::vector<std::uint8_t> codes(n);
                for (std::size_t i = 0; i < n; ++i)
                    codes[i] = static_cast<std::uint8_t>(quant::random_bits(4, n, i) % levels);
                floats set(n + 1, 3), add = set, subtract = set;
                simd::look_up<decoded::set, TestType>(codes.data(), n, p, levels, set.data());
                simd::look_up<decoded::add, TestType>(codes.data(), n, p, levels, add.data());
                simd::look_up<decoded::subtract, TestType>(codes.data(), n, p, levels, subtract.data());
                for (std::size_t i = 0; i < n; ++i)
                    good = good && set[i] == p[codes[i]] && add[i] == 3 + p[codes[i]] && subtract[i] == 3 - p[codes[i]];
                good = good && set[n] == 3 && add[n] == 3 && subtract[n] == 3;
            }
            REQUIRE(good);
        }
}

TEMPLATE_LIST_TEST_CASE("one interval, few and many round alike, at any address", "", test::archs) {
    const floats v = values(300, 5);
    const std::uint64_t key = quant::simd::random_key(1, 2);
    for (const std::size_t levels : {2u, 3u, 4u, 5u, 9u, 25u, 26u, 256u}) {
        floats table(levels);
        REQUIRE(gradients::uniform_levels(v, table));
        quant::simd::interval_table intervals;
        gradients::detail::fill_intervals(table.data(), levels, intervals);
        for (std::size_t from = 0; from < 9; ++from)
            for (const std::size_t n : {0u, 1u, 31u, 64u, 133u, 291u}) {
                std::vector<std::uint8_t> codes(n + 1, 0xEE);
                quant::simd::round_to_levels<TestType>(v.data() + from, codes.data(), n, intervals, key, 1000 + from);
                REQUIRE(codes[n] == 0xEE);
                for (std::size_t i = 0; i < n; ++i) {
                    // The sum of the definition, not its search.
                    std::size_t code = 0;
                    for (std::size_t k = 0; k + 1 < levels; ++k)
                        code += quant::random_uniform(1, 2, 1000 + from + i) * (table[k + 1] - table[k]) <
                                v[from + i] - table[k];
                    REQUIRE(codes[i] == code);
                }
            }
    }
}

TEST_CASE("random rounding is unbiased: the probability of every code in closed form") {
    const floats v = values(200, 11);
    for (const std::size_t n : {2u, 3u, 5u, 9u}) {
        floats table(n);
        bytes workspace(gradients::levels_workspace_size(v.size(), n));
        REQUIRE(gradients::asq_levels(v, table, workspace));
        quant::simd::interval_table intervals;
        gradients::detail::fill_intervals(table.data(), n, intervals);
        double error = 0;
        for (const float x : v) {
            // Codes fall as u grows: for each the first of the 2^24 numbers that gives a lower one.
            double mean = 0, square = 0;
            std::uint32_t from = 0;
            while (from < (1u << 24)) {
                const auto code = [&](std::uint32_t k) {
                    return quant::simd::detail::round_to_level(x, static_cast<float>(k) * 0x1p-24f, intervals);
                };
                const auto here = code(from);
                std::uint32_t lo = from, hi = 1u << 24;
                while (hi - lo > 1) {
                    const std::uint32_t middle = lo + (hi - lo) / 2;
                    (code(middle) == here ? lo : hi) = middle;
                }
                const double probability = static_cast<double>(hi - from) * 0x1p-24;
                mean += probability * wide(table[here]);
                square += probability * std::pow(wide(table[here]) - wide(x), 2);
                from = hi;
            }
            REQUIRE(std::abs(mean - wide(x)) <= 0x1p-22 * (wide(table.back()) - wide(table.front())));
            error += square;
        }
        CHECK(error == Catch::Approx(gradients::expected_error(v, table)).epsilon(1e-5));
    }
}

TEST_CASE("levels, constant and zero buckets decode exactly") {
    for (encoding how : all_encodings()) {
        if (how.half_levels || how.unit_magnitude) continue;
        CAPTURE(static_cast<int>(how.method), how.levels);
        const floats zero(130, 0.0f);
        CHECK(decoded(message_of(zero, how), 130) == zero);
        if (how.method !=
            scheme::qsgd) // whose levels are parts of the norm: |c| is one for a square number of elements alone
            for (const float c : {-3.7f, 0.3f, 1e-42f}) {
                const floats constant(130, c);
                CHECK(decoded(message_of(constant, how), 130) == constant);
            }
        if (how.method == scheme::orq || how.method == scheme::linear || how.method == scheme::asq) {
            floats v = values(100, 3);
            const floats once = decoded(message_of(v, how), 100);
            how.stream = 99;
            floats again = once; // its extremes may be gone, so they are put back
            again[0] = *std::min_element(v.begin(), v.end());
            again[1] = *std::max_element(v.begin(), v.end());
            if (how.method == scheme::linear) CHECK(decoded(message_of(again, how), 100) == again);
        }
    }
    // Intervals below the smallest normal number are rounded up, never past their upper end.
    const floats tiny{0, 1e-45f, 3e-45f, 1e-40f, 1};
    quant::simd::interval_table intervals;
    gradients::detail::fill_intervals(tiny.data(), 5, intervals);
    for (std::uint64_t stream = 0; stream < 50; ++stream) {
        std::uint8_t codes[5];
        quant::simd::round_to_levels(tiny.data(), codes, 5, intervals, quant::simd::random_key(1, stream), 0);
        for (std::uint8_t i = 0; i < 5; ++i) CHECK(codes[i] == i);
    }
}

TEST_CASE("averaging independent encodings divides the error of unbiased schemes by their number, and only theirs") {
    const std::size_t n = 4096, ranks = 16;
    const floats v = values(n, 8);
    for (const scheme method : {scheme::terngrad, scheme::qsgd, scheme::linear, scheme::orq, scheme::bingrad_b}) {
        encoding how{.method = method, .levels = 5, .bucket = 512, .seed = 3};
        std::vector<bytes> all;
        std::vector<std::span<const std::byte>> views;
        double one = 0;
        for (std::size_t r = 0; r < ranks; ++r) {
            how.stream = gradients::stream_of(1, 2, r);
            all.push_back(message_of(v, how));
            const floats q = decoded(all.back(), n);
            for (std::size_t i = 0; i < n; ++i)
                one += std::pow(wide(q[i]) - wide(v[i]), 2) / static_cast<double>(ranks);
        }
        for (const bytes& m : all) views.emplace_back(m);
        floats mean(n);
        REQUIRE(gradients::average(views, how, mean));
        double together = 0;
        for (std::size_t i = 0; i < n; ++i) together += std::pow(wide(mean[i]) - wide(v[i]), 2);
        CAPTURE(static_cast<int>(method));
        if (method == scheme::bingrad_b)
            CHECK(together == Catch::Approx(one));
        else
            CHECK(together * static_cast<double>(ranks) == Catch::Approx(one).epsilon(.1));
    }
}

TEST_CASE("error feedback: the specification's steps, and nothing is ever lost") {
    const encoding how{.method = scheme::scaled_sign, .bucket = 4};
    floats error(4, 0.0f);
    const auto step = [&](const floats& g, const encoding& e) {
        REQUIRE(gradients::compensate(g, error));
        const bytes message = message_of(error, e);
        REQUIRE(gradients::keep_error(message, error));
        return decoded(message, error.size());
    };
    const auto near = [&](const floats& to) {
        for (std::size_t i = 0; i < to.size(); ++i) CHECK(error[i] == Catch::Approx(to[i]).margin(1e-6));
    };
    step({.5f, -.1f, .02f, -.3f}, how);
    near({.27f, .13f, -.21f, -.07f});
    step({.1f, -.2f, .05f, .4f}, how);
    near({.1375f, .1625f, .0725f, .0975f});

    for (const encoding& e : all_encodings()) {
        // Unbiased rounding of more error than gradient is no contraction: what is kept grows without bound.
        if (e.method == scheme::qsgd || e.method == scheme::terngrad || e.levels == 2 || e.unit_magnitude) continue;
        CAPTURE(static_cast<int>(e.method), e.levels, static_cast<int>(e.threshold));
        const std::size_t n = 130;
        error.assign(n, 0.0f);
        std::vector<double> sent(n), given(n);
        for (std::uint64_t t = 0; t < 20; ++t) {
            const floats g = values(n, 100 + t), q = step(g, e);
            for (std::size_t i = 0; i < n; ++i) {
                given[i] += wide(g[i]);
                sent[i] += wide(q[i]);
            }
        }
        for (std::size_t i = 0; i < n; ++i) REQUIRE(given[i] - sent[i] == Catch::Approx(error[i]).margin(2e-4));
    }
    CHECK(names(gradients::compensate(floats(3), error), errc::shape_mismatch, "gradient"));
}

TEST_CASE("a vector cut between buckets gives the same codes") {
    const floats v = values(300, 4);
    encoding how{.method = scheme::orq, .levels = 5, .bucket = 100, .seed = 5};
    const bytes whole = message_of(v, how);
    bytes parts(whole.begin(), whole.begin() + 24);
    for (std::size_t i = 0; i < 300; i += 100) {
        how.first_index = i;
        const auto first = v.begin() + static_cast<std::ptrdiff_t>(i);
        const bytes part = message_of(floats(first, first + 100), how);
        parts.insert(parts.end(), part.begin() + 24, part.end());
    }
    CHECK(parts == whole);
}

TEST_CASE("sizes are the bits per element of the specification") {
    const auto bits = [](scheme method, std::uint16_t levels, std::uint32_t bucket) {
        const std::size_t n = std::size_t{bucket} * 10;
        return static_cast<double>(gradients::message_size(n, {.method = method, .levels = levels, .bucket = bucket}) -
                                   24) *
               8 / static_cast<double>(n);
    };
    CHECK(bits(scheme::bingrad_pb, 2, 512) == 1.0625);
    CHECK(bits(scheme::bingrad_pb, 2, 2048) == 1.015625);
    CHECK(bits(scheme::bingrad_b, 2, 512) == 1.125);
    CHECK(bits(scheme::bingrad_b, 2, 2048) == 1.03125);
    CHECK(bits(scheme::terngrad, 3, 512) == 2.0625);
    CHECK(bits(scheme::terngrad, 3, 2048) == 2.015625);
    CHECK(bits(scheme::orq, 3, 512) == 2.1875);
    CHECK(bits(scheme::orq, 3, 2048) == 2.046875);
    CHECK(bits(scheme::orq, 5, 512) == 3.3125);
    CHECK(bits(scheme::orq, 5, 2048) == 3.078125);
    CHECK(bits(scheme::orq, 9, 512) == 4.5625);
    CHECK(bits(scheme::orq, 9, 2048) == 4.140625);
    CHECK(gradients::message_size(std::numeric_limits<std::size_t>::max() / 2, {.method = scheme::raw}) ==
          std::numeric_limits<std::size_t>::max());
}

TEST_CASE("what is not finite travels raw, with a flag") {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (const encoding& how : all_encodings())
        for (const float bad : {nan, inf, -inf, 3e38f}) {
            floats v = values(130, 1);
            v[120] = bad;
            const bool fits = bad == 3e38f && (how.method == scheme::raw || how.method == scheme::bingrad_pb ||
                                               how.method == scheme::scaled_sign || how.method == scheme::bingrad_b);
            if (fits) continue; // whose levels stay below 2^126
            CAPTURE(static_cast<int>(how.method), how.levels, bad);
            const bytes message = message_of(v, how);
            const auto header = gradients::check_message(message);
            REQUIRE(header);
            CHECK(header->method == scheme::raw);
            CHECK(header->flags == (how.method == scheme::raw ? 0u : gradients::flag_non_finite));
            const floats back = decoded(message, 130);
            CHECK(std::memcmp(back.data(), v.data(), 130 * sizeof(float)) == 0);
            if (how.method == scheme::raw) continue;
            bytes small(gradients::message_size(130, how)), workspace(gradients::encode_workspace_size(how));
            CHECK(names(gradients::encode(v, small, how, workspace).status(), errc::non_finite, "v"));
        }
}

TEST_CASE("halves are rounded outward, so that nothing is clipped") {
    using gradients::detail::half_beside;
    for (const float x : {0.1f, -0.1f, 1.0f, 1e-9f, -1e-9f, 0.0f, 2047.3f, -2047.3f}) {
        CHECK(quant::to_float(half_beside(x, -1)) <= x);
        CHECK(quant::to_float(half_beside(x, 1)) >= x);
        CHECK(quant::to_float(half_beside(x, 1)) - quant::to_float(half_beside(x, -1)) <=
              std::abs(x) * 0x1p-10f + 0x1p-24f);
    }
    const floats v = values(512, 2);
    const bytes message = message_of(v, {.method = scheme::linear, .levels = 3, .half_levels = true});
    const floats back = decoded(message, 512);
    CHECK(*std::max_element(back.begin(), back.end()) >= *std::max_element(v.begin(), v.end()));
    CHECK(message_of(floats(5, 1e5f), {.method = scheme::linear, .levels = 3, .half_levels = true}).size() ==
          24 + 20); // beyond halves
}

TEST_CASE("damaged and foreign messages are refused by name") {
    const floats v = values(200, 6);
    floats out(200, 9);
    const auto refuses = [&](const bytes& m, const char* what) {
        const quant::status s = gradients::decode(m, out);
        CAPTURE(what, s.argument);
        CHECK(names(s, std::string_view(what) == "elements" ? errc::shape_mismatch : errc::invalid_argument, what));
        CHECK(out == floats(200, 9));
    };
    const bytes good = message_of(v, {.method = scheme::orq, .levels = 3, .bucket = 100});
    for (std::size_t size = 0; size < good.size(); ++size)
        refuses({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}, "length");
    const auto changed = [&](std::size_t at, auto... with) {
        bytes m = good;
        const unsigned values_of[] = {static_cast<unsigned>(with)...};
        overwrite(m, at, values_of);
        return m;
    };
    bytes longer = good;
    longer.push_back(std::byte{0});
    refuses(longer, "length");
    refuses(changed(0, 'X'), "magic");
    refuses(changed(4, 9), "scheme");
    refuses(changed(4, 1), "levels");
    refuses(changed(5, 3), "code_bits");
    refuses(changed(6, 4), "levels");
    refuses(changed(8, 0, 0, 0, 0), "bucket");
    refuses(changed(11, 0x7F), "bucket");
    refuses(changed(8, 101), "length");
    refuses(changed(12, 8), "flags");
    refuses(changed(12, 4), "flags");
    refuses(changed(16, 201), "length");
    refuses(changed(23, 0xFF), "length");
    refuses(changed(24, 0, 0, 0xC0, 0x7F), "table");
    refuses(changed(28, 0, 0, 0x80, 0xFF), "table");
    refuses(changed(24, 0, 0, 0x80, 0x7E), "table"); // the first level above the others
    refuses(changed(36, 0xFF), "codes");
    refuses(changed(24 + 37 + 12 + 24, 0xC0), "codes");
    bytes three = message_of(floats(199, 1.0f), {.method = scheme::scaled_sign, .bucket = 100});
    three[three.size() - 1] |= std::byte{0x80};
    refuses(three, "padding");
    refuses(message_of(floats(199, 1.0f), {.method = scheme::scaled_sign}), "elements");
    bytes negative = message_of(v, {.method = scheme::terngrad});
    negative[27] |= std::byte{0x80};
    refuses(negative, "table");
    bytes digits = message_of(v, {.method = scheme::orq, .levels = 3, .bucket = 200, .digit_codes = true});
    digits[24 + 12] = std::byte{243};
    refuses(digits, "codes");

    // Whatever is changed, decoding reads and writes nothing it should not; the sanitizers look on.
    for (std::uint64_t i = 0; i < 4000; ++i) {
        bytes m = i % 2 == 0 ? good : digits;
        for (std::uint64_t k = 0; k < 1 + i % 3; ++k) {
            const std::uint64_t r = quant::random_bits(1, k, i);
            m[(r >> 8) % m.size()] = static_cast<std::byte>(r);
        }
        if (i % 5 == 0) m.resize(quant::random_bits(2, 0, i) % (m.size() + 1));
        (void)gradients::check_message(m);
        if (gradients::decode(m, out)) out.assign(200, 9);
    }
}

TEST_CASE("an average names the rank whose message is wrong") {
    const floats v = values(100, 6);
    const encoding how{.method = scheme::terngrad, .bucket = 64};
    const bytes good = message_of(v, how);
    floats out(100);
    const auto with = [&](const bytes& last) {
        const std::span<const std::byte> all[] = {good, good, last};
        return gradients::average(all, how, out);
    };
    REQUIRE(with(good));
    CHECK(out[3] == (decoded(good, 100)[3] + decoded(good, 100)[3] + decoded(good, 100)[3]) / 3);
    const auto refuses = [&](const bytes& last, errc code, std::string_view argument) {
        const gradients::exchange_status s = with(last);
        CHECK(!s);
        CHECK(s.rank == 2);
        CHECK(names(s.outcome, code, argument));
    };
    refuses({good.begin(), good.end() - 1}, errc::invalid_argument, "length");
    refuses(message_of(v, {.method = scheme::orq, .bucket = 64}), errc::invalid_argument, "scheme");
    refuses(message_of(v, {.method = scheme::terngrad, .bucket = 63}), errc::invalid_argument, "bucket");
    refuses(message_of(v, {.method = scheme::terngrad, .bucket = 64, .half_levels = true}), errc::invalid_argument,
            "flags");
    refuses(message_of(values(99, 6), how), errc::shape_mismatch, "elements");
    CHECK(with(message_of(v, {.method = scheme::raw, .bucket = 64})));
    CHECK(names(gradients::average({}, how, out).outcome, errc::no_data, "messages"));
    floats votes{2, -1, 0, -3};
    gradients::majority_vote(votes);
    CHECK(votes == floats{1, -1, 1, -1});
}

TEST_CASE("options outside their domain are named") {
    const floats v = values(10, 6);
    bytes message(1000);
    const auto names_option = [&](const encoding& how, std::string_view argument, errc code = errc::invalid_argument) {
        CHECK(names(gradients::encode(v, message, how).status(), code, argument));
    };
    names_option({.method = static_cast<scheme>(9)}, "method");
    names_option({.method = scheme::orq, .levels = 4}, "levels");
    names_option({.method = scheme::qsgd, .levels = 4}, "levels");
    names_option({.method = scheme::linear, .levels = 257}, "levels");
    names_option({.method = scheme::asq, .levels = 1}, "levels");
    names_option({.method = scheme::terngrad, .bucket = 0}, "bucket");
    names_option({.method = scheme::scaled_sign, .digit_codes = true}, "digit_codes");
    names_option({.method = scheme::terngrad, .clip_deviations = -1}, "clip_deviations");
    names_option({.method = scheme::orq}, "workspace", errc::buffer_too_small);
    message.resize(20);
    names_option({.method = scheme::terngrad}, "message", errc::buffer_too_small);
}
