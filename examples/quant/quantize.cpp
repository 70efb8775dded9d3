// SPDX-License-Identifier: MIT
#include "../kernels/kernels.hpp"
#include "html_report.hpp"
#include "plane_storage.hpp"
#include "quantize_values.hpp"
#include "statistics.hpp"
#include "storage.hpp"

#include <set>

#include <quant/bias_correction.hpp>
#include <quant/bit_planes.hpp>
#include <quant/quantize/quantize_scheme.hpp>

namespace quant_tool {

namespace {

constexpr quant::prior library_prior(prior_choice p) noexcept {
    switch (p) {
    case prior_choice::gauss: return quant::prior::gauss;
    case prior_choice::automatic: return quant::prior::automatic;
    case prior_choice::laplace: break;
    }
    return quant::prior::laplace;
}
constexpr quant::aciq_mode library_mode(aciq_variant v) noexcept {
    switch (v) {
    case aciq_variant::paper: return quant::aciq_mode::paper;
    case aciq_variant::exact: return quant::aciq_mode::exact;
    case aciq_variant::empirical: return quant::aciq_mode::empirical;
    case aciq_variant::corrected: break;
    }
    return quant::aciq_mode::corrected;
}

/// Stochastic rounding gives every tensor its own random stream, whichever other tensors are chosen: FNV-1a of its name.
constexpr std::uint64_t stream_of(std::string_view name) noexcept {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : name) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    }
    return hash;
}

// A scheme is a type made of its parts, the options are known at run time: four steps, each adding one part or none.

template <class Scheme, class F> auto with_correction(const Scheme& s, const quantize_command& o, F f) {
    if (o.correct == correction::none) {
        return f(s);
    }
    return f(s | quant::bias_corrected(o.correct == correction::mean ? quant::correct::mean
                                                                     : quant::correct::mean_and_norm));
}
template <class Scheme, class F> auto with_widths(const Scheme& s, const quantize_command& o, F f) {
    if (!o.average_bits) {
        return with_correction(s, o, f);
    }
    return with_correction(
        s | quant::average_bits(static_cast<float>(*o.average_bits),
                                {static_cast<std::uint8_t>(o.min_bits), static_cast<std::uint8_t>(o.max_bits)}),
        o, f);
}
template <class Scheme, class F>
auto with_rounding(const Scheme& s, const quantize_command& o, std::string_view name, std::uint64_t first_index, F f) {
    if (o.round == quant::rounding::stochastic) {
        return with_widths(s | quant::stochastic(o.seed, stream_of(name), first_index), o, f);
    }
    return with_widths(s | o.round, o, f);
}
/// first_index   row-major number of the first element, where a part of a tensor is quantized
template <class F>
auto with_scheme(const quantize_command& o, quant::granularity granularity, std::string_view name,
                 std::uint64_t first_index, F f) {
    const quant::code_format format{static_cast<std::uint8_t>(o.bits), o.is_signed, o.narrow};
    const auto base = format | granularity | o.map | o.divide;
    switch (o.clip) {
    case clip_method::percentile: return with_rounding(base | quant::percentile(o.percentile), o, name, first_index, f);
    case clip_method::mse: return with_rounding(base | quant::mse_optimal, o, name, first_index, f);
    case clip_method::entropy: return with_rounding(base | quant::entropy, o, name, first_index, f);
    case clip_method::aciq:
        return with_rounding(base | quant::aciq(library_prior(o.prior), library_mode(o.variant)), o, name, first_index,
                             f);
    case clip_method::minmax: break;
    }
    return with_rounding(base | quant::minmax, o, name, first_index, f);
}

} // namespace

json provenance_of(const quantize_command& o) {
    json out;
    out["clip"] = name_in(clip_names, o.clip);
    if (o.clip == clip_method::aciq) {
        if (o.variant != aciq_variant::empirical) {
            out["prior"] = name_in(prior_names, o.prior);
        }
        out["aciq_mode"] = name_in(aciq_names, o.variant);
    }
    if (o.clip == clip_method::percentile) {
        out["percentile"] = o.percentile;
    }
    out["mapping"] = name_in(mapping_names, o.map);
    if (o.average_bits) {
        out["average_bits"] = *o.average_bits;
        out["min_bits"] = o.min_bits;
        out["max_bits"] = o.max_bits;
    }
    out["bias_correct"] = name_in(correction_names, o.correct);
    if (o.planes) {
        out["planes"] = *o.planes;
    }
    out["rounding"] = name_in(rounding_names, o.round);
    if (o.round == quant::rounding::stochastic) {
        out["seed"] = o.seed;
    }
    out["scale_by"] = name_in(scale_by_names, o.divide);
    if (o.keep_sums) {
        out["keep_sums"] = true;
    }
    return out;
}

