// SPDX-License-Identifier: MIT
// The command-line tool `quant`: what may be written on its command line, and what a failure looks like.
// docs/tool.md is the page for users, docs/file-format.md describes the files it writes.

#include "commands.hpp"
#include "names.hpp"
#include "run_program.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <quant/version.hpp>
#include <regex>
#include <span>
#include <thread>

namespace {

using namespace quant_tool;

template <class Enum, std::size_t N> CLI::CheckedTransformer choice(const name_table<Enum, N>& table) {
    std::map<std::string, Enum> names;
    for (const auto& [name, value] : table) {
        names.emplace(name, value);
    }
    CLI::CheckedTransformer out(names);
    std::string text = "{";
    for (const auto& [name, value] : table) {
        text += (text.size() > 1 ? "|" : "") + std::string(name);
    }
    out.description(text + "}");
    return out;
}

[[noreturn]] void contradiction(const std::string& text) { throw error(exit_code::usage, {}, text); }

const CLI::Range sample_counts(std::size_t{1}, std::size_t{1} << 40);

void add_common(CLI::App& app, common_options& options) {
    app.add_flag("--json", options.json, "Results as one JSON document on stdout");
    app.add_flag("-q,--quiet", options.quiet, "No results and no progress, only errors")->excludes("--json");
    options.threads = std::max(1U, std::thread::hardware_concurrency());
    app.add_option("--threads", options.threads,
                   "Threads to work on (default: as many as the machine runs at once); the results are the same")
        ->check(CLI::Range(1U, 1024U));
}
void add_report(CLI::App& app, common_options& options) {
    app.add_option("--report", options.report, "Write a page about the results for a browser: FILE.html");
}

/// The command line as a shell takes it.
std::string quoted(std::span<char*> arguments) {
    std::string out = "quant";
    for (const std::string_view argument : arguments.subspan(std::min<std::size_t>(1, arguments.size()))) {
        const bool plain =
            !argument.empty() && argument.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                                            "0123456789_-+=.,:/@%") == std::string_view::npos;
        out += ' ';
        if (plain) {
            out += argument;
            continue;
        }
        out += '\'';
        for (const char c : argument) {
            out += c == '\'' ? std::string("'\\''") : std::string(1, c);
        }
        out += '\'';
    }
    return out;
}

struct command_line {
    CLI::App app{
        "Quantize the tensors of a model file, look at them, restore and compare them.\n"
        "Files: .safetensors, .npy, .npz, and .onnx for quantize, compare and evaluate. The ending of a name decides."};
    inspect_options inspect;
    quantize_command quantize;
    dequantize_command dequantize;
    export_c_command export_c;
    compare_command compare;
    evaluate_command evaluate;
    CLI::App *inspect_app, *quantize_app, *dequantize_app, *export_c_app, *compare_app, *evaluate_app;

    command_line() {
        app.name("quant");
        app.require_subcommand(1);
        app.set_version_flag("--version", "quant " + std::to_string(QUANT_VERSION_MAJOR) + "." +
                                              std::to_string(QUANT_VERSION_MINOR) + "." +
                                              std::to_string(QUANT_VERSION_PATCH));
        app.footer("Examples:\n"
                   "  quant inspect model.safetensors\n"
                   "  quant quantize model.safetensors -o q.safetensors --bits 4\n"
                   "  quant dequantize q.safetensors -o restored.safetensors\n"
                   "  quant compare model.safetensors q.safetensors\n"
                   "  quant evaluate model.onnx --images photographs/ --labels labels.csv\n"
                   "\nExit codes: 0 done, 1 internal error, 2 wrong options, 3 unusable input, 4 output not written,\n"
                   "5 the values do not admit what was asked for, 6 compare: below --min-sqnr.");
        add_inspect();
        add_quantize();
        add_dequantize();
        add_export_c();
        add_compare();
        add_evaluate();
    }

    void add_inspect() {
        inspect_app = app.add_subcommand("inspect", "List the tensors of a file: type, shape, range, moments, widths");
        inspect_app->add_option("file", inspect.input, "The file to look at")->required();
        add_common(*inspect_app, inspect);
    }

