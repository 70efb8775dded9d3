// SPDX-License-Identifier: MIT
#define EXAMPLES_COMPILE_KERNELS
#include "kernels.hpp"

EXAMPLES_KERNELS()
