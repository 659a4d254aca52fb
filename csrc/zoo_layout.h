/*
 * zoo_layout.h - every shared byte, and who may write it.
 *
 *   0        +---------------------------------------------+
 *            | header: constants, then one line per clock  |  struct zoo_hdr
 *   part[]   +---------------------------------------------+
 *            | stats    64 stripes: counters, a sample     |  anybody, relaxed
 *            | tags     sets of 8 words: floor + 7         |  anybody, only forward
 *            | index    buckets of 8 words                 |  anybody, one CAS a change
 *            | pending  masks of lanes, by tag             |  a lane's owner: its own bit
 *            | lanes    64 commits under way               |  the lane's owner
 *            | owners   generations of process slots       |  the holder of the slot's lock
 *            | flights  keys being computed                |  anybody, one CAS a change
 *            | events   ring of the last invalidations     |  the reserver of the place
 *            | sites    counters by who reads              |  anybody, relaxed
 *            | spans    counters by how long it took       |  anybody, relaxed
 *            +---------------------------------------------+  64 KiB boundary
 *            | log 0: probation, about a tenth             |  the reserver of the bytes
 *            | log 1: main                                 |  the reserver of the bytes
 *   size     +---------------------------------------------+
 *
 * A process maps each log once more behind itself, as far as the longest record
 * reaches, so that a record which crosses the physical end is contiguous.
 *
 * Glossary. A *position* counts all bytes ever reserved in a log, so it is
 * never used twice; a log's *head* is the next one, and its *limit* is never
 * behind what is written. A *word* in the index names a log, a position and a
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
#include <string.h>
#include <sys/stat.h>

#include "zoo_api.h"
#include "zoo_atomic.h"
#include "zoo_sum.h"

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "zoocache supports Linux on x86-64 and arm64; this platform is neither"
#endif
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian");

#define ZOO_MAGIC 0x65686361636f6f7aull /* "zoocache" as a little-endian word */
#ifndef ZOO_LAYOUT_VERSION /* the C tests are of a later one, so that they can have an older one   \
                            */
#define ZOO_LAYOUT_VERSION 5u
#endif
#define ZOO_PART_ALIGN 65536u /* the largest page of arm64 */
#define ZOO_LINE 64u
#define ZOO_HEADER_BYTES 4096u /* the first page: all that concerns who cannot read the rest */

enum zoo_part_id {
    ZOO_PART_STATS,
    ZOO_PART_TAGS,
    ZOO_PART_INDEX,
    ZOO_PART_PENDING, /* lane masks by tag: commits in progress */
    ZOO_PART_LANES,   /* what each commit in progress will invalidate */
    ZOO_PART_OWNERS,  /* who holds a lane or a flight */
    ZOO_PART_FLIGHTS, /* keys being computed */
    ZOO_PART_EVENTS,  /* ring of invalidations, for diagnostics */
    ZOO_PART_SITES,   /* who reads, and what becomes of it: for people */
    ZOO_PART_SPANS,   /* how long it takes: likewise */
    ZOO_PART_LOG_PROBATION,
    ZOO_PART_LOG_MAIN,
    ZOO_PARTS = 16,
};

enum { ZOO_LOGS = 2, ZOO_LOG_PROBATION = 0, ZOO_LOG_MAIN = 1 };
enum { ZOO_WAYS = 8, ZOO_STRIPES = 64, ZOO_OWNERS = 1024, ZOO_CLAIMS = 64 };
enum { ZOO_NAME_BYTES = 256, ZOO_MIN_ENTRY = 64 };
/* The last two words of a stripe are a sample: a key that was asked for of late. See zoo_look.c. */
enum { ZOO_SAMPLE_AT = ZOO_STATS - 2 };
_Static_assert((int)ZOO_N_DIFFERED < (int)ZOO_SAMPLE_AT, "a counter is no sample");

/* Chosen by simulation: bench/policy/. */
enum {
    ZOO_PROBATION_SHARE = 10, /* probation is one tenth of the log space */
    /* In parts of 200 of a log: */
    ZOO_PROBATION_RENEW = 100, /* bytes behind a record before a hit copies it to main's head */
    ZOO_MAIN_RENEW = 175,
    ZOO_PROBATION_GHOST = 400, /* bytes past the lap for which its word is a ghost */
    ZOO_MAIN_GHOST = 100,
};
enum { ZOO_SUM_PLAIN = 1, ZOO_SUM_AES = 2 };

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

