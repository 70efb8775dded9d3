// SPDX-License-Identifier: MIT
#pragma once
// Runs of int32 accumulators to codes, with one multiplier for the run or one per element. Layer 2 (simd).
// The definition is requantize_one of core/requantize.hpp. In fixed point everything happens in 32-bit lanes but the product itself:
//
//   shift r = 0 to the right   h = (a m + 2^30) >> 31                                        both rules round here alone
//   r > 0, rounded once        h = (a m) >> 31             ((h >> (r - 1)) + 1) >> 1           floors of floors are floors
//   r > 0, rounded twice       h = (a m + 2^30) >> 31, one less if negative; then the same     ties away from zero
//   shift l > 0 to the left    a is cut to +-2^(30 - l) first: past that all results lie beyond every code

#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/core/requantize.hpp>
#include <quant/simd/arch.hpp>
#include <quant/simd/batch.hpp>
#include <quant/simd/narrow.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// Multipliers as arrays for a vector loop, one element per accumulator.
template <class Multiplier> struct multiplier_lanes;
template <> struct multiplier_lanes<float> {
    const float* multiplier = nullptr;
    const std::int32_t* bias = nullptr;
};
template <> struct multiplier_lanes<quantized_multiplier> {
    const std::int32_t* mantissa = nullptr;
    const std::int32_t* right = nullptr;  ///< shift to the right but the last bit, which rounds
    const std::int32_t* rounds = nullptr; ///< whether there is a last bit: 1 or 0
    const std::int32_t* left = nullptr;   ///< shift to the left
    const std::int32_t* limit = nullptr;  ///< what the accumulator is cut to before it
    const std::int32_t* bias = nullptr;
    bool halved = false; ///< all are below 1/2: rounds is 1, left is 0
};

/// The multipliers and biases of a run of accumulators: element i has multipliers[i * step], and so the biases unless there are none.
/// Where step is not 0 a vector loop needs `lanes`, which reach as far as the run and at least a step of the widest registers.
template <class Multiplier> struct channel_run {
    const Multiplier* multipliers = nullptr;
    const std::int32_t* biases = nullptr;
    std::size_t step = 0;
    multiplier_lanes<Multiplier> lanes{};
    /// Vector loops only: element i has lane i mod period, where that is not 0; a multiple of widest_step. The lanes go on for a
    /// step after it, unless the run is whole steps.
    std::size_t period = 0;
};

/// One multiplier, taken apart.
struct shift_parts {
    std::int32_t right, rounds, left, limit;
    QUANT_INLINE explicit shift_parts(const quantized_multiplier& m) noexcept
        : right(m.shift < 0 ? -m.shift - 1 : 0), rounds(m.shift < 0 ? 1 : 0), left(m.shift > 0 ? m.shift : 0),
          limit(left > 0 ? (std::int32_t{1} << 30) >> left : std::numeric_limits<std::int32_t>::max()) {}
};

/// The arrays of up to Capacity elements.
template <class Multiplier, std::size_t Capacity> class channel_arrays;

template <std::size_t Capacity> class channel_arrays<float, Capacity> {
public:
    /// Element i < total has the multiplier and the bias of channel i mod n, which is `step` times as far in the given arrays.
    void load(const float* multipliers, const std::int32_t* biases, std::size_t step, std::size_t n,
              std::size_t total) noexcept {
        for (std::size_t c = 0; c < n; ++c) multiplier_[c] = multipliers[c * step];
        if (biases != nullptr)
            for (std::size_t c = 0; c < n; ++c) bias_[c] = biases[c * step];
        for (std::size_t i = n; i < total + widest_step; ++i) multiplier_[i] = multiplier_[i - n];
        if (biases != nullptr)
            for (std::size_t i = n; i < total + widest_step; ++i) bias_[i] = bias_[i - n];
    }
    [[nodiscard]] multiplier_lanes<float> lanes() const noexcept { return {multiplier_, bias_}; }

private:
    alignas(64) float multiplier_[Capacity + widest_step];
    alignas(64) std::int32_t bias_[Capacity + widest_step];
};

