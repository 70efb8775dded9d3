// SPDX-License-Identifier: MIT
// The loop around CSQ: a small regression trained to budgets from both sides, resumed from a checkpoint, frozen parts, and what it refuses.
#include "archs.hpp"
#include "support.hpp"
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/csq.hpp>
#include <quant/uniform.hpp>
#include <span>
#include <vector>

using quant::errc;
namespace csq = quant::csq;
using test::names;
using test::uniform;

namespace {

/// Three linear maps [inputs, outputs] to be recovered from their outputs on 64 inputs; later ones matter more.
struct problem {
    static constexpr std::size_t layers = 3, planes = 8, samples = 64;
    static constexpr std::array<std::size_t, layers> inputs{24, 16, 8}, outputs{16, 8, 4};
    static constexpr std::array<float, layers> importance{0.02f, 0.1f, 0.3f};
    std::array<std::vector<float>, layers> x, goal;
    problem() {
        for (std::size_t l = 0; l < layers; ++l) {
            for (std::size_t i = 0; i < samples * inputs[l]; ++i) x[l].push_back(static_cast<float>(uniform(l, 0, i)));
            for (std::size_t i = 0; i < size(l); ++i) goal[l].push_back(static_cast<float>(uniform(l, 1, i) * 0.5));
        }
    }
    static constexpr std::size_t size(std::size_t l) { return inputs[l] * outputs[l]; }
    /// importance |x (w - goal)|^2 / samples and its gradient.
    double loss(std::size_t l, const std::vector<float>& w, std::vector<float>& grad) const {
        std::fill(grad.begin(), grad.end(), 0.0f);
        double total = 0;
        for (std::size_t n = 0; n < samples; ++n)
            for (std::size_t o = 0; o < outputs[l]; ++o) {
                float error = 0;
                for (std::size_t i = 0; i < inputs[l]; ++i)
                    error += x[l][n * inputs[l] + i] * (w[i * outputs[l] + o] - goal[l][i * outputs[l] + o]);
                total += static_cast<double>(importance[l] * error * error) / samples;
                for (std::size_t i = 0; i < inputs[l]; ++i)
                    grad[i * outputs[l] + o] += 2 * importance[l] * error * x[l][n * inputs[l] + i] / samples;
            }
        return total;
    }
};

/// Memory of a run, as a trainer would own it.
struct run {
    static constexpr std::size_t layers = problem::layers;
    std::array<std::vector<float>, layers * csq::groups_per_layer> values, gradients, velocity;
    std::array<csq::layer<float>, layers> layer, grad;
    std::array<quant::layer_bits, layers> bits;
    std::array<double, layers> full_scales{};
    std::array<std::vector<float>, layers> w_hat, grad_w_hat;
    csq::training<float> t;
    /// rows_decide: a mask for every row, which then keeps and drops planes by itself
    explicit run(const csq::training_options& options, bool rows_decide = false)
        : t{layer, grad, bits, full_scales, options} {
        for (std::size_t l = 0; l < layers; ++l) {
            const std::size_t n = problem::size(l), masks = problem::planes * (rows_decide ? problem::inputs[l] : 1),
                              count[] = {problem::planes * n, problem::planes * n, masks, 1};
            for (std::size_t k = 0; k < 4; ++k)
                for (auto* all : {&values, &gradients, &velocity}) (*all)[4 * l + k].resize(count[k]);
            const auto at = [&](auto& all) {
                return csq::layer<float>{all[4 * l], all[4 * l + 1], all[4 * l + 2], all[4 * l + 3], problem::planes};
            };
            layer[l] = at(values);
            grad[l] = at(gradients);
            w_hat[l].resize(n);
            grad_w_hat[l].resize(n);
        }
    }
    run(const run&) = delete;
    run& operator=(const run&) = delete;

    quant::status start(const problem& p) {
        for (std::size_t l = 0; l < layers; ++l)
            if (auto s = t.start(l, p.goal[l]); !s) return s;
        return {};
    }
    /// What a user writes.
    quant::status train(const problem& p, std::size_t first, std::size_t last, std::size_t steps) {
        for (std::size_t step = first; step < last; ++step) {
            if (auto s = t.begin_step(step, steps); !s) return s;
            for (std::size_t l = 0; l < layers; ++l) {
                if (auto s = t.forward(l, w_hat[l]); !s) return s;
                p.loss(l, w_hat[l], grad_w_hat[l]);
                if (auto s = t.backward(l, grad_w_hat[l]); !s) return s;
            }
            t.update([&](const csq::parameter_group<float>& g) {
                const auto rate = static_cast<float>(g.rate), decay = static_cast<float>(g.decay);
                for (std::size_t i = 0; i < g.values.size(); ++i) {
                    float& v = velocity[g.index][i];
                    v = 0.9f * v + g.gradients[i] + decay * g.values[i];
                    g.values[i] -= rate * v;
                }
            });
        }
        return t.begin_step(steps, steps); // counts the planes
    }
};

} // namespace

