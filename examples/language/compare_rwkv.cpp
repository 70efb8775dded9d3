// SPDX-License-Identifier: MIT

// Which matrix of a trained language model needs how many bits: what the model's own outputs say beside what the weights say.

#include "../quant/report.hpp"
#include "clusters.hpp"
#include "programs.hpp"
#include "rwkv.hpp"

#include <iostream>

namespace language {
namespace {

using quant_tool::number_text;

std::span<const float> values(const rwkv::activations& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }

/// Texts of one length, and what follows each of their positions but the last.
struct texts {
    std::vector<std::uint8_t> bytes{};
    std::size_t length = 1;
    [[nodiscard]] std::size_t count() const { return bytes.size() / length; }
    [[nodiscard]] texts part(std::size_t from, std::size_t n) const {
        const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(from * length);
        return {std::vector<std::uint8_t>(begin, begin + static_cast<std::ptrdiff_t>(n * length)), length};
    }
    [[nodiscard]] double bits(const rwkv::activations& logits) const {
        double sum = 0;
        const std::size_t rows = static_cast<std::size_t>(logits.rows());
        for (std::size_t i = 0; i < count(); ++i)
            sum += bits_per_symbol(values(logits).subspan(i * length * rows, (length - 1) * rows),
                                   std::span(bytes).subspan(i * length + 1, length - 1), rows);
        return sum / static_cast<double>(count());
    }
};

/// KL of the outputs with some weights changed, beside those of the network as it was.
class divergence_from {
public:
    divergence_from(const rwkv& model, const texts& t) : model_(model), texts_(t), into_{model.embed(t.bytes)} {
        for (std::size_t b = 0; b < model.blocks(); ++b) {
            into_.push_back(into_.back());
            model.run_block(b, into_.back(), t.length);
        }
        full_ = model.head(into_.back());
    }
    /// `changed` and what comes after its block may have other weights than before.
    [[nodiscard]] double operator()(const rwkv::matrix& changed) const {
        rwkv::activations x = changed.name == "emb" ? model_.embed(texts_.bytes) : into_[changed.block];
        for (std::size_t b = changed.block; b < model_.blocks(); ++b) model_.run_block(b, x, texts_.length);
        return require(quant::logit_divergence(values(full_), values(model_.head(x)), model_.vocabulary()),
                       changed.name);
    }

private:
    const rwkv& model_;
    const texts& texts_;
    std::vector<rwkv::activations> into_; ///< what goes into every block, and into the head
    rwkv::activations full_;
};

/// The matrices that matter: with any other at zero the outputs stay what they are. Any width would do for those, and an average that counts
/// them would flatter every allocation.
std::vector<rwkv::matrix*> live_matrices(rwkv& model, const divergence_from& divergence, bool quiet) {
    constexpr double nothing = 1e-5; // nats
    std::vector<rwkv::matrix*> live;
    std::vector<std::pair<rwkv::matrix*, std::vector<float>>> dead;
    quant_tool::progress shown("matrices at zero", model.matrices().size(), 0, quiet, "networks");
    for (rwkv::matrix& m : model.matrices()) {
        std::vector<float> kept(m.weights.size(), 0.0f);
        kept.swap(m.weights);
        const bool matters = divergence(m) > nothing;
        kept.swap(m.weights);
        shown.done(0);
        if (matters)
            live.push_back(&m);
        else
            dead.emplace_back(&m, m.weights);
    }
    shown.clear();
    for (auto& [m, kept] : dead) std::fill(m->weights.begin(), m->weights.end(), 0.0f);
    std::cout << dead.size() << " of " << model.matrices().size()
              << " matrices change nothing where they are zero; all of them at zero: KL "
              << number_text("%.1e", divergence(model.matrices().front())) << " nats. They are left out.\n";
    for (auto& [m, kept] : dead) m->weights = std::move(kept);
    return live;
}

/// KL with one matrix alone at one width, [matrices, widths].
std::vector<double> divergences(const std::vector<rwkv::matrix*>& matrices, quantized_clusters& q,
                                const divergence_from& divergence, bool quiet) {
    std::vector<double> loss;
    quant_tool::progress shown("divergence", q.size() * q.widths().size(), 0, quiet, "networks");
    for (std::size_t c = 0; c < q.size(); ++c) {
        for (std::size_t w = 0; w < q.widths().size(); ++w) {
            q.set(c, w);
            loss.push_back(divergence(*matrices[c]));
            shown.done(0);
        }
        q.restore(c);
    }
    return loss;
}

} // namespace

void compare_rwkv(const rwkv_options& o) {
    using quant_tool::error;
    using quant_tool::exit_code;
    if (o.calibration >= o.samples) throw error(exit_code::usage, {}, "--calibration leaves no sample to judge by");
    const std::string folder = o.data + "/lm/", samples_path = folder + "selfgen_64x256.u8";
    rwkv model(folder + "tiny-rwkv-4v0-660K-FP32.bin");
    texts all{read_file(samples_path), 256};
    if (all.bytes.empty() || all.bytes.size() % all.length != 0)
        throw error(exit_code::input, samples_path, "not samples of 256 bytes");
    if (all.count() < o.samples) throw error(exit_code::input, samples_path, "fewer samples than --samples asks for");
    texts story{read_file(folder + "tinystories_sample.txt"), 1};
    story.length = story.bytes.size();
    if (story.length < 2) throw error(exit_code::input, folder + "tinystories_sample.txt", "too short");

    std::cout << "float: " << number_text("%.4f", all.bits(model.logits(all.bytes, all.length)))
              << " bits per byte on all " << all.count() << " samples of its own, "
              << number_text("%.4f", story.bits(model.logits(story.bytes, story.length))) << " on the story\n\n"
              << std::flush;
    const texts calibration = all.part(0, o.calibration), judged = all.part(o.calibration, o.samples - o.calibration);

    std::vector<cluster> clusters;
    const divergence_from change(model, calibration);
    const std::vector<rwkv::matrix*> matrices = live_matrices(model, change, o.quiet);
    std::string names;
    for (rwkv::matrix* m : matrices) {
        clusters.push_back({m->name, m->weights, m->rows});
        names += (names.empty() ? "" : ", ") + m->name;
    }
    quantized_clusters q(clusters, {2, 3, 4, 5, 6, 7, 8});
    const std::vector<double> divergence = divergences(matrices, q, change, o.quiet);

    std::vector<std::string> head{"KL, nats"};
    for (const std::uint8_t bits : q.widths()) head.push_back(std::to_string(bits) + " bits");
    quant_tool::table sensitivity(head);
    for (std::size_t c = 0; c < q.size(); ++c) {
        std::vector<std::string> row{clusters[c].name};
        for (std::size_t w = 0; w < q.widths().size(); ++w)
            row.push_back(number_text("%.1e", divergence[c * q.widths().size() + w]));
        sensitivity.row(row);
    }
    std::cout << clusters.size() << " matrices, " << q.elements()
              << " weights, a fitted step per row; one of them alone at a width, on " << o.calibration << " samples:\n";
    sensitivity.print(std::cout);
    std::cout << '\n' << std::flush;

    const rwkv::activations full = model.logits(judged.bytes, judged.length);
    quant_tool::table table({"", "bits", "own samples", "more", "KL, nats", "story", "more"});
    const double own_float = judged.bits(full), story_float = story.bits(model.logits(story.bytes, story.length));
    table.row({"float", "32", number_text("%.4f", own_float), "", "", number_text("%.4f", story_float), ""});
    quant_tool::progress shown("judging", 4 + 2 * o.averages.size(), 0, o.quiet, "networks");
    const auto add = [&](const std::string& name, const std::vector<std::uint8_t>& choice) {
        q.set(choice);
        const rwkv::activations found = model.logits(judged.bytes, judged.length);
        const double own = judged.bits(found), of_story = story.bits(model.logits(story.bytes, story.length));
        table.row({name, number_text("%.2f", q.average(choice)), number_text("%.4f", own),
                   number_text("%+.4f", own - own_float),
                   number_text("%.4f", require(quant::logit_divergence(values(full), values(found), 256), "logits")),
                   number_text("%.4f", of_story), number_text("%+.4f", of_story - story_float)});
        q.restore();
        shown.done(0);
    };
    for (const int bits : {8, 4, 3, 2}) add("uniform " + std::to_string(bits), q.uniform(bits));
    std::string notes;
    for (const double average : o.averages) {
        const std::string at = " at " + number_text("%g", average);
        const auto by_error = q.allocate(q.errors(), average, "budget");
        const auto by_outputs = q.allocate(divergence, average, "budget");
        add("by weight error" + at, by_error);
        add("by divergence" + at, by_outputs);
        notes += "by divergence" + at + ": " + q.text(by_outputs) + "\n";
    }
    shown.clear();
    std::cout << "bits per byte of the other " << judged.count() << " samples and of the story:\n";
    table.print(std::cout);
    std::cout << "\nwidths: " << names << "\n" << notes;
    quant_tool::finish_output();
}

} // namespace language
