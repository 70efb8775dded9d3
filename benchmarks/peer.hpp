// SPDX-License-Identifier: MIT
#pragma once
// What the comparisons with other libraries share. Each peer's row first checks that its result means the same as the library's
// on the buffers' values, a million of them at most; where the definitions differ the source of the peer says how.

#include "benchmark.hpp"
#include <quant/quantize/quantize.hpp>
#include <span>

namespace bench {

inline constexpr std::size_t most_checked = std::size_t{1} << 20;

/// Codes of a peer against quantize(…): `allowed` of a million elements may differ, by one code.
template <class Code>
void check_codes(row& r, const Code* theirs, std::span<const affine_params> params, quant::granularity g,
                 std::size_t rows, quant::scale_by divide, std::size_t allowed = 0) {
    std::vector<Code> ours(r.n);
    if (!quant::quantize(quant::view(reals(r.n), rows, r.n / rows), ours, params, g, {.divide = divide}))
        return r.state.SkipWithError("quantize failed");
    std::size_t different = 0;
    for (std::size_t i = 0; i < std::min(r.n, most_checked); ++i) {
        const int by = std::abs(int{ours[i]} - int{theirs[i]});
        if (by > 1) return r.state.SkipWithError("the peer's codes mean something else");
        different += by != 0 ? 1 : 0;
    }
    if (different > allowed) r.state.SkipWithError("the peer rounds differently");
}
template <class Code>
void check_codes(row& r, const Code* theirs, const affine_params& p, quant::scale_by divide, std::size_t allowed = 0) {
    check_codes(r, theirs, std::span(&p, 1), quant::per_tensor, 1, divide, allowed);
}
/// Restored values of a peer against dequantize(…), to the last bit.
template <class Code> void check_reals(row& r, const float* theirs, const affine_params& p) {
    std::vector<float> ours(r.n);
    if (!quant::dequantize(std::span(codes<Code>(r.n), r.n), ours, p))
        return r.state.SkipWithError("dequantize failed");
    for (std::size_t i = 0; i < std::min(r.n, most_checked); ++i)
        if (ours[i] != theirs[i]) return r.state.SkipWithError("the peer restores other values");
}

} // namespace bench
