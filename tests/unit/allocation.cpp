// SPDX-License-Identifier: MIT
// Allocations against all choices there are, where these are few, against tables worked out elsewhere, and against each other.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <quant/calibrate/allocation.hpp>
#include <quant/core/random.hpp>
#include <span>
#include <string_view>
#include <vector>

using quant::errc;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
using choices = std::vector<std::uint8_t>;

struct problem {
    std::vector<double> loss;
    std::vector<std::uint64_t> cost;
    std::size_t layers = 0, options = 0;
    std::vector<std::size_t> groups;
    [[nodiscard]] quant::option_table table() const { return {loss, cost, layers, options, groups}; }
    [[nodiscard]] std::uint64_t cost_of(const choices& c) const {
        std::uint64_t sum = 0;
        for (std::size_t l = 0; l < layers; ++l) sum += cost[l * options + c[l]];
        return sum;
    }
    [[nodiscard]] double loss_of(const choices& c) const {
        double sum = 0;
        for (std::size_t l = 0; l < layers; ++l) sum += loss[l * options + c[l]];
        return sum;
    }
    [[nodiscard]] std::uint64_t least_cost() const {
        std::uint64_t least = ~std::uint64_t{0};
        every([&](const choices& c) { least = std::min(least, cost_of(c)); });
        return least;
    }
    /// All choices that the groups allow.
    template <class F> void every(F&& f) const {
        choices c(layers, 0);
        for (;;) {
            bool allowed = loss_of(c) < infinity;
            for (std::size_t i = 0; i < groups.size(); ++i)
                for (std::size_t j = 0; j < i; ++j) allowed = allowed && (groups[i] != groups[j] || c[i] == c[j]);
            if (allowed) f(c);
            std::size_t at = 0;
            while (at < layers && ++c[at] == options) c[at++] = 0;
            if (at == layers) return;
        }
    }
    [[nodiscard]] double best(std::uint64_t budget) const {
        double least = infinity;
        every([&](const choices& c) {
            if (cost_of(c) <= budget) least = std::min(least, loss_of(c));
        });
        return least;
    }
};

enum class how { greedy, exact, multipliers, lists };

struct outcome {
    quant::allocation value;
    choices choice;
};

outcome solve(how which, const problem& p, std::uint64_t budget, std::size_t cells = 4096) {
    outcome out{{}, choices(p.layers + 1, 77)};
    std::vector<std::byte> workspace(
        std::max(quant::allocate_exact_workspace_size(p.layers, p.options, cells),
                 which == how::lists ? quant::allocate_budgets_workspace_size(p.layers, p.options, cells) : 0));
    const std::span<std::uint8_t> choice = std::span(out.choice).first(p.layers);
    const std::uint64_t budgets[] = {budget};
    const auto found = which == how::greedy        ? quant::allocate_greedy(p.table(), budget, choice, workspace)
                       : which == how::exact       ? quant::allocate_exact(p.table(), budget, choice, workspace)
                       : which == how::multipliers ? quant::allocate_lagrangian(p.table(), budget, choice, workspace)
                                                   : quant::allocate_budgets(p.table(), {}, budgets, choice, workspace);
    REQUIRE(found);
    REQUIRE(out.choice.back() == 77);
    out.choice.pop_back();
    out.value = *found;
    REQUIRE(out.value.cost == p.cost_of(out.choice));
    REQUIRE(out.value.cost <= budget);
    REQUIRE(std::abs(out.value.loss - p.loss_of(out.choice)) <= 1e-12 * (1 + std::abs(out.value.loss)));
    return out;
}

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
    return static_cast<double>(quant::random_uniform(seed, stream, i));
}

