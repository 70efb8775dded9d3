// SPDX-License-Identifier: MIT
#include "tables.hpp"

#include "../engine/fake_quantization.hpp"
#include "../report/line_plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace networks {

namespace {

using quant_report::formatted;

constexpr std::array columns{engine::method::min_max, engine::method::aciq, engine::method::bit_allocation,
                             engine::method::bias_correction, engine::method::all};

struct widths {
    unsigned weights, activations;
};
constexpr std::array<widths, 8> all_widths{{{8, 8}, {8, 4}, {4, 8}, {4, 4}, {3, 8}, {8, 3}, {3, 3}, {2, 8}}};

std::string name_of(widths w) { return formatted("%uW%uA", w.weights, w.activations); }

std::string line_of(const std::vector<std::string>& cells) {
    std::string out = "|";
    for (const std::string& c : cells) out += " " + c + " |";
    return out + "\n";
}
std::string header_of(const std::vector<std::string>& cells) {
    std::string out = line_of(cells) + "|---|";
    for (std::size_t c = 1; c < cells.size(); ++c) out += "---:|";
    return out + "\n";
}

const row* find(const chapter& c, setting s, std::string_view method, widths w, bool exempt = false) {
    for (const row& r : c.rows)
        if (r.setting == s && r.method == method && r.weight_bits == w.weights && r.activation_bits == w.activations &&
            r.exempt == exempt)
            return &r;
    return nullptr;
}
const row* reference_of(const chapter& c) { return find(c, setting::reference, "float", {32, 32}); }

/// ONNX Runtime's best of a width of weights.
const row* best_peer(const chapter& c, unsigned weight_bits) {
    const row* best = nullptr;
    for (const row& r : c.rows)
        if (r.setting == setting::peer && r.weight_bits == weight_bits && r.note.empty() &&
            (best == nullptr || r.top1 > best->top1))
            best = &r;
    return best;
}

std::string paper_table(const chapter& c, setting s) {
    std::vector<std::string> head{""};
    for (const auto m : columns) head.emplace_back(engine::name_of(m));
    std::string out = header_of(head);
    for (const bool exempt : {false, true})
        for (const widths w : all_widths) {
            std::vector<std::string> cells{name_of(w) + (exempt ? ", ends at 8 bits" : "")};
            bool any = false;
            for (const auto m : columns) {
                const row* const r = find(c, s, engine::name_of(m), w, exempt);
                any = any || r != nullptr;
                const bool impossible = s == setting::integers && m == engine::method::bit_allocation;
                cells.push_back(r != nullptr ? accuracy_text(*r, reference_of(c)) : impossible ? "-" : "");
            }
            if (any) out += line_of(cells);
        }
    return out;
}

std::string own_table(const chapter& c) {
    std::size_t weights = 0;
    for (const layer_row& l : c.layers) weights += l.weights;
    std::string out = header_of(
        {"", "bits", "bits per weight", "KB of weights", "top-1 %", "lost, gained", "p", "ONNX Runtime's best"});
    for (const row& r : c.rows) {
        if (r.setting != setting::beyond && r.setting != setting::peer) continue;
        std::vector<std::string> cells{(r.setting == setting::peer ? "ONNX Runtime, " : "") + r.method,
                                       name_of({r.weight_bits, r.activation_bits}) +
                                           (r.exempt ? ", ends at 8 bits" : "")};
        if (!r.note.empty()) {
            out += line_of({cells[0], cells[1], "", "", "refused: " + r.note, "", "", ""});
            continue;
        }
        const difference d = compare(*reference_of(c), r);
        const row* const peer = r.setting == setting::beyond && !r.exempt ? best_peer(c, r.weight_bits) : nullptr;
        std::string against;
        if (peer != nullptr) {
            const difference e = compare(*peer, r);
            against = formatted("%+.1f (p = %.2g)", 0.0 - e.points, e.p);
        }
        cells.insert(cells.end(),
                     {formatted("%.2f", r.mean_weight_bits),
                      weights == 0 ? "" : formatted("%.1f", static_cast<double>(weights) * r.mean_weight_bits / 8000.0),
                      accuracy_text(r, reference_of(c)), formatted("-%zu +%zu", d.lost, d.gained),
                      formatted("%.2g", d.p), against});
        out += line_of(cells);
    }
    return out;
}

std::string layer_table(const chapter& c) {
    std::vector<layer_row> worst = c.layers;
    const std::size_t shown = std::min<std::size_t>(worst.size(), 5);
    std::sort(worst.begin(), worst.end(),
              [](const layer_row& a, const layer_row& b) { return a.value_sqnr < b.value_sqnr; });
    std::string lowest;
    for (std::size_t i = 0; i < shown; ++i)
        lowest += formatted("%s%s (%.1f dB)", i == 0 ? "" : ", ", worst[i].layer.c_str(), worst[i].value_sqnr);
    std::sort(worst.begin(), worst.end(),
              [](const layer_row& a, const layer_row& b) { return a.own_sqnr < b.own_sqnr; });
    std::string out =
        header_of({"worst layers", "weights", "its weights, dB", "outputs if it alone has 4 bits, dB", "width given"});
    for (std::size_t i = 0; i < shown; ++i)
        out += line_of({worst[i].layer, std::to_string(worst[i].weights), formatted("%.1f", worst[i].weight_sqnr),
                        formatted("%.1f", worst[i].own_sqnr), std::to_string(worst[i].width)});
    return out + "\nFarthest from float along the 4W4A network with widths by layer, before fitting: " + lowest + ".\n";
}

/// What a row loses against float, and whether that is within a goal.
std::string verdict(const row* r, const row* reference, double allowed) {
    if (r == nullptr || reference == nullptr) return "";
    const difference d = compare(*reference, *r);
    const bool within = d.points <= allowed + 1e-9;
    return formatted("%+.1f%s", 0.0 - d.points,
                     within        ? ""
                     : d.p >= 0.05 ? formatted(" (within chance, p = %.2g)", d.p).c_str()
                                   : " **missed**");
}

std::string summary(std::span<const chapter> chapters) {
    std::string out = header_of({"points against float", "float %", "8W8A", "4W8A", "the same, widths by layer", "4W4A",
                                 "the same, widths by layer", "and sums and linear outputs at 8 bits",
                                 "4W4A, authors' setting", "8W: ours less ONNX Runtime's best", "4W: the same"});
    for (const chapter& c : chapters) {
        const row* const reference = reference_of(c);
        if (reference == nullptr) continue;
        const auto own = [&](widths w, const char* method) { return find(c, setting::beyond, method, w); };
        const auto against = [&](const row* r, unsigned bits) -> std::string {
            const row* const peer = best_peer(c, bits);
            if (r == nullptr || peer == nullptr) return "";
            const difference d = compare(*peer, *r);
            return formatted("%+.1f (p = %.2g)", 0.0 - d.points, d.p);
        };
        const row *const eight = own({8, 8}, fitted), *const four = own({4, 8}, fitted);
        const auto at_4w4a = [&](const row* r) { return verdict(r, reference, c.about->gap_4w4a); };
        out += line_of({c.about->title, formatted("%.2f", reference->percent()), verdict(eight, reference, 0.5),
                        verdict(four, reference, 1.5), verdict(own({4, 8}, allocated), reference, 1.5),
                        at_4w4a(own({4, 4}, fitted)), at_4w4a(own({4, 4}, allocated)), at_4w4a(own({4, 4}, finer_sums)),
                        at_4w4a(find(c, setting::authors, "all", {4, 4})), against(eight, 8), against(four, 4)});
    }
    return out;
}

} // namespace

