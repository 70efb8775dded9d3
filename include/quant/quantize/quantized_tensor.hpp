// SPDX-License-Identifier: MIT
#pragma once
// A tensor that owns its codes and parameters: what the one allocating call returns. Layer 4 (quantize).
// Absent under QUANT_NO_HEAP; everything it does can be done with the caller's own buffers.

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <quant/core/granularity.hpp>
#include <quant/core/packing.hpp>
#include <quant/core/params.hpp>
#include <quant/quantize/corrections.hpp>
#include <quant/quantize/quantize.hpp>
#include <span>
#include <type_traits>

#if !defined(QUANT_NO_HEAP)

QUANT_BEGIN_NAMESPACE

namespace core_detail {

/// A fixed-size array on the heap that reports failure instead of throwing.
template <class T> class owned_array {
    static_assert(std::is_trivially_destructible_v<T>);

public:
    QUANT_INLINE owned_array() noexcept = default;
    QUANT_INLINE owned_array(owned_array&& other) noexcept : data_(other.data_), size_(other.size_) {
        other.data_ = nullptr;
        other.size_ = 0;
    }
    QUANT_INLINE owned_array& operator=(owned_array&& other) noexcept {
        T* const data = other.data_;
        const std::size_t size = other.size_;
        other.data_ = data_;
        other.size_ = size_;
        data_ = data;
        size_ = size;
        return *this;
    }
    owned_array(const owned_array&) = delete;
    owned_array& operator=(const owned_array&) = delete;
    QUANT_INLINE ~owned_array() { delete[] data_; }

    /// Replaces the array by `n` value-initialized elements; false when there is no memory.
    [[nodiscard]] QUANT_INLINE bool allocate(std::size_t n) noexcept {
        delete[] data_;
        data_ = nullptr;
        size_ = 0;
        if (n == 0) return true;
        if (n > static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T))
            return false; // new[] would throw whatever it was asked
        data_ = new (std::nothrow) T[n]{};
        if (data_ == nullptr) return false;
        size_ = n;
        return true;
    }
    [[nodiscard]] QUANT_INLINE std::span<T> span() noexcept { return {data_, size_}; }
    [[nodiscard]] QUANT_INLINE std::span<const T> span() const noexcept { return {data_, size_}; }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace core_detail

/// Codes, parameters and corrections of a tensor, dense and row-major. Movable, not copyable (a copy could fail).
/// Codes of up to 8 bits are stored as std::int8_t (signed) or std::uint8_t, 16-bit ones as std::int16_t or std::uint16_t,
/// one per element; pack_codes makes them dense.
class quantized_tensor {
public:
    static constexpr std::size_t max_rank = 8;

    quantized_tensor() noexcept = default;

    [[nodiscard]] QUANT_INLINE std::size_t rank() const noexcept { return rank_; }
    [[nodiscard]] QUANT_INLINE std::size_t extent(std::size_t d) const noexcept { return extents_[d]; }
    [[nodiscard]] QUANT_INLINE std::span<const std::size_t> extents() const noexcept {
        return {extents_.data(), rank_};
    }
    /// Number of elements.
    [[nodiscard]] QUANT_INLINE std::size_t size() const noexcept {
        std::size_t n = rank_ == 0 ? 0 : 1;
        for (std::size_t d = 0; d < rank_; ++d) n *= extents_[d];
        return n;
    }
    /// The format asked for; slices may be narrower or wider when widths were allocated: see params().
    [[nodiscard]] QUANT_INLINE code_format format() const noexcept { return format_; }
    [[nodiscard]] QUANT_INLINE v0_1::granularity granularity() const noexcept { return granularity_; }
    /// One per slice, in slice order.
    [[nodiscard]] QUANT_INLINE std::span<const affine_params> params() const noexcept { return params_.span(); }
    /// One per slice, or empty when the scheme corrects nothing.
    [[nodiscard]] QUANT_INLINE std::span<const channel_correction> corrections() const noexcept {
        return corrections_.span();
    }

