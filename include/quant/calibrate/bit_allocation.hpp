// SPDX-License-Identifier: MIT
#pragma once
// Widths per channel under a budget of bits: the optimal integer allocation, the paper's rule, and the real-valued closed forms of
// both. The same calls serve weights (output channels) and activations. Layer 3 (calibrate).
//
//   std::array<std::uint8_t, 64> bits;
//   if (auto s = quant::allocate_bits(channel_stats, bits, {.average_bits = 4.0f, .min_bits = 2, .max_bits = 8}); !s) return s;
//
// A channel with n elements and spread a (b or sigma) costs n a^2 c(M) at M bits. Equations are those of docs/aciq.md.
// Paper: Banner, Nahshan, Soudry 2019, arXiv 1810.05723, section 4 (eq. 9 to 11).

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/allocation.hpp>
#include <quant/calibrate/statistics_summary.hpp>
#include <quant/calibrate/workspace.hpp>
#include <quant/core/code_format.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

/// How widths are found.
enum class allocation_rule : std::uint8_t {
    optimal, ///< least expected error of all integer widths; never above the budget
    paper,   ///< the authors' loop (paper_bits): may end on either side of the budget
};

/// What one channel of unit spread costs at M bits.
enum class allocation_cost : std::uint8_t {
    high_resolution, ///< 1/(3 4^M): equation (14), whatever the grid
    exact_grid,      ///< the least error that the format's grid of M bits can have, equation (9); 0 bits cost E[x^2]
};

/// Options of allocate_bits.
struct bit_allocation_options {
    float average_bits = 4.0f; ///< budget per element, 0 to 16
    std::uint8_t min_bits = 2; ///< 0 to 16; 0 bits stand for "no codes at all, the channel is its mean"
    std::uint8_t max_bits = 8; ///< min_bits to 16
    allocation_rule rule = allocation_rule::optimal;
    allocation_cost cost = allocation_cost::high_resolution;
    /// exact_grid only: sign and narrow range of the grids, its bits are not used; unsigned is a fused ReLU.
    code_format format = int8;
    /// Which spread statistics stand for, b (laplace) or sigma (gauss and automatic); also the density of exact_grid.
    prior density = prior::laplace;
    /// Bit w set: width w may be used, as 1u << 2 | 1u << 4 | 1u << 8 for {2, 4, 8}. 0: 0 to 8 and 16.
    std::uint32_t allowed_widths = 0;
    /// The budget in bits in place of average_bits. 0: use average_bits.
    std::uint64_t total_bits = 0;
};

/// Options of paper_bits: what the authors' code uses.
struct paper_allocation_options {
    double average_bits = 4.0;
    std::uint8_t min_bits = 0;
    std::uint8_t max_bits = 8;
    int max_iterations = 10;      ///< 1: equation 11 of the paper in one shot
    bool round_up = false;        ///< ceil(log2 B) instead of rounding half to even
    prior density = prior::gauss; ///< spread of statistics: sigma, as the authors default to, or b
};

/// How the authors' loop ended.
struct paper_allocation {
    int iterations = 0;
    double mean_bits = 0; ///< of the widths returned; the loop stops at 10 iterations even where this misses the goal
};

/// Elements of a list of channels: statistics, or spreads in real units.
template <class T>
concept channel_element = std::same_as<T, tensor_statistics> || std::same_as<T, double> || std::same_as<T, float>;

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

namespace allocation_detail {

template <class X>
concept channel_list = viewable<const X> && channel_element<element_of_t<const X>>;

QUANT_INLINE double spread_of(double spread, prior) noexcept { return spread; }
QUANT_INLINE double spread_of(float spread, prior) noexcept { return static_cast<double>(spread); }
inline double spread_of(const tensor_statistics& data, prior density) noexcept {
    if (data.count == 0) return 0;
    return estimate_spread(data, density == prior::laplace ? prior::laplace : prior::gauss).value;
}

inline constexpr int widths = 17;                       // 0 to 16
inline constexpr std::uint32_t legal_widths = 0x101FFu; // 0 to 8, and 16

/// The channels as a function from index to spread, already checked.
template <class View> struct spreads {
    View channels;
    prior density;
    [[nodiscard]] std::size_t size() const noexcept { return channels.size(); }
    [[nodiscard]] double operator()(std::size_t i) const noexcept { return spread_of(channels(i), density); }
};

template <class X> inline auto spreads_of(const X& channels, prior density) noexcept {
    const auto list = v0_1::view(channels);
    static_assert(decltype(list)::rank == 1, "bit allocation: channels are a list, of rank 1");
    return spreads<std::remove_const_t<decltype(list)>>{list, density};
}

/// ok when every spread is finite and not negative; `largest` receives the largest.
template <class Spreads> inline status check_spreads(const Spreads& spread, double& largest) noexcept {
    largest = 0;
    for (std::size_t i = 0; i < spread.size(); ++i) {
        const double a = spread(i);
        if (!(a - a == 0)) return {errc::non_finite, "channels"};
        if (a < 0) return {errc::invalid_argument, "channels"};
        if (a > largest) largest = a;
    }
    return {};
}

QUANT_INLINE std::uint64_t count_of(std::span<const std::uint64_t> counts, std::size_t i) noexcept {
    return counts.empty() ? 1 : counts[i];
}

} // namespace allocation_detail

