// SPDX-License-Identifier: MIT
// simd/batch.hpp, simd/tiles.hpp, simd/reduce.hpp: the same bytes on every architecture, equal to sums written out by hand.

#include "archs.hpp"
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>

#include <reference/statistics.hpp>

#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace simd = quant::simd;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }
std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

/// A copy that ends where its memory ends and starts at any alignment, for sanitizers to guard.
class guarded {
public:
    guarded(const std::vector<float>& from, std::size_t offset)
        : memory_(new float[from.size() + offset]), offset_(offset) {
        std::copy(from.begin(), from.end(), memory_.get() + offset);
    }
    const float* data() const { return memory_.get() + offset_; }

private:
    std::unique_ptr<float[]> memory_;
    std::size_t offset_;
};

/// Every length up to two groups and more, and the length of a tile.
template <class F> void for_lengths(F&& f) {
    for (std::size_t n = 0; n <= 2 * simd::virtual_lanes + 3; ++n) f(n, n % 16);
    f(std::size_t{1000}, std::size_t{3});
    f(std::size_t{1024}, std::size_t{0});
    f(std::size_t{1024}, std::size_t{5});
}

std::vector<float> finite_part(const std::vector<float>& x) {
    std::vector<float> out = x;
    for (float& v : out) v = std::isfinite(v) ? v : 0.0f;
    return out;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("floats widen to the same doubles through extensions and through memory", "", test::archs) {
    using arch = simd::reduction_arch_t<TestType>;
    constexpr std::size_t lanes = simd::pack_of<float, arch>::size, wide = simd::pack_of<double, arch>::size;
    const std::vector<float> x = reference::awkward(lanes * 50, 1);
    for (std::size_t i = 0; i < x.size(); i += lanes) {
        const auto a = simd::as_doubles<arch>(simd::load<arch>(x.data() + i));
        double out[lanes];
        for (std::size_t k = 0; k < simd::widened<arch>::count; ++k) simd::put(out + k * wide, a.part[k]);
        for (std::size_t k = 0; k < lanes; ++k) {
            if (std::isnan(x[i + k]))
                CHECK(std::isnan(out[k]));
            else
                CHECK(bits(out[k]) == bits(static_cast<double>(x[i + k])));
        }
#if QUANT_HAS_XSIMD
        if constexpr (!simd::is_scalar<arch>) {
            const auto b = simd::as_doubles_generic(simd::load<arch>(x.data() + i));
            for (std::size_t k = 0; k < simd::widened<arch>::count; ++k) {
                double other[wide];
                simd::put(other, b.part[k]);
                for (std::size_t j = 0; j < wide; ++j)
                    if (!std::isnan(other[j])) CHECK(bits(other[j]) == bits(out[k * wide + j]));
            }
        }
#endif
    }
}

TEMPLATE_LIST_TEST_CASE("moments add up in sixteen lanes and one tree", "", test::archs) {
    for (const float centre : {0.0f, 0.37f, -1e20f}) {
        for_lengths([&](std::size_t n, std::size_t offset) {
            const std::vector<float> x = reference::awkward(n, 100 + n);
            const guarded memory(x, offset);
            std::vector<double> value(n), square(n), deviation(n);
            std::uint32_t count = 0, positive = 0;
            float min = inf, max = -inf;
            for (std::size_t i = 0; i < n; ++i) {
                if (!std::isfinite(x[i])) continue;
                const auto v = static_cast<double>(x[i]);
                value[i] = v;
                square[i] = v * v; // exact
                deviation[i] = std::fabs(v - static_cast<double>(centre));
                ++count;
                positive += x[i] > 0 ? 1 : 0;
                min = std::fmin(min, x[i]);
                max = std::fmax(max, x[i]);
            }
            // What runs here, and the small loop of processors without SIMD.
            for (const auto& m : {simd::moments<TestType>(memory.data(), n, centre),
                                  simd::detail::plain_moments(memory.data(), n, centre)}) {
                CHECK(bits(m.sum) == bits(reference::sum_in_lanes(value)));
                CHECK(bits(m.squares) == bits(reference::sum_in_lanes(square)));
                CHECK(bits(m.abs_deviation) == bits(reference::sum_in_lanes(deviation)));
                CHECK(m.count == count);
                CHECK(m.non_finite == n - count);
                CHECK(m.positive == positive);
                CHECK(m.min == (count == 0 ? 0.0f : min));
                CHECK(m.max == (count == 0 ? 0.0f : max));
            }
        });
    }
}

TEMPLATE_LIST_TEST_CASE("extremes skip what is not finite and never are a negative zero", "", test::archs) {
    for_lengths([](std::size_t n, std::size_t offset) {
        const std::vector<float> x = reference::awkward(n, 200 + n);
        const guarded memory(x, offset);
        const simd::block_extremes e = simd::extremes<TestType>(memory.data(), n);
        float min = inf, max = -inf;
        std::uint32_t count = 0;
        for (const float v : x) {
            if (!std::isfinite(v)) continue;
            min = v < min ? v : min;
            max = v > max ? v : max;
            ++count;
        }
        CHECK(e.count == count);
        CHECK(e.non_finite == n - count);
        CHECK(e.min == (count == 0 ? 0.0f : min));
        CHECK(e.max == (count == 0 ? 0.0f : max));
    });
    for (std::size_t n = 1; n <= 35; ++n) {
        std::vector<float> zeros(n);
        for (std::size_t i = 0; i < n; ++i) zeros[i] = i % 2 == 0 ? -0.0f : 0.0f;
        const simd::block_extremes e = simd::extremes<TestType>(zeros.data(), n);
        CHECK(bits(e.min) == 0);
        CHECK(bits(e.max) == 0);
    }
    const std::vector<float> none(20, nan_value);
    const simd::block_extremes e = simd::extremes<TestType>(none.data(), none.size());
    CHECK(e.count == 0);
    CHECK(e.non_finite == 20);
    CHECK(e.min == 0);
    CHECK(e.max == 0);
}

TEMPLATE_LIST_TEST_CASE("one value that is not finite, anywhere in long finite data, changes the counts alone", "",
                        test::archs) {
    for (const std::size_t n : {std::size_t{63}, std::size_t{64}, std::size_t{1024}, std::size_t{20003}}) {
        std::vector<float> x = reference::gauss(n, 700 + n, 0.3);
        x[n / 3] = -77.5f;
        x[n / 2] = 99.25f;
        x[n / 2 + 1] = -0.0f;
        const auto check = [&](std::uint32_t non_finite) {
            const simd::block_extremes e = simd::extremes<TestType>(x.data(), n);
            const simd::block_moments m = simd::moments<TestType>(x.data(), n, 0.25f);
            std::vector<double> value(n), square(n), deviation(n);
            std::uint32_t positive = 0;
            for (std::size_t i = 0; i < n; ++i) {
                if (!std::isfinite(x[i])) continue;
                value[i] = static_cast<double>(x[i]);
                square[i] = value[i] * value[i];
                deviation[i] = std::fabs(value[i] - 0.25);
                positive += x[i] > 0 ? 1 : 0;
            }
            REQUIRE(e.non_finite == non_finite);
            REQUIRE(e.count == n - non_finite);
            REQUIRE(e.min == -77.5f);
            REQUIRE(e.max == 99.25f);
            REQUIRE(m.non_finite == non_finite);
            REQUIRE(m.count == n - non_finite);
            REQUIRE(m.positive == positive);
            REQUIRE(m.min == -77.5f);
            REQUIRE(m.max == 99.25f);
            REQUIRE(bits(m.sum) == bits(reference::sum_in_lanes(value)));
            REQUIRE(bits(m.squares) == bits(reference::sum_in_lanes(square)));
            REQUIRE(bits(m.abs_deviation) == bits(reference::sum_in_lanes(deviation)));
        };
        check(0);
        const float values[] = {nan_value, inf, -inf, -nan_value};
        for (std::size_t at = 0; at<n; at += n> 2000 ? 997 : 7) {
            if (at == n / 3 || at == n / 2) continue;
            const float kept = x[at];
            x[at] = values[at % 4];
            check(1);
            x[at] = kept;
        }
    }
    // The largest floats are finite, and so are the sums of their squares.
    const std::vector<float> large(1024, -std::numeric_limits<float>::max());
    CHECK(simd::extremes<TestType>(large.data(), large.size()).count == 1024);
    CHECK(simd::moments<TestType>(large.data(), large.size()).count == 1024);
    CHECK(simd::moments<TestType>(large.data(), large.size()).min == -std::numeric_limits<float>::max());
}

TEMPLATE_LIST_TEST_CASE("tails count what lies beyond a limit, exclusively", "", test::archs) {
    for (const double alpha : {0.0, 0.25, 1e9, 1e39}) {
        for (const auto side : {simd::tail_side::magnitude, simd::tail_side::positive}) {
            for_lengths([&](std::size_t n, std::size_t offset) {
                std::vector<float> x = reference::awkward(n, 300 + n);
                if (n > 4) x[3] = -0.25f, x[4] = 0.25f;
                const guarded memory(x, offset);
                const simd::block_tail tail = simd::tail_sums<TestType>(memory.data(), n, alpha, side);
                std::vector<double> beyond(n);
                std::uint32_t count = 0;
                for (std::size_t i = 0; i < n; ++i) {
                    const double v = static_cast<double>(side == simd::tail_side::magnitude ? std::fabs(x[i]) : x[i]);
                    if (!std::isfinite(v) || !(v > alpha)) continue;
                    beyond[i] = v;
                    ++count;
                }
                CHECK(tail.count == count);
                CHECK(bits(tail.sum) == bits(reference::sum_in_lanes(beyond)));
            });
        }
    }
}

TEMPLATE_LIST_TEST_CASE("thin tails, what lies just below them, and the elements beyond", "", test::archs) {
    for (const std::size_t n : {std::size_t{31}, std::size_t{64}, std::size_t{1000}, std::size_t{5003}}) {
        std::vector<float> x = reference::gauss(n, 320 + n);
        for (const bool with_specials : {false, true}) {
            if (with_specials) x[n / 2] = inf, x[n / 3] = nan_value, x[n / 4] = -inf;
            for (const double lo : {0.0, 0.5, 2.0, 3.1, 50.0}) {
                const double hi = lo + 0.01;
                for (const auto side : {simd::tail_side::magnitude, simd::tail_side::positive}) {
                    std::vector<double> beyond(n);
                    std::vector<float> between;
                    std::uint32_t count = 0;
                    for (std::size_t i = 0; i < n; ++i) {
                        const float v = side == simd::tail_side::magnitude ? std::fabs(x[i]) : x[i];
                        if (!std::isfinite(v)) continue;
                        const auto w = static_cast<double>(v);
                        if (w > hi) beyond[i] = w, ++count;
                        if (w > lo && w <= hi) between.push_back(v);
                    }
                    simd::element_window window;
                    const simd::block_tail tail = simd::tail_and_window<TestType>(x.data(), n, lo, hi, side, window);
                    REQUIRE(tail.count == count);
                    REQUIRE(bits(tail.sum) == bits(reference::sum_in_lanes(beyond)));
                    REQUIRE(std::vector<float>(window.value, window.value + window.count) == between);
                }
                std::vector<float> selected(n + simd::virtual_lanes), expected;
                for (const float v : x)
                    if (std::fabs(v) > static_cast<float>(lo)) expected.push_back(v);
                selected.resize(simd::select_beyond<TestType>(x.data(), n, static_cast<double>(static_cast<float>(lo)),
                                                              selected.data()));
                REQUIRE(selected == expected);
            }
        }
    }
    // More than the window holds is counted, not written.
    const std::vector<float> same(1000, -0.5f);
    simd::element_window window;
    CHECK(simd::tail_and_window<TestType>(same.data(), 1000, 0.4, 0.5, simd::tail_side::magnitude, window).count == 0);
    CHECK(window.count == 1000);
}

#if QUANT_HAS_XSIMD
TEMPLATE_LIST_TEST_CASE("packs write what fulfils a condition through extensions and through memory", "", test::archs) {
    if constexpr (!simd::is_scalar<simd::reduction_arch_t<TestType>>) {
        using arch = simd::reduction_arch_t<TestType>;
        constexpr std::size_t lanes = simd::pack_of<float, arch>::size;
        const std::vector<float> x = reference::gauss(lanes * 200, 3);
        for (std::size_t i = 0; i < x.size(); i += lanes) {
            const auto v = simd::load<arch>(x.data() + i);
            const auto condition = v > simd::pack<float, arch>(0.4f);
            std::vector<float> a(2 * lanes), b(2 * lanes), expected;
            for (std::size_t k = 0; k < lanes; ++k)
                if (x[i + k] > 0.4f) expected.push_back(x[i + k]);
            a.resize(simd::put_where(a.data(), v, condition));
            b.resize(simd::put_where_generic(b.data(), v, condition));
            CHECK(a == expected);
            CHECK(b == expected);
        }
    }
}
#endif

TEST_CASE("limits in double become limits in float that the same elements exceed") {
    using simd::detail::float_at_most;
    CHECK(float_at_most(0.0) == 0.0f);
    CHECK(float_at_most(0.25) == 0.25f);
    CHECK(static_cast<double>(float_at_most(0.1)) < 0.1);
    CHECK(static_cast<double>(std::nextafter(float_at_most(0.1), 1.0f)) > 0.1);
    CHECK(float_at_most(1e-60) == 0.0f);
    CHECK(float_at_most(0x1.8p-149) == 0x1p-149f);
    CHECK(float_at_most(1e39) == std::numeric_limits<float>::max());
    CHECK(float_at_most(static_cast<double>(inf)) == std::numeric_limits<float>::max());
    CHECK(float_at_most(0x1.fffffefp127) == std::numeric_limits<float>::max());
    using simd::detail::float_at_least;
    CHECK(bits(float_at_least(0.0)) << 1 == 0);
    CHECK(float_at_least(0.25) == 0.25f);
    CHECK(float_at_least(-0.25) == -0.25f);
    CHECK(float_at_least(0.1) == std::nextafter(float_at_most(0.1), 1.0f));
    CHECK(float_at_least(-0.1) == -float_at_most(0.1));
    CHECK(float_at_least(1e-60) == 0x1p-149f);
    CHECK(float_at_least(-1e-60) == 0.0f);
    CHECK(float_at_least(1e39) == inf);
    CHECK(float_at_least(-1e39) == -std::numeric_limits<float>::max());
}

TEMPLATE_LIST_TEST_CASE("elements outside a range are counted exactly", "", test::archs) {
    for_lengths([](std::size_t n, std::size_t offset) {
        std::vector<float> x = reference::awkward(n, 400 + n);
        if (n > 2) x[0] = 0.5f, x[1] = -0.25f, x[2] = std::nextafter(0.5f, 1.0f);
        const guarded memory(x, offset);
        std::uint32_t count = 0;
        for (const float v : x)
            if (std::isfinite(v) && (static_cast<double>(v) < -0.25 || static_cast<double>(v) > 0.5)) ++count;
        CHECK(simd::count_outside<TestType>(memory.data(), n, -0.25, 0.5) == count);
        for (const double lo : {-1e300, -3e38, -0.1, 0.0, 0.3})
            for (const double hi : {lo, 0.1, 1e38, 1e300}) {
                count = 0;
                for (const float v : x)
                    if (std::isfinite(v) && (static_cast<double>(v) < lo || static_cast<double>(v) > hi)) ++count;
                CHECK(simd::count_outside<TestType>(memory.data(), n, lo, hi) == count);
            }
    });
}

TEMPLATE_LIST_TEST_CASE("a step of the histogram counts one block and finds the bins of the next", "", test::archs) {
    using arch = simd::reduction_arch_t<TestType>;
    constexpr std::size_t size = simd::histogram_step_size;
    for (const std::uint32_t half : {4u, 64u, 32768u}) {
        const float inverse_width = static_cast<float>(half) / 16.0f;
        std::vector<float> a = reference::gauss(size, 71), b = reference::laplace(size, 72, 0.5);
        for (std::size_t i = 0; i < size; i += 5) a[i] = i % 2 == 0 ? 0.0f : -0.0f;
        a[1] = 1e-45f;
        a[2] = -1e-45f;
        a[3] = std::nextafter(16.0f, 0.0f);
        a[4] = -a[3];
        std::vector<std::uint64_t> expected(std::size_t{2} * half);
        std::uint64_t zeros = 0;
        for (const std::vector<float>* x : {&a, &b})
            for (const float v : *x) {
                const auto steps = static_cast<std::uint32_t>(std::fabs(v) * inverse_width);
                ++expected[v < 0 ? half - 1 - steps : half + steps];
                zeros += v == 0 ? 1 : 0;
            }
        std::vector<std::int32_t> first(size / 2), second(size / 2);
        std::vector<std::uint64_t> bins(std::size_t{2} * half);
        simd::histogram_lanes<arch> found;
        CHECK(simd::histogram_step<arch, true, false>(a.data(), inverse_width, half, first.data(), nullptr, nullptr,
                                                      found));
        float lo = 0, hi = 0;
        found.extremes.total(lo, hi);
        CHECK(lo == a[4]);
        CHECK(hi == a[3]);
        CHECK(simd::histogram_step<arch, true, true>(b.data(), inverse_width, half, second.data(), first.data(),
                                                     bins.data(), found));
        // Data that do not fit, or are not finite, are reported and leave no trace.
        std::vector<std::int32_t> unused(size / 2);
        for (const float bad : {16.0f, -16.0f, 3e38f, -3e38f, inf, -inf, nan_value, -nan_value})
            for (const std::size_t at : {std::size_t{0}, std::size_t{777}, size - 1}) {
                std::vector<float> c = b;
                c[at] = bad;
                CHECK(!simd::histogram_step<arch, true, false>(c.data(), inverse_width, half, unused.data(), nullptr,
                                                               nullptr, found));
            }
        CHECK(simd::histogram_step<arch, false, true>(nullptr, inverse_width, half, nullptr, second.data(), bins.data(),
                                                      found));
        CHECK(found.settle(bins.data(), half) == zeros);
        CHECK(bins == expected);
        CHECK(found.settle(bins.data(), half) == 0);
        found.extremes.total(lo, hi);
        CHECK(lo == a[4]);
        CHECK(hi == a[3]);
    }
}

TEMPLATE_LIST_TEST_CASE("error sums skip pairs with a value that is not finite", "", test::archs) {
    for_lengths([](std::size_t n, std::size_t offset) {
        const bool all_finite = n % 2 == 0;
        const std::vector<float> a =
            all_finite ? finite_part(reference::awkward(n, 500 + n)) : reference::awkward(n, 500 + n);
        std::vector<float> b = all_finite ? reference::gauss(n, 600 + n) : reference::awkward(n, 600 + n);
        for (std::size_t i = 0; i < n; i += 2)
            b[i] = std::fabs(a[i]) < 1e38f ? a[i] * 1.01f : 1.0f; // usual errors as well
        const guarded left(a, offset), right(b, (offset + 7) % 16);
        const simd::block_errors e = simd::error_sums<TestType>(left.data(), right.data(), n);
        std::vector<double> squared(n), original(n), restored(n), product(n);
        double largest = 0;
        std::uint32_t count = 0;
        for (std::size_t i = 0; i < n; ++i) {
            if (!std::isfinite(a[i]) || !std::isfinite(b[i])) continue;
            const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
            // 26 significant bits, cut off toward zero.
            int exponent = 0;
            const double fraction = std::frexp(x - y, &exponent);
            const double cut = std::ldexp(std::trunc(std::ldexp(fraction, 26)), exponent - 26);
            squared[i] = cut * cut;
            original[i] = x * x;
            restored[i] = y * y;
            product[i] = x * y;
            largest = std::fmax(largest, std::fabs(x - y));
            ++count;
        }
        CHECK(e.count == count);
        CHECK(e.non_finite == n - count);
        CHECK(bits(e.squared_error) == bits(reference::sum_in_lanes(squared)));
        CHECK(bits(e.squared_original) == bits(reference::sum_in_lanes(original)));
        CHECK(bits(e.squared_restored) == bits(reference::sum_in_lanes(restored)));
        CHECK(bits(e.product) == bits(reference::sum_in_lanes(product)));
        CHECK(e.max_abs_error == largest);
    });
}

TEMPLATE_LIST_TEST_CASE("histogram bins are those of exact arithmetic", "", test::archs) {
    for (const int k : {-126, -20, 0, 117}) {
        constexpr std::uint32_t half = 1024;
        for_lengths([&](std::size_t n, std::size_t offset) {
            std::vector<float> x = reference::awkward(n, 700 + n);
            for (float& v : x) // into the covered range, edges included
                if (std::isfinite(v) && std::fabs(std::ldexp(static_cast<double>(v), -k)) >= 1024)
                    v = std::copysign(std::ldexp(std::fmod(std::fabs(v), 1024.0f), k), v);
            if (n > 3) x[1] = std::ldexp(-3.0f, k), x[2] = std::ldexp(3.0f, k), x[3] = std::ldexp(1023.99f, k);
            const guarded memory(x, offset);
            std::vector<std::int32_t> bin(n);
            simd::histogram_bins<TestType>(memory.data(), n, std::ldexp(1.0f, -k), half, bin.data());
            for (std::size_t i = 0; i < n; ++i) {
                if (!std::isfinite(x[i])) {
                    CHECK(bin[i] == 2048);
                    continue;
                }
                const long double steps = std::floor(std::ldexp(static_cast<long double>(std::fabs(x[i])), -k));
                CHECK(bin[i] == static_cast<std::int32_t>(x[i] < 0 ? 1023 - steps : 1024 + steps));
            }
        });
    }
}

TEST_CASE("tiles follow the logical order, whatever the layout") {
    constexpr std::size_t rows = 37, columns = 71;
    std::vector<float> row_major(rows * columns), column_major(rows * columns), sparse(rows * columns * 3);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
            const auto v = static_cast<float>(r * columns + c);
            row_major[r * columns + c] = v;
            column_major[c * rows + r] = v;
            sparse[(r * columns + c) * 3] = v;
        }
    const auto check = [&](auto view) {
        std::vector<float> seen;
        std::vector<std::size_t> lengths;
        simd::for_each_tile(view, [&](const float* p, std::size_t n) {
            seen.insert(seen.end(), p, p + n);
            lengths.push_back(n);
        });
        CHECK(seen == row_major);
        CHECK(lengths == std::vector<std::size_t>{1024, 1024, rows * columns - 2048});
        seen.clear();
        simd::for_each_run(view, [&](const float* p, std::size_t n) { seen.insert(seen.end(), p, p + n); });
        CHECK(seen == row_major);
    };
    using view2 = quant::tensor_view<const float, 2>;
    check(view2(row_major.data(), {rows, columns}));
    check(view2(column_major.data(), {rows, columns}, {1, rows}));
    check(view2(sparse.data(), {rows, columns}, {3 * columns, 3}));
    check(quant::tensor_view<const float, 1>(sparse.data(), {rows * columns}, {3}));
    check(quant::tensor_view<const float, 4>(row_major.data(), {1, rows, 1, columns}));
    check(quant::tensor_view<const float, 3>(row_major.data(), {rows, columns, 1}, {columns, 1, 999}));

    // A padded row: two halves of every other row would do; here the rows of a wider tensor.
    std::vector<float> padded(rows * 100, -1.0f);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) padded[r * 100 + c] = row_major[r * columns + c];
    check(view2(padded.data(), {rows, columns}, {100, 1}));

    std::size_t calls = 0;
    simd::for_each_tile(view2(row_major.data(), {0, columns}), [&](const float*, std::size_t) { ++calls; });
    simd::for_each_tile(quant::tensor_view<const float, 3>(), [&](const float*, std::size_t) { ++calls; });
    CHECK(calls == 0);
}

