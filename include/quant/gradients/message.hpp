// SPDX-License-Identifier: MIT
#pragma once
// Gradients as messages: quantized in buckets for the wire, checked and decoded on the other side. Layer 5 (gradients).
//
//   namespace gradients = quant::gradients;
//   const gradients::encoding how{.method = gradients::scheme::orq, .levels = 5, .seed = 42, .stream = gradients::stream_of(step, tensor, rank)};
//   auto size = gradients::encode(gradient, message, how, workspace);                     // message: message_size(n, how) bytes
//   …all-gather of the bytes…
//   auto outcome = gradients::average(messages, how, sum);                                // the same bytes on every rank
//
// The bytes, all numbers little-endian:
//
//   header of 24 bytes   'G' 'Q' '0' '1' | u8 scheme | u8 bits of a code | u16 levels | u32 bucket | u32 flags | u64 elements
//   every bucket         its table: one float (a magnitude: schemes 1, 2, 4, 5), two (3: the means; 6: the ends) or all levels (7, 8);
//                        its codes, element 0 in the lowest bits of the first byte, padded with zeros to a byte
//   flags                1: tables of float16   2: codes as digits, 5 to a byte for 3 levels, 3 for 5 and 6   4: raw for want of finite numbers
//
// A scheme says how a message is decoded, not how its levels were found: 1-bit SGD travels as bingrad_b, SignSGD as scaled_sign, refined
// levels as asq. Codes of different ranks cannot be added, as their levels differ.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <quant/core/convert.hpp>
#include <quant/core/half.hpp>
#include <quant/core/random.hpp>
#include <quant/core/status.hpp>
#include <quant/gradients/levels.hpp>
#include <quant/simd/gradient_kernels.hpp>
#include <quant/simd/pack.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace gradients {

/// The number in the header.
enum class scheme : std::uint8_t {
    raw = 0,         ///< float32
    scaled_sign = 1, ///< -m and m: the mean magnitude. Biased
    bingrad_pb = 2,  ///< -b and b, random between them, clipped beyond. Biased where it clips
    bingrad_b = 3,   ///< two means. Biased
    terngrad = 4,    ///< -m, 0, m: the largest magnitude. Unbiased unless clipped
    qsgd = 5,        ///< 2 s + 1 equidistant levels up to the Euclidean norm. Unbiased
    linear = 6,      ///< equidistant levels from the smallest to the largest element. Unbiased
    orq = 7,         ///< levels by halving (orq_levels). Unbiased
    asq = 8,         ///< the best levels (asq_levels). Unbiased
};

/// How a gradient is encoded. What a scheme does not use is ignored.
struct encoding {
    scheme method = scheme::orq;
    std::uint16_t levels = 3;   ///< qsgd: odd, 3 … 255; linear, asq: 2 … 256; orq: 2^K + 1, 3 … 129
    std::uint32_t bucket = 512; ///< elements with a table of their own, 1 … 2^24
    threshold_rule threshold = threshold_rule::mean; ///< bingrad_b; zero: 1-bit SGD
    bool unit_magnitude = false;                     ///< scaled_sign: m = 1, which is SignSGD
    double clip_deviations =
        0; ///< terngrad: elements are clipped at so many standard deviations about the mean, of a bucket that is
           ///< not constant; 0: not at all. Clipping adds bias
    bool exact = true;             ///< asq: false for equidistant levels, refined
    bool half_levels = false;      ///< tables of float16; the ends of random rounding are rounded outward
    bool digit_codes = false;      ///< 3, 5 and 6 levels: codes as digits
    std::uint64_t seed = 0;        ///< of the random numbers
    std::uint64_t stream = 0;      ///< one for every step, tensor and rank: stream_of
    std::uint64_t first_index = 0; ///< number of the first element in its stream
};

inline constexpr std::uint32_t flag_half_levels = 1, flag_digit_codes = 2, flag_non_finite = 4;
inline constexpr std::size_t header_size = 24;

/// What the first 24 bytes of a message say.
struct message_header {
    scheme method = scheme::raw;
    std::uint8_t bits = 32;
    std::uint16_t levels = 0;
    std::uint32_t bucket = 512;
    std::uint32_t flags = 0;
    std::uint64_t elements = 0;
    friend constexpr bool operator==(const message_header&, const message_header&) = default;
};