/// Small problems of all kinds: widths times elements, or any costs; losses that fall, or any; ties; missing options; groups.
problem random_problem(std::uint64_t seed) {
    problem p;
    p.layers = 1 + seed % 6;
    p.options = 1 + seed / 6 % 4;
    const std::size_t widths[] = {2, 3, 4, 8};
    const bool wild = seed % 3 == 2, coarse = seed % 5 == 0;
    for (std::size_t l = 0; l < p.layers; ++l) {
        const auto elements = static_cast<std::uint64_t>(1 + 30 * uniform(seed, 1, l));
        for (std::size_t b = 0; b < p.options; ++b) {
            const double u = uniform(seed, 2, l * 8 + b);
            double loss =
                wild ? 10 * u - 3
                     : (0.2 + u) * std::pow(4.0, -static_cast<double>(widths[b])) * static_cast<double>(elements);
            if (coarse) loss = std::nearbyint(loss * 4) / 4;
            if (seed % 7 == 3 && b > 0 && u < 0.2) loss = infinity;
            p.loss.push_back(loss);
            p.cost.push_back(wild ? static_cast<std::uint64_t>(50 * uniform(seed, 3, l * 8 + b))
                                  : elements * widths[b]);
        }
    }
    if (seed % 4 == 1)
        for (std::size_t l = 0; l < p.layers; ++l)
            p.groups.push_back(static_cast<std::size_t>(uniform(seed, 4, l) * static_cast<double>(p.layers)));
    return p;
}

problem of_bits(const std::vector<double>& loss, const std::vector<std::uint64_t>& elements,
                const std::vector<std::uint64_t>& bits) {
    problem p;
    p.loss = loss;
    p.layers = elements.size();
    p.options = bits.size();
    for (const std::uint64_t n : elements)
        for (const std::uint64_t b : bits) p.cost.push_back(n * b);
    return p;
}

const problem vector_a = of_bits({9, 4, 1, 8, 3, 0.5, 20, 2, 0.25, 6, 5, 1.5}, {10, 20, 10, 30}, {2, 4, 8});

} // namespace

TEST_CASE("exact is the best of all choices, between the bound and the greedy one") {
    int worse = 0, tried = 0;
    for (std::uint64_t seed = 0; seed < 600; ++seed) {
        const problem p = random_problem(seed);
        const std::uint64_t least = p.least_cost();
        for (const double share : {0.0, 0.2, 0.5, 0.8}) {
            const std::uint64_t budget = least + static_cast<std::uint64_t>(share * 60 * static_cast<double>(p.layers));
            const double best = p.best(budget), slack = 1e-12 * (1 + std::abs(best));
            const outcome exact = solve(how::exact, p, budget), greedy = solve(how::greedy, p, budget),
                          primal = solve(how::multipliers, p, budget), lists = solve(how::lists, p, budget);
            REQUIRE(exact.value.exact);
            REQUIRE(std::abs(exact.value.loss - best) <= slack);
            REQUIRE(lists.value.exact);
            REQUIRE(std::abs(lists.value.loss - best) <= slack);
            REQUIRE(lists.value.cost == exact.value.cost); // of equal losses both take the lower cost
            REQUIRE(exact.value.bound <= best + slack);
            REQUIRE(std::abs(greedy.value.bound - exact.value.bound) <= slack);
            REQUIRE(best <= greedy.value.loss + slack);
            REQUIRE(greedy.value.loss <= primal.value.loss + slack);
            if (greedy.value.exact) REQUIRE(greedy.value.loss <= best + slack);
            for (const outcome* o : {&exact, &greedy, &primal, &lists})
                for (std::size_t i = 0; i < p.groups.size(); ++i)
                    for (std::size_t j = 0; j < i; ++j)
                        if (p.groups[i] == p.groups[j]) REQUIRE(o->choice[i] == o->choice[j]);
            ++tried;
            worse += greedy.value.loss > best + slack ? 1 : 0;
        }
    }
    CHECK(worse > tried / 100); // greedy is not just another name for exact
}

TEST_CASE("the bound is the largest value of the dual function") {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        problem p = random_problem(seed);
        p.groups.clear();
        const std::uint64_t budget = p.least_cost() + 10 * p.layers;
        const double bound = solve(how::multipliers, p, budget).value.bound;
        double best = -infinity;
        for (int i = 0; i <= 4000; ++i) {
            const double lambda = i == 0 ? 0 : std::pow(10.0, -9.0 + 11.0 * i / 4000);
            double value = -lambda * static_cast<double>(budget);
            for (std::size_t l = 0; l < p.layers; ++l) {
                double least = infinity;
                for (std::size_t b = 0; b < p.options; ++b)
                    least = std::min(least, p.loss[l * p.options + b] +
                                                lambda * static_cast<double>(p.cost[l * p.options + b]));
                value += least;
            }
            best = std::max(best, value);
        }
        // The bound may be lower where even the least loss is no more than it; it never misses more than the grid does.
        REQUIRE(bound >= best - 1e-9 * (1 + std::abs(best)));
        REQUIRE(bound <= best + 0.02 * (1 + std::abs(best)));
    }
}

