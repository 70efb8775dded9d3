// SPDX-License-Identifier: MIT
// FBGEMM through its public functions, one thread. It multiplies with the reciprocal. Its rows of packed codes are affine (a scale and
// a lowest value per row, float16 beside 4 bits, float32 beside 8), so that codes are not compared: restored values must lie within a step.
#include "peer.hpp"
#include <fbgemm/QuantUtils.h>

namespace {

using namespace bench;

template <class Code> inline constexpr quant::code_format format = std::is_signed_v<Code> ? quant::int8 : quant::uint8;
template <class Code> affine_params params() { return params_of(format<Code>, std::is_signed_v<Code> ? 3 : 131); }
fbgemm::TensorQuantizationParams theirs(const affine_params& p) {
    fbgemm::TensorQuantizationParams q;
    q.scale = p.scale;
    q.zero_point = p.zero_point;
    q.precision = p.format.bits;
    return q;
}

template <class Code> void quantize(row& r) {
    const affine_params p = params<Code>();
    const float* const x = reals(r.n);
    Code* const out = results<Code>(r.n);
    const auto pass = [&] { fbgemm::Quantize<Code>(x, out, static_cast<std::int64_t>(r.n), theirs(p)); };
    pass();
    check_codes(r, out, p, quant::scale_by::reciprocal);
    r.run(pass);
}
template <class Code> void dequantize(row& r) {
    const affine_params p = params<Code>();
    const Code* const c = codes<Code>(r.n);
    float* const out = results<float>(r.n);
    const auto pass = [&] { fbgemm::Dequantize<Code>(c, out, static_cast<std::int64_t>(r.n), theirs(p)); };
    pass();
    check_reals<Code>(r, out, p);
    r.run(pass);
}
void fake_quant(row& r) {
    const affine_params p = params<std::int8_t>();
    const float* const x = reals(r.n);
    float* const out = results<float>(r.n);
    const auto pass = [&] {
        fbgemm::FusedQuantizeDequantize<std::int8_t>(x, out, static_cast<std::int64_t>(r.n), theirs(p));
    };
    pass();
    std::vector<float> ours(std::min(r.n, most_checked));
    if (!quant::fake_quant(std::span(x, ours.size()), ours, p, {.divide = quant::scale_by::reciprocal}) ||
        !std::equal(ours.begin(), ours.end(), out))
        return r.state.SkipWithError("the peer restores other values");
    r.run(pass);
}

// ---- rows of 32 with a scale each ---------------------------------------------------------------------------------------

constexpr int columns = 32;
template <unsigned Bits> constexpr std::size_t row_bytes = columns* Bits / 8 + (Bits == 8 ? 8 : 4);

template <unsigned Bits> void to_rows(const float* x, std::uint8_t* rows, std::size_t n) {
    if constexpr (Bits == 8)
        fbgemm::FloatOrHalfToFused8BitRowwiseQuantizedSBFloat<float>(x, n / columns, columns, rows);
    else
        fbgemm::FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf<float>(Bits, x, n / columns, columns, rows);
}
/// The number of columns counts what follows the codes of a row.
template <unsigned Bits> void from_rows(const std::uint8_t* rows, float* out, std::size_t n) {
    if constexpr (Bits == 8)
        fbgemm::Fused8BitRowwiseQuantizedSBFloatToFloatOrHalf<float>(rows, n / columns, row_bytes<Bits>, out);
    else
        fbgemm::FusedNBitRowwiseQuantizedSBHalfToFloatOrHalf<float>(Bits, rows, n / columns, row_bytes<Bits>, out);
}
template <unsigned Bits> bool restores(const float* x, const float* restored, std::size_t n) {
    for (std::size_t i = 0; i < std::min(n, most_checked); i += columns) {
        const auto [least, most] = std::minmax_element(x + i, x + i + columns);
        const float step = (*most - *least) / ((1 << Bits) - 1) * 1.02f;
        for (std::size_t j = i; j < i + columns; ++j)
            if (std::abs(restored[j] - x[j]) > step) return false;
    }
    return true;
}
template <unsigned Bits> void quantize_rows(row& r) {
    const float* const x = reals(r.n);
    auto* const rows = results<std::uint8_t>(r.n / columns * row_bytes<Bits>);
    to_rows<Bits>(x, rows, r.n);
    const std::size_t checked = std::min(r.n, most_checked);
    std::vector<float> restored(checked);
    from_rows<Bits>(rows, restored.data(), checked);
    if (!restores<Bits>(x, restored.data(), checked)) return r.state.SkipWithError("FBGEMM restores something else");
    r.run([&] { to_rows<Bits>(x, rows, r.n); });
}
template <unsigned Bits> void dequantize_rows(row& r) {
    std::vector<std::uint8_t> rows(r.n / columns * row_bytes<Bits>);
    to_rows<Bits>(reals(r.n), rows.data(), r.n);
    float* const out = results<float>(r.n);
    from_rows<Bits>(rows.data(), out, r.n);
    if (!restores<Bits>(reals(r.n), out, r.n)) return r.state.SkipWithError("FBGEMM restores something else");
    r.run([&] { from_rows<Bits>(rows.data(), out, r.n); });
}

// The ceilings are those of the library's layout: beside 8 bits FBGEMM's has four bytes per row more.
const bool registered = [] {
    add<f32_to_8>("quantize_reciprocal/f32_s8/per_tensor", "fbgemm", all_sizes, quantize<std::int8_t>);
    add<f32_to_8>("quantize_reciprocal/f32_u8/per_tensor", "fbgemm", all_sizes, quantize<std::uint8_t>);
    add<byte_to_f32>("dequantize/s8_f32/per_tensor", "fbgemm", all_sizes, dequantize<std::int8_t>);
    add<f32_to_f32>("fake_quant_reciprocal/f32_f32/per_tensor", "fbgemm", all_sizes, fake_quant);
    add<f32_to_int8_groups>("quantize_groups/f32_s8/groups_of_32", "fbgemm", all_sizes, quantize_rows<8>);
    add<f32_to_int4_groups>("quantize_groups/f32_int4/groups_of_32", "fbgemm", all_sizes, quantize_rows<4>);
    add<int8_groups_to_f32>("dequantize_groups/s8_f32/groups_of_32", "fbgemm", all_sizes, dequantize_rows<8>);
    add<int4_groups_to_f32>("dequantize_groups/int4_f32/groups_of_32", "fbgemm", all_sizes, dequantize_rows<4>);
    return true;
}();

} // namespace
