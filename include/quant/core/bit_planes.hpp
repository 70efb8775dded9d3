// SPDX-License-Identifier: MIT
#pragma once
// Codes split by bit: what a plane weighs, where every bit of a matrix stands, and the view that says so. Layer 1 (core). The verbs
// stand in quant/bit_planes.hpp, the layout is drawn in docs/bit_planes.md.
//
// The code of row r, column c is the sum over the planes of weight(p) * bit(p, r, c), weight(p) = +2^exponent or -2^exponent.
// A word holds 16 consecutive columns of one row of one plane, the first in the lowest bit; columns past the last are zero bits.
// Words come in tiles of at most 256 rows and 64 words (1024 columns), all planes of a tile together:
//
//   [tile of columns][tile of rows][plane][word of 16 columns][row]
//
// Nothing else is padded: P planes of M rows and K columns are 2 * P * M * ceil(K / 16) bytes. In this order a product reads the
// matrix from front to back, and the words of neighbouring rows fill a register. In files a word is little-endian.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/status.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

inline constexpr std::size_t plane_word_columns = 16; ///< columns in a word
inline constexpr std::size_t plane_tile_rows = 256;   ///< rows in a tile, fewer in the last
inline constexpr std::size_t plane_tile_words = 64;   ///< words of a row in a tile, fewer in the last
inline constexpr std::size_t most_planes = 16;        ///< eight magnitudes of either sign

/// One plane: its bits count +2^exponent, or -2^exponent.
struct bit_plane {
    std::uint8_t exponent = 0; ///< 0 to 7
    bool is_negative = false;
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t weight() const noexcept {
        return is_negative ? -(std::int32_t{1} << exponent) : std::int32_t{1} << exponent;
    }
    friend constexpr bool operator==(const bit_plane&, const bit_plane&) = default;
};

/// How a code becomes bits.
enum class plane_encoding : std::uint8_t {
    twos_complement, ///< bit e of the code; the top plane of signed codes counts negative
    dual ///< bits of max(code, 0) in positive planes, of max(-code, 0) in negative ones: no plane for the sign
};

/// The planes that are kept, in the order in which they are stored.
struct plane_set {
    plane_encoding encoding = plane_encoding::twos_complement;
    std::uint8_t count = 0;
    std::array<bit_plane, most_planes> planes{};

    QUANT_INLINE constexpr void add(bit_plane plane) noexcept { planes[count++] = plane; }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t size() const noexcept { return count; }
    [[nodiscard]] QUANT_INLINE constexpr const bit_plane& operator[](std::size_t p) const noexcept { return planes[p]; }
    /// The smallest and the largest value that bits in these planes can make.
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t lowest() const noexcept { return total(true); }
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t highest() const noexcept { return total(false); }
    friend constexpr bool operator==(const plane_set&, const plane_set&) = default;

private:
    [[nodiscard]] QUANT_INLINE constexpr std::int32_t total(bool negative) const noexcept {
        std::int32_t sum = 0;
        for (std::size_t p = 0; p < count; ++p)
            if (planes[p].is_negative == negative) sum += planes[p].weight();
        return sum;
    }
};

/// Words of one row of one plane.
[[nodiscard]] QUANT_INLINE constexpr std::size_t plane_row_words(std::size_t cols) noexcept {
    return cols / plane_word_columns + (cols % plane_word_columns != 0 ? 1 : 0);
}
/// Words and bytes of a matrix in so many planes.
[[nodiscard]] QUANT_INLINE constexpr std::size_t bit_plane_words(std::size_t rows, std::size_t cols,
                                                                 std::size_t planes) noexcept {
    return planes * rows * plane_row_words(cols);
}
[[nodiscard]] QUANT_INLINE constexpr std::size_t bit_plane_bytes(std::size_t rows, std::size_t cols,
                                                                 std::size_t planes) noexcept {
    return bit_plane_words(rows, cols, planes) * sizeof(std::uint16_t);
}

