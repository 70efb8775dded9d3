// SPDX-License-Identifier: MIT
#pragma once
// From statistics to the range that is kept: min/max, percentile, smallest squared error, smallest divergence. Layer 3 (calibrate).
//
//   quant::histogram_observer<> h;
//   h.observe(activations);
//   auto range = quant::mse_optimal.clip(h, quant::int8, quant::mapping::symmetric);     // result<clip_range>
//   auto params = quant::choose_params(*range, quant::int8, quant::mapping::symmetric);
//
// The values minmax, percentile(p), mse_optimal and entropy are plain data. Each ignores NaN and infinities unless asked to be
// strict: quant::minmax.strict() fails with errc::non_finite when the observer has counted any. No range is wider than the
// data widened to zero. Analytical clipping from moments alone is in quant/calibrate/aciq.hpp.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/error_measures.hpp>
#include <quant/calibrate/exact_sum.hpp>
#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/minmax.hpp>
#include <quant/calibrate/statistics_summary.hpp>
#include <quant/core/params.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

/// What every calibrator asks first.
inline status check_calibration(std::uint64_t count, std::uint64_t non_finite, code_format format,
                                bool strict) noexcept {
    if (const status s = validate(format); !s) return s;
    if (strict && non_finite != 0) return {errc::non_finite, "observer"};
    if (count == 0) return {errc::no_data, "observer"};
    return {};
}

/// [min, max] of the data, widened to contain zero.
template <std::size_t Bins> inline clip_range range_with_zero(const histogram_observer<Bins>& h) noexcept {
    const auto min = static_cast<double>(h.state().min), max = static_cast<double>(h.state().max);
    return {min < 0 ? min : 0.0, max > 0 ? max : 0.0};
}

/// [-magnitude, magnitude], no wider than the data.
inline clip_range within(double magnitude, clip_range data) noexcept {
    return {-magnitude > data.lo ? -magnitude : data.lo, magnitude < data.hi ? magnitude : data.hi};
}

/// Which elements a magnitude histogram counts.
struct sides {
    bool below = true;
    bool above = true;
};

/// The elements with i * width <= |x| < (i + 1) * width, without exact zeros.
template <std::size_t Bins>
inline std::uint64_t magnitudes_in(const histogram_observer<Bins>& h, std::size_t i, sides s) noexcept {
    constexpr std::size_t half = Bins / 2;
    const std::uint64_t above = s.above ? h[half + i] - (i == 0 ? h.zeros() : 0) : 0;
    return above + (s.below ? h[half - 1 - i] : 0);
}

// ---- percentile -----------------------------------------------------------------------------------------------------------

/// The magnitude beyond which `tail` elements lie; inside a bin the elements count as evenly spread.
template <std::size_t Bins>
inline double magnitude_beyond(const histogram_observer<Bins>& h, double tail, sides s) noexcept {
    for (std::size_t i = Bins / 2; i-- > 0;) {
        const auto count = static_cast<double>(magnitudes_in(h, i, s));
        if (count > 0 && tail <= count) return (static_cast<double>(i + 1) - tail / count) * h.width();
        tail -= count;
    }
    return 0;
}

template <std::size_t Bins>
inline clip_range clip_percentile(const histogram_observer<Bins>& h, double percent, code_format format,
                                  mapping map) noexcept {
    const clip_range data = range_with_zero(h);
    const double tail = static_cast<double>(h.count()) * (100.0 - percent) / 100.0;
    if (map == mapping::symmetric && format.is_signed) return within(magnitude_beyond(h, tail, {}), data);
    if (map == mapping::symmetric) return {0.0, within(magnitude_beyond(h, tail, {false, true}), data).hi};
    const double each = data.lo < 0 && data.hi > 0 ? 0.5 * tail : tail;
    return {within(magnitude_beyond(h, each, {true, false}), data).lo,
            within(magnitude_beyond(h, each, {false, true}), data).hi};
}

// ---- smallest squared error -----------------------------------------------------------------------------------------------

/// Codes as whole steps from zero.
struct step_limits {
    double lo = 0;
    double hi = 0;
};

/// The code of t steps (ties do not matter to an integral).
inline double nearest_step(double t, step_limits limits) noexcept {
    if (t >= limits.hi) return limits.hi;
    if (t <= limits.lo) return limits.lo;
    const auto whole = static_cast<std::int64_t>(t); // toward zero; |t| < 2^17 here
    const double r = t - static_cast<double>(whole);
    return static_cast<double>(whole + (r > 0.5 ? 1 : 0) - (r < -0.5 ? 1 : 0));
}

