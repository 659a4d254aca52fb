/*
 * zoo_lane.c - one commit announced: a lane, its bits, and the order of its end.
 *
 * A lane has an owner word, which decides everything (zoo_lane.h), what it
 * announces, and a bit in active_lanes and in the pending word of each tag; over
 * ZOO_LANE_TAGS tags, in pending_all.
 *
 * Readers (zoo_intent.c) look at the bits, and at a lane only where it is theirs.
 * Writers: the owner of a lane's word writes the lane and sets and clears its
 *   bits, and nobody else does. Bits are idempotent: what a dead owner left half
 *   done is done again.
 * Reclaim: zoo_reap.c.
 * Crash: a lane keeps its word until somebody has done all that its state wants.
 *
 * Invariants (model: docs/design/models/intents.pml, whose steps N1.. are cited)
 *  1. Only the owner of a lane's word touches the lane and its bits. A word is
 *     unique and changes by CAS: of two reapers one wins, and one that was
 *     stopped cannot clear the bits of the lane's next user.
 *  2. All tags are raised before the first bit is cleared: two tags may share
 *     a pending word.
 *  3. A count of 0 means that no pending bit is set: it is written before the
 *     first bit and cleared after the last, and the COMMIT has not begun or is
 *     settled.
 *
 * Edges
 *  E9   a lane's session and tags, before its count -> its count, before the tags
 *  E10  the bits, before the announcement returns   -> a get's loads of them
 *  E11  raised words, before the bits are cleared   -> the bits, before the words
 *  E12  cleared bits and count, before a free word  -> the CAS that takes the lane
 */
#include <string.h>
#include <time.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_lane.h"

enum { SESSION_WORDS = ZOO_SESSION_BYTES / 8, LANE_ATTEMPTS = 8, PAUSE_NS = 50000 };

#define EVERYTHING UINT64_MAX

_Static_assert(ZOO_LANES == 64, "a mask of lanes is one word, and a lane's number has six bits");

static uint64_t new_word(zoo_seg *seg, uint64_t owner, unsigned lane, enum zoo_lane_state state)
{
    return zoo_owner_serial(seg) << ZOO_LANE_SERIAL_SHIFT | owner << ZOO_LANE_OWNER_SHIFT |
           lane << 2 | state;
}

/* Looks at each lane once. */
static uint64_t find_lane(zoo_seg *seg, uint64_t owner)
{
    /* Starts anywhere, so that committers do not fight for the first lanes. */
    uint64_t first = zoo_mix(zoo_owner_serial(seg) ^ owner << ZOO_LANE_SERIAL_SHIFT);
    for (unsigned i = 0; i < ZOO_LANES; i++) {
        unsigned index = (unsigned)((first + i) % ZOO_LANES);
        struct zoo_lane *lane = seg->lanes + index;
        if (zoo_load_relaxed(&lane->owner) != ZOO_LANE_FREE) /* the CAS checks it */
            continue;
        uint64_t own = new_word(seg, owner, index, ZOO_LANE_OWNED);
        if (zoo_cas_release(&lane->owner, ZOO_LANE_FREE, own)) /* N1; E12/A */
            return own;
    }
    return 0;
}

uint64_t zoo_lane_take(zoo_seg *seg)
{
    uint64_t owner = zoo_owner_mine(seg), own = 0;
    for (int attempt = 0; owner != 0 && own == 0 && attempt < LANE_ATTEMPTS; attempt++) {
        struct timespec pause = {0, PAUSE_NS};
        if (attempt == 1)
            zoo_reap(seg);
        else if (attempt > 1)
            nanosleep(&pause, NULL);
        own = find_lane(seg, owner);
    }
    return own;
}

/* N16: from exactly this word. */
uint64_t zoo_lane_take_over(zoo_seg *seg, uint64_t word, unsigned index)
{
    uint64_t owner = zoo_owner_mine(seg);
    if (owner == 0)
        return 0;
    uint64_t own = new_word(seg, owner, index, ZOO_LANE_REAPING);
    ZOO_FAULT("reap:before-take");
    if (!zoo_cas_release(&seg->lanes[index].owner, word, own)) /* E12/A */
        return 0;
    ZOO_FAULT("reap:taken");
    return own;
}

/* N2: nobody reads it before its count. */
static void write_lane(struct zoo_lane *lane, const struct zoo_deps *deps, const char *session,
                       uint32_t quarantine_ms)
{
    uint64_t words[SESSION_WORDS] = {0};
    if (session != NULL)
        memcpy(words, session, strnlen(session, ZOO_SESSION_BYTES - 1));
    zoo_store_relaxed(&lane->quarantine_ms, quarantine_ms); /* E9 */
    for (size_t i = 0; i < SESSION_WORDS; i++)
        zoo_store_relaxed(lane->session + i, words[i]); /* E9 */
    for (size_t i = 0; i < deps->n && deps->n <= ZOO_LANE_TAGS; i++)
        zoo_store_relaxed(lane->tags + i, deps->hash[i]); /* E9 */
    ZOO_FAULT("intent:written");
    zoo_store_release(&lane->count, deps->n <= ZOO_LANE_TAGS ? deps->n : EVERYTHING); /* E9/R */
    ZOO_FAULT("intent:counted");
}

