// SPDX-License-Identifier: MIT
// Handwritten digits on a microcontroller: weights as the tool has written them, the ranges between the layers found on the device,
// everything after the first quantization in integers. No heap, no exceptions, no files; the same program runs on the machine that
// builds it and gives the same numbers.

#include "board.hpp"
#include "images.h"
#include "weights_int4.h"
#include "weights_int8.h"

#include <algorithm>
#include <array>
#include <quant/aciq.hpp>
#include <quant/packing.hpp>
#include <quant/requantize.hpp>
#include <quant/uniform.hpp>
#include <span>

#if defined(__arm__) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
static_assert(QUANT_HAS_XSIMD == 0, "a microcontroller runs on the scalar architecture without being asked");
#endif

namespace {

/// Codes between the layers: 0 to 127 in an int8_t; no code is needed below the zero of a ReLU.
constexpr quant::code_format activation_format = quant::uint8.with_bits(7);
/// The sensor's range is known: 0 to 1.
constexpr quant::affine_params input_params = quant::symmetric(1.0f, activation_format);
static_assert(input_params.zero_point == 0 && quant::quantize_one(1.0f, input_params) == 127);

constexpr std::size_t most_channels = 32, most_positions = 64, most_patch = 32 * 9;

/// One convolution (or matrix: kernel 1, side 1) as the header of the tool has it, and what follows it.
struct layer {
    const std::uint8_t* codes; ///< packed
    const std::uint32_t* offsets;
    const std::uint8_t* bits;
    std::span<const float> scales, bias; ///< one per output channel
    std::size_t in, side, kernel, pool;

    [[nodiscard]] std::size_t out() const noexcept { return scales.size(); }
    [[nodiscard]] std::size_t patch() const noexcept { return in * kernel * kernel; }
    [[nodiscard]] std::size_t positions() const noexcept { return side * side; }
};
using network = std::array<layer, 4>;

#define LAYER(width, name, in, side, kernel, pool)                                                                     \
    layer {                                                                                                            \
        width##_##name##_weight_codes, width##_##name##_weight_offsets, width##_##name##_weight_bits,                  \
            width##_##name##_weight_scales, width##_##name##_bias, in, side, kernel, pool                              \
    }
#define NETWORK(width)                                                                                                 \
    network {                                                                                                          \
        LAYER(width, conv1, 1, 8, 3, 1), LAYER(width, conv2, 16, 8, 3, 2), LAYER(width, conv3, 32, 4, 3, 2),           \
            LAYER(width, linear, 128, 1, 1, 1)                                                                         \
    }

/// What a layer needs to run in integers, once the ranges before and behind it are known.
struct integers {
    std::array<std::int32_t, most_channels> bias{};
    std::array<quant::quantized_multiplier, most_channels> multipliers{};
    quant::affine_params output{};
};

/// A failure is a defect of this program or of its build: it stops.
void require(quant::status s) noexcept {
    if (s) return;
    board::print("error: ");
    board::print(s.argument);
    board::print("\n");
    __builtin_trap();
}
template <class T> T require(const quant::result<T>& r) noexcept {
    require(r.status());
    return *r;
}

/// Sums of products of one output channel: its weights leave the flash once, then every tap meets a row of positions.
void accumulate(const layer& l, std::size_t channel, const std::int8_t* x, std::span<std::int32_t> sums) noexcept {
    std::array<std::int8_t, most_patch> weights;
    const std::uint32_t begin = l.offsets[channel], end = l.offsets[channel + 1];
    require(quant::unpack_codes(std::span(l.codes + begin, end - begin), std::span(weights).first(l.patch()),
                                quant::int8.with_bits(l.bits[channel])));
    std::fill(sums.begin(), sums.end(), 0);
    const std::int8_t* w = weights.data();
    const std::size_t side = l.side, reach = l.kernel / 2; // zero padding keeps the side
    for (std::size_t c = 0; c < l.in; ++c, x += side * side)
        for (std::size_t ky = 0; ky < l.kernel; ++ky)
            for (std::size_t kx = 0; kx < l.kernel; ++kx) {
                const std::int32_t weight = *w++;
                const std::size_t y_begin = ky < reach ? reach - ky : 0, x_begin = kx < reach ? reach - kx : 0;
                const std::size_t y_end = ky > reach ? side - (ky - reach) : side,
                                  x_end = kx > reach ? side - (kx - reach) : side;
                for (std::size_t oy = y_begin; oy < y_end; ++oy) {
                    const std::int8_t* const from = x + (oy + ky - reach) * side + (x_begin + kx - reach);
                    std::int32_t* const to = sums.data() + oy * side + x_begin;
                    for (std::size_t i = 0; i < x_end - x_begin; ++i) to[i] += weight * from[i];
                }
            }
}

/// The largest code of each pool x pool square: pooling needs no real numbers.
void pool_codes(const std::int8_t* from, std::int8_t* to, std::size_t side, std::size_t pool) noexcept {
    for (std::size_t y = 0; y < side; y += pool)
        for (std::size_t x = 0; x < side; x += pool) {
            std::int8_t largest = 0;
            for (std::size_t i = 0; i < pool * pool; ++i)
                largest = std::max(largest, from[(y + i / pool) * side + x + i % pool]);
            *to++ = largest;
        }
}

class device {
public:
    explicit device(const network& layers) noexcept : layers_(layers) {}

