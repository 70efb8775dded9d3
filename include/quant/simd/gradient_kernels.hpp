// SPDX-License-Identifier: MIT
#pragma once
// The loops of gradient quantization: sums of a bucket, one bit per element with the sums of both sides, random rounding to a table of
// levels, and codes back to values. Layer 2 (simd). The same bytes on every architecture and compiler.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <quant/simd/batch.hpp>
#include <quant/simd/gradient_registers.hpp>
#include <quant/simd/memory.hpp>
#include <quant/simd/narrow.hpp>
#include <quant/simd/reduce.hpp>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace simd {

/// The intervals of a table of levels. Number k stands between levels k and k + 1.
struct interval_table {
    static constexpr std::size_t most = 255;
    std::size_t count = 0;
    float below[most]; ///< the lower level
    float width[most]; ///< of the interval; 0 for one so narrow that u * width could round up to it
};

/// Sums of one side of a threshold and of the other.
struct split_sums {
    double low = 0, high = 0;
    std::size_t high_count = 0;
};

namespace detail {

/// Which element a sum is of.
enum class term : std::uint8_t { value, magnitude, square };

QUANT_INLINE std::uint32_t bits_of(bool condition) noexcept { return condition ? 1u : 0u; }
#if QUANT_HAS_XSIMD
template <class Arch> QUANT_INLINE std::uint32_t bits_of(const xsimd::batch_bool<float, Arch>& condition) noexcept {
    return static_cast<std::uint32_t>(condition.mask());
}
#endif

/// step(q, count) for every 16 floats, the last ones filled up with zeros.
template <class Step> QUANT_INLINE void for_each_sixteen(const float* p, std::size_t n, Step&& step) noexcept {
    const std::size_t whole = n - n % virtual_lanes;
    std::size_t i = 0;
    for (; i < whole; i += virtual_lanes) step(p + i, virtual_lanes);
    if (i == n) return;
    float rest[virtual_lanes];
    for (std::size_t k = 0; k < virtual_lanes; ++k) rest[k] = i + k < n ? p[i + k] : 0.0f;
    step(static_cast<const float*>(rest), n - i);
}

template <class A> QUANT_INLINE void add_to(sum_lanes<A>& sum, std::size_t k, const pack<float, A>& x) noexcept {
    const widened<A> wide = as_doubles<A>(x);
    unrolled<widened<A>::count>([&](auto j) QUANT_INLINE_LAMBDA {
        const std::size_t to = k * widened<A>::count + j;
        sum.part[to] = sum.part[to] + wide.part[j];
    });
}

/// How many intervals lie below x, the one around it included with the probability of its part below x. The definition:
/// every architecture computes these operations, and each is rounded once.
QUANT_INLINE std::uint8_t round_to_level(float x, float u, const interval_table& table) noexcept {
    // True for the first intervals and false from one on, as differences of floats are monotone.
    std::size_t first = 0, last = table.count;
    while (first < last) {
        const std::size_t middle = (first + last) / 2;
        if (u * table.width[middle] < x - table.below[middle])
            first = middle + 1;
        else
            last = middle;
    }
    return static_cast<std::uint8_t>(first);
}

/// The same for four registers. LookUp: an element passes over the levels below it, and looks up the one interval that chance decides;
/// else over every interval.
template <class A, bool LookUp>
QUANT_INLINE void round_whole_registers(const float* p, std::uint8_t* codes, std::size_t n, const interval_table& table,
                                        std::uint64_t key, std::uint64_t first) noexcept {
    using floats = pack<float, A>;
    using integers = pack<std::int32_t, A>;
    constexpr std::size_t width = pack_of<float, A>::size;
#if QUANT_HAS_XSIMD && defined(__AVX2__)
    [[maybe_unused]] float ends[2][16]{};
    if constexpr (LookUp)
        for (std::size_t k = 0; k < table.count; ++k) {
            ends[0][k] = table.below[k];
            ends[1][k] = table.width[k];
        }
    [[maybe_unused]] const auto registers = [&](std::size_t k) {
        if constexpr (LookUp)
            return value_table<A>(ends[k]);
        else
            return k;
    };
    [[maybe_unused]] const auto lower = registers(0), across = registers(1);
#endif
    for (std::size_t i = 0; i < n; i += 4 * width) {
        // The next bucket: what is found out about it takes less time than reading it from memory, and this takes more.
        constexpr std::size_t ahead = 8192, line = 64, bytes = 4 * width * sizeof(float);
        if constexpr (bytes >= line)
            unrolled<bytes / line>([&](auto k) QUANT_INLINE_LAMBDA {
                prefetch_read(reinterpret_cast<const char*>(p + i) + ahead + k * line);
            });
        floats x[4], u[4];
        integers code[4];
        unrolled<4>([&](auto k) QUANT_INLINE_LAMBDA {
            x[k] = load<A>(p + i + k * width);
            u[k] = uniform_numbers<A>(key, first + i + k * width);
            code[k] = integers(0);
        });
        for (std::size_t j = LookUp ? 1 : 0; j < table.count; ++j) {
            const floats level(table.below[j]);
            if constexpr (LookUp)
                unrolled<4>([&](auto k) QUANT_INLINE_LAMBDA { code[k] = count_up(code[k], level < x[k]); });
            else {
                const floats whole(table.width[j]);
                unrolled<4>([&](auto k)
                                QUANT_INLINE_LAMBDA { code[k] = count_up(code[k], u[k] * whole < x[k] - level); });
            }
        }
#if QUANT_HAS_XSIMD && defined(__AVX2__)
        if constexpr (LookUp)
            unrolled<4>([&](auto k) QUANT_INLINE_LAMBDA {
                code[k] = count_up(code[k], u[k] * across.at(code[k]) < x[k] - lower.at(code[k]));
            });
#endif
#if QUANT_HAS_XSIMD
        if constexpr (!is_scalar<A>)
            store_narrow<A>(codes + i, code);
        else
#endif
            unrolled<4>([&](auto k) QUANT_INLINE_LAMBDA { codes[i + k] = static_cast<std::uint8_t>(code[k]); });
    }
}

/// What becomes of a decoded value.
enum class decoded : std::uint8_t { set, add, subtract };
template <decoded Mode, class P> QUANT_INLINE P with_decoded(const P& before, const P& value) noexcept {
    if constexpr (Mode == decoded::set) return value;
    if constexpr (Mode == decoded::add) return before + value;
    return before - value;
}

} // namespace detail

