// SPDX-License-Identifier: MIT
// Odd shapes and odd addresses: every length around the width of a register, every offset, canaries on both sides, views
// that are strided, permuted and cut, strides of megabytes, empty dimensions. Everything is compared with the scalar definition.
#include "archs.hpp"
#include "stops.hpp"
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <quant/quantize/quantize.hpp>
#include <random>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#if __has_include(<sys/mman.h>) && !defined(__wasi__) // whose header is an error
#include <sys/mman.h>
#define QUANT_TEST_HAS_MMAP 1
#endif

using quant::affine_params;
using quant::bfloat16;
using quant::float16;
using quant::granularity;
using quant::per_axis;
using quant::per_group;
using quant::per_tensor;
using quant::quantize_options;
using quant::tensor_view;

namespace {

// With fewer types: one code type of each size, the ranks up to 3 and the highest one. With a sanitizer fewer rounds and sizes too.
// What is read and written where is the same.
using test::fewer_types;
using test::slow;
template <class Code>
using tested =
    std::conditional_t<!fewer_types, Code, std::conditional_t<sizeof(Code) == 1, std::int8_t, std::uint16_t>>;
constexpr std::size_t tested_rank(std::size_t full) { return fewer_types && full > 3 ? 8 : full; }
constexpr int tested_rounds(int full) { return slow ? full / 5 : full; }

constexpr unsigned char canary = 0xA5;

template <class T> std::array<unsigned char, sizeof(T)> bytes_of(T x) {
    return std::bit_cast<std::array<unsigned char, sizeof(T)>>(x);
}
template <class T> bool same(T a, T b) { return bytes_of(a) == bytes_of(b); }
template <class T> T canary_value() {
    std::array<unsigned char, sizeof(T)> all{};
    all.fill(canary);
    return std::bit_cast<T>(all);
}

/// Ties, halves of steps, values far outside, NaN and infinities among ordinary ones.
template <class T> T element(std::size_t i) {
    const auto hash = static_cast<std::uint32_t>(i) * 2654435761u >> 8; // 24 bits
    double x = (static_cast<double>(hash) / 16777216.0 - 0.5) * 40;
    if (i % 7 == 3) x = static_cast<double>(static_cast<int>(hash % 41) - 20) * 0.125;
    if (i % 23 == 5) x *= 1e4;
    if (i % 29 == 11) x = std::numeric_limits<double>::quiet_NaN();
    if (i % 31 == 8) x = -std::numeric_limits<double>::infinity();
    if (i % 37 == 9) x = -0.0;
    if constexpr (std::is_same_v<T, double>)
        return x;
    else
        return quant::from_float<T>(static_cast<float>(x));
}

/// Parameters that differ from slice to slice, the width included.
template <class Code> affine_params params_at(std::size_t s) {
    const quant::code_format full = quant::full_range_format<Code>;
    const quant::code_format f = s % 3 == 1 ? full.with_bits(static_cast<std::uint8_t>(3 + s % 5)) : full;
    const auto zero_point = f.qmin() + static_cast<std::int32_t>(s * 5) % f.levels();
    return {0.05f * static_cast<float>(1 + s % 7), zero_point, f};
}
template <class Code> std::vector<affine_params> params_for(std::size_t count) {
    std::vector<affine_params> out;
    for (std::size_t s = 0; s < count; ++s) out.push_back(params_at<Code>(s));
    return out;
}

/// `n` elements at an address `offset` elements beyond an aligned one, with canaries in front of them and `behind` bytes of
/// canaries after them. Without any, the elements end where the allocation ends, and a sanitizer sees a read past them.
template <class T> class guarded {
public:
    guarded(std::size_t n, std::size_t offset, std::size_t behind)
        : front_(64 + offset * sizeof(T)), n_(n), bytes_(front_ + n * sizeof(T) + behind, canary) {}
    T* data() { return reinterpret_cast<T*>(bytes_.data() + front_); }
    std::span<T> span() { return {data(), n_}; }
    bool intact() const {
        const auto good = [](unsigned char b) { return b == canary; };
        return std::all_of(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(front_), good) &&
               std::all_of(bytes_.begin() + static_cast<std::ptrdiff_t>(front_ + n_ * sizeof(T)), bytes_.end(), good);
    }

private:
    std::size_t front_, n_;
    std::vector<unsigned char> bytes_;
};
template <class T> guarded<T> source(std::size_t n, std::size_t offset) {
    guarded<T> out(n, offset, 0);
    for (std::size_t i = 0; i < n; ++i) out.span()[i] = element<T>(i);
    return out;
}
template <class Code> guarded<Code> code_source(std::size_t n, std::size_t offset) {
    guarded<Code> out(n, offset, 0);
    for (std::size_t i = 0; i < n; ++i) out.span()[i] = static_cast<Code>(i * 37 + 11);
    return out;
}

constexpr std::pair<std::size_t, std::size_t> offsets[] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {3, 5}, {7, 31}, {15, 63}};

