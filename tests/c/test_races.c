/*
 * test_races.c - interleavings forced by hand: one operation is stopped at a
 * named point, and others run to their end inside it.
 */
#include "harness.h"

static const char *const fill_points[] = {"set:before-publish", "set:reserved",
                                          "log:before-write",   "log:after-write",
                                          "index:tentative",    "index:before-final"};
static const char *const replace_points[] = {"set:before-publish", "set:reserved",
                                             "log:before-write", "log:after-write",
                                             "index:before-replace"};

/* The old record is half a lap behind: half a lap more kills it and nothing newer. */
static void set_old(zoo_seg *seg, const char *key)
{
    CHECK_EQ(set_text(seg, key, "old", ""), ZOO_OK);
    ripen(seg);
}

static void lap_old_and_set(void *seg)
{
    half_a_lap(seg);
    CHECK_EQ(set_text(seg, "key", "theirs", ""), ZOO_OK);
}

/* A lapped word is not dead while somebody can still CAS it. */
static void a_lapped_word_cannot_be_replaced(void)
{
    for (int round = 0; round < 40; round++) { /* the victim slot is random: meet all of them */
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        set_old(seg, "key");
        at_point("index:before-replace", lap_old_and_set, seg);
        CHECK_EQ(set_text(seg, "key", "mine", ""), ZOO_OK);
        CHECK(point_passed());
        CHECK(strcmp(get_text(seg, "key"), "mine") == 0);
        check_sound(seg);
        zoo_close(seg);
    }
}

static void a_lapped_word_cannot_be_deleted_twice(void)
{
    for (int round = 0; round < 40; round++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        set_old(seg, "key");
        at_point("index:before-remove", lap_old_and_set, seg);
        int outcome = delete_key(seg, "key");
        CHECK(point_passed());
        const char *left =
            get_text(seg, "key"); /* the set ran inside the delete: both orders are right */
        CHECK(left == NULL || (outcome == ZOO_MISS && strcmp(left, "theirs") == 0) ||
              got == -ZOO_STALE);
        check_sound(seg);
        zoo_close(seg);
    }
}

static void set_theirs(void *seg)
{
    CHECK_EQ(set_text(seg, "key", "theirs", ""), ZOO_OK);
}

/* A is stopped in the middle of its insertion and B does the whole of its own. */
static void two_inserters_make_one_word(void)
{
    for (size_t p = 0; p < 6; p++) {
        for (int round = 0; round < 20; round++) {
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            snprintf(context, sizeof context, "at %s", fill_points[p]);
            at_point(fill_points[p], set_theirs, seg);
            CHECK_EQ(set_text(seg, "key", "mine", ""), ZOO_OK);
            CHECK(point_passed());
            CHECK(strcmp(get_text(seg, "key"), "mine") == 0);
            check_sound(seg);
            zoo_close(seg);
        }
    }
}

/*
 * The word of another key of the same fingerprint dies between two inserters' looks: to one
 * it is another key's, to the other a ghost. A ghost that was replaced in one step, without a
 * look at the others, would make a second word beside the first one's.
 */
static void a_ghost_is_no_shortcut(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_word *bucket = zoo_index_bucket(seg, zoo_key_hash(seg, "key", 3));
    char twin[24];
    make_key_like(seg, "key", true, twin);
    for (int round = 0; round < 40; round++) { /* the victim slot is random: meet all of them */
        for (unsigned i = 0; i < ZOO_WAYS; i++)
            zoo_store_relaxed(bucket + i, 0);
        set_old(seg, twin);
        at_point("index:before-final", lap_old_and_set, seg);
        CHECK_EQ(set_text(seg, "key", "mine", ""), ZOO_OK);
        CHECK(point_passed());
        CHECK(strcmp(get_text(seg, "key"), "mine") == 0);
        check_sound(seg);
        CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
        CHECK(get_text(seg, "key") == NULL);
    }
    zoo_close(seg);
}

static void take_its_place(void *seg)
{
    const struct zoo_log *log = &((zoo_seg *)seg)->log[ZOO_LOG_PROBATION];
    lap(seg);
    move_log(log, zoo_load_acquire(log->head) - sizeof(struct zoo_rec) - 16);
    CHECK_EQ(set_text(seg, "other", "theirs", ""), ZOO_OK); /* as long, where "key" was to go */
}

/* A writer that wakes up a lap later looks before it writes. */
static void a_stalled_writer_does_not_scribble(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    at_point("log:before-write", take_its_place, seg);
    CHECK_EQ(set_text(seg, "key", "mine", ""), ZOO_OK);
    CHECK(point_passed());
    CHECK(get_text(seg, "other") != NULL && strcmp(get_text(seg, "other"), "theirs") == 0);
    CHECK(get_text(seg, "key") != NULL && strcmp(get_text(seg, "key"), "mine") == 0);
    check_sound(seg);
    zoo_close(seg);
}

