// SPDX-License-Identifier: MIT
// calibrate/exact_sum.hpp, minmax.hpp, moments.hpp, histogram.hpp: what observers measure, and what a split may change.

#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/minmax.hpp>
#include <quant/calibrate/moments.hpp>

#include <reference/statistics.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

using quant::errc;
using quant::statistics;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }

std::span<const float> part(const std::vector<float>& x, std::size_t from, std::size_t count) {
    return std::span<const float>(x).subspan(from, count);
}

/// Relative to the magnitude of `expected`, or absolute below 1e-300.
bool close(double value, long double expected, long double relative) {
    return std::fabs(static_cast<long double>(value) - expected) <= relative * std::fabs(expected) + 1e-300L;
}

/// Ordinary and broken values, without the extremes of float that make every sum infinite company.
std::vector<float> sample(std::size_t n, std::uint64_t seed) {
    std::vector<float> x = reference::gauss(n, seed, 0.3, 2.0);
    for (std::size_t i = 0; i < n; i += 97) x[i] = std::array{inf, -inf, nan_value, 0.0f, -0.0f, 1e-42f}[i / 97 % 6];
    return x;
}

} // namespace

// ---- exact sums -----------------------------------------------------------------------------------------------------------

TEST_CASE("exact sums lose nothing between 2^-149 and 2^127") {
    quant::exact_sum sum;
    sum.add(0x1p127);
    sum.add(0x1p-149);
    sum.add(-0x1p127);
    CHECK(sum.to_double() == 0x1p-149);
    sum.add(-0x1p-148);
    CHECK(sum.to_double() == -0x1p-149);
    sum.add(0x1p-149);
    CHECK(sum == quant::exact_sum{});
    CHECK(bits(sum.to_double()) == 0);

    quant::exact_square_sum squares;
    squares.add(0x1p255);
    squares.add(0x1p-298);
    squares.add(-0x1p255);
    CHECK(squares.to_double() == 0x1p-298);
}

TEST_CASE("exact sums round to the nearest double, ties to even") {
    const auto total = [](std::initializer_list<double> terms) {
        quant::exact_sum sum;
        for (const double t : terms) sum.add(t);
        return sum.to_double();
    };
    CHECK(total({0x1p53, 1}) == 0x1p53);
    CHECK(total({0x1p53, 1, 0x1p-149}) == 0x1p53 + 2);
    CHECK(total({0x1p53, 2, 1}) == 0x1p53 + 4);
    CHECK(total({0x1p53, 2, 1, -0x1p-149}) == 0x1p53 + 2);
    CHECK(total({-0x1p53, -1, -0x1p-149}) == -0x1p53 - 2);
    CHECK(total({0x1p54, -1}) == 0x1p54); // tie between 2^54 - 2 and 2^54
    CHECK(total({0x1p54, -1, -0x1p-149}) == 0x1p54 - 2);
    CHECK(total({0x1.fffffffffffffp52, 0.5, 0x1p-100}) == 0x1p53); // carries into the exponent
    CHECK(total({0x1.fffffep127, 0x1.fffffep127}) == 0x1.fffffep128);
}

TEST_CASE("exact sums do not depend on order or grouping") {
    std::vector<float> x;
    for (const float v : reference::awkward(3000, 11))
        if (std::isfinite(v)) x.push_back(v);
    quant::exact_sum all;
    for (const float v : x) all.add(static_cast<double>(v));
    std::mt19937_64 random(5);
    for (int round = 0; round < 5; ++round) {
        std::shuffle(x.begin(), x.end(), random);
        std::array<quant::exact_sum, 7> groups;
        for (std::size_t i = 0; i < x.size(); ++i) groups[i % 7].add(static_cast<double>(x[i]));
        quant::exact_sum merged;
        for (const std::size_t g : {3u, 0u, 6u, 1u, 5u, 2u, 4u}) merged.merge(groups[g]);
        CHECK(merged == all);
        quant::exact_sum right = groups[0], left;
        right.merge(groups[1]);
        left.merge(groups[1]);
        left.merge(groups[0]);
        CHECK(left == right);
    }
}