/// The sum of n floats, their magnitudes or their squares; not finite if one of them is not. Deterministic.
template <detail::term Term, class Arch = native>
[[nodiscard]] inline double sum_of(const float* p, std::size_t n) noexcept {
    using A = reduction_arch_t<Arch>;
    detail::sum_lanes<A> sum;
    detail::for_each_sixteen(p, n, [&](const float* q, std::size_t) QUANT_INLINE_LAMBDA {
        detail::unrolled<detail::float_parts<A>>([&](auto k) QUANT_INLINE_LAMBDA {
            const pack<float, A> x = load<A>(q + k * pack_of<float, A>::size);
            if constexpr (Term == detail::term::square) {
                const widened<A> wide = as_doubles<A>(x);
                detail::unrolled<widened<A>::count>([&](auto j) QUANT_INLINE_LAMBDA {
                    const std::size_t to = k * widened<A>::count + j;
                    sum.part[to] = add_exact_product(sum.part[to], wide.part[j], wide.part[j]);
                });
            } else {
                detail::add_to<A>(sum, k, Term == detail::term::magnitude ? magnitude(x) : x);
            }
        });
    });
    return sum.total();
}

/// One bit per element, element i in bit i mod 8 of byte i / 8: x >= threshold. With Bits (n + 7) / 8 bytes are written,
/// unused bits zero.
/// Returns the sums of both sides, or with Magnitudes the sum of all |x| in `low`. Not finite if an element is not. Deterministic.
template <bool Magnitudes, bool Bits = true, class Arch = native>
inline split_sums split(const float* p, std::size_t n, float threshold, [[maybe_unused]] std::uint8_t* bits) noexcept {
    using A = reduction_arch_t<Arch>;
    using floats = pack<float, A>;
    detail::sum_lanes<A> low, high;
    std::size_t count = 0;
    const floats limit(threshold), zero(0.0f);
    const char* ahead = reinterpret_cast<const char*>(p) + 8192; // the next bucket, whose mean comes first
    detail::for_each_sixteen(p, n, [&](const float* q, std::size_t here) QUANT_INLINE_LAMBDA {
        prefetch_read(ahead);
        ahead += 64;
        std::uint32_t word = 0;
        detail::unrolled<detail::float_parts<A>>([&](auto k) QUANT_INLINE_LAMBDA {
            constexpr std::size_t at = k * pack_of<float, A>::size;
            const floats x = load<A>(q + at);
            const auto above = x >= limit;
            word |= detail::bits_of(above) << at;
            if constexpr (Magnitudes) {
                detail::add_to<A>(low, k, magnitude(x));
            } else {
                detail::add_to<A>(low, k, choose(above, zero, x));
                detail::add_to<A>(high, k, choose(above, x, zero));
            }
        });
        if (here < virtual_lanes) word &= (1u << here) - 1u; // what the group was filled up with
        count += static_cast<std::size_t>(std::popcount(word));
        if constexpr (Bits) {
            *bits++ = static_cast<std::uint8_t>(word);
            if (here > 8) *bits++ = static_cast<std::uint8_t>(word >> 8);
        }
    });
    return {low.total(), high.total(), count};
}

