/*
 * test_intent.c - commits announced: settled, given up, killed, stopped and
 * reaped at every point, by one reaper and by two at once.
 *
 * A test's own handle lives in the present; `later` is the same process's handle
 * whose time is past all quarantines.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>

enum { QUARANTINE = 30000, LATER = 100000 };

static int announce(zoo_seg *seg, const char *tags, uint64_t *ticket)
{
    char packed[256];
    size_t len = strlen(tags);
    for (size_t i = 0; i <= len; i++)
        packed[i] = tags[i] == ' ' ? '\0' : tags[i];
    return zoo_announce(seg, packed, len, "pid 7 of a database", QUARANTINE, ticket);
}

static uint64_t announced(zoo_seg *seg, const char *tags)
{
    uint64_t ticket;
    CHECK_EQ(announce(seg, tags, &ticket), ZOO_OK);
    CHECK(ticket != 0);
    return ticket;
}

static uint64_t counted(zoo_seg *seg, zoo_stat which)
{
    uint64_t counters[ZOO_STATS];
    zoo_stats(seg, counters);
    return counters[which];
}

static int look(zoo_seg *seg, const char *key)
{
    return get_text(seg, key) != NULL ? ZOO_OK : (int)-got;
}

/* No lane is taken and no bit is set. */
static void check_rest(zoo_seg *seg)
{
    zoo_report report;
    check_sound(seg);
    zoo_check(seg, &report);
    CHECK_EQ(report.lanes_taken, 0);
    CHECK_EQ(zoo_load_acquire(&seg->hdr->active_lanes), 0);
    CHECK_EQ(zoo_load_acquire(&seg->hdr->pending_all), 0);
    for (uint64_t i = 0; i <= seg->pending_mask; i++)
        CHECK_EQ(zoo_load_acquire(seg->pending + i), 0);
    for (int i = 0; i < ZOO_LANES; i++)
        CHECK_EQ(zoo_load_acquire(&seg->lanes[i].count), 0);
}

/* Of which the tags of the tests have a pending word each: none misses because of another. */
static zoo_seg *fresh_apart(void)
{
    static const char *const tags[] = {"a", "a:b", "other", "c", "c:b", "nothing", "x"};
    enum { TAGS = sizeof tags / sizeof *tags };
    for (;;) {
        bool apart = true;
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        for (int i = 0; i < TAGS; i++) {
            for (int k = 0; k < i; k++)
                apart &= ((zoo_hash_of_tag(seg, tags[i], strlen(tags[i])) ^
                           zoo_hash_of_tag(seg, tags[k], strlen(tags[k]))) &
                          seg->pending_mask) != 0;
        }
        if (apart)
            return seg;
        zoo_close(seg);
    }
}

static void store(zoo_seg *seg)
{
    CHECK_EQ(fill_text(seg, "key", "v", "a:b", zoo_stamp(seg)), ZOO_OK);
    CHECK_EQ(fill_text(seg, "all", "v", "a:b other", zoo_stamp(seg)), ZOO_OK);
    CHECK_EQ(fill_text(seg, "else", "v", "c:b", zoo_stamp(seg)), ZOO_OK);
}

/* After a commit was settled, or its quarantine ended. */
static void check_dropped(zoo_seg *seg)
{
    CHECK_EQ(look(seg, "key"), ZOO_STALE);
    CHECK_EQ(look(seg, "all"), ZOO_STALE);
    CHECK_EQ(look(seg, "else"), ZOO_OK);
    store(seg);
    CHECK_EQ(look(seg, "key"), ZOO_OK);
    CHECK_EQ(look(seg, "all"), ZOO_OK);
    check_rest(seg);
}

static void a_commit_is_announced_and_settled(void)
{
    static const char *const tags[] = {"a", "a:b", "a:b a", "nothing a:b x"};
    zoo_seg *seg = fresh_apart(), *other = attach_again();
    store(seg);
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        snprintf(context, sizeof context, "tags %s", tags[i]);
        uint64_t before = zoo_stamp(seg), ticket = announced(seg, tags[i]);
        CHECK_EQ(look(seg, "key"), ZOO_PENDING);
        CHECK_EQ(look(other, "all"), ZOO_PENDING);
        CHECK_EQ(look(other, "else"), ZOO_OK);
        /* The old row is read, and stored, while the commit is under way. */
        int outcome = fill_text(other, "key", "old", "a:b", before);
        CHECK(outcome == ZOO_OK || outcome == ZOO_PENDING || outcome == ZOO_BORN_DEAD);
        CHECK_EQ(look(other, "key"), ZOO_PENDING);
        CHECK_EQ(zoo_reap(other), 0);
        CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_OK);
        CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_MISS); /* once */
        CHECK_EQ(zoo_settle(seg, ticket, ZOO_ROLLED_BACK), ZOO_MISS);
        CHECK(look(seg, "key") != ZOO_OK);
        CHECK_EQ(fill_text(other, "key", "old", "a:b", before), ZOO_BORN_DEAD);
        CHECK_EQ(look(seg, "else"), ZOO_OK);
        store(seg);
        CHECK_EQ(look(seg, "key"), ZOO_OK);
        check_rest(seg);
    }
    CHECK_EQ(counted(seg, ZOO_N_ANNOUNCED), 4);
    CHECK_EQ(counted(seg, ZOO_N_REAPED), 0);
    zoo_event events[16];
    CHECK_EQ(zoo_events(seg, 0, events, 16), 7);
    CHECK_EQ(events[0].tag, zoo_hash_of_tag(seg, "a", 1));
    CHECK_EQ(events[0].cause, ZOO_BY_COMMIT);
    zoo_close(seg);
    zoo_close(other);
}

