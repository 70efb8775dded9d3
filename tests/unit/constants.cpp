// SPDX-License-Identifier: MIT
// The verbs in constant expressions: what the compiler computes is what the program would.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <quant/calibrate/aciq_table.hpp>
#include <quant/packing.hpp>
#include <quant/uniform.hpp>
#include <span>

namespace {

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

// ---- a table of a program: parameters, codes and packed bytes ---------------------------------------------------------------

constexpr std::array hann{0.0f, 0.1464466f, 0.5f, 0.8535534f, 1.0f, 0.8535534f, 0.5f, 0.1464466f};
constexpr auto window = quant::symmetric(1.0f, quant::int4);
static_assert(window.zero_point == 0 && window.scale == 1.0f / 7);

constexpr auto codes = [] {
    std::array<std::int8_t, hann.size()> out{};
    quant::quantize(hann, out, window);
    return out;
}();
static_assert(codes == std::array<std::int8_t, 8>{0, 1, 3, 6, 7, 6, 3, 1}); // 1/7 in float is above 1/7

constexpr auto packed = [] {
    std::array<std::uint8_t, quant::packed_bytes(codes.size(), window.format)> out{};
    QUANT_EXPECTS(static_cast<bool>(quant::pack_codes(codes, out, window.format)), "room for all codes");
    return out;
}();
static_assert(packed == std::array<std::uint8_t, 4>{0x10, 0x63, 0x67, 0x13});

constexpr auto restored = [] {
    std::array<std::int8_t, codes.size()> unpacked{};
    std::array<float, codes.size()> out{};
    QUANT_EXPECTS(static_cast<bool>(quant::unpack_codes(packed, unpacked, window.format)), "all codes");
    quant::dequantize(unpacked, out, window);
    return out;
}();
static_assert(restored[4] == 1.0f && restored[2] == 3 * window.scale);

constexpr auto activation = quant::affine(-1.0f, 3.0f, quant::uint8);
static_assert(activation.zero_point == 64 && quant::quantize_one(3.0f, activation) == 255);
static_assert(quant::tabulated_aciq(2.0f, quant::uint8)->zero_point == 0);

// ---- every kind of call, against the same call at run time ------------------------------------------------------------------------

constexpr std::array<float, 48> awkward = [] {
    std::array<float, 48> x{0.0f, -0.0f, nan,    inf,    -inf,         3e38f, -3e38f,
                            0.5f, 1.5f,  -0.75f, 1e-45f, -0.49999997f, 2.5f,  -2.5f};
    for (std::size_t i = 14; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.125f;
    return x;
}();
constexpr std::array<quant::affine_params, 3> rows{quant::symmetric(4.0f, quant::int8),
                                                   quant::affine(-1.0f, 6.0f, quant::int4),
                                                   quant::symmetric(2.0f, quant::int5.narrow())};

template <class T> struct outcome {
    std::array<std::int8_t, awkward.size()> codes{};
    std::array<T, awkward.size()> real{}, fake{};
    std::array<T, awkward.size()> turned{}; // of a strided destination
    quant::affine_params found{};
    bool good = true;
    friend constexpr bool operator==(const outcome&, const outcome&) = default;
};

template <class T> constexpr outcome<T> run(const quant::quantize_options& options) {
    std::array<T, awkward.size()> source{};
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = quant::from_float<T>(awkward[i]);
    outcome<T> out;
    const auto good = [&out](quant::status s) { out.good = out.good && s; };
    const auto src = quant::view(source, 3, 4, 4);
    good(quant::quantize(src, out.codes, rows, quant::per_axis(0), options));
    good(quant::dequantize(out.codes, quant::view(out.real, 3, 4, 4), rows, quant::per_axis(0)));
    good(quant::fake_quant(src, out.fake, rows, quant::per_axis(0), options));
    std::array<quant::affine_params, 24> groups{};
    groups.fill(rows[0]);
    const auto turned = quant::view(out.turned, 4, 4, 3).permute({2, 0, 1});
    good(quant::fake_quant(src, turned, groups, quant::per_group(2, 2), options));
    std::array<std::int8_t, awkward.size() - 7> own{}; // without those that need a scale too large
    const auto found = quant::quantize(std::span(source).template subspan<7>(), own, options);
    good(found.status());
    if (found) out.found = *found;
    for (std::size_t i = 0; i < own.size(); ++i) out.codes[i] = static_cast<std::int8_t>(out.codes[i] ^ own[i]);
    return out;
}

constexpr quant::quantize_options nearest{};
constexpr quant::quantize_options away{.round = quant::rounding::half_away, .divide = quant::scale_by::reciprocal};
constexpr quant::quantize_options random_bits{.round = quant::rounding::stochastic, .seed = 7};
static_assert(run<double>(nearest).good && run<quant::float16>(nearest).good);

constexpr quant::errc error_of(std::size_t n, const quant::affine_params& params) {
    std::array<std::int8_t, 8> out{};
    return quant::quantize(hann, std::span(out).first(n), params).code;
}
static_assert(error_of(8, window) == quant::errc::ok);
static_assert(error_of(7, window) == quant::errc::shape_mismatch);
static_assert(error_of(8, {0.0f, 0, quant::int8}) == quant::errc::invalid_scale);
static_assert(error_of(8, {1.0f, 0, quant::uint8}) == quant::errc::storage_too_narrow);

} // namespace

TEST_CASE("constant expressions and run time give the same bytes") {
    constexpr auto first = run<float>(nearest), second = run<float>(away), third = run<float>(random_bits);
    static_assert(first.good && second.good && third.good);
    CHECK(run<float>(nearest) == first);
    CHECK(run<float>(away) == second);
    CHECK(run<float>(random_bits) == third);
}

TEST_CASE("a thousand elements are a constant") {
    constexpr auto sum = [] {
        std::array<float, 1024> x{};
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
        std::array<std::uint8_t, x.size()> out{};
        quant::quantize(x, out, quant::affine_params{4.0f, 0, quant::uint8});
        std::size_t total = 0;
        for (const auto c : out) total += c;
        return total;
    }();
    // i / 4 to the nearest even integer: 0 0 0 1 1 1 2 2, and so on up to 255, where 256 saturates.
    std::size_t total = 0;
    for (std::size_t i = 0; i < 1024; ++i) {
        std::size_t code = (i + 2) / 4 - (i % 8 == 2 ? 1 : 0);
        total += code > 255 ? 255 : code;
    }
    CHECK(sum == total);
}