TEST_CASE("four layers by hand") {
    struct row {
        std::uint64_t budget;
        double loss;
        std::uint64_t cost;
        choices choice;
        double bound;
    };
    for (const row& expected : {row{140, 43, 140, {0, 0, 0, 0}, 43}, row{200, 20, 180, {1, 0, 1, 0}, 17.5},
                                row{240, 15, 220, {1, 1, 1, 0}, 13.5}, row{280, 12, 260, {2, 1, 1, 0}, 11.125},
                                row{400, 7.75, 380, {2, 2, 2, 0}, 7.25}, row{560, 3.25, 560, {2, 2, 2, 2}, 3.25}}) {
        const outcome exact = solve(how::exact, vector_a, expected.budget);
        CHECK(exact.value.loss == expected.loss);
        CHECK(exact.value.cost == expected.cost);
        CHECK(exact.choice == expected.choice);
        CHECK(exact.value.bound == expected.bound);
    }
    std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(4, 3, 100));
    choices choice(4);
    const auto refused = quant::allocate_exact(vector_a.table(), 139, choice, workspace).status();
    CHECK(refused.code == errc::budget_infeasible);
    CHECK(refused.argument == std::string_view("budget"));
}

TEST_CASE("HAWQ's ResNet-18: trace times error of 19 layers at 4 and 8 bits") {
    const std::vector<double> trace{.06857826, .03162379, .03298575, .01205663, .02222431, .00596336, .06931772,
                                    .00807129, .00372905, .00530698, .00209011, .00737569, .00210454, .00151197,
                                    .00158041, .00078146, .00451841, .00098745, .00072944},
        d8{.0235, .0125, .0102, .0082, .0145, .0344, .0023, .0287, .0148, .0333,
           .0682, .0027, .0448, .0336, .0576, .1130, .0102, .0947, .0532},
        d4{6.7430,  3.9691, 3.3281,  2.6796,  4.7277,  10.5966, .6827,  9.0942,  4.8857, 10.7599,
           21.7546, .8603,  14.5324, 10.9651, 18.7706, 36.4044, 3.1572, 29.6994, 17.4016};
    const std::vector<std::uint64_t> n{36864,  36864, 36864,  36864,  73728,   147456,  8192,   147456,  147456, 294912,
                                       589824, 32768, 589824, 589824, 1179648, 2359296, 131072, 2359296, 2359296};
    std::vector<double> loss;
    for (std::size_t l = 0; l < 19; ++l) {
        loss.push_back(trace[l] * d4[l]);
        loss.push_back(trace[l] * d8[l]);
    }
    problem p = of_bits(loss, n, {4, 8});
    for (std::size_t l = 0; l < 19; ++l) p.groups.push_back(l == 6 ? 4 : l == 11 ? 9 : l == 16 ? 14 : l);
    struct row {
        std::uint64_t budget;
        double loss;
        std::uint64_t cost;
        std::vector<std::size_t> four;
        double greedy, bound;
    };
    for (const row& expected : {row{55787520, 0.11829958, 55705600, {14, 15, 16, 17, 18}, 0.11829958, 0.11443626},
                                row{66945024, 0.07450593, 60948480, {15, 17, 18}, 0.07450593, 0.05593069},
                                row{78102528, 0.03344059, 77463552, {13, 18}, 0.04527277, 0.02208233}}) {
        const outcome exact = solve(how::exact, p, expected.budget), greedy = solve(how::greedy, p, expected.budget);
        CHECK(exact.value.exact);
        CHECK(std::abs(exact.value.loss - expected.loss) < 1e-8);
        CHECK(exact.value.cost == expected.cost);
        std::vector<std::size_t> four;
        for (std::size_t l = 0; l < 19; ++l)
            if (exact.choice[l] == 0) four.push_back(l);
        CHECK(four == expected.four);
        CHECK(std::abs(greedy.value.loss - expected.greedy) < 1e-8);
        CHECK(std::abs(exact.value.bound - expected.bound) < 1e-8);
    }
    // Coarser units than the divisor: still within the budget, never above greedy, and said.
    const outcome coarse = solve(how::exact, p, 78102528, 5), greedy = solve(how::greedy, p, 78102528);
    CHECK(coarse.value.loss <= greedy.value.loss);
    if (coarse.value.loss > 0.0334406) CHECK_FALSE(coarse.value.exact);
}