static void a_rollback_drops_nothing(void)
{
    zoo_seg *seg = fresh_apart();
    store(seg);
    uint64_t clock = zoo_stamp(seg), ticket = announced(seg, "a:b");
    CHECK_EQ(look(seg, "key"), ZOO_PENDING);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_ROLLED_BACK), ZOO_OK);
    CHECK_EQ(look(seg, "key"), ZOO_OK);
    CHECK_EQ(zoo_stamp(seg), clock);
    check_rest(seg);
    zoo_close(seg);
}

static void an_unknown_end_is_a_quarantine(void)
{
    zoo_quarantine found[4];
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    zoo_skew(later, LATER);
    for (int resolved = 0; resolved < 2; resolved++) {
        store(seg);
        uint64_t ticket = announced(seg, "a:b"), now = zoo_hlc_now_ms(seg);
        CHECK_EQ(zoo_quarantined(seg, found, 4), 0);
        CHECK_EQ(zoo_resolve(seg, ticket), ZOO_MISS); /* not yet */
        CHECK_EQ(zoo_settle(seg, ticket, ZOO_UNKNOWN), ZOO_OK);
        CHECK_EQ(zoo_settle(seg, ticket, ZOO_UNKNOWN), ZOO_MISS);
        CHECK_EQ(look(seg, "key"), ZOO_PENDING);
        store(seg); /* perhaps the old row: the COMMIT may come late */
        CHECK_EQ(look(seg, "key"), ZOO_PENDING);
        CHECK_EQ(zoo_reap(seg), 0);
        CHECK_EQ(zoo_quarantined(seg, found, 0), 0);
        CHECK_EQ(zoo_quarantined(seg, found, 4), 1);
        CHECK_EQ(found[0].ticket, ticket);
        CHECK(found[0].until_ms >= now + QUARANTINE && found[0].until_ms < now + LATER);
        CHECK(strcmp(found[0].session, "pid 7 of a database") == 0);
        if (resolved)
            CHECK_EQ(zoo_resolve(seg, found[0].ticket), ZOO_OK);
        else
            CHECK_EQ(zoo_reap(later), 1);
        CHECK_EQ(zoo_resolve(seg, found[0].ticket), ZOO_MISS);
        CHECK_EQ(zoo_quarantined(seg, found, 4), 0);
        check_dropped(seg);
    }
    zoo_close(seg);
    zoo_close(later);
}

