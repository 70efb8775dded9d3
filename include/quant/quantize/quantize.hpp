// SPDX-License-Identifier: MIT
#pragma once
// The user's verbs on views: quantize, dequantize, fake_quant, with parameters already chosen. Layer 4 (quantize).
//
//   auto params = quant::quantize(weights, codes);                        // result<affine_params>: min-max, symmetric
//   if (auto s = quant::dequantize(codes, restored, *params); !s) return s;
//   quant::quantize(w, codes, channel_params, quant::per_axis(0));        // one affine_params per slice of axis 0
//
// Definition and exactness: core/scalar.hpp, docs/numerics.md. All verbs are one pass, allocate nothing and throw nothing.
// Sources and destinations are anything quant::view accepts, with any strides; a one-dimensional dense side may stand for a
// tensor of any rank (row-major). Source and destination may be the same array where the types allow it (fake_quant), but
// must not overlap otherwise. Results larger than the last-level cache are written past it (options.stores). When every extent is part of the types (std::array, std::span<T, N>) the verbs return void: a
// mismatch of sizes is a compile error, and illegal parameters are a broken precondition.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quant/calibrate/minmax.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/quantize/transform.hpp>
#include <quant/quantize/traverse.hpp>
#include <quant/simd/quantize_kernels.hpp>
#include <quant/simd/tiles.hpp>
#include <span>

QUANT_BEGIN_TARGET
namespace detail {

[[maybe_unused]] inline constexpr const char* overlap_text =
    "quant: source and destination are one tensor or do not overlap";

/// Checks shared by the verbs; `map` receives the resolved granularity.
template <std::size_t Rank>
[[nodiscard]] inline status check_params(std::span<const affine_params> params, granularity g,
                                         const std::array<std::size_t, Rank>& extents, slice_map<Rank>& map) noexcept {
    const auto resolved = resolve(g, extents);
    if (!resolved) return resolved.status();
    map = *resolved;
    if (params.size() != map.count) return {errc::shape_mismatch, "params"};
    for (const affine_params& p : params)
        if (const status s = validate(p); !s) return s;
    return {};
}

template <code_storage Code>
[[nodiscard]] inline status check_storage(std::span<const affine_params> params, const char* argument) noexcept {
    for (const affine_params& p : params)
        if (!holds<Code>(p.format)) return {errc::storage_too_narrow, argument};
    return {};
}

/// Whether two tensors are one run with one set of legal parameters: what a call on a few elements has time for. Whatever else there
/// is, and every error, is the traversal's.
template <class S, class D, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] QUANT_INLINE bool is_one_run(const tensor_view<S, Rank>& src, const tensor_view<D, DstRank>& dst,
                                           std::span<const affine_params> params, granularity g) noexcept {
    if (g.unit != granularity::kind::tensor || params.size() != 1 || !validate(params[0])) return false;
    if constexpr (Rank == DstRank)
        if (src.extents() != dst.extents()) return false;
    return src.is_contiguous() && dst.is_contiguous() && src.size() == dst.size();
}

/// Calls kernel(in, out, n) for such tensors.
template <class S, class D, std::size_t Rank, std::size_t DstRank, class Kernel>
QUANT_INLINE void transform_whole(const tensor_view<S, Rank>& src, const tensor_view<D, DstRank>& dst,
                                  store_policy stores, const Kernel& kernel) noexcept {
    const std::size_t n = src.size();
    QUANT_EXPECTS(same_or_apart(tensor_view<S, 1>(src.data(), {n}), tensor_view<D, 1>(dst.data(), {n})), overlap_text);
    kernel(src.data(), dst.data(), n);
    if (simd::use_streaming(n * sizeof(D), stores)) simd::stream_fence();
}

/// The policy of a verb made a decision: every run of the tensor streams, or none does.
[[nodiscard]] QUANT_INLINE store_policy decided(std::size_t bytes_written, store_policy policy) noexcept {
    return simd::use_streaming(bytes_written, policy) ? store_policy::streaming : store_policy::cached;
}

/// Walks two tensors of equal extents with a kernel.
template <class In, class Out, class S, class D, std::size_t Rank, class Kernel>
inline void transform_views(const tensor_view<S, Rank>& src, const tensor_view<D, Rank>& dst,
                            const slice_map<Rank>& map, std::span<const affine_params> params, store_policy stores,
                            const Kernel& kernel) noexcept {
    transform<In, Out>(make_nest(src, dst, map), params, kernel);
    if (stores == store_policy::streaming) simd::stream_fence();
}

