// SPDX-License-Identifier: MIT
#pragma once
// What calibration has seen so far, and the file that keeps it, so that an interrupted run can be taken up again.

#include "../onnx/model.hpp"
#include "commands.hpp"

#include <quant/calibrate/histogram.hpp>

namespace quant_tool {

/// One value of the network: its histogram, and the sums of its channels. Of one size, however many samples pass.
struct observed_value {
    quant::histogram_observer<2048> histogram;
    std::vector<double> sums;
    double per_channel = 0; ///< elements

    /// The value on a batch of samples [samples, channels, ...].
    void take(std::span<const std::size_t> shape, std::span<const float> data);
    void merge(const observed_value& other);
};

struct calibration_state {
    std::size_t samples = 0; ///< seen, the first ones
    std::vector<observed_value> values;
};

/// The state in a safetensors file (docs/onnx.md), with fingerprints of the model, of the samples and of how they are read.
class calibration_file {
public:
    /// Reads the model's files and the samples once for their fingerprints. Throws error if the file cannot be written there.
    calibration_file(const quantize_command& options, const quant_onnx::model& model, std::size_t samples);

    /// Continues from the file: false if there is none. Throws error (exit_code::input) if it is damaged, or of another run.
    /// state   of as many values as the network has
    /// batch   the number of samples seen must be a multiple of it, or all
    [[nodiscard]] bool load(calibration_state& state, std::size_t batch) const;
    /// Whole or not at all.
    void save(const calibration_state& state) const;

private:
    std::string path_, model_, data_, preprocess_;
    std::size_t samples_;
};

} // namespace quant_tool
