/*
 * zoo_sum.c - see zoo_sum.h.
 *
 * One loop, written once for each kind, copies and sums: `shared_in` and
 * `shared_out` say which end, if any, is shared memory. It is inlined into every
 * function below with both known, so that each gets a loop of its own.
 */
#include "zoo_sum.h"

#include <string.h>

#include "zoo_hash.h"
#include "zoo_layout.h"

#if defined(__SANITIZE_THREAD__)
#define ZOO_NO_AES
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZOO_NO_AES
#endif
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE uint64_t load_word(const void *from, bool shared)
{
    uint64_t word;
    if (shared) /* relaxed: may be torn or overwritten, which the sum is there to catch */
        return zoo_load_relaxed((const zoo_word *)from);
    memcpy(&word, from, 8);
    return word;
}

static ALWAYS_INLINE void store_word(void *to, uint64_t word, bool shared)
{
    if (shared) /* relaxed: nobody has been told of these bytes yet */
        zoo_store_relaxed((zoo_word *)to, word);
    else if (to != NULL)
        memcpy(to, &word, 8);
}

/* The last word of `len` bytes that are not a whole number of words. */
static ALWAYS_INLINE uint64_t tail_word(char *to, const char *from, size_t len, bool shared_in,
                                        bool shared_out)
{
    uint64_t word = 0, before;
    size_t rest = len % 8;
    if (shared_in) {
        word = load_word(from, true); /* padded in the log */
        if (len > 8) {                /* one store over the end of the word before */
            memcpy(&before, to - 8, 8);
            before = before >> 8 * rest | word << (64 - 8 * rest);
            memcpy(to + rest - 8, &before, 8);
        } else {
            for (size_t i = 0; i < rest; i++)
                to[i] = (char)(word >> 8 * i);
        }
    } else {
        memcpy(&word, from, rest);
        store_word(to, word, shared_out);
    }
    return word;
}

/* Not inlined: its registers would be saved on the way of the other kind, too. */
static __attribute__((noinline)) uint64_t plain(uint64_t seed, char *to, const char *from,
                                                size_t len, bool shared_in, bool shared_out)
{
    uint64_t lane[4] = {seed, seed ^ ZOO_LANE_1, seed ^ ZOO_LANE_2, seed ^ ZOO_LANE_3};
    size_t words = len / 8, i = 0;
    for (; i + 4 <= words; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            uint64_t word = load_word(from + (i + k) * 8, shared_in);
            store_word(to == NULL ? NULL : to + (i + k) * 8, word, shared_out);
            lane[k] = zoo_step(lane[k], word);
        }
    }
    for (; i < words; i++) {
        uint64_t word = load_word(from + i * 8, shared_in);
        store_word(to == NULL ? NULL : to + i * 8, word, shared_out);
        lane[0] = zoo_step(lane[0], word);
    }
    if (len % 8 != 0)
        lane[0] =
            zoo_step(lane[0], tail_word(to + i * 8, from + i * 8, len, shared_in, shared_out));
    uint64_t state = zoo_step(lane[0], (len + 7) / 8);
    for (size_t k = 1; k < 4; k++)
        state = zoo_step(state, lane[k]);
    return zoo_mix(state);
}

#if defined(ZOO_NO_AES)

bool zoo_sum_has_aes(void)
{
    return false;
}

#define SUM(kind, ...) ((void)(kind), plain(__VA_ARGS__))

#else

/* Below, one lane: its chain is shorter than the setting up of four. */
enum { LANES_FROM = 256 };

#if defined(__x86_64__)
#include <immintrin.h>
#define WITH_AES __attribute__((target("aes,sse2")))
typedef __m128i block;

bool zoo_sum_has_aes(void)
{
    return __builtin_cpu_supports("aes");
}

WITH_AES static inline block round_of(block state, block data)
{
    return _mm_aesenc_si128(state, data);
}

WITH_AES static inline block block_of(uint64_t low, uint64_t high)
{
    return _mm_set_epi64x((long long)high, (long long)low);
}

WITH_AES static inline uint64_t low_of(block b)
{
    return (uint64_t)_mm_cvtsi128_si64(b);
}

