/*
 * zoo_index.c - buckets of words: a key has at most one final word.
 *
 * A bucket is one cache line of 8 words. A key's words lie in its bucket only.
 *
 * Readers (zoo_cache.c, zoo_hit.c) look at the words with their fingerprint and read the
 *   records behind them.
 * Writers replace or remove the key's own word by one CAS. A key that is absent
 *   is inserted in two phases, as in FASTER's index:
 *     1. CAS a *tentative* word over an empty, dead or oldest slot;
 *     2. look at the other seven: withdraw before a final word of the same key;
 *        kill a word of the same fingerprint whose record is dead; abort a
 *        tentative word of the same fingerprint in a higher slot, withdraw once
 *        before one in a lower slot and abort it the second time;
 *     3. CAS the own word from tentative to final. If that fails, somebody
 *        aborted us: start again.
 * Reclaim: words are overwritten in place.
 * Crash: a tentative word stays until an inserter of that fingerprint aborts
 *   it or its slot is taken; readers pass over it. Nobody waits for it.
 *
 * Invariants (model: docs/design/models/insertion.pml)
 *  1. At most one final word of a key whose record can be read.
 *  2. "Absent" is never concluded over a same-fingerprint word whose record
 *     cannot be read as another key: it is first CASed to empty. Otherwise a
 *     writer that verified the word before it was lapped could still replace
 *     it, and bring an old version back.
 *  3. A word is replaced in one step only after its record was read and
 *     verified as this key's. Positions are never reused, so words are unique
 *     and a CAS from an exact word cannot mistake it for a later one.
 *  4. Aborting a tentative word is safe at any moment.
 *
 * Edges
 *  E2  a record's bytes, before its index word -> the word, before its bytes
 *  E7  own tentative word <-> the scan (both inserters store, then load: Dekker)
 *
 *      A: store tentative in slot 3; load slot 5     B: store in slot 5; load slot 3
 *
 *      At least one must see the other: seq_cst CAS, then a seq_cst fence.
 */
#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

enum { PUT_ATTEMPTS = 64, FIND_RETRIES = 8, SPIN = 64 };

uint64_t zoo_key_hash(const zoo_seg *seg, const char *key, size_t key_len)
{
    return zoo_sum_hash(seg->sum_kind, seg->key_seed, key, key_len);
}

static bool is_tentative(uint64_t word)
{
    return (word & ZOO_WORD_TENTATIVE) != 0;
}

static bool same_fingerprint(uint64_t word, uint64_t key_hash)
{
    return zoo_index_may_hold(word & ~ZOO_WORD_TENTATIVE, key_hash);
}

static uint64_t word_of(uint64_t key_hash, unsigned log, zoo_pos pos)
{
    return (uint64_t)log << ZOO_WORD_LOG_SHIFT | zoo_fingerprint(key_hash) |
           (pos.bytes / ZOO_UNIT & ZOO_WORD_POS_MASK);
}

enum match { MATCH_YES, MATCH_OTHER, MATCH_DEAD };

/*
 * Is the record of a word this key's? Decided on a verified copy only. *live, if it is
 * asked for: might it be served, but for a raise of the key's own tag?
 */
static enum match match(zoo_seg *seg, uint64_t word, const char *key, size_t key_len,
                        uint64_t *stamp, bool *live)
{
    struct zoo_hit hit;
    if (zoo_log_open(seg, word, &hit) != ZOO_OK)
        return MATCH_DEAD;
    bool same = zoo_rec_is(hit.rec, key, key_len);
    uint64_t expiry = zoo_rec_expiry(hit.rec);
    *stamp = hit.rec->stamp & ZOO_CLOCK_MASK;
    if (live != NULL)
        *live = zoo_tag_was_fresh(seg, *stamp, zoo_rec_deps(hit.rec), zoo_rec_n_deps(hit.rec)) &&
                (expiry == 0 || expiry > zoo_hlc_now_ms(seg));
    zoo_log_close(&hit);
    return same ? MATCH_YES : MATCH_OTHER;
}

/* A word whose record was lapped not long ago: the key was here, and is wanted again. */
static bool is_ghost(const zoo_seg *seg, uint64_t word, uint64_t behind)
{
    const struct zoo_log *log = &seg->log[zoo_word_log(word)];
    return behind > log->size && behind - log->size <= log->ghost_reach;
}

/* How little a word is worth: first the longest dead, then the nearest to being lapped. */
static uint64_t worthless(zoo_seg *seg, uint64_t word)
{
    uint64_t behind = zoo_log_behind(seg, word), size = seg->log[zoo_word_log(word)].size;
    return (1ull << 62) + behind - size; /* bytes past the lap; less than none while alive */
}

