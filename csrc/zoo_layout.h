/*
 * zoo_layout.h - every shared byte, and who may write it.
 *
 *   0        +---------------------------------------------+
 *            | header: constants, then one line per clock  |  struct zoo_hdr
 *   part[]   +---------------------------------------------+
 *            | stats    64 stripes of 16 counters          |  anybody, relaxed add
 *            | tags     sets of 8 words: floor + 7         |  anybody, only forward
 *            | index    buckets of 8 words                 |  anybody, one CAS a change
 *            | (pending, lanes, owners, flights, events:   |  places are kept in part[],
 *            |  of size 0 in this layout version)          |  nothing uses them yet
 *            +---------------------------------------------+  64 KiB boundary
 *            | log 0: probation (of size 0 in this version)|  the reserver of the bytes
 *            | log 1: main                                 |  the reserver of the bytes
 *   size     +---------------------------------------------+
 *
 * Each log is mapped once more behind itself, as far as the longest record
 * reaches, so that a record which crosses the physical end is contiguous.
 *
 * Glossary. A *position* counts all bytes ever reserved in a log, so it is
 * never used twice; a *word* in the index names a log, a position and a
 * *fingerprint* (bits of the key's hash). A *tag* is what one invalidates, a
 * *dependency* is the hash of a tag in a record. A *stamp* is the clock before
 * a value's computation began.
 *
 * Shared memory is input: a handle copies the geometry at attach, after it was
 * checked, and nothing read later is used as a length or an index unchecked.
 */
#ifndef ZOO_LAYOUT_H
#define ZOO_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "zoo_api.h"
#include "zoo_atomic.h"

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "zoocache supports Linux on x86-64 and arm64; this platform is neither"
#endif
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian");

#define ZOO_MAGIC 0x65686361636f6f7aull /* "zoocache" as a little-endian word */
#define ZOO_LAYOUT_VERSION 1u
#define ZOO_PART_ALIGN 65536u /* the largest page of arm64 */
#define ZOO_LINE 64u

enum zoo_part_id {
    ZOO_PART_STATS,
    ZOO_PART_TAGS,
    ZOO_PART_INDEX,
    ZOO_PART_PENDING, /* lane masks by tag: commits in progress */
    ZOO_PART_LANES,   /* what each commit in progress will invalidate */
    ZOO_PART_OWNERS,  /* who holds a lane or a flight */
    ZOO_PART_FLIGHTS, /* keys being computed */
    ZOO_PART_EVENTS,  /* ring of invalidations, for diagnostics */
    ZOO_PART_LOG_PROBATION,
    ZOO_PART_LOG_MAIN,
    ZOO_PARTS = 16,
};

enum { ZOO_LOGS = 2, ZOO_LOG_PROBATION = 0, ZOO_LOG_MAIN = 1 };
enum { ZOO_WAYS = 8, ZOO_STRIPES = 64 };

/* Different things that are all 64 bits wide; as structs they cannot be mixed up. */
typedef struct {
    uint64_t bytes; /* from the start of the segment */
} zoo_off;
typedef struct {
    uint64_t bytes; /* virtual: reserved in the log before this one, ever */
} zoo_pos;

struct zoo_part {
    uint64_t offset;
    uint64_t size;
};

/* States of a segment. A segment that is not READY is only touched under the lock. */
enum { ZOO_STATE_INIT = 0, ZOO_STATE_READY = 1, ZOO_STATE_RETIRED = 2 };

struct zoo_hdr {
    /* Constants, written by the creator before `state` says READY. */
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_size;
    uint64_t size;
    uint64_t secret[2]; /* seeds of the hashes and of the checksums */
    uint64_t boot_ns;   /* CLOCK_BOOTTIME at creation: the clock counts from here */
    uint64_t wall_us;   /* CLOCK_REALTIME at creation: for people and for the wire only */
    struct zoo_part part[ZOO_PARTS];
    uint64_t constants_sum; /* over everything above */

