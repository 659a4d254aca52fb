/*
 * zoo_local.c - copies of entries that one process keeps: is a copy still what a get would return?
 *
 * A process may keep a value that it has decoded, with the stamp, the expiry and
 * the tags of its entry (struct zoo_copy, in private memory). Everything that
 * can end an entry which is never overwritten raises the segment's event counter
 * when it is done: an invalidation, an announcement, a delete, a clear, the end
 * of the segment. So while the counter is what it was at the copy's last
 * verification, one load decides; after that the tags are looked at again, as a
 * get does (models/tags.pml, T8 to T10).
 *
 * Only for entries that nothing but an event changes: a `set` of the key raises
 * no event. Time does not either: the expiry is looked at each time.
 *
 * Crash: a copy dies with its process. An invalidation that died before its
 *   event has not returned; a commit was announced, with an event, before it.
 *
 * Invariants
 *  1. The counter is loaded before the tags that it vouches for, and that value
 *     is remembered: what is raised during the look changes the counter again.
 *  2. A new copy is verified like an old one. The counter at its making is not
 *     good enough: the get that read the entry looked at its tags before.
 *
 * Edges
 *  E18  raised words or set bits, before the event counter -> the counter, before the words
 */
#include "zoo_fault.h"
#include "zoo_layout.h"

uint64_t zoo_local_hash(const zoo_seg *seg, const char *key, size_t key_len)
{
    return zoo_key_hash(seg, key, key_len);
}

/* ZOO_OK: the copy may be served, and is remembered as verified now. T8, T9. */
int zoo_local_verify(zoo_seg *seg, struct zoo_copy *copy)
{
    uint64_t seen = zoo_load_acquire(&seg->hdr->events); /* E18/A, invariant 1 */
    int state =
        zoo_state_of(seg, copy->stamp, copy->expiry, copy->key_hash, copy->deps, copy->n_deps);
    ZOO_FAULT("local:looked");
    if (state == ZOO_OK)
        copy->seen = seen;
    return state;
}

/* Counts hits that were served, and looks now and then whether the segment still has its name. */
void zoo_local_count(zoo_seg *seg, uint64_t hits)
{
    zoo_retire_watch(seg);
    zoo_count(seg, ZOO_N_LOCAL, hits);
}
