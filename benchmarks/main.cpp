// SPDX-License-Identifier: MIT
// The program around the rows: says in its context what was measured, so that benchmarks/report needs nothing else.
#include "benchmark.hpp"
#include <fstream>

namespace {

/// The processor in the words of the system.
std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos)
            return line.substr(line.find(": ") + 2);
    return "unknown";
}

} // namespace

int main(int argc, char** argv) {
    benchmark::AddCustomContext("processor", processor());
    benchmark::AddCustomContext("compiler", QUANT_BENCHMARK_COMPILER);
    benchmark::AddCustomContext("flags", QUANT_BENCHMARK_FLAGS);
    benchmark::AddCustomContext("architecture", bench::name_of<bench::widest>());
    benchmark::AddCustomContext("peers", QUANT_BENCHMARK_PEERS);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
