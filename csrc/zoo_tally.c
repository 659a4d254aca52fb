/*
 * zoo_tally.c - who reads through the cache and what it costs them: for people.
 *
 * Nothing in the core reads what this file reads. A *site* is what reads: a model
 * or a function, with a text that its framework gives it. It has a place in a
 * table, found by the hash of its text, and counters of the whole host, which
 * outlive the processes that counted. A *span* is how long something took: a
 * get, of which one in some 48 is measured (zoo_look.c says when), or what
 * a miss costs whoever computes it. Spans are counted by their length, two
 * buckets for each power of two of nanoseconds.
 *
 * A site is found or claimed once in a process, which keeps its number. When the
 * table is full, those to come share the first place.
 *
 * Readers copy a place, and take its text if that has the hash.
 * Writers claim a place by its hash and then write the text. Who finds it claimed
 *   writes the text, too: all of them write the same.
 * Reclaim: none. The table goes with its segment.
 * Crash: leaves a place without a text, until somebody else finds it.
 */
#include <string.h>
#include <time.h>

#include "zoo_hash.h"
#include "zoo_layout.h"

enum { TRIES = 16, HALVES = 2, SHORTEST = 6 }; /* 2^6 ns and less are one bucket */

_Static_assert(sizeof(struct zoo_site_slot) == 3 * ZOO_LINE, "a site is whole lines");
_Static_assert(sizeof(((zoo_site_counts *)0)->text) == ZOO_SITE_TEXT, "cffi takes numbers only");
_Static_assert(sizeof(((zoo_site_counts *)0)->count) == 8 * ZOO_SITE_COUNTS, "likewise");

static void write_text(struct zoo_site_slot *slot, const char *text, size_t len)
{
    uint64_t words[ZOO_SITE_TEXT / 8] = {0};
    memcpy(words, text, len);
    /* Relaxed: a reader takes only a text that has the hash. */
    for (size_t i = 0; i < ZOO_SITE_TEXT / 8; i++)
        zoo_store_relaxed(slot->text + i, words[i]);
    zoo_store_relaxed(&slot->len, len);
}

static uint64_t hash_of(const zoo_seg *seg, const char *text, size_t len)
{
    uint64_t hash = zoo_hash(text, len, seg->tag_seed);
    return hash == 0 ? 1 : hash;
}

int zoo_site(zoo_seg *seg, const char *text, size_t len)
{
    if (len > ZOO_SITE_TEXT)
        len = ZOO_SITE_TEXT;
    uint64_t hash = hash_of(seg, text, len);
    for (uint64_t i = 0; i < TRIES; i++) {
        uint64_t at = (hash + i) & seg->site_mask;
        struct zoo_site_slot *slot = seg->sites + at;
        if (at == 0) /* of those that find no place */
            continue;
        uint64_t there =
            zoo_load_relaxed(&slot->hash); /* for people: the text vouches for itself */
        if (there == 0 && zoo_cas_release(&slot->hash, 0, hash)) /* no edge: likewise */
            there = hash;
        else if (there == 0)
            there = zoo_load_relaxed(&slot->hash); /* likewise */
        if (there != hash)
            continue;
        write_text(slot, text, len);
        return (int)at;
    }
    return 0;
}

void zoo_site_add(zoo_seg *seg, uint64_t site, const uint64_t *counts)
{
    for (size_t i = 0; i < ZOO_SITE_COUNTS; i++) {
        if (counts[i] != 0) /* relaxed: counters order nothing */
            zoo_add_relaxed(seg->sites[site & seg->site_mask].count + i, counts[i]);
    }
}

void zoo_site_hits(zoo_seg *seg, uint64_t site, uint64_t n)
{
    /* Relaxed: a counter orders nothing. */
    zoo_add_relaxed(seg->sites[site & seg->site_mask].count + ZOO_S_HITS, n);
}

static bool read_site(zoo_seg *seg, uint64_t at, zoo_site_counts *out)
{
    struct zoo_site_slot *slot = seg->sites + at;
    uint64_t any = 0, words[ZOO_SITE_TEXT / 8];
    /* Relaxed, all of these: for people, and the text has to have the hash. */
    for (size_t i = 0; i < ZOO_SITE_COUNTS; i++)
        any |= out->count[i] = zoo_load_relaxed(slot->count + i);
    for (size_t i = 0; i < ZOO_SITE_TEXT / 8; i++)
        words[i] = zoo_load_relaxed(slot->text + i);
    uint64_t len = zoo_load_relaxed(&slot->len);
    memcpy(out->text, words, ZOO_SITE_TEXT);
    if (at == 0) {
        out->text_len = 0;
        return any != 0;
    }
    out->text_len = (uint32_t)len;
    return len <= ZOO_SITE_TEXT && hash_of(seg, out->text, len) == zoo_load_relaxed(&slot->hash);
}

size_t zoo_sites(zoo_seg *seg, uint64_t *cursor, zoo_site_counts *out, size_t n)
{
    size_t found = 0;
    for (; *cursor <= seg->site_mask && found < n; ++*cursor)
        found += read_site(seg, *cursor, out + found);
    return found;
}

/* In which bucket a span is counted. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns >> SHORTEST == 0)
        return 0;
    unsigned power = 63u - (unsigned)__builtin_clzll(ns);
    unsigned bucket = 1 + HALVES * (power - SHORTEST) + (unsigned)(ns >> (power - 1) & 1);
    return bucket < ZOO_SPAN_BUCKETS ? bucket : ZOO_SPAN_BUCKETS - 1;
}

uint64_t zoo_span_limit(unsigned bucket)
{
    if (bucket >= ZOO_SPAN_BUCKETS - 1)
        return UINT64_MAX;
    unsigned power = SHORTEST + bucket / HALVES;
    return bucket % HALVES == 0 ? 1ull << power : 3ull << (power - 1);
}

void zoo_span_note(zoo_seg *seg, int kind, uint64_t ns)
{
    if (kind < 0 || kind >= ZOO_SPANS)
        return;
    /* Relaxed: counters order nothing. The last one is the sum. */
    zoo_add_relaxed(seg->spans[kind].count + bucket_of(ns), 1);
    zoo_add_relaxed(&seg->spans[kind].total_ns, ns);
}

uint64_t zoo_spans(zoo_seg *seg, int kind, uint64_t *counts)
{
    if (kind < 0 || kind >= ZOO_SPANS)
        return 0;
    for (unsigned i = 0; i < ZOO_SPAN_BUCKETS; i++)
        counts[i] = zoo_load_relaxed(seg->spans[kind].count + i); /* for people */
    return zoo_load_relaxed(&seg->spans[kind].total_ns);          /* likewise */
}

uint64_t zoo_span_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
