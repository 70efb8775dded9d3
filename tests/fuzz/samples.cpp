// SPDX-License-Identifier: MIT
// libFuzzer: any bytes are samples, labels, digits or weights of the examples, or an error that names the file; every sample of what was
// read can be had.
#include "../../examples/digits/dataset.hpp"
#include "../../examples/evaluation/dataset.hpp"
#include "../../examples/nn/weights.hpp"
#include "../../examples/quant/io/npy.hpp"
#include "files.hpp"

namespace {

using evaluation::labelled_set;

/// Calls open(), and looks at what it opened where that is not refused.
template <class F> bool opens(const std::string& file, F&& open) {
    labelled_set set;
    if (!fuzz::reads(file, [&] { set = open(); })) return false;
    fuzz::require(set.size != 0 && set.labels.size() == set.size);
    const std::size_t values = nn::tensor::count(set.sample_shape);
    const fuzz::buffer<float> sample(values);
    set.read(0, sample.span());
    set.read(set.size - 1, sample.span());
    if (set.size * values < 10000) fuzz::require(set.batch(0, set.size).size() == set.size * values);
    return true;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace evaluation;
    static const fuzz::folder scratch;
    static const std::string image_folder = scratch / "images", image = image_folder + "/any.jpg";
    static const bool made = std::filesystem::create_directory(image_folder);
    fuzz::require(made);
    const std::string_view content = fuzz::text(data, size);
    const std::string path = scratch.write("any", content);

    if (content.starts_with("\xff\xd8")) {
        std::filesystem::copy_file(path, image, std::filesystem::copy_options::overwrite_existing);
        opens(image_folder, [] { return images(image_folder, {}, 8, imagenet); });
    } else if (content.starts_with("\x93NUMPY")) {
        const std::string npy_path = scratch.write("any.npy", content);
        static const std::string samples = [] {
            quant_tool::tensor_file one;
            one.tensors.push_back(
                quant_tool::make_tensor("x", quant_tool::dtype::f32, {2, 1}, std::vector{1.0f, 2.0f}));
            std::string written = scratch / "samples.npy";
            quant_tool::write_npy(written, one, quant_tool::overwrite::yes);
            return written;
        }();
        opens(npy_path, [&] { return npy(npy_path, {}); });
        opens(npy_path, [&] { return npy(samples, npy_path); });
    } else if (size != 0 && size % 3073 == 0) {
        opens(path, [&] { return cifar(path, by_256); });
    } else if (content.find("dtype") != content.npos) {
        nn::tensor_map weights;
        if (fuzz::reads(path, [&] { weights = nn::load_weights(path); }))
            for (const auto& [name, t] : weights) fuzz::require(t.data.size() == nn::tensor::count(t.shape));
    } else {
        static const std::string pixels =
            scratch.write("pixels", std::string("\0\0\x08\3\0\0\0\1\0\0\0\1\0\0\0\1!", 17));
        opens(path, [&] { return idx(path, {}, unit); });
        opens(path, [&] { return idx(pixels, path, unit); });
        fuzz::reads(path, [&] { (void)digits::load(path); });
        std::filesystem::remove(image);
        // The labels of a folder without images: whatever they are, it is the folder or the labels that are refused.
        try {
            (void)images(image_folder, path, 8, raw);
            fuzz::require(false);
        } catch (const quant_tool::error& e) {
            fuzz::require(e.code() == quant_tool::exit_code::input);
            fuzz::require(std::string_view(e.what()).starts_with(path) ||
                          std::string_view(e.what()).starts_with(image_folder));
        }
    }
    return 0;
}
