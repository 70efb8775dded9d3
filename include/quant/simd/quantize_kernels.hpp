// SPDX-License-Identifier: MIT
#pragma once
// Float runs to codes, codes to floats, floats to representable floats. Layer 2 (simd).
// One pass, no allocation, any alignment, never a byte past the end. The tail is the scalar definition of core/scalar.hpp.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/scalar.hpp>
#include <quant/simd/arch.hpp>
#include <quant/simd/narrow.hpp>
#include <quant/simd/widen.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// One set of parameters for a whole run.
struct uniform_params {
    affine_params params;
    [[nodiscard]] QUANT_INLINE const affine_params& operator[](std::size_t) const noexcept { return params; }
};

/// A set of parameters per element (the innermost dimension owns the parameters): element i has params[i * step], and for
/// the vector loop the same numbers once more as separate arrays. Element i of the arrays is element i of the run.
struct per_element_params {
    const affine_params* params = nullptr;
    std::size_t step = 1;
    const float* scale = nullptr;
    const float* lo = nullptr; ///< float(qmin - zero_point)
    const float* hi = nullptr; ///< float(qmax - zero_point)
    const std::int32_t* zero_point = nullptr;
    [[nodiscard]] QUANT_INLINE const affine_params& operator[](std::size_t i) const noexcept {
        return params[i * step];
    }
};

/// Where stochastic rounding takes its randomness from: element i of a run has the index `first + i * step`.
struct index_run {
    std::uint64_t first = 0;
    std::uint64_t step = 1;
    [[nodiscard]] QUANT_INLINE std::uint64_t operator[](std::size_t i) const noexcept { return first + i * step; }
};

#if QUANT_HAS_XSIMD
namespace detail {

template <class Arch> using f32 = xsimd::batch<float, Arch>;
template <class Arch> using i32 = xsimd::batch<std::int32_t, Arch>;

/// Parameters as batches: broadcast once, or loaded per position.
template <class Arch> struct uniform_lanes {
    f32<Arch> scale, lo, hi;
    i32<Arch> zero_point;
    QUANT_INLINE explicit uniform_lanes(const uniform_params& p, scale_by divide) noexcept
        : scale(divide == scale_by::reciprocal ? 1.0f / p.params.scale : p.params.scale),
          lo(static_cast<float>(p.params.format.qmin() - p.params.zero_point)),
          hi(static_cast<float>(p.params.format.qmax() - p.params.zero_point)), zero_point(p.params.zero_point) {}
    QUANT_INLINE const uniform_lanes& at(std::size_t) const noexcept { return *this; }
};
template <class Arch> struct per_element_lanes {
    const per_element_params& from;
    scale_by divide;
    QUANT_INLINE explicit per_element_lanes(const per_element_params& p, scale_by d) noexcept : from(p), divide(d) {}
    struct loaded {
        f32<Arch> scale, lo, hi;
        i32<Arch> zero_point;
    };
    QUANT_INLINE loaded at(std::size_t i) const noexcept {
        const f32<Arch> scale = f32<Arch>::load_unaligned(from.scale + i);
        return {divide == scale_by::reciprocal ? f32<Arch>(1.0f) / scale : scale,
                f32<Arch>::load_unaligned(from.lo + i), f32<Arch>::load_unaligned(from.hi + i),
                i32<Arch>::load_unaligned(from.zero_point + i)};
    }
};
template <class Arch, class Params> struct lanes_of { using type = uniform_lanes<Arch>; };
template <class Arch> struct lanes_of<Arch, per_element_params> { using type = per_element_lanes<Arch>; };

/// Steps from zero as whole floats: equation (1) without the zero point. `uniform` is read by stochastic rounding alone.
template <class Arch, rounding Round, scale_by Divide, class Lanes>
QUANT_INLINE f32<Arch> steps(f32<Arch> x, const Lanes& p, const float* uniform) noexcept {
    f32<Arch> t = Divide == scale_by::division ? x / p.scale : x * p.scale;
    t = xsimd::select(t == t, t, f32<Arch>(0.0f)); // min and max treat NaN differently on every architecture
    t = xsimd::min(xsimd::max(t, p.lo), p.hi);
    if constexpr (Round == rounding::nearest_even) {
        return xsimd::to_float(xsimd::nearbyint_as_int(t));
    } else {
        const f32<Arch> truncated = xsimd::to_float(xsimd::to_int(t));
        const f32<Arch> zero(0.0f), one(1.0f);
        if constexpr (Round == rounding::half_away) {
            const f32<Arch> fraction = t - truncated;
            return truncated + xsimd::select(fraction >= f32<Arch>(0.5f), one, zero) -
                   xsimd::select(fraction <= f32<Arch>(-0.5f), one, zero);
        } else {
            const f32<Arch> below = truncated - xsimd::select(t < truncated, one, zero);
            if constexpr (Round == rounding::toward_negative) return below;
            return below + xsimd::select(f32<Arch>::load_unaligned(uniform) < t - below, one, zero);
        }
    }
}

/// Fills `uniform` with the random numbers of elements i … i + n - 1 of a run.
template <rounding Round, std::size_t N>
QUANT_INLINE void draw(float (&uniform)[N], const quantize_options& options, const index_run& index,
                       std::size_t i) noexcept {
    if constexpr (Round == rounding::stochastic)
        for (std::size_t j = 0; j < N; ++j)
            uniform[j] = random_uniform(options.seed, options.stream, options.first_index + index[i + j]);
}

template <class Arch, rounding Round, scale_by Divide, code_storage Code, class Params>
inline std::size_t quantize_batches(const float* x, Code* codes, std::size_t n, const Params& params,
                                    const quantize_options& options, const index_run& index) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const typename lanes_of<Arch, Params>::type p(params, Divide);
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        [[maybe_unused]] float uniform[Round == rounding::stochastic ? step : 1];
        draw<Round>(uniform, options, index, i);
        i32<Arch> v[4];
        for (std::size_t k = 0; k < 4; ++k) {
            const std::size_t at = i + k * lanes;
            const auto& lane_params = p.at(at);
            const f32<Arch> s = steps<Arch, Round, Divide>(f32<Arch>::load_unaligned(x + at), lane_params,
                                                           uniform + (Round == rounding::stochastic ? k * lanes : 0));
            v[k] = xsimd::to_int(s) + lane_params.zero_point;
        }
        store_narrow<Arch>(codes + i, v);
    }
    return i;
}

