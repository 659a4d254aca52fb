/*
 * zoo_cache.c - get, set, delete, invalidate, composed from the parts.
 *
 * Checks arguments, decides outcomes, counts them. No atomics of its own.
 *
 * The order inside a get is part of promise 1: index word, copy, lap check,
 * checksum and key, then commits under way, then tag clocks, then expiry. The
 * tags are looked at only after the copy is safe in private memory: whatever is
 * invalidated before the look is seen, whatever comes later is concurrent with
 * this get. Commits under way come before the clocks: a commit that ends in
 * between has bumped its tags before it took its announcement back.
 *
 * A retired segment needs no look of its own: its clock and its root stand at
 * the end of time, so that every entry is stale and no stamp is good. Only a get
 * that misses asks why.
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_fault.h"
#include "zoo_layout.h"

enum { SET_RETRIES = 3 };

/* Counts a miss and looks why it may be one: the outcome, or ZOO_RETIRED. */
int zoo_miss(zoo_seg *seg, int outcome)
{
    static const zoo_stat why[] = {
        [ZOO_MISS] = ZOO_N_ABSENT,     [ZOO_STALE] = ZOO_N_STALE,   [ZOO_EXPIRED] = ZOO_N_EXPIRED,
        [ZOO_GRACE] = ZOO_N_EXPIRED,   [ZOO_LAPPED] = ZOO_N_LAPPED, [ZOO_PENDING] = ZOO_N_PENDING,
        [ZOO_CORRUPT] = ZOO_N_CORRUPT,
    };
    zoo_count(seg, why[outcome], 1);
    zoo_retire_watch(seg);
    return zoo_retire_noticed(seg) ? ZOO_RETIRED : outcome;
}

/* ZOO_OK, ZOO_PENDING, ZOO_STALE or ZOO_EXPIRED. To be asked when the record is private. */
int zoo_state_of(zoo_seg *seg, uint64_t stamp, uint64_t expiry, uint64_t key_hash,
                 const uint64_t *deps, size_t n_deps)
{
    if (__builtin_expect(zoo_intent_any(seg), 0) && zoo_intent_pending(seg, deps, n_deps))
        return ZOO_PENDING;
    if (!zoo_tag_fresh(seg, stamp & ZOO_CLOCK_MASK, key_hash, deps, n_deps))
        return ZOO_STALE;
    if (expiry != 0 && expiry <= zoo_hlc_now_ms(seg))
        return ZOO_EXPIRED;
    return ZOO_OK;
}

int zoo_entry_state(zoo_seg *seg, const struct zoo_rec *rec, uint64_t key_hash)
{
    return zoo_state_of(seg, rec->stamp, zoo_rec_expiry(rec), key_hash, zoo_rec_deps(rec),
                        zoo_rec_n_deps(rec));
}

/* The same for a get that people are told of: which key it is of, and how long it takes. */
static __attribute__((noinline, cold)) int find_noted(zoo_seg *seg, const char *key, size_t key_len,
                                                      struct zoo_hit *hit)
{
    zoo_look_note(seg, hit->key_hash);
    hit->began_ns = zoo_span_clock();
    int outcome = zoo_index_find(seg, hit->key_hash, key, key_len, hit);
    if (outcome != ZOO_OK)
        return zoo_miss(seg, outcome);
    hit->base ^= ZOO_AGE_TIMED; /* and so its age */
    return ZOO_OK;
}

/* Finds a key and verifies all of its record but the value: ZOO_OK, and zoo_take() must follow. */
int zoo_find_any(zoo_seg *seg, const char *key, size_t key_len, struct zoo_hit *hit)
{
    if (key_len - 1 >= ZOO_MAX_KEY) /* 0 wraps */
        return ZOO_E_KEY;
    hit->key_hash = zoo_key_hash(seg, key, key_len);
    if (zoo_look_due(seg)) {
        zoo_look_around(seg);
        return find_noted(seg, key, key_len, hit);
    }
    int outcome = zoo_index_find(seg, hit->key_hash, key, key_len, hit);
    return outcome == ZOO_OK ? ZOO_OK : zoo_miss(seg, outcome);
}

/* Copies a record on to the head of the main log, from the private copy that was verified. */
static void promote(zoo_seg *seg, struct zoo_hit *hit, const char *value)
{
    /* All who hit it now would make a copy each; the claim of one that died holds up one word. */
    zoo_word *claim = &seg->hdr->claims[hit->key_hash % ZOO_CLAIMS];
    if (zoo_exchange_relaxed(claim, hit->word) == hit->word)
        return;
    zoo_pos pos = zoo_log_reserve(seg, ZOO_LOG_MAIN, zoo_rec_bytes(hit->rec));
    ZOO_FAULT("promote:reserved");
    /* It keeps its stamp and its tags: what would have dropped it still does. */
    if (zoo_log_write_unpublished(seg, ZOO_LOG_MAIN, pos, hit->rec, value) &&
        zoo_index_swap(seg, hit, hit->key_hash, ZOO_LOG_MAIN, pos))
        zoo_count(seg, ZOO_N_PROMOTIONS, 1);
}

