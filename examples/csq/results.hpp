// SPDX-License-Identifier: MIT
#pragma once

// Finished runs and the file that keeps them: a line that says which experiment it is, then one line per run. Written whole after every run.

#include "../quant/io/atomic_file.hpp"
#include "../report/line_plot.hpp"
#include "storage.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace csq_example {

struct key {
    bool choose = false; ///< learned without the rows kept for choosing, asked those; else asked the unseen rows
    std::string arm;
    double setting = 0;
    std::size_t candidate = 0, seed = 0;
    friend bool operator<(const key& a, const key& b) {
        return std::tie(a.choose, a.arm, a.setting, a.candidate, a.seed) <
               std::tie(b.choose, b.arm, b.setting, b.candidate, b.seed);
    }
};

struct outcome {
    model_size size;
    double percent = 0;         ///< right answers
    double integer_percent = 0; ///< the same from planes and activations of 8 bits
    std::size_t different = 0;  ///< samples whose outputs differ between planes and plain integers
    std::size_t bytes = 0;      ///< of all planes by the library's formula
    std::size_t file_bytes = 0; ///< of the planes in a file
    std::string layers;         ///< planes at the end, "3 1 2"
    std::string course;         ///< planes of the layers at the beginning of every epoch, "8 8 8,7 8 8,..."
};

/// May be used by several threads.
class store {
public:
    /// Empty path: nothing is kept. Throws where the file is not one of this experiment.
    store(std::string path, const std::string& experiment) : path_(std::move(path)), title_("csq 1\t" + experiment) {
        if (path_.empty() || !std::filesystem::exists(path_)) return;
        std::ifstream in(path_, std::ios::binary);
        std::stringstream text;
        text << in.rdbuf();
        if (!in) fail("cannot be read");
        std::string all = text.str(), line;
        if (all.substr(0, all.find('\n')) != title_)
            fail("holds no results of this experiment (" + experiment + "); move the file away");
        if (all.back() != '\n') fail("is truncated; move the file away");
        text.seekg(static_cast<std::streamoff>(title_.size() + 1));
        for (std::size_t number = 2; std::getline(text, line); ++number)
            if (!take(line)) fail("line " + std::to_string(number) + " is not what this program writes; move it away");
    }
    [[nodiscard]] bool has(const key& k) const {
        const std::lock_guard lock(guard_);
        return found_.count(k) != 0;
    }
    [[nodiscard]] const outcome* find(const key& k) const {
        const auto at = found_.find(k);
        return at == found_.end() ? nullptr : &at->second;
    }
    void add(const key& k, const outcome& o) {
        const std::lock_guard lock(guard_);
        found_[k] = o;
        if (path_.empty()) return;
        std::string all = title_ + '\n';
        for (const auto& [key, one] : found_) all += line_of(key, one);
        quant_tool::atomic_file file(path_, quant_tool::overwrite::yes);
        file.write(all);
        file.commit();
    }

private:
    [[noreturn]] void fail(const std::string& what) const {
        throw quant_tool::error(quant_tool::exit_code::input, path_, what);
    }
    static std::string line_of(const key& k, const outcome& o) {
        using quant_report::formatted;
        return formatted("%s\t%s\t%.6g\t%zu\t%zu\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%zu\t%zu\t%zu\t%s\t%s\n",
                         k.choose ? "choose" : "test", k.arm.c_str(), k.setting, k.candidate, k.seed, o.size.planes,
                         o.size.stored, o.size.dense, o.percent, o.integer_percent, o.different, o.bytes, o.file_bytes,
                         o.layers.c_str(), o.course.c_str());
    }
    bool take(const std::string& line) {
        if (std::ranges::any_of(line, [](char c) { return c == '\0'; })) return false; // what is written ends there
        std::vector<std::string> cells;
        std::istringstream in(line);
        for (std::string cell; std::getline(in, cell, '\t');) cells.push_back(cell);
        if (cells.size() != 15 || (cells[0] != "choose" && cells[0] != "test")) return false;
        key k{cells[0] == "choose", cells[1]};
        outcome o;
        o.layers = cells[13], o.course = cells[14];
        std::istringstream numbers;
        for (std::size_t i = 2; i < 13; ++i) cells[2] += i == 2 ? "" : ' ' + cells[i];
        numbers.str(cells[2]);
        numbers >> k.setting >> k.candidate >> k.seed >> o.size.planes >> o.size.stored >> o.size.dense >> o.percent >>
            o.integer_percent >> o.different >> o.bytes >> o.file_bytes;
        if (!numbers || !numbers.eof()) return false;
        found_[k] = o;
        return true;
    }
    std::string path_, title_;
    std::map<key, outcome> found_;
    mutable std::mutex guard_;
};

} // namespace csq_example