quant::result<quant::quantized_tensor> quantize_values(std::span<const float> values, const sliced_shape& layout,
                                                       const std::string& name, const quantize_command& o,
                                                       unsigned threads) {
    const auto extents = layout.extents();
    const auto source = quant::view(values, extents[0], extents[1], extents[2]);
    const auto granularity = layout.library();
    const auto blocks = layout.blocks(threads);
    const bool independent = layout.granularity != granularity_choice::per_tensor && !o.average_bits &&
                             (o.round != quant::rounding::stochastic || layout.blocks_are_dense());
    if (blocks.size() == 1 || !independent) {
        return with_scheme(o, granularity, name, 0,
                           [&](const auto& scheme) { return quant::quantize(source, scheme); });
    }
    quant::quantized_tensor q;
    const quant::code_format format{static_cast<std::uint8_t>(o.bits), o.is_signed, o.narrow};
    if (!q.allocate(extents, format, granularity, layout.slices(), o.correct != correction::none)) {
        throw std::bad_alloc();
    }
    std::vector<quant::status> outcomes(blocks.size());
    const auto into = [&](auto codes) {
        const auto destination = quant::view(codes, extents[0], extents[1], extents[2]);
        in_parallel(blocks.size(), threads, [&](std::size_t i) {
            const auto& b = blocks[i];
            const auto params = q.mutable_params().subspan(b.slice, b.slices);
            quant::scheme_buffers buffers;
            if (o.correct != correction::none) {
                buffers.corrections = q.mutable_corrections().subspan(b.slice, b.slices);
            }
            outcomes[i] = with_scheme(o, granularity, name, b.first * layout.stride(b.dimension), [&](const auto& s) {
                return quant::quantize(source.subview(b.dimension, b.first, b.count),
                                       destination.subview(b.dimension, b.first, b.count), params, s, buffers);
            });
        });
    };
    if (o.is_signed) {
        into(q.mutable_codes<std::int8_t>());
    } else {
        into(q.mutable_codes<std::uint8_t>());
    }
    for (const auto& s : outcomes) {
        if (!s) {
            return s;
        }
    }
    return q;
}

std::uint64_t check_values(const quant::minmax_observer& seen, std::uint64_t size, const std::string& name,
                           const quantize_command& o) {
    if (seen.non_finite() != 0 && !o.allow_non_finite) {
        throw error(exit_code::data, o.input, name,
                    std::to_string(seen.non_finite()) + " of " + std::to_string(size) +
                        " values are NaN or infinite (--allow-non-finite quantizes them anyway)");
    }
    if (!o.is_signed && o.map == quant::mapping::symmetric && seen.count() != 0 && seen.state().min < 0) {
        throw error(exit_code::data, o.input, name,
                    "has negative values, which --unsigned --mapping symmetric cannot represent");
    }
    return seen.non_finite();
}

