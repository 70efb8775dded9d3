// SPDX-License-Identifier: MIT
// What the library computes, as hashes: codes, packed bytes, parameters and floats of its verbs over a fixed corpus, compared
// with golden.txt, which every processor, compiler and option must match. Needs nothing but a C++ library with stdin and stdout:
//
//   golden golden.txt         prints what differs and a closing line; exit code 0, or 1. Without a file: standard input
//   golden --record           prints the hashes; golden.txt is recorded on the scalar architecture (-DQUANT_SIMD=0)
//   golden --list             prints the hashes in any build, to compare two of them
//
// Values are hashed, not memory, so the order of bytes does not matter. The corpus is made of integers and exact products; it holds
// every special value, ties and their neighbours, subnormals, all exponents, odd lengths and arrays that begin anywhere.

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <quant/quant.hpp>
#include <span>
#include <type_traits>

namespace {

// ---- hashes -----------------------------------------------------------------------------------------------------------

/// FNV-1a of numbers, least significant byte first.
class hash {
public:
    void add(std::uint64_t v, unsigned bytes) noexcept {
        for (unsigned k = 0; k < bytes; ++k) value_ = (value_ ^ ((v >> (8 * k)) & 0xFFu)) * 0x100000001B3u;
    }
    template <std::integral T> void add(T v) noexcept { add(static_cast<std::uint64_t>(v), sizeof(T)); }
    void add(std::byte v) noexcept { add(std::to_integer<std::uint8_t>(v)); }
    // Which NaN an operation returns is the processor's choice.
    void add(float v) noexcept { add(v == v ? std::bit_cast<std::uint32_t>(v) : 0x7FC00000u); }
    void add(double v) noexcept { add(v == v ? std::bit_cast<std::uint64_t>(v) : std::uint64_t{0x7FF8} << 48); }
    template <class Half>
        requires(std::same_as<Half, quant::float16> || std::same_as<Half, quant::bfloat16>)
    void add(Half v) noexcept { add(std::bit_cast<std::uint16_t>(v)); }
    void add(const quant::affine_params& p) noexcept {
        add(p.scale), add(p.zero_point), add(p.format.bits), add(p.format.is_signed), add(p.format.narrow_range);
    }
    void add(const quant::channel_correction& c) noexcept { add(c.gain), add(c.shift); }
    void add(const quant::clip_range& r) noexcept { add(r.lo), add(r.hi); }
    void add(const quant::quantized_multiplier& m) noexcept { add(m.mantissa), add(m.shift); }
    void add(quant::status s) noexcept { add(static_cast<std::uint8_t>(s.code)); }
    template <class T> void add(const quant::result<T>& r) noexcept {
        add(r.status());
        if (r) add(*r);
    }
    void add(const quant::tensor_statistics& s) noexcept {
        for (const std::uint64_t n : {s.count, s.non_finite, s.positive}) add(n);
        for (const double v : {s.min, s.max, s.mean, s.mean_square, s.variance, s.mean_abs_deviation, s.centre}) add(v);
    }
    template <class T, std::size_t N> void add(std::span<T, N> values) noexcept {
        for (const auto& v : values) add(v);
    }
    template <class T, std::size_t N> void add(const std::array<T, N>& values) noexcept { add(std::span(values)); }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_; }

private:
    std::uint64_t value_ = 0xCBF29CE484222325u;
};

// ---- names and their hashes, computed and expected ------------------------------------------------------------------------

struct entry {
    char name[64] = {};
    std::uint64_t value = 0;
    bool met = false;
};
constexpr std::size_t most_entries = 256;
entry expected[most_entries];
std::size_t expected_count = 0, matched = 0, different = 0;
bool print_only = false;

void read_expected() noexcept {
    char line[128];
    while (std::fgets(line, sizeof line, stdin) != nullptr && expected_count < most_entries) {
        entry e;
        unsigned long high = 0, low = 0; // in halves: newlib need not know long long
        if (line[0] == '#' || std::sscanf(line, "%63s %8lx%8lx", e.name, &high, &low) != 3) continue;
        e.value = std::uint64_t{high} << 32 | low;
        expected[expected_count++] = e;
    }
}

void print_hash(std::uint64_t value) noexcept {
    std::printf(" %08lx%08lx", static_cast<unsigned long>(value >> 32),
                static_cast<unsigned long>(value & 0xFFFFFFFFu));
}
void report(const char* name, const hash& h) noexcept {
    if (print_only) {
        std::printf("%-40s", name);
        print_hash(h.value());
        std::puts("");
        return;
    }
    for (entry& e : std::span(expected).first(expected_count)) {
        if (std::strcmp(e.name, name) != 0) continue;
        e.met = true;
        if (e.value == h.value()) {
            ++matched;
            return;
        }
        ++different;
        std::printf("different: %-40s", name);
        print_hash(h.value());
        std::fputs(", expected", stdout);
        print_hash(e.value);
        std::puts("");
        return;
    }
    ++different;
    std::printf("not in the golden file: %s\n", name);
}
template <class Compute> void section(const char* name, Compute compute) noexcept {
    hash h;
    compute(h);
    report(name, h);
}

// ---- corpus --------------------------------------------------------------------------------------------------------------

constexpr std::size_t rows = 7, cols = 331,
                      corpus_size = rows * cols; // odd, and longer than any tile with cols times something
constexpr std::array special_bits{0x00000000u, 0x80000000u, 0x00000001u, 0x80000001u,
                                  0x007FFFFFu, 0x807FFFFFu, 0x00800000u, 0x80800000u, // zeros, subnormals
                                  0x0D800000u, 0x0D7FFFFFu, 0x8D800000u, 0x71800000u,
                                  0x717FFFFFu, 0xF1800000u, // 2^-100, 2^100
                                  0x3F800000u, 0xBF800000u, 0x3F000000u, 0xBF000000u,
                                  0x3EFFFFFFu, 0x3F000001u, 0xBEFFFFFFu, 0x3F7FFFFFu, // 1, 1/2
                                  0x4B000000u, 0x4AFFFFFFu, 0xCB000001u, 0x4F000000u,
                                  0xCF000000u, 0x4EFFFFFFu, 0xCF000001u, 0x5F000000u, // 2^23, 2^31, 2^63
                                  0x7F7FFFFFu, 0xFF7FFFFFu, 0x7F800000u, 0xFF800000u,
                                  0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0xFFBFFFFFu}; // largest, inf, NaN
// Powers of two, awkward ones, the smallest and the largest legal scale.
constexpr std::array scales{0x1p-100f, 0x1p-7f,    0.0078431377f, 0.1f,        0.3333333433f,
                            1.0f,      1.0000001f, 1.9999999f,    3.14159274f, 0x1p100f};

