// SPDX-License-Identifier: MIT
// Integer layers: what is prepared once, and what runs for every batch. Equation numbers are those of docs/numerics.md.

#include "integer.hpp"

#include "../kernels/kernels.hpp"
#include "../quant/require.hpp"

#include <quant/calibrate/bias_correction.hpp>
#include <quant/packing.hpp>
#include <quant/requantize.hpp>
#include <quant/uniform.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

namespace engine {

namespace {

using extents = std::vector<std::size_t>;
using accumulators = std::vector<std::int32_t>;

using quant_tool::require;

/// Calls f with bytes as the codes they are.
template <class F> void with_codes(quant::code_format format, std::span<std::uint8_t> bytes, F f) {
    if (format.is_signed)
        f(std::span(reinterpret_cast<std::int8_t*>(bytes.data()), bytes.size()));
    else
        f(bytes);
}
std::int32_t code_of(quant::code_format format, std::uint8_t byte) {
    return format.is_signed ? static_cast<std::int8_t>(byte) : byte;
}

/// From accumulators to the bytes of codes, by any of the rules.
struct output_stage {
    quant::requantization rule{};
    quant::output_codes codes;
    std::vector<float> real;                        // float_multiplier
    std::vector<quant::quantized_multiplier> fixed; // the other two
    std::vector<std::int32_t> bias;                 // or none

    void prepare(float input_scale, std::span<const float> weight_scales, float output_scale,
                 const std::string& layer) {
        real.resize(weight_scales.size());
        fixed.resize(weight_scales.size());
        if (rule == quant::requantization::float_multiplier)
            require(quant::requantize_multipliers(input_scale, weight_scales, output_scale, real), layer);
        else
            require(quant::requantize_multipliers(input_scale, weight_scales, output_scale, fixed), layer);
    }

    std::uint8_t one(std::int32_t a, std::size_t slice) const {
        return static_cast<std::uint8_t>(rule == quant::requantization::float_multiplier
                                             ? quant::requantize_one(a, real[slice], codes)
                                             : quant::requantize_one(a, fixed[slice], rule, codes));
    }

    /// a [rows, columns] of int32; the multipliers belong to `slices`.
    void operator()(std::span<const std::int32_t> a, std::size_t rows, std::size_t columns, quant::granularity slices,
                    std::span<std::uint8_t> bytes, const std::string& layer) const {
        const auto from = quant::view(a, rows, columns);
        with_codes(codes.format, bytes, [&](auto to) {
            const quant::requantize_options options{rule, bias};
            if (rule == quant::requantization::float_multiplier)
                require(quant::requantize(from, to, std::span<const float>(real), slices, codes, options), layer);
            else
                require(quant::requantize(from, to, std::span<const quant::quantized_multiplier>(fixed), slices, codes,
                                          options),
                        layer);
        });
    }
};

/// Steps of codes alone are few: they are taken in units of 2^-fine of a step, so that the fixed-point rules, which round twice, have
/// digits to lose. Two inputs of an addition still fit int32.
constexpr int fine = 21;

/// The codes of one value as those of another one's scale, a ReLU or Clip included: a byte for every byte.
using byte_table = std::array<std::uint8_t, 256>;

quant::output_codes limits_of(const quant::affine_params& output, const layer* activation) {
    if (activation == nullptr) return quant::all_codes(output);
    if (activation->kind == operation::relu) return quant::relu_codes(output);
    return quant::clipped_codes(output, {static_cast<double>(activation->low), static_cast<double>(activation->high)});
}

byte_table table_between(const quant::affine_params& from, const quant::affine_params& to, const layer* activation,
                         quant::requantization rule, const std::string& name) {
    output_stage stage{rule, limits_of(to, activation), {}, {}, {}};
    stage.prepare(std::ldexp(from.scale, -fine), std::array{1.0f}, to.scale, name);
    accumulators steps;
    for (unsigned b = 0; b < 256; ++b)
        steps.push_back((code_of(from.format, static_cast<std::uint8_t>(b)) - from.zero_point) * (1 << fine));
    byte_table table;
    stage(steps, 1, 256, quant::per_tensor, table, name);
    return table;
}

// ---- products -------------------------------------------------------------------------------------------------------

/// Rows of int16 end with zeros up to whole chunks, so that the loops over them have no rest.
constexpr std::size_t chunk = 16;
constexpr std::size_t row_block = 4, position_block = 2; ///< sums that compilers keep in registers
constexpr std::size_t rows_per_tile = 32;                ///< rows of weights unpacked at a time

std::size_t padded(std::size_t depth) { return (depth + chunk - 1) / chunk * chunk; }

/// sums of products of R rows of weights and P rows of inputs: pairs of int16 to int32, which processors have an instruction for.
template <std::size_t R, std::size_t P>
void dot_products(const std::int16_t* w, const std::int16_t* x, std::size_t chunks, std::int32_t* out,
                  std::size_t row_stride, std::size_t position_stride) {
    const std::size_t depth = chunks * chunk;
    std::int32_t sums[R][P] = {};
    for (std::size_t k = 0; k < depth; ++k)
        for (std::size_t r = 0; r < R; ++r)
            for (std::size_t p = 0; p < P; ++p) sums[r][p] += w[r * depth + k] * x[p * depth + k];
    for (std::size_t r = 0; r < R; ++r)
        for (std::size_t p = 0; p < P; ++p) out[r * row_stride + p * position_stride] = sums[r][p];
}

/// The codes of a weight [rows, depth] as they are stored: a byte each, or packed, every row from a byte of its own on.
struct stored_weight {
    quant::code_format format{};
    std::size_t rows = 0, depth = 0, row_bytes = 0;
    std::vector<std::uint8_t> bytes;

