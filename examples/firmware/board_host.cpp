// SPDX-License-Identifier: MIT
#include "board.hpp"

#include <cinttypes>
#include <cstdio>

namespace board {

void print(const char* text) noexcept { std::fputs(text, stdout); }
void print(std::uint64_t number) noexcept { std::printf("%" PRIu64, number); }
void start_counting() noexcept {}
std::uint64_t instructions() noexcept { return 0; }
memory used() noexcept { return {}; }

} // namespace board
