// SPDX-License-Identifier: MIT
// libFuzzer: any bytes are the results that examples/csq and examples/networks keep, or an error that names the file; what was read is
// written, and then read as the same.
#include "../../examples/csq/results.hpp"
#include "../../examples/networks/results.hpp"
#include "files.hpp"
#include <fstream>
#include <sstream>

namespace {

std::string content_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return std::move(text).str();
}

/// Written twice by way of a file, the second time is as the first.
template <class Write> void settles(const std::string& path, Write&& write) {
    write();
    const std::string once = content_of(path);
    write();
    fuzz::require(content_of(path) == once);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::folder scratch;
    const std::string_view content = fuzz::text(data, size);
    if (content.starts_with("csq 1\t")) {
        const std::string path = scratch.write("csq", content);
        if (fuzz::reads(path, [&] { const csq_example::store any(path, "fuzzed"); }))
            settles(path, [&] {
                csq_example::store(path, "fuzzed").add({false, "arm", 0.5, 1, 2}, {{1, 2, 3}, 4, 5, 6, 7, 8, "1", "2"});
            });
        return 0;
    }
    const bool layers = content.starts_with("network,options");
    const std::string path = scratch.write(layers ? "layers.csv" : "networks.csv", content);
    std::filesystem::remove(scratch / (layers ? "networks.csv" : "layers.csv"));
    if (!fuzz::reads(path, [&] { const networks::store any(scratch.path()); })) return 0;
    if (layers) {
        settles(path, [&] { networks::store(scratch.path()).set_layers({{"net", "", "conv", 5, 1.0, 2.0, 3.0, 4}}); });
    } else {
        networks::store store(scratch.path());
        for (const networks::row& r : store.rows()) fuzz::require(r.right.size() == (r.note.empty() ? r.samples : 0));
        networks::row added;
        added.network = "net";
        store.add(added);
        const std::string once = content_of(path);
        const networks::store again(scratch.path());
        fuzz::require(std::ranges::equal(again.rows(), store.rows(), [](const auto& a, const auto& b) {
            return static_cast<const networks::key&>(a) == b && a.right == b.right && a.note == b.note;
        }));
    }
    return 0;
}
