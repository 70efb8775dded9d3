// SPDX-License-Identifier: MIT

// Bits trained on a convolutional network: ResNet-20 for CIFAR-10 with its batch normalization folded, from its pretrained float weights, on
// the few images there are; beside it post-training quantization with as many stored bits.

#include "../engine/graph.hpp"
#include "../evaluation/dataset.hpp"
#include "../nn/confidence.hpp"
#include "../onnx/model.hpp"
#include "../quant/run_program.hpp"
#include "arms.hpp"
#include "task.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace csq_example;
using quant_tool::error;
using quant_tool::exit_code;

struct options {
    std::string data;
    std::size_t epochs = 2, images = 2000, asked = 2500;
    std::vector<double> targets{1, 2, 3};
    float rate = 0.001f;
    bool quiet = false;
};

/// He et al. 2015: three stages of three blocks of two convolutions. Weights of the same layers in a file's order.
class resnet20 {
public:
    explicit resnet20(const engine::graph& file) {
        nn::random r(1);
        std::vector<const engine::layer*> layers;
        for (const engine::layer& l : file.layers)
            if (l.has_weight()) layers.push_back(&l);
        if (layers.size() != 20) throw error(exit_code::input, {}, "the network is no ResNet-20");
        const auto conv = [&](std::size_t i) {
            const engine::layer& l = *layers[i];
            if (l.weight.shape.size() != 4) throw error(exit_code::input, {}, l.name, "is no convolution");
            net.add<nn::conv2d>(
                "layer" + std::to_string(i), l.weight.shape[1], l.weight.shape[0],
                nn::conv2d::options{.kernel = l.kernel[0], .stride = l.strides[0], .padding = l.pads[0]}, r);
        };
        conv(0);
        net.add<nn::relu>();
        for (std::size_t i = 1; i < 19; i += 2) {
            const auto way = std::make_shared<nn::shortcut>();
            net.add<nn::fork>(way);
            conv(i);
            net.add<nn::relu>();
            conv(i + 1);
            net.add<nn::join>(way).add<nn::relu>();
        }
        net.add<nn::global_average_pool>();
        net.add<nn::linear>("layer19", layers[19]->weight.shape[1], layers[19]->weight.shape[0], r);
        nn::tensor_map values;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            const std::string name = "layer" + std::to_string(i);
            values[name + ".weight"] = layers[i]->weight;
            nn::tensor& bias = values[name + ".bias"] = nn::tensor({layers[i]->bias.size()});
            bias.data = layers[i]->bias;
        }
        net.set_weights(values);
    }
    nn::network net;
};

/// The first n samples.
labelled samples_of(const evaluation::labelled_set& set, std::size_t n) {
    n = std::min(n, set.size);
    labelled s{set.batch(0, n), {}};
    for (std::size_t i = 0; i < n; ++i) s.labels.push_back(static_cast<std::uint8_t>(set.labels[i]));
    return s;
}

/// Every image, and once more mirrored and shifted by up to 3 pixels.
labelled augmented(const labelled& s, nn::random& r) {
    labelled out = s;
    out.x = nn::tensor({2 * s.size(), s.x.shape[1], s.x.shape[2], s.x.shape[3]});
    std::copy(s.x.data.begin(), s.x.data.end(), out.x.data.begin());
    out.labels.insert(out.labels.end(), s.labels.begin(), s.labels.end());
    const std::size_t height = s.x.shape[2], width = s.x.shape[3];
    for (std::size_t n = 0; n < s.size(); ++n) {
        const std::size_t down = r.below(7), right = r.below(7); // 3: not shifted
        for (std::size_t c = 0; c < s.x.channels(); ++c)
            for (std::size_t y = 0; y < height; ++y)
                for (std::size_t x = 0; x < width; ++x) {
                    const std::size_t from_y = y + down - 3, from_x = x + right - 3; // wraps around when outside
                    if (from_y < height && from_x < width)
                        out.x.channel(s.size() + n, c)[y * width + width - 1 - x] =
                            s.x.channel(n, c)[from_y * width + from_x];
                }
    }
    return out;
}

/// Widths of 2 and more stored bits by layer: those of the least squared error of all weights, against the squares of their layer, within a mean
/// of stored bits. Greedy: the layer that gains most per bit is raised next.
std::vector<grid> grids_by_error(const weights& w, double target) {
    double room = 0, used = 0;
    std::vector<int> bits(w.size(), 2);
    for (const auto& one : w)
        room += target * static_cast<double>(one.size()), used += 2.0 * static_cast<double>(one.size());
    std::vector<std::vector<double>> errors(w.size());
    for (std::size_t l = 0; l < w.size(); ++l)
        for (int b = 2; b <= 8; ++b) {
            std::vector<float> rounded(w[l].size());
            const grid g = grid_of_bits(b);
            round_to(w[l], rounded, best_scale(w[l], g), g);
            double sum = 0, square = 0;
            for (std::size_t i = 0; i < rounded.size(); ++i) {
                square += static_cast<double>(w[l][i] * w[l][i]);
                sum += static_cast<double>((rounded[i] - w[l][i]) * (rounded[i] - w[l][i]));
            }
            errors[l].push_back(sum / square);
        }
    for (;;) {
        std::size_t best = w.size();
        double most = 0;
        for (std::size_t l = 0; l < w.size(); ++l) {
            const auto n = static_cast<double>(w[l].size());
            if (bits[l] == 8 || used + n > room) continue;
            const auto k = static_cast<std::size_t>(bits[l] - 2);
            const double gain = (errors[l][k] - errors[l][k + 1]) / n;
            if (gain > most) most = gain, best = l;
        }
        if (best == w.size()) break;
        used += static_cast<double>(w[best].size());
        ++bits[best];
    }
    std::vector<grid> grids;
    for (const int b : bits) grids.push_back(grid_of_bits(b));
    return grids;
}

