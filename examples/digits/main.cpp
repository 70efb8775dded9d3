// SPDX-License-Identifier: MIT

// A small network is trained, calibrated and quantized after training. See docs/digits.md.

#include "dataset.hpp"
#include "model.hpp"

#include "../nn/weights.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <new>
#include <system_error>
#include <vector>

namespace {

using quant_tool::exit_code;

struct options {
    std::string data = DIGITS_DATA_DIR;
    std::string output = "digits-output";
    bool train = false;
    digits::training_options training;
};

void make_directory(const std::string& path) {
    std::error_code failed;
    std::filesystem::create_directories(path, failed);
    if (failed) throw quant_tool::error(exit_code::output, path, "cannot create the folder: " + failed.message());
    if (!std::filesystem::is_directory(path)) throw quant_tool::error(exit_code::output, path, "is not a folder");
}

int run(const options& o) {
    make_directory(o.output);  // before any work, so that a wrong name costs no time
    const std::filesystem::path data = o.data, output = o.output;
    const digits::dataset all = digits::load((data / "digits.csv.gz").string());
    nn::network net;
    digits::build(net, o.training.seed);
    if (o.train) {
        digits::train(net, all.training(), o.training, [&](std::size_t epoch, double loss) {
            std::fprintf(stderr, "epoch %zu/%zu: loss %.4f\n", epoch + 1, o.training.epochs, loss);
        });
        nn::save_weights((output / "digits.safetensors").string(), net.weights());
    } else {
        const std::string file = (data / "digits.safetensors").string();
        const nn::tensor_map weights = nn::load_weights(file);
        try {
            net.set_weights(weights);
        } catch (const std::runtime_error& e) {
            throw quant_tool::error(exit_code::input, file, e.what());
        }
    }
    const digits::dataset unseen = all.unseen();
    const std::size_t correct = digits::count_correct(nn::predict(net, unseen.images), unseen.labels);
    std::printf("float32: %zu of %zu unseen images\n", correct, unseen.size());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App app("Train, calibrate and quantize a small network for handwritten digits.");
    app.add_option("--data", o.data, "Folder with digits.csv.gz and digits.safetensors")->capture_default_str();
    app.add_option("--output", o.output, "Folder for the results, created when missing")->capture_default_str();
    app.add_flag("--train", o.train, "Train the network again instead of reading its weights");
    app.add_option("--epochs", o.training.epochs, "Passes over the training images, with --train")->capture_default_str();
    app.add_option("--seed", o.training.seed, "First weights and order of the images, with --train")->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : static_cast<int>(exit_code::usage);
    }
    quant_tool::install_cleanup_on_signals();
    try {
        return run(o);
    } catch (const quant_tool::error& e) {
        std::fprintf(stderr, "digits: %s\n", e.what());
        return static_cast<int>(e.code());
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "digits: out of memory\n");
        return static_cast<int>(exit_code::internal);
    }
}
