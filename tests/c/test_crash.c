/*
 * test_crash.c - kill -9 and SIGSTOP at every named point, and half-made segments.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const char *const data_points[] = {
    "set:before-publish", "set:reserved",        "log:before-write",     "log:after-write",
    "log:opened",         "log:copied",          "get:copied",           "promote:reserved",
    "modify:reserved",    "index:before-swap",   "index:before-replace", "index:tentative",
    "index:before-final", "index:before-remove", "bump:ticked",          "bump:raised",
    "tag:floor-raised",
};
enum { DATA_POINTS = sizeof data_points / sizeof *data_points };

struct doom {
    zoo_seg *seg;
    const char *point;
    unsigned count;
    action *act;
};

/* Passes every data point several times. */
static void use_everything(zoo_seg *seg)
{
    char tag[24];
    for (int i = 0; i < 3; i++) {
        set_text(seg, "key", "child", "a:b");
        set_text(seg, "key", "child", "a:b");
        fill_text(seg, "other", "child", "a:b", zoo_stamp(seg));
        ripen(seg);
        get_text(seg, "key");
        touch(seg, "key", 0);
        swap_text(seg, "key", "child", "child");
        put_text(seg, ZOO_REPLACE, "key", "child", "a:b");
        delete_key(seg, "key");
        put_text(seg, ZOO_ADD, "key", "child", "a:b");
    }
    for (int i = 0; i < 1500; i++) { /* fills every tag set, so that floors rise */
        snprintf(tag, sizeof tag, "t%d", i);
        invalidate(seg, tag);
    }
}

static void run_doomed(void *arg)
{
    struct doom *doom = arg;
    at_point_after(doom->point, doom->count, doom->act, NULL);
    use_everything(doom->seg);
    CHECK(point_passed());
}

/* The survivor uses the same keys, and is not held up. */
static void survive(zoo_seg *seg)
{
    uint64_t start = now_ms();
    int64_t number;
    const char *text = get_text(seg, "key");
    CHECK(text == NULL || strcmp(text, "child") == 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(set_text(seg, "key", "parent", "a:b"), ZOO_OK);
        CHECK(strcmp(get_text(seg, "key"), "parent") == 0);
        CHECK_EQ(invalidate(seg, "a"), ZOO_OK);
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(fill_text(seg, "key", "filled", "a:b", zoo_stamp(seg)), ZOO_OK);
        CHECK(strcmp(get_text(seg, "key"), "filled") == 0);
        CHECK_EQ(swap_text(seg, "key", "filled", "10"), ZOO_OK);
        CHECK_EQ(incr(seg, "key", -3, &number), ZOO_OK);
        CHECK_EQ(number, 7);
        CHECK_EQ(put_text(seg, ZOO_ADD, "key", "added", ""), ZOO_EXISTS);
        CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "replaced", ""), ZOO_OK);
        CHECK(strcmp(get_text(seg, "key"), "replaced") == 0);
        CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
        CHECK(get_text(seg, "key") == NULL);
    }
    CHECK(now_ms() - start < 5000);
    check_sound(seg);
}

static void killed_at_every_point(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < DATA_POINTS; i++) {
            struct doom doom = {seg, data_points[i], 1 + (unsigned)round % 3, die_hard};
            snprintf(context, sizeof context, "%s, passing %u", doom.point, doom.count);
            int status = in_child(run_doomed, &doom);
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it got there */
            survive(seg);
        }
    }
    zoo_close(seg);
}

/* A stopped worker holds nobody up, and does no harm when it wakes up two laps later. */
static void stopped_at_every_point(void)
{
    for (size_t i = 0; i < DATA_POINTS; i++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        struct doom doom = {seg, data_points[i], 1, stop_here};
        snprintf(context, sizeof context, "stopped at %s", doom.point);
        pid_t pid = stopped_child(run_doomed, &doom);
        survive(seg);
        lap(seg);
        lap(seg);
        survive(seg);
        CHECK_EQ(set_text(seg, "key", "parent", "unrelated"), ZOO_OK);
        wake(pid);
        const char *text = get_text(seg, "key");
        CHECK(text == NULL || strcmp(text, "parent") == 0 || strcmp(text, "child") == 0);
        survive(seg);
        zoo_close(seg);
    }
}

/* Tentative words of dead inserters in all slots of a bucket, of other keys and of the same. */
static void insert_and_die(void *arg)
{
    struct doom *doom = arg;
    at_point("index:before-final", die_hard, NULL);
    set_text(doom->seg, doom->point, "dead", "");
}

