// SPDX-License-Identifier: MIT

// Bits found in training, on a small network: what CSQ, BSQ and uniform training keep of the accuracy at which size. The digits in this repository
// by default, the UCI letters with --letters FILE. Every finished run is a line of the results file; a program that was stopped goes on there.

#include "arms.hpp"
#include "network.hpp"

#include "../digits/dataset.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace csq_example;

struct task {
    dataset training, unseen;
    std::vector<std::size_t> widths;
};

/// Features with the mean and spread of the training rows taken off.
task split(const dataset& all, std::size_t training_rows, std::size_t hidden) {
    task t{all.rows(0, training_rows), all.rows(training_rows, all.size() - training_rows), {}};
    const Eigen::RowVectorXf mean = t.training.features.colwise().mean();
    const Eigen::RowVectorXf spread =
        ((t.training.features.rowwise() - mean).array().square().colwise().mean().sqrt() + 1e-6f).matrix();
    for (dataset* d : {&t.training, &t.unseen})
        d->features = ((d->features.rowwise() - mean).array().rowwise() / spread.array()).matrix().eval();
    t.widths = {static_cast<std::size_t>(all.features.cols()), hidden, hidden, all.classes};
    return t;
}

task digits_task() {
    const digits::dataset d = digits::load(CSQ_DIGITS_FILE);
    dataset all{matrix(static_cast<Eigen::Index>(d.size()), digits::pixels), d.labels, digits::classes};
    std::copy(d.images.data.begin(), d.images.data.end(), all.features.data());
    return split(all, digits::training_images, 32);
}

/// Lines of a letter and 16 numbers, in any order: the letter is the field that is not a number. 16 000 train.
task letters_task(const std::string& path) {
    std::ifstream in(path);
    if (!in) throw std::runtime_error(path + ": cannot open");
    std::vector<float> numbers;
    dataset all;
    all.classes = 26;
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        std::vector<float> row;
        int label = -1;
        for (std::string field; std::getline(fields, field, ',');) {
            while (!field.empty() && (field.back() == '\r' || field.back() == '"')) field.pop_back();
            if (!field.empty() && field.front() == '"') field.erase(0, 1);
            if (field.size() == 1 && field[0] >= 'A' && field[0] <= 'Z')
                label = field[0] - 'A';
            else if (!field.empty() && field.find_first_not_of("0123456789") == std::string::npos)
                row.push_back(std::stof(field));
        }
        if (label < 0 || row.size() != 16) continue; // a heading
        numbers.insert(numbers.end(), row.begin(), row.end());
        all.labels.push_back(static_cast<std::uint8_t>(label));
    }
    if (all.size() < 17000)
        throw std::runtime_error(path + ": expected 20000 letters, found " + std::to_string(all.size()));
    all.features = Eigen::Map<const matrix>(numbers.data(), static_cast<Eigen::Index>(all.size()), 16);
    return split(all, 16000, 64);
}

/// One run: an arm over some epochs. Returns the weights it ended with, in `w`, and its size.
model_size train(arm& a, classifier& net, const task& t, std::size_t epochs, nn::random& r, weights& w) {
    constexpr std::size_t batch = 64;
    const std::size_t batches = t.training.size() / batch, steps = epochs * batches;
    weights grads;
    const quant::cosine_rate rate{.start = 0.05};
    std::vector<std::size_t> order;
    for (std::size_t step = 0; step < steps; ++step) {
        if (step % batches == 0) order = nn::permutation(t.training.size(), r);
        const auto from = order.begin() + static_cast<std::ptrdiff_t>(step % batches * batch);
        const moment at{step, steps, static_cast<float>(rate(static_cast<double>(step), static_cast<double>(steps)))};
        a.forward(at, w);
        net.gradients(w, t.training, {from, from + batch}, at.rate, grads);
        a.update(at, grads);
    }
    return a.finish(w);
}

struct outcome {
    double planes = 0, stored = 0, accuracy = 0;
};

/// Arms by name; the setting is the target in planes, or the strength of BSQ's lasso.
std::unique_ptr<arm> make(const std::string& name, double setting, const weights& w) {
    if (name == "uniform, largest weight") return std::make_unique<planes_arm>(w, static_cast<int>(setting), false);
    if (name == "uniform, learned step") return std::make_unique<planes_arm>(w, static_cast<int>(setting), true);
    if (name == "CSQ") return std::make_unique<csq_arm>(w, setting, 1.0);
    if (name == "CSQ, then fixed planes") return std::make_unique<csq_arm>(w, setting, 0.6);
    if (name == "BSQ, then fixed planes") return std::make_unique<bsq_arm>(w, setting, 0.6);
    throw std::logic_error(name);
}

