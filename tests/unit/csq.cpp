// SPDX-License-Identifier: MIT
// CSQ: gradients against differences, the limit of high temperature, budgets reached from both sides, exact hardening, and the finish with
// fixed planes. Reference formulas are written out in long double.
#include "archs.hpp"
#include "support.hpp"
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/csq.hpp>
#include <quant/uniform.hpp>
#include <span>
#include <vector>

using quant::errc;
namespace csq = quant::csq;
using csq::gate_mode;
using csq::gate_options;
using test::names;
using test::same_bytes;
using test::uniform;

namespace {

/// A layer with its memory.
template <class T> struct owned {
    std::vector<T> positive, negative, mask, scale;
    std::size_t planes;
    owned(std::size_t planes_, std::size_t weights, std::size_t scales = 1, bool masks = true)
        : positive(planes_ * weights), negative(planes_ * weights), mask(masks ? planes_ : 0), scale(scales, T(1)),
          planes(planes_) {}
    [[nodiscard]] csq::layer<T> view() { return {positive, negative, mask, scale, planes}; }
    [[nodiscard]] std::size_t weights() const { return positive.size() / planes; }
};

/// Logits whose gates are between the ends at this temperature.
template <class T> void fill(owned<T>& l, double temperature, std::uint64_t seed) {
    const auto set = [&](std::vector<T>& v, std::uint64_t stream, double reach) {
        for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(reach * uniform(seed, stream, i));
    };
    set(l.positive, 0, 4 / temperature);
    set(l.negative, 1, 4 / temperature);
    set(l.mask, 2, 3 / temperature);
    for (std::size_t r = 0; r < l.scale.size(); ++r) l.scale[r] = static_cast<T>(0.02 + 0.01 * uniform(seed, 3, r));
}
template <class T> std::vector<T> direction(std::size_t n, std::uint64_t seed) {
    std::vector<T> g;
    for (std::size_t i = 0; i < n; ++i) g.push_back(static_cast<T>(uniform(seed, 4, i)));
    return g;
}

/// sum_i G_i w_i + pressure sum_b M_b, by formulas (C1) and (C2).
long double loss(const owned<double>& l, const std::vector<double>& g, const gate_options& o, double pressure) {
    const auto wide = [](double x) { return static_cast<long double>(x); };
    const auto sigma = [](long double z) { return 1 / (1 + std::exp(-z)); };
    const long double beta = wide(o.temperature);
    const long double beta_mask = o.mask_temperature != 0 ? wide(o.mask_temperature) : beta;
    const std::size_t n = l.weights(), row = n / l.scale.size();
    long double total = 0;
    const std::size_t groups = l.mask.empty() ? 1 : l.mask.size() / l.planes;
    for (std::size_t b = 0; b < l.planes; ++b)
        for (std::size_t i = 0; i < n; ++i) {
            long double m = 1;
            if (!l.mask.empty()) {
                const long double logit = wide(l.mask[b * groups + i / (n / groups)]);
                m = o.mode == gate_mode::soft ? sigma(beta_mask * logit) : wide(logit >= 0 ? 1 : 0);
                total += wide(pressure) * m / static_cast<long double>(n); // every weight has its share
            }
            const long double bit =
                sigma(beta * wide(l.positive[b * n + i])) - sigma(beta * wide(l.negative[b * n + i]));
            const long double value = std::ldexp(1.0L, static_cast<int>(b)) * m * bit;
            total += wide(g[i]) * (wide(l.scale[i / row]) / wide(o.amplitude)) * value;
        }
    return total;
}

/// Largest |difference - gradient| of a group, relative to its largest gradient.
double gradient_error(owned<double>& l, std::vector<double>& parameters, const std::vector<double>& grads,
                      const std::vector<double>& g, const gate_options& o, double pressure, double h) {
    double worst = 0, largest = 0;
    for (const double d : grads) largest = std::max(largest, std::abs(d));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        const double kept = parameters[i];
        parameters[i] = kept + h;
        const double up = parameters[i];
        const long double above = loss(l, g, o, pressure);
        parameters[i] = kept - h;
        const double down = parameters[i];
        const long double below = loss(l, g, o, pressure);
        parameters[i] = kept;
        const auto difference =
            static_cast<double>((above - below) / (static_cast<long double>(up) - static_cast<long double>(down)));
        worst = std::max(worst, std::abs(difference - grads[i]));
    }
    return largest > 0 ? worst / largest : worst;
}

} // namespace

TEST_CASE("gradients of all parameters are those of central differences, in double") {
    constexpr std::size_t planes = 5, weights = 12;
    for (const double beta : {1.0, 5.0, 30.0, 200.0})
        for (const std::size_t rows : {std::size_t{1}, std::size_t{3}})
            for (const std::size_t groups :
                 {std::size_t{1}, std::size_t{4}}) { // masks of groups of rows, or across rows
                const double mask_beta = groups == 1 ? 0.0 : beta / 2;
                owned<double> l(planes, weights, rows), d(planes, weights, rows);
                l.mask.resize(planes * groups);
                d.mask.resize(planes * groups);
                fill(l, beta, 11);
                const auto g = direction<double>(weights, 12);
                const gate_options o{
                    .temperature = beta, .mask_temperature = mask_beta, .amplitude = rows == 1 ? 1 : 0.7};
                constexpr double pressure = 0.37;
                REQUIRE(csq::backward(l.view(), g, d.view(), o));
                REQUIRE(csq::add_budget_gradient(l.view(), d.view(), o, pressure));
                const double h = 1e-4 / beta;
                CAPTURE(beta, rows, groups);
                CHECK(gradient_error(l, l.positive, d.positive, g, o, pressure, h) < 1e-6);
                CHECK(gradient_error(l, l.negative, d.negative, g, o, pressure, h) < 1e-6);
                CHECK(gradient_error(l, l.mask, d.mask, g, o, pressure, h) < 1e-6);
                CHECK(gradient_error(l, l.scale, d.scale, g, o, pressure, 1e-6) < 1e-6);
            }
}

