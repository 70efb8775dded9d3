// SPDX-License-Identifier: MIT
#pragma once
// Run-time choice between builds of one source for several instruction sets: once per tensor, never per row. Opt-in; the
// library's own functions use what their file is compiled for. Compile the sources with the CMake function quant_add_multiarch.
//
//   // kernel.hpp
//   template <class Arch> quant::status encode(std::span<const float> x, std::span<std::int8_t> codes) noexcept;
//
//   // kernel.cpp, compiled once per instruction set: defines it, and ends in
//   template quant::status encode<quant::simd::native>(std::span<const float>, std::span<std::int8_t>) noexcept;
//
//   // main.cpp
//   auto s = quant::dispatch(quant::multiarch{}, [&]<class Arch>(Arch) { return encode<Arch>(x, codes); });
//
// Everything of the library carries its target in its name, so the files do not share code. What kernel.cpp brings itself must not
// be shared either: templates on Arch, or an unnamed namespace. docs/dispatch.md has the rules and what the tests prove.

#include <cstddef>
#include <quant/core/status.hpp>
#include <quant/simd/arch.hpp>

QUANT_BEGIN_NAMESPACE
namespace arch {

#if QUANT_HAS_XSIMD && (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
using sse2 = xsimd::sse2;
using sse4_2 = xsimd::sse4_2;
using avx2 = xsimd::fma3<xsimd::avx2>;
using avx512bw = xsimd::avx512bw;
using avx512vnni = xsimd::avx512vnni<xsimd::avx512bw>;
#endif

/// What quant_add_multiarch calls an instruction set, and whether this processor has it. An instruction set that is not listed
/// here is the one that the whole program is compiled for.
template <class Arch> struct processor {
    static constexpr const char* name = "native";
    QUANT_INLINE static bool runs() noexcept { return true; }
};
template <> struct processor<scalar> {
    static constexpr const char* name = "scalar";
    QUANT_INLINE static bool runs() noexcept { return true; }
};
#if QUANT_HAS_XSIMD && (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
// Exactly the instructions that quant_add_multiarch allows the compiler. The compiler's run-time library asks the processor and
// the operating system once, when the program starts; here bits are read.
template <> struct processor<sse2> {
    static constexpr const char* name = "sse2";
    QUANT_INLINE static bool runs() noexcept { return __builtin_cpu_supports("sse2"); }
};
template <> struct processor<sse4_2> {
    static constexpr const char* name = "sse4_2";
    QUANT_INLINE static bool runs() noexcept {
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    }
};
template <> struct processor<avx2> {
    static constexpr const char* name = "avx2";
    QUANT_INLINE static bool runs() noexcept {
        return processor<sse4_2>::runs() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
};
template <> struct processor<avx512bw> {
    static constexpr const char* name = "avx512bw";
    QUANT_INLINE static bool runs() noexcept {
        return processor<avx2>::runs() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    }
};
template <> struct processor<avx512vnni> {
    static constexpr const char* name = "avx512vnni";
    QUANT_INLINE static bool runs() noexcept {
        return processor<avx512bw>::runs() && __builtin_cpu_supports("avx512vnni");
    }
};
#endif

/// How many architectures a list holds.
template <class... Arch> [[nodiscard]] QUANT_INLINE constexpr std::size_t size(list<Arch...>) noexcept {
    return sizeof...(Arch);
}

/// The name of architecture `which` of a list. Precondition: which < size(list).
template <class... Arch>
[[nodiscard]] QUANT_INLINE constexpr const char* name(list<Arch...>, std::size_t which) noexcept {
    constexpr const char* names[] = {processor<Arch>::name...};
    QUANT_EXPECTS(which < sizeof...(Arch), "name: no such architecture in the list");
    return names[which];
}

/// Whether this processor runs architecture `which` of a list. Precondition: which < size(list).
template <class... Arch> [[nodiscard]] QUANT_INLINE bool runs(list<Arch...>, std::size_t which) noexcept {
    QUANT_EXPECTS(which < sizeof...(Arch), "runs: no such architecture in the list");
    std::size_t i = 0;
    return ((i++ == which && processor<Arch>::runs()) || ...);
}

/// The first architecture of a list that this processor runs; size(list) if it runs none. A few loads: no need to keep it.
template <class... Arch> [[nodiscard]] QUANT_INLINE std::size_t best(list<Arch...>) noexcept {
    std::size_t i = 0;
    static_cast<void>(((processor<Arch>::runs() || (++i, false)) || ...));
    return i;
}

/// The architecture of a list that has this name, for a program whose user may choose.
/// Errors: invalid_argument: no such name, or this processor does not run it.
template <class... Arch>
[[nodiscard]] QUANT_INLINE result<std::size_t> find(list<Arch...> archs, const char* wanted) noexcept {
    for (std::size_t i = 0; i < sizeof...(Arch); ++i) {
        const char *a = name(archs, i), *b = wanted;
        while (*a != '\0' && *a == *b) ++a, ++b;
        if (*a != *b) continue;
        if (!runs(archs, i)) return status{errc::invalid_argument, "this processor does not run that architecture"};
        return i;
    }
    return status{errc::invalid_argument, "no architecture of that name is compiled in"};
}

} // namespace arch
QUANT_END_NAMESPACE

QUANT_BEGIN_TARGET

/// What quant_add_multiarch compiled the sources of this target for, the best first; what this file is compiled for where it
/// was not used.
#if defined(QUANT_MULTIARCH)
using multiarch = arch::list<QUANT_MULTIARCH>;
#else
using multiarch = arch::list<simd::native>;
#endif

/// Calls f(Arch{}) for architecture `which` of a list and returns what it returns; all must return the same type.
/// Precondition: which < size(list), and this processor runs it (not checked: `arch::best` and `arch::find` have looked).
template <class First, class... Rest, class F>
QUANT_INLINE auto dispatch(arch::list<First, Rest...>, std::size_t which, F&& f) noexcept {
    if constexpr (sizeof...(Rest) == 0) {
        QUANT_EXPECTS(which == 0, "dispatch: this processor runs no architecture of the list");
        return f(First{});
    } else {
        if (which == 0) return f(First{});
        return dispatch(arch::list<Rest...>{}, which - 1, static_cast<F&&>(f));
    }
}

/// Calls f(Arch{}) for the first architecture of the list that this processor runs. End the list with one that every processor
/// you ship to has: a processor that runs none breaks a precondition.
/// Cost: a dozen bits are read; not to be seen in the time of a tensor of 64 elements.
template <class... Arch, class F> QUANT_INLINE auto dispatch(arch::list<Arch...> archs, F&& f) noexcept {
    return dispatch(archs, arch::best(archs), static_cast<F&&>(f));
}

QUANT_END_TARGET
