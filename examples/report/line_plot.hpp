// SPDX-License-Identifier: MIT
#pragma once
// Accuracy as lines over settings, as a self-contained SVG file.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace quant_report {

struct line_plot {
    struct place {
        double at = 0; ///< 0: the left edge, 1: the right one
        std::string label;
    };
    struct line {
        std::string name;
        std::vector<double> percents; ///< by place; NaN: no point
    };
    std::vector<place> places;
    std::vector<line> lines;
    std::string reference_name{}; ///< of the dashed line
    double reference = 0;         ///< percent
};

/// printf into a string.
template <class... Arguments> std::string formatted(const char* pattern, Arguments... arguments) {
    std::string text(static_cast<std::size_t>(std::snprintf(nullptr, 0, pattern, arguments...)), '\0');
    std::snprintf(text.data(), text.size() + 1, pattern, arguments...);
    return text;
}

/// Light and dark as the reader's screen is, no wider than the page it stands on. Names must be plain text: nothing is escaped.
[[nodiscard]] inline std::string as_svg(const line_plot& plot) {
    constexpr double left = 60, top = 20, width = 430, height = 260, name_width = 230;
    constexpr std::array colours{"#888888", "#2a7fc1", "#2c9c3c", "#d64541", "#9a6fc7", "#b0703f"};
    const auto x = [&](std::size_t place) { return left + plot.places[place].at * width; };
    const auto y = [&](double percent) { return top + height * (1.0 - percent / 100.0); };
    std::string lines, names;
    std::size_t named = 0;
    const auto name = [&](const std::string& text, const char* line) {
        const double at = left + name_width * static_cast<double>(named % 2);
        const double down = top + height + 50 + 20 * static_cast<double>(named / 2);
        names +=
            formatted("<path class=\"key\" %s d=\"M%g %g h20\"/><text class=\"name\" x=\"%g\" y=\"%g\">%s</text>\n",
                      line, at, down - 4, at + 26, down, text.c_str());
        ++named;
    };
    const char* const dashed = "stroke-dasharray=\"4 3\"";
    name(plot.reference_name, dashed);
    lines += formatted("<path class=\"reference\" %s d=\"M%g %g h%g\"/>\n", dashed, left, y(plot.reference), width);
    for (std::size_t l = 0; l < plot.lines.size(); ++l) {
        const std::string stroke = formatted("style=\"stroke:%s\"", colours[l % colours.size()]);
        std::string path, dots;
        for (std::size_t p = 0; p < plot.places.size(); ++p) {
            const double percent = plot.lines[l].percents[p];
            if (std::isnan(percent)) continue;
            const bool joined = p > 0 && !std::isnan(plot.lines[l].percents[p - 1]);
            path += formatted("%s%g %g", path.empty() ? "M" : joined ? " L" : " M", x(p), y(percent));
            dots += formatted("<circle cx=\"%g\" cy=\"%g\" r=\"2.5\" fill=\"%s\"/>\n", x(p), y(percent),
                              colours[l % colours.size()]);
        }
        if (path.empty()) continue;
        lines += formatted("<path class=\"line\" %s d=\"%s\"/>\n", stroke.c_str(), path.c_str()) + dots;
        name(plot.lines[l].name, stroke.c_str());
    }
    const double tall = top + height + 50 + 20 * static_cast<double>((named + 1) / 2);
    std::string svg = formatted(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 530 %g\" width=\"530\" style=\"max-width:100%%\" "
        "font-family=\"sans-serif\" font-size=\"13\">\n"
        "<style>.paper{fill:#fff}text{fill:#222}path{fill:none;stroke-width:2;stroke:#222}.grid{stroke:#ddd;stroke-"
        "width:1}\n"
        "@media(prefers-color-scheme:dark){.paper{fill:#16181c}text{fill:#ddd}path{stroke:#ddd}.grid{stroke:#444}}</"
        "style>\n"
        "<rect class=\"paper\" width=\"530\" height=\"%g\"/>\n",
        tall, tall);
    for (int percent = 0; percent <= 100; percent += 20)
        svg += formatted(
            "<path class=\"grid\" d=\"M%g %g h%g\"/><text x=\"%g\" y=\"%g\" text-anchor=\"end\">%d %%</text>\n", left,
            y(percent), width, left - 8, y(percent) + 4, percent);
    for (std::size_t p = 0; p < plot.places.size(); ++p)
        svg += formatted("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", x(p), top + height + 21,
                         plot.places[p].label.c_str());
    return svg + lines + names + "</svg>\n";
}

} // namespace quant_report
