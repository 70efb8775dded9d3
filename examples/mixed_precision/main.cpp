// SPDX-License-Identifier: MIT

// Which row of a network needs how many bits? The answers of the library's sensitivities, at equal size, on digits that the network
// never saw. See docs/mixed_precision.md.

#include "model.hpp"
#if MIXED_PRECISION_RESNET
#include "resnet.hpp"
#endif

#include "../quant/run_program.hpp"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace {

using namespace mixed;
using quant_tool::number_text;
using quant_tool::require;

constexpr const char* explanation = R"(Gives the rows (output channels) of a small network for handwritten digits
different widths, all ways at the same size, and counts what that costs.

  uniform            every row alike; one step per row, from its largest weight or fitted
  MixQuant           one width per layer, from round-off errors alone (arXiv 2309.17341)
  allocated by ...   one width per row, 2 to 8 bits, the least sum of
    weight error       (w - w^)^2
    output error       d^T G d, G the second moments of the layer's inputs,
                       beside w^T G w of the whole layer
    Fisher             squared gradients times squared errors
    Hessian            mean curvature of the row times its squared error
    divergence         KL of the outputs with this row alone quantized
  multipoint         rows as sums of low-bit rows, more where they are needed (arXiv 2002.09049)

The size counts the codes and 32 bits for each step. Nothing is trained; images for
calibration are training images, those that are counted were never seen. With
--resnet20 the network is ResNet-20 for CIFAR-10, without what needs gradients.)";

constexpr const char* footer = R"(Exit codes: 0 done; 1 a claim of --check does not hold; 2 wrong options; 3 an input
file is missing or damaged.

Examples:
  mixed_precision                     averages of 4, 3 and 2.5 bits, some seconds
  mixed_precision --bits 3 --probes 100
  mixed_precision --bits 2 --drop     rows may be left out altogether
  QUANT_DATA=data mixed_precision --resnet20 --bits 4,3     some minutes)";

struct options {
    std::string data = MIXED_PRECISION_DATA_DIR;
    std::vector<double> bits{4, 3, 2.5};
    std::size_t images = 64, probes = 20;
    std::size_t unseen = 500;
    bool quiet = false, check = false, drop = false, resnet20 = false;
};

/// A loss for every row and width, and what it is called. Groups, where there are any: rows that share a width.
struct sensitivity {
    std::string name;
    std::vector<double> loss;
    std::vector<std::size_t> groups{};
};

/// Without --drop a row has no such option as no bits.
void keep_rows(std::vector<double>& loss, const options& o) {
    for (std::size_t at = 0; at < loss.size() && !o.drop; at += widths.size())
        loss[at] = std::numeric_limits<double>::infinity();
}