TEST_CASE("gradients in float are those in double up to a ten thousandth") {
    constexpr std::size_t planes = 8, weights = 1500; // more than one tile
    for (const double beta : {1.0, 30.0}) {
        owned<float> l(planes, weights, 5), d(planes, weights, 5);
        fill(l, beta, 21);
        owned<double> wide(planes, weights, 5), wide_d(planes, weights, 5);
        wide.positive.assign(l.positive.begin(), l.positive.end());
        wide.negative.assign(l.negative.begin(), l.negative.end());
        wide.mask.assign(l.mask.begin(), l.mask.end());
        wide.scale.assign(l.scale.begin(), l.scale.end());
        const auto g = direction<float>(weights, 22);
        const std::vector<double> wide_g(g.begin(), g.end());
        REQUIRE(csq::backward(l.view(), g, d.view(), beta));
        REQUIRE(csq::backward(wide.view(), wide_g, wide_d.view(), beta));
        const auto close = [](const std::vector<float>& a, const std::vector<double>& b) {
            double worst = 0, largest = 0;
            for (std::size_t i = 0; i < a.size(); ++i) {
                worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
                largest = std::max(largest, std::abs(b[i]));
            }
            return worst <= 1e-4 * largest;
        };
        CHECK(close(d.positive, wide_d.positive));
        CHECK(close(d.negative, wide_d.negative));
        CHECK(close(d.mask, wide_d.mask));
        CHECK(close(d.scale, wide_d.scale));
        std::vector<float> w(weights);
        std::vector<double> wide_w(weights);
        REQUIRE(csq::forward(l.view(), w, beta));
        REQUIRE(csq::forward(wide.view(), wide_w, beta));
        CHECK(close(w, wide_w));
    }
}

TEST_CASE("hard masks have no gradient, closed planes none at their bits, hard gates the scale's alone") {
    constexpr std::size_t planes = 4, weights = 7;
    owned<double> l(planes, weights), d(planes, weights);
    fill(l, 2, 31);
    l.mask = {0.5, -0.1, 0.0, -3};
    const auto g = direction<double>(weights, 32);
    const gate_options hard_mask{.temperature = 2, .mode = gate_mode::hard_mask};
    REQUIRE(csq::backward(l.view(), g, d.view(), hard_mask));
    for (std::size_t b = 0; b < planes; ++b) {
        CHECK(d.mask[b] == 0);
        for (std::size_t i = b * weights; i < (b + 1) * weights; ++i) CHECK((d.positive[i] == 0) == (b % 2 == 1));
    }
    CHECK(gradient_error(l, l.positive, d.positive, g, hard_mask, 0, 1e-5) < 1e-6);
    CHECK(gradient_error(l, l.scale, d.scale, g, hard_mask, 0, 1e-6) < 1e-6);
    REQUIRE(csq::add_budget_gradient(l.view(), d.view(), hard_mask, 5.0));
    CHECK(d.mask == std::vector<double>(planes, 0));

    std::vector<double> w(weights);
    const gate_options hard{.mode = gate_mode::hard};
    REQUIRE(csq::forward(l.view(), w, hard));
    REQUIRE(csq::backward(l.view(), g, d.view(), hard));
    double expected = 0;
    for (std::size_t i = 0; i < weights; ++i) expected += g[i] * w[i] / l.scale[0];
    CHECK(std::abs(d.scale[0] - expected) < 1e-12);
    CHECK((d.positive == std::vector<double>(planes * weights, 0) && d.negative == d.positive));

    // Gradients that are not wanted are not touched.
    owned<double> some(planes, weights);
    csq::layer<double> only_scale{{}, {}, {}, some.scale, planes};
    REQUIRE(csq::backward(l.view(), g, only_scale, 2.0));
    REQUIRE(csq::backward(l.view(), g, d.view(), 2.0));
    CHECK(some.scale[0] == d.scale[0]);
}

TEST_CASE("a high temperature is the hard model up to the bound of the margin") {
    constexpr std::size_t planes = 8, weights = 200;
    constexpr double margin = 0.05;
    owned<double> l(planes, weights);
    fill(l, 4, 41);
    for (std::vector<double>* v : {&l.positive, &l.negative, &l.mask})
        for (double& m : *v) m += m >= 0 ? margin : -margin;
    std::vector<double> hard(weights), soft(weights);
    REQUIRE(csq::forward(l.view(), hard, gate_options{.mode = gate_mode::hard}));
    const double full_scale = l.scale[0] * 255;
    for (const double beta : {1.0, 5.0, 30.0, 200.0, 2000.0}) {
        REQUIRE(csq::forward(l.view(), soft, beta));
        double worst = 0;
        for (std::size_t i = 0; i < weights; ++i) worst = std::max(worst, std::abs(soft[i] - hard[i]));
        CAPTURE(beta, worst);
        CHECK(worst <= 3 * full_scale / (1 + std::exp(beta * margin)));
    }
    REQUIRE(csq::forward(l.view(), soft, 1e6)); // every gate is exactly 0 or 1 there
    CHECK(soft == hard);
}

