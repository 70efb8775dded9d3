// SPDX-License-Identifier: MIT
// What each operator computes, in float.

#include "graph.hpp"

#include "../kernels/kernels.hpp"
#include "../nn/matrix.hpp"
#include "../quant/require.hpp"

#include <quant/uniform.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace engine {

namespace {

using extents = std::vector<std::size_t>;

[[noreturn]] void fail(const layer& l, const std::string& cause) {
    throw quant_tool::error(quant_tool::exit_code::input, {},
                            "layer '" + quant_tool::printable(l.name) + "' (" + std::string(name_of(l.kind)) +
                                "): " + cause);
}

std::string text_of(const extents& shape) {
    std::string out;
    for (const std::size_t n : shape) {
        if (!out.empty()) out += 'x';
        out += std::to_string(n);
    }
    return out;
}

/// Positions of a window of `span` pixels in one dimension.
std::size_t window_positions(const layer& l, std::size_t d, std::size_t in) {
    const std::size_t padded = in + l.pads[d] + l.pads[d + 2];
    const std::size_t span = l.dilations[d] * (l.kernel[d] - 1) + 1;
    if (l.kernel[d] == 0 || span > padded) fail(l, "its window is larger than its input");
    std::size_t n = (padded - span) / l.strides[d] + 1;
    // A last window that sticks out must still begin on the input or on the padding before it.
    if (l.ceil_mode && (padded - span) % l.strides[d] != 0 && n * l.strides[d] < in + l.pads[d]) ++n;
    return n;
}

/// start ... end of a Slice in one dimension of n elements, within 0 ... n.
std::pair<std::size_t, std::size_t> resolved(const cut& c, std::size_t n) {
    const auto size = static_cast<std::int64_t>(n);
    const auto bound = [&](std::int64_t i) {
        return static_cast<std::size_t>(std::clamp(i < 0 ? i + size : i, std::int64_t{0}, size));
    };
    const std::size_t start = bound(c.start);
    return {start, std::max(start, bound(c.end))};
}

/// First and last + 1 output position whose input start + position * stride - pad lies in 0 ... n - 1.
std::pair<std::size_t, std::size_t> inside(std::size_t start, std::size_t stride, std::size_t pad, std::size_t n,
                                           std::size_t positions) {
    const std::size_t first = start >= pad ? 0 : (pad - start + stride - 1) / stride;
    const std::size_t last = n + pad <= start ? 0 : (n + pad - start - 1) / stride + 1;
    return {std::min(first, positions), std::max(std::min(last, positions), std::min(first, positions))};
}

/// One channel's contribution to a row of outputs: y[i] += w * x[i * stride].
void add_scaled(float* y, const float* x, float w, std::size_t n, std::size_t stride) {
    if (stride == 1)
        for (std::size_t i = 0; i < n; ++i) y[i] += w * x[i];
    else
        for (std::size_t i = 0; i < n; ++i) y[i] += w * x[i * stride];
}

struct plane {
    std::size_t rows, columns;
};

/// One output channel that reads one input channel: no matrix product, no copies.
void convolve_plane(const layer& l, std::span<const float> x, plane in, const float* w, std::span<float> y, plane out) {
    for (std::size_t i = 0; i < l.kernel[0]; ++i) {
        const auto [top, bottom] = inside(i * l.dilations[0], l.strides[0], l.pads[0], in.rows, out.rows);
        for (std::size_t j = 0; j < l.kernel[1]; ++j) {
            const auto [left, right] = inside(j * l.dilations[1], l.strides[1], l.pads[1], in.columns, out.columns);
            if (left == right) continue;
            const std::size_t column = left * l.strides[1] + j * l.dilations[1] - l.pads[1];
            for (std::size_t r = top; r < bottom; ++r) {
                const std::size_t row = r * l.strides[0] + i * l.dilations[0] - l.pads[0];
                add_scaled(&y[r * out.columns + left], &x[row * in.columns + column], w[i * l.kernel[1] + j],
                           right - left, l.strides[1]);
            }
        }
    }
}

void convolve(const layer& l, const tensor& x, tensor& y) {
    const plane in{x.shape[2], x.shape[3]}, out{y.shape[2], y.shape[3]};
    const std::size_t outputs = y.shape[1] / l.groups, inputs = l.weight.shape[1], positions = out.rows * out.columns;
    const std::size_t taps = inputs * l.kernel[0] * l.kernel[1];
    const bool as_it_is = l.kernel == std::array<std::size_t, 2>{1, 1} &&
                          l.strides == std::array<std::size_t, 2>{1, 1} && l.pads == std::array<std::size_t, 4>{};
    std::vector<float> columns;
    for (std::size_t n = 0; n < x.samples(); ++n)
        for (std::size_t g = 0; g < l.groups; ++g) {
            const auto from = x.sample(n).subspan(g * inputs * in.rows * in.columns, inputs * in.rows * in.columns);
            const auto to = y.sample(n).subspan(g * outputs * positions, outputs * positions);
            for (std::size_t o = 0; o < outputs; ++o)
                std::fill_n(&to[o * positions], positions, l.bias[g * outputs + o]);
            const auto weights = std::span(l.weight.data).subspan(g * outputs * taps, outputs * taps);
            if (inputs == 1) {
                for (std::size_t o = 0; o < outputs; ++o)
                    convolve_plane(l, from, in, &weights[o * taps], to.subspan(o * positions, positions), out);
                continue;
            }
            if (!as_it_is) {
                columns.resize(taps * positions);
                unfold(l, from, {inputs, in.rows, in.columns}, {out.rows, out.columns}, columns.data(), positions);
            }
            const std::span<const float> right = as_it_is ? from : std::span<const float>(columns);
            nn::as_matrix(to, outputs, positions).noalias() +=
                nn::as_matrix(weights, outputs, taps) * nn::as_matrix(right, taps, positions);
        }
}

/// Largest or mean value of every window; padding never wins, and counts only where the file says so.
void pool(const layer& l, const tensor& x, tensor& y) {
    const plane in{x.shape[2], x.shape[3]}, out{y.shape[2], y.shape[3]};
    const bool largest = l.kind == operation::max_pool;
    for (std::size_t n = 0; n < x.samples(); ++n)
        for (std::size_t c = 0; c < x.channels(); ++c) {
            const auto from = x.channel(n, c);
            const auto to = y.channel(n, c);
            for (std::size_t r = 0; r < out.rows; ++r)
                for (std::size_t q = 0; q < out.columns; ++q) {
                    float best = -std::numeric_limits<float>::infinity(), sum = 0.0f;
                    std::size_t inside_image = 0, counted = 0;
                    for (std::size_t i = 0; i < l.kernel[0]; ++i)
                        for (std::size_t j = 0; j < l.kernel[1]; ++j) {
                            const std::size_t row = r * l.strides[0] + i * l.dilations[0];
                            const std::size_t column = q * l.strides[1] + j * l.dilations[1];
                            counted +=
                                row < in.rows + l.pads[0] + l.pads[2] && column < in.columns + l.pads[1] + l.pads[3];
                            if (row < l.pads[0] || row - l.pads[0] >= in.rows || column < l.pads[1] ||
                                column - l.pads[1] >= in.columns)
                                continue;
                            const float value = from[(row - l.pads[0]) * in.columns + column - l.pads[1]];
                            ++inside_image;
                            sum += value;
                            if (!(value <= best)) best = value; // NaN stays
                        }
                    const std::size_t divisor = l.count_padding ? counted : inside_image;
                    to[r * out.columns + q] = largest ? best : sum / static_cast<float>(divisor);
                }
        }
}

void pool_all(const tensor& x, tensor& y) {
    for (std::size_t n = 0; n < x.samples(); ++n)
        for (std::size_t c = 0; c < x.channels(); ++c) {
            double sum = 0.0;
            for (const float v : x.channel(n, c)) sum += static_cast<double>(v);
            y.channel(n, c)[0] = static_cast<float>(sum / static_cast<double>(x.positions()));
        }
}

/// y[y_start + i] = x[x_start + i x_step] for every index i below counts: a Slice, or a Pad.
void copy_lattice(const tensor& x, tensor& y, const extents& counts, const extents& x_start, const extents& x_step,
                  const extents& y_start) {
    const std::size_t rank = counts.size();
    if (tensor::count(counts) == 0) return;
    extents index(rank, 0);
    for (bool more = true; more;) {
        std::size_t from = 0, to = 0;
        for (std::size_t d = 0; d < rank; ++d) {
            from = from * x.shape[d] + x_start[d] + index[d] * x_step[d];
            to = to * y.shape[d] + y_start[d] + index[d];
        }
        for (std::size_t i = 0; i < counts[rank - 1]; ++i) y.data[to + i] = x.data[from + i * x_step[rank - 1]];
        more = false;
        for (std::size_t d = rank - 1; d-- > 0;) {
            if (++index[d] < counts[d]) {
                more = true;
                break;
            }
            index[d] = 0;
        }
    }
}

void slice(const layer& l, const tensor& x, tensor& y) {
    extents start(x.shape.size(), 0), step(x.shape.size(), 1);
    for (const cut& c : l.cuts) {
        start[c.axis] = resolved(c, x.shape[c.axis]).first;
        step[c.axis] = static_cast<std::size_t>(c.step);
    }
    copy_lattice(x, y, y.shape, start, step, extents(x.shape.size(), 0));
}

void pad(const layer& l, const tensor& x, tensor& y) {
    std::fill(y.data.begin(), y.data.end(), l.pad_value);
    const std::size_t rank = x.shape.size();
    const extents before(l.pad_with.begin(), l.pad_with.begin() + static_cast<std::ptrdiff_t>(rank));
    copy_lattice(x, y, x.shape, extents(rank, 0), extents(rank, 1), before);
}

void concat(const layer& l, std::span<const tensor* const> inputs, tensor& y) {
    const std::size_t outer = tensor::count(std::span(y.shape).first(l.axis));
    auto to = y.data.begin();
    for (std::size_t o = 0; o < outer; ++o)
        for (const tensor* x : inputs) {
            const std::size_t run = x->size() / outer;
            to = std::copy_n(x->data.begin() + static_cast<std::ptrdiff_t>(o * run), run, to);
        }
}

/// Floats to codes or back by the library's verbs; the codes travel as whole floats.
template <class Code> void convert(const layer& l, tensor& x) {
    const std::size_t axis = l.params.size() > 1 ? l.axis : 0;
    const std::size_t outer = tensor::count(std::span(x.shape).first(axis)), own = x.shape[axis];
    const std::size_t inner = x.size() / std::max<std::size_t>(outer * own, 1);
    const auto g = l.params.size() > 1 ? quant::per_axis(1) : quant::per_tensor;
    const auto floats = quant::view(x.data, outer, own, inner);
    std::vector<Code> codes(x.size());
    if (l.kind == operation::dequantize) std::copy(x.data.begin(), x.data.end(), codes.begin());
    const auto view = quant::view(codes, outer, own, inner);
    const quant::status s = l.kind == operation::quantize ? quant::quantize(floats, view, l.params, g)
                                                          : quant::dequantize(view, floats, l.params, g);
    if (!s) fail(l, quant_tool::text_of(s));
    if (l.kind == operation::quantize) std::copy(codes.begin(), codes.end(), x.data.begin());
}

/// Operators whose output has the place of their (first) input.
bool is_in_place(operation kind) {
    switch (kind) {
    case operation::relu:
    case operation::clip:
    case operation::add:
    case operation::flatten:
    case operation::identity:
    case operation::softmax:
    case operation::quantize:
    case operation::dequantize: return true;
    default: return false;
    }
}

void change(const layer& l, tensor& x, const tensor* other) {
    auto values = nn::as_matrix(std::span(x.data), 1, x.size()).array();
    switch (l.kind) {
    case operation::relu: values = values.max(0.0f); break;
    case operation::clip: values = values.max(l.low).min(l.high); break;
    case operation::add: values += nn::as_matrix(std::span<const float>(other->data), 1, x.size()).array(); break;
    case operation::flatten: x.shape = {x.samples(), x.sample_size()}; break;
    case operation::softmax: {
        auto rows = nn::as_matrix(std::span(x.data), x.samples(), x.sample_size()).array();
        rows = (rows.colwise() - rows.rowwise().maxCoeff().eval()).exp();
        rows.colwise() /= rows.rowwise().sum().eval();
        break;
    }
    case operation::quantize:
    case operation::dequantize:
        if (l.params[0].format.is_signed)
            convert<std::int8_t>(l, x);
        else
            convert<std::uint8_t>(l, x);
        break;
    default: break;
    }
}

tensor compute(const layer& l, std::span<const tensor* const> inputs) {
    const tensor& x = *inputs[0];
    std::vector<extents> shapes;
    for (const tensor* t : inputs) shapes.push_back(t->shape);
    tensor y(output_shape(l, shapes));
    switch (l.kind) {
    case operation::conv: convolve(l, x, y); break;
    case operation::gemm: {
        auto out = nn::as_matrix(std::span(y.data), y.shape[0], y.shape[1]);
        out.rowwise() = nn::as_matrix(std::span<const float>(l.bias), 1, l.bias.size()).row(0);
        out.noalias() +=
            nn::as_matrix(std::span<const float>(x.data), x.shape[0], x.shape[1]) *
            nn::as_matrix(std::span<const float>(l.weight.data), l.weight.shape[0], l.weight.shape[1]).transpose();
        break;
    }
    case operation::max_pool:
    case operation::average_pool: pool(l, x, y); break;
    case operation::global_average_pool: pool_all(x, y); break;
    case operation::concat: concat(l, inputs, y); break;
    case operation::slice: slice(l, x, y); break;
    case operation::pad: pad(l, x, y); break;
    default: break;
    }
    return y;
}

} // namespace

