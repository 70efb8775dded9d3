// SPDX-License-Identifier: MIT
// Matrix times vector and times a few vectors, of 8-bit, packed 4-bit and bit-plane weights, beside float in Eigen where it is found.
#include "products.hpp"
#include <quant/bit_planes.hpp>
#include <quant/products.hpp>
#if defined(QUANT_BENCHMARK_EIGEN)
#include <Eigen/Core>
#endif

namespace {

using namespace bench;
using plane_view = quant::bit_plane_view<const std::uint16_t>;

auto int8_of(matrix_shape s) {
    return quant::view(reinterpret_cast<const std::int8_t*>(weight_bytes(s.size())), s.rows, s.cols);
}
quant::int4_matrix int4_of(matrix_shape s) {
    return {{reinterpret_cast<const std::byte*>(weight_bytes(s.size() / 2)), s.size() / 2}, s.rows, s.cols};
}
/// Any words are some matrix.
plane_view planes_of(matrix_shape s, std::size_t count, std::size_t offset = 0) {
    quant::plane_set set;
    for (std::size_t p = 0; p < count; ++p) set.add({static_cast<std::uint8_t>(p), p + 1 == count});
    const std::size_t n = quant::bit_plane_words(s.rows, s.cols, count);
    return {{reinterpret_cast<const std::uint16_t*>(weight_bytes(2 * (n + offset))) + offset, n}, s.rows, s.cols, set};
}
std::span<const std::int8_t> x_of(std::size_t n) { return {activation_codes(n), n}; }
template <class T> std::span<T> y_of(std::size_t n) { return {results<T>(n), n}; }

void add_dense(matrix_shape s) {
    const std::size_t groups = s.rows * ((s.cols + 31) / 32);
    add_product("gemv", s, "s8_s32/none", "native", s.size(), 0, [=](row& r) {
        r.run_verb([&] { return quant::gemv(int8_of(s), x_of(s.cols), y_of<std::int32_t>(s.rows)); });
    });
    add_product("gemv", s, "s8_f32/groups_of_32", "native", s.size(), 4 * groups, [=](row& r) {
        const quant::group_scales scales{{group_scales_of(groups), groups}, 0.5f};
        r.run_verb([&] { return quant::gemv(int8_of(s), x_of(s.cols), y_of<float>(s.rows), scales); });
    });
    add_product("gemv", s, "int4_s32/none", "native", s.size() / 2, 0, [=](row& r) {
        r.run_verb([&] { return quant::gemv(int4_of(s), x_of(s.cols), y_of<std::int32_t>(s.rows)); });
    });
    add_product("gemv", s, "int4_f32/groups_of_32", "native", s.size() / 2, 4 * groups, [=](row& r) {
        const quant::group_scales scales{{group_scales_of(groups), groups}, 0.5f};
        r.run_verb([&] { return quant::gemv(int4_of(s), x_of(s.cols), y_of<float>(s.rows), scales); });
    });
#if defined(QUANT_BENCHMARK_EIGEN)
    if (s.size() <= most_elements)
        add_product("gemv", s, "f32_f32/none", "eigen", 4 * s.size(), 0, [=](row& r) {
            using matrix_map = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
            const auto rows = static_cast<Eigen::Index>(s.rows), cols = static_cast<Eigen::Index>(s.cols);
            const matrix_map w(reals(s.size()), rows, cols);
            const Eigen::VectorXf x = Eigen::VectorXf::Constant(cols, 0.5f);
            Eigen::Map<Eigen::VectorXf> y(results<float>(s.rows), rows);
            r.run([&] { y.noalias() = w * x; });
        });
#endif
}
void add_planes(matrix_shape s, std::size_t count) {
    const std::size_t size = quant::bit_plane_bytes(s.rows, s.cols, count);
    const std::string weights = "planes" + std::to_string(count);
    add_product("gemv", s, weights + "_s32/none", "native", size, 0, [=](row& r) {
        r.run_verb([&] { return quant::gemv(planes_of(s, count), x_of(s.cols), y_of<std::int32_t>(s.rows)); });
    });
    for (const std::size_t x_planes : {std::size_t{1}, std::size_t{2}, std::size_t{4}})
        add_product("gemv", s, weights + "_s32/x_of_" + std::to_string(x_planes) + "_planes", "native", size, 0,
                    [=](row& r) {
                        const plane_view x = planes_of({1, s.cols}, x_planes, 1 << 16);
                        r.run_verb([&] { return quant::gemv(planes_of(s, count), x, y_of<std::int32_t>(s.rows)); });
                    });
}
void add_batch(matrix_shape s, std::size_t batch) {
    const auto x = [=] { return quant::view(activation_codes(batch * s.cols), batch, s.cols); };
    const auto y = [=] { return quant::view(results<std::int32_t>(batch * s.rows), batch, s.rows); };
    const std::string operation = "gemm" + std::to_string(batch);
    add_product(operation, s, "s8_s32/none", "native", s.size(), 0,
                [=](row& r) { r.run_verb([&] { return quant::gemm(int8_of(s), x(), y()); }); });
    add_product(operation, s, "int4_s32/none", "native", s.size() / 2, 0,
                [=](row& r) { r.run_verb([&] { return quant::gemm(int4_of(s), x(), y()); }); });
    add_product(operation, s, "planes3_s32/none", "native", quant::bit_plane_bytes(s.rows, s.cols, 3), 0,
                [=](row& r) { r.run_verb([&] { return quant::gemm(planes_of(s, 3), x(), y()); }); });
}

const bool registered = [] {
    for (const matrix_shape s : matrix_shapes) {
        add_dense(s);
        for (const std::size_t count : {1u, 2u, 3u, 4u, 5u, 6u, 8u}) add_planes(s, count);
    }
    for (const std::size_t batch : {2u, 4u, 8u}) add_batch({4096, 4096}, batch);
    return true;
}();

} // namespace
