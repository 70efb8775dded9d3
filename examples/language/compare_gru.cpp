// SPDX-License-Identifier: MIT

// A recurrent language model from its first weights to few bits: widths by Hessian, divergence and precision search, then
// straight-through training and ADMM with them (Xu et al. 2021, arXiv 2112.11438 and 2112.11540).

#include "../quant/report.hpp"
#include "programs.hpp"
#include "training.hpp"

#include <quant/admm.hpp>
#include <quant/precision_search.hpp>

#include <array>
#include <iostream>
#include <map>

namespace language {
namespace {

using quant_tool::number_text;
using choice = std::vector<std::uint8_t>;

std::string bits_text(double bits) { return number_text("%.3f", bits); }

// Chosen, as ADMM's schedule was, on the text that choices are made on.
constexpr float float_rate = 4e-3f, tuning_rate = 1e-2f;
constexpr double admm_growth = 100;
constexpr std::size_t admm_period = 16;

class example {
public:
    explicit example(const gru_options& o)
        : o_(o), text_(o.text, o.symbols), net_({text_.vocabulary(), o.embedding, o.hidden}), theta_(net_.size()) {
        nn::random r(o.seed);
        const float bound = 1 / std::sqrt(static_cast<float>(o.hidden));
        for (float& p : theta_) p = r.uniform(-bound, bound);
        train(o.epochs, "float", theta_, float_rate, {});
    }

    void run() {
        const double whole = judge(theta_);
        std::cout << net_.size() << " parameters, " << text_.size() << " bytes of text of " << text_.vocabulary()
                  << " kinds, trained " << o_.epochs << " epochs\nfloat: " << bits_text(whole)
                  << " bits per character on the last tenth\n\n"
                  << std::flush;
        quantized_clusters q(clusters(theta_), {2, 3, 4, 6, 8});
        const std::vector<double> curvature = hessian(q), divergence = divergences(q);
        std::string longer; // what more of the same training brings
        {
            quant_tool::progress shown("float, longer", o_.tuning * steps(), 0, o_.quiet, "steps");
            longer = bits_text(straight_through({}, shown));
        }
        for (const double average : o_.averages) {
            std::vector<std::pair<std::string, choice>> rows;
            if (std::find(q.widths().begin(), q.widths().end(), average) != q.widths().end())
                rows.emplace_back("uniform", q.uniform(static_cast<int>(average)));
            rows.emplace_back("weight error", q.allocate(q.errors(), average, "budget"));
            rows.emplace_back("Hessian", q.allocate(curvature, average, "budget"));
            rows.emplace_back("divergence", q.allocate(divergence, average, "budget"));
            rows.emplace_back("search", search(q, average));
            std::map<std::string, std::pair<choice, std::array<std::string, 3>>>
                results; // the same widths are trained once
            for (const auto& row : rows) results[q.text(row.second)].first = row.second;
            quant_tool::progress shown("training", (1 + o_.rho.size()) * results.size() * o_.tuning * steps(), 0,
                                       o_.quiet, "steps");
            for (auto& [text, of_widths] : results) {
                auto& [widths, found] = of_widths;
                std::vector<int> bits;
                for (const std::uint8_t w : widths) bits.push_back(q.widths()[w]);
                std::vector<float> plain = theta_;
                round_all(theta_, bits, plain);
                found = {bits_text(judge(plain)), bits_text(straight_through(bits, shown)),
                         bits_text(best_admm(bits, shown))};
            }
            quant_tool::table table({"widths by", "bits", "rounded", "straight-through", "ADMM", "widths"});
            table.row({"float", "32", bits_text(whole), longer, "", ""});
            for (const auto& [name, widths] : rows) {
                const std::string text = q.text(widths);
                const auto& [plain, straight, admm] = results[text].second;
                table.row({name, number_text("%.2f", q.average(widths)), plain, straight, admm, text});
            }
            shown.clear();
            std::cout << "an average of " << number_text("%g", average)
                      << " bits per weight, one table per cluster; bits per character\n";
            table.print(std::cout);
            std::cout << '\n';
        }
        std::cout << "widths: embedding, Wz Wr Wn, Uz Ur Un, output\n";
        quant_tool::finish_output();
    }

private:
    [[nodiscard]] std::size_t steps() const { return training_batches(text_).count(); }
    [[nodiscard]] double judge(std::span<const float> theta) const {
        return language::judge(net_, theta, text_.judged());
    }
    [[nodiscard]] std::span<const gru_part> parts() const {
        return std::span(net_.parts()).first(net_.parts().size() - 1);
    }
    [[nodiscard]] std::vector<cluster> clusters(std::span<float> theta) const {
        std::vector<cluster> out;
        for (const gru_part& p : parts()) out.push_back({p.name, theta.subspan(p.first, p.size), 1});
        return out;
    }
    void train(std::size_t epochs, const std::string& what, std::span<float> theta, float rate,
               const training_method& method) const {
        quant_tool::progress shown(what, epochs * steps(), 0, o_.quiet, "steps");
        language::train(net_, text_, theta, epochs, rate, method, [&] { shown.done(0); });
    }

