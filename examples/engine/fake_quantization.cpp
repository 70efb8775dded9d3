// SPDX-License-Identifier: MIT
#include "fake_quantization.hpp"

#include "../kernels/kernels.hpp"
#include "../quant/require.hpp"

#include <quant/quant.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace engine {

namespace {

using quant::tensor_statistics;
using quant_tool::require;

/// [outer, channels, inner]: one channel holds everything where there is one value per channel.
template <class Data> auto channels_of(Data& data, const std::vector<std::size_t>& shape) {
    const bool images = shape.size() == 4 && shape[2] * shape[3] > 1;
    const std::size_t channels = images ? shape[1] : 1, outer = images ? shape[0] : 1;
    return quant::view(data, outer, channels, data.size() / std::max<std::size_t>(outer * channels, 1));
}

/// The authors' widths for a mean of `bits`; theirs are 0 to 8, and more than 4 bits are left alone.
std::vector<std::uint8_t> widths_for(const std::vector<tensor_statistics>& channels, unsigned bits, bool allocate,
                                     const layer& l) {
    std::vector<std::uint8_t> widths(channels.size(), static_cast<std::uint8_t>(bits));
    if (allocate && bits <= 4 && channels.size() > 1)
        (void)require(quant::paper_bits(channels, widths, {.average_bits = static_cast<double>(bits)}), l.name);
    return widths;
}

/// A channel of 0 bits has one value.
constexpr std::uint8_t at_least_one(std::uint8_t bits) { return bits == 0 ? std::uint8_t{1} : bits; }

} // namespace

std::string_view name_of(method m) {
    constexpr std::array<std::string_view, methods.size()> names{"min-max",
                                                                 "ACIQ",
                                                                 "bit allocation",
                                                                 "bias correction",
                                                                 "ACIQ + bit allocation",
                                                                 "bias correction + bit allocation",
                                                                 "all"};
    return names[static_cast<std::size_t>(m)];
}

fake_settings settings_of(method m, unsigned weight_bits, unsigned activation_bits) {
    fake_settings s;
    s.weight_bits = weight_bits;
    s.activation_bits = activation_bits;
    const bool all = m == method::all;
    s.clip_activations = all || m == method::aciq || m == method::aciq_and_allocation;
    s.correct_bias = all || m == method::bias_correction || m == method::correction_and_allocation;
    s.allocate_weights = s.allocate_activations = all || m == method::bit_allocation ||
                                                  m == method::aciq_and_allocation ||
                                                  m == method::correction_and_allocation;
    return s;
}

fake_quantized::fake_quantized(const graph& net, const fake_settings& settings)
    : net_(net), settings_(settings), points_(net.values) {
    for (const unsigned bits : {settings_.weight_bits, settings_.activation_bits})
        if (bits == 0 || (bits > 8 && bits != 32))
            throw quant_tool::error(quant_tool::exit_code::usage, {},
                                    std::to_string(bits) + " bits: must be 1 to 8, or 32");
    if (settings_.activation_bits != 32) find_points();
    if (settings_.weight_bits != 32) round_weights();
    if (settings_.calibration != nullptr) calibrate(net);
}

void fake_quantized::find_points() {
    rounding_point* last = nullptr;
    for (const layer& l : net_.layers) {
        rounding_point& p = points_[l.output];
        const auto& in = net_.shapes[l.inputs[0]];
        const bool pooling = l.kind == operation::max_pool || (l.kind == operation::average_pool &&
                                                               l.kernel != std::array<std::size_t, 2>{in[2], in[3]});
        if (pooling) p.bits = 8;
        if (!l.has_weight()) continue;
        p.bits = settings_.activation_bits;
        p.studied = true;
        last = &p;
        const layer* next = net_.only_reader(l.output);
        if (!settings_.fuse_relu || next == nullptr) continue;
        p.fused = next->kind == operation::relu || (next->kind == operation::clip && next->low == 0.0f);
        if (p.fused && next->kind == operation::clip) p.high = static_cast<double>(next->high);
    }
    if (last != nullptr) {
        last->bits = 8;
        last->studied = false;
    }
}

