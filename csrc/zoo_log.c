/*
 * zoo_log.c - two circular logs of immutable records.
 *
 * Writers reserve bytes by advancing the head, make sure that the *limit* is not
 *   behind, build the record privately, copy it in, and publish its position in
 *   the index. A position is virtual and never used twice; its bytes live at
 *   position modulo the log's size.
 * Readers load an index word, then the log's limit, copy a piece of the record
 *   out, re-check that the log has not lapped it, and verify the checksum of
 *   their copy: first what stands before the value, then the value, so that a
 *   key can be compared, and the value's place be made, before it is read.
 * Reclaim: the head runs over the oldest records. There is nothing to free. What
 *   lies within the limit counts as overrun, though the head may not be there yet.
 * The limit moves by strides (of a large log; by each record of a small one), so
 *   that readers share a line which most writes leave alone; only writers touch
 *   the head's.
 * Crash: a writer that dies between reserve and publish leaves bytes that no
 *   word names; the log laps them. One that dies with the head ahead of the limit
 *   has changed no byte, and the next to reserve raises the limit. A writer
 *   stopped in between may wake up a lap later and scribble over a live record:
 *   it re-checks before it writes, which makes that rare, and the checksum makes
 *   it a miss.
 *
 * Invariants
 *  1. Space is claimed, and within the limit, before its first byte changes.
 *  2. A copy is used only after the lap check and the checksum, in this order.
 *  3. The checksums are seeded by the segment's secret and the full position, and
 *     the second, which goes on where the first ends, covers the whole record: the
 *     right bytes in another place, or a lap earlier, do not pass. Each has 32
 *     bits: they are for the rare scribble that the lap check does not see, and
 *     miss one of those in four billion.
 *
 * Edges
 *  E1  the limit's advance, before the bytes -> copied bytes, before the limit
 * E2 of zoo_index.c publishes a record; the limit's advance travels along.
 *
 * Source: the copy-then-validate reader is a seqlock over log positions
 * (Boehm, Can Seqlocks Get Along With Programming Language Memory Models, 2012);
 * the log with virtual positions follows FASTER (Chandramouli et al., 2018).
 */
#include "zoo_log.h"
#include <stdlib.h>
#include <string.h>

#include "zoo_fault.h"
#include "zoo_layout.h"
#include "zoo_sum.h"

bool zoo_log_intact(zoo_seg *seg, unsigned log, zoo_pos pos)
{
    return zoo_log_holds(&seg->log[log], pos, zoo_load_acquire(seg->log[log].limit)); /* E1 */
}

/*
 * Two writers may raise the limit for one another: whoever finds it high enough
 * has read it before it writes, so that a reader of its bytes finds it as high.
 */
zoo_pos zoo_log_reserve(zoo_seg *seg, unsigned log, uint64_t bytes)
{
    const struct zoo_log *to = &seg->log[log];
    zoo_pos pos = {zoo_add_relaxed(to->head, bytes)}; /* the fence below orders it, and the limit */
    uint64_t end = pos.bytes + bytes;
    if (zoo_load_relaxed(to->limit) < end)
        zoo_max_release(to->limit, (end + to->stride - 1) & ~(to->stride - 1)); /* E1/R */
    zoo_fence_release(); /* E1/R: the limit is ahead before any byte below changes */
    return pos;
}

/*
 * Copies a private record into its reserved bytes, and gives it its checksums.
 * False if the log has lapped them meanwhile: the caller must reserve again.
 */
bool zoo_log_write_unpublished(zoo_seg *seg, unsigned log, zoo_pos pos, struct zoo_rec *head,
                               const char *value)
{
    ZOO_FAULT("log:before-write");
    if (!zoo_log_intact(seg, log, pos))
        return false;
    zoo_word *to = zoo_log_bytes(&seg->log[log], pos);
    uint64_t before = zoo_rec_head(head);
    zoo_chain chain = zoo_sum_start(seg->sum_kind, seg->sum_seed, zoo_log_place(log, pos));
    head->sum = zoo_sum_in(seg->sum_kind, &chain, to + 1, (const char *)&head->stamp, before - 8);
    head->whole_sum =
        head->sum ^ zoo_sum_in(seg->sum_kind, &chain, to + before / 8, value, head->value_len);
    uint64_t sums;
    memcpy(&sums, head, sizeof sums);
    zoo_store_relaxed(to, sums); /* ordered by E1 and E2, like the rest */
    ZOO_FAULT("log:after-write");
    return zoo_log_intact(seg, log, pos);
}

