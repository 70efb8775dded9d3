// SPDX-License-Identifier: MIT
#pragma once
// What the products share with their peers: shapes, matrices, and the read-only ceiling. Name of a row:
//
//   gemv_<rows>x<cols>/<weights>_<results>/<granularity>/<architecture>/<rows * cols>
//
// Its ceiling reads the bytes of the weights (and of their scales) once, front to back, and keeps nothing:
// ceiling/read/<architecture>/<bytes>.

#include "benchmark.hpp"
#include <span>

namespace bench {

struct matrix_shape {
    std::size_t rows, cols;
    [[nodiscard]] std::size_t size() const { return rows * cols; }
    [[nodiscard]] std::string name() const { return std::to_string(rows) + "x" + std::to_string(cols); }
};
/// In the second-level cache, in the last-level cache of a large server, from memory, and one that no register divides.
inline constexpr std::initializer_list<matrix_shape> matrix_shapes{
    {512, 512}, {4096, 4096}, {16384, 16384}, {1001, 3002}};
inline constexpr std::size_t most_peer_size = std::size_t{4096} * 4096; ///< packing more takes peers too long

/// Random bytes: codes of 8 or 4 bits, or words of bit planes. One buffer for all, so that every row finds the same pages.
inline const std::uint8_t* weight_bytes(std::size_t n) {
    constexpr std::size_t most = std::size_t{16384} * 16384;
    static std::uint8_t* const p = allocate<std::uint8_t>(most, 0);
    static std::size_t filled = 0;
    const std::size_t block = std::size_t{1} << 20;
    for (; filled < n; filled += block) std::memcpy(p + filled, bytes(block), std::min(most - filled, block));
    return p;
}
/// Scales of groups of 32 of the largest matrix.
inline const float* group_scales_of(std::size_t n) {
    static const std::vector<float> all(std::size_t{16384} * 16384 / 32 + 16384, 0.01f);
    return n <= all.size() ? all.data() : nullptr;
}
inline const std::int8_t* activation_codes(std::size_t n) { return codes<std::int8_t>(n + 4096) + 4096; }

/// Reads two stretches.
template <class Word>
[[gnu::noinline]] void read_pass(const std::uint8_t* a, std::size_t n, const std::uint8_t* b, std::size_t m) {
    Word sum[4]{};
    constexpr std::size_t step = 4 * sizeof(Word);
    for (std::size_t i = 0; i + step <= n; i += step)
        for (std::size_t k = 0; k < 4; ++k) sum[k] = sum[k] | load_word<Word>(a + i + k * sizeof(Word));
    for (std::size_t i = 0; i + step <= m; i += step)
        for (std::size_t k = 0; k < 4; ++k) sum[k] = sum[k] | load_word<Word>(b + i + k * sizeof(Word));
    Word all = (sum[0] | sum[1]) | (sum[2] | sum[3]);
    benchmark::DoNotOptimize(all);
}
/// The ceiling of `codes` bytes of weights and `scales` bytes of scales; registered with the first row that needs it.
inline std::string read_ceiling(std::size_t code_bytes, std::size_t scale_bytes) {
    static std::set<std::string> known;
    const std::string name =
        "ceiling/read/" + name_of<widest>() + "/" + std::to_string(code_bytes) + "_" + std::to_string(scale_bytes);
    if (known.insert(name).second)
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
            row r{state, code_bytes + scale_bytes, 1};
            const auto* const a = weight_bytes(code_bytes);
            const auto* const b = reinterpret_cast<const std::uint8_t*>(group_scales_of(scale_bytes / 4));
            r.run([&] { read_pass<word_of<widest>::type>(a, code_bytes, b, scale_bytes); });
        });
    return name;
}

/// A row: f(row) times a product of shape s. what: <weights>_<results>/<granularity>.
template <class F>
void add_product(const std::string& operation, matrix_shape s, const std::string& what, const std::string& arch,
                 std::size_t code_bytes, std::size_t scale_bytes, F f) {
    const std::string ceiling = read_ceiling(code_bytes, scale_bytes);
    const std::string name = operation + "_" + s.name() + "/" + what + "/" + arch + "/" + std::to_string(s.size());
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
        row r{state, s.size(), static_cast<double>(code_bytes + scale_bytes) / static_cast<double>(s.size())};
        f(r);
        state.SetLabel(ceiling);
    });
}

} // namespace bench