TEST_CASE("initial logits give the rounded weights, shrunk by the amplitude, or not at all when that is divided out") {
    std::vector<float> w(300);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(uniform(51, 0, i) * 0.3);
    w[7] = -0.31f; // the largest
    const auto largest = 0.31f;
    for (const std::size_t planes : {std::size_t{1}, std::size_t{3}, std::size_t{8}}) {
        owned<float> l(planes, w.size());
        REQUIRE(csq::init_from_float(w, l.view()));
        const auto levels = static_cast<float>((1u << planes) - 1);
        CHECK(l.scale[0] == static_cast<float>(static_cast<double>(largest) / static_cast<double>(levels)));
        for (const double beta : {1.0, 3.0, 10.0, 200.0})
            for (const bool compensated : {false, true}) {
                gate_options o{.temperature = beta};
                const double shrunk = csq::amplitude({}, o);
                if (compensated) o.amplitude = shrunk;
                std::vector<float> soft(w.size());
                REQUIRE(csq::forward(l.view(), soft, o));
                for (std::size_t i = 0; i < w.size(); ++i) {
                    const double q = std::nearbyint(static_cast<double>(w[i]) / static_cast<double>(l.scale[0]));
                    const double expected = q * static_cast<double>(l.scale[0]) * (compensated ? 1 : shrunk);
                    CHECK(std::abs(static_cast<double>(soft[i]) - expected) <= 1e-6 * static_cast<double>(largest));
                }
            }
        std::vector<std::int16_t> codes(w.size());
        REQUIRE(csq::harden(l.view(), codes));
    }
    // The figures of the specification: m0 = 1, m_B0 = 0.5.
    CHECK(std::abs(csq::amplitude({.mask_logit = 1}, {.temperature = 1}) - 0.34) < 0.005);
    CHECK(std::abs(csq::amplitude({.mask_logit = 1}, {.temperature = 3}) - 0.86) < 0.005);
    CHECK(std::abs(csq::amplitude({.mask_logit = 1}, {.temperature = 10}) - 0.9999) < 1e-4);
    CHECK(csq::amplitude({}, {.mode = gate_mode::hard}) == 1);
    CHECK(csq::amplitude({}, {.temperature = 1, .mode = gate_mode::hard_mask}) ==
          csq::amplitude({}, {.temperature = 1}, false));
}

TEST_CASE("logits of 0 and 1 under masks of 0, as the published code starts, shrink weights to 0.1155") {
    owned<double> l(8, 1);
    l.mask.assign(8, 0);
    for (std::size_t b = 0; b < 8; ++b) l.positive[b] = 1;
    std::vector<double> w(1);
    REQUIRE(csq::forward(l.view(), w, 1.0));
    CHECK(std::abs(w[0] / 255 - 0.1155) < 5e-5);
}

TEST_CASE("hardened codes times the scale are the hard weights bit for bit, trailing planes stripped") {
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
        const std::size_t planes = 1 + seed % 8, rows = seed % 3 == 0 ? 4 : 1, weights = 4 * (1 + seed % 9);
        owned<float> l(planes, weights, rows);
        fill(l, 1, seed);
        if (seed % 2 == 0) // planes without digits, also lowest ones
            for (std::size_t b = 0; b < planes; ++b)
                if (((seed >> b) & 2u) != 0)
                    std::fill_n(l.positive.begin() + static_cast<std::ptrdiff_t>(b * weights), weights, -1.0f);
        std::vector<float> hard(weights), scales(rows);
        std::vector<std::int16_t> codes(weights), again(weights);
        REQUIRE(csq::forward(l.view(), hard, gate_options{.mode = gate_mode::hard}));
        const auto done = csq::harden(l.view(), codes, std::span<float>(scales));
        REQUIRE(done);
        std::uint32_t bits = 0;
        for (std::size_t i = 0; i < weights; ++i) {
            const std::size_t row = i / (weights / rows);
            const float product = static_cast<float>(codes[i]) * scales[row];
            CHECK((product == hard[i]));
            CHECK(std::abs(codes[i]) <= (1 << planes) - 1);
            bits |= static_cast<std::uint32_t>(std::abs(codes[i]));
        }
        CHECK(done->magnitude == bits);
        CHECK((done->planes == 0 || (done->planes & 1u) != 0));
        CHECK((bits == 0) == (done->planes == 0));
        CHECK(scales[0] == std::ldexp(l.scale[0], done->stripped));
        const auto twice = csq::harden(l.view(), again, std::span<float>(scales));
        CHECK((twice && again == codes && twice->stripped == done->stripped));
    }
    // The library's own dequantize says the same.
    owned<float> l(7, 64);
    std::vector<float> w(64), hard(64), restored(64);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(uniform(61, 0, i));
    REQUIRE(csq::init_from_float(w, l.view()));
    std::vector<std::int8_t> codes(64);
    const auto done = csq::harden(l.view(), codes);
    REQUIRE(done);
    REQUIRE(csq::forward(l.view(), hard, gate_options{.mode = gate_mode::hard}));
    const auto params = quant::affine_params{static_cast<float>(done->scale), 0, quant::int8};
    REQUIRE(quant::dequantize(codes, restored, params));
    CHECK(same_bytes(hard, restored));
}

