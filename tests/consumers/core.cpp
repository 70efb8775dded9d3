// SPDX-License-Identifier: MIT
// A user of quant::core: no xsimd anywhere near.
#include <quant/core.hpp>

#if __has_include(<xsimd/xsimd.hpp>) && defined(EXPECT_NO_XSIMD)
#error "quant::core must not bring xsimd's include folder"
#endif

int main() { return quant::symmetric(1.0f, quant::int8).zero_point; }
