// SPDX-License-Identifier: MIT
#pragma once

// Labelled samples from the files people have: a folder of JPEG images with a CSV, CIFAR's binary records, MNIST's IDX files,
// NumPy arrays. Where no file of labels is given they are all -1.

#include "../nn/tensor.hpp"

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace evaluation {

using nn::tensor;

/// From bytes to what a network was trained on: (byte / divisor - mean) / deviation per channel, in float.
struct preprocessing {
    float divisor = 1.0f;
    std::array<float, 3> mean{0.0f, 0.0f, 0.0f}, deviation{1.0f, 1.0f, 1.0f};
};
inline constexpr preprocessing raw{}; ///< 0 ... 255 as they are
inline constexpr preprocessing unit{255.0f};
inline constexpr preprocessing by_256{256.0f};
inline constexpr preprocessing imagenet{255.0f, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
/// "raw", "unit", "by-256" or "imagenet".
preprocessing preprocessing_named(std::string_view name);

struct rejected_file {
    std::string name, cause;
};

struct labelled_set {
    std::size_t size = 0;
    std::vector<int> labels; ///< one per sample
    std::vector<std::size_t> sample_shape;
    std::vector<rejected_file> rejected; ///< images that do not decode: not samples
    std::function<void(std::size_t sample, std::span<float> destination)> read{}; ///< thread-safe

    /// The samples `from` ... `from + n - 1` as [n, ...].
    tensor batch(std::size_t from, std::size_t n) const;
};

/// JPEG images of a folder, their central side x side pixels, [3, side, side] in RGB. The CSV says `file` and `class_index` (or
/// `label`) in its first line and has one line per image of the folder, no more and no fewer.
labelled_set images(const std::string& folder, const std::string& labels, std::size_t side, const preprocessing& how,
                    unsigned threads = 1);
/// CIFAR-10's records: a label, then 32 x 32 bytes of red, green, blue.
labelled_set cifar(const std::string& path, const preprocessing& how);
/// MNIST's files, compressed by gzip or not: [1, rows, columns].
labelled_set idx(const std::string& images, const std::string& labels, const preprocessing& how);
/// float32 samples [N, ...] and integer labels [N].
labelled_set npy(const std::string& samples, const std::string& labels);
/// One of the four by what the paths look like: a folder, .bin, .npy, else IDX. `side` matters to a folder alone.
labelled_set open_set(const std::string& samples, const std::string& labels, std::size_t side, const preprocessing& how,
                      unsigned threads = 1);

/// Every sample's overlapping windows of so many rows of a [rows, columns] table, each as one vector: the input of an autoencoder on
/// spectrograms. Returns [rows - frames + 1, frames * columns].
tensor windows(const tensor& table, std::size_t frames);

} // namespace evaluation
