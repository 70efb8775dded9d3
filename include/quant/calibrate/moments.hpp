// SPDX-License-Identifier: MIT
#pragma once
// Mean, mean absolute deviation, variance and extremes, streaming and mergeable. Layer 3 (calibrate).
//
//   quant::moments_observer a{quant::statistics::before_relu}, b{quant::statistics::before_relu};
//   a.observe(shard_a);  b.observe(shard_b);
//   if (auto s = a.merge(b); !s) return s;
//   auto range = quant::aciq(quant::prior::laplace).clip(a, quant::uint4);
//
//   auto s = quant::measure_statistics(weights);      // a tensor in hand: two passes, deviation about its own mean
//
// What a split may change: moments_observer sums blocks of 1024 elements in double and adds the block sums without rounding, so
// splits at multiples of 1024 and any order of merging give the same bytes, other splits may differ in the last bits of a
// double. exact_moments_observer rounds nothing before summary(): any split, any order, the same bytes.
// NaN and infinities are skipped and counted. Elements are read as float; a double beyond its range counts as not finite.

#include <array>
#include <bit>
#include <cstdint>
#include <quant/calibrate/exact_sum.hpp>
#include <quant/calibrate/statistics_summary.hpp>
#include <quant/core/params.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>

QUANT_BEGIN_NAMESPACE

/// What a moments observer knows. Plain data, the same type for both observers; min and max mean nothing while count is 0.
struct moments_state {
    exact_sum sum;            ///< of x
    exact_sum abs_deviation;  ///< of |x - centre|
    exact_square_sum squares; ///< of x^2
    std::uint64_t count = 0;
    std::uint64_t non_finite = 0;
    std::uint64_t positive = 0;
    float min = 0;
    float max = 0;
    float centre = 0;
    statistics taken = statistics::unspecified;
    friend constexpr bool operator==(const moments_state&, const moments_state&) = default;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// What both observers of moments share: everything but taking elements in.
class moments_base {
public:
    explicit moments_base(statistics taken, double centre) noexcept {
        state_.taken = taken;
        state_.centre = static_cast<float>(centre);
        QUANT_EXPECTS(simd::finite(state_.centre), "moments observer: centre must be finite in float");
    }
    explicit moments_base(const moments_state& state) noexcept : state_(state) {}

    /// Takes in what another observer has seen. Associative and commutative to the byte.
    /// Errors: state_mismatch ("centre", "statistics"); nothing has changed then.
    status merge(const moments_base& other) noexcept {
        if (state_.centre != other.state_.centre) return {errc::state_mismatch, "centre"};
        if (state_.taken != other.state_.taken) return {errc::state_mismatch, "statistics"};
        const moments_state& more = other.state_;
        include_extremes(more.count, more.min, more.max);
        state_.sum.merge(more.sum);
        state_.abs_deviation.merge(more.abs_deviation);
        state_.squares.merge(more.squares);
        state_.count += more.count;
        state_.non_finite += more.non_finite;
        state_.positive += more.positive;
        return {};
    }

    /// The statistics, each rounded to double once or twice; the variance is n * sum of squares - square of the sum, formed
    /// without rounding, so that a mean far from zero costs no digits beyond those that block sums have lost (moments_observer:
    /// an absolute error of about 2^-50 mean_square). All zero when nothing finite was seen. Deterministic.
    [[nodiscard]] tensor_statistics summary() const noexcept {
        tensor_statistics out;
        out.count = state_.count;
        out.non_finite = state_.non_finite;
        out.positive = state_.positive;
        out.centre = static_cast<double>(state_.centre);
        out.taken = state_.taken;
        if (state_.count == 0) return out;
        const auto n = static_cast<double>(state_.count);
        out.min = static_cast<double>(state_.min);
        out.max = static_cast<double>(state_.max);
        out.mean = rounded_sum(state_.sum) / n;
        out.mean_square = rounded_sum(state_.squares) / n;
        out.mean_abs_deviation = rounded_sum(state_.abs_deviation) / n;
        out.variance = scaled_variance(state_.count, state_.sum, state_.squares) / n / n;
        return out;
    }

    [[nodiscard]] std::uint64_t count() const noexcept { return state_.count; }
    [[nodiscard]] std::uint64_t non_finite() const noexcept { return state_.non_finite; }
    /// The centre of the absolute deviations: what the constructor was given, rounded to float.
    [[nodiscard]] double centre() const noexcept { return static_cast<double>(state_.centre); }
    [[nodiscard]] statistics taken() const noexcept { return state_.taken; }
    [[nodiscard]] const moments_state& state() const noexcept { return state_; }

protected:
    void take(const simd::block_moments& tile) noexcept {
        include_extremes(tile.count, tile.min, tile.max);
        add_to(state_.sum, tile.sum);
        add_to(state_.squares, tile.squares);
        add_to(state_.abs_deviation, tile.abs_deviation);
        state_.count += tile.count;
        state_.non_finite += tile.non_finite;
        state_.positive += tile.positive;
    }
    void include_extremes(std::uint64_t count, float min, float max) noexcept {
        if (count == 0) return;
        state_.min = state_.count == 0 ? min : simd::smaller(state_.min, min);
        state_.max = state_.count == 0 ? max : simd::larger(state_.max, max);
    }

