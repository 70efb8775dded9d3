// SPDX-License-Identifier: MIT

// Gradients and calibration across processes; see docs/gradients.md.

#include "calibration.hpp"
#include "communicator.hpp"
#include "training.hpp"

#include "../nn/weights.hpp"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace distributed;
using gradients::scheme;

constexpr const char* explanation =
    R"(Trains the digits network on several processes that exchange quantized gradients, and
calibrates its activations in shards. Start it with mpirun:

  mpirun -n 4 distributed

Every process has the whole network and a part of every batch. Gradients of the weights are
quantized in buckets, sent to everybody as bytes, decoded in the order of the ranks and averaged:
the parameters stay equal on all ranks, which is checked after every epoch. Biases travel as floats.)";

constexpr const char* footer =
    R"(Schemes: f32, scaled-sign*, 1-bit*, bingrad-pb*, bingrad-b*, terngrad, qsgd-L, linear-L, orq-L, asq-L
with L levels (qsgd: odd; orq: 3, 5, 9, 17, ...). Those with a star are biased: what a message leaves out
is kept and added to the next gradient.

Exit codes: 0 done; 1 a message or the parameters of a rank are wrong; 2 wrong options; 3 a file is
missing or damaged.)";

plan plan_of(const std::string& name, std::uint32_t bucket, std::uint64_t seed) {
    const std::size_t dash = name.rfind('-');
    const std::map<std::string, plan> fixed{
        {"f32", {name, {.method = scheme::raw}, false}},
        {"scaled-sign", {name, {.method = scheme::scaled_sign}, true}},
        {"1-bit", {name, {.method = scheme::bingrad_b, .threshold = gradients::threshold_rule::zero}, true}},
        {"bingrad-pb", {name, {.method = scheme::bingrad_pb}, true}},
        {"bingrad-b", {name, {.method = scheme::bingrad_b}, true}},
        {"terngrad", {name, {.method = scheme::terngrad}, false}}};
    const std::map<std::string, scheme> with_levels{
        {"qsgd", scheme::qsgd}, {"linear", scheme::linear}, {"orq", scheme::orq}, {"asq", scheme::asq}};
    plan p;
    if (const auto found = fixed.find(name); found != fixed.end()) {
        p = found->second;
    } else {
        const auto kind = dash == std::string::npos ? with_levels.end() : with_levels.find(name.substr(0, dash));
        const std::string levels = dash == std::string::npos ? std::string{} : name.substr(dash + 1);
        if (kind == with_levels.end() || levels.empty() || levels.size() > 3 ||
            levels.find_first_not_of("0123456789") != std::string::npos)
            throw CLI::ValidationError("--schemes", "unknown scheme '" + name + "'");
        p = {name, {.method = kind->second, .levels = static_cast<std::uint16_t>(std::stoul(levels))}, false};
    }
    p.how.bucket = bucket;
    p.how.seed = seed;
    std::vector<std::byte> nothing(gradients::header_size);
    if (const auto s = gradients::encode({}, nothing, p.how); !s)
        throw CLI::ValidationError("--schemes",
                                   "'" + name + "': " + s.status().argument + ": " + quant::message(s.status()));
    return p;
}

void compare_schemes(const communicator& all, const std::vector<plan>& plans, const settings& o,
                     const digits::dataset& data) {
    const digits::dataset images = data.part(0, o.images), unseen = data.unseen();
    const bool first = all.rank() == 0, shows = first && isatty(2) != 0;
    if (first) std::printf("%-12s %9s %15s %8s %10s\n", "scheme", "accuracy", "bytes per step", "of f32", "loss");
    double raw_bytes = 0;
    for (std::size_t k = 0; k < plans.size(); ++k) {
        const auto begun = std::chrono::steady_clock::now();
        const auto progress = [&](std::size_t done, std::size_t total) {
            if (!shows || done % 10 != 0) return;
            const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun;
            std::fprintf(stderr, "\r%s: step %zu of %zu, %.0f s left    ", plans[k].name.c_str(), done, total,
                         passed.count() / static_cast<double>(done) *
                             static_cast<double>(total - done + (plans.size() - k - 1) * total));
        };
        const outcome r = train(all, plans[k], images, unseen, o, progress);
        if (plans[k].name == "f32") raw_bytes = r.bytes_per_step;
        if (shows) std::fprintf(stderr, "\r%60s\r", "");
        if (!first) continue;
        std::printf("%-12s %7.2f %% %15.0f ", plans[k].name.c_str(), 100 * r.accuracy, r.bytes_per_step);
        if (raw_bytes > 0)
            std::printf("%6.2f %%", 100 * r.bytes_per_step / raw_bytes);
        else
            std::printf("%8s", "");
        std::printf(" %10.4f\n", r.loss);
        std::fflush(stdout);
    }
    if (first) std::printf("parameters: equal on %zu ranks after every epoch\n", all.size());
}