/*
 * The same in every layout from ZOO_LAYOUT_FIRST on: where the words are that
 * another version needs to retire or to clear a segment that it cannot read.
 */
struct zoo_stable {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_size;
    uint32_t state_at, clock_at, root_at, lanes_at, events_at, retired_clock_at; /* bytes */
};
#define ZOO_LAYOUT_FIRST 2u

struct zoo_hdr {
    /* Constants, written by the creator before `state` says READY. */
    union {
        struct zoo_stable stable;
        struct {
            uint64_t magic;
            uint32_t layout_version;
            uint32_t header_size;
        };
    };
    uint64_t size;
    uint64_t secret[2];  /* seeds of the hashes and of the checksums */
    uint64_t sum_kind;   /* how checksums are made: ZOO_SUM_AES or ZOO_SUM_PLAIN */
    uint64_t entry_size; /* by which the index was sized; 0: not known */
    uint64_t wall_us;    /* CLOCK_REALTIME when the machine booted: for people and the wire only */
    struct zoo_part part[ZOO_PARTS];
    uint64_t constants_sum; /* over everything above */

    _Alignas(ZOO_LINE) zoo_word state; /* the creator, zoo_retire.c; forward only */
    zoo_word retired_clock;            /* zoo_retire.c: what the clock was */
    /* One line: all that a hit looks at when nothing happens. */
    _Alignas(ZOO_LINE) zoo_word clock; /* zoo_hlc.c; forward only */
    zoo_word root;                     /* zoo_tag.c: the clock of the last clear */
    zoo_word active_lanes;             /* zoo_lane.c: mask of the lanes in use */
    zoo_word miss_until;               /* zoo_intent.c: nobody hits before this time (ms) */
    zoo_word pending_all;              /* zoo_lane.c: mask of lanes that announce everything */
    zoo_word limit_probation;          /* zoo_log.c; forward only, by strides */
    zoo_word limit_main;
    _Alignas(ZOO_LINE) zoo_word events;         /* zoo_tag.c: counts finished invalidations */
    zoo_word event_head;                        /* zoo_event.c: places ever taken in the ring */
    zoo_word next_reap;                         /* zoo_reap.c: when to look for dead owners (ms) */
    zoo_word owner_file;                        /* zoo_owner.c: inode of the lock file; set once */
    _Alignas(ZOO_LINE) zoo_word head_probation; /* zoo_log.c; forward only */
    _Alignas(ZOO_LINE) zoo_word head_main;
    /* zoo_cache.c: the words that were last promoted, by hash. Hints only. */
    _Alignas(ZOO_LINE) zoo_word claims[ZOO_CLAIMS];
};

_Static_assert(offsetof(struct zoo_hdr, state) % ZOO_LINE == 0, "one line per contended word");
_Static_assert(sizeof(struct zoo_hdr) <= ZOO_HEADER_BYTES, "the header fits the first page");

/*
 * A record: this header, the key, the dependency hashes, the expiry if it has
 * one, the value; each padded to 8 bytes. Written by whoever reserved its bytes,
 * never changed once its word is in the index. All before the value is the
 * *head*: it has a checksum of its own, so that a key is compared without reading
 * the value.
 *
 * The expiry is counted among the head's words, so that how long a head is does
 * not hang on its flag, and it is the last of them, so that a touch can add it.
 */
struct zoo_rec {
    uint32_t sum;       /* of the head from `stamp` on, seeded by the secret and the position */
    uint32_t whole_sum; /* of that, and of the value behind it; xored with `sum` */
    uint64_t stamp;     /* 48 bits of clock, ZOO_STAMP_EXPLICIT and ZOO_STAMP_EXPIRES */
    uint32_t value_len;
    uint16_t key_len;
    uint16_t n_words; /* behind the key: the dependencies, and the expiry */
};
_Static_assert(sizeof(struct zoo_rec) == 24, "a record's header is three words");
enum { ZOO_EXPIRY_BYTES = 8 };

/* Index word: log:1 | tentative:1 | fingerprint:12 | position / 8, modulo 2^50. Zero is empty. */
#define ZOO_WORD_LOG_SHIFT 63
#define ZOO_WORD_TENTATIVE (1ull << 62)
#define ZOO_WORD_FP_SHIFT 50
#define ZOO_WORD_FP_MASK (0xfffull << ZOO_WORD_FP_SHIFT)
#define ZOO_WORD_POS_MASK ((1ull << ZOO_WORD_FP_SHIFT) - 1)
#define ZOO_UNIT_SHIFT 3
#define ZOO_UNIT (1u << ZOO_UNIT_SHIFT) /* bytes: records start and end on it */

