// SPDX-License-Identifier: MIT
#pragma once
// One option per layer within a budget: from a table of losses and costs, greedily, exactly, by multipliers, or under several budgets.
// Widths, schemes, numbers of points: whatever the options are, the problem is this one. Layer 3 (calibrate).
//
//   quant::option_table table{loss, cost, layers, options};            // loss[l * options + b], e.g. cost = elements * bits
//   std::vector<std::byte> workspace(quant::allocate_exact_workspace_size(layers, options, 1 << 16));
//   std::vector<std::uint8_t> choice(layers);
//   auto best = quant::allocate_exact(table, budget_in_bits, choice, workspace);          // result<allocation>
//
// With S the losses, C the costs and B the budget, choose c_l to
//
//   minimise sum_l S[l][c_l]   subject to   sum_l C[l][c_l] <= B                                                 (28)
//   D(lambda) = sum_l min_b (S[l][b] + lambda C[l][b]) - lambda B   <=   the minimum, for every lambda >= 0       (29)
//
// The losses must be what one layer alone adds; the sum is the model of all of them together (docs/mixed_precision.md says how good).
// Always: max D <= exact <= greedy <= the feasible point of the multipliers.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/heap.hpp>
#include <quant/calibrate/workspace.hpp>
#include <quant/core/convert.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/rounded.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// Losses and costs of the options of all layers, row after row.
struct option_table {
    std::span<const double>
        loss; ///< [layers, options], any unit, may be negative; +infinity: the layer lacks that option
    std::span<const std::uint64_t> cost; ///< [layers, options], any unit
    std::size_t layers = 0;
    std::size_t options = 0; ///< 1 to 256
    /// Layers of equal number choose together, as one layer of summed losses and costs. [layers], each below `layers`; empty: nobody.
    std::span<const std::size_t> groups = {};
};

/// What an allocation comes to.
struct allocation {
    double loss = 0;        ///< sum of the chosen losses, in the order of the layers
    std::uint64_t cost = 0; ///< sum of the chosen costs
    double bound = 0;       ///< max D of equation (29): no choice within the budget has less loss
    bool exact = false;     ///< whether the loss is proved to be the minimum
    /// allocate_exact: costs were counted in multiples of this; up to `layers` times it may be left of the budget when not exact.
    std::uint64_t unit = 1;
};

/// One way to spend: no other choice has less loss for that cost.
struct allocation_point {
    std::uint64_t cost = 0;
    double loss = 0;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace allocation_detail {

// ---- steps of most gain per cost, for a table as for a formula -------------------------------------------------------------

/// The next step of one member: what it gains per cost, and to which option. A gain of 0: there is none that fits.
struct upgrade {
    double gain = 0;
    int option = 0;
};

struct heap_entry {
    double gain;
    std::size_t member;
};

/// Larger gain first, then the lower member.
struct gain_order {
    [[nodiscard]] QUANT_INLINE bool operator()(const heap_entry& a, const heap_entry& b) const noexcept {
        return a.gain > b.gain || (a.gain == b.gain && a.member < b.member);
    }
};

/// Takes the step of most gain until none fits. `steps` knows size(), best(i), the best step of i that fits now, and take(i, option).
/// A best step can only get worse while the budget shrinks, so a stale entry is an upper bound: it is brought up to date when it
/// reaches the top. heap: room for size() entries.
template <class Steps> inline void spend_with_heap(Steps&& steps, heap_entry* heap) noexcept {
    std::size_t n = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const upgrade u = steps.best(i);
        if (u.gain > 0) {
            ::new (static_cast<void*>(heap + n)) heap_entry{u.gain, i};
            ++n;
        }
    }
    detail::make_heap(heap, n, gain_order{});
    while (n > 0) {
        const std::size_t i = heap[0].member;
        upgrade u = steps.best(i);
        if (u.gain > 0 && u.gain == heap[0].gain) {
            steps.take(i, u.option);
            u = steps.best(i);
        }
        if (u.gain > 0)
            heap[0].gain = u.gain;
        else
            heap[0] = heap[--n];
        if (n > 0) detail::sift_down(heap, n, 0, gain_order{});
    }
}

/// The same steps without memory: each looks at all members.
template <class Steps> inline void spend_with_scans(Steps&& steps) noexcept {
    for (;;) {
        upgrade best;
        std::size_t member = 0;
        for (std::size_t i = 0; i < steps.size(); ++i) {
            const upgrade u = steps.best(i);
            if (u.gain > best.gain) {
                best = u;
                member = i;
            }
        }
        if (!(best.gain > 0)) return;
        steps.take(member, best.option);
    }
}

// ---- tables --------------------------------------------------------------------------------------------------------------

using detail::arena;
inline constexpr std::size_t most_options = 256;
inline constexpr std::uint64_t most_cost = std::uint64_t{1} << 62;
inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// A step along the lower convex hull of one row.
struct hull_step {
    double slope;
    std::size_t row;
    std::uint64_t cost; ///< what the step adds
    double gain;        ///< what it removes
    std::uint32_t position;
    std::uint32_t option; ///< where it ends
};

struct steepest_first {
    [[nodiscard]] QUANT_INLINE bool operator()(const hull_step& a, const hull_step& b) const noexcept {
        if (a.slope != b.slope) return a.slope > b.slope;
        return a.row != b.row ? a.row < b.row : a.position < b.position;
    }
};

/// The table with groups made one, as loss above the least of the row and cost above the cheapest of the row.
struct rows {
    double* excess = nullptr; ///< [count, options]; infinity: not to be chosen
    std::uint64_t* extra = nullptr;
    std::size_t* row_of = nullptr; ///< [layers]
    std::uint8_t* start = nullptr; ///< [count]: the cheapest option, of least loss among these
    std::size_t count = 0, options = 0;
    double least = 0;           ///< sum of the least losses
    std::uint64_t cheapest = 0; ///< sum of the least costs
    std::uint64_t room = 0;     ///< of the budget beyond the cheapest

