// SPDX-License-Identifier: MIT
#pragma once
// The verbs around the dense bit stream of core/packing.hpp. Layer 4 (quantize).
//
//   std::vector<std::uint8_t> packed(quant::packed_bytes(codes.size(), quant::int4));
//   if (auto s = quant::pack_codes(codes, packed, quant::int4); !s) return s;

#include <cstddef>
#include <cstdint>
#include <quant/core/packing.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/pack.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

/// std::byte or std::uint8_t as what the kernels take.
template <core_detail::byte_like Byte> QUANT_INLINE std::uint8_t* as_octets(Byte* p) noexcept {
    return reinterpret_cast<std::uint8_t*>(p);
}
template <core_detail::byte_like Byte> QUANT_INLINE const std::uint8_t* as_octets(const Byte* p) noexcept {
    return reinterpret_cast<const std::uint8_t*>(p);
}

} // namespace detail

/// Packs codes into bytes; bits above the format's width are cut off.
/// codes [n] contiguous, row-major; packed [>= packed_bytes(n, format)] std::uint8_t or std::byte; only the needed bytes are
/// written. Errors: bits_out_of_range, storage_too_narrow, invalid_stride, buffer_too_small. Cost: one pass. Bit-exact; also in
/// constant expressions.
template <viewable Codes, destination Packed>
    requires(code_storage<element_of_t<Codes>>&& core_detail::byte_like<element_of_t<Packed>>)
constexpr status pack_codes(const Codes& codes, Packed&& packed, code_format format) noexcept {
    const auto from = v0_1::view(codes);
    const auto to = v0_1::view(packed);
    if (const status s = core_detail::check_packing(from, to, format); !s) return s;
    if (std::is_constant_evaluated())
        core_detail::pack_words(from.data(), to.data(), from.size(), format.bits);
    else
        simd::pack_codes(from.data(), detail::as_octets(to.data()), from.size(), format.bits);
    return {};
}

/// The inverse: reads packed_bytes(n, format) bytes, extends the sign of signed formats.
template <viewable Packed, destination Codes>
    requires(code_storage<element_of_t<Codes>>&& core_detail::byte_like<element_of_t<Packed>>)
constexpr status unpack_codes(const Packed& packed, Codes&& codes, code_format format) noexcept {
    const auto from = v0_1::view(packed);
    const auto to = v0_1::view(codes);
    if (const status s = core_detail::check_packing(to, from, format); !s) return s;
    if (std::is_constant_evaluated())
        core_detail::unpack_words(from.data(), to.data(), to.size(), format.bits, format.is_signed);
    else
        simd::unpack_codes(detail::as_octets(from.data()), to.data(), to.size(), format.bits, format.is_signed);
    return {};
}

QUANT_END_TARGET
