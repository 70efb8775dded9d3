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
#include <quant/simd/memory.hpp>
#include <type_traits>
#include <utility>

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

/// Elements between two limits, one by one, as long as there is room.
struct element_window {
    static constexpr std::uint32_t room = 256;
    float value[room];
    std::uint32_t count = 0; ///< of all elements between the limits, also those without room
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

/// f(0) ... f(N - 1) with constants, so that arrays they index can live in registers.
template <std::size_t N, class F> QUANT_INLINE void unrolled(F&& f) noexcept {
    [&f]<std::size_t... K>(std::index_sequence<K...>) QUANT_INLINE_LAMBDA {
        (f(std::integral_constant<std::size_t, K>{}), ...);
    }
    (std::make_index_sequence<N>{});
}

/// 16 double lanes.
template <class Arch> struct sum_lanes {
    pack<double, Arch> part[double_parts<Arch>];

    QUANT_INLINE sum_lanes() noexcept {
        unrolled<double_parts<Arch>>([&](auto k) { part[k] = pack<double, Arch>(0.0); });
    }
    /// The fixed tree: halves onto halves, as long as they are whole registers, then lane by lane.
    [[nodiscard]] QUANT_INLINE double total() const noexcept {
        pack<double, Arch> folded[double_parts<Arch>];
        unrolled<double_parts<Arch>>([&](auto k) { folded[k] = part[k]; });
        const auto halve = [&]<std::size_t Half>(std::integral_constant<std::size_t, Half>) {
            if constexpr (2 * Half <= double_parts<Arch>)
                unrolled<Half>([&](auto k) { folded[k] = folded[k] + folded[k + Half]; });
        };
        halve(std::integral_constant<std::size_t, 8>{});
        halve(std::integral_constant<std::size_t, 4>{});
        halve(std::integral_constant<std::size_t, 2>{});
        halve(std::integral_constant<std::size_t, 1>{});
        return folded_lanes(folded[0], [](double a, double b) noexcept { return a + b; });
    }
};

/// Counts.
template <class Arch> struct count_lanes {
    pack<std::int32_t, Arch> part = pack<std::int32_t, Arch>(0);

    template <class Mask> QUANT_INLINE void add(const Mask& condition) noexcept { part = count_up(part, condition); }
    [[nodiscard]] QUANT_INLINE std::uint32_t total() const noexcept {
        return static_cast<std::uint32_t>(
            folded_lanes(part, [](std::int32_t a, std::int32_t b) noexcept { return a + b; }));
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
        min = folded_lanes(low, [](float a, float b) noexcept { return smaller(a, b); }) + 0.0f;
        max = folded_lanes(high, [](float a, float b) noexcept { return larger(a, b); }) + 0.0f;
    }
};

/// Calls step(p) for every 16 floats, the last ones filled up with NaN.
template <class Step> QUANT_INLINE void for_each_group(const float* p, std::size_t n, Step&& step) noexcept {
    const std::size_t whole = n - n % virtual_lanes;
    std::size_t i = 0;
    for (; i < whole; i += virtual_lanes) step(p + i);
    if (i == n) return;
    float rest[virtual_lanes];
    for (std::size_t k = 0; k < virtual_lanes; ++k)
        rest[k] = i + k < n ? p[i + k] : std::numeric_limits<float>::quiet_NaN();
    step(static_cast<const float*>(rest));
}

template <class Arch> inline constexpr std::size_t extremes_step = 4 * pack_of<float, Arch>::size;
inline constexpr std::size_t extremes_block = 8192; ///< what is read again when it holds a NaN or an infinity

/// The extremes of n finite floats, n a multiple of extremes_step; false, and nothing done, when they are not all finite.
/// Four independent chains; whether all was finite costs one more instruction, which runs beside the minimum and the maximum.
template <class Arch>
QUANT_INLINE bool quick_extremes(const float* p, std::size_t n, extreme_lanes<Arch>& extremes) noexcept {
    using floats = pack<float, Arch>;
    constexpr std::size_t width = pack_of<float, Arch>::size;
    const floats zero(0.0f);
    floats low0 = extremes.low, low1 = low0, low2 = low0, low3 = low0;
    floats high0 = extremes.high, high1 = high0, high2 = high0, high3 = high0;
    floats watch0 = zero, watch1 = zero, watch2 = zero, watch3 = zero;
    const auto take = [&zero](const float* from, floats& low, floats& high, floats& watched) noexcept {
        const floats x = held(load<Arch>(from));
        low = quick_smaller(low, x);
        high = quick_larger(high, x);
        watched = watch(watched, x, zero);
    };
    for (std::size_t i = 0; i < n; i += extremes_step<Arch>) {
        take(p + i, low0, high0, watch0);
        take(p + i + width, low1, high1, watch1);
        take(p + i + 2 * width, low2, high2, watch2);
        take(p + i + 3 * width, low3, high3, watch3);
    }
    if (!is_zero((watch0 + watch1) + (watch2 + watch3))) return false;
    extremes.low = quick_smaller(quick_smaller(low0, low1), quick_smaller(low2, low3));
    extremes.high = quick_larger(quick_larger(high0, high1), quick_larger(high2, high3));
    return true;
}

/// The lanes of moments. `Careful` skips NaN and infinities, else all elements must be finite.
template <class Arch, bool Centred> struct moment_lanes {
    using floats = pack<float, Arch>;
    using doubles = pack<double, Arch>;
    static constexpr std::size_t width = pack_of<float, Arch>::size;
    sum_lanes<Arch> sum, squares, deviation;
    count_lanes<Arch> positive;
    extreme_lanes<Arch> extremes;
    count_lanes<Arch> kept_count; ///< of the careful part

    QUANT_INLINE void add(std::size_t to, const doubles& v, const doubles& away) noexcept {
        sum.part[to] = sum.part[to] + v;
        squares.part[to] = add_exact_product(squares.part[to], v, v);
        deviation.part[to] = deviation.part[to] + magnitude(away);
    }
    QUANT_INLINE void quick_order(const floats& x) noexcept {
        positive.add(x > floats(0.0f));
        extremes.low = quick_smaller(extremes.low, x);
        extremes.high = quick_larger(extremes.high, x);
    }
    /// n finite floats, n a multiple of virtual_lanes. Where 16 lanes are several registers the sums take nearly all there are,
    /// and the order has a loop of its own.
    QUANT_INLINE void quick_run(const float* p, std::size_t n, const doubles& centre) noexcept {
        constexpr bool together = float_parts<Arch> == 1;
        if constexpr (!together)
            for (std::size_t i = 0; i < n; i += width) quick_order(load<Arch>(p + i));
        for (std::size_t i = 0; i < n; i += virtual_lanes) {
            unrolled<float_parts<Arch>>([&](auto k) {
                const floats x = load<Arch>(p + i + k * width);
                if constexpr (together) quick_order(x);
                const widened<Arch> wide = as_doubles<Arch>(x);
                unrolled<widened<Arch>::count>([&](auto j) {
                    add(k * widened<Arch>::count + j, wide.part[j], Centred ? wide.part[j] - centre : wide.part[j]);
                });
            });
        }
    }
    QUANT_INLINE void careful_group(const float* q, float centre) noexcept {
        unrolled<float_parts<Arch>>([&](auto k) {
            const floats x = load<Arch>(q + k * width);
            const auto kept = finite(x);
            const floats value = choose(kept, x, floats(0.0f));
            kept_count.add(kept);
            positive.add(value > floats(0.0f));
            extremes.add(kept, x);
            const widened<Arch> wide = as_doubles<Arch>(value);
            const widened<Arch> around = as_doubles<Arch>(Centred ? choose(kept, x, floats(centre)) : value);
            const doubles shift(Centred ? static_cast<double>(centre) : 0.0);
            unrolled<widened<Arch>::count>([&](auto j) {
                add(k * widened<Arch>::count + j, wide.part[j], Centred ? around.part[j] - shift : around.part[j]);
            });
        });
    }
};

/// Writes the moments of n floats and says whether they hold. The quick way takes for granted that all are finite; if not, so
/// is the sum of squares, which cannot overflow otherwise.
template <class Arch, bool Centred, bool Careful>
inline bool moments_of(const float* p, std::size_t n, float centre, block_moments& out) noexcept {
    moment_lanes<Arch, Centred> lanes;
    std::size_t quick = 0;
    if constexpr (!Careful) {
        const pack<double, Arch> wide_centre(static_cast<double>(centre));
        quick = n - n % virtual_lanes;
        lanes.quick_run(p, quick, wide_centre);
    }
    for_each_group(p + quick, n - quick, [&](const float* q) { lanes.careful_group(q, centre); });
    out.squares = lanes.squares.total();
    if (!Careful && !finite(out.squares)) return false;
    out.sum = lanes.sum.total();
    out.abs_deviation = lanes.deviation.total();
    out.count = static_cast<std::uint32_t>(quick) + lanes.kept_count.total();
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    out.positive = lanes.positive.total();
    if (out.count != 0) lanes.extremes.total(out.min, out.max);
    return true;
}

template <class Arch, bool Centred>
inline block_moments moments_of(const float* p, std::size_t n, float centre) noexcept {
    block_moments out;
    if (!moments_of<Arch, Centred, false>(p, n, centre, out)) moments_of<Arch, Centred, true>(p, n, centre, out);
    return out;
}

/// The same moments in one small loop, the lanes in memory: what a processor without SIMD runs. Elements that do not count would
/// have added zeros, which change no lane.
QUANT_OUTLINE block_moments plain_moments(const float* p, std::size_t n, float centre) noexcept {
    constexpr std::size_t kinds = 3;
    double lane[kinds][virtual_lanes]{};
    // Not where it is used: assemblers for the M55 do not know the conditional conversion that g++ 12 makes of it there.
    const auto wide_centre = static_cast<double>(centre);
    extreme_lanes<scalar> extremes;
    block_moments out;
    for (std::size_t i = 0; i < n; ++i) {
        const float x = p[i];
        if (!finite(x)) continue;
        ++out.count;
        if (x > 0) ++out.positive;
        extremes.low = smaller(extremes.low, x);
        extremes.high = larger(extremes.high, x);
        const auto v = static_cast<double>(x);
        const double term[kinds]{v, v * v, magnitude(centre == 0 ? v : v - wide_centre)};
        for (std::size_t k = 0; k < kinds; ++k) lane[k][i % virtual_lanes] += term[k];
    }
    for (auto& lanes : lane)
        for (std::size_t half = virtual_lanes / 2; half > 0; half /= 2)
            for (std::size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
    out.sum = lane[0][0];
    out.squares = lane[1][0];
    out.abs_deviation = lane[2][0];
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    if (out.count != 0) extremes.total(out.min, out.max);
    return out;
}

/// The largest float <= x >= 0: floats above it are those above x.
QUANT_INLINE float float_at_most(double x) noexcept {
    constexpr float largest = std::numeric_limits<float>::max();
    if (x >= static_cast<double>(largest)) return largest;
    const auto nearest = static_cast<float>(x);
    if (static_cast<double>(nearest) <= x) return nearest;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(nearest) - 1);
}

/// The smallest float >= x, of any sign; an infinity beyond all of them.
QUANT_INLINE float float_at_least(double x) noexcept {
    constexpr float largest = std::numeric_limits<float>::max();
    if (x > static_cast<double>(largest)) return std::numeric_limits<float>::infinity();
    if (x <= 0) return -float_at_most(-x);
    const float below = float_at_most(x);
    return static_cast<double>(below) == x ? below : std::bit_cast<float>(std::bit_cast<std::uint32_t>(below) + 1);
}

/// Writes the error sums and says whether they hold: without `Careful` a value that is not finite makes a sum of squares so.
template <class Arch, bool Careful>
inline bool errors_of(const float* original, const float* restored, std::size_t n, block_errors& out) noexcept {
    using floats = pack<float, Arch>;
    using doubles = pack<double, Arch>;
    constexpr std::size_t width = pack_of<float, Arch>::size;
    sum_lanes<Arch> squared_error, squared_original, squared_restored, product;
    count_lanes<Arch> kept_count;
    doubles largest(0.0);
    const auto group = [&](const float* p, const float* q) {
        for (std::size_t k = 0; k < float_parts<Arch>; ++k) {
            floats a = load<Arch>(p + k * width), b = load<Arch>(q + k * width);
            if constexpr (Careful) {
                const auto kept = both(finite(a), finite(b));
                kept_count.add(kept);
                a = choose(kept, a, floats(0.0f));
                b = choose(kept, b, floats(0.0f));
            }
            const widened<Arch> x = as_doubles<Arch>(a), y = as_doubles<Arch>(b);
            for (std::size_t j = 0; j < widened<Arch>::count; ++j) {
                const std::size_t to = k * widened<Arch>::count + j;
                const doubles e = x.part[j] - y.part[j];
                largest = quick_larger(largest, magnitude(e));
                const doubles short_e = leading_bits(e);
                const auto add = [to](sum_lanes<Arch>& sum, const doubles& u, const doubles& v) {
                    sum.part[to] = add_exact_product(sum.part[to], u, v);
                };
                add(squared_error, short_e, short_e);
                add(squared_original, x.part[j], x.part[j]);
                add(squared_restored, y.part[j], y.part[j]);
                add(product, x.part[j], y.part[j]);
            }
        }
    };
    const std::size_t whole = n - n % virtual_lanes;
    std::size_t i = 0;
    for (; i < whole; i += virtual_lanes) group(original + i, restored + i);
    if (i < n) {
        // Filled up with pairs that do not count, or with zeros, which add nothing.
        float p[virtual_lanes], q[virtual_lanes];
        for (std::size_t k = 0; k < virtual_lanes; ++k) {
            p[k] = i + k < n ? original[i + k] : (Careful ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
            q[k] = i + k < n ? restored[i + k] : 0.0f;
        }
        group(p, q);
    }
    out.squared_original = squared_original.total();
    out.squared_restored = squared_restored.total();
    if (!Careful && !(finite(out.squared_original) && finite(out.squared_restored))) return false;
    out.squared_error = squared_error.total();
    out.product = product.total();
    out.max_abs_error = folded_lanes(largest, [](double a, double b) noexcept { return larger(a, b); });
    out.count = Careful ? kept_count.total() : static_cast<std::uint32_t>(n);
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    return true;
}

/// Sum and number of the elements beyond `hi`; those of (lo, hi] go to the window. Whether infinities are left out is up to
/// `Careful`; without it one of them makes the sum infinite, which finite elements cannot.
template <class Arch, bool Magnitude, bool Window, bool Careful> struct tail_lanes {
    using floats = pack<float, Arch>;
    static constexpr std::size_t width = pack_of<float, Arch>::size;
    float from_limit, to_limit;
    floats from = floats(from_limit), limit = floats(to_limit);
    sum_lanes<Arch> sum{};
    count_lanes<Arch> count{};

    static QUANT_INLINE floats value_at(const float* q) noexcept {
        if constexpr (Magnitude)
            return magnitude(load<Arch>(q));
        else
            return load<Arch>(q);
    }
    QUANT_INLINE void add_group(const float* q) noexcept {
        for (std::size_t k = 0; k < float_parts<Arch>; ++k) {
            const floats value = value_at(q + k * width);
            auto beyond = value > limit; // false for NaN
            if constexpr (Careful) beyond = both(beyond, value <= floats(std::numeric_limits<float>::max()));
            count.add(beyond);
            const widened<Arch> wide = as_doubles<Arch>(choose(beyond, value, floats(0.0f)));
            for (std::size_t j = 0; j < widened<Arch>::count; ++j) {
                const std::size_t to = k * widened<Arch>::count + j;
                sum.part[to] = sum.part[to] + wide.part[j];
            }
        }
    }
    void collect(const float* q, std::size_t n, element_window& window) const noexcept {
        for (std::size_t i = 0; i < n; ++i) {
            const float v = Magnitude ? magnitude(q[i]) : q[i];
            if (!(v > from_limit && v <= to_limit)) continue;
            if (window.count < element_window::room) window.value[window.count] = v;
            ++window.count;
        }
    }
    QUANT_INLINE void run(const float* p, std::size_t n, element_window* window) noexcept {
        // Blocks with nothing beyond are passed over: their zeros would not change a sum. Larger than a group, so that the
        // branch is foreseen: a tail is either dense, and nearly every block has some of it, or thin, and few have.
        constexpr std::size_t block = 4 * virtual_lanes;
        const std::size_t whole = n - n % block;
        std::size_t i = 0;
        for (; i < whole; i += block) {
            auto some = value_at(p + i) > from;
            for (std::size_t k = width; k < block; k += width) some = either(some, value_at(p + i + k) > from);
            if (!any_true(some)) continue;
            for (std::size_t k = 0; k < block; k += virtual_lanes) add_group(p + i + k);
            if constexpr (Window) {
                auto inside = some; // only so that it has a type
                for (std::size_t k = 0; k < block; k += width) {
                    const floats value = value_at(p + i + k);
                    const auto here = both(value > from, value <= limit);
                    inside = k == 0 ? here : either(inside, here);
                }
                if (any_true(inside)) collect(p + i, block, *window);
            }
        }
        if constexpr (Window) collect(p + i, n - i, *window);
        for_each_group(p + i, n - i, [&](const float* q) { add_group(q); });
    }
};

template <class Arch, bool Magnitude, bool Window>
inline block_tail tail_of(const float* p, std::size_t n, double lo, double hi, element_window* window) noexcept {
    tail_lanes<Arch, Magnitude, Window, false> quick{float_at_most(lo), float_at_most(hi)};
    quick.run(p, n, window);
    const double sum = quick.sum.total();
    if (finite(sum)) return {sum, quick.count.total()};
    tail_lanes<Arch, Magnitude, false, true> careful{float_at_most(hi), float_at_most(hi)};
    careful.run(p, n, nullptr);
    return {careful.sum.total(), careful.count.total()};
}

} // namespace detail

/// Extremes of n floats. Bit-exact. n <= 2^24; whole tensors of that size are as good as tiles.
template <class Arch = native> [[nodiscard]] inline block_extremes extremes(const float* p, std::size_t n) noexcept {
    using A = reduction_arch_t<Arch>;
    using floats = pack<float, A>;
    constexpr std::size_t width = pack_of<float, A>::size;
    detail::extreme_lanes<A> lanes;
    detail::count_lanes<A> kept_count;
    std::uint32_t all_finite = 0;
    const auto careful = [&](const float* from, std::size_t count) {
        detail::for_each_group(from, count, [&](const float* q) {
            for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
                const floats x = load<A>(q + k * width);
                const auto kept = finite(x);
                kept_count.add(kept);
                lanes.add(kept, x);
            }
        });
    };
    const std::size_t whole = n - n % detail::extremes_step<A>;
    for (std::size_t i = 0; i < whole;) {
        const std::size_t size = whole - i < detail::extremes_block ? whole - i : detail::extremes_block;
        if (detail::quick_extremes<A>(p + i, size, lanes))
            all_finite += static_cast<std::uint32_t>(size);
        else
            careful(p + i, size);
        i += size;
    }
    careful(p + whole, n - whole);
    block_extremes out;
    out.count = all_finite + kept_count.total();
    out.non_finite = static_cast<std::uint32_t>(n) - out.count;
    if (out.count != 0) lanes.total(out.min, out.max);
    return out;
}

