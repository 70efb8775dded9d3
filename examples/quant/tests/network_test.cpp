// SPDX-License-Identifier: MIT
// The tool on networks when it does not come to its end: interrupted, killed, and taken up again.

#include "../../onnx/model.hpp"
#include "support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace quant_tool;
using namespace quant_test;
using quant_onnx::element_type;

namespace {

/// The tool as a child; its stderr goes to a file.
pid_t start(const std::vector<std::string>& arguments, const std::string& err) {
    // Catch2's handlers must not answer a signal that comes before the tool has started.
    sigset_t all, before;
    sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGINT, SIG_DFL);
        std::signal(SIGTERM, SIG_DFL);
        ::sigprocmask(SIG_SETMASK, &before, nullptr);
        ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
        ::dup2(::open("/dev/null", O_WRONLY), 1);
        std::vector<std::string> copy{QUANT_CLI};
        copy.insert(copy.end(), arguments.begin(), arguments.end());
        std::vector<char*> argv;
        argv.reserve(copy.size() + 1);
        for (auto& a : copy) {
            argv.push_back(a.data());
        }
        argv.push_back(nullptr);
        ::execv(QUANT_CLI, argv.data());
        ::_exit(126);
    }
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return child;
}
/// What a shell shows: the exit code, or 128 and the number of the signal.
int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::vector<float> noise(std::size_t n, std::uint32_t seed) {
    std::vector<float> out(n);
    for (auto& v : out) {
        seed = seed * 1664525u + 1013904223u;
        v = static_cast<float>(static_cast<std::int32_t>(seed)) / 2147483648.0f;
    }
    return out;
}

/// 16 -> wide -> wide, with Relu between; so many samples of it and their labels.
struct network {
    scratch_directory dir;
    std::string model = dir / "m.onnx", samples = dir / "x.npy", labels = dir / "y.npy", err = dir / "err";

    network(std::int64_t wide, std::size_t count) {
        quant_onnx::model m;
        m.ir_version = 7;
        m.opsets[""] = 13;
        m.inputs.push_back({"in", element_type::float32, {-1, 16}, {}});
        m.outputs.push_back({"out", element_type::float32, {-1, wide}, {}});
        const auto size = static_cast<std::size_t>(wide);
        m.initializers.push_back(quant_onnx::owned("w1", element_type::float32, {16, wide}, noise(16 * size, 1)));
        m.initializers.push_back(quant_onnx::owned("w2", element_type::float32, {wide, wide}, noise(size * size, 2)));
        for (const auto& [type, inputs, output] :
             {std::tuple("Gemm", std::vector<const char*>{"in", "w1"}, "first"),
              std::tuple("Relu", std::vector<const char*>{"first"}, "hidden"),
              std::tuple("Gemm", std::vector<const char*>{"hidden", "w2"}, "out")}) {
            onnx::NodeProto n;
            n.set_op_type(type);
            n.set_name(std::string(output) + "_node");
            for (const char* i : inputs) {
                n.add_input(i);
            }
            n.add_output(output);
            m.nodes.push_back(std::move(n));
        }
        quant_onnx::write(m, model, true);
        write_samples(count, 3);
        write_file(labels, npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" + std::to_string(count) + ",), }",
                               std::string(count, '\1')));
        write_file(err, "");
    }
    void write_samples(std::size_t count, std::uint32_t seed) const {
        const auto values = noise(count * 16, seed);
        write_file(samples,
                   npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(count) + ", 16), }",
                       {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}));
    }
    /// Exit code of quantizing with these options; the message is in `err`.
    [[nodiscard]] int quantize(const std::string& output, const std::vector<std::string>& options) const {
        return wait_for(start(words(output, options), err));
    }
    [[nodiscard]] std::vector<std::string> words(const std::string& output,
                                                 const std::vector<std::string>& options) const {
        std::vector<std::string> out{"quantize",       model,         "-fo",  output, "--bits", "4",
                                     "--bias-correct", "--calibrate", samples};
        out.insert(out.end(), options.begin(), options.end());
        return out;
    }
    [[nodiscard]] bool said(const std::string& text) const { return read_file(err).find(text) != std::string::npos; }
};

bool wait_until_exists(const std::string& path) {
    for (int i = 0; i < 20000 && !fs::exists(path); ++i) {
        ::usleep(500);
    }
    return fs::exists(path);
}

} // namespace