TEST_CASE("the variance is formed without cancellation") {
    const auto variance = [](std::initializer_list<double> x) {
        quant::exact_sum sum;
        quant::exact_square_sum squares;
        for (const double v : x) {
            sum.add(v);
            squares.add(v * v);
        }
        const auto n = static_cast<double>(x.size());
        return quant::detail::scaled_variance(x.size(), sum, squares) / n / n;
    };
    CHECK(variance({16777215, 16777214}) == 0.25);
    CHECK(variance({-16777215, -16777214, -16777213}) == 2.0 / 3.0);
    CHECK(variance({5, 5, 5, 5}) == 0);
    CHECK(variance({0x1p127, -0x1p127}) == 0x1p254);
    CHECK(variance({0x1p-149, 0}) == 0x1p-300);
    CHECK(variance({}) != 1); // 0 / 0 is the caller's business; the sum itself is defined
}

// ---- moments --------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("moments agree with long double sums", "", quant::moments_observer, quant::exact_moments_observer) {
    for (const double centre : {0.0, 0.3125, -7.5}) {
        for (const std::size_t n : {0u, 1u, 2u, 15u, 16u, 17u, 1023u, 1024u, 1025u, 70000u}) {
            const std::vector<float> x = sample(n, 7 + n);
            TestType observer(statistics::before_relu, centre);
            observer.observe(x);
            const quant::tensor_statistics s = observer.summary();
            const reference::moments r = reference::moments_of(x, static_cast<long double>(centre));
            CHECK(s.count == r.count);
            CHECK(s.non_finite == r.non_finite);
            CHECK(s.positive == r.positive);
            CHECK(static_cast<long double>(s.min) == r.min);
            CHECK(static_cast<long double>(s.max) == r.max);
            CHECK(close(s.mean, r.mean, 1e-13L));
            CHECK(close(s.mean_square, r.mean_square, 1e-14L));
            CHECK(close(s.variance, r.variance, 1e-13L));
            CHECK(close(s.mean_abs_deviation, r.mean_abs_deviation, 1e-14L));
            CHECK(s.centre == centre);
            CHECK(s.taken == statistics::before_relu);
        }
    }
}

TEMPLATE_TEST_CASE("moments of special tensors", "", quant::moments_observer, quant::exact_moments_observer) {
    SECTION("nothing, or nothing finite") {
        TestType observer;
        observer.observe(std::vector<float>{});
        observer.observe(std::vector<float>{nan_value, inf, -inf});
        const auto s = observer.summary();
        CHECK(s.count == 0);
        CHECK(s.non_finite == 3);
        CHECK(s.mean == 0);
        CHECK(s.variance == 0);
        CHECK(s.min == 0);
        CHECK(s.max == 0);
    }
    SECTION("a constant has no variance, to the last bit") {
        TestType observer;
        observer.observe(std::vector<float>(5000, 0.1f));
        const auto s = observer.summary();
        CHECK(s.mean == static_cast<double>(0.1f));
        CHECK(s.variance == 0);
        CHECK(s.mean_abs_deviation == static_cast<double>(0.1f));
    }
    SECTION("a mean far from zero costs no digits of the variance") {
        // Block sums of squares round at 2^53, so the fast observer has its limit where mean^2 is 10^12 variances.
        const float mean = std::is_same_v<TestType, quant::exact_moments_observer> ? 16777216.0f : 65536.0f;
        std::vector<float> x(100000);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = mean - static_cast<float>(i % 2);
        TestType observer;
        observer.observe(x);
        CHECK(observer.summary().variance == 0.25);
    }
    SECTION("the largest floats") {
        constexpr float max = std::numeric_limits<float>::max();
        TestType observer(statistics::unspecified, -0x1.fffffep127);
        observer.observe(std::vector<float>(3000, max));
        const auto s = observer.summary();
        CHECK(s.mean == static_cast<double>(max));
        CHECK(s.mean_abs_deviation == 2 * static_cast<double>(max));
        CHECK(s.variance == 0);
    }
    SECTION("the smallest floats") {
        TestType observer;
        observer.observe(std::vector<float>{0x1p-149f, -0x1p-149f, 0x1p-149f, 0x1p-149f});
        const auto s = observer.summary();
        CHECK(s.mean == 0x1p-150);
        CHECK(s.mean_square == 0x1p-298);
        CHECK(s.mean_abs_deviation == 0x1p-149);
    }
}

