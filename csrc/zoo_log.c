/*
 * zoo_log.c - two circular logs of immutable records.
 *
 * Writers reserve bytes by advancing the head, build the record privately, copy
 *   it in, and publish its position in the index. A position is virtual and
 *   never used twice; its bytes live at position modulo the log's size.
 * Readers load an index word, then the log's head, copy a piece of the record
 *   out, re-check that the log has not lapped it, and verify the checksum of
 *   their copy: first what stands before the value, then the value, so that a
 *   key can be compared, and the value's place be made, before it is read.
 * Reclaim: the head runs over the oldest records. There is nothing to free.
 * Crash: a writer that dies between reserve and publish leaves bytes that no
 *   word names; the log laps them. A writer stopped in between may wake up a
 *   lap later and scribble over a live record: it re-checks before it writes,
 *   which makes that rare, and the checksum makes it a miss.
 *
 * Invariants
 *  1. Space is claimed before its first byte changes.
 *  2. A copy is used only after the lap check and the checksum, in this order.
 *  3. The first checksum is seeded by the segment's secret and the full
 *     position, and covers the value's checksum: the right bytes in another
 *     place, or a lap earlier, do not pass.
 *
 * Edges
 *  E1  the head's advance, before the bytes -> copied bytes, before the head
 * E2 of zoo_index.c publishes a record; the head's advance travels along.
 *
 * Source: the copy-then-validate reader is a seqlock over log positions
 * (Boehm, Can Seqlocks Get Along With Programming Language Memory Models, 2012);
 * the log with virtual positions follows FASTER (Chandramouli et al., 2018).
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"
#include "zoo_sum.h"

static uint64_t seed_at(const zoo_seg *seg, unsigned log, zoo_pos pos)
{
    return zoo_step(seg->sum_seed, pos.bytes | log);
}

static zoo_word *bytes_at(const struct zoo_log *log, zoo_pos pos)
{
    return log->words + (pos.bytes % log->size) / 8;
}

/* Are the bytes from `pos` on still not reserved a second time? */
static bool intact(const struct zoo_log *log, zoo_pos pos, uint64_t head)
{
    return head - pos.bytes <= log->size;
}

bool zoo_log_intact(zoo_seg *seg, unsigned log, zoo_pos pos)
{
    return intact(&seg->log[log], pos, zoo_load_acquire(seg->log[log].head)); /* E1 */
}

uint64_t zoo_rec_bytes(const struct zoo_rec *rec)
{
    uint64_t bytes = zoo_rec_head(rec) + zoo_pad8(rec->value_len);
    return (bytes + ZOO_UNIT - 1) & ~(uint64_t)(ZOO_UNIT - 1);
}

zoo_pos zoo_log_reserve(zoo_seg *seg, unsigned log, uint64_t bytes)
{
    zoo_pos pos = {zoo_add_relaxed(seg->log[log].head, bytes)};
    zoo_fence_release(); /* E1/R: the head is ahead before any byte below changes */
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
    zoo_word *to = bytes_at(&seg->log[log], pos);
    uint64_t before = zoo_rec_head(head);
    head->value_sum =
        zoo_sum_in_bytes(seg->sum_kind, seg->sum_seed, to + before / 8, value, head->value_len);
    const uint64_t *words = (const uint64_t *)(const void *)head;
    head->sum = zoo_sum_words(seg->sum_kind, seed_at(seg, log, pos), words + 1, before / 8 - 1);
    for (size_t i = 0; i < before / 8; i++)
        zoo_store_relaxed(to + i, words[i]); /* ordered by E1 and E2, like the value */
    ZOO_FAULT("log:after-write");
    return zoo_log_intact(seg, log, pos);
}

/*
 * The full position that a word means. Its low 54 bits are in the word; the
 * rest follows from the head, which must be loaded after the word (E2). A word
 * ahead of the head cannot be, short of garbage: it comes out as long lapped.
 */
static zoo_pos position_of(uint64_t word, uint64_t head)
{
    uint64_t distance = (head / ZOO_UNIT - word) & ZOO_WORD_POS_MASK;
    return (zoo_pos){head - head % ZOO_UNIT - distance * ZOO_UNIT};
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
    uint64_t head = zoo_load_acquire(log->head); /* E2: it is behind the word's record */
    hit->word = word;
    hit->pos = position_of(word, head);
    /* The header lies within what was reserved; its lengths are checked below. */
    if (!intact(log, hit->pos, head) || head - hit->pos.bytes < sizeof(struct zoo_rec))
        return ZOO_LAPPED;
    hit->from = bytes_at(log, hit->pos);

    /* Unverified lengths, bounded: what is read from the log is not trusted. */
    struct zoo_rec claimed;
    uint64_t lengths =
        zoo_load_relaxed(hit->from + offsetof(struct zoo_rec, value_len) / 8); /* E1 */
    memcpy(&claimed.value_len, &lengths, sizeof lengths);
    uint64_t bytes = zoo_rec_bytes(&claimed), before = zoo_rec_head(&claimed);
    if (bytes > log->longest || bytes > head - hit->pos.bytes || claimed.key_len > ZOO_MAX_KEY ||
        claimed.n_deps > ZOO_MAX_DEPS)
        return spoilt(seg, hit);
    hit->rec = (struct zoo_rec *)(void *)hit->room;
    if (before > sizeof hit->room && (hit->rec = malloc(before)) == NULL)
        return ZOO_E_MEMORY;

    hit->rec->sum = zoo_load_relaxed(hit->from); /* ordered by the fence below, like the copy */
    uint64_t sum = zoo_sum_out(seg->sum_kind, seed_at(seg, zoo_word_log(word), hit->pos),
                               (uint64_t *)(void *)hit->rec + 1, hit->from + 1, before / 8 - 1);
    ZOO_FAULT("log:opened");
    zoo_fence_acquire(); /* E1/A: the head below is at least as new as any byte above */
    head = zoo_load_relaxed(log->head);
    hit->base = hit->pos.bytes;
    bool lapped = !intact(log, hit->pos, head);
    uint64_t copied;
    memcpy(&copied, &hit->rec->value_len, sizeof copied);
    if (!lapped && sum == hit->rec->sum && copied == lengths)
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
    uint64_t sum = zoo_sum_out_bytes(seg->sum_kind, seg->sum_seed, to,
                                     hit->from + zoo_rec_head(hit->rec) / 8, hit->rec->value_len);
    ZOO_FAULT("log:copied");
    zoo_fence_acquire(); /* E1/A */
    uint64_t head = zoo_load_relaxed(log->head);
    hit->age = head - hit->base;
    if (!intact(log, hit->pos, head))
        return ZOO_LAPPED;
    return sum == hit->rec->value_sum ? ZOO_OK : ZOO_CORRUPT;
}

void zoo_log_close(struct zoo_hit *hit)
{
    if ((uint64_t *)(void *)hit->rec != hit->room)
        free(hit->rec);
}

/* Bytes reserved in a word's log behind the start of its record. Over the log's size: lapped. */
uint64_t zoo_log_behind(zoo_seg *seg, uint64_t word)
{
    uint64_t head = zoo_load_acquire(seg->log[zoo_word_log(word)].head); /* no edge: a hint */
    return head - position_of(word, head).bytes;
}
