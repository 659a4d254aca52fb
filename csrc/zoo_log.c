/*
 * zoo_log.c - circular logs of immutable records.
 *
 * Writers reserve bytes by advancing the head, build the record privately, copy
 *   it in, and publish its position in the index. A position is virtual and
 *   never used twice; its bytes live at position modulo the log's size.
 * Readers load an index word, then the head, copy the record out, re-check
 *   that the head has not lapped it, and verify the checksum of their copy.
 * Reclaim: the head runs over the oldest records. There is nothing to free.
 * Crash: a writer that dies between reserve and publish leaves bytes that no
 *   word names; the log laps them. A writer stopped in between may wake up a
 *   lap later and scribble over a live record: it re-checks before it writes,
 *   which makes that rare, and the checksum makes it a miss.
 *
 * Invariants
 *  1. Space is claimed before its first byte changes.
 *  2. A copy is used only after the lap check and the checksum, in this order.
 *  3. The checksum is seeded by the segment's secret and the full position: the
 *     right bytes in another place, or a lap earlier, do not pass.
 *
 * Edges
 *  E1  the head's advance, before the bytes        -> copied bytes, before the head
 *  E2  a record's bytes, before its index word     -> the word, before its bytes
 *      (published in zoo_index.c; the head's advance travels along)
 *
 * Source: the copy-then-validate reader is a seqlock over log positions
 * (Boehm, Can Seqlocks Get Along With Programming Language Memory Models, 2012);
 * the log with virtual positions follows FASTER (Chandramouli et al., 2018).
 */
#include <string.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

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
    return intact(&seg->log[log], pos, zoo_load_acquire(seg->log[log].head));
}

uint64_t zoo_rec_bytes(const struct zoo_rec *rec)
{
    uint64_t bytes =
        sizeof *rec + zoo_pad8(rec->value_len) + zoo_pad8(rec->key_len) + 8ull * rec->n_deps;
    return (bytes + ZOO_UNIT - 1) & ~(uint64_t)(ZOO_UNIT - 1);
}

zoo_pos zoo_log_reserve(zoo_seg *seg, unsigned log, uint64_t bytes)
{
    zoo_pos pos = {zoo_add_relaxed(seg->log[log].head, bytes)};
    zoo_fence_release(); /* E1/R: the head is ahead before any byte below changes */
    return pos;
}

/*
 * Copies a private record into its reserved bytes. False if the log has lapped
 * them meanwhile: the caller must reserve again.
 */
