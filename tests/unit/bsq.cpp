// SPDX-License-Identifier: MIT
// BSQ: straight-through gradients, the group lasso, requantization that changes no weight, growing and vanishing layers.
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
#include <quant/bsq.hpp>
#include <span>
#include <vector>

using quant::errc;
using quant::rounding;
namespace bsq = quant::bsq;
using test::names;
using test::same_bytes;
using test::uniform;

namespace {

template <class T> struct owned {
    std::vector<T> positive, negative, scale;
    bsq::layer<T> layer;
    owned(std::size_t planes, std::size_t weights, std::size_t scales = 1, std::size_t room = 9)
        : positive(room * weights), negative(room * weights),
          scale(scales, T(0.5)), layer{positive, negative, scale, weights, planes} {}
    owned(const owned&) = delete;
    owned& operator=(const owned&) = delete;
};

/// Real bits in [0, 2], half of them near 0 or 1.
template <class T> void fill(owned<T>& l, std::uint64_t seed) {
    for (std::size_t i = 0; i < l.positive.size(); ++i) {
        const double a = uniform(seed, 0, i), b = uniform(seed, 1, i);
        l.positive[i] = static_cast<T>(i % 2 == 0 ? 1 + a : a > 0 ? 1 : 0);
        l.negative[i] = static_cast<T>(i % 3 == 0 ? 1 + b : b > 0 ? 1 : 0);
    }
    for (std::size_t r = 0; r < l.scale.size(); ++r) l.scale[r] = static_cast<T>(0.1 + 0.03 * static_cast<double>(r));
}
/// v of formula (B1).
template <class T> double latent(const owned<T>& l, std::size_t i) {
    double v = 0;
    for (std::size_t b = 0; b < l.layer.planes; ++b)
        v += std::ldexp(static_cast<double>(l.positive[b * l.layer.weights + i]) -
                            static_cast<double>(l.negative[b * l.layer.weights + i]),
                        static_cast<int>(b));
    return v;
}
template <class T> std::vector<T> weights_of(const owned<T>& l, rounding rule = rounding::half_away) {
    std::vector<T> w(l.layer.weights);
    REQUIRE(bsq::forward(l.layer, w, rule));
    return w;
}

} // namespace

TEST_CASE("BSQ's weights are the rounded, clipped sums of real bits; ties go as asked") {
    owned<double> l(4, 700, 7);
    fill(l, 1);
    const auto w = weights_of(l);
    for (std::size_t i = 0; i < w.size(); ++i) {
        const double v = std::clamp(latent(l, i), -15.0, 15.0);
        CHECK(w[i] == std::round(v) * l.scale[i / 100]); // std::round: half away from zero
    }
    owned<float> ties(3, 8);
    const std::array<float, 8> v{0.5f, 1.5f, 2.5f, 0.49999997f, 0.5f, 1.5f, 2.5f, 6.5f};
    for (std::size_t i = 0; i < 8; ++i) (i < 4 ? ties.positive : ties.negative)[i] = v[i];
    ties.scale[0] = 1;
    CHECK((weights_of(ties) == std::vector<float>{1, 2, 3, 0, -1, -2, -3, -7}));
    CHECK((weights_of(ties, rounding::nearest_even) == std::vector<float>{0, 2, 2, 0, 0, -2, -2, -6}));
}

TEST_CASE("BSQ's gradients are the formula exactly, and the differences of the map without rounding and clip") {
    owned<double> l(5, 24, 2), d(5, 24, 2);
    fill(l, 2);
    std::vector<double> g(24);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] = uniform(3, 0, i);
    REQUIRE(bsq::backward(l.layer, g, d.layer));
    const auto w = weights_of(l);
    std::array<double, 2> of_scale{};
    for (std::size_t i = 0; i < g.size(); ++i) {
        of_scale[i / 12] += g[i] * std::nearbyint(w[i] / l.scale[i / 12]);
        for (std::size_t b = 0; b < 5; ++b) {
            const double exact = g[i] * (l.scale[i / 12] * std::ldexp(1.0, static_cast<int>(b)));
            CHECK((d.positive[b * 24 + i] == exact && d.negative[b * 24 + i] == -exact));
            const auto unrounded = [&] { return g[i] * l.scale[i / 12] * latent(l, i); };
            const double kept = l.positive[b * 24 + i];
            l.positive[b * 24 + i] = kept + 0.25;
            const double up = unrounded();
            l.positive[b * 24 + i] = kept - 0.25;
            const double difference = (up - unrounded()) / 0.5;
            l.positive[b * 24 + i] = kept;
            CHECK(std::abs(difference - exact) <= 1e-10);
        }
    }
    for (std::size_t r = 0; r < 2; ++r) CHECK(std::abs(d.scale[r] - of_scale[r]) < 1e-12);
}