/// Which message was not acceptable, and why.
struct [[nodiscard]] exchange_status {
    status outcome;
    std::size_t rank = 0;
    QUANT_INLINE constexpr explicit operator bool() const noexcept { return static_cast<bool>(outcome); }
};

/// A stream of random numbers of its own for every step, tensor and rank.
[[nodiscard]] constexpr std::uint64_t stream_of(std::uint64_t step, std::uint64_t tensor, std::uint64_t rank) noexcept {
    return mix(mix(mix(step) ^ tensor) ^ rank);
}

inline namespace QUANT_TARGET_TAG {
namespace detail {

[[nodiscard]] constexpr std::size_t table_values(scheme method, std::size_t levels) noexcept {
    switch (method) {
    case scheme::scaled_sign:
    case scheme::bingrad_pb:
    case scheme::terngrad:
    case scheme::qsgd: return 1;
    case scheme::bingrad_b:
    case scheme::linear: return 2;
    case scheme::orq:
    case scheme::asq: return levels;
    case scheme::raw: break;
    }
    return 0;
}
/// The levels a scheme has, 0 where the caller chooses.
[[nodiscard]] constexpr std::size_t fixed_levels(scheme method) noexcept {
    switch (method) {
    case scheme::scaled_sign:
    case scheme::bingrad_pb:
    case scheme::bingrad_b: return 2;
    case scheme::terngrad: return 3;
    default: return 0;
    }
}
[[nodiscard]] constexpr bool legal_levels(scheme method, std::size_t levels) noexcept {
    switch (method) {
    case scheme::raw: return levels == 0;
    case scheme::qsgd: return levels >= 3 && levels < most_levels && levels % 2 == 1;
    case scheme::linear:
    case scheme::asq: return levels >= 2 && levels <= most_levels;
    case scheme::orq: return levels >= 3 && levels < most_levels && std::has_single_bit(levels - 1);
    default: return levels == fixed_levels(method);
    }
}
/// Digits of a byte, 0 where they save nothing.
[[nodiscard]] constexpr std::size_t digits_in_byte(std::size_t levels) noexcept {
    return levels == 3 ? 5 : (levels == 5 || levels == 6 ? 3 : 0);
}
[[nodiscard]] constexpr std::size_t code_bytes(std::size_t n, const message_header& h) noexcept {
    if ((h.flags & flag_digit_codes) != 0) {
        const std::size_t digits = digits_in_byte(h.levels);
        return (n + digits - 1) / digits;
    }
    return (n * h.bits + 7) / 8;
}
[[nodiscard]] constexpr std::size_t table_bytes(const message_header& h) noexcept {
    return table_values(h.method, h.levels) * ((h.flags & flag_half_levels) != 0 ? 2 : 4);
}
/// The length of the whole message; the largest number if it does not fit.
[[nodiscard]] constexpr std::size_t size_of(const message_header& h) noexcept {
    constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();
    if (h.method == scheme::raw)
        return h.elements <= (most - header_size) / 4 ? header_size + static_cast<std::size_t>(h.elements) * 4
                                                      : std::numeric_limits<std::size_t>::max();
    const std::uint64_t whole = h.elements / h.bucket, rest = h.elements % h.bucket;
    const std::uint64_t table = table_bytes(h), each = table + code_bytes(h.bucket, h);
    const std::uint64_t last = rest != 0 ? table + code_bytes(core_detail::convert<std::size_t>(rest), h) : 0;
    if (whole > (most - header_size - last) / each) return std::numeric_limits<std::size_t>::max();
    return core_detail::convert<std::size_t>(header_size + whole * each + last);
}

template <std::unsigned_integral T> [[nodiscard]] QUANT_INLINE T get(const std::uint8_t* p) noexcept {
    T x = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) x = static_cast<T>(x | static_cast<T>(static_cast<T>(p[i]) << (8 * i)));
    return x;
}
template <std::unsigned_integral T> QUANT_INLINE std::uint8_t* set(std::uint8_t* p, T x) noexcept {
    for (std::size_t i = 0; i < sizeof(T); ++i) p[i] = static_cast<std::uint8_t>(x >> (8 * i));
    return p + sizeof(T);
}
inline std::uint8_t* write_header(std::uint8_t* p, const message_header& h) noexcept {
    p[0] = 'G';
    p[1] = 'Q';
    p[2] = '0';
    p[3] = '1';
    p[4] = static_cast<std::uint8_t>(h.method);
    p[5] = h.bits;
    p = set(p + 6, h.levels);
    p = set(p, h.bucket);
    p = set(p, h.flags);
    return set(p, h.elements);
}

/// The half next to x, below it (-1), above it (1) or whichever is nearest (0).
[[nodiscard]] inline float16 half_beside(float x, int side) noexcept {
    float16 h = to_float16(x);
    const float back = to_float(h);
    if ((side > 0 && back < x) || (side < 0 && back > x)) {
        // Away from x is toward zero for a positive x and side < 0, or for a negative one and side > 0.
        const bool up = (side > 0) != ((h.bits & 0x8000u) != 0);
        if ((h.bits & 0x7FFFu) == 0)
            h.bits = side > 0 ? 0x0001u : 0x8001u;
        else
            h.bits = static_cast<std::uint16_t>(up ? h.bits + 1 : h.bits - 1);
    }
    return h;
}

/// Writes the table of a bucket; with halves the values become those that arrive. False: one of them is not finite.
[[nodiscard]] inline bool write_table(std::uint8_t*& p, float* values, const message_header& h, bool random) noexcept {
    const std::size_t n = table_values(h.method, h.levels);
    for (std::size_t i = 0; i < n; ++i) {
        values[i] += 0.0f; // no negative zero
        if ((h.flags & flag_half_levels) != 0) {
            const int side = !random ? 0 : (n == 1 || i + 1 == n ? 1 : (i == 0 ? -1 : 0));
            const float16 half = half_beside(values[i], side);
            values[i] = to_float(half);
            p = set(p, half.bits);
        } else {
            p = set(p, std::bit_cast<std::uint32_t>(values[i]));
        }
        if (!simd::finite(values[i])) return false;
    }
    return true;
}
inline const std::uint8_t* read_table(const std::uint8_t* p, float* values, const message_header& h) noexcept {
    const std::size_t n = table_values(h.method, h.levels);
    for (std::size_t i = 0; i < n; ++i) {
        if ((h.flags & flag_half_levels) != 0) {
            values[i] = to_float(float16{get<std::uint16_t>(p)});
            p += 2;
        } else {
            values[i] = std::bit_cast<float>(get<std::uint32_t>(p));
            p += 4;
        }
    }
    return p;
}

/// All levels of a bucket from its table.
inline void fill_levels(const float* table, const message_header& h, float* levels) noexcept {
    const auto m = static_cast<double>(table[0]);
    const std::size_t n = h.levels;
    switch (h.method) {
    case scheme::scaled_sign:
    case scheme::bingrad_pb:
        levels[0] = -table[0];
        levels[1] = table[0];
        break;
    case scheme::terngrad:
        levels[0] = -table[0];
        levels[1] = 0;
        levels[2] = table[0];
        break;
    case scheme::qsgd: {
        const std::size_t s = n / 2;
        for (std::size_t i = 0; i <= s; ++i) {
            levels[s + i] = static_cast<float>(m * static_cast<double>(i) / static_cast<double>(s));
            levels[s - i] = -levels[s + i];
        }
        break;
    }
    case scheme::linear: {
        const double width = static_cast<double>(table[1]) - m;
        for (std::size_t k = 0; k < n; ++k)
            levels[k] = static_cast<float>(m + width * static_cast<double>(k) / static_cast<double>(n - 1));
        levels[n - 1] = table[1];
        break;
    }
    default:
        for (std::size_t k = 0; k < n; ++k) levels[k] = table[k];
    }
}

/// The intervals between levels. One below 2^-125 counts as empty, so that everything above its lower end is rounded up: a random number
/// below 1 times its width could round to the whole of it.
inline void fill_intervals(const float* levels, std::size_t n, simd::interval_table& out) noexcept {
    out.count = n - 1;
    for (std::size_t k = 0; k + 1 < n; ++k) {
        const float width = levels[k + 1] - levels[k];
        out.below[k] = levels[k];
        out.width[k] = width < 0x1p-125f ? 0.0f : width;
    }
}

/// Codes at a time; whole bytes for every width and for five and three digits.
inline constexpr std::size_t code_tile = 960;

inline void pack_digits(const std::uint8_t* codes, std::uint8_t* to, std::size_t n, std::size_t levels) noexcept {
    const std::size_t digits = digits_in_byte(levels);
    for (std::size_t i = 0; i < n; i += digits) {
        std::size_t byte = 0;
        for (std::size_t k = digits; k-- > 0;) byte = byte * levels + (i + k < n ? codes[i + k] : 0u);
        *to++ = static_cast<std::uint8_t>(byte);
    }
}
/// False: a byte is no number of so many digits, or what fills up the last one is not zero.
[[nodiscard]] inline bool unpack_digits(const std::uint8_t* from, std::uint8_t* codes, std::size_t n,
                                        std::size_t levels) noexcept {
    const std::size_t digits = digits_in_byte(levels);
    for (std::size_t i = 0; i < n; i += digits) {
        std::size_t byte = *from++;
        for (std::size_t k = 0; k < digits && i + k < n; ++k) {
            codes[i + k] = static_cast<std::uint8_t>(byte % levels);
            byte /= levels;
        }
        if (byte != 0) return false;
    }
    return true;
}

/// The value or values of a bucket's table. `random` is set where the codes are drawn. False: not finite, or out of range.
template <class Arch>
[[nodiscard]] inline status find_table(std::span<const float> v, const encoding& how, float* table,
                                       std::span<std::byte> workspace) noexcept {
    constexpr status not_finite{errc::non_finite, "v"};
    const std::size_t n = v.size();
    const auto in_range = [](float x) { return x <= largest_level; };
    switch (how.method) {
    case scheme::bingrad_pb: {
        const auto b = pb_level(v);
        if (!b) return b.status();
        table[0] = *b;
        return in_range(*b) ? status{} : not_finite;
    }
    case scheme::terngrad: {
        const simd::block_extremes range = simd::extremes<Arch>(v.data(), n);
        float m = -range.min > range.max ? -range.min : range.max;
        if (range.non_finite != 0 || !in_range(m)) return not_finite;
        if (how.clip_deviations > 0 && range.min < range.max) {
            const double d = static_cast<double>(n), sum = simd::sum_of<simd::detail::term::value, Arch>(v.data(), n);
            const double rest = simd::sum_of<simd::detail::term::square, Arch>(v.data(), n) - sum * sum / d;
            const double limit = how.clip_deviations * std::sqrt(rest > 0 ? rest / d : 0);
            if (limit < static_cast<double>(m)) m = static_cast<float>(limit);
        }
        table[0] = m;
        return {};
    }
    case scheme::qsgd: {
        const double squares = simd::sum_of<simd::detail::term::square, Arch>(v.data(), n), norm = std::sqrt(squares);
        if (!(norm <= static_cast<double>(largest_level))) return not_finite;
        table[0] = simd::detail::float_at_least(norm); // no element lies beyond
        return {};
    }
    case scheme::linear: {
        const simd::block_extremes range = simd::extremes<Arch>(v.data(), n);
        if (range.non_finite != 0 || !in_range(range.max) || !in_range(-range.min)) return not_finite;
        table[0] = range.min;
        table[1] = range.max;
        return {};
    }
    case scheme::orq: return orq_levels(v, {table, how.levels}, workspace);
    case scheme::asq:
        if (how.exact) return asq_levels(v, {table, how.levels}, workspace);
        if (const status s = uniform_levels(v, {table, how.levels}); !s) return s;
        return refine_levels(v, {table, how.levels}, workspace);
    default: return {errc::invalid_argument, "how"};
    }
}

/// Random rounding of a bucket to the bytes of its codes.
template <class Arch>
inline void write_codes(std::span<const float> v, const message_header& h, const simd::interval_table& intervals,
                        std::uint64_t key, std::uint64_t first, std::uint8_t* to) noexcept {
    std::uint8_t codes[code_tile];
    for (std::size_t i = 0; i < v.size(); i += code_tile) {
        const std::size_t n = v.size() - i < code_tile ? v.size() - i : code_tile;
        simd::round_to_levels<Arch>(v.data() + i, codes, n, intervals, key, first + i);
        if ((h.flags & flag_digit_codes) != 0)
            pack_digits(codes, to, n, h.levels);
        else
            simd::pack_codes<Arch>(codes, to, n, h.bits);
        to += code_bytes(n, h);
    }
}

/// A bucket of one of the schemes without chance: its table and its bits.
template <class Arch>
[[nodiscard]] inline status write_signs(std::span<const float> v, const encoding& how, const message_header& h,
                                        std::uint8_t*& to, std::span<std::byte> workspace) noexcept {
    constexpr status not_finite{errc::non_finite, "v"};
    const std::size_t n = v.size();
    std::uint8_t* const bits = to + table_bytes(h);
    float table[2]{};
    if (how.method == scheme::scaled_sign) {
        const double sum = simd::split<true, true, Arch>(v.data(), n, 0, bits).low;
        if (!simd::finite(sum)) return not_finite;
        table[0] = how.unit_magnitude ? 1.0f : static_cast<float>(sum / static_cast<double>(n));
    } else {
        float threshold = 0;
        const bool zero = how.threshold == threshold_rule::zero;
        if (how.threshold == threshold_rule::mean) {
            const double sum = simd::sum_of<simd::detail::term::value, Arch>(v.data(), n);
            if (!simd::finite(sum)) return not_finite;
            threshold = simd::detail::float_at_least(sum / static_cast<double>(n));
        } else if (!zero) {
            const auto found = two_level_means(v, how.threshold, workspace);
            if (!found) return found.status();
            threshold = found->threshold;
        }
        const simd::split_sums sums = simd::split<false, true, Arch>(v.data(), n, threshold, bits);
        if (!simd::finite(sums.low) || !simd::finite(sums.high)) return not_finite;
        const two_levels means = means_of(sums, n, threshold, zero);
        table[0] = means.low;
        table[1] = means.high;
    }
    if (!write_table(to, table, h, false)) return not_finite;
    to = bits + code_bytes(n, h);
    return {};
}

[[nodiscard]] constexpr status check(const encoding& how) noexcept {
    if (how.method > scheme::asq) return {errc::invalid_argument, "method"};
    const bool chosen = fixed_levels(how.method) == 0 && how.method != scheme::raw;
    if (chosen && !legal_levels(how.method, how.levels)) return {errc::invalid_argument, "levels"};
    if (how.bucket == 0 || how.bucket > most_in_bucket) return {errc::invalid_argument, "bucket"};
    if (how.digit_codes && how.method != scheme::raw &&
        digits_in_byte(chosen ? how.levels : fixed_levels(how.method)) == 0)
        return {errc::invalid_argument, "digit_codes"};
    if (!(how.clip_deviations >= 0)) return {errc::invalid_argument, "clip_deviations"};
    return {};
}

template <class Arch>
[[nodiscard]] inline status encode_buckets(std::span<const float> v, std::uint8_t* to, const encoding& how,
                                           const message_header& h, std::span<std::byte> workspace) noexcept {
    const std::uint64_t key = simd::random_key(how.seed, how.stream);
    const bool signs = how.method == scheme::scaled_sign || how.method == scheme::bingrad_b;
    float table[most_levels], levels[most_levels];
    simd::interval_table intervals;
    for (std::size_t first = 0; first < v.size(); first += how.bucket) {
        const auto bucket = v.subspan(first, v.size() - first < how.bucket ? v.size() - first : how.bucket);
        if (signs) {
            if (const status s = write_signs<Arch>(bucket, how, h, to, workspace); !s) return s;
            continue;
        }
        if (const status s = find_table<Arch>(bucket, how, table, workspace); !s) return s;
        if (!write_table(to, table, h, true)) return {errc::non_finite, "v"};
        fill_levels(table, h, levels);
        fill_intervals(levels, h.levels, intervals);
        write_codes<Arch>(bucket, h, intervals, key, how.first_index + first, to);
        to += code_bytes(bucket.size(), h);
    }
    return {};
}

inline void write_raw(std::span<const float> v, std::uint8_t* to) noexcept {
    if constexpr (std::endian::native == std::endian::little) {
        if (!v.empty()) std::memcpy(to, v.data(), v.size() * 4);
    } else {
        for (const float x : v) to = set(to, std::bit_cast<std::uint32_t>(x));
    }
}

} // namespace detail