static void the_session_s_name_is_cut(void)
{
    char name[200];
    zoo_quarantine found[2];
    zoo_seg *seg = fresh_apart();
    uint64_t ticket[2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK_EQ(zoo_announce(seg, "a", 1, name, 5, &ticket[0]), ZOO_OK);
    CHECK_EQ(zoo_announce(seg, "b", 1, NULL, 5, &ticket[1]), ZOO_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(zoo_settle(seg, ticket[i], ZOO_UNKNOWN), ZOO_OK);
    CHECK_EQ(zoo_quarantined(seg, found, 2), 2);
    int first = found[0].ticket == ticket[0] ? 0 : 1;
    CHECK_EQ(strlen(found[first].session), ZOO_SESSION_BYTES - 1);
    CHECK_EQ(strlen(found[1 - first].session), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(zoo_resolve(seg, ticket[i]), ZOO_OK);
    check_rest(seg);
    zoo_close(seg);
}

static void what_is_no_announcement(void)
{
    uint64_t ticket = 5;
    zoo_seg *seg = fresh_apart();
    CHECK_EQ(zoo_announce(seg, "a::b", 4, "", 5, &ticket), ZOO_E_TAG);
    CHECK_EQ(ticket, 0);
    CHECK_EQ(zoo_announce(seg, "", 0, "", 5, &ticket), ZOO_OK); /* no tags, no lane */
    CHECK_EQ(ticket, 0);
    CHECK_EQ(zoo_settle(seg, 0, ZOO_COMMITTED), ZOO_OK);
    CHECK_EQ(zoo_settle(seg, UINT64_MAX, ZOO_COMMITTED), ZOO_MISS);
    CHECK_EQ(zoo_resolve(seg, 0), ZOO_MISS);
    CHECK_EQ(zoo_resolve(seg, UINT64_MAX), ZOO_MISS);
    check_rest(seg);
    zoo_close(seg);
}

/* Up to what a lane holds each tag has its bit; over it, everything is announced. */
static void many_tags(void)
{
    static const int counts[] = {ZOO_LANE_TAGS, ZOO_LANE_TAGS + 1, 1000};
    static char tags[8000];
    zoo_seg *seg = fresh_apart();
    for (size_t i = 0; i < 3; i++) {
        size_t len = 0;
        uint64_t ticket;
        store(seg);
        for (int tag = 0; tag < counts[i]; tag++) {
            len += (size_t)snprintf(tags + len, sizeof tags - len, "t%d", tag) + 1;
            if (tag == 3) /* twice is once */
                len += (size_t)snprintf(tags + len, sizeof tags - len, "t%d", tag) + 1;
        }
        CHECK_EQ(set_text(seg, "t3", "v", "t3"), ZOO_OK);
        CHECK_EQ(zoo_announce(seg, tags, len - 1, "", QUARANTINE, &ticket), ZOO_OK);
        CHECK_EQ(look(seg, "t3"), ZOO_PENDING);
        if (i > 0) /* else it may share a pending word */
            CHECK_EQ(look(seg, "else"), ZOO_PENDING);
        CHECK_EQ(zoo_settle(seg, ticket, i == 2 ? ZOO_UNKNOWN : ZOO_COMMITTED), ZOO_OK);
        if (i == 2) {
            CHECK_EQ(look(seg, "else"), ZOO_PENDING);
            CHECK_EQ(zoo_resolve(seg, ticket), ZOO_OK);
        }
        CHECK_EQ(look(seg, "t3"), ZOO_STALE);
        CHECK_EQ(look(seg, "else"), i == 0 ? ZOO_OK : ZOO_STALE);
        check_rest(seg);
    }
    zoo_close(seg);
}

static void without_a_lane_all_miss(void)
{
    uint64_t tickets[ZOO_LANES], ticket = 5;
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    char tag[16];
    zoo_skew(later, LATER);
    store(seg);
    for (int i = 0; i < ZOO_LANES; i++) {
        snprintf(tag, sizeof tag, "t%d", i);
        tickets[i] = announced(seg, tag);
    }
    CHECK_EQ(zoo_load_acquire(&seg->hdr->active_lanes), UINT64_MAX);
    uint64_t start = now_ms();
    CHECK_EQ(announce(seg, "a", &ticket), ZOO_CROWDED);
    CHECK(now_ms() - start < 1000);
    CHECK_EQ(ticket, 0);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_OK);
    CHECK_EQ(counted(seg, ZOO_N_NO_LANE), 1);
    CHECK_EQ(look(seg, "else"), ZOO_PENDING);
    for (int i = 0; i < ZOO_LANES; i++)
        CHECK_EQ(zoo_settle(seg, tickets[i], ZOO_COMMITTED), ZOO_OK);
    check_rest(seg);
    CHECK_EQ(look(seg, "else"), ZOO_PENDING);
    /* Had the announcer died behind its COMMIT, an old value would be served for good. */
    CHECK_EQ(fill_text(seg, "meanwhile", "old", "a", zoo_stamp(seg)), ZOO_OK);
    CHECK_EQ(look(later, "else"), ZOO_STALE);
    CHECK_EQ(zoo_load_acquire(&seg->hdr->miss_until), 0);
    CHECK_EQ(look(seg, "meanwhile"), ZOO_STALE);
    CHECK_EQ(fill_text(seg, "else", "new", "a", zoo_stamp(seg)), ZOO_OK);
    CHECK_EQ(look(seg, "else"), ZOO_OK);
    zoo_close(seg);
    zoo_close(later);
}

/* A lane that a dead process left is used again, without waiting for a reader. */
static void hold_many(void *arg)
{
    for (int i = 0; i < ZOO_LANES; i++)
        announced(arg, "x");
    die_hard(NULL);
}

/* Killed when it finds no lane: it has announced nothing, and its commit has not begun. */
static void die_crowded(void *arg)
{
    uint64_t ticket;
    at_point("intent:crowded", die_hard, NULL);
    announce(arg, "a", &ticket);
}

static void killed_without_a_lane(void)
{
    uint64_t tickets[ZOO_LANES];
    zoo_seg *seg = fresh_apart();
    for (int i = 0; i < ZOO_LANES; i++)
        tickets[i] = announced(seg, "x");
    CHECK(WIFSIGNALED(in_child(die_crowded, seg)));
    for (int i = 0; i < ZOO_LANES; i++)
        CHECK_EQ(zoo_settle(seg, tickets[i], ZOO_COMMITTED), ZOO_OK);
    check_rest(seg);
    zoo_close(seg);
}

static void lanes_of_the_dead_are_reaped_by_announcers(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    uint64_t ticket;
    CHECK(WIFSIGNALED(in_child(hold_many, seg)));
    CHECK_EQ(announce(seg, "a", &ticket), ZOO_CROWDED); /* all are in quarantine now */
    CHECK_EQ(counted(seg, ZOO_N_REAPED), ZOO_LANES);
    zoo_skew(later, LATER);
    ticket = announced(later, "a");
    CHECK_EQ(zoo_settle(later, ticket, ZOO_COMMITTED), ZOO_OK);
    check_rest(seg);
    zoo_close(seg);
    zoo_close(later);
}

struct step {
    zoo_seg *seg;
    const char *point, *tags;
    unsigned count;
    int end;
    action *act;
    zoo_word *ticket;
};

/* Announces and settles; does something at a point. */
static void commit(void *arg)
{
    struct step *step = arg;
    uint64_t ticket;
    if (step->point != NULL)
        at_point_after(step->point, step->count, step->act, NULL);
    CHECK_EQ(announce(step->seg, step->tags, &ticket), ZOO_OK);
    if (step->ticket != NULL)
        zoo_store_release(step->ticket, ticket);
    if (step->point == NULL)
        step->act(NULL);
    zoo_settle(step->seg, ticket, step->end);
    CHECK(step->point == NULL || point_passed());
}

static void settle_in_a_child(void *arg)
{
    uint64_t *given = arg;
    zoo_seg *seg = (zoo_seg *)(uintptr_t)given[0];
    CHECK_EQ(zoo_settle(seg, given[1], ZOO_COMMITTED), ZOO_MISS);
    CHECK_EQ(zoo_settle(seg, given[1], ZOO_ROLLED_BACK), ZOO_MISS);
}

/* A fork in the middle of a transaction: the lane stays the parent's. */
static void a_forked_child_settles_nothing(void)
{
    zoo_seg *seg = fresh_apart();
    store(seg);
    uint64_t given[] = {(uintptr_t)seg, announced(seg, "a:b")};
    CHECK_EQ(in_child(settle_in_a_child, given), 0);
    CHECK_EQ(look(seg, "key"), ZOO_PENDING);
    CHECK_EQ(zoo_settle(seg, given[1], ZOO_COMMITTED), ZOO_OK);
    check_dropped(seg);
    zoo_close(seg);
}

/* Where a committer may die, and in what state its lane is found. */
static const struct {
    const char *point;
    unsigned count;
    bool counted;  /* the lane has its tags */
    bool may_have; /* the COMMIT may have happened: no hit may be given any more */
    int end;
} deaths[] = {
    {"intent:taken", 1, false, false, ZOO_COMMITTED},
    {"intent:written", 1, false, false, ZOO_COMMITTED},
    {"intent:counted", 1, true, false, ZOO_COMMITTED},
    {"intent:active", 1, true, false, ZOO_COMMITTED},
    {"intent:bit-set", 1, true, false, ZOO_COMMITTED},
    {"intent:bit-set", 2, true, true, ZOO_COMMITTED},
    {"intent:announced", 1, true, true, ZOO_COMMITTED},
    {"intent:settling", 1, true, true, ZOO_COMMITTED},
    {"intent:ticked", 1, true, true, ZOO_COMMITTED},
    {"event:reserved", 1, true, true, ZOO_COMMITTED},
    {"intent:raised", 1, true, true, ZOO_COMMITTED},
    {"intent:raised", 2, true, true, ZOO_COMMITTED},
    {"intent:bumped", 1, true, true, ZOO_COMMITTED},
    {"intent:bit-cleared", 1, true, true, ZOO_COMMITTED},
    {"intent:bits-cleared", 1, true, true, ZOO_COMMITTED},
    {"intent:uncounted", 1, false, true, ZOO_COMMITTED},
    {"intent:bit-cleared", 1, true, false, ZOO_ROLLED_BACK},
    {"intent:uncounted", 1, false, false, ZOO_ROLLED_BACK},
    {"intent:ticked", 1, true, true, ZOO_UNKNOWN},
    {"intent:bumped", 1, true, true, ZOO_UNKNOWN},
    {"intent:before-quarantine", 1, true, true, ZOO_UNKNOWN},
};

static void committers_are_killed_everywhere(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    zoo_skew(later, LATER);
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        struct step step = {seg,           deaths[i].point, "a:b other", deaths[i].count,
                            deaths[i].end, die_hard,        NULL};
        snprintf(context, sizeof context, "killed at %s, passing %u", step.point, step.count);
        store(seg);
        int status = in_child(commit, &step);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (deaths[i].may_have) {
            CHECK(look(seg, "key") != ZOO_OK);
            CHECK(look(seg, "all") != ZOO_OK);
        }
        CHECK_EQ(look(seg, "else"), ZOO_OK);
        uint64_t reaped = counted(seg, ZOO_N_REAPED);
        zoo_reap(seg); /* the look may have done it */
        CHECK(reaped <= counted(seg, ZOO_N_REAPED) && counted(seg, ZOO_N_REAPED) > 0);
        CHECK_EQ(zoo_reap(seg), 0);
        zoo_quarantine found[2];
        CHECK_EQ(zoo_quarantined(seg, found, 2), deaths[i].counted);
        if (deaths[i].counted) {
            CHECK(strcmp(found[0].session, "pid 7 of a database") == 0);
            CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
            CHECK_EQ(zoo_reap(later), 1);
            CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        }
        check_rest(seg);
        store(seg);
        CHECK_EQ(look(seg, "key"), ZOO_OK);
        CHECK_EQ(look(seg, "all"), ZOO_OK);
        CHECK_EQ(counted(seg, ZOO_N_REAPED), i + 1);
    }
    zoo_close(seg);
    zoo_close(later);
}

/* --- Reapers that die, stop, and come in twos ---------------------------------------------- */

static const char *const reap_points[] = {"reap:before-take", "reap:taken",
                                          "intent:ticked",    "intent:raised",
                                          "intent:bumped",    "intent:before-quarantine"};
/* At the end of the quarantine. */
static const char *const free_points[] = {
    "reap:before-take", "reap:taken",         "intent:ticked",       "intent:raised",
    "intent:bumped",    "intent:bit-cleared", "intent:bits-cleared", "intent:uncounted"};
enum {
    REAP_POINTS = sizeof reap_points / sizeof *reap_points,
    FREE_POINTS = sizeof free_points / sizeof *free_points,
};

static void reap(void *arg)
{
    struct step *step = arg;
    at_point(step->point, step->act, NULL);
    zoo_reap(step->seg);
    CHECK(point_passed());
}

/* A committer dies after its COMMIT. */
static void leave_a_lane(zoo_seg *seg)
{
    struct step step = {seg, "intent:settling", "a:b other", 1, ZOO_COMMITTED, die_hard, NULL};
    store(seg);
    CHECK(WIFSIGNALED(in_child(commit, &step)));
}

static void reapers_are_killed_everywhere(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    zoo_skew(later, LATER);
    for (int i = 0; i < REAP_POINTS; i++) {
        struct step step = {.seg = seg, .point = reap_points[i], .act = die_hard};
        snprintf(context, sizeof context, "reaper killed at %s", step.point);
        leave_a_lane(seg);
        CHECK(WIFSIGNALED(in_child(reap, &step)));
        CHECK_EQ(zoo_reap(seg), 1); /* from the committer, or from the reaper */
        CHECK_EQ(look(seg, "key"), ZOO_PENDING);
        CHECK_EQ(zoo_reap(seg), 0);
        CHECK_EQ(zoo_reap(later), 1);
        check_dropped(seg);
    }
    for (int i = 0; i < FREE_POINTS; i++) {
        struct step step = {.seg = later, .point = free_points[i], .act = die_hard};
        snprintf(context, sizeof context, "reaper killed at the quarantine's end at %s",
                 step.point);
        leave_a_lane(seg);
        CHECK_EQ(zoo_reap(seg), 1);
        CHECK(WIFSIGNALED(in_child(reap, &step)));
        CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        zoo_reap(seg); /* the look may have done it */
        zoo_reap(later);
        CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        check_rest(seg);
        store(seg);
        CHECK_EQ(look(seg, "key"), ZOO_OK);
    }
    zoo_close(seg);
    zoo_close(later);
}

/* One reaper stops at a point, another does all it can; then the first goes on. */
static void two_reapers_at_once(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    zoo_skew(later, LATER);
    for (int i = 0; i < REAP_POINTS + FREE_POINTS; i++) {
        bool frees = i >= REAP_POINTS;
        struct step step = {.seg = frees ? later : seg, .act = stop_here};
        step.point = frees ? free_points[i - REAP_POINTS] : reap_points[i];
        snprintf(context, sizeof context, "reaper %d stopped at %s", i, step.point);
        leave_a_lane(seg);
        if (frees)
            CHECK_EQ(zoo_reap(seg), 1);
        pid_t pid = stopped_child(reap, &step);
        bool took = strcmp(step.point, "reap:before-take") != 0;
        CHECK_EQ(zoo_reap(seg), !took && !frees);
        CHECK_EQ(zoo_reap(later), !took); /* what a living reaper has is left to it */
        CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        wake(pid);
        CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        CHECK_EQ(zoo_reap(later), took && !frees);
        CHECK_EQ(look(seg, "else"), ZOO_OK);
        CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        check_rest(seg);
        store(seg);
        CHECK_EQ(look(seg, "key"), ZOO_OK);
    }
    zoo_close(seg);
    zoo_close(later);
}

/* A reaper that stopped before it took the lane must not clear the bits of the next user. */
static void a_reaper_meets_a_reused_lane(void)
{
    for (int frees = 0; frees < 2; frees++) {
        uint64_t tickets[ZOO_LANES];
        zoo_seg *seg = fresh_apart(), *later = attach_again();
        zoo_skew(later, LATER);
        leave_a_lane(seg);
        if (frees)
            CHECK_EQ(zoo_reap(seg), 1);
        struct step step = {
            .seg = frees ? later : seg, .point = "reap:before-take", .act = stop_here};
        pid_t pid = stopped_child(reap, &step);
        CHECK_EQ(zoo_reap(seg), !frees);
        CHECK_EQ(zoo_reap(later), 1);
        store(seg);
        for (int i = 0; i < ZOO_LANES; i++) /* one of them is that lane */
            tickets[i] = announced(seg, "a:b");
        wake(pid);
        CHECK_EQ(zoo_load_acquire(&seg->hdr->active_lanes), UINT64_MAX);
        CHECK_EQ(look(seg, "key"), ZOO_PENDING);
        for (int i = 0; i < ZOO_LANES; i++) {
            CHECK_EQ(look(seg, "key"), ZOO_PENDING);
            CHECK_EQ(zoo_settle(seg, tickets[i], ZOO_COMMITTED), ZOO_OK);
        }
        CHECK_EQ(look(seg, "key"), ZOO_STALE);
        check_rest(seg);
        zoo_close(seg);
        zoo_close(later);
    }
}

/* Stopped is not dead: its tags miss, for as long as it takes. */
static void a_stopped_committer_is_left_alone(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    struct step step = {seg, NULL, "a:b other", 1, ZOO_COMMITTED, stop_here, shared_words(1)};
    zoo_skew(later, LATER);
    for (size_t i = 0; i <= sizeof deaths / sizeof *deaths; i++) {
        store(seg);
        if (i > 0) {
            step.point = deaths[i - 1].point;
            step.count = deaths[i - 1].count;
            step.end = deaths[i - 1].end;
            snprintf(context, sizeof context, "stopped at %s, %u", step.point, step.count);
        }
        pid_t pid = stopped_child(commit, &step);
        CHECK_EQ(zoo_reap(later), 0);
        CHECK_EQ(look(seg, "else"), ZOO_OK);
        if (i == 0 || deaths[i - 1].may_have)
            CHECK(look(seg, "key") != ZOO_OK && look(seg, "all") != ZOO_OK);
        CHECK_EQ(zoo_reap(later), 0);
        wake(pid);
        if (step.end == ZOO_UNKNOWN)
            CHECK_EQ(zoo_reap(later), 1);
        if (step.end == ZOO_ROLLED_BACK)
            CHECK_EQ(invalidate(seg, "a:b"), ZOO_OK);
        CHECK(look(seg, "key") != ZOO_OK);
        check_rest(seg);
    }
    CHECK_EQ(counted(seg, ZOO_N_REAPED), 0);
    zoo_close(seg);
    zoo_close(later);
}

/* Whoever misses because of a lane looks whether its owner is alive, but not each time. */
static void a_miss_reaps(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    zoo_skew(later, LATER);
    leave_a_lane(seg);
    zoo_store_relaxed(&seg->hdr->next_reap, zoo_hlc_now_ms(seg) + 90);
    CHECK_EQ(look(seg, "key"), ZOO_PENDING);
    CHECK_EQ(counted(seg, ZOO_N_REAPED), 0);
    usleep(120000);
    CHECK_EQ(look(seg, "key"), ZOO_PENDING);
    CHECK_EQ(counted(seg, ZOO_N_REAPED), 1);
    CHECK_EQ(look(later, "key"), ZOO_PENDING); /* ends the quarantine, and misses once more */
    check_dropped(seg);
    zoo_close(seg);
    zoo_close(later);
}

static void die_announced(void *seg)
{
    announced(seg, "a:b");
    die_hard(NULL);
}

/* Who has closed its handles has left its lanes, though it lives on. */
static void lanes_of_a_closed_handle(void)
{
    zoo_seg *seg = fresh_apart();
    store(seg);
    uint64_t ticket = announced(seg, "a:b");
    zoo_seg *second = attach_again();
    zoo_close(seg);
    CHECK_EQ(zoo_reap(second), 0); /* the process has another handle */
    zoo_close(second);
    seg = attach_again();
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_MISS);
    CHECK_EQ(zoo_reap(seg), 1);
    zoo_quarantine found[2];
    CHECK_EQ(zoo_quarantined(seg, found, 2), 1);
    CHECK_EQ(zoo_resolve(seg, found[0].ticket), ZOO_OK);
    check_dropped(seg);
    zoo_close(seg);
}

