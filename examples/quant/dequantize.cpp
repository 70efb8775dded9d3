// SPDX-License-Identifier: MIT
#include "storage.hpp"

namespace quant_tool {

void dequantize(const dequantize_command& options) {
    const auto policy = options.force ? overwrite::yes : overwrite::no;
    (void)format_of(options.output, exit_code::output);
    check_target(options.output, policy);
    auto split = split_quantized(read_tensors(options.input), options.input, options.threads);

    tensor_file out;
    out.metadata = std::move(split.metadata);
    out.tensors = std::move(split.plain);
    std::uint64_t bytes = 0;
    for (const auto& t : split.quantized) {
        bytes += t.bytes;
    }
    {
        progress shown("restoring", split.quantized.size(), bytes, options.quiet || options.json);
        const auto copied = out.tensors.size();
        out.tensors.resize(copied + split.quantized.size());
        const auto size = [&](std::size_t i) { return split.quantized[i].codes.size(); };
        for_each_tensor(split.quantized.size(), options.threads, size, [&](std::size_t i, unsigned threads) {
            auto& t = split.quantized[i];
            const auto type = options.dtype.empty() ? t.type : *dtype_from_name(options.dtype);
            out.tensors[copied + i] = restore(t, type, threads);
            t.codes = {};
            shown.done(t.bytes);
        });
    }
    std::sort(out.tensors.begin(), out.tensors.end(), [](const tensor& a, const tensor& b) { return a.name < b.name; });
    const auto size = write_tensors(options.output, out, policy);

    if (options.json) {
        json document{{"command", "dequantize"}, {"input", options.input}, {"output", options.output}};
        for (const auto& t : split.quantized) {
            document["tensors"].push_back({{"name", t.name},
                                           {"dtype", name_of(out.find(t.name)->type)},
                                           {"shape", t.shape},
                                           {"bytes_before", t.bytes},
                                           {"bytes_after", out.find(t.name)->bytes.size()}});
        }
        document["totals"] = {{"restored", split.quantized.size()},
                              {"copied", out.tensors.size() - split.quantized.size()},
                              {"file_bytes_before", split.bytes_on_disk},
                              {"file_bytes_after", size}};
        print(document);
    } else if (!options.quiet) {
        table rows({"restored", "dtype", "shape", "before", "after"});
        for (const auto& t : split.quantized) {
            const auto* const r = out.find(t.name);
            rows.row({printable(t.name), std::string(name_of(r->type)), shape_text(t.shape), bytes_text(t.bytes),
                      bytes_text(r->bytes.size())});
        }
        rows.print(std::cout);
        std::cout << split.quantized.size() << " tensors restored, " << out.tensors.size() - split.quantized.size()
                  << " copied; file " << bytes_text(split.bytes_on_disk) << " -> " << bytes_text(size) << '\n';
        finish_output();
    }
}

} // namespace quant_tool
