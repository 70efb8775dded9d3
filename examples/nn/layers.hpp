// SPDX-License-Identifier: MIT
#pragma once

// The layers of small convolutional networks, forward and backward. Each layer keeps what its backward pass needs, so a
// backward() belongs to the forward() just before it.

#include "random.hpp"
#include "tensor.hpp"

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

/// Square kernel, zero padding. Weight [out, in, kernel, kernel], bias [out].
class conv2d final : public layer {
public:
    struct options {
        std::size_t kernel = 3, stride = 1, padding = 1;
    };

    conv2d(const std::string& name, std::size_t in, std::size_t out, options o, random& r);
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

    std::span<parameter> parameters() override { return parameters_; }

private:
    parameter& weight() { return parameters_[0]; }
    parameter& bias() { return parameters_[1]; }
    std::size_t patch_size() const { return tensor::count(std::span(parameters_[0].value.shape).subspan(1)); }
    std::size_t out_extent(std::size_t in) const { return (in + 2 * o_.padding - o_.kernel) / o_.stride + 1; }

    template <class F> void for_each_run(const tensor& y, F f) const;
    void gather(std::span<const float> x, std::span<float> columns, const tensor& y) const;
    void scatter(std::span<const float> columns, std::span<float> x, const tensor& y) const;

    options o_;
    std::vector<parameter> parameters_;
    tensor x_;
};

/// y = x Wᵀ + b; flattens its input to [N, in]. Weight [out, in], bias [out].
class linear final : public layer {
public:
    linear(const std::string& name, std::size_t in, std::size_t out, random& r);
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

    std::span<parameter> parameters() override { return parameters_; }

private:
    std::size_t out() const { return parameters_[0].value.shape[0]; }

    std::vector<parameter> parameters_;
    tensor x_;
};

class relu final : public layer {
public:
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

private:
    tensor y_;
};

/// Largest value of each size × size window; windows do not overlap, a rest at the border is dropped.
class max_pool final : public layer {
public:
    explicit max_pool(std::size_t size) : size_(size) {}
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

private:
    std::size_t size_;
    std::vector<std::size_t> in_shape_, source_;
};

/// Mean of each channel: [N, C, H, W] to [N, C].
class global_average_pool final : public layer {
public:
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

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
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

private:
    std::shared_ptr<shortcut> way_;
};

/// The end of a residual block: adds the block's input. Where the block has made fewer positions or more channels of it, every stride-th
/// position counts and the new channels are zeros, half of them before and half behind (He et al. 2015, option A).
class join final : public layer {
public:
    explicit join(std::shared_ptr<shortcut> way) : way_(std::move(way)) {}
    tensor forward(const tensor& x) override;
    tensor backward(const tensor& grad_y) override;

private:
    template <class F> void for_each_pair(const tensor& y, F f) const;
    std::shared_ptr<shortcut> way_;
};

} // namespace nn