void calibrate(const communicator& all, const digits::dataset& data, const std::string& weights) {
    nn::network net;
    digits::build(net, 1);
    net.set_weights(nn::load_weights(weights));
    const std::size_t n = digits::calibration_images, from = n * all.rank() / all.size(),
                      to = n * (all.rank() + 1) / all.size();
    const seen_by_layer mine = observe(net, data, from, to - from);
    const seen_by_layer alone = all.rank() == 0 ? observe(net, data, 0, n) : seen_by_layer{};
    if (all.rank() == 0)
        std::printf("\n%-14s %9s %22s %22s  %s\n", "outputs of", "elements", "min-max", "ACIQ, 4 bits, Laplace",
                    "one process's");
    for (const auto& [layer, part] : mine) {
        const seen merged = reduced(all, part);
        std::string complaint;
        if (all.rank() == 0) {
            const seen& one = alone.at(layer);
            const auto clip = quant::aciq(quant::prior::laplace).clip(merged.moments, quant::int4);
            const auto clip_alone = quant::aciq(quant::prior::laplace).clip(one.moments, quant::int4);
            const auto range = merged.range.clip();
            const bool equal = merged.range.state() == one.range.state() &&
                               merged.counts.state() == one.counts.state() &&
                               merged.moments.state() == one.moments.state() && clip && clip_alone &&
                               clip->lo == clip_alone->lo && clip->hi == clip_alone->hi;
            if (!equal || !range) complaint = "the merged statistics of " + layer + " are not those of one process";
            if (equal && range)
                std::printf("%-14s %9llu %10.4f … %9.4f %10.4f … %9.4f  %s\n", layer.c_str(),
                            static_cast<unsigned long long>(merged.range.state().count), range->lo, range->hi, clip->lo,
                            clip->hi, "bit for bit");
        }
        all.agree(complaint);
    }
}

int run(int argc, char** argv, const communicator& all) {
    CLI::App app{explanation};
    app.footer(footer);
    std::vector<std::string> schemes{"f32", "qsgd-3", "qsgd-9", "terngrad", "bingrad-b", "orq-3", "orq-5", "orq-9"};
    std::string data_folder = DISTRIBUTED_DIGITS_DIR, job = "all";
    std::uint32_t bucket = 512;
    settings o;
    const std::map<std::string, fault> faults{{"none", fault::none},
                                              {"truncated", fault::truncated},
                                              {"foreign", fault::foreign},
                                              {"damaged", fault::damaged},
                                              {"diverged", fault::diverged}};
    std::string planted = "none";
    std::vector<std::string> fault_names;
    for (const auto& [name, f] : faults) fault_names.push_back(name);
    app.add_option("--job", job, "train, calibrate, or all")
        ->check(CLI::IsMember({"train", "calibrate", "all"}))
        ->capture_default_str();
    app.add_option("--schemes", schemes, "how gradients travel, one run each")->delimiter(',');
    app.add_option("--epochs", o.epochs, "of every run")->check(CLI::Range(1, 10000))->capture_default_str();
    app.add_option("--batch", o.batch, "images of a step, all ranks together")
        ->check(CLI::Range(1, 1297))
        ->capture_default_str();
    app.add_option("--images", o.images, "training images used")->check(CLI::Range(1, 1297))->capture_default_str();
    app.add_option("--bucket", bucket, "elements with levels of their own")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    app.add_option("--seed", o.seed, "of weights, order and rounding")->capture_default_str();
    app.add_option("--data", data_folder, "folder with digits.csv.gz and digits.safetensors");
    app.add_option("--fault", planted, "what rank 1 does wrong in the third step")
        ->check(CLI::IsMember(fault_names))
        ->capture_default_str();
    std::vector<plan> plans;
    try {
        app.parse(argc, argv);
        for (const std::string& name : schemes) plans.push_back(plan_of(name, bucket, o.seed));
        if (o.batch < all.size()) throw CLI::ValidationError("--batch", "fewer images than ranks");
        if (o.images < o.batch) throw CLI::ValidationError("--images", "fewer than a batch");
        o.planted = faults.at(planted);
    } catch (const CLI::ParseError& e) {
        if (all.rank() != 0) return e.get_exit_code() == 0 ? 0 : 2;
        return app.exit(e) == 0 ? 0 : 2;
    }
    const digits::dataset data = digits::load(data_folder + "/digits.csv.gz");
    if (job != "calibrate") compare_schemes(all, plans, o, data);
    if (job != "train") calibrate(all, data, data_folder + "/digits.safetensors");
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    const communicator all(argc, argv);
    try {
        return run(argc, argv, all);
    } catch (const failure& e) {
        if (e.what()[0] != '\0') std::fprintf(stderr, "distributed: %s\n", e.what());
        return 1;
    } catch (const quant_tool::error& e) { // of a file, which every rank reads
        if (all.rank() == 0) std::fprintf(stderr, "distributed: %s\n", e.what());
        return static_cast<int>(e.code());
    } catch (const std::exception& e) {
        std::fprintf(stderr, "distributed: rank %zu: %s\n", all.rank(), e.what());
        return 1;
    }
}