/// Integral of the squared quantization error from 0 to t, in steps: k/12 + (t - k)^3/3 with k the code of t, clipping included.
inline double error_integral(double t, step_limits limits) noexcept {
    const double k = nearest_step(t, limits);
    const double r = t - k;
    return k / 12.0 + r * r * r / 3.0;
}

/// Mean squared error of quantizing what a histogram describes.
template <std::size_t Bins>
inline double squared_error(const histogram_observer<Bins>& h, const affine_params& params) noexcept {
    constexpr std::size_t half = Bins / 2;
    const step_limits limits{static_cast<double>(params.format.qmin() - params.zero_point),
                             static_cast<double>(params.format.qmax() - params.zero_point)};
    const auto scale = static_cast<double>(params.scale);
    const auto min = static_cast<double>(h.state().min), max = static_cast<double>(h.state().max);
    const auto first =
        static_cast<std::size_t>(static_cast<std::int64_t>(min / h.width()) + static_cast<std::int64_t>(half)) -
        (min < 0 ? 1 : 0);
    const auto last =
        static_cast<std::size_t>(static_cast<std::int64_t>(max / h.width()) + static_cast<std::int64_t>(half)) -
        (max < 0 ? 1 : 0);
    double total = 0;    // in squared steps
    double known_at = 0; // error_integral(known_at / scale) = known
    double known = 0;
    for (std::size_t b = first; b <= last; ++b) {
        const std::uint64_t count = h[b] - (b == half ? h.zeros() : 0); // zero is represented exactly
        if (count == 0) continue;
        const double lo = h.edge(b) > min ? h.edge(b) : min;
        const double hi = h.edge(b + 1) < max ? h.edge(b + 1) : max;
        double mean = 0;
        if (lo < hi) {
            const double from = lo == known_at ? known : error_integral(lo / scale, limits);
            known_at = hi;
            known = error_integral(hi / scale, limits);
            mean = (known - from) / ((hi - lo) / scale);
        } else {
            const double t = lo / scale;
            const double r = t - nearest_step(t, limits);
            mean = r * r;
        }
        total += simd::rounded(static_cast<double>(count) * mean);
    }
    return total / static_cast<double>(h.count()) * scale * scale;
}

