/*
 * zoo_index.c - buckets of words: a key has at most one final word.
 *
 * A bucket is one cache line of 8 words. A key's words lie in its bucket only.
 *
 * Readers (zoo_cache.c) look at the words with their fingerprint and read the
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
 *  E2  the record's bytes, before its word -> the word, before the bytes
 *  E7  own tentative word <-> the scan (both inserters store, then load: Dekker)
 *
 *      A: store tentative in slot 3; load slot 5     B: store in slot 5; load slot 3
 *
 *      At least one must see the other: seq_cst CAS, then a seq_cst fence.
 */
#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

enum { PUT_ATTEMPTS = 64, SPIN = 64 };

uint64_t zoo_key_hash(const zoo_seg *seg, const char *key, size_t key_len)
{
    return zoo_hash(key, key_len, seg->key_seed);
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

/*
 * Where a new word may go: an empty slot, else a dead one, else the one nearest
 * to being lapped. `turn` varies the choice between attempts, so that two
 * inserters that abort each other do not meet again for ever.
 */
static unsigned choose_victim(zoo_seg *seg, const uint64_t *words, uint64_t turn)
{
    unsigned oldest = 0;
    uint64_t oldest_age = 0;
    for (unsigned k = 0; k < ZOO_WAYS; k++) {
        unsigned i = (unsigned)(turn + k) % ZOO_WAYS;
        if (words[i] == 0)
            return i;
        uint64_t age = zoo_log_age(seg, words[i]);
        if (age >= oldest_age) {
            oldest_age = age;
            oldest = i;
        }
    }
    return oldest;
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
    return found->expiry == 0 || found->expiry > zoo_hlc_now_ms(seg);
}

enum step { STEP_DONE, STEP_RESTART };

/* Phase 2. The own tentative word is in slot `own`; withdraws it before it asks for a restart. */
static enum step look_around(zoo_seg *seg, zoo_word *bucket, unsigned own, uint64_t tentative,
                             uint64_t key_hash, const struct zoo_rec *rec, bool *withdrew)
{
    for (unsigned i = 0; i < ZOO_WAYS;) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E7: after the fence */
        struct zoo_rec found;
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
            switch (zoo_log_match(seg, word, zoo_rec_key(rec), rec->key_len, &found)) {
            case ZOO_MATCH_OTHER:
                i++;
                break;
            case ZOO_MATCH_DEAD: /* invariant 2 */
                i += zoo_cas_seq_cst(bucket + i, word, 0);
                break;
            case ZOO_MATCH_YES:
                zoo_cas_seq_cst(bucket + own, tentative, 0);
                return STEP_RESTART;
            }
        }
    }
    return STEP_DONE;
}

/*
 * Publishes a record: replaces the key's word, or inserts one.
 *   ZOO_OK       published
 *   ZOO_OLDER    a fill met a newer record: that one stays
 *   ZOO_LAPPED   the record's own bytes were lapped meanwhile: reserve again
 *   ZOO_CROWDED  lost too many races
 */
int zoo_index_put(zoo_seg *seg, uint64_t key_hash, const struct zoo_rec *rec, unsigned log,
                  zoo_pos pos, bool is_fill)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    uint64_t final = word_of(key_hash, log, pos);
    uint64_t tentative = final | ZOO_WORD_TENTATIVE; /* the log bit stays: words are unique */
    bool withdrew = false;

    for (uint64_t attempt = 0; attempt < PUT_ATTEMPTS; attempt++) {
        uint64_t words[ZOO_WAYS];
        bool replaced = false, present = false;
        for (unsigned i = 0; i < ZOO_WAYS; i++) {
            words[i] = zoo_load_acquire(bucket + i); /* E2/A */
            struct zoo_rec found;
            if (present || !zoo_index_may_hold(words[i], key_hash) ||
                zoo_log_match(seg, words[i], zoo_rec_key(rec), rec->key_len, &found) !=
                    ZOO_MATCH_YES)
                continue; /* dead words of this fingerprint are killed in phase 2 */
            if (is_fill && is_newer(seg, &found, rec->stamp))
                return ZOO_OLDER;
            if (!zoo_log_intact(seg, log, pos))
                return ZOO_LAPPED;
            ZOO_FAULT("index:before-replace");
            present = true;
            replaced = zoo_cas_release(bucket + i, words[i], final); /* E2/R; invariant 3 */
        }
        if (replaced)
            return ZOO_OK;
        if (present)
            continue;

        unsigned own = choose_victim(seg, words, key_hash + attempt * 3 + pos.bytes / ZOO_UNIT);
        if (!zoo_cas_seq_cst(bucket + own, words[own], tentative)) /* phase 1; E2/R, E7 */
            continue;
        ZOO_FAULT("index:tentative");
        zoo_fence_seq_cst(); /* E7 */
        if (look_around(seg, bucket, own, tentative, key_hash, rec, &withdrew) == STEP_RESTART)
            continue;
        ZOO_FAULT("index:before-final");
        if (!zoo_log_intact(seg, log, pos)) {
            zoo_cas_seq_cst(bucket + own, tentative, 0);
            return ZOO_LAPPED;
        }
        if (zoo_cas_seq_cst(bucket + own, tentative, final)) { /* phase 3: linearization */
            if (zoo_log_age(seg, words[own]) < 1u << 16 && words[own] != 0 &&
                !is_tentative(words[own]))
                zoo_count(seg, ZOO_N_EVICTIONS, 1);
            return ZOO_OK;
        }
    }
    return ZOO_CROWDED;
}

/* True if the key was there. Kills the dead words of its fingerprint on the way: invariant 2. */
bool zoo_index_remove(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    for (unsigned i = 0; i < ZOO_WAYS;) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A */
        struct zoo_rec found;
        if (!zoo_index_may_hold(word, key_hash)) {
            i++;
            continue;
        }
        enum zoo_match match = zoo_log_match(seg, word, key, key_len, &found);
        if (match == ZOO_MATCH_OTHER) {
            i++;
            continue;
        }
        ZOO_FAULT("index:before-remove");
        if (!zoo_cas_seq_cst(bucket + i, word, 0))
            continue; /* changed: look at this slot again */
        if (match == ZOO_MATCH_YES)
            return true;
        i++;
    }
    return false;
}
