// SPDX-License-Identifier: MIT
// Prints the architecture that was chosen; exit code 1 if one that this processor runs has another result.
#include "verbs.hpp"
#include <cstdio>
#include <quant/dispatch.hpp>

int main() {
    using archs = quant::multiarch;
    const auto run = []<class Arch>(Arch) { return verbs<Arch>(); };
    const std::uint64_t expected = quant::dispatch(archs{}, run);
    bool same = expected != 0;
    for (std::size_t i = 0; i < quant::arch::size(archs{}); ++i)
        if (quant::arch::runs(archs{}, i) && quant::dispatch(archs{}, i, run) != expected) same = false;
    std::printf("%s %016llx%s\n", quant::arch::name(archs{}, quant::arch::best(archs{})),
                static_cast<unsigned long long>(expected), same ? "" : " differs");
    return same ? 0 : 1;
}
