// SPDX-License-Identifier: MIT
#pragma once
// Float runs to codes, codes to floats, floats to representable floats. Layer 2 (simd).
// One pass, no allocation, any alignment, never a byte past the end. The tail is the scalar definition of core/scalar.hpp.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/scalar.hpp>
#include <quant/simd/arch.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/narrow.hpp>
#include <quant/simd/widen.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// One set of parameters for a whole run.
struct uniform_params {
    affine_params params;
    [[nodiscard]] QUANT_INLINE const affine_params& operator[](std::size_t) const noexcept { return params; }
    [[nodiscard]] QUANT_INLINE bool same_codes() const noexcept { return true; }
};

/// Elements a vector loop takes in one step on the widest registers: arrays of parameters go on for so many after the last one.
inline constexpr std::size_t widest_step = 64;

/// A set of parameters per element (the innermost dimension owns the parameters): element i has params[i * step], and for
/// the vector loop the same numbers once more as separate arrays. Element i of the arrays is element i of the run.
struct per_element_params {
    const affine_params* params = nullptr;
    std::size_t step = 1;
    const float* scale = nullptr;
    const float* inv_scale = nullptr; ///< 1 / scale
    const float* lo = nullptr;        ///< float(qmin - zero_point)
    const float* hi = nullptr;        ///< float(qmax - zero_point)
    const std::int32_t* zero_point = nullptr;
    bool corrects = false; ///< product_corrects for all of them
    bool same = false;     ///< all have one zero point and one format
    [[nodiscard]] QUANT_INLINE bool same_codes() const noexcept { return same; }
    [[nodiscard]] QUANT_INLINE const affine_params& operator[](std::size_t i) const noexcept {
        return params[i * step];
    }
};

/// Whether a product with the reciprocal, corrected once, gives every code that the division gives: docs/numerics.md, "Division
/// without dividing". False for about one scale in two thousand at up to 8 bits, one in eight above.
[[nodiscard]] QUANT_INLINE constexpr bool product_corrects(const affine_params& p) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(p.scale);
    const std::uint32_t modulus = p.format.bits <= 8 ? 1u << 16 : 1u << 8;
    const std::uint32_t rest = ((bits & 0x7FFFFFu) | 0x800000u) & (modulus - 1);
    return (rest == 0 || (rest > 16 && rest < modulus - 16)) && p.scale >= 0x1p-70f;
}