    /// One layer after the other: what it is fed is in codes already, its real outputs go through an observer, ACIQ chooses the
    /// range of their codes, and with it the layer's multipliers.
    void calibrate() noexcept {
        const quant::affine_params* input = &input_params;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const layer& l = layers_[i];
            integers& own = integers_[i];
            require(quant::quantize_bias(l.bias, input->scale, l.scales, std::span(own.bias).first(l.out())));
            if (i + 1 < layers_.size()) {
                quant::moments_observer seen(quant::statistics::before_relu);
                for (std::size_t n = 0; n < calibration_count; ++n) observe(i, calibration_pixels[n], *input, seen);
                const auto range = require(quant::aciq(quant::prior::laplace).clip(seen, activation_format));
                own.output = require(quant::choose_params(range, activation_format, quant::mapping::symmetric));
            } else {
                // Nothing is quantized behind the last layer: its sums are brought to the largest of their units and compared.
                own.output.scale = input->scale * *std::max_element(l.scales.begin(), l.scales.end());
            }
            for (std::size_t c = 0; c < l.out(); ++c) {
                const double m = quant::accumulator_multiplier(input->scale, l.scales[c], own.output.scale);
                own.multipliers[c] = require(quant::quantize_multiplier(m));
            }
            input = &own.output;
        }
    }

    /// The class of an image; the sums behind the last layer stay in `sums`.
    [[nodiscard]] std::size_t classify(const std::uint8_t* pixels) noexcept {
        forward(layers_.size() - 1, pixels);
        const layer& l = layers_.back();
        const integers& own = integers_.back();
        std::size_t best = 0;
        for (std::size_t c = 0; c < l.out(); ++c) {
            std::int32_t sum;
            accumulate(l, c, codes_[(layers_.size() - 1) % 2].data(), std::span(&sum, 1));
            sums[c] = quant::scaled_steps(quant::saturating_sum(sum, own.bias[c]), own.multipliers[c],
                                          quant::requantization::double_rounding);
            if (sums[c] > sums[best]) best = c;
        }
        return best;
    }

