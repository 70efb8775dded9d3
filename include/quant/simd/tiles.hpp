// SPDX-License-Identifier: MIT
#pragma once
// A tensor of any layout and real element type as runs of consecutive floats in row-major order. Layer 2 (simd).
//
//   for_each_tile(view, [&](const float* p, std::size_t n) { ... });      // n = 1024, the last one 1 to 1024
//
// The tiles depend on the logical order alone, so that strides never change a result. Dense floats are handed out in place;
// everything else is copied or converted into a tile on the stack, whole runs at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <quant/core/code_format.hpp>
#include <quant/core/half.hpp>
#include <quant/core/tensor_view.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// Elements per tile: the block that reductions sum before anything else happens to the sum.
inline constexpr std::size_t tile_size = 1024;

/// Hands out a view's elements as consecutive values of `Out`: float for real elements, std::int32_t for codes.
/// A double beyond the range of float becomes an infinity; NaN and infinities stay what they are.
template <class T, std::size_t Rank, class Out = float> class tile_reader {
public:
    QUANT_INLINE explicit tile_reader(tensor_view<const T, Rank> v) noexcept : data_(v.data()), left_(v.size()) {
        // Dimensions of extent 1 vanish, and neighbours that lie densely in each other become one.
        for (std::size_t d = 0; d < Rank; ++d) {
            if (v.extent(d) == 1) continue;
            if (rank_ > 0 && stride_[rank_ - 1] == v.stride(d) * v.extent(d)) {
                extent_[rank_ - 1] *= v.extent(d);
            } else {
                extent_[rank_++] = v.extent(d);
            }
            stride_[rank_ - 1] = v.stride(d);
        }
        if (rank_ == 0) {
            extent_[0] = stride_[0] = 1;
            rank_ = 1;
        }
    }

    /// The next `n` elements, n = min(what is left, tile_size). The pointer lies in the tensor or in `buffer`; null at the end.
    [[nodiscard]] inline const Out* next(Out (&buffer)[tile_size], std::size_t& n) noexcept {
        n = left_ < tile_size ? left_ : tile_size;
        if (n == 0) return nullptr;
        left_ -= n;
        const std::size_t last = rank_ - 1, step = stride_[last];
        if constexpr (std::is_same_v<T, Out>) {
            if (step == 1 && extent_[last] - index_[last] >= n) {
                const Out* in_place = data_;
                advance(n);
                return in_place;
            }
        }
        for (std::size_t done = 0; done < n;) {
            const std::size_t run_left = extent_[last] - index_[last];
            const std::size_t run = run_left < n - done ? run_left : n - done;
            if (step == 1)
                for (std::size_t i = 0; i < run; ++i) buffer[done + i] = convert(data_[i]);
            else
                for (std::size_t i = 0; i < run; ++i) buffer[done + i] = convert(data_[i * step]);
            done += run;
            advance(run);
        }
        return buffer;
    }

    /// The same with up to `most` elements where that many lie densely in the tensor, for what does not depend on the tiles.
    [[nodiscard]] inline const Out* next_run(Out (&buffer)[tile_size], std::size_t& n, std::size_t most) noexcept {
        if constexpr (std::is_same_v<T, Out>) {
            const std::size_t last = rank_ - 1, dense = extent_[last] - index_[last];
            if (stride_[last] == 1 && dense > tile_size && left_ > 0) {
                n = dense < most ? dense : most;
                left_ -= n;
                const Out* in_place = data_;
                advance(n);
                return in_place;
            }
        }
        return next(buffer, n);
    }

private:
    static QUANT_INLINE Out convert(const T& x) noexcept {
        if constexpr (real_element<T>)
            return to_float(x);
        else
            return static_cast<Out>(x);
    }

    /// Moves on by at most what is left of the innermost run.
    QUANT_INLINE void advance(std::size_t count) noexcept {
        std::size_t d = rank_ - 1;
        index_[d] += count;
        data_ += count * stride_[d];
        while (index_[d] == extent_[d] && d > 0) {
            data_ -= extent_[d] * stride_[d];
            index_[d] = 0;
            --d;
            ++index_[d];
            data_ += stride_[d];
        }
    }

    const T* data_;
    std::size_t left_;
    std::size_t rank_ = 0;
    std::array<std::size_t, Rank> extent_{};
    std::array<std::size_t, Rank> stride_{};
    std::array<std::size_t, Rank> index_{};
};

/// Calls f(const float* p, std::size_t n) for every tile of the view.
template <real_element T, std::size_t Rank, class F>
QUANT_INLINE void for_each_tile(tensor_view<const T, Rank> v, F&& f) noexcept {
    float buffer[tile_size];
    tile_reader<T, Rank> reader(v);
    std::size_t n = 0;
    while (const float* p = reader.next(buffer, n)) f(p, n);
}

/// Calls f(const float* p, std::size_t n), n <= run_size, for consecutive elements, in place wherever they lie densely: for
/// whatever does not depend on where a block ends, at less cost than tiles.
inline constexpr std::size_t run_size = std::size_t{1} << 20;
template <real_element T, std::size_t Rank, class F>
QUANT_INLINE void for_each_run(tensor_view<const T, Rank> v, F&& f) noexcept {
    float buffer[tile_size];
    tile_reader<T, Rank> reader(v);
    std::size_t n = 0;
    while (const float* p = reader.next_run(buffer, n, run_size)) f(p, n);
}

/// Calls f(const float* a, const float* b, std::size_t n) for the tiles of two views.
/// Precondition: equal extents (their layouts and element types may differ).
template <real_element A, real_element B, std::size_t Rank, class F>
QUANT_INLINE void for_each_tile(tensor_view<const A, Rank> a, tensor_view<const B, Rank> b, F&& f) noexcept {
    QUANT_EXPECTS_INSIDE(a.extents() == b.extents(), "for_each_tile: equal extents");
    float buffer_a[tile_size], buffer_b[tile_size];
    tile_reader<A, Rank> reader_a(a);
    tile_reader<B, Rank> reader_b(b);
    std::size_t n = 0;
    while (const float* p = reader_a.next(buffer_a, n)) {
        const float* q = reader_b.next(buffer_b, n);
        f(p, q, n);
    }
}

} // namespace simd

namespace detail {

/// Whatever `view` accepts, as a view of const elements.
template <viewable X> [[nodiscard]] QUANT_INLINE constexpr auto view_const(const X& x) noexcept {
    const auto v = v0_1::view(x);
    using from = std::remove_const_t<decltype(v)>;
    return tensor_view<const typename from::value_type, from::rank>(v);
}

/// Views of real elements.
template <class X>
concept real_viewable = viewable<X> && real_element<element_of_t<X>>;

} // namespace detail
QUANT_END_TARGET
