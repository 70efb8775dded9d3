// SPDX-License-Identifier: MIT
#pragma once
// The loops of row-wise mixed schemes: rounding to powers of two and to even steps, its way back, and the sum of products that shifts
// instead of multiplying. Layer 2 (simd). The same bytes on every architecture.

#include <array>
#include <cstddef>
#include <cstdint>
#include <quant/simd/csq_kernels.hpp>
#include <quant/simd/exponential.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// The levels of one row. Even steps: j / levels, j = 0 to levels, from |w| / step. Powers of two (levels == 0): 0 and
/// value[1 … powers], where |w| / scale belongs to level j if it is above threshold[j] and not above the next.
template <class T> struct row_levels {
    static constexpr int most_powers = 7;
    T scale = 1; ///< the real value of level 1.0
    T step = 1;  ///< even steps: scale / levels
    T levels = 0;
    int powers = 0;
    T threshold[most_powers + 1] = {};
    T value[most_powers + 1] = {};
};

/// What round_rows writes.
enum class row_output : std::uint8_t { values, codes };

namespace detail {

/// Level and code of a magnitude t in [0, 1], both not negative.
template <class T, class A> struct row_level { pack<T, A> level, code; };

/// |w| / unit, at most `most`.
template <class T, class A> QUANT_INLINE pack<T, A> relative(const pack<T, A>& w, T unit, T most) noexcept {
    using P = pack<T, A>;
    const P t = divided(magnitude(w), P(unit)), limit(most);
    return choose(t > limit, limit, t);
}
/// A magnitude in the middle between two levels goes to the smaller one.
template <class T, class A, bool Powers>
QUANT_INLINE row_level<T, A> level_of(const pack<T, A>& w, const row_levels<T>& r) noexcept {
    using P = pack<T, A>;
    if constexpr (Powers) {
        const P t = relative<T, A>(w, r.scale, T(1));
        row_level<T, A> at{t - t, t - t}; // zero, or NaN
        for (int j = 1; j <= r.powers; ++j) {
            const auto above = t > P(r.threshold[j]);
            at.level = choose(above, P(r.value[j]), at.level);
            at.code = choose(above, P(static_cast<T>(j)), at.code);
        }
        return at;
    } else {
        const P u = relative<T, A>(w, r.step, r.levels), near = nearest_even<T, A>(u), one(T(1)), zero(T(0));
        const P code = near - choose(P(near - u) == P(T(0.5)), one, zero); // a tie that went up comes down again
        return {divided(code, P(r.levels)), code};
    }
}
template <class T, class A> QUANT_INLINE pack<T, A> signed_as(const pack<T, A>& w, const pack<T, A>& size) noexcept {
    using P = pack<T, A>;
    return choose(w < P(T(0)), P(P(T(0)) - size), size);
}

} // namespace detail

/// Level times scale of n weights, or their codes as T. NaN gives NaN.
template <class T, row_output Output, class Arch = native>
inline void round_rows(const T* w, T* to, std::size_t n, const row_levels<T>& r) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    const auto run = [&]<bool Powers>(std::bool_constant<Powers>) {
        detail::for_each_pack<T, A, 1, 1>({w}, {to}, n, [&](std::size_t, const auto& x, auto& y) {
            const auto at = detail::level_of<T, A, Powers>(x[0], r);
            if constexpr (Output == row_output::codes)
                y[0] = detail::signed_as<T, A>(x[0], at.code);
            else if constexpr (Powers)
                y[0] = detail::signed_as<T, A>(x[0], P(at.level * P(r.scale)));
            else
                y[0] = detail::signed_as<T, A>(x[0], P(at.code * P(r.step)));
        });
    };
    r.levels == 0 ? run(std::true_type{}) : run(std::false_type{});
}

