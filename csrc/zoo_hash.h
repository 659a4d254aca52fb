/*
 * zoo_hash.h - one step, used for keys, for tags and for record checksums.
 *
 * The step is FNV-1a's xor-then-multiply, widened to 64-bit words and followed
 * by a rotation, so that the high bits of a word reach the low bits of the
 * state. For a fixed word it is a bijection of the state and for a fixed state
 * a bijection of the word: the state never forgets what it has seen, whatever
 * the words are, and a single changed word always changes a checksum. (Folding
 * a 128-bit product is faster for one lane, but a word equal to its constant
 * makes the product zero and everything before it is forgotten.) The finaliser
 * is MurmurHash3's fmix64 (Austin Appleby, public domain). Seeds come from the
 * segment's random secret. Four lanes hide the multiplier's latency.
 */
#ifndef ZOO_HASH_H
#define ZOO_HASH_H

#include <stddef.h>
#include <string.h>

#include "zoo_atomic.h"

#define ZOO_PRIME 0x9fb21c651e98df25u
#define ZOO_LANE_1 0x6a09e667f3bcc909u /* fractions of square roots of 2, 3, 5: */
#define ZOO_LANE_2 0xbb67ae8584caa73bu /* any distinct constants do */
#define ZOO_LANE_3 0x3c6ef372fe94f82bu

static inline uint64_t zoo_step(uint64_t state, uint64_t word)
{
    uint64_t x = (state ^ word) * ZOO_PRIME;
    return (x << 29) | (x >> 35);
}

static inline uint64_t zoo_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

static inline uint64_t zoo_hash(const char *bytes, size_t len, uint64_t seed)
{
    uint64_t state = seed ^ (len * ZOO_PRIME);
    uint64_t word;
    if (len < 8) {
        for (word = 0; len > 0; len--)
            word = word << 8 | (unsigned char)bytes[len - 1];
        return zoo_mix(zoo_step(state, word));
    }
    for (; len > 8; bytes += 8, len -= 8) {
        memcpy(&word, bytes, 8);
        state = zoo_step(state, word);
    }
    memcpy(&word, bytes + len - 8, 8); /* overlaps the word before; the length is in the seed */
    return zoo_mix(zoo_step(state, word));
}

/* A checksum in progress. Every piece but the last has a multiple of 4 words. */
struct zoo_sum {
    uint64_t lane[4];
};

static inline struct zoo_sum zoo_sum_start(uint64_t seed)
{
    return (struct zoo_sum){{seed, seed ^ ZOO_LANE_1, seed ^ ZOO_LANE_2, seed ^ ZOO_LANE_3}};
}

static inline uint64_t zoo_sum_end(const struct zoo_sum *sum, size_t words)
{
    uint64_t state = zoo_step(sum->lane[0], words);
    state = zoo_step(state, sum->lane[1]);
    state = zoo_step(state, sum->lane[2]);
    state = zoo_step(state, sum->lane[3]);
    return zoo_mix(state);
}

/*
 * Copies words out of shared memory and sums what was copied, in one pass: the
 * sum is of the private copy, so what it vouches for cannot change any more.
 * Relaxed: a torn copy is allowed here and caught by the sum and the lap check.
 */
static inline void zoo_sum_copy_out(struct zoo_sum *sum, uint64_t *to, const zoo_word *from,
                                    size_t words)
{
    uint64_t a = sum->lane[0], b = sum->lane[1], c = sum->lane[2], d = sum->lane[3];
    size_t i = 0;
    for (; i + 4 <= words; i += 4) {
        a = zoo_step(a, to[i] = zoo_load_relaxed(from + i));
        b = zoo_step(b, to[i + 1] = zoo_load_relaxed(from + i + 1));
        c = zoo_step(c, to[i + 2] = zoo_load_relaxed(from + i + 2));
        d = zoo_step(d, to[i + 3] = zoo_load_relaxed(from + i + 3));
    }
    for (; i < words; i++)
        a = zoo_step(a, to[i] = zoo_load_relaxed(from + i));
    *sum = (struct zoo_sum){{a, b, c, d}};
}

/* The sum of private words, equal to what zoo_sum_copy_out() makes of the same words. */
static inline void zoo_sum_words(struct zoo_sum *sum, const uint64_t *from, size_t words)
{
    uint64_t a = sum->lane[0], b = sum->lane[1], c = sum->lane[2], d = sum->lane[3];
    size_t i = 0;
    for (; i + 4 <= words; i += 4) {
        a = zoo_step(a, from[i]);
        b = zoo_step(b, from[i + 1]);
        c = zoo_step(c, from[i + 2]);
        d = zoo_step(d, from[i + 3]);
    }
    for (; i < words; i++)
        a = zoo_step(a, from[i]);
    *sum = (struct zoo_sum){{a, b, c, d}};
}

#endif
