// SPDX-License-Identifier: MIT
// Equalization, and weights, codes and biases by least squares of the layers' outputs.

#include "fitting.hpp"

#include "../kernels/kernels.hpp"
#include "../nn/matrix.hpp"
#include "../quant/require.hpp"

#include <quant/output_rounding.hpp>
#include <quant/uniform.hpp>

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace engine {

using quant_tool::require;

// ---- equalization ---------------------------------------------------------------------------------------------------

namespace {

/// Channels of all values, those that must have one scale in one class.
class channel_classes {
public:
    explicit channel_classes(const graph& net) {
        for (const auto& shape : net.shapes) {
            first_.push_back(parent_.size());
            for (std::size_t c = 0; c < shape.at(1); ++c) parent_.push_back(parent_.size());
        }
        fixed_.assign(parent_.size(), false);
        for (const std::size_t v : {net.input, net.output}) fix(net, v);
        for (const layer& l : net.layers) join(net, l);
    }
    std::size_t size() const { return parent_.size(); }
    std::size_t of(std::size_t value, std::size_t channel) const { return root(first_[value] + channel); }
    /// Of classes that cannot be scaled.
    std::vector<bool> fixed() const {
        std::vector<bool> out(size(), false);
        for (std::size_t i = 0; i < size(); ++i)
            if (fixed_[i]) out[root(i)] = true;
        return out;
    }

private:
    std::size_t root(std::size_t i) const {
        while (parent_[i] != i) i = parent_[i];
        return i;
    }
    void fix(const graph& net, std::size_t v) {
        for (std::size_t c = 0; c < net.shapes[v][1]; ++c) fixed_[first_[v] + c] = true;
    }
    void join(std::size_t v, std::size_t c, std::size_t w, std::size_t d) {
        const std::size_t a = of(v, c), b = of(w, d);
        parent_[std::max(a, b)] = std::min(a, b);
    }
    void join(const graph& net, const layer& l) {
        const std::size_t out = l.output, n = net.shapes[out][1];
        if (l.has_weight()) return;
        const bool cuts_channels = std::any_of(l.cuts.begin(), l.cuts.end(), [](const cut& c) { return c.axis == 1; });
        const bool flat = l.kind != operation::flatten || l.axis == 1;
        const bool nonlinear =
            l.kind == operation::softmax || l.kind == operation::quantize || l.kind == operation::dequantize;
        if (nonlinear || cuts_channels || !flat || (l.kind == operation::clip && l.low != 0.0f) ||
            l.pad_value != 0.0f || (l.kind == operation::concat && l.axis != 1)) {
            fix(net, out);
            for (const std::size_t v : l.inputs) fix(net, v);
            return;
        }
        std::size_t at = l.kind == operation::pad ? l.pad_with[1] : 0;
        for (const std::size_t v : l.inputs) {
            const std::size_t channels = net.shapes[v][1];
            if (l.kind == operation::flatten)
                for (std::size_t c = 0; c < n; ++c) join(v, c / (n / channels), out, c);
            else
                for (std::size_t c = 0; c < channels; ++c) join(v, c, out, at + c);
            if (l.kind == operation::concat) at += channels;
        }
    }

    std::vector<std::size_t> first_, parent_; ///< by value; by channel
    std::vector<bool> fixed_;
};

/// Whether only depthwise convolutions read it, or layers that read nothing else do not matter: their weights' scales per output
/// channel take whatever their one input channel is scaled by.
bool read_by_depthwise_alone(const graph& net, std::size_t value) {
    return std::all_of(net.layers.begin(), net.layers.end(), [&](const layer& l) {
        const bool reads = std::find(l.inputs.begin(), l.inputs.end(), value) != l.inputs.end();
        return !reads || (l.kind == operation::conv && l.weight.shape[1] == 1);
    });
}

} // namespace

graph equalized(graph net, const observations& seen, double power) {
    const channel_classes classes(net);
    constexpr double unknown = std::numeric_limits<double>::infinity();
    std::vector<double> factors(classes.size(),
                                unknown); // how much a class may grow: as its largest share of a value's range
    const std::vector<bool> fixed = classes.fixed();
    std::vector<bool> coded(net.values, true);
    for (const layer& l : net.layers)
        if (activation_behind(net, l) != nullptr) coded[l.output] = false; // what is behind the ReLU counts
    for (std::size_t v = 0; v < net.values; ++v) {
        const double all = read_by_depthwise_alone(net, v) ? 1.0 : power, lo = seen.values[v].min,
                     hi = seen.values[v].max;
        for (std::size_t c = 0; coded[v] && c < net.shapes[v][1]; ++c) {
            const quant::clip_range own = seen.channels[v][c];
            const double share = std::max(hi > 0.0 ? own.hi / hi : 0.0, lo < 0.0 ? own.lo / lo : 0.0);
            double& factor = factors[classes.of(v, c)];
            if (share > 0.0) factor = std::min(factor, std::pow(share, -all));
        }
    }
    const auto factor_of = [&](std::size_t value, std::size_t channel) {
        const std::size_t c = classes.of(value, channel);
        return fixed[c] || factors[c] == unknown ? 1.0 : factors[c];
    };
    for (layer& l : net.layers) {
        if (!l.has_weight()) continue;
        const std::size_t outputs = l.weight.shape[0], inputs = l.weight.shape[1];
        const std::size_t taps = l.weight.sample_size() / inputs;
        for (std::size_t o = 0; o < outputs; ++o) {
            const double up = factor_of(l.output, o);
            for (std::size_t i = 0; i < inputs; ++i) {
                const double change = up / factor_of(l.inputs[0], o / (outputs / l.groups) * inputs + i);
                for (float& w : std::span(l.weight.data).subspan((o * inputs + i) * taps, taps))
                    w = static_cast<float>(static_cast<double>(w) * change);
            }
            l.bias[o] = static_cast<float>(static_cast<double>(l.bias[o]) * up);
        }
    }
    return net;
}

// ---- least squares --------------------------------------------------------------------------------------------------

namespace {

using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using vector = Eigen::VectorXd;
using nn::index;

/// The inputs of a layer's outputs, one column per position, of one group and sample: [depth, positions].
void unfold_sample(const layer& l, const tensor& x, std::size_t sample, std::size_t group, const tensor& y,
                   float* columns, std::size_t stride) {
    if (l.kind == operation::gemm) {
        for (std::size_t i = 0; i < x.sample_size(); ++i) columns[i * stride] = x.sample(sample)[i];
        return;
    }
    const std::size_t inputs = l.weight.shape[1], plane = x.shape[2] * x.shape[3];
    unfold(l, x.sample(sample).subspan(group * inputs * plane, inputs * plane), {inputs, x.shape[2], x.shape[3]},
           {y.shape[2], y.shape[3]}, columns, stride);
}

/// Means over samples and positions: of a layer's inputs x and outputs y, and their covariances.
struct layer_moments {
    vector x, y;
    matrix xx, yx;
    double evidence = 0.0; ///< independent samples: positions of one image have much in common

    layer_moments(const layer& l, const tensor& inputs, const tensor& outputs, std::size_t group) {
        const std::size_t depth = l.weight.sample_size(), rows = l.weight.shape[0] / l.groups;
        const std::size_t positions = outputs.sample_size() / l.weight.shape[0], samples = outputs.samples();
        const std::size_t at_once = std::max<std::size_t>(1, 4096 / positions);
        matrix all = matrix::Zero(index(depth + 1 + rows), index(depth + 1));
        for (std::size_t from = 0; from < samples; from += at_once) {
            const std::size_t n = std::min(at_once, samples - from) * positions;
            nn::matrix table(index(depth + 1 + rows), index(n)); // inputs, ones, outputs
            table.row(index(depth)).setOnes();
            for (std::size_t k = 0; k < n; k += positions) {
                unfold_sample(l, inputs, from + k / positions, group, outputs, table.data() + k, n);
                const float* y_of = &outputs.sample(from + k / positions)[group * rows * positions];
                for (std::size_t r = 0; r < rows; ++r)
                    std::copy_n(y_of + r * positions, positions, table.data() + (depth + 1 + r) * n + k);
            }
            const nn::matrix products = table * table.topRows(index(depth + 1)).transpose();
            all += products.cast<double>();
        }
        all /= static_cast<double>(samples * positions);
        evidence = static_cast<double>(samples) * std::sqrt(static_cast<double>(positions));
        const auto d = index(depth);
        x = all.row(d).head(d);
        y = all.col(d).tail(index(rows));
        xx = all.topLeftCorner(d, d) - x * x.transpose();
        yx = all.bottomLeftCorner(index(rows), d) - y * x.transpose();
    }
};

/// The symmetric scale of least squared error, every weight counting as its input's variance does.
float scale_for(std::span<const float> weights, std::span<const double> variances, quant::code_format format) {
    constexpr int candidates = 64; // down to a fifth of the range
    float largest = 0.0f;
    for (const float w : weights) largest = std::max(largest, std::abs(w));
    double least = std::numeric_limits<double>::infinity();
    float best = 1.0f;
    for (int k = 0; k < candidates && largest > 0.0f; ++k) {
        const float scale = largest / static_cast<float>(format.qmax()) * (1.0f - 0.0125f * static_cast<float>(k));
        const quant::affine_params p{.scale = std::max(scale, quant::min_scale), .zero_point = 0, .format = format};
        double error = 0.0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const double off = static_cast<double>(weights[i]) -
                               static_cast<double>(quant::dequantize_one(quant::quantize_one(weights[i], p), p));
            error += off * off * variances[i];
        }
        if (error < least) {
            least = error;
            best = p.scale;
        }
    }
    return best;
}

/// One group of a layer gets the weights and biases of least error that `round` leaves it.
template <class Round>
void fit_group(layer& l, std::size_t group, layer_moments m, const fit_settings& how, const Round& round) {
    const std::size_t depth = l.weight.sample_size(), rows = l.weight.shape[0] / l.groups, first = group * rows;
    const auto d = index(depth);
    nn::matrix_map weights(&l.weight.data[first * depth], index(rows), d);
    // Covariances of many inputs from few samples tell of what is not there: the inputs' own variances hold against them. The small
    // addition is for inputs that never vary.
    const double unit = m.xx.trace() / static_cast<double>(depth);
    const vector own_variances =
        (m.xx.diagonal() * (how.ridge * static_cast<double>(depth) / m.evidence)).array() + 0.01 * unit + 1e-12;
    m.xx.diagonal() += own_variances;
    if (how.refit) { // |W x - y|^2 + |W - W_float|^2, the latter by variances
        const matrix b = m.yx + weights.cast<double>() * own_variances.asDiagonal();
        weights = m.xx.ldlt().solve(b.transpose()).transpose().cast<float>();
    }

    // Inputs that say most come first.
    std::vector<std::size_t> order(depth);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t i, std::size_t j) { return m.xx(index(i), index(i)) > m.xx(index(j), index(j)); });
    matrix factors(d, d);
    for (std::size_t i = 0; i < depth; ++i)
        for (std::size_t j = 0; j < depth; ++j) factors(index(i), index(j)) = m.xx(index(order[i]), index(order[j]));
    const std::span<double> factor_span(factors.data(), depth * depth);
    require(quant::factor_moments(factor_span, depth), l.name);

    std::vector<float> ordered(depth);
    std::vector<double> variances(depth);
    for (std::size_t i = 0; i < depth; ++i) variances[i] = m.xx(index(order[i]), index(order[i]));
    for (std::size_t r = 0; r < rows; ++r) {
        float* const own = &l.weight.data[(first + r) * depth];
        for (std::size_t i = 0; i < depth; ++i) ordered[i] = own[order[i]];
        round(row_of_weights{l, first + r, ordered, order, variances, factor_span});
        double mean = 0.0;
        for (std::size_t i = 0; i < depth; ++i) {
            own[order[i]] = ordered[i];
            mean += static_cast<double>(ordered[i]) * m.x[index(order[i])];
        }
        l.bias[first + r] = static_cast<float>(m.y[index(r)] - mean);
    }
}

