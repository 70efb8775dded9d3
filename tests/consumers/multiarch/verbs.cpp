// SPDX-License-Identifier: MIT
// Compiled once per instruction set. Uses much of the library, so that a function that files of different flags share would be here.
#include "verbs.hpp"
#include <quant/aciq.hpp>
#include <quant/dispatch.hpp>
#include <quant/dynamic.hpp>
#include <quant/packing.hpp>

#include "../walk.hpp"

template <class Arch> std::uint64_t verbs() noexcept { return walk(); }

template std::uint64_t verbs<quant::simd::native>() noexcept;