    void store(std::span<const std::int8_t> codes, const std::string& name) {
        row_bytes = quant::packed_bytes(depth, format);
        bytes.resize(rows * row_bytes);
        for (std::size_t r = 0; r < rows; ++r)
            require(quant::pack_codes(codes.subspan(r * depth, depth),
                                      std::span(bytes).subspan(r * row_bytes, row_bytes), format),
                    name);
    }
    /// One row as int16; out has room for depth.
    void unpack(std::size_t row, std::vector<std::int8_t>& codes, std::int16_t* out) const {
        codes.resize(depth);
        const std::span<const std::uint8_t> packed = std::span(bytes).subspan(row * row_bytes, row_bytes);
        require(quant::unpack_codes(packed, codes, format), "weights");
        std::copy(codes.begin(), codes.end(), out);
    }
};

/// out[row, position] = sum(q_w q_x) for `rows` rows of a weight; x [positions, padded(depth)].
void multiply(const stored_weight& w, std::size_t first_row, std::size_t rows, std::span<const std::int16_t> x,
              std::size_t positions, std::int32_t* out, std::size_t row_stride, std::size_t position_stride) {
    const std::size_t depth = padded(w.depth), chunks = depth / chunk;
    std::vector<std::int8_t> codes;
    std::vector<std::int16_t> tile;
    for (std::size_t from = 0; from < rows; from += rows_per_tile) {
        const std::size_t n = std::min(rows_per_tile, rows - from);
        tile.assign(n * depth, 0);
        for (std::size_t r = 0; r < n; ++r) w.unpack(first_row + from + r, codes, &tile[r * depth]);
        for (std::size_t p = 0; p < positions; p += position_block)
            for (std::size_t r = 0; r < n; r += row_block) {
                const std::int16_t *a = &tile[r * depth], *b = &x[p * depth];
                std::int32_t* to = out + (from + r) * row_stride + p * position_stride;
                if (r + row_block <= n && p + position_block <= positions) {
                    dot_products<row_block, position_block>(a, b, chunks, to, row_stride, position_stride);
                    continue;
                }
                for (std::size_t i = r; i < std::min(r + row_block, n); ++i)
                    for (std::size_t j = p; j < std::min(p + position_block, positions); ++j)
                        dot_products<1, 1>(&tile[i * depth], &x[j * depth], chunks,
                                           out + (from + i) * row_stride + j * position_stride, 0, 0);
            }
    }
}

/// Channels of one sample as int16 between borders of the zero point's code: [channels, rows, columns].
struct framed_planes {
    std::size_t channels, rows, columns;
    std::vector<std::int16_t> data;

