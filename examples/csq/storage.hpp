// SPDX-License-Identifier: MIT
#pragma once

// What an arm ends with: layers of integers, how many bits they take as the library stores them, and their products in that form.

#include "../quant/io/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <quant/bit_planes.hpp>
#include <quant/packing.hpp>
#include <quant/products.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace csq_example {

/// A run that grew out of all numbers: a result, not a defect.
struct diverged : std::runtime_error {
    using std::runtime_error::runtime_error;
};
inline void require(quant::status s) {
    if (s) return;
    const std::string text = std::string("quant: ") + s.argument;
    if (s.code == quant::errc::non_finite || s.code == quant::errc::invalid_scale) throw diverged(text);
    throw std::runtime_error(text);
}
template <class T> const T& require(const quant::result<T>& r) {
    require(r.status());
    return *r;
}

/// weight = code * scale, [rows, columns].
struct integer_layer {
    std::size_t rows = 0, columns = 0;
    std::vector<std::int16_t> codes;
    float scale = 1;
    double planes = 0;   ///< nominal: digits of {-1, 0, 1}; bits less one where there is no code of zero
    int odd_bits = 0;    ///< above 0: the codes are the odd numbers 2 j - (2^odd_bits - 1)
    bool by_row = false; ///< every row takes its own planes, and two bytes that name them
};
using integer_model = std::vector<integer_layer>;

/// One layer in bit planes. Codes of more than 8 bits are stored as their low and high bytes, q = 256 high + low: one more plane per bit,
/// as for the others. Rows of equal planes are one matrix each where rows have their own.
class stored_layer {
public:
    explicit stored_layer(const integer_layer& l) : rows_(l.rows), columns_(l.columns) {
        if (!l.by_row) {
            std::vector<std::size_t> all(rows_);
            std::iota(all.begin(), all.end(), std::size_t{0});
            parts_ = parts_of(l, all);
            if (l.odd_bits > 0) of_sum_ = 1 - (1 << l.odd_bits);
            return;
        }
        std::vector<std::vector<std::size_t>> equal; // rows, by the planes that they have
        std::vector<std::vector<part>> planes;       // of the first of them
        for (std::size_t r = 0; r < rows_; ++r) {
            std::vector<part> own = parts_of(l, {r});
            const auto at = std::find_if(planes.begin(), planes.end(), [&](const std::vector<part>& other) {
                return std::equal(own.begin(), own.end(), other.begin(), other.end(),
                                  [](const part& a, const part& b) { return a.planes == b.planes; });
            });
            live_.push_back(live_of(own));
            if (at == planes.end()) {
                equal.push_back({r});
                planes.push_back(std::move(own));
            } else {
                equal[static_cast<std::size_t>(at - planes.begin())].push_back(r);
            }
        }
        for (const auto& rows : equal)
            for (part& p : parts_of(l, rows)) parts_.push_back(std::move(p));
    }
    /// The library's formula.
    [[nodiscard]] std::size_t bytes() const {
        std::size_t sum = live_.size() * sizeof(std::uint16_t);
        for (const part& p : parts_) sum += quant::bit_plane_bytes(p.rows.size(), columns_, p.planes.size());
        return sum;
    }
    /// The words, as they go into a file.
    [[nodiscard]] std::vector<std::uint16_t> words() const {
        std::vector<std::uint16_t> all = live_;
        for (const part& p : parts_) all.insert(all.end(), p.words.begin(), p.words.end());
        return all;
    }
    /// y = codes * x.
    void multiply(std::span<const std::int8_t> x, std::span<std::int32_t> y) const {
        std::int32_t sum = 0;
        for (const std::int8_t v : x) sum += v;
        for (std::int32_t& v : y) v = of_sum_ * sum;
        std::vector<std::int32_t> part_of;
        for (const part& p : parts_) {
            part_of.resize(p.rows.size());
            const quant::bit_plane_view<const std::uint16_t> planes{p.words, p.rows.size(), columns_, p.planes};
            require(quant::gemv(planes, x, part_of));
            for (std::size_t i = 0; i < p.rows.size(); ++i) y[p.rows[i]] += p.factor * part_of[i];
        }
    }

private:
    struct part {
        std::vector<std::size_t> rows;
        std::vector<std::uint16_t> words;
        quant::plane_set planes;
        std::int32_t factor;
    };
    /// The matrices of bit planes that some rows are the sum of.
    static std::vector<part> parts_of(const integer_layer& l, const std::vector<std::size_t>& rows) {
        std::vector<std::int16_t> q;
        q.reserve(rows.size() * l.columns);
        for (const std::size_t r : rows)
            for (std::size_t c = 0; c < l.columns; ++c) q.push_back(l.codes[r * l.columns + c]);
        std::vector<part> parts;
        const auto add = [&]<class Code>(Code, std::int32_t factor, const auto& code_of) {
            std::vector<Code> codes;
            codes.reserve(q.size());
            for (const std::int16_t v : q) codes.push_back(static_cast<Code>(code_of(int{v})));
            const auto from = quant::view(codes, rows.size(), l.columns);
            const quant::plane_set set = quant::choose_planes(from);
            std::vector<std::uint16_t> words(quant::bit_plane_words(rows.size(), l.columns, set.size()));
            quant::bit_plane_view<std::uint16_t> view{words, rows.size(), l.columns, set.size()};
            require(quant::pack_bit_planes(from, view, set));
            parts.push_back({rows, std::move(words), set, factor});
        };
        const auto [low, high] = std::minmax_element(q.begin(), q.end());
        if (l.odd_bits > 0) {
            const int top = (1 << l.odd_bits) - 1;
            add(std::uint8_t{}, 2, [&](int v) { return (v + top) / 2; });
        } else if (q.empty() || (*low >= -128 && *high <= 127)) {
            add(std::int8_t{}, 1, [](int v) { return v; });
        } else {
            add(std::uint8_t{}, 1, [](int v) { return v & 255; });
            add(std::int8_t{}, 256, [](int v) { return v >> 8; });
        }
        return parts;
    }
    /// Bit e for the plane of 2^e, bit 8 + e for that of -2^e; all of the latter for the one of -256.
    static std::uint16_t live_of(const std::vector<part>& parts) {
        unsigned live = 0;
        for (const part& p : parts)
            for (std::size_t i = 0; i < p.planes.size(); ++i)
                live |= p.factor > 1 ? 0xff00u : 1u << (p.planes[i].exponent + (p.planes[i].is_negative ? 8 : 0));
        return static_cast<std::uint16_t>(live);
    }