/// The budget in bits: floor(average_bits * elements), in integers. Exact for averages that are multiples of 2^-32 (every float from
/// 2^-8 up); note that the float 3.6f lies below 3.6, so that five elements get 17 bits: say total_bits where that matters.
/// average_bits 0 to 16; elements up to 2^58.
[[nodiscard]] inline std::uint64_t allocation_budget(float average_bits, std::uint64_t elements) noexcept {
    QUANT_EXPECTS(average_bits >= 0 && average_bits <= 16 && elements <= (std::uint64_t{1} << 58),
                  "allocation_budget: 0 to 16 bits for at most 2^58 elements");
    const double average = static_cast<double>(average_bits);
    const auto whole = static_cast<std::uint64_t>(average);
    const auto fraction = static_cast<std::uint64_t>((average - static_cast<double>(whole)) * 0x1p32);
    const std::uint64_t high = elements >> 32, low = elements & 0xFFFFFFFFu;
    return whole * elements + fraction * high + ((fraction * low) >> 32);
}

/// Bits that an allocation uses: the sum of count * width. counts: empty means one element each.
[[nodiscard]] inline std::uint64_t allocated_bits(std::span<const std::uint8_t> bits,
                                                  std::span<const std::uint64_t> counts = {}) noexcept {
    QUANT_EXPECTS(counts.empty() || counts.size() == bits.size(), "allocated_bits: one count per channel");
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < bits.size(); ++i) total += allocation_detail::count_of(counts, i) * bits[i];
    return total;
}

/// Expected squared error of one element of unit spread at `width` bits: c(M) of the chosen cost. width 0 to 16.
/// exact_grid: density gauss or laplace (automatic counts as gauss); width 1 of a narrow format has only the zero level.
[[nodiscard]] inline double width_cost(allocation_cost cost, prior density, code_format format, int width) noexcept {
    using namespace aciq_math;
    QUANT_EXPECTS(width >= 0 && width <= 16, "width_cost: a width of 0 to 16");
    if (cost == allocation_cost::high_resolution) return std::ldexp(1.0 / 3.0, -2 * width);
    const prior p = density == prior::laplace ? prior::laplace : prior::gauss;
    const source x{p, 0.0, !format.is_signed};
    if (width == 0 || (width == 1 && format.narrow_range)) return mean_square(x);
    const code_format coded{static_cast<std::uint8_t>(width), format.is_signed, format.narrow_range};
    const integer_grid grid = grid_of(coded);
    if (width <= 8) return exact_mse(x, exact_step(x, grid), grid);
    const double cells = corrected_cells(grid, x.relu); // the sum would cancel; the formula is exact to 1e-8 here
    return (x.relu ? 0.5 : 1.0) * paper_mse(p, optimal_alpha(p, cells), cells);
}

/// Bytes of workspace that make allocate_bits fast for n channels.
[[nodiscard]] constexpr std::size_t allocate_bits_workspace_size(std::size_t n) noexcept;

namespace allocation_detail {

/// The allowed widths and what they cost.
struct cost_table {
    std::array<double, widths> cost{};
    std::array<std::array<double, widths>, widths> slope{}; ///< cost removed per bit, from one width to another
    std::array<std::uint8_t, widths> allowed{};             ///< ascending
    int count = 0;

