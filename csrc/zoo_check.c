/*
 * zoo_check.c - verifies the invariants of a segment at rest.
 *
 * Run it when nobody writes: a running writer may show as a violation.
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_layout.h"

/* Counts the other words of the bucket, from slot `after` on, that hold the same key. */
static uint64_t doubles(zoo_seg *seg, const zoo_word *bucket, unsigned after,
                        const struct zoo_rec *rec, uint64_t key_hash)
{
    uint64_t n = 0;
    for (unsigned i = after; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i);
        struct zoo_rec head;
        n += zoo_index_may_hold(word, key_hash) &&
             zoo_log_match(seg, word, zoo_rec_key(rec), rec->key_len, &head) == ZOO_MATCH_YES;
    }
    return n;
}

static void check_bucket(zoo_seg *seg, zoo_word *bucket, struct zoo_rec *rec, zoo_report *report)
{
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i);
        if (word == 0)
            continue;
        if (word & ZOO_WORD_TENTATIVE) {
            report->words_tentative++;
            continue;
        }
        if (zoo_log_read(seg, word, rec, seg->max_record) != ZOO_OK) {
            report->words_dead++;
            continue;
        }
        uint64_t key_hash = zoo_key_hash(seg, zoo_rec_key(rec), rec->key_len);
        report->entries++;
        report->words_misplaced +=
            zoo_index_bucket(seg, key_hash) != bucket || !zoo_index_may_hold(word, key_hash);
        report->keys_doubled += doubles(seg, bucket, i + 1, rec, key_hash);
    }
}

uint64_t zoo_check(zoo_seg *seg, zoo_report *report)
{
    memset(report, 0, sizeof *report);
    struct zoo_rec *rec = malloc(seg->max_record);
    if (rec == NULL)
        return UINT64_MAX;
    for (uint64_t i = 0; i <= seg->bucket_mask; i++)
        check_bucket(seg, seg->index + i * ZOO_WAYS, rec, report);
    free(rec);
    uint64_t now = zoo_hlc_read(seg);
    for (uint64_t i = 0; i < (seg->tag_mask + 1) * ZOO_WAYS; i++)
        report->clocks_ahead += (zoo_load_acquire(seg->tags + i) & ZOO_CLOCK_MASK) > now;
    return report->words_misplaced + report->keys_doubled + report->clocks_ahead;
}
