// SPDX-License-Identifier: MIT
#pragma once
// Rows of one weight matrix in different schemes: powers of two, whose products are shifts, and even steps of 4 or 8 bits, in a ratio
// that is the same for every layer. Layer 4 (quantize).
//
//   std::vector<rmsmp::row_scheme> scheme(rows);   std::vector<std::uint32_t> order(rows);
//   auto counts = rmsmp::assign_rows(curvature, variance, {65, 30, 5}, scheme, order);
//   auto s = rmsmp::project(w, projected, scheme, scales);                  // w [rows, cols], scales: 1, or one per row
//   s = rmsmp::encode(w, codes, scheme, scales);                            // sign and index, int8
//   auto sum = rmsmp::shift_add_dot(codes_of_a_row, x);                     // times alpha 2^-6 s_x: no multiplication
//
//   fixed(m):         +-alpha {0, 1/n, 2/n, …, 1},              n = 2^(m-1) - 1,   code +-j, step alpha / n               (L1)
//   power_of_two(m):  +-alpha {0, 2^-E, …, 1/2, 1},             E = 2^(m-1) - 2,   code +-j means 2^(j-1) alpha 2^-E       (L2)
//
// Paper: Chang et al. 2021, "RMSMP: A Novel Deep Neural Network Quantization Framework with Row-wise Mixed Schemes and Multiple
// Precisions", arXiv 2111.00153. The level sets, the choice of the scale and the direction "little variance, powers of two" are
// reconstructed from the group's earlier papers (docs/training_methods.md).

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/calibrate/heap.hpp>
#include <quant/core/code_format.hpp>
#include <quant/core/convert.hpp>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/row_kernels.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace rmsmp {

/// What the levels of a row are.
enum class row_kind : std::uint8_t { power_of_two, fixed };

/// The scheme of one row: (L1) with 2 to 8 bits or (L2) with 2 to 4.
struct row_scheme {
    row_kind kind = row_kind::fixed;
    std::uint8_t bits = 4;

    [[nodiscard]] QUANT_INLINE constexpr bool operator==(const row_scheme&) const noexcept = default;
    /// The largest code.
    [[nodiscard]] QUANT_INLINE constexpr int largest_code() const noexcept { return (1 << (bits - 1)) - 1; }
    /// E of (L2), 0 for even steps.
    [[nodiscard]] QUANT_INLINE constexpr int deepest() const noexcept {
        return kind == row_kind::power_of_two ? largest_code() - 1 : 0;
    }
    /// Units of the step in alpha: n or 2^E.
    [[nodiscard]] QUANT_INLINE constexpr int units() const noexcept {
        return kind == row_kind::power_of_two ? 1 << deepest() : largest_code();
    }
    /// The integer a code stands for, in units of alpha / units().
    [[nodiscard]] QUANT_INLINE constexpr int integer_of(int code) const noexcept {
        if (kind == row_kind::fixed || code == 0) return code;
        return code < 0 ? -(1 << (-code - 1)) : 1 << (code - 1);
    }
};
inline constexpr row_scheme pot4{row_kind::power_of_two, 4};
inline constexpr row_scheme fixed4{row_kind::fixed, 4};
inline constexpr row_scheme fixed8{row_kind::fixed, 8};

/// Which power of two a weight goes to. They differ between 0.7071 and 0.75 times a power of two.
enum class nearest_in : std::uint8_t {
    linear,    ///< the nearest level, in the middle the smaller one
    logarithm, ///< the nearest exponent; below 2^(-E - 1/2) zero
};

/// Parts of the rows: any unit, 65 : 30 : 5 or 60 : 35 : 5 in the paper.
struct scheme_ratio {
    std::uint32_t power_of_two = 65, fixed4 = 30, fixed8 = 5;
};
/// Rows of each scheme.
struct scheme_counts {
    std::size_t power_of_two = 0, fixed4 = 0, fixed8 = 0;
    [[nodiscard]] QUANT_INLINE constexpr bool operator==(const scheme_counts&) const noexcept = default;
};