void report_quantized(const quantize_command& options, std::span<const quantized_row> rows, std::size_t copied,
                      std::uint64_t file_before, std::uint64_t file_after) {
    std::uint64_t elements = 0, before = 0, after = 0;
    double bits = 0;
    for (const auto& r : rows) {
        const auto n = element_count(r.shape).value_or(0);
        elements += n;
        bits += r.average_bits * static_cast<double>(n);
        before += r.bytes_before;
        after += r.bytes_after;
    }
    const double mean_bits = elements == 0 ? 0 : bits / static_cast<double>(elements);
    if (!options.report.empty()) {
        report_quantized_page(options, rows, copied, mean_bits, file_before, file_after);
    }
    const double ratio = static_cast<double>(file_before) / static_cast<double>(file_after);
    if (options.json) {
        json document{{"command", "quantize"}, {"input", options.input}, {"output", options.output}};
        document["options"] = provenance_of(options);
        document["tensors"] = json::array();
        for (const auto& r : rows) {
            json entry{{"name", r.name},
                       {"dtype", r.type},
                       {"shape", r.shape},
                       {"average_bits", r.average_bits},
                       {"storage", r.storage},
                       {"slices", r.slices},
                       {"clip", name_in(clip_names, options.clip)},
                       {"sqnr_db", number(r.error.sqnr_db)},
                       {"mse", number(r.error.mse)},
                       {"max_abs_error", number(r.error.max_abs_error)},
                       {"non_finite", r.non_finite},
                       {"bytes_before", r.bytes_before},
                       {"bytes_after", r.bytes_after}};
            document["tensors"].push_back(std::move(entry));
        }
        document["totals"] = {{"quantized", rows.size()},
                              {"copied", copied},
                              {"elements", elements},
                              {"average_bits", mean_bits},
                              {"bytes_before", before},
                              {"bytes_after", after},
                              {"file_bytes_before", file_before},
                              {"file_bytes_after", file_after}};
        print(document);
    } else if (!options.quiet) {
        // How codes are stored is said where there is a choice.
        const bool stored = options.storage != storage_choice::dense;
        std::vector<std::string> headings{"tensor", "shape", "bits", "clip", "SQNR dB", "before", "after"};
        if (stored) {
            headings.push_back("stored as");
        }
        table shown(headings);
        for (const auto& r : rows) {
            std::vector<std::string> cells{printable(r.name),
                                           shape_text(r.shape),
                                           number_text("%.4g", r.average_bits),
                                           std::string(name_in(clip_names, options.clip)),
                                           decibel_text(r.error.sqnr_db),
                                           bytes_text(r.bytes_before),
                                           bytes_text(r.bytes_after)};
            if (stored) {
                cells.push_back(r.storage);
            }
            shown.row(std::move(cells));
        }
        shown.print(std::cout);
        std::cout << rows.size() << " tensors quantized to " << number_text("%.4g", mean_bits) << " bits on average, "
                  << copied << " copied; file " << bytes_text(file_before) << " -> " << bytes_text(file_after) << " ("
                  << number_text("%.2f", ratio) << " times smaller)\n";
        finish_output();
    }
}

namespace {

/// One quantized tensor with its measures.
struct outcome {
    stored_tensor stored;
    quantized_row row;
};

/// Keeps the magnitude planes that cost the least error, of the whole tensor; the corrections follow.
void keep_planes(quant::quantized_tensor& q, std::span<const float> values, const sliced_shape& layout,
                 const std::string& name, const quantize_command& o) {
    const auto e = layout.extents();
    const auto refuse = [&](quant::status s) {
        if (!s) {
            throw refused(s, o.input, name);
        }
    };
    const auto codes = quant::view(q.mutable_codes<std::int8_t>(), e[0], e[1], e[2]); // signed: main.cpp sees to it
    const quant::prune_options few{.max_planes = static_cast<std::size_t>(*o.planes), .adjacent = true};
    refuse(quant::prune_planes(codes, q.params(), layout.library(), few).status());
    if (o.correct != correction::none) {
        const auto how = o.correct == correction::mean ? quant::correct::mean : quant::correct::mean_and_norm;
        refuse(quant::bias_correction(quant::view(values, e[0], e[1], e[2]), codes, q.params(), q.mutable_corrections(),
                                      layout.library(), how));
    }
}

outcome quantize_one(tensor& t, const quantize_command& o, unsigned threads) {
    outcome out;
    auto& row = out.row;
    row.name = t.name;
    row.type = name_of(t.type);
    row.shape = t.shape;
    row.bytes_before = t.bytes.size();
    auto& s = out.stored;
    s.name = t.name;
    s.type = t.type;
    s.shape = t.shape;
    const auto layout = slice_shape(t.shape, o.granularity, o.axis, o.group_size);
    if (!layout) {
        throw error(exit_code::data, o.input, t.name,
                    "has no axis " + std::to_string(o.axis) + ", its shape is " + shape_text(t.shape) +
                        " (--axis, or --exclude this tensor)");
    }
    s.layout = *layout;
    s.axis = o.axis < 0 ? o.axis + static_cast<int>(t.shape.size()) : o.axis;
    s.provenance = provenance_of(o);

    std::vector<float> buffer, restored_buffer;
    const auto values = as_floats(t, buffer, threads);
    const auto observer = observe_blocks(
        quant::minmax_observer(), values.size(), threads,
        [&](auto& part, std::size_t first, std::size_t count) { part.observe(values.subspan(first, count)); });
    row.non_finite = check_values(observer, values.size(), t.name, o);
    auto q = quantize_values(values, s.layout, t.name, o, threads);
    if (!q) {
        throw refused(q.status(), o.input, t.name);
    }
    s.codes = std::move(*q);
    if (o.planes) {
        keep_planes(s.codes, values, s.layout, t.name, o);
    }
    choose_storage(s, o.storage);

    // What the reader of the file will get, in the tensor's own type.
    auto restored = restore(s, t.type, threads);
    if (const auto measured = measure_error(values, as_floats(restored, restored_buffer, threads), threads)) {
        row.error = *measured; // otherwise nothing is finite, and nothing measured
    }
    row.average_bits = stored_bits(s);
    row.storage = storage_text(s);
    row.slices = s.layout.slices();
    if (!o.report.empty()) {
        row.drawn = quant_report::draw(histogram_of(values, threads));
        if (row.drawn) {
            row.drawn->codes = quant_report::draw(s.codes.params(), s.codes.corrections());
        }
    }
    return out;
}

} // namespace

