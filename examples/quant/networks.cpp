// SPDX-License-Identifier: MIT
// What the tool does with a network instead of a list of tensors: how right it is, and where along it the noise arises.

#include "../evaluation/evaluation.hpp"
#include "../onnx/fold.hpp"
#include "commands.hpp"
#include "html_report.hpp"
#include "network_inputs.hpp"
#include "report.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace quant_tool {

namespace {

struct run_on_set {
    evaluation::labelled_set set;
    std::size_t samples = 0;
};

engine::graph load_network(const std::string& path) {
    auto model = quant_onnx::read(path);
    quant_onnx::fold_batch_normalization(model);
    return engine::load(model);
}

run_on_set open_for(const engine::graph& net, const std::string& inputs, const std::string& labels,
                    const std::string& preprocess, std::size_t most, unsigned threads) {
    run_on_set out{open_inputs(net, inputs, labels, preprocess, threads)};
    out.samples = most == 0 ? out.set.size : std::min(most, out.set.size);
    return out;
}

json rejected_json(const evaluation::labelled_set& set) {
    json out = json::array();
    for (const auto& r : set.rejected) {
        out.push_back({{"file", r.name}, {"cause", r.cause}});
    }
    return out;
}

void print_rejected(const evaluation::labelled_set& set) {
    if (!set.rejected.empty()) {
        std::cout << counted(set.rejected.size(), "image")
                  << (set.rejected.size() == 1 ? " does not decode and was left out:\n"
                                               : " do not decode and were left out:\n");
    }
    for (const auto& r : set.rejected) {
        std::cout << "  " << printable(r.name) << ": " << printable(r.cause) << '\n';
    }
}

evaluation::accuracy evaluate_shown(const engine::graph& net, const run_on_set& on, const evaluate_command& options,
                                    const std::string& model) {
    progress shown("evaluating " + printable(model), on.samples, 0, options.quiet || options.json, "images");
    return evaluation::evaluate(
        net, on.set,
        {.batch = options.batch, .threads = options.threads, .most = on.samples, .progress = [&](std::size_t n) {
             shown.done(0, n);
         }});
}

json share_json(std::size_t right, std::size_t samples) {
    const auto [low, high] = evaluation::confidence_interval(right, samples);
    return {{"right", right},
            {"percent", 100.0 * static_cast<double>(right) / static_cast<double>(samples)},
            {"interval_95", {low, high}}};
}

std::string share_text(std::size_t right, std::size_t samples) {
    const auto [low, high] = evaluation::confidence_interval(right, samples);
    return number_text("%.2f %%", 100.0 * static_cast<double>(right) / static_cast<double>(samples)) +
           number_text(" (%.1f", low) + number_text("...%.1f)", high);
}

/// With the files of external data.
quant_report::measure model_sizes(std::span<const std::string> models) {
    quant_report::measure out{"Size of the model", 0, {}};
    for (const auto& model : models) {
        auto bytes = std::filesystem::file_size(model);
        for (const auto& file : quant_onnx::read(model).external_files) {
            bytes += std::filesystem::file_size(file);
        }
        out.full = std::max(out.full, static_cast<double>(bytes));
        out.readings.push_back(
            {std::filesystem::path(model).filename().string(), bytes_text(bytes), static_cast<double>(bytes)});
    }
    return out;
}

void report_evaluated(const evaluate_command& o, std::span<const std::pair<std::string, evaluation::accuracy>> results,
                      const evaluation::paired_difference& difference, std::size_t rejected) {
    auto page = begin_report("Evaluated", o.images, o);
    page.row_name = "model";
    page.rows_title = "Models";
    page.columns = {{"images"}, {"top-1 %"}, {"top-5 %"}, {"images/s"}};
    page.measures = {{"Top-1 accuracy and its 95 % interval", 100, {}},
                     {"Top-5 accuracy and its 95 % interval", 100, {}}};
    std::vector<std::string> models;
    for (const auto& [model, a] : results) {
        models.push_back(model);
        std::size_t m = 0;
        for (const auto right : {a.top1, a.top5}) {
            const auto [low, high] = evaluation::confidence_interval(right, a.samples);
            const double percent = 100.0 * static_cast<double>(right) / static_cast<double>(a.samples);
            page.measures[m++].readings.push_back({std::filesystem::path(model).filename().string(),
                                                   number_text("%.2f %%", percent), percent, low, high});
        }
        page.rows.push_back({model,
                             {{std::to_string(a.samples), static_cast<double>(a.samples)},
                              number_cell("%.2f", a.top1_percent()),
                              number_cell("%.2f", a.top5_percent()),
                              number_cell("%.1f", a.samples_per_second())}});
    }
    page.measures.push_back(model_sizes(models));
    page.facts = {{"Images", std::to_string(results.front().second.samples),
                   rejected == 0 ? "" : counted(rejected, "image") + " left out: not decoded"},
                  {"Top-1", number_text("%.2f %%", results.front().second.top1_percent()), results.front().first}};
    if (results.size() > 1) {
        page.facts.push_back(
            {"Top-1 of the other", number_text("%.2f %%", results.back().second.top1_percent()), results.back().first});
        page.facts.push_back({"Sign test", number_text("p = %.3g", difference.p),
                              difference.p < 0.05 ? "they differ" : "no proof that they differ"});
        page.notes = {"Only the first is right on " + std::to_string(difference.only_first) +
                      " images, only the second on " + std::to_string(difference.only_second) +
                      "; different answers: " + std::to_string(difference.changed) + "."};
    }
    write_report(page, o);
}

/// `errors` in the network's order.
void report_networks(const compare_command& o, std::span<const evaluation::layer_error> errors, std::size_t samples) {
    auto page = begin_report("Compared", o.first + " and " + o.second, o);
    page.row_name = "value";
    page.rows_title = "Values along the network";
    page.columns = {{"operator", false}, {"SQNR dB"}};
    quant_report::chart sqnr{"SQNR along the network", "dB", {}};
    const evaluation::layer_error* worst = nullptr;
    for (const auto& e : errors) {
        const double noise = e.noise == 0 ? HUGE_VAL : e.sqnr_db();
        page.rows.push_back({e.layer, {{std::string(engine::name_of(e.kind))}, decibel_cell(noise)}});
        sqnr.values.push_back(noise);
        if (std::isfinite(noise) && (worst == nullptr || noise < worst->sqnr_db())) {
            worst = &e;
        }
    }
    page.facts = {{"Values", std::to_string(errors.size()), "on " + counted(samples, "sample")}};
    if (worst != nullptr) {
        page.facts.push_back({"Lowest SQNR", number_text("%.2f dB", worst->sqnr_db()), worst->layer});
    }
    page.measures = {model_sizes(std::vector{o.first, o.second})};
    page.charts = {std::move(sqnr)};
    write_report(page, o);
}

} // namespace

