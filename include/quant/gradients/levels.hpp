// SPDX-License-Identifier: MIT
#pragma once
// Where the levels of a bucket of gradients stand: ORQ, ASQ, refinement, BinGrad, and the error to expect of them. Layer 5 (gradients).
//
//   alignas(8) std::byte room[quant::gradients::levels_workspace_size(512, 9)];
//   auto s = quant::gradients::orq_levels(bucket, levels, room);              // levels: 3, 5, 9, 17, …
//   double e = quant::gradients::expected_error(bucket, levels);              // of random rounding to them, without sampling
//
// Random rounding: v between neighbouring levels a <= v <= b becomes b with probability (v - a) / (b - a). It is unbiased, and
//
//   E = sum (b - v)(v - a)                                                                                        (G1)
//
// The best level between fixed neighbours lo and hi is an element of the bucket: with e the rank of the last element <= hi, the element of
// the smallest rank m with
//
//   m >= e - sum over lo < v <= hi of (v - lo) / (hi - lo)                                                        (G2)
//
// Papers: ORQ and BinGrad, arXiv 2002.11082; ASQ and its quadrangle inequality, QUIVER (NeurIPS 2024). docs/gradients.md says which parts
// of them are reconstructed.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/workspace.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/gradient_kernels.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace gradients {

/// The most levels of a bucket: codes are bytes.
inline constexpr std::size_t most_levels = 256;
/// The most elements of a bucket.
inline constexpr std::size_t most_in_bucket = std::size_t{1} << 24;
/// No level of random rounding lies beyond, so that the difference of two is finite.
inline constexpr float largest_level = 0x1p126f;

/// Where BinGrad-b cuts a bucket in two.
enum class threshold_rule : std::uint8_t {
    mean,      ///< at its mean
    lloyd,     ///< repeated: at the middle of the two means, from the mean on
    two_means, ///< where the two means leave the least error of all cuts
    zero,      ///< at zero: 1-bit SGD. The mean of a side without elements is 0
};

/// v < threshold becomes low, any other v high.
struct two_levels {
    float low = 0, high = 0;
    float threshold = 0;
};

/// Bytes that placing `levels` levels in a bucket takes: enough for every function here.
[[nodiscard]] constexpr std::size_t levels_workspace_size(std::size_t elements, std::size_t levels) noexcept {
    return 7 + elements * (48 + 4 * (levels > 2 ? levels - 2 : 0));
}

