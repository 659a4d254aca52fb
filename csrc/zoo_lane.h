/*
 * zoo_lane.h - the word that decides about a lane, and what its owner may do with it.
 *
 *     63        38 37         18 17      8 7     2 1     0
 *     +-----------+-------------+---------+-------+-------+
 *     | serial    | generation  | slot    | lane  | state |   0: free
 *     +-----------+-------------+---------+-------+-------+
 *                  `-------- owner -------'
 *
 *     free -> OWNED -> free           settled by its owner
 *             OWNED -> QUARANTINE     the owner does not know what became of its COMMIT
 *             OWNED -> REAPING        the owner is dead
 *                      REAPING -> QUARANTINE -> REAPING -> free
 *
 * A ticket is the word without its state.
 */
#ifndef ZOO_LANE_H
#define ZOO_LANE_H

#include "zoo_layout.h"

enum zoo_lane_state { ZOO_LANE_FREE, ZOO_LANE_OWNED, ZOO_LANE_QUARANTINE, ZOO_LANE_REAPING };
enum { ZOO_LANE_OWNER_SHIFT = 8, ZOO_LANE_SERIAL_SHIFT = 38 };
#define ZOO_LANE_STATES 3ull

static inline uint64_t zoo_lane_owner(uint64_t word)
{
    return word >> ZOO_LANE_OWNER_SHIFT & ((1ull << (ZOO_SLOT_BITS + ZOO_GENERATION_BITS)) - 1);
}

static inline unsigned zoo_lane_index(uint64_t word)
{
    return (unsigned)(word >> 2) % ZOO_LANES;
}

static inline uint64_t zoo_lane_in(uint64_t word, enum zoo_lane_state state)
{
    return (word & ~ZOO_LANE_STATES) | state;
}

/* A free lane, OWNED by this process; 0: there is none, or the process has no owner slot. */
uint64_t zoo_lane_take(zoo_seg *seg);
/* One in exactly this word, REAPING then; 0: another was faster, or there is no owner slot. */
uint64_t zoo_lane_take_over(zoo_seg *seg, uint64_t word, unsigned index);

/* The longest quarantine, in ms, that a lane's owner has asked for. */
uint64_t zoo_lane_longest(zoo_seg *seg);

/* For the owner of the word `own` alone. */
void zoo_lane_announce(zoo_seg *seg, uint64_t own, const struct zoo_deps *deps, const char *session,
                       uint32_t quarantine_ms);
void zoo_lane_bump(zoo_seg *seg, uint64_t own, zoo_cause cause);
/* These two give the lane up. False if it was taken from its owner. */
bool zoo_lane_end(zoo_seg *seg, uint64_t own);
bool zoo_lane_quarantine(zoo_seg *seg, uint64_t own);

#endif
