// SPDX-License-Identifier: MIT
#pragma once
// Groups of consecutive elements that bring their own scale: finding it and quantizing with it, and back. Layer 2 (simd).
//
// A group of 32 is two to four registers, too few to hide what follows them: the maximum across lanes, the division, the
// broadcast. So as many groups as a register has lanes are taken together; one register then holds the scale of each, and all
// of that happens once. The second look at the block finds it in the first-level cache.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/params.hpp>
#include <quant/core/scalar.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/narrow.hpp>
#include <quant/simd/pack.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/widen.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// The symmetric scale of n elements: that of choose_params of their extremes, NaN and infinities skipped.
/// Errors: scale_out_of_range. Precondition: a valid format.
template <class Arch = native>
[[nodiscard]] inline result<affine_params> group_params(const float* x, std::size_t n, code_format format) noexcept {
    const block_extremes range = extremes<Arch>(x, n);
    return choose_params({static_cast<double>(range.min), static_cast<double>(range.max)}, format, mapping::symmetric);
}

/// The largest group that is taken in blocks of as many as a register has lanes.
inline constexpr std::size_t widest_group = 256;

namespace detail {

#if QUANT_HAS_XSIMD

/// Whether groups of `size` elements go in blocks: whole steps of 4 registers, of one group or of several.
template <class Arch> [[nodiscard]] constexpr bool groups_in_blocks(std::size_t size) noexcept {
    if constexpr (has_lane_maxima<Arch>) {
        constexpr std::size_t lanes = f32<Arch>::size;
        return size <= widest_group && (size == lanes || size == 2 * lanes || (size != 0 && size % (4 * lanes) == 0));
    } else {
        return false;
    }
}

/// Limits between which the scales of a block are computed together; outside, a group is left to choose_params.
struct group_limits {
    float lo_steps, hi_steps; ///< what the extremes are divided by
    float smallest_lo,
        smallest_hi; ///< the scale is at least 2^-100 exactly when an extreme is at least as far out as this
    float largest_lo, largest_hi; ///< the scale is at most 2^100 when both are at most this far out
    explicit group_limits(code_format format) noexcept {
        constexpr float infinity = std::numeric_limits<float>::infinity(), max = std::numeric_limits<float>::max();
        const bool below = format.qmin() < 0;
        const auto qmin = static_cast<float>(format.qmin()), qmax = static_cast<float>(format.qmax());
        lo_steps = below ? qmin : -infinity; // -infinity: the quotient is 0
        hi_steps = qmax;
        smallest_lo = below ? qmin * min_scale : -infinity;
        smallest_hi = qmax * min_scale;
        largest_lo = below ? qmin * max_scale : -max;
        largest_hi = qmax * max_scale;
    }
};

/// Scales of the block of groups at x; false when one of them needs the scalar rules, or an element is NaN or infinite.
/// The division is in float: the quotient of two floats (qmin and qmax are) is the same rounded once or, through double, twice.
template <class Arch>
QUANT_INLINE bool block_scales(const float* x, std::size_t group_size, const group_limits& limits,
                               f32<Arch>& scale) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    i32<Arch> high;
    xsimd::batch<std::uint32_t, Arch> low;
    if (group_size == lanes) // as constants: the tree is inlined for each
        lane_maxima<Arch>(x, 1, high, low);
    else if (group_size == 2 * lanes)
        lane_maxima<Arch>(x, 2, high, low);
    else
        lane_maxima<Arch>(x, group_size / lanes, high, low);
    const f32<Arch> zero(0.0f);
    const f32<Arch> most = xsimd::bitwise_cast<float>(high), least = xsimd::bitwise_cast<float>(low);
    if (!xsimd::all((most <= f32<Arch>(limits.largest_hi)) & (least >= f32<Arch>(limits.largest_lo)))) return false;
    const f32<Arch> hi = xsimd::max(most, zero), lo = xsimd::min(least, zero);
    const f32<Arch> quotient =
        xsimd::max(divided(lo, f32<Arch>(limits.lo_steps)), divided(hi, f32<Arch>(limits.hi_steps)));
    const auto in_range = (lo <= f32<Arch>(limits.smallest_lo)) | (hi >= f32<Arch>(limits.smallest_hi));
    scale = xsimd::select(in_range, quotient, f32<Arch>(1.0f));
    return true;
}

