// SPDX-License-Identifier: MIT
// Vectors, semihosting and SysTick of any Cortex-M from the M0 on.

#include "board_bare.hpp"

extern "C" {
extern std::uint32_t stack_top[]; // from link.ld
using initializer = void (*)();
[[noreturn]] void reset_handler();
[[noreturn]] void fault_handler();
void tick_handler();
}

namespace {

volatile std::uint32_t& at(std::uintptr_t address) noexcept {
    return *reinterpret_cast<volatile std::uint32_t*>(address);
}
// SysTick: a counter of 24 bits that counts down.
constexpr std::uintptr_t tick_control = 0xE000E010, tick_reload = 0xE000E014, tick_value = 0xE000E018;
constexpr std::uint32_t tick_period = 1u << 24;
volatile std::uint32_t tick_wraps = 0;

std::uint64_t ticks() noexcept {
    for (;;) {
        const std::uint32_t before = tick_wraps, value = at(tick_value), after = tick_wraps;
        // At 0 the counter is between two periods, or has not begun the first one.
        if (before == after && value != 0) return std::uint64_t{before} * tick_period + (tick_period - 1 - value);
    }
}

std::uint64_t first_tick = 0;
std::uint64_t instructions_per_tick_times_1024 = 0;

} // namespace

namespace board {

void semihosting(std::uint32_t operation, const void* argument) noexcept {
    register std::uint32_t r0 __asm__("r0") = operation;
    register const void* r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void start_counting() noexcept {
    tick_wraps = 0;
    at(tick_reload) = tick_period - 1;
    at(tick_value) = 0;
    at(tick_control) = 7; // processor clock, interrupt, on
    // The clock differs from board to board: a loop of known length says how many instructions a tick is.
    constexpr std::uint32_t rounds = 500000;
    std::uint32_t left = rounds;
    const std::uint64_t from = ticks();
    __asm__ volatile(".syntax unified\n1: subs %0, %0, #1\nbne 1b" : "+l"(left) : : "cc");
    const std::uint64_t passed = ticks() - from;
    instructions_per_tick_times_1024 = passed == 0 ? 0 : std::uint64_t{2} * rounds * 1024 / passed;
    first_tick = ticks();
}
std::uint64_t instructions() noexcept { return (ticks() - first_tick) * instructions_per_tick_times_1024 / 1024; }

} // namespace board

void reset_handler() {
    board::run([]() noexcept {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
        at(0xE000ED88) = at(0xE000ED88) | (0xFu << 20); // CPACR: the floating-point unit is off after a reset
        __asm__ volatile("dsb\n isb" : : : "memory");
#endif
    });
}
void fault_handler() {
    board::print("fault\n");
    board::leave(99);
}
void tick_handler() { tick_wraps = tick_wraps + 1; }

/// The stack and the sixteen exceptions that every Cortex-M has.
extern "C"
    [[gnu::section(".vectors"), gnu::used]] const initializer vectors[16] = {reinterpret_cast<initializer>(stack_top),
                                                                             reset_handler,
                                                                             fault_handler,
                                                                             fault_handler,
                                                                             fault_handler,
                                                                             fault_handler,
                                                                             fault_handler,
                                                                             nullptr,
                                                                             nullptr,
                                                                             nullptr,
                                                                             nullptr,
                                                                             fault_handler,
                                                                             fault_handler,
                                                                             nullptr,
                                                                             fault_handler,
                                                                             tick_handler};