TEST_CASE("the lasso's gradient is that of central differences; a plane of zeros has none") {
    owned<double> l(3, 20), d(3, 20);
    fill(l, 4);
    std::fill_n(l.positive.begin() + 20, 20, 0.0);
    std::fill_n(l.negative.begin() + 20, 20, 0.0);
    constexpr double weight = 0.3;
    REQUIRE(bsq::add_lasso_gradient(l.layer, d.layer, weight));
    double worst = 0;
    for (std::vector<double>* bits : {&l.positive, &l.negative})
        for (std::size_t i = 0; i < 60; ++i) {
            const double grad = (bits == &l.positive ? d.positive : d.negative)[i];
            if (i / 20 == 1) {
                CHECK(grad == 0);
                continue;
            }
            const double kept = (*bits)[i], h = 1e-5;
            (*bits)[i] = kept + h;
            const double up = *bsq::group_lasso(l.layer);
            (*bits)[i] = kept - h;
            const double down = *bsq::group_lasso(l.layer);
            (*bits)[i] = kept;
            worst = std::max(worst, std::abs(weight * (up - down) / (2 * h) - grad));
        }
    CHECK(worst < 1e-6);
    const std::array<quant::layer_bits, 2> layers{{{100, 8}, {300, 2}}};
    CHECK((bsq::lasso_share(layers, 0) == 2 && bsq::lasso_share(layers, 1) == 1.5));
}

TEST_CASE("with the data term off plain steps shrink every plane to at most one step") {
    owned<double> l(4, 30), d(4, 30);
    fill(l, 5);
    constexpr double step = 0.05;
    std::array<double, 4> before{};
    before.fill(1e9);
    for (int k = 0; k < 400; ++k) {
        std::fill(d.positive.begin(), d.positive.end(), 0.0);
        std::fill(d.negative.begin(), d.negative.end(), 0.0);
        REQUIRE(bsq::add_lasso_gradient(l.layer, d.layer, 1.0));
        bool falls = true;
        for (std::size_t b = 0; b < 4; ++b) {
            double square = 0;
            for (std::size_t i = b * 30; i < (b + 1) * 30; ++i)
                square += l.positive[i] * l.positive[i] + l.negative[i] * l.negative[i];
            falls = falls && (std::sqrt(square) < before[b] || std::sqrt(square) <= step);
            before[b] = std::sqrt(square);
        }
        CHECK(falls);
        for (std::size_t i = 0; i < 120; ++i) {
            l.positive[i] -= step * d.positive[i];
            l.negative[i] -= step * d.negative[i];
        }
    }
    for (const double norm : before) CHECK(norm <= step);
}

TEST_CASE("requantizing changes no weight that was not clipped, and twice is once") {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        const std::size_t planes = 1 + seed % 8, weights = 4 * (1 + seed % 6);
        owned<float> l(planes, weights, seed % 2 == 0 ? 4 : 1);
        fill(l, seed);
        if (seed % 3 == 0) // empty lowest and highest planes
            for (const std::size_t b : {std::size_t{0}, planes - 1}) {
                std::fill_n(l.positive.begin() + static_cast<std::ptrdiff_t>(b * weights), weights, 1.0f);
                std::fill_n(l.negative.begin() + static_cast<std::ptrdiff_t>(b * weights), weights, 1.0f);
            }
        if (seed % 5 == 0) // whole digits
            for (std::size_t i = 0; i < planes * weights; ++i) {
                l.positive[i] = l.positive[i] > 1 ? 1.0f : 0.0f;
                l.negative[i] = l.negative[i] > 1 ? 1.0f : 0.0f;
            }
        const auto before = weights_of(l);
        std::vector<std::int16_t> codes(weights);
        std::vector<float> scales(l.scale.size());
        const auto done = bsq::harden(l.layer, codes, std::span<float>(scales));
        REQUIRE(done);
        bool exact = true;
        for (std::size_t i = 0; i < weights; ++i)
            exact = exact && static_cast<float>(codes[i]) * scales[i / (weights / scales.size())] == before[i];
        CHECK(exact);
        const std::size_t had = l.layer.planes;
        const auto report = bsq::requantize(l.layer, {.clip_before_requantize = true});
        REQUIRE(report);
        CHECK((report->planes == l.layer.planes && report->grown == 0));
        CHECK(report->planes + report->dropped_high + report->dropped_low == had);
        CHECK(weights_of(l) == before);
        CHECK(static_cast<std::size_t>(std::popcount(done->planes)) <= report->planes);
        const auto positive = l.positive;
        const auto again = bsq::requantize(l.layer);
        REQUIRE(again);
        CHECK((again->grown + again->dropped_high + again->dropped_low == 0 && same_bytes(positive, l.positive)));
    }
}

