// SPDX-License-Identifier: MIT
#pragma once
// What quantizing has in common, whichever kind of file the tensors stand in: which of them, how, and the table of results.

#include "../report/page.hpp"
#include "storage.hpp"

#include <quant/calibrate/error_measures.hpp>
#include <quant/calibrate/minmax.hpp>
#include <regex>

namespace quant_tool {

/// Everything a reader of the file may want to know about how the numbers came about.
json provenance_of(const quantize_command& o);

/// Refuses values that the options do not admit; returns how many are not finite.
std::uint64_t check_values(const quant::minmax_observer& seen, std::uint64_t size, const std::string& name,
                           const quantize_command& o);

/// Codes, parameters and corrections. Blocks of slices are quantized one by one where they do not depend on each other, which
/// gives the bytes of one call for the whole tensor.
quant::result<quant::quantized_tensor> quantize_values(std::span<const float> values, const sliced_shape& layout,
                                                       const std::string& name, const quantize_command& o,
                                                       unsigned threads);

/// One line of the table of results.
struct quantized_row {
    std::string name;
    std::string type; ///< before
    shape_type shape;
    std::uint64_t slices = 0;
    double average_bits = 0; ///< as stored: a plane is a bit
    std::string storage = "dense";
    quant::error_measures error;
    std::uint64_t non_finite = 0, bytes_before = 0, bytes_after = 0;
    std::optional<quant_report::picture> drawn; ///< only where a page is to be written
};
/// The table, or the JSON document, and the totals.
void report_quantized(const quantize_command& options, std::span<const quantized_row> rows, std::size_t copied,
                      std::uint64_t file_before, std::uint64_t file_after);

/// Which tensors are quantized; the others are copied.
class selection {
public:
    explicit selection(const quantize_command& o) {
        for (const auto& p : o.include) {
            include_.emplace_back(p);
        }
        for (const auto& p : o.exclude) {
            exclude_.emplace_back(p);
        }
    }
    /// by_default   whether it is quantized unless a pattern says otherwise
    bool chosen(const std::string& name, bool by_default) {
        bool wanted = include_.empty() && by_default;
        for (auto& p : include_) {
            if (std::regex_search(name, p.expression)) {
                wanted = p.used = true;
            }
        }
        for (auto& p : exclude_) {
            if (std::regex_search(name, p.expression)) {
                wanted = false;
            }
        }
        return wanted;
    }
    /// A pattern that matches nothing is a typing error, and the model would silently stay as it is.
    void check_all_used(const quantize_command& o) const {
        for (std::size_t i = 0; i < include_.size(); ++i) {
            if (!include_[i].used) {
                throw error(exit_code::usage, o.input,
                            "no tensor's name matches --include '" + printable(o.include[i]) + "'");
            }
        }
    }

private:
    struct pattern {
        explicit pattern(const std::string& text) : expression(text) {}
        std::regex expression;
        bool used = false;
    };
    std::vector<pattern> include_, exclude_;
};

[[nodiscard]] inline bool is_onnx(const std::string& path) { return path.ends_with(".onnx"); }
/// quantize, for an ONNX model.
void quantize_onnx(const quantize_command& options);

} // namespace quant_tool