template <class Arch, rounding Round, scale_by Divide, class Params>
inline std::size_t fake_quant_batches(const float* x, float* out, std::size_t n, const Params& params,
                                      const quantize_options& options, const index_run& index) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    const typename lanes_of<Arch, Params>::type p(params, Divide);
    const typename lanes_of<Arch, Params>::type forward(params,
                                                        scale_by::division); // holds the scale, not its reciprocal
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        [[maybe_unused]] float uniform[Round == rounding::stochastic ? lanes : 1];
        draw<Round>(uniform, options, index, i);
        const auto& lane_params = p.at(i);
        const f32<Arch> s = steps<Arch, Round, Divide>(f32<Arch>::load_unaligned(x + i), lane_params, uniform);
        // Whole steps are never a negative zero: they start from an integer, and x - x is +0. So (3) equals (2) of (1).
        (s * forward.at(i).scale).store_unaligned(out + i);
    }
    return i;
}

/// Calls f with the rounding and the division as compile-time constants.
template <class F> QUANT_INLINE auto with_constants(const quantize_options& options, F f) noexcept {
    auto divide = [&]<rounding Round>(std::integral_constant<rounding, Round> round) {
        return options.divide == scale_by::division
                   ? f(round, std::integral_constant<scale_by, scale_by::division>{})
                   : f(round, std::integral_constant<scale_by, scale_by::reciprocal>{});
    };
    switch (options.round) {
    case rounding::half_away: return divide(std::integral_constant<rounding, rounding::half_away>{});
    case rounding::toward_negative: return divide(std::integral_constant<rounding, rounding::toward_negative>{});
    case rounding::stochastic: return divide(std::integral_constant<rounding, rounding::stochastic>{});
    case rounding::nearest_even: break;
    }
    return divide(std::integral_constant<rounding, rounding::nearest_even>{});
}

} // namespace detail
#endif

