// SPDX-License-Identifier: MIT

// Which part of a language model needs how many bits? See docs/mixed_precision.md and docs/training_methods.md.

#include "../quant/run_program.hpp"
#include "programs.hpp"

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <utility>

namespace {

constexpr const char* explanation =
    R"(Gives the matrices of small language models different widths within an average, and
counts what that costs on text, beside the same width everywhere.

  rwkv   a trained RWKV-4 over bytes: nothing is trained. Widths by the divergence of
         its outputs with one matrix alone quantized, and by the errors of weights.
  gru    a recurrent network that is trained here, on the text that comes with it. Widths
         by Hessian (trace times error), by divergence and by precision search, then
         training with these widths: straight-through and by ADMM.)";

constexpr const char* footer = R"(Exit codes: 0 done; 2 wrong options; 3 an input file is missing or damaged; 5 no
choice of widths fits the average, or training went to infinity.

Examples:
  QUANT_DATA=/path/to/data language rwkv
  language gru --averages 3,2.5
  language rwkv --help)";

} // namespace

int main(int argc, char** argv) {
    return quant_tool::run_program("language", [&] {
        language::rwkv_options rwkv;
        language::gru_options gru{.text = LANGUAGE_TEXT};
        CLI::App app(explanation, "language");
        app.footer(footer);
        app.require_subcommand(1);
        const auto averages = [](CLI::App* command, std::vector<double>& to) {
            command->add_option("--averages", to, "Average widths, 2 to 8, separated by commas")
                ->delimiter(',')
                ->check(CLI::Range(2.0, 8.0))
                ->capture_default_str();
        };
        CLI::App* const trained = app.add_subcommand("rwkv", "A trained RWKV-4 over bytes");
        trained->add_option("--data", rwkv.data, "Folder that holds lm/; otherwise QUANT_DATA names it");
        averages(trained, rwkv.averages);
        trained->add_option("--calibration", rwkv.calibration, "Samples that divergences are measured on")
            ->check(CLI::Range(1, 63))
            ->capture_default_str();
        trained->add_option("--samples", rwkv.samples, "Samples used in all; those that are not for calibration judge")
            ->check(CLI::Range(2, 64))
            ->capture_default_str();
        CLI::App* const recurrent = app.add_subcommand("gru", "A recurrent network, trained here");
        recurrent
            ->add_option("--text", gru.text, "Text: 80 per cent to train on, 10 to choose by, the last 10 to judge by")
            ->capture_default_str();
        recurrent->add_option("--symbols", gru.symbols, "So many bytes of the text alone; 0: all")
            ->capture_default_str();
        averages(recurrent, gru.averages);
        recurrent->add_option("--hidden", gru.hidden, "Units")->check(CLI::Range(4, 512))->capture_default_str();
        recurrent->add_option("--embedding", gru.embedding, "Numbers that stand for a byte")
            ->check(CLI::Range(2, 256))
            ->capture_default_str();
        recurrent->add_option("--epochs", gru.epochs, "Passes over the text in float")
            ->check(CLI::Range(1, 1000))
            ->capture_default_str();
        recurrent->add_option("--tuning", gru.tuning, "Passes of the search, and of every way of training after that")
            ->check(CLI::Range(1, 1000))
            ->capture_default_str();
        recurrent->add_option("--probes", gru.probes, "Probes of the Hessian")
            ->check(CLI::Range(2, 10000))
            ->capture_default_str();
        recurrent->add_flag("--raw-trace", gru.raw_trace, "Weigh errors by the trace, not by the mean curvature");
        recurrent
            ->add_option("--rho", gru.rho,
                         "Pulls of ADMM towards the tables at its beginning, separated by commas; the best counts")
            ->delimiter(',')
            ->check(CLI::Range(0.0, 1e6))
            ->capture_default_str();
        recurrent->add_option("--seed", gru.seed, "Of the first weights and the probes")->capture_default_str();
        for (auto [command, quiet] : {std::pair(trained, &rwkv.quiet), std::pair(recurrent, &gru.quiet)})
            command->add_flag("--quiet", *quiet, "No progress");
        if (const auto done =
                quant_tool::parse_arguments(app, argc, argv, "language --help, language SUBCOMMAND --help"))
            return *done;
        if (*recurrent) {
            language::compare_gru(gru);
            return 0;
        }
        if (const char* const folder = std::getenv("QUANT_DATA"); rwkv.data.empty() && folder != nullptr)
            rwkv.data = folder;
        if (rwkv.data.empty())
            throw quant_tool::error(quant_tool::exit_code::usage, {}, "--data is missing, and QUANT_DATA is not set");
        language::compare_rwkv(rwkv);
        return 0;
    });
}
