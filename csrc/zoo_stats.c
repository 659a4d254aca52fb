/*
 * zoo_stats.c - counters for the whole host, cheap enough to be always on.
 *
 * 64 stripes of four cache lines; a process keeps to one stripe, so that counting
 * rarely moves a line between cores. Relaxed: a counter orders nothing.
 */
#include "zoo_layout.h"

_Static_assert(ZOO_STATS * sizeof(zoo_word) % ZOO_LINE == 0, "a stripe is whole lines");

void zoo_stats(zoo_seg *seg, uint64_t *counters)
{
    memset(counters, 0, ZOO_STATS * sizeof *counters);
    for (size_t k = 0; k < ZOO_SAMPLE_AT; k++) {
        for (size_t i = 0; i < ZOO_STRIPES; i++)
            counters[k] += zoo_load_relaxed(seg->stats + i * ZOO_STATS + k); /* statistics only */
    }
}

void zoo_note_compared(zoo_seg *seg, int differed)
{
    zoo_count(seg, ZOO_N_COMPARED, 1);
    if (differed)
        zoo_count(seg, ZOO_N_DIFFERED, 1);
}
