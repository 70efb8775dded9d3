// SPDX-License-Identifier: MIT
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <memory>
#include <quant/core/status.hpp>
#include <quant/message.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

using quant::errc;
using quant::result;
using quant::status;

TEST_CASE("a status is true when ok and names the argument otherwise", "[status]") {
    static_assert(status{});
    static_assert(!status{errc::no_data, "observer"});
    static_assert(std::is_trivially_copyable_v<status>);
    static_assert(!std::is_convertible_v<status, bool>); // explicit: no arithmetic with outcomes by accident
    const status bad{errc::shape_mismatch, "codes"};
    CHECK_FALSE(static_cast<bool>(bad));
    CHECK(std::string(bad.argument) == "codes");
    CHECK(std::string(status{}.argument).empty());
}

TEST_CASE("a result holds a value or the reason for its absence", "[status]") {
    constexpr result<int> good(7);
    static_assert(good && *good == 7 && good.status());
    constexpr result<int> bad(status{errc::invalid_range, "range"});
    static_assert(!bad && bad.status().code == errc::invalid_range);
    CHECK(std::string(bad.status().argument) == "range");

    struct pair {
        int a = 0, b = 0;
    };
    result<pair> two(pair{1, 2});
    two->b = 5;
    (*two).a = 4;
    CHECK(std::as_const(two)->a + two->b == 9);
}

TEST_CASE("a result moves what cannot be copied", "[status]") {
    result<std::unique_ptr<int>> owner(std::make_unique<int>(3));
    REQUIRE(owner);
    const std::unique_ptr<int> taken = *std::move(owner);
    CHECK(*taken == 3);
}

TEST_CASE("every error code has a message of its own", "[status]") {
    std::set<std::string> texts;
    const int last = static_cast<int>(errc::out_of_memory);
    for (int i = 0; i <= last; ++i) {
        const char* text = quant::message(static_cast<errc>(i));
        REQUIRE(text != nullptr);
        CHECK(std::strlen(text) > 1);
        CHECK(std::string(text) != "unknown error code");
        texts.insert(text);
    }
    CHECK(texts.size() == static_cast<std::size_t>(last) + 1);
    CHECK(std::string(quant::message(static_cast<errc>(last + 1))) == "unknown error code");
    CHECK(std::string(quant::message(status{errc::no_data, "x"})) == quant::message(errc::no_data));
}