    /// The steepest upgrade from `width` that fits. Taking the best slope over all wider widths walks the lower convex hull of the
    /// costs, which is what makes greedy steps optimal for costs that are not convex (0 -> 2 bits on a signed grid) and for
    /// sparse sets; near the end of the budget it takes whatever still fits.
    [[nodiscard]] upgrade best_from(int width, double squared_spread, std::uint64_t elements,
                                    std::uint64_t remaining) const noexcept {
        upgrade best;
        for (int k = 0; k < count; ++k) {
            const int wider = allowed[static_cast<std::size_t>(k)];
            if (wider <= width) continue;
            const int step = wider - width;
            if (elements > remaining / static_cast<std::uint64_t>(step)) break; // wider ones cost even more
            const double gain =
                squared_spread * slope[static_cast<std::size_t>(width)][static_cast<std::size_t>(wider)];
            if (gain > best.gain) best = {gain, wider};
        }
        return best;
    }
};

/// Upgrades of channels, for the steps shared with tables of any options (quant/calibrate/allocation.hpp).
template <class Spreads> struct channel_steps {
    const Spreads& spread;
    const cost_table& table;
    double unit; ///< squares are taken relative to a power of two, exactly
    std::span<std::uint8_t> bits;
    std::span<const std::uint64_t> counts;
    std::uint64_t remaining;

    [[nodiscard]] std::size_t size() const noexcept { return bits.size(); }
    [[nodiscard]] upgrade best(std::size_t i) const noexcept {
        const double scaled = spread(i) * unit;
        return table.best_from(bits[i], scaled * scaled, count_of(counts, i), remaining);
    }
    void take(std::size_t i, int width) noexcept {
        remaining -= count_of(counts, i) * static_cast<std::uint64_t>(width - bits[i]);
        bits[i] = static_cast<std::uint8_t>(width);
    }
};

/// Sum of counts, or an error where it would not fit.
inline status sum_counts(std::size_t channels, std::span<const std::uint64_t> counts,
                         std::uint64_t& elements) noexcept {
    if (!counts.empty() && counts.size() != channels) return {errc::shape_mismatch, "counts"};
    constexpr std::uint64_t most = std::uint64_t{1} << 58;
    elements = 0;
    for (std::size_t i = 0; i < channels; ++i) {
        const std::uint64_t n = count_of(counts, i);
        if (n > most - elements) return {errc::invalid_argument, "counts"};
        elements += n;
    }
    return {};
}

/// Equation 10 of the paper: log2 B_i for the mean `target`, given the sum of a^(2/3). -infinity without spread.
inline double paper_log2_bins(double spread, double target, double sum_of_roots, std::size_t n) noexcept {
    const double root = std::cbrt(spread);
    const double share = static_cast<double>(n) * (root * root / sum_of_roots);
    return target + std::log2(share);
}

template <class Spreads> inline double sum_of_roots(const Spreads& spread) noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < spread.size(); ++i) {
        const double root = std::cbrt(spread(i));
        sum += root * root;
    }
    return sum;
}

template <class Spreads>
inline result<paper_allocation> paper_loop(const Spreads& spread, std::span<std::uint8_t> bits,
                                           const paper_allocation_options& options) noexcept {
    if (bits.size() != spread.size()) return status{errc::shape_mismatch, "bits"};
    if (options.min_bits > options.max_bits || options.max_bits > 16)
        return status{errc::bits_out_of_range, "max_bits"};
    if (!(options.average_bits >= 0 && options.average_bits <= 16))
        return status{errc::invalid_argument, "average_bits"};
    if (options.max_iterations < 1) return status{errc::invalid_argument, "max_iterations"};
    double largest = 0;
    if (const status s = check_spreads(spread, largest); !s) return s;
    paper_allocation out;
    const std::size_t n = spread.size();
    if (n == 0) return out;
    const double roots = sum_of_roots(spread);
    double target = options.average_bits;
    while (out.iterations < options.max_iterations) {
        std::uint64_t total = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const double log2_bins = largest > 0 ? paper_log2_bins(spread(i), target, roots, n) : -1e3;
            const double kept = log2_bins < -1e3 ? -1e3 : (log2_bins > 1e3 ? 1e3 : log2_bins);
            const double rounded = options.round_up ? std::ceil(kept) : aciq_math::detail::round_half_even(kept);
            const double clamped = rounded < options.min_bits
                                       ? options.min_bits
                                       : (rounded > options.max_bits ? options.max_bits : rounded);
            bits[i] = static_cast<std::uint8_t>(clamped);
            total += bits[i];
        }
        ++out.iterations;
        out.mean_bits = static_cast<double>(total) / static_cast<double>(n);
        const double missing = options.average_bits - out.mean_bits;
        if (std::fabs(missing) <= 0.01) break;
        target += 0.5 * missing;
    }
    return out;
}