/// The header of a message of n elements.
[[nodiscard]] constexpr message_header header_of(std::size_t n, const encoding& how) noexcept {
    message_header h{.method = how.method, .bits = 32, .levels = 0, .bucket = how.bucket, .flags = 0, .elements = n};
    if (how.method == scheme::raw) return h;
    const std::size_t fixed = detail::fixed_levels(how.method);
    h.levels = fixed != 0 ? static_cast<std::uint16_t>(fixed) : how.levels;
    h.bits = static_cast<std::uint8_t>(std::bit_width(static_cast<unsigned>(h.levels) - 1u));
    h.flags = (how.half_levels ? flag_half_levels : 0u) | (how.digit_codes ? flag_digit_codes : 0u);
    return h;
}

/// Bytes of a message of n elements, the same for all values. The options must be legal.
[[nodiscard]] constexpr std::size_t message_size(std::size_t n, const encoding& how) noexcept {
    return detail::size_of(header_of(n, how));
}
/// Bytes of a raw message, which encode falls back to.
[[nodiscard]] constexpr std::size_t raw_message_size(std::size_t n) noexcept {
    return message_size(n, {.method = scheme::raw});
}
/// Bytes of workspace that encode takes.
[[nodiscard]] constexpr std::size_t encode_workspace_size(const encoding& how) noexcept {
    const bool sorts = how.method == scheme::orq || how.method == scheme::asq ||
                       (how.method == scheme::bingrad_b && how.threshold == threshold_rule::two_means);
    return sorts ? levels_workspace_size(how.bucket, how.method == scheme::asq && how.exact ? how.levels : 2) : 0;
}

