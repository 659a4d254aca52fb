/*
 * fuzz.c - see fuzz.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

/* Under AddressSanitizer an operation takes microseconds, and a look at all of a segment some ms.
 */
enum { OPERATION_MS = 250, LOOK_MS = 5000, BUFFER = 1 << 16, MOST_EVENTS = 64 };

uint64_t draw(struct input *in, size_t bytes)
{
    uint64_t value = 0;
    draw_bytes(in, &value, bytes);
    return value;
}

uint64_t draw_below(struct input *in, size_t bytes, uint64_t n)
{
    return draw(in, bytes) % n;
}

void draw_bytes(struct input *in, void *to, size_t n)
{
    size_t have = n < in->left ? n : in->left;
    memset(to, 0, n);
    if (have > 0)
        memcpy(to, in->at, have);
    in->at += have;
    in->left -= have;
}

void emit(struct output *out, uint64_t value, size_t bytes)
{
    emit_bytes(out, &value, bytes);
}

void emit_bytes(struct output *out, const void *from, size_t n)
{
    if (out->n + n > sizeof out->bytes)
        abort();
    memcpy(out->bytes + out->n, from, n);
    out->n += n;
}

const char *fuzz_name(void)
{
    static char name[100];
    const char *given = getenv("ZOO_FUZZ_NAME");
    if (given != NULL)
        return given;
    if (name[0] == '\0')
        snprintf(name, sizeof name, "fuzz-%d", (int)getpid());
    return name;
}

const char *fuzz_object(void)
{
    static char object[ZOO_NAME_BYTES];
    if (object[0] == '\0')
        snprintf(object, sizeof object, "/zoocache-%u-%s", (unsigned)geteuid(), fuzz_name());
    return object;
}

static struct timespec began;

void time_begins(void)
{
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
}

void time_ends(const char *what, uint64_t ms)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    int64_t took = (now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000;
    if (took >= (int64_t)ms) {
        fprintf(stderr, "%s took %lld ms\n", what, (long long)took);
        abort();
    }
}

size_t fuzz_key(unsigned n, char out[ZOO_MAX_KEY])
{
    static const size_t lengths[] = {1, 3, 7, 8, 9, 16, 40, 100, 500, ZOO_MAX_KEY};
    size_t len = lengths[n % (sizeof lengths / sizeof *lengths)];
    memset(out, 'a' + (int)(n % FUZZ_KEYS), len);
    return len;
}

static const char *const tag_lists[] = {"a", "a:b", "a:b:c", "b\0c:d", "a:b\0a:c\0d", "e:f:g:h"};
static const size_t tag_lengths[] = {1, 3, 5, 5, 9, 7};

static const char *draw_tags(struct input *in, size_t *len)
{
    size_t n = draw_below(in, 1, sizeof tag_lengths / sizeof *tag_lengths + 1);
    *len = n == 0 ? 0 : tag_lengths[n - 1];
    return n == 0 ? "" : tag_lists[n - 1];
}

/* Values: numbers, for incr, and bytes up to what no log takes. */
static size_t draw_value(struct input *in, char *to)
{
    uint64_t kind = draw(in, 2);
    if (kind % 4 == 0)
        return (size_t)snprintf(to, 24, "%lld", (long long)(int64_t)(kind << (kind % 50)));
    size_t len = kind % 4 == 1 ? kind % 64 : kind % BUFFER;
    memset(to, (int)kind, len);
    return len;
}

static void put(zoo_seg *seg, struct input *in, const char *key, size_t len, char *buffer)
{
    size_t tags_len, value_len;
    char deps[8 * 8];
    int mode = (int)draw_below(in, 1, 4);
    uint64_t ttl = draw_below(in, 1, 3) * 1000;
    const char *tags = draw_tags(in, &tags_len);
    size_t n_deps = draw_below(in, 1, 8);
    draw_bytes(in, deps, n_deps * 8);
    value_len = draw_value(in, buffer);
    uint64_t stamp = mode == ZOO_FILL && draw(in, 1) % 2 ? draw(in, 8) : zoo_stamp(seg);
    zoo_put(seg, mode, key, len, buffer, value_len, ttl, tags, tags_len, deps, n_deps, stamp);
}

/* The two halves of a get, as the Python extension calls them. */
static void find_and_take(zoo_seg *seg, const char *key, size_t len, uint64_t grace_ms)
{
    struct zoo_hit hit;
    if (zoo_find(seg, key, len, &hit) != ZOO_OK)
        return;
    char *value = malloc(hit.rec->value_len);
    if (value == NULL)
        zoo_log_close(&hit);
    else
        zoo_take(seg, &hit, value, grace_ms);
    free(value);
}

static void get(zoo_seg *seg, const char *key, size_t len, char *buffer, size_t cap)
{
    uint64_t needed = 0;
    int64_t got = zoo_get(seg, key, len, buffer, cap, &needed);
    if (got > (int64_t)cap || (got == -ZOO_MORE && needed > zoo_max_record(seg)))
        abort();
}

static uint64_t any_ticket; /* of the last announcement or claim in this input */

static void announce(zoo_seg *seg, struct input *in)
{
    size_t len;
    const char *tags = draw_tags(in, &len);
    zoo_announce(seg, tags, len, "session", (uint32_t)draw_below(in, 1, 3), &any_ticket);
}

static void announce_many(zoo_seg *seg)
{
    static char tags[ZOO_LANE_TAGS * 8];
    size_t len = 0;
    for (int i = 0; i <= ZOO_LANE_TAGS; i++)
        len += (size_t)snprintf(tags + len, sizeof tags - len, "t%d", i) + 1;
    zoo_announce(seg, tags, len - 1, NULL, 1, &any_ticket);
}

