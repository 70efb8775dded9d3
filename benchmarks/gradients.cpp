// SPDX-License-Identifier: MIT
// Gradients to messages and back, in buckets of 512 and 2048: beside a read of the gradient, and beside the loop a user writes.
#include "benchmark.hpp"
#include <quant/gradients.hpp>
#include <span>

namespace {

using namespace bench;
namespace gradients = quant::gradients;
using gradients::encoding;
using gradients::scheme;

/// Reads the gradient, or the codes and the floats that they are added to; what a message adds is a few bits.
using read_gradient = traffic<1, 4, 0>;
using write_gradient = traffic<16, 4, 64>;

std::span<std::byte> message_room(const encoding& how, std::size_t n) {
    static std::vector<std::byte> room;
    room.resize(std::max(room.size(), gradients::message_size(n, how)));
    return room;
}

template <scheme Method, std::uint16_t Levels, std::uint32_t Bucket> constexpr encoding encoding_of() {
    return {.method = Method, .levels = Levels, .bucket = Bucket, .seed = 42, .stream = 7};
}

template <scheme Method, std::uint16_t Levels, std::uint32_t Bucket> void encode(row& r) {
    const encoding how = encoding_of<Method, Levels, Bucket>();
    const std::span<const float> v(reals(r.n), r.n);
    const auto message = message_room(how, r.n);
    std::vector<std::byte> workspace(gradients::encode_workspace_size(how));
    r.run_verb([&] { return gradients::encode(v, message, how, workspace); });
}

template <scheme Method, std::uint16_t Levels, std::uint32_t Bucket> void decode(row& r) {
    const encoding how = encoding_of<Method, Levels, Bucket>();
    const auto message = message_room(how, r.n).first(gradients::message_size(r.n, how));
    std::vector<std::byte> workspace(gradients::encode_workspace_size(how));
    if (!gradients::encode({reals(r.n), r.n}, message, how, workspace)) return r.state.SkipWithError("encode");
    const std::span<float> out(results<float>(r.n), r.n);
    r.run_verb([&] { return gradients::decode(message, out); });
}

/// TernGrad by hand: the largest magnitude, then a random number and two bits for every element.
template <std::uint32_t Bucket> void terngrad_loop(row& r) {
    const float* const v = reals(r.n);
    auto* const out = results<std::uint8_t>(r.n);
    r.run([&] {
        for (std::size_t b = 0; b < r.n; b += Bucket) {
            float most = 0;
            for (std::size_t i = 0; i < Bucket; ++i) most = std::max(most, std::abs(v[b + i]));
            for (std::size_t i = 0; i < Bucket; i += 4) {
                unsigned byte = 0;
                for (std::size_t k = 0; k < 4; ++k) {
                    const float x = v[b + i + k];
                    const bool some = quant::random_uniform(42, 7, b + i + k) * most < std::abs(x);
                    byte |= (some ? (x < 0 ? 0u : 2u) : 1u) << (2 * k);
                }
                out[(b + i) / 4] = static_cast<std::uint8_t>(byte);
            }
        }
    });
}
/// The signs and the mean magnitude by hand.
template <std::uint32_t Bucket> void scaled_sign_loop(row& r) {
    const float* const v = reals(r.n);
    auto* const out = results<std::uint8_t>(r.n);
    r.run([&] {
        for (std::size_t b = 0; b < r.n; b += Bucket) {
            double sum = 0;
            for (std::size_t i = 0; i < Bucket; i += 8) {
                unsigned byte = 0;
                for (std::size_t k = 0; k < 8; ++k) {
                    sum += static_cast<double>(std::abs(v[b + i + k]));
                    byte |= (v[b + i + k] >= 0 ? 1u : 0u) << k;
                }
                out[(b + i) / 8] = static_cast<std::uint8_t>(byte);
            }
            scales(r.n / Bucket)[b / Bucket] = static_cast<float>(sum / Bucket);
        }
    });
}

template <scheme Method, std::uint16_t Levels> void add_scheme(const std::string& name, sizes encoded = all_sizes) {
    add<read_gradient>("gradient_encode/" + name + "/bucket_512", "native", encoded, encode<Method, Levels, 512>);
    add<read_gradient>("gradient_encode/" + name + "/bucket_2048", "native", encoded, encode<Method, Levels, 2048>);
}

const bool registered = [] {
    add_scheme<scheme::scaled_sign, 2>("scaled_sign");
    add_scheme<scheme::bingrad_b, 2>("bingrad_b");
    add_scheme<scheme::bingrad_pb, 2>("bingrad_pb");
    add_scheme<scheme::terngrad, 3>("terngrad");
    add_scheme<scheme::qsgd, 9>("qsgd_9");
    add_scheme<scheme::linear, 5>("linear_5");
    add_scheme<scheme::orq, 3>("orq_3");
    add_scheme<scheme::orq, 9>("orq_9");
    add_scheme<scheme::asq, 5>("asq_5", {in_l1});
    add<read_gradient>("gradient_encode/scaled_sign/bucket_512", "loop", cache_sizes, scaled_sign_loop<512>);
    add<read_gradient>("gradient_encode/terngrad/bucket_512", "loop", cache_sizes, terngrad_loop<512>);
    add<write_gradient>("gradient_decode/scaled_sign/bucket_512", "native", all_sizes,
                        decode<scheme::scaled_sign, 2, 512>);
    add<write_gradient>("gradient_decode/terngrad/bucket_512", "native", all_sizes, decode<scheme::terngrad, 3, 512>);
    add<write_gradient>("gradient_decode/orq_9/bucket_512", "native", all_sizes, decode<scheme::orq, 9, 512>);
    add<write_gradient>("gradient_decode/orq_9/bucket_2048", "native", all_sizes, decode<scheme::orq, 9, 2048>);
    return true;
}();

} // namespace
