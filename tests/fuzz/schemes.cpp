// SPDX-License-Identifier: MIT
// libFuzzer: compositions of scheme parts on views of any extents, strides and values. A call fails with the name of an argument, or
// every code is the scalar definition's for the parameters it chose.
#include "input.hpp"
#include <array>
#include <quant/aciq.hpp>
#include <quant/bit_planes.hpp>
#include <quant/calibration.hpp>

namespace {

using extents = std::array<std::size_t, 3>;

struct choices {
    quant::code_format format{};
    quant::granularity unit{};
    quant::quantize_options options{};
};

/// A view whose strides leave gaps and whose dimensions lie in any order.
template <class T> struct strided {
    strided(const extents& sizes, std::size_t order, std::size_t gap)
        : steps(strides(sizes, order, gap)), data(room(sizes, steps)), view(data.span().data(), sizes, steps) {}

    static extents strides(const extents& sizes, std::size_t order, std::size_t gap) {
        static constexpr std::array<extents, 6> orders{
            {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}};
        extents result{};
        std::size_t step = 1 + gap;
        for (std::size_t i = 3; i-- > 0;) {
            const std::size_t d = orders[order][i];
            result[d] = step;
            step = step * sizes[d] + gap;
        }
        return result;
    }
    static std::size_t room(const extents& sizes, const extents& steps) {
        std::size_t last = 0;
        for (std::size_t d = 0; d < 3; ++d) {
            if (sizes[d] == 0) return 0;
            last += (sizes[d] - 1) * steps[d];
        }
        return last + 1; // nothing behind the last element
    }
    [[nodiscard]] T& at(const extents& i) const { return data[i[0] * steps[0] + i[1] * steps[1] + i[2] * steps[2]]; }

    extents steps;
    fuzz::buffer<T> data;
    quant::tensor_view<T, 3> view;
};

template <class F> void for_each_index(const extents& sizes, F f) {
    for (std::size_t i = 0; i < sizes[0]; ++i)
        for (std::size_t j = 0; j < sizes[1]; ++j)
            for (std::size_t k = 0; k < sizes[2]; ++k) f(extents{i, j, k});
}

template <class Code, bool Sparse, class Scheme>
void check(const strided<float>& x, std::size_t order, std::size_t gap, const choices& chosen, const Scheme& scheme) {
    const extents sizes = x.view.extents();
    const auto map = quant::resolve(chosen.unit, sizes);
    const std::size_t slices = map ? map->count : 1;
    const fuzz::buffer<quant::affine_params> params(slices);
    const fuzz::buffer<quant::channel_correction> corrections(slices);
    const auto bytes = quant::quantize_workspace_size(x.view, scheme);
    const fuzz::buffer<std::byte> workspace(bytes ? *bytes : 0);
    const strided<Code> codes(sizes, order, gap);
    const quant::status done =
        quant::quantize(x.view, codes.view, params.span(), scheme, {corrections.span(), workspace.span()});
    if (!done) {
        fuzz::require(done.argument != nullptr && *done.argument != '\0');
        return;
    }
    fuzz::require(static_cast<bool>(map));
    for (const quant::affine_params& p : params.span()) fuzz::require(static_cast<bool>(quant::validate(p)));
    for_each_index(sizes, [&](const extents& i) {
        const quant::affine_params& p = params[map->slice_of(i)];
        const std::int32_t code = codes.at(i);
        fuzz::require(code >= p.format.qmin() && code <= p.format.qmax());
        if (!Sparse) fuzz::require(code == quant::quantize_one(x.at(i), p, chosen.options));
    });
}

void compose(fuzz::input& in, choices chosen) {
    const extents sizes{in.below(5), in.below(9), in.below(40)};
    const std::size_t order = in.below(6), gap = in.below(3);
    const int axis = static_cast<int>(in.below(8)) - 4; // -4 and 3 are none of this tensor's
    const std::size_t unit = in.below(3);
    chosen.unit = unit == 0   ? quant::granularity{}
                  : unit == 1 ? quant::per_axis(axis)
                              : quant::per_group(axis, in.below(9));
    const auto map = in.below(2) == 0 ? quant::mapping::symmetric : quant::mapping::affine;
    const auto round = std::array{quant::rounding::nearest_even, quant::rounding::half_away}[in.below(2)];
    const auto divide = in.below(2) == 0 ? quant::scale_by::division : quant::scale_by::reciprocal;
    chosen.options.round = round;
    chosen.options.divide = divide;
    const std::size_t composition = in.below(4);
    const bool any_bits = in.below(2) == 0;
    const auto seen = in.below(2) == 0 ? quant::statistics::before_relu : quant::statistics::after_relu;
    const auto least = static_cast<std::uint8_t>(in.below(10)), most = static_cast<std::uint8_t>(in.below(10));

    const strided<float> x(sizes, order, gap);
    for_each_index(sizes, [&](const extents& i) {
        x.at(i) = any_bits ? in.take<float>() : static_cast<float>(in.take<std::int8_t>()) * 0.03125f;
    });
    const std::size_t to = in.below(6), to_gap = in.below(3);
    // One element type each: most of the time to build this is the address sanitizer's.
    if (composition == 0)
        check<std::int8_t, false>(x, to, to_gap, chosen, chosen.format | chosen.unit | map | round | divide);
    else if (composition == 1)
        check<std::uint8_t, false>(x, to, to_gap, chosen,
                                   quant::bias_corrected | divide | round | quant::aciq(quant::prior::laplace) | seen |
                                       chosen.unit | map | chosen.format);
    else if (composition == 2)
        check<std::int8_t, false>(x, to, to_gap, chosen,
                                  round | quant::average_bits(4.0f, {least, most}) | chosen.unit | divide |
                                      chosen.format | quant::minmax | map);
    else
        check<std::int8_t, true>(x, to, to_gap, chosen,
                                 chosen.format | map | quant::percentile(99.0) | quant::bit_sparsified(least) | divide |
                                     round | chosen.unit);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::input in(data, size);
    choices chosen;
    const auto choice = in.take<std::uint8_t>();
    chosen.format = {static_cast<std::uint8_t>(choice >> 3), (choice & 1U) != 0, (choice & 6U) == 6U}; // legal or not
    compose(in, chosen);
    return 0;
}