// ---- kernels --------------------------------------------------------------------------------------------------------

/// One kernel call of each kind on `n` elements at the given offsets; how many elements and canaries came out wrong.
template <class Arch, class Code, class Params>
std::size_t kernel_mistakes(std::size_t n, std::size_t from, std::size_t to, const Params& params,
                            const quantize_options& options) {
    std::size_t wrong = 0;
    guarded<float> x = source<float>(n, from);
    guarded<Code> codes(n, to, 96);
    quant::simd::quantize<Arch>(x.data(), codes.data(), n, params, options);
    guarded<float> fake(n, to % 16, 96);
    quant::simd::fake_quant<Arch>(x.data(), fake.data(), n, params, options);
    guarded<float> in_place(n, from, 96);
    std::copy(x.span().begin(), x.span().end(), in_place.data());
    quant::simd::fake_quant<Arch>(in_place.data(), in_place.data(), n, params, options);
    guarded<Code> any = code_source<Code>(n, to);
    guarded<float> restored(n, from, 96);
    quant::simd::dequantize<Arch>(any.data(), restored.data(), n, params, options.stores);
    quant::simd::stream_fence();
    for (std::size_t i = 0; i < n; ++i) {
        const float expected = quant::fake_quant_one(x.span()[i], params[i], options, i);
        wrong += codes.span()[i] != quant::quantize_one(x.span()[i], params[i], options, i);
        wrong += !same(fake.span()[i], expected);
        wrong += !same(in_place.span()[i], expected);
        wrong += !same(restored.span()[i], quant::dequantize_one(any.span()[i], params[i]));
        wrong += !same(x.span()[i], element<float>(i));
    }
    wrong += !codes.intact() + !fake.intact() + !in_place.intact() + !restored.intact() + !x.intact();
    return wrong;
}

template <class Arch, class Code> std::size_t kernel_mistakes_everywhere() {
    constexpr std::size_t step = 4 * quant::simd::pack_of<float, Arch>::size;
    std::vector<std::size_t> lengths(2 * step + 4);
    std::iota(lengths.begin(), lengths.end(), std::size_t{0});
    for (const std::size_t far : {511u, 512u, 513u, 1023u, 1025u}) lengths.push_back(far);

    // Every second set of parameters is one of the run's.
    std::vector<affine_params> spread;
    for (const affine_params& p : params_for<Code>(lengths.back())) spread.insert(spread.end(), 2, p);
    static quant::simd::per_element_arrays<1025> arrays;
    arrays.load(spread.data(), 2, lengths.back());
    const quant::simd::per_element_params each = arrays.view(spread.data(), 2);
    const quant::simd::uniform_params one{{0.125f, 3, quant::full_range_format<Code>}};
    const quantize_options other{
        .round = quant::rounding::stochastic, .divide = quant::scale_by::reciprocal, .seed = 5, .first_index = 7};
    std::size_t wrong = 0;
    for (const std::size_t n : lengths)
        for (const auto& [from, to] : offsets) {
            wrong += kernel_mistakes<Arch, Code>(n, from, to, one, {});
            wrong += kernel_mistakes<Arch, Code>(n, from, to, one, {.stores = quant::store_policy::streaming});
            wrong += kernel_mistakes<Arch, Code>(n, from, to, each, from == 3 ? other : quantize_options{});
        }
    return wrong;
}

// ---- views ----------------------------------------------------------------------------------------------------------

