// SPDX-License-Identifier: MIT
#include "evaluation.hpp"

#include "../nn/random.hpp"
#include "../quant/io/error.hpp"
#include "../quant/threads.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>

namespace evaluation {

namespace {

/// Calls work(samples, batch) for batches of the set, the same ones whatever the number of threads.
template <class F> void for_each_batch(const labelled_set& set, const evaluation_options& o, const F& work) {
    const std::size_t n = o.most == 0 ? set.size : std::min(o.most, set.size), size = std::max<std::size_t>(o.batch, 1);
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (o.shuffled) {
        nn::random r(1);
        order = nn::permutation(n, r);
    }
    std::mutex guard;
    quant_tool::in_parallel((n + size - 1) / size, o.threads, [&](std::size_t b) {
        const auto samples = std::span<const std::size_t>(order).subspan(b * size, std::min(size, n - b * size));
        std::vector<std::size_t> shape{samples.size()};
        shape.insert(shape.end(), set.sample_shape.begin(), set.sample_shape.end());
        tensor batch(std::move(shape));
        for (std::size_t i = 0; i < samples.size(); ++i) set.read(samples[i], batch.sample(i));
        work(samples, batch, b);
        const std::lock_guard lock(guard);
        if (o.progress) o.progress(samples.size());
    });
}

/// How many outputs come before the label's; all of them where that one is not a number or not there.
std::size_t rank_of(std::span<const float> outputs, int label) {
    const auto at = static_cast<std::size_t>(label);
    if (label < 0 || at >= outputs.size() || std::isnan(outputs[at])) return outputs.size();
    std::size_t before = 0;
    for (std::size_t c = 0; c < outputs.size(); ++c)
        before += outputs[c] > outputs[at] || (outputs[c] == outputs[at] && c < at);
    return before;
}

} // namespace

accuracy evaluate(const network& net, const labelled_set& set, const evaluation_options& options) {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t n = options.most == 0 ? set.size : std::min(options.most, set.size);
    accuracy a;
    a.samples = n;
    a.classes.resize(n);
    a.right.resize(n);
    std::vector<std::uint8_t> among_five(n);
    for_each_batch(set, options, [&](std::span<const std::size_t> samples, const tensor& batch, std::size_t) {
        const tensor outputs = net(batch);
        for (std::size_t i = 0; i < samples.size(); ++i) {
            const std::size_t s = samples[i];
            const auto row = outputs.sample(i);
            const std::size_t rank = rank_of(row, set.labels[s]);
            a.classes[s] = static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin());
            a.right[s] = rank == 0;
            among_five[s] = rank < std::min<std::size_t>(5, row.size());
        }
    });
    for (std::size_t s = 0; s < n; ++s) {
        a.top1 += a.right[s];
        a.top5 += among_five[s];
    }
    a.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return a;
}

accuracy evaluate(const engine::graph& net, const labelled_set& set, const evaluation_options& options) {
    return evaluate([&](const tensor& batch) { return engine::run(net, batch); }, set, options);
}

double sign_test(std::size_t wins, std::size_t losses) {
    const double n = static_cast<double>(wins + losses);
    double tail = 0.0; // P[fewer of a fair coin's sides than seen], each term by logarithms: 2^-n alone may underflow
    for (std::size_t k = 0; k <= std::min(wins, losses); ++k) {
        const double x = static_cast<double>(k);
        tail += std::exp(std::lgamma(n + 1.0) - std::lgamma(x + 1.0) - std::lgamma(n - x + 1.0) - n * std::log(2.0));
    }
    return std::min(1.0, 2.0 * tail);
}

paired_difference compare(std::span<const std::uint8_t> first_right, std::span<const std::uint8_t> second_right) {
    paired_difference d;
    for (std::size_t s = 0; s < std::min(first_right.size(), second_right.size()); ++s) {
        d.only_first += first_right[s] > second_right[s];
        d.only_second += first_right[s] < second_right[s];
    }
    d.p = sign_test(d.only_first, d.only_second);
    return d;
}

paired_difference compare(const accuracy& first, const accuracy& second) {
    paired_difference d = compare(first.right, second.right);
    for (std::size_t s = 0; s < std::min(first.samples, second.samples); ++s)
        d.changed += first.classes[s] != second.classes[s];
    return d;
}

double layer_error::sqnr_db() const { return 10.0 * std::log10(signal / noise); }

std::vector<layer_error> compare_layers(const engine::graph& first, const engine::graph& second,
                                        const labelled_set& set, const evaluation_options& options) {
    std::map<std::string, std::size_t> numbers; // of the first network's values
    for (std::size_t i = 0; i < first.layers.size(); ++i) numbers.emplace(first.layers[i].output_name, i);
    std::vector<bool> shared(first.layers.size(), false);
    for (const engine::layer& l : second.layers)
        if (const auto found = numbers.find(l.output_name); found != numbers.end()) shared[found->second] = true;

    // Sums of every batch, added in order at the end: the same for any number of threads.
    const std::size_t n = options.most == 0 ? set.size : std::min(options.most, set.size);
    std::vector<std::vector<layer_error>> sums((n + options.batch - 1) / std::max<std::size_t>(options.batch, 1),
                                               std::vector<layer_error>(shared.size()));
    for_each_batch(set, options, [&](std::span<const std::size_t>, const tensor& batch, std::size_t b) {
        std::map<std::string, tensor> expected;
        (void)engine::run(first, batch, [&](const engine::layer& l, const tensor& y) {
            if (shared[numbers.at(l.output_name)]) expected.emplace(l.output_name, y);
        });
        (void)engine::run(second, batch, [&](const engine::layer& l, const tensor& y) {
            const auto found = expected.find(l.output_name);
            if (found == expected.end()) return;
            layer_error& e = sums[b][numbers.at(l.output_name)];
            if (found->second.size() != y.size())
                throw quant_tool::error(quant_tool::exit_code::input, {},
                                        "the networks' values '" + quant_tool::printable(l.output_name) +
                                            "' differ in size");
            for (std::size_t i = 0; i < y.size(); ++i) {
                const double x = static_cast<double>(found->second.data[i]), d = x - static_cast<double>(y.data[i]);
                e.signal += x * x;
                e.noise += d * d;
            }
            expected.erase(found);
        });
    });
    std::vector<layer_error> all;
    for (std::size_t i = 0; i < shared.size(); ++i) {
        if (!shared[i]) continue;
        layer_error total{first.layers[i].output_name, first.layers[i].kind};
        for (const auto& of_batch : sums) {
            total.signal += of_batch[i].signal;
            total.noise += of_batch[i].noise;
        }
        all.push_back(total);
    }
    return all;
}

} // namespace evaluation
