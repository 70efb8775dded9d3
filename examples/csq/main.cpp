// SPDX-License-Identifier: MIT

// Bits found in training, on a small network of dense layers: how much accuracy CSQ, BSQ, FracBits and uniform training keep at which size.

#include "../quant/report.hpp"
#include "../quant/run_program.hpp"
#include "plan.hpp"
#include "results.hpp"
#include "tables.hpp"
#include "task.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace csq_example;

constexpr const char* explanation =
    "Bits found in training: accuracy against size of CSQ, BSQ, FracBits and uniform training.\n\n"
    "A network of three dense layers is trained in float and then, from these weights, with every method and every "
    "size. What can be chosen\n"
    "about a method is chosen on the last training rows; then it learns from all training rows and is asked the unseen "
    "ones.\n"
    "The digits in this repository take under a minute; the 20 000 letters of UCI (--letters) take minutes.";
constexpr const char* footer =
    "planes   nominal size: digits of {-1, 0, 1} per weight, the sign not counted\n"
    "stored   bits per weight in the library's bit planes\n"
    "         CSQ, fixed planes: the planes CSQ found, then rounding with a learned step\n\n"
    "Examples:\n"
    "  csq\n"
    "  csq --letters letter-recognition.csv --results letters.tsv --pictures pictures\n\n"
    "Exit codes: 0 done, 2 wrong options, 3 a file cannot be used, 4 a file cannot be written.";

struct options {
    std::string letters, results, pictures;
    std::size_t seeds = 0, epochs = 0, choosing_seeds = 0;
    unsigned threads = 1;
    bool quiet = false;
};

class experiment {
public:
    experiment(const task& t, const options& o, store& results) : task_(t), o_(o), results_(results) {
        for (const bool choose : {false, true}) splits_[choose] = split_rows(t, choose);
        nn::random r(1);
        nn::network net;
        build(net, t, r);
        sizes_ = sizes_of(weights_of(net));
    }

    /// All runs that are not in the results. Returns the chosen candidates.
    choices run() {
        std::vector<key> asked;
        const auto for_each_setting = [](const auto& f) {
            for (const entry& e : plan())
                for (const double setting : e.settings) f(e, setting);
        };
        if (o_.choosing_seeds > 0)
            for_each_setting([&](const entry& e, double setting) {
                const std::size_t all = candidates(e.name, setting, sizes_).size();
                for (std::size_t c = 0; c < all; ++c)
                    for (std::size_t s = 0; s < o_.choosing_seeds; ++s) asked.push_back({true, e.name, setting, c, s});
            });
        // The float network comes first: the others start from the chosen one.
        std::stable_partition(asked.begin(), asked.end(), [](const key& k) { return k.arm == float_name; });
        const auto others = std::find_if(asked.begin(), asked.end(), [](const key& k) { return k.arm != float_name; });
        run_all("choosing, float", {asked.begin(), others});
        chosen_ = choose();
        run_all("choosing", {others, asked.end()});
        chosen_ = choose();
        asked.clear();
        for (std::size_t s = 0; s < o_.seeds; ++s) // a file of fewer seeds is whole early
            for_each_setting([&](const entry& e, double setting) {
                asked.push_back({false, e.name, setting, chosen_.at({e.name, setting}).candidate, s});
            });
        run_all("training", asked);
        return chosen_;
    }
    [[nodiscard]] const std::vector<std::size_t>& sizes() const { return sizes_; }

private:
    [[nodiscard]] choices choose() const {
        choices best;
        for (const entry& e : plan())
            for (const double setting : e.settings) {
                choice& one = best[{e.name, setting}];
                const std::size_t all = candidates(e.name, setting, sizes_).size();
                for (std::size_t c = 0; c < all; ++c) {
                    double percent = 0, stored = 0;
                    std::size_t n = 0;
                    for (std::size_t s = 0; s < o_.choosing_seeds; ++s)
                        if (const outcome* o = results_.find({true, e.name, setting, c, s})) {
                            percent += o->percent;
                            stored += o->size.stored;
                            ++n;
                        }
                    if (n == 0 || percent / static_cast<double>(n) <= one.percent) continue;
                    one = {c, percent / static_cast<double>(n), stored / static_cast<double>(n)};
                }
            }
        return best;
    }

    void run_all(const std::string& what, const std::vector<key>& asked) {
        std::vector<key> open;
        for (const key& k : asked)
            if (!results_.has(k)) open.push_back(k);
        if (open.empty()) return;
        quant_tool::progress shown(what, open.size(), 0, o_.quiet, "runs");
        std::atomic<std::size_t> next{0};
        std::exception_ptr failure;
        std::mutex guard;
        const auto work = [&] {
            for (;;) {
                const std::size_t i = next++;
                if (i >= open.size()) return;
                try {
                    outcome o{{32, 32, 32}, 0, 0, 0, 0, 0, "diverged", {}};
                    try {
                        o = run(open[i]);
                    } catch (const diverged&) {
                        if (open[i].arm == float_name) throw;
                    }
                    results_.add(open[i], o);
                } catch (...) {
                    const std::lock_guard lock(guard);
                    failure = std::current_exception();
                    next = open.size();
                }
                shown.done(0);
            }
        };
        std::vector<std::thread> others;
        for (unsigned t = 1; t < o_.threads; ++t) others.emplace_back(work);
        work();
        for (std::thread& t : others) t.join();
        if (failure) std::rethrow_exception(failure);
    }

