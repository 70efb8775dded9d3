// SPDX-License-Identifier: MIT

#include "rwkv.hpp"

#include "clusters.hpp"

#include <cstring>
#include <map>

namespace language {
namespace {

struct stored {
    std::size_t rows = 0, cols = 1;
    std::vector<float> values{};
};

using quant_tool::error;
using quant_tool::exit_code;

/// Tensors by name, and the header's four sizes.
struct contents {
    std::size_t vocabulary = 0, width = 0, layers = 0;
    std::map<std::string, stored> tensors{};
};

class reader {
public:
    explicit reader(const std::string& path) : path_(path), bytes_(read_file(path)) {}

    contents read() {
        if (number() != 0x67676d66) fail("not a file of rwkv.cpp");
        if (number() < 100) fail("a version that is not known");
        contents out;
        out.vocabulary = size();
        out.width = size();
        out.layers = size();
        if (number() != 0) fail("the weights are not float32");
        while (at_ < bytes_.size()) {
            const std::int32_t dimensions = number();
            const std::size_t name_length = size();
            if (number() != 0) fail("the weights are not float32");
            if (dimensions != 1 && dimensions != 2) fail("a tensor of a rank other than 1 and 2");
            stored t;
            if (dimensions == 2) t.cols = size();
            t.rows = size();
            const std::string name(reinterpret_cast<const char*>(take(name_length)), name_length);
            if (t.rows > bytes_.size() / t.cols) fail("truncated");
            t.values.resize(t.rows * t.cols);
            std::memcpy(t.values.data(), take(t.values.size() * sizeof(float)), t.values.size() * sizeof(float));
            for (const float v : t.values)
                if (!std::isfinite(v)) throw error(exit_code::input, path_, name, "not finite");
            out.tensors[name] = std::move(t);
        }
        return out;
    }

private:
    [[noreturn]] void fail(const char* cause) const { throw error(exit_code::input, path_, cause); }
    const std::uint8_t* take(std::size_t n) {
        if (n > bytes_.size() - at_) fail("truncated");
        at_ += n;
        return bytes_.data() + at_ - n;
    }
    std::int32_t number() {
        std::int32_t n = 0;
        std::memcpy(&n, take(sizeof n), sizeof n);
        return n;
    }
    std::size_t size() {
        const std::int32_t n = number();
        if (n < 1 || n > 1 << 20) fail("a size that cannot be");
        return static_cast<std::size_t>(n);
    }
    std::string path_;
    std::vector<std::uint8_t> bytes_;
    std::size_t at_ = 0;
};

Eigen::Index index(std::size_t n) { return static_cast<Eigen::Index>(n); }

rwkv::activations sigmoid(const rwkv::activations& x) { return (1 + (-x.array()).exp()).inverse(); }

/// Between every position and the one before it; the first of a text has zeros before it.
rwkv::activations mixed(const rwkv::activations& x, const Eigen::VectorXf& share, std::size_t length) {
    rwkv::activations out(x.rows(), x.cols());
    for (Eigen::Index t = 0; t < x.cols(); ++t) {
        out.col(t) = share.array() * x.col(t).array();
        if (static_cast<std::size_t>(t) % length != 0) out.col(t).array() += (1 - share.array()) * x.col(t - 1).array();
    }
    return out;
}

} // namespace

rwkv::rwkv(const std::string& path) {
    contents file = reader(path).read();
    vocabulary_ = file.vocabulary;
    width_ = file.width;
    if (vocabulary_ != 256) throw error(exit_code::input, path, "the vocabulary is not that of bytes");
    if (file.layers > 1024) throw error(exit_code::input, path, "too many layers");
    const auto take = [&](const std::string& name, std::size_t rows, std::size_t cols) {
        const auto found = file.tensors.find(name);
        if (found == file.tensors.end()) throw error(exit_code::input, path, name, "missing");
        stored& t = found->second;
        if ((rows != 0 && t.rows != rows) || (cols != 0 && t.cols != cols))
            throw error(exit_code::input, path, name, "of a shape that does not fit");
        return std::move(t);
    };
    const auto as_vector = [&](const std::string& name) {
        const stored t = take(name, width_, 1);
        return vector(Eigen::Map<const vector>(t.values.data(), index(width_)));
    };
    const auto as_norm = [&](const std::string& name) {
        return norm{as_vector(name + ".weight"), as_vector(name + ".bias")};
    };
    const auto as_matrix = [&](const std::string& name, std::size_t block, std::size_t rows, std::size_t cols) {
        stored t = take(name + ".weight", rows, cols);
        matrices_.push_back({name, t.rows, t.cols, block, std::move(t.values)});
        return matrices_.size() - 1;
    };
    as_matrix("emb", 0, vocabulary_, width_);
    first_norm_ = as_norm("blocks.0.ln0");
    for (std::size_t b = 0; b < file.layers; ++b) {
        const std::string at = "blocks." + std::to_string(b) + ".", time = at + "att.", channel = at + "ffn.";
        layer n;
        n.before_time = as_norm(at + "ln1");
        n.before_channel = as_norm(at + "ln2");
        n.decay = as_vector(time + "time_decay");
        n.first = as_vector(time + "time_first");
        n.time_k = as_vector(time + "time_mix_k");
        n.time_v = as_vector(time + "time_mix_v");
        n.time_r = as_vector(time + "time_mix_r");
        n.channel_k = as_vector(channel + "time_mix_k");
        n.channel_r = as_vector(channel + "time_mix_r");
        n.key = as_matrix(time + "key", b, width_, width_);
        n.value = as_matrix(time + "value", b, width_, width_);
        n.receptance = as_matrix(time + "receptance", b, width_, width_);
        n.output = as_matrix(time + "output", b, width_, width_);
        n.wide_key = as_matrix(channel + "key", b, 0, width_);
        n.wide_value = as_matrix(channel + "value", b, width_, matrices_.back().rows);
        n.wide_receptance = as_matrix(channel + "receptance", b, width_, width_);
        blocks_.push_back(std::move(n));
    }
    last_norm_ = as_norm("ln_out");
    as_matrix("head", file.layers, vocabulary_, width_);
}

rwkv::row_major rwkv::weights(std::size_t i) const {
    const matrix& m = matrices_[i];
    return {m.weights.data(), index(m.rows), index(m.cols)};
}

void rwkv::normalise(const norm& n, activations& x) {
    for (Eigen::Index t = 0; t < x.cols(); ++t) {
        auto column = x.col(t).array();
        column -= column.mean();
        column *= 1 / std::sqrt(column.square().mean() + 1e-5f);
        column = column * n.weight.array() + n.bias.array();
    }
}

rwkv::activations rwkv::embed(std::span<const std::uint8_t> text) const {
    activations x(index(width_), index(text.size()));
    const auto rows = weights(0);
    for (std::size_t t = 0; t < text.size(); ++t) x.col(index(t)) = rows.row(text[t]).transpose();
    normalise(first_norm_, x);
    return x;
}

void rwkv::run_block(std::size_t b, activations& x, std::size_t length) const {
    const layer& n = blocks_[b];
    activations y = x;
    normalise(n.before_time, y);
    const activations k = weights(n.key) * mixed(y, n.time_k, length),
                      v = weights(n.value) * mixed(y, n.time_v, length),
                      r = sigmoid(weights(n.receptance) * mixed(y, n.time_r, length));
    {
        // Sums over the past, numerator and denominator over exp(most) so that nothing overflows.
        using array = Eigen::ArrayXf;
        array above, below, most;
        for (Eigen::Index t = 0; t < x.cols(); ++t) {
            if (static_cast<std::size_t>(t) % length == 0) {
                above = below = array::Zero(x.rows());
                most = array::Constant(x.rows(), -1e30f);
            }
            const auto kt = k.col(t).array();
            const array now = n.first.array() + kt, top = most.max(now), past = (most - top).exp(),
                        own = (now - top).exp();
            y.col(t) = r.col(t).array() * (past * above + own * v.col(t).array()) / (past * below + own);
            const array faded = most + n.decay.array(), next = faded.max(kt), keep = (faded - next).exp(),
                        add = (kt - next).exp();
            above = keep * above + add * v.col(t).array();
            below = keep * below + add;
            most = next;
        }
    }
    x.noalias() += weights(n.output) * y;
    y = x;
    normalise(n.before_channel, y);
    const activations wide = (weights(n.wide_key) * mixed(y, n.channel_k, length)).cwiseMax(0.0f).array().square();
    const activations gate = sigmoid(weights(n.wide_receptance) * mixed(y, n.channel_r, length));
    x.array() += gate.array() * (weights(n.wide_value) * wide).array();
}

rwkv::activations rwkv::head(const activations& x) const {
    activations y = x;
    normalise(last_norm_, y);
    return weights(matrices_.size() - 1) * y;
}

rwkv::activations rwkv::logits(std::span<const std::uint8_t> text, std::size_t length) const {
    activations x = embed(text);
    for (std::size_t b = 0; b < blocks(); ++b) run_block(b, x, length);
    return head(x);
}

} // namespace language