inline namespace QUANT_TARGET_TAG {
namespace detail {

[[nodiscard]] inline status check_bucket(std::span<const float> v) noexcept {
    if (v.empty()) return {errc::no_data, "v"};
    if (v.size() > most_in_bucket) return {errc::invalid_argument, "v"};
    return {};
}

/// Integers in the order of the floats, and back.
[[nodiscard]] QUANT_INLINE std::uint32_t order_key(float v) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    return bits ^ ((0u - (bits >> 31)) | 0x80000000u);
}
[[nodiscard]] QUANT_INLINE float from_key(std::uint32_t key) noexcept {
    return std::bit_cast<float>(key ^ (((key >> 31) - 1u) | 0x80000000u));
}

/// Ascending, by insertion: of a few elements.
template <class T> inline void sort_few(T* p, std::size_t n) noexcept {
    for (std::size_t i = 1; i < n; ++i) {
        const T x = p[i];
        std::size_t k = i;
        for (; k > 0 && x < p[k - 1]; --k) p[k] = p[k - 1];
        p[k] = x;
    }
}

/// The most elements that sort_sixteen sorts.
inline constexpr std::size_t sixteen = 16;
/// Ascending, by counting for each how many come before it: no branch depends on the data, of which half would be foretold wrongly.
inline void sort_sixteen(float* p, std::size_t n) noexcept {
    std::uint32_t key[sixteen], rank[sixteen];
    for (std::size_t i = 0; i < sixteen; ++i) key[i] = i < n ? order_key(p[i]) : 0xFFFFFFFFu;
    for (std::size_t i = 0; i < sixteen; ++i) {
        std::uint32_t before = 0;
        for (std::size_t k = 0; k < sixteen; ++k) {
            const std::uint32_t below = key[k] < key[i] ? 1u : 0u, equal = key[k] == key[i] ? 1u : 0u;
            before += below | (equal & (k < i ? 1u : 0u));
        }
        rank[i] = before;
    }
    for (std::size_t i = 0; i < n; ++i) p[rank[i]] = from_key(key[i]);
}

/// Ascending, by bytes from the lowest on; bytes that all keys share are passed over. The result is in a or in b.
[[nodiscard]] inline std::uint32_t* sort_keys(std::uint32_t* a, std::uint32_t* b, std::size_t n) noexcept {
    constexpr std::size_t few = 48;
    if (n <= few) {
        sort_few(a, n);
        return a;
    }
    std::uint32_t count[4][256] = {};
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t key = a[i];
        ++count[0][key & 255u];
        ++count[1][(key >> 8) & 255u];
        ++count[2][(key >> 16) & 255u];
        ++count[3][key >> 24];
    }
    for (unsigned byte = 0; byte < 4; ++byte) {
        std::uint32_t* const at = count[byte];
        const unsigned shift = 8 * byte;
        if (at[(a[0] >> shift) & 255u] == n) continue;
        std::uint32_t next = 0;
        for (unsigned k = 0; k < 256; ++k) {
            const std::uint32_t here = at[k];
            at[k] = next;
            next += here;
        }
        for (std::size_t i = 0; i < n; ++i) b[at[(a[i] >> shift) & 255u]++] = a[i];
        std::uint32_t* const other = a;
        a = b;
        b = other;
    }
    return a;
}

/// A bucket in ascending order, and the sums of its first elements counted from the smallest one: exact differences lose nothing to an
/// offset that all elements share.
struct ordered_bucket {
    std::span<float> value;
    std::span<double> sum; ///< sum[t] = sum over s <= t of value[s] - value[0]

    [[nodiscard]] double above_first(float x) const noexcept {
        return static_cast<double>(x) - static_cast<double>(value[0]);
    }
    /// How many elements are <= x.
    [[nodiscard]] std::size_t count_up_to(float x) const noexcept {
        std::size_t first = 0, last = value.size();
        while (first < last) {
            const std::size_t middle = (first + last) / 2;
            if (value[middle] <= x)
                first = middle + 1;
            else
                last = middle;
        }
        return first;
    }
    /// Formula (G2), or `otherwise` where no element lies between lo and hi.
    [[nodiscard]] float best_between(float lo, float hi, float otherwise) const noexcept {
        const std::size_t below = count_up_to(lo), up_to = count_up_to(hi);
        if (!(lo < hi) || below >= up_to) return otherwise;
        const double before = below == 0 ? 0 : sum[below - 1];
        const double inside = sum[up_to - 1] - before;
        const double shift = simd::rounded_product(static_cast<double>(up_to - below), above_first(lo));
        const double parts = (inside - shift) / (static_cast<double>(hi) - static_cast<double>(lo));
        const double rank = std::ceil(static_cast<double>(up_to - 1) - parts);
        if (rank < static_cast<double>(below)) return lo; // everything between lies on hi
        const double most = static_cast<double>(up_to - 1);
        return value[static_cast<std::size_t>(rank > most ? most : rank)];
    }
};

