// SPDX-License-Identifier: MIT

// Bits trained on a convolutional network: ResNet-20 for CIFAR-10 with its batch normalization folded, from its pretrained float weights, on
// the few images there are; beside it what rounding after training reaches with as many stored bits.

#include "../engine/graph.hpp"
#include "../evaluation/dataset.hpp"
#include "../evaluation/evaluation.hpp"
#include "../nn/confidence.hpp"
#include "../onnx/model.hpp"
#include "../quant/io/atomic_file.hpp"
#include "../quant/report.hpp"
#include "../quant/run_program.hpp"
#include "after_training.hpp"
#include "arms.hpp"
#include "by_rows.hpp"
#include "task.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace csq_example;
using quant_tool::error;
using quant_tool::exit_code;

struct options {
    std::string data, results;
    std::size_t passes = 6, batch = 32, images = 1600, seeds = 1, unseen = 2500;
    std::vector<double> bits{2, 3};
    double rate = 0.001, bias_rate = 0.0001, csq_rate = 0.05, mask_rate = 0.02, strength = 1, share = 0.4;
    bool choose = false, quiet = false;
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

/// The samples from `first` on.
labelled samples_of(const evaluation::labelled_set& set, std::size_t first, std::size_t n) {
    n = std::min(n, set.size - first);
    labelled s{set.batch(first, n), {}};
    for (std::size_t i = 0; i < n; ++i) s.labels.push_back(static_cast<std::uint8_t>(set.labels[first + i]));
    return s;
}

/// Every image `times` times: as it is, then mirrored or not and shifted by up to 3 pixels.
labelled augmented(const labelled& s, std::size_t times, nn::random& r) {
    labelled out;
    std::vector<std::size_t> shape = s.x.shape;
    shape[0] *= times;
    out.x = nn::tensor(std::move(shape));
    std::copy(s.x.data.begin(), s.x.data.end(), out.x.data.begin());
    for (std::size_t k = 0; k < times; ++k) out.labels.insert(out.labels.end(), s.labels.begin(), s.labels.end());
    const std::size_t height = s.x.shape[2], width = s.x.shape[3];
    for (std::size_t n = s.size(); n < out.size(); ++n) {
        const std::size_t down = r.below(7), right = r.below(7); // 3: not shifted
        const bool mirrored = r.below(2) == 1;
        for (std::size_t c = 0; c < s.x.channels(); ++c)
            for (std::size_t y = 0; y < height; ++y)
                for (std::size_t x = 0; x < width; ++x) {
                    const std::size_t from_y = y + down - 3, from_x = x + right - 3; // wraps around when outside
                    if (from_y < height && from_x < width)
                        out.x.channel(n, c)[y * width + (mirrored ? width - 1 - x : x)] =
                            s.x.channel(n % s.size(), c)[from_y * width + from_x];
                }
    }
    return out;
}

/// What one network came to.
struct answer {
    model_size size{32, 32, 32};
    double seconds = 0;    ///< of a processor
    double divergence = 0; ///< from the float network's answers, nats
    std::string widths;    ///< of the layers, stored bits
    std::string right;     ///< of each image asked, 0 or 1
    [[nodiscard]] std::size_t count() const {
        return static_cast<std::size_t>(std::count(right.begin(), right.end(), '1'));
    }
    [[nodiscard]] std::vector<std::uint8_t> flags() const {
        std::vector<std::uint8_t> all;
        for (const char c : right) all.push_back(c == '1' ? 1 : 0);
        return all;
    }
};

/// Finished networks by name, kept in a file: its first line says which experiment it is, then one line each.
class answers {
public:
    answers(std::string path, const std::string& experiment)
        : path_(std::move(path)), title_("csq_resnet20 1\t" + experiment) {
        if (path_.empty() || !std::filesystem::exists(path_)) return;
        std::ifstream in(path_, std::ios::binary);
        std::string line;
        if (!std::getline(in, line) || line != title_)
            throw error(exit_code::input, path_, "holds no results of this experiment; move the file away");
        while (std::getline(in, line)) {
            std::istringstream cells(line);
            std::string name, numbers;
            answer a;
            std::getline(cells, name, '\t');
            std::getline(cells, numbers, '\t');
            std::getline(cells, a.widths, '\t');
            std::getline(cells, a.right);
            std::istringstream read(numbers);
            read >> a.size.planes >> a.size.stored >> a.size.dense >> a.seconds >> a.divergence;
            if (!cells || !read || in.eof()) throw error(exit_code::input, path_, "is damaged; move the file away");
            found_[name] = a;
        }
    }
    [[nodiscard]] const answer* find(const std::string& name) const {
        const auto at = found_.find(name);
        return at == found_.end() ? nullptr : &at->second;
    }
    const answer& add(const std::string& name, const answer& a) {
        found_[name] = a;
        if (path_.empty()) return found_[name];
        std::string all = title_ + '\n';
        for (const auto& [key, one] : found_) {
            char numbers[200];
            std::snprintf(numbers, sizeof numbers, "\t%.6f %.6f %.6f %.1f %.9f\t", one.size.planes, one.size.stored,
                          one.size.dense, one.seconds, one.divergence);
            all += key + numbers + one.widths + '\t' + one.right + '\n';
        }
        quant_tool::atomic_file file(path_, quant_tool::overwrite::yes);
        file.write(all);
        file.commit();
        return found_[name];
    }

private:
    std::string path_, title_;
    std::map<std::string, answer> found_;
};

std::string text_of(const std::vector<int>& widths) {
    std::string text;
    for (const int w : widths) text += (text.empty() ? "" : " ") + std::to_string(w);
    return text;
}
std::vector<int> widths_of(const std::string& text) {
    std::istringstream in(text);
    std::vector<int> widths;
    for (int w = 0; in >> w;) widths.push_back(w);
    return widths;
}

class experiment {
public:
    experiment(options o, answers& kept)
        : o_(std::move(o)), kept_(kept), folder_(o_.data + "/cifar10/"),
          file_(engine::load(quant_onnx::read(folder_ + "resnet20_cifar10.onnx"))),
          lossless_(evaluation::cifar(folder_ + "train_lossless_2000.bin", evaluation::imagenet)),
          asked_(o_.choose ? samples_of(lossless_, o_.images, o_.unseen)
                           : samples_of(evaluation::cifar(folder_ + "test_jpeg_2500.bin", evaluation::imagenet), 0,
                                        o_.unseen)) {
        resnet20 reference(file_);
        full_ = nn::run(reference.net, asked_.x);
        for (const nn::parameter* p : weights_of(reference.net)) sizes_.push_back(p->value.size());
        shown_.emplace("networks", 1 + o_.bits.size() * (3 + 6 * o_.seeds), 0, o_.quiet, "networks");
        std::printf("%zu images to learn from, each %zu times; %zu %s images are asked\n\n", o_.images, o_.passes,
                    asked_.size(), o_.choose ? "kept" : "unseen");
        std::printf("%-44s %6s %6s %7s %15s %8s %8s %s\n", "", "planes", "stored", "right, %", "95 %", "KL", "seconds",
                    "better, worse than rounded: p");
    }
    void run() {
        print("float", done("float", [&](answer&) { return std::make_unique<resnet20>(file_); }), nullptr);
        for (const double bits : o_.bits) at_size(bits);
    }

private:
    void at_size(double bits) {
        const std::vector<int> same(sizes_.size(), static_cast<int>(bits));
        const std::string at = ", " + quant_tool::number_text("%g", bits);
        const answer& plain = rounded("one width, nearest" + at, same, false);
        print("one width, nearest" + at, plain, nullptr);
        const answer& one = rounded("one width, fitted" + at, same, true);
        print("one width, fitted" + at, one, nullptr);
        const std::string best = "widths by divergence, fitted" + at;
        const answer* after = kept_.find(best);
        const std::vector<int> widths = after != nullptr ? widths_of(after->widths) : allocated(bits);
        after = &rounded(best, widths, true);
        print(best, *after, nullptr);
        for (std::size_t seed = 0; seed < o_.seeds; ++seed) {
            const std::string name = at + (o_.seeds > 1 ? ", seed " + std::to_string(seed + 1) : "");
            trained("one width, learned step" + name, same, seed, one);
            trained("widths by divergence, learned step" + name, widths, seed, *after);
            by_csq(bits, name, seed);
        }
    }