TEST_CASE("coarse units fit the budget and say what they may have left of it") {
    int inexact = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        problem p = random_problem(seed);
        for (std::uint64_t& c : p.cost) c = c * 1000 + seed % 13;
        const std::uint64_t budget = p.least_cost() + 20000 * p.layers;
        const outcome coarse = solve(how::exact, p, budget, 12), greedy = solve(how::greedy, p, budget);
        REQUIRE(coarse.value.loss <= greedy.value.loss + 1e-12 * (1 + std::abs(greedy.value.loss)));
        const double best = p.best(budget);
        if (coarse.value.exact) {
            REQUIRE(coarse.value.loss <= best + 1e-12 * (1 + std::abs(best)));
        } else {
            ++inexact; // no worse than the optimum of a budget that is smaller by the units lost
            const std::uint64_t lost = coarse.value.unit * p.layers;
            if (budget - lost >= p.least_cost())
                REQUIRE(coarse.value.loss <= p.best(budget - lost) + 1e-12 * (1 + std::abs(best)));
        }
    }
    CHECK(inexact > 5);
}

TEST_CASE("order of layers and dominated options do not matter") {
    for (std::uint64_t seed = 1; seed < 80; ++seed) {
        const problem p = random_problem(seed * 3); // not wild: losses of random digits, one optimum
        if (seed * 3 % 5 == 0 || !p.groups.empty()) continue;
        const std::uint64_t budget = p.least_cost() + 15 * p.layers;
        problem turned = p, more = p;
        std::reverse(turned.loss.begin(), turned.loss.end()); // layers and options
        std::reverse(turned.cost.begin(), turned.cost.end());
        more.options = p.options + 1;
        more.loss.clear();
        more.cost.clear();
        for (std::size_t l = 0; l < p.layers; ++l) {
            for (std::size_t b = 0; b < p.options; ++b) {
                more.loss.push_back(p.loss[l * p.options + b]);
                more.cost.push_back(p.cost[l * p.options + b]);
            }
            more.loss.push_back(p.loss[l * p.options] + 0.5);
            more.cost.push_back(p.cost[l * p.options] + 1);
        }
        for (const how which : {how::exact, how::greedy, how::multipliers, how::lists}) {
            const outcome a = solve(which, p, budget), b = solve(which, turned, budget), c = solve(which, more, budget);
            REQUIRE(c.choice == a.choice);
            for (std::size_t l = 0; l < p.layers; ++l)
                REQUIRE(a.choice[l] == p.options - 1 - b.choice[p.layers - 1 - l]);
        }
    }
}

TEST_CASE("equal losses do not depend on the order of their sum") {
    // 0.1 + 0.2 + 0.3 is another double than 0.3 + 0.2 + 0.1: still a tie, and the lower cost wins.
    for (const bool turned : {false, true}) {
        problem p = of_bits({0.1, 0.0, 0.2, 0.0, 0.3, 0.0, 0.6, 0.0}, {1, 1, 1, 2}, {1, 2});
        p.cost = {1, 2, 1, 2, 1, 2, 1, 4};
        if (turned) {
            std::rotate(p.loss.begin(), p.loss.begin() + 6, p.loss.end());
            std::rotate(p.cost.begin(), p.cost.begin() + 6, p.cost.end());
        }
        const outcome o = solve(how::exact, p, 7); // three units above the cheapest: the first three, or the last alone
        CHECK(o.value.cost == 7);
        CHECK(std::abs(o.value.loss - 0.6) < 1e-12);
        const outcome larger = solve(how::exact, p, 6);
        CHECK(std::abs(larger.value.loss - 0.7) < 1e-12);
    }
}

