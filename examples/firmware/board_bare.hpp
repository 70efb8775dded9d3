// SPDX-License-Identifier: MIT
#pragma once
// What boards without an operating system share, in board_bare.cpp: start-up, the painted stack, text through semihosting. A board
// itself has semihosting(), the counter of board.hpp, and the entry that calls run().

#include "board.hpp"

namespace board {

/// One request to the debugger or emulator. Every board has its own.
void semihosting(std::uint32_t operation, const void* argument) noexcept;
/// Ends the emulation with this exit code.
[[noreturn]] void leave(std::uint32_t code) noexcept;
/// Memory as C++ expects it, the stack painted, so that its deepest use can be seen afterwards; then the program. `processor` is
/// called before its first line.
[[noreturn]] void run(void (*processor)() noexcept) noexcept;

} // namespace board
