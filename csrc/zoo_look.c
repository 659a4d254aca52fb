/*
 * zoo_look.c - how a segment is doing: for people, who look now and then.
 *
 * Nothing in the core reads what this file reads, and no operation waits for it.
 *
 * What is asked for most is told by *samples*: a process that looks around, once
 * in some 48 gets, leaves the hash of the key that it is asked for, and the
 * sample's number, in its stripe of the counters. That costs a get nothing that
 * it does not pay anyway. The number tells a new sample of a key from the one
 * before. Whoever looks more often sees more of them; which of them are missed
 * has nothing to do with which keys they are of.
 *
 * Readers copy what is there. A hash with the number of the next one is a sample
 *   as well.
 * Writers: a process its own stripe's sample, and nothing else is written.
 * Reclaim: samples are written over.
 * Crash: leaves a sample that counts as the one before.
 */
#include <string.h>

#include "zoo_hash.h"
#include "zoo_layout.h"

enum { LEAST_GAP = 32 };

_Static_assert((int)ZOO_ASKED == (int)ZOO_STRIPES, "a sample for each stripe");
_Static_assert((int)ZOO_MOST_PIDS == (int)ZOO_OWNERS, "each owner is a process");

static uint64_t buckets_of(const zoo_seg *seg)
{
    return seg->bucket_mask + 1;
}

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
    zoo_word *sample = seg->stripe + ZOO_SAMPLE_AT;
    uint64_t n = zoo_load_relaxed(&seg->looks); /* private, but threads share it */
    /* Relaxed: for people, who may take one sample for another. */
    zoo_store_relaxed(sample, key_hash);
    zoo_store_relaxed(sample + 1, n);
}

void zoo_asked(zoo_seg *seg, zoo_sample *out)
{
    for (size_t i = 0; i < ZOO_ASKED; i++) {
        const zoo_word *sample = seg->stats + i * ZOO_STATS + ZOO_SAMPLE_AT;
        /* Relaxed: see zoo_look_note(). */
        out[i].number = zoo_load_relaxed(sample + 1);
        out[i].key_hash = zoo_load_relaxed(sample);
    }
}

size_t zoo_key_asked(zoo_seg *seg, uint64_t key_hash, char *buf)
{
    const zoo_word *bucket = zoo_index_bucket(seg, key_hash);
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A in zoo_index.c */
        struct zoo_hit hit;
        if (!zoo_index_may_hold(word, key_hash) || zoo_log_open(seg, word, &hit) != ZOO_OK)
            continue;
        size_t len = hit.rec->key_len;
        bool same = zoo_key_hash(seg, zoo_rec_key(hit.rec), len) == key_hash;
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
    for (uint64_t i = first; step > 0 && i < buckets_of(seg); i += step)
        count_bucket(seg, seg->index + i * ZOO_WAYS, out);
}
