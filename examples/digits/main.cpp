// SPDX-License-Identifier: MIT

// Post-training quantization of a small network: the ablation of the ACIQ paper, on data that fits in this folder. See
// docs/digits.md.

#include "ablation.hpp"
#include "dataset.hpp"
#include "model.hpp"
#include "report.hpp"

#include "../nn/weights.hpp"
#include "../quant/io/atomic_file.hpp"
#include "../quant/run_program.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace {

using quant_tool::error;
using quant_tool::exit_code;
namespace fs = std::filesystem;

constexpr const char* explanation = R"(Quantizes a small network for handwritten digits without training it again, and
counts what that costs on images the network never saw.

Every width is tried four times, each time with one more step of the ACIQ paper
(Banner et al. 2019, arXiv 1810.05723):
  min-max            one scale per channel, from the smallest and largest value
  ACIQ               clips where the expected error of the assumed density is least
  + bit allocation   channels get widths of their own, the mean stays the same
  + bias correction  restores the mean of every channel of the weights

Weights: per output channel. Activations: per channel, unsigned, with the ReLU
fused; ranges come from training images and stay fixed. Every layer has the same
width, first and last included.)";

constexpr const char* footer = R"(Written to the output folder, each file whole or not at all:
  table.md table.csv accuracy.svg report.json   the results
  digits-4bit.safetensors                       the 4-bit network: packed codes and parameters
  digits.safetensors                            the new float32 weights, with --train

Exit codes: 0 done; 1 a claim of --check does not hold; 2 wrong options; 3 an input file
is missing or damaged; 4 the output cannot be written; 5 the weights are not finite.

Examples:
  digits                          the whole table, about a second
  digits --bits 4,3 --activations-only
  digits --train --seed 7         another network: how much of a difference is luck?)";

struct options {
    std::string data = DIGITS_DATA_DIR;
    std::string output = "build/digits";
    std::string json;
    bool train = false, weights_only = false, activations_only = false, paper = false, check = false;
    std::vector<unsigned> bits{8, 6, 4, 3, 2};
    digits::training_options training;
};

std::string setting(const options& o) {
    std::string text;
    if (!o.activations_only)
        text += o.paper ? "Weights: per output channel, affine, min-max in every row. "
                        : "Weights: per output channel, symmetric. ";
    if (!o.weights_only)
        text += std::string("Activations: per channel, unsigned with the ReLU fused, ranges from ") +
                std::to_string(digits::calibration_images) + " training images" +
                (o.paper ? ", Laplace prior. " : ". ");
    return text + "All layers alike, first and last included; logits and biases in float32.";
}

void make_directory(const std::string& path) {
    std::error_code failed;
    fs::create_directories(path, failed);
    if (failed) throw error(exit_code::output, path, "cannot create the folder: " + failed.message());
    if (!fs::is_directory(path)) throw error(exit_code::output, path, "is not a folder");
}

void write_text(const std::string& path, const std::string& text) {
    quant_tool::atomic_file file(path, quant_tool::overwrite::yes);
    file.write(text);
    file.commit();
}

void load(nn::network& net, const std::string& file) {
    const nn::tensor_map weights = nn::load_weights(file);
    for (const auto& [name, t] : weights)
        for (const float x : t.data)
            if (!std::isfinite(x)) throw error(exit_code::data, file, name, "has values that are not finite");
    try {
        net.set_weights(weights);
    } catch (const std::runtime_error& e) {
        throw error(exit_code::input, file, e.what());
    }
}

/// Counts the claims of docs/digits.md that do not hold.
class checks {
public:
    void claim(bool holds, const std::string& text) {
        std::printf("%s: %s\n", holds ? "holds" : "DOES NOT HOLD", text.c_str());
        broken_ += !holds;
    }
    int broken() const { return broken_; }

private:
    int broken_ = 0;
};

void check_accuracy(const digits::report& r, checks& c) {
    using digits::method;
    const auto find = [&](unsigned bits, method m) -> const digits::row& {
        for (const digits::row& one : r.rows)
            if (one.bits == bits && one.method == digits::name_of(m)) return one;
        throw error(exit_code::internal, {}, "a row of the table is missing");
    };
    c.claim(r.reference.accuracy() >= 95.0,
            "the float32 network gets at least 95 % right, so there is something to lose");
    for (const method m : digits::methods)
        c.claim(r.reference.accuracy() - find(8, m).accuracy() <= 0.5,
                "8 bits, " + std::string(digits::name_of(m)) + ": at most 0.5 points below float32");
    const auto gain = [&](unsigned bits) {
        return find(bits, method::bias_correction).accuracy() - find(bits, method::min_max).accuracy();
    };
    c.claim(gain(4) >= 0.0, "4 bits: all steps together are not worse than min-max");
    for (const unsigned bits : {8u, 4u, 2u})
        c.claim(find(bits, method::bias_correction).logit_sqnr > find(bits, method::allocation).logit_sqnr,
                std::to_string(bits) + " bits: bias correction brings the outputs nearer to those of float32");
    c.claim(gain(2) >= 10.0, "2 bits: all steps together are at least 10 points better than min-max");
    bool within = true;
    for (const digits::row& one : r.rows)
        for (const double used : {one.weight_bits, one.activation_bits})
            within = within && (used <= one.bits || used == 32.0);
    c.claim(within, "the mean width is never above the width asked for");
}

