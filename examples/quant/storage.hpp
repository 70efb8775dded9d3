// SPDX-License-Identifier: MIT
#pragma once
// How a quantized tensor stands in a file (docs/file-format.md): parts named after it, and one JSON text in the file's
// metadata that describes all of them.

#include "io/files.hpp"
#include "names.hpp"
#include "report.hpp"
#include "threads.hpp"

#include <quant/quantize/quantized_tensor.hpp>

namespace quant_tool {

inline constexpr const char* format_key = "quant.format";
inline constexpr const char* tensors_key = "quant.tensors";
inline constexpr const char* format_version = "1";
inline constexpr const char* planes_version = "2"; ///< of files in which a tensor stands in bit planes

/// Whole slices of a tensor: `count` positions of one dimension of sliced_shape::extents() from `first` on, and the slices
/// they hold.
struct slice_block {
    std::size_t dimension, first, count;
    std::size_t slice, slices;
};

/// A tensor as the library sees it: the axis that owns the parameters, everything before it and everything after it.
struct sliced_shape {
    granularity_choice granularity = granularity_choice::per_tensor;
    std::uint64_t outer = 1, extent = 1, inner = 1;
    std::uint64_t group_size = 0; ///< per_group only

    [[nodiscard]] std::array<std::size_t, 3> extents() const noexcept { return {outer, extent, inner}; }
    [[nodiscard]] quant::granularity library() const noexcept {
        switch (granularity) {
        case granularity_choice::per_axis: return quant::per_axis(1);
        case granularity_choice::per_group: return quant::per_group(1, group_size);
        case granularity_choice::per_tensor: break;
        }
        return quant::per_tensor;
    }
    [[nodiscard]] std::uint64_t groups() const noexcept { return (extent + group_size - 1) / group_size; }
    [[nodiscard]] std::uint64_t slices() const noexcept {
        switch (granularity) {
        case granularity_choice::per_axis: return extent;
        case granularity_choice::per_group: return outer * groups() * inner;
        case granularity_choice::per_tensor: break;
        }
        return 1;
    }
    /// Cut between slices, so that each block can be worked on by itself (docs/threads.md); a tensor of one slice is cut
    /// anywhere, and every block has that slice.
    [[nodiscard]] std::vector<slice_block> blocks(unsigned threads) const {
        const bool by_group = granularity == granularity_choice::per_group;
        const std::size_t dimension = by_group && outer > 1 ? 0 : 1;
        const std::size_t unit = by_group && dimension == 1 ? group_size : 1;
        std::vector<slice_block> out;
        for (const auto& [first, count] : cut(extents()[dimension], threads, unit, stride(dimension))) {
            if (granularity == granularity_choice::per_tensor) {
                out.push_back({dimension, first, count, 0, 1});
            } else {
                const std::size_t per_unit = !by_group ? 1 : dimension == 0 ? groups() * inner : inner;
                out.push_back({dimension, first, count, first / unit * per_unit, (count + unit - 1) / unit * per_unit});
            }
        }
        return out;
    }
    /// Whether each of the blocks above is one stretch of elements, which then begins at first * stride(dimension).
    [[nodiscard]] bool blocks_are_dense() const noexcept {
        return granularity != granularity_choice::per_axis || outer == 1;
    }
    [[nodiscard]] std::size_t stride(std::size_t dimension) const noexcept {
        return dimension == 0 ? extent * inner : inner;
    }
    /// Where the elements of slice s begin, if they are one stretch.
    [[nodiscard]] std::optional<std::size_t> dense_slice(std::uint64_t s) const noexcept {
        if (granularity == granularity_choice::per_tensor) {
            return 0;
        }
        if (granularity == granularity_choice::per_axis) {
            return outer == 1 ? std::optional<std::size_t>(s * inner) : std::nullopt;
        }
        return inner == 1 ? std::optional<std::size_t>(s / groups() * extent + s % groups() * group_size)
                          : std::nullopt;
    }
    /// Calls f(offset) for the elements of slice s in row-major order.
    template <class F> void for_each(std::uint64_t s, F f) const {
        if (granularity == granularity_choice::per_tensor) {
            for (std::uint64_t i = 0; i < outer * extent * inner; ++i) {
                f(i);
            }
        } else if (granularity == granularity_choice::per_axis) {
            for (std::uint64_t o = 0; o < outer; ++o) {
                for (std::uint64_t i = 0; i < inner; ++i) {
                    f((o * extent + s) * inner + i);
                }
            }
        } else {
            const auto i = s % inner, g = s / inner % groups(), o = s / inner / groups();
            for (auto a = g * group_size; a < std::min(extent, (g + 1) * group_size); ++a) {
                f((o * extent + a) * inner + i);
            }
        }
    }
    [[nodiscard]] std::uint64_t slice_size(std::uint64_t s) const noexcept {
        switch (granularity) {
        case granularity_choice::per_axis: return outer * inner;
        case granularity_choice::per_group:
            return std::min(extent, (s / inner % groups() + 1) * group_size) - s / inner % groups() * group_size;
        case granularity_choice::per_tensor: break;
        }
        return outer * extent * inner;
    }
};

/// Precondition: the shape has elements. Empty when the axis does not exist in the shape.
[[nodiscard]] inline std::optional<sliced_shape> slice_shape(const shape_type& shape, granularity_choice granularity,
                                                             int axis, std::uint64_t group_size) {
    sliced_shape out;
    out.granularity = granularity;
    if (granularity == granularity_choice::per_tensor) {
        out.extent = element_count(shape).value_or(0);
        return out;
    }
    const int rank = static_cast<int>(shape.size());
    const int a = axis < 0 ? axis + rank : axis;
    if (a < 0 || a >= rank) {
        return std::nullopt;
    }
    const auto place = static_cast<std::size_t>(a);
    for (std::size_t d = 0; d < shape.size(); ++d) {
        (d < place ? out.outer : d == place ? out.extent : out.inner) *= shape[d];
    }
    out.group_size = granularity == granularity_choice::per_group ? group_size : 0;
    return out;
}

/// One quantized tensor of a file.
struct stored_tensor {
    std::string name;
    dtype type = dtype::f32; ///< before quantization, and again after restoring
    shape_type shape;
    int axis = 0;                  ///< not negative
    sliced_shape layout;           ///< granularity and group size
    json provenance;               ///< how the parameters were found: clip, rounding, ...; nothing a reader needs
    quant::quantized_tensor codes; ///< extents as `layout` gives them
    /// Codes in bit planes: the planes that are live in all rows, or one mask for each row (plane_storage.hpp). Empty: dense codes.
    std::vector<std::uint16_t> live;
    std::uint64_t bytes = 0; ///< of its parts in the file, headers not counted
};

[[nodiscard]] inline bool is_quantized(const tensor_file& file) { return file.find_metadata(format_key) != nullptr; }

/// Splits a quantized file into its quantized tensors and the rest; throws error for every inconsistency.
struct quantized_file {
    std::vector<stored_tensor> quantized;
    std::vector<tensor> plain;
    text_metadata metadata; ///< without the keys of this format
    std::uint64_t bytes_on_disk = 0;
};
/// Codes in planes of which none is live take no bytes: how many of them a reader accepts in a tensor.
inline std::uint64_t most_codes_without_bytes = std::uint64_t{1} << 31;
[[nodiscard]] quantized_file split_quantized(tensor_file file, const std::string& path, unsigned threads);

/// The parts of a quantized tensor, and its entry in the JSON text.
[[nodiscard]] std::vector<tensor> parts_of(const stored_tensor& t, unsigned threads = 1);
[[nodiscard]] json description_of(const stored_tensor& t);
/// Bytes of the codes where they are not in planes.
[[nodiscard]] std::uint64_t dense_bytes(const stored_tensor& t);

/// Real values of a quantized tensor, computed in float32 and rounded once to `type`.
[[nodiscard]] tensor restore(const stored_tensor& t, dtype type, unsigned threads);

/// A file as real tensors, in the order of names; a quantized one is restored.
[[nodiscard]] tensor_file read_restored(const std::string& path, unsigned threads);

} // namespace quant_tool