TEST_CASE("several budgets hold at once") {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        const problem p = random_problem(seed);
        std::vector<std::uint64_t> second;
        for (std::size_t i = 0; i < p.cost.size(); ++i)
            second.push_back(static_cast<std::uint64_t>(20 * uniform(seed, 9, i)));
        const std::uint64_t budgets[] = {p.least_cost() + 15 * p.layers, 8 * p.layers};
        double best = infinity;
        p.every([&](const choices& c) {
            std::uint64_t other = 0;
            for (std::size_t l = 0; l < p.layers; ++l) other += second[l * p.options + c[l]];
            if (p.cost_of(c) <= budgets[0] && other <= budgets[1]) best = std::min(best, p.loss_of(c));
        });
        choices choice(p.layers);
        std::vector<std::byte> workspace(quant::allocate_budgets_workspace_size(p.layers, p.options, 2000));
        const auto found = quant::allocate_budgets(p.table(), second, budgets, choice, workspace);
        if (best == infinity) {
            REQUIRE(found.status().code == errc::budget_infeasible);
            continue;
        }
        REQUIRE(found);
        REQUIRE(found->exact);
        REQUIRE(std::abs(found->loss - best) <= 1e-12 * (1 + std::abs(best)));
        std::uint64_t other = 0;
        for (std::size_t l = 0; l < p.layers; ++l) other += second[l * p.options + choice[l]];
        REQUIRE(other <= budgets[1]);
        // Short lists still fit, and do not call themselves exact where they were thinned out.
        std::vector<std::byte> little(quant::allocate_budgets_workspace_size(p.layers, p.options, 3));
        const auto thin = quant::allocate_budgets(p.table(), second, budgets, choice, little);
        if (thin) {
            REQUIRE(p.cost_of(choice) <= budgets[0]);
            REQUIRE(thin->loss >= best - 1e-12 * (1 + std::abs(best)));
            if (thin->exact) REQUIRE(thin->loss <= best + 1e-12 * (1 + std::abs(best)));
        } else {
            REQUIRE(thin.status().code == errc::buffer_too_small);
        }
    }
}

TEST_CASE("the exact front holds the optimum of every budget, and the path of the multipliers") {
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        const problem p = random_problem(seed);
        const std::uint64_t least = p.least_cost(), most = least + 40 * p.layers;
        std::vector<quant::allocation_point> points(4096);
        std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(p.layers, p.options, 4096));
        const auto count = quant::allocation_front(p.table(), most, points, workspace);
        REQUIRE(count);
        points.resize(*count);
        REQUIRE(points.front().cost == least);
        for (std::size_t i = 1; i < points.size(); ++i) {
            REQUIRE(points[i].cost > points[i - 1].cost);
            REQUIRE(points[i].loss < points[i - 1].loss);
        }
        const auto on_front = [&](double loss, std::uint64_t cost) {
            return std::any_of(points.begin(), points.end(), [&](const quant::allocation_point& q) {
                return q.cost == cost && std::abs(q.loss - loss) <= 1e-12 * (1 + std::abs(loss));
            });
        };
        double before = infinity;
        for (std::uint64_t budget = least; budget <= most; budget += 7) {
            const outcome exact = solve(how::exact, p, budget), primal = solve(how::multipliers, p, budget);
            REQUIRE(exact.value.loss <= before + 1e-12 * (1 + std::abs(before)));
            before = exact.value.loss;
            REQUIRE(on_front(exact.value.loss, exact.value.cost));
            REQUIRE(on_front(primal.value.loss, primal.value.cost)); // the hull's points are all on the front
        }
    }
}

