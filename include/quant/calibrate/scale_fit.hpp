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
// From event to event <r, k> and <k, k> are kept up to date, and the best of (27) is the optimum over all steps and all integers. Between
// two steps the score has a bound, so that only the few events near the best one are looked at one by one. Symmetric scales of least squared error, the projection of ADMM, and each point of a
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

/// How many of the keys a / (2 m - 1), m = 1 to largest, are not below `key`: the integer of a at the step 2 key.
QUANT_INLINE int integer_at(double a, double key, int largest) noexcept {
    const double quotient = 0.5 * (a / key + 1);
    const int m = static_cast<int>(quotient < largest ? quotient : static_cast<double>(largest));
    const bool one_less = m > 0 && a / static_cast<double>(2 * m - 1) < key;
    const bool one_more = m < largest && a / static_cast<double>(2 * m + 1) >= key;
    return m + (one_more ? 1 : 0) - (one_less ? 1 : 0);
}

/// The search for the step of largest <r, k>^2 / <k, k>.
template <class T> class step_search {
public:
    step_search(std::span<const T> r, int largest, fit_event* heap, double unit) noexcept
        : r_(r), largest_(largest), heap_(heap), unit_(unit) {}

    /// |r_j| relative to a power of two.
    [[nodiscard]] QUANT_INLINE double magnitude(std::size_t j) const noexcept {
        return std::fabs(static_cast<double>(r_[j])) * unit_;
    }
    /// The key of the best step, whose integers are integer_at(magnitude, key). most: the largest magnitude, above 0.
    [[nodiscard]] double best(double most) noexcept {
        state all;
        for (std::size_t j = 0; j < r_.size(); ++j) {
            const double a = magnitude(j);
            if (!(a > 0)) continue;
            all.product += a * largest_;
            all.squares += static_cast<double>(largest_ * largest_);
            all.events += static_cast<double>(largest_);
        }
        best_key_ = most;
        split(at(most), all, 60);
        return best_key_;
    }

private:
    /// All events of a key not below `key`, and <r, k>, <k, k> with the integers they lead to.
    struct state {
        double key = 0, product = 0, squares = 0, events = 0;
    };

    [[nodiscard]] state at(double key) noexcept {
        constexpr std::size_t lanes = 4;
        double products[lanes] = {}, squares[lanes] = {}, events[lanes] = {};
        const auto add = [&](std::size_t j, std::size_t lane) noexcept {
            const double a = magnitude(j), m = integer_at(a, key, largest_);
            products[lane] += simd::rounded(a * m);
            squares[lane] += m * m; // exact
            events[lane] += m;
        };
        std::size_t j = 0;
        for (; j + lanes <= r_.size(); j += lanes)
            for (std::size_t lane = 0; lane < lanes; ++lane) add(j + lane, lane);
        for (; j < r_.size(); ++j) add(j, j % lanes);
        const state out{key, (products[0] + products[1]) + (products[2] + products[3]),
                        (squares[0] + squares[1]) + (squares[2] + squares[3]),
                        (events[0] + events[1]) + (events[2] + events[3])};
        score(out);
        return out;
    }
    void score(const state& s) noexcept {
        const double value = s.product * s.product / s.squares;
        if (value > best_score_ || (value == best_score_ && s.key > best_key_)) {
            best_score_ = value;
            best_key_ = s.key;
        }
    }

    /// The most that any step between two can score. Each event between adds y = 2 m - 1 to <k, k> and key * y to <r, k>, with a key
    /// between the two: so <r, k> stays below both lines from the ends, and the score, convex along a line, is largest where they meet.
    [[nodiscard]] static double bound(const state& high, const state& low) noexcept {
        const double between = low.squares - high.squares;
        double y = (low.product - low.key * between - high.product) / (high.key - low.key);
        y = y > 0 ? (y < between ? y : between) : 0;
        const double product = high.product + high.key * y;
        return product * product / (high.squares + y);
    }

    /// Looks at all steps between two that could be better than the best one so far.
    void split(const state& high, const state& low, int depth) noexcept {
        const double events = low.events - high.events;
        if (!(events > 0) || bound(high, low) * (1 + 1e-12) < best_score_) return;
        const double key = low.key > 0 ? std::sqrt(high.key) * std::sqrt(low.key) : 0.5 * high.key;
        if (depth == 0 || events <= 8 + 0.125 * static_cast<double>(r_.size()) || !(key < high.key && key > low.key)) {
            sweep(high, low);
            return;
        }
        const state middle = at(key);
        if (bound(high, middle) >= bound(middle, low)) {
            split(high, middle, depth - 1);
            split(middle, low, depth - 1);
        } else {
            split(middle, low, depth - 1);
            split(high, middle, depth - 1);
        }
    }

    /// From event to event.
    void sweep(const state& high, const state& low) noexcept {
        std::size_t n = 0;
        for (std::size_t j = 0; j < r_.size(); ++j) {
            const double a = magnitude(j);
            if (!(a > 0)) continue;
            const int next = integer_at(a, high.key, largest_) + 1;
            if (next > largest_) continue;
            const double key = a / static_cast<double>(2 * next - 1);
            if (key >= low.key) heap_[n++] = {key, static_cast<std::uint32_t>(j), next};
        }
        make_heap(heap_, n, larger_key{});
        state now = high;
        while (n > 0) {
            now.key = heap_[0].key;
            do { // equal keys together: the score is convex along them, so its best is at an end
                fit_event& top = heap_[0];
                const double a = magnitude(top.index);
                now.product += a;
                now.squares += static_cast<double>(2 * top.integer - 1);
                ++top.integer;
                top.key = top.integer > largest_ ? -1 : a / static_cast<double>(2 * top.integer - 1);
                if (top.key < low.key || top.integer > largest_) top = heap_[--n];
                if (n > 0) sift_down(heap_, n, 0, larger_key{});
            } while (n > 0 && heap_[0].key == now.key);
            score(now);
        }
    }

    std::span<const T> r_;
    int largest_;
    fit_event* heap_;
    double unit_, best_score_ = 0, best_key_ = 0;
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
    step_search<T> search(r, largest, scratch.data(), unit);
    const double key = search.best(most * unit);
    double sum = 0, norm = 0;
    for (std::size_t j = 0; j < d; ++j) {
        const double a = search.magnitude(j);
        const int m = integer_at(a, key, largest);
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
/// Exactness: deterministic; double arithmetic. Cost: some tens of passes over r; at worst O(d K log d). No
/// allocation.
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