/// The arrays of up to Capacity elements.
template <std::size_t Capacity> class per_element_arrays {
public:
    /// Takes over params[0], params[step], … params[(n - 1) * step]. n <= Capacity.
    void load(const affine_params* params, std::size_t step, std::size_t n) noexcept {
        corrects_ = same_ = true;
        for (std::size_t i = 0; i < n + widest_step; ++i) {
            const affine_params& p = params[(i < n ? i : n - 1) * step];
            scale_[i] = p.scale;
            inv_scale_[i] = 1.0f / p.scale;
            lo_[i] = static_cast<float>(p.format.qmin() - p.zero_point);
            hi_[i] = static_cast<float>(p.format.qmax() - p.zero_point);
            zero_point_[i] = p.zero_point;
            corrects_ = corrects_ && product_corrects(p);
            same_ = same_ && p.zero_point == params->zero_point && p.format == params->format;
        }
    }
    [[nodiscard]] per_element_params view(const affine_params* params, std::size_t step) const noexcept {
        return {params, step, scale_, inv_scale_, lo_, hi_, zero_point_, corrects_, same_};
    }

private:
    static constexpr std::size_t size = (Capacity + 15) / 16 * 16 + widest_step; // the last step may begin anywhere
    // On cache lines: a register that straddles two of them costs two loads.
    alignas(64) float scale_[size], inv_scale_[size], lo_[size], hi_[size];
    alignas(64) std::int32_t zero_point_[size];
    bool corrects_ = false, same_ = false;
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

/// How x becomes x / scale.
enum class quotient : std::uint8_t {
    product,   ///< x * (1 / scale): what scale_by::reciprocal means
    divided,   ///< x / scale
    corrected, ///< x * (1 / scale) plus the remainder's share: the codes of x / scale (docs/numerics.md)
};

/// The same codes on an architecture that may be without fused multiply-add.
template <class Arch, quotient How>
inline constexpr quotient quotient_on = How == quotient::corrected && !has_fma<Arch> ? quotient::divided : How;

/// Parameters as batches: broadcast once, or loaded per position.
template <class Arch> struct lane_params {
    f32<Arch> scale, inv_scale, lo, hi;
    i32<Arch> zero_point;
};
template <class Arch> struct uniform_lanes : lane_params<Arch> {
    QUANT_INLINE explicit uniform_lanes(const uniform_params& p) noexcept
        : lane_params<Arch>{f32<Arch>(p.params.scale), f32<Arch>(1.0f / p.params.scale),
                            f32<Arch>(static_cast<float>(p.params.format.qmin() - p.params.zero_point)),
                            f32<Arch>(static_cast<float>(p.params.format.qmax() - p.params.zero_point)),
                            i32<Arch>(p.params.zero_point)} {}
    QUANT_INLINE const lane_params<Arch>& at(std::size_t) const noexcept { return *this; }
};
template <class Arch> struct per_element_lanes {
    // Copies: codes are bytes, and a store of bytes may alias anything that has an address.
    const float *scale, *inv_scale, *lo, *hi;
    const std::int32_t* zero_point;
    QUANT_INLINE explicit per_element_lanes(const per_element_params& p) noexcept
        : scale(p.scale), inv_scale(p.inv_scale), lo(p.lo), hi(p.hi), zero_point(p.zero_point) {}
    QUANT_INLINE lane_params<Arch> at(std::size_t i) const noexcept {
        return {f32<Arch>::load_unaligned(scale + i), f32<Arch>::load_unaligned(inv_scale + i),
                f32<Arch>::load_unaligned(lo + i), f32<Arch>::load_unaligned(hi + i),
                i32<Arch>::load_unaligned(zero_point + i)};
    }
};
template <class Arch, class Params> struct lanes_of { using type = uniform_lanes<Arch>; };
template <class Arch> struct lanes_of<Arch, per_element_params> { using type = per_element_lanes<Arch>; };

/// f(0) … f(3) with constants: g++ at -O2 keeps a loop over an array of registers in memory.
template <class F> QUANT_INLINE void four_times(F&& f) noexcept {
    f(std::integral_constant<std::size_t, 0>{});
    f(std::integral_constant<std::size_t, 1>{});
    f(std::integral_constant<std::size_t, 2>{});
    f(std::integral_constant<std::size_t, 3>{});
}

/// x / scale as it comes: NaN or infinite where x is, and where the quotient overflows.
template <quotient How, class Arch>
QUANT_INLINE f32<Arch> quotient_of(f32<Arch> x, const lane_params<Arch>& p) noexcept {
    if constexpr (How == quotient::divided) return x / p.scale;
    const f32<Arch> q = x * p.inv_scale;
    if constexpr (How == quotient::product) return q;
    const f32<Arch> remainder = xsimd::fnma(q, p.scale, x);
    return xsimd::fma(remainder, p.inv_scale, q);
}

/// x / scale cut to [lo, hi] (or past them by less than half a step), NaN taken for zero: what quotient_of is short of.
template <quotient How, class Arch>
QUANT_INLINE f32<Arch> careful_quotient(f32<Arch> x, const lane_params<Arch>& p) noexcept {
    const f32<Arch> number = xsimd::select(x == x, x, f32<Arch>(0.0f));
    // In real units first: an infinite product could not be corrected.
    const f32<Arch> limited = xsimd::min(xsimd::max(number, p.lo * p.scale), p.hi * p.scale);
    const f32<Arch> t = quotient_of < How == quotient::product
                            ? quotient::product
                            : How > (How == quotient::corrected ? limited : number, p);
    return xsimd::min(xsimd::max(t, p.lo), p.hi);
}

/// Four batches of careful_quotient, at the price of one test for NaN where there is none.
template <quotient How, class Arch, class Lanes>
QUANT_INLINE void clamped_quotients(const float* x, std::size_t i, const Lanes& p, f32<Arch> (&t)[4]) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    four_times(
        [&](auto k) { t[k] = quotient_of<How>(f32<Arch>::load_unaligned(x + i + k * lanes), p.at(i + k * lanes)); });
    if (any_nan(t)) [[unlikely]] {
        four_times([&](auto k) {
            t[k] = careful_quotient<How>(f32<Arch>::load_unaligned(x + i + k * lanes), p.at(i + k * lanes));
        });
    } else {
        four_times([&](auto k) {
            const lane_params<Arch>& own = p.at(i + k * lanes);
            t[k] = xsimd::min(xsimd::max(t[k], own.lo), own.hi);
        });
    }
}