    void add_quantize() {
        auto& o = quantize;
        auto* c = quantize_app = app.add_subcommand("quantize", "Write the file with its weights as integer codes");
        c->footer(
            "Examples:\n"
            "  quant quantize m.safetensors -o q.safetensors\n"
            "      8 bits, one scale per output channel (axis 0), full range kept: nearly lossless.\n"
            "  quant quantize m.safetensors -o q.safetensors --bits 4 --group-size 32\n"
            "      4 bits, one scale per 32 weights along the last axis: language models.\n"
            "  quant quantize m.safetensors -o q.safetensors --bits 4 --clip aciq --average-bits 4 --bias-correct\n"
            "      4 bits on average, the channels that need more get more, means restored: ACIQ.\n"
            "  quant quantize m.safetensors -o q.safetensors --bits 6 --planes 3\n"
            "      Codes of 6 bits that use 3 magnitude planes, stored as bit planes where that is smaller.\n"
            "  quant quantize m.safetensors -o q.safetensors --include 'conv.*' --exclude 'conv1\\.'\n"
            "      Only some tensors; a pattern may match anywhere in a name.\n"
            "  quant quantize model.onnx -o model.int4.onnx --bits 4\n"
            "      An ONNX model whose weights are 4-bit codes with DequantizeLinear; ONNX Runtime runs it.\n"
            "  quant quantize model.onnx -o model.int8.onnx --activations 8 --calibrate photographs/\n"
            "      The values between the layers too, their ranges as seen on a folder of images.\n"
            "Tensors that are not chosen are copied unchanged: by default those of fewer than 2 dimensions\n"
            "(biases, norms), those without elements, and all that are not F32, F16, BF16 or F64.");
        c->add_option("input", o.input, "The file to quantize")->required();
        c->add_option("-o,--output", o.output, "The file to write")->required();
        c->add_flag("-f,--force", o.force, "Replace the output if it exists");
        const std::string network = "ONNX models";
        c->add_option("--format", onnx_format_, "qdq: integer codes with DequantizeLinear nodes (the only one so far)")
            ->check(CLI::IsMember({"qdq"}))
            ->group(network);
        c->add_option("--activations", o.activations,
                      "Bits of the values between the layers, by QuantizeLinear; needs --calibrate (default: float)")
            ->check(CLI::IsMember({8, 7, 6, 5, 4, 3, 2}))
            ->group(network);
        c->add_option("--activation-clip", o.activation_clip,
                      "Range of these values that is kept, as --clip; aciq: Laplace, corrected constants (default: "
                      "minmax at 8 bits, else mse)")
            ->transform(choice(clip_names))
            ->group(network);
        c->add_option("--activation-percentile", o.activation_percentile,
                      "--activation-clip percentile: the share of values kept, in percent")
            ->check(CLI::Range(50.0, 100.0))
            ->capture_default_str()
            ->group(network);
        c->add_flag("--float-biases", o.float_biases,
                    "With --activations: leave the biases as they are, instead of int32 for integer kernels")
            ->group(network);
        c->add_flag("--external-data", o.external_data,
                    "Write the weights into OUTPUT.data beside the model (default: only beyond 2 GiB)")
            ->group(network);
        c->add_flag("--keep-sums,!--no-keep-sums", o.keep_sums,
                    "Round so that the weights of each kernel and output channel keep their sum (default: below 8 "
                    "bits, unless --bias-correct or --rounding is given)")
            ->group(network);
        c->add_option("--calibrate", o.calibrate,
                      "Samples to run the network on: a folder of JPEG files (the middle of each, as large as the "
                      "model's input), CIFAR-10's .bin, MNIST's images.gz, or float32 .npy")
            ->group(network);
        add_preprocess(*c, o.calibrate_preprocess)->group(network);
        c->add_option("--samples", o.calibrate_samples, "Only the first so many of them (default: all)")
            ->check(sample_counts)
            ->group(network);
        c->add_option("--resume", o.resume,
                      "Keep what calibration has seen in this .safetensors file, and go on from it if it exists")
            ->group(network);

        const std::string format = "Codes", scales = "Who shares a scale", range = "Range kept before rounding",
                          widths = "Widths per channel", rest = "Details", names = "Choice of tensors";
        c->add_option("-b,--bits", o.bits, "Width of a code in bits")
            ->check(CLI::Range(1, 8))
            ->capture_default_str()
            ->group(format);
        c->add_flag("--signed,!--unsigned", o.is_signed, "Signed codes (default), or unsigned ones with a zero point")
            ->group(format);
        c->add_option("--mapping", o.map,
                      "symmetric: zero is code 0; affine: a zero point fits the codes to [lo, hi] (default: symmetric, "
                      "affine with --unsigned)")
            ->transform(choice(mapping_names))
            ->group(format);
        c->add_flag("--narrow", o.narrow, "Leave out the lowest signed code: -127...127 at 8 bits")->group(format);

        auto* axis = c->add_option("--axis", o.axis,
                                   "One scale per index of this dimension; negative counts from the end (default: 0, "
                                   "the output channels; -1 with --group-size)")
                         ->group(scales);
        auto* tensor = c->add_flag("--per-tensor", per_tensor_, "One scale for the whole tensor")->group(scales);
        auto* group = c->add_option("-g,--group-size", o.group_size, "One scale per so many elements along --axis")
                          ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 32))
                          ->group(scales);
        tensor->excludes(axis)->excludes(group);

        c->add_option("--clip", o.clip,
                      "minmax: keep everything; mse: least squared error; aciq: the optimum for --prior; percentile; "
                      "entropy (default: minmax at 8 bits and for groups, else mse)")
            ->transform(choice(clip_names))
            ->group(range);
        c->add_option("--prior", o.prior, "aciq: the density the weights are taken to have (default: laplace)")
            ->transform(choice(prior_names))
            ->group(range);
        c->add_option(
             "--aciq-mode", o.variant,
             "aciq: published constants, corrected ones, exact optimum, optimum on the data (default: corrected)")
            ->transform(choice(aciq_names))
            ->group(range);
        c->add_option("--percentile", o.percentile, "percentile: the share of magnitudes kept, in percent")
            ->check(CLI::Range(50.0, 100.0))
            ->capture_default_str()
            ->group(range);

        c->add_option("--average-bits", o.average_bits,
                      "Give each channel its own width so that the mean is this; needs one scale per channel")
            ->check(CLI::Range(1.0, 8.0))
            ->group(widths);
        c->add_option("--min-bits", o.min_bits, "Smallest width of a channel")
            ->check(CLI::Range(1, 8))
            ->capture_default_str()
            ->group(widths);
        c->add_option("--max-bits", o.max_bits, "Largest width of a channel")
            ->check(CLI::Range(1, 8))
            ->capture_default_str()
            ->group(widths);

        c->add_option(
             "--planes", o.planes,
             "Keep so many magnitude planes of each tensor's codes, those that cost the least error; the codes "
             "move to what is left")
            ->check(CLI::Range(0, 8))
            ->group(widths);
        c->add_option("--storage", o.storage,
                      "dense: codes of their width one after the other; planes: a bit plane for every bit that occurs, "
                      "of all channels or of each; smaller: of the two (default: dense, with --planes smaller)")
            ->transform(choice(storage_names))
            ->group(widths);

        // Not a flag with an optional value: `--bias-correct file` would swallow the file.
        c->add_flag("--bias-correct{mean},!--no-bias-correct", bias_correct_,
                    "Restore each slice's mean after dequantizing; --bias-correct=mean-and-norm its norm too")
            ->group(rest);
        c->add_option("--rounding", o.round, "How a quotient becomes an integer (default: nearest-even)")
            ->transform(choice(rounding_names))
            ->group(rest);
        c->add_option("--scale-by", o.divide, "x / scale as ONNX, or x * (1 / scale) as PyTorch (default: division)")
            ->transform(choice(scale_by_names))
            ->group(rest);
        c->add_option("--seed", o.seed, "stochastic rounding: the seed")->capture_default_str()->group(rest);
        c->add_flag("--allow-non-finite", o.allow_non_finite,
                    "Quantize tensors with NaN (becomes 0) or infinities (saturate) instead of refusing them")
            ->group(rest);

        c->add_option("--include", o.include, "Quantize exactly the real tensors whose name matches one of these")
            ->take_all()
            ->allow_extra_args(false)
            ->group(names);
        c->add_option("--exclude", o.exclude, "Copy tensors whose name matches one of these unchanged")
            ->take_all()
            ->allow_extra_args(false)
            ->group(names);
        add_report(*c, o);
        add_common(*c, o);
    }

    void add_dequantize() {
        auto& o = dequantize;
        dequantize_app = app.add_subcommand("dequantize", "Restore the tensors of a quantized file as real numbers");
        dequantize_app->add_option("input", o.input, "A file written by quant quantize")->required();
        dequantize_app->add_option("-o,--output", o.output, "The file to write")->required();
        dequantize_app->add_flag("-f,--force", o.force, "Replace the output if it exists");
        dequantize_app->add_option("--dtype", o.dtype, "Type of the restored tensors (default: what each one was)")
            ->check(CLI::IsMember({"F64", "F32", "F16", "BF16"}));
        dequantize_app->footer("Example:\n  quant dequantize q.safetensors -o restored.npz --dtype F32");
        add_common(*dequantize_app, o);
    }

    void add_export_c() {
        auto& o = export_c;
        export_c_app = app.add_subcommand("export-c", "Write a quantized file as constants for C and C++: firmware");
        export_c_app->add_option("input", o.input, "A file written by quant quantize")->required();
        export_c_app->add_option("-o,--output", o.output, "The header to write, .h or .hpp")->required();
        export_c_app->add_option("--prefix", o.prefix,
                                 "Begins every name in it, so that one program can hold two models");
        export_c_app->add_flag("-f,--force", o.force, "Replace the output if it exists");
        export_c_app->footer(
            "Example:\n"
            "  quant quantize digits.safetensors -o q.safetensors --bits 4\n"
            "  quant export-c q.safetensors -o weights.h --prefix int4_\n"
            "For each quantized tensor: packed codes and where each slice begins in them, scales, zero\n"
            "points, widths, shape (and bias corrections); for others their values. Equal input, equal bytes.");
        add_common(*export_c_app, o);
    }

    void add_compare() {
        auto& o = compare;
        compare_app = app.add_subcommand("compare", "Error of one file's tensors against another's, worst first");
        compare_app->add_option("reference", o.first, "The original; a quantized file is restored first")->required();
        compare_app->add_option("other", o.second, "The file to judge; a quantized file is restored first")->required();
        compare_app->add_option("--min-sqnr", o.min_sqnr, "Exit with code 6 if a tensor has fewer decibels than this");
        const std::string networks = "Two ONNX models: SQNR of every value that both compute";
        compare_app->add_option("--inputs", o.inputs, "What both are run on; as --images of quant evaluate")
            ->group(networks);
        add_preprocess(*compare_app, o.preprocess)->group(networks);
        compare_app->add_option("--samples", o.samples, "How many of the inputs, the first ones")
            ->check(sample_counts)
            ->capture_default_str()
            ->group(networks);
        compare_app->footer("Examples:\n"
                            "  quant compare model.safetensors q.safetensors --min-sqnr 20\n"
                            "  quant compare model.onnx model.int4.onnx --inputs photographs/");
        add_report(*compare_app, o);
        compare_app->add_flag("-f,--force", o.force, "Replace the report if it exists")->needs("--report");
        add_common(*compare_app, o);
    }

    static CLI::Option* add_preprocess(CLI::App& app, std::string& name) {
        return app
            .add_option("--preprocess", name,
                        "imagenet: x / 255, less the usual means, by the usual deviations; unit: x / 255; by-256: "
                        "x / 256; raw: 0...255")
            ->check(CLI::IsMember({"imagenet", "unit", "by-256", "raw"}))
            ->capture_default_str();
    }

    void add_evaluate() {
        auto& o = evaluate;
        evaluate_app =
            app.add_subcommand("evaluate", "Accuracy of an ONNX classifier, float or quantized, on labelled images");
        evaluate_app->add_option("model", o.model, "The model, .onnx")->required();
        evaluate_app
            ->add_option("--images", o.images,
                         "A folder of JPEG files (the middle of each, as large as the model's input), CIFAR-10's .bin, "
                         "MNIST's images.gz, or float32 .npy")
            ->required();
        evaluate_app->add_option("--labels", o.labels,
                                 "Their classes: a CSV whose first line names the columns 'file' and 'class_index' (or "
                                 "'label'), MNIST's labels.gz, or .npy; a .bin holds its own");
        add_preprocess(*evaluate_app, o.preprocess);
        evaluate_app->add_option("--against", o.against,
                                 "A second model on the same images: who is right where, and the exact sign test");
        evaluate_app->add_option("--samples", o.samples, "Only the first so many images (default: all)")
            ->check(sample_counts);
        evaluate_app->add_option("--batch", o.batch, "Images at a time per thread")
            ->check(CLI::Range(1, 4096))
            ->capture_default_str();
        evaluate_app->footer(
            "Examples:\n"
            "  quant evaluate squeezenet.onnx --images photographs/ --labels labels.csv\n"
            "  quant evaluate model.int4.onnx --against model.onnx --images photographs/ --labels labels.csv\n"
            "  quant evaluate lenet.onnx --images t10k-images.gz --labels t10k-labels.gz --preprocess by-256");
        add_report(*evaluate_app, o);
        evaluate_app->add_flag("-f,--force", o.force, "Replace the report if it exists")->needs("--report");
        add_common(*evaluate_app, o);
    }

    void settle_compare() const {
        const bool networks = compare.first.ends_with(".onnx");
        if (networks != compare.second.ends_with(".onnx")) {
            contradiction("a model (.onnx) compares with a model only");
        }
        if (networks && compare.inputs.empty()) {
            contradiction("two models are compared on inputs: --inputs is missing");
        }
        for (const char* option : {"--inputs", "--preprocess", "--samples"}) {
            if (!networks && compare_app->count(option) != 0) {
                contradiction(std::string(option) + " is for ONNX models");
            }
        }
    }

    /// Defaults that depend on other options, and options that do not go together.
    void settle_quantize() {
        auto& o = quantize;
        const auto& c = *quantize_app;
        const auto given = [&](const char* name) { return c.count(name) != 0; };

        for (const char* option :
             {"--format", "--activations", "--calibrate", "--preprocess", "--samples", "--resume"}) {
            if (given(option) && !o.input.ends_with(".onnx")) {
                contradiction(std::string(option) + " is for ONNX models");
            }
        }
        if (o.output.ends_with(".onnx") && !o.input.ends_with(".onnx")) {
            contradiction("'" + printable(o.output) + "': only an ONNX model becomes an ONNX model");
        }
        if (o.activations != 0 && o.calibrate.empty()) {
            contradiction("--activations needs samples to calibrate on: --calibrate is missing");
        }
        for (const char* option : {"--activation-clip", "--float-biases"}) {
            if (given(option) && o.activations == 0) {
                contradiction(std::string(option) + " has no effect without --activations");
            }
        }
        if (!given("--activation-clip")) {
            o.activation_clip = o.activations == 8 ? clip_method::minmax : clip_method::mse;
        }
        for (const char* option : {"--preprocess", "--samples", "--resume"}) {
            if (given(option) && o.calibrate.empty()) {
                contradiction(std::string(option) + " has no effect without --calibrate");
            }
        }
        if (!o.calibrate.empty() && o.activations == 0 && bias_correct_.empty()) {
            contradiction("--calibrate has no effect without --activations or --bias-correct");
        }
        if (given("--resume") && !o.resume.ends_with(".safetensors")) {
            contradiction("--resume " + printable(o.resume) + ": the name must end in .safetensors");
        }
        if (!o.is_signed && !given("--mapping")) {
            o.map = quant::mapping::affine;
        }
        if (o.narrow && !o.is_signed) {
            contradiction(
                "--narrow and --unsigned contradict each other: only signed codes have a lowest code to leave out");
        }
        if (!o.is_signed && o.clip == clip_method::aciq && given("--clip")) {
            contradiction("--clip aciq and --unsigned contradict each other: its range for weights is symmetric");
        }
        if (o.narrow && (o.bits == 1 || (o.average_bits && o.min_bits == 1))) {
            contradiction("--narrow and a width of 1 bit contradict each other: only the code 0 would remain");
        }
        o.axis_given = given("--axis");
        if (per_tensor_) {
            o.granularity = granularity_choice::per_tensor;
        } else if (given("--group-size")) {
            o.granularity = granularity_choice::per_group;
            if (!given("--axis")) {
                o.axis = -1;
            }
        }
        // With eight bits the range is worth more than the resolution, and so it is for a few dozen weights: they have no
        // tails, and a search for each of a million groups would take minutes. Else outliers cost more than they bring.
        if (!given("--clip")) {
            const bool keep = (o.bits == 8 && !o.average_bits) || o.granularity == granularity_choice::per_group;
            o.clip = keep ? clip_method::minmax : clip_method::mse;
        }
        const auto only_with = [&](const char* option, bool condition, const char* what) {
            if (given(option) && !condition) {
                contradiction(std::string(option) + " has no effect without " + what);
            }
        };
        only_with("--percentile", o.clip == clip_method::percentile, "--clip percentile");
        only_with("--activation-percentile", o.activation_clip == clip_method::percentile,
                  "--activation-clip percentile");
        only_with("--prior", o.clip == clip_method::aciq, "--clip aciq");
        only_with("--aciq-mode", o.clip == clip_method::aciq, "--clip aciq");
        only_with("--min-bits", o.average_bits.has_value(), "--average-bits");
        only_with("--max-bits", o.average_bits.has_value(), "--average-bits");
        only_with("--seed", o.round == quant::rounding::stochastic, "--rounding stochastic");
        for (const char* option : {"--planes", "--storage"}) {
            if (given(option) && o.input.ends_with(".onnx")) {
                contradiction(std::string(option) + " is not for ONNX models, whose codes have one place");
            }
        }
        if (o.planes && (!o.is_signed || o.map != quant::mapping::symmetric)) {
            contradiction(std::string("--planes and ") + (o.is_signed ? "--mapping affine" : "--unsigned") +
                          " contradict each other: a plane of magnitudes needs zero to be the code 0");
        }
        if (o.planes && !given("--storage")) {
            o.storage = storage_choice::smaller;
        }
        if (o.average_bits) {
            if (o.granularity != granularity_choice::per_axis) {
                contradiction(
                    "--average-bits needs one scale per channel: it contradicts --per-tensor and --group-size");
            }
            if (o.min_bits > o.max_bits) {
                contradiction("--min-bits is larger than --max-bits");
            }
            if (!(*o.average_bits >= o.min_bits && *o.average_bits <= o.max_bits)) { // NaN neither
                contradiction("--average-bits must lie between --min-bits and --max-bits");
            }
        }
        if (std::isnan(o.percentile) || std::isnan(o.activation_percentile)) {
            contradiction("--percentile must be a number");
        }
        for (const auto* patterns : {&o.include, &o.exclude}) {
            for (const auto& p : *patterns) {
                try {
                    (void)std::regex(p);
                } catch (const std::regex_error&) {
                    contradiction("'" + printable(p) + "' is not a regular expression (ECMAScript)");
                }
            }
        }
        o.correct = correction::none;
        if (!bias_correct_.empty() && bias_correct_ != "false") {
            bool known = false;
            for (const auto& [name, value] : correction_names) {
                if (name == bias_correct_) {
                    o.correct = value;
                    known = true;
                }
            }
            if (!known) {
                contradiction("--bias-correct=" + printable(bias_correct_) + ": must be mean or mean-and-norm");
            }
        }
        if (!given("--keep-sums")) {
            o.keep_sums = o.input.ends_with(".onnx") && (o.bits < 8 || o.average_bits) &&
                          o.correct == correction::none && !given("--rounding");
        } else if (o.keep_sums && (o.correct != correction::none || given("--rounding"))) {
            contradiction(std::string("--keep-sums and ") + (given("--rounding") ? "--rounding" : "--bias-correct") +
                          " contradict each other: it is a way of rounding that leaves nothing to correct");
        }
    }

private:
    std::string bias_correct_;
    std::string onnx_format_;
    bool per_tensor_ = false;
};

} // namespace

int main(int argc, char** argv) {
    return run_program("quant", [&] {
        command_line line;
        if (const auto done = parse_arguments(line.app, argc, argv, "quant --help, quant SUBCOMMAND --help")) {
            return *done;
        }
        const auto command = quoted(std::span(argv, static_cast<std::size_t>(argc)));
        if (line.inspect_app->parsed()) {
            inspect(line.inspect);
        }
        if (line.quantize_app->parsed()) {
            line.settle_quantize();
            line.quantize.command = command;
            quantize(line.quantize);
        }
        if (line.dequantize_app->parsed()) {
            dequantize(line.dequantize);
        }
        if (line.export_c_app->parsed()) {
            export_c(line.export_c);
        }
        if (line.compare_app->parsed()) {
            line.settle_compare();
            line.compare.command = command;
            compare(line.compare);
        }
        if (line.evaluate_app->parsed()) {
            line.evaluate.command = command;
            evaluate(line.evaluate);
        }
        return 0;
    });
}
