// SPDX-License-Identifier: MIT
// The tool as its user meets it: a process with arguments, an exit code, one line on stderr, and files.

#include "support.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

using namespace quant_tool;
using namespace quant_test;

namespace {

struct outcome {
    int code = -1;
    std::string out, err;
    [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// Run the tool with these arguments and wait for it.
outcome run(const std::vector<std::string>& arguments) {
    const scratch_directory pipes;
    const auto out = pipes / "out", err = pipes / "err";
    const pid_t child = ::fork();
    if (child == 0) {
        for (const auto& [path, fd] : {std::pair{out, 1}, std::pair{err, 2}}) {
            const int file = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
            ::dup2(file, fd);
        }
        std::vector<std::string> copy{QUANT_CLI};
        copy.insert(copy.end(), arguments.begin(), arguments.end());
        std::vector<char*> argv;
        for (auto& a : copy) {
            argv.push_back(a.data());
        }
        argv.push_back(nullptr);
        ::execv(QUANT_CLI, argv.data());
        ::_exit(126);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), read_file(out), read_file(err)};
}

/// Fails with exactly one line on stderr that holds every word, and prints nothing else.
void check_fails(const outcome& r, exit_code code, const std::vector<std::string>& words) {
    INFO("stdout: " << r.out << "\nstderr: " << r.err);
    CHECK(r.code == static_cast<int>(code));
    CHECK(r.out.empty());
    CHECK(r.err.starts_with("quant: "));
    CHECK(std::count(r.err.begin(), r.err.end(), '\n') == 1);
    for (const auto& word : words) {
        INFO(word);
        CHECK(r.err.find(word) != std::string::npos);
    }
}
void check_succeeds(const outcome& r) {
    INFO("stdout: " << r.out << "\nstderr: " << r.err);
    CHECK(r.code == 0);
    CHECK(r.err.empty());
}

std::vector<float> weights(std::size_t n, unsigned seed, float spread = 1.0f) {
    std::mt19937 bits(seed);
    std::vector<float> out(n);
    for (auto& x : out) {
        // A two-sided exponential, from integers alone so that every standard library gives the same numbers.
        const double u = (static_cast<double>(bits()) + 0.5) / 4294967296.0;
        const double sign = (bits() & 1) != 0 ? -1 : 1;
        x = static_cast<float>(sign * -std::log(u)) * spread;
    }
    return out;
}

/// Weights of four types, a bias, an integer tensor and one without elements.
tensor_file model() {
    tensor_file f;
    f.tensors.push_back(make_tensor("conv.weight", dtype::f32, {8, 5, 3}, weights(120, 1)));
    f.tensors.push_back(make_tensor("fc.weight", dtype::f32, {6, 70}, weights(420, 2, 0.01f)));
    std::vector<double> d;
    for (const float x : weights(24, 3)) {
        d.push_back(static_cast<double>(x));
    }
    f.tensors.push_back(make_tensor("double", dtype::f64, {4, 6}, d));
    // Upper halves of floats are bfloat16 values; these half floats are 1 + k / 1024.
    std::vector<std::uint16_t> b, h;
    for (const float x : weights(30, 4)) {
        b.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16));
    }
    for (unsigned k = 0; k < 30; ++k) {
        h.push_back(static_cast<std::uint16_t>(0x3C00 + 31 * k));
    }
    f.tensors.push_back(make_tensor("brain", dtype::bf16, {5, 6}, b));
    f.tensors.push_back(make_tensor("half", dtype::f16, {2, 15}, h));
    f.tensors.push_back(make_tensor("bias", dtype::f32, {8}, weights(8, 5)));
    f.tensors.push_back(make_tensor("steps", dtype::i64, {2, 2}, std::vector<std::int64_t>{1, 2, 3, 4}));
    f.tensors.push_back(make_tensor("nothing", dtype::f32, {0, 4}, std::vector<float>{}));
    f.metadata = {{"format", "pt"}};
    return f;
}
std::string text_of(const tensor& t) { return {reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()}; }

} // namespace

TEST_CASE("every subcommand refuses every bad file with exit code 3 and one line") {
    for (const auto& bad : bad_files()) {
        DYNAMIC_SECTION(bad.name << ": " << bad.title) {
            const scratch_directory dir;
            const auto path = dir / bad.name, output = dir / "out.safetensors";
            write_file(path, bad.content);
            auto words = bad.message;
            words.push_back(path);
            check_fails(run({"inspect", path}), exit_code::input, words);
            check_fails(run({"quantize", path, "-o", output}), exit_code::input, words);
            check_fails(run({"dequantize", path, "-o", output}), exit_code::input, words);
            check_fails(run({"export-c", path, "-o", dir / "out.h"}), exit_code::input, words);
            check_fails(run({"compare", path, path}), exit_code::input, words);
            CHECK(dir.entries() == 1);
        }
    }
}

TEST_CASE("missing inputs, unwritable and existing outputs") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    write_safetensors(input, model());
    check_fails(run({"inspect", dir / "no.npy"}), exit_code::input, {"no.npy", "No such file"});
    check_fails(run({"quantize", dir / "no.npy", "-o", output}), exit_code::input, {"no.npy", "No such file"});
    check_fails(run({"compare", input, dir / "no.npy"}), exit_code::input, {"no.npy", "No such file"});
    check_fails(run({"quantize", input, "-o", dir / "no/q.safetensors"}), exit_code::output,
                {"no/q.safetensors", "No such file"});
    check_fails(run({"quantize", input, "-o", dir / "q.bin"}), exit_code::output, {"q.bin", "must end in"});
    check_fails(run({"quantize", input, "-o", "/dev/null"}), exit_code::output, {"/dev/null", "must end in"});
    check_fails(run({"quantize", input, "-o", dir / "q.npy"}), exit_code::output, {"q.npy"});
    CHECK(dir.entries() == 1);

    write_file(output, "precious");
    for (const std::string command : {"quantize", "dequantize"}) {
        check_fails(run({command, input, "-o", output}), exit_code::output, {output, "exists already", "--force"});
    }
    check_fails(run({"quantize", input, "-o", input}), exit_code::output, {"exists already"});
    CHECK(read_file(output) == "precious");
    check_succeeds(run({"quantize", input, "-o", output, "--force", "-q"}));
    CHECK(read_file(output) != "precious");
    CHECK(dir.entries() == 2);

    // In place: the result replaces the input, which was mapped until then.
    const auto quantized = read_file(output);
    check_succeeds(run({"quantize", input, "-o", input, "--force", "-q"}));
    CHECK(read_file(input) == quantized);
    check_fails(run({"quantize", output, "-o", dir / "r.safetensors"}), exit_code::input,
                {output, "quantized already"});
    check_fails(run({"dequantize", dir / "q.safetensors", "-o", dir / "r.npy"}), exit_code::output,
                {"holds one array"});
    CHECK(dir.entries() == 2);
}

TEST_CASE("a directory without write permission is refused and left alone") {
    if (::geteuid() == 0) {
        SKIP("the superuser may write everywhere");
    }
    const scratch_directory dir;
    write_safetensors(dir / "m.safetensors", model());
    fs::create_directory(dir / "ro");
    fs::permissions(dir / "ro", fs::perms::owner_read | fs::perms::owner_exec);
    check_fails(run({"quantize", dir / "m.safetensors", "-o", dir / "ro/q.safetensors"}), exit_code::output,
                {"Permission denied"});
    fs::permissions(dir / "ro", fs::perms::owner_all);
}

