// SPDX-License-Identifier: MIT

// Ways to train with few bits, on the digits network: every method beside float and beside plain uniform steps of the same size.

#include "arms.hpp"

#include "../nn/weights.hpp"
#include "../quant/run_program.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace methods;

constexpr const char* explanation =
    R"(Trains the network for handwritten digits with few bits, by several methods, from the same float weights,
and prints how many of the images it never saw it gets right, and how many bits a weight takes.

  rmsmp        rows of powers of two, of 4 and of 8 bits at the ratio 65:30:5
  dropbits     probabilistic grids of 4 bits; gates that find a width for each layer
  constraints  the float network trained to stay close to its quantized copy; the
               multipliers say which layer suffers most
  search       each layer mixes 2, 4 and 8 bits, a penalty chooses; then trained on
  admm         real weights pulled to ternary and 3-bit tables

Weights are quantized; biases and activations stay in float.)";

constexpr const char* footer =
    R"(Exit codes: 0 done; 2 wrong options; 3 an input file is missing or damaged; 5 the values do not
admit what was asked for.

Examples:
  methods                       all methods, about a minute
  methods admm search           two of them
  methods --epochs 40 --seed 7  longer, with another order of the images)";

/// Prints rows as they come, and on stderr how far the whole is.
class table {
public:
    explicit table(std::size_t total) : total_(total), begun_(std::chrono::steady_clock::now()) {}
    void head(const char* title) {
        clear();
        std::printf("\n%-44s %6s %10s\n", title, "bits", "unseen, %");
    }
    void row(const std::string& name, const outcome& o) {
        clear();
        std::printf("%-44s %6.2f %10.2f  %s\n", name.c_str(), o.bits, o.accuracy, o.remark.c_str());
        std::fflush(stdout);
        ++done_;
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun_;
        if (done_ < total_)
            std::fprintf(stderr, "%zu of %zu runs, %.0f s left", done_, total_,
                         passed.count() / static_cast<double>(done_) * static_cast<double>(total_ - done_));
    }

private:
    static void clear() { std::fprintf(stderr, "\r%40s\r", ""); }
    std::size_t total_, done_ = 0;
    std::chrono::steady_clock::time_point begun_;
};

/// Trained once for each choice of widths.
outcome trained_uniform(const task& t, const std::vector<int>& widths) {
    static std::map<std::vector<int>, outcome> known;
    const auto found = known.find(widths);
    if (found != known.end()) return found->second;
    const model net(t.start);
    uniform m(net, widths);
    return known[widths] = train(t, m);
}