    framed_planes(const layer& l, const coded_value& x, const quant::affine_params& params, std::size_t sample)
        : channels(x.shape[1]), rows(x.shape[2] + l.pads[0] + l.pads[2]), columns(x.shape[3] + l.pads[1] + l.pads[3]),
          data(channels * rows * columns, static_cast<std::int16_t>(params.zero_point)) {
        const std::uint8_t* from = &x.bytes[sample * channels * x.shape[2] * x.shape[3]];
        for (std::size_t c = 0; c < channels; ++c)
            for (std::size_t r = 0; r < x.shape[2]; ++r, from += x.shape[3]) {
                std::int16_t* to = &data[(c * rows + l.pads[0] + r) * columns + l.pads[1]];
                for (std::size_t q = 0; q < x.shape[3]; ++q)
                    to[q] = static_cast<std::int16_t>(code_of(params.format, from[q]));
            }
    }
    const std::int16_t* row(std::size_t channel, std::size_t r) const { return &data[(channel * rows + r) * columns]; }
};

/// The inputs of every position of `channels` channels: [positions, padded(channels * kernel)].
void unfold(const layer& l, const framed_planes& x, std::size_t first, std::size_t channels, std::size_t out_rows,
            std::size_t out_columns, std::vector<std::int16_t>& patches) {
    const std::size_t depth = padded(channels * l.kernel[0] * l.kernel[1]);
    patches.assign(out_rows * out_columns * depth, 0);
    for (std::size_t r = 0; r < out_rows; ++r) {
        std::int16_t* to = &patches[r * out_columns * depth];
        for (std::size_t c = first; c < first + channels; ++c)
            for (std::size_t i = 0; i < l.kernel[0]; ++i)
                for (std::size_t j = 0; j < l.kernel[1]; ++j, ++to) {
                    const std::int16_t* from = x.row(c, r * l.strides[0] + i * l.dilations[0]) + j * l.dilations[1];
                    for (std::size_t q = 0; q < out_columns; ++q) to[q * depth] = from[q * l.strides[1]];
                }
    }
}

/// out[position] += sum(w x) for one channel with its own kernel; no weights: the sums of the inputs.
void slide(const layer& l, const framed_planes& x, std::size_t channel, const std::int16_t* w, std::size_t out_rows,
           std::size_t out_columns, std::int32_t* out) {
    for (std::size_t r = 0; r < out_rows; ++r, out += out_columns)
        for (std::size_t i = 0; i < l.kernel[0]; ++i)
            for (std::size_t j = 0; j < l.kernel[1]; ++j) {
                const std::int16_t* from = x.row(channel, r * l.strides[0] + i * l.dilations[0]) + j * l.dilations[1];
                const std::int32_t factor = w == nullptr ? 1 : w[i * l.kernel[1] + j];
                if (l.strides[1] == 1)
                    for (std::size_t q = 0; q < out_columns; ++q) out[q] += factor * from[q];
                else
                    for (std::size_t q = 0; q < out_columns; ++q) out[q] += factor * from[q * l.strides[1]];
            }
}

} // namespace

// ---- the plan -------------------------------------------------------------------------------------------------------

namespace {

/// One layer with the ReLU or Clip behind it.
struct step {
    layer l; // without its weights
    std::vector<std::size_t> inputs;
    std::size_t output = 0;
    output_stage stage;

    stored_weight weight;                            // conv and gemm
    std::vector<std::int32_t> zero_points;           // of affine weights
    std::vector<double> real_zero_points;            // of corrected weights
    int fine_bits = 0;                               // of an average's sums
    std::vector<byte_table> tables;                  // of layers that only move codes, per input
    std::vector<std::vector<std::int32_t>> summands; // of an addition: per input and byte