TEST_CASE("wrong and contradictory options are refused with exit code 2") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    write_safetensors(input, model());
    const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> cases{
        {{"--bits", "0"}, {"--bits"}},
        {{"--bits", "9"}, {"--bits"}},
        {{"--bits", "four"}, {"--bits"}},
        {{"--nonsense"}, {"--nonsense"}},
        {{"--clip", "hope"}, {"hope"}},
        {{"--per-tensor", "--axis", "1"}, {"--per-tensor", "--axis"}},
        {{"--per-tensor", "--group-size", "8"}, {"--per-tensor", "--group-size"}},
        {{"--group-size", "0"}, {"--group-size"}},
        {{"--narrow", "--unsigned"}, {"--narrow", "--unsigned"}},
        {{"--narrow", "--bits", "1"}, {"--narrow", "1 bit"}},
        {{"--clip", "aciq", "--unsigned"}, {"--clip aciq", "--unsigned"}},
        {{"--clip", "percentile", "--percentile", "nan"}, {"--percentile"}},
        {{"--percentile", "99"}, {"--percentile", "--clip percentile"}},
        {{"--clip", "percentile", "--percentile", "101"}, {"--percentile"}},
        {{"--prior", "gauss"}, {"--prior", "--clip aciq"}},
        {{"--clip", "mse", "--aciq-mode", "exact"}, {"--aciq-mode", "--clip aciq"}},
        {{"--min-bits", "3"}, {"--min-bits", "--average-bits"}},
        {{"--max-bits", "3"}, {"--max-bits", "--average-bits"}},
        {{"--average-bits", "4", "--per-tensor"}, {"--average-bits", "--per-tensor"}},
        {{"--average-bits", "4", "--group-size", "8"}, {"--average-bits", "--group-size"}},
        {{"--average-bits", "4", "--min-bits", "5", "--max-bits", "3"}, {"--min-bits is larger"}},
        {{"--average-bits", "4", "--min-bits", "5"}, {"--average-bits must lie"}},
        {{"--average-bits", "nan"}, {"--average-bits"}},
        {{"--seed", "7"}, {"--seed", "stochastic"}},
        {{"--planes", "9"}, {"--planes"}},
        {{"--planes", "2", "--unsigned"}, {"--planes", "--unsigned"}},
        {{"--planes", "2", "--mapping", "affine"}, {"--planes", "--mapping affine"}},
        {{"--storage", "heap"}, {"--storage", "heap"}},
        {{"--include", "("}, {"'('", "regular expression"}},
        {{"--include", "no-such-name"}, {"--include", "no-such-name"}},
        {{"--bias-correct=median"}, {"--bias-correct", "median"}},
        {{"--json", "--quiet"}, {"--json", "--quiet"}},
        {{"--threads", "0"}, {"--threads"}},
        {{"--threads", "-1"}, {"--threads"}},
        {{"second-input"}, {"second-input"}},
    };
    for (const auto& [options, words] : cases) {
        std::vector<std::string> arguments{"quantize", input, "-o", output};
        arguments.insert(arguments.end(), options.begin(), options.end());
        std::string title;
        for (const auto& o : options) {
            title += o + " ";
        }
        DYNAMIC_SECTION(title) { check_fails(run(arguments), exit_code::usage, words); }
    }
    check_fails(run({}), exit_code::usage, {"subcommand"});
    check_fails(run({"frobnicate"}), exit_code::usage, {});
    check_fails(run({"quantize", input}), exit_code::usage, {"--output"});
    check_fails(run({"dequantize", input, "-o", output, "--dtype", "I8"}), exit_code::usage, {"--dtype"});
    CHECK(dir.entries() == 1);
}

TEST_CASE("--help and --version succeed; help names every option that the documentation names") {
    const auto help = run({"quantize", "--help"});
    check_succeeds(help);
    for (const std::string option : {"--bits",       "--signed",       "--mapping",  "--narrow",   "--axis",
                                     "--per-tensor", "--group-size",   "--clip",     "--prior",    "--aciq-mode",
                                     "--percentile", "--average-bits", "--min-bits", "--max-bits", "--bias-correct",
                                     "--rounding",   "--scale-by",     "--include",  "--exclude",  "--json",
                                     "--planes",     "--storage",      "--force",    "--quiet",    "--allow-non-finite",
                                     "Examples"}) {
        INFO(option);
        CHECK(help.out.find(option) != std::string::npos);
    }
    for (const auto* const command : {"inspect", "quantize", "dequantize", "export-c", "compare"}) {
        CHECK(run({command, "--help"}).out.find("--threads") != std::string::npos);
    }
    check_succeeds(run({"--help"}));
    CHECK(run({"--version"}).out.starts_with("quant 0."));
}

TEST_CASE("weights that are not finite are refused by name, or quantized when that is allowed") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", back = dir / "r.safetensors";
    tensor_file f;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float inf = std::numeric_limits<float>::infinity();
    f.tensors.push_back(make_tensor("good", dtype::f32, {2, 2}, std::vector<float>{1, 2, 3, 4}));
    f.tensors.push_back(make_tensor("layer.3", dtype::f32, {2, 2}, std::vector<float>{1, nan, inf, 1}));
    write_safetensors(input, f);
    check_fails(run({"quantize", input, "-o", output}), exit_code::data,
                {input, "'layer.3'", "2 of 4", "--allow-non-finite"});
    CHECK(dir.entries() == 1);
    check_succeeds(run({"quantize", input, "-o", output, "--allow-non-finite", "--per-tensor", "-q"}));
    check_succeeds(run({"dequantize", output, "-o", back, "-q"}));
    auto r = read_safetensors(back);
    const auto v = r.find("layer.3")->as<float>();
    // The finite range is [1, 1]: scale 1/127, NaN is 0 and infinity the largest code.
    CHECK(v[0] == Catch::Approx(1.0));
    CHECK(v[1] == 0.0f);
    CHECK(v[2] == Catch::Approx(1.0));
}

TEST_CASE("quantize, dequantize and compare agree, for every kind of option") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", back = dir / "r.safetensors";
    write_safetensors(input, model());
    const std::vector<std::vector<std::string>> cases{
        {},
        {"--bits", "1"},
        {"--bits", "2", "--narrow"},
        {"--bits", "3", "--per-tensor", "--clip", "mse"},
        {"--bits", "4", "--clip", "aciq", "--axis", "0", "--average-bits", "4", "--bias-correct"},
        {"--bits", "4", "--clip", "aciq", "--prior", "gauss", "--aciq-mode", "exact"},
        {"--bits", "4", "--clip", "aciq", "--prior", "auto", "--aciq-mode", "paper"},
        {"--bits", "4", "--clip", "aciq", "--aciq-mode", "empirical"},
        {"--bits", "4", "--group-size", "32"},
        {"--bits", "5", "--group-size", "4", "--axis", "1", "--bias-correct=mean-and-norm"},
        {"--bits", "6", "--axis", "-1", "--clip", "percentile", "--percentile", "99"},
        {"--bits", "7", "--clip", "entropy", "--scale-by", "reciprocal"},
        {"--bits", "8", "--unsigned", "--rounding", "half-away"},
        {"--bits", "4", "--mapping", "affine", "--clip", "minmax", "--rounding", "toward-negative"},
        {"--bits", "4", "--rounding", "stochastic", "--seed", "7"},
        {"--average-bits", "3.5", "--min-bits", "1", "--max-bits", "6", "--clip", "minmax"},
        {"--bits", "6", "--planes", "3", "--storage", "planes", "--bias-correct"},
        {"--average-bits", "3.5", "--axis", "1", "--storage", "planes"},
        {"--bits", "4", "--planes", "2", "--group-size", "4"},
    };
    for (const auto& options : cases) {
        std::string title;
        for (const auto& o : options) {
            title += o + " ";
        }
        DYNAMIC_SECTION("options: " << title) {
            std::vector<std::string> arguments{"quantize", input, "-o", output, "--json"};
            arguments.insert(arguments.end(), options.begin(), options.end());
            const auto q = run(arguments);
            check_succeeds(q);
            const auto report = q.json();
            REQUIRE(report["tensors"].size() == 5);
            CHECK(report["totals"]["copied"] == 3);
            CHECK(report["totals"]["file_bytes_before"] == fs::file_size(input));
            CHECK(report["totals"]["file_bytes_after"] == fs::file_size(output));

            const auto first = read_file(output);
            arguments.push_back("--force");
            check_succeeds(run(arguments));
            CHECK(read_file(output) == first);

            check_succeeds(run({"dequantize", output, "-o", back, "-q"}));
            auto original = model();
            auto restored = read_safetensors(back);
            REQUIRE(restored.tensors.size() == original.tensors.size());
            CHECK(restored.metadata == original.metadata);
            for (const auto& t : original.tensors) {
                const auto* r = restored.find(t.name);
                REQUIRE(r != nullptr);
                CHECK(r->type == t.type);
                CHECK(r->shape == t.shape);
                if (t.name == "bias" || t.name == "steps" || t.name == "nothing") {
                    CHECK(text_of(*r) == text_of(t));
                }
            }
            // SQNR from its definition, in double; the tool's report and `compare` must say the same.
            const auto compared = run({"compare", input, output, "--json"}).json();
            for (const auto& t : report["tensors"]) {
                const std::string name = t["name"];
                if (name != "conv.weight" && name != "fc.weight") {
                    continue;
                }
                const auto x = original.find(name)->as<float>(), y = restored.find(name)->as<float>();
                double signal = 0, noise = 0;
                for (std::size_t i = 0; i < x.size(); ++i) {
                    signal += static_cast<double>(x[i]) * static_cast<double>(x[i]);
                    noise += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
                }
                const double sqnr = 10 * std::log10(signal / noise);
                CHECK(t["sqnr_db"].get<double>() == Catch::Approx(sqnr).margin(1e-9));
                bool found = false;
                for (const auto& c : compared["tensors"]) {
                    if (c["name"] != name) {
                        continue;
                    }
                    found = true;
                    CHECK(c["sqnr_db"].get<double>() == Catch::Approx(sqnr).margin(1e-9));
                    CHECK(c["mse"].get<double>() == Catch::Approx(noise / static_cast<double>(x.size())));
                }
                CHECK(found);
            }
            check_succeeds(run({"compare", output, back, "--min-sqnr", "1000"}));
            check_succeeds(run({"inspect", output}));
        }
    }
}

