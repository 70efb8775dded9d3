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
#include <quant/simd/batch.hpp>
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

/// Runs that share the parameters of their elements: row r starts r strides after the first one (in elements).
struct run_rows {
    std::size_t count = 1, src_stride = 0, dst_stride = 0;
    std::uint64_t index_stride = 0;
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

/// The way of `Arch` on the narrower architecture that finishes its steps: a few elements do not repay another function.
template <class Arch, class Narrower, quotient How>
inline constexpr quotient quotient_on =
    How == quotient::corrected && !std::same_as<Arch, Narrower> ? quotient::divided : How;

/// Parameters as batches: broadcast once, or loaded per position.
template <class Arch> struct lane_params {
    f32<Arch> scale, inv_scale, lo, hi;
    i32<Arch> zero_point;
};
/// The parameters of the four registers of a step: step_params[k] are those of register k.
template <class Arch> struct uniform_step {
    lane_params<Arch> all;
    QUANT_INLINE explicit uniform_step(const affine_params& p) noexcept
        : all{f32<Arch>(p.scale), f32<Arch>(1.0f / p.scale),
              f32<Arch>(static_cast<float>(p.format.qmin() - p.zero_point)),
              f32<Arch>(static_cast<float>(p.format.qmax() - p.zero_point)), i32<Arch>(p.zero_point)} {}
    QUANT_INLINE const lane_params<Arch>& operator[](std::size_t) const noexcept { return all; }
};
template <class Arch> struct per_element_step {
    lane_params<Arch> each[4];
    QUANT_INLINE per_element_step(const per_element_params& p, std::size_t i) noexcept
        : each{at(p, i), at(p, i + f32<Arch>::size), at(p, i + 2 * f32<Arch>::size), at(p, i + 3 * f32<Arch>::size)} {}
    QUANT_INLINE const lane_params<Arch>& operator[](std::size_t k) const noexcept { return each[k]; }

private:
    static QUANT_INLINE lane_params<Arch> at(const per_element_params& p, std::size_t i) noexcept {
        return {f32<Arch>::load_unaligned(p.scale + i), f32<Arch>::load_unaligned(p.inv_scale + i),
                f32<Arch>::load_unaligned(p.lo + i), f32<Arch>::load_unaligned(p.hi + i),
                i32<Arch>::load_unaligned(p.zero_point + i)};
    }
};

/// Calls f(step parameters, from, to, i) for every whole step of four registers of n elements, of every row; returns how many
/// elements of a row that were. Parameters of elements are loaded once for all rows.
template <class Arch, class In, class Out, class Params, class F>
QUANT_INLINE std::size_t for_each_step(const In* from, Out* to, std::size_t n, const Params& params,
                                       const run_rows& rows, F&& f) noexcept {
    constexpr std::size_t step = 4 * f32<Arch>::size;
    std::size_t i = 0;
    if constexpr (std::same_as<Params, uniform_params>) {
        const uniform_step<Arch> p(params.params);
        for (; i + step <= n; i += step) f(p, from + i, to + i, i);
    } else {
        // Copies: codes are bytes, and a store of bytes may alias anything that has an address.
        const per_element_params own = params;
        const run_rows r = rows;
        for (; i + step <= n; i += step) {
            const per_element_step<Arch> p(own, i);
            const In* in = from + i;
            Out* out = to + i;
            for (std::size_t left = r.count; left != 0; --left, in += r.src_stride, out += r.dst_stride)
                f(p, in, out, i);
        }
    }
    return i;
}

/// The parameters of the elements from `first` on.
[[nodiscard]] QUANT_INLINE const uniform_params& from_position(const uniform_params& p, std::size_t) noexcept {
    return p;
}
[[nodiscard]] QUANT_INLINE per_element_params from_position(const per_element_params& p, std::size_t first) noexcept {
    return {p.params + first * p.step, p.step,     p.scale + first, p.inv_scale + first, p.lo + first, p.hi + first,
            p.zero_point + first,      p.corrects, p.same};
}

/// x / scale as it comes: NaN or infinite where x is, and where the quotient overflows.
template <quotient How, class Arch>
QUANT_INLINE f32<Arch> quotient_of(f32<Arch> x, const lane_params<Arch>& p) noexcept {
    if constexpr (How == quotient::divided) return divided(x, p.scale);
    const f32<Arch> q = x * p.inv_scale;
    if constexpr (How == quotient::product) return q;
    const f32<Arch> remainder = fused_remainder(x, q, p.scale);
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
template <quotient How, class Arch, class Step>
QUANT_INLINE void clamped_quotients(const float* x, const Step& p, f32<Arch> (&t)[4]) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    four_times([&](auto k) { t[k] = quotient_of<How>(f32<Arch>::load_unaligned(x + k * lanes), p[k]); });
    if (any_nan(t)) [[unlikely]]
        four_times([&](auto k) { t[k] = careful_quotient<How>(f32<Arch>::load_unaligned(x + k * lanes), p[k]); });
    else
        four_times([&](auto k) { t[k] = xsimd::min(xsimd::max(t[k], p[k].lo), p[k].hi); });
}

/// Steps from zero as whole floats: equation (1) without the zero point, for every rounding but the default.
/// `uniform` is read by stochastic rounding alone.
template <class Arch, rounding Round, class Lanes>
QUANT_INLINE f32<Arch> steps(f32<Arch> x, const Lanes& p, scale_by divide, const float* uniform) noexcept {
    static_assert(Round != rounding::nearest_even);
    f32<Arch> t = divide == scale_by::division ? divided(x, p.scale) : x * p.inv_scale;
    t = xsimd::select(t == t, t, f32<Arch>(0.0f)); // min and max treat NaN differently on every architecture
    t = xsimd::min(xsimd::max(t, p.lo), p.hi);
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

/// Fills `uniform` with the random numbers of elements i … i + n - 1 of a run.
template <rounding Round, std::size_t N>
QUANT_INLINE void draw(float (&uniform)[N], const quantize_options& options, const index_run& index,
                       std::size_t i) noexcept {
    if constexpr (Round == rounding::stochastic)
        for (std::size_t j = 0; j < N; ++j)
            uniform[j] = random_uniform(options.seed, options.stream, options.first_index + index[i + j]);
}

/// Codes of whole steps; returns how many elements that were. The loop of every rounding but the default; one row.
template <class Arch, rounding Round, code_storage Code, class Params>
inline std::size_t quantize_batches(const float* x, Code* codes, std::size_t n, const Params& params,
                                    const quantize_options& options, const index_run& index) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    return for_each_step<Arch>(x, codes, n, params, {}, [&](const auto& p, const float* from, Code* to, std::size_t i) {
        [[maybe_unused]] float uniform[Round == rounding::stochastic ? step : 1];
        draw<Round>(uniform, options, index, i);
        i32<Arch> v[4];
        four_times([&](auto k) {
            const f32<Arch> s = steps<Arch, Round>(f32<Arch>::load_unaligned(from + k * lanes), p[k], options.divide,
                                                   uniform + (Round == rounding::stochastic ? k * lanes : 0));
            v[k] = plus(xsimd::to_int(s), p[k].zero_point);
        });
        store_narrow<Arch>(to, v);
    });
}

/// Codes of whole steps where float to int32 turns what it cannot express into the lowest integer and the packs do the clamping: 16
/// bits hold every step that matters. Careful: a step with such a lane is computed again at once. Otherwise its codes are wrong, and
/// the function returns true if there was one: a minimum per step instead of a comparison and a branch.
template <class Arch, quotient How, bool Stream, bool Careful, code_storage Code, class Params>
QUANT_INLINE bool quantize_packed_steps(const float* x, Code* codes, std::size_t n, const Params& params,
                                        const run_rows& rows) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    const code_format format = params[0].format;
    const auto zero_point = static_cast<std::int16_t>(params[0].zero_point);
    const xsimd::batch<Code, Arch> qmin(static_cast<Code>(format.qmin())), qmax(static_cast<Code>(format.qmax()));
    const bool limited = format != full_range_format<Code>;
    short_lanes<Arch> least{xsimd::batch<std::int16_t, Arch>(0), xsimd::batch<std::int16_t, Arch>(0)};
    for_each_step<Arch>(x, codes, n, params, rows, [&](const auto& p, const float* from, Code* to, std::size_t) {
        i32<Arch> s[4];
        four_times([&](auto k) {
            s[k] = xsimd::nearbyint_as_int(quotient_of<How>(f32<Arch>::load_unaligned(from + k * lanes), p[k]));
        });
        short_lanes<Arch> shorts = saturate_to_shorts(s);
        if constexpr (!Careful) {
            least.ab = xsimd::min(least.ab, shorts.ab);
            least.cd = xsimd::min(least.cd, shorts.cd);
        } else if (any_lowest(shorts)) {
            four_times([&](auto k) {
                s[k] =
                    xsimd::nearbyint_as_int(careful_quotient<How>(f32<Arch>::load_unaligned(from + k * lanes), p[k]));
            });
            shorts = saturate_to_shorts(s);
        }
        auto saturated = narrow_codes<Code>(shorts, zero_point);
        if (limited) saturated = xsimd::min(xsimd::max(saturated, qmin), qmax);
        put_batch<Stream>(to, saturated);
    });
    return !Careful && any_lowest(least);
}

