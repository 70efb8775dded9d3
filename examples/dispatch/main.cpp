// SPDX-License-Identifier: MIT
// One binary for many processors: kernel.cpp is in it once per instruction set, and the best one for this processor runs.
//
//   quant_dispatch               says which one that is
//   quant_dispatch --arch avx2   runs that one; exit code 2 if it is not there or this processor does not have it
//   quant_dispatch --all         runs every one this processor has; exit code 1 if a byte differs

#include "kernel.hpp"
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <quant/dispatch.hpp>
#include <span>
#include <vector>

namespace {

using archs = quant::multiarch;

struct encoded {
    std::vector<std::int8_t> codes;
    float scale = 0;
};

/// One choice per tensor: `which` is a number in `archs`.
encoded encode_with(std::size_t which, std::span<const float> x) {
    encoded out{std::vector<std::int8_t>(x.size()), 0};
    const auto params = quant::dispatch(archs{}, which, [&]<class Arch>(Arch) { return encode<Arch>(x, out.codes); });
    if (params) out.scale = params->scale;
    return out;
}

void print(std::size_t which, const encoded& result) {
    std::printf("%-10s ran: scale %.8g, first codes %d %d %d\n", quant::arch::name(archs{}, which),
                static_cast<double>(result.scale), result.codes[0], result.codes[1], result.codes[2]);
}

} // namespace

int main(int argc, char** argv) {
    std::vector<float> x(4099);
    for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>((i * 2654435761U % 1000003) % 20001) * 0.001f - 10.0f;

    std::size_t which = quant::arch::best(archs{});
    const bool all = argc == 2 && std::strcmp(argv[1], "--all") == 0;
    if (argc == 3 && std::strcmp(argv[1], "--arch") == 0) {
        const auto found = quant::arch::find(archs{}, argv[2]);
        if (!found) {
            std::fprintf(stderr, "quant_dispatch: %s: %s\n", argv[2], found.status().argument);
            return 2;
        }
        which = *found;
    } else if (argc != 1 && !all) {
        std::fprintf(stderr, "usage: quant_dispatch [--arch <name> | --all]\n");
        return 2;
    }
    if (which == quant::arch::size(archs{})) {
        std::fprintf(stderr, "quant_dispatch: built for newer processors than this one\n");
        return 2;
    }

    std::printf("compiled in:");
    for (std::size_t i = 0; i < quant::arch::size(archs{}); ++i)
        std::printf(" %s%s", quant::arch::name(archs{}, i),
                    quant::arch::runs(archs{}, i) ? "" : " (not on this processor)");
    std::printf("\n");
    const encoded first = encode_with(which, x);
    print(which, first);
    int differ = 0;
    for (std::size_t i = 0; all && i < quant::arch::size(archs{}); ++i) {
        if (i == which || !quant::arch::runs(archs{}, i)) continue;
        const encoded other = encode_with(i, x);
        print(i, other);
        if (other.codes != first.codes || std::memcmp(&other.scale, &first.scale, sizeof(float)) != 0) ++differ;
    }
    if (all) std::printf("%s\n", differ == 0 ? "all the same bytes" : "bytes differ");
    return differ == 0 ? 0 : 1;
}
