// SPDX-License-Identifier: MIT
// A program of this folder without an operating system: on the boards of examples/firmware, with newlib's streams under semihosting,
// so that it reads and prints what it does elsewhere. PROGRAM is its file; ARGUMENT, where there is one, its only argument.

#include <cstdlib>
#include <new>

#define main program
#include PROGRAM
#undef main

extern "C" void initialise_monitor_handles(); // newlib: opens the three streams

int main() {
    initialise_monitor_handles();
    char name[] = PROGRAM;
#if defined(ARGUMENT)
    char argument[] = ARGUMENT;
    char* arguments[] = {name, argument, nullptr};
#else
    char* arguments[] = {name, nullptr};
#endif
    return program(static_cast<int>(std::size(arguments)) - 1, arguments);
}

// The standard library's own bring exceptions with them.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