TEST_CASE("masks of groups: equal ones are one mask, closed ones close their rows, and what is hard is exact") {
    constexpr std::size_t planes = 6, weights = 3000, groups = 3; // groups end inside a tile
    owned<float> one(planes, weights), many(planes, weights), d_one(planes, weights), d_many(planes, weights);
    fill(one, 2, 31);
    many = one;
    many.mask.clear();
    for (const float m : one.mask) many.mask.insert(many.mask.end(), groups, m);
    d_many.mask.resize(planes * groups);
    const auto g = direction<float>(weights, 32);
    std::vector<float> w(weights), v(weights);
    const gate_options o{.temperature = 2};
    REQUIRE(csq::forward(one.view(), w, o));
    REQUIRE(csq::forward(many.view(), v, o));
    CHECK(same_bytes(w, v));
    REQUIRE(csq::backward(one.view(), g, d_one.view(), o));
    REQUIRE(csq::backward(many.view(), g, d_many.view(), o));
    CHECK((same_bytes(d_one.positive, d_many.positive) && same_bytes(d_one.negative, d_many.negative)));
    REQUIRE(csq::add_budget_gradient(one.view(), d_one.view(), o, 0.5));
    REQUIRE(csq::add_budget_gradient(many.view(), d_many.view(), o, 0.5));
    for (std::size_t b = 0; b < planes; ++b) {
        float sum = 0;
        for (std::size_t k = 0; k < groups; ++k) sum += d_many.mask[b * groups + k];
        CHECK(std::abs(sum - d_one.mask[b]) <= 1e-4f * std::abs(d_one.mask[b]) + 1e-6f);
    }
    CHECK(csq::bits(one.view()).bits == csq::bits(many.view()).bits);

    for (std::size_t b = 0; b < planes; ++b) // group 0 keeps all planes, group 1 two, group 2 none
        for (std::size_t k = 0; k < groups; ++k)
            many.mask[b * groups + k] = k == 0 || (k == 1 && b >= 4) ? 1.0f : -1.0f;
    CHECK(csq::bits(many.view()).bits == (6 + 2 + 0) / 3.0);
    CHECK(!csq::keep_one_plane(many.view()));
    std::vector<std::int16_t> codes(weights);
    const auto done = csq::harden(many.view(), codes);
    REQUIRE(done);
    REQUIRE(csq::forward(many.view(), w, gate_options{.mode = gate_mode::hard}));
    bool exact = true, coarse = true, closed = true;
    for (std::size_t i = 0; i < weights; ++i) {
        exact = exact && w[i] == static_cast<float>(codes[i]) * static_cast<float>(done->scale);
        coarse = coarse && (i / 1000 != 1 || codes[i] % 16 == 0);
        closed = closed && (i / 1000 != 2 || codes[i] == 0);
    }
    CHECK((exact && coarse && closed && done->planes == 0x3F));
    many.mask.pop_back();
    CHECK(names(csq::forward(many.view(), w, o), errc::shape_mismatch, "layer.mask"));
    many.mask.resize(planes * 7); // 3000 weights are not seven groups
    CHECK(names(csq::forward(many.view(), w, o), errc::shape_mismatch, "layer.mask"));
}

TEST_CASE("digits with both bits set cancel: no planes, size zero") {
    owned<float> l(6, 10);
    l.positive.assign(60, 1.0f);
    l.negative.assign(60, 1.0f);
    l.mask.assign(6, 1.0f);
    std::vector<std::int8_t> codes(10, 5);
    const auto done = csq::harden(l.view(), codes);
    REQUIRE(done);
    CHECK((done->planes == 0 && done->magnitude == 0 && done->stripped == 0 && done->cancelled == 60));
    CHECK((codes == std::vector<std::int8_t>(10, 0) && done->bits().bits == 0 && done->bits().elements == 10));
}

TEST_CASE("a gap in the planes: digits reach 3 = 4 - 1, whose magnitude needs the missing plane") {
    owned<float> l(3, 2);
    l.positive.assign(6, -1.0f);
    l.negative.assign(6, -1.0f);
    l.mask = {1, -1, 1};
    l.positive[4] = 1; // + 4
    l.negative[0] = 1; // - 1
    std::vector<std::int8_t> codes(2);
    const auto done = csq::harden(l.view(), codes);
    REQUIRE(done);
    CHECK((codes[0] == 3 && codes[1] == 0));
    CHECK((done->planes == 0b101 && done->magnitude == 0b011));
    l.mask = {0, -0.0f, -1e-30f}; // one rule everywhere: >= 0 is open
    CHECK(csq::bits(l.view()).bits == 2);
    REQUIRE(csq::harden(l.view(), codes));
    CHECK(codes[0] == -1);
}

TEST_CASE("uniform precision is the general mode with masks of 1, bit for bit") {
    owned<float> plain(4, 90, 1, false), masked(4, 90);
    fill(plain, 3, 71);
    fill(masked, 3, 71);
    masked.mask.assign(4, std::numeric_limits<float>::infinity()); // gates of exactly 1
    masked.scale = plain.scale;
    std::vector<float> a(90), b(90);
    const auto g = direction<float>(90, 72);
    for (const auto mode : {gate_mode::soft, gate_mode::hard_mask, gate_mode::hard}) {
        const gate_options o{.temperature = 3, .mode = mode};
        REQUIRE(csq::forward(plain.view(), a, o));
        REQUIRE(csq::forward(masked.view(), b, o));
        CHECK(same_bytes(a, b));
        owned<float> d(4, 90, 1, false), e(4, 90);
        REQUIRE(csq::backward(plain.view(), g, d.view(), o));
        REQUIRE(csq::backward(masked.view(), g, e.view(), o));
        CHECK(
            (same_bytes(d.positive, e.positive) && same_bytes(d.negative, e.negative) && same_bytes(d.scale, e.scale)));
    }
    CHECK(csq::bits(plain.view()).bits == 4);
}