/// How a tensor lies in its memory: which dimension is outermost there, how much room stands before and after each
/// dimension, and every how many places an element stands.
template <std::size_t Rank> struct placement {
    std::array<std::size_t, Rank> order{}, before{}, after{}, step{};
    placement() {
        std::iota(order.begin(), order.end(), std::size_t{0});
        step.fill(1);
    }
};
template <std::size_t Rank> placement<Rank> random_placement(std::mt19937& random, std::size_t max_memory_per_dim) {
    placement<Rank> p;
    for (std::size_t d = Rank; d-- > 1;) std::swap(p.order[d], p.order[random() % (d + 1)]);
    const auto kind = random() % 4; // 0: dense, 1: cut, 2: strided, 3: both
    for (std::size_t d = 0; d < Rank; ++d) {
        if (kind % 2 == 1) p.before[d] = random() % 2, p.after[d] = random() % 2;
        if (kind >= 2) p.step[d] = 1 + random() % max_memory_per_dim;
    }
    return p;
}

/// Memory and a view of it; everything outside the view is canary.
template <class T, std::size_t Rank> struct placed {
    std::vector<T> memory;
    tensor_view<T, Rank> view;

    placed(const std::array<std::size_t, Rank>& extents, const placement<Rank>& how) {
        std::array<std::ptrdiff_t, Rank> strides{};
        std::size_t total = 1, first = 0;
        for (std::size_t k = Rank; k-- > 0;) {
            const std::size_t d = how.order[k];
            strides[d] = static_cast<std::ptrdiff_t>(total * how.step[d]);
            first += how.before[d] * total;
            total *= how.before[d] + extents[d] * how.step[d] + how.after[d];
        }
        memory.assign(total + 2, canary_value<T>()); // at least one canary at either end
        const auto v = quant::strided_view(memory.data() + 1 + first, extents, strides);
        REQUIRE(v);
        view = *v;
    }
    T& operator[](const std::array<std::size_t, Rank>& index) const {
        std::size_t offset = 0;
        for (std::size_t d = 0; d < Rank; ++d) offset += index[d] * view.stride(d);
        return view.data()[offset];
    }
};

/// Calls f(index, row-major number) for every element.
template <std::size_t Rank, class F> void for_each_index(const std::array<std::size_t, Rank>& extents, F f) {
    std::size_t size = 1;
    for (const std::size_t e : extents) size *= e;
    std::array<std::size_t, Rank> index{};
    for (std::size_t i = 0; i < size; ++i) {
        f(index, i);
        for (std::size_t d = Rank; d-- > 0;) {
            if (++index[d] < extents[d]) break;
            index[d] = 0;
        }
    }
}

/// How many elements of the memory outside the view have been written.
template <class T, std::size_t Rank> std::size_t spilled(const placed<T, Rank>& t) {
    std::vector<bool> inside(t.memory.size());
    for_each_index(t.view.extents(), [&](const auto& index, std::size_t) {
        inside[static_cast<std::size_t>(&t[index] - t.memory.data())] = true;
    });
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < t.memory.size(); ++i) wrong += !inside[i] && !same(t.memory[i], canary_value<T>());
    return wrong;
}

/// All three verbs, and fake quantization in place, on one choice of extents, granularity and placements.
template <class T, class Code, std::size_t Rank>
std::size_t mistakes(const std::array<std::size_t, Rank>& extents, granularity g, const placement<Rank>& from,
                     const placement<Rank>& to, const quantize_options& options = {}) {
    const auto map = quant::resolve(g, extents);
    REQUIRE(map);
    const std::vector<affine_params> params = params_for<Code>(map->count);
    placed<T, Rank> src(extents, from), fake(extents, to), restored(extents, from);
    placed<Code, Rank> codes(extents, to);
    for_each_index(extents, [&](const auto& index, std::size_t i) { src[index] = element<T>(i); });

    std::size_t wrong = 0;
    wrong += !quant::quantize(src.view, codes.view, params, g, options);
    wrong += !quant::fake_quant(src.view, fake.view, params, g, options);
    wrong += !quant::dequantize(codes.view, restored.view, params, g);
    for_each_index(extents, [&](const auto& index, std::size_t i) {
        const affine_params& p = params[map->slice_of(index)];
        const T x = element<T>(i);
        wrong += codes[index] != quant::quantize_one(x, p, options, i);
        wrong += !same(fake[index], quant::fake_quant_one(x, p, options, i));
        wrong += !same(restored[index], quant::dequantize_one<T>(codes[index], p));
        wrong += !same(src[index], x);
    });
    wrong += !quant::fake_quant(src.view, src.view, params, g, options); // in place, in the source's own layout
    for_each_index(extents, [&](const auto& index, std::size_t) { wrong += !same(src[index], fake[index]); });
    return wrong + spilled(src) + spilled(codes) + spilled(fake) + spilled(restored);
}

