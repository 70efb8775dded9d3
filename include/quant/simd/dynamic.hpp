// SPDX-License-Identifier: MIT
#pragma once
// The two halves of dynamic quantization: the range of a run, and its codes once the range is known. Layer 2 (simd).
//
// A run whose range is known to be finite, quantized with the parameters of that range, needs no test for NaN and hardly a clamp.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/params.hpp>
#include <quant/simd/batch.hpp>
#include <quant/simd/narrow.hpp>
#include <quant/simd/pack.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/reduce.hpp>

QUANT_BEGIN_TARGET
namespace simd {

#if QUANT_HAS_XSIMD
namespace detail {

/// The extremes of n floats and zero; false when an element is NaN or infinite. Floats are compared as integers: of positive ones
/// the bits grow with the value, of negative ones, without the sign, with the magnitude. So the signed maximum is the largest
/// element, if any is positive, and the unsigned maximum the smallest one, if any is negative. A NaN lies beyond the infinities
/// in both.
template <class Arch> QUANT_INLINE bool extreme_bits(const float* x, std::size_t n, float& lo, float& hi) noexcept {
    using signed_batch = xsimd::batch<std::int32_t, Arch>;
    using unsigned_batch = xsimd::batch<std::uint32_t, Arch>;
    constexpr std::size_t lanes = signed_batch::size, step = 4 * lanes;
    std::int32_t high = 0;
    std::uint32_t low = 0;
    std::size_t i = 0;
    if (n >= step) {
        signed_batch h[4] = {signed_batch(0), signed_batch(0), signed_batch(0), signed_batch(0)};
        unsigned_batch l[4] = {unsigned_batch(0u), unsigned_batch(0u), unsigned_batch(0u), unsigned_batch(0u)};
        for (; i + step <= n; i += step)
            four_times([&](auto k) __attribute__((always_inline)) {
                const auto bits = held(
                    xsimd::bitwise_cast<std::int32_t>(xsimd::batch<float, Arch>::load_unaligned(x + i + k * lanes)));
                h[k] = xsimd::max(h[k], bits);
                l[k] = xsimd::max(l[k], xsimd::bitwise_cast<std::uint32_t>(bits));
            });
        high = xsimd::reduce_max(xsimd::max(xsimd::max(h[0], h[1]), xsimd::max(h[2], h[3])));
        low = xsimd::reduce_max(xsimd::max(xsimd::max(l[0], l[1]), xsimd::max(l[2], l[3])));
    }
    for (; i < n; ++i) {
        const auto s = std::bit_cast<std::int32_t>(x[i]);
        const auto u = std::bit_cast<std::uint32_t>(x[i]);
        high = s > high ? s : high;
        low = u > low ? u : low;
    }
    const float most = std::bit_cast<float>(high), least = std::bit_cast<float>(low);
    constexpr float max = std::numeric_limits<float>::max();
    if (!(most <= max && least >= -max)) return false;
    hi = most;
    lo = least < 0 ? least : 0.0f;
    return true;
}

} // namespace detail
#endif

/// What range_with_zero finds.
struct run_range {
    clip_range range;   ///< of the finite elements and zero: what choose_params widens their extremes to
    bool finite = true; ///< there were no others
};

/// The range of n floats and zero; NaN and infinities are skipped. Bit-exact.
template <class Arch = native> [[nodiscard]] inline run_range range_with_zero(const float* x, std::size_t n) noexcept {
    constexpr std::size_t most_at_once = std::size_t{1} << 20; // elements that `extremes` takes at once
    run_range out;
    for (std::size_t first = 0; first < n; first += most_at_once) {
        const float* p = x + first;
        const std::size_t count = n - first < most_at_once ? n - first : most_at_once;
        float lo = 0, hi = 0;
        bool found = false;
#if QUANT_HAS_XSIMD
        if constexpr (!is_scalar<Arch>) {
            if constexpr (detail::has_lane_maxima<Arch>) found = detail::extreme_bits<Arch>(p, count, lo, hi);
        }
#endif
        if (!found) { // elements to be skipped, or an architecture without the short way
            const block_extremes block = extremes<Arch>(p, count);
            lo = block.min;
            hi = block.max;
            out.finite = out.finite && block.non_finite == 0;
        }
        out.range.lo = static_cast<double>(lo) < out.range.lo ? static_cast<double>(lo) : out.range.lo;
        out.range.hi = static_cast<double>(hi) > out.range.hi ? static_cast<double>(hi) : out.range.hi;
    }
    return out;
}

#if QUANT_HAS_XSIMD
namespace detail {

/// Codes of finite elements with the parameters of their own range, and the sum of the codes; returns how many were done. A
/// quotient leaves the codes by less than a step where it has the sign of a code, and then rounds to the outermost one; a negative
/// one of an unsigned symmetric format saturates in the packs, whatever it overflows to. Only the zero point, rounded too, can
/// carry a code past its format, which needs a clamp where the packs do not saturate there (Clamp).
template <class Arch, quotient How, bool Clamp, code_storage Code>
inline std::size_t quantize_own_range(const float* x, Code* codes, std::size_t n, const affine_params& params,
                                      std::int64_t& total) noexcept {
    constexpr std::size_t lanes = f32<Arch>::size, step = 4 * lanes;
    lane_params<Arch> own;
    own.scale = f32<Arch>(params.scale);
    own.inv_scale = f32<Arch>(1.0f / params.scale);
    const xsimd::batch<Code, Arch> qmin(static_cast<Code>(params.format.qmin())),
        qmax(static_cast<Code>(params.format.qmax()));
    const auto zero_point = static_cast<std::int16_t>(params.zero_point);
    code_sum<Arch, Code> sum; // of this function: a store of bytes may alias whatever has an address
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        i32<Arch> s[4];
        four_times([&](auto k) {
            s[k] = xsimd::nearbyint_as_int(quotient_of<How>(f32<Arch>::load_unaligned(x + i + k * lanes), own));
        });
        auto out = narrow_codes<Code>(saturate_to_shorts(s), zero_point);
        if constexpr (Clamp) out = xsimd::min(xsimd::max(out, qmin), qmax);
        out.store_unaligned(codes + i);
        sum.add(out);
    }
    total = sum.total();
    return i;
}

} // namespace detail
#endif