[[nodiscard]] inline status order_bucket(std::span<const float> v, quant::detail::arena& memory,
                                         ordered_bucket& out) noexcept {
    if (const status s = check_bucket(v); !s) return s;
    const std::size_t n = v.size();
    out.sum = {memory.take_unset<double>(n), n};
    out.value = {memory.take_unset<float>(n), n};
    quant::detail::arena passing = memory; // the keys are not needed any more after this
    std::uint32_t* const keys = passing.take_unset<std::uint32_t>(n);
    std::uint32_t* const others = passing.take_unset<std::uint32_t>(n);
    if (!passing.ok()) return {errc::buffer_too_small, "workspace"};
    for (std::size_t i = 0; i < n; ++i) keys[i] = order_key(v[i] + 0.0f); // no negative zero
    const std::uint32_t* const sorted = sort_keys(keys, others, n);
    for (std::size_t i = 0; i < n; ++i) out.value[i] = from_key(sorted[i]);
    // What is not finite came to an end.
    if (!(out.value[0] >= -largest_level && out.value[n - 1] <= largest_level)) return {errc::non_finite, "v"};
    const auto first = static_cast<double>(out.value[0]);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) out.sum[i] = sum += static_cast<double>(out.value[i]) - first;
    return {};
}

/// The mean as the smallest float that is not below it, which cuts where the mean does.
[[nodiscard]] inline two_levels means_of(const simd::split_sums& sums, std::size_t n, float threshold,
                                         bool empty_is_zero) noexcept {
    const std::size_t low_count = n - sums.high_count;
    two_levels out{0, 0, threshold};
    if (low_count != 0) out.low = static_cast<float>(sums.low / static_cast<double>(low_count));
    if (sums.high_count != 0) out.high = static_cast<float>(sums.high / static_cast<double>(sums.high_count));
    if (empty_is_zero) return out;
    if (low_count == 0) out.low = out.high;
    if (sums.high_count == 0) out.high = out.low;
    return out;
}

/// A value of the bucket, or one beside it, and how many elements lie above.
struct cut {
    float at;
    std::size_t above;
};

/// The element that `above` or fewer elements exceed, and the smallest such: lo.above > above >= hi.above. By false position on the counts,
/// which a register takes many of at once.
[[nodiscard]] inline float select_element(std::span<const float> v, std::size_t above, cut lo, cut hi) noexcept {
    constexpr std::size_t few = sixteen;
    double over = static_cast<double>(lo.above - above) - 0.5, under = static_cast<double>(above - hi.above) + 0.5;
    for (int same = 0; lo.above - hi.above > few;) {
        const double part = over / (over + under), across = static_cast<double>(hi.at) - static_cast<double>(lo.at);
        auto next = static_cast<float>(static_cast<double>(lo.at) + simd::rounded_product(part, across));
        if (!(lo.at < next && next < hi.at) || same > 2 || same < -2) next = lo.at + (hi.at - lo.at) / 2;
        if (!(lo.at < next && next < hi.at)) return hi.at; // all that is left is equal
        const std::size_t found = simd::count_above(v.data(), v.size(), next);
        if (found > above) {
            lo = {next, found};
            over = static_cast<double>(found - above) - 0.5;
            same = same < 0 ? 1 : same + 1;
            if (same > 1) under /= 2; // an end that stays for long
        } else {
            hi = {next, found};
            under = static_cast<double>(above - found) + 0.5;
            same = same > 0 ? -1 : same - 1;
            if (same < -1) over /= 2;
        }
    }
    float left[few + simd::virtual_lanes];
    const std::size_t count = simd::copy_between<false>(v.data(), v.size(), lo.at, hi.at, left);
    sort_sixteen(left, count);
    return left[count - 1 - (above - hi.above)] + 0.0f;
}

/// Formula (G2) without sorting, from the sum of the elements between lo and hi, which v holds, maybe among others. lo.at < hi.at.
[[nodiscard]] inline float level_between(std::span<const float> v, const cut& lo, const cut& hi, double sum) noexcept {
    const std::size_t n = v.size(), up_to = n - hi.above, below = n - lo.above;
    const double shift = simd::rounded_product(static_cast<double>(up_to - below), static_cast<double>(lo.at));
    const double parts = (sum - shift) / (static_cast<double>(hi.at) - static_cast<double>(lo.at));
    double rank = std::ceil(static_cast<double>(up_to - 1) - parts);
    if (rank < static_cast<double>(below)) return lo.at; // everything between lies on hi
    if (rank > static_cast<double>(up_to - 1)) rank = static_cast<double>(up_to - 1);
    return select_element(v, n - 1 - static_cast<std::size_t>(rank), lo, hi);
}

