// SPDX-License-Identifier: MIT
#include "html_report.hpp"

#include "quantize_values.hpp"

#include <quant/version.hpp>

namespace quant_tool {

quant_report::page begin_report(std::string title, std::string subject, const common_options& o) {
    quant_report::page page;
    page.title = std::move(title);
    page.subject = std::move(subject);
    page.command = o.command;
    page.made_by = "quant " + std::to_string(QUANT_VERSION_MAJOR) + "." + std::to_string(QUANT_VERSION_MINOR) + "." +
                   std::to_string(QUANT_VERSION_PATCH);
    return page;
}

void write_report(const quant_report::page& page, const common_options& o) {
    atomic_file file(o.report, report_policy(o));
    file.write(quant_report::render(page));
    file.commit();
}

quant_report::measure size_measure(const std::string& before, std::uint64_t bytes_before, const std::string& after,
                                   std::uint64_t bytes_after) {
    const auto reading = [](const std::string& label, std::uint64_t bytes) {
        return quant_report::reading{label, bytes_text(bytes), static_cast<double>(bytes)};
    };
    return {"Size of the file",
            static_cast<double>(std::max(bytes_before, bytes_after)),
            {reading(before, bytes_before), reading(after, bytes_after)}};
}

namespace {

/// The range that is kept: of many slices, the middle one's.
quant_report::cell clip_cell(const quant_report::code_range& c, const quantize_command& o) {
    const bool symmetric = o.is_signed && o.map == quant::mapping::symmetric;
    return {symmetric ? "±" + number_text("%.3g", std::max(std::abs(c.low), std::abs(c.high)))
                      : number_text("%.3g", c.low) + " … " + number_text("%.3g", c.high),
            c.high - c.low};
}
std::string bits_text(double bits) { return number_text(bits == std::floor(bits) ? "%.0f" : "%.2f", bits); }

} // namespace

void report_quantized_page(const quantize_command& o, std::span<const quantized_row> rows, std::size_t copied,
                           double mean_bits, std::uint64_t file_before, std::uint64_t file_after) {
    auto page = begin_report("Quantized", o.input + " → " + o.output, o);
    page.columns = {{"shape", false}, {"bits"}, {"clip"}, {"SQNR dB"}, {"before"}, {"after"}};
    quant_report::chart bits{"Bits by tensor", "bits", {}}, sqnr{"SQNR by tensor", "dB", {}};
    const quantized_row* worst = nullptr;
    for (const auto& r : rows) {
        auto& row = page.rows.emplace_back();
        row.name = r.name;
        row.cells = {{shape_text(r.shape)},
                     {bits_text(r.average_bits), r.average_bits},
                     r.drawn && r.drawn->codes ? clip_cell(*r.drawn->codes, o) : number_cell("", quant_report::unknown),
                     decibel_cell(r.error.sqnr_db),
                     bytes_cell(r.bytes_before),
                     bytes_cell(r.bytes_after)};
        row.caption = bits_text(r.average_bits) + " bits, " + decibel_text(r.error.sqnr_db) +
                      (std::isfinite(r.error.sqnr_db) ? " dB" : "") + ", " + std::to_string(r.slices) +
                      (r.slices == 1 ? " scale" : " scales");
        row.drawn = r.drawn;
        bits.values.push_back(r.average_bits);
        sqnr.values.push_back(r.error.sqnr_db);
        if (worst == nullptr || r.error.sqnr_db < worst->error.sqnr_db) {
            worst = &r;
        }
    }
    page.facts = {{"Quantized", std::to_string(rows.size()) + (rows.size() == 1 ? " tensor" : " tensors"),
                   std::to_string(copied) + " copied unchanged"}};
    if (worst != nullptr) {
        page.facts.push_back(
            {"Average bits", bits_text(mean_bits), "clip: " + std::string(name_in(clip_names, o.clip))});
        page.facts.push_back({"Lowest SQNR",
                              decibel_text(worst->error.sqnr_db) + (std::isfinite(worst->error.sqnr_db) ? " dB" : ""),
                              worst->name});
    }
    const double ratio = static_cast<double>(file_before) / static_cast<double>(file_after);
    page.facts.push_back({"Size of the file", bytes_text(file_after), number_text("%.2f times smaller", ratio)});
    page.measures = {size_measure("before", file_before, "after", file_after)};
    page.charts = {std::move(bits), std::move(sqnr)};
    write_report(page, o);
}

} // namespace quant_tool
