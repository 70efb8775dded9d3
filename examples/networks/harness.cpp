// SPDX-License-Identifier: MIT
#include "harness.hpp"

#include "../engine/fake_quantization.hpp"
#include "../engine/fitting.hpp"
#include "../kernels/kernels.hpp"
#include "../onnx/model.hpp"
#include "../quant/require.hpp"
#include "../quant/threads.hpp"

#include <quant/bit_allocation.hpp>
#include <quant/per_channel.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>

namespace networks {

namespace {

using engine::tensor;
using quant_tool::error;
using quant_tool::exit_code;

constexpr std::size_t batch_of_ranges = 125; // in the authors' setting it is part of the result
constexpr std::size_t batch_of_integers = 16;

constexpr double no_goal = std::numeric_limits<double>::infinity();
constexpr std::array<subject, 6> all_subjects{
    {{"lenet", "LeNet", "mnist/lenet_mnist.onnx", "mnist/test1500-images-idx3-ubyte.gz",
      "mnist/test1500-labels-idx1-ubyte.gz", "mnist/train10k-images-idx3-ubyte.gz",
      "mnist/train10k-labels-idx1-ubyte.gz", evaluation::by_256, 256, 1500, 1478, 0, no_goal},
     {"kws_ds_cnn", "Keyword DS-CNN", "kws/kws_ds_cnn.onnx", "kws/mfcc.npy", "kws/labels.npy", nullptr, nullptr,
      evaluation::raw, 100, 500, 456, 0, no_goal},
     {"resnet8", "ResNet-8", "cifar10/resnet8_cifar10.onnx", "cifar10/test_jpeg_2500.bin", "",
      "cifar10/train_lossless_2000.bin", "", evaluation::raw, 256, 2500, 1853, 0, 2.7},
     {"resnet20", "ResNet-20", "cifar10/resnet20_cifar10.onnx", "cifar10/test_jpeg_2500.bin", "",
      "cifar10/train_lossless_2000.bin", "", evaluation::imagenet, 256, 2500, 2028, 0, 2.7},
     {"squeezenet1_1", "SqueezeNet 1.1", "imagenet/squeezenet1_1.onnx", "imagenet/images", "imagenet/labels.csv",
      nullptr, nullptr, evaluation::imagenet, 64, 500, 298, 408, 2.7},
     {"mobilenet_v2", "MobileNet v2", "imagenet/mobilenet_v2_1.0_224.onnx", "imagenet/images", "imagenet/labels.csv",
      nullptr, nullptr, evaluation::imagenet, 64, 500, 412, 481, 6.0}}};

double decibel(double signal, double noise) { return 10.0 * std::log10(signal / noise); }

double squares(std::span<const float> x, std::span<const float> y) {
    double sum = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double d = static_cast<double>(x[i]) - (y.empty() ? 0.0 : static_cast<double>(y[i]));
        sum += d * d;
    }
    return sum;
}

engine::method method_named(const std::string& name) {
    for (const engine::method m : engine::methods)
        if (engine::name_of(m) == name) return m;
    throw error(exit_code::internal, {}, "no method '" + name + "'");
}

evaluation::labelled_set open(const subject& s, const std::string& data, const engine::graph& net, bool calibration,
                              unsigned threads) {
    const std::string folder = data + "/";
    const char* const samples = calibration ? s.calibration : s.samples;
    const std::string labels = calibration ? s.calibration_labels : s.labels;
    return evaluation::open_set(folder + samples, labels.empty() ? labels : folder + labels,
                                net.shapes[net.input].back(), s.how, threads);
}

/// Mean width of the weights' codes.
double mean_bits(const engine::integer_parameters& p) {
    double bits = 0.0, elements = 0.0;
    for (const quant::quantized_tensor& w : p.weights) {
        if (w.size() == 0) continue;
        bits += quant::average_bits(w) * static_cast<double>(w.size());
        elements += static_cast<double>(w.size());
    }
    return bits / elements;
}

/// The library's own settings; `steps` is the method's name.
engine::integer_settings own_settings(const std::string& steps, unsigned weight_bits, unsigned activation_bits,
                                      bool exempt) {
    const unsigned finer = steps == finer_sums ? 8 : 0;
    return {.weight_bits = weight_bits,
            .activation_bits = activation_bits,
            .linear_bits = finer,
            .sum_bits = finer,
            .clip_weights = engine::clipping::mse,
            .clip_activations = engine::clipping::mse,
            .correct_bias = true,
            .exempt = exempt};
}

} // namespace

