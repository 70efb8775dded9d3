// SPDX-License-Identifier: MIT

// Eigen adds up in an order that depends on where a vector begins in a register. All memory of the program begins alike, so that a run gives
// the same numbers every time.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

void* operator new(std::size_t bytes) {
    constexpr std::size_t line = 64;
    if (void* const p = std::aligned_alloc(line, std::max(line, (bytes + line - 1) / line * line))) return p;
    throw std::bad_alloc();
}
// The standard library's sorts ask this way; the memory goes back through the same delete.
void* operator new(std::size_t bytes, const std::nothrow_t& /*says so by a null pointer*/) noexcept {
    try {
        return ::operator new(bytes);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
