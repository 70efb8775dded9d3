// SPDX-License-Identifier: MIT
#pragma once

// What the runs say: the table of all arms, the criteria, the best mixed recipe at every size, pictures.

#include "../nn/confidence.hpp"
#include "../report/line_plot.hpp"
#include "plan.hpp"
#include "results.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace csq_example {

/// The candidate that did best on the rows kept for choosing.
struct choice {
    std::size_t candidate = 0;
    double percent = -1, stored = 0; ///< there; -1: nothing was chosen
};
using choices = std::map<std::pair<std::string, double>, choice>;

/// An arm at one setting over all seeds.
struct point {
    const entry* arm = nullptr;
    double setting = 0;
    choice chosen;
    std::vector<const outcome*> runs; ///< by seed

    template <class F> [[nodiscard]] std::vector<double> values(const F& of) const {
        std::vector<double> all;
        for (const outcome* o : runs) all.push_back(of(*o));
        return all;
    }
    [[nodiscard]] nn::mean_and_spread percent() const {
        return nn::mean_of(values([](const outcome& o) { return o.percent; }));
    }
    [[nodiscard]] double integer_percent() const {
        return nn::mean_of(values([](const outcome& o) { return o.integer_percent; })).mean;
    }
    [[nodiscard]] double planes() const {
        return nn::mean_of(values([](const outcome& o) { return o.size.planes; })).mean;
    }
    [[nodiscard]] double stored() const {
        return nn::mean_of(values([](const outcome& o) { return o.size.stored; })).mean;
    }
    [[nodiscard]] double bytes() const {
        return nn::mean_of(values([](const outcome& o) { return static_cast<double>(o.file_bytes); })).mean;
    }
};
/// By how much the first is above the second, seed by seed.
inline nn::mean_and_spread difference(const point& a, const point& b) {
    std::vector<double> all;
    for (std::size_t s = 0; s < a.runs.size(); ++s) all.push_back(a.runs[s]->percent - b.runs[s]->percent);
    return nn::mean_of(all);
}

struct summary {
    std::vector<point> points;

    summary(const store& results, const choices& chosen, std::size_t seeds) {
        for (const entry& e : plan())
            for (const double setting : e.settings) {
                point p{&e, setting, chosen.at({e.name, setting}), {}};
                for (std::size_t s = 0; s < seeds; ++s)
                    p.runs.push_back(results.find({false, e.name, setting, p.chosen.candidate, s}));
                points.push_back(std::move(p));
            }
    }
    [[nodiscard]] std::vector<const point*> of(const std::string& name) const {
        std::vector<const point*> all;
        for (const point& p : points)
            if (p.arm->name == name) all.push_back(&p);
        return all;
    }
    [[nodiscard]] const point& at(const std::string& name, double setting) const {
        for (const point& p : points)
            if (p.arm->name == name && p.setting == setting) return p;
        throw std::logic_error(name);
    }
};

struct criterion {
    std::string name, figure;
    bool holds = false;
    bool is_open = false; ///< nothing to judge
};