/// The loop of the default rounding: nearest, ties to even.
template <class Arch, quotient How, bool Stream, code_storage Code, class Params>
inline std::size_t quantize_nearest(const float* x, Code* codes, std::size_t n, const Params& params,
                                    const run_rows& rows = {}) noexcept {
    constexpr std::size_t step = 4 * f32<Arch>::size;
    if constexpr (sizeof(Code) == 1 && converts_invalid_to_lowest<Arch>) {
        if (params.same_codes()) {
            // One look per block instead of one per step. Codes and reals do not share memory, so that a block can be done again.
            constexpr std::size_t block = 4096;
            const std::size_t whole = n / step * step;
            for (std::size_t i = 0; i < whole; i += block) {
                const std::size_t count = whole - i < block ? whole - i : block;
                const auto& own = from_position(params, i);
                if (quantize_packed_steps<Arch, How, Stream, false>(x + i, codes + i, count, own, rows)) [[unlikely]]
                    quantize_packed_steps<Arch, How, Stream, true>(x + i, codes + i, count, own, rows);
            }
            return whole;
        }
    }
    return for_each_step<Arch>(x, codes, n, params, rows, [](const auto& p, const float* from, Code* to, std::size_t) {
        f32<Arch> t[4];
        clamped_quotients<How>(from, p, t);
        i32<Arch> s[4];
        four_times([&](auto k) { s[k] = plus(xsimd::nearbyint_as_int(t[k]), p[k].zero_point); });
        store_narrow<Arch, Stream>(to, s);
    });
}

