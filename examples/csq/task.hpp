// SPDX-License-Identifier: MIT
#pragma once

// What is learned: the digits in this repository or the letters of UCI, split into rows to train on, rows to choose by and unseen rows; and
// the run of one arm. The network is that of examples/nn: on these sizes it is as fast as products of bare matrices.

#include "../digits/dataset.hpp"
#include "../nn/matrix.hpp"
#include "../nn/training.hpp"
#include "../quant/io/error.hpp"
#include "arms.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <quant/csq.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace csq_example {

/// Samples [N, ...] and their classes.
struct labelled {
    nn::tensor x;
    std::vector<std::uint8_t> labels;
    [[nodiscard]] std::size_t size() const { return labels.size(); }
    [[nodiscard]] labelled rows(std::size_t from, std::size_t count) const {
        const auto first = labels.begin() + static_cast<std::ptrdiff_t>(from);
        return {nn::samples(x, from, count), {first, first + static_cast<std::ptrdiff_t>(count)}};
    }
};

struct task {
    std::string name;
    labelled all; ///< as it was read
    std::size_t training = 0, choosing = 0, classes = 0, hidden = 0,
                batch = 0; ///< the last `choosing` training rows choose
};

/// Rows to learn from and rows to answer, with the mean of the former taken off, in units of its spread.
struct split {
    labelled training, asked;
};
inline split split_rows(const task& t, bool choose) {
    const std::size_t learned = choose ? t.training - t.choosing : t.training;
    const std::size_t asked = choose ? t.choosing : t.all.size() - t.training;
    split s{t.all.rows(0, learned), t.all.rows(learned, asked)};
    const std::size_t n = t.all.x.sample_size();
    const auto training = nn::as_matrix(std::span(s.training.x.data), learned, n);
    const Eigen::RowVectorXf mean = training.colwise().mean();
    Eigen::RowVectorXf spread = (training.rowwise() - mean).array().square().colwise().mean().sqrt().matrix();
    spread = spread.cwiseMax(0.1f * spread.mean()).eval(); // a pixel that is always 0 here may not be so elsewhere
    for (labelled* d : {&s.training, &s.asked}) {
        auto x = nn::as_matrix(std::span(d->x.data), d->size(), n);
        x = ((x.rowwise() - mean).array().rowwise() / spread.array()).matrix().eval();
    }
    return s;
}

inline task digits_task(const std::string& path) {
    const digits::dataset d = digits::load(path);
    task t{
        "digits", {nn::tensor({d.size(), digits::pixels}), d.labels}, digits::training_images, 200, digits::classes, 32,
        32};
    t.all.x.data = d.images.data;
    return t;
}

/// UCI's file: a heading that is passed over, then a capital and 16 numbers 0 to 15 on each of 20 000 lines.
inline task letters_task(const std::string& path) {
    constexpr std::size_t features = 16, rows = 20000;
    const auto fail = [&](const std::string& what) {
        throw quant_tool::error(quant_tool::exit_code::input, path, what);
    };
    std::ifstream in(path, std::ios::binary);
    if (!in) fail("cannot be opened");
    task t{"letters", {nn::tensor({rows, features}), {}}, 16000, 2000, 26, 64, 128};
    std::size_t number = 0;
    for (std::string line; std::getline(in, line);) {
        ++number;
        std::erase_if(line, [](char c) { return c == '"' || c == '\r'; });
        std::vector<std::string_view> cells;
        for (std::size_t from = 0; from <= line.size();) {
            const std::size_t to = std::min(line.find(',', from), line.size());
            cells.push_back(std::string_view(line).substr(from, to - from));
            from = to + 1;
        }
        const bool is_letter = cells[0].size() == 1 && cells[0][0] >= 'A' && cells[0][0] <= 'Z';
        if (number == 1 && !is_letter) continue;
        const std::string where = "line " + std::to_string(number) + ": ";
        if (!is_letter || cells.size() != features + 1) fail(where + "expected a capital and 16 numbers");
        if (t.all.labels.size() == rows) fail(where + "more than 20000 letters");
        for (std::size_t k = 0; k < features; ++k) {
            unsigned value = 0;
            const char* const end = cells[k + 1].data() + cells[k + 1].size();
            const auto [next, error] = std::from_chars(cells[k + 1].data(), end, value);
            if (error != std::errc{} || next != end || value > 15) fail(where + "expected numbers 0 to 15");
            t.all.x.data[t.all.labels.size() * features + k] = static_cast<float>(value);
        }
        t.all.labels.push_back(static_cast<std::uint8_t>(cells[0][0] - 'A'));
    }
    if (t.all.size() != rows) fail("has " + std::to_string(t.all.size()) + " letters, expected 20000");
    return t;
}

