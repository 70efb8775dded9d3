// SPDX-License-Identifier: MIT
#pragma once
// How much a layer suffers from being quantized: what goes into the table that quant/calibrate/allocation.hpp allocates from.
// Layer 3 (calibrate).
//
//   auto sse = quant::squared_error(w, restored);                                        // sum (w - w^)^2
//   auto out = quant::output_squared_error(w, restored, moments);                        // sum over rows of d^T G d
//   auto kl = quant::logit_divergence(logits, logits_of_quantized, vocabulary);          // mean over positions
//   auto used = quant::hessian_traces(hvp, sizes, z, hz, traces);                        // Tr(H_ll) / N_l of all layers at once
//   loss[l * options + b] = traces[l] * sse of option b                                  // or weigh_errors for the whole table
//
// All of these estimate the increase of the loss if one layer alone is quantized, in units of their own: one table takes one of them.
// SQNR in decibels is for reports; decibels do not add up.
// Papers: Hutchinson 1990 (trace); Dong et al. 2020, "HAWQ-V2", arXiv 1911.03852 (trace times error); Yao et al. 2020, "PyHessian",
// arXiv 1912.07145 (probes, tolerance).

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/error_measures.hpp>
#include <quant/core/random.hpp>
#include <quant/core/status.hpp>
#include <quant/simd/batch.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_NAMESPACE

/// Of what size a trace is told.
enum class trace_scale : std::uint8_t {
    per_parameter, ///< Tr(H_ll) / N_l: mean curvature, as HAWQ-V3's published notebook multiplies by
    raw,           ///< Tr(H_ll), as Hessian-aware language models multiply by; ranks layers differently
};

/// Options of hessian_traces.
struct trace_options {
    std::size_t max_probes = 100;
    double tolerance = 1e-3; ///< stop when no layer's mean changes by more than this times (|mean| + 1e-6); 0: never
    trace_scale scale = trace_scale::per_parameter;
    std::uint64_t seed = 0;
};

/// Options of top_eigenvalue.
struct eigenvalue_options {
    std::size_t max_iterations = 100;
    double tolerance = 1e-3; ///< stop when the value changes by less than this times its magnitude
    std::uint64_t seed = 0;
};

/// What an iteration over Hessian-vector products came to.
struct curvature {
    double value = 0;           ///< of hessian_traces: of all parameters together, on the scale asked for
    std::size_t iterations = 0; ///< products taken
    bool converged = false;
};

QUANT_END_NAMESPACE
QUANT_BEGIN_TARGET

// ---- errors --------------------------------------------------------------------------------------------------------------

/// Sum of (original - restored)^2. Any layouts, any real element types, read as float.
/// Errors: shape_mismatch "restored", non_finite "original" (in either). Exactness: bit-exact, an exact sum of block sums.
template <class X, class Y>
    requires(detail::real_viewable<X>&& detail::real_viewable<Y>)
[[nodiscard]] inline result<double> squared_error(const X& original, const Y& restored) noexcept {
    error_observer observer;
    if (const status s = observer.observe(original, restored); !s) return s;
    if (observer.state().non_finite != 0) return status{errc::non_finite, "original"};
    return observer.state().squared_error.to_double();
}

/// 10 log10(sum of original^2 / sum of (original - restored)^2) in decibels; +infinity without error.
/// Errors: those of squared_error; no_data "original" (zeros only, or nothing). Exactness: bit-exact.
template <class X, class Y>
    requires(detail::real_viewable<X>&& detail::real_viewable<Y>)
[[nodiscard]] inline result<double> signal_to_noise(const X& original, const Y& restored) noexcept {
    error_observer observer;
    if (const status s = observer.observe(original, restored); !s) return s;
    if (observer.state().non_finite != 0) return status{errc::non_finite, "original"};
    if (observer.state().squared_original.to_double() == 0) return status{errc::no_data, "original"};
    const auto measures = observer.measures();
    if (!measures) return measures.status();
    return measures->sqnr_db;
}

