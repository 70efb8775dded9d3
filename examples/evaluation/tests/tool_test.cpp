// SPDX-License-Identifier: MIT
// `quant evaluate` and `quant compare` of models, as processes.

#include "../../onnx/model.hpp"
#include "../../quant/tests/support.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

using quant_onnx::element_type;

namespace {

struct outcome {
    int code;
    std::string text;
};

/// Both streams of the tool together.
outcome run(const std::string& arguments) {
    outcome out{-1, {}};
    FILE* pipe = ::popen((QUANT_CLI " " + arguments + " 2>&1").c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::array<char, 4096> block;
    for (std::size_t n = 0; (n = std::fread(block.data(), 1, block.size(), pipe)) > 0;)
        out.text.append(block.data(), n);
    const int status = ::pclose(pipe);
    if (WIFEXITED(status)) out.code = WEXITSTATUS(status);
    return out;
}

void fails(const std::string& arguments, int code, const std::string& cause) {
    const outcome r = run(arguments);
    INFO(arguments << "\n" << r.text);
    CHECK(r.code == code);
    CHECK(r.text.find(cause) != std::string::npos);
    CHECK(std::count(r.text.begin(), r.text.end(), '\n') == 1);
}

/// Gemm [2, 2] -> Relu; the class is the larger of the two inputs.
void write_model(const std::string& path, std::vector<float> weight, const char* last = "Relu") {
    quant_onnx::model m;
    m.ir_version = 7;
    m.opsets[""] = 13;
    m.inputs.push_back({"in", element_type::float32, {-1, 2}, {}});
    m.outputs.push_back({"out", element_type::float32, {-1, 2}, {}});
    m.initializers.push_back(quant_onnx::owned("w", element_type::float32, {2, 2}, std::move(weight)));
    for (const auto& [type, inputs, output] : {std::tuple("Gemm", std::vector<const char*>{"in", "w"}, "hidden"),
                                               std::tuple(last, std::vector<const char*>{"hidden"}, "out")}) {
        onnx::NodeProto n;
        n.set_op_type(type);
        for (const char* i : inputs) n.add_input(i);
        n.add_output(output);
        m.nodes.push_back(std::move(n));
    }
    quant_onnx::write(m, path, true);
}

std::string npy_of(const std::string& type, const std::string& shape, const std::string& bytes) {
    return quant_test::npy("{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }", bytes);
}

} // namespace

TEST_CASE("evaluate and compare, from the command line") {
    const quant_test::scratch_directory folder;
    const std::string model = folder / "m.onnx", other = folder / "o.onnx", images = folder / "x.npy",
                      labels = folder / "y.npy";
    write_model(model, {1, 0, 0, 1});
    write_model(other, {0, 1, 1, 0});
    std::string values;
    for (const float v : {1.0f, 0.0f, 0.0f, 1.0f, 3.0f, 2.0f, 1.0f, 2.0f}) values += quant_test::little_endian(v);
    quant_test::write_file(images, npy_of("<f4", "4, 2", values));
    quant_test::write_file(labels, npy_of("|u1", "4,", std::string("\x00\x01\x00\x00", 4)));
    const std::string set = " --images " + images + " --labels " + labels;

    const outcome text = run("evaluate " + model + set);
    INFO(text.text);
    CHECK(text.code == 0);
    CHECK(text.text.find("75.00 %") != std::string::npos);
    for (const char* threads : {"1", "3"}) {
        const auto r = nlohmann::json::parse(
            run("evaluate " + model + set + " --json --against " + other + " --threads " + threads).text);
        CHECK(r["samples"] == 4);
        CHECK(r["models"][0]["top1"]["right"] == 3);
        CHECK(r["models"][1]["top1"]["right"] == 1);
        CHECK(r["models"][0]["top5"]["right"] == 4);
        CHECK(r["paired"]["only_first_right"] == 3);
        CHECK(r["paired"]["only_second_right"] == 1);
        CHECK(std::abs(r["paired"]["p"].get<double>() - 0.625) < 1e-12);
    }
    CHECK(run("evaluate " + model + set + " --quiet").text.empty());

    // Per sample the outputs trade places: the noise is 2 (a - b)^2 for signals a^2 + b^2.
    const auto r = nlohmann::json::parse(run("compare " + model + " " + other + " --json --inputs " + images).text);
    REQUIRE(r["layers"].size() == 2);
    CHECK(r["layers"][0]["name"] == "hidden");
    CHECK(std::abs(r["layers"][0]["sqnr_db"].get<double>() - 10.0 * std::log10(20.0 / 8.0)) < 1e-9);
    fails("compare " + model + " " + other + " --quiet --min-sqnr 20 --inputs " + images, 6,
          "3.98 dB, 20.00 dB were asked for");
    CHECK(run("compare " + model + " " + model + " --min-sqnr 20 --inputs " + images).code == 0);

    fails("evaluate " + model + " --images " + images, 2, "--labels is missing");
    fails("compare " + model + " " + other, 2, "--inputs is missing");
    fails("compare " + model + " " + images + " --inputs " + images, 2, "compares with a model only");
    fails("compare " + images + " " + images + " --inputs " + images, 2, "--inputs is for ONNX models");
    fails("evaluate " + images + set, 3, "x.npy");
    fails("quantize " + images + " -o " + (folder / "q.onnx"), 2, "only an ONNX model becomes an ONNX model");
    fails("compare " + model + " " + model + " --samples 0 --inputs " + images, 2, "Value 0 not in range 1 to");
    fails("evaluate " + model + " --images " + model + " --labels " + labels, 3, "is no IDX file");
    quant_test::write_file(labels, npy_of("|u1", "3,", std::string("\x00\x01\x00", 3)));
    fails("evaluate " + model + set, 3, "has 3 labels for 4 samples");
    quant_test::write_file(labels, npy_of("|u1", "4,", std::string("\x00\x01\x00\x02", 4)));
    fails("evaluate " + model + set, 3, "has the class 2, the model knows 2");
    quant_test::write_file(images, npy_of("<f4", "2, 4", values));
    fails("evaluate " + model + set, 3, "labels for 2 samples");
    write_model(other, {1, 0, 0, 1}, "Tan");
    fails("evaluate " + other + set, 3, "node 'out' (Tan): this operator is not supported");
}