/// Memory of the corpus and of results; spans, so that every verb says what became of it.
template <class T, std::size_t N = corpus_size> std::span<T> room() noexcept {
    static std::array<T, N> memory{};
    return memory;
}
const std::span<std::int8_t> codes = room<std::int8_t>();
const std::span<std::uint8_t> unsigned_codes = room<std::uint8_t>();
const std::span<std::int16_t> wide_codes = room<std::int16_t>();
const std::span<std::byte> bytes = room<std::byte, 4 * corpus_size>();
std::array<float, 4 * corpus_size> all_floats{};
const std::span<float> mixed(all_floats.data(), corpus_size);                // anything, all exponents
const std::span<float> spread(all_floats.data() + corpus_size, corpus_size); // finite, with the shape of weights
const std::span<float> result_floats(all_floats.data() + 2 * corpus_size, corpus_size);
const std::span<float> more_floats(all_floats.data() + 3 * corpus_size, corpus_size);

/// Ties between codes, the floats beside them, special values, then random bits, scattered over `to`.
void fill_mixed(std::span<float> to, float scale, std::uint64_t seed) noexcept {
    std::size_t i = 0;
    const auto put = [&](float v) {
        if (i < to.size()) to[i * 5 % to.size()] = v; // 5 and the length have no common divisor
        ++i;
    };
    for (const std::uint32_t b : special_bits) put(std::bit_cast<float>(b));
    for (int code = -40; code <= 40; ++code) {
        const float tie = (static_cast<float>(code) + 0.5f) * scale;
        const auto bits = std::bit_cast<std::uint32_t>(tie);
        for (const std::uint32_t b : {bits - 1, bits, bits + 1}) put(std::bit_cast<float>(b));
    }
    for (const int border : {-32769, -32768, -256, -129, -128, -127, 126, 127, 128, 255, 256, 32767, 65535})
        for (const int half : {0, 1}) {
            const float t = (static_cast<float>(border) + 0.5f * static_cast<float>(half)) * scale;
            const auto bits = std::bit_cast<std::uint32_t>(t);
            for (const std::uint32_t b : {bits - 1, bits, bits + 1}) put(std::bit_cast<float>(b));
        }
    for (; i < to.size();) {
        const std::uint64_t r = quant::random_bits(seed, 1, i);
        if ((r >> 62) == 0)
            put(std::bit_cast<float>(static_cast<std::uint32_t>(r)));
        else // within some hundred codes
            put(static_cast<float>(static_cast<std::int32_t>(r & 0xFFFFFu) - 0x80000) * 0x1p-12f * scale);
    }
}

void fill_spread() noexcept {
    for (std::size_t i = 0; i < corpus_size; ++i) {
        const float a = quant::random_uniform(2, 1, i), b = quant::random_uniform(2, 2, i);
        const float sign = (quant::random_bits(2, 3, i) & 1) != 0 ? 1.0f : -1.0f;
        spread[i] = sign * a * b * b * 2.5f; // rounded three times, nothing added
    }
}

constexpr quant::granularity all_granularities[] = {quant::per_tensor, quant::per_axis(0), quant::per_axis(1),
                                                    quant::per_group(1, 32), quant::per_group(1, 50)};
constexpr const char* granularity_names[] = {"tensor", "rows", "columns", "groups32", "groups50"};

/// The number of slices of the corpus, as a matrix, under a granularity.
std::size_t slices_of(quant::granularity g) noexcept {
    switch (g.unit) {
    case quant::granularity::kind::tensor: return 1;
    case quant::granularity::kind::axis: return g.axis == 0 ? rows : cols;
    case quant::granularity::kind::group: break;
    }
    return rows * ((cols + g.group_size - 1) / g.group_size);
}

/// Parameters that differ from slice to slice: scales awkward and round, zero points all over the format.
std::span<const quant::affine_params> params_of(quant::granularity g, quant::code_format format, float unit) noexcept {
    static std::array<quant::affine_params, cols> params;
    const std::size_t n = slices_of(g);
    for (std::size_t s = 0; s < n; ++s) {
        const float factor = 1.0f + static_cast<float>(s % 13) * 0.125f; // exact
        const auto zero_point =
            format.qmin() + static_cast<std::int32_t>(s * 37 % static_cast<std::size_t>(format.levels()));
        params[s] = {unit * factor, zero_point, format};
    }
    return std::span(params).first(n);
}

// ---- sections ------------------------------------------------------------------------------------------------------------

template <class Code> std::span<Code> storage() noexcept {
    if constexpr (std::same_as<Code, std::int8_t>)
        return codes;
    else if constexpr (std::same_as<Code, std::uint8_t>)
        return unsigned_codes;
    else
        return wide_codes;
}

/// One format, all scales, ways of dividing and roundings; then all lengths up to 150 from several odd addresses.
template <class Code>
void quantize_format(const char* name, quant::code_format format, std::int32_t zero_point) noexcept {
    const std::span<Code> to = storage<Code>();
    char full[64];
    std::snprintf(full, sizeof full, "quantize/%s/scales", name);
    section(full, [&](hash& h) {
        for (std::size_t s = 0; s < scales.size(); ++s) {
            fill_mixed(mixed, scales[s], s);
            for (const auto divide : {quant::scale_by::division, quant::scale_by::reciprocal})
                for (const auto round : {quant::rounding::nearest_even, quant::rounding::half_away,
                                         quant::rounding::toward_negative, quant::rounding::stochastic}) {
                    h.add(quant::quantize(mixed, to, {scales[s], zero_point, format},
                                          {.round = round, .divide = divide, .seed = 7, .stream = s}));
                    h.add(to);
                }
        }
    });
    std::snprintf(full, sizeof full, "quantize/%s/lengths", name);
    section(full, [&](hash& h) {
        fill_mixed(mixed, 0.1f, 77);
        for (std::size_t n = 0; n <= 150; ++n) {
            const std::size_t from = n * 3 % 17, at = n * 5 % 19;
            const auto part = to.subspan(at, n);
            h.add(quant::quantize(std::span(mixed).subspan(from, n), part, {0.1f, zero_point, format}));
            h.add(part);
            const auto floats_part = std::span(result_floats).subspan(at, n);
            h.add(quant::dequantize(part, floats_part, {0.1f, zero_point, format}));
            h.add(floats_part);
            h.add(quant::fake_quant(std::span(mixed).subspan(from, n), floats_part, {0.1f, zero_point, format}));
            h.add(floats_part);
        }
    });
    std::snprintf(full, sizeof full, "fake_quant/%s/scales", name);
    section(full, [&](hash& h) {
        for (std::size_t s = 0; s < scales.size(); ++s) {
            fill_mixed(mixed, scales[s], s + 100);
            for (const auto divide : {quant::scale_by::division, quant::scale_by::reciprocal}) {
                h.add(quant::fake_quant(mixed, result_floats, {scales[s], zero_point, format}, {.divide = divide}));
                h.add(result_floats);
            }
            h.add(quant::quantize(mixed, to, {scales[s], zero_point, format}));
            h.add(quant::dequantize(to, result_floats, {scales[s], zero_point, format}));
            h.add(result_floats);
        }
    });
}