/// The ends of the levels. Errors: those of orq_levels.
[[nodiscard]] inline status find_ends(std::span<const float> v, std::span<float> levels) noexcept {
    if (const status s = check_bucket(v); !s) return s;
    const simd::block_extremes range = simd::extremes(v.data(), v.size());
    if (range.non_finite != 0 || !(range.min >= -largest_level && range.max <= largest_level))
        return {errc::non_finite, "v"};
    levels.front() = range.min;
    levels.back() = range.max;
    return {};
}

/// ORQ without sorting: for a few levels. Its sums are of the elements in their order, so that a tie, where two levels are equally good, may
/// be broken otherwise than after sorting.
[[nodiscard]] inline status orq_by_selection(std::span<const float> v, std::span<float> levels) noexcept {
    if (const status s = find_ends(v, levels); !s) return s;
    const std::size_t n = v.size(), count = levels.size();
    constexpr std::size_t most = 9;
    std::size_t above[most]{}; // elements above each level
    above[0] = simd::count_above(v.data(), n, levels[0]);
    above[count - 1] = 0;
    for (std::size_t step = (count - 1) / 2; step > 0; step /= 2)
        for (std::size_t k = step; k < count; k += 2 * step) {
            const cut lo{levels[k - step], above[k - step]}, hi{levels[k + step], above[k + step]};
            levels[k] = lo.at;
            above[k] = lo.above;
            if (!(lo.at < hi.at)) continue;
            levels[k] = level_between(v, lo, hi, simd::sum_between(v.data(), n, lo.at, hi.at).sum);
            above[k] = simd::count_above(v.data(), n, levels[k]);
        }
    return {};
}

/// The most levels of orq_by_parting.
inline constexpr std::size_t most_parted_levels = 17;
/// The same for more levels: the elements are parted at every level that is found, so that each interval looks at its own alone.
[[nodiscard]] inline status orq_by_parting(std::span<const float> v, std::span<float> levels,
                                           std::span<std::byte> workspace) noexcept {
    if (const status s = find_ends(v, levels); !s) return s;
    const std::size_t count = levels.size();
    constexpr std::size_t most = most_parted_levels - 1, slack = simd::virtual_lanes;
    const std::size_t room = v.size() + most * slack;
    quant::detail::arena memory(workspace);
    std::span here(memory.take_unset<float>(room), room), there(memory.take_unset<float>(room), room);
    if (!memory.ok()) return {errc::buffer_too_small, "workspace"};
    std::span<float> part[most]; // the elements of every interval, without its lower end
    part[0] = here.first(simd::copy_between<false>(v.data(), v.size(), levels.front(), levels.back(), here.data()));
    for (std::size_t step = (count - 1) / 2, parts = 1; step > 0; step /= 2, parts *= 2) {
        std::span<float> parted[most];
        std::size_t at = 0;
        for (std::size_t j = 0; j < parts; ++j) {
            const std::size_t k = step + 2 * step * j, n = part[j].size();
            const cut lo{levels[k - step], n}, hi{levels[k + step], 0};
            levels[k] = lo.at;
            if (lo.at < hi.at)
                levels[k] = level_between(part[j], lo, hi, simd::sum_of<simd::detail::term::value>(part[j].data(), n));
            if (step == 1) continue;
            const std::size_t above = simd::count_above(part[j].data(), n, levels[k]), from = at + (n - above) + slack;
            simd::part_at(part[j].data(), n, levels[k], there.data() + at, there.data() + from);
            parted[2 * j] = there.subspan(at, n - above);
            parted[2 * j + 1] = there.subspan(from, above);
            at = from + above + slack;
        }
        if (step == 1) break;
        for (std::size_t j = 0; j < 2 * parts; ++j) part[j] = parted[j];
        const auto other = here;
        here = there;
        there = other;
    }
    return {};
}

} // namespace detail

