// SPDX-License-Identifier: MIT
// Reading and writing: what another program's protobuf classes see in a written file, and every kind of bad file.

#include "support.hpp"

#include <algorithm>
#include <cstdlib>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace quant_onnx_test;
namespace fs = std::filesystem;
using google::protobuf::util::MessageDifferencer;

namespace {

/// The messages are equal: protobuf's own comparison, unknown fields included.
void check_round_trip(const std::string& from, const std::string& to) {
    const auto size = quant_onnx::write(quant_onnx::read(from), to, false);
    CHECK(size == fs::file_size(to));
    CHECK(MessageDifferencer::Equals(message_of(from), message_of(to)));
}

/// The one-line message of a model that must be refused as unusable input.
std::string refusal(const std::string& path) {
    try {
        (void)quant_onnx::read(path);
    } catch (const quant_tool::error& e) {
        CHECK(e.code() == quant_tool::exit_code::input);
        CHECK_THAT(e.what(), Catch::Matchers::ContainsSubstring(fs::path(path).filename().string()));
        return e.what();
    }
    FAIL("was read: " << path);
    return {};
}

/// A model whose weight lies in another file.
onnx::ModelProto external_model(const std::string& location, const std::string& offset = "",
                                const std::string& length = "") {
    auto m = gemm_model();
    auto& t = *m.mutable_graph()->mutable_initializer(0);
    t.clear_raw_data();
    t.set_data_location(onnx::TensorProto::EXTERNAL);
    for (const auto& [key, value] : {std::pair{"location", location}, {"offset", offset}, {"length", length}}) {
        if (!value.empty()) {
            auto& entry = *t.add_external_data();
            entry.set_key(key);
            entry.set_value(value);
        }
    }
    return m;
}

} // namespace

TEST_CASE("a model is written as it was read") {
    const scratch_directory scratch;
    auto m = gemm_model();
    auto& g = *m.mutable_graph();
    m.set_doc_string("documentation");
    auto& meta = *m.add_metadata_props();
    meta.set_key("k");
    meta.set_value("v");
    add_value(*g.add_value_info(), "y", {-1, 4});
    g.mutable_initializer(0)->set_doc_string("of a tensor");
    auto& set = *m.add_opset_import();
    set.set_domain("com.example");
    set.set_version(3);
    auto& words = *g.add_initializer(); // strings have no bytes to show
    words.set_name("words");
    words.set_data_type(8);
    words.add_dims(2);
    words.add_string_data("one");
    words.add_string_data("two");
    m.GetReflection()->MutableUnknownFields(&m)->AddVarint(99, 7); // of a future version
    quant_test::write_file(scratch / "a.onnx", m.SerializeAsString());
    check_round_trip(scratch / "a.onnx", scratch / "b.onnx");
}

TEST_CASE("the networks are written as they were read", "[data]") {
    const char* const data = std::getenv("QUANT_DATA");
    if (data == nullptr) {
        SKIP("QUANT_DATA is not set");
    }
    const scratch_directory scratch;
    std::size_t found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(data)) {
        if (entry.path().extension() == ".onnx") {
            INFO(entry.path());
            check_round_trip(entry.path().string(), scratch / (std::to_string(++found) + ".onnx"));
        }
    }
    CHECK(found > 0);
}

TEST_CASE("elements in typed fields are read as raw data would be") {
    struct {
        int type;
        std::size_t bytes;
    } const kinds[] = {{1, 4}, {2, 1},  {3, 1},  {4, 2},  {5, 2},  {6, 4}, {7, 8},
                       {9, 1}, {10, 2}, {11, 8}, {12, 4}, {13, 8}, {16, 2}};
    for (const auto& [type, bytes] : kinds) {
        INFO(type);
        auto m = gemm_model();
        auto& t = *m.mutable_graph()->add_initializer();
        t.set_name("t");
        t.set_data_type(type);
        t.add_dims(3);
        std::string expected;
        for (const int v : {1, 0, 1}) {
            std::uint64_t pattern = static_cast<std::uint64_t>(v);
            switch (type) {
            case 1:
                t.add_float_data(static_cast<float>(v));
                pattern = v == 1 ? 0x3f800000u : 0;
                break;
            case 11:
                t.add_double_data(v);
                pattern = v == 1 ? 0x3ff0000000000000u : 0;
                break;
            case 7:
                t.add_int64_data(-v);
                pattern = v == 1 ? ~std::uint64_t{0} : 0;
                break;
            case 12:
            case 13: t.add_uint64_data(static_cast<std::uint64_t>(v)); break;
            default: t.add_int32_data(v); break;
            }
            expected += quant_test::little_endian(pattern).substr(0, bytes);
        }
        const auto file = m.SerializeAsString();
        const auto model = parse(file);
        const auto got = model.find("t")->bytes();
        CHECK(std::string(reinterpret_cast<const char*>(got.data()), got.size()) == expected);
    }
    // 4 bits: two elements in each number.
    auto m = gemm_model();
    auto& t = *m.mutable_graph()->add_initializer();
    t.set_name("t");
    t.set_data_type(22);
    t.add_dims(3);
    t.add_int32_data(0x21);
    t.add_int32_data(0x03);
    const auto file = m.SerializeAsString();
    CHECK(parse(file).find("t")->bytes() == std::vector{std::byte{0x21}, std::byte{0x03}});
}