/* Whoever announces or settles too late for this segment is told. */
static void a_retired_segment(void)
{
    uint64_t ticket;
    zoo_seg *seg = fresh_apart();
    uint64_t early[] = {announced(seg, "a"), announced(seg, "a:b"), announced(seg, "c")};
    CHECK_EQ(zoo_unlink(segment_name()), ZOO_OK);
    CHECK_EQ(announce(seg, "x", &ticket), ZOO_RETIRED);
    CHECK(ticket != 0);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_RETIRED);
    CHECK_EQ(zoo_settle(seg, early[0], ZOO_COMMITTED), ZOO_RETIRED);
    CHECK_EQ(zoo_settle(seg, early[1], ZOO_ROLLED_BACK), ZOO_OK); /* nothing to tell */
    CHECK_EQ(zoo_settle(seg, early[2], ZOO_UNKNOWN), ZOO_RETIRED);
    CHECK_EQ(zoo_resolve(seg, early[2]), ZOO_OK);
    check_rest(seg);
    zoo_close(seg);
}

/* Lanes with words that no core wrote do no more than miss. */
static void garbled_lanes(void)
{
    zoo_seg *seg = fresh_apart(), *later = attach_again();
    struct rng rng = rng_for(600);
    zoo_skew(later, LATER);
    for (int round = 0; round < 200; round++) {
        struct zoo_lane *lane = seg->lanes + rng_below(&rng, ZOO_LANES);
        CHECK(WIFSIGNALED(in_child(die_announced, seg)));
        zoo_store_relaxed(&lane->count, rng_next(&rng));
        zoo_store_relaxed(&lane->session[7], UINT64_MAX);
        zoo_store_relaxed(&lane->quarantine_ms, rng_below(&rng, 1000));
        zoo_store_release(&lane->owner, rng_next(&rng));
        zoo_quarantine found[ZOO_LANES];
        zoo_reap(seg);
        zoo_quarantined(seg, found, ZOO_LANES);
        zoo_reap(later);
    }
    zoo_close(seg);
    zoo_close(later);
}

