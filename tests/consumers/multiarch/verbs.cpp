// SPDX-License-Identifier: MIT
// Compiled once per instruction set. Uses much of the library, so that a function that files of different flags share would be here.
#include "verbs.hpp"
#include <array>
#include <cstddef>
#include <cstring>
#include <quant/aciq.hpp>
#include <quant/dispatch.hpp>
#include <quant/dynamic.hpp>
#include <quant/packing.hpp>
#include <span>

namespace {

struct fnv {
    std::uint64_t value = 14695981039346656037U;
    template <class T> void add(std::span<const T> data) noexcept {
        for (const std::byte b : std::as_bytes(data)) value = (value ^ static_cast<std::uint64_t>(b)) * 1099511628211U;
    }
};

} // namespace

template <class Arch> std::uint64_t verbs() noexcept {
    constexpr std::size_t channels = 3, length = 701, size = channels * length;
    std::array<float, size> x{}, y{};
    std::array<std::int8_t, size> codes{};
    std::array<std::byte, size> packed{};
    std::array<quant::affine_params, channels> params{};
    for (std::size_t i = 0; i < size; ++i) x[i] = static_cast<float>(static_cast<int>(i * 7919 % 2003) - 1001) / 500.0f;
    fnv hash;

    const auto one = quant::quantize(x, codes);
    if (!one) return 0;
    quant::dequantize(codes, y, *one);
    hash.add(std::span<const std::int8_t>(codes));
    hash.add(std::span<const float>(y));

    quant::moments_observer moments;
    moments.observe(std::span<const float>(x));
    const auto range = quant::aciq(quant::prior::laplace).clip(moments, quant::int4);
    if (!range) return 0;
    const std::array<double, 2> ends{range->lo, range->hi};
    hash.add(std::span<const double>(ends));

    const auto rows = quant::view(x, channels, length);
    bool good = quant::quantize_dynamic(rows, quant::view(codes, channels, length), params, quant::per_axis(0)) &&
                quant::pack_codes(codes, packed, quant::int8);
    hash.add(std::span<const std::byte>(packed));
    quant::fake_quant(x, y, *one);
    hash.add(std::span<const float>(y));
    return good ? hash.value : 0;
}

template std::uint64_t verbs<quant::simd::native>() noexcept;
