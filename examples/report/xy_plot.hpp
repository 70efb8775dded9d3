// SPDX-License-Identifier: MIT
#pragma once
// Lines over two axes of numbers, as a self-contained SVG file.

#include "line_plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace quant_report {

struct xy_plot {
    struct axis {
        std::string title;
        double low = 0, high = 1, step = 1; ///< a mark every `step` from `low` on
    };
    struct line {
        std::string name;
        std::vector<std::pair<double, double>> points; ///< what lies outside the axes is not drawn
        bool dashed = false, dots = true;
    };
    axis x, y;
    std::vector<line> lines;
};

/// Names must be plain text: nothing is escaped.
[[nodiscard]] inline std::string as_svg(const xy_plot& plot) {
    constexpr double left = 64, top = 16, width = 440, height = 280;
    constexpr std::array colours{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b",
                                 "#e377c2", "#17becf", "#bcbd22", "#ff7f0e", "#7f7f7f"};
    const auto x = [&](double v) { return left + width * (v - plot.x.low) / (plot.x.high - plot.x.low); };
    const auto y = [&](double v) { return top + height * (plot.y.high - v) / (plot.y.high - plot.y.low); };
    std::string svg =
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"350\" font-family=\"sans-serif\" "
        "font-size=\"12\">\n<rect width=\"760\" height=\"350\" fill=\"white\"/>\n";
    const auto marks = [](const xy_plot::axis& a) { return std::lround(std::floor((a.high - a.low) / a.step + 1e-9)); };
    for (long i = 0; i <= marks(plot.y); ++i) {
        const double v = plot.y.low + static_cast<double>(i) * plot.y.step;
        svg +=
            formatted("<path d=\"M%g %g h%g\" stroke=\"#ddd\"/><text x=\"%g\" y=\"%g\" text-anchor=\"end\">%g</text>\n",
                      left, y(v), width, left - 8, y(v) + 4, v);
    }
    for (long i = 0; i <= marks(plot.x); ++i) {
        const double v = plot.x.low + static_cast<double>(i) * plot.x.step;
        svg += formatted(
            "<path d=\"M%g %g v%g\" stroke=\"#eee\"/><text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%g</text>\n", x(v),
            top, height, x(v), top + height + 18, v);
    }
    svg += formatted("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", left + width / 2, top + height + 40,
                     plot.x.title.c_str());
    svg += formatted("<text transform=\"translate(16 %g) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
                     top + height / 2, plot.y.title.c_str());
    for (std::size_t l = 0; l < plot.lines.size(); ++l) {
        const xy_plot::line& line = plot.lines[l];
        const char* const colour = colours[l % colours.size()];
        std::string path, dots;
        bool joined = false;
        for (const auto& [px, py] : line.points) {
            const bool inside = px >= plot.x.low && px <= plot.x.high && py >= plot.y.low && py <= plot.y.high;
            if (inside) path += formatted("%s%g %g", joined ? " L" : " M", x(px), y(py));
            if (inside && line.dots)
                dots += formatted("<circle cx=\"%g\" cy=\"%g\" r=\"3\" fill=\"%s\"/>\n", x(px), y(py), colour);
            joined = inside;
        }
        svg += formatted("<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", path.c_str(), colour,
                         line.dashed ? " stroke-dasharray=\"5 3\"" : "") +
               dots;
        svg += formatted("<text x=\"%g\" y=\"%g\" fill=\"%s\">%s</text>\n", left + width + 12,
                         top + 12 + 20 * static_cast<double>(l), colour, line.name.c_str());
    }
    return svg + "</svg>\n";
}

} // namespace quant_report