/// Sums of |x| - b over the elements of one side of zero with |x| > b, their count evenly spread inside the bins: what clipping
/// at b loses, and what every rounding error is made of. In bin widths. Built in one pass over the bins, read in constant time.
template <std::size_t Bins> class excess_table {
public:
    excess_table(const histogram_observer<Bins>& h, bool above) noexcept : h_(h), above_(above) {
        const double inverse = 1.0 / h.width(); // a power of two
        const double min = static_cast<double>(h.state().min) * inverse;
        const double max = static_cast<double>(h.state().max) * inverse;
        const double nearest = above ? min : -max, farthest = above ? max : -min;
        if (h.count() == 0 || !(farthest > 0)) return;
        // The bins that hold the nearest and the farthest element end there.
        nearest_ = nearest > 0 ? nearest : 0.0;
        farthest_ = farthest;
        last_ = static_cast<std::size_t>(farthest);
        cut_ = nearest > 0 ? static_cast<std::size_t>(nearest) : half;
        for (std::size_t i = last_ + 1; i-- > 0;) {
            const double count = count_in(i);
            const auto edge = static_cast<double>(i);
            const double lo = i == cut_ ? nearest_ : edge, hi = i == last_ ? farthest_ : edge + 1.0;
            const double outside = count_; // beyond this bin
            count_ += count;
            squares_ +=
                simd::rounded(count * (simd::rounded(lo * lo) + simd::rounded(lo * hi) + simd::rounded(hi * hi)) / 3.0);
            at_edge_[i] = at_edge_[i + 1] + outside + simd::rounded(count * (0.5 * (lo + hi) - edge));
        }
    }

    /// b >= 0 in bin widths.
    [[nodiscard]] QUANT_INLINE double operator()(double b) const noexcept {
        if (b >= farthest_) return 0;
        if (b <= nearest_) return at_edge_[0] - simd::rounded(count_ * b);
        const auto i = static_cast<std::size_t>(static_cast<std::int64_t>(b));
        const double count = count_in(i);
        const auto edge = static_cast<double>(i + 1);
        if (i == last_ || i == cut_) {
            const double lo = i == cut_ ? nearest_ : edge - 1.0, hi = i == last_ ? farthest_ : edge;
            const double inside = count * (hi - b) * (hi - b) / (2.0 * (hi - lo));
            if (i == last_) return inside;
            return at_edge_[i + 1] + simd::rounded((count_ - count) * (edge - b)) + simd::rounded(inside);
        }
        const double d = edge - b; // a parabola between the edges
        const double chord = at_edge_[i + 1] + simd::rounded(d * (at_edge_[i] - at_edge_[i + 1]));
        return chord - simd::rounded(0.5 * count * d * (1.0 - d));
    }
    /// Sum of operator() over (j + 1/2) step, j = 0 ... n - 1, in four chains.
    [[nodiscard]] double sum(double step, std::size_t n) const noexcept {
        double part[4] = {};
        for (std::size_t j = 0; j < n; ++j) {
            const double b = simd::rounded((static_cast<double>(j) + 0.5) * step);
            if (b >= farthest_) break;
            part[j % 4] += (*this)(b);
        }
        return (part[0] + part[1]) + (part[2] + part[3]);
    }
    /// Sum of x^2, in squared bin widths.
    [[nodiscard]] double squares() const noexcept { return squares_; }
    /// Elements, without exact zeros.
    [[nodiscard]] double count() const noexcept { return count_; }

private:
    static constexpr std::size_t half = Bins / 2;

    [[nodiscard]] QUANT_INLINE double count_in(std::size_t i) const noexcept {
        const std::uint64_t c = above_ ? h_[half + i] - (i == 0 ? h_.zeros() : 0) : h_[half - 1 - i];
        return static_cast<double>(static_cast<std::int64_t>(c));
    }

    const histogram_observer<Bins>& h_;
    bool above_;
    std::size_t last_ = half; ///< the bin of the farthest element
    std::size_t cut_ = half;  ///< the bin of the nearest element where that is not zero
    double nearest_ = 0;
    double farthest_ = 0;
    double count_ = 0;
    double squares_ = 0;
    double at_edge_[half + 1] = {};
};

/// squared_error of many parameters on one histogram. In a cell of code k, x^2 - 2 k s x + k^2 s^2 is x^2 less twice the step
/// times the sum of what x exceeds each border (j + 1/2) s, j < k, by: all elements together, sum x^2 - 2 s sum excess(border).
/// That takes one look into a table per code instead of two integrals per bin. With more codes than bins, or tables that
/// would be too large for a stack, the bins are cheaper.
template <std::size_t Bins> class error_model {
public:
    static constexpr bool has_tables = Bins <= 8192;

    explicit error_model(const histogram_observer<Bins>& h) noexcept : h_(h), below_(h, false), above_(h, true) {}

    [[nodiscard]] const histogram_observer<Bins>& histogram() const noexcept { return h_; }
    /// Mean squared error. Deterministic.
    [[nodiscard]] double operator()(const affine_params& params) const noexcept {
        if constexpr (has_tables) {
            if (static_cast<std::size_t>(params.format.levels()) <= Bins) {
                const double step = static_cast<double>(params.scale) / h_.width();
                const double excess =
                    below_.sum(step, static_cast<std::size_t>(params.zero_point - params.format.qmin())) +
                    above_.sum(step, static_cast<std::size_t>(params.format.qmax() - params.zero_point));
                const double total = below_.squares() + above_.squares() - simd::rounded(2.0 * step * excess);
                return total > 0 ? total / static_cast<double>(h_.count()) * h_.width() * h_.width() : 0.0;
            }
        }
        return squared_error(h_, params);
    }

private:
    struct nothing {
        nothing(const histogram_observer<Bins>&, bool) noexcept {}
    };
    using table = std::conditional_t<has_tables, excess_table<Bins>, nothing>;
    const histogram_observer<Bins>& h_;
    table below_;
    table above_;
};