    /// Whether the codes are stored as `Code`.
    template <code_storage Code> [[nodiscard]] QUANT_INLINE bool stores() const noexcept {
        return (sizeof(Code) == 2) == (format_.bits > 8) && std::is_signed_v<Code> == format_.is_signed;
    }
    /// The codes, row-major. Precondition: stores<Code>().
    template <code_storage Code> [[nodiscard]] QUANT_INLINE std::span<const Code> codes() const noexcept {
        QUANT_EXPECTS(stores<Code>(), "quantized_tensor::codes: the element type that stores() confirms");
        return {reinterpret_cast<const Code*>(bytes().data()), size()};
    }
    /// Calls f(std::span<const Code>) with the type the codes are stored as.
    template <class F> QUANT_INLINE decltype(auto) visit_codes(F&& f) const noexcept {
        if (stores<std::int8_t>()) return f(codes<std::int8_t>());
        if (stores<std::uint8_t>()) return f(codes<std::uint8_t>());
        if (stores<std::int16_t>()) return f(codes<std::int16_t>());
        return f(codes<std::uint16_t>());
    }

    /// For the quantizer and for readers of files: sets the shape and makes room; false when there is no memory.
    /// Precondition: extents.size() <= max_rank and slices as the granularity gives for these extents.
    [[nodiscard]] QUANT_INLINE bool allocate(std::span<const std::size_t> extents, code_format format,
                                             v0_1::granularity g, std::size_t slices, bool corrected) noexcept {
        QUANT_EXPECTS(extents.size() <= max_rank, "quantized_tensor: at most 8 dimensions");
        rank_ = extents.size();
        for (std::size_t d = 0; d < rank_; ++d) extents_[d] = extents[d];
        format_ = format;
        granularity_ = g;
        const bool wide = format.bits > 8;
        return narrow_.allocate(wide ? 0 : size()) && wide_.allocate(wide ? size() : 0) && params_.allocate(slices) &&
               corrections_.allocate(corrected ? slices : 0);
    }
    [[nodiscard]] QUANT_INLINE std::span<affine_params> mutable_params() noexcept { return params_.span(); }
    [[nodiscard]] QUANT_INLINE std::span<channel_correction> mutable_corrections() noexcept {
        return corrections_.span();
    }
    template <code_storage Code> [[nodiscard]] QUANT_INLINE std::span<Code> mutable_codes() noexcept {
        QUANT_EXPECTS(stores<Code>(), "quantized_tensor::codes: the element type that stores() confirms");
        return {const_cast<Code*>(reinterpret_cast<const Code*>(bytes().data())), size()};
    }

private:
    /// Signed and unsigned types of one width may alias each other, so one array serves both.
    [[nodiscard]] QUANT_INLINE std::span<const std::byte> bytes() const noexcept {
        return format_.bits > 8 ? std::as_bytes(wide_.span()) : std::as_bytes(narrow_.span());
    }

