// SPDX-License-Identifier: MIT

#include "board_bare.hpp"

extern "C" {
// From link.ld; their addresses are the values.
extern std::uint32_t text_begin[], text_end[], rodata_end[], data_load[], data_begin[], data_end[], bss_begin[],
    bss_end[];
extern std::uint32_t stack_top[];
using initializer = void (*)();
extern const initializer init_begin[], init_end[];
int main();
}

namespace board {
namespace {
constexpr std::uint32_t unused_stack = 0xA5C35A3Cu;
}

void leave(std::uint32_t code) noexcept {
    const std::uint32_t reason_and_code[2] = {0x20026, code}; // ADP_Stopped_ApplicationExit
    semihosting(0x20, reason_and_code);                       // SYS_EXIT_EXTENDED
    for (;;) {
    }
}

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

memory used() noexcept {
    const auto bytes = [](const std::uint32_t* from, const std::uint32_t* to) {
        return reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
    };
    const volatile std::uint32_t* deepest = bss_end;
    while (*deepest == unused_stack) ++deepest;
    return {bytes(text_begin, text_end), bytes(text_end, rodata_end), bytes(data_begin, bss_end),
            reinterpret_cast<std::uintptr_t>(stack_top) - reinterpret_cast<std::uintptr_t>(deepest)};
}

void run(void (*processor)() noexcept) noexcept {
    const std::uint32_t* from = data_load;
    for (volatile std::uint32_t* to = data_begin; to < data_end; ++to) *to = *from++;
    for (volatile std::uint32_t* to = bss_begin; to < bss_end; ++to) *to = 0;
    auto* const here = static_cast<volatile std::uint32_t*>(__builtin_frame_address(0)) - 32;
    for (volatile std::uint32_t* to = bss_end; to < here; ++to) *to = unused_stack;
    processor();
    for (const initializer* f = init_begin; f < init_end; ++f) (*f)();
    leave(static_cast<std::uint32_t>(main()));
}

} // namespace board
