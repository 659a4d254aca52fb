/*
 * zoo_atomic.h - the only file that names a memory order.
 *
 * Wrappers carry the order in their names; call sites pass none. Shared words
 * are `zoo_word`, never plain integers, so that an unordered access to one does
 * not compile by accident.
 */
#ifndef ZOO_ATOMIC_H
#define ZOO_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic uint64_t zoo_word;

_Static_assert(
    ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_LONG_LOCK_FREE == 2,
    "zoocache needs lock-free 64-bit atomics: locks in shared memory die with their holder");
_Static_assert(sizeof(zoo_word) == 8, "a shared word is 8 bytes");

static inline uint64_t zoo_load_relaxed(const zoo_word *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static inline uint64_t zoo_load_acquire(const zoo_word *at)
{
    return atomic_load_explicit(at, memory_order_acquire);
}

static inline void zoo_store_relaxed(zoo_word *at, uint64_t value)
{
    atomic_store_explicit(at, value, memory_order_relaxed);
}

static inline void zoo_store_release(zoo_word *at, uint64_t value)
{
    atomic_store_explicit(at, value, memory_order_release);
}

static inline bool zoo_cas_release(zoo_word *at, uint64_t expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(at, &expected, desired, memory_order_acq_rel,
                                                   memory_order_acquire);
}

static inline bool zoo_cas_seq_cst(zoo_word *at, uint64_t expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(at, &expected, desired, memory_order_seq_cst,
                                                   memory_order_acquire);
}

static inline uint64_t zoo_add_relaxed(zoo_word *at, uint64_t n)
{
    return atomic_fetch_add_explicit(at, n, memory_order_relaxed);
}

static inline uint64_t zoo_add_seq_cst(zoo_word *at, uint64_t n)
{
    return atomic_fetch_add_explicit(at, n, memory_order_seq_cst);
}

static inline void zoo_or_seq_cst(zoo_word *at, uint64_t bits)
{
    atomic_fetch_or_explicit(at, bits, memory_order_seq_cst);
}

static inline void zoo_and_release(zoo_word *at, uint64_t bits)
{
    atomic_fetch_and_explicit(at, bits, memory_order_release);
}

static inline uint64_t zoo_exchange_relaxed(zoo_word *at, uint64_t value)
{
    return atomic_exchange_explicit(at, value, memory_order_relaxed);
}

static inline uint64_t zoo_exchange_seq_cst(zoo_word *at, uint64_t value)
{
    return atomic_exchange_explicit(at, value, memory_order_seq_cst);
}

/* Raises the word to at least `value`: a monotone maximum. */
static inline void zoo_max_release(zoo_word *at, uint64_t value)
{
    uint64_t now = zoo_load_relaxed(at);
    while (now < value && !atomic_compare_exchange_weak_explicit(
                              at, &now, value, memory_order_acq_rel, memory_order_relaxed)) {
    }
}

static inline void zoo_fence_acquire(void)
{
    atomic_thread_fence(memory_order_acquire);
}

static inline void zoo_fence_release(void)
{
    atomic_thread_fence(memory_order_release);
}

static inline void zoo_fence_seq_cst(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

static inline void zoo_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
