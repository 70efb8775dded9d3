// SPDX-License-Identifier: MIT
#pragma once
// What quantization did to a tensor: mean squared error, SQNR, largest error, cosine, clipped fraction. Layer 3 (calibrate).
//
//   auto e = quant::measure_error(original, restored);            // result<error_measures>
//   auto e = quant::measure_error(original, codes, params);       // one pass, no restored tensor needed
//   auto e = quant::measure_error(w, codes, channel_params, quant::per_axis(0));
//
// Pairs with a NaN or an infinity are skipped and counted. Elements are read as float. Sums are exact sums of block sums
// (quant/calibrate/exact_sum.hpp): deterministic, and error_observer merges like the other observers.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/exact_sum.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/scalar.hpp>
#include <quant/simd/reduce.hpp>
#include <quant/simd/tiles.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE

/// The distance between a tensor and what its codes stand for; e = original - restored, over pairs of which both are finite.
struct error_measures {
    std::uint64_t count = 0;      ///< pairs measured
    std::uint64_t non_finite = 0; ///< pairs skipped
    double mse = 0;               ///< mean of e^2, in squared real units
    double sqnr_db =
        0; ///< 10 log10(sum of original^2 / sum of e^2); +infinity without error, else -infinity without signal
    double max_abs_error = 0; ///< largest |e|, in real units
    double cosine = 1;        ///< of the angle between the two; 1 when both are zero, 0 when one is
    double clipped_fraction =
        0; ///< of the elements more than half a step outside the codes' range; NaN when no range was given
};

/// What an error_observer knows. Plain data.
struct error_state {
    exact_square_sum squared_error;
    exact_square_sum squared_original;
    exact_square_sum squared_restored;
    exact_square_sum product;
    std::uint64_t count = 0;
    std::uint64_t non_finite = 0;
    std::uint64_t clipped = 0;
    std::uint64_t judged = 0; ///< finite elements compared with a range
    double max_abs_error = 0;
    friend constexpr bool operator==(const error_state&, const error_state&) = default;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET
namespace detail {

/// Base-2 logarithm of a normal positive double, to a few units in the last place; the same bytes everywhere, which the
/// logarithm of the C library does not promise.
inline double log2_of(double x) noexcept {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    auto exponent = static_cast<int>(bits >> 52) - 1023;
    double m = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        ++exponent;
    }
    const double s = (m - 1.0) / (m + 1.0); // ln m = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.172
    const double t = s * s;
    double series = 0;
    for (int k = 23; k >= 1; k -= 2) series = simd::rounded(series * t) + 1.0 / k;
    const double fraction = simd::rounded(simd::rounded(2.0 * s * series) * 1.4426950408889634);
    return static_cast<double>(exponent) + fraction;
}

template <class X>
concept code_viewable = viewable<X> && code_storage<element_of_t<X>>;

/// Which set of parameters the element at a row-major position has, and for how many elements on.
template <std::size_t Rank> class slice_runs {
public:
    slice_runs(const slice_map<Rank>& map, granularity g, const std::array<std::size_t, Rank>& extents) noexcept
        : map_(map), unit_(g.unit), extents_(extents) {
        for (std::size_t d = map.axis + 1; d < Rank; ++d) inner_ *= extents[d];
    }

    QUANT_INLINE void at(std::size_t position, std::size_t& slice, std::size_t& run) const noexcept {
        if (unit_ == granularity::kind::tensor) {
            slice = 0;
            run = std::numeric_limits<std::size_t>::max();
            return;
        }
        if (unit_ == granularity::kind::axis) {
            slice = position / inner_ % extents_[map_.axis];
            run = inner_ - position % inner_;
            return;
        }
        std::array<std::size_t, Rank> index{};
        for (std::size_t d = Rank; d-- > 0;) {
            index[d] = position % extents_[d];
            position /= extents_[d];
        }
        slice = map_.slice_of(index);
        run = 1;
        if (map_.axis == Rank - 1) {
            const std::size_t in_group = map_.group_size - index[Rank - 1] % map_.group_size;
            const std::size_t in_row = extents_[Rank - 1] - index[Rank - 1];
            run = in_group < in_row ? in_group : in_row;
        }
    }

private:
    slice_map<Rank> map_;
    granularity::kind unit_;
    std::array<std::size_t, Rank> extents_;
    std::size_t inner_ = 1;
};

} // namespace detail