void quantize_sections() noexcept {
    quantize_format<std::int8_t>("int8", quant::int8, 0);
    quantize_format<std::int8_t>("int8_affine", quant::int8, -17);
    quantize_format<std::int8_t>("int8_narrow", quant::int8.narrow(), 0);
    quantize_format<std::uint8_t>("uint8", quant::uint8, 131);
    quantize_format<std::int8_t>("int4", quant::int4, 0);
    quantize_format<std::uint8_t>("uint4", quant::uint4, 5);
    quantize_format<std::int8_t>("int1", quant::int1, 0);
    quantize_format<std::int16_t>("int16", quant::int16, 0);
}

template <class Real> void other_type(const char* name) noexcept {
    section(name, [](hash& h) {
        const std::span<Real> in = room<Real>(), out = room<Real, corpus_size + 1>().first(corpus_size);
        for (const float scale : {0.0078431377f, 0.1f, 1.0f, 3.14159274f}) {
            fill_mixed(mixed, scale, 5);
            for (std::size_t i = 0; i < corpus_size; ++i) {
                if constexpr (std::same_as<Real, double>) // not a float between floats
                    in[i] = static_cast<double>(mixed[i]) * (i % 3 == 0 ? 1.0 : 1.0 + 0x1p-40);
                else
                    in[i] = quant::from_float<Real>(mixed[i]);
            }
            h.add(quant::quantize(in, codes, {scale, 3, quant::int8}));
            h.add(codes);
            h.add(quant::dequantize(codes, out, {scale, 3, quant::int8}));
            h.add(out);
            h.add(quant::fake_quant(in, out, {scale, 3, quant::int8}));
            h.add(out);
        }
    });
}

void granularity_sections() noexcept {
    char name[64];
    fill_mixed(mixed, 0.1f, 9);
    for (std::size_t k = 0; k < std::size(all_granularities); ++k) {
        const quant::granularity g = all_granularities[k];
        std::snprintf(name, sizeof name, "granularity/%s", granularity_names[k]);
        section(name, [&](hash& h) {
            // As it is, and turned over: the codes of one are the other's.
            const auto x = quant::view(mixed, rows, cols);
            const auto c = quant::view(codes, rows, cols);
            const quant::tensor_view<float, 2> strided(result_floats.data(), {rows, cols}, {1, rows});
            const auto p = params_of(g, quant::int8, 0.05f);
            h.add(quant::quantize(x, c, p, g));
            h.add(codes);
            h.add(quant::dequantize(c, strided, p, g));
            h.add(result_floats);
            h.add(quant::fake_quant(strided, quant::view(more_floats, rows, cols), p, g));
            h.add(more_floats);
            h.add(quant::quantize(strided, quant::view(unsigned_codes, rows, cols), params_of(g, quant::uint4, 0.3f), g,
                                  {.round = quant::rounding::stochastic, .seed = 3}));
            h.add(unsigned_codes);
        });
        std::snprintf(name, sizeof name, "dynamic/%s", granularity_names[k]);
        section(name, [&](hash& h) {
            static std::array<quant::affine_params, cols> params;
            static std::array<std::int32_t, cols> sums;
            const auto p = std::span(params).first(slices_of(g));
            const auto s = std::span(sums).first(slices_of(g));
            for (const auto map : {quant::mapping::symmetric, quant::mapping::affine}) {
                h.add(quant::quantize_dynamic(quant::view(spread, rows, cols), quant::view(codes, rows, cols), p, g,
                                              {.map = map, .code_sums = s}));
                h.add(codes), h.add(p), h.add(s);
            }
        });
        std::snprintf(name, sizeof name, "packed/%s", granularity_names[k]);
        section(name, [&](hash& h) {
            for (const std::uint8_t bits : std::array<std::uint8_t, 3>{3, 4, 8}) {
                const auto p = params_of(g, quant::uint8.with_bits(bits), 0.2f);
                const auto packed = std::span(bytes).first((corpus_size * bits + 7) / 8);
                h.add(quant::quantize_packed(quant::view(mixed, rows, cols), packed, p, g));
                h.add(packed);
                h.add(quant::dequantize_packed(packed, quant::view(result_floats, rows, cols), p, g));
                h.add(result_floats);
            }
        });
    }
}

void packing_sections() noexcept {
    char name[64];
    for (const std::uint8_t bits : std::array<std::uint8_t, 9>{1, 2, 3, 4, 5, 6, 7, 8, 16}) {
        std::snprintf(name, sizeof name, "pack/%d", bits);
        section(name, [&](hash& h) {
            const quant::code_format format{bits, true, false};
            for (std::size_t i = 0; i < corpus_size; ++i)
                wide_codes[i] = static_cast<std::int16_t>(
                    format.qmin() +
                    static_cast<std::int32_t>(quant::random_bits(4, bits, i) & 0xFFFFu) % format.levels());
            for (std::size_t i = 0; i < corpus_size; ++i) codes[i] = static_cast<std::int8_t>(wide_codes[i]);
            for (std::size_t n = 0; n < 300; n += n < 140 ? 1 : 37) {
                const std::size_t at = n % 7;
                const auto packed = std::span(bytes).subspan(at, (n * bits + 7) / 8);
                if (bits == 16) {
                    h.add(quant::pack_codes(std::span(wide_codes).subspan(n % 5, n), packed, format));
                    h.add(packed);
                    const auto back = std::span(wide_codes).subspan(400 + at, n);
                    h.add(quant::unpack_codes(packed, back, format));
                    h.add(back);
                } else {
                    h.add(quant::pack_codes(std::span(codes).subspan(n % 5, n), packed, format));
                    h.add(packed);
                    const auto back = std::span(codes).subspan(400 + at, n);
                    h.add(quant::unpack_codes(packed, back, format));
                    h.add(back);
                }
            }
        });
    }
    for (const std::size_t group : {std::size_t{32}, std::size_t{100}})
        for (const auto format : {quant::int4, quant::int8, quant::int4.narrow()}) {
            std::snprintf(name, sizeof name, "groups/%d/int%d%s", static_cast<int>(group), format.bits,
                          format.narrow_range ? "_narrow" : "");
            section(name, [&](hash& h) {
                static std::array<float, rows * cols> group_scales;
                const auto s = std::span(group_scales).first(rows * ((cols + group - 1) / group));
                const auto packed = std::span(bytes).first((corpus_size * format.bits + 7) / 8);
                h.add(quant::quantize_groups(quant::view(spread, rows, cols), packed, s, format, group));
                h.add(packed), h.add(s);
                h.add(quant::dequantize_groups(packed, s, quant::view(result_floats, rows, cols), format, group));
                h.add(result_floats);
            });
        }
}

