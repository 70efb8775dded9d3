// SPDX-License-Identifier: MIT
// Floats to codes, every float there is: the kernels against the scalar definition, quantize_one.
//
//   exhaustive                all 2^32 floats for every scale and format: minutes
//   exhaustive --sample       one float in 4099 (a prime: every exponent, no pattern of the significand) and the five floats
//                             around every border between two codes: seconds, also under an emulator
//   exhaustive --part 1/2     one half of the floats, for two processes
//
// On x86 each instruction set that is compiled in is compared, not only the widest. Prints a line per case and a closing line; exit
// code 0, or 1 when a code differed.

#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <quant/uniform.hpp>
#include <span>
#include <type_traits>

namespace {

struct test_case {
    float scale;
    quant::scale_by divide;
};
constexpr auto division = quant::scale_by::division, reciprocal = quant::scale_by::reciprocal;
// The smallest and the largest legal scale and their neighbours, powers of two, awkward ones; two for which the corrected product
// that stands for a division on processors with FMA is only just allowed and not allowed (docs/numerics.md).
constexpr test_case cases[] = {
    {0x1p-100f, division},      {0x1.000002p-100f, division}, {0x1.fffffep99f, division},
    {0x1p100f, division},       {0x1p-7f, division},          {1.0f, division},
    {32.0f, division},          {0.0078431377f, division},    {0.1f, division},
    {0.333333343f, division},   {1.0000001f, division},       {1.9999999f, division},
    {3.14159274f, division},    {0x1.020022p0f, division},    {0x1.02000ap0f, division},
    {0x1p-100f, reciprocal},    {0x1p100f, reciprocal},       {0.1f, reciprocal},
    {0.333333343f, reciprocal}, {3.14159274f, reciprocal},
};

constexpr std::size_t chunk = 1 << 13;
float x[chunk];
std::int16_t wide[2][chunk];
std::uint8_t narrow[2][chunk];

struct counter {
    std::uint64_t floats = 0, different = 0;
};

template <class Code> void print_difference(const Code* expected, const Code* got, std::size_t n, const char* name) {
    for (std::size_t i = 0; i < n; ++i)
        if (expected[i] != got[i]) {
            std::printf("different: %08x is %d by definition, %d on %s\n",
                        static_cast<unsigned>(std::bit_cast<std::uint32_t>(x[i])), expected[i], got[i], name);
            return;
        }
}

/// The definition, in a form that a compiler vectorizes: constant options.
template <quant::scale_by Divide, class Code>
void define(Code* codes, std::size_t n, const quant::affine_params& params) noexcept {
    for (std::size_t i = 0; i < n; ++i)
        codes[i] = static_cast<Code>(quant::quantize_one(x[i], params, {.divide = Divide}));
}

/// The first n elements of x on every architecture of the list but the first, which is the scalar one.
template <class Code, class... Arch>
void compare(quant::arch::list<quant::simd::scalar, Arch...>, std::size_t n, const quant::affine_params& params,
             const quant::quantize_options& options, Code* expected, Code* got, counter& total) noexcept {
    if (options.divide == division)
        define<division>(expected, n, params);
    else
        define<reciprocal>(expected, n, params);
    const auto same = [&](const char* name) {
        if (std::memcmp(expected, got, n * sizeof(Code)) == 0) return;
        for (std::size_t i = 0; i < n; ++i) total.different += expected[i] != got[i] ? 1 : 0;
        print_difference(expected, got, n, name);
    };
    if constexpr (sizeof...(Arch) == 0) { // no SIMD: the verb
        static_cast<void>(quant::quantize(std::span<const float>(x, n), std::span(got, n), params, options));
        same("scalar");
    }
    const auto on = [&]<class A>(std::type_identity<A>) {
        // 32-bit NEON has no kernel for this: the verb takes the scalar definition there.
        using arch = std::conditional_t<std::is_same_v<A, quant::simd::native>, quant::simd::native_division, A>;
        quant::simd::quantize<arch>(x, got, n, quant::simd::uniform_params{params}, options);
        same(arch::name());
    };
    (on(std::type_identity<Arch>{}), ...);
    total.floats += n;
}

/// Fills x with what next() gives until it says that there is no more, and compares.
template <class Code, class Next>
void compare_all(const quant::affine_params& params, const quant::quantize_options& options, Code* expected, Code* got,
                 counter& total, Next next) noexcept {
    std::uint32_t bits = 0;
    for (bool more = true; more;) {
        std::size_t n = 0;
        while (n < chunk && (more = next(bits))) x[n++] = std::bit_cast<float>(bits);
        compare(quant::simd::compiled_archs{}, n, params, options, expected, got, total);
    }
}

struct range {
    std::uint64_t first = 0, end = std::uint64_t{1} << 32, step = 1;
};

template <class Code>
counter run(const quant::affine_params& params, const quant::quantize_options& options, const range& floats,
            Code* expected, Code* got) noexcept {
    counter total;
    if (floats.step == 1) { // in a loop that a compiler understands
        for (std::uint64_t at = floats.first; at < floats.end; at += chunk) {
            for (std::uint32_t i = 0; i < chunk; ++i) x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(at) + i);
            compare(quant::simd::compiled_archs{}, chunk, params, options, expected, got, total);
        }
        return total;
    }
    std::uint64_t at = floats.first;
    compare_all(params, options, expected, got, total, [&](std::uint32_t& bits) {
        bits = static_cast<std::uint32_t>(at);
        at += floats.step;
        return at - floats.step < floats.end;
    });
    std::int32_t code = params.format.qmin() - params.zero_point - 1, neighbour = -2;
    compare_all(params, options, expected, got, total, [&](std::uint32_t& bits) {
        const float border = (static_cast<float>(code) + 0.5f) * params.scale;
        bits = std::bit_cast<std::uint32_t>(border) + static_cast<std::uint32_t>(neighbour);
        if (++neighbour == 3) neighbour = -2, ++code;
        return code <= params.format.qmax() - params.zero_point + 1;
    });
    return total;
}

} // namespace