/// Gradients to a message.
/// v          [n]
/// message    message_size(n, how) bytes. Where v holds a NaN, an infinity or, for random rounding, something beyond 2^126, the message becomes
///            a raw one with flag_non_finite, for which raw_message_size(n) bytes are needed
/// workspace  encode_workspace_size(how) bytes
/// Returns the bytes written. Errors: invalid_argument "method", "levels", "bucket", "digit_codes", "clip_deviations"; buffer_too_small
/// "message", "workspace"; non_finite "v" (there was no room for a raw message). Exactness: the same bytes on every architecture. A vector
/// cut between buckets gives the same codes if each call says `first_index`. Complexity: one pass and the placing of the levels.
template <class Arch = simd::native>
[[nodiscard]] inline result<std::size_t> encode(std::span<const float> v, std::span<std::byte> message,
                                                const encoding& how, std::span<std::byte> workspace = {}) noexcept {
    if (const status s = detail::check(how); !s) return s;
    const message_header h = header_of(v.size(), how);
    const std::size_t size = detail::size_of(h), raw_size = raw_message_size(v.size());
    if (message.size() < size) return status{errc::buffer_too_small, "message"};
    auto* const to = reinterpret_cast<std::uint8_t*>(message.data());
    if (how.method != scheme::raw) {
        const status s = detail::encode_buckets<Arch>(v, detail::write_header(to, h), how, h, workspace);
        if (s) return size;
        if (s.code != errc::non_finite || message.size() < raw_size) return s;
    }
    message_header raw = header_of(v.size(), {.method = scheme::raw, .bucket = how.bucket});
    if (how.method != scheme::raw) raw.flags = flag_non_finite;
    detail::write_raw(v, detail::write_header(to, raw));
    return raw_size;
}