/*
 * Where a new word may go: an empty slot, else the least worthy. `turn` varies
 * the choice between attempts, so that two inserters that abort each other do
 * not meet again for ever.
 */
static unsigned choose_victim(zoo_seg *seg, const uint64_t *words, uint64_t turn)
{
    unsigned victim = 0;
    uint64_t least = 0;
    for (unsigned k = 0; k < ZOO_WAYS; k++) {
        unsigned i = (unsigned)(turn + k) % ZOO_WAYS;
        if (words[i] == 0)
            return i;
        uint64_t rank = worthless(seg, words[i]);
        if (rank >= least) {
            least = rank;
            victim = i;
        }
    }
    return victim;
}

/*
 * The log for a new record of a key: main for what was wanted before, and for
 * everything as long as main has room that was never used. A ghost chooses the
 * log and nothing more: the insertion goes through both phases all the same.
 */
unsigned zoo_index_choose_log(zoo_seg *seg, uint64_t key_hash, uint64_t bytes, bool *ghost)
{
    const zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    const struct zoo_log *main_log = &seg->log[ZOO_LOG_MAIN];
    *ghost = false;
    if (bytes > seg->log[ZOO_LOG_PROBATION].longest ||
        zoo_load_relaxed(main_log->limit) <= main_log->size) /* a hint: nothing rests on it */
        return ZOO_LOG_MAIN;
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i); /* no edge: it only chooses the log */
        if (!zoo_index_may_hold(word, key_hash))
            continue;
        uint64_t behind = zoo_log_behind(seg, word);
        *ghost = is_ghost(seg, word, behind);
        if (*ghost || (zoo_word_log(word) == ZOO_LOG_MAIN && behind <= main_log->size))
            return ZOO_LOG_MAIN;
    }
    return ZOO_LOG_PROBATION;
}

/*
 * Is a record newer than a fill? A set does not tick the clock, so it counts as
 * newer in a tie; but not when it has expired: on a quiet host, where every
 * stamp is the same, the key could then never be filled again.
 */
static bool is_newer(const zoo_seg *seg, const struct zoo_rec *found, uint64_t fill)
{
    uint64_t clock = found->stamp & ZOO_CLOCK_MASK;
    if (clock != fill || !(found->stamp & ZOO_STAMP_EXPLICIT))
        return clock > fill;
    uint64_t expiry = zoo_rec_expiry(found);
    return expiry == 0 || expiry > zoo_hlc_now_ms(seg);
}

/* For an add. Of an entry that a commit has announced nobody knows yet whether it is there. */
static bool is_there(zoo_seg *seg, const struct zoo_rec *found, uint64_t key_hash)
{
    int state = zoo_entry_state(seg, found, key_hash);
    return state == ZOO_OK || state == ZOO_PENDING;
}

/* May the key's verified record be replaced? */
static int may_replace(zoo_seg *seg, const struct zoo_rec *found, uint64_t key_hash,
                       const struct zoo_rec *rec, int mode)
{
    if (mode == ZOO_FILL && is_newer(seg, found, rec->stamp & ZOO_CLOCK_MASK))
        return ZOO_OLDER;
    if (mode == ZOO_ADD && is_there(seg, found, key_hash))
        return ZOO_EXISTS;
    return ZOO_OK;
}

/*
 * What an add found dead may have been dropped after the add took its stamp. It
 * would then be dead itself, and the next add succeed as well: it must not say
 * that it has stored. A newer stamp would let its value outlive an invalidation
 * that it does not know of. To be asked when it is known that there is no entry.
 */
static bool is_overtaken(zoo_seg *seg, uint64_t key_hash, const struct zoo_rec *rec, int mode)
{
    return mode == ZOO_ADD && !zoo_tag_fresh(seg, rec->stamp & ZOO_CLOCK_MASK, key_hash,
                                             zoo_rec_deps(rec), zoo_rec_n_deps(rec));
}

/*
 * The key's word and the verified head of its record: ZOO_OK, and the hit must
 * be closed; ZOO_MISS; or ZOO_LAPPED if a word of its fingerprint was dead.
 */
