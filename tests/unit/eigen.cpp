// SPDX-License-Identifier: MIT
#include "reference/quantize.hpp"
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <Eigen/Core>
#include <quant/interop/eigen.hpp>
#include <quant/quantize/quantize.hpp>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>
#include <vector>

using quant::affine_params;
using quant::tensor_view;

namespace {

using column_matrix = Eigen::MatrixXf;
using row_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The view addresses exactly the object's own elements.
template <class X> bool same_elements(X& x) {
    const auto v = quant::view(x);
    bool same = v.extent(0) == static_cast<std::size_t>(x.rows()) && v.extent(1) == static_cast<std::size_t>(x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i)
        for (Eigen::Index j = 0; j < x.cols(); ++j) same = same && &v(i, j) == &x.coeffRef(i, j);
    return same;
}

} // namespace

TEST_CASE("Eigen matrices and arrays of both orders are viewed in place", "[eigen]") {
    column_matrix c(3, 5);
    row_matrix r(3, 5);
    Eigen::ArrayXXf a(4, 2);
    Eigen::Matrix<double, 2, 3> fixed;
    CHECK(same_elements(c));
    CHECK(same_elements(r));
    CHECK(same_elements(a));
    CHECK(same_elements(fixed));
    CHECK(quant::view(c).data() == c.data());
    CHECK(quant::view(r).is_contiguous());
    CHECK_FALSE(quant::view(c).is_contiguous());
    static_assert(std::is_same_v<decltype(quant::view(c)), tensor_view<float, 2>>);
    static_assert(std::is_same_v<decltype(quant::view(std::as_const(c))), tensor_view<const float, 2>>);
    static_assert(std::is_same_v<decltype(quant::view(fixed)), tensor_view<double, 2>>);
    column_matrix empty(0, 3);
    CHECK(quant::view(empty).empty());
}

TEST_CASE("Eigen vectors are viewed as rank 1", "[eigen]") {
    Eigen::VectorXf v(7);
    Eigen::RowVectorXf r(4);
    Eigen::ArrayXf a(3);
    static_assert(std::is_same_v<decltype(quant::view(v)), tensor_view<float, 1>>);
    CHECK((quant::view(v).data() == v.data() && quant::view(v).size() == 7));
    CHECK((quant::view(r).data() == r.data() && quant::view(r).size() == 4));
    CHECK((quant::view(a).data() == a.data() && quant::view(a).size() == 3));
}

TEST_CASE("maps with strides, refs and blocks keep their strides", "[eigen]") {
    std::vector<float> memory(200);
    Eigen::Map<column_matrix> plain(memory.data(), 4, 5);
    CHECK(same_elements(plain));
    Eigen::Map<column_matrix, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> strided(
        memory.data(), 4, 5, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(17, 3));
    CHECK(same_elements(strided));
    Eigen::Map<row_matrix, 0, Eigen::OuterStride<>> padded(memory.data(), 4, 5, Eigen::OuterStride<>(9));
    CHECK(same_elements(padded));
    const Eigen::Map<const column_matrix> fixed(memory.data(), 4, 5);
    static_assert(std::is_same_v<decltype(quant::view(fixed)), tensor_view<const float, 2>>);

    column_matrix m(6, 7);
    auto block = m.block(1, 2, 3, 4);
    CHECK(same_elements(block));
    auto row = m.row(2); // a vector at compile time, strided
    static_assert(decltype(quant::view(row))::rank == 1);
    static_assert(quant::destination<decltype(row)> && !quant::destination<column_matrix>);
    static_assert(!quant::destination<decltype(std::as_const(m).row(2))>);
    CHECK((quant::view(row).stride(0) == 6 && &quant::view(row)(3) == &m(2, 3)));
    auto column = m.col(3);
    CHECK((quant::view(column).stride(0) == 1 && &quant::view(column)(5) == &m(5, 3)));
    auto transposed = m.transpose();
    CHECK((quant::view(transposed).extent(0) == 7 && &quant::view(transposed)(2, 1) == &m(1, 2)));
    Eigen::Ref<column_matrix> ref = m;
    CHECK(same_elements(ref));
}

