/*
 * zoo_api.h - all that Python sees of the core through cffi.
 *
 * cffi reads this file as its cdef and every C source includes it, so a
 * prototype cannot drift. Comments, typedefs, enums and prototypes only: no
 * preprocessor. It is included once, by zoo_layout.h.
 */

typedef struct zoo_seg zoo_seg; /* one process's handle on a segment */

/* 0 is success, > 0 an outcome that callers expect, < 0 an error. */
typedef enum {
    ZOO_OK = 0,
    ZOO_MISS = 1,       /* no such key */
    ZOO_STALE = 2,      /* a tag of the entry was invalidated after its stamp */
    ZOO_EXPIRED = 3,    /* its time to live is over */
    ZOO_LAPPED = 4,     /* the log has overwritten the record */
    ZOO_MORE = 5,       /* the buffer is too small for the value */
    ZOO_BORN_DEAD = 6,  /* a fill that was invalidated before it was stored */
    ZOO_OLDER = 7,      /* a fill older than the entry that is there */
    ZOO_TOO_LARGE = 8,  /* the record is over zoo_max_record() or has too many tags */
    ZOO_CROWDED = 9,    /* lost every race for a place */
    ZOO_EXISTS = 10,    /* add: there is an entry already */
    ZOO_DIFFERS = 11,   /* compare-and-set: the value is another */
    ZOO_NO_NUMBER = 12, /* incr: the value is not a decimal number of 64 bits */
    ZOO_OVERFLOW = 13,  /* incr: the result would not fit 64 bits */
    ZOO_PENDING = 14,   /* a commit that is under way has announced a tag of the entry */
    ZOO_RETIRED = 15,   /* the segment has a successor, or has lost its name: open it again */
    ZOO_LED = 16,       /* another holds the flight */
    ZOO_FAILED = 17,    /* the flight's leader gave up without a value */
    ZOO_UNSTORED = 18,  /* the flight's leader has a value that could not be stored */
    ZOO_GRACE = 19,     /* expired, but not longer ago than the caller allows */
    ZOO_CORRUPT = 20,   /* the record fails its checksum */

    ZOO_E_ARGUMENT = -64,
    ZOO_E_KEY = -65,    /* empty, or longer than ZOO_MAX_KEY */
    ZOO_E_TAG = -66,    /* empty, or with an empty part */
    ZOO_E_MEMORY = -67, /* malloc failed */
    ZOO_E_SYSTEM = -68, /* a system call failed: see errno */
    ZOO_E_NO_SEGMENT = -69,
    ZOO_E_OWNER = -70,   /* the segment belongs to another user, or to a group that is not ours */
    ZOO_E_MODE = -71,    /* the segment is open to others than its user, or its group */
    ZOO_E_FORMAT = -72,  /* not a segment, or of another layout version */
    ZOO_E_GARBLED = -73, /* the header fails its checksum */
    ZOO_E_TRUNCATED = -74,
    ZOO_E_SPACE = -75,  /* no room in the shared-memory file system */
    ZOO_E_BUSY = -76,   /* the initialisation lock was not free in time */
    ZOO_E_SIZE = -77,   /* smaller than ZOO_MIN_SIZE */
    ZOO_E_OWNERS = -78, /* all owner slots are taken by living processes */
    ZOO_E_STICKY = -79, /* only the file's owner, or root, may replace or remove it */
} zoo_status;

enum {
    ZOO_MAX_KEY = 1024,
    ZOO_MAX_DEPS = 4095,
    ZOO_MIN_SIZE = 524288,
    ZOO_STATS = 32,
    ZOO_EVENT_TEXT = 24,
    ZOO_SESSION_BYTES = 64,
    ZOO_LANES = 64,     /* commits announced at once */
    ZOO_LANE_TAGS = 40, /* of one commit; more announce everything */
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
    ZOO_N_EVICTIONS = 11, /* live entries whose place in the index was taken */
    ZOO_N_DELETES = 12,
    ZOO_N_INVALIDATIONS = 13,
    ZOO_N_TAGS = 14, /* tags bumped by them */
    ZOO_N_CLEARS = 15,
    ZOO_N_PENDING = 16,    /* misses because of a commit under way */
    ZOO_N_PROMOTIONS = 17, /* records copied to the head of the main log */
    ZOO_N_GHOSTS = 18,     /* stores that went to the main log because of a ghost */
    ZOO_N_LED = 19,        /* flights: computations that others could wait for */
    ZOO_N_WAITED = 20,     /* flights: waits for another's computation */
    ZOO_N_OVERTAKEN = 21,  /* flights: leaders that were dead or late */
    ZOO_N_ANNOUNCED = 22,  /* intents: commits announced */
    ZOO_N_NO_LANE = 23,    /* intents: announcements that found no lane: all miss for a while */
    ZOO_N_REAPED = 24,     /* intents: lanes taken over from the dead */
    ZOO_N_COMPARED = 25,   /* hits that were compared with their source */
    ZOO_N_DIFFERED = 26,   /* those that were not what the source said */
    ZOO_N_LOCAL = 27,      /* hits of copies that a process keeps: not among ZOO_N_HITS */
} zoo_stat;