/// The corpus of calibration: weights of several sizes, and the same with values to be skipped.
void observe_corpus(float size, bool special, std::span<float> to) noexcept {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = spread[i] * size;
    if (!special) return;
    for (std::size_t i = 0; i < special_bits.size(); ++i)
        to[i * 29 % to.size()] = std::bit_cast<float>(special_bits[i]);
}

void observer_sections() noexcept {
    struct {
        const char* name;
        float size;
        bool special;
    } const inputs[] = {{"weights", 1, false}, {"small", 0x1p-60f, false}, {"special", 1, true}};
    char name[64];
    for (const auto& input : inputs) {
        observe_corpus(input.size, input.special, mixed);
        const auto named = [&](const char* what, auto compute) {
            std::snprintf(name, sizeof name, "%s/%s", what, input.name);
            section(name, compute);
        };
        const auto parts = [&](auto&& take) { // odd lengths, odd beginnings
            for (std::size_t at = 0, n = 1; at < corpus_size; at += n, n = n * 2 + 1)
                take(std::span<const float>(mixed).subspan(at, n < corpus_size - at ? n : corpus_size - at));
        };
        named("observe/minmax", [&](hash& h) {
            quant::minmax_observer minmax;
            quant::moving_average_minmax_observer average(0.9);
            parts([&](std::span<const float> x) {
                minmax.observe(x), average.observe(x);
                h.add(minmax.clip()), h.add(average.clip());
            });
            h.add(minmax.count()), h.add(minmax.non_finite());
            // Nothing but subnormals: a processor that takes them for zero would show.
            std::array<float, 37> memory{};
            const std::span<float> tiny(memory);
            for (std::size_t i = 0; i < tiny.size(); ++i)
                tiny[i] = std::bit_cast<float>(static_cast<std::uint32_t>((i % 2 << 31) | (i * 1000 + 1)));
            quant::minmax_observer subnormals;
            subnormals.observe(tiny);
            h.add(subnormals.clip());
        });
        named("observe/moments", [&](hash& h) {
            quant::moments_observer moments(quant::statistics::before_relu),
                shifted(quant::statistics::unspecified, 0.1);
            quant::exact_moments_observer exact;
            parts([&](std::span<const float> x) { moments.observe(x), exact.observe(x), shifted.observe(x); });
            h.add(moments.summary()), h.add(exact.summary()), h.add(shifted.summary());
            h.add(quant::measure_statistics(mixed));
            const quant::tensor_view<const float, 2> turned(mixed.data(), {cols, rows}, {1, cols});
            h.add(quant::measure_statistics(turned));
        });
        static quant::histogram_observer<> histogram;
        histogram = {};
        named("observe/histogram", [&](hash& h) {
            parts([&](std::span<const float> x) { histogram.observe(x); });
            const auto& s = histogram.state();
            h.add(s.bins), h.add(s.count), h.add(s.non_finite), h.add(s.zeros), h.add(s.exponent), h.add(s.min),
                h.add(s.max);
        });
        if (input.special) continue; // one value of 2^127 leaves every weight in two bins
        for (const auto map : {quant::mapping::symmetric, quant::mapping::affine}) {
            named(map == quant::mapping::symmetric ? "clip/symmetric" : "clip/affine", [&](hash& h) {
                for (const auto format : {quant::int8, quant::int4, quant::uint8, quant::uint4, quant::int2})
                    for (const quant::result<quant::clip_range>& range :
                         {quant::percentile(99.9).clip(histogram, format, map),
                          quant::percentile(90).clip(histogram, format, map),
                          quant::mse_optimal.clip(histogram, format, map)}) {
                        h.add(range);
                        if (range) h.add(quant::choose_params(*range, format, map));
                    }
            });
        }
    }
    observe_corpus(1, false, mixed);
    section("measure_error", [](hash& h) {
        h.add(quant::fake_quant(mixed, result_floats, {0.05f, 0, quant::int4}));
        const quant::result<quant::error_measures> m = quant::measure_error(mixed, result_floats);
        h.add(m.status());
        if (m) {
            h.add(m->count), h.add(m->non_finite);
            h.add(m->mse), h.add(m->max_abs_error), h.add(m->cosine); // the decibels are the C library's log10
        }
    });
}

