/*
 * zoo_stats.c - counters for the whole host, cheap enough to be always on.
 *
 * 64 stripes of two cache lines; a thread keeps to one stripe, so that counting
 * rarely moves a line between cores. Relaxed: a counter orders nothing.
 */
#include <sys/syscall.h>
#include <unistd.h>

#include "zoo_hash.h"
#include "zoo_layout.h"

_Static_assert(ZOO_STATS * sizeof(zoo_word) % ZOO_LINE == 0, "a stripe is whole lines");

static zoo_word *stripe(const zoo_seg *seg)
{
    static _Thread_local uint64_t
        mine; /* 0: not chosen yet; a fork keeps its parent's, harmlessly */
    if (mine == 0)
        mine = 1 + zoo_mix((uint64_t)syscall(SYS_gettid)) % ZOO_STRIPES;
    return seg->stats + (mine - 1) * ZOO_STATS;
}

void zoo_count(zoo_seg *seg, zoo_stat which, uint64_t n)
{
    zoo_add_relaxed(stripe(seg) + which, n); /* statistics only */
}

void zoo_stats(zoo_seg *seg, uint64_t *counters)
{
    for (size_t k = 0; k < ZOO_STATS; k++) {
        counters[k] = 0;
        for (size_t i = 0; i < ZOO_STRIPES; i++)
            counters[k] += zoo_load_relaxed(seg->stats + i * ZOO_STATS + k); /* statistics only */
    }
}
