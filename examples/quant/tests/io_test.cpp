// SPDX-License-Identifier: MIT
// Readers and writers of the tool: what they accept, what they refuse and how, and that outputs are whole or absent.

#include "support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace quant_tool;
using namespace quant_test;

namespace {

/// The bytes of a tensor as text, to compare with.
std::string bytes_of(const tensor& t) { return {reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()}; }
template <class T> std::vector<T> values_of(tensor& t) {
    const auto v = t.as<T>();
    return {v.begin(), v.end()};
}
tensor_file sample() {
    tensor_file f;
    f.tensors.push_back(make_tensor("odd", dtype::u8, {3}, std::vector<std::uint8_t>{1, 2, 3}));
    f.tensors.push_back(make_tensor("w", dtype::f32, {2, 1}, std::vector<float>{1.5f, -2.0f}));
    f.tensors.push_back(make_tensor("empty", dtype::f16, {0, 7}, std::vector<std::uint16_t>{}));
    f.tensors.push_back(make_tensor("scalar", dtype::f64, {}, std::vector<double>{0.25}));
    f.metadata = {{"format", "pt"}, {"note", "a \"quoted\" \u00fc"}};
    return f;
}
error caught(const std::function<void()>& f) {
    try {
        f();
    } catch (const error& e) {
        return e;
    }
    return {exit_code::ok, {}, "nothing was thrown"};
}

} // namespace

TEST_CASE("every bad file is refused with one line that names file, tensor and cause") {
    for (const auto& bad : bad_files()) {
        DYNAMIC_SECTION(bad.name << ": " << bad.title) {
            const scratch_directory dir;
            const auto path = dir / bad.name;
            write_file(path, bad.content);
            const auto e = caught([&] { (void)read_tensors(path); });
            CHECK(e.code() == exit_code::input);
            const std::string line = e.what();
            INFO(line);
            CHECK(line.starts_with(path + ": "));
            CHECK(line.find('\n') == std::string::npos);
            for (const auto& word : bad.message) {
                CHECK(line.find(word) != std::string::npos);
            }
        }
    }
}

TEST_CASE("a missing file, a directory and a FIFO are refused") {
    const scratch_directory dir;
    CHECK(std::string(caught([&] { (void)read_tensors(dir / "no.safetensors"); }).what())
              .ends_with("No such file or directory"));
    fs::create_directory(dir / "d.npy");
    CHECK(std::string(caught([&] { (void)read_tensors(dir / "d.npy"); }).what()).ends_with("is a directory"));
    REQUIRE(::mkfifo((dir / "f.npz").c_str(), 0600) == 0);
    CHECK(std::string(caught([&] { (void)read_tensors(dir / "f.npz"); }).what()).ends_with("is not a regular file"));
}

TEST_CASE("safetensors: a file made by hand reads back, in any header order and without alignment") {
    const scratch_directory dir;
    // The header has an odd length, so the floats are misaligned; the tensors stand in reverse order of their bytes.
    std::string header = R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"__metadata__":{"k":"v"},)"
                         R"("z":{"dtype":"BF16","shape":[0,9],"data_offsets":[1,1]},)"
                         R"("a":{"shape":[],"dtype":"BOOL","data_offsets":[0,1]}})";
    if (header.size() % 2 == 0) {
        header += ' ';
    }
    write_file(dir / "m.safetensors", safetensors(header, std::string("\1\0\0\x80\x3f", 5)));
    auto f = read_safetensors(dir / "m.safetensors");
    REQUIRE(f.tensors.size() == 3);
    CHECK(f.tensors[0].name == "a");
    CHECK(f.tensors[0].shape.empty());
    CHECK(f.tensors[0].size() == 1);
    CHECK(f.tensors[1].name == "z");
    CHECK(f.tensors[1].size() == 0);
    CHECK(values_of<float>(f.tensors[2]) == std::vector{1.0f});
    CHECK(f.metadata == text_metadata{{"k", "v"}});
    CHECK(f.bytes_on_disk == 8 + header.size() + 5);
}

TEST_CASE("safetensors: an empty file of no tensors is legal") {
    const scratch_directory dir;
    write_file(dir / "m.safetensors", safetensors("{}", ""));
    CHECK(read_safetensors(dir / "m.safetensors").tensors.empty());
}

