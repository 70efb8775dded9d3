// SPDX-License-Identifier: MIT
#pragma once
// From streams of data to clip ranges: mergeable observers, calibrators, error measures. Facade: re-exports.
//
//   #include <quant/calibration.hpp>
//   quant::histogram_observer<> h;
//   for (auto& batch : batches) h.observe(batch);
//   auto range = quant::mse_optimal.clip(h, quant::int8, quant::mapping::symmetric);      // result<clip_range>
//
// Which observer and which calibrator when: docs/calibration.md.

#include <quant/calibrate/aciq.hpp>
#include <quant/calibrate/clipping.hpp>
#include <quant/calibrate/empirical.hpp>
#include <quant/calibrate/error_measures.hpp>
#include <quant/calibrate/histogram.hpp>
#include <quant/calibrate/minmax.hpp>
#include <quant/calibrate/moments.hpp>
#include <quant/core.hpp>
