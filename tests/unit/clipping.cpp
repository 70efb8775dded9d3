// SPDX-License-Identifier: MIT
// calibrate/clipping.hpp against sorted data, brute force on the data themselves, and the procedures written out.

#include <quant/calibrate/clipping.hpp>
#include <quant/calibrate/moments.hpp>

#include <reference/statistics.hpp>

#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

using quant::clip_range;
using quant::code_format;
using quant::errc;
using quant::mapping;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

quant::histogram_observer<> observed(const std::vector<float>& x) {
    quant::histogram_observer<> h;
    h.observe(x);
    return h;
}

/// Error of the data themselves with the parameters a range gives, by the definition of quantization.
double true_mse(const std::vector<float>& x, clip_range range, code_format f, mapping map) {
    const auto p = quant::choose_params(range, f, map);
    REQUIRE(p);
    return reference::quantization_mse(x, static_cast<double>(p->scale), p->format.qmin() - p->zero_point,
                                       p->format.qmax() - p->zero_point);
}

std::vector<float> relu(std::vector<float> x) {
    for (float& v : x) v = std::max(v, 0.0f);
    return x;
}

} // namespace

TEST_CASE("min/max keeps everything, from any source") {
    const std::vector<float> x{-1.5f, 0.25f, 4.0f};
    quant::minmax_observer m;
    m.observe(x);
    quant::moving_average_minmax_observer average(0.5);
    average.observe(x);
    const clip_range all{-1.5, 4.0};
    CHECK(*quant::minmax.clip(m, quant::int8, mapping::symmetric) == all);
    CHECK(*quant::minmax.clip(average, quant::int8, mapping::affine) == all);
    CHECK(*quant::minmax.clip(observed(x), quant::int8, mapping::affine) == all);
    CHECK(*quant::minmax.clip(quant::measure_statistics(x), quant::int8, mapping::affine) == all);
    CHECK(quant::minmax.clip(quant::tensor_statistics{}, quant::int8, mapping::affine).status().code == errc::no_data);
    CHECK(quant::minmax.clip(quant::minmax_observer{}, quant::int8, mapping::affine).status().code == errc::no_data);
}

TEST_CASE("strict calibrators refuse data with values that are not finite, and none accepts no data") {
    const auto h = observed({1, 2, nan_value, 3});
    const quant::histogram_observer<> empty;
    const auto check = [&](auto clipping) {
        CHECK(clipping.clip(h, quant::int8, mapping::symmetric));
        CHECK(clipping.strict().clip(h, quant::int8, mapping::symmetric).status().code == errc::non_finite);
        CHECK(clipping.strict().clip(observed({1, 2}), quant::int8, mapping::symmetric));
        CHECK(clipping.clip(empty, quant::int8, mapping::affine).status().code == errc::no_data);
        CHECK(clipping.clip(h, code_format{9, true, false}, mapping::affine).status().code == errc::bits_out_of_range);
    };
    check(quant::minmax);
    check(quant::percentile(99));
    check(quant::mse_optimal);
    check(quant::entropy);
    for (const double percent : {0.0, -1.0, 100.1, std::numeric_limits<double>::quiet_NaN()}) {
        const auto s = quant::percentile(percent).clip(h, quant::int8, mapping::affine).status();
        CHECK(s.code == errc::invalid_argument);
        CHECK(std::string(s.argument) == "percent");
    }
}

TEST_CASE("every calibrator stays within the data widened to zero") {
    const std::vector<std::vector<float>> tensors{{3.0f},
                                                  {-3.0f},
                                                  {0.0f, 0.0f},
                                                  std::vector<float>(100, 0.7f),
                                                  {-1.0f, 1e-6f},
                                                  {5.0f, 5.5f, 6.0f},
                                                  reference::gauss(1000, 1),
                                                  relu(reference::laplace(1000, 2)),
                                                  {1e-40f, -1e-40f},
                                                  {std::numeric_limits<float>::max(), -1.0f}};
    for (const auto& x : tensors) {
        const auto h = observed(x);
        const double lo = std::min(h.range()->lo, 0.0), hi = std::max(h.range()->hi, 0.0);
        for (const code_format f :
             {quant::int1, quant::int2, quant::int8, quant::int4.narrow(), quant::uint1, quant::uint8, quant::int16}) {
            for (const mapping map : {mapping::symmetric, mapping::affine}) {
                const auto check = [&](auto clipping) {
                    const auto r = clipping.clip(h, f, map);
                    REQUIRE(r);
                    CHECK(r->lo <= 0);
                    CHECK(r->lo >= lo);
                    CHECK(r->hi >= 0);
                    CHECK(r->hi <= hi);
                };
                check(quant::percentile(100));
                check(quant::percentile(90));
                check(quant::mse_optimal);
                check(quant::entropy);
            }
        }
    }
}

