// SPDX-License-Identifier: MIT
// Below the owning result nothing allocates: every verb runs on arrays on the stack while operator new and the malloc
// family are poisoned. The malloc family is replaced with the linker's --wrap, so it covers what is compiled into this
// program and not the C library's own start-up. With the argument `new` or `malloc` the program allocates on purpose.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>

#include <unistd.h>

#include <quant/admm.hpp>
#include <quant/bias_correction.hpp>
#include <quant/bit_allocation.hpp>
#include <quant/bit_planes.hpp>
#include <quant/bsq.hpp>
#include <quant/calibration.hpp>
#include <quant/constraints.hpp>
#include <quant/cpq.hpp>
#include <quant/csq.hpp>
#include <quant/dynamic.hpp>
#include <quant/equalization.hpp>
#include <quant/fracbits.hpp>
#include <quant/groups.hpp>
#include <quant/mixed_precision.hpp>
#include <quant/mixquant.hpp>
#include <quant/multipoint.hpp>
#include <quant/per_channel.hpp>
#include <quant/precision_search.hpp>
#include <quant/products.hpp>
#include <quant/requantize.hpp>
#include <quant/rmsmp.hpp>
#include <quant/sum_rounding.hpp>
#include <quant/uniform.hpp>

namespace {

const char* armed = nullptr; // the name of the verb that runs, null outside of one

void poisoned() noexcept {
    if (armed == nullptr) return;
    const char text[] = "allocated in ";
    // write, not printf: printf may allocate.
    static_cast<void>(!::write(1, text, sizeof text - 1));
    static_cast<void>(!::write(1, armed, std::strlen(armed)));
    static_cast<void>(!::write(1, "\n", 1));
    ::_exit(1);
}

template <class Verb> void without_heap(const char* name, Verb verb) noexcept {
    armed = name;
    const bool ok = verb();
    armed = nullptr;
    if (!ok) {
        std::printf("failed: %s\n", name);
        std::exit(1);
    }
    std::printf("no allocation in %s\n", name);
}

} // namespace

extern "C" {
void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t count, std::size_t size);
void* __real_realloc(void* old, std::size_t size);
void* __real_aligned_alloc(std::size_t alignment, std::size_t size);
int __real_posix_memalign(void** result, std::size_t alignment, std::size_t size);
void* __wrap_malloc(std::size_t size) { return poisoned(), __real_malloc(size); }
void* __wrap_calloc(std::size_t count, std::size_t size) { return poisoned(), __real_calloc(count, size); }
void* __wrap_realloc(void* old, std::size_t size) { return poisoned(), __real_realloc(old, size); }
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
    return poisoned(), __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void** result, std::size_t alignment, std::size_t size) {
    return poisoned(), __real_posix_memalign(result, alignment, size);
}
}

