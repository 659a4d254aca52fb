/*
 * zoo_keys.c - iterates over the keys of a segment that others go on using.
 *
 * Bucket by bucket, each read once: an entry that stays in its bucket, as all
 * do, is seen; what comes or goes meanwhile may or may not be.
 */
#include <string.h>

#include "zoo_layout.h"

/* Writes the keys of one bucket. False: they do not fit. */
static bool write_bucket(zoo_seg *seg, const zoo_word *bucket, char *buf, size_t cap, size_t *at)
{
    size_t start = *at;
    for (unsigned i = 0; i < ZOO_WAYS; i++) {
        uint64_t word = zoo_load_acquire(bucket + i); /* E2/A in zoo_index.c */
        struct zoo_hit hit;
        if (word == 0 || (word & ZOO_WORD_TENTATIVE) || zoo_log_open(seg, word, &hit) != ZOO_OK)
            continue;
        uint16_t len = hit.rec->key_len;
        const char *key = zoo_rec_key(hit.rec);
        bool fits = cap - *at >= sizeof len + len;
        if (fits && zoo_entry_state(seg, hit.rec, zoo_key_hash(seg, key, len)) == ZOO_OK) {
            memcpy(buf + *at, &len, sizeof len);
            memcpy(buf + *at + sizeof len, key, len);
            *at += sizeof len + len;
        }
        zoo_log_close(&hit);
        if (!fits) {
            *at = start;
            return false;
        }
    }
    return true;
}

size_t zoo_keys(zoo_seg *seg, uint64_t *cursor, char *buf, size_t cap)
{
    size_t at = 0;
    while (*cursor <= seg->bucket_mask) {
        if (!write_bucket(seg, seg->index + *cursor * ZOO_WAYS, buf, cap, &at))
            return at;
        ++*cursor;
    }
    *cursor = UINT64_MAX;
    return at;
}
