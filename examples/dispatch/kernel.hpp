// SPDX-License-Identifier: MIT
#pragma once
// What kernel.cpp computes once per instruction set. Declared only: main.cpp must not compile a copy for its own.
#include <cstdint>
#include <quant/core.hpp>
#include <span>

/// Symmetric int8 codes by the largest magnitude, and the parameters that restore them.
template <class Arch>
quant::result<quant::affine_params> encode(std::span<const float> x, std::span<std::int8_t> codes) noexcept;
