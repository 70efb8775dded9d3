// SPDX-License-Identifier: MIT
// Files of samples, right and wrong ones, and statistics.

#include "../dataset.hpp"
#include "../evaluation.hpp"

#include "../../engine/tests/builder.hpp"
#include "../../quant/tests/support.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <turbojpeg.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using engine_test::builder;
using engine_test::random_tensor;
using engine_test::tensor;

namespace {

std::string big_endian(std::uint32_t v) {
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift & 255);
    return out;
}

/// A JPEG of one colour, but for the left column of pixels.
std::string jpeg(int width, int height, unsigned char red) {
    std::vector<unsigned char> pixels(static_cast<std::size_t>(width * height * 3), 0);
    for (std::size_t i = 0; i < pixels.size(); i += 3) pixels[i] = red;
    unsigned char* out = nullptr;
    unsigned long size = 0;
    tjhandle handle = tjInitCompress();
    REQUIRE(tjCompress2(handle, pixels.data(), width, 0, height, TJPF_RGB, &out, &size, TJSAMP_444, 100, 0) == 0);
    std::string content(reinterpret_cast<char*>(out), size);
    tjFree(out);
    tjDestroy(handle);
    return content;
}

} // namespace

TEST_CASE("a folder of images: labels by name, those that do not decode are named and left out") {
    const quant_test::scratch_directory folder;
    quant_test::write_file(folder / "a.jpg", jpeg(20, 18, 200));
    quant_test::write_file(folder / "b.JPEG", jpeg(16, 16, 100));
    const std::string whole = jpeg(40, 40, 50);
    quant_test::write_file(folder / "cut.jpg", whole.substr(0, whole.size() / 2));
    quant_test::write_file(folder / "small.jpg", jpeg(15, 16, 50));
    quant_test::write_file(folder / "text.jpg", "this is no image");
    quant_test::write_file(folder / "note.txt", "left alone");
    const std::string header = "name,file,class_index\n",
                      rows = "x,text.jpg,4\n\"a, b\",a.jpg,7\r\nx,b.JPEG,3\nx,cut.jpg,1\nx,small.jpg,1\n";
    const auto labels = folder / "labels.csv";
    quant_test::write_file(labels, header + rows);
    for (const unsigned threads : {1U, 3U}) {
        const auto set = evaluation::images(folder.path(), labels, 16, evaluation::raw, threads);
        CHECK(set.size == 2);
        CHECK(set.labels == std::vector<int>{7, 3});
        REQUIRE(set.rejected.size() == 3);
        CHECK(set.rejected[0].name == "cut.jpg");
        CHECK_THAT(set.rejected[1].cause, ContainsSubstring("smaller than 16"));
        CHECK(set.rejected[2].name == "text.jpg");
        const tensor batch = set.batch(0, 2);
        CHECK(batch.shape == std::vector<std::size_t>{2, 3, 16, 16});
        CHECK(std::abs(batch.channel(0, 0)[17] - 200.0f) <= 2.0f); // red
        CHECK(std::abs(batch.channel(1, 0)[255] - 100.0f) <= 2.0f);
        CHECK(batch.channel(0, 1)[17] <= 4.0f); // green
    }
    // Where the size of an image stands behind the marker of its frame: 8192 x 8192, much more than so few bytes can hold.
    std::string lying = jpeg(16, 16, 100);
    const auto frame = lying.find("\xff\xc0");
    REQUIRE(frame != std::string::npos);
    lying.replace(frame + 5, 4, "\x20\0\x20\0", 4);
    const quant_test::scratch_directory other;
    quant_test::write_file(other / "a.jpg", lying);
    CHECK_THROWS_MATCHES(evaluation::images(other.path(), "", 16, evaluation::raw), quant_tool::error,
                         MessageMatches(ContainsSubstring("claims 8192x8192 pixels")));
    const auto fails = [&](const std::string& content, const std::string& cause) {
        quant_test::write_file(labels, content);
        CHECK_THROWS_MATCHES(evaluation::images(folder.path(), labels, 16, evaluation::raw), quant_tool::error,
                             MessageMatches(ContainsSubstring(cause)));
    };
    fails(header + rows + "x,more.jpg,3\n", "has 6 labels for 5 samples");
    fails(header + "x,a.jpg,7\n", "has no label for 'b.JPEG'");
    fails(header + "x,a.jpg,seven\n", "line 2: 'seven' is no class number");
    fails(header + rows + "x,a.jpg,7\n", "line 7: 'a.jpg' is listed twice");
    fails("name,class_index\nx,2\n", "names no column 'file'");
    fails("", "is empty");
    CHECK_THROWS_MATCHES(evaluation::images(folder.path(), folder.path(), 16, evaluation::raw), quant_tool::error,
                         MessageMatches(ContainsSubstring("is a directory, not a CSV of labels")));
}

