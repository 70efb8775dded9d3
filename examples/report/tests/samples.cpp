// SPDX-License-Identifier: MIT
// Writes pages for look.py to look at: every part of a page in use, names made to break it, hundreds of rows, none.
//
// report_samples DIRECTORY

#include "../line_plot.hpp"
#include "../page.hpp"

#include <cmath>
#include <fstream>
#include <limits>

namespace {

using namespace quant_report;

std::string number(double value, const char* format) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}

/// Counts of a two-sided exponential of this spread, and codes for it.
picture laplace(double spread, int bits, std::size_t slices) {
    picture out;
    auto& h = out.values;
    h.first = -8 * spread;
    h.width = 16 * spread / static_cast<double>(max_bins);
    for (std::size_t i = 0; i < max_bins; ++i) {
        const double x = h.first + (static_cast<double>(i) + 0.5) * h.width;
        h.counts.push_back(static_cast<std::uint64_t>(5000 * std::exp(-std::abs(x) / spread)));
    }
    code_range c;
    const double step = 10 * spread / std::exp2(bits);
    c.low = -step * std::exp2(bits - 1);
    c.high = step * (std::exp2(bits - 1) - 1);
    c.lowest = slices > 1 ? 1.4 * c.low : c.low;
    c.highest = slices > 1 ? 1.4 * c.high : c.high;
    c.slices = slices;
    for (double x = c.low; x <= c.high + step / 2 && bits <= 6; x += step) {
        c.levels.push_back(x);
    }
    out.codes = c;
    return out;
}

page sample(const std::vector<std::string>& names) {
    page p;
    p.title = "Quantized";
    p.subject = "network.safetensors";
    p.command = "quant quantize network.safetensors -o 'out </script><script>bad()</script>.safetensors' --bits 4";
    p.made_by = "quant";
    p.facts = {{"Average bits", "4.02", std::to_string(names.size()) + " tensors"}, {"Lowest SQNR", "11.52 dB", ""}};
    p.measures = {
        {"Top-1 accuracy", 100, {{"float", "81.12 %", 81.12, 80.3, 81.9}, {"4 bits", "79.9 %", 79.9, 79.1, 80.6}}},
        {"Size", 1.0, {{"before", "94.2 MiB", 1.0}, {"after", "12.1 MiB", 0.128}}}};
    p.columns = {{"shape", false}, {"bits"}, {"clip"}, {"SQNR dB"}, {"before"}, {"after"}};
    chart bits{"Bits by tensor", "bits", {}}, sqnr{"SQNR by tensor", "dB", {}};
    for (std::size_t i = 0; i < names.size(); ++i) {
        const int width = 2 + static_cast<int>(i * 5 % 7);
        const double spread = 0.01 * static_cast<double>(i % 9 + 1), noise = 6.02 * width - 8;
        row r;
        r.name = names[i];
        r.cells = {{"64x32x3x3"},
                   {std::to_string(width), static_cast<double>(width)},
                   {number(5 * spread, "%.3g"), 5 * spread},
                   {number(noise, "%.2f"), noise},
                   {"72.0 KiB", 73728},
                   {number(9.0 * width, "%.1f KiB"), 9216.0 * width}};
        r.caption = std::to_string(width) + " bits";
        if (i % 5 != 4) {
            r.drawn = laplace(spread, width, i % 2 == 0 ? 64 : 1);
            if (i % 3 == 0) {
                r.drawn->others = r.drawn->values;
            }
        } else {
            r.cells[3] = {"exact", std::numeric_limits<double>::infinity()};
        }
        bits.values.push_back(i % 5 == 3 ? unknown : width);
        sqnr.values.push_back(r.cells[3].key);
        p.rows.push_back(std::move(r));
    }
    p.charts = {bits, sqnr};
    p.others_are = "values after quantization";
    p.notes = {"A note with <b>markup</b> & an ampersand."};
    return p;
}

} // namespace

int main(int, char** argv) {
    const std::string directory = argv[1];
    const auto write = [&](const char* name, const page& p) {
        std::ofstream(directory + "/" + name, std::ios::binary) << render(p);
    };
    write("empty.html", sample({}));
    write("hostile.html", sample({"conv1.weight", "</script><script>bad()</script>", "<img src=x onerror=bad()>",
                                  "{{command}}{{{title}}}", "\"'><b>&amp;", std::string(500, 'w'), "layer with spaces",
                                  "\xd8\xb9\xd8\xb1\xd8\xa8\xd9\x8a\xd8\xa9", "not UTF-8: \xff\xc3<i>",
                                  std::string("zero\0byte\n\x1b[31m", 15),
                                  "\xe2\x80\xae"
                                  "override",
                                  "a", "b"}));
    std::vector<std::string> many;
    for (int i = 0; i < 400; ++i) {
        many.push_back("model.layers." + std::to_string(i) + ".self_attention.query_projection.weight");
    }
    write("many.html", sample(many));

    const double nan = std::numeric_limits<double>::quiet_NaN();
    line_plot lines{{0, 5, {{0, "8W8A"}, {1, "8W4A"}, {2, "4W8A"}, {3, "4W4A"}, {4, "3W8A"}, {5, "3W3A"}}},
                    number_axis(0, 100, 20, {}, "%g %%")};
    lines.lines = {
        level(lines, "float32", 99.1),
        {"authors' setting, min-max", {{0, 99.2}, {1, 98.9}, {2, 99.1}, {3, 99}, {4, 98.8}, {5, 98.4}}},
        {"authors' setting, all", {{0, nan}, {1, 99.2}, {2, 99.2}, {3, 98.9}, {4, 98.7}, {5, 98.4}}},
        {"integers, min-max", {{0, 99.2}, {1, 0}, {2, nan}, {3, 100}, {4, nan}, {5, 5}}},
        {"never drawn", {{0, nan}, {1, nan}}},
        {"least squared error + bias correction", {{1, 99.2}, {2, nan}, {4, 98.7}, {5, 98.4}}},
    };
    std::ofstream(directory + "/lines.svg") << as_svg(lines);

    line_plot numbers{number_axis(1, 8, 1, "stored bits per weight"), number_axis(88, 98, 2, "right answers, %")};
    numbers.lines = {{"learned step", {{2, 90}, {3, 96}, {4, 97}}, line_plot::stroke::dashed},
                     {"below the axes", {{2, 50}, {3, 95}, {9, 96}}},
                     level(numbers, "float", 97)};
    std::ofstream(directory + "/numbers.svg") << as_svg(numbers);
}