/// Moments of n floats about 0 and absolute deviations from `centre` (finite). Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_moments moments(const float* p, std::size_t n, float centre = 0) noexcept {
#if QUANT_HAS_XSIMD
    using A = reduction_arch_t<Arch>;
    return centre == 0 ? detail::moments_of<A, false>(p, n, centre) : detail::moments_of<A, true>(p, n, centre);
#else
    return detail::plain_moments(p, n, centre);
#endif
}

/// Sum and number of the elements with |x| > alpha (side magnitude) or x > alpha (side positive), alpha >= 0: one step of the
/// empirical clipping recursion. Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_tail tail_sums(const float* p, std::size_t n, double alpha,
                                          tail_side side = tail_side::magnitude) noexcept {
    using A = reduction_arch_t<Arch>;
    return side == tail_side::magnitude ? detail::tail_of<A, true, false>(p, n, alpha, alpha, nullptr)
                                        : detail::tail_of<A, false, false>(p, n, alpha, alpha, nullptr);
}

/// The same beyond `hi`, and the elements (their magnitudes) of (lo, hi] one by one into `window`, 0 <= lo <= hi. Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_tail tail_and_window(const float* p, std::size_t n, double lo, double hi, tail_side side,
                                                element_window& window) noexcept {
    using A = reduction_arch_t<Arch>;
    return side == tail_side::magnitude ? detail::tail_of<A, true, true>(p, n, lo, hi, &window)
                                        : detail::tail_of<A, false, true>(p, n, lo, hi, &window);
}

