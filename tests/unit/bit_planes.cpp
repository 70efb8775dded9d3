// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <quant/bit_planes.hpp>
#include <quant/core/random.hpp>
#include <span>
#include <vector>

using quant::bit_plane_view;
using quant::errc;
using quant::plane_set;

namespace {

using words = std::vector<std::uint16_t>;
using view = bit_plane_view<std::uint16_t>;

std::uint64_t draw(std::uint64_t seed, std::uint64_t i) { return quant::random_bits(seed, 7, i); }

/// Codes whose magnitudes use the bits of `mask` only; a third of them negative if `is_signed`.
template <class Code> std::vector<Code> layer(std::size_t n, unsigned mask, bool is_signed, std::uint64_t seed) {
    std::vector<Code> codes;
    for (std::size_t i = 0; i < n; ++i) {
        const auto bits = draw(seed, i);
        const auto magnitude = static_cast<int>(static_cast<unsigned>(bits) & mask);
        codes.push_back(static_cast<Code>(is_signed && (bits >> 40) % 3 == 0 ? -magnitude : magnitude));
    }
    return codes;
}

/// The bit of a plane for a code, from the definition.
bool bit_of(int code, const plane_set& set, std::size_t p) {
    if (set.encoding == quant::plane_encoding::dual) {
        const int part = set[p].is_negative ? -code : code;
        return part > 0 && (part >> set[p].exponent & 1) != 0;
    }
    return (static_cast<unsigned>(code) >> set[p].exponent & 1u) != 0;
}

/// Where the bit of row r, column c of plane p stands, from the text of the format.
std::size_t word_of(std::size_t rows, std::size_t cols, std::size_t planes, std::size_t r, std::size_t c,
                    std::size_t p) {
    const std::size_t all = (cols + 15) / 16, k = c / 16, tile_k = k / 64 * 64, tile_r = r / 256 * 256;
    const std::size_t wide = std::min<std::size_t>(64, all - tile_k), high = std::min<std::size_t>(256, rows - tile_r);
    return planes * (tile_k * rows + tile_r * wide) + p * high * wide + (k - tile_k) * high + (r - tile_r);
}

/// Packs, compares every bit with the format's text, unpacks, drops empty planes, unpacks again.
template <class Code>
int mistakes(const std::vector<Code>& codes, std::size_t rows, std::size_t cols, const plane_set& set) {
    const std::size_t size = 2 * set.size() * rows * ((cols + 15) / 16);
    int wrong = quant::bit_plane_bytes(rows, cols, set.size()) != size;
    words memory(size / 2 + 3, 0xA5A5);
    view w(memory, rows, cols, set.size());
    wrong += !quant::pack_bit_planes(quant::view(codes, rows, cols), w, set) || w.size_bytes() != size;
    words expected(size / 2, 0);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < cols; ++c)
            for (std::size_t p = 0; p < set.size(); ++p)
                if (bit_of(codes[r * cols + c], set, p)) {
                    std::uint16_t& word = expected[word_of(rows, cols, set.size(), r, c, p)];
                    word = static_cast<std::uint16_t>(word | 1u << (c % 16));
                }
    wrong += !std::equal(expected.begin(), expected.end(), memory.begin());
    for (std::size_t i = size / 2; i < memory.size(); ++i) wrong += memory[i] != 0xA5A5;
    std::vector<Code> back(codes.size(), Code(85));
    wrong += !quant::unpack_bit_planes(w, quant::view(back, rows, cols)) || back != codes;
    std::size_t live = 0;
    for (std::size_t p = 0; p < set.size(); ++p)
        live += std::any_of(codes.begin(), codes.end(), [&](Code code) { return bit_of(code, set, p); }) ? 1 : 0;
    wrong += quant::drop_empty_planes(w) != set.size() - live;
    wrong += w.size_bytes() != 2 * live * rows * ((cols + 15) / 16);
    std::fill(back.begin(), back.end(), Code(85));
    const words shorter(memory.begin(), memory.begin() + static_cast<std::ptrdiff_t>(w.size_bytes() / 2));
    const bit_plane_view<const std::uint16_t> read(shorter, rows, cols, w.planes());
    wrong += !quant::unpack_bit_planes(read, quant::view(back, rows, cols)) || back != codes;
    return wrong;
}

} // namespace

