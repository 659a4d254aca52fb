/*
 * zoo_modify.c - touch, incr, compare-and-set, replace: changes of an entry that is there.
 *
 * Each reads the key's record, makes a new one, and swaps the exact word that
 * it read: if that has changed meanwhile, by whatever operation, it starts
 * again. Some one of many at a time succeeds, so no update is lost and nobody
 * waits.
 *
 * Invariants
 *  1. What is derived from a record keeps its stamp and its tags (and its
 *     expiry, but for touch): with a stamp of its own it would outlive an
 *     invalidation that came between the read and the swap.
 *  2. Only an entry that may be served is changed.
 *
 * Crash: reserved bytes that no word names.
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_fault.h"
#include "zoo_layout.h"

enum { ATTEMPTS = 100000, NUMBER_BYTES = 24, VALUE_ON_STACK = 512 };

/* The key's entry, if it may be served; the hit must then be closed. */
static int find_live(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len,
                     struct zoo_hit *hit)
{
    int outcome;
    /* Who is told that there is nothing must not find it afterwards. */
    do
        outcome = zoo_index_find(seg, key_hash, key, key_len, hit);
    while (outcome == ZOO_LAPPED && !zoo_index_bury(seg, key_hash, key, key_len));
    if (outcome != ZOO_OK)
        return zoo_retire_noticed(seg) ? ZOO_RETIRED : ZOO_MISS;
    hit->key_hash = key_hash;
    if (zoo_entry_state(seg, hit->rec, key_hash) == ZOO_OK)
        return ZOO_OK;
    zoo_log_close(hit);
    return zoo_retire_noticed(seg) ? ZOO_RETIRED : ZOO_MISS;
}

/* Bytes that were reserved and not published: another attempt may use them again. */
struct space {
    zoo_pos pos;
    uint64_t bytes;
    unsigned log;
};

/* Swaps what was found for a record with this head and value. False: try again. */
static bool swap(zoo_seg *seg, const struct zoo_hit *hit, struct zoo_rec *head, const char *value,
                 struct space *space)
{
    uint64_t bytes = zoo_rec_bytes(head);
    unsigned log = zoo_word_log(hit->word);
    if (bytes > seg->log[log].longest)
        log = ZOO_LOG_MAIN;
    if (space->bytes != bytes || space->log != log || !zoo_log_intact(seg, log, space->pos))
        *space = (struct space){zoo_log_reserve(seg, log, bytes), bytes, log};
    ZOO_FAULT("modify:reserved");
    if (!zoo_log_write_unpublished(seg, log, space->pos, head, value)) {
        space->bytes = 0;
        return false;
    }
    return zoo_index_swap(seg, hit, hit->key_hash, log, space->pos);
}

/*
 * What a change makes of a value: ZOO_OK and the new one in *value, *len; or the
 * outcome that ends it. `old` is the verified value.
 */
struct change {
    int (*apply)(struct change *change, const char *old, size_t old_len, const char **value,
                 size_t *len);
    bool sets_expiry;
    uint64_t ttl_ms;
    const char *expected, *desired;
    size_t expected_len, desired_len;
    int64_t delta, result;
    char digits[NUMBER_BYTES];
};

/* One attempt. ZOO_CROWDED: the word changed meanwhile. */
static int try_change(zoo_seg *seg, struct zoo_hit *hit, struct change *change, char *room,
                      struct space *space)
{
    char *old = room;
    size_t old_len = hit->rec->value_len, len;
    const char *value;
    if (old_len > VALUE_ON_STACK && (old = malloc(old_len)) == NULL)
        return ZOO_E_MEMORY;
    int outcome = zoo_log_value(seg, hit, old);
    if (outcome == ZOO_OK)
        outcome = change->apply(change, old, old_len, &value, &len);
    else /* a value that was scribbled over is no better the next time: a get misses, too */
        outcome = outcome == ZOO_CORRUPT ? ZOO_MISS : ZOO_CROWDED;
    if (outcome == ZOO_OK) {
        struct zoo_rec *head = hit->rec; /* stamp, key and tags stay: invariant 1 */
        head->value_len = (uint32_t)len;
        if (change->sets_expiry)
            zoo_rec_set_expiry(head, change->ttl_ms ? zoo_hlc_now_ms(seg) + change->ttl_ms : 0);
        if (len > UINT32_MAX || zoo_rec_most(head) > seg->log[ZOO_LOG_MAIN].longest)
            outcome = ZOO_TOO_LARGE;
        else if (!swap(seg, hit, head, value, space))
            outcome = ZOO_CROWDED;
    }
    if (old != room)
        free(old);
    return outcome;
}

