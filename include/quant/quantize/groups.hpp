// SPDX-License-Identifier: MIT
#pragma once
// Groups of consecutive elements with one scale each, found on the way: the weights of language models. Layer 4 (quantize).
//
//   std::vector<float> scales(w.size() / 32);
//   std::vector<std::byte> packed(quant::packed_bytes(w.size(), quant::int4));
//   if (auto s = quant::quantize_groups(w, packed, scales, quant::int4, 32); !s) return s;
//   if (auto s = quant::dequantize_groups(packed, scales, restored, quant::int4, 32); !s) return s;
//
// The groups are those of per_group(-1, group_size), and so is their order: along the last dimension, the last group of a row
// may be short. Symmetric: the scale of a group is that of choose_params of its extremes, the codes are those of quantize with it,
// byte for byte; all in one pass over memory. Codes are one per element (std::int8_t, …), or, when the destination is of std::byte,
// the dense stream of core/packing.hpp over the whole tensor. Scales stand in an array of their own (docs/packing.md).
// Source, destination and scales must not overlap: a broken precondition.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/core/granularity.hpp>
#include <quant/core/packing.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/packing.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/groups.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/pack.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

inline constexpr std::size_t group_tile = 16 * simd::widest_group; ///< the largest block of groups
static_assert(group_tile <= largest_put);

/// Where the codes of groups go: one per element, bytes past the caches if `stream`.
template <code_storage Code> class element_sink {
public:
    using code_type = Code;
    element_sink(Code* codes, bool stream) noexcept
        : codes_(reinterpret_cast<std::uint8_t*>(codes), stream && sizeof(Code) == 1) {}
    [[nodiscard]] QUANT_INLINE bool takes_blocks() const noexcept { return sizeof(Code) == 1; }
    [[nodiscard]] QUANT_INLINE Code* room(std::size_t) noexcept { return reinterpret_cast<Code*>(codes_.room()); }
    QUANT_INLINE void done(std::size_t n) noexcept { codes_.advance(n * sizeof(Code)); }
    template <class Real>
    void quantize(const Real* x, std::size_t n, const affine_params& params, const quantize_options& options,
                  std::uint64_t index) noexcept {
        for (std::size_t i = 0; i < n; i += group_tile) {
            const std::size_t count = n - i < group_tile ? n - i : group_tile;
            simd::quantize(x + i, room(count), count, simd::uniform_params{params}, options, {index + i, 1});
            done(count);
        }
    }
    void finish() noexcept { codes_.finish(); }

private:
    simd::byte_destination<group_tile> codes_;
};

/// The same into a dense stream.
template <code_storage Code> class stream_sink {
public:
    using code_type = Code;
    stream_sink(std::uint8_t* packed, unsigned bits, bool stream) noexcept : writer_(packed, bits, stream) {}
    [[nodiscard]] QUANT_INLINE bool takes_blocks() const noexcept { return sizeof(Code) == 1 && writer_.on_byte(); }
    [[nodiscard]] QUANT_INLINE Code* room(std::size_t) noexcept { return tile_; }
    QUANT_INLINE void done(std::size_t n) noexcept { writer_.put(tile_, n); } // a block is a multiple of 8 codes
    template <class Real>
    void quantize(const Real* x, std::size_t n, const affine_params& params, const quantize_options& options,
                  std::uint64_t index) noexcept {
        for (std::size_t i = 0; i < n;) {
            const std::size_t count = n - i < writer_.space() ? n - i : writer_.space();
            simd::quantize(x + i, writer_.codes(), count, simd::uniform_params{params}, options, {index + i, 1});
            writer_.advance(count);
            i += count;
        }
    }
    void finish() noexcept { writer_.finish(); }

private:
    packed_writer<Code> writer_;
    Code tile_[group_tile];
};

/// Groups of one row (or of a tensor whose rows are whole groups), from element `index` of the tensor on.
template <class Sink>
[[nodiscard]] inline status quantize_group_row(const float* x, std::size_t n, std::uint64_t index,
                                               std::size_t group_size, code_format format,
                                               const quantize_options& options, float*& scales, Sink& sink) noexcept {
    const bool by_blocks = options.round == rounding::nearest_even && format.bits <= 8 && format.qmax() > 0 &&
                           format.is_signed == std::is_signed_v<typename Sink::code_type>;
    for (std::size_t i = 0; i < n;) {
        if constexpr (sizeof(typename Sink::code_type) == 1) {
            if (by_blocks && sink.takes_blocks()) {
                const std::size_t done = simd::quantize_group_blocks(x + i, (n - i) / group_size, group_size, format,
                                                                     options.divide, scales, sink);
                i += done * group_size;
                scales += done;
            }
        }
        for (std::size_t k = 0; k < 16 && i < n; ++k) { // a block that needs the rules, or what is no whole block
            const std::size_t count = n - i < group_size ? n - i : group_size;
            const result<affine_params> params = simd::group_params(x + i, count, format);
            if (!params) return {params.status().code, "src"};
            *scales++ = params->scale;
            sink.quantize(x + i, count, *params, options, index + i);
            i += count;
        }
    }
    return {};
}

