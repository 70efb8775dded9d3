// SPDX-License-Identifier: MIT
// Compiled against several versions of the headers, with PART naming the function.
#include <array>
#include <cstdint>
#include <quant/calibration.hpp>
#include <quant/uniform.hpp>

int PART();
int PART() {
    const std::array<float, 5> x{0.0f, 0.5f, -1.0f, 0.25f, 2.0f};
    std::array<std::int8_t, 5> codes{};
    quant::minmax_observer observer;
    observer.observe(x);
    const auto params = quant::quantize(x, codes);
    const bool good = params && observer.state().max == 2.0f && codes[4] == 127;
    return good ? QUANT_VERSION_MINOR * 100 + QUANT_VERSION_PATCH * 10 + QUANT_ASSERT_LEVEL : -1;
}