void unfold(const layer& l, std::span<const float> x, std::array<std::size_t, 3> in, std::array<std::size_t, 2> out,
            float* columns, std::size_t stride) {
    const auto [channels, rows, width] = in;
    for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t i = 0; i < l.kernel[0]; ++i)
            for (std::size_t j = 0; j < l.kernel[1]; ++j, columns += stride) {
                const auto [top, bottom] = inside(i * l.dilations[0], l.strides[0], l.pads[0], rows, out[0]);
                const auto [left, right] = inside(j * l.dilations[1], l.strides[1], l.pads[1], width, out[1]);
                std::fill_n(columns, out[0] * out[1], 0.0f);
                if (left == right) continue;
                const std::size_t column = left * l.strides[1] + j * l.dilations[1] - l.pads[1];
                for (std::size_t r = top; r < bottom; ++r) {
                    const std::size_t row = r * l.strides[0] + i * l.dilations[0] - l.pads[0];
                    const float* from = &x[(c * rows + row) * width + column];
                    float* to = columns + r * out[1] + left;
                    for (std::size_t k = 0; k < right - left; ++k) to[k] = from[k * l.strides[1]];
                }
            }
}

std::vector<std::size_t> output_shape(const layer& l, std::span<const extents> inputs) {
    const extents& x = inputs[0];
    extents y = x;
    const auto need_images = [&] {
        if (x.size() != 4) fail(l, "needs an input [N, C, H, W], not " + text_of(x));
    };
    switch (l.kind) {
    case operation::conv:
        need_images();
        if (x[1] != l.weight.shape[1] * l.groups)
            fail(l, "its weight is for " + std::to_string(l.weight.shape[1] * l.groups) + " channels, the input is " +
                        text_of(x));
        return {x[0], l.weight.shape[0], window_positions(l, 0, x[2]), window_positions(l, 1, x[3])};
    case operation::max_pool:
    case operation::average_pool:
        need_images();
        return {x[0], x[1], window_positions(l, 0, x[2]), window_positions(l, 1, x[3])};
    case operation::global_average_pool: need_images(); return {x[0], x[1], 1, 1};
    case operation::gemm:
        if (x.size() != 2 || x[1] != l.weight.shape[1])
            fail(l, "its weight is for " + std::to_string(l.weight.shape[1]) + " inputs, the input is " + text_of(x));
        return {x[0], l.weight.shape[0]};
    case operation::flatten: return {x[0], tensor::count(std::span(x).subspan(1))};
    case operation::add:
        if (inputs[1] != x) fail(l, "its inputs are " + text_of(x) + " and " + text_of(inputs[1]));
        return y;
    case operation::concat:
        for (std::size_t i = 1; i < inputs.size(); ++i) {
            extents other = inputs[i];
            const bool fits = other.size() == x.size();
            if (fits) y[l.axis] += std::exchange(other[l.axis], x[l.axis]);
            if (!fits || other != x) fail(l, "its inputs are " + text_of(x) + " and " + text_of(inputs[i]));
        }
        return y;
    case operation::slice:
        for (const cut& c : l.cuts) {
            const auto [start, end] = resolved(c, x.at(c.axis));
            const auto step = static_cast<std::size_t>(c.step);
            y[c.axis] = (end - start + step - 1) / step;
            if (y[c.axis] == 0) fail(l, "leaves nothing of its input " + text_of(x));
        }
        return y;
    case operation::pad:
        for (std::size_t d = 0; d < x.size(); ++d) y[d] += l.pad_with.at(d) + l.pad_with.at(d + x.size());
        return y;
    case operation::quantize:
    case operation::dequantize:
        if (l.params.size() > 1 && (l.axis >= x.size() || x[l.axis] != l.params.size()))
            fail(l, "has " + std::to_string(l.params.size()) + " scales for an input " + text_of(x));
        return y;
    default: return y;
    }
}

