// SPDX-License-Identifier: MIT
// Below the owning result nothing allocates: every verb runs on arrays on the stack while operator new and the malloc
// family are poisoned. The malloc family is replaced with the linker's --wrap, so it covers what is compiled into this
// program and not the C library's own start-up. With the argument `new` or `malloc` the program allocates on purpose.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include <unistd.h>

#if __has_include(<quant/core.hpp>)
#include <quant/core.hpp>
#endif
#if __has_include(<quant/quant.hpp>)
#include <quant/quant.hpp>
#endif

namespace {

const char* armed = nullptr; // the name of the verb that runs, null outside of one

void poisoned() noexcept {
    if (armed == nullptr) return;
    const char text[] = "allocated in ";
    // write, not printf: printf may allocate.
    static_cast<void>(!::write(1, text, sizeof text - 1));
    static_cast<void>(!::write(1, armed, std::strlen(armed)));
    static_cast<void>(!::write(1, "\n", 1));
    ::_exit(1);
}

template <class Verb> void without_heap(const char* name, Verb verb) noexcept {
    armed = name;
    verb();
    armed = nullptr;
    std::printf("no allocation in %s\n", name);
}

} // namespace

extern "C" {
void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t count, std::size_t size);
void* __real_realloc(void* old, std::size_t size);
void* __real_aligned_alloc(std::size_t alignment, std::size_t size);
int __real_posix_memalign(void** result, std::size_t alignment, std::size_t size);
void* __wrap_malloc(std::size_t size) { return poisoned(), __real_malloc(size); }
void* __wrap_calloc(std::size_t count, std::size_t size) { return poisoned(), __real_calloc(count, size); }
void* __wrap_realloc(void* old, std::size_t size) { return poisoned(), __real_realloc(old, size); }
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
    return poisoned(), __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void** result, std::size_t alignment, std::size_t size) {
    return poisoned(), __real_posix_memalign(result, alignment, size);
}
}

// The other forms of new call these by default.
void* operator new(std::size_t size) {
    poisoned();
    if (void* memory = std::malloc(size)) return memory;
    std::abort();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    poisoned();
    const auto a = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(a, (size + a - 1) / a * a)) return memory;
    std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "new") == 0) {
        without_heap("planted new", [] {
            void* (*volatile allocate)(std::size_t) = &::operator new;
            ::operator delete(allocate(1));
        });
        return 0;
    }
    if (argc > 1 && std::strcmp(argv[1], "malloc") == 0) {
        without_heap("planted malloc", [] {
            void* (*volatile allocate)(std::size_t) = std::malloc; // a plain pair of malloc and free is optimized away
            std::free(allocate(1));
        });
        return 0;
    }
    without_heap("nothing", [] {});
    return 0;
}