TEST_CASE("eight bits per channel keep the error below half a step") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", back = dir / "r.safetensors";
    write_safetensors(input, model());
    check_succeeds(run({"quantize", input, "-o", output, "-q"}));
    check_succeeds(run({"dequantize", output, "-o", back, "-q"}));
    auto original = model();
    auto restored = read_safetensors(back), parts = read_safetensors(output);
    const auto x = original.find("fc.weight")->as<float>(), y = restored.find("fc.weight")->as<float>();
    const auto scales = parts.find("fc.weight.scales")->as<float>();
    REQUIRE(scales.size() == 6);
    for (std::size_t c = 0; c < 6; ++c) {
        // Definition: full range, -128 ... 127; the scale holds both ends.
        float lo = 0, hi = 0;
        for (std::size_t i = 0; i < 70; ++i) {
            lo = std::min(lo, x[c * 70 + i]);
            hi = std::max(hi, x[c * 70 + i]);
            CHECK(std::fabs(x[c * 70 + i] - y[c * 70 + i]) <= 0.5001f * scales[c]);
        }
        CHECK(scales[c] ==
              Catch::Approx(std::max(static_cast<double>(lo) / -128.0, static_cast<double>(hi) / 127.0)).epsilon(1e-6));
    }
    CHECK(parts.find("fc.weight.zero_points") == nullptr);
    CHECK(parts.find("fc.weight.bits") == nullptr);
}

TEST_CASE("the bytes of a small file are the ones the format page describes") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    tensor_file f;
    // Channel 0: -4 ... 3 and scale 1; channel 1: the same times one half. Codes by hand, 3 bits, two's complement.
    f.tensors.push_back(make_tensor("w", dtype::f32, {2, 4}, std::vector<float>{-4, 3, 1, -1, -2, 1.5f, 0.5f, -0.5f}));
    write_safetensors(input, f);
    check_succeeds(run({"quantize", input, "-o", output, "--bits", "3", "--clip", "minmax", "-q"}));
    auto parts = read_safetensors(output);
    const auto codes = parts.find("w.codes")->as<std::uint8_t>();
    // 100 011 001 111 from the right: 111 001 011 100 = 0b1110'0101'1100 = 0x5C, 0x0E; each channel starts a byte.
    CHECK(std::vector<std::uint8_t>(codes.begin(), codes.end()) == std::vector<std::uint8_t>{0x5C, 0x0E, 0x5C, 0x0E});
    const auto scales = parts.find("w.scales")->as<float>();
    CHECK(std::vector<float>(scales.begin(), scales.end()) == std::vector<float>{1.0f, 0.5f});
    CHECK(parts.tensors.size() == 2);
    CHECK(*parts.find_metadata("quant.format") == "1");
    const auto t = nlohmann::json::parse(*parts.find_metadata("quant.tensors"))["w"];
    CHECK(t["dtype"] == "F32");
    CHECK(t["shape"] == std::vector<int>{2, 4});
    CHECK(t["bits"] == 3);
    CHECK(t["signed"] == true);
    CHECK(t["granularity"] == "per_axis");
    CHECK(t["axis"] == 0);
}

TEST_CASE("the default clipping depends on width and granularity") {
    const scratch_directory dir;
    write_safetensors(dir / "m.safetensors", model());
    const auto clip = [&](std::vector<std::string> options) {
        options.insert(options.begin(),
                       {"quantize", dir / "m.safetensors", "-o", dir / "q.safetensors", "--force", "--json"});
        const auto report = run(options).json();
        return report["options"]["clip"].get<std::string>();
    };
    CHECK(clip({}) == "minmax");
    CHECK(clip({"--bits", "4"}) == "mse");
    CHECK(clip({"--average-bits", "4"}) == "mse");
    CHECK(clip({"--bits", "4", "--group-size", "32"}) == "minmax");
    CHECK(clip({"--bits", "4", "--group-size", "32", "--clip", "entropy"}) == "entropy");
}

TEST_CASE("average bits keep the budget and are written per channel") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    tensor_file f;
    std::vector<float> values;
    for (unsigned c = 0; c < 16; ++c) {
        for (const float x : weights(64, c, std::ldexp(1.0f, static_cast<int>(c) / 3))) {
            values.push_back(x);
        }
    }
    f.tensors.push_back(make_tensor("w", dtype::f32, {16, 64}, values));
    write_safetensors(input, f);
    const auto r = run({"quantize", input, "-o", output, "--bits", "4", "--clip", "aciq", "--axis", "0",
                        "--average-bits", "4", "--bias-correct", "--json"});
    check_succeeds(r);
    auto parts = read_safetensors(output);
    REQUIRE(parts.find("w.bits") != nullptr);
    const auto bits = parts.find("w.bits")->as<std::uint8_t>();
    unsigned sum = 0;
    std::size_t bytes = 0;
    for (const auto b : bits) {
        CHECK(b >= 2);
        CHECK(b <= 8);
        sum += b;
        bytes += std::size_t{64} * b / 8;
    }
    CHECK(sum <= 16 * 4);
    CHECK(sum > 16 * 4 - 8);
    CHECK(bits[15] > bits[0]);
    CHECK(parts.find("w.codes")->bytes.size() == bytes);
    REQUIRE(parts.find("w.shift") != nullptr);
    CHECK(parts.find("w.shift")->size() == 16);
    CHECK(r.json()["tensors"][0]["average_bits"].get<double>() == Catch::Approx(sum / 16.0));
}