    [[nodiscard]] double loss(std::size_t row, std::size_t option) const noexcept {
        return excess[row * options + option];
    }
    [[nodiscard]] std::uint64_t cost(std::size_t row, std::size_t option) const noexcept {
        return extra[row * options + option];
    }
};

inline status read_rows(const option_table& table, std::uint64_t budget, arena& memory, rows& out) noexcept {
    const std::size_t layers = table.layers, options = table.options;
    if (options == 0 || options > most_options) return {errc::invalid_argument, "table.options"};
    if (layers > static_cast<std::size_t>(-1) / options / sizeof(hull_step))
        return {errc::shape_mismatch, "table.loss"};
    if (table.loss.size() != layers * options) return {errc::shape_mismatch, "table.loss"};
    if (table.cost.size() != layers * options) return {errc::shape_mismatch, "table.cost"};
    if (!table.groups.empty() && table.groups.size() != layers) return {errc::shape_mismatch, "table.groups"};
    for (const std::size_t g : table.groups)
        if (g >= layers) return {errc::invalid_argument, "table.groups"};
    for (const double s : table.loss)
        if (!(s > -infinity)) return {errc::non_finite, "table.loss"};

    out.options = options;
    out.row_of = memory.take<std::size_t>(layers);
    std::size_t* const seen = memory.take<std::size_t>(layers);
    out.excess = memory.take<double>(layers * options);
    out.extra = memory.take<std::uint64_t>(layers * options);
    out.start = memory.take<std::uint8_t>(layers);
    if (!memory.ok()) return {errc::buffer_too_small, "workspace"};
    for (std::size_t l = 0; l < layers; ++l) {
        std::size_t row = out.count;
        if (table.groups.empty())
            ++out.count;
        else if (seen[table.groups[l]] == 0)
            seen[table.groups[l]] = ++out.count;
        else
            row = seen[table.groups[l]] - 1;
        out.row_of[l] = row;
        for (std::size_t b = 0; b < options; ++b) {
            out.excess[row * options + b] += table.loss[l * options + b];
            std::uint64_t& cost = out.extra[row * options + b];
            if (table.cost[l * options + b] > most_cost - cost) return {errc::invalid_argument, "table.cost"};
            cost += table.cost[l * options + b];
        }
    }
    std::uint64_t most = 0;
    for (std::size_t r = 0; r < out.count; ++r) {
        double* const s = out.excess + r * options;
        std::uint64_t* const c = out.extra + r * options;
        double least = infinity;
        std::uint64_t cheapest = most_cost, dearest = 0;
        for (std::size_t b = 0; b < options; ++b) {
            if (s[b] == infinity) continue;
            least = s[b] < least ? s[b] : least;
            dearest = c[b] > dearest ? c[b] : dearest;
            if (c[b] < cheapest || (c[b] == cheapest && s[b] < s[out.start[r]])) {
                cheapest = c[b];
                out.start[r] = static_cast<std::uint8_t>(b);
            }
        }
        if (least == infinity) return {errc::invalid_argument, "table.loss"};
        if (dearest > most_cost - most) return {errc::invalid_argument, "table.cost"};
        most += dearest;
        for (std::size_t b = 0; b < options; ++b) {
            if (s[b] == infinity) continue;
            s[b] -= least;
            c[b] -= cheapest;
        }
        out.least += least;
        out.cheapest += cheapest;
    }
    if (out.cheapest > budget) return {errc::budget_infeasible, "budget"};
    out.room = budget - out.cheapest;
    return {};
}

/// The steps of all hulls, the steepest first.
inline std::size_t hull_steps(const rows& r, hull_step* steps) noexcept {
    std::size_t count = 0;
    for (std::size_t row = 0; row < r.count; ++row) {
        std::uint16_t order[most_options];
        std::size_t n = 0;
        for (std::size_t b = 0; b < r.options; ++b)
            if (r.loss(row, b) < infinity) order[n++] = static_cast<std::uint16_t>(b);
        detail::sort_by(order, n, [&](std::uint16_t a, std::uint16_t b) noexcept {
            if (r.cost(row, a) != r.cost(row, b)) return r.cost(row, a) < r.cost(row, b);
            return r.loss(row, a) != r.loss(row, b) ? r.loss(row, a) < r.loss(row, b) : a < b;
        });
        const auto slope = [&](std::uint16_t a, std::uint16_t b) noexcept {
            return (r.loss(row, a) - r.loss(row, b)) / static_cast<double>(r.cost(row, b) - r.cost(row, a));
        };
        std::size_t kept = 1; // the hull overwrites the front of the list
        for (std::size_t i = 1; i < n; ++i) {
            if (!(r.loss(row, order[i]) < r.loss(row, order[kept - 1]))) continue;
            while (kept > 1 && slope(order[kept - 2], order[kept - 1]) < slope(order[kept - 1], order[i])) --kept;
            order[kept++] = order[i];
        }
        for (std::size_t i = 1; i < kept; ++i)
            steps[count++] = {slope(order[i - 1], order[i]),
                              row,
                              r.cost(row, order[i]) - r.cost(row, order[i - 1]),
                              r.loss(row, order[i - 1]) - r.loss(row, order[i]),
                              static_cast<std::uint32_t>(i),
                              order[i]};
    }
    detail::sort_by(steps, count, steepest_first{});
    return count;
}

/// The best multiplier: the slope of the first step of all that does not fit.
struct multiplier {
    double lambda = 0;
    double bound = 0; ///< D above the sum of the least losses
};

/// Walks the hulls as far as all steps fit; choice becomes the feasible point.
inline multiplier walk_hulls(const rows& r, const hull_step* steps, std::size_t count, std::uint8_t* choice) noexcept {
    std::uint64_t left = r.room;
    for (std::size_t row = 0; row < r.count; ++row) choice[row] = r.start[row];
    multiplier out;
    for (std::size_t i = 0; i < count; ++i) {
        if (steps[i].cost > left) {
            out.lambda = steps[i].slope;
            break;
        }
        left -= steps[i].cost;
        choice[steps[i].row] = static_cast<std::uint8_t>(steps[i].option);
    }
    double bound = 0;
    for (std::size_t row = 0; row < r.count; ++row) {
        double best = infinity;
        for (std::size_t b = 0; b < r.options; ++b) {
            const double value = r.loss(row, b) + simd::rounded(out.lambda * static_cast<double>(r.cost(row, b)));
            best = value < best ? value : best;
        }
        bound += best;
    }
    out.bound = bound - simd::rounded(out.lambda * static_cast<double>(r.room));
    return out;
}

/// Steps of a table for spend_with_heap: from the option chosen to any dearer one of less loss.
struct table_steps {
    const rows& r;
    std::uint8_t* choice;
    std::uint64_t left;