TEST_CASE("moments do not depend on splits at multiples of 1024, nor on the order of merging") {
    const std::vector<float> x = sample(10 * 1024 + 300, 21);
    quant::moments_observer whole(statistics::unspecified, 0.25);
    whole.observe(x);
    std::array<quant::moments_observer, 4> parts{
        quant::moments_observer(statistics::unspecified, 0.25), quant::moments_observer(statistics::unspecified, 0.25),
        quant::moments_observer(statistics::unspecified, 0.25), quant::moments_observer(statistics::unspecified, 0.25)};
    parts[0].observe(part(x, 0, 1024));
    parts[1].observe(part(x, 1024, 4096));
    parts[2].observe(part(x, 5120, 2048));
    parts[2].observe(part(x, 7168, 2048)); // a stream continued
    parts[3].observe(part(x, 9216, x.size() - 9216));
    std::array<std::size_t, 4> order{0, 1, 2, 3};
    do {
        quant::moments_observer merged(statistics::unspecified, 0.25);
        for (const std::size_t i : order) REQUIRE(merged.merge(parts[i]));
        CHECK(merged.state() == whole.state());
    } while (std::next_permutation(order.begin(), order.end()));
    quant::moments_observer left = parts[0], right = parts[1]; // (a + b) + c = a + (b + c)
    REQUIRE(left.merge(parts[1]));
    REQUIRE(left.merge(parts[3]));
    REQUIRE(right.merge(parts[3]));
    quant::moments_observer outer = parts[0];
    REQUIRE(outer.merge(right));
    CHECK(left.state() == outer.state());
}

TEST_CASE("a split elsewhere changes moments in the last bits, and exact moments not at all") {
    const std::vector<float> x = sample(5000, 22);
    quant::moments_observer whole, split;
    quant::exact_moments_observer exact_whole(statistics::unspecified, 0.7), exact_split(statistics::unspecified, 0.7);
    whole.observe(x);
    exact_whole.observe(x);
    for (std::size_t from = 0; from < x.size(); from += 333) {
        split.observe(part(x, from, std::min<std::size_t>(333, x.size() - from)));
        exact_split.observe(part(x, from, std::min<std::size_t>(333, x.size() - from)));
    }
    CHECK(split.state() != whole.state()); // the limit of the promise, on this very sample
    CHECK(close(split.summary().mean, static_cast<long double>(whole.summary().mean), 1e-14L));
    CHECK(split.summary().count == whole.summary().count);
    CHECK(exact_split.state() == exact_whole.state());
}

TEST_CASE("exact moments do not depend on any order") {
    std::vector<float> x = reference::awkward(70000, 23);
    for (const double centre : {0.0, 0.1, -1e30}) {
        quant::exact_moments_observer all(statistics::unspecified, centre);
        all.observe(x);
        std::mt19937_64 random(3);
        std::shuffle(x.begin(), x.end(), random);
        quant::exact_moments_observer a(statistics::unspecified, centre), b(statistics::unspecified, centre);
        a.observe(part(x, 0, 12345));
        for (std::size_t i = 12345; i < 12445; ++i) b.observe(part(x, i, 1));
        b.observe(part(x, 12445, x.size() - 12445));
        REQUIRE(b.merge(a));
        CHECK(b.state() == all.state());
    }
}

TEST_CASE("exact moments are the correctly rounded ones") {
    // Every term here is an integer below 2^62, so long double has the exact sums.
    std::mt19937_64 random(9);
    std::vector<float> x(20000);
    long double sum = 0, squares = 0, deviation = 0;
    for (float& v : x) {
        v = static_cast<float>(static_cast<std::int64_t>(random() % 2000001) - 1000000);
        const auto w = static_cast<long double>(v);
        sum += w;
        squares += w * w;
        deviation += std::fabs(w - 12345.0L);
    }
    quant::exact_moments_observer observer(statistics::unspecified, 12345);
    observer.observe(x);
    CHECK(observer.state().sum.to_double() == static_cast<double>(sum));
    CHECK(observer.state().squares.to_double() == static_cast<double>(squares));
    CHECK(observer.state().abs_deviation.to_double() == static_cast<double>(deviation));
}

TEST_CASE("observers of different centres or statistics do not merge") {
    quant::moments_observer a(statistics::before_relu, 0.5), b(statistics::after_relu, 0.5),
        c(statistics::before_relu, 0.25);
    a.observe(std::vector<float>{1, 2});
    const quant::moments_state before = a.state();
    CHECK(a.merge(b).code == errc::state_mismatch);
    CHECK(std::string(a.merge(b).argument) == "statistics");
    CHECK(a.merge(c).code == errc::state_mismatch);
    CHECK(std::string(a.merge(c).argument) == "centre");
    CHECK(a.state() == before);
    CHECK(a.merge(quant::moments_observer(statistics::before_relu, 0.5)));
    CHECK(a.state() == before);
    CHECK(quant::moments_observer(statistics::unspecified, 0.1).centre() == static_cast<double>(0.1f));
}