std::vector<sensitivity> measure(model& m, const quantized_rows& q, const std::vector<std::vector<double>>& moments,
                                 const options& o) {
    const std::size_t rows = m.rows().size(), n = widths.size();
    std::vector<double> weight_error(rows * n), output_error(rows * n), fisher(rows * n), hessian(rows * n),
        divergence(rows * n);
    const digits::dataset calibration = m.data().calibration();

    std::vector<double> squares(m.parameters());
    {
        std::vector<double> one(m.parameters());
        std::vector<float> sample(m.parameters());
        quant_tool::progress shown("Fisher", calibration.size(), 0, o.quiet, "images");
        for (std::size_t i = 0; i < calibration.size(); ++i) {
            m.gradient(calibration.part(i, 1), one);
            std::copy(one.begin(), one.end(), sample.begin());
            require(quant::add_squared_gradient(sample, squares), "gradients");
            shown.done(0);
        }
    }
    std::vector<double> traces(rows);
    {
        std::vector<double> point(m.parameters()), moved(point.size()), other(point.size()), z(point.size()),
            hz(point.size());
        std::vector<std::size_t> sizes;
        std::size_t at = 0;
        for (const auto& layer : m.weights())
            for (const float w : layer) point[at++] = static_cast<double>(w);
        for (const row& r : m.rows()) sizes.push_back(r.depth);
        quant_tool::progress shown("Hessian", 2 * o.probes, 0, o.quiet, "gradients");
        const auto gradient = [&](std::span<const double> parameters, std::span<double> out) {
            m.set_flat(parameters);
            m.gradient(calibration, out);
            shown.done(0);
        };
        quant::gradient_differences hvp(gradient, point, moved, other);
        require(quant::hessian_traces(hvp, sizes, z, hz, traces, {.max_probes = o.probes}), "curvature");
        m.set(m.weights());
    }
    const nn::tensor images = nn::samples(calibration.images, 0, std::min(o.images, calibration.size()));
    const nn::tensor full = m.logits(images);
    std::vector<double> signal(m.layers()); // so that the outputs of all layers count alike
    for (const row& r : m.rows()) {
        const std::vector<float> none(r.depth, 0.0f);
        std::vector<double> scratch(r.depth);
        signal[r.layer] +=
            require(quant::output_squared_error(m.weights_of(r), none, moments[r.layer], scratch), "weights");
    }
    std::size_t offset = 0; // of the row among all parameters
    quant_tool::progress shown("divergence", rows * n, 0, o.quiet, "networks");
    for (std::size_t i = 0; i < rows; ++i) {
        const row& r = m.rows()[i];
        std::vector<double> scratch(r.depth);
        for (std::size_t b = 0; b < n; ++b) {
            const auto w = m.weights_of(r), restored = q.of(r, b);
            const std::size_t at = i * n + b;
            weight_error[at] = require(quant::squared_error(w, restored), "weights");
            output_error[at] = require(quant::output_squared_error(w, restored, moments[r.layer], scratch), "weights") /
                               signal[r.layer];
            fisher[at] = require(
                quant::fisher_error(std::span(squares).subspan(offset, r.depth), calibration.size(), w, restored),
                "weights");
            weight_lists one = m.weights();
            std::copy(restored.begin(), restored.end(), one[r.layer].begin() + static_cast<std::ptrdiff_t>(r.first));
            m.set(one);
            divergence[at] =
                require(quant::logit_divergence(full.data, m.logits(images).data, digits::classes), "logits");
            shown.done(0);
        }
        offset += r.depth;
    }
    m.set(m.weights());
    require(quant::weigh_errors(traces, weight_error, hessian), "curvature");
    for (auto* const loss : {&weight_error, &output_error, &fisher, &hessian, &divergence}) keep_rows(*loss, o);
    return {{"weight error", weight_error},
            {"output error", output_error},
            {"Fisher", fisher},
            {"Hessian", hessian},
            {"divergence", divergence}};
}

/// One line of the table, and what --check asks about.
class lines {
public:
    explicit lines(network& m) : model_(m), table_({"", "bits", "right", "loss", "SQNR of logits"}) {}
    void add(const std::string& name, double bits, const weight_lists& weights) {
        const quality q = model_.evaluate(weights);
        found_[name] = q;
        table_.row({name, number_text("%.2f", bits), number_text("%.1f %%", q.correct), number_text("%.4f", q.loss),
                    quant_tool::decibel_text(q.sqnr) + (std::isinf(q.sqnr) ? "" : " dB")});
    }
    void print() const {
        table_.print(std::cout);
        std::cout << '\n';
    }
    [[nodiscard]] const quality& of(const std::string& name) const { return found_.at(name); }
    [[nodiscard]] bool has(const std::string& name) const { return found_.contains(name); }

private:
    network& model_;
    quant_tool::table table_;
    std::map<std::string, quality> found_;
};

class example {
public:
    /// moments  of the inputs of every layer; may be empty
    example(const options& o, network& m, const quantized_rows& q, std::vector<std::vector<double>> moments,
            std::vector<sensitivity> measured)
        : o_(o), model_(m), quantized_(q), moments_(std::move(moments)), measured_(std::move(measured)) {
        for (const row& r : model_.rows())
            for (const std::uint8_t b : widths) cost_.push_back(size_of(r, b));
        elements_ = static_cast<double>(model_.parameters());
    }

