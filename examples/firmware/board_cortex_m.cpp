// SPDX-License-Identifier: MIT
// Start-up, vectors, semihosting and SysTick of any Cortex-M from the M0 on.

#include "board.hpp"

extern "C" {
// From link.ld; their addresses are the values.
extern std::uint32_t text_begin[], text_end[], rodata_end[], data_load[], data_begin[], data_end[], bss_begin[],
    bss_end[];
extern std::uint32_t stack_top[];
using initializer = void (*)();
extern const initializer init_begin[], init_end[];
int main();
[[noreturn]] void reset_handler();
[[noreturn]] void fault_handler();
void tick_handler();
}

namespace {

/// One request to the debugger or emulator.
void semihosting(std::uint32_t operation, const void* argument) noexcept {
    register std::uint32_t r0 __asm__("r0") = operation;
    register const void* r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

[[noreturn]] void leave(std::uint32_t code) noexcept {
    const std::uint32_t reason_and_code[2] = {0x20026, code}; // ADP_Stopped_ApplicationExit
    semihosting(0x20, reason_and_code);                       // SYS_EXIT_EXTENDED
    for (;;) {
    }
}

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
constexpr std::uint32_t unused_stack = 0xA5C35A3Cu;

} // namespace

namespace board {

void print(const char* text) noexcept { semihosting(4, text); } // SYS_WRITE0
void print(std::uint64_t number) noexcept {
    char digits[21];
    char* p = digits + 20;
    *p = '\0';
    do {
        *--p = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0);
    print(p);
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

memory used() noexcept {
    const auto bytes = [](const std::uint32_t* from, const std::uint32_t* to) {
        return reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
    };
    const volatile std::uint32_t* deepest = bss_end;
    while (*deepest == unused_stack) ++deepest;
    return {bytes(text_begin, text_end), bytes(text_end, rodata_end), bytes(data_begin, bss_end),
            reinterpret_cast<std::uintptr_t>(stack_top) - reinterpret_cast<std::uintptr_t>(deepest)};
}

} // namespace board

void reset_handler() {
    const std::uint32_t* from = data_load;
    for (volatile std::uint32_t* to = data_begin; to < data_end; ++to) *to = *from++;
    for (volatile std::uint32_t* to = bss_begin; to < bss_end; ++to) *to = 0;
    // The stack is painted, so that its deepest use can be seen afterwards.
    auto* const here = static_cast<volatile std::uint32_t*>(__builtin_frame_address(0)) - 32;
    for (volatile std::uint32_t* to = bss_end; to < here; ++to) *to = unused_stack;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    at(0xE000ED88) = at(0xE000ED88) | (0xFu << 20); // CPACR: the floating-point unit is off after a reset
    __asm__ volatile("dsb\n isb" : : : "memory");
#endif
    for (const initializer* f = init_begin; f < init_end; ++f) (*f)();
    leave(static_cast<std::uint32_t>(main()));
}
void fault_handler() {
    board::print("fault\n");
    leave(99);
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