/// Sum and number of the elements with lo < x <= hi.
struct between_sum {
    double sum = 0;
    std::size_t count = 0;
};
template <class Arch = native>
[[nodiscard]] inline between_sum sum_between(const float* p, std::size_t n, float lo, float hi) noexcept {
    using A = reduction_arch_t<Arch>;
    using floats = pack<float, A>;
    detail::sum_lanes<A> sum;
    std::size_t count = 0;
    const floats above(lo), to(hi), zero(0.0f);
    detail::for_each_sixteen(p, n, [&](const float* q, std::size_t here) QUANT_INLINE_LAMBDA {
        std::uint32_t word = 0;
        detail::unrolled<detail::float_parts<A>>([&](auto k) QUANT_INLINE_LAMBDA {
            constexpr std::size_t at = k * pack_of<float, A>::size;
            const floats x = load<A>(q + at);
            const auto inside = both(x > above, x <= to);
            word |= detail::bits_of(inside) << at;
            detail::add_to<A>(sum, k, choose(inside, x, zero));
        });
        if (here < virtual_lanes) word &= (1u << here) - 1u;
        count += static_cast<std::size_t>(std::popcount(word));
    });
    return {sum.total(), count};
}
/// Number of the elements with x > limit. n < 2^31.
template <class Arch = native>
[[nodiscard]] inline std::size_t count_above(const float* p, std::size_t n, float limit) noexcept {
    using A = reduction_arch_t<Arch>;
    constexpr std::size_t width = pack_of<float, A>::size, step = 4 * width;
    detail::count_lanes<A> count[4];
    const pack<float, A> above(limit);
    std::size_t i = 0;
    for (; i + step <= n; i += step)
        detail::unrolled<4>([&](auto k) QUANT_INLINE_LAMBDA { count[k].add(load<A>(p + i + k * width) > above); });
    for (; i + width <= n; i += width) count[0].add(load<A>(p + i) > above);
    count[0].part = (count[0].part + count[1].part) + (count[2].part + count[3].part);
    std::size_t total = count[0].total();
    for (; i < n; ++i) total += p[i] > limit ? 1u : 0u;
    return total;
}
/// Copies the elements with lo < x <= hi, or with Magnitudes those |x|, in their order; returns their number. `to` has room for them and
/// for virtual_lanes more. Exact.
template <bool Magnitudes, class Arch = native>
[[nodiscard]] inline std::size_t copy_between(const float* p, std::size_t n, float lo, float hi, float* to) noexcept {
    using A = reduction_arch_t<Arch>;
    const pack<float, A> above(lo), most(hi);
    std::size_t count = 0;
    detail::for_each_group(p, n, [&](const float* q) QUANT_INLINE_LAMBDA {
        detail::unrolled<detail::float_parts<A>>([&](auto k) QUANT_INLINE_LAMBDA {
            const pack<float, A> value = load<A>(q + k * pack_of<float, A>::size);
            const pack<float, A> x = Magnitudes ? magnitude(value) : value;
            count += put_where(to + count, x, both(x > above, x <= most));
        });
    });
    return count;
}

