// SPDX-License-Identifier: MIT
#pragma once
// The one view type: a pointer, an extent and a stride per dimension. Owns nothing, costs nothing to copy. Layer 1 (core).
//
//   auto w = quant::view(weights, 64, 3, 3, 3);          // vector, span, array or pointer; row-major (last dimension fastest)
//   auto channel = w.slice(0, 5);                        // rank 3
//   auto t = quant::strided_view(p, {{rows, cols}}, {{1, ld}});   // result<tensor_view<T, 2>>: column-major
//
// Strides are in elements and positive: reversed (negative) and broadcast (zero) dimensions are excluded, because a
// destination with them would be written twice and a source with them is better expanded by its owner.

#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <quant/core/status.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

/// Non-owning view of `Rank` dimensions of `T` (const T for sources). Trivially copyable.
template <class T, std::size_t Rank> class tensor_view {
    static_assert(Rank >= 1, "tensor_view: a rank of at least 1; view a scalar as one element of rank 1");

public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using extents_type = std::array<std::size_t, Rank>;
    static constexpr std::size_t rank = Rank;

    /// An empty view.
    QUANT_INLINE constexpr tensor_view() noexcept = default;

    /// A dense row-major view. Precondition: `data` addresses the product of the extents.
    QUANT_INLINE constexpr tensor_view(T* data, const extents_type& extents) noexcept : data_(data), extents_(extents) {
        std::size_t stride = 1;
        for (std::size_t d = Rank; d-- > 0;) {
            strides_[d] = stride;
            stride *= extents_[d];
        }
    }

    /// A view of mutable elements is a view of const ones.
    template <class U>
        requires(std::same_as<const U, T> && !std::same_as<U, T>)
    QUANT_INLINE constexpr tensor_view(const tensor_view<U, Rank>& other) noexcept
        : tensor_view(other.data(), other.extents(), other.strides()) {}

    [[nodiscard]] QUANT_INLINE constexpr T* data() const noexcept { return data_; }
    [[nodiscard]] QUANT_INLINE constexpr const extents_type& extents() const noexcept { return extents_; }
    [[nodiscard]] QUANT_INLINE constexpr const extents_type& strides() const noexcept { return strides_; }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t extent(std::size_t d) const noexcept { return extents_[d]; }
    [[nodiscard]] QUANT_INLINE constexpr std::size_t stride(std::size_t d) const noexcept { return strides_[d]; }
    /// Number of elements.
    [[nodiscard]] QUANT_INLINE constexpr std::size_t size() const noexcept {
        std::size_t n = 1;
        for (const std::size_t e : extents_) n *= e;
        return n;
    }
    [[nodiscard]] QUANT_INLINE constexpr bool empty() const noexcept { return size() == 0; }

    /// Whether the elements lie densely in row-major order.
    [[nodiscard]] QUANT_INLINE constexpr bool is_contiguous() const noexcept {
        std::size_t expected = 1;
        for (std::size_t d = Rank; d-- > 0;) {
            if (extents_[d] != 1 && strides_[d] != expected) return false;
            expected *= extents_[d];
        }
        return true;
    }

    /// The element at the given indices. Precondition (checked at assertion level 2): within the extents.
    template <std::convertible_to<std::size_t>... Index>
        requires(sizeof...(Index) == Rank)
    [[nodiscard]] QUANT_INLINE constexpr T& operator()(Index... index) const noexcept {
        const extents_type at{static_cast<std::size_t>(index)...};
        std::size_t offset = 0;
        for (std::size_t d = 0; d < Rank; ++d) {
            QUANT_EXPECTS_INSIDE(at[d] < extents_[d], "tensor_view: index within the extents");
            offset += at[d] * strides_[d];
        }
        return data_[offset];
    }

    /// The view without dimension `axis`, at position `index` of it.
    [[nodiscard]] QUANT_INLINE constexpr tensor_view<T, Rank - 1> slice(std::size_t axis,
                                                                        std::size_t index) const noexcept
        requires(Rank > 1) {
        QUANT_EXPECTS(axis < Rank && index < extents_[axis], "tensor_view::slice: axis and index within the tensor");
        std::array<std::size_t, Rank - 1> extents{}, strides{};
        for (std::size_t d = 0, to = 0; d < Rank; ++d) {
            if (d == axis) continue;
            extents[to] = extents_[d];
            strides[to++] = strides_[d];
        }
        return tensor_view<T, Rank - 1>(data_ + index * strides_[axis], extents, strides);
    }

    /// `count` positions of dimension `axis` from `first` on; same rank.
    [[nodiscard]] QUANT_INLINE constexpr tensor_view subview(std::size_t axis, std::size_t first,
                                                             std::size_t count) const noexcept {
        QUANT_EXPECTS(axis < Rank && first <= extents_[axis] && count <= extents_[axis] - first,
                      "tensor_view::subview: positions within the tensor");
        tensor_view part = *this;
        part.data_ += first * strides_[axis];
        part.extents_[axis] = count;
        return part;
    }

    /// The dimensions in another order: dimension d of the result is dimension order[d] of this view.
    [[nodiscard]] QUANT_INLINE constexpr tensor_view permute(const extents_type& order) const noexcept {
        tensor_view out = *this;
        for (std::size_t d = 0; d < Rank; ++d) {
            QUANT_EXPECTS(order[d] < Rank, "tensor_view::permute: a permutation of the dimensions");
            out.extents_[d] = extents_[order[d]];
            out.strides_[d] = strides_[order[d]];
        }
        return out;
    }

    /// For code that has already checked the strides; users call strided_view.
    QUANT_INLINE constexpr tensor_view(T* data, const extents_type& extents, const extents_type& strides) noexcept
        : data_(data), extents_(extents), strides_(strides) {}

private:
    T* data_ = nullptr;
    extents_type extents_{};
    extents_type strides_{};
};