TEST_CASE("safetensors: the writer's bytes are those of the format's specification") {
    const scratch_directory dir;
    tensor_file f;
    f.tensors.push_back(make_tensor("b", dtype::u8, {1}, std::vector<std::uint8_t>{7}));
    f.tensors.push_back(make_tensor("a", dtype::f32, {1}, std::vector<float>{1.0f}));
    const auto size = write_safetensors(dir / "m.safetensors", f);
    std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                         R"("b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})";
    header.append((8 - header.size() % 8) % 8, ' ');
    const auto expected = safetensors(header, std::string("\0\0\x80\x3f\7", 5));
    CHECK(read_file(dir / "m.safetensors") == expected);
    CHECK(size == expected.size());
}

TEST_CASE("every format restores names, shapes, bytes and metadata") {
    const scratch_directory dir;
    for (const std::string ending : {"safetensors", "npz"}) {
        const auto path = dir / ("m." + ending);
        const auto size = write_tensors(path, sample(), overwrite::no);
        CHECK(size == fs::file_size(path));
        auto f = read_tensors(path);
        CHECK(f.metadata == sample().metadata);
        REQUIRE(f.tensors.size() == sample().tensors.size());
        for (const auto& t : sample().tensors) {
            const auto* back = f.find(t.name);
            REQUIRE(back != nullptr);
            CHECK(back->type == t.type);
            CHECK(back->shape == t.shape);
            CHECK(bytes_of(*back) == bytes_of(t));
        }
        const auto first = read_file(path);
        write_tensors(path, sample(), overwrite::yes);
        CHECK(read_file(path) == first);
    }
}

TEST_CASE("npy: C and Fortran order, both byte orders, versions 1 to 3") {
    const scratch_directory dir;
    const auto read = [&](const std::string& content) {
        write_file(dir / "a.npy", content);
        auto f = read_npy(dir / "a.npy");
        return f.tensors.at(0);
    };
    const std::string bytes("\1\0\2\0\3\0\4\0\5\0\6\0", 12);
    // Counted by hand: column after column, [[1, 3, 5], [2, 4, 6]].
    auto t = read(npy("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }", bytes));
    CHECK(t.name == "a");
    CHECK(values_of<std::int16_t>(t) == std::vector<std::int16_t>{1, 3, 5, 2, 4, 6});
    t = read(npy("{\"descr\": '>i2', \"shape\": (2L, 3L), 'fortran_order': False}", bytes, 2));
    CHECK(values_of<std::int16_t>(t) == std::vector<std::int16_t>{256, 512, 768, 1024, 1280, 1536});
    t = read(npy("{'descr': '>u2', 'fortran_order': True, 'shape': (3, 2)}", bytes, 3));
    CHECK(values_of<std::uint16_t>(t) == std::vector<std::uint16_t>{256, 1024, 512, 1280, 768, 1536});
    // Three dimensions: the first index runs fastest, element (i, j, k) of (2, 3, 1) is number i + 2 j + 6 k.
    t = read(npy("{'descr': '<i2', 'fortran_order': True, 'shape': (1, 2, 3), }", bytes));
    CHECK(values_of<std::int16_t>(t) == std::vector<std::int16_t>{1, 3, 5, 2, 4, 6});
    t = read(npy("{'descr': '>c8', 'fortran_order': False, 'shape': ()}", std::string("\x3f\x80\0\0\x40\0\0\0", 8)));
    CHECK(values_of<float>(t) == std::vector<float>{1.0f, 2.0f});
    t = read(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (0, 5)}", ""));
    CHECK(t.size() == 0);
}

TEST_CASE("npy: the writer's header is NumPy's") {
    const scratch_directory dir;
    tensor_file f;
    f.tensors.push_back(make_tensor("w", dtype::f32, {3}, std::vector<float>{1, 2, 3}));
    write_npy(dir / "w.npy", f);
    const auto content = read_file(dir / "w.npy");
    // Recorded from numpy.save of float32 [1, 2, 3].
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
    header.append(117 - header.size(), ' ');
    CHECK(content.substr(0, 128) == npy(header + "\n", ""));
    CHECK(content.size() == 128 + 12);
    SECTION("a type or a number of tensors that .npy cannot hold is refused") {
        f.tensors[0] = make_tensor("w", dtype::bf16, {1}, std::vector<std::uint16_t>{0});
        CHECK(std::string(caught([&] { write_npy(dir / "x.npy", f); }).what()).find("'w': NumPy files have no BF16") !=
              std::string::npos);
        f.tensors.push_back(f.tensors[0]);
        CHECK(std::string(caught([&] { write_npy(dir / "x.npy", f); }).what()).find("holds one array") !=
              std::string::npos);
        CHECK(dir.entries() == 1);
    }
}

