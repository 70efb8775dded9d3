// SPDX-License-Identifier: MIT
#include "dataset.hpp"

#include "../nn/gzip.hpp"
#include "../quant/io/error.hpp"
#include "../quant/io/mapped_file.hpp"
#include "../quant/io/npy.hpp"
#include "../quant/threads.hpp"

#include <turbojpeg.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

namespace evaluation {

namespace {

using quant_tool::exit_code;
using bytes = std::vector<unsigned char>;

[[noreturn]] void fail(const std::string& file, const std::string& cause) {
    throw quant_tool::error(exit_code::input, file, cause);
}

/// One plane of bytes as the network wants them.
void convert(std::span<const unsigned char> from, std::size_t step, const preprocessing& how, std::size_t channel,
             std::span<float> to) {
    const float divisor = how.divisor, mean = how.mean[channel % 3], deviation = how.deviation[channel % 3];
    for (std::size_t i = 0; i < to.size(); ++i)
        to[i] = (static_cast<float>(from[i * step]) / divisor - mean) / deviation;
}

/// The lines of a CSV: cells between commas, in double quotes where they hold one.
std::vector<std::vector<std::string>> read_csv(const std::string& path) {
    if (std::filesystem::is_directory(path)) fail(path, "is a directory, not a CSV of labels");
    std::ifstream file(path);
    if (!file) fail(path, "cannot open");
    std::vector<std::vector<std::string>> lines;
    for (std::string line; std::getline(file, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty()) continue;
        std::vector<std::string> cells(1);
        bool quoted = false;
        for (const char c : line) {
            if (c == '"')
                quoted = !quoted;
            else if (c == ',' && !quoted)
                cells.emplace_back();
            else
                cells.back() += c;
        }
        lines.push_back(std::move(cells));
    }
    return lines;
}

/// Class numbers by file name.
std::map<std::string, int> read_labels(const std::string& path) {
    auto lines = read_csv(path);
    if (lines.empty()) fail(path, "is empty");
    const auto& header = lines.front();
    const auto column = [&](std::initializer_list<const char*> names) {
        for (const char* name : names) {
            const auto found = std::find(header.begin(), header.end(), name);
            if (found != header.end()) return static_cast<std::size_t>(found - header.begin());
        }
        fail(path,
             "its first line names no column '" + std::string(*names.begin()) + "'; labels of a folder are a CSV");
    };
    const std::size_t file = column({"file", "filename"}), label = column({"class_index", "label"});
    std::map<std::string, int> labels;
    for (std::size_t i = 1; i < lines.size(); ++i) {
        const std::string where = "line " + std::to_string(i + 1) + ": ";
        if (lines[i].size() <= std::max(file, label)) fail(path, where + "has too few columns");
        const std::string& text = lines[i][label];
        int value = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (code != std::errc() || end != text.data() + text.size() || value < 0)
            fail(path, where + "'" + quant_tool::printable(text) + "' is no class number");
        if (!labels.emplace(lines[i][file], value).second)
            fail(path, where + "'" + quant_tool::printable(lines[i][file]) + "' is listed twice");
    }
    return labels;
}

/// The central side x side pixels, RGB; an empty result and the cause where the image has none.
bytes decode(const std::string& path, std::size_t side, std::string& cause) {
    struct closer {
        void operator()(void* handle) const { tjDestroy(handle); }
    };
    const std::unique_ptr<void, closer> jpeg(tjInitDecompress());
    if (!jpeg) throw std::bad_alloc();
    const auto file = quant_tool::map_file(path);
    const auto* data = reinterpret_cast<const unsigned char*>(file.data());
    const auto size = static_cast<unsigned long>(file.size());
    int width = 0, height = 0, sampling = 0, space = 0;
    const auto failed = [&] {
        cause = tjGetErrorStr2(jpeg.get());
        return bytes{};
    };
    if (tjDecompressHeader3(jpeg.get(), data, size, &width, &height, &sampling, &space) != 0) return failed();
    const auto w = static_cast<std::size_t>(width), h = static_cast<std::size_t>(height);
    if (w < side || h < side) {
        cause =
            "is " + std::to_string(w) + "x" + std::to_string(h) + ", smaller than " + std::to_string(side) + " pixels";
        return {};
    }
    if (w * h > (std::size_t{1} << 28)) {
        cause = "has more than 2^28 pixels";
        return {};
    }
    // A block of 8 x 8 pixels takes a bit at least: a header that claims more lies, and believing it would cost memory.
    if (w * h / 512 > file.size()) {
        cause = "claims " + std::to_string(w) + "x" + std::to_string(h) + " pixels in " + std::to_string(file.size()) +
                " bytes";
        return {};
    }
    bytes all(w * h * 3);
    // A file that ends early is a warning to the decoder, with grey for what is missing; here it is a failure.
    if (tjDecompress2(jpeg.get(), data, size, all.data(), width, 0, height, TJPF_RGB, TJFLAG_STOPONWARNING) != 0)
        return failed();
    bytes crop(side * side * 3);
    const std::size_t left = (w - side) / 2, top = (h - side) / 2;
    for (std::size_t y = 0; y < side; ++y) std::memcpy(&crop[y * side * 3], &all[((top + y) * w + left) * 3], side * 3);
    return crop;
}

/// Big-endian 32 bits.
std::size_t word(const std::string& content, std::size_t at) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(content[at + i]);
    return value;
}

/// The extents of an IDX file of bytes, its header checked; `otherwise` says what it should have been.
std::vector<std::size_t> idx_extents(const std::string& content, std::size_t rank, const std::string& path,
                                     const char* otherwise) {
    if (content.size() < 4 + 4 * rank || word(content, 0) != (0x800u | rank)) fail(path, otherwise);
    std::vector<std::size_t> extents;
    std::size_t total = 1;
    for (std::size_t d = 0; d < rank; ++d) {
        extents.push_back(word(content, 4 + 4 * d));
        if (extents.back() != 0 && total > content.size() / extents.back())
            total = content.size(); // too many, see below
        total *= extents.back();
    }
    if (content.size() != 4 + 4 * rank + total) fail(path, "has another size than its header says");
    return extents;
}

std::span<const unsigned char> as_bytes(const std::string& content, std::size_t from) {
    return std::span(reinterpret_cast<const unsigned char*>(content.data()), content.size()).subspan(from);
}

void check_count(const std::string& labels, std::size_t n, std::size_t samples) {
    if (n != samples) fail(labels, "has " + std::to_string(n) + " labels for " + std::to_string(samples) + " samples");
}

std::vector<int> integer_labels(const std::string& path) {
    if (!path.ends_with(".npy"))
        fail(path, "labels of .npy samples must be a .npy file too, of one integer per sample");
    auto file = quant_tool::read_npy(path);
    auto& t = file.tensors.front();
    const auto copied = [](const auto& values) { return std::vector<int>(values.begin(), values.end()); };
    if (t.shape.size() != 1)
        fail(path, "has " + std::to_string(t.shape.size()) + " dimensions; labels are one integer per sample");
    switch (t.type) {
    case quant_tool::dtype::u8: return copied(t.as<std::uint8_t>());
    case quant_tool::dtype::i32: return copied(t.as<std::int32_t>());
    case quant_tool::dtype::i64: {
        std::vector<int> labels;
        for (const std::int64_t v : t.as<std::int64_t>())
            labels.push_back(static_cast<int>(std::clamp<std::int64_t>(v, -1, 1 << 30)));
        return labels;
    }
    default: fail(path, "its labels are " + std::string(quant_tool::name_of(t.type)) + ", not uint8, int32 or int64");
    }
}

} // namespace

