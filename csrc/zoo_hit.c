/*
 * zoo_hit.c - a hit as most are, in a straight line.
 *
 * What zoo_cache.c, zoo_index.c and zoo_log.c do for a get is done here once more,
 * in one piece of code, for the hit that is like most: the processor has the
 * instruction for the checksums, the head is short, nobody writes there, and the
 * record is not so old that it is copied to the main log. That takes some 250
 * instructions for a value of 100 bytes; calls between files, with all that they
 * save and pass on, would double them. Whatever is not so begins anew there: nothing is changed or
 * counted here before a record is verified.
 *
 * The order is that of zoo_cache.c, and the edges are those of zoo_log.c and
 * zoo_index.c, with one thing saved: zoo_get() verifies head and value at once, by
 * the second checksum, after one lap check behind both copies. Until then it
 * believes nothing of what it has copied, and only takes care that it reads
 * within the log and writes within its room.
 */
#include <string.h>

#include "zoo_fault.h"
#include "zoo_layout.h"
#include "zoo_log.h"
#include "zoo_sum_loops.h"

#define LIKELY(condition) __builtin_expect(condition, 1)
#define UNLIKELY(condition) __builtin_expect(condition, 0)
#define STEP static ZOO_ALWAYS_INLINE

enum { GET_RETRIES = 3, QUICK_WORDS = 32 };

static __attribute__((noinline)) int64_t get_any(zoo_seg *seg, const char *key, size_t key_len,
                                                 char *value, size_t cap, uint64_t *needed)
{
    struct zoo_hit hit;
    int outcome = ZOO_LAPPED;
    for (int tries = 0; tries < GET_RETRIES && outcome == ZOO_LAPPED; tries++) {
        outcome = zoo_find_any(seg, key, key_len, &hit);
        if (outcome < 0)
            return outcome;
        if (outcome != ZOO_OK)
            return -outcome;
        uint32_t len = hit.rec->value_len;
        if (len > cap) {
            *needed = len;
            zoo_log_close(&hit);
            return -ZOO_MORE;
        }
        outcome = zoo_take_any(seg, &hit, value, 0);
        if (outcome == ZOO_OK)
            return len;
    }
    return -outcome;
}

#if defined(ZOO_NO_AES)

int zoo_find(zoo_seg *seg, const char *key, size_t key_len, struct zoo_hit *hit)
{
    return zoo_find_any(seg, key, key_len, hit);
}

int zoo_take(zoo_seg *seg, struct zoo_hit *hit, char *value, uint64_t grace_ms)
{
    return zoo_take_any(seg, hit, value, grace_ms);
}

int64_t zoo_get(zoo_seg *seg, const char *key, size_t key_len, char *value, size_t cap,
                uint64_t *needed)
{
    return get_any(seg, key, key_len, value, cap, needed);
}

#else

STEP uint64_t word_at(const char *from)
{
    uint64_t word;
    memcpy(&word, from, 8);
    return word;
}

/* As memcmp() would say, without a call for keys of 8 to 24 bytes: three words cover those. */
STEP bool same_bytes(const char *a, const char *b, size_t len)
{
    size_t last = len - 8;
    if (UNLIKELY(last > 16)) /* wraps */
        return memcmp(a, b, len) == 0;
    return ((word_at(a) ^ word_at(b)) | (word_at(a + last / 2) ^ word_at(b + last / 2)) |
            (word_at(a + last) ^ word_at(b + last))) == 0;
}

/* What is known of a hit so far; in registers, as nobody is given its address. */
struct glance {
    struct zoo_rec *rec; /* the copy of its head */
    const zoo_word *from;
    const struct zoo_log *log;
    zoo_word *slot;
    zoo_pos pos;
    uint64_t word, key_hash, before, value_len;
    zoo_block chain; /* of the checksum, so far */
};

/* Of the values that are needed again and again, the compiler would else make each anew. */
#define IN_A_REGISTER(value) __asm__("" : "+r"(value))

/* As zoo_index_may_hold(); but an empty word may pass, and comes out as lapped. */
STEP bool is_of(uint64_t word, uint64_t key_hash)
{
    return word << 1 >> (ZOO_WORD_FP_SHIFT + 1) == key_hash >> 52; /* without the log's bit */
}