/// The success criteria of docs/bit_level.md.
inline std::vector<criterion> criteria(const summary& s) {
    using quant_report::formatted;
    std::vector<criterion> all;
    { // 1
        std::string figure;
        bool holds = true, none = true;
        for (const point* b : s.of(bsq_name)) {
            if (b->planes() < 3 || b->planes() > 6) continue;
            none = false;
            const point* best = nullptr;
            for (const point* c : s.of(csq_name))
                if (c->planes() <= 0.6 * b->planes() && (!best || c->percent().mean > best->percent().mean)) best = c;
            holds = holds && best && best->percent().mean >= b->percent().mean - 0.2;
            figure += formatted("%sBSQ %.2f planes %.2f %%: CSQ ", figure.empty() ? "" : "; ", b->planes(),
                                b->percent().mean);
            figure += best ? formatted("%.2f, %+.2f", best->planes(), difference(*best, *b).mean) : "none so small";
        }
        double worst = 100; // of a run, against the mean of its setting
        for (const point* c : s.of(csq_name))
            for (const outcome* o : c->runs) worst = std::min(worst, o->percent - c->percent().mean);
        holds = holds && worst > -10;
        figure += formatted("%sworst CSQ seed %+.2f from its mean",
                            figure.empty() ? "no BSQ point of 3 to 6 planes; " : "; ", worst);
        all.push_back(
            {"1 BSQ: CSQ within 0.2 points at 60 % of its planes, no seed collapses", figure, holds, none && holds});
    }
    { // 2
        const point& uniform = s.at(largest_name, 2);
        const point* best = nullptr;
        for (const point* c : s.of(csq_name))
            if (c->planes() <= 2.05 && (!best || c->percent().mean > best->percent().mean)) best = c;
        const nn::mean_and_spread d = best ? difference(*best, uniform) : nn::mean_and_spread{};
        all.push_back({"2 largest weight: CSQ at 2.05 planes or fewer at least 3 points above 2 uniform planes",
                       best ? formatted("%.2f planes: %+.2f +- %.2f", best->planes(), d.mean, d.half) : "no such point",
                       best && d.mean >= 3});
    }
    { // 3
        const point &one = s.at(learned_name, 1), &two = s.at(learned_name, 2);
        std::string figure;
        bool holds = true, any = false;
        for (const point* c : s.of(csq_name)) {
            if (c->planes() < 1.2 || c->planes() > 1.8) continue;
            any = true;
            std::vector<double> above;
            for (std::size_t k = 0; k < c->runs.size(); ++k) {
                const double share = std::clamp(c->runs[k]->size.planes - 1, 0.0, 1.0);
                above.push_back(c->runs[k]->percent - (1 - share) * one.runs[k]->percent -
                                share * two.runs[k]->percent);
            }
            const nn::mean_and_spread d = nn::mean_of(above);
            holds = holds && d.mean >= 0.5;
            figure +=
                formatted("%s%.2f planes: %+.2f +- %.2f", figure.empty() ? "" : "; ", c->planes(), d.mean, d.half);
        }
        all.push_back({"3 learned step: CSQ at 1.2 to 1.8 planes at least 0.5 points above the line from 1 to 2",
                       any ? figure : "no such point", any && holds, !any});
    }
    { // 4
        std::string figure;
        bool holds = true;
        for (const double target : {1.5, 2.0, 3.0}) {
            const point& c = s.at(csq_name, target);
            double worst = 0;
            for (const outcome* o : c.runs) worst = std::max(worst, std::abs(o->size.planes - target));
            holds = holds && std::abs(c.planes() - target) <= 0.25;
            figure +=
                formatted("%s%g: %.2f (worst seed %.2f off)", figure.empty() ? "" : "; ", target, c.planes(), worst);
        }
        all.push_back({"4 budget: planes within 0.25 of 1.5, 2 and 3", figure, holds});
    }
    { // 5: codes that are not the weights have ended the program before
        std::size_t different = 0, models = 0;
        for (const point& p : s.points)
            for (const outcome* o : p.runs) {
                if (o->bytes == 0) continue;
                different += o->different;
                ++models;
            }
        all.push_back({"5 exactness: codes times scale are the weights, planes answer as plain integers",
                       formatted("%zu models, %zu samples with different outputs", models, different), different == 0});
    }
    { // 6
        bool holds = true;
        std::string figure;
        for (const std::string& name : {csq_name, csq_fixed_name}) {
            double last = 0;
            for (const point* c : s.of(name)) {
                for (const outcome* o : c->runs) holds = holds && o->bytes == o->file_bytes;
                holds = holds && c->bytes() > last;
                last = c->bytes();
                figure += formatted("%s%g: %.0f", figure.empty() ? "" : ", ", c->setting, last);
            }
        }
        all.push_back({"6 size: bytes in the file are the formula's and fall with the target", figure, holds});
    }
    return all;
}