/// Copies what is <= limit to `low` and what is above to `high`, in their order. Each has room for them and for virtual_lanes more. No NaN.
template <class Arch = native>
inline void part_at(const float* p, std::size_t n, float limit, float* low, float* high) noexcept {
    using A = reduction_arch_t<Arch>;
    const pack<float, A> least(limit);
    detail::for_each_group(p, n, [&](const float* q) QUANT_INLINE_LAMBDA {
        detail::unrolled<detail::float_parts<A>>([&](auto k) QUANT_INLINE_LAMBDA {
            const pack<float, A> x = load<A>(q + k * pack_of<float, A>::size);
            low += put_where(low, x, x <= least);
            high += put_where(high, x, x > least);
        });
    });
}

/// Random rounding of n floats, none NaN: the code is the number of intervals k with u(i) * width[k] < x - below[k], u(i) the random number
/// first + i of the stream of `key`. codes [n]. Bit-exact.
template <class Arch = native>
inline void round_to_levels(const float* p, std::uint8_t* codes, std::size_t n, const interval_table& table,
                            std::uint64_t key, std::uint64_t first) noexcept {
    using A = reduction_arch_t<Arch>;
    constexpr std::size_t width = pack_of<float, A>::size, step = 4 * width, few = 24;
    std::size_t i = 0;
    if (table.count <= few) {
        i = n - n % step;
        if constexpr (values_at_once<A>() != 0) {
            if (table.count > 2 && table.count <= values_at_once<A>())
                detail::round_whole_registers<A, true>(p, codes, i, table, key, first);
            else
                detail::round_whole_registers<A, false>(p, codes, i, table, key, first);
        } else {
            detail::round_whole_registers<A, false>(p, codes, i, table, key, first);
        }
    } else {
        for (const std::size_t whole = n - n % width; i < whole; i += width) {
            float u[width];
            put(u, uniform_numbers<A>(key, first + i));
            for (std::size_t k = 0; k < width; ++k) codes[i + k] = detail::round_to_level(p[i + k], u[k], table);
        }
    }
    for (; i < n; ++i) codes[i] = detail::round_to_level(p[i], uniform_numbers<scalar>(key, first + i), table);
}

/// Values of n codes: to[i] = table[codes[i]], or added to or subtracted from what is there. table [levels], codes below `levels`. Bit-exact.
template <detail::decoded Mode, class Arch = native>
inline void look_up(const std::uint8_t* codes, std::size_t n, const float* table, [[maybe_unused]] std::size_t levels,
                    float* to) noexcept {
    using A [[maybe_unused]] = reduction_arch_t<Arch>;
    std::size_t i = 0;
#if QUANT_HAS_XSIMD && defined(__AVX2__)
    if constexpr (values_in_registers<A>() != 0) {
        if (levels <= values_in_registers<A>()) {
            constexpr std::size_t width = pack_of<float, A>::size;
            float padded[16];
            for (std::size_t k = 0; k < 16; ++k) padded[k] = k < levels ? table[k] : 0.0f;
            const value_table<A> values(padded);
            const std::size_t whole = n - n % width;
            const auto run = [&](auto wide) QUANT_INLINE_LAMBDA {
                for (; i < whole; i += width) {
                    const pack<float, A> value = values.template of<decltype(wide)::value>(codes + i);
                    put(to + i,
                        detail::with_decoded<Mode>(Mode == detail::decoded::set ? value : load<A>(to + i), value));
                }
            };
            if (levels <= 8)
                run(std::false_type{});
            else
                run(std::true_type{});
        }
    }
#endif
    for (; i < n; ++i) to[i] = detail::with_decoded<Mode>(to[i], table[codes[i]]);
}

} // namespace simd
QUANT_END_TARGET