int zoo_index_find(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len,
                   struct zoo_hit *hit)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    int outcome = ZOO_MISS;
    int retries = FIND_RETRIES;
    unsigned first = zoo_index_first(key_hash);
    for (unsigned k = 0; k < ZOO_WAYS; k++) {
        unsigned i = (first + k) % ZOO_WAYS;
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A */
        if (!zoo_index_may_hold(word, key_hash))
            continue;
        int got = zoo_log_open(seg, word, hit);
        if (got == ZOO_OK) {
            hit->slot = bucket + i;
            if (zoo_rec_is(hit->rec, key, key_len))
                return ZOO_OK;
            zoo_log_close(hit);
            continue;
        }
        if (got == ZOO_CORRUPT)
            zoo_count(seg, ZOO_N_CORRUPT, 1);
        outcome = ZOO_LAPPED;
        if (retries > 0 && zoo_load_acquire(bucket + i) != word) { /* no edge: only whether */
            retries--;
            k--;
        }
    }
    return outcome;
}

bool zoo_index_has(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len)
{
    struct zoo_hit hit;
    if (zoo_index_find(seg, key_hash, key, key_len, &hit) != ZOO_OK)
        return false;
    bool there = is_there(seg, hit.rec, key_hash);
    zoo_log_close(&hit);
    return there;
}

/*
 * Makes sure that a key whose record could not be read is absent, and stays so:
 * kills the dead words of its fingerprint (invariant 2). False: look again.
 */
bool zoo_index_bury(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    uint64_t stamp;
    for (unsigned i = 0; i < ZOO_WAYS;) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A */
        enum match found = zoo_index_may_hold(word, key_hash)
                               ? match(seg, word, key, key_len, &stamp, NULL)
                               : MATCH_OTHER;
        if (found == MATCH_YES)
            return false;
        if (found == MATCH_OTHER || zoo_cas_seq_cst(bucket + i, word, 0)) /* E7: like a remover's */
            i++;
    }
    return true;
}

/* Replaces a word that was found by that of a record derived from it; invariant 3. */
bool zoo_index_swap(zoo_seg *seg, const struct zoo_hit *hit, uint64_t key_hash, unsigned log,
                    zoo_pos pos)
{
    ZOO_FAULT("index:before-swap");
    return zoo_log_intact(seg, log, pos) &&
           zoo_cas_release(hit->slot, hit->word, word_of(key_hash, log, pos)); /* E2/R */
}

enum step { STEP_DONE, STEP_RESTART };

/*
 * Phase 2. The own tentative word is in slot `own`; withdraws it before it asks
 * for a restart. E7: whoever empties another's word has stored its own before,
 * in the one order of all that is sequentially consistent.
 */
static enum step look_around(zoo_seg *seg, zoo_word *bucket, unsigned own, uint64_t tentative,
                             uint64_t key_hash, const struct zoo_rec *rec, bool *withdrew)
{
    uint64_t stamp;
    for (unsigned i = 0; i < ZOO_WAYS;) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E7: after the fence */
        if (i == own || !same_fingerprint(word, key_hash)) {
            i++;
        } else if (is_tentative(word)) {
            if (i > own || *withdrew) {
                i += zoo_cas_seq_cst(bucket + i, word, 0); /* abort; if it changed, look again */
                continue;
            }
            zoo_cas_seq_cst(bucket + own, tentative, 0);
            *withdrew = true;
            for (int spin = 0; spin < SPIN; spin++)
                zoo_cpu_relax();
            return STEP_RESTART;
        } else {
            switch (match(seg, word, zoo_rec_key(rec), rec->key_len, &stamp, NULL)) {
            case MATCH_OTHER:
                i++;
                break;
            case MATCH_DEAD: /* invariant 2 */
                i += zoo_cas_seq_cst(bucket + i, word, 0);
                break;
            case MATCH_YES:
                zoo_cas_seq_cst(bucket + own, tentative, 0);
                return STEP_RESTART;
            }
        }
    }
    return STEP_DONE;
}

/*
 * Replaces the word of the key's record, if there is one: ZOO_OK; ZOO_MISS if
 * there is none, with the bucket's words in `words`; ZOO_CROWDED if the word
 * changed meanwhile; or why it must not be replaced.
 */