    /// CSQ on rows of one range finds planes; then as many stored bits for each layer are rounded to, without and with a learned step.
    void by_csq(double bits, const std::string& name, std::size_t seed) {
        const std::string own = "CSQ alone" + name;
        const answer& found = done(own, [&](answer& a) {
            auto net = std::make_unique<resnet20>(file_);
            const layers to = weights_of(net->net);
            row_factors factors(to.size());
            for (std::size_t l = 0; l < to.size(); ++l)
                for (std::size_t r = 0; r < to[l]->value.samples(); ++r) {
                    float most = 0;
                    for (const float v : to[l]->value.sample(r)) most = std::max(most, std::abs(v));
                    factors[l].push_back(most > 0 ? most : 1);
                }
            const std::size_t passes = share_of_passes();
            knobs k;
            k.rate = static_cast<float>(o_.csq_rate);
            k.share = 1;
            // A mask that has hardened no longer moves: the fewer steps there are, the larger they must be.
            const double steps = static_cast<double>(passes * (o_.images / o_.batch));
            k.mask_rate = o_.mask_rate * 1000 / steps / o_.csq_rate;
            k.budget_strength = o_.strength;
            stand_in_arm arm(to, factors, true, false, [&](stand_ins& parts) {
                return std::make_unique<csq_arm>(parts.parts(), values_of(parts.parts()), bits - 1, k);
            });
            const integer_model m = train_on(arm, net->net, passes, seed);
            std::vector<int> widths;
            for (const integer_layer& l : m) widths.push_back(std::min(8, static_cast<int>(l.planes) + 1));
            a.widths = text_of(widths);
            a.size = size_with_scales(m);
            return net;
        });
        const std::vector<int> widths = widths_of(found.widths);
        const std::string ours = "CSQ's widths, fitted" + name;
        const answer& after = rounded(ours, widths, true);
        const std::string rival = "widths by divergence at CSQ's size" + name;
        const answer& same_size = rounded(rival, allocated_again(rival, mean_of_widths(widths)), true);
        print(own, found, &same_size);
        print(ours, after, &same_size);
        print(rival, same_size, nullptr);
        trained("CSQ's widths, learned step" + name, widths, seed, after);
    }