TEST_CASE("statistics of a tensor in hand are taken about its own mean") {
    const std::vector<float> x = reference::laplace(40000, 31, 0.7);
    const auto s = quant::measure_statistics(x, statistics::before_relu);
    const reference::moments r = reference::moments_of(x, static_cast<long double>(s.centre));
    CHECK(s.centre == static_cast<double>(static_cast<float>(r.mean)));
    CHECK(s.taken == statistics::before_relu);
    CHECK(close(s.mean, r.mean, 1e-12L));
    CHECK(close(s.mean_abs_deviation, r.mean_abs_deviation, 1e-14L));
    const reference::moments about_mean = reference::moments_of(x, r.mean); // the rounding of the centre does not show
    CHECK(close(s.mean_abs_deviation, about_mean.mean_abs_deviation, 1e-9L));
    CHECK_THAT(s.mean_abs_deviation, Catch::Matchers::WithinRel(0.7, 0.02)); // E|x - mean| = b
    CHECK_THAT(s.variance, Catch::Matchers::WithinRel(2 * 0.49, 0.03));      // 2 b^2
    const auto empty = quant::measure_statistics(std::vector<float>{});
    CHECK(empty.count == 0);
    CHECK(empty.mean_abs_deviation == 0);
}

// ---- every observer: layouts, element types, saved states -----------------------------------------------------------------

namespace {

template <class Observer> struct make {
    static Observer fresh() { return Observer(); }
};
template <> struct make<quant::moments_observer> {
    static quant::moments_observer fresh() { return quant::moments_observer(statistics::unspecified, 0.3); }
};
template <> struct make<quant::exact_moments_observer> {
    static quant::exact_moments_observer fresh() { return quant::exact_moments_observer(statistics::unspecified, 0.3); }
};

} // namespace

#define ALL_OBSERVERS                                                                                                  \
    quant::minmax_observer, quant::moving_average_minmax_observer, quant::moments_observer,                            \
        quant::exact_moments_observer, quant::histogram_observer<>, quant::histogram_observer<64>

TEMPLATE_TEST_CASE("the layout of a tensor does not change what is observed", "", ALL_OBSERVERS) {
    constexpr std::size_t rows = 41, columns = 67;
    const std::vector<float> dense = sample(rows * columns, 41);
    std::vector<float> transposed(rows * columns), sparse(rows * columns * 2, 1e30f), shifted(rows * columns + 1);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
            transposed[c * rows + r] = dense[r * columns + c];
            sparse[2 * (r * columns + c)] = dense[r * columns + c];
            shifted[1 + r * columns + c] = dense[r * columns + c];
        }
    auto expected = make<TestType>::fresh();
    expected.observe(dense);
    const auto check = [&](auto view) {
        auto observer = make<TestType>::fresh();
        observer.observe(view);
        CHECK(observer.state() == expected.state());
    };
    using view2 = quant::tensor_view<const float, 2>;
    check(quant::view(dense, rows, columns));
    check(view2(transposed.data(), {rows, columns}, {1, rows}));
    check(quant::view(transposed, columns, rows).permute({1, 0}));
    check(view2(sparse.data(), {rows, columns}, {2 * columns, 2}));
    check(quant::tensor_view<const float, 1>(shifted.data() + 1, {rows * columns}));
}

TEMPLATE_TEST_CASE("halves and doubles count as the floats they convert to", "", ALL_OBSERVERS) {
    const std::vector<float> source = sample(3000, 42);
    const auto check = [](const auto& elements, const std::vector<float>& floats) {
        auto a = make<TestType>::fresh(), b = make<TestType>::fresh();
        a.observe(elements);
        b.observe(floats);
        CHECK(a.state() == b.state());
    };
    std::vector<quant::float16> half;
    std::vector<quant::bfloat16> brain;
    std::vector<double> wide;
    std::vector<float> from_half, from_brain, from_wide;
    for (const float v : source) {
        half.push_back(quant::to_float16(v));
        from_half.push_back(quant::to_float(half.back()));
        brain.push_back(quant::to_bfloat16(v));
        from_brain.push_back(quant::to_float(brain.back()));
        wide.push_back(static_cast<double>(v) * (1 + 1e-9));
        from_wide.push_back(static_cast<float>(wide.back()));
    }
    wide.push_back(1e300); // beyond float: not finite
    from_wide.push_back(inf);
    check(half, from_half);
    check(brain, from_brain);
    check(wide, from_wide);
}