void params_sections() noexcept {
    section("choose_params", [](hash& h) {
        constexpr double ends[] = {
            0,   0x1p-130, 1e-30, 0.1,    0.5,    1,     3.3,
            127, 255,      1e20,  1.5e32, 3.4e38, 1e300, std::numeric_limits<double>::infinity()};
        for (const auto map : {quant::mapping::symmetric, quant::mapping::affine})
            for (const bool is_signed : {false, true})
                for (const std::uint8_t bits : std::array<std::uint8_t, 9>{1, 2, 3, 4, 5, 6, 7, 8, 16})
                    for (const double lo : ends)
                        for (const double hi : ends) {
                            h.add(quant::choose_params({-lo, hi}, {bits, is_signed, false}, map));
                            h.add(quant::choose_params({lo, hi}, {bits, is_signed, is_signed}, map));
                        }
    });
    // What a formula with exp, log and erfc gives in double may differ from one C library to the next in its last bits; the
    // parameters, which are floats, may not.
    struct {
        const char* name;
        quant::aciq_clipping how;
    } const ways[] = {{"laplace", quant::aciq(quant::prior::laplace)},
                      {"gauss", quant::aciq(quant::prior::gauss)},
                      {"laplace_paper", quant::aciq(quant::prior::laplace, quant::aciq_mode::paper)},
                      {"gauss_exact", quant::aciq(quant::prior::gauss, quant::aciq_mode::exact)}};
    for (const auto& way : ways) {
        char name[64];
        std::snprintf(name, sizeof name, "aciq/%s", way.name);
        section(name, [&](hash& h) {
            for (const float size : {1.0f, 0x1p-20f, 1000.0f, 0.3f}) {
                observe_corpus(size, false, mixed);
                quant::moments_observer before(quant::statistics::before_relu);
                before.observe(mixed);
                const quant::tensor_statistics own = quant::measure_statistics(mixed);
                for (const std::uint8_t bits : std::array<std::uint8_t, 5>{2, 3, 4, 6, 8})
                    for (const bool is_signed : {true, false}) {
                        const quant::code_format format{bits, is_signed, false};
                        const auto range = is_signed ? way.how.clip(own, format) : way.how.clip(before, format);
                        h.add(range.status());
                        if (range) h.add(quant::choose_params(*range, format, quant::mapping::symmetric));
                    }
            }
        });
    }
    section("allocate_bits", [](hash& h) {
        static std::array<quant::tensor_statistics, cols> statistics;
        static std::array<std::uint8_t, cols> bits;
        for (std::size_t c = 0; c < cols; ++c)
            statistics[c] = quant::measure_statistics(quant::tensor_view<const float, 1>(&spread[c], {rows}, {cols}));
        // With memory for a heap: without, a search over all channels for each bit takes a microcontroller long.
        static std::array<std::byte, quant::allocate_bits_workspace_size(cols)> workspace;
        for (const float average : {2.5f, 4.0f, 6.1f}) {
            h.add(quant::allocate_bits(statistics, bits, {.average_bits = average, .min_bits = 2, .max_bits = 8}, {},
                                       workspace));
            h.add(bits);
        }
    });
    section("scheme/per_channel_aciq", [](hash& h) {
        using namespace quant;
        const auto q = quantize(view(spread, rows, cols), int4 | per_axis(0) | aciq(prior::laplace) | bias_corrected);
        h.add(q.status());
        if (!q) return;
        h.add(q->params()), h.add(q->corrections());
        h.add(dequantize(*q, view(result_floats, rows, cols)));
        h.add(result_floats);
    });
    section("scheme/average_bits", [](hash& h) {
        using namespace quant;
        const auto q =
            quantize(view(spread, rows, cols), int4 | per_axis(0) | aciq(prior::laplace) | average_bits(4.0f, {2, 8}));
        h.add(q.status());
        if (q) h.add(q->params()), h.add(dequantize(*q, view(result_floats, rows, cols))), h.add(result_floats);
    });
}

void integer_sections() noexcept {
    static std::array<std::int32_t, corpus_size> accumulators;
    for (std::size_t i = 0; i < corpus_size; ++i) {
        const auto r = static_cast<std::int32_t>(quant::random_bits(6, 1, i));
        accumulators[i] = i % 11 == 0 ? r : r >> 14;
    }
    accumulators[3] = std::numeric_limits<std::int32_t>::min(),
    accumulators[4] = std::numeric_limits<std::int32_t>::max();
    const auto acc = quant::view(accumulators, rows, cols);
    std::array<float, rows> weight_scales{}, multipliers{};
    std::array<quant::quantized_multiplier, rows> fixed{};
    std::array<std::int32_t, rows> bias{};
    for (std::size_t r = 0; r < rows; ++r) weight_scales[r] = 0.01f + 0.0625f * static_cast<float>(r * r);
    section("requantize/float", [&](hash& h) {
        h.add(quant::quantize_bias(weight_scales, 0.5f, weight_scales, bias).status());
        h.add(bias);
        h.add(quant::requantize_multipliers(0.02f, weight_scales, 0.3f, multipliers));
        h.add(multipliers);
        for (const quant::granularity g : {quant::per_axis(0), quant::per_tensor}) {
            const auto m = std::span<const float>(multipliers).first(slices_of(g));
            h.add(quant::requantize(acc, quant::view(codes, rows, cols), m, g, {.zero_point = -3}));
            h.add(codes);
            h.add(quant::requantize(acc, quant::view(unsigned_codes, rows, cols), m, g,
                                    {.format = quant::uint8, .zero_point = 3, .lo = 3, .hi = 200},
                                    {.bias = std::span<const std::int32_t>(bias).first(m.size())}));
            h.add(unsigned_codes);
        }
    });
    section("requantize/fixed_point", [&](hash& h) {
        h.add(quant::requantize_multipliers(0.02f, weight_scales, 0.3f, fixed));
        h.add(fixed);
        for (const auto rule : {quant::requantization::double_rounding, quant::requantization::single_rounding}) {
            h.add(quant::requantize(acc, quant::view(codes, rows, cols), fixed, quant::per_axis(0), {.zero_point = 5},
                                    {.rule = rule, .bias = bias}));
            h.add(codes);
        }
    });
    section("zero_points", [&](hash& h) {
        std::array<std::int32_t, rows> sums{}, terms{};
        h.add(quant::quantize(spread, codes, {0.01f, 4, quant::int8}));
        h.add(quant::code_sums(quant::view(codes, rows, cols), sums, quant::per_axis(0)));
        h.add(sums);
        h.add(quant::accumulator_zero_point_correction(sums, {}, -7, cols, terms, bias));
        h.add(terms);
    });
    section("products/int8", [&](hash& h) {
        h.add(quant::quantize(spread, codes, {0.01f, 0, quant::int8}));
        const auto w = quant::view(codes, rows, cols);
        std::array<std::int32_t, rows> sums{};
        std::array<std::int32_t, rows * rows> square{};
        std::array<float, rows> y{};
        for (std::size_t k = 0; k < 40; ++k) { // odd depths
            const quant::tensor_view<const std::int8_t, 2> part(codes.data() + k, {rows, cols - 40 - k}, {cols, 1});
            const auto x = std::span<const std::int8_t>(codes).subspan(k * 3, cols - 40 - k);
            h.add(quant::gemv(part, x, sums));
            h.add(sums);
        }
        const auto x = std::span<const std::int8_t>(codes).first(cols);
        h.add(quant::gemv(w, x, y, quant::row_scales{weight_scales}));
        h.add(y);
        h.add(quant::gemm(w, w, quant::view(square, rows, rows)));
        h.add(square);
    });
    section("products/packed_int4", [&](hash& h) {
        constexpr std::size_t even = cols - 1, groups = (even + 31) / 32;
        static std::array<float, rows * groups> group_scales;
        static std::array<std::byte, rows * even / 2> packed;
        const quant::tensor_view<const float, 2> w(spread.data(), {rows, even}, {cols, 1});
        h.add(quant::quantize_groups(w, packed, group_scales, quant::int4, 32));
        h.add(quant::quantize(spread, codes, {0.01f, 0, quant::int8}));
        const auto x = std::span<const std::int8_t>(codes).first(even);
        std::array<std::int32_t, rows> sums{};
        std::array<float, rows> y{};
        const quant::int4_matrix m{packed, rows, even};
        h.add(quant::gemv(m, x, sums));
        h.add(sums);
        h.add(quant::gemv(m, x, y, quant::group_scales{group_scales}));
        h.add(y);
    });
    section("bit_planes", [&](hash& h) {
        static std::array<std::uint16_t, quant::bit_plane_words(rows, cols, 16)> words;
        static std::array<std::uint16_t, quant::bit_plane_words(1, cols, 16)> x_words;
        std::array<quant::affine_params, rows> params{};
        params.fill({0.02f, 0, quant::int8});
        const auto w = quant::view(codes, rows, cols);
        std::array<std::int32_t, rows> sums{};
        for (const std::uint8_t most : std::array<std::uint8_t, 3>{8, 3, 2}) {
            h.add(quant::quantize(spread, codes, params[0]));
            h.add(quant::prune_planes(w, params, quant::per_axis(0), {.max_planes = most}).status());
            h.add(codes);
            quant::bit_plane_view<std::uint16_t> planes(words, rows, cols, 16), x_planes(x_words, cols, 16);
            h.add(quant::pack_bit_planes(w, planes, quant::choose_planes(w)));
            h.add(std::uint64_t{quant::drop_empty_planes(planes)});
            h.add(planes.words().first(planes.size_bytes() / 2));
            const auto x = std::span<const std::int8_t>(codes).last(cols);
            h.add(quant::pack_bit_planes(x, x_planes, quant::int8));
            h.add(quant::gemv(planes, x, sums));
            h.add(sums);
            h.add(quant::gemv(planes, x_planes, sums));
            h.add(sums);
            h.add(quant::unpack_bit_planes(planes, w));
            h.add(codes);
        }
    });
}