template <std::size_t Rank> std::vector<granularity> granularities(std::initializer_list<std::size_t> groups) {
    std::vector<granularity> out{per_tensor};
    for (int axis = 0; axis < static_cast<int>(Rank); ++axis) {
        out.push_back(per_axis(axis));
        for (const std::size_t group : groups) out.push_back(per_group(axis, group));
    }
    return out;
}

/// Random extents, placements and granularities of one rank.
template <class T, class Code, std::size_t Rank> std::size_t random_mistakes(unsigned seed, int count) {
    std::mt19937 random(seed);
    std::size_t wrong = 0;
    for (int round = 0; round < count; ++round) {
        // One dimension long enough for vectors and tiles, the others a handful, 1 and 0 among them.
        std::array<std::size_t, Rank> extents{};
        for (std::size_t& e : extents) e = std::array<std::size_t, 8>{1, 2, 3, 1, 2, 4, 1, 5}[random() % 8];
        extents[random() % Rank] = std::array<std::size_t, 8>{15, 16, 17, 33, 63, 64, 65, 130}[random() % 8];
        if (round % 16 == 15) extents[random() % Rank] = 0;
        std::size_t size = 1;
        for (const std::size_t e : extents) size *= e;
        while (size > 4000) { // the memory of strided tensors is up to 3^Rank times as large
            std::size_t& largest = *std::max_element(extents.begin(), extents.end());
            size = size / largest * ((largest + 1) / 2);
            largest = (largest + 1) / 2;
        }
        const auto all = granularities<Rank>({2, 3, 16});
        const std::size_t per_dim = Rank <= 3 ? 4 : (Rank <= 5 ? 2 : 1);
        const auto from = random_placement<Rank>(random, per_dim), to = random_placement<Rank>(random, per_dim);
        const quantize_options options =
            round % 3 == 0 ? quantize_options{.round = quant::rounding::stochastic, .seed = 3, .first_index = 11}
                           : quantize_options{};
        wrong += mistakes<T, Code>(extents, all[random() % all.size()], from, to, options);
    }
    return wrong;
}

/// The orders in which the dimensions of a tensor of rank 2 or 3 can lie in memory.
template <std::size_t Rank> std::vector<placement<Rank>> all_orders() {
    std::vector<placement<Rank>> out;
    placement<Rank> p;
    do out.push_back(p);
    while (std::next_permutation(p.order.begin(), p.order.end()));
    return out;
}

using code_types = std::conditional_t<fewer_types, std::tuple<std::int8_t, std::uint16_t>,
                                      std::tuple<std::int8_t, std::uint8_t, std::int16_t, std::uint16_t>>;

} // namespace

// ---- kernels --------------------------------------------------------------------------------------------------------

TEMPLATE_LIST_TEST_CASE("kernels keep to their elements at every length and offset", "[shapes]", test::archs) {
    CHECK(kernel_mistakes_everywhere<TestType, std::int8_t>() == 0);
    CHECK(kernel_mistakes_everywhere<TestType, std::uint16_t>() == 0);
}

// ---- the verbs on one dimension -------------------------------------------------------------------------------------