/// Equidistant levels from the smallest element to the largest.
/// v [d] finite          levels [2 … 256] written, ascending
/// Errors: no_data or invalid_argument "v" (none, or too many), non_finite "v", invalid_argument "levels". Complexity: one pass.
[[nodiscard]] inline status uniform_levels(std::span<const float> v, std::span<float> levels) noexcept;

/// ORQ: the range is halved by the best level (G2) of every part, K times. The order of the halving is a reconstruction.
/// v [d] finite, |v| <= 2^126          levels [2^K + 1] written, ascending; equal ones where there are fewer values
/// workspace  levels_workspace_size(d, levels)
/// 3 levels are the best of all unbiased ones; 5 and more need not be better than equidistant ones.
/// Errors: those of uniform_levels, buffer_too_small "workspace" (which is not used for 3 and 5 levels of 256 and more elements).
/// Complexity: a few counting passes over the elements of each interval, or a radix sort and 2^K searches.
[[nodiscard]] inline status orq_levels(std::span<const float> v, std::span<float> levels,
                                       std::span<std::byte> workspace) noexcept {
    const std::size_t count = levels.size();
    if (count < 3 || count > most_levels || !std::has_single_bit(count - 1)) return {errc::invalid_argument, "levels"};
    // Where selecting takes less time than sorting.
    constexpr std::size_t few_levels = 5, many_elements = 256, elements_of_level = 48;
    if (count <= few_levels && v.size() >= many_elements) return detail::orq_by_selection(v, levels);
    if (count <= detail::most_parted_levels && v.size() >= elements_of_level * count)
        return detail::orq_by_parting(v, levels, workspace);
    quant::detail::arena memory(workspace);
    detail::ordered_bucket bucket;
    if (const status s = detail::order_bucket(v, memory, bucket); !s) return s;
    levels[0] = bucket.value.front();
    levels[count - 1] = bucket.value.back();
    for (std::size_t step = (count - 1) / 2; step > 0; step /= 2)
        for (std::size_t k = step; k < count; k += 2 * step)
            levels[k] = bucket.best_between(levels[k - step], levels[k + step], levels[k - step]);
    return {};
}

/// Coordinate descent from given levels: every interior one is moved to the best place between its neighbours (G2), in turn, up to
/// `rounds` times. No move makes the expected error larger: from equidistant levels on it is never above theirs.
/// levels [2 … 256] ascending, the first <= every v, the last >= every v; read and written
/// Errors: those of orq_levels; invalid_argument "levels" also where they are not ascending or do not span v.
[[nodiscard]] inline status refine_levels(std::span<const float> v, std::span<float> levels,
                                          std::span<std::byte> workspace, std::size_t rounds = 64) noexcept {
    const std::size_t count = levels.size();
    if (count < 2 || count > most_levels) return {errc::invalid_argument, "levels"};
    quant::detail::arena memory(workspace);
    detail::ordered_bucket bucket;
    if (const status s = detail::order_bucket(v, memory, bucket); !s) return s;
    for (std::size_t k = 1; k < count; ++k)
        if (!(levels[k - 1] <= levels[k])) return {errc::invalid_argument, "levels"};
    if (!(levels[0] <= bucket.value.front() && levels[count - 1] >= bucket.value.back()))
        return {errc::invalid_argument, "levels"};
    bool changed = true;
    for (std::size_t round = 0; round < rounds && changed; ++round) {
        changed = false;
        for (std::size_t k = 1; k + 1 < count; ++k) {
            const float before = levels[k];
            levels[k] = bucket.best_between(levels[k - 1], levels[k + 1], before);
            changed = changed || levels[k] != before;
        }
    }
    return {};
}