    bool needs_sums() const { return !zero_points.empty() || !real_zero_points.empty(); }
};

} // namespace

struct integer_network::plan {
    std::vector<step> steps;
    std::vector<quant::affine_params> values;
    std::vector<std::size_t> readers; // of every value: how many inputs of steps it is
    std::size_t input = 0, output = 0;
    std::optional<layer> softmax; // of the logits, in float

    void prepare_weights(step& s, const layer& l, const quant::quantized_tensor& w, const quant::affine_params& in,
                         const quant::affine_params& out) const;
    void multiply_all(const step& s, const coded_value& x, coded_value& y) const;
    void convolve(const step& s, const coded_value& x, coded_value& y) const;
    void add(const step& s, const coded_value& a, const coded_value& b, coded_value& y) const;
    void average(const step& s, const coded_value& x, coded_value& y) const;
    void move(const step& s, std::span<const coded_value* const> inputs, coded_value& y) const;
    void apply_zero_points(const step& s, std::span<std::int32_t> a, std::span<std::int32_t> sums, std::size_t first,
                           std::size_t channels, bool channels_last) const;
};

void integer_network::plan::prepare_weights(step& s, const layer& l, const quant::quantized_tensor& w,
                                            const quant::affine_params& in, const quant::affine_params& out) const {
    const std::size_t rows = l.weight.shape[0], depth = l.weight.sample_size();
    if (w.size() != rows * depth || w.params().size() != rows || !w.stores<std::int8_t>())
        throw quant_tool::error(quant_tool::exit_code::data, {}, l.name, "its codes are not int8 per output channel");
    const auto codes = w.codes<std::int8_t>();
    s.weight = {w.format(), rows, depth, 0, {}};
    s.weight.store(codes, l.name);

    std::vector<float> scales;
    for (std::size_t c = 0; c < rows; ++c) {
        const quant::affine_params& p = w.params()[c];
        s.zero_points.push_back(p.zero_point);
        scales.push_back(p.scale);
        if (w.corrections().empty()) continue;
        const auto folded = quant::fold_gain(p, w.corrections()[c]);
        require(folded.status(), l.name);
        scales.back() = folded->scale;
        s.real_zero_points.push_back(quant::fractional_zero_point(p, w.corrections()[c]));
    }
    s.stage.prepare(in.scale, scales, out.scale, l.name);

    // The bias, and the terms of equation (23) that no input changes. Corrected weights take sums of (q_x - z_x): depth 0.
    std::vector<std::int32_t>& bias = s.stage.bias;
    accumulators sums(rows);
    bias.resize(rows);
    require(quant::quantize_bias(l.bias, in.scale, scales, bias).status(), l.name);
    require(quant::code_sums(quant::view(codes, rows, depth), sums, quant::per_axis(0)), l.name);
    const bool corrected = !s.real_zero_points.empty();
    require(
        quant::accumulator_zero_point_correction(sums, s.zero_points, in.zero_point, corrected ? 0 : depth, bias, bias),
        l.name);
    if (corrected || std::all_of(s.zero_points.begin(), s.zero_points.end(), [](std::int32_t z) { return z == 0; }))
        s.zero_points.clear();
}

integer_network::integer_network(const graph& net, const integer_parameters& parameters, quant::requantization rule) {
    if (parameters.weights.size() != net.layers.size() || parameters.values.size() != net.values)
        throw quant_tool::error(quant_tool::exit_code::data, {}, "the parameters belong to another network");
    auto made = std::make_shared<plan>();
    made->values = parameters.values;
    made->input = net.input;
    made->output = net.output;
    made->readers.assign(net.values, 0);
    const auto& values = parameters.values;
    for (const quant::affine_params& p : values) require(quant::validate(p), "parameters");
    const std::vector<bool> replaced = replaced_layers(net);
    for (std::size_t i = 0; i < net.layers.size(); ++i) {
        const layer& l = net.layers[i];
        if (replaced[i]) continue;
        const layer* activation = activation_behind(net, l);
        if (l.kind == operation::relu || l.kind == operation::clip) activation = &l;
        step s;
        s.inputs = l.inputs;
        s.output = activation != nullptr ? activation->output : l.output;
        const quant::affine_params &in = values[l.inputs[0]], &out = values[s.output];
        s.stage.rule = rule;
        s.stage.codes = limits_of(out, activation);
        switch (l.kind) {
        case operation::conv:
        case operation::gemm: made->prepare_weights(s, l, parameters.weights[i], in, out); break;
        case operation::add: {
            const float step = std::ldexp(std::max(in.scale, values[l.inputs[1]].scale), -fine);
            s.stage.prepare(step, std::array{1.0f}, out.scale, l.name);
            for (const std::size_t v : l.inputs) {
                const double factor = static_cast<double>(values[v].scale) / static_cast<double>(step);
                auto& summand = s.summands.emplace_back();
                for (unsigned b = 0; b < 256; ++b)
                    summand.push_back(static_cast<std::int32_t>(std::nearbyint(
                        factor * (code_of(values[v].format, static_cast<std::uint8_t>(b)) - values[v].zero_point))));
            }
            break;
        }
        case operation::average_pool:
        case operation::global_average_pool: {
            // The sum of n inputs times 1 / n: a multiplier for every n that a window may hold.
            const auto& shape = net.shapes[l.inputs[0]];
            const bool all = l.kind == operation::global_average_pool;
            const std::size_t window =
                all ? tensor::count(std::span(shape).subspan(shape.size() - 2)) : l.kernel[0] * l.kernel[1];
            std::vector<float> parts;
            for (std::size_t n = 1; n <= window; ++n) parts.push_back(1.0f / static_cast<float>(n));
            s.fine_bits = std::max(fine - static_cast<int>(std::bit_width(window)), 0);
            s.stage.prepare(std::ldexp(in.scale, -s.fine_bits), parts, out.scale, l.name);
            break;
        }
        case operation::softmax:
            if (l.output != net.output)
                throw quant_tool::error(quant_tool::exit_code::input, {}, l.name,
                                        "is supported as the last layer only");
            made->softmax = l;
            made->output = l.inputs[0];
            continue;
        case operation::quantize:
        case operation::dequantize:
            throw quant_tool::error(quant_tool::exit_code::input, {}, l.name, "is a layer of a quantized network");
        default:
            for (const std::size_t v : l.inputs)
                s.tables.push_back(table_between(values[v], out, activation, rule, l.name));
        }
        s.l = l;
        s.l.weight.data = {}; // the shape stays
        if (l.kind == operation::pad) s.l.pad_value = static_cast<float>(quant::quantize_one(l.pad_value, out));
        for (const std::size_t v : s.inputs) ++made->readers[v];
        made->steps.push_back(std::move(s));
    }
    plan_ = std::move(made);
}

// ---- running --------------------------------------------------------------------------------------------------------

/// The last term of equation (23) for `channels` channels; sums of the inputs by position.
void integer_network::plan::apply_zero_points(const step& s, std::span<std::int32_t> a, std::span<std::int32_t> sums,
                                              std::size_t first, std::size_t channels, bool channels_last) const {
    const auto view = channels_last ? quant::view(a, sums.size(), channels) : quant::view(a, channels, sums.size());
    const auto axis = quant::per_axis(channels_last ? 1 : 0);
    if (!s.real_zero_points.empty()) {
        const auto ours = std::span(s.real_zero_points).subspan(first, channels);
        const auto zeros = static_cast<std::int32_t>(s.weight.depth) * values[s.inputs[0]].zero_point;
        for (std::int32_t& sum : sums) sum -= zeros;
        require(quant::subtract_zero_point_products(view, sums, ours, axis), s.l.name);
    } else {
        const auto ours = std::span(s.zero_points).subspan(first, channels);
        require(quant::subtract_zero_point_products(view, sums, ours, axis), s.l.name);
    }
}

static accumulators sums_of_rows(std::span<const std::int16_t> x, std::size_t rows) {
    accumulators sums(rows, 0);
    const std::size_t n = x.size() / rows;
    for (std::size_t r = 0; r < rows; ++r)
        for (const std::int16_t v : x.subspan(r * n, n)) sums[r] += v;
    return sums;
}

void integer_network::plan::multiply_all(const step& s, const coded_value& x, coded_value& y) const {
    const std::size_t n = x.shape[0], rows = s.weight.rows, depth = s.weight.depth, width = padded(depth);
    std::vector<std::int16_t> inputs(n * width, 0);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t k = 0; k < depth; ++k)
            inputs[i * width + k] =
                static_cast<std::int16_t>(code_of(values[s.inputs[0]].format, x.bytes[i * depth + k]));
    accumulators a(n * rows);
    multiply(s.weight, 0, rows, inputs, n, a.data(), 1, rows);
    if (s.needs_sums()) {
        accumulators sums = sums_of_rows(inputs, n);
        apply_zero_points(s, a, sums, 0, rows, true);
    }
    s.stage(a, n, rows, quant::per_axis(1), y.bytes, s.l.name);
}

