// SPDX-License-Identifier: MIT
#pragma once
// The library starts no threads, so a program that wants them brings its own: work handed out in numbers or in blocks.
// What is computed never depends on how many threads there are; docs/threads.md says why.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace quant_tool {

/// Calls work(i) for every i below n, on up to `threads` threads, the caller's among them. The numbers are handed out in order;
/// after a failure no more are, and the failure of the lowest number is thrown: the one that a loop would have met.
template <class F> void in_parallel(std::size_t n, unsigned threads, const F& work) {
    std::atomic<std::size_t> next{0};
    std::mutex guard;
    std::size_t failed_at = n;
    std::exception_ptr failure;
    const auto loop = [&] {
        for (std::size_t i = next.fetch_add(1); i < n; i = next.fetch_add(1)) {
            try {
                work(i);
            } catch (...) {
                const std::lock_guard lock(guard);
                next = n;
                if (i < failed_at) {
                    failed_at = i;
                    failure = std::current_exception();
                }
            }
        }
    };
    {
        std::vector<std::jthread> others; // joined at the end of the block
        others.reserve(threads);
        try {
            for (std::size_t t = 1; t < std::min<std::size_t>(threads, n); ++t) {
                others.emplace_back(loop);
            }
        } catch (const std::system_error&) { // the system gives no more threads: those there are do the work
        }
        loop();
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

/// [first, first + count) of something that is cut.
struct block {
    std::size_t first, count;
};

/// n positions of `weight` elements each, cut at multiples of `unit`: a few blocks per thread, none too small to be worth one.
[[nodiscard]] inline std::vector<block> cut(std::size_t n, unsigned threads, std::size_t unit, std::size_t weight = 1) {
    constexpr std::size_t worth = std::size_t{1} << 14; // elements
    const std::size_t pieces = threads <= 1 ? 1 : 4 * std::size_t{threads};
    const std::size_t least = (worth + weight - 1) / weight;
    const std::size_t size = (std::max({n / pieces, least, unit}) + unit - 1) / unit * unit;
    std::vector<block> out;
    for (std::size_t first = 0; first < n; first += size) {
        out.push_back({first, std::min(size, n - first)});
    }
    return out;
}

/// Elements are cut here: the observers' sums are the same bytes for every split at multiples of it.
inline constexpr std::size_t element_unit = 1024;

/// Calls work(first, count) for blocks that together are [0, n).
template <class F> void for_each_block(std::size_t n, unsigned threads, const F& work) {
    const auto blocks = cut(n, threads, element_unit);
    in_parallel(blocks.size(), threads, [&](std::size_t i) { work(blocks[i].first, blocks[i].count); });
}

/// What an observer sees of n elements: a copy of `start` per block, observed by work(observer, first, count), merged.
template <class Observer, class F>
[[nodiscard]] Observer observe_blocks(Observer start, std::size_t n, unsigned threads, const F& work) {
    const auto blocks = cut(n, threads, element_unit);
    std::vector<Observer> seen(blocks.size(), start);
    in_parallel(blocks.size(), threads, [&](std::size_t i) { work(seen[i], blocks[i].first, blocks[i].count); });
    for (const auto& other : seen) {
        (void)start.merge(other); // of one kind, so this cannot fail
    }
    return start;
}

/// Calls work(i, threads) for tensors 0 ... n - 1 of size(i) elements: large ones one after the other with all threads for
/// each, so that no more than one is in work at a time; small ones several at once.
template <class Size, class F> void for_each_tensor(std::size_t n, unsigned threads, const Size& size, const F& work) {
    constexpr std::size_t large = std::size_t{1} << 20;
    for (std::size_t first = 0; first < n;) {
        std::size_t last = first;
        while (last < n && size(last) < large) {
            ++last;
        }
        if (last - first >= threads && last > first) {
            in_parallel(last - first, threads, [&](std::size_t i) { work(first + i, 1U); });
            first = last;
        } else {
            work(first, threads);
            ++first;
        }
    }
}

} // namespace quant_tool
