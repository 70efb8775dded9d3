// SPDX-License-Identifier: MIT
#pragma once
// The subcommands and their options as plain data; main.cpp fills them from the command line.

#include <cstdint>
#include <optional>
#include <quant/core/options.hpp>
#include <string>
#include <vector>

namespace quant_tool {

/// What every subcommand has.
struct common_options {
    bool json = false;    ///< results as one JSON document on stdout
    bool quiet = false;   ///< neither results nor progress
    unsigned threads = 1; ///< the program's own among them; the results never depend on it
    bool force = false;   ///< may what is written replace an existing file?
    std::string report;   ///< an HTML page about the results; empty: none
    std::string command;  ///< the whole command line, for the page
};

struct inspect_options : common_options {
    std::string input;
};

enum class clip_method : std::uint8_t { minmax, percentile, mse, entropy, aciq };
enum class aciq_variant : std::uint8_t { paper, corrected, exact, empirical };
enum class prior_choice : std::uint8_t { laplace, gauss, automatic };
enum class correction : std::uint8_t { none, mean, mean_and_norm };
enum class storage_choice : std::uint8_t { dense, planes, smaller };
enum class granularity_choice : std::uint8_t { per_tensor, per_axis, per_group };

/// Options of `quantize`, checked against each other by main.cpp.
struct quantize_command : common_options {
    std::string input;
    std::string output;

    int bits = 8;
    bool is_signed = true;
    bool narrow = false;
    quant::mapping map = quant::mapping::symmetric;

    granularity_choice granularity = granularity_choice::per_axis;
    int axis = 0;
    bool axis_given = false; ///< else an ONNX model says which axis holds the output channels
    std::uint64_t group_size = 0;

    clip_method clip = clip_method::minmax;
    aciq_variant variant = aciq_variant::corrected;
    prior_choice prior = prior_choice::laplace;
    double percentile = 99.99;

    std::optional<double> average_bits;
    int min_bits = 2;
    int max_bits = 8;
    correction correct = correction::none;

    std::optional<int> planes; ///< magnitude planes a tensor may keep
    storage_choice storage = storage_choice::dense;

    quant::rounding round = quant::rounding::nearest_even;
    quant::scale_by divide = quant::scale_by::division;
    std::uint64_t seed = 0;

    std::vector<std::string> include, exclude; ///< regular expressions on tensor names
    bool allow_non_finite = false;

    // ONNX only.
    bool keep_sums = false; ///< round so that kernels and output channels keep their sums
    int activations = 0;    ///< bits; 0: float
    clip_method activation_clip = clip_method::minmax;
    double activation_percentile = 99.99;
    bool float_biases = false;
    bool external_data = false; ///< the weights in a file beside the model; a model beyond 2 GiB has it anyway
    std::string calibrate;      ///< samples to run the network on; empty: none
    std::string calibrate_preprocess = "imagenet";
    std::size_t calibrate_samples = 0; ///< 0: all
    std::string resume;                ///< keeps what calibration has seen so far; empty: nothing is kept
};

struct dequantize_command : common_options {
    std::string input;
    std::string output;
    std::string dtype; ///< empty: the type each tensor had before
};

struct export_c_command : common_options {
    std::string input;
    std::string output;
    std::string prefix; ///< of every name in the header
};

struct compare_command : common_options {
    std::string first;  ///< the reference
    std::string second; ///< what is measured against it
    std::optional<double> min_sqnr;
    std::string inputs; ///< ONNX only, and so are those below
    std::string preprocess = "imagenet";
    std::size_t samples = 32;
};

struct evaluate_command : common_options {
    std::string model;
    std::string against; ///< a second model on the same images; empty: none
    std::string images, labels;
    std::string preprocess = "imagenet";
    std::size_t samples = 0; ///< 0: all
    std::size_t batch = 32;
};

/// Each throws quant_tool::error; the results go to stdout.
void inspect(const inspect_options& options);
void quantize(const quantize_command& options);
void dequantize(const dequantize_command& options);
void export_c(const export_c_command& options);
void compare(const compare_command& options);
void evaluate(const evaluate_command& options);
void compare_networks(const compare_command& options); ///< two ONNX models; compare() calls it

} // namespace quant_tool
