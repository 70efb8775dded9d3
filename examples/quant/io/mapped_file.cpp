// SPDX-License-Identifier: MIT
#include "mapped_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace quant_tool {

byte_block map_file(const std::string& path) {
    const auto fail = [&](int number) -> error { return {exit_code::input, path, std::strerror(number)}; };
    // O_NONBLOCK: opening a FIFO must not wait for a writer before it can be refused.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        throw fail(errno);
    }
    struct stat st {};
    if (::fstat(fd, &st) != 0) {
        const int number = errno;
        ::close(fd);
        throw fail(number);
    }
    if (!S_ISREG(st.st_mode)) {
        ::close(fd);
        throw error(exit_code::input, path, S_ISDIR(st.st_mode) ? "is a directory" : "is not a regular file");
    }
    const auto size = static_cast<std::size_t>(st.st_size);
    if (size == 0) {
        ::close(fd);
        return {};
    }
    void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    const int number = errno;
    ::close(fd);
    if (address == MAP_FAILED) {
        throw fail(number);
    }
    const std::shared_ptr<const void> owner(address, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
    return {owner, {static_cast<const std::byte*>(address), size}};
}

} // namespace quant_tool