TEST_CASE("bias correction restores the mean of every channel") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", back = dir / "r.safetensors";
    write_safetensors(input, model());
    check_succeeds(run({"quantize", input, "-o", output, "--bits", "2", "--bias-correct", "-q"}));
    check_succeeds(run({"dequantize", output, "-o", back, "-q"}));
    auto original = model();
    auto restored = read_safetensors(back);
    const auto x = original.find("fc.weight")->as<float>(), y = restored.find("fc.weight")->as<float>();
    for (std::size_t c = 0; c < 6; ++c) {
        double before = 0, after = 0;
        for (std::size_t i = 0; i < 70; ++i) {
            before += static_cast<double>(x[c * 70 + i]);
            after += static_cast<double>(y[c * 70 + i]);
        }
        CHECK(after / 70 == Catch::Approx(before / 70).margin(1e-8));
    }
}

TEST_CASE("neither files nor results depend on the number of threads") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", back = dir / "r.safetensors";
    // Tensors that several threads share, ones too small for that, and enough of them to work on several at once.
    tensor_file f = model();
    f.tensors.push_back(make_tensor("large", dtype::f32, {260, 4100}, weights(260 * 4100, 11)));
    f.tensors.push_back(make_tensor("middle", dtype::f32, {3, 90, 400}, weights(3 * 90 * 400, 12)));
    std::vector<std::uint16_t> half;
    for (unsigned k = 0; k < 70 * 900; ++k) {
        half.push_back(static_cast<std::uint16_t>(0x3000 + k * 7 % 0x0C00 + (k % 3 == 0 ? 0x8000 : 0)));
    }
    f.tensors.push_back(make_tensor("rows", dtype::f16, {70, 900}, half));
    write_safetensors(input, f);
    const std::vector<std::vector<std::string>> cases{
        {},
        {"--bits", "4", "--bias-correct=mean-and-norm"},
        {"--bits", "3", "--per-tensor"},
        {"--bits", "5", "--axis", "1", "--clip", "aciq", "--narrow"},
        {"--bits", "4", "--group-size", "64", "--mapping", "affine"},
        {"--bits", "4", "--group-size", "7", "--axis", "0", "--bias-correct"},
        {"--unsigned", "--rounding", "stochastic", "--seed", "3"},
        {"--rounding", "stochastic", "--axis", "1"},
        {"--rounding", "stochastic", "--group-size", "32", "--bits", "2"},
        {"--average-bits", "4", "--bias-correct"},
    };
    for (const auto& options : cases) {
        std::string title = "quantize ";
        for (const auto& o : options) {
            title += o + " ";
        }
        INFO(title);
        std::vector<std::string> first;
        for (const std::string threads : {"1", "2", "3", "8"}) {
            INFO(threads << " threads");
            std::vector<std::string> arguments{"quantize", input,    "-o",        output,
                                               "--force",  "--json", "--threads", threads};
            arguments.insert(arguments.end(), options.begin(), options.end());
            const auto packed = run(arguments);
            const auto restored = run({"dequantize", output, "-o", back, "--force", "--json", "--threads", threads});
            check_succeeds(packed);
            check_succeeds(restored);
            const std::vector<std::string> now{packed.out, read_file(output), restored.out, read_file(back)};
            if (first.empty()) {
                first = now;
            }
            CHECK((now == first));
        }
    }
    std::vector<std::string> first;
    for (const std::string threads : {"1", "2", "3"}) {
        const auto compared = run({"compare", input, output, "--json", "--threads", threads});
        const auto seen = run({"inspect", input, "--json", "--threads", threads});
        const auto packed = run({"inspect", output, "--json", "--threads", threads});
        check_succeeds(compared);
        const std::vector<std::string> now{compared.out, seen.out, packed.out};
        if (first.empty()) {
            first = now;
        }
        CHECK((now == first));
    }
    // As without the option, which takes all threads there are.
    const auto compared = run({"compare", input, output, "--json"});
    CHECK(compared.out == first[0]);
}

TEST_CASE("of several failures the first tensor's is reported, whatever thread meets one first") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    tensor_file f;
    for (char name = 'a'; name <= 'z'; ++name) {
        auto values = weights(name == 'm' ? 1100 * 1000 : 4000 - 100 * static_cast<std::size_t>(name - 'a'), 3);
        if (name == 'f' || name == 'g' || name == 'm' || name == 'z') {
            values[values.size() - 1] = std::numeric_limits<float>::quiet_NaN();
        }
        const std::uint64_t columns = values.size() / 100;
        f.tensors.push_back(make_tensor(std::string(1, name), dtype::f32, {100, columns}, std::move(values)));
    }
    write_safetensors(input, f);
    for (int repeat = 0; repeat < 10; ++repeat) {
        for (const std::string threads : {"1", "2", "4"}) {
            check_fails(run({"quantize", input, "-o", output, "--threads", threads}), exit_code::data,
                        {"'f'", "1 of 3500"});
            check_fails(run({"quantize", input, "-o", output, "--threads", threads, "--exclude", "[fg]"}),
                        exit_code::data, {"'m'", "1 of 1100000"});
        }
    }
    CHECK(dir.entries() == 1);
}

TEST_CASE("the choice of tensors: rank, --include, --exclude") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    write_safetensors(input, model());
    const auto chosen = [&](std::vector<std::string> options) {
        options.insert(options.begin(), {"quantize", input, "-o", output, "--force", "--json"});
        const auto r = run(options);
        check_succeeds(r);
        std::vector<std::string> names;
        const auto report = r.json();
        for (const auto& t : report["tensors"]) {
            names.push_back(t["name"]);
        }
        std::sort(names.begin(), names.end());
        return names;
    };
    using names = std::vector<std::string>;
    CHECK(chosen({}) == names{"brain", "conv.weight", "double", "fc.weight", "half"});
    CHECK(chosen({"--include", "weight$"}) == names{"conv.weight", "fc.weight"});
    CHECK(chosen({"--include", "^bias$", "--include", "^fc", "--per-tensor"}) == names{"bias", "fc.weight"});
    CHECK(chosen({"--exclude", "weight", "--exclude", "half"}) == names{"brain", "double"});
    CHECK(chosen({"--include", "weight", "--exclude", "^conv"}) == names{"fc.weight"});
    check_fails(run({"quantize", input, "-o", output, "--force", "--axis", "2"}), exit_code::data, {"axis"});
}

TEST_CASE("names that collide with the parts of a quantized tensor are refused") {
    const scratch_directory dir;
    auto f = model();
    f.tensors.push_back(make_tensor("fc.weight.scales", dtype::u8, {1}, std::vector<std::uint8_t>{1}));
    write_safetensors(dir / "m.safetensors", f);
    check_fails(run({"quantize", dir / "m.safetensors", "-o", dir / "q.safetensors"}), exit_code::input,
                {"'fc.weight.scales'", "fc.weight"});
    CHECK(dir.entries() == 1);
}

TEST_CASE("tensors without elements, scalars and empty files have a defined result") {
    const scratch_directory dir;
    tensor_file f;
    f.tensors.push_back(make_tensor("empty", dtype::f32, {3, 0, 2}, std::vector<float>{}));
    f.tensors.push_back(
        make_tensor("huge and empty", dtype::f16, {0, 1'000'000'000'000}, std::vector<std::uint16_t>{}));
    f.tensors.push_back(make_tensor("scalar", dtype::f32, {}, std::vector<float>{2.5f}));
    f.tensors.push_back(make_tensor("zeros", dtype::f32, {2, 2}, std::vector<float>(4, 0.0f)));
    const auto input = dir / "m.safetensors", output = dir / "q.npz", back = dir / "r.npz";
    write_safetensors(input, f);
    check_succeeds(run({"inspect", input}));
    check_succeeds(run({"quantize", input, "-o", output, "-q", "--axis", "1", "--average-bits", "4"}));
    check_succeeds(run({"dequantize", output, "-o", back, "-q"}));
    auto r = read_npz(back);
    for (const auto& t : f.tensors) {
        REQUIRE(r.find(t.name) != nullptr);
        CHECK(r.find(t.name)->shape == t.shape);
        CHECK(text_of(*r.find(t.name)) == text_of(t));
    }
    check_succeeds(run({"compare", input, output}));
    check_succeeds(run({"quantize", input, "-o", output, "-q", "--force", "--per-tensor", "--include", "scalar"}));
    write_safetensors(dir / "none.safetensors", {});
    for (const std::string command : {"quantize"}) {
        check_succeeds(run({command, dir / "none.safetensors", "-o", dir / "none.npz"}));
    }
    check_succeeds(run({"inspect", dir / "none.npz"}));
    check_succeeds(run({"compare", dir / "none.npz", dir / "none.safetensors"}));
}

