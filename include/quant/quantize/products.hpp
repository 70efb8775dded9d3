// SPDX-License-Identifier: MIT
#pragma once
// Matrix products of codes: weights times activations of 8 bits. Layer 4 (quantize).
//
//   std::int32_t sum;      quant::dot(a, b)                                              // result<std::int32_t>
//   y[r] = Σ w[r, c] x[c]  quant::gemv(w, x, y)                                          // exact, int32
//   … * rows[r] * x        quant::gemv(w, x, y, quant::row_scales{scales, x_scale})      // float
//   … groups of 32         quant::gemv(w, x, y, quant::group_scales{scales, x_scale})    // float
//   y[b, r], x[b, c]       quant::gemm(w, x, y, …)                                       // a few rows of activations
//
// w is a matrix view of std::int8_t, a quant::bit_plane_view (not with groups), or quant::int4_matrix: the dense stream of
// core/packing.hpp with signed 4-bit codes, as quantize_groups and quantize_packed write it. Codes mean scale * code; a zero point
// of the activations is the caller's, through the terms of quant/requantize.hpp. Sums are exact: what could leave int32 is refused
// by its number of columns. Sources and destinations must not overlap.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/core/bit_planes.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/plane_kernels.hpp>
#include <quant/simd/product_kernels.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

/// Signed 4-bit codes [rows, cols], dense, the first of a pair in the low half of a byte. Rows begin on a byte: cols is even.
struct int4_matrix {
    std::span<const std::byte> bytes;
    std::size_t rows = 0, cols = 0;
};

/// y = float(sum) * rows[r] * x, in this order, each product rounded to float. Exactness: bit-exact.
struct row_scales {
    std::span<const float> rows;
    float x = 1;
};

/// A scale per group of 32 columns, [rows, ceil(cols / 32)], and one of the activations. Group sums are exact; their products with
/// the scales add up in four lanes, group g in lane g mod 4, y = ((L0 + L2) + (L1 + L3)) * x, all in float. Exactness: bit-exact.
struct group_scales {
    std::span<const float> groups;
    float x = 1;
};

/// The ways to multiply a matrix whose codes need few planes.
enum class product_kernel : std::uint8_t {
    dense,   ///< keep 8 bits (or packed 4): gemv and gemm of the codes
    look_up, ///< keep bit planes, activations of 8 bits
    count    ///< keep bit planes, activations in planes as well
};

/// Which product is the fastest for a matrix of `bytes` codes in `planes` stored planes, with `batch` rows of activations of 8
/// bits, or in `x_planes` planes. Bit planes pay for few planes, large matrices and small batches (docs/bit_planes.md has the
/// figures):
///   planes <= ceil(most / batch), batch <= 8, most = 2 up to 1 MiB (second-level cache), 5 up to 32 MiB (last level), else 6;
///   activations of one plane are counted, which costs half: most counts twice; of two planes counted, of more looked up.
/// Measured on x86-64 with AVX-512; on machines without VNNI and byte look-ups measure yourself.
[[nodiscard]] QUANT_INLINE constexpr product_kernel
choose_product(std::size_t planes, std::size_t bytes, std::size_t batch, std::size_t x_planes = 8) noexcept {
    constexpr std::size_t mebi = std::size_t{1} << 20;
    const bool counted = x_planes <= 2;
    const std::size_t alone = bytes <= mebi ? 2 : bytes <= 32 * mebi ? 5 : 6, most = x_planes <= 1 ? 2 * alone : alone;
    if (batch > 8 || (batch != 0 && planes > (most + batch - 1) / batch)) return product_kernel::dense;
    return counted ? product_kernel::count : product_kernel::look_up;
}

QUANT_END_NAMESPACE