/// Steps from zero as whole floats: equation (1) without the zero point. `uniform` is read by stochastic rounding alone.
template <class Arch, rounding Round, scale_by Divide, class Lanes>
QUANT_INLINE f32<Arch> steps(f32<Arch> x, const Lanes& p, const float* uniform) noexcept {
    f32<Arch> t = Divide == scale_by::division ? x / p.scale : x * p.inv_scale;
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

/// Codes of the steps of whole registers from x on; returns how many elements that were.
/// The loop of every rounding but the default.
template <class Arch, rounding Round, scale_by Divide, code_storage Code, class Params>
inline std::size_t quantize_batches(const float* x, Code* codes, std::size_t n, const Params& params,
                                    const quantize_options& options, const index_run& index) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const typename lanes_of<Arch, Params>::type p(params);
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        [[maybe_unused]] float uniform[Round == rounding::stochastic ? step : 1];
        draw<Round>(uniform, options, index, i);
        i32<Arch> v[4];
        four_times([&](auto k) {
            const std::size_t at = i + k * lanes;
            const auto& own = p.at(at);
            const f32<Arch> s = steps<Arch, Round, Divide>(f32<Arch>::load_unaligned(x + at), own,
                                                           uniform + (Round == rounding::stochastic ? k * lanes : 0));
            v[k] = xsimd::to_int(s) + own.zero_point;
        });
        store_narrow<Arch>(codes + i, v);
    }
    return i;
}

/// The loop of the default rounding: nearest, ties to even.
template <class Arch, quotient How, bool Stream, code_storage Code, class Params>
inline std::size_t quantize_nearest(const float* x, Code* codes, std::size_t n, const Params& params) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const typename lanes_of<Arch, Params>::type p(params);
    std::size_t i = 0;
    if constexpr (sizeof(Code) == 1 && converts_invalid_to_lowest<Arch>) {
        if (params.same_codes()) {
            // The packs do the clamping: 16 bits hold every step that matters.
            const code_format format = params[0].format;
            const auto zero_point = static_cast<std::int16_t>(params[0].zero_point);
            const xsimd::batch<Code, Arch> qmin(static_cast<Code>(format.qmin())),
                qmax(static_cast<Code>(format.qmax()));
            for (; i + step <= n; i += step) {
                i32<Arch> s[4];
                four_times([&](auto k) {
                    const std::size_t at = i + k * lanes;
                    s[k] = xsimd::nearbyint_as_int(quotient_of<How>(f32<Arch>::load_unaligned(x + at), p.at(at)));
                });
                short_lanes<Arch> shorts = saturate_to_shorts(s);
                if (any_lowest(shorts)) [[unlikely]] {
                    four_times([&](auto k) {
                        const std::size_t at = i + k * lanes;
                        s[k] =
                            xsimd::nearbyint_as_int(careful_quotient<How>(f32<Arch>::load_unaligned(x + at), p.at(at)));
                    });
                    shorts = saturate_to_shorts(s);
                }
                const auto saturated = narrow_codes<Code>(shorts, zero_point);
                put_batch<Stream>(codes + i, xsimd::min(xsimd::max(saturated, qmin), qmax));
            }
            return i;
        }
    }
    for (; i + step <= n; i += step) {
        f32<Arch> t[4];
        clamped_quotients<How>(x, i, p, t);
        i32<Arch> s[4];
        four_times([&](auto k) { s[k] = xsimd::nearbyint_as_int(t[k]) + p.at(i + k * lanes).zero_point; });
        store_narrow<Arch, Stream>(codes + i, s);
    }
    return i;
}

template <class Arch, rounding Round, scale_by Divide, class Params>
inline std::size_t fake_quant_batches(const float* x, float* out, std::size_t n, const Params& params,
                                      const quantize_options& options, const index_run& index) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    const typename lanes_of<Arch, Params>::type p(params);
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        [[maybe_unused]] float uniform[Round == rounding::stochastic ? lanes : 1];
        draw<Round>(uniform, options, index, i);
        const auto& own = p.at(i);
        const f32<Arch> s = steps<Arch, Round, Divide>(f32<Arch>::load_unaligned(x + i), own, uniform);
        // Whole steps are never a negative zero: they start from an integer, and x - x is +0. So (3) equals (2) of (1).
        (s * own.scale).store_unaligned(out + i);
    }
    return i;
}