TEMPLATE_LIST_TEST_CASE("every architecture makes the same bytes of planes and of rounding to planes", "",
                        test::archs) {
    using scalar = quant::simd::scalar;
    const auto compare = [](auto one) {
        using T = decltype(one);
        for (std::size_t n = 0; n <= 65; n += n < 35 ? 1 : 15) {
            std::vector<T> p, m, g, from;
            for (std::size_t i = 0; i < n; ++i) {
                p.push_back(static_cast<T>(uniform(n, 0, i)));
                m.push_back(static_cast<T>(uniform(n, 1, i)));
                g.push_back(static_cast<T>(uniform(n, 2, i)));
                from.push_back(static_cast<T>(uniform(n, 3, i) * 12));
            }
            using vector = std::vector<T>;
            vector s1(n + 1, T(0.5)), s2 = s1, p1(n + 1, T(9)), p2 = p1, n1 = p1, n2 = p1;
            quant::simd::add_plane<T, false, scalar>(p.data(), m.data(), s1.data(), n, T(3), T(4));
            quant::simd::add_plane<T, false, TestType>(p.data(), m.data(), s2.data(), n, T(3), T(4));
            CHECK(same_bytes(s1, s2));
            quant::simd::add_plane<T, true, scalar>(p.data(), m.data(), s1.data(), n, T(3), T(4));
            quant::simd::add_plane<T, true, TestType>(p.data(), m.data(), s2.data(), n, T(3), T(4));
            CHECK(same_bytes(s1, s2));
            const double a = quant::simd::plane_backward<T, scalar>(p.data(), m.data(), g.data(), p1.data(), n1.data(),
                                                                    s1.data(), n, T(3), T(4), T(0.3));
            const double b = quant::simd::plane_backward<T, TestType>(p.data(), m.data(), g.data(), p2.data(),
                                                                      n2.data(), s2.data(), n, T(3), T(4), T(0.3));
            CHECK(std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b));
            CHECK((same_bytes(s1, s2) && same_bytes(p1, p2) && same_bytes(n1, n2) && p2[n] == T(9)));
            for (const std::uint32_t mask : {0u, 7u, 12u, 13u, 0b101001u}) {
                const quant::digit_planes planes{mask};
                quant::simd::round_to_planes<T, false, scalar>(from.data(), p1.data(), n, T(0.7), planes);
                quant::simd::round_to_planes<T, false, TestType>(from.data(), p2.data(), n, T(0.7), planes);
                CHECK(same_bytes(p1, p2));
                const double c = quant::simd::round_to_planes_backward<T, scalar>(from.data(), g.data(), p1.data(), n,
                                                                                  T(0.7), planes);
                const double d = quant::simd::round_to_planes_backward<T, TestType>(from.data(), g.data(), p2.data(), n,
                                                                                    T(0.7), planes);
                CHECK((std::bit_cast<std::uint64_t>(c) == std::bit_cast<std::uint64_t>(d) && same_bytes(p1, p2)));
            }
        }
    };
    compare(1.0f);
    if constexpr (!test::fewer_types) compare(1.0);
}

TEST_CASE("rounding to planes finds the nearest integer of every set of planes") {
    for (std::uint32_t mask = 1; mask < 128; ++mask) {
        std::vector<double> reached{0};
        for (std::uint32_t b = 0; b < 7; ++b)
            if (((mask >> b) & 1u) != 0)
                for (std::size_t i = 0, n = reached.size(); i < n; ++i)
                    for (const double digit : {-1.0, 1.0})
                        reached.push_back(reached[i] + std::ldexp(digit, static_cast<int>(b)));
        std::vector<double> from, to;
        for (double v = -140; v <= 140; v += 0.37) from.push_back(v);
        for (int v = -140; v <= 140; ++v) from.push_back(v);
        to.resize(from.size());
        const std::vector<double> one{1};
        REQUIRE(quant::round_to_planes(from, to, one, {mask}));
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < from.size(); ++i) {
            double nearest = 1e9;
            bool is_reached = false;
            for (const double r : reached) {
                nearest = std::min(nearest, std::abs(r - from[i]));
                is_reached = is_reached || r == to[i];
            }
            wrong += is_reached && std::abs(to[i] - from[i]) == nearest ? 0 : 1;
        }
        CAPTURE(mask);
        CHECK(wrong == 0);
        CHECK(quant::digit_planes{mask}.contiguous() ==
              (reached.size() == 1 ||
               static_cast<double>(mask >> std::countr_zero(mask)) + 1 == std::exp2(std::popcount(mask))));
    }
}

TEST_CASE("the finish with fixed planes: gradients, exact codes, bad input") {
    constexpr std::size_t n = 60;
    std::vector<double> w(n), g = direction<double>(n, 81), rounded(n), dw(n), scale{0.11, 0.07}, ds(2);
    for (std::size_t i = 0; i < n; ++i) w[i] = uniform(82, 0, i);
    for (const std::uint32_t mask : {0b111u, 0b1101u, 0u}) {
        const quant::digit_planes planes{mask};
        REQUIRE(quant::round_to_planes(w, rounded, scale, planes));
        REQUIRE(quant::round_to_planes_backward(w, g, dw, ds, scale, planes));
        std::array<double, 2> expected{};
        for (std::size_t i = 0; i < n; ++i) {
            const double v = w[i] / scale[i / 30], q = std::nearbyint(rounded[i] / scale[i / 30]);
            const bool inside = std::abs(v) <= static_cast<double>(mask);
            CHECK(dw[i] == (inside ? g[i] : 0));
            expected[i / 30] += g[i] * (inside ? q - v : q);
        }
        CHECK((std::abs(ds[0] - expected[0]) < 1e-12 && std::abs(ds[1] - expected[1]) < 1e-12));
        std::vector<std::int8_t> codes(n);
        REQUIRE(quant::codes_of_planes(w, codes, scale, planes));
        for (std::size_t i = 0; i < n; ++i) CHECK(static_cast<double>(codes[i]) * scale[i / 30] == rounded[i]);
    }
    CHECK(std::abs(quant::learned_scale_rate(100, {7}) - 1 / std::sqrt(700.0)) < 1e-15);
    std::vector<std::int8_t> codes(n);
    std::vector<double> bad_scale{0.1, 0}, three(3, 1.0 / 8), seven(7, 1);
    CHECK(names(quant::round_to_planes(w, rounded, bad_scale, {7}), errc::invalid_scale, "scales"));
    CHECK(names(quant::round_to_planes(w, rounded, seven, {7}), errc::shape_mismatch, "scales"));
    CHECK(names(quant::round_to_planes(w, rounded, three, {1u << 15}), errc::bits_out_of_range, "planes"));
    CHECK(names(quant::codes_of_planes(w, codes, three, {255}), errc::storage_too_narrow, "codes"));
    g[3] = std::nan("");
    CHECK(names(quant::round_to_planes_backward(w, g, dw, ds, scale, {7}), errc::non_finite, "gradient"));
    w[3] = std::numeric_limits<double>::infinity();
    REQUIRE(quant::round_to_planes(w, rounded, scale, {0b101}));
    CHECK(rounded[3] == 5 * scale[0]); // saturated
    CHECK(names(quant::codes_of_planes(w, codes, scale, {7}), errc::non_finite, "latent"));
}