TEST_CASE("Bit planes hold every code of every width, bit by bit where the format says") {
    int wrong = 0;
    for (std::uint8_t bits = 1; bits <= 8; ++bits)
        for (const bool is_signed : {false, true})
            for (const auto& [rows, cols] :
                 {std::array<std::size_t, 2>{1, 1}, {3, 17}, {5, 64}, {259, 33}, {2, 1049}}) {
                const quant::code_format format{bits, is_signed};
                const plane_set set = quant::planes_of(format);
                const auto levels = static_cast<std::uint64_t>(format.levels());
                const auto code = [&](std::size_t i) {
                    return static_cast<int>(draw(bits, i) % levels) + format.qmin();
                };
                if (is_signed) {
                    std::vector<std::int8_t> codes(rows * cols);
                    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::int8_t>(code(i));
                    wrong += mistakes(codes, rows, cols, set);
                } else {
                    std::vector<std::uint8_t> codes(rows * cols);
                    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(code(i));
                    wrong += mistakes(codes, rows, cols, set);
                }
            }
    CHECK(wrong == 0);
}

TEST_CASE("The cheaper encoding is chosen, and a layer of any magnitude bits comes back, gaps included") {
    // Planes of two's complement and of dual digits for the magnitude bits of a layer that uses both signs.
    const auto cost = [](unsigned mask) {
        std::vector<std::int8_t> codes = layer<std::int8_t>(2000, mask, true, mask);
        codes.push_back(static_cast<std::int8_t>(mask)),
            codes.push_back(static_cast<std::int8_t>(-static_cast<int>(mask)));
        return quant::choose_planes(codes);
    };
    CHECK(cost(0b1).size() == 2);
    CHECK(cost(0b11).size() == 3);
    CHECK(cost(0b111).size() == 4);
    CHECK(cost(0b1000'1000 >> 1).size() == 4); // planes 2 and 6: a gap
    CHECK(cost(0b1000'1000 >> 1).encoding == quant::plane_encoding::dual);
    CHECK(cost(0b111).encoding == quant::plane_encoding::twos_complement);
    CHECK(quant::choose_planes(std::vector<std::int8_t>(9, 0)).size() == 0);
    CHECK(quant::choose_planes(std::vector<std::int8_t>{}).size() == 0);
    CHECK(quant::choose_planes(std::vector<std::int8_t>{-8, 0, 2}).size() == 2); // -8 and 2: the plane of 4 is empty
    CHECK(quant::choose_planes(std::vector<std::int8_t>{-128}).size() == 1);
    CHECK(quant::choose_planes(std::vector<std::uint8_t>{136}).size() == 2); // no sign, no gap
    int wrong = 0, too_many = 0;
    for (unsigned mask = 0; mask < 128; ++mask) {
        const std::vector<std::int8_t> codes = layer<std::int8_t>(315, mask, true, mask + 1000);
        const plane_set set = quant::choose_planes(codes);
        wrong += mistakes(codes, 7, 45, set);
        plane_set dual{quant::plane_encoding::dual, 0, {}};
        for (std::uint8_t e = 0; e < 8; ++e) dual.add({e, false}), dual.add({e, true});
        wrong += mistakes(codes, 7, 45, dual); // not chosen, but legal
        const unsigned lowest = mask & (0u - mask);
        unsigned span = 0;
        for (unsigned m = lowest; m != 0 && m <= mask; m *= 2) ++span;
        too_many += set.size() > std::max(1u, std::min(span + 1, 2 * span)) && mask != 0;
    }
    CHECK(wrong == 0);
    CHECK(too_many == 0);
}

TEST_CASE("Empty matrices, rows and strided codes become bit planes") {
    view none(std::span<std::uint16_t>{}, 0, 5, std::size_t{4});
    CHECK(quant::pack_bit_planes(quant::view(static_cast<const std::int8_t*>(nullptr), 0, 5), none, quant::int4));
    CHECK(none.size_bytes() == 0);
    CHECK(quant::drop_empty_planes(none) == 4);
    const std::vector<std::int8_t> codes = layer<std::int8_t>(240, 7, true, 3);
    const auto turned = quant::view(codes, 6, 40).permute({1, 0}); // 40 rows of 6, columns 40 apart
    words memory(quant::bit_plane_words(40, 6, 4));
    view w(memory, 40, 6, 4);
    REQUIRE(quant::pack_bit_planes(turned, w, quant::int4));
    std::vector<std::int8_t> back(codes.size());
    REQUIRE(quant::unpack_bit_planes(w, quant::view(back, 6, 40).permute({1, 0})));
    CHECK(back == codes);
    words line(quant::bit_plane_words(1, codes.size(), 4));
    view row(line, codes.size(), 4);
    REQUIRE(quant::pack_bit_planes(codes, row, quant::int4));
    CHECK(quant::unpack_bit_planes(row, back));
    CHECK(back == codes);
}

TEST_CASE("Bit planes refuse what does not fit") {
    const std::vector<std::int8_t> codes(64, 1);
    words memory(16);
    view w(memory, 4, 16, std::size_t{4});
    CHECK(quant::pack_bit_planes(quant::view(codes, 2, 32), w, quant::int4).code == errc::shape_mismatch);
    CHECK(quant::pack_bit_planes(quant::view(codes, 4, 16), w, quant::int5).code == errc::bits_out_of_range);
    CHECK(quant::pack_bit_planes(quant::view(codes, 4, 16), w, quant::code_format{9, true}).code ==
          errc::bits_out_of_range);
    CHECK(quant::pack_bit_planes(quant::view(codes, 4, 16), w, quant::int16).code == errc::bits_out_of_range);
    view small(std::span<std::uint16_t>(memory).first(15), 4, 16, std::size_t{4});
    CHECK(quant::pack_bit_planes(quant::view(codes, 4, 16), small, quant::int4).code == errc::buffer_too_small);
    REQUIRE(quant::pack_bit_planes(quant::view(codes, 4, 16), w, quant::int4));
    std::vector<std::uint8_t> unsigned_codes(64);
    CHECK(quant::unpack_bit_planes(w, quant::view(unsigned_codes, 4, 16)).code == errc::storage_too_narrow);
    CHECK(quant::unpack_bit_planes(w, quant::view(unsigned_codes, 8, 8)).code == errc::shape_mismatch);
    plane_set high = quant::planes_of(quant::int4);
    high.planes[0].exponent = 8;
    CHECK(quant::validate(bit_plane_view<const std::uint16_t>(memory, 4, 16, high)).code == errc::bits_out_of_range);
    CHECK(quant::validate(bit_plane_view<const std::uint16_t>(memory, std::size_t(-1) / 2, 16, high)).code != errc::ok);
}

TEST_CASE("Pruned codes are the nearest ones in the best planes, with the error they cost") {
    std::vector<std::int8_t> codes = layer<std::int8_t>(200, 0x7F, true, 11);
    codes[0] = -128, codes[1] = 127;
    const std::array<float, 4> scales{0.5f, 0.01f, 2.0f, 0.25f};
    std::array<quant::affine_params, 4> params;
    for (std::size_t r = 0; r < 4; ++r) params[r] = {scales[r], 0, quant::int8};
    for (std::size_t step = 0; step < 18; ++step) {
        const std::size_t planes = step / 2;
        const bool adjacent = step % 2 != 0;
        const quant::prune_options options{.max_planes = planes, .adjacent = adjacent};
        // By trying every mask on every element.
        double least = -1;
        for (int mask = 0; mask < 256; ++mask) {
            const auto bits = static_cast<unsigned>(mask);
            if (static_cast<std::size_t>(std::popcount(bits)) > planes) continue;
            if (adjacent && mask != 0 &&
                static_cast<std::size_t>(std::bit_width(bits)) >
                    planes + static_cast<std::size_t>(std::countr_zero(bits)))
                continue;
            double error = 0;
            for (std::size_t i = 0; i < codes.size(); ++i) {
                int best = 1000;
                for (int m = 0; m <= (codes[i] < 0 ? 128 : 127); ++m)
                    if ((m & ~mask) == 0) best = std::min(best, std::abs(std::abs(int{codes[i]}) - m));
                error += static_cast<double>(scales[i / 50]) * static_cast<double>(scales[i / 50]) * best * best;
            }
            if (least < 0 || error < least) least = error;
        }
        std::vector<std::int8_t> pruned = codes;
        const auto done = quant::prune_planes(quant::view(pruned, 4, 50), params, quant::per_axis(0), options);
        REQUIRE(done);
        CHECK(std::abs(done->squared_error - least) <= 1e-9 * least);
        double error = 0;
        unsigned used = 0;
        for (std::size_t i = 0; i < codes.size(); ++i) {
            const double off = static_cast<double>(scales[i / 50]) * (codes[i] - pruned[i]);
            error += off * off;
            used |= static_cast<unsigned>(std::abs(int{pruned[i]}));
            CHECK(int{codes[i]} * int{pruned[i]} >= 0);
        }
        CHECK(std::abs(error - least) <= 1e-9 * least);
        CHECK((used & ~static_cast<unsigned>(done->plane_mask)) == 0);
        CHECK(quant::choose_planes(pruned).size() <= (adjacent && planes != 0 ? planes + 1 : 2 * planes));
        std::vector<std::int8_t> again = pruned; // nothing more to do
        const auto twice = quant::prune_planes(quant::view(again, 4, 50), params, quant::per_axis(0), options);
        REQUIRE(twice);
        CHECK((again == pruned && twice->squared_error == 0));
    }
    CHECK(quant::prune_planes(codes, params, quant::per_axis(0), {}).status().code == errc::shape_mismatch);
    params[2].zero_point = 1;
    CHECK(quant::prune_planes(quant::view(codes, 4, 50), params, quant::per_axis(0), {}).status().code ==
          errc::invalid_zero_point);
    CHECK(quant::prune_planes(codes, std::span(params).first(1), quant::per_tensor, {.max_planes = 9}).status().code ==
          errc::invalid_argument);
    std::vector<std::uint8_t> plain{255, 3, 129, 0};
    const auto top =
        quant::prune_planes(quant::view(plain, 2, 2), std::span(params).first(1), quant::per_tensor, {.max_planes = 1});
    REQUIRE(top);
    CHECK((plain == std::vector<std::uint8_t>{128, 0, 128, 0} && top->plane_mask == 128));
    const auto grouped =
        quant::prune_planes(plain, std::span(params).first(2), quant::per_group(0, 3), {.max_planes = 0});
    REQUIRE(grouped);
    CHECK(grouped->squared_error == 0.25 * 2 * 128 * 128);
}

TEST_CASE("Pruning moves no code to one that its format does not have") {
    // 7 is as far from 8 as from 6, and for 4 bits 8 is none; the same with widths per slice and without the lowest code.
    std::vector<std::int8_t> codes{-8, -8, -8, 7, -8, -8, -8, 7};
    std::array<quant::affine_params, 2> params{{{1.0f, 0, quant::int4}, {1.0f, 0, quant::int8}}};
    const auto done = quant::prune_planes(quant::view(codes, 2, 4), params, quant::per_axis(0), {.max_planes = 1});
    REQUIRE(done);
    CHECK((done->plane_mask == 8 && done->squared_error == 49 + 1));
    CHECK(codes == std::vector<std::int8_t>{-8, -8, -8, 0, -8, -8, -8, 8});
    std::vector<std::int8_t> narrow{-7, 8, 8, 8, -8, -8, -8}; // 8 and -8 are of no narrow int4: taken as they are
    const auto format = quant::int4.narrow();
    params[0] = {1.0f, 0, format};
    const auto some = quant::prune_planes(narrow, std::span(params).first(1), quant::per_tensor, {.max_planes = 1});
    REQUIRE(some);
    CHECK(narrow == std::vector<std::int8_t>{0, 8, 8, 8, -8, -8, -8});
}