TEST_CASE("twenty lines around CSQ reach the budget from above and from below, and harden exactly") {
    constexpr std::size_t steps = test::slow ? 500 : 2000;
    const auto targets = test::slow ? std::vector<double>{3} : std::vector<double>{2, 3, 5};
    const problem p;
    for (const double target : targets)
        for (const bool growing : {false, true}) {
            run r{{.budget = {.target_bits = target}}};
            REQUIRE(r.start(p));
            if (growing)
                for (auto& layer : r.layer)
                    for (std::size_t b = 0; b < problem::planes; ++b) layer.mask[b] = b >= 6 ? 0.5f : -0.5f;
            REQUIRE(r.train(p, 0, steps, steps));
            const auto average = r.t.average_bits();
            REQUIRE(average);
            CAPTURE(target, growing, *average, r.bits[0].bits, r.bits[1].bits, r.bits[2].bits);
            CHECK(std::abs(*average - target) <= 0.25);
            for (std::size_t l = 0; l < run::layers; ++l) {
                std::vector<std::int16_t> codes(problem::size(l));
                std::vector<float> hard(codes.size()), unused(codes.size());
                const auto done = csq::harden(r.layer[l], codes);
                REQUIRE(done);
                REQUIRE(csq::forward(r.layer[l], hard, csq::gate_options{.mode = csq::gate_mode::hard}));
                bool exact = true;
                for (std::size_t i = 0; i < codes.size(); ++i)
                    exact = exact && hard[i] == static_cast<float>(codes[i]) * static_cast<float>(done->scale);
                CHECK(exact);
                CHECK(done->bits().bits <= r.bits[l].bits);
                // The integers are a model: far better than no weights.
                const double nothing = p.loss(l, std::vector<float>(codes.size(), 0.0f), unused);
                CHECK(p.loss(l, hard, unused) < 0.2 * nothing);
            }
        }
}

TEST_CASE("rows with masks of their own reach the budget too, and differ in their planes") {
    constexpr std::size_t steps = test::slow ? 500 : 2000;
    const problem p;
    run r{{.budget = {.target_bits = 3}}, true};
    REQUIRE(r.start(p));
    REQUIRE(r.train(p, 0, steps, steps));
    const auto average = r.t.average_bits();
    REQUIRE(average);
    CAPTURE(*average, r.bits[0].bits, r.bits[1].bits, r.bits[2].bits);
    CHECK(std::abs(*average - 3) <= 0.25);
    std::size_t differing = 0;
    for (std::size_t l = 0; l < run::layers; ++l)
        for (std::size_t b = 0; b < problem::planes; ++b) {
            const auto row = r.layer[l].mask.subspan(b * problem::inputs[l], problem::inputs[l]);
            const auto open = std::count_if(row.begin(), row.end(), [](float m) { return m >= 0; });
            differing += open != 0 && static_cast<std::size_t>(open) != row.size() ? 1 : 0;
        }
    CHECK(differing > 0);
}

TEST_CASE("a run resumed from its buffers is the run that was not stopped, bit for bit") {
    const problem p;
    const csq::training_options options{.budget = {.target_bits = 3}};
    run whole(options), first(options), second(options);
    REQUIRE(whole.start(p));
    REQUIRE(whole.train(p, 0, 60, 60));
    REQUIRE(first.start(p));
    REQUIRE(first.train(p, 0, 25, 60));
    for (std::size_t k = 0; k < first.values.size(); ++k) {
        std::copy(first.values[k].begin(), first.values[k].end(), second.values[k].begin());
        std::copy(first.velocity[k].begin(), first.velocity[k].end(), second.velocity[k].begin());
    }
    second.full_scales = first.full_scales;
    REQUIRE(second.train(p, 25, 60, 60));
    for (std::size_t k = 0; k < whole.values.size(); ++k) CHECK(whole.values[k] == second.values[k]);
}

TEST_CASE("groups: rates and decay by kind, frozen ones are not offered, hard masks stay") {
    const problem p;
    run r{{.rate = {.start = 0.1, .end = 0.1}, .scale_rate = 0, .hard_masks_from = 0.5}};
    REQUIRE(r.start(p));
    r.grad[1].mask = {}; // frozen masks
    const auto offered = [&](std::size_t step) {
        REQUIRE(r.t.begin_step(step, 10));
        for (std::size_t l = 0; l < run::layers; ++l) {
            REQUIRE(r.t.forward(l, r.w_hat[l]));
            REQUIRE(r.t.backward(l, r.grad_w_hat[l]));
        }
        std::vector<csq::parameter_group<float>> groups;
        r.t.update([&](const csq::parameter_group<float>& g) { groups.push_back(g); });
        return groups;
    };
    const auto soft = offered(1);
    CHECK(soft.size() == 8); // three times two of bits, two of masks, no scales
    for (const auto& g : soft) {
        const bool bits = g.kind != csq::parameter_kind::masks;
        const double s = r.full_scales[g.layer];
        CHECK(g.index == g.layer * csq::groups_per_layer + static_cast<std::size_t>(g.kind));
        CHECK(std::abs(g.rate - (bits ? 20 * 0.1 / (s * s) : 0.4)) < 1e-9 * g.rate);
        CHECK(g.decay == (bits ? 1e-4 : 0.0));
        CHECK((g.kind != csq::parameter_kind::masks || g.layer != 1));
        CHECK(g.gradients.size() == g.values.size());
    }
    CHECK(offered(5).size() == 6);
    CHECK(r.t.gates.mode == csq::gate_mode::hard_mask);
    for (float& m : r.layer[0].mask) m = -1;
    static_cast<void>(offered(1));
    REQUIRE(r.t.begin_step(1, 10));
    CHECK(r.bits[0].bits == 1); // the last plane is kept
}

