/*
 * test_name.c - names that are lost behind everybody's back, and names that are in use.
 */
#include "retire.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void lose_name(void)
{
    CHECK_EQ(shm_unlink(object_name("")), 0);
}

enum drop { INVALIDATE, CLEAR, DELETE, ANNOUNCE, SETTLE, DROPS };

static int drop(zoo_seg *seg, enum drop how, uint64_t *ticket)
{
    switch (how) {
    case INVALIDATE:
        return invalidate(seg, "t");
    case CLEAR:
        return zoo_clear(seg);
    case DELETE:
        return delete_key(seg, "key");
    case ANNOUNCE:
        return zoo_announce(seg, "t", 1, "", 1000, ticket);
    default:
        return zoo_settle(seg, *ticket, ZOO_COMMITTED);
    }
}

/*
 * The process has looked at the link count a moment ago, whatever it did; still, what
 * it drops once another has opened the name anew is dropped there, too.
 */
static void what_is_dropped_after_a_name_was_lost_is_told(void)
{
    for (int round = 0; round < 4 * DROPS; round++) {
        enum drop how = (enum drop)(round % DROPS);
        uint64_t ticket = 0, none = 0;
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        snprintf(context, sizeof context, "drop %d", (int)how);
        if (how == SETTLE)
            CHECK_EQ(drop(seg, ANNOUNCE, &ticket), ZOO_OK);
        CHECK_EQ(invalidate(seg, "else"), ZOO_OK);
        if (round >= DROPS)
            CHECK(get_text(seg, "absent") == NULL);
        lose_name();
        zoo_seg *next = open_any();
        uint64_t stamp = zoo_stamp(next);
        CHECK_EQ(fill_text(next, "key", "old", "t", stamp), ZOO_OK);
        CHECK_EQ(drop(seg, how, &ticket), ZOO_RETIRED);
        is_over(seg);
        if (how != ANNOUNCE && how != SETTLE)
            drop(next, how, &none);
        zoo_close(seg);
        zoo_close(next);
    }
}

/* A look is good for a millisecond, since nobody makes another segment in less. */
static void a_segment_is_not_made_at_once(void)
{
    uint64_t least = UINT64_MAX;
    for (int round = 0; round < 20; round++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        zoo_close(seg);
        lose_name();
        uint64_t start = zoo_hlc_boot_ns();
        seg = open_any();
        uint64_t took = zoo_hlc_boot_ns() - start;
        least = took < least ? took : least;
        zoo_close(seg);
    }
    CHECK(least >= 1000000);
}

/* Nor is a look that was long ago: a process that does nothing but count finds out. */
static void a_counter_notices(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    int64_t number;
    CHECK_EQ(set_text(seg, "n", "1", ""), ZOO_OK);
    lose_name();
    seg->watch_ms = 0; /* instead of a second's wait */
    CHECK_EQ(incr(seg, "n", 1, &number), ZOO_RETIRED);
    is_over(seg);
    zoo_close(seg);
}

/* A handle that was opened with the last descriptor can still look. */
static void the_last_descriptor_will_do(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other;
    struct rlimit old, few;
    int fds[64], n = 0;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = 64;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < 64 && (fds[n] = dup(0)) >= 0)
        n++;
    CHECK(n > 1 && n < 64);
    close(fds[--n]);
    CHECK_EQ(zoo_open(segment_name(), 0, 100, &other), ZOO_OK);
    CHECK(dup(0) < 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    while (n > 0)
        close(fds[--n]);
    lose_name();
    CHECK(zoo_retired(other));
    is_over(seg);
    zoo_close(seg);
    zoo_close(other);
}

static void open_another(void *arg)
{
    zoo_seg **another = arg;
    lose_name();
    *another = open_any();
    CHECK_EQ(set_text(*another, "key", "5", "t"), ZOO_OK);
}

/* Removed while it is resized, and made anew by others: these must learn of the resize. */
static void a_resize_does_not_displace_another_segment(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *another = NULL;
    at_point("retire:retired", open_another, &another);
    CHECK_EQ(zoo_resize(segment_name(), 2 << 20, 0), ZOO_OK);
    CHECK(point_passed());
    CHECK_EQ(zoo_load_acquire(&another->hdr->state), ZOO_STATE_RETIRED); /* not by a look */
    is_over(seg);
    is_over(another);
    zoo_seg *next = open_any();
    CHECK_EQ(zoo_size(next), 2 << 20);
    works(next);
    zoo_close(seg);
    zoo_close(another);
    zoo_close(next);
}

static void forbid_room(void *unused)
{
    struct rlimit none = {0, 0};
    (void)unused;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
}

static void resize_without_room(void *unused)
{
    (void)unused;
    at_point("retire:retired", forbid_room, NULL);
    CHECK_EQ(zoo_resize(segment_name(), 2 << 20, 0), ZOO_OK);
    CHECK(point_passed());
}

/* Room is claimed before anything ends: what others take meanwhile cannot make it fail. */
static void a_successor_needs_no_room_once_the_old_one_is_retired(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(in_child(resize_without_room, NULL), 0);
    is_over(seg);
    zoo_seg *next = open_any();
    CHECK_EQ(zoo_size(next), 2 << 20);
    works(next);
    zoo_close(seg);
    zoo_close(next);
}

/* Its lock is held by somebody who hangs: it is removed all the same, and all see that at once. */
static void what_is_locked_is_unlinked(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    int fd = shm_open(object_name(""), O_RDWR, 0);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
    CHECK_EQ(zoo_unlink(segment_name()), ZOO_OK);
    CHECK_EQ(zoo_load_acquire(&seg->hdr->state), ZOO_STATE_RETIRED); /* not by a look */
    is_over(seg);
    close(fd);
    zoo_close(seg);
}

const struct suite name_suites[] = {
    {"lost-name-told", what_is_dropped_after_a_name_was_lost_is_told},
    {"not-made-at-once", a_segment_is_not_made_at_once},
    {"counter-notices", a_counter_notices},
    {"last-descriptor", the_last_descriptor_will_do},
    {"not-displaced", a_resize_does_not_displace_another_segment},
    {"no-room-needed", a_successor_needs_no_room_once_the_old_one_is_retired},
    {"unlink-locked", what_is_locked_is_unlinked},
    {NULL, NULL},
};