TEST_CASE("npy in, npz out and back") {
    const scratch_directory dir;
    tensor_file f;
    f.tensors.push_back(make_tensor("layer1", dtype::f32, {4, 9}, weights(36, 9)));
    write_npy(dir / "layer1.npy", f);
    check_succeeds(run({"quantize", dir / "layer1.npy", "-o", dir / "q.npz", "--bits", "6", "-q"}));
    check_succeeds(run({"dequantize", dir / "q.npz", "-o", dir / "layer1b.npy", "-q"}));
    auto r = read_npy(dir / "layer1b.npy");
    CHECK(r.tensors[0].shape == shape_type{4, 9});
    check_succeeds(run({"compare", dir / "layer1.npy", dir / "q.npz", "--min-sqnr", "25"}));
    const auto low = run({"compare", dir / "layer1.npy", dir / "q.npz", "--min-sqnr", "90"});
    CHECK(low.code == static_cast<int>(exit_code::threshold));
    CHECK(low.err.find("'layer1'") != std::string::npos);
}

TEST_CASE("dequantize --dtype chooses the type; npy's lack of BF16 is said") {
    const scratch_directory dir;
    write_safetensors(dir / "m.safetensors", model());
    check_succeeds(run({"quantize", dir / "m.safetensors", "-o", dir / "q.safetensors", "-q"}));
    check_fails(run({"dequantize", dir / "q.safetensors", "-o", dir / "r.npz"}), exit_code::output,
                {"'brain'", "BF16", "--dtype F32"});
    check_succeeds(run({"dequantize", dir / "q.safetensors", "-o", dir / "r.npz", "--dtype", "F32"}));
    CHECK(read_npz(dir / "r.npz").find("brain")->type == dtype::f32);
    CHECK(read_npz(dir / "r.npz").find("steps")->type == dtype::i64);
}

TEST_CASE("compare: worst first; other names and shapes are errors; exact copies have no noise") {
    const scratch_directory dir;
    tensor_file a, b;
    a.tensors.push_back(make_tensor("x", dtype::f32, {2, 2}, std::vector<float>{3, 4, 0, 0}));
    b.tensors.push_back(make_tensor("x", dtype::f32, {2, 2}, std::vector<float>{3, 4, 0, 1}));
    a.tensors.push_back(make_tensor("y", dtype::f32, {1, 1}, std::vector<float>{1}));
    b.tensors.push_back(make_tensor("y", dtype::f32, {1, 1}, std::vector<float>{2}));
    a.tensors.push_back(make_tensor("z", dtype::i8, {2}, std::vector<std::int8_t>{1, 2}));
    b.tensors.push_back(make_tensor("z", dtype::i8, {2}, std::vector<std::int8_t>{1, 3}));
    write_safetensors(dir / "a.safetensors", a);
    write_safetensors(dir / "b.safetensors", b);
    const auto r = run({"compare", dir / "a.safetensors", dir / "b.safetensors", "--json"});
    check_succeeds(r);
    const auto t = r.json()["tensors"];
    REQUIRE(t.size() == 3);
    CHECK(t[0]["name"] == "y"); // 1 against 1: 0 dB
    CHECK(t[0]["sqnr_db"].get<double>() == Catch::Approx(0.0).margin(1e-12));
    CHECK(t[1]["name"] == "x"); // 25 against 1, cosine 25 / (5 sqrt(26))
    CHECK(t[1]["sqnr_db"].get<double>() == Catch::Approx(10 * std::log10(25.0)));
    CHECK(t[1]["mse"].get<double>() == Catch::Approx(0.25));
    CHECK(t[1]["max_abs_error"].get<double>() == Catch::Approx(1.0));
    CHECK(t[1]["cosine"].get<double>() == Catch::Approx(25 / (5 * std::sqrt(26.0))));
    CHECK(t[2]["name"] == "z");
    CHECK(t[2]["equal"] == false);

    const auto same = run({"compare", dir / "a.safetensors", dir / "a.safetensors", "--json"}).json();
    for (const auto& e : same["tensors"]) {
        CHECK(e["equal"] == true);
    }

    b.tensors.pop_back();
    write_safetensors(dir / "b.safetensors", b, overwrite::yes);
    check_fails(run({"compare", dir / "a.safetensors", dir / "b.safetensors"}), exit_code::input,
                {"b.safetensors", "'z'"});
    check_fails(run({"compare", dir / "b.safetensors", dir / "a.safetensors"}), exit_code::input,
                {"b.safetensors", "'z'"});
    b.tensors.push_back(make_tensor("z", dtype::i8, {2, 1}, std::vector<std::int8_t>{1, 3}));
    write_safetensors(dir / "b.safetensors", b, overwrite::yes);
    check_fails(run({"compare", dir / "a.safetensors", dir / "b.safetensors"}), exit_code::input, {"'z'", "shape"});
}

TEST_CASE("inspect reports the moments of a tensor worked out by hand") {
    const scratch_directory dir;
    tensor_file f;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    f.tensors.push_back(make_tensor("w", dtype::f32, {5}, std::vector<float>{-2, 0, 1, 5, nan}));
    write_safetensors(dir / "m.safetensors", f);
    const auto r = run({"inspect", dir / "m.safetensors", "--json"});
    check_succeeds(r);
    const auto t = r.json()["tensors"][0];
    CHECK(t["min"] == -2);
    CHECK(t["max"] == 5);
    CHECK(t["mean"] == 1);
    CHECK(t["mean_abs_deviation"] == 2);                              // (3 + 1 + 0 + 4) / 4
    CHECK(t["sigma"].get<double>() == Catch::Approx(std::sqrt(6.5))); // (9 + 1 + 0 + 16) / 4
    CHECK(t["non_finite"] == 1);
    CHECK(t["bytes"] == 20);
}

