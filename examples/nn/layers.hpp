// SPDX-License-Identifier: MIT
#pragma once

// The layers of small convolutional networks, forward and backward. Each layer keeps what its backward pass needs, so a
// backward() belongs to the forward() just before it.

#include "random.hpp"
#include "tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nn {

/// A trained tensor and the gradient of the loss with respect to it.
struct parameter {
    std::string name;
    tensor value;
    tensor grad;

    parameter(std::string n, std::vector<std::size_t> shape)
        : name(std::move(n)), value(shape), grad(std::move(shape)) {}
};

class layer {
public:
    layer() = default;
    layer(const layer&) = delete;
    layer& operator=(const layer&) = delete;
    virtual ~layer() = default;

    virtual tensor forward(const tensor& x) = 0;
    /// From the gradient at the output to the gradient at the input; adds to the gradients of parameters().
    virtual tensor backward(const tensor& grad_y) = 0;
    /// Weight first, then bias; empty for layers that learn nothing.
    virtual std::span<parameter> parameters() { return {}; }
};

/// He initialization for layers followed by a ReLU; uniform, because it needs no libm.
inline void he_uniform(tensor& w, std::size_t fan_in, random& r) {
    const float a = std::sqrt(6.0f / static_cast<float>(fan_in));
    for (float& x : w.data) x = r.uniform(-a, a);
}

/// Square kernel, zero padding. Weight [out, in, kernel, kernel], bias [out].
class conv2d final : public layer {
public:
    struct options {
        std::size_t kernel = 3, stride = 1, padding = 1;
    };

    conv2d(const std::string& name, std::size_t in, std::size_t out, options o, random& r)
        : o_(o), parameters_{{name + ".weight", {out, in, o.kernel, o.kernel}}, {name + ".bias", {out}}} {
        he_uniform(weight().value, in * o.kernel * o.kernel, r);
    }

    tensor forward(const tensor& x) override {
        x_ = x;
        const std::size_t out = weight().value.shape[0];
        tensor y({x.samples(), out, out_extent(x.shape[2]), out_extent(x.shape[3])});
        const auto w = as_matrix(std::span<const float>(weight().value.data), out, patch_size());
        const auto b = as_matrix(std::span<const float>(bias().value.data), out, 1);
        matrix columns(index(patch_size()), index(y.positions()));
        for (std::size_t n = 0; n < x.samples(); ++n) {
            gather(x.sample(n), columns, y);
            auto yn = as_matrix(y.sample(n), out, y.positions());
            yn.noalias() = w * columns;
            yn.colwise() += b.col(0);
        }
        return y;
    }

    tensor backward(const tensor& grad_y) override {
        const std::size_t out = weight().value.shape[0];
        tensor grad_x(x_.shape);
        const auto w = as_matrix(std::span<const float>(weight().value.data), out, patch_size());
        auto grad_w = as_matrix(std::span(weight().grad.data), out, patch_size());
        auto grad_b = as_matrix(std::span(bias().grad.data), out, 1);
        matrix columns(index(patch_size()), index(grad_y.positions()));
        for (std::size_t n = 0; n < x_.samples(); ++n) {
            const auto g = as_matrix(grad_y.sample(n), out, grad_y.positions());
            gather(x_.sample(n), columns, grad_y);
            grad_w.noalias() += g * columns.transpose();
            grad_b += g.rowwise().sum();
            columns.noalias() = w.transpose() * g;
            scatter(columns, grad_x.sample(n), grad_y);
        }
        return grad_x;
    }

    std::span<parameter> parameters() override { return parameters_; }

private:
    parameter& weight() { return parameters_[0]; }
    parameter& bias() { return parameters_[1]; }
    std::size_t patch_size() const { return tensor::count(std::span(parameters_[0].value.shape).subspan(1)); }
    std::size_t out_extent(std::size_t in) const { return (in + 2 * o_.padding - o_.kernel) / o_.stride + 1; }

    // Calls f(row of the patch matrix, first output position, first input offset, how many) for every run of pairs that is not in the padding:
    // outputs are neighbours, inputs are `stride` apart.
    template <class F> void for_each_run(const tensor& y, F f) const {
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
    void gather(std::span<const float> x, matrix& columns, const tensor& y) const {
        columns.setZero();
        for_each_run(y, [&](std::size_t row, std::size_t p, std::size_t i, std::size_t n) {
            float* const to = columns.row(index(row)).data() + p;
            if (o_.stride == 1) // most convolutions, and much faster
                std::copy_n(x.data() + i, n, to);
            else
                for (std::size_t k = 0; k < n; ++k) to[k] = x[i + k * o_.stride];
        });
    }
    void scatter(const matrix& columns, std::span<float> x, const tensor& y) const {
        for_each_run(y, [&](std::size_t row, std::size_t p, std::size_t i, std::size_t n) {
            const float* const from = columns.row(index(row)).data() + p;
            float* const to = x.data() + i;
            if (o_.stride == 1)
                for (std::size_t k = 0; k < n; ++k) to[k] += from[k];
            else
                for (std::size_t k = 0; k < n; ++k) to[k * o_.stride] += from[k];
        });
    }

    options o_;
    std::vector<parameter> parameters_;
    tensor x_;
};

/// y = x Wᵀ + b; flattens its input to [N, in]. Weight [out, in], bias [out].
class linear final : public layer {
public:
    linear(const std::string& name, std::size_t in, std::size_t out, random& r)
        : parameters_{{name + ".weight", {out, in}}, {name + ".bias", {out}}} {
        he_uniform(parameters_[0].value, in, r);
    }