    std::array<std::int32_t, 10> sums{};

private:
    /// Codes in front of layer `depth`.
    void forward(std::size_t depth, const std::uint8_t* pixels) noexcept {
        std::array<float, most_positions> image;
        for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(pixels[i]) / 16.0f;
        const std::span<std::int8_t, most_positions> input(codes_[0].data(), most_positions);
        quant::quantize(image, input, input_params);
        for (std::size_t i = 0; i < depth; ++i) {
            const layer& l = layers_[i];
            integers& own = integers_[i];
            std::int8_t* to = codes_[(i + 1) % 2].data();
            std::array<std::int32_t, most_positions> acc;
            std::array<std::int8_t, most_positions> codes;
            const auto sums_of = std::span(acc).first(l.positions());
            for (std::size_t c = 0; c < l.out(); ++c, to += l.positions() / (l.pool * l.pool)) {
                accumulate(l, c, codes_[i % 2].data(), sums_of);
                require(quant::requantize(sums_of, std::span(codes).first(l.positions()), own.multipliers[c],
                                          quant::relu_codes(own.output),
                                          {.rule = quant::requantization::double_rounding,
                                           .bias = std::span<const std::int32_t>(&own.bias[c], 1)}));
                pool_codes(codes.data(), to, l.side, l.pool);
            }
        }
    }

    void observe(std::size_t depth, const std::uint8_t* pixels, const quant::affine_params& input,
                 quant::moments_observer& seen) noexcept {
        forward(depth, pixels);
        const layer& l = layers_[depth];
        std::array<std::int32_t, most_positions> acc;
        std::array<float, most_positions> real;
        for (std::size_t c = 0; c < l.out(); ++c) {
            accumulate(l, c, codes_[depth % 2].data(), std::span(acc).first(l.positions()));
            const float unit = input.scale * l.scales[c];
            for (std::size_t p = 0; p < l.positions(); ++p)
                real[p] = static_cast<float>(acc[p] + integers_[depth].bias[c]) * unit;
            seen.observe(std::span(std::as_const(real)).first(l.positions()));
        }
    }

    network layers_;
    std::array<integers, 4> integers_{};
    std::array<std::array<std::int8_t, 16 * 64>, 2> codes_{}; ///< in front of a layer, and behind it
};

/// Same numbers, same word: printed, so that processors can be compared.
constexpr std::uint32_t hashed(std::uint32_t h, std::uint32_t v) noexcept {
    for (int i = 0; i < 4; ++i, v >>= 8) h = (h ^ (v & 0xFF)) * 16777619u;
    return h;
}

bool run(const char* name, const network& layers, std::size_t least) noexcept {
    static device d(layers);
    d = device(layers);
    const std::uint64_t start = board::instructions();
    d.calibrate();
    const std::uint64_t calibrated = board::instructions();
    std::size_t correct = 0;
    std::uint32_t hash = 2166136261u;
    for (std::size_t n = 0; n < test_count; ++n) {
        correct += d.classify(test_pixels[n]) == test_labels[n];
        for (const std::int32_t s : d.sums) hash = hashed(hash, static_cast<std::uint32_t>(s));
    }
    const std::uint64_t done = board::instructions();
    const auto line = [](const char* before, std::uint64_t n, const char* after) {
        board::print(before);
        board::print(n);
        board::print(after);
    };
    board::print(name);
    line(" weights: ", correct, " of ");
    line("", test_count, " images right, hash ");
    line("", hash, "\n");
    if (done != 0) {
        line("  instructions: ", calibrated - start, " to calibrate, ");
        line("", (done - calibrated) / test_count, " per image\n");
    }
    return correct >= least;
}

} // namespace

int main() {
    board::start_counting();
    // One image in fifty may be missed, one in twenty with half the bits.
    const bool right = run("int8", NETWORK(int8), test_count - test_count / 50);
    const bool right_in_four = run("int4", NETWORK(int4), test_count - test_count / 20);
    const board::memory m = board::used();
    if (m.text != 0) {
        board::print("text ");
        board::print(std::uint64_t{m.text});
        board::print(", constants ");
        board::print(std::uint64_t{m.rodata});
        board::print(", RAM ");
        board::print(std::uint64_t{m.ram});
        board::print(", deepest stack ");
        board::print(std::uint64_t{m.stack});
        board::print(" bytes\n");
    }
    board::print(right && right_in_four ? "passed\n" : "FAILED\n");
    return right && right_in_four ? 0 : 1;
}