TEMPLATE_TEST_CASE("an observer goes on from a saved state", "", ALL_OBSERVERS) {
    const std::vector<float> first = sample(2048, 43), second = sample(777, 44);
    auto whole = make<TestType>::fresh();
    whole.observe(first);
    const auto saved = whole.state();
    static_assert(std::is_trivially_copyable_v<decltype(saved)> && std::is_standard_layout_v<decltype(saved)>);
    whole.observe(second);
    TestType resumed(saved);
    resumed.observe(second);
    CHECK(resumed.state() == whole.state());
}

TEMPLATE_TEST_CASE("any split and any order of merging give the same bytes", "", quant::minmax_observer,
                   quant::exact_moments_observer, quant::histogram_observer<>, quant::histogram_observer<8>) {
    std::vector<float> x = reference::awkward(5000, 45);
    auto whole = make<TestType>::fresh();
    whole.observe(x);
    std::mt19937_64 random(4);
    for (int round = 0; round < 4; ++round) {
        std::shuffle(x.begin(), x.end(), random);
        auto a = make<TestType>::fresh(), b = make<TestType>::fresh(), c = make<TestType>::fresh();
        a.observe(part(x, 0, 17));
        b.observe(part(x, 17, 3000));
        c.observe(part(x, 3017, x.size() - 3017));
        auto left = a, right = b;
        static_cast<void>(left.merge(b));
        static_cast<void>(left.merge(c));
        static_cast<void>(right.merge(c));
        static_cast<void>(right.merge(a));
        CHECK(left.state() == whole.state());
        CHECK(right.state() == whole.state());
        static_cast<void>(left.merge(make<TestType>::fresh())); // nothing changes nothing
        CHECK(left.state() == whole.state());
    }
}

// ---- min/max --------------------------------------------------------------------------------------------------------------

TEST_CASE("min/max is the range of the finite elements") {
    quant::minmax_observer m;
    CHECK(m.clip().status().code == errc::no_data);
    m.observe(std::vector<float>{nan_value, -inf});
    CHECK(m.clip().status().code == errc::no_data);
    m.observe(std::vector<float>{3.0f});
    CHECK(*m.clip() == quant::clip_range{3, 3});
    m.observe(std::vector<float>{2.0f, inf, 5.0f});
    CHECK(*m.clip() == quant::clip_range{2, 5});
    CHECK(m.count() == 3);
    CHECK(m.non_finite() == 3);
}

TEST_CASE("the moving average follows batches by its formula") {
    quant::moving_average_minmax_observer m(0.9);
    CHECK(m.clip().status().code == errc::no_data);
    m.observe(std::vector<float>{-1.0f, 2.0f});
    CHECK(*m.clip() == quant::clip_range{-1, 2}); // the first batch as it is
    m.observe(std::vector<float>{-3.0f, nan_value, 1.0f});
    CHECK_THAT(m.clip()->lo, Catch::Matchers::WithinULP(-1.2, 2));
    CHECK_THAT(m.clip()->hi, Catch::Matchers::WithinULP(1.9, 2));
    const auto before = *m.clip();
    m.observe(std::vector<float>{nan_value});
    m.observe(std::vector<float>{});
    CHECK(*m.clip() == before); // such a batch does not move it
    CHECK(m.non_finite() == 2);
    CHECK(m.state().batches == 2);

    quant::moving_average_minmax_observer last(0.0);
    last.observe(std::vector<float>{-1.0f, 2.0f});
    last.observe(std::vector<float>{-3.0f, 1.0f});
    CHECK(*last.clip() == quant::clip_range{-3, 1});
}

// ---- histogram ------------------------------------------------------------------------------------------------------------

