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
//
// In constant expressions the verbs evaluate the definition, element by element: small tables become codes when they are compiled.
//
//   constexpr auto window = [] {
//       std::array<std::int8_t, 4> codes{};
//       quantize(std::array{0.0f, 0.5f, 1.0f, 0.5f}, codes, quant::symmetric(1.0f, quant::int8));
//       return codes;
//   }();
//   static_assert(window[2] == 127);

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
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

[[maybe_unused]] inline constexpr const char* overlap_text =
    "quant: source and destination are one tensor or do not overlap";

/// Checks shared by the verbs; `map` receives the resolved granularity.
template <std::size_t Rank>
[[nodiscard]] constexpr status check_params(std::span<const affine_params> params, granularity g,
                                            const std::array<std::size_t, Rank>& extents,
                                            slice_map<Rank>& map) noexcept {
    const auto resolved = resolve(g, extents);
    if (!resolved) return resolved.status();
    map = *resolved;
    if (params.size() != map.count) return {errc::shape_mismatch, "params"};
    for (const affine_params& p : params)
        if (const status s = validate(p); !s) return s;
    return {};
}

template <code_storage Code>
[[nodiscard]] constexpr status check_storage(std::span<const affine_params> params, const char* argument) noexcept {
    for (const affine_params& p : params)
        if (!holds<Code>(p.format)) return {errc::storage_too_narrow, argument};
    return {};
}

/// A source and a destination of the same extents, and which parameters an element has.
template <class S, class D, std::size_t Rank> struct tensor_pair {
    tensor_view<S, Rank> src;
    tensor_view<D, Rank> dst;
    slice_map<Rank> map;
};

/// Makes such a pair of views and checks the parameters. The source's extents count; with EitherLeads those of the side with more
/// dimensions, which says what an axis is. The names are those of the arguments, for errors.
template <bool EitherLeads, class S, class D, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr auto paired(const tensor_view<S, Rank>& src, const tensor_view<D, DstRank>& dst,
                                    std::span<const affine_params> params, granularity g, const char* src_name,
                                    const char* dst_name) noexcept {
    constexpr bool dst_leads = EitherLeads && DstRank > Rank;
    constexpr std::size_t rank = std::conditional_t<dst_leads, tensor_view<D, DstRank>, tensor_view<S, Rank>>::rank;
    using pair = tensor_pair<S, D, rank>;
    std::array<std::size_t, rank> extents{};
    if constexpr (dst_leads)
        extents = dst.extents();
    else
        extents = src.extents();
    slice_map<rank> map;
    if (const status s = check_params(params, g, extents, map); !s) return result<pair>(s);
    const auto from = with_extents(src, extents, src_name);
    if (!from) return result<pair>(from.status());
    const auto to = with_extents(dst, extents, dst_name);
    if (!to) return result<pair>(to.status());
    return result<pair>(pair{*from, *to, map});
}

