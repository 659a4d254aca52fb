/*
 * zoo_sum_loops.h - the loops of zoo_sum.h, for those who want them in their own code.
 *
 * One loop, written once for each kind, copies and sums: `copies` says
 * whether, `shared_in` and `shared_out` which end, if any, is shared memory. It is inlined into
 * every function that uses zoo_sum_go_on() with these known, so that each gets a loop of its own.
 */
#ifndef ZOO_SUM_LOOPS_H
#define ZOO_SUM_LOOPS_H

#include <string.h>

#include "zoo_hash.h"
#include "zoo_layout.h"
#include "zoo_sum.h"

#if defined(__SANITIZE_THREAD__)
#define ZOO_NO_AES
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZOO_NO_AES
#endif
#endif

#define ZOO_ALWAYS_INLINE inline __attribute__((always_inline))

static ZOO_ALWAYS_INLINE uint64_t zoo_sum_load_word(const void *from, bool shared)
{
    uint64_t word;
    if (shared) /* relaxed: may be torn or overwritten, which the sum is there to catch */
        return zoo_load_relaxed((const zoo_word *)from);
    memcpy(&word, from, 8);
    return word;
}

static ZOO_ALWAYS_INLINE void zoo_sum_store_word(void *to, uint64_t word, bool shared)
{
    if (shared) /* relaxed: nobody has been told of these bytes yet */
        zoo_store_relaxed((zoo_word *)to, word);
    else if (to != NULL)
        memcpy(to, &word, 8);
}

/* The last word of `len` bytes that are not a whole number of words. */
static ZOO_ALWAYS_INLINE uint64_t zoo_sum_tail_word(char *to, const char *from, size_t len,
                                                    bool shared_in, bool shared_out)
{
    uint64_t word = 0, before;
    size_t rest = len % 8;
    if (shared_in) {
        word = zoo_sum_load_word(from, true); /* padded in the log */
        if (len > 8) {                        /* one store over the end of the word before */
            memcpy(&before, to - 8, 8);
            before = before >> 8 * rest | word << (64 - 8 * rest);
            memcpy(to + rest - 8, &before, 8);
        } else {
            for (size_t i = 0; i < rest; i++)
                to[i] = (char)(word >> 8 * i);
        }
    } else {
        memcpy(&word, from, rest);
        zoo_sum_store_word(to, word, shared_out);
    }
    return word;
}

/* Not inlined: its registers would be saved on the way of the other kind, too. */
static __attribute__((noinline)) uint64_t zoo_sum_plain(uint64_t seed, char *to, const char *from,
                                                        size_t len, bool shared_in, bool shared_out)
{
    uint64_t lane[4] = {seed, seed ^ ZOO_LANE_1, seed ^ ZOO_LANE_2, seed ^ ZOO_LANE_3};
    size_t words = len / 8, i = 0;
    for (; i + 4 <= words; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            uint64_t word = zoo_sum_load_word(from + (i + k) * 8, shared_in);
            zoo_sum_store_word(to == NULL ? NULL : to + (i + k) * 8, word, shared_out);
            lane[k] = zoo_step(lane[k], word);
        }
    }
    for (; i < words; i++) {
        uint64_t word = zoo_sum_load_word(from + i * 8, shared_in);
        zoo_sum_store_word(to == NULL ? NULL : to + i * 8, word, shared_out);
        lane[0] = zoo_step(lane[0], word);
    }
    if (len % 8 != 0)
        lane[0] = zoo_step(lane[0], zoo_sum_tail_word(to == NULL ? NULL : to + i * 8, from + i * 8,
                                                      len, shared_in, shared_out));
    uint64_t state = zoo_step(lane[0], (len + 7) / 8);
    for (size_t k = 1; k < 4; k++)
        state = zoo_step(state, lane[k]);
    return zoo_mix(state);
}

static ZOO_ALWAYS_INLINE zoo_chain zoo_sum_begin(uint64_t kind, uint64_t seed, uint64_t place)
{
    /* Both halves of a block count; of the plain kind, the low one alone. */
    return (zoo_chain){kind == ZOO_SUM_AES ? seed : zoo_step(seed, place), place};
}

#if defined(ZOO_NO_AES)

#define ZOO_WITH_AES