template <class Spreads>
inline status allocate(const Spreads& spread, std::span<std::uint8_t> bits, const bit_allocation_options& options,
                       std::span<const std::uint64_t> counts, std::span<std::byte> workspace, bool with_heap) noexcept {
    const std::size_t n = spread.size();
    if (bits.size() != n) return {errc::shape_mismatch, "bits"};
    if (options.min_bits > options.max_bits || options.max_bits > 16) return {errc::bits_out_of_range, "max_bits"};
    if (!(options.average_bits >= 0 && options.average_bits <= 16)) return {errc::invalid_argument, "average_bits"};
    std::uint64_t elements = 0;
    if (const status s = sum_counts(n, counts, elements); !s) return s;
    if (with_heap && workspace.size() < allocate_bits_workspace_size(n)) return {errc::buffer_too_small, "workspace"};

    if (options.rule == allocation_rule::paper) {
        if (options.allowed_widths != 0) return {errc::invalid_argument, "allowed_widths"};
        for (const std::uint64_t count : counts)
            if (count != counts[0]) return {errc::invalid_argument, "counts"};
        paper_allocation_options paper;
        paper.average_bits = static_cast<double>(options.average_bits);
        if (options.total_bits != 0 && elements != 0)
            paper.average_bits = static_cast<double>(options.total_bits) / static_cast<double>(elements);
        paper.min_bits = options.min_bits;
        paper.max_bits = options.max_bits;
        return paper_loop(spread, bits, paper).status();
    }

    double largest = 0;
    if (const status s = check_spreads(spread, largest); !s) return s;
    std::uint32_t mask = options.allowed_widths != 0 ? options.allowed_widths : legal_widths;
    if ((mask & ~legal_widths) != 0) return {errc::bits_out_of_range, "allowed_widths"};
    const bool exact = options.cost == allocation_cost::exact_grid;
    if (exact && options.format.narrow_range) {
        if (!options.format.is_signed) return {errc::bits_out_of_range, "format.narrow_range"};
        mask &= ~2u; // a narrow format of one bit has only zero
    }
    cost_table table;
    for (int w = options.min_bits; w <= options.max_bits; ++w) {
        if ((mask >> w & 1u) == 0) continue;
        table.allowed[static_cast<std::size_t>(table.count++)] = static_cast<std::uint8_t>(w);
        table.cost[static_cast<std::size_t>(w)] = width_cost(options.cost, options.density, options.format, w);
        for (int k = 0; k + 1 < table.count; ++k) {
            const std::size_t from = table.allowed[static_cast<std::size_t>(k)], to = static_cast<std::size_t>(w);
            table.slope[from][to] = (table.cost[from] - table.cost[to]) / static_cast<double>(to - from);
        }
    }
    if (table.count == 0) return {errc::bits_out_of_range, "allowed_widths"};
    const std::uint8_t narrowest = table.allowed[0];
    const std::uint64_t budget =
        options.total_bits != 0 ? options.total_bits : allocation_budget(options.average_bits, elements);
    if (elements * narrowest > budget) return {errc::budget_infeasible, "average_bits"};
    for (std::uint8_t& b : bits) b = narrowest;
    if (!(largest > 0)) return {};

    int exponent = 0;
    static_cast<void>(std::frexp(largest, &exponent));
    const double unit = std::ldexp(1.0, exponent < -1000 ? 1000 : -exponent);
    channel_steps<Spreads> steps{spread, table, unit, bits, counts, budget - elements * narrowest};
    if (with_heap)
        spend_with_heap(steps, arena(workspace).take<heap_entry>(n));
    else
        spend_with_scans(steps);
    return {};
}

} // namespace allocation_detail

[[nodiscard]] constexpr std::size_t allocate_bits_workspace_size(std::size_t n) noexcept {
    return n * sizeof(allocation_detail::heap_entry) + alignof(allocation_detail::heap_entry) - 1;
}