    /// Returns how many claims do not hold.
    int run() {
        int broken = 0;
        for (const double bits : o_.bits) {
            std::uint64_t budget = 0;
            for (const row& r : model_.rows())
                budget += static_cast<std::uint64_t>(std::floor(static_cast<double>(r.depth) * bits)) + step_bits;
            lines out(model_);
            out.add("float", 32, model_.weights());
            if (bits == std::floor(bits)) uniform(out, static_cast<std::uint8_t>(bits));
            mixquant(out, budget);
            std::string notes;
            for (const sensitivity& s : measured_) notes += allocated(out, s, budget);
            multipoint(out, budget, bits, false);
            if (!moments_.empty()) multipoint(out, budget, bits, true);
            std::cout << "an average of " << number_text("%g", bits) << " bits per weight and a step per row, "
                      << number_text("%.1f", static_cast<double>(budget) / 8192) << " KiB\n";
            out.print();
            std::cout << notes << '\n';
            if (o_.check) broken += check(out);
        }
        quant_tool::finish_output();
        return broken;
    }

private:
    void uniform(lines& out, std::uint8_t bits) {
        const auto option = static_cast<std::size_t>(std::find(widths.begin(), widths.end(), bits) - widths.begin());
        weight_lists plain = model_.weights();
        std::uint64_t used = 0;
        for (const row& r : model_.rows()) {
            const auto to = std::span(plain[r.layer]).subspan(r.first, r.depth);
            float most = 0;
            for (const float w : to) most = std::max(most, std::abs(w));
            used += size_of(r, bits);
            if (most == 0) continue;
            const quant::affine_params p = quant::symmetric(most, {bits, true, true});
            for (float& w : to) w = quant::fake_quant_one(w, p);
        }
        out.add("uniform, step of the largest weight", average(used), plain);
        const std::vector<std::uint8_t> all(model_.rows().size(), static_cast<std::uint8_t>(option));
        out.add("uniform, fitted step", average(used), quantized_.at(all));
    }

