// expect: the container is a temporary
// SPDX-License-Identifier: MIT
#include <quant/core.hpp>

#include <vector>

#ifdef QUANT_VALID
std::vector<float> kept(4);
auto v = quant::view(kept);
#else
auto v = quant::view(std::vector<float>(4));
#endif