std::span<const subject> subjects() { return all_subjects; }

std::string layer_options(const subject& s) { return "calibration " + std::to_string(s.calibrated); }

std::vector<key> plan(const subject& s, const run_options& o) {
    std::vector<key> all{{s.name, s.size, setting::reference, "float"}};
    const std::size_t samples = std::min(o.samples, s.size);
    const std::string calibration = layer_options(s);
    const auto paper = [&](unsigned w, unsigned a, engine::method m, bool exempt = false) {
        const std::string name(engine::name_of(m));
        all.push_back(
            {s.name, samples, setting::authors, name, w, a, exempt, "batch " + std::to_string(batch_of_ranges)});
        if (m != engine::method::bit_allocation) // a width per channel is no setting of an integer engine
            all.push_back({s.name, samples, setting::integers, name, w, a, exempt, calibration});
    };
    const auto own = [&](const char* name, unsigned w, unsigned a, bool exempt = false) {
        all.push_back({s.name, samples, setting::beyond, name, w, a, exempt, calibration});
    };
    const auto peer = [&](const char* name, unsigned w, unsigned a) {
        all.push_back({s.name, samples, setting::peer, name, w, a, false, calibration});
    };
    using engine::method;
    if (o.quick) {
        for (const method m : {method::min_max, method::all}) paper(4, 4, m);
        own(clipped, 4, 4);
        peer("min-max", 8, 8);
        return all;
    }
    paper(8, 8, method::min_max);
    for (const char* const name : {clipped, fitted}) own(name, 8, 8);
    for (const unsigned a : {8U, 4U})
        for (const char* const name : {clipped, fitted, allocated}) own(name, 4, a);
    own(finer_sums, 4, 4);
    for (const char* const name : {"min-max", "entropy", "percentile"}) peer(name, 8, 8);
    for (const char* const name : {"min-max", "entropy"}) peer(name, 4, 8);
    peer("min-max", 4, 4);
    constexpr std::array<std::array<unsigned, 2>, 3> fours{{{8, 4}, {4, 8}, {4, 4}}};
    for (const method m : {method::min_max, method::all, method::aciq, method::bit_allocation, method::bias_correction})
        for (const auto& [w, a] : fours) paper(w, a, m);
    for (const auto& [w, a] : std::array<std::array<unsigned, 2>, 4>{{{3, 8}, {8, 3}, {3, 3}, {2, 8}}})
        for (const method m : {method::min_max, method::all}) paper(w, a, m);
    for (const unsigned a : {8U, 4U}) own(allocated, 4, a, true);
    for (const method m : {method::min_max, method::all, method::aciq, method::bit_allocation, method::bias_correction})
        for (const unsigned a : {8U, 4U}) paper(4, a, m, true);
    return all;
}

evaluation::labelled_set in_memory(const evaluation::labelled_set& set, std::size_t most, unsigned threads) {
    evaluation::labelled_set out = set;
    out.size = std::min(most, set.size);
    out.labels.resize(out.size);
    const std::size_t size = tensor::count(set.sample_shape);
    const auto values = std::make_shared<std::vector<float>>(out.size * size);
    quant_tool::in_parallel(out.size, threads,
                            [&](std::size_t i) { set.read(i, std::span(*values).subspan(i * size, size)); });
    out.read = [values, size](std::size_t i, std::span<float> to) {
        std::copy_n(values->begin() + static_cast<std::ptrdiff_t>(i * size), size, to.begin());
    };
    return out;
}