/// Checks the first 24 bytes and the length.
/// Errors: invalid_argument "length" (shorter or longer than the header says), "magic", "scheme", "code_bits", "levels", "bucket", "flags".
[[nodiscard]] inline result<message_header> read_header(std::span<const std::byte> message) noexcept {
    const auto wrong = [](const char* what) { return status{errc::invalid_argument, what}; };
    if (message.size() < header_size) return wrong("length");
    const auto* const p = reinterpret_cast<const std::uint8_t*>(message.data());
    if (p[0] != 'G' || p[1] != 'Q' || p[2] != '0' || p[3] != '1') return wrong("magic");
    message_header h;
    if (p[4] > static_cast<std::uint8_t>(scheme::asq)) return wrong("scheme");
    h.method = static_cast<scheme>(p[4]);
    h.bits = p[5];
    h.levels = detail::get<std::uint16_t>(p + 6);
    h.bucket = detail::get<std::uint32_t>(p + 8);
    h.flags = detail::get<std::uint32_t>(p + 12);
    h.elements = detail::get<std::uint64_t>(p + 16);
    const bool raw = h.method == scheme::raw;
    if (!detail::legal_levels(h.method, h.levels)) return wrong("levels");
    if (h.bits != (raw ? 32 : std::bit_width(static_cast<unsigned>(h.levels) - 1u))) return wrong("code_bits");
    if (h.bucket == 0 || h.bucket > most_in_bucket) return wrong("bucket");
    if ((h.flags & ~(raw ? flag_non_finite : flag_half_levels | flag_digit_codes)) != 0) return wrong("flags");
    if ((h.flags & flag_digit_codes) != 0 && detail::digits_in_byte(h.levels) == 0) return wrong("flags");
    if (detail::size_of(h) != message.size()) return wrong("length");
    return h;
}

