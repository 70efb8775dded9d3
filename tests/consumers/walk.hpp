// SPDX-License-Identifier: MIT
#pragma once
// A walk through the library, for programs that get it in different ways and must get the same bytes. The headers come before.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace {

/// FNV-1a of everything the walk writes; 0 if a call failed.
inline std::uint64_t walk() noexcept {
    constexpr std::size_t channels = 3, length = 701, size = channels * length;
    std::array<float, size> x{}, y{};
    std::array<std::int8_t, size> codes{};
    std::array<std::byte, size> packed{};
    std::array<quant::affine_params, channels> params{};
    for (std::size_t i = 0; i < size; ++i) x[i] = static_cast<float>(static_cast<int>(i * 7919 % 2003) - 1001) / 500.0f;
    std::uint64_t hash = 14695981039346656037U;
    const auto add = [&hash](std::span<const std::byte> data) {
        for (const std::byte b : data) hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 1099511628211U;
    };

    const auto one = quant::quantize(x, codes);
    if (!one) return 0;
    quant::dequantize(codes, y, *one);
    add(std::as_bytes(std::span(codes)));
    add(std::as_bytes(std::span(y)));

    quant::moments_observer moments;
    moments.observe(std::span<const float>(x));
    const auto range = quant::aciq(quant::prior::laplace).clip(moments, quant::int4);
    if (!range) return 0;
    const std::array<double, 2> ends{range->lo, range->hi};
    add(std::as_bytes(std::span(ends)));

    const auto rows = quant::view(x, channels, length);
    const bool good = quant::quantize_dynamic(rows, quant::view(codes, channels, length), params, quant::per_axis(0)) &&
                      quant::pack_codes(codes, packed, quant::int8);
    add(packed);
    quant::fake_quant(x, y, *one);
    add(std::as_bytes(std::span(y)));
    return good ? hash : 0;
}

} // namespace
