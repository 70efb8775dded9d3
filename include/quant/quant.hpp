// SPDX-License-Identifier: MIT
#pragma once
// Everything, without third-party interop. Include the facade you need instead where parse time matters.
//
//   #include <quant/quant.hpp>
//   auto q = quant::quantize(quant::view(w, 64, 3, 3, 3), quant::int4 | quant::per_axis(0) | quant::aciq());

#include <quant/aciq.hpp>
#include <quant/admm.hpp>
#include <quant/bias_correction.hpp>
#include <quant/bit_allocation.hpp>
#include <quant/bit_planes.hpp>
#include <quant/bsq.hpp>
#include <quant/calibration.hpp>
#include <quant/constraints.hpp>
#include <quant/core.hpp>
#include <quant/cpq.hpp>
#include <quant/csq.hpp>
#include <quant/dynamic.hpp>
#include <quant/equalization.hpp>
#include <quant/fracbits.hpp>
#include <quant/gradients.hpp>
#include <quant/groups.hpp>
#include <quant/message.hpp>
#include <quant/mixed_precision.hpp>
#include <quant/mixquant.hpp>
#include <quant/multipoint.hpp>
#include <quant/output_rounding.hpp>
#include <quant/packing.hpp>
#include <quant/per_channel.hpp>
#include <quant/precision_search.hpp>
#include <quant/products.hpp>
#include <quant/requantize.hpp>
#include <quant/rmsmp.hpp>
#include <quant/sum_rounding.hpp>
#include <quant/uniform.hpp>
#include <quant/version.hpp>