TEST_CASE("percentiles lie within a bin of the sorted data") {
    const auto quantile = [](std::vector<float> x,
                             double kept) { // the value that kept * n of the elements do not exceed
        std::sort(x.begin(), x.end());
        const auto beyond = static_cast<std::size_t>(std::ceil(static_cast<double>(x.size()) * (1 - kept) - 1e-9));
        return static_cast<double>(beyond == 0 ? x.back() : x[x.size() - beyond]);
    };
    const auto magnitudes = [](std::vector<float> x) {
        for (float& v : x) v = std::fabs(v);
        return x;
    };
    const auto negated = [](std::vector<float> x) {
        for (float& v : x) v = -v;
        return x;
    };
    for (const auto& x : {reference::gauss(20001, 1, 0.5), reference::laplace(20000, 2), reference::gauss(300, 3)}) {
        const auto h = observed(x);
        for (const double percent : {50.0, 90.0, 99.0, 99.9, 100.0}) {
            const auto p = quant::percentile(percent);
            const double share = percent / 100;
            const auto symmetric = p.clip(h, quant::int8, mapping::symmetric);
            CHECK_THAT(symmetric->hi,
                       Catch::Matchers::WithinAbs(std::min(quantile(magnitudes(x), share), h.range()->hi), h.width()));
            CHECK_THAT(-symmetric->lo,
                       Catch::Matchers::WithinAbs(std::min(quantile(magnitudes(x), share), -h.range()->lo), h.width()));
            const auto affine = p.clip(h, quant::int8, mapping::affine);
            CHECK_THAT(affine->hi, Catch::Matchers::WithinAbs(quantile(x, 0.5 + share / 2), h.width()));
            CHECK_THAT(-affine->lo, Catch::Matchers::WithinAbs(quantile(negated(x), 0.5 + share / 2), h.width()));
            const auto positive = p.clip(h, quant::uint8, mapping::symmetric);
            CHECK(positive->lo == 0);
            CHECK_THAT(positive->hi, Catch::Matchers::WithinAbs(std::max(quantile(x, share), 0.0), h.width()));
        }
    }
    // Data of one sign are cut at their one end only.
    const std::vector<float> one_sided = relu(reference::gauss(20000, 4));
    const auto h = observed(one_sided);
    const auto r = quant::percentile(99).clip(h, quant::uint8, mapping::affine);
    CHECK(r->lo == 0);
    CHECK_THAT(r->hi, Catch::Matchers::WithinAbs(quantile(one_sided, 0.99), h.width()));
    const auto mirrored = quant::percentile(99).clip(observed(negated(one_sided)), quant::uint8, mapping::affine);
    CHECK(mirrored->hi == 0);
    CHECK(mirrored->lo == -r->hi);
    // Half of the data is exactly zero: so is the median.
    CHECK(quant::percentile(40).clip(h, quant::uint8, mapping::affine)->hi == 0);
}

TEST_CASE("the error of a histogram is the error of evenly spread elements") {
    // Dense even data: inside the codes' range the error is scale^2 / 12.
    std::vector<float> x(1 << 18);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (static_cast<float>(i) + 0.5f) * 0x1p-17f - 1.0f; // (-1, 1)
    const auto h = observed(x);
    for (const int bits : {3, 5, 8, 16}) { // also steps narrower than a bin
        const auto qmax = static_cast<float>((1 << (bits - 1)) - 1);
        const quant::affine_params p{1.0f / (qmax + 0.5f), 0, code_format{static_cast<std::uint8_t>(bits), true, true}};
        const double scale = static_cast<double>(p.scale);
        CHECK_THAT(quant::histogram_mse(h, p), Catch::Matchers::WithinRel(scale * scale / 12, 1e-5));
    }
    // Clipping at half of the range: the outer half of the elements is off by u(0, 1/2), squared mean 1/12.
    const quant::affine_params half{0.5f / 127, 0, quant::int8.narrow()};
    const double scale = static_cast<double>(half.scale);
    CHECK_THAT(quant::histogram_mse(h, half), Catch::Matchers::WithinRel(0.5 * scale * scale / 12 + 0.5 / 12, 1e-3));
    // The same for real samples, with an offset of the codes.
    const std::vector<float> g = reference::gauss(30000, 5, 0.4);
    for (const clip_range r : {clip_range{-2, 3}, clip_range{-1, 1.5}, clip_range{-6, 6}}) {
        for (const code_format f : {quant::uint2, quant::uint4, quant::int8}) {
            const auto p = quant::choose_params(r, f, mapping::affine);
            CHECK_THAT(quant::histogram_mse(observed(g), *p),
                       Catch::Matchers::WithinRel(true_mse(g, r, f, mapping::affine), 0.01));
        }
    }
    CHECK(quant::histogram_mse(quant::histogram_observer<>{}, half) == 0);
}