/* Tag word: fingerprint:16 | clock:48. Zero is empty. Word 0 of a set is its floor. */
#define ZOO_CLOCK_BITS 48
#define ZOO_CLOCK_MASK ((1ull << ZOO_CLOCK_BITS) - 1)
#define ZOO_CLOCK_UNIT_NS 4000u
#define ZOO_STAMP_EXPLICIT (1ull << 62) /* set, not filled: newer than a fill of the same clock */
#define ZOO_STAMP_EXPIRES (1ull << 63)  /* the head's last word is when: CLOCK_BOOTTIME in ms */

/* One commit under way. See zoo_lane.c for who writes what when. */
struct zoo_lane {
    zoo_word owner;    /* decides: state, owner slot, generation, sequence */
    zoo_word count;    /* tags, or UINT64_MAX: everything */
    zoo_word until_ms; /* CLOCK_BOOTTIME: when a quarantine is over */
    zoo_word quarantine_ms;
    zoo_word session[ZOO_SESSION_BYTES / 8];
    zoo_word tags[ZOO_LANE_TAGS];
    zoo_word unused[12]; /* to 512 bytes */
};
_Static_assert(sizeof(struct zoo_lane) == 512, "a lane is whole lines");

/* One place of the event ring: `number` is written last, and `sum` vouches for all. */
struct zoo_event_slot {
    zoo_word number; /* of the event, plus 1 */
    zoo_word sum;    /* of the other words */
    zoo_word clock;
    zoo_word tag;
    zoo_word who; /* pid:32 | cause:32 */
    zoo_word text[ZOO_EVENT_TEXT / 8];
};
_Static_assert(sizeof(struct zoo_event_slot) == ZOO_LINE, "an event is one line");

/* What is counted of one site: zoo_tally.c. */
struct zoo_site_slot {
    zoo_word hash; /* of the text; 0: free */
    zoo_word len;
    zoo_word text[ZOO_SITE_TEXT / 8];
    zoo_word count[ZOO_SITE_COUNTS];
};
struct zoo_span_counts {
    zoo_word count[ZOO_SPAN_BUCKETS];
    zoo_word total_ns;
    zoo_word unused;
};

struct zoo_log {
    zoo_word *words;      /* the double mapping */
    zoo_word *limit;      /* all that is written lies before it: what readers look at */
    uint64_t size;        /* bytes */
    zoo_word *head;       /* of what is reserved: for writers */
    uint64_t stride;      /* bytes by which the limit is raised: a power of two */
    uint64_t longest;     /* the longest record that may go in, in bytes */
    uint64_t renew_after; /* a hit on a record with more bytes behind it is copied to main */
    uint64_t ghost_reach; /* bytes past the lap for which a word is a ghost */
};

/* One process's view of a segment. Nothing here is shared. */
struct zoo_seg {
    struct zoo_hdr *hdr;
    zoo_word *tags;
    zoo_word *index;
    zoo_word *stripe;     /* this process's counters */
    uint64_t tag_mask;    /* number of sets - 1 */
    uint64_t bucket_mask; /* number of buckets - 1 */
    uint64_t key_seed;
    uint64_t tag_seed;
    uint64_t sum_seed;
    uint64_t sum_kind;
    struct zoo_log log[ZOO_LOGS];
    uint64_t forks;      /* what zoo_forks was when stripe and owner were chosen */
    zoo_word until_look; /* gets and stores before this handle looks around again */
    zoo_word looks;      /* how often it has */
    int64_t skew_ms;

    zoo_word *stats;
    zoo_word *pending;
    uint64_t pending_mask; /* number of pending words - 1 */
    struct zoo_lane *lanes;
    zoo_word *owners;
    zoo_word *flights;
    uint64_t flight_mask; /* number of flight words - 1 */
    struct zoo_event_slot *ring;
    uint64_t ring_mask;
    struct zoo_site_slot *sites;
    uint64_t site_mask; /* number of sites - 1 */
    struct zoo_span_counts *spans;
    uint64_t size;
    uint64_t entry_size;
    size_t mapped; /* bytes of address space from hdr on */
    int fd;        /* of the object, to see whether it still has a name */
    uint64_t inode;
    zoo_word watch_ms;  /* when who reads looks again whether it has its name */
    zoo_word looked_ns; /* CLOCK_BOOTTIME: when anybody looked last */

