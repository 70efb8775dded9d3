// SPDX-License-Identifier: MIT
#pragma once
// What every fuzz target shares: numbers out of the fuzzer's bytes, and buffers whose ends the address sanitizer watches.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

namespace fuzz {

/// Takes values off the front of the bytes; zeros when there are none left.
class input {
public:
    input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

    template <class T> T take() {
        T value{};
        const std::size_t n = rest_.size() < sizeof(T) ? rest_.size() : sizeof(T);
        std::memcpy(&value, rest_.data(), n);
        rest_ = rest_.subspan(n);
        return value;
    }
    /// A number below n.
    std::size_t below(std::size_t n) { return take<std::uint16_t>() % n; }
    [[nodiscard]] std::size_t left() const { return rest_.size(); }

private:
    std::span<const std::uint8_t> rest_;
};

/// An array of its own allocation: one element past the end is an error, not a neighbour.
template <class T> class buffer {
public:
    explicit buffer(std::size_t n) : data_(new T[n]()), size_(n) {}
    [[nodiscard]] std::span<T> span() const { return {data_.get(), size_}; }
    T& operator[](std::size_t i) const { return data_[i]; }

private:
    std::unique_ptr<T[]> data_;
    std::size_t size_;
};

/// Ends the program where a promise is broken; the fuzzer keeps the input.
inline void require(bool holds) {
    if (!holds) std::abort();
}

} // namespace fuzz