using key = std::tuple<std::string, double, std::size_t>;

std::map<key, outcome> read_results(const std::string& path) {
    std::map<key, outcome> found;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        std::string name;
        double setting = 0;
        std::size_t seed = 0;
        outcome o;
        if (std::getline(fields, name, '\t') && fields >> setting >> seed >> o.planes >> o.stored >> o.accuracy)
            found[{name, setting, seed}] = o;
    }
    return found;
}

int run(const task& t, std::size_t seeds, std::size_t epochs, const std::string& path) {
    const std::vector<std::pair<std::string, std::vector<double>>> plan{
        {"float", {0}},
        {"uniform, largest weight", {1, 2, 3, 4}},
        {"uniform, learned step", {1, 2, 3, 4}},
        {"BSQ, then fixed planes", {0.02, 0.05, 0.1, 0.2}},
        {"CSQ", {1, 1.5, 2, 3}},
        {"CSQ, then fixed planes", {1, 1.5, 2, 3}},
    };
    auto found = path.empty() ? std::map<key, outcome>{} : read_results(path);
    std::size_t total = 0, done = 0, ran = 0;
    for (const auto& [name, settings] : plan) total += settings.size() * seeds;
    const auto begun = std::chrono::steady_clock::now();
    for (std::size_t seed = 0; seed < seeds; ++seed) {
        nn::random r(seed + 1);
        classifier common(t.widths);
        weights trained = common.start(r);
        { // the float model that every arm starts from
            float_arm a(trained);
            const model_size size = train(a, common, t, epochs, r, trained);
            found[{"float", 0.0, seed}] = {size.planes, size.stored, common.accuracy(trained, t.unseen)};
            ++done;
        }
        for (const auto& [name, settings] : plan) {
            if (name == "float") continue;
            for (const double setting : settings) {
                ++done;
                if (found.count({name, setting, seed}) != 0) continue;
                classifier net = common;
                nn::random order(1000 + seed);
                weights w = trained;
                const auto a = make(name, setting, trained);
                const model_size size = train(*a, net, t, epochs, order, w);
                const outcome o{size.planes, size.stored, net.accuracy(w, t.unseen)};
                found[{name, setting, seed}] = o;
                if (!path.empty())
                    std::ofstream(path, std::ios::app) << name << '\t' << setting << '\t' << seed << '\t' << o.planes
                                                       << '\t' << o.stored << '\t' << o.accuracy << '\n';
                ++ran;
                const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun;
                std::fprintf(stderr, "\r%zu of %zu runs, %.0f s left    ", done, total,
                             passed.count() / static_cast<double>(ran) * static_cast<double>(total - done));
            }
        }
    }
    std::fprintf(stderr, "\n");
    std::printf("%-26s %8s %8s %8s %18s\n", "", "asked", "planes", "stored", "unseen, % (sd)");
    for (const auto& [name, settings] : plan)
        for (const double setting : settings) {
            outcome mean;
            double square = 0;
            const auto n = static_cast<double>(seeds);
            for (std::size_t seed = 0; seed < seeds; ++seed) {
                const outcome& o = found[{name, setting, seed}];
                mean.planes += o.planes / n;
                mean.stored += o.stored / n;
                mean.accuracy += o.accuracy / n;
                square += o.accuracy * o.accuracy / n;
            }
            const double spread =
                std::sqrt(std::max(0.0, square - mean.accuracy * mean.accuracy) * n / std::max(1.0, n - 1));
            std::printf("%-26s %8g %8.2f %8.2f %10.2f (%.2f)\n", name.c_str(), setting, mean.planes, mean.stored,
                        mean.accuracy, spread);
        }
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"Bits found in training: accuracy against size of CSQ, BSQ and uniform training"};
    std::string letters, results;
    std::size_t seeds = 3, epochs = 40;
    app.add_option("--letters", letters, "letter-recognition.data of UCI instead of the digits");
    app.add_option("--results", results, "file that runs are added to and continued from");
    app.add_option("--seeds", seeds, "runs of every arm")->check(CLI::Range(1, 100));
    app.add_option("--epochs", epochs, "epochs of every run")->check(CLI::Range(1, 10000));
    CLI11_PARSE(app, argc, argv);
    try {
        return run(letters.empty() ? digits_task() : letters_task(letters), seeds, epochs, results);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "csq: %s\n", e.what());
        return 2;
    }
}