TEST_CASE("a layer whose bits sum beyond its planes grows by one; what was clipped comes back") {
    owned<float> l(4, 2);
    l.scale[0] = 0.1f;
    for (std::size_t b = 0; b < 4; ++b) l.positive[2 * b] = 1.6f; // v = 24 of 15
    CHECK(weights_of(l)[0] == 15 * 0.1f);
    owned<float> clipped(4, 2);
    clipped.positive = l.positive;
    clipped.scale = l.scale;
    const auto grown = bsq::requantize(l.layer);
    REQUIRE(grown);
    // 24 = 11000: one plane more, and three lowest ones that are empty.
    CHECK((grown->grown == 1 && grown->dropped_low == 3 && grown->planes == 2));
    CHECK(weights_of(l)[0] == 3 * (0.1f * 8));
    const auto kept = bsq::requantize(clipped.layer, {.clip_before_requantize = true});
    REQUIRE(kept);
    CHECK((kept->grown == 0 && kept->planes == 4 && weights_of(clipped)[0] == 15 * 0.1f));
    // At most_planes it clips; without room it says so.
    owned<float> tight(4, 2, 1, 4);
    for (std::size_t b = 0; b < 4; ++b) tight.positive[2 * b] = 1.6f;
    const auto before = tight.positive;
    CHECK(names(bsq::requantize(tight.layer).status(), errc::buffer_too_small, "layer.positive"));
    CHECK((tight.positive == before && tight.layer.planes == 4));
    const auto full = bsq::requantize(tight.layer, {.most_planes = 4});
    REQUIRE(full);
    CHECK((full->planes == 4 && weights_of(tight)[0] == 15 * 0.5f));
}

TEST_CASE("a share of weights may saturate to drop a highest plane") {
    owned<float> l(4, 100);
    l.scale[0] = 1;
    for (std::size_t i = 0; i < 100; ++i) l.positive[i] = 1; // all are 1
    l.positive[3 * 100 + 5] = 1;                             // one is 9
    owned<float> strict(4, 100);
    strict.positive = l.positive;
    CHECK(bsq::requantize(strict.layer)->planes == 4);
    const auto r = bsq::requantize(l.layer, {.empty_share = 0.02});
    REQUIRE(r);
    CHECK((r->planes == 1 && r->dropped_high == 3)); // 9 saturates at 7, 3, 1
    CHECK(weights_of(l) == std::vector<float>(100, 1.0f));
}

TEST_CASE("no lasso: eight planes stay and weights within half a step") {
    std::vector<float> w(500);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(uniform(9, 0, i));
    owned<float> l(8, 500);
    REQUIRE(bsq::init_from_float(w, l.layer));
    REQUIRE(bsq::requantize(l.layer));
    CHECK(l.layer.planes == 8);
    const auto restored = weights_of(l);
    for (std::size_t i = 0; i < w.size(); ++i) CHECK(std::abs(restored[i] - w[i]) <= l.scale[0] * 0.5001f);
}

TEMPLATE_LIST_TEST_CASE("BSQ's loops are the same bytes on every architecture", "", test::archs) {
    using scalar = quant::simd::scalar;
    for (std::size_t n = 0; n <= 65; n += n < 35 ? 1 : 15) {
        std::vector<float> p, m;
        for (std::size_t i = 0; i < n; ++i) {
            p.push_back(static_cast<float>(uniform(n, 0, i) * 9));
            m.push_back(static_cast<float>(std::round(uniform(n, 1, i) * 9) / 2));
        }
        for (const bool half_away : {true, false}) {
            std::vector<float> a(m), b(m);
            quant::simd::add_difference<float, scalar>(p.data(), m.data(), a.data(), n, 4);
            quant::simd::add_difference<float, TestType>(p.data(), m.data(), b.data(), n, 4);
            CHECK(same_bytes(a, b));
            a = b = m;
            quant::simd::round_clipped<float, scalar>(a.data(), n, 3, half_away);
            quant::simd::round_clipped<float, TestType>(b.data(), n, 3, half_away);
            CHECK(same_bytes(a, b));
        }
        std::vector<float> a(m), b(m);
        quant::simd::add_multiple<float, scalar>(p.data(), a.data(), n, 0.3f);
        quant::simd::add_multiple<float, TestType>(p.data(), b.data(), n, 0.3f);
        CHECK(same_bytes(a, b));
        quant::simd::clip<float, scalar>(a.data(), n, 0, 2);
        quant::simd::clip<float, TestType>(b.data(), n, 0, 2);
        CHECK(same_bytes(a, b));
        CHECK(quant::simd::plane_norm<float, scalar>(p.data(), m.data(), n) ==
              quant::simd::plane_norm<float, TestType>(p.data(), m.data(), n));
    }
}