/// The values that the codes of y stand for.
void round(tensor& y, const quant::affine_params& p, const std::string& name) {
    require(quant::fake_quant(y.data, y.data, p), name);
}

/// Layer by layer, in order: round_value(value, its number, whose) and round_row(number of the layer, row).
template <class Values, class Rows>
graph fit_layers(graph net, const labelled_set& set, std::size_t samples, const fit_settings& how,
                 const Values& round_value, const Rows& round_row) {
    std::vector<tensor> real(net.values), coded(net.values);
    std::vector<std::size_t> left = net.readers;
    real[net.input] = coded[net.input] = set.batch(0, std::min(samples, set.size));
    round_value(coded[net.input], net.input, "the input");
    for (std::size_t i = 0; i < net.layers.size(); ++i) {
        layer& l = net.layers[i];
        std::vector<const tensor*> from, from_codes;
        for (const std::size_t v : l.inputs) {
            from.push_back(&real[v]);
            from_codes.push_back(&coded[v]);
        }
        tensor y = run_layer(l, from);
        for (std::size_t g = 0; l.has_weight() && g < l.groups; ++g)
            fit_group(l, g, {l, *from_codes[0], y, g}, how, [&](const row_of_weights& w) { round_row(i, w); });
        coded[l.output] = run_layer(l, from_codes);
        if (activation_behind(net, l) == nullptr) round_value(coded[l.output], l.output, l.name);
        for (const std::size_t v : l.inputs)
            if (--left[v] == 0) real[v] = coded[v] = {};
        real[l.output] = std::move(y);
    }
    return net;
}

} // namespace