/// product_corrects for a register of scales of formats of at most 8 bits.
template <class Arch> QUANT_INLINE bool products_correct(const f32<Arch>& scale) noexcept {
    const i32<Arch> rest = xsimd::bitwise_cast<std::int32_t>(scale) & i32<Arch>(0xFFFF);
    const auto middle = (rest > i32<Arch>(16)) & (rest < i32<Arch>(0xFFF0));
    return xsimd::all((middle | (rest == i32<Arch>(0)))) && xsimd::all(scale >= f32<Arch>(0x1p-70f));
}

/// Codes of a block: `per_step` groups share a step of 4 registers, or one group is a whole number of steps.
template <class Arch, quotient How, std::size_t PerStep, code_storage Code>
QUANT_INLINE void quantize_block(const float* x, std::size_t group_size, const float* scales, const float* inv_scales,
                                 Code* codes) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const std::size_t steps = PerStep == 1 ? group_size / step : 1;
    for (std::size_t g = 0; g < lanes; g += PerStep) {
        for (std::size_t u = 0; u < steps; ++u, x += step, codes += step) {
            i32<Arch> v[4];
            four_times([&](auto k) {
                // The tree over the next block leaves its loads no room to run ahead, and takes them out of order: here the lines
                // are asked for one after the other, two blocks of groups of 32 on.
                prefetch_read(reinterpret_cast<const char*>(x + k * lanes) + 4096);
                lane_params<Arch> own; // broadcast again for every register: a load that costs nothing here
                own.scale = f32<Arch>(scales[g + k * PerStep / 4]);
                own.inv_scale = f32<Arch>(inv_scales[g + k * PerStep / 4]);
                v[k] = xsimd::nearbyint_as_int(quotient_of<How>(f32<Arch>::load_unaligned(x + k * lanes), own));
            });
            store_narrow<Arch>(codes, v);
        }
    }
}
#endif

} // namespace detail

/// Quantizes whole blocks of groups from the front for as long as their scales need no special rule; returns how many groups that
/// was. Nearest rounding only. scales [groups]; `room(n)` gives where the next n codes belong, `done(n)` says they are there.
/// Code has the sign of the format, which is valid and of at most 8 bits, and not a signed bit.
template <class Arch = native_division, class Sink>
inline std::size_t quantize_group_blocks([[maybe_unused]] const float* x, [[maybe_unused]] std::size_t groups,
                                         [[maybe_unused]] std::size_t group_size, [[maybe_unused]] code_format format,
                                         [[maybe_unused]] scale_by divide, [[maybe_unused]] float* scales,
                                         [[maybe_unused]] Sink& sink) noexcept {
    std::size_t first = 0;
#if QUANT_HAS_XSIMD
    if constexpr (has_division<Arch>) {
        using namespace detail;
        constexpr std::size_t lanes = f32<Arch>::size;
        if (!groups_in_blocks<Arch>(group_size)) return 0;
        const group_limits limits(format);
        const std::size_t block = lanes * group_size;
        f32<Arch> scale(1.0f), next_scale(1.0f);
        // The scales of a block are found before the codes of the one before it, so that neither waits for the other.
        bool more = lanes <= groups && block_scales<Arch>(x, group_size, limits, scale);
        while (more) {
            more = first + 2 * lanes <= groups && block_scales<Arch>(x + block, group_size, limits, next_scale);
            alignas(64) float own[lanes], inverse[lanes];
            scale.store_aligned(own);
            scale.store_unaligned(scales + first);
            divided(f32<Arch>(1.0f), scale).store_aligned(inverse);
            auto* codes = sink.room(block);
            with_quotient<Arch>(divide, products_correct<Arch>(scale), [&](auto how) {
                constexpr quotient way = decltype(how)::value;
                if (group_size == lanes)
                    quantize_block<Arch, way, 4>(x, group_size, own, inverse, codes);
                else if (group_size == 2 * lanes)
                    quantize_block<Arch, way, 2>(x, group_size, own, inverse, codes);
                else
                    quantize_block<Arch, way, 1>(x, group_size, own, inverse, codes);
            });
            sink.done(block);
            first += lanes;
            x += block;
            scale = next_scale;
        }
    }
#endif
    return first;
}