    std::vector<int> allocated(double bits) {
        if (!sensitivities_) {
            quant_tool::progress shown("widths", sizes_.size() * most_odd_bits, 0, o_.quiet, "networks");
            sensitivities_.emplace();
            sensitivities_->measure<resnet20>(file_, lossless_, calibration(), std::min<std::size_t>(o_.images, 64),
                                              [&] { shown.done(0); });
        }
        return sensitivities_->allocated(bits);
    }
    std::vector<int> allocated_again(const std::string& name, double bits) {
        const answer* const a = kept_.find(name);
        return a != nullptr ? widths_of(a->widths) : allocated(bits);
    }
    [[nodiscard]] double mean_of_widths(const std::vector<int>& widths) const {
        double bits = 0, all = 0;
        for (std::size_t l = 0; l < sizes_.size(); ++l) {
            bits += static_cast<double>(sizes_[l]) * widths[l];
            all += static_cast<double>(sizes_[l]);
        }
        return bits / all;
    }
    [[nodiscard]] std::size_t calibration() const { return std::min<std::size_t>(o_.images, 256); }
    [[nodiscard]] std::size_t share_of_passes() const {
        return std::max<std::size_t>(1, static_cast<std::size_t>(o_.share * static_cast<double>(o_.passes) + 0.5));
    }

    const rounded_network& fitted_to(const std::vector<int>& widths) {
        const auto at = fitted_.find(widths);
        return at != fitted_.end()
                   ? at->second
                   : fitted_.emplace(widths, fitted(file_, widths, lossless_, calibration())).first->second;
    }

    const answer& rounded(const std::string& name, const std::vector<int>& widths, bool fit) {
        return done(name, [&](answer& a) {
            const rounded_network n = fit ? fitted_to(widths) : nearest(file_, widths);
            a.widths = text_of(widths);
            auto net = std::make_unique<resnet20>(n.net);
            a.size = size_with_scales(codes_of(weights_of(net->net), n));
            return net;
        });
    }

