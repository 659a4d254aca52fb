/*
 * test_retire.c - the end of a segment by a new size: what a handle on the old one
 * still does, and others at work in it.
 */
#include "retire.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

const char *object_name(const char *suffix)
{
    static char name[200];
    snprintf(name, sizeof name, "/zoocache-%lu-%s%s", (unsigned long)geteuid(), segment_name(),
             suffix);
    return name;
}

bool exists(const char *object)
{
    int fd = shm_open(object, O_RDONLY, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

zoo_seg *open_any(void)
{
    zoo_seg *seg;
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 5000, &seg), ZOO_OK);
    return seg;
}

void is_over(zoo_seg *seg)
{
    uint64_t ticket;
    int64_t number;
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_RETIRED);
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_RETIRED);
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "v", ""), ZOO_RETIRED);
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "v", ""), ZOO_RETIRED);
    CHECK_EQ(incr(seg, "key", 1, &number), ZOO_RETIRED);
    CHECK_EQ(touch(seg, "key", 0), ZOO_RETIRED);
    CHECK_EQ(swap_text(seg, "key", "5", "v"), ZOO_RETIRED);
    CHECK_EQ(delete_key(seg, "key"), ZOO_RETIRED);
    CHECK_EQ(invalidate(seg, "t"), ZOO_RETIRED);
    CHECK_EQ(zoo_clear(seg), ZOO_RETIRED);
    CHECK_EQ(zoo_stamp(seg), 0);
    CHECK_EQ(zoo_announce(seg, "t", 1, "", 1, &ticket), ZOO_RETIRED);
    CHECK(zoo_retired(seg));
    CHECK(get_text(seg, "key") == NULL);
}

void works(zoo_seg *seg)
{
    CHECK(!zoo_retired(seg));
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_MISS);
    CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "5") == 0);
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
    check_sound(seg);
}

static void a_resize_makes_a_successor(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE - 1, 100), ZOO_E_SIZE);
    CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "5") == 0);
    CHECK_EQ(zoo_resize(segment_name(), 2 << 20, 100), ZOO_OK);
    is_over(seg);
    zoo_seg *next = open_any();
    CHECK_EQ(zoo_size(next), 2 << 20);
    works(next);
    is_over(seg);
    zoo_close(seg);
    zoo_close(next);
    zoo_unlink(segment_name());
    CHECK_EQ(zoo_resize(segment_name(), 2 << 20, 100), ZOO_E_NO_SEGMENT);
}

/* A hit looks at no more than the clock and the root: they must be at the end of time. */
static void nothing_hits_in_a_retired_segment(void)
{
    for (int ticks = 0; ticks <= 1; ticks++) { /* by the clock alone, or by the tags */
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
        if (ticks)
            zoo_hlc_tick(seg);
        CHECK(get_text(seg, "key") != NULL);
        CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE, 0), ZOO_OK);
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(zoo_load_acquire(&seg->hdr->clock), ZOO_CLOCK_MASK);
        CHECK_EQ(zoo_load_acquire(&seg->hdr->root), ZOO_CLOCK_MASK);
        CHECK_EQ(zoo_merge(seg, 5), 1); /* and stay there */
        zoo_hlc_tick(seg);
        CHECK_EQ(zoo_load_acquire(&seg->hdr->clock), ZOO_CLOCK_MASK);
        zoo_close(seg);
    }
}

/* Stamps of the old segment are not good in the new one, even of a clock that ran ahead. */
static void a_successor_knows_old_stamps(void)
{
    for (int ahead = 0; ahead <= 1; ahead++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        if (ahead)
            CHECK_EQ(zoo_merge(seg, zoo_stamp(seg) + 5000000), 1);
        uint64_t stamp = zoo_hlc_tick(seg);
        CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE, 0), ZOO_OK);
        zoo_seg *next = open_any();
        CHECK(zoo_stamp(next) > stamp);
        CHECK_EQ(fill_text(next, "key", "old", "t", stamp), ZOO_BORN_DEAD);
        CHECK(get_text(next, "key") == NULL);
        zoo_hlc_tick(next);
        CHECK_EQ(fill_text(next, "key", "old", "t", stamp), ZOO_BORN_DEAD);
        CHECK_EQ(fill_text(next, "key", "new", "t", zoo_stamp(next)), ZOO_OK);
        zoo_close(seg);
        zoo_close(next);
    }
}

/* --- While others are at work --------------------------------------------------------------- */

enum { WORKERS = 3, ROWS = 4 };
struct shared {
    zoo_word stop, row[ROWS], acked[ROWS], reopened, hits, gets[WORKERS];
};
struct worker {
    struct shared *shared;
    zoo_seg *seg;
    uint64_t who;
};