/// Whole steps times the scale, never a negative zero.
template <class Arch> QUANT_INLINE f32<Arch> restored_steps(f32<Arch> t, const lane_params<Arch>& p) noexcept {
    if constexpr (has_fma<Arch>)
        return xsimd::fma(xsimd::nearbyint(t), p.scale, f32<Arch>(0.0f)); // the product alone is rounded; -0 + 0 is +0
    else
        return xsimd::to_float(xsimd::nearbyint_as_int(t)) * p.scale;
}

template <class Arch, quotient How, bool Stream, class Params>
inline std::size_t fake_quant_nearest(const float* x, float* out, std::size_t n, const Params& params) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const typename lanes_of<Arch, Params>::type p(params);
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        f32<Arch> t[4];
        clamped_quotients<How>(x, i, p, t);
        four_times([&](auto k) {
            const std::size_t at = i + k * lanes;
            put_batch<Stream>(out + at, restored_steps<Arch>(t[k], p.at(at)));
        });
    }
    return i;
}

template <class Arch, bool Stream, code_storage Code, class Params>
inline std::size_t dequantize_batches(const Code* codes, float* out, std::size_t n, const Params& params) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const typename lanes_of<Arch, Params>::type p(params);
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        i32<Arch> v[4];
        load_widen<Arch>(codes + i, v);
        four_times([&](auto k) {
            const auto& own = p.at(i + k * lanes);
            put_batch<Stream>(out + i + k * lanes, xsimd::to_float(v[k] - own.zero_point) * own.scale);
        });
    }
    return i;
}

/// The architecture that finishes what an architecture's own steps leave over: half the width, down to 128 bits.
template <class Arch> struct narrower_arch { using type = Arch; };
#if defined(__AVX512F__)
template <class Arch>
    requires(std::is_base_of_v<xsimd::avx512f, Arch>)
struct narrower_arch<Arch> {
    using type = xsimd::fma3<xsimd::avx2>;
};
#endif
#if defined(__AVX2__)
template <class Arch>
    requires(std::is_base_of_v<xsimd::avx, Arch>)
struct narrower_arch<Arch> {
    using type = xsimd::sse2;
};
#endif

/// Runs `batches(arch, stream, from, to, count, first)` over n elements in whole steps: streaming from the first aligned address
/// on if asked to, what is left over by narrower architectures, the last few through padded copies. `first` is the position of
/// the first element; the function returns how many it has done.
template <class Arch, class In, class Out, class F>
QUANT_INLINE void in_whole_steps(const In* from, Out* to, std::size_t n, bool stream, F&& batches) noexcept {
    constexpr std::size_t step = 4 * f32<Arch>::size;
    const auto rest = [&](std::size_t first, std::size_t count) {
        using narrower = typename narrower_arch<Arch>::type;
        if constexpr (!std::same_as<narrower, Arch>) {
            const auto shifted = [&](auto arch, auto, const In* in, Out* out, std::size_t left, std::size_t at) {
                return batches(arch, std::false_type{}, in, out, left, first + at);
            };
            in_whole_steps<narrower>(from + first, to + first, count, false, shifted);
        } else {
            In in[step] = {};
            Out out[step];
            for (std::size_t j = 0; j < count; ++j) in[j] = from[first + j];
            batches(std::type_identity<Arch>{}, std::false_type{}, static_cast<const In*>(in), static_cast<Out*>(out),
                    step, first);
            for (std::size_t j = 0; j < count; ++j) to[first + j] = out[j];
        }
    };
    std::size_t i = 0;
    if (has_streaming<Arch> && stream && n >= 4 * step) {
        i = elements_to_alignment<Arch>(to);
        if (i != 0) rest(0, i);
        i += batches(std::type_identity<Arch>{}, std::true_type{}, from + i, to + i, n - i, i);
    } else if (n >= step) {
        i = batches(std::type_identity<Arch>{}, std::false_type{}, from, to, n, std::size_t{0});
    }
    if (i != n) rest(i, n - i);
}

/// Calls f with the way to the quotient as a compile-time constant.
template <class Arch, class F> QUANT_INLINE void with_quotient(scale_by divide, bool corrects, F f) noexcept {
    if (divide == scale_by::reciprocal) {
        f(std::integral_constant<quotient, quotient::product>{});
        return;
    }
    if constexpr (has_fma<Arch>) { // all ways of dividing give the same codes
        if (corrects) {
            f(std::integral_constant<quotient, quotient::corrected>{});
            return;
        }
    }
    f(std::integral_constant<quotient, quotient::divided>{});
}