    /// From what fitted() rounds to; a step per row is learned.
    void trained(const std::string& name, const std::vector<int>& widths, std::size_t seed, const answer& beside) {
        const answer& a = done(name, [&](answer& own) {
            const rounded_network& n = fitted_to(widths);
            auto net = std::make_unique<resnet20>(n.net);
            const layers to = weights_of(net->net);
            stand_in_arm arm(
                to, n.scales, false, true,
                [&](stand_ins& parts) {
                    std::vector<grid> grids;
                    const layers rows = parts.parts();
                    for (std::size_t p = 0; p < rows.size(); ++p) grids.push_back(odd_grid(widths[parts.layer_of(p)]));
                    return std::make_unique<rounding_arm>(rows, values_of(rows), grids,
                                                          std::vector<float>(rows.size(), 1.0f), true, 0.05f);
                },
                static_cast<float>(o_.rate / o_.bias_rate));
            const integer_model rows = train_on(arm, net->net, o_.passes, seed);
            integer_model m;
            for (std::size_t l = 0, p = 0; l < to.size(); ++l) {
                m.push_back(rows[p]);
                m.back().rows = to[l]->value.samples();
                for (++p; p < rows.size() && arm.layer_of(p) == l; ++p)
                    m.back().codes.insert(m.back().codes.end(), rows[p].codes.begin(), rows[p].codes.end());
            }
            own.widths = text_of(widths);
            own.size = size_with_scales(m);
            return net;
        });
        print(name, a, &beside);
    }

    /// Labels say little, the network has them right; its own answers do. Every image in `passes` forms.
    integer_model train_on(arm& a, nn::network& net, std::size_t passes, std::size_t seed) {
        nn::random r(100 + seed);
        if (on_.labels.empty() || seed != seed_of_images_) {
            on_ = augmented(samples_of(lossless_, 0, o_.images), o_.passes, r);
            resnet20 reference(file_);
            teacher_ = nn::run(reference.net, on_.x);
            seed_of_images_ = seed;
        }
        labelled part{nn::samples(on_.x, 0, passes * o_.images), {}};
        part.labels.assign(on_.labels.begin(), on_.labels.begin() + static_cast<std::ptrdiff_t>(part.x.samples()));
        return train(a, net, part, {1, o_.batch, static_cast<float>(o_.bias_rate), 1, &teacher_}, r,
                     [](std::size_t) {});
    }

    static integer_model codes_of(const layers& to, const rounded_network& n) {
        integer_model m;
        for (std::size_t l = 0; l < to.size(); ++l) {
            integer_layer& own = m.emplace_back();
            own.rows = to[l]->value.samples();
            own.columns = to[l]->value.sample_size();
            own.odd_bits = n.widths[l];
            own.planes = n.widths[l] - 1.0;
            for (std::size_t r = 0; r < own.rows; ++r)
                for (const float v : to[l]->value.sample(r))
                    own.codes.push_back(static_cast<std::int16_t>(std::lround(v / n.scales[l][r])));
        }
        return m;
    }
    static model_size size_with_scales(const integer_model& m) {
        model_size s = size_of(m);
        double rows = 0, all = 0;
        for (const integer_layer& l : m) {
            rows += static_cast<double>(l.rows);
            all += static_cast<double>(l.codes.size());
        }
        s.stored += 32 * rows / all;
        s.dense += 32 * rows / all;
        return s;
    }

    /// The answer of that name, from the file or from the network that `make` makes.
    template <class Make> const answer& done(const std::string& name, const Make& make) {
        if (const answer* const a = kept_.find(name)) {
            shown_->done(0);
            return *a;
        }
        answer a;
        const std::clock_t begun = std::clock();
        std::unique_ptr<resnet20> net;
        try {
            net = make(a);
        } catch (const diverged&) { // a rate that is too high: a result, which no later part can do without
            throw error(exit_code::usage, {}, name + ": the numbers grew out of range; a lower rate is needed");
        }
        a.seconds = static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC;
        const nn::tensor logits = nn::run(net->net, asked_.x);
        a.divergence = require(quant::logit_divergence(full_.data, logits.data, logits.channels()));
        const auto classes = nn::classes_of(logits);
        for (std::size_t i = 0; i < classes.size(); ++i) a.right += classes[i] == asked_.labels[i] ? '1' : '0';
        shown_->done(0);
        return kept_.add(name, a);
    }

