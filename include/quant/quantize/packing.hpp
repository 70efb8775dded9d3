// SPDX-License-Identifier: MIT
#pragma once
// The verbs around the dense bit stream of core/packing.hpp. Layer 4 (quantize).
//
//   std::vector<std::uint8_t> packed(quant::packed_bytes(codes.size(), quant::int4));
//   if (auto s = quant::pack_codes(codes, packed, quant::int4); !s) return s;
//   quant::quantize_packed(w, packed, channel_params, quant::per_axis(0));      // real values straight to the stream
//   quant::dequantize_packed(packed, restored, channel_params, quant::per_axis(0));
//
// quantize_packed(x) is pack_codes(quantize(x)), byte for byte; the codes exist only in a tile on the stack. Source and destination
// must not overlap: a broken precondition.

#include <cstddef>
#include <cstdint>
#include <quant/core/granularity.hpp>
#include <quant/core/packing.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/quantize.hpp>
#include <quant/quantize/transform.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/pack.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

/// std::byte or std::uint8_t as what the kernels take.
template <core_detail::byte_like Byte> QUANT_INLINE std::uint8_t* as_octets(Byte* p) noexcept {
    return reinterpret_cast<std::uint8_t*>(p);
}
template <core_detail::byte_like Byte> QUANT_INLINE const std::uint8_t* as_octets(const Byte* p) noexcept {
    return reinterpret_cast<const std::uint8_t*>(p);
}

inline constexpr std::size_t code_tile = 2048; ///< codes between real values and the stream: whole bytes at every width
inline constexpr std::size_t largest_put = 4096; ///< codes that packed_writer::put takes at a time

/// Codes in, bits out, in order. Stream: past the caches.
template <code_storage Code> class packed_writer {
public:
    packed_writer(std::uint8_t* packed, unsigned bits, bool stream) noexcept : packed_(packed, stream), bits_(bits) {}
    /// Where the next codes belong, at most space() of them; advance(n) after writing n.
    [[nodiscard]] QUANT_INLINE Code* codes() noexcept { return tile_ + fill_; }
    [[nodiscard]] QUANT_INLINE std::size_t space() const noexcept { return code_tile - fill_; }
    QUANT_INLINE void advance(std::size_t n) noexcept {
        fill_ += n;
        if (fill_ == code_tile) flush();
    }
    /// Whether the next code begins a byte of the stream that follows what has been written.
    [[nodiscard]] QUANT_INLINE bool on_byte() const noexcept { return fill_ * bits_ % 8 == 0; }
    /// n codes that are whole bytes, from another array. Precondition: on_byte().
    QUANT_INLINE void put(const Code* codes, std::size_t n) noexcept {
        if (fill_ != 0) flush();
        pack(codes, n);
    }
    void finish() noexcept {
        flush();
        packed_.finish();
    }

private:
    /// Writes what is there. Only the last one may end within a byte.
    void flush() noexcept {
        pack(tile_, fill_);
        fill_ = 0;
    }
    QUANT_INLINE void pack(const Code* codes, std::size_t n) noexcept {
        simd::pack_codes(codes, packed_.room(), n, bits_);
        packed_.advance((n * bits_ + 7) / 8);
    }
    simd::byte_destination<sizeof(Code) * largest_put> packed_;
    unsigned bits_;
    std::size_t fill_ = 0;
    Code tile_[code_tile];
};

/// Bits in, codes out, in order.
template <code_storage Code> class packed_reader {
public:
    packed_reader(const std::uint8_t* packed, std::size_t n, unsigned bits) noexcept
        : packed_(packed), left_(n), bits_(bits) {}
    /// The next codes, available() of them; advance(n) after using n.
    [[nodiscard]] QUANT_INLINE const Code* codes() noexcept {
        if (begin_ == end_) {
            begin_ = 0;
            end_ = left_ < code_tile ? left_ : code_tile;
            left_ -= end_;
            simd::unpack_codes(packed_, tile_, end_, bits_, std::is_signed_v<Code>);
            packed_ += code_tile / 8 * bits_;
        }
        return tile_ + begin_;
    }
    [[nodiscard]] QUANT_INLINE std::size_t available() const noexcept { return end_ - begin_; }
    QUANT_INLINE void advance(std::size_t n) noexcept { begin_ += n; }

private:
    const std::uint8_t* packed_;
    std::size_t left_;
    unsigned bits_;
    std::size_t begin_ = 0, end_ = 0;
    Code tile_[code_tile];
};

/// Calls f(Code{}) with the narrowest type that holds every code of `format`.
template <class F> QUANT_INLINE void with_code_type(code_format format, F f) noexcept {
    if (format.bits <= 8)
        format.is_signed ? f(std::int8_t{}) : f(std::uint8_t{});
    else
        format.is_signed ? f(std::int16_t{}) : f(std::uint16_t{});
}