    struct zoo_member *member; /* zoo_owner.c: shared by the process's handles on the segment */
};

/*
 * A record that was found: a verified copy of its head, and where its value is.
 * The head lies in `room`, or in memory of its own that zoo_log_close() frees;
 * there is room for an expiry behind it.
 */
enum { ZOO_ROOM = 96 };
#define ZOO_AGE_TIMED (1ull << 63)
struct zoo_hit {
    struct zoo_rec *rec;
    const zoo_word *from; /* the record in its log */
    zoo_pos pos;
    uint64_t word;
    uint64_t base;     /* what its age counts from: pos, or half of all numbers away from it */
    uint64_t age;      /* bytes reserved in the log behind it, when its value had been copied */
    uint64_t began_ns; /* of a get that is measured, which ZOO_AGE_TIMED in its age tells */
    zoo_word *slot;
    uint64_t key_hash;
    zoo_chain chain; /* of the head, for the sum of the whole */
    uint64_t room[ZOO_ROOM];
};

/* A tag as it was written, for the ring of events. */
struct zoo_name {
    const char *text;
    size_t len;
};

/* The hashes of tags, gathered. Starts in `few`, goes on in memory of its own. */
enum { ZOO_FEW_DEPS = 128 };
struct zoo_deps {
    uint64_t *hash;
    size_t n, cap;
    uint64_t few[ZOO_FEW_DEPS];
};

/* zoo_segment.c */
extern uint64_t zoo_forks __attribute__((visibility("hidden")));
void zoo_segment_forked(zoo_seg *seg);
int zoo_segment_make(int fd, uint64_t size, uint64_t entry_size, struct zoo_hdr **out);
void zoo_segment_start(struct zoo_hdr *hdr, uint64_t clock, uint64_t miss_until_ms);
int zoo_segment_attach(int fd, bool retired_too, zoo_seg **out);
void zoo_segment_detach(zoo_seg *seg);

/* zoo_name.c */
int zoo_name_open(const char *name, char *object, int *fd);
int zoo_name_lock(const char *name, uint32_t wait_ms, char *object, int *fd);
void zoo_name_unlock(int fd);
bool zoo_name_leads_to(const char *object, int fd);
int zoo_name_judge(const char *path, const struct stat *st);
bool zoo_name_is_mine(int fd);
int zoo_name_file(const char *path, int create, uid_t owner);

/* zoo_geometry.c */
void zoo_geometry_plan(struct zoo_hdr *hdr, uint64_t size, uint64_t entry_size);
uint64_t zoo_geometry_sum(const struct zoo_hdr *hdr);
int zoo_geometry_inspect(const struct zoo_hdr *hdr, uint64_t object_size);
uint64_t zoo_geometry_longest(uint64_t log_size);
uint64_t zoo_geometry_stride(uint64_t log_size);

/* zoo_retire.c */
void zoo_retire_watch(zoo_seg *seg);
bool zoo_retire_look(zoo_seg *seg, uint64_t boot_ns);
void zoo_retire_outwait(void);
void zoo_retire_end(zoo_seg *seg);
int zoo_retire_replace(const char *object, int old_fd, uint64_t size, uint64_t entry_size,
                       uint32_t wait_ms);

static inline bool zoo_retire_noticed(zoo_seg *seg)
{
    /* no edge: the clock and the root keep it from serving; this only names the reason */
    return zoo_load_acquire(&seg->hdr->state) == ZOO_STATE_RETIRED;
}

/* zoo_hlc.c */
uint64_t zoo_hlc_tick(zoo_seg *seg);
uint64_t zoo_hlc_tick_at(zoo_seg *seg, uint64_t boot_ns);
uint64_t zoo_hlc_boot_ns(void);
int zoo_hlc_merge(zoo_seg *seg, uint64_t remote);
uint64_t zoo_hlc_now_ms(const zoo_seg *seg);
uint64_t zoo_hlc_physical(void);

/* E6/A pairs with E6/R in zoo_hlc_tick_at(): nothing that follows a stamp, the read
 * of the database first of all, happens before it. */
static inline uint64_t zoo_hlc_read(const zoo_seg *seg)
{
    return zoo_load_acquire(&seg->hdr->clock);
}