    tensor forward(const tensor& x) override {
        x_ = x;
        tensor y({x.samples(), out()});
        auto ym = as_matrix(std::span(y.data), x.samples(), out());
        ym.noalias() = input() * weight().transpose();
        ym.rowwise() += as_matrix(std::span<const float>(parameters_[1].value.data), 1, out()).row(0);
        return y;
    }

    tensor backward(const tensor& grad_y) override {
        tensor grad_x(x_.shape);
        const auto g = as_matrix(std::span(grad_y.data), grad_y.samples(), out());
        as_matrix(std::span(parameters_[0].grad.data), out(), x_.sample_size()).noalias() += g.transpose() * input();
        as_matrix(std::span(parameters_[1].grad.data), 1, out()) += g.colwise().sum();
        as_matrix(std::span(grad_x.data), x_.samples(), x_.sample_size()).noalias() = g * weight();
        return grad_x;
    }

    std::span<parameter> parameters() override { return parameters_; }

private:
    std::size_t out() const { return parameters_[0].value.shape[0]; }
    const_matrix_map weight() const {
        return as_matrix(std::span<const float>(parameters_[0].value.data), out(), parameters_[0].value.shape[1]);
    }
    const_matrix_map input() const {
        return as_matrix(std::span<const float>(x_.data), x_.samples(), x_.sample_size());
    }

    std::vector<parameter> parameters_;
    tensor x_;
};

class relu final : public layer {
public:
    tensor forward(const tensor& x) override {
        y_ = x;
        for (float& v : y_.data) v = std::max(v, 0.0f);
        return y_;
    }
    tensor backward(const tensor& grad_y) override {
        tensor grad_x = grad_y;
        for (std::size_t i = 0; i < grad_x.size(); ++i)
            if (!(y_.data[i] > 0.0f)) grad_x.data[i] = 0.0f;
        return grad_x;
    }

private:
    tensor y_;
};

/// Largest value of each size × size window; windows do not overlap, a rest at the border is dropped.
class max_pool final : public layer {
public:
    explicit max_pool(std::size_t size) : size_(size) {}

    tensor forward(const tensor& x) override {
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

    tensor backward(const tensor& grad_y) override {
        tensor grad_x(in_shape_);
        for (std::size_t o = 0; o < grad_y.size(); ++o) grad_x.data[source_[o]] += grad_y.data[o];
        return grad_x;
    }

private:
    std::size_t size_;
    std::vector<std::size_t> in_shape_, source_;
};

/// Mean of each channel: [N, C, H, W] to [N, C].
class global_average_pool final : public layer {
public:
    tensor forward(const tensor& x) override {
        in_shape_ = x.shape;
        tensor y({x.samples(), x.channels()});
        as_matrix(std::span(y.data), y.size(), 1) =
            as_matrix(std::span(x.data), y.size(), x.positions()).rowwise().mean();
        return y;
    }
    tensor backward(const tensor& grad_y) override {
        tensor grad_x(in_shape_);
        const std::size_t positions = grad_x.positions();
        for (std::size_t i = 0; i < grad_x.size(); ++i)
            grad_x.data[i] = grad_y.data[i / positions] / static_cast<float>(positions);
        return grad_x;
    }

private:
    std::vector<std::size_t> in_shape_;
};

/// What a residual block remembers between its ends: net.add<fork>(s) …layers… .add<join>(s).
struct shortcut {
    tensor x, grad;
};

/// The beginning of a residual block: hands its input on, and to the block's end.
class fork final : public layer {
public:
    explicit fork(std::shared_ptr<shortcut> way) : way_(std::move(way)) {}
    tensor forward(const tensor& x) override {
        way_->x = x;
        return x;
    }
    tensor backward(const tensor& grad_y) override {
        tensor grad_x = grad_y;
        for (std::size_t i = 0; i < grad_x.size(); ++i) grad_x.data[i] += way_->grad.data[i];
        return grad_x;
    }

private:
    std::shared_ptr<shortcut> way_;
};

/// The end of a residual block: adds the block's input. Where the block has made fewer positions or more channels of it, every stride-th
/// position counts and the new channels are zeros, half of them before and half behind (He et al. 2015, option A).
class join final : public layer {
public:
    explicit join(std::shared_ptr<shortcut> way) : way_(std::move(way)) {}
    tensor forward(const tensor& x) override {
        tensor y = x;
        for_each_pair(y, [&](std::size_t own, std::size_t remembered) { y.data[own] += way_->x.data[remembered]; });
        return y;
    }
    tensor backward(const tensor& grad_y) override {
        way_->grad = tensor(way_->x.shape);
        for_each_pair(grad_y,
                      [&](std::size_t own, std::size_t remembered) { way_->grad.data[remembered] = grad_y.data[own]; });
        return grad_y;
    }

private:
    template <class F> void for_each_pair(const tensor& y, F f) const {
        const std::vector<std::size_t>& in = way_->x.shape;
        const std::size_t stride = in[2] / y.shape[2], before = (y.shape[1] - in[1]) / 2;
        for (std::size_t n = 0; n < in[0]; ++n)
            for (std::size_t c = 0; c < in[1]; ++c)
                for (std::size_t oy = 0; oy < y.shape[2]; ++oy)
                    for (std::size_t ox = 0; ox < y.shape[3]; ++ox)
                        f(((n * y.shape[1] + c + before) * y.shape[2] + oy) * y.shape[3] + ox,
                          ((n * in[1] + c) * in[2] + oy * stride) * in[3] + ox * stride);
    }
    std::shared_ptr<shortcut> way_;
};

} // namespace nn
