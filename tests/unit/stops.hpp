// SPDX-License-Identifier: MIT
#pragma once
// Broken preconditions stop the program: tried in a child, where the system has them (QUANT_TEST_HAS_FORK).

#if __has_include(<sys/wait.h>)
#include <csignal>
#include <initializer_list>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#define QUANT_TEST_HAS_FORK 1

namespace test {

/// Whether f stops the program, tried in a child.
template <class F> bool stops(F f) {
    const pid_t child = ::fork();
    if (child == 0) {
        for (const int s : {SIGILL, SIGTRAP, SIGABRT, SIGSEGV}) std::signal(s, SIG_DFL);
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::_exit(f() ? 0 : 1);
    }
    int how = 0;
    ::waitpid(child, &how, 0);
    return WIFSIGNALED(how);
}

} // namespace test
#endif