TEST_CASE("the error by sums over the codes is the error of the bins one by one") {
    // Every bin cut at the borders of the codes' cells, in long double.
    const auto reference_mse = [](const quant::histogram_observer<>& h, const quant::affine_params& p) {
        const auto scale = static_cast<long double>(p.scale);
        const long double min = static_cast<long double>(h.state().min), max = static_cast<long double>(h.state().max);
        long double total = 0;
        for (std::size_t b = 0; b < 2048; ++b) {
            const auto count = static_cast<long double>(h[b] - (b == 1024 ? h.zeros() : 0));
            if (count == 0) continue;
            const long double lo = std::max(static_cast<long double>(h.edge(b)), min);
            const long double hi = std::min(static_cast<long double>(h.edge(b + 1)), max);
            const auto error_in = [&](long double from, long double to) { // one cell
                const long double middle = (from + to) / 2 / scale;
                const long double code =
                    std::min(std::max(std::nearbyint(middle), static_cast<long double>(p.format.qmin() - p.zero_point)),
                             static_cast<long double>(p.format.qmax() - p.zero_point));
                const long double a = from - code * scale, b_ = to - code * scale;
                return (b_ * b_ * b_ - a * a * a) / 3;
            };
            if (!(lo < hi)) {
                const long double code = std::min(
                    std::max(std::nearbyint(lo / scale), static_cast<long double>(p.format.qmin() - p.zero_point)),
                    static_cast<long double>(p.format.qmax() - p.zero_point));
                total += count * (lo - code * scale) * (lo - code * scale);
                continue;
            }
            long double inside = 0, from = lo;
            for (long double border = (std::floor(lo / scale - 0.5L) + 1.5L) * scale; border < hi; border += scale) {
                inside += error_in(from, border);
                from = border;
            }
            inside += error_in(from, hi);
            total += count * inside / (hi - lo);
        }
        return static_cast<double>(total / static_cast<long double>(h.count()));
    };
    std::vector<float> far = reference::gauss(3000, 84);
    far.push_back(-300.0f);
    std::vector<float> negative = reference::gauss(3000, 85, -9.0, 0.7);
    for (const auto& x :
         {reference::gauss(20000, 81, 0.3), reference::laplace(5000, 82), relu(reference::gauss(3000, 83)), far,
          negative, reference::gauss(3000, 86, 5.0, 0.1), reference::gauss(3, 87)}) {
        const auto h = observed(x);
        const quant::detail::error_model model(h);
        for (const code_format f :
             {quant::int2, quant::int3.narrow(), quant::int4, quant::int8, quant::uint4, quant::uint8}) {
            for (const float scale : {0.003f, 0.01f, 0.0371f, 0.2f, 1.0f, 3.7f, 50.0f}) {
                for (const std::int32_t zero_point : {f.qmin(), (f.qmin() + f.qmax()) / 2, f.qmax()}) {
                    const quant::affine_params p{scale, zero_point, f};
                    const double expected = reference_mse(h, p);
                    const double data = static_cast<double>(std::max(-h.state().min, h.state().max));
                    CHECK_THAT(model(p), Catch::Matchers::WithinRel(expected, 1e-9) ||
                                             Catch::Matchers::WithinAbs(expected, 1e-12 * data * data));
                    CHECK_THAT(quant::histogram_mse(h, p), Catch::Matchers::WithinRel(expected, 1e-9));
                }
            }
        }
    }
    // Point masses, which have no width to spread over.
    for (const auto& x : {std::vector<float>{3.25f}, std::vector<float>{-200.0f, -200.0f}, std::vector<float>(7)}) {
        const auto h = observed(x);
        const quant::detail::error_model model(h);
        for (const float scale : {0.25f, 1.0f, 7.0f}) {
            const quant::affine_params p{scale, 0, quant::int8};
            CHECK_THAT(model(p), Catch::Matchers::WithinRel(quant::histogram_mse(h, p), 1e-12));
        }
    }
}