int run(const options& o) {
    for (const unsigned needed : {8u, 4u, 2u})
        if (o.check && std::find(o.bits.begin(), o.bits.end(), needed) == o.bits.end())
            throw error(exit_code::usage, {}, "--check needs the widths 8, 4 and 2 among --bits");
    // All targets are checked before any work, so that a wrong name costs no time and leaves no half of the results.
    make_directory(o.output);
    const fs::path data = o.data, output = o.output;
    const auto target = [&](const char* name) { return (output / name).string(); };
    for (const char* name :
         {"table.md", "table.csv", "accuracy.svg", "report.json", "digits-4bit.safetensors", "digits.safetensors"})
        quant_tool::check_target(target(name), quant_tool::overwrite::yes);
    if (!o.json.empty()) quant_tool::atomic_file(o.json, quant_tool::overwrite::yes);

    const digits::dataset all = digits::load((data / "digits.csv.gz").string());
    nn::network net;
    digits::build(net, o.training.seed);
    std::vector<std::string> written;
    if (o.train) {
        digits::train(net, all.training(), o.training, [&](std::size_t epoch, double loss) {
            std::fprintf(stderr, "epoch %zu/%zu: loss %.4f\n", epoch + 1, o.training.epochs, loss);
        });
        written.push_back(target("digits.safetensors"));
        nn::save_weights(written.back(), net.weights());
    } else {
        load(net, (data / "digits.safetensors").string());
    }

    const digits::quantize_settings base{
        .weights = !o.activations_only, .activations = !o.weights_only, .as_in_paper = o.paper};
    digits::report r = digits::run_ablation(net, all.calibration(), all.unseen(), o.bits, base);
    r.setting = setting(o);

    const digits::quantized_network q =
        digits::quantize(net.weights(), digits::observe_outputs(net, all.calibration().images), base);
    written.push_back(target("digits-4bit.safetensors"));
    digits::save(written.back(), q);
    const auto write = [&](const std::string& path, const std::string& text) {
        write_text(path, text);
        written.push_back(path);
    };
    write(target("table.md"), digits::as_markdown(r));
    write(target("table.csv"), digits::as_csv(r));
    write(target("accuracy.svg"), digits::as_svg(r));
    write(target("report.json"), digits::as_json(r));
    if (!o.json.empty()) write(o.json, digits::as_json(r));

    std::printf("%s\nwritten:\n", digits::as_text(r).c_str());
    for (const std::string& path : written) std::printf("  %s\n", path.c_str());
    if (!o.check) return 0;
    checks c;
    std::printf("\n");
    check_accuracy(r, c);
    const digits::quantized_network stored = digits::load_quantized(target("digits-4bit.safetensors"));
    c.claim(digits::evaluate(net, stored, all.unseen()).classes == digits::evaluate(net, q, all.unseen()).classes,
            "the 4-bit network read back from its file gives the same answers");
    return c.broken() == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("digits", [&] {
        options o;
        CLI::App app(explanation, "digits");
        app.footer(footer);
        app.add_option("--bits", o.bits, "Widths to try, 2 to 8, separated by commas")
            ->delimiter(',')
            ->check(CLI::Range(2, 8))
            ->capture_default_str();
        auto* const weights = app.add_flag("--weights-only", o.weights_only, "Leave the activations in float32");
        app.add_flag("--activations-only", o.activations_only, "Leave the weights in float32")->excludes(weights);
        auto* const train =
            app.add_flag("--train", o.train, "Train the network again (10 s) instead of reading its weights");
        app.add_option("--epochs", o.training.epochs, "Passes over the 1297 training images")
            ->needs(train)
            ->check(CLI::Range(1, 10000))
            ->capture_default_str();
        app.add_option("--seed", o.training.seed, "Decides the first weights and the order of the images")
            ->needs(train)
            ->capture_default_str();
        app.add_flag("--paper", o.paper,
                     "The authors' own setting: weights affine and never clipped, Laplace and the paper's formula\n"
                     "for every activation");
        app.add_option("--data", o.data, "Folder with digits.csv.gz and digits.safetensors")->capture_default_str();
        app.add_option("--output", o.output, "Folder for the results, made when missing")->capture_default_str();
        app.add_option("--json", o.json, "Write report.json to this file too");
        app.add_flag("--check", o.check, "Check the claims of docs/digits.md, which are about the stored weights")
            ->excludes("--weights-only")
            ->excludes("--activations-only")
            ->excludes("--paper")
            ->excludes("--train");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "digits --help");
        return done ? *done : run(o);
    });
}