// The kernels of the verbs, run by run. They are not lambdas: a lambda's type would carry the ranks of the function it stands in,
// and all that walks a nest would be compiled anew for every rank.

/// Reals to codes.
template <class Real, class Code> struct quantize_kernel {
    quantize_options in_place_options, tile_options;
    /// `stores`: the decision for the whole tensor; tiles stay in the caches.
    quantize_kernel(const quantize_options& options, store_policy stores) noexcept
        : in_place_options(options), tile_options(options) {
        in_place_options.stores = stores;
        tile_options.stores = store_policy::cached;
    }
    template <class Params>
    void operator()(const Real* in, Code* out, std::size_t n, const Params& p, simd::index_run i,
                    const simd::run_rows& rows, bool in_place) const noexcept {
        simd::quantize(in, out, n, p, in_place ? in_place_options : tile_options, i, rows);
    }
};

/// Codes to reals.
template <class Code, class Real> struct dequantize_kernel {
    store_policy stores;
    template <class Params>
    void operator()(const Code* in, Real* out, std::size_t n, const Params& p, simd::index_run,
                    const simd::run_rows& rows, bool in_place) const noexcept {
        simd::dequantize(in, out, n, p, in_place ? stores : store_policy::cached, rows);
    }
};

/// Reals to the nearest representable ones.
template <class Real> struct fake_quant_kernel : quantize_kernel<Real, Real> {
    using quantize_kernel<Real, Real>::quantize_kernel;
    template <class Params>
    void operator()(const Real* in, Real* out, std::size_t n, const Params& p, simd::index_run i,
                    const simd::run_rows& rows, bool in_place) const noexcept {
        simd::fake_quant(in, out, n, p, in_place ? this->in_place_options : this->tile_options, i, rows);
    }
};

template <real_element T, code_storage Code, std::size_t Rank, std::size_t DstRank>
[[nodiscard, gnu::noinline]] inline status
quantize_runs(const tensor_view<const T, Rank>& src, const tensor_view<Code, DstRank>& dst,
              std::span<const affine_params> params, granularity g, const quantize_options& options) noexcept {
    slice_map<Rank> map;
    if (const status s = check_params(params, g, src.extents(), map); !s) return s;
    if (const status s = check_storage<Code>(params, "codes"); !s) return s;
    const auto codes = with_extents(dst, src.extents(), "codes");
    if (!codes) return codes.status();
    if (may_overlap(*codes)) return {errc::overlapping, "codes"};
    QUANT_EXPECTS(same_or_apart(src, *codes), overlap_text);
    using real = compute_t<T>;
    const store_policy stores = decided(src.size() * sizeof(Code), options.stores);
    transform_views<real, Code>(src, *codes, map, params, stores, quantize_kernel<real, Code>(options, stores));
    return {};
}
/// OneRun: the sizes are known and equal, so that what is not one run has parameters no code can be found with.
template <bool OneRun = false, real_element T, code_storage Code, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] inline status quantize_views(const tensor_view<const T, Rank>& src, const tensor_view<Code, DstRank>& dst,
                                           std::span<const affine_params> params, granularity g,
                                           const quantize_options& options) noexcept {
    if constexpr (std::same_as<T, compute_t<T>>) {
        if (is_one_run(src, dst, params, g) && holds<Code>(params[0].format)) {
            transform_whole(src, dst, options.stores, [&](const T* in, Code* out, std::size_t n) {
                simd::quantize(in, out, n, simd::uniform_params{params[0]}, options);
            });
            return {};
        }
        if constexpr (OneRun) return {errc::invalid_argument, "params"};
    }
    return quantize_runs(src, dst, params, g, options);
}