/* A hit that is measured, or whose record is to be kept, or both: no other hit pays for either. */
static __attribute__((noinline, cold)) void look_after(zoo_seg *seg, struct zoo_hit *hit,
                                                       const char *value)
{
    if (hit->age & ZOO_AGE_TIMED) {
        zoo_span_note(seg, ZOO_SPAN_GET, zoo_span_clock() - hit->began_ns);
        hit->age &= ~ZOO_AGE_TIMED;
    }
    if (hit->age > seg->log[zoo_word_log(hit->word)].renew_after)
        promote(seg, hit, value);
}

/*
 * Copies the value of what was found, of hit->rec->value_len bytes, and closes
 * the hit. ZOO_OK: it may be served. ZOO_GRACE: it expired less than `grace_ms`
 * ago, and may be served while somebody computes it anew. Else a miss; after
 * ZOO_LAPPED it is worth while to look again.
 */
int zoo_take_any(zoo_seg *seg, struct zoo_hit *hit, char *value, uint64_t grace_ms)
{
    int outcome = zoo_log_value(seg, hit, value);
    ZOO_FAULT("get:copied");
    if (outcome == ZOO_OK)
        outcome = zoo_entry_state(seg, hit->rec, hit->key_hash);
    if (outcome == ZOO_EXPIRED && zoo_hlc_now_ms(seg) - zoo_rec_expiry(hit->rec) < grace_ms)
        outcome = ZOO_GRACE;
    if (__builtin_expect(outcome == ZOO_OK, 1)) {
        if (hit->age > seg->log[zoo_word_log(hit->word)].renew_after)
            look_after(seg, hit, value);
        zoo_count(seg, ZOO_N_HITS, 1);
    } else {
        outcome = zoo_miss(seg, outcome);
    }
    zoo_log_close(hit);
    return outcome;
}

/* Names of tags, for the ring of events. */
static void note(zoo_seg *seg, uint64_t clock, const uint64_t *hashes, size_t n,
                 const struct zoo_name *names, zoo_cause cause)
{
    for (size_t i = 0; i < n; i++)
        zoo_event_note(seg, clock, hashes[i], names ? names[i].text : NULL,
                       names ? names[i].len : 0, cause);
}

/*
 * Makes stale what depends on the tags. ZOO_RETIRED: the segment may have been
 * replaced meanwhile, and the tags must be dropped in its successor as well.
 */
int zoo_drop(zoo_seg *seg, const uint64_t *hashes, size_t n, const struct zoo_name *names,
             zoo_cause cause)
{
    uint64_t now = zoo_hlc_boot_ns(), clock = zoo_hlc_tick_at(seg, now);
    ZOO_FAULT("bump:ticked");
    for (size_t i = 0; i < n; i++) {
        zoo_tag_raise(seg, hashes[i], clock);
        ZOO_FAULT("bump:raised");
    }
    zoo_tag_announce_event(seg);
    note(seg, clock, hashes, n, names, cause);
    return zoo_retire_look(seg, now) ? ZOO_RETIRED : ZOO_OK;
}

int zoo_clear(zoo_seg *seg)
{
    uint64_t now = zoo_hlc_boot_ns(), clock = zoo_hlc_tick_at(seg, now);
    zoo_tag_raise_root(seg, clock);
    zoo_tag_announce_event(seg);
    zoo_event_note(seg, clock, 0, NULL, 0, ZOO_BY_CLEAR);
    zoo_count(seg, ZOO_N_CLEARS, 1);
    return zoo_retire_look(seg, now) ? ZOO_RETIRED : ZOO_OK;
}

/* Removes a key. First its tag: a fill that is under way must not bring it back. */
static bool discard(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len,
                    zoo_cause cause)
{
    uint64_t tag = zoo_tag_of_key(key_hash);
    struct zoo_name name = {key, key_len};
    zoo_drop(seg, &tag, 1, &name, cause);
    return zoo_index_remove(seg, key_hash, key, key_len);
}

int zoo_delete(zoo_seg *seg, const char *key, size_t key_len)
{
    if (key_len - 1 >= ZOO_MAX_KEY)
        return ZOO_E_KEY;
    bool was_there = discard(seg, zoo_key_hash(seg, key, key_len), key, key_len, ZOO_BY_DELETE);
    zoo_count(seg, ZOO_N_DELETES, 1);
    if (zoo_retire_noticed(seg))
        return ZOO_RETIRED;
    return was_there ? ZOO_OK : ZOO_MISS;
}