namespace {

/// Twelve equal layers, each with the loss sensitivity sum (w_hat - w)^2; how many planes they keep.
struct toy_result {
    double average = 0;
    std::array<double, 12> planes{};
    bool ok = true; ///< no call failed
};
toy_result train_toy(double target, double strength, bool all_open, std::size_t steps) {
    constexpr std::size_t layers = 12, weights = 16, planes = 8;
    std::vector<owned<float>> model, grads;
    std::vector<std::vector<float>> goal;
    for (std::size_t l = 0; l < layers; ++l) {
        model.emplace_back(planes, weights);
        grads.emplace_back(planes, weights);
        std::vector<float> w;
        for (std::size_t i = 0; i < weights; ++i) w.push_back(static_cast<float>(uniform(91, l, i)));
        REQUIRE(csq::init_from_float(w, model[l].view()));
        if (!all_open)
            for (std::size_t b = 0; b < planes; ++b) model[l].mask[b] = b >= 6 ? 0.5f : -0.5f;
        goal.push_back(w);
    }
    const quant::exponential_temperature rising{};
    const quant::bit_budget budget{.target_bits = target, .strength = strength};
    std::vector<float> w_hat(weights), g(weights);
    toy_result out;
    for (std::size_t step = 0; step <= steps; ++step) {
        std::array<quant::layer_bits, layers> sizes{};
        for (std::size_t l = 0; l < layers; ++l) sizes[l] = csq::bits(model[l].view());
        out.average = *quant::mean_bits(sizes);
        for (std::size_t l = 0; l < layers; ++l) out.planes[l] = sizes[l].bits;
        if (step == steps) break;
        const double beta = rising(static_cast<double>(step), static_cast<double>(steps));
        const double rate = quant::cosine_rate{.start = 1}(static_cast<double>(step), static_cast<double>(steps));
        for (std::size_t l = 0; l < layers; ++l) {
            const double sensitivity = std::pow(10.0, -3 + 3 * static_cast<double>(l) / (layers - 1));
            out.ok = out.ok && csq::forward(model[l].view(), w_hat, beta);
            for (std::size_t i = 0; i < weights; ++i)
                g[i] = static_cast<float>(2 * sensitivity / weights) * (w_hat[i] - goal[l][i]);
            out.ok = out.ok && csq::backward(model[l].view(), g, grads[l].view(), beta);
            out.ok = out.ok && csq::add_budget_gradient(model[l].view(), grads[l].view(), {.temperature = beta},
                                                        *quant::budget_pressure(sizes, l, budget, planes));
            for (std::size_t i = 0; i < planes * weights; ++i) {
                model[l].positive[i] -= static_cast<float>(rate) * grads[l].positive[i];
                model[l].negative[i] -= static_cast<float>(rate) * grads[l].negative[i];
            }
            for (std::size_t b = 0; b < planes; ++b)
                model[l].mask[b] -= static_cast<float>(0.5 * rate) * grads[l].mask[b];
        }
    }
    return out;
}

} // namespace

TEST_CASE("budgets are reached by closing planes and by opening them; sensitive layers keep more") {
    const auto targets = test::slow ? std::vector<double>{3} : std::vector<double>{2, 3, 5};
    const auto strengths = test::slow ? std::vector<double>{1} : std::vector<double>{0.3, 10};
    for (const double target : targets)
        for (const double strength : strengths)
            for (const bool all_open : {true, false}) {
                const toy_result r = train_toy(target, strength, all_open, 3000);
                CAPTURE(target, strength, all_open, r.average, r.planes);
                CHECK(r.ok);
                CHECK(std::abs(r.average - target) <= 0.1);
                CHECK(r.planes[11] >= r.planes[0]);
            }
}

