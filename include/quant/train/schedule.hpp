// SPDX-License-Identifier: MIT
#pragma once
// What changes over a training run: temperatures, learning rates, and which share of the run is over. Layer 5 (train).
//
//   const quant::exponential_temperature rising{.start = 1, .end = 200, .rising = 0.9};
//   const double beta = rising(step, steps);            // 1 ... 200 over the first 90 %, then held
//   const double rate = quant::cosine_rate{.start = 0.05}(step, steps);
//
// Every schedule is a value with operator()(done, total): the same call for steps and for epochs.

#include <cmath>
#include <quant/core/params.hpp>
#include <quant/core/status.hpp>

QUANT_BEGIN_TARGET

/// The share of a run that is over, in [0, 1]. A run of no steps is over.
[[nodiscard]] QUANT_INLINE double share_done(double done, double total) noexcept {
    if (!(total > 0) || !(done < total)) return 1;
    return done > 0 ? done / total : 0;
}

/// beta(t) = start (end / start)^min(1, t / rising), t the share of the run that is over.
/// Paper: Xiao et al. 2023, arXiv 2212.02770, where it rises once an epoch; per step it is smoother. NaN for a schedule that is not
/// valid, which the verbs that take a temperature refuse.
struct exponential_temperature {
    double start = 1;
    double end = 200;
    double rising = 0.9; ///< share of the run in which it rises, in (0, 1]; then it is held

    [[nodiscard]] inline double operator()(double done, double total) const noexcept;
};

/// rate(t) = end + (start - end) (1 + cos(pi t)) / 2.
struct cosine_rate {
    double start = 0.1;
    double end = 0;

    [[nodiscard]] inline double operator()(double done, double total) const noexcept;
};

/// ok for a temperature that gates can have: positive and finite.
[[nodiscard]] inline status validate_temperature(double temperature) noexcept {
    if (temperature > 0 && core_detail::is_finite(temperature)) return {};
    return {errc::invalid_argument, "temperature"};
}

/// ok when both ends are temperatures and 0 < rising <= 1.
[[nodiscard]] inline status validate(const exponential_temperature& schedule) noexcept {
    if (!validate_temperature(schedule.start)) return {errc::invalid_argument, "schedule.start"};
    if (!validate_temperature(schedule.end)) return {errc::invalid_argument, "schedule.end"};
    if (!(schedule.rising > 0 && schedule.rising <= 1)) return {errc::invalid_argument, "schedule.rising"};
    return {};
}

inline double exponential_temperature::operator()(double done, double total) const noexcept {
    if (!validate(*this)) return std::nan("");
    const double t = share_done(done, total) / rising;
    if (t >= 1) return end; // exactly
    return start * std::pow(end / start, t);
}

inline double cosine_rate::operator()(double done, double total) const noexcept {
    constexpr double pi = 3.14159265358979323846;
    const double t = share_done(done, total);
    if (t >= 1) return end;
    return end + (start - end) * (0.5 * (1 + std::cos(pi * t)));
}

QUANT_END_TARGET
