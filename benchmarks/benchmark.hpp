// SPDX-License-Identifier: MIT
#pragma once
// What every benchmark shares: the buffers, the names, the ceilings, and how a row is registered.
//
//   const bool registered = [] {
//       add<byte_to_f32>("dequantize/s8_f32/per_tensor", "loop", all_sizes, [](row& r) { r.run([&] { … }); });
//       return true;
//   }();
//
// Name of a row: operation/from_to/granularity/architecture/elements. The architecture is that of a kernel (scalar, sse2, avx2,
// avx512bw), `native` for a verb with its checks and traversal, `loop` for what a user writes by hand, or the name of another
// library. Every row carries as its label the name of its ceiling: the time of ceiling divided by its own is the ratio that
// benchmarks/report prints. A ceiling reads and writes the same bytes with registers of the same width and computes nothing:
//
//   ceiling/R_W/cached/architecture/elements        R bytes read and W written per eight elements
//   ceiling/R_W/streaming/architecture/elements     the same with streaming stores

#include <algorithm>
#include <array>
#include <benchmark/benchmark.h>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <quant/core/params.hpp>
#include <quant/core/random.hpp>
#include <quant/core/tensor_view.hpp>
#include <quant/simd/memory.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace bench {

namespace simd = quant::simd;
using quant::affine_params;

// ---- sizes, in elements -----------------------------------------------------------------------------------------------

using sizes = std::initializer_list<std::size_t>;
inline constexpr std::size_t in_l1 = 4096, in_cache = 262144, in_memory = std::size_t{64} << 20;
inline constexpr std::size_t most_elements = in_memory;
inline constexpr sizes all_sizes{in_l1, in_cache, in_memory};
inline constexpr sizes cache_sizes{in_l1, in_cache};
inline constexpr sizes memory_size{in_memory};

// ---- buffers ----------------------------------------------------------------------------------------------------------

/// `Bytes` bytes, 64-byte aligned, reserved once; a page costs nothing before it is touched. One buffer of a kind serves all
/// rows, so that every row works on the same physical memory and no repetition pays for page faults.
/// The shift keeps two buffers from having the same distance to a page.
template <class T> T* allocate(std::size_t bytes, std::size_t shift) {
    void* p = std::aligned_alloc(4096, (bytes + shift + 8191) / 4096 * 4096);
    if (p == nullptr) std::abort();
    return reinterpret_cast<T*>(static_cast<unsigned char*>(p) + shift);
}

/// An input whose first n elements are filled when somebody asks for n: a block of 2^20 values, repeated.
template <class T> class input {
public:
    template <class F> input(std::size_t shift, F value) : data_(allocate<T>(most_elements * sizeof(T), shift)) {
        block_.reserve(block);
        for (std::size_t i = 0; i < block; ++i) block_.push_back(value(i));
    }
    const T* first(std::size_t n) {
        for (; filled_ < n; filled_ += std::min(n - filled_, block))
            std::memcpy(data_ + filled_, block_.data(), std::min(n - filled_, block) * sizeof(T));
        return data_;
    }

private:
    static constexpr std::size_t block = std::size_t{1} << 20;
    std::vector<T> block_;
    T* data_;
    std::size_t filled_ = 0;
};

/// Standard normal values.
inline float normal(std::size_t i) {
    const double u = 1.0 - static_cast<double>(quant::random_uniform(1, 0, i));
    const auto v = static_cast<double>(quant::random_uniform(1, 1, i));
    return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
}
inline const float* reals(std::size_t n) {
    static input<float> in(0, normal);
    return in.first(n);
}
/// Every byte is a code of int8 or uint8, or eight packed bits.
inline const std::uint8_t* bytes(std::size_t n) {
    static input<std::uint8_t> in(64 * 9,
                                  [](std::size_t i) { return static_cast<std::uint8_t>(quant::random_bits(2, 0, i)); });
    return in.first(n);
}
template <class Code> const Code* codes(std::size_t n) { return reinterpret_cast<const Code*>(bytes(n)); }
/// Where results go: n elements, touched before.
template <class T> T* results(std::size_t n) {
    static unsigned char* const p = allocate<unsigned char>(most_elements * sizeof(float), 64 * 21);
    static std::size_t touched = 0;
    if (n * sizeof(T) > touched) {
        std::memset(p + touched, 1, n * sizeof(T) - touched);
        touched = n * sizeof(T);
    }
    return reinterpret_cast<T*>(p);
}
/// A second, small stream of floats beside the codes: the scales of groups.
inline float* scales(std::size_t n) {
    static float* const p = allocate<float>(most_elements / 8, 64 * 33);
    static std::size_t touched = 0;
    for (; touched < n; ++touched) p[touched] = 0.01f + 1e-5f * static_cast<float>(touched % 1024);
    return p;
}

/// Parameters the compiler cannot know.
inline affine_params params_of(quant::code_format format, std::int32_t zero_point = 3) {
    affine_params p{4.0f / 127, zero_point, format};
    benchmark::DoNotOptimize(p);
    return p;
}
/// Parameters of channels.
inline std::vector<affine_params> params_of(quant::code_format format, std::size_t n) {
    std::vector<affine_params> p(n, params_of(format));
    for (std::size_t i = 0; i < n; ++i) p[i].scale = 0.02f + 1e-5f * static_cast<float>(i % 1024);
    return p;
}