template <std::size_t Capacity> class channel_arrays<quantized_multiplier, Capacity> {
public:
    void load(const quantized_multiplier* multipliers, const std::int32_t* biases, std::size_t step, std::size_t n,
              std::size_t total) noexcept {
        halved_ = true;
        for (std::size_t c = 0; c < n; ++c) {
            const quantized_multiplier& m = multipliers[c * step];
            const shift_parts parts(m);
            mantissa_[c] = m.mantissa;
            right_[c] = parts.right;
            rounds_[c] = parts.rounds;
            left_[c] = parts.left;
            limit_[c] = parts.limit;
            halved_ = halved_ && parts.rounds == 1;
            if (biases != nullptr) bias_[c] = biases[c * step];
        }
        const auto repeat = [&](std::int32_t(&values)[size]) {
            for (std::size_t i = n; i < total + widest_step; ++i) values[i] = values[i - n];
        };
        repeat(mantissa_);
        repeat(right_);
        if (biases != nullptr) repeat(bias_);
        if (halved_) return; // the others are not read
        repeat(rounds_);
        repeat(left_);
        repeat(limit_);
    }
    [[nodiscard]] multiplier_lanes<quantized_multiplier> lanes() const noexcept {
        return {mantissa_, right_, rounds_, left_, limit_, bias_, halved_};
    }

private:
    static constexpr std::size_t size = Capacity + widest_step;
    alignas(64) std::int32_t mantissa_[size], right_[size], rounds_[size], left_[size], limit_[size], bias_[size];
    bool halved_ = false;
};