/// The factor in (0, 1] of least cost: eight factors an octave over ten octaves, then two refinements about the best.
template <class Cost> inline double best_factor(Cost&& cost, double& least) noexcept {
    // 2^(-k/8), k = 0 ... 7
    constexpr std::array<double, 8> eighth{1.0,
                                           0.91700404320467123,
                                           0.84089641525371454,
                                           0.77110541270397041,
                                           0.70710678118654752,
                                           0.64841977732550483,
                                           0.59460355750136053,
                                           0.54525386633262882};
    double best = 1;
    least = cost(1.0);
    double octave = 1;
    for (int o = 0; o < 10; ++o, octave *= 0.5) {
        for (std::size_t k = 0; k < eighth.size(); ++k) {
            const double factor = octave * eighth[k];
            const double c = cost(factor);
            if (c < least) {
                least = c;
                best = factor;
            }
        }
    }
    double reach = 0.09; // to the neighbouring factor
    for (int round = 0; round < 2; ++round) {
        const double middle = best;
        for (int k = -5; k <= 5; ++k) {
            const double factor = middle * (1.0 + simd::rounded(reach * k) / 5.5);
            if (k == 0 || factor > 1) continue;
            const double c = cost(factor);
            if (c < least) {
                least = c;
                best = factor;
            }
        }
        reach /= 5.5;
    }
    return best;
}

template <std::size_t Bins>
inline double cost_of(const error_model<Bins>& model, clip_range range, code_format format, mapping map) noexcept {
    const result<affine_params> params = choose_params(range, format, map);
    return params ? model(*params) : std::numeric_limits<double>::infinity();
}

template <std::size_t Bins>
inline clip_range clip_mse(const error_model<Bins>& model, code_format format, mapping map) noexcept {
    const clip_range data = range_with_zero(model.histogram());
    double least = 0;
    if (map == mapping::symmetric) {
        // By the step: [qmin * step, qmax * step], cut to the data.
        const double from_lo = format.qmin() < 0 ? data.lo / format.qmin() : 0.0;
        const double from_hi = format.qmax() > 0 ? data.hi / format.qmax() : 0.0;
        const double widest = from_lo > from_hi ? from_lo : from_hi;
        const auto range_of = [&](double factor) {
            const double step = factor * widest;
            const double lo = format.qmin() * step, hi = format.qmax() * step;
            return clip_range{lo > data.lo ? lo : data.lo, hi < data.hi ? hi : data.hi};
        };
        return range_of(best_factor([&](double f) { return cost_of(model, range_of(f), format, map); }, least));
    }
    const auto cost = [&](double lo, double hi) { return cost_of(model, {lo, hi}, format, map); };
    // Both ends together, then each in turn.
    const double both = best_factor([&](double f) { return cost(f * data.lo, f * data.hi); }, least);
    double lo = both * data.lo, hi = both * data.hi;
    if (data.lo == 0 || data.hi == 0) return {lo, hi};
    for (int round = 0; round < 2; ++round) {
        double reached = 0;
        const double factor_hi = best_factor([&](double f) { return cost(lo, f * data.hi); }, reached);
        if (reached < least) {
            least = reached;
            hi = factor_hi * data.hi;
        }
        const double factor_lo = best_factor([&](double f) { return cost(f * data.lo, hi); }, reached);
        if (reached < least) {
            least = reached;
            lo = factor_lo * data.lo;
        }
    }
    if (format.levels() > 16) return {lo, hi};
    // With few codes the rounding of the zero point makes steps in the error: try every zero point by itself.
    clip_range best{lo, hi};
    for (std::int32_t zero_point = format.qmin(); zero_point <= format.qmax(); ++zero_point) {
        const double below = format.qmin() - zero_point, above = format.qmax() - zero_point;
        const double from_lo = below < 0 ? data.lo / below : 0.0, from_hi = above > 0 ? data.hi / above : 0.0;
        const double widest = from_lo > from_hi ? from_lo : from_hi;
        const auto range_of = [&](double factor) {
            const double step = factor * widest;
            const double from = below * step, to = above * step;
            return clip_range{from > data.lo ? from : data.lo, to < data.hi ? to : data.hi};
        };
        double reached = 0;
        const double factor = best_factor([&](double f) { return cost_of(model, range_of(f), format, map); }, reached);
        if (reached < least) {
            least = reached;
            best = range_of(factor);
        }
    }
    return best;
}

// ---- smallest divergence --------------------------------------------------------------------------------------------------

