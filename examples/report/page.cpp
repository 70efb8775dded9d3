// SPDX-License-Identifier: MIT
#include "page.hpp"

#include "io/error.hpp"
#include "page_html.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <kainjow/mustache.hpp>
#include <stdexcept>

namespace quant_report {

namespace {

using kainjow::mustache::data;
using list = kainjow::mustache::data;

list make_list() { return list(data::type::list); }

std::string text(const char* format, double value) {
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}
/// Names come from files: without control characters, and of bounded length. What is not UTF-8 stays: a browser replaces it
/// byte by byte and never takes the character after it along.
std::string shown(const std::string& name) { return quant_tool::printable(name); }
std::string whole(const std::string& sentence) { return quant_tool::printable(sentence, sentence.size()); }

double percent_of(double part, double whole) { return whole > 0 ? std::clamp(100 * part / whole, 0.0, 100.0) : 0; }

void flagged(data& d, const char* name, list values) {
    d.set(std::string("any_") + name, values.is_non_empty_list());
    d.set(name, std::move(values));
}

list facts_of(const page& p) {
    auto out = make_list();
    for (const auto& f : p.facts) {
        data d;
        d.set("label", f.label);
        d.set("value", f.value);
        d.set("note", shown(f.note));
        out << d;
    }
    return out;
}

list measures_of(const page& p) {
    auto out = make_list();
    for (const auto& m : p.measures) {
        auto readings = make_list();
        for (const auto& r : m.readings) {
            data d;
            d.set("state", r.label);
            d.set("reading", r.text);
            d.set("length", text("%.2f", percent_of(r.value, m.full)));
            if (r.low <= r.high) { // neither is unknown
                data interval;
                interval.set("from", text("%.2f", percent_of(r.low, m.full)));
                interval.set("to", text("%.2f", percent_of(r.high, m.full)));
                d.set("interval", interval);
            }
            readings << d;
        }
        data d;
        d.set("measure", m.title);
        d.set("readings", readings);
        out << d;
    }
    return out;
}

/// The least of 1, 2, 5, 10, 20 ... that is not below x.
double round_step(double x) {
    const double power = std::pow(10.0, std::floor(std::log10(x)));
    for (const double digit : {1.0, 2.0, 5.0}) {
        if (digit * power >= x) {
            return digit * power;
        }
    }
    return 10 * power;
}

data chart_of(const chart& c, const page& p) {
    double least = 0, most = 0;
    for (const double v : c.values) {
        if (std::isfinite(v)) {
            least = std::min(least, v);
            most = std::max(most, v);
        }
    }
    const double step = most - least > 0 ? round_step((most - least) / 4) : 1;
    const double bottom = std::floor(least / step) * step, top = std::max(std::ceil(most / step), 1.0) * step;
    const auto y = [&](double v) { return 100 * (top - std::clamp(v, bottom, top)) / (top - bottom); };

    auto ticks = make_list();
    for (double v = bottom; v < top + step / 2; v += step) {
        data d;
        d.set("y", text("%.2f", y(v)));
        d.set("tick", text("%.4g", std::abs(v) < step / 2 ? 0 : v));
        ticks << d;
    }
    auto bars = make_list();
    const double slot = 100.0 / static_cast<double>(std::max<std::size_t>(c.values.size(), 1));
    for (std::size_t i = 0; i < std::min(c.values.size(), p.rows.size()); ++i) {
        const double v = c.values[i];
        if (std::isnan(v)) {
            continue;
        }
        const double from = y(std::max(v, 0.0)), to = y(std::min(v, 0.0));
        data d;
        d.set("id", std::to_string(i));
        d.set("pictured", p.rows[i].drawn.has_value());
        d.set("kind", std::isinf(v) ? "full" : "some");
        d.set("x", text("%.3f", (static_cast<double>(i) + 0.1) * slot));
        d.set("w", text("%.3f", 0.8 * slot));
        d.set("y", text("%.2f", from));
        d.set("h", text("%.2f", to - from));
        d.set("hint", shown(p.rows[i].name) + ": " + (std::isinf(v) ? "exact" : text("%.4g ", v) + c.unit));
        bars << d;
    }
    data out;
    out.set("chart", c.title);
    out.set("width", text("%.1f", 3 + 1.5 * static_cast<double>(c.values.size()))); // no bar wider than a line is high
    out.set("ticks", ticks);
    out.set("bars", bars);
    return out;
}

// A picture is drawn on 1000 x 104 units, stretched to the width there is: bars down to 96, levels below them.

std::string outline(const histogram& h, double most, double low, double unit) {
    const auto x = [&](std::size_t bin) { return (h.first + static_cast<double>(bin) * h.width - low) * unit; };
    std::string out = text("M%.1f 96", x(0));
    std::string before = "96.0";
    for (std::size_t i = 0; i < h.counts.size(); ++i) {
        const auto y = text("%.1f", 96 - 92 * std::sqrt(static_cast<double>(h.counts[i]) / most));
        if (y != before) {
            out += text("H%.1f", x(i)) + "V" + y;
            before = y;
        }
    }
    return out + text("H%.1f", x(h.counts.size())) + "V96";
}

data picture_of(const picture& drawn) {
    const auto& h = drawn.values;
    double low = h.first, high = h.first + static_cast<double>(h.counts.size()) * h.width;
    if (drawn.codes) {
        low = std::min(low, drawn.codes->lowest);
        high = std::max(high, drawn.codes->highest);
    }
    const double unit = 1000 / (high - low);
    std::uint64_t most = 1;
    for (const auto* counts : {&h.counts, drawn.others ? &drawn.others->counts : &h.counts}) {
        for (const auto n : *counts) {
            most = std::max(most, n);
        }
    }
    const auto scale = static_cast<double>(most);
    data out;
    out.set("values", outline(h, scale, low, unit));
    if (drawn.others) {
        data others;
        others.set("others", outline(*drawn.others, scale, low, unit));
        out.set("others", others);
    }
    if (const auto& codes = drawn.codes) {
        const auto line = [&](double value) { return text("M%.1f 0V104", (value - low) * unit); };
        data clips;
        std::string levels;
        for (const double value : codes->levels) {
            levels += text("M%.1f 97V104", (value - low) * unit);
        }
        if (levels.empty()) {
            levels = text("M%.1f 100", (codes->low - low) * unit) + text("H%.1f", (codes->high - low) * unit);
        }
        clips.set("levels", levels);
        if (codes->slices > 1) {
            data widest;
            widest.set("widest", line(codes->lowest) + line(codes->highest));
            clips.set("widest", widest);
        }
        clips.set("clip", line(codes->low) + line(codes->high));
        out.set("clips", clips);
    }
    auto marks = make_list();
    const auto mark = [&](double at, const char* anchor, double value) {
        data d;
        d.set("x", text("%.2f", at));
        d.set("anchor", anchor);
        d.set("mark", text("%.3g", value));
        marks << d;
    };
    mark(0, "start", low);
    if (const double zero = -low * unit / 10; zero > 25 && zero < 75) { // else it would meet the others
        mark(zero, "middle", 0);
    }
    mark(100, "end", high);
    out.set("marks", marks);
    return out;
}

std::string sort_key(double key) {
    return std::isnan(key) ? "" : std::isinf(key) ? (key > 0 ? "Infinity" : "-Infinity") : text("%.9g", key);
}

} // namespace

std::string render(const page& p) {
    data d;
    for (const auto& [key, value] :
         {std::pair("title", p.title), std::pair("subject", shown(p.subject)), std::pair("command", whole(p.command)),
          std::pair("made_by", p.made_by), std::pair("row_name", p.row_name), std::pair("rows_title", p.rows_title),
          std::pair("values_are", p.values_are), std::pair("others_are", p.others_are)}) {
        d.set(key, value);
    }
    flagged(d, "facts", facts_of(p));
    flagged(d, "measures", measures_of(p));
    auto charts = make_list();
    for (const auto& c : p.charts) {
        if (std::any_of(c.values.begin(), c.values.end(), [](double v) { return !std::isnan(v); })) {
            charts << chart_of(c, p);
        }
    }
    flagged(d, "charts", charts);

    auto columns = make_list();
    for (std::size_t c = 0; c < p.columns.size(); ++c) {
        data column;
        column.set("column", p.columns[c].title);
        column.set("align", p.columns[c].is_number ? "number" : "text");
        column.set("index", std::to_string(c + 1));
        columns << column;
    }
    d.set("columns", columns);
    auto rows = make_list(), pictures = make_list();
    bool any_others = false, any_clips = false, any_slices = false;
    for (std::size_t i = 0; i < p.rows.size(); ++i) {
        const auto& r = p.rows[i];
        auto cells = make_list();
        for (std::size_t c = 0; c < std::min(r.cells.size(), p.columns.size()); ++c) {
            data cell;
            cell.set("align", p.columns[c].is_number ? "number" : "text");
            cell.set("column", p.columns[c].title);
            cell.set("key", sort_key(r.cells[c].key));
            cell.set("text", whole(r.cells[c].text));
            cells << cell;
        }
        data row;
        row.set("id", std::to_string(i));
        row.set("name", shown(r.name));
        row.set("cells", cells);
        row.set("pictured", r.drawn.has_value());
        rows << row;
        if (r.drawn) {
            auto drawn = picture_of(*r.drawn);
            drawn.set("id", std::to_string(i));
            drawn.set("name", shown(r.name));
            drawn.set("caption", whole(r.caption));
            pictures << drawn;
            any_others = any_others || r.drawn->others;
            any_clips = any_clips || r.drawn->codes;
            any_slices = any_slices || (r.drawn->codes && r.drawn->codes->slices > 1);
        }
    }
    d.set("many", p.rows.size() > 12);
    d.set("any_others", any_others);
    d.set("any_clips", any_clips);
    d.set("any_slices", any_slices);
    flagged(d, "rows", rows);
    flagged(d, "pictures", pictures);
    auto notes = make_list();
    for (const auto& n : p.notes) {
        data note;
        note.set("text", whole(n));
        notes << note;
    }
    flagged(d, "notes", notes);

    kainjow::mustache::mustache page_template{page_html};
    auto out = page_template.render(d);
    if (!page_template.is_valid()) {
        throw std::logic_error("page.html: " + page_template.error_message());
    }
    return out;
}

} // namespace quant_report
