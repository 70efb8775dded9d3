// SPDX-License-Identifier: MIT
// `quant quantize model.onnx`: which weights, by which scheme; the model's side stands in examples/onnx/.

#include "../onnx/fold.hpp"
#include "../onnx/qdq.hpp"
#include "calibrate_onnx.hpp"
#include "html_report.hpp"
#include "io/atomic_file.hpp"
#include "keep_sums.hpp"
#include "quantize_values.hpp"
#include "statistics.hpp"

#include <cmath>
#include <quant/quantize/packing.hpp>

namespace quant_tool {

namespace {

using quant_onnx::element_type;

void note(const quantize_command& o, const std::string& text) {
    if (!o.quiet) {
        std::cerr << "quant: note: " << text << '\n';
    }
}

/// Elements are quantized in blocks of about this many, where the slices do not depend on each other.
constexpr std::size_t block_elements = std::size_t{1} << 22;

/// What keeps its sum: the slices (or for one slice per tensor, each output channel), first by kernels of so many elements.
struct kept_sums {
    bool any = false;
    sliced_shape slices;
    std::size_t kernel = 1;
};
kept_sums sums_of(const quantize_command& o, const sliced_shape& layout, const shape_type& shape,
                  const quant_onnx::weight& w, int axis) {
    if (!o.keep_sums) {
        return {};
    }
    if (layout.granularity == granularity_choice::per_group) {
        return {axis == w.input_axis, layout, 1};
    }
    if (layout.granularity == granularity_choice::per_axis && axis != w.output_axis) {
        return {};
    }
    kept_sums out{true, *slice_shape(shape, granularity_choice::per_axis, w.output_axis, 0), 1};
    for (std::size_t d = 2; d < shape.size() && w.output_axis < 2 && w.input_axis < 2; ++d) {
        out.kernel *= static_cast<std::size_t>(shape[d]);
    }
    return out;
}

/// Quantizes one initializer: all its values in memory where they have to be, else block by block.
class initializer_quantizer {
public:
    initializer_quantizer(const quantize_command& o, sliced_shape layout, kept_sums kept, element_type codes,
                          quantized_row& row)
        : o_(o), layout_(layout), kept_(kept), half_(quant_onnx::bits_of(codes) == 4), row_(row) {}

    quant_onnx::weight_result run(const quant_onnx::tensor& t, std::span<std::byte> packed) {
        const bool independent = layout_.granularity != granularity_choice::per_tensor && !o_.average_bits &&
                                 o_.round != quant::rounding::stochastic && layout_.blocks_are_dense() && !t.fill;
        error_ = {};
        histogram_ = {};
        bits_ = 0;
        result_ = {};
        if (!independent) {
            const auto values = t.floats();
            const auto seen = observe_blocks(quant::minmax_observer(), values.size(), o_.threads,
                                             [&](auto& part, std::size_t first, std::size_t count) {
                                                 part.observe(std::span(values).subspan(first, count));
                                             });
            row_.non_finite = check_values(seen, values.size(), t.name, o_);
            quantize_block(values, layout_, t.name, packed);
        } else {
            in_blocks(t, packed);
        }
        if (const auto measured = error_.measures()) {
            row_.error = *measured;
        }
        row_.average_bits = bits_ / static_cast<double>(t.elements());
        row_.drawn = quant_report::draw(histogram_);
        if (row_.drawn) {
            row_.drawn->codes = quant_report::draw(result_.params, {});
        }
        return std::move(result_);
    }

private:
    void in_blocks(const quant_onnx::tensor& t, std::span<std::byte> packed) {
        const bool by_group = layout_.granularity == granularity_choice::per_group;
        auto block = layout_;
        const bool outer = by_group && layout_.outer > 1;
        auto& extent = outer ? block.outer : block.extent;
        const std::size_t whole = extent, stride = layout_.stride(outer ? 0 : 1);
        // A whole number of groups, and of bytes.
        const std::size_t unit = (by_group && !outer ? layout_.group_size : 1) * (stride % 2 == 0 ? 1 : 2);
        const std::size_t step = std::max<std::size_t>(1, block_elements / (stride * unit)) * unit;
        std::vector<float> values;
        const auto load = [&](std::size_t first) {
            extent = std::min(step, whole - first);
            values.resize(extent * stride);
            t.floats(first * stride, values);
        };
        quant::minmax_observer seen;
        for (std::size_t first = 0; first < whole; first += step) {
            load(first);
            seen.observe(std::span<const float>(values));
        }
        row_.non_finite = check_values(seen, t.elements(), t.name, o_);
        for (std::size_t first = 0; first < whole; first += step) {
            load(first);
            const auto begin = first * stride / (half_ ? 2 : 1);
            quantize_block(values, block, t.name,
                           packed.subspan(begin, half_ ? (values.size() + 1) / 2 : values.size()));
        }
    }

