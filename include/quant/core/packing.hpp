// SPDX-License-Identifier: MIT
#pragma once
// Dense packing of codes of 1 to 8 (and 16) bits into bytes: the bit order and its definition. Layer 1 (core). The verbs that do
// it, pack_codes and unpack_codes, stand in quant/packing.hpp.
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

// ---- the definition: plain C++, in constant expressions, on any machine -------------------------------------------------------

/// Eight codes are `bits` whole bytes: one 64-bit word holds both sides of the transfer (four codes of 16 bits).
template <class Code, class Byte>
QUANT_INLINE constexpr void pack_words(const Code* codes, Byte* packed, std::size_t n, unsigned bits) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    const std::size_t at_once = bits <= 8 ? 8 : 4;
    for (std::size_t i = 0; i < n; i += at_once) {
        const std::size_t count = n - i < at_once ? n - i : at_once;
        std::uint64_t word = 0;
        for (std::size_t j = 0; j < count; ++j)
            word |= (static_cast<std::uint64_t>(static_cast<std::int64_t>(codes[i + j])) & mask) << (j * bits);
        for (std::size_t left = (count * bits + 7) / 8; left != 0; --left, word >>= 8)
            *packed++ = static_cast<Byte>(static_cast<std::uint8_t>(word));
    }
}
template <class Byte, class Code>
QUANT_INLINE constexpr void unpack_words(const Byte* packed, Code* codes, std::size_t n, unsigned bits,
                                         bool is_signed) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    const std::int32_t sign = is_signed ? std::int32_t{1} << (bits - 1) : 0;
    const std::size_t at_once = bits <= 8 ? 8 : 4;
    for (std::size_t i = 0; i < n; i += at_once) {
        const std::size_t count = n - i < at_once ? n - i : at_once;
        const std::size_t bytes = (count * bits + 7) / 8;
        std::uint64_t word = 0;
        for (std::size_t b = 0; b < bytes; ++b)
            word |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(*packed++)) << (8 * b);
        for (std::size_t j = 0; j < count; ++j, word >>= bits) {
            const auto raw = static_cast<std::int32_t>(word & mask);
            codes[i + j] = static_cast<Code>((raw ^ sign) - sign); // extends the sign bit of two's complement
        }
    }
}

} // namespace core_detail

QUANT_END_NAMESPACE