bench::bench(const subject& s, const std::string& data, const run_options& o)
    : subject_(s), options_(o), net_(engine::load(quant_onnx::read(data + "/" + s.model))) {
    test_ = in_memory(open(s, data, net_, false, o.threads), s.size, o.threads);
    calibration_ =
        in_memory(s.calibration == nullptr ? test_ : open(s, data, net_, true, o.threads), s.calibrated, o.threads);
}

void bench::check_reference(const row& r) const {
    if (r.samples != subject_.size || r.top1 != subject_.top1 || (subject_.top5 != 0 && r.top5 != subject_.top5))
        throw error(exit_code::data, subject_.model,
                    "float has " + std::to_string(r.top1) + " of " + std::to_string(r.samples) +
                        " right, the folder's README says " + std::to_string(subject_.top1) + " of " +
                        std::to_string(subject_.size));
}

row bench::run(const key& k, const std::function<void(std::size_t)>& progress) {
    evaluation::evaluation_options how{.threads = options_.threads, .most = k.samples, .progress = progress};
    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    if (k.setting == setting::reference) {
        const evaluation::accuracy a = evaluation::evaluate(net_, test_, how);
        return make_row(k, a, 32.0, seconds());
    }
    if (k.setting == setting::authors) {
        engine::fake_settings s = engine::settings_of(method_named(k.method), k.weight_bits, k.activation_bits);
        s.exempt = k.exempt;
        how.batch = batch_of_ranges;
        how.shuffled = true;
        const engine::fake_quantized q(net_, s);
        const evaluation::accuracy a = evaluation::evaluate([&](const tensor& x) { return q(x); }, test_, how);
        return make_row(k, a, q.weight_bits(), seconds());
    }
    how.batch = batch_of_integers;
    row r = k.setting == setting::beyond ? run_own(k, how) : run_paper(k, how);
    r.seconds = seconds();
    return r;
}

const engine::observations& bench::observed() {
    if (!observed_) observed_ = engine::observe(net_, calibration_, calibration_.size);
    return *observed_;
}

row bench::run_own(const key& k, const evaluation::evaluation_options& how) {
    engine::integer_settings s = own_settings(k.method, k.weight_bits, k.activation_bits, k.exempt);
    if (k.method == clipped) return run_integers(k, net_, engine::choose_parameters(net_, observed(), s), how);
    if (k.method != fitted) {
        if (layers_.empty()) layers_ = measure_layers();
        std::size_t next = 0;
        for (const engine::layer& l : net_.layers)
            s.bits_by_layer.push_back(l.has_weight() ? layers_[next++].width : k.weight_bits);
    }
    const engine::fitted_network best = engine::fitted(net_, observed(), calibration_, calibration_.size, s);
    return run_integers(k, best.net, best.parameters, how);
}

/// The paper's method: weights affine and never clipped.
row bench::run_paper(const key& k, const evaluation::evaluation_options& how) {
    const engine::fake_settings paper = engine::settings_of(method_named(k.method), k.weight_bits, k.activation_bits);
    const engine::integer_settings s{.weight_bits = k.weight_bits,
                                     .activation_bits = k.activation_bits,
                                     .affine_weights = true,
                                     .clip_activations =
                                         paper.clip_activations ? engine::clipping::aciq_paper : engine::clipping::none,
                                     .correct_bias = paper.correct_bias,
                                     .exempt = k.exempt};
    return run_integers(k, net_, engine::choose_parameters(net_, observed(), s), how);
}

row bench::run_integers(const key& k, const engine::graph& net, const engine::integer_parameters& parameters,
                        const evaluation::evaluation_options& how) const {
    const engine::integer_network q(net, parameters);
    const evaluation::accuracy a = evaluation::evaluate([&](const tensor& x) { return q(x); }, test_, how);
    return make_row(k, a, mean_bits(parameters), 0.0);
}

