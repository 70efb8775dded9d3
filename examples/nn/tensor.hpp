// SPDX-License-Identifier: MIT
#pragma once

// A dense float tensor: extents and values, row-major. Images are [N, C, H, W], feature vectors [N, C].

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nn {

struct tensor {
    std::vector<std::size_t> shape;
    std::vector<float> data;

    tensor() = default;
    explicit tensor(std::vector<std::size_t> extents) : shape(std::move(extents)), data(count(shape), 0.0f) {}

    static std::size_t count(std::span<const std::size_t> extents) {
        return std::accumulate(extents.begin(), extents.end(), std::size_t{1}, std::multiplies<>());
    }

    std::size_t size() const { return data.size(); }
    std::size_t samples() const { return shape.at(0); }
    std::size_t channels() const { return shape.at(1); }
    /// Values of one sample, and of one channel of one sample (1 for feature vectors).
    std::size_t sample_size() const { return count(std::span(shape).subspan(1)); }
    std::size_t positions() const { return count(std::span(shape).subspan(2)); }

    std::span<float> sample(std::size_t n) { return std::span(data).subspan(n * sample_size(), sample_size()); }
    std::span<const float> sample(std::size_t n) const {
        return std::span(data).subspan(n * sample_size(), sample_size());
    }
    std::span<float> channel(std::size_t n, std::size_t c) { return sample(n).subspan(c * positions(), positions()); }
    std::span<const float> channel(std::size_t n, std::size_t c) const {
        return sample(n).subspan(c * positions(), positions());
    }
};

/// The samples `from` … `from + n - 1`, copied.
inline tensor samples(const tensor& x, std::size_t from, std::size_t n) {
    std::vector<std::size_t> shape = x.shape;
    shape.at(0) = n;
    tensor part(std::move(shape));
    const std::span<const float> source = std::span(x.data).subspan(from * x.sample_size(), part.size());
    std::copy(source.begin(), source.end(), part.data.begin());
    return part;
}

/// Tensors by name: what a weight file holds.
using tensor_map = std::map<std::string, tensor>;

} // namespace nn