/// The same for other real types: halves as floats, a block at a time; double, and groups larger than a block, in two passes.
template <real_element T, class Sink>
[[nodiscard]] inline status quantize_group_row(const T* x, std::size_t n, std::uint64_t index, std::size_t group_size,
                                               code_format format, const quantize_options& options, float*& scales,
                                               Sink& sink) noexcept {
    using real = compute_t<T>;
    real dense[group_tile];
    const auto convert = [&](const T* from, std::size_t count) {
        for (std::size_t j = 0; j < count; ++j) {
            if constexpr (std::same_as<T, real>)
                dense[j] = from[j];
            else
                dense[j] = to_float(from[j]);
        }
    };
    if constexpr (std::same_as<real, float>) {
        if (group_size <= simd::widest_group) {
            const std::size_t whole = group_tile / group_size * group_size;
            for (std::size_t i = 0; i < n; i += whole) {
                const std::size_t count = n - i < whole ? n - i : whole;
                convert(x + i, count);
                const status s = quantize_group_row(static_cast<const float*>(dense), count, index + i, group_size,
                                                    format, options, scales, sink);
                if (!s) return s;
            }
            return {};
        }
    }
    for (std::size_t i = 0; i < n; i += group_size) {
        const std::size_t count = n - i < group_size ? n - i : group_size;
        minmax_observer range;
        range.observe(tensor_view<const T, 1>(x + i, {count}));
        const result<clip_range> found = range.clip();
        const result<affine_params> params = choose_params(found ? *found : clip_range{}, format, mapping::symmetric);
        if (!params) return {params.status().code, "src"};
        *scales++ = params->scale;
        for (std::size_t first = 0; first < count; first += group_tile) {
            const std::size_t part = count - first < group_tile ? count - first : group_tile;
            convert(x + i + first, part);
            sink.quantize(static_cast<const real*>(dense), part, *params, options, index + i + first);
        }
    }
    return {};
}

/// Elements of a row, or of the whole tensor where every row is whole groups.
template <class T, std::size_t Rank>
[[nodiscard]] inline std::size_t group_row(const tensor_view<T, Rank>& v, std::size_t group_size) noexcept {
    const std::size_t row = v.extent(Rank - 1);
    return row % group_size == 0 ? v.size() : row;
}

template <real_element T, std::size_t Rank, class Sink>
[[nodiscard]] inline status quantize_group_rows(const tensor_view<const T, Rank>& src, std::size_t group_size,
                                                code_format format, const quantize_options& options, float* scales,
                                                Sink& sink) noexcept {
    const std::size_t row = group_row(src, group_size);
    for (std::size_t i = 0; i < src.size(); i += row)
        if (const status s = quantize_group_row(src.data() + i, row, i, group_size, format, options, scales, sink); !s)
            return s;
    sink.finish();
    return {};
}

/// What both directions check: the format, the groups, and one scale for each.
template <class T, std::size_t Rank>
[[nodiscard]] inline status check_groups(const tensor_view<T, Rank>& real, const char* argument, std::size_t scales,
                                         code_format format, std::size_t group_size) noexcept {
    if (const status s = validate(format); !s) return s;
    const auto map = resolve(per_group(-1, group_size), real.extents());
    if (!map) return map.status();
    if (scales != map->count) return {errc::shape_mismatch, "scales"};
    if (!real.is_contiguous()) return {errc::invalid_stride, argument};
    return {};
}

/// What they check of the codes: one per element, or a stream.
template <class Code, std::size_t CodeRank, std::size_t Rank>
[[nodiscard]] inline status check_group_codes(const tensor_view<Code, CodeRank>& codes,
                                              const std::array<std::size_t, Rank>& extents, std::size_t size,
                                              code_format format) noexcept {
    using code_type = std::remove_const_t<Code>;
    if constexpr (std::same_as<code_type, std::byte>) {
        if (!codes.is_contiguous()) return {errc::invalid_stride, "codes"};
        if (codes.size() < packed_bytes(size, format)) return {errc::buffer_too_small, "codes"};
    } else {
        if (!holds<code_type>(format)) return {errc::storage_too_narrow, "codes"};
        const auto shaped = with_extents(codes, extents, "codes");
        if (!shaped) return shaped.status();
        if (!codes.is_contiguous()) return {errc::invalid_stride, "codes"};
    }
    return {};
}