/// Calls f(run) for runs that cover every element of the nest's source once, in row-major order of the index.
template <class S, class D, class F> inline void for_each_run_in_order(const loop_nest<S, D>& nest, F&& f) noexcept {
    loop_dimension dims[loop_nest<S, D>::max_rank];
    std::size_t count = 0, axis = loop_nest<S, D>::max_rank; // among `dims`; none
    for (std::size_t d = 0; d < nest.rank; ++d) {
        const loop_dimension inner = nest.dims[d];
        if (inner.extent == 0) return;
        if (inner.extent == 1) continue;
        const bool grouped = nest.group_size > 1 && d == nest.axis;
        if (count > 0 && !grouped && axis != count - 1) {
            const loop_dimension outer = dims[count - 1];
            if (outer.src == inner.src * inner.extent && outer.slice == inner.slice * inner.extent) {
                dims[count - 1] = {outer.extent * inner.extent, inner.src, inner.dst, inner.slice, inner.index};
                continue;
            }
        }
        if (grouped) axis = count;
        dims[count++] = inner;
    }
    if (count == 0) dims[count++] = loop_dimension{1, 1, 1, 0, 1};
    const std::size_t last = count - 1, group = nest.group_size;
    const loop_dimension innermost = dims[last];
    element_run<S, D> run{nest.src, nest.dst, innermost.extent, innermost.src, innermost.dst, 0, innermost.slice, 0, 1};
    std::size_t at[loop_nest<S, D>::max_rank] = {};
    for (;;) {
        run.slice = 0;
        for (std::size_t d = 0; d < last; ++d) run.slice += (d == axis ? at[d] / group : at[d]) * dims[d].slice;
        if (axis == last) {
            element_run<S, D> part = run;
            part.slice_step = 0;
            for (std::size_t first = 0; first < run.n; first += group, part.slice += innermost.slice) {
                part.n = run.n - first < group ? run.n - first : group;
                part.src = run.src + first * run.src_stride;
                part.index = run.index + first;
                f(static_cast<const element_run<S, D>&>(part));
            }
        } else {
            f(static_cast<const element_run<S, D>&>(run));
        }
        run.index += run.n;
        std::size_t d = last;
        for (; d > 0; --d) {
            if (++at[d - 1] < dims[d - 1].extent) {
                run.src += dims[d - 1].src;
                break;
            }
            at[d - 1] = 0;
            run.src -= dims[d - 1].src * (dims[d - 1].extent - 1);
        }
        if (d == 0) return;
    }
}

/// Calls f(position in the run, count, parameters) for pieces of a run, each of at most space() elements.
template <class S, class D, class Space, class F>
QUANT_INLINE void in_pieces(const element_run<S, D>& run, std::span<const affine_params> params,
                            parameter_tile& per_element, Space space, F f) noexcept {
    for (std::size_t first = 0; first < run.n;) {
        std::size_t n = space();
        if (run.slice_step == 0) {
            n = run.n - first < n ? run.n - first : n;
            f(first, n, simd::uniform_params{params[run.slice]});
        } else {
            // The parameters of a whole block at a time: the same ones come again with the next row.
            const std::size_t block = first / run_tile * run_tile, within = first - block;
            const std::size_t in_block = run.n - block < run_tile ? run.n - block : run_tile;
            n = in_block - within < n ? in_block - within : n;
            simd::per_element_params own =
                per_element.load(run.slice + block * run.slice_step, run.slice_step, in_block);
#if QUANT_HAS_XSIMD
            own = simd::detail::from_position(own, within);
#else
            own.params += within * own.step;
#endif
            f(first, n, own);
        }
        first += n;
    }
}

template <code_storage Code, real_element T>
inline void quantize_to_stream(const loop_nest<const T, const T>& nest, std::span<const affine_params> params,
                               const quantize_options& asked, bool stream, std::uint8_t* packed) noexcept {
    using real = compute_t<T>;
    quantize_options options = asked; // the tile stays in the cache
    options.stores = store_policy::cached;
    packed_writer<Code> writer(packed, params[0].format.bits, stream);
    parameter_tile per_element(params);
    real dense[code_tile];
    for_each_run_in_order(nest, [&](const element_run<const T, const T>& run) noexcept {
        const auto space = [&] { return writer.space(); };
        in_pieces(run, params, per_element, space, [&](std::size_t first, std::size_t n, const auto& own) {
            const T* from = run.src + first * run.src_stride;
            const simd::index_run index{run.index + first, 1};
            bool in_place = false;
            if constexpr (std::same_as<T, real>) {
                if (run.src_stride == 1) {
                    simd::quantize(from, writer.codes(), n, own, options, index);
                    in_place = true;
                }
            }
            if (!in_place) {
                for (std::size_t i = 0; i < n; ++i) {
                    if constexpr (std::same_as<T, real>)
                        dense[i] = from[i * run.src_stride];
                    else
                        dense[i] = to_float(from[i * run.src_stride]);
                }
                simd::quantize(static_cast<const real*>(dense), writer.codes(), n, own, options, index);
            }
            writer.advance(n);
        });
    });
    writer.finish();
}