    void mixquant(lines& out, std::uint64_t budget) {
        const std::vector<std::uint8_t> candidates(widths.begin() + 1, widths.end());
        const std::size_t layers = model_.layers(), n = candidates.size();
        std::vector<std::span<const float>> views(model_.weights().begin(), model_.weights().end());
        std::vector<std::uint8_t> found(layers);
        std::vector<double> errors(layers * n), loss(errors.size());
        std::vector<std::uint64_t> cost(errors.size());
        std::uint64_t steps = 0;
        for (std::size_t i = 0; i < model_.rows().size(); ++i) steps += step_bits;
        const auto by_layer = [&](const std::string& name) {
            std::vector<std::uint8_t> choice;
            for (const row& r : model_.rows())
                choice.push_back(static_cast<std::uint8_t>(std::find(widths.begin(), widths.end(), found[r.layer]) -
                                                           widths.begin()));
            out.add(name, average(size(choice)), quantized_.at(choice));
        };
        for (double m = 1; m < 1e6; m *= 1.1) { // the least multiplier that fits
            require(quant::mixquant_search(views, candidates, found, errors, {.multiplier = m}), "weights");
            std::uint64_t used = steps;
            for (std::size_t l = 0; l < layers; ++l) used += model_.weights()[l].size() * found[l];
            if (used > budget) continue;
            by_layer("MixQuant, multiplier " + number_text("%.3g", m));
            break;
        }
        std::vector<std::uint64_t> elements;
        for (const auto& w : model_.weights()) elements.push_back(w.size());
        std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(layers, n, 1 << 16));
        const auto best =
            quant::mixquant_budget(errors, elements, candidates, budget - steps, found, loss, cost, workspace);
        if (best) by_layer("MixQuant's errors, allocated");
    }

    std::string allocated(lines& out, const sensitivity& s, std::uint64_t budget) {
        quant::option_table table{s.loss, cost_, model_.rows().size(), widths.size()};
        table.groups = s.groups;
        std::vector<std::uint8_t> choice(table.layers);
        std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(table.layers, table.options, 1 << 16));
        const auto greedy = require(quant::allocate_greedy(table, budget, choice, workspace), "budget");
        const auto exact = require(quant::allocate_exact(table, budget, choice, workspace), "budget");
        out.add("allocated by " + s.name, average(exact.cost), quantized_.at(choice));
        const auto absent = std::count(choice.begin(), choice.end(), std::uint8_t{0});
        return s.name + ": bound " + number_text("%.6g", exact.bound) + " <= exact " + number_text("%.6g", exact.loss) +
               " <= greedy " + number_text("%.6g", greedy.loss) +
               (o_.drop ? "; rows left out: " + std::to_string(absent) : "") + "\n";
    }

    void multipoint(lines& out, std::uint64_t budget, double bits, bool outputs) {
        // Codes of one bit less than the average, so that there is something to spend on further points.
        const auto base = static_cast<std::uint8_t>(std::max(2.0, std::ceil(bits) - 1));
        quant::multipoint_options how{.largest = (1 << (base - 1)) - 1, .most_points = 4};
        const std::size_t rows = model_.rows().size(), most = how.most_points;
        std::vector<double> errors;
        std::vector<std::uint64_t> cost;
        for (const row& r : model_.rows()) {
            std::vector<double> e(most);
            std::vector<std::uint64_t> c(most);
            std::vector<std::byte> workspace(quant::multipoint_workspace_size(r.depth, most));
            require(
                quant::multipoint_table(model_.weights_of(r), r.depth, metric(r, outputs), how, base, e, c, workspace),
                "weights");
            errors.insert(errors.end(), e.begin(), e.end());
            cost.insert(cost.end(), c.begin(), c.end());
        }
        std::vector<std::uint8_t> choice(rows);
        std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(rows, most, 1 << 16));
        const auto best = quant::allocate_exact({errors, cost, rows, most}, budget, choice, workspace);
        if (!best) return; // even one point each is too much
        weight_lists all = model_.weights();
        for (std::size_t i = 0; i < rows; ++i) {
            const row& r = model_.rows()[i];
            std::vector<double> steps(choice[i] + std::size_t{1});
            std::vector<std::int8_t> codes(steps.size() * r.depth);
            std::vector<std::byte> own(quant::multipoint_workspace_size(r.depth, steps.size()));
            require(quant::multipoint_fit(model_.weights_of(r), metric(r, outputs), how, steps, codes, own), "weights");
            for (std::size_t j = 0; j < r.depth; ++j) {
                double sum = 0;
                for (std::size_t p = 0; p < steps.size(); ++p) sum += steps[p] * codes[p * r.depth + j];
                all[r.layer][r.first + j] = static_cast<float>(sum);
            }
        }
        out.add("multipoint, " + std::to_string(base) + " bits, metric of " + (outputs ? "outputs" : "weights"),
                average(best->cost), all);
    }

    int check(const lines& out) {
        int broken = 0;
        const auto claim = [&](bool holds, const std::string& text) {
            std::cout << (holds ? "holds: " : "DOES NOT HOLD: ") << text << '\n';
            broken += holds ? 0 : 1;
        };
        claim(out.of("float").correct > 95, "the float network gets more than 95 % right");
        if (out.has("uniform, fitted step"))
            claim(out.of("allocated by divergence").sqnr > out.of("uniform, fitted step").sqnr,
                  "widths allocated by divergence bring the outputs nearer than the same width everywhere");
        claim(out.of("allocated by divergence").sqnr > out.of("allocated by weight error").sqnr,
              "what the outputs of the network say is worth more than what the weights say");
        return broken;
    }

    [[nodiscard]] std::span<const double> metric(const row& r, bool outputs) const {
        return outputs ? std::span<const double>(moments_[r.layer]) : std::span<const double>();
    }
    [[nodiscard]] std::uint64_t size(const std::vector<std::uint8_t>& choice) const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < choice.size(); ++i) sum += cost_[i * widths.size() + choice[i]];
        return sum;
    }
    [[nodiscard]] double average(std::uint64_t bits) const { return static_cast<double>(bits) / elements_; }

    options o_;
    network& model_;
    const quantized_rows& quantized_;
    std::vector<std::vector<double>> moments_;
    std::vector<sensitivity> measured_;
    std::vector<std::uint64_t> cost_;
    double elements_ = 0;
};