    [[nodiscard]] std::size_t size() const noexcept { return r.count; }
    [[nodiscard]] upgrade best(std::size_t row) const noexcept {
        upgrade found;
        std::uint64_t found_cost = 0;
        const double loss = r.loss(row, choice[row]);
        const std::uint64_t cost = r.cost(row, choice[row]);
        for (std::size_t b = 0; b < r.options; ++b) {
            if (!(r.loss(row, b) < loss) || r.cost(row, b) <= cost || r.cost(row, b) - cost > left) continue;
            const double gain = (loss - r.loss(row, b)) / static_cast<double>(r.cost(row, b) - cost);
            if (gain > found.gain || (gain == found.gain && r.cost(row, b) < found_cost)) {
                found = {gain, static_cast<int>(b)};
                found_cost = r.cost(row, b);
            }
        }
        return found;
    }
    void take(std::size_t row, int option) noexcept {
        left -= r.cost(row, static_cast<std::size_t>(option)) - r.cost(row, choice[row]);
        choice[row] = static_cast<std::uint8_t>(option);
    }
};

/// Sums of what was chosen, as the caller's table has it.
inline allocation settle(const option_table& table, const rows& r, const std::uint8_t* rows_choice,
                         std::span<std::uint8_t> choice, double bound) noexcept {
    allocation out;
    for (std::size_t l = 0; l < table.layers; ++l) {
        choice[l] = rows_choice[r.row_of[l]];
        out.loss += table.loss[l * table.options + choice[l]];
        out.cost += table.cost[l * table.options + choice[l]];
    }
    out.bound = r.least + bound < out.loss ? r.least + bound : out.loss;
    out.exact = out.bound == out.loss;
    return out;
}

inline double excess_of(const rows& r, const std::uint8_t* choice) noexcept {
    double sum = 0;
    for (std::size_t row = 0; row < r.count; ++row) sum += r.loss(row, choice[row]);
    return sum;
}

inline std::uint64_t divisor(std::uint64_t a, std::uint64_t b) noexcept {
    while (b != 0) {
        const std::uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// Losses as integers: sums of them do not depend on the order of the layers, so neither do ties.
inline constexpr std::int64_t out_of_reach = std::int64_t{1} << 61;
/// The power of two that brings `most` below 2^60.
inline int fixed_shift(double most) noexcept {
    int exponent = 0;
    static_cast<void>(std::frexp(most, &exponent));
    return 60 - exponent;
}
inline std::int64_t fixed(double excess, int shift) noexcept { return std::llround(std::ldexp(excess, shift)); }

/// What every search starts with: the rows of the table, a choice for each to work on, and room for their hulls.
struct search {
    arena memory;
    rows r;
    std::uint8_t* own = nullptr;
    hull_step* steps = nullptr;

    explicit search(std::span<std::byte> workspace) noexcept : memory(workspace) {}
    /// Whether all that is taken was there the caller asks, after having taken more.
    [[nodiscard]] status open(const option_table& table, std::uint64_t budget, std::size_t choices) noexcept {
        if (choices != table.layers) return {errc::shape_mismatch, "choice"};
        if (const status s = read_rows(table, budget, memory, r); !s) return s;
        own = memory.take<std::uint8_t>(r.count);
        steps = memory.take<hull_step>(r.count * r.options);
        return {};
    }
    /// The best multiplier; `own` becomes its choice.
    [[nodiscard]] multiplier walk() noexcept { return walk_hulls(r, steps, hull_steps(r, steps), own); }
    /// Greedy, into `choice`.
    void climb(std::uint8_t* choice, heap_entry* heap) noexcept {
        for (std::size_t row = 0; row < r.count; ++row) choice[row] = r.start[row];
        spend_with_heap(table_steps{r, choice, r.room}, heap);
    }
};

} // namespace allocation_detail

/// Bytes of workspace of allocate_greedy and allocate_lagrangian. layers * options up to 2^48.
[[nodiscard]] constexpr std::size_t allocation_workspace_size(std::size_t layers, std::size_t options) noexcept {
    using namespace allocation_detail;
    return layers * (options * (sizeof(double) + sizeof(std::uint64_t) + sizeof(hull_step)) + 2 * sizeof(std::size_t) +
                     sizeof(heap_entry) + 3) +
           8 * alignof(std::max_align_t);
}

/// Bytes of workspace of allocate_exact that let it count costs in `cells` - 1 units up to the budget.
/// (budget - cheapest) / g + 1 cells, g the greatest common divisor of the differences of costs, are always enough; the bound of
/// equation (29) usually rules out most options, and few cells are used.
[[nodiscard]] constexpr std::size_t allocate_exact_workspace_size(std::size_t layers, std::size_t options,
                                                                  std::size_t cells) noexcept {
    return allocation_workspace_size(layers, options) + layers * options * sizeof(std::int64_t) +
           cells * (2 * sizeof(std::int64_t) + layers);
}

/// Greedy: from the cheapest options on, the step that removes most loss per cost and still fits, until none does. Along the hulls this
/// is the path of the multipliers; at its end it takes what is left over.
/// choice     [layers] receives an option for each layer       workspace  allocation_workspace_size(layers, options) bytes
/// Errors: budget_infeasible "budget" (the cheapest options cost more); shape_mismatch "choice", "table.loss", "table.cost" or
/// "table.groups"; non_finite "table.loss" (NaN, -infinity); invalid_argument "table.options" (0 or above 256), "table.groups",
/// "table.loss" (a layer without any option), "table.cost" (sums above 2^62); buffer_too_small "workspace".
/// Exactness: deterministic. Cost: O(layers * options * log) for the bound, O(options + log layers) per step.
[[nodiscard]] inline result<allocation> allocate_greedy(const option_table& table, std::uint64_t budget,
                                                        std::span<std::uint8_t> choice,
                                                        std::span<std::byte> workspace) noexcept {
    using namespace allocation_detail;
    search in(workspace);
    if (const status s = in.open(table, budget, choice.size()); !s) return s;
    heap_entry* const heap = in.memory.take<heap_entry>(in.r.count);
    if (!in.memory.ok()) return status{errc::buffer_too_small, "workspace"};
    const multiplier best = in.walk();
    in.climb(in.own, heap);
    return settle(table, in.r, in.own, choice, best.bound);
}

/// The feasible point of the best multiplier: the hulls are walked, steepest step first, up to the first step that does not fit.
/// bound is max D, reached at the slope of that step. Arguments, errors and cost as allocate_greedy.
[[nodiscard]] inline result<allocation> allocate_lagrangian(const option_table& table, std::uint64_t budget,
                                                            std::span<std::uint8_t> choice,
                                                            std::span<std::byte> workspace) noexcept {
    using namespace allocation_detail;
    search in(workspace);
    if (const status s = in.open(table, budget, choice.size()); !s) return s;
    if (!in.memory.ok()) return status{errc::buffer_too_small, "workspace"};
    const multiplier best = in.walk();
    return settle(table, in.r, in.own, choice, best.bound);
}

namespace allocation_detail {

/// The rows as the table of cells takes them: losses as integers, or -1 for what is out of the question.
struct kept_options {
    const rows& r;
    std::int64_t* loss = nullptr; ///< [count, options]

    [[nodiscard]] std::int64_t at(std::size_t row, std::size_t b) const noexcept { return loss[row * r.options + b]; }
    /// How many options of a row are left, the cheapest of them (of least loss), and the costs they span.
    struct span_of_row {
        std::size_t count = 0, cheapest = 0;
        std::uint64_t low = most_cost, high = 0;
    };
    [[nodiscard]] span_of_row left(std::size_t row) const noexcept {
        span_of_row out;
        for (std::size_t b = 0; b < r.options; ++b) {
            if (at(row, b) < 0) continue;
            ++out.count;
            const std::uint64_t cost = r.cost(row, b);
            out.high = cost > out.high ? cost : out.high;
            if (cost < out.low || (cost == out.low && at(row, b) < at(row, out.cheapest))) {
                out.low = cost;
                out.cheapest = b;
            }
        }
        return out;
    }
};

/// Least losses by cost: for each row, each cost so far and each option.
struct cell_table {
    std::uint64_t base = 0;    ///< cost of the cheapest options that are left
    std::uint64_t unit = 1;    ///< cost of a cell
    std::uint64_t natural = 1; ///< the greatest common divisor: with this unit nothing is rounded
    std::size_t active = 0;    ///< rows with a choice
    std::size_t cells = 0, reach = 0;
    std::int64_t* best = nullptr; ///< [cells]: the result
    std::uint8_t* from = nullptr; ///< [active, cells]: the option taken, where wanted

    /// Sizes, in the memory that is there. `choices`: whether `from` is wanted.
    status size(const kept_options& kept, bool choices, arena& memory) noexcept {
        std::uint64_t common = 0, reachable = 0;
        for (std::size_t row = 0; row < kept.r.count; ++row) {
            const auto own = kept.left(row);
            base += own.low;
            reachable += own.high - own.low;
            if (own.count < 2) continue;
            ++active;
            for (std::size_t b = 0; b < kept.r.options; ++b)
                if (kept.at(row, b) >= 0) common = divisor(common, kept.r.cost(row, b) - own.low);
        }
        natural = unit = common > 0 ? common : 1;
        const std::uint64_t room = kept.r.room - base, most = reachable < room ? reachable : room;
        const std::size_t bytes = 2 * sizeof(std::int64_t) + (choices ? active : 0);
        const std::size_t spare = 2 * alignof(std::max_align_t);
        const std::uint64_t fit = memory.left() < spare ? 0 : (memory.left() - spare) / bytes;
        if (most / unit + 1 > fit) {
            if (fit < 2) return {errc::buffer_too_small, "workspace"};
            const std::uint64_t coarse = most / (fit - 1) + 1;
            unit = (coarse + natural - 1) / natural * natural;
        }
        cells = core_detail::convert<std::size_t>(most / unit) + 1;
        best = memory.take<std::int64_t>(cells);
        other_ = memory.take<std::int64_t>(cells);
        if (choices) from = memory.take<std::uint8_t>(active * cells);
        if (!memory.ok()) return {errc::buffer_too_small, "workspace"};
        return {};
    }

    [[nodiscard]] std::uint64_t cells_of(const kept_options& kept, std::size_t row, std::size_t b,
                                         std::uint64_t low) const noexcept {
        return (kept.r.cost(row, b) - low + unit - 1) / unit; // up: what is counted never costs less than it does
    }

    void fill(const kept_options& kept) noexcept {
        for (std::size_t w = 0; w < cells; ++w) best[w] = out_of_reach;
        best[0] = 0;
        reach = 0;
        std::uint8_t* taken = from;
        for (std::size_t row = 0; row < kept.r.count; ++row) {
            const auto own = kept.left(row);
            if (own.count < 2) {
                const std::int64_t only = kept.at(row, own.cheapest);
                for (std::size_t w = 0; w <= reach; ++w)
                    best[w] = best[w] + only < out_of_reach ? best[w] + only : out_of_reach;
                continue;
            }
            const std::uint64_t span = cells_of(kept, row, widest(kept, row), own.low);
            const std::size_t next = span < cells - 1 - reach ? reach + static_cast<std::size_t>(span) : cells - 1;
            for (std::size_t w = 0; w <= next; ++w) other_[w] = out_of_reach;
            for (std::size_t b = 0; b < kept.r.options; ++b) {
                const std::int64_t loss = kept.at(row, b);
                if (loss < 0) continue;
                const std::uint64_t far = cells_of(kept, row, b, own.low);
                if (far > next) continue;
                const auto shift = static_cast<std::size_t>(far);
                const std::size_t last = reach < next - shift ? reach : next - shift;
                const std::int64_t* const source = best;
                std::int64_t* const target = other_ + shift;
                if (taken != nullptr) {
                    std::uint8_t* const mark = taken + shift;
                    for (std::size_t w = 0; w <= last; ++w) {
                        const std::int64_t value = source[w] + loss;
                        const bool better = value < target[w];
                        target[w] = better ? value : target[w];
                        mark[w] = better ? static_cast<std::uint8_t>(b) : mark[w];
                    }
                } else {
                    for (std::size_t w = 0; w <= last; ++w) {
                        const std::int64_t value = source[w] + loss;
                        target[w] = value < target[w] ? value : target[w];
                    }
                }
            }
            std::int64_t* const done = other_;
            other_ = best;
            best = done;
            reach = next;
            if (taken != nullptr) taken += cells;
        }
    }

    /// The choice of least loss, of least cost among these.
    void choose(const kept_options& kept, std::uint8_t* choice) const noexcept {
        std::size_t at = 0;
        for (std::size_t w = 1; w <= reach; ++w)
            if (best[w] < best[at]) at = w;
        const std::uint8_t* taken = from + active * cells;
        for (std::size_t row = kept.r.count; row-- > 0;) {
            const auto own = kept.left(row);
            choice[row] = static_cast<std::uint8_t>(own.cheapest);
            if (own.count < 2) continue;
            taken -= cells;
            choice[row] = taken[at];
            at -= core_detail::convert<std::size_t>(cells_of(kept, row, choice[row], own.low));
        }
    }

private:
    [[nodiscard]] static std::size_t widest(const kept_options& kept, std::size_t row) noexcept {
        std::size_t found = 0;
        std::uint64_t most = 0;
        for (std::size_t b = 0; b < kept.r.options; ++b)
            if (kept.at(row, b) >= 0 && kept.r.cost(row, b) >= most) {
                most = kept.r.cost(row, b);
                found = b;
            }
        return found;
    }
    std::int64_t* other_ = nullptr;
};

/// All that the budget allows, with losses as integers of fixed_shift; returns the shift.
inline int keep_all(const rows& r, std::int64_t* loss) noexcept {
    double most = 0;
    for (std::size_t row = 0; row < r.count; ++row) {
        double largest = 0;
        for (std::size_t b = 0; b < r.options; ++b)
            if (r.loss(row, b) < infinity && r.cost(row, b) <= r.room && r.loss(row, b) > largest)
                largest = r.loss(row, b);
        most += largest;
    }
    const int shift = fixed_shift(most);
    for (std::size_t i = 0; i < r.count * r.options; ++i)
        loss[i] = r.excess[i] < infinity && r.extra[i] <= r.room ? fixed(r.excess[i], shift) : -1;
    return shift;
}

} // namespace allocation_detail

/// The minimum of equation (28), by dynamic programming over costs counted in units of their greatest common divisor, after the bound of
/// equation (29) has ruled out every option that no choice as good as the greedy one can contain. Of equal losses the lower cost.
/// Where the workspace does not hold that many cells, costs are rounded up to a larger unit: the choice still fits the budget, is never
/// worse than the greedy one, and exact is false unless it meets the bound.
/// choice     [layers]         workspace  allocate_exact_workspace_size(layers, options, cells) bytes, cells 2 or more
/// Errors: those of allocate_greedy. Exactness: deterministic; losses are compared to 2^-60 of the greedy loss above the least.
/// Cost: O(layers * options * cells), for the layers and options that the bound leaves over.
[[nodiscard]] inline result<allocation> allocate_exact(const option_table& table, std::uint64_t budget,
                                                       std::span<std::uint8_t> choice,
                                                       std::span<std::byte> workspace) noexcept {
    using namespace allocation_detail;
    search in(workspace);
    if (const status s = in.open(table, budget, choice.size()); !s) return s;
    const rows& r = in.r;
    heap_entry* const heap = in.memory.take<heap_entry>(r.count);
    std::int64_t* const losses = in.memory.take<std::int64_t>(r.count * r.options);
    std::uint8_t* const greedy = in.memory.take<std::uint8_t>(r.count);
    if (!in.memory.ok()) return status{errc::buffer_too_small, "workspace"};
    const multiplier best = in.walk();
    in.climb(greedy, heap);

    // What a row's option costs above the least of its row in D is added to the bound of every choice that contains it.
    const double most = excess_of(r, greedy), lambda = best.lambda;
    const double rounding = 1e-15 * static_cast<double>(r.count + 8);
    const double margin = simd::rounded(rounding * (most + simd::rounded(lambda * static_cast<double>(r.room))));
    const int shift = fixed_shift(most);
    for (std::size_t row = 0; row < r.count; ++row) {
        double least = infinity;
        for (std::size_t b = 0; b < r.options; ++b) {
            const double value = r.loss(row, b) + simd::rounded(lambda * static_cast<double>(r.cost(row, b)));
            least = value < least ? value : least;
        }
        for (std::size_t b = 0; b < r.options; ++b) {
            const double loss = r.loss(row, b);
            const double value = loss + simd::rounded(lambda * static_cast<double>(r.cost(row, b)));
            const bool possible = loss <= most + margin && r.cost(row, b) <= r.room &&
                                  best.bound + (value - least) <= most + margin + simd::rounded(rounding * value);
            losses[row * r.options + b] = possible || b == greedy[row] ? fixed(loss, shift) : -1;
        }
    }
    const kept_options kept{r, losses};
    cell_table cells;
    if (const status s = cells.size(kept, true, in.memory); !s) return s;
    cells.fill(kept);
    cells.choose(kept, in.own);
    const bool whole = cells.unit == cells.natural;
    const bool better = whole || excess_of(r, in.own) < most;
    allocation out = settle(table, r, better ? in.own : greedy, choice, best.bound);
    out.exact = out.exact || whole;
    out.unit = cells.unit;
    return out;
}

/// The whole exact front up to a budget: every cost at which the least loss falls, ascending, and that loss.
/// points  receives them; as many as there are cells, (budget - cheapest) / g + 1, are always enough
/// Returns how many. The choice of a point: allocate_exact at its cost. Where the workspace is too small for units of g costs are
/// rounded up to larger ones: then points are reachable, but some may be missing. Errors: those of allocate_exact, buffer_too_small
/// "points". Losses are exact to 2^-60 of the sum of the largest. Cost: O(layers * options * cells).
[[nodiscard]] inline result<std::size_t> allocation_front(const option_table& table, std::uint64_t budget,
                                                          std::span<allocation_point> points,
                                                          std::span<std::byte> workspace) noexcept {
    using namespace allocation_detail;
    arena memory(workspace);
    rows r;
    if (const status s = read_rows(table, budget, memory, r); !s) return s;
    std::int64_t* const losses = memory.take<std::int64_t>(r.count * r.options);
    if (!memory.ok()) return status{errc::buffer_too_small, "workspace"};
    const int shift = keep_all(r, losses);
    const kept_options kept{r, losses};
    cell_table cells;
    if (const status s = cells.size(kept, false, memory); !s) return s;
    cells.fill(kept);
    std::size_t count = 0;
    std::int64_t least = out_of_reach;
    for (std::size_t w = 0; w <= cells.reach; ++w) {
        if (cells.best[w] >= least) continue;
        least = cells.best[w];
        if (count == points.size()) return status{errc::buffer_too_small, "points"};
        points[count++] = {r.cheapest + cells.base + w * cells.unit,
                           r.least + std::ldexp(static_cast<double>(least), -shift)};
    }
    return count;
}

// ---- several budgets -----------------------------------------------------------------------------------------------------

/// Budgets that allocate_budgets can hold at once.
inline constexpr std::size_t most_budgets = 4;

namespace allocation_detail {

/// A choice for the layers so far that no other one beats in everything.
struct list_state {
    std::int64_t loss = 0;
    std::uint64_t cost[most_budgets] = {};
    std::uint32_t parent = 0;
    std::uint32_t option = 0;
};

struct lower_loss {
    [[nodiscard]] QUANT_INLINE bool operator()(const list_state& a, const list_state& b) const noexcept {
        if (a.loss != b.loss) return a.loss < b.loss;
        for (std::size_t k = 0; k < most_budgets; ++k)
            if (a.cost[k] != b.cost[k]) return a.cost[k] < b.cost[k];
        return a.parent != b.parent ? a.parent < b.parent : a.option < b.option;
    }
};

struct list_link {
    std::uint32_t parent = 0;
    std::uint32_t option = 0;
};

} // namespace allocation_detail

/// Bytes of workspace of allocate_budgets with lists of up to `states` choices.
[[nodiscard]] constexpr std::size_t allocate_budgets_workspace_size(std::size_t layers, std::size_t options,
                                                                    std::size_t states) noexcept {
    using namespace allocation_detail;
    return allocation_workspace_size(layers, options) +
           layers * (options * (sizeof(std::int64_t) + most_budgets * sizeof(std::uint64_t)) +
                     most_budgets * sizeof(std::uint64_t)) +
           states * ((options + 1) * sizeof(list_state) + layers * sizeof(list_link)) + 8 * alignof(std::max_align_t);
}

/// The minimum under several budgets at once, such as bytes and multiplications: layer by layer, the list of choices that no other
/// beats in loss and in every cost.
/// table      its costs meet budgets[0]
/// more_costs [budgets - 1, layers, options]: costs that meet budgets[1] and on
/// budgets    1 to 4                choice  [layers]
/// workspace  allocate_budgets_workspace_size(layers, options, states) bytes: lists may grow exponentially, and are thinned out evenly
///            beyond `states`. Then the choice still fits, and exact is false.
/// bound is that of the first budget alone. Errors: those of allocate_greedy; budget_infeasible "budgets"; shape_mismatch "more_costs";
/// invalid_argument "budgets" (none, or above 4); buffer_too_small "workspace" (also: a list that was thinned out found no choice).
/// Cost: O(layers * options * states * (log + states)).
[[nodiscard]] inline result<allocation> allocate_budgets(const option_table& table,
                                                         std::span<const std::uint64_t> more_costs,
                                                         std::span<const std::uint64_t> budgets,
                                                         std::span<std::uint8_t> choice,
                                                         std::span<std::byte> workspace) noexcept {
    using namespace allocation_detail;
    const std::size_t kinds = budgets.size();
    if (kinds == 0 || kinds > most_budgets) return status{errc::invalid_argument, "budgets"};
    search in(workspace);
    if (const status s = in.open(table, budgets[0], choice.size()); !s)
        return s.code == errc::budget_infeasible ? status{errc::budget_infeasible, "budgets"} : s;
    const std::size_t table_size = table.layers * table.options;
    if (more_costs.size() != (kinds - 1) * table_size) return status{errc::shape_mismatch, "more_costs"};
    arena& memory = in.memory;
    const rows& r = in.r;
    std::int64_t* const losses = memory.take<std::int64_t>(r.count * r.options);
    std::uint64_t* const costs = memory.take<std::uint64_t>(r.count * r.options * kinds);
    std::uint64_t* const ahead =
        memory.take<std::uint64_t>((r.count + 1) * kinds); // least costs of the rows still to come
    if (!memory.ok()) return status{errc::buffer_too_small, "workspace"};
    const multiplier first = in.walk();
    static_cast<void>(keep_all(r, losses));
    for (std::size_t l = 0; l < table.layers; ++l)
        for (std::size_t b = 0; b < r.options; ++b)
            for (std::size_t k = 0; k < kinds; ++k) {
                const std::uint64_t more =
                    k == 0 ? table.cost[l * r.options + b] : more_costs[(k - 1) * table_size + l * r.options + b];
                std::uint64_t& sum = costs[(r.row_of[l] * r.options + b) * kinds + k];
                if (more > most_cost - sum)
                    return status{errc::invalid_argument, "more_costs"}; // table.cost: seen above
                sum += more;
            }
    for (std::size_t k = 0; k < kinds; ++k)
        for (std::size_t row = r.count; row-- > 0;) {
            std::uint64_t least = most_cost;
            for (std::size_t b = 0; b < r.options; ++b)
                if (losses[row * r.options + b] >= 0) {
                    const std::uint64_t c = costs[(row * r.options + b) * kinds + k];
                    least = c < least ? c : least;
                }
            if (least > most_cost - ahead[(row + 1) * kinds + k]) return status{errc::invalid_argument, "more_costs"};
            ahead[row * kinds + k] = ahead[(row + 1) * kinds + k] + least;
        }
    for (std::size_t k = 0; k < kinds; ++k)
        if (ahead[k] > budgets[k]) return status{errc::budget_infeasible, "budgets"};

    const std::size_t per_state = (r.options + 1) * sizeof(list_state) + r.count * sizeof(list_link);
    const std::size_t spare = 4 * alignof(std::max_align_t);
    std::size_t room = memory.left() < spare ? 0 : (memory.left() - spare) / per_state;
    room = room < 0x7FFFFFFFu ? room : 0x7FFFFFFFu;
    if (room < 2) return status{errc::buffer_too_small, "workspace"};
    list_state* const list = memory.take<list_state>(room);
    list_state* const next = memory.take<list_state>(room * r.options);
    list_link* const links = memory.take<list_link>(room * r.count);
    if (!memory.ok()) return status{errc::buffer_too_small, "workspace"};
    std::size_t count = 1;
    list[0] = {};
    bool thinned = false;
    for (std::size_t row = 0; row < r.count; ++row) {
        std::size_t grown = 0;
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t b = 0; b < r.options; ++b) {
                const std::int64_t loss = losses[row * r.options + b];
                if (loss < 0) continue;
                list_state s = list[i];
                s.loss += loss;
                s.parent = static_cast<std::uint32_t>(i);
                s.option = static_cast<std::uint32_t>(b);
                bool fits = true;
                for (std::size_t k = 0; k < kinds; ++k) {
                    s.cost[k] += costs[(row * r.options + b) * kinds + k];
                    fits = fits && s.cost[k] <= budgets[k] - ahead[(row + 1) * kinds + k];
                }
                if (fits) next[grown++] = s;
            }
        detail::sort_by(next, grown, lower_loss{});
        std::size_t kept = 0; // those of lower loss stand before; one of them may cost no more in anything
        for (std::size_t i = 0; i < grown; ++i) {
            const auto beaten_by = [&](const list_state& other) noexcept {
                for (std::size_t k = 0; k < kinds; ++k)
                    if (other.cost[k] > next[i].cost[k]) return false;
                return true;
            };
            bool beaten = kept > 0 && beaten_by(next[kept - 1]);
            for (std::size_t j = 0; kinds > 1 && !beaten && j < kept; ++j) beaten = beaten_by(next[j]);
            if (!beaten) next[kept++] = next[i];
        }
        if (kept == 0)
            return thinned ? status{errc::buffer_too_small, "workspace"} : status{errc::budget_infeasible, "budgets"};
        count = kept < room ? kept : room;
        thinned = thinned || kept > room;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = kept <= room ? i : i * (kept - 1) / (room - 1);
            list[i] = next[at];
            links[row * room + i] = {list[i].parent, list[i].option};
        }
    }
    std::size_t at = 0;
    for (std::size_t row = r.count; row-- > 0;) {
        in.own[row] = static_cast<std::uint8_t>(links[row * room + at].option);
        at = links[row * room + at].parent;
    }
    allocation out = settle(table, r, in.own, choice, first.bound);
    out.exact = out.exact || !thinned;
    return out;
}