TEMPLATE_LIST_TEST_CASE("the verbs keep to their elements at every length and offset", "[shapes]", code_types) {
    constexpr std::size_t lanes = quant::simd::pack_of<float, quant::simd::native>::size;
    std::vector<std::size_t> lengths{0, 1, 2, 3};
    for (const std::size_t near : {lanes, 2 * lanes, 4 * lanes, 8 * lanes, std::size_t{512}, std::size_t{1024}})
        for (const std::size_t n : {near - 1, near, near + 1}) lengths.push_back(n);
    std::size_t wrong = 0;
    for (const std::size_t n : lengths)
        for (const auto& [from, to] : offsets)
            for (const granularity g : {per_tensor, per_axis(0), per_group(0, 5), per_group(0, 64)}) {
                const std::array<std::size_t, 1> extents{n};
                const auto map = quant::resolve(g, extents);
                const std::vector<affine_params> params = params_for<TestType>(map->count);
                guarded<float> x = source<float>(n, from), fake(n, to % 16, 96), restored(n, from, 96);
                guarded<TestType> codes(n, to, 96), exact(n, to, 0);
                wrong += !quant::quantize(x.span(), codes.span(), params, g);
                wrong += !quant::fake_quant(x.span(), fake.span(), params, g);
                std::copy(codes.span().begin(), codes.span().end(), exact.data());
                wrong += !quant::dequantize(exact.span(), restored.span(), params, g);
                for (std::size_t i = 0; i < n; ++i) {
                    const affine_params& p = params[map->slice_of({i})];
                    wrong += codes.span()[i] != quant::quantize_one(x.span()[i], p);
                    wrong += !same(fake.span()[i], quant::fake_quant_one(x.span()[i], p));
                    wrong += !same(restored.span()[i], quant::dequantize_one(codes.span()[i], p));
                }
                wrong += !codes.intact() + !fake.intact() + !restored.intact() + !x.intact();
            }
    CHECK(wrong == 0);
}

TEST_CASE("a misaligned part of a tensor is quantized like the same values anywhere else", "[shapes]") {
    std::vector<float> x(400);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = element<float>(i);
    const affine_params p{0.25f, -2, quant::int8};
    std::vector<std::int8_t> whole(x.size());
    REQUIRE(quant::quantize(x, whole, p));
    std::size_t wrong = 0;
    for (std::size_t first = 0; first < 70; ++first)
        for (std::size_t n = 0; n < 140; n += 1 + n / 9) {
            std::vector<std::int8_t> part(n + 130, 77);
            wrong += !quant::quantize(std::span(x).subspan(first, n), std::span(part).subspan(first, n), p);
            for (std::size_t i = 0; i < part.size(); ++i)
                wrong += part[i] != (i >= first && i < first + n ? whole[i] : 77);
        }
    CHECK(wrong == 0);
}

// ---- views ----------------------------------------------------------------------------------------------------------

TEST_CASE("random views of every rank, both sides placed independently", "[shapes]") {
    CHECK(random_mistakes<float, std::int8_t, 1>(1, tested_rounds(300)) == 0);
    CHECK(random_mistakes<float, std::int8_t, 2>(2, tested_rounds(400)) == 0);
    CHECK(random_mistakes<float, tested<std::uint8_t>, 3>(3, tested_rounds(400)) == 0);
    CHECK(random_mistakes<float, tested<std::int16_t>, tested_rank(4)>(4, tested_rounds(300)) == 0);
    CHECK(random_mistakes<float, std::int8_t, tested_rank(5)>(5, tested_rounds(200)) == 0);
    CHECK(random_mistakes<float, tested<std::uint16_t>, tested_rank(6)>(6, tested_rounds(200)) == 0);
    CHECK(random_mistakes<float, std::int8_t, tested_rank(7)>(7, tested_rounds(200)) == 0);
    CHECK(random_mistakes<float, tested<std::uint8_t>, tested_rank(8)>(8, tested_rounds(200)) == 0);
}

TEST_CASE("random views of every element type", "[shapes]") {
    CHECK(random_mistakes<double, std::int8_t, 3>(11, tested_rounds(150)) == 0);
    CHECK(random_mistakes<float16, tested<std::uint8_t>, 3>(12, tested_rounds(150)) == 0);
    CHECK(random_mistakes<bfloat16, tested<std::int16_t>, 3>(13, tested_rounds(150)) == 0);
    CHECK(random_mistakes<double, tested<std::uint16_t>, 2>(14, tested_rounds(150)) == 0);
    CHECK(random_mistakes<float16, std::int8_t, tested_rank(4)>(15, tested_rounds(150)) == 0);
}

