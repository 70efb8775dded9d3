// SPDX-License-Identifier: MIT
// The umbrella header, from the folder or as one file.
#include <cstdio>
#include <quant/quant.hpp>

#include "walk.hpp"

int main() {
    const std::uint64_t hash = walk();
    std::printf("%d.%d.%d %016llx\n", QUANT_VERSION_MAJOR, QUANT_VERSION_MINOR, QUANT_VERSION_PATCH,
                static_cast<unsigned long long>(hash));
    return hash != 0 ? 0 : 1;
}