/// The most products whose sum of shifts fits int32.
inline constexpr std::size_t most_shift_add = 262143;

inline namespace QUANT_TARGET_TAG {
namespace detail {

/// The largest floats below sqrt(1/2): what is above them is above it.
template <class T> inline constexpr T below_sqrt_half = static_cast<T>(0x1.6a09e6p-1f);
template <> inline constexpr double below_sqrt_half<double> = 0x1.6a09e667f3bccp-1;

[[nodiscard]] QUANT_INLINE bool legal(row_scheme s) noexcept {
    return s.bits >= 2 && s.bits <= (s.kind == row_kind::power_of_two ? 4 : 8);
}

template <class T>
[[nodiscard]] inline simd::row_levels<T> levels_of(row_scheme s, T scale, nearest_in domain) noexcept {
    simd::row_levels<T> r;
    r.scale = scale;
    if (s.kind == row_kind::fixed) {
        r.levels = static_cast<T>(s.largest_code());
        r.step = static_cast<T>(static_cast<double>(scale) / s.largest_code());
        return r;
    }
    r.powers = s.largest_code();
    T value = T(1) / static_cast<T>(s.units()); // exact
    for (int j = 1; j <= r.powers; ++j, value *= 2) {
        r.value[j] = value;
        r.threshold[j] = value * (domain == nearest_in::logarithm ? below_sqrt_half<T>
                                  : j == 1                        ? T(0.5)
                                                                  : T(0.75)); // exact
    }
    return r;
}

template <class T>
[[nodiscard]] inline status check_rows(const tensor_view<const T, 2>& w, std::span<const row_scheme> scheme,
                                       std::span<const T> scales) noexcept {
    if (!w.is_contiguous()) return {errc::invalid_stride, "w"};
    if (scheme.size() != w.extent(0)) return {errc::shape_mismatch, "scheme"};
    if (scales.size() != 1 && scales.size() != w.extent(0)) return {errc::shape_mismatch, "scales"};
    for (const row_scheme& s : scheme)
        if (!legal(s)) return {errc::bits_out_of_range, "scheme"};
    for (const T scale : scales)
        if (!(scale >= static_cast<T>(min_scale) && scale <= static_cast<T>(max_scale)))
            return {errc::invalid_scale, "scales"};
    return {};
}

} // namespace detail

/// Weights rounded to the levels of their rows.
/// w  [rows, cols] dense, float or double       projected  the same extents, dense, may be `w`
/// scheme  one per row       scales  alpha: 1, or one per row, in [2^-100, 2^100]; larger weights are clipped to it
/// Fixed rows are exactly code * (alpha / n) with the quotient rounded to T, power-of-two rows exactly alpha 2^-e. NaN gives NaN.
/// Errors: invalid_stride, shape_mismatch, bits_out_of_range "scheme", invalid_scale "scales"; nothing is written then.
/// Exactness: the same bytes on every architecture; the quotient |w| / alpha (fixed rows: by alpha / n) is
/// rounded to T before its level is looked for. Complexity: one pass.
template <viewable W, destination Projected>
    requires(std::floating_point<element_of_t<W>>&& std::same_as<element_of_t<W>, element_of_t<Projected>>)
[[nodiscard]] inline status project(const W& w, Projected&& projected, std::span<const row_scheme> scheme,
                                    std::span<const element_of_t<W>> scales,
                                    nearest_in domain = nearest_in::linear) noexcept {
    using T = element_of_t<W>;
    const tensor_view<const T, 2> from = v0_1::view(w);
    const tensor_view<T, 2> to = v0_1::view(projected);
    if (const status s = detail::check_rows<T>(from, scheme, scales); !s) return s;
    if (to.extents() != from.extents()) return {errc::shape_mismatch, "projected"};
    if (!to.is_contiguous()) return {errc::invalid_stride, "projected"};
    const std::size_t cols = from.extent(1);
    for (std::size_t r = 0; r < from.extent(0); ++r)
        simd::round_rows<T, simd::row_output::values>(
            from.data() + r * cols, to.data() + r * cols, cols,
            detail::levels_of<T>(scheme[r], scales[scales.size() == 1 ? 0 : r], domain));
    return {};
}

/// The codes of the same levels: sign times index, |code| <= 7 (4 bits) or 127, which fit quant::packing. A weight is
/// row_scheme::integer_of(code) * (alpha / units). NaN gives 0.
/// codes  [rows, cols] int8, dense. The rest, the errors and the cost are project's.
template <viewable W, destination Codes>
    requires(std::floating_point<element_of_t<W>>&& std::same_as<element_of_t<Codes>, std::int8_t>)
[[nodiscard]] inline status encode(const W& w, Codes&& codes, std::span<const row_scheme> scheme,
                                   std::span<const element_of_t<W>> scales,
                                   nearest_in domain = nearest_in::linear) noexcept {
    using T = element_of_t<W>;
    const tensor_view<const T, 2> from = v0_1::view(w);
    const tensor_view<std::int8_t, 2> to = v0_1::view(codes);
    if (const status s = detail::check_rows<T>(from, scheme, scales); !s) return s;
    if (to.extents() != from.extents()) return {errc::shape_mismatch, "codes"};
    if (!to.is_contiguous()) return {errc::invalid_stride, "codes"};
    constexpr std::size_t tile = 512;
    T whole[tile];
    const std::size_t cols = from.extent(1);
    for (std::size_t r = 0; r < from.extent(0); ++r) {
        const auto levels = detail::levels_of<T>(scheme[r], scales[scales.size() == 1 ? 0 : r], domain);
        for (std::size_t at = 0; at < cols; at += tile) {
            const std::size_t count = cols - at < tile ? cols - at : tile, first = r * cols + at;
            simd::round_rows<T, simd::row_output::codes>(from.data() + first, whole, count, levels);
            for (std::size_t i = 0; i < count; ++i)
                to.data()[first + i] = whole[i] == whole[i] ? static_cast<std::int8_t>(whole[i]) : std::int8_t{0};
        }
    }
    return {};
}

/// How many of `rows` rows get which scheme: by largest remainder, in equal cases the first named; the sum is `rows`. With at_least_one
/// and more than one row a fixed8 row is taken from the larger of the others where there is none.
/// Errors: invalid_argument "ratio" (all parts zero). Complexity: constant.
[[nodiscard]] inline result<scheme_counts> count_rows(std::size_t rows, const scheme_ratio& ratio,
                                                      bool at_least_one = true) noexcept {
    const std::uint64_t part[3] = {ratio.power_of_two, ratio.fixed4, ratio.fixed8};
    const std::uint64_t sum = part[0] + part[1] + part[2];
    if (sum == 0 || rows > 0xFFFFFFFFu) return status{errc::invalid_argument, sum == 0 ? "ratio" : "rows"};
    std::size_t count[3] = {}, given = 0;
    std::uint64_t rest[3] = {};
    for (int k = 0; k < 3; ++k) { // sum < 2^34 and rows < 2^32 would overflow: whole rows and the rest apart
        const std::uint64_t whole = rows / sum, less = rows % sum, product = less * part[k];
        count[k] = core_detail::convert<std::size_t>(whole * part[k] + product / sum);
        rest[k] = product % sum;
        given += count[k];
    }
    for (; given < rows; ++given) {
        const int most = rest[0] >= rest[1] && rest[0] >= rest[2] ? 0 : rest[1] >= rest[2] ? 1 : 2;
        ++count[most];
        rest[most] = 0;
    }
    if (at_least_one && rows > 1 && count[2] == 0) {
        --count[count[0] >= count[1] ? 0 : 1];
        ++count[2];
    }
    return scheme_counts{count[0], count[1], count[2]};
}

/// Schemes of rows at a fixed ratio: the fixed8 rows are those of the largest `curvature`; of the rest the rows of the least `score`
/// are powers of two, the others fixed4. Equal values: the lower row first.
/// curvature  [rows] largest eigenvalue of the Hessian's block of a row, or any rank of importance
/// score      [rows] the variance of the weights of a row; with a scale per row, variance / alpha^2, or the error as power of two less the
///            error as fixed4: under a scale of its own a Gaussian row is better off with even steps however little it varies
/// scheme     [rows] written      order  [rows] written: the rows grouped by scheme (powers of two, fixed4, fixed8), ascending in each
/// Errors: shape_mismatch, non_finite "curvature" or "score" (NaN), invalid_argument "ratio"; nothing is written then.
/// Complexity: O(rows log rows), no allocation.
[[nodiscard]] inline result<scheme_counts> assign_rows(std::span<const double> curvature, std::span<const double> score,
                                                       const scheme_ratio& ratio, std::span<row_scheme> scheme,
                                                       std::span<std::uint32_t> order,
                                                       bool at_least_one = true) noexcept {
    const std::size_t rows = scheme.size();
    if (curvature.size() != rows) return status{errc::shape_mismatch, "curvature"};
    if (score.size() != rows) return status{errc::shape_mismatch, "score"};
    if (order.size() != rows) return status{errc::shape_mismatch, "order"};
    for (const double c : curvature)
        if (!(c == c)) return status{errc::non_finite, "curvature"};
    for (const double c : score)
        if (!(c == c)) return status{errc::non_finite, "score"};
    const auto counts = count_rows(rows, ratio, at_least_one);
    if (!counts) return counts;
    for (std::size_t r = 0; r < rows; ++r) order[r] = static_cast<std::uint32_t>(r);
    v0_1::detail::sort_by(order.data(), rows, [&](std::uint32_t a, std::uint32_t b) noexcept {
        return curvature[a] > curvature[b] || (curvature[a] == curvature[b] && a < b);
    });
    v0_1::detail::sort_by(order.data() + counts->fixed8, rows - counts->fixed8,
                          [&](std::uint32_t a, std::uint32_t b) noexcept {
                              return score[a] < score[b] || (score[a] == score[b] && a < b);
                          });
    for (std::size_t i = 0; i < rows; ++i)
        scheme[order[i]] = i < counts->fixed8 ? fixed8 : i < counts->fixed8 + counts->power_of_two ? pot4 : fixed4;
    std::size_t at = 0;
    for (const row_scheme& wanted : {pot4, fixed4, fixed8})
        for (std::size_t r = 0; r < rows; ++r)
            if (scheme[r] == wanted) order[at++] = static_cast<std::uint32_t>(r);
    return counts;
}

/// The sum of sign(c) 2^(|c| - 1) x over the codes of a power-of-two row, made of shifts and additions alone; times alpha 2^-E and the
/// scale of the activations it is the real sum.
/// codes  [n] of a row of up to 4 bits, |code| <= 7: others give some other integer        x  [n] codes of activations
/// Errors: shape_mismatch "x", invalid_argument "codes" (more than most_shift_add). Exactness: exact. Complexity: one pass.
[[nodiscard]] inline result<std::int32_t> shift_add_dot(std::span<const std::int8_t> codes,
                                                        std::span<const std::int8_t> x) noexcept {
    if (x.size() != codes.size()) return status{errc::shape_mismatch, "x"};
    if (codes.size() > most_shift_add) return status{errc::invalid_argument, "codes"};
    return simd::shift_add<simd::native>(codes.data(), x.data(), x.size());
}

/// The integers that the codes of one row stand for, at most 2^6 in magnitude: weights for quant::gemv, which is faster than shifts on
/// processors that multiply bytes (docs/training_methods.md has the figures).
/// codes, integers  [n] int8; may be the same. Codes beyond those of the scheme give some other integer.
/// Errors: shape_mismatch "integers", bits_out_of_range "scheme".
[[nodiscard]] inline status integers_of_codes(std::span<const std::int8_t> codes, std::span<std::int8_t> integers,
                                              row_scheme scheme) noexcept {
    if (integers.size() != codes.size()) return {errc::shape_mismatch, "integers"};
    if (!detail::legal(scheme)) return {errc::bits_out_of_range, "scheme"};
    for (std::size_t i = 0; i < codes.size(); ++i) {
        const int code = +codes[i], most = scheme.largest_code();
        integers[i] = static_cast<std::int8_t>(scheme.integer_of(code > most ? most : code < -most ? -most : code));
    }
    return {};
}

/// Largest |w| of each row, 1 for a row of zeros: scales that clip nothing.
/// w  [rows, cols] finite, dense        scales  [rows] written, or 1 for the whole matrix
/// Errors: invalid_stride, shape_mismatch "scales", non_finite "w", scale_out_of_range "w"; nothing is written then.
template <viewable W>
    requires(std::floating_point<element_of_t<W>>)
[[nodiscard]] inline status largest_of_rows(const W& w, std::span<element_of_t<W>> scales) noexcept {
    using T = element_of_t<W>;
    const tensor_view<const T, 2> from = v0_1::view(w);
    if (!from.is_contiguous()) return {errc::invalid_stride, "w"};
    if (scales.empty() || (scales.size() != 1 && scales.size() != from.extent(0)))
        return {errc::shape_mismatch, "scales"};
    const std::size_t length = from.size() / scales.size();
    const auto largest = [&](std::size_t r) noexcept {
        T most = T(0);
        for (std::size_t i = r * length; i < (r + 1) * length; ++i) {
            const T size = simd::magnitude(from.data()[i]);
            if (!(size <= most)) most = size; // NaN stays: nothing is below it
        }
        return most == T(0) ? T(1) : most;
    };
    for (std::size_t i = 0; i < from.size(); ++i)
        if (!core_detail::is_finite(static_cast<double>(from.data()[i]))) return {errc::non_finite, "w"};
    for (std::size_t r = 0; r < scales.size(); ++r)
        if (!(largest(r) >= static_cast<T>(min_scale) && largest(r) <= static_cast<T>(max_scale)))
            return {errc::scale_out_of_range, "w"};
    for (std::size_t r = 0; r < scales.size(); ++r) scales[r] = largest(r);
    return {};
}

/// Squared error of one row under a scheme and scale, in double.
/// row  [cols] finite, dense. Errors: bits_out_of_range "scheme", invalid_scale "scale", invalid_stride.
template <viewable Row>
    requires(std::floating_point<element_of_t<Row>>)
[[nodiscard]] inline result<double> row_error(const Row& row, row_scheme scheme, element_of_t<Row> scale,
                                              nearest_in domain = nearest_in::linear) noexcept {
    using T = element_of_t<Row>;
    const auto from = v0_1::view(row);
    const tensor_view<const T, 2> w(from.data(), {1, from.size()});
    if (!from.is_contiguous()) return status{errc::invalid_stride, "row"};
    if (const status s = detail::check_rows<T>(w, {&scheme, 1}, {&scale, 1}); !s)
        return status{s.code, s.code == errc::invalid_scale ? "scale" : s.argument};
    constexpr std::size_t tile = 512;
    T rounded[tile];
    double sum = 0;
    const auto levels = detail::levels_of<T>(scheme, scale, domain);
    for (std::size_t at = 0; at < from.size(); at += tile) {
        const std::size_t count = from.size() - at < tile ? from.size() - at : tile;
        simd::round_rows<T, simd::row_output::values>(from.data() + at, rounded, count, levels);
        for (std::size_t i = 0; i < count; ++i) {
            const double e = static_cast<double>(from.data()[at + i]) - static_cast<double>(rounded[i]);
            sum += simd::rounded(e * e);
        }
    }
    return sum;
}

/// The scale of least squared error for a row of powers of two: 48 starts over three octaves below the largest weight, each improved
/// by alpha = <w, l> / <l, l> while that helps. Never worse than the largest weight. For even steps fit_point is exact.
/// row  [cols] finite, dense. Zeros give 1. Errors: those of row_error; non_finite "row", scale_out_of_range "row".
/// Complexity: at most 48 * 8 passes.
template <viewable Row>
    requires(std::floating_point<element_of_t<Row>>)
[[nodiscard]] inline result<element_of_t<Row>> fit_power_of_two_scale(const Row& row, int bits = 4) noexcept {
    using T = element_of_t<Row>;
    const auto from = v0_1::view(row);
    if (!from.is_contiguous()) return status{errc::invalid_stride, "row"};
    const row_scheme scheme{row_kind::power_of_two, static_cast<std::uint8_t>(bits)};
    if (bits < 2 || bits > 4) return status{errc::bits_out_of_range, "bits"};
    T largest[1];
    if (const status s = largest_of_rows(tensor_view<const T, 2>(from.data(), {1, from.size()}), largest); !s)
        return status{s.code, "row"};
    const auto error_at = [&](T scale) noexcept { return *row_error(from, scheme, scale); };
    T best = largest[0];
    double least = error_at(best);
    double factor = 1;
    for (int k = 0; k < 48; ++k, factor *= 0.957603280698573647) { // 2^(-1/16)
        T scale = static_cast<T>(static_cast<double>(largest[0]) * factor);
        double last = 0;
        for (int round = 0; round < 8; ++round) {
            if (!(scale >= static_cast<T>(min_scale) && scale <= static_cast<T>(max_scale))) break;
            const double error = error_at(scale);
            if (error < least) {
                least = error;
                best = scale;
            }
            if (round != 0 && !(error < last)) break;
            last = error;
            double product = 0, squares = 0;
            const auto levels = detail::levels_of<T>(scheme, scale, nearest_in::linear);
            for (std::size_t i = 0; i < from.size(); ++i) {
                const T w = from.data()[i];
                const double level =
                    static_cast<double>(simd::detail::level_of<T, simd::scalar, true>(w, levels).level);
                product += simd::rounded(static_cast<double>(simd::magnitude(w)) * level);
                squares += simd::rounded(level * level);
            }
            if (!(squares > 0)) break;
            scale = static_cast<T>(product / squares);
        }
    }
    return best;
}

/// Variance of the weights of each row, sum (w - mean)^2 / cols, in double.
/// w  [rows, cols] finite, dense        variance  [rows] written. Errors: invalid_stride, shape_mismatch "variance".
template <viewable W>
    requires(std::floating_point<element_of_t<W>>)
[[nodiscard]] inline status row_variances(const W& w, std::span<double> variance) noexcept {
    using T = element_of_t<W>;
    const tensor_view<const T, 2> from = v0_1::view(w);
    if (!from.is_contiguous()) return {errc::invalid_stride, "w"};
    if (variance.size() != from.extent(0)) return {errc::shape_mismatch, "variance"};
    const std::size_t cols = from.extent(1);
    for (std::size_t r = 0; r < from.extent(0); ++r) {
        const T* const row = from.data() + r * cols;
        double mean = 0, squares = 0;
        for (std::size_t i = 0; i < cols; ++i) mean += static_cast<double>(row[i]);
        mean /= cols == 0 ? 1 : static_cast<double>(cols);
        for (std::size_t i = 0; i < cols; ++i) {
            const double away = static_cast<double>(row[i]) - mean;
            squares += simd::rounded(away * away);
        }
        variance[r] = cols == 0 ? 0 : squares / static_cast<double>(cols);
    }
    return {};
}

} // namespace QUANT_TARGET_TAG
} // namespace rmsmp
QUANT_END_NAMESPACE