static void a_bucket_of_dead_inserters(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char twin[24];
    make_key_like(seg, "key", true, twin);
    for (int round = 0; round < 6; round++) {
        zoo_word *bucket = zoo_index_bucket(seg, zoo_key_hash(seg, "key", 3));
        for (int i = 0; i < 12; i++) {
            struct doom doom = {.seg = seg, .point = i % 3 ? "key" : twin};
            int status = in_child(insert_and_die, &doom);
            CHECK(WIFSIGNALED(status));
        }
        for (unsigned i = 0; i < ZOO_WAYS && round % 2; i++) { /* all eight, at the worst */
            uint64_t word = zoo_load_acquire(bucket + i);
            if (word == 0)
                zoo_store_relaxed(bucket + i, (zoo_key_hash(seg, "key", 3) >> 52)
                                                      << ZOO_WORD_FP_SHIFT |
                                                  ZOO_WORD_TENTATIVE | 1ull << 63 | (4096 + i));
        }
        survive(seg);
        CHECK_EQ(set_text(seg, twin, "twin", ""), ZOO_OK);
        CHECK(strcmp(get_text(seg, twin), "twin") == 0);
        CHECK_EQ(delete_key(seg, twin), ZOO_OK);
    }
    zoo_close(seg);
}

/* --- Segment creation --------------------------------------------------------------------- */

static void create_and(void *arg)
{
    struct doom *doom = arg;
    zoo_seg *seg;
    at_point(doom->point, doom->act, NULL);
    zoo_open(segment_name(), 1 << 20, 1000, &seg);
    CHECK(point_passed());
}

static const char *const creation_points[] = {"segment:allocated", "segment:before-ready"};

static void a_creator_that_dies_is_replaced(void)
{
    zoo_seg *seg;
    for (size_t i = 0; i < 4; i++) {
        struct doom doom = {.point = creation_points[i % 2], .act = die_hard};
        snprintf(context, sizeof context, "creator killed at %s", doom.point);
        zoo_unlink(segment_name());
        for (size_t deaths = 0; deaths <= i / 2; deaths++) {
            int status = in_child(create_and, &doom);
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            CHECK_EQ(zoo_open(segment_name(), 0, 100, &seg), ZOO_E_NO_SEGMENT);
        }
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 1000, &seg), ZOO_OK);
        CHECK_EQ(zoo_size(seg), ZOO_MIN_SIZE); /* made anew, in the new opener's size */
        survive(seg);
        zoo_close(seg);
    }
}

static void a_stopped_creator_does_not_hang_a_start(void)
{
    for (size_t i = 0; i < 2; i++) {
        struct doom doom = {.point = creation_points[i], .act = stop_here};
        zoo_seg *seg;
        zoo_unlink(segment_name());
        pid_t pid = stopped_child(create_and, &doom);
        uint64_t start = now_ms();
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 200, &seg), ZOO_E_BUSY);
        CHECK(now_ms() - start >= 190);
        CHECK(now_ms() - start < 3000);
        kill_unburied(pid);
        bury(pid);
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 200, &seg), ZOO_OK);
        survive(seg);
        zoo_close(seg);
    }
}

/* A mapping keeps its open file alive, and with it a lock that only close() would drop. */
static void a_creator_gives_the_lock_back(void)
{
    char object[200];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    snprintf(object, sizeof object, "/zoocache-%d-%s", (int)geteuid(), segment_name());
    int fd = shm_open(object, O_RDWR, 0);
    CHECK(fd >= 0);
    CHECK_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    zoo_close(seg);
}

static void open_and_set(void *unused)
{
    zoo_seg *seg;
    (void)unused;
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 5000, &seg), ZOO_OK);
    CHECK_EQ(set_text(seg, "key", "child", ""), ZOO_OK);
}