TEST_CASE("real elements become floats") {
    const auto value = [](quant_onnx::element_type type, const std::string& bytes) {
        quant_onnx::tensor t;
        t.type = type;
        t.shape = {1};
        t.data = std::as_bytes(std::span(bytes));
        return t.floats().at(0);
    };
    CHECK(value(quant_onnx::element_type::float16, std::string("\x00\xc1", 2)) == -2.5f);
    CHECK(value(quant_onnx::element_type::bfloat16, std::string("\x20\xc0", 2)) == -2.5f);
    CHECK(value(quant_onnx::element_type::float32, std::string("\x00\x00\x20\xc0", 4)) == -2.5f);
    CHECK(value(quant_onnx::element_type::float64, std::string("\0\0\0\0\0\0\x04\xc0", 8)) == -2.5f);
    CHECK_THROWS_AS(value(quant_onnx::element_type::int8, "a"), quant_tool::error);
}

TEST_CASE("a truncated or damaged model is refused or read, never more") {
    auto m = gemm_model(3, 2);
    add_value(*m.mutable_graph()->add_value_info(), "y", {-1, 2});
    const auto whole = m.SerializeAsString();
    for (std::size_t n = 0; n < whole.size(); ++n) { // the operators' version comes last
        const std::string part = whole.substr(0, n);
        INFO(n);
        CHECK_THROWS_AS(parse(part), quant_tool::error);
    }
    std::size_t read = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
        for (const unsigned flip : {0x01u, 0x04u, 0x80u, 0xffu}) {
            auto damaged = whole;
            damaged[i] = static_cast<char>(static_cast<unsigned char>(damaged[i]) ^ flip);
            try {
                const auto model = parse(damaged);
                ++read;
                for (const auto& t : model.initializers) {
                    CHECK(t.data.size() == t.byte_size());
                }
            } catch (const quant_tool::error& e) {
                CHECK(e.code() == quant_tool::exit_code::input);
            }
        }
    }
    CHECK(read > 0); // a letter of a name
}

TEST_CASE("a file that is no usable model is refused with its cause") {
    const scratch_directory scratch;
    using Catch::Matchers::ContainsSubstring;
    const auto refused = [&](const std::string& title, const std::function<void(onnx::ModelProto&)>& spoil,
                             const std::string& cause) {
        INFO(title);
        auto m = gemm_model();
        spoil(m);
        quant_test::write_file(scratch / "bad.onnx", m.SerializeAsString());
        CHECK_THAT(refusal(scratch / "bad.onnx"), ContainsSubstring(cause));
    };
    const auto weight = [](onnx::ModelProto& m) -> onnx::TensorProto& {
        return *m.mutable_graph()->mutable_initializer(0);
    };
    refused(
        "no graph", [](auto& m) { m.clear_graph(); }, "is not an ONNX model");
    refused(
        "no format version", [](auto& m) { m.clear_ir_version(); }, "is not an ONNX model");
    refused(
        "no operators' version", [](auto& m) { m.clear_opset_import(); }, "version of ONNX's operators");
    refused(
        "the shape says more", [&](auto& m) { weight(m).set_dims(0, 9); },
        "'w': has 128 bytes of data, its shape needs 144");
    refused(
        "the shape says less", [&](auto& m) { weight(m).set_dims(0, 7); }, "its shape needs 112");
    refused(
        "a negative extent", [&](auto& m) { weight(m).set_dims(0, -8); }, "negative extent -8");
    refused(
        "a shape beyond counting", [&](auto& m) { weight(m).set_dims(0, std::int64_t{1} << 62); },
        "more elements than");
    refused(
        "a hundred dimensions",
        [&](auto& m) {
            for (int i = 0; i < 98; ++i) weight(m).add_dims(1);
        },
        "100 dimensions");
    refused(
        "no name", [&](auto& m) { weight(m).clear_name(); }, "without a name");
    refused(
        "no type", [&](auto& m) { weight(m).clear_data_type(); }, "has no element type");
    refused(
        "no data", [&](auto& m) { weight(m).clear_raw_data(); }, "has 0 bytes");
    refused(
        "data twice", [&](auto& m) { weight(m).add_float_data(1); }, "elements twice");
    refused(
        "segments", [&](auto& m) { weight(m).mutable_segment()->set_begin(0); }, "in segments");
    refused(
        "one name twice", [&](auto& m) { weight(m).set_name("b"); }, "'b': is there twice");
    refused(
        "one value made twice", [](auto& m) { *m.mutable_graph()->add_node() = m.graph().node(0); },
        "node 'fc' (Gemm) makes 'y', which is there already");
    refused(
        "an initializer made by a node", [](auto& m) { m.mutable_graph()->mutable_node(0)->set_output(0, "b"); },
        "makes 'b'");

    quant_test::write_file(scratch / "empty.onnx", "");
    CHECK_THAT(refusal(scratch / "empty.onnx"), ContainsSubstring("is not an ONNX model"));
    quant_test::write_file(scratch / "text.onnx", "this is a text, not a model\n");
    CHECK_THAT(refusal(scratch / "text.onnx"), ContainsSubstring("not an ONNX file"));
    const auto once = gemm_model();
    const auto file = once.SerializeAsString();
    onnx::ModelProto second; // protobuf would merge the two
    *second.mutable_graph() = once.graph();
    quant_test::write_file(scratch / "two.onnx", file + second.SerializeAsString());
    CHECK_THAT(refusal(scratch / "two.onnx"), ContainsSubstring("two graphs"));
    CHECK_THAT(refusal(scratch / "missing.onnx"), ContainsSubstring("No such file"));
    CHECK_THAT(refusal(scratch.path()), ContainsSubstring("is a directory"));
}