void method_sections() noexcept {
    section("bias_correction", [](hash& h) {
        std::array<quant::channel_correction, rows> corrections{};
        const auto p = params_of(quant::per_axis(0), quant::int4, 0.2f);
        h.add(quant::quantize(quant::view(spread, rows, cols), quant::view(codes, rows, cols), p, quant::per_axis(0)));
        for (const auto how : {quant::correct::mean, quant::correct::mean_and_norm}) {
            h.add(quant::bias_correction(quant::view(spread, rows, cols), quant::view(codes, rows, cols), p,
                                         corrections, quant::per_axis(0), how));
            h.add(corrections);
        }
    });
    section("equalize", [](hash& h) {
        for (std::size_t i = 0; i < corpus_size; ++i) result_floats[i] = more_floats[i] = spread[i];
        const quant::equalization_pair pair[] = {{*quant::output_channels(quant::view(result_floats, rows, cols)),
                                                  *quant::input_channels(quant::view(more_floats, cols, rows)),
                                                  {},
                                                  {}}};
        h.add(quant::equalize(pair).status());
        h.add(result_floats), h.add(more_floats);
    });
    section("round_for_sums", [](hash& h) {
        static std::array<double, corpus_size> errors;
        static std::array<std::size_t, corpus_size> order;
        h.add(quant::round_for_sums<std::int8_t>(spread, {0.05f, 0, quant::int8}, 7, codes, errors, order));
        h.add(codes);
    });
    section("round_for_outputs", [](hash& h) {
        constexpr std::size_t depth = 24;
        std::array<double, depth * depth> moments{};
        h.add(quant::input_moments(std::span<const float>(spread).first(depth * 90), depth, moments));
        for (std::size_t i = 0; i < depth; ++i) moments[i * depth + i] += 0.125;
        h.add(moments);
        h.add(quant::factor_moments(moments, depth));
        std::array<double, depth> errors{};
        const auto to = std::span(codes).first(depth);
        h.add(quant::round_for_outputs<std::int8_t>(std::span<const float>(spread).last(depth), moments,
                                                    {0.1f, 0, quant::int4}, to, errors));
        h.add(to), h.add(moments);
    });
    section("fit_point", [](hash& h) {
        static std::array<quant::fit_event, corpus_size> scratch;
        for (const int largest : {1, 3, 7, 127}) {
            const auto k = std::span(codes).first(200);
            const auto fit = quant::fit_point(std::span<const float>(spread).first(200), largest, k, scratch);
            h.add(fit.status());
            h.add(std::span<const std::int8_t>(k));
        }
    });
    section("csq", [](hash& h) {
        constexpr std::size_t n = 211, planes = 4;
        static std::array<float, n * planes> positive, negative, d_positive, d_negative;
        std::array<float, planes> mask{}, d_mask{};
        std::array<float, 1> scale{}, d_scale{};
        const quant::csq::layer<float> layer{positive, negative, mask, scale, planes};
        const quant::csq::layer<float> grads{d_positive, d_negative, d_mask, d_scale, planes};
        const auto w = std::span<const float>(spread).first(n);
        const auto out = std::span(result_floats).first(n);
        h.add(quant::csq::init_from_float(w, layer));
        for (const double temperature : {1.0, 7.5, 100.0}) {
            h.add(quant::csq::forward(layer, out, temperature));
            h.add(out);
            h.add(quant::csq::backward(layer, w, grads, temperature));
            h.add(d_positive), h.add(d_negative), h.add(d_mask), h.add(d_scale);
        }
        h.add(quant::csq::harden(layer, std::span(codes).first(n), std::span<float>(scale)).status());
        h.add(std::span(codes).first(n)), h.add(scale);
    });
    section("bsq", [](hash& h) {
        constexpr std::size_t n = 211;
        static std::array<float, 5 * n> positive, negative, d_positive, d_negative;
        std::array<float, 1> scale{}, d_scale{};
        quant::bsq::layer<float> layer{positive, negative, scale, n, 4};
        const quant::bsq::layer<float> grads{d_positive, d_negative, d_scale, n, 4};
        const auto w = std::span<const float>(spread).first(n);
        const auto out = std::span(result_floats).first(n);
        h.add(quant::bsq::init_from_float(w, layer));
        h.add(quant::bsq::forward(layer, out)), h.add(out);
        h.add(quant::bsq::backward(layer, w, grads));
        h.add(quant::bsq::add_lasso_gradient(layer, grads, 0.1));
        h.add(d_positive), h.add(d_negative), h.add(d_scale);
        h.add(quant::bsq::requantize(layer, {.most_planes = 5}).status());
        h.add(positive), h.add(negative), h.add(scale);
    });
    section("fracbits", [](hash& h) {
        std::array<float, rows> widths{2.5f, 3.5f, 4.25f, 5, 6.75f, 7.5f, 3.1f}, d_widths{};
        h.add(quant::fracbits::forward(spread, result_floats, widths)), h.add(result_floats);
        h.add(quant::fracbits::backward(spread, spread, more_floats, d_widths, widths));
        h.add(more_floats), h.add(d_widths);
    });
    section("gradient_messages", [](hash& h) {
        namespace gradients = quant::gradients;
        for (const auto method : {gradients::scheme::terngrad, gradients::scheme::qsgd, gradients::scheme::orq,
                                  gradients::scheme::scaled_sign, gradients::scheme::linear, gradients::scheme::asq}) {
            const gradients::encoding how{
                .method = method,
                .levels = static_cast<std::uint16_t>(method == gradients::scheme::terngrad      ? 3
                                                     : method == gradients::scheme::scaled_sign ? 2
                                                                                                : 5),
                .bucket = 100,
                .seed = 11,
                .stream = 12};
            alignas(8) static std::array<std::byte, 1 << 16> workspace;
            const auto size = gradients::encode(spread, bytes, how, workspace);
            h.add(size.status());
            if (!size) continue;
            const auto message = std::span<const std::byte>(bytes).first(*size);
            h.add(message);
            h.add(gradients::decode(message, result_floats)), h.add(result_floats);
        }
    });
}