template <class Arch, rounding Round, class Params>
inline std::size_t fake_quant_batches(const float* x, float* out, std::size_t n, const Params& params,
                                      const quantize_options& options, const index_run& index) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    return for_each_step<Arch>(x, out, n, params, {}, [&](const auto& p, const float* from, float* to, std::size_t i) {
        [[maybe_unused]] float uniform[Round == rounding::stochastic ? step : 1];
        draw<Round>(uniform, options, index, i);
        four_times([&](auto k) {
            const f32<Arch> s = steps<Arch, Round>(f32<Arch>::load_unaligned(from + k * lanes), p[k], options.divide,
                                                   uniform + (Round == rounding::stochastic ? k * lanes : 0));
            // Whole steps are never a negative zero: they start from an integer, and x - x is +0. So (3) equals (2) of (1).
            (s * p[k].scale).store_unaligned(to + k * lanes);
        });
    });
}

/// Whole steps times the scale, never a negative zero.
template <class Arch> QUANT_INLINE f32<Arch> restored_steps(f32<Arch> t, const lane_params<Arch>& p) noexcept {
    if constexpr (has_fma<Arch>)
        return xsimd::fma(xsimd::nearbyint(t), p.scale, f32<Arch>(0.0f)); // the product alone is rounded; -0 + 0 is +0
    else
        return xsimd::to_float(xsimd::nearbyint_as_int(t)) * p.scale;
}