TEST_CASE("a run names what is wrong with it") {
    const problem p;
    run r{{.budget = {.target_bits = 0.5}}};
    REQUIRE(r.start(p));
    CHECK(names(r.t.begin_step(0, 10), errc::budget_infeasible, "budget.target_bits"));
    r.t.options.budget.target_bits = 9;
    CHECK(names(r.t.begin_step(0, 10), errc::budget_infeasible, "budget.target_bits"));
    r.t.options.budget = {.target_bits = 3, .strength = -1};
    CHECK(names(r.t.begin_step(0, 10), errc::invalid_argument, "budget.strength"));
    r.t.options.budget = {};
    r.t.options.temperature.end = 0;
    CHECK(names(r.t.begin_step(0, 10), errc::invalid_argument, "schedule.end"));
    r.t.options.temperature = {};
    r.t.options.temperature.start = std::numeric_limits<double>::infinity();
    CHECK(names(r.t.begin_step(0, 10), errc::invalid_argument, "schedule.start"));
    r.t.options.temperature = {};
    REQUIRE(r.t.begin_step(0, 0)); // a run of no steps is over: the last temperature
    CHECK(r.t.gates.temperature == 200);
    r.grad_w_hat[2][1] = std::nanf("");
    CHECK(names(r.t.backward(2, r.grad_w_hat[2]), errc::non_finite, "gradient"));
    csq::training<float> other = r.t;
    other.bits = other.bits.first(2); // a checkpoint of another shape
    CHECK(names(other.begin_step(0, 10), errc::shape_mismatch, "bits"));
    other = r.t;
    other.full_scales = {};
    CHECK(names(other.start(0, p.goal[0]), errc::shape_mismatch, "full_scales"));
    // The buffers of a checkpoint with fewer planes, of another width, and without the masks' gradients.
    csq::layer<float> kept = r.layer[1];
    r.layer[1].planes = 6;
    CHECK(names(r.t.forward(1, r.w_hat[1]), errc::shape_mismatch, "layer.positive"));
    r.layer[1] = kept;
    r.layer[1].negative = kept.negative.first(kept.negative.size() - 8);
    CHECK(names(r.t.forward(1, r.w_hat[1]), errc::shape_mismatch, "layer.negative"));
    r.layer[1] = r.layer[2];
    CHECK(names(r.t.forward(1, r.w_hat[1]), errc::shape_mismatch, "weights"));
    CHECK(names(r.t.backward(1, r.grad_w_hat[2]), errc::shape_mismatch, "grads.positive"));
    r.layer[1] = kept;
    CHECK(names(r.t.start(0, p.goal[1]), errc::shape_mismatch, "weights"));
}

TEST_CASE("one step as the documentation shows it") {
    constexpr std::size_t n = 32, all_bits = 8 * n;
    std::vector<float> positive(all_bits), negative(all_bits), mask(8), scale(1), w_hat(n), weights(n), grad_w_hat(n);
    std::vector<float> d_positive(all_bits), d_negative(all_bits), d_mask(8), d_scale(1);
    for (std::size_t i = 0; i < 32; ++i) weights[i] = static_cast<float>(uniform(1, 1, i));
    const csq::layer<float> layer{positive, negative, mask, scale, 8},
        grads{d_positive, d_negative, d_mask, d_scale, 8};
    const auto all = [&]() -> quant::status {
        if (auto s = csq::init_from_float(weights, layer); !s) return s;
        const double beta = quant::exponential_temperature{.start = 1, .end = 200}(3, 10);
        if (auto s = csq::forward(layer, w_hat, beta); !s) return s;
        if (auto s = csq::backward(layer, grad_w_hat, grads, beta); !s) return s;
        if (auto s = csq::add_budget_gradient(layer, grads, beta, {.target_bits = 3, .strength = 1e-3}); !s) return s;
        std::vector<std::int16_t> codes(32);
        return csq::harden(layer, codes).status();
    };
    CHECK(all());
    CHECK(d_mask[0] > 0); // eight planes of three
}