/// What trains, and what chooses widths: sums in double, gates from the library's own sigmoid.
void training_sections() noexcept {
    constexpr std::size_t n = 211;
    const auto w = std::span<const float>(spread).first(n), g = std::span<const float>(spread).last(n);
    const auto out = std::span(result_floats).first(n), more = std::span(more_floats).first(n);
    const auto k = std::span(codes).first(n);
    section("cpq", [&](hash& h) {
        namespace cpq = quant::cpq;
        std::array<float, 8> gates{};
        std::array<double, 8> d_gates{};
        constexpr std::array z{0.75, 0.3}, slopes{0.5, 0.25};
        std::array<double, 2> d_phi{};
        h.add(quant::dropbits::magnitude_gates<float>(z, gates, 4)), h.add(gates);
        const auto step = [&](const cpq::grid& grid, cpq::surrogate which, std::span<const float> open) {
            h.add(cpq::forward(w, out, grid, open)), h.add(out);
            h.add(cpq::points(w, k, grid, open)), h.add(k);
            const auto d = cpq::backward(w, g, more, grid, which, open);
            h.add(d.status()), h.add(more);
            if (d) h.add(d->alpha), h.add(d->beta), h.add(d->sigma);
        };
        const cpq::grid all{.alpha = 0.1, .beta = 0.003, .sigma = 0.04, .bits = 4};
        step(all, cpq::surrogate::mode, {});
        step(all, cpq::surrogate::mode, gates);
        step({.alpha = 0.05, .sigma = 0.02, .bits = 6, .window = 3}, cpq::surrogate::expectation, {});
        h.add(cpq::add_gate_gradient(w, g, d_gates, all, cpq::surrogate::mode, gates)), h.add(d_gates);
        h.add(quant::dropbits::gate_gradients(z, slopes, d_gates, d_phi, 4)), h.add(d_phi);
    });
    section("fracbits/activations", [&](hash& h) {
        h.add(quant::fracbits::forward_activations(w, out, 0.7, 3.3)), h.add(out);
        const auto d = quant::fracbits::backward_activations(w, g, more, 0.7, 3.3);
        h.add(d.status()), h.add(more);
        if (d) h.add(d->width), h.add(d->clip);
    });
    section("fixed_planes", [&](hash& h) {
        const std::array<float, 1> scale{0.03f};
        std::array<float, 1> d_scale{};
        for (const std::uint32_t mask : {0b1111u, 0b101100u}) {
            h.add(quant::round_to_planes(w, out, scale, {mask})), h.add(out);
            h.add(quant::round_to_planes_backward(w, g, more, d_scale, scale, {mask}));
            h.add(more), h.add(d_scale);
        }
        h.add(quant::codes_of_planes(w, k, scale, {0b101u})), h.add(k);
    });
    section("rmsmp", [&](hash& h) {
        namespace rmsmp = quant::rmsmp;
        const auto wide = quant::view(spread, rows, cols);
        std::array<double, rows> curvature{}, score{};
        std::array<float, rows> row_scales{}, d_scales{};
        std::array<rmsmp::row_scheme, rows> scheme{};
        std::array<std::uint32_t, rows> order{};
        h.add(rmsmp::add_row_curvature(quant::view(std::span<const float>(spread), cols, rows), curvature));
        h.add(curvature);
        for (std::size_t r = 0; r < rows; ++r) score[r] = curvature[r * 3 % rows];
        h.add(rmsmp::assign_rows(curvature, score, {65, 30, 5}, scheme, order).status()), h.add(order);
        h.add(rmsmp::largest_of_rows(wide, std::span(row_scales))), h.add(row_scales);
        for (float& s : row_scales) s *= 0.8f;
        for (const auto domain : {rmsmp::nearest_in::linear, rmsmp::nearest_in::logarithm}) {
            h.add(rmsmp::project(wide, quant::view(result_floats, rows, cols), scheme, row_scales, domain));
            h.add(result_floats);
        }
        h.add(rmsmp::backward(wide, wide, quant::view(more_floats, rows, cols), d_scales, scheme, row_scales));
        h.add(more_floats), h.add(d_scales);
        h.add(rmsmp::encode(wide, quant::view(codes, rows, cols), scheme, row_scales)), h.add(codes);
        h.add(rmsmp::shift_add_dot(std::span<const std::int8_t>(codes).subspan(order[0] * cols, cols),
                                   std::span<const std::int8_t>(codes).first(cols)));
    });
    section("admm", [&](hash& h) {
        static std::array<quant::fit_event, n> scratch;
        static std::array<float, n> dual;
        for (const int bits : {1, 3}) {
            for (std::size_t i = 0; i < n; ++i) out[i] = w[i];
            const quant::admm::cluster<float> c{out, more, dual, k, bits};
            h.add(quant::admm::start(c, scratch).status());
            for (int round = 0; round < 3; ++round) {
                h.add(quant::admm::add_penalty_gradient(c, 0.3, out));
                const auto now = quant::admm::update(c, scratch);
                h.add(now.status()), h.add(more), h.add(dual), h.add(k);
                if (now) h.add(now->step), h.add(now->gap);
            }
        }
        const auto turns = quant::admm::project_by_turns(w, 4, k);
        h.add(turns.status()), h.add(k);
        if (turns) h.add(turns->step), h.add(turns->error);
    });
    section("multipoint", [&](hash& h) {
        constexpr std::size_t depth = 24, channels = 9, most = 4;
        std::array<double, depth * depth> moments{};
        static std::array<std::byte, quant::multipoint_workspace_size(depth, most)> workspace;
        std::array<std::uint8_t, channels> counts{};
        std::array<float, channels * most> steps{};
        std::array<float, channels> y{};
        std::array<std::int32_t, channels * most> sums{};
        const auto weights = std::span<const float>(spread).first(channels * depth);
        const auto points = std::span(codes).first(channels * most * depth);
        h.add(quant::input_moments(std::span<const float>(spread).first(depth * 90), depth, moments));
        for (const bool outputs : {false, true}) {
            const quant::multipoint_options how{.largest = 3, .passes = outputs ? 0 : 2, .tolerance = 1e-2};
            const auto metric = outputs ? std::span<const double>(moments) : std::span<const double>();
            const auto total = quant::multipoint_layer(weights, depth, metric, how, counts, steps, points, workspace);
            h.add(total.status()), h.add(counts);
            if (!total) continue;
            const auto used = std::span<const float>(steps).first(*total);
            h.add(used), h.add(points.first(*total * depth));
            h.add(quant::multipoint_gemv(
                quant::view(std::span<const std::int8_t>(points).first(*total * depth), *total, depth),
                std::span<const std::int8_t>(points).first(depth), counts, used, 0.01f, std::span(sums).first(*total),
                y));
            h.add(y);
        }
    });
    section("mixed_precision", [&](hash& h) {
        constexpr std::size_t depth = 24, layers = 6;
        constexpr std::array<std::uint8_t, 4> bits{2, 3, 4, 8};
        std::array<std::span<const float>, layers> weights;
        std::array<std::uint8_t, layers> widths{}, choice{};
        std::array<double, layers * bits.size()> errors{};
        std::array<std::uint64_t, layers> elements{};
        std::array<std::uint64_t, layers * bits.size()> cost{};
        for (std::size_t l = 0; l < layers; ++l) {
            elements[l] = 100 + 50 * l;
            weights[l] = std::span<const float>(spread).subspan(300 * l, 100 + 50 * l);
        }
        h.add(quant::mixquant_search(weights, bits, widths, errors, {.multiplier = 20})), h.add(widths), h.add(errors);
        h.add(quant::size_costs(elements, bits, cost));
        static std::array<std::byte, quant::allocate_exact_workspace_size(layers, bits.size(), 400)> workspace;
        const quant::option_table table{errors, cost, layers, bits.size()};
        for (const auto best : {quant::allocate_greedy(table, 5000, choice, workspace),
                                quant::allocate_exact(table, 5000, choice, workspace)}) {
            h.add(best.status());
            if (best) h.add(best->loss), h.add(best->cost), h.add(best->bound);
        }
        h.add(choice);
        std::array<double, depth * depth> moments{};
        std::array<double, depth> scratch{};
        static std::array<double, corpus_size> fisher;
        h.add(quant::fake_quant(spread, result_floats, {0.05f, 0, quant::int4}));
        h.add(quant::squared_error(spread, result_floats));
        h.add(quant::input_moments(std::span<const float>(spread).first(depth * 90), depth, moments));
        h.add(quant::output_squared_error(std::span<const float>(spread).first(depth * 90),
                                          std::span<const float>(result_floats).first(depth * 90), moments, scratch));
        h.add(quant::add_squared_gradient(spread, fisher));
        h.add(quant::fisher_error(fisher, 3, spread, result_floats));
    });
    section("precision_search", [&](hash& h) {
        constexpr std::array a{0.5, 0.2, 0.3}, bits{2.0, 3.0, 8.0};
        std::array<double, 3> d_logits{}, more_logits{};
        const auto outputs = quant::view(std::span<const float>(spread).first(3 * n), 3, n);
        h.add(quant::precision_search::mix(outputs, a, out)), h.add(out);
        h.add(quant::precision_search::mix_backward(outputs, g, a,
                                                    quant::view(std::span(more_floats).first(3 * n), 3, n), d_logits));
        h.add(more_floats), h.add(d_logits);
        h.add(quant::precision_search::penalty(a, bits));
        h.add(quant::precision_search::add_penalty_gradient(a, bits, 0.1, more_logits)), h.add(more_logits);
    });
    section("constraints", [&](hash& h) {
        namespace constraints = quant::constraints;
        std::array<double, 4> lambda{0, 0.5, 0.25, 1};
        std::array<std::uint32_t, 4> order{};
        for (std::size_t i = 0; i < n; ++i) out[i] = w[i];
        for (const auto d : {constraints::distance::squared, constraints::distance::absolute}) {
            h.add(constraints::layer_slack(w, g, 0.1, d));
            h.add(constraints::add_layer_gradient(w, g, 0.3, out, d)), h.add(out);
        }
        h.add(constraints::dual_step(lambda, std::array{0.3, -0.7, 0.1, 0.2}, 0.01)), h.add(lambda);
        h.add(constraints::rank_layers(lambda, order)), h.add(order);
    });
}

