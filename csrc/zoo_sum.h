/*
 * zoo_sum.h - checksums of what is copied out of, and into, shared memory.
 *
 * Whatever is summed is summed as it passes through a register into, or out of,
 * private memory: the sum is of the bytes that the caller has, and cannot change
 * any more. What was torn on the way is caught by the sum and by the lap check.
 *
 * Two kinds, chosen once for a segment:
 *   ZOO_SUM_AES    one AES round of the processor for each 16 bytes, in four
 *                  lanes. A round is a bijection, and the data is xored in
 *                  between rounds: a lane never forgets, and a single changed
 *                  block always changes it. It copies and sums about as fast as
 *                  memory moves. Not a secret code: it guards against
 *                  accidents, seeded so that bytes of another place do not pass.
 *   ZOO_SUM_PLAIN  the step of zoo_hash.h in four lanes, for processors that
 *                  lack the instruction, and for ThreadSanitizer, which must see
 *                  every access as an atomic word.
 *
 * A sum is over n words of 8 bytes; n is part of it.
 */
#ifndef ZOO_SUM_H
#define ZOO_SUM_H

#include <stddef.h>
#include <stdint.h>

#include "zoo_atomic.h"

/* Can this processor do ZOO_SUM_AES? */
bool zoo_sum_has_aes(void);

/* Of private words. */
uint64_t zoo_sum_words(uint64_t kind, uint64_t seed, const uint64_t *from, size_t n);
/* Shared words into private memory. */
uint64_t zoo_sum_out(uint64_t kind, uint64_t seed, uint64_t *to, const zoo_word *from, size_t n);
/* The same for `len` bytes at any alignment; the sum is over the padded words. */
uint64_t zoo_sum_out_bytes(uint64_t kind, uint64_t seed, char *to, const zoo_word *from,
                           size_t len);
/* Private bytes into shared words, padded with zeros to a whole word. */
uint64_t zoo_sum_in_bytes(uint64_t kind, uint64_t seed, zoo_word *to, const char *from, size_t len);

#endif