static void reopen(struct worker *worker)
{
    zoo_close(worker->seg);
    worker->seg = open_any();
    zoo_add_seq_cst(&worker->shared->reopened, 1);
}

static void write_row(struct worker *worker, uint64_t row)
{
    char tag[8];
    uint64_t version = zoo_add_seq_cst(&worker->shared->row[row], 1) + 1;
    snprintf(tag, sizeof tag, "r%d", (int)row);
    while (invalidate(worker->seg, tag) == ZOO_RETIRED) /* in the successor, too */
        reopen(worker);
    zoo_max_release(&worker->shared->acked[row], version);
}

static void fill_row(struct worker *worker, uint64_t row, const char *key)
{
    char tag[8], text[24];
    uint64_t stamp = zoo_stamp(worker->seg);
    if (stamp == 0) {
        reopen(worker);
        return;
    }
    snprintf(tag, sizeof tag, "r%d", (int)row);
    snprintf(text, sizeof text, "%d", (int)zoo_load_acquire(&worker->shared->row[row]));
    if (fill_text(worker->seg, key, text, tag, stamp) == ZOO_RETIRED)
        reopen(worker);
}

static void work(void *arg)
{
    struct worker *worker = arg;
    struct rng rng = rng_for(300 + worker->who);
    while (!zoo_load_acquire(&worker->shared->stop)) {
        char key[8];
        uint64_t row = rng_below(&rng, ROWS), kind = rng_below(&rng, 16);
        snprintf(key, sizeof key, "k%d", (int)row);
        if (kind == 0) {
            write_row(worker, row);
        } else if (kind < 6) {
            fill_row(worker, row, key);
        } else {
            uint64_t least = zoo_load_acquire(&worker->shared->acked[row]);
            const char *text = get_text(worker->seg, key);
            CHECK(text == NULL || strtoull(text, NULL, 10) >= least);
            zoo_add_relaxed(&worker->shared->hits, text != NULL);
            if (got == -ZOO_RETIRED)
                reopen(worker);
        }
        zoo_add_relaxed(&worker->shared->gets[worker->who], 1);
    }
    zoo_close(worker->seg);
}

static void resized_while_others_work(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct shared *shared = (struct shared *)(void *)shared_words(sizeof *shared / 8);
    struct rng rng = rng_for(22);
    pid_t pids[WORKERS];
    for (uint64_t i = 0; i < WORKERS; i++) {
        struct worker worker = {shared, seg, i};
        if ((pids[i] = fork_off()) == 0) {
            worker.seg = open_any();
            work(&worker);
            _exit(0);
        }
    }
    for (int i = 0; i < 60; i++) {
        usleep((useconds_t)rng_below(&rng, 30000));
        if (i % 3 == 0) /* everybody opens what nobody has made yet */
            CHECK_EQ(zoo_unlink(segment_name()), ZOO_OK);
        else
            CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE + rng_below(&rng, 4 << 20), 100),
                     ZOO_OK);
        for (int ms = 0; ms < 5000 && !exists(object_name("")); ms++)
            usleep(1000);
    }
    zoo_store_release(&shared->stop, 1);
    for (uint64_t i = 0; i < WORKERS; i++) {
        int status;
        CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(zoo_load_acquire(&shared->gets[i]) > 1000);
    }
    printf("   %d hits, opened again %d times\n", (int)zoo_load_acquire(&shared->hits),
           (int)zoo_load_acquire(&shared->reopened));
    CHECK(zoo_load_acquire(&shared->reopened) > 100);
    CHECK(zoo_load_acquire(&shared->hits) > 1000);
    zoo_close(seg);
    seg = open_any();
    check_sound(seg);
    zoo_close(seg);
}

static void resize_now(void *unused)
{
    (void)unused;
    CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE, 0), ZOO_OK);
}

