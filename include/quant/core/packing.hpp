// SPDX-License-Identifier: MIT
#pragma once
// Dense packing of codes of 1 to 8 (and 16) bits into bytes. Layer 1 (core).
//
//   std::vector<std::uint8_t> packed(quant::packed_bytes(codes.size(), quant::int4));
//   if (auto s = quant::pack_codes(codes, packed, quant::int4); !s) return s;
//
// Bit order: the packed bytes are one little-endian bit stream. Code i occupies bits [i * bits, (i + 1) * bits) of the
// stream, least significant bit first, and bit k of the stream is bit (k mod 8) of byte k / 8. Signed codes are stored in
// two's complement, cut to `bits`. Unused bits of the last byte are zero. For 4 and 2 bits this is ONNX's order of
// INT4/UINT4 and INT2/UINT2: the first element in the lowest bits.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/code_format.hpp>
#include <quant/core/tensor_view.hpp>

QUANT_BEGIN_NAMESPACE

/// Bytes needed for `count` codes.
[[nodiscard]] QUANT_INLINE constexpr std::size_t packed_bytes(std::size_t count, code_format format) noexcept {
    const std::size_t bits = format.bits;
    return count / 8 * bits + (count % 8 * bits + 7) / 8; // in this order nothing overflows before the result does
}

namespace core_detail {

template <class T>
concept byte_like = std::same_as<T, std::uint8_t> || std::same_as<T, std::byte>;

/// Checks what packing and unpacking have in common.
template <class Codes, class Packed>
QUANT_INLINE constexpr status check_packing(const Codes& codes, const Packed& packed, code_format format) noexcept {
    if (const status s = validate(format); !s) return s;
    if (!holds<typename Codes::value_type>(format)) return {errc::storage_too_narrow, "codes"};
    if (!codes.is_contiguous()) return {errc::invalid_stride, "codes"};
    if (!packed.is_contiguous()) return {errc::invalid_stride, "packed"};
    if (packed.size() < packed_bytes(codes.size(), format)) return {errc::buffer_too_small, "packed"};
    return {};
}

/// Eight codes are `bits` whole bytes: one 64-bit word holds both sides of the transfer (two words at 16 bits).
template <class Code>
QUANT_INLINE constexpr std::uint64_t gather_word(const Code* codes, std::size_t n, unsigned bits) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    std::uint64_t word = 0;
    for (std::size_t j = 0; j < n; ++j)
        word |= (static_cast<std::uint64_t>(static_cast<std::int64_t>(codes[j])) & mask) << (j * bits);
    return word;
}
template <class Code>
QUANT_INLINE constexpr void scatter_word(std::uint64_t word, Code* codes, std::size_t n, unsigned bits,
                                         bool is_signed) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    const std::int32_t sign = is_signed ? std::int32_t{1} << (bits - 1) : 0;
    for (std::size_t j = 0; j < n; ++j) {
        const auto raw = static_cast<std::int32_t>((word >> (j * bits)) & mask);
        codes[j] = static_cast<Code>((raw ^ sign) - sign); // extends the sign bit of two's complement
    }
}

} // namespace core_detail

/// Packs codes into bytes; bits above the format's width are cut off.
/// codes [n] contiguous, row-major; packed [>= packed_bytes(n, format)] std::uint8_t or std::byte; only the needed bytes are
/// written. Errors: bits_out_of_range, storage_too_narrow, invalid_stride, buffer_too_small. Cost: one pass.
template <viewable Codes, destination Packed>
    requires(code_storage<element_of_t<Codes>>&& core_detail::byte_like<element_of_t<Packed>>)
QUANT_INLINE constexpr status pack_codes(const Codes& codes, Packed&& packed, code_format format) noexcept {
    const auto from = v0_1::view(codes);
    const auto to = v0_1::view(packed);
    if (const status s = core_detail::check_packing(from, to, format); !s) return s;
    const std::size_t n = from.size();
    const unsigned bits = format.bits;
    const std::size_t at_once = bits <= 8 ? 8 : 4; // codes per 64-bit word
    auto* out = to.data();
    for (std::size_t i = 0; i < n; i += at_once) {
        const std::size_t count = n - i < at_once ? n - i : at_once;
        const std::uint64_t word = core_detail::gather_word(from.data() + i, count, bits);
        const std::size_t bytes = (count * bits + 7) / 8;
        for (std::size_t b = 0; b < bytes; ++b)
            *out++ = static_cast<element_of_t<Packed>>(static_cast<std::uint8_t>(word >> (8 * b)));
    }
    return {};
}

/// The inverse: reads packed_bytes(n, format) bytes, extends the sign of signed formats.
template <viewable Packed, destination Codes>
    requires(code_storage<element_of_t<Codes>>&& core_detail::byte_like<element_of_t<Packed>>)
QUANT_INLINE constexpr status unpack_codes(const Packed& packed, Codes&& codes, code_format format) noexcept {
    const auto from = v0_1::view(packed);
    const auto to = v0_1::view(codes);
    if (const status s = core_detail::check_packing(to, from, format); !s) return s;
    const std::size_t n = to.size();
    const unsigned bits = format.bits;
    const std::size_t at_once = bits <= 8 ? 8 : 4;
    const auto* in = from.data();
    for (std::size_t i = 0; i < n; i += at_once) {
        const std::size_t count = n - i < at_once ? n - i : at_once;
        const std::size_t bytes = (count * bits + 7) / 8;
        std::uint64_t word = 0;
        for (std::size_t b = 0; b < bytes; ++b)
            word |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(*in++)) << (8 * b);
        core_detail::scatter_word(word, to.data() + i, count, bits, format.is_signed);
    }
    return {};
}

QUANT_END_NAMESPACE