void evaluate(const evaluate_command& options) {
    check_report(options);
    const engine::graph net = load_network(options.model);
    std::optional<engine::graph> other;
    if (!options.against.empty()) {
        other = load_network(options.against);
    }
    if (options.labels.empty() && !options.images.ends_with(".bin")) {
        throw error(exit_code::usage, options.images, "has no labels of its own: --labels is missing");
    }
    const auto on = open_for(net, options.images, options.labels, options.preprocess, options.samples, options.threads);
    if (other) {
        check_inputs(*other, on.set, options.images, options.against);
    }
    const auto classes = engine::tensor::count(net.shapes[net.output]);
    for (const int label : on.set.labels) {
        if (label < 0 || static_cast<std::size_t>(label) >= classes) {
            throw error(exit_code::input, options.labels.empty() ? options.images : options.labels,
                        "has the class " + std::to_string(label) + ", the model knows " + std::to_string(classes));
        }
    }

    std::vector<std::pair<std::string, evaluation::accuracy>> results;
    results.emplace_back(options.model, evaluate_shown(net, on, options, options.model));
    if (other) {
        results.emplace_back(options.against, evaluate_shown(*other, on, options, options.against));
    }
    const auto difference = evaluation::compare(results.front().second, results.back().second);
    if (!options.report.empty()) {
        report_evaluated(options, results, difference, on.set.rejected.size());
    }

    if (options.json) {
        json document{{"command", "evaluate"}, {"images", options.images}, {"samples", on.samples}};
        document["rejected"] = rejected_json(on.set);
        document["models"] = json::array();
        for (const auto& [model, a] : results) {
            document["models"].push_back({{"model", model},
                                          {"top1", share_json(a.top1, a.samples)},
                                          {"top5", share_json(a.top5, a.samples)},
                                          {"seconds", a.seconds},
                                          {"images_per_second", a.samples_per_second()}});
        }
        if (other) {
            document["paired"] = {{"only_first_right", difference.only_first},
                                  {"only_second_right", difference.only_second},
                                  {"different_answers", difference.changed},
                                  {"p", difference.p}};
        }
        print(document);
        return;
    }
    if (options.quiet) {
        return;
    }
    table rows({"model", "images", "top-1 (95 %)", "top-5 (95 %)", "images/s"});
    for (const auto& [model, a] : results) {
        rows.row({printable(model), std::to_string(a.samples), share_text(a.top1, a.samples),
                  share_text(a.top5, a.samples), number_text("%.1f", a.samples_per_second())});
    }
    rows.print(std::cout);
    if (other) {
        std::cout << "Only the first is right: " << difference.only_first
                  << ", only the second: " << difference.only_second << ", different answers: " << difference.changed
                  << "; sign test p = " << number_text("%.3g", difference.p)
                  << (difference.p < 0.05 ? " (they differ)\n" : " (no proof that they differ)\n");
    }
    print_rejected(on.set);
    finish_output();
}

