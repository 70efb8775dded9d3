// SPDX-License-Identifier: MIT
#pragma once
// Eigen in, Eigen out. No copy on the way in: strides are taken as they are. Nobody else in the library includes Eigen.
//
//   #include <quant/interop/eigen.hpp>
//   Eigen::MatrixXf W = …;
//   auto q = quant::quantize(quant::view(W), quant::int8 | quant::per_axis(0));    // axis 0 = rows
//   Eigen::MatrixXf error = W - quant::to_eigen(*q);
//
// Matrices, arrays, maps, refs and blocks become views of rank 2 (rows, columns); types that are vectors at compile time become
// rank 1. Eigen::Tensor, TensorFixedSize and TensorMap become views of their rank. Expressions without memory of their own
// (A + B) are not viewable: evaluate them first.

#include <array>
#include <concepts>
#include <cstddef>
#include <Eigen/Core>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/quantized_tensor.hpp>
#include <type_traits>

// Declared, not included: the tensor module is large, and whoever has a tensor has included it.
namespace Eigen {
template <typename Scalar, int NumIndices, int Options, typename IndexType> class Tensor;
template <typename Scalar, typename Dimensions, int Options, typename IndexType> class TensorFixedSize;
template <typename PlainObjectType, int Options, template <class> class MakePointer> class TensorMap;
} // namespace Eigen

QUANT_BEGIN_NAMESPACE

namespace core_detail {

template <class X>
concept eigen_dense = std::is_base_of_v<Eigen::DenseBase<X>, X> &&(X::Flags& Eigen::DirectAccessBit) != 0;

template <class X> inline constexpr bool eigen_owns = std::is_base_of_v<Eigen::PlainObjectBase<X>, X>;

/// The extents and strides of an Eigen tensor, whose elements are dense in its storage order.
template <class T, std::size_t Rank, class Dimensions>
[[nodiscard]] QUANT_INLINE tensor_view<T, Rank> dense_tensor(T* data, const Dimensions& dimensions,
                                                             bool row_major) noexcept {
    // Eigen::Sizes takes a signed index, everything else an unsigned one.
    using index = std::conditional_t < requires { Dimensions::total_size; }
    , std::ptrdiff_t, std::size_t > ;
    std::array<std::size_t, Rank> extents{}, strides{};
    std::size_t stride = 1;
    for (std::size_t k = 0; k < Rank; ++k) {
        const std::size_t d = row_major ? Rank - 1 - k : k;
        extents[d] = static_cast<std::size_t>(dimensions[static_cast<index>(d)]);
        strides[d] = stride;
        stride *= extents[d];
    }
    return {data, extents, strides};
}

template <class X>
concept eigen_tensor = requires(X& x) {
    x.data();
    x.dimensions();
    { X::NumIndices + 0 } -> std::convertible_to<int>;
    { static_cast<int>(X::Layout) } -> std::convertible_to<int>;
};

template <class X> struct eigen_tensor_traits {
    static constexpr bool borrowed = false;
    template <eigen_tensor Object> [[nodiscard]] static QUANT_INLINE auto view(Object& x) noexcept {
        return dense_tensor<std::remove_pointer_t<decltype(x.data())>, static_cast<std::size_t>(X::NumIndices)>(
            x.data(), x.dimensions(), static_cast<int>(X::Layout) == static_cast<int>(Eigen::RowMajor));
    }
};

} // namespace core_detail

template <core_detail::eigen_dense X> struct view_traits<X> {
    static constexpr bool borrowed = !core_detail::eigen_owns<X>; ///< maps and blocks do not own their elements

    template <class Object> [[nodiscard]] static QUANT_INLINE auto view(Object& x) noexcept {
        using element = std::remove_pointer_t<decltype(x.data())>;
        const auto inner = static_cast<std::ptrdiff_t>(x.innerStride());
        const auto outer = static_cast<std::ptrdiff_t>(x.outerStride());
        if constexpr (X::IsVectorAtCompileTime) {
            const auto v = strided_view<element, 1>(x.data(), {static_cast<std::size_t>(x.size())}, {inner});
            QUANT_EXPECTS(static_cast<bool>(v), "quant::view: an Eigen map with a negative or zero stride");
            return *v;
        } else {
            const std::array<std::size_t, 2> extents{static_cast<std::size_t>(x.rows()),
                                                     static_cast<std::size_t>(x.cols())};
            const auto v = X::IsRowMajor ? strided_view<element, 2>(x.data(), extents, {outer, inner})
                                         : strided_view<element, 2>(x.data(), extents, {inner, outer});
            QUANT_EXPECTS(static_cast<bool>(v), "quant::view: an Eigen map with a negative or zero stride");
            return *v;
        }
    }
};

template <typename Scalar, int NumIndices, int Options, typename IndexType>
struct view_traits<Eigen::Tensor<Scalar, NumIndices, Options, IndexType>>
    : core_detail::eigen_tensor_traits<Eigen::Tensor<Scalar, NumIndices, Options, IndexType>> {};
template <typename Scalar, typename Dimensions, int Options, typename IndexType>
struct view_traits<Eigen::TensorFixedSize<Scalar, Dimensions, Options, IndexType>>
    : core_detail::eigen_tensor_traits<Eigen::TensorFixedSize<Scalar, Dimensions, Options, IndexType>> {};
template <typename PlainObjectType, int Options, template <class> class MakePointer>
struct view_traits<Eigen::TensorMap<PlainObjectType, Options, MakePointer>>
    : core_detail::eigen_tensor_traits<Eigen::TensorMap<PlainObjectType, Options, MakePointer>> {
    static constexpr bool borrowed = true;
};

QUANT_END_NAMESPACE

#if !defined(QUANT_NO_HEAP)
QUANT_BEGIN_TARGET

/// The real values of a quantized tensor of rank 1 or 2, corrections applied, as an Eigen matrix (a vector is one column).
/// Precondition: rank 1 or 2. Allocates the matrix.
[[nodiscard]] inline Eigen::MatrixXf to_eigen(const quantized_tensor& q) noexcept {
    QUANT_EXPECTS(q.rank() == 1 || q.rank() == 2, "quant::to_eigen: a quantized tensor of rank 1 or 2");
    const auto rows = static_cast<Eigen::Index>(q.extent(0));
    const auto cols = q.rank() == 2 ? static_cast<Eigen::Index>(q.extent(1)) : Eigen::Index{1};
    Eigen::MatrixXf out(rows, cols);
    const tensor_view<float, 2> to(out.data(), {static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)},
                                   {1, static_cast<std::size_t>(rows)});
    [[maybe_unused]] const status s =
        q.rank() == 2 ? dequantize(q, to)
                      : dequantize(q, tensor_view<float, 1>(out.data(), {static_cast<std::size_t>(rows)}));
    QUANT_EXPECTS(static_cast<bool>(s), "quant::to_eigen: a quantized tensor made by this library");
    return out;
}

QUANT_END_TARGET
#endif