/// A view with given strides (in elements).
/// Errors: invalid_stride when a stride is negative or zero on an extent above 1 (in an empty tensor no stride matters),
/// shape_mismatch when the elements cannot be counted in std::size_t.
template <class T, std::size_t Rank>
[[nodiscard]] QUANT_INLINE constexpr result<tensor_view<T, Rank>>
strided_view(T* data, const std::array<std::size_t, Rank>& extents,
             const std::array<std::ptrdiff_t, Rank>& strides) noexcept {
    std::array<std::size_t, Rank> checked{};
    std::size_t n = 1;
    bool empty = false;
    for (const std::size_t e : extents) empty = empty || e == 0;
    for (std::size_t d = 0; d < Rank; ++d) {
        if (!empty && extents[d] > 1 && strides[d] <= 0) return status{errc::invalid_stride, "strides"};
        checked[d] = strides[d] > 0 ? static_cast<std::size_t>(strides[d]) : 1;
        if (extents[d] != 0 && n > std::numeric_limits<std::size_t>::max() / extents[d])
            return status{errc::shape_mismatch, "extents"};
        n *= extents[d];
    }
    return tensor_view<T, Rank>(data, extents, checked);
}

/// Customization point: how a foreign type is viewed. A specialization has `static auto view(X&) noexcept` returning a
/// tensor_view, and `static constexpr bool borrowed` telling whether the view outlives the object.
template <class X> struct view_traits;

namespace core_detail {

template <class X> inline constexpr bool is_tensor_view = false;
template <class T, std::size_t Rank> inline constexpr bool is_tensor_view<tensor_view<T, Rank>> = true;
template <class X> inline constexpr bool is_span = false;
template <class T, std::size_t N> inline constexpr bool is_span<std::span<T, N>> = true;

template <class X>
concept has_view_traits = requires(X& x) {
    view_traits<std::remove_cv_t<X>>::view(x);
};

template <class X>
concept contiguous_container = !is_tensor_view<std::remove_cv_t<X>> && !has_view_traits<X> && requires(X & x) {
    {*x.data()};
    { x.size() } -> std::convertible_to<std::size_t>;
}
&&std::is_pointer_v<decltype(std::declval<X&>().data())>;

/// Matrices of linear-algebra libraries also have data() and size(), but more than one dimension.
template <class X>
concept looks_like_matrix = requires(X& x) {
    x.rows();
    x.cols();
};

template <class X> inline constexpr std::size_t static_size = std::dynamic_extent;
template <class T, std::size_t N> inline constexpr std::size_t static_size<std::array<T, N>> = N;
template <class T, std::size_t N> inline constexpr std::size_t static_size<std::span<T, N>> = N;
template <class T, std::size_t N> inline constexpr std::size_t static_size<T[N]> = N;

/// A row or a matrix as a matrix.
template <class T> QUANT_INLINE constexpr tensor_view<T, 2> as_matrix(const tensor_view<T, 2>& v) noexcept { return v; }
template <class T> QUANT_INLINE constexpr tensor_view<T, 2> as_matrix(const tensor_view<T, 1>& v) noexcept {
    return {v.data(), {1, v.extent(0)}, {v.extent(0), v.stride(0)}};
}

} // namespace core_detail