/// Codes of n elements, and their sum. `own_range`: the elements are finite and params are those of their range, so that the short
/// way may be taken. Bit-exact: equation (1) either way.
template <class Arch = native_division, code_storage Code>
inline std::int64_t quantize_and_sum(const float* x, Code* codes, std::size_t n, const affine_params& params,
                                     const quantize_options& options, index_run index,
                                     [[maybe_unused]] bool own_range) noexcept {
    std::size_t done = 0;
    std::int64_t total = 0;
#if QUANT_HAS_XSIMD
    if constexpr (has_division<Arch> && sizeof(Code) == 1) {
        using namespace detail;
        if constexpr (converts_invalid_to_lowest<Arch>) {
            if (own_range && options.round == rounding::nearest_even) {
                const bool clamp = params.format != full_range_format<Code>;
                with_quotient<Arch>(options.divide, product_corrects(params), [&](auto how) {
                    constexpr quotient way = decltype(how)::value;
                    done = clamp ? quantize_own_range<Arch, way, true>(x, codes, n, params, total)
                                 : quantize_own_range<Arch, way, false>(x, codes, n, params, total);
                });
            }
        }
    }
#endif
    constexpr std::size_t tile = 4096; // its codes are summed while they are in the first-level cache
    for (std::size_t i = done; i < n; i += tile) {
        const std::size_t count = n - i < tile ? n - i : tile;
        quantize<Arch>(x + i, codes + i, count, uniform_params{params}, options, index_run{index[i], index.step});
        total += sum_codes<Arch>(static_cast<const Code*>(codes + i), count);
    }
    return total;
}

} // namespace simd
QUANT_END_TARGET
