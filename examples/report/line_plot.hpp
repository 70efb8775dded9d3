// SPDX-License-Identifier: MIT
#pragma once
// Lines over two axes, as a self-contained SVG file.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace quant_report {

struct line_plot {
    struct mark {
        double at = 0;
        std::string label;
    };
    struct axis {
        double low = 0, high = 1;
        std::vector<mark> marks{};
        std::string title{};
    };
    enum class stroke : std::uint8_t {
        solid,
        dashed,
        reference, ///< dashed, without dots and without a colour of its own
    };
    struct line {
        std::string name;
        std::vector<std::pair<double, double>> points{}; ///< a gap where one is NaN or outside the axes
        stroke drawn = stroke::solid;
        bool dots = true;
    };
    axis x, y;
    std::vector<line> lines{};
};

/// printf into a string.
template <class... Arguments> std::string formatted(const char* pattern, Arguments... arguments) {
    std::string text(static_cast<std::size_t>(std::snprintf(nullptr, 0, pattern, arguments...)), '\0');
    std::snprintf(text.data(), text.size() + 1, pattern, arguments...);
    return text;
}

/// An axis of numbers with a mark every `step`; `pattern` takes a double.
[[nodiscard]] inline line_plot::axis number_axis(double low, double high, double step, std::string title = {},
                                                 const char* pattern = "%g") {
    line_plot::axis a{low, high, {}, std::move(title)};
    const long marks = std::lround(std::floor((high - low) / step + 1e-9));
    for (long i = 0; i <= marks; ++i) {
        const double at = low + static_cast<double>(i) * step;
        a.marks.push_back({at, formatted(pattern, at)});
    }
    return a;
}

/// The line of one value, from side to side.
[[nodiscard]] inline line_plot::line level(const line_plot& plot, std::string name, double value) {
    return {std::move(name), {{plot.x.low, value}, {plot.x.high, value}}, line_plot::stroke::reference, false};
}

/// Light and dark as the reader's screen is, no wider than the page it stands on. Names must be plain text: nothing is escaped.
[[nodiscard]] inline std::string as_svg(const line_plot& plot) {
    constexpr double left = 60, top = 20, width = 430, height = 260, name_width = 230;
    constexpr std::array colours{"#888888", "#2a7fc1", "#2c9c3c", "#d64541", "#9a6fc7",
                                 "#b0703f", "#c75c9c", "#1a9aa8", "#9a9a20", "#e08030"};
    const auto inside = [](const line_plot::axis& a, double v) { return v >= a.low && v <= a.high; };
    const auto x = [&](double v) { return left + width * (v - plot.x.low) / (plot.x.high - plot.x.low); };
    const auto y = [&](double v) { return top + height * (plot.y.high - v) / (plot.y.high - plot.y.low); };
    const double names_top = top + height + (plot.x.title.empty() ? 50 : 70);
    std::string lines, names;
    std::size_t named = 0, coloured = 0;
    for (const line_plot::line& line : plot.lines) {
        const bool reference = line.drawn == line_plot::stroke::reference;
        const char* const colour = colours[coloured % colours.size()];
        std::string path, dots;
        bool joined = false;
        for (const auto& [px, py] : line.points) {
            const bool drawn = inside(plot.x, px) && inside(plot.y, py);
            if (drawn) path += formatted("%s%g %g", path.empty() ? "M" : joined ? " L" : " M", x(px), y(py));
            if (drawn && line.dots)
                dots += formatted("<circle cx=\"%g\" cy=\"%g\" r=\"2.5\" fill=\"%s\"/>\n", x(px), y(py), colour);
            joined = drawn;
        }
        if (path.empty()) continue;
        std::string style = line.drawn == line_plot::stroke::solid ? "" : "stroke-dasharray=\"4 3\"";
        if (!reference) {
            style += formatted(" style=\"stroke:%s\"", colour);
            ++coloured;
        }
        lines += formatted("<path class=\"%s\" %s d=\"%s\"/>\n", reference ? "reference" : "line", style.c_str(),
                           path.c_str()) +
                 dots;
        const double at = left + name_width * static_cast<double>(named % 2);
        const double down = names_top + 20 * static_cast<double>(named / 2);
        names +=
            formatted("<path class=\"key\" %s d=\"M%g %g h20\"/><text class=\"name\" x=\"%g\" y=\"%g\">%s</text>\n",
                      style.c_str(), at, down - 4, at + 26, down, line.name.c_str());
        ++named;
    }
    const double tall = names_top + 20 * static_cast<double>((named + 1) / 2);
    std::string svg = formatted(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 530 %g\" width=\"530\" style=\"max-width:100%%\" "
        "font-family=\"sans-serif\" font-size=\"13\">\n"
        "<style>.paper{fill:#fff}text{fill:#222}path{fill:none;stroke-width:2;stroke:#222}.grid{stroke:#ddd;stroke-"
        "width:1}\n"
        "@media(prefers-color-scheme:dark){.paper{fill:#16181c}text{fill:#ddd}path{stroke:#ddd}.grid{stroke:#444}}</"
        "style>\n"
        "<rect class=\"paper\" width=\"530\" height=\"%g\"/>\n",
        tall, tall);
    for (const line_plot::mark& m : plot.y.marks)
        svg +=
            formatted("<path class=\"grid\" d=\"M%g %g h%g\"/><text x=\"%g\" y=\"%g\" text-anchor=\"end\">%s</text>\n",
                      left, y(m.at), width, left - 8, y(m.at) + 4, m.label.c_str());
    for (const line_plot::mark& m : plot.x.marks)
        svg += formatted("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", x(m.at), top + height + 21,
                         m.label.c_str());
    if (!plot.x.title.empty())
        svg += formatted("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", left + width / 2,
                         top + height + 43, plot.x.title.c_str());
    if (!plot.y.title.empty())
        svg += formatted("<text transform=\"translate(16 %g) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
                         top + height / 2, plot.y.title.c_str());
    return svg + lines + names + "</svg>\n";
}

} // namespace quant_report
