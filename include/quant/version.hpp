// SPDX-License-Identifier: MIT
#pragma once
// The one source of the library's version; the build system reads it from here. Layer 0.

#define QUANT_VERSION_MAJOR 0
#define QUANT_VERSION_MINOR 1
#define QUANT_VERSION_PATCH 0
