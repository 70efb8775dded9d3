// SPDX-License-Identifier: MIT
#pragma once

// The images and their fixed split. data/SOURCE.md says where they come from.

#include "../nn/gzip.hpp"
#include "../nn/tensor.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace digits {

inline constexpr std::size_t side = 8, pixels = side * side, classes = 10, images_in_file = 1797;
/// A split by position, not at random: neighbours in the file tend to come from one writer, and a random split would put
/// that hand into both parts. Calibration uses the first training images; the test images take part in no decision.
inline constexpr std::size_t training_images = 1297, calibration_images = 256;

struct dataset {
    nn::tensor images; ///< [N, 1, 8, 8], 0 … 1
    std::vector<std::uint8_t> labels;

    std::size_t size() const { return labels.size(); }

    dataset part(std::size_t from, std::size_t n) const {
        const auto first = labels.begin() + static_cast<std::ptrdiff_t>(from);
        return {nn::samples(images, from, n), {first, first + static_cast<std::ptrdiff_t>(n)}};
    }
    dataset training() const { return part(0, training_images); }
    dataset calibration() const { return part(0, calibration_images); }
    dataset unseen() const { return part(training_images, size() - training_images); }
};

/// One image per line: 64 pixels 0 … 16, then the label, separated by commas.
inline dataset load(const std::string& path) {
    const std::string text = nn::read_gzip(path);
    dataset d{nn::tensor({images_in_file, 1, side, side}), {}};
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto fail = [&](const std::string& what) {
        throw quant_tool::error(quant_tool::exit_code::input, path,
                                "line " + std::to_string(d.size() + 1) + ": " + what);
    };
    while (at != end) {
        if (d.size() == images_in_file) fail("more than " + std::to_string(images_in_file) + " images");
        for (std::size_t column = 0; column <= pixels; ++column) {
            const bool last = column == pixels;
            unsigned value = 0;
            const auto [next, error] = std::from_chars(at, end, value);
            if (error != std::errc{} || value > (last ? classes - 1 : 16u))
                fail("expected 64 pixels 0 to 16 and a label 0 to 9");
            at = next;
            if (last && at != end && *at == '\r') ++at;
            if (at == end ? !last : *at != (last ? '\n' : ',')) fail("expected 65 numbers separated by commas");
            if (at != end) ++at;
            if (last)
                d.labels.push_back(static_cast<std::uint8_t>(value));
            else
                d.images.data[d.size() * pixels + column] = static_cast<float>(value) / 16.0f;
        }
    }
    if (d.size() != images_in_file)
        throw quant_tool::error(quant_tool::exit_code::input, path,
                                "is truncated: " + std::to_string(d.size()) + " images, expected " +
                                    std::to_string(images_in_file));
    return d;
}

} // namespace digits
