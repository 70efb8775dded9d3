// SPDX-License-Identifier: MIT
// XNNPACK through its operators (public interface): x * (1 / scale), ties to even. A call has the overhead of an operator.
#include "peer.hpp"
#include <xnnpack.h>

namespace {

using namespace bench;

template <class Code> inline constexpr quant::code_format format = std::is_signed_v<Code> ? quant::int8 : quant::uint8;
template <class Code> affine_params params() { return params_of(format<Code>, std::is_signed_v<Code> ? 3 : 131); }

/// An operator set up for one run over the whole array as one row.
struct conversion {
    xnn_operator_t op = nullptr;
    conversion() { xnn_initialize(nullptr); }
    conversion(const conversion&) = delete;
    conversion& operator=(const conversion&) = delete;
    ~conversion() { xnn_delete_operator(op); }
    [[nodiscard]] bool run() const { return xnn_run_operator(op, nullptr) == xnn_status_success; }
};
#if QUANT_XNNPACK_UNARY // since 2024
template <class Code>
inline constexpr xnn_datatype type = std::is_signed_v<Code> ? xnn_datatype_qint8 : xnn_datatype_quint8;
bool convert(conversion& c, xnn_datatype from, xnn_datatype to, const affine_params& p, const void* in, void* out,
             std::size_t n) {
    const xnn_quantization_params q{p.zero_point, p.scale};
    return xnn_create_unary_elementwise_nc(xnn_unary_convert, from, to, nullptr, &q, &q, 0, &c.op) ==
               xnn_status_success &&
           xnn_reshape_unary_elementwise_nc(c.op, 1, n, n, n, nullptr) == xnn_status_success &&
           xnn_setup_unary_elementwise_nc(c.op, in, out) == xnn_status_success;
}
template <class Code> bool to_codes(conversion& c, const affine_params& p, const float* in, Code* out, std::size_t n) {
    return convert(c, xnn_datatype_fp32, type<Code>, p, in, out, n);
}
template <class Code> bool to_reals(conversion& c, const affine_params& p, const Code* in, float* out, std::size_t n) {
    return convert(c, type<Code>, xnn_datatype_fp32, p, in, out, n);
}
#else
bool to_codes(conversion& c, const affine_params& p, const float* in, std::int8_t* out, std::size_t n) {
    return xnn_create_convert_nc_f32_qs8(n, n, n, p.scale, static_cast<std::int8_t>(p.zero_point), -128, 127, 0,
                                         &c.op) == xnn_status_success &&
           xnn_setup_convert_nc_f32_qs8(c.op, 1, in, out, nullptr) == xnn_status_success;
}
bool to_codes(conversion& c, const affine_params& p, const float* in, std::uint8_t* out, std::size_t n) {
    return xnn_create_convert_nc_f32_qu8(n, n, n, p.scale, static_cast<std::uint8_t>(p.zero_point), 0, 255, 0, &c.op) ==
               xnn_status_success &&
           xnn_setup_convert_nc_f32_qu8(c.op, 1, in, out, nullptr) == xnn_status_success;
}
bool to_reals(conversion& c, const affine_params& p, const std::int8_t* in, float* out, std::size_t n) {
    return xnn_create_convert_nc_qs8_f32(n, n, n, p.scale, static_cast<std::int8_t>(p.zero_point), 0, &c.op) ==
               xnn_status_success &&
           xnn_setup_convert_nc_qs8_f32(c.op, 1, in, out, nullptr) == xnn_status_success;
}
bool to_reals(conversion& c, const affine_params& p, const std::uint8_t* in, float* out, std::size_t n) {
    return xnn_create_convert_nc_qu8_f32(n, n, n, p.scale, static_cast<std::uint8_t>(p.zero_point), 0, &c.op) ==
               xnn_status_success &&
           xnn_setup_convert_nc_qu8_f32(c.op, 1, in, out, nullptr) == xnn_status_success;
}
#endif

template <class Code> void quantize(row& r) {
    const affine_params p = params<Code>();
    Code* const out = results<Code>(r.n);
    conversion c;
    if (!to_codes(c, p, reals(r.n), out, r.n) || !c.run()) return r.state.SkipWithError("XNNPACK refuses");
    check_codes(r, out, p, quant::scale_by::reciprocal);
    r.run_verb([&] { return c.run(); });
}
template <class Code> void dequantize(row& r) {
    const affine_params p = params<Code>();
    float* const out = results<float>(r.n);
    conversion c;
    if (!to_reals(c, p, codes<Code>(r.n), out, r.n) || !c.run()) return r.state.SkipWithError("XNNPACK refuses");
    check_reals<Code>(r, out, p);
    r.run_verb([&] { return c.run(); });
}

const bool registered = [] {
    add<f32_to_8>("quantize_reciprocal/f32_s8/per_tensor", "xnnpack", all_sizes, quantize<std::int8_t>);
    add<f32_to_8>("quantize_reciprocal/f32_u8/per_tensor", "xnnpack", all_sizes, quantize<std::uint8_t>);
    add<byte_to_f32>("dequantize/s8_f32/per_tensor", "xnnpack", all_sizes, dequantize<std::int8_t>);
    add<byte_to_f32>("dequantize/u8_f32/per_tensor", "xnnpack", all_sizes, dequantize<std::uint8_t>);
    return true;
}();

} // namespace
