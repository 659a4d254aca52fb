/*
 * zoo_cache.c - get, set, delete, invalidate, composed from the parts.
 *
 * Checks arguments, decides outcomes, counts them. No atomics of its own.
 *
 * The order inside a get is part of promise 1: index word, copy, lap check,
 * checksum and key, then tag clocks, then expiry. A tag is looked at only after
 * the copy is safe in private memory: whatever is invalidated before the look
 * is seen, whatever comes later is concurrent with this get.
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_fault.h"
#include "zoo_layout.h"

enum { GET_RETRIES = 8, SET_RETRIES = 3, ON_STACK = 4096, DEPS_ON_STACK = 256 };

static int miss(zoo_seg *seg, zoo_stat why, int outcome)
{
    zoo_count(seg, why, 1);
    return -outcome;
}

/* The verified record of a key in `copy`, or why there is none. */
static int find(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len,
                struct zoo_rec *copy, size_t cap)
{
    zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    int outcome = ZOO_MISS;
    int retries = GET_RETRIES;
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A in zoo_index.c */
        if (!zoo_index_may_hold(word, key_hash))
            continue;
        int got = zoo_log_read(seg, word, copy, cap);
        if (got == ZOO_MORE)
            return ZOO_MORE;
        if (got == ZOO_OK) {
            if (copy->key_len == key_len && memcmp(zoo_rec_key(copy), key, key_len) == 0)
                return ZOO_OK;
            continue;
        }
        if (got == ZOO_E_GARBLED)
            zoo_count(seg, ZOO_N_CORRUPT, 1);
        outcome = ZOO_LAPPED;
        if (retries > 0 && zoo_load_acquire(bucket + i) != word) { /* replaced meanwhile */
            retries--;
            i--;
        }
    }
    return outcome;
}

int64_t zoo_get(zoo_reader *reader, const char *key, size_t key_len)
{
    zoo_seg *seg = reader->seg;
    struct zoo_rec *rec = &reader->rec;
    if (!zoo_reader_claim(reader))
        return -ZOO_FOREIGN;
    if (key_len == 0 || key_len > ZOO_MAX_KEY)
        return ZOO_E_KEY;
    uint64_t key_hash = zoo_key_hash(seg, key, key_len);
    int outcome = find(seg, key_hash, key, key_len, rec, reader->cap);
    ZOO_FAULT("get:copied");
    if (outcome == ZOO_MORE)
        return -ZOO_MORE;
    if (outcome != ZOO_OK)
        return miss(seg, outcome == ZOO_MISS ? ZOO_N_ABSENT : ZOO_N_LAPPED, outcome);
    if (!zoo_tag_fresh(seg, rec->stamp & ZOO_CLOCK_MASK, key_hash, zoo_rec_deps(rec), rec->n_deps))
        return miss(seg, ZOO_N_STALE, ZOO_STALE);
    if (rec->expiry != 0 && rec->expiry <= zoo_hlc_now_ms(seg))
        return miss(seg, ZOO_N_EXPIRED, ZOO_EXPIRED);
    zoo_count(seg, ZOO_N_HITS, 1);
    return rec->value_len;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return (x > y) - (x < y);
}

/* Sorted, without duplicates; returns how many are left. */
static size_t unique(uint64_t *words, size_t n)
{
    size_t kept = 0;
    qsort(words, n, sizeof *words, by_value);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || words[i] != words[i - 1])
            words[kept++] = words[i];
    }
    return kept;
}

/* Upper bound of the hashes that zoo_tag_parse() makes of `len` bytes: every part takes two. */
static size_t most_hashes(size_t len)
{
    return len / 2 + 1;
}

/* Builds the record privately. The caller frees it unless it is `stack`. */
static int build(const char *key, size_t key_len, const char *value, size_t value_len,
                 const uint64_t *deps, size_t n_deps, struct zoo_rec *stack, uint64_t max_record,
                 struct zoo_rec **out)
{
    if (value_len > UINT32_MAX || n_deps > ZOO_MAX_DEPS)
        return ZOO_TOO_LARGE;
    struct zoo_rec head = {
        .value_len = (uint32_t)value_len, .key_len = (uint16_t)key_len, .n_deps = (uint16_t)n_deps};
    uint64_t bytes = zoo_rec_bytes(&head);
    if (bytes > max_record)
        return ZOO_TOO_LARGE;
    struct zoo_rec *rec = bytes <= ON_STACK ? stack : malloc(bytes);
    if (rec == NULL)
        return ZOO_E_MEMORY;
    *rec = head;
    char *at = (char *)(rec + 1);
    /* The paddings are summed, so they must be the same for writer and reader. */
    memset(at + zoo_pad8(value_len) - (value_len % 8 ? 8 : 0), 0, value_len % 8 ? 8 : 0);
    memcpy(at, value, value_len);
    at += zoo_pad8(value_len);
    memset(at + zoo_pad8(key_len) - (key_len % 8 ? 8 : 0), 0, key_len % 8 ? 8 : 0);
    memcpy(at, key, key_len);
    at += zoo_pad8(key_len);
    memcpy(at, deps, n_deps * sizeof *deps);
    at += n_deps * sizeof *deps;
    memset(at, 0, bytes - (uint64_t)(at - (char *)rec));
    *out = rec;
    return ZOO_OK;
}