TEST_CASE("a Pareto front beats everything that it drops") {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        const std::size_t n = seed;
        std::vector<std::uint64_t> cost;
        std::vector<double> loss;
        for (std::size_t i = 0; i < n; ++i) {
            cost.push_back(static_cast<std::uint64_t>(20 * uniform(seed, 1, i)));
            loss.push_back(seed % 2 == 0 ? uniform(seed, 2, i) : std::nearbyint(9 * uniform(seed, 2, i)));
        }
        std::vector<std::size_t> kept(n);
        const auto count = quant::pareto_front(cost, loss, kept);
        REQUIRE(count);
        kept.resize(*count);
        for (std::size_t i = 1; i < kept.size(); ++i) {
            REQUIRE(cost[kept[i]] > cost[kept[i - 1]]);
            REQUIRE(loss[kept[i]] < loss[kept[i - 1]]);
        }
        for (std::size_t i = 0; i < n; ++i) {
            if (std::find(kept.begin(), kept.end(), i) != kept.end()) continue;
            REQUIRE(std::any_of(kept.begin(), kept.end(),
                                [&](std::size_t k) { return cost[k] <= cost[i] && loss[k] <= loss[i]; }));
        }
    }
    std::vector<std::size_t> kept(2);
    CHECK(quant::pareto_front(std::vector<std::uint64_t>{1, 2}, std::vector<double>{1, std::nan("")}, kept)
              .status()
              .code == errc::non_finite);
    CHECK(quant::pareto_front(std::vector<std::uint64_t>{1, 2}, std::vector<double>{1}, kept).status().code ==
          errc::shape_mismatch);
}

TEST_CASE("allocations refuse what does not fit, by name") {
    const auto refused = [](const problem& p, std::uint64_t budget, std::size_t bytes) {
        choices choice(p.layers);
        std::vector<std::byte> workspace(bytes);
        const quant::status a = quant::allocate_exact(p.table(), budget, choice, workspace).status(),
                            b = quant::allocate_greedy(p.table(), budget, choice, workspace).status(),
                            c = quant::allocate_lagrangian(p.table(), budget, choice, workspace).status();
        CHECK(a.code == b.code);
        CHECK(b.code == c.code);
        return a;
    };
    const std::size_t enough = quant::allocate_exact_workspace_size(4, 3, 4096);
    CHECK(refused(vector_a, 200, enough).code == errc::ok);
    CHECK(refused(vector_a, 200, 50).code == errc::buffer_too_small);
    problem p = vector_a;
    p.loss[5] = std::nan("");
    CHECK(refused(p, 200, enough).code == errc::non_finite);
    p.loss[5] = -infinity;
    CHECK(refused(p, 200, enough).code == errc::non_finite);
    p.loss[3] = p.loss[4] = p.loss[5] = infinity;
    CHECK(refused(p, 200, enough).argument == std::string_view("table.loss"));
    p = vector_a;
    p.cost[2] = ~std::uint64_t{0};
    CHECK(refused(p, 200, enough).argument == std::string_view("table.cost"));
    p = vector_a;
    p.cost.pop_back();
    CHECK(refused(p, 200, enough).code == errc::shape_mismatch);
    p = vector_a;
    p.groups = {0, 1, 2, 4};
    CHECK(refused(p, 200, enough).argument == std::string_view("table.groups"));
    p.groups = {0, 1, 2};
    CHECK(refused(p, 200, enough).argument == std::string_view("table.groups"));
    p.groups.clear();
    p.options = 0;
    p.loss.clear();
    p.cost.clear();
    CHECK(refused(p, 200, enough).argument == std::string_view("table.options"));
    problem none;
    none.options = 3;
    CHECK(refused(none, 0, enough).code == errc::ok);
    p.options = 257;
    CHECK(refused(p, 200, enough).argument == std::string_view("table.options"));
    p = vector_a;
    p.loss.pop_back();
    CHECK(refused(p, 200, enough).argument == std::string_view("table.loss"));
    p.loss.clear();
    p.cost.clear();
    for (const std::size_t layers :
         {~std::size_t{0} / 2, ~std::size_t{0} / 4}) { // products that do not fit into size_t
        choices choice;
        std::vector<std::byte> workspace(enough);
        const quant::option_table huge{p.loss, p.cost, layers, 4, {}};
        std::vector<quant::allocation_point> points(4);
        CHECK(quant::allocation_front(huge, 9, points, workspace).status().argument == std::string_view("table.loss"));
    }
    p = of_bits({1, 1}, {1, 1}, {std::uint64_t{1} << 62}); // each is allowed, their sum is not
    CHECK(refused(p, ~std::uint64_t{0}, enough).argument == std::string_view("table.cost"));
    // Every workspace of the size that is asked for will do, wherever it starts.
    std::vector<std::byte> bytes(quant::allocation_workspace_size(4, 3) + 7);
    choices choice(4);
    for (std::size_t i = 0; i < 8; ++i)
        CHECK(quant::allocate_greedy(vector_a.table(), 200, choice,
                                     std::span(bytes).subspan(i, quant::allocation_workspace_size(4, 3))));
}