/// E[x x^T] over rows of inputs, for output_squared_error, factor_moments and multipoint fits in the output metric.
/// inputs   [rows, depth], dense, finite        moments  [depth, depth] receives both triangles
/// Errors: shape_mismatch "moments" (not depth^2) or "inputs" (not a multiple of depth), no_data "inputs", non_finite "inputs" (the
/// moments are partly written then). Exactness: deterministic. Cost: rows * depth^2 / 2, no allocation.
[[nodiscard]] inline status input_moments(std::span<const float> inputs, std::size_t depth,
                                          std::span<double> moments) noexcept {
    if (depth == 0 || inputs.size() % depth != 0) return {errc::shape_mismatch, "inputs"};
    if (moments.size() != depth * depth) return {errc::shape_mismatch, "moments"};
    const std::size_t rows = inputs.size() / depth;
    if (rows == 0) return {errc::no_data, "inputs"};
    for (double& m : moments) m = 0;
    for (std::size_t n = 0; n < rows; ++n) {
        const float* const input = inputs.data() + n * depth;
        for (std::size_t i = 0; i < depth; ++i) {
            const double own = static_cast<double>(input[i]);
            if (!(own - own == 0)) return {errc::non_finite, "inputs"};
            double* const row = moments.data() + i * depth;
            for (std::size_t j = 0; j <= i; ++j) row[j] += own * static_cast<double>(input[j]); // exact products
        }
    }
    const auto count = static_cast<double>(rows);
    for (std::size_t i = 0; i < depth; ++i)
        for (std::size_t j = 0; j <= i; ++j) moments[j * depth + i] = moments[i * depth + j] /= count;
    return {};
}

/// d^T G d of one vector: what the error d does to an output, in mean square. Reads the diagonal of `moments` and what is below.
/// Preconditions: moments.size() == error.size()^2. Exactness: bit-exact. Cost: depth^2 / 2.
[[nodiscard]] inline double output_error(std::span<const double> error, std::span<const double> moments) noexcept {
    const std::size_t depth = error.size();
    QUANT_EXPECTS(moments.size() == depth * depth, "output_error: moments are [depth, depth]");
    double total = 0;
    for (std::size_t i = 0; i < depth; ++i) {
        if (error[i] == 0) continue;
        const double* const row = moments.data() + i * depth;
        double parts[4] = {};
        std::size_t j = 0;
        for (; j + 4 <= i; j += 4)
            for (std::size_t k = 0; k < 4; ++k) parts[k] += simd::rounded(row[j + k] * error[j + k]);
        for (; j < i; ++j) parts[j % 4] += simd::rounded(row[j] * error[j]);
        const double below = (parts[0] + parts[1]) + (parts[2] + parts[3]);
        total += simd::rounded(error[i] * (simd::rounded(row[i] * error[i]) + 2 * below));
    }
    return total > 0 ? total : 0;
}

/// Sum over rows of d^T G d, d = original - restored: mean squared error of a layer's outputs, summed over them.
/// original, restored  [rows, depth], dense, finite      moments  [depth, depth], G = E[x x^T], symmetric
/// error               [depth] scratch
/// Errors: shape_mismatch "restored", "moments", "error" or "original" (not a multiple of error.size()); non_finite "original".
/// Exactness: bit-exact. Cost: rows * depth^2 / 2.
[[nodiscard]] inline result<double> output_squared_error(std::span<const float> original,
                                                         std::span<const float> restored,
                                                         std::span<const double> moments,
                                                         std::span<double> error) noexcept {
    const std::size_t depth = error.size();
    if (restored.size() != original.size()) return status{errc::shape_mismatch, "restored"};
    if (depth == 0 || original.size() % depth != 0) return status{errc::shape_mismatch, "original"};
    if (moments.size() != depth * depth) return status{errc::shape_mismatch, "moments"};
    double total = 0;
    for (std::size_t first = 0; first < original.size(); first += depth) {
        for (std::size_t j = 0; j < depth; ++j) {
            error[j] = static_cast<double>(original[first + j]) - static_cast<double>(restored[first + j]);
            if (!(error[j] - error[j] == 0)) return status{errc::non_finite, "original"};
        }
        total += output_error(error, moments);
    }
    return total;
}

// ---- logits --------------------------------------------------------------------------------------------------------------