    _Alignas(ZOO_LINE) zoo_word state;  /* the creator; forward only */
    _Alignas(ZOO_LINE) zoo_word clock;  /* zoo_hlc.c; forward only */
    zoo_word root;                      /* zoo_tag.c: the clock of the last clear */
    zoo_word active_lanes;              /* kept for commits in progress: mask of used lanes */
    zoo_word miss_until;                /* kept: nobody may hit before this time (ms) */
    _Alignas(ZOO_LINE) zoo_word events; /* zoo_tag.c: counts finished invalidations */
    _Alignas(ZOO_LINE) zoo_word head_probation; /* zoo_log.c; forward only */
    _Alignas(ZOO_LINE) zoo_word head_main;
};

_Static_assert(offsetof(struct zoo_hdr, state) % ZOO_LINE == 0, "one line per contended word");
_Static_assert(sizeof(struct zoo_hdr) <= 4096, "the header fits the first page");

/*
 * A record: this header, the value, the key, the dependency hashes; each padded
 * to 8 bytes, the whole to 16. Written by whoever reserved its bytes, never
 * changed once its word is in the index.
 */
struct zoo_rec {
    uint64_t sum;    /* of all words behind it, seeded by the secret and the position */
    uint64_t stamp;  /* 48 bits of clock, and ZOO_STAMP_EXPLICIT */
    uint64_t expiry; /* CLOCK_BOOTTIME in ms, 0: never */
    uint32_t value_len;
    uint16_t key_len;
    uint16_t n_deps;
};
_Static_assert(sizeof(struct zoo_rec) == 32, "a record's header is four words");

/* Index word: log:1 | tentative:1 | fingerprint:12 | position / 16, modulo 2^50. Zero is empty. */
#define ZOO_WORD_LOG_SHIFT 63
#define ZOO_WORD_TENTATIVE (1ull << 62)
#define ZOO_WORD_FP_SHIFT 50
#define ZOO_WORD_FP_MASK (0xfffull << ZOO_WORD_FP_SHIFT)
#define ZOO_WORD_POS_MASK ((1ull << ZOO_WORD_FP_SHIFT) - 1)
#define ZOO_UNIT 16u /* bytes: records start and end on it */

/* Tag word: fingerprint:16 | clock:48. Zero is empty. Word 0 of a set is its floor. */
#define ZOO_CLOCK_BITS 48
#define ZOO_CLOCK_MASK ((1ull << ZOO_CLOCK_BITS) - 1)
#define ZOO_CLOCK_UNIT_NS 4000u
#define ZOO_STAMP_EXPLICIT (1ull << 63) /* set, not filled: newer than a fill of the same clock */

struct zoo_log {
    zoo_word *words; /* the double mapping */
    zoo_word *head;
    uint64_t size; /* bytes; 0 if this layout does not have the log */
};

/* One process's view of a segment. Nothing here is shared. */
struct zoo_seg {
    struct zoo_hdr *hdr;
    zoo_word *stats;
    zoo_word *tags;
    zoo_word *index;
    uint64_t tag_mask;    /* number of sets - 1 */
    uint64_t bucket_mask; /* number of buckets - 1 */
    uint64_t key_seed;
    uint64_t tag_seed;
    uint64_t sum_seed;
    uint64_t max_record; /* bytes */
    uint64_t boot_ns;
    uint64_t size;
    struct zoo_log log[ZOO_LOGS];
    int64_t skew_ms;
    size_t mapped; /* bytes of address space from hdr on */
};

/* A private buffer for the records that one thread reads. */
struct zoo_reader {
    zoo_seg *seg;
    zoo_word owner; /* address of the owning thread's marker, 0 if nobody's; private memory */
    bool bound;
    size_t cap; /* bytes from rec on */
    struct zoo_rec rec;
};

/* zoo_reader.c */
bool zoo_reader_claim(zoo_reader *reader);