int run(options o) {
    if (o.data.empty())
        if (const char* const folder = std::getenv("QUANT_DATA")) o.data = folder;
    if (o.data.empty()) throw error(exit_code::usage, {}, "--data is missing, and QUANT_DATA is not set");
    const std::string folder = o.data + "/cifar10/";
    const engine::graph file = engine::load(quant_onnx::read(folder + "resnet20_cifar10.onnx"));
    nn::random r(5);
    const labelled asked = samples_of(evaluation::cifar(folder + "test_jpeg_2500.bin", evaluation::imagenet), o.asked);
    const labelled on =
        augmented(samples_of(evaluation::cifar(folder + "train_lossless_2000.bin", evaluation::imagenet), o.images), r);
    resnet20 reference(file);
    const weights start = values_of(weights_of(reference.net));
    nn::tensor teacher = nn::run(reference.net, on.x);

    const std::size_t all = 1 + 5 * o.targets.size();
    std::size_t rows = 0;
    const auto begun = std::chrono::steady_clock::now();
    const auto minutes_since = [](auto since) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count() / 60;
    };
    const auto report = [&](const std::string& name, resnet20& own, const integer_model& m, double minutes) {
        const auto answers = nn::classes_of(nn::run(own.net, asked.x));
        std::size_t right = 0;
        for (std::size_t i = 0; i < answers.size(); ++i) right += answers[i] == asked.labels[i] ? 1 : 0;
        const auto [low, high] = nn::confidence_interval(right, asked.size());
        const model_size size = m.empty() ? model_size{32, 32, 32} : size_of(m);
        std::printf("%-36s %7.2f %7.2f %7.2f [%.2f, %.2f] %8.1f\n", name.c_str(), size.planes, size.stored,
                    100 * static_cast<double>(right) / static_cast<double>(asked.size()), low, high, minutes);
        std::fflush(stdout);
        if (o.quiet) return;
        ++rows;
        const double passed = minutes_since(begun);
        std::fprintf(stderr, "%zu of %zu, %.0f minutes left\n", rows, all,
                     passed / static_cast<double>(rows) * static_cast<double>(all - rows));
    };
    std::printf("%zu images and as many mirrored ones, %zu epochs; %zu unseen images\n\n%-36s %7s %7s %7s %15s %9s\n",
                on.size() / 2, o.epochs, asked.size(), "", "planes", "stored", "right, %", "95 %", "minutes");
    report("float", reference, {}, 0);
    for (const double target : o.targets) {
        const double bits = target + 1;
        const std::vector<grid> same(start.size(), grid_of_bits(static_cast<int>(bits)));
        const std::vector<grid> by_error = grids_by_error(start, bits);
        knobs k;
        k.rate = o.rate;
        k.share = 0.5;
        k.mask_rate = 0.2 / static_cast<double>(o.rate); // masks move as fast whatever the weights do
        struct way {
            const char* name;
            const std::vector<grid>* grids; ///< null: CSQ's own
            bool is_trained;
        };
        const way ways[] = {{"after training, one width", &same, false},
                            {"after training, widths by error", &by_error, false},
                            {"learned step, one width", &same, true},
                            {"learned step, widths by error", &by_error, true},
                            {"CSQ, then fixed planes", nullptr, true}};
        for (const way& w : ways) {
            resnet20 own(file);
            const layers to = weights_of(own.net);
            // Labels say little, the network has them right; its own outputs do.
            const run_options how{o.epochs, 50, o.rate, 1, &teacher};
            const std::size_t steps = steps_of(on, how);
            std::unique_ptr<arm> a;
            if (w.grids != nullptr)
                a = std::make_unique<rounding_arm>(to, start, *w.grids, true, k.step_rate);
            else
                a = std::make_unique<csq_arm>(to, start, target, k, steps / 2);
            nn::random order(9);
            const auto since = std::chrono::steady_clock::now();
            const integer_model m = w.is_trained ? train(*a, own.net, on, how, order, [](std::size_t) {}) : a->finish();
            report(w.name, own, m, minutes_since(since));
        }
    }
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("csq_resnet20", [&] {
        options o;
        CLI::App app("ResNet-20 for CIFAR-10 in few bits, trained for a few epochs and rounded without training, at "
                     "the same stored bits",
                     "csq_resnet20");
        app.add_option("--data", o.data, "Folder with cifar10/; otherwise QUANT_DATA names it");
        app.add_option("--planes", o.targets, "Sizes, separated by commas: stored bits are one more")
            ->delimiter(',')
            ->check(CLI::Range(1, 6));
        app.add_option("--epochs", o.epochs, "Epochs of training")->check(CLI::Range(1, 1000))->capture_default_str();
        app.add_option("--rate", o.rate, "Learning rate at the start")
            ->check(CLI::Range(1e-6, 1.0))
            ->capture_default_str();
        app.add_option("--images", o.images, "Images to train on, each also mirrored")
            ->check(CLI::Range(50, 2000))
            ->capture_default_str();
        app.add_option("--unseen", o.asked, "Images to ask")->check(CLI::Range(1, 2500))->capture_default_str();
        app.add_flag("--quiet", o.quiet, "No progress");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "csq_resnet20 --help");
        return done ? *done : run(o);
    });
}