#if QUANT_HAS_XSIMD
namespace detail {

template <class Arch, bool Stream, std::size_t PerStep, code_storage Code>
inline void dequantize_group_steps(const Code* codes, const float* scales, float* out, std::size_t groups,
                                   std::size_t group_size) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    const std::size_t steps = PerStep == 1 ? group_size / step : 1;
    for (std::size_t g = 0; g + PerStep <= groups; g += PerStep) {
        for (std::size_t u = 0; u < steps; ++u, codes += step, out += step) {
            i32<Arch> v[4];
            load_widen<Arch>(codes, v);
            four_times([&](auto k) {
                put_batch<Stream>(out + k * lanes, xsimd::to_float(v[k]) * f32<Arch>(scales[g + k * PerStep / 4]));
            });
        }
    }
}

/// Of 4-bit codes still packed, `lanes` of them at a time.
template <class Arch, bool Stream>
inline void dequantize_nibble_steps(const std::uint8_t* packed, const float* scales, float* out, std::size_t groups,
                                    std::size_t group_size, bool is_signed) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size;
    const nibble_values<Arch> values(is_signed);
    for (std::size_t g = 0; g < groups; ++g) {
        const auto scaled = values.times(f32<Arch>(scales[g]));
        for (std::size_t i = 0; i < group_size; i += lanes, packed += lanes / 2, out += lanes)
            put_batch<Stream>(out, scaled.of(packed));
    }
}

} // namespace detail
#endif

/// out[i] = float(codes[i]) * scales[i / group_size]. Streams if `stream` and the destination lies on a register's size; the caller
/// ends with stream_fence().
template <class Arch = native, code_storage Code>
inline void dequantize_groups(const Code* codes, const float* scales, float* out, std::size_t n, std::size_t group_size,
                              [[maybe_unused]] bool stream) noexcept {
    std::size_t done = 0; // groups
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch>) {
        using namespace detail;
        constexpr std::size_t lanes = f32<Arch>::size;
        const std::size_t whole = n / group_size;
        const auto run = [&](auto streaming, auto per_step) {
            constexpr std::size_t together = decltype(per_step)::value;
            dequantize_group_steps<Arch, decltype(streaming)::value, together>(codes, scales, out, whole, group_size);
            done = whole / together * together;
        };
        const auto dispatch = [&](auto streaming) {
            if (group_size == lanes)
                run(streaming, std::integral_constant<std::size_t, 4>{});
            else if (group_size == 2 * lanes)
                run(streaming, std::integral_constant<std::size_t, 2>{});
            else if (group_size % (4 * lanes) == 0)
                run(streaming, std::integral_constant<std::size_t, 1>{});
        };
        if (stream && elements_to_alignment<Arch>(out) == 0)
            dispatch(std::true_type{});
        else
            dispatch(std::false_type{});
    }
#endif
    for (std::size_t first = done * group_size; first < n; first += group_size, ++done)
        dequantize<Arch>(codes + first, out + first, n - first < group_size ? n - first : group_size,
                         uniform_params{{scales[done], 0, {}}}, store_policy::cached);
}

/// The same for a stream of 4-bit codes; returns how many of the groups it did, all or none.
template <class Arch = native>
inline std::size_t dequantize_nibble_groups([[maybe_unused]] const std::uint8_t* packed,
                                            [[maybe_unused]] const float* scales, [[maybe_unused]] float* out,
                                            [[maybe_unused]] std::size_t groups,
                                            [[maybe_unused]] std::size_t group_size, [[maybe_unused]] bool is_signed,
                                            [[maybe_unused]] bool stream) noexcept {
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch>) {
        using namespace detail;
        if constexpr (has_nibble_values<Arch>) {
            if (group_size % f32<Arch>::size != 0) return 0;
            if (stream && elements_to_alignment<Arch>(out) == 0)
                dequantize_nibble_steps<Arch, true>(packed, scales, out, groups, group_size, is_signed);
            else
                dequantize_nibble_steps<Arch, false>(packed, scales, out, groups, group_size, is_signed);
            return groups;
        }
    }
#endif
    return 0;
}

} // namespace simd
QUANT_END_TARGET