std::string accuracy_text(const row& r, const row* reference) {
    const auto [low, high] = evaluation::confidence_interval(r.top1, r.samples);
    const bool differs = reference != nullptr && compare(*reference, r).p < 0.05;
    return formatted("%.1f (%.1f-%.1f)%s", r.percent(), low, high, differs ? "\\*" : "");
}

chapter make_chapter(const subject& s, std::vector<row> rows, std::vector<layer_row> layers) {
    chapter c{&s, std::move(rows), std::move(layers), {}};
    for (row& r : c.rows) {
        if (r.setting == setting::reference) {
            c.documented = r;
            r.right.resize(std::min(r.right.size(), c.rows.back().samples));
            r.samples = r.right.size();
        }
        r = without_first(std::move(r), s.calibration == nullptr ? s.calibrated : 0);
    }
    return c;
}

std::string as_markdown(std::span<const chapter> chapters) {
    std::string out =
        "# Networks at few bits\n\nTop-1 in percent, in brackets Wilson's 95 % interval. \\*: not the accuracy of "
        "float, p < 0.05 in the "
        "paired exact sign test.\n\n## Goals\n\n" +
        summary(chapters) +
        "\nOurs: integers, equalized and fitted, one width for all layers unless said. Allowed: 0.5 points at 8W8A, "
        "1.5 at 4W8A, "
        "2.7 at 4W4A (6 for MobileNet v2).\n";
    for (const chapter& c : chapters) {
        const row* const reference = reference_of(c);
        if (reference == nullptr) continue;
        const row& all = c.documented;
        out += formatted("\n## %s\n\nFloat: %zu of %zu right, %.2f %%", c.about->title, all.top1, all.samples,
                         all.percent());
        if (c.about->top5 != 0)
            out += formatted("; among the first five %.1f %%",
                             100.0 * static_cast<double>(all.top5) / static_cast<double>(all.samples));
        out += formatted(": as the data's README says. The rows below: %zu samples", reference->samples);
        if (c.about->calibration == nullptr) out += formatted(" (the first %zu calibrate)", c.about->calibrated);
        out += formatted(", of which float has %.2f %%", reference->percent());
        out +=
            ".\n\nAuthors' setting (float arithmetic, rounded weights and outputs, a range per channel and "
            "batch):\n\n" +
            paper_table(c, setting::authors) +
            "\nTrue-integer setting (the same methods; a range per tensor from calibration, sums rounded again):\n\n" +
            paper_table(c, setting::integers);
        out += "\nBeyond the paper (integers), and ONNX Runtime:\n\n" + own_table(c);
        if (!c.layers.empty()) out += "\n" + layer_table(c);
    }
    return out + "\n-: a width per channel of an activation needs another scale inside the integer sum; widths by "
                 "layer stand "
                 "under \"beyond the paper\".\n";
}