/// Streaming error measures.
class error_observer {
public:
    error_observer() noexcept = default;
    /// Goes on from a saved state.
    explicit error_observer(const error_state& state) noexcept : state_(state) {}

    /// Takes in pairs of real values. Any layouts, any real element types. Errors: shape_mismatch "restored".
    template <class X, class Y>
        requires(detail::real_viewable<X>&& detail::real_viewable<Y>)
    status observe(const X& original, const Y& restored)
    noexcept {
        const auto x = detail::view_const(original);
        const auto y = detail::view_const(restored);
        static_assert(x.rank == y.rank, "error_observer: original and restored have different ranks");
        if (x.extents() != y.extents()) return {errc::shape_mismatch, "restored"};
        simd::for_each_tile(x, y,
                            [&](const float* p, const float* q, std::size_t n) { include(simd::error_sums(p, q, n)); });
        return {};
    }

    /// Takes in real values and their codes; restored = dequantize_one<float>(code, params) is formed tile by tile.
    /// params   one per slice of the granularity, in its order
    /// Errors: shape_mismatch ("codes", "params"), axis_out_of_range, invalid_group_size, and what validate(params) finds.
    template <class X, class C>
        requires(detail::real_viewable<X>&& detail::code_viewable<C>)
    status observe(const X& original, const C& codes, std::span<const affine_params> params, granularity g)
    noexcept {
        const auto x = detail::view_const(original);
        const auto c = detail::view_const(codes);
        static_assert(x.rank == c.rank, "error_observer: original and codes have different ranks");
        using reals = decltype(x);
        using integers = decltype(c);
        if (x.extents() != c.extents()) return {errc::shape_mismatch, "codes"};
        const auto map = resolve(g, x.extents());
        if (!map) return map.status();
        if (params.size() != map->count) return {errc::shape_mismatch, "params"};
        for (const affine_params& p : params)
            if (const status s = validate(p); !s) return s;

        const detail::slice_runs<reals::rank> runs(*map, g, x.extents());
        simd::tile_reader<typename reals::value_type, reals::rank> real_reader(x);
        simd::tile_reader<typename integers::value_type, integers::rank, std::int32_t> code_reader(c);
        float real_buffer[simd::tile_size], restored[simd::tile_size];
        std::int32_t code_buffer[simd::tile_size];
        std::size_t n = 0, position = 0;
        while (const float* p = real_reader.next(real_buffer, n)) {
            const std::int32_t* code = code_reader.next(code_buffer, n);
            for (std::size_t i = 0; i < n;) {
                std::size_t slice = 0, run = 0;
                runs.at(position + i, slice, run);
                if (run > n - i) run = n - i;
                const affine_params& own = params[slice];
                for (std::size_t k = i; k < i + run; ++k) restored[k] = dequantize_one<float>(code[k], own);
                const clip_range range = representable_range(own);
                const double half_step = 0.5 * static_cast<double>(own.scale);
                state_.clipped += simd::count_outside(p + i, run, range.lo - half_step, range.hi + half_step);
                i += run;
            }
            const simd::block_errors tile = simd::error_sums(p, restored, n);
            state_.judged += tile.count;
            include(tile);
            position += n;
        }
        return {};
    }
    /// The same with one set of parameters.
    template <class X, class C>
        requires(detail::real_viewable<X>&& detail::code_viewable<C>)
    status observe(const X& original, const C& codes, const affine_params& params)
    noexcept { return observe(original, codes, std::span<const affine_params>(&params, 1), per_tensor); }

