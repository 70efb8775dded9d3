// SPDX-License-Identifier: MIT
// Sums of shifted activations (rows of powers of two), beside a loop by hand and the same integers through a product of bytes.
// Name of a row: shift_add/<codes>_<sum>/none/<architecture>/<elements>; its ceiling reads codes and activations once.
#include "products.hpp"
#include <quant/products.hpp>
#include <quant/rmsmp.hpp>

namespace {

using namespace bench;

/// Codes -7 to 7 of power-of-two rows, and the integers they stand for.
struct power_codes {
    std::vector<std::int8_t> code, integer;
    explicit power_codes(std::size_t n) : code(n), integer(n) {
        const std::uint8_t* const from = bytes(n);
        for (std::size_t i = 0; i < n; ++i) code[i] = static_cast<std::int8_t>(from[i] % 15 - 7);
        if (!quant::rmsmp::integers_of_codes(code, integer, quant::rmsmp::pot4)) std::abort();
    }
};
const power_codes& power_codes_of() {
    static const power_codes all(65536);
    return all;
}

[[gnu::noinline]] std::int32_t shift_loop(const std::int8_t* c, const std::int8_t* x, std::size_t n) {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const int code = c[i], size = code < 0 ? -code : code;
        const int shifted = size == 0 ? 0 : static_cast<int>(x[i]) * (1 << (size - 1));
        sum += code < 0 ? -shifted : shifted;
    }
    return sum;
}

template <class F> void add_row(const std::string& what, const std::string& arch, std::size_t n, F f) {
    const std::string ceiling = read_ceiling(2 * n, 0);
    const std::string name = what + "/none/" + arch + "/" + std::to_string(n);
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
        row r{state, n, 2};
        r.run([&] {
            auto sum = f(n);
            benchmark::DoNotOptimize(sum);
        });
        state.SetLabel(ceiling);
    });
}

const bool registered = [] {
    for (const std::size_t n : {std::size_t{4096}, std::size_t{65536}}) { // twice as many bytes may leave int32
        add_row("shift_add/pot4_s32", "loop", n, [](std::size_t count) {
            return shift_loop(power_codes_of().code.data(), activation_codes(count), count);
        });
        for_each_arch([&]<class Arch>() {
            add_row("shift_add/pot4_s32", name_of<Arch>(), n, [](std::size_t count) {
                return simd::shift_add<Arch>(power_codes_of().code.data(), activation_codes(count), count);
            });
        });
        add_row("shift_add/pot4_s32", "native", n, [](std::size_t count) {
            return *quant::rmsmp::shift_add_dot(std::span(power_codes_of().code).first(count),
                                                std::span(activation_codes(count), count));
        });
        add_row("shift_add/integers_s32", "native", n, [](std::size_t count) {
            return *quant::dot(std::span(power_codes_of().integer).first(count),
                               std::span(activation_codes(count), count));
        });
    }
    return true;
}();

} // namespace
