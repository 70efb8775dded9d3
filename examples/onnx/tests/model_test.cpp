// SPDX-License-Identifier: MIT
// Reading and writing: what another program's protobuf classes see in a written file, and every kind of bad file.

#include "support.hpp"

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