TEST_CASE("nothing is overwritten without permission, and nothing partial is left behind") {
    const scratch_directory dir;
    const auto path = dir / "m.safetensors";
    write_safetensors(path, sample());
    const auto before = read_file(path);
    auto e = caught([&] { write_safetensors(path, {}); });
    CHECK(e.code() == exit_code::output);
    CHECK(std::string(e.what()).find("exists already") != std::string::npos);
    CHECK(read_file(path) == before);
    CHECK(dir.entries() == 1);

    write_safetensors(path, {}, overwrite::yes);
    CHECK(read_file(path) == safetensors("{}      ", ""));

    SECTION("through a symbolic link the file behind it is replaced") {
        fs::create_symlink("m.safetensors", dir / "l.safetensors");
        write_safetensors(dir / "l.safetensors", sample(), overwrite::yes);
        CHECK(fs::is_symlink(dir / "l.safetensors"));
        CHECK(read_file(path) == before);
    }
    SECTION("a directory, a device, a missing directory and a dangling link are refused") {
        fs::create_directory(dir / "d.npy");
        fs::create_symlink("nowhere", dir / "n.npy");
        for (const auto& target : {dir / "d.npy", std::string("/dev/null"), dir / "no/such.npy", dir / "n.npy"}) {
            e = caught([&] { atomic_file f(target, overwrite::yes); });
            CHECK(e.code() == exit_code::output);
            CHECK(std::string(e.what()).starts_with(target + ": "));
        }
        CHECK(dir.entries() == 3);
    }
    SECTION("a file that appears while ours is being written is kept") {
        const auto other = dir / "new.bin";
        atomic_file f(other, overwrite::no);
        f.write("ours");
        write_file(other, "theirs");
        CHECK(caught([&] { f.commit(); }).code() == exit_code::output);
        CHECK(read_file(other) == "theirs");
    }
    SECTION("an abandoned file leaves nothing") {
        {
            atomic_file f(dir / "x.bin", overwrite::no);
            f.write("half");
            CHECK(dir.entries() == 2);
        }
        CHECK(dir.entries() == 1);
    }
}

namespace {
/// Run `body` in a child process and return its wait status.
int in_child(const std::function<void()>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        body();
        ::_exit(99);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
}
} // namespace

TEST_CASE("an interrupted program removes its temporary file and dies of the signal") {
    const scratch_directory dir;
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        const int status = in_child([&] {
            std::signal(number, SIG_DFL);
            install_cleanup_on_signals();
            atomic_file f(dir / "x.bin", overwrite::no);
            f.write("half");
            if (dir.entries() != 1) {
                ::_exit(98);
            }
            ::raise(number);
        });
        CHECK(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == number);
        CHECK(dir.entries() == 0);
    }
}

TEST_CASE("a full disk is an error with a message, and nothing is left behind") {
    const scratch_directory dir;
    const int status = in_child([&] {
        install_cleanup_on_signals();
        const rlimit limit{100, 100};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const auto e = caught([&] { write_safetensors(dir / "x.safetensors", sample()); });
        ::_exit(std::string(e.what()).find("cannot write: File too large") != std::string::npos
                    ? static_cast<int>(e.code())
                    : 97);
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == static_cast<int>(exit_code::output));
    CHECK(dir.entries() == 0);
}

TEST_CASE("an input that shrinks while it is read ends the program with a message, not a crash") {
    const scratch_directory dir;
    const auto path = dir / "m.npy";
    const std::string data(1 << 20, '\0');
    write_file(path, npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1048576,)}", data));
    const int status = in_child([&] {
        ::close(STDERR_FILENO);
        install_cleanup_on_signals();
        const auto f = read_npy(path);
        fs::resize_file(path, 0);
        const volatile std::byte* p = f.tensors[0].bytes.data();
        (void)p[1 << 19];
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == static_cast<int>(exit_code::input));
}