TEST_CASE("transposed matrices of every size around a block", "[shapes]") {
    std::size_t wrong = 0;
    const std::vector<std::size_t> sizes =
        slow ? std::vector<std::size_t>{1, 15, 16, 33, 64, 65, 130}
             : std::vector<std::size_t>{1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130};
    const auto all = granularities<2>({3, 32});
    std::size_t next = 0;
    for (const std::size_t rows : sizes)
        for (const std::size_t columns : sizes)
            for (const auto& from : all_orders<2>())
                for (const auto& to : all_orders<2>()) {
                    const std::array<std::size_t, 2> extents{rows, columns};
                    wrong += mistakes<float, std::int8_t>(extents, per_tensor, from, to);
                    wrong += mistakes<float, std::int8_t>(extents, all[++next % all.size()], from, to,
                                                          {.round = quant::rounding::stochastic, .seed = 9});
                }
    CHECK(wrong == 0);
}

TEST_CASE("large transposed matrices with every granularity and element type", "[shapes]") {
    std::size_t wrong = 0;
    const std::array<std::size_t, 2> extents{slow ? 70U : 203U, slow ? 610U : 1100U};
    placement<2> transposed, cut;
    transposed.order = {1, 0};
    cut.order = {1, 0};
    cut.before = {3, 1};
    cut.after = {2, 5};
    cut.step = {1, 2};
    for (const granularity g : granularities<2>({7, 64, 600})) {
        wrong += mistakes<float, std::int8_t>(extents, g, transposed, placement<2>{});
        wrong += mistakes<float, std::uint16_t>(extents, g, placement<2>{}, transposed);
        wrong += mistakes<float, std::uint8_t>(extents, g, cut, placement<2>{});
        wrong += mistakes<float16, std::int8_t>(extents, g, transposed, placement<2>{});
        wrong += mistakes<double, tested<std::int16_t>>(extents, g, placement<2>{}, cut);
    }
    CHECK(wrong == 0);
}

