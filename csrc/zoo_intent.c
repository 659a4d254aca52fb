/*
 * zoo_intent.c - commits announced: nobody sees the old value behind a COMMIT.
 *
 * Between a database's COMMIT and the invalidation that belongs to it, the
 * cache has the old value and the database the new one; a writer that is killed
 * there leaves it so for good. Therefore a writer first announces its tags, in
 * a *lane*: entries that depend on them miss until the commit is settled, and
 * what is filled meanwhile has a stamp from before the tags' next clock.
 *
 * Readers look at the active lanes and at the pending words of an entry's
 *   dependencies before they look at its tags' clocks: a commit that is settled
 *   in between has raised them.
 * Writers: an announcer owns its lane until it settles it (zoo_lane.c).
 * Crash: the lane of the dead stays announced until it is repaired (zoo_reap.c).
 *   A stopped owner costs misses.
 *
 * Invariants (model: docs/design/models/intents.pml, whose steps N1.. are cited)
 *  1. Bits are cleared without raising the tags after a rollback only, if it is
 *     certain.
 *  2. Nobody waits: without a lane, everything misses until `miss_until`.
 *  3. What was stored before that time, or during it, is never served after it:
 *     the announcer may have died behind its COMMIT, and what was filled since is
 *     of no known age (R9 of retirement.pml).
 *
 * The edges are those of zoo_lane.c, and E16 of zoo_retire.c: bits and raised words
 * against the segment's state.
 *
 *      announce: set bits; fence; load state     retire: store state; fence; load lanes
 *
 *      Either the announcer learns of the successor, or the successor of the lane.
 */
#include "zoo_fault.h"
#include "zoo_lane.h"

enum { CROWDED_MS = 10000 };

/* No lane was free: nobody hits for a while. */
static int announce_to_all(zoo_seg *seg, uint32_t quarantine_ms)
{
    uint64_t ms = quarantine_ms > CROWDED_MS ? quarantine_ms : CROWDED_MS;
    zoo_max_release(&seg->hdr->miss_until, zoo_hlc_now_ms(seg) + ms); /* E10/R */
    ZOO_FAULT("intent:crowded");
    zoo_tag_announce_event(seg);
    zoo_count(seg, ZOO_N_NO_LANE, 1);
    return zoo_retire_look(seg, zoo_hlc_boot_ns()) ? ZOO_RETIRED : ZOO_CROWDED;
}

static int announce(zoo_seg *seg, const struct zoo_deps *deps, const char *session,
                    uint32_t quarantine_ms, uint64_t *ticket)
{
    zoo_reap_if_due(seg);
    uint64_t own = zoo_lane_take(seg);
    if (own == 0)
        return announce_to_all(seg, quarantine_ms);
    ZOO_FAULT("intent:taken");
    zoo_lane_announce(seg, own, deps, session, quarantine_ms);
    zoo_count(seg, ZOO_N_ANNOUNCED, 1);
    *ticket = zoo_lane_in(own, ZOO_LANE_FREE);
    return zoo_retire_look(seg, zoo_hlc_boot_ns()) ? ZOO_RETIRED : ZOO_OK;
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
    uint64_t own = zoo_lane_in(ticket, ZOO_LANE_OWNED);
    struct zoo_lane *lane = seg->lanes + zoo_lane_index(own);
    if (ticket == 0)
        return ZOO_OK;
    /* A forked child has its parent's tickets, but not its lanes. E12/A */
    if (zoo_lane_owner(own) != zoo_owner_mine(seg) || zoo_load_acquire(&lane->owner) != own)
        return ZOO_MISS;
    ZOO_FAULT("intent:settling");
    if (end == ZOO_ROLLED_BACK) /* N13; invariant 1 */
        return zoo_lane_end(seg, own) ? ZOO_OK : ZOO_MISS;
    zoo_lane_bump(seg, own, ZOO_BY_COMMIT); /* E16: ends with the fence */
    bool retired = zoo_retire_look(seg, zoo_hlc_boot_ns());
    bool mine = end == ZOO_COMMITTED ? zoo_lane_end(seg, own) : zoo_lane_quarantine(seg, own);
    return !mine ? ZOO_MISS : retired ? ZOO_RETIRED : ZOO_OK;
}

/*
 * The time for which all miss is over: what was stored until then is dropped before
 * it shows (invariant 3). Whoever comes by does it; twice is a few needless misses.
 */
static void end_window(zoo_seg *seg, uint64_t until)
{
    uint64_t clock = zoo_hlc_tick(seg);
    zoo_tag_raise_root(seg, clock);
    zoo_event_note(seg, clock, 0, NULL, 0, ZOO_BY_REAPER);
    zoo_tag_announce_event(seg);
    /* E11/R. It only ever rises: if it is not what was read, another window is open. */
    zoo_cas_release(&seg->hdr->miss_until, until, 0);
}

static bool all_miss(zoo_seg *seg)
{
    uint64_t until = zoo_load_acquire(&seg->hdr->miss_until); /* E10/A, E11/A */
    if (until == 0)
        return false;
    if (until > zoo_hlc_now_ms(seg))
        return true;
    end_window(seg, until);
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
        zoo_reap_if_due(seg);
    return pending;
}