TEST_CASE("the error-optimal ranges of several formats at once are those of one after the other") {
    const auto h = observed(reference::laplace(20000, 91));
    const std::vector<code_format> formats{quant::int2, quant::int3, quant::int4.narrow(), quant::int8, quant::uint4};
    for (const mapping map : {mapping::symmetric, mapping::affine}) {
        std::vector<clip_range> ranges(formats.size());
        REQUIRE(quant::mse_optimal.clip(h, formats, map, ranges));
        for (std::size_t i = 0; i < formats.size(); ++i)
            CHECK(ranges[i] == *quant::mse_optimal.clip(h, formats[i], map));
    }
    std::vector<clip_range> few(2);
    CHECK(quant::mse_optimal.clip(h, formats, mapping::affine, few).code == errc::shape_mismatch);
    few.resize(5);
    CHECK(quant::mse_optimal.clip(quant::histogram_observer<>(), formats, mapping::affine, few).code == errc::no_data);
}

TEST_CASE("exact zeros and single values have their own error, not that of a bin") {
    CHECK(quant::histogram_mse(observed(std::vector<float>(10)), {1.0f, 0, quant::int8}) == 0);
    CHECK(quant::histogram_mse(observed({3.0f}), {1.0f, 0, quant::int8}) == 0);
    CHECK(quant::histogram_mse(observed({3.25f}), {1.0f, 0, quant::int8}) == 0.0625);
    CHECK(quant::histogram_mse(observed({-200.0f}), {1.0f, 0, quant::int8}) == 72.0 * 72.0);
}

TEST_CASE("the error-optimal symmetric range is within 1 % of brute force on the data") {
    for (const auto& x : {reference::gauss(20000, 11), reference::laplace(20000, 12),
                          relu(reference::laplace(20000, 13)), reference::gauss(6000, 14, 0.8)}) {
        const auto h = observed(x);
        const double reach = std::max(-h.range()->lo, h.range()->hi);
        for (const code_format f :
             {quant::int2, quant::int3, quant::int4, quant::int4.narrow(), quant::int8, quant::uint4}) {
            const auto r = quant::mse_optimal.clip(h, f, mapping::symmetric);
            REQUIRE(r);
            double best = true_mse(x, *h.range(), f, mapping::symmetric);
            for (int k = 1; k <= 200; ++k) {
                const double step = reach * k / 200 / f.qmax();
                best = std::min(best, true_mse(x, {f.qmin() * step, f.qmax() * step}, f, mapping::symmetric));
            }
            CHECK(true_mse(x, *r, f, mapping::symmetric) <= 1.01 * best);
        }
    }
}

TEST_CASE("the error-optimal affine range is within 1 % of brute force on the data") {
    for (const auto& x :
         {reference::gauss(2000, 21, 0.5), reference::laplace(2000, 22), relu(reference::gauss(2000, 23))}) {
        const auto h = observed(x);
        for (const code_format f : {quant::uint2, quant::int4, quant::uint8}) {
            const auto r = quant::mse_optimal.clip(h, f, mapping::affine);
            REQUIRE(r);
            double best = std::numeric_limits<double>::infinity();
            for (int i = 0; i <= 25; ++i)
                for (int j = 1; j <= 25; ++j)
                    best = std::min(best,
                                    true_mse(x, {h.range()->lo * i / 25, h.range()->hi * j / 25}, f, mapping::affine));
            CHECK(true_mse(x, *r, f, mapping::affine) <= 1.01 * best);
        }
    }
}

TEST_CASE("the error-optimal range lets a far outlier go") {
    std::vector<float> x = reference::gauss(100000, 31);
    x.push_back(40.0f);
    const auto r = quant::mse_optimal.clip(observed(x), quant::int4, mapping::symmetric);
    CHECK(r->hi > 2);
    CHECK(r->hi < 6);
    // A tensor that lies on the grid keeps the grid: the error is zero.
    std::vector<float> grid;
    for (int i = -7; i <= 7; ++i) grid.insert(grid.end(), 50, static_cast<float>(i) * 0.5f);
    const auto kept = quant::mse_optimal.clip(observed(grid), quant::int4.narrow(), mapping::symmetric);
    CHECK_THAT(kept->hi, Catch::Matchers::WithinRel(3.5, 0.01));
}