/* Writes and publishes a built record. */
static int publish(zoo_seg *seg, uint64_t key_hash, struct zoo_rec *rec, bool is_fill)
{
    uint64_t bytes = zoo_rec_bytes(rec);
    for (int retry = 0; retry < SET_RETRIES; retry++) {
        zoo_pos pos = zoo_log_reserve(seg, ZOO_LOG_MAIN, bytes);
        ZOO_FAULT("set:reserved");
        if (!zoo_log_write_unpublished(seg, ZOO_LOG_MAIN, pos, rec, bytes))
            continue;
        int outcome = zoo_index_put(seg, key_hash, rec, ZOO_LOG_MAIN, pos, is_fill);
        if (outcome != ZOO_LAPPED)
            return outcome;
    }
    return ZOO_CROWDED;
}

static int store(zoo_seg *seg, uint64_t key_hash, struct zoo_rec *rec, uint64_t ttl_ms,
                 uint64_t stamp, bool is_fill)
{
    rec->stamp = is_fill ? stamp : stamp | ZOO_STAMP_EXPLICIT;
    rec->expiry = ttl_ms ? zoo_hlc_now_ms(seg) + ttl_ms : 0;
    /* A stamp ahead of the clock is another segment's: it would outlive invalidations to come. */
    if (is_fill && (stamp > zoo_hlc_read(seg) ||
                    !zoo_tag_fresh(seg, stamp, key_hash, zoo_rec_deps(rec), rec->n_deps)))
        return ZOO_BORN_DEAD;
    ZOO_FAULT("set:before-publish");
    return publish(seg, key_hash, rec, is_fill);
}

static void count_set(zoo_seg *seg, int outcome)
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

static void bump(zoo_seg *seg, const uint64_t *tags, size_t n)
{
    uint64_t clock = zoo_hlc_tick(seg);
    ZOO_FAULT("bump:ticked");
    for (size_t i = 0; i < n; i++) {
        zoo_tag_raise(seg, tags[i], clock);
        ZOO_FAULT("bump:raised");
    }
    zoo_tag_announce_event(seg);
}

/* Removes a key. First its tag: a fill that is under way must not bring it back. */
static bool discard(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len)
{
    uint64_t tag = zoo_tag_of_key(key_hash);
    bump(seg, &tag, 1);
    return zoo_index_remove(seg, key_hash, key, key_len);
}

int zoo_set(zoo_seg *seg, const char *key, size_t key_len, const char *value, size_t value_len,
            uint64_t ttl_ms, const char *tags, size_t tags_len, const char *deps, size_t n_deps,
            uint64_t stamp)
{
    if (key_len == 0 || key_len > ZOO_MAX_KEY)
        return ZOO_E_KEY;
    if (stamp > ZOO_CLOCK_MASK)
        return ZOO_E_ARGUMENT;
    /* A new value is stamped at entry: an invalidation that begins later beats it. */
    bool is_fill = stamp != 0;
    if (!is_fill)
        stamp = zoo_hlc_read(seg);
    uint64_t key_hash = zoo_key_hash(seg, key, key_len);

    uint64_t few[DEPS_ON_STACK];
    size_t cap = most_hashes(tags_len), n = cap;
    uint64_t *all = cap + n_deps <= DEPS_ON_STACK ? few : malloc((cap + n_deps) * sizeof *all);
    struct zoo_rec *rec = NULL;
    _Alignas(struct zoo_rec) char stack[ON_STACK];
    int outcome = ZOO_E_MEMORY;
    if (all != NULL)
        outcome = zoo_tag_parse(seg, tags, tags_len, true, all, &n);
    if (outcome == ZOO_OK) {
        if (n_deps > 0)
            memcpy(all + n, deps, n_deps * sizeof *all);
        n = unique(all, n + n_deps);
        outcome = build(key, key_len, value, value_len, all, n, (struct zoo_rec *)(void *)stack,
                        seg->max_record, &rec);
    }
    if (outcome == ZOO_OK)
        outcome = store(seg, key_hash, rec, ttl_ms, stamp, is_fill);

    if (!is_fill && outcome != ZOO_OK && outcome != ZOO_E_TAG)
        discard(seg, key_hash, key, key_len); /* the previous version is not the value any more */
    count_set(seg, outcome);
    if ((char *)rec != stack)
        free(rec);
    if (all != few)
        free(all);
    return outcome;
}

int zoo_delete(zoo_seg *seg, const char *key, size_t key_len)
{
    if (key_len == 0 || key_len > ZOO_MAX_KEY)
        return ZOO_E_KEY;
    bool was_there = discard(seg, zoo_key_hash(seg, key, key_len), key, key_len);
    zoo_count(seg, ZOO_N_DELETES, 1);
    return was_there ? ZOO_OK : ZOO_MISS;
}

uint64_t zoo_stamp(zoo_seg *seg)
{
    return zoo_hlc_read(seg);
}

int zoo_invalidate(zoo_seg *seg, const char *tags, size_t tags_len)
{
    uint64_t few[DEPS_ON_STACK];
    size_t n = most_hashes(tags_len);
    uint64_t *all = n <= DEPS_ON_STACK ? few : malloc(n * sizeof *all);
    if (all == NULL)
        return ZOO_E_MEMORY;
    int outcome = tags_len == 0 ? ZOO_E_TAG : zoo_tag_parse(seg, tags, tags_len, false, all, &n);
    if (outcome == ZOO_OK) {
        bump(seg, all, n);
        zoo_count(seg, ZOO_N_INVALIDATIONS, 1);
        zoo_count(seg, ZOO_N_TAGS, n);
    }
    if (all != few)
        free(all);
    return outcome;
}

void zoo_clear(zoo_seg *seg)
{
    zoo_tag_raise_root(seg, zoo_hlc_tick(seg));
    zoo_tag_announce_event(seg);
    zoo_count(seg, ZOO_N_CLEARS, 1);
}

int zoo_merge(zoo_seg *seg, uint64_t remote)
{
    return zoo_hlc_merge(seg, remote);
}
