/*
 * zoo_explain.c - what is known of an entry, fresh or not: for people who ask why.
 *
 * Reads as a get does, counts nothing and changes nothing. What it says is of
 * the moment, not of one moment: others go on meanwhile.
 */
#include <string.h>

#include "zoo_layout.h"

int zoo_explain(zoo_seg *seg, const char *key, size_t key_len, zoo_entry *out, char *deps,
                size_t cap)
{
    struct zoo_hit hit;
    memset(out, 0, sizeof *out);
    if (key_len - 1 >= ZOO_MAX_KEY) /* 0 wraps */
        return ZOO_E_KEY;
    uint64_t key_hash = zoo_key_hash(seg, key, key_len);
    int outcome = zoo_index_find(seg, key_hash, key, key_len, &hit);
    if (outcome != ZOO_OK)
        return outcome;
    out->key_tag = zoo_tag_of_key(key_hash);
    out->stamp = hit.rec->stamp & ZOO_CLOCK_MASK;
    out->expiry_ms = zoo_rec_expiry(hit.rec);
    out->value_len = hit.rec->value_len;
    out->n_deps = zoo_rec_n_deps(hit.rec);
    outcome = zoo_entry_state(seg, hit.rec, key_hash);
    size_t n = out->n_deps < cap / 8 ? out->n_deps : cap / 8;
    memcpy(deps, zoo_rec_deps(hit.rec), 8 * n);
    zoo_log_close(&hit);
    return outcome;
}

uint64_t zoo_clock_of(zoo_seg *seg, uint64_t tag)
{
    /* E3/A in zoo_tag.c */
    return tag == 0 ? zoo_load_acquire(&seg->hdr->root) : zoo_tag_clock(seg, tag);
}
