// SPDX-License-Identifier: MIT
// libFuzzer: bit planes and groups against the sentences that define them. Any words are planes, any bytes and scales are groups; planes of
// any set, legal or not, are refused with an argument or made bit by bit as docs/bit_planes.md says.
#include "input.hpp"
#include <bit>
#include <quant/bit_planes.hpp>
#include <quant/groups.hpp>
#include <quant/packing.hpp>

namespace {

/// Bits by the thousand from few of the fuzzer's bytes.
class bits {
public:
    explicit bits(std::uint64_t seed) : state_(seed | 1U) {}
    std::uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

private:
    std::uint64_t state_;
};

/// Where the word of a row's column stands: [tile of columns][tile of rows][plane][word of 16 columns][row].
std::size_t place(std::size_t rows, std::size_t cols, std::size_t planes, std::size_t r, std::size_t c, std::size_t p) {
    const std::size_t words = (cols + 15) / 16, word = c / 16, first = word / 64 * 64, top = r / 256 * 256;
    const std::size_t wide = std::min<std::size_t>(64, words - first), high = std::min<std::size_t>(256, rows - top);
    return planes * rows * first + planes * top * wide + p * wide * high + (word - first) * high + (r - top);
}

/// The bit that a code has in a plane.
bool bit_of(std::int32_t code, quant::bit_plane plane, bool dual) {
    const std::int32_t magnitude = !dual ? code : plane.is_negative ? -code : code;
    if (dual && magnitude < 0) return false;
    return (static_cast<std::uint32_t>(magnitude) >> plane.exponent & 1U) != 0;
}

template <class Code> void planes(fuzz::input& in) {
    const auto size = [&](std::size_t tile) {
        const std::size_t n = in.below(64);
        return n < 48 ? n : tile + n - 56; // about the edge of a tile
    };
    std::size_t rows = size(256), cols = size(1024);
    if (rows * cols > 1024) (rows > 64 ? cols : rows) %= 4;
    quant::plane_set set{
        in.below(2) == 0 ? quant::plane_encoding::twos_complement : quant::plane_encoding::dual, 0, {}};
    const std::size_t count = in.below(quant::most_planes + 1);
    for (std::size_t p = 0; p < count; ++p) {
        const auto b = in.take<std::uint8_t>();
        set.add({static_cast<std::uint8_t>(b % 9), (b & 0x80U) != 0}); // 2^8 is none
    }
    const bool dual = set.encoding == quant::plane_encoding::dual;
    bits random(in.take<std::uint64_t>());
    const std::size_t n = quant::bit_plane_words(rows, cols, count);
    fuzz::require(n == count * rows * ((cols + 15) / 16));
    const fuzz::buffer<std::uint16_t> words(n);
    for (std::size_t i = 0; i < n; ++i) words[i] = static_cast<std::uint16_t>(random.next());
    const auto bit = [&](std::size_t r, std::size_t c, std::size_t p) {
        return (words[place(rows, cols, count, r, c, p)] >> (c % 16) & 1) != 0;
    };

    // Foreign words to codes.
    const fuzz::buffer<Code> codes(rows * cols), again(rows * cols);
    const auto matrix = quant::view(codes.span(), rows, cols);
    const quant::bit_plane_view<const std::uint16_t> foreign(words.span(), rows, cols, set);
    if (n != 0) {
        const quant::bit_plane_view<const std::uint16_t> less(words.span().first(n - 1), rows, cols, set);
        fuzz::require(!quant::unpack_bit_planes(less, matrix));
    }
    const quant::status read = quant::unpack_bit_planes(foreign, matrix);
    if (!read) {
        fuzz::require(read.argument != nullptr && *read.argument != '\0');
    } else {
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = 0; c < cols; ++c) {
                std::int32_t code = 0;
                for (std::size_t p = 0; p < count; ++p)
                    if (bit(r, c, p)) code += set[p].weight();
                // Dual planes that overlap make more than a code holds; that saturates or wraps, but is not looked at here.
                if (code >= std::numeric_limits<Code>::min() && code <= std::numeric_limits<Code>::max())
                    fuzz::require(codes[r * cols + c] == code);
            }
    }

