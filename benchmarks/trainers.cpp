// SPDX-License-Identifier: MIT
// A step of the trainers of bits, of 8 planes or on a grid of 4 bits: beside a copy of the same bytes, and beside the loops a user writes with the C library.
#include "benchmark.hpp"
#include <cmath>
#include <quant/bsq.hpp>
#include <quant/cpq.hpp>
#include <quant/csq.hpp>
#include <quant/fracbits.hpp>

namespace {

using namespace bench;
namespace csq = quant::csq;
namespace bsq = quant::bsq;
namespace cpq = quant::cpq;
namespace fracbits = quant::fracbits;

constexpr std::size_t planes = 8;
constexpr float temperature = 3;
/// Per weight: 16 logits or bits and a weight; backward a gradient in and 16 out.
using planes_to_weights = traffic<1, 64, 4>;
using planes_backward = traffic<1, 68, 64>;
using weights_backward = traffic<1, 8, 4>;

/// What a trainer owns for n weights.
struct memory {
    std::vector<float> positive, negative, d_positive, d_negative, mask, d_mask, scale{0.01f}, d_scale{0}, w;
    explicit memory(std::size_t n, bool bits)
        : d_positive(planes * n), d_negative(planes * n), mask(planes, 0.25f), d_mask(planes), w(n) {
        const float* const values = reals(2 * planes * n);
        for (std::size_t i = 0; i < planes * n; ++i) {
            positive.push_back(bits ? std::abs(values[i]) / 2 : values[i]);
            negative.push_back(bits ? std::abs(values[planes * n + i]) / 2 : values[planes * n + i]);
        }
    }
    csq::layer<float> csq_layer() { return {positive, negative, mask, scale, planes}; }
    csq::layer<float> csq_grads() { return {d_positive, d_negative, d_mask, d_scale, planes}; }
    bsq::layer<float> bsq_layer() { return {positive, negative, scale, w.size(), planes}; }
    bsq::layer<float> bsq_grads() { return {d_positive, d_negative, d_scale, w.size(), planes}; }
};

void csq_forward(row& r) {
    memory m(r.n, false);
    r.run_verb([&] { return csq::forward(m.csq_layer(), m.w, static_cast<double>(temperature)); });
}
void csq_backward(row& r) {
    memory m(r.n, false);
    const std::span<const float> g(reals(r.n), r.n);
    r.run_verb([&] { return csq::backward(m.csq_layer(), g, m.csq_grads(), static_cast<double>(temperature)); });
}
void bsq_forward(row& r) {
    memory m(r.n, true);
    r.run_verb([&] { return bsq::forward(m.bsq_layer(), m.w); });
}
void bsq_backward(row& r) {
    memory m(r.n, true);
    const std::span<const float> g(reals(r.n), r.n);
    r.run_verb([&] { return bsq::backward(m.bsq_layer(), g, m.bsq_grads()); });
}
void fracbits_forward(row& r) {
    const std::vector<float> width{3.5f};
    const std::span<const float> w(reals(r.n), r.n);
    const std::span<float> to(results<float>(r.n), r.n);
    r.run_verb([&] { return fracbits::forward(w, to, width); });
}
void fracbits_backward(row& r) {
    const std::vector<float> width{3.5f};
    std::vector<float> of_width(1);
    const std::span<const float> w(reals(r.n), r.n), g(reals(2 * r.n) + r.n, r.n);
    const std::span<float> to(results<float>(r.n), r.n);
    r.run_verb([&] { return fracbits::backward(w, g, to, of_width, width); });
}

/// 15 points, noise of 0.3 steps.
constexpr cpq::grid points_of_grid{.alpha = 0.4, .sigma = 0.12, .bits = 4};
void cpq_forward(row& r) {
    const std::span<const float> x(reals(r.n), r.n);
    const std::span<float> to(results<float>(r.n), r.n);
    r.run_verb([&] { return cpq::forward(x, to, points_of_grid); });
}
template <cpq::surrogate Which, unsigned Window> void cpq_backward(row& r) {
    const std::span<const float> x(reals(r.n), r.n), g(reals(2 * r.n) + r.n, r.n);
    const std::span<float> to(results<float>(r.n), r.n);
    cpq::grid grid = points_of_grid;
    grid.window = Window;
    r.run_verb([&] { return cpq::backward(x, g, to, grid, Which); });
}

float sigmoid(float z) { return 1 / (1 + std::exp(-z)); }

void csq_forward_loop(row& r) {
    memory m(r.n, false);
    r.run([&] {
        for (float& w : m.w) w = 0;
        for (std::size_t b = 0; b < planes; ++b) {
            const float value = std::ldexp(m.scale[0] * sigmoid(temperature * m.mask[b]), static_cast<int>(b));
            const float *const p = &m.positive[b * r.n], *const n = &m.negative[b * r.n];
            for (std::size_t i = 0; i < r.n; ++i)
                m.w[i] += value * (sigmoid(temperature * p[i]) - sigmoid(temperature * n[i]));
        }
    });
}
void csq_backward_loop(row& r) {
    memory m(r.n, false);
    const float* const g = reals(r.n);
    r.run([&] {
        for (std::size_t b = 0; b < planes; ++b) {
            const float open = sigmoid(temperature * m.mask[b]), value = std::ldexp(m.scale[0], static_cast<int>(b));
            double of_mask = 0;
            for (std::size_t i = b * r.n; i < (b + 1) * r.n; ++i) {
                const float p = sigmoid(temperature * m.positive[i]), n = sigmoid(temperature * m.negative[i]);
                const float slope = g[i - b * r.n] * value * open * temperature;
                m.d_positive[i] = slope * p * (1 - p);
                m.d_negative[i] = -slope * n * (1 - n);
                of_mask += static_cast<double>(g[i - b * r.n] * value * (p - n));
            }
            m.d_mask[b] = static_cast<float>(of_mask) * temperature * open * (1 - open);
        }
    });
}
void bsq_integers_loop(memory& m, std::size_t size) {
    for (float& w : m.w) w = 0;
    for (std::size_t b = 0; b < planes; ++b)
        for (std::size_t i = 0; i < size; ++i)
            m.w[i] += static_cast<float>(1 << b) * (m.positive[b * size + i] - m.negative[b * size + i]);
    for (float& w : m.w) w = std::round(std::clamp(w, -255.0f, 255.0f));
}
void bsq_forward_loop(row& r) {
    memory m(r.n, true);
    r.run([&] {
        bsq_integers_loop(m, r.n);
        for (float& w : m.w) w *= m.scale[0];
    });
}
void bsq_backward_loop(row& r) {
    memory m(r.n, true);
    const float* const g = reals(r.n);
    r.run([&] {
        bsq_integers_loop(m, r.n);
        double of_scale = 0;
        for (std::size_t i = 0; i < r.n; ++i) of_scale += static_cast<double>(g[i] * m.w[i]);
        m.d_scale[0] = static_cast<float>(of_scale);
        for (std::size_t b = 0; b < planes; ++b)
            for (std::size_t i = 0; i < r.n; ++i) {
                m.d_positive[b * r.n + i] = g[i] * m.scale[0] * static_cast<float>(1 << b);
                m.d_negative[b * r.n + i] = -m.d_positive[b * r.n + i];
            }
    });
}
/// DoReFa's weights at 3.5 bits.
void fracbits_forward_loop(row& r) {
    const float* const w = reals(r.n);
    float* const to = results<float>(r.n);
    r.run([&] {
        float most = 0;
        for (std::size_t i = 0; i < r.n; ++i) {
            to[i] = std::tanh(w[i]);
            most = std::max(most, std::abs(to[i]));
        }
        for (std::size_t i = 0; i < r.n; ++i) {
            const float u = to[i] / (2 * most) + 0.5f;
            to[i] = std::nearbyint(u * 7) / 7 + std::nearbyint(u * 15) / 15 - 1;
        }
    });
}
void fracbits_backward_loop(row& r) {
    const float *const w = reals(r.n), *const g = reals(2 * r.n) + r.n;
    float* const to = results<float>(r.n);
    double of_width = 0;
    r.run([&] {
        float most = 0;
        for (std::size_t i = 0; i < r.n; ++i) {
            to[i] = std::tanh(w[i]);
            most = std::max(most, std::abs(to[i]));
        }
        for (std::size_t i = 0; i < r.n; ++i) {
            const float t = to[i], u = t / (2 * most) + 0.5f;
            of_width += static_cast<double>(2 * g[i] * (std::nearbyint(u * 15) / 15 - std::nearbyint(u * 7) / 7));
            to[i] = g[i] * (1 - t * t) / most;
        }
        benchmark::DoNotOptimize(of_width);
    });
}

void cpq_forward_loop(row& r) {
    const float* const x = reals(r.n);
    float* const to = results<float>(r.n);
    const auto step = static_cast<float>(points_of_grid.alpha);
    r.run([&] {
        for (std::size_t i = 0; i < r.n; ++i) to[i] = std::clamp(std::nearbyint(x[i] / step), -7.0f, 7.0f) * step;
    });
}
/// The gradient of the chosen point's probability, all 15 points for every element.
void cpq_backward_loop(row& r) {
    const float *const x = reals(r.n), *const g = reals(2 * r.n) + r.n;
    float* const to = results<float>(r.n);
    const auto step = static_cast<float>(points_of_grid.alpha), sigma = static_cast<float>(points_of_grid.sigma);
    r.run([&] {
        double of_step = 0, of_sigma = 0;
        for (std::size_t i = 0; i < r.n; ++i) {
            const float chosen = std::clamp(std::nearbyint(x[i] / step), -7.0f, 7.0f);
            float low = (-7.5f * step - x[i]) / sigma, below = sigmoid(low);
            float all = 0, mean[3]{}, own[4]{};
            for (int k = -7; k <= 7; ++k) {
                const float high = ((static_cast<float>(k) + 0.5f) * step - x[i]) / sigma, above = sigmoid(high);
                const float p = above * (1 - below), at = static_cast<float>(k);
                const float slope[3]{below - (1 - above), (1 - above) * (at + 0.5f) - below * (at - 0.5f),
                                     below * low - (1 - above) * high};
                all += p;
                for (int j = 0; j < 3; ++j) mean[j] += p * slope[j];
                if (at == chosen) {
                    own[3] = p;
                    for (int j = 0; j < 3; ++j) own[j] = slope[j];
                }
                low = high;
                below = above;
            }
            const float factor = chosen * step * own[3] / (all * sigma);
            to[i] = g[i] * factor * (own[0] - mean[0] / all);
            of_step += static_cast<double>(g[i] * (chosen + factor * (own[1] - mean[1] / all)));
            of_sigma += static_cast<double>(g[i] * factor * (own[2] - mean[2] / all));
        }
        benchmark::DoNotOptimize(of_step);
        benchmark::DoNotOptimize(of_sigma);
    });
}

template <class Traffic> void add_both(const std::string& name, void (*verb)(row&), void (*loop)(row&)) {
    add<Traffic>(name, "native", cache_sizes, verb);
    add<Traffic>(name, "loop", cache_sizes, loop);
}
const bool registered = [] {
    add_both<planes_to_weights>("csq_forward/f32_f32/8_planes", csq_forward, csq_forward_loop);
    add_both<planes_backward>("csq_backward/f32_f32/8_planes", csq_backward, csq_backward_loop);
    add_both<planes_to_weights>("bsq_forward/f32_f32/8_planes", bsq_forward, bsq_forward_loop);
    add_both<planes_backward>("bsq_backward/f32_f32/8_planes", bsq_backward, bsq_backward_loop);
    add_both<f32_to_f32>("fracbits_forward/f32_f32/per_tensor", fracbits_forward, fracbits_forward_loop);
    add_both<weights_backward>("fracbits_backward/f32_f32/per_tensor", fracbits_backward, fracbits_backward_loop);
    using enum cpq::surrogate;
    add_both<f32_to_f32>("cpq_forward/f32_f32/15_points", cpq_forward, cpq_forward_loop);
    add_both<weights_backward>("cpq_backward/f32_f32/15_points", cpq_backward<mode, 0>, cpq_backward_loop);
    add<weights_backward>("cpq_backward/f32_f32/window_3", "native", cache_sizes, cpq_backward<mode, 3>);
    add<weights_backward>("cpq_backward_expectation/f32_f32/15_points", "native", cache_sizes,
                          cpq_backward<expectation, 0>);
    add<weights_backward>("cpq_backward_expectation/f32_f32/window_3", "native", cache_sizes,
                          cpq_backward<expectation, 3>);
    return true;
}();

} // namespace
