// SPDX-License-Identifier: MIT
#include "calibration_state.hpp"

#include "io/mapped_file.hpp"
#include "io/safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

namespace quant_tool {

namespace {

constexpr const char* kind = "calibration state 1";
constexpr std::size_t bins = 2048;

/// FNV-1a of 64 bits (draft-eastlake-fnv): tells files apart that differ by accident, not by malice.
class fingerprint {
public:
    void take(std::span<const std::byte> bytes) noexcept {
        for (const auto b : bytes) {
            hash_ = (hash_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
        }
    }
    void take(const std::filesystem::path& file) {
        const auto name = file.filename().string();
        const auto content = map_file(file.string());
        const std::uint64_t sizes[] = {name.size(), content.size()};
        take(std::as_bytes(std::span(sizes)));
        take(std::as_bytes(std::span(name)));
        take(content.span());
    }
    [[nodiscard]] std::string text() const {
        char out[17];
        std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(hash_));
        return out;
    }

private:
    std::uint64_t hash_ = 0xcbf29ce484222325u;
};

} // namespace

void observed_value::take(std::span<const std::size_t> shape, std::span<const float> data) {
    histogram.observe(data);
    const auto channels = shape.size() < 2 ? 1 : shape[1];
    const auto samples = shape.empty() ? 1 : shape[0];
    if (channels == 0 || samples == 0 || data.empty()) {
        return;
    }
    sums.resize(channels);
    const auto inner = data.size() / samples / channels;
    for (std::size_t i = 0; i < data.size();) {
        double sum = 0;
        const auto channel = i / inner % channels;
        for (const auto end = i + inner; i < end; ++i) {
            sum += static_cast<double>(data[i]);
        }
        sums[channel] += sum;
    }
    per_channel += static_cast<double>(samples * inner);
}

void observed_value::merge(const observed_value& other) {
    histogram.merge(other.histogram);
    sums.resize(std::max(sums.size(), other.sums.size()));
    for (std::size_t c = 0; c < other.sums.size(); ++c) {
        sums[c] += other.sums[c];
    }
    per_channel += other.per_channel;
}

calibration_file::calibration_file(const quantize_command& options, const quant_onnx::model& model, std::size_t samples)
    : path_(options.resume), preprocess_(options.calibrate_preprocess), samples_(samples) {
    namespace fs = std::filesystem;
    check_target(path_, overwrite::yes);
    fingerprint of_model, of_data;
    of_model.take(fs::path(options.input));
    for (const auto& file : model.external_files) {
        of_model.take(file);
    }
    if (fs::is_directory(options.calibrate)) {
        std::vector<fs::path> files;
        for (const auto& entry : fs::directory_iterator(options.calibrate)) {
            if (entry.is_regular_file()) {
                files.push_back(entry.path());
            }
        }
        std::sort(files.begin(), files.end());
        for (const auto& file : files) {
            of_data.take(file);
        }
    } else {
        of_data.take(fs::path(options.calibrate));
    }
    model_ = of_model.text();
    data_ = of_data.text();
}

bool calibration_file::load(calibration_state& state, std::size_t batch) const {
    if (!std::filesystem::exists(path_)) {
        return false;
    }
    auto file = read_safetensors(path_);
    const auto refuse = [&](const std::string& cause) { return error(exit_code::input, path_, cause); };
    const auto text = [&](const char* key) {
        const auto* const found = file.find_metadata(key);
        return found != nullptr ? *found : std::string();
    };
    if (text("kind") != kind) {
        throw refuse("is not a state of --resume, it stays as it is");
    }
    const auto same = [&](const char* key, const std::string& expected, const char* what) {
        if (text(key) != expected) {
            throw refuse(std::string("was made with other ") + what +
                         ": give --resume another name, or remove it to begin anew");
        }
    };
    same("model", model_, "contents of the model");
    same("data", data_, "samples (--calibrate)");
    same("preprocess", preprocess_, "--preprocess");
    same("samples", std::to_string(samples_), "--samples");

    const auto damaged = [&](const std::string& what) { return refuse("is damaged: " + what); };
    const std::size_t values = state.values.size();
    const auto part = [&]<class T>(const char* name, dtype type, const shape_type& shape, T) {
        auto* const t = file.find(name);
        if (t == nullptr || t->type != type || (!shape.empty() && t->shape != shape)) {
            throw damaged(std::string("no '") + name + "' of this network");
        }
        return t->as<T>();
    };
    const auto seen = part("seen", dtype::u64, {1}, std::uint64_t{})[0];
    const auto counted = part("bins", dtype::u64, {values, bins}, std::uint64_t{});
    const auto counts = part("counts", dtype::u64, {values, 3}, std::uint64_t{});
    const auto exponents = part("exponents", dtype::i32, {values}, std::int32_t{});
    const auto extremes = part("extremes", dtype::f32, {values, 2}, float{});
    const auto channels = part("channels", dtype::u64, {values}, std::uint64_t{});
    const auto elements = part("elements", dtype::f64, {values}, double{});
    const auto sums = part("sums", dtype::f64, {}, double{});
    if (seen > samples_ || (seen % batch != 0 && seen != samples_)) {
        throw damaged("the number of samples");
    }
    std::uint64_t used = 0;
    for (std::size_t v = 0; v < values; ++v) {
        quant::histogram_state<bins> s;
        std::copy_n(counted.begin() + static_cast<std::ptrdiff_t>(v * bins), bins, s.bins.begin());
        s.count = counts[v * 3];
        s.non_finite = counts[v * 3 + 1];
        s.zeros = counts[v * 3 + 2];
        s.exponent = exponents[v];
        s.min = extremes[v * 2];
        s.max = extremes[v * 2 + 1];
        if (std::accumulate(s.bins.begin(), s.bins.end(), std::uint64_t{0}) != s.count || s.zeros > s.bins[bins / 2] ||
            s.exponent < -126 || s.exponent > 127 || !std::isfinite(s.min) || !std::isfinite(s.max) || s.min > s.max ||
            channels[v] > sums.size() - used) {
            throw damaged("its counts do not fit together");
        }
        auto& value = state.values[v];
        value.histogram = quant::histogram_observer<bins>(s);
        value.sums.assign(sums.begin() + static_cast<std::ptrdiff_t>(used),
                          sums.begin() + static_cast<std::ptrdiff_t>(used + channels[v]));
        value.per_channel = elements[v];
        used += channels[v];
    }
    if (used != sums.size()) {
        throw damaged("its counts do not fit together");
    }
    state.samples = static_cast<std::size_t>(seen);
    return true;
}

void calibration_file::save(const calibration_state& state) const {
    const std::uint64_t values = state.values.size();
    std::vector<std::uint64_t> counted, counts, channels;
    std::vector<std::int32_t> exponents;
    std::vector<float> extremes;
    std::vector<double> elements, sums;
    for (const auto& value : state.values) {
        const auto& s = value.histogram.state();
        counted.insert(counted.end(), s.bins.begin(), s.bins.end());
        counts.insert(counts.end(), {s.count, s.non_finite, s.zeros});
        exponents.push_back(s.exponent);
        extremes.insert(extremes.end(), {s.min, s.max});
        channels.push_back(value.sums.size());
        elements.push_back(value.per_channel);
        sums.insert(sums.end(), value.sums.begin(), value.sums.end());
    }
    tensor_file file;
    file.metadata = {{"kind", kind},
                     {"model", model_},
                     {"data", data_},
                     {"preprocess", preprocess_},
                     {"samples", std::to_string(samples_)}};
    const std::uint64_t total = sums.size();
    file.tensors.push_back(make_tensor("seen", dtype::u64, {1}, std::vector<std::uint64_t>{state.samples}));
    file.tensors.push_back(make_tensor("bins", dtype::u64, {values, bins}, std::move(counted)));
    file.tensors.push_back(make_tensor("counts", dtype::u64, {values, 3}, std::move(counts)));
    file.tensors.push_back(make_tensor("exponents", dtype::i32, {values}, std::move(exponents)));
    file.tensors.push_back(make_tensor("extremes", dtype::f32, {values, 2}, std::move(extremes)));
    file.tensors.push_back(make_tensor("channels", dtype::u64, {values}, std::move(channels)));
    file.tensors.push_back(make_tensor("elements", dtype::f64, {values}, std::move(elements)));
    file.tensors.push_back(make_tensor("sums", dtype::f64, {total}, std::move(sums)));
    (void)write_safetensors(path_, file, overwrite::yes);
}

} // namespace quant_tool
