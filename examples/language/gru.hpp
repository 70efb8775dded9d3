// SPDX-License-Identifier: MIT
#pragma once

// A language model with one layer of gated recurrent units (Cho et al. 2014; the reset gate acts on the product, as in cuDNN). All
// parameters lie in one array, so that optimizers and Hessian-vector products need no structure.
//
//   z = s(Wz e + Uz h + bz)    r = s(Wr e + Ur h + br)    n = tanh(Wn e + r (Un h) + bn)    h <- (1 - z) n + z h    logits = V h + c

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace language {

struct gru_shape {
    std::size_t vocabulary = 0, embedding = 0, hidden = 0;
};

/// One piece of the parameters.
struct gru_part {
    std::string name;
    std::size_t first = 0, size = 0;
};

/// Texts side by side: symbol t of text b at [t * texts + b], and the symbol that follows it.
struct gru_batch {
    std::vector<std::uint8_t> symbols{}, next{};
    std::size_t texts = 1;
};

template <class T> class gru {
public:
    using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

    explicit gru(const gru_shape& s) : s_(s) {
        const std::size_t in = s.hidden * s.embedding, back = s.hidden * s.hidden;
        const auto add = [&](const char* name, std::size_t size) {
            parts_.push_back({name, size_, size});
            size_ += size;
        };
        add("embedding", s.vocabulary * s.embedding);
        for (const char* name : {"Wz", "Wr", "Wn"}) add(name, in);
        for (const char* name : {"Uz", "Ur", "Un"}) add(name, back);
        add("output", s.vocabulary * s.hidden);
        add("biases", 3 * s.hidden + s.vocabulary);
    }
    /// The last part is the biases; all others are clusters of weights.
    [[nodiscard]] const std::vector<gru_part>& parts() const { return parts_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] const gru_shape& shape() const { return s_; }
    [[nodiscard]] matrix start(std::size_t texts) const { return matrix::Zero(index(s_.hidden), index(texts)); }

    /// Mean cross entropy in nats. state: [hidden, texts], before and after. gradient: empty, or written; it ends where the batch
    /// begins. logits: where not null receives [vocabulary, symbols].
    T run(std::span<const T> theta, const gru_batch& batch, matrix& state, std::span<T> gradient,
          matrix* logits = nullptr) const {
        const Eigen::Index n = index(batch.symbols.size()), texts = index(batch.texts), hidden = index(s_.hidden),
                           deep = index(s_.embedding);
        const weights w(s_, theta.data(), parts_);
        matrix x(deep, n);
        for (Eigen::Index i = 0; i < n; ++i) x.col(i) = w.embedding.row(batch.symbols[at(i)]).transpose();
        matrix gates = w.in * x; // then z, r, n themselves
        gates.colwise() += w.bias;
        matrix before(hidden, n), after(hidden, n), product(hidden, n);
        matrix h = state;
        for (Eigen::Index t = 0; t < n; t += texts) {
            const matrix back = w.back * h;
            auto g = gates.middleCols(t, texts);
            g.topRows(2 * hidden) += back.topRows(2 * hidden);
            g.topRows(2 * hidden) = (1 + (-g.topRows(2 * hidden).array()).exp()).inverse().matrix();
            const auto z = g.topRows(hidden).array(), r = g.middleRows(hidden, hidden).array();
            product.middleCols(t, texts) = back.bottomRows(hidden);
            g.bottomRows(hidden) = (g.bottomRows(hidden).array() + r * back.bottomRows(hidden).array()).tanh().matrix();
            before.middleCols(t, texts) = h;
            h = ((1 - z) * g.bottomRows(hidden).array() + z * h.array()).matrix();
            after.middleCols(t, texts) = h;
        }
        state = h;
        matrix y = w.out * after;
        y.colwise() += w.out_bias;
        if (logits != nullptr) *logits = y;
        double loss = 0;
        for (Eigen::Index i = 0; i < n; ++i) {
            auto column = y.col(i);
            column.array() -= column.maxCoeff();
            const T right = column(batch.next[at(i)]);
            column = column.array().exp().matrix();
            const T sum = column.sum();
            loss += static_cast<double>(std::log(sum) - right);
            column /= sum * static_cast<T>(n);
            column(batch.next[at(i)]) -= 1 / static_cast<T>(n);
        }
        if (gradient.empty()) return static_cast<T>(loss / static_cast<double>(n));

        changes d(s_, gradient.data(), parts_);
        d.out.noalias() = y * after.transpose();
        d.out_bias = y.rowwise().sum();
        const matrix from_above = w.out.transpose() * y;
        matrix d_gates(3 * hidden, n), d_back(3 * hidden, n);
        matrix carry = matrix::Zero(hidden, texts);
        for (Eigen::Index t = n - texts; t >= 0; t -= texts) {
            const auto g = gates.middleCols(t, texts);
            const auto z = g.topRows(hidden).array(), r = g.middleRows(hidden, hidden).array(),
                       c = g.bottomRows(hidden).array();
            const matrix dh = from_above.middleCols(t, texts) + carry;
            auto own = d_gates.middleCols(t, texts);
            own.bottomRows(hidden) = (dh.array() * (1 - z) * (1 - c.square())).matrix();
            own.topRows(hidden) = (dh.array() * (before.middleCols(t, texts).array() - c) * z * (1 - z)).matrix();
            own.middleRows(hidden, hidden) =
                (own.bottomRows(hidden).array() * product.middleCols(t, texts).array() * r * (1 - r)).matrix();
            auto back = d_back.middleCols(t, texts);
            back = own;
            back.bottomRows(hidden).array() *= r;
            carry = (dh.array() * z).matrix();
            carry.noalias() += w.back.transpose() * back;
        }
        d.back.noalias() = d_back * before.transpose();
        d.in.noalias() = d_gates * x.transpose();
        d.bias = d_gates.rowwise().sum();
        const matrix dx = w.in.transpose() * d_gates;
        d.embedding.setZero();
        for (Eigen::Index i = 0; i < n; ++i) d.embedding.row(batch.symbols[at(i)]) += dx.col(i).transpose();
        return static_cast<T>(loss / static_cast<double>(n));
    }

private:
    static Eigen::Index index(std::size_t n) { return static_cast<Eigen::Index>(n); }
    static std::size_t at(Eigen::Index i) { return static_cast<std::size_t>(i); }

    /// The parameters, or their gradients, as matrices.
    template <class U> struct view {
        template <class M> using map = Eigen::Map<std::conditional_t<std::is_const_v<U>, const M, M>>;
        using rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
        using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
        map<rows> embedding, in, back, out;
        map<vector> bias, out_bias;
        view(const gru_shape& s, U* p, const std::vector<gru_part>& parts)
            : embedding(p, index(s.vocabulary), index(s.embedding)),
              in(p + parts[1].first, index(3 * s.hidden), index(s.embedding)),
              back(p + parts[4].first, index(3 * s.hidden), index(s.hidden)),
              out(p + parts[7].first, index(s.vocabulary), index(s.hidden)),
              bias(p + parts[8].first, index(3 * s.hidden)),
              out_bias(p + parts[8].first + 3 * s.hidden, index(s.vocabulary)) {}
    };
    using weights = view<const T>;
    using changes = view<T>;

    gru_shape s_;
    std::vector<gru_part> parts_{};
    std::size_t size_ = 0;
};

} // namespace language