std::vector<layer_row> bench::measure_layers() {
    const engine::observations& seen = observed();
    const engine::graph& net = net_;
    engine::integer_settings four = own_settings(clipped, 4, 4, false);
    const engine::integer_parameters parameters = engine::choose_parameters(net, seen, four);
    const tensor x = calibration_.batch(0, std::min<std::size_t>(calibration_.size, 16));
    const tensor expected = engine::run(net, x);
    const double signal = squares(expected.data, {});

    std::vector<std::size_t> weighted;
    for (std::size_t i = 0; i < net.layers.size(); ++i)
        if (net.layers[i].has_weight()) weighted.push_back(i);
    std::vector<layer_row> rows(weighted.size());
    std::vector<double> spreads(weighted.size());
    std::vector<std::uint64_t> counts(weighted.size());
    quant_tool::in_parallel(weighted.size(), options_.threads, [&](std::size_t n) {
        const std::size_t i = weighted[n];
        engine::graph rounded = net;
        std::vector<float>& w = rounded.layers[i].weight.data;
        quant_tool::require(quant::dequantize(parameters.weights[i], w), net.layers[i].name);
        const double noise = squares(expected.data, engine::run(rounded, x).data);
        const std::vector<float>& exact = net.layers[i].weight.data;
        rows[n] = {subject_.name,
                   layer_options(subject_),
                   net.layers[i].name,
                   exact.size(),
                   decibel(squares(exact, {}), squares(exact, w)),
                   decibel(signal, noise),
                   0.0,
                   4};
        // The spread whose error at 4 bits, n a^2 / (3 4^4), is the noise that was seen.
        counts[n] = exact.size();
        spreads[n] = std::sqrt(noise * 3.0 * 256.0 / static_cast<double>(exact.size()));
    });
    // The greedy allocation is at a loss where one layer has most of the weights; fewer widths to choose from may then cost less.
    std::vector<std::uint8_t> widths(weighted.size()), tried(weighted.size());
    double least = std::numeric_limits<double>::infinity();
    for (std::uint8_t most = 4; most <= 8; ++most) {
        const quant::bit_allocation_options how{.average_bits = 4.0F, .min_bits = 2, .max_bits = most};
        quant_tool::require(quant::allocate_bits(spreads, tried, how, counts), subject_.name);
        const double cost = quant_tool::require(quant::allocation_error(spreads, tried, how, counts), subject_.name);
        if (cost < least) widths = tried;
        least = std::min(least, cost);
    }
    four.bits_by_layer.assign(net.layers.size(), 4);
    for (std::size_t n = 0; n < weighted.size(); ++n) rows[n].width = four.bits_by_layer[weighted[n]] = widths[n];

    // Along the integer network with these widths: what every layer hands on, against float.
    const engine::integer_parameters chosen = engine::choose_parameters(net, seen, four);
    std::vector<tensor> values(net.values);
    engine::run(net, x, [&](const engine::layer& l, tensor& y) { values[l.output] = y; });
    std::vector<double> sqnr(net.values, std::numeric_limits<double>::quiet_NaN());
    (void)engine::integer_network(net, chosen).run(x, [&](std::size_t value, const engine::coded_value& codes) {
        if (value == net.input) return;
        const quant::affine_params& p = chosen.values[value];
        std::vector<float> restored(codes.bytes.size());
        for (std::size_t i = 0; i < restored.size(); ++i) {
            const int code = p.format.is_signed ? static_cast<std::int8_t>(codes.bytes[i]) : codes.bytes[i];
            restored[i] = p.scale * static_cast<float>(code - p.zero_point);
        }
        sqnr[value] = decibel(squares(values[value].data, {}), squares(values[value].data, restored));
    });
    for (std::size_t n = 0; n < weighted.size(); ++n) {
        const engine::layer& l = net.layers[weighted[n]];
        const engine::layer* const behind = engine::activation_behind(net, l);
        rows[n].value_sqnr = sqnr[behind != nullptr ? behind->output : l.output];
    }
    return rows;
}

} // namespace networks
