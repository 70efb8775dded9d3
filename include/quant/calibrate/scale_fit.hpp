// SPDX-License-Identifier: MIT
#pragma once
// The scale and the integers that together are nearest to a vector: the exact least squares fit of D k to r. Layer 3 (calibrate).
//
//   std::vector<std::int8_t> k(r.size());
//   std::vector<quant::fit_event> scratch(r.size());
//   auto fit = quant::fit_point(r, 7, k, scratch);          // -7 <= k <= 7: signed codes of 4 bits, narrow; r ~ fit->step * k
//
// For given integers the best step is D = <r, k> / <k, k>, and leaves
//
//   ||r - D k||^2 = ||r||^2 - <r, k>^2 / <k, k>                                                                    (27)
//
// For a given step the best integers are the nearest ones, and these change only where the step passes |r_j| / (m - 1/2), m = 1 to K.
// So the steps are swept from the largest down, from event to event, with <r, k> and <k, k> kept up to date, and the best of (27) is
// the optimum over all steps and all integers. Symmetric scales of least squared error, the projection of ADMM, and each point of a
// multipoint fit are this one problem.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/calibrate/heap.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/batch.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// The next step at which the integer of one element grows. Scratch of fit_point.
struct fit_event {
    double key = 0;           ///< |r_j| / (2 m - 1), relative to a power of two
    std::uint32_t index = 0;  ///< j
    std::int32_t integer = 0; ///< m
};

/// What fit_point found.
struct point_fit {
    double step = 0;  ///< D, in real units per integer; 0 for a vector of zeros
    double error = 0; ///< ||r - D k||^2
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// Equal keys come together whatever their order; the lower index first makes the sums deterministic.
struct larger_key {
    [[nodiscard]] QUANT_INLINE bool operator()(const fit_event& a, const fit_event& b) const noexcept {
        return a.key > b.key || (a.key == b.key && a.index < b.index);
    }
};

template <class T>
inline result<point_fit> fit_point(std::span<const T> r, int largest, std::span<std::int8_t> k,
                                   std::span<fit_event> scratch) noexcept {
    const std::size_t d = r.size();
    if (largest < 1 || largest > 127) return status{errc::invalid_argument, "largest"};
    if (k.size() != d) return status{errc::shape_mismatch, "k"};
    if (scratch.size() < d) return status{errc::buffer_too_small, "scratch"};
    if (d > 0xFFFFFFFFu) return status{errc::invalid_argument, "r"};
    double most = 0;
    for (std::size_t j = 0; j < d; ++j) {
        const double a = std::fabs(static_cast<double>(r[j]));
        if (!(a - a == 0)) return status{errc::non_finite, "r"};
        most = a > most ? a : most;
    }
    if (!(most > 0)) {
        for (std::size_t j = 0; j < d; ++j) k[j] = 0;
        return point_fit{};
    }
    // Relative to a power of two nothing overflows, and a power of two before r changes the step alone.
    int exponent = 0;
    static_cast<void>(std::frexp(most, &exponent));
    exponent = exponent < -1000 ? -1000 : exponent;
    const double unit = std::ldexp(1.0, -exponent);
    const auto magnitude = [&](std::size_t j) noexcept { return std::fabs(static_cast<double>(r[j])) * unit; };
    std::size_t n = 0;
    for (std::size_t j = 0; j < d; ++j) {
        const double a = magnitude(j);
        if (a > 0) scratch[n++] = {a, static_cast<std::uint32_t>(j), 1};
    }
    fit_event* const heap = scratch.data();
    make_heap(heap, n, larger_key{});
    double product = 0, squares = 0, best_score = 0, best_key = 0;
    while (n > 0) {
        const double key = heap[0].key;
        do { // equal keys together: (27) is convex along them, so its best is at an end
            fit_event& top = heap[0];
            const double a = magnitude(top.index);
            product += a;
            squares += static_cast<double>(2 * top.integer - 1);
            if (top.integer < largest) {
                ++top.integer;
                top.key = a / static_cast<double>(2 * top.integer - 1);
            } else {
                top = heap[--n];
            }
            if (n > 0) sift_down(heap, n, 0, larger_key{});
        } while (n > 0 && heap[0].key == key);
        const double score = product * product / squares;
        if (score > best_score) {
            best_score = score;
            best_key = key;
        }
    }
    // The integers at that step: the last m whose key is not below it.
    double sum = 0, norm = 0;
    for (std::size_t j = 0; j < d; ++j) {
        const double a = magnitude(j), quotient = 0.5 * (a / best_key + 1);
        int m = quotient < largest ? static_cast<int>(quotient) : largest;
        if (m > 0 && a / static_cast<double>(2 * m - 1) < best_key) --m;
        if (m < largest && a / static_cast<double>(2 * m + 1) >= best_key) ++m;
        k[j] = static_cast<std::int8_t>(r[j] < 0 ? -m : m);
        sum += simd::rounded(a * m);
        norm += static_cast<double>(m * m);
    }
    point_fit out;
    out.step = std::ldexp(sum / norm, exponent);
    for (std::size_t j = 0; j < d; ++j) {
        const double e = static_cast<double>(r[j]) - simd::rounded(out.step * k[j]);
        out.error += simd::rounded(e * e);
    }
    return out;
}

} // namespace detail

/// The step D >= 0 and the integers -K <= k <= K of least ||r - D k||^2, equation (27): the optimum over all of them.
/// r        [d] finite real values          largest  K, 1 to 127: 2^(bits - 1) - 1
/// k        [d] receives the integers       scratch  [d]
/// Zeros give step 0 and integers 0. A sign before an element of r changes the sign of its integer alone; of equally good steps
/// the largest is taken.
/// Errors: invalid_argument "largest"; shape_mismatch "k"; buffer_too_small "scratch"; non_finite "r". Nothing is written then.
/// Exactness: deterministic; double arithmetic. Cost: O(d K log d), no allocation.
[[nodiscard]] inline result<point_fit> fit_point(std::span<const float> r, int largest, std::span<std::int8_t> k,
                                                 std::span<fit_event> scratch) noexcept {
    return detail::fit_point(r, largest, k, scratch);
}
/// The same for a vector of doubles, such as a residual.
[[nodiscard]] inline result<point_fit> fit_point(std::span<const double> r, int largest, std::span<std::int8_t> k,
                                                 std::span<fit_event> scratch) noexcept {
    return detail::fit_point(r, largest, k, scratch);
}

QUANT_END_TARGET