TEST_CASE("Eigen tensors of both orders are viewed at their rank without a copy", "[eigen]") {
    Eigen::Tensor<float, 4> c(2, 3, 4, 5);
    Eigen::Tensor<float, 3, Eigen::RowMajor> r(2, 3, 4);
    Eigen::TensorMap<Eigen::Tensor<float, 2>> m(c.data(), 6, 20);
    Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3>> f;
    static_assert(std::is_same_v<decltype(quant::view(c)), tensor_view<float, 4>>);
    CHECK(quant::view(c).data() == c.data());
    CHECK(quant::view(r).data() == r.data());
    CHECK(quant::view(m).data() == c.data());
    CHECK(quant::view(f).data() == f.data());
    bool same = true;
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 3; ++j) {
            same = same && &quant::view(f)(i, j) == &f(i, j);
            for (int k = 0; k < 4; ++k) {
                same = same && &quant::view(r)(i, j, k) == &r(i, j, k);
                for (int l = 0; l < 5; ++l) same = same && &quant::view(c)(i, j, k, l) == &c(i, j, k, l);
            }
        }
    CHECK(same);
    CHECK(quant::view(r).is_contiguous());
    CHECK((quant::view(m).extent(0) == 6 && quant::view(m).extent(1) == 20));
}

TEST_CASE("the verbs take Eigen objects as they are", "[eigen]") {
    column_matrix w = column_matrix::Random(5, 9);
    Eigen::Matrix<std::int8_t, Eigen::Dynamic, Eigen::Dynamic> codes(5, 9);
    column_matrix back(5, 9);
    std::vector<affine_params> per_row, per_column;
    for (int i = 0; i < 5; ++i) per_row.push_back({0.01f * static_cast<float>(i + 1), i, quant::int8});
    for (int i = 0; i < 9; ++i) per_column.push_back({0.02f * static_cast<float>(i + 1), -i, quant::int4.with_bits(6)});

    int wrong = 0;
    for (const int axis : {0, 1}) {
        const auto& params = axis == 0 ? per_row : per_column;
        REQUIRE(quant::quantize(w, codes, params, quant::per_axis(axis)));
        REQUIRE(quant::dequantize(codes, back, params, quant::per_axis(axis)));
        for (int i = 0; i < 5; ++i)
            for (int j = 0; j < 9; ++j) {
                const affine_params& p = params[static_cast<std::size_t>(axis == 0 ? i : j)];
                wrong += codes(i, j) != reference::quantize(w(i, j), p);
                wrong += static_cast<double>(back(i, j)) != reference::dequantize<float>(codes(i, j), p);
            }
    }
    CHECK(wrong == 0);

    // One side column-major, the other row-major or a flat vector: elements correspond by index, not by memory.
    Eigen::Matrix<std::int8_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(5, 9);
    std::vector<std::int8_t> flat(45);
    const affine_params p{0.01f, 3, quant::int8};
    REQUIRE(quant::quantize(w, rows, p));
    REQUIRE(quant::quantize(w, flat, p));
    for (int i = 0; i < 5; ++i)
        for (int j = 0; j < 9; ++j)
            wrong += rows(i, j) != reference::quantize(w(i, j), p) ||
                     flat[static_cast<std::size_t>(9 * i + j)] != rows(i, j);
    CHECK(wrong == 0);

    Eigen::VectorXf v(3);
    v << 0.1f, -0.2f, 9.0f;
    REQUIRE(quant::fake_quant(v, v, affine_params{0.25f, 0, quant::int4}));
    CHECK((v(0) == 0.0f && v(1) == -0.25f && v(2) == 1.75f));
}

TEST_CASE("a block of a matrix can be quantized in place", "[eigen]") {
    column_matrix m = column_matrix::Constant(4, 4, 0.3f);
    REQUIRE(quant::fake_quant(m.block(1, 1, 2, 2), m.block(1, 1, 2, 2), affine_params{0.25f, 0, quant::int8}));
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) CHECK(m(i, j) == (i == 1 || i == 2 ? (j == 1 || j == 2 ? 0.25f : 0.3f) : 0.3f));
}