namespace detail {

/// The cost (G1) of the elements between two levels that are elements k <= j, and what the exact search keeps.
struct exact_search {
    const ordered_bucket& bucket;
    const double* squares; ///< sums of squares, counted from the smallest element
    const double* before;  ///< f of one interval less
    double* best;          ///< f, written
    std::uint32_t* from;   ///< the level before the last one, written

    [[nodiscard]] double cost(std::size_t k, std::size_t j) const noexcept {
        const double lo = bucket.above_first(bucket.value[k]), hi = bucket.above_first(bucket.value[j]);
        const double outer = simd::rounded_product(simd::rounded_product(lo, hi), static_cast<double>(j - k));
        const double inner = simd::rounded_product(lo + hi, bucket.sum[j] - bucket.sum[k]);
        const double c = (inner - outer) - (squares[j] - squares[k]);
        return c > 0 ? c : 0;
    }
    /// Levels first … last - 1: the best predecessor of a larger one is not smaller, by the quadrangle inequality.
    void fill(std::size_t first, std::size_t last, std::size_t from_first, std::size_t from_last) const noexcept {
        while (first < last) {
            const std::size_t j = first + (last - first) / 2;
            const std::size_t end = from_last < j ? from_last : j;
            double least = std::numeric_limits<double>::infinity();
            std::size_t at = from_first;
            for (std::size_t k = from_first; k <= end; ++k) {
                const double c = before[k] + cost(k, j);
                if (c < least) {
                    least = c;
                    at = k;
                }
            }
            best[j] = least;
            from[j] = static_cast<std::uint32_t>(at);
            fill(first, j, from_first, at);
            first = j + 1;
            from_first = at;
        }
    }
};

} // namespace detail

/// ASQ: of all tables that span the bucket the one of the least expected error, by dynamic programming over its elements.
/// Arguments and errors as of orq_levels, for any 2 to 256 levels.
/// Complexity: a sort, then O(levels d log d); the error is the least up to the rounding of double.
[[nodiscard]] inline status asq_levels(std::span<const float> v, std::span<float> levels,
                                       std::span<std::byte> workspace) noexcept {
    const std::size_t count = levels.size(), n = v.size();
    if (count < 2 || count > most_levels) return {errc::invalid_argument, "levels"};
    quant::detail::arena memory(workspace);
    detail::ordered_bucket bucket;
    if (const status s = detail::order_bucket(v, memory, bucket); !s) return s;
    double* const squares = memory.take_unset<double>(n);
    double *before = memory.take_unset<double>(n), *best = memory.take_unset<double>(n);
    std::uint32_t* const from = memory.take_unset<std::uint32_t>(n * (count - 2));
    if (!memory.ok()) return {errc::buffer_too_small, "workspace"};
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double y = bucket.above_first(bucket.value[i]);
        squares[i] = sum += simd::rounded_product(y, y);
    }
    const detail::exact_search one{bucket, squares, nullptr, nullptr, nullptr};
    for (std::size_t j = 0; j < n; ++j) before[j] = one.cost(0, j);
    for (std::size_t k = 0; k + 2 < count; ++k) {
        const detail::exact_search more{bucket, squares, before, best, from + k * n};
        more.fill(0, n, 0, n - 1);
        double* const other = before;
        before = best;
        best = other;
    }
    std::size_t j = n - 1;
    levels[count - 1] = bucket.value[j];
    for (std::size_t k = count - 2; k > 0; --k) {
        j = from[(k - 1) * n + j];
        levels[k] = bucket.value[j];
    }
    levels[0] = bucket.value[0];
    return {};
}