TEST_CASE("a model beyond 2 GiB is refused, external data may be larger") {
    const scratch_directory scratch;
    using Catch::Matchers::ContainsSubstring;
    quant_test::write_file(scratch / "large.onnx", gemm_model().SerializeAsString());
    fs::resize_file(scratch / "large.onnx", std::uint64_t{1} << 31); // takes no room on the disk
    CHECK_THAT(refusal(scratch / "large.onnx"), ContainsSubstring("larger than 2 GiB"));

    auto m = external_model("large.bin");
    m.mutable_graph()->mutable_initializer(0)->set_dims(0, std::int64_t{1} << 27);
    quant_test::write_file(scratch / "outside.onnx", m.SerializeAsString());
    quant_test::write_file(scratch / "large.bin", "");
    fs::resize_file(scratch / "large.bin", std::uint64_t{1} << 31);
    const auto model = quant_onnx::read(scratch / "outside.onnx");
    CHECK(model.find("w")->byte_size() == std::uint64_t{1} << 31);
}

TEST_CASE("weights of a model that would be too large are written beside it") {
    const scratch_directory scratch;
    using Catch::Matchers::ContainsSubstring;
    using quant_onnx::where_weights_stand;
    quant_test::write_file(scratch / "a.onnx", gemm_model(32, 16).SerializeAsString()); // 2 KB and a bias of 64 bytes
    auto model = quant_onnx::read(scratch / "a.onnx");
    const auto whole = fs::file_size(scratch / "a.onnx");
    CHECK(quant_onnx::write(model, scratch / "b.onnx", false, where_weights_stand::by_size, whole) == whole);
    CHECK(!fs::exists(scratch / "b.onnx.data"));
    const auto check = [&](const char* name, std::uint64_t size) {
        const auto path = scratch / name;
        CHECK(fs::file_size(path) + fs::file_size(path + ".data") == size);
        CHECK(fs::file_size(path) < 1000);
        const auto again = quant_onnx::read(path);
        CHECK(again.external_files.size() == 1);
        quant_onnx::write(again, scratch / "inside.onnx", true);
        CHECK(MessageDifferencer::Equals(message_of(scratch / "inside.onnx"), message_of(scratch / "a.onnx")));
    };
    check("c.onnx", quant_onnx::write(model, scratch / "c.onnx", false, where_weights_stand::by_size, whole - 1));
    check("d.onnx", quant_onnx::write(model, scratch / "d.onnx", false, where_weights_stand::beside));
    // A second large tensor begins at a page.
    auto two = model;
    two.initializers.push_back(*two.find("w"));
    two.initializers.back().name = "v";
    quant_onnx::write(two, scratch / "e.onnx", false, where_weights_stand::beside);
    CHECK(fs::file_size(scratch / "e.onnx.data") == 4096 + 2048);
    const auto again = quant_onnx::read(scratch / "e.onnx");
    CHECK(std::ranges::equal(again.find("v")->data, model.find("w")->data));

    // Both files or none.
    const auto before = scratch.entries();
    quant_test::write_file(scratch / "f.onnx.data", "precious");
    CHECK_THROWS_AS(quant_onnx::write(model, scratch / "f.onnx", false, where_weights_stand::beside),
                    quant_tool::error);
    CHECK(quant_test::read_file(scratch / "f.onnx.data") == "precious");
    CHECK(scratch.entries() == before + 1);
    model.find("w")->fill = [](std::span<std::byte>) { throw std::runtime_error("in the middle"); };
    CHECK_THROWS_AS(quant_onnx::write(model, scratch / "g.onnx", false, where_weights_stand::beside),
                    std::runtime_error);
    CHECK(scratch.entries() == before + 1);
    try {
        quant_onnx::write(model, scratch / "h.onnx", false, where_weights_stand::beside, 100);
        FAIL("was written");
    } catch (const quant_tool::error& e) {
        CHECK_THAT(e.what(), ContainsSubstring("larger than 2 GiB even without its weights"));
    }
    CHECK(scratch.entries() == before + 1);
}