template <code_storage Code, real_element T, std::size_t Rank, std::size_t DstRank>
[[nodiscard, gnu::noinline]] inline status
dequantize_runs(const tensor_view<const Code, Rank>& src, const tensor_view<T, DstRank>& dst,
                std::span<const affine_params> params, granularity g, store_policy stores) noexcept {
    // The side with more dimensions says what an axis is.
    constexpr bool dst_leads = DstRank > Rank;
    constexpr std::size_t rank = dst_leads ? DstRank : Rank;
    std::array<std::size_t, rank> extents{};
    if constexpr (dst_leads)
        extents = dst.extents();
    else
        extents = src.extents();
    slice_map<rank> map;
    if (const status s = check_params(params, g, extents, map); !s) return s;
    const auto codes = with_extents(src, extents, "codes");
    if (!codes) return codes.status();
    const auto reals = with_extents(dst, extents, "dst");
    if (!reals) return reals.status();
    if (may_overlap(*reals)) return {errc::overlapping, "dst"};
    QUANT_EXPECTS(same_or_apart(*codes, *reals), overlap_text);
    using real = compute_t<T>;
    const store_policy own = decided(reals->size() * sizeof(T), stores);
    transform_views<Code, real>(*codes, *reals, map, params, own, dequantize_kernel<Code, real>{own});
    return {};
}
template <bool OneRun = false, code_storage Code, real_element T, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] inline status dequantize_views(const tensor_view<const Code, Rank>& src,
                                             const tensor_view<T, DstRank>& dst, std::span<const affine_params> params,
                                             granularity g, store_policy stores) noexcept {
    if constexpr (std::same_as<T, compute_t<T>>) {
        if (is_one_run(src, dst, params, g)) {
            transform_whole(src, dst, stores, [&](const Code* in, T* out, std::size_t n) {
                simd::dequantize(in, out, n, simd::uniform_params{params[0]}, stores);
            });
            return {};
        }
        if constexpr (OneRun) return {errc::invalid_argument, "params"};
    }
    return dequantize_runs(src, dst, params, g, stores);
}

template <real_element T, std::size_t Rank, std::size_t DstRank>
[[nodiscard, gnu::noinline]] inline status
fake_quant_runs(const tensor_view<const T, Rank>& src, const tensor_view<T, DstRank>& dst,
                std::span<const affine_params> params, granularity g, const quantize_options& options) noexcept {
    slice_map<Rank> map;
    if (const status s = check_params(params, g, src.extents(), map); !s) return s;
    const auto out_view = with_extents(dst, src.extents(), "dst");
    if (!out_view) return out_view.status();
    if (may_overlap(*out_view)) return {errc::overlapping, "dst"};
    QUANT_EXPECTS(same_or_apart(src, *out_view), overlap_text);
    using real = compute_t<T>;
    const store_policy stores = decided(src.size() * sizeof(T), options.stores);
    transform_views<real, real>(src, *out_view, map, params, stores, fake_quant_kernel<real>(options, stores));
    return {};
}
template <real_element T, real_element U, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] inline status fake_quant_views(const tensor_view<const T, Rank>& src, const tensor_view<U, DstRank>& dst,
                                             std::span<const affine_params> params, granularity g,
                                             const quantize_options& options) noexcept {
    static_assert(std::same_as<T, U>, "quant::fake_quant: source and destination have the same element type");
    if constexpr (std::same_as<T, compute_t<T>>) {
        if (is_one_run(src, dst, params, g)) {
            transform_whole(src, dst, options.stores, [&](const T* in, T* out, std::size_t n) {
                simd::fake_quant(in, out, n, simd::uniform_params{params[0]}, options);
            });
            return {};
        }
    }
    return fake_quant_runs(src, dst, params, g, options);
}

/// Both sizes known to the compiler: nothing left that could go wrong at run time but the parameters.
template <class A, class B>
inline constexpr bool static_sizes =
    core_detail::static_size<std::remove_cvref_t<A>> !=
    std::dynamic_extent&& core_detail::static_size<std::remove_cvref_t<B>> != std::dynamic_extent;

template <class A, class B, class F> QUANT_INLINE auto checked(F verb) noexcept {
    if constexpr (static_sizes<A, B>) {
        static_assert(core_detail::static_size<std::remove_cvref_t<A>> ==
                          core_detail::static_size<std::remove_cvref_t<B>>,
                      "quant: source and destination have different sizes");
        [[maybe_unused]] const status s = verb();
        QUANT_EXPECTS(static_cast<bool>(s), "quant: legal parameters whose codes fit the element type");
    } else {
        return verb();
    }
}

} // namespace detail

/// Codes of real values, one set of parameters for the whole tensor; equation (1) of core/scalar.hpp.
/// src     real values, any strides           codes   same extents (or dense and one-dimensional)
/// params  scale in real units per code       options rounding, division or reciprocal, seed
/// Returns ok | bits_out_of_range | invalid_scale | invalid_zero_point | storage_too_narrow | shape_mismatch | overlapping;
/// nothing is written unless ok. Exactness: bit-exact. Cost: one pass.
template <viewable Src, destination Codes>
    requires(real_element<element_of_t<Src>>&& code_storage<element_of_t<Codes>>)