QUANT_BEGIN_TARGET
namespace detail {

/// The most columns whose sum of products fits int32, whatever the codes are.
inline constexpr std::size_t most_byte_cols = 131071, most_nibble_cols = 2097151;

/// Weights as the kernels take them.
struct weight_rows {
    const std::uint8_t* data = nullptr;
    std::size_t rows = 0, cols = 0, stride = 0;
    bool nibbles = false;
};
template <class W> [[nodiscard]] inline result<weight_rows> weights_of(const W& w) noexcept {
    if constexpr (std::same_as<W, int4_matrix>) {
        if (w.cols % 2 != 0) return status{errc::invalid_argument, "w.cols"};
        if (w.cols > most_nibble_cols) return status{errc::invalid_argument, "w.cols"};
        if (w.cols != 0 && w.rows > static_cast<std::size_t>(-1) / w.cols) return status{errc::shape_mismatch, "w"};
        if (w.bytes.size() < w.rows * (w.cols / 2)) return status{errc::buffer_too_small, "w.bytes"};
        return weight_rows{reinterpret_cast<const std::uint8_t*>(w.bytes.data()), w.rows, w.cols, w.cols / 2, true};
    } else {
        const auto v = v0_1::view(w);
        static_assert(decltype(v)::rank == 2 && std::same_as<typename decltype(v)::value_type, std::int8_t>,
                      "quant::gemv: weights are a matrix view of std::int8_t or an int4_matrix");
        if (v.extent(1) > most_byte_cols) return status{errc::invalid_argument, "w"};
        if (v.extent(1) > 1 && v.stride(1) != 1) return status{errc::invalid_stride, "w"};
        return weight_rows{reinterpret_cast<const std::uint8_t*>(v.data()), v.extent(0), v.extent(1), v.stride(0)};
    }
}

/// Weights, activations [batch, cols] and results [batch, rows] that fit each other.
template <class W, class Y>
[[nodiscard]] inline result<simd::product_shape> check_product(const result<weight_rows>& w,
                                                               const tensor_view<const std::int8_t, 2>& x,
                                                               const tensor_view<Y, 2>& y) noexcept {
    if (!w) return w.status();
    if (x.extent(1) != w->cols) return status{errc::shape_mismatch, "x"};
    if (y.extent(1) != w->rows || y.extent(0) != x.extent(0)) return status{errc::shape_mismatch, "y"};
    if (x.extent(1) > 1 && x.stride(1) != 1) return status{errc::invalid_stride, "x"};
    if (y.extent(1) > 1 && y.stride(1) != 1) return status{errc::invalid_stride, "y"};
    return simd::product_shape{w->rows, w->cols, x.extent(0), w->stride, x.stride(0), y.stride(0)};
}

inline void integer_product(const weight_rows& w, const std::int8_t* x, std::int32_t* y,
                            const simd::product_shape& s) noexcept {
    if (w.nibbles)
        simd::nibble_product(w.data, x, y, s);
    else
        simd::byte_product(reinterpret_cast<const std::int8_t*>(w.data), x, y, s);
}

template <class W>
[[nodiscard]] inline status product_views(const W& weights, const tensor_view<const std::int8_t, 2>& x,
                                          const tensor_view<std::int32_t, 2>& y) noexcept {
    const auto w = weights_of(weights);
    const auto shape = check_product<W>(w, x, y);
    if (!shape) return shape.status();
    integer_product(*w, x.data(), y.data(), *shape);
    return {};
}
template <class W>
[[nodiscard]] inline status product_views(const W& weights, const tensor_view<const std::int8_t, 2>& x,
                                          const tensor_view<float, 2>& y, const row_scales& scales) noexcept {
    const auto w = weights_of(weights);
    const auto shape = check_product<W>(w, x, y);
    if (!shape) return shape.status();
    if (scales.rows.size() != w->rows) return {errc::shape_mismatch, "scales.rows"};
    constexpr std::size_t rows = 256, batch = 4; // sums on the stack
    std::int32_t sums[batch * rows];
    for (std::size_t r = 0; r < w->rows; r += rows)
        for (std::size_t b = 0; b < x.extent(0); b += batch) {
            simd::product_shape part = *shape;
            part.rows = w->rows - r < rows ? w->rows - r : rows;
            part.batch = x.extent(0) - b < batch ? x.extent(0) - b : batch;
            part.y_stride = rows;
            weight_rows own = *w;
            own.data += r * w->stride;
            integer_product(own, x.data() + b * part.x_stride, sums, part);
            for (std::size_t k = 0; k < part.batch; ++k)
                for (std::size_t i = 0; i < part.rows; ++i)
                    y.data()[(b + k) * y.stride(0) + r + i] =
                        static_cast<float>(sums[k * rows + i]) * scales.rows[r + i] * scales.x;
        }
    return {};
}
template <class W>
[[nodiscard]] inline status product_views(const W& weights, const tensor_view<const std::int8_t, 2>& x,
                                          const tensor_view<float, 2>& y, const group_scales& scales) noexcept {
    const auto w = weights_of(weights);
    const auto shape = check_product<W>(w, x, y);
    if (!shape) return shape.status();
    const std::size_t groups = w->cols / simd::dot_group + (w->cols % simd::dot_group != 0 ? 1 : 0);
    if (scales.groups.size() != w->rows * groups) return {errc::shape_mismatch, "scales.groups"};
    simd::group_product(w->data, scales.groups.data(), x.data(), scales.x, y.data(), *shape,
                        std::bool_constant<std::same_as<W, int4_matrix>>{});
    return {};
}

// ---- weights in bit planes ------------------------------------------------------------------------------------------------

template <class T> inline constexpr bool is_plane_view = false;
template <class Word> inline constexpr bool is_plane_view<bit_plane_view<Word>> = true;
using read_planes = bit_plane_view<const std::uint16_t>;

/// The largest magnitude of a value that bits in these planes can make.
[[nodiscard]] inline std::int64_t largest_value(const plane_set& set) noexcept {
    const std::int64_t low = -std::int64_t{set.lowest()}, high = set.highest();
    return low > high ? low : high;
}
/// Whether no sum of `cols` products of values of these planes with values up to `largest` in magnitude leaves int32.
[[nodiscard]] inline bool sums_fit(const plane_set& set, std::size_t cols, std::int64_t largest) noexcept {
    const std::int64_t most = largest_value(set) * largest;
    return most == 0 || cols <= static_cast<std::size_t>(std::int64_t{0x7FFFFFFF} / most);
}

/// What both products with planes check of the weights and the results.
template <class Y>
[[nodiscard]] inline status check_planes(const read_planes& w, std::size_t batch, const tensor_view<Y, 2>& y,
                                         std::int64_t largest) noexcept {
    if (const status s = validate(w); !s) return {s.code, "w"};
    if (!sums_fit(w.planes(), w.cols(), largest)) return {errc::invalid_argument, "w"};
    if (y.extent(1) != w.rows() || y.extent(0) != batch) return {errc::shape_mismatch, "y"};
    if (y.extent(1) > 1 && y.stride(1) != 1) return {errc::invalid_stride, "y"};
    return {};
}
/// Sums become results where they stand.
inline void scale_sums(float* y, const row_scales& scales) noexcept {
    for (std::size_t r = 0; r < scales.rows.size(); ++r) {
        std::int32_t sum;
        std::memcpy(&sum, y + r, sizeof(sum));
        y[r] = static_cast<float>(sum) * scales.rows[r] * scales.x;
    }
}
template <class Y, class... Scales>
[[nodiscard]] inline status plane_views(const read_planes& w, const tensor_view<const std::int8_t, 2>& x,
                                        const tensor_view<Y, 2>& y, const Scales&... scales) noexcept {
    static_assert(std::same_as<Y, float> == (std::same_as<Scales, row_scales> || ... || false),
                  "quant: bit planes give std::int32_t, or float with row_scales");
    if (const status s = check_planes(w, x.extent(0), y, 128); !s) return s;
    if (x.extent(1) != w.cols()) return {errc::shape_mismatch, "x"};
    if (x.extent(1) > 1 && x.stride(1) != 1) return {errc::invalid_stride, "x"};
    if (((scales.rows.size() != w.rows()) || ...)) return {errc::shape_mismatch, "scales.rows"};
    for (std::size_t b = 0; b < x.extent(0); ++b) {
        Y* const own = y.data() + b * y.stride(0);
        simd::look_up_product(w, x.data() + b * x.stride(0), reinterpret_cast<std::byte*>(own));
        (scale_sums(own, scales), ...);
    }
    return {};
}
template <class Y, class... Scales>
[[nodiscard]] inline status plane_views(const read_planes& w, const read_planes& x, const tensor_view<Y, 2>& y,
                                        const Scales&... scales) noexcept {
    static_assert(std::same_as<Y, float> == (std::same_as<Scales, row_scales> || ... || false),
                  "quant: bit planes give std::int32_t, or float with row_scales");
    if (const status s = validate(x); !s) return {s.code, "x"};
    if (const status s = check_planes(w, 1, y, largest_value(x.planes())); !s) return s;
    if (x.rows() != 1 || x.cols() != w.cols()) return {errc::shape_mismatch, "x"};
    if (((scales.rows.size() != w.rows()) || ...)) return {errc::shape_mismatch, "scales.rows"};
    simd::count_product(w, x, reinterpret_cast<std::byte*>(y.data()));
    (scale_sums(y.data(), scales), ...);
    return {};
}

/// The product for the kind of weights.
template <class W, class X, class Y, class... Scales>
[[nodiscard]] inline status multiply(const W& w, const X& x, const Y& y, const Scales&... scales) noexcept {
    if constexpr (is_plane_view<W>)
        return plane_views(read_planes(w), x, y, scales...);
    else
        return product_views(w, x, y, scales...);
}

template <std::size_t Rank, class X> [[nodiscard]] inline auto activations(const X& x) noexcept {
    if constexpr (is_plane_view<X>) {
        static_assert(Rank == 1, "quant: activations in bit planes are one row");
        return read_planes(x);
    } else {
        const auto v = v0_1::view(x);
        static_assert(decltype(v)::rank == Rank && std::same_as<typename decltype(v)::value_type, std::int8_t>,
                      "quant: activations are std::int8_t, one row for gemv, [batch, cols] for gemm");
        return core_detail::as_matrix(tensor_view<const std::int8_t, Rank>(v.data(), v.extents(), v.strides()));
    }
}
template <std::size_t Rank, class Y> [[nodiscard]] inline auto results(Y& y) noexcept {
    const auto v = v0_1::view(y);
    using element = typename decltype(v)::element_type;
    static_assert(decltype(v)::rank == Rank && (std::same_as<element, std::int32_t> || std::same_as<element, float>),
                  "quant: results are std::int32_t, or float with scales; one row for gemv, [batch, rows] for gemm");
    return core_detail::as_matrix(v);
}

} // namespace detail

