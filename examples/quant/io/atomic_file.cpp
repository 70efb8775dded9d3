// SPDX-License-Identifier: MIT
#include "atomic_file.hpp"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace quant_tool {

namespace {

// The temporary files a signal handler has to remove: two files may be written at once. Only async-signal-safe calls touch them.
char pending_temporaries[2][PATH_MAX] = {};

class signals_blocked {
public:
    signals_blocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        sigdelset(&all, SIGBUS);
        sigdelset(&all, SIGSEGV);
        sigprocmask(SIG_SETMASK, &all, &before_);
    }
    ~signals_blocked() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
    signals_blocked(const signals_blocked&) = delete;
    signals_blocked& operator=(const signals_blocked&) = delete;

private:
    sigset_t before_{};
};

extern "C" void quant_tool_on_signal(int number) {
    for (const auto& name : pending_temporaries) {
        if (name[0] != '\0') {
            ::unlink(name);
        }
    }
    if (number == SIGBUS) {
        // The input is mapped: somebody truncated it while it was being read.
        constexpr char text[] = "quant: an input file was truncated while it was being read\n";
        [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, text, sizeof text - 1);
        ::_exit(static_cast<int>(exit_code::input));
    }
    // Die of the signal, so that the shell and make see an interrupted program.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(number, &standard, nullptr);
    ::raise(number);
}

/// The signal that a `deferred_interrupt` has taken; 0: none yet.
volatile std::sig_atomic_t deferred_signal = 0;

extern "C" void quant_tool_on_deferred_signal(int number) {
    if (deferred_signal != 0) {
        quant_tool_on_signal(number); // asked for twice: at once
    }
    deferred_signal = number;
}

} // namespace

void install_cleanup_on_signals() noexcept {
    struct sigaction action {};
    action.sa_handler = &quant_tool_on_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGBUS}) {
        struct sigaction before {};
        // A program started under nohup keeps ignoring what it was told to ignore.
        if (::sigaction(number, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) {
            ::sigaction(number, &action, nullptr);
        }
    }
    // A full quota or a closed pipe arrives as an error of write() instead, with a message.
    std::signal(SIGXFSZ, SIG_IGN);
    std::signal(SIGPIPE, SIG_IGN);
}

deferred_interrupt::deferred_interrupt() noexcept {
    deferred_signal = 0;
    struct sigaction action {};
    action.sa_handler = &quant_tool_on_deferred_signal;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < std::size(numbers); ++i) {
        if (::sigaction(numbers[i], nullptr, &before_[i]) == 0 && before_[i].sa_handler != SIG_IGN) {
            ::sigaction(numbers[i], &action, nullptr);
        }
    }
}
deferred_interrupt::~deferred_interrupt() {
    for (std::size_t i = 0; i < std::size(numbers); ++i) {
        ::sigaction(numbers[i], &before_[i], nullptr);
    }
    if (pending()) {
        ::raise(deferred_signal); // came too late to be asked for
    }
}
bool deferred_interrupt::pending() const noexcept { return deferred_signal != 0; }
void deferred_interrupt::die() const noexcept {
    quant_tool_on_signal(deferred_signal);
    std::abort();
}

void check_target(const std::string& path, overwrite policy) {
    struct stat st {};
    if (::stat(path.c_str(), &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            throw error(exit_code::output, path, "is a directory");
        }
        if (!S_ISREG(st.st_mode)) {
            throw error(exit_code::output, path, "is not a regular file");
        }
        if (policy == overwrite::no) {
            throw error(exit_code::output, path, "exists already (--force replaces it)");
        }
    } else if (errno != ENOENT) {
        throw error(exit_code::output, path, std::strerror(errno));
    } else if (::lstat(path.c_str(), &st) == 0) {
        throw error(exit_code::output, path, "is a symbolic link to nowhere");
    }
}

