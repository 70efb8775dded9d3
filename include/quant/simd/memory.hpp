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

} // namespace simd
QUANT_END_TARGET