TEST_CASE("bad input to CSQ is named, or has a defined result") {
    owned<float> l(4, 6, 2), d(4, 6, 2);
    fill(l, 1, 101);
    std::vector<float> w(6), short_w(5);
    const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
    for (const double bad : {0.0, -2.0, static_cast<double>(infinity), static_cast<double>(nan)}) {
        CHECK(names(csq::forward(l.view(), w, bad), errc::invalid_argument, "temperature"));
        CHECK(names(csq::backward(l.view(), w, d.view(), bad), errc::invalid_argument, "temperature"));
        CHECK(names(csq::add_budget_gradient(l.view(), d.view(), bad, {}), errc::invalid_argument, "temperature"));
        CHECK(names(csq::forward(l.view(), w, {.amplitude = bad}), errc::invalid_argument, "amplitude"));
        CHECK(names(csq::rescale_masks(l.view(), bad, 0.5), errc::invalid_argument, "temperature"));
    }
    CHECK(names(csq::forward(l.view(), w, {.mask_temperature = -1}), errc::invalid_argument, "mask_temperature"));
    // Shapes.
    CHECK(names(csq::forward(l.view(), short_w, 1.0), errc::shape_mismatch, "weights"));
    CHECK(names(csq::backward(l.view(), short_w, d.view(), 1.0), errc::shape_mismatch, "gradient"));
    csq::layer<float> odd = l.view();
    odd.planes = 5;
    CHECK(names(csq::forward(odd, w, 1.0), errc::shape_mismatch, "layer.positive"));
    odd.planes = 0;
    CHECK(names(csq::forward(odd, w, 1.0), errc::bits_out_of_range, "layer.planes"));
    odd = l.view();
    odd.mask = odd.mask.first(3); // a checkpoint of another shape
    CHECK(names(csq::forward(odd, w, 1.0), errc::shape_mismatch, "layer.mask"));
    odd = l.view();
    odd.negative = odd.negative.first(8);
    CHECK(names(csq::init_from_float(w, odd), errc::shape_mismatch, "layer.negative"));
    owned<float> other(4, 5);
    CHECK(names(csq::backward(l.view(), w, other.view(), 1.0), errc::shape_mismatch, "grads.positive"));
    CHECK(
        names(csq::harden(l.view(), std::span<std::int8_t>(), l.view().scale).status(), errc::shape_mismatch, "codes"));
    std::vector<std::int8_t> codes(6);
    CHECK(names(csq::harden(l.view(), codes).status(), errc::shape_mismatch, "scales")); // two scales
    // Weights and gradients that are not finite.
    std::vector<float> bad_w(6, 1.0f);
    bad_w[4] = nan;
    CHECK(names(csq::init_from_float(bad_w, l.view()), errc::non_finite, "weights"));
    CHECK(names(csq::init_from_float(w, l.view(), {.logit = 0}), errc::invalid_argument, "init"));
    CHECK(names(csq::backward(l.view(), bad_w, d.view(), 1.0), errc::non_finite, "gradient"));
    bad_w[4] = 1;
    l.positive[3] = nan;
    CHECK(names(csq::backward(l.view(), bad_w, d.view(), 1.0), errc::non_finite, "layer"));
    std::vector<float> scales(2);
    CHECK(names(csq::harden(l.view(), codes, std::span<float>(scales)).status(), errc::non_finite, "layer"));
    l.positive[3] = 1;
    l.scale[1] = -0.5f;
    CHECK(names(csq::harden(l.view(), codes, std::span<float>(scales)).status(), errc::invalid_scale, "layer.scale"));
    // Codes that are too wide.
    owned<float> wide(8, 2);
    wide.positive.assign(16, 1.0f);
    wide.negative.assign(16, -1.0f);
    std::vector<std::int8_t> narrow(2);
    CHECK(names(csq::harden(wide.view(), narrow).status(), errc::storage_too_narrow, "codes"));
    // Budgets.
    for (const double bad : {0.5, 9.0, std::nan("")})
        CHECK(names(csq::add_budget_gradient(wide.view(), wide.view(), 1.0, {.target_bits = bad}),
                    errc::budget_infeasible, "budget.target_bits"));
    CHECK(names(csq::add_budget_gradient(wide.view(), wide.view(), {}, static_cast<double>(infinity)), errc::non_finite,
                "pressure"));
    // All-zero weights: scale 1, codes 0.
    owned<float> zero(4, 6);
    const std::vector<float> zeros(6, 0.0f);
    REQUIRE(csq::init_from_float(zeros, zero.view()));
    CHECK(zero.scale[0] == 1);
    REQUIRE(csq::forward(zero.view(), w, 1.0));
    CHECK(w == zeros);
    const auto none = csq::harden(zero.view(), codes);
    CHECK((none && none->planes == 0));
    // A layer of nothing.
    owned<float> empty(4, 0), empty_d(4, 0);
    std::vector<float> nothing;
    REQUIRE(csq::init_from_float(nothing, empty.view()));
    REQUIRE(csq::forward(empty.view(), nothing, 1.0));
    REQUIRE(csq::backward(empty.view(), nothing, empty_d.view(), 1.0));
    REQUIRE(csq::add_budget_gradient(empty.view(), empty_d.view(), 1.0, {.target_bits = 2}));
    const auto gone = csq::harden(empty.view(), std::span<std::int8_t>());
    CHECK((gone && gone->planes == 0 && gone->bits().elements == 0));
    // All planes closed: one can be kept.
    wide.mask = {-3, -2, -1, -5, -4, -6, -7, -8};
    REQUIRE(csq::keep_one_plane(wide.view()));
    CHECK((wide.mask[2] == 0 && !csq::keep_one_plane(wide.view()) && csq::bits(wide.view()).bits == 1));
    // Masks between rounds.
    wide.mask = {-3, 2, 0.001f, 0, 0, 0, 0, 0};
    REQUIRE(csq::rescale_masks(wide.view(), 200, 0.5));
    CHECK((wide.mask[0] == -600 && wide.mask[1] == 0.5f && std::abs(wide.mask[2] - 0.2f) < 1e-6f));
    CHECK(csq::undecided_share(wide.view(), {.temperature = 1}) == 1);
    CHECK(csq::undecided_share(wide.view(), {.temperature = 10}) == 0);
}

