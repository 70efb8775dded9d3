// SPDX-License-Identifier: MIT
#pragma once
// DropBits: the outer points of a grid are dropped at random while a model trains, level by level, and a penalty on the levels that stay
// finds a width for each layer. Layer 5 (train).
//
//   auto s = quant::dropbits::draw(phi, z, slopes, seed, step);                        // one draw per layer and step, shared by its weights
//   s = quant::dropbits::magnitude_gates(z, gates, bits);                              // Z of each |k|, for quant::cpq
//   … cpq::forward(w, w_hat, grid, gates), your loss, cpq::backward, cpq::add_gate_gradient(…, grad_gates, …) …
//   s = quant::dropbits::gate_gradients(z, slopes, grad_gates, grad_phi, bits);        // written
//   s = quant::dropbits::add_penalty_gradient(phi, grad_phi, strength);                // for heterogeneous widths
//   … at the end: settle(phi, z), magnitude_gates, width_of(phi, bits)
//
// Level 2 of the grid is {-1, 0, 1} and always there; level j adds the |k| from 2^(j-2) to 2^(j-1) - 1. A gate z_j in [0, 1] for
// every level from 3 on, or one for every |k| from 2 on:
//
//   Z_j = prod_(i <= j) z_i,   z = clip(s (zeta - gamma) + gamma, 0, 1),   s = S((ln u - ln(1 - u) + phi) / tau)          (D1)
//   dz/d phi = (zeta - gamma) s (1 - s) / tau inside,   P(z > 0) = S(phi - tau ln(-gamma / zeta))                         (D2)
//   settled:  z = clip(S(phi) (zeta - gamma) + gamma, 0, 1)                                                               (D3)
//   penalty:  sum_j prod_(i <= j) P(z_i > 0)                                                                              (D4)
//
// Papers: Lee et al. 2021, arXiv 2109.02100 (dropping grid points); Louizos et al. 2018, arXiv 1712.01312 (these gates). How the gates
// are tied and their constants are reconstructed.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quant/core/params.hpp>
#include <quant/core/random.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/exponential.hpp>
#include <span>