preprocessing preprocessing_named(std::string_view name) {
    constexpr std::array<std::pair<std::string_view, preprocessing>, 4> all{
        {{"raw", raw}, {"unit", unit}, {"by-256", by_256}, {"imagenet", imagenet}}};
    for (const auto& [known, how] : all)
        if (known == name) return how;
    throw quant_tool::error(exit_code::usage, {}, "unknown preprocessing '" + quant_tool::printable(name) + "'");
}

tensor labelled_set::batch(std::size_t from, std::size_t n) const {
    std::vector<std::size_t> shape{n};
    shape.insert(shape.end(), sample_shape.begin(), sample_shape.end());
    tensor out(std::move(shape));
    for (std::size_t i = 0; i < n; ++i) read(from + i, out.sample(i));
    return out;
}

labelled_set images(const std::string& folder, const std::string& labels, std::size_t side, const preprocessing& how,
                    unsigned threads) {
    namespace fs = std::filesystem;
    auto listed = labels.empty() ? std::map<std::string, int>() : read_labels(labels);
    std::error_code code;
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder, code)) {
        std::string ending = entry.path().extension().string();
        std::transform(ending.begin(), ending.end(), ending.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
        if (ending == ".jpg" || ending == ".jpeg") names.push_back(entry.path().filename().string());
    }
    if (code) fail(folder, "cannot be read: " + code.message());
    if (names.empty()) fail(folder, "holds no .jpg or .jpeg");
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        if (labels.empty()) listed.emplace(name, -1);
        if (!listed.contains(name)) fail(labels, "has no label for '" + quant_tool::printable(name) + "'");
    }
    check_count(labels, listed.size(), names.size());

    // Everything is decoded once to know what decodes. The pixels stay, so that many networks can see them, while they are few.
    constexpr std::size_t worth_keeping = std::size_t{1} << 29;
    const bool keep = names.size() * side * side * 3 <= worth_keeping;
    struct image {
        std::string path;
        bytes pixels;
    };
    std::vector<image> found(names.size());
    std::vector<std::string> causes(names.size());
    quant_tool::in_parallel(names.size(), threads, [&](std::size_t i) {
        found[i].path = (fs::path(folder) / names[i]).string();
        try {
            found[i].pixels = decode(found[i].path, side, causes[i]);
        } catch (const quant_tool::error& e) {
            causes[i] = e.what();
        }
        if (found[i].pixels.empty() && causes[i].empty()) causes[i] = "does not decode";
        if (!keep) found[i].pixels = {};
    });

    labelled_set set;
    set.sample_shape = {3, side, side};
    const auto kept = std::make_shared<std::vector<image>>();
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (!causes[i].empty()) {
            set.rejected.push_back({names[i], causes[i]});
            continue;
        }
        set.labels.push_back(listed[names[i]]);
        kept->push_back(std::move(found[i]));
    }
    set.size = set.labels.size();
    if (set.size == 0)
        fail(folder, "none of its images decodes; '" + quant_tool::printable(names[0]) + "': " + causes[0]);
    set.read = [kept, side, how](std::size_t i, std::span<float> to) {
        const image& from = (*kept)[i];
        std::string cause;
        const bytes again = from.pixels.empty() ? decode(from.path, side, cause) : bytes{};
        const bytes& pixels = from.pixels.empty() ? again : from.pixels;
        if (pixels.empty()) fail(from.path, "decodes no more: " + cause);
        for (std::size_t c = 0; c < 3; ++c)
            convert(std::span(pixels).subspan(c), 3, how, c, to.subspan(c * side * side, side * side));
    };
    return set;
}