void integer_network::plan::convolve(const step& s, const coded_value& x, coded_value& y) const {
    const std::size_t rows = y.shape[2], columns = y.shape[3], positions = rows * columns;
    const std::size_t outputs = s.weight.rows / s.l.groups, inputs = x.shape[1] / s.l.groups;
    accumulators a(s.weight.rows * positions), sums;
    std::vector<std::int16_t> patches, kernel(s.weight.depth);
    std::vector<std::int8_t> codes;
    for (std::size_t n = 0; n < x.shape[0]; ++n) {
        const framed_planes planes(s.l, x, values[s.inputs[0]], n);
        for (std::size_t g = 0; g < s.l.groups; ++g) {
            const auto own = std::span(a).subspan(g * outputs * positions, outputs * positions);
            if (inputs == 1) { // one channel each: no copies
                std::fill(own.begin(), own.end(), 0);
                for (std::size_t o = 0; o < outputs; ++o) {
                    s.weight.unpack(g * outputs + o, codes, kernel.data());
                    slide(s.l, planes, g, kernel.data(), rows, columns, &own[o * positions]);
                }
                if (s.needs_sums()) {
                    sums.assign(positions, 0);
                    slide(s.l, planes, g, nullptr, rows, columns, sums.data());
                }
            } else {
                unfold(s.l, planes, g * inputs, inputs, rows, columns, patches);
                multiply(s.weight, g * outputs, outputs, patches, positions, own.data(), positions, 1);
                if (s.needs_sums()) sums = sums_of_rows(patches, positions);
            }
            if (s.needs_sums()) apply_zero_points(s, own, sums, g * outputs, outputs, false);
        }
        s.stage(a, s.weight.rows, positions, quant::per_axis(0), std::span(y.bytes).subspan(n * a.size(), a.size()),
                s.l.name);
    }
}