TEST_CASE("CIFAR, IDX and NumPy files, and their mistakes") {
    const quant_test::scratch_directory folder;
    std::string record(1, '\x05');
    record += std::string(1024, '\x01') + std::string(1024, '\x02') + std::string(1024, '\xff');
    quant_test::write_file(folder / "c.bin", record + record);
    const auto c = evaluation::cifar(folder / "c.bin", evaluation::unit);
    CHECK(c.labels == std::vector<int>{5, 5});
    CHECK(c.batch(1, 1).channel(0, 2)[1023] == 1.0f);
    quant_test::write_file(folder / "short.bin", record.substr(1));
    CHECK_THROWS_MATCHES(evaluation::cifar(folder / "short.bin", evaluation::unit), quant_tool::error,
                         MessageMatches(ContainsSubstring("multiple of 3073")));

    const std::string images = big_endian(0x803) + big_endian(2) + big_endian(1) + big_endian(2) + "\x01\x02\x03\x04";
    quant_test::write_file(folder / "i", images);
    quant_test::write_file(folder / "l", big_endian(0x801) + big_endian(2) + "\x07\x08");
    const auto i = evaluation::open_set(folder / "i", folder / "l", 0, evaluation::raw);
    CHECK(i.labels == std::vector<int>{7, 8});
    CHECK(i.batch(0, 2).data == std::vector<float>{1, 2, 3, 4});
    quant_test::write_file(folder / "l3", big_endian(0x801) + big_endian(3) + "\x07\x08\x09");
    CHECK_THROWS_MATCHES(evaluation::idx(folder / "i", folder / "l3", evaluation::raw), quant_tool::error,
                         MessageMatches(ContainsSubstring("has 3 labels for 2 samples")));
    quant_test::write_file(folder / "i2", images + "x");
    CHECK_THROWS_AS(evaluation::idx(folder / "i2", folder / "l", evaluation::raw), quant_tool::error);

    std::string values(24, '\0');
    const float two = 2.0f;
    std::memcpy(values.data() + 20, &two, 4);
    quant_test::write_file(folder / "x.npy",
                           quant_test::npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", values));
    quant_test::write_file(folder / "y.npy",
                           quant_test::npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", "\x01\x02"));
    const auto n = evaluation::npy(folder / "x.npy", folder / "y.npy");
    CHECK(n.labels == std::vector<int>{1, 2});
    CHECK(n.batch(1, 1).data == std::vector<float>{0, 0, 2});
    quant_test::write_file(folder / "y1.npy",
                           quant_test::npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }", "\x01"));
    CHECK_THROWS_MATCHES(evaluation::npy(folder / "x.npy", folder / "y1.npy"), quant_tool::error,
                         MessageMatches(ContainsSubstring("has 1 labels for 2 samples")));
    // Labels of another kind than the samples', and samples that are labels, are named as what they are.
    const auto fails = [&](const char* samples, const char* labels, const std::string& cause) {
        CHECK_THROWS_MATCHES(
            evaluation::open_set(folder / samples, *labels == 0 ? "" : folder / labels, 0, evaluation::raw),
            quant_tool::error, MessageMatches(ContainsSubstring(cause) && !ContainsSubstring("tensor")));
    };
    fails("x.npy", "l", "l: labels of .npy samples must be a .npy file");
    fails("x.npy", "x.npy", "has 2 dimensions; labels are one integer per sample");
    fails("y.npy", "y.npy", "its samples must be float32 [N, ...], they are U8 of 1 dimensions");
    fails("i", "y.npy", "is no IDX file of labels");
    fails("l", "l", "is no IDX file of images");
    fails("c.bin", "l", "has labels of its own");
    quant_test::write_file(folder / "x0.npy",
                           quant_test::npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", ""));
    fails("x0.npy", "", "holds no samples");
    // Samples of nothing take no bytes, however many a header claims.
    quant_test::write_file(
        folder / "many.npy",
        quant_test::npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808, 0), }", ""));
    fails("many.npy", "", "hold no values");
    quant_test::write_file(folder / "many", big_endian(0x803) + big_endian(0xffffffff) + big_endian(0) + big_endian(2));
    fails("many", "", "hold no pixels");
    CHECK(evaluation::windows(n.batch(0, 2), 2).shape == std::vector<std::size_t>{1, 6});
}

namespace {

/// n samples of 6 values; sample i belongs to class i % 6.
evaluation::labelled_set random_set(std::size_t n) {
    evaluation::labelled_set s;
    s.size = n;
    s.sample_shape = {6};
    for (std::size_t i = 0; i < n; ++i) s.labels.push_back(static_cast<int>(i % 6));
    s.read = [](std::size_t i, std::span<float> to) {
        const tensor t = random_tensor({6}, i);
        std::copy(t.data.begin(), t.data.end(), to.begin());
    };
    return s;
}

} // namespace

TEST_CASE("evaluation counts the first and the first five, whatever the threads, the batches and their order") {
    const auto set = random_set(101);
    std::size_t first = 0, five = 0;
    for (std::size_t i = 0; i < set.size; ++i) {
        const tensor x = set.batch(i, 1);
        std::size_t before = 0;
        for (const float v : x.data) before += v > x.data[i % 6];
        first += before == 0;
        five += before < 5;
    }
    builder net({-1, 6});
    net.node("Identity", {"in"}, "out");
    for (const unsigned threads : {1U, 4U})
        for (const std::size_t batch : {std::size_t{1}, std::size_t{32}})
            for (const bool shuffled : {false, true}) {
                std::size_t seen = 0;
                const auto a = evaluation::evaluate(net.load(), set,
                                                    {batch, threads, 0, shuffled, [&](std::size_t n) { seen += n; }});
                CHECK(a.top1 == first);
                CHECK(a.top5 == five);
                CHECK(seen == 101);
                CHECK(evaluation::compare(a, a).changed == 0);
            }
    CHECK(evaluation::evaluate(net.load(), set, {.most = 7}).samples == 7);
    const auto nothing = evaluation::evaluate(
        [](const tensor& x) {
            tensor y = x;
            for (float& v : y.data) v = std::numeric_limits<float>::quiet_NaN();
            return y;
        },
        set);
    CHECK(nothing.top1 == 0);
    CHECK(nothing.top5 == 0);
}

TEST_CASE("intervals and sign tests are those of the tables") {
    // Wilson, 95 %: 50 of 100 and 0 of 10, by the formula at z = 1.959964.
    CHECK(evaluation::confidence_interval(50, 100).first == Catch::Approx(40.38315).margin(1e-4));
    CHECK(evaluation::confidence_interval(50, 100).second == Catch::Approx(59.61685).margin(1e-4));
    CHECK(evaluation::confidence_interval(0, 10).first == 0.0);
    CHECK(evaluation::confidence_interval(0, 10).second == Catch::Approx(27.75328).margin(1e-4));
    CHECK(evaluation::sign_test(0, 0) == 1.0);
    CHECK(evaluation::sign_test(5, 5) == 1.0);
    CHECK(evaluation::sign_test(0, 5) == Catch::Approx(0.0625));
    CHECK(evaluation::sign_test(6, 0) == Catch::Approx(0.03125));
    CHECK(evaluation::sign_test(2, 10) == Catch::Approx(2.0 * (1 + 12 + 66) / 4096));
    CHECK(evaluation::sign_test(1500, 2000) < 1e-15);
}

TEST_CASE("layers are compared by name, in order, the same for any number of threads") {
    builder a({-1, 6}), b({-1, 6});
    a.floats("top", {}, {0.5f});
    for (builder* net : {&a, &b}) {
        net->node("Relu", {"in"}, "relu");
        if (net == &a) net->node("Identity", {"relu"}, "only_here");
        net->node("Add", {"in", "relu"}, "sum");
        net->node(net == &a ? "Identity" : "Relu", {"sum"}, "out");
    }
    const auto set = random_set(40);
    double signal = 0.0, noise = 0.0;
    for (std::size_t i = 0; i < set.size; ++i)
        for (const float v : set.batch(i, 1).data) {
            const double s = static_cast<double>(v) * (v > 0.0f ? 2.0 : 1.0);
            signal += s * s;
            noise += v < 0.0f ? s * s : 0.0;
        }
    for (const unsigned threads : {1U, 3U}) {
        const auto errors = evaluation::compare_layers(a.load(), b.load(), set, {.batch = 7, .threads = threads});
        REQUIRE(errors.size() == 3);
        CHECK(errors[0].layer == "relu");
        CHECK(errors[0].noise == 0.0);
        CHECK(std::isinf(errors[0].sqnr_db()));
        CHECK(errors[2].layer == "out");
        CHECK(errors[2].signal == Catch::Approx(signal));
        CHECK(errors[2].noise == Catch::Approx(noise));
    }
}