    void print(const std::string& name, const answer& a, const answer* beside) {
        const std::size_t right = a.count();
        const auto [low, high] = nn::confidence_interval(right, a.right.size());
        std::printf("%-44s %6.2f %6.2f %7.2f [%.2f, %.2f] %8.4f %8.1f", name.c_str(), a.size.planes, a.size.stored,
                    100 * static_cast<double>(right) / static_cast<double>(a.right.size()), low, high, a.divergence,
                    a.seconds);
        if (beside != nullptr) {
            const auto d = evaluation::compare(std::span<const std::uint8_t>(a.flags()),
                                               std::span<const std::uint8_t>(beside->flags()));
            std::printf("  %zu, %zu: %.2g", d.only_first, d.only_second, d.p);
        }
        std::printf("\n");
        std::fflush(stdout);
    }

    options o_;
    answers& kept_;
    std::string folder_;
    engine::graph file_;
    evaluation::labelled_set lossless_;
    labelled asked_, on_;
    nn::tensor full_, teacher_;
    std::size_t seed_of_images_ = 0;
    std::vector<std::size_t> sizes_;
    std::optional<sensitivities> sensitivities_;
    std::map<std::vector<int>, rounded_network> fitted_;
    std::optional<quant_tool::progress> shown_;
};

int run(options o) {
    if (o.data.empty())
        if (const char* const folder = std::getenv("QUANT_DATA")) o.data = folder;
    if (o.data.empty()) throw error(exit_code::usage, {}, "--data is missing, and QUANT_DATA is not set");
    o.batch = std::min(o.batch, o.images);
    char title[300];
    std::snprintf(title, sizeof title,
                  "%zu images, %zu passes of %zu, %zu asked%s, rates %g %g %g %g, share %g, strength %g", o.images,
                  o.passes, o.batch, o.unseen, o.choose ? " of the kept" : "", o.rate, o.bias_rate, o.csq_rate,
                  o.mask_rate, o.share, o.strength);
    answers kept(o.results, title);
    experiment(std::move(o), kept).run();
    quant_tool::finish_output();
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("csq_resnet20", [&] {
        options o;
        CLI::App app("ResNet-20 for CIFAR-10 in few bits, rounded without training and trained for a few epochs, at "
                     "the same stored bits",
                     "csq_resnet20");
        app.add_option("--data", o.data, "Folder with cifar10/; otherwise QUANT_DATA names it");
        app.add_option("--bits", o.bits, "Sizes in stored bits, separated by commas")
            ->delimiter(',')
            ->check(CLI::Range(2, 6));
        app.add_option("--passes", o.passes, "How often every image is seen, as it is and then mirrored or shifted")
            ->check(CLI::Range(1, 1000))
            ->capture_default_str();
        app.add_option("--images", o.images, "Images to learn from; the others are kept for choosing")
            ->check(CLI::Range(8, 1900))
            ->capture_default_str();
        app.add_option("--batch", o.batch, "Images of one step")->check(CLI::Range(1, 32))->capture_default_str();
        app.add_option("--seeds", o.seeds, "Runs of what is trained")->check(CLI::Range(1, 100))->capture_default_str();
        app.add_option("--unseen", o.unseen, "Images to ask")->check(CLI::Range(1, 2500))->capture_default_str();
        const auto rate = [&](const char* name, double& to, const char* what) {
            app.add_option(name, to, what)->check(CLI::Range(1e-9, 1e6))->capture_default_str();
        };
        rate("--rate", o.rate, "Of the weights behind the learned steps, in half steps");
        rate("--bias-rate", o.bias_rate, "Of the biases");
        rate("--csq-rate", o.csq_rate, "Of CSQ's bits");
        rate("--mask-rate", o.mask_rate, "Of CSQ's masks in a run of 1000 steps; shorter ones have a larger one");
        rate("--strength", o.strength, "Of CSQ's budget");
        app.add_option("--share", o.share, "Of the passes in which CSQ finds its planes")
            ->check(CLI::Range(0.01, 1.0))
            ->capture_default_str();
        app.add_flag("--choose", o.choose, "Ask the images kept for choosing, which were not learned from");
        app.add_option("--results", o.results,
                       "File that keeps finished networks; a program that was stopped goes on there");
        app.add_flag("--quiet", o.quiet, "No progress");
        const auto done = quant_tool::parse_arguments(app, argc, argv, "csq_resnet20 --help");
        return done ? *done : run(o);
    });
}