static int replace(zoo_seg *seg, zoo_word *bucket, uint64_t *words, uint64_t key_hash,
                   const struct zoo_rec *rec, unsigned log, zoo_pos pos, int mode)
{
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        words[i] = zoo_load_acquire(bucket + i); /* E2/A */
        struct zoo_hit hit;
        if (!zoo_index_may_hold(words[i], key_hash) || zoo_log_open(seg, words[i], &hit) != ZOO_OK)
            continue; /* dead words of this fingerprint are killed in phase 2 */
        bool same = zoo_rec_is(hit.rec, zoo_rec_key(rec), rec->key_len);
        int verdict = same ? may_replace(seg, hit.rec, key_hash, rec, mode) : ZOO_OK;
        zoo_log_close(&hit);
        if (!same)
            continue;
        if (verdict != ZOO_OK)
            return verdict;
        if (!zoo_log_intact(seg, log, pos))
            return ZOO_LAPPED;
        if (is_overtaken(seg, key_hash, rec, mode))
            return ZOO_BORN_DEAD;
        ZOO_FAULT("index:before-replace");
        bool swapped = zoo_cas_release(bucket + i, words[i], word_of(key_hash, log, pos));
        return swapped ? ZOO_OK : ZOO_CROWDED; /* E2/R; invariant 3 */
    }
    return ZOO_MISS;
}

/*
 * Publishes a record: replaces the key's word, or inserts one.
 *   ZOO_OK       published
 *   ZOO_OLDER    a fill met a newer record: that one stays
 *   ZOO_EXISTS   an add met an entry
 *   ZOO_LAPPED   the record's own bytes were lapped meanwhile: reserve again
 *   ZOO_BORN_DEAD  an add was dropped before it was stored
 *   ZOO_CROWDED  lost too many races
 */
int zoo_index_put(zoo_seg *seg, uint64_t key_hash, const struct zoo_rec *rec, unsigned log,
                  zoo_pos pos, int mode)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    uint64_t final = word_of(key_hash, log, pos);
    uint64_t tentative = final | ZOO_WORD_TENTATIVE; /* the log bit stays: words are unique */
    bool withdrew = false;

    for (uint64_t attempt = 0; attempt < PUT_ATTEMPTS; attempt++) {
        uint64_t words[ZOO_WAYS];
        int outcome = replace(seg, bucket, words, key_hash, rec, log, pos, mode);
        if (outcome == ZOO_CROWDED)
            continue;
        if (outcome != ZOO_MISS)
            return outcome;

        uint64_t turn = zoo_index_first(key_hash) + attempt * (3 + pos.bytes / ZOO_UNIT);
        unsigned own = choose_victim(seg, words, turn);
        if (!zoo_cas_seq_cst(bucket + own, words[own], tentative)) /* phase 1; E2/R, E7 */
            continue;
        ZOO_FAULT("index:tentative");
        zoo_fence_seq_cst(); /* E7 */
        if (look_around(seg, bucket, own, tentative, key_hash, rec, &withdrew) == STEP_RESTART)
            continue;
        ZOO_FAULT("index:before-final");
        bool overtaken = is_overtaken(seg, key_hash, rec, mode);
        if (overtaken || !zoo_log_intact(seg, log, pos)) {
            zoo_cas_seq_cst(bucket + own, tentative, 0); /* E7: withdrawn */
            return overtaken ? ZOO_BORN_DEAD : ZOO_LAPPED;
        }
        if (zoo_cas_seq_cst(bucket + own, tentative, final)) { /* phase 3: linearization; E7 */
            if (words[own] != 0 && !is_tentative(words[own]) &&
                zoo_log_behind(seg, words[own]) <= seg->log[zoo_word_log(words[own])].size)
                zoo_count(seg, ZOO_N_EVICTIONS, 1);
            return ZOO_OK;
        }
    }
    return ZOO_CROWDED;
}

/*
 * Removes what a raise of the key's own tag has made stale; true if it might have
 * been served until then: of many who remove it at a time, one is told so. A record
 * that is newer than the raise stays: it was stored by whoever saw the key gone, and
 * an add has told its caller so. Kills the dead words of the fingerprint on the way:
 * invariant 2.
 */
bool zoo_index_remove(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    uint64_t clock = zoo_tag_clock(seg, zoo_tag_of_key(key_hash));
    for (unsigned i = 0; i < ZOO_WAYS;) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A */
        uint64_t stamp = 0;
        bool live = false;
        if (!zoo_index_may_hold(word, key_hash)) {
            i++;
            continue;
        }
        enum match found = match(seg, word, key, key_len, &stamp, &live);
        if (found == MATCH_OTHER || (found == MATCH_YES && stamp >= clock)) {
            i++;
            continue;
        }
        ZOO_FAULT("index:before-remove");
        if (!zoo_cas_seq_cst(bucket + i, word, 0)) /* E7: like an inserter's own */
            continue;                              /* changed: look at this slot again */
        if (found == MATCH_YES)
            return live;
        i++;
    }
    return false;
}