tensor run_layer(const layer& l, std::span<const tensor* const> inputs) {
    if (!is_in_place(l.kind)) return compute(l, inputs);
    tensor y = *inputs[0];
    change(l, y, inputs.size() > 1 ? inputs[1] : nullptr);
    return y;
}

tensor run(const graph& g, const tensor& batch, const hook& after) {
    if (batch.shape.size() != g.shapes[g.input].size() ||
        !std::equal(batch.shape.begin() + 1, batch.shape.end(), g.shapes[g.input].begin() + 1))
        throw quant_tool::error(quant_tool::exit_code::input, {},
                                "the network is for samples " + text_of(g.shapes[g.input]) + ", the batch is " +
                                    text_of(batch.shape));
    std::vector<tensor> values(g.values);
    std::vector<std::size_t> left = g.readers;
    ++left[g.output];
    for (const layer& l : g.layers) {
        std::vector<const tensor*> inputs;
        for (const std::size_t v : l.inputs) inputs.push_back(v == g.input ? &batch : &values[v]);
        for (const std::size_t v : l.inputs) --left[v];
        const std::size_t first = l.inputs[0];
        tensor y;
        if (is_in_place(l.kind) && first != g.input && left[first] == 0) {
            y = std::move(values[first]);
            change(l, y, inputs.size() > 1 ? (l.inputs[1] == first ? &y : inputs[1]) : nullptr);
        } else {
            y = run_layer(l, inputs);
        }
        for (const std::size_t v : l.inputs)
            if (left[v] == 0) values[v] = {};
        if (after) after(l, y);
        if (left[l.output] != 0) values[l.output] = std::move(y);
    }
    if (g.output == g.input) return batch;
    return std::move(values[g.output]);
}

} // namespace engine