inline status uniform_levels(std::span<const float> v, std::span<float> levels) noexcept {
    if (const status s = detail::check_bucket(v); !s) return s;
    const std::size_t count = levels.size();
    if (count < 2 || count > most_levels) return {errc::invalid_argument, "levels"};
    const simd::block_extremes range = simd::extremes(v.data(), v.size());
    if (range.non_finite != 0) return {errc::non_finite, "v"};
    const auto lo = static_cast<double>(range.min), width = static_cast<double>(range.max) - lo;
    for (std::size_t k = 0; k < count; ++k)
        levels[k] = static_cast<float>(lo + width * static_cast<double>(k) / static_cast<double>(count - 1));
    levels[count - 1] = range.max;
    return {};
}

/// BinGrad-pb: the b whose levels -b and b have the least expected error, where what lies beyond is clipped to them:
///   E(b) = sum over |v| <= b of b^2 - v^2, + sum over |v| > b of (|v| - b)^2,   least at b = (1/d) sum over |v| > b of |v|      (G3)
/// v [d] finite. That the levels are symmetric is a reconstruction.
/// Errors: no_data, invalid_argument, non_finite "v". Complexity: a few passes; no workspace. Exactness: the same bytes everywhere.
[[nodiscard]] inline result<float> pb_level(std::span<const float> v) noexcept {
    if (const status s = detail::check_bucket(v); !s) return s;
    const simd::block_extremes range = simd::extremes(v.data(), v.size());
    if (range.non_finite != 0) return status{errc::non_finite, "v"};
    const auto d = static_cast<double>(v.size());
    const float largest = -range.min > range.max ? -range.min : range.max;
    if (!(largest > 0)) return 0.0f;
    // F(b) = d b - T(b), T(b) the sum of the magnitudes beyond b, grows with b: its zero is enclosed by the rule of false position until few
    // elements are left between the ends.
    constexpr std::size_t few = detail::sixteen;
    struct end {
        float b;
        double beyond;     // T(b)
        std::size_t count; // of magnitudes beyond
        double f;          // F(b), halved where an end stays for long
    };
    const auto at = [&](float b) {
        const simd::block_tail tail = simd::tail_sums(v.data(), v.size(), static_cast<double>(b));
        return end{b, tail.sum, tail.count, simd::rounded_product(d, static_cast<double>(b)) - tail.sum};
    };
    end lo = at(0), hi{largest, 0, 0, d * static_cast<double>(largest)};
    float next = simd::detail::float_at_least(lo.beyond / d); // not below the zero
    for (int same = 0; lo.count - hi.count > few;) {
        if (!(lo.b < next && next < hi.b) || same > 2 || same < -2) next = lo.b + (hi.b - lo.b) / 2;
        if (!(lo.b < next && next < hi.b)) break; // all that is left is equal
        const end found = at(next);
        if (found.f < 0) {
            lo = found;
            same = same < 0 ? 1 : same + 1;
            if (same > 1) hi.f /= 2;
        } else {
            hi = found;
            same = same > 0 ? -1 : same - 1;
            if (same < -1) lo.f /= 2;
        }
        const double part = lo.f / (lo.f - hi.f), across = static_cast<double>(hi.b) - static_cast<double>(lo.b);
        next = static_cast<float>(static_cast<double>(lo.b) + simd::rounded_product(part, across));
    }
    // What is left one by one, from the largest on.
    double sum = hi.beyond;
    float above = std::numeric_limits<float>::infinity();
    if (lo.count - hi.count <= few) {
        float left[few + simd::virtual_lanes];
        const std::size_t count = simd::copy_between<true>(v.data(), v.size(), lo.b, hi.b, left);
        detail::sort_sixteen(left, count);
        for (std::size_t k = count; k > 0; --k) {
            if (static_cast<double>(left[k - 1]) < sum / d) break;
            above = left[k - 1];
            sum += static_cast<double>(above);
        }
    } else if (!(static_cast<double>(hi.b) < sum / d)) {
        above = hi.b;
        sum = lo.beyond;
    }
    const double b = sum / d;
    return b < static_cast<double>(above) ? static_cast<float>(b) : above;
}