/* --- Rows and readers ----------------------------------------------------------------------- */

/*
 * A database of rows: words that count versions. A writer announces, "commits"
 * by one add, and settles. What a reader gets must not be older than the row was
 * when its get began. Writers and reapers are killed all the time.
 */
enum { ROWS = 6, WRITERS = 3, READERS = 2 };

struct table {
    zoo_seg *seg;
    zoo_word *rows;
    zoo_word *commits, *hits;
    uint64_t who;
};

static void row_names(uint64_t row, char *key, char *tag)
{
    snprintf(key, 16, "row%d", (int)row);
    snprintf(tag, 16, "t:%d", (int)row);
}

static void write_rows(struct table *table)
{
    struct rng rng = rng_for(table->who);
    for (;;) {
        char key[16], tag[16], other[16], tags[40];
        uint64_t ticket, row = rng_below(&rng, ROWS), second = rng_below(&rng, ROWS);
        row_names(second, key, other);
        row_names(row, key, tag);
        size_t len = (size_t)snprintf(tags, sizeof tags, "%s%c%s", tag, 0, other);
        int status = zoo_announce(table->seg, tags, len, "", 50, &ticket);
        CHECK(status == ZOO_OK || status == ZOO_CROWDED);
        if (rng_below(&rng, 8) == 0)
            usleep(200);
        if (rng_below(&rng, 4) == 0 && status == ZOO_OK) {
            CHECK_EQ(zoo_settle(table->seg, ticket, ZOO_ROLLED_BACK), ZOO_OK);
            continue;
        }
        zoo_add_seq_cst(table->rows + row, 1);
        zoo_add_seq_cst(table->rows + second, 1);
        zoo_add_seq_cst(table->commits, 1);
        int end = rng_below(&rng, 30) == 0 ? ZOO_UNKNOWN : ZOO_COMMITTED;
        CHECK_EQ(zoo_settle(table->seg, ticket, end), ZOO_OK);
        if (ticket == 0)
            CHECK_EQ(zoo_invalidate(table->seg, tags, len), ZOO_OK);
        if (rng_below(&rng, 2) == 0)
            usleep((unsigned)rng_below(&rng, 1000));
    }
}