graph fit_weights(graph net, const labelled_set& set, std::size_t samples, const fit_settings& how,
                  const row_rounding& round_row) {
    return fit_layers(
        std::move(net), set, samples, how, [](tensor&, std::size_t, const std::string&) {},
        [&](std::size_t, const row_of_weights& w) { round_row(w); });
}

fitted_network fit(graph net, integer_parameters parameters, const labelled_set& set, std::size_t samples,
                   const fit_settings& how) {
    std::vector<std::int8_t> row;
    std::vector<double> errors;
    net = fit_layers(
        std::move(net), set, samples, how,
        [&](tensor& y, std::size_t value, const std::string& name) { round(y, parameters.values[value], name); },
        [&](std::size_t i, const row_of_weights& w) {
            const std::size_t depth = w.weights.size();
            row.resize(depth);
            errors.resize(depth);
            quant::affine_params& p = parameters.weights[i].mutable_params()[w.row];
            p.zero_point = 0;
            p.scale = scale_for(w.weights, w.variances, p.format);
            require(quant::round_for_outputs<std::int8_t>(w.weights, w.factors, p, row, errors), w.of.name);
            const auto codes = parameters.weights[i].mutable_codes<std::int8_t>();
            for (std::size_t k = 0; k < depth; ++k) {
                codes[w.row * depth + w.order[k]] = row[k];
                w.weights[k] = quant::dequantize_one(row[k], p);
            }
        });
    return {std::move(net), std::move(parameters)};
}

fitted_network fitted(const graph& net, const observations& seen, const labelled_set& set, std::size_t samples,
                      const integer_settings& settings, const fit_settings& how) {
    integer_settings symmetric = settings;
    symmetric.affine_weights = symmetric.correct_bias = false;
    if (how.equalization == 0.0) return fit(net, choose_parameters(net, seen, symmetric), set, samples, how);
    graph equal = equalized(net, seen, how.equalization);
    integer_parameters parameters = choose_parameters(equal, observe(equal, set, samples), symmetric);
    return fit(std::move(equal), std::move(parameters), set, samples, how);
}

} // namespace engine
