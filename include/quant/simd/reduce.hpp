// SPDX-License-Identifier: MIT
#pragma once
// Reductions of a run of floats: extremes, moments, tails, errors, histogram bins. Layer 2 (simd).
//
// Sums run in 16 double lanes (element i in lane i mod 16) that one fixed tree adds up, on every architecture: the same
// bytes everywhere. Squares and products of floats are exact in double, so that fused multiply-add changes nothing.
// NaN and infinities are skipped and counted. n <= 2^24; callers pass tiles (simd/tiles.hpp). Any alignment, no byte past the
// end. A last group of fewer than 16 elements runs through the same code, filled up with NaN.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/simd/batch.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// Extremes of the finite elements; 0 when there are none. Never a negative zero.
struct block_extremes {
    float min = 0;
    float max = 0;
    std::uint32_t count = 0;      ///< finite elements
    std::uint32_t non_finite = 0; ///< skipped
};

/// Sums over the finite elements of a block.
struct block_moments {
    double sum = 0;           ///< of x
    double squares = 0;       ///< of x^2
    double abs_deviation = 0; ///< of |x - centre|
    float min = 0;
    float max = 0;
    std::uint32_t count = 0;
    std::uint32_t non_finite = 0;
    std::uint32_t positive = 0; ///< x > 0
};

/// Which elements a tail is made of: the |x|, or the x themselves (what a ReLU lets through).
enum class tail_side : std::uint8_t { magnitude, positive };

/// Elements beyond a limit.
struct block_tail {
    double sum = 0; ///< of |x| over |x| > alpha, or of x over x > alpha
    std::uint32_t count = 0;
};

/// Sums over the pairs of which both are finite; e = original - restored.
struct block_errors {
    double squared_error = 0;    ///< of e^2; e enters with its leading 26 bits (relative error below 2^-24)
    double squared_original = 0; ///< of original^2
    double squared_restored = 0; ///< of restored^2
    double product = 0;          ///< of original * restored
    double max_abs_error = 0;    ///< of all bits of |e|
    std::uint32_t count = 0;
    std::uint32_t non_finite = 0;
};

namespace detail {

template <class Arch> inline constexpr std::size_t float_parts = virtual_lanes / pack_of<float, Arch>::size;
template <class Arch> inline constexpr std::size_t double_parts = virtual_lanes / pack_of<double, Arch>::size;

/// 16 double lanes.
template <class Arch> struct sum_lanes {
    pack<double, Arch> part[double_parts<Arch>];

    QUANT_INLINE sum_lanes() noexcept {
        for (auto& p : part) p = pack<double, Arch>(0.0);
    }
    /// The fixed tree: halves onto halves.
    [[nodiscard]] QUANT_INLINE double total() const noexcept {
        double lane[virtual_lanes];
        for (std::size_t k = 0; k < double_parts<Arch>; ++k) put(lane + k * pack_of<double, Arch>::size, part[k]);
        for (std::size_t width = virtual_lanes / 2; width > 0; width /= 2)
            for (std::size_t i = 0; i < width; ++i) lane[i] += lane[i + width];
        return lane[0];
    }
};

/// Counts in float lanes, exact up to 2^24 per lane.
template <class Arch> struct count_lanes {
    pack<float, Arch> part = pack<float, Arch>(0.0f);

    template <class Mask> QUANT_INLINE void add(const Mask& condition) noexcept {
        part = part + choose(condition, pack<float, Arch>(1.0f), pack<float, Arch>(0.0f));
    }
    [[nodiscard]] QUANT_INLINE std::uint32_t total() const noexcept {
        float lane[pack_of<float, Arch>::size];
        put(lane, part);
        std::uint32_t n = 0;
        for (const float count : lane) n += static_cast<std::uint32_t>(count);
        return n;
    }
};

/// Smallest and largest, order-free.
template <class Arch> struct extreme_lanes {
    static constexpr float infinity = std::numeric_limits<float>::infinity();
    pack<float, Arch> low = pack<float, Arch>(infinity);
    pack<float, Arch> high = pack<float, Arch>(-infinity);

    template <class Mask> QUANT_INLINE void add(const Mask& kept, const pack<float, Arch>& x) noexcept {
        low = smaller(low, choose(kept, x, pack<float, Arch>(infinity)));
        high = larger(high, choose(kept, x, pack<float, Arch>(-infinity)));
    }
    /// Adding zero turns a negative zero, which may or may not survive a minimum, into a positive one.
    QUANT_INLINE void total(float& min, float& max) const noexcept {
        constexpr std::size_t lanes = pack_of<float, Arch>::size;
        float lows[lanes], highs[lanes];
        put(lows, low);
        put(highs, high);
        min = lows[0];
        max = highs[0];
        for (std::size_t i = 1; i < lanes; ++i) {
            min = smaller(min, lows[i]);
            max = larger(max, highs[i]);
        }
        min += 0.0f;
        max += 0.0f;
    }
};

/// Calls step(p) for every 16 floats, the last ones filled up with NaN.
template <class Step> QUANT_INLINE void for_each_group(const float* p, std::size_t n, Step&& step) noexcept {
    std::size_t i = 0;
    for (; n - i >= virtual_lanes; i += virtual_lanes) step(p + i);
    if (i == n) return;
    float rest[virtual_lanes];
    for (std::size_t k = 0; k < virtual_lanes; ++k)
        rest[k] = i + k < n ? p[i + k] : std::numeric_limits<float>::quiet_NaN();
    step(static_cast<const float*>(rest));
}

template <class Arch, bool Centred>
inline block_moments moments_of(const float* p, std::size_t n, float centre) noexcept {
    using floats = pack<float, Arch>;
    using doubles = pack<double, Arch>;
    sum_lanes<Arch> sum, squares, deviation;
    count_lanes<Arch> kept_count, positive;
    extreme_lanes<Arch> extremes;
    const doubles wide_centre(static_cast<double>(centre));
    for_each_group(p, n, [&](const float* q) {
        for (std::size_t k = 0; k < float_parts<Arch>; ++k) {
            const floats x = load<Arch>(q + k * pack_of<float, Arch>::size);
            const auto kept = finite(x);
            const floats value = choose(kept, x, floats(0.0f));
            kept_count.add(kept);
            positive.add(value > floats(0.0f));
            extremes.add(kept, x);
            const widened<Arch> wide = as_doubles<Arch>(value);
            widened<Arch> around = wide;
            if constexpr (Centred) around = as_doubles<Arch>(choose(kept, x, floats(centre)));
            for (std::size_t j = 0; j < widened<Arch>::count; ++j) {
                const std::size_t to = k * widened<Arch>::count + j;
                const doubles v = wide.part[j];
                sum.part[to] = sum.part[to] + v;
                squares.part[to] = squares.part[to] + v * v;
                deviation.part[to] = deviation.part[to] + magnitude(Centred ? around.part[j] - wide_centre : v);
            }
        }
    });
    block_moments out;
    out.sum = sum.total();
    out.squares = squares.total();
    out.abs_deviation = deviation.total();
    out.count = kept_count.total();
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    out.positive = positive.total();
    if (out.count != 0) extremes.total(out.min, out.max);
    return out;
}

} // namespace detail