void integer_network::plan::add(const step& s, const coded_value& a, const coded_value& b, coded_value& y) const {
    accumulators sums(a.bytes.size());
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = s.summands[0][a.bytes[i]] + s.summands[1][b.bytes[i]];
    s.stage(sums, 1, sums.size(), quant::per_tensor, y.bytes, s.l.name);
}

void integer_network::plan::average(const step& s, const coded_value& x, coded_value& y) const {
    const quant::affine_params& in = values[s.inputs[0]];
    const bool all = s.l.kind == operation::global_average_pool;
    layer window = s.l;
    if (all) window.kernel = {x.shape[2], x.shape[3]};
    const std::size_t planes = x.shape[0] * x.shape[1], rows = y.shape[2], columns = y.shape[3];
    // First row or column of a window, and the one behind its last, on the input.
    const auto reach = [&](std::size_t d, std::size_t position) {
        const std::size_t start = position * window.strides[d], end = start + window.kernel[d], n = x.shape[2 + d];
        const std::size_t pad = window.pads[d], limit = n + pad + window.pads[d + 2];
        struct {
            std::size_t first, last, counted;
        } r{};
        r.first = start > pad ? start - pad : 0;
        r.last = std::min(std::max(end, pad) - pad, n);
        r.counted = std::min(end, limit) - start;
        return r;
    };
    for (std::size_t p = 0; p < planes; ++p)
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t q = 0; q < columns; ++q) {
                const auto v = reach(0, r), h = reach(1, q);
                std::int32_t sum = 0;
                for (std::size_t i = v.first; i < v.last; ++i)
                    for (std::size_t j = h.first; j < h.last; ++j)
                        sum += code_of(in.format, x.bytes[(p * x.shape[2] + i) * x.shape[3] + j]) - in.zero_point;
                const std::size_t n =
                    window.count_padding ? v.counted * h.counted : (v.last - v.first) * (h.last - h.first);
                y.bytes[(p * rows + r) * columns + q] = s.stage.one(sum * (1 << s.fine_bits), n - 1);
            }
}