template <std::size_t Bins>
inline clip_range clip_entropy(const histogram_observer<Bins>& h, code_format format, mapping map) noexcept {
    static_assert(Bins <= 8192, "entropy: the search is quadratic in the bins; use a histogram of at most 8192");
    constexpr std::size_t half = Bins / 2;
    const clip_range data = range_with_zero(h);
    sides s;
    std::size_t levels = static_cast<std::size_t>(format.qmax()) + 1;
    if (map == mapping::affine) {
        s = {data.lo<0, data.hi> 0};
        levels = static_cast<std::size_t>(format.levels());
        if (s.below && s.above) levels /= 2;
    } else if (!format.is_signed) {
        s.below = false;
    }
    // Counts, numbers of occupied bins and sums of p log p up to each bin.
    std::array<std::uint64_t, half + 1> count{};
    std::array<std::uint32_t, half + 1> occupied{};
    std::array<double, half + 1> p_log_p{};
    std::size_t end = 0;
    for (std::size_t i = 0; i < half; ++i) {
        const std::uint64_t c = magnitudes_in(h, i, s);
        const auto p = static_cast<double>(c);
        count[i + 1] = count[i] + c;
        occupied[i + 1] = occupied[i] + (c != 0 ? 1 : 0);
        p_log_p[i + 1] = p_log_p[i] + (c != 0 ? simd::rounded(p * log2_of(p)) : 0.0);
        if (c != 0) end = i + 1;
    }
    const auto total = static_cast<double>(count[half]);
    const clip_range full{s.below ? data.lo : 0.0, s.above ? data.hi : 0.0};
    if (end <= levels) return full; // every bin has a code of its own
    double least = std::numeric_limits<double>::infinity();
    std::size_t best = end;
    for (std::size_t i = levels; i <= end; ++i) {
        const std::uint64_t outliers = count[half] - count[i];
        const std::uint64_t last = count[i] - count[i - 1];
        if (last == 0 && outliers != 0) continue; // p > 0 where q = 0: infinite
        const auto p_last = static_cast<double>(last + outliers);
        double divergence = p_log_p[i - 1] + (p_last > 0 ? simd::rounded(p_last * log2_of(p_last)) : 0.0);
        for (std::size_t j = 0; j < levels; ++j) {
            const std::size_t from = j * i / levels, to = (j + 1) * i / levels;
            const std::uint64_t inside = count[to] - count[from];
            if (inside == 0) continue;
            const auto q = static_cast<double>(inside) / static_cast<double>(occupied[to] - occupied[from]);
            const auto p = static_cast<double>(inside + (to == i ? outliers : 0));
            divergence -= simd::rounded(p * log2_of(q));
        }
        divergence = divergence / total + log2_of(static_cast<double>(count[i]) / total);
        if (divergence <= least) {
            least = divergence;
            best = i;
        }
    }
    const clip_range range = within(static_cast<double>(best) * h.width(), data);
    return {s.below ? range.lo : 0.0, s.above ? range.hi : 0.0};
}

} // namespace detail

// ---- tails for the empirical ACIQ recursion -------------------------------------------------------------------------------

/// Sum and number of the elements beyond a limit.
struct tail_total {
    double sum = 0;   ///< in real units
    double count = 0; ///< of a histogram not always a whole number
};

/// Calls back with the tail of the data themselves: tail(alpha) passes over the tensor once.
template <real_element T, std::size_t Rank> struct data_tail {
    tensor_view<const T, Rank> data;
    simd::tail_side side = simd::tail_side::magnitude;

    /// alpha >= 0 in real units. Deterministic.
    [[nodiscard]] tail_total operator()(double alpha) const noexcept {
        exact_sum sum;
        std::uint64_t count = 0;
        simd::for_each_tile(data, [&](const float* p, std::size_t n) {
            const simd::block_tail tile = simd::tail_sums(p, n, alpha, side);
            sum.add(tile.sum);
            count += tile.count;
        });
        return {sum.to_double(), static_cast<double>(count)};
    }
};

/// Calls back with the tail of a histogram, its elements evenly spread inside a bin. The histogram must outlive it.
template <std::size_t Bins> struct histogram_tail {
    const histogram_observer<Bins>& histogram;
    simd::tail_side side = simd::tail_side::magnitude;

    /// alpha >= 0 in real units. Deterministic.
    [[nodiscard]] tail_total operator()(double alpha) const noexcept {
        const double width = histogram.width();
        tail_total total;
        for (std::size_t i = Bins / 2; i-- > 0;) {
            const double lo = static_cast<double>(i) * width, hi = lo + width;
            if (hi <= alpha) break;
            const auto count =
                static_cast<double>(detail::magnitudes_in(histogram, i, {side == simd::tail_side::magnitude, true}));
            if (count == 0) continue;
            const double from = lo > alpha ? lo : alpha;
            const double part = count * ((hi - from) / width);
            total.count += simd::rounded(part);
            total.sum += simd::rounded(part * (0.5 * (from + hi)));
        }
        return total;
    }
};