/// Widths per channel of least expected error within a budget of bits, equation (15).
/// channels  list of tensor_statistics (their b or sigma is used, see options.density) or of spreads (double, float), real units
/// bits      one width per channel; receives the result
/// counts    elements per channel; empty: all the same
///
/// rule optimal: starts at the narrowest allowed width and takes the upgrade that removes most error per bit until nothing fits;
///   ties go to the lowest channel. Never above floor(average_bits * sum of counts) bits, exactly. Least possible error for equal
///   counts and all widths allowed (convex costs); otherwise optimal at every budget where no upgrade was turned down for size,
///   and short of the optimum by less than one upgrade elsewhere. Channels without spread keep the narrowest width.
/// rule paper: paper_bits clamped to [min_bits, max_bits]; may exceed the budget; needs equal counts and all widths.
///
/// Errors: shape_mismatch "bits", "counts"; bits_out_of_range; budget_infeasible when even the narrowest widths exceed the budget;
///   invalid_argument (average_bits, counts above 2^58 in sum, a negative spread); non_finite "channels".
/// Exactness: deterministic. Cost: n steps per upgrade, O(n * upgrades), no memory: fine up to some thousand channels.
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline status allocate_bits(const Channels& channels, std::span<std::uint8_t> bits,
                                          const bit_allocation_options& options = {},
                                          std::span<const std::uint64_t> counts = {}) noexcept {
    return allocation_detail::allocate(allocation_detail::spreads_of(channels, options.density), bits, options, counts,
                                       {}, false);
}

/// The same bytes in O((n + upgrades) log n), with allocate_bits_workspace_size(n) bytes from the caller, of any alignment.
/// Errors: also buffer_too_small "workspace".
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline status allocate_bits(const Channels& channels, std::span<std::uint8_t> bits,
                                          const bit_allocation_options& options, std::span<const std::uint64_t> counts,
                                          std::span<std::byte> workspace) noexcept {
    return allocation_detail::allocate(allocation_detail::spreads_of(channels, options.density), bits, options, counts,
                                       workspace, true);
}

/// The authors' rule: equation (20), B_i = B a_i^(2/3) / sum a^(2/3) bins, rounded to bits, with the target shifted by half of what
/// the mean misses until it is within 0.01 or max_iterations is reached. The widths of the last iteration are returned as they are:
/// the mean can miss the goal on either side. Equal element counts are assumed. Channels without spread get min_bits.
/// channels, bits as for allocate_bits. Errors: shape_mismatch, bits_out_of_range, invalid_argument, non_finite.
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline result<paper_allocation> paper_bits(const Channels& channels, std::span<std::uint8_t> bits,
                                                         const paper_allocation_options& options = {}) noexcept {
    return allocation_detail::paper_loop(allocation_detail::spreads_of(channels, options.density), bits, options);
}

/// The paper's equation 10 before rounding: log2 B_i, equation (20). Minus infinity for a channel without spread.
/// real_bits  one per channel. Errors: shape_mismatch "real_bits", invalid_argument, non_finite.
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline status paper_real_bits(const Channels& channels, double average_bits, std::span<double> real_bits,
                                            prior density = prior::gauss) noexcept {
    const auto spread = allocation_detail::spreads_of(channels, density);
    if (real_bits.size() != spread.size()) return {errc::shape_mismatch, "real_bits"};
    double largest = 0;
    if (const status s = allocation_detail::check_spreads(spread, largest); !s) return s;
    const double roots = allocation_detail::sum_of_roots(spread);
    for (std::size_t i = 0; i < spread.size(); ++i)
        real_bits[i] = spread(i) > 0 ? allocation_detail::paper_log2_bins(spread(i), average_bits, roots, spread.size())
                                     : -std::numeric_limits<double>::infinity();
    return {};
}

