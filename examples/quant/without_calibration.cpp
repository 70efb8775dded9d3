// SPDX-License-Identifier: MIT
// The tool where the engine that runs networks could not be built.

#include "calibrate_onnx.hpp"
#include "io/error.hpp"

namespace quant_tool {

calibration calibrate(const quant_onnx::model&, const quantize_command& options) {
    throw error(exit_code::usage, options.calibrate,
                "this program was built without what runs networks (libturbojpeg0-dev or libeigen3-dev was not there)");
}

} // namespace quant_tool