    // Codes to planes.
    for (std::size_t i = 0; i < rows * cols; ++i) codes[i] = static_cast<Code>(random.next() >> in.below(2) * 4);
    quant::bit_plane_view<std::uint16_t> to(words.span(), rows, cols, count);
    const quant::status packed = quant::pack_bit_planes(matrix, to, set);
    if (!packed) {
        fuzz::require(packed.argument != nullptr && *packed.argument != '\0');
    } else {
        for (std::size_t p = 0; p < count; ++p)
            for (std::size_t r = 0; r < rows; ++r)
                for (std::size_t c = 0; c < (cols + 15) / 16 * 16; ++c)
                    fuzz::require(bit(r, c, p) == (c < cols && bit_of(codes[r * cols + c], set[p], dual)));
    }

    // The planes that the codes need hold them.
    const quant::plane_set needed = quant::choose_planes(matrix);
    const fuzz::buffer<std::uint16_t> own(quant::bit_plane_words(rows, cols, needed.size()));
    quant::bit_plane_view<std::uint16_t> whole(own.span(), rows, cols, needed.size());
    fuzz::require(static_cast<bool>(quant::pack_bit_planes(matrix, whole, needed)));
    fuzz::require(quant::drop_empty_planes(whole) == 0 || rows * cols == 0);
    fuzz::require(static_cast<bool>(quant::unpack_bit_planes(whole, quant::view(again.span(), rows, cols))));
    for (std::size_t i = 0; i < rows * cols; ++i) fuzz::require(codes[i] == again[i]);
}

void groups(fuzz::input& in) {
    const auto choice = in.take<std::uint8_t>();
    const quant::code_format format{static_cast<std::uint8_t>(choice & 15U), (choice & 16U) != 0,
                                    (choice & 48U) == 48U};
    const std::size_t rows = in.below(4), cols = in.below(300),
                      group = in.below(4) == 0 ? in.below(400) : in.below(5) * 16;
    const std::size_t n = rows * cols, slices = group == 0 ? 0 : rows * ((cols + group - 1) / group);
    const std::size_t bytes = format.bits <= 16 ? (n * format.bits + 7) / 8 : 0;
    const fuzz::buffer<std::byte> packed(bytes);
    const fuzz::buffer<float> scales(slices), values(n), scalar(n);
    const bool any_bits = in.below(2) == 0;
    bits random(in.take<std::uint64_t>());
    for (std::size_t i = 0; i < bytes; ++i) packed[i] = static_cast<std::byte>(random.next());
    for (std::size_t i = 0; i < slices; ++i)
        scales[i] = any_bits ? in.take<float>() : static_cast<float>(1 + in.take<std::uint8_t>()) * 0.0078125f;
    const auto to = quant::view(values.span(), rows, cols);
    const quant::status read = quant::dequantize_groups(packed.span(), scales.span(), to, format, group);
    if (!read) {
        fuzz::require(read.argument != nullptr && *read.argument != '\0');
        return;
    }
    for (std::size_t i = 0; i < n; ++i) {
        std::int32_t code = 0;
        for (std::size_t b = 0; b < format.bits; ++b) {
            const std::size_t k = i * format.bits + b;
            code |= static_cast<std::int32_t>(std::to_integer<unsigned>(packed[k / 8]) >> (k % 8) & 1U) << b;
        }
        if (format.is_signed && (code >> (format.bits - 1) & 1) != 0) code -= std::int32_t{1} << format.bits;
        const float scale = scales[i / cols * ((cols + group - 1) / group) + i % cols / group];
        const float expected = static_cast<float>(code) * scale;
        fuzz::require(values[i] == expected || (values[i] != values[i] && expected != expected));
    }
    // And there and back.
    for (std::size_t i = 0; i < n; ++i)
        values[i] = any_bits ? in.take<float>() : static_cast<float>(in.take<std::int8_t>()) * 0.03125f;
    const quant::status written = quant::quantize_groups(to, packed.span(), scales.span(), format, group);
    if (!written) {
        fuzz::require(written.argument != nullptr && *written.argument != '\0');
        return;
    }
    const auto back = quant::view(scalar.span(), rows, cols);
    fuzz::require(static_cast<bool>(quant::dequantize_groups(packed.span(), scales.span(), back, format, group)));
    for (std::size_t i = 0; i < n; ++i) {
        const float scale = scales[i / cols * ((cols + group - 1) / group) + i % cols / group];
        quant::affine_params p{scale, 0, format};
        const std::int32_t code = quant::quantize_one(values[i], p);
        fuzz::require(scalar[i] == static_cast<float>(code) * scale);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::input in(data, size);
    switch (in.take<std::uint8_t>() % 3) {
    case 0: planes<std::int8_t>(in); break;
    case 1: planes<std::uint8_t>(in); break;
    default: groups(in);
    }
    return 0;
}
