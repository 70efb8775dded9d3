// SPDX-License-Identifier: MIT
// oneDNN's reorder with a scale and a zero point. It adds the zero point before it rounds, so that ties fall differently where the
// zero point is odd; the check allows for that.
#include "peer.hpp"
#include "products.hpp"
#include <cstdlib>
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

namespace {

using namespace bench;

dnnl::engine& engine() {
    static dnnl::engine e = [] {
        // One thread, or the time of the calling thread means nothing. The OpenMP library is oneDNN's affair, so it is asked for
        // by name and may be absent.
        if (void* const set = dlsym(RTLD_DEFAULT, "omp_set_num_threads"); set != nullptr)
            reinterpret_cast<void (*)(int)>(set)(1);
        return dnnl::engine(dnnl::engine::kind::cpu, 0);
    }();
    return e;
}

/// Parameters per row (axis 0), per column (1) or for all (-1); zero points only for all.
struct reorder {
    dnnl::memory from, to;
    std::vector<float> factors;
    std::int32_t zero_point;
    dnnl::memory scale_memory, zero_memory;
    dnnl::reorder primitive;
    dnnl::stream stream{engine()};

    reorder(std::size_t rows, std::size_t columns, dnnl::memory::data_type from_type, const void* in,
            dnnl::memory::data_type to_type, void* out, std::span<const affine_params> params, int axis, bool quantizes)
        : from(description(rows, columns, from_type), engine(), const_cast<void*>(in)),
          to(description(rows, columns, to_type), engine(), out), zero_point(params[0].zero_point) {
        dnnl::primitive_attr attributes;
        const int mask = axis < 0 ? 0 : 1 << axis;
        const int side = quantizes ? DNNL_ARG_TO : DNNL_ARG_FROM;
#if DNNL_VERSION_MAJOR >= 3
        for (const affine_params& p : params) factors.push_back(p.scale);
        attributes.set_scales_mask(side, mask);
        if (zero_point != 0) attributes.set_zero_points_mask(side, 0);
        scale_memory = dnnl::memory({{static_cast<dnnl::memory::dim>(factors.size())},
                                     dnnl::memory::data_type::f32,
                                     dnnl::memory::format_tag::x},
                                    engine(), factors.data());
        zero_memory =
            dnnl::memory({{1}, dnnl::memory::data_type::s32, dnnl::memory::format_tag::x}, engine(), &zero_point);
#else
        for (const affine_params& p : params) factors.push_back(quantizes ? 1 / p.scale : p.scale);
        attributes.set_output_scales(mask, factors);
        if (zero_point != 0) attributes.set_zero_points(side, 0, {zero_point});
#endif
        primitive = dnnl::reorder(dnnl::reorder::primitive_desc(from, to, attributes));
    }
    static dnnl::memory::desc description(std::size_t rows, std::size_t columns, dnnl::memory::data_type type) {
        return {{static_cast<dnnl::memory::dim>(rows), static_cast<dnnl::memory::dim>(columns)},
                type,
                dnnl::memory::format_tag::ab};
    }
    void run([[maybe_unused]] bool quantizes) {
        std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
#if DNNL_VERSION_MAJOR >= 3
        const int side = quantizes ? DNNL_ARG_TO : DNNL_ARG_FROM;
        arguments.insert({DNNL_ARG_ATTR_SCALES | side, scale_memory});
        if (zero_point != 0) arguments.insert({DNNL_ARG_ATTR_ZERO_POINTS | side, zero_memory});
#endif
        primitive.execute(stream, arguments);
        stream.wait();
    }
};

using type = dnnl::memory::data_type;
constexpr std::size_t one_in_a_thousand = most_checked / 1000;

void quantize(row& r) {
    const affine_params p = params_of(quant::int8);
    auto* const out = results<std::int8_t>(r.n);
    reorder to_codes(1, r.n, type::f32, reals(r.n), type::s8, out, std::span(&p, 1), -1, true);
    to_codes.run(true);
    check_codes(r, out, p, quant::scale_by::reciprocal, one_in_a_thousand);
    r.run([&] { to_codes.run(true); });
}
void dequantize(row& r) {
    const affine_params p = params_of(quant::int8);
    float* const out = results<float>(r.n);
    reorder to_reals(1, r.n, type::s8, codes<std::int8_t>(r.n), type::f32, out, std::span(&p, 1), -1, false);
    to_reals.run(false);
    check_reals<std::int8_t>(r, out, p);
    r.run([&] { to_reals.run(false); });
}
/// Symmetric: the zero points of channels are not supported everywhere.
template <std::size_t Rows, int Axis> void quantize_axis(row& r) {
    std::vector<affine_params> p = params_of(quant::int8, Axis == 0 ? Rows : r.n / Rows);
    for (affine_params& each : p) each.zero_point = 0;
    auto* const out = results<std::int8_t>(r.n);
    reorder to_codes(Rows, r.n / Rows, type::f32, reals(r.n), type::s8, out, p, Axis, true);
    to_codes.run(true);
    check_codes(r, out, p, quant::per_axis(Axis), Rows, quant::scale_by::reciprocal, one_in_a_thousand);
    r.run([&] { to_codes.run(true); });
}

// ---- products: weights in the layout the primitive asks for, s8 times s8 ---------------------------------------------------

void product(row& r, matrix_shape s, std::size_t batch) {
    using dim = dnnl::memory::dim;
    using number = dnnl::memory::data_type;
    using tag = dnnl::memory::format_tag;
    const auto rows = static_cast<dim>(s.rows), cols = static_cast<dim>(s.cols), m = static_cast<dim>(batch);
    const auto* const w = reinterpret_cast<const std::int8_t*>(weight_bytes(s.size()));
    const std::int8_t* const x = activation_codes(batch * s.cols);
    std::vector<std::int32_t> y(batch * s.rows);
    const dnnl::memory::desc source({m, cols}, number::s8, tag::ab), results({m, rows}, number::s32, tag::ab),
        any({cols, rows}, number::s8, tag::any), plain({cols, rows}, number::s8, tag::ba);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc own(engine(), source, any, results);
#else
    const dnnl::matmul::primitive_desc own(dnnl::matmul::desc(source, any, results), engine());
#endif
    dnnl::stream stream(engine());
    dnnl::memory from(plain, engine(), const_cast<std::int8_t*>(w)), packed(own.weights_desc(), engine());
    dnnl::reorder(from, packed).execute(stream, from, packed);
    dnnl::memory in(source, engine(), const_cast<std::int8_t*>(x)), out(results, engine(), y.data());
    const dnnl::matmul multiply(own);
    const std::unordered_map<int, dnnl::memory> arguments{
        {DNNL_ARG_SRC, in}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, out}};
    const auto pass = [&] {
        multiply.execute(stream, arguments);
        stream.wait();
    };
    pass();
    for (const std::size_t i : {std::size_t{0}, s.rows - 1}) {
        std::int32_t sum = 0;
        for (std::size_t c = 0; c < s.cols; ++c) sum += std::int32_t{w[i * s.cols + c]} * x[c];
        // It passes its sums through float, which holds 24 bits of them.
        if (std::abs(std::int64_t{y[i]} - sum) > std::abs(sum) >> 23)
            return r.state.SkipWithError("oneDNN multiplies something else");
    }
    r.run(pass);
}