QUANT_BEGIN_NAMESPACE
namespace dropbits {

/// The stretched sigmoid of (D1): gamma < 0 < 1 < zeta, tau > 0.
struct hard_concrete {
    double gamma = -0.1, zeta = 1.1, tau = 2.0 / 3;
};

/// What a gate belongs to.
enum class sharing : std::uint8_t {
    bits,      ///< a level: all |k| of one more bit
    endpoints, ///< one |k|: the two ends of the grid
};

/// Gates of a grid of 2 to 8 bits: bits - 2, or 2^(bits - 1) - 2.
[[nodiscard]] QUANT_INLINE constexpr std::size_t gate_count(int bits, sharing how = sharing::bits) noexcept {
    return static_cast<std::size_t>(how == sharing::bits ? bits - 2 : (1 << (bits - 1)) - 2);
}

inline namespace QUANT_TARGET_TAG {
namespace detail {

[[nodiscard]] inline double sigmoid(double t) noexcept { return simd::gate_at<double, simd::scalar>(t).value; }
[[nodiscard]] inline status check(const hard_concrete& c) noexcept {
    if (!(c.gamma < 0 && c.gamma > -1e3 && c.zeta > 1 && c.zeta < 1e3 && c.tau > 1e-3 && c.tau < 1e3))
        return {errc::invalid_argument, "constants"};
    return {};
}
[[nodiscard]] inline status check_bits(std::size_t gates, int bits, sharing how) noexcept {
    if (bits < 2 || bits > 8) return {errc::bits_out_of_range, "bits"};
    if (gates != gate_count(bits, how)) return {errc::shape_mismatch, "z"};
    return {};
}
[[nodiscard]] inline double stretched(double s, const hard_concrete& c) noexcept {
    const double z = simd::rounded(s * (c.zeta - c.gamma)) + c.gamma;
    return z < 0 ? 0 : z > 1 ? 1 : z;
}
/// The gate that |k| = m hangs on; -1 for 0 and 1.
[[nodiscard]] inline int gate_of(int m, sharing how) noexcept {
    if (m < 2) return -1;
    if (how == sharing::endpoints) return m - 2;
    int level = 0;
    for (; m > 1; m >>= 1) ++level;
    return level - 1;
}

} // namespace detail

/// z and dz/d phi of (D1) and (D2) for a uniform u in (0, 1).
struct gate_draw {
    double value = 0, slope = 0;
};
[[nodiscard]] inline gate_draw gate_at(double phi, double u, const hard_concrete& c = {}) noexcept {
    const double s = detail::sigmoid((std::log(u) - std::log1p(-u) + phi) / c.tau);
    const double z = detail::stretched(s, c);
    return {z, z > 0 && z < 1 ? (c.zeta - c.gamma) * s * (1 - s) / c.tau : 0.0};
}
/// P(z > 0).
[[nodiscard]] inline double open_probability(double phi, const hard_concrete& c = {}) noexcept {
    return detail::sigmoid(phi - simd::rounded(c.tau * std::log(-c.gamma / c.zeta)));
}
/// (D3).
[[nodiscard]] inline double settled_gate(double phi, const hard_concrete& c = {}) noexcept {
    return detail::stretched(detail::sigmoid(phi), c);
}

/// Gates of one step: u of gate i is random_bits(seed, stream, step * gates + i), in the middle of 2^24 parts of (0, 1).
/// phi  logits       z, slopes  as many, written
/// Errors: shape_mismatch "z", "slopes"; invalid_argument "constants"; non_finite "phi". Complexity: one logarithm and sigmoid a gate.
[[nodiscard]] inline status draw(std::span<const double> phi, std::span<double> z, std::span<double> slopes,
                                 std::uint64_t seed, std::uint64_t stream, std::uint64_t step,
                                 const hard_concrete& c = {}) noexcept {
    if (z.size() != phi.size()) return {errc::shape_mismatch, "z"};
    if (slopes.size() != phi.size()) return {errc::shape_mismatch, "slopes"};
    if (const status s = detail::check(c); !s) return s;
    for (const double p : phi)
        if (!core_detail::is_finite(p)) return {errc::non_finite, "phi"};
    for (std::size_t i = 0; i < phi.size(); ++i) {
        const auto bits = random_bits(seed, stream, step * phi.size() + i) >> 40;
        const gate_draw d = gate_at(phi[i], (static_cast<double>(bits) + 0.5) * 0x1p-24, c);
        z[i] = d.value;
        slopes[i] = d.slope;
    }
    return {};
}

/// The gates of a trained model, (D3). Errors: shape_mismatch "z", invalid_argument "constants".
[[nodiscard]] inline status settle(std::span<const double> phi, std::span<double> z,
                                   const hard_concrete& c = {}) noexcept {
    if (z.size() != phi.size()) return {errc::shape_mismatch, "z"};
    if (const status s = detail::check(c); !s) return s;
    for (std::size_t i = 0; i < phi.size(); ++i) z[i] = settled_gate(phi[i], c);
    return {};
}

/// Z of each |k|, 0 to 2^(bits - 1) - 1: the products of (D1).
/// z  gate_count(bits, how)       gates  2^(bits - 1), written. Errors: bits_out_of_range "bits", shape_mismatch "z", "gates".
template <class T>
[[nodiscard]] inline status magnitude_gates(std::span<const double> z, std::span<T> gates, int bits,
                                            sharing how = sharing::bits) noexcept {
    if (const status s = detail::check_bits(z.size(), bits, how); !s) return s;
    if (gates.size() != std::size_t{1} << (bits - 1)) return {errc::shape_mismatch, "gates"};
    double product = 1;
    int used = -1;
    for (std::size_t m = 0; m < gates.size(); ++m) {
        for (const int gate = detail::gate_of(static_cast<int>(m), how); used < gate;)
            product *= z[static_cast<std::size_t>(++used)];
        gates[m] = static_cast<T>(product);
    }
    return {};
}

/// d loss / d phi from d loss / d Z of each |k| (cpq::add_gate_gradient).
/// z, slopes  of draw       grad_gates  2^(bits - 1)       grad_phi  as many as z, written
/// Errors: bits_out_of_range "bits", shape_mismatch. Complexity: gates squared and 2^bits.
[[nodiscard]] inline status gate_gradients(std::span<const double> z, std::span<const double> slopes,
                                           std::span<const double> grad_gates, std::span<double> grad_phi, int bits,
                                           sharing how = sharing::bits) noexcept {
    if (const status s = detail::check_bits(z.size(), bits, how); !s) return s;
    if (slopes.size() != z.size()) return {errc::shape_mismatch, "slopes"};
    if (grad_phi.size() != z.size()) return {errc::shape_mismatch, "grad_phi"};
    if (grad_gates.size() != std::size_t{1} << (bits - 1)) return {errc::shape_mismatch, "grad_gates"};
    for (double& d : grad_phi) d = 0;
    for (std::size_t m = 2; m < grad_gates.size(); ++m) { // the gradients of Z_j, where those of its |k| add up
        const int gate = detail::gate_of(static_cast<int>(m), how);
        grad_phi[static_cast<std::size_t>(gate)] += grad_gates[m];
    }
    double before = 1; // z_0 … z_(i - 1)
    for (std::size_t i = 0; i < z.size(); ++i) {
        double product = before, sum = 0; // of all factors but z_i
        for (std::size_t j = i; j < z.size(); ++j) {
            if (j != i) product *= z[j];
            sum += simd::rounded(product * grad_phi[j]);
        }
        grad_phi[i] = sum * slopes[i];
        before *= z[i];
    }
    return {};
}

/// (D4) for the gates of one layer: the expected number of levels above the second, of gates that were drawn.
[[nodiscard]] inline double penalty(std::span<const double> phi, const hard_concrete& c = {}) noexcept {
    double product = 1, sum = 0;
    for (const double p : phi) {
        product *= open_probability(p, c);
        sum += product;
    }
    return sum;
}
/// Adds strength times its derivative: d/d phi_i = (1 - P_i) sum_(j >= i) prod_(l <= j) P_l.
/// Errors: shape_mismatch "grad_phi"; invalid_argument "strength" (not finite).
[[nodiscard]] inline status add_penalty_gradient(std::span<const double> phi, std::span<double> grad_phi,
                                                 double strength, const hard_concrete& c = {}) noexcept {
    if (grad_phi.size() != phi.size()) return {errc::shape_mismatch, "grad_phi"};
    if (!core_detail::is_finite(strength)) return {errc::invalid_argument, "strength"};
    double before = 1;
    for (std::size_t i = 0; i < phi.size(); ++i) {
        double product = before, sum = 0;
        for (std::size_t j = i; j < phi.size(); ++j) {
            product *= open_probability(phi[j], c);
            sum += product;
        }
        const double p = open_probability(phi[i], c);
        grad_phi[i] += simd::rounded(strength * (1 - p) * sum);
        before *= p;
    }
    return {};
}

/// Bits of a trained layer: of the largest |k| whose settled Z is above 0; 2 at least.
/// phi  gate_count(bits, how). Errors: bits_out_of_range "bits", shape_mismatch "z".
[[nodiscard]] inline result<int> width_of(std::span<const double> phi, int bits, sharing how = sharing::bits,
                                          const hard_concrete& c = {}) noexcept {
    if (const status s = detail::check_bits(phi.size(), bits, how); !s) return s;
    int live = 1;
    for (int m = 2; m < 1 << (bits - 1); ++m) {
        const int gate = detail::gate_of(m, how);
        if (!(settled_gate(phi[static_cast<std::size_t>(gate)], c) > 0)) break;
        live = m;
    }
    int width = 1;
    for (; live > 0; live >>= 1) ++width;
    return width;
}

} // namespace QUANT_TARGET_TAG
} // namespace dropbits
QUANT_END_NAMESPACE