    /// Seeds for choosing are others than those of the runs that are reported.
    [[nodiscard]] static std::uint64_t seed_of(const key& k) { return (k.choose ? 1000 : 1) + k.seed; }

    const nn::tensor_map& trained_of(const key& k) {
        const std::lock_guard lock(trained_guard_); // a second thread that needs the same one waits for it
        const auto at = trained_.find({k.choose, k.seed});
        if (at != trained_.end()) return at->second;
        nn::random r(seed_of(k));
        nn::network net;
        build(net, task_, r);
        const knobs chosen = candidates(float_name, 0, sizes_)[chosen_.at({float_name, 0.0}).candidate];
        float_arm a(weights_of(net));
        const split& s = splits_[k.choose];
        (void)train(a, net, s.training, {o_.epochs, task_.batch, chosen.rate}, r, [](std::size_t) {});
        return trained_[{k.choose, k.seed}] = net.weights();
    }

    outcome run(const key& k) {
        const knobs chosen = candidates(k.arm, k.setting, sizes_)[k.candidate];
        const split& s = splits_[k.choose];
        nn::random r(seed_of(k));
        nn::network net;
        build(net, task_, r);
        run_options how{o_.epochs, task_.batch, chosen.rate};
        outcome o;
        if (k.arm != float_name) {
            net.set_weights(trained_of(k));
            r = nn::random(100000 + seed_of(k)); // the same order of rows for all arms
        }
        const auto a = make(k.arm, k.setting, chosen, weights_of(net), steps_of(s.training, how));
        const integer_model m = train(*a, net, s.training, how, r, [&](std::size_t) {
            std::string now;
            for (const double planes : a->planes())
                now += (now.empty() ? "" : " ") + quant_report::formatted("%g", planes);
            o.course += (o.course.empty() ? "" : ",") + now;
            o.layers = now;
        });
        o.percent = accuracy(net, s.asked);
        o.integer_percent = o.percent;
        o.size = {32, 32, 32};
        if (m.empty()) return o;
        o.size = size_of(m);
        std::vector<std::vector<float>> biases;
        for (const nn::parameter* p : net.parameters())
            if (p->value.shape.size() == 1) biases.push_back(p->value.data);
        const execution e = execute(m, biases, s.asked.x.data, s.asked.labels);
        o.different = e.different;
        o.integer_percent = 100 * static_cast<double>(e.right) / static_cast<double>(s.asked.size());
        for (const integer_layer& l : m) o.bytes += stored_layer(l).bytes();
        o.file_bytes = k.choose ? o.bytes : written_bytes(m);
        return o;
    }

    /// One file at a time, which is removed again.
    std::size_t written_bytes(const integer_model& m) {
        const std::lock_guard lock(file_guard_);
        const std::filesystem::path path =
            std::filesystem::temp_directory_path() / ("csq-planes-" + std::to_string(::getpid()) + ".safetensors");
        const std::size_t bytes = bytes_in_file(m, path.string());
        std::filesystem::remove(path);
        return bytes;
    }

    const task& task_;
    const options& o_;
    store& results_;
    split splits_[2];
    std::vector<std::size_t> sizes_;
    choices chosen_;
    std::map<std::pair<bool, std::size_t>, nn::tensor_map> trained_; ///< in float: what all arms of a seed start from
    std::mutex trained_guard_, file_guard_;
};

int run(options o) {
    const task t = o.letters.empty() ? digits_task(CSQ_DIGITS_FILE) : letters_task(o.letters);
    const bool quick = o.letters.empty();
    if (o.seeds == 0) o.seeds = quick ? 3 : 5;
    if (o.epochs == 0) o.epochs = quick ? 25 : 100;
    store results(o.results, t.name + "\t" + std::to_string(o.epochs) + " epochs");
    experiment e(t, o, results);
    const choices chosen = e.run();
    const summary s(results, chosen, o.seeds);
    std::cout << as_text(s, t.name, o.epochs);
    if (!o.pictures.empty()) write_pictures(s, o.pictures);
    quant_tool::finish_output();
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("csq", [&] {
        options o;
        o.choosing_seeds = 1;
        o.threads = std::max(1U, std::thread::hardware_concurrency());
        CLI::App app(explanation, "csq");
        app.footer(footer);
        app.add_option("--letters", o.letters, "UCI's letter recognition, a CSV of a letter and 16 numbers per line");
        app.add_option("--results", o.results,
                       "File that keeps finished runs; a program that was stopped goes on there");
        app.add_option("--pictures", o.pictures, "Folder for the SVG pictures, made when missing");
        app.add_option("--seeds", o.seeds, "Runs of every arm (3; letters: 5)")->check(CLI::Range(1, 100));
        app.add_option("--epochs", o.epochs, "Epochs of every run (25; letters: 100)")->check(CLI::Range(1, 10000));
        app.add_option("--choosing-seeds", o.choosing_seeds, "Runs of every candidate; 0: nothing is chosen")
            ->check(CLI::Range(0, 100))
            ->capture_default_str();
        app.add_option("--threads", o.threads, "The results never depend on it")->check(CLI::Range(1U, 256U));
        app.add_flag("--quiet", o.quiet, "No progress");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "csq --help");
        return done ? *done : run(o);
    });
}
