// SPDX-License-Identifier: MIT
// libFuzzer: a saved state of calibration with any bytes changed is a state, or an error that names it; what was read is written and read
// again the same. The input is a list of changes: where (2 bytes), to what (1 byte); a place beyond the end cuts the file there.
#include "../../examples/quant/calibration_state.hpp"
#include "../../examples/quant/io/mapped_file.hpp"
#include "files.hpp"
#include <algorithm>

namespace {

using namespace quant_tool;

constexpr std::size_t values = 2, batch = 2, samples = 5;

calibration_state some() {
    calibration_state state;
    state.samples = 4;
    state.values.resize(values);
    const std::array<float, 6> x{0.0f, -1.5f, 0.25f, 3.0f, 0.0f, 1e-3f};
    state.values[0].take(std::array<std::size_t, 2>{2, 3}, x);
    state.values[1].take(std::array<std::size_t, 2>{1, 2}, std::span(x).first(2));
    return state;
}

std::string content_of(const std::string& path) {
    const byte_block content = map_file(path);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::folder scratch;
    static const std::string path = scratch / "state.safetensors";
    static const calibration_file file = [] {
        quantize_command options;
        options.input = scratch.write("model.onnx", "a model");
        options.calibrate = scratch.write("samples.npy", "samples");
        options.resume = path;
        return calibration_file(options, {}, samples);
    }();
    static const std::string sound = [] {
        file.save(some());
        return content_of(path);
    }();

    std::string content = sound;
    for (fuzz::input in(data, size); in.left() >= 3;) {
        const std::size_t at = in.take<std::uint16_t>();
        const char to = static_cast<char>(in.take<std::uint8_t>());
        if (at >= content.size()) {
            content.resize(content.size() - std::min(content.size(), at - content.size()));
        } else {
            content[at] = to;
        }
    }
    scratch.write("state.safetensors", content);
    calibration_state state;
    state.values.resize(values);
    if (!fuzz::reads(path, [&] { fuzz::require(file.load(state, batch)); })) return 0;
    fuzz::require(state.samples <= samples && (state.samples % batch == 0 || state.samples == samples));
    for (observed_value& v : state.values) v.merge(v);
    file.save(state);
    const std::string once = content_of(path);
    calibration_state again;
    again.values.resize(values);
    fuzz::require(file.load(again, batch));
    file.save(again);
    fuzz::require(content_of(path) == once);
    return 0;
}
