// SPDX-License-Identifier: MIT
#pragma once
// Pieces of the caller's memory, of any type. Layer 3 (calibrate).

#include <cstddef>
#include <cstdint>
#include <new>
#include <quant/config.hpp>
#include <span>
#include <type_traits>

QUANT_BEGIN_TARGET
namespace detail {

/// Hands out pieces of a workspace of any alignment, from its front on. A copy hands out the same pieces again: for what is needed one
/// after the other.
class arena {
public:
    explicit arena(std::span<std::byte> bytes) noexcept : left_(bytes) {}

    /// n elements, or a null pointer where they do not fit; nothing is handed out after that.
    template <class T> [[nodiscard]] T* take(std::size_t n) noexcept {
        T* const first = take_unset<T>(n);
        for (std::size_t i = 0; ok_ && i < n; ++i) ::new (static_cast<void*>(first + i)) T{};
        return first;
    }
    /// The same, of any values: to be written before they are read.
    template <class T> [[nodiscard]] T* take_unset(std::size_t n) noexcept {
        static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
        const auto address = reinterpret_cast<std::uintptr_t>(left_.data());
        const std::size_t skip = (alignof(T) - address % alignof(T)) % alignof(T);
        ok_ = ok_ && left_.size() >= skip && (left_.size() - skip) / sizeof(T) >= n;
        if (!ok_) return nullptr;
        T* const first = reinterpret_cast<T*>(left_.data() + skip);
        left_ = left_.subspan(skip + n * sizeof(T));
        return first;
    }
    /// What is not handed out yet, and its bytes.
    [[nodiscard]] std::span<std::byte> rest() const noexcept { return left_; }
    [[nodiscard]] std::size_t left() const noexcept { return left_.size(); }
    /// Whether everything asked for so far was there.
    [[nodiscard]] bool ok() const noexcept { return ok_; }

private:
    std::span<std::byte> left_;
    bool ok_ = true;
};

} // namespace detail
QUANT_END_TARGET
