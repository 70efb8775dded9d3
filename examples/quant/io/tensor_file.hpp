// SPDX-License-Identifier: MIT
#pragma once
// What a tensor file is once read, whatever its format: a list of named tensors with their bytes (little-endian,
// C order) and a list of text metadata. No numerics here.

#include "error.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quant_tool {

static_assert(std::endian::native == std::endian::little,
              "the file readers hand out the bytes as they stand in the file, which is little-endian");

/// Element types of a safetensors file, in the order in which the writer lays them out (widest first).
enum class dtype : std::uint8_t {
    f64,
    i64,
    u64,
    c64,
    f32,
    i32,
    u32,
    f16,
    bf16,
    i16,
    u16,
    f8_e5m2,
    f8_e4m3,
    f8_e8m0,
    i8,
    u8,
    boolean,
    f6_e2m3,
    f6_e3m2,
    f4
};

struct dtype_info {
    dtype type;
    std::string_view name; ///< the name in a safetensors header
    unsigned bits;         ///< bits per element; 4 and 6 are packed without gaps
    std::string_view npy;  ///< kind and size in a .npy header; empty if .npy has no such type
};

inline constexpr std::array<dtype_info, 20> dtypes{{
    {dtype::f64, "F64", 64, "f8"},      {dtype::i64, "I64", 64, "i8"},      {dtype::u64, "U64", 64, "u8"},
    {dtype::c64, "C64", 64, "c8"},      {dtype::f32, "F32", 32, "f4"},      {dtype::i32, "I32", 32, "i4"},
    {dtype::u32, "U32", 32, "u4"},      {dtype::f16, "F16", 16, "f2"},      {dtype::bf16, "BF16", 16, ""},
    {dtype::i16, "I16", 16, "i2"},      {dtype::u16, "U16", 16, "u2"},      {dtype::f8_e5m2, "F8_E5M2", 8, ""},
    {dtype::f8_e4m3, "F8_E4M3", 8, ""}, {dtype::f8_e8m0, "F8_E8M0", 8, ""}, {dtype::i8, "I8", 8, "i1"},
    {dtype::u8, "U8", 8, "u1"},         {dtype::boolean, "BOOL", 8, "b1"},  {dtype::f6_e2m3, "F6_E2M3", 6, ""},
    {dtype::f6_e3m2, "F6_E3M2", 6, ""}, {dtype::f4, "F4", 4, ""},
}};

[[nodiscard]] constexpr const dtype_info& info(dtype type) noexcept { return dtypes[static_cast<std::size_t>(type)]; }
[[nodiscard]] constexpr std::string_view name_of(dtype type) noexcept { return info(type).name; }

[[nodiscard]] constexpr std::optional<dtype> dtype_from_name(std::string_view name) noexcept {
    for (const auto& d : dtypes) {
        if (d.name == name) {
            return d.type;
        }
    }
    return std::nullopt;
}

/// The four types the library quantizes.
[[nodiscard]] constexpr bool is_real(dtype type) noexcept {
    return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

using shape_type = std::vector<std::uint64_t>;

/// More dimensions than this are a damaged or hostile file, not a model.
inline constexpr std::size_t max_rank = 64;

/// Number of elements; empty when the product does not fit (a zero extent makes it 0, whatever the others are).
[[nodiscard]] inline std::optional<std::uint64_t> element_count(std::span<const std::uint64_t> shape) noexcept {
    std::uint64_t n = 1;
    bool overflow = false;
    for (const std::uint64_t extent : shape) {
        if (extent == 0) {
            return 0;
        }
        if (n > std::numeric_limits<std::uint64_t>::max() / extent) {
            overflow = true;
        } else {
            n *= extent;
        }
    }
    return overflow ? std::nullopt : std::optional{n};
}

/// Number of bytes; empty when it does not fit or when packed 4- or 6-bit elements do not fill the last byte.
[[nodiscard]] inline std::optional<std::uint64_t> byte_count(dtype type,
                                                             std::span<const std::uint64_t> shape) noexcept {
    const auto n = element_count(shape);
    const std::uint64_t bits = info(type).bits;
    if (!n || *n > std::numeric_limits<std::uint64_t>::max() / bits || *n * bits % 8 != 0) {
        return std::nullopt;
    }
    return *n * bits / 8;
}

/// Immutable bytes with shared ownership: a slice of a mapped file or a buffer of its own.
class byte_block {
public:
    byte_block() = default;
    byte_block(std::shared_ptr<const void> owner, std::span<const std::byte> bytes) noexcept
        : owner_(std::move(owner)), bytes_(bytes) {}

    template <class T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] static byte_block adopt(std::vector<T> values) {
        auto owner = std::make_shared<const std::vector<T>>(std::move(values));
        const auto bytes = std::as_bytes(std::span<const T>(*owner));
        return {std::move(owner), bytes};
    }
    [[nodiscard]] static byte_block copy(std::span<const std::byte> bytes) {
        return adopt(std::vector<std::byte>(bytes.begin(), bytes.end()));
    }

    /// A part of these bytes; it keeps the whole alive.
    [[nodiscard]] byte_block part(std::uint64_t offset, std::uint64_t size) const noexcept {
        return {owner_, bytes_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size))};
    }

    [[nodiscard]] std::span<const std::byte> span() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] const std::byte* data() const noexcept { return bytes_.data(); }

private:
    std::shared_ptr<const void> owner_;
    std::span<const std::byte> bytes_;
};

struct tensor {
    std::string name;
    dtype type = dtype::f32;
    shape_type shape;
    byte_block bytes;

    [[nodiscard]] std::uint64_t size() const noexcept { return element_count(shape).value_or(0); }

    /// The elements as T. Files do not promise alignment, so a misaligned tensor is copied once (held by *this).
    template <class T> [[nodiscard]] std::span<const T> as() {
        static_assert(std::is_trivially_copyable_v<T>);
        if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0) {
            std::vector<T> aligned(bytes.size() / sizeof(T));
            std::memcpy(aligned.data(), bytes.data(), aligned.size() * sizeof(T));
            bytes = byte_block::adopt(std::move(aligned));
        }
        return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
    }
};

/// A tensor from values: make_tensor("w", dtype::f32, {64, 3}, std::vector<float>{...}).
template <class T>
[[nodiscard]] tensor make_tensor(std::string name, dtype type, shape_type shape, std::vector<T> values) {
    const auto expected = byte_count(type, shape);
    if (!expected || *expected != values.size() * sizeof(T)) {
        throw error(exit_code::internal, {}, name, "the number of values does not match the shape");
    }
    return {std::move(name), type, std::move(shape), byte_block::adopt(std::move(values))};
}

using text_metadata = std::vector<std::pair<std::string, std::string>>;

struct tensor_file {
    std::vector<tensor> tensors;
    text_metadata metadata;
    std::uint64_t bytes_on_disk = 0; ///< size of the file it was read from, headers included

    [[nodiscard]] tensor* find(std::string_view name) noexcept {
        for (auto& t : tensors) {
            if (t.name == name) {
                return &t;
            }
        }
        return nullptr;
    }
    [[nodiscard]] const std::string* find_metadata(std::string_view key) const noexcept {
        for (const auto& [k, v] : metadata) {
            if (k == key) {
                return &v;
            }
        }
        return nullptr;
    }
};

} // namespace quant_tool
