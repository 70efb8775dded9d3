// SPDX-License-Identifier: MIT
#pragma once
// What many unit tests need: numbers to start from, comparisons, and the words of an error.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/core/random.hpp>
#include <quant/core/status.hpp>
#include <string_view>
#include <vector>

namespace test {

/// In [-1, 1).
inline double uniform(std::uint64_t seed, std::uint64_t stream, std::size_t i) {
    return 2 * static_cast<double>(quant::random_bits(seed, stream, i) >> 11) * 0x1p-53 - 1;
}
inline double uniform(std::uint64_t seed, std::size_t i) { return uniform(seed, 0, i); }

template <class T> bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Whether the error is this one and says this argument.
inline bool names(quant::status s, quant::errc code, std::string_view argument) {
    return s.code == code && s.argument == argument;
}

} // namespace test