namespace detail {

/// Calls use(levels, codes, n, first) for every tile of codes of a message whose header is h. Check: looks at tables, codes and padding, and
/// stops at the first that is wrong.
template <class Arch, bool Check, class Use>
[[nodiscard]] inline status walk(const std::uint8_t* p, const message_header& h, Use&& use) noexcept {
    const auto n = static_cast<std::size_t>(h.elements);
    const bool digits = (h.flags & flag_digit_codes) != 0;
    float table[most_levels], levels[most_levels];
    std::uint8_t codes[code_tile];
    for (std::size_t first = 0; first < n; first += h.bucket) {
        const std::size_t bucket = n - first < h.bucket ? n - first : h.bucket;
        p = read_table(p, table, h);
        if constexpr (Check) {
            const std::size_t values = table_values(h.method, h.levels);
            for (std::size_t k = 0; k < values; ++k) {
                if (!simd::finite(table[k]) || (values == 1 && table[k] < 0)) return {errc::invalid_argument, "table"};
                if (k > 0 && table[k] < table[k - 1]) return {errc::invalid_argument, "table"};
            }
        }
        fill_levels(table, h, levels);
        for (std::size_t i = 0; i < bucket; i += code_tile) {
            const std::size_t count = bucket - i < code_tile ? bucket - i : code_tile, bytes = code_bytes(count, h);
            if (digits) {
                if (!unpack_digits(p, codes, count, h.levels)) return {errc::invalid_argument, "codes"};
            } else {
                simd::unpack_codes<Arch>(p, codes, count, h.bits, false);
            }
            if constexpr (Check) {
                if (!digits && count * h.bits % 8 != 0 && (p[bytes - 1] >> (count * h.bits % 8)) != 0)
                    return {errc::invalid_argument, "padding"};
                if (!digits && !std::has_single_bit(static_cast<unsigned>(h.levels))) {
                    std::uint8_t most = 0;
                    for (std::size_t k = 0; k < count; ++k) most = codes[k] > most ? codes[k] : most;
                    if (most >= h.levels) return {errc::invalid_argument, "codes"};
                }
            }
            p += bytes;
            use(static_cast<const float*>(levels), static_cast<const std::uint8_t*>(codes), count, first + i);
        }
    }
    return {};
}

template <simd::detail::decoded Mode, class Arch>
inline void decode_checked(std::span<const std::byte> message, const message_header& h, float* out) noexcept {
    const auto* const p = reinterpret_cast<const std::uint8_t*>(message.data()) + header_size;
    if (h.method == scheme::raw) {
        for (std::size_t i = 0; i < h.elements; ++i)
            out[i] = simd::detail::with_decoded<Mode>(out[i], std::bit_cast<float>(get<std::uint32_t>(p + 4 * i)));
        return;
    }
    (void)walk<Arch, false>(p, h, [&](const float* levels, const std::uint8_t* codes, std::size_t n, std::size_t at) {
        simd::look_up<Mode, Arch>(codes, n, levels, h.levels, out + at);
    });
}

} // namespace detail