TEST_CASE("allocations refuse spans that do not belong to the table") {
    choices choice(5);
    std::vector<std::byte> workspace(quant::allocate_budgets_workspace_size(4, 3, 100));
    const quant::option_table table = vector_a.table();
    const std::vector<std::uint64_t> budgets{200, 200, 200, 200, 200};
    const auto lists = [&](const quant::option_table& t, const std::vector<std::uint64_t>& more, std::size_t kinds,
                           std::size_t layers = 4) {
        return quant::allocate_budgets(t, more, std::span(budgets).first(kinds), std::span(choice).first(layers),
                                       workspace)
            .status();
    };
    const auto is = [](quant::status s, errc code, std::string_view argument) {
        return s.code == code && s.argument == argument;
    };
    CHECK(is(quant::allocate_exact(table, 200, choice, workspace).status(), errc::shape_mismatch, "choice"));
    CHECK(is(lists(table, {}, 1, 3), errc::shape_mismatch, "choice"));
    CHECK(is(lists(table, {}, 0), errc::invalid_argument, "budgets"));
    CHECK(is(lists(table, {}, 5), errc::invalid_argument, "budgets"));
    CHECK(is(lists(table, std::vector<std::uint64_t>(11), 2), errc::shape_mismatch, "more_costs"));
    CHECK(lists(table, std::vector<std::uint64_t>(12), 2));
    CHECK(is(lists(table, std::vector<std::uint64_t>(12, 51), 2), errc::budget_infeasible, "budgets"));
    CHECK(is(lists(table, std::vector<std::uint64_t>(12, std::uint64_t{1} << 62), 2), errc::invalid_argument,
             "more_costs"));
    CHECK(is(lists(table, std::vector<std::uint64_t>(12, std::uint64_t{1} << 63), 2), errc::invalid_argument,
             "more_costs"));
    problem dear = vector_a; // no choice within the first budget
    for (std::uint64_t& c : dear.cost) c *= 10;
    CHECK(is(lists(dear.table(), {}, 1), errc::budget_infeasible, "budgets"));
    std::vector<quant::allocation_point> points(1);
    CHECK(is(quant::allocation_front(table, 560, points, workspace).status(), errc::buffer_too_small, "points"));
    CHECK(is(quant::allocation_front(table, 139, points, workspace).status(), errc::budget_infeasible, "budget"));
    std::vector<std::size_t> kept(3);
    CHECK(is(quant::pareto_front(std::vector<std::uint64_t>(2), std::vector<double>(2), kept).status(),
             errc::shape_mismatch, "kept"));
}

