/*
 * test_local.c - copies that a process keeps: each way in which an entry can end
 * is tried at each point of a look at a copy, and the look at each of its points.
 */
#include "harness.h"

enum { TAG, PREFIX, CLEAR, DELETE, ANNOUNCE, COMMIT, CROWD, RETIRE, ENDS };
static const char *const names[] = {"tag",      "prefix", "clear", "delete",
                                    "announce", "commit", "crowd", "retire"};

/* A copy of the key's entry, as a get finds it. */
static struct zoo_copy copy_of(zoo_seg *seg, const char *key)
{
    struct zoo_hit hit;
    char value[64];
    CHECK_EQ(zoo_find(seg, key, strlen(key), &hit), ZOO_OK);
    size_t n = zoo_rec_n_deps(hit.rec);
    struct zoo_copy copy = {.stamp = hit.rec->stamp & ZOO_CLOCK_MASK,
                            .expiry = zoo_rec_expiry(hit.rec),
                            .key_hash = zoo_local_hash(seg, key, strlen(key)),
                            .n_deps = n,
                            .deps = malloc(8 * n + 1)};
    memcpy(copy.deps, zoo_rec_deps(hit.rec), 8 * n);
    CHECK_EQ(zoo_take(seg, &hit, value, 0), ZOO_OK);
    return copy;
}

static bool serve(zoo_seg *seg, struct zoo_copy *copy)
{
    return zoo_local_quiet(seg, copy) || zoo_local_verify(seg, copy) == ZOO_OK;
}

struct end {
    zoo_seg *seg;
    struct zoo_copy *copy;
    int what;
    uint64_t ticket;
};

static void happen(void *arg)
{
    struct end *end = arg;
    uint64_t ticket;
    switch (end->what) {
    case TAG:
        CHECK_EQ(invalidate(end->seg, "other t"), ZOO_OK);
        break;
    case PREFIX:
        CHECK_EQ(invalidate(end->seg, "a"), ZOO_OK);
        break;
    case CLEAR:
        CHECK_EQ(zoo_clear(end->seg), ZOO_OK);
        break;
    case DELETE:
        delete_key(end->seg, "key");
        break;
    case ANNOUNCE:
        CHECK_EQ(zoo_announce(end->seg, "t", 1, "", 0, &end->ticket), ZOO_OK);
        break;
    case COMMIT:
        CHECK_EQ(zoo_announce(end->seg, "t", 1, "", 0, &ticket), ZOO_OK);
        CHECK_EQ(zoo_settle(end->seg, ticket, ZOO_COMMITTED), ZOO_OK);
        break;
    case CROWD:
        CHECK_EQ(zoo_announce(end->seg, NULL, 0, "", 0, &end->ticket), ZOO_OK);
        break;
    default:
        zoo_retire_end(end->seg);
    }
}

static void look(void *arg)
{
    struct end *end = arg;
    serve(end->seg, end->copy);
}

/* Served while nothing has happened, whatever happens to others; and then never again. */
static void try_at(int what, const char *point, bool inside)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    snprintf(context, sizeof context, "%s, %s %s", names[what], point,
             inside ? "inside the look" : "of the end");
    CHECK_EQ(fill_text(seg, "key", "value", "t a:b", zoo_stamp(seg)), ZOO_OK);
    struct zoo_copy copy = copy_of(seg, "key");
    struct end end = {seg, &copy, what, 0};
    CHECK(serve(seg, &copy));
    CHECK(zoo_local_quiet(seg, &copy));
    CHECK_EQ(invalidate(seg, "unrelated"), ZOO_OK);
    CHECK(!zoo_local_quiet(seg, &copy));
    if (inside) {
        at_point(point, happen, &end);
        serve(seg, &copy);
        CHECK(point_passed());
    } else {
        CHECK(serve(seg, &copy));
        at_point(point, look, &end);
        happen(&end);
        point_passed(); /* many ends do not pass many points */
    }
    CHECK(!serve(seg, &copy));
    CHECK(!serve(seg, &copy));
    if (what == ANNOUNCE || what == CROWD) {
        CHECK_EQ(zoo_settle(seg, end.ticket, ZOO_ROLLED_BACK), ZOO_OK);
        CHECK(serve(seg, &copy)); /* it was never stale */
    }
    free(copy.deps);
    zoo_close(seg);
}

static void copies_end_with_their_entries(void)
{
    static const char *const of_ends[] = {
        "bump:ticked",      "bump:raised",        "tag:floor-raised",    "intent:taken",
        "intent:written",   "intent:counted",     "intent:active",       "intent:bit-set",
        "intent:announced", "intent:settling",    "intent:ticked",       "intent:raised",
        "intent:bumped",    "intent:bit-cleared", "intent:bits-cleared", "retire:clock-stopped"};
    for (int what = 0; what < ENDS; what++) {
        try_at(what, "local:looked", true);
        for (size_t i = 0; i < sizeof of_ends / sizeof *of_ends; i++)
            try_at(what, of_ends[i], false);
    }
}

/* Nothing is raised when time passes. */
static void copies_expire(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct zoo_deps deps;
    zoo_deps_start(&deps);
    CHECK_EQ(zoo_store(seg, ZOO_FILL, "key", 3, "value", 5, 1000, &deps, zoo_stamp(seg)), ZOO_OK);
    zoo_deps_free(&deps);
    struct zoo_copy copy = copy_of(seg, "key");
    CHECK(serve(seg, &copy));
    CHECK(serve(seg, &copy));
    zoo_skew(seg, 999);
    CHECK(serve(seg, &copy));
    zoo_skew(seg, 1001);
    CHECK(!serve(seg, &copy));
    free(copy.deps);
    zoo_close(seg);
}

/* It is counted, in lots. */
static void hits_of_copies_are_counted(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_local_count(seg, 64);
    zoo_local_count(seg, 0);
    zoo_local_count(seg, 3);
    CHECK_EQ(counter(seg, ZOO_N_LOCAL), 67);
    zoo_close(seg);
}

const struct suite local_suites[] = {{"local-ends", copies_end_with_their_entries},
                                     {"local-expiry", copies_expire},
                                     {"local-counts", hits_of_copies_are_counted},
                                     {NULL, NULL}};