/// KL(p || q) in nats, averaged over rows: p the softmax of the full network's logits, q that of the quantized one's.
/// full, quantized  [rows, vocabulary], dense; -infinity says that a word is impossible: in `full` its term is 0, in `quantized`
///                  alone it makes the divergence infinite
/// Errors: shape_mismatch "quantized" or "full" (not a multiple of vocabulary), no_data "full", non_finite "full" or "quantized" (NaN,
/// +infinity, or a row without a possible word). Exactness: approximate: double, exp and log of the C library. Never below 0.
[[nodiscard]] inline result<double> logit_divergence(std::span<const float> full, std::span<const float> quantized,
                                                     std::size_t vocabulary) noexcept {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (quantized.size() != full.size()) return status{errc::shape_mismatch, "quantized"};
    if (vocabulary == 0 || full.size() % vocabulary != 0) return status{errc::shape_mismatch, "full"};
    if (full.empty()) return status{errc::no_data, "full"};
    const auto log_of_sum = [&](const float* row, double& value) noexcept {
        double most = -infinity, sum = 0;
        for (std::size_t v = 0; v < vocabulary; ++v) {
            const double z = static_cast<double>(row[v]);
            if (!(z < infinity)) return false;
            most = z > most ? z : most;
        }
        if (!(most > -infinity)) return false;
        for (std::size_t v = 0; v < vocabulary; ++v) sum += std::exp(static_cast<double>(row[v]) - most);
        value = most + std::log(sum);
        return true;
    };
    double total = 0;
    for (std::size_t first = 0; first < full.size(); first += vocabulary) {
        const float *const p = full.data() + first, *const q = quantized.data() + first;
        double p_sum = 0, q_sum = 0, divergence = 0;
        if (!log_of_sum(p, p_sum)) return status{errc::non_finite, "full"};
        if (!log_of_sum(q, q_sum)) return status{errc::non_finite, "quantized"};
        for (std::size_t v = 0; v < vocabulary; ++v) {
            const double log_p = static_cast<double>(p[v]) - p_sum, log_q = static_cast<double>(q[v]) - q_sum;
            const double probability = std::exp(log_p);
            if (probability > 0) divergence += probability * (log_p - log_q);
        }
        total += divergence > 0 ? divergence : 0; // rounding alone can bring it below
    }
    const std::size_t rows = full.size() / vocabulary;
    return total / static_cast<double>(rows);
}

// ---- curvature -----------------------------------------------------------------------------------------------------------

/// A Hessian-vector product from a gradient: (g(theta + e z) - g(theta - e z)) / 2e with e = 1e-3 (1 + ||theta||) / ||z||. Exact, but
/// for rounding, where the loss is quadratic. gradient(parameters, out) takes and fills spans of double and returns nothing.
/// parameters  [n] the point         moved, other  [n] scratch, which must outlive the object
template <class Gradient> class gradient_differences {
public:
    gradient_differences(Gradient gradient, std::span<const double> parameters, std::span<double> moved,
                         std::span<double> other) noexcept
        : gradient_(static_cast<Gradient&&>(gradient)), parameters_(parameters), moved_(moved), other_(other) {
        QUANT_EXPECTS(moved.size() == parameters.size() && other.size() == parameters.size(),
                      "gradient_differences: scratch is as long as the parameters");
    }
    /// out = H z. z of zeros gives zeros. Sizes as the parameters.
    void operator()(std::span<const double> z, std::span<double> out) noexcept {
        double size = 0, length = 0;
        for (const double p : parameters_) size += p * p;
        for (const double v : z) length += v * v;
        if (!(length > 0)) {
            for (double& h : out) h = 0;
            return;
        }
        const double e = 1e-3 * (1 + std::sqrt(size)) / std::sqrt(length);
        for (std::size_t i = 0; i < z.size(); ++i) moved_[i] = parameters_[i] + e * z[i];
        gradient_(std::span<const double>(moved_), out);
        for (std::size_t i = 0; i < z.size(); ++i) moved_[i] = parameters_[i] - e * z[i];
        gradient_(std::span<const double>(moved_), other_);
        for (std::size_t i = 0; i < z.size(); ++i) out[i] = (out[i] - other_[i]) / (2 * e);
    }

private:
    Gradient gradient_;
    std::span<const double> parameters_;
    std::span<double> moved_, other_;
};