TEST_CASE("external data are read from the model's folder only") {
    const scratch_directory scratch;
    using Catch::Matchers::ContainsSubstring;
    const auto inside = gemm_model();
    const auto& bytes = inside.graph().initializer(0).raw_data();
    fs::create_directories(scratch / "model/data");
    quant_test::write_file(scratch / "model/w.bin", "0123" + bytes + "rest");
    quant_test::write_file(scratch / "model/data/w.bin", bytes);
    quant_test::write_file(scratch / "secret.bin", bytes);
    const auto path = scratch / "model/m.onnx";
    const auto save = [&](const onnx::ModelProto& m) { quant_test::write_file(path, m.SerializeAsString()); };

    for (const auto& m : {external_model("w.bin", "4", "128"), external_model("w.bin", "4"),
                          external_model("data/w.bin"), external_model("./data/w.bin", "0")}) {
        save(m);
        const auto model = quant_onnx::read(path);
        CHECK(model.external_files.size() == 1);
        quant_onnx::write(model, scratch / "inside.onnx", true);
        CHECK(MessageDifferencer::Equals(message_of(scratch / "inside.onnx"), inside));
    }
    fs::create_symlink("w.bin", scratch / "model/link.bin"); // a link within the folder is fine
    save(external_model("link.bin", "4"));
    CHECK_NOTHROW(quant_onnx::read(path));

    fs::create_symlink("../secret.bin", scratch / "model/out.bin");
    fs::create_directory_symlink("..", scratch / "model/up");
    for (const auto& location :
         {std::string("../secret.bin"), std::string("data/../../secret.bin"), scratch / "secret.bin",
          std::string("out.bin"), std::string("up/secret.bin"), std::string("data/../w.bin")}) {
        INFO(location);
        save(external_model(location));
        CHECK_THAT(refusal(path), ContainsSubstring("outside the folder of the model"));
    }
    const auto refused = [&](const onnx::ModelProto& m, const std::string& cause) {
        save(m);
        CHECK_THAT(refusal(path), ContainsSubstring(cause));
    };
    refused(external_model(""), "no file name");
    refused(external_model(std::string("w.bin\0x", 7)), "no file name");
    refused(external_model("nothing.bin"), "No such file");
    refused(external_model("data"), "is a directory");
    refused(external_model("w.bin", "12"), "end beyond the end of 'w.bin'");
    refused(external_model("w.bin", "999999999999999999"), "end beyond");
    refused(external_model("w.bin", "-4"), "not a number");
    refused(external_model("w.bin", "99999999999999999999"), "not a number");
    refused(external_model("w.bin", "4", "64"), "has 64 bytes of external data, its shape needs 128");
    auto twice = external_model("w.bin", "4");
    twice.mutable_graph()->mutable_initializer(0)->set_raw_data(bytes);
    refused(twice, "elements twice");
}

TEST_CASE("a failed write leaves nothing behind") {
    const scratch_directory scratch;
    quant_test::write_file(scratch / "a.onnx", gemm_model().SerializeAsString());
    auto model = quant_onnx::read(scratch / "a.onnx");
    CHECK_THROWS_AS(quant_onnx::write(model, scratch / "a.onnx", false), quant_tool::error);
    model.find("w")->fill = [](std::span<std::byte>) { throw std::runtime_error("in the middle"); };
    CHECK_THROWS_AS(quant_onnx::write(model, scratch / "b.onnx", false), std::runtime_error);
    CHECK(scratch.entries() == 1);
    model.find("w")->fill = [](std::span<std::byte> out) { std::fill(out.begin(), out.end(), std::byte{1}); };
    quant_onnx::write(model, scratch / "b.onnx", false);
    CHECK(message_of(scratch / "b.onnx").graph().initializer(0).raw_data() == std::string(128, '\x01'));
}