TEST_CASE("a transposed matrix that no second-level cache holds", "[shapes]") {
    // Parts of a larger matrix whose rows begin anywhere in a cache line, and one whose rows all begin with one.
    const std::size_t rows = 1030, columns = 1801, whole = rows * columns;
    const affine_params p{0.25f, -2, quant::int8};
    std::vector<float> x(whole + 4000), turned(x.size()), fake(x.size()), fake_turned(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = element<float>(i);
    std::vector<std::int8_t> codes(x.size()), codes_turned(x.size());
    std::size_t wrong = 0;
    for (const std::size_t offset : {0U, 3U})
        for (const auto stores : {quant::store_policy::cached, quant::store_policy::streaming}) {
            const std::array<std::size_t, 2> extents{rows - offset, columns - (offset == 0 ? 9 : 0)};
            const std::array<std::ptrdiff_t, 2> by_columns{1, static_cast<std::ptrdiff_t>(extents[0])};
            const auto transposed = [&](auto& v) {
                return *quant::strided_view(v.data() + offset, extents, by_columns);
            };
            const auto dense = [&](auto& v) { return quant::view(v.data() + offset, extents[0], extents[1]); };
            for (std::size_t r = 0; r < extents[0]; ++r)
                for (std::size_t c = 0; c < extents[1]; ++c) transposed(turned)(r, c) = dense(x)(r, c);
            wrong += !quant::quantize(dense(x), dense(codes), p);
            wrong += !quant::quantize(dense(x), transposed(codes_turned), p, {.stores = stores});
            for (std::size_t r = 0; r < extents[0]; ++r)
                for (std::size_t c = 0; c < extents[1]; ++c) {
                    wrong += dense(codes)(r, c) != quant::quantize_one(dense(x)(r, c), p);
                    wrong += transposed(codes_turned)(r, c) != dense(codes)(r, c);
                }
            std::fill(codes.begin(), codes.end(), std::int8_t{77});
            wrong += !quant::quantize(transposed(turned), dense(codes), p, {.stores = stores});
            wrong += !quant::fake_quant(transposed(turned), dense(fake), p, {.stores = stores});
            wrong += !quant::dequantize(transposed(codes_turned), dense(fake_turned), p, stores);
            for (std::size_t r = 0; r < extents[0]; ++r)
                for (std::size_t c = 0; c < extents[1]; ++c) {
                    wrong += dense(codes)(r, c) != transposed(codes_turned)(r, c);
                    wrong += !same(dense(fake)(r, c), dense(fake_turned)(r, c));
                }
        }
    CHECK(wrong == 0);
}

TEST_CASE("three dimensions in every order on both sides", "[shapes]") {
    std::size_t wrong = 0, next = 0;
    const auto all = granularities<3>({4, 33});
    for (const std::array<std::size_t, 3>& extents :
         {std::array<std::size_t, 3>{5, 33, 66}, std::array<std::size_t, 3>{40, 1, 70},
          std::array<std::size_t, 3>{64, 34, 3}})
        for (const auto& from : all_orders<3>())
            for (const auto& to : all_orders<3>()) {
                wrong += mistakes<float, std::int8_t>(extents, per_tensor, from, to);
                wrong += mistakes<float, tested<std::uint8_t>>(extents, all[++next % all.size()], from, to);
            }
    CHECK(wrong == 0);
}

TEST_CASE("every stride from 1 to 20 on either side", "[shapes]") {
    std::size_t wrong = 0;
    for (std::size_t from_step = 1; from_step <= 20; ++from_step)
        for (const std::size_t to_step : {std::size_t{1}, std::size_t{2}, std::size_t{3}, from_step}) {
            placement<1> from, to;
            from.step = {from_step};
            to.step = {to_step};
            for (const std::size_t n : {1u, 15u, 64u, 131u, 513u, 1100u})
                for (const granularity g : {per_tensor, per_axis(0), per_group(0, 100)}) {
                    wrong += mistakes<float, std::int8_t, 1>({n}, g, from, to);
                    if (to_step == 1) wrong += mistakes<float16, tested<std::uint8_t>, 1>({n}, g, from, to);
                }
        }
    CHECK(wrong == 0);
}

TEST_CASE("an empty dimension in any place is no work and no error", "[shapes]") {
    for (std::size_t empty = 0; empty < 8; ++empty) {
        std::array<std::size_t, 8> extents{2, 1, 3, 1, 1, 2, 1, 4};
        extents[empty] = 0;
        std::array<std::size_t, 8> strides{};
        strides.fill(3); // means nothing where there is no element
        float nothing = 0;
        std::int8_t code = 77;
        const tensor_view<float, 8> src(nullptr, extents, strides), dst(&nothing, extents, strides);
        const tensor_view<std::int8_t, 8> codes(&code, extents, strides);
        for (const granularity g : granularities<8>({1, 2, 5})) {
            const auto map = quant::resolve(g, extents);
            REQUIRE(map);
            const auto params = params_for<std::int8_t>(map->count);
            CHECK(quant::quantize(src, codes, params, g));
            CHECK(quant::fake_quant(src, dst, params, g));
            CHECK(quant::dequantize(codes, dst, params, g));
        }
        CHECK((nothing == 0.0f && code == 77));
    }
}

#if defined(QUANT_TEST_HAS_MMAP)
namespace {

/// Memory that costs nothing before it is touched.
template <class T> class sparse {
public:
    explicit sparse(std::size_t n)
        : bytes_(n * sizeof(T)),
          data_(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
    ~sparse() {
        if (*this) ::munmap(data_, bytes_);
    }
    sparse(const sparse&) = delete;
    sparse& operator=(const sparse&) = delete;
    explicit operator bool() const { return data_ != MAP_FAILED; }
    T* data() const { return static_cast<T*>(data_); }

private:
    std::size_t bytes_;
    void* data_;
};

template <std::size_t Rank>
std::size_t sparse_mistakes(const std::array<std::size_t, Rank>& extents, const std::array<std::size_t, Rank>& from,
                            const std::array<std::size_t, Rank>& to, granularity g) {
    const auto reach = [&](const std::array<std::size_t, Rank>& strides) {
        std::size_t out = 1;
        for (std::size_t d = 0; d < Rank; ++d) out += (extents[d] - 1) * strides[d];
        return out;
    };
    const sparse<float> x(reach(from)), fake(reach(to));
    const sparse<std::int8_t> codes(reach(to));
    if (!x || !fake || !codes) SKIP("no address space");
    const tensor_view<float, Rank> src(x.data(), extents, from), out(fake.data(), extents, to);
    const tensor_view<std::int8_t, Rank> dst(codes.data(), extents, to);
    const auto at = [](const auto& v, const auto& index) -> auto& {
        std::size_t offset = 0;
        for (std::size_t d = 0; d < Rank; ++d) offset += index[d] * v.stride(d);
        return v.data()[offset];
    };
    for_each_index(extents, [&](const auto& index, std::size_t i) { at(src, index) = element<float>(i); });
    const auto map = quant::resolve(g, extents);
    const auto params = params_for<std::int8_t>(map->count);
    std::size_t wrong = 0;
    wrong += !quant::quantize(src, dst, params, g);
    wrong += !quant::fake_quant(src, out, params, g);
    wrong += !quant::dequantize(dst, src, params, g); // the source is no longer needed
    for_each_index(extents, [&](const auto& index, std::size_t i) {
        const affine_params& p = params[map->slice_of(index)];
        wrong += at(dst, index) != quant::quantize_one(element<float>(i), p);
        wrong += !same(at(out, index), quant::fake_quant_one(element<float>(i), p));
        wrong += !same(at(src, index), quant::dequantize_one(at(dst, index), p));
    });
    return wrong;
}

} // namespace

TEST_CASE("strides of megabytes", "[shapes]") {
    constexpr std::size_t far = std::size_t{1} << 20;
    std::size_t wrong = 0;
    for (const granularity g : {per_tensor, per_axis(0), per_group(0, 7)}) {
        wrong += sparse_mistakes<1>({40}, {far}, {1}, g);
        wrong += sparse_mistakes<1>({40}, {1}, {far + 1}, g);
        wrong += sparse_mistakes<1>({40}, {far + 1}, {far}, g);
        wrong += sparse_mistakes<2>({20, 70}, {far, 1}, {1, 20}, g);
        wrong += sparse_mistakes<2>({70, 20}, {1, far}, {20, 1}, g);
        wrong += sparse_mistakes<2>({33, 18}, {1, far}, {far, 1}, g);
        wrong += sparse_mistakes<2>({9, 7}, {far, 10 * far}, {8 * far, far}, g);
        wrong += sparse_mistakes<3>({2, 3, 40}, {far, 4 * far, 1}, {1, 3 * far, far / 32}, g);
    }
    CHECK(wrong == 0);
}
#endif

#if defined(QUANT_TEST_HAS_FORK) && QUANT_ASSERT_LEVEL >= 1
TEST_CASE("a destination that overlaps the source in part is a broken precondition", "[shapes]") {
    using test::stops;
    const affine_params p{0.25f, 0, quant::int8};
    std::vector<float> x(400, 1.0f);
    const std::span<float> all(x);
    const auto square = quant::view(x.data(), 20, 20);
    const auto fake = [&](auto from, auto to) {
        return [=] { return static_cast<bool>(quant::fake_quant(from, to, p)); };
    };
    CHECK(stops(fake(all.first(300), all.last(300))));
    CHECK(stops(fake(all.last(300), all.first(300))));
    CHECK(stops(fake(all.first(201), all.last(200 + 1))));
    CHECK(stops(fake(square, square.permute({1, 0})))); // the same elements, elsewhere
    CHECK_FALSE(stops(fake(all, all)));
    CHECK_FALSE(stops(fake(square, square)));
    CHECK_FALSE(stops(fake(square, all))); // dense, so the same elements in the same places
    CHECK_FALSE(stops(fake(square.permute({1, 0}), square.permute({1, 0}))));
    CHECK_FALSE(stops(fake(all.first(200), all.last(200))));
    // Columns lie in each other's gaps.
    CHECK_FALSE(stops(fake(square.subview(1, 0, 10), square.subview(1, 10, 10))));
    CHECK_FALSE(stops(fake(square.slice(1, 3), square.slice(1, 4))));

    // Codes in the memory of the real values are not the same elements.
    const auto bytes = std::span(reinterpret_cast<std::int8_t*>(x.data()), 4 * x.size());
    CHECK(stops([&] { return static_cast<bool>(quant::quantize(all, bytes.first(400), p)); }));
    CHECK(stops([&] { return static_cast<bool>(quant::dequantize(bytes.last(400), all, p)); }));
    CHECK_FALSE(stops([&] { return static_cast<bool>(quant::quantize(all.first(100), bytes.subspan(400, 100), p)); }));
    CHECK_FALSE(stops([&] { return static_cast<bool>(quant::fake_quant(all.first(0), all.first(0), p)); }));
}
#endif