    std::size_t rows_, columns_;
    std::vector<part> parts_;
    std::vector<std::uint16_t> live_; ///< the planes of each row, where rows have their own
    std::int32_t of_sum_ = 0;
};

/// Means over the weights of a model.
struct model_size {
    double planes = 0; ///< nominal, without the sign
    double stored = 0; ///< bits per weight in bit planes
    double dense = 0;  ///< bits per weight as codes of equal width packed next to each other
};
inline model_size size_of(const integer_model& m) {
    model_size s;
    double all = 0;
    for (const integer_layer& l : m) {
        const auto n = static_cast<double>(l.codes.size());
        int bits = l.odd_bits;
        for (const std::int16_t q : l.codes) {
            if (q == 0 || l.odd_bits > 0) continue;
            const int needed = static_cast<int>(std::bit_width(static_cast<unsigned>(q < 0 ? ~q : q))) + 1;
            bits = std::max(bits, needed);
        }
        s.planes += l.planes * n;
        s.stored += 8.0 * static_cast<double>(stored_layer(l).bytes());
        if (bits > 8) // the library packs at most 8 bits: the low bytes and the rest
            s.dense += 8.0 * n;
        const int rest = bits > 8 ? bits - 8 : bits;
        if (rest > 0)
            s.dense +=
                8.0 * static_cast<double>(quant::packed_bytes(
                          l.codes.size(), {.bits = static_cast<std::uint8_t>(rest), .is_signed = l.odd_bits == 0}));
        all += n;
    }
    return {s.planes / all, s.stored / all, s.dense / all};
}

/// Bytes of the planes in a .safetensors file, its header left out, when the file has them whole.
inline std::size_t bytes_in_file(const integer_model& m, const std::string& path) {
    std::vector<std::vector<std::uint16_t>> words;
    for (const integer_layer& l : m) words.push_back(stored_layer(l).words());
    quant_tool::tensor_file file;
    for (std::size_t l = 0; l < words.size(); ++l)
        file.tensors.push_back(
            quant_tool::make_tensor("layer" + std::to_string(l), quant_tool::dtype::u16, {words[l].size()}, words[l]));
    quant_tool::write_safetensors(path, file, quant_tool::overwrite::yes);
    std::size_t bytes = 0;
    const quant_tool::tensor_file back = quant_tool::read_safetensors(path);
    for (const auto& t : back.tensors) bytes += t.bytes.size();
    return bytes;
}

/// Dense layers with ReLU between them, from integers alone but for scales and biases: activations of 8 bits with a scale per sample.
/// Returns the samples for which planes and plain integers differ in any output; their answers in `right` are counted by `labels`.
struct execution {
    std::size_t different = 0, right = 0;
};
inline execution execute(const integer_model& m, std::span<const std::vector<float>> biases,
                         std::span<const float> samples, std::span<const std::uint8_t> labels) {
    std::vector<stored_layer> stored(m.begin(), m.end());
    execution done;
    const std::size_t inputs = m.front().columns;
    for (std::size_t s = 0; s < labels.size(); ++s) {
        std::vector<float> x(samples.begin() + static_cast<std::ptrdiff_t>(s * inputs),
                             samples.begin() + static_cast<std::ptrdiff_t>((s + 1) * inputs));
        bool same = true;
        for (std::size_t l = 0; l < m.size(); ++l) {
            float most = 0;
            for (const float v : x) most = std::max(most, std::abs(v));
            const float step = most > 0 ? most / 127 : 1;
            std::vector<std::int8_t> codes(x.size());
            for (std::size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<std::int8_t>(std::nearbyint(x[i] / step));
            std::vector<std::int32_t> sums(m[l].rows);
            stored[l].multiply(codes, sums);
            for (std::size_t r = 0; r < m[l].rows; ++r) {
                std::int32_t plain = 0;
                for (std::size_t c = 0; c < m[l].columns; ++c)
                    plain += std::int32_t{m[l].codes[r * m[l].columns + c]} * codes[c];
                same = same && plain == sums[r];
            }
            x.resize(m[l].rows);
            for (std::size_t r = 0; r < m[l].rows; ++r) {
                const float y = static_cast<float>(sums[r]) * (m[l].scale * step) + biases[l][r];
                x[r] = l + 1 < m.size() ? std::max(y, 0.0f) : y;
            }
        }
        done.different += same ? 0 : 1;
        done.right += static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin()) == labels[s] ? 1 : 0;
    }
    return done;
}

} // namespace csq_example
