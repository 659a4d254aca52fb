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
 * A chain is what has been summed so far, from a seed and a place on; a sum of 32
 * bits can be asked for at any time. It is over the bytes: where the parts of
 * what is summed end is for the caller to have among them.
 */
#ifndef ZOO_SUM_H
#define ZOO_SUM_H

#include <stddef.h>
#include <stdint.h>

#include "zoo_atomic.h"

/* Can this processor do ZOO_SUM_AES? */
bool zoo_sum_has_aes(void);

typedef struct {
    uint64_t low, high;
} zoo_chain;

zoo_chain zoo_sum_start(uint64_t kind, uint64_t seed, uint64_t place);
/* Private bytes. */
uint32_t zoo_sum_bytes(uint64_t kind, zoo_chain *chain, const char *from, size_t len);
/* Shared words, and the last one in part, into private memory at any alignment. */
uint32_t zoo_sum_out(uint64_t kind, zoo_chain *chain, char *to, const zoo_word *from, size_t len);
/* Private bytes into shared words. What is left of the last one is unspecified. */
uint32_t zoo_sum_in(uint64_t kind, zoo_chain *chain, zoo_word *to, const char *from, size_t len);

/* A hash of private bytes, of 64 bits. */
uint64_t zoo_sum_hash(uint64_t kind, uint64_t seed, const char *from, size_t len);

#endif
