// SPDX-License-Identifier: MIT
#pragma once
// What a program of this folder knows about the machine it runs on: a line of text out, a count of instructions, its memory.
// board_cortex_m.cpp and board_riscv.cpp have it under semihosting, board_host.cpp for the machine that builds.

#include <cstddef>
#include <cstdint>

namespace board {

void print(const char* text) noexcept;
void print(std::uint64_t number) noexcept;

/// Starts counting.
void start_counting() noexcept;
/// Instructions since then, to about one in a thousand, where the emulator runs one per nanosecond (-icount shift=0); 0 elsewhere.
[[nodiscard]] std::uint64_t instructions() noexcept;

struct memory {
    std::size_t text = 0;   ///< bytes of machine code
    std::size_t rodata = 0; ///< of constants
    std::size_t ram = 0;    ///< of variables
    std::size_t stack = 0;  ///< the deepest so far
};
/// All zero where nobody knows.
[[nodiscard]] memory used() noexcept;

} // namespace board
