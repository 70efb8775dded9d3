// SPDX-License-Identifier: MIT
#pragma once
// --report: what the subcommands' pages have in common. The page itself is examples/report/.

#include "../report/pictures.hpp"
#include "commands.hpp"
#include "io/atomic_file.hpp"
#include "report.hpp"
#include "threads.hpp"

namespace quant_tool {

[[nodiscard]] inline overwrite report_policy(const common_options& o) {
    return o.force ? overwrite::yes : overwrite::no;
}

/// Before any work is done: may the page be written there? Only a name that ends in .html, so that a slip of the hand does not
/// replace a model.
inline void check_report(const common_options& o) {
    if (o.report.empty()) {
        return;
    }
    if (!o.report.ends_with(".html")) {
        throw error(exit_code::usage, o.report, "--report writes a page, its name must end in .html");
    }
    check_target(o.report, report_policy(o));
}

[[nodiscard]] quant_report::page begin_report(std::string title, std::string subject, const common_options& o);
/// Whole or not at all.
void write_report(const quant_report::page& page, const common_options& o);

[[nodiscard]] inline quant_report::cell number_cell(const char* format, double value) {
    return {std::isnan(value) ? "–" : number_text(format, value), value};
}
[[nodiscard]] inline quant_report::cell decibel_cell(double sqnr) {
    return {std::isnan(sqnr) ? "–" : decibel_text(sqnr), sqnr};
}
[[nodiscard]] inline quant_report::cell bytes_cell(std::uint64_t bytes) {
    return {bytes_text(bytes), static_cast<double>(bytes)};
}
/// Files before and after, as bars.
[[nodiscard]] quant_report::measure size_measure(const std::string& before, std::uint64_t bytes_before,
                                                 const std::string& after, std::uint64_t bytes_after);

struct quantized_row; // quantize_values.hpp
/// What `quantize` did.
void report_quantized_page(const quantize_command& o, std::span<const quantized_row> rows, std::size_t copied,
                           double mean_bits, std::uint64_t file_before, std::uint64_t file_after);

[[nodiscard]] inline quant::histogram_observer<> histogram_of(std::span<const float> values, unsigned threads) {
    return observe_blocks(
        quant::histogram_observer<>(), values.size(), threads,
        [&](auto& part, std::size_t first, std::size_t count) { part.observe(values.subspan(first, count)); });
}

} // namespace quant_tool
