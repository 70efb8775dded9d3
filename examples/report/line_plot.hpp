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

/// Names must be plain text: nothing is escaped.
[[nodiscard]] inline std::string as_svg(const line_plot& plot) {
    constexpr double left = 60, top = 20, width = 440, height = 260;
    constexpr std::array colours{"#888888", "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b"};
    const auto x = [&](std::size_t place) { return left + plot.places[place].at * width; };
    const auto y = [&](double percent) { return top + height * (1.0 - percent / 100.0); };
    std::string svg =
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"330\" font-family=\"sans-serif\" "
        "font-size=\"12\">\n<rect width=\"680\" height=\"330\" fill=\"white\"/>\n";
    for (int percent = 0; percent <= 100; percent += 20)
        svg += formatted(
            "<path d=\"M%g %g h%g\" stroke=\"#ddd\"/><text x=\"%g\" y=\"%g\" text-anchor=\"end\">%d %%</text>\n", left,
            y(percent), width, left - 8, y(percent) + 4, percent);
    for (std::size_t p = 0; p < plot.places.size(); ++p)
        svg += formatted("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", x(p), top + height + 18,
                         plot.places[p].label.c_str());
    svg += formatted("<path d=\"M%g %g h%g\" stroke=\"black\" stroke-dasharray=\"4 3\"/><text x=\"%g\" y=\"%g\">%s "
                     "(dashed)</text>\n",
                     left, y(plot.reference), width, left + width + 10, top + 40, plot.reference_name.c_str());
    for (std::size_t l = 0; l < plot.lines.size(); ++l) {
        const char* const colour = colours[l % colours.size()];
        std::string path, dots;
        for (std::size_t p = 0; p < plot.places.size(); ++p) {
            const double percent = plot.lines[l].percents[p];
            if (std::isnan(percent)) continue;
            const bool joined = p > 0 && !std::isnan(plot.lines[l].percents[p - 1]);
            path += formatted("%s%g %g", path.empty() ? "M" : joined ? " L" : " M", x(p), y(percent));
            dots += formatted("<circle cx=\"%g\" cy=\"%g\" r=\"2.5\" fill=\"%s\"/>\n", x(p), y(percent), colour);
        }
        if (path.empty()) continue;
        svg +=
            formatted("<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path.c_str(), colour) + dots;
        svg += formatted("<text x=\"%g\" y=\"%g\" fill=\"%s\">%s</text>\n", left + width + 10,
                         top + 60 + 20 * static_cast<double>(l), colour, plot.lines[l].name.c_str());
    }
    return svg + "</svg>\n";
}

} // namespace quant_report