void fake_quantized::round_weights() {
    std::vector<layer*> weighted;
    for (layer& l : net_.layers)
        if (l.has_weight()) weighted.push_back(&l);
    double bits_of_all = 0.0, elements = 0.0;
    for (layer* l : weighted) {
        const bool exempt = settings_.exempt && (l == weighted.front() || l == weighted.back());
        const unsigned bits = exempt ? 8 : settings_.weight_bits;
        const std::size_t channels = l->weight.shape[0], size = l->weight.size() / channels;
        const auto w = quant::view(l->weight.data, channels, size);
        std::vector<tensor_statistics> statistics;
        for (std::size_t c = 0; c < channels; ++c) statistics.push_back(quant::measure_statistics(w.slice(0, c)));
        const std::vector<std::uint8_t> chosen = widths_for(statistics, bits, settings_.allocate_weights, *l);
        std::vector<std::uint8_t> widths(chosen);
        std::transform(widths.begin(), widths.end(), widths.begin(), at_least_one);
        const auto scheme = quant::uint8 | quant::per_axis(0) | quant::mapping::affine | quant::bits(widths);
        const auto codes = settings_.correct_bias ? require(quant::quantize(w, scheme | quant::bias_corrected), l->name)
                                                  : require(quant::quantize(w, scheme), l->name);
        require(quant::dequantize(codes, l->weight.data), l->name);
        for (std::size_t c = 0; c < channels; ++c) {
            bits_of_all += static_cast<double>(chosen[c]) * static_cast<double>(size);
            if (chosen[c] != 0) continue;
            const double only = settings_.correct_bias ? statistics[c].mean : statistics[c].min;
            std::fill_n(&l->weight.data[c * size], size, static_cast<float>(only));
        }
        elements += static_cast<double>(l->weight.size());
    }
    if (elements > 0.0) weight_bits_ = bits_of_all / elements;
}

std::vector<tensor_statistics> fake_quantized::measure(const rounding_point& how, const tensor& output) const {
    const auto y = channels_of(output.data, output.shape);
    const bool whole =
        !settings_.clip_activations && !settings_.allocate_activations && settings_.calibration == nullptr;
    std::vector<tensor_statistics> all;
    for (std::size_t c = 0; c < y.extent(1); ++c) {
        if (!whole && how.studied) {
            all.push_back(quant::measure_statistics(y.slice(1, c), how.fused ? quant::statistics::before_relu
                                                                             : quant::statistics::unspecified));
            continue;
        }
        quant::minmax_observer observer; // the extremes are enough, and cheaper
        observer.observe(y.slice(1, c));
        tensor_statistics s;
        if (const auto range = observer.clip()) {
            s.min = range->lo;
            s.max = range->hi;
        }
        all.push_back(s);
    }
    return all;
}

void fake_quantized::calibrate(const graph& original) {
    const evaluation::labelled_set& set = *settings_.calibration;
    const std::size_t samples = std::min(settings_.calibration_samples, set.size);
    for (std::size_t i = 0; i < samples; ++i)
        (void)run(original, set.batch(i, 1), [&](const layer& l, const tensor& y) {
            rounding_point& p = points_[l.output];
            if (p.bits == 0) return;
            const auto seen = measure(p, y);
            p.fixed.resize(seen.size());
            const double share = 1.0 / static_cast<double>(samples);
            for (std::size_t c = 0; c < seen.size(); ++c) {
                tensor_statistics& sum = p.fixed[c];
                sum.count += seen[c].count;
                sum.taken = seen[c].taken;
                sum.min += share * seen[c].min;
                sum.max += share * seen[c].max;
                sum.mean += share * seen[c].mean;
                sum.centre = sum.mean;
                sum.mean_square += share * seen[c].mean_square;
                sum.mean_abs_deviation += share * seen[c].mean_abs_deviation;
                const double deviation = std::sqrt(sum.variance) + share * std::sqrt(std::max(seen[c].variance, 0.0));
                sum.variance = deviation * deviation;
            }
        });
}

void fake_quantized::round(const rounding_point& how, const layer& l, tensor& output) const {
    const auto y = channels_of(output.data, output.shape);
    const auto channels = how.fixed.empty() ? measure(how, output) : how.fixed;
    if (channels.size() != y.extent(1)) require(quant::status{quant::errc::shape_mismatch, "calibration"}, l.name);
    const auto widths = widths_for(channels, how.bits, settings_.allocate_activations && how.studied, l);
    std::vector<quant::affine_params> params;
    std::vector<double> lowest;
    for (std::size_t c = 0; c < channels.size(); ++c) {
        const quant::code_format format = quant::uint8.with_bits(at_least_one(widths[c]));
        quant::clip_range range{how.fused ? 0.0 : channels[c].min,
                                how.fused ? std::max(channels[c].max, 0.0) : channels[c].max};
        if (settings_.clip_activations && how.studied)
            range = require(
                quant::aciq(quant::prior::laplace, quant::aciq_mode::paper).clip_affine(channels[c], format), l.name);
        range.hi = std::min(range.hi, how.high);
        params.push_back(require(quant::choose_params(range, format, quant::mapping::affine), l.name));
        lowest.push_back(range.lo);
    }
    require(quant::fake_quant(y, y, params, quant::per_axis(1)), l.name);
    for (std::size_t c = 0; c < channels.size(); ++c) {
        if (widths[c] != 0) continue;
        for (std::size_t n = 0; n < y.extent(0); ++n)
            for (std::size_t i = 0; i < y.extent(2); ++i) y(n, c, i) = static_cast<float>(lowest[c]);
    }
}

tensor fake_quantized::operator()(const tensor& batch) const {
    return run(net_, batch, [&](const layer& l, tensor& y) {
        if (points_[l.output].bits != 0) round(points_[l.output], l, y);
    });
}

} // namespace engine