    std::array<std::size_t, max_rank> extents_{};
    std::size_t rank_ = 0;
    code_format format_{};
    v0_1::granularity granularity_{};
    core_detail::owned_array<std::uint8_t> narrow_;
    core_detail::owned_array<std::uint16_t> wide_;
    core_detail::owned_array<affine_params> params_;
    core_detail::owned_array<channel_correction> corrections_;
};

QUANT_END_NAMESPACE

QUANT_BEGIN_TARGET
namespace detail {

/// Elements of slice `s` of a quantized tensor.
[[nodiscard]] inline std::size_t slice_size(const quantized_tensor& q, std::size_t s) noexcept {
    const v0_1::granularity g = q.granularity();
    if (g.unit == granularity::kind::tensor) return q.size();
    const auto axis = static_cast<std::size_t>(g.axis < 0 ? g.axis + static_cast<int>(q.rank()) : g.axis);
    if (g.unit == granularity::kind::axis) return q.size() / q.extent(axis);
    std::size_t inner = 1; // slices per group along the axis
    for (std::size_t d = axis + 1; d < q.rank(); ++d) inner *= q.extent(d);
    const std::size_t along = q.extent(axis), groups = along / g.group_size + (along % g.group_size != 0 ? 1 : 0);
    const std::size_t left = along - s / inner % groups * g.group_size;
    return left < g.group_size ? left : g.group_size;
}

/// The nest of a quantized tensor's elements and a destination of the same extents; the rank is known at run time only.
template <class S, class D>
[[nodiscard]] inline loop_nest<S, D> make_nest(const quantized_tensor& q, S* src, D* dst,
                                               const std::size_t* dst_strides) noexcept {
    loop_nest<S, D> nest;
    nest.src = src;
    nest.dst = dst;
    nest.rank = q.rank();
    const v0_1::granularity g = q.granularity();
    nest.axis = static_cast<std::size_t>(g.axis < 0 ? g.axis + static_cast<int>(q.rank()) : g.axis);
    const bool grouped = g.unit == granularity::kind::group;
    nest.group_size = grouped ? g.group_size : 1;
    std::size_t dense = 1, slices = 1;
    for (std::size_t d = q.rank(); d-- > 0;) {
        const std::size_t extent = q.extent(d);
        const std::size_t slice = grouped ? slices : (g.unit == granularity::kind::axis && d == nest.axis ? 1 : 0);
        nest.dims[d] = {extent, dense, dst_strides != nullptr ? dst_strides[d] : dense, slice, dense};
        dense *= extent;
        slices *= grouped && d == nest.axis ? extent / g.group_size + (extent % g.group_size != 0 ? 1 : 0) : extent;
    }
    return nest;
}

template <real_element T>
inline void restore(const quantized_tensor& q, T* dst, const std::size_t* dst_strides) noexcept {
    q.visit_codes([&]<class Code>(std::span<const Code> codes) {
        using real = compute_t<T>;
        const store_policy stores = decided(q.size() * sizeof(T), {});
        transform<Code, real>(make_nest(q, codes.data(), dst, dst_strides), q.params(),
                              dequantize_kernel<Code, real>{stores});
        if (stores == store_policy::streaming) simd::stream_fence();
    });
    if (q.corrections().empty()) return;
    auto nest = make_nest(q, dst, dst, dst_strides);
    for (std::size_t d = 0; d < nest.rank; ++d) nest.dims[d].src = nest.dims[d].dst;
    correct_nest(nest, q.corrections());
}

} // namespace detail

/// Restores real values: gain * (code - zero_point) * scale + shift. `dst` has q's extents (or is dense and one-dimensional).
/// Errors: shape_mismatch, overlapping. Cost: one pass, two with corrections; allocates nothing.
template <destination Dst>
    requires real_element<element_of_t<Dst>>
[[nodiscard]] inline status dequantize(const quantized_tensor& q, Dst&& dst) noexcept {
    const auto to = v0_1::view(dst);
    constexpr std::size_t rank = decltype(to)::rank;
    bool same = q.rank() == rank;
    for (std::size_t d = 0; same && d < rank; ++d) same = q.extent(d) == to.extent(d);
    if (!same && !(rank == 1 && to.is_contiguous() && to.size() == q.size())) return {errc::shape_mismatch, "dst"};
    if (detail::may_overlap(to)) return {errc::overlapping, "dst"};
    if (q.size() > 0) detail::restore(q, to.data(), same ? to.strides().data() : nullptr);
    return {};
}

/// Mean width over the elements, in bits.
[[nodiscard]] inline double average_bits(const quantized_tensor& q) noexcept {
    if (q.size() == 0) return 0;
    double bits = 0;
    for (std::size_t s = 0; s < q.params().size(); ++s)
        bits += static_cast<double>(detail::slice_size(q, s)) * q.params()[s].format.bits;
    return bits / static_cast<double>(q.size());
}

QUANT_END_TARGET
#endif
