// SPDX-License-Identifier: MIT
// The float accuracies that the networks' own documentation states, exactly. QUANT_DATA names the folder of networks and samples;
// without it nothing here runs. [full] asks for minutes.

#include "../dataset.hpp"
#include "../evaluation.hpp"

#include "../../engine/graph.hpp"
#include "../../onnx/model.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdlib>
#include <string>
#include <thread>

namespace {

std::string data(const std::string& path) {
    const char* folder = std::getenv("QUANT_DATA");
    if (folder == nullptr) SKIP("QUANT_DATA is not set");
    return std::string(folder) + "/" + path;
}

engine::graph network(const std::string& path) { return engine::load(quant_onnx::read(data(path))); }

evaluation::accuracy accuracy_of(const engine::graph& net, const evaluation::labelled_set& set, std::size_t most = 0) {
    return evaluation::evaluate(net, set, {.threads = std::max(1U, std::thread::hardware_concurrency()), .most = most});
}

evaluation::labelled_set photographs() {
    return evaluation::images(data("imagenet/images"), data("imagenet/labels.csv"), 224, evaluation::imagenet);
}

} // namespace

TEST_CASE("LeNet reads 1478 of 1500 digits", "[data]") {
    const auto set = evaluation::idx(data("mnist/test1500-images-idx3-ubyte.gz"),
                                     data("mnist/test1500-labels-idx1-ubyte.gz"), evaluation::by_256);
    CHECK(accuracy_of(network("mnist/lenet_mnist.onnx"), set).top1 == 1478);
}

TEST_CASE("the keyword network hears 456 of 500 words", "[data]") {
    const auto set = evaluation::npy(data("kws/mfcc.npy"), data("kws/labels.npy"));
    CHECK(accuracy_of(network("kws/kws_ds_cnn.onnx"), set).top1 == 456);
}

TEST_CASE("the autoencoder's error is the published one", "[data]") {
    const auto clip = evaluation::npy(data("ad/normal_id_01_00000000_logmel.npy"), {});
    engine::tensor table({clip.size, clip.sample_shape[0]});
    table = clip.batch(0, clip.size);
    const engine::tensor in = evaluation::windows(table, 5), out = engine::run(network("ad/ad_autoencoder.onnx"), in);
    REQUIRE(in.shape == std::vector<std::size_t>{196, 640});
    double sum = 0.0;
    for (std::size_t i = 0; i < in.size(); ++i) {
        const double d = static_cast<double>(in.data[i]) - static_cast<double>(out.data[i]);
        sum += d * d;
    }
    CHECK(sum / static_cast<double>(in.size()) == Catch::Approx(9.491283).margin(5e-7));
}

TEST_CASE("ResNet-8 knows 1853 of 2500 images", "[data]") {
    const auto set = evaluation::cifar(data("cifar10/test_jpeg_2500.bin"), evaluation::raw);
    CHECK(accuracy_of(network("cifar10/resnet8_cifar10.onnx"), set).top1 == 1853);
}

TEST_CASE("ResNet-20 knows 2028 of 2500 images", "[data][full]") {
    const auto set = evaluation::cifar(data("cifar10/test_jpeg_2500.bin"), evaluation::imagenet);
    CHECK(accuracy_of(network("cifar10/resnet20_cifar10.onnx"), set).top1 == 2028);
}

TEST_CASE("SqueezeNet knows 298 of 500 photographs, 408 among its first five", "[data][full]") {
    const auto a = accuracy_of(network("imagenet/squeezenet1_1.onnx"), photographs());
    CHECK(a.top1 == 298);
    CHECK(a.top5 == 408);
}

TEST_CASE("MobileNet v2 knows 412 of 500 photographs, 481 among its first five", "[data][full]") {
    const auto a = accuracy_of(network("imagenet/mobilenet_v2_1.0_224.onnx"), photographs());
    CHECK(a.top1 == 412);
    CHECK(a.top5 == 481);
}