struct cause {
    const char *name;
    zoo_seg *seg;
};

static void happen(void *arg)
{
    struct cause *cause = arg;
    if (strcmp(cause->name, "tag") == 0)
        CHECK_EQ(invalidate(cause->seg, "a:b"), ZOO_OK);
    else if (strcmp(cause->name, "prefix") == 0)
        CHECK_EQ(invalidate(cause->seg, "x a"), ZOO_OK);
    else if (strcmp(cause->name, "clear") == 0)
        zoo_clear(cause->seg);
    else
        delete_key(cause->seg, "key");
}

static void a_fill_overtaken_is_never_served(void)
{
    static const char *const causes[] = {"tag", "prefix", "clear", "delete"};
    for (int replaces = 0; replaces <= 1; replaces++) {
        const char *const *points = replaces ? replace_points : fill_points;
        for (size_t c = 0; c < 4; c++) {
            for (size_t p = 0; p < (replaces ? 5u : 6u); p++) {
                zoo_seg *seg = fresh(ZOO_MIN_SIZE);
                struct cause cause = {causes[c], seg};
                snprintf(context, sizeof context, "%s at %s", causes[c], points[p]);
                if (replaces)
                    CHECK_EQ(fill_text(seg, "key", "before", "a:b", zoo_stamp(seg)), ZOO_OK);
                uint64_t stamp = zoo_stamp(seg);
                at_point(points[p], happen, &cause);
                fill_text(seg, "key", "old row", "a:b", stamp);
                CHECK(point_passed());
                CHECK(get_text(seg, "key") == NULL);
                check_sound(seg);
                zoo_close(seg);
            }
        }
    }
}

static void fill_newer(void *seg)
{
    CHECK_EQ(invalidate(seg, "unrelated"), ZOO_OK); /* the clock goes on */
    CHECK_EQ(fill_text(seg, "key", "newer", "a", zoo_stamp(seg)), ZOO_OK);
}

/* Of two fills the one with the newer stamp stays, wherever the older one paused. */
static void an_older_fill_never_wins(void)
{
    for (int replaces = 0; replaces <= 1; replaces++) {
        const char *const *points = replaces ? replace_points : fill_points;
        for (size_t p = 0; p < (replaces ? 5u : 6u); p++) {
            for (int round = 0; round < 10; round++) {
                zoo_seg *seg = fresh(ZOO_MIN_SIZE);
                snprintf(context, sizeof context, "at %s", points[p]);
                if (replaces)
                    CHECK_EQ(fill_text(seg, "key", "before", "a", zoo_stamp(seg)), ZOO_OK);
                uint64_t stamp = zoo_stamp(seg);
                at_point(points[p], fill_newer, seg);
                CHECK_EQ(fill_text(seg, "key", "older", "a", stamp), ZOO_OLDER);
                CHECK(point_passed());
                CHECK(strcmp(get_text(seg, "key"), "newer") == 0);
                check_sound(seg);
                zoo_close(seg);
            }
        }
    }
}

/* A bump that folds X into the floor while somebody reads X, raises X, or folds
 * too. */
static void fold_more(void *seg)
{
    for (uint64_t i = 20; i < 40; i++)
        zoo_tag_raise(seg, i << 48, zoo_hlc_tick(seg));
}

static void a_fold_loses_no_clock(void)
{
    for (int again = 0; again <= 1; again++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        uint64_t clocks[ZOO_WAYS + 1];
        for (uint64_t i = 1; i <= ZOO_WAYS; i++) {
            clocks[i] = zoo_hlc_tick(seg);
            if (i == ZOO_WAYS)
                at_point("tag:floor-raised", fold_more, seg);
            zoo_tag_raise(seg, i << 48, clocks[i]);
        }
        CHECK(point_passed());
        for (uint64_t i = 1; i <= ZOO_WAYS; i++)
            CHECK(zoo_tag_clock(seg, i << 48) >= clocks[i]);
        zoo_close(seg);
    }
}

const struct suite race_suites[] = {
    {"race-replace-lapped", a_lapped_word_cannot_be_replaced},
    {"race-delete-lapped", a_lapped_word_cannot_be_deleted_twice},
    {"race-two-inserters", two_inserters_make_one_word},
    {"race-ghost", a_ghost_is_no_shortcut},
    {"race-stalled-writer", a_stalled_writer_does_not_scribble},
    {"race-overtaken-fill", a_fill_overtaken_is_never_served},
    {"race-older-fill", an_older_fill_never_wins},
    {"race-fold", a_fold_loses_no_clock},
    {NULL, NULL},
};