/* zoo_tag.c */
uint64_t zoo_tag_hash(const zoo_seg *seg, const char *tag, size_t len);
uint64_t zoo_tag_of_key(uint64_t key_hash);
uint64_t zoo_tag_clock(zoo_seg *seg, uint64_t tag);
void zoo_tag_raise(zoo_seg *seg, uint64_t tag, uint64_t clock);
void zoo_tag_raise_root(zoo_seg *seg, uint64_t clock);
void zoo_tag_announce_event(zoo_seg *seg);
bool zoo_tag_unraised(zoo_seg *seg, uint64_t stamp, uint64_t key_hash, const uint64_t *deps,
                      size_t n_deps);
bool zoo_tag_was_fresh(zoo_seg *seg, uint64_t stamp, const uint64_t *deps, size_t n_deps);

/*
 * Nothing was invalidated since the stamp if the clock itself has not passed
 * it: one load for most hits on a quiet host. Sound because a tick precedes its
 * words: an invalidation that returned before this get began has ticked.
 */
static inline bool zoo_tag_fresh(zoo_seg *seg, uint64_t stamp, uint64_t key_hash,
                                 const uint64_t *deps, size_t n_deps)
{
    return zoo_hlc_read(seg) <= stamp || zoo_tag_unraised(seg, stamp, key_hash, deps, n_deps);
}

/* zoo_deps.c */
void zoo_deps_start(struct zoo_deps *deps);
int zoo_deps_add(struct zoo_deps *deps, uint64_t hash);
int zoo_deps_add_path(const zoo_seg *seg, struct zoo_deps *deps, const char *tag, size_t len,
                      bool prefixes);
int zoo_deps_parse(const zoo_seg *seg, struct zoo_deps *deps, const char *tags, size_t len,
                   bool prefixes);
void zoo_deps_unique(struct zoo_deps *deps);
void zoo_deps_free(struct zoo_deps *deps);

/* zoo_log.c */
zoo_pos zoo_log_reserve(zoo_seg *seg, unsigned log, uint64_t bytes);
bool zoo_log_write_unpublished(zoo_seg *seg, unsigned log, zoo_pos pos, struct zoo_rec *head,
                               const char *value);
bool zoo_log_intact(zoo_seg *seg, unsigned log, zoo_pos pos);
int zoo_log_open(zoo_seg *seg, uint64_t word, struct zoo_hit *hit);
int zoo_log_value(zoo_seg *seg, struct zoo_hit *hit, char *to);
void zoo_log_close(struct zoo_hit *hit);
uint64_t zoo_log_behind(zoo_seg *seg, uint64_t word);

/* zoo_index.c */
uint64_t zoo_key_hash(const zoo_seg *seg, const char *key, size_t key_len);
int zoo_index_find(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len,
                   struct zoo_hit *hit);
bool zoo_index_bury(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len);
bool zoo_index_has(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len);
unsigned zoo_index_choose_log(zoo_seg *seg, uint64_t key_hash, uint64_t bytes, bool *ghost);
int zoo_index_put(zoo_seg *seg, uint64_t key_hash, const struct zoo_rec *rec, unsigned log,
                  zoo_pos pos, int mode);
bool zoo_index_swap(zoo_seg *seg, const struct zoo_hit *hit, uint64_t key_hash, unsigned log,
                    zoo_pos pos);
bool zoo_index_remove(zoo_seg *seg, uint64_t key_hash, const char *key, size_t key_len);

/* zoo_hit.c: for those who bring their own memory, python/zoo_door.c first of all. */
int zoo_find(zoo_seg *seg, const char *key, size_t key_len, struct zoo_hit *hit);
int zoo_take(zoo_seg *seg, struct zoo_hit *hit, char *value, uint64_t grace_ms);

/* zoo_cache.c: the first three for zoo_hit.c, of hits that are not like most, and of misses. */
int zoo_miss(zoo_seg *seg, int outcome);
int zoo_find_any(zoo_seg *seg, const char *key, size_t key_len, struct zoo_hit *hit);
int zoo_take_any(zoo_seg *seg, struct zoo_hit *hit, char *value, uint64_t grace_ms);
int zoo_entry_state(zoo_seg *seg, const struct zoo_rec *rec, uint64_t key_hash);
int zoo_state_of(zoo_seg *seg, uint64_t stamp, uint64_t expiry, uint64_t key_hash,
                 const uint64_t *deps, size_t n_deps);