#if MIXED_PRECISION_RESNET
/// What needs no gradients, of every row alone or of a whole layer.
std::vector<sensitivity> measure(resnet20& m, const quantized_rows& q, const options& o) {
    const std::size_t rows = m.rows().size(), n = widths.size();
    std::vector<double> weight_error(rows * n), divergence(rows * n);
    std::vector<std::size_t> first(m.layers(), rows), groups(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        const row& r = m.rows()[i];
        first[r.layer] = std::min(first[r.layer], i);
        groups[i] = first[r.layer];
        for (std::size_t b = 0; b < n; ++b)
            weight_error[i * n + b] = require(quant::squared_error(m.weights_of(r), q.of(r, b)), "weights");
    }
    quant_tool::progress shown("divergence", m.layers() * (o.drop ? n : n - 1), 0, o.quiet, "networks");
    for (std::size_t l = 0; l < m.layers(); ++l)
        for (std::size_t b = o.drop ? 0 : 1; b < n; ++b) {
            divergence[first[l] * n + b] = m.divergence(l, q.layer(l, b)); // of the first row; the others follow it
            shown.done(0);
        }
    for (auto* const loss : {&weight_error, &divergence}) keep_rows(*loss, o);
    return {{"weight error", weight_error},
            {"weight error, a width per layer", weight_error, groups},
            {"divergence, a width per layer", divergence, groups}};
}

int run_resnet20(options o) {
    if (o.data == MIXED_PRECISION_DATA_DIR) {
        const char* const folder = std::getenv("QUANT_DATA");
        if (folder == nullptr)
            throw quant_tool::error(quant_tool::exit_code::usage, {},
                                    "--data is missing, and QUANT_DATA is not set: --resnet20 needs cifar10/ in it");
        o.data = folder;
    }
    resnet20 m(o.data, o.unseen, o.images);
    const quantized_rows q(m);
    std::vector<sensitivity> measured = measure(m, q, o);
    o.check = false; // the claims are of the digits
    return example(o, m, q, {}, std::move(measured)).run();
}
#endif

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("mixed_precision", [&] {
        options o;
        CLI::App app(explanation, "mixed_precision");
        app.footer(footer);
        app.add_option("--bits", o.bits, "Average widths, 2 to 8, separated by commas")
            ->delimiter(',')
            ->check(CLI::Range(2.0, 8.0))
            ->capture_default_str();
        app.add_option("--images", o.images, "Training images whose outputs are compared for each row and width")
            ->check(CLI::Range(1, 256))
            ->capture_default_str();
        app.add_option("--probes", o.probes, "Probes of the Hessian, at most")
            ->check(CLI::Range(1, 10000))
            ->capture_default_str();
        app.add_option("--data", o.data,
                       "Folder with digits.csv.gz and digits.safetensors; with --resnet20 that of cifar10/")
            ->capture_default_str();
#if MIXED_PRECISION_RESNET
        app.add_flag(
            "--resnet20", o.resnet20,
            "ResNet-20 for CIFAR-10 instead: cifar10/resnet20_cifar10.onnx and the images beside it, in --data or in "
            "the folder that QUANT_DATA names");
        app.add_option("--unseen", o.unseen, "With --resnet20: images that are counted")
            ->check(CLI::Range(1, 2500))
            ->capture_default_str();
#endif
        app.add_flag("--drop", o.drop, "Rows may also get no bits at all: their outputs are their biases");
        app.add_flag("--quiet", o.quiet, "No progress");
        app.add_flag("--check", o.check, "Check the claims of docs/mixed_precision.md");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "mixed_precision --help");
        if (done) return *done;
#if MIXED_PRECISION_RESNET
        if (o.resnet20) return run_resnet20(o);
#endif
        model m(o.data);
        const quantized_rows q(m);
        std::vector<std::vector<double>> moments = m.moments();
        std::vector<sensitivity> measured = measure(m, q, moments, o);
        return example(o, m, q, std::move(moments), std::move(measured)).run() == 0 ? 0 : 1;
    });
}