template <code_storage Code, real_element T>
inline void dequantize_from_stream(const loop_nest<T, T>& nest, std::span<const affine_params> params, std::size_t size,
                                   store_policy stores, const std::uint8_t* packed) noexcept {
    using real = compute_t<T>;
    packed_reader<Code> reader(packed, size, params[0].format.bits);
    parameter_tile per_element(params);
    real dense[code_tile];
    for_each_run_in_order(nest, [&](const element_run<T, T>& run) noexcept {
        const auto available = [&] {
            static_cast<void>(reader.codes());
            return reader.available();
        };
        in_pieces(run, params, per_element, available, [&](std::size_t first, std::size_t n, const auto& own) {
            T* to = run.src + first * run.src_stride;
            bool in_place = false;
            if constexpr (std::same_as<T, real>) {
                if (run.src_stride == 1) {
                    simd::dequantize(reader.codes(), to, n, own, stores);
                    in_place = true;
                }
            }
            if (!in_place) {
                simd::dequantize(reader.codes(), static_cast<real*>(dense), n, own, store_policy::cached);
                for (std::size_t i = 0; i < n; ++i) {
                    if constexpr (std::same_as<T, real>)
                        to[i * run.src_stride] = dense[i];
                    else
                        to[i * run.src_stride] = from_float<T>(dense[i]);
                }
            }
            reader.advance(n);
        });
    });
}

[[maybe_unused]] inline constexpr const char* apart_text = "quant: source and destination do not overlap";

/// The bytes that a stream of `size` codes takes of its array.
template <core_detail::byte_like Byte>
[[nodiscard]] QUANT_INLINE memory_stretch stream_stretch(const Byte* packed, std::size_t size,
                                                         code_format format) noexcept {
    const auto first = reinterpret_cast<std::uintptr_t>(packed);
    return {first, first + packed_bytes(size, format), true};
}

/// What the packed verbs check beyond check_params: one width for the whole stream, and room in it.
template <class Packed>
[[nodiscard]] inline status check_stream(std::span<const affine_params> params, const Packed& packed,
                                         std::size_t size) noexcept {
    if (params.empty()) return {}; // of an empty tensor
    const code_format format = params[0].format;
    for (const affine_params& p : params)
        if (p.format.bits != format.bits || p.format.is_signed != format.is_signed)
            return {errc::invalid_argument, "params"};
    if (!packed.is_contiguous()) return {errc::invalid_stride, "packed"};
    if (packed.size() < packed_bytes(size, format)) return {errc::buffer_too_small, "packed"};
    return {};
}

template <real_element T, std::size_t Rank, core_detail::byte_like Byte, std::size_t PackedRank>
[[nodiscard]] inline status quantize_packed_views(tensor_view<const T, Rank> src, tensor_view<Byte, PackedRank> packed,
                                                  std::span<const affine_params> params, granularity g,
                                                  const quantize_options& options) noexcept {
    slice_map<Rank> map;
    if (const status s = check_params(params, g, src.extents(), map); !s) return s;
    if (const status s = check_stream(params, packed, src.size()); !s) return s;
    if (src.empty()) return {};
    QUANT_EXPECTS(apart(stretch_of(src), stream_stretch(packed.data(), src.size(), params[0].format)), apart_text);
    const bool stream = simd::use_streaming(packed_bytes(src.size(), params[0].format), options.stores);
    with_code_type(params[0].format, [&]<class Code>(Code) {
        quantize_to_stream<Code>(make_nest(src, src, map), params, options, stream, as_octets(packed.data()));
    });
    return {};
}

template <real_element T, std::size_t Rank, core_detail::byte_like Byte, std::size_t PackedRank>
[[nodiscard]] inline status dequantize_packed_views(tensor_view<const Byte, PackedRank> packed,
                                                    tensor_view<T, Rank> dst, std::span<const affine_params> params,
                                                    granularity g, store_policy stores) noexcept {
    slice_map<Rank> map;
    if (const status s = check_params(params, g, dst.extents(), map); !s) return s;
    if (const status s = check_stream(params, packed, dst.size()); !s) return s;
    if (may_overlap(dst)) return {errc::overlapping, "dst"};
    if (dst.empty()) return {};
    QUANT_EXPECTS(apart(stretch_of(dst), stream_stretch(packed.data(), dst.size(), params[0].format)), apart_text);
    const bool stream = simd::use_streaming(dst.size() * sizeof(T), stores); // decided once, not per tile
    with_code_type(params[0].format, [&]<class Code>(Code) {
        dequantize_from_stream<Code>(make_nest(dst, dst, map), params, dst.size(),
                                     stream ? store_policy::streaming : store_policy::cached, as_octets(packed.data()));
    });
    if (stream) simd::stream_fence();
    return {};
}

} // namespace detail