void run_rmsmp(const task& t, table& out) {
    out.head("Rows in different schemes");
    const model net(t.start);
    rmsmp_method m(net);
    out.row("RMSMP 65:30:5", train(t, m));
    out.row("uniform, trained", trained_uniform(t, {4}));
    out.row("uniform, rounded", round_only(t, 4));
}
void run_dropbits(const task& t, table& out) {
    out.head("Probabilistic grids");
    const model net(t.start);
    dropbits_method plain(net, 0, t.how.seed);
    out.row("CPQ", train(t, plain));
    for (const double strength : {0.1, 1.0}) {
        dropbits_method m(net, strength, t.how.seed);
        char name[64];
        std::snprintf(name, sizeof name, "CPQ + DropBits, penalty %g", strength);
        out.row(name, train(t, m));
    }
    for (const int bits : {4, 3, 2}) out.row("uniform, trained", trained_uniform(t, {bits}));
}
void run_constraints(const task& t, table& out) {
    out.head("Training close to the quantized copy");
    const model net(t.start);
    std::vector<double> lambda;
    for (const int bits : {4, 3}) {
        out.row("constraints", train_under_constraints(t, std::vector<int>(net.shapes.size(), bits), lambda));
        out.row("nearest tables, rounded", round_fitted_only(t, bits));
        out.row("uniform, rounded", round_only(t, bits));
    }
    std::vector<std::uint32_t> order(net.shapes.size());
    lambda.pop_back();
    require(quant::constraints::rank_layers(lambda, order), "multipliers");
    std::string ranking;
    for (const std::uint32_t l : order) ranking += (ranking.empty() ? "" : " > ") + net.shapes[l].name;
    std::vector<int> first(net.shapes.size(), 3), last = first;
    first[order.front()] = 8;
    last[order.back()] = 8;
    auto high = train_under_constraints(t, first, lambda), low = train_under_constraints(t, last, lambda);
    high.remark += "; multipliers " + ranking;
    out.row("constraints, most suffering layer in 8 bits", high);
    out.row("constraints, least suffering layer in 8 bits", low);
}
void run_search(const task& t, table& out) {
    out.head("Widths found by mixing");
    const model net(t.start);
    for (const double strength : {0.02, 0.08}) {
        search_method m(net, strength);
        static_cast<void>(train(t, m));
        std::vector<int> widths;
        for (std::size_t l = 0; l < net.shapes.size(); ++l) widths.push_back(m.width(l));
        outcome o = trained_uniform(t, widths);
        o.remark = "widths " + widths_text(net, [&](std::size_t l) { return widths[l]; });
        char name[64];
        std::snprintf(name, sizeof name, "search, penalty %g, then trained", strength);
        out.row(name, o);
    }
    for (const int bits : {4, 3, 2}) out.row("uniform, trained", trained_uniform(t, {bits}));
}
void run_admm(const task& t, table& out) {
    out.head("ADMM");
    const model net(t.start);
    for (const int bits : {3, 2}) {
        admm_method m(net, bits, 0.05, t.training);
        out.row("ADMM", train(t, m));
        out.row("uniform, trained", trained_uniform(t, {bits}));
        out.row("uniform, rounded", round_only(t, bits));
    }
}

struct entry {
    const char* name;
    std::size_t rows;
    void (*run)(const task&, table&);
};
constexpr entry entries[] = {{"rmsmp", 3, run_rmsmp},
                             {"dropbits", 6, run_dropbits},
                             {"constraints", 8, run_constraints},
                             {"search", 5, run_search},
                             {"admm", 6, run_admm}};

int run(const std::string& data, const std::vector<std::string>& names, std::size_t images, task& t) {
    const digits::dataset all = digits::load(data + "/digits.csv.gz");
    t.training = all.part(0, images);
    t.unseen = all.unseen();
    const std::string file = data + "/digits.safetensors";
    t.start = nn::load_weights(file);
    try {
        model net(t.start);
        std::printf("%-44s %6s %10s\n", "", "bits", "unseen, %");
        std::printf("%-44s %6.2f %10.2f\n", "float", 32.0, net.accuracy(t.unseen));
    } catch (const std::runtime_error& e) {
        throw quant_tool::error(quant_tool::exit_code::input, file, e.what());
    }
    std::size_t rows = 0;
    const auto wanted = [&](const char* name) {
        return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
    };
    for (const entry& e : entries) rows += wanted(e.name) ? e.rows : 0;
    table out(rows);
    for (const entry& e : entries)
        if (wanted(e.name)) e.run(t, out);
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("methods", [&] {
        CLI::App app{explanation, "methods"};
        app.footer(footer);
        std::string data = METHODS_DATA_DIR;
        std::vector<std::string> names;
        std::size_t images = digits::training_images;
        task t;
        app.add_option("methods", names, "which: rmsmp dropbits constraints search admm; all without")
            ->check(CLI::IsMember({"rmsmp", "dropbits", "constraints", "search", "admm"}));
        app.add_option("--data", data, "folder of digits.csv.gz and digits.safetensors");
        app.add_option("--epochs", t.how.epochs, "epochs of every training")->check(CLI::Range(1, 1000));
        app.add_option("--images", images, "training images that are used, from the first one on")
            ->check(CLI::Range(std::size_t{1}, digits::training_images));
        app.add_option("--seed", t.how.seed, "order and shifts of the images, draws of the gates");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "methods --help");
        return done ? *done : run(data, names, images, t);
    });
}