    void quantize_block(std::span<const float> values, const sliced_shape& layout, const std::string& name,
                        std::span<std::byte> packed) {
        auto q = quantize_values(values, layout, name, o_, o_.threads);
        if (!q) {
            throw refused(q.status(), o_.input, name);
        }
        // The gain belongs to the scale, exactly; the shift has no place in the format.
        std::vector<quant::affine_params> params(q->params().begin(), q->params().end());
        for (std::size_t s = 0; s < q->corrections().size(); ++s) {
            const auto& c = q->corrections()[s];
            params[s].scale = static_cast<float>(static_cast<double>(params[s].scale) * static_cast<double>(c.gain));
            result_.shifts.push_back(c.shift);
        }
        bits_ += quant::average_bits(*q) * static_cast<double>(values.size());
        const auto e = layout.extents();
        const auto into = [&]<class Code>(std::span<Code> codes) {
            if (kept_.any) {
                auto sums = kept_.slices;
                if (layout.granularity != granularity_choice::per_tensor) {
                    sums.outer = layout.outer; // of the block
                    sums.extent = layout.extent;
                }
                keep_sums(values, codes, std::span<const quant::affine_params>(params), sums, kept_.kernel, o_.threads);
            }
            if (half_) {
                const auto status = quant::pack_codes(codes, packed, quant::code_format{4, o_.is_signed});
                if (!status) {
                    throw error(exit_code::internal, o_.input, name, std::string("packing: ") + status.argument);
                }
            } else {
                std::memcpy(packed.data(), codes.data(), codes.size());
            }
            (void)error_.observe(quant::view(values, e[0], e[1], e[2]), quant::view(codes, e[0], e[1], e[2]), params,
                                 layout.library());
        };
        if (o_.is_signed) {
            into(q->mutable_codes<std::int8_t>());
        } else {
            into(q->mutable_codes<std::uint8_t>());
        }
        result_.params.insert(result_.params.end(), params.begin(), params.end());
        if (!o_.report.empty()) {
            histogram_.observe(values);
        }
    }

