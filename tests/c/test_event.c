/*
 * test_event.c - the ring of invalidations: what wraps, what is torn, who dies.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>

enum { MOST = 1 << 16 };
static zoo_event events[MOST];

static void note(zoo_seg *seg, uint64_t clock, const char *text)
{
    zoo_event_note(seg, clock, clock * 3, text, strlen(text), ZOO_BY_DELETE);
}

static void events_say_what_was(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(zoo_events(seg, 0, events, MOST), 0);
    uint64_t clock = zoo_hlc_tick(seg), now = zoo_hlc_now_ms(seg);
    zoo_event_note(seg, clock, 77, "short", 5, ZOO_BY_COMMIT);
    zoo_event_note(seg, clock, 78, "a text that does not fit the room", 33, ZOO_BY_REAPER);
    zoo_event_note(seg, clock, 0, NULL, 0, ZOO_BY_CLEAR);
    CHECK_EQ(zoo_events(seg, 0, events, MOST), 3);
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_EQ(events[i].number, i);
        CHECK_EQ(events[i].clock, clock);
        CHECK_EQ(events[i].pid, getpid());
        CHECK(events[i].when_ms + 1000 > now && events[i].when_ms <= now + 1);
    }
    CHECK_EQ(events[0].tag, 77);
    CHECK_EQ(events[0].cause, ZOO_BY_COMMIT);
    CHECK(memcmp(events[0].text, "short\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24) == 0);
    CHECK(memcmp(events[1].text, "a text that does not fit", 24) == 0);
    CHECK_EQ(events[1].cause, ZOO_BY_REAPER);
    CHECK_EQ(events[2].tag, 0);
    CHECK_EQ(zoo_events(seg, 2, events, MOST), 1);
    CHECK_EQ(events[0].number, 2);
    CHECK_EQ(zoo_events(seg, 0, events, 2), 2); /* the newest */
    CHECK_EQ(events[0].number, 1);
    CHECK_EQ(zoo_events(seg, 0, events, 0), 0);
    CHECK_EQ(zoo_events(seg, 3, events, MOST), 0);
    CHECK_EQ(zoo_events(seg, UINT64_MAX, events, MOST), 0);
    zoo_close(seg);
}

static void invalidations_are_events(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(invalidate(seg, "a:b c"), ZOO_OK);
    size_t n = zoo_events(seg, 0, events, MOST);
    CHECK_EQ(n, 2);
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(events[i].cause, ZOO_BY_INVALIDATE);
        found |= events[i].tag == zoo_hash_of_tag(seg, "a:b", 3);
    }
    CHECK(found);
    CHECK_EQ(zoo_clear(seg), ZOO_OK);
    CHECK_EQ(zoo_events(seg, n, events, MOST), 1);
    CHECK_EQ(events[0].cause, ZOO_BY_CLEAR);
    CHECK_EQ(events[0].tag, 0);
    zoo_close(seg);
}

/* A lane has hashes only; who settles it knows the texts. */
static void commits_are_events_with_names(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t ticket;
    const char tags[] = "shop:42\0a tag that is longer than its room";
    CHECK_EQ(zoo_announce(seg, tags, sizeof tags - 1, NULL, 0, &ticket), ZOO_OK);
    CHECK_EQ(zoo_settle_named(seg, ticket, ZOO_COMMITTED, tags, sizeof tags - 1), ZOO_OK);
    CHECK_EQ(zoo_announce(seg, "x", 1, NULL, 0, &ticket), ZOO_OK);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_OK); /* names are of one call */
    CHECK_EQ(zoo_announce(seg, "y", 1, NULL, 0, &ticket), ZOO_OK);
    CHECK_EQ(zoo_settle_named(seg, ticket, ZOO_COMMITTED, "z", 1), ZOO_OK); /* not its name */
    CHECK_EQ(zoo_events(seg, 0, events, MOST), 4);
    bool first = events[0].tag == zoo_hash_of_tag(seg, "shop:42", 7); /* in the hashes' order */
    CHECK(memcmp(events[first ? 0 : 1].text, "shop:42", 8) == 0);
    CHECK(memcmp(events[first ? 1 : 0].text, "a tag that is longer tha", 24) == 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(events[i].cause, ZOO_BY_COMMIT);
    CHECK_EQ(events[2].text[0], '\0');
    CHECK_EQ(events[3].text[0], '\0');
    zoo_close(seg);
}