std::string as_svg(const chapter& c) {
    const row* const reference = reference_of(c);
    quant_report::line_plot plot{{}, quant_report::number_axis(0, 100, 20, {}, "%g %%")};
    if (reference != nullptr) plot.lines.push_back(level(plot, "float", reference->percent()));
    constexpr std::array<widths, 6> shown{{{8, 8}, {8, 4}, {4, 8}, {4, 4}, {3, 8}, {3, 3}}};
    for (std::size_t p = 0; p < shown.size(); ++p)
        plot.x.marks.push_back({static_cast<double>(p) / (shown.size() - 1.0), name_of(shown[p])});
    struct shown_line {
        const char* name;
        setting where;
        const char* method;
    };
    for (const auto& [name, where, method] :
         std::array<shown_line, 6>{{{"authors' setting, min-max", setting::authors, "min-max"},
                                    {"authors' setting, all", setting::authors, "all"},
                                    {"integers, min-max", setting::integers, "min-max"},
                                    {"integers, all", setting::integers, "all"},
                                    {"beyond the paper", setting::beyond, fitted},
                                    {"ONNX Runtime", setting::peer, "min-max"}}}) {
        quant_report::line_plot::line line{name};
        for (std::size_t p = 0; p < shown.size(); ++p) {
            const row* r = find(c, where, method, shown[p]);
            if (r == nullptr && where == setting::beyond) r = find(c, where, clipped, shown[p]);
            line.points.emplace_back(plot.x.marks[p].at, r != nullptr && r->note.empty()
                                                             ? r->percent()
                                                             : std::numeric_limits<double>::quiet_NaN());
        }
        plot.lines.push_back(std::move(line));
    }
    return quant_report::as_svg(plot);
}

} // namespace networks
