// SPDX-License-Identifier: MIT
#include "results.hpp"

#include "../quant/io/atomic_file.hpp"
#include "../report/line_plot.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <span>
#include <sstream>

namespace networks {

namespace {

using quant_report::formatted;
using quant_tool::error;
using quant_tool::exit_code;

constexpr std::string_view rows_header =
    "network,samples,setting,method,weight_bits,activation_bits,ends_at_8_bits,options,mean_weight_bits,top1,top5,"
    "percent,low_95,high_95,lost,gained,p,seconds,note,right";
constexpr std::string_view layers_header =
    "network,options,layer,weights,weight_sqnr_db,own_sqnr_db,value_sqnr_db,width";
constexpr std::array<std::string_view, 5> setting_names{"float", "authors", "integer", "beyond", "onnxruntime"};

/// Texts stay in their cell.
std::string cell_of(std::string_view text) {
    std::string out = quant_tool::printable(text, 300);
    std::replace(out.begin(), out.end(), ',', ';');
    std::replace(out.begin(), out.end(), '"', '\'');
    return out;
}

/// One digit for four samples.
std::string as_hex(std::span<const std::uint8_t> bits) {
    std::string out;
    for (std::size_t i = 0; i < bits.size(); i += 4) {
        unsigned digit = 0;
        for (std::size_t k = 0; k < std::min<std::size_t>(4, bits.size() - i); ++k) digit |= unsigned(bits[i + k]) << k;
        out += "0123456789abcdef"[digit];
    }
    return out;
}

std::vector<std::uint8_t> from_hex(std::string_view text, std::size_t n) {
    if (text.size() != n / 4 + (n % 4 != 0 ? 1 : 0)) throw std::invalid_argument("right");
    std::vector<std::uint8_t> bits;
    for (std::size_t i = 0; i < n; ++i) {
        const auto digit = std::string_view("0123456789abcdef").find(text[i / 4]);
        if (digit == std::string_view::npos) throw std::invalid_argument("right");
        bits.push_back(static_cast<std::uint8_t>(digit >> (i % 4) & 1U));
    }
    return bits;
}

/// Calls take(cells) for every line behind the first, which must be `header`.
template <class F> void read_lines(const std::string& path, std::string_view header, const F& take) {
    if (!std::filesystem::exists(path)) return;
    std::ifstream file(path);
    std::string line;
    const std::string columns(header);
    const auto width = static_cast<std::size_t>(std::count(header.begin(), header.end(), ',')) + 1;
    for (std::size_t number = 1; std::getline(file, line); ++number) {
        if (number == 1 && line == columns) continue;
        std::vector<std::string> cells;
        std::istringstream in(line + ",");
        for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
        try {
            if (number == 1 || cells.size() != width || quant_tool::printable(line, line.size()) != line)
                throw std::invalid_argument("columns");
            take(cells);
        } catch (const std::logic_error&) { // of the numbers' conversions too
            throw error(exit_code::input, path,
                        "line " + std::to_string(number) + " is not what this program writes; move the file away");
        }
    }
    if (!file.eof()) throw error(exit_code::input, path, "cannot be read");
}

} // namespace

row make_row(const key& k, const evaluation::accuracy& a, double mean_weight_bits, double seconds) {
    return {k, mean_weight_bits, a.top1, a.top5, seconds, {}, a.right};
}
row refused(const key& k, std::string_view why) { return {k, 0.0, 0, 0, 0.0, cell_of(why), {}}; }

row without_first(row r, std::size_t n) {
    n = std::min(n, r.right.size());
    r.right.erase(r.right.begin(), r.right.begin() + static_cast<std::ptrdiff_t>(n));
    r.samples -= n;
    r.top1 = static_cast<std::size_t>(std::count(r.right.begin(), r.right.end(), std::uint8_t{1}));
    r.top5 = 0; // not kept by sample
    return r;
}

difference compare(const row& first, const row& second) {
    const auto [lost, gained, changed, p] = evaluation::compare(first.right, second.right);
    const auto n = static_cast<double>(std::min(first.right.size(), second.right.size()));
    const double points = n == 0.0 ? 0.0 : 100.0 * (static_cast<double>(lost) - static_cast<double>(gained)) / n;
    return {lost, gained, points, p};
}

store::store(const std::filesystem::path& folder)
    : rows_path_(folder / "networks.csv"), layers_path_(folder / "layers.csv") {
    read_lines(rows_path_, rows_header, [&](const std::vector<std::string>& c) {
        row r;
        const auto known = std::find(setting_names.begin(), setting_names.end(), c[2]);
        if (known == setting_names.end()) throw std::invalid_argument("setting");
        r.network = c[0];
        r.samples = std::stoul(c[1]);
        r.setting = static_cast<setting>(known - setting_names.begin());
        r.method = c[3];
        r.weight_bits = static_cast<unsigned>(std::stoul(c[4]));
        r.activation_bits = static_cast<unsigned>(std::stoul(c[5]));
        r.exempt = c[6] == "1";
        r.options = c[7];
        r.mean_weight_bits = std::stod(c[8]);
        r.top1 = std::stoul(c[9]);
        r.top5 = std::stoul(c[10]);
        r.seconds = std::stod(c[17]);
        r.note = c[18];
        if (r.note.empty()) r.right = from_hex(c[19], r.samples);
        rows_.push_back(std::move(r));
    });
    read_lines(layers_path_, layers_header, [&](const std::vector<std::string>& c) {
        layers_.push_back({c[0], c[1], c[2], std::stoul(c[3]), std::stod(c[4]), std::stod(c[5]), std::stod(c[6]),
                           static_cast<unsigned>(std::stoul(c[7]))});
    });
}

const row* store::find(const key& k) const {
    const auto found = std::find(rows_.begin(), rows_.end(), k);
    return found == rows_.end() ? nullptr : &*found;
}

void store::add(row r) {
    rows_.push_back(std::move(r));
    std::string text = std::string(rows_header) + "\n";
    for (const row& one : rows_) {
        const auto [low, high] = evaluation::confidence_interval(one.top1, one.samples);
        difference d;
        for (const row& other : rows_)
            if (other.network == one.network && other.setting == setting::reference) d = compare(other, one);
        text += formatted("%s,%zu,%s,%s,%u,%u,%d,%s,%.4f,%zu,%zu,%.2f,%.2f,%.2f,%zu,%zu,%.4g,%.2f,%s,%s\n",
                          one.network.c_str(), one.samples,
                          std::string(setting_names[static_cast<std::size_t>(one.setting)]).c_str(), one.method.c_str(),
                          one.weight_bits, one.activation_bits, int(one.exempt), one.options.c_str(),
                          one.mean_weight_bits, one.top1, one.top5, one.percent(), low, high, d.lost, d.gained, d.p,
                          one.seconds, one.note.c_str(), as_hex(one.right).c_str());
    }
    write_text(rows_path_, text);
}

std::vector<layer_row> store::layers(const std::string& network, const std::string& options) const {
    std::vector<layer_row> out;
    for (const layer_row& l : layers_)
        if (l.network == network && l.options == options) out.push_back(l);
    return out;
}

void store::set_layers(const std::vector<layer_row>& of_one_network) {
    std::erase_if(layers_, [&](const layer_row& l) { return l.network == of_one_network.front().network; });
    for (layer_row l : of_one_network) {
        l.layer = cell_of(l.layer); // once: what was read is a cell already
        layers_.push_back(std::move(l));
    }
    std::string text = std::string(layers_header) + "\n";
    for (const layer_row& l : layers_)
        text += formatted("%s,%s,%s,%zu,%.3f,%.3f,%.3f,%u\n", l.network.c_str(), l.options.c_str(), l.layer.c_str(),
                          l.weights, l.weight_sqnr, l.own_sqnr, l.value_sqnr, l.width);
    write_text(layers_path_, text);
}

void write_text(const std::string& path, std::string_view text) {
    quant_tool::atomic_file file(path, quant_tool::overwrite::yes);
    file.write(text);
    file.commit();
}

} // namespace networks