static ZOO_ALWAYS_INLINE void zoo_sum_go_on(uint64_t kind, zoo_chain *chain, char *to,
                                            const char *from, size_t len, bool copies,
                                            bool shared_in, bool shared_out)
{
    (void)kind, (void)copies;
    chain->low = zoo_sum_plain(chain->low, to, from, len, shared_in, shared_out);
}

static ZOO_ALWAYS_INLINE uint32_t zoo_sum_so_far(uint64_t kind, const zoo_chain *chain)
{
    (void)kind;
    return (uint32_t)chain->low;
}

#else

/* Below, one lane: its chain is shorter than the setting up of four. */
enum { ZOO_SUM_LANES_FROM = 256 };

#if defined(__x86_64__)
#include <immintrin.h>
#define ZOO_WITH_AES __attribute__((target("aes,sse2")))
typedef __m128i zoo_block;

ZOO_WITH_AES static inline zoo_block zoo_sum_round_of(zoo_block state, zoo_block data)
{
    return _mm_aesenc_si128(state, data);
}

ZOO_WITH_AES static inline zoo_block zoo_sum_block_of(uint64_t low, uint64_t high)
{
    return _mm_set_epi64x((long long)high, (long long)low);
}

ZOO_WITH_AES static inline uint64_t zoo_sum_low_of(zoo_block b)
{
    return (uint64_t)_mm_cvtsi128_si64(b);
}

#else
#include <arm_neon.h>
#define ZOO_WITH_AES __attribute__((target("+crypto")))
typedef uint8x16_t zoo_block;

/* Arm xors the key before the substitution, x86 after the mixing. */
ZOO_WITH_AES static inline zoo_block zoo_sum_round_of(zoo_block state, zoo_block data)
{
    return veorq_u8(vaesmcq_u8(vaeseq_u8(state, vdupq_n_u8(0))), data);
}

ZOO_WITH_AES static inline zoo_block zoo_sum_block_of(uint64_t low, uint64_t high)
{
    return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)));
}

ZOO_WITH_AES static inline uint64_t zoo_sum_low_of(zoo_block b)
{
    return vgetq_lane_u64(vreinterpretq_u64_u8(b), 0);
}
#endif

/*
 * Sixteen bytes at once, which no C atomic can name: each half may be torn, like
 * the words above. The empty asm pins the block in its register, so that the
 * compiler cannot load it a second time: what is summed is what is stored.
 */
ZOO_WITH_AES static inline zoo_block zoo_sum_load_block(const char *from, bool shared)
{
    zoo_block b;
    memcpy(&b, from, sizeof b);
    if (shared) {
#if defined(__x86_64__)
        __asm__("" : "+x"(b));
#else
        __asm__("" : "+w"(b));
#endif
    }
    return b;
}

ZOO_WITH_AES static ZOO_ALWAYS_INLINE zoo_block zoo_sum_step(zoo_block lane, char *to,
                                                             const char *from, size_t at,
                                                             bool copies, bool shared_in)
{
    zoo_block b = zoo_sum_load_block(from + at, shared_in);
    if (copies)
        memcpy(to + at, &b, sizeof b);
    return zoo_sum_round_of(lane, b);
}

/* Eight bytes, of `len` of them if they are fewer. */
static ZOO_ALWAYS_INLINE uint64_t zoo_sum_few(char *to, const char *from, size_t len, bool copies,
                                              bool shared_in)
{
    uint64_t word = 0;
    if (len >= 8 || shared_in) { /* in the log, a record's last word is there as a whole */
        memcpy(&word, from, 8);
        __asm__("" : "+r"(word)); /* as above */
    } else {
        memcpy(&word, from, len);
    }
    if (len >= 8) {
        if (copies)
            memcpy(to, &word, 8);
        return word;
    }
    word &= ~(UINT64_MAX << 8 * len);
    for (size_t i = 0; i < len && copies; i++)
        to[i] = (char)(word >> 8 * i);
    return word;
}

/* Of no more bytes than a block has. */
ZOO_WITH_AES static ZOO_ALWAYS_INLINE zoo_block zoo_sum_short(zoo_block a, char *to,
                                                              const char *from, size_t len,
                                                              bool copies, bool shared_in)
{
    if (len == 0)
        return a;
    uint64_t low = zoo_sum_few(to, from, len, copies, shared_in), high = len;
    if (len > 8)
        high = zoo_sum_few(copies ? to + len - 8 : to, from + len - 8, 8, copies, shared_in);
    return zoo_sum_round_of(a, zoo_sum_block_of(low, high));
}