/* The key's word, and a copy of its record's head, whose key is this, but which is not verified. */
ZOO_WITH_AES STEP bool glance_at(zoo_seg *seg, const char *key, size_t key_len, size_t cap,
                                 uint64_t *room, struct glance *at)
{
    if (UNLIKELY(seg->sum_kind != ZOO_SUM_AES))
        return false;
    const uint64_t hash = at->key_hash = zoo_sum_hash_aes(key, key_len, seg->key_seed);
    zoo_word *bucket = zoo_index_bucket(seg, hash);
    at->slot = bucket + zoo_index_first(hash);
    uint64_t word = zoo_load_acquire(at->slot); /* E2/A */
    for (unsigned k = 1; UNLIKELY(!is_of(word, hash)); k++) {
        if (UNLIKELY(k == ZOO_WAYS))
            return false;
        at->slot = bucket + (zoo_index_first(hash) + k) % ZOO_WAYS;
        word = zoo_load_acquire(at->slot); /* E2/A */
    }
    at->word = word;
    const struct zoo_log *log = &seg->log[zoo_word_log(word)];
    IN_A_REGISTER(log);
    at->log = log;
    uint64_t limit = zoo_load_acquire(log->limit); /* E2 */
    uint64_t behind = zoo_log_distance(word, limit);
    at->pos.bytes = limit - behind;
    IN_A_REGISTER(at->pos.bytes);
    /* A record that a hit copies to main's head has more behind it, and one that is lapped, too. */
    if (UNLIKELY(behind > log->renew_after))
        return false;
    const zoo_word *from = at->from = zoo_log_bytes(log, at->pos);

    /* The lengths are not trusted; what they lead to is bounded. */
    uint64_t lengths = zoo_load_relaxed(from + offsetof(struct zoo_rec, value_len) / 8); /* E1 */
    if (UNLIKELY((lengths >> 32 & 0xffff) != key_len))
        return false;
    uint64_t before = at->before = sizeof(struct zoo_rec) + zoo_pad8(key_len) + (lengths >> 48) * 8;
    at->value_len = (uint32_t)lengths;
    if (UNLIKELY(at->value_len > cap))
        return false;
    uint64_t bytes = before + at->value_len;
    if (UNLIKELY(before > QUICK_WORDS * 8))
        return false;
    if (UNLIKELY(bytes > log->longest) || UNLIKELY(bytes > behind))
        return false;
    room[0] = zoo_load_relaxed(from); /* E1, like the copy */
    at->rec = (struct zoo_rec *)(void *)room;
    at->chain =
        zoo_sum_medium(zoo_sum_block_of(seg->sum_seed, zoo_log_place(zoo_word_log(word), at->pos)),
                       (char *)(room + 1), (const char *)(from + 1), before - 8, true, true);
    ZOO_FAULT("log:opened");
    if (UNLIKELY(room[offsetof(struct zoo_rec, value_len) / 8] != lengths))
        return false;
    return LIKELY(same_bytes(zoo_rec_key(at->rec), key, key_len));
}

/* The lap check, and the checksum. */
ZOO_WITH_AES STEP bool is_head_good(const struct glance *at)
{
    zoo_fence_acquire(); /* E1/A */
    return LIKELY(zoo_log_holds(at->log, at->pos, zoo_load_relaxed(at->log->limit))) &&
           LIKELY(zoo_sum_of_block(at->chain) == at->rec->sum);
}

ZOO_WITH_AES static __attribute__((noinline)) zoo_block copy_any(zoo_block chain, char *to,
                                                                 const char *from, size_t len)
{
    return zoo_sum_aes(chain, to, from, len, true, true);
}

/* Copies the value, and verifies head and value by the sum of both. */
ZOO_WITH_AES STEP bool copy_value(const struct glance *at, char *value)
{
    const struct zoo_log *log = at->log;
    const char *from = (const char *)at->from + at->before;
    zoo_block sum = at->value_len - 17 < ZOO_SUM_LANES_FROM - 17
                        ? zoo_sum_medium(at->chain, value, from, at->value_len, true, true)
                        : copy_any(at->chain, value, from, at->value_len);
    ZOO_FAULT("log:copied");
    zoo_fence_acquire(); /* E1/A */
    uint64_t limit = zoo_load_relaxed(log->limit);
    return LIKELY(zoo_log_holds(log, at->pos, limit)) &&
           LIKELY((zoo_sum_of_block(sum) ^ at->rec->sum) == at->rec->whole_sum);
}

/* As zoo_entry_state(): the clock tells, mostly. To be asked when the record is private. */
STEP int state_of(zoo_seg *seg, const struct zoo_rec *rec, uint64_t key_hash)
{
    ZOO_FAULT("get:copied");
    const struct zoo_hdr *hdr = seg->hdr;
    uint64_t lanes = zoo_load_acquire(&hdr->active_lanes);                       /* E10/A, E11/A */
    uint64_t until = zoo_load_acquire(&hdr->miss_until);                         /* E10/A, E11/A */
    bool quiet = zoo_load_acquire(&hdr->clock) <= (rec->stamp & ZOO_CLOCK_MASK); /* E6/A */
    if (UNLIKELY(!quiet) || UNLIKELY((lanes | until) != 0))
        return zoo_entry_state(seg, rec, key_hash);
    if (LIKELY((rec->stamp & ZOO_STAMP_EXPIRES) == 0))
        return ZOO_OK;
    return zoo_rec_expiry(rec) - 1 >= zoo_hlc_now_ms(seg) ? ZOO_OK : ZOO_EXPIRED; /* 0 wraps */
}