int zoo_store(zoo_seg *seg, int mode, const char *key, size_t key_len, const char *value,
              size_t value_len, uint64_t ttl_ms, struct zoo_deps *deps, uint64_t stamp);
int zoo_drop(zoo_seg *seg, const uint64_t *hashes, size_t n, const struct zoo_name *names,
             zoo_cause cause);
int zoo_invalidate_hashed(zoo_seg *seg, const uint64_t *hashes, size_t n,
                          const struct zoo_name *names);

/* zoo_local.c: what a process remembers of an entry whose value it keeps. Nothing here is shared.
 */
struct zoo_copy {
    uint64_t seen; /* the event counter at its last verification */
    uint64_t stamp;
    uint64_t expiry; /* CLOCK_BOOTTIME in ms, 0: never */
    uint64_t key_hash;
    uint64_t n_deps;
    uint64_t *deps;
};
uint64_t zoo_local_hash(const zoo_seg *seg, const char *key, size_t key_len);
int zoo_local_verify(zoo_seg *seg, struct zoo_copy *copy);
void zoo_local_count(zoo_seg *seg, uint64_t hits);

/* Is all as it was when the copy was verified? T10. */
static inline bool zoo_local_quiet(const zoo_seg *seg, const struct zoo_copy *copy)
{
    return copy->seen == zoo_load_acquire(&seg->hdr->events) && copy->expiry == 0; /* E18/A */
}

/* zoo_core.c */
struct zoo_core {
    int (*find)(zoo_seg *seg, const char *key, size_t key_len, struct zoo_hit *hit);
    int (*take)(zoo_seg *seg, struct zoo_hit *hit, char *value, uint64_t grace_ms);
    void (*close)(struct zoo_hit *hit);
    int (*store)(zoo_seg *seg, int mode, const char *key, size_t key_len, const char *value,
                 size_t value_len, uint64_t ttl_ms, struct zoo_deps *deps, uint64_t stamp);
    int (*invalidate)(zoo_seg *seg, const uint64_t *hashes, size_t n, const struct zoo_name *names);
    void (*deps_start)(struct zoo_deps *deps);
    int (*deps_add)(struct zoo_deps *deps, uint64_t hash);
    int (*deps_add_path)(const zoo_seg *seg, struct zoo_deps *deps, const char *path, size_t len,
                         bool prefixes);
    void (*deps_free)(struct zoo_deps *deps);
    uint64_t (*local_hash)(const zoo_seg *seg, const char *key, size_t key_len);
    int (*local_verify)(zoo_seg *seg, struct zoo_copy *copy);
    void (*local_count)(zoo_seg *seg, uint64_t hits);
    void (*site_hits)(zoo_seg *seg, uint64_t site, uint64_t n);
    int (*announce)(zoo_seg *seg, const char *tags, size_t tags_len, const char *session,
                    uint32_t quarantine_ms, uint64_t *ticket);
    int (*settle_named)(zoo_seg *seg, uint64_t ticket, int end, const char *tags, size_t tags_len);
};

/* zoo_modify.c */
int zoo_modify_replace(zoo_seg *seg, uint64_t key_hash, struct zoo_rec *head, const char *value);

/* zoo_owner.c: an owner is {generation:20 | slot:10}, never 0. */
enum { ZOO_SLOT_BITS = 10, ZOO_GENERATION_BITS = 20 };
_Static_assert(ZOO_OWNERS == 1 << ZOO_SLOT_BITS, "an owner names its slot");
int zoo_owner_attach(zoo_seg *seg, const char *object);
void zoo_owner_release(zoo_seg *seg);
void zoo_owner_unlink(const char *object);
uint64_t zoo_owner_mine(zoo_seg *seg);
uint64_t zoo_owner_serial(zoo_seg *seg);
bool zoo_owner_alive(zoo_seg *seg, uint64_t owner);
bool zoo_owner_alive_as(zoo_seg *seg, uint64_t owner, unsigned generation_bits);

/* zoo_reap.c */
void zoo_reap_if_due(zoo_seg *seg);

/* zoo_intent.c */
bool zoo_intent_pending(zoo_seg *seg, const uint64_t *deps, size_t n_deps);

/* Is there any commit under way, or was there one without a lane? E10/A, E11/A */
static inline bool zoo_intent_any(zoo_seg *seg)
{
    return (zoo_load_acquire(&seg->hdr->active_lanes) | zoo_load_acquire(&seg->hdr->miss_until)) !=
           0;
}