/* Of more tags than a lane has room for, all is announced, and nothing has a name. */
static void a_commit_of_everything_has_no_name(void)
{
    char tags[8 * (ZOO_LANE_TAGS + 5)];
    size_t len = 0;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t ticket;
    for (int i = 0; i < ZOO_LANE_TAGS + 5; i++)
        len += (size_t)snprintf(tags + len, sizeof tags - len, "t%d", i) + 1;
    CHECK_EQ(zoo_announce(seg, tags, len - 1, NULL, 0, &ticket), ZOO_OK);
    CHECK_EQ(zoo_settle_named(seg, ticket, ZOO_COMMITTED, tags, len - 1), ZOO_OK);
    CHECK_EQ(zoo_events(seg, 0, events, MOST), 1);
    CHECK_EQ(events[0].tag, 0);
    CHECK_EQ(events[0].text[0], '\0');
    zoo_close(seg);
}

static void a_child_note(void *seg)
{
    note(seg, 5, "");
    CHECK_EQ(zoo_events(seg, 1, events, MOST), 1);
    CHECK_EQ(events[0].pid, getpid());
}

static void a_forked_child_has_its_own_pid(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    note(seg, 4, "");
    CHECK_EQ(in_child(a_child_note, seg), 0);
    CHECK_EQ(zoo_events(seg, 0, events, MOST), 2);
    CHECK_EQ(events[0].pid, getpid());
    CHECK(events[1].pid != events[0].pid);
    zoo_close(seg);
}

static void the_ring_wraps(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t size = seg->ring_mask + 1;
    CHECK(size <= MOST);
    for (uint64_t i = 0; i < 3 * size + 7; i++) {
        note(seg, i + 1, "x");
        if (i % 100 == 0) {
            CHECK_EQ(zoo_events(seg, i, events, MOST), 1);
            CHECK_EQ(events[0].clock, i + 1);
        }
    }
    CHECK_EQ(zoo_events(seg, 0, events, MOST), size);
    for (uint64_t i = 0; i < size; i++) {
        CHECK_EQ(events[i].number, 2 * size + 7 + i);
        CHECK_EQ(events[i].clock, events[i].number + 1);
    }
    CHECK_EQ(zoo_events(seg, 3 * size + 5, events, MOST), 2);
    zoo_close(seg);
}

static void a_whole_lap(void *arg)
{
    zoo_seg *seg = arg;
    for (uint64_t i = 0; i <= seg->ring_mask; i++)
        note(seg, 1000 + i, "lap");
}

/* Nothing that is made of two events is ever taken for one. */
static void all_are_whole(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(events[i].tag, events[i].clock * 3);
        CHECK(memcmp(events[i].text, events[i].clock >= 1000 ? "lap" : "slow", 4) == 0);
    }
}

static void a_slow_writer_is_lapped(void)
{
    static const char *const points[] = {"event:reserved", "event:half-written"};
    for (size_t i = 0; i < 2; i++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        uint64_t size = seg->ring_mask + 1;
        snprintf(context, sizeof context, "lapped at %s", points[i]);
        at_point(points[i], a_whole_lap, seg);
        note(seg, 7, "slow");
        CHECK(point_passed());
        size_t n = zoo_events(seg, 0, events, MOST);
        CHECK_EQ(n, size - 1); /* the one that was written over is lost */
        all_are_whole(n);
        a_whole_lap(seg);
        CHECK_EQ(zoo_events(seg, 0, events, MOST), size);
        zoo_close(seg);
    }
}

static void a_slow_reader_is_lapped(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (uint64_t i = 0; i < 10; i++)
        note(seg, 7, "slow");
    at_point("event:half-read", a_whole_lap, seg);
    size_t n = zoo_events(seg, 3, events, MOST);
    CHECK(point_passed());
    CHECK_EQ(n, 0); /* all seven are gone, and the first is not half of one */
    zoo_close(seg);
}

