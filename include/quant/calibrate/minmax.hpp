// SPDX-License-Identifier: MIT
#pragma once
// The smallest and the largest element, of everything seen or as a moving average over batches. Layer 3 (calibrate).
//
//   quant::minmax_observer m;
//   m.observe(shard_a);  m.observe(shard_b);
//   auto range = m.clip();                           // result<clip_range>
//
// NaN and infinities are skipped and counted. Elements are read as float; a double beyond its range counts as not finite.

#include <cstdint>
#include <quant/core/params.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>

QUANT_BEGIN_NAMESPACE

/// What a minmax_observer knows. Plain data; min and max mean nothing while count is 0.
struct minmax_state {
    std::uint64_t count = 0;
    std::uint64_t non_finite = 0;
    float min = 0;
    float max = 0;
    friend constexpr bool operator==(const minmax_state&, const minmax_state&) = default;
};

/// What a moving_average_minmax_observer knows.
struct moving_average_minmax_state {
    std::uint64_t batches = 0; ///< calls that held at least one finite element
    std::uint64_t non_finite = 0;
    double momentum = 0.99;
    double min = 0;
    double max = 0;
    friend constexpr bool operator==(const moving_average_minmax_state&, const moving_average_minmax_state&) = default;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

/// Streaming extremes. Any split, any order, the same bytes; a negative zero is reported as a positive one.
class minmax_observer {
public:
    minmax_observer() noexcept = default;
    /// Goes on from a saved state.
    explicit minmax_observer(const minmax_state& state) noexcept : state_(state) {}

    /// Takes in every element. One pass, no allocation.
    template <class X>
        requires detail::real_viewable<X>
    void observe(const X& x) noexcept {
        simd::for_each_run(detail::view_const(x), [&](const float* p, std::size_t n) {
            const simd::block_extremes run = simd::extremes(p, n);
            include({run.count, run.non_finite, run.min, run.max});
        });
    }
    /// Takes in what another observer has seen. Associative and commutative; cannot fail.
    void merge(const minmax_observer& other) noexcept { include(other.state_); }

    /// {min, max}. Errors: no_data.
    [[nodiscard]] result<clip_range> clip() const noexcept {
        if (state_.count == 0) return status{errc::no_data, "observer"};
        return clip_range{static_cast<double>(state_.min), static_cast<double>(state_.max)};
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return state_.count; }
    [[nodiscard]] std::uint64_t non_finite() const noexcept { return state_.non_finite; }
    [[nodiscard]] const minmax_state& state() const noexcept { return state_; }

private:
    void include(const minmax_state& more) noexcept {
        if (more.count != 0) {
            state_.min = state_.count == 0 ? more.min : simd::smaller(state_.min, more.min);
            state_.max = state_.count == 0 ? more.max : simd::larger(state_.max, more.max);
        }
        state_.count += more.count;
        state_.non_finite += more.non_finite;
    }

    minmax_state state_;
};

/// Exponential moving averages of the extremes of batches: one call of `observe` is one batch. The first batch is taken as it
/// is, then average = momentum * average + (1 - momentum) * batch. The order of the batches matters, so there is no merge.
class moving_average_minmax_observer {
public:
    /// momentum   weight of the past, in [0, 1)
    explicit moving_average_minmax_observer(double momentum = 0.99) noexcept {
        QUANT_EXPECTS(momentum >= 0 && momentum < 1, "moving_average_minmax_observer: momentum in [0, 1)");
        state_.momentum = momentum;
    }
    /// Goes on from a saved state.
    explicit moving_average_minmax_observer(const moving_average_minmax_state& state) noexcept : state_(state) {}

    /// Takes in one batch. A batch without a finite element does not move the averages. Deterministic.
    template <class X>
        requires detail::real_viewable<X>
    void observe(const X& x) noexcept {
        minmax_observer batch;
        batch.observe(x);
        state_.non_finite += batch.non_finite();
        if (batch.count() == 0) return;
        const auto min = static_cast<double>(batch.state().min), max = static_cast<double>(batch.state().max);
        state_.min = state_.batches == 0 ? min : average(state_.min, min);
        state_.max = state_.batches == 0 ? max : average(state_.max, max);
        ++state_.batches;
    }

    /// The averaged {min, max}. Errors: no_data.
    [[nodiscard]] result<clip_range> clip() const noexcept {
        if (state_.batches == 0) return status{errc::no_data, "observer"};
        return clip_range{state_.min, state_.max};
    }
    [[nodiscard]] std::uint64_t non_finite() const noexcept { return state_.non_finite; }
    [[nodiscard]] const moving_average_minmax_state& state() const noexcept { return state_; }

private:
    [[nodiscard]] double average(double past, double batch) const noexcept {
        const double weight = 1.0 - state_.momentum;
        const double old_part = simd::rounded(state_.momentum * past);
        const double new_part = simd::rounded(weight * batch);
        return old_part + new_part;
    }

    moving_average_minmax_state state_;
};

QUANT_END_TARGET
