/*
 * zoo_intent.c - commits announced: nobody sees the old value behind a COMMIT.
 *
 * Between a database's COMMIT and the invalidation that belongs to it, the
 * cache has the old value and the database the new one; a writer that is killed
 * there leaves it so for good. Therefore a writer first announces its tags, in
 * a *lane*: entries that depend on them miss until the commit is settled, and
 * what is filled meanwhile has a stamp from before the tags' next clock.
 *
 * A lane has an owner word, which decides everything:
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
 * A ticket is the word without its state. The lane is a bit in active_lanes and
 * in the pending word of each tag; over ZOO_LANE_TAGS tags, in pending_all.
 *
 * Readers look at the active lanes and at the pending words of an entry's
 *   dependencies before they look at its tags' clocks: a commit that is settled
 *   in between has raised them.
 * Writers: the owner of a lane's word writes the lane and sets and clears its
 *   bits, and nobody else does. Bits are idempotent: what a dead owner left half
 *   done is done again.
 * Reclaim: whoever misses because of a lane, and whoever announces, looks ten
 *   times a second whether owners are dead and quarantines over (zoo_reap).
 * Crash: see the table of states. A server may finish a COMMIT after its client
 *   is dead; the lane of a dead owner therefore stays announced for the time
 *   that its owner asked for, and is bumped before and after. A COMMIT that takes
 *   longer than that is not covered. Time 0 is for an embedded database, whose work
 *   ends with its process. A stopped owner costs misses.
 *
 * Quarantines are measured in CLOCK_BOOTTIME: all processes of a segment must
 * be in one time namespace.
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
 *  4. Bits are cleared without raising the tags after a rollback only, if it is
 *     certain.
 *  5. Nobody waits: without a lane, everything misses until `miss_until`.
 *
 * Edges
 *  E9   a lane's session and tags, before its count -> its count, before the tags
 *  E10  the bits, before the announcement returns   -> a get's loads of them
 *  E11  raised words, before the bits are cleared   -> the bits, before the words
 *  E12  cleared bits and count, before a free word  -> the CAS that takes the lane
 *
 * With E16 of zoo_retire.c, bits and raised words against the segment's state:
 *
 *      announce: set bits; fence; load state     retire: store state; fence; load lanes
 *
 *      Either the announcer learns of the successor, or the successor of the lane.
 */
#include <string.h>
#include <time.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

enum state { FREE = 0, OWNED = 1, QUARANTINE = 2, REAPING = 3 };
enum { OWNER_SHIFT = 8, SERIAL_SHIFT = 38, SESSION_WORDS = ZOO_SESSION_BYTES / 8 };
enum { LANE_ATTEMPTS = 8, PAUSE_NS = 50000, REAP_EVERY_MS = 100, CROWDED_MS = 10000 };

#define STATE_MASK 3ull
#define OWNER_MASK ((1ull << (ZOO_SLOT_BITS + ZOO_GENERATION_BITS)) - 1)
#define EVERYTHING UINT64_MAX

_Static_assert(ZOO_LANES == 64, "a mask of lanes is one word, and a lane's number has six bits");

static uint64_t new_word(zoo_seg *seg, uint64_t owner, unsigned lane, enum state state)
{
    return zoo_owner_serial(seg) << SERIAL_SHIFT | owner << OWNER_SHIFT | lane << 2 | state;
}

static uint64_t owner_of(uint64_t word)
{
    return word >> OWNER_SHIFT & OWNER_MASK;
}

static unsigned lane_of(uint64_t word)
{
    return (unsigned)(word >> 2) % ZOO_LANES;
}

static uint64_t in_state(uint64_t word, enum state state)
{
    return (word & ~STATE_MASK) | state;
}

