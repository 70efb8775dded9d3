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
#include <quant/quantize/quantize.hpp>
#include <quant/quantize/corrections.hpp>
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
        if (n > static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T)) return false; // new[] would throw whatever it was asked
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
    [[nodiscard]] QUANT_INLINE std::span<const std::size_t> extents() const noexcept { return {extents_.data(), rank_}; }
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
    [[nodiscard]] QUANT_INLINE std::span<const channel_correction> corrections() const noexcept { return corrections_.span(); }

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
    [[nodiscard]] QUANT_INLINE bool allocate(std::span<const std::size_t> extents, code_format format, v0_1::granularity g,
                                             std::size_t slices, bool corrected) noexcept {
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
    [[nodiscard]] QUANT_INLINE std::span<channel_correction> mutable_corrections() noexcept { return corrections_.span(); }
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

/// Calls f(extents array of the right rank) for the run-time rank of q.
template <class F, std::size_t Rank = 1> [[nodiscard]] inline auto with_rank(const quantized_tensor& q, F f) noexcept {
    if constexpr (Rank < quantized_tensor::max_rank) {
        if (q.rank() != Rank) return with_rank<F, Rank + 1>(q, f);
    }
    std::array<std::size_t, Rank> extents{};
    for (std::size_t d = 0; d < Rank; ++d) extents[d] = q.extent(d);
    return f(extents);
}

} // namespace detail

/// Restores real values: gain * (code - zero_point) * scale + shift. `dst` has q's extents (or is dense and one-dimensional).
/// Errors: shape_mismatch, overlapping. Cost: one pass, two with corrections; allocates nothing.
template <destination Dst>
    requires real_element<element_of_t<Dst>>
[[nodiscard]] inline status dequantize(const quantized_tensor& q, Dst&& dst) noexcept {
    if (q.rank() == 0) return v0_1::view(dst).empty() ? status{} : status{errc::shape_mismatch, "dst"};
    return detail::with_rank(q, [&]<std::size_t Rank>(const std::array<std::size_t, Rank>& extents) -> status {
        const auto to = v0_1::view(dst);
        if constexpr (decltype(to)::rank != Rank && decltype(to)::rank != 1) {
            return {errc::shape_mismatch, "dst"};
        } else {
            const auto out = detail::with_extents(to, extents, "dst");
            if (!out) return out.status();
            const status s = q.visit_codes([&]<class Code>(std::span<const Code> codes) -> status {
                return dequantize(tensor_view<const Code, Rank>(codes.data(), extents), *out, q.params(), q.granularity());
            });
            if (!s || q.corrections().empty()) return s;
            return apply_corrections(*out, q.corrections(), q.granularity());
        }
    });
}

/// Mean width over the elements, in bits.
[[nodiscard]] inline double average_bits(const quantized_tensor& q) noexcept {
    if (q.size() == 0) return 0;
    return detail::with_rank(q, [&]<std::size_t Rank>(const std::array<std::size_t, Rank>& extents) -> double {
        double bits = 0;
        [[maybe_unused]] const status s = q.visit_codes([&]<class Code>(std::span<const Code> codes) {
            return for_each_slice(tensor_view<const Code, Rank>(codes.data(), extents), q.granularity(),
                                  [&](const auto& slice, std::size_t i) {
                                      bits += static_cast<double>(slice.size()) * q.params()[i].format.bits;
                                  });
        });
        QUANT_EXPECTS_INSIDE(static_cast<bool>(s), "quantized_tensor: a granularity that fits its extents");
        return bits / static_cast<double>(q.size());
    });
}

QUANT_END_TARGET
#endif