static void read_rows(struct table *table, uint64_t until)
{
    struct rng rng = rng_for(table->who);
    while (now_ms() < until) {
        char key[16], tag[16], text[24];
        uint64_t row = rng_below(&rng, ROWS);
        row_names(row, key, tag);
        uint64_t least = zoo_load_acquire(table->rows + row);
        const char *value = get_text(table->seg, key);
        if (value != NULL) {
            snprintf(context, sizeof context, "row %d: got %s, was %d", (int)row, value,
                     (int)least);
            CHECK(strtoull(value, NULL, 10) >= least);
            zoo_add_seq_cst(table->hits, 1);
            continue;
        }
        uint64_t stamp = zoo_stamp(table->seg);
        uint64_t version = zoo_load_acquire(table->rows + row);
        if (rng_below(&rng, 16) == 0)
            usleep(100);
        snprintf(text, sizeof text, "%d", (int)version);
        fill_text(table->seg, key, text, tag, stamp);
    }
}

static pid_t start_table(struct table *table, bool writes, uint64_t until, uint64_t who)
{
    pid_t pid = fork_off();
    if (pid == 0) {
        table->who = who;
        if (writes)
            write_rows(table);
        read_rows(table, until);
        _exit(0);
    }
    return pid;
}

static void rows_and_readers(void)
{
    pid_t writers[WRITERS], readers[READERS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *later = attach_again();
    zoo_word *words = shared_words(ROWS + 2);
    struct table table = {seg, words, words + ROWS, words + ROWS + 1, 0};
    struct rng rng = rng_for(700);
    uint64_t until = now_ms() + 4000, born = 701;
    zoo_skew(later, LATER);
    for (int i = 0; i < READERS; i++)
        readers[i] = start_table(&table, false, until, born++);
    for (int i = 0; i < WRITERS; i++)
        writers[i] = start_table(&table, true, until, born++);
    while (now_ms() < until) {
        int status;
        uint64_t victim = rng_below(&rng, WRITERS);
        usleep((unsigned)rng_below(&rng, 30000));
        kill(writers[victim], SIGKILL);
        CHECK_EQ(waitpid(writers[victim], &status, 0), writers[victim]);
        CHECK(WIFSIGNALED(status));
        writers[victim] = start_table(&table, true, until, born++);
    }
    for (int i = 0; i < WRITERS; i++) {
        kill_unburied(writers[i]);
        bury(writers[i]);
    }
    for (int i = 0; i < READERS; i++) {
        int status;
        CHECK_EQ(waitpid(readers[i], &status, 0), readers[i]);
        CHECK_EQ(status, 0);
    }
    CHECK(zoo_load_acquire(table.commits) > 100);
    CHECK(zoo_load_acquire(table.hits) > 1000);
    CHECK(counted(seg, ZOO_N_REAPED) > 0);
    zoo_reap(seg);
    zoo_reap(later);
    check_rest(seg);
    zoo_close(seg);
    zoo_close(later);
}

enum { COMMITTERS = 6 };

static void *commit_in_a_thread(void *arg)
{
    struct table *table = arg;
    struct rng rng = rng_for(table->who);
    for (int i = 0; i < 3000; i++) {
        char key[16], tag[16];
        uint64_t row = rng_below(&rng, ROWS);
        row_names(row, key, tag);
        uint64_t ticket = announced(table->seg, tag);
        CHECK(get_text(table->seg, key) == NULL); /* it is announced by this thread at least */
        CHECK_EQ(zoo_settle(table->seg, ticket, (int)rng_below(&rng, 2)), ZOO_OK);
        fill_text(table->seg, key, "v", tag, zoo_stamp(table->seg));
        if (i % 64 == 0)
            zoo_reap(table->seg);
    }
    return NULL;
}

static void threads_commit(void)
{
    pthread_t thread[COMMITTERS];
    struct table tables[COMMITTERS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    base_seed(); /* before there are threads */
    for (uint64_t i = 0; i < COMMITTERS; i++) {
        tables[i] = (struct table){.seg = seg, .who = 800 + i};
        CHECK_EQ(pthread_create(&thread[i], NULL, commit_in_a_thread, &tables[i]), 0);
    }
    for (int i = 0; i < COMMITTERS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(counted(seg, ZOO_N_REAPED), 0);
    check_rest(seg);
    zoo_close(seg);
}

const struct suite intent_suites[] = {
    {"intent-settled", a_commit_is_announced_and_settled},
    {"intent-rollback", a_rollback_drops_nothing},
    {"intent-unknown", an_unknown_end_is_a_quarantine},
    {"intent-session", the_session_s_name_is_cut},
    {"intent-none", what_is_no_announcement},
    {"intent-many-tags", many_tags},
    {"intent-no-lane", without_a_lane_all_miss},
    {"intent-announcer-reaps", lanes_of_the_dead_are_reaped_by_announcers},
    {"intent-fork", a_forked_child_settles_nothing},
    {"intent-killed", committers_are_killed_everywhere},
    {"intent-reaper-killed", reapers_are_killed_everywhere},
    {"intent-two-reapers", two_reapers_at_once},
    {"intent-reused-lane", a_reaper_meets_a_reused_lane},
    {"intent-stopped", a_stopped_committer_is_left_alone},
    {"intent-killed-crowded", killed_without_a_lane},
    {"intent-miss-reaps", a_miss_reaps},
    {"intent-closed", lanes_of_a_closed_handle},
    {"intent-retired", a_retired_segment},
    {"intent-garbled", garbled_lanes},
    {"intent-rows", rows_and_readers},
    {"intent-threads", threads_commit},
    {NULL, NULL},
};
