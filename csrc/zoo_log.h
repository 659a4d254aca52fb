/*
 * zoo_log.h - where a record is, and whether it is still there: for zoo_log.c and zoo_hit.c.
 */
#ifndef ZOO_LOG_H
#define ZOO_LOG_H

#include "zoo_hash.h"
#include "zoo_layout.h"

/* What makes a record's checksums those of its place alone. */
static inline uint64_t zoo_log_place(unsigned log, zoo_pos pos)
{
    return pos.bytes | log;
}

static inline zoo_word *zoo_log_bytes(const struct zoo_log *log, zoo_pos pos)
{
    return log->words + (pos.bytes % log->size) / 8;
}

/* Are the bytes from `pos` on still not reserved a second time? */
static inline bool zoo_log_holds(const struct zoo_log *log, zoo_pos pos, uint64_t limit)
{
    return limit - pos.bytes <= log->size;
}

/*
 * Bytes from a word's record to the limit. The low 53 bits of its position are in
 * the word; the rest follows from the limit, which must be loaded after the word
 * (E2). A word ahead of the limit cannot be, short of garbage: it comes out as
 * long lapped.
 */
static inline uint64_t zoo_log_distance(uint64_t word, uint64_t limit)
{
    /* The mask, and the unit, by two shifts. */
    return (limit / ZOO_UNIT - word) << (64 - ZOO_WORD_FP_SHIFT) >>
           (64 - ZOO_WORD_FP_SHIFT - ZOO_UNIT_SHIFT);
}

#endif