// ---- a row ------------------------------------------------------------------------------------------------------------

/// One benchmark while it runs.
struct row {
    benchmark::State& state;
    std::size_t n;
    double bytes_per_element;

    /// Times `pass`, which works on n elements.
    template <class F> void run(F pass) {
        for (auto _ : state) {
            pass();
            benchmark::ClobberMemory();
        }
        const double elements = static_cast<double>(state.iterations()) * static_cast<double>(n);
        state.SetItemsProcessed(static_cast<std::int64_t>(elements));
        state.SetBytesProcessed(static_cast<std::int64_t>(elements * bytes_per_element));
    }
    /// The same for a verb that returns a status.
    template <class F> void run_verb(F verb) {
        run([&] {
            if (!verb()) state.SkipWithError("the verb failed");
        });
    }
};

// ---- architectures ----------------------------------------------------------------------------------------------------

template <class List> struct last_of;
template <class... Arch> struct last_of<quant::arch::list<Arch...>> {
    template <class T> struct tag { using type = T; };
    using type = typename decltype((tag<Arch>{}, ...))::type;
};
/// The widest architecture of this build.
using widest = last_of<simd::compiled_archs>::type;

template <class Arch> std::string name_of() {
    const std::string name = Arch::name();
    return name.substr(name.find('+') + 1); // fma3+avx2 is avx2 here
}
/// Calls f.operator()<Arch>() for every architecture of this build.
template <class F> void for_each_arch(F f) {
    const auto all = [&]<class... Arch>(quant::arch::list<Arch...>) { (f.template operator()<Arch>(), ...); };
    all(simd::compiled_archs{});
}

// ---- ceilings ---------------------------------------------------------------------------------------------------------

/// What an operation reads and writes: per `Elements` elements In and In2 bytes from two arrays, Out and Out2 bytes to two.
template <unsigned Elements, unsigned In, unsigned Out, unsigned In2 = 0, unsigned Out2 = 0> struct traffic {
    static constexpr unsigned elements = Elements, in = In, out = Out, in2 = In2, out2 = Out2;
    static constexpr double bytes_per_element = static_cast<double>(In + Out + In2 + Out2) / Elements;
    static std::string name() {
        return std::to_string((In + In2) * 8 / Elements) + "_" + std::to_string((Out + Out2) * 8 / Elements);
    }
};
using f32_to_8 = traffic<1, 4, 1>;
using f32_to_f32 = traffic<1, 4, 4>;
using f16_to_8 = traffic<1, 2, 1>;
using read_f32 = traffic<2, 8, 0>;
using byte_to_f32 = traffic<1, 1, 4>;
// Groups of 32 elements, each with a scale of four bytes in an array of its own.
using f32_to_int8_groups = traffic<8, 32, 8, 0, 1>;
using f32_to_int4_groups = traffic<8, 32, 4, 0, 1>;
using int8_groups_to_f32 = traffic<8, 8, 32, 1>;
using int4_groups_to_f32 = traffic<8, 4, 32, 1>;

#if QUANT_HAS_XSIMD
template <class Arch> struct word_of { using type = xsimd::batch<std::uint32_t, Arch>; };
#else
template <class Arch> struct word_of { using type = std::uint64_t; };
#endif
template <> struct word_of<simd::scalar> { using type = std::uint64_t; };

template <class Word> QUANT_INLINE Word load_word(const std::uint8_t* p) {
    if constexpr (std::is_integral_v<Word>) {
        Word w;
        std::memcpy(&w, p, sizeof w);
        return w;
    } else {
        return Word::load_unaligned(reinterpret_cast<const std::uint32_t*>(p));
    }
}
template <bool Stream, class Word> QUANT_INLINE void put_word(std::uint8_t* p, const Word& w) {
    if constexpr (std::is_integral_v<Word>) {
        std::memcpy(p, &w, sizeof w);
    } else {
        simd::put_batch<Stream>(reinterpret_cast<std::uint32_t*>(p), w);
    }
}
template <unsigned From, unsigned To, class Word> QUANT_INLINE Word any_of(const std::uint8_t* p) {
    Word w = load_word<Word>(p + From * sizeof(Word));
    if constexpr (To - From > 1) w = w | any_of<From + 1, To, Word>(p);
    return w;
}
/// Store J of `Out` stores fed by `In` loads, each store as early as its loads allow. What is stored is the bitwise or of the
/// loads, which costs nothing that binds and keeps a compiler from dropping any of them; `w` is what came before.
template <unsigned J, unsigned In, unsigned Out, bool Stream, class Word>
QUANT_INLINE void move_word(const std::uint8_t* in, std::uint8_t* out, Word& w) {
    constexpr unsigned from = (J * In + Out - 1) / Out, to = ((J + 1) * In + Out - 1) / Out;
    if constexpr (J == 0) {
        w = w | any_of<from, to, Word>(in);
    } else if constexpr (to > from) {
        w = any_of<from, to, Word>(in);
    }
    put_word<Stream>(out + J * sizeof(Word), w);
}
template <unsigned In, unsigned Out, bool Stream, class Word, unsigned... J>
QUANT_INLINE void move_words(const std::uint8_t* in, std::uint8_t* out, Word w, std::integer_sequence<unsigned, J...>) {
    (move_word<J, In, Out, Stream>(in, out, w), ...);
}