/// Extremes of n floats. Bit-exact.
template <class Arch = native> [[nodiscard]] inline block_extremes extremes(const float* p, std::size_t n) noexcept {
    using A = reduction_arch_t<Arch>;
    detail::extreme_lanes<A> lanes;
    detail::count_lanes<A> kept_count;
    detail::for_each_group(p, n, [&](const float* q) {
        for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
            const pack<float, A> x = load<A>(q + k * pack_of<float, A>::size);
            const auto kept = finite(x);
            kept_count.add(kept);
            lanes.add(kept, x);
        }
    });
    block_extremes out;
    out.count = kept_count.total();
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    if (out.count != 0) lanes.total(out.min, out.max);
    return out;
}

/// Moments of n floats about 0 and absolute deviations from `centre` (finite). Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_moments moments(const float* p, std::size_t n, float centre = 0) noexcept {
    using A = reduction_arch_t<Arch>;
    return centre == 0 ? detail::moments_of<A, false>(p, n, centre) : detail::moments_of<A, true>(p, n, centre);
}

/// Sum and number of the elements with |x| > alpha (side magnitude) or x > alpha (side positive), alpha >= 0: one step of the
/// empirical clipping recursion. Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_tail tail_sums(const float* p, std::size_t n, double alpha,
                                          tail_side side = tail_side::magnitude) noexcept {
    using A = reduction_arch_t<Arch>;
    using floats = pack<float, A>;
    using doubles = pack<double, A>;
    detail::sum_lanes<A> sum, count;
    const doubles limit(alpha);
    const floats sign(side == tail_side::magnitude ? -1.0f : 0.0f); // what a negative element is multiplied with
    detail::for_each_group(p, n, [&](const float* q) {
        for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
            const floats x = load<A>(q + k * pack_of<float, A>::size);
            const floats value = choose(finite(x), x, floats(0.0f));
            const widened<A> wide = as_doubles<A>(choose(value < floats(0.0f), value * sign, value));
            for (std::size_t j = 0; j < widened<A>::count; ++j) {
                const std::size_t to = k * widened<A>::count + j;
                const auto beyond = wide.part[j] > limit; // never of the zero that stands for a skipped element
                sum.part[to] = sum.part[to] + choose(beyond, wide.part[j], doubles(0.0));
                count.part[to] = count.part[to] + choose(beyond, doubles(1.0), doubles(0.0));
            }
        }
    });
    return {sum.total(), static_cast<std::uint32_t>(count.total())};
}