/// Looks at a whole message: what decoding it would use is legal. Returns its header.
/// Errors: those of read_header; invalid_argument "table" (not finite, negative magnitude, not ascending), "codes" (not below the number of
/// levels), "padding" (bits after the last code are set). Complexity: one pass over the message.
template <class Arch = simd::native>
[[nodiscard]] inline result<message_header> check_message(std::span<const std::byte> message) noexcept {
    const auto h = read_header(message);
    if (!h || h->method == scheme::raw) return h;
    const auto* const p = reinterpret_cast<const std::uint8_t*>(message.data()) + header_size;
    if (const status s =
            detail::walk<Arch, true>(p, *h, [](const float*, const std::uint8_t*, std::size_t, std::size_t) {});
        !s)
        return s;
    return h;
}

namespace detail {
template <simd::detail::decoded Mode, class Arch>
[[nodiscard]] inline status decode_into(std::span<const std::byte> message, std::span<float> out) noexcept {
    const auto h = check_message<Arch>(message);
    if (!h) return h.status();
    if (h->elements != out.size()) return {errc::shape_mismatch, "elements"};
    decode_checked<Mode, Arch>(message, *h, out.data());
    return {};
}
} // namespace detail

/// The values of a message. out [elements of the message] written.
/// Errors: those of check_message; shape_mismatch "elements". Nothing is written then. Exactness: the same bytes on every architecture.
template <class Arch = simd::native>
[[nodiscard]] inline status decode(std::span<const std::byte> message, std::span<float> out) noexcept {
    return detail::decode_into<simd::detail::decoded::set, Arch>(message, out);
}
/// The same added to what is in `sum`.
template <class Arch = simd::native>
[[nodiscard]] inline status add_decoded(std::span<const std::byte> message, std::span<float> sum) noexcept {
    return detail::decode_into<simd::detail::decoded::add, Arch>(message, sum);
}

