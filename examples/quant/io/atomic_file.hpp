// SPDX-License-Identifier: MIT
#pragma once
// Files are written whole or not at all: into a temporary file in the target's directory, flushed to the disk, then
// renamed. A failure, an exception or a signal (after install_cleanup_on_signals) leaves no file behind.

#include "error.hpp"

#include <csignal>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

namespace quant_tool {

/// May an existing file be replaced?
enum class overwrite : bool { no, yes };

/// Remove a half-written file when the program is interrupted; call once at the start of main.
void install_cleanup_on_signals() noexcept;

/// While one lives, the first Ctrl-C, SIGTERM or SIGHUP is only noted: the work stops where it can be taken up again, saves what it
/// has and calls die(). The second one ends the program at once.
class deferred_interrupt {
public:
    deferred_interrupt() noexcept;
    ~deferred_interrupt();
    deferred_interrupt(const deferred_interrupt&) = delete;
    deferred_interrupt& operator=(const deferred_interrupt&) = delete;

    [[nodiscard]] bool pending() const noexcept;
    /// Dies of the signal that is pending.
    [[noreturn]] void die() const noexcept;

private:
    static constexpr int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction before_[std::size(numbers)]{};
};

/// Refuse a target before any work is done for it: it exists, is no regular file, or its directory is missing.
void check_target(const std::string& path, overwrite policy);

class atomic_file {
public:
    atomic_file(std::string path, overwrite policy);
    ~atomic_file();
    atomic_file(const atomic_file&) = delete;
    atomic_file& operator=(const atomic_file&) = delete;

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

    /// The file appears under its name, complete, or an error is thrown and nothing appears.
    void commit();
    /// The same for two files that belong together: both or neither, unless the second cannot replace what was there.
    static void commit(atomic_file& first, atomic_file& second);

private:
    void flush();
    void publish();
    [[nodiscard]] error failed(const char* what) const;
    void rename();
    void forget(bool remove) noexcept;

    std::string target_;
    std::string destination_;
    std::string directory_;
    std::string temporary_;
    overwrite policy_;
    std::size_t slot_ = 0; ///< of the list of temporary files
    int fd_ = -1;
};

} // namespace quant_tool
