// SPDX-License-Identifier: MIT
// libFuzzer: any bytes are a gradient message or an error that names what is wrong; a message decodes to its table's levels, the same on
// every architecture. Any floats and options are encoded to a message that decodes, or refused.
#include "input.hpp"
#include <bit>
#include <cmath>
#include <quant/gradients.hpp>
#include <vector>

namespace {

namespace gradients = quant::gradients;
using bytes = std::span<const std::byte>;

void require_argument(quant::status s) { fuzz::require(!s && s.argument != nullptr && *s.argument != '\0'); }

/// The codes of a legal message, bucket by bucket, by the definition: one for each element.
std::vector<unsigned> codes_of(bytes message, const gradients::message_header& h, std::size_t table) {
    std::vector<unsigned> codes;
    bytes rest = message.subspan(gradients::header_size);
    const unsigned digits = (h.flags & gradients::flag_digit_codes) == 0 ? 0 : h.levels == 3 ? 5 : 3;
    for (std::size_t left = static_cast<std::size_t>(h.elements); left != 0;) {
        const std::size_t n = left < h.bucket ? left : h.bucket;
        rest = rest.subspan(table);
        for (std::size_t i = 0; i < n; ++i) {
            unsigned code = 0;
            if (digits != 0) {
                code = std::to_integer<unsigned>(rest[i / digits]);
                for (std::size_t d = 0; d < i % digits; ++d) code /= h.levels;
                code %= h.levels;
            } else {
                for (std::size_t b = 0; b < h.bits; ++b) {
                    const std::size_t bit = i * h.bits + b;
                    code |= (std::to_integer<unsigned>(rest[bit / 8]) >> (bit % 8) & 1U) << b;
                }
            }
            codes.push_back(code);
        }
        rest = rest.subspan(digits != 0 ? (n + digits - 1) / digits : (n * h.bits + 7) / 8);
        left -= n;
    }
    fuzz::require(rest.empty());
    return codes;
}

std::size_t table_bytes(const gradients::message_header& h) {
    using gradients::scheme;
    const bool whole = h.method == scheme::orq || h.method == scheme::asq;
    const bool two = h.method == scheme::linear || h.method == scheme::bingrad_b;
    return (whole ? std::size_t{h.levels} : two ? 2U : 1U) * ((h.flags & gradients::flag_half_levels) != 0 ? 2 : 4);
}

bool same(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

void decode(bytes message) {
    const auto header = gradients::check_message(message);
    const auto scalar = gradients::check_message<quant::simd::scalar>(message);
    fuzz::require(static_cast<bool>(header) == static_cast<bool>(scalar));
    const fuzz::buffer<float> other(3);
    if (!header) {
        require_argument(header.status());
        fuzz::require(!gradients::decode(message, other.span()));
        return;
    }
    const auto n = static_cast<std::size_t>(header->elements);
    fuzz::require(n <= message.size() * 8); // what is decoded is bounded by what was sent
    if (n != 3) require_argument(gradients::decode(message, other.span()));
    const fuzz::buffer<float> values(n), one_by_one(n), sum(n), error(n), mean(n);
    fuzz::require(static_cast<bool>(gradients::decode(message, values.span())));
    fuzz::require(static_cast<bool>(gradients::decode<quant::simd::scalar>(message, one_by_one.span())));
    for (std::size_t i = 0; i < n; ++i) sum[i] = error[i] = static_cast<float>(i) * 0.25f;
    fuzz::require(static_cast<bool>(gradients::add_decoded(message, sum.span())));
    fuzz::require(static_cast<bool>(gradients::keep_error(message, error.span())));
    const bool raw = header->method == gradients::scheme::raw;
    for (std::size_t i = 0; i < n; ++i) {
        fuzz::require(same(values[i], one_by_one[i]));
        if (!raw) fuzz::require(std::isfinite(values[i]));
        if (std::isnan(values[i])) continue; // a sum of NaNs may be either
        fuzz::require(same(sum[i], static_cast<float>(i) * 0.25f + values[i]));
        fuzz::require(same(error[i], static_cast<float>(i) * 0.25f - values[i]));
    }
    const bytes twice[] = {message, message};
    const gradients::encoding how{.method = header->method,
                                  .levels = header->levels,
                                  .bucket = header->bucket,
                                  .half_levels = (header->flags & gradients::flag_half_levels) != 0,
                                  .digit_codes = (header->flags & gradients::flag_digit_codes) != 0};
    const auto done = gradients::average(twice, how, mean.span());
    fuzz::require(static_cast<bool>(done));
    for (std::size_t i = 0; i < n; ++i)
        fuzz::require(std::isnan(values[i]) || same(mean[i], (values[i] + values[i]) / 2));
    if (raw) return;
    // Equal codes of a bucket are equal values, larger codes are no smaller ones.
    const auto codes = codes_of(message, *header, table_bytes(*header));
    for (std::size_t i = 1; i < n; ++i) {
        if (i % header->bucket == 0) continue;
        fuzz::require(codes[i] < header->levels);
        if (codes[i] == codes[i - 1]) fuzz::require(same(values[i], values[i - 1]));
        if (codes[i] > codes[i - 1]) fuzz::require(values[i] >= values[i - 1]);
    }
}

void encode(fuzz::input& in) {
    gradients::encoding how;
    how.method = static_cast<gradients::scheme>(in.below(10)); // 9 is none
    how.levels = in.take<std::uint16_t>();
    if (in.below(4) != 0) how.levels = static_cast<std::uint16_t>(how.levels % 18);
    how.bucket = in.below(4) == 0 ? in.take<std::uint32_t>() : static_cast<std::uint32_t>(1 + in.below(64));
    if (how.bucket > 4096 && how.bucket <= 1u << 24) how.bucket = 4096; // as much workspace
    const auto flags = in.take<std::uint8_t>();
    how.threshold = static_cast<gradients::threshold_rule>(flags % 3);
    how.unit_magnitude = (flags & 4U) != 0;
    how.exact = (flags & 8U) != 0;
    how.half_levels = (flags & 16U) != 0;
    how.digit_codes = (flags & 32U) != 0;
    how.clip_deviations = (flags & 64U) != 0 ? static_cast<double>(in.take<std::int8_t>()) * 0.25 : 0.0;
    how.seed = in.take<std::uint16_t>();
    const bool any_bits = in.below(2) == 0;
    const std::size_t n = in.below(200);
    const fuzz::buffer<float> v(n), back(n);
    for (std::size_t i = 0; i < n; ++i)
        v[i] = any_bits ? in.take<float>() : static_cast<float>(in.take<std::int8_t>()) * 0.03125f;
    // Nothing needs no room: what is wrong then are the options.
    const fuzz::buffer<std::byte> header_alone(gradients::header_size);
    const auto legal = gradients::encode(std::span<const float>(), header_alone.span(), how, {});
    if (!legal && legal.status().code == quant::errc::invalid_argument) {
        require_argument(gradients::encode(v.span(), header_alone.span(), how, {}).status());
        return;
    }
    const std::size_t room = std::max(gradients::message_size(n, how), gradients::raw_message_size(n));
    const fuzz::buffer<std::byte> message(room), again(room), workspace(gradients::encode_workspace_size(how)),
        scalar_workspace(gradients::encode_workspace_size(how));
    const auto size = gradients::encode(v.span(), message.span(), how, workspace.span());
    const auto scalar = gradients::encode<quant::simd::scalar>(v.span(), again.span(), how, scalar_workspace.span());
    fuzz::require(static_cast<bool>(size) && static_cast<bool>(scalar) && *size == *scalar);
    fuzz::require(std::memcmp(message.span().data(), again.span().data(), *size) == 0);
    const auto sent = message.span().first(*size);
    decode(sent);
    const auto header = gradients::read_header(sent);
    fuzz::require(static_cast<bool>(header) && header->elements == n && header->bucket == how.bucket);
    if (header->method != gradients::scheme::raw) fuzz::require(*header == gradients::header_of(n, how));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size >= 3 && data[0] == 'G' && data[1] == 'Q' && data[2] == '0') {
        decode(std::as_bytes(std::span(data, size)));
    } else {
        fuzz::input in(data, size);
        encode(in);
    }
    return 0;
}