const bool registered = [] {
    add<f32_to_8>("quantize_reciprocal/f32_s8/per_tensor", "onednn", all_sizes, quantize);
    add<byte_to_f32>("dequantize/s8_f32/per_tensor", "onednn", all_sizes, dequantize);
    const std::string axis = "quantize_reciprocal/f32_s8/per_axis_";
    add<f32_to_8>(axis + "256x2304", "onednn", {256 * 2304}, quantize_axis<256, 0>);
    add<f32_to_8>(axis + "256x3136", "onednn", {256 * 3136}, quantize_axis<256, 0>);
    add<f32_to_8>(axis + "3136x256_inner", "onednn", {256 * 3136}, quantize_axis<3136, 1>);
    for (const matrix_shape s : matrix_shapes)
        if (s.size() <= most_peer_size)
            add_product("gemv", s, "s8_s32/none", "onednn", s.size(), 0, [=](row& r) { product(r, s, 1); });
    for (const std::size_t batch : {std::size_t{2}, std::size_t{4}, std::size_t{8}})
        add_product("gemm" + std::to_string(batch), {4096, 4096}, "s8_s32/none", "onednn", most_peer_size, 0,
                    [=](row& r) {
                        product(r, {4096, 4096}, batch);
                    });
    return true;
}();

} // namespace
