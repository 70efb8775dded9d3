// SPDX-License-Identifier: MIT
#pragma once
// What a quantized value is, without anything that computes on tensors: formats, parameters, views, the packed format and
// the scalar definition. Needs no dependency, no heap, no libm; parses in a fraction of <iostream>. Facade: re-exports
// layer 1.
//
//   #include <quant/core.hpp>
//   constexpr auto adc = quant::symmetric(3.3f, quant::int8);
//   static_assert(quant::quantize_one(1.65f, adc) == 64);

#include <quant/core/code_format.hpp>
#include <quant/core/granularity.hpp>
#include <quant/core/half.hpp>
#include <quant/core/options.hpp>
#include <quant/core/packing.hpp>
#include <quant/core/params.hpp>
#include <quant/core/random.hpp>
#include <quant/core/scalar.hpp>
#include <quant/core/status.hpp>
#include <quant/core/tensor_view.hpp>