/* What zoo_check() found. Every field from `words_misplaced` on must be 0 at rest. */
typedef struct {
    uint64_t entries;         /* final words whose record verifies */
    uint64_t entry_bytes;     /* their records, in bytes */
    uint64_t words_dead;      /* final words whose record was lapped or scribbled over: harmless */
    uint64_t words_tentative; /* left by inserters that died: harmless */
    uint64_t lanes_taken;     /* commits under way, or in quarantine */
    uint64_t flights_taken;   /* computations under way, or given up by the dead */
    uint64_t words_misplaced; /* a record in a bucket that is not its key's */
    uint64_t keys_doubled;    /* two readable records of one key */
    uint64_t clocks_ahead;    /* a tag clock ahead of the segment's clock */
    uint64_t bits_leaked;     /* a pending bit without an active lane */
} zoo_report;

/*
 * A name is that of a segment of the effective user, or `<gid>/<name>`, in decimal,
 * for one that is shared by the group.
 *
 * Creates or attaches the segment. `size` in bytes counts only for a segment that
 * does not exist yet; 0 attaches and never creates. `wait_ms` bounds the wait for
 * another process's initialisation.
 */
int zoo_open(const char *name, uint64_t size, uint32_t wait_ms, zoo_seg **out);
/*
 * The same. `entry_size` counts like `size`: what an entry takes on average, in
 * bytes with its key, by which the index is sized; 0 where that is not known.
 */
int zoo_open_for(const char *name, uint64_t size, uint64_t entry_size, uint32_t wait_ms,
                 zoo_seg **out);
void zoo_close(zoo_seg *seg);
/* Retires the segment and removes its name: every process goes on with a new one. */
int zoo_unlink(const char *name);
/*
 * Replaces the segment by an empty one of `size` bytes. Every process that has
 * the old one gets ZOO_RETIRED and opens the new one. `wait_ms` bounds the wait
 * for commits that are under way.
 */
int zoo_resize(const char *name, uint64_t size, uint32_t wait_ms);
int zoo_resize_for(const char *name, uint64_t size, uint64_t entry_size, uint32_t wait_ms);
/*
 * Clears a segment of a newer layout, which this version cannot read: for
 * invalidations by processes that have not been restarted since an upgrade.
 */
int zoo_clear_foreign(const char *name);
/* ZOO_OK: the segment is of an older layout, and the next zoo_open() with a size replaces it. */
int zoo_outdated(const char *name);
/* Must this handle be opened again? Looks at the name, too: a system call. */
int zoo_retired(zoo_seg *seg);

uint64_t zoo_size(const zoo_seg *seg);       /* bytes */
uint64_t zoo_entry_size(const zoo_seg *seg); /* bytes, as given when it was made */
uint64_t zoo_max_record(const zoo_seg *seg); /* bytes; header, key, tags and expiry included */
/* Shifts what this handle takes for the time, in ms: tests of expiry need no sleep. */
void zoo_skew(zoo_seg *seg, int64_t ms);

/*
 * Copies the value of `key` into `value`, of `cap` bytes. Returns its length; or
 * a negated outcome (-ZOO_MISS, -ZOO_STALE, ...); or an error. With -ZOO_MORE,
 * *needed is the value's length.
 */
int64_t zoo_get(zoo_seg *seg, const char *key, size_t key_len, char *value, size_t cap,
                uint64_t *needed);