TEST_CASE("bad input to BSQ is named, or has a defined result") {
    owned<float> l(4, 6), d(4, 6);
    fill(l, 11);
    std::vector<float> w(6), short_w(5);
    CHECK(names(bsq::forward(l.layer, short_w), errc::shape_mismatch, "weights"));
    CHECK(names(bsq::forward(l.layer, w, rounding::stochastic), errc::invalid_argument, "rule"));
    bsq::layer<float> odd = l.layer;
    odd.planes = 10;
    CHECK(names(bsq::forward(odd, w), errc::shape_mismatch, "layer.positive"));
    odd.planes = 16;
    CHECK(names(bsq::clip_bits(odd), errc::bits_out_of_range, "layer.planes"));
    odd = l.layer;
    odd.scale = {};
    CHECK(names(bsq::group_lasso(odd).status(), errc::shape_mismatch, "layer.scale"));
    odd = d.layer;
    odd.negative = odd.negative.first(5);
    CHECK(names(bsq::backward(l.layer, w, odd), errc::shape_mismatch, "grads.negative"));
    CHECK(names(bsq::add_lasso_gradient(l.layer, d.layer, std::nan("")), errc::non_finite, "weight"));
    CHECK(names(bsq::requantize(l.layer, {.empty_share = 1}).status(), errc::invalid_argument, "empty_share"));
    CHECK(names(bsq::requantize(l.layer, {.most_planes = 16}).status(), errc::bits_out_of_range, "most_planes"));
    std::vector<float> bad(6, 1.0f);
    bad[2] = std::nanf("");
    CHECK(names(bsq::backward(l.layer, bad, d.layer), errc::non_finite, "gradient"));
    CHECK(names(bsq::init_from_float(bad, l.layer), errc::non_finite, "weights"));
    l.positive[1] = std::numeric_limits<float>::infinity();
    l.negative[2] = -5;
    l.negative[3] = 5;
    REQUIRE(bsq::clip_bits(l.layer));
    CHECK((l.positive[1] == 2 && l.negative[2] == 0 && l.negative[3] == 2));
    l.positive[1] = std::nanf("");
    CHECK(names(bsq::requantize(l.layer).status(), errc::non_finite, "layer"));
    // All-zero weights vanish; an empty layer is fine; both again and again.
    owned<float> zero(4, 6), empty(4, 0), empty_d(4, 0);
    const std::vector<float> zeros(6, 0.0f);
    std::vector<float> nothing;
    REQUIRE(bsq::init_from_float(zeros, zero.layer));
    for (int k = 0; k < 2; ++k) {
        REQUIRE(bsq::requantize(zero.layer));
        CHECK((zero.layer.planes == 0 && weights_of(zero) == zeros && bsq::bits(zero.layer).bits == 0));
        CHECK(*bsq::group_lasso(zero.layer) == 0);
        REQUIRE(bsq::requantize(empty.layer));
        REQUIRE(bsq::forward(empty.layer, nothing));
        REQUIRE(bsq::backward(empty.layer, nothing, empty_d.layer));
    }
    // Hardening does not change the layer: twice is once; a layer of nothing has no codes.
    owned<float> again(4, 6);
    fill(again, 12);
    std::vector<std::int16_t> first(6), second(6);
    std::vector<float> scale(1), same(1);
    REQUIRE(bsq::harden(again.layer, first, std::span<float>(scale)));
    REQUIRE(bsq::harden(again.layer, second, std::span<float>(same)));
    CHECK((first == second && scale == same));
    CHECK(bsq::harden(empty.layer, std::span<std::int16_t>(), std::span<float>(scale)));
    CHECK(names(bsq::harden(again.layer, std::span<std::int16_t>(), std::span<float>(scale)).status(),
                errc::shape_mismatch, "codes"));
    CHECK(names(bsq::init_from_float(zeros, zero.layer), errc::bits_out_of_range, "layer.planes"));
}