/* Many create at once and some are killed at it: the others share one segment. */
static void creators_are_killed_at_random(void)
{
    enum { ROUNDS = 150, CREATORS = 6, DOOMED = 3 };
    struct rng rng = rng_for(8);
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[CREATORS];
        zoo_seg *seg;
        snprintf(context, sizeof context, "round %d", round);
        zoo_unlink(segment_name());
        for (int i = 0; i < CREATORS; i++) {
            if ((pids[i] = fork_off()) == 0) {
                open_and_set(NULL);
                _exit(0);
            }
        }
        for (int i = 0; i < DOOMED; i++) {
            usleep((useconds_t)rng_below(&rng, 150));
            kill(pids[i], SIGKILL);
        }
        for (int i = 0; i < CREATORS; i++) {
            int status;
            CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
            CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                  (i < DOOMED && WIFSIGNALED(status)));
        }
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 0, &seg), ZOO_OK);
        CHECK(get_text(seg, "key") != NULL); /* somebody stored it, in this one segment */
        check_sound(seg);
        zoo_close(seg);
    }
}

static void fail_for_space(void *unused)
{
    zoo_seg *seg;
    (void)unused;
    CHECK_EQ(zoo_open(segment_name(), 1ull << 50, 1000, &seg), ZOO_E_SPACE);
}

static void make_whole(void *unused)
{
    zoo_seg *seg;
    (void)unused;
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 1000, &seg), ZOO_OK);
    zoo_close(seg);
}

/* Who attaches while somebody else makes the object again must not touch pages that are gone. */
static void attaching_survives_a_truncation(void)
{
    action *const acts[] = {fail_for_space, make_whole};
    for (size_t i = 0; i < 2; i++) {
        struct doom doom = {.point = "segment:before-ready", .act = die_hard};
        zoo_seg *seg;
        zoo_unlink(segment_name());
        CHECK(WIFSIGNALED(in_child(create_and, &doom)));
        at_point("segment:attaching", acts[i], NULL);
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 1000, &seg), ZOO_OK);
        CHECK(point_passed());
        survive(seg);
        zoo_close(seg);
    }
}

static void unlink_it(void *unused)
{
    (void)unused;
    CHECK_EQ(zoo_unlink(segment_name()), ZOO_OK);
}

/* Nobody is told. */
static void unlink_behind_all_backs(void *unused)
{
    char object[200];
    (void)unused;
    snprintf(object, sizeof object, "/zoocache-%d-%s", (int)geteuid(), segment_name());
    CHECK_EQ(shm_unlink(object), 0);
}

/* A name that is taken away before the lock is had: the object made must be the one named. */
static void a_name_removed_meanwhile_is_made_again(void)
{
    action *const acts[] = {unlink_it, unlink_behind_all_backs};
    for (size_t i = 0; i < 2; i++) {
        struct doom doom = {.point = "segment:before-ready", .act = die_hard};
        zoo_seg *seg, *other;
        zoo_unlink(segment_name());
        CHECK(WIFSIGNALED(in_child(create_and, &doom)));
        at_point("segment:attaching", acts[i], NULL);
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 1000, &seg), ZOO_OK);
        CHECK(point_passed());
        other = attach_again();
        CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
        CHECK(get_text(other, "key") != NULL);
        zoo_close(other);
        zoo_close(seg);
    }
}

static void sizes_and_names_are_checked(void)
{
    zoo_seg *seg;
    zoo_unlink(segment_name());
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE - 1, 100, &seg), ZOO_E_SIZE);
    CHECK_EQ(zoo_open(segment_name(), 0, 100, &seg), ZOO_E_NO_SEGMENT);
    CHECK_EQ(zoo_open("a/b", ZOO_MIN_SIZE, 100, &seg), ZOO_E_ARGUMENT);
    CHECK_EQ(zoo_unlink(segment_name()), ZOO_MISS);
    seg = fresh(ZOO_MIN_SIZE + 12345);
    CHECK_EQ(zoo_size(seg), ZOO_MIN_SIZE);
    zoo_close(seg);
    seg = fresh(5 << 20);
    CHECK_EQ(zoo_size(seg), 5 << 20);
    survive(seg);
    zoo_close(seg);
}

const struct suite crash_suites[] = {
    {"killed-everywhere", killed_at_every_point},
    {"stopped-everywhere", stopped_at_every_point},
    {"dead-inserters", a_bucket_of_dead_inserters},
    {"creator-dies", a_creator_that_dies_is_replaced},
    {"creator-stops", a_stopped_creator_does_not_hang_a_start},
    {"creator-unlocks", a_creator_gives_the_lock_back},
    {"creators-killed", creators_are_killed_at_random},
    {"creator-truncates", attaching_survives_a_truncation},
    {"name-removed", a_name_removed_meanwhile_is_made_again},
    {"sizes", sizes_and_names_are_checked},
    {NULL, NULL},
};