// The other forms of new call these by default.
void* operator new(std::size_t size) {
    poisoned();
    if (void* memory = std::malloc(size)) return memory;
    std::abort();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    poisoned();
    const auto a = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(a, (size + a - 1) / a * a)) return memory;
    std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "new") == 0) {
        without_heap("planted new", [] {
            static void* volatile escaped = nullptr; // a pair of new and delete that nobody sees is optimized away
            escaped = ::operator new(1);
            ::operator delete(escaped);
            return true;
        });
        return 0;
    }
    if (argc > 1 && std::strcmp(argv[1], "malloc") == 0) {
        without_heap("planted malloc", [] {
            void* (*volatile allocate)(std::size_t) = std::malloc; // a plain pair of malloc and free is optimized away
            std::free(allocate(1));
            return true;
        });
        return 0;
    }

    // 3 channels of 700: longer than any tile on the stack, and with a tail for every vector length.
    static constexpr std::size_t channels = 3, length = 700, size = channels * length;
    std::array<float, size> x{}, y{};
    std::array<std::int8_t, size> codes{};
    std::array<std::byte, size> packed{};
    for (std::size_t i = 0; i < size; ++i) x[i] = static_cast<float>(static_cast<int>(i * 7919 % 2003) - 1001) / 500.0f;
    const auto view = quant::view(x, channels, length);
    const auto code_view = quant::view(codes, channels, length);
    const auto y_view = quant::view(y, channels, length);
    std::array<quant::affine_params, channels> per_channel{};
    per_channel.fill(quant::symmetric(2.0f, quant::int4));
    std::array<quant::affine_params, channels * 7> per_group{};
    per_group.fill(quant::symmetric(2.0f, quant::int8));

    without_heap("quantize, min-max", [&] { return static_cast<bool>(quant::quantize(x, codes)); });
    const auto params = quant::affine(-1.0f, 2.0f, quant::int8);
    without_heap("quantize, dequantize, fake_quant per tensor", [&] {
        quant::quantize(x, codes, params);
        quant::quantize(x, codes, params, {.round = quant::rounding::stochastic, .seed = 1});
        quant::quantize(x, codes, params, {.divide = quant::scale_by::reciprocal});
        quant::dequantize(codes, y, params);
        quant::fake_quant(x, y, params);
        return true;
    });
    for (const quant::granularity g : {quant::per_axis(0), quant::per_group(1, 100)}) {
        const bool grouped = g.unit == quant::granularity::kind::group;
        const auto p = grouped ? std::span<const quant::affine_params>(per_group)
                               : std::span<const quant::affine_params>(per_channel);
        without_heap(grouped ? "the verbs per group" : "the verbs per channel", [&] {
            return quant::quantize(view, code_view, p, g) && quant::dequantize(code_view, y_view, p, g) &&
                   quant::fake_quant(view, y_view, p, g);
        });
    }
    without_heap("requantize, integer bias, equalization", [&] {
        static std::array<std::int32_t, size> accumulators{};
        const auto acc = quant::view(accumulators, channels, length);
        const std::array<float, channels> scales{0.1f, 0.2f, 0.3f};
        const std::array<quant::quantized_multiplier, channels> fixed{{{1 << 30, -1}, {1 << 30, 2}, {0, 0}}};
        std::array<std::int32_t, channels> bias{};
        std::array<float, channels> first{1, 2, 3}, second{3, 5, 7};
        const quant::equalization_pair pair[] = {
            {*quant::output_channels(first), *quant::input_channels(quant::view(second, 1, channels)), {}, {}}};
        return quant::requantize(acc, code_view, scales, quant::per_axis(0), {}) &&
               quant::requantize(acc, code_view, fixed, quant::per_axis(0), {},
                                 {.rule = quant::requantization::double_rounding, .bias = bias}) &&
               quant::quantize_bias(scales, 0.5f, scales, bias) &&
               quant::code_sums(code_view, bias, quant::per_axis(0)) &&
               quant::accumulator_zero_point_correction(bias, {}, 3, 0, bias) && quant::equalize(pair);
    });
    without_heap("rounding for sums", [&] {
        std::array<double, size> errors{};
        std::array<std::size_t, size> order{};
        quant::quantize(x, codes, per_channel[0]);
        return static_cast<bool>(quant::round_for_sums<std::int8_t>(x, per_channel[0], 1, codes, errors, order));
    });
    without_heap("pack_codes, unpack_codes", [&] {
        quant::quantize(x, codes, per_channel[0]);
        return quant::pack_codes(codes, std::span(packed).first(size / 2), quant::int4) &&
               quant::unpack_codes(std::span(packed).first(size / 2), codes, quant::int4);
    });
    without_heap("real values to packed codes, groups, dynamic parameters", [&] {
        std::array<float, channels*((length + 31) / 32)> scales{};
        std::array<std::int32_t, channels> sums{};
        return quant::quantize_packed(view, packed, per_channel, quant::per_axis(0)) &&
               quant::dequantize_packed(packed, y_view, per_channel, quant::per_axis(0)) &&
               quant::quantize_groups(view, packed, scales, quant::int4, 32) &&
               quant::dequantize_groups(packed, scales, y_view, quant::int4, 32) &&
               quant::quantize_groups(view, code_view, scales, quant::int8, 32) &&
               quant::quantize_dynamic(view, code_view, per_channel, quant::per_axis(0), {.code_sums = sums});
    });
    without_heap("observers and clipping", [&] {
        quant::moments_observer moments;
        quant::exact_moments_observer exact;
        quant::minmax_observer extremes;
        static quant::histogram_observer<> histogram; // 16 KB of bins: in a static, as on a small stack
        moments.observe(x);
        exact.observe(x);
        extremes.observe(x);
        histogram.observe(x);
        return extremes.clip() && moments.merge(moments) &&
               quant::aciq(quant::prior::laplace).clip(quant::measure_statistics(x), quant::int4) &&
               quant::percentile(99.0).clip(histogram, quant::int8, quant::mapping::symmetric) &&
               quant::mse_optimal.clip(histogram, quant::int8, quant::mapping::affine);
    });
    without_heap("error measures", [&] { return static_cast<bool>(quant::measure_error(x, y)); });
    without_heap("bit allocation, with and without a workspace", [&] {
        std::array<quant::tensor_statistics, channels> statistics{};
        for (std::size_t c = 0; c < channels; ++c)
            statistics[c] = quant::measure_statistics(std::span(x).subspan(c * length, length));
        std::array<std::uint8_t, channels> bits{};
        std::array<std::byte, quant::allocate_bits_workspace_size(channels)> workspace{};
        const quant::bit_allocation_options options{.average_bits = 4.0f, .min_bits = 2, .max_bits = 8};
        return quant::allocate_bits(statistics, bits, options) &&
               quant::allocate_bits(statistics, bits, options, {}, workspace);
    });
    without_heap("bias correction", [&] {
        std::array<quant::channel_correction, channels> corrections{};
        return quant::quantize(view, code_view, per_channel, quant::per_axis(0)) &&
               quant::bias_correction(view, code_view, per_channel, corrections, quant::per_axis(0));
    });
    without_heap("bit planes: choosing, pruning, packing, dropping", [&] {
        static std::array<std::uint16_t, quant::bit_plane_words(channels, length, 8)> words{};
        quant::quantize(x, codes, per_channel[0]);
        quant::bit_plane_view<std::uint16_t> planes(words, channels, length, 8);
        return quant::prune_planes(code_view, per_channel, quant::per_axis(0), {.max_planes = 2}) &&
               quant::pack_bit_planes(code_view, planes, quant::choose_planes(code_view)) &&
               quant::drop_empty_planes(planes) == 0 && quant::unpack_bit_planes(planes, code_view) &&
               quant::quantize(view, code_view, per_channel,
                               quant::int4 | quant::per_axis(0) | quant::bit_sparsified(2));
    });
    without_heap("products of codes, packed codes and bit planes", [&] {
        static std::array<std::uint16_t, quant::bit_plane_words(channels, length, 8)> words{};
        static std::array<std::uint16_t, quant::bit_plane_words(1, length, 8)> x_words{};
        static std::array<std::int8_t, 2 * length> rows{};
        static std::array<float, channels*((length + 31) / 32)> groups{};
        std::array<std::int32_t, channels> sums{};
        std::array<std::int32_t, 2 * channels> more{};
        std::array<float, channels> scaled{}, scales{};
        const auto one = std::span(rows).first(length);
        quant::bit_plane_view<std::uint16_t> w(words, channels, length, 8), x_planes(x_words, length, 8);
        const quant::int4_matrix packed_w{packed, channels, length};
        return quant::gemv(code_view, one, sums) && quant::gemv(code_view, one, scaled, quant::row_scales{scales}) &&
               quant::gemv(code_view, one, scaled, quant::group_scales{groups}) && quant::gemv(packed_w, one, sums) &&
               quant::gemv(packed_w, one, scaled, quant::group_scales{groups}) &&
               quant::gemm(code_view, quant::view(rows, 2, length), quant::view(more, 2, channels)) &&
               quant::pack_bit_planes(code_view, w, quant::int8) &&
               quant::pack_bit_planes(one, x_planes, quant::int8) && quant::gemv(w, one, sums) &&
               quant::gemv(w, x_planes, sums) && quant::dot(one, one);
    });
    static std::array<float, 5 * size> positive{}, negative{}, d_positive{}, d_negative{};
    std::array<float, channels> row_scales{}, d_scales{};
    const auto latent = std::span(d_positive).first(size);
    without_heap("CSQ: a step of its loop, hardening, fixed planes", [&] {
        std::array<float, 4> mask{}, d_mask{};
        namespace csq = quant::csq;
        const csq::layer<float> layer{std::span(positive).first(4 * size), std::span(negative).first(4 * size), mask,
                                      row_scales, 4};
        const csq::layer<float> grads{std::span(d_positive).first(4 * size), std::span(d_negative).first(4 * size),
                                      d_mask, d_scales, 4};
        std::array<quant::layer_bits, 1> bits{};
        std::array<double, 1> full_scales{};
        csq::training<float> t{{&layer, 1}, {&grads, 1}, bits, full_scales, {.budget = {.target_bits = 2}}};
        if (!t.start(0, x) || !t.begin_step(1, 2) || !t.forward(0, y) || !t.backward(0, y)) return false;
        t.update(
            [](const auto& group) { group.values[0] -= static_cast<float>(group.rate * 0.001) * group.gradients[0]; });
        const auto done = csq::harden(layer, codes, std::span<float>(row_scales));
        return done && quant::round_to_planes(x, y, row_scales, quant::digit_planes{done->planes}) &&
               quant::round_to_planes_backward(x, y, latent, d_scales, row_scales, quant::digit_planes{done->planes});
    });
    without_heap("BSQ: a step, requantizing, hardening", [&] {
        namespace bsq = quant::bsq;
        bsq::layer<float> layer{positive, negative, row_scales, size, 4};
        const bsq::layer<float> grads{d_positive, d_negative, d_scales, size, 4};
        return bsq::init_from_float(x, layer) && bsq::forward(layer, y) && bsq::backward(layer, y, grads) &&
               bsq::add_lasso_gradient(layer, grads, 0.1) && bsq::clip_bits(layer) &&
               bsq::requantize(layer, {.most_planes = 5}) && bsq::harden(layer, codes, std::span<float>(row_scales));
    });
    without_heap("FracBits: a step, rounding of the widths, hardening", [&] {
        namespace fracbits = quant::fracbits;
        std::array<float, channels> widths{2.5f, 3.5f, 4.5f}, d_widths{};
        const std::array<std::size_t, channels> elements{length, length, length};
        std::array<std::uint8_t, channels> bits{};
        return fracbits::forward(x, y, widths) && fracbits::backward(x, y, latent, d_widths, widths) &&
               fracbits::discretize<float>(widths, elements, bits, {.target_bits = 3}) &&
               fracbits::harden(x, codes, std::span<float>(row_scales), bits);
    });
    without_heap("RMSMP, CPQ, constraints, precision search, ADMM", [&] {
        std::array<float, 24> w{}, to{}, grad{};
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = 0.1f * static_cast<float>(i % 7) - 0.3f;
        const quant::tensor_view<const float, 2> rows(w.data(), {4, 6});
        const quant::tensor_view<float, 2> out(to.data(), {4, 6});
        const std::array<double, 4> rank{3, 1, 2, 4};
        std::array<quant::rmsmp::row_scheme, 4> scheme{};
        std::array<std::uint32_t, 4> order{};
        std::array<float, 1> scale{0.4f}, of_scale{};
        std::array<std::int8_t, 24> k{};
        std::array<double, 3> logits{1, 2, 3}, a{}, z{}, slopes{};
        std::array<float, 16> gates{};
        std::array<quant::fit_event, 24> scratch{};
        const quant::cpq::grid grid{.alpha = 0.1, .sigma = 0.03, .bits = 5};
        const quant::admm::cluster<float> cluster{w, to, grad, k, 3};
        return quant::rmsmp::assign_rows(rank, rank, {}, scheme, order) &&
               quant::rmsmp::project(rows, out, scheme, scale) &&
               quant::rmsmp::encode(rows, quant::tensor_view<std::int8_t, 2>(k.data(), {4, 6}), scheme, scale) &&
               quant::rmsmp::backward(rows, rows, out, of_scale, scheme, scale) && quant::rmsmp::shift_add_dot(k, k) &&
               quant::dropbits::draw(logits, z, slopes, 1, 2, 3) &&
               quant::dropbits::magnitude_gates<float>(z, gates, 5) && quant::cpq::forward(w, to, grid, gates) &&
               quant::cpq::backward(w, w, grad, grid, quant::cpq::surrogate::mode, gates) &&
               quant::constraints::add_output_gradient(w, to, 6, 1, grad) &&
               quant::constraints::rank_layers(rank, order) && quant::precision_search::mixture(logits, a) &&
               quant::admm::start(cluster, scratch) && quant::admm::update(cluster, scratch);
    });
    without_heap("sensitivities, allocation, MixQuant, multipoint", [&] {
        constexpr std::size_t depth = 8, points = 2, options = 2;
        static std::array<std::byte, 1 << 16> workspace{};
        std::array<double, depth * depth> moments{};
        std::array<double, depth> z{}, hz{};
        std::array<double, channels * points> errors{};
        std::array<std::uint64_t, channels * points> cost{};
        std::array<std::uint8_t, channels> counts{}, choice{};
        std::array<float, channels * points> steps{};
        std::array<std::int8_t, channels * points * depth> points_codes{};
        std::array<double, 1> trace{};
        const std::array<std::size_t, 1> sizes{depth};
        const std::array<std::uint8_t, options> bits{3, 8};
        const std::array<std::uint64_t, channels> elements{depth, depth, depth};
        const auto w = std::span<const float>(x).first(channels * depth);
        const std::array<std::span<const float>, channels> layers{w.first(depth), w.subspan(depth, depth),
                                                                  w.last(depth)};
        const auto hvp = [](std::span<const double> from, std::span<double> to) {
            for (std::size_t k = 0; k < from.size(); ++k) to[k] = 2 * from[k];
        };
        const quant::multipoint_options how{.most_points = points};
        return quant::input_moments(w, depth, moments) && quant::squared_error(x, x) &&
               quant::logit_divergence(w, w, depth) && quant::hessian_traces(hvp, sizes, z, hz, trace) &&
               quant::top_eigenvalue(hvp, 0, depth, z, hz) &&
               quant::mixquant_search(layers, bits, choice, std::span(errors).first(channels * options)) &&
               quant::size_costs(elements, bits, std::span(cost).first(channels * options)) &&
               quant::multipoint_table(w, depth, moments, how, 4, errors, cost, workspace) &&
               quant::allocate_exact({errors, cost, channels, points}, 1000, choice, workspace) &&
               quant::multipoint_layer(w, depth, moments, how, counts, steps, points_codes, workspace);
    });
    return 0;
}