/* How a value is stored. */
typedef enum {
    ZOO_SET = 0,     /* new now, whatever is there */
    ZOO_FILL = 1,    /* computed from what was read after zoo_stamp() gave `stamp` */
    ZOO_ADD = 2,     /* new now, unless there is an entry */
    ZOO_REPLACE = 3, /* new now, if there is an entry */
} zoo_mode;

/*
 * Stores a value. `tags` are NUL-separated paths, expanded here to all their
 * prefixes; `deps` are n_deps further hashes of tags. `ttl_ms` 0 means no
 * expiry. `stamp` counts for ZOO_FILL only.
 */
int zoo_put(zoo_seg *seg, int mode, const char *key, size_t key_len, const char *value,
            size_t value_len, uint64_t ttl_ms, const char *tags, size_t tags_len, const char *deps,
            size_t n_deps, uint64_t stamp);
/*
 * These three change an entry in place: it keeps its tags and its stamp, so
 * that an invalidation which would have dropped it still does.
 */
int zoo_touch(zoo_seg *seg, const char *key, size_t key_len, uint64_t ttl_ms);
int zoo_incr(zoo_seg *seg, const char *key, size_t key_len, int64_t delta, int64_t *result);
int zoo_compare_and_set(zoo_seg *seg, const char *key, size_t key_len, const char *expected,
                        size_t expected_len, const char *value, size_t value_len);
/*
 * ZOO_OK, to one of many at a time; ZOO_MISS if there was nothing to be served. A fill
 * under way cannot bring it back.
 */
int zoo_delete(zoo_seg *seg, const char *key, size_t key_len);
/*
 * Writes keys of live entries into `buf`, each behind its length in two bytes,
 * and returns how many bytes were written. *cursor starts at 0 and ends at
 * UINT64_MAX. An entry that is there all the time is seen at least once. `cap`
 * must be 8,208 bytes or more.
 */
size_t zoo_keys(zoo_seg *seg, uint64_t *cursor, char *buf, size_t cap);

/* The clock now. Take it before reading what a fill is made from. 0: the segment is retired. */
uint64_t zoo_stamp(zoo_seg *seg);
/* What the clock would be by physical time alone: ZOO_STAMPS_PER_SECOND. */
uint64_t zoo_time(const zoo_seg *seg);
/* Makes stale every entry stored from before now that depends on one of the NUL-separated tags. */
int zoo_invalidate(zoo_seg *seg, const char *tags, size_t tags_len);
/* The same for every entry. */
int zoo_clear(zoo_seg *seg);
/* Moves the clock up to another host's; returns 0 if that is too far ahead to believe. */
int zoo_merge(zoo_seg *seg, uint64_t remote);

/*
 * Flights: one computation per key on the host. zoo_flight_claim() returns
 * ZOO_OK and a ticket to the leader, else ZOO_LED and what to wait for.
 * zoo_flight_wait() returns ZOO_LED after `wait_ms`, ZOO_OK when the leader has
 * stored a value, ZOO_UNSTORED when it could not; ZOO_FAILED when it gave up, or
 * is dead or late, or when the next flight is under way: look, and claim again.
 * zoo_flight_end() is given what became of the computation: one of these.
 */
int zoo_flight_claim(zoo_seg *seg, const char *key, size_t key_len, uint32_t lease_ms,
                     uint64_t *ticket);
int zoo_flight_wait(zoo_seg *seg, const char *key, size_t key_len, uint64_t ticket,
                    uint32_t wait_ms);
void zoo_flight_end(zoo_seg *seg, const char *key, size_t key_len, uint64_t ticket, int outcome);

/* What became of an announced commit. */
typedef enum {
    ZOO_COMMITTED = 0,
    ZOO_ROLLED_BACK = 1, /* for certain */
    ZOO_UNKNOWN = 2,     /* the connection broke: the tags stay announced for `quarantine_ms` */
} zoo_end;

/* A lane whose commit may still come though nobody waits for it. */
typedef struct {
    uint64_t ticket;
    uint64_t until_ms; /* CLOCK_BOOTTIME at which it is settled all the same */
    char session[64];  /* what the announcer called its database session; NUL-terminated */
} zoo_quarantine;

/*
 * Intents: zoo_announce() makes every entry that depends on one of the tags miss
 * until zoo_settle(); with NULL for the tags, every entry. `session` names the database session,
 * for whoever must find out what became of it. ZOO_CROWDED: no lane was free, and all entries miss
 * for `quarantine_ms`; the ticket is then 0 and settles nothing but tags that are given to
 * zoo_invalidate(). ZOO_RETIRED: announce in the successor too.
 */
