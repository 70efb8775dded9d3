// SPDX-License-Identifier: MIT
#pragma once

// A small classifier of Eigen matrices and its gradients, as a user would have it: dense layers, ReLU between them, cross entropy. It sees
// whatever weights it is given and returns their gradients; biases stay in float and are its own.

#include "../nn/random.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <Eigen/Core>
#include <vector>

namespace integrations {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows of features and their classes.
struct dataset {
    matrix features;
    std::vector<std::uint8_t> labels;
    std::size_t classes = 0;
    [[nodiscard]] std::size_t size() const { return labels.size(); }
    [[nodiscard]] dataset rows(std::size_t from, std::size_t count) const {
        const auto first = labels.begin() + static_cast<std::ptrdiff_t>(from);
        return {features.middleRows(static_cast<Eigen::Index>(from), static_cast<Eigen::Index>(count)),
                {first, first + static_cast<std::ptrdiff_t>(count)},
                classes};
    }
};

/// Weights of all layers: [outputs, inputs] each, dense and row-major.
using weights = std::vector<matrix>;

class classifier {
public:
    explicit classifier(const std::vector<std::size_t>& units) : widths_(units) {
        for (std::size_t l = 1; l < units.size(); ++l) {
            bias.push_back(Eigen::RowVectorXf::Zero(static_cast<Eigen::Index>(units[l])));
            velocity_.push_back(bias.back());
        }
    }
    /// He initialization.
    [[nodiscard]] weights start(nn::random& r) const {
        weights w;
        for (std::size_t l = 1; l < widths_.size(); ++l) {
            matrix m(static_cast<Eigen::Index>(widths_[l]), static_cast<Eigen::Index>(widths_[l - 1]));
            const float reach = std::sqrt(6.0f / static_cast<float>(widths_[l - 1]));
            for (Eigen::Index i = 0; i < m.size(); ++i) m.data()[i] = r.uniform(-reach, reach);
            w.push_back(m);
        }
        return w;
    }
    /// The share of right answers, in percent.
    [[nodiscard]] double accuracy(const weights& w, const dataset& d) const {
        matrix x = d.features;
        for (std::size_t l = 0; l < w.size(); ++l) x = layer(w, l, x);
        std::size_t right = 0;
        for (std::size_t i = 0; i < d.size(); ++i) {
            Eigen::Index best = 0;
            x.row(static_cast<Eigen::Index>(i)).maxCoeff(&best);
            right += best == d.labels[i] ? 1 : 0;
        }
        return 100 * static_cast<double>(right) / static_cast<double>(d.size());
    }
    /// Gradients of the mean cross entropy of some rows by the weights; the biases take their step here.
    void gradients(const weights& w, const dataset& d, const std::vector<std::size_t>& rows, float rate,
                   weights& grads) {
        std::vector<matrix> x(w.size() + 1);
        x[0].resize(static_cast<Eigen::Index>(rows.size()), d.features.cols());
        for (std::size_t i = 0; i < rows.size(); ++i)
            x[0].row(static_cast<Eigen::Index>(i)) = d.features.row(static_cast<Eigen::Index>(rows[i]));
        for (std::size_t l = 0; l < w.size(); ++l) x[l + 1] = layer(w, l, x[l]);
        matrix g = x.back();
        g.colwise() -= g.rowwise().maxCoeff().eval();
        g = g.array().exp();
        g.array().colwise() /= g.rowwise().sum().eval().array();
        for (std::size_t i = 0; i < rows.size(); ++i)
            g(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(d.labels[rows[i]])) -= 1;
        g /= static_cast<float>(rows.size());
        grads.resize(w.size());
        for (std::size_t l = w.size(); l-- > 0;) {
            grads[l] = g.transpose() * x[l];
            velocity_[l] = 0.9f * velocity_[l] + g.colwise().sum();
            bias[l] -= rate * velocity_[l];
            if (l > 0) g = ((g * w[l]).array() * (x[l].array() > 0).cast<float>()).eval();
        }
    }

    std::vector<Eigen::RowVectorXf> bias;

private:
    [[nodiscard]] matrix layer(const weights& w, std::size_t l, const matrix& x) const {
        matrix y = x * w[l].transpose();
        y.rowwise() += bias[l];
        if (l + 1 < w.size()) y = y.cwiseMax(0.0f);
        return y;
    }
    std::vector<std::size_t> widths_;
    std::vector<Eigen::RowVectorXf> velocity_;
};

} // namespace integrations