#else
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define WITH_AES __attribute__((target("+crypto")))
typedef uint8x16_t block;

bool zoo_sum_has_aes(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
}

/* Arm xors the key before the substitution, x86 after the mixing. */
WITH_AES static inline block round_of(block state, block data)
{
    return veorq_u8(vaesmcq_u8(vaeseq_u8(state, vdupq_n_u8(0))), data);
}

WITH_AES static inline block block_of(uint64_t low, uint64_t high)
{
    return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)));
}

WITH_AES static inline uint64_t low_of(block b)
{
    return vgetq_lane_u64(vreinterpretq_u64_u8(b), 0);
}
#endif

/*
 * Sixteen bytes at once, which no C atomic can name: each half may be torn, like
 * the words above. The empty asm pins the block in its register, so that the
 * compiler cannot load it a second time: what is summed is what is stored.
 */
WITH_AES static inline block load_block(const char *from, bool shared)
{
    block b;
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

WITH_AES static ALWAYS_INLINE block step(block lane, char *to, const char *from, bool shared_in)
{
    block b = load_block(from, shared_in);
    if (to != NULL)
        memcpy(to, &b, sizeof b);
    return round_of(lane, b);
}

WITH_AES static ALWAYS_INLINE uint64_t aes(uint64_t seed, char *to, const char *from, size_t len,
                                           bool shared_in, bool shared_out)
{
    const bool copies = to != NULL;
    const block start = block_of(seed + len * ZOO_PRIME, seed);
    block a = start, b = start, c = start, d = start;
    size_t i = 0;
#define AT(k) (copies ? to + i + (k) : NULL), from + i + (k), shared_in
    if (len >= LANES_FROM) {
        b = round_of(b, block_of(ZOO_LANE_1, 0)), c = round_of(c, block_of(ZOO_LANE_2, 0));
        d = round_of(d, block_of(ZOO_LANE_3, 0));
        for (; i + 64 <= len; i += 64) {
            a = step(a, AT(0));
            b = step(b, AT(16));
            c = step(c, AT(32));
            d = step(d, AT(48));
        }
        a = round_of(a, b), c = round_of(c, d);
        a = round_of(a, c);
    }
    for (; i + 16 <= len; i += 16)
        a = step(a, AT(0));
#undef AT
    if (i < len) {
        uint64_t low, high = 0;
        if (i + 8 <= len) {
            low = load_word(from + i, shared_in);
            store_word(copies ? to + i : NULL, low, shared_out);
            if (i + 8 < len)
                high = tail_word(to + i + 8, from + i + 8, len, shared_in, shared_out);
        } else {
            low = tail_word(to + i, from + i, len, shared_in, shared_out);
        }
        a = round_of(a, block_of(low, high));
    }
    a = round_of(a, start); /* two rounds and more spread every byte over all sixteen */
    a = round_of(a, start);
    return low_of(round_of(a, start));
}

#define SUM(kind, ...) ((kind) == ZOO_SUM_AES ? aes(__VA_ARGS__) : plain(__VA_ARGS__))

#endif

#ifndef WITH_AES
#define WITH_AES
#endif

WITH_AES uint64_t zoo_sum_words(uint64_t kind, uint64_t seed, const uint64_t *from, size_t n)
{
    return SUM(kind, seed, NULL, (const char *)from, n * 8, false, false);
}

WITH_AES uint64_t zoo_sum_out(uint64_t kind, uint64_t seed, uint64_t *to, const zoo_word *from,
                              size_t n)
{
    return SUM(kind, seed, (char *)to, (const char *)from, n * 8, true, false);
}

WITH_AES uint64_t zoo_sum_out_bytes(uint64_t kind, uint64_t seed, char *to, const zoo_word *from,
                                    size_t len)
{
    return SUM(kind, seed, to, (const char *)from, len, true, false);
}

WITH_AES uint64_t zoo_sum_in_bytes(uint64_t kind, uint64_t seed, zoo_word *to, const char *from,
                                   size_t len)
{
    return SUM(kind, seed, (char *)to, from, len, false, true);
}
