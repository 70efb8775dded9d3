// SPDX-License-Identifier: MIT
#include "html_report.hpp"
#include "statistics.hpp"
#include "storage.hpp"

#include <map>

namespace quant_tool {

namespace {

struct comparison {
    const tensor* reference = nullptr;
    bool measured = false; ///< both are real and hold at least one finite pair
    bool equal = false;    ///< same type and the same bytes
    quant::error_measures error;
    std::optional<quant_report::picture> drawn; ///< only where a page is to be written
};

comparison compare_tensors(tensor& a, tensor& b, const compare_command& options, unsigned threads) {
    comparison out;
    out.reference = &a;
    if (a.shape != b.shape) {
        throw error(exit_code::input, options.second, b.name,
                    "its shape " + shape_text(b.shape) + " is not the reference's " + shape_text(a.shape));
    }
    out.equal = a.type == b.type &&
                std::equal(a.bytes.span().begin(), a.bytes.span().end(), b.bytes.span().begin(), b.bytes.span().end());
    if (!is_real(a.type) || !is_real(b.type) || a.size() == 0) {
        return out;
    }
    std::vector<float> buffer_a, buffer_b;
    const auto first = as_floats(a, buffer_a, threads), second = as_floats(b, buffer_b, threads);
    const auto e = measure_error(first, second, threads);
    if (e) {
        out.error = *e;
        out.measured = true;
    } else if (e.status().code != quant::errc::no_data) {
        throw refused(e.status(), options.second, b.name);
    }
    if (!options.report.empty()) {
        out.drawn = quant_report::draw(histogram_of(first, threads), histogram_of(second, threads));
    }
    return out;
}

/// In the order of the file, where the table on the terminal has the worst first.
void report_compared(const compare_command& o, std::span<comparison> results, std::uint64_t bytes_first,
                     std::uint64_t bytes_second) {
    auto page = begin_report("Compared", o.first + " and " + o.second, o);
    page.values_are = "values of the reference";
    page.others_are = "of the other file";
    page.columns = {{"shape", false}, {"SQNR dB"}, {"MSE"}, {"max error"}, {"cosine"}};
    quant_report::chart sqnr{"SQNR by tensor", "dB", {}};
    const comparison* worst = nullptr;
    std::size_t equal = 0;
    for (auto& r : results) {
        const auto value = [&](double x) { return r.measured ? x : quant_report::unknown; };
        auto& row = page.rows.emplace_back();
        row.name = r.reference->name;
        row.cells = {{shape_text(r.reference->shape)},
                     r.measured ? decibel_cell(r.error.sqnr_db) : quant_report::cell{r.equal ? "exact" : "differs"},
                     number_cell("%.3g", value(r.error.mse)),
                     number_cell("%.3g", value(r.error.max_abs_error)),
                     number_cell("%.6f", value(r.error.cosine))};
        row.caption = r.measured ? decibel_text(r.error.sqnr_db) + (std::isfinite(r.error.sqnr_db) ? " dB" : "") : "";
        row.drawn = std::move(r.drawn);
        sqnr.values.push_back(value(r.error.sqnr_db));
        equal += r.equal ? 1 : 0;
        if (r.measured && (worst == nullptr || !(r.error.sqnr_db >= worst->error.sqnr_db))) {
            worst = &r;
        }
    }
    page.facts.push_back({"Tensors", std::to_string(results.size()), std::to_string(equal) + " of them equal"});
    if (worst != nullptr) {
        const bool finite = std::isfinite(worst->error.sqnr_db);
        page.facts.push_back({"Lowest SQNR", decibel_text(worst->error.sqnr_db) + (finite ? " dB" : ""),
                              finite ? worst->reference->name : ""});
    }
    page.measures = {size_measure("reference", bytes_first, "other", bytes_second)};
    page.charts = {std::move(sqnr)};
    write_report(page, o);
}

} // namespace

void compare(const compare_command& options) {
    check_report(options);
    if (options.first.ends_with(".onnx")) {
        compare_networks(options);
        return;
    }
    auto a = read_restored(options.first, options.threads), b = read_restored(options.second, options.threads);
    // The name of a .npy file's array is the file's own, so single tensors are a pair whatever they are called.
    if (a.tensors.size() == 1 && b.tensors.size() == 1) {
        b.tensors[0].name = a.tensors[0].name;
    }
    std::map<std::string_view, tensor*> others;
    for (auto& t : b.tensors) {
        others.emplace(t.name, &t);
    }
    std::uint64_t bytes = 0;
    for (const auto& t : a.tensors) {
        if (!others.contains(t.name)) {
            throw error(exit_code::input, options.second, t.name, "is missing, the reference has it");
        }
        bytes += t.bytes.size();
    }
    if (others.size() != a.tensors.size()) {
        for (const auto& t : b.tensors) {
            if (a.find(t.name) == nullptr) {
                throw error(exit_code::input, options.first, t.name, "is missing, the other file has it");
            }
        }
    }

    std::vector<comparison> results(a.tensors.size());
    {
        progress shown("comparing", a.tensors.size(), bytes, options.quiet || options.json);
        const auto size = [&](std::size_t i) { return a.tensors[i].size(); };
        for_each_tensor(a.tensors.size(), options.threads, size, [&](std::size_t i, unsigned threads) {
            auto& t = a.tensors[i];
            results[i] = compare_tensors(t, *others.at(t.name), options, threads);
            shown.done(t.bytes.size());
        });
    }
    if (!options.report.empty()) {
        report_compared(options, results, a.bytes_on_disk, b.bytes_on_disk);
    }
    // Worst first: lowest SQNR, then what could not be measured and differs, then the rest; by name among equals.
    const auto rank = [](const comparison& c) { return c.measured ? 0 : c.equal ? 2 : 1; };
    std::sort(results.begin(), results.end(), [&](const comparison& x, const comparison& y) {
        if (rank(x) != rank(y)) {
            return rank(x) < rank(y);
        }
        if (x.measured && x.error.sqnr_db != y.error.sqnr_db) {
            return x.error.sqnr_db < y.error.sqnr_db;
        }
        return x.reference->name < y.reference->name;
    });

    if (options.json) {
        json document{{"command", "compare"}, {"reference", options.first}, {"other", options.second}};
        document["tensors"] = json::array();
        for (const auto& r : results) {
            json entry{{"name", r.reference->name}, {"shape", r.reference->shape}, {"equal", r.equal}};
            if (r.measured) {
                entry["mse"] = number(r.error.mse);
                entry["sqnr_db"] = number(r.error.sqnr_db);
                entry["max_abs_error"] = number(r.error.max_abs_error);
                entry["cosine"] = number(r.error.cosine);
                entry["non_finite"] = r.error.non_finite;
            }
            document["tensors"].push_back(std::move(entry));
        }
        print(document);
    } else if (!options.quiet) {
        table rows({"tensor", "shape", "MSE", "SQNR dB", "max error", "cosine"});
        for (const auto& r : results) {
            if (r.measured) {
                rows.row({printable(r.reference->name), shape_text(r.reference->shape),
                          number_text("%.4g", r.error.mse), decibel_text(r.error.sqnr_db),
                          number_text("%.4g", r.error.max_abs_error), number_text("%.6f", r.error.cosine)});
            } else {
                rows.row({printable(r.reference->name), shape_text(r.reference->shape), "-",
                          r.equal ? "exact" : "differs", "-", "-"});
            }
        }
        rows.print(std::cout);
        finish_output();
    }
    if (!options.min_sqnr) {
        return;
    }
    for (const auto& r : results) {
        // NaN counts as too low.
        const bool good = r.measured ? r.error.sqnr_db >= *options.min_sqnr : r.equal;
        if (!good) {
            throw error(exit_code::threshold, options.second, r.reference->name,
                        r.measured ? number_text("%.2f dB, ", r.error.sqnr_db) +
                                         number_text("%.2f dB were asked for", *options.min_sqnr)
                                   : std::string("differs from the reference"));
        }
    }
}

} // namespace quant_tool