int zoo_announce(zoo_seg *seg, const char *tags, size_t tags_len, const char *session,
                 uint32_t quarantine_ms, uint64_t *ticket);
int zoo_settle(zoo_seg *seg, uint64_t ticket, int end);
/* The same, with the tags that were announced, for the events: a lane has their hashes only. */
int zoo_settle_named(zoo_seg *seg, uint64_t ticket, int end, const char *tags, size_t tags_len);
/* Takes over the lanes of the dead and ends quarantines that are over. Returns how many changed. */
int zoo_reap(zoo_seg *seg);
/* The lanes in quarantine, at most n. */
int zoo_quarantined(zoo_seg *seg, zoo_quarantine *out, int n);
/* Ends a quarantine: the session is known to be gone. */
int zoo_resolve(zoo_seg *seg, uint64_t ticket);

/* Why an entry was dropped. */
typedef enum {
    ZOO_BY_INVALIDATE = 0,
    ZOO_BY_COMMIT = 1,
    ZOO_BY_DELETE = 2,
    ZOO_BY_FAILED_SET = 3,
    ZOO_BY_CLEAR = 4,
    ZOO_BY_REAPER = 5,
} zoo_cause;

/* One bumped tag. */
typedef struct {
    uint64_t number; /* counts all events of the segment */
    uint64_t clock;
    uint64_t tag;     /* its hash, as in an entry's dependencies; 0: everything */
    uint64_t when_ms; /* CLOCK_BOOTTIME, coarse */
    uint32_t pid;     /* in the pid namespace of the process that did it */
    uint32_t cause;   /* zoo_cause */
    char text[24];    /* the start of the tag; not terminated if it fills the room */
} zoo_event;

/* Copies the newest events from number `from` on, oldest first, at most n; returns how many. */
size_t zoo_events(zoo_seg *seg, uint64_t from, zoo_event *out, size_t n);
/* The hash of a tag, as events and dependencies have it. 0 if it is none. */
uint64_t zoo_hash_of_tag(zoo_seg *seg, const char *tag, size_t len);

/* What is known of an entry, fresh or not. */
typedef struct {
    uint64_t stamp;     /* when its computation began */
    uint64_t expiry_ms; /* CLOCK_BOOTTIME; 0: never */
    uint64_t value_len; /* in bytes */
    uint64_t n_deps;
    uint64_t key_tag; /* the tag that a delete of its key bumps */
} zoo_entry;

/*
 * What a get of the key would come to, without being counted, and what it would
 * judge by. Copies as many of the entry's dependency hashes as `cap` bytes take.
 */
int zoo_explain(zoo_seg *seg, const char *key, size_t key_len, zoo_entry *out, char *deps,
                size_t cap);
/* A clock that is at least that of the tag's last invalidation; of tag 0: of the last clear. */
uint64_t zoo_clock_of(zoo_seg *seg, uint64_t tag);

void zoo_stats(zoo_seg *seg, uint64_t *counters);
/* Counts a hit that was compared with its source. */
void zoo_note_compared(zoo_seg *seg, int differed);
/* Verifies a segment at rest. Returns the number of violations, or UINT64_MAX without memory. */
uint64_t zoo_check(zoo_seg *seg, zoo_report *report);

/*
 * What people look at. It is read while others go on, so that it is of the
 * moment and not of one moment; nothing is counted by it.
 */
enum {
    ZOO_CELLS = 64,       /* of the map of a log */
    ZOO_ASKED = 64,       /* samples of keys that were asked for */
    ZOO_MOST_PIDS = 1024, /* owners */
};

typedef struct {
    uint64_t buckets;        /* of the index: 8 words each */
    uint64_t tag_sets;       /* of the tag table: 7 tags each */
    uint64_t ring;           /* events that are kept */
    uint64_t log_size[2];    /* bytes: of probation, of the main log */
    uint64_t log_written[2]; /* bytes ever reserved in it */
    uint64_t clock;
    uint64_t root;          /* the clock of the last clear, or of the making */
    uint64_t active_lanes;  /* a mask: commits under way, or in quarantine */
    uint64_t miss_until_ms; /* CLOCK_BOOTTIME before which nobody hits; 0: no such time */
} zoo_shape;