labelled_set cifar(const std::string& path, const preprocessing& how) {
    constexpr std::size_t plane = 1024, record = 1 + 3 * plane;
    const auto file = quant_tool::map_file(path);
    const auto* data = reinterpret_cast<const unsigned char*>(file.data());
    if (file.size() == 0 || file.size() % record != 0)
        fail(path, "is no CIFAR-10 file: its size is no multiple of " + std::to_string(record) + " bytes");
    labelled_set set;
    set.size = file.size() / record;
    set.sample_shape = {3, 32, 32};
    for (std::size_t i = 0; i < set.size; ++i) {
        set.labels.push_back(data[i * record]);
        if (data[i * record] > 9)
            fail(path, "record " + std::to_string(i) + " has the label " + std::to_string(data[i * record]));
    }
    set.read = [file, data, how](std::size_t i, std::span<float> to) {
        for (std::size_t c = 0; c < 3; ++c)
            convert({data + i * record + 1 + c * plane, plane}, 1, how, c, to.subspan(c * plane, plane));
    };
    return set;
}

labelled_set idx(const std::string& images, const std::string& labels, const preprocessing& how) {
    const auto pixels = std::make_shared<const std::string>(nn::read_gzip(images));
    const auto extents = idx_extents(*pixels, 3, images,
                                     "is no IDX file of images (bytes, 3 dimensions), and by its name no folder, .npy "
                                     "or .bin");
    if (extents[0] == 0) fail(images, "holds no samples");
    if (extents[1] == 0 || extents[2] == 0) fail(images, "its samples hold no pixels"); // so their number may be any
    labelled_set set;
    set.size = extents[0];
    set.sample_shape = {1, extents[1], extents[2]};
    set.labels.assign(set.size, -1);
    if (!labels.empty()) {
        const std::string classes = nn::read_gzip(labels);
        const auto extent = idx_extents(classes, 1, labels, "is no IDX file of labels (bytes, 1 dimension)");
        check_count(labels, extent[0], set.size);
        const auto numbers = as_bytes(classes, 8);
        set.labels.assign(numbers.begin(), numbers.end());
    }
    const std::size_t size = extents[1] * extents[2];
    set.read = [pixels, size, how](std::size_t i, std::span<float> to) {
        convert(as_bytes(*pixels, 16).subspan(i * size, size), 1, how, 0, to);
    };
    return set;
}

