// SPDX-License-Identifier: MIT
#pragma once
// How results reach memory: through the caches, or past them. Layer 2 (simd).
//
// A store to memory first reads the cache line it changes, so writing costs twice the bytes. A streaming store writes whole lines
// without reading them, which saves a fifth to a third of the traffic of a kernel, but leaves nothing in the caches for whoever
// reads the result next. It pays when the result is larger than the last-level cache: store_policy::stream_above
// (core/options.hpp), 32 MiB unless the caller says otherwise. All of it is decided here.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quant/core/options.hpp>
#include <quant/simd/arch.hpp>

QUANT_BEGIN_TARGET
namespace simd {

/// Whether a result of so many bytes is written past the caches.
[[nodiscard]] QUANT_INLINE constexpr bool use_streaming(std::size_t bytes_written, store_policy policy) noexcept {
    return bytes_written > policy.stream_above;
}

/// Asks for the cache line at `address`, which need not be readable. For loops whose next loads wait for a reduction.
QUANT_INLINE void prefetch_read([[maybe_unused]] const void* address) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(address, 0, 3);
#endif
}

/// The same into the second-level cache, for what is needed after more than the first one holds.
QUANT_INLINE void prefetch_second_level([[maybe_unused]] const void* address) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(address, 0, 2);
#endif
}

/// Makes streaming stores visible to other threads in program order; once at the end of a verb, not per run.
QUANT_INLINE void stream_fence() noexcept {
#if QUANT_HAS_XSIMD && defined(__SSE2__)
    _mm_sfence();
#endif
}

#if QUANT_HAS_XSIMD

/// Whether an architecture has streaming stores; elsewhere put_batch<true> is an ordinary store.
template <class Arch>
inline constexpr bool has_streaming =
#if defined(__SSE2__)
    std::is_base_of_v<xsimd::sse2, Arch> || std::is_base_of_v<xsimd::avx, Arch> ||
    std::is_base_of_v<xsimd::avx512f, Arch>;
#else
    false;
#endif

/// Stores a register at any address or, Stream, past the caches to an address aligned to the size of the register.
template <bool Stream, class T, class Arch>
QUANT_INLINE void put_batch(T* to, const xsimd::batch<T, Arch>& x) noexcept {
    if constexpr (Stream && has_streaming<Arch>) {
#if defined(__AVX512F__)
        if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to), xsimd::bitwise_cast<std::int32_t>(x));
            return;
        } else
#endif
#if defined(__AVX__)
            if constexpr (std::is_base_of_v<xsimd::avx, Arch>) {
            _mm256_stream_si256(reinterpret_cast<__m256i*>(to), xsimd::bitwise_cast<std::int32_t>(x));
            return;
        } else
#endif
        {
#if defined(__SSE2__)
            _mm_stream_si128(reinterpret_cast<__m128i*>(to), xsimd::bitwise_cast<std::int32_t>(x));
#endif
        }
    } else {
        x.store_unaligned(to);
    }
}

/// Elements before `to` reaches an address that put_batch<true> takes.
template <class Arch, class T> [[nodiscard]] QUANT_INLINE std::size_t elements_to_alignment(const T* to) noexcept {
    constexpr std::size_t size = sizeof(xsimd::batch<float, Arch>);
    return (size - reinterpret_cast<std::uintptr_t>(to) % size) % size / sizeof(T);
}
#endif

/// Bytes to their destination, in order: straight, or past the caches in whole lines from a stage on the stack.
/// `Most` is the most that one room() asks for.
template <std::size_t Most> class byte_destination {
public:
    byte_destination(std::uint8_t* to, [[maybe_unused]] bool stream) noexcept : to_(to) {
        if constexpr (streams) {
            stream_ = stream;
            if (stream) {
                skip_ = fill_ = reinterpret_cast<std::uintptr_t>(to) % line;
                to_ -= skip_;
            }
        }
    }
    /// Where the next n bytes belong; advance(n) when they are there.
    [[nodiscard]] QUANT_INLINE std::uint8_t* room() noexcept {
        if constexpr (streams)
            if (stream_) return stage_ + fill_;
        return to_;
    }
    QUANT_INLINE void advance(std::size_t n) noexcept {
        if constexpr (streams)
            if (stream_) {
                fill_ += n;
                if (fill_ >= flushed_from) write_lines();
                return;
            }
        to_ += n;
    }
    /// Writes what is not there yet.
    void finish() noexcept {
        if constexpr (streams)
            if (stream_) {
                write_lines();
                std::memcpy(to_ + skip_, stage_ + skip_, fill_ - skip_);
                stream_fence();
            }
    }

private:
    static constexpr std::size_t line = 64, flushed_from = 1024;
#if QUANT_HAS_XSIMD
    static constexpr bool streams = has_streaming<native>;
#else
    static constexpr bool streams = false;
#endif
    void write_lines() noexcept {
#if QUANT_HAS_XSIMD
        using bytes = xsimd::batch<std::uint8_t, native>;
        std::size_t at = 0;
        if (skip_ != 0 && fill_ >= line) { // what stands before the destination in its first line is not ours
            std::memcpy(to_ + skip_, stage_ + skip_, line - skip_);
            skip_ = 0;
            at = line;
        }
        for (; at + line <= fill_; at += line)
            for (std::size_t i = at; i < at + line; i += bytes::size)
                put_batch<true>(to_ + i, bytes::load_aligned(stage_ + i));
        std::memmove(stage_, stage_ + at, fill_ - at);
        to_ += at;
        fill_ -= at;
#endif
    }
    std::uint8_t* to_;
    bool stream_ = false;
    std::size_t skip_ = 0, fill_ = 0; ///< in the stage
    alignas(streams ? line : 1) std::uint8_t stage_[streams ? flushed_from + line + Most : 1];
};

} // namespace simd
QUANT_END_TARGET