static int modify(zoo_seg *seg, const char *key, size_t key_len, struct change *change)
{
    struct zoo_hit hit;
    struct space space = {0};
    char room[VALUE_ON_STACK];
    if (key_len - 1 >= ZOO_MAX_KEY)
        return ZOO_E_KEY;
    zoo_retire_watch(seg); /* there are processes that do nothing but count */
    uint64_t key_hash = zoo_key_hash(seg, key, key_len);
    int outcome = ZOO_CROWDED;
    for (int attempt = 0; attempt < ATTEMPTS && outcome == ZOO_CROWDED; attempt++) {
        outcome = find_live(seg, key_hash, key, key_len, &hit);
        if (outcome != ZOO_OK)
            return outcome;
        outcome = try_change(seg, &hit, change, room, &space);
        zoo_log_close(&hit);
    }
    return outcome;
}

static int keep(struct change *change, const char *old, size_t old_len, const char **value,
                size_t *len)
{
    (void)change;
    *value = old;
    *len = old_len;
    return ZOO_OK;
}

int zoo_touch(zoo_seg *seg, const char *key, size_t key_len, uint64_t ttl_ms)
{
    struct change change = {.apply = keep, .sets_expiry = true, .ttl_ms = ttl_ms};
    return modify(seg, key, key_len, &change);
}

static int exchange(struct change *change, const char *old, size_t old_len, const char **value,
                    size_t *len)
{
    if (old_len != change->expected_len || memcmp(old, change->expected, old_len) != 0)
        return ZOO_DIFFERS;
    *value = change->desired;
    *len = change->desired_len;
    return ZOO_OK;
}

int zoo_compare_and_set(zoo_seg *seg, const char *key, size_t key_len, const char *expected,
                        size_t expected_len, const char *value, size_t value_len)
{
    struct change change = {.apply = exchange,
                            .expected = expected,
                            .expected_len = expected_len,
                            .desired = value,
                            .desired_len = value_len};
    return modify(seg, key, key_len, &change);
}

/* Digits with a sign or none, as Python writes an int; no more than 64 bits. */
static bool parse(const char *text, size_t len, int64_t *number)
{
    bool negative = len > 0 && text[0] == '-';
    size_t i = negative;
    uint64_t n = 0;
    if (i == len || len - i > 19)
        return false;
    for (; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    if (n > (uint64_t)INT64_MAX + negative)
        return false;
    *number = negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

static size_t format(int64_t number, char *out)
{
    char reversed[NUMBER_BYTES];
    size_t n = 0, len = 0;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        reversed[n++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0)
        out[len++] = '-';
    while (n > 0)
        out[len++] = reversed[--n];
    return len;
}

static int add(struct change *change, const char *old, size_t old_len, const char **value,
               size_t *len)
{
    int64_t number;
    if (!parse(old, old_len, &number))
        return ZOO_NO_NUMBER;
    if (__builtin_add_overflow(number, change->delta, &change->result))
        return ZOO_OVERFLOW;
    *value = change->digits;
    *len = format(change->result, change->digits);
    return ZOO_OK;
}

int zoo_incr(zoo_seg *seg, const char *key, size_t key_len, int64_t delta, int64_t *result)
{
    struct change change = {.apply = add, .delta = delta};
    int outcome = modify(seg, key, key_len, &change);
    *result = change.result;
    return outcome;
}

/* Puts a record with a stamp, tags and expiry of its own in the place of an entry. */
int zoo_modify_replace(zoo_seg *seg, uint64_t key_hash, struct zoo_rec *head, const char *value)
{
    struct zoo_hit hit;
    struct space space = {0};
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int outcome = find_live(seg, key_hash, zoo_rec_key(head), head->key_len, &hit);
        if (outcome != ZOO_OK)
            return outcome;
        bool swapped = swap(seg, &hit, head, value, &space);
        zoo_log_close(&hit);
        if (swapped)
            return ZOO_OK;
    }
    return ZOO_CROWDED;
}