TEST_CASE("a damaged quantized file is refused with the tensor's name") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", broken = dir / "b.safetensors";
    tensor_file f;
    f.tensors.push_back(make_tensor("w", dtype::f32, {2, 4}, std::vector<float>{-4, 3, 1, -1, -2, 1.5f, 0.5f, -0.5f}));
    write_safetensors(input, f);
    check_succeeds(run({"quantize", input, "-o", output, "--bits", "3", "--clip", "minmax", "-q"}));
    const auto good = read_safetensors(output);
    using change = std::function<void(tensor_file&)>;
    const auto with_entry = [](const std::function<void(nlohmann::ordered_json&)>& edit) {
        return [edit](tensor_file& q) {
            for (auto& [key, value] : q.metadata) {
                if (key != "quant.tensors") {
                    continue;
                }
                auto j = nlohmann::ordered_json::parse(value);
                edit(j);
                value = j.dump();
            }
        };
    };
    const auto in_w = [&](const char* field, const nlohmann::ordered_json& value) {
        return with_entry([=](auto& j) { j["w"][field] = value; });
    };
    const auto replace = [](const char* name, const tensor& t) { return [=](tensor_file& q) { *q.find(name) = t; }; };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<std::tuple<std::string, change, std::vector<std::string>>> cases{
        {"version", [](tensor_file& q) { q.metadata[0].second.assign(1, '3'); }, {"version '3'"}},
        {"no JSON", [](tensor_file& q) { q.metadata[1].second.assign(1, '{'); }, {"quant.tensors"}},
        {"deep JSON", [](tensor_file& q) { q.metadata[1].second = std::string(1'000'000, '['); }, {"quant.tensors"}},
        {"no description", [](tensor_file& q) { q.metadata.pop_back(); }, {"quant.tensors"}},
        {"entry is a number", with_entry([](auto& j) { j["w"] = 1; }), {"'w'", "not a JSON object"}},
        {"dtype", in_w("dtype", "I32"), {"'w'", "dtype"}},
        {"shape is a text", in_w("shape", "2x4"), {"'w'", "shape"}},
        {"negative extent", in_w("shape", {-2, 4}), {"'w'", "shape"}},
        {"shape overflows", in_w("shape", {4294967296, 4294967296, 4294967296}), {"'w'", "overflows"}},
        {"shape larger than the codes", in_w("shape", {2, 400000000000}), {"'w'", "w.codes", "300000000000"}},
        {"shape smaller than the codes", in_w("shape", {2, 1}), {"'w'", "w.codes"}},
        {"more channels than scales", in_w("shape", {4, 2}), {"'w'", "w.scales", "4 elements"}},
        {"axis", in_w("axis", 2), {"'w'", "axis"}},
        {"axis is a text", in_w("axis", "0"), {"'w'", "axis"}},
        {"granularity", in_w("granularity", "per_row"), {"'w'", "per_row"}},
        {"group size",
         with_entry([](auto& j) {
             j["w"]["granularity"] = "per_group";
             j["w"]["group_size"] = 0;
         }),
         {"'w'", "group_size"}},
        {"bits 0", in_w("bits", 0), {"'w'", "bits"}},
        {"bits 9", in_w("bits", 9), {"'w'", "bits"}},
        {"widths missing", in_w("bits", nullptr), {"'w'", "w.bits"}},
        {"signed is a text", in_w("signed", "yes"), {"'w'", "signed"}},
        {"no scales",
         [](tensor_file& q) { std::erase_if(q.tensors, [](const tensor& t) { return t.name == "w.scales"; }); },
         {"'w'", "lacks 'w.scales'"}},
        {"NaN scale",
         replace("w.scales", make_tensor("w.scales", dtype::f32, {2}, std::vector<float>{1, nan})),
         {"'w'", "slice 1", "scale"}},
        {"negative scale",
         replace("w.scales", make_tensor("w.scales", dtype::f32, {2}, std::vector<float>{-1, 1})),
         {"'w'", "slice 0", "scale"}},
        {"scales of another type",
         replace("w.scales", make_tensor("w.scales", dtype::f64, {2}, std::vector<double>{1, 1})),
         {"'w'", "F64"}},
        {"zero point out of range",
         [](tensor_file& q) {
             q.tensors.push_back(make_tensor("w.zero_points", dtype::i32, {2}, std::vector<std::int32_t>{0, 99}));
         },
         {"'w'", "slice 1", "zero_point"}},
        {"infinite shift",
         [](tensor_file& q) {
             q.tensors.push_back(make_tensor("w.shift", dtype::f32, {2},
                                             std::vector<float>{0, std::numeric_limits<float>::infinity()}));
         },
         {"'w'", "slice 1", "shift"}},
        {"there twice",
         [](tensor_file& q) { q.tensors.push_back(make_tensor("w", dtype::f32, {1}, std::vector<float>{1})); },
         {"'w'", "twice"}},
        {"widths out of range",
         [&](tensor_file& q) {
             in_w("bits", nullptr)(q);
             q.tensors.push_back(make_tensor("w.bits", dtype::u8, {2}, std::vector<std::uint8_t>{3, 200}));
         },
         {"'w'", "200 bits"}},
    };
    for (const auto& [title, edit, words] : cases) {
        DYNAMIC_SECTION(title) {
            auto q = good;
            edit(q);
            write_safetensors(broken, q, overwrite::yes);
            check_fails(run({"dequantize", broken, "-o", dir / "r.safetensors"}), exit_code::input, words);
            CHECK(run({"inspect", broken}).code == static_cast<int>(exit_code::input));
            CHECK(!fs::exists(dir / "r.safetensors"));
        }
    }
    check_fails(run({"dequantize", input, "-o", dir / "r.safetensors"}), exit_code::input,
                {input, "is not a quantized file"});
}

TEST_CASE("every plane that is dropped leaves the file, and the codes are those of a dense file") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", dense = dir / "d.safetensors";
    tensor_file f;
    f.tensors.push_back(make_tensor("a", dtype::f32, {20, 100}, weights(2000, 1)));
    f.tensors.push_back(make_tensor("b", dtype::f32, {300, 3, 7}, weights(6300, 2)));
    f.tensors.push_back(make_tensor("c", dtype::bf16, {1, 16}, std::vector<std::uint16_t>(16, 0x3F80)));
    write_safetensors(input, f);
    const auto file_size = [](const std::string& path) { return read_file(path).size(); };
    std::size_t before = 0;
    for (int planes = 6; planes >= 0; --planes) {
        const std::vector<std::string> options{"--bits", "7", "--planes", std::to_string(planes), "--force"};
        const auto quantize = [&](const std::string& to, const char* storage) {
            std::vector<std::string> arguments{"quantize", input, "-o", to, "--storage", storage, "-q"};
            arguments.insert(arguments.end(), options.begin(), options.end());
            check_succeeds(run(arguments));
        };
        quantize(output, "planes");
        quantize(dense, "dense");
        auto parts = read_safetensors(output);
        const auto stored = [&](const char* name) { return parts.find(name)->bytes.size(); };
        const auto p = static_cast<std::size_t>(planes == 0 ? 0 : planes + 1); // with the plane of the sign
        CHECK(stored("a.planes") == 2 * p * 20 * 7);                           // 2 P M ceil(K / 16)
        CHECK(stored("b.planes") == 2 * p * 300 * 2);
        CHECK(stored("c.planes") == 2u * static_cast<unsigned>(planes)); // positive codes need no sign
        CHECK(stored("a.scales") == 80);
        CHECK(*parts.find_metadata("quant.format") == "2");
        CHECK(parts.tensors.size() == 6);
        CHECK((before == 0 || file_size(output) < before));
        before = file_size(output);
        check_succeeds(run({"dequantize", output, "-o", dir / "r1.safetensors", "--force", "-q"}));
        check_succeeds(run({"dequantize", dense, "-o", dir / "r2.safetensors", "--force", "-q"}));
        CHECK(read_file(dir / "r1.safetensors") == read_file(dir / "r2.safetensors"));
        const auto seen = run({"inspect", output, "--json"}).json()["quantized"];
        CHECK(seen[0]["average_bits"] == p);
        CHECK(seen[0]["storage"] == std::to_string(p) + " planes");
    }
    // The smaller of both: half a word of every row is empty in b, and its 7 bits are all in use.
    const auto r = run({"quantize", input, "-o", output, "--bits", "7", "--storage", "smaller", "--force", "--json"});
    check_succeeds(r);
    CHECK(r.json()["tensors"][0]["storage"] == "dense");
    CHECK(r.json()["tensors"][1]["storage"] == "dense");
    CHECK(r.json()["tensors"][2]["storage"] == "6 planes");
}

TEST_CASE("channels of different widths have their own planes") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors";
    std::vector<float> values;
    for (unsigned c = 0; c < 16; ++c) {
        for (const float x : weights(640, c, std::ldexp(1.0f, static_cast<int>(c) / 3))) {
            values.push_back(x);
        }
    }
    tensor_file f;
    f.tensors.push_back(make_tensor("w", dtype::f32, {16, 640}, values));
    write_safetensors(input, f);
    check_succeeds(run({"quantize", input, "-o", output, "--average-bits", "4", "--storage", "planes", "-q"}));
    auto parts = read_safetensors(output);
    REQUIRE(parts.find("w.live") != nullptr);
    const auto live = parts.find("w.live")->as<std::uint16_t>();
    const auto bits = parts.find("w.bits")->as<std::uint8_t>();
    std::size_t planes = 0;
    for (std::size_t r = 0; r < 16; ++r) {
        CHECK(std::popcount(live[r]) == bits[r]); // min-max codes use every bit
        planes += bits[r];
    }
    CHECK(parts.find("w.planes")->bytes.size() == 2 * 40 * planes);
    check_succeeds(run({"dequantize", output, "-o", dir / "r.safetensors", "-q"}));
}

