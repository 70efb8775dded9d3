// SPDX-License-Identifier: MIT
#pragma once

// The ablation's results as text, Markdown, CSV, JSON and a plot.

#include "../nn/confidence.hpp"
#include "../report/line_plot.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace digits {

/// One quantized network (or the float one) on the unseen images.
struct row {
    std::string method;
    unsigned bits = 32;                                ///< asked for: the average width
    double weight_bits = 32.0, activation_bits = 32.0; ///< used, mean over the elements
    std::size_t correct = 0, images = 0;
    std::size_t lost = 0, gained = 0; ///< images right with float32 and wrong here, and the reverse
    double logit_sqnr = 0.0;          ///< of the outputs, float32 against these, in dB
    std::size_t bytes = 0;            ///< packed codes, parameters and biases
    double seconds = 0.0;             ///< to quantize the weights and choose all parameters

    double accuracy() const { return 100.0 * static_cast<double>(correct) / static_cast<double>(images); }
};

struct report {
    std::string setting; ///< one sentence
    row reference;       ///< float32
    std::vector<row> rows;
};

namespace detail {

using quant_report::formatted;

inline constexpr std::array<std::string_view, 10> columns{"bits", "method",      "weights",   "activations", "accuracy",
                                                          "95 %", "lost/gained", "logits dB", "bytes",       "seconds"};
using cells = std::array<std::string, columns.size()>;

inline cells cells_of(const row& r) {
    const auto [lo, hi] = nn::confidence_interval(r.correct, r.images);
    const bool reference = r.bits == 32;
    return {formatted("%u", r.bits),
            r.method,
            formatted("%.2f", r.weight_bits),
            formatted("%.2f", r.activation_bits),
            formatted("%.1f %%", r.accuracy()),
            formatted("%.1f-%.1f", lo, hi),
            reference ? "" : formatted("-%zu +%zu", r.lost, r.gained),
            reference ? "" : formatted("%.1f", r.logit_sqnr),
            formatted("%zu", r.bytes),
            reference ? "" : formatted("%.3f", r.seconds)};
}

inline std::vector<cells> all_cells(const report& r) {
    std::vector<cells> table{cells_of(r.reference)};
    for (const row& one : r.rows) table.push_back(cells_of(one));
    return table;
}

inline std::string table(const report& r, bool markdown) {
    const std::vector<cells> body = all_cells(r);
    std::array<std::size_t, columns.size()> width{};
    for (std::size_t c = 0; c < columns.size(); ++c) {
        width[c] = columns[c].size();
        for (const cells& line : body) width[c] = std::max(width[c], line[c].size());
    }
    const auto line = [&](const auto& cell) {
        std::string text = markdown ? "|" : "";
        for (std::size_t c = 0; c < columns.size(); ++c) {
            const std::string pad(width[c] - cell[c].size(), ' ');
            const std::string padded = c == 1 ? std::string(cell[c]) + pad : pad + std::string(cell[c]); // words left
            text += markdown ? " " + padded + " |" : (c == 0 ? "" : "  ") + padded;
        }
        return text + "\n";
    };
    std::string text = line(columns);
    if (markdown) {
        text += "|";
        for (std::size_t c = 0; c < columns.size(); ++c)
            text += std::string(width[c] + 1, '-') + (c == 1 ? "-|" : ":|");
        text += "\n";
    }
    for (std::size_t i = 0; i < body.size(); ++i) {
        if (!markdown && i > 0 && (i == 1 || body[i][0] != body[i - 1][0])) text += "\n";
        text += line(body[i]);
    }
    return text;
}

} // namespace detail

/// What the columns mean; printed under the table.
inline std::string legend(const report& r) {
    return quant_report::formatted(
        "accuracy: %zu images the network never saw, so one image is %.1f points; 95 %%: Wilson interval of the "
        "accuracy.\n"
        "lost/gained: images right with float32 and wrong here, and the reverse: the fair way to compare two rows.\n"
        "logits dB: signal to quantization noise of the network's outputs; it moves long before an answer does.\n"
        "weights, activations: mean width in bits. bytes: packed codes, scales, widths, corrections, biases.\n"
        "seconds: to choose all parameters and quantize the weights, once the calibration images have been through the "
        "network.\n",
        r.reference.images, 100.0 / static_cast<double>(r.reference.images));
}

inline std::string as_text(const report& r) { return r.setting + "\n\n" + detail::table(r, false) + "\n" + legend(r); }
inline std::string as_markdown(const report& r) {
    return r.setting + "\n\n" + detail::table(r, true) + "\n" + legend(r);
}

inline std::string as_csv(const report& r) {
    std::string text =
        "method,bits,weight_bits,activation_bits,correct,images,lost,gained,logit_sqnr_db,bytes,seconds\n";
    const auto add = [&](const row& one) {
        text += quant_report::formatted(
            "%s,%u,%.4f,%.4f,%zu,%zu,%zu,%zu,%s,%zu,%.4f\n", one.method.c_str(), one.bits, one.weight_bits,
            one.activation_bits, one.correct, one.images, one.lost, one.gained,
            one.bits == 32 ? "" : quant_report::formatted("%.4f", one.logit_sqnr).c_str(), one.bytes, one.seconds);
    };
    add(r.reference);
    for (const row& one : r.rows) add(one);
    return text;
}

inline std::string as_json(const report& r) {
    const auto object = [](const row& one) {
        const auto [lo, hi] = nn::confidence_interval(one.correct, one.images);
        return nlohmann::ordered_json{
            {"method", one.method},
            {"bits", one.bits},
            {"weight_bits", one.weight_bits},
            {"activation_bits", one.activation_bits},
            {"correct", one.correct},
            {"images", one.images},
            {"accuracy_percent", one.accuracy()},
            {"interval_percent", {lo, hi}},
            {"lost", one.lost},
            {"gained", one.gained},
            {"logit_sqnr_db", one.bits == 32 ? nlohmann::ordered_json() : nlohmann::ordered_json(one.logit_sqnr)},
            {"bytes", one.bytes},
            {"seconds", one.seconds}};
    };
    nlohmann::ordered_json j{{"format_version", 1}, {"setting", r.setting}, {"reference", object(r.reference)}};
    j["rows"] = nlohmann::ordered_json::array();
    for (const row& one : r.rows) j["rows"].push_back(object(one));
    return j.dump(2) + "\n";
}

/// Accuracy against bits, one line per method, as a self-contained SVG file.
inline std::string as_svg(const report& r) {
    quant_report::line_plot plot{{}, quant_report::number_axis(0, 100, 20, {}, "%g %%")};
    plot.lines.push_back(level(plot, "float32", r.reference.accuracy()));
    unsigned most = 0, least = 32;
    for (const row& one : r.rows) {
        most = std::max(most, one.bits);
        least = std::min(least, one.bits);
    }
    for (const row& one : r.rows) {
        const double at = most == least ? 0.5 : double(one.bits - least) / double(most - least);
        if (one.method == r.rows.front().method)
            plot.x.marks.push_back({at, quant_report::formatted("%u bit", one.bits)});
        const auto line = std::find_if(plot.lines.begin(), plot.lines.end(),
                                       [&](const quant_report::line_plot::line& l) { return l.name == one.method; });
        if (line == plot.lines.end())
            plot.lines.push_back({one.method, {{at, one.accuracy()}}});
        else
            line->points.emplace_back(at, one.accuracy());
    }
    return quant_report::as_svg(plot);
}

} // namespace digits
