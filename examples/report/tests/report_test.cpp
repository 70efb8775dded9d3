// SPDX-License-Identifier: MIT
// What is drawn of the library's histograms and parameters, and what a page holds of what it is given. How a page looks is
// looked at by look.py.

#include "../pictures.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <numeric>

using namespace quant_report;

namespace {

std::size_t occurrences(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++n;
    }
    return n;
}
std::uint64_t total(const histogram& h) { return std::accumulate(h.counts.begin(), h.counts.end(), std::uint64_t{0}); }

/// How many of the values lie in bin b, counted one by one; ties with an edge may fall on either side.
void check_counts(const histogram& h, const std::vector<float>& values) {
    REQUIRE(h.counts.size() <= max_bins);
    CHECK(total(h) == values.size());
    for (std::size_t b = 0; b < h.counts.size(); ++b) {
        const double low = h.first + static_cast<double>(b) * h.width, high = low + h.width;
        std::uint64_t inside = 0, at_edges = 0;
        for (const float v : values) {
            const auto x = static_cast<double>(v);
            inside += x > low && x < high ? 1U : 0U;
            at_edges += x == low || x == high ? 1U : 0U;
        }
        CHECK(h.counts[b] >= inside);
        CHECK(h.counts[b] <= inside + at_edges);
    }
}

page with_name(const std::string& name) {
    page p;
    p.title = "Title";
    p.columns = {{"bits"}};
    row r;
    r.name = name;
    r.cells = {{"4", 4.0}};
    r.caption = name;
    r.drawn = picture{{0, 1, {1, 2}}};
    p.rows = {r};
    p.charts = {{"Bits", "bits", {4}}};
    p.command = name;
    p.subject = name;
    p.notes = {name};
    p.facts = {{"Lowest SQNR", "3 dB", name}};
    return p;
}

} // namespace

TEST_CASE("a drawn histogram has every value in its bin", "[report]") {
    for (const float spread : {1e-30f, 0.37f, 1.0f, 1000.0f, 1e30f}) {
        for (const std::size_t n : {1u, 2u, 300u}) {
            std::vector<float> values;
            for (std::size_t i = 0; i < n; ++i) {
                const auto t = static_cast<float>(i * 7919 % 1009) / 1009;
                values.push_back((t * t * 3 - 1) * spread);
            }
            quant::histogram_observer<> h;
            h.observe(std::span<const float>(values));
            const auto drawn = draw(h);
            REQUIRE(drawn);
            check_counts(drawn->values, values);
            CHECK_FALSE(drawn->codes);
            CHECK(drawn->values.counts.front() != 0); // no empty margins
            CHECK(drawn->values.counts.back() != 0);
        }
    }
}

TEST_CASE("two tensors are drawn in the same bins", "[report]") {
    const std::vector<float> a{-1, -0.5f, 0, 0.25f, 3}, b{0.001f, 0.002f, 0.001f}, none;
    quant::histogram_observer<> of_a, of_b, of_none;
    of_a.observe(std::span<const float>(a));
    of_b.observe(std::span<const float>(b));
    const auto drawn = draw(of_a, of_b);
    REQUIRE(drawn);
    REQUIRE(drawn->others);
    CHECK(drawn->others->first == drawn->values.first);
    CHECK(drawn->others->width == drawn->values.width);
    CHECK(drawn->others->counts.size() == drawn->values.counts.size());
    check_counts(drawn->values, a);
    check_counts(*drawn->others, b);
    CHECK(draw(of_none) == std::nullopt);
    CHECK(draw(of_none, of_none) == std::nullopt);
    CHECK(total(draw(of_a, of_none)->values) == 5);
    CHECK(total(draw(of_none, of_b)->values) == 3);
}