/// Everything `view` accepts.
template <class X>
concept viewable =
    core_detail::is_tensor_view<std::remove_cvref_t<X>> || core_detail::has_view_traits<std::remove_reference_t<X>> ||
    core_detail::contiguous_container<std::remove_reference_t<X>> || std::is_array_v<std::remove_reference_t<X>>;

/// A view of a tensor, vector, span, array, built-in array, or (with quant/interop/eigen.hpp) Eigen object; containers of one
/// dimension become rank 1. Temporaries that own their elements are refused.
template <viewable X> [[nodiscard]] QUANT_INLINE constexpr auto view(X&& x) noexcept {
    using object = std::remove_reference_t<X>;
    using plain = std::remove_cv_t<object>;
    if constexpr (core_detail::is_tensor_view<plain>) {
        return x;
    } else if constexpr (core_detail::has_view_traits<object>) {
        static_assert(std::is_lvalue_reference_v<X> || view_traits<plain>::borrowed,
                      "quant::view: the object is a temporary, its elements would be gone before the view is used");
        return view_traits<plain>::view(x);
    } else if constexpr (std::is_array_v<object>) {
        return tensor_view<std::remove_extent_t<object>, 1>(x, {std::extent_v<object>});
    } else {
        static_assert(!core_detail::looks_like_matrix<object>,
                      "quant::view: include <quant/interop/eigen.hpp> to view Eigen objects");
        static_assert(std::is_lvalue_reference_v<X> || core_detail::is_span<plain>,
                      "quant::view: the container is a temporary, its elements would be gone before the view is used");
        using element = std::remove_pointer_t<decltype(x.data())>;
        return tensor_view<element, 1>(x.data(), {static_cast<std::size_t>(x.size())});
    }
}

/// A dense row-major view of `data` with the given extents.
template <class T, std::convertible_to<std::size_t>... Extent>
    requires(sizeof...(Extent) >= 1)
[[nodiscard]] QUANT_INLINE constexpr tensor_view<T, sizeof...(Extent)> view(T* data, Extent... extents) noexcept {
    return tensor_view<T, sizeof...(Extent)>(data, {static_cast<std::size_t>(extents)...});
}

/// A dense row-major view of a container with the given extents. Precondition: their product is the container's size.
template <class X, std::convertible_to<std::size_t>... Extent>
    requires(sizeof...(Extent) >= 1 && !std::is_pointer_v<std::remove_cvref_t<X>> && viewable<X>)
[[nodiscard]] QUANT_INLINE constexpr auto view(X&& x, Extent... extents) noexcept {
    const auto flat = v0_1::view(static_cast<X&&>(x));
    static_assert(decltype(flat)::rank == 1, "quant::view: extents can be given to one-dimensional containers only");
    const tensor_view<typename decltype(flat)::element_type, sizeof...(Extent)> out(
        flat.data(), {static_cast<std::size_t>(extents)...});
    QUANT_EXPECTS(flat.is_contiguous() && out.size() == flat.size(),
                  "quant::view: the product of the extents is the size");
    return out;
}

/// Element type and rank of what `view` returns.
template <viewable X> using view_of_t = decltype(v0_1::view(std::declval<X>()));
template <viewable X> using element_of_t = typename view_of_t<std::remove_reference_t<X>&>::value_type;

namespace core_detail {
template <class X> inline constexpr bool is_borrowed = is_tensor_view<X> || is_span<X>;
template <class X>
    requires requires { view_traits<X>::borrowed; }
inline constexpr bool is_borrowed<X> = view_traits<X>::borrowed;
} // namespace core_detail

/// A destination: mutable elements of an lvalue, or of a view, span or foreign view such as a block of a matrix (a temporary
/// container would be lost).
template <class X>
concept destination = viewable<X> &&
    (std::is_lvalue_reference_v<X> || core_detail::is_borrowed<std::remove_cvref_t<X>>)&&!std::is_const_v<
        typename view_of_t<std::remove_reference_t<X>&>::element_type>;

QUANT_END_NAMESPACE