/// The precondition of both: the reals, the codes and the scales lie apart.
template <class T, std::size_t Rank, class Code, std::size_t CodeRank, class Scale>
[[nodiscard]] inline bool groups_apart(const tensor_view<T, Rank>& reals, const tensor_view<Code, CodeRank>& codes,
                                       std::span<Scale> scales, [[maybe_unused]] code_format format) noexcept {
    memory_stretch of_codes = stretch_of(codes);
    if constexpr (std::same_as<std::remove_const_t<Code>, std::byte>)
        of_codes = stream_stretch(codes.data(), reals.size(), format);
    const memory_stretch of_reals = stretch_of(reals), of_scales = stretch_of(v0_1::view(scales));
    return apart(of_reals, of_codes) && apart(of_reals, of_scales) && apart(of_codes, of_scales);
}

template <real_element T, std::size_t Rank, class Code, std::size_t CodeRank>
[[nodiscard]] inline status quantize_groups_views(tensor_view<const T, Rank> src, tensor_view<Code, CodeRank> codes,
                                                  std::span<float> scales, code_format format, std::size_t group_size,
                                                  const quantize_options& options) noexcept {
    if (const status s = check_groups(src, "src", scales.size(), format, group_size); !s) return s;
    if (const status s = check_group_codes(codes, src.extents(), src.size(), format); !s) return s;
    if (src.empty()) return {};
    QUANT_EXPECTS(groups_apart(src, codes, scales, format), apart_text);
    status outcome{};
    quantize_options own = options; // single groups go to wherever the sink says
    own.stores = store_policy::cached;
    const bool stream = simd::use_streaming(codes.size() * sizeof(Code), options.stores);
    if constexpr (std::same_as<Code, std::byte>) {
        with_code_type(format, [&]<class Wide>(Wide) {
            stream_sink<Wide> sink(as_octets(codes.data()), format.bits, stream);
            outcome = quantize_group_rows(src, group_size, format, own, scales.data(), sink);
        });
    } else {
        element_sink<Code> sink(codes.data(), stream);
        outcome = quantize_group_rows(src, group_size, format, own, scales.data(), sink);
    }
    return outcome;
}

/// Codes of one group, or of a part of it, to real values of any type.
template <code_storage Code, real_element T>
inline void dequantize_part(const Code* codes, T* dst, std::size_t n, float scale) noexcept {
    using real = compute_t<T>;
    const simd::uniform_params own{{scale, 0, {}}};
    if constexpr (std::same_as<T, real>) {
        simd::dequantize(codes, dst, n, own, store_policy::cached);
    } else {
        real dense[code_tile];
        for (std::size_t i = 0; i < n; i += code_tile) {
            const std::size_t count = n - i < code_tile ? n - i : code_tile;
            simd::dequantize(codes + i, static_cast<real*>(dense), count, own, store_policy::cached);
            for (std::size_t j = 0; j < count; ++j) dst[i + j] = from_float<T>(dense[j]);
        }
    }
}

template <code_storage Code, real_element T>
inline void dequantize_group_row(const Code* codes, const float* scales, T* dst, std::size_t n, std::size_t group_size,
                                 bool stream) noexcept {
    if constexpr (std::same_as<T, float>) {
        simd::dequantize_groups(codes, scales, dst, n, group_size, stream);
    } else {
        for (std::size_t i = 0; i < n; i += group_size)
            dequantize_part(codes + i, dst + i, n - i < group_size ? n - i : group_size, *scales++);
    }
}

/// A stream of one row, as far as there are kernels for it; returns how many codes that was, whole bytes of the stream or all.
template <code_storage Code>
[[nodiscard]] inline std::size_t dequantize_stream_blocks(const std::uint8_t* packed, const float* scales, float* dst,
                                                          std::size_t n, std::size_t group_size, unsigned bits,
                                                          bool stream) noexcept {
    if (bits == 8) {
        simd::dequantize_groups(reinterpret_cast<const Code*>(packed), scales, dst, n, group_size, stream);
        return n;
    }
    const std::size_t groups = n / group_size;
    if (bits == 4) {
        const std::size_t done =
            simd::dequantize_nibble_groups(packed, scales, dst, groups, group_size, std::is_signed_v<Code>, stream);
        if (done != 0) return done * group_size;
    }
    if (code_tile % group_size != 0) return 0;
    Code tile[code_tile];
    const std::size_t together = code_tile / group_size;
    std::size_t done = 0;
    for (; done + together <= groups; done += together, packed += code_tile / 8 * bits, dst += code_tile) {
        simd::unpack_codes(packed, tile, code_tile, bits, std::is_signed_v<Code>);
        simd::dequantize_groups(static_cast<const Code*>(tile), scales + done, dst, code_tile, group_size, stream);
    }
    return done * group_size;
}