TEST_CASE("damaged bit planes are refused with the tensor's name") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", output = dir / "q.safetensors", broken = dir / "b.safetensors";
    tensor_file f;
    f.tensors.push_back(make_tensor("w", dtype::f32, {2, 4}, std::vector<float>{-4, 3, 1, -1, -2, 1.5f, 0.5f, -0.5f}));
    write_safetensors(input, f);
    check_succeeds(
        run({"quantize", input, "-o", output, "--bits", "3", "--clip", "minmax", "--storage", "planes", "-q"}));
    const auto good = read_safetensors(output);
    {
        // Codes -4 3 1 -1 in both rows: bit 0 of 3, 1, -1; bit 1 of 3, -1; the sign of -4, -1. Planes 1, 2 and -4; two rows per word.
        auto parts = good;
        const auto words = parts.find("w.planes")->as<std::uint16_t>();
        CHECK(std::vector<std::uint16_t>(words.begin(), words.end()) ==
              std::vector<std::uint16_t>{0xE, 0xE, 0xA, 0xA, 0x9, 0x9});
        CHECK(nlohmann::json::parse(*parts.find_metadata("quant.tensors"))["w"]["live"] == 0x0403);
    }
    using change = std::function<void(tensor_file&, nlohmann::ordered_json&)>;
    const auto words = [](std::vector<std::uint16_t> values) {
        return [=](tensor_file& q, nlohmann::ordered_json&) {
            const std::uint64_t n = values.size();
            *q.find("w.planes") = make_tensor("w.planes", dtype::u16, {n}, values);
        };
    };
    const auto by_row = [](std::vector<std::uint16_t> live) {
        return [=](tensor_file& q, nlohmann::ordered_json& w) {
            w["live"] = nullptr;
            const std::uint64_t n = live.size();
            q.tensors.push_back(make_tensor("w.live", dtype::u16, {n}, live));
        };
    };
    const std::vector<std::tuple<std::string, change, std::vector<std::string>>> cases{
        {"truncated", words({0xE, 0xE, 0xA, 0xA, 0x9}), {"w.planes", "6 elements", "5"}},
        {"too long", words({0xE, 0xE, 0xA, 0xA, 0x9, 0x9, 0}), {"w.planes", "6 elements", "7"}},
        {"missing",
         [](tensor_file& q, auto&) { std::erase_if(q.tensors, [](const tensor& t) { return t.name == "w.planes"; }); },
         {"lacks 'w.planes'"}},
        {"a bit past the last column", words({0xE, 0xE, 0xA, 0xA, 0x9, 0x19}), {"no code"}},
        {"more live planes than words", [](auto&, auto& w) { w["live"] = 0x0407; }, {"w.planes", "8 elements"}},
        {"live is a text", [](auto&, auto& w) { w["live"] = "3"; }, {"live"}},
        {"live out of range", [](auto&, auto& w) { w["live"] = 65536; }, {"live"}},
        {"codes wider than they may be", [](auto&, auto& w) { w["live"] = 0x0803; }, {"slice 0", "code", "3 bits"}},
        {"negative codes, unsigned", [](auto&, auto& w) { w["signed"] = false; }, {"unsigned"}},
        {"planes of both signs set", [](auto&, auto& w) { w["live"] = 0x0301; }, {"no code"}},
        {"live planes of the rows missing", [](auto&, auto& w) { w["live"] = nullptr; }, {"lacks 'w.live'"}},
        {"live planes of one row only", by_row({0x0403}), {"w.live", "2 elements"}},
        {"rows with other planes", by_row({0x0403, 0x0401}), {"w.planes", "5 elements"}},
        {"a shape of nothing",
         [](auto&, auto& w) {
             w["live"] = 0;
             w["shape"] = {2, 40000000000};
         },
         {"no live plane"}},
        {"rows of nothing beside one of little",
         [](tensor_file& q, auto& w) {
             std::vector<std::uint16_t> live(1u << 20);
             live[0] = 1;
             const std::uint64_t rows = live.size();
             q.tensors.push_back(make_tensor("w.live", dtype::u16, {rows}, std::move(live)));
             *q.find("w.planes") = make_tensor("w.planes", dtype::u16, {256}, std::vector<std::uint16_t>(256));
             *q.find("w.scales") = make_tensor("w.scales", dtype::f32, {1}, std::vector{1.0f});
             w["live"] = nullptr;
             w["granularity"] = "per_tensor";
             w["shape"] = {1u << 20, 4096};
         },
         {"no live plane"}},
        {"unknown storage", [](auto&, auto& w) { w["storage"] = "heap"; }, {"storage", "heap"}},
    };
    for (const auto& [title, edit, expected] : cases) {
        DYNAMIC_SECTION(title) {
            auto q = good;
            auto entries = nlohmann::ordered_json::parse(*q.find_metadata("quant.tensors"));
            edit(q, entries["w"]);
            for (auto& [key, value] : q.metadata) {
                if (key == "quant.tensors") {
                    value = entries.dump();
                }
            }
            write_safetensors(broken, q, overwrite::yes);
            auto all = expected;
            all.push_back("'w'");
            check_fails(run({"dequantize", broken, "-o", dir / "r.safetensors"}), exit_code::input, all);
            check_fails(run({"inspect", broken}), exit_code::input, all);
        }
    }
}

TEST_CASE("results that cannot be written are an error") {
    const scratch_directory dir;
    write_safetensors(dir / "m.safetensors", model());
    const auto command =
        std::string(QUANT_CLI) + " inspect " + (dir / "m.safetensors") + " >/dev/full 2>" + (dir / "err");
    const int status = std::system(command.c_str());
    CHECK(WEXITSTATUS(status) == static_cast<int>(exit_code::output));
    CHECK(read_file(dir / "err").find("stdout") != std::string::npos);
}

namespace {
/// The values of one array of an exported header.
std::vector<double> exported(const std::string& header, const std::string& declaration) {
    const auto at = header.find("QUANT_CONSTANT " + declaration + "[");
    REQUIRE(at != std::string::npos);
    const auto open = header.find('{', at), close = header.find('}', at);
    std::vector<double> out;
    for (const char* p = header.c_str() + open + 1; p < header.c_str() + close;) {
        char* end = nullptr;
        out.push_back(std::strtod(p, &end)); // reads hexadecimal floats to the bit
        REQUIRE(end != p);
        p = end + std::strspn(end, "fu, \n");
    }
    const auto size = std::strtoul(header.c_str() + header.find('[', at) + 1, nullptr, 10);
    CHECK(out.size() == size);
    return out;
}
template <class T> std::vector<double> as_doubles(tensor& t) {
    const auto values = t.as<T>();
    return {values.begin(), values.end()};
}
} // namespace

