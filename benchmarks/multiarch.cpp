// SPDX-License-Identifier: MIT
// What the choice of an instruction set at run time costs: the kernel of examples/dispatch, chosen anew for every tensor, beside the
// same function called through a pointer that was set before.
#include "benchmark.hpp"
#include <quant/dispatch.hpp>

#include "../examples/dispatch/kernel.hpp"

namespace {

using namespace bench;

void chosen(row& r) {
    const std::span x(reals(r.n), r.n);
    const std::span out(results<std::int8_t>(r.n), r.n);
    r.run_verb(
        [&] { return quant::dispatch(quant::multiarch{}, [&]<class Arch>(Arch) { return encode<Arch>(x, out); }); });
}

void fixed(row& r) {
    const std::span x(reals(r.n), r.n);
    const std::span out(results<std::int8_t>(r.n), r.n);
    auto* function = quant::dispatch(quant::multiarch{}, []<class Arch>(Arch) { return &encode<Arch>; });
    benchmark::DoNotOptimize(function);
    r.run_verb([&] { return function(x, out); });
}

const bool registered = [] {
    const sizes tensors{64, in_l1};
    add<f32_to_8>("quantize_multiarch/f32_s8/per_tensor", "chosen", tensors, chosen);
    add<f32_to_8>("quantize_multiarch/f32_s8/per_tensor", "fixed", tensors, fixed);
    return true;
}();

} // namespace