TEST_CASE("gradients that are not wanted leave the others as they are") {
    constexpr std::size_t planes = 3, weights = 40;
    for (const gate_mode mode : {gate_mode::soft, gate_mode::hard_mask, gate_mode::hard}) {
        owned<float> l(planes, weights, 2), all(planes, weights, 2);
        fill(l, 2, 301);
        l.mask[1] = -9; // shut to the last bit where masks are hard
        const std::vector<float> g = direction<float>(weights, 302);
        const gate_options o{.temperature = 2, .mode = mode};
        REQUIRE(csq::backward(l.view(), g, all.view(), o));
        for (const int wanted : {1, 2, 4}) {
            owned<float> some(planes, weights, 2);
            csq::layer<float> v = some.view();
            if (wanted != 1) v.positive = v.negative = {};
            if (wanted != 2) v.mask = {};
            if (wanted != 4) v.scale = {};
            REQUIRE(csq::backward(l.view(), g, v, o));
            if (wanted == 1)
                CHECK((same_bytes(some.positive, all.positive) && same_bytes(some.negative, all.negative)));
            if (wanted == 2) CHECK(same_bytes(some.mask, all.mask));
            if (wanted == 4) CHECK(same_bytes(some.scale, all.scale));
        }
    }
}

TEST_CASE("CSQ layers whose parts do not belong together are refused by the part") {
    owned<float> l(4, 6, 2), d(4, 6, 2);
    fill(l, 1, 101);
    std::vector<float> w(6, 1.0f), scales(2);
    std::vector<std::int8_t> codes(6);
    const float nan = std::nanf("");
    csq::layer<float> odd = l.view();
    odd.planes = csq::max_planes + 1;
    const quant::status wide = csq::forward(odd, w, 1.0);
    CHECK(names(wide, errc::bits_out_of_range, "layer.planes"));
    CHECK(names(csq::backward(odd, w, d.view(), 1.0), errc::bits_out_of_range, "layer.planes"));
    CHECK(names(csq::init_from_float(w, odd), errc::bits_out_of_range, "layer.planes"));
    CHECK(names(csq::add_budget_gradient(odd, d.view(), 1.0, {}), errc::bits_out_of_range, "layer.planes"));
    CHECK(names(csq::add_budget_gradient(odd, d.view(), {}, 1.0), errc::bits_out_of_range, "layer.planes"));
    CHECK(names(csq::harden(odd, codes, std::span<float>(scales)).status(), errc::bits_out_of_range, "layer.planes"));
    std::vector<float> four(4, 1.0f);
    for (const std::span<float> s : {std::span<float>{}, std::span<float>(four)}) { // 6 weights are no 4 rows
        odd = l.view();
        odd.scale = s;
        CHECK(names(csq::forward(odd, w, 1.0), errc::shape_mismatch, "layer.scale"));
    }
    odd = d.view();
    odd.negative = {};
    CHECK(names(csq::backward(l.view(), w, odd, 1.0), errc::shape_mismatch, "grads.negative"));
    odd = d.view();
    odd.mask = odd.mask.first(2);
    CHECK(names(csq::backward(l.view(), w, odd, 1.0), errc::shape_mismatch, "grads.mask"));
    CHECK(names(csq::add_budget_gradient(l.view(), odd, {}, 1.0), errc::shape_mismatch, "grads.mask"));
    odd = d.view();
    odd.scale = odd.scale.first(1);
    CHECK(names(csq::backward(l.view(), w, odd, 1.0), errc::shape_mismatch, "grads.scale"));
    CHECK(names(csq::init_from_float(std::vector<float>(5), l.view()), errc::shape_mismatch, "weights"));
    for (const double bad : {-1.0, static_cast<double>(nan), HUGE_VAL})
        CHECK(names(csq::init_from_float(w, l.view(), {.logit = bad}), errc::invalid_argument, "init"));
    CHECK(names(csq::init_from_float(w, l.view(), {.mask_logit = HUGE_VAL}), errc::invalid_argument, "init"));
    CHECK(names(csq::add_budget_gradient(l.view(), d.view(), 1.0, {.strength = HUGE_VAL}), errc::invalid_argument,
                "budget.strength"));

    const auto hardened = [&] { return csq::harden(l.view(), codes, std::span<float>(scales)).status(); };
    CHECK(names(csq::harden(l.view(), codes, std::span<float>(scales).first(1)).status(), errc::shape_mismatch,
                "scales"));
    REQUIRE(hardened());
    l.negative[2] = nan;
    CHECK(names(hardened(), errc::non_finite, "layer"));
    l.negative[2] = 1;
    l.mask[3] = nan;
    CHECK(names(hardened(), errc::non_finite, "layer"));
    l.scale[1] = 0x1p101f;
    CHECK(names(hardened(), errc::invalid_scale, "layer.scale"));
    // Plane 0 is empty: its factor 2 does not fit into the largest legal scale.
    l.scale[1] = 0x1p100f;
    l.mask = {-1, 1, 1, 1};
    l.positive.assign(24, 1.0f);
    l.negative.assign(24, -1.0f);
    CHECK(names(hardened(), errc::scale_out_of_range, "scales"));
    l.scale = {0x1p99f, 1};
    REQUIRE(hardened());
    CHECK((scales[0] == 0x1p100f && scales[1] == 2 && codes == std::vector<std::int8_t>(6, 7)));

    // Without masks every plane is open, for good.
    owned<float> open(2, 6, 1, false);
    open.positive = {9, 9, -9, -9, 1, 1, 9, -9, 9, -9, -9, 9};
    open.negative.assign(12, -9.0f);
    CHECK(!csq::keep_one_plane(open.view()));
    REQUIRE(csq::harden(open.view(), codes));
    CHECK(codes == std::vector<std::int8_t>{3, 1, 2, 0, 1, 3});
    CHECK(csq::undecided_share(open.view(), {.temperature = 1}) == 2.0 / 24);
    l.mask.assign(4, -1.0f);
    CHECK(csq::undecided_share(l.view(), {.temperature = 1}) == 0); // no gate of an open plane
}
