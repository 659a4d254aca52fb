/*
 * zoo_hash.h - hashes of keys and of tags.
 *
 * The step is FNV-1a's xor-then-multiply, widened to 64-bit words and followed
 * by a rotation, so that the high bits of a word reach the low bits of the
 * state. For a fixed word it is a bijection of the state and for a fixed state
 * a bijection of the word: the state never forgets what it has seen, whatever
 * the words are. (Folding a 128-bit product is faster, but a word equal to its
 * constant makes the product zero and everything before it is forgotten.) The
 * finaliser is MurmurHash3's fmix64 (Austin Appleby, public domain). Seeds come
 * from the segment's random secret.
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

#endif