static void settle(zoo_seg *seg, struct input *in)
{
    int end = (int)draw_below(in, 1, 3);
    zoo_settle(seg, draw(in, 1) % 2 ? draw(in, 8) : any_ticket, end);
}

static void resolve(zoo_seg *seg, struct input *in)
{
    zoo_quarantine found[4];
    int n = zoo_quarantined(seg, found, 4);
    for (int i = 0; i < n; i++) {
        if (memchr(found[i].session, '\0', sizeof found[i].session) == NULL)
            abort();
    }
    zoo_resolve(seg, n > 0 && draw(in, 1) % 2 ? found[0].ticket : draw(in, 8));
}

static void keys(zoo_seg *seg, char *buffer)
{
    uint64_t cursor = 0;
    while (cursor != UINT64_MAX) {
        size_t n = zoo_keys(seg, &cursor, buffer, 8208);
        for (size_t at = 0; at < n;) {
            uint16_t len;
            memcpy(&len, buffer + at, sizeof len);
            if (len > ZOO_MAX_KEY || at + 2 + len > n)
                abort();
            at += 2u + len;
        }
    }
}

static void invalidate(zoo_seg *seg, struct input *in)
{
    size_t len;
    const char *tags = draw_tags(in, &len);
    zoo_invalidate(seg, tags, len);
}

static void compare_and_set(zoo_seg *seg, struct input *in, const char *key, size_t len,
                            char *buffer)
{
    size_t expected = draw_value(in, buffer);
    size_t desired = draw_below(in, 2, BUFFER);
    zoo_compare_and_set(seg, key, len, buffer, expected, buffer, desired);
}

static void events(zoo_seg *seg, struct input *in)
{
    zoo_event out[MOST_EVENTS];
    if (zoo_events(seg, draw(in, 2) % 4 ? draw(in, 2) : 0, out, MOST_EVENTS) > MOST_EVENTS)
        abort();
}

static void operate_on(zoo_seg *seg, struct input *in, const char *key, size_t len, char *buffer)
{
    int64_t number;
    uint64_t counters[ZOO_STATS];
    switch (draw_below(in, 1, FUZZ_OPERATIONS)) {
    default:
        get(seg, key, len, buffer, BUFFER);
        break;
    case 1:
        get(seg, key, len, buffer, draw_below(in, 1, 64));
        break;
    case 2:
        find_and_take(seg, key, len, draw_below(in, 1, 2) * 1000000);
        break;
    case 3:
    case 4:
    case 5:
        put(seg, in, key, len, buffer);
        break;
    case 6:
        zoo_touch(seg, key, len, draw_below(in, 1, 3) * 500);
        break;
    case 7:
        zoo_incr(seg, key, len, (int64_t)draw(in, 8), &number);
        break;
    case 8:
        compare_and_set(seg, in, key, len, buffer);
        break;
    case 9:
        zoo_delete(seg, key, len);
        break;
    case 10:
        invalidate(seg, in);
        break;
    case 11:
        zoo_clear(seg);
        break;
    case 12:
        zoo_merge(seg, draw(in, 8));
        break;
    case 13:
        zoo_flight_claim(seg, key, len, (uint32_t)draw(in, 4), &any_ticket);
        break;
    case 14:
        zoo_flight_wait(seg, key, len, draw(in, 1) % 2 ? draw(in, 8) | 1 : any_ticket, 1);
        break;
    case 15:
        zoo_flight_end(seg, key, len, any_ticket, (int)draw_below(in, 1, 20));
        break;
    case 16:
        announce(seg, in);
        break;
    case 17:
        announce_many(seg);
        break;
    case 18:
        settle(seg, in);
        break;
    case 19:
        zoo_reap(seg);
        break;
    case 20:
        resolve(seg, in);
        break;
    case 21:
        keys(seg, buffer);
        break;
    case 22:
        events(seg, in);
        break;
    case 23:
        zoo_stats(seg, counters);
        break;
    case 24:
        zoo_skew(seg, (int64_t)draw(in, 8));
        break;
    case 25:
        zoo_retired(seg);
        break;
    }
}

void operations_begin(void)
{
    any_ticket = 0;
}

void operate(zoo_seg *seg, struct input *in)
{
    static char buffer[BUFFER];
    char key[ZOO_MAX_KEY];
    size_t len = fuzz_key((unsigned)draw(in, 1), key);
    time_begins();
    operate_on(seg, in, key, len, buffer);
    time_ends("an operation", OPERATION_MS);
}

/* What people look at. */
static void look(zoo_seg *seg, char *buffer)
{
    static zoo_census census;
    zoo_shape shape;
    zoo_sample samples[ZOO_ASKED];
    int32_t pids[4];
    memset(&census, 0, sizeof census);
    zoo_look(seg, &shape);
    zoo_count_entries(seg, 0, 1, &census);
    if (census.buckets != shape.buckets || zoo_owner_pids(seg, pids, 4) > 4)
        abort();
    zoo_asked(seg, samples);
    for (size_t i = 0; i < ZOO_ASKED; i++) {
        if (zoo_key_asked(seg, samples[i].key_hash, buffer) > ZOO_MAX_KEY)
            abort();
    }
}

void look_at_all(zoo_seg *seg)
{
    static char buffer[8208];
    zoo_report report;
    uint64_t counters[ZOO_STATS];
    time_begins();
    zoo_check(seg, &report);
    zoo_stats(seg, counters);
    keys(seg, buffer);
    look(seg, buffer);
    zoo_reap(seg);
    time_ends("a look at the whole segment", LOOK_MS);
}

#if defined(ZOO_LIBFUZZER)
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    atexit(fuzz_end);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_one(data, size);
    return 0;
}
#endif