/// What a constant expression evaluates instead of kernels: f(element, element, parameters, index), in the order of the index.
template <class S, class D, std::size_t Rank, class F>
constexpr void for_each_element(const tensor_pair<S, D, Rank>& tensors, std::span<const affine_params> params,
                                F f) noexcept {
    const auto& [src, dst, map] = tensors;
    std::array<std::size_t, Rank> at{};
    for (std::size_t index = 0, n = src.size(); index < n; ++index) {
        std::size_t from = 0, to = 0;
        for (std::size_t d = 0; d < Rank; ++d) {
            from += at[d] * src.stride(d);
            to += at[d] * dst.stride(d);
        }
        f(src.data()[from], dst.data()[to], params[map.slice_of(at)], index);
        for (std::size_t d = Rank; d-- > 0 && ++at[d] == src.extent(d);) at[d] = 0;
    }
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
inline void transform_views(const tensor_pair<S, D, Rank>& both, std::span<const affine_params> params,
                            store_policy stores, const Kernel& kernel) noexcept {
    transform<In, Out>(make_nest(both.src, both.dst, both.map), params, kernel);
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
    const auto both = paired<false>(src, dst, params, g, "src", "codes");
    if (!both) return both.status();
    if (const status s = check_storage<Code>(params, "codes"); !s) return s;
    if (may_overlap(both->dst)) return {errc::overlapping, "codes"};
    QUANT_EXPECTS(same_or_apart(both->src, both->dst), overlap_text);
    using real = compute_t<T>;
    const store_policy stores = decided(src.size() * sizeof(Code), options.stores);
    transform_views<real, Code>(*both, params, stores, quantize_kernel<real, Code>(options, stores));
    return {};
}
/// The same by the definition, in constant expressions.
template <real_element T, code_storage Code, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr status
quantize_constants(const tensor_view<const T, Rank>& src, const tensor_view<Code, DstRank>& dst,
                   std::span<const affine_params> params, granularity g, const quantize_options& options) noexcept {
    const auto both = paired<false>(src, dst, params, g, "src", "codes");
    if (!both) return both.status();
    if (const status s = check_storage<Code>(params, "codes"); !s) return s;
    for_each_element(*both, params, [&](const T& in, Code& out, const affine_params& p, std::size_t index) {
        out = static_cast<Code>(quantize_one(in, p, options, index));
    });
    return {};
}
/// OneRun: the sizes are known and equal, so that what is not one run has parameters no code can be found with.
template <bool OneRun = false, real_element T, code_storage Code, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr status
quantize_views(const tensor_view<const T, Rank>& src, const tensor_view<Code, DstRank>& dst,
               std::span<const affine_params> params, granularity g, const quantize_options& options) noexcept {
    if (std::is_constant_evaluated()) return quantize_constants(src, dst, params, g, options);
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
    const auto both = paired<true>(src, dst, params, g, "codes", "dst");
    if (!both) return both.status();
    if (may_overlap(both->dst)) return {errc::overlapping, "dst"};
    QUANT_EXPECTS(same_or_apart(both->src, both->dst), overlap_text);
    using real = compute_t<T>;
    const store_policy own = decided(both->dst.size() * sizeof(T), stores);
    transform_views<Code, real>(*both, params, own, dequantize_kernel<Code, real>{own});
    return {};
}
/// The same by the definition, in constant expressions.
template <code_storage Code, real_element T, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr status dequantize_constants(const tensor_view<const Code, Rank>& src,
                                                    const tensor_view<T, DstRank>& dst,
                                                    std::span<const affine_params> params, granularity g) noexcept {
    const auto both = paired<true>(src, dst, params, g, "codes", "dst");
    if (!both) return both.status();
    for_each_element(*both, params, [](const Code& in, T& out, const affine_params& p, std::size_t) {
        out = dequantize_one<T>(in, p);
    });
    return {};
}
template <bool OneRun = false, code_storage Code, real_element T, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr status
dequantize_views(const tensor_view<const Code, Rank>& src, const tensor_view<T, DstRank>& dst,
                 std::span<const affine_params> params, granularity g, store_policy stores) noexcept {
    if (std::is_constant_evaluated()) return dequantize_constants(src, dst, params, g);
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
    const auto both = paired<false>(src, dst, params, g, "src", "dst");
    if (!both) return both.status();
    if (may_overlap(both->dst)) return {errc::overlapping, "dst"};
    QUANT_EXPECTS(same_or_apart(both->src, both->dst), overlap_text);
    using real = compute_t<T>;
    const store_policy stores = decided(src.size() * sizeof(T), options.stores);
    transform_views<real, real>(*both, params, stores, fake_quant_kernel<real>(options, stores));
    return {};
}
/// The same by the definition, in constant expressions.
template <real_element T, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr status
fake_quant_constants(const tensor_view<const T, Rank>& src, const tensor_view<T, DstRank>& dst,
                     std::span<const affine_params> params, granularity g, const quantize_options& options) noexcept {
    const auto both = paired<false>(src, dst, params, g, "src", "dst");
    if (!both) return both.status();
    for_each_element(*both, params, [&](const T& in, T& out, const affine_params& p, std::size_t index) {
        out = fake_quant_one(in, p, options, index);
    });
    return {};
}
template <real_element T, real_element U, std::size_t Rank, std::size_t DstRank>
[[nodiscard]] constexpr status
fake_quant_views(const tensor_view<const T, Rank>& src, const tensor_view<U, DstRank>& dst,
                 std::span<const affine_params> params, granularity g, const quantize_options& options) noexcept {
    static_assert(std::same_as<T, U>, "quant::fake_quant: source and destination have the same element type");
    if (std::is_constant_evaluated()) return fake_quant_constants(src, dst, params, g, options);
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

/// Smallest and largest finite element and zero, in constant expressions.
template <real_element T, std::size_t Rank>
[[nodiscard]] constexpr clip_range constant_range(const tensor_view<const T, Rank>& src) noexcept {
    clip_range range;
    const affine_params none;
    for_each_element(tensor_pair<const T, const T, Rank>{src, src, {}}, std::span(&none, 1),
                     [&](const T& in, const T&, const affine_params&, std::size_t) {
                         // Observers read floats. What rounds to an infinity is not converted: here that is an error.
                         if constexpr (std::same_as<T, double>)
                             if (!(in < 0x1.ffffffp127 && in > -0x1.ffffffp127)) return;
                         const auto x = static_cast<double>(to_float(in));
                         if (!(x < 0x1p128 && x > -0x1p128)) return;
                         if (x < range.lo) range.lo = x;
                         if (x > range.hi) range.hi = x;
                     });
    return range;
}

/// Both sizes known to the compiler: nothing left that could go wrong at run time but the parameters.
template <class A, class B>
inline constexpr bool static_sizes =
    core_detail::static_size<std::remove_cvref_t<A>> !=
    std::dynamic_extent&& core_detail::static_size<std::remove_cvref_t<B>> != std::dynamic_extent;

template <class A, class B, class F> QUANT_INLINE constexpr auto checked(F verb) noexcept {
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
constexpr auto quantize(const Src& src, Codes&& codes, const affine_params& params,
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
[[nodiscard]] constexpr status quantize(const Src& src, Codes&& codes, std::span<const affine_params> params,
                                        granularity g, const quantize_options& options = {}) noexcept {
    return detail::quantize_views(detail::view_const(src), v0_1::view(codes), params, g, options);
}

/// Real values of codes; equation (2): (code - zero_point) * scale, rounded once to the destination's type.
/// codes   any strides       dst   same extents (or either side dense and one-dimensional); float, double, float16, bfloat16
/// stores  ordinary or streaming stores, by the size of the result unless it says otherwise
/// Errors as for quantize. A code outside its format is not an error: equation (2) is defined for every integer.
template <viewable Codes, destination Dst>
    requires(code_storage<element_of_t<Codes>>&& real_element<element_of_t<Dst>>)
constexpr auto dequantize(const Codes& codes, Dst&& dst, const affine_params& params,
                          store_policy stores = {}) noexcept {
    return detail::checked<Codes, Dst>([&] {
        return detail::dequantize_views<detail::static_sizes<Codes, Dst>>(detail::view_const(codes), v0_1::view(dst),
                                                                          std::span(&params, 1), per_tensor, stores);
    });
}

/// The same with one set of parameters per slice.
template <viewable Codes, destination Dst>
    requires(code_storage<element_of_t<Codes>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] constexpr status dequantize(const Codes& codes, Dst&& dst, std::span<const affine_params> params,
                                          granularity g, store_policy stores = {}) noexcept {
    return detail::dequantize_views(detail::view_const(codes), v0_1::view(dst), params, g, stores);
}

/// The nearest representable real values: dequantize(quantize(src)) without the codes. src and dst may be the same tensor.
template <viewable Src, destination Dst>
    requires(real_element<element_of_t<Src>>&& real_element<element_of_t<Dst>>)
constexpr auto fake_quant(const Src& src, Dst&& dst, const affine_params& params,
                          const quantize_options& options = {}) noexcept {
    return detail::checked<Src, Dst>([&] {
        return detail::fake_quant_views(detail::view_const(src), v0_1::view(dst), std::span(&params, 1), per_tensor,
                                        options);
    });
}

/// The same with one set of parameters per slice.
template <viewable Src, destination Dst>
    requires(real_element<element_of_t<Src>>&& real_element<element_of_t<Dst>>)
[[nodiscard]] constexpr status fake_quant(const Src& src, Dst&& dst, std::span<const affine_params> params,
                                          granularity g, const quantize_options& options = {}) noexcept {
    return detail::fake_quant_views(detail::view_const(src), v0_1::view(dst), params, g, options);
}

/// Min-max, symmetric, per tensor, in the destination type's own full-range format: finds the range, then quantizes.
/// Returns the parameters. NaN and infinities do not widen the range. An empty tensor gives scale 1. Cost: two passes.
template <viewable Src, destination Codes>
    requires(real_element<element_of_t<Src>>&& code_storage<element_of_t<Codes>>)
[[nodiscard]] constexpr result<affine_params> quantize(const Src& src, Codes&& codes,
                                                       const quantize_options& options = {}) noexcept {
    clip_range range;
    if (std::is_constant_evaluated()) {
        range = detail::constant_range(detail::view_const(src));
    } else {
        minmax_observer observer;
        observer.observe(src);
        if (const result<clip_range> seen = observer.clip()) range = *seen;
    }
    const result<affine_params> params =
        choose_params(range, full_range_format<element_of_t<Codes>>, mapping::symmetric);
    if (!params) return params;
    const status s =
        detail::quantize_views(detail::view_const(src), v0_1::view(codes), std::span(&*params, 1), per_tensor, options);
    if (!s) return s;
    return params;
}

QUANT_END_TARGET