/// Copies the elements with |x| > limit >= 0, infinities too, in their order; returns their number. `to` has room for
/// n + virtual_lanes floats. Exact.
template <class Arch = native>
[[nodiscard]] inline std::size_t select_beyond(const float* p, std::size_t n, double limit, float* to) noexcept {
    using A = reduction_arch_t<Arch>;
    const pack<float, A> from(detail::float_at_most(limit));
    std::size_t count = 0;
    detail::for_each_group(p, n, [&](const float* q) {
        for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
            const pack<float, A> x = load<A>(q + k * pack_of<float, A>::size);
            count += put_where(to + count, x, magnitude(x) > from);
        }
    });
    return count;
}

/// Number of finite elements outside [lo, hi]. Exact.
template <class Arch = native>
[[nodiscard]] inline std::uint32_t count_outside(const float* p, std::size_t n, double lo, double hi) noexcept {
    using A = reduction_arch_t<Arch>;
    using floats = pack<float, A>;
    // A float is below lo if and only if it is below the smallest float that is not, and infinities are below everything.
    const float lowest = detail::float_at_least(lo), highest = -detail::float_at_least(-hi);
    const floats low(lowest), high(highest), least(std::numeric_limits<float>::lowest()),
        most(std::numeric_limits<float>::max());
    detail::count_lanes<A> count;
    detail::for_each_group(p, n, [&](const float* q) {
        for (std::size_t k = 0; k < detail::float_parts<A>; ++k) {
            const floats x = load<A>(q + k * pack_of<float, A>::size);
            count.add(either(both(x < low, x >= least), both(x > high, x <= most)));
        }
    });
    return count.total();
}