/// Layers that only choose and place codes, which are whole numbers that floats hold exactly: the float operators do it.
void integer_network::plan::move(const step& s, std::span<const coded_value* const> inputs, coded_value& y) const {
    if (inputs.size() == 1 && inputs[0]->bytes.size() == y.bytes.size() && s.l.kind != operation::max_pool) {
        std::transform(inputs[0]->bytes.begin(), inputs[0]->bytes.end(), y.bytes.begin(),
                       [&](std::uint8_t b) { return s.tables[0][b]; });
        return;
    }
    const quant::affine_params& out = values[s.output];
    std::vector<tensor> mapped;
    std::vector<const tensor*> pointers;
    pointers.reserve(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        mapped.emplace_back(inputs[i]->shape);
        std::transform(inputs[i]->bytes.begin(), inputs[i]->bytes.end(), mapped[i].data.begin(),
                       [&](std::uint8_t b) { return static_cast<float>(code_of(out.format, s.tables[i][b])); });
    }
    for (const tensor& t : mapped) pointers.push_back(&t);
    const tensor moved = run_layer(s.l, pointers);
    std::transform(moved.data.begin(), moved.data.end(), y.bytes.begin(),
                   [](float code) { return static_cast<std::uint8_t>(static_cast<std::int32_t>(code)); });
}

tensor integer_network::run(const tensor& batch, const hook& after) const {
    const plan& p = *plan_;
    std::vector<coded_value> held(p.values.size());
    std::vector<std::size_t> left = p.readers;
    coded_value& input = held[p.input];
    input = {batch.shape, std::vector<std::uint8_t>(batch.size())};
    with_codes(p.values[p.input].format, input.bytes,
               [&](auto codes) { require(quant::quantize(batch.data, codes, p.values[p.input]), "the input"); });
    if (after) after(p.input, input);
    for (const step& s : p.steps) {
        std::vector<extents> shapes;
        std::vector<const coded_value*> inputs;
        for (const std::size_t v : s.inputs) {
            shapes.push_back(held[v].shape);
            inputs.push_back(&held[v]);
        }
        coded_value y{output_shape(s.l, shapes), {}};
        y.bytes.resize(tensor::count(y.shape));
        switch (s.l.kind) {
        case operation::conv: p.convolve(s, *inputs[0], y); break;
        case operation::gemm: p.multiply_all(s, *inputs[0], y); break;
        case operation::add: p.add(s, *inputs[0], *inputs[1], y); break;
        case operation::average_pool:
        case operation::global_average_pool: p.average(s, *inputs[0], y); break;
        default: p.move(s, inputs, y);
        }
        if (after) after(s.output, y);
        for (const std::size_t v : s.inputs)
            if (--left[v] == 0 && v != p.output) held[v] = {};
        held[s.output] = std::move(y);
    }
    coded_value& last = held[p.output];
    tensor logits(last.shape);
    with_codes(p.values[p.output].format, last.bytes,
               [&](auto codes) { require(quant::dequantize(codes, logits.data, p.values[p.output]), "the output"); });
    const tensor* const scores = &logits;
    return p.softmax ? run_layer(*p.softmax, std::span(&scores, 1)) : logits;
}

std::size_t integer_network::weight_bytes() const {
    std::size_t bytes = 0;
    for (const step& s : plan_->steps) bytes += s.weight.bytes.size();
    return bytes;
}

} // namespace engine