    /// On one batch: the beginnings of the sixteen parts of the training text. Curvature is taken there.
    void gradient(std::span<const float> theta, std::span<float> out) const {
        network::matrix state = net_.start(training_batches(text_).texts());
        net_.run(theta, training_batches(text_)(0), state, out);
    }

    std::vector<double> hessian(const quantized_clusters& q) const {
        const std::size_t n = net_.size();
        std::vector<double> point(theta_.begin(), theta_.end()), moved(n), other(n), z(n), hz(n);
        std::vector<float> at(n), found(n);
        std::vector<std::size_t> sizes;
        for (const gru_part& p : net_.parts()) sizes.push_back(p.size); // the biases are a part like any other here
        std::vector<double> traces(sizes.size()), loss(q.errors().size());
        quant_tool::progress shown("Hessian", 2 * o_.probes, 0, o_.quiet, "gradients");
        quant::gradient_differences product(
            [&](std::span<const double> parameters, std::span<double> out) {
                for (std::size_t i = 0; i < n; ++i) at[i] = static_cast<float>(parameters[i]);
                gradient(at, found);
                std::copy(found.begin(), found.end(), out.begin());
                shown.done(0);
            },
            point, moved, other);
        quant::trace_options how{.max_probes = o_.probes, .seed = o_.seed};
        if (o_.raw_trace) how.scale = quant::trace_scale::raw;
        require(quant::hessian_traces(product, sizes, z, hz, traces, how), "curvature");
        traces.pop_back();
        require(quant::weigh_errors(traces, q.errors(), loss), "curvature");
        return loss;
    }

    std::vector<double> divergences(const quantized_clusters& q) const {
        std::vector<float> full, found, runs = theta_;
        language::judge(net_, theta_, text_.calibration(), &full);
        std::vector<double> loss;
        quant_tool::progress shown("divergence", q.size() * q.widths().size(), 0, o_.quiet, "networks");
        const auto put = [&](std::size_t c, std::span<const float> from) {
            std::copy(from.begin(), from.end(), runs.begin() + static_cast<std::ptrdiff_t>(parts()[c].first));
        };
        for (std::size_t c = 0; c < q.size(); ++c) {
            for (std::size_t w = 0; w < q.widths().size(); ++w) {
                put(c, q.at(c, w));
                found.clear();
                language::judge(net_, runs, text_.calibration(), &found);
                loss.push_back(require(quant::logit_divergence(full, found, text_.vocabulary()), parts()[c].name));
                shown.done(0);
            }
            put(c, q.original(c));
        }
        return loss;
    }

    /// Every cluster runs as a mixture of all its widths, the shares of which are trained; weights stay as they are. A cluster's output is
    /// linear in its weights, so a mixture of weights is one of outputs. The strength of the penalty rises and falls until the mean
    /// meets the average asked for; what is taken is the likeliest choice within it.
    choice search(const quantized_clusters& q, double average) const {
        const std::size_t options = q.widths().size();
        const std::vector<double> bits(q.widths().begin(), q.widths().end());
        std::vector<std::vector<float>> outputs(q.size());
        for (std::size_t c = 0; c < q.size(); ++c)
            for (std::size_t w = 0; w < options; ++w)
                outputs[c].insert(outputs[c].end(), q.at(c, w).begin(), q.at(c, w).end());
        nn::parameter logits("logits", {q.size() * options});
        nn::adam optimizer({&logits}, {});
        std::vector<double> a(q.size() * options), now(options), slope(options);
        const auto share = [&](std::size_t c) { return std::span(a).subspan(c * options, options); };
        const batches from = training_batches(text_);
        std::vector<float> runs = theta_, gradient(net_.size()), of_outputs;
        double strength = 0;
        quant_tool::progress shown("search", o_.tuning * from.count(), 0, o_.quiet, "steps");
        for (std::size_t epoch = 0; epoch < o_.tuning; ++epoch) {
            network::matrix state = net_.start(from.texts());
            for (std::size_t i = 0; i < from.count(); ++i) {
                double mean = 0;
                for (std::size_t c = 0; c < q.size(); ++c) {
                    const gru_part& p = parts()[c];
                    for (std::size_t w = 0; w < options; ++w)
                        now[w] = static_cast<double>(logits.value.data[c * options + w]);
                    require(quant::precision_search::mixture(now, share(c)), p.name);
                    require(quant::precision_search::mix(quant::view(std::as_const(outputs[c]), options, p.size),
                                                         share(c), std::span(runs).subspan(p.first, p.size)),
                            p.name);
                    mean += require(quant::precision_search::mean_bits(share(c), bits), p.name) *
                            static_cast<double>(p.size) / static_cast<double>(q.elements());
                }
                strength = std::max(0.0, strength + 2e-4 * (mean - average));
                net_.run(runs, from(i), state, gradient);
                for (std::size_t c = 0; c < q.size(); ++c) {
                    const gru_part& p = parts()[c];
                    of_outputs.resize(outputs[c].size());
                    require(quant::precision_search::mix_backward(
                                quant::view(std::as_const(outputs[c]), options, p.size),
                                std::span<const float>(gradient).subspan(p.first, p.size), share(c),
                                quant::view(of_outputs, options, p.size), slope),
                            p.name);
                    require(quant::precision_search::add_penalty_gradient(share(c), bits, strength, slope), p.name);
                    for (std::size_t w = 0; w < options; ++w)
                        logits.grad.data[c * options + w] = static_cast<float>(slope[w]);
                }
                optimizer.step(0.03f);
                shown.done(0);
            }
        }
        std::vector<double> loss;
        loss.reserve(a.size());
        for (const double s : a) loss.push_back(-std::log(std::max(s, 1e-30)));
        return q.allocate(loss, average, "budget");
    }

