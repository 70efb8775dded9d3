// SPDX-License-Identifier: MIT
#pragma once
// One line of text for each error code; apart from core so that firmware need not carry the strings.
//
//   std::fprintf(stderr, "%s: %s\n", s.argument, quant::message(s.code));

#include <quant/core/status.hpp>

QUANT_BEGIN_NAMESPACE

/// What the code means, without the argument's name. Never null.
[[nodiscard]] QUANT_INLINE constexpr const char* message(errc code) noexcept {
    switch (code) {
    case errc::ok: return "ok";
    case errc::shape_mismatch: return "extents or counts do not fit each other";
    case errc::bits_out_of_range: return "bit width outside what is allowed here";
    case errc::axis_out_of_range: return "the tensor has no such axis";
    case errc::invalid_group_size: return "group_size must be at least 1";
    case errc::invalid_stride: return "strides must be positive, and the elements dense where that is asked";
    case errc::overlapping: return "two elements of the destination share an address";
    case errc::storage_too_narrow: return "the element type cannot hold every code of the format";
    case errc::invalid_scale: return "the scale must be finite and within [2^-100, 2^100]";
    case errc::invalid_zero_point: return "the zero point must be one of the codes";
    case errc::scale_out_of_range: return "the range would need a scale above 2^100";
    case errc::invalid_range: return "the range must be finite with lo <= hi";
    case errc::non_finite: return "NaN or infinity";
    case errc::no_data: return "no finite data was observed";
    case errc::invalid_argument: return "value outside its documented domain";
    case errc::budget_infeasible: return "no allowed assignment of widths meets the budget";
    case errc::buffer_too_small: return "the buffer holds fewer elements than needed";
    case errc::statistics_mismatch:
        return "statistics from before and after the ReLU were mixed, or it was not said which they are";
    case errc::state_mismatch: return "observers of different configuration cannot be merged";
    case errc::out_of_memory: return "out of memory";
    }
    return "unknown error code";
}
[[nodiscard]] QUANT_INLINE constexpr const char* message(status s) noexcept { return message(s.code); }

QUANT_END_NAMESPACE
