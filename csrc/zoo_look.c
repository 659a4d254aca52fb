/*
 * zoo_look.c - how a segment is doing: for people, who look now and then.
 *
 * Nothing in the core reads what this file reads, and no operation waits for it.
 *
 * What is asked for most is told by *samples*: a process that looks around, once
 * in some 48 gets, leaves the hash of the key that it is asked for in its stripe
 * of the counters. That costs a get nothing that it does not pay anyway. A
 * sample is one word, so that it is never torn:
 *
 *     63        52 51          40 39                          0
 *     +-----------+--------------+-----------------------------+
 *     | hash      | its number   | hash                        |
 *     +-----------+--------------+-----------------------------+
 *
 * The number makes two samples of one key different words. Whoever looks often
 * enough sees most of them; which of them are missed has nothing to do with
 * which keys they are of. The bits of the hash that are left choose the bucket
 * and the fingerprint, and 52 of them make another key in their place unlikely:
 * good enough for a list of names.
 *
 * Readers copy what is there.
 * Writers: a process its own stripe's samples, and nothing else is written.
 * Reclaim: samples are written over.
 * Crash: leaves nothing half done, as each write is one word.
 */
#include <string.h>

#include "zoo_hash.h"
#include "zoo_layout.h"

/* The bits from 52 on are the fingerprint, the lowest 32 and no more the bucket. */
enum { NUMBER_SHIFT = 40, LEAST_GAP = 32 };
#define NUMBER_MASK (0xfffull << NUMBER_SHIFT)

_Static_assert((int)ZOO_ASKED == (int)ZOO_STRIPES * (int)ZOO_SAMPLES, "all samples are copied");
_Static_assert((int)ZOO_MOST_PIDS == (int)ZOO_OWNERS, "each owner is a process");

/*
 * Once in 32 to 63 operations of a handle, 48 on average: does the segment still
 * have its name? That is a system call no more than once a second. The gap is
 * another each time, or a page that makes 16 gets would show the same one of them.
 */
void zoo_look_around(zoo_seg *seg)
{
    uint64_t n = zoo_load_relaxed(&seg->looks) + 1; /* private, but threads share it */
    zoo_store_relaxed(&seg->looks, n);              /* likewise */
    zoo_store_relaxed(&seg->until_look, LEAST_GAP + zoo_mix(n) % LEAST_GAP); /* likewise */
    zoo_retire_watch(seg);
}

/* Leaves a sample: to be called after zoo_look_around(). */
void zoo_look_note(zoo_seg *seg, uint64_t key_hash)
{
    uint64_t n = zoo_load_relaxed(&seg->looks); /* private, but threads share it */
    uint64_t sample = (key_hash & ~NUMBER_MASK) | (n << NUMBER_SHIFT & NUMBER_MASK);
    /* For people, and whole in itself: relaxed. */
    zoo_store_relaxed(seg->stripe + ZOO_SAMPLE_AT + n % ZOO_SAMPLES, sample);
}

void zoo_asked(zoo_seg *seg, uint64_t *out)
{
    for (size_t i = 0; i < ZOO_STRIPES; i++) {
        for (size_t k = 0; k < ZOO_SAMPLES; k++) /* relaxed: each word stands for itself */
            *out++ = zoo_load_relaxed(seg->stats + i * ZOO_STATS + ZOO_SAMPLE_AT + k);
    }
}

size_t zoo_key_asked(zoo_seg *seg, uint64_t sample, char *buf)
{
    const zoo_word *bucket = zoo_index_bucket(seg, sample & ~NUMBER_MASK);
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A in zoo_index.c */
        struct zoo_hit hit;
        if (!zoo_index_may_hold(word, sample) || zoo_log_open(seg, word, &hit) != ZOO_OK)
            continue;
        size_t len = hit.rec->key_len;
        uint64_t key_hash = zoo_key_hash(seg, zoo_rec_key(hit.rec), len);
        bool same = ((key_hash ^ sample) & ~NUMBER_MASK) == 0;
        if (same)
            memcpy(buf, zoo_rec_key(hit.rec), len);
        zoo_log_close(&hit);
        if (same)
            return len;
    }
    return 0;
}

void zoo_look(zoo_seg *seg, zoo_shape *out)
{
    const struct zoo_hdr *hdr = seg->hdr;
    *out = (zoo_shape){
        .buckets = seg->bucket_mask + 1, .tag_sets = seg->tag_mask + 1, .ring = seg->ring_mask + 1};
    for (int i = 0; i < ZOO_LOGS; i++) {
        out->log_size[i] = seg->log[i].size;
        /* The first bytes of a new log are passed over: see zoo_segment_make(). */
        out->log_written[i] = zoo_load_relaxed(seg->log[i].head) - ZOO_PART_ALIGN; /* for people */
    }
    /* Relaxed, all of these: for people, and nothing is concluded from two of them. */
    out->clock = zoo_load_relaxed(&hdr->clock);
    out->root = zoo_load_relaxed(&hdr->root);
    out->active_lanes = zoo_load_relaxed(&hdr->active_lanes);
    out->miss_until_ms = zoo_load_relaxed(&hdr->miss_until);
}

/* Spreads a record's bytes over the cells of its log. */
static void draw(const struct zoo_log *log, uint64_t at, uint64_t bytes, uint64_t *cells)
{
    uint64_t width = (log->size + ZOO_CELLS - 1) / ZOO_CELLS;
    for (uint64_t left = bytes; left > 0;) {
        at %= log->size;
        uint64_t room = width - at % width;
        if (room > log->size - at)
            room = log->size - at;
        uint64_t n = left < room ? left : room;
        cells[at / width] += n;
        at += n;
        left -= n;
    }
}

static void count_record(zoo_seg *seg, const struct zoo_hit *hit, zoo_census *out)
{
    unsigned log = zoo_word_log(hit->word);
    uint64_t bytes = zoo_rec_bytes(hit->rec);
    uint64_t key_hash = zoo_key_hash(seg, zoo_rec_key(hit->rec), hit->rec->key_len);
    int state = zoo_entry_state(seg, hit->rec, key_hash);
    bool fresh = state == ZOO_OK;
    out->fresh += fresh;
    out->stale += state == ZOO_STALE;
    out->expired += state == ZOO_EXPIRED;
    out->pending += state == ZOO_PENDING;
    *(fresh ? &out->fresh_bytes : &out->other_bytes) += bytes;
    draw(&seg->log[log], hit->pos.bytes, bytes, fresh ? out->fresh_in[log] : out->other_in[log]);
}

static void count_bucket(zoo_seg *seg, const zoo_word *bucket, zoo_census *out)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A in zoo_index.c */
        struct zoo_hit hit;
        taken += word != 0;
        if (word & ZOO_WORD_TENTATIVE) {
            out->tentative++;
        } else if (word != 0 && zoo_log_open(seg, word, &hit) == ZOO_OK) {
            count_record(seg, &hit, out);
            zoo_log_close(&hit);
        } else {
            out->lost += word != 0;
        }
    }
    out->buckets++;
    out->crowded += taken == ZOO_WAYS;
}

void zoo_count_entries(zoo_seg *seg, uint64_t first, uint64_t step, zoo_census *out)
{
    for (uint64_t i = first; step > 0 && i <= seg->bucket_mask; i += step)
        count_bucket(seg, seg->index + i * ZOO_WAYS, out);
}