TEST_CASE("dense floats are handed out in place") {
    const std::vector<float> x = finite_part(reference::awkward(3000, 1));
    std::size_t at = 0;
    simd::for_each_tile(quant::tensor_view<const float, 1>(x.data(), {x.size()}), [&](const float* p, std::size_t n) {
        CHECK(p == x.data() + at);
        at += n;
    });
    CHECK(at == 3000);
}

TEST_CASE("runs are as long as the elements lie densely, up to the limit") {
    const std::vector<float> x(simd::run_size + 5000);
    std::vector<std::size_t> lengths;
    const auto note = [&](const float*, std::size_t n) { lengths.push_back(n); };
    simd::for_each_run(quant::tensor_view<const float, 1>(x.data(), {x.size()}), note);
    CHECK(lengths == std::vector<std::size_t>{simd::run_size, 5000});
    lengths.clear();
    simd::for_each_run(quant::tensor_view<const float, 2>(x.data(), {3, 2000}, {2500, 1}), note); // rows with gaps
    CHECK(lengths == std::vector<std::size_t>{2000, 2000, 2000});
    lengths.clear();
    simd::for_each_run(quant::tensor_view<const float, 2>(x.data(), {3, 0}), note);
    CHECK(lengths.empty());
}

TEST_CASE("tiles convert halves exactly and doubles to the nearest float") {
    const std::vector<double> wide{1.0, 1.0 + 0x1p-24, 1.0 + 0x1.8p-23, 1e39, -1e39, 0x1p-150, 0x1.8p-149};
    std::vector<float> seen;
    simd::for_each_tile(quant::tensor_view<const double, 1>(wide.data(), {wide.size()}),
                        [&](const float* p, std::size_t n) { seen.assign(p, p + n); });
    CHECK(seen == std::vector<float>{1.0f, 1.0f, 1.0f + 0x1p-22f, inf, -inf, 0.0f, 0x1p-148f});

    const std::vector<quant::float16> half{{0x3C00}, {0x0001}, {0xFBFF}, {0x7C00}};
    simd::for_each_tile(quant::tensor_view<const quant::float16, 1>(half.data(), {half.size()}),
                        [&](const float* p, std::size_t n) { seen.assign(p, p + n); });
    CHECK(seen == std::vector<float>{1.0f, 0x1p-24f, -65504.0f, inf});

    const std::vector<quant::bfloat16> brain{{0x3F80}, {0x0001}, {0xFF7F}};
    simd::for_each_tile(quant::tensor_view<const quant::bfloat16, 1>(brain.data(), {brain.size()}),
                        [&](const float* p, std::size_t n) { seen.assign(p, p + n); });
    CHECK(seen == std::vector<float>{1.0f, 0x1p-133f, -0x1.FEp127f});
}

TEST_CASE("two views of different layout and type run side by side") {
    constexpr std::size_t rows = 50, columns = 45;
    std::vector<float> a(rows * columns);
    std::vector<double> b(rows * columns);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
            a[r * columns + c] = static_cast<float>(r * columns + c);
            b[c * rows + r] = static_cast<double>(r * columns + c);
        }
    std::size_t elements = 0;
    bool equal = true;
    simd::for_each_tile(quant::tensor_view<const float, 2>(a.data(), {rows, columns}),
                        quant::tensor_view<const double, 2>(b.data(), {rows, columns}, {1, rows}),
                        [&](const float* p, const float* q, std::size_t n) {
                            for (std::size_t i = 0; i < n; ++i) equal = equal && p[i] == q[i];
                            elements += n;
                        });
    CHECK(equal);
    CHECK(elements == rows * columns);
}