int main(int argc, char** argv) {
    range floats;
    for (int i = 1; i < argc; ++i) {
        unsigned part = 1, parts = 1;
        if (std::strcmp(argv[i], "--sample") == 0) {
            floats.step = 4099;
        } else if (std::strcmp(argv[i], "--part") == 0 && i + 1 < argc &&
                   std::sscanf(argv[i + 1], "%u/%u", &part, &parts) == 2 && part >= 1 && part <= parts && parts <= 64 &&
                   (parts & (parts - 1)) == 0) {
            floats.first = (std::uint64_t{1} << 32) / parts * (part - 1);
            floats.end = (std::uint64_t{1} << 32) / parts * part;
            ++i;
        } else {
            std::fputs("exhaustive [--sample] [--part K/N], N a power of two up to 64\n", stderr);
            return 2;
        }
    }
    struct {
        const char* name;
        quant::code_format format;
        std::int32_t zero_point;
    } const formats[] = {
        {"int8", quant::int8, 0}, {"uint8", quant::uint8, 131}, {"int4", quant::int4, 0}, {"int16", quant::int16, 0}};
    counter all;
    unsigned done = 0;
    for (const test_case& c : cases)
        for (const auto& f : formats) {
            const quant::affine_params params{c.scale, f.zero_point, f.format};
            const quant::quantize_options options{.divide = c.divide};
            counter one;
            if (f.format.bits > 8)
                one = run(params, options, floats, wide[0], wide[1]);
            else if (!f.format.is_signed)
                one = run(params, options, floats, narrow[0], narrow[1]);
            else
                one = run(params, options, floats, reinterpret_cast<std::int8_t*>(narrow[0]),
                          reinterpret_cast<std::int8_t*>(narrow[1]));
            std::printf("%-5s scale %-15a %-10s %llu floats, %llu different\n", f.name, static_cast<double>(c.scale),
                        c.divide == division ? "division" : "reciprocal", static_cast<unsigned long long>(one.floats),
                        static_cast<unsigned long long>(one.different));
            std::fflush(stdout);
            all.floats += one.floats, all.different += one.different, ++done;
        }
    std::printf("exhaustive: %u cases, %llu floats, %llu different\n", done,
                static_cast<unsigned long long>(all.floats), static_cast<unsigned long long>(all.different));
    return all.different == 0 ? 0 : 1;
}