TEST_CASE("entropy selects the bins that the procedure written out selects") {
    const auto check = [](const std::vector<float>& x, code_format f, mapping map, bool below, bool above,
                          std::size_t levels) {
        quant::histogram_observer<512> h;
        h.observe(x);
        std::vector<std::uint64_t> folded(256);
        for (std::size_t i = 0; i < 256; ++i) folded[i] = (above ? h[256 + i] : 0) + (below ? h[255 - i] : 0);
        if (above) folded[0] -= h.zeros();
        const double expected = static_cast<double>(reference::entropy_bins(folded, levels)) * h.width();
        const auto r = quant::entropy.clip(h, f, map);
        REQUIRE(r);
        CHECK(r->hi == (above ? std::min(expected, std::max(h.range()->hi, 0.0)) : 0.0));
        CHECK(r->lo == (below ? std::max(-expected, std::min(h.range()->lo, 0.0)) : 0.0));
    };
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        const std::vector<float> g = reference::gauss(20000, seed, 0.1 * static_cast<double>(seed));
        const std::vector<float> l = reference::laplace(20000, seed);
        check(g, quant::int4, mapping::symmetric, true, true, 8);
        check(l, quant::int4.narrow(), mapping::symmetric, true, true, 8);
        check(l, quant::int6, mapping::symmetric, true, true, 32);
        check(l, quant::uint4, mapping::symmetric, false, true, 16);
        check(relu(g), quant::uint4, mapping::affine, false, true, 16);
        check(g, quant::uint6, mapping::affine, true, true, 32);
        check(l, quant::int2, mapping::symmetric, true, true, 2);
    }
}

TEST_CASE("entropy keeps what has codes to spare and what is even, and drops a far outlier") {
    // Fewer occupied bins than levels: nothing is lost, nothing is clipped.
    std::vector<float> few;
    for (int i = 0; i < 1000; ++i) few.push_back(static_cast<float>(i % 100) * 0x1p-10f);
    CHECK(*quant::entropy.clip(observed(few), quant::int8, mapping::symmetric) == clip_range{0.0, 99 * 0x1p-10});
    // As many elements in every bin.
    std::vector<float> even;
    for (int i = 0; i < 1024 * 16; ++i) even.push_back((static_cast<float>(i) + 0.5f) * 0x1p-14f);
    const auto all = quant::entropy.clip(observed(even), quant::int8, mapping::symmetric);
    CHECK_THAT(all->hi, Catch::Matchers::WithinAbs(1.0, 1e-4));
    // A bell and one element far out.
    std::vector<float> x = reference::gauss(200000, 3);
    x.push_back(16.0f);
    const auto r = quant::entropy.clip(observed(x), quant::int8, mapping::symmetric);
    CHECK(r->hi > 3);
    CHECK(r->hi < 8);
    CHECK(r->lo == std::max(-r->hi, observed(x).range()->lo));
}

TEST_CASE("tails of data are exact, tails of a histogram close") {
    const std::vector<float> x = reference::laplace(50000, 41);
    const auto h = observed(x);
    const auto of_data = quant::empirical_tail(x, quant::int4);
    const auto of_histogram = quant::empirical_tail(h, quant::int4);
    const auto positive = quant::empirical_tail(x, quant::uint4);
    const auto after_relu = quant::empirical_tail(h, quant::int4, quant::statistics::after_relu);
    for (const double alpha : {0.0, 0.1, 1.0, 3.14, 100.0}) {
        long double sum = 0, sum_positive = 0;
        double count = 0, count_positive = 0;
        for (const float v : x) {
            const auto w = static_cast<double>(v);
            if (std::fabs(w) > alpha) sum += static_cast<long double>(std::fabs(w)), ++count;
            if (w > alpha) sum_positive += static_cast<long double>(w), ++count_positive;
        }
        CHECK(of_data(alpha).count == count);
        CHECK(positive(alpha).count == count_positive);
        CHECK_THAT(of_data(alpha).sum, Catch::Matchers::WithinRel(static_cast<double>(sum), 1e-13));
        CHECK_THAT(positive(alpha).sum, Catch::Matchers::WithinRel(static_cast<double>(sum_positive), 1e-13));
        CHECK_THAT(of_histogram(alpha).count, Catch::Matchers::WithinAbs(count, 0.002 * 50000));
        CHECK_THAT(of_histogram(alpha).sum, Catch::Matchers::WithinAbs(static_cast<double>(sum), 0.002 * 50000));
        CHECK_THAT(after_relu(alpha).count, Catch::Matchers::WithinAbs(count_positive, 0.002 * 50000));
    }
}