atomic_file::atomic_file(std::string path, overwrite policy) : target_(std::move(path)), policy_(policy) {
    if (target_.empty()) {
        throw error(exit_code::output, {}, "the name of the output file is empty");
    }
    check_target(target_, policy_);
    // Through a symbolic link the file behind it is replaced, not the link.
    if (char* const real = ::realpath(target_.c_str(), nullptr)) {
        destination_ = real;
        std::free(real);
    } else {
        destination_ = target_;
    }
    const auto slash = destination_.rfind('/');
    directory_ = slash == std::string::npos ? std::string(".") : destination_.substr(0, slash + 1);
    temporary_ = (slash == std::string::npos ? std::string() : directory_) + ".quant-XXXXXX";
    if (temporary_.size() >= PATH_MAX) {
        throw error(exit_code::output, target_, std::strerror(ENAMETOOLONG));
    }
    const signals_blocked guard;
    while (slot_ < std::size(pending_temporaries) && pending_temporaries[slot_][0] != '\0') {
        ++slot_;
    }
    if (slot_ == std::size(pending_temporaries)) {
        throw error(exit_code::internal, target_, "too many files are being written at once");
    }
    fd_ = ::mkstemp(temporary_.data());
    if (fd_ < 0) {
        throw error(exit_code::output, target_, std::string("cannot create a file there: ") + std::strerror(errno));
    }
    std::memcpy(pending_temporaries[slot_], temporary_.c_str(), temporary_.size() + 1);
    // mkstemp makes a private file; the result has the rights of any new file, or of the one it replaces.
    struct stat st {};
    mode_t mode;
    if (::stat(destination_.c_str(), &st) == 0) {
        mode = st.st_mode & 07777;
    } else {
        const mode_t mask = ::umask(0);
        ::umask(mask);
        mode = 0666 & ~mask;
    }
    (void)::fchmod(fd_, mode);
}

atomic_file::~atomic_file() {
    const signals_blocked guard;
    if (fd_ >= 0) {
        ::close(fd_);
    }
    forget(true);
}

void atomic_file::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto n = ::write(fd_, bytes.data(), bytes.size());
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            throw failed("cannot write");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
}

void atomic_file::commit() {
    flush();
    const signals_blocked guard;
    publish();
}
void atomic_file::commit(atomic_file& first, atomic_file& second) {
    first.flush();
    second.flush();
    const signals_blocked guard;
    first.publish();
    try {
        second.publish();
    } catch (...) {
        if (first.policy_ == overwrite::no) {
            ::unlink(first.destination_.c_str());
        }
        throw;
    }
}

void atomic_file::flush() {
    if (::fsync(fd_) != 0) {
        throw failed("cannot flush");
    }
    const int closed = ::close(fd_);
    fd_ = -1;
    if (closed != 0) {
        throw failed("cannot close");
    }
}
void atomic_file::publish() {
    if (policy_ == overwrite::no) {
        // link() fails if the name exists by now: no window between a check and a rename.
        if (::link(temporary_.c_str(), destination_.c_str()) == 0) {
            forget(true);
        } else if (errno == EEXIST) {
            throw error(exit_code::output, target_, "exists already (--force replaces it)");
        } else {
            check_target(target_, policy_); // a file system without hard links
            rename();
        }
    } else {
        rename();
    }
    if (const int dir = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
        (void)::fsync(dir);
        ::close(dir);
    }
}
error atomic_file::failed(const char* what) const {
    return {exit_code::output, target_, std::string(what) + ": " + std::strerror(errno)};
}
void atomic_file::rename() {
    if (::rename(temporary_.c_str(), destination_.c_str()) != 0) {
        throw failed("cannot rename the finished file");
    }
    forget(false);
}
void atomic_file::forget(bool remove) noexcept {
    if (!temporary_.empty() && remove) {
        ::unlink(temporary_.c_str());
    }
    if (!temporary_.empty()) {
        pending_temporaries[slot_][0] = '\0';
    }
    temporary_.clear();
}

} // namespace quant_tool