bool zoo_log_write_unpublished(zoo_seg *seg, unsigned log, zoo_pos pos, struct zoo_rec *rec,
                               uint64_t bytes)
{
    const uint64_t *words = (const uint64_t *)(const void *)rec;
    struct zoo_sum sum = zoo_sum_start(seed_at(seg, log, pos));
    zoo_sum_words(&sum, words + 1, bytes / 8 - 1);
    rec->sum = zoo_sum_end(&sum, bytes / 8);

    ZOO_FAULT("log:before-write");
    if (!zoo_log_intact(seg, log, pos))
        return false;
    zoo_word *to = bytes_at(&seg->log[log], pos);
    for (size_t i = 0; i < bytes / 8; i++)
        zoo_store_relaxed(to + i, words[i]); /* ordered by E1 and E2 */
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

/* The log and position of a word. False if the record is already lapped. */
static bool locate(zoo_seg *seg, uint64_t word, struct zoo_log **log, zoo_pos *pos)
{
    *log = &seg->log[zoo_word_log(word)];
    if ((*log)->size == 0)
        return false;
    uint64_t head = zoo_load_acquire((*log)->head);
    *pos = position_of(word, head);
    /* The header lies within the reserved bytes; its lengths are checked by the callers. */
    return intact(*log, *pos, head) && head - pos->bytes >= sizeof(struct zoo_rec);
}

/* The header's own lengths, bounded: what is read from the log is not trusted. */
static bool plausible(const zoo_seg *seg, const struct zoo_log *log, zoo_pos pos,
                      const struct zoo_rec *head)
{
    uint64_t bytes = zoo_rec_bytes(head);
    return bytes <= seg->max_record && head->key_len <= ZOO_MAX_KEY &&
           head->n_deps <= ZOO_MAX_DEPS && zoo_load_relaxed(log->head) - pos.bytes >= bytes;
}

/* Unverified lengths; everything else of the header comes with the checked copy. */
static struct zoo_rec peek_raw(const zoo_word *from)
{
    struct zoo_rec head = {0};
    uint64_t lengths = zoo_load_relaxed(from + offsetof(struct zoo_rec, value_len) / 8);
    memcpy(&head.value_len, &lengths, sizeof lengths);
    return head;
}

/*
 * Copies the record of an index word and verifies it: ZOO_OK, ZOO_MORE,
 * ZOO_LAPPED, or ZOO_E_GARBLED for a record that fails its checksum though the
 * log has not lapped it.
 */
int zoo_log_read(zoo_seg *seg, uint64_t word, struct zoo_rec *copy, size_t cap)
{
    struct zoo_log *log;
    zoo_pos pos;
    if (!locate(seg, word, &log, &pos))
        return ZOO_LAPPED;
    const zoo_word *from = bytes_at(log, pos);
    struct zoo_rec head = peek_raw(from);
    uint64_t bytes = zoo_rec_bytes(&head);
    if (!plausible(seg, log, pos, &head))
        return zoo_log_intact(seg, zoo_word_log(word), pos) ? ZOO_E_GARBLED : ZOO_LAPPED;
    if (bytes > cap)
        return ZOO_MORE;

    struct zoo_sum sum = zoo_sum_start(seed_at(seg, zoo_word_log(word), pos));
    copy->sum = zoo_load_relaxed(from); /* ordered by the fence below, like the copy */
    zoo_sum_copy_out(&sum, (uint64_t *)(void *)copy + 1, from + 1, bytes / 8 - 1);
    ZOO_FAULT("log:copied");
    zoo_fence_acquire(); /* E1/A: the head below is at least as new as any byte above */
    if (!intact(log, pos, zoo_load_relaxed(log->head)))
        return ZOO_LAPPED;
    if (copy->sum != zoo_sum_end(&sum, bytes / 8) || copy->value_len != head.value_len ||
        copy->key_len != head.key_len || copy->n_deps != head.n_deps)
        return ZOO_E_GARBLED;
    return ZOO_OK;
}

/*
 * Is the record of a word this key's? Decided on a verified copy only, piece by
 * piece, so that a long record of another key costs no memory. `head` gets the
 * record's header on ZOO_MATCH_YES. ZOO_MATCH_DEAD: lapped or scribbled over.
 */
enum zoo_match zoo_log_match(zoo_seg *seg, uint64_t word, const char *key, size_t key_len,
                             struct zoo_rec *head)
{
    enum { PIECE = 64 }; /* words; a multiple of 4, as zoo_sum wants it */
    union {
        uint64_t words[PIECE];
        char bytes[PIECE * 8];
    } piece;
    struct zoo_log *log;
    zoo_pos pos;
    if (!locate(seg, word, &log, &pos))
        return ZOO_MATCH_DEAD;
    const zoo_word *from = bytes_at(log, pos);
    *head = peek_raw(from);
    if (!plausible(seg, log, pos, head))
        return ZOO_MATCH_DEAD;

    uint64_t n = zoo_rec_bytes(head) / 8;
    uint64_t key_at = sizeof *head + zoo_pad8(head->value_len); /* in bytes, from the record */
    uint64_t want = zoo_load_relaxed(from);
    bool same = head->key_len == key_len;
    struct zoo_rec claimed = *head;
    struct zoo_sum sum = zoo_sum_start(seed_at(seg, zoo_word_log(word), pos));
    for (uint64_t done = 1; done < n;) {
        uint64_t take = n - done < PIECE ? n - done : PIECE;
        zoo_sum_copy_out(&sum, piece.words, from + done, take);
        if (done == 1) /* the piece starts behind the sum */
            memcpy((char *)head + 8, piece.bytes, sizeof *head - 8);
        uint64_t low = done * 8, high = (done + take) * 8;
        uint64_t first = key_at > low ? key_at : low;
        uint64_t end = key_at + key_len < high ? key_at + key_len : high;
        if (same && first < end)
            same = memcmp(piece.bytes + (first - low), key + (first - key_at), end - first) == 0;
        done += take;
    }
    zoo_fence_acquire(); /* E1/A */
    if (!intact(log, pos, zoo_load_relaxed(log->head)) || want != zoo_sum_end(&sum, n) ||
        head->value_len != claimed.value_len || head->key_len != claimed.key_len ||
        head->n_deps != claimed.n_deps)
        return ZOO_MATCH_DEAD;
    return same ? ZOO_MATCH_YES : ZOO_MATCH_OTHER;
}

/* How far a word's record is on its way to be lapped: 0 is new, 2^16 lapped or unreadable. */
uint64_t zoo_log_age(zoo_seg *seg, uint64_t word)
{
    const struct zoo_log *log = &seg->log[zoo_word_log(word)];
    if (log->size == 0)
        return 1u << 16;
    uint64_t head = zoo_load_acquire(log->head);
    zoo_pos pos = position_of(word, head);
    return intact(log, pos, head) ? (head - pos.bytes) / (log->size >> 16) : 1u << 16;
}