void quantize(const quantize_command& options) {
    check_report(options);
    if (is_onnx(options.input)) {
        quantize_onnx(options);
        return;
    }
    const auto policy = options.force ? overwrite::yes : overwrite::no;
    if (format_of(options.output, exit_code::output) == file_format::npy) {
        throw error(exit_code::output, options.output,
                    "a .npy file holds one array, a quantized tensor has several parts (use .npz or .safetensors)");
    }
    check_target(options.output, policy);
    auto file = read_tensors(options.input);
    if (is_quantized(file)) {
        throw error(exit_code::input, options.input, "is quantized already");
    }
    for (const auto* key : {format_key, tensors_key}) {
        if (file.find_metadata(key) != nullptr) {
            throw error(exit_code::input, options.input, "its metadata use the reserved key " + std::string(key));
        }
    }

    selection which(options);
    std::vector<tensor*> chosen;
    tensor_file out;
    std::uint64_t bytes = 0;
    for (auto& t : file.tensors) {
        const bool possible = is_real(t.type) && t.size() != 0;
        if (which.chosen(t.name, t.shape.size() >= 2) && possible) {
            chosen.push_back(&t);
            bytes += t.bytes.size();
        } else {
            out.tensors.push_back(t);
        }
    }
    which.check_all_used(options);
    const auto copied = out.tensors.size();
    std::sort(chosen.begin(), chosen.end(), [](const tensor* a, const tensor* b) { return a->name < b->name; });

    std::vector<outcome> outcomes(chosen.size());
    std::vector<std::vector<tensor>> parts(chosen.size());
    std::vector<json> description(chosen.size());
    {
        progress shown("quantizing", chosen.size(), bytes, options.quiet || options.json);
        const auto size = [&](std::size_t i) { return chosen[i]->size(); };
        for_each_tensor(chosen.size(), options.threads, size, [&](std::size_t i, unsigned threads) {
            auto result = quantize_one(*chosen[i], options, threads);
            description[i] = description_of(result.stored);
            parts[i] = parts_of(result.stored, threads);
            result.stored.codes = {};
            outcomes[i] = std::move(result);
            shown.done(chosen[i]->bytes.size());
        });
    }
    auto descriptions = json::object();
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        descriptions[chosen[i]->name] = std::move(description[i]);
        for (auto& part : parts[i]) {
            outcomes[i].stored.bytes += part.bytes.size();
            out.tensors.push_back(std::move(part));
        }
    }
    std::set<std::string_view> names;
    for (const auto& t : out.tensors) {
        if (!names.insert(t.name).second || descriptions.contains(t.name)) {
            throw error(exit_code::input, options.input, t.name,
                        "has the name of a part of another tensor's quantized form (--exclude one of them)");
        }
    }
    out.metadata = std::move(file.metadata);
    const bool any_planes = std::ranges::any_of(outcomes, [](const outcome& r) { return !r.stored.live.empty(); });
    out.metadata.emplace_back(format_key, any_planes ? planes_version : format_version);
    try {
        out.metadata.emplace_back(tensors_key, descriptions.dump());
    } catch (const json::exception&) { // .npz promises no encoding, the description of the tensors needs one
        throw error(exit_code::input, options.input, "the name of a tensor is not UTF-8");
    }
    const auto size = write_tensors(options.output, out, policy);

    std::vector<quantized_row> rows;
    for (auto& r : outcomes) {
        r.row.bytes_after = r.stored.bytes;
        rows.push_back(std::move(r.row));
    }
    report_quantized(options, rows, copied, file.bytes_on_disk, size);
}

} // namespace quant_tool