namespace {

/// Checks a histogram against the definition of its bins.
template <std::size_t Bins> void check_bins(const quant::histogram_observer<Bins>& h, const std::vector<float>& x) {
    std::vector<std::uint64_t> expected(Bins);
    std::uint64_t count = 0, zeros = 0;
    long double largest = 0;
    for (const float v : x)
        if (std::isfinite(v)) largest = std::max(largest, static_cast<long double>(std::fabs(v)));
    int k = -126; // smallest width that covers it, by trial
    while (std::ldexp(static_cast<long double>(Bins / 2), k) <= largest) ++k;
    for (const float v : x) {
        if (!std::isfinite(v)) continue;
        const auto i = static_cast<std::size_t>(std::floor(std::ldexp(std::fabs(static_cast<long double>(v)), -k)));
        ++expected[v < 0 ? Bins / 2 - 1 - i : Bins / 2 + i];
        ++count;
        zeros += v == 0 ? 1 : 0;
    }
    CHECK(h.state().exponent == k);
    CHECK(h.width() == std::ldexp(1.0, k));
    CHECK(h.count() == count);
    CHECK(h.zeros() == zeros);
    CHECK(h.non_finite() == x.size() - count);
    CHECK(std::equal(expected.begin(), expected.end(), h.state().bins.begin()));
    CHECK(h.edge(Bins / 2) == 0);
    CHECK(h.edge(0) == -std::ldexp(static_cast<double>(Bins / 2), k));
}

} // namespace

TEST_CASE("histograms have the smallest power-of-two bins that cover the data") {
    const auto check = [](const std::vector<float>& x) {
        quant::histogram_observer<> h;
        h.observe(x);
        check_bins(h, x);
        quant::histogram_observer<8> small;
        small.observe(x);
        check_bins(small, x);
    };
    check(sample(30000, 51));
    check(reference::awkward(2000, 52));
    check({});
    check({0.0f, -0.0f, nan_value});
    check({1.0f});
    check({1024.0f, -1024.0f});
    check({std::nextafter(1024.0f, 0.0f), -512.0f, 0.5f});
    check({std::numeric_limits<float>::max(), 1e-45f, -1e-45f});
    check({1e-45f, -1e-40f, 0x1p-126f, -0x1p-117f});
    check({std::nextafter(0x1p-116f, 0.0f), -0x1p-130f});
}

TEST_CASE("long dense data are counted in steps to the same histogram") {
    std::vector<float> x = reference::gauss(40000, 61);
    for (std::size_t i = 0; i < 10000; ++i)
        x[3000 + i] = x[3000 + i] < 0 ? (i % 2 == 0 ? 0.0f : -0.0f) : 1.5f; // many equal
    for (std::size_t i = 20000; i < x.size(); ++i) x[i] *= 37.0f;           // the bins grow on the way
    x[15000] = nan_value;
    x[15001] = -std::numeric_limits<float>::infinity();
    x[25000] = 1e-45f;
    x[25001] = -1e-45f;
    x[30000] = -1e30f;
    x[39999] = std::numeric_limits<float>::max();
    const auto check = [&]<std::size_t Bins>(std::integral_constant<std::size_t, Bins>) {
        for (const std::size_t n :
             {std::size_t{1024}, std::size_t{8192}, std::size_t{14999}, std::size_t{29999}, x.size()}) {
            const std::vector<float> part(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n));
            quant::histogram_observer<Bins> whole, pieces;
            whole.observe(part);
            check_bins(whole, part);
            for (std::size_t at = 0; at < n; at += 333)
                pieces.observe(std::span<const float>(part).subspan(at, std::min<std::size_t>(333, n - at)));
            CHECK(pieces.state() == whole.state());
        }
    };
    check(std::integral_constant<std::size_t, 8>{});
    check(std::integral_constant<std::size_t, 2048>{});
    check(std::integral_constant<std::size_t, 65536>{});
    check(std::integral_constant<std::size_t, 131072>{}); // too many for steps
    const std::vector<float> constant(20000, -3.25f);
    quant::histogram_observer<> h;
    h.observe(constant);
    check_bins(h, constant);
}

TEST_CASE("a histogram grows without losing a count") {
    quant::histogram_observer<> h;
    std::vector<float> all;
    for (int k = -140; k <= 120; k += 13) {
        std::vector<float> batch = reference::gauss(100, static_cast<std::uint64_t>(200 + k));
        for (float& v : batch) v = std::ldexp(v, k);
        h.observe(batch);
        all.insert(all.end(), batch.begin(), batch.end());
        check_bins(h, all);
    }
    CHECK(h.range()->lo == static_cast<double>(*std::min_element(all.begin(), all.end())));
    CHECK(h.range()->hi == static_cast<double>(*std::max_element(all.begin(), all.end())));
    CHECK(quant::histogram_observer<>().range().status().code == errc::no_data);
}