TEST_CASE("a workspace is enough or too small, whatever its size") {
    const std::vector<std::uint64_t> more{1, 2, 3, 3, 2, 1, 1, 2, 3, 3, 2, 1}, budgets{400, 8};
    const double best = vector_a.best(400), greedy = solve(how::greedy, vector_a, 400).value.loss;
    choices choice(4);
    std::vector<quant::allocation_point> points(600);
    bool seen[4] = {};
    const auto enough = [&](std::size_t which, quant::status s) {
        if (!s)
            CHECK((s.code == errc::buffer_too_small && s.argument == std::string_view("workspace") && !seen[which]));
        seen[which] = seen[which] || static_cast<bool>(s);
        return static_cast<bool>(s);
    };
    for (std::size_t bytes = 0; bytes < 3000; bytes += 4) {
        std::vector<std::byte> workspace(bytes);
        if (const auto a = quant::allocate_exact(vector_a.table(), 400, choice, workspace); enough(0, a.status())) {
            CHECK(vector_a.cost_of(choice) <= 400);
            CHECK(a->loss == vector_a.loss_of(choice));
            CHECK((a->loss <= greedy && a->loss >= best));
        }
        if (const auto a = quant::allocate_lagrangian(vector_a.table(), 400, choice, workspace); enough(1, a.status()))
            CHECK(vector_a.cost_of(choice) <= 400);
        if (const auto n = quant::allocation_front(vector_a.table(), 400, points, workspace); enough(2, n.status())) {
            CHECK(points[0].cost == 140);
            CHECK((points[*n - 1].cost <= 400 && points[*n - 1].loss >= best));
        }
        if (const auto a = quant::allocate_budgets(vector_a.table(), more, budgets, choice, workspace);
            enough(3, a.status()))
            CHECK(vector_a.cost_of(choice) <= 400);
    }
    for (const bool s : seen) CHECK(s);
}

TEST_CASE("losses of any size, and options listed twice, leave the choice") {
    for (const how which : {how::exact, how::greedy, how::multipliers, how::lists})
        for (const std::uint64_t budget : {200u, 240u, 280u, 400u}) {
            const outcome plain = solve(which, vector_a, budget);
            for (const double scale : {0x1p-1060, 0x1p-1000, 0x1p-300, 0x1p1000}) {
                problem p = vector_a;
                for (double& x : p.loss) x *= scale; // exact, also where it makes subnormals
                const outcome scaled = solve(which, p, budget);
                CHECK(scaled.choice == plain.choice);
                CHECK(scaled.value.loss == plain.value.loss * scale);
            }
            problem twice = vector_a; // the options and then the options again, the other way round
            twice.options = 6;
            twice.loss.clear();
            twice.cost.clear();
            for (std::size_t l = 0; l < 4; ++l)
                for (const std::size_t b : {0u, 1u, 2u, 2u, 1u, 0u}) {
                    twice.loss.push_back(vector_a.loss[l * 3 + b]);
                    twice.cost.push_back(vector_a.cost[l * 3 + b]);
                }
            const outcome doubled = solve(which, twice, budget);
            CHECK(doubled.value.loss == plain.value.loss);
            CHECK(doubled.value.cost == plain.value.cost);
        }
    // Two options of one cost whose losses differ by less than the rounding of what they gain.
    const problem close = of_bits({1e17, 1, 0.5}, {1}, {1, 2, 2});
    CHECK(solve(how::exact, close, 2).value.loss == 0.5);
    CHECK(solve(how::greedy, close, 2).value.loss <= 1);
}

TEST_CASE("lists too short to find a choice that there is say so") {
    int lost = 0;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        problem p;
        p.layers = 4;
        p.options = 3;
        std::vector<std::uint64_t> second;
        for (std::size_t i = 0; i < 12; ++i) {
            p.loss.push_back(std::floor(10 * uniform(seed, 1, i)));
            p.cost.push_back(static_cast<std::uint64_t>(6 * uniform(seed, 2, i)));
            second.push_back(static_cast<std::uint64_t>(6 * uniform(seed, 3, i)));
        }
        problem free = p; // all fits: whether the memory is enough for lists at all
        free.cost.assign(12, 0);
        const std::uint64_t budgets[] = {8, 8};
        std::vector<std::byte> workspace(1640);
        choices choice(4);
        REQUIRE(quant::allocate_budgets(free.table(), free.cost, budgets, choice, workspace));
        const auto found = quant::allocate_budgets(p.table(), second, budgets, choice, workspace);
        bool possible = false;
        p.every([&](const choices& c) {
            std::uint64_t other = 0;
            for (std::size_t l = 0; l < 4; ++l) other += second[l * 3 + c[l]];
            possible = possible || (p.cost_of(c) <= 8 && other <= 8);
        });
        if (found) {
            CHECK(possible);
        } else if (found.status().code == errc::budget_infeasible) {
            CHECK(!possible);
        } else {
            CHECK(found.status().argument == std::string_view("workspace"));
            lost += possible;
        }
    }
    CHECK(lost > 0);
}