/// Error sums of n pairs. Deterministic.
template <class Arch = native>
[[nodiscard]] inline block_errors error_sums(const float* original, const float* restored, std::size_t n) noexcept {
    using A = reduction_arch_t<Arch>;
    block_errors out;
    if (!detail::errors_of<A, false>(original, restored, n, out))
        detail::errors_of<A, true>(original, restored, n, out);
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

/// Elements that histogram_step takes at once.
inline constexpr std::size_t histogram_step_size = 1024;

/// What the steps of a histogram find beside the counts.
template <class Arch> struct histogram_lanes {
    detail::extreme_lanes<Arch> extremes;
    /// Increments of one counter wait for each other, and zeros are what a tensor has many of: those of lane k are counted in
    /// bin stand_in(k), and here, until `settle` puts them where they belong.
    detail::count_lanes<Arch> zeros[detail::float_parts<Arch>];

    [[nodiscard]] static constexpr std::int32_t stand_in(std::size_t lane, std::uint32_t half) noexcept {
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(lane) * (half / 8)); // of 16 lanes
    }
    /// Moves the zeros to their bin and returns their number.
    std::uint64_t settle(std::uint64_t* bins, std::uint32_t half) noexcept {
        std::uint64_t total = 0;
        std::int32_t count[virtual_lanes];
        for (std::size_t k = 0; k < detail::float_parts<Arch>; ++k) {
            put(count + k * pack_of<float, Arch>::size, zeros[k].part);
            zeros[k] = {};
        }
        for (std::size_t k = 0; k < virtual_lanes; ++k) {
            const auto n = static_cast<std::uint64_t>(count[k]);
            bins[stand_in(k, half)] -= n;
            total += n;
        }
        bins[half] += total;
        return total;
    }
};