/// Traces of the diagonal blocks of the Hessian, of all layers at once, by Hutchinson's estimate: the mean of z_l . (H z)_l over probes
/// z of independent +-1, whose terms across layers have mean zero. The variance of a layer is 2 sum of H_ij^2 off its diagonal, plus the
/// sum of H_ij^2 with i in the layer and j outside: one probe is exact where H is diagonal.
/// hvp     called as hvp(std::span<const double> z, std::span<double> out): out = H z; returns nothing
/// sizes   [layers] parameters of each layer, in the order they have in z; their sum is z.size()
/// z, hz   [parameters] scratch           traces  [layers] receives the estimates, on options.scale; 0 for a layer without parameters
/// Errors: shape_mismatch "sizes", "hz" or "traces"; invalid_argument "options.max_probes" (0) or "options.tolerance" (negative, NaN);
/// non_finite "hvp". Exactness: deterministic for a deterministic hvp. Cost: one hvp per probe, at least 2.
template <class Hvp>
[[nodiscard]] inline result<curvature>
hessian_traces(Hvp&& hvp, std::span<const std::size_t> sizes, std::span<double> z, std::span<double> hz,
               std::span<double> traces, const trace_options& options = {}) noexcept {
    if (hz.size() != z.size()) return status{errc::shape_mismatch, "hz"};
    if (traces.size() != sizes.size()) return status{errc::shape_mismatch, "traces"};
    std::size_t parameters = 0;
    for (const std::size_t n : sizes) {
        if (n > z.size() - parameters) return status{errc::shape_mismatch, "sizes"};
        parameters += n;
    }
    if (parameters != z.size()) return status{errc::shape_mismatch, "sizes"};
    if (options.max_probes == 0) return status{errc::invalid_argument, "options.max_probes"};
    if (!(options.tolerance >= 0)) return status{errc::invalid_argument, "options.tolerance"};
    for (double& t : traces) t = 0;
    curvature out;
    while (out.iterations < options.max_probes && !out.converged) {
        for (std::size_t i = 0; i < z.size(); i += 64) {
            const std::uint64_t signs = random_bits(options.seed, out.iterations, i / 64);
            for (std::size_t k = i; k < z.size() && k < i + 64; ++k) z[k] = (signs >> (k - i) & 1u) != 0 ? 1.0 : -1.0;
        }
        hvp(std::span<const double>(z), hz);
        ++out.iterations;
        out.converged = out.iterations > 1;
        std::size_t at = 0;
        for (std::size_t l = 0; l < sizes.size(); ++l) {
            double sum = 0;
            for (const std::size_t end = at + sizes[l]; at < end; ++at) sum += z[at] * hz[at];
            if (!(sum - sum == 0)) return status{errc::non_finite, "hvp"};
            const double change = (sum - traces[l]) / static_cast<double>(out.iterations);
            traces[l] += change;
            if (!(std::fabs(change) < options.tolerance * (std::fabs(traces[l]) + 1e-6))) out.converged = false;
        }
    }
    for (const double t : traces) out.value += t;
    if (options.scale == trace_scale::per_parameter) {
        for (std::size_t l = 0; l < sizes.size(); ++l)
            if (sizes[l] != 0) traces[l] /= static_cast<double>(sizes[l]);
        if (parameters != 0) out.value /= static_cast<double>(parameters);
    }
    return out;
}

/// The eigenvalue of largest magnitude of one diagonal block of the Hessian, by power iteration; it may be negative. 0 where the block
/// takes every vector to zero. Two eigenvalues of equal magnitude and different sign do not converge.
/// hvp     as for hessian_traces, over all parameters
/// first, count  the block: v is zero outside of it. [first, first + count) within v
/// v, hv   [parameters] scratch; v ends as the eigenvector, of length 1
/// Errors: shape_mismatch "hv", "count"; invalid_argument "options.max_iterations" (0) or "options.tolerance"; non_finite "hvp".
template <class Hvp>
[[nodiscard]] inline result<curvature> top_eigenvalue(Hvp&& hvp, std::size_t first, std::size_t count,
                                                      std::span<double> v, std::span<double> hv,
                                                      const eigenvalue_options& options = {}) noexcept {
    if (hv.size() != v.size()) return status{errc::shape_mismatch, "hv"};
    if (first > v.size() || count > v.size() - first) return status{errc::shape_mismatch, "count"};
    if (options.max_iterations == 0) return status{errc::invalid_argument, "options.max_iterations"};
    if (!(options.tolerance >= 0)) return status{errc::invalid_argument, "options.tolerance"};
    curvature out;
    for (double& x : v) x = 0;
    double length = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double x = static_cast<double>(random_uniform(options.seed, 0, i)) - 0.5 + 0x1p-25; // never zero
        v[first + i] = x;
        length += x * x;
    }
    if (count == 0) {
        out.converged = true;
        return out;
    }
    length = std::sqrt(length);
    for (std::size_t i = 0; i < count; ++i) v[first + i] /= length;
    while (out.iterations < options.max_iterations && !out.converged) {
        hvp(std::span<const double>(v), hv);
        ++out.iterations;
        double value = 0, squares = 0;
        for (std::size_t i = first; i < first + count; ++i) {
            value += v[i] * hv[i];
            squares += hv[i] * hv[i];
        }
        if (!(squares - squares == 0)) return status{errc::non_finite, "hvp"};
        out.converged = out.iterations > 1 && std::fabs(value - out.value) <= options.tolerance * std::fabs(value);
        out.value = value;
        if (squares == 0) {
            out.converged = true;
            break;
        }
        const double norm = std::sqrt(squares);
        for (std::size_t i = first; i < first + count; ++i) v[i] = hv[i] / norm;
    }
    return out;
}