/* zoo_flight.c */
bool zoo_flight_is_taken(uint64_t word);

/* zoo_look.c */
void zoo_look_around(zoo_seg *seg);
void zoo_look_note(zoo_seg *seg, uint64_t key_hash);

/* Is it time to look around? Once in some 48 operations; looking sets the number anew. */
static inline bool zoo_look_due(zoo_seg *seg)
{
    uint64_t left = zoo_load_relaxed(&seg->until_look); /* private, but threads share it */
    if (__builtin_expect(left == 0, 0))
        return true;
    zoo_store_relaxed(&seg->until_look, left - 1); /* likewise */
    return false;
}

/* zoo_event.c */
void zoo_event_note(zoo_seg *seg, uint64_t clock, uint64_t tag, const char *text, size_t text_len,
                    zoo_cause cause);

/* zoo_tally.c */
void zoo_site_hits(zoo_seg *seg, uint64_t site, uint64_t n);
uint64_t zoo_span_clock(void);

/* zoo_stats.c: statistics only, so relaxed. */
static inline void zoo_count(zoo_seg *seg, zoo_stat which, uint64_t n)
{
    if (__builtin_expect(seg->forks != zoo_forks, 0))
        zoo_segment_forked(seg);
    zoo_add_relaxed(seg->stripe + which, n);
}

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

/* Where in its bucket a key goes if it can, and is looked for first. */
static inline unsigned zoo_index_first(uint64_t key_hash)
{
    return (unsigned)(key_hash >> 32) % ZOO_WAYS;
}

static inline unsigned zoo_word_log(uint64_t word)
{
    return (unsigned)(word >> ZOO_WORD_LOG_SHIFT);
}

static inline uint64_t zoo_pad8(uint64_t bytes)
{
    return (bytes + 7) & ~7ull;
}

/* Bytes before the value. */
static inline uint64_t zoo_rec_head(const struct zoo_rec *rec)
{
    return sizeof *rec + zoo_pad8(rec->key_len) + 8ull * rec->n_words;
}

/* All of it. */
static inline uint64_t zoo_rec_bytes(const struct zoo_rec *rec)
{
    return zoo_rec_head(rec) + zoo_pad8(rec->value_len);
}

static inline const char *zoo_rec_key(const struct zoo_rec *rec)
{
    return (const char *)(rec + 1);
}

static inline bool zoo_rec_is(const struct zoo_rec *rec, const char *key, size_t key_len)
{
    return rec->key_len == key_len && memcmp(zoo_rec_key(rec), key, key_len) == 0;
}

static inline const uint64_t *zoo_rec_deps(const struct zoo_rec *rec)
{
    /* The padding keeps the alignment of the record, which is 8 or more. */
    return (const uint64_t *)(const void *)(zoo_rec_key(rec) + zoo_pad8(rec->key_len));
}

/* One that says so, and has no word for it, is forged: it does not. */
static inline bool zoo_rec_expires(const struct zoo_rec *rec)
{
    return (rec->stamp & ZOO_STAMP_EXPIRES) != 0 && rec->n_words > 0;
}

/* All of it, if it is to expire: a touch must not make a record too long. */
static inline uint64_t zoo_rec_most(const struct zoo_rec *rec)
{
    return zoo_rec_bytes(rec) + (zoo_rec_expires(rec) ? 0 : ZOO_EXPIRY_BYTES);
}

static inline uint64_t zoo_rec_n_deps(const struct zoo_rec *rec)
{
    return (uint64_t)rec->n_words - zoo_rec_expires(rec);
}

/* CLOCK_BOOTTIME in ms, 0: never. */
static inline uint64_t zoo_rec_expiry(const struct zoo_rec *rec)
{
    return zoo_rec_expires(rec) ? zoo_rec_deps(rec)[rec->n_words - 1] : 0;
}

/* Of a private head, which has room for the word; 0: it does not expire. */
static inline void zoo_rec_set_expiry(struct zoo_rec *rec, uint64_t expiry)
{
    rec->n_words = (uint16_t)zoo_rec_n_deps(rec);
    rec->stamp &= ~ZOO_STAMP_EXPIRES;
    if (expiry == 0)
        return;
    memcpy((char *)rec + zoo_rec_head(rec), &expiry, ZOO_EXPIRY_BYTES);
    rec->n_words++;
    rec->stamp |= ZOO_STAMP_EXPIRES;
}

#endif
