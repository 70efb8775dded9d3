// SPDX-License-Identifier: MIT
#pragma once
// The instruction sets compiled into the tests, as the type list that TEMPLATE_LIST_TEST_CASE takes. Where the
// sanitizers make one instruction set compile for minutes, the gate takes only the widest; the preset debug-sanitize takes them all.
// What else a build may take less of: see `slow` and `fewer_types`.

#include <quant/simd/arch.hpp>
#include <tuple>

namespace test {

// Where a test runs ten times longer than elsewhere it does less. g++ tells of the sanitizers by a macro, clang by a feature; of valgrind and
// emulators, which come after the compiler, the build has to tell.
#if defined(__SANITIZE_ADDRESS__) || defined(QUANT_TEST_FOR_VALGRIND) || defined(QUANT_TEST_EMULATED)
inline constexpr bool slow = true;
#elif defined(__has_feature)
inline constexpr bool slow = __has_feature(address_sanitizer);
#else
inline constexpr bool slow = false;
#endif

// The verbs around the kernels are the same code for every instruction set. Of the gate's builds clang's and the one of the README's
// command take every element type, code type and rank; the others, for more time than they are worth, one of each way through the code.
#if defined(QUANT_TEST_FEWER_TYPES)
inline constexpr bool fewer_types = true;
#else
inline constexpr bool fewer_types = slow;
#endif

template <class List> struct as_tuple;
template <class... Arch> struct as_tuple<quant::arch::list<Arch...>> { using type = std::tuple<Arch...>; };
#if defined(QUANT_TEST_NATIVE_ARCH_ONLY)
using archs = std::tuple<quant::simd::native>;
#else
using archs = as_tuple<quant::simd::compiled_archs>::type;
#endif

} // namespace test