/// Which tail the recursion wants: the values themselves when the codes or the data have one sign.
[[nodiscard]] constexpr simd::tail_side tail_side_for(code_format format, statistics taken) noexcept {
    return !format.is_signed || taken == statistics::after_relu ? simd::tail_side::positive
                                                                : simd::tail_side::magnitude;
}

/// The tail of a tensor, for quant::aciq(...).clip_empirical: of |x|, or of x for an unsigned format or data after a ReLU.
/// The tensor must outlive it.
template <class X>
    requires detail::real_viewable<X>
[[nodiscard]] auto empirical_tail(const X& x, code_format format, statistics taken = statistics::unspecified) noexcept {
    const auto v = detail::view_const(x);
    using view_type = decltype(v);
    return data_tail<typename view_type::value_type, view_type::rank>{v, tail_side_for(format, taken)};
}
/// The tail of a histogram, which must outlive it.
template <std::size_t Bins>
[[nodiscard]] histogram_tail<Bins> empirical_tail(const histogram_observer<Bins>& histogram, code_format format,
                                                  statistics taken = statistics::unspecified) noexcept {
    return {histogram, tail_side_for(format, taken)};
}

/// Mean squared error of quantizing what a histogram describes with given parameters, in squared real units: the exact
/// integral for elements evenly spread inside each bin (in a bin that lies within one step this is the error of its centre plus
/// width^2/12); exact zeros have no error. Precondition: validate(params) is ok. 0 for no data. Deterministic.
template <std::size_t Bins>
[[nodiscard]] double histogram_mse(const histogram_observer<Bins>& histogram, const affine_params& params) noexcept {
    QUANT_EXPECTS(static_cast<bool>(validate(params)), "histogram_mse: legal parameters");
    return histogram.count() == 0 ? 0.0 : detail::squared_error(histogram, params);
}

QUANT_END_TARGET
QUANT_BEGIN_NAMESPACE

/// Keeps everything: [min, max].
struct minmax_clipping {
    bool reject_non_finite = false;

    /// The same, failing when a NaN or an infinity was seen.
    [[nodiscard]] QUANT_INLINE constexpr minmax_clipping strict() const noexcept { return {true}; }

    /// From an observer: min/max, moving average or histogram.
    /// Errors: bits_out_of_range, non_finite (strict), no_data. Exactness: bit-exact.
    template <class Observer>
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const Observer& observer, code_format format,
                                                       mapping) const noexcept {
        if (const status s = detail::check_calibration(1, observer.non_finite(), format, reject_non_finite); !s)
            return s;
        if constexpr (requires { observer.range(); })
            return observer.range();
        else
            return observer.clip();
    }
    /// From statistics. Errors: the same.
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const tensor_statistics& data, code_format format,
                                                       mapping) const noexcept {
        if (const status s = detail::check_calibration(data.count, data.non_finite, format, reject_non_finite); !s)
            return s;
        return clip_range{data.min, data.max};
    }
    friend constexpr bool operator==(const minmax_clipping&, const minmax_clipping&) = default;
};

/// Keeps a given percentage of the elements.
struct percentile_clipping {
    double percent = 100;
    bool reject_non_finite = false;

    [[nodiscard]] QUANT_INLINE constexpr percentile_clipping strict() const noexcept { return {percent, true}; }

    /// symmetric: [-a, a], a = the magnitude that `percent` % of the elements do not exceed (unsigned formats: of the values)
    /// affine:    half of the rest is cut off at each end, all of it at the one end that data of one sign have
    /// Right to one bin width of the order statistic; bit-exact. Errors: invalid_argument "percent" outside (0, 100],
    /// bits_out_of_range, non_finite (strict), no_data.
    template <class Histogram>
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const Histogram& histogram, code_format format,
                                                       mapping map) const noexcept {
        if (!(percent > 0 && percent <= 100)) return status{errc::invalid_argument, "percent"};
        if (const status s =
                detail::check_calibration(histogram.count(), histogram.non_finite(), format, reject_non_finite);
            !s)
            return s;
        return detail::clip_percentile(histogram, percent, format, map);
    }
    friend constexpr bool operator==(const percentile_clipping&, const percentile_clipping&) = default;
};