// ---- costs ---------------------------------------------------------------------------------------------------------------

/// cost[l][b] = elements[l] bits[b]: the size of a model in bits.
/// Errors: shape_mismatch "cost", invalid_argument "elements" (a product above 2^62).
[[nodiscard]] inline status size_costs(std::span<const std::uint64_t> elements, std::span<const std::uint8_t> bits,
                                       std::span<std::uint64_t> cost) noexcept {
    if (cost.size() != elements.size() * bits.size()) return {errc::shape_mismatch, "cost"};
    for (const std::uint64_t n : elements)
        if (n > (std::uint64_t{1} << 54)) return {errc::invalid_argument, "elements"};
    for (std::size_t l = 0; l < elements.size(); ++l)
        for (std::size_t b = 0; b < bits.size(); ++b) cost[l * bits.size() + b] = elements[l] * bits[b];
    return {};
}

// ---- fronts --------------------------------------------------------------------------------------------------------------

/// Which points no other point beats: the strictly lower losses along ascending costs. Of equal points the first stays.
/// cost, loss  [n]        kept  [n] receives the numbers of the points that stay, by ascending cost, and serves as scratch
/// Returns how many. Errors: shape_mismatch "loss" or "kept"; non_finite "loss" (NaN). Cost: O(n log n).
[[nodiscard]] inline result<std::size_t> pareto_front(std::span<const std::uint64_t> cost, std::span<const double> loss,
                                                      std::span<std::size_t> kept) noexcept {
    const std::size_t n = cost.size();
    if (loss.size() != n) return status{errc::shape_mismatch, "loss"};
    if (kept.size() != n) return status{errc::shape_mismatch, "kept"};
    for (std::size_t i = 0; i < n; ++i) {
        if (loss[i] != loss[i]) return status{errc::non_finite, "loss"};
        kept[i] = i;
    }
    detail::sort_by(kept.data(), n, [&](std::size_t a, std::size_t b) noexcept {
        if (cost[a] != cost[b]) return cost[a] < cost[b];
        return loss[a] != loss[b] ? loss[a] < loss[b] : a < b;
    });
    std::size_t count = 0;
    for (std::size_t i = 0; i < n; ++i)
        if (count == 0 || loss[kept[i]] < loss[kept[count - 1]]) kept[count++] = kept[i];
    return count;
}

QUANT_END_TARGET
