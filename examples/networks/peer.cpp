// SPDX-License-Identifier: MIT
#include "peer.hpp"

#include "../quant/io/error.hpp"
#include "../quant/io/npy.hpp"

#include <cerrno>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace networks {

namespace {

using quant_tool::error;
using quant_tool::exit_code;
namespace fs = std::filesystem;

void write_samples(const fs::path& path, const evaluation::labelled_set& set, std::size_t n) {
    engine::tensor all = set.batch(0, n);
    quant_tool::tensor_file file;
    file.tensors.push_back(quant_tool::make_tensor("samples", quant_tool::dtype::f32,
                                                   {all.shape.begin(), all.shape.end()}, std::move(all.data)));
    quant_tool::write_npy(path.string(), file);
}

/// The program's exit code; its stdout is ours.
int execute(std::vector<std::string> arguments) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t child = 0;
    if (::posix_spawnp(&child, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return 127;
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct scratch_folder {
    explicit scratch_folder(fs::path p) : path(std::move(p)) {
        fs::remove_all(path);
        fs::create_directories(path);
    }
    ~scratch_folder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    fs::path path;
};

} // namespace

peer_results run_peer(std::span<const key> rows, const bench& b, const std::string& model, const std::string& python,
                      const fs::path& folder, unsigned threads) {
    const scratch_folder scratch(folder);
    write_samples(scratch.path / "test.npy", b.test(), rows.front().samples);
    write_samples(scratch.path / "calibration.npy", b.calibration(), b.calibration().size);
    std::vector<std::string> command{
        python, "-B", NETWORKS_PEER_SCRIPT, model, scratch.path.string(), std::to_string(threads)};
    for (const key& k : rows)
        command.push_back(k.method + ":" + std::to_string(k.weight_bits) + ":" + std::to_string(k.activation_bits));
    const int code = execute(std::move(command));
    if (code == 77) return {python + " has no onnxruntime", {}};
    if (code == 127) return {"'" + python + "' is not there", {}};
    if (code != 0)
        throw error(exit_code::internal, NETWORKS_PEER_SCRIPT, "failed with exit code " + std::to_string(code));

    std::ifstream file(scratch.path / "results.json");
    const auto results = nlohmann::json::parse(file).at("rows");
    peer_results out;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto& result = results.at(i);
        if (result.contains("error")) {
            out.rows.push_back(refused(rows[i], result["error"].get<std::string>()));
            continue;
        }
        evaluation::labelled_set outputs =
            evaluation::npy((scratch.path / result["outputs"].get<std::string>()).string(), {});
        outputs.labels.assign(b.test().labels.begin(),
                              b.test().labels.begin() + static_cast<std::ptrdiff_t>(rows[i].samples));
        const auto answers = evaluation::evaluate([](const engine::tensor& x) { return x; }, outputs);
        out.rows.push_back(make_row(rows[i], answers, result["mean_weight_bits"], result["seconds"]));
    }
    return out;
}

} // namespace networks
