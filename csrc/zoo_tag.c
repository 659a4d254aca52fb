/*
 * zoo_tag.c - tag clocks: when each tag was last invalidated.
 *
 * A set-associative table: a set is one cache line, a floor and seven words of
 * {fingerprint, clock}. Only tags that were invalidated take a place. A tag's
 * clock is the maximum of the floor and of all words with its fingerprint.
 *
 * Readers load the seven words, then the floor, then compare.
 * Writers raise their word, or fold the oldest word into the floor and take its
 *   place. Two writers may put one tag into two words: readers take the maximum.
 * Reclaim: none. A tag that is pushed out is made coarser, never forgotten.
 * Crash: a floor raised without the replacement that it was raised for, or a
 *   tag of several raised alone: a few needless misses.
 *
 * Invariants
 *  1. A tag's clock, as any reader computes it, never decreases.
 *  2. Floor before word: a clock that leaves its word is already in the floor.
 *  3. Event after words: whoever sees the event counter of an invalidation
 *     sees all its words.
 *
 * Edges
 *  E3  a raised word, before invalidate returns    -> a reader's word load
 *  E4  the floor, before the word that it replaces -> words, before the floor
 *  E6  the tick, before the words                  -> a fill's stamp (zoo_hlc.c)
 */
#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

uint64_t zoo_tag_hash(const zoo_seg *seg, const char *tag, size_t len)
{
    return zoo_hash(tag, len, seg->tag_seed);
}

/* The implicit tag that zoo_delete() bumps, so that a late fill cannot bring the key back. */
uint64_t zoo_tag_of_key(uint64_t key_hash)
{
    return zoo_mix(key_hash ^ ZOO_LANE_3);
}

static zoo_word *set_of(const zoo_seg *seg, uint64_t tag)
{
    return seg->tags + (tag & seg->tag_mask) * ZOO_WAYS;
}

uint64_t zoo_tag_clock(zoo_seg *seg, uint64_t tag)
{
    const zoo_word *set = set_of(seg, tag);
    uint64_t newest = 0;
    for (unsigned i = 1; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(set + i); /* E3/A, and E4/A: before the floor */
        uint64_t clock = word & ZOO_CLOCK_MASK;
        if (word >> ZOO_CLOCK_BITS == tag >> ZOO_CLOCK_BITS && clock > newest)
            newest = clock;
    }
    uint64_t floor = zoo_load_acquire(set) & ZOO_CLOCK_MASK; /* E4/A */
    return floor > newest ? floor : newest;
}

void zoo_tag_raise(zoo_seg *seg, uint64_t tag, uint64_t clock)
{
    zoo_word *set = set_of(seg, tag);
    uint64_t desired = (tag & ~ZOO_CLOCK_MASK) | clock;
    for (;;) {
        unsigned own = 0, empty = 0, oldest = 1;
        uint64_t words[ZOO_WAYS];
        for (unsigned i = 1; i < ZOO_WAYS; i++) {
            words[i] = zoo_load_acquire(set + i); /* no edge: the CAS checks it */
            if (words[i] == 0)
                empty = i;
            else if (words[i] >> ZOO_CLOCK_BITS == tag >> ZOO_CLOCK_BITS)
                own = i;
            if ((words[i] & ZOO_CLOCK_MASK) < (words[oldest] & ZOO_CLOCK_MASK))
                oldest = i;
        }
        unsigned at = own ? own : empty ? empty : oldest;
        uint64_t folded = words[at] & ZOO_CLOCK_MASK;
        if (own && folded >= clock)
            return;
        if (!own && !empty) {
            if (clock <= folded) {           /* older than all: only the floor */
                zoo_max_release(set, clock); /* E3/R */
                return;
            }
            zoo_max_release(set, folded); /* E4/R: before the word changes */
            ZOO_FAULT("tag:floor-raised");
        }
        if (zoo_cas_release(set + at, words[at], desired)) /* E3/R */
            return;
    }
}

void zoo_tag_raise_root(zoo_seg *seg, uint64_t clock)
{
    zoo_max_release(&seg->hdr->root, clock); /* E3/R */
}

/*
 * The end of every invalidation. The fence orders the raised words before
 * whatever the caller does next, against a reader that loads them later:
 *
 *     invalidate: raise T; fence; return      get: (starts later) load T
 *
 * A counter, not a maximum of clocks: of two concurrent invalidations the
 * smaller clock may finish last, and a maximum would not show it.
 */
void zoo_tag_announce_event(zoo_seg *seg)
{
    zoo_add_seq_cst(&seg->hdr->events, 1); /* E18/R, invariant 3 */
    zoo_fence_seq_cst();
}

/*
 * zoo_tag_clock(tag) > stamp, in one comparison a word: a word of this tag with
 * a newer clock is one in (fingerprint|stamp, fingerprint|all ones].
 */
static bool newer_than(zoo_seg *seg, uint64_t tag, uint64_t stamp)
{
    const zoo_word *set = set_of(seg, tag);
    uint64_t first = ((tag & ~ZOO_CLOCK_MASK) | stamp) + 1;
    uint64_t span = ZOO_CLOCK_MASK - stamp;
    bool newer = false;
#pragma GCC unroll 7
    for (unsigned i = 1; i < ZOO_WAYS; i++)
        newer |= zoo_load_acquire(set + i) - first < span; /* E3/A, and E4/A: before the floor */
    return newer | ((zoo_load_acquire(set) & ZOO_CLOCK_MASK) > stamp); /* E4/A */
}

static inline bool are_unraised(zoo_seg *seg, uint64_t stamp, const uint64_t *deps, size_t n_deps)
{
    for (size_t i = 0; i < n_deps; i++) {
        if (newer_than(seg, deps[i], stamp))
            return false;
    }
    return true;
}

/* For zoo_tag_fresh(), where the clock has passed the stamp. */
bool zoo_tag_unraised(zoo_seg *seg, uint64_t stamp, uint64_t key_hash, const uint64_t *deps,
                      size_t n_deps)
{
    if (zoo_load_acquire(&seg->hdr->root) > stamp) /* E3/A */
        return false;
    if (newer_than(seg, zoo_tag_of_key(key_hash), stamp))
        return false;
    return are_unraised(seg, stamp, deps, n_deps);
}

/* The same but for the key's own tag: of what was fresh before that was raised, to remove it. */
bool zoo_tag_was_fresh(zoo_seg *seg, uint64_t stamp, const uint64_t *deps, size_t n_deps)
{
    return zoo_load_acquire(&seg->hdr->root) <= stamp && /* E3/A */
           are_unraised(seg, stamp, deps, n_deps);
}