static void note_and_die(void *arg)
{
    void **given = arg;
    at_point(given[1], die_hard, NULL);
    note(given[0], 7, "slow");
}

static void a_writer_dies(void)
{
    static const char *const points[] = {"event:reserved", "event:half-written"};
    for (size_t i = 0; i < 2; i++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        void *given[] = {seg, (void *)(uintptr_t)points[i]};
        a_whole_lap(seg);
        int status = in_child(note_and_die, given);
        CHECK(WIFSIGNALED(status));
        note(seg, 8, "slow");
        size_t n = zoo_events(seg, 0, events, MOST);
        CHECK_EQ(n, seg->ring_mask);
        all_are_whole(n);
        CHECK_EQ(events[n - 1].clock, 8);
        zoo_close(seg);
    }
}

enum { WRITERS = 4 };
static zoo_seg *arena;
static zoo_word writing;

/* Every word of an event is made from one number. */
static void *write_events(void *arg)
{
    struct rng rng = rng_for((uint64_t)(uintptr_t)arg);
    for (int i = 0; i < 60000; i++) {
        uint64_t r = rng_next(&rng);
        uint64_t text[3] = {r ^ 1, r ^ 2, r ^ 3};
        zoo_event_note(arena, r, ~r, (const char *)text, 24, (zoo_cause)(r % 6));
    }
    zoo_add_seq_cst(&writing, UINT64_MAX);
    return NULL;
}

static uint64_t read_events(uint64_t *next)
{
    static zoo_event seen[8192];
    uint64_t text[3];
    size_t n = zoo_events(arena, *next, seen, 8192);
    for (size_t i = 0; i < n; i++) {
        uint64_t r = seen[i].clock;
        memcpy(text, seen[i].text, 24);
        CHECK(seen[i].number >= *next);
        *next = seen[i].number + 1;
        CHECK(seen[i].tag == ~r && seen[i].cause == r % 6);
        CHECK(text[0] == (r ^ 1) && text[1] == (r ^ 2) && text[2] == (r ^ 3));
    }
    return n;
}

static void threads_write_and_read(void)
{
    pthread_t thread[WRITERS];
    uint64_t next = 0, seen = 0;
    arena = fresh(ZOO_MIN_SIZE);
    zoo_store_relaxed(&writing, WRITERS);
    base_seed(); /* before there are threads */
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, write_events, (void *)(400 + i)), 0);
    while (zoo_load_acquire(&writing) > 0)
        seen += read_events(&next);
    for (int i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    seen += read_events(&next);
    CHECK_EQ(next, WRITERS * 60000);
    CHECK(seen > arena->ring_mask);
    zoo_close(arena);
}

static void processes_write_and_read(void)
{
    pid_t pid[WRITERS];
    uint64_t next = 0;
    arena = fresh(ZOO_MIN_SIZE);
    for (uintptr_t i = 0; i < WRITERS; i++) {
        pid[i] = fork_off();
        if (pid[i] == 0) {
            write_events((void *)(500 + i));
            _exit(0);
        }
    }
    for (int left = WRITERS; left > 0;) {
        int status;
        read_events(&next);
        pid_t ended = waitpid(-1, &status, WNOHANG);
        left -= ended > 0;
    }
    read_events(&next);
    CHECK_EQ(next, WRITERS * 60000);
    zoo_close(arena);
}

const struct suite event_suites[] = {
    {"event-says", events_say_what_was},
    {"event-invalidations", invalidations_are_events},
    {"event-names", commits_are_events_with_names},
    {"event-everything", a_commit_of_everything_has_no_name},
    {"event-pid", a_forked_child_has_its_own_pid},
    {"event-wraps", the_ring_wraps},
    {"event-slow-writer", a_slow_writer_is_lapped},
    {"event-slow-reader", a_slow_reader_is_lapped},
    {"event-dead-writer", a_writer_dies},
    {"event-threads", threads_write_and_read},
    {"event-processes", processes_write_and_read},
    {NULL, NULL},
};