TEST_CASE("the codes drawn are those of the slice of middle width", "[report]") {
    const auto format = quant::int4;
    const std::vector<quant::affine_params> params{{3.0f, 0, format}, {1.0f, 0, format}, {0.5f, 2, format}};
    const auto drawn = draw(params, {});
    REQUIRE(drawn);
    CHECK(drawn->slices == 3);
    CHECK(drawn->low == -8);
    CHECK(drawn->high == 7);
    CHECK(drawn->lowest == -24);
    CHECK(drawn->highest == 21);
    REQUIRE(drawn->levels.size() == 16);
    CHECK(drawn->levels[3] == -5);

    const std::vector<quant::channel_correction> corrections{{1, 0}, {2, 0.25f}, {1, 0}};
    const auto corrected = draw(params, corrections);
    CHECK(corrected->low == -15.75); // 2 * -8 + 0.25
    CHECK(corrected->high == 14.25);

    CHECK(
        draw(std::vector<quant::affine_params>{{1.0f, 0, quant::int8}}, {})->levels.empty()); // too many to tell apart
    CHECK(draw(std::span<const quant::affine_params>{}, {}) == std::nullopt);
}

TEST_CASE("names become text, never markup or template", "[report]") {
    const auto plain = render(with_name("conv"));
    for (const std::string name :
         {"</script><script>bad()</script>", "<img src=x onerror=bad()>", "\"' onmouseover='bad()", "{{{title}}}",
          "{{#rows}}", "{{=<% %>=}}", "<!--", "&lt;", "]]>", "\xff\xc3<i>", "%s%n"}) {
        INFO(name);
        const auto html = render(with_name(name));
        for (const char* mark : {"<", ">", "<script", "<!--", "\""}) { // escaped: as many as with a harmless name
            CHECK(occurrences(html, mark) == occurrences(plain, mark));
        }
        CHECK(html.ends_with("</html>\n"));
    }
    CHECK(render(with_name("a{{title}}b")).find("a{{title}}b") != std::string::npos);
    const auto hidden = render(with_name(std::string("zero\0bell\a", 10)));
    CHECK(hidden.find('\a') == std::string::npos);
    CHECK(hidden.find('\0') == std::string::npos);
}

TEST_CASE("a page of nothing is a page", "[report]") {
    const auto html = render(page{});
    CHECK(html.starts_with("<!DOCTYPE html>"));
    CHECK(html.ends_with("</html>\n"));
    CHECK(html.find("There are none.") != std::string::npos);
    CHECK(html.find("<table") == std::string::npos);
    CHECK(html.find("<figure") == std::string::npos);
}

TEST_CASE("what a page takes per tensor is bounded", "[report]") {
    page p = with_name(std::string(100'000, 'n'));
    p.command = p.subject = "";
    p.notes.clear();
    auto& r = p.rows[0];
    r.caption = "";
    r.drawn->values.counts.clear();
    for (std::size_t i = 0; i < max_bins; ++i) {
        r.drawn->values.counts.push_back(i * 1'000'003 % 1'000'000'007 + 1);
    }
    r.drawn->others = r.drawn->values;
    r.drawn->codes = code_range{1, 100, 0, 120, std::vector<double>(max_levels, 55.5), 3};
    const auto one = render(p).size();
    p.rows.push_back(r);
    CHECK(render(p).size() - one < 8000);
}

TEST_CASE("numbers that are none draw nothing wrong", "[report]") {
    const auto inf = std::numeric_limits<double>::infinity();
    page p = with_name("conv");
    p.rows[0].cells[0] = {"exact", inf};
    for (const double value : {unknown, inf, -inf, -3.5, 0.0, 1e300}) {
        p.charts = {{"SQNR", "dB", {value}}};
        p.measures = {{"Accuracy", 0, {{"float", "?", value, value, value}}}};
        const auto html = render(p);
        for (const char* bad : {"\"nan", "\"inf", "\"-inf", "\"-nan", "nan%", "inf%"}) {
            INFO(value << " " << bad);
            CHECK(html.find(bad) == std::string::npos);
        }
    }
    p.charts = {{"SQNR", "dB", {unknown}}};
    CHECK(render(p).find("class=\"plot\"") == std::string::npos); // no chart of nothing
}
