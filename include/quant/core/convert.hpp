// SPDX-License-Identifier: MIT
#pragma once
// One integer type to another where the two are the same type on some targets. Layer 1 (core).

#include <quant/config.hpp>

QUANT_BEGIN_NAMESPACE
namespace core_detail {

/// static_cast for std::uint64_t to std::size_t and the like: in a template it is no useless cast where the types agree, and a
/// project that compiles these headers with its own warnings hears nothing.
template <class To, class From> [[nodiscard]] QUANT_INLINE constexpr To convert(From value) noexcept {
    return static_cast<To>(value);
}

} // namespace core_detail
QUANT_END_NAMESPACE