/*
 * All bytes once, but those of the last block, some of which may be in the one
 * before as well: so nothing behind the end is read or written. For what is not
 * long, and has 16 bytes or more.
 */
ZOO_WITH_AES static ZOO_ALWAYS_INLINE zoo_block zoo_sum_medium(zoo_block a, char *to,
                                                               const char *from, size_t len,
                                                               bool copies, bool shared_in)
{
    for (size_t i = 0; i < len - 16; i += 16)
        a = zoo_sum_step(a, to, from, i, copies, shared_in);
    return zoo_sum_step(a, to, from, len - 16, copies, shared_in);
}

/* The same for any length, in four lanes where that is faster. */
ZOO_WITH_AES static ZOO_ALWAYS_INLINE zoo_block zoo_sum_aes(zoo_block a, char *to, const char *from,
                                                            size_t len, bool copies, bool shared_in)
{
    size_t i = 0;
#define STEP_AT(lane, k) zoo_sum_step(lane, to, from, k, copies, shared_in)
    if (len < 16)
        return zoo_sum_short(a, to, from, len, copies, shared_in);
    if (len >= ZOO_SUM_LANES_FROM) {
        zoo_block b = zoo_sum_round_of(a, zoo_sum_block_of(ZOO_LANE_1, 0)),
                  c = zoo_sum_round_of(a, zoo_sum_block_of(ZOO_LANE_2, 0)),
                  d = zoo_sum_round_of(a, zoo_sum_block_of(ZOO_LANE_3, 0));
        for (; i < len - 64; i += 64) {
            a = STEP_AT(a, i);
            b = STEP_AT(b, i + 16);
            c = STEP_AT(c, i + 32);
            d = STEP_AT(d, i + 48);
        }
        a = zoo_sum_round_of(a, b), c = zoo_sum_round_of(c, d);
        a = zoo_sum_round_of(a, c);
    }
    for (; i < len - 16; i += 16)
        a = STEP_AT(a, i);
    return STEP_AT(a, len - 16);
#undef STEP_AT
}

/* Two rounds spread every byte over all sixteen: each changes, if a single one of them has. */
ZOO_WITH_AES static ZOO_ALWAYS_INLINE uint32_t zoo_sum_of_block(zoo_block a)
{
    const zoo_block none = zoo_sum_block_of(0, 0);
    return (uint32_t)zoo_sum_low_of(zoo_sum_round_of(zoo_sum_round_of(a, none), none));
}

/* All 64 bits, of private bytes. */
ZOO_WITH_AES static ZOO_ALWAYS_INLINE uint64_t zoo_sum_hash_aes(const char *from, size_t len,
                                                                uint64_t seed)
{
    const zoo_block none = zoo_sum_block_of(0, 0);
    zoo_block a = zoo_sum_block_of(seed, len);
    if (__builtin_expect(len <= 16, 0)) {
        a = zoo_sum_short(a, NULL, from, len, false, false);
    } else {
        a = zoo_sum_medium(a, NULL, from, len, false, false);
    }
    return zoo_sum_low_of(
        zoo_sum_round_of(zoo_sum_round_of(zoo_sum_round_of(a, none), none), none));
}

ZOO_WITH_AES static ZOO_ALWAYS_INLINE void zoo_sum_go_on(uint64_t kind, zoo_chain *chain, char *to,
                                                         const char *from, size_t len, bool copies,
                                                         bool shared_in, bool shared_out)
{
    if (__builtin_expect(kind == ZOO_SUM_AES, 1)) {
        zoo_block a;
        memcpy(&a, chain, sizeof a);
        a = zoo_sum_aes(a, to, from, len, copies, shared_in);
        memcpy(chain, &a, sizeof a);
    } else {
        chain->low = zoo_sum_plain(chain->low, to, from, len, shared_in, shared_out);
    }
}

ZOO_WITH_AES static ZOO_ALWAYS_INLINE uint32_t zoo_sum_so_far(uint64_t kind, const zoo_chain *chain)
{
    zoo_block a;
    if (kind != ZOO_SUM_AES)
        return (uint32_t)chain->low;
    memcpy(&a, chain, sizeof a);
    return zoo_sum_of_block(a);
}

#endif

#endif