/* Why a copy is no good: the log has run over it, or else it was garbage. */
static int spoilt(zoo_seg *seg, const struct zoo_hit *hit)
{
    return zoo_log_intact(seg, zoo_word_log(hit->word), hit->pos) ? ZOO_CORRUPT : ZOO_LAPPED;
}

/*
 * Copies and verifies the head of an index word's record: ZOO_OK, and the hit
 * must be closed; ZOO_LAPPED; ZOO_CORRUPT for a record that fails its checksum
 * though the log has not lapped it; ZOO_E_MEMORY.
 */
int zoo_log_open(zoo_seg *seg, uint64_t word, struct zoo_hit *hit)
{
    const struct zoo_log *log = &seg->log[zoo_word_log(word)];
    uint64_t limit = zoo_load_acquire(log->limit); /* E2: it is behind the word's record */
    uint64_t behind = zoo_log_distance(word, limit);
    hit->word = word;
    hit->pos.bytes = limit - behind;
    /* The header lies within what was reserved; its lengths are checked below. */
    if (behind > log->size || behind < sizeof(struct zoo_rec))
        return ZOO_LAPPED;
    hit->from = zoo_log_bytes(log, hit->pos);

    /* Unverified lengths, bounded: what is read from the log is not trusted. */
    struct zoo_rec claimed;
    uint64_t lengths =
        zoo_load_relaxed(hit->from + offsetof(struct zoo_rec, value_len) / 8); /* E1 */
    memcpy(&claimed.value_len, &lengths, sizeof lengths);
    uint64_t bytes = zoo_rec_bytes(&claimed), before = zoo_rec_head(&claimed);
    if (bytes > log->longest || bytes > behind || claimed.key_len > ZOO_MAX_KEY ||
        claimed.n_words > ZOO_MAX_DEPS + 1)
        return spoilt(seg, hit);
    hit->rec = (struct zoo_rec *)(void *)hit->room;
    uint64_t needed = before + ZOO_EXPIRY_BYTES;
    if (needed > sizeof hit->room && (hit->rec = malloc(needed)) == NULL)
        return ZOO_E_MEMORY;

    uint64_t sums = zoo_load_relaxed(hit->from); /* ordered by the fence below, like the copy */
    memcpy(hit->rec, &sums, sizeof sums);
    hit->chain =
        zoo_sum_start(seg->sum_kind, seg->sum_seed, zoo_log_place(zoo_word_log(word), hit->pos));
    uint32_t sum = zoo_sum_out(seg->sum_kind, &hit->chain, (char *)&hit->rec->stamp, hit->from + 1,
                               before - sizeof sums);
    ZOO_FAULT("log:opened");
    zoo_fence_acquire(); /* E1/A: the limit below is at least as new as any byte above */
    bool lapped = !zoo_log_holds(log, hit->pos, zoo_load_relaxed(log->limit));
    hit->base = hit->pos.bytes;
    uint64_t copied;
    memcpy(&copied, &hit->rec->value_len, sizeof copied);
    if (!lapped && sum == hit->rec->sum && copied == lengths &&
        zoo_rec_n_deps(hit->rec) <= ZOO_MAX_DEPS)
        return ZOO_OK;
    zoo_log_close(hit);
    return lapped ? ZOO_LAPPED : ZOO_CORRUPT;
}

/*
 * Copies and verifies the value of an open hit into `to`, of rec->value_len
 * bytes: ZOO_OK, ZOO_LAPPED or ZOO_CORRUPT.
 */
int zoo_log_value(zoo_seg *seg, struct zoo_hit *hit, char *to)
{
    const struct zoo_log *log = &seg->log[zoo_word_log(hit->word)];
    zoo_chain chain = hit->chain;
    uint32_t sum = zoo_sum_out(seg->sum_kind, &chain, to, hit->from + zoo_rec_head(hit->rec) / 8,
                               hit->rec->value_len);
    ZOO_FAULT("log:copied");
    zoo_fence_acquire(); /* E1/A */
    uint64_t limit = zoo_load_relaxed(log->limit);
    hit->age = limit - hit->base;
    if (!zoo_log_holds(log, hit->pos, limit))
        return ZOO_LAPPED;
    return (sum ^ hit->rec->sum) == hit->rec->whole_sum ? ZOO_OK : ZOO_CORRUPT;
}

void zoo_log_close(struct zoo_hit *hit)
{
    if ((uint64_t *)(void *)hit->rec != hit->room)
        free(hit->rec);
}

/* Bytes reserved in a word's log behind the start of its record. Over the log's size: lapped. */
uint64_t zoo_log_behind(zoo_seg *seg, uint64_t word)
{
    uint64_t limit = zoo_load_acquire(seg->log[zoo_word_log(word)].limit); /* no edge: a hint */
    return zoo_log_distance(word, limit);
}