/* N3, N4, N5. */
static void set_bits(zoo_seg *seg, unsigned index, const struct zoo_deps *deps)
{
    uint64_t bit = 1ull << index;
    zoo_or_seq_cst(&seg->hdr->active_lanes, bit); /* E10/R */
    ZOO_FAULT("intent:active");
    if (deps->n > ZOO_LANE_TAGS)
        zoo_or_seq_cst(&seg->hdr->pending_all, bit); /* E10/R */
    for (size_t i = 0; i < deps->n && deps->n <= ZOO_LANE_TAGS; i++) {
        zoo_or_seq_cst(seg->pending + (deps->hash[i] & seg->pending_mask), bit); /* E10/R */
        ZOO_FAULT("intent:bit-set");
    }
    zoo_tag_announce_event(seg); /* ends with the fence of E10 and E16 */
    ZOO_FAULT("intent:announced");
}

/* The owner's: N2 to N5. */
void zoo_lane_announce(zoo_seg *seg, uint64_t own, const struct zoo_deps *deps, const char *session,
                       uint32_t quarantine_ms)
{
    write_lane(seg->lanes + zoo_lane_index(own), deps, session, quarantine_ms);
    set_bits(seg, zoo_lane_index(own), deps);
}

/* The tags of a lane, out of shared memory. False: everything, or garbage. */
static bool tags_of(const struct zoo_lane *lane, uint64_t *tags, size_t *n)
{
    uint64_t count = zoo_load_acquire(&lane->count); /* E9/A */
    *n = count <= ZOO_LANE_TAGS ? count : 0;
    for (size_t i = 0; i < *n; i++)
        tags[i] = zoo_load_relaxed(lane->tags + i); /* E9 */
    return count <= ZOO_LANE_TAGS;
}

static void raise_tag(zoo_seg *seg, uint64_t tag, uint64_t clock, zoo_cause cause)
{
    zoo_tag_raise(seg, tag, clock);
    zoo_event_note(seg, clock, tag, NULL, 0, cause);
    ZOO_FAULT("intent:raised");
}

/* N7, N8: everything that the lane announces becomes stale. */
void zoo_lane_bump(zoo_seg *seg, uint64_t own, zoo_cause cause)
{
    const struct zoo_lane *lane = seg->lanes + zoo_lane_index(own);
    uint64_t tags[ZOO_LANE_TAGS];
    size_t n;
    uint64_t clock = zoo_hlc_tick(seg);
    ZOO_FAULT("intent:ticked");
    if (tags_of(lane, tags, &n)) {
        for (size_t i = 0; i < n; i++)
            raise_tag(seg, tags[i], clock, cause);
    } else {
        zoo_tag_raise_root(seg, clock);
        zoo_event_note(seg, clock, 0, NULL, 0, cause);
    }
    zoo_tag_announce_event(seg);
    ZOO_FAULT("intent:bumped");
}

/* N9, N10, N11. E11/R */
static void clear_bits(zoo_seg *seg, unsigned index)
{
    uint64_t tags[ZOO_LANE_TAGS];
    size_t n;
    uint64_t others = ~(1ull << index);
    if (!tags_of(seg->lanes + index, tags, &n))
        zoo_and_release(&seg->hdr->pending_all, others); /* E11/R */
    for (size_t i = 0; i < n; i++) {
        zoo_and_release(seg->pending + (tags[i] & seg->pending_mask), others); /* E11/R */
        ZOO_FAULT("intent:bit-cleared");
    }
    zoo_and_release(&seg->hdr->active_lanes, others); /* E11/R */
    ZOO_FAULT("intent:bits-cleared");
    zoo_tag_announce_event(seg);
}

/* N9 to N12. False if the lane was taken from its owner. */
bool zoo_lane_end(zoo_seg *seg, uint64_t own)
{
    struct zoo_lane *lane = seg->lanes + zoo_lane_index(own);
    clear_bits(seg, zoo_lane_index(own));
    zoo_store_relaxed(&lane->count, 0); /* E12 */
    ZOO_FAULT("intent:uncounted");
    return zoo_cas_release(&lane->owner, own, ZOO_LANE_FREE); /* E12/R */
}

/* N14: the announcement stands for a while without an owner. */
bool zoo_lane_quarantine(zoo_seg *seg, uint64_t own)
{
    struct zoo_lane *lane = seg->lanes + zoo_lane_index(own);
    uint64_t ms = zoo_load_relaxed(&lane->quarantine_ms) & UINT32_MAX; /* after E9/A */
    zoo_store_relaxed(&lane->until_ms, zoo_hlc_now_ms(seg) + ms);      /* with the word: E12 */
    ZOO_FAULT("intent:before-quarantine");
    return zoo_cas_release(&lane->owner, own, zoo_lane_in(own, ZOO_LANE_QUARANTINE)); /* E12/R */
}

uint64_t zoo_lane_longest(zoo_seg *seg)
{
    uint64_t longest = 0;
    for (unsigned index = 0; index < ZOO_LANES; index++) {
        const struct zoo_lane *lane = seg->lanes + index;
        bool announced = zoo_load_acquire(&lane->count) != 0;              /* E9/A */
        uint64_t ms = zoo_load_relaxed(&lane->quarantine_ms) & UINT32_MAX; /* after E9/A */
        if (announced && ms > longest)
            longest = ms;
    }
    return longest;
}