/* ZOO_OK: the head of the key's record is in `hit`, and zoo_take() must follow. */
ZOO_WITH_AES int zoo_find(zoo_seg *seg, const char *key, size_t key_len, struct zoo_hit *hit)
{
    struct glance glance;
    if (UNLIKELY(zoo_look_due(seg)) ||
        UNLIKELY(!glance_at(seg, key, key_len, SIZE_MAX, hit->room, &glance)) ||
        UNLIKELY(!is_head_good(&glance)))
        return zoo_find_any(seg, key, key_len, hit);
    hit->rec = glance.rec;
    hit->from = glance.from;
    hit->pos = glance.pos;
    hit->word = glance.word;
    hit->slot = glance.slot;
    hit->key_hash = glance.key_hash;
    hit->base = glance.pos.bytes;
    memcpy(&hit->chain, &glance.chain, sizeof hit->chain);
    return ZOO_OK;
}

/* As zoo_take_any(), which does all but plain hits. */
ZOO_WITH_AES int zoo_take(zoo_seg *seg, struct zoo_hit *hit, char *value, uint64_t grace_ms)
{
    const struct zoo_log *log = &seg->log[zoo_word_log(hit->word)];
    struct glance glance = {.rec = hit->rec,
                            .from = hit->from,
                            .log = log,
                            .pos = hit->pos,
                            .before = zoo_rec_head(hit->rec),
                            .value_len = hit->rec->value_len};
    memcpy(&glance.chain, &hit->chain, sizeof hit->chain);
    /* Only to choose; of a get that is measured, it is very much. */
    uint64_t behind = zoo_load_relaxed(log->limit) - hit->base;
    if (UNLIKELY(seg->sum_kind != ZOO_SUM_AES) || UNLIKELY(behind > log->renew_after) ||
        UNLIKELY(grace_ms != 0) || UNLIKELY(!copy_value(&glance, value)))
        return zoo_take_any(seg, hit, value, grace_ms);
    int state = state_of(seg, hit->rec, hit->key_hash);
    zoo_log_close(hit);
    if (UNLIKELY(state != ZOO_OK))
        return zoo_miss(seg, state);
    zoo_count(seg, ZOO_N_HITS, 1);
    return ZOO_OK;
}

/* A get that people are told of, when it is time to look around: which key it is of, and how long
 * it takes. */
static __attribute__((noinline)) int64_t get_noted(zoo_seg *seg, const char *key, size_t key_len,
                                                   char *value, size_t cap, uint64_t *needed)
{
    zoo_look_around(seg);
    if (key_len - 1 < ZOO_MAX_KEY)
        zoo_look_note(seg, zoo_key_hash(seg, key, key_len));
    uint64_t began_ns = zoo_span_clock();
    int64_t got = zoo_get(seg, key, key_len, value, cap, needed);
    if (got >= 0)
        zoo_span_note(seg, ZOO_SPAN_GET, zoo_span_clock() - began_ns);
    return got;
}

ZOO_WITH_AES int64_t zoo_get(zoo_seg *seg, const char *key, size_t key_len, char *value, size_t cap,
                             uint64_t *needed)
{
    struct glance glance;
    uint64_t room[QUICK_WORDS];
    if (UNLIKELY(zoo_look_due(seg)))
        return get_noted(seg, key, key_len, value, cap, needed);
    if (UNLIKELY(!glance_at(seg, key, key_len, cap, room, &glance)) ||
        UNLIKELY(!copy_value(&glance, value)))
        return get_any(seg, key, key_len, value, cap, needed);
    int state = state_of(seg, glance.rec, glance.key_hash);
    if (UNLIKELY(state != ZOO_OK))
        return -zoo_miss(seg, state);
    zoo_count(seg, ZOO_N_HITS, 1);
    return (int64_t)glance.value_len;
}

#endif

__attribute__((noinline)) uint64_t zoo_get_loop(zoo_seg *seg, const char *keys, size_t key_len,
                                                size_t n_keys, char *value, size_t cap, size_t n)
{
    const char *key = keys, *end = keys + n_keys * key_len;
    uint64_t misses = 0, needed;
    for (size_t left = n; left > 0; left--) {
        if (UNLIKELY(zoo_get(seg, key, key_len, value, cap, &needed) < 0))
            misses++;
        key += key_len;
        if (UNLIKELY(key == end))
            key = keys;
    }
    return n - misses;
}