labelled_set npy(const std::string& samples, const std::string& labels) {
    auto file = quant_tool::read_npy(samples);
    auto& t = file.tensors.front();
    if (t.type != quant_tool::dtype::f32 || t.shape.size() < 2)
        fail(samples, "its samples must be float32 [N, ...], they are " + std::string(quant_tool::name_of(t.type)) +
                          " of " + std::to_string(t.shape.size()) + " dimensions");
    if (t.shape[0] == 0) fail(samples, "holds no samples");
    if (t.size() == 0) fail(samples, "its samples hold no values"); // so their number may be any
    labelled_set set;
    set.size = t.shape[0];
    set.sample_shape.assign(t.shape.begin() + 1, t.shape.end());
    set.labels = labels.empty() ? std::vector<int>(set.size, -1) : integer_labels(labels);
    check_count(labels, set.labels.size(), set.size);
    const auto values = t.as<float>();
    const std::size_t size = tensor::count(set.sample_shape);
    set.read = [kept = t.bytes, values, size](std::size_t i, std::span<float> to) {
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(i * size), size, to.begin());
    };
    return set;
}

labelled_set open_set(const std::string& samples, const std::string& labels, std::size_t side, const preprocessing& how,
                      unsigned threads) {
    if (std::filesystem::is_directory(samples)) return images(samples, labels, side, how, threads);
    if (samples.ends_with(".bin")) {
        if (!labels.empty()) fail(labels, "'" + quant_tool::printable(samples) + "' has labels of its own");
        return cifar(samples, how);
    }
    if (samples.ends_with(".npy")) return npy(samples, labels);
    return idx(samples, labels, how);
}

tensor windows(const tensor& table, std::size_t frames) {
    const std::size_t columns = table.shape.at(1);
    tensor out({table.shape[0] - frames + 1, frames * columns});
    for (std::size_t n = 0; n < out.samples(); ++n)
        std::copy_n(&table.data[n * columns], frames * columns, out.sample(n).begin());
    return out;
}

} // namespace evaluation
