// SPDX-License-Identifier: MIT
// libFuzzer: pack_codes and unpack_codes against the sentence that defines the format, bit by bit, for any width, length and codes.
#include "input.hpp"
#include <quant/packing.hpp>

namespace {

/// Bit k of the stream is bit k mod 8 of byte k / 8.
unsigned stream_bit(std::span<const std::uint8_t> packed, std::size_t k) { return packed[k / 8] >> (k % 8) & 1U; }

template <class Code> void check(fuzz::input& in, quant::code_format format) {
    // Codes begin anywhere within their buffer, so that no address is aligned.
    const std::size_t n = in.below(600), offset = in.below(8);
    const fuzz::buffer<Code> codes(offset + n), back(offset + n);
    for (std::size_t i = 0; i < n; ++i) codes[offset + i] = in.take<Code>();
    const auto own = codes.span().subspan(offset);
    const std::size_t bits = format.bits, bytes = quant::packed_bytes(n, format);
    fuzz::require(bytes == (n * bits + 7) / 8);
    const fuzz::buffer<std::uint8_t> packed(bytes);

    fuzz::require(static_cast<bool>(quant::pack_codes(own, packed.span(), format)));
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t b = 0; b < bits; ++b)
            fuzz::require(stream_bit(packed.span(), i * bits + b) == (static_cast<unsigned>(own[i]) >> b & 1U));
    for (std::size_t k = n * bits; k < bytes * 8; ++k) fuzz::require(stream_bit(packed.span(), k) == 0);
    if (bytes != 0) // one byte too few is refused
        fuzz::require(quant::pack_codes(own, packed.span().first(bytes - 1), format).code ==
                      quant::errc::buffer_too_small);

    // Any bytes are a stream, with whatever in the bits after the last code.
    const fuzz::buffer<std::uint8_t> stream(bytes);
    for (std::size_t k = 0; k < bytes; ++k) stream[k] = in.left() != 0 ? in.take<std::uint8_t>() : packed[k];
    fuzz::require(static_cast<bool>(quant::unpack_codes(stream.span(), back.span().subspan(offset), format)));
    for (std::size_t i = 0; i < n; ++i) {
        std::int64_t expected = 0;
        for (std::size_t b = 0; b < bits; ++b) expected += std::int64_t{stream_bit(stream.span(), i * bits + b)} << b;
        if (format.is_signed && stream_bit(stream.span(), i * bits + bits - 1) != 0)
            expected -= std::int64_t{1} << bits;
        fuzz::require(back[offset + i] == expected);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::input in(data, size);
    const auto choice = in.take<std::uint8_t>();
    const bool is_signed = (choice & 1U) != 0;
    const auto bits = static_cast<std::uint8_t>((choice >> 1) % 9 < 8 ? (choice >> 1) % 9 + 1 : 16);
    const quant::code_format format{bits, is_signed, false};
    if (bits == 16)
        is_signed ? check<std::int16_t>(in, format) : check<std::uint16_t>(in, format);
    else
        is_signed ? check<std::int8_t>(in, format) : check<std::uint8_t>(in, format);
    return 0;
}