template <class Arch, quotient How, bool Stream, class Params>
inline std::size_t fake_quant_nearest(const float* x, float* out, std::size_t n, const Params& params,
                                      const run_rows& rows) noexcept {
    return for_each_step<Arch>(x, out, n, params, rows, [](const auto& p, const float* from, float* to, std::size_t) {
        f32<Arch> t[4];
        clamped_quotients<How>(from, p, t);
        four_times([&](auto k) { put_batch<Stream>(to + k * f32<Arch>::size, restored_steps<Arch>(t[k], p[k])); });
    });
}

template <class Arch, bool Stream, code_storage Code, class Params>
inline std::size_t dequantize_batches(const Code* codes, float* out, std::size_t n, const Params& params,
                                      const run_rows& rows) noexcept {
    return for_each_step<Arch>(
        codes, out, n, params, rows, [](const auto& p, const Code* from, float* to, std::size_t) {
            i32<Arch> v[4];
            load_widen<Arch>(from, v);
            four_times([&](auto k) {
                put_batch<Stream>(to + k * f32<Arch>::size, xsimd::to_float(minus(v[k], p[k].zero_point)) * p[k].scale);
            });
        });
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

/// Rows that go through a block of columns before the next block: so many that loading parameters hardly counts, so few that
/// they stay in the first-level cache.
inline constexpr std::size_t rows_at_once = 4;

/// Runs `batches` over fewer elements than a step, through copies that fill one up.
template <class Arch, class In, class Out, class F>
inline void in_padded_step(const In* from, Out* to, std::size_t n, std::size_t first, const run_rows& rows,
                           F& batches) noexcept {
    constexpr std::size_t step = 4 * f32<Arch>::size;
    for (std::size_t r = 0; r < rows.count; ++r, from += rows.src_stride, to += rows.dst_stride) {
        In in[step] = {};
        Out out[step];
        for (std::size_t j = 0; j < n; ++j) in[j] = from[j];
        batches(std::type_identity<Arch>{}, std::false_type{}, static_cast<const In*>(in), static_cast<Out*>(out), step,
                first, run_rows{});
        for (std::size_t j = 0; j < n; ++j) to[j] = out[j];
    }
}

/// Runs `batches(arch, stream, from, to, count, first, rows)` over n elements of every row in whole steps, what is left over by
/// narrower architectures (Narrows), the last few through padded copies. `first` is the position of the first element; the
/// function returns how many it has done. Streaming (Streams, and if asked to) starts at the first aligned address; the elements before
/// it go through padded copies: an ordinary store to a line that is streamed later costs a trip to memory and back.
template <class Arch, bool Narrows, bool Streams, class In, class Out, class F>
QUANT_INLINE void in_whole_steps(const In* from, Out* to, std::size_t n, std::size_t first, const run_rows& rows,
                                 [[maybe_unused]] bool stream, F&& batches) noexcept {
    constexpr std::size_t step = 4 * f32<Arch>::size;
    constexpr std::type_identity<Arch> arch{};
    std::size_t i = 0;
    if constexpr (Streams && has_streaming<Arch>) {
        if (stream && n >= 4 * step) {
            i = elements_to_alignment<Arch>(to);
            if (i != 0) in_padded_step<Arch>(from, to, i, first, rows, batches);
            i += batches(arch, std::true_type{}, from + i, to + i, n - i, first + i, rows);
        }
    }
    if (i == 0 && n >= step) i = batches(arch, std::false_type{}, from, to, n, first, rows);
    if (i == n) return;
    using narrower = typename narrower_arch<Arch>::type;
    if constexpr (Narrows && !std::same_as<narrower, Arch>)
        in_whole_steps<narrower, true, false>(from + i, to + i, n - i, first + i, rows, false, batches);
    else
        in_padded_step<Arch>(from + i, to + i, n - i, first + i, rows, batches);
}

/// The same for any number of rows, in blocks of them. Rows of a streamed result that are aligned differently go one by one.
template <class Arch, class Params, class In, class Out, class F>
QUANT_INLINE void in_row_blocks(const In* from, Out* to, std::size_t n, const run_rows& rows, bool stream,
                                F&& batches) noexcept {
    if constexpr (std::same_as<Params, uniform_params>) { // one row
        in_whole_steps<Arch, true, true>(from, to, n, 0, run_rows{}, stream, batches);
        return;
    }
    const bool alike = !stream || elements_to_alignment<Arch>(to) == elements_to_alignment<Arch>(to + rows.dst_stride);
    const std::size_t block = alike ? rows_at_once : 1;
    for (std::size_t r = 0; r < rows.count; r += block) {
        run_rows own = rows;
        own.count = rows.count - r < block ? rows.count - r : block;
        in_whole_steps<Arch, true, true>(from + r * rows.src_stride, to + r * rows.dst_stride, n, 0, own, stream,
                                         batches);
    }
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

/// Calls f with a rounding other than the default as a compile-time constant.
template <class F> QUANT_INLINE void with_rounding(rounding round, F f) noexcept {
    switch (round) {
    case rounding::half_away: f(std::integral_constant<rounding, rounding::half_away>{}); break;
    case rounding::toward_negative: f(std::integral_constant<rounding, rounding::toward_negative>{}); break;
    case rounding::stochastic: f(std::integral_constant<rounding, rounding::stochastic>{}); break;
    case rounding::nearest_even: break;
    }
}

/// From options to loops, alike for codes and for representable floats.
/// nearest.operator()<Arch, quotient, Stream>(from, to, n, params, rows): the loop of the default rounding.
/// other.operator()<Arch, rounding>(from, to, n, params, options, index): that of the others, one row.
template <class Arch, class Out, class Params, class Nearest, class Other>
QUANT_INLINE void with_options(const float* x, Out* out, std::size_t n, const Params& params,
                               const quantize_options& options, const index_run& index, const run_rows& rows,
                               const Nearest& nearest, const Other& other) noexcept {
    if (options.round == rounding::nearest_even) {
        const bool stream = use_streaming(rows.count * n * sizeof(Out), options.stores);
        with_quotient<Arch>(options.divide, corrects(params), [&](auto how) {
            in_row_blocks<Arch, Params>(x, out, n, rows, stream,
                                        [&]<class A>(std::type_identity<A>, auto streaming, const float* from, Out* to,
                                                     std::size_t count, std::size_t first, const run_rows& own) {
                                            constexpr quotient way = quotient_on<Arch, A, decltype(how)::value>;
                                            return nearest.template operator()<A, way, decltype(streaming)::value>(
                                                from, to, count, from_position(params, first), own);
                                        });
        });
        return;
    }
    with_rounding(options.round, [&](auto round) {
        for (std::size_t r = 0; r < rows.count; ++r) {
            const std::uint64_t start = index.first + r * rows.index_stride;
            in_whole_steps<Arch, false, false>(x + r * rows.src_stride, out + r * rows.dst_stride, n, 0, {}, false,
                                               [&]<class A>(std::type_identity<A>, auto, const float* from, Out* to,
                                                            std::size_t count, std::size_t first, const run_rows&) {
                                                   return other.template operator()<A, decltype(round)::value>(
                                                       from, to, count, from_position(params, first), options,
                                                       index_run{start + first * index.step, index.step});
                                               });
        }
    });
}

} // namespace detail
#endif

namespace detail {

/// out[i] = one(x[i], row, i) for every element of every row: the scalar definition.
template <class In, class Out, class F>
QUANT_INLINE void for_each_element(const In* x, Out* out, std::size_t n, const run_rows& rows, const F& one) noexcept {
    // Counting down: with a constant n, g++ 12 at -O3 takes an upward loop's end for out of reach and warns.
    for (std::size_t r = 0; r < rows.count; ++r) {
        std::size_t i = 0;
        for (std::size_t left = n; left != 0; --left, ++i)
            out[r * rows.dst_stride + i] = one(x[r * rows.src_stride + i], r, i);
    }
}

} // namespace detail

// The three entries below are not `inline`: with an `extern template` for its types, a program compiles them in one file.

/// codes[i] = quantize_one(x[i], params[i]). Bit-exact on every architecture.
/// x [n] real units, any alignment; codes [n], not in the memory of x; params uniform or per element, already validated; rows
/// that share params. A NaN, or a value whose code lies below -32768, costs its block of 4096 elements a second pass.
/// options.stores decides by the size of this run; a caller that streamed ends with stream_fence().
/// double is divided and rounded in double (scalar definition; the compiler vectorises what it can).
template <class Arch = native_division, std::floating_point Real, code_storage Code, class Params>
void quantize(const Real* x, Code* codes, std::size_t n, const Params& params, const quantize_options& options = {},
              index_run index = {}, const run_rows& rows = {}) noexcept {
#if QUANT_HAS_XSIMD
    if constexpr (has_division<Arch> && std::same_as<Real, float>) {
        using detail::quotient;
        detail::with_options<Arch>(
            x, codes, n, params, options, index, rows,
            []<class A, quotient How, bool Stream>(const auto&... run) {
                return detail::quantize_nearest<A, How, Stream>(run...);
            },
            []<class A, rounding Round>(const auto&... run) { return detail::quantize_batches<A, Round>(run...); });
        return;
    }
#endif
    detail::for_each_element(x, codes, n, rows, [&](Real value, std::size_t r, std::size_t i) {
        return static_cast<Code>(quantize_one(value, params[i], options, index[i] + r * rows.index_stride));
    });
}

/// out[i] = fake_quant_one(x[i], params[i]). x and out may be the same array.
template <class Arch = native_division, std::floating_point Real, class Params>
void fake_quant(const Real* x, Real* out, std::size_t n, const Params& params, const quantize_options& options = {},
                index_run index = {}, const run_rows& rows = {}) noexcept {
#if QUANT_HAS_XSIMD
    if constexpr (has_division<Arch> && std::same_as<Real, float>) {
        using detail::quotient;
        detail::with_options<Arch>(
            x, out, n, params, options, index, rows,
            []<class A, quotient How, bool Stream>(const auto&... run) {
                return detail::fake_quant_nearest<A, How, Stream>(run...);
            },
            []<class A, rounding Round>(const auto&... run) { return detail::fake_quant_batches<A, Round>(run...); });
        return;
    }
#endif
    detail::for_each_element(x, out, n, rows, [&](Real value, std::size_t r, std::size_t i) {
        return fake_quant_one(value, params[i], options, index[i] + r * rows.index_stride);
    });
}

/// out[i] = dequantize_one(codes[i], params[i]).
template <class Arch = native, code_storage Code, std::floating_point Real, class Params>
void dequantize(const Code* codes, Real* out, std::size_t n, const Params& params,
                [[maybe_unused]] store_policy stores = {}, const run_rows& rows = {}) noexcept {
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch> && std::same_as<Real, float>) {
        using namespace detail;
        in_row_blocks<Arch, Params>(codes, out, n, rows, use_streaming(rows.count * n * sizeof(float), stores),
                                    [&]<class A>(std::type_identity<A>, auto streaming, const Code* from, float* to,
                                                 std::size_t count, std::size_t first, const run_rows& own) {
                                        return dequantize_batches<A, decltype(streaming)::value>(
                                            from, to, count, from_position(params, first), own);
                                    });
        return;
    }
#endif
    detail::for_each_element(codes, out, n, rows, [&](Code code, std::size_t, std::size_t i) {
        return dequantize_one<Real>(code, params[i]);
    });
}

} // namespace simd
QUANT_END_TARGET
