// SPDX-License-Identifier: MIT
#pragma once
// The named choices a quantizer leaves to its user, with the defaults an expert would take. Layer 1 (core).

#include <cstddef>
#include <cstdint>
#include <quant/config.hpp>

QUANT_BEGIN_NAMESPACE

/// How a real quotient becomes an integer.
enum class rounding : std::uint8_t {
    nearest_even,    ///< nearest, ties to even (IEEE default, ONNX, PyTorch)
    half_away,       ///< nearest, ties away from zero (TFLite reference, ncnn)
    toward_negative, ///< floor
    stochastic, ///< floor plus one with the probability of the fraction; decided by (seed, stream, element index) alone
};

/// How a real value is brought to code units.
enum class scale_by : std::uint8_t {
    division,   ///< x / scale, correctly rounded (ONNX)
    reciprocal, ///< x * (1 / scale), both correctly rounded (PyTorch, FBGEMM, XNNPACK)
};

/// Whether zero sits in the middle of the codes or wherever the range puts it.
enum class mapping : std::uint8_t {
    symmetric, ///< zero_point = 0
    affine,    ///< zero_point chosen so that [lo, hi] fills the codes
};

/// What the caller knows about NaN in the input.
enum class nan_policy : std::uint8_t {
    to_zero_point, ///< NaN becomes the code of zero
    unchecked,     ///< the caller has proved that there is none; a NaN then becomes an unspecified code in [qmin, qmax]
};

/// How a result is written: a matter of speed alone, never of its bytes (simd/memory.hpp).
/// automatic: results larger than `stream_above` bytes go past the caches; the default is the last-level cache of today's servers,
/// a program that knows its machine says {.stream_above = its size}. cached, streaming: never, always.
struct store_policy {
    std::size_t stream_above = std::size_t{1} << 25; // 32 MiB, 2^25
    static const store_policy automatic, cached, streaming;
    friend constexpr bool operator==(const store_policy&, const store_policy&) = default;
};
inline constexpr store_policy store_policy::automatic{};
inline constexpr store_policy store_policy::cached{static_cast<std::size_t>(-1)};
inline constexpr store_policy store_policy::streaming{0};

/// When statistics of an activation were taken, relative to the ReLU that follows it.
enum class statistics : std::uint8_t { unspecified, before_relu, after_relu };

/// Options of one quantize, dequantize or fake_quant call.
struct quantize_options {
    rounding round = rounding::nearest_even;
    scale_by divide = scale_by::division;
    nan_policy nan = nan_policy::to_zero_point;
    store_policy stores{};    ///< ordinary or streaming stores
    std::uint64_t seed = 0;   ///< stochastic rounding only
    std::uint64_t stream = 0; ///< stochastic rounding only: separates tensors that share a seed
    std::uint64_t first_index =
        0; ///< stochastic rounding only: index of the first element, for a tensor split over calls
};

QUANT_END_NAMESPACE
