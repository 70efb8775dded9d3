// SPDX-License-Identifier: MIT
#include "plane_storage.hpp"
#include "statistics.hpp"

namespace quant_tool {

namespace {

json granularity_json(const stored_tensor& t) {
    json out{{"granularity", name_in(granularity_names, t.layout.granularity)}};
    if (t.layout.granularity != granularity_choice::per_tensor) {
        out["axis"] = t.axis;
    }
    if (t.layout.granularity == granularity_choice::per_group) {
        out["group_size"] = t.layout.group_size;
    }
    return out;
}

std::string granularity_text(const stored_tensor& t) {
    switch (t.layout.granularity) {
    case granularity_choice::per_axis: return "axis " + std::to_string(t.axis);
    case granularity_choice::per_group:
        return "axis " + std::to_string(t.axis) + " by " + std::to_string(t.layout.group_size);
    case granularity_choice::per_tensor: break;
    }
    return "tensor";
}

} // namespace

void inspect(const inspect_options& options) {
    auto file = read_tensors(options.input);
    const auto file_bytes = file.bytes_on_disk;
    quantized_file split;
    if (is_quantized(file)) {
        split = split_quantized(std::move(file), options.input, options.threads);
    } else {
        split.plain = std::move(file.tensors);
        split.metadata = std::move(file.metadata);
    }
    const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
    std::sort(split.plain.begin(), split.plain.end(), by_name);
    std::sort(split.quantized.begin(), split.quantized.end(), by_name);

    json document{{"command", "inspect"}, {"input", options.input}, {"file_bytes", file_bytes}};
    for (const auto& [key, value] : split.metadata) {
        document["metadata"][key] = value;
    }
    document["tensors"] = json::array();
    document["quantized"] = json::array();
    table rows({"tensor", "dtype", "shape", "min", "max", "mean", "b", "sigma", "non-finite", "size"});
    {
        std::uint64_t bytes = 0;
        for (const auto& t : split.plain) {
            bytes += t.bytes.size();
        }
        progress shown("reading", split.plain.size(), bytes, options.quiet || options.json);
        std::vector<quant::tensor_statistics> statistics(split.plain.size());
        const auto size = [&](std::size_t i) { return split.plain[i].size(); };
        for_each_tensor(split.plain.size(), options.threads, size, [&](std::size_t i, unsigned threads) {
            auto& t = split.plain[i];
            if (is_real(t.type) && t.size() != 0) {
                std::vector<float> buffer;
                statistics[i] = measure_statistics(as_floats(t, buffer, threads), threads);
            }
            shown.done(t.bytes.size());
        });
        for (std::size_t i = 0; i < split.plain.size(); ++i) {
            const auto& t = split.plain[i];
            std::vector<std::string> cells{printable(t.name), std::string(name_of(t.type)), shape_text(t.shape)};
            json entry{{"name", t.name}, {"dtype", name_of(t.type)}, {"shape", t.shape}};
            if (is_real(t.type) && t.size() != 0) {
                const auto& s = statistics[i];
                const bool any = s.count != 0;
                const double sigma = std::sqrt(s.variance);
                for (const double value : {s.min, s.max, s.mean, s.mean_abs_deviation, sigma}) {
                    cells.push_back(any ? number_text("%.4g", value) : "-");
                }
                cells.push_back(std::to_string(s.non_finite));
                const auto value_or_null = [&](double value) { return any ? number(value) : json(nullptr); };
                entry["min"] = value_or_null(s.min);
                entry["max"] = value_or_null(s.max);
                entry["mean"] = value_or_null(s.mean);
                entry["mean_abs_deviation"] = value_or_null(s.mean_abs_deviation);
                entry["sigma"] = value_or_null(sigma);
                entry["non_finite"] = s.non_finite;
            } else {
                cells.insert(cells.end(), 6, "-");
            }
            cells.push_back(bytes_text(t.bytes.size()));
            entry["bytes"] = t.bytes.size();
            rows.row(std::move(cells));
            document["tensors"].push_back(std::move(entry));
        }
    }

    table packed({"quantized", "dtype", "shape", "bits", "codes", "scales", "clip", "corrected", "stored as", "size"});
    for (const auto& t : split.quantized) {
        const auto format = t.codes.format();
        const double bits = stored_bits(t);
        const auto clip = t.provenance.is_object() && t.provenance.contains("clip") && t.provenance["clip"].is_string()
                              ? t.provenance["clip"].get<std::string>()
                              : std::string("-");
        packed.row({printable(t.name), std::string(name_of(t.type)), shape_text(t.shape), number_text("%.4g", bits),
                    format.is_signed ? (format.narrow_range ? "signed narrow" : "signed") : "unsigned",
                    std::to_string(t.layout.slices()) + " per " + granularity_text(t), printable(clip, 20),
                    t.codes.corrections().empty() ? "no" : "yes", storage_text(t), bytes_text(t.bytes)});
        json entry{{"name", t.name},
                   {"dtype", name_of(t.type)},
                   {"shape", t.shape},
                   {"average_bits", bits},
                   {"storage", storage_text(t)},
                   {"signed", format.is_signed},
                   {"narrow", format.narrow_range},
                   {"slices", t.layout.slices()},
                   {"corrected", !t.codes.corrections().empty()}};
        entry.update(granularity_json(t));
        if (!t.provenance.is_null()) {
            entry["provenance"] = t.provenance;
        }
        entry["bytes"] = t.bytes;
        document["quantized"].push_back(std::move(entry));
    }

    if (options.json) {
        print(document);
    } else if (!options.quiet) {
        if (!split.plain.empty()) {
            rows.print(std::cout);
        }
        if (!split.quantized.empty()) {
            packed.print(std::cout);
        }
        std::cout << split.plain.size() + split.quantized.size() << " tensors, " << split.quantized.size()
                  << " of them quantized; file " << bytes_text(file_bytes) << '\n';
        finish_output();
    }
}

} // namespace quant_tool
