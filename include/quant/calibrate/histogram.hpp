// SPDX-License-Identifier: MIT
#pragma once
// A histogram that grows its range without losing a count and without depending on the order of the data. Layer 3 (calibrate).
//
//   quant::histogram_observer<> h;                    // 2048 bins around zero, 16 KB, no heap
//   h.observe(batch_1);  h.observe(batch_2);
//   auto range = quant::percentile(99.9).clip(h, quant::int8, quant::mapping::symmetric);
//
// Bins have the width 2^k and edges at its multiples, Bins/2 on each side of zero; k is the smallest that covers the largest
// magnitude seen. Growing adds neighbours, which lie in one bin of the next width: any split and order gives the same bytes.
// NaN and infinities are skipped and counted. Elements are read as float; a double beyond its range counts as not finite.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <quant/core/params.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>

QUANT_BEGIN_NAMESPACE

/// What a histogram_observer knows. Plain data; min and max mean nothing while count is 0.
/// Bin b of the upper half, b = Bins/2 + i, counts i * width <= x < (i + 1) * width; the lower half is its mirror image:
/// b = Bins/2 - 1 - i counts -(i + 1) * width < x <= -i * width without zero itself.
template <std::size_t Bins> struct histogram_state {
    std::array<std::uint64_t, Bins> bins{};
    std::uint64_t count = 0;      ///< finite elements; the sum of the bins
    std::uint64_t non_finite = 0; ///< skipped
    std::uint64_t zeros = 0;      ///< elements that are exactly zero; they also count in bin Bins/2
    std::int32_t exponent = -126; ///< the bins are 2^exponent wide; -126 is the narrowest
    float min = 0;
    float max = 0;
    friend constexpr bool operator==(const histogram_state&, const histogram_state&) = default;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

/// Streaming histogram. Bins: a power of two from 8 to 2^22.
template <std::size_t Bins = 2048> class histogram_observer {
    static_assert(std::has_single_bit(Bins) && Bins >= 8 && Bins <= (std::size_t{1} << 22),
                  "histogram_observer: the number of bins must be a power of two from 8 to 2^22");

public:
    static constexpr std::size_t half = Bins / 2;

    histogram_observer() noexcept = default;
    /// Goes on from a saved state.
    explicit histogram_observer(const histogram_state<Bins>& state) noexcept : state_(state) {}

    /// Takes in every element. One pass, no allocation, 8 KiB of stack.
    /// Bit-exact for any split, order, layout and architecture.
    template <class X>
        requires detail::real_viewable<X>
    void observe(const X& x) noexcept {
        simd::for_each_run(detail::view_const(x), [&](const float* p, std::size_t n) {
            std::size_t done = 0;
            if constexpr (has_steps) {
                done = n - n % simd::histogram_step_size;
                observe_steps(p, done);
            }
            for (; done < n; done += simd::tile_size)
                observe_tile(p + done, n - done < simd::tile_size ? n - done : simd::tile_size);
        });
    }

    /// Takes in what another observer has seen. Associative and commutative to the byte; cannot fail.
    void merge(const histogram_observer& other) noexcept {
        const histogram_state<Bins>& more = other.state_;
        include(more.count, more.min, more.max);
        state_.non_finite += more.non_finite;
        state_.zeros += more.zeros;
        grow(more.exponent);
        const auto shift = static_cast<unsigned>(state_.exponent - more.exponent);
        for (std::size_t i = 0; i < half; ++i) {
            const std::size_t to = shift < 32 ? i >> shift : 0;
            state_.bins[half + to] += more.bins[half + i];
            state_.bins[half - 1 - to] += more.bins[half - 1 - i];
        }
    }

    /// {min, max}, not limited by the width of the bins. Errors: no_data.
    [[nodiscard]] result<clip_range> range() const noexcept {
        if (state_.count == 0) return status{errc::no_data, "observer"};
        return clip_range{static_cast<double>(state_.min), static_cast<double>(state_.max)};
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return state_.count; }
    [[nodiscard]] std::uint64_t non_finite() const noexcept { return state_.non_finite; }
    [[nodiscard]] std::uint64_t zeros() const noexcept { return state_.zeros; }
    /// Number of elements in bin b.
    [[nodiscard]] std::uint64_t operator[](std::size_t b) const noexcept { return state_.bins[b]; }
    /// The width of a bin, a power of two.
    [[nodiscard]] double width() const noexcept {
        return std::bit_cast<double>(static_cast<std::uint64_t>(state_.exponent + 1023) << 52);
    }
    /// The lower edge of bin b; edge(b + 1) is the upper one. Exact.
    [[nodiscard]] double edge(std::size_t b) const noexcept {
        return (static_cast<double>(b) - static_cast<double>(half)) * width();
    }
    [[nodiscard]] const histogram_state<Bins>& state() const noexcept { return state_; }

private:
    using arch = simd::reduction_arch_t<simd::native>;
    /// Not where one element runs at a time, as on microcontrollers; two bins fit a word of 32 bits.
    static constexpr bool has_steps = !simd::is_scalar<arch> && Bins <= (std::size_t{1} << 16);

    [[nodiscard]] float inverse_width() const noexcept {
        return std::bit_cast<float>(static_cast<std::uint32_t>(127 - state_.exponent) << 23);
    }

    /// At most tile_size elements, straight into the bins.
    void observe_tile(const float* p, std::size_t n) noexcept {
        const simd::block_extremes tile = simd::extremes(p, n);
        include(tile.count, tile.min, tile.max);
        state_.non_finite += tile.non_finite;
        if (tile.count == 0) return;
        grow(exponent_for(tile));
        std::int32_t bin[simd::tile_size];
        simd::histogram_bins(p, n, inverse_width(), static_cast<std::uint32_t>(half), bin);
        for (std::size_t i = 0; i < n; ++i) {
            const auto b = static_cast<std::size_t>(bin[i]);
            if (b < Bins) ++state_.bins[b];
            state_.zeros += p[i] == 0 ? 1 : 0;
        }
    }

    /// n elements, a multiple of histogram_step_size.
    void observe_steps(const float* p, std::size_t n) noexcept {
        constexpr std::size_t step = simd::histogram_step_size;
        constexpr auto middle = static_cast<std::uint32_t>(half);
        std::uint64_t* const bins = state_.bins.data();
        simd::histogram_lanes<arch> found;
        std::uint32_t taken = 0;
        const auto settle = [&] {
            if (taken == 0) return;
            simd::block_extremes all;
            found.extremes.total(all.min, all.max);
            include(taken, all.min, all.max);
            state_.zeros += found.settle(bins, middle);
            found.extremes = {};
            taken = 0;
        };
        alignas(64) std::int32_t words[2][step / 2]; // a store across two lines of the cache takes twice as long
        const std::int32_t* pending = nullptr;       // bins still to be counted
        for (std::size_t i = 0; i < n; i += step) {
            std::int32_t* next = pending == words[0] ? words[1] : words[0];
            const float scale = inverse_width();
            const bool counted =
                pending != nullptr
                    ? simd::histogram_step<arch, true, true>(p + i, scale, middle, next, pending, bins, found)
                    : simd::histogram_step<arch, true, false>(p + i, scale, middle, next, nullptr, nullptr, found);
            pending = next;
            if (counted) {
                taken += static_cast<std::uint32_t>(step);
            } else {
                // The bins must grow first, or something is not finite.
                settle();
                observe_tile(p + i, step);
                pending = nullptr;
            }
        }
        if (pending != nullptr)
            simd::histogram_step<arch, false, true>(nullptr, 0, middle, nullptr, pending, bins, found);
        settle();
    }

    /// The smallest legal k with magnitude < half * 2^k.
    [[nodiscard]] static std::int32_t exponent_for(float magnitude) noexcept {
        constexpr std::int32_t log2_half = std::countr_zero(half);
        const auto biased = static_cast<std::int32_t>((std::bit_cast<std::uint32_t>(magnitude) >> 23) & 0xFFu);
        const std::int32_t k = biased - 127 + 1 - log2_half; // magnitude < 2^(biased - 126)
        return k < -126 ? -126 : k;
    }

    [[nodiscard]] static std::int32_t exponent_for(const simd::block_extremes& block) noexcept {
        return exponent_for(-block.min > block.max ? -block.min : block.max);
    }

    void grow(std::int32_t exponent) noexcept {
        if (exponent <= state_.exponent) return;
        const auto shift = static_cast<unsigned>(exponent - state_.exponent);
        state_.exponent = exponent;
        for (std::size_t i = 0; i < half; ++i) {
            const std::size_t to = shift < 32 ? i >> shift : 0;
            if (to == i) continue;
            // Bins are emptied before a later one adds to them: `to` is below i.
            const std::uint64_t above = state_.bins[half + i], below = state_.bins[half - 1 - i];
            state_.bins[half + i] = 0;
            state_.bins[half - 1 - i] = 0;
            state_.bins[half + to] += above;
            state_.bins[half - 1 - to] += below;
        }
    }

    void include(std::uint64_t count, float min, float max) noexcept {
        if (count != 0) {
            state_.min = state_.count == 0 ? min : simd::smaller(state_.min, min);
            state_.max = state_.count == 0 ? max : simd::larger(state_.max, max);
        }
        state_.count += count;
    }

    histogram_state<Bins> state_;
};

QUANT_END_TARGET
