// SPDX-License-Identifier: MIT

// The ACIQ paper's tables on real networks, beside this library's best and ONNX Runtime. See docs/networks.md.

#include "harness.hpp"
#include "peer.hpp"
#include "tables.hpp"

#include "../quant/report.hpp"
#include "../quant/run_program.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <thread>

namespace {

using namespace networks;
using quant_tool::error;
using quant_tool::exit_code;
namespace fs = std::filesystem;

struct options : run_options {
    std::string data, output = "build/networks", python = NETWORKS_PYTHON;
    std::vector<std::string> names;
    bool no_peer = false;
};

constexpr const char* explanation =
    R"(Quantizes the networks of the data folder without training them again and counts what that costs on their labelled samples:
the methods of the ACIQ paper (Banner et al. 2019, arXiv 1810.05723) in the authors' setting and in integers, what the library
offers beyond them, and ONNX Runtime's quantize_static. Rows that networks.csv has already are not computed again.)";

constexpr const char* footer = R"(Written to the output folder, each file whole or not at all:
  networks.csv layers.csv networks.md accuracy-<network>.svg

Exit codes: 0 done; 1 internal error; 2 wrong options; 3 an input is missing or damaged; 4 the output
cannot be written; 5 a float network does not have the documented accuracy.)";

/// "mobilenet_v2 authors 4W4A all: 57.2 (52.8-61.5)".
void say(const row& r, const row* reference) {
    std::cout << r.network << ' ' << r.method << ' ' << r.weight_bits << 'W' << r.activation_bits << 'A'
              << (r.setting == setting::authors    ? ", authors' setting"
                  : r.setting == setting::integers ? ", integers"
                  : r.setting == setting::beyond   ? ", beyond the paper"
                  : r.setting == setting::peer     ? ", ONNX Runtime"
                                                   : "")
              << (r.exempt ? ", ends at 8 bits: " : ": ")
              << (r.note.empty() ? accuracy_text(r, reference) : "refused: " + r.note)
              << quant_tool::number_text(" [%.1f s]\n", r.seconds) << std::flush;
}

class session {
public:
    explicit session(const options& o) : options_(o), results_(o.output) {}

    void run(const subject& s) {
        std::vector<key> open;
        std::size_t samples = 0;
        const std::vector<key> rows = plan(s, options_);
        for (const key& k : rows) {
            if (results_.find(k) != nullptr || (k.setting == setting::peer && options_.no_peer)) continue;
            open.push_back(k);
            samples += k.setting == setting::peer ? 0 : k.samples;
        }
        if (!open.empty()) {
            bench b(s, options_.data, options_);
            b.use_layers(results_.layers(s.name, layer_options(s)));
            quant_tool::progress shown(s.title, samples, 0, options_.quiet, "samples");
            std::vector<key> peers;
            std::copy_if(open.begin(), open.end(), std::back_inserter(peers),
                         [](const key& k) { return k.setting == setting::peer; });
            for (const key& k : open) {
                if (k.setting == setting::peer) {
                    if (k == peers.front()) ask_peer(s, b, peers); // all at once: Python takes a while to start
                    continue;
                }
                if ((k.method == allocated || k.method == finer_sums) &&
                    results_.layers(s.name, layer_options(s)).empty()) {
                    auto layers = b.measure_layers();
                    results_.set_layers(layers);
                    b.use_layers(std::move(layers));
                }
                add(b.run(k, [&](std::size_t n) { shown.done(0, n); }));
                if (k.setting == setting::reference) b.check_reference(results_.rows().back());
            }
        }
        report();
    }

    /// Markdown of everything, pictures of what is chosen.
    std::string report() const {
        std::vector<chapter> chapters;
        for (const subject& s : subjects()) {
            std::vector<row> rows;
            for (const key& k : plan(s, options_))
                if (const row* const r = results_.find(k)) rows.push_back(*r);
            if (rows.empty()) continue;
            chapter c = make_chapter(s, std::move(rows), results_.layers(s.name, layer_options(s)));
            write_text(options_.output + "/accuracy-" + s.name + ".svg", as_svg(c));
            chapters.push_back(std::move(c));
        }
        std::string text = as_markdown(chapters);
        write_text(options_.output + "/networks.md", text);
        return text;
    }

private:
    void add(row r) {
        results_.add(std::move(r));
        const row& last = results_.rows().back();
        const row* reference = nullptr;
        for (const row& one : results_.rows())
            if (one.network == last.network && one.setting == setting::reference) reference = &one;
        if (!options_.quiet) say(last, reference);
    }

    void ask_peer(const subject& s, const bench& b, const std::vector<key>& rows) {
        if (!peer_missing_.empty()) return;
        auto answers = run_peer(rows, b, options_.data + "/" + s.model, options_.python,
                                fs::path(options_.output) / "onnxruntime", options_.threads);
        peer_missing_ = answers.unavailable;
        if (!peer_missing_.empty())
            std::cout << "ONNX Runtime's rows are left out: " << peer_missing_ << '\n' << std::flush;
        for (row& r : answers.rows) add(std::move(r));
    }

    const options& options_;
    store results_;
    std::string peer_missing_;
};

void settle(options& o) {
    if (o.data.empty())
        if (const char* const folder = std::getenv("QUANT_DATA")) o.data = folder;
    if (o.data.empty()) throw error(exit_code::usage, {}, "--data is missing, and QUANT_DATA is not set");
    if (!fs::is_directory(o.data)) throw error(exit_code::input, o.data, "is not a folder");
    if (o.quick) o.samples = std::min<std::size_t>(o.samples, 100);
    if (o.quick && o.names.empty()) o.names = {subjects().front().name};
    for (const std::string& name : o.names)
        if (std::none_of(subjects().begin(), subjects().end(), [&](const subject& s) { return name == s.name; })) {
            std::string known = "--networks: no network '" + name + "'; there are";
            for (const subject& s : subjects()) known.append(" ").append(s.name);
            throw error(exit_code::usage, {}, known);
        }
    std::error_code failed;
    fs::create_directories(o.output, failed);
    if (failed || !fs::is_directory(o.output)) throw error(exit_code::output, o.output, "cannot be made a folder");
}

int run(options& o) {
    settle(o);
    session all(o);
    for (const subject& s : subjects())
        if (o.names.empty() || std::find(o.names.begin(), o.names.end(), s.name) != o.names.end()) all.run(s);
    const std::string text = all.report();
    if (!o.quiet) std::cout << '\n' << text;
    quant_tool::finish_output();
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("networks", [&] {
        options o;
        o.threads = std::max(1U, std::thread::hardware_concurrency());
        CLI::App app(explanation, "networks");
        app.footer(footer);
        app.add_option("--data", o.data, "Folder of networks and samples; otherwise QUANT_DATA names it");
        app.add_option("--output", o.output, "Folder for the results, made when missing")->capture_default_str();
        app.add_option("--networks", o.names, "Only these, separated by commas")->delimiter(',');
        app.add_option("--samples", o.samples, "At most so many of each; float always has all")
            ->check(CLI::Range(std::size_t{1}, std::size_t{1000000}))
            ->capture_default_str();
        app.add_option("--threads", o.threads, "The results never depend on it")->check(CLI::Range(1U, 256U));
        app.add_flag("--quick", o.quick, "A handful of rows on 100 samples of LeNet");
        app.add_option("--python", o.python, "Python with onnxruntime and onnx")->capture_default_str();
        app.add_flag("--no-peer", o.no_peer, "Without ONNX Runtime's rows");
        app.add_flag("--quiet", o.quiet, "Only the files");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "networks --help");
        return done ? *done : run(o);
    });
}