/// Two steps of a pipeline, whose halves keep different parts of a core busy: the bins of one block of 1024 elements are
/// computed while those of the block before are counted.
/// p        1024 elements (Compute); their bins go to `next`, two to a word, in any order
/// current  words whose bins are to be counted (Count)
/// half     a power of two up to 2^15
/// found    takes in the elements of p. Returns whether all were finite and |x| * inverse_width < half; if not, the words mean
///          nothing and `found` is as before.
template <class Arch, bool Compute, bool Count>
#if defined(__GNUC__)
__attribute__((noinline))
#endif
inline bool
histogram_step(const float* p, float inverse_width, std::uint32_t half, std::int32_t* next, const std::int32_t* current,
               std::uint64_t* bins, histogram_lanes<Arch>& found) noexcept {
    using floats = pack<float, Arch>;
    using integers = pack<std::int32_t, Arch>;
    constexpr std::size_t width = pack_of<float, Arch>::size, parts = detail::float_parts<Arch>;
    std::int32_t zero_bin[virtual_lanes];
    for (std::size_t k = 0; k < virtual_lanes; ++k) zero_bin[k] = histogram_lanes<Arch>::stand_in(k, half);
    integers stand_in[parts];
    for (std::size_t k = 0; k < parts; ++k) stand_in[k] = load_int<Arch>(zero_bin + k * width);
    const floats scale(inverse_width), zero(0.0f);
    const integers middle(static_cast<std::int32_t>(half));
    histogram_lanes<Arch> lanes = found;
    integers all_bins(0);
    // Truncated toward zero, and one less below zero: the bins there are mirrored.
    [[maybe_unused]] const auto bin_of = [&](std::size_t at, auto k) QUANT_INLINE_LAMBDA {
        const floats x = held(load<Arch>(p + at));
        const integers bin = truncated(x * scale) + sign_mask(x) + middle;
        const auto is_nought = x == zero;
        all_bins = all_bins | bin;
        lanes.extremes.low = quick_smaller(lanes.extremes.low, x);
        lanes.extremes.high = quick_larger(lanes.extremes.high, x);
        lanes.zeros[k].add(is_nought);
        return choose_int(is_nought, stand_in[k], bin);
    };
    const auto count = [&](std::size_t from, std::size_t to) QUANT_INLINE_LAMBDA {
        if constexpr (Count) {
            constexpr std::size_t words = width < 4 ? 1 : 2;
            // Unrolled into as many instructions as there are words, this loop takes three times as long.
#if defined(__clang__)
#pragma clang loop unroll(disable) vectorize(disable)
#elif defined(__GNUC__)
#pragma GCC unroll 1
#endif
            for (std::size_t k = from; k < to; k += words)
                detail::unrolled<words>([&](auto j) QUANT_INLINE_LAMBDA {
                    const auto two = static_cast<std::uint32_t>(current[k + j]);
                    ++bins[two & 0xFFFFu];
                    ++bins[two >> 16];
                });
        }
    };
#if defined(__clang__)
#pragma clang loop unroll(disable)
#endif
    for (std::size_t i = 0; i < histogram_step_size; i += 2 * virtual_lanes) {
        if constexpr (Compute) { // two lines; the counts are so many that a processor looks ahead by too little
            const auto* const ahead = reinterpret_cast<const char*>(p + i) + 1024;
            prefetch_read(ahead);
            prefetch_read(ahead + 64);
        }
        detail::unrolled<parts>([&](auto k) QUANT_INLINE_LAMBDA {
            const std::size_t first = i + k * width, at = i / 2 + k * width, middle_word = at + width / 2;
            [[maybe_unused]] integers low(0);
            if constexpr (Compute) low = bin_of(first, k);
            count(at, middle_word); // in small portions, so that the one is never far from the other
            if constexpr (Compute) put(next + at, two_halves(low, bin_of(first + virtual_lanes, k)));
            count(middle_word, at + width);
        });
    }
    if constexpr (!Compute) return true;
    if (any_bit(all_bins, ~static_cast<std::int32_t>(2 * half - 1))) return false;
    found = lanes;
    return true;
}

} // namespace simd
QUANT_END_TARGET