/* Some buckets of the index, and where in the logs their records lie. */
typedef struct {
    uint64_t buckets;   /* looked at */
    uint64_t crowded;   /* those of them without an empty word */
    uint64_t tentative; /* words of insertions under way, or of inserters that died */
    uint64_t lost;      /* words whose record the log has run over, or that fail its checksum */
    uint64_t fresh, stale, expired, pending; /* entries */
    uint64_t fresh_bytes, other_bytes;       /* of their records */
    /* By log: 64 cells of equal size, in the order of their addresses. */
    uint64_t fresh_in[2][64], other_in[2][64];
} zoo_census;

void zoo_look(zoo_seg *seg, zoo_shape *out);
/* Adds to *out what is in the buckets first, first + step, ... */
void zoo_count_entries(zoo_seg *seg, uint64_t first, uint64_t step, zoo_census *out);
/* A key that was asked for. Another number than at the last look is another sample. */
typedef struct {
    uint64_t key_hash;
    uint64_t number;
} zoo_sample;

/* Copies ZOO_ASKED samples: each process notes one in some 48 of the keys that it asks for. */
void zoo_asked(zoo_seg *seg, zoo_sample *out);
/* The key with the hash, into `buf` of ZOO_MAX_KEY bytes; 0 if it is not in the index. */
size_t zoo_key_asked(zoo_seg *seg, uint64_t key_hash, char *buf);
/*
 * The processes that hold an owner slot: who has announced or led, and lives. A
 * pid is 0 where the process is in a pid namespace that this one does not see.
 */
int zoo_owner_pids(zoo_seg *seg, int32_t *pids, int n);

/*
 * Who reads through the cache, and what it costs: counters of the whole host by
 * *site*, which is a model or a function. See zoo_tally.c.
 */
enum {
    ZOO_SITE_TEXT = 112,   /* bytes of a site's text; the rest is cut */
    ZOO_SITE_COUNTS = 8,   /* zoo_site_count, and room for one more */
    ZOO_SPAN_BUCKETS = 62, /* two for each power of two of nanoseconds */
};
typedef enum {
    ZOO_S_HITS = 0,
    ZOO_S_MISSES = 1,
    ZOO_S_STORED = 2,
    ZOO_S_REFUSED = 3,  /* fills that were not stored */
    ZOO_S_BYPASSED = 4, /* reads that went around the cache */
    ZOO_S_BYTES = 5,    /* of values that were stored */
    ZOO_S_NS = 6,       /* what its misses cost, until they were stored */
} zoo_site_count;
typedef enum {
    ZOO_SPAN_GET = 0,  /* one in some 48 gets that hit: from the look to the copied value */
    ZOO_SPAN_FILL = 1, /* what zoo_span_note() is told of misses */
    ZOO_SPANS = 2,
} zoo_span;
typedef struct {
    uint64_t count[8];
    uint32_t text_len; /* 0: all those for which there was no place */
    char text[112];    /* not terminated */
} zoo_site_counts;

/* The number of the site with this text, in this segment; 0 if there is no place for it. */
int zoo_site(zoo_seg *seg, const char *text, size_t len);
/* Adds ZOO_SITE_COUNTS counts to the site's. */
void zoo_site_add(zoo_seg *seg, uint64_t site, const uint64_t *counts);
/* Copies sites from *cursor on, which starts at 0; returns how many, 0 at the end. */
size_t zoo_sites(zoo_seg *seg, uint64_t *cursor, zoo_site_counts *out, size_t n);
void zoo_span_note(zoo_seg *seg, int kind, uint64_t ns);
/* Copies ZOO_SPAN_BUCKETS counts; returns the sum of all spans, in ns. */
uint64_t zoo_spans(zoo_seg *seg, int kind, uint64_t *counts);
/* Spans of a bucket are shorter than so many ns; UINT64_MAX for the last one. */
uint64_t zoo_span_limit(unsigned bucket);

/* The address of the core's own functions, struct zoo_core, for python/zoo_door.c. */
uint64_t zoo_core(void);

/* Benchmarks: does nothing; does nothing with a get's arguments; `n` gets in a loop. */
void zoo_empty(void);
int64_t zoo_nothing(zoo_seg *seg, const char *key, size_t key_len);
uint64_t zoo_get_loop(zoo_seg *seg, const char *keys, size_t key_len, size_t n_keys, char *value,
                      size_t cap, size_t n);