/// The sum of a[i] * b[i]; both std::int8_t, both in bit planes of one row, or the first one in planes.
/// Errors: shape_mismatch, invalid_stride, invalid_argument where the sum might leave int32 (above 131071 elements of 8 bits).
template <class A, class B> [[nodiscard]] inline result<std::int32_t> dot(const A& a, const B& b) noexcept {
    const auto left = detail::activations<1>(a);
    std::int32_t sum = 0;
    const status s = detail::multiply(left, detail::activations<1>(b), tensor_view<std::int32_t, 2>(&sum, {1, 1}));
    if (!s) return s;
    return sum;
}

/// y[r] = Σ w[r, c] * x[c], in int32, or in float with row_scales or group_scales.
/// w [rows, cols]   x [cols]   y [rows]   elements of a row next to each other, any distance between rows of w
/// w in bit planes: x of std::int8_t is looked up (16 KiB of tables on the stack), x in bit planes of one row is counted.
/// Errors: shape_mismatch, invalid_stride, buffer_too_small, invalid_argument (columns whose sum might leave int32: above 131071 of
/// 8 bits, 2097151 of 4; an odd number of 4-bit columns). Exactness: bit-exact. Complexity: one pass over w, no allocation.
template <class W, class X, class Y, class... Scales>
    requires(sizeof...(Scales) <= 1)
[[nodiscard]] inline status gemv(const W& w, const X& x, Y&& y, const Scales&... scales) noexcept {
    return detail::multiply(w, detail::activations<1>(x), detail::results<1>(y), scales...);
}

/// y[b, r] = Σ w[r, c] * x[b, c]: a layer applied to a small batch. The same results as gemv for every row of x.
template <class W, class X, class Y, class... Scales>
    requires(sizeof...(Scales) <= 1)
[[nodiscard]] inline status gemm(const W& w, const X& x, Y&& y, const Scales&... scales) noexcept {
    return detail::multiply(w, detail::activations<2>(x), detail::results<2>(y), scales...);
}

QUANT_END_TARGET