/// codes[i] = quantize_one(x[i], params[i]). Bit-exact on every architecture.
/// x [n] real units, any alignment; codes [n]; params uniform or per element, already validated.
template <class Arch = native_division, code_storage Code, class Params>
inline void quantize(const float* x, Code* codes, std::size_t n, const Params& params,
                     const quantize_options& options = {}, index_run index = {}) noexcept {
    std::size_t i = 0;
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch>)
        i = detail::with_constants(options, [&](auto round, auto divide) {
            const auto batches = [&](const float* from, Code* to, std::size_t count, index_run at) {
                return detail::quantize_batches<Arch, decltype(round)::value, decltype(divide)::value>(
                    from, to, count, params, options, at);
            };
            std::size_t done = batches(x, codes, n, index);
            if constexpr (std::same_as<Params, uniform_params>) {
                // A group of 32 is less than one step of the widest registers: what is left goes through a padded copy.
                constexpr std::size_t lanes = detail::f32<Arch>::size, step = 4 * lanes;
                if (const std::size_t left = n - done; left >= lanes) {
                    float padded[step] = {};
                    Code out[step];
                    for (std::size_t j = 0; j < left; ++j) padded[j] = x[done + j];
                    batches(padded, out, step, {index[done], index.step});
                    for (std::size_t j = 0; j < left; ++j) codes[done + j] = out[j];
                    done = n;
                }
            }
            return done;
        });
#endif
    // Counting down: with a constant n, g++ 12 at -O3 takes an upward loop's end for out of reach and warns.
    for (std::size_t left = n - i; left != 0; --left, ++i)
        codes[i] = static_cast<Code>(quantize_one(x[i], params[i], options, index[i]));
}

/// The same for double input, divided and rounded in double (scalar definition; the compiler vectorises what it can).
template <class Arch = native_division, code_storage Code, class Params>
inline void quantize(const double* x, Code* codes, std::size_t n, const Params& params,
                     const quantize_options& options = {}, index_run index = {}) noexcept {
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<Code>(quantize_one(x[i], params[i], options, index[i]));
}

/// out[i] = fake_quant_one(x[i], params[i]). x and out may be the same array.
template <class Arch = native_division, std::floating_point Real, class Params>
inline void fake_quant(const Real* x, Real* out, std::size_t n, const Params& params,
                       const quantize_options& options = {}, index_run index = {}) noexcept {
    std::size_t i = 0;
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch> && std::same_as<Real, float>)
        i = detail::with_constants(options, [&](auto round, auto divide) {
            return detail::fake_quant_batches<Arch, decltype(round)::value, decltype(divide)::value>(x, out, n, params,
                                                                                                     options, index);
        });
#endif
    for (std::size_t left = n - i; left != 0; --left, ++i) out[i] = fake_quant_one(x[i], params[i], options, index[i]);
}

/// out[i] = dequantize_one(codes[i], params[i]).
template <class Arch = native, code_storage Code, std::floating_point Real, class Params>
inline void dequantize(const Code* codes, Real* out, std::size_t n, const Params& params) noexcept {
    std::size_t i = 0;
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch> && std::same_as<Real, float>) {
        using namespace detail;
        constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
        const typename lanes_of<Arch, Params>::type p(params, scale_by::division);
        for (; i + step <= n; i += step) {
            i32<Arch> v[4];
            load_widen<Arch>(codes + i, v);
            for (std::size_t k = 0; k < 4; ++k) {
                const auto& lane_params = p.at(i + k * lanes);
                (xsimd::to_float(v[k] - lane_params.zero_point) * lane_params.scale)
                    .store_unaligned(out + i + k * lanes);
            }
        }
    }
#endif
    for (std::size_t left = n - i; left != 0; --left, ++i) out[i] = dequantize_one<Real>(codes[i], params[i]);
}

} // namespace simd
QUANT_END_TARGET