/// Packs codes into bytes; bits above the format's width are cut off.
/// codes [n] contiguous, row-major; packed [>= packed_bytes(n, format)] std::uint8_t or std::byte; only the needed bytes are
/// written. Errors: bits_out_of_range, storage_too_narrow, invalid_stride, buffer_too_small. Cost: one pass. Bit-exact; also in
/// constant expressions.
template <viewable Codes, destination Packed>
    requires(code_storage<element_of_t<Codes>>&& core_detail::byte_like<element_of_t<Packed>>)
constexpr status pack_codes(const Codes& codes, Packed&& packed, code_format format) noexcept {
    const auto from = v0_1::view(codes);
    const auto to = v0_1::view(packed);
    if (const status s = core_detail::check_packing(from, to, format); !s) return s;
    if (std::is_constant_evaluated()) {
        core_detail::pack_words(from.data(), to.data(), from.size(), format.bits);
    } else {
        QUANT_EXPECTS(detail::apart(detail::stretch_of(from), detail::stream_stretch(to.data(), from.size(), format)),
                      detail::apart_text);
        simd::pack_codes(from.data(), detail::as_octets(to.data()), from.size(), format.bits);
    }
    return {};
}

/// The inverse: reads packed_bytes(n, format) bytes, extends the sign of signed formats.
template <viewable Packed, destination Codes>
    requires(code_storage<element_of_t<Codes>>&& core_detail::byte_like<element_of_t<Packed>>)
constexpr status unpack_codes(const Packed& packed, Codes&& codes, code_format format) noexcept {
    const auto from = v0_1::view(packed);
    const auto to = v0_1::view(codes);
    if (const status s = core_detail::check_packing(to, from, format); !s) return s;
    if (std::is_constant_evaluated()) {
        core_detail::unpack_words(from.data(), to.data(), to.size(), format.bits, format.is_signed);
    } else {
        QUANT_EXPECTS(detail::apart(detail::stretch_of(to), detail::stream_stretch(from.data(), to.size(), format)),
                      detail::apart_text);
        simd::unpack_codes(detail::as_octets(from.data()), to.data(), to.size(), format.bits, format.is_signed);
    }
    return {};
}

/// Real values straight to the packed stream of their codes, in row-major order: pack_codes(quantize(src)), byte for byte.
/// src     real values, any strides      packed  [>= packed_bytes(src.size(), format)] std::uint8_t or std::byte
/// params  scale in real units per code  options rounding, division or reciprocal, seed
/// Errors as for quantize, and invalid_stride, buffer_too_small "packed". Cost: one pass, no allocation.
template <viewable Src, destination Packed>
    requires(real_element<element_of_t<Src>>&& core_detail::byte_like<element_of_t<Packed>>)
[[nodiscard]] inline status quantize_packed(const Src& src, Packed&& packed, const affine_params& params,
                                            const quantize_options& options = {}) noexcept {
    return detail::quantize_packed_views(detail::view_const(src), v0_1::view(packed), std::span(&params, 1), per_tensor,
                                         options);
}

/// The same with one set of parameters per slice; all of one width and sign (else invalid_argument "params").
template <viewable Src, destination Packed>
    requires(real_element<element_of_t<Src>>&& core_detail::byte_like<element_of_t<Packed>>)
[[nodiscard]] inline status quantize_packed(const Src& src, Packed&& packed, std::span<const affine_params> params,
                                            granularity g, const quantize_options& options = {}) noexcept {
    return detail::quantize_packed_views(detail::view_const(src), v0_1::view(packed), params, g, options);
}

/// Real values of a packed stream: dequantize(unpack_codes(packed)), byte for byte. dst says how many codes there are.
template <viewable Packed, destination Dst>
    requires(core_detail::byte_like<element_of_t<Packed>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] inline status dequantize_packed(const Packed& packed, Dst&& dst, const affine_params& params,
                                              store_policy stores = {}) noexcept {
    return detail::dequantize_packed_views(detail::view_const(packed), v0_1::view(dst), std::span(&params, 1),
                                           per_tensor, stores);
}

/// The same with one set of parameters per slice.
template <viewable Packed, destination Dst>
    requires(core_detail::byte_like<element_of_t<Packed>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] inline status dequantize_packed(const Packed& packed, Dst&& dst, std::span<const affine_params> params,
                                              granularity g, store_policy stores = {}) noexcept {
    return detail::dequantize_packed_views(detail::view_const(packed), v0_1::view(dst), params, g, stores);
}

QUANT_END_TARGET