template <code_storage Code, real_element T, std::size_t Rank>
inline void dequantize_group_stream(const std::uint8_t* packed, const float* scales, const tensor_view<T, Rank>& dst,
                                    std::size_t group_size, unsigned bits, bool stream) noexcept {
    const std::size_t n = dst.size(), row = group_row(dst, group_size);
    std::size_t done = 0;
    if constexpr (std::same_as<T, float> && sizeof(Code) == 1) {
        if (row == n) {
            done = dequantize_stream_blocks<Code>(packed, scales, dst.data(), n, group_size, bits, stream);
            scales += done / group_size;
        }
    }
    if (done == n) return;
    packed_reader<Code> reader(packed + done / 8 * bits, n - done,
                               bits); // a block is a multiple of 8 codes, or none was done
    for (std::size_t i = done; i < n; i += row - i % row)
        for (std::size_t first = i; first < i - i % row + row; ++scales) {
            const std::size_t left_in_row = i - i % row + row - first;
            std::size_t left = left_in_row < group_size ? left_in_row : group_size;
            while (left != 0) {
                const Code* codes = reader.codes();
                const std::size_t count = left < reader.available() ? left : reader.available();
                dequantize_part(codes, dst.data() + first, count, *scales);
                reader.advance(count);
                first += count;
                left -= count;
            }
        }
}

template <class Code, std::size_t CodeRank, real_element T, std::size_t Rank>
[[nodiscard]] inline status dequantize_groups_views(tensor_view<const Code, CodeRank> codes,
                                                    std::span<const float> scales, tensor_view<T, Rank> dst,
                                                    code_format format, std::size_t group_size,
                                                    store_policy stores) noexcept {
    if (const status s = check_groups(dst, "dst", scales.size(), format, group_size); !s) return s;
    if (const status s = check_group_codes(codes, dst.extents(), dst.size(), format); !s) return s;
    if (dst.empty()) return {};
    QUANT_EXPECTS(groups_apart(dst, codes, scales, format), apart_text);
    const bool stream = simd::use_streaming(dst.size() * sizeof(T), stores);
    if constexpr (std::same_as<Code, std::byte>) {
        with_code_type(format, [&]<class Wide>(Wide) {
            dequantize_group_stream<Wide>(as_octets(codes.data()), scales.data(), dst, group_size, format.bits, stream);
        });
    } else {
        const std::size_t row = group_row(dst, group_size), per_row = row / group_size + (row % group_size != 0);
        const float* own = scales.data();
        for (std::size_t i = 0; i < dst.size(); i += row, own += per_row)
            dequantize_group_row(codes.data() + i, own, dst.data() + i, row, group_size, stream);
    }
    if (stream) simd::stream_fence();
    return {};
}

/// Codes one by one, or the bytes of a stream.
template <class T>
concept group_codes = code_storage<T> || std::same_as<T, std::byte>;

} // namespace detail

/// Finds a symmetric scale for every group of `group_size` consecutive elements of the last dimension, and quantizes with it.
/// src     real values, contiguous             codes   [same extents] integers, or [>= packed_bytes(src.size(), format)] std::byte
/// scales  one per group, in the order of per_group(-1, group_size); written
/// options rounding, division or reciprocal, seed
/// NaN and infinities do not widen a scale; NaN becomes code 0, infinities saturate. A group of zeros has scale 1.
/// Returns ok | bits_out_of_range | invalid_group_size | shape_mismatch ("scales", "codes") | invalid_stride | storage_too_narrow |
/// buffer_too_small | scale_out_of_range (a scale above 2^100; some groups may have been written by then).
/// Exactness: bit-exact; equal to choose_params and quantize group by group. Cost: one pass over memory, no allocation.
template <viewable Src, destination Codes>
    requires(real_element<element_of_t<Src>>&& detail::group_codes<element_of_t<Codes>>)
[[nodiscard]] inline status quantize_groups(const Src& src, Codes&& codes, std::span<float> scales, code_format format,
                                            std::size_t group_size, const quantize_options& options = {}) noexcept {
    return detail::quantize_groups_views(detail::view_const(src), v0_1::view(codes), scales, format, group_size,
                                         options);
}

/// The way back: float(code) * scale of its group, rounded once to the destination's type.
/// codes as written by quantize_groups; dst contiguous. Scales are taken as they are. Errors as above.
template <viewable Codes, destination Dst>
    requires(detail::group_codes<element_of_t<Codes>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] inline status dequantize_groups(const Codes& codes, std::span<const float> scales, Dst&& dst,
                                              code_format format, std::size_t group_size,
                                              store_policy stores = {}) noexcept {
    return detail::dequantize_groups_views(detail::view_const(codes), scales, v0_1::view(dst), format, group_size,
                                           stores);
}

QUANT_END_TARGET