[[nodiscard]] QUANT_INLINE bool corrects(const uniform_params& p) noexcept { return product_corrects(p.params); }
[[nodiscard]] QUANT_INLINE bool corrects(const per_element_params& p) noexcept { return p.corrects; }

/// The parameters of the elements from `first` on.
[[nodiscard]] QUANT_INLINE const uniform_params& from_position(const uniform_params& p, std::size_t) noexcept {
    return p;
}
[[nodiscard]] QUANT_INLINE per_element_params from_position(const per_element_params& p, std::size_t first) noexcept {
    return {p.params + first * p.step, p.step,     p.scale + first, p.inv_scale + first, p.lo + first, p.hi + first,
            p.zero_point + first,      p.corrects, p.same};
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
/// options.stores decides by the size of this run; a caller that streamed ends with stream_fence().
template <class Arch = native_division, code_storage Code, class Params>
inline void quantize(const float* x, Code* codes, std::size_t n, const Params& params,
                     const quantize_options& options = {}, index_run index = {}) noexcept {
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch>) {
        using namespace detail;
        if (options.round == rounding::nearest_even) {
            with_quotient<Arch>(options.divide, corrects(params), [&](auto how) {
                in_whole_steps<Arch>(
                    x, codes, n, use_streaming(n * sizeof(Code), options.stores),
                    [&]<class A>(std::type_identity<A>, auto stream, const float* from, Code* to, std::size_t count,
                                 std::size_t first) {
                        return quantize_nearest<A, quotient_on<A, decltype(how)::value>, decltype(stream)::value>(
                            from, to, count, from_position(params, first));
                    });
            });
        } else {
            with_constants(options, [&](auto round, auto divide) {
                in_whole_steps<Arch>(x, codes, n, false,
                                     [&]<class A>(std::type_identity<A>, auto, const float* from, Code* to,
                                                  std::size_t count, std::size_t first) {
                                         return quantize_batches<A, decltype(round)::value, decltype(divide)::value>(
                                             from, to, count, from_position(params, first), options,
                                             {index[first], index.step});
                                     });
            });
        }
        return;
    }
#endif
    // Counting down: with a constant n, g++ 12 at -O3 takes an upward loop's end for out of reach and warns.
    std::size_t i = 0;
    for (std::size_t left = n; left != 0; --left, ++i)
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
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch> && std::same_as<Real, float>) {
        using namespace detail;
        if (options.round == rounding::nearest_even) {
            with_quotient<Arch>(options.divide, corrects(params), [&](auto how) {
                in_whole_steps<Arch>(
                    x, out, n, use_streaming(n * sizeof(float), options.stores),
                    [&]<class A>(std::type_identity<A>, auto stream, const float* from, float* to, std::size_t count,
                                 std::size_t first) {
                        return fake_quant_nearest<A, quotient_on<A, decltype(how)::value>, decltype(stream)::value>(
                            from, to, count, from_position(params, first));
                    });
            });
        } else {
            with_constants(options, [&](auto round, auto divide) {
                in_whole_steps<Arch>(x, out, n, false,
                                     [&]<class A>(std::type_identity<A>, auto, const float* from, float* to,
                                                  std::size_t count, std::size_t first) {
                                         return fake_quant_batches<A, decltype(round)::value, decltype(divide)::value>(
                                             from, to, count, from_position(params, first), options,
                                             {index[first], index.step});
                                     });
            });
        }
        return;
    }
#endif
    std::size_t i = 0;
    for (std::size_t left = n; left != 0; --left, ++i) out[i] = fake_quant_one(x[i], params[i], options, index[i]);
}

/// out[i] = dequantize_one(codes[i], params[i]).
template <class Arch = native, code_storage Code, std::floating_point Real, class Params>
inline void dequantize(const Code* codes, Real* out, std::size_t n, const Params& params,
                       store_policy stores = {}) noexcept {
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch> && std::same_as<Real, float>) {
        using namespace detail;
        in_whole_steps<Arch>(codes, out, n, use_streaming(n * sizeof(float), stores),
                             [&]<class A>(std::type_identity<A>, auto stream, const Code* from, float* to,
                                          std::size_t count, std::size_t first) {
                                 return dequantize_batches<A, decltype(stream)::value>(from, to, count,
                                                                                       from_position(params, first));
                             });
        return;
    }
#endif
    std::size_t i = 0;
    for (std::size_t left = n; left != 0; --left, ++i) out[i] = dequantize_one<Real>(codes[i], params[i]);
}

} // namespace simd
QUANT_END_TARGET
