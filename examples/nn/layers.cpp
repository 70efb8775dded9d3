// SPDX-License-Identifier: MIT
#include "layers.hpp"

#include "matrix.hpp"

#include <algorithm>
#include <cmath>

namespace nn {

namespace {

/// He initialization for layers followed by a ReLU; uniform, because it needs no libm.
void he_uniform(tensor& w, std::size_t fan_in, random& r) {
    const float a = std::sqrt(6.0f / static_cast<float>(fan_in));
    for (float& x : w.data) x = r.uniform(-a, a);
}

/// A matrix's values, row by row.
std::span<float> values_of(matrix& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }

/// [out, in] of a weight.
const_matrix_map matrix_of(const parameter& weight) {
    return as_matrix(std::span<const float>(weight.value.data), weight.value.shape[0], weight.value.shape[1]);
}
/// A sample in each row.
const_matrix_map rows_of(const tensor& x) {
    return as_matrix(std::span<const float>(x.data), x.samples(), x.sample_size());
}

} // namespace

// Calls f(row of the patch matrix, first output position, first input offset, how many) for every run of pairs that is not in the padding:
// outputs are neighbours, inputs are `stride` apart.
template <class F> void conv2d::for_each_run(const tensor& y, F f) const {
    const std::size_t in = x_.shape[1], height = x_.shape[2], width = x_.shape[3];
    std::size_t row = 0;
    for (std::size_t c = 0; c < in; ++c)
        for (std::size_t ky = 0; ky < o_.kernel; ++ky)
            for (std::size_t kx = 0; kx < o_.kernel; ++kx, ++row) {
                // The output columns whose input column ox * stride + kx - padding is one.
                const std::size_t from = kx >= o_.padding ? 0 : (o_.padding - kx + o_.stride - 1) / o_.stride;
                const std::size_t inside = width + o_.padding > kx ? width + o_.padding - kx : 0;
                const std::size_t to = std::min(y.shape[3], (inside + o_.stride - 1) / o_.stride);
                if (from >= to) continue;
                for (std::size_t oy = 0; oy < y.shape[2]; ++oy) {
                    const std::size_t iy = oy * o_.stride + ky - o_.padding; // wraps around when negative:
                    if (iy >= height) continue;                              // caught here all the same
                    f(row, oy * y.shape[3] + from, (c * height + iy) * width + from * o_.stride + kx - o_.padding,
                      to - from);
                }
            }
}
// im2col: column p holds the input patch under output position p, so that the convolution is one matrix product.
void conv2d::gather(std::span<const float> x, std::span<float> columns, const tensor& y) const {
    std::fill(columns.begin(), columns.end(), 0.0f);
    for_each_run(y, [&](std::size_t row, std::size_t p, std::size_t i, std::size_t n) {
        float* const to = columns.data() + row * y.positions() + p;
        if (o_.stride == 1) // most convolutions, and much faster
            std::copy_n(x.data() + i, n, to);
        else
            for (std::size_t k = 0; k < n; ++k) to[k] = x[i + k * o_.stride];
    });
}
void conv2d::scatter(std::span<const float> columns, std::span<float> x, const tensor& y) const {
    for_each_run(y, [&](std::size_t row, std::size_t p, std::size_t i, std::size_t n) {
        const float* const from = columns.data() + row * y.positions() + p;
        float* const to = x.data() + i;
        if (o_.stride == 1)
            for (std::size_t k = 0; k < n; ++k) to[k] += from[k];
        else
            for (std::size_t k = 0; k < n; ++k) to[k * o_.stride] += from[k];
    });
}

conv2d::conv2d(const std::string& name, std::size_t in, std::size_t out, options o, random& r)
    : o_(o), parameters_{{name + ".weight", {out, in, o.kernel, o.kernel}}, {name + ".bias", {out}}} {
    he_uniform(weight().value, in * o.kernel * o.kernel, r);
}

tensor conv2d::forward(const tensor& x) {
    x_ = x;
    const std::size_t out = weight().value.shape[0];
    tensor y({x.samples(), out, out_extent(x.shape[2]), out_extent(x.shape[3])});
    const auto w = as_matrix(std::span<const float>(weight().value.data), out, patch_size());
    const auto b = as_matrix(std::span<const float>(bias().value.data), out, 1);
    matrix columns(index(patch_size()), index(y.positions()));
    for (std::size_t n = 0; n < x.samples(); ++n) {
        gather(x.sample(n), values_of(columns), y);
        auto yn = as_matrix(y.sample(n), out, y.positions());
        yn.noalias() = w * columns;
        yn.colwise() += b.col(0);
    }
    return y;
}

tensor conv2d::backward(const tensor& grad_y) {
    const std::size_t out = weight().value.shape[0];
    tensor grad_x(x_.shape);
    const auto w = as_matrix(std::span<const float>(weight().value.data), out, patch_size());
    auto grad_w = as_matrix(std::span(weight().grad.data), out, patch_size());
    auto grad_b = as_matrix(std::span(bias().grad.data), out, 1);
    matrix columns(index(patch_size()), index(grad_y.positions()));
    for (std::size_t n = 0; n < x_.samples(); ++n) {
        const auto g = as_matrix(grad_y.sample(n), out, grad_y.positions());
        gather(x_.sample(n), values_of(columns), grad_y);
        grad_w.noalias() += g * columns.transpose();
        grad_b += g.rowwise().sum();
        columns.noalias() = w.transpose() * g;
        scatter(values_of(columns), grad_x.sample(n), grad_y);
    }
    return grad_x;
}

linear::linear(const std::string& name, std::size_t in, std::size_t out, random& r)
    : parameters_{{name + ".weight", {out, in}}, {name + ".bias", {out}}} {
    he_uniform(parameters_[0].value, in, r);
}

tensor linear::forward(const tensor& x) {
    x_ = x;
    tensor y({x.samples(), out()});
    auto ym = as_matrix(std::span(y.data), x.samples(), out());
    ym.noalias() = rows_of(x) * matrix_of(parameters_[0]).transpose();
    ym.rowwise() += as_matrix(std::span<const float>(parameters_[1].value.data), 1, out()).row(0);
    return y;
}

tensor linear::backward(const tensor& grad_y) {
    tensor grad_x(x_.shape);
    const auto g = as_matrix(std::span(grad_y.data), grad_y.samples(), out());
    as_matrix(std::span(parameters_[0].grad.data), out(), x_.sample_size()).noalias() += g.transpose() * rows_of(x_);
    as_matrix(std::span(parameters_[1].grad.data), 1, out()) += g.colwise().sum();
    as_matrix(std::span(grad_x.data), x_.samples(), x_.sample_size()).noalias() = g * matrix_of(parameters_[0]);
    return grad_x;
}

tensor relu::forward(const tensor& x) {
    y_ = x;
    for (float& v : y_.data) v = std::max(v, 0.0f);
    return y_;
}

tensor relu::backward(const tensor& grad_y) {
    tensor grad_x = grad_y;
    for (std::size_t i = 0; i < grad_x.size(); ++i)
        if (!(y_.data[i] > 0.0f)) grad_x.data[i] = 0.0f;
    return grad_x;
}

tensor max_pool::forward(const tensor& x) {
    in_shape_ = x.shape;
    const std::size_t width = x.shape[3];
    tensor y({x.samples(), x.channels(), x.shape[2] / size_, width / size_});
    source_.resize(y.size());
    std::size_t o = 0;
    for (std::size_t plane = 0; plane < x.samples() * x.channels(); ++plane)
        for (std::size_t oy = 0; oy < y.shape[2]; ++oy)
            for (std::size_t ox = 0; ox < y.shape[3]; ++ox, ++o) {
                std::size_t best = plane * x.positions() + oy * size_ * width + ox * size_;
                const std::size_t corner = best;
                for (std::size_t dy = 0; dy < size_; ++dy)
                    for (std::size_t dx = 0; dx < size_; ++dx) {
                        const std::size_t i = corner + dy * width + dx;
                        if (x.data[i] > x.data[best]) best = i;
                    }
                source_[o] = best;
                y.data[o] = x.data[best];
            }
    return y;
}

tensor max_pool::backward(const tensor& grad_y) {
    tensor grad_x(in_shape_);
    for (std::size_t o = 0; o < grad_y.size(); ++o) grad_x.data[source_[o]] += grad_y.data[o];
    return grad_x;
}

tensor global_average_pool::forward(const tensor& x) {
    in_shape_ = x.shape;
    tensor y({x.samples(), x.channels()});
    as_matrix(std::span(y.data), y.size(), 1) = as_matrix(std::span(x.data), y.size(), x.positions()).rowwise().mean();
    return y;
}

tensor global_average_pool::backward(const tensor& grad_y) {
    tensor grad_x(in_shape_);
    const std::size_t positions = grad_x.positions();
    for (std::size_t i = 0; i < grad_x.size(); ++i)
        grad_x.data[i] = grad_y.data[i / positions] / static_cast<float>(positions);
    return grad_x;
}

tensor fork::forward(const tensor& x) {
    way_->x = x;
    return x;
}

tensor fork::backward(const tensor& grad_y) {
    tensor grad_x = grad_y;
    for (std::size_t i = 0; i < grad_x.size(); ++i) grad_x.data[i] += way_->grad.data[i];
    return grad_x;
}

template <class F> void join::for_each_pair(const tensor& y, F f) const {
    const std::vector<std::size_t>& in = way_->x.shape;
    const std::size_t stride = in[2] / y.shape[2], before = (y.shape[1] - in[1]) / 2;
    for (std::size_t n = 0; n < in[0]; ++n)
        for (std::size_t c = 0; c < in[1]; ++c)
            for (std::size_t oy = 0; oy < y.shape[2]; ++oy)
                for (std::size_t ox = 0; ox < y.shape[3]; ++ox)
                    f(((n * y.shape[1] + c + before) * y.shape[2] + oy) * y.shape[3] + ox,
                      ((n * in[1] + c) * in[2] + oy * stride) * in[3] + ox * stride);
}

tensor join::forward(const tensor& x) {
    tensor y = x;
    for_each_pair(y, [&](std::size_t own, std::size_t remembered) { y.data[own] += way_->x.data[remembered]; });
    return y;
}

tensor join::backward(const tensor& grad_y) {
    way_->grad = tensor(way_->x.shape);
    for_each_pair(grad_y,
                  [&](std::size_t own, std::size_t remembered) { way_->grad.data[remembered] = grad_y.data[own]; });
    return grad_y;
}

} // namespace nn