/// A matrix in bit planes over words that belong to somebody else. `Word` is std::uint16_t, or const of it.
/// The words may be more than needed: dropping planes moves the rest to the front and says how many are left.
template <class Word> class bit_plane_view {
    static_assert(std::same_as<std::remove_const_t<Word>, std::uint16_t>,
                  "bit_plane_view: the words are std::uint16_t, const or not");

public:
    QUANT_INLINE constexpr bit_plane_view() noexcept = default;
    /// Room for `planes` planes of `rows` x `cols` codes; pack_bit_planes says what they weigh.
    QUANT_INLINE constexpr bit_plane_view(std::span<Word> words, std::size_t rows, std::size_t cols,
                                          std::size_t planes) noexcept
        : words_(words), rows_(rows), cols_(cols), room_(planes) {
        QUANT_EXPECTS(planes <= most_planes, "bit_plane_view: at most 16 planes");
    }
    /// One row.
    QUANT_INLINE constexpr bit_plane_view(std::span<Word> words, std::size_t cols, std::size_t planes) noexcept
        : bit_plane_view(words, 1, cols, planes) {}
    /// Words that hold these planes already, as they come from a file.
    QUANT_INLINE constexpr bit_plane_view(std::span<Word> words, std::size_t rows, std::size_t cols,
                                          const plane_set& planes) noexcept
        : words_(words), rows_(rows), cols_(cols), room_(planes.size()), planes_(planes) {}
    /// To read what may be written.
    template <class Other>
        requires(std::is_const_v<Word> && !std::is_const_v<Other>)
    QUANT_INLINE constexpr bit_plane_view(const bit_plane_view<Other>& other) noexcept
        : words_(other.words()), rows_(other.rows()), cols_(other.cols()), room_(other.room()),
          planes_(other.planes()) {}

    [[nodiscard]] QUANT_INLINE constexpr std::span<Word> words() const noexcept { return words_; }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t cols() const noexcept { return cols_; }
    /// Planes there is room for.
    [[nodiscard]] QUANT_INLINE constexpr std::size_t room() const noexcept { return room_; }
    /// Planes there are.
    [[nodiscard]] QUANT_INLINE constexpr const plane_set& planes() const noexcept { return planes_; }
    /// Bytes that belong to the planes there are.
    [[nodiscard]] QUANT_INLINE constexpr std::size_t size_bytes() const noexcept {
        return bit_plane_bytes(rows_, cols_, planes_.size());
    }
    /// For code that has written the words.
    QUANT_INLINE constexpr void set_planes(const plane_set& planes) noexcept { planes_ = planes; }

    /// The first word of plane p in the tile that begins at row `row` and word `word` (multiples of the tile's sizes); the
    /// word k of row i of the tile stands k * tile_rows(row) + i after it.
    [[nodiscard]] QUANT_INLINE constexpr Word* tile(std::size_t word, std::size_t row, std::size_t p) const noexcept {
        return words_.data() + (word * rows_ + row * tile_words(word)) * planes_.size() +
               p * tile_rows(row) * tile_words(word);
    }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t tile_rows(std::size_t row) const noexcept {
        return rows_ - row < plane_tile_rows ? rows_ - row : plane_tile_rows;
    }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t tile_words(std::size_t word) const noexcept {
        const std::size_t left = plane_row_words(cols_) - word;
        return left < plane_tile_words ? left : plane_tile_words;
    }

private:
    std::span<Word> words_{};
    std::size_t rows_ = 0, cols_ = 0, room_ = 0;
    plane_set planes_{};
};

/// ok when every plane is between 2^0 and 2^7, the words suffice and can be counted.
template <class Word>
[[nodiscard]] QUANT_INLINE constexpr status validate(const bit_plane_view<Word>& planes) noexcept {
    if (planes.planes().size() > most_planes) return {errc::bits_out_of_range, "planes"};
    for (std::size_t p = 0; p < planes.planes().size(); ++p)
        if (planes.planes()[p].exponent > 7) return {errc::bits_out_of_range, "planes"};
    const std::size_t most = static_cast<std::size_t>(-1) / 2 / most_planes, row = plane_row_words(planes.cols());
    if (row != 0 && planes.rows() > most / row) return {errc::shape_mismatch, "planes"};
    if (planes.words().size() < bit_plane_words(planes.rows(), planes.cols(), planes.planes().size()))
        return {errc::buffer_too_small, "planes"};
    return {};
}

/// Calls f(word, row) for the first word and row of every tile, in the order of storage.
template <class Word, class F>
QUANT_INLINE constexpr void for_each_tile(const bit_plane_view<Word>& planes, F&& f) noexcept {
    for (std::size_t word = 0; word < plane_row_words(planes.cols()); word += plane_tile_words)
        for (std::size_t row = 0; row < planes.rows(); row += plane_tile_rows) f(word, row);
}

QUANT_END_NAMESPACE
