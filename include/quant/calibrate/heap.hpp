// SPDX-License-Identifier: MIT
#pragma once
// A binary heap and a sort in the caller's memory, for any order. Layer 3 (calibrate).
//
// `before(a, b)` says that a comes out before b; a strict weak order. Neither call allocates; both are deterministic, but elements of
// which neither is before the other come out in any order: give the order a last criterion.

#include <cstddef>
#include <quant/config.hpp>

QUANT_BEGIN_TARGET
namespace detail {

/// Lets the element at `at` sink to its place among heap[0, n).
template <class T, class Before>
inline void sift_down(T* heap, std::size_t n, std::size_t at, const Before& before) noexcept {
    const T moving = heap[at];
    for (;;) {
        std::size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && before(heap[child + 1], heap[child])) ++child;
        if (!before(heap[child], moving)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

/// heap[0] is before all others.
template <class T, class Before> inline void make_heap(T* heap, std::size_t n, const Before& before) noexcept {
    for (std::size_t at = n / 2; at-- > 0;) sift_down(heap, n, at, before);
}

/// Sorts values[0, n), the one before all others first. O(n log n), in place.
template <class T, class Before> inline void sort_by(T* values, std::size_t n, const Before& before) noexcept {
    const auto after = [&](const T& a, const T& b) noexcept { return before(b, a); };
    make_heap(values, n, after);
    while (n > 1) {
        const T last = values[0];
        values[0] = values[--n];
        values[n] = last;
        sift_down(values, n, 0, after);
    }
}

} // namespace detail
QUANT_END_TARGET