    /// Takes in what another observer has seen. Associative and commutative to the byte; cannot fail.
    void merge(const error_observer& other) noexcept {
        const error_state& more = other.state_;
        state_.squared_error.merge(more.squared_error);
        state_.squared_original.merge(more.squared_original);
        state_.squared_restored.merge(more.squared_restored);
        state_.product.merge(more.product);
        state_.count += more.count;
        state_.non_finite += more.non_finite;
        state_.clipped += more.clipped;
        state_.judged += more.judged;
        state_.max_abs_error = simd::larger(state_.max_abs_error, more.max_abs_error);
    }

    /// The measures. Deterministic. Errors: no_data when there was no finite pair.
    [[nodiscard]] result<error_measures> measures() const noexcept {
        if (state_.count == 0) return status{errc::no_data, "original"};
        const auto n = static_cast<double>(state_.count);
        const double noise = state_.squared_error.to_double();
        const double signal = state_.squared_original.to_double();
        const double restored = state_.squared_restored.to_double();
        constexpr double infinity = std::numeric_limits<double>::infinity();
        error_measures out;
        out.count = state_.count;
        out.non_finite = state_.non_finite;
        out.mse = noise / n;
        out.max_abs_error = state_.max_abs_error;
        if (noise == 0)
            out.sqnr_db = infinity;
        else if (signal == 0)
            out.sqnr_db = -infinity;
        else
            out.sqnr_db = 3.010299956639812 * detail::log2_of(signal / noise);
        if (signal == 0 || restored == 0) {
            out.cosine = signal == restored ? 1 : 0;
        } else {
            const double cosine = state_.product.to_double() / (std::sqrt(signal) * std::sqrt(restored));
            out.cosine = cosine > 1 ? 1 : (cosine < -1 ? -1 : cosine);
        }
        out.clipped_fraction = state_.judged == 0
                                   ? std::numeric_limits<double>::quiet_NaN()
                                   : static_cast<double>(state_.clipped) / static_cast<double>(state_.judged);
        return out;
    }
    [[nodiscard]] const error_state& state() const noexcept { return state_; }

private:
    void include(const simd::block_errors& tile) noexcept {
        state_.squared_error.add(tile.squared_error);
        state_.squared_original.add(tile.squared_original);
        state_.squared_restored.add(tile.squared_restored);
        state_.product.add(tile.product);
        state_.count += tile.count;
        state_.non_finite += tile.non_finite;
        state_.max_abs_error = simd::larger(state_.max_abs_error, tile.max_abs_error);
    }

    error_state state_;
};

/// Error of a restored tensor. clipped_fraction is NaN: nothing says where the codes' range ends.
/// Errors: shape_mismatch "restored", no_data. One pass, no allocation, deterministic.
template <class X, class Y>
    requires(detail::real_viewable<X>&& detail::real_viewable<Y>)
[[nodiscard]] result<error_measures> measure_error(const X& original, const Y& restored) noexcept {
    error_observer observer;
    if (const status s = observer.observe(original, restored); !s) return s;
    return observer.measures();
}

/// Error of codes with one set of parameters. Errors: shape_mismatch "codes", no_data, what validate(params) finds.
template <class X, class C>
    requires(detail::real_viewable<X>&& detail::code_viewable<C>)
[[nodiscard]] result<error_measures> measure_error(const X& original, const C& codes,
                                                   const affine_params& params) noexcept {
    error_observer observer;
    if (const status s = observer.observe(original, codes, params); !s) return s;
    return observer.measures();
}

/// Error of codes with one set of parameters per slice. Errors: as above, shape_mismatch "params", those of the granularity.
template <class X, class C>
    requires(detail::real_viewable<X>&& detail::code_viewable<C>)
[[nodiscard]] result<error_measures> measure_error(const X& original, const C& codes,
                                                   std::span<const affine_params> params, granularity g) noexcept {
    error_observer observer;
    if (const status s = observer.observe(original, codes, params, g); !s) return s;
    return observer.measures();
}

QUANT_END_TARGET
