/*
 * zoo_check.c - verifies the invariants of a segment at rest.
 *
 * Run it when nobody writes: a running writer may show as a violation.
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_layout.h"

/* Counts the other words of the bucket, from slot `after` on, that hold the same key. */
/* no edge: at rest nobody writes; here and below. */
static uint64_t doubles(zoo_seg *seg, const zoo_word *bucket, unsigned after,
                        const struct zoo_rec *rec, uint64_t key_hash)
{
    uint64_t n = 0;
    for (unsigned i = after; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i);
        struct zoo_hit other;
        if (!zoo_index_may_hold(word, key_hash) || zoo_log_open(seg, word, &other) != ZOO_OK)
            continue;
        n += zoo_rec_is(other.rec, zoo_rec_key(rec), rec->key_len);
        zoo_log_close(&other);
    }
    return n;
}

/* no edge: at rest. */
static void check_bucket(zoo_seg *seg, zoo_word *bucket, char *value, zoo_report *report)
{
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i);
        struct zoo_hit hit;
        if (word == 0)
            continue;
        if (word & ZOO_WORD_TENTATIVE) {
            report->words_tentative++;
            continue;
        }
        if (zoo_log_open(seg, word, &hit) != ZOO_OK) {
            report->words_dead++;
            continue;
        }
        if (zoo_log_value(seg, &hit, value) == ZOO_OK) {
            uint64_t key_hash = zoo_key_hash(seg, zoo_rec_key(hit.rec), hit.rec->key_len);
            report->entries++;
            report->entry_bytes += zoo_rec_bytes(hit.rec);
            report->words_misplaced +=
                zoo_index_bucket(seg, key_hash) != bucket || !zoo_index_may_hold(word, key_hash);
            report->keys_doubled += doubles(seg, bucket, i + 1, hit.rec, key_hash);
        } else {
            report->words_dead++;
        }
        zoo_log_close(&hit);
    }
}

/* no edge: at rest. */
static void check_tables(zoo_seg *seg, zoo_report *report)
{
    uint64_t now = zoo_hlc_read(seg), active = zoo_load_acquire(&seg->hdr->active_lanes);
    for (uint64_t i = 0; i < (seg->tag_mask + 1) * ZOO_WAYS; i++)
        report->clocks_ahead += (zoo_load_acquire(seg->tags + i) & ZOO_CLOCK_MASK) > now;
    for (unsigned i = 0; i < ZOO_LANES; i++)
        report->lanes_taken += zoo_load_acquire(&seg->lanes[i].owner) != 0;
    for (uint64_t i = 0; i <= seg->pending_mask; i++)
        report->bits_leaked += (zoo_load_acquire(seg->pending + i) & ~active) != 0;
    for (uint64_t i = 0; i <= seg->flight_mask; i++)
        report->flights_taken += zoo_flight_is_taken(zoo_load_acquire(seg->flights + i));
}

uint64_t zoo_check(zoo_seg *seg, zoo_report *report)
{
    memset(report, 0, sizeof *report);
    char *value = malloc(zoo_max_record(seg));
    if (value == NULL)
        return UINT64_MAX;
    for (uint64_t i = 0; i <= seg->bucket_mask; i++)
        check_bucket(seg, seg->index + i * ZOO_WAYS, value, report);
    free(value);
    check_tables(seg, report);
    return report->words_misplaced + report->keys_doubled + report->clocks_ahead +
           report->bits_leaked;
}