void compare_networks(const compare_command& options) {
    const engine::graph first = load_network(options.first), second = load_network(options.second);
    const auto on = open_for(first, options.inputs, {}, options.preprocess, options.samples, options.threads);
    check_inputs(second, on.set, options.inputs, options.second);
    std::vector<evaluation::layer_error> errors;
    {
        progress shown("comparing", on.samples, 0, options.quiet || options.json, "images");
        errors = evaluation::compare_layers(
            first, second, on.set,
            {.batch = 4, .threads = options.threads, .most = on.samples, .progress = [&](std::size_t n) {
                 shown.done(0, n);
             }});
    }
    if (errors.empty()) {
        throw error(exit_code::input, options.second, "computes no value of the same name as " + options.first);
    }
    if (!options.report.empty()) {
        report_networks(options, errors, on.samples);
    }
    // Worst first; not a number counts as worst, equal values keep the network's order.
    const auto rank = [](const evaluation::layer_error& e) {
        const double sqnr = e.sqnr_db();
        return std::isnan(sqnr) ? (e.noise == 0 ? HUGE_VAL : -HUGE_VAL) : sqnr;
    };
    std::stable_sort(errors.begin(), errors.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });

    if (options.json) {
        json document{{"command", "compare"}, {"reference", options.first}, {"other", options.second}};
        document["inputs"] = options.inputs;
        document["samples"] = on.samples;
        document["rejected"] = rejected_json(on.set);
        document["layers"] = json::array();
        for (const auto& e : errors) {
            document["layers"].push_back({{"name", e.layer},
                                          {"operator", engine::name_of(e.kind)},
                                          {"equal", e.noise == 0},
                                          {"sqnr_db", number(rank(e))}});
        }
        print(document);
    } else if (!options.quiet) {
        table rows({"value", "operator", "SQNR dB"});
        for (const auto& e : errors) {
            rows.row({printable(e.layer), std::string(engine::name_of(e.kind)), decibel_text(rank(e))});
        }
        rows.print(std::cout);
        print_rejected(on.set);
        finish_output();
    }
    if (options.min_sqnr && !(rank(errors.front()) >= *options.min_sqnr)) {
        throw error(exit_code::threshold, options.second,
                    "value '" + printable(errors.front().layer) +
                        "': " + number_text("%.2f dB, ", rank(errors.front())) +
                        number_text("%.2f dB were asked for", *options.min_sqnr));
    }
}

} // namespace quant_tool
