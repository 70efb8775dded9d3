// SPDX-License-Identifier: MIT
#pragma once
// The instruction sets compiled into the tests, as the type list that TEMPLATE_LIST_TEST_CASE takes.

#include <quant/simd/arch.hpp>
#include <tuple>

namespace test {

template <class List> struct as_tuple;
template <class... Arch> struct as_tuple<quant::arch::list<Arch...>> { using type = std::tuple<Arch...>; };
using archs = as_tuple<quant::simd::compiled_archs>::type;

} // namespace test