#if QUANT_HAS_XSIMD
namespace detail {

/// One multiplier and bias for all lanes, or those of the lanes from element i on. A shift is an integer in the first case.
template <class Arch> struct float_channel {
    f32<Arch> multiplier;
    i32<Arch> bias;
    QUANT_INLINE const float_channel& at(std::size_t) const noexcept { return *this; }
};
template <class Arch, class Shift> struct fixed_channel {
    i32<Arch> mantissa, limit, bias;
    Shift right, rounds, left;
    QUANT_INLINE const fixed_channel& at(std::size_t) const noexcept { return *this; }
};
template <class Arch, bool Bias, class Multiplier> class lanes_of_channels {
public:
    QUANT_INLINE explicit lanes_of_channels(const multiplier_lanes<Multiplier>& lanes) noexcept : lanes_(lanes) {}
    QUANT_INLINE auto at(std::size_t i) const noexcept {
        i32<Arch> bias(0);
        if constexpr (Bias) bias = i32<Arch>::load_unaligned(lanes_.bias + i);
        if constexpr (std::is_same_v<Multiplier, float>)
            return float_channel<Arch>{f32<Arch>::load_unaligned(lanes_.multiplier + i), bias};
        else
            return fixed_channel<Arch, i32<Arch>>{i32<Arch>::load_unaligned(lanes_.mantissa + i),
                                                  i32<Arch>::load_unaligned(lanes_.limit + i),
                                                  bias,
                                                  i32<Arch>::load_unaligned(lanes_.right + i),
                                                  i32<Arch>::load_unaligned(lanes_.rounds + i),
                                                  i32<Arch>::load_unaligned(lanes_.left + i)};
    }

private:
    multiplier_lanes<Multiplier> lanes_;
};

/// Steps of equation (22), or any number beyond the codes on the same side.
template <class Arch> struct float_steps {
    QUANT_INLINE i32<Arch> operator()(const i32<Arch>& a, const float_channel<Arch>& c) const noexcept {
        // What an int32 could not hold is cut; on x86 it becomes the lowest one, which is right from below.
        const f32<Arch> beyond(0x1p18f);
        f32<Arch> t = quick_smaller(as_floats(a) * c.multiplier, beyond);
        if constexpr (!converts_invalid_to_lowest<Arch>) t = quick_larger(t, -beyond);
        return nearest_int(t);
    }
};
template <class Arch, requantization Rule, bool Halved> struct fixed_steps {
    template <class Shift>
    QUANT_INLINE i32<Arch> operator()(const i32<Arch>& a, const fixed_channel<Arch, Shift>& c) const noexcept {
        constexpr bool twice = Rule == requantization::double_rounding;
        if constexpr (Halved) {
            i32<Arch> h = doubled_high<twice>(a, c.mantissa);
            if constexpr (twice) h = plus(h, shift_down(h, 31));
            return shift_down(plus(shift_down(h, c.right), i32<Arch>(1)), 1);
        } else {
            const i32<Arch> cut =
                quick_smaller(quick_larger(a, ~c.limit), c.limit); // below by one more: INT32_MIN stays
            const i32<Arch> shifted = shift_up(cut, c.left), rounds(c.rounds);
            i32<Arch> h = doubled_high<true>(shifted, c.mantissa);
            if constexpr (twice)
                h = plus(h, shift_down(h, 31) & -rounds);
            else
                h = xsimd::select(rounds == i32<Arch>(0), h, doubled_high<false>(shifted, c.mantissa));
            return shift_down(plus(shift_down(h, c.right), rounds), c.rounds);
        }
    }
};

/// Four registers of steps to codes in memory.
template <class Arch, code_storage Code> class code_store {
public:
    QUANT_INLINE explicit code_store(const output_codes& output) noexcept
        : lo_(static_cast<value>(output.lowest() - offset(output))),
          hi_(static_cast<value>(output.highest() - offset(output))), zero_point_(output.zero_point),
          limited_(output.lowest() != full_range_format<Code>.qmin() ||
                   output.highest() != full_range_format<Code>.qmax()) {}
    QUANT_INLINE void operator()(Code* to, i32<Arch> (&v)[4]) const noexcept {
        if constexpr (sizeof(Code) == 1) { // 16 bits hold every step that matters
            auto codes = narrow_codes<Code>(saturate_to_shorts(v), static_cast<std::int16_t>(zero_point_));
            if (limited_) codes = xsimd::min(xsimd::max(codes, lo_), hi_);
            put_batch<false>(to, codes);
        } else {
            const i32<Arch> add(zero_point_);
            four_times([&](auto k) { v[k] = plus(quick_smaller(quick_larger(v[k], lo_), hi_), add); });
            store_narrow<Arch>(to, v);
        }
    }

private:
    using value = std::conditional_t<sizeof(Code) == 1, Code, std::int32_t>; // codes, or steps
    static QUANT_INLINE std::int32_t offset(const output_codes& output) noexcept {
        return sizeof(Code) == 1 ? 0 : output.zero_point;
    }
    xsimd::batch<value, Arch> lo_, hi_;
    std::int32_t zero_point_;
    bool limited_;
};

/// All n accumulators. The last step is moved back over elements already done, so that it is a whole one; fewer elements than a step
/// holds go through a copy.
template <class Arch, bool Bias, code_storage Code, class Channels, class Steps>
inline void requantize_steps(const std::int32_t* accumulators, Code* codes, std::size_t n, const Channels& channels,
                             std::size_t period, const output_codes& output, Steps steps) noexcept {
    constexpr std::size_t lanes = i32<Arch>::size, step = 4 * lanes;
    const Channels own = channels; // a copy: a store of bytes may alias whatever has an address
    const code_store<Arch, Code> put(output);
    std::int32_t few[step];
    Code few_codes[step];
    const std::int32_t* from = accumulators;
    Code* to = codes;
    const std::size_t count = n < step ? step : n;
    if (n < step) {
        for (std::size_t i = 0; i < step; ++i) few[i] = i < n ? accumulators[i] : 0;
        from = few;
        to = few_codes;
    }
    for (std::size_t i = 0, lane = 0;;) { // lane: of the channels
        i32<Arch> v[4];
        four_times([&](auto k) { v[k] = i32<Arch>::load_unaligned(from + i + k * lanes); });
        if constexpr (Bias) {
            // Saturation is looked for once a step: where the signs of both terms differ from their sum's.
            i32<Arch> overflow(0);
            four_times([&](auto k) {
                const i32<Arch> bias = own.at(lane + k * lanes).bias, sum = plus(v[k], bias);
                overflow = overflow | ((v[k] ^ sum) & (bias ^ sum));
                v[k] = sum;
            });
            if (xsimd::any(overflow < i32<Arch>(0))) [[unlikely]]
                four_times([&](auto k) {
                    const i32<Arch> a = i32<Arch>::load_unaligned(from + i + k * lanes);
                    v[k] = plus_saturated(a, own.at(lane + k * lanes).bias);
                });
        }
        four_times([&](auto k) { v[k] = steps(v[k], own.at(lane + k * lanes)); });
        put(to + i, v);
        if (i + step >= count) break;
        lane += step;
        if (lane == period) lane = 0;
        i += step;
        if (i + step > count) {
            const std::size_t back = i + step - count;
            lane = lane >= back ? lane - back : lane + period - back;
            i -= back;
        }
    }
    if (n < step)
        for (std::size_t i = 0; i < n; ++i) codes[i] = few_codes[i];
}

/// Calls f with a std::bool_constant.
template <class F> QUANT_INLINE void with_bool(bool value, F&& f) noexcept {
    if (value)
        f(std::true_type{});
    else
        f(std::false_type{});
}

template <class Arch, code_storage Code>
inline void requantize_batches(const std::int32_t* accumulators, Code* codes, std::size_t n,
                               const channel_run<float>& run, requantization, const output_codes& output) noexcept {
    with_bool(run.biases != nullptr, [&](auto bias) {
        constexpr bool has_bias = decltype(bias)::value;
        if (run.step != 0) {
            requantize_steps<Arch, has_bias>(accumulators, codes, n,
                                             lanes_of_channels<Arch, has_bias, float>(run.lanes), run.period, output,
                                             float_steps<Arch>{});
        } else {
            const float_channel<Arch> all{f32<Arch>(*run.multipliers), i32<Arch>(has_bias ? *run.biases : 0)};
            requantize_steps<Arch, has_bias>(accumulators, codes, n, all, 0, output, float_steps<Arch>{});
        }
    });
}
template <class Arch, code_storage Code>
inline void requantize_batches(const std::int32_t* accumulators, Code* codes, std::size_t n,
                               const channel_run<quantized_multiplier>& run, requantization rule,
                               const output_codes& output) noexcept {
    const auto with_steps = [&](auto bias, auto steps) {
        constexpr bool has_bias = decltype(bias)::value;
        if (run.step != 0) {
            requantize_steps<Arch, has_bias>(accumulators, codes, n,
                                             lanes_of_channels<Arch, has_bias, quantized_multiplier>(run.lanes),
                                             run.period, output, steps);
        } else {
            const shift_parts parts(*run.multipliers);
            const fixed_channel<Arch, std::int32_t> all{i32<Arch>(run.multipliers->mantissa),
                                                        i32<Arch>(parts.limit),
                                                        i32<Arch>(has_bias ? *run.biases : 0),
                                                        parts.right,
                                                        parts.rounds,
                                                        parts.left};
            requantize_steps<Arch, has_bias>(accumulators, codes, n, all, 0, output, steps);
        }
    };
    const bool halved = run.step != 0 ? run.lanes.halved : run.multipliers->shift < 0;
    with_bool(run.biases != nullptr, [&](auto bias) {
        with_bool(halved, [&](auto below_half) {
            constexpr bool all_halved = decltype(below_half)::value;
            if (rule == requantization::double_rounding)
                with_steps(bias, fixed_steps<Arch, requantization::double_rounding, all_halved>{});
            else
                with_steps(bias, fixed_steps<Arch, requantization::single_rounding, all_halved>{});
        });
    });
}

} // namespace detail
#endif

/// codes[i] = requantize_one(accumulators[i], …) with the multiplier and the bias of element i.
template <class Arch = native, code_storage Code, class Multiplier>
inline void requantize(const std::int32_t* accumulators, Code* codes, std::size_t n, const channel_run<Multiplier>& run,
                       requantization rule, const output_codes& output) noexcept {
    if (n == 0) return;
#if QUANT_HAS_XSIMD
    if constexpr (!is_scalar<Arch>) {
        detail::requantize_batches<Arch>(accumulators, codes, n, run, rule, output);
        return;
    }
#endif
    for (std::size_t i = 0; i < n; ++i) {
        const Multiplier& multiplier = run.multipliers[i * run.step];
        const std::int32_t bias = run.biases == nullptr ? 0 : run.biases[i * run.step];
        if constexpr (std::is_same_v<Multiplier, float>)
            codes[i] = static_cast<Code>(requantize_one(accumulators[i], multiplier, output, bias));
        else
            codes[i] = static_cast<Code>(requantize_one(accumulators[i], multiplier, rule, output, bias));
    }
}

} // namespace simd
QUANT_END_TARGET
