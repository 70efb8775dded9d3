// SPDX-License-Identifier: MIT
// What a user of the installed library writes; every way to get the library builds and runs it.
#include <quant/core.hpp>
#include <quant/quant.hpp>

int main() {
    constexpr auto params = quant::symmetric(3.3f, quant::int8);
    static_assert(params.zero_point == 0);
    const float values[4] = {0.0f, 1.0f, -1.0f, 2.0f};
    signed char codes[4] = {};
    for (int i = 0; i < 4; ++i) codes[i] = static_cast<signed char>(values[i] / params.scale);
    return codes[0] == 0 && codes[1] > 0 && codes[2] < 0 ? 0 : 1;
}