/// One pass of a ceiling. A function of its own, so that the pointers are in registers.
template <class Traffic, bool Stream, class Word>
[[gnu::noinline]] void ceiling_pass(const std::uint8_t* in, [[maybe_unused]] const std::uint8_t* in2,
                                    [[maybe_unused]] std::uint8_t* out, [[maybe_unused]] std::uint8_t* out2,
                                    std::size_t steps) {
    constexpr std::size_t width = sizeof(Word);
    if constexpr (Traffic::out == 0) {
        Word sum[4]{};
        for (std::size_t i = 0; i < steps; ++i) {
            const std::uint8_t* const p = in + i * Traffic::in * width;
            for (unsigned k = 0; k < Traffic::in; ++k) sum[k % 4] = sum[k % 4] | load_word<Word>(p + k * width);
        }
        Word all = (sum[0] | sum[1]) | (sum[2] | sum[3]);
        benchmark::DoNotOptimize(all);
    } else {
        for (std::size_t i = 0; i < steps; ++i) {
            Word second{};
            if constexpr (Traffic::in2 > 0) second = any_of<0, Traffic::in2, Word>(in2 + i * Traffic::in2 * width);
            const std::uint8_t* const p = in + i * Traffic::in * width;
            move_words<Traffic::in, Traffic::out, Stream>(p, out + i * Traffic::out * width, second,
                                                          std::make_integer_sequence<unsigned, Traffic::out>{});
            if constexpr (Traffic::out2 > 0) put_word<Stream>(out2 + i * Traffic::out2 * width, load_word<Word>(p));
        }
        if constexpr (Stream) simd::stream_fence();
    }
}
template <class Traffic, class Arch, bool Stream> void ceiling(row& r) {
    using word = typename word_of<Arch>::type;
    const std::size_t steps = r.n / (Traffic::elements * sizeof(word));
    // From the array that the operation reads: codes and packed bytes, or floats.
    constexpr bool reads_bytes = Traffic::in <= Traffic::elements;
    const std::size_t in_bytes = r.n * Traffic::in / Traffic::elements;
    const auto* const in = reads_bytes ? bytes(in_bytes) : reinterpret_cast<const std::uint8_t*>(reals(in_bytes / 4));
    const auto* const in2 = reinterpret_cast<const std::uint8_t*>(scales(r.n * Traffic::in2 / Traffic::elements / 4));
    auto* const out = results<std::uint8_t>(r.n * Traffic::out / Traffic::elements);
    auto* const out2 = reinterpret_cast<std::uint8_t*>(scales(r.n * Traffic::out2 / Traffic::elements / 4));
    r.run([&] { ceiling_pass<Traffic, Stream, word>(in, in2, out, out2, steps); });
}

// ---- registration -----------------------------------------------------------------------------------------------------

inline void register_row(const std::string& name, const std::string& label, std::size_t n, double bytes_per_element,
                         void (*function)(row&)) {
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
        row r{state, n, bytes_per_element};
        function(r);
        if (!label.empty()) state.SetLabel(label);
    });
}

/// The name of a ceiling, which is registered with the first row that needs it. Streaming into a cache tells nobody anything, and
/// a row of a few elements is compared with a plain loop.
template <class Traffic, class Arch> std::string ceiling_for(std::size_t n) {
    if (n < in_l1) return {};
    static std::set<std::size_t> known;
    const std::string end = "/" + name_of<Arch>() + "/" + std::to_string(n);
    const std::string cached = "ceiling/" + Traffic::name() + "/cached" + end;
    if (known.insert(n).second) {
        register_row(cached, cached, n, Traffic::bytes_per_element, ceiling<Traffic, Arch, false>);
        if constexpr (Traffic::out > 0)
            if (n >= in_memory)
                register_row("ceiling/" + Traffic::name() + "/streaming" + end, cached, n, Traffic::bytes_per_element,
                             ceiling<Traffic, Arch, true>);
    }
    return cached;
}

/// Registers rows name/arch/n; `Arch` is the width of their ceiling.
template <class Traffic, class Arch = widest>
void add(const std::string& name, const std::string& arch, sizes elements, void (*function)(row&)) {
    for (const std::size_t n : elements)
        register_row(name + "/" + arch + "/" + std::to_string(n), ceiling_for<Traffic, Arch>(n), n,
                     Traffic::bytes_per_element, function);
}
/// Rows of a kernel: the widest architecture at all sizes, the others in the caches.
template <class Traffic, class Arch>
void add_kernel(const std::string& name, void (*function)(row&), sizes widest_sizes = all_sizes) {
    add<Traffic, Arch>(name, name_of<Arch>(), std::is_same_v<Arch, widest> ? widest_sizes : cache_sizes, function);
}

} // namespace bench