/* zoo_hlc.c */
uint64_t zoo_hlc_read(zoo_seg *seg);
uint64_t zoo_hlc_tick(zoo_seg *seg);
int zoo_hlc_merge(zoo_seg *seg, uint64_t remote);
uint64_t zoo_hlc_now_ms(const zoo_seg *seg);

/* zoo_tag.c */
uint64_t zoo_tag_hash(const zoo_seg *seg, const char *tag, size_t len);
uint64_t zoo_tag_of_key(uint64_t key_hash);
uint64_t zoo_tag_clock(zoo_seg *seg, uint64_t tag);
void zoo_tag_raise(zoo_seg *seg, uint64_t tag, uint64_t clock);
void zoo_tag_raise_root(zoo_seg *seg, uint64_t clock);
void zoo_tag_announce_event(zoo_seg *seg);
bool zoo_tag_fresh(zoo_seg *seg, uint64_t stamp, uint64_t key_hash, const uint64_t *deps,
                   size_t n_deps);
int zoo_tag_parse(const zoo_seg *seg, const char *tags, size_t len, bool prefixes, uint64_t *out,
                  size_t *n);

/* zoo_log.c */
enum zoo_match { ZOO_MATCH_YES, ZOO_MATCH_OTHER, ZOO_MATCH_DEAD };
zoo_pos zoo_log_reserve(zoo_seg *seg, unsigned log, uint64_t bytes);
bool zoo_log_write_unpublished(zoo_seg *seg, unsigned log, zoo_pos pos, struct zoo_rec *rec,
                               uint64_t bytes);
bool zoo_log_intact(zoo_seg *seg, unsigned log, zoo_pos pos);
int zoo_log_read(zoo_seg *seg, uint64_t word, struct zoo_rec *copy, size_t cap);
enum zoo_match zoo_log_match(zoo_seg *seg, uint64_t word, const char *key, size_t key_len,
                             struct zoo_rec *head);
uint64_t zoo_log_age(zoo_seg *seg, uint64_t word);
uint64_t zoo_rec_bytes(const struct zoo_rec *rec);

/* zoo_index.c */
uint64_t zoo_key_hash(const zoo_seg *seg, const char *key, size_t key_len);
int zoo_index_put(zoo_seg *seg, uint64_t key_hash, const struct zoo_rec *rec, unsigned log,
                  zoo_pos pos, bool is_fill);
bool zoo_index_remove(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len);

/* zoo_stats.c */
void zoo_count(zoo_seg *seg, zoo_stat which, uint64_t n);

static inline zoo_word *zoo_index_bucket(const zoo_seg *seg, uint64_t key_hash)
{
    return seg->index + (key_hash & seg->bucket_mask) * ZOO_WAYS;
}

/* The fingerprint is the hash's top bits, the bucket its low ones: they share none. */
static inline uint64_t zoo_fingerprint(uint64_t key_hash)
{
    return key_hash >> 52 << ZOO_WORD_FP_SHIFT;
}

/* Is the word final, and of the key's fingerprint? */
static inline bool zoo_index_may_hold(uint64_t word, uint64_t key_hash)
{
    return (word & (ZOO_WORD_FP_MASK | ZOO_WORD_TENTATIVE)) == zoo_fingerprint(key_hash) &&
           word != 0;
}

static inline unsigned zoo_word_log(uint64_t word)
{
    return (unsigned)(word >> ZOO_WORD_LOG_SHIFT);
}

static inline const char *zoo_rec_value(const struct zoo_rec *rec)
{
    return (const char *)(rec + 1);
}

static inline uint64_t zoo_pad8(uint64_t bytes)
{
    return (bytes + 7) & ~7ull;
}

static inline const char *zoo_rec_key(const struct zoo_rec *rec)
{
    return zoo_rec_value(rec) + zoo_pad8(rec->value_len);
}

static inline const uint64_t *zoo_rec_deps(const struct zoo_rec *rec)
{
    /* Both paddings keep the alignment of the record, which is 8 or more. */
    return (const uint64_t *)(const void *)(zoo_rec_key(rec) + zoo_pad8(rec->key_len));
}

#endif