static bool is_retired(zoo_seg *seg)
{
    return zoo_load_acquire(&seg->hdr->state) == ZOO_STATE_RETIRED; /* E16: after the fence */
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
static void bump(zoo_seg *seg, const struct zoo_lane *lane, zoo_cause cause)
{
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
static bool end_lane(zoo_seg *seg, uint64_t own)
{
    struct zoo_lane *lane = seg->lanes + lane_of(own);
    clear_bits(seg, lane_of(own));
    zoo_store_relaxed(&lane->count, 0); /* E12 */
    ZOO_FAULT("intent:uncounted");
    return zoo_cas_release(&lane->owner, own, FREE); /* E12/R */
}

/* N14: the announcement stands for a while without an owner. */
static bool put_in_quarantine(zoo_seg *seg, uint64_t own)
{
    struct zoo_lane *lane = seg->lanes + lane_of(own);
    uint64_t ms = zoo_load_relaxed(&lane->quarantine_ms) & UINT32_MAX; /* after E9/A */
    zoo_store_relaxed(&lane->until_ms, zoo_hlc_now_ms(seg) + ms);      /* with the word: E12 */
    ZOO_FAULT("intent:before-quarantine");
    return zoo_cas_release(&lane->owner, own, in_state(own, QUARANTINE)); /* E12/R */
}

/* Looks at each lane once. */
static uint64_t find_lane(zoo_seg *seg, uint64_t owner)
{
    /* Starts anywhere, so that committers do not fight for the first lanes. */
    uint64_t first = zoo_mix(zoo_owner_serial(seg) ^ owner << SERIAL_SHIFT);
    for (unsigned i = 0; i < ZOO_LANES; i++) {
        unsigned index = (unsigned)((first + i) % ZOO_LANES);
        struct zoo_lane *lane = seg->lanes + index;
        if (zoo_load_relaxed(&lane->owner) != FREE) /* the CAS checks it */
            continue;
        uint64_t own = new_word(seg, owner, index, OWNED);
        if (zoo_cas_release(&lane->owner, FREE, own)) /* N1; E12/A */
            return own;
    }
    return 0;
}

static uint64_t take_lane(zoo_seg *seg)
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

/* No lane was free: nobody hits for a while. */
static int announce_to_all(zoo_seg *seg, uint32_t quarantine_ms)
{
    uint64_t ms = quarantine_ms > CROWDED_MS ? quarantine_ms : CROWDED_MS;
    zoo_max_release(&seg->hdr->miss_until, zoo_hlc_now_ms(seg) + ms); /* E10/R */
    ZOO_FAULT("intent:crowded");
    zoo_tag_announce_event(seg);
    zoo_count(seg, ZOO_N_NO_LANE, 1);
    return is_retired(seg) ? ZOO_RETIRED : ZOO_CROWDED;
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

/* Whoever would reap now. One process in REAP_EVERY_MS does; a time far ahead is another's error.
 */
static void reap_if_due(zoo_seg *seg)
{
    uint64_t next = zoo_load_relaxed(&seg->hdr->next_reap); /* a hint: zoo_reap() is always safe */
    uint64_t now = zoo_hlc_now_ms(seg);
    if (next > now && next - now <= REAP_EVERY_MS)
        return;
    /* no edge: it only elects one who reaps */
    if (zoo_cas_release(&seg->hdr->next_reap, next, now + REAP_EVERY_MS))
        zoo_reap(seg);
}

static int announce(zoo_seg *seg, const struct zoo_deps *deps, const char *session,
                    uint32_t quarantine_ms, uint64_t *ticket)
{
    reap_if_due(seg);
    uint64_t own = take_lane(seg);
    if (own == 0)
        return announce_to_all(seg, quarantine_ms);
    ZOO_FAULT("intent:taken");
    write_lane(seg->lanes + lane_of(own), deps, session, quarantine_ms);
    set_bits(seg, lane_of(own), deps);
    zoo_count(seg, ZOO_N_ANNOUNCED, 1);
    *ticket = own & ~STATE_MASK;
    return is_retired(seg) ? ZOO_RETIRED : ZOO_OK;
}

int zoo_announce(zoo_seg *seg, const char *tags, size_t tags_len, const char *session,
                 uint32_t quarantine_ms, uint64_t *ticket)
{
    struct zoo_deps deps;
    *ticket = 0;
    zoo_deps_start(&deps);
    int status = zoo_deps_parse(seg, &deps, tags, tags_len, false);
    zoo_deps_unique(&deps);
    if (tags == NULL)
        deps.n = ZOO_LANE_TAGS + 1; /* of which nobody reads one */
    if (status == ZOO_OK && deps.n > 0)
        status = announce(seg, &deps, session, quarantine_ms, ticket);
    zoo_deps_free(&deps);
    return status;
}

/* ZOO_MISS: the lane is not this process's any more; its tags must be invalidated without it. */
int zoo_settle(zoo_seg *seg, uint64_t ticket, int end)
{
    uint64_t own = in_state(ticket, OWNED);
    struct zoo_lane *lane = seg->lanes + lane_of(own);
    if (ticket == 0)
        return ZOO_OK;
    /* A forked child has its parent's tickets, but not its lanes. E12/A */
    if (owner_of(own) != zoo_owner_mine(seg) || zoo_load_acquire(&lane->owner) != own)
        return ZOO_MISS;
    ZOO_FAULT("intent:settling");
    if (end == ZOO_ROLLED_BACK) /* N13; invariant 4 */
        return end_lane(seg, own) ? ZOO_OK : ZOO_MISS;
    bump(seg, lane, ZOO_BY_COMMIT); /* E16: ends with the fence */
    bool retired = is_retired(seg);
    bool mine = end == ZOO_COMMITTED ? end_lane(seg, own) : put_in_quarantine(seg, own);
    return !mine ? ZOO_MISS : retired ? ZOO_RETIRED : ZOO_OK;
}

/* N16: takes a lane from exactly this word. 0: another was faster, or this process has no slot. */
static uint64_t take_over(zoo_seg *seg, unsigned index, uint64_t word)
{
    uint64_t owner = zoo_owner_mine(seg);
    if (owner == 0)
        return 0;
    uint64_t own = new_word(seg, owner, index, REAPING);
    ZOO_FAULT("reap:before-take");
    if (!zoo_cas_release(&seg->lanes[index].owner, word, own)) /* E12/A */
        return 0;
    ZOO_FAULT("reap:taken");
    return own;
}

/* A quarantine ends: it is bumped once more, since the COMMIT may have come late. */
static bool end_quarantine(zoo_seg *seg, unsigned index, uint64_t word)
{
    uint64_t own = take_over(seg, index, word);
    if (own == 0)
        return false;
    bump(seg, seg->lanes + index, ZOO_BY_REAPER);
    return end_lane(seg, own);
}

/* N15, N17. A reaper that died is taken over like a committer; a quarantine then starts again. */
static bool reap_dead(zoo_seg *seg, unsigned index, uint64_t word)
{
    struct zoo_lane *lane = seg->lanes + index;
    uint64_t own = zoo_owner_alive(seg, owner_of(word)) ? 0 : take_over(seg, index, word);
    if (own == 0)
        return false;
    zoo_count(seg, ZOO_N_REAPED, 1);
    if (zoo_load_acquire(&lane->count) == 0) /* E9/A; invariant 3 */
        return end_lane(seg, own);
    bump(seg, lane, ZOO_BY_REAPER);
    bool over = zoo_load_relaxed(&lane->quarantine_ms) == 0; /* after E9/A */
    return over ? end_lane(seg, own) : put_in_quarantine(seg, own);
}

int zoo_reap(zoo_seg *seg)
{
    int changed = 0;
    for (unsigned index = 0; index < ZOO_LANES; index++) {
        const struct zoo_lane *lane = seg->lanes + index;
        uint64_t word = zoo_load_acquire(&lane->owner); /* N15; E12/A */
        switch (word & STATE_MASK) {
        case OWNED:
        case REAPING:
            changed += reap_dead(seg, index, word);
            break;
        case QUARANTINE: /* if the time is a later one's, so is the word, and the CAS fails */
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
        if ((word & STATE_MASK) != QUARANTINE)
            continue;
        out[found].ticket = word & ~STATE_MASK;
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
    uint64_t word = in_state(ticket, QUARANTINE);
    return end_quarantine(seg, lane_of(ticket), word) ? ZOO_OK : ZOO_MISS;
}

/* Once nobody is crowded out any more, gets need not look at the time. */
static bool all_miss(zoo_seg *seg)
{
    uint64_t until = zoo_load_acquire(&seg->hdr->miss_until); /* E10/A */
    if (until == 0)
        return false;
    if (until > zoo_hlc_now_ms(seg))
        return true;
    /* no edge: that time is over. It only ever rises, so this is the value that was read. */
    zoo_cas_release(&seg->hdr->miss_until, until, 0);
    return false;
}

/*
 * N18: has a commit under way announced one of these? Ask before the tags'
 * clocks are looked at, and only if there are lanes: zoo_cache.c looks first.
 */
bool zoo_intent_pending(zoo_seg *seg, const uint64_t *deps, size_t n_deps)
{
    bool pending = all_miss(seg);
    uint64_t active = zoo_load_acquire(&seg->hdr->active_lanes); /* E10/A, E11/A */
    if (active != 0 && !pending)
        pending = (zoo_load_acquire(&seg->hdr->pending_all) & active) != 0; /* E10/A, E11/A */
    for (size_t i = 0; active != 0 && !pending && i < n_deps; i++) {
        const zoo_word *word = seg->pending + (deps[i] & seg->pending_mask);
        pending = (zoo_load_acquire(word) & active) != 0; /* E10/A, E11/A */
    }
    if (pending)
        reap_if_due(seg);
    return pending;
}
