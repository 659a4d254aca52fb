/*
 * zoo_reap.c - the lanes that nobody settles: of the dead, and in quarantine.
 *
 * A server may finish a COMMIT after its client is dead. So the lane of a dead
 * owner is bumped at once and stays announced for the time that its owner asked
 * for, and is bumped once more at its end; likewise a lane whose owner does not
 * know what became of its COMMIT. A quarantine ends early where somebody has seen
 * that the database session, which the lane names, is gone.
 *
 * Readers and writers: whoever misses because of a lane, and whoever announces,
 *   looks ten times a second. One process at a time is elected to; any number may.
 * Crash: a reaper that dies is taken over like a committer; a quarantine then
 *   starts again. A COMMIT that takes longer than its quarantine is not covered.
 *   Time 0 is for an embedded database, whose work ends with its process.
 *
 * Quarantines are measured in CLOCK_BOOTTIME: all processes of a segment must
 * be in one time namespace. The edges, and the invariants of a lane, are those of
 * zoo_lane.c.
 */
#include <string.h>

#include "zoo_fault.h"
#include "zoo_lane.h"

enum { REAP_EVERY_MS = 100, SESSION_WORDS = ZOO_SESSION_BYTES / 8 };

/* A quarantine ends: it is bumped once more, since the COMMIT may have come late. */
static bool end_quarantine(zoo_seg *seg, unsigned index, uint64_t word)
{
    uint64_t own = zoo_lane_take_over(seg, word, index);
    if (own == 0)
        return false;
    zoo_lane_bump(seg, own, ZOO_BY_REAPER);
    return zoo_lane_end(seg, own);
}

/* N15, N17. A reaper that died is taken over like a committer; a quarantine then starts again. */
static bool reap_dead(zoo_seg *seg, unsigned index, uint64_t word)
{
    struct zoo_lane *lane = seg->lanes + index;
    uint64_t own =
        zoo_owner_alive(seg, zoo_lane_owner(word)) ? 0 : zoo_lane_take_over(seg, word, index);
    if (own == 0)
        return false;
    zoo_count(seg, ZOO_N_REAPED, 1);
    if (zoo_load_acquire(&lane->count) == 0) /* E9/A; invariant 3 of a lane */
        return zoo_lane_end(seg, own);
    zoo_lane_bump(seg, own, ZOO_BY_REAPER);
    bool over = zoo_load_relaxed(&lane->quarantine_ms) == 0; /* after E9/A */
    return over ? zoo_lane_end(seg, own) : zoo_lane_quarantine(seg, own);
}

int zoo_reap(zoo_seg *seg)
{
    int changed = 0;
    for (unsigned index = 0; index < ZOO_LANES; index++) {
        const struct zoo_lane *lane = seg->lanes + index;
        uint64_t word = zoo_load_acquire(&lane->owner); /* N15; E12/A */
        switch (word & ZOO_LANE_STATES) {
        case ZOO_LANE_OWNED:
        case ZOO_LANE_REAPING:
            changed += reap_dead(seg, index, word);
            break;
        case ZOO_LANE_QUARANTINE:
            /* If the time is a later one's, so is the word, and the CAS fails. */
            if (zoo_load_relaxed(&lane->until_ms) <= zoo_hlc_now_ms(seg))
                changed += end_quarantine(seg, index, word);
            break;
        default:
            break;
        }
    }
    return changed;
}

int zoo_quarantined(zoo_seg *seg, zoo_quarantine *out, int n)
{
    int found = 0;
    for (unsigned index = 0; index < ZOO_LANES && found < n; index++) {
        const struct zoo_lane *lane = seg->lanes + index;
        uint64_t words[SESSION_WORDS];
        uint64_t word = zoo_load_acquire(&lane->owner); /* E12/A */
        if ((word & ZOO_LANE_STATES) != ZOO_LANE_QUARANTINE)
            continue;
        out[found].ticket = word & ~ZOO_LANE_STATES;
        out[found].until_ms = zoo_load_relaxed(&lane->until_ms); /* valid if the word stays */
        for (size_t i = 0; i < SESSION_WORDS; i++)
            words[i] = zoo_load_relaxed(lane->session + i); /* the same */
        zoo_fence_acquire(); /* E12: the copies, before the word is looked at again */
        if (zoo_load_relaxed(&lane->owner) != word) /* after the fence */
            continue;
        memcpy(out[found].session, words, ZOO_SESSION_BYTES);
        out[found++].session[ZOO_SESSION_BYTES - 1] = '\0'; /* whatever shared memory has there */
    }
    return found;
}

int zoo_resolve(zoo_seg *seg, uint64_t ticket)
{
    uint64_t word = zoo_lane_in(ticket, ZOO_LANE_QUARANTINE);
    return end_quarantine(seg, zoo_lane_index(ticket), word) ? ZOO_OK : ZOO_MISS;
}

/*
 * For whoever would reap now. One process in REAP_EVERY_MS does; a time far ahead is
 * another's error.
 */
void zoo_reap_if_due(zoo_seg *seg)
{
    uint64_t next = zoo_load_relaxed(&seg->hdr->next_reap); /* a hint: zoo_reap() is always safe */
    uint64_t now = zoo_hlc_now_ms(seg);
    if (next > now && next - now <= REAP_EVERY_MS)
        return;
    /* no edge: it only elects one who reaps */
    if (zoo_cas_release(&seg->hdr->next_reap, next, now + REAP_EVERY_MS))
        zoo_reap(seg);
}