/// BinGrad-b: the two means around a threshold.
/// v [d] finite          workspace  levels_workspace_size(d, 2), for two_means alone
/// That the plain rule is the mean is a reconstruction. Errors: no_data, invalid_argument, non_finite "v", buffer_too_small "workspace".
/// Complexity: two passes; one (zero), a few (lloyd), a sort (two_means).
[[nodiscard]] inline result<two_levels> two_level_means(std::span<const float> v, threshold_rule rule,
                                                        std::span<std::byte> workspace = {}) noexcept {
    if (const status s = detail::check_bucket(v); !s) return s;
    const std::size_t n = v.size();
    const double total = simd::sum_of<simd::detail::term::value>(v.data(), n);
    if (!simd::finite(total)) return status{errc::non_finite, "v"};
    float threshold = 0;
    if (rule == threshold_rule::mean || rule == threshold_rule::lloyd) {
        threshold = simd::detail::float_at_least(total / static_cast<double>(n));
    } else if (rule == threshold_rule::two_means) {
        quant::detail::arena memory(workspace);
        detail::ordered_bucket bucket;
        if (const status s = detail::order_bucket(v, memory, bucket); !s) return s;
        threshold = bucket.value[0];
        double most = -1;
        for (std::size_t k = 1; k < n; ++k) {
            if (bucket.value[k - 1] == bucket.value[k]) continue;
            const double low = bucket.sum[k - 1], high = bucket.sum[n - 1] - low;
            const double gain = low * low / static_cast<double>(k) + high * high / static_cast<double>(n - k);
            if (gain > most) {
                most = gain;
                threshold = bucket.value[k];
            }
        }
    }
    const auto cut = [&] { return simd::split<false, false>(v.data(), n, threshold, nullptr); };
    simd::split_sums sums = cut();
    two_levels out = detail::means_of(sums, n, threshold, rule == threshold_rule::zero);
    if (rule == threshold_rule::lloyd)
        for (unsigned round = 0; round < 64; ++round) {
            threshold =
                simd::detail::float_at_least((static_cast<double>(out.low) + static_cast<double>(out.high)) / 2);
            const simd::split_sums next = cut();
            if (next.high_count == sums.high_count || next.high_count == 0 || next.high_count == n) break;
            sums = next;
            out = detail::means_of(sums, n, threshold, false);
        }
    return out;
}

/// The expected squared error of random rounding to the levels (G1), summed; what lies beyond them is clipped first, and that error counted.
/// v [d] finite          levels [1 … 256] ascending. Complexity: one pass, log(levels) per element.
[[nodiscard]] inline double expected_error(std::span<const float> v, std::span<const float> levels) noexcept {
    double sum = 0;
    if (levels.empty()) return sum;
    for (const float element : v) {
        const auto x = static_cast<double>(element);
        std::size_t up = 0; // the first level that is not below
        for (std::size_t last = levels.size(); up < last;) {
            const std::size_t middle = (up + last) / 2;
            if (levels[middle] < element)
                up = middle + 1;
            else
                last = middle;
        }
        const auto lo = static_cast<double>(levels[up == 0 ? 0 : up - 1]);
        const auto hi = static_cast<double>(levels[up == levels.size() ? up - 1 : up]);
        if (up == 0 || up == levels.size())
            sum += simd::rounded_product(x - (up == 0 ? hi : lo), x - (up == 0 ? hi : lo));
        else
            sum += simd::rounded_product(hi - x, x - lo);
    }
    return sum;
}

/// The squared error of the two means, summed.
[[nodiscard]] inline double squared_error(std::span<const float> v, const two_levels& levels) noexcept {
    double sum = 0;
    for (const float x : v) {
        const double e = static_cast<double>(x) - static_cast<double>(x >= levels.threshold ? levels.high : levels.low);
        sum += simd::rounded_product(e, e);
    }
    return sum;
}

} // namespace QUANT_TARGET_TAG
} // namespace gradients
QUANT_END_NAMESPACE