/// dw = g, or with Inside only where |w| <= scale, else 0. Returns the sum of g (l - [|w| <= scale] w / scale), l the signed level.
template <class T, bool Inside, class Arch = native>
inline double round_rows_backward(const T* w, const T* g, T* dw, std::size_t n, const row_levels<T>& r) noexcept {
    using A = reduction_arch_t<Arch>;
    using P = pack<T, A>;
    detail::sum_lanes<A> total;
    const P zero(T(0));
    const auto run = [&]<bool Powers>(std::bool_constant<Powers>) {
        detail::for_each_pack<T, A, 2, 1>({w, g}, {dw}, n, [&](std::size_t k, const auto& x, auto& y) {
            const P t = detail::relative<T, A>(x[0], r.scale, T(1));
            const P level = detail::level_of<T, A, Powers>(x[0], r).level;
            const auto inside = magnitude(x[0]) <= P(r.scale);
            const P off = choose(inside, P(level - t), level);
            detail::add_products<T, A>(total, k, x[1], detail::signed_as<T, A>(x[0], off));
            y[0] = Inside ? choose(inside, x[1], zero) : x[1];
        });
    };
    r.levels == 0 ? run(std::true_type{}) : run(std::false_type{});
    return total.total();
}

// ---- sums of shifted activations ------------------------------------------------------------------------------------------

/// The sum of sign(c) (x << (|c| - 1)) over c != 0; |c| <= 7. Exact modulo 2^32. The definition, and the generic twin.
inline std::int32_t shift_add_generic(const std::int8_t* codes, const std::int8_t* x, std::size_t n) noexcept {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if (codes[i] == 0) continue;
        const int code = +codes[i], size = code < 0 ? -code : code;
        const auto shifted = static_cast<std::uint32_t>(static_cast<std::int32_t>(x[i])) << (size - 1);
        sum = code < 0 ? sum - shifted : sum + shifted;
    }
    return static_cast<std::int32_t>(sum);
}

#if QUANT_HAS_XSIMD
namespace detail {

/// sign(c) (x << (|c| - 1)) in 16 bits: at most 2^13 in magnitude.
template <class A>
QUANT_INLINE xsimd::batch<std::int16_t, A> shifted_by_code(const xsimd::batch<std::int16_t, A>& c,
                                                           const xsimd::batch<std::int16_t, A>& x) noexcept {
    using V = xsimd::batch<std::int16_t, A>;
    const V sign = c >> 15, count = V(((c ^ sign) - sign) + V(-1)); // -1 where the code is 0
    return V((shift_up_each(x, count) ^ sign) - sign);
}

} // namespace detail

template <class Arch>
    requires(!std::same_as<Arch, scalar>)
inline std::int32_t shift_add(const std::int8_t* codes, const std::int8_t* x, std::size_t n) noexcept {
    using bytes = xsimd::batch<std::int8_t, Arch>;
    using halves = xsimd::batch<std::int16_t, Arch>;
    using words = xsimd::batch<std::int32_t, Arch>;
    constexpr std::size_t step = bytes::size;
    words sum(0);
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        // Bytes of even places are shifted up and down again, those of odd places down: both operands alike, so that no order matters.
        const auto c = xsimd::bitwise_cast<std::int16_t>(bytes::load_unaligned(codes + i));
        const auto a = xsimd::bitwise_cast<std::int16_t>(bytes::load_unaligned(x + i));
        const halves even = detail::shifted_by_code<Arch>(halves(halves(c << 8) >> 8), halves(halves(a << 8) >> 8));
        const halves odd = detail::shifted_by_code<Arch>(halves(c >> 8), halves(a >> 8));
        const auto pairs = xsimd::bitwise_cast<std::int32_t>(halves(even + odd)); // at most 2^14 each
        sum = plus(sum, plus(shift_down(shift_up(pairs, 16), 16), shift_down(pairs, 16)));
    }
    std::int32_t lanes[words::size];
    sum.store_unaligned(lanes);
    auto total = static_cast<std::uint32_t>(shift_add_generic(codes + i, x + i, n - i));
    for (const std::int32_t lane : lanes) total += static_cast<std::uint32_t>(lane);
    return static_cast<std::int32_t>(total);
}
#endif
template <class Arch>
    requires(std::same_as<Arch, scalar>)
inline std::int32_t shift_add(const std::int8_t* codes, const std::int8_t* x, std::size_t n) noexcept {
    return shift_add_generic(codes, x, n);
}

} // namespace simd
QUANT_END_TARGET
