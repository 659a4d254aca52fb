/*
 * test_overtaken.c - one change is stopped at each of its points, and something
 * is dropped, stored or promoted inside it.
 */
#include "harness.h"

enum { TOUCH, INCR, SWAP, ADD, REPLACE, PROMOTE, CHANGES };
static const char *const names[] = {"touch", "incr", "swap", "add", "replace", "promote"};
static const char *const points[] = {
    "log:opened",        "log:copied",      "get:copied",         "promote:reserved",
    "modify:reserved",   "set:reserved",    "log:before-write",   "log:after-write",
    "index:before-swap", "index:tentative", "index:before-final", "index:before-replace",
    "set:before-publish"};
enum { POINTS = sizeof points / sizeof *points };

static int change(zoo_seg *seg, int what)
{
    int64_t number;
    switch (what) {
    case TOUCH:
        return touch(seg, "key", 3600000);
    case INCR:
        return incr(seg, "key", 1, &number);
    case SWAP:
        return swap_text(seg, "key", "5", "6");
    case ADD:
        return put_text(seg, ZOO_ADD, "key", "7", "t");
    case REPLACE:
        return put_text(seg, ZOO_REPLACE, "key", "8", "t");
    default:
        get_text(seg, "key");
        return ZOO_OK;
    }
}

struct event {
    zoo_seg *seg;
    int what;
};
enum { TAG, PREFIX, CLEAR, DELETE, COMMIT, DROPS, SET = DROPS, FILL, LAPS, OTHERS };

static void happen(void *arg)
{
    struct event *event = arg;
    uint64_t ticket;
    switch (event->what) {
    case TAG:
        CHECK_EQ(invalidate(event->seg, "t"), ZOO_OK);
        break;
    case PREFIX:
        CHECK_EQ(invalidate(event->seg, "x a"), ZOO_OK);
        break;
    case CLEAR:
        zoo_clear(event->seg);
        break;
    case DELETE:
        delete_key(event->seg, "key");
        break;
    case COMMIT:
        CHECK_EQ(zoo_announce(event->seg, "t", 1, "", 1000, &ticket), ZOO_OK);
        CHECK_EQ(zoo_settle(event->seg, ticket, ZOO_COMMITTED), ZOO_OK);
        break;
    case SET:
        CHECK_EQ(set_text(event->seg, "key", "50", "t a:b"), ZOO_OK);
        break;
    case FILL:
        zoo_hlc_tick(event->seg);
        CHECK_EQ(fill_text(event->seg, "key", "60", "t a:b", zoo_stamp(event->seg)), ZOO_OK);
        break;
    default:
        lap(event->seg);
    }
}

/* What is there before: nothing, an entry in probation or in main, or a ghost. */
static void prepare(zoo_seg *seg, int before)
{
    if (before > 0)
        CHECK_EQ(set_text(seg, "key", "5", "t a:b"), ZOO_OK);
    if (before > 1)
        promote_key(seg, "key");
    ripen(seg);
}

static void lap_and_change(void *arg)
{
    struct event *event = arg;
    lap_log(event->seg, ZOO_LOG_PROBATION);
    CHECK_EQ(change(event->seg, event->what), ZOO_MISS);
}

/* A record is lapped while a hit copies it to main: who found nothing has found nothing. */
static void what_was_not_there_does_not_come_back(void)
{
    static const int whats[] = {TOUCH, INCR, SWAP, REPLACE};
    for (size_t i = 0; i < sizeof whats / sizeof *whats; i++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        struct event event = {seg, whats[i]};
        snprintf(context, sizeof context, "%s", names[whats[i]]);
        prepare(seg, 1);
        at_point("index:before-swap", lap_and_change, &event);
        get_text(seg, "key");
        CHECK(point_passed());
        CHECK(get_text(seg, "key") == NULL);
        check_sound(seg);
        zoo_close(seg);
    }
}

/* Whatever was dropped while a change ran is not there afterwards. */
static void nothing_dropped_comes_back(void)
{
    int passed = 0;
    for (int what = 0; what < CHANGES; what++) {
        for (int cause = 0; cause < DROPS; cause++) {
            for (size_t p = 0; p < POINTS; p++) {
                for (int before = 0; before <= 2; before++) {
                    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
                    struct event event = {seg, cause};
                    snprintf(context, sizeof context, "%s, %s, cause %d, before %d", names[what],
                             points[p], cause, before);
                    prepare(seg, before);
                    at_point(points[p], happen, &event);
                    int outcome = change(seg, what);
                    if (point_passed()) {
                        const char *left = get_text(seg, "key");
                        passed++;
                        bool other_tags = cause == PREFIX && (what == ADD || what == REPLACE);
                        CHECK(left == NULL || other_tags);
                        CHECK(what != ADD || outcome != ZOO_OK || before == 0 || other_tags);
                    }
                    check_sound(seg);
                    zoo_close(seg);
                }
            }
        }
    }
    CHECK(passed > 250);
}

