// SPDX-License-Identifier: MIT
#pragma once
// How a call says that its input was not acceptable: a code and the name of the argument. Layer 1 (core).
//
//   if (auto s = quant::dequantize(codes, restored, params); !s) return report(quant::message(s.code), s.argument);

#include <cstdint>
#include <quant/config.hpp>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

/// What went wrong. The text of each value is in `message(errc)` (quant/message.hpp).
enum class errc : std::uint8_t {
    ok = 0,
    shape_mismatch,      ///< extents or counts of two arguments do not fit each other
    bits_out_of_range,   ///< a bit width is outside what the format or the call allows
    axis_out_of_range,   ///< the axis does not exist in this tensor
    invalid_group_size,  ///< group_size must be at least 1
    invalid_stride,      ///< a stride is negative or zero (broadcast) on an extent above 1
    overlapping,         ///< two elements of a destination share an address
    storage_too_narrow,  ///< the element type cannot hold every code of the format
    invalid_scale,       ///< a scale must be finite and within [2^-100, 2^100]
    invalid_zero_point,  ///< a zero point must lie within [qmin, qmax]
    scale_out_of_range,  ///< the range would need a scale above 2^100
    invalid_range,       ///< lo > hi, or not finite
    non_finite,          ///< NaN or infinity where a strict call forbids it
    no_data,             ///< statistics of nothing
    invalid_argument,    ///< a parameter is outside its documented domain
    budget_infeasible,   ///< no allowed assignment of widths meets the budget
    buffer_too_small,    ///< a destination or workspace holds fewer elements than needed
    statistics_mismatch, ///< pre- and post-ReLU statistics mixed, or not stated where they must be
    state_mismatch,      ///< two observers cannot merge: their configuration differs
    out_of_memory,       ///< the owning result could not be allocated
};

/// Outcome of a call. True when it succeeded; otherwise `argument` names what was wrong with the input.
struct [[nodiscard]] status {
    errc code = errc::ok;
    const char* argument = "";

    QUANT_INLINE constexpr explicit operator bool() const noexcept { return code == errc::ok; }
};

/// A value or the reason why there is none. `T` must be default constructible.
template <class T> class [[nodiscard]] result {
public:
    using value_type = T;

    QUANT_INLINE constexpr result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)
        : value_(static_cast<T&&>(value)) {}
    QUANT_INLINE constexpr result(v0_1::status failure) noexcept : value_(), status_(failure) {
        QUANT_EXPECTS(!failure, "result: a failure must carry an error code");
    }

    QUANT_INLINE constexpr explicit operator bool() const noexcept { return static_cast<bool>(status_); }
    [[nodiscard]] QUANT_INLINE constexpr v0_1::status status() const noexcept { return status_; }

    /// The value. Precondition: the result is true.
    QUANT_INLINE constexpr T& operator*() & noexcept { return require(), value_; }
    QUANT_INLINE constexpr const T& operator*() const& noexcept { return require(), value_; }
    QUANT_INLINE constexpr T&& operator*() && noexcept { return require(), static_cast<T&&>(value_); }
    QUANT_INLINE constexpr T* operator->() noexcept { return require(), &value_; }
    QUANT_INLINE constexpr const T* operator->() const noexcept { return require(), &value_; }

private:
    QUANT_INLINE constexpr void require() const noexcept {
        QUANT_EXPECTS(static_cast<bool>(status_), "result: value of a failed call");
    }

    T value_;
    v0_1::status status_{};
};

QUANT_END_NAMESPACE
