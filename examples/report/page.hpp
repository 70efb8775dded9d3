// SPDX-License-Identifier: MIT
#pragma once
// One HTML page about a set of tensors or layers, from plain data: headline figures, quantities before and after, one chart per
// figure of a row, a sortable table, a histogram per row. The page is one file that asks the network for nothing; it stands in
// page.html, this part fills it in. Texts may hold anything: they are escaped here.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace quant_report {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// "Average bits", "4.02", "of 8 tensors".
struct fact {
    std::string label, value, note{};
};

/// One bar of a measure: a state of the network, its value, and its interval of confidence where there is one.
struct reading {
    std::string label;
    std::string text; ///< the value as it is shown
    double value = 0;
    double low = unknown, high = unknown;
};
/// Something with a zero that is compared between states: the size, an accuracy. `full` is the length of the whole bar.
struct measure {
    std::string title;
    double full = 1;
    std::vector<reading> readings;
};

struct column {
    std::string title;
    bool is_number = true; ///< right-aligned; texts are left-aligned
};
struct cell {
    std::string text;
    double key = unknown; ///< what a column of numbers is sorted by; unknown goes last
};

/// At most this many bins are drawn of one tensor.
inline constexpr std::size_t max_bins = 128;
/// More codes than this are drawn as one line, not one by one.
inline constexpr std::size_t max_levels = 64;

/// Counts of equal bins, the first from `first` to `first + width`.
struct histogram {
    double first = 0, width = 1;
    std::vector<std::uint64_t> counts;
};
/// Where the codes of a tensor lie: those of the slice whose range has the middle width, and how far the others reach.
struct code_range {
    double low = 0, high = 0;       ///< what the slice keeps
    double lowest = 0, highest = 0; ///< of all slices
    std::vector<double> levels;     ///< the values its codes stand for; none where they are too many to be told apart
    std::size_t slices = 1;
};
/// The values of a tensor, drawn filled; those it is compared with, drawn as an outline.
struct picture {
    histogram values;
    std::optional<histogram> others{}; ///< of the same bins
    std::optional<code_range> codes{};
};

struct row {
    std::string name;
    std::vector<cell> cells; ///< one per column
    std::string caption{};   ///< under the histogram's name
    std::optional<picture> drawn{};
};

/// A bar for every row, in the rows' order.
struct chart {
    std::string title, unit;
    std::vector<double> values; ///< one per row; infinite: a full bar; unknown: none
};

struct page {
    std::string title{};   ///< what was done
    std::string subject{}; ///< to which files
    std::string command{}; ///< the command line
    std::string made_by{}; ///< the program and its version
    std::string row_name = "tensor";
    std::string rows_title = "Tensors";
    std::string values_are = "values"; ///< what the filled histograms count
    std::string others_are{};          ///< what the outlines count
    std::vector<fact> facts{};
    std::vector<measure> measures{};
    std::vector<chart> charts{};
    std::vector<column> columns{}; ///< after the name
    std::vector<row> rows{};
    std::vector<std::string> notes{};
};

/// The whole file.
[[nodiscard]] std::string render(const page& p);

} // namespace quant_report