TEST_CASE("export-c writes what the quantized file holds, as constants, the same bytes each time") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", q = dir / "q.safetensors", header = dir / "w.h";
    auto f = model();
    write_safetensors(input, f);
    check_succeeds(
        run({"quantize", input, "-o", q, "-q", "--unsigned", "--bits", "5", "--average-bits", "4", "--bias-correct"}));
    const auto shown = run({"export-c", q, "-o", header, "--prefix", "net_"});
    check_succeeds(shown);
    CHECK(shown.out.find("net_conv_weight") != std::string::npos);
    const auto text = read_file(header);
    auto file = read_safetensors(q);
    CHECK(exported(text, "uint8_t net_conv_weight_codes") == as_doubles<std::uint8_t>(*file.find("conv.weight.codes")));
    CHECK(exported(text, "float net_conv_weight_scales") == as_doubles<float>(*file.find("conv.weight.scales")));
    CHECK(exported(text, "int32_t net_conv_weight_zero_points") ==
          as_doubles<std::int32_t>(*file.find("conv.weight.zero_points")));
    const auto bits = exported(text, "uint8_t net_conv_weight_bits");
    CHECK(bits == as_doubles<std::uint8_t>(*file.find("conv.weight.bits")));
    CHECK(exported(text, "float net_conv_weight_shifts") == as_doubles<float>(*file.find("conv.weight.shift")));
    CHECK(exported(text, "uint32_t net_conv_weight_shape") == std::vector<double>{8, 5, 3});
    const auto offsets = exported(text, "uint32_t net_conv_weight_offsets");
    REQUIRE(offsets.size() == 9);
    for (std::size_t c = 0; c < 8; ++c) { // 15 codes each, whole bytes
        CHECK(offsets[c + 1] - offsets[c] == std::ceil(15 * bits[c] / 8));
    }
    CHECK(exported(text, "float net_bias") == as_doubles<float>(*f.find("bias")));
    CHECK(exported(text, "int64_t net_steps") == std::vector<double>{1, 2, 3, 4});
    CHECK(text.find("// nothing: 0x4, F32; no elements\n") != std::string::npos);

    CHECK(run({"export-c", q, "-o", dir / "2.h", "--prefix", "net_", "--json", "--threads", "1"})
              .json()["totals"]["tensors"] == 7);
    CHECK(read_file(dir / "2.h") == text);

    // Another compiler's opinion: C and C++ take it.
    const auto compiles = [&](const std::string& language) {
        const auto command = "g++ -Wall -Wextra -Wno-unused -Werror -fsyntax-only " + language + " -include " + header +
                             " /dev/null >/dev/null 2>&1";
        return std::system(command.c_str()) == 0;
    };
    if (std::system("g++ --version >/dev/null 2>&1") == 0) {
        CHECK(compiles("-x c++ -std=c++17"));
        CHECK(compiles("-x c -std=c99"));
    }
}

TEST_CASE("export-c refuses what it cannot write and leaves no file") {
    const scratch_directory dir;
    const auto input = dir / "m.safetensors", q = dir / "q.safetensors", header = dir / "w.h";
    auto f = model();
    write_safetensors(input, f);
    check_fails(run({"export-c", input, "-o", header}), exit_code::input, {"m.safetensors", "is not a quantized file"});
    check_succeeds(run({"quantize", input, "-o", q, "-q"}));
    check_fails(run({"export-c", q, "-o", dir / "w.txt"}), exit_code::output, {"w.txt", ".h"});
    check_fails(run({"export-c", q, "-o", dir / "no/w.h"}), exit_code::output, {"no/w.h", "No such file"});
    check_fails(run({"export-c", q}), exit_code::usage, {"--output"});
    CHECK(dir.entries() == 2);
    write_file(header, "precious");
    check_fails(run({"export-c", q, "-o", header}), exit_code::output, {"w.h", "exists"});
    CHECK(read_file(header) == "precious");
    check_succeeds(run({"export-c", q, "-o", header, "--force", "-q"}));

    f.tensors.push_back(make_tensor("conv_weight.codes", dtype::u8, {1}, std::vector<std::uint8_t>{1}));
    write_safetensors(input, f, overwrite::yes);
    check_succeeds(run({"quantize", input, "-o", q, "-q", "--force"}));
    check_fails(run({"export-c", q, "-o", dir / "x.h"}), exit_code::data,
                {"'conv_weight.codes'", "'conv.weight'", "conv_weight_codes"});
    f.tensors.back() =
        make_tensor("norm", dtype::f32, {2}, std::vector<float>{1, std::numeric_limits<float>::infinity()});
    write_safetensors(input, f, overwrite::yes);
    check_succeeds(run({"quantize", input, "-o", q, "-q", "--force"}));
    check_fails(run({"export-c", q, "-o", dir / "x.h"}), exit_code::data, {"'norm'", "not finite"});
    CHECK(dir.entries() == 3);
}

TEST_CASE("an interrupted run leaves the whole output or none") {
    const scratch_directory dir;
    const auto input = dir / "m.npy", output = dir / "q.safetensors";
    {
        tensor_file f;
        f.tensors.push_back(make_tensor("m", dtype::f32, {512, 4096}, weights(512 * 4096, 6)));
        write_npy(input, f);
    }
    unsigned killed = 0;
    for (const unsigned milliseconds : {1u, 3u, 10u, 20u, 40u, 80u, 160u, 320u}) {
        const pid_t child = ::fork();
        if (child == 0) {
            std::signal(SIGINT, SIG_DFL);
            ::execl(QUANT_CLI, QUANT_CLI, "quantize", input.c_str(), "-o", output.c_str(), "--force", "-q", nullptr);
            ::_exit(126);
        }
        ::usleep(milliseconds * 1000);
        ::kill(child, SIGINT);
        int status = 0;
        ::waitpid(child, &status, 0);
        if (WIFSIGNALED(status)) {
            CHECK(WTERMSIG(status) == SIGINT);
            ++killed;
        } else {
            CHECK(WEXITSTATUS(status) == 0);
        }
        CHECK(dir.entries() == (fs::exists(output) ? 2u : 1u));
        if (fs::exists(output)) {
            check_succeeds(run({"inspect", output}));
        }
    }
    CHECK(killed > 0);
}

TEST_CASE("real weights: budget, size, and the order that theory gives the methods", "[data]") {
    const char* const data = std::getenv("QUANT_DATA");
    if (data == nullptr) {
        SKIP("QUANT_DATA is not set");
    }
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(fs::path(data) / "weights")) {
        if (entry.path().extension() != ".npy") {
            continue;
        }
        ++files;
        const scratch_directory dir;
        const auto input = entry.path().string(), output = dir / "q.safetensors";
        INFO(input);
        const auto quantized = [&](std::vector<std::string> options) {
            options.insert(options.begin(), {"quantize", input, "-o", output, "--force", "--json"});
            const auto r = run(options);
            check_succeeds(r);
            return r.json();
        };
        const auto sqnr = [](const nlohmann::json& report) { return report["tensors"][0]["sqnr_db"].get<double>(); };

        const auto aciq =
            quantized({"--bits", "4", "--clip", "aciq", "--axis", "0", "--average-bits", "4", "--bias-correct"});
        CHECK(aciq["totals"]["average_bits"].get<double>() <= 4.0);
        CHECK(aciq["totals"]["average_bits"].get<double>() > 3.9);
        // Codes, a scale, a shift and a width per channel, at most a byte of padding each; the rest is the header.
        const auto elements = aciq["totals"]["elements"].get<std::uint64_t>();
        const auto slices = aciq["tensors"][0]["slices"].get<std::uint64_t>();
        CHECK(fs::file_size(output) <= elements / 2 + slices * (4 + 4 + 1 + 1) + 1500);
        check_succeeds(run({"dequantize", output, "-o", dir / "r.npy", "-q"}));
        const auto compared = run({"compare", input, dir / "r.npy", "--json"}).json();
        CHECK(sqnr(compared) == Catch::Approx(sqnr(aciq)).margin(1e-9));

        // Least squares cannot lose against min-max, nor widths by need against equal widths; each further bit brings
        // 20 log10(2) = 6.02 dB while the noise is that of the rounding alone.
        const auto minmax = sqnr(quantized({"--bits", "4", "--clip", "minmax"}));
        CHECK(sqnr(quantized({"--bits", "4", "--clip", "mse"})) >= minmax);
        CHECK(sqnr(quantized({"--bits", "4", "--clip", "minmax", "--average-bits", "4"})) >= minmax - 0.01);
        CHECK(sqnr(quantized({})) == Catch::Approx(minmax + 4 * 6.02).margin(1.0));
    }
    CHECK(files > 0);
}