    moments_state state_;
};

} // namespace detail

/// Streaming moments, fast: block sums in double.
class moments_observer : public detail::moments_base {
public:
    /// taken    where the statistics stand relative to the ReLU that follows
    /// centre   of the absolute deviations, finite; rounded to float
    explicit moments_observer(statistics taken = statistics::unspecified, double centre = 0) noexcept
        : moments_base(taken, centre) {}
    /// Goes on from a saved state.
    explicit moments_observer(const moments_state& state) noexcept : moments_base(state) {}

    /// Takes in every element. One pass, no allocation; the same bytes on every architecture and for every layout.
    template <class X>
        requires detail::real_viewable<X>
    void observe(const X& x) noexcept {
        simd::for_each_tile(detail::view_const(x),
                            [&](const float* p, std::size_t n) { take(simd::moments(p, n, state_.centre)); });
    }
};

/// Streaming moments, independent of how the data were split: every element is added without rounding. Some times slower.
class exact_moments_observer : public detail::moments_base {
public:
    explicit exact_moments_observer(statistics taken = statistics::unspecified, double centre = 0) noexcept
        : moments_base(taken, centre) {}
    explicit exact_moments_observer(const moments_state& state) noexcept : moments_base(state) {}

    /// Takes in every element. One pass, no allocation, 6 KB of stack.
    template <class X>
        requires detail::real_viewable<X>
    void observe(const X& x) noexcept {
        by_exponent sums;
        std::size_t pending = 0;
        simd::for_each_tile(detail::view_const(x), [&](const float* p, std::size_t n) {
            add(p, n, sums);
            if (++pending == tiles_per_flush) {
                flush(sums);
                pending = 0;
            }
        });
        flush(sums);
    }

private:
    // Integer significands summed per exponent; 2^16 elements of 48-bit squares fit 64 bits.
    static constexpr std::size_t tiles_per_flush = (std::size_t{1} << 16) / simd::tile_size;
    static constexpr std::size_t exponents = 255;
    struct by_exponent {
        std::array<std::int64_t, exponents> above{}; // x > centre
        std::array<std::int64_t, exponents> below{}; // x <= centre
        std::array<std::uint64_t, exponents> squares{};
        std::int64_t count_above = 0;
        std::int64_t count_below = 0;
        std::uint32_t lowest = exponents;
        std::uint32_t highest = 0;
    };

    void add(const float* p, std::size_t n, by_exponent& sums) noexcept {
        const float centre = state_.centre;
        const simd::block_extremes tile = simd::extremes(p, n);
        include_extremes(tile.count, tile.min, tile.max);
        state_.count += tile.count;
        state_.non_finite += tile.non_finite;
        for (std::size_t i = 0; i < n; ++i) {
            const auto bits = std::bit_cast<std::uint32_t>(p[i]);
            const std::uint32_t exponent = (bits >> 23) & 0xFFu;
            if (exponent == 0xFFu) continue;
            const std::uint32_t significand = (bits & 0x7FFFFFu) | (exponent != 0 ? 0x800000u : 0u);
            const std::int64_t value = (bits >> 31) != 0 ? -std::int64_t{significand} : std::int64_t{significand};
            const bool above = p[i] > centre;
            (above ? sums.above : sums.below)[exponent] += value;
            (above ? sums.count_above : sums.count_below) += 1;
            sums.squares[exponent] += std::uint64_t{significand} * significand;
            state_.positive += p[i] > 0 ? 1 : 0;
            if (exponent < sums.lowest) sums.lowest = exponent;
            if (exponent > sums.highest) sums.highest = exponent;
        }
    }

    /// sum |x - c| = sum of x above c - sum of the others - c * (number above - number of the others), all exact.
    void flush(by_exponent& sums) noexcept {
        for (std::uint32_t e = sums.lowest; e <= sums.highest && e < exponents; ++e) {
            const int exponent = (e == 0 ? 1 : static_cast<int>(e)) - 150;
            add_signed(state_.sum, sums.above[e] + sums.below[e], exponent);
            add_signed(state_.abs_deviation, sums.above[e] - sums.below[e], exponent);
            state_.squares.add_units(sums.squares[e], 2 * exponent, false);
        }
        const std::int64_t excess = sums.count_above - sums.count_below; // |excess| <= 2^16: the product is exact
        state_.abs_deviation.add(-(static_cast<double>(state_.centre) * static_cast<double>(excess)));
        sums = {};
    }

    static void add_signed(exact_sum& to, std::int64_t value, int exponent) noexcept {
        to.add_units(static_cast<std::uint64_t>(value < 0 ? -value : value), exponent, value < 0);
    }
};

/// Statistics of a tensor in hand: a first pass finds the mean, a second one the absolute deviations about it.
/// The centre is the mean rounded to float (relative error 2^-24, stated in `centre`); it is where the derivative of the mean
/// absolute deviation is small, which changes the deviation by far less than that. Deterministic; all zero for no data.
template <class X>
    requires detail::real_viewable<X>
[[nodiscard]] tensor_statistics measure_statistics(const X& x, statistics taken = statistics::unspecified) noexcept {
    moments_observer first(taken);
    first.observe(x);
    moments_observer second(taken, first.summary().mean);
    second.observe(x);
    return second.summary();
}

QUANT_END_TARGET