/// Dense layers: inputs, hidden, hidden, classes.
inline void build(nn::network& net, const task& t, nn::random& r) {
    net.add<nn::linear>("first", t.all.x.sample_size(), t.hidden, r).add<nn::relu>();
    net.add<nn::linear>("middle", t.hidden, t.hidden, r).add<nn::relu>();
    net.add<nn::linear>("last", t.hidden, t.classes, r);
}

/// In percent.
inline double accuracy(nn::network& net, const labelled& asked) {
    const std::vector<std::size_t> answers = nn::classes_of(nn::run(net, asked.x, {}, 512));
    std::size_t right = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) right += answers[i] == asked.labels[i] ? 1 : 0;
    return 100 * static_cast<double>(right) / static_cast<double>(answers.size());
}

/// Moves the gradient of the logits towards that of the teacher's answers: share T (softmax(z / T) - softmax(teacher / T)), T = 2,
/// instead of that part of the labels' (Hinton et al. 2015, arXiv 1503.02531).
inline void distill(nn::tensor& grad, const nn::tensor& logits, const nn::tensor& teacher,
                    std::span<const std::size_t> rows, float share) {
    constexpr float temperature = 2;
    const std::size_t n = logits.channels();
    std::vector<float> own(n), theirs(n);
    const auto soften = [&](std::span<const float> z, std::vector<float>& p) {
        const float top = *std::max_element(z.begin(), z.end());
        float sum = 0;
        for (std::size_t i = 0; i < n; ++i) sum += p[i] = std::exp((z[i] - top) / temperature);
        for (float& v : p) v /= sum;
    };
    const float scale = share * temperature / static_cast<float>(rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
        soften(logits.sample(r), own);
        soften(teacher.sample(rows[r]), theirs);
        auto g = grad.sample(r);
        for (std::size_t i = 0; i < n; ++i) g[i] = (1 - share) * g[i] + scale * (own[i] - theirs[i]);
    }
}

struct run_options {
    std::size_t epochs = 1, batch = 64;
    float rate = 0.05f;                  ///< of biases; weights are the arm's
    float distill = 0;                   ///< share of the teacher's answers
    const nn::tensor* teacher = nullptr; ///< its logits for all training samples
};

[[nodiscard]] inline std::size_t steps_of(const labelled& on, const run_options& o) {
    return o.epochs * std::max<std::size_t>(1, on.size() / o.batch);
}

/// One run. Returns the integers it ended with; the network holds their weights. `each_epoch`: called before every epoch and at the end.
template <class F>
integer_model train(arm& a, nn::network& net, const labelled& on, const run_options& o, nn::random& r,
                    const F& each_epoch) {
    const std::size_t steps = steps_of(on, o), batches = steps / o.epochs;
    const quant::cosine_rate rate{.start = static_cast<double>(o.rate)};
    std::vector<nn::parameter*> biases;
    for (nn::parameter* p : net.parameters())
        if (p->value.shape.size() == 1) biases.push_back(p);
    weights velocity(biases.size());
    std::vector<std::size_t> order;
    for (std::size_t step = 0; step < steps; ++step) {
        const std::size_t batch = step % batches;
        if (batch == 0) {
            order = nn::permutation(on.size(), r);
            each_epoch(step / batches);
        }
        const auto rows = std::span(order).subspan(batch * o.batch, std::min(o.batch, on.size() - batch * o.batch));
        std::vector<std::size_t> shape = on.x.shape;
        shape[0] = rows.size();
        nn::tensor x(std::move(shape));
        std::vector<std::uint8_t> labels;
        for (std::size_t i = 0; i < rows.size(); ++i) {
            std::copy_n(on.x.sample(rows[i]).begin(), x.sample_size(), x.sample(i).begin());
            labels.push_back(on.labels[rows[i]]);
        }
        const moment at{step, steps, static_cast<float>(rate(static_cast<double>(step), static_cast<double>(steps)))};
        a.forward(at);
        for (nn::parameter* p : net.parameters()) std::fill(p->grad.data.begin(), p->grad.data.end(), 0.0f);
        const nn::tensor logits = net.forward(std::move(x));
        nn::tensor grad = nn::softmax_cross_entropy(logits, labels).grad;
        if (o.distill > 0) distill(grad, logits, *o.teacher, rows, o.distill);
        net.backward(std::move(grad));
        a.update(at);
        for (std::size_t b = 0; b < biases.size(); ++b)
            descend(biases[b]->value.data, biases[b]->grad.data, velocity[b], at.rate);
    }
    integer_model m = a.finish();
    each_epoch(o.epochs);
    return m;
}

} // namespace csq_example