    /// All clusters at the given widths; biases as they are.
    void round_all(std::span<const float> theta, const std::vector<int>& bits, std::span<float> runs) const {
        std::size_t c = 0;
        for (const gru_part& p : parts()) {
            const std::vector<float> w = rounded({p.name, {}, 1}, theta.subspan(p.first, p.size), bits[c++]);
            std::copy(w.begin(), w.end(), runs.begin() + static_cast<std::ptrdiff_t>(p.first));
        }
    }

    /// Gradients of the rounded weights move the real ones. No widths: all stays float, for as long.
    double straight_through(const std::vector<int>& bits, quant_tool::progress& shown) const {
        std::vector<float> theta = theta_;
        training_method method;
        if (!bits.empty())
            method.forward = [&](std::span<const float> from, std::span<float> runs) { round_all(from, bits, runs); };
        language::train(net_, text_, theta, o_.tuning, tuning_rate, method, [&] { shown.done(0); });
        std::vector<float> runs = theta;
        if (!bits.empty()) round_all(theta, bits, runs);
        return judge(runs);
    }

    /// Bits per character of one run: on the text that choices are made on, and on the one that judges.
    struct outcome {
        double chosen_by = 0, judged = 0;
    };

    /// Projection and dual step every `admm_period` steps, and after the last. rho grows geometrically from the given one to admm_growth
    /// times that, and u = y / rho shrinks as it does. Of all iterates the one stays that is best on the text that choices are made on.
    outcome admm(const std::vector<int>& bits, double rho, quant_tool::progress& shown) const {
        const std::size_t n = net_.size(), last = o_.tuning * steps();
        const double growth = std::pow(admm_growth, static_cast<double>(admm_period) / static_cast<double>(last));
        std::vector<float> theta = theta_, own(n), q(n), u(n), runs(n), best_runs = theta_;
        std::vector<std::int8_t> codes(n), best_codes(n);
        std::vector<quant::fit_event> scratch(n);
        quant::admm::best_iterate best;
        std::vector<quant::admm::cluster<float>> all;
        for (std::size_t c = 0; c < bits.size(); ++c) {
            const gru_part& p = parts()[c];
            const auto piece = [&](auto& v) { return std::span(v).subspan(p.first, p.size); };
            all.push_back({piece(own), piece(q), piece(u), piece(codes), bits[c]});
        }
        const auto project = [&](std::span<const float> from, bool first) {
            std::copy(from.begin(), from.end(), own.begin());
            quant::admm::iterate now;
            for (const auto& c : all)
                now = require(first ? quant::admm::start(c, scratch) : quant::admm::update(c, scratch), "weights");
            std::copy(from.begin(), from.end(), runs.begin()); // the biases
            std::copy(q.begin(), q.begin() + static_cast<std::ptrdiff_t>(net_.parts().back().first), runs.begin());
            const double loss = language::judge(net_, runs, text_.calibration());
            if (quant::admm::keep_better(loss, now, codes, best, best_codes)) best_runs = runs;
        };
        project(theta, true);
        training_method method;
        method.backward = [&](std::span<const float> from, std::span<float> gradient) {
            std::copy(from.begin(), from.end(), own.begin());
            for (std::size_t c = 0; c < all.size(); ++c)
                require(
                    quant::admm::add_penalty_gradient(all[c], rho, gradient.subspan(parts()[c].first, parts()[c].size)),
                    parts()[c].name);
        };
        method.after_step = [&](std::span<const float> from, std::size_t step) {
            if (step % admm_period != 0 && step != last) return;
            project(from, false);
            rho *= growth;
            for (float& d : u) d = static_cast<float>(static_cast<double>(d) / growth);
        };
        language::train(net_, text_, theta, o_.tuning, tuning_rate, method, [&] { shown.done(0); });
        return {best.loss, judge(best_runs)};
    }

    /// The rho that is best on the text that choices are made on.
    double best_admm(const std::vector<int>& bits, quant_tool::progress& shown) const {
        std::vector<outcome> all;
        for (const double rho : o_.rho) all.push_back(admm(bits, rho, shown));
        return std::min_element(all.begin(), all.end(),
                                [](const outcome& a, const outcome& b) { return a.chosen_by < b.chosen_by; })
            ->judged;
    }

    gru_options o_;
    corpus text_;
    network net_;
    std::vector<float> theta_;
};

} // namespace

void compare_gru(const gru_options& o) { example(o).run(); }

} // namespace language