TEST_CASE("the empirical recursion on these tails finds the Laplace optimum") {
    // Laplace with b = 1: exp(-alpha) = alpha / (3 N^2), N = 15 cells at 4 bits; solved here by bisection.
    double lo = 0, hi = 20;
    for (int i = 0; i < 200; ++i) {
        const double middle = (lo + hi) / 2;
        (std::exp(-middle) > middle / 675 ? lo : hi) = middle;
    }
    const std::vector<float> x = reference::laplace(400000, 42);
    const auto h = observed(x);
    const auto solve = [&](auto tail) {
        double alpha = 0;
        for (int i = 0; i < 40; ++i) {
            const quant::tail_total t = tail(alpha);
            alpha = t.sum / (400000.0 / 675 + t.count);
        }
        return alpha;
    };
    CHECK_THAT(solve(quant::empirical_tail(x, quant::int4)), Catch::Matchers::WithinRel(lo, 0.02));
    CHECK_THAT(solve(quant::empirical_tail(h, quant::int4)),
               Catch::Matchers::WithinRel(solve(quant::empirical_tail(x, quant::int4)), 0.002));
}

TEST_CASE("calibrators are plain values") {
    static_assert(quant::percentile(99.0) == quant::percentile_clipping{99.0, false});
    static_assert(quant::mse_optimal.strict().reject_non_finite);
    static_assert(std::is_trivially_copyable_v<quant::percentile_clipping> &&
                  std::is_standard_layout_v<quant::mse_clipping>);
    SUCCEED();
}

TEST_CASE("statistics, ranges and measures are the same bytes on every machine") {
    // The hash was the same with g++ 12 and clang 14, x86-64, x86-64-v3, AVX-512 and scalar, -O0 to -O3, with and without FMA.
    std::uint64_t hash = 1469598103934665603u;
    const auto add = [&](double value) {
        auto rest = std::bit_cast<std::uint64_t>(value);
        for (int i = 0; i < 8; ++i, rest >>= 8) hash = (hash ^ (rest & 0xFFu)) * 1099511628211u;
    };
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        std::vector<float> x(3000 + static_cast<std::size_t>(seed) * 211);
        for (std::size_t i = 0; i < x.size(); ++i) {
            float a = 0;
            for (std::uint64_t k = 0; k < 6; ++k) a += quant::random_uniform(seed, k, i) - 0.5f;
            x[i] = a * a * a * static_cast<float>(1 + seed);
        }
        quant::moving_average_minmax_observer average(0.93);
        for (std::size_t k = 0; k < 5; ++k) average.observe(std::span<const float>(x).subspan(k * 500, 500));
        add(average.clip()->lo);
        add(average.clip()->hi);
        const auto add_moments = [&](const quant::tensor_statistics& t) {
            for (const double v : {t.mean, t.mean_square, t.variance, t.mean_abs_deviation}) add(v);
        };
        quant::moments_observer fast(quant::statistics::unspecified, 0.37);
        quant::exact_moments_observer exact(quant::statistics::unspecified, 0.37);
        fast.observe(x);
        exact.observe(x);
        add_moments(fast.summary());
        add_moments(exact.summary());
        const auto h = observed(x);
        for (const mapping map : {mapping::symmetric, mapping::affine}) {
            for (const code_format f : {quant::int8, quant::int4, quant::uint4}) {
                for (const clip_range r : {*quant::mse_optimal.clip(h, f, map), *quant::entropy.clip(h, f, map),
                                           *quant::percentile(99.7).clip(h, f, map)}) {
                    const auto p = *quant::choose_params(r, f, map);
                    std::vector<float> restored(x.size());
                    for (std::size_t i = 0; i < x.size(); ++i) restored[i] = quant::fake_quant_one(x[i], p);
                    const auto e = *quant::measure_error(x, restored);
                    for (const double v : {r.lo, r.hi, quant::histogram_mse(h, p), e.mse, e.sqnr_db, e.cosine}) add(v);
                }
            }
        }
        for (const quant::tail_total t :
             {quant::empirical_tail(h, quant::int4)(0.1), quant::empirical_tail(x, quant::int4)(0.1)}) {
            add(t.sum);
            add(t.count);
        }
    }
    CHECK(hash == 0x7448e1c0b6f5222u);
}
