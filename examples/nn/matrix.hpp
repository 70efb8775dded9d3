// SPDX-License-Identifier: MIT
#pragma once

// Values of a tensor as a matrix of Eigen's, in place. Apart from tensor.hpp, because Eigen takes seconds to compile.

#include <Eigen/Core>

#include <cassert>
#include <cstddef>
#include <span>

namespace nn {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using matrix_map = Eigen::Map<matrix>;
using const_matrix_map = Eigen::Map<const matrix>;

constexpr Eigen::Index index(std::size_t n) { return static_cast<Eigen::Index>(n); }

inline matrix_map as_matrix(std::span<float> x, std::size_t rows, std::size_t columns) {
    assert(x.size() == rows * columns);
    return {x.data(), index(rows), index(columns)};
}
inline const_matrix_map as_matrix(std::span<const float> x, std::size_t rows, std::size_t columns) {
    assert(x.size() == rows * columns);
    return {x.data(), index(rows), index(columns)};
}

} // namespace nn