/// The range whose parameters have the smallest mean squared error on the histogram.
struct mse_clipping {
    bool reject_non_finite = false;

    [[nodiscard]] QUANT_INLINE constexpr mse_clipping strict() const noexcept { return {true}; }

    /// Searches the step (symmetric: [qmin step, qmax step]) or both ends (affine); each candidate is judged by histogram_mse
    /// of choose_params(candidate). 80 candidates over ten octaves below min/max, then two refinements; both ends together,
    /// then in turn; up to 4 bits once more for every zero point. Within 1 % of the best error on bell-shaped data.
    /// Deterministic. Cost: one pass over the bins, then about 100 sums over the codes (affine 500, affine of up to 4 bits 2000);
    /// formats with more codes than the histogram has bins, and histograms of more than 8192, take as many passes over the
    /// bins instead. 8 * Bins bytes of stack.
    /// Errors: bits_out_of_range, non_finite (strict), no_data.
    template <class Histogram>
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const Histogram& histogram, code_format format,
                                                       mapping map) const noexcept {
        if (const status s =
                detail::check_calibration(histogram.count(), histogram.non_finite(), format, reject_non_finite);
            !s)
            return s;
        return detail::clip_mse(detail::error_model(histogram), format, map);
    }
    /// The same for several formats: ranges[i] is clip(histogram, formats[i], map), and what depends on the histogram alone is
    /// computed once. Errors: shape_mismatch "ranges", and those of clip for any of the formats.
    template <std::size_t Bins>
    QUANT_INLINE status clip(const histogram_observer<Bins>& histogram, std::span<const code_format> formats,
                             mapping map, std::span<clip_range> ranges) const noexcept {
        if (formats.size() != ranges.size()) return {errc::shape_mismatch, "ranges"};
        for (const code_format format : formats)
            if (const status s =
                    detail::check_calibration(histogram.count(), histogram.non_finite(), format, reject_non_finite);
                !s)
                return s;
        const detail::error_model model(histogram);
        for (std::size_t i = 0; i < formats.size(); ++i) ranges[i] = detail::clip_mse(model, formats[i], map);
        return {};
    }
    friend constexpr bool operator==(const mse_clipping&, const mse_clipping&) = default;
};

/// The range that loses least information: smallest Kullback-Leibler divergence of the quantized from the original histogram.
struct entropy_clipping {
    bool reject_non_finite = false;

    [[nodiscard]] QUANT_INLINE constexpr entropy_clipping strict() const noexcept { return {true}; }

    /// The procedure of TensorRT's calibrator (Migacz, "8-bit inference with TensorRT", GTC 2017) on the histogram of |x|:
    /// p = the first i bins, everything beyond added to the last; q = the same bins without what lies beyond, merged into
    /// as many levels as there are codes on one side of zero (group j ends at bin floor((j + 1) i / levels)) and spread over
    /// the occupied bins of each; the i of the smallest sum p log(p/q), the largest one when several tie, gives
    /// [-i width, i width] cut to the data.
    /// Here: exact zeros are left out (they cost no code its precision); unsigned formats look at x > 0 alone; affine: all
    /// codes for data of one sign, else half of them. i starts at the number of levels: with 2048 bins and 8 bits no clip
    /// lies below 1/8 of the covered range, and where there are levels for all occupied bins nothing is clipped.
    /// Deterministic. Errors: bits_out_of_range, non_finite (strict), no_data.
    template <class Histogram>
    [[nodiscard]] QUANT_INLINE result<clip_range> clip(const Histogram& histogram, code_format format,
                                                       mapping map) const noexcept {
        if (const status s =
                detail::check_calibration(histogram.count(), histogram.non_finite(), format, reject_non_finite);
            !s)
            return s;
        return detail::clip_entropy(histogram, format, map);
    }
    friend constexpr bool operator==(const entropy_clipping&, const entropy_clipping&) = default;
};

inline constexpr minmax_clipping minmax{};
inline constexpr mse_clipping mse_optimal{};
inline constexpr entropy_clipping entropy{};

/// percent   of the elements to keep, in (0, 100]; 99.9 and 99.99 are usual for activations
[[nodiscard]] QUANT_INLINE constexpr percentile_clipping percentile(double percent) noexcept {
    return {percent, false};
}

QUANT_END_NAMESPACE
