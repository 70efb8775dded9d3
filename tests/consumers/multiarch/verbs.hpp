// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>

/// A hash of everything that a walk through the library writes, computed by code compiled for Arch.
template <class Arch> std::uint64_t verbs() noexcept;