/* Inside each operation: what it leaves behind in the old segment is not served. */
static void retired_inside_every_operation(void)
{
    static const char *const points[] = {
        "log:opened",          "log:copied",      "get:copied",         "promote:reserved",
        "modify:reserved",     "set:reserved",    "log:before-write",   "log:after-write",
        "index:before-swap",   "index:tentative", "index:before-final", "index:before-replace",
        "index:before-remove", "bump:ticked",     "bump:raised",        "set:before-publish"};
    int passed = 0;
    for (size_t p = 0; p < sizeof points / sizeof *points; p++) {
        for (int what = 0; what < 18; what++) {
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            int64_t number;
            snprintf(context, sizeof context, "%s, operation %d", points[p], what);
            if (what % 2 == 0)
                CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
            ripen(seg);
            uint64_t stamp = zoo_stamp(seg);
            int outcome = ZOO_OK;
            at_point(points[p], resize_now, NULL);
            switch (what / 2) {
            case 0:
                get_text(seg, "key");
                break;
            case 1:
                set_text(seg, "key", "6", "t");
                break;
            case 2:
                fill_text(seg, "key", "6", "t", stamp);
                break;
            case 3:
                put_text(seg, ZOO_ADD, "key", "6", "t");
                break;
            case 4:
                put_text(seg, ZOO_REPLACE, "key", "6", "t");
                break;
            case 5:
                incr(seg, "key", 1, &number);
                break;
            case 6:
                touch(seg, "key", 0);
                break;
            case 7:
                outcome = delete_key(seg, "key");
                break;
            default:
                outcome = invalidate(seg, "t");
            }
            if (point_passed()) {
                passed++;
                CHECK(what / 2 < 7 || outcome == ZOO_RETIRED); /* or the successor is not told */
                is_over(seg);
            }
            zoo_close(seg);
        }
    }
    CHECK(passed > 60);
}

/* --- Announced commits ------------------------------------------------------------------------ */

struct commit {
    zoo_seg *seg;
    uint64_t ticket;
};

static void settle_it(void *arg)
{
    struct commit *commit = arg;
    CHECK_EQ(zoo_settle(commit->seg, commit->ticket, ZOO_COMMITTED), ZOO_RETIRED);
}

/* A successor waits for them, or else nobody hits in it for a while. */
static void announced_commits_hold_a_successor_up(void)
{
    for (int settled = 0; settled <= 1; settled++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        struct commit commit = {.seg = seg};
        CHECK_EQ(zoo_announce(seg, "t", 1, "", 1000, &commit.ticket), ZOO_OK);
        if (settled)
            at_point("retire:retired", settle_it, &commit);
        uint64_t start = now_ms();
        CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE, 60), ZOO_OK);
        CHECK(settled ? point_passed() : now_ms() - start >= 50);
        zoo_seg *next = open_any();
        if (settled) {
            works(next);
        } else {
            CHECK_EQ(fill_text(next, "key", "old", "t", zoo_stamp(next)), ZOO_OK);
            CHECK(get_text(next, "key") == NULL);
            CHECK_EQ(got, -ZOO_PENDING);
            zoo_skew(next, 50000);
            CHECK(get_text(next, "key") == NULL);
            /* What was filled meanwhile may be from before a COMMIT that came late. */
            zoo_skew(next, 70000);
            CHECK(get_text(next, "key") == NULL);
            CHECK_EQ(got, -ZOO_STALE);
            CHECK_EQ(fill_text(next, "key", "new", "t", zoo_stamp(next)), ZOO_OK);
            CHECK(get_text(next, "key") != NULL);
        }
        zoo_close(seg);
        zoo_close(next);
    }
}

/* Nobody hits in the successor for as long as the announcer has asked for. */
static void a_long_quarantine_lasts_in_the_successor(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t tickets[2];
    CHECK_EQ(zoo_announce(seg, "t", 1, "", 600000, &tickets[0]), ZOO_OK);
    CHECK_EQ(zoo_announce(seg, "t", 1, "", 1000, &tickets[1]), ZOO_OK);
    CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE, 0), ZOO_OK);
    zoo_seg *next = open_any();
    CHECK_EQ(set_text(next, "key", "5", "t"), ZOO_OK);
    zoo_skew(next, 590000);
    CHECK(get_text(next, "key") == NULL);
    CHECK_EQ(got, -ZOO_PENDING);
    zoo_skew(next, 610000);
    CHECK(get_text(next, "key") == NULL);
    CHECK_EQ(got, -ZOO_STALE);
    CHECK_EQ(set_text(next, "key", "6", "t"), ZOO_OK);
    CHECK(get_text(next, "key") != NULL);
    zoo_close(seg);
    zoo_close(next);
}

const struct suite retire_suites[] = {
    {"resize", a_resize_makes_a_successor},
    {"retired-no-hits", nothing_hits_in_a_retired_segment},
    {"retired-stamps", a_successor_knows_old_stamps},
    {"resize-at-work", resized_while_others_work},
    {"retired-inside", retired_inside_every_operation},
    {"resize-announced", announced_commits_hold_a_successor_up},
    {"resize-quarantine", a_long_quarantine_lasts_in_the_successor},
    {NULL, NULL},
};