/* A change starts again when the entry is stored anew inside it, and takes nothing back. */
static void what_was_stored_meanwhile_stays(void)
{
    int passed = 0;
    for (int what = 0; what < CHANGES; what++) {
        for (int other = SET; other < OTHERS; other++) {
            for (size_t p = 0; p < POINTS; p++) {
                for (int before = 1; before <= 2; before++) {
                    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
                    struct event event = {seg, other};
                    snprintf(context, sizeof context, "%s, %s, other %d, before %d", names[what],
                             points[p], other, before);
                    prepare(seg, before);
                    at_point(points[p], happen, &event);
                    int outcome = change(seg, what);
                    if (point_passed()) {
                        const char *left = get_text(seg, "key");
                        int now = left == NULL ? 0 : atoi(left);
                        int theirs = other == SET ? 50 : other == FILL ? 60 : 0;
                        passed++;
                        bool mine = outcome == ZOO_OK &&
                                    ((what == INCR && (now == 6 || now == theirs + 1)) ||
                                     (what == SWAP && now == 6) || (what == ADD && now == 7) ||
                                     (what == REPLACE && now == 8));
                        bool kept = other == LAPS && now == 5; /* copied before the lap */
                        CHECK(now == theirs || mine || kept);
                        if (other != LAPS && now == 6) /* theirs was lost */
                            CHECK(what == INCR && strcmp(points[p], "none") == 0);
                    }
                    check_sound(seg);
                    zoo_close(seg);
                }
            }
        }
    }
    CHECK(passed > 100);
}

static void unlock(void *seg)
{
    delete_key(seg, "lock");
}

static void lock_and_unlock(void *seg)
{
    int outcome = put_text(seg, ZOO_ADD, "lock", "theirs", "t");
    CHECK(outcome == ZOO_OK || outcome == ZOO_EXISTS);
    unlock(seg);
}

static void drop_t(void *seg)
{
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
}

/* A replacement is stamped when it begins: what its tags lose afterwards, it loses too. */
static void a_replacement_is_as_old_as_its_start(void)
{
    static const char *const inside[] = {"set:before-publish", "log:opened",
                                         "modify:reserved",    "log:before-write",
                                         "log:after-write",    "index:before-swap"};
    for (size_t p = 0; p < 6; p++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        snprintf(context, sizeof context, "%s", inside[p]);
        CHECK_EQ(set_text(seg, "key", "5", "other"), ZOO_OK);
        at_point(inside[p], drop_t, seg);
        CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "8", "t"), ZOO_OK);
        CHECK(point_passed());
        CHECK(get_text(seg, "key") == NULL);
        zoo_close(seg);
    }
}

/* A lock is given back inside another's add: if that one has it now, nobody else has. */
static void an_add_that_wins_has_won(void)
{
    action *const acts[] = {unlock, lock_and_unlock};
    int passed = 0;
    for (size_t p = 0; p < POINTS; p++) {
        for (int before = 0; before <= 5; before++) { /* none, in probation, in main */
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            snprintf(context, sizeof context, "%s, before %d", points[p], before);
            if (before > 1)
                CHECK_EQ(put_text(seg, ZOO_ADD, "lock", "first", "t"), ZOO_OK);
            if (before > 3)
                promote_key(seg, "lock");
            at_point(points[p], acts[before % 2], seg);
            int outcome = put_text(seg, ZOO_ADD, "lock", "second", "t");
            if (point_passed()) {
                passed++;
                CHECK(outcome == ZOO_OK || outcome == ZOO_EXISTS || outcome == ZOO_BORN_DEAD);
                CHECK_EQ(put_text(seg, ZOO_ADD, "lock", "third", "t"),
                         outcome == ZOO_OK ? ZOO_EXISTS : ZOO_OK);
                CHECK(strcmp(get_text(seg, "lock"), outcome == ZOO_OK ? "second" : "third") == 0);
            }
            check_sound(seg);
            zoo_close(seg);
        }
    }
    CHECK(passed >= 14);
}

static void add_second(void *seg)
{
    CHECK_EQ(put_text(seg, ZOO_ADD, "lock", "second", "t"), ZOO_OK);
}

/* An add inside a delete, once the entry is stale: the delete must leave it alone. */
static void a_delete_takes_only_what_was_there(void)
{
    static const char *const inside[] = {"bump:raised", "index:before-remove"};
    for (size_t p = 0; p < 2; p++) {
        for (int promoted = 0; promoted <= 1; promoted++) {
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            snprintf(context, sizeof context, "%s", inside[p]);
            CHECK_EQ(put_text(seg, ZOO_ADD, "lock", "first", "t"), ZOO_OK);
            if (promoted)
                promote_key(seg, "lock");
            at_point(inside[p], add_second, seg);
            delete_key(seg, "lock");
            CHECK(point_passed());
            const char *text = get_text(seg, "lock");
            CHECK(text != NULL && strcmp(text, "second") == 0);
            CHECK_EQ(put_text(seg, ZOO_ADD, "lock", "third", "t"), ZOO_EXISTS);
            check_sound(seg);
            zoo_close(seg);
        }
    }
}

const struct suite overtaken_suites[] = {
    {"overtaken-absent", what_was_not_there_does_not_come_back},
    {"overtaken-drop", nothing_dropped_comes_back},
    {"overtaken-store", what_was_stored_meanwhile_stays},
    {"overtaken-replace", a_replacement_is_as_old_as_its_start},
    {"overtaken-add", an_add_that_wins_has_won},
    {"overtaken-delete", a_delete_takes_only_what_was_there},
    {NULL, NULL},
};