inline std::string as_text(const summary& s, const std::string& name, std::size_t epochs) {
    using quant_report::formatted;
    std::string text = formatted("%s, %zu epochs, %zu seeds\n\n%-30s %8s %7s %7s %7s %16s %8s %8s  %s\n", name.c_str(),
                                 epochs, s.points.front().runs.size(), "", "asked", "planes", "stored", "dense",
                                 "unseen, % (sd)", "8-bit x", "chosen", "planes by layer, first seed");
    for (const point& p : s.points) {
        const nn::mean_and_spread percent = p.percent();
        const double dense = nn::mean_of(p.values([](const outcome& o) { return o.size.dense; })).mean;
        text += formatted("%-30s %8g %7.2f %7.2f %7.2f %9.2f (%.2f) %8.2f %8s  %s\n", p.arm->name.c_str(), p.setting,
                          p.planes(), p.stored(), dense, percent.mean, percent.deviation, p.integer_percent(),
                          p.chosen.percent < 0 ? "-" : formatted("%zu", p.chosen.candidate + 1).c_str(),
                          p.runs.front()->layers.c_str());
    }

    text += "\nAt equal stored bits: the mixed recipe that the rows for choosing prefer, above every uniform arm "
            "(paired, 95 %)\n";
    for (const double size : {2.0, 3.0, 4.0, 5.0}) {
        const point* best = nullptr;
        for (const point& p : s.points)
            if (p.arm->family == family::mixed && p.stored() <= size + 0.02 && p.chosen.percent >= 0 &&
                (!best || p.chosen.percent > best->chosen.percent))
                best = &p;
        if (!best) continue;
        text += formatted("%g bits: %s %g, %.2f stored, %.2f %%\n", size, best->arm->name.c_str(), best->setting,
                          best->stored(), best->percent().mean);
        for (const point& p : s.points) {
            if (p.arm->family != family::uniform || p.stored() > size + 0.02 || p.stored() < size - 0.5) continue;
            const nn::mean_and_spread d = difference(*best, p);
            text += formatted("    %+6.2f +- %.2f  over %s, %.2f stored, %.2f %%\n", d.mean, d.half,
                              p.arm->name.c_str(), p.stored(), p.percent().mean);
        }
    }

    text += "\nCriteria\n";
    for (const criterion& c : criteria(s))
        text += formatted("%-7s %s\n        %s\n",
                          c.is_open ? "open"
                          : c.holds ? "holds"
                                    : "MISSED",
                          c.name.c_str(), c.figure.c_str());
    return text;
}

/// accuracy.svg: accuracy against stored bits; planes.svg: planes of the layers over the epochs of CSQ, target 2, first seed.
inline void write_pictures(const summary& s, const std::string& folder) {
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    if (failed) throw quant_tool::error(quant_tool::exit_code::output, folder, "cannot be made a folder");
    const auto write = [&](const std::string& name, const std::string& text) {
        quant_tool::atomic_file file((std::filesystem::path(folder) / name).string(), quant_tool::overwrite::yes);
        file.write(text);
        file.commit();
    };
    const double reference = s.at(float_name, 0).percent().mean;
    const double top = std::floor(reference) + 2;
    quant_report::line_plot accuracy{quant_report::number_axis(1, 8, 1, "stored bits per weight"),
                                     quant_report::number_axis(top - 10, top, 2, "right answers, %")};
    for (const entry& e : plan()) {
        if (e.family == family::reference) continue;
        quant_report::line_plot::line line{e.name};
        for (const point* p : s.of(e.name)) line.points.emplace_back(p->stored(), p->percent().mean);
        std::sort(line.points.begin(), line.points.end());
        if (e.family == family::uniform) line.drawn = quant_report::line_plot::stroke::dashed;
        accuracy.lines.push_back(std::move(line));
    }
    accuracy.lines.push_back(level(accuracy, "float", reference));
    write("accuracy.svg", as_svg(accuracy));

    const outcome& run = *s.at(csq_name, 2).runs.front();
    std::vector<quant_report::line_plot::line> courses;
    std::istringstream epochs(run.course);
    double epoch = 0;
    for (std::string at; std::getline(epochs, at, ','); ++epoch) {
        std::istringstream now(at);
        double value = 0;
        for (std::size_t l = 0; now >> value; ++l) {
            if (l == courses.size()) courses.push_back({"layer " + std::to_string(l + 1)});
            courses[l].dots = false;
            courses[l].points.emplace_back(epoch, value);
        }
    }
    const double last = std::max(1.0, epoch - 1);
    write("planes.svg",
          quant_report::as_svg({quant_report::number_axis(0, last, std::max(1.0, std::floor(last / 5)), "epoch"),
                                quant_report::number_axis(0, 8, 1, "planes"), std::move(courses)}));
}

} // namespace csq_example