const char* architecture() noexcept {
#if QUANT_HAS_XSIMD
    return quant::simd::native::name();
#else
    return "scalar";
#endif
}

} // namespace

int main(int argc, char** argv) {
    const bool record = argc > 1 && std::strcmp(argv[1], "--record") == 0;
    print_only = record || (argc > 1 && std::strcmp(argv[1], "--list") == 0);
    if (argc > 1 && !print_only && (argv[1][0] == '-' || std::freopen(argv[1], "r", stdin) == nullptr)) {
        std::fputs("golden [golden.txt] | golden --record | golden --list\n", stderr);
        return 2;
    }
    if (record && !quant::simd::is_scalar<quant::simd::native>) {
        std::fputs("golden: only the scalar architecture records: compile with -DQUANT_SIMD=0\n", stderr);
        return 2;
    }
    if (print_only)
        std::puts("# Hashes of what the library computes, the same on every processor; tests/golden/golden.cpp says of "
                  "what.");
    else
        read_expected();
    fill_spread();
    quantize_sections();
    other_type<double>("type/double");
    other_type<quant::float16>("type/float16");
    other_type<quant::bfloat16>("type/bfloat16");
    granularity_sections();
    packing_sections();
    observer_sections();
    params_sections();
    integer_sections();
    method_sections();
    training_sections();
    if (print_only) return 0;
    for (const entry& e : std::span(expected).first(expected_count)) {
        if (e.met) continue;
        ++different;
        std::printf("not computed: %s\n", e.name);
    }
    std::printf("golden, %s: %lu equal, %lu different\n", architecture(), static_cast<unsigned long>(matched),
                static_cast<unsigned long>(different));
    return matched > 0 && different == 0 ? 0 : 1;
}