/* Writes and publishes a record whose head was built. */
static int publish(zoo_seg *seg, uint64_t key_hash, struct zoo_rec *head, const char *value,
                   int mode)
{
    uint64_t bytes = zoo_rec_bytes(head);
    for (int retry = 0; retry < SET_RETRIES; retry++) {
        bool ghost;
        unsigned log = zoo_index_choose_log(seg, key_hash, bytes, &ghost);
        zoo_pos pos = zoo_log_reserve(seg, log, bytes);
        ZOO_FAULT("set:reserved");
        if (!zoo_log_write_unpublished(seg, log, pos, head, value))
            continue;
        int outcome = zoo_index_put(seg, key_hash, head, log, pos, mode);
        if (outcome == ZOO_OK && ghost)
            zoo_count(seg, ZOO_N_GHOSTS, 1);
        if (outcome != ZOO_LAPPED)
            return outcome;
    }
    return ZOO_CROWDED;
}

static int store(zoo_seg *seg, uint64_t key_hash, struct zoo_rec *head, const char *value, int mode,
                 uint64_t stamp)
{
    bool is_fill = mode == ZOO_FILL;
    head->stamp |= is_fill ? stamp : stamp | ZOO_STAMP_EXPLICIT;
    /* A stamp ahead of the clock is another segment's: it would outlive invalidations to come. */
    if (is_fill && (stamp > zoo_hlc_read(seg) ||
                    !zoo_tag_fresh(seg, stamp, key_hash, zoo_rec_deps(head), zoo_rec_n_deps(head))))
        return ZOO_BORN_DEAD;
    /* Whoever waits for a lock by adding must not push it out of the log by that. */
    if (mode == ZOO_ADD && zoo_index_has(seg, key_hash, zoo_rec_key(head), head->key_len))
        return ZOO_EXISTS;
    ZOO_FAULT("set:before-publish");
    if (mode == ZOO_REPLACE)
        return zoo_modify_replace(seg, key_hash, head, value);
    return publish(seg, key_hash, head, value, mode);
}

static void count_store(zoo_seg *seg, int outcome)
{
    switch (outcome) {
    case ZOO_OK:
        zoo_count(seg, ZOO_N_SETS, 1);
        break;
    case ZOO_BORN_DEAD:
        zoo_count(seg, ZOO_N_BORN_DEAD, 1);
        break;
    case ZOO_OLDER:
        zoo_count(seg, ZOO_N_OLDER, 1);
        break;
    case ZOO_TOO_LARGE:
        zoo_count(seg, ZOO_N_TOO_LARGE, 1);
        break;
    case ZOO_CROWDED:
        zoo_count(seg, ZOO_N_CROWDED, 1);
        break;
    default:
        break;
    }
}

/*
 * Builds the head of a record that does not expire, and has no stamp, in `room`, or in memory of
 * its own that the caller frees. There is room for an expiry behind it.
 */
static int build(const zoo_seg *seg, const char *key, size_t key_len, size_t value_len,
                 const struct zoo_deps *deps, uint64_t *room, size_t room_bytes,
                 struct zoo_rec **out)
{
    if (value_len > UINT32_MAX || deps->n > ZOO_MAX_DEPS)
        return ZOO_TOO_LARGE;
    struct zoo_rec rec = {.value_len = (uint32_t)value_len,
                          .key_len = (uint16_t)key_len,
                          .n_words = (uint16_t)deps->n};
    if (zoo_rec_most(&rec) > seg->log[ZOO_LOG_MAIN].longest)
        return ZOO_TOO_LARGE;
    uint64_t bytes = zoo_rec_head(&rec) + ZOO_EXPIRY_BYTES;
    struct zoo_rec *head = bytes <= room_bytes ? (struct zoo_rec *)(void *)room : malloc(bytes);
    if (head == NULL)
        return ZOO_E_MEMORY;
    *head = rec;
    char *at = (char *)(head + 1);
    /* The padding is summed, so it must be the same for writer and reader. */
    memset(at + zoo_pad8(key_len) - 8, 0, 8);
    memcpy(at, key, key_len);
    memcpy(at + zoo_pad8(key_len), deps->hash, deps->n * sizeof *deps->hash);
    *out = head;
    return ZOO_OK;
}