/// Number of finite elements outside [lo, hi]. Exact.
template <class Arch = native>
[[nodiscard]] inline std::uint32_t count_outside(const float* p, std::size_t n, double lo, double hi) noexcept {
    using A = reduction_arch_t<Arch>;
    using doubles = pack<double, A>;
    detail::sum_lanes<A> count;
    const doubles low(lo), high(hi), one(1.0), zero(0.0);
    detail::for_each_group(p, n, [&](const float* q) {
        for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
            const pack<float, A> x = load<A>(q + k * pack_of<float, A>::size);
            const widened<A> kept = as_doubles<A>(choose(finite(x), pack<float, A>(1.0f), pack<float, A>(0.0f)));
            const widened<A> wide = as_doubles<A>(x);
            for (std::size_t j = 0; j < widened<A>::count; ++j) {
                const doubles outside = choose(wide.part[j] < low, one, choose(wide.part[j] > high, one, zero));
                auto& part = count.part[k * widened<A>::count + j];
                part = part + outside * kept.part[j];
            }
        }
    });
    return static_cast<std::uint32_t>(count.total());
}

/// Error sums of n pairs. Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_errors error_sums(const float* original, const float* restored, std::size_t n) noexcept {
    using A = reduction_arch_t<Arch>;
    using floats = pack<float, A>;
    using doubles = pack<double, A>;
    detail::sum_lanes<A> squared_error, squared_original, squared_restored, product;
    detail::count_lanes<A> kept_count;
    doubles largest(0.0);
    const auto group = [&](const float* p, const float* q) {
        for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
            const floats a = load<A>(p + k * pack_of<float, A>::size);
            const floats b = load<A>(q + k * pack_of<float, A>::size);
            const auto kept = both(finite(a), finite(b));
            kept_count.add(kept);
            const widened<A> x = as_doubles<A>(choose(kept, a, floats(0.0f)));
            const widened<A> y = as_doubles<A>(choose(kept, b, floats(0.0f)));
            for (std::size_t j = 0; j < widened<A>::count; ++j) {
                const std::size_t to = k * widened<A>::count + j;
                const doubles e = x.part[j] - y.part[j];
                largest = larger(largest, magnitude(e));
                const doubles short_e = leading_bits(e);
                squared_error.part[to] = squared_error.part[to] + short_e * short_e;
                squared_original.part[to] = squared_original.part[to] + x.part[j] * x.part[j];
                squared_restored.part[to] = squared_restored.part[to] + y.part[j] * y.part[j];
                product.part[to] = product.part[to] + x.part[j] * y.part[j];
            }
        }
    };
    std::size_t i = 0;
    for (; n - i >= virtual_lanes; i += virtual_lanes) group(original + i, restored + i);
    if (i < n) {
        float p[virtual_lanes], q[virtual_lanes];
        for (std::size_t k = 0; k < virtual_lanes; ++k) {
            p[k] = i + k < n ? original[i + k] : std::numeric_limits<float>::quiet_NaN();
            q[k] = i + k < n ? restored[i + k] : 0.0f;
        }
        group(p, q);
    }
    block_errors out;
    out.squared_error = squared_error.total();
    out.squared_original = squared_original.total();
    out.squared_restored = squared_restored.total();
    out.product = product.total();
    double lane[pack_of<double, A>::size];
    put(lane, largest);
    for (const double e : lane) out.max_abs_error = larger(out.max_abs_error, e);
    out.count = kept_count.total();
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    return out;
}

/// The bin of every element in a histogram of 2 * half bins around zero, or 2 * half for a NaN or an infinity:
/// half + trunc(|x| * inverse_width) for x >= 0, half - 1 - trunc(|x| * inverse_width) for x < 0.
/// inverse_width is a power of two in [2^-126, 2^126] with |x| * inverse_width < half for every finite x; half <= 2^22.
/// Multiplying by it is exact, or underflows where the bin is the first one anyway. Bit-exact.
template <class Arch = native>
inline void histogram_bins(const float* p, std::size_t n, float inverse_width, std::uint32_t half,
                           std::int32_t* bins) noexcept {
    using A = reduction_arch_t<Arch>;
    const auto run = [&]<class B>(std::type_identity<B>, std::size_t i) {
        using floats = pack<float, B>;
        const floats middle(static_cast<float>(half));
        const floats x = load<B>(p + i);
        const auto kept = finite(x);
        const floats steps = truncate(choose(kept, magnitude(x), floats(0.0f)) * floats(inverse_width));
        const floats bin = choose(x < floats(0.0f), middle - floats(1.0f) - steps, middle + steps);
        put_int(bins + i, choose(kept, bin, middle + middle));
    };
    constexpr std::size_t width = pack_of<float, A>::size;
    const std::size_t rest = n % width, whole = n - rest;
    for (std::size_t i = 0; i < whole; i += width) run(std::type_identity<A>{}, i);
    for (std::size_t i = 0; i < rest; ++i) run(std::type_identity<scalar>{}, whole + i);
}

} // namespace simd
QUANT_END_TARGET