inline auto quantize(const Src& src, Codes&& codes, const affine_params& params,
                     const quantize_options& options = {}) noexcept {
    return detail::checked<Src, Codes>([&] {
        return detail::quantize_views<detail::static_sizes<Src, Codes>>(detail::view_const(src), v0_1::view(codes),
                                                                        std::span(&params, 1), per_tensor, options);
    });
}

/// The same with one set of parameters per slice: params[s] belongs to slice s of the granularity, which also may differ in
/// format (bit widths per channel). Further errors: axis_out_of_range, invalid_group_size, shape_mismatch "params".
template <viewable Src, destination Codes>
    requires(real_element<element_of_t<Src>>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline status quantize(const Src& src, Codes&& codes, std::span<const affine_params> params,
                                     granularity g, const quantize_options& options = {}) noexcept {
    return detail::quantize_views(detail::view_const(src), v0_1::view(codes), params, g, options);
}

/// Real values of codes; equation (2): (code - zero_point) * scale, rounded once to the destination's type.
/// codes   any strides       dst   same extents (or either side dense and one-dimensional); float, double, float16, bfloat16
/// stores  ordinary or streaming stores, by the size of the result unless it says otherwise
/// Errors as for quantize. A code outside its format is not an error: equation (2) is defined for every integer.
template <viewable Codes, destination Dst>
    requires(code_storage<element_of_t<Codes>>&& real_element<element_of_t<Dst>>)
inline auto dequantize(const Codes& codes, Dst&& dst, const affine_params& params, store_policy stores = {}) noexcept {
    return detail::checked<Codes, Dst>([&] {
        return detail::dequantize_views<detail::static_sizes<Codes, Dst>>(detail::view_const(codes), v0_1::view(dst),
                                                                          std::span(&params, 1), per_tensor, stores);
    });
}

/// The same with one set of parameters per slice.
template <viewable Codes, destination Dst>
    requires(code_storage<element_of_t<Codes>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] inline status dequantize(const Codes& codes, Dst&& dst, std::span<const affine_params> params,
                                       granularity g, store_policy stores = {}) noexcept {
    return detail::dequantize_views(detail::view_const(codes), v0_1::view(dst), params, g, stores);
}

/// The nearest representable real values: dequantize(quantize(src)) without the codes. src and dst may be the same tensor.
template <viewable Src, destination Dst>
    requires(real_element<element_of_t<Src>>&& real_element<element_of_t<Dst>>)
inline auto fake_quant(const Src& src, Dst&& dst, const affine_params& params,
                       const quantize_options& options = {}) noexcept {
    return detail::checked<Src, Dst>([&] {
        return detail::fake_quant_views(detail::view_const(src), v0_1::view(dst), std::span(&params, 1), per_tensor,
                                        options);
    });
}

/// The same with one set of parameters per slice.
template <viewable Src, destination Dst>
    requires(real_element<element_of_t<Src>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] inline status fake_quant(const Src& src, Dst&& dst, std::span<const affine_params> params, granularity g,
                                       const quantize_options& options = {}) noexcept {
    return detail::fake_quant_views(detail::view_const(src), v0_1::view(dst), params, g, options);
}

/// Min-max, symmetric, per tensor, in the destination type's own full-range format: finds the range, then quantizes.
/// Returns the parameters. NaN and infinities do not widen the range. An empty tensor gives scale 1. Cost: two passes.
template <viewable Src, destination Codes>
    requires(real_element<element_of_t<Src>>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] inline result<affine_params> quantize(const Src& src, Codes&& codes,
                                                    const quantize_options& options = {}) noexcept {
    minmax_observer observer;
    observer.observe(src);
    const result<clip_range> range = observer.clip();
    const result<affine_params> params =
        choose_params(range ? *range : clip_range{}, full_range_format<element_of_t<Codes>>, mapping::symmetric);
    if (!params) return params;
    const status s =
        detail::quantize_views(detail::view_const(src), v0_1::view(codes), std::span(&*params, 1), per_tensor, options);
    if (!s) return s;
    return params;
}

QUANT_END_TARGET