/// The closed form under a budget of bits, equation (14): M_i = average + log2 a_i - mean of log2 a, weighted by counts; all channels
/// end with the same error per element. Unbounded and real: may be negative. Channels without spread get 0 and leave their share
/// to the others.
/// real_bits  one per channel. Errors: shape_mismatch "real_bits" or "counts", invalid_argument, non_finite.
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline status closed_form_bits(const Channels& channels, double average_bits, std::span<double> real_bits,
                                             std::span<const std::uint64_t> counts = {},
                                             prior density = prior::laplace) noexcept {
    const auto spread = allocation_detail::spreads_of(channels, density);
    if (real_bits.size() != spread.size()) return {errc::shape_mismatch, "real_bits"};
    std::uint64_t elements = 0;
    if (const status s = allocation_detail::sum_counts(spread.size(), counts, elements); !s) return s;
    double largest = 0;
    if (const status s = allocation_detail::check_spreads(spread, largest); !s) return s;
    double weighted_logs = 0, weight = 0;
    for (std::size_t i = 0; i < spread.size(); ++i) {
        if (!(spread(i) > 0)) continue;
        const double n = static_cast<double>(allocation_detail::count_of(counts, i));
        weighted_logs += n * std::log2(spread(i));
        weight += n;
    }
    const double budget = average_bits * static_cast<double>(elements);
    for (std::size_t i = 0; i < spread.size(); ++i)
        real_bits[i] = spread(i) > 0 && weight > 0 ? (budget - weighted_logs) / weight + std::log2(spread(i)) : 0.0;
    return {};
}

/// Expected squared error of an allocation, summed over all elements: sum of count * spread^2 * c(M), for comparing allocations.
/// Uses density, cost and format of the options. Units: real units squared. Errors: shape_mismatch, bits_out_of_range, as above.
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline result<double> allocation_error(const Channels& channels, std::span<const std::uint8_t> bits,
                                                     const bit_allocation_options& options = {},
                                                     std::span<const std::uint64_t> counts = {}) noexcept {
    const auto spread = allocation_detail::spreads_of(channels, options.density);
    if (bits.size() != spread.size()) return status{errc::shape_mismatch, "bits"};
    if (!counts.empty() && counts.size() != bits.size()) return status{errc::shape_mismatch, "counts"};
    std::array<double, allocation_detail::widths> cost{};
    std::uint32_t known = 0;
    double total = 0;
    for (std::size_t i = 0; i < bits.size(); ++i) {
        if (bits[i] > 16) return status{errc::bits_out_of_range, "bits"};
        if ((known >> bits[i] & 1u) == 0) {
            cost[bits[i]] = width_cost(options.cost, options.density, options.format, bits[i]);
            known |= 1u << bits[i];
        }
        const double a = spread(i);
        total += static_cast<double>(allocation_detail::count_of(counts, i)) * a * a * cost[bits[i]];
    }
    return total;
}

/// The same problem as a table for allocate_exact, allocation_front and their kin (quant/calibrate/allocation.hpp), where allocate_bits
/// may fall short of the optimum by less than one upgrade: unequal counts, sparse sets of widths. A choice of b means widths[b].
/// widths  [options] 0 to 16, in any order          counts  elements per channel; empty: one each
/// loss    [channels, options]: count * spread^2 * c(width), real units squared, as allocation_error adds them up
/// cost    [channels, options]: count * width, in bits
/// Uses density, cost and format of the options. Errors: shape_mismatch "counts", "loss" or "cost"; bits_out_of_range "widths";
/// invalid_argument "counts" (2^58 in sum) or "channels" (a negative spread); non_finite "channels".
template <class Channels>
    requires allocation_detail::channel_list<Channels>
[[nodiscard]] inline status width_table(const Channels& channels, std::span<const std::uint8_t> widths,
                                        std::span<double> loss, std::span<std::uint64_t> cost,
                                        const bit_allocation_options& options = {},
                                        std::span<const std::uint64_t> counts = {}) noexcept {
    const auto spread = allocation_detail::spreads_of(channels, options.density);
    const std::size_t n = spread.size();
    if (loss.size() != n * widths.size()) return {errc::shape_mismatch, "loss"};
    if (cost.size() != loss.size()) return {errc::shape_mismatch, "cost"};
    for (const std::uint8_t w : widths)
        if (w > 16) return {errc::bits_out_of_range, "widths"};
    std::uint64_t elements = 0;
    if (const status s = allocation_detail::sum_counts(n, counts, elements); !s) return s;
    double largest = 0;
    if (const status s = allocation_detail::check_spreads(spread, largest); !s) return s;
    for (std::size_t b = 0; b < widths.size(); ++b) {
        const double unit = width_cost(options.cost, options.density, options.format, widths[b]);
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint64_t count = allocation_detail::count_of(counts, i);
            const double a = spread(i);
            loss[i * widths.size() + b] = static_cast<double>(count) * a * a * unit;
            cost[i * widths.size() + b] = count * widths[b];
        }
    }
    return {};
}

QUANT_END_TARGET