/// The mean of what all ranks sent: decoded in the order of the ranks, added in float, divided by their number. Equal on every rank.
/// messages  one per rank, each as `how` makes it or raw          out [n] written
/// Errors name the rank: those of check_message, and invalid_argument "scheme", "levels", "bucket", "flags" of a legal message that is not
/// of this kind, shape_mismatch "elements"; no_data "messages". Nothing is written then.
template <class Arch = simd::native>
[[nodiscard]] inline exchange_status average(std::span<const std::span<const std::byte>> messages, const encoding& how,
                                             std::span<float> out) noexcept {
    if (messages.empty()) return {{errc::no_data, "messages"}};
    const message_header expected = header_of(out.size(), how);
    for (std::size_t rank = 0; rank < messages.size(); ++rank) {
        const auto h = check_message<Arch>(messages[rank]);
        if (!h) return {h.status(), rank};
        const auto wrong = [&](const char* what) { return exchange_status{{errc::invalid_argument, what}, rank}; };
        if (h->elements != expected.elements) return {{errc::shape_mismatch, "elements"}, rank};
        if (h->bucket != expected.bucket) return wrong("bucket");
        if (h->method == scheme::raw) continue;
        if (h->method != expected.method) return wrong("scheme");
        if (h->levels != expected.levels) return wrong("levels");
        if (h->flags != expected.flags) return wrong("flags");
    }
    for (std::size_t rank = 0; rank < messages.size(); ++rank) {
        const message_header h = *read_header(messages[rank]);
        if (rank == 0)
            detail::decode_checked<simd::detail::decoded::set, Arch>(messages[rank], h, out.data());
        else
            detail::decode_checked<simd::detail::decoded::add, Arch>(messages[rank], h, out.data());
    }
    const auto ranks = static_cast<float>(messages.size());
    for (float& x : out) x /= ranks;
    return {};
}

/// What every rank's signs (scaled_sign with unit_magnitude, or any sum of votes) agree on: 1 for v >= 0, else -1. In place.
inline void majority_vote(std::span<float> votes) noexcept {
    for (float& v : votes) v = v >= 0 ? 1.0f : -1.0f;
}

// ---- error feedback -----------------------------------------------------------------------------------------------------------
//   auto s = compensate(gradient, error);             // p = g + e, now in `error`
//   auto size = encode(error, message, how, ...);     // q = Q(p)
//   s = keep_error(message, error);                   // e = p - q
// Required for every biased scheme. After any number of steps sum g - sum q = e.

/// error += gradient. Errors: shape_mismatch "gradient".
[[nodiscard]] inline status compensate(std::span<const float> gradient, std::span<float> error) noexcept {
    if (gradient.size() != error.size()) return {errc::shape_mismatch, "gradient"};
    for (std::size_t i = 0; i < error.size(); ++i) error[i] += gradient[i];
    return {};
}
/// error -= the values of the message. Errors: those of decode.
template <class Arch = simd::native>
[[nodiscard]] inline status keep_error(std::span<const std::byte> message, std::span<float> error) noexcept {
    return detail::decode_into<simd::detail::decoded::subtract, Arch>(message, error);
}

} // namespace QUANT_TARGET_TAG
} // namespace gradients
QUANT_END_NAMESPACE