/* zoo_put() with the tags hashed. Sorts `deps`. */
int zoo_store(zoo_seg *seg, int mode, const char *key, size_t key_len, const char *value,
              size_t value_len, uint64_t ttl_ms, struct zoo_deps *deps, uint64_t stamp)
{
    uint64_t room[ZOO_ROOM];
    struct zoo_rec *head = NULL;
    if (key_len - 1 >= ZOO_MAX_KEY)
        return ZOO_E_KEY;
    if (zoo_look_due(seg))
        zoo_look_around(seg);
    if (mode == ZOO_FILL) {
        if (stamp == 0 || stamp >= ZOO_CLOCK_MASK)
            return ZOO_E_ARGUMENT;
    } else {
        /* A new value is stamped at entry: an invalidation that begins later beats it. */
        stamp = zoo_hlc_read(seg);
        if (stamp == ZOO_CLOCK_MASK)
            return ZOO_RETIRED;
    }
    uint64_t key_hash = zoo_key_hash(seg, key, key_len);
    zoo_deps_unique(deps);
    int outcome = build(seg, key, key_len, value_len, deps, room, sizeof room, &head);
    if (outcome == ZOO_OK) {
        zoo_rec_set_expiry(head, ttl_ms ? zoo_hlc_now_ms(seg) + ttl_ms : 0);
        outcome = store(seg, key_hash, head, value, mode, stamp);
    }
    bool failed = outcome == ZOO_TOO_LARGE || outcome == ZOO_CROWDED || outcome == ZOO_E_MEMORY;
    if (failed && (mode == ZOO_SET || mode == ZOO_REPLACE)) /* its old value is not its value */
        discard(seg, key_hash, key, key_len, ZOO_BY_FAILED_SET);
    count_store(seg, outcome);
    if ((uint64_t *)(void *)head != room)
        free(head);
    if (outcome != ZOO_OK && zoo_retire_noticed(seg))
        return ZOO_RETIRED;
    return outcome;
}

int zoo_put(zoo_seg *seg, int mode, const char *key, size_t key_len, const char *value,
            size_t value_len, uint64_t ttl_ms, const char *tags, size_t tags_len, const char *deps,
            size_t n_deps, uint64_t stamp)
{
    struct zoo_deps all;
    if (mode < ZOO_SET || mode > ZOO_REPLACE)
        return ZOO_E_ARGUMENT;
    zoo_deps_start(&all);
    int outcome = zoo_deps_parse(seg, &all, tags, tags_len, true);
    for (size_t i = 0; i < n_deps && outcome == ZOO_OK; i++) {
        uint64_t hash;
        memcpy(&hash, deps + i * sizeof hash, sizeof hash);
        outcome = zoo_deps_add(&all, hash);
    }
    if (outcome == ZOO_OK)
        outcome = zoo_store(seg, mode, key, key_len, value, value_len, ttl_ms, &all, stamp);
    zoo_deps_free(&all);
    return outcome;
}

uint64_t zoo_stamp(zoo_seg *seg)
{
    uint64_t clock = zoo_hlc_read(seg);
    return clock == ZOO_CLOCK_MASK ? 0 : clock;
}

/* zoo_invalidate() with the tags hashed. */
int zoo_invalidate_hashed(zoo_seg *seg, const uint64_t *hashes, size_t n,
                          const struct zoo_name *names)
{
    zoo_count(seg, ZOO_N_INVALIDATIONS, 1);
    zoo_count(seg, ZOO_N_TAGS, n);
    return zoo_drop(seg, hashes, n, names, ZOO_BY_INVALIDATE);
}

int zoo_invalidate(zoo_seg *seg, const char *tags, size_t tags_len)
{
    struct zoo_deps all;
    zoo_deps_start(&all);
    int outcome = tags_len == 0 ? ZOO_E_TAG : zoo_deps_parse(seg, &all, tags, tags_len, false);
    if (outcome == ZOO_OK) {
        struct zoo_name few[ZOO_FEW_DEPS];
        bool named = all.n <= ZOO_FEW_DEPS;
        for (size_t i = 0, start = 0; named && i < all.n; i++) {
            const char *nul = memchr(tags + start, '\0', tags_len - start);
            size_t len = nul == NULL ? tags_len - start : (size_t)(nul - tags) - start;
            few[i] = (struct zoo_name){tags + start, len};
            start += len + 1;
        }
        outcome = zoo_invalidate_hashed(seg, all.hash, all.n, named ? few : NULL);
    }
    zoo_deps_free(&all);
    return outcome;
}

int zoo_merge(zoo_seg *seg, uint64_t remote)
{
    return zoo_hlc_merge(seg, remote);
}

int64_t zoo_nothing(zoo_seg *seg, const char *key, size_t key_len)
{
    (void)seg, (void)key, (void)key_len;
    return 0;
}

void zoo_empty(void)
{
}