/// Adds the squares of one sample's gradient: after all samples, divided by their number, the diagonal of the empirical Fisher matrix.
/// gradient, fisher  [parameters]. Errors: shape_mismatch "fisher"; non_finite "gradient" (nothing is added then).
[[nodiscard]] inline status add_squared_gradient(std::span<const float> gradient, std::span<double> fisher) noexcept {
    if (fisher.size() != gradient.size()) return {errc::shape_mismatch, "fisher"};
    for (const float g : gradient)
        if (!(g - g == 0)) return {errc::non_finite, "gradient"};
    for (std::size_t i = 0; i < fisher.size(); ++i)
        fisher[i] += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]); // exact products
    return {};
}

/// sum_i fisher_i (original_i - restored_i)^2 / samples. Exactness: bit-exact.
/// Errors: shape_mismatch "restored" or "fisher"; no_data "samples" (0); non_finite "original".
[[nodiscard]] inline result<double> fisher_error(std::span<const double> fisher, std::size_t samples,
                                                 std::span<const float> original,
                                                 std::span<const float> restored) noexcept {
    if (restored.size() != original.size()) return status{errc::shape_mismatch, "restored"};
    if (fisher.size() != original.size()) return status{errc::shape_mismatch, "fisher"};
    if (samples == 0) return status{errc::no_data, "samples"};
    double total = 0;
    for (std::size_t i = 0; i < original.size(); ++i) {
        const double e = static_cast<double>(original[i]) - static_cast<double>(restored[i]);
        total += simd::rounded(fisher[i] * simd::rounded(e * e));
    }
    if (!(total - total == 0)) return status{errc::non_finite, "original"};
    return total / static_cast<double>(samples);
}

// ---- tables --------------------------------------------------------------------------------------------------------------

/// loss[l][b] = weights[l] errors[l][b]: a trace, an eigenvalue or a multiplier of a constraint (a dual variable) times the error.
/// weights  [layers]; negative ones count as 0: quantizing further is no gain
/// errors   [layers, options]          loss  [layers, options], may be `errors`
/// Errors: shape_mismatch "errors" (not a multiple of the layers) or "loss"; non_finite "weights".
[[nodiscard]] inline status weigh_errors(std::span<const double> weights, std::span<const double> errors,
                                         std::span<double> loss) noexcept {
    if (loss.size() != errors.size()) return {errc::shape_mismatch, "loss"};
    if (weights.empty() ? !errors.empty() : errors.size() % weights.size() != 0)
        return {errc::shape_mismatch, "errors"};
    for (const double w : weights)
        if (!(w - w == 0)) return {errc::non_finite, "weights"};
    const std::size_t options = weights.empty() ? 0 : errors.size() / weights.size();
    for (std::size_t l = 0; l < weights.size(); ++l)
        for (std::size_t b = 0; b < options; ++b) {
            const double weight = weights[l] > 0 ? weights[l] : 0, error = errors[l * options + b];
            loss[l * options + b] =
                weight > 0 || error - error == 0 ? weight * error : error; // infinity stays "no such option"
        }
    return {};
}

QUANT_END_TARGET