    const quantize_command& o_;
    sliced_shape layout_;
    kept_sums kept_;
    bool half_;
    quantized_row& row_;
    quant::error_observer error_;
    quant::histogram_observer<> histogram_; ///< empty unless a page is to be written
    double bits_ = 0;
    quant_onnx::weight_result result_;
};

std::vector<float> magnitudes_of(const std::vector<float>& values, const shape_type& shape, int axis) {
    const auto layout = slice_shape(shape, granularity_choice::per_axis, axis, 0);
    std::vector<float> out(layout ? layout->slices() : 0);
    for (std::size_t s = 0; s < out.size(); ++s) {
        layout->for_each(s, [&](std::uint64_t at) { out[s] = std::max(out[s], std::fabs(values[at])); });
    }
    return out;
}

/// 4 bits where all codes fit, else 8: ONNX has nothing between, and one width per tensor.
element_type container(const quantize_command& o) {
    const int widest = o.average_bits ? o.max_bits : o.bits;
    if (widest <= 4) {
        return o.is_signed ? element_type::int4 : element_type::uint4;
    }
    return o.is_signed ? element_type::int8 : element_type::uint8;
}

} // namespace

void quantize_onnx(const quantize_command& o) {
    if (!is_onnx(o.output)) {
        throw error(exit_code::usage, o.output, "an ONNX model becomes an ONNX model: the name must end in .onnx");
    }
    check_target(o.output, o.force ? overwrite::yes : overwrite::no);
    if (o.external_data) {
        check_target(o.output + ".data", o.force ? overwrite::yes : overwrite::no);
    }
    auto model = quant_onnx::read(o.input);
    const auto file_before = [&] {
        std::uint64_t sum = std::filesystem::file_size(o.input);
        for (const auto& f : model.external_files) {
            sum += std::filesystem::file_size(f);
        }
        return sum;
    }();
    quant_onnx::constants_to_initializers(model);
    std::vector<std::string> kept;
    const auto folded = quant_onnx::fold_batch_normalization(model, &kept);
    if (folded != 0) {
        note(o, counted(folded, "batch normalisation") + " folded into the layers before");
    }
    for (const auto& name : kept) {
        note(o, name + " has no layer before it that it could be folded into: kept");
    }

    std::map<std::string, quant_onnx::weight> weights;
    for (auto& w : quant_onnx::weights_of(model)) {
        auto name = w.name;
        weights.emplace(std::move(name), std::move(w));
    }
    selection which(o);
    std::vector<quant_onnx::weight> chosen;
    std::uint64_t bytes = 0;
    for (const auto& t : model.initializers) {
        const auto known = weights.find(t.name);
        const bool possible = quant_onnx::is_real(t.type) && t.elements() != 0;
        if (which.chosen(t.name, known != weights.end()) && possible) {
            chosen.push_back(known != weights.end()
                                 ? known->second
                                 : quant_onnx::weight{t.name, 0, static_cast<int>(t.shape.size()) - 1});
            bytes += t.byte_size();
        }
    }
    which.check_all_used(o);
    if (chosen.empty()) {
        throw error(exit_code::data, o.input,
                    "has no weights to quantize (initializers that Conv, Gemm or MatMul use)");
    }
    const auto copied = model.initializers.size() - chosen.size();

    const auto codes = container(o);
    const bool blocked = o.granularity == granularity_choice::per_group;
    const bool half = quant_onnx::bits_of(codes) == 4;
    quant_onnx::require_opset(model, half || blocked ? 21 : 13);
    if (o.average_bits) {
        note(o, std::string("ONNX has no width per channel: codes of all widths are stored in ") + (half ? "4" : "8") +
                    " bits, the file does not shrink below that");
    } else if (o.bits != 4 && o.bits != 8) {
        note(o, "ONNX has codes of 4 and 8 bits: " + std::to_string(o.bits) + "-bit codes are stored in " +
                    (half ? "4" : "8"));
    }

    calibration seen;
    if (!o.calibrate.empty()) {
        seen = calibrate(model, o);
    }
    // The mean of what a layer reads says what the shift of its weights adds to its output.
    const auto* const means = o.correct != correction::none && !o.calibrate.empty() ? &seen.means : nullptr;

    quant_onnx::channel_magnitudes magnitudes; // for the biases
    if (o.activations != 0 && !o.float_biases) {
        for (const auto& w : chosen) {
            const auto& t = *model.find(w.name);
            magnitudes[w.name] = magnitudes_of(t.floats(), {t.shape.begin(), t.shape.end()}, w.output_axis);
        }
    }

    std::vector<quantized_row> rows(chosen.size());
    std::vector<std::string> without_shift;
    progress shown("quantizing", chosen.size(), bytes, o.quiet || o.json);
    std::size_t too_short = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        const auto& w = chosen[i];
        const auto& t = *model.find(w.name);
        const int rank = static_cast<int>(t.shape.size());
        auto unit = o.granularity;
        int axis = o.axis_given ? o.axis : unit == granularity_choice::per_group ? w.input_axis : w.output_axis;
        // Groups run along one dimension: where that is shorter than a group (depthwise layers, the first one), each weight would have
        // a scale of its own, or nearly so.
        if (unit == granularity_choice::per_group && !o.axis_given &&
            static_cast<std::uint64_t>(t.shape[static_cast<std::size_t>(axis)]) < o.group_size) {
            unit = granularity_choice::per_axis;
            axis = w.output_axis;
            ++too_short;
        }
        auto& row = rows[i];
        row.name = t.name;
        row.type = quant_onnx::name_of(t.type);
        row.shape.assign(t.shape.begin(), t.shape.end());
        row.bytes_before = t.byte_size();
        const auto layout = slice_shape(row.shape, unit, axis, o.group_size);
        if (!layout) {
            throw error(exit_code::data, o.input, t.name,
                        "has no axis " + std::to_string(axis) + ", its shape is " + shape_text(row.shape) +
                            " (--axis, or --exclude this tensor)");
        }
        axis += axis < 0 ? rank : 0;
        row.slices = layout->slices();
        quant_onnx::weight_format format;
        format.codes = codes;
        format.slices = unit == granularity_choice::per_group  ? quant::per_group(axis, o.group_size)
                        : unit == granularity_choice::per_axis ? quant::per_axis(axis)
                                                               : quant::per_tensor;
        const std::uint64_t elements = t.elements(), per_byte = half ? 2 : 1;
        row.bytes_after = (elements + per_byte - 1) / per_byte + row.slices * sizeof(float) +
                          (row.slices + per_byte - 1) / per_byte; // codes, scales, zero points
        const auto left = quant_onnx::replace_weight(
            model, w, format,
            [&o, &shown, &row, layout = *layout, kept = sums_of(o, *layout, row.shape, w, axis),
             codes](const auto& weight, auto packed) {
                auto result = initializer_quantizer(o, layout, kept, codes, row).run(weight, packed);
                shown.done(row.bytes_before);
                return result;
            },
            means);
        without_shift.insert(without_shift.end(), left.begin(), left.end());
    }
    if (too_short != 0) {
        note(o, std::to_string(too_short) +
                    " weights with fewer input channels than a group have one scale per output channel");
    }
    if (o.correct != correction::none && means == nullptr) {
        note(
            o,
            o.correct == correction::mean
                ? "ONNX has no place for the shift of --bias-correct; with --calibrate it joins the biases: nothing is "
                  "corrected"
                : "ONNX has no place for the shift of --bias-correct; with --calibrate it joins the biases: only the "
                  "norm, which joins the scale, is corrected");
    } else if (o.correct != correction::none) {
        for (const auto& node : without_shift) {
            note(o, node + " has no bias that could take the shift of --bias-correct: left out");
        }
    }
    if (o.activations != 0) {
        quant_onnx::quantize_activations(model, seen.activations);
        note(o, counted(seen.activations.size(), "value") + " quantized to " + std::to_string(o.activations) +
                    " bits as seen on " + counted(seen.samples, "sample") +
                    (o.activations < 8 ? ", the network's input to 8" : ""));
    }
    for (const auto& node : quant_onnx::quantize_biases(model, magnitudes)) {
        note(o, node + " has weights so small beside its bias that the bias stays float");
    }
    const auto size = quant_onnx::write(model, o.output, o.force,
                                        o.external_data ? quant_onnx::where_weights_stand::beside
                                                        : quant_onnx::where_weights_stand::by_size);
    report_quantized(o, rows, copied, file_before, size);
}

} // namespace quant_tool
