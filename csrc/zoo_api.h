/*
 * zoo_api.h - all that Python sees of the core.
 *
 * cffi reads this file as its cdef and every C source includes it, so a
 * prototype cannot drift. Comments, typedefs, enums and prototypes only: no
 * preprocessor. It is included once, by zoo_layout.h.
 */

typedef struct zoo_seg zoo_seg;       /* one process's handle on a segment */
typedef struct zoo_reader zoo_reader; /* a private buffer that one thread's gets copy into */

/* 0 is success, > 0 an outcome that callers expect, < 0 an error. */
typedef enum {
    ZOO_OK = 0,
    ZOO_MISS = 1,      /* no such key */
    ZOO_STALE = 2,     /* a tag of the entry was invalidated after its stamp */
    ZOO_EXPIRED = 3,   /* its time to live is over */
    ZOO_LAPPED = 4,    /* the log has overwritten the record */
    ZOO_MORE = 5,      /* the buffer is too small for the record */
    ZOO_BORN_DEAD = 6, /* a fill that was invalidated before it was stored */
    ZOO_OLDER = 7,     /* a fill older than the entry that is there */
    ZOO_TOO_LARGE = 8, /* the record is over zoo_max_record() or has too many tags */
    ZOO_CROWDED = 9,   /* lost every race for a place in the bucket */
    ZOO_FOREIGN = 10,  /* the reader belongs to another thread */

    ZOO_E_ARGUMENT = -64,
    ZOO_E_KEY = -65,    /* empty, or longer than ZOO_MAX_KEY */
    ZOO_E_TAG = -66,    /* empty, or with an empty part */
    ZOO_E_MEMORY = -67, /* malloc failed */
    ZOO_E_SYSTEM = -68, /* a system call failed: see errno */
    ZOO_E_NO_SEGMENT = -69,
    ZOO_E_OWNER = -70,   /* the segment belongs to another user */
    ZOO_E_MODE = -71,    /* the segment is open to other users */
    ZOO_E_FORMAT = -72,  /* not a segment, or of another layout version */
    ZOO_E_GARBLED = -73, /* the header fails its checksum */
    ZOO_E_TRUNCATED = -74,
    ZOO_E_SPACE = -75, /* no room in the shared-memory file system */
    ZOO_E_BUSY = -76,  /* the initialisation lock was not free in time */
    ZOO_E_SIZE = -77,  /* smaller than ZOO_MIN_SIZE */
} zoo_status;

enum {
    ZOO_MAX_KEY = 1024,
    ZOO_MAX_DEPS = 4095,
    ZOO_MIN_SIZE = 262144,
    ZOO_STATS = 16,
};

/* Indexes into the array that zoo_stats() fills. */
typedef enum {
    ZOO_N_HITS = 0,
    ZOO_N_ABSENT = 1,
    ZOO_N_STALE = 2,
    ZOO_N_EXPIRED = 3,
    ZOO_N_LAPPED = 4,
    ZOO_N_CORRUPT = 5, /* records or words that failed verification */
    ZOO_N_SETS = 6,
    ZOO_N_BORN_DEAD = 7,
    ZOO_N_OLDER = 8,
    ZOO_N_TOO_LARGE = 9,
    ZOO_N_CROWDED = 10,
    ZOO_N_EVICTIONS = 11,
    ZOO_N_DELETES = 12,
    ZOO_N_INVALIDATIONS = 13,
    ZOO_N_TAGS = 14, /* tags bumped by them */
    ZOO_N_CLEARS = 15,
} zoo_stat;

/* What zoo_check() found. Every field from `words_misplaced` on must be 0 at rest. */
typedef struct {
    uint64_t entries;         /* final words whose record verifies */
    uint64_t words_dead;      /* final words whose record was lapped or scribbled over: harmless */
    uint64_t words_tentative; /* left by inserters that died: harmless */
    uint64_t words_misplaced; /* a record in a bucket that is not its key's */
    uint64_t keys_doubled;    /* two readable records of one key */
    uint64_t clocks_ahead;    /* a tag clock ahead of the segment's clock */
} zoo_report;

/*
 * Creates or attaches the segment `name` of the effective user. `size` in bytes
 * counts only for a segment that does not exist yet; 0 attaches and never
 * creates. `wait_ms` bounds the wait for another process's initialisation.
 */
int zoo_open(const char *name, uint64_t size, uint32_t wait_ms, zoo_seg **out);
void zoo_close(zoo_seg *seg);
/* Removes the name; processes that have it mapped keep it. */
int zoo_unlink(const char *name);

uint64_t zoo_size(const zoo_seg *seg);       /* bytes */
uint64_t zoo_max_record(const zoo_seg *seg); /* bytes, header and key included */
/* Shifts what this handle takes for the time, in ms: tests of expiry need no sleep. */
void zoo_skew(zoo_seg *seg, int64_t ms);

/*
 * A reader with room for records of `cap` bytes; NULL without memory. With
 * `bound`, the first thread that uses it keeps it and all others get
 * ZOO_FOREIGN, so that what it holds after a get cannot change under its owner.
 */
zoo_reader *zoo_reader_new(zoo_seg *seg, size_t cap, int bound);
void zoo_reader_free(zoo_reader *reader);
/* Where the value of the last get lies. Constant for a reader. */
const char *zoo_reader_value(const zoo_reader *reader);
/* The dependency hashes of the last get that returned a value: *n words of 8 bytes. */
const char *zoo_reader_deps(const zoo_reader *reader, size_t *n);

/*
 * Copies the record of `key` into the reader and verifies it. Returns the
 * length of the value; or a negated outcome (-ZOO_MISS, -ZOO_STALE, ...); or an
 * error.
 */
int64_t zoo_get(zoo_reader *reader, const char *key, size_t key_len);

/*
 * Stores a value. `tags` are NUL-separated paths, expanded here to all their
 * prefixes; `deps` are n_deps further hashes from zoo_reader_deps(). `ttl_ms` 0
 * means no expiry. `stamp` is what zoo_stamp() said before the value's
 * computation began (a fill), or 0 for a value that is new now.
 */
int zoo_set(zoo_seg *seg, const char *key, size_t key_len, const char *value, size_t value_len,
            uint64_t ttl_ms, const char *tags, size_t tags_len, const char *deps, size_t n_deps,
            uint64_t stamp);
/* ZOO_OK, or ZOO_MISS if the key was not there. */
int zoo_delete(zoo_seg *seg, const char *key, size_t key_len);

/* The clock now. Take it before reading what a fill is made from. Never 0. */
uint64_t zoo_stamp(zoo_seg *seg);
/* Makes stale every entry stored from before now that depends on one of the NUL-separated tags. */
int zoo_invalidate(zoo_seg *seg, const char *tags, size_t tags_len);
/* The same for every entry. */
void zoo_clear(zoo_seg *seg);
/* Moves the clock up to another host's; returns 0 if that is too far ahead to believe. */
int zoo_merge(zoo_seg *seg, uint64_t remote);

void zoo_stats(zoo_seg *seg, uint64_t *counters);
/* Verifies a segment at rest. Returns the number of violations, or UINT64_MAX without memory. */
uint64_t zoo_check(zoo_seg *seg, zoo_report *report);

/* Do nothing: the floors of every benchmark. */
int64_t zoo_nothing(zoo_reader *reader, const char *key, size_t key_len);
void zoo_empty(void);
