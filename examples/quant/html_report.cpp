// SPDX-License-Identifier: MIT
#include "html_report.hpp"

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

} // namespace quant_tool
