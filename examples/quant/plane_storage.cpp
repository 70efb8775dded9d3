// SPDX-License-Identifier: MIT
#include "plane_storage.hpp"

#include <map>
#include <quant/bit_planes.hpp>

namespace quant_tool {

namespace {

std::size_t plane_cols(const stored_tensor& t) noexcept { return t.codes.size() / plane_rows(t); }

live_mask mask_of(const quant::plane_set& set) noexcept {
    unsigned mask = 0;
    for (std::size_t p = 0; p < set.size(); ++p) {
        mask |= 1u << (set[p].exponent + (set[p].is_negative ? 8u : 0u));
    }
    return static_cast<live_mask>(mask);
}
/// The planes in the order in which they are stored. A single negative plane above all others is the sign of two's complement.
quant::plane_set set_of(live_mask mask) noexcept {
    const unsigned positive = mask & 0xFFu, negative = mask >> 8;
    const bool sign = std::popcount(negative) <= 1 && (negative == 0 || positive < negative);
    quant::plane_set set{sign ? quant::plane_encoding::twos_complement : quant::plane_encoding::dual, 0, {}};
    for (unsigned e = 0; e < 8; ++e) {
        if ((positive >> e & 1) != 0) {
            set.add({static_cast<std::uint8_t>(e), false});
        }
        if ((negative >> e & 1) != 0) {
            set.add({static_cast<std::uint8_t>(e), true});
        }
    }
    return set;
}

/// Calls f with the codes, row after row; only where an inner dimension owns the rows are they copied for it.
template <class F> auto with_matrix(const stored_tensor& t, F f) {
    return t.codes.visit_codes([&](auto codes) {
        using code = std::remove_const_t<typename decltype(codes)::value_type>;
        std::vector<code> copy;
        if constexpr (sizeof(code) == 1) {
            if (t.layout.granularity == granularity_choice::per_axis && t.layout.outer != 1) {
                copy.reserve(codes.size());
                for (std::uint64_t s = 0; s < t.layout.slices(); ++s) {
                    t.layout.for_each(s, [&](std::uint64_t offset) { copy.push_back(codes[offset]); });
                }
                codes = copy;
            }
            return f(codes);
        } else {
            throw error(exit_code::internal, {}, t.name, "planes hold codes of up to 8 bits");
            return f(std::span<const std::int8_t>());
        }
    });
}

/// Calls f(mask, rows) for the rows that share planes, in the order of their masks.
template <class F> void for_each_mask(const stored_tensor& t, F f) {
    std::map<live_mask, std::vector<std::size_t>> groups;
    for (std::size_t r = 0; r < plane_rows(t); ++r) {
        groups[t.live.size() == 1 ? t.live[0] : t.live[r]].push_back(r);
    }
    for (const auto& [mask, rows] : groups) {
        f(mask, rows);
    }
}

} // namespace

std::size_t plane_rows(const stored_tensor& t) noexcept {
    if (t.layout.granularity == granularity_choice::per_axis) {
        return t.layout.slices();
    }
    return t.shape.size() < 2 ? 1 : t.shape[0];
}

std::uint64_t plane_words(const stored_tensor& t, std::uint64_t cols) noexcept {
    std::uint64_t planes = 0;
    for (const live_mask mask : t.live) {
        planes += static_cast<std::uint64_t>(std::popcount(mask));
    }
    return planes * (t.live.size() == 1 ? plane_rows(t) : 1) * quant::plane_row_words(cols);
}

void choose_storage(stored_tensor& t, storage_choice choice) {
    t.live.clear();
    if (choice == storage_choice::dense) {
        return;
    }
    const std::size_t rows = plane_rows(t), cols = plane_cols(t);
    std::vector<live_mask> by_row(rows);
    live_mask all = 0;
    with_matrix(t, [&](auto matrix) {
        all = mask_of(quant::choose_planes(quant::view(matrix, rows, cols)));
        for (std::size_t r = 0; r < rows; ++r) {
            by_row[r] = mask_of(quant::choose_planes(matrix.subspan(r * cols, cols)));
        }
    });
    const auto bytes = [&](std::vector<live_mask> live) {
        t.live = std::move(live);
        return plane_words(t, cols) * sizeof(std::uint16_t);
    };
    // What a part costs beside its bytes: its name and about 80 characters of the header.
    const auto part = [&](const char* suffix) { return t.name.size() + std::string_view(suffix).size() + 80; };
    const auto separate = bytes(by_row) + rows * sizeof(live_mask) + part(".live"), together = bytes({all});
    if (separate < together) {
        t.live = std::move(by_row);
    }
    if (choice == storage_choice::smaller && dense_bytes(t) <= std::min(separate, together)) {
        t.live.clear();
    }
}

std::vector<std::uint16_t> pack_planes(const stored_tensor& t) {
    const std::size_t cols = plane_cols(t);
    std::vector<std::uint16_t> words(plane_words(t, cols));
    with_matrix(t, [&](auto matrix) {
        std::size_t at = 0;
        for_each_mask(t, [&](live_mask mask, const std::vector<std::size_t>& rows) {
            std::vector<std::remove_const_t<typename decltype(matrix)::value_type>> own;
            own.reserve(rows.size() * cols);
            for (const std::size_t r : rows) {
                const auto row = matrix.subspan(r * cols, cols);
                own.insert(own.end(), row.begin(), row.end());
            }
            const auto set = set_of(mask);
            const auto size = quant::bit_plane_words(rows.size(), cols, set.size());
            const std::span<std::uint16_t> room(words.data() + at, size);
            quant::bit_plane_view<std::uint16_t> to(room, rows.size(), cols, set.size());
            const auto from = quant::view(std::as_const(own), rows.size(), cols);
            if (const auto status = quant::pack_bit_planes(from, to, set); !status) {
                throw error(exit_code::internal, {}, t.name, std::string("packing: ") + status.argument);
            }
            at += size;
        });
    });
    return words;
}

std::string unpack_planes(stored_tensor& t, std::span<const std::uint16_t> words) {
    const std::size_t cols = plane_cols(t);
    std::string wrong;
    const auto into = [&]<class Code>(std::span<Code> codes) {
        std::size_t at = 0;
        for_each_mask(t, [&](live_mask mask, const std::vector<std::size_t>& rows) {
            const auto set = set_of(mask);
            const auto size = quant::bit_plane_words(rows.size(), cols, set.size());
            const quant::bit_plane_view<const std::uint16_t> from(words.subspan(at, size), rows.size(), cols, set);
            at += size;
            std::vector<Code> own(rows.size() * cols);
            if (const auto status = quant::unpack_bit_planes(from, quant::view(own, rows.size(), cols)); !status) {
                wrong = std::string("its live planes make codes that are not ") +
                        (t.codes.format().is_signed ? "signed" : "unsigned") + " ones of 8 bits";
                return;
            }
            // Element by element where a row is not one stretch of the tensor.
            for (std::size_t i = 0; i < rows.size(); ++i) {
                auto code = own.begin() + static_cast<std::ptrdiff_t>(i * cols);
                if (t.layout.granularity == granularity_choice::per_axis) {
                    t.layout.for_each(rows[i], [&](std::uint64_t offset) { codes[offset] = *code++; });
                } else {
                    std::copy_n(code, cols, codes.begin() + static_cast<std::ptrdiff_t>(rows[i] * cols));
                }
            }
        });
    };
    if (t.codes.format().is_signed) {
        into(t.codes.mutable_codes<std::int8_t>());
    } else {
        into(t.codes.mutable_codes<std::uint8_t>());
    }
    if (!wrong.empty()) {
        return wrong;
    }
    t.codes.visit_codes([&](auto codes) {
        for (std::uint64_t s = 0; s < t.layout.slices(); ++s) {
            const auto format = t.codes.params()[s].format;
            t.layout.for_each(s, [&](std::uint64_t offset) {
                const std::int32_t code{codes[offset]};
                if (wrong.empty() && (code < format.qmin() || code > format.qmax())) {
                    wrong = "slice " + std::to_string(s) + " has the code " + std::to_string(code) + ", not of " +
                            std::to_string(format.bits) + " bits";
                }
            });
        }
    });
    // There is one way to write a code: bits behind the last column, or a weight both in a plane and in its negative one, are damage.
    if (wrong.empty() && !std::ranges::equal(pack_planes(t), words)) {
        wrong = "its planes hold bits that belong to no code";
    }
    return wrong;
}

double stored_bits(const stored_tensor& t) noexcept {
    if (t.live.empty()) {
        return quant::average_bits(t.codes);
    }
    double planes = 0;
    for (const live_mask mask : t.live) {
        planes += std::popcount(mask);
    }
    return planes / static_cast<double>(t.live.size());
}

std::string storage_text(const stored_tensor& t) {
    return t.live.empty() ? "dense" : number_text("%.4g", stored_bits(t)) + " planes";
}

} // namespace quant_tool
