// SPDX-License-Identifier: MIT
// Entry, semihosting and the instruction counter of a RISC-V hart without an operating system, as the emulator's board "virt" has it.

#include "board_bare.hpp"

extern "C" {
[[noreturn]] void start() noexcept;
[[noreturn]] void fault() noexcept;
}

// The first instruction: the stack, where traps go, and the floating-point unit where there is one.
__asm__(R"(
    .section .vectors, "ax"
    .global reset_handler
reset_handler:
    .option push
    .option arch, +zicsr
    la sp, stack_top
    la t0, fault
    csrw mtvec, t0
    li t0, 0x2000
    csrs mstatus, t0
    .option pop
    j start
    .text
)");

namespace {

/// The low and the high half cannot be read at once.
std::uint64_t retired() noexcept {
    for (;;) {
        std::uint32_t before = 0, low = 0, after = 0;
        __asm__ volatile(".option push\n .option arch, +zicsr\n csrr %0, minstreth\n csrr %1, minstret\n csrr %2, "
                         "minstreth\n .option pop"
                         : "=r"(before), "=r"(low), "=r"(after));
        if (before == after) return std::uint64_t{before} << 32 | low;
    }
}
std::uint64_t first_instruction = 0;

} // namespace

namespace board {

void semihosting(std::uint32_t operation, const void* argument) noexcept {
    register std::uint32_t a0 __asm__("a0") = operation;
    register const void* a1 __asm__("a1") = argument;
    // The emulator knows this request by the instructions around it, uncompressed and on one page.
    __asm__ volatile(
        ".option push\n .option norvc\n .balign 16\n slli x0, x0, 0x1f\n ebreak\n srai x0, x0, 7\n .option pop"
        : "+r"(a0)
        : "r"(a1)
        : "memory");
}
void start_counting() noexcept { first_instruction = retired(); }
std::uint64_t instructions() noexcept { return retired() - first_instruction; }

} // namespace board

void start() noexcept {
    board::run([]() noexcept {});
}
[[gnu::aligned(4)]] void fault() noexcept {
    board::print("fault\n");
    board::leave(99);
}