TEST_CASE("calibration goes on where it was interrupted, with the same result") {
    const network net(256, 4000);
    const auto whole = net.dir / "whole.onnx", output = net.dir / "q.onnx", state = net.dir / "state.safetensors";
    REQUIRE(net.quantize(whole, {"--activations", "8", "--threads", "2"}) == 0);

    for (const int number : {SIGINT, SIGTERM, SIGKILL}) {
        INFO("signal " << number);
        fs::remove(state);
        fs::remove(output);
        const std::vector<std::string> options{"--activations", "8", "--threads", "1", "--resume", state};
        const pid_t child = start(net.words(output, options), net.err);
        CHECK(wait_until_exists(state));
        ::kill(child, number);
        CHECK(wait_for(child) == 128 + number);
        CHECK(!fs::exists(output));
        if (number != SIGKILL) {
            CHECK(net.said("interrupted after"));
            CHECK(net.dir.entries() == 6); // the model, samples, labels, messages, the whole result, the state
        }
        REQUIRE(net.quantize(output, {"--activations", "8", "--threads", "2", "--resume", state}) == 0);
        CHECK(net.said("going on after"));
        CHECK(read_file(output) == read_file(whole));
    }
    // What is complete serves other options; the model need not run again.
    REQUIRE(net.quantize(output, {"--activations", "4", "--resume", state}) == 0);
    CHECK(net.said("going on after 4000 of 4000 samples"));
    REQUIRE(net.quantize(whole, {"--activations", "4"}) == 0);
    CHECK(read_file(output) == read_file(whole));
}

TEST_CASE("a state of another run, and a damaged one, are refused and stay as they are") {
    const network net(8, 40);
    const auto output = net.dir / "q.onnx", state = net.dir / "state.safetensors";
    const std::vector<std::string> options{"--activations", "8", "--resume", state};
    REQUIRE(net.quantize(output, options) == 0);
    const auto good = read_file(state);
    const auto refused = [&](std::vector<std::string> more, const std::string& cause) {
        more.insert(more.end(), options.begin(), options.end());
        const auto before = read_file(state);
        CHECK(net.quantize(output, more) == static_cast<int>(exit_code::input));
        INFO(read_file(net.err));
        CHECK(net.said(state));
        CHECK(net.said(cause));
        CHECK(read_file(state) == before);
    };
    refused({"--samples", "24"}, "other --samples");
    refused({"--preprocess", "raw"}, "other --preprocess");
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{7}, std::size_t{300}, good.size() / 2, good.size() - 1}) {
        write_file(state, good.substr(0, length));
        refused({}, "");
    }

    for (const std::size_t at : {good.find("seen") + 20000, good.size() / 2}) {
        auto other = good;
        other[at] = static_cast<char>(other[at] + 1); // a count
        write_file(state, other);
        refused({}, "is damaged");
    }
    write_file(state,
               safetensors("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", std::string(8, '\0')));
    refused({}, "is not a state of --resume");
    write_file(state, good);
    net.write_samples(40, 4);
    refused({}, "other samples");
    net.write_samples(40, 3);
    CHECK(net.quantize(output, options) == 0);
    auto model = read_file(net.model);
    model[model.size() / 2] = static_cast<char>(model[model.size() / 2] ^ 1);
    write_file(net.model, model);
    refused({}, "other contents of the model");
    CHECK(net.quantize(output, {"--activations", "8", "--resume", net.dir / "no/state.safetensors"}) ==
          static_cast<int>(exit_code::output));
    CHECK(net.quantize(output, {"--activations", "8", "--resume", net.dir / "state.bin"}) ==
          static_cast<int>(exit_code::usage));
}

TEST_CASE("interrupted work on networks leaves neither partial output nor temporary files") {
    const network net(512, 2000);
    const auto output = net.dir / "out.onnx", page = net.dir / "page.html";
    REQUIRE(net.quantize(net.dir / "q.onnx", {}) == 0);
    const auto before = net.dir.entries();
    const std::vector<std::vector<std::string>> commands{
        {"quantize", net.model, "-o", output, "--bits", "4", "--report", page},
        {"evaluate", net.model, "--images", net.samples, "--labels", net.labels, "--against", net.dir / "q.onnx",
         "--report", page},
        {"compare", net.model, net.dir / "q.onnx", "--inputs", net.samples, "--samples", "2000", "--report", page}};
    for (const auto& command : commands) {
        INFO(command[0]);
        int interrupted = 0;
        unsigned milliseconds = 1;
        for (const int number : {SIGINT, SIGTERM, SIGINT, SIGTERM, SIGINT, SIGTERM}) {
            const pid_t child = start(command, net.err);
            ::usleep(milliseconds * 1000);
            milliseconds *= 3;
            ::kill(child, number);
            const int code = wait_for(child);
            CHECK((code == 128 + number || code == 0));
            interrupted += code != 0 ? 1 : 0;
            const bool model = fs::exists(output), report = fs::exists(page);
            if (code == 0) {
                CHECK(report);
                CHECK(model == (command[0] == "quantize"));
            }
            CHECK(net.dir.entries() == before + (model ? 1 : 0) + (report ? 1 : 0));
            if (model) { // whole
                CHECK_NOTHROW(quant_onnx::read(output));
            }
            if (report) {
                CHECK(read_file(page).ends_with("</html>\n"));
            }
            fs::remove(output);
            fs::remove(page);
        }
        CHECK(interrupted > 0);
    }
}
